//! What is known of one part of a workload.

use std::collections::BTreeMap;

use serde_json::Value;

use super::container::{Around, Container, containers};
use super::gpus::{self, Gpus};
use super::model::{self, Model};
use super::objects::{Objects, at, scalar};
use super::role::Role;
use super::shell;
use super::start::{Program, Start};
use super::training;
use crate::engine::{Stated, Weights, Word, flag_of_variable, stated, stock_of};
use crate::model::catalog;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::units::shorten;

/// What is known of a workload. `None` is unsaid.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What runs the model.
    pub program: Option<Program>,
    /// The container that it runs in.
    pub container: Option<String>,
    /// The container's image.
    pub image: Option<String>,
    /// The model.
    pub model: Model,
    /// The format of the weights, where it is stated: by the type or method that the engine is told, or by the GGUF that is named.
    pub precision: Option<Precision>,
    /// Tokens per sequence.
    pub context: Option<u64>,
    /// Sequences at once.
    pub sequences: Option<u64>,
    /// How the cache is held.
    pub cache: Option<CachePrecision>,
    /// Tensor-parallel ranks.
    pub tensor: Option<u64>,
    /// Pipeline stages.
    pub pipeline: Option<u64>,
    /// Data-parallel groups.
    pub data: Option<u64>,
    /// The part of a GPU that the engine plans with, as it was written.
    pub memory_fraction: Option<String>,
    /// The GPUs of one pod.
    pub gpus: Gpus,
    /// Copies; of ranks that are replicas, one.
    pub replicas: Option<u64>,
    /// Pods that make up one copy.
    pub ranks: Option<u64>,
    /// Whether several pods make up one copy.
    pub is_group: bool,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// What is missing, and what to give; none where all is known that a verdict needs.
    pub faults: Vec<String>,
    /// Arguments that change memory besides.
    pub(super) arguments: Vec<String>,
    /// The pod's spec.
    pub(super) pod: Value,
}

impl Facts {
    /// Whether all is known that a verdict needs.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.faults.is_empty()
    }

    /// What is missing, and what to give; `None` where nothing is.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        (!self.faults.is_empty()).then(|| self.faults.join("; "))
    }

    /// Whether it is a training.
    #[must_use]
    pub const fn trains(&self) -> bool {
        matches!(self.program, Some(Program::Training(_)))
    }
}

/// A program of a container, and what its command line states.
struct Found<'a> {
    container: &'a Container<'a>,
    start: Start,
    engine: Option<Engine>,
    stated: Stated,
}

/// What is known of a role; `None` for pods that run no model, or of which nothing is understood.
pub(super) fn read(role: &Role, objects: Objects<'_>, namespace: Option<&str>) -> Option<Facts> {
    let around = Around { pod: &role.pod, objects, namespace };
    let read: Vec<Container<'_>> =
        containers(&role.pod).map(|container| Container::read(container, role, around)).collect();
    let mut found: Vec<Found<'_>> = read.iter().flat_map(|container| starts(container, role)).collect();
    let mut facts = empty(role, around);
    facts.is_group |= read.iter().any(|container| container.started.joins);
    if found.is_empty() {
        return unseen(&read, role, facts);
    }
    if found.len() > 1 && found.iter().all(|other| is_same(other, found.first())) {
        found.truncate(1);
    }
    if found.len() > 1 {
        return Some(several(&found, facts));
    }
    let Found { container, start, engine, stated } = found.into_iter().next()?;
    facts.program = Some(start.program);
    facts.container = Some(container.name.to_owned());
    facts.image.clone_from(&container.image);
    match (start.program, engine) {
        (Program::Training(framework), _) => {
            let training::Trained { model, context, precision, faults } =
                training::read(framework, &start.arguments, around);
            (facts.model, facts.context, facts.precision) = (model, context, precision);
            facts.faults.extend(faults);
        }
        (Program::Other(name), _) => other(name, container, &start.arguments, &mut facts),
        (_, Some(engine)) => serving(engine, stated, role, &mut facts),
        (_, None) => {}
    }
    facts.demand();
    Some(facts)
}

