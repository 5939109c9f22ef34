//! Leases that are there: checking, confirming, renewing, ending, reading and listing.

use mayfly_domain::{EndReason, LeaseId, LeaseState, Subject, TaskId, UnixMillis, defaults};
use mayfly_lease::command::{
    CheckCommand, Checked, Cursor, EndCommand, ListQuery, Page, RenewCommand, Renewed, StartTaskCommand,
    TaskStarted, index_keys,
};
use mayfly_lease::record::{encode_body, reason_octet};
use mayfly_lease::transition::No;
use mayfly_lease::{LeaseRecord, Mark, StoreError, TaskRecord};

use super::RedisStore;
use super::evidence::{carried, pack_carried, pack_task, present};
use super::keys::{self, Keys};
use super::pack::Pack;
use super::run::{Call, Lane};
use super::script::SCRIPTS;

fn id_octets(id: LeaseId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// A record as it is shown: a mark that stands makes it revoked.
fn shown(
    id: LeaseId,
    record: &[u8],
    mark: Option<&[u8]>,
    now: UnixMillis,
) -> Result<LeaseRecord, StoreError> {
    let mut record = LeaseRecord::decode(id, record)?;
    let mark = mark.map(Mark::decode).transpose()?.filter(|m| now < m.until);
    if let Some(mark) = mark.filter(|_| !matches!(record.state, LeaseState::Ended(_))) {
        record.state = LeaseState::Ended(EndReason::Revoked);
        record.revocation = Some(mark.revocation);
    }
    Ok(record)
}

impl RedisStore {
    /// Values of one moment, and the moment.
    pub(super) async fn read(
        &self,
        lane: Lane,
        keys: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(UnixMillis, Vec<Option<Vec<u8>>>), StoreError> {
        let call = Call::new(&SCRIPTS.read, Keys::new(keys), Vec::new());
        let mut answer = self.run(lane, call).await?.list()?;
        let now = Self::time(&mut answer)?;
        let mut values = Vec::with_capacity(answer.left());
        while answer.left() > 0 {
            values.push(answer.maybe()?);
        }
        Ok((now, values))
    }

    pub(super) async fn do_check(&self, command: &CheckCommand) -> Result<Checked, StoreError> {
        let id = command.id;
        let observation = command.observation.as_ref().map(mayfly_domain::Observation::encode);
        let call = Call::new(
            &SCRIPTS.check,
            Keys::new([keys::record(id), keys::mark(id)]),
            vec![observation.unwrap_or_default()],
        );
        let mut answer = self.run(Lane::Hot, call.needs_clocks()).await?;
        let record = LeaseRecord::decode(id, &answer.bytes()?)?;
        Ok(Checked { record, keys_version: answer.u64()? })
    }

    pub(super) async fn do_confirm(&self, id: LeaseId) -> Result<LeaseRecord, StoreError> {
        let keys = Keys::new([keys::record(id), keys::mark(id)]);
        let call = Call::new(&SCRIPTS.confirm, keys, vec![id_octets(id)]);
        let mut answer = self.run(Lane::Hot, call.needs_clocks()).await?;
        Ok(LeaseRecord::decode(id, &answer.bytes()?)?)
    }

    pub(super) async fn do_renew(&self, command: &RenewCommand) -> Result<Renewed, StoreError> {
        let id = command.id;
        let task = Subject::Task(command.task.clone()).key();
        let mut keys =
            Keys::new([keys::used(command.spend.id), keys::record(id), keys::mark(id), keys::task(task)]);
        let mut list = carried(&command.subjects, command.evidence.as_ref());
        let pairs = pack_carried(&mut list, &mut keys);
        let presented = present(command.evidence.as_ref(), &mut keys)?;
        let reads = keys.len();
        let indexes = index_keys(&command.subjects);
        for key in &indexes {
            keys.push(keys::index(*key));
        }
        keys.push(keys::partition(id));
        let plan = Pack::default()
            .bytes(id.as_bytes())
            .u8(reads)
            .u8(presented.binding_at)
            .u8(reads.saturating_add(1))
            .u8(u8::try_from(indexes.len()).unwrap_or(u8::MAX))
            .u8(u8::try_from(command.subjects.len()).unwrap_or(u8::MAX))
            .flag(command.is_holders())
            .u8(command.body.acceptors.number())
            .time(command.spend.until)
            .u64(command.ttl.as_millis())
            .bytes(command.signer.as_bytes());
        let args = vec![
            plan.done(),
            pairs,
            presented.packed,
            encode_body(&command.body)?,
            command.next_body().as_ref().map(encode_body).transpose()?.unwrap_or_default(),
        ];
        let call = Call::placed(&SCRIPTS.renew, keys, args)?;
        let mut answer = self.run(Lane::Hot, call.needs_clocks()).await?;
        let record = LeaseRecord::decode(id, &answer.bytes()?)?;
        Ok(Renewed { record, keys_version: answer.u64()? })
    }

    pub(super) async fn do_end(&self, command: &EndCommand) -> Result<(LeaseRecord, bool), StoreError> {
        let id = command.id;
        // Whose it is may change until the script looks: it ends what was read here and nothing else.
        let (mine, body) = match &command.holder {
            None => (true, Vec::new()),
            Some((workload, task, key)) => {
                let body = self.do_get(id).await?.ok_or(No::NotFound)?.body;
                let mine = Subject::Workload(body.workload.clone()) == *workload
                    && body.task.as_ref() == Some(task)
                    && body.key == *key;
                (mine, encode_body(&body)?)
            }
        };
        let args = vec![
            id_octets(id),
            vec![reason_octet(command.reason), u8::from(mine)],
            command.revocation.map_or([0; 16], |r| r.0).to_vec(),
            body,
        ];
        let call = Call::new(&SCRIPTS.end, Keys::new([keys::record(id)]), args);
        let mut answer = self.run(Lane::Hot, call).await?;
        Ok((LeaseRecord::decode(id, &answer.bytes()?)?, answer.int()? == 1))
    }

    pub(super) async fn do_get(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        let (now, values) = self.read(Lane::Hot, [keys::record(id), keys::mark(id)]).await?;
        match values.as_slice() {
            [Some(record), mark] => Ok(Some(shown(id, record, mark.as_deref(), now)?)),
            _ => Ok(None),
        }
    }

    pub(super) async fn do_list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let keys = Keys::new(query.along.map(keys::index));
        let args = vec![place(query.after, query.limit)];
        let mut answer = self.run(Lane::Back, Call::new(&SCRIPTS.list, keys, args)).await?;
        let now = Self::time(&mut answer)?;
        let next = answer.maybe()?.map(|place| cursor(&place)).transpose()?;
        let mut ids = answer.list()?;
        let mut records = answer.list()?;
        let mut read = Vec::with_capacity(ids.left());
        for _ in 0..ids.left() {
            read.push((LeaseId::from_bytes(ids.id()?), records.maybe()?));
        }
        let mut page = Page { records: Vec::with_capacity(read.len()), next };
        for (id, record) in read {
            let mark = records.maybe()?;
            if let Some(record) = record {
                let shown = shown(id, &record, mark.as_deref(), now);
                page.records.extend(self.unreadable.pass(id, shown)?);
            }
        }
        Ok(page)
    }

    pub(super) async fn do_task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let key = Subject::Task(id.clone()).key();
        let (now, values) = self.read(Lane::Hot, [keys::task(key)]).await?;
        let Some(stored) = values.into_iter().flatten().next() else { return Ok(None) };
        Ok(Some(TaskRecord::decode(&stored)?).filter(|task| now < task.keep_until))
    }

    pub(super) async fn do_start_task(&self, command: &StartTaskCommand) -> Result<TaskStarted, StoreError> {
        let task = Subject::Task(command.task.body.id.clone()).key();
        let mut keys = Keys::new([keys::used(command.spend.id), keys::task(task)]);
        let mut list = carried(&command.subjects, command.evidence.as_ref());
        let pairs = pack_carried(&mut list, &mut keys);
        let presented = present(command.evidence.as_ref(), &mut keys)?;
        let (task_plan, task_body) = pack_task(&command.task, command.task.body.intent.as_ref())?;
        let plan = Pack::default()
            .u8(keys.len())
            .u8(presented.binding_at)
            .u8(u8::try_from(command.subjects.len()).unwrap_or(u8::MAX))
            .time(command.spend.until);
        let args = vec![plan.done(), pairs, presented.packed, task_plan, task_body];
        let mut answer =
            self.run(Lane::Hot, Call::placed(&SCRIPTS.start_task, keys, args)?.needs_clocks()).await?;
        Ok(TaskStarted {
            task: TaskRecord::decode(&answer.bytes()?)?,
            joined: answer.int()? == 1,
            first_binding: answer.int()? == 1,
        })
    }
}

/// A place in an index, and how many entries after it, as `scripts/page.lua` takes them.
pub(super) fn place(after: Option<Cursor>, limit: u32) -> Vec<u8> {
    let start =
        after.unwrap_or(Cursor { partition: 0, expires: UnixMillis(0), id: LeaseId::from_bytes([0; 16]) });
    Pack::default()
        .u8(start.partition)
        .time(start.expires)
        .bytes(start.id.as_bytes())
        .flag(after.is_some())
        .u32(limit.clamp(1, defaults::LIST_PAGE_MAX))
        .done()
}

pub(super) fn cursor(place: &[u8]) -> Result<Cursor, StoreError> {
    let mut r = mayfly_domain::codec::Reader::new("cursor", place);
    let cursor =
        Cursor { partition: r.u8()?, expires: UnixMillis(r.u64()?), id: LeaseId::from_bytes(r.array()?) };
    r.finish()?;
    Ok(cursor)
}
