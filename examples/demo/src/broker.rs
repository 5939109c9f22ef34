//! The broker: a `mayfly dev` process in a directory of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::program::text;
use crate::stage::Wrong;

/// How long a broker may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running broker; it is killed with this value.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    told: Value,
    /// From the start of the process until it said that it is ready.
    pub(crate) ready: Duration,
}

impl Broker {
    /// Starts `mayfly dev` in `dir` and waits until it serves.
    pub(crate) async fn start(program: &Path, dir: &Path) -> Result<Self, Wrong> {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join("broker.log"))
            .map_err(|e| Wrong::of("broker.log", e))?;
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["dev", "--any-port", "--output", "json", "--dir"])
            .arg(dir.join("broker"))
            // Nothing of this machine's: no PATH, so that no other program can be part of it.
            .env_clear()
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Wrong::of("mayfly dev", e))?;
        let stdout = child.stdout.take().ok_or_else(|| Wrong::new("mayfly dev has no output"))?;
        let told = timeout(PATIENCE, document(stdout)).await;
        let told = told.map_err(|_| Wrong::new("mayfly dev is not ready after 30 s"))??;
        Ok(Self { child, told, ready: begun.elapsed() })
    }

    /// Ends it as a power failure would.
    pub(crate) async fn kill(mut self) -> Result<(), Wrong> {
        self.child.kill().await.map_err(|e| Wrong::of("kill", e))
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &str {
        text(&self.told, "url")
    }
}

/// Reads one pretty-printed JSON document.
async fn document(out: impl AsyncRead + Unpin) -> Result<Value, Wrong> {
    let mut lines = BufReader::new(out).lines();
    let mut read = String::new();
    while let Some(line) = lines.next_line().await.map_err(|e| Wrong::of("mayfly dev", e))? {
        read.push_str(&line);
        if line == "}" {
            return serde_json::from_str(&read).map_err(|e| Wrong::of("mayfly dev's output", e));
        }
    }
    Err(Wrong::new("mayfly dev ended before it was ready"))
}