/// The programs of a container that run a model; where its command names none, the one that its kind starts.
fn starts<'a>(container: &'a Container<'a>, role: &Role) -> Vec<Found<'a>> {
    let mut starts = container.started.starts.clone();
    let default = role.serving.as_ref().and_then(|serving| serving.program);
    let is_main = matches!(container.name, "main" | "kserve-container");
    if let Some(program) = default.filter(|_| starts.is_empty() && is_main && !container.has_command) {
        let mut arguments = container.arguments.clone();
        // What KServe's own command for this kind adds.
        if let Some(more) = container.variables.get("VLLM_ADDITIONAL_ARGS") {
            arguments.extend(split(more));
        }
        starts.push(Start { program, arguments });
    }
    let read = |start: Start| {
        let mut is_transformers = false;
        let engine = match start.program {
            Program::Engine(engine) => Some(engine),
            Program::HuggingFaceServer => Some(Engine::Vllm),
            Program::Training(_) | Program::Other(_) => None,
        };
        let stated = engine.map(|engine| {
            let words = with_variables(engine, container, &start.arguments);
            let mut stated = stated(engine, &words);
            if start.program == Program::HuggingFaceServer {
                is_transformers = hugging_face_server(&words, &mut stated);
            }
            stated
        });
        let program = if is_transformers { Program::Engine(Engine::Transformers) } else { start.program };
        Found { container, engine, stated: stated.unwrap_or_default(), start: Start { program, ..start } }
    };
    starts.into_iter().map(read).collect()
}

/// The words of a variable that holds several.
fn split(word: &Word) -> Vec<Word> {
    if !word.known {
        return vec![Word { text: "$VLLM_ADDITIONAL_ARGS".to_owned(), known: false }];
    }
    let mut variables = shell::Variables::default();
    shell::commands(&word.text, &mut variables).into_iter().flatten().collect()
}

/// The arguments, after what the environment says: the command line goes before it.
fn with_variables(engine: Engine, container: &Container<'_>, arguments: &[Word]) -> Vec<Word> {
    let of_variables = container.variables.values.iter().filter_map(|(name, value)| {
        let flag = flag_of_variable(engine, name)?;
        Some([Word::of(flag), value.clone()])
    });
    let of_variables: Vec<Word> = of_variables.flatten().collect();
    of_variables.into_iter().chain(arguments.iter().cloned()).collect()
}

/// KServe's server has names of its own for the model; the rest are vLLM's flags. Whether it is told to serve without vLLM.
fn hugging_face_server(words: &[Word], stated: &mut Stated) -> bool {
    let mut is_transformers = false;
    for (at, word) in words.iter().enumerate() {
        let (name, own) = word.text.split_once('=').map_or((word.text.as_str(), None), |(n, v)| (n, Some(v)));
        let value = || match own {
            Some(own) => Some(Word { text: own.to_owned(), known: word.known }),
            None => words.get(at + 1).cloned(),
        };
        match name.replace('_', "-").as_str() {
            "--model-id" => {
                stated.weights = value().map(|place| Weights { place, is_path: false, is_url: false });
            }
            "--backend" if value().is_some_and(|value| value.text == "huggingface") => {
                is_transformers = true;
                stated.faults.push(
                    "what KServe's huggingface backend holds is not estimated: use vLLM's, or plan a ModelDeployment"
                        .to_owned(),
                );
            }
            "--max-length" => {
                stated.context = stated.context.or_else(|| value()?.text.parse().ok());
            }
            _ => {}
        }
    }
    is_transformers
}

fn is_same(one: &Found<'_>, other: Option<&Found<'_>>) -> bool {
    other.is_some_and(|other| {
        one.start.program == other.start.program
            && one.stated == other.stated
            && one.container.name == other.container.name
    })
}

