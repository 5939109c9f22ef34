//! A service that decides by itself, since it follows what changes.

use mayfly_verify::{Request, Verifier};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::PATIENCE;
use crate::cast::{Calls, Cast};
use crate::stage::{Stage, Wrong};

/// How often the service judges what it has accepted.
const JUDGEMENTS: u32 = 100_000;

fn refused(e: mayfly_domain::Refusal) -> Wrong {
    Wrong::of("the service refused", e.reason)
}

pub(super) async fn play(stage: &mut Stage, cast: &mut Cast) -> Result<(), Wrong> {
    stage.scene("A service that decides by itself");
    let verifier = stage
        .line("a service follows the broker", "a snapshot, then each change as it happens", async {
            let verifier = Verifier::builder(cast.acceptor()?).start()?;
            timeout(PATIENCE, verifier.ready()).await.map_err(|_| Wrong::new("it is never fresh"))?;
            let seen = format!("it knows everything up to change {}", verifier.position().number);
            Ok((verifier, seen))
        })
        .await?;
    let job = cast.job("job-8", "--run 8104").await?;
    let minted = cast.mint(&job, "").await?;
    let proof = Calls::new(&job, &cast.service, &minted).await?.proof()?;
    let guard = stage
        .line("it accepts a job's token", "without asking anybody", async {
            let request = Request {
                method: "POST",
                url: cast.service.as_str(),
                dpop: Some(&proof),
                ..Request::default()
            };
            let judged = verifier.check_token(minted.token(), &request).map_err(refused)?;
            let guard = verifier.guard(&judged);
            guard.check().map_err(refused)?;
            let begun = Instant::now();
            for _ in 0..JUDGEMENTS {
                verifier.still(&judged).map_err(refused)?;
            }
            let each = begun.elapsed() / JUDGEMENTS;
            Ok((
                guard,
                format!(
                    "and judges it {JUDGEMENTS} times again, {} ns each in this unoptimised build",
                    each.as_nanos()
                ),
            ))
        })
        .await?;
    stage
        .line("`mayfly revoke --task gh-8104-1`", "it waits until nobody accepts any more", async {
            let told = cast.operator.json("revoke --task gh-8104-1 --no-block --reason drill").await?;
            let number = |path: &str| told.pointer(path).and_then(Value::as_u64).unwrap_or_default();
            let complete = told.pointer("/barrier/complete").and_then(Value::as_bool).unwrap_or_default();
            if !complete || number("/exposure/feed") != 1 {
                return Err(Wrong(told.to_string()));
            }
            let seen = format!(
                "{} followers confirmed it in {} ms; 1 lease was exposed, by feed, until then",
                number("/barrier/confirmed"),
                number("/barrier/elapsed_ms")
            );
            Ok(((), seen))
        })
        .await?;
    stage
        .line("the service's next judgement", "and the connection that rests on it is ended", async {
            let ended = timeout(PATIENCE, guard.ended()).await;
            let ended = ended.map_err(|_| Wrong::new("the connection goes on"))?;
            let begun = Instant::now();
            match verifier.still(guard.judged()) {
                Ok(()) => Err(Wrong::new("it is still accepted")),
                Err(why) => {
                    let took = begun.elapsed().as_nanos();
                    Ok((
                        (),
                        format!("{} after {took} ns, connection ended with {}", why.reason, ended.reason),
                    ))
                }
            }
        })
        .await?;
    // It takes leave: what is revoked from here on does not wait for it.
    verifier.shutdown().await;
    Ok(())
}
