//! `mayfly why`: everything that was decided about one request.

use clap::Args;
use mayfly_client::Failure;
use mayfly_domain::{Reason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;
use serde_json::Value;

use crate::output::{Human, Moment, View};
use crate::session::{Outcome, Session};

/// Show why a request was answered as it was
///
/// The request id is in every error and every audit record.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly why 0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0")]
pub(crate) struct Why {
    /// The request's id
    request: String,
}

#[derive(Serialize)]
struct Records {
    records: Vec<Value>,
}

impl View for Records {
    fn human(&self, _: UnixMillis) -> Human {
        let mut text = String::new();
        for record in &self.records {
            if !text.is_empty() {
                text.push('\n');
            }
            lines(&mut text, "", record);
        }
        Human::Text(text)
    }
}

/// Writes a record with one `path  value` line for each leaf.
fn lines(text: &mut String, path: &str, value: &Value) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, v)| lines(text, &below(name), v)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, v)| lines(text, &below(&n.to_string()), v));
        }
        Value::Null => {}
        leaf => {
            let (path, shown) = match (path.strip_suffix("_ms"), leaf.as_u64()) {
                (Some(name), Some(at)) => (name, Moment(at).text()),
                _ => (path, leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned)),
            };
            let shown = mayfly_client::failure::clean(&shown, 4_096);
            text.push_str(&format!("{:28}  {shown}\n", mayfly_client::failure::clean(path, 128)));
        }
    }
}

impl Why {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let call = pb::WhyRequest { request: self.request.clone() };
        let elsewhere = |failure: Failure| {
            failure.next("another broker may have answered it: ask there, or search its audit file")
        };
        let answer = match session.operator().await?.why(call).await {
            Err(failure) if failure.is(Reason::NotFound) => return Err(elsewhere(failure)),
            answer => answer?,
        };
        if answer.records.is_empty() {
            return Err(elsewhere(Failure::of(Reason::NotFound).fact("request", self.request)));
        }
        let parsed =
            |record: &String| serde_json::from_str(record).unwrap_or_else(|_| Value::from(record.as_str()));
        session.printer.show(&Records { records: answer.records.iter().map(parsed).collect() })?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_leaf_by_leaf() {
        let mut text = String::new();
        let record =
            serde_json::json!({"reason": "BLOCKED", "who": {"owners": ["a", "b\u{1b}"]}, "none": null});
        lines(&mut text, "", &record);
        lines(&mut text, "", &serde_json::json!({"time_ms": 1_500}));
        let rows: Vec<Vec<_>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[..3], [["reason", "BLOCKED"], ["who.owners.0", "a"], ["who.owners.1", "b\\u{1b}"]]);
        assert_eq!(rows[3], ["time", "1970-01-01T00:00:01.500Z"]);
    }
}
