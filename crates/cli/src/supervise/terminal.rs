//! The controlling terminal, which sends signals to process groups by itself.

use std::fs::File;

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// The controlling terminal of this process.
#[derive(Debug)]
pub(super) struct Terminal(File);

impl Terminal {
    /// The terminal, where there is one.
    pub(super) fn find() -> Option<Self> {
        File::open("/dev/tty").ok().map(Self)
    }

    /// Whether it sends Ctrl-C to this process's group.
    pub(super) fn is_in_front(&self) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|group| group == getpgrp())
    }
}

/// Whether this process has a controlling terminal.
pub(super) fn is_there() -> bool {
    Terminal::find().is_some()
}
