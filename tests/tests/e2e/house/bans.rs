//! deny.toml's bans and licences, held by `cargo metadata` where cargo-deny is not installed.

use std::collections::BTreeSet;

use toml::Table;

use super::rooms::metadata;
use crate::support::read;

fn deny() -> Table {
    read("deny.toml").parse().unwrap()
}

fn banned() -> BTreeSet<String> {
    let deny = deny();
    let list = deny["bans"]["deny"].as_array().unwrap();
    list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_banned_crate_is_in_the_graph_of_any_platform() {
    let banned = banned();
    for name in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls", "rsa"] {
        assert!(banned.contains(name), "deny.toml no longer bans {name}");
    }
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let found: Vec<_> =
        packages.iter().filter_map(|p| p["name"].as_str()).filter(|name| banned.contains(*name)).collect();
    assert!(found.is_empty(), "banned: {found:?}");
}

#[test]
fn every_package_has_an_allowed_licence_and_source() {
    let deny = deny();
    let allowed: BTreeSet<_> =
        deny["licenses"]["allow"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(satisfied(licence, &allowed), "{name}: {licence}");
        let source = &package["source"];
        let ours = source.is_null();
        let crates_io = source == "registry+https://github.com/rust-lang/crates.io-index";
        assert!(ours || crates_io, "{name} comes from {source}");
    }
}

/// Whether an SPDX expression holds with the allowed licences; `/` is the old way to write `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let (value, rest) = any(&tokens, allowed);
    assert!(rest.is_empty(), "not an SPDX expression: {expression}");
    value
}

fn any<'t, 'a>(tokens: &'t [&'a str], allowed: &BTreeSet<&str>) -> (bool, &'t [&'a str]) {
    let (mut value, mut rest) = all(tokens, allowed);
    while let ["OR", tail @ ..] = rest {
        let (next, tail) = all(tail, allowed);
        (value, rest) = (value | next, tail);
    }
    (value, rest)
}

fn all<'t, 'a>(tokens: &'t [&'a str], allowed: &BTreeSet<&str>) -> (bool, &'t [&'a str]) {
    let (mut value, mut rest) = one(tokens, allowed);
    while let ["AND", tail @ ..] = rest {
        let (next, tail) = one(tail, allowed);
        (value, rest) = (value & next, tail);
    }
    (value, rest)
}

fn one<'t, 'a>(tokens: &'t [&'a str], allowed: &BTreeSet<&str>) -> (bool, &'t [&'a str]) {
    match tokens {
        ["(", tail @ ..] => match any(tail, allowed) {
            (value, [")", rest @ ..]) => (value, rest),
            (_, rest) => panic!("no closing bracket before {rest:?}"),
        },
        [licence, "WITH", exception, rest @ ..] => {
            (allowed.contains(format!("{licence} WITH {exception}").as_str()), rest)
        }
        [licence, rest @ ..] => (allowed.contains(licence), rest),
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    let allowed = BTreeSet::from(["MIT", "Unicode-3.0", "A WITH E"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(MIT OR GPL-3.0) AND ISC", false),
        ("MIT OR GPL-3.0 AND ISC", true),
        ("A WITH E", true),
        ("A", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}
