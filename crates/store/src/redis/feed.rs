//! The feed, who follows it, and the counts of what was used.
//!
//! Events are read on a connection of their own, which waits in the server for the next one: nothing else may be sent
//! on it. Each read is judged by what the server said in one step, whatever woke it.

use std::time::Duration;

use mayfly_domain::ProfileName;
use mayfly_domain::codec::Reader;
use mayfly_domain::feed::{Change, Epoch, Event, Numbered, Position};
use mayfly_lease::StoreError;
use mayfly_lease::feed::{
    FEED_PAGE_MAX, FEED_WAIT_MAX, FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, FollowerSeen,
    Followers, Pinged, USAGE_DAYS, USAGE_ITEMS_MAX, UsageCount, day_of,
};

use super::RedisStore;
use super::answer::Answer;
use super::keys::{self, Keys};
use super::link::{Conn, Link};
use super::pack::Pack;
use super::run::{Call, Footing, Lane};
use super::script::SCRIPTS;

/// How many things one call counts at most.
const USED_AT_ONCE: usize = 1_000;

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

/// A place in a snapshot, and how many entries after it, as `scripts/feed_page.lua` takes them.
fn place(after: Option<&FeedCursor>, limit: u32) -> Result<Vec<u8>, StoreError> {
    let place = match after {
        None => vec![0; 26],
        Some(FeedCursor(place)) if place.len() == 25 => Pack::default().bytes(place).flag(true).done(),
        Some(_) => return Err(corrupt("a place in a snapshot")),
    };
    Ok(Pack::default().bytes(&place).u32(limit.clamp(1, FEED_PAGE_MAX)).done())
}

/// Events by the ids of their entries, `NUMBER-0`.
fn numbered(mut list: Answer) -> Result<Vec<Numbered>, StoreError> {
    let mut events = Vec::with_capacity(list.left() / 2);
    while list.left() > 0 {
        let id = list.bytes()?;
        let digits = id.strip_suffix(b"-0").and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| corrupt("an entry's id"))?;
        events.push(Numbered { number, event: Event::decode(&list.bytes()?)? });
    }
    Ok(events)
}

/// Gives a connection up on which the server still waits for an event that nobody takes any more.
struct Waiting<'a> {
    link: &'a Link,
    conn: &'a Conn,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.suspect(self.conn);
        }
    }
}

impl Footing {
    fn position(&self, number: u64) -> Position {
        let generation = self.adopted.map(|g| g.generation).unwrap_or_default();
        Position { generation, epoch: Epoch(self.conn.identity), number }
    }
}

impl RedisStore {
    pub(super) async fn do_feed_position(&self) -> Result<Position, StoreError> {
        let footing = self.footing(Lane::Hot).await?;
        let call =
            Call::new(&SCRIPTS.feed_read, Keys::new([]), vec![Pack::default().u64(u64::MAX).u32(1).done()]);
        let number = self.known.told(self.run_over(Lane::Hot, &footing, &call).await?.u64()?);
        Ok(footing.position(number))
    }

    pub(super) async fn do_feed_page(
        &self,
        after: Option<&FeedCursor>,
        limit: u32,
    ) -> Result<FeedPage, StoreError> {
        let call = Call::new(&SCRIPTS.feed_page, Keys::new([]), vec![place(after, limit)?]);
        let mut answer = self.run(Lane::Back, call).await?;
        let mut page = FeedPage { next: answer.maybe()?.map(FeedCursor), ..FeedPage::default() };
        let mut entries = answer.list()?;
        while entries.left() > 0 {
            let event = Event::decode(&entries.bytes()?)?;
            match event.change {
                Change::Gate(gate) => page.gates.push(gate.standing(event.at)),
                Change::Mark { lease, until } => page.marks.push((lease, until)),
                Change::Keys { .. } => return Err(corrupt("keys in a snapshot")),
            }
        }
        Ok(page)
    }

    pub(super) async fn do_feed_read(
        &self,
        after: &Position,
        limit: u32,
        wait: Duration,
    ) -> Result<FeedRead, StoreError> {
        let wait = wait.min(FEED_WAIT_MAX);
        // The connection serves one reader at a time.
        let _turn = self.reading.lock().await;
        let footing = self.footing(Lane::Feed).await?;
        if !footing.position(0).is_along(after) {
            return Ok(FeedRead::Lost);
        }
        let arg = Pack::default().u64(after.number).u32(limit.clamp(1, FEED_PAGE_MAX)).done();
        let call = Call::new(&SCRIPTS.feed_read, Keys::new([]), vec![arg]);
        let mut waiting = Waiting { link: self.link(Lane::Feed), conn: &footing.conn, answered: false };
        // Both are sent at once, in this order: the script runs as soon as the server has waited.
        let both = async {
            tokio::join!(
                self.wait_for_more(&footing.conn, after.number, wait),
                self.run_over(Lane::Feed, &footing, &call)
            )
        };
        let silent = |_| StoreError::Unavailable("the feed's connection is silent".to_owned());
        let (waited, answer) =
            tokio::time::timeout(wait + self.response_timeout, both).await.map_err(silent)?;
        waiting.answered = true;
        waited?;
        let mut answer = answer?;
        let changes = self.known.told(answer.u64()?);
        Ok(FeedRead::of(after, changes, numbered(answer.list()?)?))
    }

