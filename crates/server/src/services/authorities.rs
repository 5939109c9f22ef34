//! The calls of `OperatorService` about token keys and issuing authorities.

use mayfly_broker::{AuthorityStep, KeyStep, ShownAuthority, ShownKey};
use mayfly_domain::{Invalid, KeyAlg, Refusal};
use mayfly_mint::Role;
use mayfly_proto::v1;
use mayfly_proto::v1::rotate_key_request::Step;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Context;
use super::operator::{Operators, ticket, words};
use crate::convert;

impl Operators {
    pub(super) async fn key_rotation(
        &self,
        context: &Context,
        wire: v1::RotateKeyRequest,
    ) -> Result<v1::RotateKeyResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let keys = self.0.rotate_keys(&context.call, &operator, key_step(&wire)?).await?;
        Ok(v1::RotateKeyResponse {
            keys: keys.iter().map(convert::key).collect(),
            request: context.call.request.to_string(),
        })
    }

    pub(super) async fn keys(&self, context: &Context) -> Result<v1::ListKeysResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let keys = self.0.list_keys(&context.call, &operator).await?;
        Ok(v1::ListKeysResponse { keys: keys.iter().map(key).collect() })
    }

    pub(super) async fn key_revocation(
        &self,
        context: &Context,
        wire: v1::RevokeKeyRequest,
    ) -> Result<v1::RevokeKeyResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let (reason, ticket) = (words(&wire.reason)?, ticket(wire.ticket)?);
        let done = self.0.revoke_key(&context.call, &operator, &wire.kid, reason, ticket).await?;
        Ok(v1::RevokeKeyResponse {
            keys: done.now.iter().map(key).collect(),
            acknowledged_ms: done.acknowledged.0,
            request: context.call.request.to_string(),
            audit: convert::audit(done.audit),
        })
    }

    pub(super) async fn authorities(
        &self,
        context: &Context,
    ) -> Result<v1::ListAuthoritiesResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let all = self.0.list_authorities(&context.call, &operator).await?;
        Ok(v1::ListAuthoritiesResponse { authorities: all.iter().map(authority).collect() })
    }

    pub(super) async fn authority_rotation(
        &self,
        context: &Context,
        wire: v1::RotateAuthorityRequest,
    ) -> Result<v1::RotateAuthorityResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let (role, step) = (role(wire.role())?, authority_step(&wire)?);
        let all = self.0.rotate_authority(&context.call, &operator, role, step).await?;
        Ok(v1::RotateAuthorityResponse {
            authorities: all.iter().map(authority).collect(),
            request: context.call.request.to_string(),
        })
    }

    pub(super) async fn authority_revocation(
        &self,
        context: &Context,
        wire: v1::RevokeAuthorityRequest,
    ) -> Result<v1::RevokeAuthorityResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let (reason, ticket) = (words(&wire.reason)?, ticket(wire.ticket)?);
        let done = self.0.revoke_authority(&context.call, &operator, &wire.id, reason, ticket).await?;
        Ok(v1::RevokeAuthorityResponse {
            authorities: done.now.iter().map(authority).collect(),
            acknowledged_ms: done.acknowledged.0,
            request: context.call.request.to_string(),
            audit: convert::audit(done.audit),
        })
    }

    pub(super) async fn authority_request(
        &self,
        context: &Context,
        wire: &v1::GetAuthorityCsrRequest,
    ) -> Result<v1::GetAuthorityCsrResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let (id, csr_pem) = self.0.authority_csr(&context.call, &operator, role(wire.role())?).await?;
        Ok(v1::GetAuthorityCsrResponse { csr_pem, id, request: context.call.request.to_string() })
    }

    pub(super) async fn authority_import(
        &self,
        context: &Context,
        wire: &v1::ImportAuthorityRequest,
    ) -> Result<v1::ImportAuthorityResponse, Refusal> {
        let operator = self.0.operator(context.certificate.as_ref()).await?;
        let (role, pem) = (role(wire.role())?, &wire.chain_pem);
        let imported = self.0.import_authority(&context.call, &operator, role, pem).await?;
        Ok(v1::ImportAuthorityResponse {
            authority: Some(authority(&imported)),
            request: context.call.request.to_string(),
        })
    }
}

fn key(shown: &ShownKey) -> v1::Key {
    v1::Key {
        live_leases: shown.live.count,
        last_ends_ms: shown.live.last_ends.0,
        ..convert::key(&shown.info)
    }
}

fn authority(shown: &ShownAuthority) -> v1::Authority {
    let info = &shown.info;
    let read = X509Certificate::from_der(&info.certificate).ok();
    let (subject, issuer, expires) = read.map_or_else(Default::default, |(_, c)| {
        let expires = u64::try_from(c.validity().not_after.timestamp()).unwrap_or_default();
        (c.subject().to_string(), c.issuer().to_string(), expires.saturating_mul(1_000))
    });
    v1::Authority {
        id: info.id.clone(),
        role: match info.role {
            Role::Workload => v1::AuthorityRole::Workload,
            Role::System => v1::AuthorityRole::System,
        }
        .into(),
        state: info.state.as_str().to_owned(),
        since_ms: info.since.0,
        expires_ms: expires,
        subject,
        issuer,
        algorithm: convert::algorithm(info.alg).to_owned(),
        module: info.module,
        live_leases: shown.live.count,
        last_ends_ms: shown.live.last_ends.0,
        certificate: info.certificate.to_vec(),
    }
}

fn role(wire: v1::AuthorityRole) -> Result<Role, Refusal> {
    match wire {
        v1::AuthorityRole::Workload => Ok(Role::Workload),
        v1::AuthorityRole::System => Ok(Role::System),
        v1::AuthorityRole::Unspecified => {
            Err(Invalid::new("role", "", "must be that of workloads or of the system").into())
        }
    }
}

fn key_step(wire: &v1::RotateKeyRequest) -> Result<KeyStep, Refusal> {
    let alg = match wire.algorithm.as_str() {
        "" => None,
        "ES256" => Some(KeyAlg::P256),
        "EdDSA" => Some(KeyAlg::Ed25519),
        other => return Err(Invalid::new("algorithm", other, "is neither ES256 nor EdDSA").into()),
    };
    if wire.force && wire.step() != Step::Retire {
        return Err(Invalid::new("force", "", "belongs to the step that retires").into());
    }
    match (wire.step(), alg) {
        (Step::Unspecified, alg) => Ok(KeyStep::Rotate(alg)),
        (Step::Prepare, alg) => Ok(KeyStep::Prepare(alg)),
        (Step::Activate, None) => Ok(KeyStep::Activate),
        (Step::Retire, None) => Ok(KeyStep::Retire { force: wire.force }),
        (Step::Activate | Step::Retire, Some(_)) => {
            Err(Invalid::new("algorithm", &wire.algorithm, "is chosen when a key is prepared").into())
        }
    }
}

fn authority_step(wire: &v1::RotateAuthorityRequest) -> Result<AuthorityStep, Refusal> {
    if (wire.force || !wire.id.is_empty()) && wire.step() != Step::Retire {
        return Err(Invalid::new("force or id", "", "belongs to the step that retires").into());
    }
    Ok(match wire.step() {
        Step::Unspecified => AuthorityStep::Rotate,
        Step::Prepare => AuthorityStep::Prepare,
        Step::Activate => AuthorityStep::Activate,
        Step::Retire => {
            AuthorityStep::Retire { id: Some(wire.id.clone()).filter(|id| !id.is_empty()), force: wire.force }
        }
    })
}
