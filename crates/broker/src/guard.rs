//! The guard of the generation: looks at the store, adopts what stands, starts a new generation where the
//! store forgot, keeps the sealed copy true.

use std::collections::BTreeSet;
use std::time::Duration;

use mayfly_audit::{Kind, Outcome, Record};
use mayfly_domain::{DimKey, Gate, Generation, GenerationId, Reason, Refusal, Subject, UnixMillis};
use mayfly_lease::{GenerationRecord, StoreError, Survey, gate};
use ring::rand::{SecureRandom, SystemRandom};

use crate::broker::Broker;
use crate::copy::Content;
use crate::standing::Standing;

/// How often the guard looks by itself.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// How long a broker counts as alive after its last sign.
const ALIVE_MS: u64 = 5_000;

impl Broker {
    /// One look at the store. Sets the standing; never fails.
    pub async fn look(&self) {
        let next = match self.examine().await {
            Ok(Standing::Serving) => {
                self.follows_adopted();
                // Before the workers run nobody else follows.
                if !self.feed().is_followed() {
                    self.catch_up().await;
                }
                if self.feed().is_fresh() { Standing::Serving } else { Standing::Behind }
            }
            Ok(standing) => standing,
            Err(StoreError::OtherGeneration(_) | StoreError::Forgot) => Standing::Settling,
            Err(StoreError::ServerChanged) => {
                // Nobody else calls the store while it settles: the next look must know.
                self.server_changed();
                Standing::Settling
            }
            Err(StoreError::ClockSkew(ms)) => Standing::ClockSkew(ms),
            Err(e) => Standing::Unavailable(e.to_string()),
        };
        self.stand(next);
    }

    async fn examine(&self) -> Result<Standing, StoreError> {
        let store = self.leases().store();
        // The lock first: a copy that grew after the survey would look like a store that went back.
        let mut copy = self.copy().lock().await;
        let survey = store.survey().await?;
        let refused: Vec<String> =
            survey.risks.iter().filter(|r| !self.settings().accepted_risks.contains(r)).cloned().collect();
        self.saw(&survey);
        let known = copy.content().clone();
        let adopted = match survey.generation {
            _ if known.is_ahead_of(&survey) => self.begin(&known, &survey, "store-went-back").await?,
            Some(generation) if generation.settled => match self.doubt(&known, &survey, generation).await? {
                Some(why) => self.begin(&known, &survey, why).await?,
                None => generation,
            },
            // Without a copy and a settled generation nobody here knows what would have to be carried over.
            Some(_) if known.generation.is_some() => self.begin(&known, &survey, "unsettled").await?,
            _ => return Ok(Standing::Holding),
        };
        store.adopt(adopted);
        let fresh = adopted.generation != survey.generation.map(|g| g.generation).unwrap_or_default();
        let mut behind = None;
        if fresh || known.generation != Some(adopted.generation) || known.changes != survey.changes {
            let content = self.content(adopted, &known).await?;
            self.load_keys(&content).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            behind = copy.replace(self.seal(), content).err();
        }
        drop(copy);
        store.heartbeat(&self.settings().broker_id, self.keys().version(), ALIVE_MS).await?;
        self.server_settled(survey.identity);
        if let Some(refusal) = behind {
            return Ok(Standing::CopyBehind(refusal.detail));
        }
        if survey.clock_difference_ms.unsigned_abs() > self.settings().skew_ms {
            return Ok(Standing::ClockSkew(survey.clock_difference_ms));
        }
        if !refused.is_empty() {
            return Ok(Standing::Unsafe(refused));
        }
        Ok(Standing::Serving)
    }

    async fn begin(
        &self,
        known: &Content,
        survey: &Survey,
        why: &'static str,
    ) -> Result<GenerationRecord, StoreError> {
        let stored = survey.generation.map_or(0, |g| g.generation.number);
        let number = known.generation.map_or(0, |g| g.number).max(stored) + 1;
        let mut id = [0; 8];
        SystemRandom::new().fill(&mut id).map_err(|_| StoreError::Unavailable("no randomness".into()))?;
        let next = GenerationRecord {
            generation: Generation { number, id: GenerationId(id) },
            settled: true,
            // The store's clock: evidence is held against it at every broker.
            started: UnixMillis(self.clock().now().0.saturating_add_signed(survey.clock_difference_ms)),
            longest_life_ms: survey
                .generation
                .map_or(known.longest_life_ms, |g| g.longest_life_ms)
                .max(self.settings().longest_life.as_millis()),
        };
        let stands = self.leases().store().begin_generation(&next, &known.carry()).await?;
        tracing::warn!(
            generation = %stands.generation,
            why,
            "the store began a new generation; older credentials are dead"
        );
        let mut record = Record::new(Kind::Generation, Outcome::Allowed);
        record.detail = stands.generation.to_string();
        self.audit().record_or_defer(record).await;
        Ok(stands)
    }

