//! Where verifiers may ask about workloads' certificates: a CRL and an OCSP responder.
//!
//! Must never point to anything that is not plain HTTP: both answers are signed, and TLS would ask in circles
//! (RFC 5280 section 8).

use mayfly_domain::Invalid;
use rcgen::{CertificateParams, CrlDistributionPoint, CustomExtension};
use url::Url;

/// The longest of these addresses, in octets.
pub const URL_OCTETS_MAX: usize = 512;

const AUTHORITY_INFORMATION_ACCESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 1];
const OCSP: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 48, 1];

/// What the configuration says of them, prebuilt.
#[derive(Debug, Clone, Default)]
pub struct Pointers {
    crl: Vec<CrlDistributionPoint>,
    ocsp: Option<CustomExtension>,
}

impl Pointers {
    /// Takes the addresses of the CRL (RFC 5280 section 4.2.1.13) and of the OCSP responder (section 4.2.2.1).
    ///
    /// # Errors
    /// [`Invalid`] for one that is not `http://`, too long, or has more than ASCII in it.
    pub fn new(crl: Option<&str>, ocsp: Option<&str>) -> Result<Self, Invalid> {
        let crl = crl.map(http).transpose()?.map(|url| CrlDistributionPoint { uris: vec![url] });
        let ocsp = ocsp.map(http).transpose()?.map(|url| {
            let content = yasna::construct_der(|writer| {
                writer.write_sequence_of(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&yasna::models::ObjectIdentifier::from_slice(&OCSP));
                        writer.next().write_tagged_implicit(yasna::Tag::context(6), |writer| {
                            writer.write_ia5_string(&url);
                        });
                    });
                });
            });
            CustomExtension::from_oid_content(&AUTHORITY_INFORMATION_ACCESS, content)
        });
        Ok(Self { crl: crl.into_iter().collect(), ocsp })
    }

    pub(super) fn add_to(&self, params: &mut CertificateParams) {
        params.crl_distribution_points.clone_from(&self.crl);
        params.custom_extensions.extend(self.ocsp.iter().cloned());
    }
}

fn http(text: &str) -> Result<String, Invalid> {
    let no = |why: &'static str| Invalid::new("address", text, why);
    if text.len() > URL_OCTETS_MAX || !text.is_ascii() {
        return Err(no("must be ASCII of at most 512 octets"));
    }
    let url = Url::parse(text).map_err(|_| no("is not a URL"))?;
    if url.scheme() != "http" {
        return Err(no("must be `http://`: the answers are signed, and TLS would need them itself"));
    }
    Ok(url.into())
}
