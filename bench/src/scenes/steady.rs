//! Minting and checking in the steady state, each run in turn with the others.

use std::sync::Arc;

use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;

use super::{IN_FLIGHT, Scene};
use crate::jobs::{By, Idler, checkers};
use crate::load::{self, Run, Until};
use crate::measure::{Measured, Target, median};
use crate::monitor::Monitor;
use crate::outcome::say;
use crate::report::Report;
use crate::{Plan, Result, raw};

/// Mints whose commands are counted.
const COUNTED: u64 = 200;

/// The runs of one broker.
#[derive(Default)]
struct Runs {
    call: Vec<Run>,
    mint: Vec<Run>,
    single: Vec<Run>,
    lease: Vec<Run>,
    token: Vec<Run>,
    sync: Vec<(f64, f64)>,
    p256: Vec<(f64, f64)>,
}

impl Runs {
    async fn take(plan: &Plan, scene: &mut Scene) -> Result<Self> {
        let mut all = Self::default();
        let until = Until::Passed(plan.run);
        let watched = scene.watched.clone();
        say("warming up");
        load::run(&mut scene.minters, until, &watched).await?;
        for round in 1..=plan.rounds {
            say(&format!("round {round} of {}", plan.rounds));
            all.p256.push(raw::p256()?);
            all.sync.push(raw::fdatasync(&plan.disk)?);
            let channels = scene.channels.iter().cycle().take(IN_FLIGHT);
            let mut idlers: Vec<_> = channels.map(|c| Idler(WorkloadServiceClient::new(c.clone()))).collect();
            all.call.push(load::run(&mut idlers, until, &watched).await?);
            all.mint.push(load::run(&mut scene.minters, until, &watched).await?);
            let mut one = scene.minters.split_off(IN_FLIGHT - 1);
            all.single.push(load::run(&mut one, until, &watched).await?);
            scene.minters.append(&mut one);
            let held = scene.held();
            for (by, runs) in [(By::Lease, &mut all.lease), (By::Token, &mut all.token)] {
                let mut workers = checkers(&scene.acceptors, &Arc::clone(&held), IN_FLIGHT, by);
                runs.push(load::run(&mut workers, until, &watched).await?);
            }
        }
        Ok(all)
    }

    fn call_per_s(&self) -> f64 {
        median(&self.call.iter().map(|r| r.per_s).collect::<Vec<_>>())
    }

    fn sync_ms(&self) -> f64 {
        median(&self.sync.iter().map(|(p50, _)| *p50).collect::<Vec<_>>())
    }

    /// A mint's own cryptography on one core: the envelope signed and verified, the token signed.
    fn crypto_us(&self) -> f64 {
        median(&self.p256.iter().map(|(sign, verify)| 2.0 * sign + verify).collect::<Vec<_>>())
    }
}

const SYNC: &str = "one fdatasync of this disk, p50";
const CALL: &str = "GetNonce, a call without work";

pub(super) async fn on_redis(
    plan: &Plan,
    scene: &mut Scene,
    port: u16,
    (pings, set, _): (f64, f64, f64),
    report: &mut Report,
) -> Result<()> {
    let runs = Runs::take(plan, scene).await?;
    let per_s = |r: &Run| r.per_s;
    report.add(Measured::of_runs("rpc_only_per_s", "1/s", &runs.call, per_s).reference(
        "Redis PING, pipelined",
        pings,
        "1/s",
    ));
    report.add(
        Measured::of_runs("mint_token_per_s", "1/s", &runs.mint, per_s)
            .target(Target::AtLeast(5_000.0))
            .reference("P-256 of one mint alone on both cores", 2e6 / runs.crypto_us(), "1/s"),
    );
    report.add(
        Measured::of_runs("mint_token_p99_ms", "ms", &runs.mint, |r| r.p99_ms)
            .target(Target::AtMost(40.0))
            .reference(SYNC, runs.sync_ms(), "ms"),
    );
    report.add(
        Measured::of_runs("mint_single_p50_ms", "ms", &runs.single, |r| r.p50_ms)
            .target(Target::AtMost(1.0))
            .reference("one durable Redis SET and one fdatasync, p50", set + runs.sync_ms(), "ms"),
    );
    report.add(
        Measured::of_runs("check_online_per_s", "1/s", &runs.lease, per_s)
            .target(Target::AtLeast(12_000.0))
            .reference(CALL, runs.call_per_s(), "1/s"),
    );
    report.add(Measured::of_runs("check_online_jwt_per_s", "1/s", &runs.token, per_s).reference(
        CALL,
        runs.call_per_s(),
        "1/s",
    ));
    report.add(round_trips(scene, port).await?);
    Ok(())
}

pub(super) async fn on_embedded(plan: &Plan, scene: &mut Scene, report: &mut Report) -> Result<()> {
    let runs = Runs::take(plan, scene).await?;
    let per_s = |r: &Run| r.per_s;
    report.add(Measured::of_runs("embedded_mint_per_s", "1/s", &runs.mint, per_s).reference(
        SYNC,
        runs.sync_ms(),
        "ms",
    ));
    report.add(Measured::of_runs("embedded_mint_single_p50_ms", "ms", &runs.single, |r| r.p50_ms).reference(
        SYNC,
        runs.sync_ms(),
        "ms",
    ));
    report.add(Measured::of_runs("embedded_check_online_per_s", "1/s", &runs.lease, per_s).reference(
        CALL,
        runs.call_per_s(),
        "1/s",
    ));
    report.add(Measured::of_runs("embedded_check_online_jwt_per_s", "1/s", &runs.token, per_s).reference(
        CALL,
        runs.call_per_s(),
        "1/s",
    ));
    Ok(())
}

/// What the broker sends to Redis for one mint. What it sends anyway, to look after the store, is sent now and
/// then: only commands that came with at least every second mint are counted.
async fn round_trips(scene: &mut Scene, port: u16) -> Result<Measured> {
    let mut monitor = Monitor::start(port).await?;
    load::run(&mut scene.minters, Until::Made(COUNTED), &[]).await?;
    let seen = monitor.seen().await?;
    let (by_mints, others): (Vec<u64>, Vec<u64>) = seen.into_values().partition(|n| *n >= COUNTED / 2);
    let each = by_mints.iter().sum::<u64>() as f64 / COUNTED as f64;
    Ok(Measured::of("mint_redis_round_trips", "commands", &[each]).target(Target::Exactly(1.0)).reference(
        "other commands meanwhile",
        others.iter().sum::<u64>() as f64,
        "",
    ))
}
