//! The guard of the generation: looks at the store, adopts what stands, starts a new generation where the
//! store forgot, keeps the sealed copy true.

use std::time::Duration;

use mayfly_domain::{DimKey, Generation, GenerationId, Reason, Refusal, UnixMillis};
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
            Ok(standing) => standing,
            Err(StoreError::OtherGeneration(_)) => Standing::Settling,
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
        // Where another broker has begun a new generation for the new server already, that one is taken; and a
        // server on which this broker has worked in its generation is no new one, however late it is told of.
        let forced = self.has_server_changed()
            && survey.generation.map(|g| g.generation) == known.generation
            && self.worked_on() != Some(survey.identity);
        let adopted = match survey.generation {
            _ if forced || known.is_ahead_of(&survey) => self.begin(&known, &survey).await?,
            Some(generation) if !generation.settled => self.begin(&known, &survey).await?,
            Some(generation) => generation,
            None => return Ok(Standing::Holding),
        };
        store.adopt(adopted);
        if known.generation.is_some_and(|mine| mine != adopted.generation) {
            self.carry_over(&known).await?;
        }
        let fresh = adopted.generation != survey.generation.map(|g| g.generation).unwrap_or_default();
        if fresh || known.generation != Some(adopted.generation) || known.changes != survey.changes {
            let content = self.content(adopted, &known).await?;
            self.load_keys(&content).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            copy.replace(self.seal(), content).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        }
        drop(copy);
        store.heartbeat(&self.settings().broker_id, self.keys().version(), ALIVE_MS).await?;
        self.server_settled(survey.identity);
        if survey.clock_difference_ms.unsigned_abs() > self.settings().skew_ms {
            return Ok(Standing::ClockSkew(survey.clock_difference_ms));
        }
        if !refused.is_empty() {
            return Ok(Standing::Unsafe(refused));
        }
        Ok(Standing::Serving)
    }

    async fn begin(&self, known: &Content, survey: &Survey) -> Result<GenerationRecord, StoreError> {
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
        tracing::warn!(generation = %stands.generation, "the store began a new generation; older credentials are dead");
        Ok(stands)
    }

    /// Carries over the blocks and keys that this broker's copy holds and a generation that another broker
    /// began does not: a block may have been acknowledged that no other copy had yet. By version, so that
    /// nothing older comes back.
    async fn carry_over(&self, known: &Content) -> Result<(), StoreError> {
        let store = self.leases().store();
        let keys: Vec<DimKey> = known.blocks.iter().map(|(subject, _)| subject.key()).collect();
        let stored = store.gates(&keys).await?;
        let now = self.clock().now();
        for ((subject, mine), stored) in known.blocks.iter().zip(&stored) {
            let missing = gate::carried(stored.as_ref(), mine).filter(|g| g.standing_block(now).is_some());
            if let Some(missing) = missing {
                store.set_block(subject, missing.block).await?;
                tracing::warn!(%subject, "a block was carried over into the new generation");
            }
        }
        if let Some((version, sealed)) = &known.keys {
            let stored = store.keys().await?.map_or(0, |(version, _)| version);
            if *version > stored {
                // Where somebody else was faster, the next look finds what they wrote.
                store.put_keys(stored, *version, sealed).await?;
            }
        }
        Ok(())
    }

    /// What the copy must hold now: the store's blocks, and of keys the newer.
    async fn content(&self, adopted: GenerationRecord, known: &Content) -> Result<Content, StoreError> {
        let store = self.leases().store();
        let changes = store.survey().await?.changes;
        let keys = store.keys().await?;
        let blocks = store.blocks().await?;
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
            StoreError::OtherGeneration(_) => {
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
