//! What a value may be: text, a word of the domain, a length of time, a size, a list.
//!
//! Each kind turns one TOML value into a valid one or says what would be right. A kind must not read files
//! or the environment.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use mayfly_domain::text::{shown, visible};
use mayfly_domain::{Invalid, Ttl};
use toml::de::DeValue;

use super::document::Value;

/// A value that is not of its kind: where, if not the whole value, and why.
#[derive(Debug)]
pub struct Wrong {
    /// The octets of the element to blame.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
}

/// A value of a kind, or all that is wrong with it.
pub type Kinded<T> = Result<T, Vec<Wrong>>;

/// Refuses the whole value.
pub fn wrong<T>(message: impl Into<String>) -> Kinded<T> {
    Err(vec![Wrong { span: None, message: message.into() }])
}

fn unlike<T>(value: &Value<'_>, wanted: &str) -> Kinded<T> {
    let found = match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    wrong(format!("must be {wanted}, not {found}"))
}

fn invalid(e: &Invalid) -> String {
    if e.input.is_empty() { e.why.to_string() } else { format!("`{}`: {}", e.input, e.why) }
}

/// Text that people read, of at most `max` octets.
pub fn text(max: usize) -> impl Fn(&Value<'_>) -> Kinded<String> {
    move |value| match value.get_ref() {
        DeValue::String(s) => match visible("text", s, max) {
            Ok(()) => Ok(s.clone().into_owned()),
            Err(e) => wrong(invalid(&e)),
        },
        _ => unlike(value, "text in quotes"),
    }
}

/// Text that a parser of the domain accepts.
pub fn word<T>(parse: impl Fn(&str) -> Result<T, Invalid>) -> impl Fn(&Value<'_>) -> Kinded<T> {
    move |value| match value.get_ref() {
        DeValue::String(s) => parse(s).or_else(|e| wrong(invalid(&e))),
        _ => unlike(value, "text in quotes"),
    }
}

/// Text of a standard type's own form; `wanted` describes it with an example.
pub fn parsed<T: std::str::FromStr>(wanted: &'static str) -> impl Fn(&Value<'_>) -> Kinded<T> {
    move |value| match value.get_ref() {
        DeValue::String(s) => s.parse().or_else(|_| wrong(format!("`{}`: must be {wanted}", shown(s)))),
        _ => unlike(value, wanted),
    }
}

/// One of a few words.
pub fn choice<T: Copy>(all: &'static [(&'static str, T)]) -> impl Fn(&Value<'_>) -> Kinded<T> {
    move |value| match value.get_ref() {
        DeValue::String(s) => match all.iter().find(|(name, _)| name == s) {
            Some((_, one)) => Ok(*one),
            None => {
                let names: Vec<String> = all.iter().map(|(name, _)| format!("`{name}`")).collect();
                wrong(format!("`{}`: must be one of {}", shown(s), names.join(", ")))
            }
        },
        _ => unlike(value, "text in quotes"),
    }
}

/// `true` or `false`.
pub fn flag(value: &Value<'_>) -> Kinded<bool> {
    match value.get_ref() {
        DeValue::Boolean(b) => Ok(*b),
        _ => unlike(value, "`true` or `false`"),
    }
}

/// A whole number within bounds.
pub fn count(range: RangeInclusive<u32>) -> impl Fn(&Value<'_>) -> Kinded<u32> {
    move |value| match value.get_ref() {
        DeValue::Integer(n) => match u32::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) if range.contains(&n) => Ok(n),
            _ => wrong(format!("`{n}`: must be {} to {}", range.start(), range.end())),
        },
        _ => unlike(value, "a whole number"),
    }
}

/// A life such as `15m`, at most `max`.
pub fn ttl(max: Ttl) -> impl Fn(&Value<'_>) -> Kinded<Ttl> {
    move |value| {
        let ttl = word(Ttl::parse)(value)?;
        if ttl > max {
            wrong(format!("`{ttl}`: longer than `{max}`, the most that is possible here"))
        } else {
            Ok(ttl)
        }
    }
}

/// A time to wait: `500ms`, `10s`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub Duration);

impl Wait {
    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

/// A wait such as `10s` or `500ms`, within bounds; `0s` where they allow none.
pub fn wait(range: RangeInclusive<Wait>) -> impl Fn(&Value<'_>) -> Kinded<Wait> {
    move |value| {
        let DeValue::String(s) = value.get_ref() else { return unlike(value, "a length such as `10s`") };
        let length = match s.strip_suffix("ms") {
            Some(digits) => whole(digits).map(Duration::from_millis),
            None if s == "0s" => Some(Duration::ZERO),
            None => Ttl::parse(s).ok().map(|t| Duration::from_secs(u64::from(t.as_secs()))),
        };
        match length.map(Wait) {
            Some(length) if range.contains(&length) => Ok(length),
            Some(_) => wrong(format!("`{}`: must be {} to {}", shown(s), range.start(), range.end())),
            None => {
                wrong(format!("`{}`: must be a whole number and a unit, such as `10s` or `500ms`", shown(s)))
            }
        }
    }
}

/// A number of octets, `0` to `TiB`: `64MiB`, `1GiB`, `512B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (unit, shift) in UNITS {
            if self.0.trailing_zeros() >= shift && (self.0 > 0 || shift == 0) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        Ok(())
    }
}

