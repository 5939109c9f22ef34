//! Signals that end the server.

use tokio::signal::unix::{SignalKind, signal};

/// Done when the process is asked to end, by `SIGTERM` or `SIGINT`.
pub async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals can't be awaited; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
