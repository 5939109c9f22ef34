//! `mayfly usage`: what credentials of a profile were used for, and what of it never.

use std::collections::BTreeMap;

use clap::Args;
use mayfly_domain::{ProfileName, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::output::{Human, Moment, Table, View};
use crate::session::{Outcome, Session};

const DAY_MS: u64 = 86_400_000;

/// Show which scopes and intents of a profile were used at checks over 90 days, and which never were
///
/// What was never used is what the profile can do without.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly usage --profile payments-deploy")]
pub(crate) struct Usage {
    /// The profile
    #[arg(long, value_name = "NAME")]
    profile: ProfileName,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Used {
    workload: String,
    /// `scope` or `intent`.
    kind: &'static str,
    name: String,
    uses: u64,
    /// The last day on which it was used, `2026-05-01`.
    last_used: String,
}

#[derive(Debug, Serialize)]
struct Shown {
    profile: String,
    used: Vec<Used>,
    never_used_scopes: Vec<String>,
    never_used_intents: Vec<String>,
}

impl Shown {
    fn new(profile: &ProfileName, answer: pb::GetUsageResponse) -> Self {
        let mut by_name: BTreeMap<(String, &'static str, String), (u64, u32)> = BTreeMap::new();
        for day in answer.days {
            let (kind, name) =
                if day.scope.is_empty() { ("intent", day.intent) } else { ("scope", day.scope) };
            let (uses, last) = by_name.entry((day.workload, kind, name)).or_default();
            *uses = uses.saturating_add(day.uses);
            *last = (*last).max(day.day);
        }
        let never = |kind: &str, all: Vec<String>| -> Vec<String> {
            all.into_iter().filter(|name| !by_name.keys().any(|(_, k, n)| *k == kind && n == name)).collect()
        };
        let never_used_scopes = never("scope", answer.scopes);
        let never_used_intents = never("intent", answer.intents);
        let used = by_name.into_iter().map(|((workload, kind, name), (uses, last))| Used {
            workload,
            kind,
            name,
            uses,
            last_used: date(last),
        });
        Self { profile: profile.to_string(), used: used.collect(), never_used_scopes, never_used_intents }
    }
}

/// The date of a day since 1970-01-01.
fn date(day: u32) -> String {
    // The first moment of a time is none on the wire; noon is of the same day.
    let noon = Moment(u64::from(day) * DAY_MS + DAY_MS / 2).text();
    noon.split('T').next().unwrap_or_default().to_owned()
}

impl View for Shown {
    fn human(&self, _: UnixMillis) -> Human {
        let row = |u: &Used| {
            [u.workload.clone(), u.kind.to_owned(), u.name.clone(), u.last_used.clone(), u.uses.to_string()]
        };
        let used = Table::new(
            ["workload", "kind", "used", "last", "uses in 90 days"],
            self.used.iter().map(row),
            "no use of it was counted",
        );
        let never = Human::Fields(vec![
            ("scopes", self.never_used_scopes.join(" ")),
            ("intents", self.never_used_intents.join(" ")),
        ]);
        let mut parts = vec![("used", Human::Rows(used))];
        if !self.never_used_scopes.is_empty() || !self.never_used_intents.is_empty() {
            parts.push(("never used", never));
        }
        Human::Parts(parts)
    }
}

impl Usage {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let call = pb::GetUsageRequest { profile: self.profile.to_string() };
        let answer = session.operator().await?.get_usage(call).await?;
        session.printer.show(&Shown::new(&self.profile, answer))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_add_up_and_what_was_never_used_is_named() {
        let day = |day, workload: &str, scope: &str, intent: &str, uses| pb::UsageDay {
            day,
            workload: workload.into(),
            scope: scope.into(),
            intent: intent.into(),
            uses,
        };
        let answer = pb::GetUsageResponse {
            days: vec![
                day(20_000, "spiffe://a.b/one", "orders:read", "", 3),
                day(20_002, "spiffe://a.b/one", "orders:read", "", 4),
                day(20_001, "spiffe://a.b/two", "orders:read", "", 1),
                day(20_001, "spiffe://a.b/one", "", "report:orders", 5),
            ],
            scopes: vec!["orders:read".into(), "orders:write".into()],
            intents: vec!["report:orders".into(), "orders:write".into()],
        };
        let shown = Shown::new(&ProfileName::parse("orders").unwrap(), answer);
        let rows: Vec<_> =
            shown.used.iter().map(|u| (&*u.workload, u.kind, &*u.name, u.uses, &*u.last_used)).collect();
        assert_eq!(
            rows,
            [
                ("spiffe://a.b/one", "intent", "report:orders", 5, "2024-10-05"),
                ("spiffe://a.b/one", "scope", "orders:read", 7, "2024-10-06"),
                ("spiffe://a.b/two", "scope", "orders:read", 1, "2024-10-05"),
            ]
        );
        assert_eq!(
            (shown.never_used_scopes, shown.never_used_intents),
            (vec!["orders:write".to_owned()], vec!["orders:write".to_owned()])
        );
    }
}
