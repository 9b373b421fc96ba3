//! From a spec to the policy: which nodes its pods may go to, by what it says and by what its pod template says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::SharingMode;
use crate::decide::{Policy, Toleration};
use crate::inventory::{Requests, is_label_key, is_label_value};
use crate::launch::Template;
use crate::refusal::Refusal;
use crate::units::shorten;

/// Where an object's pods may run. A selector or toleration of the pod template binds the scheduler as much as one of
/// `placement`, so both count.
pub(super) fn policy(spec: &ModelDeploymentSpec, template: Option<&Template>) -> Result<Policy, Refusal> {
    let placement = spec.placement.clone().unwrap_or_default();
    let mut policy = Policy {
        vendors: placement.vendors.unwrap_or_default(),
        allow_shared: placement.sharing == Some(SharingMode::Shared),
        strategy: placement.strategy.unwrap_or_default(),
        ..Policy::default()
    };
    select(&mut policy, placement.node_selector.unwrap_or_default(), "placement.nodeSelector")?;
    tolerate(&mut policy, &placement.tolerations.unwrap_or_default(), "placement.tolerations")?;
    if let Some(template) = template {
        select(&mut policy, template.node_selector(), "template.spec.nodeSelector")?;
        tolerate(&mut policy, template.tolerations(), "template.spec.tolerations")?;
        policy.affinity = template.affinity()?;
    }
    let pod = || Requests::of(&core::PodSpec::default());
    policy.requests = template.map_or_else(pod, Template::requests);
    Ok(policy)
}

fn select(policy: &mut Policy, selector: BTreeMap<String, String>, field: &str) -> Result<(), Refusal> {
    for (key, value) in selector {
        if !is_label_key(&key) || !is_label_value(&value) {
            return Err(Refusal::invalid(
                field,
                format!("\"{}: {}\" is not a label", shorten(&key), shorten(&value)),
                "write a label's key and a value of at most 63 letters, digits, '-', '_' and '.'",
            ));
        }
        if let Some(other) = policy.node_selector.get(&key).filter(|other| **other != value) {
            return Err(Refusal::invalid(
                field,
                format!("{key} is to be \"{value}\" here and \"{other}\" in placement.nodeSelector"),
                "no node has both: set it in one place",
            ));
        }
        policy.node_selector.insert(key, value);
    }
    Ok(())
}

fn tolerate(policy: &mut Policy, tolerations: &[core::Toleration], field: &str) -> Result<(), Refusal> {
    for (index, toleration) in tolerations.iter().enumerate() {
        let error = |part: &str, problem: String, remedy: &str| {
            Refusal::invalid(format!("{field}[{index}].{part}"), problem, remedy)
        };
        let exists = match toleration.operator.as_deref() {
            None | Some("" | "Equal") => false,
            Some("Exists") => true,
            Some(other) => {
                let problem = format!("\"{}\" is not an operator", shorten(other));
                return Err(error("operator", problem, "write Exists or Equal"));
            }
        };
        let key = toleration.key.clone().unwrap_or_default();
        if key.is_empty() && !exists {
            return Err(error(
                "key",
                "it is empty".to_owned(),
                "write operator: Exists to tolerate every taint, or name the key",
            ));
        }
        let effect = toleration.effect.clone().unwrap_or_default();
        if !matches!(effect.as_str(), "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let problem = format!("\"{}\" is not an effect", shorten(&effect));
            return Err(error(
                "effect",
                problem,
                "write NoSchedule, PreferNoSchedule or NoExecute, or leave it out",
            ));
        }
        let value = toleration.value.clone().unwrap_or_default();
        if exists && !value.is_empty() {
            let problem = format!("\"{}\" has no meaning with operator Exists", shorten(&value));
            return Err(error("value", problem, "leave it out, or write operator: Equal"));
        }
        policy.tolerations.push(Toleration { key, exists, value, effect });
    }
    Ok(())
}
