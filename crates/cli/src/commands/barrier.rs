//! Waiting, after a revocation, until nobody decides without it any more.
//!
//! The revocation stands whatever becomes of the wait: what is not known is said, and never called complete.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mayfly_client::{Failure, OperatorClient};
use mayfly_domain::UnixMillis;
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::args::Length;
use crate::output::{Human, Table, View};

/// The exit code where a follower neither confirmed nor passed its bound.
const INCOMPLETE: u8 = 8;
/// How many followers are named in a line.
const NAMED: usize = 5;

/// How long to wait for followers.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Return at the acknowledgement: brokers refuse from then on, acceptors that follow the feed in milliseconds
    #[arg(long, conflicts_with = "wait_for")]
    no_wait: bool,
    /// Wait for followers at most so long; else until each has it or may not decide any more (10 seconds at most)
    #[arg(long, value_name = "LENGTH")]
    wait_for: Option<Length>,
}

/// A follower of the feed.
#[derive(Debug, Serialize)]
pub(crate) struct FollowerView {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    broker: String,
    bound_ms: u32,
    silent_ms: u32,
    applied: u64,
    pub(crate) behind: u64,
    pub(crate) fresh: bool,
}

impl From<pb::Follower> for FollowerView {
    fn from(f: pb::Follower) -> Self {
        Self {
            id: f.id,
            kind: f.kind,
            name: f.name,
            broker: f.broker,
            bound_ms: f.bound_ms,
            silent_ms: f.silent_ms,
            applied: f.applied,
            behind: f.behind,
            fresh: f.fresh,
        }
    }
}

/// Tenths of a second.
pub(crate) fn seconds(ms: u32) -> String {
    format!("{}.{}s", ms / 1_000, ms / 100 % 10)
}

impl FollowerView {
    /// Its name, else its id: who may not list followers learns no names.
    pub(crate) fn shown(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }

    /// The broker through which it follows; a broker follows the store.
    pub(crate) fn through(&self) -> &str {
        if self.kind == "broker" { "" } else { &self.broker }
    }

    /// How long it has been silent, of how long it may be.
    pub(crate) fn silence(&self) -> String {
        format!("{} of {}", seconds(self.silent_ms), seconds(self.bound_ms))
    }

    fn words(&self) -> String {
        let through = match self.through() {
            "" => String::new(),
            broker => format!(" through {broker}"),
        };
        format!("{} ({}{through}, silent {})", self.shown(), self.kind, self.silence())
    }
}

/// Followers as rows.
pub(crate) fn follower_rows(followers: &[FollowerView]) -> Human {
    let row = |f: &FollowerView| {
        [
            f.shown().to_owned(),
            f.kind.clone(),
            f.through().to_owned(),
            if f.fresh { "fresh" } else { "not fresh" }.to_owned(),
            f.applied.to_string(),
            f.behind.to_string(),
            seconds(f.silent_ms),
            seconds(f.bound_ms),
            f.id.clone(),
        ]
    };
    Human::Rows(Table::new(
        ["name", "kind", "through", "state", "applied", "behind", "silent", "bound", "id"],
        followers.iter().map(row),
        "nobody follows the feed",
    ))
}

/// What became of a wait.
#[derive(Debug, Serialize)]
pub(crate) struct BarrierView {
    pub(crate) complete: bool,
    followers: u32,
    confirmed: u32,
    passed: u32,
    waiting: Vec<FollowerView>,
    reuse_left_ms: u32,
    elapsed_ms: u32,
    /// Why nothing more is known.
    problem: Option<String>,
}

impl From<pb::BarrierProgress> for BarrierView {
    fn from(p: pb::BarrierProgress) -> Self {
        Self {
            complete: p.complete,
            followers: p.followers,
            confirmed: p.confirmed,
            passed: p.passed,
            waiting: p.waiting.into_iter().map(FollowerView::from).collect(),
            reuse_left_ms: p.reuse_left_ms,
            elapsed_ms: p.elapsed_ms,
            problem: None,
        }
    }
}

impl BarrierView {
    fn unknown(why: &Failure) -> Self {
        let mut view = Self::from(pb::BarrierProgress::default());
        view.problem = Some(format!("{}: {}", why.code, why.message));
        view
    }

    /// The command's exit code.
    pub(crate) const fn exit_code(&self) -> u8 {
        if self.complete { 0 } else { INCOMPLETE }
    }

    /// In words: who has it, who may not decide any more, and by name who neither.
    pub(crate) fn words(&self) -> String {
        if let Some(problem) = &self.problem {
            return format!("not known: {problem}; the revocation stands");
        }
        let mut have = vec![format!("{} of {} confirmed", self.confirmed, self.followers)];
        if self.passed > 0 {
            have.push(format!("{} past their bound", self.passed));
        }
        let took = match self.elapsed_ms {
            ms @ 0..1_000 => format!("{ms} ms"),
            ms => seconds(ms),
        };
        if self.complete {
            return format!("complete after {took}: {}", have.join(", "));
        }
        let left = usize::try_from(self.followers.saturating_sub(self.confirmed + self.passed))
            .unwrap_or(usize::MAX);
        let mut names: Vec<String> = self.waiting.iter().take(NAMED).map(FollowerView::words).collect();
        if left > names.len() {
            names.push(format!("{} more", left - names.len()));
        }
        if names.is_empty() {
            names.push(match self.reuse_left_ms {
                0 => "who follows since before the store began anew".to_owned(),
                left => format!("answers may be reused for {} more", seconds(left)),
            });
        }
        format!("NOT complete after {took}: {}; neither: {}", have.join(", "), names.join(", "))
    }
}

