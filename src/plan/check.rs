//! What is refused of a spec by itself: fields that this version does not act on, and values out of range.

use crate::api::ModelDeploymentSpec;
use crate::api::limits::{self, Length};
use crate::api::v1alpha1::{HuggingFaceRef, KeyRef, PlacementMode};
use crate::inventory::Vendor;
use crate::refusal::Refusal;
use crate::units::{Margin, shorten};

/// Refuses what this version does not do: nothing that a user writes is silently ignored.
pub(super) fn unsupported(spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
    if spec.training.is_some() && spec.template.is_some() {
        return Err(Refusal::not_supported(
            "template",
            "no workload is made of training: leave the template out, and give your own pods the node affinity",
        ));
    }
    let Some(placement) = &spec.placement else { return Ok(()) };
    match placement.mode {
        None | Some(PlacementMode::NodeAffinity) => {}
        Some(mode @ (PlacementMode::Gated | PlacementMode::ResourceClaim)) => {
            return Err(Refusal::not_supported(
                "placement.mode",
                format!("{mode:?} is for a later version: use NodeAffinity, or leave it out"),
            ));
        }
    }
    match placement.vendors.as_deref() {
        // An empty list is out of range, which `fields` says.
        Some(vendors @ [_, ..]) if !vendors.contains(&Vendor::Nvidia) => Err(Refusal::not_supported(
            "placement.vendors",
            "only nvidia's memory labels are read so far: add nvidia, or leave it out",
        )),
        _ => Ok(()),
    }
}

