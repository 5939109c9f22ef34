//! The trust bundle as it leaves: for `WatchBundle`, with a certificate, and in SPIFFE's format over HTTPS.
//!
//! Says what verifies workloads' credentials; must never name the root among the anchors, which certifies operators and
//! brokers too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_credential::spki;
use mayfly_mint::Bundle;
use mayfly_proto::v1;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How often a reader should look again, in seconds.
const REFRESH_S: u64 = 60;

/// The wire's form.
pub(crate) fn wire(bundle: &Bundle) -> v1::TrustBundle {
    let der = |all: &[CertificateDer<'static>]| all.iter().map(|c| c.to_vec()).collect();
    v1::TrustBundle {
        version: bundle.version,
        trust_domain: bundle.trust_domain.to_string(),
        workload_anchors: der(&bundle.workload_anchors),
        roots: der(&bundle.roots),
        jwks: bundle.jwks.to_vec(),
    }
}

/// A JWK Set whose keys are the anchors of workloads' certificates (SPIFFE Trust Domain and Bundle section 4, X509-SVID
/// section 6.2). Token keys are not among them: an access token is no JWT-SVID.
pub(crate) fn spiffe(bundle: &Bundle) -> String {
    let keys: Vec<serde_json::Value> = bundle.workload_anchors.iter().filter_map(anchor).collect();
    let document = serde_json::json!({
        "keys": keys,
        "spiffe_sequence": bundle.version,
        "spiffe_refresh_hint": REFRESH_S,
    });
    document.to_string()
}

fn anchor(certificate: &CertificateDer<'static>) -> Option<serde_json::Value> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = spki::public_key(parsed.public_key().raw).ok()?;
    let mut jwk: serde_json::Value = serde_json::from_str(&key.canonical_jwk()).ok()?;
    let members = jwk.as_object_mut()?;
    members.insert("use".to_owned(), "x509-svid".into());
    members.insert("x5c".to_owned(), vec![STANDARD.encode(certificate)].into());
    Some(jwk)
}

#[cfg(test)]
mod tests {
    use mayfly_domain::{TrustDomain, UnixMillis};
    use mayfly_mint::{Custody, KeyRing, KeySet};

    use super::*;

    #[test]
    fn the_bundle_holds_the_issuing_authority_and_not_the_root() {
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let custody = Custody::sealed();
        let set = KeySet::init(&domain, &custody, UnixMillis(1_800_000_000_000)).unwrap();
        let ring = KeyRing::new(&set, &custody).unwrap();
        let document: serde_json::Value = serde_json::from_str(&spiffe(ring.bundle())).unwrap();
        let keys = document["keys"].as_array().unwrap();
        assert_eq!((keys.len(), &document["spiffe_sequence"]), (1, &1.into()));
        assert_eq!((&keys[0]["use"], &keys[0]["kty"]), (&"x509-svid".into(), &"EC".into()));
        let shown = STANDARD.decode(keys[0]["x5c"][0].as_str().unwrap()).unwrap();
        assert_eq!(shown, ring.bundle().workload_anchors[0].as_ref());
        assert_ne!(shown, ring.root().as_ref());
        let wire = wire(ring.bundle());
        assert_eq!((wire.version, wire.workload_anchors, wire.roots.len()), (1, vec![shown], 1));
    }
}
