//! The report: `report.json` for machines, a table for people.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::measure::Measured;
use crate::site::POLICIES;
use crate::{Plan, Result, host};

/// Everything that was measured, and what it was measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Value,
    versions: Value,
    settings: Map<String, Value>,
    pub(crate) results: Vec<Measured>,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Self {
        let (processor, cores) = host::processor();
        let settings = json!({
            "runs": plan.rounds,
            "run_seconds": plan.run.as_secs(),
            "policies": POLICIES,
            "tls": "1.3 between clients and broker; Redis over loopback without",
            "audit": "every decision; fdatasync before the answer, shared by those that wait (sync = \"group\")",
            "redis_appendfsync": "always",
            "embedded_durability": "fsync at each commit, shared by those that wait",
            "disk": host::file_system(&plan.disk),
            "envelope_key": "P-256",
            "in_flight": crate::scenes::IN_FLIGHT,
            "connections": crate::scenes::CONNECTIONS,
            "beside_the_broker": "load generator and Redis, on the same processors",
        });
        Self {
            machine: json!({
                "processor": processor,
                "cores": cores,
                "memory_octets": host::memory(),
                "kernel": host::kernel(),
                "load_average_before": host::load_average(),
            }),
            versions: json!({
                "mayfly": env!("CARGO_PKG_VERSION"),
                "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            }),
            settings: settings.as_object().cloned().unwrap_or_default(),
            results: Vec::new(),
        }
    }

    pub(crate) fn version(&mut self, of: &str, is: &str) {
        if let Some(all) = self.versions.as_object_mut() {
            all.insert(of.to_owned(), is.into());
        }
    }

    /// Notes a measurement, and shows it at once.
    pub(crate) fn add(&mut self, measured: Measured) {
        crate::outcome::say(&line(&measured).join("  "));
        self.results.push(measured);
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(fs::write(path, text)?)
    }

    /// The table, on standard output.
    pub(crate) fn table(&self) -> Result<()> {
        let head =
            ["name", "value", "unit", "target", "", "spread", "p50 ms", "p99 ms", "cpu us a call", "beside"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.results.iter().map(line));
        let widths: Vec<usize> = (0..head.len())
            .map(|n| rows.iter().filter_map(|r| r.get(n)).map(String::len).max().unwrap_or(0))
            .collect();
        let mut out = std::io::stdout().lock();
        for row in &rows {
            let padded: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(out, "{}", padded.join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn line(m: &Measured) -> [String; 10] {
    let optional = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
    let cpu: Vec<_> = m.cpu_us.iter().map(|(process, us)| format!("{process} {us}")).collect();
    [
        m.name.to_owned(),
        m.value.to_string(),
        m.unit.to_owned(),
        m.target.map(|t| t.to_string()).unwrap_or_default(),
        m.met.map(|met| if met { "met" } else { "missed" }.to_owned()).unwrap_or_default(),
        format!("{} .. {}", m.spread[0], m.spread[1]),
        optional(m.p50),
        optional(m.p99),
        cpu.join(", "),
        m.reference.as_ref().map(|r| format!("{}: {} {}", r.what, r.value, r.unit)).unwrap_or_default(),
    ]
}
