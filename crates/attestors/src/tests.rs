//! A job's real token and a real envelope through the whole of attestation, for both presets.

use std::sync::Arc;

use mayfly_attest::{
    Attested, Envelope, Evidence, NonceKeys, NonceScope, OnOtherKey, RawMatch, RawTrustRule, RuleSet,
    TrustRule, Verifier,
};
use mayfly_domain::{
    Generation, KeyAlg, PublicKey, Reason, Refusal, Secret, Thumbprint, TrustDomain, UnixMillis, envelope,
};
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::issuer::{GITHUB_ISSUER, GITLAB_ISSUER, Job, StandInIssuer};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{OidcAttestor, StaticKeys};

const NOW: UnixMillis = UnixMillis::from_secs(1_790_000_000);
const RPC: &str = "mayfly.v1.WorkloadService/Mint";

fn rule(preset: &str, id: (&str, &str), owners: &[&str], on_other_key: Option<&str>) -> RawTrustRule {
    RawTrustRule {
        name: format!("{preset}-rule"),
        preset: Some(preset.into()),
        spiffe_id: format!("/ci/{{{}}}/deploy", id.0),
        owners: owners.iter().map(|o| (*o).to_owned()).collect(),
        matches: vec![(id.0.into(), RawMatch::Exact(id.1.into()))],
        on_other_key: on_other_key.map(str::to_owned),
        ..RawTrustRule::default()
    }
}

struct Bench {
    verifier: Verifier,
    clock: TestClock,
    issuer: StandInIssuer,
}

fn bench() -> Bench {
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let issuer = StandInIssuer::new();
    let jwks = issuer.jwks().to_string();
    let keys = StaticKeys::new([(GITHUB_ISSUER, &jwks), (GITLAB_ISSUER, &jwks)]).unwrap();
    let attestor = Arc::new(OidcAttestor::new(Arc::new(keys)));
    let rules = [
        rule("github-actions", ("repository_id", "2342108"), &["team:payments", "user:gh-{actor_id}"], None),
        rule("gitlab", ("project_id", "2342108"), &["team:billing"], Some("supersede")),
    ];
    let rules = rules.into_iter().map(|raw| TrustRule::compile(raw, &domain).unwrap()).collect();
    let rules = RuleSet::new(rules).unwrap();
    attestor.set_issuers(rules.issuers());
    let clock = TestClock::at(NOW);
    let verifier = Verifier::new(domain, attestor, Arc::new(clock.clone()));
    verifier.set_rules(rules);
    verifier.set_nonce_keys(NonceKeys::new(vec![Secret::new(vec![1; 32])]).unwrap());
    Bench { verifier, clock, issuer }
}

fn key(seed: u8) -> (Ed25519KeyPair, Thumbprint) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = PublicKey::new(KeyAlg::Ed25519, pair.public_key().as_ref()).unwrap();
    let thumbprint = public.thumbprint();
    (pair, thumbprint)
}

impl Bench {
    async fn attest(&self, pair: &Ed25519KeyPair, token: &str) -> Result<Attested, Refusal> {
        let scope = NonceScope { generation: Generation::default(), store: [3; 16] };
        let public = PublicKey::new(KeyAlg::Ed25519, pair.public_key().as_ref()).unwrap();
        let (nonce, _) = self.verifier.issue_nonce(&scope)?;
        let input = envelope::signing_input(self.verifier.trust_domain(), RPC, &nonce, &public, b"p");
        let signature = pair.sign(&input).as_ref().to_vec();
        let sealed = Envelope { payload: b"p".to_vec(), key: public, nonce, signature };
        let opened = self.verifier.open(&scope, RPC, sealed)?;
        let peer = Some([192, 0, 2, 1].into());
        self.verifier.attest(&opened, &Evidence::Oidc(Secret::new(token.to_owned())), peer).await
    }
}

#[tokio::test]
async fn a_github_job() {
    let bench = bench();
    let (pair, thumbprint) = key(1);
    let token = bench.issuer.github_token(&Job::default(), &format!("acme.internal#{thumbprint}"), NOW);
    let facts = bench.attest(&pair, &token).await.unwrap().into_facts();
    assert_eq!(facts.workload.as_str(), "spiffe://acme.internal/ci/2342108/deploy");
    assert_eq!(facts.task.id.as_str(), "gh-9876543210-1-55501");
    assert_eq!(
        (facts.key, facts.kind, facts.evidence.as_ref().unwrap().on_other_key),
        (thumbprint, "oidc", OnOtherKey::Refuse)
    );
    assert!(facts.evidence.as_ref().unwrap().alias.is_some() && facts.peer.is_some());

    let (thief, _) = key(2);
    assert_eq!(bench.attest(&thief, &token).await.unwrap_err().reason, Reason::EvidenceAudience);
    bench.clock.advance(330_000);
    assert_eq!(bench.attest(&pair, &token).await.unwrap_err().reason, Reason::EvidenceExpired);
}

#[tokio::test]
async fn a_gitlab_job_is_bound_by_first_use_and_so_by_the_store() {
    let bench = bench();
    let token = bench.issuer.gitlab_token(&Job::default(), "acme.internal", NOW);
    let one = bench.attest(&key(1).0, &token).await.unwrap().into_facts();
    let two = bench.attest(&key(2).0, &token).await.unwrap().into_facts();
    let [first, second] = [&one, &two].map(|facts| facts.evidence.clone().unwrap());
    let same = (first.hash, first.alias) == (second.hash, second.alias);
    assert!(same, "the same evidence, whose binding the store decides");
    assert_eq!((first.holder, second.holder), (one.key, two.key), "it belongs to whoever is first");
    assert!(one.key != two.key && one.lease != two.lease);
    assert_eq!(
        (one.task.id.as_str(), one.evidence.as_ref().unwrap().on_other_key),
        ("gl-55501", OnOtherKey::Supersede)
    );
}

#[tokio::test]
async fn another_repository_is_nobody() {
    let bench = bench();
    let (pair, thumbprint) = key(1);
    let job = Job { repository: ("payments".into(), "9".into()), ..Job::default() };
    let token = bench.issuer.github_token(&job, &format!("acme.internal#{thumbprint}"), NOW);
    assert_eq!(bench.attest(&pair, &token).await.unwrap_err().reason, Reason::NoTrustRule);
}
