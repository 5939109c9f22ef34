//! URLs that configuration may name.
//!
//! A refused URL is never shown: it could hold a password.

use mayfly_domain::Invalid;
use url::{Host, Url};

/// An HTTPS origin: no user, path, query or fragment. Returned without a slash at its end.
pub(super) fn public_url(input: &str) -> Result<String, Invalid> {
    let no = |why: &'static str| Invalid::new("URL", "", why);
    let url = Url::parse(input)
        .map_err(|_| no("must be an `https` URL, such as `https://mayfly.example.org:8443`"))?;
    if url.scheme() != "https" {
        return Err(no("must be an `https` URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no("must not name a user or password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(no("must have no path, query or fragment"));
    }
    Ok(url.origin().ascii_serialization())
}

/// A Redis server: `rediss://USER@HOST:PORT`, without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// TLS is used.
    pub tls: bool,
    /// The ACL user.
    pub username: Option<String>,
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl RedisUrl {
    /// Whether the host is this machine by its address.
    pub fn is_loopback(&self) -> bool {
        match self.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// The URL without anything secret.
    pub fn without_user(&self) -> String {
        format!("{}://{}:{}", if self.tls { "rediss" } else { "redis" }, self.host, self.port)
    }
}

pub(super) fn redis_url(input: &str) -> Result<RedisUrl, Invalid> {
    let no = |why: &'static str| Invalid::new("URL", "", why);
    let url = Url::parse(input)
        .map_err(|_| no("must be a URL such as `rediss://mayfly@redis.example.org:6379`"))?;
    let tls = match url.scheme() {
        "rediss" => true,
        "redis" => false,
        _ => return Err(no("must start with `rediss://`, or `redis://` without TLS")),
    };
    if url.password().is_some() {
        return Err(no("must not hold a password; name its file by `password_file`"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(no("must have no path, query or fragment; database 0 is used"));
    }
    let host = match url.host() {
        // For a scheme that it does not know, the parser takes an IPv4 address for a name.
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => format!("[{address}]"),
        None => return Err(no("must name a host")),
    };
    let username = match url.username() {
        "" => None,
        name if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
            Some(name.to_owned())
        }
        _ => return Err(no("the user may hold letters, digits, `-`, `_` and `.` only")),
    };
    Ok(RedisUrl { tls, username, host, port: url.port().unwrap_or(6379) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_are_https_origins() {
        assert_eq!(
            public_url("https://Mayfly.acme.internal:8443/").unwrap(),
            "https://mayfly.acme.internal:8443"
        );
        assert_eq!(public_url("https://a.example:443").unwrap(), "https://a.example");
        for bad in
            ["http://a", "https://a/b", "https://u@a", "https://a?b", "https://a#", "a", "", "https://"]
        {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redis_urls() {
        let url = redis_url("rediss://mayfly@redis.acme.internal").unwrap();
        assert_eq!((url.tls, url.port, url.username.as_deref()), (true, 6379, Some("mayfly")));
        assert_eq!(url.without_user(), "rediss://redis.acme.internal:6379");
        for (input, loopback) in [
            ("redis://127.0.0.1:1", true),
            ("redis://[::1]:1", true),
            ("redis://localhost", true),
            ("redis://10.0.0.1", false),
        ] {
            assert_eq!(redis_url(input).unwrap().is_loopback(), loopback, "{input}");
        }
        for bad in ["redis://", "http://a", "redis://a/1", "redis://a?x", "redis:a", "redis://a b@c"] {
            assert!(redis_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for input in ["redis://u:hunter2@h", "rediss://:hunter2@h/1", "redis://u:hunter2@"] {
            assert!(!redis_url(input).unwrap_err().to_string().contains("hunter2"));
        }
        assert!(!public_url("https://u:hunter2@h").unwrap_err().to_string().contains("hunter2"));
    }
}
