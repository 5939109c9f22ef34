use std::path::Path;
use std::process::Command;

use mayfly_domain::KeyAlg;
use mayfly_domain::time::{Clock as _, SystemClock};
use rcgen::{BasicConstraints, CustomExtension, DnType, Issuer, KeyIdMethod, KeyPair, date_time_ymd};

use super::*;
use crate::custody::Custody;
use crate::keyring::{KeyRing, pem};
use crate::keyset::{KeySet, KeySetError};
use crate::testing::{NOW, domain, key_set};

fn custody() -> Custody {
    Custody::sealed()
}

/// A company's CA: what its certificates say, to be changed by a test, and the key.
struct Company {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca(name: &str, path: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(path);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2050, 1, 1));
    params
}

fn company(change: impl FnOnce(&mut CertificateParams)) -> Company {
    let key = KeyPair::generate().unwrap();
    let mut params = ca("Acme root", BasicConstraints::Unconstrained);
    change(&mut params);
    let root = params.self_signed(&key).unwrap().into();
    Company { root, issuer: Issuer::new(params, key) }
}

/// What a company that follows the request makes of it.
fn as_requested(set: &KeySet, role: Role) -> CertificateParams {
    let authority = set.authorities.iter().find(|a| a.role == role).unwrap();
    let (_, own) = x509_parser::parse_x509_certificate(&authority.certificate).unwrap();
    let mut params = ca("", BasicConstraints::Constrained(0));
    params.distinguished_name = rcgen::DistinguishedName::new();
    for attribute in own.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().unwrap().collect();
        params.distinguished_name.push(DnType::from_oid(&oid), attribute.as_str().unwrap());
    }
    params.not_after = date_time_ymd(2040, 1, 1);
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_identifier(&own).unwrap().to_vec());
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    if role == Role::System {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::Other(oid::SYSTEM_AUTHORITY.to_vec()));
    }
    params
}

/// The authority's public key, as a certificate takes it.
struct Public(mayfly_domain::PublicKey);

impl rcgen::PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn public(set: &KeySet, role: Role) -> Public {
    let authority = set.authorities.iter().find(|a| a.role == role).unwrap();
    Public(authority.key.public(KeyAlg::P256).unwrap())
}

