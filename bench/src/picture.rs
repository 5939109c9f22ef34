//! Pictures for people.

use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::{Failed, Result};

/// Steps a tenfold.
const STEPS: i32 = 8;

/// Draws how often how long it took: logarithmic, from a microsecond on, as SVG.
pub(crate) fn histogram(all: &Histogram<u64>, title: &str, file: &Path) -> Result<()> {
    let bin = |ns: u64| ((ns.max(1_000) as f64 / 1e3).log10() * f64::from(STEPS)).floor() as i32;
    let mut bins = std::collections::BTreeMap::<i32, u64>::new();
    for value in all.iter_recorded() {
        *bins.entry(bin(value.value_iterated_to())).or_default() += value.count_at_value();
    }
    let last = bins.keys().last().copied().unwrap_or(STEPS) + 1;
    let most = bins.values().max().copied().unwrap_or(1);
    let failed = |e: &dyn std::fmt::Display| Failed::new(format!("{}: {e}", file.display()));
    let area = SVGBackend::new(file, (900, 360)).into_drawing_area();
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0..last, 0..most + most / 10)
        .map_err(|e| failed(&e))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(12)
        .x_label_formatter(&|step| label(*step))
        .y_desc("judgements")
        .draw()
        .map_err(|e| failed(&e))?;
    chart
        .draw_series(
            bins.iter()
                .map(|(at, count)| Rectangle::new([(*at, 0), (at + 1, *count)], BLUE.mix(0.6).filled())),
        )
        .map_err(|e| failed(&e))?;
    area.present().map_err(|e| failed(&e))
}

/// A step's lower end in words.
fn label(step: i32) -> String {
    let us = 10_f64.powf(f64::from(step) / f64::from(STEPS));
    if us < 1_000.0 { format!("{us:.0} us") } else { format!("{:.1} ms", us / 1e3) }
}
