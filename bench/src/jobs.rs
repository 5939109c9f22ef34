//! The clients: CI jobs that mint, acceptors that check.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_client::proof::{dpop, envelope};
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{AcceptorClient, KeyHome, KeyScope, Source, Svid, WorkloadClient, WorkloadKey};
use mayfly_domain::time::Clock as _;
use mayfly_domain::{SystemClock, Thumbprint, TrustDomain};
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_proto::{rpc, v1 as pb};
use mayfly_standin::{Job, StandIn};
use prost::Message as _;
use tonic::transport::Channel;
use url::Url;

use crate::broker::Broker;
use crate::load::Step;
use crate::site::{CERTIFICATES, INTENT, PROFILE, TRUST_DOMAIN};
use crate::{Failed, Result};

/// The life of a job's token: that of a long CI job.
const TOKEN_LIFE_S: u64 = 3_000;
/// The last leases of each job that are kept for checks.
const KEPT: usize = 256;
pub(crate) const URL: &str = "https://bench.acme.internal/deploy";

/// Which trust rule a job comes under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Team {
    Bench,
    Other,
}

impl Team {
    fn organisation(self) -> (String, String) {
        let id = match self {
            Self::Bench => "481516",
            Self::Other => "481517",
        };
        ("acme".to_owned(), id.to_owned())
    }

    /// The owner that all its leases have.
    pub(crate) fn owner(self) -> &'static str {
        match self {
            Self::Bench => "team:bench",
            Self::Other => "team:other",
        }
    }
}

/// What a job mints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Token,
    /// A certificate for the bare key of the envelope.
    Certificate,
    /// A certificate for a PKCS #10 request.
    Request,
}

impl Wish {
    fn request(self, token: String, key: &WorkloadKey) -> Result<pb::MintRequest> {
        let csr = match self {
            Self::Request => request(key)?,
            Self::Token | Self::Certificate => Vec::new(),
        };
        Ok(pb::MintRequest {
            evidence: Some(pb::Evidence { kind: Some(pb::evidence::Kind::OidcToken(token)) }),
            profile: if self == Self::Token { PROFILE } else { CERTIFICATES }.to_owned(),
            intent: INTENT.to_owned(),
            csr,
            ..pb::MintRequest::default()
        })
    }
}

/// A request that asks for nothing but its key.
fn request(key: &WorkloadKey) -> Result<Vec<u8>> {
    let pair = rcgen::KeyPair::from_pem(key.pem().expose())?;
    let mut wishes = rcgen::CertificateParams::default();
    wishes.distinguished_name = rcgen::DistinguishedName::new();
    Ok(wishes.serialize_request(&pair)?.der().to_vec())
}

/// A CI job: its own workload, task, key and token, bound by its first mint.
#[derive(Debug)]
pub(crate) struct Minter {
    rpc: WorkloadServiceClient<Channel>,
    trust_domain: TrustDomain,
    key: Arc<WorkloadKey>,
    payload: Vec<u8>,
    nonce: Vec<u8>,
    pub(crate) leases: Vec<Held>,
    minted: usize,
}

/// What an acceptor is shown.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) lease: String,
    token: String,
    key: Arc<WorkloadKey>,
}

impl Held {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The key that it is bound to.
    pub(crate) fn holder(&self) -> Thumbprint {
        self.key.public().thumbprint()
    }

    /// A new proof for `POST` to [`URL`].
    pub(crate) fn proof(&self) -> Result<String> {
        Ok(dpop(&self.key, "POST", &Url::parse(URL)?, &self.token, SystemClock.now())?)
    }
}

/// What makes jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    keys: KeyHome,
    issuer: StandIn,
    trust_domain: TrustDomain,
}

impl Jobs {
    pub(crate) fn new(broker: &Broker) -> Result<Self> {
        Ok(Self {
            keys: home(&broker.site.path("jobs"))?,
            issuer: broker.site.issuer()?,
            trust_domain: TrustDomain::parse(TRUST_DOMAIN)?,
        })
    }

