//! Deployments as the controller keeps them: what the watch tells them apart by, and the rest as the JSON that it came as,
//! deflated.
//!
//! The types of a pod template hold a place for each of some two hundred fields that it may have. With its affinity, and
//! the record of it, a Deployment's text is some 36 KiB, which says the same names over and over. It is looked at once a
//! reconcile, and kept all the time between.

use std::borrow::Cow;
use std::io::{self, BufReader, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};

use crate::launch::deployment::APPLIED_ANNOTATION;
use crate::launch::record::RECORD_ANNOTATION;
use crate::launch::rollout::Child;

/// A Deployment, packed.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its name, its version and whose it is.
    metadata: ObjectMeta,
    /// All of it that is looked at, as JSON, deflated.
    packed: Box<[u8]>,
}

impl Kept {
    /// Packs what is looked at of a Deployment.
    ///
    /// # Errors
    /// None that is known: what came as JSON can be written as such.
    pub fn pack(mut deployment: Deployment) -> io::Result<Self> {
        prune(&mut deployment);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&serde_json::to_vec(&deployment)?)?;
        let packed = encoder.finish()?.into_boxed_slice();
        let all = deployment.metadata;
        let metadata = ObjectMeta {
            name: all.name,
            namespace: all.namespace,
            uid: all.uid,
            resource_version: all.resource_version,
            owner_references: all.owner_references,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, packed })
    }

    /// The Deployment, without what is not looked at.
    ///
    /// # Errors
    /// None that is known: it was packed from one.
    pub fn unpack(&self) -> serde_json::Result<Deployment> {
        serde_json::from_reader(BufReader::new(DeflateDecoder::new(&*self.packed)))
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::pack(Deployment::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Resource for Kept {
    type DynamicType = ();
    type Scope = <Deployment as Resource>::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        Deployment::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        Deployment::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        Deployment::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        Deployment::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Takes away what is not looked at: who set which field, and all annotations and conditions but a few.
fn prune(deployment: &mut Deployment) {
    deployment.metadata.managed_fields = None;
    if let Some(annotations) = &mut deployment.metadata.annotations {
        annotations.retain(|key, _| [APPLIED_ANNOTATION, RECORD_ANNOTATION].contains(&key.as_str()));
    }
    if let Some(conditions) = deployment.status.as_mut().and_then(|status| status.conditions.as_mut()) {
        conditions.retain(|condition| Child::CONDITIONS.contains(&condition.type_.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment() -> Value {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "message": kind});
        json!({
            "metadata": {
                "name": "llama", "namespace": "team-a", "uid": "u", "resourceVersion": "7", "generation": 3,
                "labels": {"app.kubernetes.io/managed-by": "loadline"},
                "ownerReferences": [{"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "name": "llama", "uid": "v"}],
                "managedFields": [{"manager": "loadline-controller"}],
                "annotations": {
                    "loadline.dev/applied": "1f", "loadline.dev/record": "{}", "deployment.kubernetes.io/revision": "1"},
            },
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": "model", "image": "x"}]}}},
            "status": {
                "observedGeneration": 3,
                "conditions": [condition("Available"), condition("ReplicaFailure"), condition("Progressing")]},
        })
    }

    #[test]
    fn what_is_looked_at_comes_out_as_it_went_in() {
        let typed: Deployment = serde_json::from_value(deployment()).unwrap();
        let kept: Kept = serde_json::from_value(deployment()).unwrap();
        let unpacked = kept.unpack().unwrap();
        assert_eq!(Child::of(&unpacked), Child::of(&typed));
        let mut expected = serde_json::to_value(&typed).unwrap();
        expected["metadata"].as_object_mut().unwrap().remove("managedFields");
        expected["metadata"]["annotations"] =
            json!({"loadline.dev/applied": "1f", "loadline.dev/record": "{}"});
        expected["status"]["conditions"].as_array_mut().unwrap().remove(0);
        assert_eq!(serde_json::to_value(&unpacked).unwrap(), expected);
    }

    #[test]
    fn the_watch_knows_whose_it_is() {
        let kept: Kept = serde_json::from_value(deployment()).unwrap();
        let meta = kept.meta();
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("llama"), Some("team-a")));
        assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("7")));
        assert_eq!(meta.owner_references.as_ref().unwrap()[0].name, "llama");
    }

    #[test]
    fn what_is_no_deployment_is_an_error_and_no_panic() {
        let wrong = serde_json::from_value::<Kept>(json!({"metadata": {"name": 3}}));
        assert!(wrong.unwrap_err().to_string().contains("expected"));
    }
}
