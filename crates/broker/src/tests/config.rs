//! The example configuration, and a rule and a profile for each case that it has not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mayfly_attest::Authority;
use mayfly_attest::raw::{RawMatch, RawTask, RawTrustRule};
use mayfly_attest::rule::TrustRule;
use mayfly_attest::ruleset::RuleSet;
use mayfly_domain::{AcceptorName, Audience, GroupName, OperatorName, Owner, defaults};
use mayfly_lease::proof::{HolderQuota, MintLimits};
use mayfly_mint::x509::Pointers;
use mayfly_policy::profile::{RawProfile, RawQuota, RawToken, RawTtl, RawWorkloadQuota, RawX509, TtlLimits};
use mayfly_policy::{Engine, Profile};

use super::site::{START, domain};
use crate::{AcceptorEntry, Running, Settings};

pub(super) fn settings(id: &str, audit_file: PathBuf) -> Settings {
    let quota = |live_leases, mints_per_min, burst| HolderQuota { live_leases, mints_per_min, burst };
    Settings {
        trust_domain: domain(),
        issuer: "https://mayfly.acme.internal:8443".to_owned(),
        broker_id: id.to_owned(),
        limits: MintLimits {
            token_lineage: defaults::TOKEN_LINEAGE,
            x509_lineage: defaults::X509_LINEAGE,
            workload: quota(100, 60, 120),
            owner: quota(10_000, 3_000, 3_000),
            evidence_life: defaults::EVIDENCE_LIFE_MAX,
        },
        lineage_max: defaults::LINEAGE_MAX,
        longest_life: defaults::LINEAGE_MAX,
        accepted_risks: Vec::new(),
        pointers: Pointers::default(),
        audit_file,
        feed: crate::FeedSettings::default(),
        skew_ms: defaults::SKEW_MS,
    }
}

pub(super) fn rules(machines: Authority) -> RuleSet {
    let exact = |pairs: &[(&str, &str)]| -> Vec<(String, RawMatch)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), RawMatch::Exact((*v).to_owned()))).collect()
    };
    let mut payments = exact(&[
        ("repository_owner_id", "481516"),
        ("repository_id", "2342108"),
        ("job_workflow_ref", "acme/payments/.github/workflows/release.yml@refs/heads/main"),
        ("environment", "production"),
    ]);
    payments.push(("ref".into(), RawMatch::Prefix("refs/tags/v".into())));
    let payments = RawTrustRule {
        name: "payments-deploy".into(),
        preset: Some("github-actions".into()),
        spiffe_id: "/ci/payments/deploy".into(),
        owners: vec!["team:payments".into(), "user:gh-{actor_id}".into()],
        environment: Some("production".into()),
        matches: payments,
        task: RawTask {
            id: Some("gh-{run_id}-{run_attempt}".into()),
            shared: true,
            window: Some("30m".into()),
            window_max: Some("2h".into()),
        },
        expose: vec![("ref".into(), "ref".into()), ("sha".into(), "sha".into())],
        ..RawTrustRule::default()
    };
    let billing = |name: &str, project: &str, on_other_key: Option<&str>| RawTrustRule {
        name: name.into(),
        preset: Some("gitlab".into()),
        spiffe_id: format!("/ci/billing/{name}"),
        owners: vec!["team:billing".into(), "user:gl-{user_id}".into()],
        matches: exact(&[
            ("namespace_id", "72"),
            ("project_id", project),
            ("ref", "main"),
            ("ref_protected", "true"),
        ]),
        task: RawTask {
            id: Some("gl-{job_id}".into()),
            window: Some("30m".into()),
            window_max: Some("1h".into()),
            ..RawTask::default()
        },
        expose: vec![("ref".into(), "ref".into())],
        on_other_key: on_other_key.map(Into::into),
        ..RawTrustRule::default()
    };
    let machines = RawTrustRule {
        name: "machines".into(),
        preset: Some("x509".into()),
        authority: Some(machines),
        spiffe_id: "/machines/{dns}".into(),
        owners: vec!["team:payments".into()],
        matches: vec![("dns".into(), RawMatch::Prefix("web-".into()))],
        evidence_life: Some("30d".into()),
        // Shorter than the certificates live: an ended task is remembered for their sake alone.
        task: RawTask { window: Some("1h".into()), window_max: Some("2h".into()), ..RawTask::default() },
        ..RawTrustRule::default()
    };
    let raw =
        [payments, machines, billing("report", "1042", None), billing("restart", "1043", Some("supersede"))];
    RuleSet::new(raw.into_iter().map(|raw| TrustRule::compile(raw, &domain()).unwrap()).collect()).unwrap()
}

