//! Scopes and audiences of access tokens.

use smallvec::SmallVec;

use crate::text::{Invalid, text_type, visible};

fn scope(word: &'static str, input: &str) -> Result<(), Invalid> {
    visible(word, input, 128)?;
    if !input.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
        return Err(Invalid::new(word, input, "may hold printable ASCII without space, `\"` and `\\` only"));
    }
    Ok(())
}

text_type!(
    /// One scope token (RFC 6749 section 3.3).
    Scope, "scope", scope
);

fn audience(word: &'static str, input: &str) -> Result<(), Invalid> {
    visible(word, input, 256)?;
    if !input.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Invalid::new(word, input, "may hold printable ASCII without spaces only"));
    }
    Ok(())
}

text_type!(
    /// Who a credential is meant for: the `aud` of a token, usually a URL.
    Audience, "audience", audience
);

/// A set of scopes.
///
/// INVARIANT: at most 32, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Scopes(SmallVec<[Scope; 4]>);

impl Scopes {
    /// The most scopes that a credential may carry.
    pub const MAX: usize = 32;

    /// Collects scopes; the same one twice counts once.
    ///
    /// # Errors
    /// [`Invalid`] for more than 32.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, Invalid> {
        let mut all: SmallVec<[Scope; 4]> = scopes.into_iter().take(4 * Self::MAX).collect();
        all.sort();
        all.dedup();
        if all.len() > Self::MAX {
            return Err(Invalid::new("scopes", &all.len().to_string(), "at most 32 scopes"));
        }
        Ok(Self(all))
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every scope here is in `other` too.
    pub fn is_subset(&self, other: &Scopes) -> bool {
        self.0.iter().all(|s| other.0.binary_search(s).is_ok())
    }

    /// The value of a token's `scope` claim: the scopes with single spaces between.
    pub fn joined(&self) -> String {
        let parts: Vec<&str> = self.0.iter().map(Scope::as_str).collect();
        parts.join(" ")
    }
}

impl<'de> serde::Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = <SmallVec<[Scope; 4]> as serde::Deserialize>::deserialize(d)?;
        Self::new(all).map_err(serde::de::Error::custom)
    }
}
