//! `make bench`: how fast Mayfly does its main job, measured as its users meet it.
//!
//! A broker in a process of its own, with TLS, audit and 50 policies, on a real Redis that syncs each write and
//! on the embedded store; a load generator beside it on the same machine. Never part of the tests: a number
//! that depends on the machine decides nothing.

mod broker;
mod host;
mod jobs;
mod load;
mod measure;
mod monitor;
mod outcome;
mod picture;
mod raw;
mod report;
mod scenes;
mod serve;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use outcome::{Failed, Result};

#[derive(Debug, Parser)]
#[command(about = "Measures Mayfly on this machine")]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Where the report is written.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    /// Where brokers and Redis keep their files: the disk whose syncs are measured.
    #[arg(long, default_value = "target/bench")]
    disk: PathBuf,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "redis,feed,embedded")]
    parts: Vec<Part>,
    /// How long one run of one measurement takes, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often each measurement is run, interleaved with the others.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Leases in the store when revocations are measured; twice as many for the broker's memory.
    #[arg(long, default_value_t = 100_000)]
    leases: u64,
    /// Leases in the store when the feed is measured.
    #[arg(long, default_value_t = 1_000_000)]
    feed_leases: u64,
}

/// Measurements that belong together.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Part {
    /// One broker over Redis: mints, checks, revocations, certificates, services, acceptors.
    Redis,
    /// Three brokers over one full Redis, and twenty acceptors that follow.
    Feed,
    /// One broker over its own file.
    Embedded,
}

/// What this program is when it starts itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// A broker that trusts a stand-in CI issuer; ends when its standard input does.
    #[command(hide = true)]
    Serve { site: PathBuf },
    /// A service that gets its first certificate with the evidence in this file, and tells so; without one it only
    /// starts.
    #[command(hide = true)]
    First { site: PathBuf, evidence: Option<PathBuf> },
    /// `mayfly dev` in this directory; ends when its standard input does.
    #[command(hide = true)]
    Dev { dir: PathBuf },
}

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    run: Duration,
    rounds: u32,
    leases: u64,
    feed_leases: u64,
    disk: PathBuf,
}

/// As `mayfly` itself has it: its server runs in this program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return outcome::failed(&e.into()),
    };
    let done = match args.role {
        Some(Role::Serve { site }) => runtime.block_on(serve::broker(&site)),
        Some(Role::First { site, evidence }) => runtime.block_on(serve::first(&site, evidence)),
        Some(Role::Dev { dir }) => runtime.block_on(serve::dev(&dir)),
        None => {
            let plan = Plan {
                run: Duration::from_secs(args.seconds),
                rounds: args.rounds.max(1),
                leases: args.leases,
                feed_leases: args.feed_leases,
                disk: args.disk,
            };
            runtime.block_on(scenes::all(&plan, &args.parts, &args.report))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => outcome::failed(&e),
    }
}
