//! Strict JSON objects: no member twice, at any depth.
//!
//! `serde_json::Value` keeps the last of two members of one name, and another reader may keep the first; so
//! claims are never read through it.

use std::collections::BTreeSet;
use std::fmt;

use mayfly_attest::{ClaimValue, Claims};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads one JSON object, and nothing after it, into claims. Nested objects are checked and become
/// [`ClaimValue::Other`].
///
/// # Errors
/// The parser's, without any of the input in it.
pub fn object(bytes: &[u8]) -> Result<Claims, NotAnObject> {
    serde_json::from_slice::<Object>(bytes).map(|o| o.0).map_err(|_| NotAnObject)
}

/// The octets are not one JSON object without duplicate members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one JSON object without duplicate members")]
pub struct NotAnObject;

struct Object(Claims);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut claims = Claims::new();
        while let Some((name, Value(value))) = map.next_entry::<String, Value>()? {
            if claims.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Object(claims))
    }
}

struct Value(ClaimValue);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyValue).map(Value)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = ClaimValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Bool(value))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Number(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Number(number.to_string()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ClaimValue, A::Error> {
        let mut texts = Some(Vec::new());
        while let Some(Value(value)) = seq.next_element::<Value>()? {
            match (value, &mut texts) {
                (ClaimValue::Text(text), Some(all)) => all.push(text),
                _ => texts = None,
            }
        }
        Ok(texts.map_or(ClaimValue::Other, ClaimValue::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClaimValue, A::Error> {
        let mut names = BTreeSet::new();
        while let Some((name, _)) = map.next_entry::<String, Checked>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(ClaimValue::Other)
    }
}

/// A value below a claim: only its members' names matter.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Value::deserialize(d).map(|_| Checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_rules_see_them() {
        let claims = object(
            br#"{"t":"a","n":17,"m":-1,"b":true,"l":["x","y"],"k":[1],"o":{"a":{}},"z":null,"f":1.5,"h":18446744073709551616}"#,
        )
        .unwrap();
        let is = |name: &str, value: ClaimValue| assert_eq!(claims.get(name), Some(&value), "{name}");
        is("t", ClaimValue::Text("a".into()));
        is("n", ClaimValue::Number("17".into()));
        is("m", ClaimValue::Number("-1".into()));
        is("b", ClaimValue::Bool(true));
        is("l", ClaimValue::List(vec!["x".into(), "y".into()]));
        for other in ["k", "o", "z", "f", "h"] {
            is(other, ClaimValue::Other);
        }
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            r#"{"aud":"a","aud":"b"}"#,
            r#"{"aud":"a","a\u0075d":"a"}"#,
            r#"{"o":{"x":1,"x":1}}"#,
            r#"{"o":[{"p":{"x":1,"x":2}}]}"#,
            r#"{"o":{"p":[[{"x":1,"x":2}]]}}"#,
            r#"{} {}"#,
            "[]",
            "\"x\"",
            "",
            "{",
            r#"{"a":1,}"#,
            "{\"a\":\"\u{1}\"}",
        ] {
            assert_eq!(object(bad.as_bytes()), Err(NotAnObject), "{bad}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(object(deep.as_bytes()).is_err());
    }
}
