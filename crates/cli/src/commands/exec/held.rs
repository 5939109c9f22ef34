//! What a command holds: got before it starts, kept while it runs, ended when it has ended.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use mayfly_client::identity::Options;
use mayfly_client::workload::{Ask, CertificateAsk, Credential, Minted};
use mayfly_client::{Failure, KeyHome, Source, Svid, Target, WorkloadClient, X509Identity};
use mayfly_domain::{Intent, LeaseId, ProfileName, Reason, Scopes, TaskReason, Ttl, UnixMillis};
use mayfly_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::keep::{self, Teller};
use super::places::{self, Place};
use super::token::Wanted;
use super::wants::{FileCopy, Variable};
use super::{OnRenew, OnRevoke, environment};
use crate::files::{PrivateDir, SECRET, put, unwritten};
use crate::output::Printer;
use crate::session::{EvidenceArgs, Session};
use crate::supervise::Order;

/// How long ending everything may take: the job is over, and what is left ends by itself.
const ENDING: Duration = Duration::from_secs(10);
/// The file with the key for DPoP proofs, and the variable that names it.
const PROOF_KEY: &str = "proof.key";
/// The variable that names the file with the key for DPoP proofs.
pub(crate) const PROOF_KEY_FILE: &str = "MAYFLY_PROOF_KEY_FILE";

/// What a command is to get.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) profiles: Vec<ProfileName>,
    pub(super) intent: Option<Intent>,
    pub(super) reason: Option<TaskReason>,
    pub(super) variables: Vec<Variable>,
    pub(super) copies: Vec<FileCopy>,
    pub(super) evidence: EvidenceArgs,
    pub(super) on_renew: OnRenew,
    pub(super) on_revoke: OnRevoke,
}

impl Plan {
    /// Refuses a piece of a profile that is not asked for, and names that are not distinct.
    pub(super) fn check(&self) -> Result<(), Failure> {
        places::distinct(&self.profiles)?;
        let named =
            self.variables.iter().map(|v| &v.profile).chain(self.copies.iter().map(|c| &c.piece.profile));
        for profile in named {
            if !self.profiles.contains(profile) {
                return Err(Failure::of(Reason::InputInvalid)
                    .fact("profile", profile.as_str())
                    .fact("problem", "a piece of it is asked for, but not the profile itself")
                    .next(format!("add --profile {profile}")));
            }
        }
        Ok(())
    }

    fn is_fixed(&self, profile: &ProfileName) -> bool {
        self.variables.iter().any(|variable| variable.profile == *profile)
    }
}

/// One profile's credential.
enum Item {
    Token { wanted: Wanted, place: Arc<Place>, minted: Arc<Minted> },
    Certificate { identity: Arc<X509Identity>, place: Arc<Place> },
}

impl Item {
    const fn place(&self) -> &Arc<Place> {
        match self {
            Self::Token { place, .. } | Self::Certificate { place, .. } => place,
        }
    }
}

/// All that a command holds.
pub(super) struct Held {
    plan: Plan,
    client: Arc<WorkloadClient>,
    base: Option<PrivateDir>,
    task: Option<pb::Task>,
    /// Whether this opened the task, and nobody shares it.
    opened: bool,
    /// The leases that were minted, whether what they gave found its place or not.
    minted: Vec<LeaseId>,
    items: Vec<Item>,
    keepers: Vec<JoinHandle<()>>,
    set: Vec<(String, OsString)>,
    /// The variables that name the certificate which is the evidence.
    pub(super) shown_by: &'static [&'static str],
}

impl Held {
    /// Connects; nothing is held yet.
    pub(super) async fn nothing(plan: Plan, session: &Session) -> Result<Self, Failure> {
        let client = Arc::new(session.workload(&plan.evidence).await?);
        Ok(Self {
            plan,
            client,
            base: None,
            task: None,
            opened: false,
            minted: Vec::new(),
            items: Vec::new(),
            keepers: Vec::new(),
            set: Vec::new(),
            shown_by: &[],
        })
    }

    /// Opens the task (a join token's is opened by its mint), mints for each profile, writes the files. What fails leaves what was got so far to
    /// [`Held::end`].
    pub(super) async fn fill(&mut self, session: &Session) -> Result<(), Failure> {
        // A place first: what can't be kept need not be minted.
        let base = PrivateDir::make(&session.env)?;
        if !base.in_memory {
            session.printer.note("mayfly exec: no place in memory: the credentials' files are on a disk");
        }
        let (_, source) = self.source(session)?;
        self.shown_by = environment::shown_by(&source);
        if !source.is_join_token() {
            let (intent, reason) = (self.plan.intent.as_ref(), self.plan.reason.as_ref());
            let started = self.client.start_task(intent, reason, None, false).await?;
            self.opened = !started.joined && !started.task.shared;
            self.task = Some(started.task);
        }
        for profile in self.plan.profiles.clone() {
            let item = self.get(profile, &base, session).await?;
            self.items.push(item);
        }
        self.describe(&base, session)?;
        self.base = Some(base);
        Ok(())
    }

