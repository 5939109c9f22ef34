//! Rules for certificates: the authority, what anchors them, and what they make of claims.

use super::*;
use crate::issuer::Authority;

fn authority(n: u8) -> Authority {
    Authority {
        name: format!("x509:{n:02x}"),
        certificate: vec![n],
        identity: [n; 32],
        expires: UnixMillis::from_secs(2_000_000_000),
    }
}

fn devices() -> RawTrustRule {
    RawTrustRule {
        name: "devices".into(),
        preset: Some("x509".into()),
        authority: Some(authority(1)),
        spiffe_id: "/devices/{serial}".into(),
        owners: vec!["team:fleet".into()],
        review_by: Some("2027-05-01".into()),
        matches: vec![prefix("uri", "urn:acme:device:")],
        ..RawTrustRule::default()
    }
}

fn device() -> Verified {
    let claims =
        [("id", "9f"), ("serial", "0a1b"), ("uri", "urn:acme:device:7"), ("cn", "device 7"), ("dns", "d7")];
    Verified { kind: "x509", audience: String::new(), ..evidence("x509:01", &claims) }
}

#[test]
fn a_certificate_makes_a_workload_whose_task_is_its_lineage() {
    let rule = compile(devices());
    assert!(rule.accepts(&device()));
    let made = rule.identify(&device().claims).unwrap();
    assert_eq!(made.workload.as_str(), "spiffe://acme.internal/devices/0a1b");
    assert_eq!(made.task.id.as_str(), "x509-9f");
    assert_eq!((made.task.window, made.task.window_max), (defaults::LINEAGE_MAX, defaults::LINEAGE_MAX));
    assert_eq!((rule.bind(), rule.audience_for(&key())), (Bind::Proof, String::new()));
    assert_eq!(rule.evidence_life(), defaults::X509_LINEAGE);
    rule.judge(&device(), &key()).unwrap();
    let token = Verified { audience: "acme.internal".into(), ..device() };
    assert_eq!(rule.judge(&token, &key()).unwrap_err().reason, Reason::EvidenceAudience);
    assert!(!rule.accepts(&Verified { issuer: "x509:02".into(), ..device() }), "of another authority");
    assert!(!rule.accepts(&with(device(), "uri", Some("urn:other:7"))));
    let set = RuleSet::new(vec![rule]).unwrap();
    assert!(set.issuers().is_empty(), "nobody asks an authority for keys");
    assert_eq!(set.authorities(), [authority(1)]);
    assert_eq!(set.longest_evidence_life(), Some(defaults::X509_LINEAGE));
}

#[test]
fn what_is_refused_at_load() {
    type Change = fn(&mut RawTrustRule);
    let table: &[(Change, &str)] = &[
        (|r| r.authority = None, "`ca_file`: is missing"),
        (|r| r.issuer = Some("https://ca.example".into()), "`issuer`: is for tokens"),
        (|r| r.jwks_uri = Some("https://ca.example".into()), "`jwks_uri`: is for tokens"),
        (|r| r.jwks_host = Some("ca.example".into()), "`jwks_host`: is for tokens"),
        (|r| r.algorithms = vec!["ES256".into()], "`algorithms`: is for tokens"),
        (|r| r.audience = Some("acme.internal".into()), "`audience`: is for tokens"),
        (|r| r.bind = Some("first-use".into()), "`bind`: must be `proof`"),
        (|r| r.bind = Some("proof".into()), ""),
        (|r| r.on_other_key = Some("supersede".into()), "`on_other_key`: `supersede` needs"),
        (|r| r.evidence_life = Some("30d".into()), ""),
        (|r| r.evidence_life = Some("31d".into()), "`evidence_life`: `31d` is longer than `30d`"),
        (|r| r.matches = vec![], "`match`: is empty"),
        (|r| r.matches = vec![exact("issuer_cn", "x"), prefix("dns", "web-")], ""),
        (|r| r.matches = vec![prefix("serial", "0a")], "`match.serial`: is an id"),
        (|r| r.matches = vec![exact("serial", "0A:1B")], "`match.serial`: is lower-case hexadecimal"),
        (|r| r.matches.push(exact("cn", "device 7")), ""),
        (|r| r.owners = vec!["user:{cn}".into()], "`owners`: `{cn}`: is a name"),
        (|r| r.owners = vec!["user:{uri}".into()], ""),
        (|r| r.spiffe_id = "/d/{fingerprint}".into(), "`spiffe_id`: `{fingerprint}` can be changed"),
    ];
    for (change, expected) in table {
        let mut raw = devices();
        change(&mut raw);
        match *expected {
            "" => drop(compile(raw)),
            expected => {
                let all = mistakes(raw);
                assert!(all.len() == 1 && all[0].starts_with(expected), "{expected}: {all:#?}");
            }
        }
    }
    let mut token = gitlab();
    token.authority = Some(authority(1));
    token.bind = Some("proof".into());
    let all = mistakes(token);
    assert!(all.len() == 2 && all[0].starts_with("`ca_file`") && all[1].starts_with("`bind`"), "{all:#?}");
}

#[test]
fn a_common_name_alone_stands_only_where_the_rule_allows_names() {
    let mut raw = devices();
    raw.matches = vec![exact("cn", "device 7")];
    assert_eq!(mistakes(raw.clone()).len(), 2);
    raw.allow_names = true;
    let rule = compile(raw.clone());
    assert!(rule.lint(UnixMillis(0)).iter().any(|e| e.key == "allow_names"));
    raw.matches = vec![prefix("cn", "device ")];
    compile(raw.clone());
    raw.matches = vec![prefix("ip", "10.")];
    assert_eq!(mistakes(raw).len(), 1, "the start of an address is nobody");
}

#[test]
fn many_holders_as_one_workload_are_warned_of() {
    let lint = |spiffe_id: &str| {
        let raw = RawTrustRule { spiffe_id: spiffe_id.into(), ..devices() };
        compile(raw).lint(UnixMillis(0)).into_iter().any(|e| e.key == "spiffe_id")
    };
    assert!(lint("/devices"));
    assert!(!lint("/devices/{uri}"));
}

#[test]
fn an_authority_that_ends_soon_is_warned_of() {
    let rule = compile(devices());
    let warned = |now: u64| rule.lint(UnixMillis::from_secs(now)).iter().any(|e| e.key == "ca_file");
    assert!(!warned(2_000_000_000 - 30 * 86_400 - 1));
    assert!(warned(2_000_000_000 - 30 * 86_400));
}

#[test]
fn one_authority_is_named_by_one_certificate() {
    let mut other = devices();
    other.name = "other".into();
    other.matches = vec![prefix("dns", "web-")];
    let set = |other: &RawTrustRule| RuleSet::new(vec![compile(devices()), compile(other.clone())]);
    assert_eq!(set(&other).unwrap().authorities().len(), 1);
    other.authority = Some(Authority { identity: [1; 32], ..authority(2) });
    let keys: Vec<String> = set(&other).unwrap_err().into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["ca_file"]);
    other.authority = Some(authority(2));
    assert_eq!(set(&other).unwrap().authorities().len(), 2);
}