    /// Job `n` of a team, whose person is `user:gh-{person}`, with a new token that its first mint has bound.
    pub(crate) async fn minter(
        &self,
        channel: &Channel,
        team: Team,
        n: usize,
        person: usize,
        wish: Wish,
    ) -> Result<Minter> {
        let scope = KeyScope {
            trust_domain: self.trust_domain.clone(),
            issuer: team.owner().to_owned(),
            task: n.to_string(),
        };
        let key = self.keys.key(&scope)?;
        let token = self.token(&job(team, n, person), &key)?;
        let request = wish.request(token, &key)?;
        let mut rpc = WorkloadServiceClient::new(channel.clone());
        let nonce = rpc.get_nonce(pb::GetNonceRequest {}).await?.into_inner().nonce;
        let mut minter = Minter {
            rpc,
            trust_domain: self.trust_domain.clone(),
            key: Arc::new(key),
            payload: request.encode_to_vec(),
            nonce,
            leases: Vec::new(),
            minted: 0,
        };
        minter.step().await?;
        Ok(minter)
    }

    /// So many jobs over some connections, of `persons` people in turn.
    pub(crate) async fn minters(
        &self,
        channels: &[Channel],
        count: usize,
        persons: usize,
        wish: Wish,
    ) -> Result<Vec<Minter>> {
        let mut all = Vec::with_capacity(count);
        for (n, channel) in (0..count).zip(channels.iter().cycle()) {
            all.push(self.minter(channel, Team::Bench, n, 1_000 + n % persons, wish).await?);
        }
        Ok(all)
    }

    fn token(&self, job: &Job, key: &WorkloadKey) -> Result<String> {
        let audience = format!("{TRUST_DOMAIN}#{}", key.public().thumbprint());
        Ok(self.issuer.github_token(job, &audience, SystemClock.now())?)
    }

    /// Service `n`: the file with its first evidence, which belongs to a key of its own.
    pub(crate) fn service(&self, broker: &Broker, n: usize) -> Result<PathBuf> {
        let name = format!("services/{n}.token");
        let (file, job) = (broker.site.path(&name), job(Team::Bench, 10_000 + n, 10_000 + n));
        // The key's home is found by what the token says, whomever it is for.
        broker.site.put(&name, &self.issuer.github_token(&job, TRUST_DOMAIN, SystemClock.now())?)?;
        let key = self.keys.key(&Source::File(file.clone()).scope(&self.trust_domain)?)?;
        broker.site.put(&name, &self.token(&job, &key)?)?;
        Ok(file)
    }

    /// Service `n` with a certificate of an hour, on a connection that it authenticates.
    pub(crate) async fn renewer(&self, broker: &Broker, n: usize) -> Result<Renewer> {
        let source = Source::File(self.service(broker, n)?);
        let clock = Arc::new(SystemClock);
        let client = WorkloadClient::connect(&broker.target(None)?, source, &self.keys, clock).await?;
        let svid = client.mint_certificate(&CertificateAsk::new(CERTIFICATES.parse()?)).await?;
        let name = format!("services/{n}");
        broker.site.put(&format!("{name}.crt"), &svid.chain_pem())?;
        broker.site.put(&format!("{name}.key"), svid.key_pem().expose())?;
        let mut rpc = WorkloadServiceClient::new(broker.channel_as(&name).await?);
        let nonce = rpc.get_nonce(pb::GetNonceRequest {}).await?.into_inner().nonce;
        let mtls = pb::evidence::Kind::Mtls(pb::MtlsCertificate {});
        let request = pb::RenewRequest {
            evidence: Some(pb::Evidence { kind: Some(mtls) }),
            lease: svid.lease.to_string(),
            ..pb::RenewRequest::default()
        };
        let payload = request.encode_to_vec();
        Ok(Renewer { rpc, trust_domain: self.trust_domain.clone(), svid, payload, nonce })
    }
}

