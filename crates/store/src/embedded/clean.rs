//! Takes away what is over: a walk around the whole table, a few entries at a time, inside the writer's
//! batches.
//!
//! An entry goes by its own end and by nothing else; an index entry never because a record is missing. The moment is
//! noted with it: where the clock goes back behind that, what went may still count. An entry stays for some time after its
//! end, so that a clock that was ahead a little loses none.

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::defaults::KEPT_LONGER_MS;
use mayfly_domain::{DimKey, EvidenceHash, UnixMillis};
use mayfly_lease::StoreError;
use mayfly_lease::feed::UsageCount;

use super::layout as at;
use super::ledger::Work;

/// Looks at `budget` entries after `place` and removes those that are over; returns how many, and moves
/// the place. At the end of the table the walk begins anew.
pub(super) fn round(
    work: &mut Work<'_, '_>,
    place: &mut Vec<u8>,
    budget: usize,
) -> Result<usize, StoreError> {
    let now = work.now();
    let mut over: Vec<Vec<u8>> = Vec::new();
    let (mut seen, mut last) = (0, Vec::new());
    work.ledger.walk(place, &[u8::MAX], |key, value| {
        seen += 1;
        // What can't be read is left for whoever asks for it.
        if ends(key, value).ok().flatten().is_some_and(|end| end <= now) {
            over.push(key.to_vec());
        }
        if seen >= budget {
            last = key.to_vec();
            last.push(0);
        }
        Ok(seen < budget)
    })?;
    *place = last;
    if over.is_empty() {
        return Ok(0);
    }
    work.write(|ledger| {
        ledger.forgets()?;
        for key in &over {
            match key.split_first() {
                Some((&at::INDEX, rest)) => {
                    let mut r = Reader::new("index key", rest);
                    let (along, mode) = (DimKey(r.array()?), r.u8()?);
                    let (expires, id) = at::time_and_lease(key)?;
                    ledger.drop_index(along, id, mode, expires)?;
                }
                Some((&at::PARTITION, _)) => {
                    let (expires, id) = at::time_and_lease(key)?;
                    ledger.drop_partition(id, expires)?;
                }
                _ => ledger.remove(key)?,
            }
        }
        Ok(over.len())
    })
}

/// When an entry may go; none where it never may.
fn ends(key: &[u8], value: &[u8]) -> Result<Option<UnixMillis>, Malformed> {
    let end = match key.first() {
        Some(&(at::RECORD | at::JOB | at::FOLLOWER)) => at::kept(value)?.0,
        Some(&(at::USAGE | at::USAGE_ITEMS)) => UsageCount::kept_until(at::used_day(key)?),
        Some(&at::MARK) => mayfly_lease::Mark::decode(value)?.until,
        Some(&at::USED) => UnixMillis(at::number(value)?),
        Some(&at::BINDING) => mayfly_lease::transition::Binding::decode(value)?.until,
        Some(&at::JOIN) => mayfly_lease::JoinRecord::decode(EvidenceHash([0; 32]), value)?.keep_until(),
        Some(&at::TASK) => mayfly_lease::TaskRecord::decode(value)?.keep_until,
        Some(&at::GATE) => {
            let gate = mayfly_lease::gate::decode(value)?.1;
            let block = gate.block.map(|b| b.until.unwrap_or(at::FOR_EVER));
            gate.fence_until.max(block.unwrap_or_default())
        }
        Some(&at::BUCKET) => UnixMillis(at::number(value)?.div_ceil(1_000)),
        // An index entry ends nothing, and mints look at those that are over: it stays no longer.
        Some(&(at::INDEX | at::PARTITION)) => return Ok(Some(at::time_and_lease(key)?.0)),
        _ => return Ok(None),
    };
    Ok((end != at::FOR_EVER).then_some(end.plus(KEPT_LONGER_MS)))
}
