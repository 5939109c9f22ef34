//! The page of the proof, as this run would write it.

use std::path::Path;
use std::thread;

use mayfly_proof::accounts::{Accounts, What};
use mayfly_proof::feed::Feed;
use mayfly_proof::generations::Generations;
use mayfly_proof::leases::Leases;
use mayfly_proof::order::Order;
use mayfly_proof::report::{self, Counterexample, Explored};

const HEAD: &str = include_str!("head.md");
const EVERY: &[What] = &[What::Owner, What::Parent, What::Itself];

fn leases(broken: Option<Order>) -> Leases {
    Leases { broken, revocations: 1, renewals: 1 }
}

fn account(broken: Option<Order>) -> Accounts {
    let revocations = match broken {
        None => EVERY,
        Some(Order::ConfirmAncestors) => &[What::Parent],
        Some(_) => &[What::Owner],
    };
    Accounts { broken, reapers: 1, faults: true, revocations }
}

fn two_reapers(broken: Option<Order>) -> Accounts {
    Accounts { broken, reapers: 2, faults: false, revocations: &[What::Owner] }
}

fn feed(broken: Option<Order>) -> Feed {
    Feed { broken, durable: true, brokers: 1, other: false, reuse: true, time: 4, cuts: 0, fail_overs: 0 }
}

fn lost(broken: Option<Order>) -> Feed {
    Feed { durable: false, fail_overs: 1, reuse: false, time: 3, ..feed(broken) }
}

/// A fail-over to the replica, with another revocation that it may lose.
fn fail_over(broken: Option<Order>) -> Feed {
    Feed { fail_overs: 1, other: true, reuse: false, time: 2, ..feed(broken) }
}

fn explored() -> Vec<Explored> {
    vec![
        report::explore(leases(None), "leases"),
        report::explore(account(None), "an account"),
        report::explore(two_reapers(None), "an account, two reapers"),
        report::explore(feed(None), "the feed"),
        report::explore(Feed { cuts: 1, reuse: false, time: 3, ..feed(None) }, "the feed, cut once"),
        report::explore(
            Feed { other: false, time: 3, ..fail_over(None) },
            "the feed of a store that fails over",
        ),
        report::explore(lost(None), "the feed of a store that is lost"),
        report::explore(Generations { broken: None }, "generations"),
    ]
}

fn refuted(order: Order) -> Counterexample {
    match order {
        Order::BlockWithFence
        | Order::EvidenceObservation
        | Order::FirstObservation
        | Order::UsedOutlives => report::refute(leases(Some(order)), order),
        Order::OneRule => report::refute(Leases { revocations: 2, ..leases(Some(order)) }, order),
        Order::PingTime | Order::EventBeforeAck => report::refute(feed(Some(order)), order),
        Order::PingStored => report::refute(Feed { brokers: 2, reuse: false, ..feed(Some(order)) }, order),
        Order::BarrierOutlastsGeneration | Order::BarrierKeepsGeneration => {
            report::refute(lost(Some(order)), order)
        }
        Order::NumbersOfAnEpoch => report::refute(fail_over(Some(order)), order),
        Order::BlocksCarried => report::refute(Generations { broken: Some(order) }, order),
        Order::UndoneBySight => report::refute(two_reapers(Some(order)), order),
        Order::IndexBeforeRecord
        | Order::FenceBeforeSweep
        | Order::ConfirmAfterEffect
        | Order::ConfirmAncestors
        | Order::JobBeforeAck
        | Order::ReaperEndsFirst
        | Order::ScanListsFirst
        | Order::ScanAllowsSkew
        | Order::IndexByExpiry => report::refute(account(Some(order)), order),
    }
}

#[test]
fn every_model_holds_and_every_order_matters() {
    let models = thread::spawn(explored);
    let orders: Vec<_> = Order::ALL.into_iter().map(refuted).collect();
    let page = report::page(HEAD, &models.join().unwrap(), &orders);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proof.md");
    if std::env::var_os("MAYFLY_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/proof.md is not what the models say: run `make docs`");
}

/// Minutes, and gigabytes: `make proof`.
#[test]
#[ignore = "larger than a test run; `make proof` runs it"]
fn larger_models_hold() {
    let two_brokers = Feed { brokers: 2, cuts: 1, reuse: false, time: 3, ..feed(None) };
    report::explore(two_brokers, "the feed, two brokers");
    report::explore(fail_over(None), "the feed of a store that fails over, two revocations");
    report::explore(Leases { revocations: 1, renewals: 2, broken: None }, "leases, renewed twice");
}
