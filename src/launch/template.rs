//! A pod template as its author wrote it, read once into types, and refused where it contradicts the rest of the spec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, NodeSelectorTerm, PodSpec, PodTemplateSpec, Toleration};
use serde_json::{Map, Value, json};

use crate::api::ModelDeploymentSpec;
use crate::engine::Named;
use crate::inventory::{Requests, Term, Vendor, is_quantity};
use crate::precision::Engine;
use crate::refusal::Refusal;
use crate::units::shorten;

/// The container that serves the model, where the template does not name one.
pub(super) const SERVING: &str = "model";

/// A user's pod template, understood.
#[derive(Clone, Debug)]
pub struct Template {
    /// As it was written, with containers' names filled in.
    pub(super) raw: Value,
    spec: PodSpec,
    serving: usize,
}

impl Template {
    /// Reads the template of a spec; `None` if there is none.
    ///
    /// # Errors
    /// What the API server would refuse, and what contradicts the rest of the spec: images, arguments, containers without
    /// an image, required node selector terms that match no node.
    pub fn read(spec: &ModelDeploymentSpec) -> Result<Option<Self>, Refusal> {
        let Some(written) = &spec.template else { return Ok(None) };
        let raw = filled(written);
        let typed: PodTemplateSpec = serde_path_to_error::deserialize(&raw).map_err(|error| {
            Refusal::invalid(
                format!("template.{}", error.path()),
                error.inner().to_string(),
                "write it as in a pod template",
            )
        })?;
        let pod = typed.spec.unwrap_or_default();
        let named = pod.containers.iter().position(|container| container.name == SERVING);
        let template = Self { raw, spec: pod, serving: named.unwrap_or(0) };
        template.images(spec)?;
        template.arguments(spec)?;
        template.required()?;
        template.amounts()?;
        Ok(Some(template))
    }

    /// The pod that it describes.
    #[must_use]
    pub const fn pod(&self) -> &PodSpec {
        &self.spec
    }

    /// The container that serves the model: the one of that name, or the first.
    fn served_by(&self) -> Option<&Container> {
        self.spec.containers.get(self.serving)
    }

    /// Where the serving container stands among the containers.
    pub(super) const fn serving(&self) -> usize {
        self.serving
    }

    /// The labels that the template itself asks nodes for.
    #[must_use]
    pub fn node_selector(&self) -> BTreeMap<String, String> {
        self.spec.node_selector.clone().unwrap_or_default()
    }

