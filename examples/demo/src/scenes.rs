//! The scenes. Each line says what happens, what it shows, and what must be seen.

use std::path::Path;
use std::time::Duration;

use mayfly_domain::{Clock as _, SystemClock, UnixMillis};
use tokio::time::{Instant, sleep, timeout};

use crate::api::Caller;
use crate::cast::{Calls, Cast, Job, Minted, TRUST_DOMAIN, deploy, refused};
use crate::program::{acknowledged, text};
use crate::stage::{Stage, Wrong, show};

mod following;
mod services;
mod stream;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many refusals the watched job must see after the revocation.
const REFUSALS: usize = 50;
const REPORT: &str = "mint token --profile billing-report --intent report:billing";

/// Plays all of it.
pub(crate) async fn all(stage: &mut Stage, program: &Path, dir: &Path) -> Result<(), Wrong> {
    show(
        "Mayfly's main job, against real processes on loopback. Times include starting `mayfly` for each call.\n",
    );
    stage.scene("A broker on this machine");
    let mut cast = stage
        .line("`mayfly dev` starts in an empty directory", "target 1000 ms; no Redis, no network", async {
            let cast = Cast::new(program, dir).await?;
            let seen = format!("ready in {} ms", cast.broker.ready.as_millis());
            Ok((cast, seen))
        })
        .await?;
    task(stage, &mut cast).await?;
    let (job, live, dead) = revocation(stage, &mut cast).await?;
    following::play(stage, &mut cast).await?;
    stream::play(stage, &cast).await?;
    expiry(stage, &mut cast).await?;
    thieves(stage, &cast, &job).await?;
    evidence(stage, &cast).await?;
    services::play(stage, &cast).await?;
    let cast = restart(stage, cast, &job, &live, &dead).await?;
    record(stage, &cast).await
}

async fn task(stage: &mut Stage, cast: &mut Cast) -> Result<(), Wrong> {
    stage.scene("A CI job deploys");
    let job = cast.job("job-1", "--run 8101").await?;
    stage
        .line("the job opens its task", "named by the CI token's claims: nobody typed it", async {
            let told = job.person.json("task start --intent deploy:payments --reason release-1.4").await?;
            let seen = format!("task {}", text(&told, "task"));
            if text(&told, "task") == "gh-8101-1" { Ok(((), seen)) } else { Err(Wrong(seen)) }
        })
        .await?;
    let minted = stage
        .line("the job mints a token for it", "no stored secret: its CI token and a key of its own", async {
            let minted = cast.mint(&job, "").await?;
            let seen = format!("lease {}", minted.lease());
            Ok((minted, seen))
        })
        .await?;
    let mut caller = Caller::connect(&cast.service).await?;
    let proof = stage
        .line("it calls the service with a proof", "the service asked the broker, now", async {
            let proof = job.person.plain(&format!("proof POST {}", cast.service), minted.token()).await?;
            match caller.call(minted.token(), Some(proof.trim())).await? {
                Ok(workload) => Ok((proof, format!("201 to {workload}"))),
                Err(reason) => Err(Wrong(format!("the service refused: {reason}"))),
            }
        })
        .await?;
    stage
        .line("the same call is sent again", "a copied request is worth nothing", async {
            refused(caller.call(minted.token(), Some(proof.trim())).await?, "PROOF_REPLAYED")
        })
        .await?;
    stage
        .line("the same token without a proof", "a copied token is worth nothing", async {
            refused(caller.call(minted.token(), None).await?, "PROOF_MISSING")
        })
        .await?;
    let again = cast.job("job-1-again", "--run 8101").await?;
    let mut late = Calls::new(&job, &cast.service, &minted).await?;
    stage
        .line("the task completes", "the job is done, and its key is removed", async {
            let told = job.person.json("task complete").await?;
            Ok(((), format!("task {} {}", text(&told, "task"), text(&told, "state"))))
        })
        .await?;
    let shows = "with a valid proof, four minutes before it expires";
    stage.line("its token is shown once more", shows, late.refused("LEASE_ENDED")).await?;
    stage
        .line("the job's evidence mints again", "an ended task is not opened again", async {
            again.person.refused(deploy(), "TASK_ENDED", 5).await
        })
        .await
}

