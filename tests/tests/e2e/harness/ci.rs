//! The stand-in CI provider's HTTPS face, for brokers that are processes of their own and fetch its keys.

use std::sync::Arc;

use mayfly_testkit::issuer::StandInIssuer;
use mayfly_testkit::tls::ServerTls;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Its URL, and the authority by which it is known.
#[derive(Clone)]
pub(crate) struct Ci {
    pub(crate) url: String,
    pub(crate) ca_pem: String,
}

impl Ci {
    /// Serves the issuer's keys until the runtime ends.
    pub(crate) async fn serve(issuer: &Arc<StandInIssuer>) -> Self {
        let tls = ServerTls::loopback();
        let chain = vec![CertificateDer::from_pem_slice(tls.cert_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (issuer, own) = (issuer.clone(), url.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), tcp, issuer.clone(), own.clone()));
            }
        });
        Self { url, ca_pem: tls.ca_pem }
    }
}

async fn answer(acceptor: TlsAcceptor, tcp: TcpStream, issuer: Arc<StandInIssuer>, url: String) {
    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(octet) = stream.read_u8().await else { return };
        request.push(octet);
    }
    let discovery = request.starts_with(b"GET /.well-known/openid-configuration ");
    let body = if discovery {
        serde_json::json!({ "issuer": url, "jwks_uri": format!("{url}/jwks") }).to_string()
    } else {
        issuer.jwks().to_string()
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes()).await;
    let _ = stream.shutdown().await;
}
