//! For workloads, operators and acceptors: the way to a broker that is known beforehand, evidence, keys, proofs.
//!
//! A broker is trusted by a pinned CA or not at all: there is no trust on first use and no switch that turns
//! verification off. This crate must never write a token to disk, put a secret into an error or a log, install
//! anything process-global, or judge a credential.
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
pub mod evidence;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod grpc;
pub mod guard;
pub mod identity;
pub mod keys;
pub mod mtls;
pub mod operator;
mod pem;
pub mod pin;
pub mod proof;
pub mod retry;
pub mod serve;
pub mod svid;
pub mod token;
pub mod workload;

pub use acceptor::AcceptorClient;
pub use bundle::Bundle;
pub use context::{Context, Contexts, Target};
pub use env::Env;
pub use evidence::{Evidence, Source};
pub use failure::Failure;
pub use grpc::RotatingChannel;
pub use guard::TaskGuard;
pub use identity::{Event, State, X509Identity};
pub use keys::{KeyHome, KeyScope, WorkloadKey};
pub use mtls::Peers;
pub use operator::OperatorClient;
pub use pin::Pin;
pub use svid::Svid;
pub use token::TokenSource;
pub use workload::WorkloadClient;
