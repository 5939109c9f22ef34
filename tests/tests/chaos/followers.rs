//! Those who decide by themselves: verifiers in this process, and one in a process of its own that can be stopped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use mayfly_domain::time::{BootTime, Clock as _, SystemClock};
use mayfly_testkit::process::Guarded;
use mayfly_testkit::proxy::Proxy;
use mayfly_verify::{PastBound, Request, Usage, Verifier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::ledger::{Credential, Form, now};
use super::world::World;
use crate::harness::{API, proof_of};

/// How long a stopped process is waited for.
const ANSWER: Duration = Duration::from_secs(12);

enum Judge {
    Inside(Verifier, PastBound),
    Process(Guarded, SocketAddr),
}

/// A follower with its ways to the brokers.
pub(crate) struct Follower {
    pub(crate) name: String,
    pub(crate) bound_ms: u64,
    /// To each broker, its own first.
    pub(crate) ways: Vec<Proxy>,
    /// The number of the broker that each way leads to.
    pub(crate) brokers: Vec<usize>,
    judge: Judge,
}

/// What a process told beside its judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) refused: Option<String>,
    /// For how much longer it may decide.
    pub(crate) left_ms: u64,
    pub(crate) number: u64,
}

/// A question to a process, as it is sent.
pub(crate) fn question(credential: &Credential) -> Vec<u8> {
    let (kind, what) = match &credential.form {
        Form::Bearer(token) => (1, format!("{token}\n").into_bytes()),
        Form::Bound(token, key) => {
            (1, format!("{token}\n{}", proof_of(key, token, SystemClock.now())).into_bytes())
        }
        Form::Certificate(leaf) => (2, leaf.clone()),
    };
    framed(kind, &what)
}

fn framed(kind: u8, what: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(u32::try_from(what.len()).unwrap().to_be_bytes());
    out.extend(what);
    out
}

/// The next answer of a process.
pub(crate) async fn answer(line: &mut TcpStream) -> std::io::Result<Told> {
    let accepted = line.read_u8().await? == 1;
    let (left_ms, number) = (line.read_u64().await?, line.read_u64().await?);
    let mut reason = vec![0; line.read_u8().await?.into()];
    line.read_exact(&mut reason).await?;
    let refused = (!accepted).then(|| String::from_utf8_lossy(&reason).into_owned());
    Ok(Told { refused, left_ms, number })
}

impl Follower {
    /// A follower of these brokers.
    pub(crate) async fn start(
        world: &World,
        name: &str,
        brokers: &[usize],
        bound_ms: u64,
        past_bound: Option<PastBound>,
    ) -> Self {
        let mut ways = Vec::new();
        for broker in brokers {
            // Behind the broker's own proxy: one that is cut off is so from everybody.
            ways.push(Proxy::start(world.brokers[*broker].front.address()).await);
        }
        let mut urls: Vec<_> =
            ways.iter().map(|way| Url::parse(&format!("https://{}", way.address())).unwrap()).collect();
        let mut target = world.target(brokers[0], Some(world.acceptor_files())).await;
        target.url = urls.remove(0);
        let bound = Duration::from_millis(bound_ms);
        let judge = match past_bound {
            Some(past) => {
                let builder = Verifier::builder(target).or_at(urls).bound(bound).past_bound(past);
                Judge::Inside(builder.start().unwrap(), past)
            }
            None => {
                let (certificate, key): (PathBuf, PathBuf) = target.identity.clone().unwrap();
                let mut process = Guarded::spawn(
                    Command::new(env!("CARGO_BIN_EXE_test-follower"))
                        .arg(target.trust_domain.unwrap().as_str())
                        .args([&world.ca_file(), &certificate, &key])
                        .arg(bound_ms.to_string())
                        .arg(target.url.as_str())
                        .args(urls.iter().map(Url::as_str))
                        .stdin(Stdio::null())
                        .stdout(Stdio::piped()),
                )
                .unwrap();
                let pipe = process.child().stdout.take().unwrap();
                let line = tokio::task::spawn_blocking(|| {
                    let mut line = String::new();
                    BufReader::new(pipe).read_line(&mut line).map(|_| line)
                });
                let address =
                    line.await.unwrap().unwrap().trim().parse().expect("the follower tells its address");
                Judge::Process(process, address)
            }
        };
        Self { name: name.to_owned(), bound_ms, ways, brokers: brokers.to_vec(), judge }
    }

    /// Its process, where it has one of its own.
    pub(crate) fn process(&self) -> Option<&Guarded> {
        match &self.judge {
            Judge::Inside(..) => None,
            Judge::Process(process, _) => Some(process),
        }
    }

    /// Whether a broker has answered a ping that it sent at `moment` or later.
    pub(crate) async fn was_confirmed_since(&self, moment: BootTime) -> bool {
        let left_ms = match &self.judge {
            Judge::Inside(verifier, _) => u64::try_from(verifier.freshness().left.as_millis()).unwrap(),
            Judge::Process(_, address) => {
                let mut line = TcpStream::connect(address).await.unwrap();
                line.write_all(&framed(3, &[])).await.unwrap();
                match timeout(ANSWER, answer(&mut line)).await {
                    Ok(Ok(told)) => told.left_ms,
                    Ok(Err(_)) | Err(_) => 0,
                }
            }
        };
        moment.plus_ms(self.bound_ms) <= now().plus_ms(left_ms)
    }

    /// A line on which it can be asked.
    pub(crate) async fn line(&self) -> Option<TcpStream> {
        match &self.judge {
            Judge::Inside(..) => None,
            Judge::Process(_, address) => Some(TcpStream::connect(address).await.unwrap()),
        }
    }

    /// Asks it about a credential: nothing where it accepts.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn ask(
        &self,
        line: &mut Option<TcpStream>,
        credential: &Credential,
    ) -> Result<(), String> {
        let judged = match (&self.judge, line) {
            (Judge::Inside(verifier, PastBound::Refuse), _) => match &credential.form {
                Form::Certificate(leaf) => verifier.check_certificate(leaf, Usage::Client).map(drop),
                Form::Bearer(token) => verifier.check_token(token, &request(None)).map(drop),
                Form::Bound(token, key) => {
                    let proof = proof_of(key, token, SystemClock.now());
                    verifier.check_token(token, &request(Some(&proof))).map(drop)
                }
            },
            (Judge::Inside(verifier, PastBound::AskOnline), _) => match &credential.form {
                Form::Certificate(leaf) => {
                    verifier.check_certificate_or_ask(leaf, Usage::Client).await.map(drop)
                }
                Form::Bearer(token) => verifier.check_token_or_ask(token, &request(None)).await.map(drop),
                Form::Bound(token, key) => {
                    let proof = proof_of(key, token, SystemClock.now());
                    verifier.check_token_or_ask(token, &request(Some(&proof))).await.map(drop)
                }
            },
            (Judge::Process(..), line) => {
                let Some(open) = line.as_mut() else { return Err("no line".to_owned()) };
                let asked = async {
                    open.write_all(&question(credential)).await?;
                    answer(open).await
                };
                return match timeout(ANSWER, asked).await {
                    Ok(Ok(told)) => told.refused.map_or(Ok(()), Err),
                    // What comes later would answer another question.
                    Ok(Err(_)) | Err(_) => {
                        *line = self.line().await;
                        Err("no answer in time".to_owned())
                    }
                };
            }
        };
        judged.map_err(|refusal| refusal.reason.as_str().to_owned())
    }
}

fn request(dpop: Option<&str>) -> Request<'_> {
    Request { method: "GET", url: API, dpop, ..Request::default() }
}
