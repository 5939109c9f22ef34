//! Trying again: with jitter, within a deadline, and only where the reason says that it helps.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use mayfly_domain::{Deadline, Reason};

use crate::failure::Failure;

/// How long a call may take, with everything that is tried again.
pub const CALL: Duration = Duration::from_secs(30);

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Calls until it succeeds, fails for good, or another wait would pass the deadline. `call` gets the time left.
///
/// The broker's own wait is honoured where it is the longer one. A nonce that went stale is replaced at once,
/// once; after that it waits like the rest.
///
/// # Errors
/// The last failure.
pub async fn until<T, F: Future<Output = Result<T, Failure>>>(
    deadline: Deadline,
    mut call: impl FnMut(Duration) -> F,
) -> Result<T, Failure> {
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build();
    let mut fresh_nonce = false;
    loop {
        let failed = match call(deadline.left()).await {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        if !failed.may_retry() {
            return Err(failed);
        }
        if stale_nonce(&failed) && !fresh_nonce {
            fresh_nonce = true;
            continue;
        }
        let wait = waits.next().unwrap_or(LONGEST).max(failed.retry_after.unwrap_or_default());
        if wait >= deadline.left() {
            return Err(failed);
        }
        tracing::debug!(reason = %failed.code, wait_ms = wait.as_millis(), "trying again");
        tokio::time::sleep(wait).await;
    }
}

fn stale_nonce(failed: &Failure) -> bool {
    matches!(failed.reason, Some(Reason::NonceInvalid | Reason::NonceExpired | Reason::NonceUsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn attempts(deadline: Duration, failures: Vec<Failure>) -> (usize, Result<(), Failure>) {
        let mut made = 0;
        let result = until(Deadline::after(deadline), |_| {
            made += 1;
            std::future::ready(failures.get(made - 1).map_or(Ok(()), |f| Err(f.clone())))
        })
        .await;
        (made, result)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_helps_is_tried_again() {
        let of = Failure::of;
        let hinted = |reason, secs| Failure { retry_after: Some(Duration::from_secs(secs)), ..of(reason) };
        for (failures, made, good) in [
            (vec![], 1, true),
            (vec![of(Reason::StoreUnavailable), of(Reason::RaceLost)], 3, true),
            (vec![of(Reason::Blocked)], 1, false),
            (vec![of(Reason::QuotaRate)], 1, false),
            (vec![hinted(Reason::QuotaRate, 2)], 2, true),
            (vec![hinted(Reason::QuotaRate, 60)], 1, false),
            (vec![of(Reason::NonceExpired), of(Reason::NonceUsed)], 3, true),
        ] {
            let told = format!("{failures:?}");
            let (n, result) = attempts(CALL, failures).await;
            assert_eq!((n, result.is_ok()), (made, good), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_brokers_wait_is_honoured_and_a_stale_nonce_costs_none() {
        let begun = tokio::time::Instant::now();
        let told = Failure { retry_after: Some(Duration::from_secs(3)), ..Failure::of(Reason::Overloaded) };
        attempts(CALL, vec![told]).await.1.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(3));
        let begun = tokio::time::Instant::now();
        attempts(CALL, vec![Failure::of(Reason::NonceExpired)]).await.1.unwrap();
        assert!(begun.elapsed().is_zero());
    }
}
