use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_domain::Secret;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn set() -> KeySet {
    KeySet::init(&TrustDomain::parse("acme.internal").unwrap(), NOW).unwrap()
}

fn seal(text: &str) -> Seal {
    Seal::from_env_value(&Secret::new(text.repeat(32))).unwrap()
}

fn states(set: &KeySet) -> Vec<KeyState> {
    set.token_keys().map(|k| k.state).collect()
}

#[test]
fn a_rotation_prepares_activates_and_retires_when_nobody_is_refused() {
    use KeyState::{Active, Prepared, Retiring};
    let first = set();
    assert_eq!((first.version(), states(&first)), (1, vec![Active]));
    let old = first.token_keys().next().unwrap().kid.clone();

    assert!(matches!(first.activate(NOW), Err(KeySetError::NoSuchKey(_))));
    assert!(matches!(first.retire(&old, NOW, LiveTokens::Refuse), Err(KeySetError::Active(_))));
    assert!(matches!(first.retire("nope", NOW, LiveTokens::Refuse), Err(KeySetError::NoSuchKey(_))));
    assert!(matches!(first.retire_finished(NOW), Err(KeySetError::NoSuchKey(_))));

    let prepared = first.prepare(Some(KeyAlg::Ed25519), NOW).unwrap();
    assert_eq!((prepared.version(), states(&prepared)), (2, vec![Active, Prepared]));
    assert!(matches!(prepared.prepare(None, NOW), Err(KeySetError::AlreadyPrepared(_))));

    let active = prepared.activate(NOW).unwrap();
    assert_eq!((active.version(), states(&active)), (3, vec![Retiring, Active]));
    assert_eq!(active.prepare(None, NOW).unwrap().token_keys().last().unwrap().alg, KeyAlg::Ed25519);

    let last = NOW.plus(ACTIVATION_LAG_MS + TOKEN_TTL_MAX.as_millis() + SKEW_MAX_MS);
    for early in [NOW, last.minus(1)] {
        let refused = active.retire(&old, early, LiveTokens::Spare);
        assert!(matches!(refused, Err(KeySetError::StillInUse { .. })), "{refused:?}");
        assert!(matches!(active.retire_finished(early), Err(KeySetError::StillInUse { .. })));
    }
    for retired in [
        active.retire(&old, last, LiveTokens::Spare).unwrap(),
        active.retire(&old, NOW, LiveTokens::Refuse).unwrap(),
        active.retire_finished(last).unwrap(),
    ] {
        assert_eq!((retired.version(), states(&retired)), (4, vec![Active]));
        assert_ne!(retired.token_keys().next().unwrap().kid, old);
    }
    // A prepared key has signed nothing: it goes at once.
    let kid = prepared.token_keys().last().unwrap().kid.clone();
    prepared.retire(&kid, NOW, LiveTokens::Spare).unwrap();
}

#[test]
fn keys_are_bounded() {
    let mut set = set();
    while set.token_keys().len() < KeySet::MAX_TOKEN_KEYS {
        set = set.prepare(None, NOW).unwrap().activate(NOW).unwrap();
    }
    assert!(matches!(set.prepare(None, NOW), Err(KeySetError::TooMany)));
    let rotated = set.rotate_nonce_key().unwrap().rotate_nonce_key().unwrap();
    assert_eq!(rotated.nonces.len(), 2);
}

#[test]
fn sealing_round_trips_and_another_key_is_a_clear_error() {
    let set = set().prepare(Some(KeyAlg::Ed25519), NOW).unwrap().rotate_nonce_key().unwrap();
    let sealed = set.seal(&seal("ab")).unwrap();
    let opened = KeySet::open(&seal("ab"), &sealed).unwrap();
    assert_eq!(opened.version(), set.version());
    assert!(opened.token_keys().eq(set.token_keys()));
    assert_eq!(opened.root.certificate, set.root.certificate);
    assert_eq!(opened.system.pkcs8.expose(), set.system.pkcs8.expose());
    assert_eq!(opened.nonces[1].expose(), set.nonces[1].expose());
    let refused = KeySet::open(&seal("cd"), &sealed);
    assert!(matches!(refused, Err(KeySetError::Seal(SealError::WrongKey))), "{refused:?}");
}

#[test]
fn a_document_that_is_no_key_set_is_refused_without_quoting_it() {
    let seal = seal("ab");
    for content in ["", "{}", "[1]", r#"{"format":"hunter2"}"#] {
        let sealed = seal.seal(PURPOSE, 1, &SecretBytes::new(content.into())).unwrap();
        let error = KeySet::open(&seal, &sealed).unwrap_err();
        assert!(matches!(error, KeySetError::Malformed(_)));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let set = set();
    let renumbered = seal.seal(PURPOSE, 9, &stored::write(&set).unwrap()).unwrap();
    assert!(matches!(KeySet::open(&seal, &renumbered), Err(KeySetError::Malformed(_))));
}

#[test]
fn nothing_private_is_printed() {
    let set = set();
    let shown = format!("{set:?} {set:#?}");
    for secret in [&set.tokens[0].pkcs8, &set.nonces[0], &set.evidence, &set.root.pkcs8] {
        assert!(!shown.contains(&STANDARD.encode(secret.expose())));
        assert!(!shown.contains(&format!("{:?}", secret.expose())));
    }
}
