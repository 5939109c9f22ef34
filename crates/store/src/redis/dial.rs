//! Opens streams to a Redis: TCP, TLS by rustls with ring, or a Unix socket.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::Secret;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::answer::not_open;
use super::config::{ConfigError, RedisConfig};

/// Silence after which the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The future that drives a connection.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Address {
    Tcp(String, u16),
    Tls(String, u16, ServerName<'static>, TlsConnector),
    Unix(PathBuf),
}

/// A server to connect to.
pub(super) struct Target {
    address: Address,
    info: RedisConnectionInfo,
    password: Option<Secret<String>>,
    password_file: Option<PathBuf>,
    options: AsyncConnectionConfig,
    response_timeout: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Target {
    /// Reads a configuration.
    pub(super) fn new(config: &mut RedisConfig) -> Result<Self, ConfigError> {
        let bad = |why: &str| ConfigError::Url(why.to_owned());
        let parsed =
            config.url.as_str().into_connection_info().map_err(|_| {
                bad("must be `redis://HOST:PORT/DB`, `rediss://HOST:PORT/DB` or `unix:///PATH`")
            })?;
        let settings = parsed.redis_settings();
        if settings.password().is_some() {
            return Err(bad("must not hold the password"));
        }
        let mut info = RedisConnectionInfo::default().set_db(settings.db()).set_skip_set_lib_name();
        if let Some(user) = config.username.as_deref().or(settings.username()) {
            info = info.set_username(user);
        }
        let address = match parsed.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(bad("must not ask for TLS without verification"));
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| bad("has no valid host"))?;
                Address::Tls(host.clone(), *port, name, connector(config.ca_pem.as_deref())?)
            }
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err(bad("is of an unknown kind")),
        };
        let options = AsyncConnectionConfig::new()
            .set_pipeline_buffer_size(1_024)
            .set_write_backpressure_boundary(128 * 1_024);
        Ok(Self {
            address,
            info,
            password: config.password.take(),
            password_file: config.password_file.take(),
            options,
            response_timeout: config.response_timeout,
        })
    }

    /// Opens a connection, with the future that drives it and ends with it. `waits`: how long the server may wait
    /// itself before it answers.
    pub(super) async fn open(&self, waits: Duration) -> Result<(MultiplexedConnection, Driver), String> {
        let read = match &self.password_file {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        let mut info = self.info.clone();
        if let Some(password) = read.as_ref().or(self.password.as_ref()) {
            info = info.set_password(password.expose());
        }
        let stream: Box<dyn Stream> = match &self.address {
            Address::Tcp(host, port) => Box::new(tcp(host, *port).await?),
            Address::Tls(host, port, name, connector) => {
                let plain = tcp(host, *port).await?;
                Box::new(connector.connect(name.clone(), plain).await.map_err(|e| format!("TLS: {e}"))?)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(|e| e.to_string())?),
        };
        let options = self.options.clone().set_response_timeout(Some(self.response_timeout + waits));
        let opened = MultiplexedConnection::new_with_config(&info, stream, options).await;
        let (connection, driver) = opened.map_err(|e| not_open(&e))?;
        Ok((connection, Box::pin(driver)))
    }
}

async fn read(path: &Path) -> Result<Secret<String>, String> {
    let text = tokio::fs::read_to_string(path).await.map(Secret::new);
    let text = text.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive))
        .map_err(|e| e.to_string())?;
    Ok(stream)
}

fn connector(ca_pem: Option<&[u8]>) -> Result<TlsConnector, ConfigError> {
    let bad = |why: String| ConfigError::Ca(why);
    let mut roots = rustls::RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|e| bad(format!("is not PEM: {e}")))?;
                roots.add(certificate).map_err(|e| bad(format!("holds no authority: {e}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(bad("no authority is known".to_owned()));
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| bad(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
