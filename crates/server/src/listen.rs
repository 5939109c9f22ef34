//! The one listener: a bound socket, an application and a future that ends it.
//!
//! Every bound holds before the application sees a request: connections in all and by address before TLS,
//! then the handshake, the request's head, streams, header sizes and idleness.

mod caps;
mod connection;
mod peer;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use peer::{ConnectionHandle, Peer};

use crate::config::{Limits, Server};
use crate::http::App;
use crate::telemetry::Turned;
use crate::tls::Tls;
use caps::{Caps, Denied};
use connection::{Bounds, Served};

/// Serves `app` on `listener` until `shutdown` is done, then drains: no new connections or calls, running
/// calls may end within the configured time, then every connection is closed.
///
/// Returns when the last connection and the last call's work have ended.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    app: App,
    server: &Server,
    limits: &Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let caps = Caps::new(limits.connections, limits.connections_per_address);
    let bounds = Bounds::new(server, limits);
    let draining = CancellationToken::new();
    let connections = TaskTracker::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    // Out of file descriptors, most likely: taking a breath lets connections end.
                    tracing::warn!(error = %e, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        match caps.admit(address.ip()) {
            Ok(place) => {
                let served = Served {
                    tls: tls.config(),
                    clients: tls.clients().clone(),
                    app: app.clone(),
                    bounds,
                    draining: draining.clone(),
                };
                connections.spawn(async move {
                    let _place = place;
                    served.run(stream, address).await;
                });
            }
            Err(Denied::Full) => app.metrics().turned(Turned::Full),
            Err(Denied::AddressFull) => app.metrics().turned(Turned::AddressFull),
        }
    }
    drop(listener);
    tracing::info!(connections = connections.len(), "draining");
    draining.cancel();
    connections.close();
    connections.wait().await;
    app.finished().await;
}