    /// Why a settled generation must not be taken over as it is: the store may have forgotten what still counts, nobody
    /// knows what its server has, or it lacks what this broker's copy holds. None where it may be.
    async fn doubt(
        &self,
        known: &Content,
        survey: &Survey,
        found: GenerationRecord,
    ) -> Result<Option<&'static str>, StoreError> {
        if survey.forgot {
            return Ok(Some("clock-was-ahead"));
        }
        if known.generation == Some(found.generation) {
            // A server on which this broker has worked in its generation is no new one, however late it is
            // told of.
            let is_new = self.has_server_changed() && self.worked_on() != Some(survey.identity);
            return Ok(is_new.then_some("server-changed"));
        }
        // Where another broker has begun a generation for the new server already, that one is taken.
        self.leases().store().adopt(found);
        match self.lacks(known).await {
            Err(StoreError::ServerChanged) => Ok(Some("server-changed")),
            other => Ok(other?.then_some("store-lacks-changes")),
        }
    }

    /// Whether the generation of another broker lacks something of this one's copy: a block may have been
    /// acknowledged, or lifted, that no other copy had yet. What was minted without it must not live on.
    async fn lacks(&self, known: &Content) -> Result<bool, StoreError> {
        let store = self.leases().store();
        let version = |keys: &Option<(u64, Vec<u8>)>| keys.as_ref().map_or(0, |(version, _)| *version);
        if version(&known.keys) > version(&store.keys().await?) {
            return Ok(true);
        }
        let keys: Vec<DimKey> = known.blocks.iter().map(|(subject, _)| subject.key()).collect();
        let stored = store.gates(&keys).await?;
        let now = self.clock().now();
        Ok(known.blocks.iter().zip(&stored).any(|((_, mine), stored)| {
            let stands = |gate: &Gate| gate.standing_block(now).is_some();
            gate::carried(stored.as_ref(), mine).is_some()
                && (stands(mine) || stored.as_ref().is_some_and(stands))
        }))
    }

    /// What the copy must hold now: the store's blocks, the versions of lifted ones as long as another copy
    /// may bring them back, and of keys the newer.
    async fn content(&self, adopted: GenerationRecord, known: &Content) -> Result<Content, StoreError> {
        let store = self.leases().store();
        let changes = store.survey().await?.changes;
        let keys = store.keys().await?;
        let mut blocks = store.blocks().await?;
        let held: BTreeSet<DimKey> = blocks.iter().map(|(subject, _)| subject.key()).collect();
        let gone: Vec<&(Subject, Gate)> =
            known.blocks.iter().filter(|(subject, _)| !held.contains(&subject.key())).collect();
        let gone_keys: Vec<DimKey> = gone.iter().map(|(subject, _)| subject.key()).collect();
        let now = self.clock().now();
        for ((subject, mine), stored) in gone.into_iter().zip(store.gates(&gone_keys).await?) {
            let newest = stored.filter(|gate| gate.block_version >= mine.block_version);
            let newest = newest.unwrap_or_else(|| mine.clone());
            if !newest.is_over(now) {
                blocks.push((subject.clone(), newest));
            }
        }
        Ok(Content {
            generation: Some(adopted.generation),
            longest_life_ms: adopted.longest_life_ms,
            changes,
            keys: newer(keys, known.keys.clone()),
            blocks,
        })
    }

    /// Brings the sealed copy up to date before a change of keys or blocks is acknowledged.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` where the copy can't be written: the change stands and must not be acknowledged.
    pub(crate) async fn refresh_copy(&self) -> Result<(), Refusal> {
        let Some(adopted) = self.leases().store().generation() else {
            return Err(Reason::StoreHolding.into());
        };
        let mut copy = self.copy().lock().await;
        let known = copy.content().clone();
        let content = self.content(adopted, &known).await.map_err(Refusal::from)?;
        self.load_keys(&content)?;
        copy.replace(self.seal(), content).map_err(|e| {
            let detail =
                format!("it stands in the store, but not in this broker's sealed copy: {}", e.detail);
            Refusal::new(Reason::StoreUnavailable, detail).after(Duration::from_secs(1))
        })
    }

    /// Takes note of an error that only a look at the store can mend.
    pub(crate) fn note(&self, error: &StoreError) {
        match error {
            StoreError::ServerChanged => {
                self.server_changed();
                self.stand(Standing::Settling);
                self.wake_guard();
            }
            StoreError::OtherGeneration(_) | StoreError::Forgot => {
                self.stand(Standing::Settling);
                self.wake_guard();
            }
            StoreError::Unavailable(_) | StoreError::ClockSkew(_) => self.wake_guard(),
            StoreError::Refused(_) | StoreError::Corrupt(_) => {}
        }
    }
}

fn newer(a: Option<(u64, Vec<u8>)>, b: Option<(u64, Vec<u8>)>) -> Option<(u64, Vec<u8>)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}
