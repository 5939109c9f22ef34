use proptest::prelude::*;

use super::*;

fn workload(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://acme.internal{path}")).unwrap()
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn templates_are_filled_from_the_identity_and_its_claims() {
    let ledger = workload("/svc/payments/ledger");
    let all = tags(&[("region", "eu-west-1"), ("pod_ip", "10.1.2.3"), ("Zone", "B")]);
    for (template, name) in [
        ("ledger.payments.svc", "ledger.payments.svc"),
        ("{name}.payments.svc", "ledger.payments.svc"),
        ("{name}-{region}.payments.svc", "ledger-eu-west-1.payments.svc"),
        ("{name}.{region}.{Zone}.acme.internal", "ledger.eu-west-1.b.acme.internal"),
        ("{name}", "ledger"),
    ] {
        let template = SanTemplate::dns(template).unwrap();
        assert_eq!(template.name(&ledger, &all).unwrap(), San::dns(name).unwrap(), "{template}");
    }
    for (template, name) in [("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1"), ("{pod_ip}", "10.1.2.3")] {
        let template = SanTemplate::ip(template).unwrap();
        assert_eq!(template.name(&ledger, &all).unwrap(), San::ip(name).unwrap(), "{template}");
    }
}

#[test]
fn what_is_no_template_is_refused_at_load() {
    for bad in [
        "",
        "{name",
        "name}",
        "{}",
        "{na me}",
        "{name}}.svc",
        "{{name}}.svc",
        "{a.b}.svc",
        "{a-b}.svc",
        "*.svc",
        "{name}.*.svc",
        "{name}..svc",
        "-{name}.svc",
        "{name}-.svc",
        "{name}.svc.",
        "{name}_.svc",
        "{name}.10",
        "10.0.0.1",
        "a b",
        "$NAME.svc",
        "{name:x}.svc",
    ] {
        assert!(SanTemplate::dns(bad).is_err(), "{bad}");
    }
    for bad in ["", "10.0.0.{n}", "{a}{b}", "{a}.1", "ledger", "0.0.0.0", "{", "{}", "10.0.0.0/8"] {
        assert!(SanTemplate::ip(bad).is_err(), "{bad}");
    }
    assert!(SanTemplate::dns(&"a".repeat(OCTETS_MAX + 1)).is_err());
}

#[test]
fn a_value_that_is_not_one_label_gives_no_name() {
    let template = SanTemplate::dns("{name}-{region}.payments.svc").unwrap();
    let name = |region: &str| template.name(&workload("/svc/ledger"), &tags(&[("region", region)]));
    assert!(name("eu").is_some());
    let long = "a".repeat(63);
    for bad in ["", "a.b", "*", "a.", ".a", "-a", "a-", "a_b", "ä", "a b", "a\n", "a/b", &long] {
        assert!(name(bad).is_none(), "{bad:?}");
    }
    assert!(template.name(&workload("/svc/ledger"), &tags(&[])).is_none());
    // A segment of a SPIFFE ID may hold more than a label may.
    for id in ["/svc/a.b", "/svc/a_b", "/svc/-a"] {
        assert!(template.name(&workload(id), &tags(&[("region", "eu")])).is_none(), "{id}");
    }
    let address = SanTemplate::ip("{pod_ip}").unwrap();
    for bad in ["10.0.0.0/8", "0.0.0.0", "ledger", "10.0.0.1 ", "::ffff:10.0.0.1%1", "224.0.0.1", ""] {
        assert!(address.name(&workload("/svc/x"), &tags(&[("pod_ip", bad)])).is_none(), "{bad}");
    }
}

proptest! {
    /// Whatever a claim holds, the name has the template's labels, no wildcard, and its own text where the template
    /// has text.
    #[test]
    fn no_claim_adds_a_label_or_a_wildcard(value in "[ -~]{0,12}|[a-z0-9.*-]{1,8}|\\PC{0,6}", segment in "[a-zA-Z0-9._-]{1,8}") {
        prop_assume!(segment != "." && segment != "..");
        let template = SanTemplate::dns("{name}-{claim}.{claim}.payments.svc").unwrap();
        let filled = template.name(&workload(&format!("/svc/{segment}")), &tags(&[("claim", &value)]));
        if let Some(name) = filled {
            let name = name.as_dns().unwrap().to_owned();
            prop_assert_eq!(name.split('.').count(), 4);
            let (value, segment) = (value.to_ascii_lowercase(), segment.to_ascii_lowercase());
            prop_assert_eq!(&name, &format!("{segment}-{value}.{value}.payments.svc"));
            prop_assert!(!name.contains('*') && San::dns(&name).is_ok());
        }
    }

    #[test]
    fn any_text_is_compiled_without_a_panic(text in "\\PC{0,24}|[{}a-z.*]{0,16}", value in "\\PC{0,8}") {
        for template in [SanTemplate::dns(&text), SanTemplate::ip(&text)].into_iter().flatten() {
            prop_assert_eq!(template.as_str(), text.as_str());
            let _ = template.name(&workload("/svc/x"), &tags(&[("a", &value)]));
        }
    }
}
