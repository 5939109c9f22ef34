//! A tower layer that lets requests through whose credential is accepted: for axum routers, tonic services, and any
//! other HTTP service.
//!
//! A request shows an access token (`Authorization: DPoP` with its proof, RFC 9449; `Bearer`, RFC 6750), or else it is
//! its connection's peer that counts. What was found is in its extensions as [`Caller`]. A credential that dies while
//! its request is under way takes the request along, and the answer that is still being sent: streams end with the
//! lease. It must never believe a header about where a request was sent: the origin is configured.
//!
//! A connection that a handler takes over, as for a WebSocket, is no answer any more: whoever does so watches it by
//! [`Verifier::guard`] and ends it when the guard does.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use mayfly_domain::{Reason, Refusal, Secret};
use tower::{Layer, Service};

use crate::check::grants;
use crate::guards::Ended;
use crate::judged::{Judged, Request as Asked};
use crate::peer::Peer;
use crate::verifier::Verifier;

mod answer;
mod body;
mod denied;
mod shown;

pub use body::Body;
pub use denied::Denied;
use shown::Token;

/// The longest answer that is not cut: it is sent whole though its lease ends meanwhile.
const SHORT_OCTETS_MAX: u64 = 64 * 1024;

/// Done when something has to end.
type Over = std::pin::Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Who makes a request, and what the credential grants: in the extensions of each request that the layer lets through.
/// An extractor of axum's.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Judged>);

impl std::ops::Deref for Caller {
    type Target = Judged;

    fn deref(&self) -> &Judged {
        &self.0
    }
}

/// Who makes this call, where the layer let it through.
pub fn caller<T>(request: &tonic::Request<T>) -> Option<&Judged> {
    request.extensions().get::<Caller>().map(|caller| &**caller)
}

impl<S: Sync> axum_core::extract::FromRequestParts<S> for Caller {
    type Rejection = http::StatusCode;

    /// Fails on a route that the layer does not protect.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(http::StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The layer. Cloning gives the same one.
#[derive(Debug, Clone)]
pub struct MayflyLayer {
    verifier: Verifier,
    origin: Arc<str>,
    scopes: Arc<[&'static str]>,
}

/// An origin that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin such as `https://api.acme.internal`, without query or fragment")]
pub struct NoOrigin(String);

impl MayflyLayer {
    /// A layer for a service that clients reach at `origin`: scheme, host and port as they write them, and what a proxy
    /// or a nested router cuts off the front of paths. The path of each request is put behind it and compared with
    /// what its proof is for.
    ///
    /// # Errors
    /// [`NoOrigin`].
    pub fn new(verifier: &Verifier, origin: &str) -> Result<Self, NoOrigin> {
        let no = || NoOrigin(origin.chars().take(256).collect());
        let uri: http::Uri = origin.parse().map_err(|_| no())?;
        let named = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        if !named || uri.query().is_some() || origin.contains('#') {
            return Err(no());
        }
        let origin = origin.trim_end_matches('/').into();
        Ok(Self { verifier: verifier.clone(), origin, scopes: Arc::default() })
    }

    /// The same layer for routes that demand these scopes, all of them. Within another one of these it looks at the
    /// scopes alone: a proof is not shown twice. Within one of another verifier's it judges by itself.
    #[must_use]
    pub fn scopes(&self, scopes: impl IntoIterator<Item = &'static str>) -> Self {
        Self { scopes: scopes.into_iter().collect(), ..self.clone() }
    }

    /// Whether a request is let through.
    async fn admit(&self, request: &Parts) -> Result<Admitted, Refusal> {
        let passed =
            request.extensions.get::<Passed>().is_some_and(|passed| passed.0 == self.verifier.shared().id);
        if let Some(Caller(judged)) = request.extensions.get::<Caller>().filter(|_| passed) {
            grants(&judged.scopes, &self.scopes).map_err(|why| self.counted(why))?;
            return Ok(Admitted { judged: Arc::clone(judged), guarded: true, asked: None });
        }
        let peer = request.extensions.get::<Peer>();
        let (token, dpop, key) = match shown::token(&request.headers).map_err(|why| self.counted(why))? {
            Some(Token::Dpop { token, proof }) => (token, Some(proof), None),
            Some(Token::Bearer(token)) => (token, None, peer.and_then(|peer| peer.judged().key.as_ref())),
            None => {
                return self.peer(peer.ok_or_else(|| self.counted(Reason::CredentialMissing.into()))?);
            }
        };
        let url = format!("{}{}", self.origin, request.uri.path());
        let asked =
            Asked { method: request.method.as_str(), url: &url, dpop, peer: key, scopes: &self.scopes };
        let judged = self.verifier.check_token_or_ask(token, &asked).await?;
        if dpop.is_some() && judged.key.is_none() {
            let why = Refusal::new(Reason::ProofInvalid, "a proof for a token that is bound to no key");
            return Err(self.counted(why));
        }
        let asked = judged.observation.is_none().then(|| Secret::new(token.to_owned()));
        Ok(Admitted { judged, guarded: false, asked })
    }

