//! `make demo`'s player: all of it passes with no other program in reach, and a line that is wrong ends it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{demo, mayfly};

/// Plays the demonstration of `program` with a PATH that holds nothing, `redis-server` least of all.
fn play(program: &Path) -> Output {
    let nothing = tempfile::tempdir().unwrap();
    Command::new(demo())
        .arg(program)
        .env_clear()
        .env("PATH", nothing.path())
        .env("TMPDIR", nothing.path())
        .output()
        .unwrap()
}

#[test]
fn every_line_is_as_it_should_be_without_redis() {
    let output = play(mayfly());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("lines were as they should be"), "{shown}");
    assert!(shown.contains("ms after the acknowledgement"), "{shown}");
    assert!(shown.contains("ms after the acknowledgement; it saw "), "a stream was cut: {shown}");
    assert!(!shown.contains('\u{1b}'), "colours are for a terminal: {shown:?}");
}

#[test]
fn a_line_that_is_wrong_is_named_and_ends_it_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("mayfly");
    // It starts the real broker, and calls every mint a success.
    let script = format!(
        "#!/bin/sh\ncase \"$1 $2\" in 'mint token') echo '{{\"token\":\"forged\"}}';; *) exec {} \"$@\";; esac\n",
        mayfly().display()
    );
    std::fs::write(&broken, script).unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = play(&broken);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("line 4 is not as it should be: it calls the service with a proof"), "{told}");
}
