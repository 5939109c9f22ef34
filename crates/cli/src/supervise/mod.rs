//! Runs one command the way an init would: signals reach it, orphans are reaped, and when it must end, nothing of
//! it is left.
//!
//! The command sees what it would see without a supervisor in between. With a controlling terminal it stays in
//! the supervisor's process group: Ctrl-C and Ctrl-Z reach it from the terminal itself, once, and the shell's
//! job control holds both. Without one it leads a group of its own. Every process that it leaves behind becomes
//! a child of the supervisor, so ending it ends all of them, whatever group or session they moved to.
//!
//! This module knows nothing of credentials, and must never be used beside another waiter for children: it waits
//! for all of them.

mod reap;
mod signals;
mod terminal;
mod tree;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use reap::Reaper;
pub(crate) use signals::Signals;
use terminal::Terminal;
use tree::Tree;

/// How long a killed process may take to go, before it is left to the system.
const GONE: Duration = Duration::from_secs(5);
/// No deadline: longer than any command runs.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What to run, and with which environment.
#[derive(Debug)]
pub(crate) struct Job {
    /// The program, found as a shell would.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// What is added to the environment.
    pub(crate) set: Vec<(String, OsString)>,
    /// What is taken out of it.
    pub(crate) unset: Vec<String>,
}

/// What the keeper of the credentials wants of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Tell it that its files are new.
    HangUp,
    /// End it and start it again.
    Restart,
    /// End it for good.
    End(Why),
}

/// Why a command was ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A lease that it used was revoked.
    Revoked,
    /// Its credentials are over.
    WindowEnded,
}

impl Why {
    /// The exit code that says so.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Revoked => 123,
            Self::WindowEnded => 124,
        }
    }
}

/// The command could not be started.
#[derive(Debug)]
pub(crate) struct NotStarted {
    /// What could not be started.
    pub(crate) program: String,
    /// Why.
    pub(crate) error: io::Error,
}

impl NotStarted {
    /// As `env` has it: 127 where there is no such program, 126 where it can't be run.
    pub(crate) fn code(&self) -> u8 {
        if self.error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// What follows once nothing of the command is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Restart,
    Finish(Why),
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Running,
    /// It was asked to end; at this moment what is left of it is killed.
    Ending(Then, Instant),
    /// It was killed; at this moment nobody waits any longer.
    Killed(Then, Instant),
}

/// The supervisor of one command.
#[derive(Debug)]
pub(crate) struct Supervisor {
    job: Job,
    grace: Duration,
    signals: Signals,
    reaper: Reaper,
    terminal: Option<Terminal>,
}

/// The command while it runs.
struct Child {
    pid: Pid,
    tree: Tree,
    stage: Stage,
    exit: Option<u8>,
}

impl Supervisor {
    /// Gets ready: from now on the signals are this supervisor's, and no descriptor that this process inherited,
    /// beyond the standard three, goes on to the command.
    ///
    /// # Errors
    /// Where the system gives no handlers for signals.
    pub(crate) fn new(job: Job, grace: Duration, signals: Signals) -> io::Result<Self> {
        close_fds::set_fds_cloexec_threadsafe(3, &[]);
        // Where it is refused, orphans go to the init of this machine, which reaps them too.
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
        Ok(Self { job, grace, signals, reaper: Reaper::new()?, terminal: Terminal::find() })
    }

    /// Runs the command to its end and gives its exit code: its own, 128 and the signal that ended it, or that of
    /// the [`Why`] it was ended for.
    ///
    /// # Errors
    /// Where it could not be started, at first or again.
    pub(crate) async fn run(&mut self, orders: &mut mpsc::Receiver<Order>) -> Result<u8, NotStarted> {
        let mut child = self.start()?;
        loop {
            if let Some(code) = self.over(&mut child)? {
                return Ok(code);
            }
            let deadline = match child.stage {
                Stage::Running => Instant::now() + NEVER,
                Stage::Ending(_, at) | Stage::Killed(_, at) => at,
            };
            tokio::select! {
                () = self.reaper.changed() => {
                    let ended = self.reaper.collect();
                    child.exit = child.exit.or(ended.iter().find(|(pid, _)| *pid == child.pid).map(|(_, code)| *code));
                }
                signal = self.signals.next() => self.forward(&child, signal),
                Some(order) = orders.recv() => self.obey(&mut child, order),
                () = sleep_until(deadline) => child.overdue(),
            }
        }
    }

