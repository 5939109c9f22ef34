//! Past the bound: a broker is asked about each request, and again and again about what goes on.
//!
//! Must never take anything but a broker's yes for one.

use std::sync::Arc;
use std::time::Duration;

use mayfly_client::{AcceptorClient, Failure};
use mayfly_credential::{Usage, token};
use mayfly_domain::{
    Audience, CredentialId, Intent, LeaseId, Owner, Owners, ProfileName, Reason, Refusal, Scope, Scopes,
    Secret, SpiffeId, TaskId, Thumbprint, UnixMillis,
};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::check_request::Credential;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::builder::PastBound;
use crate::check::grants;
use crate::guards::Ended;
use crate::judged::{Judged, Kind, Request};
use crate::verifier::{Life, Shared, Verifier};

/// How long a request waits for one broker's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The broker that answered last.
#[derive(Debug, Default)]
pub(crate) struct Asking(Mutex<(usize, Option<AcceptorClient>)>);

impl Verifier {
    /// As [`Verifier::check_token`]; where that can't decide and the verifier was made so, a broker is asked.
    ///
    /// # Errors
    /// Why it is not accepted; [`Reason::AcceptorNotFresh`] where no broker answers either.
    pub async fn check_token_or_ask(
        &self,
        token: &str,
        request: &Request<'_>,
    ) -> Result<Arc<Judged>, Refusal> {
        let refusal = match self.shared().token(token, request) {
            Err(refusal) if self.asks(&refusal) => refusal,
            decided => return self.counted(decided),
        };
        self.counted(self.ask_token(token, request, refusal).await)
    }

    /// As [`Verifier::check_certificate`]; where that can't decide and the verifier was made so, a broker is asked.
    ///
    /// # Errors
    /// As [`Verifier::check_token_or_ask`].
    pub async fn check_certificate_or_ask(&self, leaf: &[u8], usage: Usage) -> Result<Arc<Judged>, Refusal> {
        let refusal = match self.shared().certificate(leaf, usage) {
            Err(refusal) if self.asks(&refusal) => refusal,
            decided => return self.counted(decided),
        };
        let question = pb::CheckRequest {
            credential: Some(Credential::Certificate(leaf.to_vec())),
            ..Default::default()
        };
        let answer = self.ask(question, refusal).await;
        self.counted(answer.and_then(|answer| read(&answer, Kind::Certificate, None, None)).map(Arc::new))
    }

    /// Waits until a token that only a broker has judged counts no more: it has expired, a broker that is asked once in
    /// each bound says so, or none answers.
    pub(crate) async fn asked_until_over(&self, token: &Secret<String>, judged: &Judged) -> Ended {
        let shared = self.shared();
        let asks = async {
            loop {
                let left = judged.expires.0.saturating_sub(shared.clock.now().0);
                sleep(Duration::from_millis(left.min(u64::from(shared.wishes.bound_ms)))).await;
                if shared.clock.now() >= judged.expires {
                    return Reason::LeaseExpired;
                }
                // Its key was proven when this began.
                let question = about(token.expose(), judged.key.as_ref());
                if let Err(refusal) = self.ask(question, Reason::AcceptorNotFresh.into()).await {
                    return refusal.reason;
                }
            }
        };
        let reason = tokio::select! {
            reason = asks => reason,
            () = shared.comes_to(Life::Leaves) => Reason::AcceptorNotFresh,
        };
        Ended { reason }
    }

    fn asks(&self, refusal: &Refusal) -> bool {
        refusal.reason == Reason::AcceptorNotFresh && self.shared().wishes.past_bound == PastBound::AskOnline
    }

