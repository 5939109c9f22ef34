//! The life of leases, step by step.

use mayfly_domain::*;
use mayfly_lease::command::*;
use mayfly_lease::job::JobTarget;
use mayfly_lease::store::LeaseStore as _;
use mayfly_lease::sweep;
use mayfly_lease::transition::No;
use mayfly_testkit::redis::RedisOptions;

use crate::support::*;

#[tokio::test]
async fn mint_check_renew_release() {
    let (_server, store) = ready(RedisOptions::default()).await;
    let minted = store.mint(&mint(1)).await.unwrap();
    assert!(minted.first_binding);
    assert_eq!(minted.superseded, None);
    assert_eq!(minted.live, [1, 1]);
    assert_eq!(minted.record.state, LeaseState::Active);
    assert_eq!(minted.record.expires.0 % 1_000, 0);
    assert_eq!(minted.record.observation.pairs().len(), 7);
    assert_eq!(store.get(lease_id(1)).await.unwrap().unwrap(), minted.record);
    let task = minted.task.unwrap();
    assert_eq!(store.task(&task.body.id).await.unwrap().unwrap(), task);

    assert_eq!(store.check(&check(1)).await.unwrap().record, minted.record);
    let carried = CheckCommand { observation: Some(minted.record.observation.clone()), ..check(1) };
    assert_eq!(store.check(&carried).await.unwrap().record, minted.record);
    assert_eq!(no(store.check(&check(2)).await), No::NotFound);
    let other = store.mint(&mint_of(2, "run-2", CredentialKind::Token)).await.unwrap();
    let foreign = CheckCommand { observation: Some(other.record.observation), ..check(1) };
    assert_eq!(no(store.check(&foreign).await), No::OtherObservation);

    assert_eq!(no(store.mint(&mint(1)).await), No::NonceUsed);
    let renew = RenewCommand {
        id: lease_id(1),
        spend: Spend { id: lease_id(100), until: soon(120_000) },
        workload: Subject::Workload(workload()),
        task: task.body.id.clone(),
        key: Thumbprint::from_bytes([1; 32]),
        next: None,
        signer: SignerId::from_bytes([8; 16]),
        body: minted.record.body.clone(),
        ttl: Ttl::constant(600),
        evidence: Some(evidence(1, 1)),
        subjects: minted.record.body.subjects(&everything()),
    };
    let stranger = RenewCommand { key: Thumbprint::from_bytes([9; 32]), ..renew.clone() };
    assert_eq!(no(store.renew(&stranger).await), No::OfAnother);
    let renewed = store.renew(&renew).await.unwrap().record;
    assert_eq!(renewed.signer, renew.signer);
    assert_eq!(renewed.counter, 1);
    assert!(renewed.expires > minted.record.expires);
    assert_eq!(renewed.observation, minted.record.observation);
    assert_eq!(no(store.renew(&renew).await), No::NonceUsed);

    let holder = Some((renew.workload.clone(), renew.task.clone(), renew.key));
    let thief = Some((renew.workload.clone(), renew.task.clone(), Thumbprint::from_bytes([9; 32])));
    let end = EndCommand { id: lease_id(1), holder: thief, reason: EndReason::Released, revocation: None };
    assert_eq!(no(store.end(&end).await), No::OfAnother);
    let end = EndCommand { holder, ..end };
    let (ended, now) = store.end(&end).await.unwrap();
    assert!(now);
    assert_eq!(ended.state, LeaseState::Ended(EndReason::Released));
    assert!(!store.end(&end).await.unwrap().1);
    assert_eq!(no(store.check(&check(1)).await), No::Ended(EndReason::Released, None));
    // A replay never mints again, whatever became of the lease.
    assert_eq!(no(store.mint(&mint(1)).await), No::NonceUsed);
}

#[tokio::test]
async fn a_revocation_ends_what_observed_the_fence_and_its_evidence() {
    let (_server, store) = ready(RedisOptions::default()).await;
    for n in 1..=5 {
        store.mint(&mint(n)).await.unwrap();
    }
    let revoked = store.revoke(&revoke_owner(1)).await.unwrap();
    let gate = revoked.gate.unwrap();
    assert_eq!(revoked.changes, 1);
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
    // The old evidence is worth nothing, with a new nonce as well.
    let again = MintCommand { id: lease_id(50), spend: None, ..mint(1) };
    assert_eq!(no(store.mint(&again).await), No::EvidencePredatesRevocation(1));
    store.mint(&mint(60)).await.unwrap();
    store.check(&check(60)).await.unwrap();

    let mut job = store.claim_job(10_000).await.unwrap().unwrap();
    assert_eq!(job, revoked.job.unwrap());
    assert_eq!(job.target, JobTarget::Subject(Subject::Owner(owner()), gate.fence));
    assert_eq!(store.claim_job(10_000).await.unwrap(), None);
    let mut ended = Vec::new();
    while !job.done {
        let step = sweep::step(&store, job).await.unwrap();
        ended.extend(step.ended);
        job = step.job;
    }
    ended.sort_unstable();
    assert_eq!(ended, (1..=5).map(lease_id).collect::<Vec<_>>());
    assert_eq!(store.job(job.id).await.unwrap().unwrap(), job);
    assert_eq!(store.counts().await.unwrap().open_jobs, 0);
    assert_eq!(no(store.check(&check(1)).await), No::Ended(EndReason::Revoked, Some(job.id)));
}

