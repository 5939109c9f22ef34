//! The configuration's files: mistakes are told, and nothing panics.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

const MAIN: &str = "trust_domain = \"acme.internal\"\npublic_url = \"https://mayfly.acme.internal:8443\"\n\
                    state_dir = \"/var/lib/mayfly\"\n[keys]\nseal_file = \"/seal.key\"\n";
const FILES: [&str; 6] = [
    "mayfly.toml",
    "trust/a.toml",
    "profiles/a.toml",
    "operators/a.toml",
    "acceptors/a.toml",
    "policies/a.cedar",
];

static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for part in ["trust", "profiles", "operators", "acceptors", "policies"] {
        std::fs::create_dir(dir.path().join(part)).unwrap();
    }
    dir
});

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let main: PathBuf = DIR.path().join("mayfly.toml");
    std::fs::write(&main, MAIN).unwrap();
    let file = DIR.path().join(FILES[usize::from(*which) % FILES.len()]);
    std::fs::write(&file, text).unwrap();
    if let Err(problems) = mayfly_server::config::load(&main, std::iter::empty()) {
        assert!(!problems.to_string().is_empty());
    }
    std::fs::remove_file(&file).unwrap();
});
