//! A small HTTPS server that answers what a test tells it to, one request a connection.

use std::collections::HashMap;
use std::sync::Arc;

use mayfly_testkit::tls::ServerTls;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What a path answers: the octets after the request, as they go over the wire.
#[derive(Clone)]
pub(super) struct Answer(String);

impl Answer {
    pub(super) fn ok(body: &str) -> Self {
        Self(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
    }

    pub(super) fn status(status: u16) -> Self {
        Self(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
    }

    pub(super) fn redirect(to: &str) -> Self {
        Self(format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    }

    /// A body whose length is not said beforehand.
    pub(super) fn unannounced(body: &str) -> Self {
        Self(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"))
    }

    /// A body that ends too early.
    pub(super) fn cut(body: &str) -> Self {
        Self(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len() + 1
        ))
    }
}

pub(super) struct Server {
    pub(super) url: String,
    pub(super) ca_pem: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    hits: watch::Sender<usize>,
}

impl Server {
    pub(super) async fn start() -> Self {
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
        let server = Self { url, ca_pem: tls.ca_pem, answers: Arc::default(), hits: watch::Sender::new(0) };
        let (answers, hits) = (Arc::clone(&server.answers), server.hits.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answers, hits) = (acceptor.clone(), Arc::clone(&answers), hits.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        serve(stream, &answers, &hits).await;
                    }
                });
            }
        });
        server
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().insert(path.to_owned(), answer);
    }

    pub(super) fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    pub(super) async fn wait_for(&self, hits: usize) {
        self.hits.subscribe().wait_for(|now| *now >= hits).await.unwrap();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &Mutex<HashMap<String, Answer>>,
    hits: &watch::Sender<usize>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => request.push(octet),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let answer = answers.lock().get(path).cloned().unwrap_or_else(|| Answer::status(404));
    hits.send_modify(|hits| *hits += 1);
    // A client that has read enough closes first.
    let _ = stream.write_all(answer.0.as_bytes()).await;
    let _ = stream.shutdown().await;
}
