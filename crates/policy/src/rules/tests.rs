use super::*;
use crate::fixture::{PAYMENTS, ttl, words};

const FORBID: &str = "forbid (principal is Mayfly::Workload, action, resource is Mayfly::Profile)";
const OK: &str = "permit (principal is Mayfly::Workload, action, resource is Mayfly::Profile)";

fn errors(files: &[&str]) -> Vec<PolicyError> {
    load(&words(), &named(files)).unwrap_err()
}

fn named(files: &[&str]) -> Vec<(String, String)> {
    files.iter().enumerate().map(|(n, text)| (format!("{n}.cedar"), (*text).to_owned())).collect()
}

#[test]
fn the_example_is_valid_and_keeps_its_places() {
    let rules = load(&words(), &named(&[PAYMENTS])).unwrap();
    let found: Vec<(&str, u32, u32)> =
        rules.iter().map(|r| (r.id.as_str(), r.place.line, r.place.column)).collect();
    assert_eq!(found, [("payments-deploy", 2, 1), ("environments-stay-apart", 13, 1), ("responder", 19, 1)]);
    for rule in &rules {
        let cedar: &str = rule.policy.id().as_ref();
        assert_eq!(cedar, rule.id.as_str());
        assert!(!rule.impossible);
    }
    assert_eq!(rules[0].max_ttl, Some(ttl("15m")));
    assert!(rules[1].advice.as_ref().unwrap().ends_with("environment = \"production\""));
}

#[test]
fn each_mistake_has_its_place_and_help() {
    for (text, at, message, help) in [
        (format!("{OK};"), (1, 1), "no `@id`", "@id("),
        (format!("\n  @id(\"Bad Name\") {OK};"), (2, 3), "invalid policy id", ""),
        (format!("@id(\"a\") {OK};\n@id(\"a\") {OK};"), (2, 1), "`@id(\"a\")` is used twice", "at 0.cedar:1"),
        (format!("@id(\"a\") @max_tll(\"5m\") {OK};"), (1, 1), "unknown annotation `@max_tll`", "`@max_ttl`"),
        (format!("@id(\"a\") @zzz {OK};"), (1, 1), "unknown annotation `@zzz`", ""),
        (format!("@id(\"a\") @max_ttl(\"5 minutes\") {OK};"), (1, 1), "`@max_ttl`: invalid ttl", ""),
        (format!("@id(\"a\") @max_ttl(\"0s\") {OK};"), (1, 1), "`@max_ttl`: invalid ttl", ""),
        (
            format!("@id(\"a\") @max_ttl(\"5m\") {};", OK.replace("permit", "forbid")),
            (1, 1),
            "bounds nothing",
            "permit",
        ),
        (format!("@id(\"a\") @public {OK};"), (1, 1), "`@public` without `@advice`", "@advice"),
        (format!("@id(\"a\") @mode(\"observe\") {};", FORBID), (1, 1), "without an end", "@until"),
        (format!("@id(\"a\") @until(\"2027-01-31\") {};", FORBID), (1, 1), "`@until` without `@mode`", "@mode"),
        (format!("@id(\"a\") @mode(\"watch\") {};", FORBID), (1, 1), "unknown mode `watch`", "observe"),
        (format!("@id(\"a\") @mode(\"observe\") @until(\"2027-02-30\") {};", FORBID), (1, 1), "not a date", ""),
        (format!("@id(\"a\") @mode(\"observe\") @until(\"2027-1-31\") {};", FORBID), (1, 1), "not a date", ""),
        (format!("@id(\"a\") @mode(\"observe\") @until(\"1969-01-31\") {};", FORBID), (1, 1), "not a date", ""),
        (format!("@id(\"a\") @mode(\"observe\") @until(\"2027-01-31\") {OK};"), (1, 1), "on a `permit`", "forbid"),
        (format!("@id(\"a\") @advice(\"\") {OK};"), (1, 1), "`@advice`", ""),
        (
            "@id(\"a\") permit (principal == ?principal, action, resource);".into(),
            (1, 1),
            "templates",
            "?principal",
        ),
        (format!("@id(\"a\") {OK}\n  when {{ principal.nope == 1 }};"), (2, 10), "attribute `nope`", ""),
        (
            format!("@id(\"a\") {OK}\nwhen {{ principal.environment == \"x\" }};"),
            (2, 8),
            "environment",
            "has",
        ),
        (
            "@id(\"a\") permit (principal, action == Mayfly::Action::\"mnt\", resource);".into(),
            (1, 39),
            "mnt",
            "mint",
        ),
        (
            "@id(\"a\")\npermit (principal, action, resource) when { 1 + };".into(),
            (2, 49),
            "unexpected token",
            "",
        ),
        (
            "@id(\"a\")\nforbid (principal in Mayfly::Owner::\"Team:Payments\", action, resource);".into(),
            (1, 1),
            "no owner is spelt `Team:Payments`",
            "`team:payments`",
        ),
        (
            "@id(\"a\") forbid (principal, action, resource) when { principal in Mayfly::Owner::\"payments\" };"
                .into(),
            (1, 1),
            "invalid owner `payments`",
            "",
        ),
        (
            "@id(\"a\") forbid (principal == Mayfly::Workload::\"/ci/payments\", action, resource);".into(),
            (1, 1),
            "invalid SPIFFE ID `/ci/payments`",
            "",
        ),
        (format!("@id(\"a\") {OK}; // \u{202E}"), (1, 90), "U+202E", ""),
    ] {
        let found = errors(&[&text]);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let error = &found[0];
        assert!(error.message.contains(message), "{text}: {error:?}");
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {error:?}");
        assert_eq!((error.line, error.column), at, "{text}: {error:?}");
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let many = format!("{OK};\n@id(\"a\") @nope {OK};\n@id(\"b\") {OK} when {{ principal.x == 1 }};");
    let found = errors(&[&many, "permit (", PAYMENTS, &format!("@id(\"responder\") {OK};")]);
    let shown: Vec<String> = found.iter().map(|e| format!("{}:{}", e.file, e.line)).collect();
    assert_eq!(shown, ["0.cedar:1", "0.cedar:2", "0.cedar:3", "1.cedar:1", "3.cedar:1"], "{found:#?}");
}

#[test]
fn a_policy_is_found_behind_comments_that_look_like_it() {
    let line = format!("@id(\"a\") {OK};");
    let text = format!("// {line}\n/{}\n{line} // {line}\n@id(\"b\") // why: \"//\n{OK};", "/ ü");
    let rules = load(&words(), &named(&[&text])).unwrap();
    let lines: Vec<u32> = rules.iter().map(|r| r.place.line).collect();
    assert_eq!(lines, [3, 4]);
    assert_eq!(without_comments("\"//\\\"//\" // x\né // é\n"), "\"//\\\"//\"     \né      \n");
}

#[test]
fn an_impossible_policy_is_valid_and_marked() {
    let text = format!("@id(\"a\") {OK} when {{ false }};");
    let rules = load(&words(), &named(&[&text])).unwrap();
    assert!(rules[0].impossible);
}