fn import(set: &KeySet, role: Role, chain: &[CertificateDer<'static>]) -> Result<KeySet, Unfit> {
    match set.import(role, chain, &custody(), NOW) {
        Ok((next, _)) => Ok(next),
        Err(KeySetError::Authority(AuthorityError::Unfit(why))) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_company_s_certificate_is_presented_and_the_anchors_stay() {
    let set = key_set();
    let before = KeyRing::new(&set, &custody()).unwrap();
    for role in Role::ALL {
        let company = company(|_| {});
        let issued = as_requested(&set, role).signed_by(&public(&set, role), &company.issuer).unwrap();
        let chain = [issued.into(), company.root.clone()];
        let next = import(&set, role, &chain).unwrap();
        assert_eq!(next.version(), set.version() + 1);
        let ring = KeyRing::new(&next, &custody()).unwrap();
        assert_eq!(ring.anchors(role), before.anchors(role));
        let authority = match role {
            Role::Workload => ring.workload_authority(),
            Role::System => ring.system_authority(),
        };
        assert_eq!(authority.chain(), &chain[..1]);
        let own = &set.authorities.iter().find(|a| a.role == role).unwrap().certificate;
        assert_eq!(authority.every_chain(), [&chain[0], &chain[1], own, ring.root()].map(Clone::clone));
        assert_eq!(ring.bundle().roots, [ring.root().clone(), company.root.clone()]);
    }
}

#[test]
fn each_thing_that_verifiers_refuse_is_refused_by_name() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, Other, ServerAuth};
    let set = key_set();
    let mark = || Other(oid::SYSTEM_AUTHORITY.to_vec());
    type Change = Box<dyn Fn(&mut CertificateParams)>;
    let cases: Vec<(Role, Change, Unfit)> = vec![
        (Role::Workload, Box::new(|p| p.is_ca = IsCa::ExplicitNoCa), Unfit::NotCa(1)),
        (Role::Workload, Box::new(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]), Unfit::NotCa(1)),
        (
            Role::Workload,
            Box::new(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            Unfit::PathLength,
        ),
        (
            Role::Workload,
            Box::new(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
            Unfit::PathLength,
        ),
        (Role::Workload, Box::new(|p| p.not_after = date_time_ymd(2051, 1, 1)), Unfit::OutlivesParent(1)),
        (Role::Workload, Box::new(|p| p.not_after = date_time_ymd(2021, 1, 1)), Unfit::NotValidNow(1)),
        (Role::Workload, Box::new(|p| p.not_before = date_time_ymd(2039, 1, 1)), Unfit::NotValidNow(1)),
        (Role::Workload, Box::new(|p| p.extended_key_usages = vec![ClientAuth]), Unfit::ExtendedKeyUsage(1)),
        (Role::Workload, Box::new(|p| p.extended_key_usages = vec![CodeSigning]), Unfit::ExtendedKeyUsage(1)),
        (
            Role::Workload,
            Box::new(move |p| p.extended_key_usages = vec![ClientAuth, ServerAuth, mark()]),
            Unfit::MarkForeign,
        ),
        (
            Role::System,
            Box::new(|p| p.extended_key_usages = vec![ClientAuth, ServerAuth]),
            Unfit::MarkMissing,
        ),
        (Role::System, Box::new(|p| p.extended_key_usages.clear()), Unfit::MarkMissing),
        (
            Role::Workload,
            Box::new(|p| p.custom_extensions = vec![uri_constraint(true)]),
            Unfit::UriConstraint(1),
        ),
        (
            Role::Workload,
            Box::new(|p| p.custom_extensions = vec![uri_constraint(false)]),
            Unfit::UriConstraint(1),
        ),
        (
            Role::Workload,
            Box::new(|p| p.distinguished_name.push(DnType::CommonName, "Another")),
            Unfit::Subject,
        ),
        (Role::Workload, Box::new(|p| p.key_identifier_method = KeyIdMethod::Sha256), Unfit::KeyIdentifier),
    ];
    let company = company(|_| {});
    for (role, change, why) in cases {
        let mut params = as_requested(&set, role);
        change(&mut params);
        let issued = params.signed_by(&public(&set, role), &company.issuer).unwrap();
        assert_eq!(import(&set, role, &[issued.into(), company.root.clone()]).unwrap_err(), why);
    }
}

/// A critical name constraint on URIs (RFC 5280 section 4.2.1.10): `acme.internal`, permitted or excluded.
fn uri_constraint(permitted: bool) -> CustomExtension {
    let host = b"acme.internal";
    let mut content = vec![0x30, 19, if permitted { 0xa0 } else { 0xa1 }, 17, 0x30, 15, 0x86, 13];
    content.extend_from_slice(host);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

#[test]
fn what_stands_above_is_judged_too() {
    let set = key_set();
    let with = |change: fn(&mut CertificateParams)| {
        let company = company(change);
        let issued =
            as_requested(&set, Role::Workload).signed_by(&public(&set, Role::Workload), &company.issuer);
        import(&set, Role::Workload, &[issued.unwrap().into(), company.root]).unwrap_err()
    };
    assert_eq!(with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), Unfit::ParentPathLength(2));
    assert_eq!(with(|p| p.not_after = date_time_ymd(2030, 1, 1)), Unfit::OutlivesParent(1));
    assert_eq!(with(|p| p.not_after = date_time_ymd(2022, 1, 1)), Unfit::NotValidNow(2));
    assert_eq!(with(|p| p.custom_extensions = vec![uri_constraint(true)]), Unfit::UriConstraint(2));

    let issue = |company: &Company| -> CertificateDer<'static> {
        let params = as_requested(&set, Role::Workload);
        params.signed_by(&public(&set, Role::Workload), &company.issuer).unwrap().into()
    };
    let (one, twin) = (company(|_| {}), company(|_| {}));
    let other = company(|p| p.distinguished_name.push(DnType::CommonName, "Other root"));
    let good = issue(&one);
    // The twin has the same name and another key.
    let twins = import(&set, Role::Workload, &[good.clone(), twin.root]).unwrap_err();
    assert_eq!(twins, Unfit::Signature);
    assert_eq!(import(&set, Role::Workload, &[good.clone(), other.root]).unwrap_err(), Unfit::Order(1));
    assert_eq!(import(&set, Role::Workload, std::slice::from_ref(&good)).unwrap_err(), Unfit::NoRoot);
    assert_eq!(import(&set, Role::Workload, &[]).unwrap_err(), Unfit::Malformed(1));
    assert_eq!(chain_from_pem(pem(&one.root).repeat(CHAIN_MAX + 1).as_bytes()), Err(Unfit::TooLong));
    assert_eq!(chain_from_pem(b"no certificate"), Err(Unfit::Malformed(1)));
    let many = vec![one.root.clone(); CHAIN_MAX + 1];
    assert_eq!(import(&set, Role::Workload, &many).unwrap_err(), Unfit::TooLong);
    let broken = CertificateDer::from(one.root.iter().copied().take(100).collect::<Vec<_>>());
    assert_eq!(import(&set, Role::Workload, &[good.clone(), broken]).unwrap_err(), Unfit::Malformed(2));
    // The other role's key, and one that is nobody's.
    let keys = import(&set, Role::System, &[good, one.root.clone()]).unwrap_err();
    assert_eq!(keys, Unfit::KeyNotOurs(Role::System));
    let stranger = KeyPair::generate().unwrap();
    let foreign = as_requested(&set, Role::Workload).signed_by(&stranger, &one.issuer).unwrap();
    let keys = import(&set, Role::Workload, &[foreign.into(), one.root]).unwrap_err();
    assert_eq!(keys, Unfit::KeyNotOurs(Role::Workload));
}

fn openssl(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "openssl {args:?}: {text}");
    text
}

