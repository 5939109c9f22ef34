//! The configuration of a broker, as commands on its host read it, and evidence judged by it without a broker.

use std::path::PathBuf;

use clap::Args;
use mayfly_attest::evidence::{Claims, Verified};
use mayfly_attestors::x509::danger;
use mayfly_client::{Env, Evidence, Failure, KeyHome, Source};
use mayfly_domain::{EvidenceHash, Reason, Refusal, UnixMillis};
use mayfly_server::config::{self, Loaded, Problems, Settings};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::session::{EvidenceArgs, Session};

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The broker's configuration; `trust/`, `profiles/` and `policies/` are beside it
    #[arg(long, value_name = "FILE", default_value = "/etc/mayfly/mayfly.toml", env = "MAYFLY_CONFIG")]
    pub(crate) config: PathBuf,
}

impl ConfigArgs {
    /// Loads everything, or tells every mistake.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        config::load(&self.config, std::env::vars()).map_err(|problems| {
            let failure = mistakes(&problems);
            if self.config.exists() {
                failure
            } else {
                failure.next("name the file with --config, or in MAYFLY_CONFIG")
            }
        })
    }
}

/// Where `init` leaves the trust domain's anchor for those who issue certificates on this host.
pub(crate) fn anchor_file(settings: &Settings) -> PathBuf {
    settings.state_dir.join("ca.pem")
}

fn mistakes(problems: &Problems) -> Failure {
    let all = Failure::of(Reason::ConfigInvalid);
    problems.iter().fold(all, |failure, problem| failure.fact("mistake", problem.to_string()))
}

/// A refusal with what only operators may know: whoever reads the configuration is one.
pub(crate) fn detailed(refusal: &Refusal) -> Failure {
    let failure = Failure::from(refusal.clone());
    let known = refusal.detail.is_empty() || refusal.facts.iter().any(|(_, value)| *value == refusal.detail);
    if known { failure } else { failure.fact("detail", &refusal.detail) }
}

/// What the evidence of this machine claims, taken at its word.
pub(crate) struct Unverified {
    /// As the attestor would give it, had it verified it.
    pub(crate) verified: Verified,
    /// Where it comes from.
    pub(crate) source: String,
}

impl Unverified {
    /// Takes the machine's evidence, made for the key that it would be presented with.
    pub(crate) async fn discover(
        args: &EvidenceArgs,
        loaded: &Loaded,
        session: &Session,
    ) -> Result<Self, Failure> {
        let source = Source::discover(args.evidence_file.as_deref(), &session.env)?;
        let trust_domain = &loaded.settings.trust_domain;
        let key = key_of(&source, loaded, &session.env)?;
        let evidence = source.fetch(trust_domain, &key).await?;
        Ok(Self { verified: verified(claims(&evidence)?)?, source: source.describe() })
    }

    /// Takes claims from a JSON file, or a certificate with its chain from a PEM file.
    pub(crate) fn read(file: &PathBuf, loaded: &Loaded, now: UnixMillis) -> Result<Self, Failure> {
        let no = |why: String| {
            Failure::of(Reason::InputInvalid).fact("file", file.display().to_string()).fact("problem", why)
        };
        let json = std::fs::read(file).map_err(|e| no(e.to_string()))?;
        if let Some(chain) = certificates(&json) {
            let chain = chain.map_err(no)?;
            let trust_domain = &loaded.settings.trust_domain;
            let verified = danger::unproven(loaded.rules.authorities(), &chain, trust_domain, now);
            let verified = verified.map_err(|e| detailed(&e))?;
            return Ok(Self { verified, source: format!("the certificate in {}", file.display()) });
        }
        let claims = mayfly_attestors::json::object(&json).map_err(|e| no(e.to_string()))?;
        Ok(Self { verified: verified(claims)?, source: format!("the file {}", file.display()) })
    }
}

/// The certificates of a PEM file, in their order; none where it is no such file.
fn certificates(text: &[u8]) -> Option<Result<Vec<Vec<u8>>, String>> {
    if !text.starts_with(b"-----BEGIN ") {
        return None;
    }
    let all = CertificateDer::pem_slice_iter(text).map(|one| one.map(|der| der.to_vec()));
    Some(all.collect::<Result<_, _>>().map_err(|e| e.to_string()))
}

fn key_of(source: &Source, loaded: &Loaded, env: &Env) -> Result<mayfly_domain::Thumbprint, Failure> {
    let key = KeyHome::find(env)?.key(&source.scope(&loaded.settings.trust_domain)?)?;
    Ok(key.public().thumbprint())
}

fn claims(evidence: &Evidence) -> Result<Claims, Failure> {
    let json = serde_json::to_vec(&evidence.claims)
        .map_err(|e| Failure::of(Reason::Internal).fact("problem", e.to_string()))?;
    mayfly_attestors::json::object(&json)
        .map_err(|e| Failure::of(Reason::EvidenceMalformed).fact("problem", e.to_string()))
}

fn verified(claims: Claims) -> Result<Verified, Failure> {
    let text = |name: &str| claims.get(name).and_then(|v| v.as_text()).map(str::to_owned);
    let time =
        |name: &str| text(name).and_then(|t| t.parse().ok()).map(UnixMillis::from_secs).unwrap_or_default();
    let missing = || Failure::of(Reason::EvidenceClaims).fact("claim", "iss");
    Ok(Verified {
        kind: "oidc",
        issuer: text("iss").ok_or_else(missing)?,
        audience: text("aud").unwrap_or_default(),
        // Nothing is bound here, so nothing looks for it again.
        hash: EvidenceHash::of(b""),
        alias: None,
        issued_at: time("iat"),
        expires: time("exp"),
        holder: None,
        claims,
    })
}
