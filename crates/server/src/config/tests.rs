use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn no_environment() -> Vec<(String, String)> {
    Vec::new()
}

/// Loads a directory of the given files, with the least that `mayfly.toml` must say.
fn load_files(main: &str, files: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mayfly.toml"), main).unwrap();
    for (name, text) in files {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    load(&dir.path().join("mayfly.toml"), no_environment())
}

/// The problems as printed, without the temporary directory in front.
fn told(result: Result<Loaded, Problems>) -> Vec<String> {
    let strip = |p: &Problem| {
        let file = p.file.components().rev().take(2).collect::<Vec<_>>();
        let name: PathBuf = file.into_iter().rev().collect();
        let name = if name.ends_with("mayfly.toml") { PathBuf::from("mayfly.toml") } else { name };
        Problem { file: name, ..p.clone() }.to_string()
    };
    result.unwrap_err().iter().map(strip).collect()
}

const LEAST: &str =
    "trust_domain = 'a.b'\npublic_url = 'https://a.b'\nstate_dir = '/s'\nkeys.seal_file = '/k'\n";

#[test]
fn the_examples_load() {
    let loaded = load(&examples().join("mayfly.toml"), no_environment()).unwrap_or_else(|e| panic!("{e}"));
    let s = &loaded.settings;
    assert_eq!(s.trust_domain.as_str(), "acme.internal");
    assert_eq!(s.public_url, "https://mayfly.acme.internal:8443");
    assert_eq!(s.audit.reserve, 256 << 20);
    assert_eq!(s.quota.owner_live_leases, 10_000);
    let Store::Redis(redis) = &s.store else { panic!("{:?}", s.store) };
    assert_eq!(redis.url.username.as_deref(), Some("mayfly"));
    assert_eq!(
        loaded.rules.rules().iter().map(|r| r.name().as_str()).collect::<Vec<_>>(),
        ["billing-report", "ledger", "payments-deploy"]
    );
    assert_eq!(
        loaded.engine.profiles().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["billing-report", "ledger-mtls", "payments-deploy"]
    );
    let now = mayfly_domain::UnixMillis(1_790_000_000_000);
    assert_eq!(loaded.engine.lint(now), []);
    assert_eq!(loaded.rules.lint(now), []);
    let outcomes: Vec<_> = loaded.policy_tests.iter().flat_map(|(_, t)| t.run(&loaded.engine)).collect();
    assert!(outcomes.len() >= 10, "{outcomes:?}");
    assert!(outcomes.iter().all(|o| o.problems.is_empty()), "{outcomes:#?}");
    assert_eq!(loaded.operators.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert_eq!(
        loaded.acceptors.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(),
        ["deploy-api", "ledger-api"]
    );
}

#[test]
fn the_least_takes_the_defaults() {
    let s = load_files(LEAST, &[]).unwrap().settings;
    assert_eq!(s.store, Store::Embedded);
    assert_eq!(
        s.ttl.token,
        Life { default: mayfly_domain::defaults::TOKEN_TTL, max: mayfly_domain::defaults::TOKEN_TTL_MAX }
    );
    assert_eq!(s.quota.workload_live_leases, mayfly_domain::defaults::LIVE_LEASES_WORKLOAD);
    assert_eq!(s.policy_dirs, [PathBuf::from("policies")]);
    assert_eq!(s.seal, Seal::File("/k".into()));
}

#[test]
fn what_is_required_is_told_at_once() {
    assert_eq!(
        told(load_files("", &[])),
        [
            "mayfly.toml:1: keys: give exactly one of `seal_file`, `seal_env` and `passphrase_file`",
            "mayfly.toml:1: public_url: is missing",
            "mayfly.toml:1: state_dir: is missing",
            "mayfly.toml:1: trust_domain: is missing",
        ]
    );
}

#[test]
fn one_bad_value_is_one_problem_on_its_line() {
    for (text, problem) in [
        (
            "[store]\nurl = 'redis://u:hunter2@h'",
            "6: store.url: must not hold a password; name its file by `password_file`",
        ),
        (
            "[store]\nurl = 'redis://10.0.0.1'",
            "6: store.url: has no TLS and is not on this machine; use `rediss://`, or accept the risk `plaintext` by name",
        ),
        ("[store]\nca_file = '/c'", "5: store.url: is missing; leave `[store]` out for the embedded store"),
        (
            "[ttl]\ntoken = { default = '2h' }",
            "6: ttl.token.default: `2h`: longer than `1h`, the most that is possible here",
        ),
        (
            "[ttl]\ntoken = { default = '5m', max = '4m' }",
            "6: ttl.token: the default `5m` is longer than the maximum `4m`",
        ),
        (
            "[ttl.lineage]\nmax = '31d'",
            "6: ttl.lineage.max: `31d`: longer than `30d`, the most that is possible here",
        ),
        (
            "[ttl.lineage]\ntoken = '10m'",
            "6: ttl.lineage.token: `10m` is shorter than one credential's longest life, `1h`",
        ),
        ("[quota.owner]\nlive_leases = 0", "6: quota.owner.live_leases: `0`: must be 1 to 1000000000"),
        (
            "[server]\nlisten = '8443'",
            "6: server.listen: `8443`: must be an address and a port, such as `0.0.0.0:8443`",
        ),
        ("[server]\nlisten_on = 1", "6: server.listen_on: unknown key; did you mean `listen`?"),
        ("[limits]\nconnections = 5", "5: limits.connections_per_address: is more than `connections`"),
        (
            "[[audit.sink]]\nreserve = '256MB'",
            "6: audit.sink[0].reserve: `256MB`: must be a whole number and `B`, `KiB`, `MiB` or `GiB`, such as `64MiB`",
        ),
        ("[[audit.sink]]\nsync = 'never'", "6: audit.sink[0].sync: `never`: must be one of `group`, `each`"),
        ("[[audit.sink]]\n[[audit.sink]]", "5: audit.sink: has 2 tables, more than 1"),
        ("[keys]\nseal_env = 'A=B'", "5: not valid TOML: duplicate key"),
        ("[broker]\nid = 'A'", "6: broker.id: `A`: must start with a lower-case letter or a digit"),
    ] {
        assert_eq!(
            told(load_files(&format!("{LEAST}{text}\n"), &[])),
            [format!("mayfly.toml:{problem}")],
            "{text}"
        );
    }
}

#[test]
fn a_seal_is_given_once() {
    let with =
        |keys: &str| load_files(&LEAST.replace("keys.seal_file = '/k'", keys), &[]).map(|l| l.settings.seal);
    assert_eq!(with("keys.seal_env = 'SEAL_1'").unwrap(), Seal::Environment("SEAL_1".into()));
    assert_eq!(with("keys.passphrase_file = '/p'").unwrap(), Seal::PassphraseFile("/p".into()));
    assert!(with("keys = { seal_file = '/k', passphrase_file = '/p' }").is_err());
    assert_eq!(with("keys.seal_env = '1A'").unwrap_err().iter().len(), 1);
}

#[test]
fn a_module_is_named_whole() {
    use mayfly_mint::KeyUse;
    let with = |module: &str| load_files(&format!("{LEAST}keys.pkcs11 = {{ {module} }}\n"), &[]);
    let least = "module = '/m.so', token = 'mayfly', pin_file = '/pin'";
    let module = with(least).unwrap().settings.module.unwrap();
    assert_eq!((module.token.as_str(), module.uses.as_slice()), ("mayfly", &KeyUse::ALL[..]));
    let module = with(&format!("{least}, uses = ['system-ca']")).unwrap().settings.module.unwrap();
    assert_eq!(module.uses, [KeyUse::SystemCa]);
    for (bad, problem) in [
        ("module = '/m.so', token = 'mayfly'", "keys.pkcs11.pin_file: is missing"),
        ("token = 'mayfly', pin_file = '/pin'", "keys.pkcs11.module: is missing"),
        (&format!("{least}, uses = []"), "keys.pkcs11.uses: must not be empty"),
        (&format!("{least}, uses = ['ca']"), "`ca`: must be one of `workload-ca`, `system-ca`, `token`"),
        (&format!("{least}, pin = '1'"), "keys.pkcs11.pin"),
    ] {
        let problems = told(with(bad));
        assert!(problems.len() == 1 && problems[0].contains(problem), "{bad}: {problems:?}");
    }
    assert_eq!(load_files(LEAST, &[]).unwrap().settings.module, None);
}

const RULE: &str = "name = 'r'
preset = 'github-actions'
spiffe_id = '/ci/r'
owners = ['team:a']
[match]
repository_id = '1'
";

#[test]
fn a_rule_is_told_by_line() {
    assert_eq!(load_files(LEAST, &[("trust/r.toml", RULE)]).unwrap().rules.rules().len(), 1);
    let listed = RULE.replace("= '1'", "= ['1', '2']");
    assert_eq!(load_files(LEAST, &[("trust/r.toml", &listed)]).unwrap().rules.rules().len(), 1);
    for (from, to, problem) in [
        ("= '1'", "= ['1', 2]", "trust/r.toml:6: match.repository_id: must be text in quotes"),
        (
            "= '1'",
            "= 1",
            "trust/r.toml:6: match.repository_id: must be text, `{ prefix = \"…\" }` or a list of texts",
        ),
        ("= '1'", "= { suffix = '1' }", "trust/r.toml:6: match.repository_id: must be text, `{ prefix"),
        ("preset", "prest", "trust/r.toml:2: prest: unknown key; did you mean `preset`?"),
        ("['team:a']", "['team:a', 7]", "trust/r.toml:4: owners: must be text in quotes, not a whole number"),
        ("name = 'r'", "name = 3", "trust/r.toml:1: name: must be text in quotes, not a whole number"),
        ("spiffe_id = '/ci/r'", "spiffe_id = '/mayfly/r'", "trust/r.toml:3: spiffe_id: "),
        ("[match]", "[task]\nid = '{'\n[match]", "trust/r.toml:6: task.id: "),
    ] {
        let problems = told(load_files(LEAST, &[("trust/r.toml", &RULE.replace(from, to))]));
        assert!(problems.iter().any(|p| p.starts_with(problem)), "{to}: {problems:#?}");
    }
    let twin = RULE.replace("'r'", "'twin'");
    let problems = told(load_files(LEAST, &[("trust/r.toml", RULE), ("trust/t.toml", &twin)]));
    assert!(problems.iter().any(|p| p.contains("match the same evidence")), "{problems:#?}");
}

const PROFILE: &str = "name = 'p'
summary = 'x'
kind = 'token'
integration = 'i'
owner = 'team:a'
intents = ['a:b']
[token]
audience = 'https://a.b'
acceptors = 'online'
ttl = { max = '15m' }
";

#[test]
fn a_rule_for_certificates_names_its_authority_by_a_file_beside_it() {
    use mayfly_testkit::x509::{ForeignCa, KeyKind, pem};
    let ca = ForeignCa::new(KeyKind::P256, "devices");
    let leaf = pem(ca.issue(KeyKind::P256, |_| {}).leaf());
    let rule = |more: &str| {
        format!(
            "name = 'devices'\npreset = 'x509'\nspiffe_id = '/devices/{{serial}}'\nowners = ['team:fleet']\n{more}\n\
             [match]\nuri = {{ prefix = 'urn:acme:' }}\n"
        )
    };
    let load = |main: &str, more: &str| {
        load_files(
            main,
            &[("trust/devices.toml", &rule(more)), ("trust/ca.pem", &ca.pem()), ("trust/leaf.pem", &leaf)],
        )
    };
    let loaded = load(LEAST, "ca_file = 'ca.pem'").unwrap();
    let [authority] = loaded.rules.authorities().try_into().unwrap();
    assert_eq!(authority.certificate, ca.der());
    let short = format!("{LEAST}ttl.lineage.max = '2d'\nttl.lineage.token = '1d'\nttl.lineage.x509 = '1d'\n");
    load(&short, "ca_file = 'ca.pem'\nevidence_life = '2d'").unwrap();
    for (main, more, expected) in [
        (LEAST, "", "trust/devices.toml:1: ca_file: is missing"),
        (LEAST, "ca_file = 'none.pem'", "trust/devices.toml:5: ca_file: "),
        (LEAST, "ca_file = 'leaf.pem'", "trust/devices.toml:5: ca_file: "),
        (LEAST, "ca_file = 'devices.toml'", "trust/devices.toml:5: ca_file: "),
        (
            &short,
            "ca_file = 'ca.pem'\nevidence_life = '3d'",
            "trust/devices.toml:6: evidence_life: `3d` is longer",
        ),
        (&short, "ca_file = 'ca.pem'", "trust/devices.toml:1: evidence_life: `7d` is longer than `2d`"),
    ] {
        let all = told(load(main, more));
        assert!(all.len() == 1 && all[0].starts_with(expected), "{expected}: {all:#?}");
    }
}

#[test]
fn profiles_and_policies_are_told_by_line() {
    let permit = "permit (\n principal is Mayfly::Workload, action, resource\n) when { context.claimd.intent == \"x\" };";
    load_files(LEAST, &[("profiles/p.toml", PROFILE)]).unwrap();
    for (from, to, problem) in [
        ("'15m'", "'2h'", "profiles/p.toml:10: token.ttl.max: "),
        ("intents", "intnts", "profiles/p.toml:6: intnts: unknown key; did you mean `intents`?"),
        ("['a:b']", "['a:b', 'nope']", "profiles/p.toml:6: intents[1]: "),
        ("'online'", "'sometimes'", "profiles/p.toml:9: token.acceptors: "),
        (
            "[token]",
            "[quota.workload]\nlive_leases = 0\n[token]",
            "profiles/p.toml:8: quota.workload.live_leases: ",
        ),
    ] {
        let problems = told(load_files(LEAST, &[("profiles/p.toml", &PROFILE.replace(from, to))]));
        assert!(problems.iter().any(|p| p.starts_with(problem)), "{to}: {problems:#?}");
    }
    let shorter = format!("{LEAST}[ttl]\ntoken = {{ max = '10m' }}\n");
    assert_eq!(told(load_files(&shorter, &[("profiles/p.toml", PROFILE)])).len(), 1);
    let problems = told(load_files(LEAST, &[("policies/a.cedar", permit), ("policies/b.cedar", "permit (")]));
    assert!(problems.iter().any(|p| p.starts_with("policies/a.cedar:")), "{problems:#?}");
    assert!(problems.iter().any(|p| p.starts_with("policies/b.cedar:1: ")), "{problems:#?}");
    let problems =
        told(load_files(LEAST, &[("policies/tests/a.toml", "\n[[test]]\nname = 'x'\nexpct = 'allow'\n")]));
    assert!(problems.iter().any(|p| p.starts_with("tests/a.toml:4: ")), "{problems:#?}");
}

#[test]
fn schemas_of_acceptors_are_told_by_line_and_policies_are_held_to_them() {
    let schema = "namespace Api {\n entity Order;\n action \"a:b\";\n action \"GET\" in [\"a:b\"] appliesTo {\n  \
                  principal: Mayfly::Workload, resource: Order, context: Mayfly::Request };\n}";
    let permit = "@id(\"a\") permit (principal in Mayfly::Owner::\"team:a\",\n action == Api::Action::\"GET\", resource);";
    let files = |schema: &str, permit: &str| {
        let all =
            [("schema/a.cedarschema", schema), ("policies/a.cedar", permit), ("profiles/p.toml", PROFILE)];
        load_files(LEAST, &all)
    };
    let now = mayfly_domain::UnixMillis(1_790_000_000_000);
    let loaded = files(schema, permit).unwrap();
    assert!(loaded.engine.lint(now).iter().all(|w| w.lint != mayfly_policy::Lint::ActionUnreachable));
    for (schema, permit, start) in [
        (
            schema.replace("namespace Api", "namespace Mayfly"),
            permit.to_owned(),
            "schema/a.cedarschema:1: the namespace",
        ),
        (
            schema.replace("entity Order;", "entity Order { x: Long };"),
            permit.to_owned(),
            "schema/a.cedarschema:2: `Api::Order`",
        ),
        (schema.replace("resource: Order", "resource: Ordr"), permit.to_owned(), "schema/a.cedarschema:5: "),
        (schema.to_owned(), permit.replace("GET", "GTE"), "policies/a.cedar:"),
    ] {
        let problems = told(files(&schema, &permit));
        assert!(problems.iter().any(|p| p.starts_with(start)), "{start}: {problems:#?}");
    }
}

#[test]
fn an_acceptor_may_reuse_answers_for_five_seconds_at_most() {
    let acceptor = |reuse: &str| {
        let text = format!("name = 'api'\nowner = 'team:a'\naudiences = ['https://a.b']\n{reuse}");
        load_files(LEAST, &[("acceptors/a.toml", text.as_str())])
    };
    for (text, ms) in [("", 0), ("reuse = '0s'", 0), ("reuse = '500ms'", 500), ("reuse = '5s'", 5_000)] {
        assert_eq!(acceptor(text).unwrap().acceptors[0].reuse_ms, ms, "{text}");
    }
    for bad in ["reuse = '6s'", "reuse = '5001ms'", "reuse = 5", "reuse = '-1s'"] {
        assert!(told(acceptor(bad))[0].starts_with("acceptors/a.toml:4: reuse: "), "{bad}");
    }
}

#[test]
fn a_wrong_main_file_hides_nothing() {
    let bad = RULE.replace("preset", "prest");
    let problems = told(load_files("trust_domain = 'A B'\n", &[("trust/r.toml", &bad)]));
    assert!(
        problems.iter().any(|p| p.contains("prest")) && problems.iter().any(|p| p.contains("trust_domain"))
    );
}

#[test]
fn people_are_told_apart() {
    let problems = told(load_files(
        LEAST,
        &[
            ("operators/a.toml", "name = 'bob'\n"),
            ("operators/b.toml", "groups = ['x']\nname = 'bob'\n"),
            ("operators/c.toml", "name = 'Eve\u{202e}'\ngruops = []\n"),
            ("acceptors/a.toml", "name = 'api'\nowner = 'nobody'\naudiences = []\n"),
            ("acceptors/b.toml", "name = \n"),
        ],
    ));
    assert_eq!(problems.len(), 6, "{problems:#?}");
    for start in [
        "operators/b.toml:2: name: `bob` is the name in ",
        "operators/c.toml:1: name: `Eve\\u{202e}`: ",
        "operators/c.toml:2: gruops: unknown key; did you mean `groups`?",
        "acceptors/a.toml:2: owner: `nobody`: must be `kind:name`, such as `team:payments`",
        "acceptors/a.toml:3: audiences: must not be empty",
        "acceptors/b.toml:1: not valid TOML: ",
    ] {
        assert!(problems.iter().any(|p| p.starts_with(start)), "{start}: {problems:#?}");
    }
}

#[test]
fn the_environment_comes_first_and_effective_says_so() {
    let environment = [
        ("MAYFLY_CONFIG_STATE_DIR", "/elsewhere"),
        ("MAYFLY_CONFIG_SERVER_LISTEN", "127.0.0.1:0"),
        ("MAYFLY_CONFIG_STORE_URL", "redis://127.0.0.1:7000"),
        ("MAYFLY_CONFIG_TTL_TOKEN_MAX", "30m"),
        ("MAYFLY_STATE_DIR", "/not-ours"),
    ];
    let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let loaded = load(&examples().join("mayfly.toml"), environment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.settings.state_dir, PathBuf::from("/elsewhere"));
    assert_eq!(loaded.settings.server.listen.port(), 0);
    let shown = |key: &str| {
        let e = loaded.effective.iter().find(|e| e.key == key).unwrap();
        (e.value.clone(), e.origin.clone())
    };
    assert_eq!(
        shown("server.listen"),
        ("\"127.0.0.1:0\"".to_owned(), Origin::Environment("MAYFLY_CONFIG_SERVER_LISTEN".to_owned()))
    );
    assert!(
        matches!(shown("audit.sink[0].reserve"), (_, Origin::File(_, 35))),
        "{:?}",
        shown("audit.sink[0].reserve")
    );
    assert!(loaded.effective.iter().all(|e| !e.key.contains("spiffe_id")), "the file's own values alone");
    assert_eq!(shown("server.call_timeout"), ("\"30s\"".to_owned(), Origin::Default));
    assert!(matches!(shown("trust_domain"), (v, Origin::File(_, 1)) if v == "\"acme.internal\""));
}

#[test]
fn all_or_none_and_the_refusal_is_for_exit_64() {
    let problems = load(Path::new("/nowhere/mayfly.toml"), no_environment()).unwrap_err();
    assert_eq!(problems.iter().len(), 1);
    let refusal = problems.refusal();
    assert_eq!((refusal.reason, refusal.reason.exit_code()), (mayfly_domain::Reason::ConfigInvalid, 64));
}
