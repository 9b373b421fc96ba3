//! The leader's: makes the certificate, makes it anew in time, and tells the API server whom to trust.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;
use tracing::{info, warn};

use super::certificate::{IssueError, Pair, is_fresh, issue, trusted, validity};
use super::{Own, reload};
use crate::telemetry::Metrics;

/// How often the Secret and the configurations are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How soon after something went wrong.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an API server may take to learn whom to trust, before it meets the certificate.
const SETTLE: Duration = Duration::from_secs(5);
/// How long whoever served before is trusted beside: some replica may not have the new one yet.
const OVERLAP_SECONDS: i64 = 2 * 3600;
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The names that a certificate was made for.
const NAMES: &str = "loadline.dev/names";
/// Whom the API server trusted before.
const PREVIOUS: &str = "previous-ca.crt";

/// Why the certificate could not be kept, this time.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("{what}: {source}")]
    Api { what: &'static str, source: Box<kube::Error> },
    #[error("{0}: no answer from the API server")]
    TimedOut(&'static str),
}

/// Keeps the certificate until dropped.
pub async fn run(client: Client, own: Own, metrics: &Metrics) {
    let keeper = Keeper { client, own };
    loop {
        let wait = match keeper.look(jiff::Timestamp::now().as_second()).await {
            Ok(()) => LOOK,
            Err(error) => {
                metrics.admission.certificate_failed();
                warn!(%error, "cannot keep the webhooks' certificate: trying again");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

struct Keeper {
    client: Client,
    own: Own,
}

impl Keeper {
    async fn look(&self, now: i64) -> Result<(), KeepError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.own.namespace);
        let there = within("Secret", secrets.get_opt(&self.own.secret)).await?;
        let pair = there.as_ref().and_then(reload::read);
        let made_for = there.as_ref().and_then(|secret| secret.metadata.annotations.as_ref()?.get(NAMES));
        match &pair {
            Some(pair) if is_fresh(pair, &self.own.names, made_for.map(String::as_str), now) => {
                let previous = there.as_ref().and_then(previous);
                let is_new = validity(&pair.certificate)
                    .is_some_and(|valid| now < valid.not_before.saturating_add(OVERLAP_SECONDS));
                let previous = previous.filter(|_| is_new).unwrap_or_default();
                let bundle = trusted(&[&pair.authority, &previous], "", now);
                self.publish(|_| bundle.clone()).await?;
                Ok(())
            }
            _ => self.renew(&secrets, there, now).await,
        }
    }

    /// Makes a new pair. It is trusted first, and then served.
    async fn renew(&self, secrets: &Api<Secret>, there: Option<Secret>, now: i64) -> Result<(), KeepError> {
        let lifetime = i64::try_from(self.own.lifetime.as_secs()).unwrap_or(i64::MAX);
        let pair = issue(&self.own.names, now, lifetime)?;
        let served = there.as_ref().and_then(reload::read).map(|pair| pair.authority).unwrap_or_default();
        let mut before = served.clone();
        let published = self.publish(|already| {
            before = trusted(&[&served], already, now);
            trusted(&[&pair.authority], &before, now)
        });
        published.await?;
        if !before.is_empty() {
            tokio::time::sleep(SETTLE).await;
        }
        let secret = self.secret(there, &pair, before);
        let parameters = PostParams::default();
        if secret.metadata.resource_version.is_some() {
            within("Secret", secrets.replace(&self.own.secret, &parameters, &secret)).await?;
        } else {
            within("Secret", secrets.create(&parameters, &secret)).await?;
        }
        info!(secret = self.own.secret, "made a new certificate for the webhooks");
        Ok(())
    }

    fn secret(&self, there: Option<Secret>, pair: &Pair, previous: String) -> Secret {
        let mut secret = there.unwrap_or_default();
        secret.metadata.name = Some(self.own.secret.clone());
        secret.metadata.namespace = Some(self.own.namespace.clone());
        secret.metadata.managed_fields = None;
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(NAMES.to_owned(), self.own.names.join(","));
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert(crate::launch::MANAGED_BY_LABEL.to_owned(), crate::launch::MANAGED_BY.to_owned());
        let data = [
            ("ca.crt", pair.authority.clone()),
            ("tls.crt", pair.certificate.clone()),
            ("tls.key", pair.key.clone()),
            (PREVIOUS, previous),
        ];
        let entry = |(key, text): (&str, String)| (key.to_owned(), ByteString(text.into_bytes()));
        secret.data = Some(data.into_iter().map(entry).collect::<BTreeMap<_, _>>());
        secret
    }

    /// Writes whom to trust into every configuration that is there and says otherwise.
    async fn publish(&self, mut bundle: impl FnMut(&str) -> String) -> Result<(), KeepError> {
        for name in &self.own.configurations {
            let all: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
            let there = within("ValidatingWebhookConfiguration", all.get_opt(name)).await?;
            let hooks = there.and_then(|there| there.webhooks).unwrap_or_default();
            let hooks = hooks.iter().map(|hook| (hook.name.as_str(), &hook.client_config));
            trust(&all, name, hooks, &mut bundle).await?;
            let all: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
            let there = within("MutatingWebhookConfiguration", all.get_opt(name)).await?;
            let hooks = there.and_then(|there| there.webhooks).unwrap_or_default();
            let hooks = hooks.iter().map(|hook| (hook.name.as_str(), &hook.client_config));
            trust(&all, name, hooks, &mut bundle).await?;
        }
        Ok(())
    }
}

async fn trust<'a, K>(
    all: &Api<K>,
    name: &str,
    hooks: impl Iterator<Item = (&'a str, &'a WebhookClientConfig)>,
    bundle: &mut impl FnMut(&str) -> String,
) -> Result<(), KeepError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut changed = Vec::new();
    for (hook, config) in hooks {
        let already = config.ca_bundle.as_ref().map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        let already = already.unwrap_or_default();
        let wanted = bundle(&already);
        if wanted != already {
            changed.push(json!({"name": hook, "clientConfig": {"caBundle": encoded(wanted)}}));
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    // By the name of each webhook: what else is in the configuration is somebody else's.
    let patch = Patch::Strategic(json!({"webhooks": changed}));
    within("caBundle", all.patch(name, &PatchParams::default(), &patch)).await?;
    info!(configuration = name, "told the API server whom to trust");
    Ok(())
}

/// As the API has bytes.
fn encoded(text: String) -> impl Serialize {
    ByteString(text.into_bytes())
}

fn previous(secret: &Secret) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(PREVIOUS)?.0.clone()).ok()
}

async fn within<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, KeepError> {
    match timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(KeepError::Api { what, source: Box::new(source) }),
        Err(_) => Err(KeepError::TimedOut(what)),
    }
}
