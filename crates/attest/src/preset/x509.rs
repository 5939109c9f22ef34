//! Certificates of an authority of one's own: devices, machines, services.
//!
//! The authority is chosen by the rule, so that the names which it checks (URIs, DNS names) anchor a rule; a common
//! name or an address is a name like any other.

use mayfly_domain::defaults;

use super::{Bind, Preset};

/// What makes a certificate's name safe: what the authority vouches for and gives to one holder.
const IDS: &[&str] = &["uri", "dns", "id", "serial", "spki_sha256", "fingerprint"];

pub(super) const X509: Preset = Preset {
    name: "x509",
    issuer: None,
    bind: Bind::Proof,
    anchors: IDS,
    names: &[("cn", IDS), ("subject", IDS), ("email", IDS), ("ip", IDS), ("issuer_cn", IDS)],
    name_anchors: &["cn", "subject", "email", "ip"],
    broad: &[],
    starts: &["uri", "dns", "cn"],
    // The authority's ECDSA signature has a second form that verifies too, and the fingerprint covers it.
    match_only: &["fingerprint"],
    hex: &["id", "serial", "spki_sha256", "fingerprint"],
    evidence_life: defaults::X509_LINEAGE,
    evidence_life_max: defaults::LINEAGE_MAX,
    // A service's task has no completion.
    window: (defaults::LINEAGE_MAX, defaults::LINEAGE_MAX),
    task: &["x509-{id}"],
    task_shared: None,
    claims: &[
        "id",
        "serial",
        "cn",
        "subject",
        "dns",
        "uri",
        "email",
        "ip",
        "issuer_cn",
        "fingerprint",
        "spki_sha256",
        "not_after",
    ],
};
