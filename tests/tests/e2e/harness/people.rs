//! Operators and acceptors with certificates of the broker's own.

use std::path::PathBuf;

use mayfly_broker::{Call, RequestId, StaffKind, StaffRequest};
use mayfly_client::{AcceptorClient, Failure, OperatorClient};
use mayfly_domain::{AcceptorName, KeyAlg, LeaseId, OperatorName};
use mayfly_mint::MemorySigner;
use mayfly_proto::v1 as pb;

use super::node::Node;

/// A certificate with its key, and its lease.
pub(crate) struct Certified {
    pub(crate) files: (PathBuf, PathBuf),
    pub(crate) lease: LeaseId,
}

/// Issues a certificate as the local socket does for whoever can open the seal.
async fn certify(node: &Node, kind: StaffKind, name: &str) -> Certified {
    let key = MemorySigner::generate_pkcs8(KeyAlg::P256).unwrap();
    let pair = rcgen::KeyPair::try_from(key.expose().as_slice()).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&pair);
    let call = Call { request: RequestId::new(node.broker.clock().now()), peer: None };
    let issued = node.broker.issue_staff(&call, &StaffRequest { kind, spki, ttl: None }).await.unwrap();
    let stem = node.dir.join(format!("{name}-{}", issued.lease));
    let files = (stem.with_extension("crt"), stem.with_extension("key"));
    std::fs::write(&files.0, &issued.certificate_pem).unwrap();
    std::fs::write(&files.1, pair.serialize_pem()).unwrap();
    Certified { files, lease: issued.lease }
}

/// An operator, connected.
pub(crate) struct Operator {
    pub(crate) client: OperatorClient,
    pub(crate) certified: Certified,
}

impl Operator {
    pub(crate) async fn new(node: &Node, name: &str) -> Self {
        let certified = certify(node, StaffKind::Operator(OperatorName::parse(name).unwrap()), name).await;
        let client = OperatorClient::connect(&node.target(Some(certified.files.clone()))).await.unwrap();
        Self { client, certified }
    }

    /// The same person at another broker.
    pub(crate) async fn at(&self, node: &Node) -> OperatorClient {
        OperatorClient::connect(&node.target(Some(self.certified.files.clone()))).await.unwrap()
    }

    /// Revokes what a subject covers.
    pub(crate) async fn revoke(
        &self,
        subject: pb::Subject,
        block: bool,
    ) -> Result<pb::RevokeResponse, Failure> {
        let what = Some(pb::revoke_request::What::Subject(subject));
        self.client
            .revoke(pb::RevokeRequest { what, reason: "test".into(), block, ..Default::default() })
            .await
    }

    /// Revokes one lease.
    pub(crate) async fn revoke_lease(&self, lease: &str) -> Result<pb::RevokeResponse, Failure> {
        let what = Some(pb::revoke_request::What::Lease(lease.to_owned()));
        self.client.revoke(pb::RevokeRequest { what, reason: "test".into(), ..Default::default() }).await
    }

    /// How many lease records there are, of ended leases and of certificates too.
    pub(crate) async fn stored(&self) -> usize {
        let request = pb::ListLeasesRequest { ended: true, page_size: 1_000, ..Default::default() };
        let page = self.client.list_leases(request).await.unwrap();
        assert!(page.next_page_token.is_empty());
        page.leases.len()
    }

    /// The live leases of a subject, all pages.
    pub(crate) async fn leases(&self, subject: Option<pb::Subject>) -> Vec<pb::Lease> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListLeasesRequest {
                subject: subject.clone(),
                kind: "token".to_owned(),
                page_size: 1_000,
                page_token,
                ..Default::default()
            };
            let page = self.client.list_leases(request).await.unwrap();
            all.extend(page.leases);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }
}

/// An acceptor, connected.
pub(crate) struct Acceptor {
    pub(crate) client: AcceptorClient,
    pub(crate) certified: Certified,
}

impl Acceptor {
    pub(crate) async fn new(node: &Node, name: &str) -> Self {
        let certified = certify(node, StaffKind::Acceptor(AcceptorName::parse(name).unwrap()), name).await;
        let client = AcceptorClient::connect(&node.target(Some(certified.files.clone()))).await.unwrap();
        Self { client, certified }
    }

    /// The same acceptor at another broker.
    pub(crate) async fn at(&self, node: &Node) -> AcceptorClient {
        AcceptorClient::connect(&node.target(Some(self.certified.files.clone()))).await.unwrap()
    }

    /// Asks about a lease: nothing where it is accepted, else the reason.
    pub(crate) async fn lease(&self, lease: &str) -> Result<(), String> {
        let credential = Some(pb::check_request::Credential::Lease(lease.to_owned()));
        self.ask(pb::CheckRequest { credential, ..Default::default() }).await
    }

    /// Asks about a workload's certificate: nothing where it is accepted, else the reason.
    pub(crate) async fn certificate(&self, leaf: &[u8]) -> Result<(), String> {
        let credential = Some(pb::check_request::Credential::Certificate(leaf.to_vec()));
        self.ask(pb::CheckRequest { credential, ..Default::default() }).await
    }

    /// Asks about a token with a proof for `GET https://api/`: nothing where it is accepted, else the reason.
    pub(crate) async fn token(&self, token: &str, dpop: String) -> Result<(), String> {
        self.ask(question(token, dpop)).await
    }

    /// Asks anything.
    pub(crate) async fn ask(&self, request: pb::CheckRequest) -> Result<(), String> {
        let answer = self.client.check(request).await.map_err(|e| e.code.into_owned())?;
        if answer.accepted { Ok(()) } else { Err(answer.reason) }
    }
}

/// A question about a token that came with `GET https://api/`.
pub(crate) fn question(token: &str, dpop: String) -> pb::CheckRequest {
    pb::CheckRequest {
        credential: Some(pb::check_request::Credential::Token(token.to_owned())),
        dpop,
        method: "GET".to_owned(),
        url: super::job::API.to_owned(),
        ..Default::default()
    }
}