/// What the watched job saw: when it sent a call, when the answer came, and whether it was accepted.
struct Seen {
    sent: UnixMillis,
    came: UnixMillis,
    accepted: bool,
}

/// Calls without a pause until it was refused so often.
async fn watch(mut calls: Calls) -> Result<Vec<Seen>, Wrong> {
    let mut all = Vec::new();
    let mut refusals = 0;
    while refusals < REFUSALS {
        let sent = SystemClock.now();
        let accepted = match calls.once().await? {
            Ok(_) => true,
            Err(reason) if reason == "LEASE_REVOKED" => false,
            Err(reason) => return Err(Wrong(format!("the watched job was refused with {reason}"))),
        };
        refusals += usize::from(!accepted);
        all.push(Seen { sent, came: SystemClock.now(), accepted });
    }
    Ok(all)
}

async fn revocation(stage: &mut Stage, cast: &mut Cast) -> Result<(Job, Minted, Minted), Wrong> {
    stage.scene("An operator ends what a team holds");
    let job = cast.job("job-2", "--run 8102").await?;
    let dead = stage
        .line("a second job mints and works", "it calls the service without a pause from here on", async {
            let minted = cast.mint(&job, "").await?;
            let (_, seen) = Calls::new(&job, &cast.service, &minted).await?.accepted().await?;
            Ok((minted, seen))
        })
        .await?;
    let watched = tokio::spawn(watch(Calls::new(&job, &cast.service, &dead).await?));
    stage
        .line("`mayfly revoke --owner team:payments --block`", "one write, whatever it covers", async {
            let words =
                "revoke --owner team:payments --block --for 1h --reason laptop-stolen --ticket SEC-42";
            let told = cast.operator.json(words).await?;
            let at = acknowledged(&told)?;
            let seen = timeout(PATIENCE, watched).await.map_err(|_| Wrong::new("it is still accepted"))?;
            let seen = seen.map_err(|e| Wrong::of("the watched job", e))??;
            judge(&seen, at)
        })
        .await?;
    stage
        .line(
            "the job mints again by itself",
            "its CI system gives it new evidence; the block refuses",
            async { job.person.refused(deploy(), "BLOCKED", 5).await },
        )
        .await?;
    stage
        .line("the block is lifted", "in time, or by an operator", async {
            cast.operator.json("block lift --owner team:payments --reason laptop-found").await?;
            let left = cast.operator.json("block list").await?;
            match left.get("blocks").and_then(serde_json::Value::as_array) {
                Some(blocks) if blocks.is_empty() => Ok(((), "no block stands".to_owned())),
                _ => Err(Wrong(format!("blocks: {left}"))),
            }
        })
        .await?;
    let live = stage
        .line("new evidence mints", "the team works again", async {
            let minted = cast.mint(&job, "").await?;
            let (_, seen) = Calls::new(&job, &cast.service, &minted).await?.accepted().await?;
            Ok((minted, seen))
        })
        .await?;
    let mut old = Calls::new(&job, &cast.service, &dead).await?;
    let shows = "what was revoked never comes back to life";
    stage.line("the old token stays dead", shows, old.refused("LEASE_REVOKED")).await?;
    Ok((job, live, dead))
}

/// Nothing that was sent after the acknowledgement was accepted; when the first refusal came.
fn judge(seen: &[Seen], acknowledged: UnixMillis) -> Result<((), String), Wrong> {
    let late = seen.iter().filter(|s| s.accepted && s.sent > acknowledged).count();
    if late > 0 {
        return Err(Wrong(format!("{late} calls that were sent after the acknowledgement were accepted")));
    }
    let accepted = seen.iter().filter(|s| s.accepted).count();
    let first = seen.iter().find(|s| !s.accepted).ok_or_else(|| Wrong::new("nothing was refused"))?;
    let after = first.came.0.saturating_sub(acknowledged.0);
    let refused = seen.len() - accepted;
    Ok((
        (),
        format!(
            "{accepted} calls accepted before; refused {after} ms after the acknowledgement, {refused} of {refused}"
        ),
    ))
}

