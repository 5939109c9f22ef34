//! How much one broker takes on: rates by address and by identity, and work in flight by lane.
//!
//! Memory is bounded whatever callers do: a rate is kept for one of a fixed number of buckets, and an address
//! or identity falls into one by a keyed hash that nobody outside can compute.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use mayfly_domain::{Reason, Refusal, SpiffeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Limits, Rate};
use crate::lanes::Lane;

/// The buckets of each rate.
const BUCKETS: u64 = 1 << 16;
/// How long a caller waits that was shed.
const SHED_WAIT: Duration = Duration::from_millis(250);

/// Who calls, as far as rates are concerned.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// Somebody without a client certificate.
    Address(IpAddr),
    /// An operator, acceptor or broker, by a verified certificate.
    Identity(&'a SpiffeId),
}

/// Admits calls.
#[derive(Debug)]
pub struct Limiter {
    hasher: RandomState,
    addresses: Buckets,
    /// Completions and releases have a rate of their own: a flood of mints from an address must not keep its
    /// jobs from ending.
    endings: Buckets,
    identities: Buckets,
    mints: Arc<Semaphore>,
    checks: Arc<Semaphore>,
}

/// The right to work on one call; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _place: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// Limits as configured.
    pub fn new(limits: &Limits) -> Self {
        let places = |n: u32| Arc::new(Semaphore::new(usize::try_from(n).unwrap_or(Semaphore::MAX_PERMITS)));
        Self {
            hasher: RandomState::new(),
            addresses: Buckets::new(limits.address),
            endings: Buckets::new(limits.address),
            identities: Buckets::new(limits.identity),
            mints: places(limits.mints_in_flight),
            checks: places(limits.checks_in_flight),
        }
    }

    /// Admits a call by its rate, and gives it its place.
    ///
    /// # Errors
    /// As [`Self::rate`] and [`Self::place`].
    pub fn admit(&self, lane: Lane, caller: Caller<'_>) -> Result<Permit, Refusal> {
        self.rate(lane, caller)?;
        self.place(lane)
    }

    /// Counts a call or refuses it with the time to wait. It costs nothing to ask, so it comes before any of
    /// the request is read.
    ///
    /// An authenticated call that ends something is always admitted.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn rate(&self, lane: Lane, caller: Caller<'_>) -> Result<(), Refusal> {
        match (lane, caller) {
            (Lane::End, Caller::Identity(_)) => Ok(()),
            (Lane::End, Caller::Address(address)) => {
                self.endings.take(self.hasher.hash_one(network(address)))
            }
            (_, Caller::Address(address)) => self.addresses.take(self.hasher.hash_one(network(address))),
            (_, Caller::Identity(id)) => self.identities.take(self.hasher.hash_one(id)),
        }
    }

    /// Gives a call its place in its lane. A place is for work, never for waiting on the caller: it is taken
    /// when the whole request is there.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub fn place(&self, lane: Lane) -> Result<Permit, Refusal> {
        let places = match lane {
            Lane::End => return Ok(Permit { _place: None }),
            Lane::Check => &self.checks,
            Lane::Mint => &self.mints,
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => Ok(Permit { _place: Some(place) }),
            Err(_) => Err(Refusal::new(Reason::Overloaded, format!("lane `{}` is full", lane.as_str()))
                .after(SHED_WAIT)),
        }
    }
}

#[derive(Debug)]
struct Buckets {
    rates: DefaultKeyedRateLimiter<u16>,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(rate.per_second)).allow_burst(at_least_one(rate.burst));
        Self { rates: DefaultKeyedRateLimiter::dashmap(quota) }
    }

    fn take(&self, hash: u64) -> Result<(), Refusal> {
        let bucket = u16::try_from(hash % BUCKETS).unwrap_or(u16::MAX);
        self.rates.check_key(&bucket).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Refusal::new(Reason::RateLimited, "").after(wait)
        })
    }
}

/// An IPv6 caller has a whole /64, and counts as one address with all of it.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: u32, burst: u32, places: u32) -> Limiter {
        let rate = Rate { per_second, burst };
        Limiter::new(&Limits {
            connections: 1,
            connections_per_address: 1,
            streams_per_connection: 1,
            address: rate,
            identity: rate,
            mints_in_flight: places,
            checks_in_flight: places,
        })
    }

    fn at(address: &str) -> Caller<'static> {
        Caller::Address(address.parse().unwrap())
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_wait_is_told() {
        let limiter = limiter(1, 3, 100);
        for _ in 0..3 {
            limiter.admit(Lane::Mint, at("192.0.2.1")).unwrap();
        }
        let refusal = limiter.admit(Lane::Mint, at("192.0.2.1")).unwrap_err();
        assert_eq!(refusal.reason, Reason::RateLimited);
        let wait = refusal.retry_after.unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(limiter.admit(Lane::Check, at("192.0.2.1")).unwrap_err().reason, Reason::RateLimited);
        limiter.admit(Lane::End, at("192.0.2.1")).unwrap();
    }

    #[test]
    fn one_ipv6_network_is_one_caller() {
        let limiter = limiter(1, 1, 100);
        limiter.admit(Lane::Check, at("2001:db8::1")).unwrap();
        assert!(limiter.admit(Lane::Check, at("2001:db8::ffff:1")).is_err());
        limiter.admit(Lane::Check, at("192.0.2.9")).unwrap();
        assert!(limiter.admit(Lane::Check, at("::ffff:192.0.2.9")).is_err());
    }

    #[test]
    fn an_operators_revocation_is_never_refused() {
        let limiter = limiter(1, 1, 1);
        let id = SpiffeId::parse("spiffe://a.b/mayfly/operator/alice").unwrap();
        let _held = (
            limiter.admit(Lane::Check, Caller::Identity(&id)).unwrap(),
            limiter.admit(Lane::Mint, at("192.0.2.1")).unwrap(),
        );
        assert_eq!(
            limiter.admit(Lane::Check, Caller::Identity(&id)).unwrap_err().reason,
            Reason::RateLimited
        );
        for _ in 0..1_000 {
            limiter.admit(Lane::End, Caller::Identity(&id)).unwrap();
        }
    }

    #[test]
    fn a_full_lane_sheds_and_the_others_go_on() {
        let limiter = limiter(1_000, 1_000, 2);
        let held: Vec<Permit> = (0..2).map(|_| limiter.admit(Lane::Mint, at("192.0.2.1")).unwrap()).collect();
        let refusal = limiter.admit(Lane::Mint, at("192.0.2.2")).unwrap_err();
        assert_eq!((refusal.reason, refusal.retry_after), (Reason::Overloaded, Some(SHED_WAIT)));
        limiter.admit(Lane::Check, at("192.0.2.1")).unwrap();
        limiter.admit(Lane::End, at("192.0.2.1")).unwrap();
        drop(held);
        limiter.admit(Lane::Mint, at("192.0.2.2")).unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = limiter(1_000, 1_000, 2);
        for n in 0..200_000_u32 {
            let _ = limiter.admit(Lane::End, Caller::Address(IpAddr::V4(n.into())));
        }
        assert!(limiter.endings.rates.len() <= usize::try_from(BUCKETS).unwrap());
    }
}
