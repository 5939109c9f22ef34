//! Revocations with many leases in the store: how soon they are acknowledged, how fast they are swept, and what
//! others feel of it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use mayfly_client::OperatorClient;
use mayfly_proto::v1 as pb;
use tokio::time::{Instant, sleep};

use super::{PERSONS, Scene};
use crate::jobs::{By, Checker, Held, Team, Wish, checkers};
use crate::load::{self, Run, Step as _, Until, millis, nanos, times};
use crate::measure::{Measured, Target};
use crate::outcome::say;
use crate::report::Report;
use crate::{Failed, Plan, Result};

/// Revocations that are timed, of owners in turn.
const REVOCATIONS: usize = 300;
/// How often the client beside a sweep asks.
const PACE: Duration = Duration::from_millis(5);
const GIVE_UP: Duration = Duration::from_secs(300);

fn of_owner(owner: &str) -> pb::RevokeRequest {
    let subject = pb::Subject { dimension: pb::Dimension::Owner.into(), value: owner.to_owned() };
    pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Subject(subject)),
        reason: "measured".to_owned(),
        ..pb::RevokeRequest::default()
    }
}

/// Revokes every owner but the team in turn, again and again.
pub(super) async fn acknowledgements(
    plan: &Plan,
    scene: &mut Scene,
    (_, _, set_p99): (f64, f64, f64),
    report: &mut Report,
) -> Result<()> {
    let operator = scene.broker.operator().await?;
    let mut all = times()?;
    let mut last = String::new();
    for n in 0..REVOCATIONS {
        let request = of_owner(&format!("user:gh-{}", 1_000 + n % PERSONS));
        let sent = Instant::now();
        last = operator.revoke(request).await?.revocation;
        all.saturating_record(nanos(sent.elapsed()));
    }
    say("waiting for the sweeps");
    done(&operator, &last).await?;
    let measured = Measured::of("revoke_owner_ack_p99_ms", "ms", &[millis(&all, 0.99)])
        .times(&all)
        .target(Target::AtMost(3.0))
        .reference("one durable Redis SET, p99", set_p99, "ms");
    report.add(measured);
    say(&format!("with {} leases in the store or more", plan.leases));
    Ok(())
}

/// Fills the store anew and sweeps the whole team, while another team's client checks at its own pace.
pub(super) async fn sweep(plan: &Plan, scene: &mut Scene, report: &mut Report) -> Result<()> {
    scene.minters = scene.jobs.minters(&scene.channels, super::IN_FLIGHT, PERSONS, Wish::Token).await?;
    say(&format!("minting {} leases to sweep", plan.leases));
    load::run(&mut scene.minters, Until::Made(plan.leases), &[]).await?;
    let channel = scene.broker.channel().await?;
    let other = scene.jobs.minter(&channel, Team::Other, 900, 5_000, Wish::Token).await?;
    let held: Arc<[Held]> = other.leases.into();
    let mut paced: Vec<_> = checkers(&scene.acceptors, &held, 2, By::Lease)
        .into_iter()
        .map(|checker| Paced { checker })
        .collect();
    let quiet = load::run(&mut paced, Until::Passed(Duration::from_secs(2)), &[]).await?;

    let operator = scene.broker.operator().await?;
    let begin = Instant::now();
    let revocation = operator.revoke(of_owner(Team::Bench.owner())).await?.revocation;
    let over = Cell::new(false);
    let swept = async {
        let swept = done(&operator, &revocation).await;
        over.set(true);
        swept.map(|state| (state, begin.elapsed()))
    };
    let (swept, during) = tokio::join!(swept, beside(paced, &over));
    let ((swept, took), during) = (swept?, during?);
    report.add(
        Measured::of("sweep_leases_per_s", "1/s", &[swept.ended as f64 / took.as_secs_f64()])
            .target(Target::AtLeast(50_000.0))
            .reference("leases ended", swept.ended as f64, ""),
    );
    let mut felt = Measured::of("sweep_other_client_p99_ms", "ms", &[during.p99_ms])
        .target(Target::AtMost(10.0))
        .reference("the same client before, p99", quiet.p99_ms, "ms");
    felt.p50 = Some(during.p50_ms);
    felt.p99 = Some(during.p99_ms);
    report.add(felt);
    Ok(())
}

/// A client that asks at its own pace.
struct Paced {
    checker: Checker,
}

impl load::Step for Paced {
    async fn step(&mut self) -> Result<()> {
        self.checker.step().await
    }

    async fn rest(&mut self) {
        sleep(PACE).await;
    }
}

/// The paced client's run until it is told that the sweep is over.
async fn beside(mut paced: Vec<Paced>, over: &Cell<bool>) -> Result<Run> {
    let mut all = times()?;
    let begin = Instant::now();
    while !over.get() {
        for one in &mut paced {
            let sent = Instant::now();
            one.step().await?;
            all.saturating_record(nanos(sent.elapsed()));
        }
        sleep(PACE).await;
    }
    Ok(Run {
        per_s: all.len() as f64 / begin.elapsed().as_secs_f64(),
        p50_ms: millis(&all, 0.5),
        p99_ms: millis(&all, 0.99),
        cpu_us: Vec::new(),
    })
}

/// The revocation when its sweep is done.
async fn done(operator: &OperatorClient, revocation: &str) -> Result<pb::Revocation> {
    let give_up = Instant::now() + GIVE_UP;
    loop {
        let asked = pb::GetRevocationRequest { revocation: revocation.to_owned() };
        let state = operator.get_revocation(asked).await?;
        if state.done {
            return Ok(state);
        }
        if Instant::now() > give_up {
            return Err(Failed::new(format!("the sweep did not end; {} leases ended", state.ended)));
        }
        sleep(Duration::from_millis(10)).await;
    }
}
