//! Certificate requests (PKCS #10, RFC 2986).
//!
//! A request is read for the names and usages that it asks for, and believed in nothing: its subject is not looked
//! at, its key must be the one that signed the call. What it asks for beside is refused by name, never dropped.

use mayfly_credential::spki::{self, public_key};
use mayfly_domain::defaults::CSR_OCTETS_MAX;
use mayfly_domain::san::SANS_MAX;
use mayfly_domain::{KeyAlg, PublicKey, Reason, Refusal, San, SpiffeId, text};
use x509_parser::asn1_rs::{Any, FromDer as _, Oid, Tag, oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::{ParsedCriAttribute, X509CriAttribute};
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::verify::verify_signature;
use x509_parser::x509::X509Version;

const ECDSA_WITH_SHA256: [u64; 7] = [1, 2, 840, 10045, 4, 3, 2];
const ED25519: [u64; 4] = [1, 3, 101, 112];
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
/// The one bit of digitalSignature.
const DIGITAL_SIGNATURE: u16 = 1;

/// What a request asks for. Whether it is granted is for policy to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// The names beside the SPIFFE ID, each once.
    pub names: Vec<San>,
    /// The SPIFFE ID, where it names one: good for nothing but to be the caller's own.
    pub id: Option<SpiffeId>,
    /// Whether it asks for a TLS client's usage.
    pub client: bool,
    /// Whether it asks for a TLS server's usage.
    pub server: bool,
}

impl Wishes {
    /// Refuses what this workload's certificate can't have: another's SPIFFE ID, or a usage that its profile
    /// lacks.
    ///
    /// # Errors
    /// [`Reason::NameNotAllowed`], [`Reason::CsrExtension`].
    pub fn fits(&self, id: &SpiffeId, client: bool, server: bool) -> Result<(), Refusal> {
        if let Some(asked) = &self.id
            && asked != id
        {
            return Err(name("URI", asked.as_str(), "is not the caller's own SPIFFE ID"));
        }
        for (asked, granted, usage) in
            [(self.client, client, "clientAuth"), (self.server, server, "serverAuth")]
        {
            if asked && !granted {
                let what = format!("extendedKeyUsage {usage}");
                return Err(extension(&what, "is not a usage of the profile"));
            }
        }
        Ok(())
    }
}

/// Reads a request in DER, signed by `key`, the key of the call.
///
/// # Errors
/// [`Reason::CsrMalformed`] where it is no PKCS #10 request or too large; [`Reason::CsrKey`] for another key or
/// algorithm; [`Reason::CsrSignature`]; [`Reason::CsrExtension`] for an extension or attribute that is never
/// granted; [`Reason::NameNotAllowed`] for a name that never is. Each names what is wrong.
pub fn read(der: &[u8], key: &PublicKey) -> Result<Wishes, Refusal> {
    if der.len() > CSR_OCTETS_MAX {
        let problem = format!("it has {} octets, at most {CSR_OCTETS_MAX} are read", der.len());
        return Err(malformed(problem));
    }
    let (rest, request) = X509CertificationRequest::from_der(der)
        .map_err(|_| malformed("it is not a PKCS #10 request in DER"))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} octets follow it", rest.len())));
    }
    let info = &request.certification_request_info;
    if info.version != X509Version(0) {
        return Err(malformed("its version is not 1"));
    }
    is_calls_key(&request, key)?;
    let algorithm = match key.alg() {
        KeyAlg::P256 => &ECDSA_WITH_SHA256[..],
        KeyAlg::Ed25519 => &ED25519,
    };
    let found = request.signature_algorithm.algorithm.iter();
    if !found.is_some_and(|arcs| arcs.eq(algorithm.iter().copied())) {
        return Err(Refusal::new(Reason::CsrSignature, "the request's signature algorithm is not its key's")
            .fact("problem", "it is not signed with ECDSA and SHA-256, or with Ed25519")
            .fact("algorithm", request.signature_algorithm.algorithm.to_id_string()));
    }
    if in_one_form(&request, algorithm) != der {
        return Err(malformed("what is around the signed part of it is not DER"));
    }
    verify_signature(&info.subject_pki, &request.signature_algorithm, &request.signature_value, info.raw)
        .map_err(|_| {
            let problem = "the signature does not verify";
            Refusal::new(Reason::CsrSignature, problem).fact("problem", problem)
        })?;
    wishes(info.attributes())
}

/// The request as DER has it around the signed part, which its signature holds: the parser lets more pass.
fn in_one_form(request: &X509CertificationRequest<'_>, algorithm: &[u64]) -> Vec<u8> {
    let signature = &request.signature_value.data;
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(request.certification_request_info.raw);
            // Without parameters (RFC 5758 section 3.2, RFC 8410 section 3).
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&yasna::models::ObjectIdentifier::from_slice(algorithm));
            });
            writer.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
}

/// Whether the request is for the call's key: only then are the octets of its public key these.
fn is_calls_key(request: &X509CertificationRequest<'_>, key: &PublicKey) -> Result<(), Refusal> {
    let found = &request.certification_request_info.subject_pki;
    if found.raw == spki::der(key) {
        return Ok(());
    }
    let problem = if found.algorithm.algorithm == RSA {
        "its key is RSA; P-256 and Ed25519 are taken"
    } else if public_key(found.raw).is_err() {
        "its key is neither P-256 nor Ed25519"
    } else {
        "its key is not the one that signed the call"
    };
    Err(Refusal::new(Reason::CsrKey, problem).fact("problem", problem))
}

