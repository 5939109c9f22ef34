//! A full disk below the audit file: nothing is minted, everything can be ended, nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mayfly_proto::v1 as pb;
use serde_json::Value;

use crate::harness::{Site, Spec, load_spec, owner, refused, until};

/// A file system of a size that two hands can fill; gone with the value.
struct Tiny(tempfile::TempDir);

impl Tiny {
    /// None where this user may not mount: then the disk can't be filled, and the test says so.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(dir.path()).output();
        done.is_ok_and(|o| o.status.success()).then_some(Self(dir))
    }

    fn fill(&self) {
        let mut size = 512 * 1024;
        let mut n = 0;
        while size > 0 {
            // `write` leaves what fitted.
            if fs::write(self.0.path().join(format!("filler-{n}")), vec![0; size]).is_err() {
                size /= 2;
            }
            n += 1;
        }
    }

    fn free(&self) {
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("filler") {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_mints_and_defers_the_records_of_revocations() {
    let Some(disk) = Tiny::mount() else {
        println!("SKIPPED: this user may not mount a file system to fill");
        return;
    };
    run(disk.0.path().join("audit.jsonl"), || disk.fill(), || disk.free()).await;
}

/// Where no file system can be filled, another hand on the file stands for one: the broker writes nothing then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_another_hand_refuses_mints_and_defers_the_records_of_revocations() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let length = std::cell::Cell::new(0);
    let spoil = || {
        length.set(fs::metadata(&file).unwrap().len());
        fs::OpenOptions::new().append(true).open(&file).unwrap().set_len(length.get() + 1).unwrap();
    };
    let mend = || fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length.get()).unwrap();
    run(file.clone(), spoil, mend).await;
}

async fn run(audit: PathBuf, spoil: impl Fn(), mend: impl Fn()) {
    let site = Site::embedded();
    site.configure_with("one", &audit);
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let acceptor = node.acceptor("load-api").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let done = node.job(&site, &Spec::default()).await;
    let kept = job.mint("load", "use:load").await.unwrap().lease;
    done.mint("payments-deploy", "deploy:payments").await.unwrap();

    spoil();
    // The file's last block may have room for a few more.
    let mut no = job.mint("load", "use:load").await;
    for _ in 0..20 {
        if no.is_err() {
            break;
        }
        no = job.mint("load", "use:load").await;
    }
    let before = alice.leases(None).await.len();
    assert_eq!(refused(no), "AUDIT_UNAVAILABLE");
    assert_eq!(refused(job.mint("load", "use:load").await), "AUDIT_UNAVAILABLE");
    assert_eq!(refused(job.renew(&kept).await), "AUDIT_UNAVAILABLE");
    assert_eq!(alice.leases(None).await.len(), before, "no lease without a record of it");
    let status = async || alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    assert_eq!(status().await.audit_state, "deferring");
    assert_eq!(acceptor.lease(&kept).await, Ok(()), "checks go on");

    let mut revoked = alice.revoke(owner("user:gh-1"), true).await.unwrap();
    for _ in 0..20 {
        if revoked.audit == "deferred" {
            break;
        }
        revoked = alice.revoke(owner("user:gh-1"), true).await.unwrap();
    }
    assert_eq!(revoked.audit, "deferred");
    assert!(acceptor.lease(&kept).await.is_err());
    assert_eq!(done.complete().await.unwrap().audit, "deferred");
    let lifted = alice
        .client
        .lift_block(pb::LiftBlockRequest { subject: Some(owner("user:gh-1")), reason: "test".into() });
    assert_eq!(lifted.await.unwrap().audit, "deferred");
    assert!(status().await.audit_deferred >= 3);
    assert!(!text(&audit).contains(&revoked.revocation));

    mend();
    until(async || (status().await.audit_deferred == 0).then_some(())).await;
    job.mint("load", "use:load").await.unwrap();
    assert_eq!(status().await.audit_state, "ok");
    node.stop().await;
    let text = text(&audit);
    let late: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["deferred"] == true && record["kind"] != "sweep")
        .collect();
    let kinds: Vec<_> = late.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["revoke", "task_complete", "lift"], "in their order");
    assert_eq!(late[0]["revocation"], revoked.revocation.as_str());
    let summary = mayfly_audit::verify::verify([std::io::BufReader::new(fs::File::open(&audit).unwrap())]);
    summary.unwrap();
}

fn text(audit: &Path) -> String {
    fs::read_to_string(audit).unwrap()
}
