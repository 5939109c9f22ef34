//! What a certificate says of its holder, as claims that trust rules match.
//!
//! A name that stands once is text; several are a list, which no rule takes for one of them.

use std::net::IpAddr;

use mayfly_attest::{ClaimValue, Claims, Verified};
use mayfly_domain::{EvidenceHash, Reason, Refusal, SpiffeId, Thumbprint, TrustDomain, UnixMillis, defaults};
use ring::digest::{SHA256, digest};
use rustls_pki_types::UnixTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

use super::{KIND, name, unix_time};

/// The extension that Mayfly's own certificates carry.
const MAYFLY_EXTENSION: &str = "2.25.1946157831";
/// How many hexadecimal digits of its hash name a certificate.
const ID_DIGITS: usize = 32;

/// A certificate that can be read; nothing of it was verified.
pub(super) struct Leaf<'a> {
    der: &'a [u8],
    certificate: X509Certificate<'a>,
    from: UnixMillis,
    until: UnixMillis,
    hash: EvidenceHash,
}

fn malformed(why: &'static str) -> Refusal {
    Refusal::new(Reason::EvidenceMalformed, why)
}

impl<'a> Leaf<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, Refusal> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| malformed("not a certificate in DER"))?;
        if !rest.is_empty() {
            return Err(malformed("octets after the certificate"));
        }
        let moment = |timestamp: i64| {
            let secs = u64::try_from(timestamp).map_err(|_| malformed("a date before 1970"))?;
            Ok::<_, Refusal>(UnixMillis::from_secs(secs))
        };
        let from = moment(certificate.validity().not_before.timestamp())?;
        let until = moment(certificate.validity().not_after.timestamp())?;
        if until < from {
            return Err(malformed("it ends before it begins"));
        }
        let mut signed = b"mayfly x509 certificate v1\0".to_vec();
        signed.extend_from_slice(certificate.tbs_certificate.as_ref());
        Ok(Self { der, from, until, hash: EvidenceHash::of(&signed), certificate })
    }

    /// The issuer's name.
    pub(super) fn issuer(&self) -> String {
        name::rfc4514(self.certificate.issuer())
    }

    /// Judges the dates with the skew that foreign evidence has.
    pub(super) fn dates(&self, now: UnixMillis) -> Result<(), Refusal> {
        if now >= self.until.plus(defaults::SKEW_MS) {
            return Err(Refusal::new(Reason::EvidenceExpired, format!("at {} s", self.until.secs())));
        }
        if now < self.from.minus(defaults::SKEW_MS) {
            return Err(Refusal::new(Reason::EvidenceNotYetValid, format!("until {} s", self.from.secs())));
        }
        Ok(())
    }

    /// The moment within the certificate's life that is nearest to now.
    pub(super) fn within(&self, now: UnixMillis) -> UnixTime {
        unix_time(now.max(self.from).min(self.until))
    }

    /// Refuses what chains may say of a certificate and still must not be evidence.
    pub(super) fn fit(&self, trust_domain: &TrustDomain) -> Result<(), Refusal> {
        let no = |why: &'static str| Err(Refusal::new(Reason::EvidenceChain, why));
        let usage = self.certificate.key_usage().map_err(|_| malformed("its key usage can't be read"))?;
        if usage.is_some_and(|usage| !usage.value.digital_signature()) {
            return no("its key usage is not digitalSignature");
        }
        if self.certificate.is_ca() {
            return no("it is an authority's certificate");
        }
        // Its lease would be looked at by nobody here.
        let ours = self.certificate.iter_extensions().any(|e| e.oid.to_id_string() == MAYFLY_EXTENSION)
            && self.names()?.uri.iter().any(|u| SpiffeId::parse(u).is_ok_and(|id| id.is_in(trust_domain)));
        if ours { no("it is Mayfly's own certificate, which is shown over mTLS") } else { Ok(()) }
    }

    pub(super) fn verified(&self, authority: String) -> Result<Verified, Refusal> {
        let spki = digest(&SHA256, self.certificate.public_key().raw);
        let mut holder = [0; 32];
        for (to, from) in holder.iter_mut().zip(spki.as_ref()) {
            *to = *from;
        }
        Ok(Verified {
            kind: KIND,
            issuer: authority,
            audience: String::new(),
            claims: self.claims(&hex(&holder))?,
            hash: self.hash,
            alias: None,
            issued_at: self.from,
            expires: self.until,
            holder: Some(Thumbprint::from_bytes(holder)),
        })
    }

    fn claims(&self, spki: &str) -> Result<Claims, Refusal> {
        let names = self.names()?;
        let text = |text: String| Some(ClaimValue::Text(text));
        let id = format!("{:?}", self.hash).chars().take(ID_DIGITS).collect();
        let all = [
            ("id", text(id)),
            ("serial", text(self.serial()?)),
            ("subject", text(name::rfc4514(self.certificate.subject()))),
            ("cn", common_names(self.certificate.subject())),
            ("issuer_cn", common_names(self.certificate.issuer())),
            ("dns", several(names.dns)),
            ("uri", several(names.uri)),
            ("email", several(names.email)),
            ("ip", several(names.ip)),
            ("fingerprint", text(hex(digest(&SHA256, self.der).as_ref()))),
            ("spki_sha256", text(spki.to_owned())),
            ("not_after", Some(ClaimValue::Number(self.until.secs().to_string()))),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// The serial number: a positive integer, as `openssl x509 -serial` shows it, in small letters.
    fn serial(&self) -> Result<String, Refusal> {
        let raw = self.certificate.raw_serial();
        let digits = match raw {
            [0, rest @ ..] => rest,
            [first, ..] if *first < 0x80 => raw,
            _ => return Err(malformed("its serial number is negative")),
        };
        if digits.iter().all(|b| *b == 0) {
            return Err(malformed("its serial number is zero"));
        }
        Ok(hex(digits))
    }

    fn names(&self) -> Result<Names, Refusal> {
        let unreadable = || malformed("its names can't be read");
        let mut names = Names::default();
        let Some(found) = self.certificate.subject_alternative_name().map_err(|_| unreadable())? else {
            return Ok(names);
        };
        for name in &found.value.general_names {
            match name {
                // The same host, whatever the letters.
                GeneralName::DNSName(dns) => names.dns.push(dns.to_ascii_lowercase()),
                GeneralName::URI(uri) => names.uri.push((*uri).to_owned()),
                GeneralName::RFC822Name(email) => names.email.push((*email).to_owned()),
                GeneralName::IPAddress(octets) => {
                    names.ip.push(address(octets).ok_or_else(unreadable)?.to_string())
                }
                GeneralName::Invalid(..) => return Err(unreadable()),
                _ => {}
            }
        }
        Ok(names)
    }
}

#[derive(Default)]
struct Names {
    dns: Vec<String>,
    uri: Vec<String>,
    email: Vec<String>,
    ip: Vec<String>,
}

fn several(mut all: Vec<String>) -> Option<ClaimValue> {
    match all.len() {
        0 => None,
        1 => all.pop().map(ClaimValue::Text),
        _ => Some(ClaimValue::List(all)),
    }
}

/// The common names; one in an encoding that is no text exists and matches nothing.
fn common_names(name: &X509Name<'_>) -> Option<ClaimValue> {
    let all: Result<Vec<String>, _> =
        name.iter_common_name().map(|cn| cn.as_str().map(str::to_owned)).collect();
    all.map_or(Some(ClaimValue::Other), several)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|b| format!("{b:02x}")).collect()
}
