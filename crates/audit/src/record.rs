//! What is recorded of a decision.
//!
//! Must never hold a token, a key, a signature, or bearer evidence other than as a keyed hash.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mayfly_domain::{
    AcceptorName, Audience, CredentialKind, Intent, LeaseId, OperatorName, Owners, PolicyId, ProfileName,
    Reason, Refusal, RuleName, Scopes, SpiffeId, Subject, TaskId, TaskReason, Thumbprint, UnixMillis,
};
use serde::{Serialize, Serializer};

use crate::chain::BODY_OCTETS_MAX;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$var_doc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$var_doc])* $variant,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
    };
}

names!(
    /// What was decided.
    Kind {
        /// A credential for a workload.
        Mint "mint",
        /// The renewal of one.
        Renew "renew",
        /// A lease given back by its holder.
        Release "release",
        /// A task opened or joined.
        TaskStart "task_start",
        /// A task completed.
        TaskComplete "task_complete",
        /// A credential judged for an acceptor.
        Check "check",
        /// An acceptor's wish to follow the feed.
        Follow "follow",
        /// Leases ended by an operator.
        Revoke "revoke",
        /// New mints refused by an operator.
        Block "block",
        /// Such a block lifted.
        Lift "lift",
        /// A revocation's sweep.
        Sweep "sweep",
        /// A side effect undone.
        Undo "undo",
        /// Evidence presented with another key.
        Misuse "misuse",
        /// An operator's reading of leases, blocks, status or audit records.
        Read "read",
        /// A step of a key rotation.
        Key "key",
        /// A join token made or withdrawn by an operator.
        Join "join",
        /// A certificate for an operator.
        OperatorIssue "operator_issue",
        /// A certificate for an acceptor.
        AcceptorIssue "acceptor_issue",
        /// A reload of rules, profiles and policies.
        ConfigReload "config_reload",
        /// The store began a new generation.
        Generation "generation",
        /// The broker started.
        Start "start",
        /// The broker stopped.
        Stop "stop",
        /// The audit file was opened; its first record where it is new.
        AuditOpen "audit_open",
        /// A torn end was cut off the audit file.
        AuditRepair "audit_repair",
        /// Records found no room anywhere.
        AuditLost "audit_lost",
    }
);

names!(
    /// How it was decided.
    Outcome {
        /// Yes.
        Allowed "allowed",
        /// No.
        Denied "denied",
        /// Neither: something failed.
        Error "error",
    }
);

fn skip(text: &str) -> bool {
    text.is_empty()
}

fn thumbprint<S: Serializer>(key: &Option<Thumbprint>, s: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => s.collect_str(key),
        None => s.serialize_none(),
    }
}

fn kind<S: Serializer>(kind: &Option<CredentialKind>, s: S) -> Result<S::Ok, S::Error> {
    kind.map(CredentialKind::as_str).serialize(s)
}

fn reason<S: Serializer>(reason: &Option<Reason>, s: S) -> Result<S::Ok, S::Error> {
    reason.map(Reason::as_str).serialize(s)
}

fn subject<S: Serializer>(subject: &Option<Subject>, s: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'a> {
        dimension: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<std::borrow::Cow<'a, str>>,
    }
    let shown = subject.as_ref().map(|subject| Shown {
        dimension: subject.dimension().as_str(),
        // Evidence is known by an unkeyed hash inside: that one is not for this file.
        value: (!matches!(subject, Subject::Evidence(_))).then(|| subject.value()),
    });
    shown.serialize(s)
}

/// One decision. Fields that don't apply are left out of the line.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// When it was decided; none: when it is handed in.
    pub time_ms: Option<UnixMillis>,
    /// The request's id, as the caller was told it.
    #[serde(skip_serializing_if = "skip")]
    pub request: String,
    /// What.
    pub kind: Kind,
    /// How.
    pub outcome: Outcome,
    /// Why not.
    #[serde(serialize_with = "reason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The particulars, for operators.
    #[serde(skip_serializing_if = "skip")]
    pub detail: String,
    /// Whose lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<SpiffeId>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owners: Option<Owners>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The task's intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Words for people, as the workload or operator gave them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_text: Option<TaskReason>,
    /// The profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// What kind of credential.
    #[serde(serialize_with = "kind", skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialKind>,
    /// The lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// The renewal counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<u32>,
    /// The credential's hard expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<UnixMillis>,
    /// Who may accept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
    /// What it grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// The holder's key, by its thumbprint.
    #[serde(serialize_with = "thumbprint", skip_serializing_if = "Option::is_none")]
    pub key: Option<Thumbprint>,
    /// The trust rule that accepted the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleName>,
    /// The policies that decided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    /// The policies in observe mode that would have refused what was allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<PolicyId>,
    /// The claims that the rule exposes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// The operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorName>,
    /// What the operator named.
    #[serde(serialize_with = "subject", skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<String>,
    /// The operator's ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The acceptor that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acceptor: Option<AcceptorName>,
    /// The leases, where it is about many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseId>,
    /// How many leases, where it is about many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The bearer evidence, as [`EvidenceKey::hash`](crate::EvidenceKey::hash) makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Where the call came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// Whether something was left out because the record would have been too long.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clipped: bool,
}

