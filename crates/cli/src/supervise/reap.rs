//! The one waiter for children of this process, its own and those that it inherited.

use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for children.
#[derive(Debug)]
pub(super) struct Reaper(Signal);

impl Reaper {
    /// Made before the first child, so that no end is missed.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::child())?))
    }

    /// Comes back when children may have ended.
    pub(super) async fn changed(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// The children that have ended, and the exit code that a shell would give each.
    pub(super) fn collect(&self) -> Vec<(Pid, u8)> {
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            ended.extend(code(status).map(|code| (pid, code)));
        }
        ended
    }
}

fn code(status: WaitStatus) -> Option<u8> {
    let signalled = || status.terminating_signal().map(|n| n.saturating_add(128));
    u8::try_from(status.exit_status().or_else(signalled)?).ok()
}
