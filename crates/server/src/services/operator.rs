//! `OperatorService`.

use mayfly_broker::{BlockInput, ListInput, Named, RevokeInput};
use mayfly_domain::{CredentialKind, Invalid, LeaseId, Refusal, Subject, TaskId, TaskReason, defaults};
use mayfly_lease::JobId;
use mayfly_proto::v1;
use mayfly_proto::v1::operator_service_server::OperatorService;
use tonic::{Request, Response, Status};

use super::events::{Events, Watchers};
use super::followers::{self, Barriers, Waits};
use super::{Shared, answer, context, joining};
use crate::convert;

/// `OperatorService` over a broker.
#[derive(Debug, Clone)]
pub struct Operators(pub(super) Shared, Waits, Watchers);

impl Operators {
    /// The service over `broker`.
    pub fn new(broker: Shared) -> Self {
        Self(broker, Waits::default(), Watchers::default())
    }

    fn subject(&self, wire: Option<&v1::Subject>) -> Result<Subject, Refusal> {
        let wire = wire.ok_or_else(|| Refusal::from(Invalid::new("subject", "", "must be named")))?;
        convert::subject(wire, &self.0.settings().trust_domain)
    }

    fn revoke_input(&self, wire: &v1::RevokeRequest) -> Result<RevokeInput, Refusal> {
        match &wire.what {
            Some(v1::revoke_request::What::Lease(id)) => {
                Ok(RevokeInput::Lease { id: LeaseId::parse(id)?, force: wire.force })
            }
            Some(v1::revoke_request::What::Subject(subject)) => Ok(RevokeInput::Subject {
                named: Named { subject: self.subject(Some(subject))?, force: wire.force },
                block: if wire.block { Some(convert::ttl(wire.block_for_s)?) } else { None },
            }),
            None => Err(Invalid::new("revocation", "", "must name a lease or a subject").into()),
        }
    }
}

pub(super) fn words(text: &str) -> Result<TaskReason, Refusal> {
    Ok(TaskReason::parse(text)?)
}

pub(super) fn ticket(text: String) -> Result<Option<String>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    mayfly_domain::text::visible("ticket", &text, 256)?;
    Ok(Some(text))
}

#[tonic::async_trait]
impl OperatorService for Operators {
    type WaitBarrierStream = Barriers;
    type WatchStream = Events;

    async fn wait_barrier(
        &self,
        request: Request<v1::WaitBarrierRequest>,
    ) -> Result<Response<Barriers>, Status> {
        let context = context(&self.0, &request);
        answer(&context, self.1.begin(&self.0, request).await)
    }

