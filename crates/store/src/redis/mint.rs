//! Mints: one script, one round trip.

use mayfly_domain::{DimKey, Generation, Observation, Pair};
use mayfly_lease::command::{MintCommand, Minted, ancestor_key, index_keys, is_indexed};
use mayfly_lease::record::{LeaseRecord, encode_body};
use mayfly_lease::{StoreError, TaskRecord};

use super::RedisStore;
use super::evidence::{Carried, FenceFrom, carried, pack_carried, pack_task, present};
use super::keys::{self, Keys};
use super::pack::Pack;
use super::run::{Call, Lane};
use super::script::SCRIPTS;

const SIDE_EFFECT: u8 = 1;
const LINEAGE_LIMIT: u8 = 2;
const HAS_PARENT: u8 = 4;
const PARENT_OF_OTHER_GENERATION: u8 = 8;
/// What the acceptors' mode is multiplied with beside these.
const MODE_TIMES: u8 = 16;

impl RedisStore {
    pub(super) async fn do_mint(&self, command: &MintCommand) -> Result<Minted, StoreError> {
        let generation = self.adopted.read().map(|g| g.generation).unwrap_or_default();
        let call = call(command, generation)?;
        let mut answer = self.run(Lane::Hot, call).await?;
        let record = LeaseRecord::decode(command.id, &answer.bytes()?)?;
        let task = answer.maybe()?.map(|bytes| TaskRecord::decode(&bytes)).transpose()?;
        let first_binding = answer.int()? == 1;
        let superseded = u8::try_from(answer.int()?).ok();
        let keys_version = answer.u64()?;
        let mut live = Vec::with_capacity(answer.left());
        while answer.left() > 0 {
            live.push(answer.u32()?);
        }
        Ok(Minted { record, task, live, first_binding, superseded, keys_version })
    }
}

/// Everything that the lease carries, and the mint's kind as far as it does not depend on the store.
fn lineage(command: &MintCommand, generation: Generation) -> (Vec<Carried>, Vec<u8>, u8) {
    let mut list = carried(&command.subjects, command.evidence.as_ref());
    let mut kind = if command.body.kind.has_side_effect() { SIDE_EFFECT } else { 0 };
    let mut ancestors = Vec::new();
    if let Some(parent) = &command.parent {
        kind |= HAS_PARENT;
        if parent.observation.generation() != generation {
            kind |= PARENT_OF_OTHER_GENERATION;
        }
        for c in &mut list {
            if let Some(fence) = parent.observation.fence(c.key) {
                c.fence = FenceFrom::Parent(fence.value());
            }
        }
        let named: Vec<DimKey> = list.iter().map(|c| c.key).collect();
        list.extend(parent.observation.pairs().iter().filter(|p| !named.contains(&p.key)).map(|p| Carried {
            key: p.key,
            fence: FenceFrom::Parent(p.fence.value()),
            position: None,
        }));
        ancestors.extend_from_slice(parent.observation.ancestors());
        ancestors.push(parent.id);
    }
    let pairs = list.iter().map(|c| Pair { key: c.key, fence: mayfly_domain::Fence::NONE });
    if Observation::new(generation, pairs, ancestors.iter().copied()).is_err() {
        kind |= LINEAGE_LIMIT;
    }
    let mut encoded = vec![u8::try_from(ancestors.len()).unwrap_or(u8::MAX)];
    ancestors.iter().for_each(|id| encoded.extend_from_slice(id.as_bytes()));
    (list, encoded, kind)
}

/// The keys that index the lease: its subjects', and with a side effect everything that it carries.
fn indexed(command: &MintCommand, list: &[Carried]) -> Vec<DimKey> {
    let mut all = index_keys(&command.subjects);
    if command.body.kind.has_side_effect() {
        all.extend(command.subjects.iter().filter(|s| !is_indexed(s)).map(mayfly_domain::Subject::key));
        all.extend(list.iter().map(|c| c.key));
        if let Some(parent) = &command.parent {
            let ancestors = parent.observation.ancestors().iter().chain(std::iter::once(&parent.id));
            all.extend(ancestors.map(|id| ancestor_key(*id)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn call(command: &MintCommand, generation: Generation) -> Result<Call, StoreError> {
    let (mut list, ancestors, kind) = lineage(command, generation);
    let mut keys = Keys::new([]);
    let used_at = command.spend.map_or(0, |spend| keys.place(keys::used(spend.id)));
    let (mut task_at, mut task_plan, mut task_body) = (0, Vec::new(), Vec::new());
    if let Some(plan) = &command.task {
        let key = mayfly_domain::Subject::Task(plan.body.id.clone()).key();
        task_at = keys.place(keys::task(key));
        (task_plan, task_body) = pack_task(plan, command.body.intent.as_ref())?;
    }
    let pairs = pack_carried(&mut list, &mut keys);
    let presented = present(command.evidence.as_ref(), &mut keys)?;
    let mut parents = Pack::default();
    let (mut marks_at, mut marks) = (0, 0);
    if let Some(parent) = &command.parent {
        for pair in parent.observation.pairs() {
            parents = parents.u8(keys.place(keys::gate(pair.key))).u48(pair.fence.value());
        }
        marks_at = keys.len().saturating_add(1);
        for id in parent.observation.ancestors().iter().chain(std::iter::once(&parent.id)) {
            keys.push(keys::mark(*id));
            marks += 1;
        }
    }
    let bucket_at = keys.len().saturating_add(1);
    for quota in &command.quotas {
        keys.push(keys::bucket(quota.subject.key()));
    }
    let reads = keys.len();

    let indexes = indexed(command, &list);
    let index_at = reads.saturating_add(1);
    for key in &indexes {
        keys.push(keys::index(*key));
    }
    keys.push(keys::partition(command.id));
    keys.push(keys::record(command.id));
    let mut quotas = Pack::default();
    for quota in &command.quotas {
        quotas = quotas
            .u8(keys.place(keys::index(quota.subject.key())))
            .u32(quota.live_max)
            .u32(quota.per_min)
            .u32(quota.burst);
    }
    let mode = command.body.acceptors.number().saturating_mul(MODE_TIMES);
    let plan = Pack::default()
        .u8(reads)
        .u8(used_at)
        .u8(task_at)
        .u8(presented.binding_at)
        .u8(bucket_at)
        .u8(marks_at)
        .u8(marks)
        .u8(index_at)
        .u8(u8::try_from(indexes.len()).unwrap_or(u8::MAX))
        .u8(u8::try_from(command.subjects.len()).unwrap_or(u8::MAX))
        .u8(kind | mode)
        .bytes(command.id.as_bytes())
        .u64(command.spend.map_or(0, |spend| spend.until.0))
        .u64(command.ttl.as_millis())
        .u64(command.lineage.as_millis())
        .time(command.not_after)
        .u64(command.parent.as_ref().map_or(u64::MAX, |p| p.expires.0))
        .bytes(command.signer.as_bytes());
    let args = vec![
        plan.done(),
        pairs,
        presented.packed,
        task_plan,
        task_body,
        encode_body(&command.body)?,
        ancestors,
        parents.done(),
        quotas.done(),
        presented.tail,
        command.takeover_job().map(|job| job.encode()).transpose()?.unwrap_or_default(),
    ];
    Ok(Call::placed(&SCRIPTS.mint, keys, args)?.needs_clocks())
}
