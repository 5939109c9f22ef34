//! Leases and the credentials that they stand for.

use uuid::Uuid;

use crate::codec::Malformed;
use crate::dimension::first16;
use crate::key::Thumbprint;
use crate::nonce::Nonce;
use crate::text::Invalid;

/// A lease's id: a `UUIDv7` that the broker derives; no client chooses one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeaseId(Uuid);

impl LeaseId {
    /// The id of the mint that spends `nonce` with the key `thumbprint`: the nonce's time, then a hash.
    pub fn derive(nonce: &Nonce, thumbprint: &Thumbprint) -> Self {
        let mut ctx = ring::digest::Context::new(&ring::digest::SHA256);
        ctx.update(b"mayfly lease v1\0");
        ctx.update(&nonce.encode());
        ctx.update(thumbprint.as_bytes());
        let [a, b, c, d, e, f, g, h, i, j, ..] = first16(ctx.finish().as_ref());
        let random = [a, b, c, d, e, f, g, h, i, j];
        Self(uuid::Builder::from_unix_timestamp_millis(nonce.issued.0, &random).into_uuid())
    }

    /// An id for a lease that no nonce leads to (an operator's certificate): its time and 10 random octets.
    pub fn from_parts(now: crate::UnixMillis, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.0, random).into_uuid())
    }

    /// The id from its 16 octets, as stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 octets.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Parses the hyphenated form.
    ///
    /// # Errors
    /// [`Invalid`] for any other form.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        if input.len() != 36 || input.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Invalid::new("lease id", input, "must be a lower-case UUID with hyphens"));
        }
        Uuid::try_parse(input).map(Self).map_err(|_| Invalid::new("lease id", input, "is not a UUID"))
    }
}

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl std::fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl std::str::FromStr for LeaseId {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Self::parse(s)
    }
}

/// One credential of a lease: the lease and the renewal counter. The `jti` of a token is its text form
/// (`UUID.COUNTER`), the serial of a certificate its 20 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId {
    /// The lease.
    pub lease: LeaseId,
    /// Zero for the first credential, raised by each renewal.
    pub counter: u32,
}

impl CredentialId {
    /// Parses the text form, which is unique: no sign, no leading zero.
    ///
    /// # Errors
    /// [`Invalid`] for any other form.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no = || Invalid::new("credential id", input, "must be `LEASE.COUNTER`");
        let (lease, counter) = input.split_once('.').ok_or_else(no)?;
        let canonical =
            counter.bytes().all(|b| b.is_ascii_digit()) && (counter == "0" || !counter.starts_with('0'));
        if !canonical {
            return Err(no());
        }
        Ok(Self { lease: LeaseId::parse(lease)?, counter: counter.parse().map_err(|_| no())? })
    }

    /// A certificate's serial: 16 octets lease, 4 octets counter.
    pub fn serial(&self) -> [u8; 20] {
        let mut out = [0; 20];
        let all = self.lease.as_bytes().iter().copied().chain(self.counter.to_be_bytes());
        for (to, from) in out.iter_mut().zip(all) {
            *to = from;
        }
        out
    }

    /// Reads a serial.
    ///
    /// # Errors
    /// [`Malformed`] where it is not 20 octets.
    pub fn from_serial(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = crate::codec::Reader::new("serial", bytes);
        let id = Self { lease: LeaseId::from_bytes(r.array()?), counter: r.u32()? };
        r.finish()?;
        Ok(id)
    }
}

impl std::fmt::Display for CredentialId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.lease, self.counter)
    }
}

/// What kind of credential a lease stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// An RFC 9068 access token.
    Token,
    /// A workload's X.509 certificate (X509-SVID).
    X509,
    /// An operator's client certificate.
    Operator,
    /// An acceptor's client certificate.
    Acceptor,
    /// An account at a target: a credential with a side effect.
    Account,
}

impl CredentialKind {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::X509 => "x509",
            Self::Operator => "operator",
            Self::Acceptor => "acceptor",
            Self::Account => "account",
        }
    }

    /// Whether making one leaves something at a target that must be undone.
    pub const fn has_side_effect(self) -> bool {
        matches!(self, Self::Account)
    }

    /// Whether leases of this kind belong to workloads, and so end with "everything".
    pub const fn is_workload(self) -> bool {
        matches!(self, Self::Token | Self::X509 | Self::Account)
    }
}

/// How a credential is bound to its holder's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// By a DPoP proof with each request (RFC 9449).
    Dpop,
    /// By the client certificate of the connection (RFC 8705).
    Mtls,
    /// Not at all; needs a reason in the profile.
    Bearer,
}

impl Binding {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
            Self::Bearer => "bearer",
        }
    }
}

/// How the acceptors of a profile's credentials check them, for the exposure report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptorMode {
    /// They ask a broker at each request.
    Online,
    /// They decide in-process and follow the feed.
    Feed,
    /// They verify the signature only, until expiry.
    Offline,
}

impl AcceptorMode {
    /// Every mode, each at the place that is its number in stores.
    pub const ALL: [Self; 3] = [Self::Online, Self::Feed, Self::Offline];

    /// Its number in stores.
    pub const fn number(self) -> u8 {
        match self {
            Self::Online => 0,
            Self::Feed => 1,
            Self::Offline => 2,
        }
    }

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Feed => "feed",
            Self::Offline => "offline",
        }
    }
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Recorded, the credential not yet confirmed: accepted nowhere.
    Reserved,
    /// Its credential may be accepted.
    Active,
    /// Over.
    Ended(EndReason),
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// Its time was up.
    Expired,
    /// Its holder gave it back.
    Released,
    /// Its task completed.
    Completed,
    /// It was revoked, by id or along a dimension.
    Revoked,
    /// Its mint was not confirmed in time.
    Abandoned,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Expired, Self::Released, Self::Completed, Self::Revoked, Self::Abandoned];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Completed => "completed",
            Self::Revoked => "revoked",
            Self::Abandoned => "abandoned",
        }
    }
}
