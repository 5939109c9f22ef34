//! What a command is told when its files are new.

use mayfly_testkit::user::{Running, users};
use rustix::process::Signal;

use super::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_token_is_told_by_a_signal() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let script = r#"first=$(cat "$MAYFLY_TOKEN_FILE"); n=0
            hup() { test "$first" != "$(cat "$MAYFLY_TOKEN_FILE")" && echo new; n=$((n + 1)); test $n = 2 && exit 7; }
            trap hup HUP; echo ready; while :; do sleep 600 & wait $!; kill -9 $!; done"#;
        let mut running = Running::start(place.exec(&["--on-renew", "HUP"], script));
        assert_eq!([running.line(), running.line(), running.line()], ["ready", "new", "new"], "{user:?}");
        assert_eq!(running.end().0, Some(7), "{user:?}");
        let leases = world.leases(&place).await;
        assert_eq!((leases.len(), leases[0].renewals >= 2), (1, true), "{user:?}: one lease, renewed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_can_not_reload_is_started_again() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let times = place.path("times");
        let script =
            r#"echo "start $$"; echo x >>"$TIMES"; test $(wc -l <"$TIMES") = 2 && exit 8; exec sleep 600"#;
        let mut command = place.exec(&["--on-renew", "restart"], script);
        command.env("TIMES", &times);
        let mut running = Running::start(command);
        let (one, two) = (running.line(), running.line());
        assert!(
            one.starts_with("start ") && two.starts_with("start ") && one != two,
            "{user:?}: {one} {two}"
        );
        assert_eq!(running.end().0, Some(8), "{user:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificates_files_are_a_pair_and_follow_it() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let script = r#"trap 'kill -9 $!' EXIT
            check() { openssl x509 -in "$MAYFLY_CERT_FILE" -noout -pubkey >a && openssl pkey -in "$MAYFLY_KEY_FILE" -pubout >b &&
                cmp a b && grep -q BEGIN "$MAYFLY_CA_FILE" && openssl x509 -in "$MAYFLY_CERT_FILE" -noout -serial; }
            trap 'check; exit 6' HUP; cd "$HOME"; check; while :; do sleep 600 & wait $!; done"#;
        let mut command = place.mayfly(&[]);
        command.args(["exec", "--profile", "exec-tls", "--on-renew", "HUP", "--", "sh", "-c", script]);
        let mut running = Running::start(command);
        let (first, second) = (running.line(), running.line());
        assert!(first.starts_with("serial=") && second.starts_with("serial="), "{user:?}: {first} {second}");
        assert_ne!(first, second, "{user:?}");
        assert_eq!(running.end().0, Some(6), "{user:?}");
        let live = world.leases(&place).await.into_iter().filter(|l| l.state == "active").count();
        assert_eq!(live, 0, "{user:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_certificate_is_kept_fresh_and_told() {
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let out = place.path("tls");
        let mut command = place.mayfly(&[]);
        command.args(["mint", "x509", "--profile", "exec-tls", "--watch", "--reload"]);
        command.arg("readlink tls/..data >>log; echo reloaded >&2; exit 9").arg("--out").arg(&out);
        command.current_dir(place.dir.path());
        let mut running = Running::start(command);
        for _ in 0..3 {
            running.told("reloaded");
            assert!(running.told("reload command failed").contains("9"), "{user:?}");
        }
        running.signal(Signal::TERM);
        assert_eq!(running.end().0, Some(0), "{user:?}");
        let log = std::fs::read_to_string(place.path("log")).unwrap();
        let generations: std::collections::BTreeSet<_> = log.lines().collect();
        assert!(generations.len() >= 3, "{user:?}: {log}");
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            assert!(std::fs::read_to_string(out.join(name)).unwrap().contains("BEGIN"), "{user:?}: {name}");
        }
    }
}
