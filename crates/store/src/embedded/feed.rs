//! The feed's log, its followers, and the counts of what was used.
//!
//! An event is written by the step that makes its change; what a reader gets is durable. Readers are woken after the
//! commit, and look again themselves: a wake-up carries nothing.

use std::time::Duration;

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::feed::{Epoch, Event, Numbered, Position};
use mayfly_domain::{DimKey, LeaseId, ProfileName};
use mayfly_lease::feed::{
    FEED_KEPT, FEED_PAGE_MAX, FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, FollowerSeen,
    Followers, Pinged, USAGE_ITEMS_MAX, UsageCount, day_of,
};
use mayfly_lease::transition::View as _;
use mayfly_lease::{Mark, StoreError, gate};

use super::EmbeddedStore;
use super::layout as at;
use super::ledger::{Ledger, Work};
use super::state::{Readable, State};

fn at_most(limit: u32) -> usize {
    usize::try_from(limit.clamp(1, FEED_PAGE_MAX)).unwrap_or(1)
}

/// What follows the octet of a key's kind.
fn id(key: &[u8]) -> Result<[u8; 16], Malformed> {
    let mut r = Reader::new("key", key.get(1..).unwrap_or_default());
    let id = r.array()?;
    r.finish()?;
    Ok(id)
}

impl Ledger<'_> {
    /// Counts a change and adds its event, which takes the place of the oldest where the log is full.
    pub(super) fn publish(&mut self, event: &Event) -> Result<(), StoreError> {
        let number = self.changes()? + 1;
        self.put(at::CHANGES, &number.to_be_bytes())?;
        self.put(&at::event(number), &event.encode())?;
        match number.checked_sub(FEED_KEPT) {
            Some(oldest) => self.remove(&at::event(oldest)),
            None => Ok(()),
        }
    }

    /// Empties the log: the numbers of a new generation have nothing to do with the old one's.
    pub(super) fn restart_feed(&mut self) -> Result<(), StoreError> {
        let mut old = Vec::new();
        self.walk(&[at::EVENT], &[at::EVENT + 1], |key, _| {
            old.push(key.to_vec());
            Ok(true)
        })?;
        old.iter().try_for_each(|key| self.remove(key))
    }
}

/// Where the feed stands.
pub(super) fn position<T: Readable>(state: &State<T>, server: [u8; 16]) -> Result<Position, StoreError> {
    Ok(Position {
        generation: state.generation()?.generation,
        epoch: Epoch(server),
        number: state.changes()?,
    })
}

/// A part of a snapshot: gates, then marks, in the order of their keys. A place is a key of the file.
pub(super) fn page<T: Readable>(
    state: &State<T>,
    after: Option<&FeedCursor>,
    limit: u32,
) -> Result<FeedPage, StoreError> {
    let (limit, now) = (at_most(limit), state.now);
    let mut page = FeedPage::default();
    let start = after.map_or_else(|| vec![at::GATE], |cursor| cursor.0.clone());
    if start.first() == Some(&at::GATE) {
        state.walk(&start, &[at::GATE + 1], |key, value| {
            let gate = gate::state(DimKey(id(key)?), &gate::decode(value)?.1).standing(now);
            if !gate.is_over(now) {
                page.gates.push(gate);
            }
            Ok(go_on(&mut page, key, limit))
        })?;
    }
    if page.next.is_none() {
        let from = if start.first() == Some(&at::MARK) { start } else { vec![at::MARK] };
        state.walk(&from, &[at::MARK + 1], |key, value| {
            let until = Mark::decode(value)?.until;
            if now < until {
                page.marks.push((LeaseId::from_bytes(id(key)?), until));
            }
            Ok(go_on(&mut page, key, limit))
        })?;
    }
    Ok(page)
}

/// Whether the page takes more; where not, it says where to go on.
fn go_on(page: &mut FeedPage, key: &[u8], limit: usize) -> bool {
    let more = page.gates.len() + page.marks.len() < limit;
    if !more {
        page.next = Some(FeedCursor([key, &[0]].concat()));
    }
    more
}

