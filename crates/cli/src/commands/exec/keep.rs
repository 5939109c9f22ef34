//! Keeping credentials fresh while the command runs, and telling the supervisor what became of them.
//!
//! A certificate keeps itself ([`X509Identity`]); here its files follow it. A token's file is renewed at two thirds
//! of its life. What can't be renewed is good until its end, and the command with it. Nobody tells a workload that its
//! lease was revoked, so it is asked for every few seconds.

use std::sync::Arc;
use std::time::Duration;

use mayfly_client::workload::Minted;
use mayfly_client::{Event, Failure, WorkloadClient, X509Identity};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{LeaseId, Reason, UnixMillis};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::places::Place;
use super::token::Wanted;
use super::{OnRenew, OnRevoke};
use crate::output::Printer;
use crate::supervise::{Order, Why};

/// The first wait after a failed renewal or a full disk, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often it is asked whether a lease was ended.
const ASK: Duration = Duration::from_secs(5);

/// The way to the supervisor, and to whoever reads standard error.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) printer: Printer,
    pub(super) on_renew: OnRenew,
    pub(super) on_revoke: OnRevoke,
}

impl Teller {
    /// The files of a profile are new.
    async fn renewed(&self) {
        let order = match self.on_renew {
            OnRenew::None => return,
            OnRenew::Hup => Order::HangUp,
            OnRenew::Restart => Order::Restart,
        };
        let _ = self.orders.send(order).await;
    }

    /// A credential is over.
    async fn over(&self, place: &Place, why: Why) {
        let what = match why {
            Why::Revoked => "its lease was ended",
            Why::WindowEnded => "its credential is over",
        };
        let profile = place.profile();
        match self.on_revoke {
            OnRevoke::Term => {
                self.note(&format!("{profile}: {what}; the command is ended"));
                let _ = self.orders.send(Order::End(why)).await;
            }
            OnRevoke::None => self.note(&format!("{profile}: {what}; the command goes on without it")),
        }
    }

    fn failed(&self, place: &Place, failure: &Failure) {
        let facts = failure.facts.iter().map(|(name, value)| format!(" {name}: {value}"));
        let facts = facts.collect::<Vec<_>>().join(",");
        self.note(&format!(
            "{}: not renewed yet: {} ({}){facts}",
            place.profile(),
            failure.message,
            failure.code
        ));
    }

    fn note(&self, text: &str) {
        self.printer.note(&format!("mayfly exec: {text}"));
    }
}

/// What a refused renewal of a token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The lease was ended by somebody: nobody accepts the token any more.
    Dead,
    /// The token is good until its end; there is no next one.
    Last,
    /// The token is worth nothing or not to be renewed, and a new one may be had.
    Anew,
    /// Another attempt may succeed.
    Again,
}

fn verdict(failed: &Failure) -> Verdict {
    match failed.reason {
        Some(Reason::LeaseRevoked | Reason::EvidencePredatesRevocation) => Verdict::Dead,
        Some(Reason::LeaseEnded | Reason::LeaseNotFound | Reason::TaskEnded) => Verdict::Dead,
        Some(Reason::TaskWindow | Reason::LineageEnded | Reason::EvidenceExpired) => Verdict::Last,
        Some(Reason::SignerWithdrawn | Reason::LeaseExpired | Reason::EvidencePredatesGeneration) => {
            Verdict::Anew
        }
        _ => Verdict::Again,
    }
}

/// Waits until a moment of wall time; awake once in between, since a clock may jump and a machine be suspended.
async fn until(clock: &SharedClock, at: UnixMillis) {
    let left = || Duration::from_millis(at.0.saturating_sub(clock.now().0));
    sleep(left() / 2).await;
    sleep(left()).await;
}

/// Comes back when somebody ended the lease. A broker that does not answer ended nothing.
async fn ended(client: &WorkloadClient, lease: &str) {
    loop {
        sleep(ASK).await;
        match client.task().await {
            Ok(seen) if seen.leases.iter().any(|l| l.id == lease && was_ended(&l.state)) => return,
            Err(failed) if verdict(&failed) == Verdict::Dead => return,
            Ok(_) | Err(_) => {}
        }
    }
}

fn was_ended(state: &str) -> bool {
    matches!(state, "revoked" | "completed" | "released")
}

/// Comes back when the broker refuses a certificate as dead; by its own renewal the identity learns of it then.
async fn refused(identity: &X509Identity) {
    loop {
        sleep(ASK).await;
        let Ok(client) = identity.client().await else { continue };
        if client.task().await.is_err_and(|failed| verdict(&failed) == Verdict::Dead) {
            return;
        }
    }
}

/// Waits for the end of a credential that is in the command's environment.
pub(super) async fn fixed(
    client: Arc<WorkloadClient>,
    place: Arc<Place>,
    minted: Arc<Minted>,
    clock: SharedClock,
    tell: Teller,
) {
    let why = tokio::select! {
        () = until(&clock, minted.expires) => Why::WindowEnded,
        () = ended(&client, &minted.lease) => Why::Revoked,
    };
    tell.over(&place, why).await;
}

