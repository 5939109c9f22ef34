//! The gRPC services: each turns a message into a use case's input and its outcome into a message.

mod acceptor;
mod authorities;
mod events;
mod follow;
mod followers;
mod joining;
mod local;
mod operator;
mod watch;
mod workload;

use std::sync::Arc;

use mayfly_broker::{Broker, Call, ClientCertificate, RequestId};
use mayfly_credential::certificate;
use mayfly_domain::Refusal;
use tonic::{Request, Response, Status};

pub use acceptor::Acceptors;
pub use local::{Locals, local_proof};
pub use operator::Operators;
pub use workload::Workloads;

use crate::convert;
use crate::listen::Peer;
use crate::status::status;

/// What a handler knows of its call besides the message.
#[derive(Debug, Clone)]
struct Context {
    call: Call,
    certificate: Option<ClientCertificate>,
    /// The same as the transport verified it.
    peer: Option<Arc<certificate::ClientCertificate>>,
}

fn context<T>(broker: &Broker, request: &Request<T>) -> Context {
    let extensions = request.extensions();
    let peer = extensions.get::<Peer>();
    let id = extensions.get::<RequestId>().copied();
    Context {
        call: Call {
            request: id.unwrap_or_else(|| RequestId::new(broker.clock().now())),
            peer: peer.map(|p| p.address.ip()),
        },
        certificate: peer.and_then(|p| p.certificate.as_deref()).and_then(convert::certificate),
        peer: peer.and_then(|p| p.certificate.clone()),
    }
}

fn answer<T>(context: &Context, outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|refusal| status(&refusal, context.call.request))
}

/// A broker as a service holds it.
type Shared = Arc<Broker>;
