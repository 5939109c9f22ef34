//! The `mayfly` program as a job, an operator or a thief calls it: a process for each call, JSON out.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use mayfly_client::Env;
use mayfly_domain::UnixMillis;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::stage::Wrong;

/// A text member of a JSON object; empty where it has none.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// When a revocation was acknowledged, by the broker's clock.
pub(crate) fn acknowledged(told: &Value) -> Result<UnixMillis, Wrong> {
    let at = chrono::DateTime::parse_from_rfc3339(text(told, "acknowledged"));
    let at = at.map_err(|e| Wrong::of("acknowledged", e))?.timestamp_millis();
    Ok(UnixMillis(u64::try_from(at).unwrap_or_default()))
}

/// Somebody with an environment of their own and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    program: PathBuf,
    env: Vec<(String, String)>,
}

/// What a call gave.
#[derive(Debug)]
pub(crate) struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Person {
    pub(crate) fn new(program: &Path, env: &[(&str, String)]) -> Self {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self { program: program.to_owned(), env }
    }

    /// Takes the variables that `mayfly dev job` prints for `eval`.
    pub(crate) fn with_exports(mut self, printed: &str) -> Self {
        let exports = printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        self.env.extend(
            exports.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').replace("'\\''", "'"))),
        );
        self
    }

    /// The same with another value.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The environment as the client library reads it.
    pub(crate) fn env(&self) -> Env {
        Env::of(self.env.iter().cloned())
    }

    /// The value of a variable.
    pub(crate) fn var(&self, name: &str) -> String {
        self.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
    }

    /// Runs `mayfly` with these words and, on standard input, this text.
    pub(crate) async fn call(&self, words: &str, input: &str) -> Result<Answer, Wrong> {
        let mut child = Command::new(&self.program)
            .args(words.split_whitespace())
            .args(["--output", "json"])
            .env_clear()
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Wrong::of("mayfly", e))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A call that takes no input may have ended already.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(|e| Wrong::of("mayfly", e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ok(Answer { code, out: text(&output.stdout), err: text(&output.stderr) })
    }

    /// Runs `mayfly`, which must succeed, and takes its result.
    pub(crate) async fn json(&self, words: &str) -> Result<Value, Wrong> {
        serde_json::from_str(&self.plain(words, "").await?).map_err(|e| Wrong::of(words, e))
    }

    /// Runs `mayfly`, which must succeed, and takes what it prints.
    pub(crate) async fn plain(&self, words: &str, input: &str) -> Result<String, Wrong> {
        let answer = self.call(words, input).await?;
        match answer.code {
            0 => Ok(answer.out),
            code => Err(Wrong(format!("`mayfly {words}` ended with {code}: {}{}", answer.out, answer.err))),
        }
    }

    /// Runs `mayfly`, which must be refused with this reason and exit code.
    pub(crate) async fn refused(&self, words: &str, reason: &str, code: i32) -> Result<((), String), Wrong> {
        let answer = self.call(words, "").await?;
        let error: Value = serde_json::from_str(&answer.err).unwrap_or_default();
        let error = error.get("error").cloned().unwrap_or_default();
        if answer.code == code && text(&error, "reason") == reason && answer.out.is_empty() {
            return Ok(((), format!("{reason}, exit code {code}")));
        }
        let (was, out, err) = (answer.code, answer.out, answer.err);
        let got = if out.is_empty() { err } else { "it succeeded".to_owned() };
        Err(Wrong(format!("`mayfly {words}` should end with {code} {reason}; it ended with {was}: {got}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_read_as_a_shell_would() {
        let person =
            Person::new(Path::new("x"), &[]).with_exports("export A='b=c'\nexport B='it'\\''s'\nother\n");
        assert_eq!((person.var("A").as_str(), person.var("B").as_str()), ("b=c", "it's"));
        assert_eq!(person.clone().with("A", "new").var("A"), "new");
    }

    #[tokio::test]
    async fn what_is_not_refused_as_it_should_be_is_wrong() {
        let person = |program: &str| Person::new(Path::new(program), &[]);
        assert!(person("/bin/true").refused("mint", "BLOCKED", 5).await.is_err());
        assert!(person("/bin/false").refused("mint", "BLOCKED", 1).await.is_err());
        assert!(person("/bin/false").plain("mint", "").await.is_err());
    }
}
