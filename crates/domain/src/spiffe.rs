//! SPIFFE IDs and trust domains, by the grammar of the SPIFFE-ID specification (sections 2.1 to 2.3).

use crate::text::{Invalid, shown, text_type};

/// The path prefix that belongs to Mayfly itself: brokers, operators, acceptors.
pub const RESERVED_PREFIX: &str = "/mayfly/";

const WORD: &str = "SPIFFE ID";

fn trust_domain(word: &'static str, input: &str) -> Result<(), Invalid> {
    if input.is_empty() || input.len() > 255 {
        return Err(Invalid::new(word, input, "must be 1 to 255 characters"));
    }
    if !input.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b)) {
        return Err(Invalid::new(word, input, "may hold lower-case letters, digits, `-`, `.` and `_` only"));
    }
    Ok(())
}

text_type!(
    /// A trust domain's name, such as `acme.internal`.
    ///
    /// INVARIANT: 1 to 255 of `[a-z0-9._-]` (SPIFFE-ID 2.1).
    TrustDomain, "trust domain", trust_domain
);

fn path(input: &str) -> Result<(), Invalid> {
    let Some(rest) = input.strip_prefix('/') else {
        return Err(Invalid::new(WORD, input, "the path must start with `/`"));
    };
    for segment in rest.split('/') {
        match segment {
            "" => return Err(Invalid::new(WORD, input, "has an empty path segment")),
            "." | ".." => return Err(Invalid::new(WORD, input, "has a relative path segment")),
            _ => {}
        }
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(Invalid::new(
                WORD,
                input,
                "a path segment may hold letters, digits, `-`, `.` and `_` only",
            ));
        }
    }
    Ok(())
}

fn spiffe_id(word: &'static str, input: &str) -> Result<(), Invalid> {
    if input.len() > 2048 {
        return Err(Invalid::new(word, input, "longer than 2048 octets"));
    }
    let Some(rest) = input.strip_prefix("spiffe://") else {
        return Err(Invalid::new(word, input, "must start with `spiffe://`"));
    };
    let (domain, tail) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    trust_domain(word, domain)?;
    path(tail)
}

text_type!(
    /// The identity of a workload, an operator, an acceptor or a broker.
    ///
    /// INVARIANT: `spiffe://` trust domain and a path of at least one segment, at most 2048 octets, each
    /// segment of `[a-zA-Z0-9._-]` and neither `.` nor `..`.
    SpiffeId, "SPIFFE ID", spiffe_id
);

impl SpiffeId {
    /// The ID with `path` (which starts with `/`) below `domain`.
    ///
    /// # Errors
    /// [`Invalid`] where the path is not of the grammar or the whole is too long.
    pub fn new(domain: &TrustDomain, path: &str) -> Result<Self, Invalid> {
        Self::parse(&format!("spiffe://{domain}{path}"))
    }

    /// The path, with its leading slash.
    pub fn path(&self) -> &str {
        let rest = self.as_str().get("spiffe://".len()..).unwrap_or_default();
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        let rest = self.as_str().get("spiffe://".len()..).unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }

    /// Whether this is an ID of `domain`.
    pub fn is_in(&self, domain: &TrustDomain) -> bool {
        self.trust_domain() == domain.as_str()
    }

    /// Whether the path belongs to Mayfly itself and so to no workload.
    pub fn is_reserved(&self) -> bool {
        self.path() == "/mayfly" || self.path().starts_with(RESERVED_PREFIX)
    }
}

/// Escapes a claim's value into the alphabet of one path segment, injectively.
///
/// `[a-z0-9-]` and inner `.` stay as they are; every other octet of the UTF-8 text, upper-case letters
/// included, becomes `_` and two lower-case hexadecimal digits, and so does a `.` at the start. Two
/// different values never give the same segment: the escape character itself is always escaped.
///
/// # Errors
/// [`Invalid`] where the value is empty or its escaped form is longer than 512 octets.
pub fn escape_segment(value: &str) -> Result<String, Invalid> {
    if value.is_empty() {
        return Err(Invalid::new("claim", value, "is empty"));
    }
    let mut out = String::with_capacity(value.len());
    for (n, b) in value.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => out.push(char::from(b)),
            b'.' if n > 0 => out.push('.'),
            _ => {
                out.push('_');
                for nibble in [b >> 4, b & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
                }
            }
        }
    }
    if out.len() > 512 {
        return Err(Invalid::new("claim", &shown(value), "is too long for a path segment"));
    }
    Ok(out)
}
