use cedar_policy::EntityUid;
use proptest::prelude::*;

use super::*;

#[test]
fn names_have_one_spelling() {
    let read = |text: &str| named("action", text).map(|n| (n.kind.to_owned(), n.id.to_owned()));
    for (text, kind, id) in [
        ("Payments::Action::\"GET /orders\"", "Payments::Action", "GET /orders"),
        ("A::B::C::\"x\"", "A::B::C", "x"),
        ("_a1::Order::\"é: 42\"", "_a1::Order", "é: 42"),
        ("A::B::\"x::y\"", "A::B", "x::y"),
    ] {
        assert_eq!(read(text).unwrap(), (kind.to_owned(), id.to_owned()), "{text}");
    }
    for text in [
        "",
        "Payments::Order",
        "Order::\"42\"",
        "Payments::Order::42",
        "Payments::Order::\"\"",
        "Payments::Order::\"4\"2\"",
        "Payments::Order::\"4\\\"2\"",
        "Payments::Order::\"\\u{41}\"",
        "Payments::Order::\"42\" ",
        " Payments::Order::\"42\"",
        "Payments:: Order::\"42\"",
        "Payments::::Order::\"42\"",
        "::Payments::Order::\"42\"",
        "1::Order::\"42\"",
        "Payments::Order::\"4\u{202e}2\"",
        "Payments::Order::\"4\n2\"",
        "Pay-ments::Order::\"42\"",
        "Payments::Order::\"",
        &format!("Payments::Order::\"{}\"", "x".repeat(512)),
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn methods_are_tokens() {
    for good in ["", "GET", "M-SEARCH", "PROPFIND"] {
        assert_eq!(method(good).unwrap(), good);
    }
    for bad in ["GET ", "G\u{e9}T", "GET\n", "(GET)", &"G".repeat(33)] {
        assert!(method(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn paths_are_read_in_one_way_or_not_at_all() {
    for (url, expected) in [
        ("", ""),
        ("https://api.acme.internal", "/"),
        ("https://api.acme.internal?x=/../", "/"),
        ("HTTPS://api:8443/orders/42?x=1#y", "/orders/42"),
        ("http://api/orders/", "/orders/"),
        ("/orders/42", "/orders/42"),
        ("/", "/"),
        ("/a..b/.well-known/...", "/a..b/.well-known/..."),
        ("/group%2Fproject/%20x", "/group%2Fproject/%20x"),
        ("/payments.v1.Orders/Get", "/payments.v1.Orders/Get"),
    ] {
        assert_eq!(path(url).unwrap(), expected, "{url}");
    }
    for url in [
        "api/orders",
        "ftp://api/orders",
        "https:///orders",
        "https:/orders",
        "/orders/../admin",
        "/orders/.",
        "/..",
        "/orders/%2e%2e/admin",
        "/orders/.%2E/admin",
        "/orders%2f..%2fadmin",
        "/orders%5c..%5cadmin",
        "/orders\\..\\admin",
        "//admin",
        "/orders//admin",
        "/%2Fadmin",
        "/%61dmin",
        "/orders%00",
        "/orders%0a",
        "/orders%7F",
        "/orders%",
        "/orders%2",
        "/orders%zz",
        "/ord ers",
        "/ord\u{e9}rs",
        "/orders\n",
        &format!("/{}", "x".repeat(2_048)),
    ] {
        assert!(path(url).is_err(), "{url}");
    }
}

proptest! {
    #[test]
    fn cedar_reads_the_same_name(text in r#"[A-Za-z_:]{1,8}::[A-Za-z]{0,5}(::)?"?[ -~éß"\\]{0,12}"?"#) {
        let ours = named("resource", &text).ok();
        let cedar = text.parse::<EntityUid>().ok();
        if let (Some(ours), Some(cedar)) = (ours, &cedar) {
            prop_assert_eq!(ours.kind, cedar.type_name().to_string());
            prop_assert_eq!(ours.id, cedar.id().unescaped());
        }
    }

    #[test]
    fn a_name_that_cedar_writes_is_read_unless_it_needs_escapes(id in r#"[ -&(-~]{0,20}"#) {
        let text = format!("Payments::Order::\"{id}\"");
        let plain = !id.is_empty() && !id.contains(['"', '\\']);
        prop_assert_eq!(named("resource", &text).is_ok(), plain);
        if plain {
            let cedar = text.parse::<EntityUid>().unwrap();
            prop_assert_eq!(cedar.id().unescaped(), id);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,40}|[/.%0-9a-fA-F\\\\?#:]{0,40}") {
        let _ = (named("action", &text), method(&text));
        if let Ok(path) = path(&text) {
            prop_assert!(path.is_empty() || path.starts_with('/'));
            prop_assert!(!path.contains(['?', '#', '\\']));
            prop_assert!(path.split('/').all(|s| s != "." && s != ".."));
            // What was accepted once is accepted again, and stays as it is.
            prop_assert_eq!(super::path(path).unwrap(), path);
        }
    }
}
