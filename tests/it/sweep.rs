//! Every model of the catalog at every precision with every engine: what is called fitting runs, or says why it does not;
//! and whoever follows a suggestion has something that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use loadline::api::ModelDeploymentSpec;
use loadline::api::v1alpha1::TensorParallel;
use loadline::decide::Verdict;
use loadline::engine::Nothing;
use loadline::inventory::{Inventory, Snapshot, Sources};
use loadline::launch::Launch;
use loadline::model::ModelShape;
use loadline::model::catalog::{self, Entry};
use loadline::plan::{Plan, Subject, apply, plan};
use loadline::precision::{Engine, Precision};
use loadline::refusal::Refusal;
use loadline::render;
use serde_json::{Value, json};

/// All combinations instead of some hundreds: it takes some minutes.
const ALL: &str = "LOADLINE_SWEEP";
/// Every so manieth combination is planned by default: a prime that divides neither the engines nor the precisions, so that
/// every one of these meets every one of those.
const STRIDE: usize = 197;

/// Nodes of a kind: name, product, MiB per GPU, GPUs and how many there are.
type Kind = (&'static str, &'static str, u64, u64, u64);

const LARGE: Kind = ("h200", "NVIDIA-H200", 143_771, 8, 8);
const SMALL: [Kind; 4] = [
    ("h100", "NVIDIA-H100-80GB-HBM3", 81_559, 8, 1),
    ("a100", "NVIDIA-A100-SXM4-40GB", 40_960, 4, 1),
    ("l4", "NVIDIA-L4", 23_034, 2, 2),
    ("t4", "Tesla-T4", 15_360, 1, 2),
];

/// Nodes of every size, on which nearly everything fits.
pub(crate) static ROOMY: LazyLock<Inventory> =
    LazyLock::new(|| cluster(&[&[LARGE], SMALL.as_slice()].concat()));
/// Small nodes only, on which much has to be changed to fit.
pub(crate) static NARROW: LazyLock<Inventory> = LazyLock::new(|| cluster(&SMALL[2..]));
/// The shapes of the catalog, read once.
static SHAPES: LazyLock<Vec<ModelShape>> =
    LazyLock::new(|| catalog::entries().iter().map(|entry| entry.shape().expect("a shape")).collect());

/// Nodes with nothing on them, as a user has them in a file.
fn cluster(kinds: &[Kind]) -> Inventory {
    let nodes: Vec<Value> = kinds
        .iter()
        .flat_map(|&(name, product, mib, gpus, count)| {
            (0..count).map(move |at| {
                json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": format!("{name}-{at}"), "labels": {
                        "nvidia.com/gpu.memory": mib.to_string(), "nvidia.com/gpu.product": product,
                    }},
                    "status": {
                        "allocatable": {"nvidia.com/gpu": gpus.to_string()},
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                })
            })
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": nodes}).to_string();
    Inventory::new(Snapshot::from_text(&list).expect("a snapshot"), &Sources::default())
}

/// One combination.
struct Case<'a> {
    entry: &'a Entry,
    shape: &'a ModelShape,
    cluster: &'static Inventory,
    precision: Precision,
    engine: Engine,
    spec: ModelDeploymentSpec,
}

/// What came of all on one cluster.
#[derive(Default)]
struct Count {
    outcomes: BTreeMap<String, usize>,
    suggestions: usize,
}

/// What came of all.
#[derive(Default)]
struct Report {
    roomy: Count,
    narrow: Count,
    wrong: Vec<String>,
}

impl Count {
    fn add(&mut self, other: Self) {
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.suggestions += other.suggestions;
    }

    fn planned(&self) -> usize {
        self.outcomes.values().sum()
    }

    fn print(&self, cluster: &str) {
        eprintln!("{cluster}: {} planned, {} suggestions followed", self.planned(), self.suggestions);
        for (outcome, count) in &self.outcomes {
            eprintln!("{count:8} {outcome}");
        }
    }
}

