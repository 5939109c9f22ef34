//! A certificate as files: the names that servers expect, and which of them is secret.

use std::io;

use mayfly_client::Svid;

use crate::files::{Entry, PUBLIC, SECRET, SetDir};

/// The leaf and its intermediates, PEM.
pub(crate) const CHAIN: &str = "tls.crt";
/// The private key, PKCS#8 as PEM.
pub(crate) const KEY: &str = "tls.key";
/// What verifies other workloads, PEM.
pub(crate) const ANCHORS: &str = "ca.crt";

/// Replaces all three at once.
///
/// # Errors
/// What the system says; the old ones stay.
pub(crate) fn put(set: &SetDir, svid: &Svid, anchors: &str) -> io::Result<()> {
    let (chain, key) = (svid.chain_pem(), svid.key_pem());
    let entry = |name, octets, mode| Entry { name, octets, mode };
    set.put(&[
        entry(CHAIN, chain.as_bytes(), PUBLIC),
        entry(KEY, key.expose().as_bytes(), SECRET),
        entry(ANCHORS, anchors.as_bytes(), PUBLIC),
    ])
}
