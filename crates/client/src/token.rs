//! Access tokens for a service's own calls: cached, renewed ahead of their end, asked for once however many wait.
//!
//! Nothing runs in the background: a token is renewed when it is next used. The token must never be logged; it is
//! shown to the code that makes the header and to nobody else.

use std::sync::{Arc, Mutex, PoisonError};

use mayfly_domain::time::SharedClock;
use mayfly_domain::{LeaseId, Reason, Refusal, Secret, UnixMillis};
use url::Url;

use crate::failure::Failure;
use crate::proof::dpop;
use crate::workload::{Ask, Minted, WorkloadClient};

/// How long before its end a token is not shown any more, in milliseconds.
const REST_MS: u64 = 2_000;

/// An access token that is good now.
#[derive(Debug)]
pub struct Token {
    /// The compact token.
    pub token: Secret<String>,
    /// When it ends, whatever happens.
    pub expires: UnixMillis,
    /// How it is bound: `dpop`, `mtls` or `bearer`.
    pub binding: String,
    lease: String,
    /// From when on a new one is wanted.
    due: UnixMillis,
}

/// What a request carries. `Debug` shows neither.
#[derive(Debug)]
pub struct Headers {
    /// The value of `Authorization`.
    pub authorization: Secret<String>,
    /// The value of `DPoP`, where the token is bound that way; for this one request.
    pub dpop: Option<Secret<String>>,
}

/// A source of tokens for one profile.
#[derive(Debug)]
pub struct TokenSource {
    client: Arc<WorkloadClient>,
    ask: Ask,
    clock: SharedClock,
    held: Mutex<Option<Arc<Token>>>,
    /// Held by whoever gets the next one.
    flight: tokio::sync::Mutex<()>,
}

impl TokenSource {
    /// Tokens as asked for; none is minted yet.
    pub fn new(client: Arc<WorkloadClient>, ask: Ask) -> Self {
        let clock = client.clock();
        Self { client, ask, clock, held: Mutex::new(None), flight: tokio::sync::Mutex::new(()) }
    }

    /// A token that is good now. One that is past two thirds of its life is renewed by one of the callers, while
    /// the others still get the old one.
    ///
    /// # Errors
    /// Why there is none; a failed renewal is none as long as the old token is good.
    pub async fn token(&self) -> Result<Arc<Token>, Failure> {
        let held = self.held();
        let now = self.clock.now();
        let good = held.clone().filter(|t| now.plus(REST_MS) < t.expires);
        match good {
            Some(token) if now < token.due => Ok(token),
            Some(token) => match self.flight.try_lock() {
                Ok(_flight) => match self.next(&held).await {
                    Ok(new) => Ok(new),
                    Err(failed) => {
                        tracing::warn!(reason = %failed.code, "the access token was not renewed yet");
                        Ok(token)
                    }
                },
                Err(_) => Ok(token),
            },
            None => {
                let _flight = self.flight.lock().await;
                match self.held() {
                    // Somebody else got it while this call waited.
                    Some(token) if self.clock.now().plus(REST_MS) < token.expires => Ok(token),
                    _ => self.next(&held).await,
                }
            }
        }
    }

    /// The headers for one request: `Authorization`, and the proof that goes with a bound token.
    ///
    /// # Errors
    /// As [`TokenSource::token`]; `INPUT_INVALID` for a method that is not one.
    pub async fn headers(&self, method: &str, url: &Url) -> Result<Headers, Failure> {
        let token = self.token().await?;
        let text = token.token.expose();
        let (scheme, proof) = match token.binding.as_str() {
            "dpop" => ("DPoP", Some(self.proof(method, url, text)?)),
            _ => ("Bearer", None),
        };
        Ok(Headers { authorization: Secret::new(format!("{scheme} {text}")), dpop: proof })
    }

    /// Forgets the token, because its target refused it: the next call gets another one.
    pub fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn proof(&self, method: &str, url: &Url, token: &str) -> Result<Secret<String>, Refusal> {
        dpop(self.client.key(), method, url, token, self.clock.now()).map(Secret::new)
    }

    fn held(&self) -> Option<Arc<Token>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Renews what there is, where it can be renewed; else mints.
    async fn next(&self, held: &Option<Arc<Token>>) -> Result<Arc<Token>, Failure> {
        let renewed = match held.as_ref().and_then(|t| LeaseId::parse(&t.lease).ok()) {
            Some(lease) => match self.client.renew(lease, self.ask.ttl).await {
                Ok(minted) => Some(minted),
                Err(failed) if starts_over(&failed) => None,
                Err(failed) => return Err(failed),
            },
            None => None,
        };
        let minted = match renewed {
            Some(minted) => minted,
            None => self.client.mint(&self.ask).await?,
        };
        let token = Arc::new(self.taken(minted));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Ok(token)
    }

    fn taken(&self, minted: Minted) -> Token {
        let now = self.clock.now();
        let life = minted.expires.0.saturating_sub(now.0);
        Token {
            token: minted.token,
            expires: minted.expires,
            binding: minted.binding,
            lease: minted.lease,
            due: now.plus(life / 3 * 2),
        }
    }
}

/// Whether a lease that can't be renewed leaves a new mint to try.
fn starts_over(failed: &Failure) -> bool {
    matches!(
        failed.reason,
        Some(
            Reason::LineageEnded
                | Reason::LeaseExpired
                | Reason::LeaseEnded
                | Reason::LeaseNotFound
                | Reason::LeaseNotActive
                | Reason::LeaseOfAnother
                | Reason::LeaseRevoked
                | Reason::SignerWithdrawn
        )
    )
}

#[cfg(test)]
mod tests;
