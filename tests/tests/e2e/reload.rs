//! Reloading on `SIGHUP`: all or nothing, and shown.

use std::fs;

use mayfly_proto::v1 as pb;

use crate::harness::{Site, load_spec, refused, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_keeps_what_runs_and_a_good_one_takes_effect() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let status = async || alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    let mint = async || job.mint("load", "use:load").await;
    mint().await.unwrap();
    let before = status().await;
    assert!(before.config_errors.is_empty());

    let policy = node.dir.join("policies/load.cedar");
    let good = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, good.replace("permit (", "permit (((")).unwrap();
    fs::write(node.dir.join("trust/wrong.toml"), "name = \"wrong\"\nprset = \"gitlab\"\n").unwrap();
    assert!(!node.reloader.reload().await);
    let told = status().await;
    assert!(told.config_errors.iter().any(|e| e.contains("load.cedar")), "{:?}", told.config_errors);
    assert!(
        told.config_errors.iter().any(|e| e.contains("wrong.toml") && e.contains("prset")),
        "{:?}",
        told.config_errors
    );
    assert_eq!(
        (told.rules, told.policies, told.config_loaded_ms),
        (before.rules, before.policies, before.config_loaded_ms)
    );
    mint().await.unwrap();
    assert!(node.metrics().await.contains("mayfly_config_reloads_total{result=\"refused\"} 1"));

    fs::remove_file(node.dir.join("trust/wrong.toml")).unwrap();
    fs::write(&policy, good.replace("use:load", "use:nothing")).unwrap();
    assert!(node.reloader.reload().await);
    assert_eq!(refused(mint().await), "PROFILE_NOT_ALLOWED");
    let told = status().await;
    assert!(told.config_errors.is_empty() && told.config_loaded_ms >= before.config_loaded_ms);
    fs::write(&policy, good).unwrap();
    assert!(node.reloader.reload().await);
    mint().await.unwrap();
    node.stop().await;
}

/// The signal itself, at a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_reloads_on_the_signal() {
    let mut site = Site::embedded();
    site.serve_ci().await;
    let server = site.spawn("one").await;
    let alice = server.operator("alice").await;
    fs::write(site.path("one/trust/wrong.toml"), "name = 1\n").unwrap();
    server.process.signal(rustix::process::Signal::HUP);
    let errors = until(async || {
        let told = alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
        (!told.config_errors.is_empty()).then_some(told.config_errors)
    });
    assert!(errors.await[0].contains("wrong.toml"));
}
