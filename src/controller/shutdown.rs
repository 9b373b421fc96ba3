//! The signals that end the process.

use tokio::signal::unix::{SignalKind, signal as listen};
use tracing::warn;

/// Completes on SIGTERM or SIGINT.
pub(super) async fn signal() {
    let (term, int) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    match (term, int) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            warn!(%error, "cannot listen for signals: the process ends only when it is killed");
            std::future::pending::<()>().await;
        }
    }
}
