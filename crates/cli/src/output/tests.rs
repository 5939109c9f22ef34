use mayfly_domain::Reason;

use super::*;

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn denied() -> Failure {
    let mut failure =
        Failure::of(Reason::NoTrustRule).fact("issuer", "https://token.actions.githubusercontent.com");
    failure.request = Some("0199b1c4".into());
    failure
}

#[test]
fn an_error_has_four_parts() {
    let want = "\
denied: no trust rule accepts this token                       NO_TRUST_RULE
  issuer   https://token.actions.githubusercontent.com
  request  0199b1c4
  next     ask an operator to run: mayfly why 0199b1c4
";
    assert_eq!(plain(&failure::human(&denied())), want);
}

#[test]
fn the_same_parts_are_in_json() {
    let json: serde_json::Value = serde_json::from_str(&failure::json(&denied())).unwrap();
    let error = &json["error"];
    assert_eq!(error["reason"], "NO_TRUST_RULE");
    assert_eq!(error["exit_code"], 3);
    assert_eq!(error["request"], "0199b1c4");
    assert_eq!(error["facts"][0]["name"], "issuer");
    assert_eq!(error["retry_after_ms"], serde_json::Value::Null);
}

#[test]
fn every_reason_has_a_headline_of_its_exit_code() {
    for reason in Reason::ALL {
        let text = plain(&failure::human(&Failure::of(*reason)));
        assert!(!text.starts_with("failed:"), "{text}");
        assert!(text.lines().next().unwrap().ends_with(reason.as_str()), "{text}");
    }
}

#[test]
fn tables_have_one_line_for_each_thing_and_no_control_characters() {
    let rows = [["a".to_owned(), "x".repeat(300)], ["b\u{1b}[2J".to_owned(), "y".to_owned()]];
    let table = Table::new(["name", "value"], rows, "none");
    let text = table.rendered(None);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.starts_with("NAME"));
    assert!(!text.contains('\u{1b}'));
    assert!(table.rendered(Some(60)).lines().all(|line| line.chars().count() <= 60));
    let empty = Table::new(["name"], [], "no blocks stand");
    assert_eq!(empty.rendered(None), "no blocks stand\n");
}

#[test]
fn fields_are_aligned_and_empty_ones_left_out() {
    let fields = vec![("lease", "1".to_owned()), ("owner", String::new()), ("expires", "2\n".to_owned())];
    assert_eq!(rendered(&Human::Fields(fields), None), "lease    1\nexpires  2\\u{a}\n");
}

#[test]
fn a_narrow_terminal_never_breaks_an_id() {
    let id = "0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0";
    let workload = "spiffe://acme.internal/ci/payments/deploy";
    let row =
        [id.to_owned(), "team:payments".to_owned(), String::new(), workload.to_owned(), "in 4m".to_owned()];
    let table =
        Table::new(["lease", "owners", "task", "workload", "expires"], [row.clone(), row], "no leases");
    let want = format!("lease     {id}\nowners    team:payments\nworkload  {workload}\nexpires   in 4m\n");
    assert_eq!(table.rendered(Some(80)), format!("{want}\n{want}"));
    assert_eq!(table.rendered(Some(200)).lines().count(), 3, "where it fits, a thing stays on its line");
}