    /// The taints that the template itself tolerates.
    #[must_use]
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec.tolerations.as_deref().unwrap_or_default()
    }

    /// The serving container's image, if the template names one.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.served_by()?.image.as_deref().filter(|image| !image.is_empty())
    }

    /// Whether the serving container says itself what it runs: a command, or arguments.
    #[must_use]
    pub fn speaks_for_itself(&self) -> bool {
        let says = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
        self.served_by().is_some_and(|container| says(&container.command) || says(&container.args))
    }

    /// Whether the serving container has a command of its own.
    #[must_use]
    pub fn commands(&self) -> bool {
        let command = self.served_by().and_then(|container| container.command.as_ref());
        command.is_some_and(|command| !command.is_empty())
    }

    /// The serving container's arguments.
    #[must_use]
    pub fn words(&self) -> &[String] {
        self.served_by().and_then(|container| container.args.as_deref()).unwrap_or_default()
    }

    /// What an environment variable of the serving container says of where the weights are.
    #[must_use]
    pub(crate) fn variable(&self, name: &str) -> Option<Named<'_>> {
        let variables = self.served_by()?.env.as_deref().unwrap_or_default();
        let found = variables.iter().find(|variable| variable.name == name)?;
        Some(found.value.as_deref().map_or(Named::Unread, Named::At))
    }

    /// The node selector terms of which one must match; none where the template requires nothing. An empty term matches
    /// no node, and is left out.
    ///
    /// # Errors
    /// Terms that are all empty.
    pub fn required(&self) -> Result<Vec<NodeSelectorTerm>, Refusal> {
        let required = self
            .spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref())
            .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
        let Some(required) = required else { return Ok(Vec::new()) };
        let says_something = |term: &&NodeSelectorTerm| {
            let is_any = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|all| !all.is_empty());
            is_any(&term.match_expressions) || is_any(&term.match_fields)
        };
        let terms: Vec<NodeSelectorTerm> =
            required.node_selector_terms.iter().filter(says_something).cloned().collect();
        if terms.is_empty() {
            return Err(Refusal::invalid(
                "template.spec.affinity",
                "the required node selector terms are empty, and match no node",
                "remove them, or write an expression",
            ));
        }
        Ok(terms)
    }

    /// The same terms, to be judged as kube-scheduler judges them.
    ///
    /// # Errors
    /// A term that the API server would refuse, or that no node could ever match.
    pub fn affinity(&self) -> Result<Vec<Term>, Refusal> {
        let terms = self.required()?;
        let terms = terms.iter().enumerate().map(|(at, term)| {
            Term::from_api(&json!(term)).map_err(|error| {
                let field =
                    "template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
                let path = if error.path.is_empty() { String::new() } else { format!(".{}", error.path) };
                Refusal::invalid(
                    format!("{field}.nodeSelectorTerms[{at}]{path}"),
                    error.fault.to_string(),
                    error.fault.remedy(),
                )
            })
        });
        terms.collect()
    }

    /// Whether the GPUs that the template's containers ask for are the ones that were counted: `gpus` of `resource`, by
    /// the serving container alone.
    ///
    /// # Errors
    /// Another number, or another container that asks for some: a sidecar's add up, and an init container's would need
    /// more than the replica takes.
    pub(super) fn gpus(&self, resource: &str, gpus: u64) -> Result<(), Refusal> {
        for (at, container) in self.spec.containers.iter().enumerate() {
            for (asked, count) in asks_for(container) {
                if at != self.serving {
                    return Err(covered_by_no_estimate("containers", at, container, &asked));
                }
                if asked != resource || count != gpus.to_string() {
                    return Err(Refusal::invalid(
                        format!("template.spec.containers[{at}].resources"),
                        format!(
                            "container {} requests {asked}: {}, and one replica takes {gpus} of {resource} (tensor x pipeline)",
                            shorten(&container.name),
                            shorten(&count)
                        ),
                        "remove the request, or set parallelism.tensor",
                    ));
                }
            }
        }
        for (at, container) in self.spec.init_containers.iter().flatten().enumerate() {
            let is_sidecar = container.restart_policy.as_deref() == Some("Always");
            for (asked, count) in asks_for(container) {
                // What an ordinary init container held is free again when the others start.
                let is_within = asked == resource && count.parse::<u64>().is_ok_and(|count| count <= gpus);
                if is_sidecar || !is_within {
                    return Err(covered_by_no_estimate("initContainers", at, container, &asked));
                }
            }
        }
        Ok(())
    }

    /// Whether what the template asks for leaves room for so many GPUs, of whatever resource it names.
    pub(super) fn takes(&self, gpus: u64) -> bool {
        let init = self.spec.init_containers.iter().flatten();
        let asked = self.spec.containers.iter().chain(init).flat_map(asks_for).next();
        asked.is_none_or(|(resource, _)| self.gpus(&resource, gpus).is_ok())
    }

    /// What a pod of it requests besides GPUs, as kube-scheduler counts it.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let mut requests = Requests::of(&self.spec);
        requests.extended.retain(|resource, _| Vendor::of_resource(resource).is_none());
        requests
    }

    /// Whether every amount that is requested can be read.
    fn amounts(&self) -> Result<(), Refusal> {
        let lists = [
            ("containers", self.spec.containers.as_slice()),
            ("initContainers", self.spec.init_containers.as_deref().unwrap_or_default()),
        ];
        let containers = lists.into_iter().flat_map(|(list, containers)| {
            let each = containers.iter().enumerate();
            each.map(move |(at, container)| (format!("{list}[{at}]."), container.resources.as_ref()))
        });
        for (place, resources) in containers.chain([(String::new(), self.spec.resources.as_ref())]) {
            let Some(resources) = resources else { continue };
            for (kind, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
                let faulty = amounts.iter().flatten().find(|(_, amount)| !is_quantity(&amount.0));
                if let Some((resource, amount)) = faulty {
                    return Err(Refusal::invalid(
                        format!("template.spec.{place}resources.{kind}"),
                        format!("{}: \"{}\" is not an amount", shorten(resource), shorten(&amount.0)),
                        "write a number with a Kubernetes suffix, such as 4, 500m or 16Gi",
                    ));
                }
            }
        }
        Ok(())
    }

    fn images(&self, spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
        let engine = spec.engine.as_ref();
        let wanted = engine.and_then(|engine| engine.image.as_deref());
        if let (Some(own), Some(wanted)) = (self.image(), wanted)
            && own != wanted
        {
            return Err(Refusal::invalid(
                "engine.image",
                format!("\"{}\" contradicts the template's image \"{}\"", shorten(wanted), shorten(own)),
                "name the image in one of them",
            ));
        }
        let has_default =
            !matches!(engine.map_or(Engine::Vllm, |engine| engine.name), Engine::None | Engine::Transformers);
        let containers = self.spec.containers.iter().enumerate().map(|(at, container)| {
            let comes = at == self.serving && (wanted.is_some() || has_default);
            ("containers", at, container, comes)
        });
        let init = self.spec.init_containers.iter().flatten().enumerate();
        let init = init.map(|(at, container)| ("initContainers", at, container, false));
        for (list, at, container, comes) in containers.chain(init) {
            if !comes && container.image.as_deref().is_none_or(str::is_empty) {
                let remedy =
                    if at == self.serving { "set its image, or engine.image" } else { "set its image" };
                return Err(Refusal::invalid(
                    format!("template.spec.{list}[{at}].image"),
                    format!("container {} has no image", shorten(&container.name)),
                    remedy,
                ));
            }
        }
        Ok(())
    }

    fn arguments(&self, spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
        let given = spec.engine.as_ref().and_then(|engine| engine.args.as_ref());
        if self.speaks_for_itself() && given.is_some_and(|given| !given.is_empty()) {
            return Err(Refusal::invalid(
                "engine.args",
                "the template's container has a command or arguments of its own",
                "write the arguments in one of them",
            ));
        }
        Ok(())
    }
}

