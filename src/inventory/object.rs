//! From the API's typed objects to the pruned ones: the one path for both a live cluster and a file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::whole;
use super::{MODEL_DEPLOYMENT_LABEL, Node, Pod, Taint};

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
            ready: conditions
                .iter()
                .find(|condition| condition.type_ == "Ready")
                .is_none_or(|condition| condition.status == "True"),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        }
    }
}

impl Pod {
    /// What Loadline uses of a pod. One whose `requests` come out empty holds nothing that matters here.
    ///
    /// A request that is not a whole number counts as all there is, so that it never makes room that is not there.
    #[must_use]
    pub fn from_object(object: &core::Pod) -> Self {
        let metadata = &object.metadata;
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        let node = object.spec.as_ref().and_then(|spec| spec.node_name.clone());
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
            requests: object.spec.as_ref().map(requests).unwrap_or_default(),
            model_deployment: metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(MODEL_DEPLOYMENT_LABEL))
                .cloned(),
        }
    }
}

/// Whether a resource is an extended one: only those have a domain.
pub(super) fn is_extended(resource: &str) -> bool {
    resource.contains('/')
}

/// What a pod holds while it is bound: its containers and sidecars together, or its init phase if that takes more.
///
/// Init containers run one after the other, beside the sidecars (restartable init containers) started before them; see
/// "Resource sharing within containers" in the Kubernetes documentation on init and sidecar containers.
fn requests(spec: &core::PodSpec) -> BTreeMap<String, u64> {
    let mut sidecars = BTreeMap::new();
    let mut init_peak: BTreeMap<String, u64> = BTreeMap::new();
    for container in spec.init_containers.as_deref().unwrap_or_default() {
        let own = container_requests(container);
        let peak = if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
            sidecars.clone()
        } else {
            let mut peak = sidecars.clone();
            add(&mut peak, &own);
            peak
        };
        for (resource, amount) in peak {
            let most = init_peak.entry(resource).or_default();
            *most = amount.max(*most);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        add(&mut total, &container_requests(container));
    }
    for (resource, amount) in init_peak {
        let most = total.entry(resource).or_default();
        *most = amount.max(*most);
    }
    total.retain(|_, amount| *amount > 0);
    total
}

/// The extended resources of one container. A limit alone is a request too: the API server makes it one.
fn container_requests(container: &core::Container) -> BTreeMap<String, u64> {
    let amount = |quantity: &Quantity| whole(&quantity.0).unwrap_or(u64::MAX);
    let Some(resources) = &container.resources else { return BTreeMap::new() };
    let limits = resources.limits.iter().flatten();
    // Requests come last and replace the limits of the same resource.
    limits
        .chain(resources.requests.iter().flatten())
        .filter(|(name, _)| is_extended(name))
        .map(|(name, quantity)| (name.clone(), amount(quantity)))
        .collect()
}

fn add(total: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (resource, amount) in more {
        let sum = total.entry(resource.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
