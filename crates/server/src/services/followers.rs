//! Who follows the feed: waiting until none of them decides without a change, listing them, and what they report.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use mayfly_broker::{BarrierInput, BarrierTold, BarrierWait, FollowerList};
use mayfly_domain::{Generation, ProfileName, Reason, Refusal, UnixMillis};
use mayfly_lease::feed::{FollowerKind, FollowerSeen, UsageCount, UsedItem};
use mayfly_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};

use super::{Shared, context};

/// The most that wait at once: each asks the store up to 40 times a second.
const WAITS_MAX: usize = 128;
/// How long one that finds no place waits.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// Followers that an answer names.
const WAITING_MAX: usize = 64;
/// Followers that a list names, the ones that are furthest behind first.
const LISTED_MAX: usize = 10_000;
/// Longer waits are cut: every bound has passed long before.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What a caller reads.
pub(super) type Barriers = Pin<Box<dyn Stream<Item = Result<v1::BarrierProgress, Status>> + Send>>;

/// The places for those who wait.
#[derive(Debug, Clone)]
pub(super) struct Waits(Arc<Semaphore>);

impl Default for Waits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITS_MAX)))
    }
}

impl Waits {
    /// Waits for a barrier, and tells how far it is.
    pub(super) async fn begin(
        &self,
        broker: &Shared,
        request: Request<v1::WaitBarrierRequest>,
    ) -> Result<Barriers, Refusal> {
        let context = context(broker, &request);
        let operator = broker.operator(context.certificate.as_ref()).await?;
        let place = self.0.clone().try_acquire_owned().map_err(|_| {
            Refusal::new(Reason::Overloaded, "as many wait for a barrier as may").after(FULL_WAIT)
        })?;
        let wire = request.into_inner();
        let timeout = Duration::from_millis(wire.timeout_ms.into()).min(TIMEOUT_MAX);
        let input = BarrierInput {
            number: wire.number,
            generation: Generation::parse(&wire.generation)?,
            timeout: Some(timeout).filter(|t| !t.is_zero()),
        };
        let wait = broker.barrier(&context.call, &operator, &input).await?;
        let waiting: (BarrierWait, OwnedSemaphorePermit) = (wait, place);
        Ok(Box::pin(stream::unfold(waiting, |mut waiting| async {
            let told = waiting.0.next().await?;
            Some((Ok(progress(&told)), waiting))
        })))
    }
}

