//! One run: the load goes on, one fault comes after the other, and each has to be got over without help.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::time::{BootTime, Clock as _, SystemClock};
use mayfly_proto::v1 as pb;
use mayfly_verify::PastBound;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::checks::{Askers, ask};
use super::faults::Fault;
use super::followers::Follower;
use super::ledger::{Ledger, now};
use super::load::{Load, Worker};
use super::random::Random;
use super::tally::Tally;
use super::world::World;

/// Between the questions of one who asks a follower.
const PAUSE: Duration = Duration::from_millis(2);
/// How soon a follower has to hear of a revocation, or all is tried again.
const HEARD: Duration = Duration::from_secs(2);
/// How soon everything has to work again.
const RECOVERY: Duration = Duration::from_secs(60);

/// How long and how hard.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Each fault is played this often at least, and on until there were so many checks.
    pub(crate) rounds: usize,
    pub(crate) checks: u64,
    /// How long a fault lasts, and how long all is left in peace after it, in milliseconds.
    pub(crate) fault_ms: (u64, u64),
    pub(crate) peace_ms: (u64, u64),
    /// Between the questions of one who asks a broker.
    pub(crate) pause: Duration,
    pub(crate) broad: bool,
}

/// A deployment under load.
struct Run {
    world: Arc<World>,
    followers: Vec<Arc<Follower>>,
    tally: Arc<Tally>,
    ledger: Arc<Ledger>,
    /// Whose leases nobody revokes by name.
    probe: Worker,
    workers: Arc<Vec<Worker>>,
}

impl Plan {
    /// Runs it, prints the table, and holds the two numbers to 0.
    pub(crate) async fn run(&self) {
        println!("chaos: seed {}, {self:?}", self.seed);
        let random = Random::new(self.seed);
        let world = Arc::new(World::start(&["one", "two", "three"]).await);
        let tally = Arc::new(Tally::new(Fault::ALL.iter().map(|f| f.name()).collect()));
        let ledger = Arc::new(Ledger::default());
        let workers: Arc<Vec<_>> = Arc::new((1..=10).map(|n| Worker::new(&world, n)).collect());
        let probe = Worker::new(&world, 1_000);
        let followers = followers(&world).await;
        let stop = CancellationToken::new();
        let load = Arc::new(Load {
            world: world.clone(),
            ledger: ledger.clone(),
            workers: workers.clone(),
            stop: stop.clone(),
            broad: self.broad,
        });
        let askers = Arc::new(Askers {
            world: world.clone(),
            ledger: ledger.clone(),
            tally: tally.clone(),
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            tasks.spawn(load.clone().mint(random.fork()));
        }
        for _ in 0..2 {
            tasks.spawn(load.clone().revoke(random.fork()));
        }
        for broker in 0..world.brokers.len() {
            for _ in 0..2 {
                tasks.spawn(askers.clone().online(broker, random.fork(), self.pause));
            }
        }
        for follower in &followers {
            tasks.spawn(askers.clone().follower(follower.clone(), random.fork(), self.pause.max(PAUSE)));
        }
        let run = Run { world, followers, tally: tally.clone(), ledger, probe, workers };
        let played = tokio::select! {
            () = run.faults(self, &random) => Ok(()),
            // None of them ends before it is told to.
            Some(ended) = tasks.join_next() => ended,
        };
        stop.cancel();
        played.expect("a part of the load fell over");
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a part of the load fell over");
        }
        println!("{}", tally.table());
        let (accepted, refused, texts) = tally.wrong();
        assert_eq!((accepted, refused), (0, 0), "accepted after revoke, refused while healthy:\n{texts}");
    }
}

/// Followers of each kind: with a short bound and a long one, that refuse past it or ask, and one as a process.
async fn followers(world: &World) -> Vec<Arc<Follower>> {
    let (refuse, ask) = (Some(PastBound::Refuse), Some(PastBound::AskOnline));
    let mut all = Vec::new();
    for (name, brokers, bound_ms, past_bound) in [
        ("short", &[0, 1][..], 2_000, refuse),
        ("long", &[1, 2], 10_000, refuse),
        ("asking", &[2, 0], 5_000, ask),
        ("process", &[0, 2], 3_000, None),
    ] {
        all.push(Arc::new(Follower::start(world, name, brokers, bound_ms, past_bound).await));
    }
    all
}

