//! What a revocation covers, and what whoever asks for it may not have meant.

use mayfly_domain::{AcceptorMode, Block, Gate, LeaseState, Owner, Subject, UnixMillis};
use mayfly_lease::job::ExposureCount;
use mayfly_lease::{JobId, LeaseRecord, RevokeWhat};

use crate::broker::Broker;
use crate::call::random;
use crate::staff::Operator;

/// How live leases are checked by whoever accepts them.
pub(super) fn count<'a>(leases: impl IntoIterator<Item = &'a LeaseRecord>, now: UnixMillis) -> ExposureCount {
    let mut exposure = ExposureCount::default();
    let live = |r: &&LeaseRecord| r.state == LeaseState::Active && now < r.expires;
    for record in leases.into_iter().filter(live) {
        match record.body.acceptors {
            AcceptorMode::Online => exposure.online += 1,
            AcceptorMode::Feed => exposure.feed += 1,
            AcceptorMode::Offline => exposure.offline += 1,
        }
        exposure.last_ends = exposure.last_ends.max(record.expires);
    }
    exposure
}

/// What a new block takes the place of, where that is not the same again.
fn replaced(before: Option<&Block>, next: &Block) -> Option<String> {
    let before = before?;
    let was = match (before.until, next.until) {
        (Some(_), None) => "it had an end, and now has none: it stands until it is lifted",
        (None, Some(_)) => "it had no end, and now ends by itself",
        (Some(was), Some(now)) if now < was => "it now ends earlier",
        _ => return None,
    };
    Some(format!("a block by {} (\"{}\") was replaced: {was}", before.author, before.reason))
}

/// Whether a subject is the operator's own: what is revoked along it ends its certificate.
fn is_own(operator: &Operator, subject: &Subject) -> bool {
    let own = Owner::parse(&format!("user:{}", operator.name)).ok();
    matches!((subject, own), (Subject::Owner(owner), Some(own)) if *owner == own)
}

fn own_warning(blocked: bool) -> String {
    if blocked {
        "this is you: your certificate has ended, and you get no new one until another operator lifts the block"
    } else {
        "this is you: your certificate has ended; get a new one: mayfly operator issue"
    }
    .to_owned()
}

impl Broker {
    /// The id of a revocation of this broker, which it knows again when the feed tells of it.
    pub(crate) fn revocation_id(&self) -> JobId {
        let id = JobId::new(self.clock().now(), &random());
        self.bus().making(id);
        id
    }

    /// What is told with a revocation. It never keeps one from being made.
    pub(super) async fn revoke_warnings(&self, operator: &Operator, what: &RevokeWhat) -> Vec<String> {
        let RevokeWhat::Subject { subject, block } = what else { return Vec::new() };
        let mut warnings = Vec::new();
        if let Some(block) = block {
            warnings.extend(replaced(self.standing_block(subject).await.as_ref(), block));
        }
        if is_own(operator, subject) {
            warnings.push(own_warning(block.is_some()));
        }
        warnings
    }

    /// What is told with a block.
    pub(super) async fn block_warnings(
        &self,
        operator: &Operator,
        subject: &Subject,
        block: &Block,
    ) -> Vec<String> {
        let mut warnings: Vec<String> =
            replaced(self.standing_block(subject).await.as_ref(), block).into_iter().collect();
        if is_own(operator, subject) {
            let text =
                "this is you: when your certificate ends you get no new one until another operator lifts it";
            warnings.push(text.to_owned());
        }
        warnings
    }

    async fn standing_block(&self, subject: &Subject) -> Option<Block> {
        let gates = self.leases().store().gates(&[subject.key()]).await.ok()?;
        let now: UnixMillis = self.clock().now();
        gates.first()?.as_ref().and_then(|gate: &Gate| gate.standing_block(now)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use mayfly_domain::TaskReason;

    use super::*;

    fn block(until: Option<u64>) -> Block {
        Block {
            reason: TaskReason::parse("laptop stolen").unwrap(),
            author: "alice".to_owned(),
            since: UnixMillis(1),
            until: until.map(UnixMillis),
        }
    }

    #[test]
    fn a_block_that_becomes_another_one_is_told() {
        for (before, next, told) in [
            (None, Some(9), None),
            (Some(Some(9)), None, Some("now has none")),
            (Some(None), Some(9), Some("ends by itself")),
            (Some(Some(9)), Some(8), Some("earlier")),
            (Some(Some(9)), Some(10), None),
            (Some(None), None, None),
        ] {
            let before = before.map(block);
            let is = replaced(before.as_ref(), &block(next));
            assert_eq!(is.is_some(), told.is_some(), "{before:?} {next:?}");
            if let (Some(is), Some(told)) = (is, told) {
                assert!(is.contains(told) && is.contains("alice") && is.contains("laptop stolen"), "{is}");
            }
        }
    }
}
