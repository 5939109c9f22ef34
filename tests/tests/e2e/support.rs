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
        let mut cargo = Command::new(env!("CARGO"));
        // What Cargo told this test about its own package would make ring's build script run again, and all
        // above ring be built twice.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
                .iter()
                .any(|p| name.starts_with(p))
            {
                cargo.env_remove(&*name);
            }
        }
        let status = cargo
            .args("build --quiet --locked --workspace --bin mayfly --profile".split(' '))
            .arg(profile)
            .arg("--target-dir")
            .arg(profile_dir.parent().unwrap())
            .current_dir(root())
            .status()
            .unwrap();
        assert!(status.success(), "mayfly does not build");
        profile_dir.join("mayfly")
    })
}