impl BarrierView {
    /// What may still be done where it is not complete.
    pub(crate) fn next(&self) -> Option<String> {
        if self.complete {
            return None;
        }
        let left = self.waiting.iter().map(|f| f.bound_ms.saturating_sub(f.silent_ms)).max();
        let named = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        // Of those that are not named nobody knows how long they may go on.
        let left = left.filter(|_| self.confirmed + self.passed + named >= self.followers);
        let bound = left.map_or_else(String::new, |left| {
            format!("who stays silent decides nothing after {} more; ", seconds(left))
        });
        Some(format!("{bound}see `mayfly follower list`"))
    }
}

impl View for BarrierView {
    fn human(&self, _: UnixMillis) -> Human {
        Human::Fields(vec![("barrier", self.words()), ("next", self.next().unwrap_or_default())])
    }
}

impl WaitArgs {
    /// Waits as the arguments say, with a bar on a terminal; none where nothing is to be waited for.
    pub(crate) async fn wait(
        &self,
        client: &OperatorClient,
        answer: &pb::RevokeResponse,
    ) -> Option<BarrierView> {
        if self.no_wait || answer.number == 0 {
            return None;
        }
        let bar = bar();
        let patience = self.wait_for.map(Duration::from);
        let told = |progress: &pb::BarrierProgress| show(&bar, progress);
        let waited = client.wait_barrier(answer.number, &answer.generation, patience, told).await;
        bar.finish_and_clear();
        Some(match waited {
            Ok(progress) => BarrierView::from(progress),
            Err(why) => BarrierView::unknown(&why),
        })
    }
}

/// Drawn on standard error, where that is a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("acknowledged; followers {bar:24} {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn show(bar: &ProgressBar, progress: &pb::BarrierProgress) {
    bar.set_length(progress.followers.into());
    bar.set_position((progress.confirmed + progress.passed).into());
    let names = progress.waiting.iter().take(3).map(|f| FollowerView::from(f.clone()));
    bar.set_message(names.map(|f| f.shown().to_owned()).collect::<Vec<_>>().join(", "));
    bar.tick();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower(name: &str, silent_ms: u32) -> pb::Follower {
        pb::Follower {
            id: "f".repeat(32),
            kind: "acceptor".into(),
            name: name.into(),
            broker: "one".into(),
            bound_ms: 5_000,
            silent_ms,
            ..Default::default()
        }
    }

    fn progress(confirmed: u32, passed: u32, waiting: Vec<pb::Follower>) -> pb::BarrierProgress {
        pb::BarrierProgress { followers: 8, confirmed, passed, waiting, elapsed_ms: 12, ..Default::default() }
    }

    #[test]
    fn a_wait_is_told_in_words() {
        let complete = pb::BarrierProgress { complete: true, ..progress(7, 1, vec![]) };
        let view = BarrierView::from(complete);
        assert_eq!(view.words(), "complete after 12 ms: 7 of 8 confirmed, 1 past their bound");
        assert_eq!((view.exit_code(), view.next()), (0, None));

        let slow =
            pb::BarrierProgress { elapsed_ms: 2_040, ..progress(7, 0, vec![follower("ledger-api", 1_250)]) };
        let view = BarrierView::from(slow);
        assert_eq!(
            view.words(),
            "NOT complete after 2.0s: 7 of 8 confirmed; neither: ledger-api (acceptor through one, silent 1.2s of 5.0s)"
        );
        assert_eq!(view.exit_code(), 8);
        assert!(view.next().is_some_and(|next| next.contains("after 3.7s more")), "{:?}", view.next());

        let many =
            BarrierView::from(progress(0, 0, (0..8).map(|n| follower(&format!("a-{n}"), 0)).collect()));
        assert!(many.words().ends_with(", 3 more"), "{}", many.words());
        let unnamed = BarrierView::from(progress(6, 0, vec![follower("ledger-api", 0)]));
        assert_eq!(unnamed.next().as_deref(), Some("see `mayfly follower list`"));
        let nameless = BarrierView::from(progress(7, 0, vec![follower("", 0)]));
        assert!(nameless.words().contains(&"f".repeat(32)), "{}", nameless.words());
        let reuse = pb::BarrierProgress { reuse_left_ms: 300, ..progress(8, 0, vec![]) };
        assert!(BarrierView::from(reuse).words().contains("reused for 0.3s more"));
        let anew = BarrierView::from(progress(8, 0, vec![]));
        assert!(anew.words().contains("before the store began anew"), "{}", anew.words());
    }

    #[test]
    fn what_is_not_known_is_not_complete() {
        let view = BarrierView::unknown(&Failure::of(mayfly_domain::Reason::BrokerUnreachable));
        assert_eq!(view.exit_code(), 8);
        assert!(view.words().starts_with("not known: BROKER_UNREACHABLE"), "{}", view.words());
    }
}
