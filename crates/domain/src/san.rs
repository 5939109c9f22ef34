//! Names in certificates beside the SPIFFE ID: DNS names and addresses.

use std::net::IpAddr;

use crate::text::Invalid;

/// The most such names of one certificate.
pub const SANS_MAX: usize = 16;

/// A subject alternative name (RFC 5280 section 4.2.1.6): a DNS name or an address.
///
/// INVARIANT: a DNS name is in lower-case ASCII of letters, digits and hyphens, 1 to 63 octets a label, at most
/// 253 in all, at least one label not all digits, no wildcard and no final dot; an address is neither
/// unspecified nor multicast.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct San(Kind);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
enum Kind {
    Dns(std::sync::Arc<str>),
    Ip(IpAddr),
}

impl San {
    /// Parses a DNS name; upper case is lowered (RFC 4343).
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong with it; a wildcard is always refused.
    pub fn dns(input: &str) -> Result<Self, Invalid> {
        let no = |why: &'static str| Invalid::new("DNS name", input, why);
        if input.is_empty() || input.len() > 253 {
            return Err(no("must have 1 to 253 octets"));
        }
        if input.contains('*') {
            return Err(no("must not be a wildcard"));
        }
        let lower = input.to_ascii_lowercase();
        for label in lower.split('.') {
            let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if label.is_empty()
                || label.len() > 63
                || !inner
                || label.starts_with('-')
                || label.ends_with('-')
            {
                return Err(no("must be labels of letters, digits and inner hyphens, 1 to 63 octets each"));
            }
        }
        let last = lower.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(no("must not end in a label of digits: addresses are named as such"));
        }
        Ok(Self(Kind::Dns(lower.into())))
    }

    /// Parses an address.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong with it.
    pub fn ip(input: &str) -> Result<Self, Invalid> {
        let address = input.parse().map_err(|_| Invalid::new("address", input, "is not an IP address"))?;
        Self::address(address)
    }

    /// Takes an address.
    ///
    /// # Errors
    /// [`Invalid`] for an unspecified or multicast one.
    pub fn address(address: IpAddr) -> Result<Self, Invalid> {
        if address.is_unspecified() || address.is_multicast() {
            return Err(Invalid::new("address", &address.to_string(), "must be a host's own address"));
        }
        Ok(Self(Kind::Ip(address)))
    }

    /// Parses an address where it is one, else a DNS name.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong with it.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        input.parse().map_or_else(|_| Self::dns(input), Self::address)
    }

    /// The DNS name, where it is one.
    pub fn as_dns(&self) -> Option<&str> {
        match &self.0 {
            Kind::Dns(name) => Some(name),
            Kind::Ip(_) => None,
        }
    }

    /// The address, where it is one.
    pub fn as_ip(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::Dns(_) => None,
            Kind::Ip(address) => Some(address),
        }
    }
}

impl std::str::FromStr for San {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Self::parse(s)
    }
}

impl std::fmt::Display for San {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Dns(name) => f.write_str(name),
            Kind::Ip(address) => address.fmt(f),
        }
    }
}

impl std::fmt::Debug for San {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for San {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> serde::Deserialize<'de> for San {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Kind::deserialize(d)? {
            Kind::Dns(name) => Self::dns(&name),
            Kind::Ip(address) => Self::address(address),
        }
        .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mislead_are_refused() {
        for bad in [
            "",
            "*.acme.internal",
            "a..b",
            "-a.b",
            "a-.b",
            "a_b.c",
            "acme.internal.",
            "10.0.0.1",
            "a b",
            "é.b",
        ] {
            assert!(San::dns(bad).is_err(), "{bad}");
        }
        for bad in ["0.0.0.0", "::", "224.0.0.1", "10.0.0", "host"] {
            assert!(San::ip(bad).is_err(), "{bad}");
        }
        assert_eq!(San::dns("API.acme.Internal").unwrap().to_string(), "api.acme.internal");
        assert_eq!(San::parse("10.0.0.1").unwrap().as_ip(), Some([10, 0, 0, 1].into()));
        assert_eq!(San::parse("a.b").unwrap().as_dns(), Some("a.b"));
        assert!(San::parse("0.0.0.0").is_err() && San::parse("10.0.0.256").is_err());
        assert_eq!(San::ip("::1").unwrap().as_ip().unwrap().to_string(), "::1");
    }
}