impl Case<'_> {
    fn at(index: usize) -> Self {
        let (engines, precisions) = (Engine::ALL, Precision::ALL);
        let engine = engines[index % engines.len()];
        let precision = precisions[index / engines.len() % precisions.len()];
        let model = index / engines.len() / precisions.len();
        let entry = &catalog::entries()[model];
        // Every second asks for the smallest number of ranks: half have room at once, the others get suggestions.
        let is_auto = (index + index / engines.len() + model).is_multiple_of(2);
        let spec = json!({
            "model": {"catalog": entry.name}, "precision": precision, "engine": {"name": engine},
            "parallelism": {"tensor": if is_auto { json!("auto") } else { json!(1) }},
        });
        let spec = serde_json::from_value(spec).expect("a spec");
        Case { entry, shape: &SHAPES[model], cluster: &ROOMY, precision, engine, spec }
    }

    fn count() -> usize {
        catalog::entries().len() * Precision::ALL.len() * Engine::ALL.len()
    }

    fn planned(&self, spec: &ModelDeploymentSpec) -> Result<Plan, Refusal> {
        let subject = Subject { namespace: "team-a", name: "model", spec, roll: None, running: None };
        plan(subject, self.shape, self.cluster)
    }

    /// The same on small nodes only, where it runs or asks for an estimate: a suggestion is of use there.
    fn narrowed(mut self) -> Option<Self> {
        let is_of_use = self.planned(&self.spec).is_ok_and(|plan| plan.launch.obstacle().is_none());
        self.cluster = &NARROW;
        is_of_use.then_some(self)
    }

    fn asks_for_auto(&self) -> bool {
        let parallelism = self.spec.parallelism.as_ref();
        matches!(parallelism.and_then(|ranks| ranks.tensor.as_ref()), Some(TensorParallel::Word(_)))
    }

    /// What comes of it, in a word, and what is wrong with that.
    fn judge(&self, report: &mut Count, faults: &mut Vec<String>) {
        let mut wrong = |what: String| {
            faults.push(format!("{} {} {}: {what}", self.entry.name, self.precision, self.engine));
        };
        let plan = match self.planned(&self.spec) {
            Ok(plan) => plan,
            Err(refusal) => {
                if !refusal.to_string().starts_with("spec.") {
                    wrong(format!("a refusal that names no field: {refusal}"));
                }
                let kind = format!("refused: {}", field(&refusal));
                *report.outcomes.entry(kind).or_default() += 1;
                return;
            }
        };
        let (verdict, reason) = plan.answer();
        let outcome = match &plan.launch {
            Launch::Run(pods) => {
                let problem = self.runs(&pods.template).err();
                problem.map(&mut wrong);
                format!("runs: {reason}")
            }
            Launch::Nothing(nothing) => {
                if let Err(problem) = self.runs_not(nothing, verdict, &plan) {
                    wrong(problem);
                }
                format!("{}: {reason}", kind(nothing))
            }
        };
        for suggestion in &plan.decision.suggestions {
            report.suggestions += 1;
            let words = render::change(&suggestion.change);
            match self.planned(&apply(&suggestion.change, &self.spec)) {
                Err(refusal) => wrong(format!("{words} is refused: {refusal}")),
                Ok(changed) => {
                    // What is on fewer GPUs by then is better still: `auto` picks the fewest.
                    let is_better =
                        self.asks_for_auto() && changed.requirement.gpus < suggestion.requirement.gpus;
                    if changed.requirement != suggestion.requirement && !is_better {
                        wrong(format!(
                            "{words} comes to {:?}, not to {:?}",
                            changed.requirement, suggestion.requirement
                        ));
                    }
                    if changed.decision.verdict() != Verdict::Fits {
                        wrong(format!("{words} is {:?}", changed.decision.reason()));
                    }
                    match (&plan.launch, &changed.launch) {
                        (_, Launch::Run(pods)) => {
                            let precision = changed.estimate.workload.precision.unwrap_or(self.precision);
                            let changed = Case { precision, spec: self.spec.clone(), ..*self };
                            if let Err(problem) = changed.runs(&pods.template) {
                                wrong(format!("{words}: {problem}"));
                            }
                        }
                        // Who asked for an estimate only is told of memory only.
                        (Launch::Nothing(asked), Launch::Nothing(_)) if asked.is_by_choice() => {}
                        (_, Launch::Nothing(nothing)) => {
                            wrong(format!("{words} would not run: {}", render::nothing(nothing)));
                        }
                    }
                }
            }
        }
        *report.outcomes.entry(outcome).or_default() += 1;
    }

    /// Whether the serving container's arguments name the model and make of it what was asked for.
    fn runs(&self, template: &Value) -> Result<(), String> {
        let arguments: Vec<&str> = template
            .pointer("/spec/containers/0/args")
            .and_then(Value::as_array)
            .map(|arguments| arguments.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let after = |names: &[&str]| {
            let at = arguments.iter().position(|argument| names.contains(argument))?;
            arguments.get(at + 1).copied()
        };
        let image = template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
        if image.is_empty() {
            return Err("a container without an image".to_owned());
        }
        let named = after(&["--model", "--model-path", "--model-id"]);
        if named != Some(self.entry.repository.as_str()) {
            return Err(format!("the arguments name {named:?}: {arguments:?}"));
        }
        let told = after(&["--quantization", "--quantize"]);
        let cast = after(&["--dtype"]);
        let stored = self.shape.quantization.as_ref().map(|own| own.precision);
        // What the engines make of it, by their own documentation; written out here anew.
        let made = match (self.engine, told, cast, stored) {
            (Engine::Vllm | Engine::Sglang | Engine::Tgi, Some("fp8"), None, None) => Some(Precision::Fp8),
            (Engine::Vllm | Engine::Sglang, Some("bitsandbytes"), None, None)
            | (Engine::Tgi, Some("bitsandbytes-nf4"), None, None) => Some(Precision::Nf4),
            (Engine::Sglang, Some("mxfp8"), None, None) => Some(Precision::Mxfp8),
            (Engine::Tgi, Some("bitsandbytes"), None, None) => Some(Precision::BnbInt8),
            (_, None, Some("bfloat16"), None) => Some(Precision::Bf16),
            (_, None, Some("float16" | "half"), None) => Some(Precision::Fp16),
            (Engine::Vllm | Engine::Sglang, None, Some("float32"), None) => Some(Precision::Fp32),
            (Engine::Vllm | Engine::Sglang | Engine::Tgi, None, None, Some(stored)) => Some(stored),
            _ => None,
        };
        // A checkpoint of FP8 in blocks is one of FP8: whoever asks for that gets it as it is.
        let is_asked = made == Some(self.precision)
            || (made, self.precision) == (Some(Precision::Fp8Block), Precision::Fp8);
        if !is_asked {
            return Err(format!(
                "the arguments make {made:?} of {stored:?}, not {:?}: {arguments:?}",
                self.precision
            ));
        }
        Ok(())
    }

    /// Whether it says why nothing runs.
    fn runs_not(&self, nothing: &Nothing, verdict: Verdict, plan: &Plan) -> Result<(), String> {
        let words = render::planned(plan);
        match nothing {
            Nothing::NoEngine if self.engine == Engine::None => Ok(()),
            Nothing::NoCheckpoint { repository, precision, engine, elsewhere, .. } => {
                let is_true = *repository == self.entry.repository
                    && *precision == self.precision
                    && *engine == self.engine;
                let says = words.contains(repository) && words.contains(precision.as_str());
                let names = elsewhere.is_none_or(|other| words.contains(other.repository));
                let is_said = is_true && says && names && verdict == Verdict::Rejected;
                is_said.then_some(()).ok_or(format!("{verdict:?}: {words}"))
            }
            Nothing::WrongFiles { place, gguf: false, engine: Engine::LlamaCpp } => {
                let says = *place == self.entry.repository && words.contains(place);
                (says && verdict == Verdict::Rejected).then_some(()).ok_or(format!("{verdict:?}: {words}"))
            }
            Nothing::NoImage(Engine::Transformers) => {
                let says = words.contains("engine.image") && verdict == Verdict::Rejected;
                says.then_some(()).ok_or(format!("{verdict:?}: {words}"))
            }
            other => Err(format!("{other:?}")),
        }
    }
}