/// The events after a place, as the file has them now.
fn events<T: Readable>(
    state: &State<T>,
    server: [u8; 16],
    after: &Position,
    limit: u32,
) -> Result<FeedRead, StoreError> {
    let position = position(state, server)?;
    if !position.is_along(after) {
        return Ok(FeedRead::Lost);
    }
    let limit = at_most(limit);
    let mut found: Vec<Numbered> = Vec::new();
    state.walk(&at::event(after.number.saturating_add(1)), &[at::EVENT + 1], |key, value| {
        let number = at::number(key.get(1..).unwrap_or_default())?;
        found.push(Numbered { number, event: Event::decode(value)? });
        Ok(found.len() < limit)
    })?;
    Ok(FeedRead::of(after, position.number, found))
}

/// Stores signs of life.
pub(super) fn ping(
    work: &mut Work<'_, '_>,
    server: [u8; 16],
    pings: &[FollowerPing],
) -> Result<Pinged, StoreError> {
    let (position, now) = (position(work.ledger, server)?, work.now());
    work.write(|ledger| {
        for ping in pings {
            let ping = FollowerPing { applied: ping.applied_at(&position), ..ping.clone() };
            let (key, ends) = (at::key(at::FOLLOWER, &[&ping.id.0]), now.plus(ping.kept_ms()));
            ledger.put(&key, &at::keep(ends, &FollowerSeen { ping, at: now }.encode()?))?;
        }
        Ok(Pinged { position, at: now })
    })
}

/// The followers that have not applied `number`.
pub(super) fn behind<T: Readable>(state: &State<T>, number: u64) -> Result<Followers, StoreError> {
    let mut all = Vec::new();
    state.walk(&[at::FOLLOWER], &[at::FOLLOWER + 1], |key, value| {
        let (ends, seen) = at::kept(value)?;
        if state.now < ends {
            let seen = FollowerSeen::decode(FollowerId(id(key)?), seen)?;
            all.extend(Some(seen).filter(|seen| seen.ping.applied < number));
        }
        Ok(true)
    })?;
    Ok(Followers { all, now: state.now })
}

/// Adds to what was used.
pub(super) fn add_usage(work: &mut Work<'_, '_>, counts: &[UsageCount]) -> Result<(), StoreError> {
    let today = day_of(work.now());
    work.write(|ledger| {
        for count in counts.iter().filter(|count| count.is_kept(today)) {
            let key = at::used(count.profile.as_str(), count.day, &count.field());
            let uses = ledger.get(&key, at::number)?;
            if uses.is_none() {
                let items = at::used_items(count.profile.as_str(), count.day);
                let known = ledger.count(&items)?;
                if known >= u64::try_from(USAGE_ITEMS_MAX).unwrap_or(u64::MAX) {
                    continue;
                }
                ledger.put(&items, &(known + 1).to_be_bytes())?;
            }
            ledger.put(&key, &uses.unwrap_or(0).saturating_add(count.uses).to_be_bytes())?;
        }
        Ok(())
    })
}

/// What was used with a profile.
pub(super) fn usage<T: Readable>(
    state: &State<T>,
    profile: &ProfileName,
) -> Result<Vec<UsageCount>, StoreError> {
    let mut all = Vec::new();
    let from = at::key(at::USAGE, &[profile.as_str().as_bytes(), &[0]]);
    let to = at::key(at::USAGE, &[profile.as_str().as_bytes(), &[1]]);
    state.walk(&from, &to, |key, value| {
        let mut r = Reader::new("use", key.get(from.len()..).unwrap_or_default());
        let day = r.u32()?;
        let count = UsageCount::of_field(profile, day, r.rest(), at::number(value)?)?;
        all.extend(Some(count).filter(|count| count.is_kept(day_of(state.now))));
        Ok(true)
    })?;
    Ok(all)
}

impl EmbeddedStore {
    /// Reads events; waits for the first.
    pub(super) async fn read_feed(
        &self,
        after: &Position,
        limit: u32,
        wait: Duration,
    ) -> Result<FeedRead, StoreError> {
        let mut told = self.writer.told();
        let look = async {
            loop {
                // Marked as seen before looking, so that what is committed meanwhile wakes.
                told.borrow_and_update();
                match self.read(|state| events(state, self.store.identity, after, limit))? {
                    FeedRead::Events(events) if events.is_empty() => told
                        .changed()
                        .await
                        .map_err(|_| StoreError::Unavailable("the store is closing".to_owned()))?,
                    read => return Ok(read),
                }
            }
        };
        tokio::time::timeout(wait, look).await.unwrap_or(Ok(FeedRead::Events(Vec::new())))
    }
}