    /// The signals again, for what comes after the command.
    pub(crate) fn into_signals(self) -> Signals {
        self.signals
    }

    fn start(&self) -> Result<Child, NotStarted> {
        let mut command = Command::new(&self.job.program);
        command.args(&self.job.args);
        for name in &self.job.unset {
            command.env_remove(name);
        }
        command.envs(self.job.set.iter().map(|(name, value)| (name, value)));
        let leads = self.terminal.is_none();
        if leads {
            command.process_group(0);
        }
        let no = |error| NotStarted { program: self.job.program.to_string_lossy().into_owned(), error };
        // The handle is dropped: the one waiter of this process waits for it with the others.
        let pid = Pid::from_child(&command.spawn().map_err(no)?);
        Ok(Child { pid, tree: Tree::of(pid, leads), stage: Stage::Running, exit: None })
    }

    /// The exit code, once it is over; starts the command again where that was wanted.
    fn over(&self, child: &mut Child) -> Result<Option<u8>, NotStarted> {
        let then = match (child.stage, child.exit) {
            (Stage::Running, exit) => return Ok(exit),
            (_, None) => return Ok(None),
            (Stage::Ending(then, _), Some(_)) if child.tree.is_gone() => then,
            (Stage::Ending(..), Some(_)) => return Ok(None),
            (Stage::Killed(then, until), Some(_)) => {
                // What forked while its parent was killed is killed now.
                if !child.tree.is_gone() && Instant::now() < until {
                    child.tree.signal(Signal::KILL);
                    return Ok(None);
                }
                then
            }
        };
        match then {
            Then::Finish(why) => Ok(Some(why.code())),
            Then::Restart => {
                *child = self.start()?;
                Ok(None)
            }
        }
    }

    /// Hands a signal on to the command, where the terminal has not done so.
    fn forward(&self, child: &Child, signal: Signal) {
        let from_terminal = [Signal::INT, Signal::QUIT, Signal::WINCH].contains(&signal);
        if from_terminal && self.terminal.as_ref().is_some_and(Terminal::is_in_front) {
            return;
        }
        match (signal, self.terminal.is_none()) {
            (Signal::TSTP | Signal::CONT, true) => {
                let _ = kill_process_group(child.pid, signal);
            }
            _ if child.exit.is_none() => {
                let _ = kill_process(child.pid, signal);
            }
            _ => {}
        }
        if signal == Signal::TSTP {
            let _ = kill_process(getpid(), Signal::STOP);
        }
    }

    fn obey(&self, child: &mut Child, order: Order) {
        let then = match order {
            Order::HangUp if child.exit.is_none() => {
                let _ = kill_process(child.pid, Signal::HUP);
                return;
            }
            Order::HangUp => return,
            Order::Restart => Then::Restart,
            Order::End(why) => Then::Finish(why),
        };
        child.stage = match (child.stage, then) {
            (Stage::Running, _) => {
                child.tree.signal(Signal::TERM);
                // What is stopped could not obey.
                child.tree.signal(Signal::CONT);
                Stage::Ending(then, Instant::now() + self.grace)
            }
            (Stage::Ending(Then::Restart, at), Then::Finish(_)) => Stage::Ending(then, at),
            (Stage::Killed(Then::Restart, at), Then::Finish(_)) => Stage::Killed(then, at),
            (stage, _) => stage,
        };
    }
}

impl Child {
    fn overdue(&mut self) {
        self.stage = match self.stage {
            Stage::Running => Stage::Running,
            Stage::Ending(then, _) => {
                self.tree.signal(Signal::KILL);
                Stage::Killed(then, Instant::now() + GONE)
            }
            // It can't be killed (another user's, or held by a device): nobody waits for it any longer.
            Stage::Killed(then, at) => {
                self.exit = self.exit.or(Some(128 + 9));
                Stage::Killed(then, at)
            }
        };
    }
}
