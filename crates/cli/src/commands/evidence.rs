//! `mayfly evidence`: what this machine can show of itself. The token itself is never shown.

use clap::Subcommand;
use mayfly_client::{Failure, KeyHome, Source, Target, evidence, workload};
use mayfly_domain::{TrustDomain, UnixMillis};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::{Human, Moment, View};
use crate::session::{EvidenceArgs, Outcome, Session};

/// Show this machine's evidence
#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Show where the evidence comes from, what it claims, and the audience that it should have
    ///
    /// The claims are what trust rules match. They are shown as they stand in the token, unverified.
    Show(EvidenceArgs),
}

#[derive(Serialize)]
struct Shown {
    source: String,
    trust_domain: String,
    key: String,
    audience: String,
    expires: Moment,
    claims: Map<String, Value>,
}

impl View for Shown {
    fn human(&self, now: UnixMillis) -> Human {
        let claims = self.claims.iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("  {name} = {value}")
        });
        let claims: Vec<_> = claims.map(|line| mayfly_client::failure::clean(&line, 1_024)).collect();
        let fields = Human::Fields(vec![
            ("source", self.source.clone()),
            ("trust domain", self.trust_domain.clone()),
            ("key", self.key.clone()),
            ("audience to ask for", self.audience.clone()),
            ("expires", self.expires.human(now)),
        ]);
        let mut parts = vec![("evidence", fields)];
        // A join token and a certificate claim nothing.
        if !claims.is_empty() {
            parts.push(("claims (unverified)", Human::Text(claims.join("\n") + "\n")));
        }
        Human::Parts(parts)
    }
}

/// The trust domain that the context names, else the one that its broker says.
async fn trust_domain(target: &Target) -> Result<TrustDomain, Failure> {
    match &target.trust_domain {
        Some(known) => Ok(known.clone()),
        None => workload::trust_domain(target).await,
    }
}

impl Evidence {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let Self::Show(args) = self;
        let target = session.target()?;
        let source = Source::at(&target, args.evidence_file.as_deref(), &session.env)?;
        let trust_domain = trust_domain(&target).await?;
        let key = KeyHome::find(&session.env)?.key(&source.scope(&trust_domain)?)?;
        let key = key.public().thumbprint();
        let evidence = source.fetch(&trust_domain, &key).await?;
        session.printer.show(&Shown {
            source: source.describe(),
            audience: evidence::audience(&trust_domain, &key),
            trust_domain: trust_domain.to_string(),
            key: key.to_string(),
            expires: Moment(evidence.expires().map(|e| e.0).unwrap_or_default()),
            claims: evidence.claims,
        })?;
        Ok(0)
    }
}
