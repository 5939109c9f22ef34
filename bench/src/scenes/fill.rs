//! Many leases in the store: whether the broker grows with them.

use super::Scene;
use crate::load::{self, Until};
use crate::measure::{Measured, Target};
use crate::outcome::say;
use crate::report::Report;
use crate::{Failed, Plan, Result};

/// What an allocator and its arenas come and go by without any lease: less is flat.
const NOISE: u64 = 2 * 1024 * 1024;

/// Mints twice as many leases as the plan says and compares the broker's memory after a tenth of them, when every thread's
/// allocator has come to its size, and after all.
pub(super) async fn memory(plan: &Plan, scene: &mut Scene, report: &mut Report) -> Result<()> {
    let unknown = || Failed::new("the broker's memory can't be read here");
    let all = plan.leases.saturating_mul(2);
    load::run(&mut scene.minters, Until::Made(all / 10), &[]).await?;
    let before = scene.broker.resident().ok_or_else(unknown)?;
    say(&format!("minting {all} leases"));
    let run = load::run(&mut scene.minters, Until::Made(all), &scene.watched.clone()).await?;
    let after = scene.broker.resident().ok_or_else(unknown)?;
    say(&format!("{all} leases: {:.0} a second; resident {before} -> {after} octets", run.per_s));
    let grown = after.saturating_sub(before);
    let each = if grown < NOISE { 0.0 } else { grown as f64 / all as f64 };
    report.add(
        Measured::of("broker_bytes_per_lease", "octets", &[each]).target(Target::Exactly(0.0)).reference(
            "resident before",
            before as f64,
            "octets",
        ),
    );
    Ok(())
}
