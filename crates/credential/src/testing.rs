//! What the tests of this crate share: keys that sign, and a token's claims.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{
    Fence, Generation, GenerationId, KeyAlg, LeaseId, Observation, Owner, Pair, PublicKey, Subject,
    UnixMillis,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_250);
pub(crate) const ISSUER: &str = "https://mayfly.acme.internal:8443";

enum Signing {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key that signs.
pub(crate) struct Key {
    pair: Signing,
    public: PublicKey,
}

impl Key {
    pub(crate) fn new(alg: KeyAlg) -> Self {
        let rng = SystemRandom::new();
        let (pair, octets) = match alg {
            KeyAlg::P256 => {
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
                let octets = pair.public_key().as_ref().to_vec();
                (Signing::P256(pair), octets)
            }
            KeyAlg::Ed25519 => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
                let octets = pair.public_key().as_ref().to_vec();
                (Signing::Ed25519(pair), octets)
            }
        };
        Self { pair, public: PublicKey::new(alg, &octets).unwrap() }
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A compact JWS with these octets.
    pub(crate) fn signed(&self, header: &str, payload: &str) -> String {
        self.signed_as(&URL_SAFE_NO_PAD.encode(header), payload)
    }

    /// The same, with a header that is encoded already.
    pub(crate) fn signed_as(&self, header: &str, payload: &str) -> String {
        let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = match &self.pair {
            Signing::P256(pair) => {
                pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec()
            }
            Signing::Ed25519(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
        };
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(crate) fn observation() -> Observation {
    let generation = Generation { number: 3, id: GenerationId([4; 8]) };
    let key = Subject::Owner(Owner::parse("team:payments").unwrap()).key();
    Observation::new(generation, [Pair { key, fence: Fence::new(5).unwrap() }], []).unwrap()
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    let lease = LeaseId::from_parts(NOW, &[9; 10]);
    json!({
        "iss": ISSUER,
        "sub": "spiffe://acme.internal/ci/payments/deploy",
        "aud": "https://deploy.acme.internal",
        "client_id": "spiffe://acme.internal/ci/payments/deploy",
        "iat": NOW.secs(),
        "exp": NOW.secs() + 300,
        "jti": format!("{lease}.2"),
        "scope": "a:read b:write",
        "cnf": {"jkt": URL_SAFE_NO_PAD.encode([7; 32])},
        "mf_own": ["team:payments"],
        "mf_task": "gh-77-1",
        "mf_int": "deploy:payments",
        "mf_obs": URL_SAFE_NO_PAD.encode(observation().encode()),
    })
}
