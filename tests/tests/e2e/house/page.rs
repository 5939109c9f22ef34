//! docs/acceptors.md: the code that it shows is the example's, which is built and run, to the letter.

use crate::support::read;

/// The fenced blocks of a page that begin with exactly this line.
fn blocks(page: &str, fence: &str) -> Vec<String> {
    let start = format!("\n{fence}\n");
    let blocks = page.split(&start).skip(1).map(|rest| rest.split_once("```\n").expect("a block ends").0);
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_acceptors_page_shows_the_code_that_is_built_and_run() {
    let page = read("docs/acceptors.md");
    let all = [
        ("```rust main", "main.rs"),
        ("```rust internal", "bin/internal.rs"),
        ("```rust books", "bin/books.rs"),
    ];
    for (fence, file) in all {
        let shown = blocks(&page, fence);
        let built = read(&format!("examples/resource-server/src/{file}"));
        assert!(shown == [built], "docs/acceptors.md does not show examples/resource-server/src/{file}");
    }
    assert_eq!(
        page.matches("```rust").count(),
        all.len(),
        "each block of code on the page is one that is built"
    );
}
