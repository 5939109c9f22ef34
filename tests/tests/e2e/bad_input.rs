//! Bad input, end to end: a stable reason, nothing stored, nothing of a secret in the answer.

mod certificates;
mod envelopes;
mod evidence;
mod words;

use mayfly_client::evidence::audience;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::issuer::{Alg, SigningKey};
use prost::Message as _;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::Status;

use crate::harness::{Job, Node, Operator, Site, Spec, oidc};

const KID: &str = "ci-1";

struct Ground {
    site: Site,
    clock: TestClock,
    node: Node,
    job: Job,
    alice: Operator,
}

impl Ground {
    async fn new() -> Self {
        let clock = TestClock::from_system();
        let mut site = Site::with_clock(Arc::new(clock.clone()));
        site.sign_with(vec![
            SigningKey::generate(Alg::Es256, KID),
            SigningKey::generate(Alg::Rs256, "ci-rsa"),
        ]);
        let node = site.start("one").await;
        let job = node.job(&site, &Spec::default()).await;
        let alice = node.operator("alice").await;
        Self { site, clock, node, job, alice }
    }

    /// Claims of a good token for the job's key.
    fn claims(&self) -> Value {
        Value::Object(self.job.claims(&self.own_audience()))
    }

    fn own_audience(&self) -> String {
        audience(&self.site.trust_domain, &self.job.key.public().thumbprint())
    }

    /// Signs these claims with a header of the test's own.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.site.issuer.sign_raw(&header.to_string(), &claims.to_string())
    }

    fn good_header(&self) -> Value {
        json!({ "alg": "ES256", "kid": KID, "typ": "JWT" })
    }

    /// A token of good claims, changed by `change`.
    fn with(&self, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
        let mut claims = self.claims();
        change(claims.as_object_mut().unwrap());
        self.sign(&self.good_header(), &claims)
    }
}

/// The refusal's code; the whole answer must hold nothing of the secrets.
fn code_of(status: &Status, secrets: &[&str]) -> String {
    let mut told = status.message().as_bytes().to_vec();
    told.extend_from_slice(status.details());
    told.extend_from_slice(format!("{:?}", status.metadata()).as_bytes());
    for secret in secrets.iter().flat_map(|s| s.split('.')).filter(|part| part.len() >= 16) {
        let found = told.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "an answer tells a part of a secret: {status:?}");
    }
    mayfly_client::Failure::from(status.clone()).code.into_owned()
}

fn mint_request(evidence: &str) -> pb::MintRequest {
    pb::MintRequest {
        evidence: Some(oidc(evidence)),
        profile: "payments-deploy".to_owned(),
        intent: "deploy:payments".to_owned(),
        ..Default::default()
    }
}

async fn mint(job: &Job, request: &pb::MintRequest, secret: &str) -> Result<pb::MintResponse, String> {
    let envelope = job.envelope(rpc::MINT, request.encode_to_vec()).await.unwrap();
    send(job, envelope, secret).await
}

async fn send(job: &Job, envelope: pb::Envelope, secret: &str) -> Result<pb::MintResponse, String> {
    let answer = job.rpc.clone().mint(envelope).await;
    answer.map(tonic::Response::into_inner).map_err(|status| code_of(&status, &[secret]))
}
