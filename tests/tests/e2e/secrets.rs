//! Every secret of a run, searched for in everything that the run leaves behind or tells.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_mint::{Seal, keyset};
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use prost::Message as _;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::harness::{Secrets, Site, load_spec, metrics, oidc, owner, until};

/// The private parts of the sealed keys, found by where base64 stands in the sealed document.
fn sealed_keys(seal: &Seal, copy: &[u8], secrets: &mut Secrets) {
    let (_, content) = seal.open("copy", copy).unwrap();
    let content: serde_json::Value = serde_json::from_slice(content.expose()).unwrap();
    let sealed: Vec<u8> = serde_json::from_value(content["keys"][1].clone()).unwrap();
    let (_, document) = seal.open(keyset::PURPOSE, &sealed).unwrap();
    let document: serde_json::Value = serde_json::from_slice(document.expose()).unwrap();
    let decoded = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    for token in document["tokens"].as_array().unwrap() {
        secrets.pkcs8("a token key", &decoded(&token["key"]["sealed"]));
    }
    for authority in document["authorities"].as_array().unwrap() {
        secrets.pkcs8("an authority's key", &decoded(&authority["key"]["sealed"]));
    }
    secrets.pkcs8("the root's key", &decoded(&document["root"]["pkcs8"]));
    for nonce in document["nonces"].as_array().unwrap() {
        secrets.octets("a nonce key", &decoded(nonce));
    }
    secrets.octets("the evidence key", &decoded(&document["evidence"]));
}

fn key_file(path: &std::path::Path, secrets: &mut Secrets) {
    let der = PrivatePkcs8KeyDer::from_pem_file(path).unwrap();
    secrets.pkcs8("a key file", der.secret_pkcs8_der());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_run_is_in_logs_audit_errors_metrics_or_redis() {
    let password = "a-password-that-nobody-may-tell".to_owned();
    let user = Some(("mayfly".to_owned(), password.clone()));
    let redis = RedisServer::start(RedisOptions { user, ..RedisOptions::default() });
    let mut site = Site::on(&redis);
    site.serve_ci().await;
    let server = site.spawn("one").await;
    let alice = server.operator("alice").await;
    let acceptor = server.acceptor("load-api").await;
    let mut secrets = Secrets::default();
    let mut told: Vec<u8> = Vec::new();
    secrets.octets("the store's password", password.as_bytes());
    key_file(&alice.certified.files.1, &mut secrets);
    key_file(&acceptor.certified.files.1, &mut secrets);

    let mut job = server.job(&site, &load_spec("1", "1")).await;
    let thief = server.job(&site, &load_spec("1", "1")).await;
    for n in 0..6 {
        let evidence = job.evidence();
        secrets.token("a CI token", &evidence);
        let minted = job.mint_with(&evidence, "load", "use:load", 0).await.unwrap();
        secrets.token("an access token", &minted.credential);
        let proof = job.proof(&minted.credential);
        acceptor.token(&minted.credential, proof).await.unwrap();
        // Errors of every stage.
        let mut errors = vec![
            format!("{:?}", thief.mint_with(&evidence, "load", "use:load", 0).await.unwrap_err()),
            format!("{:?}", job.mint_with(&evidence, "none", "use:load", 0).await.unwrap_err()),
            format!("{:?}", job.mint_with(&format!("{evidence}x"), "load", "use:load", 0).await.unwrap_err()),
            acceptor.token(&minted.credential, String::new()).await.unwrap_err(),
            acceptor.token(&format!("{}x", minted.credential), String::new()).await.unwrap_err(),
        ];
        // A token where another word is expected.
        for request in [
            pb::MintRequest {
                profile: minted.credential.clone(),
                evidence: Some(oidc(&evidence)),
                ..Default::default()
            },
            pb::MintRequest {
                profile: "load".into(),
                intent: evidence.clone(),
                evidence: Some(oidc(&evidence)),
                ..Default::default()
            },
        ] {
            let answer = job.mint_with(&evidence, &request.profile, &request.intent, 0).await;
            errors.push(format!("{:?}", answer.unwrap_err().code));
        }
        if n == 2 {
            alice.revoke(owner("user:gh-1"), false).await.unwrap();
            let late = job.mint_with(&evidence, "load", "use:load", 0).await.unwrap_err();
            errors.push(format!("{late:?}"));
        }
        if n == 4 {
            let rotate = pb::RotateKeyRequest::default();
            alice.client.rotate_key(rotate).await.unwrap();
        }
        told.extend(errors.join("\n").into_bytes());
    }
    // First evidence of Mayfly's own, and a handle, each used well and once more.
    let create = pb::CreateJoinTokenRequest {
        workload: "/vm/db-1".to_owned(),
        owners: vec!["team:load".to_owned()],
        ..Default::default()
    };
    let join = alice.client.create_join_token(create).await.unwrap().token;
    secrets.octets("a join token", &join.as_bytes()[4..]);
    let request = pb::MintRequest {
        evidence: Some(pb::Evidence { kind: Some(pb::evidence::Kind::JoinToken(join)) }),
        profile: "mesh".to_owned(),
        completion_handle: true,
        ..Default::default()
    };
    let machine = server.job(&site, &load_spec("1", "1")).await;
    let ask = async || {
        let envelope = machine.envelope(rpc::MINT, request.encode_to_vec()).await.unwrap();
        machine.rpc.clone().mint(envelope).await
    };
    let handle = ask().await.unwrap().into_inner().completion_handle;
    told.extend(format!("{:?}", ask().await.unwrap_err()).into_bytes());
    // What it names may be told; its MAC may not.
    secrets.octets("a completion handle", &handle.as_bytes()[handle.len() - 40..]);
    for _ in 0..2 {
        let complete = pb::CompleteTaskByHandleRequest { handle: handle.clone() };
        let answer = machine.rpc.clone().complete_task_by_handle(complete).await;
        told.extend(format!("{answer:?}").into_bytes());
    }
    job.spec.run_id = "2".to_owned();
    job.mint("load", "use:load").await.unwrap();
    job.complete().await.unwrap();
    let status = async || alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    until(async || (status().await.open_sweeps == 0).then_some(())).await;
    told.extend(format!("{:?}", status().await).into_bytes());
    told.extend(format!("{:?}", alice.leases(None).await).into_bytes());

    let seal = Seal::from_file(&site.path("seal.key")).unwrap();
    secrets.octets("the seal", std::fs::read(site.path("seal.key")).unwrap().trim_ascii());
    let copy = std::fs::read(site.path("one/state/copy.sealed")).unwrap();
    sealed_keys(&seal, &copy, &mut secrets);
    for entry in std::fs::read_dir(site.path("keys")).unwrap() {
        key_file(&entry.unwrap().path(), &mut secrets);
    }

    let log = server.log.borrow().clone();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "everything is logged: {log}");
    let audit = std::fs::read(site.path("one/audit.jsonl")).unwrap();
    assert!(audit.len() > 4_000);
    for (place, text) in [
        ("the log", log.into_bytes()),
        ("the audit file", audit),
        ("errors and answers", told),
        ("the metrics", metrics(&server.metrics).await.into_bytes()),
        ("the audit reserve", std::fs::read(site.path("one/state/audit.reserve")).unwrap()),
        ("the sealed copy", copy),
        ("Redis", redis.everything()),
    ] {
        assert_eq!(secrets.told_in(&text), Vec::<&str>::new(), "{place} tells secrets");
    }
}
