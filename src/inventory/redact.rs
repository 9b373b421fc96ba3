//! Takes the names out of a snapshot, so that it can be shown to others, and leaves every decision on it as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DeviceId, Node, Snapshot, Sources, Taint};

/// Keys of a source that is not read, and that say what the GPUs are and nothing of whose they are.
const NOT_READ: [&str; 1] = ["karpenter.k8s.gcp/instance-gpu"];

/// The taints and labels whose keys Kubernetes itself defines. Their values may still be names.
const KUBERNETES_KEYS: [&str; 3] = ["node.kubernetes.io/", "kubernetes.io/", "topology.kubernetes.io/"];

/// The label that repeats the node's name.
const HOSTNAME: &str = "kubernetes.io/hostname";

impl Snapshot {
    /// Replaces the names of nodes, pods, namespaces and ModelDeployments, and every label and taint that does not
    /// describe a GPU, by pseudonyms: the same for the same name all through this snapshot. Extended resources that are not
    /// GPUs are left out. The sources say which keys describe GPUs.
    pub fn redact(&mut self, sources: &Sources) {
        let mut names = Pseudonyms::default();
        let nodes = std::mem::take(&mut self.nodes);
        self.nodes = nodes
            .into_values()
            .map(|node| {
                let node = redact_node(Arc::unwrap_or_clone(node), sources, &mut names);
                (node.name.clone(), Arc::new(node))
            })
            .collect();
        let others = std::mem::take(&mut self.others);
        self.others = others.into_iter().map(|(node, sum)| (names.of("node", &node), sum)).collect();
        let slices = std::mem::take(&mut self.slices);
        self.slices = slices
            .into_values()
            .map(|slice| {
                let mut slice = Arc::unwrap_or_clone(slice);
                slice.name = names.of("slice", &slice.name);
                slice.pool = names.of("pool", &slice.pool);
                for device in &mut slice.devices {
                    device.node = device.node.as_ref().map(|node| names.of("node", node));
                    for taint in &mut device.taints {
                        redact_taint(taint, sources, &mut names);
                    }
                }
                (slice.name.clone(), Arc::new(slice))
            })
            .collect();
        let claims = std::mem::take(&mut self.claims);
        self.claims = claims
            .into_iter()
            .map(|((namespace, name), devices)| {
                let name = names.of("claim", &format!("{namespace}/{name}"));
                let device = |(driver, pool, device): DeviceId| (driver, names.of("pool", &pool), device);
                let devices = devices.into_iter().map(device).collect();
                ((names.of("namespace", &namespace), name), devices)
            })
            .collect();
        for pod in &mut self.pods {
            // A pod's name is only unique in its namespace.
            pod.name = names.of("pod", &format!("{}/{}", pod.namespace, pod.name));
            pod.namespace = names.of("namespace", &pod.namespace);
            pod.node = pod.node.as_ref().map(|node| names.of("node", node));
            pod.nominated = pod.nominated.as_ref().map(|node| names.of("node", node));
            pod.model_deployment = pod.model_deployment.as_ref().map(|name| names.of("model", name));
            pod.requests.retain(|resource, _| is_gpu_key(sources, resource));
        }
        let (others, pods) = std::mem::take(&mut self.pods).into_iter().partition(super::Pod::is_other);
        self.pods = pods;
        self.add_others(others);
        self.pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
}

fn redact_node(node: Node, sources: &Sources, names: &mut Pseudonyms) -> Node {
    let name = names.of("node", &node.name);
    let labels = node
        .labels
        .into_iter()
        .map(|(key, value)| match key.as_str() {
            HOSTNAME => (key, name.clone()),
            gpu if is_gpu_key(sources, gpu) => (key, value),
            _ => (names.key("label", key), names.of("value", &value)),
        })
        .collect();
    let mut taints = node.taints;
    for taint in &mut taints {
        redact_taint(taint, sources, names);
    }
    let mut allocatable = node.allocatable;
    allocatable.retain(|resource, _| is_gpu_key(sources, resource));
    Node { name, labels, taints, allocatable, ..node }
}

fn redact_taint(taint: &mut Taint, sources: &Sources, names: &mut Pseudonyms) {
    if !is_gpu_key(sources, &taint.key) {
        taint.key = names.key("label", std::mem::take(&mut taint.key));
        if !taint.value.is_empty() {
            taint.value = names.of("value", &taint.value);
        }
    }
}

fn is_gpu_key(sources: &Sources, key: &str) -> bool {
    sources.is_about_gpus(key) || NOT_READ.iter().any(|prefix| key.starts_with(prefix))
}

/// A pseudonym per kind of name and name, numbered in order of appearance.
#[derive(Default)]
struct Pseudonyms {
    given: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl Pseudonyms {
    fn of(&mut self, kind: &'static str, name: &str) -> String {
        let given = self.given.entry(kind).or_default();
        let next = given.len() + 1;
        given.entry(name.to_owned()).or_insert_with(|| format!("{kind}-{next:05}")).clone()
    }

    fn key(&mut self, kind: &'static str, key: String) -> String {
        if KUBERNETES_KEYS.iter().any(|prefix| key.starts_with(prefix)) { key } else { self.of(kind, &key) }
    }
}
