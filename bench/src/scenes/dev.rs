//! `mayfly dev`, from nothing to its first answer.

use std::process::Stdio;
use std::time::Duration;

use mayfly_proto::v1::GetNonceRequest;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_testkit::process::Guarded;
use tokio::time::{Instant, sleep};

use super::fresh;
use crate::broker::{role, target};
use crate::measure::{Measured, Target};
use crate::site::read;
use crate::{Failed, Plan, Result};

const GIVE_UP: Duration = Duration::from_secs(60);

pub(super) async fn ready(plan: &Plan) -> Result<Measured> {
    let mut all = Vec::new();
    for _ in 0..plan.rounds {
        all.push(once().await?);
    }
    Ok(Measured::of("dev_ready_s", "s", &all).target(Target::AtMost(1.0)))
}

async fn once() -> Result<f64> {
    let (_keep, dir) = fresh()?;
    let begin = Instant::now();
    let mut process = Guarded::spawn(&mut role("dev", &dir, Stdio::inherit())?)?;
    let (url, ca) = loop {
        if let Some(told) = read(&dir.join("told"))
            && let Some((url, ca)) = told.trim_end().split_once('\n')
        {
            break (url.to_owned(), ca.to_owned());
        }
        if process.ended().is_some() || begin.elapsed() > GIVE_UP {
            return Err(Failed::new("`mayfly dev` did not start"));
        }
        sleep(Duration::from_millis(2)).await;
    };
    let channel = mayfly_client::channel::connect(&target(&url, ca.into(), None, None)?).await?;
    WorkloadServiceClient::new(channel).get_nonce(GetNonceRequest {}).await?;
    Ok(begin.elapsed().as_secs_f64())
}
