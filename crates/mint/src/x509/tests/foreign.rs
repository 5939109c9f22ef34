//! Certificates in hands that are not ours: OpenSSL, GnuTLS and webpki.

use std::path::PathBuf;
use std::process::{Command, Output};

use mayfly_credential::spki::der;
use mayfly_domain::time::{Clock as _, SystemClock};
use mayfly_domain::{
    CredentialKind, DimKey, Fence, Generation, GenerationId, KeyAlg, LeaseId, Observation, Pair, SpiffeId,
    Ttl, UnixMillis,
};
use rustls_pki_types::CertificateDer;
use webpki::KeyUsage;

use super::verified;
use crate::custody::Custody;
use crate::issuing::Role;
use crate::keyring::{KeyRing, pem};
use crate::keyset::KeySet;
use crate::testing::{domain, key_pair, record, x509_record};
use crate::x509::{Pointers, ServerName, broker_identity, staff, workload};

/// What a certificate is good for.
struct Issued {
    what: String,
    role: Role,
    chain: Vec<CertificateDer<'static>>,
    client: bool,
    server: bool,
}

/// Keys and certificates of this very moment: GnuTLS asks no other clock.
struct Site {
    now: UnixMillis,
    ring: KeyRing,
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let now = SystemClock.now();
        let custody = Custody::sealed();
        let ring = KeyRing::new(&KeySet::init(&domain(), &custody, now).unwrap(), &custody).unwrap();
        Self { now, ring, dir: tempfile::tempdir().unwrap() }
    }

    fn workload(&self, alg: KeyAlg, client: bool, server: bool, pointers: &Pointers) -> Issued {
        let (_, key) = key_pair(alg);
        let mut record = x509_record(&self.ring, &key);
        record.id = LeaseId::from_parts(self.now, &[9; 10]);
        record.expires = self.now.plus(3_600_000).floor_secs();
        // As large as an observation can be.
        let pairs = (0..40).map(|n| Pair { key: DimKey([n; 16]), fence: Fence::new(u64::from(n)).unwrap() });
        let ancestors = (0..8).map(|n| LeaseId::from_bytes([n; 16]));
        let generation = Generation { number: 3, id: GenerationId([4; 8]) };
        record.observation = Observation::new(generation, pairs, ancestors).unwrap();
        let x509 = record.body.x509.as_mut().unwrap();
        (x509.client, x509.server) = (client, server);
        let issued = workload::issue(&self.ring, &record, &key, pointers, self.now).unwrap();
        let what = format!("workload, {alg:?}, client: {client}, server: {server}");
        Issued { what, role: Role::Workload, chain: issued.chain().to_vec(), client, server }
    }

    fn staff(&self, kind: CredentialKind, name: &str, alg: KeyAlg) -> Issued {
        let (_, key) = key_pair(alg);
        let mut record = record();
        record.body.kind = kind;
        record.body.workload = SpiffeId::parse(&format!("spiffe://acme.internal/mayfly/{name}")).unwrap();
        record.body.key = key.thumbprint();
        record.expires = self.now.plus(3_600_000).floor_secs();
        let issued = staff::issue(&self.ring, &record, &der(&key), self.now).unwrap();
        let chain = issued.chain().to_vec();
        Issued { what: format!("{name}, {alg:?}"), role: Role::System, chain, client: true, server: false }
    }

    /// One of every kind that is minted.
    fn all(&self) -> Vec<Issued> {
        let pointers =
            Pointers::new(Some("http://crl.acme.internal/w.crl"), Some("http://ocsp.acme.internal/"));
        let (pointers, none) = (pointers.unwrap(), Pointers::default());
        let mut all = Vec::new();
        for alg in [KeyAlg::P256, KeyAlg::Ed25519] {
            for (client, server) in [(true, false), (false, true), (true, true)] {
                all.push(self.workload(alg, client, server, if server { &pointers } else { &none }));
            }
            all.push(self.staff(CredentialKind::Operator, "operator/alice", alg));
            all.push(self.staff(CredentialKind::Acceptor, "acceptor/ledger-api", alg));
        }
        let names = [ServerName::parse("localhost"), ServerName::parse("127.0.0.1")];
        let broker = broker_identity(&self.ring, "b-1", &names, Ttl::constant(3_600), self.now).unwrap();
        let what = "broker".to_owned();
        all.push(Issued { what, role: Role::System, chain: broker.chain, client: true, server: true });
        all
    }

    fn file(&self, name: &str, certificates: &[CertificateDer<'_>]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, certificates.iter().map(pem).collect::<String>()).unwrap();
        path
    }

    /// The root, and each role's anchor with the only role that it vouches for.
    fn trusted(&self) -> [(PathBuf, &CertificateDer<'static>, Option<Role>); 3] {
        let anchor = |role| &self.ring.anchors(role)[0];
        let file =
            |name, certificate: &CertificateDer<'static>| self.file(name, std::slice::from_ref(certificate));
        let (workload, system) = (anchor(Role::Workload), anchor(Role::System));
        [
            (file("root.pem", self.ring.root()), self.ring.root(), None),
            (file("workload.pem", workload), workload, Some(Role::Workload)),
            (file("system.pem", system), system, Some(Role::System)),
        ]
    }
}

fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } =
        command.output().expect("these tests need openssl and certtool: run `make test`");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// OpenSSL's word and GnuTLS's for the usages client and server.
