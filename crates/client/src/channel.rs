//! The channel to a broker: TLS 1.3 on tokio-rustls with ring, a pinned CA, no resumption, no early data.
//!
//! It must never fall back to another protocol, another verifier, or plain text over a network.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use mayfly_domain::time::{Clock as _, SystemClock};
use mayfly_domain::{Reason, Refusal, UnixMillis, defaults};
#[cfg(feature = "workload")]
use rustls::client::ResolvesClientCert;
use rustls::client::{Resumption, WantsClientCert};
use rustls::{ClientConfig, ConfigBuilder};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use crate::context::Target;
use crate::failure::Failure;
use crate::pin::BrokerVerifier;

/// How long a connection, with its handshake, may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The largest message that a client takes: an answer may list a page of leases.
pub const ANSWER_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum Unconnected {
    /// The peer is not the one that is wanted.
    #[error("the peer's certificate was not accepted")]
    Untrusted(#[source] rustls::Error),
    /// The URL names nobody.
    #[error("`{0}` is not an address")]
    Address(String),
    /// Nothing answered.
    #[error("no connection")]
    Unreachable(#[source] io::Error),
    /// The peer is the one that is wanted, but its lease is not accepted.
    #[error("the peer's lease is not accepted")]
    Refused(#[source] Refusal),
}

impl Unconnected {
    fn of(e: io::Error) -> Self {
        let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(why @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted(why.clone()),
            _ => Self::Unreachable(e),
        }
    }

    /// Finds the cause within what a transport made of it.
    pub fn within<'a>(e: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut at = Some(e);
        while let Some(here) = at {
            if let Some(found) = here.downcast_ref::<Self>() {
                return Some(found);
            }
            at = here.source();
        }
        None
    }
}

impl From<&Unconnected> for Failure {
    fn from(why: &Unconnected) -> Self {
        match why {
            Unconnected::Address(url) => Self::of(Reason::ConfigInvalid).fact("where", url),
            Unconnected::Untrusted(e) => Self::of(Reason::BrokerUntrusted).fact("problem", describe(e)),
            Unconnected::Unreachable(e) => Self::of(Reason::BrokerUnreachable).fact("problem", e.to_string()),
            Unconnected::Refused(refusal) => Self::from(refusal.clone()),
        }
    }
}

fn describe(e: &rustls::Error) -> String {
    match e {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.to_string(),
        rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName) => {
            "the certificate is not for this host name".to_owned()
        }
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "the certificate was not issued by the pinned CA".to_owned()
        }
        other => other.to_string(),
    }
}

fn identity(
    cert: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Refusal> {
    let no = |file: &Path, why: String| {
        Refusal::new(Reason::ConfigInvalid, "").fact("file", file.display().to_string()).fact("problem", why)
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| no(cert, e.to_string()))?;
    let Some(leaf) = chain.first() else {
        return Err(no(cert, "holds no certificate".to_owned()));
    };
    unexpired(cert, leaf, SystemClock.now())?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| no(key, e.to_string()))?;
    Ok((chain, key))
}

/// A certificate that is over is told here: a broker would only cut the handshake, and nobody could see why.
fn unexpired(file: &Path, leaf: &CertificateDer<'_>, now: UnixMillis) -> Result<(), Refusal> {
    let Ok((_, leaf)) = x509_parser::parse_x509_certificate(leaf) else { return Ok(()) };
    let ends = leaf.validity().not_after;
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    if seconds < ends.timestamp() {
        return Ok(());
    }
    Err(Refusal::new(Reason::CertificateRequired, "").fact("file", file.display().to_string()).fact(
        "problem",
        format!("the certificate ended {}", ended(seconds.saturating_sub(ends.timestamp()))),
    ))
}

fn ended(seconds: i64) -> String {
    match (seconds / 3_600, seconds / 60) {
        (0, 0) => format!("{seconds} s ago"),
        (0, minutes) => format!("{minutes} min ago"),
        (hours, _) => format!("{hours} h ago"),
    }
}

