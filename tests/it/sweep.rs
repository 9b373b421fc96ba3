//! Every model of the catalog at every precision with every engine: what is called fitting runs, or says why it does not;
//! and whoever follows a suggestion has something that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use loadline::api::ModelDeploymentSpec;
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

/// Nodes of every size with nothing on them, as a user has them in a file.
static CLUSTER: LazyLock<Inventory> = LazyLock::new(|| {
    let sizes = [
        ("h200", "NVIDIA-H200", 143_771, 8, 8),
        ("h100", "NVIDIA-H100-80GB-HBM3", 81_559, 8, 1),
        ("a100", "NVIDIA-A100-SXM4-40GB", 40_960, 4, 1),
        ("l4", "NVIDIA-L4", 23_034, 2, 2),
        ("t4", "Tesla-T4", 15_360, 1, 2),
    ];
    let nodes: Vec<Value> = sizes
        .into_iter()
        .flat_map(|(name, product, mib, gpus, count)| {
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
});

/// One combination.
struct Case<'a> {
    entry: &'a Entry,
    shape: ModelShape,
    precision: Precision,
    engine: Engine,
    spec: ModelDeploymentSpec,
}

/// What came of all.
#[derive(Default)]
struct Report {
    outcomes: BTreeMap<String, usize>,
    suggestions: usize,
    wrong: Vec<String>,
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
        Case { entry, shape: entry.shape().expect("a shape"), precision, engine, spec }
    }

    fn count() -> usize {
        catalog::entries().len() * Precision::ALL.len() * Engine::ALL.len()
    }

    fn planned(&self, spec: &ModelDeploymentSpec) -> Result<Plan, Refusal> {
        let subject = Subject { namespace: "team-a", name: "model", spec, roll: None, running: None };
        plan(subject, &self.shape, &CLUSTER)
    }

    /// What comes of it, in a word, and what is wrong with that.
    fn judge(&self, report: &mut Report) {
        let mut wrong = |what: String| {
            report.wrong.push(format!("{} {} {}: {what}", self.entry.name, self.precision, self.engine));
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
                    if changed.requirement != suggestion.requirement {
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
                            let changed = Case {
                                precision,
                                shape: self.shape.clone(),
                                spec: self.spec.clone(),
                                ..*self
                            };
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
        if made != Some(self.precision) {
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
            Nothing::NoCheckpoint { repository, precision, engine } => {
                let is_true = *repository == self.entry.repository
                    && *precision == self.precision
                    && *engine == self.engine;
                let says = words.contains(repository) && words.contains(precision.as_str());
                let is_said = is_true && says && verdict == Verdict::Rejected;
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
                Case::at(*index).judge(&mut report);
            }
            report
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let mut total = Report::default();
    for report in reports {
        for (outcome, count) in report.outcomes {
            *total.outcomes.entry(outcome).or_default() += count;
        }
        total.suggestions += report.suggestions;
        total.wrong.extend(report.wrong);
    }
    let planned: usize = total.outcomes.values().sum();
    eprintln!("{planned} planned, {} suggestions followed:", total.suggestions);
    for (outcome, count) in &total.outcomes {
        eprintln!("{count:8} {outcome}");
    }
    total.wrong.sort();
    let shown = total.wrong.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(total.wrong.is_empty(), "{} are wrong:\n{shown}", total.wrong.len());
    assert_eq!(planned, cases.len());
    assert!(total.suggestions > 0 && total.outcomes.keys().any(|outcome| outcome.starts_with("runs")));
    let met: BTreeSet<(&str, &str)> = cases
        .iter()
        .map(|index| Case::at(*index))
        .map(|case| (case.engine.as_str(), case.precision.as_str()))
        .collect();
    assert_eq!(met.len(), Engine::ALL.len() * Precision::ALL.len(), "an engine did not meet a precision");
}
