//! A foreign certificate authority and what it issues, with real keys of every kind, for evidence by certificate.
//! Mayfly's own certificates are never made here.

use std::process::Command;
use std::time::Duration;

use mayfly_attest::{Challenge, X509Proof};
use mayfly_domain::UnixMillis;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};

/// A kind of key that certificates have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits, made by the `openssl` program, since ring makes none.
    Rsa,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa];

    /// The signature schemes that its keys may prove themselves with (RFC 8446 section 4.2.3).
    pub const fn schemes(self) -> &'static [u16] {
        match self {
            Self::P256 => &[0x0403],
            Self::P384 => &[0x0503],
            Self::Ed25519 => &[0x0807],
            Self::Rsa => &[0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806],
        }
    }

    fn generate(self) -> KeyPair {
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            Self::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
            Self::Ed25519 => KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            Self::Rsa => {
                let output = Command::new("openssl")
                    .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
                    .output()
                    .expect("RSA keys for tests are made by the openssl program: install it");
                let pem = String::from_utf8(output.stdout).unwrap();
                KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).unwrap()
            }
        }
    }
}

/// A certificate authority.
pub struct ForeignCa {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    /// The authorities above it that a chain must hold, nearest first, itself included; empty for a root.
    above: Vec<Vec<u8>>,
}

impl std::fmt::Debug for ForeignCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignCa").finish_non_exhaustive()
    }
}

/// A certificate with its key and chain.
#[derive(Debug)]
pub struct Held {
    /// The leaf, then the authorities between it and the root.
    pub chain: Vec<Vec<u8>>,
    kind: KeyKind,
    key: KeyPair,
}

/// Sets when a certificate is valid.
pub fn set_validity(params: &mut CertificateParams, from: UnixMillis, until: UnixMillis) {
    let moment = |at: UnixMillis| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.secs());
    params.not_before = moment(from);
    params.not_after = moment(until);
}

/// A certificate in PEM.
pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl ForeignCa {
    /// A root of this common name.
    pub fn new(kind: KeyKind, name: &str) -> Self {
        let (params, key) = (ca_params(name), kind.generate());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der, above: Vec::new() }
    }

    /// An authority below this one.
    pub fn intermediate(&self, kind: KeyKind, name: &str) -> Self {
        let (params, key) = (ca_params(name), kind.generate());
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let above = [std::slice::from_ref(&der), &self.above].concat();
        Self { issuer: Issuer::new(params, key), der, above }
    }

    /// Its certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its certificate as a rule's `ca_file` holds it.
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// A client certificate for a host, with a new key.
    pub fn issue_host(&self, kind: KeyKind, host: &str, from: UnixMillis, until: UnixMillis) -> Held {
        self.issue(kind, |params| {
            set_validity(params, from, until);
            params.subject_alt_names = vec![rcgen::SanType::DnsName(host.try_into().unwrap())];
        })
    }

    /// A client certificate with a new key, after `change` has been at it.
    pub fn issue(&self, kind: KeyKind, change: impl FnOnce(&mut CertificateParams)) -> Held {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = kind.generate();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Held { chain: [vec![der], self.above.clone()].concat(), kind, key }
    }
}

impl Held {
    /// The leaf.
    pub fn leaf(&self) -> &[u8] {
        &self.chain[0]
    }

    /// The private key, in PKCS #8.
    pub fn pkcs8(&self) -> Vec<u8> {
        self.key.serialize_der()
    }

    /// The key of another certificate in place of its own.
    #[must_use]
    pub fn with_key_of(self, other: Self) -> Self {
        Self { chain: self.chain, kind: other.kind, key: other.key }
    }

    /// The proof for a call, with the first of the key's schemes.
    pub fn prove(&self, challenge: &Challenge<'_>) -> X509Proof {
        self.prove_with(self.kind.schemes()[0], challenge)
    }

    /// The proof for a call, with this scheme of the key's.
    pub fn prove_with(&self, scheme: u16, challenge: &Challenge<'_>) -> X509Proof {
        let signature = self.sign(scheme, &challenge.x509_input(self.leaf()));
        X509Proof { chain: self.chain.clone(), scheme, signature }
    }

    fn sign(&self, scheme: u16, message: &[u8]) -> Vec<u8> {
        let (rng, der) = (SystemRandom::new(), self.pkcs8());
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &rng).unwrap();
            pair.sign(&rng, message).unwrap().as_ref().to_vec()
        };
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let pair = rsa::KeyPair::from_pkcs8(&der).unwrap();
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &rng, message, &mut signature).unwrap();
            signature
        };
        match scheme {
            0x0403 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            0x0503 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            0x0807 => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap().sign(message).as_ref().to_vec()
            }
            0x0401 => rsa(&RSA_PKCS1_SHA256),
            0x0501 => rsa(&RSA_PKCS1_SHA384),
            0x0601 => rsa(&RSA_PKCS1_SHA512),
            0x0804 => rsa(&RSA_PSS_SHA256),
            0x0805 => rsa(&RSA_PSS_SHA384),
            0x0806 => rsa(&RSA_PSS_SHA512),
            other => panic!("no key signs with {other:#06x}"),
        }
    }
}
