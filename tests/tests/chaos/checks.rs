//! Those who ask, at brokers and at followers, one question after the other.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::time::{Clock as _, SystemClock};
use mayfly_proto::v1 as pb;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::followers::Follower;
use super::ledger::{Credential, Form, Ledger};
use super::random::Random;
use super::tally::{Asked, Tally};
use super::world::World;
use crate::harness::{API, proof_of, question};

/// How long an answer is waited for.
const CHECK: Duration = Duration::from_secs(6);

/// How many questions a follower is asked without a pause.
const AT_ONCE: usize = 32;

/// What all who ask share.
pub(crate) struct Askers {
    pub(crate) world: Arc<World>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) stop: CancellationToken,
}

/// The question about a credential: as it is, or by its lease alone.
fn about(credential: &Credential, by_lease: bool) -> pb::CheckRequest {
    use pb::check_request::Credential as Shown;
    let shown = match &credential.form {
        _ if by_lease => Shown::Lease(credential.lease.id.clone()),
        Form::Certificate(leaf) => Shown::Certificate(leaf.clone()),
        Form::Bearer(token) => return question(token, String::new()),
        Form::Bound(token, key) => return question(token, proof_of(key, token, SystemClock.now())),
    };
    pb::CheckRequest { credential: Some(shown), url: API.to_owned(), ..Default::default() }
}

/// Asks a broker once: nothing where it accepts.
///
/// # Errors
/// Why not.
pub(crate) async fn ask(
    world: &World,
    broker: usize,
    credential: &Credential,
    by_lease: bool,
) -> Result<(), String> {
    let client = world.acceptor(broker);
    match timeout(CHECK, client.check(about(credential, by_lease))).await {
        Ok(Ok(answer)) if answer.accepted => Ok(()),
        Ok(Ok(answer)) => Err(answer.reason),
        Ok(Err(failure)) => Err(failure.code.into_owned()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

impl Askers {
    /// Asks one broker about anything, again and again.
    pub(crate) async fn online(self: Arc<Self>, broker: usize, random: Random, pause: Duration) {
        while !self.stop.is_cancelled() {
            let Some(credential) = self.ledger.pick(&random) else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let by_lease = random.percent(40);
            let question = self.tally.ask();
            let answer = ask(&self.world, broker, &credential, by_lease).await;
            self.tally.answer(&question, &credential, Asked::Online, &answer);
            sleep(pause).await;
        }
    }

    /// Asks one follower about anything, some questions at a time.
    pub(crate) async fn follower(self: Arc<Self>, follower: Arc<Follower>, random: Random, pause: Duration) {
        let mut line = follower.line().await;
        while !self.stop.is_cancelled() {
            for _ in 0..AT_ONCE {
                let Some(credential) = self.ledger.pick(&random) else { break };
                // A proof for each would be most of the work.
                if matches!(credential.form, Form::Bound(..)) && random.percent(80) {
                    continue;
                }
                let question = self.tally.ask();
                let answer = follower.ask(&mut line, &credential).await;
                self.tally.answer(&question, &credential, Asked::InProcess(follower.bound_ms), &answer);
            }
            sleep(pause).await;
        }
    }
}
