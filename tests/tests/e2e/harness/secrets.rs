//! Everything that must never be told, and the search for it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// So many octets of a secret give it away.
const GRAIN: usize = 16;

/// Secrets, each by its name and in every form in which it might be written.
#[derive(Default)]
pub(crate) struct Secrets {
    /// The first octets of each form, with name and form.
    forms: HashMap<[u8; GRAIN], (String, Vec<u8>)>,
}

impl Secrets {
    /// A secret as octets: it may be told as they are, in either base64, or in hexadecimal.
    pub(crate) fn octets(&mut self, name: &str, secret: &[u8]) {
        self.form(name, secret);
        for start in 0..3 {
            // Within longer text, base64 has one of three phases; the ends depend on what is beside it.
            let part = &secret[start.min(secret.len())..];
            let part = &part[..part.len() / 3 * 3];
            self.form(name, STANDARD.encode(part).as_bytes());
            self.form(name, URL_SAFE_NO_PAD.encode(part).as_bytes());
        }
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        self.form(name, hex.as_bytes());
    }

    /// A token: its claims and its signature, each is enough to recognise it.
    pub(crate) fn token(&mut self, name: &str, token: &str) {
        for part in token.split('.').skip(1) {
            self.form(name, part.as_bytes());
        }
        if let Some((_, signature)) = token.rsplit_once('.') {
            self.octets(name, &URL_SAFE_NO_PAD.decode(signature).unwrap());
        }
    }

    /// The private scalar of a P-256 key in PKCS#8, as ring writes it; the rest is public or the same in all.
    pub(crate) fn pkcs8(&mut self, name: &str, der: &[u8]) {
        self.octets(name, &der[36..68]);
        self.form(name, &STANDARD.encode(der).as_bytes()[48..]);
    }

    fn form(&mut self, name: &str, form: &[u8]) {
        if let Some(head) = form.first_chunk::<GRAIN>() {
            self.forms.insert(*head, (name.to_owned(), form.to_vec()));
        }
    }

    /// The names of those that are told in `text`.
    pub(crate) fn told_in(&self, text: &[u8]) -> Vec<&str> {
        let mut found: Vec<_> = text
            .windows(GRAIN)
            .filter_map(|window| self.forms.get(window))
            .map(|(name, _)| name.as_str())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret: Vec<u8> = (0..32).map(|n| n * 7 + 3).collect();
    let mut secrets = Secrets::default();
    secrets.octets("key", &secret);
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    for text in [
        [b"x".as_slice(), &secret, b"y"].concat(),
        STANDARD.encode(&secret).into_bytes(),
        STANDARD.encode([b"a".as_slice(), &secret, b"b"].concat()).into_bytes(),
        URL_SAFE_NO_PAD.encode([b"ab".as_slice(), &secret, b"b"].concat()).into_bytes(),
        hex.into_bytes(),
    ] {
        assert_eq!(secrets.told_in(&text), ["key"], "{text:?}");
    }
    assert!(secrets.told_in(&[0; 64]).is_empty());
}
