//! What is counted when it is asked for: the objects and the GPUs that there are. Nothing is added up over time, so that nothing that is gone
//! is counted still.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::inventory::{Inventory, Memory};

/// What is shown of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The status of its Ready condition.
    pub ready: String,
    /// The reason of it.
    pub reason: String,
    /// What there is of numbers, where it was estimated.
    pub figures: Option<Figures>,
}

/// The numbers of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes that each GPU must have.
    pub needs: i64,
    /// Bytes that were estimated, without the margin, over all GPUs of one replica.
    pub estimated: i64,
    /// GPUs of one replica.
    pub gpus: i64,
    /// Nodes that it fits on now.
    pub fits: i64,
}

/// GPUs of one product.
#[derive(Clone, Copy, Debug, Default)]
struct Gpus {
    there: u64,
    free: u64,
    free_bytes: u64,
}

#[derive(Debug, Default)]
struct Cluster {
    products: BTreeMap<String, Gpus>,
    nodes: BTreeMap<&'static str, u64>,
    promised: u64,
}

/// The objects and the GPUs that there are.
#[derive(Debug, Default)]
pub struct Scraped {
    objects: Mutex<HashMap<(String, String), Shown>>,
    cluster: Mutex<Cluster>,
}

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment: a panic elsewhere leaves nothing half done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scraped {
    /// An object is now like this.
    pub fn shows(&self, key: &(String, String), shown: Shown) {
        locked(&self.objects).insert(key.clone(), shown);
    }

    /// An object is gone.
    pub fn forget(&self, key: &(String, String)) {
        locked(&self.objects).remove(key);
    }

    /// Another replica tells of the objects from now on.
    pub fn forget_all(&self) {
        locked(&self.objects).clear();
    }

    /// The objects that are told of.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, String)> {
        locked(&self.objects).keys().cloned().collect()
    }

    /// The cluster is now like this, with so many GPUs promised.
    pub fn cluster(&self, inventory: &Inventory, promised: u64) {
        let mut cluster = Cluster { promised, ..Cluster::default() };
        for one in inventory.nodes() {
            for pool in one.pools.iter() {
                let product = pool.product.clone().unwrap_or_else(|| pool.resource.clone());
                let gpus = cluster.products.entry(product).or_default();
                gpus.there = gpus.there.saturating_add(pool.allocatable);
                gpus.free = gpus.free.saturating_add(pool.free);
                let each = pool.usable_memory().map_or(0, |memory| memory.0);
                gpus.free_bytes = gpus.free_bytes.saturating_add(each.saturating_mul(pool.free));
                let trust = match pool.memory {
                    Memory::Known { .. } => "believed",
                    Memory::Missing { .. } => "missing",
                    Memory::Untrusted { .. } => "untrusted",
                };
                *cluster.nodes.entry(trust).or_default() += 1;
            }
        }
        *locked(&self.cluster) = cluster;
    }
}

