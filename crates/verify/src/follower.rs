//! The follower's task: keeps a session with a broker, and watches over freshness and ends while there is none.
//!
//! Both run in one task, so that only one thread writes to a table. Must never prolong what no broker has confirmed.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mayfly_domain::{BootTime, Reason};
use tokio::time::{Instant, sleep, timeout};

use crate::guards::Concerned;
use crate::verifier::{Life, Shared};

pub(crate) mod apply;
pub(crate) mod dial;
mod session;
mod turns;

use apply::Following;
use turns::Turns;

/// The longest pause between two looks at the clocks.
const LOOK: Duration = Duration::from_millis(250);
/// Looks between two cleanings of the table.
const LOOKS_A_CLEANING: u32 = 40;

/// How long a broker may take to hear that the follower leaves.
pub(crate) const LEAVE: Duration = Duration::from_secs(2);

/// Follows until it is dropped, or asked to end: then it retires first, and says so to its broker.
pub(crate) async fn run(shared: Arc<Shared>) {
    {
        let mut follows = pin!(follow(&shared));
        tokio::select! {
            () = &mut follows => {}
            never = watch(&shared) => match never {},
            () = shared.comes_to(Life::Ends) => {
                shared.retire();
                let _ = timeout(LEAVE, follows).await;
            }
        }
    }
    shared.life.send_replace(Life::Ended);
}

async fn follow(shared: &Shared) {
    let mut following = Following::new(shared, shared.id);
    let mut turns = Turns::new(shared.dial.brokers());
    loop {
        let pongs = following.pongs();
        let lost = session::follow(&mut following, turns.turn()).await;
        following.disconnected();
        if shared.is_at(Life::Leaves) {
            return;
        }
        tracing::warn!(broker = turns.turn(), error = %lost, "lost the feed");
        // A session that answered a ping was a good one.
        let wait = turns.next(Instant::now(), following.pongs() > pongs, lost.retry_after());
        tokio::select! {
            () = sleep(wait) => {}
            () = shared.comes_to(Life::Leaves) => return,
        }
    }
}

/// Ends what is over, whether or not there is a session.
async fn watch(shared: &Shared) -> Infallible {
    let mut looks = 0_u32;
    loop {
        let now = shared.clock.now();
        let over = now.max(shared.state.load().table.horizon());
        for _ in 0..shared.guards.expire(over) {
            shared.metrics.guard_ended(Reason::LeaseExpired);
        }
        shared.tell_freshness();
        let left = shared.promised().since(shared.boot.now());
        if left.is_zero() {
            shared.end_guards(Concerned::All, |_| Err(Reason::AcceptorNotFresh));
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS_A_CLEANING) {
            shared.state.load().table.clean(now);
        }
        let next_end =
            shared.guards.next_end().map_or(LOOK, |end| Duration::from_millis(end.0.saturating_sub(now.0)));
        let left = if left.is_zero() { LOOK } else { left };
        sleep(LOOK.min(next_end).min(left).max(Duration::from_millis(1))).await;
    }
}

impl Shared {
    /// Waits until its life has come so far.
    pub(crate) async fn comes_to(&self, life: Life) {
        // The sender lives as long as this.
        let _ = self.life.subscribe().wait_for(|now| *now >= life).await;
    }

    fn is_at(&self, life: Life) -> bool {
        *self.life.borrow() >= life
    }

    /// Nothing is accepted any more, for good.
    fn retire(&self) {
        self.life.send_replace(Life::Leaves);
        self.state.load().set_fresh_until(BootTime(0));
        self.promised.store(0, Ordering::SeqCst);
        self.end_guards(Concerned::All, |_| Err(Reason::AcceptorNotFresh));
        self.tell_freshness();
    }

    /// Publishes until when the table is fresh.
    pub(crate) fn publish(&self, until: BootTime) {
        // In the task that retires: it can't come in between.
        if self.is_at(Life::Leaves) {
            return;
        }
        self.state.load().set_fresh_until(until);
        self.promised.fetch_max(until.0, Ordering::SeqCst);
        self.tell_freshness();
    }

    /// Until when guards may rest on what was last heard: a table that has to be loaded anew does not take it back.
    fn promised(&self) -> BootTime {
        BootTime(self.promised.load(Ordering::SeqCst))
    }

    fn tell_freshness(&self) {
        let is_fresh = self.is_fresh();
        self.fresh.send_if_modified(|told| std::mem::replace(told, is_fresh) != is_fresh);
    }

    /// Judges the guards that something concerns, and counts those that end.
    pub(crate) fn end_guards(
        &self,
        concerned: Concerned,
        judge: impl Fn(&crate::Judged) -> Result<(), Reason>,
    ) {
        for reason in self.guards.judge(concerned, judge) {
            self.metrics.guard_ended(reason);
        }
    }
}
