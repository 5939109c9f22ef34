//! What is measured, in order.

mod certificates;
mod cuts;
mod dev;
mod feed;
mod fill;
mod filler;
mod revoke;
pub(crate) mod services;
mod steady;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_client::AcceptorClient;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::broker::Broker;
use crate::jobs::{Held, Jobs, Minter, Wish};
use crate::outcome::say;
use crate::report::Report;
use crate::site::Site;
use crate::{Part, Plan, Result, raw};

/// Calls at once where there are many.
pub(crate) const IN_FLIGHT: usize = 64;
/// Connections that they are spread over.
pub(crate) const CONNECTIONS: usize = 4;
/// People behind the jobs: owners besides the team.
const PERSONS: usize = 50;

/// Measures these parts and `mayfly dev`, writes the report and prints the table.
pub(crate) async fn all(plan: &Plan, parts: &[Part], report_file: &Path) -> Result<()> {
    std::fs::create_dir_all(&plan.disk)?;
    let disk = plan.disk.canonicalize()?;
    // What the fixtures put into a temporary directory is to be on the measured disk too.
    let _ = tempfile::env::override_temp_dir(&disk);
    let plan = Plan { disk, ..plan.clone() };
    let mut report = Report::new(&plan);
    for part in parts {
        say(&format!("{part:?}: starting"));
        let dir = tempfile::tempdir()?;
        match part {
            Part::Redis => redis(&plan, dir, &mut report).await?,
            Part::Feed => feed::on_redis(&plan, report_file, &mut report).await?,
            Part::Embedded => embedded(&plan, dir, &mut report).await?,
        }
        report.write(report_file)?;
    }
    say("mayfly dev");
    report.add(dev::ready(&plan).await?);
    report.write(report_file)?;
    report.table()
}

/// A broker with its jobs and the ways to it.
pub(crate) struct Scene {
    pub(crate) broker: Broker,
    pub(crate) jobs: Jobs,
    pub(crate) channels: Vec<Channel>,
    pub(crate) acceptors: Vec<AcceptorClient>,
    pub(crate) minters: Vec<Minter>,
    pub(crate) watched: Vec<(&'static str, u32)>,
    _dir: TempDir,
}

impl Scene {
    async fn start(dir: TempDir, redis: Option<(&str, u32)>) -> Result<Self> {
        let site = Site::write(dir.path().join("site"), redis.map(|(url, _)| url))?;
        let broker = Broker::start(site).await?;
        let jobs = Jobs::new(&broker)?;
        let (mut channels, mut acceptors) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            channels.push(broker.channel().await?);
            acceptors.push(broker.acceptor().await?);
        }
        let minters = jobs.minters(&channels, IN_FLIGHT, PERSONS, Wish::Token).await?;
        let mut watched = vec![("broker", broker.pid()), ("load", std::process::id())];
        watched.extend(redis.map(|(_, pid)| ("redis", pid)));
        Ok(Self { broker, jobs, channels, acceptors, minters, watched, _dir: dir })
    }

    /// Leases that live.
    pub(crate) fn held(&self) -> Arc<[Held]> {
        self.minters.iter().flat_map(|m| m.leases.iter().cloned()).collect()
    }
}

async fn redis(plan: &Plan, dir: TempDir, report: &mut Report) -> Result<()> {
    let server = RedisServer::start(RedisOptions::default());
    let mut admin = server.admin();
    let info: redis::InfoDict = redis::cmd("INFO").arg("server").query(&mut admin)?;
    report.version("redis", &info.get::<String>("redis_version").unwrap_or_default());
    let pid = info.get::<u32>("process_id").unwrap_or_default();
    let pings = raw::redis(&mut admin)?;
    let mut scene = Scene::start(dir, Some((&server.url(), pid))).await?;
    steady::on_redis(plan, &mut scene, server.port(), pings, report).await?;
    fill::memory(plan, &mut scene, report).await?;
    revoke::acknowledgements(plan, &mut scene, pings, report).await?;
    revoke::sweep(plan, &mut scene, report).await?;
    certificates::on_redis(plan, &scene, report).await?;
    verify::in_process(plan, &scene, report).await?;
    services::first(&scene, report).await?;
    services::wakeups(&scene, report).await?;
    services::rotation(&scene, report).await?;
    cuts::streams(&scene, report).await
}

async fn embedded(plan: &Plan, dir: TempDir, report: &mut Report) -> Result<()> {
    let mut scene = Scene::start(dir, None).await?;
    steady::on_embedded(plan, &mut scene, report).await
}

/// A new directory below the measured disk.
pub(crate) fn fresh() -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let inner = dir.path().join("dev");
    Ok((dir, inner))
}
