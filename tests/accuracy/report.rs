//! The comparison as a page of documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use loadline::estimate::{Workload, estimate};
use loadline::model::published::Published;
use loadline::model::{ModelShape, catalog, hf_config};
use loadline::precision::Engine;
use loadline::render::table::published as published_words;
use loadline::units::Parameters;

use super::holdout;
use super::score::{self, Point, Quantity, Scores};
use super::table;

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
    page.push_str(&holdout::section());
    page.push_str(CALIBRATION);
    page.push_str("\n| Figure | Held to | Rows | Met | Models | Met | Median error | Largest |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for quantity in Quantity::ALL {
        let points = scored(scores, quantity);
        let met = points.iter().filter(|point| meets(point)).count();
        // A model meets a goal where every row of it does: many rows repeat a model.
        let mut models: BTreeMap<&str, bool> = BTreeMap::new();
        for point in &points {
            *models.entry(&point.model).or_insert(true) &= meets(point);
        }
        let mut errors: Vec<f64> = points.iter().map(|point| point.error()).collect();
        errors.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let median = errors.get(errors.len() / 2).copied().unwrap_or_default();
        let largest = errors.last().copied().unwrap_or_default();
        let _ = writeln!(
            page,
            "| {} | {} | {} | {met} | {} | {} | {:+.2} % | {:+.2} % |",
            quantity.title(),
            goal(quantity),
            points.len(),
            models.len(),
            models.values().filter(|&&met| met).count(),
            median * 100.0,
            largest * 100.0
        );
    }
    for quantity in Quantity::ALL {
        let _ = write!(
            page,
            "\n### {} (calibration)\n\n| Row | Model | Measured | Estimated | Error | |\n| --- | --- | ---: | ---: | ---: | --- |\n",
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
    page.push_str("\n### Rows with nothing to compare\n\n| Row | Why |\n| --- | --- |\n");
    for (id, why) in &scores.unread {
        let _ = writeln!(page, "| {id} | {why} |");
    }
    sizes(&mut page);
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

/// A model whose size is published: of the catalog, or of a config among the fixtures.
struct Size {
    published: Published,
    /// Whether it was found, or is no more than one digit.
    found: bool,
    shape: Option<ModelShape>,
}

impl Size {
    fn counted(&self) -> Option<u64> {
        self.published.count(self.shape.as_ref()?)
    }

    /// Relative error of the counted number.
    fn error(&self) -> Option<f64> {
        Some(score::integer(self.counted()?) / score::integer(self.published.parameters) - 1.0)
    }
}

/// How many sizes were found, how precisely, and how near the counts come.
fn summary(page: &mut String, what: &str, sizes: &[Size]) {
    let exact: Vec<_> = sizes.iter().filter(|size| size.found && size.published.digits.is_none()).collect();
    let rounded: Vec<_> = sizes.iter().filter(|size| size.found && size.published.digits.is_some()).collect();
    let within = |limit: f64| {
        exact.iter().filter(|size| size.error().is_some_and(|error| error.abs() <= limit)).count()
    };
    let same = exact.iter().filter(|size| size.counted() == Some(size.published.parameters)).count();
    let found = exact.iter().chain(&rounded);
    let largest = found.filter_map(|size| size.error()).map(f64::abs).fold(0.0, f64::max);
    let _ = writeln!(
        page,
        "| {what} | {} | {} | {} | {} | {same} | {} | {:.2} % |",
        sizes.len(),
        exact.len(),
        rounded.len(),
        sizes.len() - exact.len() - rounded.len(),
        within(0.0002),
        largest * 100.0
    );
}

/// The counted parameters against the published ones.
fn sizes(page: &mut String) {
    page.push_str(SIZES);
    let catalog: Vec<Size> = catalog::entries()
        .iter()
        .map(|entry| Size {
            published: entry.published(),
            found: entry.verified.is_some(),
            shape: entry.shape(),
        })
        .collect();
    summary(page, "the built-in catalog", &catalog);
    let configs: Vec<Size> = fixtures()
        .into_iter()
        .filter_map(|config| {
            let (published, found) = config.published?;
            Some(Size { published, found, shape: config.shape.ok() })
        })
        .collect();
    summary(page, "the published configs below", &configs);
}

/// A published config among the fixtures.
struct Config {
    model: String,
    shape: Result<ModelShape, String>,
    /// What is published of its size, and whether that was found or is no more than one digit.
    published: Option<(Published, bool)>,
}

fn fixtures() -> Vec<Config> {
    let directory = score::fixtures().join("configs");
    let sources = std::fs::read_to_string(directory.join("sources.csv")).unwrap_or_default();
    let sources = table::read(&sources);
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    let config = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str())?;
        let stem = name.strip_suffix(".json").filter(|stem| !stem.ends_with(".hf_quant_config"))?;
        let model = stem.replace("__", "/");
        let json = std::fs::read(path).unwrap_or_default();
        let beside = std::fs::read(path.with_file_name(format!("{stem}.hf_quant_config.json"))).ok();
        let shape = hf_config::parse_with_quant(&json, beside.as_deref(), &model);
        let row = sources.iter().find(|row| row.text("file") == name);
        let published = row.and_then(|row| {
            let counts = row.text("params_counts").split_whitespace();
            let counts: Result<_, _> = counts.map(|word| serde_json::from_value(word.into())).collect();
            let published = Published {
                parameters: row.count("params_total")?,
                digits: row.text("params_digits").parse().ok(),
                counts: counts.ok()?,
            };
            Some((published, !row.text("params_source").is_empty()))
        });
        Some(Config { model, shape: shape.map_err(|error| error.to_string()), published })
    };
    files.iter().filter_map(config).collect()
}