    async fn list_followers(
        &self,
        request: Request<v1::ListFollowersRequest>,
    ) -> Result<Response<v1::ListFollowersResponse>, Status> {
        let context = context(&self.0, &request);
        answer(&context, followers::list(&self.0, request).await)
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Events>, Status> {
        let context = context(&self.0, &request);
        answer(&context, self.2.begin(&self.0, &request).await)
    }

    async fn get_usage(
        &self,
        request: Request<v1::GetUsageRequest>,
    ) -> Result<Response<v1::GetUsageResponse>, Status> {
        let context = context(&self.0, &request);
        answer(&context, followers::usage(&self.0, request).await)
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::RevokeResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let wire = request.into_inner();
            let input = self.revoke_input(&wire)?;
            let reason = words(&wire.reason)?;
            let ticket = ticket(wire.ticket)?;
            let done = self.0.revoke(&context.call, &operator, input, reason, ticket, wire.dry_run).await?;
            Ok(v1::RevokeResponse {
                revocation: done.id.map(|id| id.to_string()).unwrap_or_default(),
                acknowledged_ms: done.acknowledged.0,
                fence: done.fence.map_or(0, mayfly_domain::Fence::value),
                exposure: done.exposure.as_ref().map(|e| convert::exposure(e, true)),
                sample: done.sample.iter().map(convert::lease).collect(),
                request: context.call.request.to_string(),
                audit: convert::audit(done.audit),
                number: done.number,
                generation: done.generation.map(|g| g.to_string()).unwrap_or_default(),
                warnings: done.warnings,
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn get_revocation(
        &self,
        request: Request<v1::GetRevocationRequest>,
    ) -> Result<Response<v1::Revocation>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let id = JobId::parse(&request.into_inner().revocation)?;
            let state = self.0.revocation(&context.call, &operator, id).await?;
            Ok(convert::revocation(&state.job, state.undo_pending))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn set_block(
        &self,
        request: Request<v1::SetBlockRequest>,
    ) -> Result<Response<v1::SetBlockResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let wire = request.into_inner();
            let subject = self.subject(wire.subject.as_ref())?;
            let input = BlockInput {
                named: Named { subject: subject.clone(), force: wire.force },
                reason: words(&wire.reason)?,
                length: convert::ttl(wire.for_s)?,
            };
            let set = self.0.set_block(&context.call, &operator, input).await?;
            Ok(v1::SetBlockResponse {
                block: Some(convert::block(&subject, &set.gate)),
                request: context.call.request.to_string(),
                audit: convert::audit(set.audit),
                warnings: set.warnings,
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn lift_block(
        &self,
        request: Request<v1::LiftBlockRequest>,
    ) -> Result<Response<v1::LiftBlockResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let wire = request.into_inner();
            let subject = self.subject(wire.subject.as_ref())?;
            let reason = convert::reason(&wire.reason)?;
            let (_, audit) = self.0.lift_block(&context.call, &operator, subject, reason).await?;
            Ok(v1::LiftBlockResponse {
                request: context.call.request.to_string(),
                audit: convert::audit(audit),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn list_blocks(
        &self,
        request: Request<v1::ListBlocksRequest>,
    ) -> Result<Response<v1::ListBlocksResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let blocks = self.0.blocks(&context.call, &operator).await?;
            Ok(v1::ListBlocksResponse { blocks: blocks.iter().map(|(s, g)| convert::block(s, g)).collect() })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let wire = request.into_inner();
            let input = ListInput {
                subject: wire.subject.as_ref().map(|s| self.subject(Some(s))).transpose()?,
                kind: kind(&wire.kind)?,
                ended: wire.ended,
                limit: match wire.page_size {
                    0 => 100,
                    n => n.min(defaults::LIST_PAGE_MAX),
                },
                after: convert::cursor(&wire.page_token)?,
            };
            let page = self.0.list(&context.call, &operator, &input).await?;
            Ok(v1::ListLeasesResponse {
                leases: page.leases.iter().map(convert::shown).collect(),
                next_page_token: page.next.map(convert::page_token).unwrap_or_default(),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn get_lease(&self, request: Request<v1::GetLeaseRequest>) -> Result<Response<v1::Lease>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let id = LeaseId::parse(&request.into_inner().id)?;
            Ok(convert::shown(&self.0.show(&context.call, &operator, id).await?))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn get_task(
        &self,
        request: Request<v1::OperatorGetTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let id = TaskId::parse(&request.into_inner().id)?;
            Ok(convert::task(&self.0.show_task(&context.call, &operator, &id).await?))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn complete_task(
        &self,
        request: Request<v1::OperatorCompleteTaskRequest>,
    ) -> Result<Response<v1::OperatorCompleteTaskResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let wire = request.into_inner();
            let id = TaskId::parse(&wire.id)?;
            let reason = convert::reason(&wire.reason)?;
            let (task, already, audit) = self.0.end_task(&context.call, &operator, id, reason).await?;
            Ok(v1::OperatorCompleteTaskResponse {
                task: Some(convert::task(&task)),
                already_ended: already,
                request: context.call.request.to_string(),
                audit: convert::audit(audit),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let status = self.0.status(&context.call, &operator).await?;
            let settings = self.0.settings();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            Ok(v1::GetStatusResponse {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                trust_domain: settings.trust_domain.to_string(),
                broker: format!("spiffe://{}/mayfly/broker/{}", settings.trust_domain, settings.broker_id),
                started_ms: status.started.0,
                now_ms: status.now.0,
                store: status.store.to_owned(),
                store_state: status.standing.to_owned(),
                generation: status.generation,
                clock_difference_ms: status.clock_difference_ms,
                store_risks: status.risks,
                config_loaded_ms: status.loaded.0,
                config_errors: status.reload_errors,
                rules: count(status.rules),
                profiles: count(status.profiles),
                policies: count(status.policies),
                live_leases: status.live_leases,
                open_sweeps: status.open_sweeps,
                undo_pending: status.undo_pending,
                unreadable_leases: status.unreadable_leases,
                audit_state: if status.audit_deferring { "deferring" } else { "ok" }.to_owned(),
                audit_deferred: status.audit_deferred,
                keys: status.keys.iter().map(convert::key).collect(),
                feed_number: status.feed_number,
                followers: count(status.followers),
                followers_fresh: count(status.followers_fresh),
                canaries: Some(convert::canaries(&status.canaries)),
                feed_fresh: status.feed_fresh,
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Result<Response<v1::WhyResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = async {
            let operator = self.0.operator(context.certificate.as_ref()).await?;
            let wanted = request.into_inner().request;
            mayfly_domain::text::visible("request id", &wanted, 64)?;
            Ok(v1::WhyResponse { records: self.0.why(&context.call, &operator, &wanted).await? })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.key_rotation(&context, request.into_inner()).await;
        answer(&context, outcome)
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.keys(&context).await;
        answer(&context, outcome)
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.key_revocation(&context, request.into_inner()).await;
        answer(&context, outcome)
    }

    async fn list_authorities(
        &self,
        request: Request<v1::ListAuthoritiesRequest>,
    ) -> Result<Response<v1::ListAuthoritiesResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.authorities(&context).await;
        answer(&context, outcome)
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Result<Response<v1::RotateAuthorityResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.authority_rotation(&context, request.into_inner()).await;
        answer(&context, outcome)
    }

    async fn revoke_authority(
        &self,
        request: Request<v1::RevokeAuthorityRequest>,
    ) -> Result<Response<v1::RevokeAuthorityResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.authority_revocation(&context, request.into_inner()).await;
        answer(&context, outcome)
    }

    async fn get_authority_csr(
        &self,
        request: Request<v1::GetAuthorityCsrRequest>,
    ) -> Result<Response<v1::GetAuthorityCsrResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.authority_request(&context, request.get_ref()).await;
        answer(&context, outcome)
    }

    async fn import_authority(
        &self,
        request: Request<v1::ImportAuthorityRequest>,
    ) -> Result<Response<v1::ImportAuthorityResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.authority_import(&context, request.get_ref()).await;
        answer(&context, outcome)
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        joining::create(&self.0, request).await
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        joining::list(&self.0, request).await
    }

    async fn withdraw_join_token(
        &self,
        request: Request<v1::WithdrawJoinTokenRequest>,
    ) -> Result<Response<v1::WithdrawJoinTokenResponse>, Status> {
        joining::withdraw(&self.0, request).await
    }
}

fn kind(text: &str) -> Result<Option<CredentialKind>, Refusal> {
    let known = [
        CredentialKind::Token,
        CredentialKind::X509,
        CredentialKind::Operator,
        CredentialKind::Acceptor,
        CredentialKind::Account,
    ];
    match text {
        "" => Ok(None),
        named => known.into_iter().find(|k| k.as_str() == named).map(Some).ok_or_else(|| {
            Invalid::new("kind", named, "is not token, x509, operator, acceptor or account").into()
        }),
    }
}
