//! The client of the API server.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{Options, RunError};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// A client that tries nothing again by itself: the default one repeats a refused call for up to a quarter of an hour,
/// while whoever asked waits. Watches and reconciles have waits of their own.
pub(super) async fn connect(options: &Options) -> Result<Client, RunError> {
    let wanted = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| {
                RunError::Config(format!("--kubeconfig {}: {error}", path.display()))
            })?;
            Config::from_custom_kubeconfig(kubeconfig, &wanted).await.map_err(|error| {
                RunError::Config(format!("--kubeconfig {}: {error}", path.display()))
            })?
        }
        None if options.context.is_some() => {
            Config::from_kubeconfig(&wanted).await.map_err(|error| RunError::Config(error.to_string()))?
        }
        None => Config::infer().await.map_err(|error| RunError::Config(error.to_string()))?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(RunError::Client)
}
