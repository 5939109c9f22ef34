//! `mayfly init`: the first generation and the keys of a trust domain.

use mayfly_broker::InitError;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal};
use mayfly_mint::{KeySet, Seal};

use crate::compose::{open_store, state_directory};
use crate::config::Settings;
use crate::custody::custody;

/// What an initialisation came to.
pub enum Initialised {
    /// Made now.
    Made(Box<KeySet>),
    /// Made before; nothing was changed.
    Already(String),
}

/// Initialises the store that the settings name, unless it is initialised already.
///
/// # Errors
/// A refusal of the state directory, the seal or the store.
pub async fn initialise(
    settings: &Settings,
    seal: &Seal,
    clock: &SharedClock,
) -> Result<Initialised, Refusal> {
    state_directory(&settings.state_dir)?;
    let store = open_store(settings, clock).await?;
    let longest = settings.longest_life();
    let custody = custody(settings);
    let made = mayfly_broker::initialise(
        store.as_ref(),
        &settings.state_dir,
        seal,
        &custody,
        &settings.trust_domain,
        longest,
        clock,
    );
    match made.await {
        Ok(keys) => Ok(Initialised::Made(Box::new(keys))),
        Err(InitError::Already(generation)) => Ok(Initialised::Already(generation.to_string())),
        Err(InitError::Store(e)) => Err(e.into()),
        Err(InitError::Copy(refusal)) => Err(refusal),
        Err(other) => {
            Err(Refusal::new(Reason::ConfigInvalid, other.to_string()).fact("problem", other.to_string()))
        }
    }
}
