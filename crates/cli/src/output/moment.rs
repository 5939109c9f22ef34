//! Times: RFC 3339 for programs, with the distance from now for people.

use chrono::{DateTime, SecondsFormat};
use mayfly_domain::UnixMillis;
use serde::{Serialize, Serializer};

/// A moment on the wire; zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    fn rfc3339(self, form: SecondsFormat) -> Option<String> {
        let millis = i64::try_from(self.0).ok().filter(|ms| *ms > 0)?;
        Some(DateTime::from_timestamp_millis(millis)?.to_rfc3339_opts(form, true))
    }

    /// The moment and how far it is: `2026-05-01T12:00:00Z (in 4m 59s)`; empty for none.
    pub(crate) fn human(self, now: UnixMillis) -> String {
        match self.rfc3339(SecondsFormat::Secs) {
            Some(text) => format!("{text} ({})", self.distance(now)),
            None => String::new(),
        }
    }

    /// The moment alone, in RFC 3339; empty for none.
    pub(crate) fn text(self) -> String {
        self.rfc3339(SecondsFormat::Millis).unwrap_or_default()
    }

    /// Only how far it is: `in 4m 59s`, `2h 3m ago`; empty for none.
    pub(crate) fn distance(self, now: UnixMillis) -> String {
        let length = length(self.0.abs_diff(now.0) / 1_000);
        match self.0 {
            0 => String::new(),
            at if at > now.0 => format!("in {length}"),
            _ => format!("{length} ago"),
        }
    }
}

/// A length in its two largest units.
fn length(secs: u64) -> String {
    let (days, hours, minutes, rest) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, m) => format!("{m}m {rest}s"),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.rfc3339(SecondsFormat::Millis).serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_with_its_distance() {
        let now = UnixMillis(1_777_000_000_000);
        for (at, distance) in [
            (now.0 + 299_999, "in 4m 59s"),
            (now.0 + 5_000, "in 5s"),
            (now.0 - 7_380_000, "2h 3m ago"),
            (now.0 + 7 * 86_400_000 + 3_600_000, "in 7d 1h"),
            (0, ""),
        ] {
            assert_eq!(Moment(at).distance(now), distance);
        }
        assert_eq!(Moment(now.0 + 60_000).human(now), "2026-04-24T03:07:40Z (in 1m 0s)");
        assert_eq!((Moment(0).human(now), Moment(u64::MAX).human(now)), (String::new(), String::new()));
        assert_eq!(
            serde_json::to_string(&[Moment(0), Moment(1_500)]).unwrap(),
            r#"[null,"1970-01-01T00:00:01.500Z"]"#
        );
    }
}
