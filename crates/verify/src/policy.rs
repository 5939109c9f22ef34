//! Judging what a request wants by the acceptor's policies, in its own process.
//!
//! The policies come with the feed, in each session before anything of it counts, and obey its freshness. Must never
//! decide by policies that can't be read, nor about what a credential does not say.

use mayfly_domain::{Binding, PolicyId, Reason, Refusal};
use mayfly_policy::{RequestAsk, RequestEngine, RequestFacts};
use mayfly_proto::v1 as pb;

use crate::judged::{Judged, Kind};
use crate::verifier::{Shared, Verifier};

/// What was sent last.
#[derive(Debug)]
pub(crate) enum Policies {
    /// Decides.
    Engine(Box<RequestEngine>),
    /// A broker of another version sent what can't be read here: nothing is decided by it.
    Unreadable,
}

impl Policies {
    /// What was sent, unless it is what is held already.
    pub(crate) fn read(sent: &pb::RequestPolicies, held: Option<&Self>) -> Option<Self> {
        if let Some(Self::Engine(held)) = held
            && held.policies().schema == sent.schema
            && held.policies().policies == sent.policies
        {
            return None;
        }
        Some(match RequestEngine::new(&sent.schema, &sent.policies) {
            Ok(engine) => Self::Engine(Box::new(engine)),
            Err(errors) => {
                let first = errors.first().map(ToString::to_string).unwrap_or_default();
                tracing::error!(error = %first, "the policies that judge requests can't be read");
                Self::Unreadable
            }
        })
    }
}

impl Verifier {
    /// Judges what a request wants by the policies that judge requests, with a credential that was accepted for it by
    /// [`Verifier::check_token`]; the policies in observe mode that would have refused it. The verifier must have been
    /// made [`with_policies`](crate::Builder::with_policies).
    ///
    /// # Errors
    /// Why it is not permitted: `INSUFFICIENT_SCOPE`, `ACTION_UNKNOWN`, `OUTSIDE_INTENT`, `POLICY_DENIED`; whatever a check
    /// of the credential would refuse by now; [`Reason::NeedsBroker`] where the credential does not say what the policies
    /// look at, as a certificate does not say its owners and intent.
    pub fn check_request(&self, judged: &Judged, ask: &RequestAsk) -> Result<Vec<PolicyId>, Refusal> {
        let decided = self.shared().request(judged, ask);
        if let Err(refusal) = &decided {
            self.metrics().refuse(refusal.reason);
        }
        decided
    }
}

impl Shared {
    fn request(&self, judged: &Judged, ask: &RequestAsk) -> Result<Vec<PolicyId>, Refusal> {
        let needs_broker = |what| Refusal::new(Reason::NeedsBroker, what);
        let held = self.policies.load();
        let decision = match held.as_deref() {
            Some(Policies::Engine(engine)) => {
                let (Some(owners), Some(task), Some(intent)) = (&judged.owners, &judged.task, &judged.intent)
                else {
                    return Err(needs_broker("the credential does not say its owners, task and intent"));
                };
                let facts = RequestFacts {
                    workload: &judged.workload,
                    owners,
                    lease: judged.credential.lease,
                    task,
                    profile: judged.profile.as_ref(),
                    intent,
                    scopes: &judged.scopes,
                    key: judged.key.as_ref(),
                    binding: binding(judged),
                    at: self.clock.now(),
                };
                engine.judge(&facts, ask)
            }
            Some(Policies::Unreadable) => return Err(needs_broker("the policies can't be read here")),
            None if self.wishes.policies => return Err(Reason::AcceptorNotFresh.into()),
            None => return Err(needs_broker("the verifier was made without policies")),
        };
        // Freshness last: what was decided by must have been in force until then.
        self.judge(judged)?;
        decision.answer.map(|()| decision.observed)
    }
}

/// How a credential is bound, where it says so: a token with a key may be bound by proofs or by a certificate.
fn binding(judged: &Judged) -> Option<Binding> {
    match (judged.kind, judged.key) {
        (Kind::Certificate, _) => Some(Binding::Mtls),
        (Kind::Token, None) => Some(Binding::Bearer),
        (Kind::Token, Some(_)) => None,
    }
}
