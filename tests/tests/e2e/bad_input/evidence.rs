//! Bad evidence, and evidence in the wrong hands.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::Clock as _;
use serde_json::{Value, json};

use super::envelopes::malleated;
use super::{Ground, mint, mint_request};
use crate::harness::{Job, Spec, refused};

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
