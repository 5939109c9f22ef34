use super::*;

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn context(url: &str) -> Context {
    Context { url: url.into(), ca_sha256: Some(DIGEST.into()), ..Context::default() }
}

fn contexts() -> Contexts {
    Contexts {
        current: Some("prod".into()),
        contexts: BTreeMap::from([
            ("prod".into(), context("https://prod.example:8443")),
            ("dev".into(), context("https://127.0.0.1:8443")),
        ]),
    }
}

fn host(flag: Option<&str>, vars: &[(&str, &str)]) -> Result<String, Reason> {
    let target = contexts().target(flag, &Env::of(vars.iter().copied()));
    target.map(|t| format!("{} {}", t.name, t.url.host_str().unwrap())).map_err(|e| e.reason)
}

#[test]
fn the_flag_wins_over_the_environment_and_that_over_the_file() {
    let ad_hoc = [("MAYFLY_URL", "https://ci.example"), ("MAYFLY_CA_SHA256", DIGEST)];
    for (flag, vars, want) in [
        (None, &[][..], Ok("prod prod.example")),
        (None, &[("MAYFLY_CONTEXT", "dev")][..], Ok("dev 127.0.0.1")),
        (None, &ad_hoc[..], Ok("environment ci.example")),
        (Some("dev"), &ad_hoc[..], Ok("dev 127.0.0.1")),
        // The pin of a named context is not lent to another broker.
        (None, &ad_hoc[..1], Err(Reason::ConfigInvalid)),
        (Some("nope"), &[][..], Err(Reason::NotFound)),
    ] {
        assert_eq!(host(flag, vars), want.map(str::to_owned), "{flag:?} {vars:?}");
    }
}

#[test]
fn the_environments_pin_and_trust_domain_replace_the_files() {
    let other = "ff".repeat(32);
    let env = Env::of([("MAYFLY_CA_SHA256", other.as_str()), ("MAYFLY_TRUST_DOMAIN", "acme.internal")]);
    let target = contexts().target(None, &env).unwrap();
    assert_eq!(target.pin, Pin::Sha256([0xff; 32]));
    assert_eq!(target.trust_domain.unwrap().as_str(), "acme.internal");
}

#[test]
fn an_incomplete_or_unsafe_context_is_refused() {
    let good = context("https://a.example:8443");
    good.check("x").unwrap();
    let bad: [Context; 9] = [
        context("http://a.example"),
        context("a.example"),
        context("https://u:p@a.example"),
        context("https://a.example/path"),
        Context { ca_sha256: None, ..good.clone() },
        Context { ca_file: Some("ca.pem".into()), ..good.clone() },
        Context { ca_sha256: Some("abc".into()), ..good.clone() },
        Context { cert_file: Some("c.pem".into()), ..good.clone() },
        Context { trust_domain: Some("Acme".into()), ..good.clone() },
    ];
    for context in bad {
        assert_eq!(context.check("x").unwrap_err().reason, Reason::ConfigInvalid, "{context:?}");
    }
}

#[test]
fn the_file_is_written_for_its_owner_and_read_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mayfly/contexts.toml");
    assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
    contexts().save(&path).unwrap();
    assert_eq!(Contexts::load(&path).unwrap(), contexts());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "[contexts.a]\nurl = \"https://a\"\ninsecure = true\n").unwrap();
    let refused = Contexts::load(&path).unwrap_err();
    assert!(refused.facts.iter().any(|(_, v)| v.contains("insecure")), "{refused:?}");
}

#[test]
fn what_verifies_a_commands_peers_never_pins_the_broker() {
    let (ca, dir) = (crate::fixture::Ca::new(), tempfile::tempdir().unwrap());
    let pin = dir.path().join("root.pem");
    std::fs::write(&pin, crate::pem::certificates([ca.issuing.as_ref()])).unwrap();
    let own = dir.path().join("exec/web/ca.crt");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let below = [
        ("MAYFLY_URL", "https://ci.example".to_owned()),
        (CREDENTIALS_DIR, text(&dir.path().join("exec"))),
        (CA_FILE, text(&own)),
    ];
    let target = |more: Option<(&'static str, String)>| {
        contexts().target(None, &Env::of(below.clone().into_iter().chain(more)))
    };
    assert_eq!(target(None).unwrap_err().reason, Reason::ConfigInvalid, "there is no pin");
    assert!(matches!(target(Some((BROKER_CA_FILE, text(&pin)))).unwrap().pin, Pin::Anchors(_)));
    let digest = target(Some(("MAYFLY_CA_SHA256", DIGEST.to_owned()))).unwrap();
    assert!(matches!(digest.pin, Pin::Sha256(_)));
}
