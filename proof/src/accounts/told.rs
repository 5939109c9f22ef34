//! The steps in words.

use super::{Accounts, Act, What};
use crate::order::Order;

pub(super) fn told(model: &Accounts, act: &Act) -> String {
    let apart = model.broken == Some(Order::FenceBeforeSweep);
    match act {
        Act::Decide => "the broker decides a mint and has read fences".into(),
        Act::Write(part) => format!("the broker writes {part}"),
        Act::Late => "the index entry is written".into(),
        Act::Call => "the broker asks the target for the account".into(),
        Act::Land => "the account is made at the target".into(),
        Act::Confirm => "the broker confirms".into(),
        Act::Send => "the credential leaves".into(),
        Act::Crash => "the minting broker crashes".into(),
        Act::Revoke(what) => {
            let what = match what {
                What::Owner => "the owner",
                What::Parent => "the parent's lease",
                What::Itself => "the account's lease",
            };
            match model.broken {
                Some(Order::FenceBeforeSweep) => format!("revoke {what}: the job is stored"),
                Some(Order::JobBeforeAck) => format!("revoke {what}, acknowledged without a job"),
                _ => format!("revoke {what}, acknowledged"),
            }
        }
        Act::Rest if apart => "the fence moves, and the revocation is acknowledged".into(),
        Act::Rest => "the job is stored".into(),
        Act::Forget => "the revoking broker crashes before it stores the job".into(),
        Act::SweepReads => "the sweep reads the index".into(),
        Act::SweepEnds => "the sweep ends what it found, and reports".into(),
        Act::SweepCrashes => "the sweeping broker crashes".into(),
        Act::Pick(n) => format!("reaper {} takes what is due", n + 1),
        Act::Undo(n) => format!("reaper {} undoes at the target", n + 1),
        Act::Tell(n) => format!("reaper {} tells the store", n + 1),
        Act::ReaperCrashes(n) => format!("reaper {} crashes", n + 1),
        Act::ScanStarts(ahead) => {
            let clock = if *ahead { ", its broker's clock ahead" } else { "" };
            if model.broken == Some(Order::ScanListsFirst) {
                format!("a scan reads the records{clock}")
            } else {
                format!("a scan lists the accounts{clock}")
            }
        }
        Act::ScanReads if model.broken == Some(Order::ScanListsFirst) => "the scan lists the accounts".into(),
        Act::ScanReads => "the scan reads the account's record".into(),
        Act::ScanChecks => "the scan checks the account's lease".into(),
        Act::ScanUndoes => "the scan undoes the account".into(),
        Act::Clean => "the cleaner removes index entries".into(),
        Act::Lose => "a fail-over loses what the mint wrote".into(),
        Act::Tick => "time passes".into(),
    }
}
