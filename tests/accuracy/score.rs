//! Measured rows against what the command line prints for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use loadline::estimate::{EngineVersion, Workload};
use loadline::model::{ModelShape, hf_config};
use loadline::precision::{CachePrecision, Engine, Precision};
use loadline::units::{Bytes, Margin};
use serde::Deserialize;

use super::left_out;
use super::table::{self, Row};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quantity {
    /// Weights on one GPU.
    Weights,
    /// Cache per token of context, summed over GPUs, at the row's context.
    CachePerToken,
    /// vLLM: weights, activation peak, non-torch memory and graphs on one GPU.
    AllButCache,
    /// vLLM: everything on one GPU at its peak but the cache, against what is required of the card for it.
    Peak,
    /// llama.cpp: the cache.
    Cache,
    /// llama.cpp: the compute buffer.
    Compute,
}

impl Quantity {
    pub(crate) const ALL: [Self; 6] =
        [Self::Weights, Self::CachePerToken, Self::AllButCache, Self::Peak, Self::Cache, Self::Compute];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Weights => "Weights per GPU, GiB",
            Self::CachePerToken => "KV cache per token over all GPUs, bytes",
            Self::AllButCache => "Weights, activations, libraries and graphs per GPU, GiB",
            Self::Peak => {
                "Peak per GPU with the CUDA context but without the cache, against what is required of it, GiB"
            }
            Self::Cache => "KV cache and recurrent state, MiB",
            Self::Compute => "Compute buffer of the largest GPU, MiB",
        }
    }
}

/// One figure of one row.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) id: String,
    pub(crate) engine: Engine,
    pub(crate) model: String,
    pub(crate) quantity: Quantity,
    pub(crate) measured: f64,
    pub(crate) estimated: f64,
    /// Why it is not scored, if it is not.
    pub(crate) left_out: Option<&'static str>,
}

impl Point {
    /// Relative error; positive where the estimate is too large.
    pub(crate) fn error(&self) -> f64 {
        self.estimated / self.measured - 1.0
    }
}

/// Every comparison, and the rows that there is nothing to compare with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scores {
    pub(crate) points: Vec<Point>,
    pub(crate) unread: Vec<(String, String)>,
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Scores every measured serving row.
pub(crate) fn all() -> Scores {
    of("serving.csv", "llamacpp.csv")
}

/// Scores the rows of two files: of vLLM and SGLang, and of llama.cpp.
pub(crate) fn of(servers: &str, llama: &str) -> Scores {
    // Each row is a run of the program: once for all that look at it.
    static ALL: OnceLock<Scores> = OnceLock::new();
    static UNSEEN: OnceLock<Scores> = OnceLock::new();
    let kept = if servers == "serving.csv" { &ALL } else { &UNSEEN };
    kept.get_or_init(|| scored(servers, llama)).clone()
}

fn scored(servers: &str, llama: &str) -> Scores {
    let mut scores = Scores::default();
    for row in rows(servers) {
        if let Err(why) = serving(&row, &mut scores.points) {
            scores.unread.push((row.text("id").to_owned(), why));
        }
    }
    for row in rows(llama) {
        if let Err(why) = llama_cpp(&row, &mut scores.points) {
            scores.unread.push((row.text("id").to_owned(), why));
        }
    }
    scores
}

pub(crate) fn rows(file: &str) -> Vec<Row> {
    let path = fixtures().join("measured").join(file);
    std::fs::read_to_string(path).map(|text| table::read(&text)).unwrap_or_default()
}

/// A config as it was published, and what it is of.
struct Config {
    path: PathBuf,
    shape: ModelShape,
}

/// A published config; one of a model of the same shape where the row's own is not among the fixtures.
fn config(repositories: &[&str]) -> Result<Config, String> {
    let mut tried = Vec::new();
    for repository in repositories.iter().filter(|name| !name.is_empty()) {
        let stand_in = STAND_INS.iter().find(|(name, _)| name == repository).map(|(_, stand_in)| *stand_in);
        for name in std::iter::once(*repository).chain(stand_in) {
            let path = fixtures().join("configs").join(format!("{}.json", name.replace('/', "__")));
            if let Ok(json) = std::fs::read(&path) {
                let shape = hf_config::parse(&json, name).map_err(|error| format!("{name}: {error}"))?;
                return Ok(Config { path, shape });
            }
            tried.push(name.to_owned());
        }
    }
    Err(format!("no config of {} among the fixtures", tried.join(", ")))
}

