//! Bad input, end to end: a stable reason, nothing stored, nothing of a secret in the answer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_client::evidence::audience;
use mayfly_client::proof::envelope;
use mayfly_domain::{Clock as _, TrustDomain};
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::issuer::{Alg, SigningKey};
use prost::Message as _;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::Status;

use crate::harness::{Job, Node, Operator, Site, Spec, load_spec, oidc, owner, refused};

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

/// HMAC with the issuer's public RSA modulus for a secret: a verifier that lets the header choose takes it.
fn hmac_with_a_public_key(ground: &Ground) -> String {
    let jwks = ground.site.issuer.jwks();
    let rsa = jwks["keys"].as_array().unwrap().iter().find(|k| k["kid"] == "ci-rsa").unwrap().clone();
    let modulus = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    let header = json!({ "alg": "HS256", "kid": "ci-rsa", "typ": "JWT" }).to_string();
    let claims = ground.claims().to_string();
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &modulus);
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, input.as_bytes())))
}

/// The same octets in another text: the last character has bits that no decoder needs.
fn non_canonical(token: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = token.split_at(token.len() - 1);
    let at = ALPHABET.iter().position(|c| *c == last.as_bytes()[0]).unwrap();
    format!("{rest}{}", char::from(ALPHABET[at + 1]))
}

/// Another signature over the same octets: `n - s` for `s`, which is as good to every ECDSA verifier.
fn malleated(signature: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (r, s) = signature.split_at(32);
    let mut borrow = false;
    let mut negated = [0; 32];
    for n in (0..32).rev() {
        let (one, first) = ORDER[n].overflowing_sub(s[n]);
        let (two, second) = one.overflowing_sub(u8::from(borrow));
        negated[n] = two;
        borrow = first || second;
    }
    [r, &negated].concat()
}