    async fn ask_token(
        &self,
        token: &str,
        request: &Request<'_>,
        refusal: Refusal,
    ) -> Result<Arc<Judged>, Refusal> {
        let shared = self.shared();
        // What it says counts where the broker says that the token does.
        let (audience, key) = token::said(token).ok_or(Reason::TokenMalformed)?;
        // The broker knows what the acceptor may take, and not what this process takes of that.
        if !shared.wishes.audiences.is_empty() && !shared.wishes.audiences.contains(&audience) {
            return Err(Reason::TokenAudience.into());
        }
        if request.dpop.is_none() && key.is_some() && key.as_ref() != request.peer {
            return Err(Reason::ProofMissing.into());
        }
        shared.nonce_is_good(request.dpop)?;
        // Never by its lease: keys that were withdrawn while nothing was heard are known to the broker alone.
        let question = pb::CheckRequest {
            method: request.method.to_owned(),
            url: request.url.to_owned(),
            dpop: request.dpop.unwrap_or_default().to_owned(),
            ..about(token, request.peer)
        };
        let judged = read(&self.ask(question, refusal).await?, Kind::Token, Some(audience), key)?;
        grants(&judged.scopes, request.scopes)?;
        Ok(Arc::new(judged))
    }

    /// Asks brokers in turn until one answers.
    async fn ask(&self, question: pb::CheckRequest, refusal: Refusal) -> Result<pb::CheckResponse, Refusal> {
        let shared = self.shared();
        shared.metrics.ask();
        for _ in 0..shared.dial.brokers().max(1) {
            let asked = async {
                let client = shared.asked().await?;
                client.check(question.clone()).await
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) if answer.accepted => return Ok(answer),
                Ok(Ok(answer)) => {
                    let reason = Reason::parse(&answer.reason).unwrap_or(Reason::Internal);
                    return Err(Refusal::new(reason, "by the broker that was asked"));
                }
                Ok(Err(failure)) => {
                    tracing::warn!(error = %failure, "a broker gives no judgement");
                    shared.asking.turn();
                }
                Err(_) => shared.asking.turn(),
            }
        }
        Err(refusal)
    }
}

impl Asking {
    fn turn(&self) {
        let mut asking = self.0.lock();
        *asking = (asking.0.wrapping_add(1), None);
    }
}

impl Shared {
    async fn asked(&self) -> Result<AcceptorClient, Failure> {
        let (turn, client) = self.asking.0.lock().clone();
        if let Some(client) = client {
            return Ok(client);
        }
        let client = AcceptorClient::over(self.dial.dial(turn).await?);
        let mut asking = self.asking.0.lock();
        if asking.0 == turn {
            asking.1 = Some(client.clone());
        }
        Ok(client)
    }
}

/// A question about a token; `peer` is the key that was seen proven here, where the broker has not seen it.
fn about(token: &str, peer: Option<&Thumbprint>) -> pb::CheckRequest {
    pb::CheckRequest {
        credential: Some(Credential::Token(token.to_owned())),
        peer_key: peer.map(ToString::to_string).unwrap_or_default(),
        ..Default::default()
    }
}

fn read(
    answer: &pb::CheckResponse,
    kind: Kind,
    audience: Option<Audience>,
    key: Option<Thumbprint>,
) -> Result<Judged, Refusal> {
    let no = |_| Refusal::new(Reason::Internal, "the broker's answer can't be read");
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let owners: Result<Vec<_>, _> = answer.owners.iter().map(|owner| Owner::parse(owner)).collect();
    let scopes: Result<Vec<_>, _> = answer.scopes.iter().map(|scope| Scope::parse(scope)).collect();
    Ok(Judged {
        kind,
        credential: CredentialId { lease: LeaseId::parse(&answer.lease).map_err(no)?, counter: 0 },
        workload: SpiffeId::parse(&answer.workload).map_err(no)?,
        owners: Some(Owners::new(owners.map_err(no)?).map_err(no)?),
        task: some(&answer.task).map(|task| TaskId::parse(&task)).transpose().map_err(no)?,
        intent: some(&answer.intent).map(|intent| Intent::parse(&intent)).transpose().map_err(no)?,
        profile: some(&answer.profile).map(|name| ProfileName::parse(&name)).transpose().map_err(no)?,
        scopes: Scopes::new(scopes.map_err(no)?).map_err(no)?,
        audience,
        expires: UnixMillis(answer.expires_ms),
        observation: None,
        key,
        signer: None,
    })
}
