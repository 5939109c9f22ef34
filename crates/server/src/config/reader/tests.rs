use std::path::Path;

use mayfly_domain::{GroupName, Ttl};

use super::super::kinds::{count, list, text, ttl, word};
use super::*;

fn told(notes: Notes) -> Vec<String> {
    super::super::problem::Problems::new(notes.finish().0).iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_at_once_with_line_and_key() {
    let source =
        "nmae = 'x'\nttl = '5x'\ngroups = ['a', 'B']\n[server]\nlisten = 1\nzzz = 2\n[quota]\nn = 7\n";
    let doc = Document::parse(Path::new("m.toml"), source).unwrap();
    let notes = Notes::default();
    let root = Reader::new(&doc, &notes);
    assert!(root.required("name", text(9)).is_none());
    assert_eq!(root.or("ttl", ttl(Ttl::constant(60)), Ttl::constant(9)), Ttl::constant(9));
    assert!(root.all("groups", list(3, word(GroupName::parse))).is_empty());
    let server = root.table("server");
    assert!(server.optional("listen", text(9)).is_none());
    server.finish();
    let quota = root.table("quota");
    assert_eq!(quota.or("n", count(0..=9), 1), 7);
    quota.finish();
    assert!(!root.table("absent").exists());
    root.finish();
    assert_eq!(
        told(notes),
        [
            "m.toml:1: name: is missing",
            "m.toml:1: nmae: unknown key; did you mean `name`?",
            "m.toml:2: ttl: `5x`: must be a whole number and a unit, such as `15m`",
            "m.toml:3: groups: `B`: must start with a lower-case letter or a digit",
            "m.toml:5: server.listen: must be text in quotes, not a whole number",
            "m.toml:6: server.zzz: unknown key; known here: listen",
        ]
    );
}

#[test]
fn a_table_of_another_form_is_a_mistake() {
    let doc = Document::parse(Path::new("m.toml"), "server = 1\nsink = 2\nmore = [1]\n").unwrap();
    let notes = Notes::default();
    let root = Reader::new(&doc, &notes);
    root.table("server").finish();
    assert!(root.tables("sink", 2).is_empty() && root.tables("more", 2).is_empty());
    root.finish();
    assert_eq!(told(notes).len(), 3);
}

#[test]
fn variables_come_before_the_file_and_unknown_ones_are_refused() {
    let set = |pairs: &[(&str, &str)]| {
        Notes::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
    };
    let doc = Document::parse(Path::new("m.toml"), "n = 1\nt = 'file'\n").unwrap();
    let read = |notes: &Notes| {
        let root = Reader::overridable(&doc, notes);
        let got = (
            root.or("n", count(0..=9), 0),
            root.optional("t", text(9)),
            root.or("d", text(9), "x".to_owned()),
        );
        root.finish();
        got
    };
    let notes = set(&[("MAYFLY_CONFIG_N", "5"), ("PATH", "/bin"), ("MAYFLY_STATE_DIR", "/x")]);
    assert_eq!(read(&notes), (5, Some("file".to_owned()), "x".to_owned()));
    let (problems, effective) = notes.finish();
    assert!(problems.is_empty());
    let printed: Vec<String> =
        effective.iter().map(|e| format!("{}={} {}", e.key, e.value, e.origin)).collect();
    assert_eq!(printed, ["n=5 MAYFLY_CONFIG_N", "t='file' m.toml:2", "d=\"x\" default"]);

    let notes = set(&[("MAYFLY_CONFIG_N", "ten"), ("MAYFLY_CONFIG_TT", "v")]);
    read(&notes);
    assert_eq!(
        told(notes),
        [
            "environment: MAYFLY_CONFIG_N: must be a whole number, not text",
            "environment: MAYFLY_CONFIG_TT: unknown variable; did you mean `MAYFLY_CONFIG_T`?",
        ]
    );
}
