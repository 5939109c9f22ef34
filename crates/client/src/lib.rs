//! For workloads, operators and acceptors: the way to a broker that is known beforehand, evidence, keys, proofs.
//!
//! A broker is trusted by a pinned CA or not at all: there is no trust on first use and no switch that turns
//! verification off. This crate must never write a token to disk, put a secret into an error or a log, install
//! anything process-global, or judge a credential.
//!
//! The feature `workload`, on by default, is what workloads and operators need. Without it this is what an acceptor
//! needs and little more: a context, the pinned channel, the verifier of peers.
//!
//! # A service
//!
//! ```no_run
//! use mayfly_client::identity::Options;
//! use mayfly_client::workload::CertificateAsk;
//! use mayfly_client::{Contexts, Env, Peers, Source, X509Identity, grpc};
//! # fn routes() -> tonic::service::Routes { tonic::service::Routes::default() }
//! # async fn service() -> Result<(), Box<dyn std::error::Error>> {
//! let env = Env::process();
//! let broker = Contexts::load(&Contexts::path(&env)?)?.target(None, &env)?;
//! let evidence = Source::discover(None, &env)?;
//! // A certificate within milliseconds, and a newer one ahead of each end.
//! let options = Options::new(CertificateAsk::new("payments-api".parse()?));
//! let identity = X509Identity::start(&broker, evidence, options).await?;
//!
//! // Calls go to exactly this peer; they move to each new certificate without a failed request.
//! let ledger = Peers::ids(["spiffe://acme.internal/payments/ledger".parse()?]);
//! let channel = identity.channel(&"https://ledger.payments.svc:8443".parse()?, ledger).await?;
//! // let mut client = LedgerClient::new(channel);
//! # drop(channel);
//!
//! // And everybody below this path may call.
//! let callers = Peers::default().or_under("/web")?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! grpc::serve(listener, &identity, callers, routes(), stop).await?;
//! identity.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The order in which evidence is looked for is in [`evidence`]; what happens when a certificate can't be renewed in
//! [`identity`]; access tokens for a service's own calls are in [`token`], tasks that end with a scope in [`guard`].

pub mod acceptor;
pub mod bundle;
pub mod channel;
pub mod context;
pub mod env;
#[cfg(feature = "workload")]
pub mod evidence;
pub mod failure;
#[cfg(feature = "workload")]
#[cfg(test)]
mod fixture;
#[cfg(feature = "workload")]
pub mod grpc;
#[cfg(feature = "workload")]
pub mod guard;
#[cfg(feature = "workload")]
pub mod identity;
#[cfg(feature = "workload")]
pub mod keys;
pub mod mtls;
#[cfg(feature = "workload")]
pub mod operator;
mod pem;
pub mod pin;
#[cfg(feature = "workload")]
pub mod proof;
#[cfg(feature = "workload")]
pub mod retry;
pub mod serve;
#[cfg(feature = "workload")]
pub mod svid;
#[cfg(feature = "workload")]
pub mod token;
#[cfg(feature = "workload")]
pub mod workload;

pub use acceptor::AcceptorClient;
pub use bundle::Bundle;
pub use context::{Context, Contexts, Target};
pub use env::Env;
#[cfg(feature = "workload")]
pub use evidence::{Evidence, Source};
pub use failure::Failure;
#[cfg(feature = "workload")]
pub use grpc::RotatingChannel;
#[cfg(feature = "workload")]
pub use guard::TaskGuard;
#[cfg(feature = "workload")]
pub use identity::{Event, State, X509Identity};
#[cfg(feature = "workload")]
pub use keys::{KeyHome, KeyScope, WorkloadKey};
pub use mtls::Peers;
#[cfg(feature = "workload")]
pub use operator::OperatorClient;
pub use pin::Pin;
#[cfg(feature = "workload")]
pub use svid::Svid;
#[cfg(feature = "workload")]
pub use token::TokenSource;
#[cfg(feature = "workload")]
pub use workload::WorkloadClient;
