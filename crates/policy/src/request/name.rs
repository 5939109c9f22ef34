//! What an acceptor names: actions and resources by their Cedar names, the path of a request.
//!
//! Everything here is hostile input. Each thing has one spelling: what two readers could take for two things is refused,
//! never repaired.

use mayfly_domain::Invalid;
use mayfly_domain::text::visible;

#[cfg(test)]
mod tests;

/// The longest name of an action or resource, in octets.
const NAME_OCTETS_MAX: usize = 512;
/// The longest URL, in octets.
const URL_OCTETS_MAX: usize = 2_048;
/// The longest method, in octets.
const METHOD_OCTETS_MAX: usize = 32;

/// The parts of `Payments::Order::"42"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// `Payments::Order`.
    pub(crate) kind: &'a str,
    /// `42`.
    pub(crate) id: &'a str,
}

/// Reads the name of a Cedar entity in a namespace, without spaces and without escapes.
pub(crate) fn named<'a>(word: &'static str, text: &'a str) -> Result<Named<'a>, Invalid> {
    visible(word, text, NAME_OCTETS_MAX)?;
    let no = |why: &'static str| Invalid::new(word, text, why);
    let parts = text.strip_suffix('"').and_then(|t| t.split_once("::\""));
    let (kind, id) = parts.ok_or_else(|| no("must be `Namespace::Type::\"id\"`"))?;
    if !kind.contains("::") || !kind.split("::").all(is_identifier) {
        return Err(no("must be a type in a namespace, then `::\"id\"`"));
    }
    is_id(id).map_err(no)?;
    Ok(Named { kind, id })
}

/// Whether an id can be named.
pub(crate) fn is_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() {
        return Err("the id is empty");
    }
    if id.contains(['"', '\\']) { Err("an id holds no `\"` and no `\\`") } else { Ok(()) }
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads a method: a token of RFC 9110 section 5.6.2, or nothing.
pub(crate) fn method(text: &str) -> Result<&str, Invalid> {
    let no = |why: &'static str| Invalid::new("method", text, why);
    if text.len() > METHOD_OCTETS_MAX {
        return Err(no("longer than 32 octets"));
    }
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.bytes().all(is_tchar) { Ok(text) } else { Err(no("must be a token of RFC 9110")) }
}

/// The path of a URL (or of a target that begins with `/`), nothing for nothing. A path that is not in its normal form
/// (RFC 3986 section 6.2.2: dot segments, octets that are encoded needlessly) or that servers are known to read in two
/// ways (empty segments, backslashes, encoded control characters) is refused: a policy would judge another path than the
/// one that is served.
pub(crate) fn path(url: &str) -> Result<&str, Invalid> {
    let no = |why: &'static str| Invalid::new("url", url, why);
    if url.len() > URL_OCTETS_MAX {
        return Err(no("longer than 2048 octets"));
    }
    if url.is_empty() {
        return Ok("");
    }
    if !url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err(no("may hold printable ASCII without spaces and `\\` only"));
    }
    let target = if url.starts_with('/') {
        url
    } else {
        let rest = ["https://", "http://"].into_iter().find_map(|scheme| {
            url.split_at_checked(scheme.len()).filter(|(s, _)| s.eq_ignore_ascii_case(scheme))
        });
        let (_, rest) = rest.ok_or_else(|| no("must begin with `https://`, `http://` or `/`"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if end == 0 {
            return Err(no("has no host"));
        }
        rest.get(end..).unwrap_or_default()
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let Some(inner) = path.strip_prefix('/') else { return Ok("/") };
    is_normal(inner).map_err(no)?;
    Ok(path)
}

/// Whether a path without its first `/` can be read in one way only.
fn is_normal(inner: &str) -> Result<(), &'static str> {
    let mut rest = inner.bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            continue;
        }
        let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
        let Some((high, low)) = digit().zip(digit()) else { return Err("has a `%` without two digits") };
        match u8::try_from(high * 16 + low).unwrap_or_default() {
            b if b.is_ascii_control() => return Err("has an encoded control character in its path"),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
                return Err("encodes what needs no encoding in its path");
            }
            _ => {}
        }
    }
    // However a server reads encoded slashes, no segment may be one that it would take away.
    let decoded = inner.replace("%2F", "/").replace("%2f", "/").replace("%5C", "/").replace("%5c", "/");
    let mut segments = decoded.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err("has a dot segment in its path"),
            "" if segments.peek().is_some() => return Err("has an empty segment in its path"),
            _ => {}
        }
    }
    Ok(())
}