/// What is known of every pod, whatever runs in it.
fn empty(role: &Role, around: Around<'_>) -> Facts {
    let mut gpus = gpus::of(around);
    if let Some(worker) = role.worker.as_ref().filter(|_| gpus.per_pod().unwrap_or(0) == 0) {
        gpus = gpus::of(Around { pod: worker, ..around });
    }
    let selector = at(&role.pod, "/nodeSelector").and_then(Value::as_object);
    let selector = selector.into_iter().flatten();
    Facts {
        program: None,
        container: None,
        image: None,
        model: Model::Unknown("the model is not named".to_owned()),
        precision: None,
        context: None,
        sequences: None,
        cache: None,
        tensor: None,
        pipeline: None,
        data: None,
        memory_fraction: None,
        gpus,
        replicas: role.replicas,
        ranks: role.ranks,
        is_group: role.is_group,
        node_selector: selector.filter_map(|(key, value)| Some((key.clone(), scalar(value)?))).collect(),
        faults: Vec::new(),
        arguments: Vec::new(),
        pod: role.pod.clone(),
    }
}

/// A pod in which no program was seen: it is passed over, unless an engine's own image or its kind says that a model runs there.
fn unseen(read: &[Container<'_>], role: &Role, mut facts: Facts) -> Option<Facts> {
    let is_engine = |image: &str| stock_of(image).is_some();
    let hidden = read.iter().find(|container| {
        container.started.script.is_some() && container.image.as_deref().is_some_and(is_engine)
    });
    if let Some(container) = hidden {
        let script = container.started.script.as_deref().unwrap_or_default();
        facts.container = Some(container.name.to_owned());
        facts.image.clone_from(&container.image);
        let why = format!(
            "{} is run, which is not in the file: give the ConfigMap that holds it, or plan a ModelDeployment",
            shorten(script)
        );
        facts.faults.push(why);
        return Some(facts);
    }
    let serving = role.serving.as_ref()?;
    let place = serving.place.as_ref()?;
    facts.program = serving.program;
    // The engine's container is not in the file: what the kind says is all there is.
    let engine = match serving.program? {
        Program::Engine(engine) => engine,
        Program::HuggingFaceServer => Engine::Vllm,
        Program::Training(_) | Program::Other(_) => return None,
    };
    let weights = Weights { place: place.clone(), is_path: false, is_url: false };
    self::serving(engine, Stated { weights: Some(weights), ..Stated::default() }, role, &mut facts);
    facts.demand();
    Some(facts)
}

/// Several programs in one pod: they share its GPUs, and no estimate is of both.
fn several(found: &[Found<'_>], mut facts: Facts) -> Facts {
    let first = found.first();
    let same =
        found.iter().all(|other| first.is_some_and(|first| first.start.program == other.start.program));
    facts.program = first.map(|first| first.start.program).filter(|_| same);
    let names: Vec<String> = found
        .iter()
        .map(|found| {
            let model = found.stated.weights.as_ref().map(|weights| shorten(&weights.place.text));
            let model = model.map(|model| format!(" of {model}")).unwrap_or_default();
            format!("{}{model} in container {}", found.start.program.name(), shorten(found.container.name))
        })
        .collect();
    let one =
        found.iter().all(|other| first.is_some_and(|first| first.container.name == other.container.name));
    let why = if one {
        format!("the container may start either of {}: start one", names.join(" and "))
    } else {
        format!(
            "one pod runs {}, which share its GPUs: plan each as a workload of its own",
            names.join(" and ")
        )
    };
    facts.model = Model::Unknown("several models run".to_owned());
    facts.faults.push(why);
    facts
}

/// A server of which no memory is known.
fn other(name: &str, container: &Container<'_>, arguments: &[Word], facts: &mut Facts) {
    if name == "tei" {
        let of_variable = container.variables.get("MODEL_ID").cloned();
        let place = training::value(arguments, &["--model-id"]).or(of_variable);
        let weights = place.map(|place| Weights { place, is_path: false, is_url: false });
        facts.model = model::read(Engine::Tgi, weights.as_ref(), None, None).0;
    }
    facts.faults.push(format!(
        "what {name} takes is not estimated: plan a ModelDeployment with the model and engine: none"
    ));
}

/// Whether the model of a repository of GGUF files is one that the catalog knows.
fn is_known(repository: &str) -> bool {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let plain = name.strip_suffix("-GGUF").or_else(|| name.strip_suffix("-gguf"));
    plain.is_some_and(|plain| catalog::find(plain).is_some())
}

/// What an engine's command line states.
fn serving(engine: Engine, stated: Stated, role: &Role, facts: &mut Facts) {
    let precision = stated.precision(engine);
    let mut stated = stated;
    if let Some(serving) = &role.serving {
        // What KServe downloads is at this path.
        let is_download = |weights: &Weights| {
            weights.place.text.starts_with("/mnt/models") || weights.place.text.contains("{{")
        };
        if stated.weights.as_ref().is_none_or(is_download)
            && let Some(place) = &serving.place
        {
            stated.weights = Some(Weights { place: place.clone(), is_path: false, is_url: false });
        }
        stated.tensor = stated.tensor.or(serving.tensor);
        stated.pipeline = stated.pipeline.or(serving.pipeline);
        stated.data = stated.data.or(serving.data);
        stated.data_here = stated.data_here.or(serving.data_here);
    }
    let (model, of_file) =
        model::read(engine, stated.weights.as_ref(), stated.file.as_ref(), stated.revision.as_deref());
    facts.faults.extend(model.fault());
    if let Model::Gguf { repository, file: None, .. } = &model
        && (of_file.is_none() || !is_known(repository))
    {
        facts.faults.push(format!(
            "which file of {} is loaded is for the Hub to say: name it (--hf-file)",
            shorten(repository)
        ));
    }
    facts.model = model;
    facts.precision = of_file.or(precision);
    (facts.context, facts.sequences, facts.cache) = (stated.context, stated.sequences, stated.cache);
    (facts.tensor, facts.pipeline, facts.data) = (stated.tensor, stated.pipeline, stated.data);
    facts.memory_fraction = stated.memory_fraction;
    facts.arguments = stated.arguments;
    facts.faults.extend(stated.faults);
    facts.faults.extend(role.faults.iter().cloned());
    let nodes = stated.nodes.filter(|nodes| *nodes > 1);
    let apart = stated.data.zip(stated.data_here).is_some_and(|(all, here)| here < all);
    facts.is_group |= nodes.is_some() || apart;
    facts.ranks = facts.ranks.or(nodes);
    // Replicas that are ranks of one copy.
    if role.is_ranked && nodes.is_some() && nodes == role.replicas {
        facts.replicas = Some(1);
    }
}

impl Facts {
    /// Whether it is known which GPUs a pod gets.
    fn demand(&mut self) {
        if self.trains() {
            return;
        }
        let others: Vec<String> = self.gpus.others.iter().map(|name| shorten(name)).collect();
        if !others.is_empty() {
            self.faults
                .push(format!("the pod asks for {}, of whose memory nothing is known", others.join(", ")));
        } else if self.gpus.claims_unknown || self.gpus.claimed.is_some() {
            self.faults.push(
                "GPUs come by a resource claim, whose devices are not read: request them by name, such as nvidia.com/gpu: 1"
                    .to_owned(),
            );
        } else if self.gpus.resources.len() > 1 {
            let names: Vec<&str> = self.gpus.resources.keys().map(String::as_str).collect();
            self.faults.push(format!("the pod asks for GPUs of several kinds: {}", names.join(", ")));
        } else if self.gpus.per_pod().is_none_or(|gpus| gpus == 0) {
            self.faults.push(
                "no container requests a GPU: set resources.limits, such as nvidia.com/gpu: 1".to_owned(),
            );
        }
    }
}
