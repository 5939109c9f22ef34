//! `make demo`: Mayfly's main job, played line by line against real processes on loopback, with a broker, a small
//! service, an operator, CI jobs and a thief. It ends with 1 and names the line that is not as it should be.
//!
//! It must never reach into the broker: everything goes through the `mayfly` program, the wire or the service.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::time::Instant;

mod api;
mod broker;
mod cast;
mod program;
mod scenes;
mod stage;

use stage::{Stage, Wrong, show};

/// The `mayfly` program that was built beside this one, or the one that is named.
fn program() -> Result<PathBuf, Wrong> {
    let beside = || std::env::current_exe().map(|me| me.with_file_name("mayfly"));
    let named = std::env::args_os().nth(1).map(PathBuf::from);
    let path = named.map_or_else(beside, Ok).map_err(|e| Wrong::of("this program's place", e))?;
    path.canonicalize().map_err(|e| Wrong::of(&format!("no mayfly program at {}", path.display()), e))
}

async fn play(stage: &mut Stage) -> Result<(), Wrong> {
    let program = program()?;
    let dir =
        tempfile::Builder::new().prefix("mayfly-demo-").tempdir().map_err(|e| Wrong::of("directory", e))?;
    let outcome = scenes::all(stage, &program, dir.path()).await;
    if outcome.is_err() {
        show(&format!("\nthe broker's log and audit record are kept in {}\n", dir.keep().display()));
    }
    outcome
}

fn main() -> ExitCode {
    let mut stage = Stage::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(|e| Wrong::of("runtime", e)).and_then(|runtime| {
        runtime.block_on(async {
            let begun = Instant::now();
            play(&mut stage).await.map(|()| begun.elapsed().as_secs_f32())
        })
    });
    match outcome {
        Ok(seconds) => {
            stage.curtain(seconds);
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            stage.failed(&wrong);
            ExitCode::FAILURE
        }
    }
}
