//! What must not compile does not: the cases of `compile-fail/`, each with `//~ CODE` on the lines where the
//! compiler must refuse, and one that must compile.
//!
//! The cases are the programs of a package that is written into the target directory. It has the workspace's
//! profile, lock and light rooms, so that most of what it needs was checked before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::support::{cargo, read, root, target};

/// Line and error code.
type Errors = BTreeSet<(u64, String)>;

const ROOMS: [&str; 5] = ["domain", "attest", "policy", "lease", "mint"];

fn cases() -> BTreeMap<String, Errors> {
    let mut cases = BTreeMap::new();
    for entry in fs::read_dir(root().join("tests/compile-fail")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = read(&format!("tests/compile-fail/{name}"));
        let marked =
            (1..).zip(text.lines()).filter_map(|(n, line)| Some((n, line.split_once("//~ ")?.1.to_owned())));
        cases.insert(name.trim_end_matches(".rs").to_owned(), marked.collect());
    }
    cases
}

fn write_package(cases: &BTreeMap<String, Errors>) -> std::path::PathBuf {
    let package = target().join("compile-fail");
    let _ = fs::remove_dir_all(&package);
    fs::create_dir_all(&package).unwrap();
    let workspace = read("Cargo.toml");
    let (_, profiles) = workspace.split_once("[profile.dev]").unwrap();
    let mut manifest = String::from(
        "[package]\nname = \"compile-fail\"\nedition = \"2024\"\n[workspace]\n[dependencies]\nserde = \"1\"\n",
    );
    for room in ROOMS {
        let path = root().join("crates").join(room);
        writeln!(manifest, "mayfly-{room} = {{ path = {path:?} }}").unwrap();
    }
    for name in cases.keys() {
        let path = root().join("tests/compile-fail").join(format!("{name}.rs"));
        writeln!(manifest, "[[bin]]\nname = \"{name}\"\npath = {path:?}").unwrap();
    }
    write!(manifest, "[profile.dev]{profiles}").unwrap();
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(root().join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    package
}

/// The errors of each program, by the compiler's own account.
fn compile(cases: &BTreeMap<String, Errors>) -> BTreeMap<String, Errors> {
    let package = write_package(cases);
    let output = cargo()
        .args(["check", "--quiet", "--bins", "--keep-going", "--message-format=json", "--target-dir"])
        .arg(target())
        .current_dir(package)
        .output()
        .unwrap();
    let mut found: BTreeMap<_, _> = cases.keys().map(|name| (name.clone(), Errors::new())).collect();
    let mut compiled = BTreeSet::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let Some(name) = message["target"]["name"].as_str() else { continue };
        let diagnostic = &message["message"];
        if message["reason"] == "compiler-artifact" {
            compiled.insert(name.to_owned());
        } else if diagnostic["level"] == "error" && found.contains_key(name) {
            let Some(code) = diagnostic["code"]["code"].as_str() else { continue };
            let spans = diagnostic["spans"].as_array().unwrap();
            let primary = spans.iter().find(|span| span["is_primary"] == true).unwrap();
            found.get_mut(name).unwrap().insert((primary["line_start"].as_u64().unwrap(), code.to_owned()));
        }
    }
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(compiled.contains("good"), "good: {:?}\n{log}", found["good"]);
    for (name, errors) in &found {
        assert_eq!(compiled.contains(name), errors.is_empty(), "{name}: {errors:?}");
    }
    found
}

#[test]
fn what_breaks_the_chain_does_not_compile() {
    let cases = cases();
    assert!(cases["good"].is_empty() && cases.len() > 8);
    assert!(cases.iter().all(|(name, errors)| name == "good" || !errors.is_empty()), "a case marks no line");
    let found = compile(&cases);
    for (name, expected) in cases {
        assert_eq!(found[&name], expected, "{name}: what the compiler refuses, against what is marked");
    }
}
