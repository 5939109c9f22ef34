//! The key ring: a key set in the form in which a broker uses it, everything parsed and prebuilt.
//!
//! Brokers swap it whole when the key set changes. Must never be changed in place.

use std::sync::Arc;

use base64::Engine as _;
use mayfly_credential::{Anchors, TokenKey, TokenKeys};
use mayfly_domain::{SecretBytes, SignerId, TrustDomain};
use rustls_pki_types::CertificateDer;

use crate::authority::{AuthorityError, AuthorityInfo};
use crate::custody::Custody;
use crate::issuing::{IssuingAuthority, Role};
use crate::keyset::{KeySet, KeySetError, KeyState, TokenKeyInfo};
use crate::signer::Signer;

/// What verifies workloads' credentials, the same at every broker for one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The key set's version.
    pub version: u64,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// For each authority of workloads a certificate of its name and key that is its own issuer. A verifier of
    /// workloads trusts these and nothing above them.
    pub workload_anchors: Vec<CertificateDer<'static>>,
    /// The trust domain's root and the companies' roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// The JWKS document.
    pub jwks: Arc<[u8]>,
}

/// A key set, ready for use.
pub struct KeyRing {
    version: u64,
    trust_domain: TrustDomain,
    infos: Vec<TokenKeyInfo>,
    active: Arc<dyn Signer>,
    active_header: String,
    active_id: SignerId,
    verify: TokenKeys,
    nonces: Vec<SecretBytes>,
    evidence: SecretBytes,
    root: CertificateDer<'static>,
    workload: IssuingAuthority,
    system: IssuingAuthority,
    known: Vec<SignerId>,
    authorities: Vec<AuthorityInfo>,
    system_anchors: Vec<CertificateDer<'static>>,
    bundle: Arc<Bundle>,
    verifier: Arc<Anchors>,
    jwks: Arc<[u8]>,
    ca_pem: Arc<[u8]>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing")
            .field("version", &self.version)
            .field("trust_domain", &self.trust_domain)
            .field("keys", &self.infos)
            .finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Parses a key set. A module that holds some of the keys need not be there: it is asked when they sign.
    ///
    /// # Errors
    /// [`KeySetError`] where a key or certificate of the set can't be used.
    pub fn new(set: &KeySet, custody: &Custody) -> Result<Self, KeySetError> {
        let mut active: Option<Arc<dyn Signer>> = None;
        let mut verify = Vec::new();
        for key in &set.tokens {
            let signer = custody.signer(key.info.alg, &key.key)?;
            verify.push(signer.public_key().clone());
            if key.info.state == KeyState::Active {
                active = Some(signer);
            }
        }
        let active = active.ok_or_else(|| KeySetError::Malformed("no active token key".into()))?;
        let verify = TokenKeys::new(verify);
        let active_header = TokenKey::new(active.public_key().clone()).header().to_owned();
        let anchors = |role| set.authorities.iter().filter(move |a| a.role == role).map(|a| a.anchor.clone());
        let jwks: Arc<[u8]> = verify.jwks().into();
        let mut known: Vec<_> = verify.iter().map(TokenKey::signer).collect();
        for authority in &set.authorities {
            known.push(SignerId::from(authority.key.public(authority.alg)?.thumbprint()));
        }
        let mut roots = vec![set.root.certificate.clone()];
        for root in set.authorities.iter().filter_map(|a| a.imported.last()) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        let (workload_anchors, system_anchors): (Vec<_>, Vec<_>) =
            (anchors(Role::Workload).collect(), anchors(Role::System).collect());
        let verifier = Anchors::new(set.trust_domain(), &workload_anchors, &system_anchors)
            .map_err(AuthorityError::from)?;
        let bundle = Bundle {
            version: set.version(),
            trust_domain: set.trust_domain().clone(),
            workload_anchors,
            roots,
            jwks: jwks.clone(),
        };
        Ok(Self {
            version: set.version(),
            trust_domain: set.trust_domain().clone(),
            infos: set.token_keys().cloned().collect(),
            active_id: SignerId::from(active.public_key().thumbprint()),
            active,
            active_header,
            verify,
            nonces: set.nonces.iter().map(copy).collect(),
            evidence: copy(&set.evidence),
            root: set.root.certificate.clone(),
            workload: issuing(set, custody, Role::Workload)?,
            system: issuing(set, custody, Role::System)?,
            known,
            authorities: set.authorities().collect(),
            system_anchors,
            bundle: Arc::new(bundle),
            verifier: Arc::new(verifier),
            jwks,
            ca_pem: pem(&set.root.certificate).into_bytes().into(),
        })
    }

    /// The key set's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What may be known of the token keys, oldest first.
    pub fn token_keys(&self) -> &[TokenKeyInfo] {
        &self.infos
    }

    /// The key that signs tokens.
    pub fn signer(&self) -> &dyn Signer {
        &*self.active
    }

