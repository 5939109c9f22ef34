//! Redis as the configuration names it.

use std::path::Path;
use std::sync::Arc;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal, Secret};
use mayfly_lease::LeaseStore;
use mayfly_store::redis::{RedisConfig, RedisStore};

use crate::config;

/// The longest password or CA file, in octets.
const FILE_MAX: u64 = 256 * 1024;

/// Opens the store. Nothing is awaited: it connects, and connects again, by itself.
///
/// # Errors
/// `CONFIG_INVALID` for a file that can't be read or an address that can't be used.
pub(crate) fn open(redis: &config::RedisStore, clock: &SharedClock) -> Result<Arc<dyn LeaseStore>, Refusal> {
    let mut settings = RedisConfig::new(redis.url.without_user());
    settings.username.clone_from(&redis.url.username);
    if let Some(path) = &redis.password_file {
        let text = Secret::new(String::from_utf8(read(path)?).map_err(|_| invalid(path, "is not UTF-8"))?);
        settings.password = Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()));
    }
    settings.ca_pem = redis.ca_file.as_deref().map(read).transpose()?;
    settings.wait_replicas = redis.wait_replicas;
    let store = RedisStore::open(settings, clock.clone()).map_err(|e| {
        Refusal::new(Reason::ConfigInvalid, e.to_string()).fact("problem", format!("store: {e}"))
    })?;
    Ok(Arc::new(store))
}

fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    let bytes = std::fs::metadata(path).and_then(|m| {
        if m.len() > FILE_MAX { Err(std::io::Error::other("is too large")) } else { std::fs::read(path) }
    });
    bytes.map_err(|e| invalid(path, e))
}

fn invalid(path: &Path, why: impl std::fmt::Display) -> Refusal {
    let what = format!("{}: {why}", path.display());
    Refusal::new(Reason::ConfigInvalid, what.clone()).fact("problem", what)
}
