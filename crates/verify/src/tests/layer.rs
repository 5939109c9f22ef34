//! The layer: whom it lets through, what it answers others, and how what it let through ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use mayfly_domain::Reason;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::broker::{BOUND_MS, Session, Site, at, mark, soon};
use super::tokens::{Key, bound_to, lease};
use super::{NOW, WORKLOAD};
use crate::builder::{Builder, PastBound};
use crate::layer::{Body, Caller, MayflyLayer};
use crate::verifier::Verifier;

const ORIGIN: &str = "https://deploy.acme.internal/";

struct World {
    site: Site,
    session: Session,
    verifier: Verifier,
    layer: MayflyLayer,
    signer: Key,
    holder: Key,
    token: String,
}

impl World {
    async fn new(nonce: bool) -> Self {
        Self::with(|builder| if nonce { builder.demand_nonce() } else { builder }).await
    }

    async fn with(with: impl FnOnce(Builder) -> Builder) -> Self {
        let (mut site, key, holder) = (Site::new().await, Key::new(), Key::new());
        let (verifier, session) = site.fresh_with(with, &[&key.public]).await;
        let token = key.token(&bound_to(&holder));
        let layer = MayflyLayer::new(&verifier, ORIGIN).unwrap();
        Self { site, session, verifier, layer, signer: key, holder, token }
    }

    fn request(&self, jti: &str, change: impl FnOnce(&mut Value)) -> Request<Full<Bytes>> {
        let proof = self.holder.proof(&self.token, jti, change);
        Request::post("/releases?dry=1")
            .header(AUTHORIZATION, format!("DPoP {}", self.token))
            .header("dpop", proof)
            .header(HOST, "elsewhere.example")
            .body(Full::default())
            .unwrap()
    }

    /// The token is revoked, and the verifier has heard of it.
    async fn revoke(&mut self) {
        self.session.events(at(8), &[mark(lease())]).await;
        self.session.pinged(at(8)).await;
    }
}

/// A service that says who called.
async fn named<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let caller = request.extensions().get::<Caller>().expect("nobody passes without");
    Ok(Response::new(Full::from(caller.workload.to_string())))
}

