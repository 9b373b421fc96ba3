//! What is refused of a spec by itself: fields that this version does not act on, and values out of range.

use super::PlanError;
use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{AdmissionMode, PlacementMode};
use crate::inventory::Vendor;
use crate::units::{Margin, shorten};

/// Refuses what this version does not do: nothing that a user writes is silently ignored.
pub(super) fn unsupported(spec: &ModelDeploymentSpec) -> Result<(), PlanError> {
    if spec.admission == Some(AdmissionMode::Enforce) {
        return Err(PlanError::not_supported(
            "admission",
            "Enforce needs the admission webhook, which this version does not have: use Warn, or gate with `loadline plan`",
        ));
    }
    if spec.training.is_some() && spec.template.is_some() {
        return Err(PlanError::not_supported(
            "template",
            "no workload is made of training: leave the template out, and give your own pods the node affinity",
        ));
    }
    let Some(placement) = &spec.placement else { return Ok(()) };
    match placement.mode {
        None | Some(PlacementMode::NodeAffinity) => {}
        Some(mode @ (PlacementMode::Gated | PlacementMode::ResourceClaim)) => {
            return Err(PlanError::not_supported(
                "placement.mode",
                format!("{mode:?} is for a later version: use NodeAffinity, or leave it out"),
            ));
        }
    }
    match placement.vendors.as_deref() {
        Some([]) => {
            Err(PlanError::invalid("placement.vendors", "it is empty", "name a vendor, or leave it out"))
        }
        Some(vendors) if !vendors.contains(&Vendor::Nvidia) => Err(PlanError::not_supported(
            "placement.vendors",
            "only nvidia's memory labels are read so far: add nvidia, or leave it out",
        )),
        _ => Ok(()),
    }
}

/// Refuses values out of range, as the CRD's schema and rules do.
pub(super) fn fields(spec: &ModelDeploymentSpec) -> Result<(), PlanError> {
    if !(0..=10_000).contains(&spec.replicas) {
        return Err(PlanError::invalid(
            "replicas",
            format!("{} is not a number of replicas", spec.replicas),
            "write a whole number from 0 to 10000",
        ));
    }
    if spec.training.is_some() {
        for (field, is_set, instead) in [
            ("context", spec.context.is_some(), "training.sequenceLength and training.microBatch"),
            ("engine", spec.engine.is_some(), "training.attention and training.optimizer"),
            ("parallelism", spec.parallelism.is_some(), "training.gpus and training.sharding"),
        ] {
            if is_set {
                return Err(PlanError::invalid(
                    field,
                    "it is for serving, and training is set",
                    format!("set {instead} instead, or remove training"),
                ));
            }
        }
    }
    let Some(template) = &spec.template else { return Ok(()) };
    let is_object = |value: &serde_json::Value| value.is_object();
    if !is_object(template) {
        return Err(PlanError::invalid(
            "template",
            "it is not an object",
            "write a pod template with metadata and spec",
        ));
    }
    if let Some(part) =
        ["metadata", "spec"].iter().find(|part| template.get(**part).is_some_and(|part| !is_object(part)))
    {
        let field = format!("template.{part}");
        return Err(PlanError::invalid(
            field,
            "it is not an object",
            "write it as in a pod template, or leave it out",
        ));
    }
    if let Some(name) = template.pointer("/spec/nodeName") {
        return Err(PlanError::invalid(
            "template.spec.nodeName",
            format!(
                "{} goes past the scheduler, so nothing would check the node's GPUs",
                shorten(&name.to_string())
            ),
            "use placement.nodeSelector",
        ));
    }
    Ok(())
}

/// The safety margin.
pub(super) fn margin(spec: &ModelDeploymentSpec) -> Result<Margin, PlanError> {
    spec.safety_margin.as_deref().map_or(Ok(Margin::DEFAULT), |text| {
        text.parse().map_err(|_| {
            PlanError::invalid(
                "safetyMargin",
                format!("\"{}\" is not a safety margin", shorten(text)),
                "write a decimal from 1.0 to 10.0 with at most three decimals, such as \"1.2\"",
            )
        })
    })
}

/// A whole number of a range, as a field of the API has it.
pub(super) fn whole(field: &str, value: i64, what: &str, largest: u64) -> Result<u64, PlanError> {
    match u64::try_from(value) {
        Ok(value) if (1..=largest).contains(&value) => Ok(value),
        _ => Err(PlanError::invalid(
            field,
            format!("{value} is not a number of {what}"),
            format!("write a whole number from 1 to {largest}"),
        )),
    }
}
