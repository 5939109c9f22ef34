//! Text form of certificates and keys (RFC 7468). It must never grow into a parser: reading is rustls' part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One block of 64-column base64 between its labels. No copy of the octets is left behind but the result.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut out = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    for part in ["-----BEGIN ", label, "-----\n"] {
        out.push_str(part);
    }
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    for part in ["-----END ", label, "-----\n"] {
        out.push_str(part);
    }
    out
}

/// Certificates, one after another.
pub(crate) fn certificates<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> String {
    all.into_iter().map(|der| encode("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0, 1, 47, 48, 49, 500] {
            let der = vec![7_u8; length];
            let text = super::certificates([der.as_slice(), der.as_slice()]);
            assert!(text.lines().all(|line| line.len() <= 64));
            let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(read, vec![CertificateDer::from(der.clone()), CertificateDer::from(der)]);
        }
    }
}
