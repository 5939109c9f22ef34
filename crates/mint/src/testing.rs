//! What the tests of this crate share: a lease record and keys.

use std::collections::BTreeMap;

use mayfly_domain::{
    AcceptorMode, Audience, Binding, CredentialKind, Fence, Generation, GenerationId, Intent, KeyAlg,
    LeaseId, LeaseState, Observation, Owner, Owners, Pair, PublicKey, San, Scope, Scopes, SignerId, SpiffeId,
    Subject, TaskId, Thumbprint, TrustDomain, UnixMillis,
};
use mayfly_lease::{LeaseBody, LeaseRecord, X509Body};

use crate::custody::Custody;
use crate::keyring::KeyRing;
use crate::keyset::KeySet;

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_250);
pub(crate) const ISSUER: &str = "https://mayfly.acme.internal:8443";

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

pub(crate) fn key_set() -> KeySet {
    KeySet::init(&domain(), &Custody::sealed(), NOW).unwrap()
}

pub(crate) fn ring() -> KeyRing {
    KeyRing::new(&key_set(), &Custody::sealed()).unwrap()
}

pub(crate) fn record() -> LeaseRecord {
    let owner = Owner::parse("team:payments").unwrap();
    let key = Subject::Owner(owner.clone()).key();
    let generation = Generation { number: 3, id: GenerationId([4; 8]) };
    LeaseRecord {
        id: LeaseId::from_parts(NOW, &[9; 10]),
        state: LeaseState::Active,
        flags: 0,
        counter: 2,
        issued: NOW,
        expires: UnixMillis::from_secs(NOW.secs() + 300),
        renewable_until: NOW.plus(86_400_000),
        confirm_by: NOW,
        revocation: None,
        signer: SignerId::from_bytes([5; 16]),
        observation: Observation::new(generation, [Pair { key, fence: Fence::new(5).unwrap() }], []).unwrap(),
        body: LeaseBody {
            kind: CredentialKind::Token,
            workload: SpiffeId::parse("spiffe://acme.internal/ci/payments/deploy").unwrap(),
            owners: Owners::new([owner]).unwrap(),
            task: Some(TaskId::parse("gh-77-1").unwrap()),
            intent: Some(Intent::parse("deploy:payments").unwrap()),
            profile: None,
            integration: None,
            audience: Some(Audience::parse("https://deploy.acme.internal").unwrap()),
            scopes: Scopes::new(["b:write", "a:read"].map(|s| Scope::parse(s).unwrap())).unwrap(),
            key: Thumbprint::from_bytes([7; 32]),
            binding: Binding::Dpop,
            acceptors: AcceptorMode::Online,
            rule: None,
            evidence: None,
            x509: None,
        },
    }
}

/// The lease of a workload's certificate for `key`, to be signed by the ring's authority.
pub(crate) fn x509_record(ring: &KeyRing, key: &PublicKey) -> LeaseRecord {
    let mut record = record();
    record.body.kind = CredentialKind::X509;
    record.body.key = key.thumbprint();
    record.body.binding = Binding::Mtls;
    record.signer = ring.workload_signer_id();
    (record.body.audience, record.body.scopes) = (None, Scopes::default());
    record.body.x509 = Some(X509Body {
        names: vec![San::dns("deploy.payments.svc").unwrap(), San::ip("10.1.2.3").unwrap()],
        client: true,
        server: true,
        environment: None,
        tags: BTreeMap::new(),
    });
    record
}

/// A workload's key, for a request or a handshake.
pub(crate) fn key_pair(alg: KeyAlg) -> (rcgen::KeyPair, PublicKey) {
    let rcgen_alg = match alg {
        KeyAlg::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyAlg::Ed25519 => &rcgen::PKCS_ED25519,
    };
    let pair = rcgen::KeyPair::generate_for(rcgen_alg).unwrap();
    let key = PublicKey::new(alg, pair.public_key_raw()).unwrap();
    (pair, key)
}
