//! Join tokens, for `OperatorService`.

use mayfly_broker::{Broker, JoinInput};
use mayfly_domain::{Environment, Owner, Owners, Refusal, SpiffeId};
use mayfly_lease::join::{JoinId, JoinRecord};
use mayfly_proto::v1;
use tonic::{Request, Response, Status};

use super::{answer, context};
use crate::convert;

pub(super) async fn create(
    broker: &Broker,
    request: Request<v1::CreateJoinTokenRequest>,
) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
    let context = context(broker, &request);
    let outcome = async {
        let operator = broker.operator(context.certificate.as_ref()).await?;
        let input = input(broker, &request.into_inner())?;
        let made = broker.create_join(&context.call, &operator, input).await?;
        Ok(v1::CreateJoinTokenResponse {
            token: made.token.expose().to_owned(),
            described: Some(described(&made.record)),
            request: context.call.request.to_string(),
            audit: convert::audit(made.audit),
        })
    };
    let outcome = outcome.await;
    answer(&context, outcome)
}

pub(super) async fn list(
    broker: &Broker,
    request: Request<v1::ListJoinTokensRequest>,
) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
    let context = context(broker, &request);
    let outcome = async {
        let operator = broker.operator(context.certificate.as_ref()).await?;
        let all = broker.joins(&context.call, &operator).await?;
        Ok(v1::ListJoinTokensResponse { tokens: all.iter().map(described).collect() })
    };
    let outcome = outcome.await;
    answer(&context, outcome)
}

pub(super) async fn withdraw(
    broker: &Broker,
    request: Request<v1::WithdrawJoinTokenRequest>,
) -> Result<Response<v1::WithdrawJoinTokenResponse>, Status> {
    let context = context(broker, &request);
    let outcome = async {
        let operator = broker.operator(context.certificate.as_ref()).await?;
        let wire = request.into_inner();
        let id = JoinId::parse(&wire.id)?;
        let reason = convert::reason(&wire.reason)?;
        let (record, audit) = broker.withdraw_join(&context.call, &operator, id, reason).await?;
        Ok(v1::WithdrawJoinTokenResponse {
            described: Some(described(&record)),
            request: context.call.request.to_string(),
            audit: convert::audit(audit),
        })
    };
    let outcome = outcome.await;
    answer(&context, outcome)
}

fn input(broker: &Broker, wire: &v1::CreateJoinTokenRequest) -> Result<JoinInput, Refusal> {
    let workload = if wire.workload.starts_with('/') {
        SpiffeId::new(&broker.settings().trust_domain, &wire.workload)?
    } else {
        SpiffeId::parse(&wire.workload)?
    };
    let owners: Result<Vec<Owner>, _> =
        wire.owners.iter().take(Owners::MAX + 1).map(|owner| Owner::parse(owner)).collect();
    let environment = (!wire.environment.is_empty()).then(|| Environment::parse(&wire.environment));
    Ok(JoinInput {
        workload,
        owners: Owners::new(owners?)?,
        environment: environment.transpose()?,
        length: convert::ttl(wire.for_s)?,
        reason: convert::reason(&wire.reason)?,
    })
}

fn described(record: &JoinRecord) -> v1::JoinToken {
    v1::JoinToken {
        id: record.id.to_string(),
        workload: record.workload.to_string(),
        owners: record.owners.iter().map(ToString::to_string).collect(),
        environment: record.environment.as_ref().map(ToString::to_string).unwrap_or_default(),
        created_ms: record.created.0,
        expires_ms: record.expires.0,
        author: record.author.clone(),
        state: record.state.as_str().to_owned(),
        lease: record.lease().map(|id| id.to_string()).unwrap_or_default(),
    }
}
