//! What a failed renewal means for the certificate.

use mayfly_domain::Reason;

use crate::failure::Failure;

/// What is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The lease was revoked: nobody should accept the certificate any more.
    Revoked,
    /// The lease is dead for another reason.
    Dead,
    /// The certificate is good until its end, but can't renew itself.
    Outgrown,
    /// Another attempt may succeed.
    Again,
}

/// Judges a renewal over the certificate.
pub(super) fn renewal(failed: &Failure) -> Verdict {
    match failed.reason {
        Some(Reason::LeaseRevoked | Reason::EvidencePredatesRevocation) => Verdict::Revoked,
        Some(
            Reason::LeaseEnded
            | Reason::LeaseExpired
            | Reason::LeaseNotFound
            | Reason::LeaseNotActive
            | Reason::TaskEnded
            | Reason::SignerWithdrawn
            | Reason::EvidencePredatesGeneration
            | Reason::GenerationChanged,
        ) => Verdict::Dead,
        Some(
            Reason::LineageEnded
            | Reason::TaskWindow
            | Reason::LeaseOfAnother
            | Reason::CertificateNotAllowed
            | Reason::CertificateRequired,
        ) => Verdict::Outgrown,
        _ => Verdict::Again,
    }
}

/// Whether first evidence that can't change was refused for good.
pub(super) fn spent(failed: &Failure) -> bool {
    matches!(
        failed.reason,
        Some(
            Reason::EvidenceUsed
                | Reason::EvidenceExpired
                | Reason::EvidenceMalformed
                | Reason::EvidencePredatesRevocation
                | Reason::EvidencePredatesGeneration
                | Reason::JoinTokenUnknown
                | Reason::TaskEnded
                | Reason::TaskWindow
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_lease_withdraws_the_certificate() {
        for (reason, verdict) in [
            (Reason::LeaseRevoked, Verdict::Revoked),
            (Reason::SignerWithdrawn, Verdict::Dead),
            (Reason::LineageEnded, Verdict::Outgrown),
            // What a broker says by TLS: a CA that was withdrawn, or a certificate that is over there.
            (Reason::CertificateNotAllowed, Verdict::Outgrown),
            (Reason::StoreUnavailable, Verdict::Again),
            (Reason::BrokerUnreachable, Verdict::Again),
            (Reason::Blocked, Verdict::Again),
            (Reason::PolicyDenied, Verdict::Again),
        ] {
            assert_eq!(renewal(&Failure::of(reason)), verdict, "{reason}");
        }
        assert!(spent(&Failure::of(Reason::EvidenceUsed)) && !spent(&Failure::of(Reason::Blocked)));
    }
}
