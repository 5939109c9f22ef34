//! Clocks: nothing is accepted past the bound, whatever the network does; wall time may jump.

use std::time::Duration;

use mayfly_domain::Reason;

use super::NOW;
use super::broker::{BOUND_MS, Site, at, fence, soon, until};
use super::tokens::{Key, claims, owner, why, with};

#[tokio::test]
async fn nothing_is_accepted_before_the_first_answer() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let verifier = site.builder().start().unwrap();
    let mut session = site.session().await;
    let refuses = || why(&verifier, &token) == Some(Reason::AcceptorNotFresh);
    assert!(refuses());
    session.accept().await;
    session.keys(1, &[&key.public], &[]).await;
    session.snapshot(at(7), &[]).await;
    let ping = session.ping().await.unwrap();
    assert!(refuses() && !*verifier.fresh().borrow());
    session.pong(ping.id + 1, at(7)).await;
    session.pong(ping.id, at(7)).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), None);
}

/// The bound runs from when the ping was sent, by the clock that runs during suspend; not from its answer.
#[tokio::test]
async fn nothing_is_accepted_after_the_bound_since_the_last_ping_that_was_answered() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    // This one is sent now and answered late.
    let ping = session.ping().await.unwrap();
    site.hands.boot_passes(BOUND_MS - 1_000);
    session.pong(ping.id, at(7)).await;
    let later = session.ping().await.unwrap();
    assert_eq!(why(&verifier, &token), None);
    site.hands.boot_passes(999);
    assert_eq!(why(&verifier, &token), None);
    site.hands.boot_passes(1);
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh), "to the millisecond");
    let mut fresh = verifier.fresh();
    soon(fresh.wait_for(|fresh| !*fresh)).await.unwrap();
    // The next one was sent a second before the end; its answer counts from there.
    session.pong(later.id, at(7)).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), None);
    site.hands.boot_passes(BOUND_MS - 1_000);
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
}

/// As after SIGSTOP or a suspend: the first thing after waking is a request, and the answers of before are still to be
/// read.
#[tokio::test]
async fn a_suspended_follower_does_not_accept_on_waking() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    let judged = verifier.check_token(&token, &super::tokens::request()).unwrap();
    let guard = verifier.guard(&judged);
    guard.check().unwrap();
    let ping = session.ping().await.unwrap();
    site.hands.boot_passes(3_600_000);
    session.pong(ping.id, at(7)).await;
    session.events(at(8), &[fence(owner().key(), 5)]).await;
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
    assert_eq!(guard.check().unwrap_err().reason, Reason::AcceptorNotFresh);
    session.pinged(at(8)).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::LeaseRevoked));
}

#[tokio::test]
async fn wall_time_alone_decides_expiry() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, _session) = site.fresh(&[&key.public]).await;
    assert_eq!(why(&verifier, &token), None);
    let end = super::UnixMillis::from_secs(NOW.secs() + 300);
    for (wall, reason) in [
        (end.minus(1), None),
        (end, Some(Reason::LeaseExpired)),
        (end.plus(1 << 40), Some(Reason::LeaseExpired)),
        (NOW, None),
        (NOW.minus(86_400_000), None),
    ] {
        site.hands.set_wall(wall);
        assert_eq!(why(&verifier, &token), reason, "{wall:?}");
    }
    assert!(verifier.is_fresh());
}

/// The clock jumps a day ahead, what is over is forgotten, and the clock jumps back: what was revoked stays refused, and
/// a new snapshot brings back what was forgotten.
#[tokio::test]
async fn a_wall_clock_that_jumps_ahead_and_back_revives_nothing() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    session.events(at(8), &[fence(owner().key(), 5)]).await;
    session.pinged(at(8)).await;
    assert_eq!(why(&verifier, &token), Some(Reason::LeaseRevoked));
    site.hands.set_wall(NOW.plus(2 * 86_400_000));
    verifier.shared().state.load().table.clean(NOW.plus(2 * 86_400_000));
    assert_eq!(verifier.revocations(), 0);
    site.hands.set_wall(NOW);
    let refused = why(&verifier, &token);
    assert!(matches!(refused, Some(Reason::LeaseExpired | Reason::AcceptorNotFresh)), "{refused:?}");
    let mut next = site.session().await;
    assert_eq!(next.start.resume, None);
    next.begin(&[&key.public], at(8), &[fence(owner().key(), 5)]).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::LeaseRevoked));
    until(|| verifier.revocations() == 1).await;
}

#[tokio::test]
async fn the_bound_is_what_the_broker_allows() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, session) = site.fresh_with(|b| b.bound(Duration::from_secs(3_600)), &[&key.public]).await;
    assert_eq!(session.start.bound_ms, 10_000, "an hour is not even asked for");
    site.hands.boot_passes(BOUND_MS - 1);
    assert_eq!(why(&verifier, &token), None);
    site.hands.boot_passes(1);
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
}

#[tokio::test]
async fn a_wall_clock_that_is_behind_revives_nothing_that_a_snapshot_lacks() {
    let (mut site, key) = (Site::new().await, Key::new());
    let token = key.token(&claims().to_string());
    // It was revoked and is over for minutes, so that the broker has forgotten it; by this machine's clock it lives.
    let verifier = site.builder().start().unwrap();
    let mut session = site.session().await;
    session.over = NOW.plus(600_000);
    session.begin(&[&key.public], at(7), &[]).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::LeaseExpired));
    // What lives by every clock is accepted, and it goes on following.
    let lives = key.token(&with("exp", (NOW.secs() + 900).into()));
    assert_eq!(why(&verifier, &lives), None);
    session.pinged(at(7)).await;
    assert!(verifier.is_fresh());
}
