//! SECURITY.md names tests for its mitigations: each of them exists.

use crate::support::{read, tracked};

fn named(security: &str) -> Vec<&str> {
    let rows = security.lines().filter(|line| {
        ["S", "T", "R", "I", "D", "E"].iter().any(|letter| line.starts_with(&format!("| {letter} |")))
    });
    let last = rows.map(|row| row.trim_end_matches([' ', '|']).rsplit_once("| ").unwrap().1);
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn each_test_that_the_threat_table_names_exists() {
    let sources: Vec<_> = tracked().into_iter().filter(|name| name.ends_with(".rs")).collect();
    let sources: String = sources.iter().map(|name| read(name)).collect();
    let security = read("SECURITY.md");
    let names = named(&security);
    assert!(names.len() > 10, "the threat table was not read: {names:?}");
    for name in names {
        assert!(
            sources.contains(&format!("fn {name}(")),
            "SECURITY.md names the test {name}, which is not there"
        );
    }
}