/// Gauges of one name.
fn gauges<Labels>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    all: impl IntoIterator<Item = (Labels, i64)>,
) -> Result<(), fmt::Error>
where
    Labels: Clone + std::hash::Hash + Eq + EncodeLabelSet,
{
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in all {
        family.get_or_create(&labels).inc_by(value);
    }
    family.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A gauge: its name, what it says, and where its value is.
type Named<Of, Value> = (&'static str, &'static str, fn(&Of) -> Value);

/// The gauges that every object has one of: name, help and value.
const OF_OBJECTS: [Named<Figures, i64>; 4] = [
    (
        "model_deployment_needs_bytes",
        "Memory that each GPU must have for a ModelDeployment: the estimate times the safety margin",
        |figures| figures.needs,
    ),
    (
        "model_deployment_estimate_bytes",
        "GPU memory that was estimated for one replica of a ModelDeployment, over all its GPUs and without the margin",
        |figures| figures.estimated,
    ),
    ("model_deployment_gpus", "GPUs that one replica of a ModelDeployment takes", |figures| figures.gpus),
    ("model_deployment_fits_nodes", "Nodes that a ModelDeployment fits on now", |figures| figures.fits),
];

/// The gauges that every product has one of.
const OF_PRODUCTS: [Named<Gpus, u64>; 3] = [
    ("gpus", "GPUs that nodes can hand out, by product", |gpus| gpus.there),
    ("gpus_free", "GPUs that no bound pod has requested, by product", |gpus| gpus.free),
    (
        "gpu_memory_free_bytes",
        "Memory of the GPUs that no bound pod has requested, where a label says it, by product",
        |gpus| gpus.free_bytes,
    ),
];

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let objects = locked(&self.objects).clone();
        let name = ("model_deployments", "ModelDeployments, by their Ready condition and its reason");
        let by_reason = objects
            .values()
            .map(|shown| ([("ready", shown.ready.clone()), ("reason", shown.reason.clone())], 1));
        gauges(&mut encoder, name, by_reason)?;
        for (name, help, value) in OF_OBJECTS {
            let all = objects.iter().filter_map(|((namespace, name), shown)| {
                let labels = [("namespace", namespace.clone()), ("name", name.clone())];
                Some((labels, value(shown.figures.as_ref()?)))
            });
            gauges(&mut encoder, (name, help), all)?;
        }
        let cluster = locked(&self.cluster);
        for (name, help, value) in OF_PRODUCTS {
            let all = cluster
                .products
                .iter()
                .map(|(product, gpus)| ([("product", product.clone())], signed(value(gpus))));
            gauges(&mut encoder, (name, help), all)?;
        }
        let name = (
            "gpu_pools",
            "Kinds of GPU of the nodes, by what their memory label is: believed, missing or untrusted",
        );
        let trust = ["believed", "missing", "untrusted"]
            .map(|trust| ([("label", trust)], signed(cluster.nodes.get(trust).copied().unwrap_or(0))));
        gauges(&mut encoder, name, trust)?;
        let name =
            ("gpus_promised", "GPUs that are promised to ModelDeployments whose pods are still to come");
        let none: [(&str, &str); 0] = [];
        gauges(&mut encoder, name, [(none, signed(cluster.promised))])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::controller::testing::cluster;
    use crate::inventory::testing::gpu_node;

    fn text(scraped: &Arc<Scraped>) -> String {
        let mut registry = Registry::with_prefix("loadline");
        registry.register_collector(Box::new(Arc::clone(scraped)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_is_gone_is_counted_no_more() {
        let scraped = Arc::new(Scraped::default());
        let key = |name: &str| ("team".to_owned(), name.to_owned());
        let shown = |ready: &str, reason: &str| Shown {
            ready: ready.to_owned(),
            reason: reason.to_owned(),
            figures: Some(Figures { needs: 7, estimated: 5, gpus: 2, fits: 3 }),
        };
        scraped.shows(&key("a"), shown("True", "Available"));
        scraped.shows(&key("b"), shown("False", "GpusBusy"));
        scraped.shows(&key("b"), shown("False", "Progressing"));
        let before = text(&scraped);
        for line in [
            "loadline_model_deployments{ready=\"True\",reason=\"Available\"} 1",
            "loadline_model_deployments{ready=\"False\",reason=\"Progressing\"} 1",
            "loadline_model_deployment_needs_bytes{namespace=\"team\",name=\"a\"} 7",
            "loadline_model_deployment_estimate_bytes{namespace=\"team\",name=\"a\"} 5",
            "loadline_model_deployment_gpus{namespace=\"team\",name=\"b\"} 2",
            "loadline_model_deployment_fits_nodes{namespace=\"team\",name=\"b\"} 3",
        ] {
            assert!(before.lines().any(|found| found == line), "{line} is not in\n{before}");
        }
        assert!(!before.contains("GpusBusy"), "{before}");
        scraped.forget(&key("b"));
        assert!(!text(&scraped).contains("name=\"b\"") && text(&scraped).contains("name=\"a\""));
        scraped.forget_all();
        assert!(!text(&scraped).contains("name=") && scraped.keys().is_empty());
    }

    #[test]
    fn the_gpus_of_a_cluster_are_told_by_product() {
        let scraped = Arc::new(Scraped::default());
        let mut unlabelled = gpu_node("c", 0, 1);
        unlabelled.labels.retain(|key, _| !key.ends_with("gpu.memory"));
        let nodes = vec![gpu_node("a", 81_920, 4), gpu_node("b", 81_920, 2), unlabelled];
        scraped.cluster(&cluster(nodes, Vec::new()), 3);
        let text = text(&scraped);
        let value = |start: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(start));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            values.sum::<u64>()
        };
        assert_eq!(value("loadline_gpus{"), 7, "{text}");
        assert_eq!(value("loadline_gpus_free{"), 7, "{text}");
        assert_eq!(value("loadline_gpu_memory_free_bytes{"), 6 * 81_920 * 1024 * 1024, "{text}");
        assert_eq!(value("loadline_gpus_promised"), 3, "{text}");
        assert_eq!(value("loadline_gpu_pools{label=\"believed\"}"), 2, "{text}");
        assert_eq!(
            value("loadline_gpu_pools{label=\"believed\"}")
                + value("loadline_gpu_pools{label=\"missing\"}")
                + value("loadline_gpu_pools{label=\"untrusted\"}"),
            3,
            "{text}"
        );
    }
}
