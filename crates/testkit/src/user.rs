//! Programs under test as root and as an ordinary user, where root runs the tests; else as the one user there is.

use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::process::Guarded;

/// Whom a test runs a program as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Same,
    /// An ordinary user, for tests that root runs.
    Nobody,
}

const NOBODY: u32 = 65_534;

/// Each user that a program can be run as here; what is left out is said.
pub fn users() -> Vec<User> {
    if geteuid().is_root() {
        return vec![User::Same, User::Nobody];
    }
    #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
    {
        eprintln!("skipped: the run as another user, since root does not run this test");
    }
    vec![User::Same]
}

/// A directory that every user may enter and write to.
pub fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    dir
}

/// The program at a place where every user may run it, whoever built it where.
fn reachable(program: &Path) -> PathBuf {
    static PLACE: OnceLock<(TempDir, Mutex<()>)> = OnceLock::new();
    let (dir, one) = PLACE.get_or_init(|| (open_dir(), Mutex::default()));
    let path = dir.path().join(program.file_name().unwrap());
    let _one = one.lock().unwrap();
    if !path.exists() {
        std::fs::hard_link(program, &path).or_else(|_| std::fs::copy(program, &path).map(drop)).unwrap();
    }
    path
}

impl User {
    /// A command of this user behind the words `before`, with an empty environment but for a path that every user
    /// may search, in a session of its own: no terminal of whoever runs the tests is in play.
    pub fn command(self, before: &[&str], program: &Path) -> Command {
        let nobody = NOBODY.to_string();
        let mut words = before.to_vec();
        if self == Self::Nobody {
            words.extend(["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        }
        let mut command = Command::new("setsid");
        command.args(words).arg(reachable(program));
        command.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Gives a file or directory to this user.
    pub fn take(self, path: &Path) {
        if self == Self::Nobody {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

/// A program that runs, read line by line.
#[derive(Debug)]
pub struct Running {
    process: Guarded,
    lines: Lines<BufReader<ChildStdout>>,
    told: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut process = Guarded::spawn(&mut command).unwrap();
        let child = process.child();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { process, lines, told }
    }

    /// Its process's id.
    pub fn id(&mut self) -> u32 {
        self.process.child().id()
    }

    /// The next line of its standard output; empty at the end.
    pub fn line(&mut self) -> String {
        self.lines.next().map(Result::unwrap).unwrap_or_default()
    }

    /// Reads standard error up to a line that holds `part`.
    pub fn told(&mut self, part: &str) -> String {
        let line = self.told.by_ref().map(Result::unwrap).find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("it never said `{part}`"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end alone, whatever it left behind: its exit code.
    pub fn code(&mut self) -> Option<i32> {
        self.process.wait().code()
    }

    /// Waits for its end and that of all that writes to its standard error: its exit code, and what is left of its standard error.
    pub fn end(mut self) -> (Option<i32>, String) {
        let rest: Vec<_> = self.told.by_ref().map(Result::unwrap).collect();
        (self.process.wait().code(), rest.join("\n"))
    }
}

/// What a finished program printed.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
