//! A verifier that is shut down: it accepts nothing before it says so, and nothing after.

use std::pin::pin;

use futures::FutureExt as _;
use mayfly_domain::Reason;

use super::broker::{Site, at, soon};
use super::tokens::{Key, claims, request, why};
use crate::guards::Ended;

#[tokio::test]
async fn it_accepts_nothing_from_before_its_good_bye_on() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    let judged = verifier.check_token(&token, &request()).unwrap();
    let guard = verifier.guard(&judged);
    guard.check().unwrap();

    let other = verifier.clone();
    let mut leaving = pin!(other.shutdown());
    assert!(leaving.as_mut().now_or_never().is_none());
    session.said_bye().await;
    assert!(!verifier.is_fresh());
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
    assert_eq!(soon(guard.ended()).await, Ended { reason: Reason::AcceptorNotFresh });
    assert_eq!(verifier.guard(&judged).check().unwrap_err().reason, Reason::AcceptorNotFresh);
    // Whatever still comes makes nothing fresh again.
    session.snapshot(at(30), &[]).await;
    session.pong(u64::MAX, at(30)).await;
    assert!(leaving.as_mut().now_or_never().is_none(), "the broker has not heard it yet");
    drop(session);
    soon(leaving).await;
    soon(verifier.shutdown()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
}

#[tokio::test]
async fn a_broker_that_does_not_hear_it_is_not_waited_for() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    tokio::time::pause();
    verifier.shutdown().await;
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
    tokio::time::resume();
    session.said_bye().await;

    // Nor is one that is not there.
    let (verifier, session) = site.fresh(&[&key.public]).await;
    drop(session);
    let gone = site.session().await;
    drop((gone, site));
    soon(verifier.shutdown()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
}
