//! What workloads show, claim and get.

use mayfly_attest::{Evidence, MtlsCertificate, X509Proof};
use mayfly_broker::{ClientCertificate, Issued, Made, MintInput, RenewInput};
use mayfly_credential::certificate;
use mayfly_domain::san::SANS_MAX;
use mayfly_domain::{
    CredentialKind, Invalid, JoinToken, LeaseId, ProfileName, PublicKey, Reason, Refusal, San, Scope, Scopes,
    Secret, UnixMillis, defaults,
};
use mayfly_mint::Role;
use mayfly_mint::x509::csr::{self, Wishes};
use mayfly_policy::Claimed;
use mayfly_proto::v1;
use mayfly_proto::v1::evidence::Kind;

use super::{intent, reason, task, ttl};
use crate::bundle;

/// The most certificates of a foreign chain.
const CHAIN_MAX: usize = 4;
/// The longest foreign certificate, in octets.
const CERTIFICATE_OCTETS_MAX: usize = 8 * 1024;
/// The longest signature of a foreign certificate's key, in octets.
const SIGNATURE_OCTETS_MAX: usize = 1024;

/// Reads evidence; it is secret from here on. `peer`: the certificate of the connection, which is what the kind
/// `mtls` means.
pub fn evidence(
    wire: Option<v1::Evidence>,
    peer: Option<&certificate::ClientCertificate>,
    now: UnixMillis,
) -> Result<Evidence, Refusal> {
    match wire.and_then(|e| e.kind) {
        Some(Kind::OidcToken(token)) if token.len() <= defaults::TOKEN_OCTETS_MAX => {
            Ok(Evidence::Oidc(Secret::new(token)))
        }
        Some(Kind::OidcToken(_)) => Err(Refusal::new(Reason::TooLarge, "evidence")),
        Some(Kind::JoinToken(token)) => {
            let token = Secret::new(token);
            let token = JoinToken::parse(token.expose()).map_err(|e| {
                Refusal::new(Reason::EvidenceMalformed, e.to_string()).fact("problem", e.to_string())
            })?;
            Ok(Evidence::Join(token))
        }
        Some(Kind::X509(proof)) => {
            let bounded = proof.chain.len() <= CHAIN_MAX
                && proof.chain.iter().all(|c| c.len() <= CERTIFICATE_OCTETS_MAX)
                && proof.signature.len() <= SIGNATURE_OCTETS_MAX;
            if !bounded {
                return Err(Refusal::new(Reason::TooLarge, "evidence"));
            }
            let scheme = u16::try_from(proof.scheme)
                .map_err(|_| Refusal::new(Reason::EvidenceProof, "there is no such signature scheme"))?;
            Ok(Evidence::X509(X509Proof { chain: proof.chain, scheme, signature: proof.signature }))
        }
        Some(Kind::Mtls(v1::MtlsCertificate {})) => match peer {
            Some(certificate::ClientCertificate::Workload(shown)) if shown.expires > now => {
                Ok(Evidence::Mtls(Box::new(MtlsCertificate {
                    id: shown.id.clone(),
                    credential: shown.credential,
                    key: shown.key,
                    observation: shown.observation.clone(),
                    signer: shown.signer,
                })))
            }
            // The connection was made before it expired.
            Some(certificate::ClientCertificate::Workload(_)) => Err(Reason::EvidenceExpired.into()),
            Some(certificate::ClientCertificate::System(_)) => {
                Err(Refusal::new(Reason::CertificateNotAllowed, "it is no workload's certificate"))
            }
            None => {
                Err(Refusal::new(Reason::CertificateRequired, "the connection has no client certificate"))
            }
        },
        None => Err(Refusal::new(Reason::EvidenceMalformed, "no evidence")),
    }
}

/// Reads what a workload asks for; `key` is the call's own.
pub fn mint(wire: v1::MintRequest, key: &PublicKey) -> Result<MintInput, Refusal> {
    if wire.scopes.len() > Scopes::MAX {
        return Err(Refusal::new(Reason::TooLarge, "scopes"));
    }
    let scopes: Result<Vec<Scope>, Invalid> = wire.scopes.iter().map(|s| Scope::parse(s)).collect();
    let csr = wishes(&wire.csr, key)?;
    let names = names(&wire, csr.as_ref())?;
    let of_a_certificate = csr.is_some() || !names.is_empty();
    let claimed = Claimed {
        profile: ProfileName::parse(&wire.profile)?,
        intent: intent(&wire.intent)?,
        reason: reason(&wire.reason)?,
        ttl: ttl(wire.ttl_s)?,
        scopes: Scopes::new(scopes?)?,
        names,
        kind: kind(&wire.kind, of_a_certificate)?,
    };
    Ok(MintInput { claimed, csr })
}

