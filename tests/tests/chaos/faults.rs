//! What goes wrong, and how it is put right: by what an operator of the machines would do, never by a restart of what
//! has not died.

use std::sync::Arc;
use std::time::Duration;

use mayfly_testkit::proxy::{Direction, Proxy};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::followers::Follower;
use super::ledger::Ledger;
use super::random::Random;
use super::world::World;

/// How far Redis' clock is stepped where it loses nothing by that: further than brokers tolerate.
const CLOCK_STEP_S: i64 = 120;

/// How far it is stepped so that everything that it keeps for a time is over, and for how long at least: so long it takes
/// Redis to forget all of it.
const CLOCK_FAR_S: i64 = 40 * 86_400;
const FORGETTING: Duration = Duration::from_secs(1);

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    RedisKilled,
    RedisStopped,
    RedisRestarted,
    RedisFlushed,
    RedisOlder,
    RedisClock,
    RedisClockFar,
    BrokerKilled,
    BrokerStopped,
    BrokerCutFromRedis,
    BrokerCutFromAll,
    BrokerCutFromFollowers,
    FollowerCut,
    FollowerStalled,
    FollowerSuspended,
    FollowerSlow,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 17] = [
        Self::Nothing,
        Self::RedisKilled,
        Self::RedisStopped,
        Self::RedisRestarted,
        Self::RedisFlushed,
        Self::RedisOlder,
        Self::RedisClock,
        Self::RedisClockFar,
        Self::BrokerKilled,
        Self::BrokerStopped,
        Self::BrokerCutFromRedis,
        Self::BrokerCutFromAll,
        Self::BrokerCutFromFollowers,
        Self::FollowerCut,
        Self::FollowerStalled,
        Self::FollowerSuspended,
        Self::FollowerSlow,
    ];

    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::RedisKilled => "Redis killed, and started again",
            Self::RedisStopped => "Redis stopped (SIGSTOP)",
            Self::RedisRestarted => "Redis restarted from its AOF at once",
            Self::RedisFlushed => "Redis flushed",
            Self::RedisOlder => "Redis replaced by an older copy",
            Self::RedisClock => "Redis' clock stepped by minutes, and back",
            Self::RedisClockFar => "Redis' clock 40 days ahead, and back",
            Self::BrokerKilled => "broker killed, and started again",
            Self::BrokerStopped => "broker stopped (SIGSTOP)",
            Self::BrokerCutFromRedis => "broker cut off from Redis",
            Self::BrokerCutFromAll => "broker cut off from everybody",
            Self::BrokerCutFromFollowers => "broker cut off from its followers",
            Self::FollowerCut => "follower cut off",
            Self::FollowerStalled => "follower stalled (not reading)",
            Self::FollowerSuspended => "follower suspended (SIGSTOP)",
            Self::FollowerSlow => "follower's lines slow, its connections reordered",
        }
    }

    /// Whether the store has forgotten the leases after it.
    pub(crate) const fn forgets(self) -> bool {
        matches!(self, Self::RedisFlushed | Self::RedisOlder | Self::RedisClockFar)
    }

    /// Plays it for `length`; when this returns it is over. Returns what was played: nothing where it can't be.
    pub(crate) async fn play(
        self,
        world: &World,
        followers: &[Arc<Follower>],
        ledger: &Ledger,
        random: &Random,
        length: Duration,
    ) -> Self {
        let at = random.below(world.brokers.len());
        let broker = &world.brokers[at];
        let follower = &followers[random.below(followers.len())];
        match self {
            Self::Nothing => sleep(length).await,
            Self::RedisKilled => {
                let mut redis = world.redis.lock().await;
                block_in_place(|| redis.kill9());
                sleep(length).await;
                block_in_place(|| redis.restart());
            }
            Self::RedisStopped => {
                let redis = world.redis.lock().await;
                redis.freeze();
                sleep(length).await;
                redis.thaw();
            }
            Self::RedisRestarted => block_in_place(|| world.redis.blocking_lock().restart()),
            Self::RedisFlushed => block_in_place(|| world.redis.blocking_lock().flushall()),
            Self::RedisOlder => {
                let mut redis = world.redis.lock().await;
                let copy = block_in_place(|| redis.copy());
                // What is revoked meanwhile is not in the copy: three of them, since two may have been under way.
                ledger.more(3).await;
                sleep(length).await;
                block_in_place(|| redis.replace_by(&copy));
            }
            Self::RedisClock => {
                let seconds = if random.percent(50) { CLOCK_STEP_S } else { -CLOCK_STEP_S };
                if !step(world, seconds, length).await {
                    return Self::Nothing;
                }
            }
            Self::RedisClockFar => {
                if !step(world, CLOCK_FAR_S, length.max(FORGETTING)).await {
                    return Self::Nothing;
                }
            }
            Self::BrokerKilled => {
                block_in_place(|| world.brokers[at].server.blocking_lock().process.kill9());
                sleep(length).await;
                world.spawn_again(at).await;
            }
            Self::BrokerStopped => {
                broker.server.lock().await.process.freeze();
                sleep(length).await;
                broker.server.lock().await.process.thaw();
            }
            Self::BrokerCutFromRedis => cut(&[&broker.store], random, length).await,
            Self::BrokerCutFromAll => cut(&[&broker.front], random, length).await,
            Self::BrokerCutFromFollowers => {
                let to_it = |f: &'_ Arc<Follower>| f.brokers.iter().position(|broker| *broker == at);
                let ways: Vec<_> = followers.iter().filter_map(|f| Some(&f.ways[to_it(f)?])).collect();
                cut(&ways, random, length).await;
            }
            Self::FollowerCut => cut(&follower.ways.iter().collect::<Vec<_>>(), random, length).await,
            Self::FollowerStalled => {
                for way in &follower.ways {
                    way.pause(Direction::ToClient);
                }
                sleep(length).await;
                for way in &follower.ways {
                    way.mend().await;
                }
            }
            Self::FollowerSuspended => {
                for process in followers.iter().filter_map(|f| f.process()) {
                    process.freeze();
                }
                sleep(length).await;
                for process in followers.iter().filter_map(|f| f.process()) {
                    process.thaw();
                }
            }
            Self::FollowerSlow => {
                for way in &follower.ways {
                    way.cut();
                    way.mend().await;
                    way.hold();
                    way.delay(random.millis(5, 400));
                }
                sleep(length / 2).await;
                for way in &follower.ways {
                    way.release_reversed().await;
                }
                sleep(length / 2).await;
                for way in &follower.ways {
                    way.mend().await;
                }
            }
        }
        self
    }
}

/// Steps Redis' clock and back. False where it has none of its own.
async fn step(world: &World, seconds: i64, length: Duration) -> bool {
    let redis = world.redis.lock().await;
    let stepped = redis.step_clock(seconds);
    if stepped {
        sleep(length).await;
        redis.step_clock(0);
    } else {
        println!("chaos: libfaketime is not installed, no clock was stepped");
    }
    stepped
}

/// Cuts these ways, by an end or by silence.
async fn cut(ways: &[&Proxy], random: &Random, length: Duration) {
    let silent = random.percent(50);
    for way in ways {
        if silent { way.half_open() } else { way.cut() }
    }
    sleep(length).await;
    for way in ways {
        way.mend().await;
    }
}
