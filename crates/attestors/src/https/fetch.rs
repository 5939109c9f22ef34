//! One fetch: the discovery document, then the JWK set.

use std::sync::Arc;
use std::time::Duration;

use mayfly_attest::Issuer;
use mayfly_domain::defaults;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;
use serde::Deserialize;
use url::Url;

use crate::jwks::{KeySet, Unreadable};

/// The largest discovery document, in octets.
const DISCOVERY_OCTETS_MAX: usize = 64 * 1024;
/// Until when a connection must stand.
const CONNECT: Duration = Duration::from_secs(3);
/// Until when one answer must be complete.
const WHOLE: Duration = Duration::from_secs(8);

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The additional authorities can't be read.
    #[error("the additional authorities are not PEM certificates")]
    ExtraAuthorities,
    /// An authority can't be used, or there is none at all.
    #[error("the certificate authorities can't be used: {0}")]
    Authorities(String),
    /// The TLS or HTTP library refused.
    #[error("the HTTPS client can't be made: {0}")]
    Library(String),
}

/// Why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The transport failed.
    #[error("`{url}`: {why}")]
    Transport {
        /// What was asked for.
        url: String,
        /// The chain of causes.
        why: String,
    },
    /// The answer's status is not 200; redirects are not followed.
    #[error("`{url}` answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The answer is too large.
    #[error("`{url}` answered with more than {limit} octets")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// The discovery document is malformed or of another issuer.
    #[error("the discovery document {0}")]
    Discovery(&'static str),
    /// The JWK set can't be used.
    #[error("the key set {0}")]
    Keys(#[from] Unreadable),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The HTTPS client.
#[derive(Debug, Clone)]
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(extra_ca_pem: Option<&[u8]>) -> Result<Self, NoClient> {
        let mut extra = Vec::new();
        if let Some(pem) = extra_ca_pem {
            for one in CertificateDer::pem_slice_iter(pem) {
                extra.push(one.map_err(|_| NoClient::ExtraAuthorities)?);
            }
            if extra.is_empty() {
                return Err(NoClient::ExtraAuthorities);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
            .map_err(|e| NoClient::Authorities(e.to_string()))?;
        let library = |e: &dyn std::error::Error| NoClient::Library(e.to_string());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| library(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .user_agent(concat!("mayfly/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| library(&e))?;
        Ok(Self(client))
    }

    /// Fetches the issuer's keys; also gives the document that they were read from.
    pub(super) async fn keys(&self, issuer: &Issuer) -> Result<(Vec<u8>, KeySet), FetchError> {
        let uri = match &issuer.jwks_uri {
            Some(uri) => uri.clone(),
            None => self.discover(issuer).await?,
        };
        let document = self.get(&uri, defaults::JWKS_OCTETS_MAX).await?;
        let keys = KeySet::parse(&document)?;
        Ok((document, keys))
    }

    async fn discover(&self, issuer: &Issuer) -> Result<String, FetchError> {
        let url = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let document = self.get(&url, DISCOVERY_OCTETS_MAX).await?;
        keys_uri(issuer, &document)
    }

    async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
        let transport = |e: reqwest::Error| FetchError::Transport { url: url.to_owned(), why: causes(&e) };
        let too_large = || FetchError::TooLarge { url: url.to_owned(), limit };
        let mut answer = self.0.get(url).send().await.map_err(transport)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status { url: url.to_owned(), status: answer.status().as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The `jwks_uri` of a discovery document: its issuer is the one that was asked, its host the issuer's own or
/// the one that is configured.
pub(super) fn keys_uri(issuer: &Issuer, document: &[u8]) -> Result<String, FetchError> {
    let discovery: Discovery =
        serde_json::from_slice(document).map_err(|_| FetchError::Discovery("is malformed"))?;
    if discovery.issuer != issuer.url {
        return Err(FetchError::Discovery("is of another issuer"));
    }
    let url =
        Url::parse(&discovery.jwks_uri).map_err(|_| FetchError::Discovery("names no URL for the keys"))?;
    let own = Url::parse(&issuer.url).ok().and_then(|u| host(&u));
    let named = host(&url);
    let pinned = named.is_some() && (named == own || named == issuer.jwks_host);
    if url.scheme() != "https" || !url.username().is_empty() || !pinned {
        return Err(FetchError::Discovery(
            "names a host for the keys that is not the issuer's: set `jwks_host` or `jwks_uri` in the rule",
        ));
    }
    Ok(discovery.jwks_uri)
}

fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn causes(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        out.push_str(": ");
        out.push_str(&cause.to_string());
        next = cause.source();
    }
    out
}