/// Models of exactly the same shape, for those whose config is not among the fixtures.
const STAND_INS: &[(&str, &str)] = &[
    ("moonshotai/Kimi-Dev-72B", "Qwen/Qwen2.5-72B-Instruct"),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "Qwen/Qwen2.5-14B-Instruct"),
    ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "Qwen/Qwen3-8B"),
    ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "deepseek-ai/DeepSeek-V2-Lite-Chat"),
    ("meta-llama/Meta-Llama-3-70B", "meta-llama/Meta-Llama-3-70B-Instruct"),
    ("meta-llama/Llama-3.2-11B-Vision", "meta-llama/Llama-3.2-11B-Vision-Instruct"),
    ("Qwen/Qwen2.5-Coder-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ("GritLM/GritLM-7B", "mistralai/Mistral-7B-v0.1"),
    ("Qwen/Qwen3.8-27B", "Qwen/Qwen3.5-27B"),
    ("Qwen/Qwen3.x-27B", "Qwen/Qwen3.5-27B"),
    ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistralai/Devstral-Small-2-24B-Instruct-2512"),
    ("google/gemma-4-26B-A4B-it", "google/gemma-4-26B-A4B"),
    ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"),
    ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistralai/Devstral-Small-2-24B-Instruct-2512"),
];

fn weights_precision(row: &Row, own: bool) -> Result<Option<Precision>, String> {
    Ok(match row.text("format") {
        "fp32" => Some(Precision::Fp32),
        "fp16" => Some(Precision::Fp16),
        "" | "bf16" => Some(Precision::Bf16),
        _ if own => None,
        "fp8" => Some(Precision::Fp8),
        "fp8-block" => Some(Precision::Fp8Block),
        // The rows are of W8A8 checkpoints: linear layers with one scale per row.
        "int8" => Some(Precision::BnbInt8),
        "gptq-int4" => Some(Precision::GptqInt4),
        "awq-int4" => Some(Precision::AwqInt4),
        "bnb-nf4" => Some(Precision::Nf4),
        "mxfp4" => Some(Precision::Mxfp4),
        "nvfp4" => Some(Precision::Nvfp4),
        other => return Err(format!("the format {other} is not one that Loadline knows")),
    })
}

/// What a workload is by default.
pub(crate) fn workload(engine: Engine) -> Workload {
    Workload {
        precision: None,
        context: None,
        sequences: 1,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        data: 1,
        engine,
        batched_tokens: None,
        options: loadline::estimate::Options::default(),
        training: None,
    }
}

/// What `loadline estimate -o json` prints, as far as it is compared.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    workload: PrintedWorkload,
    components: Components,
    per_gpu: Components,
    gpus: u64,
    terms: Vec<Term>,
    logged: Option<Logged>,
}

#[derive(Deserialize)]
struct PrintedWorkload {
    context: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Components {
    weights: u64,
    kv_cache: u64,
    activations: u64,
    overhead: u64,
}

#[derive(Deserialize)]
struct Term {
    component: String,
    formula: String,
    bytes: u64,
    high: u64,
}

#[derive(Deserialize)]
struct Logged {
    model: u64,
}

/// What a user types: flags of the estimate, and arguments of the engine.
#[derive(Clone, Debug, Default)]
struct Typed {
    flags: Vec<String>,
    engine: Vec<String>,
}

impl Typed {
    fn flag(mut self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        if let Some(value) = value {
            self.flags.extend([name.to_owned(), value.to_string()]);
        }
        self
    }

    fn argument(mut self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        if let Some(value) = value {
            self.engine.extend([name.to_owned(), value.to_string()]);
        }
        self
    }

    fn switch(mut self, name: &str, on: bool) -> Self {
        self.engine.extend(on.then(|| name.to_owned()));
        self
    }