impl Record {
    /// A record that says nothing more than this.
    pub fn new(kind: Kind, outcome: Outcome) -> Self {
        Self {
            time_ms: None,
            request: String::new(),
            kind,
            outcome,
            reason: None,
            detail: String::new(),
            workload: None,
            owners: None,
            task: None,
            intent: None,
            reason_text: None,
            profile: None,
            credential: None,
            lease: None,
            counter: None,
            expires_ms: None,
            audience: None,
            scopes: None,
            key: None,
            rule: None,
            policies: Vec::new(),
            observed: Vec::new(),
            claims: BTreeMap::new(),
            operator: None,
            subject: None,
            revocation: None,
            ticket: None,
            acceptor: None,
            leases: Vec::new(),
            count: None,
            evidence: None,
            peer: None,
            clipped: false,
        }
    }

    /// Takes reason and particulars of a refusal; the outcome becomes `error` where the fault is the broker's, else
    /// `denied`.
    #[must_use]
    pub fn refused(mut self, refusal: &Refusal) -> Self {
        self.outcome = match refusal.reason.fault() {
            mayfly_domain::Fault::Broker => Outcome::Error,
            mayfly_domain::Fault::Caller | mayfly_domain::Fault::Rules => Outcome::Denied,
        };
        self.reason = Some(refusal.reason);
        self.detail.clone_from(&refusal.detail);
        self
    }

    /// The members of the line, without the braces. What would be too long is clipped.
    pub(crate) fn body(mut self, now: UnixMillis) -> Result<Vec<u8>, serde_json::Error> {
        self.time_ms.get_or_insert(now);
        let body = self.members()?;
        if body.len() <= BODY_OCTETS_MAX {
            return Ok(body);
        }
        self.clipped = true;
        self.claims.clear();
        self.policies.truncate(64);
        self.observed.truncate(64);
        self.leases.truncate(256);
        self.detail = cut(&self.detail, 1024);
        self.request = cut(&self.request, 128);
        self.revocation = self.revocation.map(|t| cut(&t, 128));
        self.ticket = self.ticket.map(|t| cut(&t, 256));
        self.evidence = self.evidence.map(|t| cut(&t, 64));
        self.members()
    }

    fn members(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = Vec::with_capacity(1024);
        serde_json::to_writer(&mut out, self)?;
        out.pop();
        out.drain(..1.min(out.len()));
        Ok(out)
    }
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use mayfly_domain::{Dimension, EvidenceHash};

    use super::*;

    fn line(record: Record) -> serde_json::Value {
        let body = record.body(UnixMillis(7)).unwrap();
        assert!(body.len() <= BODY_OCTETS_MAX);
        serde_json::from_str(&format!("{{{}}}", String::from_utf8(body).unwrap())).unwrap()
    }

    #[test]
    fn only_what_applies_is_written() {
        let bare = line(Record::new(Kind::Start, Outcome::Allowed));
        assert_eq!(bare, serde_json::json!({"time_ms": 7, "kind": "start", "outcome": "allowed"}));
        let mut record = Record::new(Kind::Revoke, Outcome::Allowed);
        record.time_ms = Some(UnixMillis(3));
        record.subject = Some(Subject::parse(Dimension::Owner, "team:payments").unwrap());
        record.key = Some(Thumbprint::from_bytes([0; 32]));
        let full = line(record);
        assert_eq!(full["time_ms"], 3);
        assert_eq!(full["subject"], serde_json::json!({"dimension": "owner", "value": "team:payments"}));
        assert_eq!(full["key"], "A".repeat(43));
    }

    #[test]
    fn a_refusal_gives_reason_and_outcome() {
        let of = |reason| line(Record::new(Kind::Mint, Outcome::Allowed).refused(&Refusal::new(reason, "x")));
        assert_eq!(of(Reason::Blocked)["outcome"], "denied");
        assert_eq!(of(Reason::StoreUnavailable)["outcome"], "error");
        assert_eq!(
            (&of(Reason::Blocked)["reason"], &of(Reason::Blocked)["detail"]),
            (&"BLOCKED".into(), &"x".into())
        );
    }

    #[test]
    fn evidence_is_never_written_by_its_unkeyed_hash() {
        let hash = EvidenceHash::of(b"signing input");
        let mut record = Record::new(Kind::Misuse, Outcome::Denied);
        record.subject = Some(Subject::Evidence(hash));
        let shown = line(record);
        assert_eq!(shown["subject"], serde_json::json!({"dimension": "evidence"}));
    }

    #[test]
    fn the_longest_record_fits_a_line() {
        let mut record = Record::new(Kind::Mint, Outcome::Denied);
        record.detail = "\u{1}".repeat(200_000);
        record.request = "\"".repeat(200_000);
        record.claims = (0..1000).map(|n| (n.to_string(), "x".repeat(500))).collect();
        record.ticket = Some("\\".repeat(100_000));
        record.policies = vec![PolicyId::parse(&"p".repeat(64)).unwrap(); 5_000];
        record.observed = record.policies.clone();
        assert_eq!(line(record)["clipped"], true);
    }
}
