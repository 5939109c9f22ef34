//! What every end-to-end test needs: where the repository is, the `mayfly` program built once, a broker, a
//! service that accepts its tokens.

pub(crate) mod api;
pub(crate) mod dev;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository's top.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A file of the repository as text.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The files that git tracks, relative to the top.
pub(crate) fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "these tests run in a git clone: {output:?}");
    let names = String::from_utf8(output.stdout).unwrap();
    names.split_terminator('\0').filter(|name| root().join(name).exists()).map(str::to_owned).collect()
}

/// The directory that Cargo builds into.
pub(crate) fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| profile_dir().parent().unwrap().to_owned())
}

/// This test lies in `TARGET/PROFILE/deps`.
fn profile_dir() -> PathBuf {
    std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_owned()
}

/// Cargo, without what it told this test about the test's own package: with that, ring's build script would
/// run again, and all above ring be built twice.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
        if own.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// The player of `make demo`, beside [`mayfly`].
pub(crate) fn demo() -> PathBuf {
    mayfly().with_file_name("mayfly-demo")
}

/// One of the services of `examples`, beside [`mayfly`].
pub(crate) fn service(name: &str) -> PathBuf {
    mayfly().with_file_name(name)
}

/// The `mayfly` program, built in this test's own profile. Cargo gives no path to another package's program,
/// so it is asked to build it, with the workspace's features, and lies beside the test's directory.
pub(crate) fn mayfly() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = profile_dir();
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let status = cargo()
            .args("build --quiet --locked --workspace --bin mayfly --bin mayfly-demo --bin ledger --bin payments --bin resource-server --bin books --profile".split(' '))
            .arg(profile)
            .arg("--target-dir")
            .arg(target())
            .current_dir(root())
            .status()
            .unwrap();
        assert!(status.success(), "mayfly does not build");
        dir.join("mayfly")
    })
}
