use super::*;

const PAYMENTS: &str = r#"// What the payments API can be asked for.
namespace Payments {
  entity Order;
  entity Desk enum ["eu", "us"];
  action "view:orders";
  action "list" in ["view:orders"];
  action "GET /orders" in ["list"] appliesTo {
    principal: Mayfly::Workload, resource: [Order, Desk], context: Mayfly::Request
  };
}
"#;

fn files(texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().enumerate().map(|(n, t)| (format!("{n}.cedarschema"), (*t).to_owned())).collect()
}

#[test]
fn actions_come_with_their_groups_and_resources() {
    let other = "namespace A::B { entity X; action go appliesTo { principal: [Mayfly::Workload], resource: X, \
                 context: Mayfly::Request }; }";
    let merged = merge(&files(&[PAYMENTS, other])).unwrap();
    let shown: Vec<_> = merged
        .actions
        .iter()
        .map(|a| {
            let mut groups: Vec<&str> = a.groups.iter().map(|g| g.id().unescaped()).collect();
            groups.sort_unstable();
            let of = a.resources.iter().map(|(k, c)| (k.to_string(), c.as_ref().map(BTreeSet::len)));
            (a.uid.to_string(), groups, of.collect::<Vec<_>>())
        })
        .collect();
    let orders = vec![("Payments::Desk".to_owned(), Some(2)), ("Payments::Order".to_owned(), None)];
    assert_eq!(
        shown,
        [
            ("A::B::Action::\"go\"".to_owned(), vec![], vec![("A::B::X".to_owned(), None)]),
            ("Payments::Action::\"GET /orders\"".to_owned(), vec!["list", "view:orders"], orders),
        ]
    );
    assert!(merge(&files(&[&merged.text])).is_ok(), "the files as one are a file");
    assert_eq!(merge(&[]).unwrap().actions.len(), 0);
}

#[test]
fn each_mistake_has_its_line() {
    let action =
        |what: &str| format!("namespace P {{\n  entity O;\n  // action \"x\"\n  action \"x\" {what};\n}}");
    let applies = |principal: &str, resource: &str, context: &str| {
        action(&format!("appliesTo {{ principal: {principal}, resource: {resource}, context: {context} }}"))
    };
    for (text, line, message) in [
        ("namespace P {\n  entity O\n}".to_owned(), 3, "unexpected token"),
        ("entity O;".to_owned(), 1, "outside of any namespace"),
        ("\nnamespace Mayfly { entity O; }".to_owned(), 2, "reserved"),
        ("\nnamespace Mayfly::Own { entity O; }".to_owned(), 2, "reserved"),
        ("namespace P {\n  entity O { region: String };\n}".to_owned(), 2, "`P::O` has attributes"),
        ("namespace P {\n  entity O tags String;\n}".to_owned(), 2, "`P::O` has tags"),
        ("namespace P {\n  entity Q;\n  entity O in [Q];\n}".to_owned(), 3, "`P::O` has parents"),
        ("namespace P {\n  entity O { region: Nowhere };\n}".to_owned(), 2, "has attributes"),
        (applies("Mayfly::Operator", "O", "Mayfly::Request"), 4, "principal of the action `x`"),
        (applies("[Mayfly::Workload, O]", "O", "Mayfly::Request"), 4, "principal of the action `x`"),
        (applies("Mayfly::Workload", "Mayfly::Profile", "Mayfly::Request"), 4, "not of its namespace"),
        (applies("Mayfly::Workload", "O", "{}"), 4, "is not `Mayfly::Request`"),
        (applies("Mayfly::Workload", "O", "{ a: String }"), 4, "is not `Mayfly::Request`"),
        (applies("Mayfly::Workload", "Nowhere", "Mayfly::Request"), 4, "Nowhere"),
        (action("in [Mayfly::Action::\"mint\"]"), 4, "group of another namespace"),
        ("namespace P {\n  action \"x\\\"y\";\n}".to_owned(), 1, "no check can name"),
        ("namespace P {\n  // \u{202e}\n}".to_owned(), 2, "U+202E"),
    ] {
        let errors = merge(&files(&[&text])).map(|_| ()).expect_err(&text);
        assert!(errors[0].message.contains(message), "{text}: {errors:?}");
        assert_eq!((errors[0].file.as_str(), errors[0].line), ("0.cedarschema", line), "{text}: {errors:?}");
    }
}

#[test]
fn every_file_has_its_own_namespaces() {
    let errors = merge(&files(&["namespace P { entity A; }", "\nnamespace P { entity B; }"])).unwrap_err();
    assert_eq!((errors[0].file.as_str(), errors[0].line), ("1.cedarschema", 2));
    assert!(errors[0].message.contains("0.cedarschema"), "{errors:?}");
    let errors = merge(&files(&["namespace P { entity A { x: String }; }", "entity B;"])).unwrap_err();
    assert_eq!(errors.len(), 2, "all files' mistakes at once: {errors:?}");
}
