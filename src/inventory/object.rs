//! From the API's typed objects to the pruned ones: the one path for both a live cluster and a file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use super::host::is_extended;
use super::quantity::whole;
use super::source::hami::{self, REGISTER};
use super::{Capacity, MODEL_DEPLOYMENT_LABEL, Node, Pod, Requests, Taint};

impl Node {
    /// What Loadline uses of a node.
    ///
    /// A node without a `Ready` condition counts as ready: kube-scheduler goes by the `not-ready` taint, which is kept.
    /// An allocatable quantity that is not a whole number counts as none.
    #[must_use]
    pub fn from_object(object: &core::Node) -> Self {
        let spec = object.spec.as_ref();
        let status = object.status.as_ref();
        // The API documents that allocatable defaults to capacity.
        let resources = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            labels: object.metadata.labels.clone().unwrap_or_default(),
            annotations: annotations(object),
            taints: taints
                .iter()
                .map(|taint| Taint {
                    key: taint.key.clone(),
                    value: taint.value.clone().unwrap_or_default(),
                    effect: taint.effect.clone(),
                })
                .collect(),
            allocatable: resources
                .into_iter()
                .flatten()
                .filter(|(name, _)| is_extended(name))
                .map(|(name, quantity)| (name.clone(), whole(&quantity.0).unwrap_or(0)))
                .collect(),
            host: resources.map(Capacity::of).unwrap_or_default(),
            ready: conditions
                .iter()
                .find(|condition| condition.type_ == "Ready")
                .is_none_or(|condition| condition.status == "True"),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        }
    }
}

/// The annotations that are read.
fn annotations(object: &core::Node) -> BTreeMap<String, String> {
    let text = object.metadata.annotations.as_ref().and_then(|all| all.get(REGISTER));
    text.map(|text| (REGISTER.to_owned(), hami::kept(text))).into_iter().collect()
}

