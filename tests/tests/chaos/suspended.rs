//! A follower that is suspended across a barrier: what was sent to it meanwhile lies in its sockets when it wakes.

use mayfly_domain::Reason;
use mayfly_proto::v1 as pb;
use tokio::io::AsyncWriteExt as _;

use super::followers::{Follower, answer, question};
use super::ledger::Credential;
use super::load::{Worker, barrier};
use super::random::Random;
use super::world::World;
use crate::harness::until;

const LINES: usize = 4;
const QUESTIONS: usize = 100;
const BOUND_MS: u64 = 1_500;

/// Mints what can be shown again and again without a proof: tokens of the profile that binds none.
async fn mint(world: &World, worker: &Worker) -> Credential {
    worker.mint(world, 0, 2).await.unwrap().0
}

async fn accepts(follower: &Follower, credential: &Credential) {
    let mut line = follower.line().await;
    until(async || follower.ask(&mut line, credential).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_suspended_across_a_barrier_accepts_nothing_that_it_ended_on_waking() {
    let world = World::start(&["one"]).await;
    let follower = Follower::start(&world, "process", &[0], BOUND_MS, None).await;
    let worker = Worker::new(&world, 1);
    let (live, revoked) = (mint(&world, &worker).await, mint(&world, &worker).await);
    for credential in [&live, &revoked] {
        accepts(&follower, credential).await;
    }
    let mut lines = Vec::new();
    for _ in 0..LINES {
        lines.push(follower.line().await.unwrap());
    }

    follower.process().unwrap().freeze();
    let what = Some(pb::revoke_request::What::Lease(revoked.lease.id.clone()));
    let revoke = pb::RevokeRequest { what, reason: "test".to_owned(), ..Default::default() };
    let told = world.operator(0).revoke(revoke).await.unwrap();
    assert!(barrier(&world, 0, &told).await, "a silent follower's bound passes");
    let random = Random::new(1);
    let mut asked: Vec<Vec<bool>> = Vec::new();
    for line in &mut lines {
        let order: Vec<bool> = (0..QUESTIONS).map(|_| random.percent(50)).collect();
        for about_revoked in &order {
            let about = if *about_revoked { &revoked } else { &live };
            line.write_all(&question(about)).await.unwrap();
        }
        asked.push(order);
    }
    follower.process().unwrap().thaw();

    let mut not_fresh = 0;
    for (line, order) in lines.iter_mut().zip(asked) {
        for about_revoked in order {
            let told_now = answer(line).await.unwrap();
            match told_now.refused.as_deref() {
                None => {
                    assert!(!about_revoked, "what was revoked before it woke was accepted: {told_now:?}");
                    assert!(told_now.number >= told.number, "it accepted before it knew: {told_now:?}");
                }
                Some(why) if why == Reason::AcceptorNotFresh.as_str() => not_fresh += 1,
                Some(why) => {
                    assert!(about_revoked, "{why}");
                    assert!(told_now.number >= told.number, "{told_now:?}");
                }
            }
        }
    }
    assert!(not_fresh > 0, "it slept for longer than its bound, and says so");
    accepts(&follower, &live).await;
    let again = follower.ask(&mut follower.line().await, &revoked).await;
    assert_ne!(again, Ok(()));
}
