//! Operators and acceptors: who may call with a client certificate, and as what.
//!
//! Groups and audiences live here and never in a certificate, so a change takes effect at the next load.

use std::time::Duration;

use mayfly_domain::{AcceptorName, Audience, GroupName, OperatorName, Owner, defaults};

use super::document::Document;
use super::kinds::{Wait, flag, list, some, wait, word};
use super::reader::{Notes, Reader};

/// `operators/NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name in its SPIFFE ID `/mayfly/operator/NAME`.
    pub name: OperatorName,
    /// Its groups, sorted: the parents of the principal in policies.
    pub groups: Vec<GroupName>,
    /// The owner that stands for this person, where there is one.
    pub owner: Option<Owner>,
}

/// `acceptors/NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptor {
    /// The name in its SPIFFE ID `/mayfly/acceptor/NAME`.
    pub name: AcceptorName,
    /// Who answers for it.
    pub owner: Owner,
    /// The audiences whose tokens it may check, sorted.
    pub audiences: Vec<Audience>,
    /// Whether it may check workloads' certificates, which have no audience.
    pub certificates: bool,
    /// How long it may reuse an answer for the same question, in ms.
    pub reuse_ms: u32,
}

pub(super) fn operator(doc: &Document<'_>, notes: &Notes) -> Option<Operator> {
    let r = Reader::new(doc, notes);
    let name = r.required("name", word(OperatorName::parse));
    let mut groups = r.all("groups", list(64, word(GroupName::parse)));
    let owner = r.optional("owner", word(Owner::parse));
    r.finish();
    groups.sort();
    groups.dedup();
    Some(Operator { name: name?, groups, owner })
}

pub(super) fn acceptor(doc: &Document<'_>, notes: &Notes) -> Option<Acceptor> {
    let r = Reader::new(doc, notes);
    let name = r.required("name", word(AcceptorName::parse));
    let owner = r.required("owner", word(Owner::parse));
    let certificates = r.optional("certificates", flag).unwrap_or_default();
    let longest = Wait(Duration::from_millis(u64::from(defaults::REUSE_MAX_MS)));
    let reuse = r.optional("reuse", wait(Wait::secs(0)..=longest)).unwrap_or(Wait::secs(0));
    let reuse_ms = u32::try_from(reuse.0.as_millis()).unwrap_or_default();
    // Without either it could check nothing.
    let audiences = if certificates {
        Some(r.all("audiences", list(64, word(Audience::parse))))
    } else {
        r.required("audiences", some(64, word(Audience::parse)))
    };
    r.finish();
    let mut audiences = audiences?;
    audiences.sort();
    audiences.dedup();
    Some(Acceptor { name: name?, owner: owner?, audiences, certificates, reuse_ms })
}
