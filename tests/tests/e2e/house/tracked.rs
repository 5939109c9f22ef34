//! Tracked files speak of the project alone: no path of the machine that wrote them, no other registry.

use crate::support::{read, root, tracked};

#[test]
fn no_tracked_file_names_a_path_of_this_machine() {
    let home = std::env::var("HOME").unwrap_or_default();
    let own: Vec<String> = [root().to_str().unwrap(), home.as_str()]
        .into_iter()
        .filter(|path| path.len() > 1)
        .map(|path| format!("{}/", path.trim_end_matches('/')))
        .collect();
    for name in tracked() {
        let content = std::fs::read(root().join(&name)).unwrap();
        let content = String::from_utf8_lossy(&content);
        for path in &own {
            assert!(!content.contains(path), "{name} names {path}");
        }
    }
}

#[test]
fn no_cargo_configuration_is_tracked() {
    let config: Vec<_> = tracked().into_iter().filter(|name| name.contains(".cargo/")).collect();
    assert!(config.is_empty(), "{config:?}: registries and mirrors are a machine's own business");
}

#[test]
fn the_lock_file_knows_one_registry() {
    for line in read("Cargo.lock").lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(line, "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for name in tracked().into_iter().filter(|name| name.ends_with(".md")) {
        let text = read(&name);
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let elsewhere = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            assert!(elsewhere || folder.join(link).exists(), "{name}: {link} leads nowhere");
        }
    }
}
