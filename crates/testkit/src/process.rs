//! A child process that never outlives the test that started it, however that ends.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running child. It ends with this value, and also where the test's own process is killed: a second child
/// holds a pipe to it, and kills the first one when the pipe closes.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    watch: Child,
}

impl Guarded {
    /// Starts `command`.
    ///
    /// # Errors
    /// Where the program can't be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let watch = Command::new("sh")
            .args(["-c", "read _; kill -9 $0 2>/dev/null", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .inspect_err(|_| drop(child.kill()))?;
        Ok(Self { child, watch })
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its status where it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Freezes it (`SIGSTOP`): its connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (`SIGCONT`).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end (`SIGTERM`) and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Ends it at once (`SIGKILL`) and waits.
    pub fn kill9(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.wait()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The watch goes first: once the child is reaped, its number may be another's.
        let _ = self.watch.kill();
        let _ = self.watch.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn it_ends_with_its_value_and_with_its_test() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; exec sleep 600"]).stdout(Stdio::piped());
        let mut guarded = Guarded::spawn(&mut command).unwrap();
        assert!(guarded.ended().is_none());
        let mut pipe = guarded.child().stdout.take().unwrap();
        drop(guarded);
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).unwrap();

        // What the kernel does when the test is killed: the pipe to the watch closes.
        let mut guarded = Guarded::spawn(&mut command).unwrap();
        drop(guarded.watch.stdin.take());
        assert!(!guarded.wait().success());
    }
}