impl Run {
    async fn faults(&self, plan: &Plan, random: &Random) {
        self.recover(random, None).await;
        self.until_loaded().await;
        let mut round = 0;
        while round < plan.rounds || self.tally.checks() < plan.checks {
            let mut order: Vec<usize> = (0..Fault::ALL.len()).collect();
            random.shuffle(&mut order);
            for at in order {
                let fault = Fault::ALL[at];
                self.tally.fault(at);
                let length = random.millis(plan.fault_ms.0, plan.fault_ms.1);
                let fault = fault.play(&self.world, &self.followers, &self.ledger, random, length).await;
                let ended = Instant::now();
                self.recover(random, Some(fault)).await;
                let after = ended.elapsed();
                println!("chaos: {} for {length:?}, recovered after {after:?}", fault.name());
                self.until_loaded().await;
                self.tally.recovered(u64::try_from(after.as_millis()).unwrap());
                sleep(random.millis(plan.peace_ms.0, plan.peace_ms.1)).await;
            }
            round += 1;
        }
        self.tally.end();
    }

    /// Waits until every broker mints, and everybody accepts what any of them minted. Nobody is restarted; people get
    /// new certificates where the store has forgotten that they had some.
    async fn recover(&self, random: &Random, fault: Option<Fault>) {
        let mut last = String::new();
        let over = now();
        let again = async {
            if fault.is_some_and(Fault::forgets) {
                while let Err(why) = self.renew_people().await {
                    last = why;
                    sleep(Duration::from_millis(50)).await;
                }
            }
            while let Err(why) = self.probe(random, over).await {
                last = why;
                sleep(Duration::from_millis(20)).await;
            }
        };
        let recovered = timeout(RECOVERY, again).await;
        assert!(recovered.is_ok(), "{fault:?} was not got over: {last}");
        if fault.is_some_and(Fault::forgets) {
            self.ledger.lose();
        }
    }

    /// Issues certificates again where those of before are of a generation that has ended.
    async fn renew_people(&self) -> Result<(), String> {
        // The store forgot the lease of the operator's certificate, or a broker has not looked yet.
        match self.world.operator(0).get_status(pb::GetStatusRequest {}).await {
            Ok(_) => return Err("the old generation goes on".to_owned()),
            Err(no) if no.code == "CERTIFICATE_NOT_ALLOWED" => {}
            Err(no) => return Err(format!("status: {}", no.code)),
        }
        self.world.issue().await?;
        let known = self.world.operator(0).get_status(pb::GetStatusRequest {}).await;
        known.map(drop).map_err(|no| format!("status: {}", no.code))
    }

    /// Mints at every broker, asks everybody about it, and lets everybody hear of a revocation and of a broker, since the
    /// fault was over.
    async fn probe(&self, random: &Random, over: BootTime) -> Result<(), String> {
        for broker in 0..self.world.brokers.len() {
            let (minted, _) = self
                .probe
                .mint(&self.world, broker, random.below(3))
                .await
                .map_err(|why| format!("a mint at {}: {why}", self.world.brokers[broker].name))?;
            for asked in 0..self.world.brokers.len() {
                ask(&self.world, asked, &minted, false)
                    .await
                    .map_err(|why| format!("a check at {}: {why}", self.world.brokers[asked].name))?;
            }
            for follower in &self.followers {
                follower
                    .ask(&mut follower.line().await, &minted)
                    .await
                    .map_err(|why| format!("a check by {}: {why}", follower.name))?;
            }
        }
        // Who has only not forgotten yet that it was fresh hears of no new revocation.
        let (ended, _) = self.probe.mint(&self.world, 0, 2).await?;
        let what = Some(pb::revoke_request::What::Lease(ended.lease.id.clone()));
        let revoke = pb::RevokeRequest { what, reason: "probe".to_owned(), ..Default::default() };
        self.world.operator(0).revoke(revoke).await.map_err(|no| format!("a revocation: {}", no.code))?;
        for follower in &self.followers {
            let mut line = follower.line().await;
            let heard = async {
                while follower.ask(&mut line, &ended).await != Err("LEASE_REVOKED".to_owned()) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            let name = &follower.name;
            timeout(HEARD, heard).await.map_err(|_| format!("{name} has not heard of a revocation"))?;
            // It hears of revocations before its first ping is answered: until then it lives on what it was told before.
            if !follower.was_confirmed_since(over).await {
                return Err(format!("{name} waits for an answer to a ping"));
            }
        }
        Ok(())
    }

    /// Waits until there is enough to ask about: a refusal of nothing shows nothing.
    async fn until_loaded(&self) {
        let give_up = Instant::now() + RECOVERY;
        loop {
            self.ledger.clean(SystemClock.now());
            let live = self.ledger.live().len();
            if live >= self.workers.len() {
                return;
            }
            assert!(Instant::now() < give_up, "only {live} live leases");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