fn malleated_token(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(malleated(&signature)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_evidence_gets_its_reason_and_leaves_nothing() {
    let ground = Ground::new().await;
    let good = ground.job.evidence();
    let now = ground.clock.now().secs();
    let header = |change: fn(&mut Value)| {
        let mut header = ground.good_header();
        change(&mut header);
        ground.sign(&header, &ground.claims())
    };
    let duplicated =
        ground.claims().to_string().replacen('{', r#"{"repository_id":"1","repository_id":"2342108","#, 1);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = ground.node.job(&ground.site, &Spec::default()).await;
    let cases: Vec<(&str, String, &str)> = vec![
        (
            "unknown issuer",
            ground.with(|c| drop(c.insert("iss".into(), json!("https://ci.example")))),
            "ISSUER_UNKNOWN",
        ),
        (
            "no algorithm",
            format!("{}.", {
                let none = header(|h| h["alg"] = json!("none"));
                none.rsplit_once('.').unwrap().0.to_owned()
            }),
            "EVIDENCE_ALGORITHM",
        ),
        ("none with a signature", header(|h| h["alg"] = json!("none")), "EVIDENCE_ALGORITHM"),
        ("HMAC with a public key", hmac_with_a_public_key(&ground), "EVIDENCE_ALGORITHM"),
        ("another key's algorithm", header(|h| h["kid"] = json!("ci-rsa")), "EVIDENCE_ALGORITHM"),
        ("unknown key", header(|h| h["kid"] = json!("ci-2")), "EVIDENCE_SIGNATURE_INVALID"),
        ("critical extension", header(|h| h["crit"] = json!(["exp"])), "EVIDENCE_MALFORMED"),
        ("another kind", header(|h| h["typ"] = json!("at+jwt")), "EVIDENCE_MALFORMED"),
        ("no end", ground.with(|c| drop(c.remove("exp"))), "EVIDENCE_CLAIMS"),
        ("no beginning", ground.with(|c| drop(c.remove("iat"))), "EVIDENCE_CLAIMS"),
        ("no subject", ground.with(|c| drop(c.remove("sub"))), "EVIDENCE_CLAIMS"),
        ("a time in words", ground.with(|c| drop(c.insert("exp".into(), json!("soon")))), "EVIDENCE_CLAIMS"),
        ("a negative time", ground.with(|c| drop(c.insert("iat".into(), json!(-1)))), "EVIDENCE_CLAIMS"),
        (
            "from the future",
            ground.with(|c| {
                c.insert("iat".into(), json!(now + 600));
                c.insert("exp".into(), json!(now + 900));
            }),
            "EVIDENCE_NOT_YET_VALID",
        ),
        (
            "expired",
            ground.with(|c| {
                c.insert("iat".into(), json!(now - 900));
                c.insert("exp".into(), json!(now - 600));
            }),
            "EVIDENCE_EXPIRED",
        ),
        (
            "too long a life",
            ground.with(|c| drop(c.insert("exp".into(), json!(now + 86_400 * 300)))),
            "EVIDENCE_LIFETIME",
        ),
        (
            "two audiences",
            ground.with(|c| {
                let both = json!([c["aud"], "https://else.example"]);
                c.insert("aud".into(), both);
            }),
            "EVIDENCE_AUDIENCE",
        ),
        ("no audience", ground.with(|c| drop(c.remove("aud"))), "EVIDENCE_AUDIENCE"),
        (
            "without the key",
            ground.with(|c| drop(c.insert("aud".into(), json!("acme.internal")))),
            "EVIDENCE_AUDIENCE",
        ),
        (
            "another trust domain's",
            ground.with(|c| {
                let theirs = c["aud"].as_str().unwrap().replace("acme", "staging");
                c.insert("aud".into(), json!(theirs));
            }),
            "EVIDENCE_AUDIENCE",
        ),
        ("another key's", other.evidence(), "EVIDENCE_AUDIENCE"),
        ("no rule's", ground.with(|c| drop(c.insert("repository_id".into(), json!("1")))), "NO_TRUST_RULE"),
        (
            "an id that is a number",
            ground.with(|c| drop(c.insert("repository_id".into(), json!([2_342_108])))),
            "NO_TRUST_RULE",
        ),
        (
            "an empty claim of a template",
            ground.with(|c| drop(c.insert("actor_id".into(), json!("")))),
            "EVIDENCE_CLAIMS",
        ),
        (
            "duplicate members",
            ground.site.issuer.sign_raw(&ground.good_header().to_string(), &duplicated),
            "EVIDENCE_MALFORMED",
        ),
        ("not canonical", non_canonical(&good), "EVIDENCE_MALFORMED"),
        ("padded", format!("{good}=="), "EVIDENCE_MALFORMED"),
        ("white space", format!("{good}\n"), "EVIDENCE_MALFORMED"),
        ("four parts", format!("{good}.x"), "EVIDENCE_MALFORMED"),
        ("nothing", String::new(), "EVIDENCE_MALFORMED"),
        ("too large", ground.with(|c| drop(c.insert("x".into(), json!("x".repeat(16_000))))), "TOO_LARGE"),
        (
            "altered",
            format!(
                "{}{}.{signature}",
                &signed[..signed.len() - 1],
                if signed.ends_with('0') { '1' } else { '0' }
            ),
            "EVIDENCE_MALFORMED",
        ),
        (
            "another token's signature",
            format!("{}.{signature}", ground.job.evidence().rsplit_once('.').unwrap().0),
            "EVIDENCE_SIGNATURE_INVALID",
        ),
        ("no text", "\u{0}.\u{202e}.x".to_owned(), "EVIDENCE_MALFORMED"),
    ];
    let before = ground.alice.stored().await;
    let mut wrong = Vec::new();
    for (name, evidence, expected) in &cases {
        let got = mint(&ground.job, &mint_request(evidence), evidence).await;
        if got.as_ref().err().map(String::as_str) != Some(*expected) {
            wrong.push(format!("{name}: {:?}, not {expected}", got.map(|_| "minted")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");
    let audit = ground.node.audit();
    for (name, evidence, _) in &cases {
        for part in evidence.split('.').filter(|part| part.len() >= 16) {
            assert!(!audit.contains(part), "{name}: the audit file tells a part of the evidence");
        }
    }
    mint(&ground.job, &mint_request(&good), &good).await.unwrap();
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_envelopes_and_nonces_get_their_reason_and_leave_nothing() {
    let ground = Ground::new().await;
    let (job, td) = (&ground.job, &ground.site.trust_domain);
    let good = job.evidence();
    let payload = mint_request(&good).encode_to_vec();
    let foreign = Site::embedded();
    let foreign_node = foreign.start("one").await;
    let foreign_job = foreign_node.job(&foreign, &Spec::default()).await;
    let nonce = async || job.nonce().await.unwrap();
    let made = |rpc: &str, nonce: Vec<u8>| envelope(&job.key, td, rpc, nonce, payload.clone()).unwrap();
    let fresh = made(rpc::MINT, nonce().await);
    let theirs = TrustDomain::parse("staging.internal").unwrap();
    let mut cut = nonce().await;
    cut.pop();
    let mut altered = nonce().await;
    altered[3] ^= 1;
    let large = vec![0; 25 * 1024];
    let other = ground.node.job(&ground.site, &Spec::default()).await;
    let bad = |key: pb::PublicKey| pb::Envelope { key: Some(key), ..fresh.clone() };
    let cases: Vec<(&str, pb::Envelope, &str)> = vec![
        ("for another call", made(rpc::RENEW, nonce().await), "ENVELOPE_SIGNATURE_INVALID"),
        ("for no call", made("", nonce().await), "ENVELOPE_SIGNATURE_INVALID"),
        (
            "for another trust domain",
            envelope(&job.key, &theirs, rpc::MINT, nonce().await, payload.clone()).unwrap(),
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        (
            "another payload",
            pb::Envelope { payload: mint_request("x").encode_to_vec(), ..fresh.clone() },
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        (
            "another nonce",
            pb::Envelope { nonce: nonce().await, ..fresh.clone() },
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        (
            "another's key",
            bad(envelope(&other.key, td, "", vec![], vec![]).unwrap().key.unwrap()),
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        ("no key", pb::Envelope { key: None, ..fresh.clone() }, "ENVELOPE_INVALID"),
        (
            "no algorithm",
            bad(pb::PublicKey { algorithm: 0, ..fresh.key.clone().unwrap() }),
            "ENVELOPE_INVALID",
        ),
        (
            "a key of another form",
            bad(pb::PublicKey { key: vec![4; 64], ..fresh.key.clone().unwrap() }),
            "ENVELOPE_INVALID",
        ),
        ("no signature", pb::Envelope { signature: vec![], ..fresh.clone() }, "ENVELOPE_INVALID"),
        ("a short signature", pb::Envelope { signature: vec![1; 63], ..fresh.clone() }, "ENVELOPE_INVALID"),
        (
            "a signature of zeros",
            pb::Envelope { signature: vec![0; 64], ..fresh.clone() },
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        ("too large", envelope(&job.key, td, rpc::MINT, nonce().await, large).unwrap(), "TOO_LARGE"),
        (
            "not the call's message",
            envelope(&job.key, td, rpc::MINT, nonce().await, vec![0xff; 40]).unwrap(),
            "ENVELOPE_INVALID",
        ),
        ("no nonce", made(rpc::MINT, vec![]), "NONCE_INVALID"),
        ("a cut nonce", made(rpc::MINT, cut), "NONCE_INVALID"),
        ("an altered nonce", made(rpc::MINT, altered), "NONCE_INVALID"),
        ("a foreign nonce", made(rpc::MINT, foreign_job.nonce().await.unwrap()), "NONCE_INVALID"),
    ];
    let before = ground.alice.stored().await;
    let mut wrong = Vec::new();
    for (name, envelope, expected) in cases {
        let got = send(job, envelope, &good).await;
        if got.as_ref().err().map(String::as_str) != Some(expected) {
            wrong.push(format!("{name}: {:?}, not {expected}", got.map(|_| "minted")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let old = made(rpc::MINT, nonce().await);
    ground.clock.advance(60_001);
    assert_eq!(send(job, old, &good).await.unwrap_err(), "NONCE_EXPIRED");
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");
    foreign_node.stop().await;
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_never_mints_again_whatever_became_of_its_lease() {
    let ground = Ground::new().await;
    let job = &ground.job;
    let acceptor = ground.node.acceptor("deploy-api").await;
    let evidence = job.evidence();

    let first = job.envelope(rpc::MINT, mint_request(&evidence).encode_to_vec()).await.unwrap();
    let released = send(job, first.clone(), &evidence).await.unwrap();
    assert_eq!(send(job, first.clone(), &evidence).await.unwrap_err(), "NONCE_USED", "while it lives");
    job.release(&released.lease).await.unwrap();
    assert_eq!(acceptor.lease(&released.lease).await.unwrap_err(), "LEASE_ENDED");
    let again = pb::Envelope { signature: malleated(&first.signature), ..first.clone() };
    let before = ground.alice.stored().await;
    assert_eq!(send(job, first, &evidence).await.unwrap_err(), "NONCE_USED", "after its release");
    assert_eq!(send(job, again, &evidence).await.unwrap_err(), "NONCE_USED", "in another signature");
    assert_eq!(ground.alice.stored().await, before);

    let short = pb::MintRequest { ttl_s: 2, ..mint_request(&evidence) };
    let envelope = job.envelope(rpc::MINT, short.encode_to_vec()).await.unwrap();
    let expired = send(job, envelope.clone(), &evidence).await.unwrap();
    ground.clock.advance(3_000);
    let why = acceptor.lease(&expired.lease).await.unwrap_err();
    assert!(["LEASE_EXPIRED", "LEASE_NOT_FOUND"].contains(&why.as_str()), "{why}");
    assert_eq!(send(job, envelope.clone(), &evidence).await.unwrap_err(), "NONCE_USED", "after its end");
    ground.clock.advance(60_000);
    assert_eq!(send(job, envelope, &evidence).await.unwrap_err(), "NONCE_EXPIRED");
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_first_use_belongs_to_its_first_key_in_every_signature() {
    let ground = Ground::new().await;
    let spec = Spec {
        organisation: ("acme".to_owned(), "72".to_owned()),
        repository: ("billing".to_owned(), "1042".to_owned()),
        git_ref: "refs/heads/main".to_owned(),
        environment: None,
        ..Spec::default()
    };
    let token = ground.site.issuer.gitlab_token(&spec, "acme.internal", ground.clock.now());
    let mint =
        async |job: &Job, token: &str| job.mint_with(token, "billing-report", "report:billing", 0).await;
    mint(&ground.job, &token).await.unwrap();
    mint(&ground.job, &token).await.unwrap();
    let thief = ground.node.job(&ground.site, &spec).await;
    let before = ground.alice.stored().await;
    assert_eq!(refused(mint(&thief, &token).await), "EVIDENCE_BOUND_TO_OTHER_KEY");
    assert_eq!(refused(mint(&thief, &malleated_token(&token)).await), "EVIDENCE_BOUND_TO_OTHER_KEY");
    assert_eq!(ground.alice.stored().await, before);
    assert!(ground.node.audit().contains("EVIDENCE_BOUND_TO_OTHER_KEY"));
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_words_of_a_request_get_their_reason_and_leave_nothing() {
    let ground = Ground::new().await;
    let evidence = ground.job.evidence();
    let base = mint_request(&evidence);
    let with = |change: &dyn Fn(&mut pb::MintRequest)| {
        let mut request = base.clone();
        change(&mut request);
        request
    };
    let profile = |name: &'static str| with(&|r| r.profile = name.to_owned());
    let cases: Vec<(&str, pb::MintRequest, &str)> = vec![
        ("a life past every limit", with(&|r| r.ttl_s = u32::MAX), "INPUT_INVALID"),
        ("a profile with a control character", profile("payments\u{7}deploy"), "INPUT_INVALID"),
        ("a profile in another direction", profile("payments\u{202e}deploy"), "INPUT_INVALID"),
        ("a profile upwards", profile("../payments-deploy"), "INPUT_INVALID"),
        ("a profile of dots", profile(".."), "INPUT_INVALID"),
        ("a profile with a brace", profile("payments}deploy"), "INPUT_INVALID"),
        ("no profile", profile(""), "INPUT_INVALID"),
        (
            "an intent with a control character",
            with(&|r| r.intent = "deploy:pay\u{0}ments".to_owned()),
            "INPUT_INVALID",
        ),
        ("an intent without an object", with(&|r| r.intent = "deploy".to_owned()), "INPUT_INVALID"),
        ("an unlisted intent", with(&|r| r.intent = "destroy:payments".to_owned()), "INTENT_NOT_ALLOWED"),
        ("a reason in another direction", with(&|r| r.reason = "fix \u{2066}x".to_owned()), "INPUT_INVALID"),
        ("a reason of a novel", with(&|r| r.reason = "x".repeat(513)), "INPUT_INVALID"),
        ("a scope with white space", with(&|r| r.scopes = vec!["deploy: write".to_owned()]), "INPUT_INVALID"),
        ("a scope too many", with(&|r| r.scopes = vec!["deploy:admin".to_owned()]), "SCOPE_NOT_ALLOWED"),
        (
            "too many scopes",
            with(&|r| r.scopes = (0..1_000).map(|n| format!("s:{n}")).collect()),
            "TOO_LARGE",
        ),
        ("no evidence", with(&|r| r.evidence = None), "EVIDENCE_MALFORMED"),
    ];
    let before = ground.alice.stored().await;
    let mut wrong = Vec::new();
    for (name, request, expected) in &cases {
        let got = mint(&ground.job, request, &evidence).await;
        if got.as_ref().err().map(String::as_str) != Some(*expected) {
            wrong.push(format!("{name}: {:?}, not {expected}", got.map(|_| "minted")));
        }
    }
    for name in ["team:\u{7}", "team:a\u{202e}b", "team:a}b", "team", ":", "team:a b"] {
        let got = refused(ground.alice.revoke(owner(name), true).await);
        if got != "INPUT_INVALID" {
            wrong.push(format!("owner {name:?}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let typo = ground.alice.revoke(owner("team:paiments"), false).await.unwrap_err();
    assert_eq!(typo.code, "NOT_FOUND");

    // What does not exist looks like what is not allowed, whatever is compared.
    let answers = [("no-such-profile", "deploy:payments"), ("billing-report", "report:billing")];
    let mut told = Vec::new();
    for (profile, intent) in answers {
        let answer = ground.job.mint_with(&evidence, profile, intent, 0).await.unwrap_err();
        let next = answer.next.replace(answer.request.as_deref().unwrap(), "REQUEST");
        told.push((answer.code, answer.message, next, answer.facts));
    }
    assert_eq!(told[0].0, "PROFILE_NOT_ALLOWED");
    assert_eq!(told[0], told[1]);
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");

    // No life asked for is the profile's default; one too long is cut to what policy grants.
    let long = mint(&ground.job, &with(&|r| r.ttl_s = 3_600), &evidence).await.unwrap();
    assert!(long.expires_ms <= ground.clock.now().plus(900_000).0);
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_workload_is_out_of_reach() {
    let ground = Ground::new().await;
    let mine = ground.node.job(&ground.site, &load_spec("1", "run-1")).await;
    let lease = mine.mint("load", "use:load").await.unwrap().lease;
    // Another repository, which a rule gives task ids of the same form.
    let mut spec = load_spec("2", "run-1");
    spec.repository.1 = "778".to_owned();
    let other = ground.node.job(&ground.site, &spec).await;
    let before = ground.alice.stored().await;
    assert_eq!(refused(other.mint("load", "use:load").await), "TASK_OF_ANOTHER_WORKLOAD");
    assert_eq!(refused(other.complete().await), "TASK_OF_ANOTHER_WORKLOAD");
    let release = refused(other.release(&lease).await);
    assert!(["LEASE_NOT_FOUND", "LEASE_OF_ANOTHER"].contains(&release.as_str()), "{release}");
    // The same workload with another key.
    let again = ground.node.job(&ground.site, &load_spec("1", "run-1")).await;
    let renewal = refused(again.renew(&lease).await);
    assert!(["LEASE_NOT_FOUND", "LEASE_OF_ANOTHER"].contains(&renewal.as_str()), "{renewal}");
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");
    let acceptor = ground.node.acceptor("load-api").await;
    assert_eq!(acceptor.lease(&lease).await, Ok(()));

    // Claims that would climb out of their place are escaped.
    let climber = ground.node.job(&ground.site, &load_spec("3", "../../mayfly/operator/alice}")).await;
    let climbed = climber.mint("load", "use:load").await.unwrap();
    let lease = ground.alice.leases(Some(owner("user:3"))).await.remove(0);
    assert_eq!(lease.id, climbed.lease);
    assert!(lease.workload.starts_with("spiffe://acme.internal/ci/load/"), "{}", lease.workload);
    assert_eq!(lease.workload.matches('/').count(), 5, "{}", lease.workload);
    ground.node.stop().await;
}