/// The field that a refusal is about, or what it says of the model.
fn field(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    text.split(':').next().unwrap_or_default().to_owned()
}

fn kind(nothing: &Nothing) -> &'static str {
    match nothing {
        Nothing::Training => "training",
        Nothing::NoEngine => "estimate only",
        Nothing::NoModel => "no model",
        Nothing::NoImage(_) => "no image",
        Nothing::NoCheckpoint { .. } => "no checkpoint",
        Nothing::WrongFiles { .. } => "wrong files",
    }
}

#[test]
fn what_is_called_fitting_runs_or_says_why_not() {
    let is_all = std::env::var(ALL).is_ok_and(|value| value == "all");
    let stride = if is_all { 1 } else { STRIDE };
    let cases: Vec<usize> = (0..Case::count()).step_by(stride).collect();
    let next = AtomicUsize::new(0);
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let work = || {
            let mut report = Report::default();
            while let Some(index) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let case = Case::at(*index);
                case.judge(&mut report.roomy, &mut report.wrong);
                if let Some(case) = case.narrowed() {
                    case.judge(&mut report.narrow, &mut report.wrong);
                }
            }
            report
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let mut total = Report::default();
    for report in reports {
        total.roomy.add(report.roomy);
        total.narrow.add(report.narrow);
        total.wrong.extend(report.wrong);
    }
    total.roomy.print("large and small nodes");
    total.narrow.print("small nodes");
    total.wrong.sort();
    let shown = total.wrong.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(total.wrong.is_empty(), "{} are wrong:\n{shown}", total.wrong.len());
    assert_eq!(total.roomy.planned(), cases.len());
    assert!(total.roomy.outcomes.contains_key("runs: FitsNow"));
    assert!(total.narrow.suggestions >= 20, "{} suggestions were followed", total.narrow.suggestions);
    let met: BTreeSet<(&str, &str)> = cases
        .iter()
        .map(|index| Case::at(*index))
        .map(|case| (case.engine.as_str(), case.precision.as_str()))
        .collect();
    assert_eq!(met.len(), Engine::ALL.len() * Precision::ALL.len(), "an engine did not meet a precision");
}
