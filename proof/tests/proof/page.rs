//! The page of the proof, as this run would write it.

use std::path::Path;
use std::thread;

use mayfly_proof::accounts::{Accounts, What};
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

fn explored() -> Vec<Explored> {
    vec![
        report::explore(leases(None), "leases"),
        report::explore(account(None), "an account"),
        report::explore(two_reapers(None), "an account, two reapers"),
    ]
}

fn refuted(order: Order) -> Option<Counterexample> {
    Some(match order {
        Order::BlockWithFence
        | Order::EvidenceObservation
        | Order::FirstObservation
        | Order::UsedOutlives => report::refute(leases(Some(order)), order),
        Order::OneRule => report::refute(Leases { revocations: 2, ..leases(Some(order)) }, order),
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
        _ => return None,
    })
}

#[test]
fn every_model_holds_and_every_order_matters() {
    let models = thread::spawn(explored);
    let orders: Vec<_> = Order::ALL.into_iter().filter_map(refuted).collect();
    let page = report::page(HEAD, &models.join().unwrap(), &orders);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proof.md");
    if std::env::var_os("MAYFLY_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/proof.md is not what the models say: run `make docs`");
}
