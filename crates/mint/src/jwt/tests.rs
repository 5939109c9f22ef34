use mayfly_credential::{TokenVerifier, VerifiedToken};
use mayfly_domain::{KeyAlg, Scopes};
use serde_json::{Value, json};

use super::*;
use crate::custody::Custody;
use crate::keyset::Live;
use crate::testing::{ISSUER, NOW, key_set, record, ring};

fn minted(ring: &KeyRing, record: &LeaseRecord) -> String {
    Minter::new(ISSUER).sign(ring, record, NOW).unwrap().compact().expose().clone()
}

fn judge(ring: &KeyRing, token: &str, now: UnixMillis) -> Result<VerifiedToken, Reason> {
    TokenVerifier::new(ISSUER).verify(ring.verify_keys(), token, now).map_err(|r| r.reason)
}

fn part(token: &str, n: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
}

#[test]
fn a_token_has_the_claims_of_rfc_9068_and_ours() {
    let (ring, record) = (ring(), record());
    let token = minted(&ring, &record);
    assert_eq!(part(&token, 0), json!({"alg": "ES256", "typ": "at+jwt", "kid": ring.signer().kid()}));
    assert_eq!(
        part(&token, 1),
        json!({
            "iss": ISSUER,
            "sub": "spiffe://acme.internal/ci/payments/deploy",
            "aud": "https://deploy.acme.internal",
            "client_id": "spiffe://acme.internal/ci/payments/deploy",
            "iat": NOW.secs(),
            "exp": NOW.secs() + 300,
            "jti": format!("{}.2", record.id),
            "scope": "a:read b:write",
            "cnf": {"jkt": record.body.key.to_string()},
            "mf_own": ["team:payments"],
            "mf_task": "gh-77-1",
            "mf_int": "deploy:payments",
            "mf_obs": URL_SAFE_NO_PAD.encode(record.observation.encode()),
        })
    );
    let verified = judge(&ring, &token, NOW).unwrap();
    assert_eq!(verified.id, record.credential());
    assert_eq!(verified.observation, record.observation);
    assert_eq!(verified.key, Some(record.body.key));
    assert_eq!(verified.scopes, record.body.scopes);
    assert_eq!(verified.expires, record.expires);
}

#[test]
fn bearer_tokens_have_no_key_and_empty_scopes_no_claim() {
    let (ring, mut record) = (ring(), record());
    record.body.binding = Binding::Bearer;
    record.body.scopes = Scopes::default();
    let token = minted(&ring, &record);
    assert!(part(&token, 1).get("cnf").is_none() && part(&token, 1).get("scope").is_none());
    assert_eq!(judge(&ring, &token, NOW).unwrap().key, None);
}

#[test]
fn a_token_ends_at_its_second_without_any_skew() {
    let (ring, mut record) = (ring(), record());
    record.expires = UnixMillis(record.expires.0 + 999);
    let token = minted(&ring, &record);
    let end = record.expires.floor_secs();
    assert_eq!(judge(&ring, &token, end.minus(1)).unwrap().expires, end);
    assert_eq!(judge(&ring, &token, end), Err(Reason::LeaseExpired));
    record.expires = UnixMillis(NOW.floor_secs().0 + 900);
    let none_left = Minter::new(ISSUER).sign(&ring, &record, NOW).map_err(|r| r.reason);
    assert_eq!(none_left.unwrap_err(), Reason::LeaseExpired);
}

#[test]
fn only_a_tokens_lease_gives_a_token() {
    let ring = ring();
    for spoil in [
        (|r: &mut LeaseRecord| r.body.kind = CredentialKind::Operator) as fn(&mut LeaseRecord),
        |r| r.body.audience = None,
        |r| r.body.task = None,
        |r| r.body.intent = None,
    ] {
        let mut record = record();
        spoil(&mut record);
        let refused = Minter::new(ISSUER).sign(&ring, &record, NOW);
        assert_eq!(refused.unwrap_err().reason, Reason::Internal);
    }
}

#[test]
fn rotation_refuses_no_token_until_its_key_is_gone() {
    let set = key_set();
    let first = KeyRing::new(&set, &Custody::sealed()).unwrap();
    let token = minted(&first, &record());
    let set = set.prepare(Some(KeyAlg::Ed25519), &Custody::sealed(), NOW).unwrap();
    judge(&KeyRing::new(&set, &Custody::sealed()).unwrap(), &token, NOW).unwrap();
    let set = set.activate(NOW).unwrap();
    let second = KeyRing::new(&set, &Custody::sealed()).unwrap();
    judge(&second, &token, NOW).unwrap();
    let newer = minted(&second, &record());
    assert_eq!(part(&newer, 0)["alg"], "EdDSA");
    judge(&second, &newer, NOW).unwrap();
    assert_eq!(judge(&first, &newer, NOW), Err(Reason::TokenSignature), "an unknown key");
    let set = set.retire(NOW, Live::Refuse).unwrap();
    assert_eq!(
        judge(&KeyRing::new(&set, &Custody::sealed()).unwrap(), &token, NOW),
        Err(Reason::TokenSignature)
    );
}

#[test]
fn a_token_is_never_printed() {
    let token = Minter::new(ISSUER).sign(&ring(), &record(), NOW).unwrap();
    let shown = format!("{token:?}");
    for part in token.compact().expose().split('.') {
        assert!(!shown.contains(part));
    }
}