/// A size such as `256MiB`, within bounds.
pub fn size(range: RangeInclusive<Size>) -> impl Fn(&Value<'_>) -> Kinded<Size> {
    move |value| {
        let DeValue::String(s) = value.get_ref() else { return unlike(value, "a size such as `64MiB`") };
        let octets = UNITS.iter().find_map(|(unit, shift)| {
            let n = whole(s.strip_suffix(unit)?)?;
            n.checked_mul(1 << shift).map(Size)
        });
        match octets {
            Some(n) if range.contains(&n) => Ok(n),
            Some(_) => wrong(format!("`{}`: must be {} to {}", shown(s), range.start(), range.end())),
            None => wrong(format!(
                "`{}`: must be a whole number and `B`, `KiB`, `MiB` or `GiB`, such as `64MiB`",
                shown(s)
            )),
        }
    }
}

fn whole(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// A file's or directory's path. It is not looked at here.
pub fn path(value: &Value<'_>) -> Kinded<PathBuf> {
    text(4096)(value).map(PathBuf::from)
}

/// A list of at most `max` values of one kind. Every wrong element is told.
pub fn list<T>(max: usize, of: impl Fn(&Value<'_>) -> Kinded<T>) -> impl Fn(&Value<'_>) -> Kinded<Vec<T>> {
    move |value| {
        let DeValue::Array(items) = value.get_ref() else { return unlike(value, "a list in brackets") };
        if items.len() > max {
            return wrong(format!("has {} elements, more than {max}", items.len()));
        }
        let mut good = Vec::with_capacity(items.len());
        let mut bad = Vec::new();
        for item in items.iter() {
            match of(item) {
                Ok(one) => good.push(one),
                Err(all) => bad.extend(
                    all.into_iter().map(|w| Wrong { span: w.span.or(Some(item.span())), message: w.message }),
                ),
            }
        }
        if bad.is_empty() { Ok(good) } else { Err(bad) }
    }
}

/// A list as for [`list`], of one element at least.
pub fn some<T>(max: usize, of: impl Fn(&Value<'_>) -> Kinded<T>) -> impl Fn(&Value<'_>) -> Kinded<Vec<T>> {
    let any = list(max, of);
    move |value| {
        let all = any(value)?;
        if all.is_empty() { wrong("must not be empty") } else { Ok(all) }
    }
}

/// A date without a time, `2027-05-01`.
pub fn date(value: &Value<'_>) -> Kinded<String> {
    match value.get_ref() {
        DeValue::Datetime(d) if d.date.is_some() && d.time.is_none() && d.offset.is_none() => {
            Ok(d.to_string())
        }
        _ => unlike(value, "a date without quotes, such as `2027-05-01`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(source: &str) -> Value<'_> {
        DeValue::parse(source).unwrap()
    }

    fn first<T: std::fmt::Debug>(kinded: Kinded<T>) -> String {
        kinded.unwrap_err().remove(0).message
    }

    #[test]
    fn sizes() {
        let any = size(Size(1)..=Size(1 << 40));
        for (source, octets) in
            [("'64MiB'", 64 << 20), ("'1B'", 1), ("'3KiB'", 3 << 10), ("'1024GiB'", 1 << 40)]
        {
            assert_eq!(any(&value(source)).unwrap(), Size(octets));
        }
        for bad in
            ["'64MB'", "'64 MiB'", "'-1B'", "'0B'", "''", "'B'", "64", "'1025GiB'", "'99999999999999999GiB'"]
        {
            assert!(any(&value(bad)).is_err(), "{bad}");
        }
        for n in [0, 1, 1023, 1 << 10, 3 << 20, 1 << 30, (1 << 30) + 1] {
            let text = format!("'{}'", Size(n));
            assert_eq!(size(Size(0)..=Size(u64::MAX))(&value(&text)).unwrap(), Size(n), "{text}");
        }
    }

    #[test]
    fn waits() {
        let some = wait(Wait(Duration::from_millis(100))..=Wait::secs(60));
        assert_eq!(some(&value("'250ms'")).unwrap().to_string(), "250ms");
        assert_eq!(some(&value("'1m'")).unwrap().to_string(), "60s");
        for bad in ["'99ms'", "'61s'", "'1'", "'ms'", "'1.5s'", "10"] {
            assert!(some(&value(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let small = count(1..=100);
        assert_eq!(small(&value("0x10")).unwrap(), 16);
        for bad in ["0", "101", "-1", "99999999999999999999", "1.0", "'1'"] {
            assert!(small(&value(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_wrong_element_is_told_with_its_place() {
        let names = list(4, word(mayfly_domain::GroupName::parse));
        let bad = names(&value("['good', 'Bad', 7]")).unwrap_err();
        assert_eq!(bad.len(), 2);
        assert!(bad.iter().all(|w| w.span.is_some()));
        assert!(first(names(&value("['a','a','a','a','a']"))).contains("more than 4"));
        assert!(some(4, flag)(&value("[]")).is_err());
    }

    #[test]
    fn messages_say_what_would_be_right() {
        assert_eq!(first(flag(&value("'yes'"))), "must be `true` or `false`, not text");
        assert_eq!(
            first(ttl(Ttl::constant(3_600))(&value("'2h'"))),
            "`2h`: longer than `1h`, the most that is possible here"
        );
        let odd = choice(&[("dpop", 1), ("mtls", 2)])(&value("'mtsl'"));
        assert_eq!(first(odd), "`mtsl`: must be one of `dpop`, `mtls`");
        assert_eq!(date(&value("2027-05-01")).unwrap(), "2027-05-01");
        assert!(date(&value("2027-05-01T00:00:00Z")).is_err());
    }
}
