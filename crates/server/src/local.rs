//! The broker's Unix socket in its state directory, for certificates of operators and acceptors.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_broker::Broker;
use mayfly_domain::{Reason, Refusal};
use mayfly_proto::v1::local_service_server::LocalServiceServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::services::Locals;

/// The socket's file.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("local.sock")
}

/// Listens on the socket; the future serves it until `stop`.
///
/// # Errors
/// `CONFIG_INVALID` where the socket can't be made.
pub(crate) fn listen(
    state_dir: &Path,
    broker: Arc<Broker>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, Refusal> {
    let path = socket(state_dir);
    let fail = |e: std::io::Error| {
        let what = format!("{}: {e}", path.display());
        Refusal::new(Reason::ConfigInvalid, what.clone()).fact("problem", what)
    };
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(fail)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    let proof_key = broker.local_proof_key()?;
    Ok(async move {
        let service =
            LocalServiceServer::new(Locals { broker, proof_key }).max_decoding_message_size(16 * 1024);
        let served = tonic::transport::Server::builder()
            .concurrency_limit_per_connection(4)
            .add_service(service)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
            .await;
        if let Err(e) = served {
            tracing::error!(error = %e, "the local socket failed");
        }
        let _ = std::fs::remove_file(&path);
    })
}
