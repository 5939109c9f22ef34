//! The command itself: its exit code, what it inherits and what not.

use mayfly_testkit::user::{User, open_dir, printed, users};

use super::{exec, mayfly};

fn code(user: User, words: &[&str]) -> (Option<i32>, String) {
    let mut command = mayfly(user, &[]);
    let output = command.arg("exec").args(words).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_exit_code_is_the_commands_own() {
    for user in users() {
        for (script, want) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137)] {
            assert_eq!(code(user, &["--", "sh", "-c", script]).0, Some(want), "{user:?}: {script}");
        }
    }
}

#[test]
fn a_missing_command_is_told_like_env_tells_it() {
    let dir = open_dir();
    let text = dir.path().join("text");
    std::fs::write(&text, "not a program").unwrap();
    let text = text.to_str().unwrap();
    for user in users() {
        for (words, want, told) in [
            (["--", "no-such-command-here"].as_slice(), 127, "COMMAND_NOT_FOUND"),
            (&["--", "/no/such/command"], 127, "/no/such/command"),
            (&["--", text], 126, "COMMAND_NOT_RUNNABLE"),
            (&["--", "/"], 126, "COMMAND_NOT_RUNNABLE"),
            (&["--output", "json", "--", "no-such-command-here"], 127, r#""exit_code": 127"#),
            (&["--"], 2, "CMD"),
            (&["--intent", "deploy:x", "--", "true"], 2, "--profile"),
        ] {
            let (code, stderr) = code(user, words);
            assert_eq!(code, Some(want), "{user:?} {words:?}: {stderr}");
            assert!(stderr.contains(told), "{user:?} {words:?}: {stderr}");
        }
    }
}

#[test]
fn no_evidence_goes_on_to_the_command_but_on_request() {
    let evidence = [
        "MAYFLY_EVIDENCE_FILE",
        "MAYFLY_ID_TOKEN",
        "MAYFLY_TOKEN",
        "MAYFLY_COMPLETION_HANDLE",
        "MAYFLY_JOIN_TOKEN",
        "MAYFLY_JOIN_TOKEN_FILE",
        "MAYFLY_X509_KEY_FILE",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
    ];
    for user in users() {
        for (options, kept) in [([].as_slice(), 0), (&["--keep-evidence"], evidence.len())] {
            let mut command = exec(user, options, "env");
            command.envs(evidence.map(|name| (name, "s3cret"))).env("OTHER", "stays");
            let output = printed(&command.output().unwrap());
            assert_eq!(output.matches("s3cret").count(), kept, "{user:?} {options:?}: {output}");
            assert!(output.contains("OTHER=stays"), "{user:?}: {output}");
        }
    }
}

#[test]
fn no_descriptor_and_no_core_dump_goes_on_to_the_command() {
    for user in users() {
        let shell = r#"exec 3</dev/null 7</dev/null; exec "$@""#;
        let mut command = mayfly(user, &["sh", "-c", shell, "sh"]);
        let script =
            "for fd in 1 3 4 5 6 7 8 9 10 11 12; do test ! -e /proc/$$/fd/$fd || echo $fd; done; ulimit -c";
        command.args(["exec", "--", "sh", "-c", script]);
        assert_eq!(printed(&command.output().unwrap()), "1\n0", "{user:?}");
    }
}

#[test]
fn standard_streams_are_the_commands() {
    for user in users() {
        let mut command = exec(user, &[], "cat; echo err >&2");
        let dir = open_dir();
        std::fs::write(dir.path().join("in"), "through").unwrap();
        command.stdin(std::fs::File::open(dir.path().join("in")).unwrap());
        let output = command.output().unwrap();
        assert_eq!((printed(&output).as_str(), output.stderr.as_slice()), ("through", b"err\n".as_slice()));
    }
}