/// Reads what a workload wants renewed; `key` is the call's own.
pub fn renew(wire: &v1::RenewRequest, key: &PublicKey) -> Result<RenewInput, Refusal> {
    Ok(RenewInput {
        lease: LeaseId::parse(&wire.lease)?,
        ttl: ttl(wire.ttl_s)?,
        csr: wishes(&wire.csr, key)?,
    })
}

/// The kind that is asked for, by its name or by what only a certificate has.
fn kind(named: &str, of_a_certificate: bool) -> Result<Option<CredentialKind>, Refusal> {
    let problem = match named {
        "" => return Ok(of_a_certificate.then_some(CredentialKind::X509)),
        "x509" => return Ok(Some(CredentialKind::X509)),
        "token" if !of_a_certificate => return Ok(Some(CredentialKind::Token)),
        "token" => "names and a certificate request are for x509",
        _ => "is not token or x509",
    };
    Err(Invalid::new("kind", named, problem).into())
}

fn wishes(csr: &[u8], key: &PublicKey) -> Result<Option<Wishes>, Refusal> {
    (!csr.is_empty()).then(|| csr::read(csr, key)).transpose()
}

/// The names that are asked for, in the request's fields and in its certificate request, each once.
fn names(wire: &v1::MintRequest, csr: Option<&Wishes>) -> Result<Vec<San>, Refusal> {
    let asked = csr.map(|wishes| wishes.names.as_slice()).unwrap_or_default();
    if wire.dns_names.len() + wire.ip_addresses.len() + asked.len() > 2 * SANS_MAX {
        return Err(Refusal::new(Reason::TooLarge, "names"));
    }
    let dns = wire.dns_names.iter().map(|name| San::dns(name));
    let named = dns.chain(wire.ip_addresses.iter().map(|address| San::ip(address)));
    let mut all: Vec<San> = Vec::new();
    for name in named.chain(asked.iter().cloned().map(Ok)) {
        let name = name.map_err(|e| {
            Refusal::new(Reason::NameNotAllowed, e.to_string()).fact("problem", e.to_string())
        })?;
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if all.len() > SANS_MAX {
        return Err(Refusal::new(Reason::TooLarge, "names").fact("limit", format!("{SANS_MAX} names")));
    }
    Ok(all)
}

/// A verified client certificate, as the broker asks for it. A broker's has no lease and is nobody's here.
pub fn certificate(peer: &certificate::ClientCertificate) -> Option<ClientCertificate> {
    Some(match peer {
        certificate::ClientCertificate::System(shown) => ClientCertificate {
            role: Role::System,
            id: shown.id.clone(),
            credential: shown.credential()?,
            key: shown.key,
            signer: shown.signer,
        },
        certificate::ClientCertificate::Workload(shown) => ClientCertificate {
            role: Role::Workload,
            id: shown.id.clone(),
            credential: shown.credential,
            key: shown.key,
            signer: shown.signer,
        },
    })
}

/// A confirmed credential becomes a message here and nowhere else.
pub fn issued(issued: Issued, handle: Option<Secret<String>>, request: String) -> v1::MintResponse {
    let record = &issued.record;
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string).unwrap_or_default();
    let names = record.body.x509.iter().flat_map(|x509| x509.names.iter().map(ToString::to_string));
    let mut out = v1::MintResponse {
        lease: record.id.to_string(),
        renewable_until_ms: record.renewable_until.0,
        task: issued.task.as_ref().map(task),
        scopes: record.body.scopes.iter().map(ToString::to_string).collect(),
        audience: text(record.body.audience.as_ref().map(|v| v as _)),
        binding: record.body.binding.as_str().to_owned(),
        request,
        warnings: issued.warnings,
        kind: record.body.kind.as_str().to_owned(),
        outage_budget_s: issued.outage_budget.map_or(0, mayfly_domain::Ttl::as_secs),
        completion_handle: handle.map(|handle| handle.expose().clone()).unwrap_or_default(),
        workload: record.body.workload.to_string(),
        names: names.collect(),
        ..v1::MintResponse::default()
    };
    match issued.made {
        Made::Token(token) => {
            out.credential.clone_from(token.compact().expose());
            out.expires_ms = token.expires().0;
        }
        Made::Certificate(certificate, bundle) => {
            out.certificates = certificate.chain().iter().map(|c| c.to_vec()).collect();
            out.expires_ms = certificate.expires().0;
            out.bundle = Some(bundle::wire(&bundle));
        }
    }
    out
}
