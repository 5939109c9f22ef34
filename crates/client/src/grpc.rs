//! gRPC between services that live by their certificates: a channel that takes each new one without dropping a
//! request, and a server that ends a connection with its peer's certificate.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use mayfly_domain::SpiffeId;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Channel;
use tower::{Service, ServiceExt as _};
use url::Url;

use crate::channel::{self, AsItIs, Through, Unconnected};
use crate::identity::{State, X509Identity};
use crate::mtls::Peers;
use crate::serve::{ByCertificate, Peer};
use crate::svid::Svid;

/// How long the connection with a new certificate may take to come, where a call needs it.
const ROTATION: Duration = Duration::from_secs(2);

/// A channel that connects anew for each new certificate: new requests take the new connection once it is there,
/// requests under way end on the old one, which closes after the last of them.
///
/// Clones share the connection.
#[derive(Debug, Clone)]
pub struct RotatingChannel(watch::Receiver<Channel>);

/// A channel without a certificate that could change.
impl From<Channel> for RotatingChannel {
    fn from(channel: Channel) -> Self {
        Self(watch::channel(channel).1)
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl RotatingChannel {
    /// Connects, and connects again whenever `state` shows another certificate or somebody is told that another
    /// connection is wanted, as long as a clone is left.
    pub(crate) async fn new<E: Display + Send, F>(
        mut state: watch::Receiver<State>,
        wanted: Arc<Notify>,
        dial: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Self, E>
    where
        F: Future<Output = Result<Channel, E>> + Send,
    {
        let mut shown = state.borrow_and_update().svid().cloned();
        let (sender, receiver) = watch::channel(dial().await?);
        tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    () = sender.closed() => return,
                    () = wanted.notified() => true,
                    changed = state.changed() => if changed.is_err() { return } else { false },
                };
                let newest = state.borrow_and_update().svid().cloned();
                if newest.is_none() || !asked && same(newest.as_ref(), shown.as_ref()) {
                    continue;
                }
                shown = newest;
                tokio::select! {
                    () = sender.closed() => return,
                    channel = again(&dial) => { sender.send_replace(channel); }
                }
            }
        });
        Ok(Self(receiver))
    }
}

impl RotatingChannel {
    /// What tells whether another connection came after this moment.
    pub(crate) fn newer(&self) -> Newer {
        let mut channel = self.0.clone();
        channel.mark_unchanged();
        Newer(channel)
    }
}

/// Waits for the connection with the next certificate.
pub(crate) struct Newer(watch::Receiver<Channel>);

impl Newer {
    /// Whether there is another connection, now or before long.
    pub(crate) async fn came(&mut self) -> bool {
        matches!(tokio::time::timeout(ROTATION, self.0.changed()).await, Ok(Ok(())))
    }
}

fn same(one: Option<&Arc<Svid>>, other: Option<&Arc<Svid>>) -> bool {
    matches!((one, other), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
}

/// Dials until it succeeds. Requests stay on the old connection meanwhile.
async fn again<E: Display, F: Future<Output = Result<Channel, E>>>(dial: &impl Fn() -> F) -> Channel {
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        match dial().await {
            Ok(channel) => return channel,
            Err(why) => tracing::debug!(%why, "no connection with the new certificate yet"),
        }
        tokio::time::sleep(waits.next().unwrap_or(Duration::from_secs(5))).await;
    }
}

impl Service<http::Request<Body>> for RotatingChannel {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Boxed<Result<Self::Response, Self::Error>>;

    /// Always ready: the request waits for the connection that is the newest when it is made.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut channel = self.0.borrow().clone();
        Box::pin(async move { channel.ready().await?.call(request).await })
    }
}

impl X509Identity {
    /// A channel to a service at this address that must be one of these peers; for any generated tonic client.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn channel(&self, url: &Url, peers: Peers) -> Result<RotatingChannel, Unconnected> {
        self.channel_through(url, peers, AsItIs).await
    }

    /// As [`X509Identity::channel`], with something between TLS and HTTP.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn channel_through<T: Through>(
        &self,
        url: &Url,
        peers: Peers,
        through: T,
    ) -> Result<RotatingChannel, Unconnected> {
        let config = Arc::new(self.client_config(peers).map_err(Unconnected::Untrusted)?);
        let (url, wanted) = (url.clone(), Arc::new(Notify::new()));
        let wants = Arc::clone(&wanted);
        let dial = move || {
            let (url, config) = (url.clone(), Arc::clone(&config));
            let (through, wants) = (through.clone(), Arc::clone(&wants));
            async move { channel::dial(&url, config, through, wants).await }
        };
        RotatingChannel::new(self.state(), wanted, dial).await
    }
}

/// Who makes this call, where a server of this crate's accepted it.
pub fn peer<T>(request: &tonic::Request<T>) -> Option<&SpiffeId> {
    request.extensions().get::<Peer>().map(|peer| &peer.0)
}

/// Serves these peers, with the newest certificate, until `shutdown`; then lets requests under way finish. A
/// connection ends with its peer's certificate.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    identity: &X509Identity,
    peers: Peers,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let config = identity.server_config(peers).map_err(io::Error::other)?;
    let admission = ByCertificate(identity.clock());
    crate::serve::serve(listener, config, admission, routes.prepare(), shutdown).await
}

#[cfg(test)]
mod tests;
