use super::*;

mod keeping;
mod over_tls;

fn ask() -> CertificateAsk {
    CertificateAsk::new(mayfly_domain::ProfileName::parse("x509-api").unwrap())
}
