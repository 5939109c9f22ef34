//! What operators do.

mod authorities;
mod barrier;
mod block;
mod exposure;
mod followers;
mod join;
mod keys;
mod list;
mod names;
mod revoke;
mod rotation;
mod status;

pub use authorities::{AuthorityStep, ShownAuthority};
pub use barrier::{BarrierInput, BarrierTold, BarrierWait};
pub use block::{BlockInput, BlockSet};
pub use followers::{FollowerList, ProfileUsage};
pub use join::{JoinInput, JoinMade};
pub use keys::{KeyStep, ShownKey, Withdrawn};
pub use list::{ListInput, Listed, ShownLease};
pub use names::Named;
pub use revoke::{RevocationState, RevokeInput, RevokeOutcome};
pub use status::Status;
