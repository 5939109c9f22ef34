//! Runs scripts: which connection, in which generation, and what an error means.

use std::sync::Arc;

use mayfly_domain::UnixMillis;
use mayfly_lease::transition::No;
use mayfly_lease::{GenerationRecord, StoreError};
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

use super::RedisStore;
use super::answer::{self, Answer, Outcome, failed};
use super::keys::Keys;
use super::link::Conn;
use super::pack::Pack;
use super::script::Script;

const BROKERS_CLOCK: u8 = 1;
const NO_FIRST_BINDING: u8 = 2;
const GENERATION_LEN: usize = 30;

/// What a call may wait for, and what may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Mints, renewals, checks and what people ask.
    Hot,
    /// What must be durable when it returns.
    Durable,
    /// Sweeps and undos, which nobody waits for.
    Back,
    /// The feed's reader, which waits in the server.
    Feed,
}

/// A script with what it needs.
#[derive(Debug)]
pub(super) struct Call {
    script: &'static Script,
    keys: Keys,
    args: Vec<Vec<u8>>,
    clocks_agree: bool,
}

impl Call {
    pub(super) fn new(script: &'static Script, keys: Keys, args: Vec<Vec<u8>>) -> Self {
        Self { script, keys, args, clocks_agree: false }
    }

    /// A script that names keys by their one-octet places.
    pub(super) fn placed(
        script: &'static Script,
        keys: Keys,
        args: Vec<Vec<u8>>,
    ) -> Result<Self, StoreError> {
        if keys.fit() { Ok(Self::new(script, keys, args)) } else { Err(No::LineageLimit.into()) }
    }

    /// Refuses where the clocks are too far apart. A revocation never asks for this.
    pub(super) fn needs_clocks(mut self) -> Self {
        self.clocks_agree = true;
        self
    }

    fn command(&self, head: &[u8]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.script.hash).arg(self.keys.as_slice().len());
        for key in self.keys.as_slice() {
            command.arg(key.as_slice());
        }
        command.arg(head);
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }
}

/// What a call stands on.
#[derive(Debug)]
pub(super) struct Footing {
    pub(super) conn: Arc<Conn>,
    pub(super) adopted: Option<GenerationRecord>,
}

