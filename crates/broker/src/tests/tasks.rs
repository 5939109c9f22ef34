//! Tasks: opened, joined, looked at and ended by their own workload; leases released by their own key.

use mayfly_audit::Stored;
use mayfly_domain::{LeaseId, LeaseState, Reason, Refusal, TaskId, Ttl};
use mayfly_lease::{LeaseRecord, TaskRecord, TaskStarted, TaskState};

use super::site::*;
use crate::*;

impl Node {
    async fn start(
        &self,
        worker: &Worker,
        token: &str,
        intent: &str,
        window: Option<&str>,
    ) -> Result<TaskStarted, Refusal> {
        let opened = self.open(worker, "StartTask")?;
        let (intent, window) = (intent.parse().unwrap(), window.map(|w| Ttl::parse(w).unwrap()));
        let (call, token) = (self.call(), evidence(token));
        self.broker.start_task(&call, &opened, &token, Some(intent), Some(text("release")), window).await
    }

    async fn look_at(&self, worker: &Worker, token: &str) -> Result<(TaskRecord, Vec<LeaseRecord>), Refusal> {
        let opened = self.open(worker, "GetTask")?;
        self.broker.get_task(&self.call(), &opened, &evidence(token)).await
    }

    async fn release(
        &self,
        worker: &Worker,
        token: &str,
        lease: Option<LeaseId>,
    ) -> Result<Released, Refusal> {
        let opened = self.open(worker, "Release")?;
        self.broker.release(&self.call(), &opened, &evidence(token), lease).await
    }
}

#[tokio::test]
async fn a_task_is_opened_once_and_joined_by_its_own_workload() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    assert_eq!(why(node.look_at(&worker, &site.token(&worker)).await), Reason::NotFound);
    let first = node.start(&worker, &site.token(&worker), "deploy:payments", Some("10h")).await.unwrap();
    assert!(!first.joined);
    assert_eq!(first.task.window_ends, START.plus(2 * 3_600_000), "the rule's longest");
    let sibling = worker.other_key();
    let again = node.start(&sibling, &site.token(&sibling), "deploy:payments", None).await.unwrap();
    assert_eq!((again.joined, again.task.window_ends), (true, first.task.window_ends));
    let refused = node.start(&sibling, &site.token(&sibling), "rollback:payments", None).await;
    assert_eq!(why(refused), Reason::IntentNotAllowed);
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let (task, leases) = node.look_at(&worker, &site.token(&worker)).await.unwrap();
    assert_eq!((task.state, leases.len(), leases[0].id), (TaskState::Open, 1, issued.record.id));
    let (task, leases) = node.look_at(&sibling, &site.token(&sibling)).await.unwrap();
    assert_eq!((task.state, leases.len()), (TaskState::Open, 0), "another key's leases are not shown");
    assert_eq!(node.audited_as("task_start").len(), 3);
}

#[tokio::test]
async fn completing_ends_everything_at_once_and_a_second_time_says_so() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (worker, api) = (Worker::payments("1"), node.acceptor("deploy-api").await);
    let sibling = worker.other_key();
    let mine = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let theirs = node.mint(&sibling, &site.token(&sibling), deploy()).await.unwrap();
    let other = Worker::payments("2");
    let apart = node.mint(&other, &site.token(&other), deploy()).await.unwrap();
    let done = node.complete(&worker, &site.token(&worker)).await.unwrap();
    assert_eq!((done.already, done.audit, done.task.state), (false, Stored::Written, TaskState::Ended));
    assert!(node.check(&api, &worker, &mine).await.is_err());
    assert!(node.check(&api, &sibling, &theirs).await.is_err());
    node.check(&api, &other, &apart).await.unwrap();
    let again = node.complete(&worker, &site.token(&worker)).await.unwrap();
    assert!(again.already);
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::TaskEnded);
    let refused = node.start(&worker, &site.token(&worker), "deploy:payments", None).await;
    assert_eq!(why(refused), Reason::TaskEnded);
    let record = node.audited_as("task_complete").swap_remove(0);
    assert!(record["revocation"].as_str().unwrap().starts_with("rev_"));
}

#[tokio::test]
async fn a_task_that_was_completed_before_it_was_opened_is_not_opened_later() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    assert!(!node.complete(&worker, &site.token(&worker)).await.unwrap().already);
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::TaskEnded);
}