const PURPOSES: [(&str, &str); 2] = [("sslclient", "1.3.6.1.5.5.7.3.2"), ("sslserver", "1.3.6.1.5.5.7.3.1")];

#[test]
fn openssl_gnutls_and_webpki_accept_every_certificate_by_root_and_by_anchor_alone() {
    let site = Site::new();
    let trusted = site.trusted();
    for issued in site.all() {
        let leaf = site.file("leaf.pem", &issued.chain[..1]);
        let above = site.file("above.pem", &issued.chain[1..]);
        let chain = site.file("chain.pem", &issued.chain);
        for (ca, certificate, only) in &trusted {
            for ((purpose, oid), granted) in PURPOSES.into_iter().zip([issued.client, issued.server]) {
                let good = granted && only.is_none_or(|role| role == issued.role);
                let what = format!("{}, {purpose}, by {}", issued.what, ca.display());
                let (accepted, said) = run(Command::new("openssl")
                    .args([
                        "verify",
                        "-x509_strict",
                        "-purpose",
                        purpose,
                        "-no-CAstore",
                        "-no-CApath",
                        "-CAfile",
                    ])
                    .arg(ca)
                    .arg("-untrusted")
                    .args([&above, &leaf]));
                assert_eq!(accepted, good, "openssl: {what}: {said}");
                let (accepted, said) = run(Command::new("certtool")
                    .args(["--verify", "--verify-purpose", oid, "--load-ca-certificate"])
                    .arg(ca)
                    .arg("--infile")
                    .arg(&chain));
                assert_eq!(accepted, good, "certtool: {what}: {said}");
                let usage = match purpose {
                    "sslclient" => KeyUsage::client_auth(),
                    _ => KeyUsage::server_auth(),
                };
                let accepted = verified(certificate, &issued.chain, usage, site.now);
                assert_eq!(accepted.is_ok(), good, "webpki: {what}: {accepted:?}");
            }
        }
    }
}

#[test]
fn names_are_as_other_verifiers_read_them() {
    let site = Site::new();
    let issued = site.workload(KeyAlg::P256, true, true, &Pointers::default());
    let chain = site.file("chain.pem", &issued.chain);
    let anchor = site.file("anchor.pem", site.ring.anchors(Role::Workload));
    for (host, good) in [("deploy.payments.svc", true), ("vault.payments.svc", false), ("deploy", false)] {
        let (accepted, said) = run(Command::new("openssl")
            .args(["verify", "-verify_hostname", host, "-CAfile"])
            .args([&anchor, &chain]));
        assert_eq!(accepted, good, "openssl: {host}: {said}");
        let (accepted, said) = run(Command::new("certtool")
            .args(["--verify", "--verify-hostname", host, "--load-ca-certificate"])
            .arg(&anchor)
            .arg("--infile")
            .arg(&chain));
        assert_eq!(accepted, good, "certtool: {host}: {said}");
    }
}

