//! What operators do.

mod authorities;
mod block;
mod join;
mod keys;
mod list;
mod names;
mod revoke;
mod rotation;
mod status;

pub use authorities::{AuthorityStep, ShownAuthority};
pub use block::BlockInput;
pub use join::{JoinInput, JoinMade};
pub use keys::{KeyStep, ShownKey, Withdrawn};
pub use list::{ListInput, Listed, ShownLease};
pub use names::Named;
pub use revoke::{RevocationState, RevokeInput, RevokeOutcome};
pub use status::Status;
