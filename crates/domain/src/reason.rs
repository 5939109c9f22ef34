//! The stable reasons of every refusal: the contract of the error model, and the source of `docs/errors.md`.

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller sent something that no configuration would accept.
    Caller,
    /// A rule, policy, quota, block or revocation says no.
    Rules,
    /// The broker or what it depends on.
    Broker,
}

impl Fault {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Rules => "rules",
            Self::Broker => "broker",
        }
    }
}

/// The canonical gRPC status that carries a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `INVALID_ARGUMENT`
    InvalidArgument,
    /// `UNAUTHENTICATED`
    Unauthenticated,
    /// `PERMISSION_DENIED`
    PermissionDenied,
    /// `NOT_FOUND`
    NotFound,
    /// `FAILED_PRECONDITION`
    FailedPrecondition,
    /// `ABORTED`
    Aborted,
    /// `RESOURCE_EXHAUSTED`
    ResourceExhausted,
    /// `UNAVAILABLE`
    Unavailable,
    /// `DEADLINE_EXCEEDED`
    DeadlineExceeded,
    /// `INTERNAL`
    Internal,
}

macro_rules! reasons {
    ($($variant:ident $code:literal $status:ident $fault:ident $retry:literal $exit:literal $meaning:literal $next:literal;)*) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable code, as `google.rpc.ErrorInfo.reason` carries it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The gRPC status.
            pub const fn status(self) -> Status {
                match self { $(Self::$variant => Status::$status,)* }
            }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// Whether the same call may succeed later without anybody changing anything.
            pub const fn retry(self) -> bool {
                match self { $(Self::$variant => $retry,)* }
            }

            /// The exit code of the command line.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)* }
            }

            /// What it means, in one sentence without a full stop.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do.
            pub const fn next(self) -> &'static str {
                match self { $(Self::$variant => $next,)* }
            }
        }
    };
}

