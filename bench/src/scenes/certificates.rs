//! Certificates in the steady state: minted for a bare key, minted for a request, renewed by themselves.

use super::{IN_FLIGHT, PERSONS, Scene};
use crate::jobs::Wish;
use crate::load::{self, Run, Until};
use crate::measure::{Measured, Target, median};
use crate::outcome::say;
use crate::report::Report;
use crate::{Plan, Result, raw};

/// Each kind of call in turn with the others.
pub(super) async fn on_redis(plan: &Plan, scene: &Scene, report: &mut Report) -> Result<()> {
    let until = Until::Passed(plan.run);
    let mut bare = scene.jobs.minters(&scene.channels, IN_FLIGHT, PERSONS, Wish::Certificate).await?;
    let mut asking = scene.jobs.minters(&scene.channels, IN_FLIGHT, PERSONS, Wish::Request).await?;
    let mut renewers = Vec::with_capacity(IN_FLIGHT);
    for n in 0..IN_FLIGHT {
        renewers.push(scene.jobs.renewer(&scene.broker, n).await?);
    }
    let (mut p256, mut minted, mut requested, mut renewed) = (vec![], vec![], vec![], vec![]);
    for round in 1..=plan.rounds {
        say(&format!("certificates: round {round} of {}", plan.rounds));
        p256.push(raw::p256()?);
        minted.push(load::run(&mut bare, until, &scene.watched).await?);
        requested.push(load::run(&mut asking, until, &scene.watched).await?);
        renewed.push(load::run(&mut renewers, until, &scene.watched).await?);
    }
    // A mint's own cryptography: the envelope signed and verified, the certificate signed; a request verified too.
    let crypto = |verified: f64| {
        let each: Vec<_> = p256.iter().map(|(sign, verify)| 2.0 * sign + verified * verify).collect();
        2e6 / median(&each)
    };
    let per_s = |r: &Run| r.per_s;
    for (name, runs, least, what, verified) in [
        ("mint_x509_per_s", &minted, 4_500.0, "P-256 of one mint alone on both cores", 1.0),
        (
            "mint_x509_csr_per_s",
            &requested,
            3_500.0,
            "P-256 of one mint and its request alone on both cores",
            2.0,
        ),
        ("renew_mtls_per_s", &renewed, 5_000.0, "P-256 of one renewal alone on both cores", 1.0),
    ] {
        report.add(Measured::of_runs(name, "1/s", runs, per_s).target(Target::AtLeast(least)).reference(
            what,
            crypto(verified),
            "1/s",
        ));
    }
    Ok(())
}
