//! Pages that are generated from the code are as the code would write them; `make docs` writes them.

use std::fmt::Write as _;

use crate::support::root;

fn limits_markdown() -> String {
    let mut out = String::from(
        "# Limits and defaults\n\nWhat holds where a rule, profile or configuration says nothing, and how far each may go. This \
         page is generated from the code.\n\n| what | default | maximum |\n| --- | --- | --- |\n",
    );
    for row in mayfly_domain::defaults::TABLE {
        writeln!(out, "| {} | {} | {} |", row.what, row.default, row.max).unwrap();
    }
    out
}

fn hold(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("MAYFLY_WRITE_DOCS").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let actual = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(actual == expected, "{path} is not what the code says: run `make docs`");
}

#[test]
fn errors_are_those_of_the_code() {
    hold("docs/errors.md", &mayfly_domain::reason::errors_markdown());
}

#[test]
fn limits_are_those_of_the_code() {
    hold("docs/limits.md", &limits_markdown());
}
