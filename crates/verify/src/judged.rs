//! What a request shows, and what was found about its credential.

use mayfly_domain::{
    Audience, CredentialId, Intent, Observation, Owners, ProfileName, Scopes, SignerId, SpiffeId, TaskId,
    Thumbprint, UnixMillis,
};

/// A request that came with a token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The request's method, as in a DPoP proof's `htm`.
    pub method: &'a str,
    /// The request's URL as the client sees it, as in a DPoP proof's `htu`; query and fragment don't count.
    pub url: &'a str,
    /// The DPoP proof that came with it (RFC 9449).
    pub dpop: Option<&'a str>,
    /// The thumbprint of the key that the TLS client has proven in this connection's handshake
    /// ([`key_of`](crate::key_of)).
    pub peer: Option<&'a Thumbprint>,
    /// The scopes that the token must grant.
    pub scopes: &'a [&'a str],
}

/// What kind of credential was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An access token.
    Token,
    /// A workload's certificate.
    Certificate,
}

/// An accepted credential: who holds it, who answers for it, what it grants. It says what was so when it was judged;
/// a connection that outlives a request needs a [`Guard`](crate::Guard).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What it is.
    pub kind: Kind,
    /// The lease and its renewal counter.
    pub credential: CredentialId,
    /// Who holds it.
    pub workload: SpiffeId,
    /// Who answers for it; none: a certificate does not say.
    pub owners: Option<Owners>,
    /// The task; a certificate does not say.
    pub task: Option<TaskId>,
    /// The task's intent; a certificate does not say.
    pub intent: Option<Intent>,
    /// The profile, where a broker was asked: credentials carry it only as a hash.
    pub profile: Option<ProfileName>,
    /// What it grants.
    pub scopes: Scopes,
    /// Who may accept it; none: a certificate.
    pub audience: Option<Audience>,
    /// Its hard expiry.
    pub expires: UnixMillis,
    /// What its lease observed; none where only a broker has judged it.
    pub observation: Option<Observation>,
    /// The key that it is bound to; none: a bearer token.
    pub key: Option<Thumbprint>,
    /// The key or authority that signed it; none where only a broker has judged it.
    pub signer: Option<SignerId>,
}
