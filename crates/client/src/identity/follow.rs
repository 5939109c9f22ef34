//! The trust bundle, kept by the broker's stream of it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use mayfly_proto::v1 as pb;
use tokio::sync::watch;

use crate::bundle::Bundle;
use crate::failure::Failure;
use crate::workload::Line;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Follows the stream until nobody wants the bundle any more; where it breaks, another one is opened.
pub(super) async fn follow(line: Line, bundle: watch::Sender<Arc<Bundle>>) {
    tokio::select! {
        () = bundle.closed() => {}
        () = forever(line, &bundle) => {}
    }
}

async fn forever(line: Line, bundle: &watch::Sender<Arc<Bundle>>) {
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    let mut left = waits.build();
    loop {
        match line.watch_bundle().await {
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(sent)) => {
                        left = waits.build();
                        take(sent, bundle, &line);
                    }
                    Ok(None) => break,
                    Err(status) => {
                        tracing::debug!(reason = %Failure::from(status).code, "the bundle's stream broke");
                        break;
                    }
                }
            },
            Err(failed) => tracing::debug!(reason = %failed.code, "no stream of the bundle"),
        }
        tokio::time::sleep(left.next().unwrap_or(LONGEST_WAIT)).await;
    }
}

fn take(sent: pb::TrustBundle, bundle: &watch::Sender<Arc<Bundle>>, line: &Line) {
    match Bundle::try_from(sent) {
        Ok(new) if new.trust_domain == line.trust_domain => {
            bundle.send_if_modified(|held| {
                // A broker that is behind still trusts what another has withdrawn.
                let newer = new.version > held.version;
                if newer {
                    *held = Arc::new(new);
                }
                newer
            });
        }
        Ok(new) => {
            tracing::warn!(trust_domain = %new.trust_domain, "a bundle of another trust domain is not taken")
        }
        Err(failed) => tracing::warn!(facts = ?failed.facts, "a bundle that is not valid is not taken"),
    }
}