async fn told<B>(answer: Response<Body<B>>) -> (u16, String, String)
where
    Body<B>: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let status = answer.status().as_u16();
    let challenge = answer.headers().get(WWW_AUTHENTICATE).map_or("", |v| v.to_str().unwrap()).to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_passes_once_with_a_proof_for_the_configured_origin() {
    let world = World::new(false).await;
    let ask = async |layer: MayflyLayer, request| {
        told(layer.layer(service_fn(named)).oneshot(request).await.unwrap()).await
    };
    let layer = || world.layer.clone();
    let (status, _, body) = ask(layer(), world.request("1", |_| {})).await;
    assert_eq!((status, body.as_str()), (200, WORKLOAD));
    let (status, challenge, body) = ask(layer(), world.request("1", |_| {})).await;
    assert!(status == 401 && challenge.contains("invalid_dpop_proof") && body.contains("PROOF_REPLAYED"));
    // Neither what `Host` says, nor another path.
    for url in ["https://elsewhere.example/releases", "https://deploy.acme.internal/other"] {
        let (status, _, body) = ask(layer(), world.request("2", |claims| claims["htu"] = url.into())).await;
        assert!(status == 401 && body.contains("PROOF_INVALID"), "{body}");
    }
    let mut bearer = world.request("3", |_| {});
    bearer.headers_mut().insert(AUTHORIZATION, format!("Bearer {}", world.token).parse().unwrap());
    let (status, _, body) = ask(layer(), bearer).await;
    assert!(status == 401 && body.contains("PROOF_MISSING"), "a proof counts by its own scheme alone");
    let (status, challenge, _) = ask(layer(), Request::new(Full::default())).await;
    assert_eq!((status, challenge.as_str()), (401, r#"DPoP algs="ES256 EdDSA""#));
    let mut basic = world.request("4", |_| {});
    basic.headers_mut().insert(AUTHORIZATION, "Basic YTpi".parse().unwrap());
    let (status, _, body) = ask(layer(), basic).await;
    assert!(status == 400 && body.contains("`DPoP TOKEN` or `Bearer TOKEN`"), "{body}");
    // Each is counted once, whoever refused it.
    for (reason, times) in [
        (Reason::ProofReplayed, 1),
        (Reason::ProofInvalid, 2),
        (Reason::ProofMissing, 1),
        (Reason::CredentialMissing, 1),
        (Reason::InputInvalid, 1),
    ] {
        assert_eq!(world.verifier.metrics().refused(reason), times, "{reason}");
    }
}

#[tokio::test]
async fn each_route_has_its_scopes_and_a_layer_within_another_shows_no_proof_again() {
    let world = World::new(false).await;
    for (jti, scopes, expected) in
        [("1", &["b:write"][..], 200), ("2", &["a:read", "b:write"], 200), ("3", &["b:write", "c:all"], 403)]
    {
        let alone = world.layer.scopes(scopes.iter().copied()).layer(service_fn(named));
        let answer = alone.oneshot(world.request(jti, |_| {})).await.unwrap();
        let (status, challenge, _) = told(answer).await;
        assert_eq!(status, expected, "{scopes:?}");
        assert_eq!(challenge.ends_with(r#"scope="b:write c:all""#), expected == 403, "{challenge}");
        let within = world.layer.layer(world.layer.scopes(scopes.iter().copied()).layer(service_fn(named)));
        let answer = within.oneshot(world.request(&format!("{jti} again"), |_| {})).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{scopes:?}");
    }
}

#[tokio::test]
async fn what_another_verifier_let_through_is_judged_again() {
    let mut world = World::new(false).await;
    let other = "https://other.acme.internal".parse().unwrap();
    let second = world.site.builder().audiences([other]).start().unwrap();
    let mut session = world.site.session().await;
    session.begin(&[&world.signer.public], at(7), &[]).await;
    soon(second.ready()).await;
    let within = MayflyLayer::new(&second, ORIGIN).unwrap().layer(service_fn(named));
    let answer = world.layer.layer(within).oneshot(world.request("1", |_| {})).await.unwrap();
    let (status, _, body) = told(answer).await;
    assert!(status == 401 && body.contains("TOKEN_AUDIENCE"), "{body}");
}

#[tokio::test]
async fn a_nonce_that_is_demanded_is_given() {
    let world = World::new(true).await;
    let service = world.layer.layer(service_fn(named));
    let answer = service.clone().oneshot(world.request("1", |_| {})).await.unwrap();
    let nonce = answer.headers()["dpop-nonce"].to_str().unwrap().to_owned();
    let (status, challenge, _) = told(answer).await;
    assert!(status == 401 && challenge.starts_with(r#"DPoP error="use_dpop_nonce""#), "{challenge}");
    let with = world.request("2", |claims| claims["nonce"] = nonce.into());
    let answer = service.oneshot(with).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("dpop-nonce"), "the next one comes with each answer");
}

type Parts = ReceiverStream<Result<http_body::Frame<Bytes>, Infallible>>;

/// An answer that goes on for as long as `parts` come.
fn streaming(
    parts: mpsc::Receiver<Result<http_body::Frame<Bytes>, Infallible>>,
) -> Response<StreamBody<Parts>> {
    Response::new(StreamBody::new(ReceiverStream::new(parts)))
}

#[tokio::test]
async fn an_answer_that_goes_on_ends_with_the_lease() {
    for grpc in [false, true] {
        let mut world = World::new(false).await;
        let (part, parts) = mpsc::channel(4);
        let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(parts)));
        let service = world.layer.layer(service_fn(move |_: Request<Empty<Bytes>>| {
            let parts = parts.lock().unwrap().take().unwrap();
            async { Ok::<_, Infallible>(streaming(parts)) }
        }));
        let mut request = world.request("1", |_| {}).map(|_| Empty::new());
        if grpc {
            request.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
        }
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(world.verifier.metrics().guards_open(), 1);
        let mut frames = answer.into_body().into_data_stream();
        part.send(Ok(http_body::Frame::data(Bytes::from_static(b"1")))).await.unwrap();
        assert_eq!(soon(frames.next()).await.unwrap().unwrap(), "1");
        part.send(Ok(http_body::Frame::data(Bytes::from_static(b"2")))).await.unwrap();
        world.revoke().await;
        // What the service has still to say is not said.
        let last = soon(frames.next()).await;
        assert_eq!(last.is_none(), grpc, "gRPC's trailers are no data");
        if let Some(last) = last {
            assert!(last.unwrap_err().to_string().starts_with("LEASE_REVOKED"));
        }
        drop(frames);
        assert_eq!(world.verifier.metrics().guards_open(), 0);
    }
}

#[tokio::test]
async fn the_end_of_a_grpc_stream_says_why() {
    let mut world = World::new(false).await;
    let (_part, parts) = mpsc::channel(1);
    let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(parts)));
    let service = world.layer.layer(service_fn(move |_: Request<Empty<Bytes>>| {
        let parts = parts.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(streaming(parts)) }
    }));
    let mut request = world.request("1", |_| {}).map(|_| Empty::new());
    request.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    let mut body = service.oneshot(request).await.unwrap().into_body();
    world.revoke().await;
    let frame = soon(body.frame()).await.unwrap().unwrap();
    let status = tonic::Status::from_header_map(frame.trailers_ref().unwrap()).unwrap();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(mayfly_client::Failure::from(status).is(Reason::LeaseRevoked));
    assert!(soon(body.frame()).await.is_none());
}

