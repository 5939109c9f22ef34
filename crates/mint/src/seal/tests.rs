use super::*;

fn text(s: &str) -> SecretBytes {
    Secret::new(s.as_bytes().to_vec())
}

fn passphrase(s: &str) -> Seal {
    Seal::from_passphrase(Secret::new(s.to_owned())).unwrap()
}

#[test]
fn what_is_sealed_opens_with_its_key_and_purpose_only() {
    let seal = Seal::from_key(&[7; 32]);
    let sealed = seal.seal("keyset", 3, &text("the content")).unwrap();
    let (version, content) = seal.open("keyset", &sealed).unwrap();
    assert_eq!((version, content.expose().as_slice()), (3, b"the content".as_slice()));
    for other in ["gates", "keyse\u{20}", "keyset\0", ""] {
        assert!(matches!(seal.open(other, &sealed), Err(SealError::Altered)), "{other:?}");
    }
    assert!(matches!(Seal::from_key(&[8; 32]).open("keyset", &sealed), Err(SealError::WrongKey)));
    assert!(!sealed.windows(7).any(|w| w == b"content"));
    assert_ne!(sealed, seal.seal("keyset", 3, &text("the content")).unwrap(), "a nonce was used twice");
}

#[test]
fn every_octet_counts() {
    let seal = Seal::from_key(&[7; 32]);
    let sealed = seal.seal("keyset", 3, &text("x")).unwrap();
    for n in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[n] ^= 1;
        assert!(seal.open("keyset", &altered).is_err(), "octet {n}");
        assert!(seal.open("keyset", &sealed[..n]).is_err(), "cut at {n}");
    }
}

#[test]
fn passphrases_carry_their_salt_and_derive_alike() {
    let (a, b) = (passphrase("correct horse battery"), passphrase("correct horse battery"));
    let sealed = a.seal("keyset", 1, &text("x")).unwrap();
    assert_eq!(b.open("keyset", &sealed).unwrap().0, 1);
    let other = passphrase("incorrect horse battery");
    assert!(matches!(other.open("keyset", &sealed), Err(SealError::WrongKey)));
    assert!(matches!(Seal::from_key(&[1; 32]).open("keyset", &sealed), Err(SealError::WrongKey)));
    assert_eq!(a.derive("local").unwrap().expose(), b.derive("local").unwrap().expose());
    assert_ne!(a.derive("local").unwrap().expose(), a.derive("other").unwrap().expose());
    assert!(Seal::from_passphrase(Secret::new("short".into())).is_err());
    // A header that asks for 4 TiB is refused before any memory is taken.
    let mut greedy = sealed.clone();
    greedy[16..20].fill(0xff);
    assert!(matches!(b.open("keyset", &greedy), Err(SealError::Form(_))));
}

#[test]
fn key_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    let made = Seal::generate_file(&path).unwrap();
    assert!(Seal::generate_file(&path).is_err(), "an existing key was replaced");
    let sealed = made.seal("p", 1, &text("x")).unwrap();
    Seal::from_file(&path).unwrap().open("p", &sealed).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Seal::from_file(&path), Err(SealError::Permissions { .. })), "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();

    let same = Seal::from_key(&[0xab; 32]).seal("p", 1, &text("x")).unwrap();
    let base64 = STANDARD.encode([0xab; 32]);
    for good in [vec![0xab; 32], "ab".repeat(32).into(), format!("{base64}\n").into(), {
        URL_SAFE_NO_PAD.encode([0xab; 32]).into()
    }] {
        std::fs::write(&path, &good).unwrap();
        Seal::from_file(&path).unwrap().open("p", &same).unwrap();
    }
    Seal::from_env_value(&Secret::new(base64)).unwrap().open("p", &same).unwrap();
    for bad in
        [vec![], vec![0xab; 31], vec![0xab; 33], "zz".repeat(32).into(), STANDARD.encode([1; 31]).into()]
    {
        std::fs::write(&path, &bad).unwrap();
        assert!(matches!(Seal::from_file(&path), Err(SealError::KeyForm)), "{bad:?}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let seal = passphrase("correct horse battery");
    let error = Seal::from_env_value(&Secret::new("hunter2hunter2".into())).unwrap_err();
    assert_eq!(format!("{seal:?}"), "Seal(passphrase)");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
