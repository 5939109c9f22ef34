//! The load: jobs that mint and renew, and an operator who revokes by every dimension.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_domain::UnixMillis;
use mayfly_domain::time::{BootTime, Clock as _, SystemClock};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ledger::{Credential, Form, Lease, Ledger, Names, What, now};
use super::random::Random;
use super::world::World;
use crate::harness::{Job, Spec, load_spec};

/// Profile and integration of what is minted.
const PROFILES: [(&str, &str); 3] = [("load", "load"), ("load-tls", "load-mesh"), ("chaos", "chaos")];
const TEAM: &str = "team:load";
const INTENT: &str = "use:load";
/// How long one call may take before its job goes on elsewhere.
const CALL: Duration = Duration::from_secs(4);
/// How long a barrier is waited for, which is longer than the longest bound.
const BARRIER: Duration = Duration::from_secs(12);
/// How many live leases each job is kept at.
const LIVE: usize = 4;
/// How long evidence is shown.
const EVIDENCE_MS: u64 = 60_000;

struct Evidence {
    token: String,
    made: BootTime,
    /// When the first mint with it was answered.
    shown: Option<BootTime>,
}

/// A CI job with its key, at any broker.
pub(crate) struct Worker {
    job: Job,
    owner: String,
    evidence: Mutex<Evidence>,
}

impl Worker {
    pub(crate) fn new(world: &World, n: usize) -> Self {
        let name = n.to_string();
        let spec: Spec = load_spec(&name, &name);
        let job = Job::over(&world.site, world.anyone(0), &spec);
        let evidence = Mutex::new(Evidence { token: job.evidence(), made: now(), shown: None });
        Self { job, owner: format!("user:gh-{n}"), evidence }
    }

    fn at(&self, world: &World, broker: usize) -> Job {
        let mut job = self.job.clone();
        job.rpc = WorkloadServiceClient::new(world.anyone(broker));
        job
    }

    /// Shows other evidence from now on, unless somebody has put new evidence there.
    fn renew_evidence(&self, instead_of: &str) {
        let mut evidence = self.evidence.lock().unwrap();
        if evidence.token == instead_of {
            *evidence = Evidence { token: self.job.evidence(), made: now(), shown: None };
        }
    }

    /// The evidence to show now.
    fn evidence(&self) -> String {
        let mut evidence = self.evidence.lock().unwrap();
        if evidence.made.plus_ms(EVIDENCE_MS) < now() {
            *evidence = Evidence { token: self.job.evidence(), made: now(), shown: None };
        }
        evidence.token.clone()
    }

    /// Mints at a broker, with the moment at which that was sent.
    ///
    /// # Errors
    /// The reason.
    pub(crate) async fn mint(
        &self,
        world: &World,
        broker: usize,
        profile: usize,
    ) -> Result<(Credential, BootTime), String> {
        let (profile, integration) = PROFILES[profile];
        let (job, token, sent) = (self.at(world, broker), self.evidence(), now());
        let minted = match timeout(CALL, job.mint_with(&token, profile, INTENT, 0)).await {
            Ok(Ok(minted)) => minted,
            Ok(Err(failure)) => {
                self.renew_evidence(&token);
                return Err(failure.code.into_owned());
            }
            Err(_) => return Err("no answer in time".to_owned()),
        };
        let at = now();
        let shown = {
            let mut evidence = self.evidence.lock().unwrap();
            if evidence.token == token { *evidence.shown.get_or_insert(at) } else { at }
        };
        let names = Names {
            workload: minted.workload.clone(),
            owners: [TEAM.to_owned(), self.owner.clone()],
            task: minted.task.as_ref().map(|task| task.id.clone()).unwrap_or_default(),
            profile,
            integration,
        };
        let lease = Arc::new(Lease::new(minted.lease.clone(), names, shown, at));
        Ok((self.credential(minted, lease), sent))
    }

