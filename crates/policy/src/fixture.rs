//! What the tests of this crate share: the example configuration, and facts to ask it about.

use std::collections::BTreeMap;

use mayfly_domain::{
    GroupName, OperatorName, Owner, Owners, ProfileName, Scope, Scopes, SpiffeId, Ttl, UnixMillis,
};

use crate::profile::{RawProfile, RawToken, RawTtl, RawX509};
use crate::*;

/// The policies of the documentation, word for word.
pub(crate) const PAYMENTS: &str = r#"
@id("payments-deploy")
@max_ttl("15m")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:payments",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"payments-deploy"
) when {
  context.claimed.intent == "deploy:payments" &&
  principal.hasTag("ref") && principal.getTag("ref") like "refs/tags/v*"
};

@id("environments-stay-apart")
@advice("the trust rule of this workload must say environment = \"production\"")
forbid (principal is Mayfly::Workload, action, resource is Mayfly::Profile)
when { resource.environment == "production" }
unless { principal has environment && principal.environment == "production" };

@id("responder")
permit (
  principal is Mayfly::Operator in Mayfly::Group::"oncall",
  action in [Mayfly::Action::"list", Mayfly::Action::"revoke", Mayfly::Action::"block", Mayfly::Action::"audit"],
  resource
);
"#;

pub(crate) fn raw(name: &str) -> RawProfile {
    RawProfile {
        name: name.into(),
        summary: "deploy payments to the production cluster".into(),
        kind: "token".into(),
        integration: "k8s-prod".into(),
        owner: "team:platform".into(),
        environment: Some("production".into()),
        intents: vec!["deploy:payments".into(), "rollback:payments".into()],
        token: Some(RawToken {
            audience: "https://deploy.acme.internal".into(),
            scopes: vec!["deploy:read".into(), "deploy:write".into()],
            ttl: RawTtl { default: Some("5m".into()), max: Some("15m".into()) },
            acceptors: "feed".into(),
            ..RawToken::default()
        }),
        ..RawProfile::default()
    }
}

/// A profile of a service's certificate, which the example's policies permit where it is the payments team's.
pub(crate) fn raw_x509(name: &str) -> RawProfile {
    RawProfile {
        kind: "x509".into(),
        intents: vec!["serve:ledger".into()],
        token: None,
        x509: Some(RawX509 {
            dns: vec!["{name}.payments.svc".into()],
            ips: vec!["{pod_ip}".into()],
            usage: vec!["client".into(), "server".into()],
            ttl: RawTtl { default: Some("1h".into()), max: Some("6h".into()) },
            outage_budget: Some("20m".into()),
            acceptors: "online".into(),
        }),
        ..raw(name)
    }
}

pub(crate) fn profile(name: &str, change: impl FnOnce(&mut RawProfile)) -> Profile {
    let mut raw = raw(name);
    change(&mut raw);
    Profile::compile(&raw, TtlLimits::default()).unwrap()
}

pub(crate) fn load(policies: &[&str], profiles: Vec<Profile>) -> Result<Engine, Vec<PolicyError>> {
    let files: Vec<(String, String)> =
        policies.iter().enumerate().map(|(n, text)| (format!("{n}.cedar"), (*text).to_owned())).collect();
    let operators = BTreeMap::from([
        (OperatorName::parse("dana").unwrap(), vec![GroupName::parse("oncall").unwrap()]),
        (OperatorName::parse("kim").unwrap(), vec![GroupName::parse("audit").unwrap()]),
    ]);
    Engine::load("acme.internal".parse().unwrap(), &[], &files, profiles, operators)
}

/// The words of Mayfly's own schema.
pub(crate) fn words() -> crate::words::Words {
    crate::words::Words::of(crate::request::schema::merge(&[]).unwrap().schema).unwrap()
}

/// The example's profile with the given policies.
pub(crate) fn engine(policies: &[&str]) -> Engine {
    load(policies, vec![profile("payments-deploy", |_| ())]).unwrap()
}

/// Permits the payments team the certificate of its services.
pub(crate) const LEDGER: &str = r#"
@id("ledger-mtls")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:payments",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"ledger-mtls"
);
"#;

/// The example's profile and one of certificates.
pub(crate) fn x509_engine() -> Engine {
    let ledger = Profile::compile(&raw_x509("ledger-mtls"), TtlLimits::default()).unwrap();
    load(&[PAYMENTS, LEDGER], vec![profile("payments-deploy", |_| ()), ledger]).unwrap()
}

/// The service that the example permits.
pub(crate) fn service() -> WorkloadFacts {
    WorkloadFacts {
        workload: SpiffeId::parse("spiffe://acme.internal/svc/ledger").unwrap(),
        tags: BTreeMap::from([("pod_ip".into(), "10.1.2.3".into())]),
        ..job()
    }
}

