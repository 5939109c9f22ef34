//! Jobs with their keys: what they sign, and what they ask for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_attest::Evidence;
use mayfly_attest::envelope::Envelope;
use mayfly_domain::{KeyAlg, ProfileName, PublicKey, Scopes, Secret, UnixMillis, envelope};
use mayfly_policy::Claimed;
use mayfly_testkit::issuer::Job;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::site::{API, domain, text};
use crate::{CheckInput, Credential, Issued, RequestId};

/// A job with its key.
pub(super) struct Worker {
    pair: EcdsaKeyPair,
    pub(super) public: PublicKey,
    pub(super) job: Job,
    pub(super) gitlab: bool,
}

impl Worker {
    fn new(job: Job, gitlab: bool) -> Self {
        let rng = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &rng).unwrap();
        let public = PublicKey::new(KeyAlg::P256, pair.public_key().as_ref()).unwrap();
        Self { pair, public, job, gitlab }
    }

    /// A job on GitHub, whose tokens name its key.
    pub(super) fn payments(run: &str) -> Self {
        Self::new(Job { run_id: run.to_owned(), ..Job::default() }, false)
    }

    /// A job on GitLab, whose one token is bound by its first use.
    pub(super) fn billing(project: &str, job: &str) -> Self {
        let named = |name: &str, id: &str| (name.to_owned(), id.to_owned());
        let job = Job {
            organisation: named("acme", "72"),
            repository: named("billing", project),
            job_id: job.to_owned(),
            git_ref: "refs/heads/main".to_owned(),
            environment: None,
            ..Job::default()
        };
        Self::new(job, true)
    }

    /// The same job with another key.
    pub(super) fn other_key(&self) -> Self {
        Self::new(self.job.clone(), self.gitlab)
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        let mut spki = vec![
            0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce,
            0x3d, 3, 1, 7, 3, 0x42, 0,
        ];
        spki.extend_from_slice(self.public.as_bytes());
        spki
    }

    pub(super) fn envelope(&self, nonce: Vec<u8>, rpc: &str) -> Envelope {
        let rpc = format!("mayfly.v1.WorkloadService/{rpc}");
        let input = envelope::signing_input(&domain(), &rpc, &nonce, &self.public, b"");
        let signature = self.pair.sign(&SystemRandom::new(), &input).unwrap().as_ref().to_vec();
        Envelope { payload: Vec::new(), key: self.public.clone(), nonce, signature }
    }

    /// A DPoP proof for a request to [`API`].
    pub(super) fn proof(&self, token: &str, method: &str, now: UnixMillis) -> String {
        let (x, y) = self.public.as_bytes()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let claims = json!({
            "jti": RequestId::new(now).to_string(), "htm": method, "htu": API, "iat": now.secs(),
            "ath": URL_SAFE_NO_PAD.encode(hash),
        });
        let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let input = format!("{}.{}", part(&header), part(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(super) fn evidence(token: &str) -> Evidence {
    Evidence::Oidc(Secret::new(token.to_owned()))
}

pub(super) fn claim(profile: &str, intent: &str) -> Claimed {
    Claimed {
        profile: ProfileName::parse(profile).unwrap(),
        intent: Some(intent.parse().unwrap()),
        reason: Some(text("release 1.4")),
        ttl: None,
        scopes: Scopes::default(),
        names: Vec::new(),
        kind: None,
    }
}

pub(super) fn deploy() -> Claimed {
    claim("payments-deploy", "deploy:payments")
}

pub(super) fn report() -> Claimed {
    claim("billing-report", "report:billing")
}

pub(super) fn bearer(issued: &Issued) -> CheckInput {
    CheckInput {
        credential: Credential::Token(issued.token().unwrap().compact().expose().clone()),
        dpop: None,
        peer: None,
        method: "POST".to_owned(),
        url: API.to_owned(),
        request: None,
    }
}