    fn peer(&self, peer: &Peer) -> Result<Admitted, Refusal> {
        let granted = peer.check().and_then(|()| grants(&peer.judged().scopes, &self.scopes));
        let judged = self.verifier.counted(granted.map(|()| Arc::clone(peer.judged())))?;
        Ok(Admitted { judged, guarded: true, asked: None })
    }

    /// Counts what is refused without a judgement of the verifier's.
    fn counted(&self, why: Refusal) -> Refusal {
        self.verifier.metrics().refuse(why.reason);
        why
    }

    /// Tells when what rests on a credential from now on has to end.
    fn over(&self, judged: &Arc<Judged>, asked: &mut Option<Secret<String>>) -> Result<Over, Refusal> {
        if let Some(token) = asked.take() {
            let (verifier, judged) = (self.verifier.clone(), Arc::clone(judged));
            return Ok(Box::pin(async move { verifier.asked_until_over(&token, &judged).await }));
        }
        let guard = self.verifier.guard(judged);
        guard.check()?;
        Ok(Box::pin(async move { guard.ended().await }))
    }
}

/// The verifier by which a request was let through last.
#[derive(Debug, Clone)]
struct Passed([u8; 16]);

struct Admitted {
    judged: Arc<Judged>,
    /// Whether what rests on it ends by another guard.
    guarded: bool,
    /// The token, where only a broker has judged it: nothing that was heard could be compared with it.
    asked: Option<Secret<String>>,
}

impl<S> Layer<S> for MayflyLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, layer: self.clone() }
    }
}

/// A service behind the layer.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    layer: MayflyLayer,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Body<R>>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(self.layer.clone().handle(inner, request))
    }
}

impl MayflyLayer {
    async fn handle<S, B, R>(self, mut inner: S, request: Request<B>) -> Result<Response<Body<R>>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        B: http_body::Body,
        R: http_body::Body<Data = Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let headers = parts.headers.clone();
        let nonce = self.verifier.nonce();
        let refused = |why: &Refusal| {
            Ok(answer::refused(&headers, why, nonce.as_deref(), &self.scopes).map(Body::told))
        };
        let Admitted { judged, guarded, mut asked } = match self.admit(&parts).await {
            Ok(admitted) => admitted,
            Err(why) => return refused(&why),
        };
        parts.extensions.insert(Caller(Arc::clone(&judged)));
        parts.extensions.insert(Passed(self.verifier.shared().id));
        // A request that is there whole is judged already; one that still comes may last as long as it likes.
        let mut over = None;
        if !guarded && !body.is_end_stream() {
            over = match self.over(&judged, &mut asked) {
                Ok(over) => Some(over),
                Err(why) => return refused(&why),
            };
        }
        let answer = inner.call(Request::from_parts(parts, body));
        let answered = match &mut over {
            Some(over) => tokio::select! {
                biased;
                ended = over => return refused(&ended.reason.into()),
                answer = answer => answer?,
            },
            None => answer.await?,
        };
        let body = answered.body();
        let is_short = body.size_hint().exact().is_some_and(|octets| octets <= SHORT_OCTETS_MAX);
        let streams = !guarded && !body.is_end_stream() && !is_short;
        if streams && over.is_none() {
            over = match self.over(&judged, &mut asked) {
                Ok(over) => Some(over),
                Err(why) => return refused(&why),
            };
        }
        let grpc = answer::is_grpc(&headers);
        let mut answered = answered.map(|body| match over.filter(|_| streams) {
            Some(over) => Body::guarded(body, over, grpc),
            None => Body::plain(body),
        });
        if let Some(nonce) = nonce.as_deref().and_then(|nonce| HeaderValue::from_str(nonce).ok()) {
            answered.headers_mut().insert(answer::DPOP_NONCE, nonce);
        }
        Ok(answered)
    }
}
