//! For tests that own the clock. A deployment that used this would let brokers disagree about what is over.

use mayfly_domain::time::SharedClock;

use super::{ConfigError, RedisConfig, RedisStore};

/// Opens a store whose scripts take the broker's clock for the present time, and whose values Redis itself
/// never forgets.
///
/// # Errors
/// [`ConfigError`] where the configuration can't be used.
pub fn open_with_brokers_clock(config: RedisConfig, clock: SharedClock) -> Result<RedisStore, ConfigError> {
    RedisStore::open_by(config, clock, true)
}