    fn run(&self) -> Result<Printed, String> {
        let mut command = Command::new(program());
        command.args(["estimate", "-o", "json"]).args(&self.flags);
        if !self.engine.is_empty() {
            command.arg("--").args(&self.engine);
        }
        let output = command.output().map_err(|error| format!("{}: {error}", program().display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }
}

/// The program: beside the tests, and above the examples.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let directory = own.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    directory.join("loadline").with_extension(std::env::consts::EXE_EXTENSION)
}

fn serving(row: &Row, points: &mut Vec<Point>) -> Result<(), String> {
    let engine: Engine = row.text("engine").parse().map_err(|error| format!("{error}"))?;
    let Config { path, shape } = config(&[row.text("model"), row.text("base_model")])?;
    let own = shape.name == row.text("model") && shape.quantization.is_some();
    let parts = ["weights_gib", "activation_gib", "non_torch_gib", "cuda_graph_gib"];
    let unseen = row.text("id").starts_with("h-") && parts.iter().all(|part| row.number(part).is_some());
    let complete =
        unseen || row.text("id").starts_with("llmdplan-v019") && row.number("non_torch_gib").is_some();
    let version = row.text("engine_version").parse::<EngineVersion>().ok();
    let is_fp8 = row.text("cache_dtype").starts_with("fp8");
    let typed = Typed::default()
        .flag("--config", Some(path.display()))
        .flag("--engine", Some(engine))
        .flag("--engine-version", version)
        .flag("--precision", weights_precision(row, own)?)
        .flag("--context", row.count("max_model_len"))
        .flag("--cache-precision", is_fp8.then_some(CachePrecision::Fp8))
        .flag("--tensor", row.count("tp"))
        .flag("--pipeline", row.count("pp"))
        .argument(batch_flag(engine), row.count("max_num_batched_tokens"))
        .switch("--enable-prefix-caching", row.text("notes").contains("prefix caching on"))
        .argument("--speculative-config", own_heads(row));
    let sequences = row.count("max_num_seqs").or(complete.then_some(1024));
    let printed = typed.clone().flag("--sequences", sequences).run()?;
    let gpu = &printed.per_gpu;
    let mut push = |quantity, measured: f64, estimated: f64| {
        points.push(Point {
            id: row.text("id").to_owned(),
            engine,
            model: row.text("model").to_owned(),
            quantity,
            measured,
            estimated,
            left_out: left_out::reason(row.text("id"), quantity),
        });
    };
    if let Some(measured) = row.number("weights_gib") {
        // What the engine logs as loaded includes what the allocator rounds up.
        let loaded = printed.logged.as_ref().map(|logged| logged.model);
        push(
            Quantity::Weights,
            measured,
            gib(loaded.unwrap_or(gpu.weights + overhead(&printed, "rounding"))),
        );
    }
    if let (Some(kv), Some(tokens)) = (row.number("kv_gib"), row.number("kv_tokens")) {
        let gpus = integer(printed.gpus);
        // What a token takes at this context, windows included: the whole cache of one sequence, shared out.
        let one = typed.flag("--sequences", Some(1)).run()?;
        let context = integer(one.workload.context.unwrap_or(1));
        let estimated = integer(one.components.kv_cache) / context;
        push(Quantity::CachePerToken, kv * 1_073_741_824.0 * gpus / tokens, estimated);
    }
    if complete {
        let measured: f64 = parts.iter().filter_map(|part| row.number(part)).sum();
        // The CUDA context is there before the engine begins to count.
        let counted = gpu.weights + gpu.activations + gpu.overhead - overhead(&printed, "CUDA context");
        push(Quantity::AllButCache, measured, gib(counted));
        // What the process held at its peak besides the cache, against what Loadline asks of the card for it: the cache, whose size
        // is known, would hide the rest.
        let without = Bytes(gpu.weights + gpu.activations + gpu.overhead);
        let required = Margin::DEFAULT.apply(without).map_err(|error| error.to_string())?;
        let context = noted_context(row).unwrap_or(0.51);
        push(Quantity::Peak, measured + context, gib(required.0));
    }
    Ok(())
}

/// How an engine is told its batch.
const fn batch_flag(engine: Engine) -> &'static str {
    match engine {
        Engine::Sglang => "--chunked-prefill-size",
        _ => "--max-num-batched-tokens",
    }
}

/// Tokens that the model's own heads guess, by the row's notes.
fn own_heads(row: &Row) -> Option<String> {
    let (_, after) = row.text("notes").split_once("speculation mtp ")?;
    let tokens: u64 = after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(format!("{{\"method\": \"mtp\", \"num_speculative_tokens\": {tokens}}}"))
}

/// A part of the overhead, by how its formula begins.
fn overhead(printed: &Printed, beginning: &str) -> u64 {
    let parts = printed.terms.iter().filter(|term| term.component == "overhead");
    parts.filter(|term| term.formula.starts_with(beginning)).map(|term| term.bytes).sum()
}

/// The CUDA context that a row's notes state.
fn noted_context(row: &Row) -> Option<f64> {
    let (_, after) = row.text("notes").split_once("at init: ")?;
    after.split_once(" GiB")?.0.parse().ok()
}

/// The build that a row names, such as `b8946-0f1bb602d` or `5192 (e59a5f1e)`.
fn build(row: &Row) -> Option<EngineVersion> {
    row.text("version").split([' ', '-']).next()?.parse().ok()
}

fn llama_cpp(row: &Row, points: &mut Vec<Point>) -> Result<(), String> {
    if row.text("notes").contains("ik_llama") {
        return Err("the fork ik_llama.cpp, whose caches and buffers are laid out otherwise".to_owned());
    }
    let base = row.text("base_model");
    let noted = row.text("notes");
    let inferred = if base.is_empty() && noted.contains("Qwen3.x-27B") { "Qwen/Qwen3.x-27B" } else { base };
    let Config { path, shape } = config(&[inferred])?;
    let quant = row.text("quant").to_lowercase();
    let precision = match quant.as_str() {
        "f16" => Some(Precision::Fp16),
        "bf16" => Some(Precision::Bf16),
        other => other.parse().ok(),
    };
    let sequences = row.count("n_seq").unwrap_or(1).max(1);
    let unified = row.text("kv_unified") == "true";
    let context = row.count("n_ctx");
    // A unified cache is one of n_ctx cells, whatever the sequences; else each has its share.
    let cells = |context: u64| if unified { context } else { context / sequences };
    let pipeline = if noted.contains("multi-GPU") && !noted.contains("MTL0") { 2 } else { 1 };
    let typed = Typed::default()
        .flag("--config", Some(path.display()))
        .flag("--engine", Some(Engine::LlamaCpp))
        // A row that names no build was logged before June 2026.
        .flag("--engine-version", Some(build(row).unwrap_or(EngineVersion::Build(9000))))
        .flag("--precision", Some(precision.unwrap_or(Precision::Q4KM)))
        .flag("--pipeline", Some(pipeline))
        .flag("--sequences", Some(if unified { 1 } else { sequences }))
        .argument("-ub", row.count("n_ubatch"))
        .argument("-ctk", Some(row.text("cache_type_k")).filter(|cache| !cache.is_empty()))
        .argument("-ctv", Some(row.text("cache_type_v")).filter(|cache| !cache.is_empty()))
        .argument("-np", unified.then_some(sequences))
        .switch("-kvu", unified)
        // A tower is a file of its own, which these runs did not load.
        .switch("--no-mmproj", true);
    let at = |context: Option<u64>| typed.clone().flag("--context", context.map(cells)).run();
    let printed = at(context)?;
    let mut push = |quantity, measured: f64, estimated: f64| {
        points.push(Point {
            id: row.text("id").to_owned(),
            engine: Engine::LlamaCpp,
            model: row.text("model").to_owned(),
            quantity,
            measured,
            estimated,
            left_out: left_out::reason(row.text("id"), quantity),
        });
    };
    let on_gpu = match (row.number("model_buffer_mib"), row.number("model_size_gib")) {
        (Some(buffer), Some(size)) => buffer > size * 1024.0 * 0.85,
        // Where no model buffer is stated, all layers must be; what runs on the CPU alone has one buffer too.
        _ => {
            row.number("model_buffer_mib").is_some()
                || row.text("n_layer_offloaded").contains('/')
                || row.text("gpu") == "CPU"
        }
    };
    let whole = on_gpu && row.text("n_layer_offloaded").split_once('/').is_none_or(|(on, of)| on == of);
    if let (Some(measured), Some(_), true) = (row.number("model_buffer_mib"), precision, whole) {
        push(Quantity::Weights, measured / 1024.0, gib(printed.components.weights));
    }
    if let (Some(kv), Some(_)) = (row.number("kv_buffer_mib"), context) {
        let state = row.number("rs_buffer_mib").unwrap_or(0.0);
        // States are what is left at no context: caches are linear. A row that does not state them is compared without.
        let at = |context| at(Some(context)).map(|printed| mib(printed.components.kv_cache));
        let has_states = shape.layers.iter().any(|layer| layer.state.is_some());
        let states = if has_states { 2.0 * at(256 * sequences)? - at(512 * sequences)? } else { 0.0 };
        let estimated = mib(printed.components.kv_cache) - if state > 0.0 { 0.0 } else { states };
        push(Quantity::Cache, kv + state, estimated);
    }
    if let Some(measured) = row.number("compute_buffer_gpu_mib").filter(|_| context.is_some() && whole) {
        // Without flash attention it is the most that Loadline says it is likely to be, where that is more than a quarter more.
        let bytes = printed.per_gpu.activations;
        let plain = row.text("flash_attn") == "0";
        let buffer = printed.terms.iter().find(|term| term.component == "activations").filter(|_| plain);
        let most = buffer.map(|term| term.high).filter(|most| *most > bytes + bytes / 4 + 1);
        push(Quantity::Compute, measured, mib(most.unwrap_or(bytes)));
    }
    Ok(())
}

/// Bytes as a number for ratios; what is compared has less than 53 bits.
pub(crate) fn integer(value: u64) -> f64 {
    value.to_string().parse().unwrap_or(f64::INFINITY)
}

pub(crate) fn gib(bytes: u64) -> f64 {
    integer(bytes) / 1_073_741_824.0
}

pub(crate) fn mib(bytes: u64) -> f64 {
    integer(bytes) / 1_048_576.0
}
