//! Evidence, subjects and tasks as the scripts take them.

use mayfly_domain::codec::Malformed;
use mayfly_domain::{DimKey, Intent, Subject};
use mayfly_lease::command::{EvidenceUse, TaskPlan};
use mayfly_lease::{StoreError, gate, task};

use super::keys::{self, Keys};
use super::pack::Pack;

/// A pair that a lease carries, or a subject whose block refuses: `observe` in `scripts/evidence.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) key: DimKey,
    pub(super) fence: FenceFrom,
    /// The position among the command's subjects.
    pub(super) position: Option<usize>,
}

/// Where the fence of a pair comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FenceFrom {
    /// The fence that stands now.
    Present,
    /// What the evidence observed.
    Evidence,
    /// The parent carries it.
    Parent(u64),
}

/// The subjects of a command without a parent.
pub(super) fn carried(subjects: &[Subject], evidence: Option<&EvidenceUse>) -> Vec<Carried> {
    let observes = |s: &Subject| evidence.is_some_and(|e| e.observes.contains(s));
    let all = subjects.iter().enumerate().map(|(n, subject)| Carried {
        key: subject.key(),
        fence: if observes(subject) { FenceFrom::Evidence } else { FenceFrom::Present },
        position: Some(n),
    });
    all.collect()
}

/// Writes the list in the order of its keys, placing each gate.
pub(super) fn pack_carried(list: &mut [Carried], keys: &mut Keys) -> Vec<u8> {
    list.sort_by_key(|c| c.key);
    let mut out = Pack::default();
    for c in list {
        let (kind, fence) = match c.fence {
            FenceFrom::Present => (0, 0),
            FenceFrom::Evidence => (1, 0),
            FenceFrom::Parent(fence) => (2, fence),
        };
        let position = c.position.and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX);
        out = out.bytes(&c.key.0).u8(keys.place(keys::gate(c.key))).u8(kind).u8(position).u48(fence);
    }
    out.done()
}

/// Flag: one mint uses it up, and its join token stands behind its binding.
const SINGLE_USE: u8 = 2;

/// Evidence, placing its gates and bindings.
#[derive(Debug, Default)]
pub(super) struct Presented {
    /// What `present` in `scripts/evidence.lua` takes.
    pub(super) packed: Vec<u8>,
    /// The place of the first binding.
    pub(super) binding_at: u8,
    /// The words of its own gate, where it is new.
    pub(super) tail: Vec<u8>,
}

pub(super) fn present(evidence: Option<&EvidenceUse>, keys: &mut Keys) -> Result<Presented, Malformed> {
    let Some(e) = evidence else { return Ok(Presented::default()) };
    let subject = e.subject();
    let own = keys.place(keys::gate(subject.key()));
    let mut observes: Vec<DimKey> = e.observes.iter().map(Subject::key).collect();
    observes.sort_unstable();
    observes.dedup();
    let binding_at = keys.push(keys::binding(e.hash));
    let alias = e.alias.filter(|alias| *alias != e.hash && !e.single_use);
    if let Some(alias) = alias {
        keys.push(keys::binding(alias));
    }
    if e.single_use {
        keys.push(keys::join(e.hash));
    }
    let mut packed = Pack::default()
        .bytes(e.key.as_bytes())
        .time(e.issued_at)
        .time(e.until)
        .u8(u8::from(e.supersede) | if e.single_use { SINGLE_USE } else { 0 })
        .u8(1 + u8::from(alias.is_some()))
        .u8(own)
        .u8(u8::try_from(observes.len()).unwrap_or(u8::MAX));
    for key in observes {
        packed = packed.bytes(&key.0).u8(keys.place(keys::gate(key)));
    }
    Ok(Presented { packed: packed.done(), binding_at, tail: gate::encode_tail(&subject, None)? })
}

/// A task to join or open: what `join` in `scripts/join.lua` takes, and the body.
pub(super) fn pack_task(plan: &TaskPlan, intent: Option<&Intent>) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let unwritable = |_| Malformed { what: "task record", why: "body can't be written" };
    // A body begins with its id and workload. Both are those of a stored one that may be joined, so that its
    // intent stands at the same place.
    let before = postcard::to_allocvec(&(&plan.body.id, &plan.body.workload)).map_err(unwritable)?;
    let intent = match intent {
        Some(intent) => postcard::to_allocvec(&Some(intent)).map_err(unwritable)?,
        None => Vec::new(),
    };
    let owner = Subject::Workload(plan.body.workload.clone()).key();
    let packed = Pack::default()
        .u64(plan.window.as_millis())
        .u64(plan.keep_ms)
        .bytes(&owner.0)
        .u16(before.len())
        .bytes(&intent)
        .done();
    Ok((packed, task::encode_body(&plan.body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_domain::{SpiffeId, TaskId, Ttl};
    use mayfly_lease::task::TaskBody;

    #[test]
    fn a_bodys_intent_stands_where_the_script_looks() {
        let intent = Intent::parse("deploy:payments").unwrap();
        for reason in [None, Some(mayfly_domain::TaskReason::parse("why").unwrap())] {
            let body = TaskBody {
                id: TaskId::parse("gh-1").unwrap(),
                workload: SpiffeId::parse("spiffe://example.org/ci/x").unwrap(),
                intent: Some(intent.clone()),
                reason,
                shared: true,
            };
            let plan = TaskPlan { body, window: Ttl::constant(60), keep_ms: 1 };
            let (packed, body) = pack_task(&plan, Some(&intent)).unwrap();
            let at = usize::from(u16::from_be_bytes([packed[32], packed[33]]));
            assert!(body[at..].starts_with(&packed[34..]));
            assert_eq!(body[at], 1);
            let none = TaskPlan { body: TaskBody { intent: None, ..plan.body }, ..plan };
            assert_eq!(pack_task(&none, None).unwrap().1[at], 0);
        }
    }
}
