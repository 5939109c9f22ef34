//! An error in four parts: what and its code, the facts, the request, the next step.

use std::fmt::Write as _;

use mayfly_client::Failure;
use serde::Serialize;

/// The column of the reason's code.
const CODE_COLUMN: usize = 62;

const BAD: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// The first word, by what kind of failure it is.
const fn headline(exit_code: u8) -> &'static str {
    match exit_code {
        2 => "invalid",
        3 => "denied",
        4 => "not found",
        5 => "ended",
        6 => "quota",
        7 => "unavailable",
        64 => "configuration",
        _ => "failed",
    }
}

pub(super) fn human(failure: &Failure) -> String {
    let first = headline(failure.exit_code);
    let width = CODE_COLUMN.saturating_sub(first.len() + 2);
    let mut out = format!("{BAD}{first}:{BAD:#} {:width$} {DIM}{}{DIM:#}\n", failure.message, failure.code);
    let request = failure.request.iter().map(|id| ("request", id.as_ref()));
    let wait = failure.retry_after.map(|wait| format!("{}s", wait.as_secs_f32().ceil()));
    let wait = wait.iter().map(|wait| ("wait", wait.as_str()));
    let next = Some(("next", failure.next.as_ref())).filter(|(_, text)| !text.is_empty());
    let facts = failure.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let lines: Vec<_> = facts.chain(request).chain(wait).chain(next).collect();
    let widest = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, text) in lines {
        // The next step names the request where its words leave room for it.
        let text = match (&failure.request, name) {
            (Some(id), "next") => text.replace("REQUEST-ID", id),
            _ => text.to_owned(),
        };
        let _ = writeln!(out, "  {name:widest$}  {text}");
    }
    out
}

#[derive(Serialize)]
struct Json<'a> {
    error: Parts<'a>,
}

#[derive(Serialize)]
struct Parts<'a> {
    reason: &'a str,
    message: &'a str,
    facts: Vec<Fact<'a>>,
    request: Option<&'a str>,
    next: &'a str,
    retry_after_ms: Option<u64>,
    exit_code: u8,
}

#[derive(Serialize)]
struct Fact<'a> {
    name: &'a str,
    value: &'a str,
}

pub(super) fn json(failure: &Failure) -> String {
    let error = Parts {
        reason: &failure.code,
        message: &failure.message,
        facts: failure.facts.iter().map(|(name, value)| Fact { name, value }).collect(),
        request: failure.request.as_deref(),
        next: &failure.next,
        retry_after_ms: failure.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        exit_code: failure.exit_code,
    };
    let mut text = serde_json::to_string_pretty(&Json { error }).unwrap_or_default();
    text.push('\n');
    text
}
