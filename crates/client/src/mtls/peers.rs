//! Whom a service talks to.

use std::collections::BTreeSet;

use mayfly_domain::{Invalid, SpiffeId};

/// The peers that are expected: SPIFFE IDs, paths that theirs lie under, or both. None is expected by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    ids: BTreeSet<SpiffeId>,
    under: BTreeSet<String>,
}

impl Peers {
    /// Exactly these.
    pub fn ids(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self { ids: ids.into_iter().collect(), under: BTreeSet::new() }
    }

    /// Also those of the trust domain whose path lies under this one: `/payments` holds `/payments/api` and
    /// `/payments/api/2`, but not `/payments` itself nor `/payments-test`.
    ///
    /// # Errors
    /// [`Invalid`] where it is not the path of a SPIFFE ID; a slash at its end may be there.
    pub fn or_under(mut self, path: &str) -> Result<Self, Invalid> {
        let path = path.strip_suffix('/').unwrap_or(path);
        SpiffeId::parse(&format!("spiffe://any{path}"))
            .map_err(|_| Invalid::new("path of peers", path, "must be the path of a SPIFFE ID"))?;
        self.under.insert(format!("{path}/"));
        Ok(self)
    }

    /// Whether this is one of them. What belongs to Mayfly itself never is.
    pub fn expect(&self, id: &SpiffeId) -> bool {
        let known = || self.ids.contains(id) || self.under.iter().any(|path| id.path().starts_with(path));
        !id.is_reserved() && known()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_its_slash() {
        let id = |path: &str| SpiffeId::parse(&format!("spiffe://acme.internal{path}")).unwrap();
        let peers = Peers::ids([id("/web")]).or_under("/payments").unwrap();
        for (path, expected) in [
            ("/web", true),
            ("/web/2", false),
            ("/payments", false),
            ("/payments/api", true),
            ("/payments/api/2", true),
            ("/payments-test/api", false),
            ("/mayfly/broker/b1", false),
        ] {
            assert_eq!(peers.expect(&id(path)), expected, "{path}");
        }
        assert!(!Peers::default().expect(&id("/web")));
        assert!(!Peers::ids([id("/mayfly/operator/a")]).expect(&id("/mayfly/operator/a")));
        assert_eq!(Peers::default().or_under("/a/").unwrap(), Peers::default().or_under("/a").unwrap());
        for bad in ["", "/", "payments", "/a//b", "/a/../b"] {
            assert!(Peers::default().or_under(bad).is_err(), "{bad}");
        }
    }
}