/// Without a DNS name in it a verifier may take the common name for a host's: it must be none, whatever the workload
/// is called.
#[test]
fn a_common_name_is_no_hosts() {
    let site = Site::new();
    let (_, key) = key_pair(KeyAlg::P256);
    let mut record = x509_record(&site.ring, &key);
    record.expires = site.now.plus(3_600_000).floor_secs();
    record.body.workload = SpiffeId::parse("spiffe://acme.internal/bank.example.com").unwrap();
    record.body.x509.as_mut().unwrap().names.clear();
    let issued = workload::issue(&site.ring, &record, &key, &Pointers::default(), site.now).unwrap();
    let chain = site.file("chain.pem", issued.chain());
    let anchor = site.file("anchor.pem", site.ring.anchors(Role::Workload));
    let (valid, said) = run(Command::new("openssl").args(["verify", "-CAfile"]).args([&anchor, &chain]));
    assert!(valid, "{said}");
    let (accepted, said) = run(Command::new("openssl")
        .args(["verify", "-verify_hostname", "bank.example.com", "-CAfile"])
        .args([&anchor, &chain]));
    assert!(!accepted && said.contains("hostname mismatch"), "{said}");
}

#[test]
fn openssl_prints_what_the_documentation_says() {
    let site = Site::new();
    let pointers =
        Pointers::new(Some("http://crl.acme.internal/w.crl"), Some("http://ocsp.acme.internal/")).unwrap();
    let issued = site.workload(KeyAlg::P256, true, true, &pointers);
    let leaf = site.file("leaf.pem", &issued.chain[..1]);
    let (_, text) = run(Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&leaf));
    for part in [
        "Version: 3",
        "Issuer: O = acme.internal, CN = Mayfly workload CA",
        "Subject: CN = /ci/payments/deploy",
        "NIST CURVE: P-256",
        "URI:spiffe://acme.internal/ci/payments/deploy, DNS:deploy.payments.svc, IP Address:10.1.2.3",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "URI:http://crl.acme.internal/w.crl",
        "OCSP - URI:http://ocsp.acme.internal/",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "2.25.1946157831: \n",
        "Signature Algorithm: ecdsa-with-SHA256",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn openssl_takes_the_extension_apart_as_documented() {
    let site = Site::new();
    let issued = site.workload(KeyAlg::Ed25519, true, false, &Pointers::default());
    let leaf = site.file("leaf.pem", &issued.chain[..1]);
    let parse =
        |more: &[&str]| run(Command::new("openssl").args(["asn1parse", "-in"]).arg(&leaf).args(more)).1;
    let whole = parse(&[]);
    let mut lines = whole.lines().skip_while(|l| !l.ends_with("OBJECT            :2.25.1946157831"));
    assert!(lines.next().is_some(), "{whole}");
    let value = lines.next().unwrap();
    // Not critical: no BOOLEAN between the identifier and the value.
    assert!(value.contains("prim: OCTET STRING"), "{value}");
    let offset = value.split(':').next().unwrap().trim();
    let inner = parse(&["-strparse", offset]);
    let inner: Vec<&str> = inner.lines().collect();
    let [sequence, version, octets] = inner[..] else { panic!("{inner:?}") };
    assert!(sequence.contains("d=0") && sequence.contains("cons: SEQUENCE"), "{sequence}");
    assert!(version.contains("d=1") && version.ends_with("prim: INTEGER           :01"), "{version}");
    assert!(octets.contains("d=1") && octets.contains("prim: OCTET STRING      [HEX DUMP]:"), "{octets}");
    let hex = octets.rsplit(':').next().unwrap();
    let observation: Vec<u8> =
        (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect();
    let observation = Observation::decode(&observation).unwrap();
    assert_eq!((observation.pairs().len(), observation.ancestors().len()), (40, 8));
}
