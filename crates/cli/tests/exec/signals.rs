//! Signals: each reaches the command, once, and a terminal's own are not doubled.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use rustix::process::Signal;

use mayfly_testkit::user::{Running, users};

use super::exec;

/// Says `ready`, then waits for the signal that it expects. What it waits in is killed: right after its birth it
/// still has its shell's traps, and any other signal could be lost on it.
fn waiting(name: &str) -> String {
    format!("trap 'kill -9 $!; echo got {name}; exit 7' {name}; sleep 600 & echo ready; wait $!")
}

#[test]
fn signals_reach_the_command() {
    for user in users() {
        for (name, signal) in [
            ("HUP", Signal::HUP),
            ("INT", Signal::INT),
            ("QUIT", Signal::QUIT),
            ("TERM", Signal::TERM),
            ("USR1", Signal::USR1),
            ("USR2", Signal::USR2),
            ("WINCH", Signal::WINCH),
        ] {
            let mut running = Running::start(exec(user, &[], &waiting(name)));
            assert_eq!(running.line(), "ready");
            running.signal(signal);
            assert_eq!(running.line(), format!("got {name}"), "{user:?}");
            assert_eq!(running.end().0, Some(7), "{user:?}: {name}");
        }
    }
}

#[test]
fn a_command_that_a_signal_ends_is_told_by_its_exit_code() {
    for user in users() {
        for (signal, want) in
            [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::USR1, 138)]
        {
            let mut running = Running::start(exec(user, &[], "echo ready; exec sleep 600"));
            assert_eq!(running.line(), "ready");
            running.signal(signal);
            assert_eq!(running.end().0, Some(want), "{user:?}: {signal:?}");
        }
    }
}

/// The state of a process by its id, as `ps` writes it.
fn is_stopped(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

#[test]
fn a_stop_and_its_end_reach_both() {
    for user in users() {
        let script = "trap 'kill -9 $!; exit 7' USR1; sleep 600 & echo $$; wait $!";
        let mut running = Running::start(exec(user, &[], script));
        let command = running.line();
        let supervisor = running.id().to_string();
        running.signal(Signal::TSTP);
        while !(is_stopped(&command) && is_stopped(&supervisor)) {
            std::thread::yield_now();
        }
        running.signal(Signal::CONT);
        while is_stopped(&command) || is_stopped(&supervisor) {
            std::thread::yield_now();
        }
        running.signal(Signal::USR1);
        assert_eq!(running.end().0, Some(7), "{user:?}");
    }
}

#[test]
fn control_c_reaches_the_command_once() {
    for user in users() {
        // It counts what comes until it is told to end by another signal.
        let script =
            "n=0; trap 'n=$((n + 1)); echo int $n' INT; trap 'kill -9 $!; echo ended $n; exit 9' USR1
            trap '' QUIT; sleep 600 & echo ready $$ $PPID; while :; do wait $!; done";
        let mut inner = exec(user, &[], script);
        let words: Vec<_> = std::iter::once(inner.get_program())
            .chain(inner.get_args())
            .skip(1) // `script` makes the session
            .map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")))
            .collect();
        inner = std::process::Command::new("script");
        // A shell in between: `script` would stop with a child of its own. The key reaches that one, too, and
        // whichever shell it is, it must outlive it.
        let line = format!("trap : INT; {}; exit $?", words.join(" "));
        inner.args(["-qefc", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut terminal = inner.spawn().unwrap();
        let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        let ready = lines.find(|line| line.contains("ready")).unwrap();
        let mut pids = ready.split_whitespace().skip(1).map(|pid| pid.parse::<i32>().unwrap());
        let (command, supervisor) = (pids.next().unwrap(), pids.next().unwrap());
        let mut keys = terminal.stdin.take().unwrap();
        // The supervisor hears of it only when the command has: two at once would count as one.
        kill(supervisor, Signal::STOP);
        while !is_stopped(&supervisor.to_string()) {
            std::thread::yield_now();
        }
        keys.write_all(b"\x03").unwrap();
        assert!(lines.any(|line| line.contains("int 1")), "{user:?}");
        kill(supervisor, Signal::USR1);
        kill(supervisor, Signal::CONT);
        assert!(lines.any(|line| line.ends_with("ended 1")), "{user:?}: {command}");
        drop(keys);
        assert_eq!(terminal.wait().unwrap().code(), Some(9), "{user:?}");
    }
}

fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}
