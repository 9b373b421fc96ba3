//! A label of a site's own, as a setting describes it: its key, its unit, the resource whose GPUs it is of, and, where it is of
//! all GPUs of a node together, the label that counts them.

use std::fmt;
use std::str::FromStr;

use super::nvidia::{self, GpuFeatureDiscovery, Replicas};
use super::{Meaning, Source, Sources, TOO_LARGE_MIB, Wish, digits, untrusted};
use crate::inventory::{
    Expression, GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Trust, Vendor, is_label_key,
};
use crate::units::{Bytes, GIB, MIB, Overflow, shorten};

/// How a setting is written.
pub const SITE_LABEL_FORM: &str = "KEY=UNIT[,resource=RESOURCE][,count=KEY]";
/// Units that a label may be in.
const UNITS: [(&str, u64); 5] =
    [("MiB", MIB), ("GiB", GIB), ("MB", 1_000_000), ("GB", 1_000_000_000), ("bytes", 1)];
/// From here on it is more than any GPU has.
const TOO_LARGE: u64 = TOO_LARGE_MIB * MIB;
/// A sum is only comparable for a known number of GPUs: a term for each up to this.
const MOST_GPUS: u64 = 16;

/// A label of a site's own that says memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteLabel {
    /// Its key.
    key: String,
    /// Bytes of one of its unit.
    unit: u64,
    /// The resource whose GPUs it is of.
    resource: String,
    /// Whose GPUs those are.
    vendor: Vendor,
    /// The label with the number of GPUs that it is the sum over; none where it is of one.
    count: Option<String>,
}

/// Why a setting describes no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteLabelError {
    /// Not of the form.
    #[error("\"{0}\" is not of the form {SITE_LABEL_FORM}, such as example.com/gpu-memory=GiB")]
    Form(String),
    /// Not the key of a label.
    #[error("\"{0}\" is not the key of a label; write one such as example.com/gpu-memory")]
    Key(String),
    /// A label that is read already.
    #[error("{0} is read as it is; name a label of your own")]
    Known(String),
    /// Not a unit.
    #[error("\"{0}\" is not a unit; write MiB, GiB, MB, GB or bytes")]
    Unit(String),
    /// Not the resource of a GPU.
    #[error(
        "\"{0}\" is no resource of GPUs; write one such as nvidia.com/gpu, amd.com/gpu or gpu.intel.com/xe"
    )]
    Resource(String),
}

impl FromStr for SiteLabel {
    type Err = SiteLabelError;

    fn from_str(text: &str) -> Result<Self, SiteLabelError> {
        let form = || SiteLabelError::Form(shorten(text));
        let mut parts = text.split(',').map(|part| part.split_once('='));
        let (key, unit) = parts.next().flatten().ok_or_else(form)?;
        let label = |key: &str| {
            let sources = Sources::default();
            match key {
                key if !is_label_key(key) => Err(SiteLabelError::Key(shorten(key))),
                key if sources.meaning(key) != Meaning::Other => Err(SiteLabelError::Known(shorten(key))),
                key => Ok(key.to_owned()),
            }
        };
        let (_, bytes) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| SiteLabelError::Unit(shorten(unit)))?;
        let (mut resource, mut count) = (None, None);
        for part in parts {
            match part.ok_or_else(form)? {
                ("resource", name) if resource.is_none() => resource = Some(name),
                ("count", key) if count.is_none() => count = Some(label(key)?),
                _ => return Err(form()),
            }
        }
        let resource = resource.unwrap_or(nvidia::GPU);
        let vendor = Vendor::of_resource(resource).filter(|_| Sources::default().is_resource(resource));
        let vendor = vendor.ok_or_else(|| SiteLabelError::Resource(shorten(resource)))?;
        Ok(Self { key: label(key)?, unit: *bytes, resource: resource.to_owned(), vendor, count })
    }
}

impl fmt::Display for SiteLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| *bytes == self.unit).map_or("bytes", |(name, _)| name);
        write!(f, "{}={unit},resource={}", self.key, self.resource)?;
        self.count.iter().try_for_each(|key| write!(f, ",count={key}"))
    }
}

