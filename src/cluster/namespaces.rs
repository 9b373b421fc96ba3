//! What each namespace wants done where nothing fits, by its label.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tracing::warn;

use super::relisted::Relisted;
use crate::api::v1alpha1::AdmissionMode;

/// The label of a namespace: `deny`, `warn` or `ignore`.
pub const ADMISSION_LABEL: &str = "loadline.dev/admission";

/// What is wanted, by namespace.
#[derive(Clone, Debug, Default)]
pub struct Modes(Arc<RwLock<HashMap<String, AdmissionMode>>>);

impl Modes {
    /// What a namespace wants; `None` if it does not say.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<AdmissionMode> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(namespace).copied()
    }
}

/// The meaning of the label's value.
#[must_use]
pub fn mode(value: &str) -> Option<AdmissionMode> {
    match value {
        "deny" => Some(AdmissionMode::Deny),
        "warn" => Some(AdmissionMode::Warn),
        "ignore" => Some(AdmissionMode::Ignore),
        _ => None,
    }
}

/// Watches the namespaces that have the label, for ever.
pub async fn run(client: Client, modes: Modes, failed: impl Fn()) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let labelled = watcher::Config::default().labels(ADMISSION_LABEL);
    let events = watcher(namespaces, labelled).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut seen: Relisted<String, Option<AdmissionMode>> = Relisted::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(&mut seen, event, &modes),
            Err(error) => {
                failed();
                warn!(%error, "cannot watch namespaces: trying again; what was read before stays in use");
            }
        }
    }
}

fn take(
    seen: &mut Relisted<String, Option<AdmissionMode>>,
    event: Event<PartialObjectMeta<Namespace>>,
    modes: &Modes,
) {
    let reduce = |namespace: PartialObjectMeta<Namespace>| {
        let value = namespace.labels().get(ADMISSION_LABEL)?;
        let mode = mode(value);
        if mode.is_none() {
            let name = namespace.name_any();
            warn!(namespace = name, value, "{ADMISSION_LABEL} is none of deny, warn and ignore");
        }
        Some(mode)
    };
    if !seen.take(event, reduce, ResourceExt::name_any).is_nothing() {
        let all = seen.iter().filter_map(|(name, mode)| Some((name.clone(), (*mode)?))).collect();
        *modes.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(name: &str, value: &str) -> PartialObjectMeta<Namespace> {
        serde_json::from_value(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "labels": {ADMISSION_LABEL: value}}}))
        .unwrap()
    }

    #[test]
    fn a_namespace_says_what_it_wants_until_its_label_goes() {
        let (mut seen, modes) = (Relisted::default(), Modes::default());
        for event in [
            Event::Init,
            Event::InitApply(namespace("a", "deny")),
            Event::InitApply(namespace("b", "Deny")),
            Event::InitDone,
        ] {
            take(&mut seen, event, &modes);
        }
        assert_eq!((modes.of("a"), modes.of("b"), modes.of("c")), (Some(AdmissionMode::Deny), None, None));
        take(&mut seen, Event::Apply(namespace("a", "ignore")), &modes);
        take(&mut seen, Event::Apply(namespace("c", "warn")), &modes);
        assert_eq!((modes.of("a"), modes.of("c")), (Some(AdmissionMode::Ignore), Some(AdmissionMode::Warn)));
        take(&mut seen, Event::Delete(namespace("a", "ignore")), &modes);
        assert_eq!(modes.of("a"), None);
    }
}
