//! `Watch`: what a broker decides and hears of, as it happens.
//!
//! Events that a watcher does not read in time are lost to it alone, and counted; the number of watchers is bounded.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use mayfly_audit::Record;
use mayfly_broker::{Standing, Standings, Watched, Watching};
use mayfly_domain::{Reason, Refusal, Subject, UnixMillis};
use mayfly_lease::{Job, JobTarget};
use mayfly_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Status};

use super::followers::listed;
use super::{Shared, context};
use crate::convert;
use crate::status::status;

/// The most that watch at once: each asks the store for all followers once a second.
const WATCHERS_MAX: usize = 16;
/// How long one that finds no place waits.
const FULL_WAIT: Duration = Duration::from_secs(5);
/// Followers that are told once a second.
const FOLLOWERS_MAX: usize = 200;

/// What a caller reads.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchEvent, Status>> + Send>>;

/// The places for those who watch.
#[derive(Debug, Clone)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS_MAX)))
    }
}

struct Place {
    watching: Watching,
    standing: watch::Receiver<Standing>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Watchers {
    /// Everything from now on.
    pub(super) async fn begin(
        &self,
        broker: &Shared,
        request: &Request<v1::WatchRequest>,
    ) -> Result<Events, Refusal> {
        let context = context(broker, request);
        let watching = broker.watch(&context.call, context.certificate.as_ref()).await?;
        let place = self
            .0
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::new(Reason::Overloaded, "as many watch as may").after(FULL_WAIT))?;
        let id = context.call.request;
        let place = Place { watching, standing: broker.standing(), ended: false, _place: place };
        Ok(Box::pin(stream::unfold(place, move |mut place| async move {
            if place.ended {
                return None;
            }
            let drained = place.standing.wait_for(|standing| *standing == Standing::Draining);
            let next = tokio::select! {
                next = place.watching.next() => next,
                _ = drained => return None,
            };
            place.ended = next.is_err();
            Some((next.map(|(at, what)| event(at, &what)).map_err(|refusal| status(&refusal, id)), place))
        })))
    }
}

fn event(at: UnixMillis, what: &Watched) -> v1::WatchEvent {
    use v1::watch_event::What;
    let what = match what {
        Watched::Decision(record) => What::Decision(decision(record)),
        Watched::Revocation { job, number, here } => What::Revocation(revocation(job, *number, *here)),
        Watched::Standing(standings) => What::Followers(followers(standings)),
        Watched::Missed(events) => What::Missed(v1::WatchMissed { events: *events }),
    };
    v1::WatchEvent { at_ms: at.0, what: Some(what) }
}

fn decision(record: &Record) -> v1::WatchDecision {
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string).unwrap_or_default();
    v1::WatchDecision {
        kind: record.kind.as_str().to_owned(),
        reason: record.reason.map(|r| r.as_str().to_owned()).unwrap_or_default(),
        workload: text(record.workload.as_ref().map(|v| v as _)),
        owners: record.owners.iter().flat_map(|o| o.iter().map(ToString::to_string)).collect(),
        profile: text(record.profile.as_ref().map(|v| v as _)),
        task: text(record.task.as_ref().map(|v| v as _)),
        lease: text(record.lease.as_ref().map(|v| v as _)),
        acceptor: text(record.acceptor.as_ref().map(|v| v as _)),
        request: record.request.clone(),
        operator: text(record.operator.as_ref().map(|v| v as _)),
        subject: record
            .subject
            .as_ref()
            .filter(|s| !matches!(s, Subject::Evidence(_)))
            .map(convert::wire_subject),
    }
}

fn revocation(job: &Job, number: u64, here: bool) -> v1::WatchRevocation {
    let (subject, lease) = match &job.target {
        JobTarget::Lease(id) => (None, id.to_string()),
        JobTarget::Subject(Subject::Evidence(_), _) => (None, String::new()),
        JobTarget::Subject(subject, _) => (Some(convert::wire_subject(subject)), String::new()),
    };
    v1::WatchRevocation {
        revocation: job.id.to_string(),
        subject,
        lease,
        author: job.author.clone(),
        reason: job.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        number,
        here,
    }
}

fn followers(standings: &Standings) -> v1::WatchFollowers {
    v1::WatchFollowers {
        followers: listed(&standings.followers, FOLLOWERS_MAX),
        number: standings.followers.number,
        live_leases: standings.live_leases,
        canaries: Some(convert::canaries(&standings.canaries)),
        mints: standings.mints,
        refusals: standings.refusals,
        checks: standings.checks,
    }
}
