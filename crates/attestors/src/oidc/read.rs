//! The claims that every token must have, and its times.

use mayfly_attest::{ClaimValue, Claims, Verified};
use mayfly_domain::{EvidenceHash, Reason, Refusal, UnixMillis, defaults};

use crate::jws::Jws;

/// The last second that a time may name: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// The longest `sub`, `aud` and `jti`, in octets.
const TEXT_OCTETS_MAX: usize = 2_048;

/// A token's content; only the caller knows whether its signature holds.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) verified: Verified,
    not_before: UnixMillis,
}

/// `EVIDENCE_CLAIMS`, with what is wrong.
pub(super) fn claims(why: &str) -> Refusal {
    Refusal::new(Reason::EvidenceClaims, why)
}

impl Read {
    /// Reads `iss`, `sub`, `aud`, `exp`, `iat`, and `nbf` and `jti` where they are present.
    pub(super) fn from(jws: &Jws<'_>) -> Result<Self, Refusal> {
        let all = &jws.claims;
        let issuer = text(all, "iss")?.ok_or_else(|| claims("`iss` is absent"))?;
        text(all, "sub")?.ok_or_else(|| claims("`sub` is absent"))?;
        let expires = time(all, "exp")?.ok_or_else(|| claims("`exp` is absent"))?;
        let issued_at = time(all, "iat")?.ok_or_else(|| claims("`iat` is absent"))?;
        let not_before = time(all, "nbf")?.unwrap_or(issued_at).max(issued_at);
        if expires <= issued_at {
            return Err(claims("`exp` is not after `iat`"));
        }
        let alias = text(all, "jti")?.map(|jti| alias(issuer, jti));
        let verified = Verified {
            kind: super::KIND,
            issuer: issuer.to_owned(),
            audience: audience(all)?.to_owned(),
            claims: all.clone(),
            hash: EvidenceHash::of(jws.signing_input.as_bytes()),
            alias,
            issued_at,
            expires,
            holder: None,
        };
        Ok(Self { verified, not_before })
    }

    /// Judges the times at `now`, with the skew that foreign evidence has.
    pub(super) fn times(&self, now: UnixMillis) -> Result<(), Refusal> {
        if now >= self.verified.expires.plus(defaults::SKEW_MS) {
            return Err(Refusal::new(Reason::EvidenceExpired, "`exp` has passed"));
        }
        if self.not_before > now.plus(defaults::SKEW_MS) {
            return Err(Refusal::new(Reason::EvidenceNotYetValid, "`iat` or `nbf` is in the future"));
        }
        Ok(())
    }
}

fn text<'a>(all: &'a Claims, name: &str) -> Result<Option<&'a str>, Refusal> {
    match all.get(name) {
        None => Ok(None),
        Some(ClaimValue::Text(text)) if !text.is_empty() && text.len() <= TEXT_OCTETS_MAX => Ok(Some(text)),
        Some(_) => Err(claims(&format!("`{name}` is empty, too long or no text"))),
    }
}

/// A NumericDate in whole seconds.
fn time(all: &Claims, name: &str) -> Result<Option<UnixMillis>, Refusal> {
    let no = || claims(&format!("`{name}` is not a time in whole seconds"));
    match all.get(name) {
        None => Ok(None),
        Some(ClaimValue::Number(digits)) => {
            let seconds: u64 = digits.parse().map_err(|_| no())?;
            if seconds > LAST_SECOND { Err(no()) } else { Ok(Some(UnixMillis::from_secs(seconds))) }
        }
        Some(_) => Err(no()),
    }
}

fn audience(all: &Claims) -> Result<&str, Refusal> {
    let one = match all.get("aud") {
        Some(ClaimValue::Text(one)) => Some(one),
        Some(ClaimValue::List(list)) => match list.as_slice() {
            [one] => Some(one),
            _ => None,
        },
        _ => None,
    };
    one.filter(|one| !one.is_empty() && one.len() <= TEXT_OCTETS_MAX)
        .map(String::as_str)
        .ok_or_else(|| Refusal::new(Reason::EvidenceAudience, "`aud` is not exactly one value"))
}

/// The hash by which a token is known besides that of its signing input: of issuer and `jti`.
fn alias(issuer: &str, jti: &str) -> EvidenceHash {
    let mut input = b"jti\0".to_vec();
    for part in [issuer, jti] {
        input.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        input.extend_from_slice(part.as_bytes());
    }
    EvidenceHash::of(&input)
}
