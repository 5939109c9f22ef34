//! Join tokens: made, used by one mint, taken back.

use mayfly_domain::{EvidenceHash, Fence, LeaseId, UnixMillis};

use super::evidence::{Binding, Presented};
use super::{No, Step, View, Write};
use crate::command::EvidenceUse;
use crate::join::{JoinRecord, JoinState};

/// Stores a join token with a binding that belongs to no key yet: what the token vouches for is observed now,
/// so that a revocation from here on ends what would be minted with it.
///
/// # Errors
/// [`No::RaceLost`] where the token is there already, and whatever the view can't read.
pub fn put_join<V: View>(view: &V, record: &JoinRecord, now: UnixMillis) -> Result<Step<()>, V::Error>
where
    V::Error: From<mayfly_domain::codec::Malformed>,
{
    if standing(view, record.hash, now)?.is_some() {
        return Err(No::RaceLost.into());
    }
    let mut pairs = Vec::new();
    for subject in record.observes()? {
        let fence = view.gate(subject.key())?.and_then(|g| g.standing_fence(now));
        pairs.push((subject.key(), fence.unwrap_or(Fence::NONE)));
    }
    pairs.sort_unstable();
    pairs.dedup();
    let binding = Binding { key: None, superseded: 0, bound_at: now, until: record.keep_until(), pairs };
    Ok(((), vec![Write::Binding(record.hash, binding), Write::Join(Box::new(record.clone()))]))
}

/// Takes a join token back; one that was used or withdrawn before stays as it is. Returns it as it stands.
///
/// # Errors
/// Whatever the view can't read.
pub fn withdraw_join<V: View>(
    view: &V,
    hash: EvidenceHash,
    now: UnixMillis,
) -> Result<Step<Option<JoinRecord>>, V::Error> {
    let Some(mut record) = standing(view, hash, now)? else { return Ok((None, Vec::new())) };
    let mut writes = Vec::new();
    if record.state == JoinState::Open {
        record.state = JoinState::Withdrawn;
        writes.push(Write::Join(Box::new(record.clone())));
    }
    Ok((Some(record), writes))
}

/// Presents single-use evidence. `mints`: nothing else may use it up.
pub(super) fn present_once<V: View>(
    view: &V,
    evidence: &EvidenceUse,
    mints: bool,
    now: UnixMillis,
) -> Result<Presented, V::Error> {
    let record = standing(view, evidence.hash, now)?;
    let binding = view.binding(evidence.hash)?.filter(|b| now < b.until);
    let (Some(record), Some(mut binding)) = (record, binding) else {
        return Err(No::EvidenceUnknown.into());
    };
    match binding.key {
        Some(key) if key == evidence.key => return Err(No::EvidenceUsed.into()),
        Some(_) => return Err(No::EvidenceOfOtherKey.into()),
        None => {}
    }
    // Made by the store's own clock: no skew is due.
    if binding.bound_at < view.generation()?.started {
        return Err(No::EvidencePredatesGeneration.into());
    }
    if !mints || record.state != JoinState::Open || now >= record.expires {
        return Err(No::EvidenceUnknown.into());
    }
    binding.key = Some(evidence.key);
    let writes = vec![Write::Binding(evidence.hash, binding.clone())];
    Ok(Presented { binding: Some(binding), first: true, moved: None, join: Some(record), writes })
}

/// The join token as the mint of `lease` leaves it.
pub(super) fn used(mut record: JoinRecord, lease: LeaseId) -> Write {
    record.state = JoinState::Used(lease);
    Write::Join(Box::new(record))
}

fn standing<V: View>(view: &V, hash: EvidenceHash, now: UnixMillis) -> Result<Option<JoinRecord>, V::Error> {
    Ok(view.join(hash)?.filter(|record| now < record.keep_until()))
}
