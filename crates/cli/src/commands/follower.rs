//! `mayfly follower`: who follows the feed.

use clap::{Args, Subcommand};
use mayfly_domain::UnixMillis;
use mayfly_proto::v1 as pb;
use serde::Serialize;

use super::barrier::{FollowerView, follower_rows};
use crate::output::{Human, View};
use crate::session::{Outcome, Session};

/// See who follows the feed: brokers, and acceptors that decide by themselves
#[derive(Debug, Subcommand)]
pub(crate) enum Follower {
    List(List),
}

/// List followers, the ones that are furthest behind first
///
/// One that is not fresh accepts nothing: it was silent for longer than its bound, or has no complete table yet.
#[derive(Debug, Args)]
pub(crate) struct List {}

#[derive(Serialize)]
struct Listed {
    /// The number of the feed's last event.
    number: u64,
    followers: Vec<FollowerView>,
}

impl View for Listed {
    fn human(&self, _: UnixMillis) -> Human {
        follower_rows(&self.followers)
    }
}

impl Follower {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let Self::List(List {}) = self;
        let answer = session.operator().await?.list_followers(pb::ListFollowersRequest {}).await?;
        let followers = answer.followers.into_iter().map(FollowerView::from).collect();
        session.printer.show(&Listed { number: answer.number, followers })?;
        Ok(0)
    }
}
