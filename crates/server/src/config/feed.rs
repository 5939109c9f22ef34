//! `[feed]`: how the feed is followed and served.

use std::time::Duration;

use mayfly_broker::FeedSettings;
use mayfly_domain::defaults;

use super::kinds::{Wait, wait};
use super::reader::Reader;

/// How many pings fit into a bound at least: one that is lost must cost nobody its freshness.
const PINGS_IN_BOUND: u32 = 3;

/// `[feed]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// The broker's own staleness bound, and that of followers that ask for none.
    pub bound: Duration,
    /// How often the broker and its followers ping.
    pub ping: Duration,
    /// How often a lease of the broker's own is revoked, to measure how soon it is refused; zero: never.
    pub canary: Duration,
}

impl Feed {
    /// The same as a broker with so many connections takes it.
    pub fn broker(&self, connections: u32) -> FeedSettings {
        let ms = |length: Duration| u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
        FeedSettings {
            bound_ms: ms(self.bound),
            ping_ms: ms(self.ping),
            canary_ms: ms(self.canary),
            followers: FeedSettings::followers_of(connections),
        }
    }
}

const fn ms(millis: u32) -> Wait {
    Wait(Duration::from_millis(millis as u64))
}

/// Reads the table.
pub(super) fn feed(r: Reader<'_>) -> Feed {
    let bound = wait(Wait::secs(1)..=ms(defaults::FOLLOW_BOUND_MAX_MS));
    let ping = wait(ms(100)..=ms(defaults::FOLLOW_PING_MS));
    let feed = Feed {
        bound: r.or("bound", bound, ms(defaults::FOLLOW_BOUND_MS)).0,
        ping: r.or("ping", ping, ms(defaults::FOLLOW_PING_MS)).0,
        canary: r.or("canary", wait(Wait::secs(0)..=Wait::secs(3_600)), ms(defaults::CANARY_MS)).0,
    };
    if feed.bound < feed.ping * PINGS_IN_BOUND {
        r.wrong("bound", format!("must hold {PINGS_IN_BOUND} pings, which are {} apart", Wait(feed.ping)));
    }
    r.finish();
    feed
}
