//! The use cases: issue, renew, check, revoke, complete. No transport, no store's client library.
//!
//! Everything that a broker decides goes through here, in one order: attest, permit, reserve, make, confirm,
//! audit, answer. This crate must never know gRPC, HTTP, TLS or a configuration file.

mod attest;
mod blocking;
mod broker;
mod call;
mod check;
mod copy;
mod credential;
mod feed;
mod guard;
mod handle;
mod inforce;
mod init;
mod issue;
mod meter;
mod operate;
mod own;
mod recent;
mod request;
mod reuse;
mod settings;
mod staff;
mod standing;
mod tasks;
#[cfg(test)]
mod tests;
mod unattested;
mod usage;
mod watch;
mod workers;

pub use blocking::blocking;
pub use broker::{Broker, BrokerParts, LOCAL_PROOF_LABEL, Running};
pub use call::{Call, RequestId};
pub use check::{CheckInput, Checked, Credential};
pub use copy::SealedCopy;
pub use credential::{Issued, Made};
pub use feed::{
    Canary, CanaryCounts, CanaryPlace, CanarySeen, Feed, FeedSettings, FollowStart, Follows, Mark, Ping,
    Recent, Seat, Told,
};
pub use init::{InitError, initialise};
pub use issue::{MintInput, RenewInput};
pub use meter::{Meter, NoMeter};
pub use operate::{
    AuthorityStep, BarrierInput, BarrierTold, BarrierWait, BlockInput, BlockSet, FollowerList, JoinInput,
    JoinMade, KeyStep, ListInput, Listed, Named, ProfileUsage, RevocationState, RevokeInput, RevokeOutcome,
    ShownAuthority, ShownKey, ShownLease, Status, Withdrawn,
};
pub use own::OwnAttestor;
pub use request::Accepted;
pub use settings::Settings;
pub use staff::{Acceptor, AcceptorEntry, ClientCertificate, Operator, StaffIssued, StaffKind, StaffRequest};
pub use standing::Standing;
pub use tasks::{Completed, Released};
pub use watch::{Standings, Watched, Watching};
