//! Compact JWS (RFC 7515), strictly: three parts, one encoding of each, a small header.
//!
//! Parsing verifies nothing and fetches nothing: no key, URL or certificate of a header is ever looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_attest::{ClaimValue, Claims};
use mayfly_domain::{Reason, Refusal, defaults};

use crate::json;

/// The longest key id, in octets.
const KID_OCTETS_MAX: usize = 256;

/// Why a token was refused before anybody looked for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is longer than the limit.
    #[error("longer than {} octets", defaults::TOKEN_OCTETS_MAX)]
    TooLarge,
    /// It has not exactly three parts, none of them empty.
    #[error("not three parts with `.` between")]
    Parts,
    /// A part is not base64url without padding, in its one canonical form.
    #[error("a part is not canonical base64url without padding")]
    Encoding,
    /// The header is not one object without duplicate members, or a member has the wrong form.
    #[error("the header is malformed")]
    Header,
    /// The header demands an extension.
    #[error("the header demands an extension (`crit` or `b64`)")]
    Extension,
    /// The header says that the token is of another kind.
    #[error("the header's `typ` is not `JWT`")]
    Kind,
    /// The payload is not one object without duplicate members.
    #[error("the payload is malformed")]
    Payload,
}

impl From<Malformed> for Refusal {
    fn from(e: Malformed) -> Self {
        match e {
            Malformed::TooLarge => Self::new(Reason::TooLarge, format!("evidence: {e}"))
                .fact("limit", format!("{} octets", defaults::TOKEN_OCTETS_MAX)),
            _ => Self::new(Reason::EvidenceMalformed, e.to_string()),
        }
    }
}

/// What is looked at of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `alg`, as written; it only chooses among the algorithms that the key allows.
    pub alg: String,
    /// `kid`
    pub kid: Option<String>,
}

/// A compact JWS, well-formed and not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Jws<'a> {
    /// What is signed: header and payload as they came.
    pub signing_input: &'a str,
    /// The header.
    pub header: Header,
    /// The payload's members.
    pub claims: Claims,
    /// The signature's octets.
    pub signature: Vec<u8>,
}

impl std::fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jws").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Parses a token.
///
/// # Errors
/// [`Malformed`], which holds nothing of the token.
pub fn parse(token: &str) -> Result<Jws<'_>, Malformed> {
    if token.len() > defaults::TOKEN_OCTETS_MAX {
        return Err(Malformed::TooLarge);
    }
    let (signing_input, signature) = token.rsplit_once('.').ok_or(Malformed::Parts)?;
    let (header, payload) = signing_input.split_once('.').ok_or(Malformed::Parts)?;
    if header.is_empty() || payload.is_empty() || payload.contains('.') {
        return Err(Malformed::Parts);
    }
    let header = read_header(&decode(header)?)?;
    let claims = json::object(&decode(payload)?).map_err(|_| Malformed::Payload)?;
    Ok(Jws { signing_input, header, claims, signature: decode(signature)? })
}

/// Decodes base64url without padding; every octet string has exactly one text that is accepted.
///
/// # Errors
/// [`Malformed::Encoding`].
pub fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Malformed::Encoding)
}

fn read_header(bytes: &[u8]) -> Result<Header, Malformed> {
    let members = json::object(bytes).map_err(|_| Malformed::Header)?;
    if members.contains_key("crit") || members.contains_key("b64") {
        return Err(Malformed::Extension);
    }
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(ClaimValue::Text(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Malformed::Header),
    };
    let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("application/jwt");
    if text("typ")?.is_some_and(|typ| !is_jwt(typ)) {
        return Err(Malformed::Kind);
    }
    let alg = text("alg")?.filter(|alg| alg.len() <= 16).ok_or(Malformed::Header)?;
    let kid = text("kid")?;
    if kid.is_some_and(|kid| kid.is_empty() || kid.len() > KID_OCTETS_MAX) {
        return Err(Malformed::Header);
    }
    Ok(Header { alg: alg.to_owned(), kid: kid.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn what_is_refused() {
        let good = token(r#"{"alg":"RS256","kid":"k","typ":"JWT"}"#, "{}");
        assert_eq!(parse(&good).unwrap().signing_input, &good[..good.len() - 5]);
        let big = token(r#"{"alg":"RS256"}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(16_384)));
        for (bad, why) in [
            (big.as_str(), Malformed::TooLarge),
            ("", Malformed::Parts),
            ("a.b", Malformed::Parts),
            ("..", Malformed::Parts),
            (&format!("{good}.x"), Malformed::Parts),
            (&format!(" {good}"), Malformed::Encoding),
            (&format!("{good}\n"), Malformed::Encoding),
            (&format!("{good}="), Malformed::Encoding),
            // `c2lh` and `c2li`… differ; `YR` and `YQ` would be the same octet.
            (&good.replace(".c2ln", ".YR"), Malformed::Encoding),
            (&good.replace(".c2ln", ".a+/a"), Malformed::Encoding),
            (&token(r#"{"alg":"RS256","alg":"RS256"}"#, "{}"), Malformed::Header),
            (&token(r#"{"alg":"RS256","x":{"a":1,"a":1}}"#, "{}"), Malformed::Header),
            (&token(r#"{"kid":"k"}"#, "{}"), Malformed::Header),
            (&token(r#"{"alg":5}"#, "{}"), Malformed::Header),
            (&token(r#"{"alg":"RS256","kid":7}"#, "{}"), Malformed::Header),
            (&token(r#"{"alg":"RS256","kid":""}"#, "{}"), Malformed::Header),
            (&token(r#"{"alg":"RS256","crit":["exp"]}"#, "{}"), Malformed::Extension),
            (&token(r#"{"alg":"RS256","crit":[]}"#, "{}"), Malformed::Extension),
            (&token(r#"{"alg":"RS256","b64":false}"#, "{}"), Malformed::Extension),
            (&token(r#"{"alg":"RS256","typ":"at+jwt"}"#, "{}"), Malformed::Kind),
            (&token(r#"{"alg":"RS256"}"#, r#"{"a":1,"a":2}"#), Malformed::Payload),
            (&token(r#"{"alg":"RS256"}"#, "[]"), Malformed::Payload),
        ] {
            assert_eq!(parse(bad), Err(why), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), parts in "[A-Za-z0-9_.-]{0,200}") {
            let _ = parse(&text);
            let _ = parse(&parts);
        }

        #[test]
        fn only_the_canonical_text_decodes(text in "[A-Za-z0-9_=+/-]{0,24}", octets in any::<Vec<u8>>()) {
            if let Ok(decoded) = decode(&text) {
                prop_assert_eq!(URL_SAFE_NO_PAD.encode(decoded), text);
            }
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(&octets)), Ok(octets));
        }

        #[test]
        fn any_change_of_the_text_changes_what_is_parsed(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
            let good = token(r#"{"alg":"RS256","kid":"k"}"#, r#"{"sub":"x"}"#);
            let at = at.index(good.len());
            let mut bad = good.clone();
            bad.replace_range(at..=at, &to);
            if bad != good && let Ok(parsed) = parse(&bad) {
                let was = parse(&good).unwrap();
                prop_assert!(parsed.signature != was.signature || parsed.signing_input != was.signing_input);
            }
        }
    }
}