    async fn get(
        &mut self,
        profile: ProfileName,
        base: &PrivateDir,
        session: &Session,
    ) -> Result<Item, Failure> {
        let fixed = self.plan.is_fixed(&profile);
        let place = Place::new(base, &profile, &self.plan.copies);
        let ask = Ask {
            profile,
            intent: self.plan.intent.clone(),
            reason: self.plan.reason.clone(),
            ttl: self.window(session.clock.now()).filter(|_| fixed),
            scopes: Scopes::default(),
        };
        let minted = if fixed {
            let minted =
                self.client.mint(&ask).await.map_err(|refused| no_variable(refused, &ask.profile))?;
            Credential::Token(Box::new(minted))
        } else {
            self.client.mint_any(&ask).await?
        };
        self.minted.extend(match &minted {
            Credential::Token(token) => LeaseId::parse(&token.lease).ok(),
            Credential::Certificate(svid) => Some(svid.lease),
        });
        match minted {
            Credential::Token(minted) => {
                let wanted = Wanted::new(ask, &minted);
                let place = place.for_token()?;
                place.put_token(&minted.token)?;
                let item = Item::Token { wanted, place: Arc::new(place), minted: Arc::from(minted) };
                Ok(item)
            }
            Credential::Certificate(svid) => {
                let svid = Arc::from(svid);
                let place = place.for_certificate()?;
                place.put_certificate(&svid, &svid.bundle_pem())?;
                let identity = Arc::new(self.identity(ask, svid, session).await?);
                Ok(Item::Certificate { identity, place: Arc::new(place) })
            }
        }
    }

    /// Lets a certificate keep itself from now on. It keeps its key: a command that reads certificate and key one
    /// after the other always has a pair.
    async fn identity(&self, ask: Ask, svid: Arc<Svid>, session: &Session) -> Result<X509Identity, Failure> {
        let Ask { profile, intent, reason, ttl, .. } = ask;
        let ask = CertificateAsk { intent, reason, ttl, ..CertificateAsk::new(profile) };
        let options = Options {
            home: Some(KeyHome::find(&session.env)?),
            svid: Some(svid),
            keep_key: true,
            patience: session.patience,
            clock: Arc::clone(&session.clock),
            ..Options::new(ask)
        };
        let (target, source) = self.source(session)?;
        X509Identity::start(&target, source, options).await
    }

    fn source(&self, session: &Session) -> Result<(Target, Source), Failure> {
        let target = session.target()?;
        let source = Source::at(&target, self.plan.evidence.evidence_file.as_deref(), &session.env)?;
        Ok((target, source))
    }

    /// What is left of the task's window.
    fn window(&self, now: UnixMillis) -> Option<Ttl> {
        let ends = self.task.as_ref()?.window_ends_ms;
        Ttl::from_secs(i64::try_from(ends.saturating_sub(now.0) / 1_000).ok()?).ok()
    }

    /// Makes the command's environment.
    fn describe(&mut self, base: &PrivateDir, session: &Session) -> Result<(), Failure> {
        let places: Vec<&Place> = self.items.iter().map(|item| item.place().as_ref()).collect();
        self.set = places::variables(base, &places);
        let mut bound = false;
        for item in &self.items {
            let Item::Token { place, minted, .. } = item else { continue };
            bound |= minted.binding == "dpop";
            for variable in self.plan.variables.iter().filter(|v| v.profile == *place.profile()) {
                self.set.push((variable.name.clone(), minted.token.expose().into()));
                self.shown(&variable.name, minted, session);
            }
        }
        if bound {
            let path = base.path().join(PROOF_KEY);
            let pem = self.client.key().pem();
            put(&path, pem.expose().as_bytes(), SECRET).map_err(|e| unwritten(&path, &e))?;
            self.set.push((PROOF_KEY_FILE.to_owned(), path.into()));
        }
        Ok(())
    }

