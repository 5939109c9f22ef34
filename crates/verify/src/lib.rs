//! For services that accept Mayfly's credentials: follows the feed and decides in-process, in about a microsecond.
//!
//! Must never accept while it is not fresh, forget a revocation that still counts, or hold a private key of Mayfly's.
//!
//! ```no_run
//! use mayfly_client::{Contexts, Env};
//! use mayfly_verify::{Request, Verifier};
//! # async fn service(token: &str, proof: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let env = Env::process();
//! let broker = Contexts::load(&Contexts::path(&env)?)?.target(None, &env)?;
//! let verifier = Verifier::builder(broker).start()?;
//! verifier.ready().await;
//!
//! let request = Request {
//!     method: "POST",
//!     url: "https://deploy.acme.internal/releases",
//!     dpop: Some(proof),
//!     scopes: &["deploy:write"],
//!     ..Request::default()
//! };
//! let holder = verifier.check_token(token, &request).map_err(|refusal| refusal.reason.as_str())?;
//! println!("{} may deploy until {}", holder.workload, holder.expires.secs());
//! # Ok(())
//! # }
//! ```

mod ask;
mod builder;
mod cache;
mod check;
mod follower;
mod guards;
mod judged;
mod known;
mod layer;
pub mod metrics;
mod peer;
#[cfg(feature = "policy")]
mod policy;
#[cfg(feature = "mtls")]
mod serve;
mod stream;
mod table;
#[cfg(test)]
mod tests;
#[cfg(feature = "mtls")]
pub mod tls;
mod usage;
mod verifier;

pub use builder::{Builder, PastBound};
pub use check::key_of;
pub use guards::{Ended, Guard};
pub use judged::{Judged, Kind, Request};
pub use layer::{Body, Caller, Denied, Guarded, MayflyLayer, NoOrigin, caller};
pub use mayfly_client as client;
pub use mayfly_credential::Usage;
#[cfg(feature = "policy")]
pub use mayfly_domain::{Scope, Scopes};
#[cfg(feature = "policy")]
pub use mayfly_policy::RequestAsk;
pub use metrics::{Freshness, Metrics};
pub use peer::Peer;
#[cfg(feature = "mtls")]
pub use serve::Server;
pub use stream::GuardedStream;
pub use verifier::Verifier;