fn wishes(attributes: &[X509CriAttribute<'_>]) -> Result<Wishes, Refusal> {
    let mut wishes = Wishes::default();
    let mut asked = false;
    for attribute in attributes {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
            let what = format!("attribute {}", attribute.oid.to_id_string());
            return Err(extension(&what, "is not an attribute that is looked at"));
        };
        if std::mem::replace(&mut asked, true) || !is_one_value(attribute.value) {
            return Err(malformed("it asks for extensions more than once"));
        }
        for (n, one) in request.extensions.iter().enumerate() {
            if request.extensions.iter().take(n).any(|before| before.oid == one.oid) {
                return Err(malformed(format!("the extension {} is in it twice", one.oid.to_id_string())));
            }
            read_extension(one, &mut wishes)?;
        }
    }
    Ok(wishes)
}

/// Whether a SET holds exactly one SEQUENCE.
fn is_one_value(set: &[u8]) -> bool {
    let inner = match Any::from_der(set) {
        Ok(([], set)) if set.tag() == Tag::Set => set.data,
        _ => return false,
    };
    matches!(Any::from_der(inner), Ok(([], one)) if one.tag() == Tag::Sequence)
}

fn read_extension(one: &X509Extension<'_>, wishes: &mut Wishes) -> Result<(), Refusal> {
    match one.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            if names.general_names.len() > SANS_MAX + 1 {
                return Err(malformed(format!("it has more than {SANS_MAX} names")));
            }
            names.general_names.iter().try_for_each(|name| read_name(name, wishes))
        }
        ParsedExtension::BasicConstraints(basic) if basic.ca => {
            Err(extension("basicConstraints CA:TRUE", "no CA is made of a workload"))
        }
        ParsedExtension::BasicConstraints(basic) if basic.path_len_constraint.is_none() => Ok(()),
        ParsedExtension::KeyUsage(usage) if usage.flags == DIGITAL_SIGNATURE => Ok(()),
        ParsedExtension::KeyUsage(usage) => {
            let what = format!("keyUsage {usage}");
            Err(extension(&what, "keys are for digitalSignature alone"))
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let other = usage.any
                || usage.code_signing
                || usage.email_protection
                || usage.time_stamping
                || usage.ocsp_signing
                || !usage.other.is_empty();
            if other || !(usage.client_auth || usage.server_auth) {
                let more = usage.other.first().map(|oid| format!(" {oid}")).unwrap_or_default();
                let what = format!("extendedKeyUsage{more}");
                return Err(extension(&what, "certificates are for clientAuth and serverAuth"));
            }
            wishes.client = usage.client_auth;
            wishes.server = usage.server_auth;
            Ok(())
        }
        ParsedExtension::ParseError { .. } => {
            Err(malformed(format!("the extension {} in it is malformed", one.oid.to_id_string())))
        }
        _ => {
            let critical = if one.critical { "critical " } else { "" };
            let what = format!("{critical}{}", one.oid.to_id_string());
            Err(extension(&what, "is not an extension that is granted"))
        }
    }
}

fn read_name(general: &GeneralName<'_>, wishes: &mut Wishes) -> Result<(), Refusal> {
    let one = match general {
        GeneralName::DNSName(dns) => San::dns(dns).map_err(|e| name("DNS", dns, &e.to_string()))?,
        GeneralName::IPAddress(octets) => address(octets)?,
        GeneralName::URI(uri) => {
            let id = SpiffeId::parse(uri).map_err(|e| name("URI", uri, &e.to_string()))?;
            if wishes.id.replace(id).is_some() {
                return Err(name("URI", uri, "is not the only one"));
            }
            return Ok(());
        }
        GeneralName::RFC822Name(mail) => return Err(name("e-mail", mail, "is no machine's name")),
        GeneralName::DirectoryName(other) => {
            return Err(name("directory name", &other.to_string(), "is not granted"));
        }
        GeneralName::OtherName(oid, _) => {
            return Err(name("other name", &oid.to_id_string(), "is not granted"));
        }
        GeneralName::RegisteredID(oid) => {
            return Err(name("registered ID", &oid.to_id_string(), "is not granted"));
        }
        _ => return Err(name("name", "", "is of a kind that is not granted")),
    };
    if !wishes.names.contains(&one) {
        if wishes.names.len() >= SANS_MAX {
            return Err(malformed(format!("it has more than {SANS_MAX} names")));
        }
        wishes.names.push(one);
    }
    Ok(())
}

fn address(octets: &[u8]) -> Result<San, Refusal> {
    let four = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
    let all = four.or_else(|_| <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from));
    let address = all.map_err(|_| malformed("an address in it has neither 4 nor 16 octets"))?;
    San::address(address).map_err(|e| name("address", &address.to_string(), &e.to_string()))
}

fn malformed(problem: impl Into<String>) -> Refusal {
    let problem = problem.into();
    Refusal::new(Reason::CsrMalformed, problem.clone()).fact("problem", problem)
}

fn extension(what: &str, problem: &'static str) -> Refusal {
    let what = text::shown(what);
    Refusal::new(Reason::CsrExtension, format!("{what}: {problem}"))
        .fact("extension", what.to_string())
        .fact("problem", problem)
}

fn name(kind: &'static str, value: &str, problem: &str) -> Refusal {
    let value = text::shown(value);
    Refusal::new(Reason::NameNotAllowed, format!("{kind} `{value}`: {problem}"))
        .fact("name", value.to_string())
        .fact("problem", format!("{kind}: {problem}"))
}

#[cfg(test)]
mod tests;