/// A body of which it is known how long it is, and which comes bit by bit.
struct Long(Parts);

impl http_body::Body for Long {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_next_unpin(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(1 << 20)
    }
}

#[tokio::test]
async fn a_long_answer_ends_with_the_lease_though_its_length_is_known() {
    let mut world = World::new(false).await;
    let (part, parts) = mpsc::channel(4);
    let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(parts)));
    let service = world.layer.layer(service_fn(move |_: Request<Empty<Bytes>>| {
        let parts = parts.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(Response::new(Long(ReceiverStream::new(parts)))) }
    }));
    let answer = service.oneshot(world.request("1", |_| {}).map(|_| Empty::new())).await.unwrap();
    let mut frames = answer.into_body().into_data_stream();
    part.send(Ok(http_body::Frame::data(Bytes::from_static(b"1")))).await.unwrap();
    assert_eq!(soon(frames.next()).await.unwrap().unwrap(), "1");
    world.revoke().await;
    let _ = part.send(Ok(http_body::Frame::data(Bytes::from_static(b"2")))).await;
    assert!(soon(frames.next()).await.unwrap().unwrap_err().to_string().starts_with("LEASE_REVOKED"));
}

#[tokio::test]
async fn what_a_broker_was_asked_about_ends_when_it_says_so() {
    let asking = |b: Builder| b.past_bound(PastBound::AskOnline).bound(Duration::from_millis(20));
    let world = World::with(asking).await;
    world.site.hands.boot_passes(BOUND_MS);
    let (part, parts) = mpsc::channel(4);
    let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(parts)));
    let service = world.layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
        let parts = parts.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(streaming(parts)) }
    }));
    let answer = service.oneshot(world.request("1", |_| {})).await.unwrap();
    assert_eq!(answer.status(), 200, "the proof that a broker has verified is one");
    let mut frames = answer.into_body().into_data_stream();
    part.send(Ok(http_body::Frame::data(Bytes::from_static(b"1")))).await.unwrap();
    assert_eq!(soon(frames.next()).await.unwrap().unwrap(), "1");
    world.site.revoked.store(true, Ordering::SeqCst);
    let last = soon(frames.next()).await.unwrap().unwrap_err();
    assert!(last.to_string().starts_with("LEASE_REVOKED"), "{last}");
}