#[tokio::test]
async fn blocks_refuse_and_outlive_their_fence() {
    let (_server, store) = ready(RedisOptions::default()).await;
    let subject = Subject::Owner(owner());
    let set = store.set_block(&subject, Some(block())).await.unwrap();
    assert_eq!(set.fence, Fence::NONE);
    assert_eq!(no(store.mint(&mint(1)).await), No::Blocked(1));
    assert_eq!(store.blocks().await.unwrap(), [(subject.clone(), set.clone())]);
    assert!(store.knows(&subject).await.unwrap());
    let what = RevokeWhat::Subject { subject: subject.clone(), block: None };
    let moved = store.revoke(&revoke(1, what)).await.unwrap().gate.unwrap();
    assert_eq!(moved.block, set.block);
    assert!(moved.fence > Fence::NONE);
    let lifted = store.set_block(&subject, None).await.unwrap();
    assert!(lifted.block_version > set.block_version);
    assert_eq!(lifted.block, None);
    assert_eq!(lifted.fence, moved.fence);
    assert_eq!(no(store.set_block(&subject, None).await), No::NoBlock);
    assert_eq!(store.blocks().await.unwrap(), []);
    let gates = store.gates(&[subject.key(), Subject::Everything(everything()).key()]).await.unwrap();
    assert_eq!(gates, [Some(lifted), None]);
    store.mint(&mint(1)).await.unwrap();
    let what = RevokeWhat::Subject { subject, block: Some(block()) };
    let both = store.revoke(&revoke(2, what)).await.unwrap().gate.unwrap();
    assert!(both.block.is_some());
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
    assert_eq!(no(store.mint(&mint(2)).await), No::Blocked(1));
}