    /// Renews a lease of this job's.
    async fn renew(
        &self,
        world: &World,
        broker: usize,
        old: &Credential,
    ) -> Result<(Credential, BootTime), String> {
        let (job, sent) = (self.at(world, broker), now());
        match timeout(CALL, job.renew(&old.lease.id)).await {
            Ok(Ok(minted)) => Ok((self.credential(minted, old.lease.clone()), sent)),
            Ok(Err(failure)) => Err(failure.code.into_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    fn credential(&self, minted: pb::MintResponse, lease: Arc<Lease>) -> Credential {
        let expires = UnixMillis(minted.expires_ms);
        let form = match (minted.certificates.into_iter().next(), minted.binding.as_str()) {
            (Some(leaf), _) => Form::Certificate(leaf),
            (None, "bearer") => Form::Bearer(minted.credential),
            (None, _) => Form::Bound(minted.credential, self.job.key.clone()),
        };
        Credential { lease, form, expires }
    }
}

/// Waits at a broker until nobody accepts what a revocation covers; false where that is not known.
pub(crate) async fn barrier(world: &World, broker: usize, told: &pb::RevokeResponse) -> bool {
    let operator = world.operator(broker);
    let progress = operator.wait_barrier(told.number, &told.generation, Some(BARRIER), |_| {}).await;
    progress.is_ok_and(|progress| progress.complete)
}

/// What goes on until it is stopped.
pub(crate) struct Load {
    pub(crate) world: Arc<World>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) workers: Arc<Vec<Worker>>,
    pub(crate) stop: CancellationToken,
    /// Whether revocations that end most of what is there are made, too.
    pub(crate) broad: bool,
}

impl Load {
    /// Keeps each job at its number of live leases, and renews some.
    pub(crate) async fn mint(self: Arc<Self>, random: Random) {
        while !self.stop.is_cancelled() {
            let broker = random.below(self.world.brokers.len());
            let at = random.below(self.workers.len());
            let worker = &self.workers[at];
            let live = self.ledger.live();
            let own: Vec<_> = live.iter().filter(|c| c.lease.names.owners[1] == worker.owner).collect();
            let renewable = |c: &&&Arc<Credential>| !matches!(c.form, Form::Certificate(_));
            let renewed = match own.iter().find(renewable) {
                _ if own.len() < LIVE => None,
                Some(old) if random.percent(5) => Some(*old),
                _ => {
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let made = match renewed {
                Some(old) => worker.renew(&self.world, broker, old).await,
                None => worker.mint(&self.world, broker, random.below(PROFILES.len())).await,
            };
            match made {
                Ok((credential, sent)) => self.ledger.add(credential, sent),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
            self.ledger.clean(SystemClock.now());
        }
    }

    fn choose(&self, random: &Random) -> Option<What> {
        use pb::Dimension::{Everything, Integration, Owner, Profile, Task, Workload};
        let live = self.ledger.live();
        let victim = random.pick(&live)?;
        let names = &victim.lease.names;
        let (dimension, value) = match random.below(if self.broad { 100 } else { 94 }) {
            0..35 => return Some(What::Lease(victim.lease.id.clone())),
            35..54 => (Task, names.task.clone()),
            54..72 => (Workload, names.workload.clone()),
            72..90 => (Owner, names.owners[1].clone()),
            90..92 => (Profile, names.profile.to_owned()),
            92..94 => (Integration, names.integration.to_owned()),
            _ => (Everything, String::new()),
        };
        Some(What::Subject(dimension, value))
    }

    /// Revokes one thing after the other, each until it is acknowledged.
    pub(crate) async fn revoke(self: Arc<Self>, random: Random) {
        while !self.stop.is_cancelled() {
            sleep(random.millis(50, 500)).await;
            let Some(what) = self.choose(&random) else { continue };
            self.revoke_one(&random, &what).await;
        }
    }

    /// Waits for the barrier of a revocation at any broker. Where that is lost, nothing is known of it.
    async fn wait(&self, random: &Random, what: &What, begun: BootTime, told: &pb::RevokeResponse) {
        let broker = random.below(self.world.brokers.len());
        if barrier(&self.world, broker, told).await {
            self.ledger.barrier(what, begun);
        }
    }

    async fn revoke_one(&self, random: &Random, what: &What) {
        let request = pb::RevokeRequest {
            what: Some(what.on_the_wire()),
            reason: "chaos".to_owned(),
            ..Default::default()
        };
        let begun = self.ledger.begin(what);
        while !self.stop.is_cancelled() {
            let broker = random.below(self.world.brokers.len());
            match self.world.operator(broker).revoke(request.clone()).await {
                Ok(told) => {
                    self.ledger.acknowledge(what, begun);
                    self.wait(random, what, begun, &told).await;
                    return;
                }
                // Of a generation that has ended: nobody knows it any more.
                Err(no) if no.code == "NOT_FOUND" || no.code == "LEASE_NOT_FOUND" => return,
                Err(_) => {
                    self.ledger.unanswered(what, begun);
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}