/// Run `n` of a team's repository `n`.
fn job(team: Team, n: usize, person: usize) -> Job {
    Job {
        organisation: team.organisation(),
        repository: (format!("repo-{n}"), (2_000_000 + n).to_string()),
        actor: (format!("person-{person}"), person.to_string()),
        run_id: (9_000_000 + n).to_string(),
        life_s: TOKEN_LIFE_S,
        ..Job::default()
    }
}

/// A service that renews its certificate again and again over the connection that the first one authenticated.
#[derive(Debug)]
pub(crate) struct Renewer {
    rpc: WorkloadServiceClient<Channel>,
    trust_domain: TrustDomain,
    svid: Svid,
    payload: Vec<u8>,
    nonce: Vec<u8>,
}

impl Step for Renewer {
    async fn step(&mut self) -> Result<()> {
        let nonce = std::mem::take(&mut self.nonce);
        let call = envelope(&self.svid.key, &self.trust_domain, rpc::RENEW, nonce, self.payload.clone())?;
        self.nonce = self.rpc.renew(call).await?.into_inner().next_nonce;
        Ok(())
    }
}

fn home(dir: &Path) -> Result<KeyHome> {
    Ok(KeyHome::at(dir.to_path_buf())?)
}

impl Step for Minter {
    async fn step(&mut self) -> Result<()> {
        let nonce = std::mem::take(&mut self.nonce);
        let call = envelope(&self.key, &self.trust_domain, rpc::MINT, nonce, self.payload.clone())?;
        let minted = self.rpc.mint(call).await?.into_inner();
        self.nonce = minted.next_nonce;
        let held = Held { lease: minted.lease, token: minted.credential, key: Arc::clone(&self.key) };
        match self.leases.get_mut(self.minted % KEPT) {
            Some(place) => *place = held,
            None => self.leases.push(held),
        }
        self.minted += 1;
        Ok(())
    }
}

impl Minter {
    /// What it minted last.
    pub(crate) fn newest(&self) -> Result<Held> {
        let newest = self.minted.checked_sub(1).and_then(|n| self.leases.get(n % KEPT));
        newest.cloned().ok_or_else(|| Failed::new("nothing was minted yet"))
    }
}

/// Asks for nothing: what a call over this transport costs by itself.
#[derive(Debug)]
pub(crate) struct Idler(pub(crate) WorkloadServiceClient<Channel>);

impl Step for Idler {
    async fn step(&mut self) -> Result<()> {
        self.0.get_nonce(pb::GetNonceRequest {}).await?;
        Ok(())
    }
}

/// An acceptor's worker that checks held leases in turn.
#[derive(Debug)]
pub(crate) struct Checker {
    client: AcceptorClient,
    held: Arc<[Held]>,
    next: usize,
    by: By,
}

/// How a credential is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// By its lease: the acceptor has verified token and proof itself.
    Lease,
    /// By token and DPoP proof, for the broker to verify.
    Token,
}

/// So many workers over some connections.
pub(crate) fn checkers(clients: &[AcceptorClient], held: &Arc<[Held]>, count: usize, by: By) -> Vec<Checker> {
    (0..count)
        .zip(clients.iter().cycle())
        .map(|(n, client)| Checker { client: client.clone(), held: Arc::clone(held), next: n * 31, by })
        .collect()
}

impl Step for Checker {
    async fn step(&mut self) -> Result<()> {
        self.next = (self.next + 1) % self.held.len().max(1);
        let held = self.held.get(self.next).ok_or_else(|| Failed::new("there is no lease to check"))?;
        let request = match self.by {
            By::Lease => pb::CheckRequest {
                credential: Some(pb::check_request::Credential::Lease(held.lease.clone())),
                ..pb::CheckRequest::default()
            },
            By::Token => pb::CheckRequest {
                credential: Some(pb::check_request::Credential::Token(held.token.clone())),
                dpop: held.proof()?,
                method: "POST".to_owned(),
                url: URL.to_owned(),
                ..pb::CheckRequest::default()
            },
        };
        let judged = self.client.check(request).await?;
        if judged.accepted {
            Ok(())
        } else {
            Err(Failed::new(format!("a live lease was refused: {}", judged.reason)))
        }
    }
}
