//! Who may follow the feed: acceptors whom a policy permits it.

use std::net::IpAddr;

use cedar_policy::{Entities, Entity};
use mayfly_domain::{AcceptorName, Owner, PolicyId, Reason, Refusal, Subject, UnixMillis};

use crate::authorized::Target;
use crate::decision::Decision;
use crate::engine::{Engine, Verdict};
use crate::facts::Proven;
use crate::words::{self, WordsError};

/// The action's id in policies.
pub(crate) const FOLLOW: &str = "follow";

/// An acceptor, as far as policies may ask of it.
#[derive(Debug, Clone)]
pub struct AcceptorPrincipal {
    /// Who.
    pub name: AcceptorName,
    /// Who answers for it.
    pub owner: Owner,
    /// Where the call came from.
    pub peer: Option<IpAddr>,
    /// The RFC 7638 thumbprint of the certificate's key.
    pub key: String,
    /// When.
    pub at: UnixMillis,
}

impl Engine {
    /// Permits an acceptor to follow the feed of the trust domain; the policies that decided. No proof: nothing can be
    /// minted or revoked with it.
    ///
    /// # Errors
    /// `FOLLOW_NOT_ALLOWED` where no policy permits it, one forbids it, or one fails.
    pub fn follow(&self, acceptor: &AcceptorPrincipal) -> Result<Vec<PolicyId>, Refusal> {
        let verdict = self.judge_acceptor(acceptor)?;
        if verdict.allowed {
            return Ok(verdict.decided_by);
        }
        let what = format!("`{FOLLOW}` by acceptor `{}`", acceptor.name);
        let decision: Decision<()> = self.denied(Reason::FollowNotAllowed, &what, verdict);
        Err(decision.answer.err().unwrap_or_else(|| Reason::FollowNotAllowed.into()))
    }

    fn judge_acceptor(&self, acceptor: &AcceptorPrincipal) -> Result<Verdict, WordsError> {
        let domain = Target::Subject(Subject::Everything(self.trust_domain().clone()));
        let Some((resource, mut entities)) = self.words.target(&domain, |_| None) else {
            return Ok(Verdict { allowed: false, decided_by: Vec::new(), failed: Vec::new() });
        };
        let owner = words::uid(&self.words.owner, acceptor.owner.as_str());
        let uid = words::uid(&self.words.acceptor, acceptor.name.as_str());
        let principal = Entity::new_no_attrs(uid, [owner].into());
        let proven = Proven {
            attestation: "certificate",
            key: &acceptor.key,
            peer: acceptor.peer,
            at: acceptor.at,
            task: "",
        };
        let context = self.words.staff_context(&proven)?;
        let request = words::request(principal.uid(), self.words.action(FOLLOW), resource, context)?;
        entities.push(principal);
        let entities = words::with_entities(&Entities::empty(), entities)?;
        Ok(self.ask(&self.follow.policies, &request, &entities))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mayfly_domain::TrustDomain;

    use super::*;

    fn engine(policies: &str) -> Engine {
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let policies = [("acceptors.cedar".into(), policies.into())];
        Engine::load(domain, &[], &policies, Vec::new(), BTreeMap::new()).unwrap()
    }

    fn acceptor(name: &str, owner: &str) -> AcceptorPrincipal {
        AcceptorPrincipal {
            name: name.parse().unwrap(),
            owner: Owner::parse(owner).unwrap(),
            peer: Some([10, 0, 0, 7].into()),
            key: "thumbprint".into(),
            at: UnixMillis(1_800_000_000_000),
        }
    }

    fn why(engine: &Engine, name: &str, owner: &str) -> Option<Reason> {
        engine.follow(&acceptor(name, owner)).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn nobody_follows_without_a_permit() {
        let denied = Some(Reason::FollowNotAllowed);
        let none = engine("");
        assert_eq!(why(&none, "api", "team:deploy"), denied);
        let engine = engine(
            r#"@id("deploy") permit (
                 principal in Mayfly::Owner::"team:deploy",
                 action == Mayfly::Action::"follow",
                 resource == Mayfly::TrustDomain::"acme.internal"
               ) when { context.proven.peer.isInRange(ip("10.0.0.0/8")) };
               @id("not-this-one") forbid (
                 principal == Mayfly::Acceptor::"old-api", action == Mayfly::Action::"follow", resource
               );
               @id("for-operators") permit (
                 principal is Mayfly::Operator, action == Mayfly::Action::"list", resource
               );"#,
        );
        assert_eq!(why(&engine, "api", "team:deploy"), None);
        assert_eq!(why(&engine, "api", "team:other"), denied);
        assert_eq!(why(&engine, "old-api", "team:deploy"), denied);
        let elsewhere = AcceptorPrincipal { peer: None, ..acceptor("api", "team:deploy") };
        assert!(engine.follow(&elsewhere).is_err());
        assert_eq!(engine.follow(&acceptor("api", "team:deploy")).unwrap()[0].as_str(), "deploy");
    }

    #[test]
    fn a_permit_of_followers_is_no_policy_that_never_applies() {
        let engine = engine(
            r#"@id("followers") permit (
                 principal is Mayfly::Acceptor, action == Mayfly::Action::"follow", resource
               );"#,
        );
        assert_eq!(engine.lint(UnixMillis(0)), []);
    }
}
