//! What this program is when it starts itself: above all the broker, the real server, composed as `mayfly server` composes it, but for a stand-in CI issuer.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_attestors::keys::StaticKeys;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Refusal, SystemClock};
use mayfly_server::compose::{IssuerKeys, open_seal};
use mayfly_server::dev::{Dev, Options};
use mayfly_server::run::Bound;
use mayfly_server::{config, init};
use mayfly_standin::GITHUB_ISSUER;
use tokio::io::AsyncReadExt as _;

use crate::scenes::services;
use crate::site::{CERTIFICATES, Site};
use crate::{Failed, Result};

fn refused(refusal: Refusal) -> Failed {
    Failed::new(format!("{refusal}"))
}

/// Serves a site; tells where by the files `url` and `ca.pem` in it.
pub(crate) async fn broker(dir: &Path) -> Result<()> {
    log();
    let site = Site(dir.to_path_buf());
    let clock: SharedClock = Arc::new(SystemClock);
    let load = || config::load(&site.config(), std::iter::empty()).map_err(|e| refused(e.refusal()));
    let loaded = load()?;
    let seal = open_seal(&loaded.settings).map_err(refused)?;
    init::initialise(&loaded.settings, &seal, &clock).await.map_err(refused)?;
    let jwks = site.issuer()?.jwks().to_string();
    let keys = StaticKeys::new([(GITHUB_ISSUER, jwks.as_bytes())])?;
    let bound =
        Bound::new(loaded, IssuerKeys::Given(keys), clock, Some(site.config())).await.map_err(refused)?;
    site.put("ca.pem", &String::from_utf8_lossy(bound.broker().keys().ca_pem()))?;
    site.put("url", &format!("https://{}", bound.address().map_err(refused)?))?;
    bound.run(end_of_input()).await.map_err(refused)
}

/// `mayfly dev`, on any port; tells where by the file `told` in its directory.
pub(crate) async fn dev(dir: &Path) -> Result<()> {
    let options = Options { dir: dir.to_path_buf(), any_port: true };
    let dev = Dev::new(&options, Arc::new(SystemClock)).await.map_err(refused)?;
    let told = dev.told();
    Site(dir.to_path_buf()).put("told", &format!("{}\n{}\n", told.url, told.ca.display()))?;
    dev.run(end_of_input()).await.map_err(refused)
}

/// A service from its start to its first certificate; says when it has it.
pub(crate) async fn first(dir: &Path, evidence: Option<PathBuf>) -> Result<()> {
    let identity = match evidence {
        Some(evidence) => Some(services::start(&Site(dir.to_path_buf()), evidence, CERTIFICATES).await?),
        None => None,
    };
    let mut out = std::io::stdout();
    out.write_all(READY.as_bytes())?;
    out.flush()?;
    drop(identity);
    Ok(())
}

/// What a service says when it is ready.
pub(crate) const READY: &str = "ready\n";

/// As `mayfly server` logs where nothing is configured.
fn log() {
    let filter = tracing_subscriber::EnvFilter::new("info");
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).json().try_init();
}

/// Done when whoever started this process has ended, however that came.
async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut nothing = [0; 64];
    while input.read(&mut nothing).await.is_ok_and(|n| n > 0) {}
}
