//! The token with which a job asks for its ID tokens (`ACTIONS_ID_TOKEN_REQUEST_TOKEN`): the job itself, with a
//! MAC, so that the issuer keeps no list of jobs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::SecretBytes;
use ring::hmac;

use crate::claims::Job;

/// The longest request token, in octets.
const OCTETS_MAX: usize = 8 * 1024;

/// Makes and reads request tokens.
pub struct JobTokens(hmac::Key);

impl std::fmt::Debug for JobTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobTokens([secret])")
    }
}

impl JobTokens {
    /// Tokens under a key derived from the issuer's private key.
    pub fn new(pkcs8: &SecretBytes) -> Self {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, pkcs8.expose());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&seed, b"mayfly stand-in job tokens v1").as_ref()))
    }

    /// The request token of `job`.
    pub fn token(&self, job: &Job) -> String {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(job).unwrap_or_default());
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, body.as_bytes()).as_ref());
        format!("{body}.{mac}")
    }

    /// The job of a request token; none where it is not one of ours.
    pub fn job(&self, token: &str) -> Option<Job> {
        if token.len() > OCTETS_MAX {
            return None;
        }
        let (body, mac) = token.split_once('.')?;
        hmac::verify(&self.0, body.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StandIn;

    #[test]
    fn a_request_token_leads_back_to_its_job_and_a_foreign_one_nowhere() {
        let tokens = JobTokens::new(&StandIn::generate().unwrap());
        let job = Job { run_id: "7".to_owned(), ..Job::default() };
        let token = tokens.token(&job);
        assert_eq!(tokens.job(&token).unwrap().run_id, "7");
        assert!(JobTokens::new(&StandIn::generate().unwrap()).job(&token).is_none());
        assert!(tokens.job(&format!("x{token}")).is_none());
    }
}
