//! What a certificate says, that it says the same to others, and that it is one piece of evidence in each of its forms.

use std::process::Command;

use mayfly_attest::ClaimValue;

use super::*;

#[test]
fn what_a_certificate_claims() {
    let root = ForeignCa::new(KeyKind::P256, "Acme Root");
    let issuing = root.intermediate(KeyKind::P256, "Acme Devices");
    let held = issuing.issue(KeyKind::P256, |p| {
        valid(p);
        p.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        p.distinguished_name.push(DnType::CommonName, "device 7");
        p.subject_alt_names = vec![
            SanType::URI("urn:acme:device:7".try_into().unwrap()),
            SanType::DnsName("D7.acme.internal".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 7].into()),
            SanType::IpAddress("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().into()),
        ];
    });
    let verified = judge(&attestor(&[&root]), &held).unwrap();
    let claims = &verified.claims;
    assert_eq!(text(claims, "serial"), "0a1b");
    assert_eq!((text(claims, "cn"), text(claims, "issuer_cn")), ("device 7", "Acme Devices"));
    assert_eq!(text(claims, "subject"), "CN=device 7,O=Acme\\, Inc.");
    assert_eq!((text(claims, "uri"), text(claims, "dns")), ("urn:acme:device:7", "d7.acme.internal"));
    let both = ClaimValue::List(vec!["192.0.2.7".into(), "2001:db8::7".into()]);
    assert_eq!((claims.get("ip"), claims.get("email")), (Some(&both), None));
    assert_eq!(text(claims, "not_after"), NOW.plus(HOUR).secs().to_string());
    assert_eq!((text(claims, "id").len(), text(claims, "fingerprint").len()), (32, 64));
    assert_eq!((verified.kind, verified.audience.as_str(), verified.alias), ("x509", "", None));
    assert_eq!((verified.issued_at, verified.expires), (NOW.minus(HOUR), NOW.plus(HOUR)));
    let spki: String = verified.holder.unwrap().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text(claims, "spki_sha256"), spki);
    assert_eq!(claims.len(), 11);
}

/// `s` and `n - s` are both signatures of the authority: the certificate stays the same evidence, and its
/// fingerprint is no name for it.
#[test]
fn a_malleated_certificate_is_the_same_evidence() {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let ca = ForeignCa::new(KeyKind::P256, "root");
    let attestor = attestor(&[&ca]);
    // A form of the same length, so that nothing around the signature changes.
    let (held, other) = std::iter::repeat_with(|| ca.issue(KeyKind::P256, valid))
        .find_map(|held| {
            let der = held.leaf().to_vec();
            let start = der.len() - 33;
            if der[start - 2..=start] != [2, 33, 0] {
                return None;
            }
            let mut borrow = 0;
            let mut s = [0; 32];
            for n in (0..32).rev() {
                let d = i16::from(ORDER[n]) - i16::from(der[start + 1 + n]) - borrow;
                borrow = i16::from(d < 0);
                s[n] = u8::try_from(d.rem_euclid(256)).unwrap();
            }
            // `s` had its high bit set, so `n - s` has not: one octet less, in three lengths.
            let mut other = der[..start].to_vec();
            other.extend_from_slice(&s);
            let at = start - 1;
            other[at] -= 1;
            shorten(&mut other, der.len())?;
            Some((held, other))
        })
        .unwrap();
    let one = judge(&attestor, &held).unwrap();
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let challenge = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
    let mut malleated = held;
    malleated.chain = vec![other];
    let two = attestor.judge(&malleated.prove(&challenge), &challenge, NOW).unwrap();
    assert_eq!((one.hash, one.holder), (two.hash, two.holder));
    assert_eq!(text(&one.claims, "id"), text(&two.claims, "id"));
    assert_ne!(text(&one.claims, "fingerprint"), text(&two.claims, "fingerprint"));
}

/// Lowers by one the lengths of the outermost sequence and of the signature's bit string and sequence.
fn shorten(der: &mut [u8], old: usize) -> Option<()> {
    if der[1] != 0x82 {
        return None;
    }
    let outer = u16::from_be_bytes([der[2], der[3]]) - 1;
    der[2..4].copy_from_slice(&outer.to_be_bytes());
    let bits = (0..old - 70).rev().find(|at| der[*at] == 3 && usize::from(der[at + 1]) == old - at - 2)?;
    der[bits + 1] -= 1;
    der[bits + 4] -= 1;
    Some(())
}

#[test]
fn openssl_shows_the_same_serial_subject_and_fingerprint() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").current_dir(dir.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let subject = "/O=Acme, Inc. + #1/OU= a=b;<c>\"d\\/CN=device 7 ";
    let subject_arg = subject.replace('\\', "\\\\").replace(" + ", " \\+ ");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=Acme Root",
        "-days",
        "30",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ]);
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.csr",
        "-subj",
        &subject_arg,
    ]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-set_serial",
        "0xF00DCAFE",
        "-days",
        "2",
        "-out",
        "leaf.pem",
    ]);
    openssl(&["x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der"]);
    let shown = |what: &[&str]| {
        let args = [&["x509", "-in", "leaf.pem", "-noout"], what].concat();
        openssl(&args).trim_end_matches('\n').split_once('=').unwrap().1.to_owned()
    };
    let der = std::fs::read(dir.path().join("leaf.der")).unwrap();
    let claims = Leaf::parse(&der).unwrap().verified("x509:00".into()).unwrap().claims;
    assert_eq!(text(&claims, "serial"), shown(&["-serial"]).to_lowercase());
    assert_eq!(text(&claims, "subject"), shown(&["-subject", "-nameopt", "RFC2253"]));
    assert_eq!(
        text(&claims, "fingerprint"),
        shown(&["-fingerprint", "-sha256"]).replace(':', "").to_lowercase()
    );
    let ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
    let name = openssl(&["x509", "-in", "ca.pem", "-noout", "-fingerprint", "-sha256"]);
    let name = name.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(read_authority(&ca).unwrap().name, format!("x509:{name}"));
}