/// The TLS configuration for a target, with the certificate files that it names.
///
/// # Errors
/// `CONFIG_INVALID` where the caller's certificate or key can't be read, `CERTIFICATE_REQUIRED` where it has expired.
pub fn tls(target: &Target) -> Result<ClientConfig, Refusal> {
    let no = |e: rustls::Error| {
        Refusal::new(Reason::ConfigInvalid, "")
            .fact("where", format!("context {}", target.name))
            .fact("problem", e.to_string())
    };
    let builder = builder(target).map_err(no)?;
    let config = match &target.identity {
        Some((cert, key)) => {
            let (chain, key) = identity(cert, key)?;
            builder.with_client_auth_cert(chain, key).map_err(no)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(strict(config))
}

fn builder(target: &Target) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        BrokerVerifier::new(target.pin.clone(), target.trust_domain.clone(), Arc::clone(&provider));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// HTTP/2 alone; neither resumption, which skips the verifier, nor early data.
pub(crate) fn strict(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// Connects to a broker; the channel connects again by itself.
///
/// # Errors
/// `CONFIG_INVALID`, `CERTIFICATE_REQUIRED`, `BROKER_UNTRUSTED` or `BROKER_UNREACHABLE`.
pub async fn connect(target: &Target) -> Result<Channel, Failure> {
    at_broker(target, tls(target)?).await
}

async fn at_broker(target: &Target, config: ClientConfig) -> Result<Channel, Failure> {
    let dialled = dial(&target.url, Arc::new(config), AsItIs, Arc::default()).await;
    dialled.map_err(|e| Failure::from(&e).fact("broker", target.url.as_str()))
}

/// Connects to a broker with whatever certificate the resolver has then.
#[cfg(feature = "workload")]
pub(crate) async fn connect_as(
    target: &Target,
    resolver: Arc<dyn ResolvesClientCert>,
) -> Result<Channel, Failure> {
    let builder =
        builder(target).map_err(|e| Failure::of(Reason::ConfigInvalid).fact("problem", e.to_string()))?;
    at_broker(target, strict(builder.with_client_cert_resolver(resolver))).await
}

/// What becomes of each connection of a channel, between its handshake and the first octet that is sent over it.
pub trait Through: Clone + Send + Sync + 'static {
    /// What the channel then talks over.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Takes the connection, or refuses it. Whoever is told by `wanted` that the connection will end before long
    /// makes another one, to which new requests move.
    fn through(
        &self,
        tls: TlsStream<TcpStream>,
        wanted: Arc<Notify>,
    ) -> impl Future<Output = Result<Self::Io, Unconnected>> + Send;
}

/// Takes every connection as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsItIs;

impl Through for AsItIs {
    type Io = TlsStream<TcpStream>;

    async fn through(&self, tls: TlsStream<TcpStream>, _: Arc<Notify>) -> Result<Self::Io, Unconnected> {
        Ok(tls)
    }
}

/// Connects over TLS. The connector does TLS itself: to tonic the connection is a plain one, and only the origin
/// says https.
pub(crate) async fn dial<T: Through>(
    url: &Url,
    config: Arc<ClientConfig>,
    through: T,
    wanted: Arc<Notify>,
) -> Result<Channel, Unconnected> {
    let nowhere = || Unconnected::Address(url.to_string());
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let name = ServerName::try_from(host.clone()).map_err(|_| nowhere())?;
    let connector = TlsConnector::from(config);
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, name, host) = (connector.clone(), name.clone(), host.clone());
        let (through, wanted) = (through.clone(), Arc::clone(&wanted));
        async move {
            let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(Unconnected::Unreachable)?;
            tcp.set_nodelay(true).map_err(Unconnected::Unreachable)?;
            let stream = connector.connect(name, tcp).await.map_err(Unconnected::of)?;
            Ok::<_, Unconnected>(TokioIo::new(through.through(stream, wanted).await?))
        }
    });
    let uri = Uri::builder().scheme("http").authority(url.authority()).path_and_query("/").build();
    let origin = Uri::builder().scheme("https").authority(url.authority()).path_and_query("/").build();
    let (Ok(uri), Ok(origin)) = (uri, origin) else { return Err(nowhere()) };
    let endpoint = tuned(Endpoint::from(uri)).origin(origin);
    endpoint.connect_with_connector(dial).await.map_err(|e| why(&e))
}

/// Connects to a broker's own socket on this host.
///
/// # Errors
/// `BROKER_UNREACHABLE` where nothing listens there.
pub async fn connect_unix(socket: PathBuf) -> Result<Channel, Failure> {
    let shown = socket.display().to_string();
    let dial = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move {
            let stream = UnixStream::connect(socket).await.map_err(Unconnected::Unreachable)?;
            Ok::<_, Unconnected>(TokioIo::new(stream))
        }
    });
    tuned(Endpoint::from_static("http://localhost"))
        .connect_with_connector(dial)
        .await
        .map_err(|e| Failure::from(&why(&e)).fact("socket", shown))
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .http2_max_header_list_size(u32::try_from(defaults::MESSAGE_OCTETS_MAX).unwrap_or(65_536))
}

/// The cause in what the transport says, as a value of its own.
fn why(e: &tonic::transport::Error) -> Unconnected {
    match Unconnected::within(e) {
        Some(Unconnected::Untrusted(e)) => Unconnected::Untrusted(e.clone()),
        Some(Unconnected::Address(url)) => Unconnected::Address(url.clone()),
        Some(Unconnected::Unreachable(e)) => {
            Unconnected::Unreachable(io::Error::new(e.kind(), e.to_string()))
        }
        Some(Unconnected::Refused(refusal)) => Unconnected::Refused(refusal.clone()),
        None => Unconnected::Unreachable(io::Error::other(e.to_string())),
    }
}

#[cfg(feature = "workload")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Ca;

    #[test]
    fn an_expired_certificate_is_told_before_anything_is_sent() {
        let (leaf, _) = Ca::new().leaf(&[]);
        let ends = x509_parser::parse_x509_certificate(&leaf).unwrap().1.validity().not_after.timestamp();
        let at = |seconds: i64| UnixMillis(u64::try_from(ends + seconds).unwrap() * 1_000);
        let file = Path::new("alice.pem");
        assert!(unexpired(file, &leaf, at(-1)).is_ok());
        let refusal = unexpired(file, &leaf, at(0)).unwrap_err();
        assert_eq!(refusal.reason, Reason::CertificateRequired);
        for (after, words) in [(0, "0 s ago"), (90, "1 min ago"), (7_300, "2 h ago")] {
            let refusal = unexpired(file, &leaf, at(after)).unwrap_err();
            let told = refusal.facts.iter().any(|(_, value)| value.ends_with(words));
            assert!(told, "{:?}", refusal.facts);
        }
    }
}