impl SiteLabel {
    /// The memory that a node's labels state; `None` where this label is not there.
    fn memory(&self, node: &Node) -> Option<Memory> {
        let value = node.labels.get(&self.key)?;
        let fault = |fault| untrusted(&self.key, value, fault);
        let gpus = match &self.count {
            None => 1,
            Some(key) => {
                let says = node.labels.get(key).map(String::as_str);
                let known = (1..=MOST_GPUS).find(|gpus| says == Some(gpus.to_string().as_str()));
                match known {
                    Some(gpus) => gpus,
                    None => {
                        return Some(untrusted(key, says.unwrap_or_default(), LabelFault::SumOfUnknownMany));
                    }
                }
            }
        };
        let bytes = digits(value).map(|amount| amount.checked_mul(self.unit).map(|all| all / gpus));
        Some(match bytes {
            Err(problem) => fault(problem),
            Ok(Some(0)) => fault(LabelFault::Zero),
            Ok(Some(bytes)) if bytes < TOO_LARGE => Memory::Known {
                bytes: Bytes(bytes),
                label: self.key.clone(),
                source: "site".into(),
                trust: Trust::Reported,
            },
            Ok(_) => fault(LabelFault::TooLarge),
        })
    }

    /// What the label must be, for each number of GPUs that it may be of.
    fn at_least(&self, least: Bytes) -> Result<Vec<Vec<Expression>>, Overflow> {
        let of = |gpus: u64, counted: Option<Expression>| {
            // `Gt` and `Lt` are strict, and whole numbers are all that a label may be.
            let units = least.times(gpus)?.0.div_ceil(self.unit).max(1);
            let below = (TOO_LARGE * gpus).div_ceil(self.unit);
            let known = [Expression::above(&self.key, units - 1), Expression::below(&self.key, below)];
            Ok(counted.into_iter().chain(known).collect())
        };
        match &self.count {
            None => Ok(vec![of(1, None)?]),
            Some(key) => {
                let counted = |gpus: u64| Some(Expression::is_in(key, [gpus.to_string()]));
                (1..=MOST_GPUS).map(|gpus| of(gpus, counted(gpus))).collect()
            }
        }
    }
}

impl Source for SiteLabel {
    fn name(&self) -> &'static str {
        "site"
    }

    fn domains(&self) -> Vec<&str> {
        std::iter::once(self.key.as_str()).chain(self.count.as_deref()).collect()
    }

    fn is_resource(&self, resource: &str) -> bool {
        nvidia::base(resource) == nvidia::base(&self.resource)
    }

    fn meaning(&self, key: &str) -> Meaning {
        if key == self.key { Meaning::Memory } else { Meaning::Other }
    }

    fn taints(&self) -> Vec<&str> {
        Vec::new()
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let Some(memory) = self.memory(node) else { return Vec::new() };
        let fault = |fault| untrusted(&self.key, &node.labels[&self.key], fault);
        if self.vendor == Vendor::Nvidia {
            // How its GPUs are handed out, GPU Feature Discovery says, which leaves out the memory where it cannot read it.
            let mut pools = GpuFeatureDiscovery.pools(node);
            pools.retain(|pool| self.is_resource(&pool.resource));
            for pool in &mut pools {
                let labels = nvidia::Labels::of(node, &pool.resource);
                pool.memory = match (&memory, labels.card()) {
                    _ if labels.is_mps() => fault(LabelFault::Divided),
                    _ if labels.replicas() == Replicas::Sliced => fault(LabelFault::MigMixed),
                    _ if labels.is_slice_of_gpu() => fault(LabelFault::PartOfACard),
                    (Memory::Known { bytes, .. }, Some(card)) if card.is_far(*bytes) => {
                        fault(LabelFault::NotTheCard { mib: card.mib })
                    }
                    (Memory::Known { bytes, label, source, trust }, Some(card)) => Memory::Known {
                        bytes: (*bytes).min(Bytes::from_mib(card.most_mib()).unwrap_or(*bytes)),
                        label: label.clone(),
                        source: source.clone(),
                        trust: *trust,
                    },
                    _ => memory.clone(),
                };
            }
            return pools;
        }
        let resources = node.allocatable.iter().filter(|(name, count)| **count > 0 && self.is_resource(name));
        let pool = |(resource, count): (&String, &u64)| GpuPool {
            vendor: self.vendor,
            product: None,
            memory: memory.clone(),
            resource: resource.clone(),
            allocatable: *count,
            free: *count,
            promised: 0,
            sharing: GpuSharing::Exclusive,
        };
        resources.map(pool).collect()
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let also = self.at_least(wish.per_gpu)?;
        if self.vendor != Vendor::Nvidia {
            return Ok(also.into_iter().map(|all| all.into_iter().collect()).collect());
        }
        Ok(also.into_iter().flat_map(|all| nvidia::with_memory(wish, all)).collect())
    }

    fn silence(&self, _: &str) -> Vec<Expression> {
        vec![Expression::absent(&self.key)]
    }
}