reasons! {
    InputInvalid "INPUT_INVALID" InvalidArgument Caller false 2 "a field of the request is malformed or out of range" "correct the field that the message names";
    TooLarge "TOO_LARGE" InvalidArgument Caller false 2 "the request is larger than the limit" "send less";
    EnvelopeInvalid "ENVELOPE_INVALID" InvalidArgument Caller false 2 "the envelope is malformed" "use a client of this version";
    EnvelopeSignature "ENVELOPE_SIGNATURE_INVALID" Unauthenticated Caller false 3 "the envelope's signature is not the key's over this call, broker and trust domain" "sign the envelope for this broker's trust domain and this call";
    NonceInvalid "NONCE_INVALID" Unauthenticated Caller true 7 "the nonce is foreign, altered or of another generation" "ask for a new nonce and call again";
    NonceExpired "NONCE_EXPIRED" Unauthenticated Caller true 7 "the nonce is too old" "ask for a new nonce and call again";
    NonceUsed "NONCE_USED" Aborted Caller true 7 "the nonce was spent by an earlier call with this key" "ask for a new nonce and call again";
    EvidenceMalformed "EVIDENCE_MALFORMED" Unauthenticated Caller false 3 "the evidence is not a well-formed token" "present the token exactly as its issuer gave it";
    EvidenceAlgorithm "EVIDENCE_ALGORITHM" Unauthenticated Caller false 3 "the evidence's algorithm is not one that its issuer's key allows" "present a token that the issuer signed with its published key";
    EvidenceSignature "EVIDENCE_SIGNATURE_INVALID" Unauthenticated Caller false 3 "the evidence's signature does not verify with its issuer's keys" "present the token exactly as its issuer gave it";
    EvidenceExpired "EVIDENCE_EXPIRED" Unauthenticated Caller false 3 "the evidence has expired" "get a new token from its issuer";
    EvidenceNotYetValid "EVIDENCE_NOT_YET_VALID" Unauthenticated Caller true 3 "the evidence is from the future" "check this machine's and the issuer's clocks";
    EvidenceLifetime "EVIDENCE_LIFETIME" Unauthenticated Rules false 3 "the evidence lives longer than the rule allows" "have the issuer give a shorter-lived token, or raise `evidence_life` in the rule";
    EvidenceAudience "EVIDENCE_AUDIENCE" Unauthenticated Caller false 3 "the evidence was not made for this broker, or not for this key" "ask the issuer for a token with the audience that `mayfly evidence show` prints";
    EvidenceClaims "EVIDENCE_CLAIMS" Unauthenticated Caller false 3 "the evidence lacks a claim that is required" "present an ID token of the kind that the rule's preset names";
    IssuerUnknown "ISSUER_UNKNOWN" PermissionDenied Rules false 3 "no trust rule names this issuer" "ask an operator to add a trust rule for the issuer";
    IssuerUnavailable "ISSUER_UNAVAILABLE" Unavailable Broker true 7 "the issuer's keys could not be fetched" "try again; an operator can check the broker's way to the issuer";
    NoTrustRule "NO_TRUST_RULE" PermissionDenied Rules false 3 "no trust rule accepts this token" "ask an operator to run: mayfly why REQUEST-ID";
    TrustRuleAmbiguous "TRUST_RULE_AMBIGUOUS" PermissionDenied Rules false 3 "more than one trust rule accepts this token" "ask an operator to make the rules exclude one another";
    EvidenceBoundToOtherKey "EVIDENCE_BOUND_TO_OTHER_KEY" PermissionDenied Rules false 3 "this evidence belongs to another key: one of the two is a thief" "use the key that first presented the token, or get a new token; tell an operator";
    EvidencePredatesRevocation "EVIDENCE_PREDATES_REVOCATION" PermissionDenied Rules false 5 "the evidence was first shown before a revocation that covers it" "show new evidence: a new token from the issuer, or re-run the job";
    EvidencePredatesGeneration "EVIDENCE_PREDATES_GENERATION" PermissionDenied Rules false 5 "the evidence was issued before the store began its present generation" "show new evidence: a new token from the issuer, or re-run the job";
    EvidenceUsed "EVIDENCE_USED" PermissionDenied Rules false 3 "the join token was used before" "ask an operator for a new one: mayfly join create";
    JoinTokenUnknown "JOIN_TOKEN_UNKNOWN" PermissionDenied Caller false 3 "there is no such join token, or it has expired or was withdrawn" "ask an operator for a new one: mayfly join create";
    EvidenceProof "EVIDENCE_PROOF_INVALID" Unauthenticated Caller false 3 "the certificate's key did not sign for this nonce and key" "sign with the certificate's own key, as docs/protocol.md says";
    EvidenceChain "EVIDENCE_CHAIN_INVALID" Unauthenticated Caller false 3 "the certificate does not chain to a CA that a trust rule names" "send the certificate with its intermediates, or have a trust rule name its CA";
    KindMismatch "KIND_MISMATCH" InvalidArgument Caller false 2 "the profile grants another kind of credential" "ask for what the profile grants: a token, or an X.509 certificate";
    CsrMalformed "CSR_MALFORMED" InvalidArgument Caller false 2 "the certificate request is not well-formed PKCS #10, or is too large" "make a plain request: a subject, DNS and IP names, one signature";
    CsrSignature "CSR_SIGNATURE_INVALID" InvalidArgument Caller false 2 "the certificate request is not signed by its own key" "make the request anew with the key that it names";
    CsrKey "CSR_KEY_NOT_ALLOWED" InvalidArgument Caller false 2 "the request's key is weak, of another algorithm, or not the key that signed the call" "use the call's own P-256 or Ed25519 key";
    CsrExtension "CSR_EXTENSION_NOT_ALLOWED" InvalidArgument Caller false 2 "the certificate request asks for an extension that is not granted" "leave the named extension out";
    NameNotAllowed "NAME_NOT_ALLOWED" PermissionDenied Rules false 3 "the profile does not grant a name that was asked for" "ask for names of the profile only, or for none: all that it grants are given";
    ProfileNotAllowed "PROFILE_NOT_ALLOWED" PermissionDenied Rules false 3 "no policy permits this for this workload, or the profile does not exist" "ask an operator to run: mayfly why REQUEST-ID";
    PolicyDenied "POLICY_DENIED" PermissionDenied Rules false 3 "no policy permits this" "ask an operator to run: mayfly policy explain";
    IntentNotAllowed "INTENT_NOT_ALLOWED" PermissionDenied Rules false 3 "the profile does not list this intent, or the task has another one" "use an intent that the profile lists";
    ScopeNotAllowed "SCOPE_NOT_ALLOWED" PermissionDenied Rules false 3 "the profile does not grant a requested scope" "ask for fewer scopes";
    Blocked "BLOCKED" PermissionDenied Rules false 5 "an operator's block refuses new credentials for this workload, owner, task, profile or integration" "ask an operator; `mayfly block list` shows the block and its reason";
    TaskEnded "TASK_ENDED" FailedPrecondition Rules false 5 "the task has ended" "start the job again: a re-run is another task";
    TaskOfAnother "TASK_OF_ANOTHER_WORKLOAD" PermissionDenied Rules false 3 "the task belongs to another workload" "use the task of this workload's own evidence";
    TaskWindow "TASK_WINDOW_ENDED" FailedPrecondition Rules false 5 "the task's window is over" "start the job again, or have its rule allow a longer window";
    QuotaLeases "QUOTA_LEASES" ResourceExhausted Rules true 6 "the workload or owner has as many live leases as its quota allows" "reuse credentials until they expire; an ended lease counts to its hard expiry, so ask for shorter ones";
    QuotaRate "QUOTA_RATE" ResourceExhausted Rules true 6 "the workload or owner mints faster than its quota allows" "wait for the time that the answer gives, and reuse credentials until they expire";
    LineageLimit "LINEAGE_LIMIT" FailedPrecondition Rules false 3 "the lineage is too deep or too wide" "show original evidence instead of a derived credential";
    LeaseNotFound "LEASE_NOT_FOUND" NotFound Caller false 4 "there is no such lease, or its end lies back too far" "check the lease id with: mayfly lease list";
    LeaseNotActive "LEASE_NOT_ACTIVE" FailedPrecondition Rules false 5 "the lease was never confirmed" "mint again";
    LeaseExpired "LEASE_EXPIRED" FailedPrecondition Rules false 5 "the lease has expired" "mint again";
    LeaseEnded "LEASE_ENDED" FailedPrecondition Rules false 5 "the lease was released or its task completed" "mint again for a new task";
    LeaseRevoked "LEASE_REVOKED" FailedPrecondition Rules false 5 "the lease was revoked" "ask the operator who revoked it; `mayfly why` shows the revocation";
    LeaseOfAnother "LEASE_OF_ANOTHER" PermissionDenied Rules false 3 "the lease belongs to another workload, task or key" "use the key and evidence that minted it";
    LineageEnded "LINEAGE_ENDED" FailedPrecondition Rules false 5 "the lease can't be renewed further" "mint again with original evidence";
    TokenMalformed "TOKEN_MALFORMED" InvalidArgument Caller false 2 "the token is not a well-formed access token of this trust domain" "present the token exactly as it was minted";
    TokenSignature "TOKEN_SIGNATURE_INVALID" Unauthenticated Caller false 3 "the token's signature does not verify with a current key" "mint again";
    TokenAudience "TOKEN_AUDIENCE" PermissionDenied Caller false 3 "the credential is meant for another audience" "send it only to the service that it was minted for";
    ProofMissing "PROOF_MISSING" Unauthenticated Caller false 3 "the credential is bound to a key and no proof came with it" "send a DPoP proof (RFC 9449) with each request";
    ProofInvalid "PROOF_INVALID" Unauthenticated Caller false 3 "the DPoP proof is not one of this key for this token, method and URL, made now" "make a new proof for each request";
    ProofReplayed "PROOF_REPLAYED" Unauthenticated Caller false 3 "the DPoP proof was used before" "make a new proof for each request";
    ProofNonce "PROOF_NONCE" Unauthenticated Caller true 3 "the DPoP proof carries no nonce of the service, or a stale one" "make a new proof with the nonce of the answer's `DPoP-Nonce` header (RFC 9449 section 9)";
    TokenScope "INSUFFICIENT_SCOPE" PermissionDenied Rules false 3 "the credential was not granted a scope that the request needs" "mint a credential with the scope that the service names, where its profile grants it";
    AcceptorNotFresh "ACCEPTOR_NOT_FRESH" Unavailable Broker true 7 "the service has not heard from a broker within its bound, and accepts nothing until it has" "try again; an operator can look at the service's way to its brokers";
    ActionUnknown "ACTION_UNKNOWN" PermissionDenied Rules false 3 "no acceptor's schema declares this action on this kind of resource" "name an action that a file in `schema/` declares, and a resource that it applies to";
    OutsideIntent "OUTSIDE_INTENT" PermissionDenied Rules false 3 "the request is outside of the task's intent" "use a credential whose intent is an action group that contains the action";
    NeedsBroker "NEEDS_BROKER" PermissionDenied Rules false 3 "policies look at what the credential does not carry" "ask a broker: Check with a context";
    SignerWithdrawn "SIGNER_WITHDRAWN" Unauthenticated Rules false 5 "the key or CA that signed the credential was withdrawn" "mint again with first evidence";
    SignerUnavailable "SIGNER_UNAVAILABLE" Unavailable Broker true 7 "the module that holds the signing key can't be used" "try again; an operator can look at the PKCS #11 module";
    KeyInUse "KEY_IN_USE" FailedPrecondition Rules false 3 "what the key or CA signed may still be in use" "wait for the time that the answer gives, or say --force: what it signed is refused then";
    CaInvalid "CA_INVALID" InvalidArgument Caller false 2 "the CA certificate can't be used" "have the parent CA issue it again from `mayfly ca csr`, as the message says";
    HandleInvalid "COMPLETION_HANDLE_INVALID" Unauthenticated Caller false 3 "the completion handle is not one of this trust domain, or its task is long over" "use the handle that `mayfly task start` wrote";
    CredentialMissing "CREDENTIAL_MISSING" Unauthenticated Caller false 3 "the request shows no credential" "send an access token with its proof, or connect with a workload's certificate";
    CertificateRequired "CERTIFICATE_REQUIRED" Unauthenticated Caller false 3 "the call needs a client certificate of an operator or an acceptor" "select a context with a certificate, or get one: mayfly operator issue";
    CertificateNotAllowed "CERTIFICATE_NOT_ALLOWED" PermissionDenied Rules false 3 "the client certificate is of a kind, name or lease that this call does not accept" "choose a context of the right kind, or get a new certificate: mayfly operator issue, mayfly acceptor issue";
    NotFound "NOT_FOUND" NotFound Caller false 4 "there is nothing of this name" "check the name";
    BlockNotFound "BLOCK_NOT_FOUND" NotFound Caller false 4 "no block stands for this" "see `mayfly block list`";
    RateLimited "RATE_LIMITED" ResourceExhausted Rules true 6 "too many calls from this address or identity" "wait for the time that the answer gives";
    Overloaded "OVERLOADED" Unavailable Broker true 7 "the broker is at its limit of work" "try again after the time that the answer gives";
    Deadline "DEADLINE" DeadlineExceeded Broker true 7 "the deadline passed before the answer was ready" "try again, with a longer deadline";
    RaceLost "RACE_LOST" Aborted Rules true 7 "a revocation, block or change raced with this call" "try again after the time that the answer gives";
    StoreUnavailable "STORE_UNAVAILABLE" Unavailable Broker true 7 "the lease store can't be reached or written" "try again; an operator can look at: mayfly status";
    StoreUnsafe "STORE_UNSAFE" Unavailable Broker false 7 "the store's settings could forget a revocation" "correct the setting that `mayfly status` names, or accept the risk by name";
    StoreHolding "STORE_HOLDING" Unavailable Broker false 7 "the store is empty and this broker has no copy to carry over" "run mayfly init for a new trust domain, or bring a state directory of one of its brokers back";
    GenerationChanged "GENERATION_CHANGED" Unavailable Broker true 7 "the store began a new generation: what was minted before is dead" "mint again with new evidence";
    ClockSkew "CLOCK_SKEW" Unavailable Broker true 7 "the broker's clock differs from the store's by more than the skew" "set the clocks right; `mayfly status` shows the difference";
    AuditUnavailable "AUDIT_UNAVAILABLE" Unavailable Broker true 7 "the audit record could not be written" "make room for the audit file; revocations still work";
    NotServing "NOT_SERVING" Unavailable Broker true 7 "the broker is starting or draining" "try again";
    BrokerNotFresh "BROKER_NOT_FRESH" Unavailable Broker true 7 "the broker has not heard of every revocation within its bound" "try again, or ask another broker; an operator can look at: mayfly status";
    FollowNotAllowed "FOLLOW_NOT_ALLOWED" PermissionDenied Rules false 3 "no policy permits this acceptor to follow the feed" "ask an operator for a policy that permits `follow`, as docs/feed.md shows";
    BoundTooLong "BOUND_TOO_LONG" InvalidArgument Caller false 2 "the staleness bound is longer than a broker allows" "ask for 10 seconds or less: a barrier waits for the longest";
    BrokerUntrusted "BROKER_UNTRUSTED" Unauthenticated Caller false 3 "the broker's certificate is not one that this context pins" "check the CA fingerprint with an operator";
    BrokerUnreachable "BROKER_UNREACHABLE" Unavailable Broker true 7 "the broker can't be reached" "check the URL and that the broker runs";
    NoEvidence "NO_EVIDENCE" FailedPrecondition Caller false 2 "no evidence was found on this machine" "run inside a CI job with ID tokens enabled, or name a file with a join token or ID token: --evidence-file";
    ConfirmationNeeded "CONFIRMATION_NEEDED" InvalidArgument Caller false 2 "a wide revocation must say whether it blocks" "add --block or --no-block";
    ConfigInvalid "CONFIG_INVALID" FailedPrecondition Caller false 64 "the configuration is not valid" "correct the lines that the message names";
    Internal "INTERNAL" Internal Broker false 7 "an unexpected fault inside the broker" "report it with the request id";
}

