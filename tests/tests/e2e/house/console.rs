//! Runs the documents' `console` blocks as a reader would, line by line, in one shell.
//!
//! A line that starts with `$ ` is a command (a `\` at its end continues it); the lines below it are what it
//! prints. `...` within an expected line stands for anything in it, a line of `...` alone for any lines. Each
//! command must succeed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::{mayfly, read, root, tracked};

#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(markdown: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    let mut inside = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), expected: Vec::new() });
        } else {
            let step = steps.last_mut().expect("a console block starts with a command");
            if step.expected.is_empty() && step.command.ends_with('\\') {
                step.command.push('\n');
                step.command.push_str(line);
            } else {
                step.expected.push(line.trim_end().to_owned());
            }
        }
    }
    steps
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, tail)) => rest = tail,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn lines_match(expected: &[String], actual: &[&str]) -> bool {
    match (expected, actual) {
        ([], _) => actual.is_empty(),
        ([any, rest @ ..], _) if any == "..." => {
            (0..=actual.len()).any(|skip| lines_match(rest, &actual[skip..]))
        }
        ([first, rest @ ..], [line, lines @ ..]) => line_matches(first, line) && lines_match(rest, lines),
        (_, []) => false,
    }
}

/// Runs the steps in one shell in `dir` with `programs` first on PATH; what still runs in the background
/// then is ended.
fn run(steps: &[Step], dir: &Path, programs: &Path) {
    let mut script = String::from("exec 2>&1\n");
    for step in steps {
        script.push_str(&step.command);
        script.push_str("\nprintf '\\036%s\\n' \"$?\"\n");
    }
    let home = dir.join("home");
    fs::create_dir_all(home.join("run")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let printed = dir.join("printed");
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .env_clear() // a CI system's own variables are evidence
        .env("PATH", path)
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .stdin(Stdio::null())
        .stdout(File::create(&printed).unwrap())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_child(&shell);
    shell.wait().unwrap();
    let _ = kill_process_group(group, Signal::KILL);

    let printed = fs::read_to_string(printed).unwrap();
    let mut rest = printed.as_str();
    for step in steps {
        let (output, tail) =
            rest.split_once('\u{1e}').unwrap_or_else(|| panic!("ended at: {}", step.command));
        let (status, tail) = tail.split_once('\n').unwrap();
        rest = tail;
        assert_eq!(status, "0", "$ {}\n{output}", step.command);
        let actual: Vec<_> = output.lines().map(str::trim_end).collect();
        assert!(
            lines_match(&step.expected, &actual),
            "$ {}\nexpected:\n{}\nprinted:\n{output}",
            step.command,
            step.expected.join("\n")
        );
    }
}

#[test]
fn the_readme_does_what_it_says() {
    let steps = steps(&read("README.md"));
    assert!(!steps.is_empty(), "the README shows nothing that runs");
    let dir = tempfile::tempdir().unwrap();
    for name in tracked().iter().filter(|name| name.starts_with("config/") || name.starts_with("examples/")) {
        let to = dir.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(name), to).unwrap();
    }
    run(&steps, dir.path(), mayfly().parent().unwrap());
}

#[test]
fn blocks_are_read_as_commands_and_what_they_print() {
    let text = "x\n```sh\n$ not this\n```\n```console\n$ a \\\n  b\none\n\ntwo\n$ c\n```\n";
    let step = |command: &str, expected: &[&str]| Step {
        command: command.to_owned(),
        expected: expected.iter().map(|&line| line.to_owned()).collect(),
    };
    assert_eq!(steps(text), [step("a \\\n  b", &["one", "", "two"]), step("c", &[])]);
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    for (expected, actual, matches) in [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("a...c", "abbc", true),
        ("a...c", "abb", false),
        ("a...", "a", true),
        ("...z", "xyz", true),
        ("a...b...c", "a1b2c", true),
        ("a...b...c", "a1c2b", false),
    ] {
        assert_eq!(line_matches(expected, actual), matches, "{expected} {actual}");
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(lines_match(&lines("a\n...\nd"), &["a", "b", "c", "d"]));
    assert!(lines_match(&lines("a\n..."), &["a"]));
    assert!(!lines_match(&lines("a\n...\nd"), &["a", "b"]));
    assert!(!lines_match(&lines("a"), &["a", "b"]));
}

#[test]
fn one_shell_runs_all_steps_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "```console\n$ X=1; sleep 600 & echo $! >pid\n$ echo \"x is $X\"; echo err >&2\nx is 1\nerr\n```\n";
    run(&steps(text), dir.path(), dir.path());
    let pid: i32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    // The kernel may need a moment to end it; what is asked is whether it runs, not whether it was reaped.
    let ended = || match fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !ended() {
        std::thread::yield_now();
    }
}
