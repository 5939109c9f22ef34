//! Bad words in a request, and what is somebody else's.

use mayfly_domain::Clock as _;
use mayfly_proto::v1 as pb;

use super::{Ground, mint, mint_request};
use crate::harness::{load_spec, owner, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_words_of_a_request_get_their_reason_and_leave_nothing() {
    let ground = Ground::new().await;
    let evidence = ground.job.evidence();
    let base = mint_request(&evidence);
    let with = |change: &dyn Fn(&mut pb::MintRequest)| {
        let mut request = base.clone();
        change(&mut request);
        request
    };
    let profile = |name: &'static str| with(&|r| r.profile = name.to_owned());
    let cases: Vec<(&str, pb::MintRequest, &str)> = vec![
        ("a life past every limit", with(&|r| r.ttl_s = u32::MAX), "INPUT_INVALID"),
        ("a profile with a control character", profile("payments\u{7}deploy"), "INPUT_INVALID"),
        ("a profile in another direction", profile("payments\u{202e}deploy"), "INPUT_INVALID"),
        ("a profile upwards", profile("../payments-deploy"), "INPUT_INVALID"),
        ("a profile of dots", profile(".."), "INPUT_INVALID"),
        ("a profile with a brace", profile("payments}deploy"), "INPUT_INVALID"),
        ("no profile", profile(""), "INPUT_INVALID"),
        (
            "an intent with a control character",
            with(&|r| r.intent = "deploy:pay\u{0}ments".to_owned()),
            "INPUT_INVALID",
        ),
        ("an intent without an object", with(&|r| r.intent = "deploy".to_owned()), "INPUT_INVALID"),
        ("an unlisted intent", with(&|r| r.intent = "destroy:payments".to_owned()), "INTENT_NOT_ALLOWED"),
        ("a reason in another direction", with(&|r| r.reason = "fix \u{2066}x".to_owned()), "INPUT_INVALID"),
        ("a reason of a novel", with(&|r| r.reason = "x".repeat(513)), "INPUT_INVALID"),
        ("a scope with white space", with(&|r| r.scopes = vec!["deploy: write".to_owned()]), "INPUT_INVALID"),
        ("a scope too many", with(&|r| r.scopes = vec!["deploy:admin".to_owned()]), "SCOPE_NOT_ALLOWED"),
        (
            "too many scopes",
            with(&|r| r.scopes = (0..1_000).map(|n| format!("s:{n}")).collect()),
            "TOO_LARGE",
        ),
        ("no evidence", with(&|r| r.evidence = None), "EVIDENCE_MALFORMED"),
    ];
    let before = ground.alice.stored().await;
    let mut wrong = Vec::new();
    for (name, request, expected) in &cases {
        let got = mint(&ground.job, request, &evidence).await;
        if got.as_ref().err().map(String::as_str) != Some(*expected) {
            wrong.push(format!("{name}: {:?}, not {expected}", got.map(|_| "minted")));
        }
    }
    for name in ["team:\u{7}", "team:a\u{202e}b", "team:a}b", "team", ":", "team:a b"] {
        let got = refused(ground.alice.revoke(owner(name), true).await);
        if got != "INPUT_INVALID" {
            wrong.push(format!("owner {name:?}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let typo = ground.alice.revoke(owner("team:paiments"), false).await.unwrap_err();
    assert_eq!(typo.code, "NOT_FOUND");

    // What does not exist looks like what is not allowed, whatever is compared.
    let answers = [("no-such-profile", "deploy:payments"), ("billing-report", "report:billing")];
    let mut told = Vec::new();
    for (profile, intent) in answers {
        let answer = ground.job.mint_with(&evidence, profile, intent, 0).await.unwrap_err();
        let next = answer.next.replace(answer.request.as_deref().unwrap(), "REQUEST");
        told.push((answer.code, answer.message, next, answer.facts));
    }
    assert_eq!(told[0].0, "PROFILE_NOT_ALLOWED");
    assert_eq!(told[0], told[1]);
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");

    // No life asked for is the profile's default; one too long is cut to what policy grants.
    let long = mint(&ground.job, &with(&|r| r.ttl_s = 3_600), &evidence).await.unwrap();
    assert!(long.expires_ms <= ground.clock.now().plus(900_000).0);
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_workload_is_out_of_reach() {
    let ground = Ground::new().await;
    let mine = ground.node.job(&ground.site, &load_spec("1", "run-1")).await;
    let lease = mine.mint("load", "use:load").await.unwrap().lease;
    // Another repository, which a rule gives task ids of the same form.
    let mut spec = load_spec("2", "run-1");
    spec.repository.1 = "778".to_owned();
    let other = ground.node.job(&ground.site, &spec).await;
    let before = ground.alice.stored().await;
    assert_eq!(refused(other.mint("load", "use:load").await), "TASK_OF_ANOTHER_WORKLOAD");
    assert_eq!(refused(other.complete().await), "TASK_OF_ANOTHER_WORKLOAD");
    let release = refused(other.release(&lease).await);
    assert!(["LEASE_NOT_FOUND", "LEASE_OF_ANOTHER"].contains(&release.as_str()), "{release}");
    // The same workload with another key.
    let again = ground.node.job(&ground.site, &load_spec("1", "run-1")).await;
    let renewal = refused(again.renew(&lease).await);
    assert!(["LEASE_NOT_FOUND", "LEASE_OF_ANOTHER"].contains(&renewal.as_str()), "{renewal}");
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");
    let acceptor = ground.node.acceptor("load-api").await;
    assert_eq!(acceptor.lease(&lease).await, Ok(()));

    // Claims that would climb out of their place are escaped.
    let climber = ground.node.job(&ground.site, &load_spec("3", "../../mayfly/operator/alice}")).await;
    let climbed = climber.mint("load", "use:load").await.unwrap();
    let lease = ground.alice.leases(Some(owner("user:gh-3"))).await.remove(0);
    assert_eq!(lease.id, climbed.lease);
    assert!(lease.workload.starts_with("spiffe://acme.internal/ci/load/"), "{}", lease.workload);
    assert_eq!(lease.workload.matches('/').count(), 5, "{}", lease.workload);
    ground.node.stop().await;
}