#[tokio::test]
async fn a_mark_ends_one_lease() {
    let (_server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    store.mint(&mint(2)).await.unwrap();
    for (n, id) in [(1, lease_id(1)), (2, lease_id(77))] {
        let what = RevokeWhat::Lease { id, unknown_until: soon(60_000) };
        store.revoke(&revoke(n, what)).await.unwrap();
    }
    assert_eq!(no(store.check(&check(1)).await), No::Marked(job_id(1)));
    assert_eq!(no(store.check(&check(77)).await), No::Marked(job_id(2)));
    store.check(&check(2)).await.unwrap();
    let shown = store.get(lease_id(1)).await.unwrap().unwrap();
    assert_eq!(shown.state, LeaseState::Ended(EndReason::Revoked));
    assert_eq!(shown.revocation, Some(job_id(1)));
}

#[tokio::test]
async fn tasks_are_joined_by_their_workload_and_ended_for_good() {
    let (_server, store) = ready(RedisOptions::default()).await;
    let plan = |n: u8| mint(n).task.unwrap();
    let shown = evidence(1, 1);
    let start = |n: u8| StartTaskCommand {
        spend: Spend { id: lease_id(n), until: soon(60_000) },
        task: plan(n),
        evidence: Some(shown.clone()),
        subjects: vec![Subject::Workload(workload()), Subject::Task(plan(n).body.id)],
    };
    let first = store.start_task(&start(1)).await.unwrap();
    assert!(!first.joined && first.first_binding);
    let second = store.start_task(&start(2)).await.unwrap();
    assert!(second.joined && !second.first_binding);
    assert_eq!(second.task.started, first.task.started);
    assert_eq!(no(store.start_task(&start(2)).await), No::NonceUsed);

    let mut other = start(3);
    other.task.body.workload = SpiffeId::parse("spiffe://example.org/ci/other").unwrap();
    assert_eq!(no(store.start_task(&other).await), No::TaskOfAnother);

    store.mint(&mint(10)).await.unwrap();
    let complete = |n: u8| {
        revoke(
            n,
            RevokeWhat::Task {
                id: plan(1).body.id,
                by: Some(Subject::Workload(workload())),
                spend: Some(Spend { id: lease_id(100 + n), until: soon(60_000) }),
                evidence: Some(evidence(1, 1)),
                keep_ms: 60_000,
            },
        )
    };
    let done = store.revoke(&complete(1)).await.unwrap();
    assert!(done.job.is_some() && done.gate.is_some());
    assert_eq!(no(store.check(&check(10)).await), No::FenceMoved);
    assert_eq!(no(store.mint(&mint(11)).await), No::TaskEnded);
    let again = store.revoke(&complete(2)).await.unwrap();
    assert!(again.job.is_none());
    assert_eq!(again.changes, done.changes);
    assert_eq!(no(store.revoke(&complete(2)).await), No::NonceUsed);
}

#[tokio::test]
async fn evidence_belongs_to_one_key_unless_it_may_be_taken_over() {
    let (_server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    let mut second = mint(2);
    second.evidence = Some(evidence(1, 2));
    second.subjects = mint(1).subjects;
    assert_eq!(no(store.mint(&second).await), No::EvidenceOfOtherKey);
    second.evidence.as_mut().unwrap().supersede = true;
    let minted = store.mint(&second).await.unwrap();
    assert_eq!(minted.superseded, Some(1));
    store.check(&check(2)).await.unwrap();
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
}

#[tokio::test]
async fn quotas_count_live_leases_and_mints() {
    let (_server, store) = ready(RedisOptions::default()).await;
    let mut first = mint(1);
    first.quotas[1].live_max = 1;
    first.quotas[0].per_min = 1;
    store.mint(&first).await.unwrap();
    let mut second = mint(2);
    second.quotas[1].live_max = 1;
    assert_eq!(no(store.mint(&second).await), No::QuotaLeases(1));
    second.quotas[1].live_max = 10;
    second.quotas[0].per_min = 1;
    second.quotas[0].burst = 1;
    let No::QuotaRate(0, wait) = no(store.mint(&second).await) else { panic!("no rate") };
    assert!((1..=60_000).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_side_effect_is_confirmed_and_undone() {
    let (_server, store) = ready(RedisOptions::default()).await;
    let minted = store.mint(&mint_of(1, "run-1", CredentialKind::Account)).await.unwrap();
    assert_eq!(minted.record.state, LeaseState::Reserved);
    assert_eq!(no(store.check(&check(1)).await), No::NotActive);
    let active = store.confirm(lease_id(1)).await.unwrap();
    assert_eq!(active.state, LeaseState::Active);
    store.check(&check(1)).await.unwrap();
    assert_eq!(no(store.confirm(lease_id(1)).await), No::RaceLost);
    assert_eq!(store.due_undos(10).await.unwrap(), []);

    store.mint(&mint_of(2, "run-1", CredentialKind::Account)).await.unwrap();
    store.revoke(&revoke_owner(1)).await.unwrap();
    assert_eq!(no(store.confirm(lease_id(2)).await), No::RaceLost);
    assert_eq!(no(store.undone(&active).await), No::RaceLost);
    let job = store.claim_job(10_000).await.unwrap().unwrap();
    let step = sweep::step(&store, job).await.unwrap();
    assert_eq!(step.job.with_side_effects, 2);
    let due = store.due_undos(10).await.unwrap();
    assert_eq!(due.iter().map(|r| r.id).collect::<Vec<_>>(), [lease_id(1)]);
    assert_eq!(store.counts().await.unwrap().undo_pending, 2);
    store.undone(&due[0]).await.unwrap();
    assert_eq!(store.counts().await.unwrap().undo_pending, 1);
    assert_eq!(store.due_undos(10).await.unwrap(), []);
}

#[tokio::test]
async fn lists_are_walked_page_by_page() {
    let (_server, store) = ready(RedisOptions::default()).await;
    for n in 1..=23 {
        store.mint(&mint(n)).await.unwrap();
    }
    for along in [Some(Subject::Owner(owner()).key()), None] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(&ListQuery { along, after, limit: 5 }).await.unwrap();
            all.extend(page.records.iter().map(|r| r.id));
            assert!(page.records.len() <= 5);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        all.sort_unstable();
        assert_eq!(all, (1..=23).map(lease_id).collect::<Vec<_>>());
    }
    assert_eq!(store.counts().await.unwrap().live_leases, 23);
}

#[tokio::test]
async fn brokers_and_keys_are_shared() {
    let (_server, store) = ready(RedisOptions::default()).await;
    assert_eq!(store.keys().await.unwrap(), None);
    assert!(store.put_keys(0, 1, b"sealed").await.unwrap());
    assert!(!store.put_keys(0, 2, b"other").await.unwrap());
    assert!(store.put_keys(1, 2, b"next").await.unwrap());
    assert_eq!(store.keys().await.unwrap(), Some((2, b"next".to_vec())));
    store.heartbeat("b", 2, 60_000).await.unwrap();
    store.heartbeat("a", 1, 60_000).await.unwrap();
    store.heartbeat("gone", 1, 0).await.unwrap();
    let seen = store.brokers().await.unwrap();
    assert_eq!(
        seen.iter().map(|b| (b.id.as_str(), b.keys_version)).collect::<Vec<_>>(),
        [("a", 1), ("b", 2)]
    );
    let survey = store.survey().await.unwrap();
    assert_eq!((survey.keys_version, survey.changes), (Some(2), 2));
}

/// What another client of the same Redis wrote over a block is no reason to mint.
#[tokio::test]
async fn a_gate_that_is_none_of_ours_refuses() {
    let (server, store) = ready(RedisOptions::default()).await;
    store.set_block(&Subject::Owner(owner()), Some(block())).await.unwrap();
    let gate = [b"mf:f:{d".as_slice(), &Subject::Owner(owner()).key().0, b"}"].concat();
    let mut admin = server.admin();
    let good: Vec<u8> = ::redis::cmd("GET").arg(&gate).query(&mut admin).unwrap();
    let altered = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    // Version, whether it blocks, the fence's highest octet; then too little of everything.
    for bad in [altered(0, 2), altered(1, 255), altered(2, 1), vec![1; 10], b"x".to_vec(), vec![]] {
        ::redis::cmd("SET").arg(&gate).arg(&bad).query::<()>(&mut admin).unwrap();
        let refused = store.mint(&mint(1)).await;
        assert!(matches!(refused, Err(mayfly_lease::StoreError::Corrupt(_))), "{bad:?}: {refused:?}");
    }
    ::redis::cmd("SET").arg(&gate).arg(&good).query::<()>(&mut admin).unwrap();
    assert_eq!(no(store.mint(&mint(1)).await), No::Blocked(1));
}

/// Redis itself forgets what is over: only what must stay has no end.
#[tokio::test]
async fn what_ends_has_an_end_in_redis() {
    let (server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    store.mint(&mint_of(2, "run-2", CredentialKind::Account)).await.unwrap();
    store.set_block(&Subject::Owner(owner()), Some(block())).await.unwrap();
    let task = Subject::Task(TaskId::parse("run-1").unwrap());
    store.revoke(&revoke(1, RevokeWhat::Subject { subject: task, block: None })).await.unwrap();
    let what = RevokeWhat::Lease { id: lease_id(77), unknown_until: soon(60_000) };
    store.revoke(&revoke(2, what)).await.unwrap();
    let mut job = store.claim_job(10_000).await.unwrap().unwrap();
    while !job.done {
        job = sweep::step(&store, job).await.unwrap().job;
    }
    let mut admin = server.admin();
    let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS").arg("*").query(&mut admin).unwrap();
    let mut endless = Vec::new();
    for key in keys {
        let left: i64 = ::redis::cmd("PTTL").arg(&key).query(&mut admin).unwrap();
        if left < 0 {
            endless.push(String::from_utf8_lossy(&key).chars().take(6).collect::<String>());
        }
    }
    endless.sort();
    // The generation and what is shared; the account's record; the standing block's gate; the open job.
    let shared =
        ["mf:blo", "mf:cha", "mf:clo", "mf:fee", "mf:gat", "mf:gen", "mf:job", "mf:mar", "mf:ser", "mf:u"];
    let mut expected: Vec<&str> = shared.into_iter().chain(["mf:f:{", "mf:j:{", "mf:l:{"]).collect();
    expected.sort_unstable();
    assert_eq!(endless, expected);

    // What is over in an index goes with later mints; an id's randomness says with which.
    let index = [b"mf:i:{d".as_slice(), &Subject::Workload(workload()).key().0, b"}"].concat();
    ::redis::cmd("ZADD").arg(&index).arg(1).arg([9_u8; 16].as_slice()).query::<()>(&mut admin).unwrap();
    store.set_block(&Subject::Owner(owner()), None).await.unwrap();
    store.mint(&mint_of(8, "run-8", CredentialKind::Token)).await.unwrap();
    let score: Option<u64> =
        ::redis::cmd("ZSCORE").arg(&index).arg([9_u8; 16].as_slice()).query(&mut admin).unwrap();
    assert_eq!(score, None);
}
