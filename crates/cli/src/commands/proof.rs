//! `mayfly proof`: the DPoP proof for one request with a token that is bound to the task's key.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use mayfly_client::{Failure, KeyHome, Source, WorkloadKey, proof};
use mayfly_domain::{Reason, Secret, SpiffeId, TrustDomain, defaults};
use serde::Deserialize;
use url::Url;

use super::exec::PROOF_KEY_FILE;
use crate::output::Printer;
use crate::session::{EvidenceArgs, Outcome, Session};

/// Make the DPoP proof for one request with a minted token
///
/// The token is read from MAYFLY_TOKEN, else from standard input, never from an argument. A proof is for one
/// request within one minute. Below `mayfly exec` the key is that of MAYFLY_PROOF_KEY_FILE.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  curl -H \"Authorization: DPoP $TOKEN\" \\
       -H \"DPoP: $(echo $TOKEN | mayfly proof POST https://deploy.acme.internal/run)\" \\
       -X POST https://deploy.acme.internal/run")]
pub(crate) struct Proof {
    /// The request's method
    method: String,
    /// The request's URL; its query and fragment are not signed
    url: Url,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

#[derive(Deserialize)]
struct Claims {
    sub: SpiffeId,
    cnf: Option<Confirmation>,
}

#[derive(Deserialize)]
struct Confirmation {
    jkt: Option<String>,
}

/// Reads a token from the variable, else from standard input.
pub(crate) fn token(session: &Session) -> Result<Secret<String>, Failure> {
    if let Some(token) = session.env.var("MAYFLY_TOKEN") {
        return Ok(Secret::new(token));
    }
    let limit = u64::try_from(defaults::TOKEN_OCTETS_MAX).unwrap_or(u64::MAX).saturating_add(64);
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|_| Failure::of(Reason::TokenMalformed).fact("problem", "standard input is not text"))?;
    let token = Secret::new(text.trim().to_owned());
    drop(Secret::new(text));
    if token.expose().is_empty() {
        return Err(Failure::of(Reason::TokenMalformed)
            .fact("problem", "there is no token")
            .next("set MAYFLY_TOKEN, or write the token to standard input"));
    }
    Ok(token)
}

fn claims(token: &str) -> Option<Claims> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

impl Proof {
    /// The key that `mayfly exec` names, else that of the task of this machine's evidence.
    fn key(&self, claims: &Claims, session: &Session) -> Result<WorkloadKey, Failure> {
        if let Some(path) = session.env.var(PROOF_KEY_FILE).filter(|_| self.evidence.evidence_file.is_none())
        {
            return Ok(WorkloadKey::open(path.as_ref())?);
        }
        let source = Source::discover(self.evidence.evidence_file.as_deref(), &session.env)?;
        let trust_domain = TrustDomain::parse(claims.sub.trust_domain())?;
        Ok(KeyHome::find(&session.env)?.key(&source.scope(&trust_domain)?)?)
    }

    pub(crate) fn run(self, session: &Session) -> Outcome {
        let token = token(session)?;
        let claims = claims(token.expose()).ok_or_else(|| Failure::of(Reason::TokenMalformed))?;
        let key = self.key(&claims, session)?;
        let ours = key.public().thumbprint().to_string();
        if claims.cnf.and_then(|c| c.jkt).is_some_and(|jkt| jkt != ours) {
            return Err(Failure::of(Reason::ProofInvalid)
                .fact("key", ours)
                .fact("problem", "the token is bound to another key than this task's")
                .next("make the proof in the job that minted the token"));
        }
        let proof = proof::dpop(&key, &self.method, &self.url, token.expose(), session.clock.now())?;
        Printer::write(&format!("{proof}\n"))?;
        Ok(0)
    }
}
