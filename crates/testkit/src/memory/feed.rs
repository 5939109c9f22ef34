//! The feed, its followers and the counts of what was used, over the state in memory.

use std::time::Duration;

use mayfly_domain::feed::{Epoch, Numbered, Position};
use mayfly_domain::{DimKey, LeaseId, ProfileName};
use mayfly_lease::feed::{
    FEED_PAGE_MAX, FeedCursor, FeedPage, FeedRead, FollowerPing, FollowerSeen, Followers, Pinged,
    USAGE_ITEMS_MAX, UsageCount, day_of,
};
use mayfly_lease::transition::View as _;
use mayfly_lease::{StoreError, gate};

use super::{MemoryStore, MemoryView};

const GATE: u8 = 0;
const MARK: u8 = 1;

fn at_most(limit: u32) -> usize {
    usize::try_from(limit.clamp(1, FEED_PAGE_MAX)).unwrap()
}

impl MemoryView {
    pub(super) fn position(&self) -> Result<Position, StoreError> {
        let generation = self.generation()?.generation;
        Ok(Position { generation, epoch: Epoch(self.server), number: self.changes })
    }

    pub(super) fn feed_page(&self, after: Option<&FeedCursor>, limit: u32) -> FeedPage {
        let limit = at_most(limit);
        let gates = self.gates.iter().map(|(key, (_, gate))| gate::state(*key, gate).standing(self.now));
        let gates = gates.filter(|gate| !gate.is_over(self.now)).map(|gate| (GATE, gate.key.0));
        let marks = self.marks.iter().filter(|(_, mark)| self.now < mark.until);
        let marks = marks.map(|(id, _)| (MARK, *id.as_bytes()));
        let after = after.map(|cursor| (cursor.0[0], <[u8; 16]>::try_from(&cursor.0[1..]).unwrap()));
        let rest: Vec<_> = gates.chain(marks).filter(|entry| after.is_none_or(|a| a < *entry)).collect();
        let mut page = FeedPage::default();
        for (kind, id) in rest.iter().take(limit) {
            if *kind == GATE {
                let (_, found) = &self.gates[&DimKey(*id)];
                page.gates.push(gate::state(DimKey(*id), found).standing(self.now));
            } else {
                let id = LeaseId::from_bytes(*id);
                page.marks.push((id, self.marks[&id].until));
            }
        }
        let last = rest.get(limit - 1).filter(|_| rest.len() > limit);
        page.next = last.map(|(kind, id)| FeedCursor([&[*kind][..], id].concat()));
        page
    }

    fn events(&self, after: &Position, limit: u32) -> Result<FeedRead, StoreError> {
        if !self.position()?.is_along(after) {
            return Ok(FeedRead::Lost);
        }
        let later = self.feed.iter().filter(|event| event.number > after.number);
        let found: Vec<Numbered> = later.take(at_most(limit)).copied().collect();
        Ok(FeedRead::of(after, self.changes, found))
    }

    pub(super) fn ping(&mut self, pings: &[FollowerPing]) -> Result<Pinged, StoreError> {
        let position = self.position()?;
        for ping in pings {
            let ping = FollowerPing { applied: ping.applied_at(&position), ..ping.clone() };
            self.followers.insert(ping.id, FollowerSeen { ping, at: self.now });
        }
        Ok(Pinged { position, at: self.now })
    }

    pub(super) fn followers_behind(&mut self, number: u64) -> Followers {
        let now = self.now;
        self.followers.retain(|_, seen| now < seen.at.plus(seen.ping.kept_ms()));
        let behind = self.followers.values().filter(|seen| seen.ping.applied < number);
        Followers { all: behind.cloned().collect(), now }
    }

    pub(super) fn add_usage(&mut self, counts: &[UsageCount]) {
        let today = day_of(self.now);
        for count in counts.iter().filter(|count| count.is_kept(today)) {
            let items = self.usage.entry((count.profile.clone(), count.day)).or_default();
            let field = count.field();
            if items.len() < USAGE_ITEMS_MAX || items.contains_key(&field) {
                *items.entry(field).or_default() += count.uses;
            }
        }
    }

    pub(super) fn usage(&self, profile: &ProfileName) -> Vec<UsageCount> {
        let mut all = Vec::new();
        for ((of, day), items) in &self.usage {
            for (field, uses) in items {
                let count = UsageCount::of_field(of, *day, field, *uses).unwrap();
                all.extend(Some(count).filter(|c| of == profile && c.is_kept(day_of(self.now))));
            }
        }
        all
    }
}

impl MemoryStore {
    pub(super) async fn read_feed(
        &self,
        after: &Position,
        limit: u32,
        wait: Duration,
    ) -> Result<FeedRead, StoreError> {
        let mut told = self.told.subscribe();
        let look = async {
            loop {
                told.borrow_and_update();
                match self.run(|view| view.events(after, limit))? {
                    FeedRead::Events(events) if events.is_empty() => told.changed().await.unwrap(),
                    read => return Ok(read),
                }
            }
        };
        tokio::time::timeout(wait, look).await.unwrap_or(Ok(FeedRead::Events(Vec::new())))
    }
}
