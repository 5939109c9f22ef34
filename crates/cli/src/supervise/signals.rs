//! The signals that a supervisor takes, in one stream.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Ends the process, where nothing is said against it.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
/// What a command takes beside those. A stop from the terminal is not among them: the terminal stops all of the group.
const OTHERS: [Signal; 4] = [Signal::USR1, Signal::USR2, Signal::WINCH, Signal::CONT];

/// Signals to this process, from the moment on that this is made. For the rest of the process's life none of them
/// has its default effect.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Takes them.
    ///
    /// # Errors
    /// Where the system gives no handler.
    pub(crate) fn take() -> io::Result<Self> {
        let mut all = ENDING.to_vec();
        all.extend(OTHERS);
        // With a terminal, job control stops this process and the command together, by the default effect.
        if !super::terminal::is_there() {
            all.push(Signal::TSTP);
        }
        let listen = |s: Signal| Ok((s, signal(SignalKind::from_raw(s.as_raw()))?));
        Ok(Self(all.into_iter().map(listen).collect::<io::Result<_>>()?))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            for (which, signal) in &mut self.0 {
                if let Poll::Ready(Some(())) = signal.poll_recv(cx) {
                    return Poll::Ready(*which);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The exit code of the next one that ends a process.
    pub(crate) async fn ending(&mut self) -> u8 {
        loop {
            let signal = self.next().await;
            if ENDING.contains(&signal) {
                return u8::try_from(signal.as_raw()).unwrap_or(0).saturating_add(128);
            }
        }
    }
}
