//! Checks and ends.

use mayfly_domain::{CredentialKind, Dimension, EndReason, LeaseState, Subject};
use mayfly_lease::CheckCommand;
use mayfly_lease::transition::No;

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// Each reason not to accept, and that time alone is one.
pub async fn a_check_says_why_not(w: World) {
    assert_eq!(w.check(words::lease(9_999)).await, Err(No::NotFound));
    let wish = Wish { ttl_s: 10, ..w.wish() };
    let record = w.minted(&wish).await;
    w.clock.advance(9_999);
    assert!(w.check(record.id).await.is_ok());
    w.clock.advance(1);
    assert_eq!(w.check(record.id).await, Err(No::Expired), "at the hard expiry, not after it");

    let wish = w.other(2);
    let record = w.minted(&wish).await;
    w.store.end(&wish.release()).await.unwrap();
    assert_eq!(w.check(record.id).await, Err(No::Ended(EndReason::Released, None)));

    let record = w.minted(&w.other(3)).await;
    w.revoke(Dimension::Workload, 3).await;
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));

    let record = w.minted(&w.other(4)).await;
    let job = w.revoke_lease(record.id).await.job.unwrap();
    assert_eq!(w.check(record.id).await, Err(No::Marked(job.id)));

    let record = w.minted(&w.other(5).kind(CredentialKind::Account)).await;
    assert_eq!(w.check(record.id).await, Err(No::NotActive));
}

/// A credential that carries another observation is not the lease's.
pub async fn a_carried_observation_must_be_the_records(w: World) {
    let record = w.minted(&w.wish()).await;
    let other = w.minted(&w.other(2)).await;
    let check = |observation| CheckCommand { id: record.id, observation: Some(observation) };
    assert!(w.store.check(&check(record.observation.clone())).await.is_ok());
    let no = refusal(w.store.check(&check(other.observation)).await);
    assert_eq!(no, Err(No::OtherObservation));
}

/// Workload, task and key must be the lease's.
pub async fn a_holder_ends_only_its_own_lease(w: World) {
    let wish = w.wish();
    let record = w.minted(&wish).await;
    for n in 0..3 {
        let mut release = wish.release();
        let holder = release.holder.as_mut().unwrap();
        match n {
            0 => holder.0 = Subject::Workload(words::workload(2)),
            1 => holder.1 = words::task(2),
            _ => holder.2 = words::key(2),
        }
        assert_eq!(refusal(w.store.end(&release).await), Err(No::OfAnother));
    }
    assert!(w.check(record.id).await.is_ok());
    let mut unknown = wish.release();
    unknown.id = words::lease(9_999);
    assert_eq!(refusal(w.store.end(&unknown).await), Err(No::NotFound));
}

/// A lease that is over stays as it is.
pub async fn ending_twice_is_said(w: World) {
    let wish = w.wish();
    w.minted(&wish).await;
    let (record, ended) = w.store.end(&wish.release()).await.unwrap();
    assert_eq!((record.state, ended), (LeaseState::Ended(EndReason::Released), true));
    let mut again = wish.release();
    again.reason = EndReason::Revoked;
    let (record, ended) = w.store.end(&again).await.unwrap();
    assert_eq!((record.state, ended), (LeaseState::Ended(EndReason::Released), false));

    let wish = Wish { ttl_s: 1, ..w.other(2) };
    w.minted(&wish).await;
    w.clock.advance(1_000);
    let (record, ended) = w.store.end(&wish.release()).await.unwrap();
    assert_eq!((record.state, ended), (LeaseState::Active, false), "expired before");
}
