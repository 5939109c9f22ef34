//! Bad certificate requests and join tokens, and a seal that opens nothing.

use mayfly_client::Failure;
use mayfly_mint::Seal;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

use super::Ground;
use crate::harness::{Job, Node, Site, load_spec, oidc, refused};

/// The call's key as a certificate request is made with it.
fn own_key(job: &Job) -> KeyPair {
    KeyPair::from_pem(job.key.pem().expose()).unwrap()
}

fn signed(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

fn names(names: &[&str]) -> impl FnOnce(&mut CertificateParams) {
    let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
    move |params| params.subject_alt_names = names
}

/// A weak key's request, as OpenSSL makes it.
fn rsa_1024() -> Vec<u8> {
    let words = "req -new -newkey rsa:1024 -nodes -keyout /dev/null -subj /CN=weak -outform DER";
    let output = std::process::Command::new("openssl").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn mint(job: &Job, profile: &str, csr: Vec<u8>) -> Result<pb::MintResponse, Failure> {
    let request = pb::MintRequest {
        evidence: Some(oidc(&job.evidence())),
        profile: profile.to_owned(),
        intent: "use:load".to_owned(),
        csr,
        ..Default::default()
    };
    let envelope = job.envelope(rpc::MINT, request.encode_to_vec()).await?;
    Ok(job.rpc.clone().mint(envelope).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_certificate_requests_get_their_reason_and_leave_nothing() {
    let ground = Ground::new().await;
    let job = ground.node.job(&ground.site, &load_spec("1", "web")).await;
    let key = own_key(&job);
    let good = signed(&key, names(&["web.load.svc"]));
    let broken = {
        let mut der = good.clone();
        // An octet of the signature's second number.
        let last = der.len() - 1;
        der[last] ^= 1;
        der
    };
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 7], vec![5, 0]);
    let many: Vec<String> = (0..600).map(|n| format!("name-{n}.load.svc")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    // What was asked for, by what reason it is refused, and which fact names it.
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (
            "a CA",
            signed(&key, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "CSR_EXTENSION_NOT_ALLOWED",
            "CA:TRUE",
        ),
        ("a foreign name", signed(&key, names(&["bank.example"])), "NAME_NOT_ALLOWED", "bank.example"),
        (
            "one of two",
            signed(&key, names(&["web.load.svc", "api.load.svc"])),
            "NAME_NOT_ALLOWED",
            "api.load.svc",
        ),
        ("a wildcard", signed(&key, names(&["*.load.svc"])), "NAME_NOT_ALLOWED", "*.load.svc"),
        (
            "an address",
            signed(&key, |p| p.subject_alt_names = vec![SanType::IpAddress([10, 0, 0, 7].into())]),
            "NAME_NOT_ALLOWED",
            "10.0.0.7",
        ),
        (
            "another workload",
            signed(&key, |p| p.subject_alt_names = vec![uri("spiffe://acme.internal/ci/load/other")]),
            "NAME_NOT_ALLOWED",
            "/ci/load/other",
        ),
        (
            "an operator",
            signed(&key, |p| p.subject_alt_names = vec![uri("spiffe://acme.internal/mayfly/operator/alice")]),
            "NAME_NOT_ALLOWED",
            "operator/alice",
        ),
        ("a weak key", rsa_1024(), "CSR_KEY_NOT_ALLOWED", "RSA"),
        ("another curve", signed(&p384, names(&["web.load.svc"])), "CSR_KEY_NOT_ALLOWED", "neither"),
        (
            "another's key",
            signed(&KeyPair::generate().unwrap(), names(&["web.load.svc"])),
            "CSR_KEY_NOT_ALLOWED",
            "not the one that signed",
        ),
        ("a broken signature", broken, "CSR_SIGNATURE_INVALID", "does not verify"),
        ("too large", signed(&key, names(&many)), "CSR_MALFORMED", "at most"),
        (
            "an unknown extension",
            signed(&key, |p| p.custom_extensions = vec![unknown]),
            "CSR_EXTENSION_NOT_ALLOWED",
            "1.3.6.1.4.1.99999.7",
        ),
        (
            "a usage",
            signed(&key, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
            "CSR_EXTENSION_NOT_ALLOWED",
            "extendedKeyUsage",
        ),
        ("more behind it", [&good[..], &[0]].concat(), "CSR_MALFORMED", "follow"),
        ("no request", b"-----BEGIN CERTIFICATE REQUEST-----".to_vec(), "CSR_MALFORMED", "PKCS #10"),
    ];
    let before = ground.alice.stored().await;
    let mut wrong = Vec::new();
    for (what, csr, code, fact) in cases {
        match mint(&job, "load-tls", csr).await {
            Err(no) if no.code == code && no.facts.iter().any(|(_, value)| value.contains(fact)) => {}
            other => wrong.push(format!("{what}: not {code} with `{fact}`: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(refused(mint(&job, "load", good.clone()).await), "KIND_MISMATCH");
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");
    let minted = mint(&job, "load-tls", good).await.unwrap();
    assert_eq!(minted.names, ["web.load.svc"]);

    // A renewal takes no name that its lease does not have.
    let request = pb::RenewRequest {
        evidence: Some(oidc(&job.evidence())),
        lease: minted.lease,
        csr: signed(&key, names(&["api.load.svc"])),
        ..Default::default()
    };
    let envelope = job.envelope(rpc::RENEW, request.encode_to_vec()).await.unwrap();
    let renewal = job.rpc.clone().renew(envelope).await.map_err(Failure::from);
    assert_eq!(refused(renewal), "NAME_NOT_ALLOWED");
    ground.node.stop().await;
}

/// A token that makes a certificate of the ledger.
async fn join_token(ground: &Ground) -> pb::CreateJoinTokenResponse {
    let request = pb::CreateJoinTokenRequest {
        workload: "/svc/ledger".to_owned(),
        owners: vec!["team:payments".to_owned()],
        environment: "production".to_owned(),
        for_s: 600,
        reason: "test".to_owned(),
    };
    ground.alice.client.create_join_token(request).await.unwrap()
}

async fn join(job: &Job, token: &str) -> Result<pb::MintResponse, Failure> {
    let evidence = pb::Evidence { kind: Some(pb::evidence::Kind::JoinToken(token.to_owned())) };
    let request = pb::MintRequest {
        evidence: Some(evidence),
        profile: "ledger-mtls".to_owned(),
        intent: "serve:ledger".to_owned(),
        ..Default::default()
    };
    let envelope = job.envelope(rpc::MINT, request.encode_to_vec()).await?;
    Ok(job.rpc.clone().mint(envelope).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_is_good_once_for_one_key() {
    let ground = Ground::new().await;
    let thief = ground.node.job(&ground.site, &load_spec("1", "1")).await;
    let made = join_token(&ground).await;
    // One character off: its checksum says so before any store is asked.
    let mut typo = made.token.clone();
    let last = typo.pop().unwrap();
    typo.push(if last == 'A' { 'B' } else { 'A' });
    assert_eq!(refused(join(&ground.job, &typo).await), "EVIDENCE_MALFORMED");

    let minted = join(&ground.job, &made.token).await.unwrap();
    assert_eq!(minted.workload, "spiffe://acme.internal/svc/ledger");
    let before = ground.alice.stored().await;
    assert_eq!(refused(join(&ground.job, &made.token).await), "EVIDENCE_USED");
    let stolen = join(&thief, &made.token).await.unwrap_err();
    assert_eq!(stolen.code, "EVIDENCE_BOUND_TO_OTHER_KEY");
    assert!(!format!("{stolen:?}").contains(&made.token[4..]));

    let next = join_token(&ground).await;
    let id = next.described.unwrap().id;
    let withdraw = pb::WithdrawJoinTokenRequest { id, reason: "test".to_owned() };
    ground.alice.client.withdraw_join_token(withdraw).await.unwrap();
    assert_eq!(refused(join(&ground.job, &next.token).await), "JOIN_TOKEN_UNKNOWN");
    let late = join_token(&ground).await;
    ground.clock.advance(600_001);
    assert_eq!(refused(join(&thief, &late.token).await), "JOIN_TOKEN_UNKNOWN");
    let alice = ground.node.operator("alice").await;
    assert_eq!(alice.stored().await, before + 1, "nothing but an operator's own new certificate");
    let audit = ground.node.audit();
    for token in [&made.token, &next.token, &late.token] {
        assert!(!audit.contains(&token[4..]), "the audit file tells a join token");
    }
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_another_seal_does_not_start() {
    let site = Site::embedded();
    site.start("one").await.stop().await;
    let place = site.path("seal.key");
    let good = std::fs::read(&place).unwrap();
    std::fs::remove_file(&place).unwrap();
    Seal::generate_file(&place).unwrap();
    let Err(no) = Node::try_start(&site, "one").await else { panic!("another seal opens it") };
    assert_eq!(no.reason.as_str(), "CONFIG_INVALID");
    assert!(no.detail.contains("seal"), "{no:?}");
    // It has harmed nothing: the right one still opens everything.
    std::fs::write(&place, good).unwrap();
    site.start("one").await.stop().await;
}
