//! A broker is killed under load, again and again: what it acknowledged holds, and nothing is half done.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_client::{AcceptorClient, OperatorClient};
use mayfly_proto::v1 as pb;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Mutex, RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::harness::{Acceptor, Job, Operator, Server, Site, load_spec, owner, until};

const ROUNDS: usize = 3;
const OWNERS: usize = 8;
const MINTERS: usize = 6;

/// An owner's job and its evidence of now, which was shown before others use it.
struct Owner {
    name: String,
    job: RwLock<Job>,
    evidence: RwLock<(u32, String)>,
    /// Everything of this round and earlier ones was revoked, and that was acknowledged.
    dead_to: Mutex<Option<u32>>,
    handed_out: Mutex<Vec<(u32, String)>>,
}

impl Owner {
    /// Shows new evidence, and uses it from now on.
    async fn renew(&self) -> Result<(), String> {
        let job = self.job.read().await;
        let round = self.evidence.read().await.0 + 1;
        let evidence = job.evidence();
        let minted =
            job.mint_with(&evidence, "load", "use:load", 0).await.map_err(|e| e.code.into_owned())?;
        self.handed_out.lock().await.push((round, minted.lease));
        drop(job);
        *self.evidence.write().await = (round, evidence);
        Ok(())
    }

    async fn mint(&self) -> Result<(), String> {
        let job = self.job.read().await;
        let (round, evidence) = self.evidence.read().await.clone();
        let minted =
            job.mint_with(&evidence, "load", "use:load", 0).await.map_err(|e| e.code.into_owned())?;
        self.handed_out.lock().await.push((round, minted.lease));
        Ok(())
    }
}

fn random(below: usize) -> usize {
    let mut octets = [0; 4];
    SystemRandom::new().fill(&mut octets).unwrap();
    usize::try_from(u32::from_be_bytes(octets)).unwrap() % below
}

/// Mints and revokes until the broker is killed at some point under way. Returns the owner whose revocation was
/// under way, with its round.
async fn load_and_kill(
    owners: &Arc<Vec<Owner>>,
    server: &mut Server,
    alice: &Operator,
) -> Option<(usize, u32)> {
    let killed = CancellationToken::new();
    let (minted, begun) = (watch::Sender::new(0_usize), Arc::new(AtomicUsize::new(0)));
    let mut minters = tokio::task::JoinSet::new();
    for _ in 0..MINTERS {
        let (owners, killed, minted, begun) = (owners.clone(), killed.clone(), minted.clone(), begun.clone());
        minters.spawn(async move {
            while !killed.is_cancelled() {
                let n = begun.fetch_add(1, Ordering::SeqCst);
                match owners[n % OWNERS].mint().await {
                    Ok(()) => minted.send_modify(|n| *n += 1),
                    Err(code) => {
                        let raced = ["EVIDENCE_PREDATES_REVOCATION", "RACE_LOST"].contains(&code.as_str());
                        assert!(raced || killed.is_cancelled() || code == "BROKER_UNREACHABLE", "{code}");
                    }
                }
            }
        });
    }
    let under_way = Mutex::new(None);
    let revoking = async {
        let mut at = random(OWNERS);
        loop {
            let one = &owners[at];
            let round = one.evidence.read().await.0;
            *under_way.lock().await = Some((at, round));
            alice.revoke(owner(&one.name), false).await.unwrap();
            *one.dead_to.lock().await = Some(round);
            *under_way.lock().await = None;
            if one.renew().await.is_err() {
                std::future::pending::<()>().await;
            }
            at = (at + 1) % OWNERS;
        }
    };
    let due = 10 + random(60);
    let mut watched = minted.subscribe();
    tokio::select! {
        () = revoking => {}
        reached = watched.wait_for(|n| *n >= due) => { reached.unwrap(); }
    }
    killed.cancel();
    server.process.kill9();
    while let Some(done) = minters.join_next().await {
        done.unwrap();
    }
    under_way.into_inner()
}

async fn run(mut site: Site) {
    site.serve_ci().await;
    let mut server = site.spawn("one").await;
    let mut alice = server.operator("alice").await;
    let mut acceptor = server.acceptor("load-api").await;
    let mut owners = Vec::new();
    for n in 0..OWNERS {
        let job = server.job(&site, &load_spec(&n.to_string(), &n.to_string())).await;
        owners.push(Owner {
            name: format!("user:gh-{n}"),
            job: RwLock::new(job),
            evidence: RwLock::new((0, String::new())),
            dead_to: Mutex::new(None),
            handed_out: Mutex::default(),
        });
    }
    let owners = Arc::new(owners);
    let mut handed_out = 0;
    for _ in 0..ROUNDS {
        for owner in owners.iter() {
            owner.renew().await.unwrap();
        }
        let under_way = load_and_kill(&owners, &mut server, &alice).await;
        server = site.spawn("one").await;
        (alice, acceptor) = reconnected(&server, alice, acceptor).await;
        let status = async || alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
        until(async || (status().await.open_sweeps == 0).then_some(())).await;
        let live: HashSet<_> = alice.leases(None).await.into_iter().map(|lease| lease.id).collect();
        handed_out = 0;
        for (at, owner) in owners.iter().enumerate() {
            owner.job.write().await.go_to(&server.target(None)).await;
            let mut dead_to = owner.dead_to.lock().await;
            let mut doubtful = Vec::new();
            for (round, lease) in owner.handed_out.lock().await.iter() {
                let accepted = acceptor.lease(lease).await.is_ok();
                assert_eq!(accepted, live.contains(lease), "{lease}: what is accepted is listed");
                match under_way {
                    Some((whose, to)) if whose == at && *round <= to && Some(*round) > *dead_to => {
                        doubtful.push(accepted);
                    }
                    _ => assert_eq!(
                        accepted,
                        Some(*round) > *dead_to,
                        "{lease} of round {round}, dead to {dead_to:?}"
                    ),
                }
                handed_out += 1;
            }
            // A revocation that was never acknowledged was done, or it was not.
            assert!(doubtful.windows(2).all(|two| two[0] == two[1]), "half of a revocation: {doubtful:?}");
            if doubtful.first() == Some(&false) {
                *dead_to = under_way.map(|(_, to)| to);
            }
        }
    }
    let audit = std::fs::File::open(site.path("one/audit.jsonl")).unwrap();
    let summary = mayfly_audit::verify::verify([std::io::BufReader::new(audit)]).unwrap();
    assert!(summary.records >= handed_out, "each credential that left has its record");
    assert!(!server.log.borrow().contains("panicked"));
}

/// The same people at the restarted broker: their certificates' leases outlived it.
async fn reconnected(server: &Server, alice: Operator, acceptor: Acceptor) -> (Operator, Acceptor) {
    let target = |files: &(std::path::PathBuf, std::path::PathBuf)| server.target(Some(files.clone()));
    let operator = OperatorClient::connect(&target(&alice.certified.files)).await.unwrap();
    let checker = AcceptorClient::connect(&target(&acceptor.certified.files)).await.unwrap();
    (Operator { client: operator, ..alice }, Acceptor { client: checker, ..acceptor })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_under_load_keeps_its_word_on_the_embedded_store() {
    run(Site::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_under_load_keeps_its_word_on_redis() {
    let redis = RedisServer::start(RedisOptions::default());
    run(Site::on(&redis)).await;
}
