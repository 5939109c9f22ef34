//! What operators do.

mod block;
mod join;
mod keys;
mod list;
mod names;
mod revoke;
mod status;

pub use block::BlockInput;
pub use join::{JoinInput, JoinMade};
pub use keys::KeyStep;
pub use list::{ListInput, Listed, ShownLease};
pub use names::Named;
pub use revoke::{RevocationState, RevokeInput, RevokeOutcome};
pub use status::Status;
