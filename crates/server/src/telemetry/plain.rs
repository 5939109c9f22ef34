//! The plain HTTP listener: `/metrics`, `/healthz`, `/readyz`. For the machine's own network only.
//!
//! It must never serve anything that tells workloads, owners or leases apart.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mayfly_domain::Reason;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::Metrics;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// How long a whole connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// How long a request's head may take.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Whether the broker takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Serving,
    /// It does not, and why.
    Not(Reason),
}

/// Serves the plain listener until `shutdown` is done.
pub async fn serve_plain(
    listener: TcpListener,
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "can't accept on the plain listener");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (metrics, readiness) = (metrics.clone(), readiness.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&request, &metrics, &readiness);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(16 * 1024);
            let served = builder.serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(e)) = tokio::time::timeout(CONNECTION_TIME, served).await {
                tracing::debug!(error = %e, "a plain connection failed");
            }
        });
    }
}

fn answer<B>(
    request: &Request<B>,
    metrics: &Metrics,
    readiness: &watch::Receiver<Readiness>,
) -> Response<Full<Bytes>> {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, OPENMETRICS, metrics.encode()),
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match *readiness.borrow() {
            Readiness::Serving => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Readiness::Not(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        (_, "/metrics" | "/healthz" | "/readyz") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new()),
        _ => (StatusCode::NOT_FOUND, TEXT, String::new()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn health_readiness_and_metrics_are_served_and_it_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, readiness) = watch::channel(Readiness::Not(Reason::StoreHolding));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve_plain(listener, Metrics::default(), readiness, async {
            let _ = stopped.await;
        }));
        let get = async |head: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        assert!(get("GET /healthz").await.starts_with("HTTP/1.1 200"));
        let not = get("GET /readyz").await;
        assert!(not.starts_with("HTTP/1.1 503") && not.ends_with("STORE_HOLDING\n"), "{not}");
        ready.send_replace(Readiness::Serving);
        assert!(get("GET /readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get("GET /metrics").await.contains("# EOF"));
        assert!(get("POST /metrics").await.starts_with("HTTP/1.1 405"));
        assert!(get("GET /").await.starts_with("HTTP/1.1 404"));
        stop.send(()).unwrap();
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
