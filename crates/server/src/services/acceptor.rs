//! `AcceptorService`.

use std::net::IpAddr;

use mayfly_broker::{CheckInput, Checked, Credential};
use mayfly_domain::{Invalid, LeaseId, Reason, Refusal, Scope, Scopes, Thumbprint, defaults};
use mayfly_policy::RequestAsk;
use mayfly_proto::v1;
use mayfly_proto::v1::acceptor_service_server::AcceptorService;
use tonic::{Request, Response, Status, Streaming};

use super::follow::Following;
use super::{Shared, answer, context};
use crate::listen::Peer;

/// The longest certificate that is looked at, in octets: one with the deepest lineage and the most names fits.
const CERTIFICATE_OCTETS_MAX: usize = 8 * 1024;

/// `AcceptorService` over a broker.
#[derive(Debug, Clone)]
pub struct Acceptors(pub Shared);

#[tonic::async_trait]
impl AcceptorService for Acceptors {
    type FollowStream = Following;

    async fn follow(
        &self,
        request: Request<Streaming<v1::FollowRequest>>,
    ) -> Result<Response<Following>, Status> {
        let context = context(&self.0, &request);
        let connection = request.extensions().get::<Peer>().map(|peer| peer.connection.clone());
        let seat = self.0.seat(&context.call, context.certificate.as_ref()).await;
        let outcome = seat.map(|seat| {
            Following::new(self.0.clone(), context.call.request, seat, request.into_inner(), connection)
        });
        answer(&context, outcome)
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let acceptor = self.0.acceptor(context.certificate.as_ref()).await?;
            let input = input(request.into_inner())?;
            let checked = self.0.check(&context.call, &acceptor, &input).await?;
            Ok(response(&checked, context.call.request.to_string()))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }
}

fn input(wire: v1::CheckRequest) -> Result<CheckInput, Refusal> {
    let bounded =
        wire.method.len() <= 32 && wire.url.len() <= 2_048 && wire.dpop.len() <= defaults::TOKEN_OCTETS_MAX;
    if !bounded {
        return Err(Reason::TooLarge.into());
    }
    let credential = match wire.credential {
        Some(v1::check_request::Credential::Lease(id)) => Credential::Lease(LeaseId::parse(&id)?),
        Some(v1::check_request::Credential::Token(token)) => Credential::Token(token),
        Some(v1::check_request::Credential::Certificate(der)) => {
            if der.len() > CERTIFICATE_OCTETS_MAX {
                return Err(Reason::TooLarge.into());
            }
            Credential::Certificate(der)
        }
        None => {
            let problem = "must be a lease, a token or a certificate";
            return Err(Invalid::new("credential", "", problem).into());
        }
    };
    let peer = (!wire.peer_key.is_empty()).then(|| Thumbprint::parse(&wire.peer_key)).transpose()?;
    let request = wire.context.map(|context| asked(context, &wire.method, &wire.url)).transpose()?;
    Ok(CheckInput {
        request,
        credential,
        dpop: (!wire.dpop.is_empty()).then_some(wire.dpop),
        peer,
        method: wire.method,
        url: wire.url,
    })
}

/// What a request wants. The method and the URL are looked at more strictly than for a proof: policies see them.
fn asked(wire: v1::RequestContext, method: &str, url: &str) -> Result<RequestAsk, Refusal> {
    if wire.scopes.len() > Scopes::MAX {
        return Err(Reason::TooLarge.into());
    }
    let source = match wire.source.as_str() {
        "" => None,
        text => {
            let parsed = text.parse::<IpAddr>();
            Some(parsed.map_err(|_| Invalid::new("source", text, "must be an IP address"))?)
        }
    };
    let scopes: Vec<Scope> = wire.scopes.iter().map(|s| Scope::parse(s)).collect::<Result<_, _>>()?;
    Ok(RequestAsk::new(&wire.action, &wire.resource, method, url, source, Scopes::new(scopes)?)?)
}

fn response(checked: &Checked, request: String) -> v1::CheckResponse {
    match checked {
        Checked::Refused(refusal) => v1::CheckResponse {
            accepted: false,
            reason: refusal.reason.as_str().to_owned(),
            request,
            ..v1::CheckResponse::default()
        },
        Checked::Accepted(accepted) => {
            let (record, body) = (&accepted.record, &accepted.record.body);
            v1::CheckResponse {
                accepted: true,
                reason: String::new(),
                lease: record.id.to_string(),
                workload: body.workload.to_string(),
                owners: body.owners.iter().map(ToString::to_string).collect(),
                task: body.task.as_ref().map(ToString::to_string).unwrap_or_default(),
                intent: body.intent.as_ref().map(ToString::to_string).unwrap_or_default(),
                profile: body.profile.as_ref().map(ToString::to_string).unwrap_or_default(),
                scopes: body.scopes.iter().map(ToString::to_string).collect(),
                expires_ms: record.expires.0,
                reuse_ms: accepted.reuse_ms,
                request,
                observed: accepted.observed.iter().map(ToString::to_string).collect(),
            }
        }
    }
}
