//! Redis as the configuration names it.

use std::sync::Arc;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal};
use mayfly_lease::LeaseStore;

use crate::config::RedisStore;

pub(crate) async fn open(_: &RedisStore, _: &SharedClock) -> Result<Arc<dyn LeaseStore>, Refusal> {
    Err(Reason::StoreUnavailable.into())
}
