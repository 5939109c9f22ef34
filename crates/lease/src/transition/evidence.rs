//! Evidence, its binding to a key, and what it observed.

use mayfly_domain::codec::{Malformed, Reader, put_u48};
use mayfly_domain::{DimKey, Fence, Gate, Subject, Thumbprint, UnixMillis};

use super::revoke::moved;
use super::{No, View, Write};
use crate::command::{EvidenceUse, Spend};
use crate::join::JoinRecord;

/// The binding of bearer evidence to the first key that presented it, with what it observed then. A join token's
/// is made with the token and belongs to no key yet.
///
/// # Layout (version 1, integers big-endian)
/// version (1), key changes (1), key (32, zeros for none), bound at ms (8), kept until ms (8), number of pairs (1), then
/// each pair: dimension key (16), fence (6); pairs ascending by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The key.
    pub key: Option<Thumbprint>,
    /// How often another key took over.
    pub superseded: u8,
    /// When it was first bound.
    pub bound_at: UnixMillis,
    /// Until when it is kept.
    pub until: UnixMillis,
    /// The fences that it observed: workload, owners, everything.
    pub pairs: Vec<(DimKey, Fence)>,
}

impl Binding {
    /// Writes the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, self.superseded];
        out.extend_from_slice(&self.key.map_or([0; 32], |key| *key.as_bytes()));
        out.extend_from_slice(&self.bound_at.0.to_be_bytes());
        out.extend_from_slice(&self.until.0.to_be_bytes());
        out.push(u8::try_from(self.pairs.len()).unwrap_or(u8::MAX));
        for (key, fence) in &self.pairs {
            out.extend_from_slice(&key.0);
            put_u48(&mut out, fence.value());
        }
        out
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("binding", bytes);
        if r.u8()? != 1 {
            return Err(r.malformed("unknown version"));
        }
        let superseded = r.u8()?;
        let key: [u8; 32] = r.array()?;
        let key = (key != [0; 32]).then_some(Thumbprint::from_bytes(key));
        let bound_at = UnixMillis(r.u64()?);
        let until = UnixMillis(r.u64()?);
        let count = r.u8()?;
        let mut pairs = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let key = DimKey(r.array()?);
            pairs.push((key, Fence::new(r.u48()?).map_err(|_| r.malformed("fence too large"))?));
        }
        r.finish()?;
        Ok(Self { key, superseded, bound_at, until, pairs })
    }

    /// What it observed of `key`. A subject that it did not know of counts as observed now, unless its
    /// fence moved at or after the binding.
    fn observed(&self, key: DimKey, current: Option<Fence>) -> Option<Fence> {
        match self.pairs.iter().find(|(k, _)| *k == key) {
            Some((_, fence)) => Fence::matches(current, *fence).then_some(*fence),
            None => {
                let fence = current.unwrap_or(Fence::NONE);
                (fence.value() < self.bound_at.0.max(1)).then_some(fence)
            }
        }
    }
}

/// Refuses a nonce that this key has spent.
pub(super) fn refuse_spent<V: View>(view: &V, spend: Spend, now: UnixMillis) -> Result<(), V::Error> {
    if view.used(spend.id)?.is_some_and(|until| now < until) {
        return Err(No::NonceUsed.into());
    }
    Ok(())
}

/// What presenting evidence comes to.
#[derive(Debug, Default)]
pub(super) struct Presented {
    /// The binding as it stands afterwards.
    pub binding: Option<Binding>,
    /// Whether this call made it.
    pub first: bool,
    /// The binding's own gate after this call moved its fence, since another key took the evidence over.
    pub moved: Option<(Subject, Gate)>,
    /// The join token that this call uses up.
    pub join: Option<JoinRecord>,
    /// The writes.
    pub writes: Vec<Write>,
}

impl Presented {
    /// The fence that a lease takes for `subject`: the evidence's where the evidence observes it, else the
    /// present one.
    pub(super) fn observed<V: View>(
        &self,
        view: &V,
        subject: &Subject,
        position: usize,
        evidence: Option<&EvidenceUse>,
        now: UnixMillis,
    ) -> Result<Fence, V::Error> {
        let key = subject.key();
        if let Some((_, gate)) = self.moved.as_ref().filter(|(moved, _)| moved.key() == key) {
            return Ok(gate.fence);
        }
        let current = view.gate(key)?.and_then(|g| g.standing_fence(now));
        match (&self.binding, evidence) {
            (Some(binding), Some(evidence)) if evidence.observes.contains(subject) => {
                binding.observed(key, current).ok_or_else(|| No::EvidencePredatesRevocation(position).into())
            }
            _ => Ok(current.unwrap_or(Fence::NONE)),
        }
    }
}

/// Presents bearer evidence with a key: binds it, finds it bound to this key, lets it be taken over, or
/// refuses. `takeover`: whether this call may take evidence over, or use it up, at all: a mint.
pub(super) fn present<V: View>(
    view: &V,
    evidence: Option<&EvidenceUse>,
    takeover: bool,
    now: UnixMillis,
) -> Result<Presented, V::Error> {
    let Some(evidence) = evidence else { return Ok(Presented::default()) };
    let generation = view.generation()?;
    if generation.may_have_lost(evidence.issued_at) {
        return Err(No::EvidencePredatesGeneration.into());
    }
    if evidence.single_use {
        return super::join::present_once(view, evidence, takeover, now);
    }
    let names = || std::iter::once(evidence.hash).chain(evidence.alias);
    let mut found: Option<Binding> = None;
    for name in names() {
        if let Some(binding) = view.binding(name)?.filter(|b| now < b.until) {
            if found.as_ref().is_some_and(|f| f.key != binding.key) {
                return Err(No::EvidenceOfOtherKey.into());
            }
            found.get_or_insert(binding);
        }
    }
    let Some(mut binding) = found else {
        let mut pairs = Vec::with_capacity(evidence.observes.len());
        for subject in &evidence.observes {
            let fence = view.gate(subject.key())?.and_then(|g| g.standing_fence(now));
            pairs.push((subject.key(), fence.unwrap_or(Fence::NONE)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let binding =
            Binding { key: Some(evidence.key), superseded: 0, bound_at: now, until: evidence.until, pairs };
        let writes = names().map(|n| Write::Binding(n, binding.clone())).collect();
        return Ok(Presented { binding: Some(binding), first: true, writes, ..Presented::default() });
    };
    binding.until = binding.until.max(evidence.until);
    if binding.key == Some(evidence.key) {
        let mut writes = Vec::new();
        for name in names() {
            if view.binding(name)?.is_none_or(|b| now >= b.until || b.until < evidence.until) {
                writes.push(Write::Binding(name, binding.clone()));
            }
        }
        let first = !writes.is_empty();
        return Ok(Presented { binding: Some(binding), first, writes, ..Presented::default() });
    }
    if !(takeover && evidence.supersede && binding.superseded < mayfly_domain::defaults::SUPERSEDE_MAX) {
        return Err(No::EvidenceOfOtherKey.into());
    }
    binding.key = Some(evidence.key);
    binding.superseded += 1;
    let subject = evidence.subject();
    let gate = moved(view.gate(subject.key())?.unwrap_or_default(), &generation, now);
    let own = Some((subject.clone(), gate.clone()));
    let mut writes = vec![Write::Gate(subject, gate)];
    writes.extend(names().map(|n| Write::Binding(n, binding.clone())));
    Ok(Presented { binding: Some(binding), first: true, moved: own, writes, ..Presented::default() })
}
