//! Quotas: one workload, one owner can't use everything up.

use std::fs;
use std::sync::Arc;

use mayfly_testkit::clock::TestClock;

use crate::harness::{Site, Spec, load_spec, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_gets_as_many_leases_as_its_profile_allows_and_no_more() {
    let clock = TestClock::from_system();
    let site = Site::with_clock(Arc::new(clock.clone()));
    let node = site.start("one").await;
    let job = node.job(&site, &Spec::default()).await;
    let mint = async || job.mint("payments-deploy", "deploy:payments").await;
    let mut leases = Vec::new();
    for n in 1..=5 {
        let minted = mint().await.unwrap();
        assert_eq!(minted.warnings.is_empty(), n < 4, "80 % warns: {:?}", minted.warnings);
        leases.push(minted.lease);
    }
    assert_eq!(refused(mint().await), "QUOTA_LEASES");
    job.renew(&leases[0]).await.unwrap();
    assert_eq!(refused(mint().await), "QUOTA_LEASES", "a renewal counts once with what it renews");
    job.release(&leases[0]).await.unwrap();
    assert_eq!(refused(mint().await), "QUOTA_LEASES", "one that was ended counts to its hard expiry");
    // Another workload is none the worse.
    let other = node.job(&site, &load_spec("1", "1")).await;
    other.mint("load", "use:load").await.unwrap();
    clock.advance(301_000);
    mint().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_mints_so_fast_and_no_faster_and_is_told_how_long_to_wait() {
    let site = Site::embedded();
    let file = site.configure("one");
    let text = fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("[quota.owner]").unwrap();
    let after = after.replacen("mints_per_min = 1_000_000", "mints_per_min = 5", 1);
    fs::write(&file, format!("{before}[quota.owner]{after}")).unwrap();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    // Three workloads of one owner.
    let mut minted = 0;
    let mut slow_down = None;
    for n in 0..9 {
        let job = node.job(&site, &load_spec("1", &(n % 3).to_string())).await;
        match job.mint("load", "use:load").await {
            Ok(_) => minted += 1,
            Err(no) => slow_down = Some(no),
        }
    }
    let no = slow_down.unwrap();
    assert_eq!((no.code.as_ref(), minted), ("QUOTA_RATE", 5));
    assert!(no.retry_after.is_some(), "{no:?}");
    assert_eq!(alice.leases(None).await.len(), 5);
    node.stop().await;
}
