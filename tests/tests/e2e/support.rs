//! What every end-to-end test needs: where the repository is, and the `mayfly` program built once.

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

/// The `mayfly` program, built in this test's own profile. Cargo gives no path to another package's program,
/// so it is asked to build it and lies beside the test's directory.
pub(crate) fn mayfly() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile_dir = test.parent().and_then(Path::parent).unwrap();
        let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "-p",
                "mayfly-cli",
                "--bin",
                "mayfly",
                "--profile",
                profile,
            ])
            .arg("--target-dir")
            .arg(profile_dir.parent().unwrap())
            .current_dir(root())
            .status()
            .unwrap();
        assert!(status.success(), "mayfly does not build");
        profile_dir.join("mayfly")
    })
}