impl Reason {
    /// Finds a reason by its code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal on its way to the caller: the stable reason, what operators may know, what everybody may know.
///
/// Neither text may hold a secret: no token, signature, key or password, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub reason: Reason,
    /// The particulars, for the audit record, the log and `mayfly why`; never sent to a workload.
    pub detail: String,
    /// Facts that the caller may see, in the order in which they are shown.
    pub facts: Vec<(&'static str, String)>,
    /// How long to wait before trying again, where waiting helps.
    pub retry_after: Option<std::time::Duration>,
}

impl Refusal {
    /// A refusal with particulars for operators.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), facts: Vec::new(), retry_after: None }
    }

    /// Adds a fact that the caller may see.
    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// Says how long to wait.
    #[must_use]
    pub fn after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason, "")
    }
}

/// A malformed field of a request: its name and what is wrong are for the caller to see.
impl From<crate::text::Invalid> for Refusal {
    fn from(e: crate::text::Invalid) -> Self {
        Self::new(Reason::InputInvalid, e.to_string()).fact("problem", e.to_string())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.reason.meaning())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl std::error::Error for Refusal {}

/// Renders `docs/errors.md`.
pub fn errors_markdown() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# Reasons\n\nEvery refusal carries one of these codes in `google.rpc.ErrorInfo.reason`, in `--output json` and at \
         the end of the first line on a terminal. Codes are stable. This page is generated from the code.\n\n\
         | reason | meaning | whose fault | retry | exit | next step |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for r in Reason::ALL {
        let retry = if r.retry() { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {retry} | {} | {} |",
            r.as_str(),
            r.meaning(),
            r.fault().as_str(),
            r.exit_code(),
            r.next()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_again() {
        for (n, a) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::parse(a.as_str()), Some(*a));
            assert!(Reason::ALL.iter().skip(n + 1).all(|b| b.as_str() != a.as_str()));
            assert!(!a.meaning().ends_with('.') && !a.next().ends_with('.'), "{a}");
            assert!([2, 3, 4, 5, 6, 7, 8, 64].contains(&a.exit_code()));
        }
        assert_eq!(Reason::parse("NOPE"), None);
    }
}