/// The whole way as a company walks it, with an intermediate CA and an RSA root; then a weak one.
#[test]
fn openssl_certifies_our_request() {
    for (role, bits) in [(Role::Workload, 2048), (Role::System, 3072), (Role::Workload, 1024)] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // OpenSSL judges by the machine's clock.
        let set = KeySet::init(&domain(), &custody(), SystemClock.now()).unwrap();
        let (id, csr) = set.csr(role, &custody()).unwrap();
        std::fs::write(at("ca.csr"), csr).unwrap();
        let text = openssl(dir.path(), &["req", "-in", "ca.csr", "-verify", "-noout", "-text"]);
        for part in ["CA:TRUE, pathlen:0", "Subject Key Identifier", "URI:spiffe://acme.internal"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.contains("2.25.1946157831.1"), role == Role::System);
        let (bits, rsa) = (bits.to_string(), format!("rsa:{bits}"));
        let new = ["req", "-x509", "-newkey"];
        let root = [
            &new[..],
            &[
                &rsa,
                "-noenc",
                "-keyout",
                "root.key",
                "-out",
                "root.pem",
                "-days",
                "9000",
                "-subj",
                "/O=Acme/OU=Security/CN=Acme root",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ],
        ]
        .concat();
        openssl(dir.path(), &root);
        std::fs::write(
            at("mid.cnf"),
            "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign\n",
        )
        .unwrap();
        openssl(
            dir.path(),
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-384",
                "-noenc",
                "-keyout",
                "mid.key",
                "-out",
                "mid.csr",
                "-subj",
                "/O=Acme/OU=PKI/OU=Issuing/CN=Acme issuing",
            ],
        );
        openssl(
            dir.path(),
            &[
                "x509", "-req", "-in", "mid.csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "8000",
                "-extfile", "mid.cnf", "-out", "mid.pem",
            ],
        );
        openssl(
            dir.path(),
            &[
                "x509",
                "-req",
                "-in",
                "ca.csr",
                "-CA",
                "mid.pem",
                "-CAkey",
                "mid.key",
                "-days",
                "4000",
                "-copy_extensions",
                "copyall",
                "-out",
                "ours.pem",
            ],
        );
        let whole = ["ours.pem", "mid.pem", "root.pem"].map(|n| std::fs::read(at(n)).unwrap()).concat();
        let chain = chain_from_pem(&whole).unwrap();
        let (_, made) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let now = UnixMillis::from_secs(made.validity().not_before.timestamp().unsigned_abs() + 60);
        let imported = set.import(role, &chain, &custody(), now);
        if bits == "1024" {
            let why = imported.unwrap_err().to_string();
            assert!(why.contains("certificate 3 of the chain is too weak"), "{why}");
            continue;
        }
        let (next, of) = imported.unwrap();
        assert_eq!(of, id);
        let ring = KeyRing::new(&next, &custody()).unwrap();
        let issuing = match role {
            Role::Workload => ring.workload_authority(),
            Role::System => ring.system_authority(),
        };
        assert_eq!(issuing.chain(), &chain[..2]);
        // OpenSSL takes the anchor alone, and the company's root with what stands between.
        let mut params = CertificateParams::default();
        params.serial_number = Some(random_serial().unwrap());
        set_validity(&mut params, now.minus(120_000), now.plus(600_000));
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![uri("spiffe://acme.internal/ci/payments").unwrap()];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), issuing.issuer()).unwrap();
        std::fs::write(at("leaf.pem"), pem(leaf.der())).unwrap();
        std::fs::write(at("chain.pem"), issuing.chain().iter().map(pem).collect::<String>()).unwrap();
        std::fs::write(at("anchor.pem"), pem(&ring.anchors(role)[0])).unwrap();
        for purpose in ["sslclient", "sslserver"] {
            openssl(dir.path(), &["verify", "-purpose", purpose, "-CAfile", "anchor.pem", "leaf.pem"]);
            openssl(
                dir.path(),
                &[
                    "verify",
                    "-purpose",
                    purpose,
                    "-CAfile",
                    "root.pem",
                    "-untrusted",
                    "chain.pem",
                    "leaf.pem",
                ],
            );
        }
        let certtool = |ca: &str, certificate: &str| {
            let out = Command::new("certtool")
                .args(["--verify", "--load-ca-certificate", ca, "--infile", certificate])
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        };
        std::fs::write(
            at("whole.pem"),
            [pem(leaf.der()), issuing.chain().iter().map(pem).collect()].concat(),
        )
        .unwrap();
        certtool("anchor.pem", "leaf.pem");
        certtool("root.pem", "whole.pem");
    }
}
