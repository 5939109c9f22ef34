//! What a request shows for itself: an access token by one of two schemes.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use mayfly_domain::{Reason, Refusal};

/// The header of a proof (RFC 9449, section 4.1).
pub(super) const DPOP: &str = "dpop";

/// A token, and what proves that it is its holder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// With a proof of possession (RFC 9449, section 7.1).
    Dpop { token: &'a str, proof: &'a str },
    /// By itself, or by the key that the connection has proven (RFC 6750, RFC 8705).
    Bearer(&'a str),
}

/// The token of a request; none where it shows none.
///
/// # Errors
/// `INPUT_INVALID` for another scheme, a header that is there twice or holds more than its token; `PROOF_MISSING`,
/// `PROOF_INVALID` where the scheme asks for one proof and there is none, or are several.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<Token<'_>>, Refusal> {
    let Some(value) = only(headers, AUTHORIZATION.as_str()).map_err(|()| malformed())? else {
        return Ok(None);
    };
    let (scheme, token) = value.split_once(' ').ok_or_else(malformed)?;
    let token = token.trim_start_matches(' ');
    if token.is_empty() || !token.bytes().all(is_token68) {
        return Err(malformed());
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Token::Bearer(token)));
    }
    if !scheme.eq_ignore_ascii_case("dpop") {
        return Err(malformed());
    }
    let proof = only(headers, DPOP)
        .map_err(|()| Refusal::new(Reason::ProofInvalid, "more than one proof, or not one of text"))?;
    let proof = proof.ok_or(Reason::ProofMissing)?;
    Ok(Some(Token::Dpop { token, proof }))
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn malformed() -> Refusal {
    let problem = "`Authorization` must be there once: `DPoP TOKEN` or `Bearer TOKEN`";
    Refusal::new(Reason::InputInvalid, problem).fact("problem", problem)
}

/// RFC 9110, section 11.2.
fn is_token68(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~+/=".contains(&octet)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in all {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn each_scheme_proves_its_own_way() {
        let shown =
            |all| token(&headers(all)).map_err(|refusal| refusal.reason).map(|t| t.map(|t| format!("{t:?}")));
        let some = |token: Token<'_>| Ok(Some(format!("{token:?}")));
        let dpop = || some(Token::Dpop { token: "a.b.c", proof: "p" });
        for (all, expected) in [
            (&[][..], Ok(None)),
            (&[("dpop", "p")], Ok(None)),
            (&[("authorization", "DPoP a.b.c"), ("dpop", "p")], dpop()),
            (&[("authorization", "dpop  a.b.c"), ("dpop", "p")], dpop()),
            (&[("authorization", "Bearer a.b.c")], some(Token::Bearer("a.b.c"))),
            // A proof counts by its own scheme alone.
            (&[("authorization", "BEARER a.b.c"), ("dpop", "p")], some(Token::Bearer("a.b.c"))),
            (&[("authorization", "DPoP a.b.c")], Err(Reason::ProofMissing)),
            (&[("authorization", "DPoP a.b.c"), ("dpop", "p"), ("dpop", "p")], Err(Reason::ProofInvalid)),
            (&[("authorization", "DPoP a.b.c"), ("dpop", "\u{e4}")], Err(Reason::ProofInvalid)),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], Err(Reason::InputInvalid)),
            (&[("authorization", "Basic YTpi")], Err(Reason::InputInvalid)),
            (&[("authorization", "Bearer")], Err(Reason::InputInvalid)),
            (&[("authorization", "Bearer ")], Err(Reason::InputInvalid)),
            (&[("authorization", "Bearer a b")], Err(Reason::InputInvalid)),
            (&[("authorization", "DPoP a, b"), ("dpop", "p")], Err(Reason::InputInvalid)),
        ] {
            assert_eq!(shown(all), expected, "{all:?}");
        }
    }
}
