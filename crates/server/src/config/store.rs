//! `[store]`: where leases are kept.

use std::path::PathBuf;

use super::kinds::{count, list, path, text, word};
use super::reader::Reader;
use super::urls::{RedisUrl, redis_url};

/// The risk of a connection without TLS to another machine, by the name that accepts it.
pub const RISK_PLAINTEXT: &str = "plaintext";

/// The lease store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// One file in the state directory; for one broker.
    Embedded,
    /// A Redis server.
    Redis(RedisStore),
}

/// A Redis server and what the deployment declares about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStore {
    /// Where it is.
    pub url: RedisUrl,
    /// The file with the user's password, read at each connection.
    pub password_file: Option<PathBuf>,
    /// The CA certificates (PEM) that its certificate must lead to; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Settings that could forget a revocation and are accepted, by name.
    pub accept_risks: Vec<String>,
    /// Replicas that must have a revocation before it is acknowledged.
    pub wait_replicas: u32,
}

pub(super) fn store(r: Reader<'_>) -> Option<Store> {
    let url = r.optional("url", word(redis_url));
    let password_file = r.optional("password_file", path);
    let ca_file = r.optional("ca_file", path);
    let accept_risks = r.all("accept_risks", list(16, text(64)));
    let wait_replicas = r.or("wait_replicas", count(0..=16), 0);
    if let Some(url) = &url {
        let accepted = accept_risks.iter().any(|risk| risk == RISK_PLAINTEXT);
        if !url.tls && !url.is_loopback() && !accepted {
            r.wrong("url", "has no TLS and is not on this machine; use `rediss://`, or accept the risk `plaintext` by name");
        }
        if !url.tls && ca_file.is_some() {
            r.wrong("ca_file", "is of no use without TLS; use `rediss://`");
        }
    }
    let (present, has_url) = (r.exists(), r.has("url"));
    if present && !has_url {
        r.wrong("url", "is missing; leave `[store]` out for the embedded store");
    }
    r.finish();
    match url {
        Some(url) => {
            Some(Store::Redis(RedisStore { url, password_file, ca_file, accept_risks, wait_replicas }))
        }
        None if present || has_url => None,
        None => Some(Store::Embedded),
    }
}