async fn expiry(stage: &mut Stage, cast: &mut Cast) -> Result<(), Wrong> {
    stage.scene("A lease of three seconds");
    let job = cast.job("job-3", "--run 8103").await?;
    let begun = Instant::now();
    let mut calls = stage
        .line("a job mints for three seconds", "whole seconds, never longer than asked", async {
            let minted = cast.mint(&job, "--ttl 3s").await?;
            let mut calls = Calls::new(&job, &cast.service, &minted).await?;
            let (_, seen) = calls.accepted().await?;
            Ok((calls, seen))
        })
        .await?;
    stage
        .line("nobody does anything", "it dies by itself", async {
            loop {
                match calls.once().await? {
                    Ok(_) if begun.elapsed() > Duration::from_millis(3_500) => {
                        return Err(Wrong::new("it is still accepted after 3.5 s"));
                    }
                    Ok(_) => sleep(Duration::from_millis(20)).await,
                    Err(reason) if reason == "LEASE_EXPIRED" => {
                        let after = begun.elapsed().as_secs_f32();
                        return Ok(((), format!("401 {reason} after {after:.1} s")));
                    }
                    Err(reason) => return Err(Wrong(reason)),
                }
            }
        })
        .await
}

async fn thieves(stage: &mut Stage, cast: &Cast, job: &Job) -> Result<(), Wrong> {
    stage.scene("Thieves");
    let stolen = cast.dir.join("stolen");
    let words = "mint token --profile payments-deploy --intent deploy:payments --evidence-file";
    let thief = cast.operator.clone().with("MAYFLY_STATE_DIR", cast.dir.join("thief").display().to_string());
    stage
        .line("a GitHub token, stolen before its first use", "it was made for the job's key alone", async {
            let told = job.person.json("evidence show").await?;
            let audience = text(&told, "audience");
            if !audience.starts_with(&format!("{TRUST_DOMAIN}#")) {
                return Err(Wrong(format!("audience {audience}")));
            }
            let broker = cast.dir.join("broker");
            let words_token = format!("dev ci-token --dir {} --audience {audience}", broker.display());
            let token = cast.operator.plain(&words_token, "").await?;
            std::fs::write(&stolen, token).map_err(|e| Wrong::of("stolen", e))?;
            thief.refused(&format!("{words} {}", stolen.display()), "EVIDENCE_AUDIENCE", 3).await
        })
        .await?;
    let report = cast.job("job-4", "--preset gitlab --job 9104").await?;
    stage
        .line("a GitLab job mints with its one token", "the token now belongs to this job's key", async {
            let told = report.person.json(REPORT).await?;
            Ok(((), format!("lease {}", text(&told, "lease"))))
        })
        .await?;
    let thief = report.person.with("CI_PROJECT_DIR", cast.dir.join("thief-2").display().to_string());
    stage
        .line("the same token, stolen, with another key", "refused, recorded, and told to operators", async {
            thief.refused(REPORT, "EVIDENCE_BOUND_TO_OTHER_KEY", 3).await
        })
        .await
}

async fn evidence(stage: &mut Stage, cast: &Cast) -> Result<(), Wrong> {
    stage.scene("Evidence after a revocation");
    let report = cast.job("job-5", "--preset gitlab --job 9105").await?;
    stage
        .line("a GitLab job mints; its owner is revoked", "without a block this time", async {
            report.person.json(REPORT).await?;
            let told = cast.operator.json("revoke --owner team:billing --no-block --reason drill").await?;
            Ok(((), text(&told, "revocation").to_owned()))
        })
        .await?;
    stage
        .line("the job shows the same evidence again", "what was shown before it is covered by it", async {
            report.person.refused(REPORT, "EVIDENCE_PREDATES_REVOCATION", 5).await
        })
        .await?;
    let again = cast.job("job-6", "--preset gitlab --job 9106").await?;
    stage
        .line("the job is run again", "new evidence is the way back", async {
            let told = again.person.json(REPORT).await?;
            Ok(((), format!("lease {}", text(&told, "lease"))))
        })
        .await
}