/// Keeps a token's file fresh until there is nothing more to do for it.
pub(super) async fn token(
    client: Arc<WorkloadClient>,
    wanted: Wanted,
    place: Arc<Place>,
    first: Arc<Minted>,
    clock: SharedClock,
    tell: Teller,
) {
    let mut held = first;
    loop {
        let life = held.expires.0.saturating_sub(clock.now().0);
        tokio::select! {
            () = until(&clock, clock.now().plus(life / 3 * 2)) => {}
            () = ended(&client, &held.lease) => return tell.over(&place, Why::Revoked).await,
        }
        held = match next(&client, &wanted, &place, &held, &clock, &tell).await {
            Ok(new) => Arc::new(new),
            Err(why) => return tell.over(&place, why).await,
        };
        wanted.hold(&held);
        written(&clock, held.expires, &tell, &place, || place.put_token(&held.token)).await;
        tell.renewed().await;
    }
}

/// The next token; why there is none, once the last one is over.
async fn next(
    client: &WorkloadClient,
    wanted: &Wanted,
    place: &Place,
    held: &Minted,
    clock: &SharedClock,
    tell: &Teller,
) -> Result<Minted, Why> {
    let (mut wait, mut anew) = (FIRST_WAIT, false);
    let mut told = false;
    loop {
        let lease = LeaseId::parse(&held.lease).ok().filter(|_| !anew);
        let tried = match lease {
            Some(lease) => client.renew(lease, None).await,
            None => client.mint(&wanted.ask).await,
        };
        let failed = match tried {
            Ok(minted) => return Ok(minted),
            Err(failed) => failed,
        };
        match verdict(&failed) {
            Verdict::Dead => return Err(Why::Revoked),
            Verdict::Anew if !anew => {
                anew = true;
                continue;
            }
            Verdict::Last | Verdict::Anew => {
                until(clock, held.expires).await;
                return Err(Why::WindowEnded);
            }
            Verdict::Again => {}
        }
        if !std::mem::replace(&mut told, true) {
            tell.failed(place, &failed);
        }
        let left = Duration::from_millis(held.expires.0.saturating_sub(clock.now().0));
        if left.is_zero() {
            return Err(Why::WindowEnded);
        }
        sleep(wait.max(failed.retry_after.unwrap_or_default()).min(left)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Writes files, again and again while that fails and what they would hold is still good; the old ones stay.
async fn written(
    clock: &SharedClock,
    expires: UnixMillis,
    tell: &Teller,
    place: &Place,
    write: impl Fn() -> Result<(), Failure>,
) {
    let (mut wait, mut told) = (FIRST_WAIT, false);
    while let Err(failed) = write() {
        if !std::mem::replace(&mut told, true) {
            tell.failed(place, &failed);
        }
        if clock.now() >= expires {
            return;
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Lets a certificate's files follow it, and the trust bundle, until there is no certificate any more.
pub(super) async fn certificate(
    identity: Arc<X509Identity>,
    place: Arc<Place>,
    clock: SharedClock,
    tell: Teller,
) {
    let (mut events, mut bundle) = (identity.events(), identity.bundle());
    bundle.mark_unchanged();
    let mut why = Why::WindowEnded;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(Event::Issued(_) | Event::Renewed(_)) | Err(RecvError::Lagged(_)) => {}
                Ok(Event::Revoked(_)) => return tell.over(&place, Why::Revoked).await,
                Ok(Event::Expired) => return tell.over(&place, Why::WindowEnded).await,
                Ok(Event::FellBack(failure)) => {
                    if verdict(&failure) == Verdict::Dead {
                        why = Why::Revoked;
                    }
                    continue;
                }
                Ok(Event::Failed { failure, last }) => {
                    tell.failed(&place, &failure);
                    if last || why == Why::Revoked {
                        return tell.over(&place, why).await;
                    }
                    continue;
                }
                Err(RecvError::Closed) => return,
            },
            Ok(()) = bundle.changed() => {}
            () = refused(&identity) => {
                identity.renew_now();
                continue;
            }
        }
        let Some(svid) = identity.svid() else { continue };
        let anchors = bundle.borrow_and_update().anchors_pem();
        written(&clock, svid.expires, &tell, &place, || place.put_certificate(&svid, &anchors)).await;
        tell.renewed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_renewal_ends_the_command_only_where_the_lease_is_dead() {
        for (reason, want) in [
            (Reason::LeaseRevoked, Verdict::Dead),
            (Reason::TaskEnded, Verdict::Dead),
            (Reason::TaskWindow, Verdict::Last),
            (Reason::EvidenceExpired, Verdict::Last),
            (Reason::SignerWithdrawn, Verdict::Anew),
            (Reason::BrokerUnreachable, Verdict::Again),
            (Reason::StoreUnavailable, Verdict::Again),
            (Reason::Blocked, Verdict::Again),
            (Reason::PolicyDenied, Verdict::Again),
        ] {
            assert_eq!(verdict(&Failure::of(reason)), want, "{reason}");
        }
    }
}