#[tokio::test]
async fn what_a_broker_was_asked_about_ends_in_its_time_and_with_the_verifier() {
    let asking = |b: Builder| b.past_bound(PastBound::AskOnline).bound(Duration::from_millis(20));
    for (ends, why) in [(true, "LEASE_EXPIRED"), (false, "ACCEPTOR_NOT_FRESH")] {
        let world = World::with(asking).await;
        world.site.hands.boot_passes(BOUND_MS);
        let (_part, parts) = mpsc::channel(4);
        let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(parts)));
        let service = world.layer.layer(service_fn(move |_: Request<Full<Bytes>>| {
            let parts = parts.lock().unwrap().take().unwrap();
            async { Ok::<_, Infallible>(streaming(parts)) }
        }));
        let answer = service.oneshot(world.request("1", |_| {})).await.unwrap();
        let mut frames = answer.into_body().into_data_stream();
        if ends {
            world.site.hands.set_wall(NOW.plus(60_000));
        } else {
            soon(world.verifier.shutdown()).await;
        }
        assert!(soon(frames.next()).await.unwrap().unwrap_err().to_string().starts_with(why));
    }
}

#[tokio::test]
async fn a_request_that_is_still_coming_is_refused_when_its_lease_ends() {
    let mut world = World::new(false).await;
    // It waits for a body that never comes.
    let service = world.layer.layer(service_fn(|request: Request<StreamBody<_>>| async move {
        let _ = BodyExt::collect(request.into_body()).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let (_part, parts) = mpsc::channel::<Result<http_body::Frame<Bytes>, Infallible>>(1);
    let request = world.request("1", |_| {}).map(|_| StreamBody::new(ReceiverStream::new(parts)));
    let asked = tokio::spawn(service.oneshot(request));
    super::broker::until(|| world.verifier.metrics().guards_open() == 1).await;
    world.revoke().await;
    let (status, _, body) = told(soon(asked).await.unwrap().unwrap()).await;
    assert!(status == 401 && body.contains("LEASE_REVOKED"), "{body}");
}

#[tokio::test]
async fn who_has_not_heard_of_a_broker_says_that_nobody_can_tell() {
    let world = World::new(false).await;
    world.site.hands.boot_passes(BOUND_MS + 1);
    let service = world.layer.layer(service_fn(named));
    let (status, challenge, body) = told(service.oneshot(world.request("1", |_| {})).await.unwrap()).await;
    assert_eq!((status, challenge.as_str()), (503, ""));
    assert!(body.contains("ACCEPTOR_NOT_FRESH"));
}

#[tokio::test]
async fn an_expired_token_is_refused_as_one_and_a_bearer_token_needs_no_scheme_of_proofs() {
    let (mut site, key) = (Site::new().await, Key::new());
    let (verifier, _session) = site.fresh(&[&key.public]).await;
    let layer = MayflyLayer::new(&verifier, "https://deploy.acme.internal").unwrap();
    let token = key.token(&super::tokens::claims().to_string());
    let ask = async |scheme: &str, proof: Option<String>| {
        let mut request = Request::post("/releases").header(AUTHORIZATION, format!("{scheme} {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        told(layer.layer(service_fn(named)).oneshot(request).await.unwrap()).await
    };
    assert_eq!(ask("Bearer", None).await.0, 200);
    // A token that is bound to nothing gains nothing by a proof of anybody's key (RFC 9449, section 7.1).
    let proof = Key::new().proof(&token, "1", |_| {});
    let (status, _, body) = ask("DPoP", Some(proof)).await;
    assert!(status == 401 && body.contains("PROOF_INVALID"), "{body}");
    site.hands.set_wall(NOW.plus(300_000));
    let (status, challenge, body) = ask("Bearer", None).await;
    assert!(status == 401 && body.contains("LEASE_EXPIRED"), "{body}");
    assert!(challenge.starts_with(r#"DPoP error="invalid_token""#));
}

#[tokio::test]
async fn an_origin_is_scheme_host_and_perhaps_a_path() {
    let (mut site, key) = (Site::new().await, Key::new());
    let (verifier, _session) = site.fresh(&[&key.public]).await;
    for good in ["https://api.acme.internal", "http://127.0.0.1:8000", "https://acme.internal/api/"] {
        assert!(MayflyLayer::new(&verifier, good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "api.acme.internal",
        "/api",
        "ftp://acme.internal",
        "https://a@acme.internal",
        "https://acme.internal/?x",
        "https://acme.internal/#x",
    ] {
        assert!(MayflyLayer::new(&verifier, bad).is_err(), "{bad}");
    }
}
