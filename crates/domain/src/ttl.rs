//! How long something may live.

use crate::text::Invalid;

/// A length of life in whole seconds.
///
/// INVARIANT: 1 second to 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Ttl(u32);

impl Ttl {
    /// The longest life that any configuration may name.
    pub const LIMIT_S: u32 = 366 * 86_400;

    /// A life of so many seconds.
    ///
    /// # Errors
    /// [`Invalid`] for zero, a negative number, or more than 366 days.
    pub fn from_secs(secs: i64) -> Result<Self, Invalid> {
        match u32::try_from(secs) {
            Ok(s) if (1..=Self::LIMIT_S).contains(&s) => Ok(Self(s)),
            _ => Err(Invalid::new("ttl", &secs.to_string(), "must be 1 second to 366 days")),
        }
    }

    /// A constant of the defaults' table; zero becomes one second.
    pub const fn constant(secs: u32) -> Self {
        Self(if secs == 0 {
            1
        } else if secs > Self::LIMIT_S {
            Self::LIMIT_S
        } else {
            secs
        })
    }

    /// Parses `90s`, `15m`, `1h`, `7d`.
    ///
    /// # Errors
    /// [`Invalid`] for any other form or a length out of range.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no = || Invalid::new("ttl", input, "must be a whole number and a unit, such as `15m`");
        let unit = match input.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(no()),
        };
        let digits = input.get(..input.len() - 1).unwrap_or_default();
        if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(no());
        }
        let n: i64 = digits.parse().map_err(|_| no())?;
        Self::from_secs(n.saturating_mul(unit))
    }

    /// The seconds.
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// The milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 as u64 * 1_000
    }
}

impl std::fmt::Display for Ttl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            s if s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Ttl {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_secs(i64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