impl Pod {
    /// What Loadline uses of a pod.
    ///
    /// A request that is not a whole number counts as all there is, so that it never makes room that is not there.
    #[must_use]
    pub fn from_object(object: &core::Pod) -> Self {
        let metadata = &object.metadata;
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        let node = object.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let Requests { host, extended } = object.spec.as_ref().map(Requests::of).unwrap_or_default();
        Self {
            namespace: metadata
                .namespace
                .clone()
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
            name: metadata.name.clone().unwrap_or_default(),
            node: node.filter(|node| !node.is_empty()),
            nominated: object
                .status
                .as_ref()
                .and_then(|status| status.nominated_node_name.clone())
                .filter(|node| !node.is_empty()),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            requests: extended,
            host,
            model_deployment: metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(MODEL_DEPLOYMENT_LABEL))
                .cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Amounts;
    use serde_json::json;

    fn pod(spec: &serde_json::Value) -> Pod {
        let object = json!({"metadata": {"name": "p"}, "spec": spec});
        Pod::from_object(&serde_json::from_value(object).unwrap())
    }

    fn container(gpus: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"nvidia.com/gpu": gpus, "cpu": "4"}}})
    }

    #[test]
    fn a_pod_holds_the_larger_of_its_phases() {
        let sidecar = |gpus: &str| {
            let mut sidecar = container(gpus);
            sidecar["restartPolicy"] = json!("Always");
            sidecar
        };
        for (what, containers, init, expected) in [
            ("one", vec![container("2")], vec![], 2),
            ("sum of containers", vec![container("2"), container("1")], vec![], 3),
            ("largest init", vec![container("1")], vec![container("4"), container("2")], 4),
            ("init below the sum", vec![container("4")], vec![container("1")], 4),
            ("sidecar adds", vec![container("1")], vec![sidecar("1")], 2),
            ("init beside an earlier sidecar", vec![container("1")], vec![sidecar("1"), container("3")], 4),
            ("init before a later sidecar", vec![container("1")], vec![container("3"), sidecar("1")], 3),
            ("overflow saturates", vec![container("18446744073709551615"), container("1")], vec![], u64::MAX),
            ("a malformed request holds all", vec![container("some")], vec![], u64::MAX),
        ] {
            let pod = pod(&json!({"containers": containers, "initContainers": init}));
            assert_eq!(pod.requests, BTreeMap::from([("nvidia.com/gpu".to_owned(), expected)]), "{what}");
        }
    }

    #[test]
    fn a_limit_alone_is_a_request_and_zero_is_none() {
        let limit = json!({"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]});
        assert_eq!(pod(&limit).requests, BTreeMap::from([("nvidia.com/gpu".to_owned(), 2)]));
        assert_eq!(pod(&json!({"containers": [container("0")]})).requests, BTreeMap::new());
        assert_eq!(pod(&json!({"containers": []})).requests, BTreeMap::new());
    }

    #[test]
    fn cpu_and_memory_are_counted_as_the_scheduler_does() {
        const MI: u64 = 1 << 20;
        let asks = |cpu: &str, memory: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}});
        let stays = |mut container: serde_json::Value| {
            container["restartPolicy"] = json!("Always");
            container
        };
        let limits = json!({"name": "c", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}});
        let (one, big) = (asks("1", "1Gi"), asks("250m", "4Gi"));
        for (what, spec, [cpu, memory, storage, pods]) in [
            ("nothing", json!({"containers": [{"name": "c"}]}), [0, 0, 0, 1]),
            ("one", json!({"containers": [one]}), [1000, 1024 * MI, 0, 1]),
            ("sum", json!({"containers": [one, big]}), [1250, 5120 * MI, 0, 1]),
            (
                "each resource by its own phase",
                json!({"containers": [one], "initContainers": [big]}),
                [1000, 4096 * MI, 0, 1],
            ),
            (
                "a sidecar adds to both phases",
                json!({"containers": [one], "initContainers": [stays(one.clone()), big]}),
                [2000, 5120 * MI, 0, 1],
            ),
            ("a limit is a request", json!({"containers": [limits]}), [500, 1024 * MI, 0, 1]),
            (
                "overhead",
                json!({"containers": [one], "overhead": {"cpu": "100m", "memory": "64Mi"}}),
                [1100, 1088 * MI, 0, 1],
            ),
            (
                "the pod as a whole",
                json!({"containers": [one], "resources": {"requests": {"cpu": "8"}, "limits": {"memory": "2Gi"}}}),
                [8000, 1024 * MI, 0, 1],
            ),
            (
                "the limit of the pod as a whole",
                json!({"containers": [{"name": "c"}], "resources": {"limits": {"memory": "2Gi"}}}),
                [0, 2048 * MI, 0, 1],
            ),
            (
                "storage",
                json!({"containers": [{"name": "c", "resources": {"requests": {"ephemeral-storage": "1M"}}}]}),
                [0, 0, 1_000_000, 1],
            ),
            ("what cannot be read", json!({"containers": [asks("lots", "1e-3")]}), [u64::MAX, 1, 0, 1]),
        ] {
            assert_eq!(pod(&spec).host, Amounts([cpu, memory, storage, pods]), "{what}");
        }
    }

    #[test]
    fn what_a_node_does_not_say_is_not_zero() {
        let node = |allocatable: serde_json::Value| {
            let object = json!({"metadata": {"name": "n"}, "status": {"allocatable": allocatable}});
            Node::from_object(&serde_json::from_value(object).unwrap()).host
        };
        assert_eq!(node(json!({"nvidia.com/gpu": "4"})), Capacity::default());
        assert_eq!(
            node(json!({"cpu": "7910m", "memory": "1Ki", "ephemeral-storage": "x", "pods": "110"})),
            Capacity([Some(7910), Some(1024), None, Some(110)])
        );
    }

    #[test]
    fn only_pods_that_are_over_have_finished() {
        for (phase, finished) in [
            ("Pending", false),
            ("Running", false),
            ("Unknown", false),
            ("Succeeded", true),
            ("Failed", true),
        ] {
            let object = json!({"metadata": {"name": "p"}, "status": {"phase": phase}});
            assert_eq!(
                Pod::from_object(&serde_json::from_value(object).unwrap()).finished,
                finished,
                "{phase}"
            );
        }
    }

    #[test]
    fn readiness_is_the_condition_and_absent_is_ready() {
        let node = |status: serde_json::Value| {
            Node::from_object(
                &serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).unwrap(),
            )
        };
        for (status, ready) in [
            (json!({}), true),
            (json!({"conditions": [{"type": "MemoryPressure", "status": "False"}]}), true),
            (json!({"conditions": [{"type": "Ready", "status": "True"}]}), true),
            (json!({"conditions": [{"type": "Ready", "status": "False"}]}), false),
            (json!({"conditions": [{"type": "Ready", "status": "Unknown"}]}), false),
        ] {
            assert_eq!(node(status.clone()).ready, ready, "{status}");
        }
        let quantities = node(json!({"allocatable": {"nvidia.com/gpu": "4", "x.y/odd": "many", "cpu": "8"}}));
        assert_eq!(
            quantities.allocatable,
            BTreeMap::from([("nvidia.com/gpu".to_owned(), 4), ("x.y/odd".to_owned(), 0)])
        );
        assert_eq!(
            node(json!({"capacity": {"nvidia.com/gpu": "2"}})).allocatable.get("nvidia.com/gpu"),
            Some(&2)
        );
    }
}
