//! Mints and revocations at the same time, over the whole chain.
//!
//! What is counted: nothing that was handed out for evidence of before an acknowledged revocation passes a check
//! after it; nothing was handed out without a lease. `MAYFLY_TEST_MINTS` says how many mints.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_client::channel;
use mayfly_proto::v1 as pb;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use tokio::sync::{Mutex, RwLock, watch};

use crate::harness::{Acceptor, Job, Operator, Site, load_spec, owner, until};

const OWNERS: usize = 50;
const MINTERS: usize = 32;
const CONNECTIONS: usize = 4;

/// An owner's one job, and the evidence of its present round, which was shown before the round began.
struct Owner {
    name: String,
    job: Job,
    round: RwLock<(u32, String)>,
}

/// A lease that was handed out, with its owner and round.
type HandedOut = Mutex<HashMap<(usize, u32), Vec<String>>>;

struct Race {
    owners: Vec<Owner>,
    handed_out: HandedOut,
    started: AtomicUsize,
    progress: watch::Sender<usize>,
    revoked: watch::Sender<usize>,
    refused: AtomicUsize,
    mints: usize,
}

impl Race {
    async fn mint(&self, n: usize) {
        let at = n % OWNERS;
        let owner = &self.owners[at];
        let (round, evidence) = owner.round.read().await.clone();
        match owner.job.mint_with(&evidence, "load", "use:load", 0).await {
            Ok(minted) => self.handed_out.lock().await.entry((at, round)).or_default().push(minted.lease),
            Err(no) => {
                let raced = ["EVIDENCE_PREDATES_REVOCATION", "RACE_LOST"];
                assert!(raced.contains(&no.code.as_ref()), "{no:?}");
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Revokes an owner. From the acknowledgement on everything of its round is dead.
    async fn revoke(&self, at: usize, alice: &Operator, acceptor: &Acceptor) {
        let one = &self.owners[at];
        let round = one.round.read().await.0;
        alice.revoke(owner(&one.name), false).await.unwrap();
        let dead = self.handed_out.lock().await.get(&(at, round)).cloned().unwrap_or_default();
        // All are asked about in the end; the last ones also at once.
        for lease in dead.iter().rev().take(3) {
            assert!(acceptor.lease(lease).await.is_err(), "{lease} outlived an acknowledged revocation");
        }
        let evidence = one.job.evidence();
        let minted = one.job.mint_with(&evidence, "load", "use:load", 0).await.unwrap();
        self.handed_out.lock().await.entry((at, round + 1)).or_default().push(minted.lease);
        *one.round.write().await = (round + 1, evidence);
        self.revoked.send_modify(|n| *n += 1);
    }
}

async fn run(site: Site) {
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let acceptor = node.acceptor("load-api").await;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(channel::connect(&node.target(None)).await.unwrap());
    }
    let mints = std::env::var("MAYFLY_TEST_MINTS").map_or(1_500, |n| n.parse().unwrap());
    let mut owners = Vec::new();
    let handed_out = HandedOut::default();
    for n in 0..OWNERS {
        let job =
            Job::over(&site, channels[n % CONNECTIONS].clone(), &load_spec(&n.to_string(), &n.to_string()));
        let evidence = job.evidence();
        let first = job.mint_with(&evidence, "load", "use:load", 0).await.unwrap();
        handed_out.lock().await.insert((n, 0), vec![first.lease]);
        owners.push(Owner { name: format!("user:gh-{n}"), job, round: RwLock::new((0, evidence)) });
    }
    let race = Arc::new(Race {
        owners,
        handed_out,
        started: AtomicUsize::new(0),
        progress: watch::Sender::new(0),
        revoked: watch::Sender::new(0),
        refused: AtomicUsize::new(0),
        mints,
    });

    let mut work = tokio::task::JoinSet::new();
    for _ in 0..MINTERS {
        let race = race.clone();
        work.spawn(async move {
            loop {
                let n = race.started.fetch_add(1, Ordering::SeqCst);
                if n >= race.mints {
                    return;
                }
                // Neither side gets far ahead of the other.
                let due = (n * 2 * OWNERS / race.mints).saturating_sub(10);
                race.revoked.subscribe().wait_for(|done| *done >= due).await.unwrap();
                race.progress.send_modify(|done| *done = (*done).max(n));
                race.mint(n).await;
            }
        });
    }
    let revoking = async |hand: usize| {
        for turn in 0..OWNERS {
            // Spread over the whole run, whatever its size: the next one when so many mints have begun.
            let due = race.mints * turn / OWNERS;
            race.progress.subscribe().wait_for(|begun| *begun >= due).await.unwrap();
            race.revoke((turn * 7 + hand * 25) % OWNERS, &alice, &acceptor).await;
        }
    };
    tokio::join!(revoking(0), revoking(1));
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }

    let status = async || alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    until(async || (status().await.open_sweeps == 0).then_some(())).await;
    let listed: std::collections::HashSet<String> =
        alice.leases(None).await.into_iter().map(|lease| lease.id).collect();
    let handed_out = race.handed_out.lock().await;
    let (mut alive, mut dead) = (0, 0);
    for ((at, round), leases) in handed_out.iter() {
        let last = race.owners[*at].round.read().await.0;
        for lease in leases {
            let accepted = acceptor.lease(lease).await.is_ok();
            assert_eq!(accepted, *round == last, "owner {at}, round {round} of {last}");
            assert_eq!(accepted, listed.contains(lease), "{lease} is handed out and not listed as it is");
            if accepted { alive += 1 } else { dead += 1 }
        }
    }
    assert_eq!(listed.len(), alive, "no lease that nobody got");
    let refused = race.refused.load(Ordering::SeqCst);
    let counts = format!("{alive} alive, {dead} dead by revocation, {refused} refused in a race");
    assert!(alive > OWNERS && dead > OWNERS && refused > 0, "{counts}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_an_acknowledged_revocation_on_the_embedded_store() {
    run(Site::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_an_acknowledged_revocation_on_redis() {
    let redis = RedisServer::start(RedisOptions::default());
    run(Site::on(&redis)).await;
}
