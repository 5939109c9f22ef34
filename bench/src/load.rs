//! Closed loops: so many workers, each with its next call as soon as its last one was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Failed, Result, host};

/// One worker's next call.
pub(crate) trait Step: Send + 'static {
    /// Makes it; an error ends the measurement.
    fn step(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Waits before the next one; not counted.
    fn rest(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// When a run is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so long.
    Passed(Duration),
    /// After so many calls of all workers.
    Made(u64),
}

/// The processes whose processor time is counted, by name.
pub(crate) type Watched = [(&'static str, u32)];

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Processor time by process, in microseconds a call.
    pub(crate) cpu_us: Vec<(&'static str, f64)>,
}

/// Runs all workers and gives them back.
pub(crate) async fn run<S: Step>(workers: &mut Vec<S>, until: Until, watched: &Watched) -> Result<Run> {
    let before: Vec<_> = watched.iter().map(|(_, pid)| host::cpu(*pid)).collect();
    let made = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut worker in workers.drain(..) {
        let made = Arc::clone(&made);
        tasks.spawn(async move {
            let mut times = times()?;
            loop {
                let over = match until {
                    Until::Passed(length) => begin.elapsed() >= length,
                    Until::Made(count) => made.fetch_add(1, Ordering::Relaxed) >= count,
                };
                if over {
                    return Ok::<_, Failed>((worker, times));
                }
                let sent = Instant::now();
                worker.step().await?;
                times.saturating_record(nanos(sent.elapsed()));
                worker.rest().await;
            }
        });
    }
    let mut all = times()?;
    while let Some(done) = tasks.join_next().await {
        let (worker, times) = done??;
        workers.push(worker);
        all.add(times)?;
    }
    let took = begin.elapsed();
    let calls = all.len();
    let cpu_us = watched.iter().zip(before).filter_map(|((name, pid), before)| {
        let used = host::cpu(*pid)?.saturating_sub(before?);
        Some((*name, used.as_secs_f64() * 1e6 / calls.max(1) as f64))
    });
    Ok(Run {
        per_s: calls as f64 / took.as_secs_f64(),
        p50_ms: millis(&all, 0.5),
        p99_ms: millis(&all, 0.99),
        cpu_us: cpu_us.collect(),
    })
}

/// A histogram of nanoseconds, to a minute.
pub(crate) fn times() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

pub(crate) fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn millis(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e6
}
