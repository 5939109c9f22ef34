//! What the tests of this crate share, and what they show of the whole.

mod ask;
mod broker;
mod certificates;
mod feed;
mod guards;
mod layer;
mod leaving;
#[cfg(feature = "policy")]
mod policy;
mod time;
mod tokens;

use mayfly_domain::{
    CredentialId, Fence, Generation, GenerationId, LeaseId, Observation, Pair, Scopes, SignerId, SpiffeId,
    Subject, TrustDomain, UnixMillis,
};

use crate::judged::{Judged, Kind};

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_250);
pub(crate) const GENERATION: Generation = Generation { number: 3, id: GenerationId([4; 8]) };
pub(crate) const WORKLOAD: &str = "spiffe://acme.internal/ci/payments/deploy";

pub(crate) fn everything() -> Subject {
    Subject::Everything(TrustDomain::parse("acme.internal").unwrap())
}

/// An observation of every workload's dimension, without ancestors.
pub(crate) fn observation() -> Observation {
    Observation::new(GENERATION, [Pair { key: everything().key(), fence: Fence::NONE }], []).unwrap()
}

/// A certificate that was judged.
pub(crate) fn judged() -> Judged {
    Judged {
        kind: Kind::Certificate,
        credential: CredentialId { lease: LeaseId::from_parts(NOW, &[9; 10]), counter: 0 },
        workload: SpiffeId::parse(WORKLOAD).unwrap(),
        owners: None,
        task: None,
        intent: None,
        profile: None,
        scopes: Scopes::default(),
        audience: None,
        expires: NOW.plus(300_000),
        observation: Some(observation()),
        key: None,
        signer: Some(SignerId::from_bytes([5; 16])),
    }
}
