//! What ends a command: a revocation, the end of its window, a broker that is gone.

use std::time::Duration;

use mayfly_domain::Deadline;
use mayfly_testkit::user::{Running, users};
use rustix::process::Signal;

use super::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_ends_the_command() {
    let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 600 & wait $!; done";
    for profile in ["exec", "exec-tls"] {
        let world = World::new().await;
        for user in users() {
            let place = world.place(user);
            let mut command = place.mayfly(&[]);
            command.args(["exec", "--profile", profile, "--", "sh", "-c", script]);
            let mut running = Running::start(command);
            assert_eq!(running.line(), "ready");
            world.revoke(&place).await;
            assert_eq!(running.line(), "asked", "{user:?} {profile}");
            let (code, told) = running.end();
            assert_eq!(code, Some(123), "{user:?} {profile}: {told}");
            assert!(told.contains("its lease was ended"), "{user:?} {profile}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_the_command_long_before_the_next_renewal() {
    let world = World::new().await;
    let user = users()[0];
    let held: [(&str, &[&str]); 3] =
        [("exec-hour", &[]), ("exec-hour", &["--env", "TOKEN=exec-hour.token"]), ("exec-tls-hour", &[])];
    for (n, (profile, more)) in held.into_iter().enumerate() {
        let place = world.place_of(user, "777", "exec", &n.to_string());
        let mut command = place.mayfly(&[]);
        let script = "echo ready; exec sleep 600";
        command.args(["exec", "--profile", profile]).args(more).args(["--", "sh", "-c", script]);
        let mut running = Running::start(command);
        assert_eq!(running.line(), "ready");
        world.revoke(&place).await;
        assert_eq!(running.code(), Some(123), "{profile} {more:?}");
    }
}

/// Whether a process of this id runs.
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_being_asked_is_killed_with_all_that_it_started() {
    let world = World::new().await;
    for user in users() {
        // One in its group, one in a session of its own whose parent is gone; both ignore the signal. So does the
        // command itself, or it ends and leaves them.
        let others =
            "trap '' TERM HUP; sleep 600 & echo $!; (setsid sh -c 'echo $$; exec sleep 600' &); echo $$";
        for (n, script) in [
            format!("{others}; exec sleep 600"),
            format!("({others}); trap 'exit 0' TERM; sleep 600 & wait $!"),
        ]
        .iter()
        .enumerate()
        {
            let place = world.place_of(user, "777", "exec", &n.to_string());
            let mut running = Running::start(place.exec(&["--grace", "1s"], script));
            let pids = [running.line(), running.line(), running.line()];
            assert!(pids.iter().all(|pid| runs(pid)), "{user:?} {n}: {pids:?}");
            world.revoke(&place).await;
            assert_eq!(running.code(), Some(123), "{user:?} {n}");
            assert!(!pids.iter().any(|pid| runs(pid)), "{user:?} {n}: {pids:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_go_on_without_its_lease() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let script = "trap 'exit 5' USR1; echo ready; while :; do sleep 600 & wait $!; kill -9 $!; done";
        let mut running = Running::start(place.exec(&["--on-revoke", "none"], script));
        assert_eq!(running.line(), "ready");
        world.revoke(&place).await;
        running.told("goes on without it");
        running.signal(Signal::USR1);
        assert_eq!(running.end().0, Some(5), "{user:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_window_ends_the_command() {
    let world = World::new().await;
    for user in users() {
        let place = world.place_of(user, "778", "brief", "1");
        let begun = Deadline::after(Duration::from_secs(3));
        let mut running = Running::start(place.exec(&[], "trap 'echo asked; exit 0' TERM; sleep 600 & wait"));
        assert_eq!(running.line(), "asked", "{user:?}");
        assert!(begun.has_passed(), "{user:?}: not before the window of four seconds");
        let (code, told) = running.end();
        assert_eq!(code, Some(124), "{user:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_does_not_end_the_command_before_its_credentials_do() {
    for user in users() {
        let world = World::new().await;
        let place = world.place(user);
        let script = "trap 'echo still here' USR1; trap 'echo asked; exit 0' TERM; echo ready
            while :; do sleep 600 & wait $!; kill -9 $!; done";
        let mut command = place.mayfly(&[]);
        command.args("exec --profile exec-slow --timeout 1s -- sh -c".split(' ')).arg(script);
        let mut running = Running::start(command);
        assert_eq!(running.line(), "ready");
        let stopping = tokio::spawn(world.broker.stop());
        running.told("not renewed yet");
        running.signal(Signal::USR1);
        assert_eq!([running.line(), running.line()], ["still here", "asked"], "{user:?}");
        let (code, told) = running.end();
        assert_eq!(code, Some(124), "{user:?}: {told}");
        assert!(told.contains("were not ended"), "{user:?}: {told}");
        stopping.await.unwrap();
    }
}
