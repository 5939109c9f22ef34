//! The Makefile and the scripts of `.ci`: what the documents say to run is there, and parses.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::support::{read, root, tracked};

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).current_dir(root()).env_remove("MAKEFLAGS").output().unwrap()
}

#[test]
fn make_alone_lists_what_can_be_done() {
    let listed = String::from_utf8(run("make", &["--no-print-directory"]).stdout).unwrap();
    for target in ["demo", "test", "chaos", "check", "bench", "dist", "docs"] {
        assert!(listed.contains(&format!("make {target} ")), "{target} is not in:\n{listed}");
    }
}

#[test]
fn every_target_that_a_document_names_exists() {
    for name in tracked().into_iter().filter(|name| name.ends_with(".md")) {
        let text = read(&name);
        let starts = ["`make ", "\n    make "];
        for rest in starts.iter().flat_map(|start| text.split(start).skip(1)) {
            let line = rest.split(['`', '\n']).next().unwrap().split("  ").next().unwrap();
            for target in line.split_whitespace() {
                let dry = run("make", &["-n", target]);
                assert!(dry.status.success(), "{name} says `make {target}`");
            }
        }
    }
}

#[test]
fn scripts_parse_and_can_be_run() {
    for name in tracked() {
        let shell = name.starts_with(".ci/") || name.ends_with(".sh");
        if !shell {
            continue;
        }
        assert!(run("sh", &["-n", &name]).status.success(), "{name} is not a shell script");
        let mode = std::fs::metadata(root().join(&name)).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{name} is not executable");
    }
}