/// The job that the example permits.
pub(crate) fn job() -> WorkloadFacts {
    WorkloadFacts {
        workload: SpiffeId::parse("spiffe://acme.internal/ci/payments/deploy").unwrap(),
        owners: owners(&["team:payments", "user:alice"]),
        environment: Some("production".parse().unwrap()),
        attestation: "oidc".into(),
        key: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into(),
        tags: BTreeMap::from([("ref".into(), "refs/tags/v1.2".into())]),
        task: Some("gh-1-1".parse().unwrap()),
        peer: Some("10.1.2.3".parse().unwrap()),
        at: UnixMillis(1_767_225_600_000),
    }
}

pub(crate) fn owners(names: &[&str]) -> Owners {
    Owners::new(names.iter().map(|o| Owner::parse(o).unwrap())).unwrap()
}

pub(crate) fn scopes(names: &[&str]) -> Scopes {
    Scopes::new(names.iter().map(|s| Scope::parse(s).unwrap())).unwrap()
}

pub(crate) fn claim(profile: &str, intent: &str) -> Claimed {
    Claimed {
        profile: ProfileName::parse(profile).unwrap(),
        intent: (!intent.is_empty()).then(|| intent.parse().unwrap()),
        reason: None,
        ttl: None,
        scopes: Scopes::default(),
        names: Vec::new(),
        kind: None,
    }
}

pub(crate) fn deploy() -> Claimed {
    claim("payments-deploy", "deploy:payments")
}

pub(crate) fn ttl(text: &str) -> Ttl {
    Ttl::parse(text).unwrap()
}

pub(crate) fn operator(name: &str) -> OperatorPrincipal {
    OperatorPrincipal {
        name: OperatorName::parse(name).unwrap(),
        peer: Some("192.0.2.1".parse().unwrap()),
        key: "key".into(),
        at: UnixMillis(1_767_225_600_000),
    }
}

/// What an acceptor of the payments team declares.
pub(crate) const PAYMENTS_SCHEMA: &str = r#"
namespace Payments {
  entity Order, Report;
  entity Desk enum ["eu", "us"];

  action "view:orders";
  action "manage:orders";

  action "GET /orders" in ["view:orders", "manage:orders"] appliesTo {
    principal: Mayfly::Workload, resource: [Order, Desk], context: Mayfly::Request
  };
  action "POST /orders" in ["manage:orders"] appliesTo {
    principal: Mayfly::Workload, resource: Order, context: Mayfly::Request
  };
}
"#;

/// Lets the payments team's workloads do what their intents contain.
pub(crate) const PAYMENTS_REQUESTS: &str = r#"
@id("orders-of-payments")
permit (
  principal in Mayfly::Owner::"team:payments",
  action in [Payments::Action::"view:orders", Payments::Action::"manage:orders"],
  resource
);
"#;

/// An engine of the example with policies for requests.
pub(crate) fn request_engine(policies: &[&str]) -> Result<Engine, Vec<PolicyError>> {
    let all: Vec<&str> = [PAYMENTS, PAYMENTS_REQUESTS].iter().chain(policies).copied().collect();
    let files: Vec<(String, String)> =
        all.iter().enumerate().map(|(n, text)| (format!("{n}.cedar"), (*text).to_owned())).collect();
    let schema = [("payments.cedarschema".to_owned(), PAYMENTS_SCHEMA.to_owned())];
    let operators = BTreeMap::new();
    let profile = profile("payments-deploy", |raw| raw.intents.push("view:orders".into()));
    Engine::load("acme.internal".parse().unwrap(), &schema, &files, vec![profile], operators)
}

/// What a credential of the payments team shows, to be changed.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) workload: SpiffeId,
    pub(crate) owners: Owners,
    pub(crate) task: mayfly_domain::TaskId,
    pub(crate) profile: Option<ProfileName>,
    pub(crate) intent: mayfly_domain::Intent,
    pub(crate) scopes: Scopes,
    pub(crate) binding: Option<mayfly_domain::Binding>,
    pub(crate) at: UnixMillis,
}

impl Shown {
    pub(crate) fn of(intent: &str) -> Self {
        let job = job();
        Self {
            workload: job.workload,
            owners: job.owners,
            task: "gh-1-1".parse().unwrap(),
            profile: Some(ProfileName::parse("payments-deploy").unwrap()),
            intent: intent.parse().unwrap(),
            scopes: scopes(&["orders:read", "orders:write"]),
            binding: Some(mayfly_domain::Binding::Dpop),
            at: job.at,
        }
    }

    pub(crate) fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            workload: &self.workload,
            owners: &self.owners,
            lease: mayfly_domain::LeaseId::from_bytes([7; 16]),
            task: &self.task,
            profile: self.profile.as_ref(),
            intent: &self.intent,
            scopes: &self.scopes,
            key: None,
            binding: self.binding,
            at: self.at,
        }
    }
}

/// A request for an action of the payments API.
pub(crate) fn wants(action: &str, resource: &str) -> RequestAsk {
    let action = format!("Payments::Action::\"{action}\"");
    let source = Some("10.1.2.3".parse().unwrap());
    let url = "https://orders.acme.internal/orders/42?x=1";
    RequestAsk::new(&action, &format!("Payments::{resource}"), "GET", url, source, Scopes::default()).unwrap()
}
