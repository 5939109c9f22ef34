//! What brokers share beside leases: the generation, keys, who lives, counts.

use mayfly_domain::UnixMillis;
use mayfly_lease::store::{BrokerSeen, StoreCounts};
use mayfly_lease::{Carry, GenerationRecord, StoreError, Survey, gate};

use super::RedisStore;
use super::answer::{self, Outcome};
use super::facts::Facts;
use super::keys::{self, Keys};
use super::pack::Pack;
use super::run::{Call, Lane};
use super::script::SCRIPTS;

fn sealed(stored: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    let mut r = mayfly_domain::codec::Reader::new("sealed keys", stored);
    Ok((r.u64()?, r.rest()))
}

impl RedisStore {
    pub(super) async fn do_survey(&self) -> Result<Survey, StoreError> {
        let lane = Lane::Hot;
        let conn = self.link(lane).get().await?;
        let lost = |e: redis::RedisError| self.failed(lane, &conn, "survey", &e);
        let mut mux = conn.mux.clone();
        let facts = Facts::read(&mut mux).await.map_err(lost)?;
        if facts.is_loading() {
            return Err(StoreError::Unavailable("the server reads its data".to_owned()));
        }
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut mux).await.map_err(lost)?;
        let ours = self.clock.now();
        let stored: (Option<Vec<u8>>, Option<u64>, Option<Vec<u8>>) = redis::cmd("MGET")
            .arg(keys::GENERATION)
            .arg(keys::CHANGES)
            .arg(keys::SERVER)
            .query_async(&mut mux)
            .await
            .map_err(lost)?;
        let version: Vec<u8> = redis::cmd("GETRANGE")
            .arg(keys::SEALED)
            .arg(0)
            .arg(7)
            .query_async(&mut mux)
            .await
            .map_err(lost)?;
        // After the generation: of one that begins meanwhile nothing would be said wrongly.
        let call = Call::new(&SCRIPTS.forgot, Keys::new([]), Vec::new());
        let Outcome::Done(mut answer) =
            self.evaluate(lane, &conn, &call, &self.head(&[], false, false)).await?
        else {
            return Err(StoreError::Corrupt("a survey that wants another connection".into()));
        };
        let forgot = answer.int()? == 1;
        let (generation, changes, began_on) = stored;
        *self.known.began_on.lock() = began_on.and_then(|b| b.try_into().ok());
        let theirs = if self.brokers_clock { ours } else { UnixMillis(seconds * 1_000 + micros / 1_000) };
        Ok(Survey {
            forgot: forgot && generation.is_some(),
            generation: answer::generation(generation)?,
            changes: changes.unwrap_or(0),
            identity: facts.identity,
            keys_version: if version.is_empty() { None } else { Some(sealed(&version)?.0) },
            clock_difference_ms: i64::try_from(theirs.0).unwrap_or(i64::MAX)
                - i64::try_from(ours.0).unwrap_or(i64::MAX),
            risks: facts.risks(self.wait_replicas),
        })
    }

    pub(super) async fn do_begin_generation(
        &self,
        next: &GenerationRecord,
        carry: &Carry,
    ) -> Result<GenerationRecord, StoreError> {
        // On one node the generation is everywhere as soon as it is somewhere.
        let next = GenerationRecord { settled: true, ..*next };
        let conn = self.link(Lane::Durable).get().await?;
        let mut keys = Keys::new([keys::SEALED.to_vec()]);
        let carried_keys =
            carry.keys.as_ref().map(|(version, sealed)| Pack::default().u64(*version).bytes(sealed).done());
        let mut args = vec![
            conn.identity.to_vec(),
            Pack::default().u64(carry.changes).done(),
            carried_keys.unwrap_or_default(),
        ];
        for (subject, gate) in &carry.blocks {
            let mut arg = subject.key().0.to_vec();
            arg.extend_from_slice(&gate::encode(subject, gate)?);
            keys.push(keys::gate(subject.key()));
            args.push(arg);
        }
        let call = Call::new(&SCRIPTS.begin_generation, keys, args);
        let head = self.head(&next.encode(), false, false);
        let Outcome::Done(mut answer) = self.evaluate(Lane::Durable, &conn, &call, &head).await? else {
            return Err(StoreError::Corrupt("a generation that wants another connection".into()));
        };
        let stands = GenerationRecord::decode(&answer.bytes()?)?;
        *self.known.began_on.lock() = answer.maybe()?.and_then(|b| b.try_into().ok());
        Ok(stands)
    }

    pub(super) async fn do_keys(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let (_, values) = self.read(Lane::Hot, [keys::SEALED.to_vec()]).await?;
        match values.into_iter().flatten().next() {
            Some(stored) => sealed(&stored).map(|(version, keys)| Some((version, keys.to_vec()))),
            None => Ok(None),
        }
    }

    pub(super) async fn do_put_keys(
        &self,
        expected: u64,
        version: u64,
        sealed: &[u8],
    ) -> Result<bool, StoreError> {
        let args = vec![Pack::default().u64(expected).u64(version).done(), sealed.to_vec()];
        let keys = Keys::new([keys::SEALED.to_vec()]);
        let mut answer = self.run(Lane::Durable, Call::new(&SCRIPTS.put_keys, keys, args)).await?;
        Ok(answer.int()? == 1)
    }

    pub(super) async fn do_heartbeat(&self, id: &str, version: u64, for_ms: u64) -> Result<(), StoreError> {
        let args = vec![id.as_bytes().to_vec(), Pack::default().u64(for_ms).u64(version).done()];
        self.run(Lane::Hot, Call::new(&SCRIPTS.heartbeat, Keys::new([]), args)).await?;
        Ok(())
    }

    pub(super) async fn do_brokers(&self) -> Result<Vec<BrokerSeen>, StoreError> {
        let call = Call::new(&SCRIPTS.brokers, Keys::new([]), Vec::new());
        let mut answer = self.run(Lane::Hot, call).await?.list()?;
        let mut all = Vec::with_capacity(answer.left() / 2);
        while answer.left() > 0 {
            let id = String::from_utf8_lossy(&answer.bytes()?).into_owned();
            let seen = answer.bytes()?;
            let mut r = mayfly_domain::codec::Reader::new("broker", &seen);
            all.push(BrokerSeen { id, until: UnixMillis(r.u64()?), keys_version: r.u64()? });
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    pub(super) async fn do_counts(&self) -> Result<StoreCounts, StoreError> {
        let call = Call::new(&SCRIPTS.counts, Keys::new([]), Vec::new());
        let mut answer = self.run(Lane::Hot, call).await?;
        Ok(StoreCounts {
            live_leases: answer.u64()?,
            open_jobs: answer.u64()?,
            undo_pending: answer.u64()?,
            unreadable: self.unreadable.count(),
        })
    }
}
