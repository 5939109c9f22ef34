//! Status, and why something was decided.

use std::sync::atomic::Ordering;

use mayfly_domain::{Reason, Refusal, UnixMillis};
use mayfly_mint::TokenKeyInfo;
use mayfly_policy::OperatorAction;

use super::FollowerList;
use crate::broker::Broker;
use crate::call::Call;
use crate::feed::CanaryCounts;
use crate::staff::Operator;

/// What a broker says of itself.
#[derive(Debug, Clone)]
pub struct Status {
    /// When it started.
    pub started: UnixMillis,
    /// Its clock.
    pub now: UnixMillis,
    /// The kind of store.
    pub store: &'static str,
    /// Where it stands.
    pub standing: &'static str,
    /// The generation.
    pub generation: String,
    /// The store's clock less its own, in ms.
    pub clock_difference_ms: i64,
    /// Settings that could forget a revocation; accepted ones as `accepted:NAME`.
    pub risks: Vec<String>,
    /// When rules and policies were loaded.
    pub loaded: UnixMillis,
    /// Why the last reload was refused.
    pub reload_errors: Vec<String>,
    /// How many trust rules.
    pub rules: usize,
    /// How many profiles.
    pub profiles: usize,
    /// How many policies.
    pub policies: usize,
    /// Live leases.
    pub live_leases: u64,
    /// Sweeps that are not complete.
    pub open_sweeps: u64,
    /// Side effects that wait to be undone.
    pub undo_pending: u64,
    /// Leases whose records this broker could not read in lists, sweeps and undos.
    pub unreadable_leases: u64,
    /// Audit records that wait in the reserve.
    pub audit_deferred: u64,
    /// Whether the audit file can't be written: mints are refused.
    pub audit_deferring: bool,
    /// The feed's number, as far as this broker has applied it.
    pub feed_number: u64,
    /// Whether this broker is within its bound.
    pub feed_fresh: bool,
    /// Who follows the feed: brokers and acceptors.
    pub followers: usize,
    /// Of these, how many are within their bounds.
    pub followers_fresh: usize,
    /// What this broker's canaries have shown.
    pub canaries: CanaryCounts,
    /// The keys.
    pub keys: Vec<TokenKeyInfo>,
}

impl Broker {
    /// The status. Works while the store is away: what can't be read is zero then.
    ///
    /// # Errors
    /// Policy's refusal.
    pub async fn status(&self, call: &Call, operator: &Operator) -> Result<Status, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        let survey = self.survey();
        let survey = survey.as_ref().as_ref();
        let counts = self.leases().store().counts().await.unwrap_or_default();
        let FollowerList { followers: seen, number } = self.follower_list().await.unwrap_or_default();
        let (followers, now) = (seen.all, seen.now);
        let fresh = followers.iter().filter(|f| f.is_fresh(now, number)).count();
        let accepted = &self.settings().accepted_risks;
        let risks = survey.map_or_else(Vec::new, |s| {
            s.risks
                .iter()
                .map(|r| if accepted.contains(r) { format!("accepted:{r}") } else { r.clone() })
                .collect()
        });
        let running = self.running();
        let audit = self.audit().counters();
        Ok(Status {
            started: self.started(),
            now: self.clock().now(),
            store: self.leases().store().kind(),
            standing: self.standing().borrow().as_str(),
            generation: self
                .leases()
                .store()
                .generation()
                .map(|g| g.generation.to_string())
                .unwrap_or_default(),
            clock_difference_ms: survey.map_or(0, |s| s.clock_difference_ms),
            risks,
            loaded: running.loaded,
            reload_errors: self.reload_errors().to_vec(),
            rules: self.verifier().rules().rules().len(),
            profiles: running.engine.profiles().count(),
            policies: running.engine.policies().len(),
            live_leases: counts.live_leases,
            open_sweeps: counts.open_jobs.max(self.open_sweeps().load(Ordering::Relaxed)),
            undo_pending: counts.undo_pending,
            unreadable_leases: counts.unreadable,
            audit_deferred: audit.pending,
            audit_deferring: audit.deferring,
            feed_number: self.feed().position().map_or(0, |at| at.number),
            feed_fresh: self.feed().is_fresh(),
            followers: followers.len(),
            followers_fresh: fresh,
            canaries: self.feed().canaries(),
            keys: self.keys().token_keys().to_vec(),
        })
    }

    /// The audit records of a request, as JSON lines.
    ///
    /// # Errors
    /// `NOT_FOUND`, or policy's refusal.
    pub async fn why(&self, call: &Call, operator: &Operator, request: &str) -> Result<Vec<String>, Refusal> {
        self.permit(call, operator, OperatorAction::Audit, self.anything())?;
        let (path, wanted) = (self.settings().audit_file.clone(), request.to_owned());
        let read = tokio::task::spawn_blocking(move || mayfly_audit::query::by_request(&path, &wanted)).await;
        let records = match read {
            Ok(Ok(found)) => found.lines,
            Ok(Err(e)) => return Err(Refusal::new(Reason::AuditUnavailable, e.to_string())),
            Err(e) => return Err(Refusal::new(Reason::Internal, e.to_string())),
        };
        if records.is_empty() {
            return Err(Refusal::new(Reason::NotFound, "no audit record of this request here")
                .fact("request", mayfly_domain::text::shown(request)));
        }
        Ok(records)
    }
}
