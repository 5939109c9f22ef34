//! A service whose policies judge each request in its own process.

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::Uri;
use axum::routing::get;
use mayfly_verify::client::{Contexts, Env};
use mayfly_verify::{Caller, Denied, MayflyLayer, RequestAsk, Scopes, Verifier};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let env = Env::process();
    let broker = Contexts::load(&Contexts::path(&env)?)?.target(None, &env)?;
    // The policies come with the feed: it is not ready before they came.
    let verifier = Verifier::builder(broker).with_policies().start()?;
    verifier.ready().await;

    let mayfly = MayflyLayer::new(&verifier, &std::env::var("API_ORIGIN")?)?;
    let router = Router::new()
        .route("/books/{book}/entries", get(entries).layer(mayfly.scopes(["ledger:read"])))
        .with_state(verifier.clone());

    let listener = tokio::net::TcpListener::bind(std::env::var("API_LISTEN")?).await?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let mut ends = signal(SignalKind::terminate())?;
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            let _ = ends.recv().await;
        })
        .await?;
    verifier.shutdown().await;
    Ok(())
}

async fn entries(
    State(verifier): State<Verifier>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(book): Path<String>,
    uri: Uri,
    caller: Caller,
) -> Result<String, Denied> {
    let book = format!("Ledger::Book::\"{book}\"");
    let action = "Ledger::Action::\"GET /entries\"";
    let ask = RequestAsk::new(action, &book, "GET", uri.path(), Some(from.ip()), Scopes::default())?;
    let observed = verifier.check_request(&caller, &ask)?;
    Ok(format!("{book} for {}, policies that would refuse: {observed:?}\n", caller.workload))
}
