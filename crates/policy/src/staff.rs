//! Who may be given a certificate of Mayfly's own: only whom the configuration names.

use std::time::Duration;

use mayfly_domain::{
    AcceptorName, CredentialKind, Deadline, OperatorName, Owner, Owners, Reason, Refusal, SpiffeId, Ttl,
    defaults,
};

use crate::authorized::{Authorized, Staff, StaffGrant};
use crate::engine::Engine;

/// An operator or an acceptor as the configuration names it.
#[derive(Debug, Clone)]
pub enum StaffEntry<'a> {
    /// An operator; its owner is `user:NAME`, so that revoking a departed person ends it too.
    Operator(&'a OperatorName),
    /// An acceptor of the caller's configuration, with who answers for it.
    Acceptor {
        /// Its name.
        name: &'a AcceptorName,
        /// Who answers for it.
        owners: Owners,
    },
}

impl Engine {
    /// Permits a certificate for an operator or an acceptor. The caller has shown by the seal that it may
    /// ask; what the holder may do is decided at each call.
    ///
    /// # Errors
    /// `NOT_FOUND` where the configuration has no such operator.
    pub fn staff(&self, entry: StaffEntry<'_>, ttl: Ttl) -> Result<Authorized<Staff>, Refusal> {
        let (kind, path, owners) = match entry {
            StaffEntry::Operator(name) => {
                if self.operator_groups(name).is_none() {
                    let detail = format!("the configuration has no operator `{name}`");
                    return Err(Refusal::new(Reason::NotFound, detail.clone()).fact("problem", detail));
                }
                let owner = Owner::parse(&format!("user:{name}"))?;
                (CredentialKind::Operator, format!("/mayfly/operator/{name}"), Owners::new([owner])?)
            }
            StaffEntry::Acceptor { name, owners } => {
                (CredentialKind::Acceptor, format!("/mayfly/acceptor/{name}"), owners)
            }
        };
        let identity = SpiffeId::new(self.trust_domain(), &path)?;
        let deadline = Deadline::after(Duration::from_millis(defaults::MINT_DEADLINE_MS));
        Ok(Authorized::new(StaffGrant { kind, identity, owners, ttl }, deadline))
    }
}
