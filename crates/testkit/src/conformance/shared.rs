//! What brokers share besides leases.

use std::collections::BTreeSet;

use mayfly_domain::{CredentialKind, Dimension, LeaseState};
use mayfly_lease::CheckCommand;

use super::World;
use crate::words;

/// Only where the stored version is the expected one; each is a change.
pub async fn keys_are_replaced_by_version(w: World) {
    assert_eq!(w.store.keys().await.unwrap(), None);
    assert!(!w.store.put_keys(1, 2, b"x").await.unwrap());
    assert!(w.store.put_keys(0, 1, b"first").await.unwrap());
    assert!(!w.store.put_keys(0, 1, b"late").await.unwrap());
    assert!(w.store.put_keys(1, 2, b"second").await.unwrap());
    assert!(!w.store.put_keys(1, 2, b"late").await.unwrap());
    assert_eq!(w.store.keys().await.unwrap(), Some((2, b"second".to_vec())));
    let survey = w.store.survey().await.unwrap();
    assert_eq!((survey.keys_version, survey.changes), (Some(2), 2));
}

/// Until their time is up; a new heartbeat replaces the old.
pub async fn brokers_are_seen_while_they_live(w: World) {
    w.store.heartbeat("a", 1, 5_000).await.unwrap();
    w.store.heartbeat("b", 1, 2_000).await.unwrap();
    w.store.heartbeat("a", 2, 5_000).await.unwrap();
    let seen = w.store.brokers().await.unwrap();
    let ids: BTreeSet<_> = seen.iter().map(|b| (b.id.as_str(), b.keys_version)).collect();
    assert_eq!(ids, BTreeSet::from([("a", 2), ("b", 1)]));
    w.clock.advance(2_000);
    let seen = w.store.brokers().await.unwrap();
    assert_eq!(seen.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["a"]);
}

/// Minted at one, checked, listed and revoked at the other.
pub async fn two_brokers_see_one_store(mut w: World) {
    let other = w.another().await;
    let record = w.minted(&w.wish()).await;
    assert_eq!(other.identity(), w.store.identity());
    let check = CheckCommand { id: record.id, observation: None };
    assert_eq!(other.check(&check).await.unwrap().record, record);
    let page = other.list(&mayfly_lease::ListQuery { along: None, after: None, limit: 10 }).await.unwrap();
    assert_eq!(page.records, std::slice::from_ref(&record));
    other
        .revoke(&words::revoke_subject(w.number(), words::subject(Dimension::Owner, 1), None))
        .await
        .unwrap();
    assert!(w.check(record.id).await.is_err());
}

/// Live leases, open jobs, pending undos.
pub async fn counts_count(w: World) {
    let account = w.confirmed(&w.wish().kind(CredentialKind::Account)).await;
    w.minted(&w.other(2)).await;
    w.revoke(Dimension::Owner, 1).await;
    let counts = w.store.counts().await.unwrap();
    assert_eq!((counts.live_leases, counts.open_jobs, counts.undo_pending), (2, 1, 1));
    w.sweep().await;
    w.store.undone(&account).await.unwrap();
    let counts = w.store.counts().await.unwrap();
    assert_eq!((counts.live_leases, counts.open_jobs, counts.undo_pending), (2, 0, 0));
    assert!(matches!(w.state(account.id).await, Some(LeaseState::Ended(_))));
}
