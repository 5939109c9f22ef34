//! `mayfly exec` as the first process of a container.

use std::process::{Command, Stdio};

use mayfly_testkit::user::{User, printed, users};

use super::mayfly;

/// Whether this machine lets the tests make a process namespace.
fn may_unshare() -> bool {
    let tried = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: no process namespace may be made here (it needs root)");
    }
    may
}

fn as_first(user: User, script: &str) -> (Option<i32>, String) {
    // A first process that fails would leave the test waiting: an outer one ends it.
    let before =
        ["timeout", "--signal", "KILL", "60", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let output = mayfly(user, &before).args(["exec", "--", "sh", "-c", script]).output().unwrap();
    let told = format!("{}{}", printed(&output), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), told)
}

#[test]
fn orphans_are_reaped() {
    if !may_unshare() {
        return;
    }
    for user in users() {
        // Ten that end after their parent did, and a zombie is left only where nobody waits.
        let script = "read first </proc/1/comm; echo $first
            for n in 1 2 3 4 5 6 7 8 9 10; do ( (:) & ) ; done
            while grep -qs '^State:.Z' /proc/[0-9]*/status; do :; done; exit 4";
        assert_eq!(as_first(user, script), (Some(4), "mayfly".to_owned()), "{user:?}");
    }
}

#[test]
fn the_first_process_obeys_its_container() {
    if !may_unshare() {
        return;
    }
    for user in users() {
        let script = "trap 'echo got; exit 5' TERM; kill -TERM 1; while :; do :; done";
        assert_eq!(as_first(user, script), (Some(5), "got".to_owned()), "{user:?}");
    }
}