    /// A token that is in the environment: masked in the job's log, and told where it ends before the task does.
    fn shown(&self, name: &str, minted: &Minted, session: &Session) {
        if session.env.var("GITHUB_ACTIONS").is_some() {
            Printer::command(&format!("::add-mask::{}", minted.token.expose()));
        }
        let window = self.task.as_ref().map(|task| task.window_ends_ms).unwrap_or_default();
        if minted.expires.0 / 1_000 < window / 1_000 {
            let left = minted.expires.0.saturating_sub(session.clock.now().0) / 1_000;
            session.printer.note(&format!(
                "mayfly exec: {name} ends in {left} s, before the task's window: its profile gives no longer one, and a variable can't be renewed"
            ));
        }
    }

    /// What the command's environment gets.
    pub(super) fn set(&mut self) -> Vec<(String, OsString)> {
        std::mem::take(&mut self.set)
    }

    /// Keeps all of it fresh from now on.
    pub(super) fn keep(&mut self, orders: mpsc::Sender<Order>, session: &Session) {
        let (on_renew, on_revoke) = (self.plan.on_renew, self.plan.on_revoke);
        let tell = Teller { orders, printer: session.printer.clone(), on_renew, on_revoke };
        for item in &self.items {
            let (tell, clock) = (tell.clone(), Arc::clone(&session.clock));
            let keeper = match item {
                Item::Token { place, minted, .. } if self.plan.is_fixed(place.profile()) => {
                    let (client, minted) = (Arc::clone(&self.client), Arc::clone(minted));
                    tokio::spawn(keep::fixed(client, Arc::clone(place), minted, clock, tell))
                }
                Item::Token { wanted, place, minted } => {
                    let (client, place) = (Arc::clone(&self.client), Arc::clone(place));
                    let (wanted, minted) = (wanted.clone(), Arc::clone(minted));
                    tokio::spawn(keep::token(client, wanted, place, minted, clock, tell))
                }
                Item::Certificate { identity, place } => {
                    tokio::spawn(keep::certificate(Arc::clone(identity), Arc::clone(place), clock, tell))
                }
            };
            self.keepers.push(keeper);
        }
    }

    /// Ends what was got for a command that never started. The task stays open: the job may try again.
    pub(super) async fn undo(mut self, session: &Session) {
        self.items.clear();
        let released = tokio::time::timeout(ENDING, async {
            for lease in self.minted {
                self.client.release(Some(lease)).await?;
            }
            Ok::<(), Failure>(())
        });
        report(released.await, session);
    }

    /// Removes the files, then completes the task where this opened it, else ends the leases of this command. What
    /// fails is told, and ends by itself.
    pub(super) async fn end(mut self, session: &Session) {
        for keeper in self.keepers.drain(..) {
            keeper.abort();
            // Only what was dropped is gone.
            let _ = keeper.await;
        }
        let leases: Vec<_> = self.items.drain(..).map(Lease::from).collect();
        drop(self.base.take());
        let ended = tokio::time::timeout(ENDING, async {
            if self.opened {
                return self.client.complete_task().await.map(drop);
            }
            for lease in leases {
                match lease {
                    Lease::Token(Some(lease)) => drop(self.client.release(Some(lease)).await?),
                    Lease::Certificate(Some(identity)) => identity.release().await?,
                    Lease::Token(None) | Lease::Certificate(None) => {}
                }
            }
            Ok(())
        });
        report(ended.await, session);
    }
}

/// Tells of leases that could not be ended; that is no failure of the job.
fn report(ended: Result<Result<(), Failure>, tokio::time::error::Elapsed>, session: &Session) {
    let problem = match ended {
        Ok(Ok(())) => return,
        Ok(Err(failed)) => format!("{} ({})", failed.message, failed.code),
        Err(_) => "the broker did not answer in time".to_owned(),
    };
    session.printer.note(&format!(
        "mayfly exec: the leases were not ended: {problem}; they end by themselves, at the latest with the task"
    ));
}

/// A lease that is left to end.
enum Lease {
    Token(Option<LeaseId>),
    Certificate(Option<Box<X509Identity>>),
}

impl From<Item> for Lease {
    fn from(item: Item) -> Self {
        match item {
            Item::Token { wanted, .. } => Self::Token(wanted.lease()),
            // Its keeper has ended, and with it the other holder.
            Item::Certificate { identity, .. } => Self::Certificate(Arc::into_inner(identity).map(Box::new)),
        }
    }
}

/// Why the profile gives nothing for a variable: it was refused before anything was minted.
fn no_variable(refused: Failure, profile: &ProfileName) -> Failure {
    if !refused.is(Reason::KindMismatch) {
        return refused;
    }
    Failure::of(Reason::InputInvalid)
        .fact("profile", profile.as_str())
        .fact("problem", "it gives a certificate, which does not go into a variable")
        .next("leave out its --env: certificate and key are files")
}
