//! Dimensions: the lines along which leases are revoked.

use crate::names::{IntegrationName, ProfileName};
use crate::owner::Owner;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::task::TaskId;
use crate::text::Invalid;

/// A kind of line along which leases are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// One workload.
    Workload,
    /// One owner; a lease has one to four.
    Owner,
    /// One task.
    Task,
    /// One profile.
    Profile,
    /// One integration.
    Integration,
    /// The whole trust domain: every workload's leases.
    Everything,
    /// One binding of evidence to a key; internal.
    Evidence,
}

impl Dimension {
    /// Every dimension, in the order of their tags.
    pub const ALL: [Self; 7] = [
        Self::Workload,
        Self::Owner,
        Self::Task,
        Self::Profile,
        Self::Integration,
        Self::Everything,
        Self::Evidence,
    ];

    /// The stable name, as people and JSON write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Owner => "owner",
            Self::Task => "task",
            Self::Profile => "profile",
            Self::Integration => "integration",
            Self::Everything => "everything",
            Self::Evidence => "evidence",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Workload => 1,
            Self::Owner => 2,
            Self::Task => 3,
            Self::Profile => 4,
            Self::Integration => 5,
            Self::Everything => 6,
            Self::Evidence => 7,
        }
    }
}

impl std::fmt::Display for Dimension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Dimension {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|d| d.as_str() == s).ok_or_else(|| {
            Invalid::new(
                "dimension",
                s,
                "is not one of workload, owner, task, profile, integration, everything",
            )
        })
    }
}

/// The key of one value of one dimension: the first 16 octets of SHA-256 over a domain tag, the
/// dimension's tag and the canonical value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct DimKey(pub [u8; 16]);

impl DimKey {
    fn of(dimension: Dimension, value: &[u8]) -> Self {
        let mut ctx = ring::digest::Context::new(&ring::digest::SHA256);
        ctx.update(b"mayfly dimension v1\0");
        ctx.update(&[dimension.tag()]);
        ctx.update(value);
        Self(first16(ctx.finish().as_ref()))
    }
}

impl std::fmt::Debug for DimKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

pub(crate) fn first16(digest: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = *from;
    }
    out
}

/// One value of one dimension: what a revocation or a block names. Written as `{ owner = "team:payments" }`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A workload by its SPIFFE ID.
    Workload(SpiffeId),
    /// An owner.
    Owner(Owner),
    /// A task.
    Task(TaskId),
    /// A profile.
    Profile(ProfileName),
    /// An integration.
    Integration(IntegrationName),
    /// Every workload of a trust domain.
    Everything(TrustDomain),
    /// A binding of evidence, by the evidence's hash.
    Evidence(EvidenceHash),
}

impl Subject {
    /// Parses the value of a dimension that a person may name; evidence is internal and refused.
    ///
    /// # Errors
    /// [`Invalid`] where the value is not of the dimension's grammar.
    pub fn parse(dimension: Dimension, value: &str) -> Result<Self, Invalid> {
        Ok(match dimension {
            Dimension::Workload => Self::Workload(SpiffeId::parse(value)?),
            Dimension::Owner => Self::Owner(Owner::parse(value)?),
            Dimension::Task => Self::Task(TaskId::parse(value)?),
            Dimension::Profile => Self::Profile(ProfileName::parse(value)?),
            Dimension::Integration => Self::Integration(IntegrationName::parse(value)?),
            Dimension::Everything => Self::Everything(TrustDomain::parse(value)?),
            Dimension::Evidence => return Err(Invalid::new("dimension", "evidence", "is internal")),
        })
    }

    /// The dimension.
    pub const fn dimension(&self) -> Dimension {
        match self {
            Self::Workload(_) => Dimension::Workload,
            Self::Owner(_) => Dimension::Owner,
            Self::Task(_) => Dimension::Task,
            Self::Profile(_) => Dimension::Profile,
            Self::Integration(_) => Dimension::Integration,
            Self::Everything(_) => Dimension::Everything,
            Self::Evidence(_) => Dimension::Evidence,
        }
    }

    /// The canonical value as text.
    pub fn value(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Workload(v) => v.as_str().into(),
            Self::Owner(v) => v.as_str().into(),
            Self::Task(v) => v.as_str().into(),
            Self::Profile(v) => v.as_str().into(),
            Self::Integration(v) => v.as_str().into(),
            Self::Everything(v) => v.as_str().into(),
            Self::Evidence(v) => format!("{v:?}").into(),
        }
    }

    /// The key under which fences, blocks and indexes are kept.
    pub fn key(&self) -> DimKey {
        match self {
            Self::Evidence(v) => v.key(),
            other => DimKey::of(other.dimension(), other.value().as_bytes()),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.dimension(), self.value())
    }
}

/// The hash by which bearer evidence is known: of its signing input, never of its signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct EvidenceHash(pub [u8; 32]);

impl EvidenceHash {
    /// Hashes a signing input.
    pub fn of(signing_input: &[u8]) -> Self {
        let mut ctx = ring::digest::Context::new(&ring::digest::SHA256);
        ctx.update(b"mayfly evidence v1\0");
        ctx.update(signing_input);
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(ctx.finish().as_ref()) {
            *to = *from;
        }
        Self(out)
    }

    /// The dimension key of the binding.
    pub fn key(&self) -> DimKey {
        DimKey::of(Dimension::Evidence, &self.0)
    }
}

impl std::fmt::Debug for EvidenceHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_dimension_and_value() {
        let a = Subject::parse(Dimension::Profile, "x").unwrap().key();
        let b = Subject::parse(Dimension::Integration, "x").unwrap().key();
        let c = Subject::parse(Dimension::Profile, "y").unwrap().key();
        assert!(a != b && a != c && b != c);
        assert!(Subject::parse(Dimension::Evidence, "00").is_err());
    }
}
