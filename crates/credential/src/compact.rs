//! The compact serialization of a JWS (RFC 7515 section 7.1), read strictly.
//!
//! Three parts of canonical base64url without padding and nothing else. Must never interpret a part.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A compact JWS, taken apart.
pub(crate) struct Compact<'a> {
    /// The header, still encoded.
    pub(crate) header: &'a str,
    payload: &'a str,
    /// What was signed: header, full stop, payload.
    pub(crate) signing_input: &'a str,
    /// The signature.
    pub(crate) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes `text` apart; `None` where it is longer than `max` octets or not of the form.
    pub(crate) fn parse(text: &'a str, max: usize) -> Option<Self> {
        if text.len() > max {
            return None;
        }
        let (signing_input, signature) = text.rsplit_once('.')?;
        let (header, payload) = signing_input.split_once('.')?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return None;
        }
        Some(Self { header, payload, signing_input, signature: decode(signature)? })
    }

    /// The header's octets.
    pub(crate) fn header_octets(&self) -> Option<Vec<u8>> {
        decode(self.header)
    }

    /// The payload's octets.
    pub(crate) fn payload_octets(&self) -> Option<Vec<u8>> {
        decode(self.payload)
    }
}

/// Decodes canonical base64url: no padding, no white space, no bits after the end.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_read() {
        let read = |text: &str| Compact::parse(text, 64).map(|c| c.signature);
        assert_eq!(read("e30.e30.AQ"), Some(vec![1]));
        for bad in ["", ".", "..", "e30.e30", "e30..AQ", ".e30.AQ", "e30.e30.AQ.AQ", "e30.e30.AQ=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
        // `AR` decodes to the same octet as `AQ` where trailing bits are let pass.
        for bad in ["e30.e30.AR", "e30.e30.A Q", "e30.e30.A+", "e30.e30.AQ\n"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&format!("e30.{}.AQ", "A".repeat(64))), None, "too long");
        let odd = Compact::parse("e3.e31.AQ", 64).unwrap();
        assert!(odd.header_octets().is_none() && odd.payload_octets().is_none());
    }
}
