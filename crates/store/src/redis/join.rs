//! Join tokens.

use mayfly_domain::codec::Reader;
use mayfly_domain::{DimKey, EvidenceHash, Subject};
use mayfly_lease::{JoinId, JoinRecord, StoreError};

use super::RedisStore;
use super::keys::{self, Keys};
use super::run::{Call, Lane};
use super::script::SCRIPTS;

/// A token's hash, then the token as it is stored.
fn named(bytes: &[u8]) -> Result<JoinRecord, StoreError> {
    let mut r = Reader::new("join token", bytes);
    let hash = EvidenceHash(r.array()?);
    Ok(JoinRecord::decode(hash, r.rest())?)
}

impl RedisStore {
    pub(super) async fn do_put_join(&self, record: &JoinRecord) -> Result<(), StoreError> {
        let mut observes: Vec<DimKey> = record.observes()?.iter().map(Subject::key).collect();
        observes.sort_unstable();
        observes.dedup();
        let gates = observes.iter().map(|key| keys::gate(*key));
        let keys = [keys::join(record.hash), keys::binding(record.hash)].into_iter().chain(gates);
        let args =
            vec![record.id.0.to_vec(), record.encode()?, observes.iter().flat_map(|key| key.0).collect()];
        let call = Call::new(&SCRIPTS.put_join, Keys::new(keys), args);
        self.run(Lane::Durable, call.needs_clocks()).await?;
        Ok(())
    }

    pub(super) async fn do_join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError> {
        let (now, values) = self.read(Lane::Hot, [keys::join(hash)]).await?;
        let Some(stored) = values.into_iter().flatten().next() else { return Ok(None) };
        Ok(Some(JoinRecord::decode(hash, &stored)?).filter(|record| now < record.keep_until()))
    }

    pub(super) async fn do_joins(&self) -> Result<Vec<JoinRecord>, StoreError> {
        let call = Call::new(&SCRIPTS.joins, Keys::new([]), Vec::new());
        let mut answer = self.run(Lane::Hot, call).await?.list()?;
        let mut all = Vec::with_capacity(answer.left());
        while answer.left() > 0 {
            all.push(named(&answer.bytes()?)?);
        }
        all.sort_by_key(|record| (record.created, record.id));
        Ok(all)
    }

    pub(super) async fn do_withdraw_join(&self, id: JoinId) -> Result<Option<JoinRecord>, StoreError> {
        let call = Call::new(&SCRIPTS.withdraw_join, Keys::new([]), vec![id.0.to_vec()]);
        let mut answer = self.run(Lane::Durable, call).await?;
        answer.maybe()?.map(|token| named(&token)).transpose()
    }
}