    /// The signing key's header, as base64url.
    pub(crate) fn signer_header(&self) -> &str {
        &self.active_header
    }

    /// The keys that verify tokens, prepared and retiring ones too.
    pub fn verify_keys(&self) -> &TokenKeys {
        &self.verify
    }

    /// A copy of the keys of the nonces' MAC, newest first: the first makes, all verify.
    pub fn nonce_keys(&self) -> Vec<SecretBytes> {
        self.nonces.iter().map(copy).collect()
    }

    /// The key under which the audit record hashes bearer evidence.
    pub fn evidence_key(&self) -> &SecretBytes {
        &self.evidence
    }

    /// The JWKS document (RFC 7517): every token key, prepared and retiring ones too.
    pub fn jwks(&self) -> &Arc<[u8]> {
        &self.jwks
    }

    /// The trust domain's anchor as PEM: the root alone, since servers send their chain.
    pub fn ca_pem(&self) -> &Arc<[u8]> {
        &self.ca_pem
    }

    /// The root's certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The id of the key that signs tokens, as leases remember it.
    pub fn signer_id(&self) -> SignerId {
        self.active_id
    }

    /// The id of the authority that issues to workloads now, as leases remember it.
    pub fn workload_signer_id(&self) -> SignerId {
        self.workload.id()
    }

    /// Whether what this key signed still counts: a token key or an authority of the set, in whatever state.
    pub fn knows(&self, signer: &SignerId) -> bool {
        self.known.contains(signer)
    }

    /// The authority that issues to workloads now.
    pub fn workload_authority(&self) -> &IssuingAuthority {
        &self.workload
    }

    /// The authority that issues to brokers, operators and acceptors now.
    pub fn system_authority(&self) -> &IssuingAuthority {
        &self.system
    }

    /// What may be known of the authorities.
    pub fn authorities(&self) -> &[AuthorityInfo] {
        &self.authorities
    }

    /// The anchors of a role: for each of its authorities a certificate of its name and key that is its own
    /// issuer. Nothing else verifies that role's certificates, least of all the shared root.
    pub fn anchors(&self, role: Role) -> &[CertificateDer<'static>] {
        match role {
            Role::Workload => &self.bundle.workload_anchors,
            Role::System => &self.system_anchors,
        }
    }

    /// What verifies certificates of both roles, each by its own authorities.
    pub fn verifier(&self) -> &Arc<Anchors> {
        &self.verifier
    }

    /// What verifies workloads' credentials.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }
}

fn issuing(set: &KeySet, custody: &Custody, role: Role) -> Result<IssuingAuthority, KeySetError> {
    let active = set.authorities.iter().find(|a| a.role == role && a.state == KeyState::Active);
    let active = active.ok_or_else(|| KeySetError::Malformed(format!("no active {role} authority")))?;
    Ok(active.issuing(&set.root.certificate, custody.signer(active.alg, &active.key)?)?)
}

fn copy(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose().clone())
}

/// A certificate as PEM (RFC 7468).
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 64);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(64).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use mayfly_domain::{KeyAlg, UnixMillis};

    use super::*;

    #[test]
    fn the_jwks_lists_public_parts_of_every_key() {
        let now = UnixMillis(1_800_000_000_000);
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let custody = Custody::sealed();
        let set = KeySet::init(&domain, &custody, now)
            .unwrap()
            .prepare(Some(KeyAlg::Ed25519), &custody, now)
            .unwrap();
        let ring = KeyRing::new(&set, &custody).unwrap();
        let jwks: serde_json::Value = serde_json::from_slice(ring.jwks()).unwrap();
        let keys = jwks["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(
            (&keys[0]["alg"], &keys[0]["kty"], &keys[0]["crv"]),
            (&"ES256".into(), &"EC".into(), &"P-256".into())
        );
        assert_eq!(
            (&keys[1]["alg"], &keys[1]["kty"], &keys[1]["crv"]),
            (&"EdDSA".into(), &"OKP".into(), &"Ed25519".into())
        );
        for (key, info) in keys.iter().zip(ring.token_keys()) {
            assert_eq!(key["kid"], info.kid.as_str());
            assert_eq!(key["use"], "sig");
            assert!(key.get("d").is_none());
        }
        assert_eq!(ring.signer().kid(), ring.token_keys()[0].kid);
        assert!(std::str::from_utf8(ring.ca_pem()).unwrap().starts_with("-----BEGIN CERTIFICATE-----\nM"));
    }

    #[test]
    fn nothing_private_is_printed() {
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let custody = Custody::sealed();
        let ring = KeyRing::new(&KeySet::init(&domain, &custody, UnixMillis(1)).unwrap(), &custody).unwrap();
        let shown = format!("{ring:?}");
        assert!(!shown.contains("nonces") && !shown.contains("authority"), "{shown}");
    }
}
