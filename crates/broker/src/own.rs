//! Evidence of Mayfly's own making: a live workload certificate, and a join token.
//!
//! Both are judged by the store, now. Must never say who somebody is by what the evidence says: a certificate's lease and
//! a join token's record do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mayfly_attest::{
    Attestor, Challenge, Evidence, Judged, Known, MtlsCertificate, Parent, Shown, TaskClaim,
};
use mayfly_domain::{CredentialKind, JoinToken, Reason, Refusal, Thumbprint, Ttl, UnixMillis};
use mayfly_lease::{CheckCommand, JoinState, LeaseRecord, LeaseStore};

tokio::task_local! {
    /// The lease that the certificate of this call was judged by: a renewal needs it, and asks the store no second time.
    static LOOKED_AT: RefCell<Option<LeaseRecord>>;
}

/// Runs `work` and gives the lease that a certificate was judged by in it.
pub(crate) async fn looking<T>(work: impl Future<Output = T>) -> (T, Option<LeaseRecord>) {
    LOOKED_AT
        .scope(RefCell::default(), async {
            let done = work.await;
            let looked_at = LOOKED_AT.with(|lease| lease.take());
            (done, looked_at)
        })
        .await
}

/// Judges live certificates and join tokens.
pub struct OwnAttestor {
    store: Arc<dyn LeaseStore>,
    lineage: Ttl,
}

impl std::fmt::Debug for OwnAttestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnAttestor").field("store", &self.store.kind()).finish_non_exhaustive()
    }
}

impl OwnAttestor {
    /// Judges by `store`. `lineage`: how long a certificate may be renewed, and so the window of a service's task.
    pub fn new(store: Arc<dyn LeaseStore>, lineage: Ttl) -> Self {
        Self { store, lineage }
    }

    /// Judges a certificate that came with a call signed by `caller`.
    ///
    /// A renewal that changed the key may have lost its answer: then the workload has the lease's key and no
    /// certificate for it. So a certificate that its lease left behind counts where the call itself proves the
    /// lease's key; without that, a lost answer would leave the workload with neither.
    async fn live(&self, shown: &MtlsCertificate, caller: Thumbprint) -> Result<Known, Refusal> {
        let command =
            CheckCommand { id: shown.credential.lease, observation: Some(shown.observation.clone()) };
        let checked = self.store.check(&command).await.map_err(Refusal::from)?;
        let record = checked.record;
        let no = |why: &'static str| Refusal::new(Reason::CertificateNotAllowed, why);
        let body = &record.body;
        if body.kind != CredentialKind::X509 || body.workload != shown.id {
            return Err(no("its lease is another's"));
        }
        let proven = body.key == shown.key || body.key == caller;
        if !proven || shown.credential.counter > record.counter {
            return Err(no("its lease has another key by now"));
        }
        let (Some(task), Some(x509)) = (body.task.clone(), &body.x509) else {
            return Err(no("its lease is no certificate's"));
        };
        let known = Known {
            kind: "mtls",
            workload: body.workload.clone(),
            owners: body.owners.clone(),
            rule: body.rule.clone(),
            environment: x509.environment.clone(),
            tags: x509.tags.clone(),
            task: TaskClaim { id: task, window: self.lineage, window_max: self.lineage, shared: false },
            shown: None,
            parent: Some(Parent {
                lease: record.id,
                key: body.key,
                observation: record.observation.clone(),
                expires: record.expires,
                signers: [shown.signer, record.signer],
                keys_version: checked.keys_version,
            }),
        };
        // Where nobody asked for it, it is not kept.
        let _ = LOOKED_AT.try_with(|looked_at| looked_at.replace(Some(record)));
        Ok(known)
    }

    async fn joined(&self, token: &JoinToken, now: UnixMillis) -> Result<Known, Refusal> {
        let unknown = |why: &'static str| Refusal::new(Reason::JoinTokenUnknown, why);
        let found = self.store.join(token.hash()).await.map_err(Refusal::from)?;
        let join = found.ok_or_else(|| unknown("there is no such token"))?;
        match join.state {
            JoinState::Withdrawn => return Err(unknown("it was withdrawn")),
            JoinState::Open if now >= join.expires => return Err(unknown("it has expired")),
            // Whose it is by now is for the mint's own step to say.
            JoinState::Open | JoinState::Used(_) => {}
        }
        Ok(Known {
            kind: "join",
            workload: join.workload,
            owners: join.owners,
            rule: None,
            environment: join.environment,
            tags: BTreeMap::new(),
            task: TaskClaim {
                id: join.id.task()?,
                window: self.lineage,
                window_max: self.lineage,
                shared: false,
            },
            shown: Some(Shown { hash: join.hash, issued_at: join.created, expires: join.expires }),
            parent: None,
        })
    }
}

#[async_trait]
impl Attestor for OwnAttestor {
    async fn verify(
        &self,
        evidence: &Evidence,
        challenge: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal> {
        let known = match evidence {
            Evidence::Mtls(shown) => self.live(shown, challenge.key).await?,
            Evidence::Join(token) => self.joined(token, now).await?,
            Evidence::Oidc(_) | Evidence::X509(_) => {
                return Err(Refusal::new(Reason::EvidenceMalformed, "it is an issuer's, not Mayfly's own"));
            }
        };
        Ok(Judged::Known(Box::new(known)))
    }
}
