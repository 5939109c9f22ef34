//! The Dockerfile, held where no engine can build it: sources exist, RUN lines run, the check checks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{read, root, tracked};

/// The instructions, with continued lines joined: the word and its rest.
fn instructions() -> Vec<(String, String)> {
    let joined = read("Dockerfile").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(w, r)| (w.to_owned(), r.to_owned())).collect()
}

fn of(word: &str) -> Vec<String> {
    instructions().into_iter().filter(|(w, _)| w == word).map(|(_, rest)| rest).collect()
}

/// The sources of the COPY lines that take from the build context.
fn sources() -> Vec<String> {
    let from_context = of("COPY").into_iter().filter(|rest| !rest.contains("--from="));
    from_context
        .flat_map(|rest| {
            let words: Vec<_> =
                rest.split_whitespace().filter(|w| !w.starts_with("--")).map(str::to_owned).collect();
            words[..words.len() - 1].to_vec()
        })
        .collect()
}

/// A build context of exactly what the COPY lines take.
fn context() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let sources = sources();
    for name in tracked() {
        if sources.iter().any(|s| name == *s || name.starts_with(&format!("{s}/"))) {
            let to = dir.path().join(&name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(root().join(&name), to).unwrap();
        }
    }
    dir
}

#[test]
fn each_copied_source_is_tracked() {
    let tracked = tracked();
    for source in sources() {
        let prefix = format!("{source}/");
        assert!(tracked.iter().any(|name| *name == source || name.starts_with(&prefix)), "COPY {source}");
    }
}

/// What the build reads beside its own crate (the wire contract, shipped examples) must be copied too: every
/// path upwards that code outside of tests names.
#[test]
fn what_the_build_reads_is_copied() {
    let context = context();
    for name in tracked().iter().filter(|name| name.starts_with("crates/") && name.ends_with(".rs")) {
        if name.ends_with("tests.rs") || name.contains("/tests/") || name.starts_with("crates/testkit/") {
            continue;
        }
        let text = read(name);
        let shipped = text.split("#[cfg(test)]").next().unwrap();
        for path in shipped.split('"').filter(|literal| literal.starts_with("../")) {
            let file = context.path().join(name);
            let package: PathBuf = file.iter().take(context.path().iter().count() + 2).collect();
            let found = file.parent().unwrap().join(path).exists() || package.join(path).exists();
            assert!(found, "{name} reads {path}, which no COPY line takes");
        }
    }
}

/// Runs every RUN line in the context, with `/out` in a directory of its own. Two programs are stood in for:
/// `cargo`, which resolves the copied workspace and then leaves a file where the program would be (the
/// build itself is every other test's business), and `useradd`, which would change this machine.
#[test]
fn run_lines_run_on_what_was_copied() {
    let context = context();
    let tools = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let tool = |name: &str, script: &str| {
        let path = tools.path().join(name);
        fs::write(&path, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let wanted = "build --locked --release -p mayfly-cli --bin mayfly";
    tool(
        "cargo",
        &format!(
            "[ \"$*\" = '{wanted}' ] || {{ echo \"not expected: cargo $*\"; exit 1; }}\n\
             '{}' metadata --format-version 1 --locked >/dev/null\n\
             mkdir -p target/release && echo program >target/release/mayfly",
            env!("CARGO")
        ),
    );
    tool("useradd", &format!("echo \"$*\" >'{}/useradd'", out.path().display()));
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    for line in of("RUN") {
        let line = line.replace("/out", &out.path().display().to_string());
        let output = Command::new("sh")
            .args(["-euc", &line])
            .env("PATH", &path)
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(context.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "RUN {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(fs::read_to_string(out.path().join("mayfly")).unwrap(), "program\n");
    for copied in of("COPY").iter().filter_map(|rest| {
        rest.split_once("--from=build ")?.1.split_whitespace().find(|w| w.starts_with("/out"))
    }) {
        let copied = copied.trim_start_matches("/out/");
        assert!(out.path().join(copied).exists(), "COPY --from=build /out/{copied}");
    }
    let user = of("USER").pop().unwrap();
    let (uid, _) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() > 0, "the image runs as root");
    let added = fs::read_to_string(out.path().join("useradd")).unwrap();
    assert!(added.contains(&format!("--uid {uid}")), "useradd {added}");
}

#[test]
fn the_health_check_believes_200_only() {
    let check = of("HEALTHCHECK").pop().unwrap();
    let (_, command) = check.split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    for (status, healthy) in [("200 OK", true), ("503 Service Unavailable", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 24];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"GET /readyz HTTP/1.0\r\n\r\n");
            stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes()).unwrap();
        });
        let ended = Command::new(&command[0])
            .args(&command[1..])
            .env("MAYFLY_METRICS_PORT", port.to_string())
            .status()
            .unwrap();
        server.join().unwrap();
        assert_eq!(ended.success(), healthy, "{status}");
    }
    assert!(Path::new("/bin/bash").exists() || Path::new("/usr/bin/bash").exists());
}
