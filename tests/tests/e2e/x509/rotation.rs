//! Keys and authorities that are rotated while everybody works: nobody is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mayfly_proto::v1 as pb;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use super::withdrawals::Pair;
use crate::harness::{Service, load_spec};

/// Calls each worker makes at least, before, between and after the rotations.
const ROUND: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_keys_and_authorities_refuses_nobody() {
    let redis = RedisServer::start(RedisOptions::default());
    let p = Pair::new(&redis).await;
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let tokens = async {
        let mut n = 0;
        let jobs =
            [p.one.job(&p.site, &load_spec("2", "2")).await, p.two.job(&p.site, &load_spec("3", "3")).await];
        while !done.load(Ordering::Relaxed) {
            let job = &jobs[n % 2];
            let token = job.mint("load", "use:load").await.expect("a mint").credential;
            assert_eq!(p.load.token(&token, job.proof(&token)).await, Ok(()), "token {n}");
            n += 1;
            calls.fetch_add(1, Ordering::Relaxed);
        }
        n
    };
    let certificates = async {
        let mut n = 0;
        let mut answer = p.job.mint("mesh", "use:mesh").await.unwrap();
        while !done.load(Ordering::Relaxed) {
            // A new connection each time, by turns: handshakes must know old and new authorities alike.
            let node = if n % 2 == 0 { &p.one } else { &p.two };
            let service = Service::connect(&p.site, node, &answer, &p.job.key).await;
            answer = service.renew(&p.job.key).await.expect("a renewal");
            assert_eq!(p.accepts(&answer.certificates[0]).await, Ok(()), "certificate {n}");
            n += 1;
            calls.fetch_add(1, Ordering::Relaxed);
        }
        n
    };
    let rotations = async {
        let more = async || {
            let from = calls.load(Ordering::Relaxed);
            crate::harness::until(async || (calls.load(Ordering::Relaxed) >= from + ROUND).then_some(()))
                .await;
        };
        more().await;
        for _ in 0..2 {
            p.alice.client.rotate_key(pb::RotateKeyRequest::default()).await.unwrap();
            more().await;
            for role in [pb::AuthorityRole::Workload, pb::AuthorityRole::System] {
                let rotate = pb::RotateAuthorityRequest { role: role.into(), ..Default::default() };
                p.alice.client.rotate_authority(rotate).await.unwrap();
                more().await;
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let (tokens, certificates, ()) = tokio::join!(tokens, certificates, rotations);
    assert!(tokens > ROUND && certificates > ROUND, "{tokens} {certificates}");
    let all = p.alice.client.list_authorities(pb::ListAuthoritiesRequest {}).await.unwrap().authorities;
    assert_eq!(all.iter().filter(|a| a.state == "active").count(), 2);
    assert!(all.len() >= 4, "what was replaced is kept while leases of it live: {all:?}");
    p.stop().await;
}
