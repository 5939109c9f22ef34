//! Checks in the acceptor's own process: one thread, no broker in the way. What a known token costs, and what a new
//! one costs beside the signature that has to be verified, and a known one with local policies.

use std::time::Duration;

use mayfly_domain::{Scopes, Thumbprint};
use mayfly_verify::{Request, RequestAsk, Verifier};
use tokio::time::{Instant, timeout};

use super::{PERSONS, Scene};
use crate::jobs::{URL, Wish};
use crate::load::{self, Until};
use crate::measure::{Measured, Target, median};
use crate::outcome::say;
use crate::report::Report;
use crate::site::ACCEPTOR;
use crate::{Failed, Plan, Result, raw};

/// Jobs that mint tokens, and how many tokens they mint together.
const MINTERS: usize = 16;
const TOKENS: u64 = 3_000;
/// Tokens that are shown again and again.
const HOT: usize = 64;
/// Fewer than are shown once each, by far: none of those is known.
const REMEMBERED: usize = 128;
/// Checks between two looks at the clock.
const BATCH: usize = 64;
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A token and the key that the connection has proven.
type Shown = (String, Thumbprint);

/// Measures both in turn, with raw P-256 between.
pub(super) async fn in_process(plan: &Plan, scene: &Scene, report: &mut Report) -> Result<()> {
    let mut minters = scene.jobs.minters(&scene.channels, MINTERS, PERSONS, Wish::Token).await?;
    load::run(&mut minters, Until::Made(TOKENS), &scene.watched).await?;
    let held = minters.iter().flat_map(|minter| &minter.leases);
    let shown: Vec<Shown> = held.map(|h| (h.token().to_owned(), h.holder())).collect();
    let target = scene.broker.target(Some(ACCEPTOR))?;
    let knowing = Verifier::builder(target.clone()).start()?;
    let deciding = Verifier::builder(target.clone()).with_policies().start()?;
    let forgetful = Verifier::builder(target).remember(REMEMBERED).start()?;
    for verifier in [&knowing, &deciding, &forgetful] {
        timeout(READY_WITHIN, verifier.ready()).await?;
    }
    let hot = shown.get(..HOT.min(shown.len())).unwrap_or_default();
    let action = "Bench::Action::\"a0\"";
    let ask = RequestAsk::new(action, "Bench::Cluster::\"eu\"", "POST", URL, None, Scopes::default())
        .map_err(|e| Failed::new(e.to_string()))?;
    let (mut known, mut judged) = (Vec::new(), Vec::new());
    let (mut new, mut raws) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        say(&format!("checks in the acceptor's process: round {round} of {}", plan.rounds));
        raws.push(raw::p256()?.1);
        new.push(each(&forgetful, &shown, plan.run, None)?);
        known.push(each(&knowing, hot, plan.run, None)?);
        judged.push(each(&deciding, hot, plan.run, Some(&ask))?);
        // Pings go out meanwhile.
        tokio::task::yield_now().await;
    }
    let per_s: Vec<f64> = known.iter().map(|us| 1e6 / us).collect();
    report.add(
        Measured::of("check_known_per_s_core", "1/s", &per_s).target(Target::AtLeast(1_000_000.0)).reference(
            "one new token",
            median(&new),
            "us",
        ),
    );
    let per_s: Vec<f64> = judged.iter().map(|us| 1e6 / us).collect();
    report.add(Measured::of("check_policy_per_s_core", "1/s", &per_s));
    let ratios: Vec<f64> = raws.iter().zip(&new).map(|(raw, new)| raw / new).collect();
    report.add(
        Measured::of("check_new_ratio_to_raw_verify", "", &ratios).target(Target::AtLeast(0.85)).reference(
            "one P-256 verification",
            median(&raws),
            "us",
        ),
    );
    Ok(())
}

/// Microseconds of one check, and of the policies where a request is asked about, over and over for so long; each must
/// accept.
fn each(verifier: &Verifier, shown: &[Shown], length: Duration, ask: Option<&RequestAsk>) -> Result<f64> {
    let mut next = shown.iter().cycle();
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < length {
        for (token, peer) in next.by_ref().take(BATCH) {
            let request = Request { method: "POST", url: URL, peer: Some(peer), ..Request::default() };
            let judged = verifier.check_token(token, &request).and_then(|judged| match ask {
                Some(ask) => verifier.check_request(&judged, ask).map(|_| ()),
                None => Ok(()),
            });
            judged.map_err(|refusal| Failed::new(format!("a live token was refused: {refusal}")))?;
            count += 1;
        }
    }
    if count == 0 {
        return Err(Failed::new("there is no token to check"));
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}
