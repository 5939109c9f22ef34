//! A service that serves others by mTLS until their leases end.

use std::error::Error;

use axum::routing::get;
use axum::{Extension, Router};
use mayfly_client::identity::Options;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Contexts, Env, Peers, Source, X509Identity};
use mayfly_verify::{Peer, Server, Verifier};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // As an acceptor it follows the broker; as a workload it has a certificate of its own.
    let env = Env::process();
    let broker = Contexts::load(&Contexts::path(&env)?)?.target(None, &env)?;
    let ask = CertificateAsk::new("ledger-mtls".parse()?);
    let identity = X509Identity::start(&broker, Source::discover(None, &env)?, Options::new(ask)).await?;
    let verifier = Verifier::builder(broker).start()?;
    verifier.ready().await;

    let router = Router::new().route("/hello", get(hello));
    let peers = Peers::ids(["spiffe://acme.internal/svc/payments".parse()?]);
    let listener = tokio::net::TcpListener::bind(std::env::var("API_LISTEN")?).await?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Server::new(&identity, &verifier, peers).run(listener, router, stop).await?;
    verifier.shutdown().await;
    identity.release().await?;
    Ok(())
}

async fn hello(Extension(peer): Extension<Peer>) -> String {
    format!("hello {}\n", peer.judged().workload)
}
