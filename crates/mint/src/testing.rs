//! What the tests of this crate share: a lease record and keys.

use mayfly_domain::{
    AcceptorMode, Audience, Binding, CredentialKind, Fence, Generation, GenerationId, Intent, LeaseId,
    LeaseState, Observation, Owner, Owners, Pair, Scope, Scopes, SignerId, SpiffeId, Subject, TaskId,
    Thumbprint, TrustDomain, UnixMillis,
};
use mayfly_lease::{LeaseBody, LeaseRecord};

use crate::keyring::KeyRing;
use crate::keyset::KeySet;

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_250);
pub(crate) const ISSUER: &str = "https://mayfly.acme.internal:8443";

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

pub(crate) fn key_set() -> KeySet {
    KeySet::init(&domain(), NOW).unwrap()
}

pub(crate) fn ring() -> KeyRing {
    KeyRing::new(&key_set()).unwrap()
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
