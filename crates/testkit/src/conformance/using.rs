//! Counts of what was used.

use mayfly_domain::{Intent, ProfileName, Scope, SpiffeId};
use mayfly_lease::feed::{USAGE_DAYS, UsageCount, UsedItem, day_of};

use super::World;
use crate::words;

fn profile(n: u8) -> ProfileName {
    ProfileName::parse(&format!("p{n}")).unwrap()
}

fn count(day: u32, of: u8, item: UsedItem, uses: u64) -> UsageCount {
    UsageCount { day, profile: profile(of), workload: words::workload(1), item, uses }
}

fn scope(name: &str) -> UsedItem {
    UsedItem::Scope(Scope::parse(name).unwrap())
}

fn sorted(mut counts: Vec<UsageCount>) -> Vec<UsageCount> {
    counts.sort_by_key(|count| (count.day, count.workload.to_string(), count.item.clone()));
    counts
}

/// By profile, day, workload and thing.
pub async fn uses_add_up(w: World) {
    let today = day_of(w.now());
    let read = scope("orders:read");
    let deploy = UsedItem::Intent(Intent::parse("deploy:payments").unwrap());
    let other = UsageCount {
        workload: SpiffeId::parse("spiffe://acme.test/ci/other").unwrap(),
        ..count(today, 1, read.clone(), 1)
    };
    let all = [
        count(today, 1, read.clone(), 2),
        count(today, 1, deploy.clone(), 1),
        count(today - 1, 1, read.clone(), 5),
        count(today, 2, read.clone(), 7),
        other.clone(),
    ];
    w.store.add_usage(&all).await.unwrap();
    w.store.add_usage(&all[..1]).await.unwrap();
    w.store.add_usage(&[]).await.unwrap();
    let expected = vec![
        count(today - 1, 1, read.clone(), 5),
        count(today, 1, read.clone(), 4),
        count(today, 1, deploy, 1),
        other,
    ];
    assert_eq!(sorted(w.store.usage(&profile(1)).await.unwrap()), sorted(expected));
    assert_eq!(w.store.usage(&profile(2)).await.unwrap(), [count(today, 2, read, 7)]);
    assert_eq!(w.store.usage(&profile(3)).await.unwrap(), []);
}

/// After their days; what is older, or of a day to come, is not taken.
pub async fn uses_are_forgotten(w: World) {
    let today = day_of(w.now());
    let read = || scope("orders:read");
    let days = [today, today + 1, today + 2, today - USAGE_DAYS + 1, today - USAGE_DAYS, 0, u32::MAX];
    let all: Vec<_> = days.iter().map(|day| count(*day, 1, read(), 1)).collect();
    w.store.add_usage(&all).await.unwrap();
    let mut known: Vec<_> = w.store.usage(&profile(1)).await.unwrap().iter().map(|count| count.day).collect();
    known.sort_unstable();
    assert_eq!(known, [today - USAGE_DAYS + 1, today, today + 1]);
    w.clock.advance(86_400_000 * u64::from(USAGE_DAYS));
    let left = w.store.usage(&profile(1)).await.unwrap();
    assert_eq!(left.iter().map(|count| count.day).collect::<Vec<_>>(), [today + 1]);
}

/// A flood of names makes no more than so many.
pub async fn what_is_counted_is_bounded(w: World) {
    let today = day_of(w.now());
    let flood: Vec<_> = (0..10_050).map(|n| count(today, 1, scope(&format!("s{n}")), 1)).collect();
    w.store.add_usage(&flood).await.unwrap();
    w.store.add_usage(&flood[..1]).await.unwrap();
    let counts = w.store.usage(&profile(1)).await.unwrap();
    assert_eq!(counts.len(), 10_000);
    let known = counts.iter().find(|count| count.uses == 2).unwrap();
    assert_eq!(known.item, scope("s0"), "what is known is counted on");
}
