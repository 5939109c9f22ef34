//! Join tokens: first evidence for a machine that no issuer vouches for.
//!
//! Made by an operator for one workload, used once, known to the store by its hash alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::dimension::EvidenceHash;
use crate::secret::Secret;
use crate::text::Invalid;

/// What every join token starts with, so that scanners for leaked secrets recognise one.
pub const PREFIX: &str = "mfj_";
/// Random octets of a token.
pub const RANDOM_OCTETS: usize = 24;
const CHECK_OCTETS: usize = 3;
const TEXT: usize = (RANDOM_OCTETS + CHECK_OCTETS) / 3 * 4;

/// A join token: `mfj_`, then base64url of 24 random octets and the first three of their SHA-256.
///
/// INVARIANT: of that form, its checksum right.
pub struct JoinToken(Secret<String>);

impl JoinToken {
    /// Makes a token of random octets.
    pub fn new(random: &[u8; RANDOM_OCTETS]) -> Self {
        let mut octets = random.to_vec();
        octets.extend_from_slice(&check(random));
        Self(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))))
    }

    /// Parses a token; a mistyped one is told by its checksum.
    ///
    /// # Errors
    /// [`Invalid`], which does not quote the input.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no = |why: &'static str| Invalid::new("join token", "", why);
        let text = input.strip_prefix(PREFIX).ok_or_else(|| no("does not start with `mfj_`"))?;
        if text.len() != TEXT {
            return Err(no("is not of a join token's length"));
        }
        let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| no("is not base64url"))?;
        match octets.split_at_checked(RANDOM_OCTETS) {
            Some((random, sum)) if sum == check(random) => Ok(Self(Secret::new(input.to_owned()))),
            _ => Err(no("was mistyped or cut: its checksum is wrong")),
        }
    }

    /// The text, for the person who hands it over and for the request that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What the store knows it by.
    pub fn hash(&self) -> EvidenceHash {
        EvidenceHash::of(format!("mayfly join token v1\0{}", self.0.expose()).as_bytes())
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken([secret])")
    }
}

fn check(random: &[u8]) -> [u8; CHECK_OCTETS] {
    let digest = ring::digest::digest(&ring::digest::SHA256, random);
    let mut out = [0; CHECK_OCTETS];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_a_typo_is_told() {
        let token = JoinToken::new(&[7; RANDOM_OCTETS]);
        let text = token.expose().to_owned();
        assert_eq!(text.len(), PREFIX.len() + TEXT);
        assert_eq!(JoinToken::parse(&text).unwrap().hash(), token.hash());
        for place in 0..text.len() {
            let mut wrong: Vec<char> = text.chars().collect();
            wrong[place] = if wrong[place] == 'x' { 'y' } else { 'x' };
            let wrong: String = wrong.into_iter().collect();
            let refused = JoinToken::parse(&wrong).unwrap_err();
            assert!(!refused.to_string().contains(&text[10..20]));
        }
        assert!(JoinToken::parse(&text[..text.len() - 1]).is_err());
        assert!(!format!("{token:?}").contains(&text[6..12]));
    }
}