/// Milliseconds on the wire.
pub(super) fn millis(length: Duration) -> u32 {
    u32::try_from(length.as_millis()).unwrap_or(u32::MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn progress(told: &BarrierTold) -> v1::BarrierProgress {
    let progress = &told.progress;
    let now = told.store.map(|store| store.now);
    let waiting = progress.waiting.iter().take(WAITING_MAX);
    v1::BarrierProgress {
        complete: progress.complete,
        followers: count(progress.followers),
        confirmed: count(progress.confirmed),
        passed: count(progress.passed),
        waiting: waiting.map(|seen| follower(seen, now.unwrap_or(seen.at), told.number)).collect(),
        reuse_left_ms: millis(progress.reuse_left),
        elapsed_ms: millis(told.elapsed),
    }
}

/// A follower as people see it at `now`, by the store's clock.
fn follower(seen: &FollowerSeen, now: UnixMillis, number: u64) -> v1::Follower {
    let ping = &seen.ping;
    let silent = now.0.saturating_sub(seen.at.0);
    v1::Follower {
        id: ping.id.to_string(),
        kind: match ping.kind {
            FollowerKind::Broker => "broker",
            FollowerKind::Acceptor => "acceptor",
        }
        .to_owned(),
        name: ping.name.clone(),
        broker: ping.broker.clone(),
        bound_ms: ping.bound_ms,
        silent_ms: u32::try_from(silent).unwrap_or(u32::MAX),
        applied: ping.applied,
        behind: number.saturating_sub(ping.applied),
        fresh: seen.is_fresh(now, number),
    }
}

/// The followers, the ones that are furthest behind first, at most so many.
pub(super) fn listed(list: &FollowerList, most: usize) -> Vec<v1::Follower> {
    let mut all: Vec<v1::Follower> =
        list.followers.all.iter().map(|seen| follower(seen, list.followers.now, list.number)).collect();
    all.sort_by(|a, b| {
        (a.fresh, std::cmp::Reverse(a.behind), &a.kind, &a.name, &a.id).cmp(&(
            b.fresh,
            std::cmp::Reverse(b.behind),
            &b.kind,
            &b.name,
            &b.id,
        ))
    });
    all.truncate(most);
    all
}

pub(super) async fn list(
    broker: &Shared,
    request: Request<v1::ListFollowersRequest>,
) -> Result<v1::ListFollowersResponse, Refusal> {
    let context = context(broker, &request);
    let operator = broker.operator(context.certificate.as_ref()).await?;
    let list = broker.followers(&context.call, &operator).await?;
    Ok(v1::ListFollowersResponse { followers: listed(&list, LISTED_MAX), number: list.number })
}

pub(super) async fn usage(
    broker: &Shared,
    request: Request<v1::GetUsageRequest>,
) -> Result<v1::GetUsageResponse, Refusal> {
    let context = context(broker, &request);
    let operator = broker.operator(context.certificate.as_ref()).await?;
    let profile = ProfileName::parse(&request.into_inner().profile)?;
    let usage = broker.profile_usage(&context.call, &operator, &profile).await?;
    Ok(v1::GetUsageResponse {
        days: usage.counts.iter().map(day).collect(),
        scopes: usage.scopes.iter().map(ToString::to_string).collect(),
        intents: usage.intents.iter().map(ToString::to_string).collect(),
    })
}

fn day(count: &UsageCount) -> v1::UsageDay {
    let (scope, intent) = match &count.item {
        UsedItem::Scope(scope) => (scope.to_string(), String::new()),
        UsedItem::Intent(intent) => (String::new(), intent.to_string()),
    };
    v1::UsageDay { day: count.day, workload: count.workload.to_string(), scope, intent, uses: count.uses }
}

#[cfg(test)]
mod tests {
    use mayfly_domain::feed::Epoch;
    use mayfly_lease::feed::{FollowerId, FollowerPing, Followers};

    use super::*;

    fn seen(id: u8, applied: u64, ago: u64) -> FollowerSeen {
        FollowerSeen {
            ping: FollowerPing {
                id: FollowerId([id; 16]),
                kind: FollowerKind::Acceptor,
                name: format!("acceptor-{id}"),
                broker: "one".to_owned(),
                bound_ms: 5_000,
                reuse_ms: 0,
                applied,
                epoch: Epoch::default(),
            },
            at: UnixMillis(100_000 - ago),
        }
    }

    #[test]
    fn before_the_first_event_an_empty_table_is_a_whole_one() {
        let fresh = |ago, number| {
            let followers = Followers { all: vec![seen(1, 0, ago)], now: UnixMillis(100_000) };
            listed(&FollowerList { followers, number }, 1)[0].fresh
        };
        assert!(fresh(10, 0) && !fresh(10, 1) && !fresh(5_000, 0));
    }

    #[test]
    fn the_ones_that_are_furthest_behind_come_first() {
        let all = vec![seen(1, 9, 0), seen(2, 7, 0), seen(3, 9, 5_000), seen(4, 0, 10), seen(5, 9, 4_999)];
        let list = FollowerList { followers: Followers { all, now: UnixMillis(100_000) }, number: 9 };
        let shown = listed(&list, 4);
        let told: Vec<_> = shown.iter().map(|f| (f.name.as_str(), f.fresh, f.behind, f.silent_ms)).collect();
        assert_eq!(
            told,
            [
                ("acceptor-4", false, 9, 10),
                ("acceptor-3", false, 0, 5_000),
                ("acceptor-2", true, 2, 0),
                ("acceptor-1", true, 0, 0),
            ]
        );
    }
}