/// What Loadline makes of every config among the fixtures.
fn configs(page: &mut String) {
    page.push_str(CONFIGS);
    for Config { model, shape, published } in fixtures() {
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => {
                let _ = writeln!(page, "| {model} | | | | | | | | {error} |");
                continue;
            }
        };
        let parameters = Parameters(shape.parameters);
        let size = published.map(|(published, found)| {
            let size = Size { published, found, shape: Some(shape.clone()) };
            let words = published_words(&size.published);
            let words = if found { words } else { format!("{words}, by its name alone") };
            let difference = size.error().map(|error| format!("{:+.2} %", error * 100.0));
            (words, difference.unwrap_or_default())
        });
        let (published, difference) = size.unwrap_or_else(|| ("not found".to_owned(), String::new()));
        let context = shape.max_context.map_or(8192, |longest| longest.min(8192));
        let workload = Workload { context: Some(context), ..score::workload(Engine::Vllm) };
        let _ = match estimate(&shape, &workload) {
            Ok(estimate) => writeln!(
                page,
                "| {model} | {parameters} | {published} | {difference} | {} | {} | {} | {} | |",
                estimate.workload.precision.map_or("", |precision| precision.as_str()),
                estimate.components.weights.gib(),
                estimate.kv_cache_bytes_per_token.0,
                estimate.total.gib()
            ),
            Err(error) => {
                writeln!(page, "| {model} | {parameters} | {published} | {difference} | | | | | {error} |")
            }
        };
    }
}

const INTRODUCTION: &str = "\
# Accuracy

Every estimate that can be compared with a measurement is compared here. The measurements are what engines logged on real GPUs, from
public logs: `tests/fixtures/measured/` names the source of each row. `make accuracy` rewrites this page; `tests/it/accuracy.rs` holds
the figures to their goals. [vectors.json](vectors.json) has the rules and rows that any estimator of this memory can be tried with, each with
its source ([schema](vectors.schema.json)).

How to read it
- Rows that nothing was fitted to come first. The rows that calibrated the estimator come after: they show what it reproduces, not what
  it foresees.
- Many rows repeat a model; the columns of models count a model as met where every row of it is.
- GiB is 2^30 bytes. An error is positive where the estimate is larger than the measurement.
- What is compared is what `loadline estimate -o json` prints for the flags and engine's arguments that the row's log names. Rows of
  training are estimated without the command line.
- A row is compared at its own context, batch, parallelism and engine version. Of a row whose log names no `max_num_seqs`, 1024 is taken,
  the default of vLLM on the H100 that it ran on.
- What vLLM logs as loaded weights includes what it makes of them while it loads: the rotary tables of every position, for latent
  attention a copy of the second projection, and what the allocator rounds up. Loadline counts the first two as weights where it is
  given a config (of files it counts the files' bytes), and the last as overhead; it is added here.
- Where a model's config is not among the fixtures, that of a model of exactly the same shape stands in.
- A row that is not scored has its reason beside it. \"Outside, not explained\" is what it says.

What is not covered: vLLM before 0.7 and its sampler (38 bytes per sequence and token of vocabulary up to 0.11, 14 since), and GPUs
other than NVIDIA's for activations and overhead. Within it, expect less of these: a model quantised \"on paper\" (no files of it read),
whose makers leave different tensors at 16 bits, is a range; an engine whose version is not told is derived, not exact, where its
versions differ; models whose layers keep recurrent states or small windows (DeepSeek-V4, Qwen3.5, Nemotron-H) are as exact as
the version told.
";

const CALIBRATION: &str = "
## Rows that calibrated the estimator

These were at hand while its rules were written, and its constants were chosen on some of them.
";

const SIZES: &str = "
## Parameter counts

What Loadline counts from a config, against what is published. The published number is one of three: what the Hub adds up over the tensors of
the repository, as public lists quote it (to the parameter); what the publisher's paper, card or file sizes say (to two or three digits); or,
where neither was found, the one digit that the name or the model's page says, which is checked to half of it only. Where the Hub's sum
holds more than the model (layers that only draft tokens, an embedding stored twice) the same is added to the count.
`loadline estimate --list-models -o wide` says where each number of the catalog was read, `tests/fixtures/configs/sources.csv` those of the configs.

| Models | How many | Published to the parameter | To two or three digits | To one digit | Counted to the parameter | Within 0.02 % | Largest error |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

const CONFIGS: &str = "
## Configs

What Loadline makes of the published configs among the fixtures: vLLM, one sequence of 8192 tokens (or of the model's longest), one GPU.
The difference is of the counted parameters, counted as the published number counts.

| Model | Parameters | Published | Difference | Precision | Weights, GiB | KV cache per token, bytes | Total, GiB | |
| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |
";
