//! Envelopes and the order of work, with a fake attestor that counts how often it is asked.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use mayfly_domain::{
    Clock, EvidenceHash, Generation, GenerationId, KeyAlg, PublicKey, Secret, defaults, envelope,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::evidence::{Challenge, ClaimValue, Judged, Verified};
use crate::raw::{RawMatch, RawTask, RawTrustRule};
use crate::rule::TrustRule;

const MINT: &str = "mayfly.v1.WorkloadService/Mint";
const START: u64 = 1_800_000_000_000;

#[derive(Debug)]
struct StoppedClock(AtomicU64);

impl Clock for StoppedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// Answers with the audience that it is given as evidence.
#[derive(Default)]
struct Fake(AtomicUsize);

#[async_trait]
impl Attestor for Fake {
    async fn verify(
        &self,
        evidence: &Evidence,
        _: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let Evidence::Oidc(audience) = evidence else { unreachable!("only tokens are shown here") };
        let text = |t: &str| ClaimValue::Text(t.to_owned());
        Ok(Judged::Foreign(Verified {
            kind: "oidc",
            issuer: "https://issuer.example".into(),
            audience: audience.expose().clone(),
            claims: [("sub".to_owned(), text("robot")), ("job".to_owned(), text("J7"))].into(),
            hash: EvidenceHash::of(b"token"),
            alias: None,
            issued_at: now,
            expires: now.plus(300_000),
            holder: None,
        }))
    }
}

struct Bench {
    verifier: Verifier,
    clock: Arc<StoppedClock>,
    attestor: Arc<Fake>,
    pair: EcdsaKeyPair,
}

fn scope() -> NonceScope {
    NonceScope { generation: Generation { number: 1, id: GenerationId([1; 8]) }, store: [2; 16] }
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn pair() -> EcdsaKeyPair {
    let rng = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &rng).unwrap()
}

fn public(pair: &EcdsaKeyPair) -> PublicKey {
    PublicKey::new(KeyAlg::P256, pair.public_key().as_ref()).unwrap()
}

fn bench() -> Bench {
    let (clock, attestor) = (Arc::new(StoppedClock(AtomicU64::new(START))), Arc::new(Fake::default()));
    let verifier = Verifier::new(domain("acme.internal"), attestor.clone(), clock.clone());
    verifier.set_nonce_keys(NonceKeys::new(vec![Secret::new(vec![5; 32])]).unwrap());
    let raw = RawTrustRule {
        name: "robots".into(),
        issuer: Some("https://issuer.example".into()),
        bind: Some("audience".into()),
        spiffe_id: "/robots/{job}".into(),
        owners: vec!["team:robots".into()],
        matches: vec![("sub".into(), RawMatch::Exact("robot".into()))],
        task: RawTask { id: Some("t-{job}".into()), ..RawTask::default() },
        ..RawTrustRule::default()
    };
    let rule = TrustRule::compile(raw, &domain("acme.internal")).unwrap();
    verifier.set_rules(RuleSet::new(vec![rule]).unwrap());
    Bench { verifier, clock, attestor, pair: pair() }
}

impl Bench {
    fn envelope(&self, trust_domain: &str, rpc: &str, payload: &[u8]) -> Envelope {
        let (nonce, _) = self.verifier.issue_nonce(&scope()).unwrap();
        let key = public(&self.pair);
        let input = envelope::signing_input(&domain(trust_domain), rpc, &nonce, &key, payload);
        let signature = self.pair.sign(&SystemRandom::new(), &input).unwrap().as_ref().to_vec();
        Envelope { payload: payload.to_vec(), key, nonce, signature }
    }

    fn good(&self) -> Envelope {
        self.envelope("acme.internal", MINT, b"payload")
    }

    fn open(&self, envelope: Envelope) -> Result<Opened, Reason> {
        self.verifier.open(&scope(), MINT, envelope).map_err(|e| e.reason)
    }
}

#[test]
fn a_good_envelope_opens_and_names_its_lease() {
    let bench = bench();
    let envelope = bench.good();
    let nonce = mayfly_domain::nonce::Nonce::decode(&envelope.nonce).unwrap();
    let opened = bench.open(envelope).unwrap();
    assert_eq!(opened.payload(), b"payload");
    assert_eq!(opened.thumbprint(), public(&bench.pair).thumbprint());
    assert_eq!(opened.lease(), mayfly_domain::LeaseId::derive(&nonce, &opened.thumbprint()));
    assert_eq!(opened.nonce_issued(), UnixMillis(START));
}

#[test]
fn an_ed25519_key_signs_too() {
    let bench = bench();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let key = PublicKey::new(KeyAlg::Ed25519, pair.public_key().as_ref()).unwrap();
    let (nonce, expires) = bench.verifier.issue_nonce(&scope()).unwrap();
    assert_eq!(expires, UnixMillis(START + 60_000));
    let input = envelope::signing_input(&domain("acme.internal"), MINT, &nonce, &key, b"x");
    let signature = pair.sign(&input).as_ref().to_vec();
    bench.open(Envelope { payload: b"x".to_vec(), key, nonce, signature }).unwrap();
}

