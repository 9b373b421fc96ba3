//! The comparison as a page of documentation.

use std::fmt::Write as _;

use loadline::estimate::{Workload, estimate};
use loadline::model::hf_config;
use loadline::precision::Engine;
use loadline::units::Parameters;

use super::holdout;
use super::score::{self, Point, Quantity, Scores};

/// What each figure is held to, as docs say and tests/it/accuracy.rs asserts.
pub(crate) fn goal(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Weights => {
            "within 1 % (SGLang, whose figure includes the allocator's rounding: 3 % or 0.1 GiB) on 95 % of the rows"
        }
        Quantity::CachePerToken => "within 0.5 % on 95 % of the rows",
        Quantity::AllButCache => "within 5 % on 90 % of the rows",
        Quantity::Peak => "never less than what was measured",
        Quantity::Cache => "within 1 % on every row",
        Quantity::Compute => "within 15 % on every row",
    }
}

/// Whether a figure meets its goal.
pub(crate) fn meets(point: &Point) -> bool {
    let error = point.error().abs();
    match point.quantity {
        Quantity::Weights if point.engine == Engine::Sglang => {
            error <= 0.03 || (point.estimated - point.measured).abs() <= 0.1
        }
        Quantity::Weights | Quantity::Cache => error <= 0.01,
        Quantity::CachePerToken => error <= 0.005,
        Quantity::AllButCache => error <= 0.05,
        Quantity::Peak => point.error() >= 0.0,
        Quantity::Compute => error <= 0.15,
    }
}

/// The page.
pub(crate) fn page(scores: &Scores) -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n| Figure | Held to | Rows | Met | Median error | Largest |\n| --- | --- | ---: | ---: | ---: | ---: |\n");
    for quantity in Quantity::ALL {
        let points = scored(scores, quantity);
        let met = points.iter().filter(|point| meets(point)).count();
        let mut errors: Vec<f64> = points.iter().map(|point| point.error()).collect();
        errors.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let median = errors.get(errors.len() / 2).copied().unwrap_or_default();
        let largest = errors.last().copied().unwrap_or_default();
        let _ = writeln!(
            page,
            "| {} | {} | {} | {met} | {:+.2} % | {:+.2} % |",
            quantity.title(),
            goal(quantity),
            points.len(),
            median * 100.0,
            largest * 100.0
        );
    }
    for quantity in Quantity::ALL {
        let _ = write!(
            page,
            "\n## {}\n\n| Row | Model | Measured | Estimated | Error | |\n| --- | --- | ---: | ---: | ---: | --- |\n",
            quantity.title()
        );
        for point in scores.points.iter().filter(|point| point.quantity == quantity) {
            let remark = match point.left_out {
                Some(why) => format!("not scored: {why}"),
                None if meets(point) => String::new(),
                None => "outside, not explained".to_owned(),
            };
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {:+.2} % | {remark} |",
                point.id,
                point.model,
                shown(point.measured),
                shown(point.estimated),
                point.error() * 100.0
            );
        }
    }
    page.push_str("\n## Rows with nothing to compare\n\n| Row | Why |\n| --- | --- |\n");
    for (id, why) in &scores.unread {
        let _ = writeln!(page, "| {id} | {why} |");
    }
    page.push_str(&holdout::section());
    configs(&mut page);
    page
}

/// The points that count.
pub(crate) fn scored(scores: &Scores, quantity: Quantity) -> Vec<&Point> {
    scores.points.iter().filter(|point| point.quantity == quantity && point.left_out.is_none()).collect()
}

pub(crate) fn shown(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// What Loadline makes of every config among the fixtures.
fn configs(page: &mut String) {
    page.push_str(CONFIGS);
    let directory = score::fixtures().join("configs");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    for path in files {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(stem) = name.strip_suffix(".json").filter(|stem| !stem.ends_with(".hf_quant_config")) else {
            continue;
        };
        let model = stem.replace("__", "/");
        let json = std::fs::read(&path).unwrap_or_default();
        let beside = std::fs::read(path.with_file_name(format!("{stem}.hf_quant_config.json"))).ok();
        let shape = match hf_config::parse_with_quant(&json, beside.as_deref(), &model) {
            Ok(shape) => shape,
            Err(error) => {
                let _ = writeln!(page, "| {model} | | | | | | {error} |");
                continue;
            }
        };
        let context = shape.max_context.map_or(8192, |longest| longest.min(8192));
        let workload = Workload { context: Some(context), ..score::workload(Engine::Vllm) };
        let _ = match estimate(&shape, &workload) {
            Ok(estimate) => writeln!(
                page,
                "| {model} | {} | {} | {} | {} | {} | |",
                Parameters(shape.parameters),
                estimate.workload.precision.map_or("", |precision| precision.as_str()),
                estimate.components.weights.gib(),
                estimate.kv_cache_bytes_per_token.0,
                estimate.total.gib()
            ),
            Err(error) => writeln!(page, "| {model} | {} | | | | | {error} |", Parameters(shape.parameters)),
        };
    }
}

const INTRODUCTION: &str = "\
# Accuracy

Every estimate that can be compared with a measurement is compared here. The measurements are what engines logged on real GPUs, from
public logs: `tests/fixtures/measured/` names the source of each row. `make accuracy` rewrites this page; `tests/it/accuracy.rs` holds
the figures to their goals.

How to read it
- GiB is 2^30 bytes. An error is positive where the estimate is larger than the measurement.
- A row is compared at its own context, batch and parallelism. Of a row whose log names no `max_num_seqs`, 1024 is taken, the default
  of vLLM on the H100 that it ran on.
- What vLLM logs as loaded weights includes what it makes of them while it loads: the rotary tables of every position, for latent
  attention a copy of the second projection, and what the allocator rounds up. Loadline counts these as overhead; they are added here.
- Where a model's config is not among the fixtures, that of a model of exactly the same shape stands in.
- A row that is not scored has its reason beside it. \"Outside, not explained\" is what it says.

What is not covered: vLLM before 0.7 and its sampler (38 bytes per sequence and token of vocabulary up to 0.11, 14 since), and GPUs
other than NVIDIA's for activations and overhead.
";

const CONFIGS: &str = "
## Configs

What Loadline makes of the published configs among the fixtures: vLLM, one sequence of 8192 tokens (or of the model's longest), one GPU.

| Model | Parameters | Precision | Weights, GiB | KV cache per token, bytes | Total, GiB | |
| --- | ---: | --- | ---: | ---: | ---: | --- |
";