fn profiles() -> Vec<Profile> {
    let token = |audience: &str, scopes: &[&str], acceptors: &str| RawToken {
        audience: audience.into(),
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        ttl: RawTtl { default: Some("5m".into()), max: Some("10m".into()) },
        acceptors: acceptors.into(),
        ..RawToken::default()
    };
    let base = |name: &str, integration: &str, intents: &[&str], token| RawProfile {
        name: name.into(),
        summary: "an example".into(),
        kind: "token".into(),
        integration: integration.into(),
        owner: "team:platform".into(),
        intents: intents.iter().map(|s| (*s).to_owned()).collect(),
        token: Some(token),
        ..RawProfile::default()
    };
    let deploy = token("https://deploy.acme.internal", &["deploy:write"], "feed");
    let mut payments =
        base("payments-deploy", "k8s-prod", &["deploy:payments", "rollback:payments"], deploy.clone());
    payments.environment = Some("production".into());
    payments.quota = RawQuota { workload: RawWorkloadQuota { live_leases: Some(5) } };
    let ledger = token("https://ledger.acme.internal", &["ledger:read"], "online");
    let billing = base("billing-report", "billing-ledger", &["report:billing"], ledger);
    let deploy_again = deploy.clone();
    let bearer = RawToken {
        binding: Some("bearer".into()),
        bearer_reason: Some("the webhook can't prove a key".into()),
        ..deploy
    };
    let bearer = base("bearer-hook", "k8s-prod", &["deploy:payments"], bearer);
    let mesh = RawProfile {
        kind: "x509".into(),
        token: None,
        x509: Some(RawX509 {
            dns: vec!["{name}.payments.svc".into()],
            usage: vec!["client".into(), "server".into()],
            ttl: RawTtl { default: Some("10m".into()), max: Some("1h".into()) },
            outage_budget: Some("3m".into()),
            acceptors: "online".into(),
            ..RawX509::default()
        }),
        ..base("mesh", "mesh", &["serve:payments"], deploy_again)
    };
    [payments, billing, bearer, mesh]
        .iter()
        .map(|r| Profile::compile(r, TtlLimits::default()).unwrap())
        .collect()
}

fn schemas() -> [(String, String); 1] {
    [("deploy".to_owned(), DEPLOY_SCHEMA.to_owned())]
}

/// What the deploy API and the services of the mesh declare.
const DEPLOY_SCHEMA: &str = r#"namespace Deploy {
  entity Cluster;
  action "deploy:payments";
  action "POST /deploy" in ["deploy:payments"] appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
  action "DELETE /deploy" appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
  action "serve:payments";
  action "call" in ["serve:payments"] appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
  action "call by day" in ["serve:payments"] appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
}"#;

const DEPLOY_POLICIES: &str = r#"
@id("deploy") permit (principal in Mayfly::Owner::"team:payments",
  action in [Deploy::Action::"deploy:payments", Deploy::Action::"serve:payments"], resource);
@id("not-old") forbid (principal, action == Deploy::Action::"POST /deploy", resource == Deploy::Cluster::"old");
@id("by-day") forbid (principal, action == Deploy::Action::"call by day", resource)
  when { context.proven.now < datetime("2020-01-01") };
@id("office") @mode("observe") @until("2027-03-01")
forbid (principal, action in Deploy::Action::"deploy:payments", resource == Deploy::Cluster::"eu")
  unless { context.proven.source.isInRange(ip("10.0.0.0/8")) };
"#;

pub(super) fn running() -> Running {
    loaded(DEPLOY_POLICIES)
}

/// The same with no policy that judges requests.
pub(super) fn running_without_requests() -> Running {
    loaded("")
}

fn loaded(requests: &str) -> Running {
    let hook = r#"@id("hook") permit (principal is Mayfly::Workload in Mayfly::Owner::"team:payments",
        action in [Mayfly::Action::"mint", Mayfly::Action::"renew"], resource == Mayfly::Profile::"bearer-hook");
        @id("mesh") permit (principal is Mayfly::Workload in Mayfly::Owner::"team:payments",
        action in [Mayfly::Action::"mint", Mayfly::Action::"renew"], resource == Mayfly::Profile::"mesh");"#;
    let policies = [
        ("payments", include_str!("../../../../config/policies/payments.cedar")),
        ("billing", include_str!("../../../../config/policies/billing.cedar")),
        ("operators", include_str!("../../../../config/policies/operators.cedar")),
        ("acceptors", include_str!("../../../../config/policies/acceptors.cedar")),
        ("hook", hook),
        ("deploy", requests),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()));
    let operators = BTreeMap::from([
        (OperatorName::parse("alice").unwrap(), vec![GroupName::parse("oncall").unwrap()]),
        (OperatorName::parse("mallory").unwrap(), vec![]),
    ]);
    let acceptor = |name: &str, team: &str, audience: &str| {
        let entry = AcceptorEntry {
            owner: Owner::parse(team).unwrap(),
            audiences: vec![Audience::parse(audience).unwrap()],
            certificates: name == "ledger-api",
            reuse_ms: if name == "ledger-api" { 5_000 } else { 0 },
        };
        (AcceptorName::parse(name).unwrap(), entry)
    };
    Running {
        engine: Engine::load(domain(), &schemas(), &policies, profiles(), operators).unwrap(),
        acceptors: BTreeMap::from([
            acceptor("deploy-api", "team:platform", "https://deploy.acme.internal"),
            acceptor("ledger-api", "team:billing", "https://ledger.acme.internal"),
        ]),
        loaded: START,
    }
}
