//! A service that accepts Mayfly's access tokens, and decides in its own process.

use std::error::Error;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use mayfly_verify::client::{Contexts, Env};
use mayfly_verify::{Caller, MayflyLayer, Verifier};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Its log says which broker it follows, and why it follows none.
    tracing_subscriber::fmt().init();
    // The broker, and this service's own certificate, as `mayfly` itself finds them.
    let env = Env::process();
    let broker = Contexts::load(&Contexts::path(&env)?)?.target(None, &env)?;
    let verifier = Verifier::builder(broker).start()?;
    verifier.ready().await;

    // As clients write it: that is what their proofs are for, whatever a `Host` header says.
    let mayfly = MayflyLayer::new(&verifier, &std::env::var("API_ORIGIN")?)?;
    let router = Router::new()
        .route("/run", post(run).layer(mayfly.scopes(["deploy:write"])))
        .route("/whoami", get(whoami).layer(mayfly))
        .route("/metrics", get(metrics))
        .with_state(verifier.clone());

    let listener = tokio::net::TcpListener::bind(std::env::var("API_LISTEN")?).await?;
    let mut ends = signal(SignalKind::terminate())?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = ends.recv().await;
        })
        .await?;
    // It accepts nothing any more, and no revocation waits for it.
    verifier.shutdown().await;
    Ok(())
}

async fn run(caller: Caller) -> String {
    format!("deployed for {}\n", caller.workload)
}

async fn whoami(caller: Caller) -> String {
    format!("{} with lease {}\n", caller.workload, caller.credential.lease)
}

async fn metrics(State(verifier): State<Verifier>) -> String {
    verifier.render_metrics()
}
