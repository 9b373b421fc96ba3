//! Reading a live cluster with kubectl's own flags and files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::resource::v1 as resource;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;

use crate::api::ModelDeployment;
use crate::inventory::{Node, Pod, Slice, Snapshot, held};

use super::failure::Failure;

/// Objects per answer: small enough for a server that is under load.
const PAGE: u32 = 500;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Which cluster.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ConnectionArguments {
    /// The context of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// The kubeconfig file [default: KUBECONFIG, or ~/.kube/config; in a pod its service account]
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
}

impl ConnectionArguments {
    /// The configuration of a client that gives up rather than waits for ever.
    pub(super) async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let file =
                    Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(no_cluster)?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(no_cluster)?,
            (None, None) => Config::infer().await.map_err(no_cluster)?,
        };
        // The default policy tries again for minutes, silently.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        config.read_timeout = Some(ANSWER);
        Ok(config)
    }
}

fn no_cluster(error: impl std::error::Error) -> Failure {
    Failure::error(format!("no cluster can be reached: {error}"))
        .hint("name a kubeconfig with --kubeconfig, or read a file with --snapshot FILE: `kubectl get nodes,pods -A -o json` writes one")
}

/// A live cluster.
pub(super) struct Cluster {
    client: Client,
    /// The namespace of the kubeconfig's context.
    pub(super) namespace: String,
}

impl Cluster {
    /// Connects. Nothing is asked of the server yet.
    pub(super) async fn connect(arguments: &ConnectionArguments) -> anyhow::Result<Self> {
        let config = arguments.config().await?;
        let namespace = config.default_namespace.clone();
        Ok(Self { client: Client::try_from(config).context("cannot make a client")?, namespace })
    }

    /// The nodes, and the pods that may hold something.
    pub(super) async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let nodes = Api::<core::Node>::all(self.client.clone());
        let nodes = all(&nodes, "nodes", ListParams::default(), Node::from_object).await?;
        let unfinished = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let pods = Api::<core::Pod>::all(self.client.clone());
        let pods = all(&pods, "pods", unfinished, Pod::from_object).await?;
        let slices = Api::<resource::ResourceSlice>::all(self.client.clone());
        let slices = if_there(&slices, "resourceslices", Slice::from_object).await?;
        let claims = Api::<resource::ResourceClaim>::all(self.client.clone());
        let claim = |claim: &resource::ResourceClaim| {
            let metadata = &claim.metadata;
            let key =
                (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
            Some((key, held(claim))).filter(|(_, held)| !held.is_empty())
        };
        let claims = if_there(&claims, "resourceclaims", claim).await?.into_iter().collect();
        let slices = slices.into_iter().map(|slice| (slice.name.clone(), Arc::new(slice))).collect();
        Ok(Snapshot { slices, claims, ..Snapshot::new(nodes, pods) })
    }

    /// The ModelDeployments of a namespace, or of all.
    pub(super) async fn model_deployments(
        &self,
        namespace: Option<&str>,
    ) -> anyhow::Result<Vec<ModelDeployment>> {
        let api = namespace.map_or_else(
            || Api::<ModelDeployment>::all(self.client.clone()),
            |namespace| Api::namespaced(self.client.clone(), namespace),
        );
        all(&api, "modeldeployments.loadline.dev", ListParams::default(), Clone::clone).await
    }
}

impl Cluster {
    /// Whether there is such a namespace. Who may not look at namespaces is told that there is: nothing says otherwise.
    pub(super) async fn has_namespace(&self, name: &str) -> anyhow::Result<bool> {
        let api = Api::<core::Namespace>::all(self.client.clone());
        let answer = tokio::time::timeout(ANSWER, api.get_opt(name)).await;
        match answer.map_err(|_| refused_after("namespaces"))? {
            Ok(found) => Ok(found.is_some()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(true),
            Err(error) => Err(refused("namespaces", &error).into()),
        }
    }

    /// A ConfigMap, if it is there.
    pub(super) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Option<core::ConfigMap>> {
        let api = Api::<core::ConfigMap>::namespaced(self.client.clone(), namespace);
        let answer = tokio::time::timeout(ANSWER, api.get_opt(name)).await;
        answer.map_err(|_| refused_after("configmaps"))?.map_err(|error| refused("configmaps", &error).into())
    }
}

/// What is used of every object of a kind that not every cluster has, and not everyone may list: then there is none.
async fn if_there<K, T>(api: &Api<K>, kind: &str, prune: impl Fn(&K) -> Option<T>) -> anyhow::Result<Vec<T>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match tokio::time::timeout(ANSWER, api.list(&ListParams::default().limit(1))).await {
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_forbidden() => Ok(Vec::new()),
        _ => Ok(all(api, kind, ListParams::default(), prune).await?.into_iter().flatten().collect()),
    }
}

/// Every object of a kind, page by page, each cut down to what is used as soon as it has come.
async fn all<K, T>(
    api: &Api<K>,
    kind: &str,
    params: ListParams,
    prune: impl Fn(&K) -> T,
) -> anyhow::Result<Vec<T>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    let mut params = params.limit(PAGE);
    loop {
        let answer = tokio::time::timeout(ANSWER, api.list(&params)).await;
        let page = match answer {
            Ok(page) => page.map_err(|error| refused(kind, &error))?,
            Err(_) => return Err(refused_after(kind).into()),
        };
        found.extend(page.items.iter().map(&prune));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn refused_after(kind: &str) -> Failure {
    Failure::error(format!("the cluster did not list {kind} within {} seconds", ANSWER.as_secs()))
        .hint("see whether `kubectl get --raw /readyz` answers")
}

fn refused(kind: &str, error: &kube::Error) -> Failure {
    let failure = Failure::error(format!("the cluster does not list {kind}: {error}"));
    match error {
        kube::Error::Api(status) if status.is_forbidden() => failure.hint(format!(
            "this user must be allowed to list {kind}; without the right, read a file with --snapshot FILE that somebody with it has written"
        )),
        kube::Error::Api(status) if status.is_not_found() => {
            failure.hint("the custom resource is not installed: `loadline crds | kubectl apply --server-side -f -`")
        }
        _ => failure.hint("see whether `kubectl get nodes` answers; without a cluster, read a file with --snapshot FILE"),
    }
}

/// Runs the one thing that waits for the network.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?
        .block_on(future)
}
