//! Serves the newest certificate: of the Secret that the leader keeps, or of a directory that somebody else does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tracing::{info, warn};

use super::certificate::{Pair, certified, validity};
use super::served::Served;
use super::{Certificates, Own};
use crate::telemetry::{Health, Metrics};

/// How often a directory is looked at. A mounted Secret is swapped by a link, which a watch of its files would miss.
const LOOK: Duration = Duration::from_secs(5);

/// Serves the newest for ever.
pub async fn run(
    client: Client,
    from: Certificates,
    served: Served,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) {
    let mut last: Option<Pair> = None;
    let mut take = |found: Result<Pair, String>| match found {
        Ok(pair) if last.as_ref() == Some(&pair) => {}
        Ok(pair) => {
            match certified(&pair) {
                Ok(key) => {
                    let until = validity(&pair.certificate).map_or(0, |validity| validity.not_after);
                    served.replace(key);
                    metrics.admission.serves_until(until);
                    health.certificate_found();
                    info!(until, "serves a new certificate");
                }
                Err(problem) => {
                    metrics.admission.certificate_failed();
                    warn!(%problem, "the certificate cannot be used: the one before stays");
                }
            }
            last = Some(pair);
        }
        Err(problem) => {
            metrics.admission.certificate_failed();
            warn!(problem, "no certificate can be read: the one before stays");
        }
    };
    match from {
        Certificates::Own(own) => {
            let secrets = watch(client, &own);
            let mut secrets = std::pin::pin!(secrets);
            while let Some(event) = secrets.next().await {
                match event {
                    Ok(secret) => {
                        if let Some(pair) = read(&secret) {
                            take(Ok(pair));
                        }
                    }
                    Err(error) => take(Err(error.to_string())),
                }
            }
        }
        Certificates::Directory(path) => loop {
            take(read_directory(&path));
            tokio::time::sleep(LOOK).await;
        },
    }
}

fn watch(client: Client, own: &Own) -> impl futures::Stream<Item = watcher::Result<Secret>> + use<> {
    let secrets: Api<Secret> = Api::namespaced(client, &own.namespace);
    let one = watcher::Config::default().fields(&format!("metadata.name={}", own.secret));
    watcher(secrets, one).default_backoff().applied_objects()
}

/// What a Secret of ours holds; `None` if it is not whole.
pub(super) fn read(secret: &Secret) -> Option<Pair> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
    };
    Some(Pair { authority: text("ca.crt")?, certificate: text("tls.crt")?, key: text("tls.key")? })
}

/// Two small files, of a file system in memory: it takes no time.
fn read_directory(path: &Path) -> Result<Pair, String> {
    let text = |name: &str| {
        let path = path.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(Pair { authority: String::new(), certificate: text("tls.crt")?, key: text("tls.key")? })
}
