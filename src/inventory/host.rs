//! What nodes have besides extended resources (CPU, memory, ephemeral storage, room for pods), and what pods request.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::{self, Rounding};

/// The resources that every node has, in the order in which their amounts stand.
pub const HOST_RESOURCES: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];

/// Amounts of [`HOST_RESOURCES`]: CPU in thousandths, memory and storage in bytes, pods by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amounts(pub [u64; HOST_RESOURCES.len()]);

impl Amounts {
    /// Both together, as far as numbers go.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        self.combined(more, u64::saturating_add)
    }

    /// The larger of each.
    #[must_use]
    fn or(self, other: Self) -> Self {
        self.combined(other, u64::max)
    }

    fn combined(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let mut combined = self;
        for (own, others) in combined.0.iter_mut().zip(other.0) {
            *own = with(*own, others);
        }
        combined
    }

    /// Each with the resource's name.
    pub fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
        HOST_RESOURCES.into_iter().zip(self.0)
    }
}

/// What a node can hand out of [`HOST_RESOURCES`]; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity(pub [Option<u64>; HOST_RESOURCES.len()]);

impl Capacity {
    /// What a node's quantities say. One that cannot be read says nothing.
    pub(super) fn of(quantities: &BTreeMap<String, Quantity>) -> Self {
        Self(HOST_RESOURCES.map(|resource| read(resource, quantities.get(resource)?, Rounding::Down)))
    }

    /// The smaller of each, of what is said.
    pub(super) fn least(self, other: Self) -> Self {
        let mut least = self;
        for (own, others) in least.0.iter_mut().zip(other.0) {
            *own = [*own, others].into_iter().flatten().min();
        }
        least
    }

    /// What is said, with the resource's name.
    pub fn named(self) -> impl Iterator<Item = (&'static str, u64)> {
        HOST_RESOURCES.into_iter().zip(self.0).filter_map(|(resource, amount)| Some((resource, amount?)))
    }
}

/// What a pod requests, as kube-scheduler counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requests {
    /// Of what every node has.
    pub host: Amounts,
    /// Of extended resources and huge pages, in whole numbers.
    pub extended: BTreeMap<String, u64>,
}

impl Requests {
    /// What a pod takes while it is bound: its containers and sidecars together, or its init phase if that takes more, and the
    /// overhead of its runtime.
    ///
    /// Init containers run one after the other, beside the sidecars (restartable init containers) started before them; see
    /// "Resource sharing within containers" in the Kubernetes documentation on init and sidecar containers. What the pod as a
    /// whole requests stands instead of the sum of its containers.
    #[must_use]
    pub fn of(spec: &core::PodSpec) -> Self {
        let mut sidecars = Self::default();
        let mut init_peak = Self::default();
        for container in spec.init_containers.as_deref().unwrap_or_default() {
            let own = of_resources(container.resources.as_ref());
            let mut peak = sidecars.clone();
            peak.add(&own);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.clone_from(&peak);
            }
            init_peak.or(&peak);
        }
        let mut total = sidecars;
        for container in &spec.containers {
            total.add(&of_resources(container.resources.as_ref()));
        }
        total.or(&init_peak);
        total.replace(spec.resources.as_ref());
        if let Some(overhead) = &spec.overhead {
            total.add(&of_quantities(overhead.iter()));
        }
        total.extended.retain(|_, amount| *amount > 0);
        let [.., pods] = &mut total.host.0;
        // A container can request no pods: the API server refuses it. A snapshot's pod may stand for several.
        *pods = (*pods).max(1);
        total
    }

    fn add(&mut self, more: &Self) {
        self.host = self.host.plus(more.host);
        for (resource, amount) in &more.extended {
            let sum = self.extended.entry(resource.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    fn or(&mut self, other: &Self) {
        self.host = self.host.or(other.host);
        for (resource, amount) in &other.extended {
            let most = self.extended.entry(resource.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }

    /// Puts what the pod as a whole requests in the place of what its containers do. Its limit counts where neither says.
    fn replace(&mut self, whole: Option<&core::ResourceRequirements>) {
        let Some(whole) = whole else { return };
        let limits = of_quantities(whole.limits.iter().flatten());
        let requests = of_quantities(whole.requests.iter().flatten());
        for ((own, limit), request) in self.host.0.iter_mut().zip(limits.host.0).zip(requests.host.0) {
            *own = match (request, *own) {
                (0, 0) => limit,
                (0, own) => own,
                (request, _) => request,
            };
        }
        for (resource, limit) in limits.extended {
            self.extended.entry(resource).or_insert(limit);
        }
        self.extended.extend(requests.extended);
    }

    /// Whether so little is requested that nothing but a pod's own place is taken.
    #[must_use]
    pub fn is_one_place(&self) -> bool {
        let [cpu, memory, storage, _] = self.host.0;
        [cpu, memory, storage] == [0; 3] && self.extended.is_empty()
    }
}

/// Whether a resource is counted by its name: extended ones, which have a domain, and huge pages.
pub(super) fn is_extended(resource: &str) -> bool {
    resource.contains('/') || resource.starts_with("hugepages-")
}

/// Whether a text is an amount that the API server would accept.
pub(crate) fn is_quantity(text: &str) -> bool {
    quantity::read(text, 0, Rounding::Up).is_some()
}

/// What one container requests. A limit alone is a request too: the API server makes it one.
fn of_resources(resources: Option<&core::ResourceRequirements>) -> Requests {
    let Some(resources) = resources else { return Requests::default() };
    let requests = resources.requests.iter().flatten();
    let is_requested =
        |name: &String| resources.requests.as_ref().is_some_and(|requests| requests.contains_key(name));
    let limits = resources.limits.iter().flatten().filter(|(name, _)| !is_requested(name));
    of_quantities(limits.chain(requests))
}

/// A request that cannot be read counts as all there is, so that it never makes room that is not there.
fn of_quantities<'a>(quantities: impl Iterator<Item = (&'a String, &'a Quantity)>) -> Requests {
    let mut requests = Requests::default();
    for (name, quantity) in quantities {
        if is_extended(name) {
            let amount = quantity::read(&quantity.0, 0, Rounding::Exact).unwrap_or(u64::MAX);
            requests.extended.insert(name.clone(), amount);
        }
        let own = HOST_RESOURCES.iter().zip(&mut requests.host.0).find(|(resource, _)| *resource == name);
        if let Some((resource, own)) = own {
            *own = read(resource, quantity, Rounding::Up).unwrap_or(u64::MAX);
        }
    }
    requests
}

fn read(resource: &str, quantity: &Quantity, rounding: Rounding) -> Option<u64> {
    // CPU is counted in thousandths.
    quantity::read(&quantity.0, if resource == "cpu" { 3 } else { 0 }, rounding)
}