async fn restart(
    stage: &mut Stage,
    cast: Cast,
    job: &Job,
    live: &Minted,
    dead: &Minted,
) -> Result<Cast, Wrong> {
    stage.scene("The broker dies");
    let blocked = cast.job("job-7", "--preset gitlab --job 9107").await?;
    let cast = stage
        .line(
            "a block is set; `kill -9`; `mayfly dev` again",
            "what was acknowledged was on the disk",
            async {
                cast.operator.json("block set --owner team:billing --reason audit-week").await?;
                let cast = cast.restart().await?;
                let seen = format!("ready in {} ms", cast.broker.ready.as_millis());
                Ok((cast, seen))
            },
        )
        .await?;
    let mut calls = Calls::new(job, &cast.service, live).await?;
    stage.line("the live token", "the lease is still there", calls.accepted()).await?;
    let mut calls = Calls::new(job, &cast.service, dead).await?;
    stage.line("the revoked token", "so is the revocation", calls.refused("LEASE_REVOKED")).await?;
    let shows = "so is the block";
    stage
        .line("new evidence of the blocked team", shows, blocked.person.refused(REPORT, "BLOCKED", 5))
        .await?;
    services::stolen_key(stage, &cast).await?;
    let mut calls = Calls::new(job, &cast.service, live).await?;
    let shows = "it dies with its key";
    stage.line("the live token", shows, calls.refused("TOKEN_SIGNATURE_INVALID")).await?;
    Ok(cast)
}

async fn record(stage: &mut Stage, cast: &Cast) -> Result<(), Wrong> {
    stage.scene("The record");
    let broker = cast.dir.join("broker");
    stage
        .line("`mayfly audit verify`", "each line holds the hash of the one before it", async {
            let words = format!("audit verify {}", broker.join("audit.jsonl").display());
            let told = cast.operator.json(&words).await?;
            let records = told.get("records").and_then(serde_json::Value::as_u64).unwrap_or_default();
            if records > 20 {
                Ok(((), format!("{records} records, intact")))
            } else {
                Err(Wrong(told.to_string()))
            }
        })
        .await?;
    stage
        .line("every token is searched for in all files", "tokens are stored nowhere", async {
            let mut files = vec![cast.dir.join("broker.log")];
            walk(&broker, &mut files).map_err(|e| Wrong::of("the broker's files", e))?;
            for file in &files {
                let held = std::fs::read(file).map_err(|e| Wrong::of("the broker's files", e))?;
                let found = |token: &String| holds(&held, token.as_bytes());
                if cast.tokens.iter().any(found) {
                    return Err(Wrong(format!("a token is in {}", file.display())));
                }
            }
            Ok(((), format!("{} tokens in none of {} files", cast.tokens.len(), files.len())))
        })
        .await?;
    stage
        .line("who connected to port 6379?", "all of this needs no Redis", async {
            let told = cast.operator.json("status").await?;
            if text(&told, "store") != "embedded" {
                return Err(Wrong(format!("the store is {}", text(&told, "store"))));
            }
            let seen = match &cast.trap {
                None => "the store is a file; the port is somebody's, so it was not watched",
                Some(trap) => match trap.accept() {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => "nobody; the store is a file",
                    Err(e) => return Err(Wrong::of("port 6379", e)),
                    Ok((_, who)) => return Err(Wrong(format!("{who} connected to port 6379"))),
                },
            };
            Ok(((), seen.to_owned()))
        })
        .await
}

fn walk(dir: &Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => walk(&entry.path(), files)?,
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}

fn holds(held: &[u8], token: &[u8]) -> bool {
    !token.is_empty() && held.windows(token.len()).any(|part| part == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_accepted_after_the_acknowledgement_is_wrong() {
        let seen = |sent, accepted| Seen { sent: UnixMillis(sent), came: UnixMillis(sent + 2), accepted };
        assert!(judge(&[seen(1, true), seen(5, false)], UnixMillis(4)).is_ok());
        assert!(judge(&[seen(1, true), seen(5, true), seen(9, false)], UnixMillis(4)).is_err());
        assert!(judge(&[seen(1, true)], UnixMillis(4)).is_err(), "nothing was refused");
    }

    #[test]
    fn a_token_is_found_wherever_it_is() {
        assert!(holds(b"log: tok here", b"tok"));
        assert!(!holds(b"log: to k", b"tok"));
        assert!(!holds(b"log", b""));
    }
}