#[tokio::test]
async fn another_workloads_task_is_nobodys() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    // Two rules of one issuer name tasks alike: `gl-JOB`.
    let (mine, theirs) = (Worker::billing("1042", "9"), Worker::billing("1043", "9"));
    let issued = node.mint(&mine, &site.token(&mine), report()).await.unwrap();
    assert_eq!(why(node.complete(&theirs, &site.token(&theirs)).await), Reason::TaskOfAnother);
    let refused = node.start(&theirs, &site.token(&theirs), "report:billing", None).await;
    assert_eq!(why(refused), Reason::TaskOfAnother);
    assert_eq!(why(node.mint(&theirs, &site.token(&theirs), report()).await), Reason::TaskOfAnother);
    assert_eq!(why(node.look_at(&theirs, &site.token(&theirs)).await), Reason::NotFound);
    let refused = node.release(&theirs, &site.token(&theirs), Some(issued.record.id)).await;
    assert_eq!(why(refused), Reason::LeaseNotFound);
    assert_eq!(node.release(&theirs, &site.token(&theirs), None).await.unwrap().released, 0);
    node.check(&node.acceptor("ledger-api").await, &mine, &issued).await.unwrap();
}

#[tokio::test]
async fn a_release_ends_one_lease_or_all_of_its_key() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (worker, api) = (Worker::payments("1"), node.acceptor("deploy-api").await);
    let sibling = worker.other_key();
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(node.mint(&worker, &site.token(&worker), deploy()).await.unwrap());
    }
    let theirs = node.mint(&sibling, &site.token(&sibling), deploy()).await.unwrap();
    let token = site.token(&worker);
    let first = Some(mine[0].record.id);
    assert_eq!(node.release(&worker, &token, first).await.unwrap().released, 1);
    assert_eq!(node.release(&worker, &token, first).await.unwrap().released, 0, "it stays so");
    node.check(&api, &worker, &mine[1]).await.unwrap();
    let refused = node.release(&worker, &token, Some(theirs.record.id)).await;
    assert_eq!(why(refused), Reason::LeaseNotFound, "another key's");
    let nothing = Some(LeaseId::from_parts(START, &[1; 10]));
    assert_eq!(why(node.release(&worker, &token, nothing).await), Reason::LeaseNotFound);
    assert_eq!(node.release(&worker, &token, None).await.unwrap().released, 2);
    for issued in &mine {
        assert_eq!(node.check(&api, &worker, issued).await, Err(Reason::LeaseEnded));
    }
    node.check(&api, &sibling, &theirs).await.unwrap();
    let (_, leases) = node.look_at(&worker, &site.token(&worker)).await.unwrap();
    let open = leases.iter().filter(|l| l.state == LeaseState::Active).count();
    assert_eq!((leases.len(), open), (3, 0));
    let (_, leases) = node.look_at(&sibling, &site.token(&sibling)).await.unwrap();
    assert_eq!((leases.len(), leases[0].state), (1, LeaseState::Active));
}

#[tokio::test]
async fn an_operator_ends_a_task() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, mallory) = (node.operator("alice").await, node.operator("mallory").await);
    let (worker, api) = (Worker::payments("1"), node.acceptor("deploy-api").await);
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let id: TaskId = "gh-1-1".parse().unwrap();
    let end = async |who: &Operator, id: &TaskId| {
        node.broker.end_task(&node.call(), who, id.clone(), Some(text("stuck"))).await
    };
    assert_eq!(why(end(&mallory, &id).await), Reason::PolicyDenied);
    assert_eq!(why(end(&alice, &"gh-2-1".parse().unwrap()).await), Reason::NotFound);
    let (task, already, _) = end(&alice, &id).await.unwrap();
    assert_eq!((task.state, already), (TaskState::Ended, false));
    assert!(end(&alice, &id).await.unwrap().1);
    assert!(node.check(&api, &worker, &issued).await.is_err());
    let shown = node.broker.show_task(&node.call(), &alice, &id).await.unwrap();
    assert_eq!(shown.state, TaskState::Ended);
    assert_eq!(why(node.broker.show_task(&node.call(), &mallory, &id).await), Reason::PolicyDenied);
}
