//! Minting.

use mayfly_domain::{LeaseState, Observation, Pair, UnixMillis, defaults};

use super::evidence::{present, refuse_spent};
use super::task::join;
use super::{
    Bucket, No, Step, View, Write, gate_event, keep_until, marked, observation_holds, refuse_blocked,
};
use crate::command::{MintCommand, Minted, ancestor_key, index_keys, is_indexed};
use crate::job::JobTarget;
use crate::record::{FLAG_SIDE_EFFECT, LeaseRecord};

/// Decides a mint: nonce, evidence, parent, blocks, task, expiry, quotas; and writes index entries before
/// the record. A credential without side effect is born active, one with is reserved until it is confirmed.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn mint<V: View>(view: &V, command: &MintCommand, now: UnixMillis) -> Result<Step<Minted>, V::Error> {
    if let Some(spend) = command.spend {
        refuse_spent(view, spend, now)?;
    }
    let generation = view.generation()?.generation;
    let presented = present(view, command.evidence.as_ref(), true, now)?;

    let mut pairs = Vec::with_capacity(command.subjects.len());
    for (n, subject) in command.subjects.iter().enumerate() {
        let inherited = command.parent.as_ref().and_then(|p| p.observation.fence(subject.key()));
        let fence = match inherited {
            Some(fence) => fence,
            None => presented.observed(view, subject, n, command.evidence.as_ref(), now)?,
        };
        pairs.push(Pair { key: subject.key(), fence });
    }
    let mut ancestors = Vec::new();
    if let Some(parent) = &command.parent {
        ancestors.extend_from_slice(parent.observation.ancestors());
        ancestors.push(parent.id);
        pairs.extend(
            parent.observation.pairs().iter().filter(|p| !command.subjects.iter().any(|s| s.key() == p.key)),
        );
        if now >= parent.expires {
            return Err(No::Expired.into());
        }
        if !observation_holds(view, &parent.observation, now)? || marked(view, &ancestors, now)?.is_some() {
            return Err(No::AncestorDead.into());
        }
    }
    let observation =
        Observation::new(generation, pairs, ancestors).map_err(|_| V::Error::from(No::LineageLimit))?;

    refuse_blocked(view, &command.subjects, Some(&observation), now)?;
    let joined =
        command.task.as_ref().map(|plan| join(view, plan, command.body.intent.as_ref(), now)).transpose()?;

    let mut bound = command.not_after;
    if let Some(parent) = &command.parent {
        bound = bound.min(parent.expires);
    }
    if let Some(joined) = &joined {
        bound = bound.min(joined.task.window_ends);
    }
    let renewable_until = now.plus(command.lineage.as_millis()).min(bound).floor_secs();
    let expires = now.plus(command.ttl.as_millis()).min(renewable_until).floor_secs();
    if expires <= now {
        return Err(No::WindowOver.into());
    }

    let mut live = Vec::with_capacity(command.quotas.len());
    for (n, quota) in command.quotas.iter().enumerate() {
        let count = view.live(quota.subject.key(), now)?;
        if count >= quota.live_max {
            return Err(No::QuotaLeases(n).into());
        }
        live.push(count + 1);
    }
    let mut writes = Vec::with_capacity(16);
    for (n, quota) in command.quotas.iter().enumerate() {
        let key = quota.subject.key();
        let bucket: Bucket = view.bucket(key)?.unwrap_or_default();
        match bucket.take(now, quota.per_min, quota.burst) {
            Ok(bucket) => writes.push(Write::Bucket(key, bucket)),
            Err(wait_ms) => return Err(No::QuotaRate(n, wait_ms).into()),
        }
    }

    let side_effect = command.body.kind.has_side_effect();
    let record = LeaseRecord {
        id: command.id,
        state: if side_effect { LeaseState::Reserved } else { LeaseState::Active },
        flags: if side_effect { FLAG_SIDE_EFFECT } else { 0 },
        counter: 0,
        issued: now,
        expires,
        renewable_until,
        confirm_by: now.plus(defaults::MINT_DEADLINE_MS),
        revocation: None,
        signer: command.signer,
        observation,
        body: command.body.clone(),
    };
    writes.extend(command.spend.map(|s| Write::Used(s.id, s.until)));
    let entry = |key| Write::Index(key, command.id, command.body.acceptors, expires);
    writes.extend(index_keys(&command.subjects).into_iter().map(entry));
    if side_effect {
        let more = command.subjects.iter().filter(|s| !is_indexed(s)).map(|s| s.key());
        let carried = record.observation.pairs().iter().map(|p| p.key);
        let ancestors = record.observation.ancestors().iter().map(|a| ancestor_key(*a));
        let mut keys: Vec<_> = more.chain(carried).chain(ancestors).collect();
        keys.sort_unstable();
        keys.dedup();
        let known = index_keys(&command.subjects);
        writes.extend(keys.into_iter().filter(|k| !known.contains(k)).map(entry));
        writes.push(Write::Undo(command.id, record.confirm_by));
    }
    writes.push(Write::Partition(command.id, expires));
    writes.push(Write::Record(Box::new(record.clone()), (!side_effect).then(|| keep_until(expires))));
    writes.extend(joined.as_ref().and_then(super::task::Joined::write));
    let superseded = presented.moved.as_ref().and(presented.binding.as_ref()).map(|b| b.superseded);
    let first_binding = presented.first;
    if let Some((subject, gate)) = &presented.moved
        && let Some(mut job) = command.takeover_job()
    {
        job.since = now;
        if let JobTarget::Subject(_, set) = &mut job.target {
            *set = gate.fence;
        }
        writes.push(gate_event(subject, gate, Some(job.id), now));
        writes.push(Write::Job(Box::new(job)));
    }
    writes.extend(presented.join.map(|record| super::join::used(record, command.id)));
    writes.extend(presented.writes);
    let task = joined.map(|j| j.task);
    let keys_version = view.keys_version()?;
    Ok((Minted { record, task, live, first_binding, superseded, keys_version }, writes))
}
