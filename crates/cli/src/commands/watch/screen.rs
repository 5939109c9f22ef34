//! The terminal while the panes are on it: taken whole, given back as it was, whatever ends the view.

use std::io;

use mayfly_domain::UnixMillis;
use ratatui::DefaultTerminal;

use super::draw::{Head, draw};
use super::seen::Seen;

/// The terminal in raw mode on its other screen; dropped, it is as before. A panic gives it back first, so that its
/// message is seen.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Draws one picture.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn draw(&mut self, head: &Head, seen: &Seen, now: UnixMillis) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, head, seen, now)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell where it can't be given back.
        let _ = ratatui::try_restore();
    }
}
