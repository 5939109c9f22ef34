//! A place for credentials that is full.

use std::process::{Command, Stdio};

use mayfly_testkit::user::{Running, users};
use rustix::process::Signal;

use super::{Place, World, text};

/// Whether this machine lets the tests mount a file system of their own.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: no file system may be mounted here (it needs root)");
    }
    may
}

/// Runs below a file system in memory with room for so many pages, where credentials are kept.
fn in_little_room(place: &Place, pages: u32, options: &[&str], script: &str) -> Command {
    let room = place.path("room");
    std::fs::create_dir_all(&room).unwrap();
    let mount = format!(r#"mount -t tmpfs -o size={}k,mode=1777 none "$0" && exec "$@""#, pages * 4);
    let room = text(&room);
    let mut command = place.exec_behind(&["unshare", "--mount", "sh", "-c", &mount, &room], options, script);
    command.env("XDG_RUNTIME_DIR", room);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_place_is_told_before_the_start() {
    if !may_mount() {
        return;
    }
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        // Room for the token, none for the key beside it.
        let output = in_little_room(&place, 1, &[], "echo started").output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(125), true), "{user:?}: {told}");
        assert!(told.contains("No space left") && told.contains("make room"), "{user:?}: {told}");
        let live = world.leases(&place).await.into_iter().filter(|l| l.state == "active").count();
        assert_eq!(live, 0, "{user:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_fills_up_keeps_the_old_files() {
    if !may_mount() {
        return;
    }
    let world = World::new().await;
    for user in users() {
        let place = world.place(user);
        let script = r#"old=$(cat "$MAYFLY_TOKEN_FILE"); fill="$XDG_RUNTIME_DIR/fill"
            dd if=/dev/zero of="$fill" bs=4096 2>/dev/null
            same() { test "$old" = "$(cat "$MAYFLY_TOKEN_FILE")" && echo old || echo new; }
            trap 'same; rm "$fill"' USR1; trap 'same; exit 4' HUP; echo ready
            while :; do sleep 600 & wait $!; kill -9 $!; done"#;
        let mut running = Running::start(in_little_room(&place, 8, &["--on-renew", "HUP"], script));
        assert_eq!(running.line(), "ready");
        assert!(running.told("not renewed yet").contains("No space left"), "{user:?}");
        running.signal(Signal::USR1);
        assert_eq!([running.line(), running.line()], ["old", "new"], "{user:?}");
        assert_eq!(running.end().0, Some(4), "{user:?}");
    }
}