/// Refuses values out of range, as the CRD's schema and rules do.
pub(super) fn fields(spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
    if !(0..=limits::MOST_REPLICAS).contains(&spec.replicas) {
        return Err(Refusal::invalid(
            "replicas",
            format!("{} is not a number of replicas", spec.replicas),
            format!("write a whole number from 0 to {}", limits::MOST_REPLICAS),
        ));
    }
    lengths(spec)?;
    if spec.training.is_some() {
        for (field, is_set, instead) in [
            ("context", spec.context.is_some(), "training.sequenceLength and training.microBatch"),
            ("engine", spec.engine.is_some(), "training.attention and training.optimizer"),
            ("parallelism", spec.parallelism.is_some(), "training.gpus and training.sharding"),
        ] {
            if is_set {
                return Err(Refusal::invalid(
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
        return Err(Refusal::invalid(
            "template",
            "it is not an object",
            "write a pod template with metadata and spec",
        ));
    }
    if let Some(part) =
        ["metadata", "spec"].iter().find(|part| template.get(**part).is_some_and(|part| !is_object(part)))
    {
        let field = format!("template.{part}");
        return Err(Refusal::invalid(
            field,
            "it is not an object",
            "write it as in a pod template, or leave it out",
        ));
    }
    if let Some(name) = template.pointer("/spec/nodeName") {
        return Err(Refusal::invalid(
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

/// Refuses texts and lists longer or shorter than the CRD's schema lets in.
fn lengths(spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
    let model = &spec.model;
    let text = |field: &str, text: Option<&String>, limit: Length| {
        let length = text.map(|text| text.chars().count());
        range(field, length, limit, "characters")
    };
    let key = |field: &str, key: Option<&KeyRef>| {
        text(&format!("{field}.name"), key.map(|key| &key.name), limits::NAME)?;
        text(&format!("{field}.key"), key.map(|key| &key.key), limits::NAME)?;
        key.map_or(Ok(()), |key| names(field, key))
    };
    let hub = |field: &str, hub: Option<&HuggingFaceRef>| {
        text(&format!("{field}.repository"), hub.map(|hub| &hub.repository), limits::REPOSITORY)?;
        text(&format!("{field}.revision"), hub.and_then(|hub| hub.revision.as_ref()), limits::REVISION)?;
        text(&format!("{field}.file"), hub.and_then(|hub| hub.file.as_ref()), limits::FILE)?;
        key(&format!("{field}.tokenSecretRef"), hub.and_then(|hub| hub.token_secret_ref.as_ref()))
    };
    text("model.parameters", model.parameters.as_ref(), limits::SIZE)?;
    hub("model.huggingFace", model.hugging_face.as_ref())?;
    hub("model.gguf.huggingFace", model.gguf.as_ref().and_then(|gguf| gguf.hugging_face.as_ref()))?;
    text("model.gguf.url", model.gguf.as_ref().and_then(|gguf| gguf.url.as_ref()), limits::URL)?;
    key("model.configMapRef", model.config_map_ref.as_ref())?;
    text("model.catalog", model.catalog.as_ref(), limits::CATALOG)?;

    if let Some(engine) = &spec.engine {
        text("engine.image", engine.image.as_ref(), limits::IMAGE)?;
        text("engine.version", engine.version.as_ref(), limits::VERSION)?;
        range("engine.args", engine.args.as_ref().map(Vec::len), limits::ARGUMENTS, "arguments")?;
        for (index, arg) in engine.args.iter().flatten().enumerate() {
            text(&format!("engine.args[{index}]"), Some(arg), limits::ARGUMENT)?;
        }
    }
    if let Some(placement) = &spec.placement {
        range("placement.vendors", placement.vendors.as_ref().map(Vec::len), limits::VENDORS, "vendors")?;
        range(
            "placement.tolerations",
            placement.tolerations.as_ref().map(Vec::len),
            limits::TOLERATIONS,
            "tolerations",
        )?;
    }
    if let Some(training) = &spec.training {
        range(
            "training.loraTargets",
            training.lora_targets.as_ref().map(Vec::len),
            limits::LORA_TARGETS,
            "names",
        )?;
        for (index, target) in training.lora_targets.iter().flatten().enumerate() {
            text(&format!("training.loraTargets[{index}]"), Some(target), limits::LORA_TARGET)?;
        }
        range("training.offload", training.offload.as_ref().map(Vec::len), limits::OFFLOADS, "parts")?;
    }
    Ok(())
}

/// Refuses what can be the name of no ConfigMap or Secret, or of no key in one.
fn names(field: &str, key: &KeyRef) -> Result<(), Refusal> {
    if !limits::is_object_name(&key.name) {
        return Err(Refusal::invalid(
            format!("{field}.name"),
            format!("\"{}\" is no name of an object", shorten(&key.name)),
            "write small letters, digits, '-' and '.', such as hub-token",
        ));
    }
    if !limits::is_key(&key.key) {
        return Err(Refusal::invalid(
            format!("{field}.key"),
            format!("\"{}\" is no key of a ConfigMap or Secret", shorten(&key.key)),
            "write letters, digits, '-', '_' and '.', such as token",
        ));
    }
    Ok(())
}

fn range(field: &str, length: Option<usize>, limit: Length, what: &str) -> Result<(), Refusal> {
    match length {
        Some(length) if !(limit.least..=limit.most).contains(&length) => Err(Refusal::invalid(
            field,
            format!("it has {length} {what}"),
            format!("write {} to {} {what}", limit.least, limit.most),
        )),
        _ => Ok(()),
    }
}

/// The safety margin, written as the CRD's rule has it: no blanks, no leading zero.
pub(super) fn margin(spec: &ModelDeploymentSpec) -> Result<Margin, Refusal> {
    spec.safety_margin.as_deref().map_or(Ok(Margin::DEFAULT), |text| {
        let parsed = text.parse().ok().filter(|_| text.starts_with(|c: char| matches!(c, '1'..='9')));
        parsed.filter(|_| text.trim() == text).ok_or_else(|| {
            Refusal::invalid(
                "safetyMargin",
                format!("\"{}\" is not a safety margin", shorten(text)),
                "write a decimal from 1.0 to 10.0 with at most three decimals, such as \"1.2\"",
            )
        })
    })
}
