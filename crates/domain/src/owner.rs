//! Owners: who answers for a lease.

use std::sync::Arc;

use smallvec::SmallVec;
use unicode_normalization::UnicodeNormalization;

use crate::text::{Invalid, is_deceptive, visible};

/// An accountable party, `kind:name` (`team:payments`, `user:alice`).
///
/// INVARIANT: lower case and NFC; kind `[a-z][a-z0-9-]{0,31}`; name 1 to 128 octets without white space,
/// control, invisible or bidirectional characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// Parses and normalises an owner.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong with it.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no = |why: &'static str| Invalid::new("owner", input, why);
        visible("owner", input, 256)?;
        let text = canonical(input);
        let Some((kind, name)) = text.split_once(':') else {
            return Err(no("must be `kind:name`, such as `team:payments`"));
        };
        let mut first = kind.bytes();
        if kind.len() > 32
            || !first.next().is_some_and(|b| b.is_ascii_lowercase())
            || !first.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(no("the kind must be 1 to 32 of letters, digits and `-`, starting with a letter"));
        }
        if name.is_empty() || name.len() > 128 {
            return Err(no("the name must be 1 to 128 octets"));
        }
        if name.chars().any(|c| c.is_whitespace() || is_deceptive(c) || matches!(c, '{' | '}')) {
            return Err(no("the name must not hold white space or braces"));
        }
        Ok(Self(text.into()))
    }

    /// The owner as `kind:name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `input` in lower case and NFC.
fn canonical(input: &str) -> String {
    if input.is_ascii() { input.to_ascii_lowercase() } else { canonical_unicode(input) }
}

fn canonical_unicode(input: &str) -> String {
    // Lower-casing can undo NFC and NFC can undo lower case; the second pass makes it a fixed point.
    let once: String = input.nfc().flat_map(char::to_lowercase).nfc().collect();
    once.chars().flat_map(char::to_lowercase).nfc().collect()
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::str::FromStr for Owner {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Self::parse(s)
    }
}

impl serde::Serialize for Owner {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Owner {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::text::read(d, Self::parse)
    }
}

/// The owners of a lease.
///
/// INVARIANT: one to four different owners, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Owners(SmallVec<[Owner; 4]>);

impl Owners {
    /// The most owners that a lease may have.
    pub const MAX: usize = 4;

    /// Collects owners; the same one twice counts once.
    ///
    /// # Errors
    /// [`Invalid`] for none or more than four.
    pub fn new(owners: impl IntoIterator<Item = Owner>) -> Result<Self, Invalid> {
        let mut all: SmallVec<[Owner; 4]> = owners.into_iter().collect();
        all.sort();
        all.dedup();
        if all.is_empty() || all.len() > Self::MAX {
            return Err(Invalid::new("owners", &all.len().to_string(), "a lease has one to four owners"));
        }
        Ok(Self(all))
    }

    /// The owners in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Owner> {
        self.0.iter()
    }
}

impl<'de> serde::Deserialize<'de> for Owners {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = <SmallVec<[Owner; 4]> as serde::Deserialize>::deserialize(d)?;
        Self::new(all).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_its_own_canonical_unicode_but_for_its_case() {
        let all: String = (0..=0x7f_u8).map(char::from).collect();
        assert_eq!(canonical(&all), canonical_unicode(&all));
        assert_eq!(Owner::parse("Team:Caf\u{65}\u{301}").unwrap().as_str(), "team:caf\u{e9}");
    }
}
