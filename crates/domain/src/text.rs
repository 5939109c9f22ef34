//! What text may be shown to a person, and the one error that refused words share.

use std::borrow::Cow;

/// A word that was refused: which kind of word, why, and the text (bounded and escaped, safe to print).
///
/// The input is kept so that a person recognises what was refused; of a secret it is empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {word}{}: {why}", quoted(.input))]
pub struct Invalid {
    /// The kind of word, in a user's terms (`owner`, `SPIFFE ID`).
    pub word: &'static str,
    /// The refused text, escaped and cut to 80 characters.
    pub input: String,
    /// What is wrong with it.
    pub why: Cow<'static, str>,
}

impl Invalid {
    /// Refuses `input` as a `word`.
    pub fn new(word: &'static str, input: &str, why: impl Into<Cow<'static, str>>) -> Self {
        Self { word, input: shown(input), why: why.into() }
    }
}

/// One mistake in a configuration file, before anyone knows its line: the key's path and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct FieldError {
    /// The key's path in the file (`task.window.max`).
    pub key: String,
    /// What is wrong and what would be right; lower case, no full stop, input in backticks.
    pub message: String,
}

impl FieldError {
    /// A mistake at `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

fn quoted(input: &str) -> String {
    if input.is_empty() { String::new() } else { format!(" `{input}`") }
}

/// `input` made safe to print: control and bidirectional characters escaped, cut to 80 characters.
pub fn shown(input: &str) -> String {
    let mut out = String::new();
    for (n, c) in input.chars().enumerate() {
        if n == 80 {
            out.push('…');
            break;
        }
        if is_deceptive(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Whether a character could mislead a reader: controls, line and paragraph separators, bidirectional
/// overrides and isolates, zero-width characters, tags and other default-ignorable formats.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Text for people: not empty, at most `max` octets, nothing that misleads a reader.
pub fn visible(word: &'static str, input: &str, max: usize) -> Result<(), Invalid> {
    if input.is_empty() {
        return Err(Invalid::new(word, input, "must not be empty"));
    }
    if input.len() > max {
        return Err(Invalid::new(word, input, format!("longer than {max} octets")));
    }
    // Nearly all words are plain ASCII, of which control characters alone are deceptive.
    if input.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Ok(());
    }
    match input.chars().find(|c| is_deceptive(*c)) {
        Some(c) => Err(Invalid::new(
            word,
            input,
            format!("holds the control, invisible or bidirectional character U+{:04X}", c as u32),
        )),
        None => Ok(()),
    }
}

/// Reads a text as `parse` takes it, without a copy of it in between.
pub(crate) fn read<'de, D, T>(d: D, parse: fn(&str) -> Result<T, Invalid>) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
{
    struct Text<T>(fn(&str) -> Result<T, Invalid>);

    impl<T> serde::de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }

    d.deserialize_str(Text(parse))
}

/// A newtype over text with one parser, shared by every name of the domain.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $word:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Parses the word.
            ///
            /// # Errors
            /// [`Invalid`](crate::text::Invalid) says what is wrong with it.
            pub fn parse(input: &str) -> Result<Self, $crate::text::Invalid> {
                let check: fn(&'static str, &str) -> Result<(), $crate::text::Invalid> = $check;
                check($word, input)?;
                Ok(Self(input.into()))
            }

            /// The word as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::Invalid;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Self::parse(s)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $crate::text::read(d, Self::parse)
            }
        }
    };
}
pub(crate) use text_type;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deceptive_text_is_refused_and_shown_escaped() {
        for bad in ["", "a\u{202E}b", "a\nb", "a\u{0}b", "a\u{200B}b", "a\u{E0041}", "a\u{1b}[31m"] {
            assert!(visible("word", bad, 64).is_err(), "{bad:?}");
            let printed = Invalid::new("word", bad, "no").to_string();
            assert!(!printed.chars().any(is_deceptive), "{printed:?}");
        }
        visible("word", "Zürich – 東京", 64).unwrap();
        assert!(visible("word", &"x".repeat(65), 64).is_err());
        for octet in 0..=0x7f_u8 {
            let c = char::from(octet);
            assert_eq!(visible("word", &c.to_string(), 64).is_err(), is_deceptive(c), "{octet:#x}");
        }
        assert!(shown(&"x".repeat(500)).chars().count() <= 81);
    }
}