    /// Has the server wait until there is an event after `number`.
    async fn wait_for_more(&self, conn: &Conn, number: u64, wait: Duration) -> Result<(), StoreError> {
        // For the server none at all is for ever.
        let Some(ms) = u64::try_from(wait.as_millis()).ok().filter(|ms| *ms > 0) else { return Ok(()) };
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(ms);
        read.arg("STREAMS").arg(keys::FEED).arg(format!("{number}-0"));
        let read = read.query_async::<redis::Value>(&mut conn.mux.clone()).await;
        read.map(drop).map_err(|e| self.failed(Lane::Feed, conn, "feed", &e))
    }

    pub(super) async fn do_ping(&self, pings: &[FollowerPing]) -> Result<Pinged, StoreError> {
        let footing = self.footing(Lane::Durable).await?;
        // The script knows how far the feed goes; which server it runs on is known here.
        let position = footing.position(u64::MAX);
        let mut args = Vec::with_capacity(pings.len());
        for ping in pings {
            let of = Pack::default().bytes(&ping.id.0).u64(ping.applied_at(&position)).u64(ping.kept_ms());
            args.push(of.bytes(&ping.encode_said()?).done());
        }
        let call = Call::new(&SCRIPTS.ping, Keys::new([]), args);
        let mut answer = self.run_over(Lane::Durable, &footing, &call).await?;
        let number = self.known.told(answer.u64()?);
        Ok(Pinged { position: footing.position(number), at: Self::time(&mut answer)? })
    }

    pub(super) async fn do_followers_behind(&self, number: u64) -> Result<Followers, StoreError> {
        let args = vec![Pack::default().u64(number).done()];
        let mut answer =
            self.run(Lane::Hot, Call::new(&SCRIPTS.followers_behind, Keys::new([]), args)).await?;
        let now = Self::time(&mut answer)?;
        let mut list = answer.list()?;
        let mut all = Vec::with_capacity(list.left());
        while list.left() > 0 {
            let stored = list.bytes()?;
            let mut r = Reader::new("follower", &stored);
            let id = FollowerId(r.array()?);
            all.push(FollowerSeen::decode(id, r.rest())?);
        }
        Ok(Followers { all, now })
    }

    pub(super) async fn do_forget_follower(&self, id: FollowerId) -> Result<(), StoreError> {
        let call = Call::new(&SCRIPTS.forget_follower, Keys::new([]), vec![id.0.to_vec()]);
        self.run(Lane::Hot, call).await.map(drop)
    }

    pub(super) async fn do_add_usage(&self, counts: &[UsageCount]) -> Result<(), StoreError> {
        let mut sorted: Vec<&UsageCount> = counts.iter().collect();
        sorted.sort_by_key(|count| (&count.profile, count.day));
        let limits = u32::try_from(USAGE_ITEMS_MAX).unwrap_or(u32::MAX);
        for same in sorted.chunk_by(|a, b| (&a.profile, a.day) == (&b.profile, b.day)) {
            for some in same.chunks(USED_AT_ONCE) {
                let Some(first) = some.first() else { continue };
                let keys = Keys::new([keys::usage(&first.profile, first.day)]);
                let mut args = vec![Pack::default().u32(first.day).u32(USAGE_DAYS).u32(limits).done()];
                for count in some {
                    args.push(count.field());
                    args.push(count.uses.min(u64::from(u32::MAX)).to_string().into_bytes());
                }
                self.run(Lane::Back, Call::new(&SCRIPTS.add_usage, keys, args)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn do_usage(&self, profile: &ProfileName) -> Result<Vec<UsageCount>, StoreError> {
        let today = day_of(self.clock.now());
        let days = today.saturating_sub(USAGE_DAYS - 1)..=today.saturating_add(1);
        let keys = Keys::new(days.clone().map(|day| keys::usage(profile, day)));
        let mut answer = self.run(Lane::Back, Call::new(&SCRIPTS.usage, keys, Vec::new())).await?.list()?;
        let mut all = Vec::new();
        for day in days {
            let mut items = answer.list()?;
            let first = all.len();
            while items.left() > 0 {
                let field = items.bytes()?;
                let uses = items.bytes()?;
                let uses = std::str::from_utf8(&uses).ok().and_then(|n| n.parse().ok());
                let uses = uses.ok_or_else(|| corrupt("a count of uses"))?;
                all.push(UsageCount::of_field(profile, day, &field, uses)?);
            }
            if let Some(of_day) = all.get_mut(first..) {
                of_day.sort_by_cached_key(UsageCount::field);
            }
        }
        Ok(all)
    }
}
