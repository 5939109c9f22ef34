//! The end of a layout: a body in postcard, and nothing after it.

use mayfly_domain::codec::Malformed;

/// Reads a body that takes all of `bytes`.
pub(crate) fn read<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Ok(body),
        Ok(_) => Err(Malformed { what, why: "octets after the end" }),
        Err(_) => Err(Malformed { what, why: "bad body" }),
    }
}