/// A template with what may be left out: what is empty is what Kubernetes' defaults, and Loadline's, are for.
fn filled(written: &Value) -> Value {
    let mut filled = written.clone();
    let Some(pod) = filled.as_object_mut() else { return filled };
    let pod = pod.entry("spec").or_insert_with(|| json!({}));
    if pod.is_null() {
        *pod = json!({});
    }
    let Some(pod) = pod.as_object_mut() else { return filled };
    for list in ["containers", "initContainers"] {
        let containers = pod.get_mut(list).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(amounts_as_text);
    }
    match pod.get_mut("containers") {
        Some(Value::Array(containers)) if !containers.is_empty() => {
            for (at, container) in containers.iter_mut().enumerate() {
                let Some(container) = container.as_object_mut() else { continue };
                let name = if at == 0 { SERVING.to_owned() } else { format!("{SERVING}-{at}") };
                container.entry("name").or_insert(Value::String(name));
            }
        }
        None | Some(Value::Null | Value::Array(_)) => {
            pod.insert("containers".to_owned(), json!([{"name": SERVING}]));
        }
        // Of another type: the typed reading says so.
        Some(_) => {}
    }
    filled
}

/// Makes text of the numbers that a container requests, as the API server does: `cpu: 4` is an amount too.
fn amounts_as_text(container: &mut Value) {
    let Some(resources) = container.get_mut("resources") else { return };
    for kind in ["requests", "limits"] {
        let amounts = resources.get_mut(kind).and_then(Value::as_object_mut);
        for (_, amount) in amounts.into_iter().flatten() {
            if let Value::Number(number) = amount {
                *amount = Value::String(number.to_string());
            }
        }
    }
}

/// The GPUs that a container asks for, by resource, as written.
fn asks_for(container: &Container) -> BTreeMap<String, String> {
    let resources = container.resources.iter();
    resources
        .flat_map(|resources| [&resources.limits, &resources.requests])
        .flatten()
        .flatten()
        .filter(|(resource, amount)| Vendor::of_resource(resource).is_some() && amount.0 != "0")
        .map(|(resource, amount)| (resource.clone(), amount.0.clone()))
        .collect()
}

fn covered_by_no_estimate(list: &str, at: usize, container: &Container, resource: &str) -> Refusal {
    Refusal::invalid(
        format!("template.spec.{list}[{at}].resources"),
        format!("container {} requests {resource} too, which no estimate covers", shorten(&container.name)),
        "remove it: one container serves the model",
    )
}

/// The object under a key, made if it is not there.
pub(super) fn object<'a>(
    fields: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    let value = fields.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}
