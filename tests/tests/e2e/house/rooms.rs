//! ARCHITECTURE.md's two tables, `arrows` and `only`, against what Cargo says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::{read, root};

/// A room's name to the names of what it needs, without dev-dependencies.
pub(super) type Needs = BTreeMap<String, BTreeSet<String>>;

/// Packages that never ship: bound by the arrows, not by `only`.
const NEVER_SHIPPED: [&str; 7] =
    ["bench", "demo", "mtls-services", "proof", "resource-server", "testkit", "tests"];

pub(super) fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn needs(metadata: &Value) -> Needs {
    let ours = |package: &&Value| package["source"].is_null();
    let mut needs = Needs::new();
    for package in metadata["packages"].as_array().unwrap().iter().filter(ours) {
        let set = needs.entry(room(package["name"].as_str().unwrap()).to_owned()).or_default();
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"] != "dev" {
                set.insert(dependency["name"].as_str().unwrap().to_owned());
            }
        }
    }
    needs
}

fn room(package: &str) -> &str {
    package.strip_prefix("mayfly-").unwrap_or(package)
}

/// The lines `NAME: WORD...` of the fenced block `kind` of ARCHITECTURE.md.
fn block(kind: &str) -> Needs {
    let text = read("ARCHITECTURE.md");
    let start = format!("```{kind}\n");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("ARCHITECTURE.md has no {kind} block"));
    let (block, _) = rest.split_once("```").unwrap();
    block
        .lines()
        .map(|line| {
            let (name, words) = line.split_once(':').unwrap_or_else(|| panic!("{kind}: {line}"));
            (name.trim().to_owned(), words.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

fn strays(actual: &Needs, allowed: &Needs) -> Vec<String> {
    let mut strays = Vec::new();
    for (room_name, needs) in actual {
        let Some(allowed) = allowed.get(room_name) else {
            strays.push(format!("{room_name} is in no line"));
            continue;
        };
        let rooms = needs.iter().filter_map(|name| name.strip_prefix("mayfly-"));
        strays.extend(rooms.filter(|r| !allowed.contains(*r)).map(|r| format!("{room_name} -> {r}")));
    }
    strays.extend(allowed.keys().filter(|r| !actual.contains_key(*r)).map(|r| format!("{r} does not exist")));
    strays
}

#[test]
fn dependencies_point_only_as_the_architecture_says() {
    let strays = strays(&needs(&metadata()), &block("arrows"));
    assert!(strays.is_empty(), "against ARCHITECTURE.md: {strays:#?}");
}

#[test]
fn the_arrows_form_no_circle() {
    let arrows = block("arrows");
    let mut left: BTreeSet<_> = arrows.keys().cloned().collect();
    while !left.is_empty() {
        let free: Vec<_> =
            left.iter().filter(|r| arrows[*r].iter().all(|to| !left.contains(to))).cloned().collect();
        assert!(!free.is_empty(), "a circle among {left:?}");
        left.retain(|r| !free.contains(r));
    }
}

#[test]
fn only_the_named_rooms_know_the_named_libraries() {
    let only = block("only");
    for (room_name, needs) in needs(&metadata()) {
        if NEVER_SHIPPED.contains(&room_name.as_str()) {
            continue;
        }
        for library in needs {
            if let Some(rooms) = only.get(&library) {
                assert!(
                    rooms.contains(&room_name),
                    "{room_name} knows {library}; ARCHITECTURE.md allows {rooms:?}"
                );
            }
        }
    }
}

#[test]
fn an_arrow_too_many_is_noticed() {
    let set = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<BTreeSet<_>>();
    let actual = Needs::from([("domain".to_owned(), set(&["mayfly-server", "serde"]))]);
    let allowed = Needs::from([("domain".to_owned(), set(&[]))]);
    assert_eq!(strays(&actual, &allowed), ["domain -> server"]);
    assert_eq!(strays(&actual, &Needs::new()), ["domain is in no line"]);
}