#[test]
fn every_foreign_or_altered_envelope_is_refused() {
    type Change = fn(&Bench, &mut Envelope);
    let table: &[(&str, Change, Reason)] = &[
        (
            "another RPC",
            |b, e| *e = b.envelope("acme.internal", "mayfly.v1.WorkloadService/Renew", b"p"),
            Reason::EnvelopeSignature,
        ),
        (
            "another trust domain",
            |b, e| *e = b.envelope("staging.internal", MINT, b"p"),
            Reason::EnvelopeSignature,
        ),
        ("another payload", |_, e| e.payload.push(0), Reason::EnvelopeSignature),
        ("another key", |_, e| e.key = public(&pair()), Reason::EnvelopeSignature),
        (
            "a point off the curve",
            |_, e| e.key = PublicKey::new(KeyAlg::P256, &[4; 65]).unwrap(),
            Reason::EnvelopeSignature,
        ),
        (
            "another nonce of ours",
            |b, e| e.nonce = b.verifier.issue_nonce(&scope()).unwrap().0,
            Reason::EnvelopeSignature,
        ),
        ("an altered signature", |_, e| e.signature[10] ^= 1, Reason::EnvelopeSignature),
        ("a short signature", |_, e| e.signature.truncate(63), Reason::EnvelopeInvalid),
        ("no signature", |_, e| e.signature.clear(), Reason::EnvelopeInvalid),
        ("no nonce", |_, e| e.nonce.clear(), Reason::NonceInvalid),
        ("an altered nonce", |_, e| e.nonce[8] ^= 1, Reason::NonceInvalid),
        ("an old nonce", |b, _| b.clock.0.store(START + 60_001, Ordering::SeqCst), Reason::NonceExpired),
        (
            "too much payload",
            |b, e| *e = b.envelope("acme.internal", MINT, &vec![0; defaults::PAYLOAD_OCTETS_MAX + 1]),
            Reason::TooLarge,
        ),
    ];
    for (what, change, reason) in table {
        let bench = bench();
        let mut envelope = bench.good();
        change(&bench, &mut envelope);
        assert_eq!(bench.open(envelope).unwrap_err(), *reason, "{what}");
    }
}

#[test]
fn the_cheaper_refusal_comes_first() {
    let bench = bench();
    let mut all_wrong = bench.envelope("acme.internal", MINT, &vec![0; defaults::PAYLOAD_OCTETS_MAX + 1]);
    all_wrong.nonce.clear();
    all_wrong.signature = vec![0; 64];
    assert_eq!(bench.open(all_wrong.clone()).unwrap_err(), Reason::TooLarge);
    all_wrong.payload.clear();
    assert_eq!(bench.open(all_wrong).unwrap_err(), Reason::NonceInvalid);
}

#[test]
fn without_nonce_keys_nothing_opens() {
    let bench = bench();
    let envelope = bench.good();
    let empty = Verifier::new(domain("acme.internal"), bench.attestor.clone(), bench.clock.clone());
    assert_eq!(empty.issue_nonce(&scope()).unwrap_err().reason, Reason::NotServing);
    assert_eq!(empty.open(&scope(), MINT, envelope).unwrap_err().reason, Reason::NotServing);
}

fn evidence(audience: &str) -> Evidence {
    Evidence::Oidc(Secret::new(audience.to_owned()))
}

#[tokio::test]
async fn attestation_puts_the_facts_together() {
    let bench = bench();
    let opened = bench.open(bench.good()).unwrap();
    let audience = format!("acme.internal#{}", opened.thumbprint());
    let attested = bench.verifier.attest(&opened, &evidence(&audience), None).await.unwrap();
    assert!(!attested.deadline().has_passed());
    let facts = attested.into_facts();
    assert_eq!(facts.workload.as_str(), "spiffe://acme.internal/robots/_4a7");
    assert_eq!((facts.task.id.as_str(), facts.rule.as_ref().unwrap().as_str()), ("t-_4a7", "robots"));
    assert_eq!((facts.key, facts.lease, facts.at), (opened.thumbprint(), opened.lease(), UnixMillis(START)));
    assert_eq!(facts.evidence.as_ref().unwrap().issued_at, UnixMillis(START));
}

#[tokio::test]
async fn a_stolen_token_is_refused_with_another_key() {
    let bench = bench();
    let opened = bench.open(bench.good()).unwrap();
    let thief = public(&pair()).thumbprint();
    let refused = bench.verifier.attest(&opened, &evidence(&format!("acme.internal#{thief}")), None).await;
    assert_eq!(refused.unwrap_err().reason, Reason::EvidenceAudience);
}

#[tokio::test]
async fn without_a_rule_there_is_no_identity() {
    let bench = bench();
    let opened = bench.open(bench.good()).unwrap();
    bench.verifier.set_rules(RuleSet::default());
    let refused = bench.verifier.attest(&opened, &evidence("x"), None).await.unwrap_err();
    assert_eq!(refused.reason, Reason::IssuerUnknown);
    assert_eq!(bench.attestor.0.load(Ordering::SeqCst), 1);
    assert!(bench.verifier.rules().rules().is_empty());
}