impl RedisStore {
    /// Runs a call in the adopted generation. What must be durable and turns up on the hot connection is run
    /// again on the durable one; nothing was written then.
    pub(super) async fn run(&self, lane: Lane, call: Call) -> Result<Answer, StoreError> {
        match self.run_on(lane, &call).await? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Elsewhere => match self.run_on(Lane::Durable, &call).await? {
                Outcome::Done(answer) => Ok(answer),
                Outcome::Elsewhere => Err(StoreError::Corrupt("a script that wants no connection".into())),
            },
        }
    }

    async fn run_on(&self, lane: Lane, call: &Call) -> Result<Outcome, StoreError> {
        let footing = self.footing(lane).await?;
        self.evaluate_over(lane, &footing, call).await
    }

    /// A connection and the generation that is adopted now.
    pub(super) async fn footing(&self, lane: Lane) -> Result<Footing, StoreError> {
        let adopted = *self.adopted.read();
        let conn = self.link(lane).get().await?;
        // Positions and nonces name the server: all connections must lead to the one that was met last.
        if conn.identity != *self.known.identity.lock() {
            self.link(lane).suspect(&conn);
            return Err(StoreError::Unavailable("the connection leads to an earlier server".to_owned()));
        }
        if self.known.went_back() {
            return Err(StoreError::ServerChanged);
        }
        if !conn.keeps_all && self.known.began_on.lock().is_some_and(|began| began != conn.identity) {
            return Err(StoreError::ServerChanged);
        }
        Ok(Footing { conn, adopted })
    }

    /// Runs a call that finds its place anywhere.
    pub(super) async fn run_over(
        &self,
        lane: Lane,
        footing: &Footing,
        call: &Call,
    ) -> Result<Answer, StoreError> {
        match self.evaluate_over(lane, footing, call).await? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Elsewhere => Err(StoreError::Corrupt("a script that wants another connection".into())),
        }
    }

    async fn evaluate_over(&self, lane: Lane, footing: &Footing, call: &Call) -> Result<Outcome, StoreError> {
        // With none adopted, no stored one is it: the script says what there is.
        let generation = footing.adopted.filter(|g| g.settled).map_or(Vec::new(), |g| g.encode());
        let elsewhere = lane != Lane::Durable && self.wait_replicas > 0;
        let head = self.head(&generation, call.clocks_agree, elsewhere);
        self.evaluate(lane, &footing.conn, call, &head).await
    }

    /// Runs a call with a head of its own, on a connection that is known.
    pub(super) async fn evaluate(
        &self,
        lane: Lane,
        conn: &Conn,
        call: &Call,
        head: &[u8],
    ) -> Result<Outcome, StoreError> {
        let command = call.command(head);
        let mut value = send(conn, &command).await;
        if value.as_ref().is_err_and(|e| e.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            // The scripts were flushed: nothing ran.
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(&call.script.source);
            value = match send(conn, &load).await {
                Ok(_) => send(conn, &command).await,
                Err(e) => Err(e),
            };
        }
        let value = value.map_err(|e| self.failed(lane, conn, call.script.name, &e))?;
        let outcome = answer::read(value)?;
        if lane == Lane::Durable && matches!(outcome, Outcome::Done(_)) {
            self.replicated(conn, call.script.name).await?;
        }
        Ok(outcome)
    }

    /// The head of the scripts' arguments; `scripts/core.lua` reads it.
    pub(super) fn head(&self, generation: &[u8], clocks_agree: bool, elsewhere: bool) -> Vec<u8> {
        let clock_flag = if self.brokers_clock { BROKERS_CLOCK } else { 0 };
        let binding_flag = if elsewhere { NO_FIRST_BINDING } else { 0 };
        let mut adopted = [0; GENERATION_LEN];
        adopted.iter_mut().zip(generation).for_each(|(to, from)| *to = *from);
        Pack::default()
            .bytes(&adopted)
            .time(self.clock.now())
            .u32(if clocks_agree { self.skew_ms } else { 0 })
            .u8(clock_flag | binding_flag)
            .done()
    }

    /// Waits until as many replicas as were declared have all that this connection wrote.
    async fn replicated(&self, conn: &Conn, script: &str) -> Result<(), StoreError> {
        if self.wait_replicas == 0 {
            return Ok(());
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.wait_replicas).arg(self.wait_ms);
        match send(conn, &wait).await.map_err(|e| self.failed(Lane::Durable, conn, script, &e))? {
            Value::Int(n) if n >= i64::from(self.wait_replicas) => Ok(()),
            Value::Int(n) => Err(StoreError::Unavailable(format!(
                "`{script}` was written, but {n} of {} replicas acknowledged it",
                self.wait_replicas
            ))),
            _ => Err(StoreError::Corrupt("an answer to WAIT".into())),
        }
    }

    /// What an error means; a connection that failed or kept silent is given up.
    pub(super) fn failed(&self, lane: Lane, conn: &Conn, what: &str, e: &redis::RedisError) -> StoreError {
        let moved_on =
            matches!(e.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown));
        if e.is_io_error() || moved_on {
            self.link(lane).suspect(conn);
        }
        failed(what, e)
    }

    /// The present time by the clock that scripts use, as they returned it.
    pub(super) fn time(answer: &mut Answer) -> Result<UnixMillis, StoreError> {
        Ok(UnixMillis(answer.u64()?))
    }
}

async fn send(conn: &Conn, command: &Cmd) -> RedisResult<Value> {
    command.query_async(&mut conn.mux.clone()).await
}
