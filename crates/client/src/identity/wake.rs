//! Waking the keeper from where the certificate is used: once when it is due, never again and again.

use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_domain::UnixMillis;
use tokio::sync::Notify;

/// The keeper's bell.
#[derive(Debug)]
pub(crate) struct Wake {
    bell: Notify,
    /// The wall time from which a use rings; far away while the keeper is awake.
    due: AtomicU64,
    over: Notify,
}

impl Default for Wake {
    fn default() -> Self {
        Self { bell: Notify::new(), due: AtomicU64::new(u64::MAX), over: Notify::new() }
    }
}

impl Wake {
    /// Rings.
    pub(crate) fn call(&self) {
        self.bell.notify_one();
    }

    /// Rings where the certificate that is used now is due: the timer is late when the machine was suspended.
    pub(crate) fn used(&self, now: UnixMillis) {
        if now.0 >= self.due.load(Ordering::Relaxed) {
            self.disarm();
            self.call();
        }
    }

    /// Ends the keeper.
    pub(super) fn stop(&self) {
        self.over.notify_one();
    }

    pub(super) async fn stopped(&self) {
        self.over.notified().await;
    }

    pub(super) fn arm(&self, due: Option<UnixMillis>) {
        self.due.store(due.map_or(u64::MAX, |due| due.0), Ordering::Relaxed);
    }

    pub(super) fn disarm(&self) {
        self.due.store(u64::MAX, Ordering::Relaxed);
    }

    pub(super) async fn called(&self) {
        self.bell.notified().await;
    }
}
