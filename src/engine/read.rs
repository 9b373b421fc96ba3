//! What an engine's own arguments say of its memory. They may say what the spec leaves open, never otherwise than the spec.
//!
//! Names: docs.vllm.ai (Engine Arguments), docs.sglang.io (Server Arguments), llama.cpp tools/server/README.md,
//! huggingface.co/docs/text-generation-inference (Launcher arguments).

use std::str::FromStr;

use super::arguments::{Flag, flags};
use super::utilization;
use crate::api::v1alpha1::EngineSpec;
use crate::estimate::{Adapters, Draft, Options, Speculation};
use crate::precision::{CachePrecision, Engine};
use crate::refusal::{Refusal, whole};
use crate::units::shorten;

const MOST: u64 = 100_000_000;
const MOST_SEQUENCES: u64 = 65_536;
const MOST_RANKS: u64 = 1024;
/// More than any engine takes.
const MOST_ADAPTERS: u64 = 65_536;
const MOST_GUESSES: u64 = 1024;

/// What the arguments say.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) context: Option<Said<u64>>,
    pub(crate) sequences: Option<Said<u64>>,
    pub(crate) cache_precision: Option<Said<CachePrecision>>,
    pub(crate) tensor: Option<Said<u64>>,
    pub(crate) pipeline: Option<Said<u64>>,
    pub(crate) batched_tokens: Option<u64>,
    pub(crate) options: Options,
}

/// A value, and the flag and words that say it.
#[derive(Debug)]
pub(crate) struct Said<T> {
    value: T,
    flag: String,
    written: String,
}

impl<T: PartialEq + std::fmt::Display> Said<T> {
    /// This value, unless the spec has another one.
    pub(crate) fn agree(self, field: &str, spec: Option<T>) -> Result<T, Refusal> {
        match spec {
            Some(spec) if spec != self.value => {
                let said = format!("{} {}", self.flag, shorten(&self.written));
                Err(Refusal::contradiction("engine.args", said, field, spec))
            }
            _ => Ok(self.value),
        }
    }
}

/// The names of one engine's flags; an empty list is a flag that it does not have.
struct Names {
    context: &'static [&'static str],
    /// The context is that of all sequences together.
    context_of_all: bool,
    sequences: &'static [&'static str],
    cache: &'static [&'static str],
    caches: &'static [(&'static str, CachePrecision)],
    tensor: &'static [&'static str],
    pipeline: &'static [&'static str],
    batch: &'static [&'static str],
}

const NONE: Names = Names {
    context: &[],
    context_of_all: false,
    sequences: &[],
    cache: &[],
    caches: &[],
    tensor: &[],
    pipeline: &[],
    batch: &[],
};

const fn names(engine: Engine) -> Names {
    match engine {
        Engine::Vllm => Names {
            context: &["--max-model-len"],
            sequences: &["--max-num-seqs"],
            cache: &["--kv-cache-dtype"],
            caches: &[
                ("auto", CachePrecision::Auto),
                ("bfloat16", CachePrecision::Bf16),
                ("fp8", CachePrecision::Fp8),
            ],
            tensor: &["--tensor-parallel-size", "-tp"],
            pipeline: &["--pipeline-parallel-size", "-pp"],
            batch: &["--max-num-batched-tokens"],
            ..NONE
        },
        Engine::Sglang => Names {
            context: &["--context-length"],
            sequences: &["--max-running-requests"],
            cache: &["--kv-cache-dtype"],
            caches: &[
                ("auto", CachePrecision::Auto),
                ("bf16", CachePrecision::Bf16),
                ("fp8_e4m3", CachePrecision::Fp8),
            ],
            tensor: &["--tp-size", "--tp", "--tensor-parallel-size"],
            pipeline: &["--pp-size", "--pp", "--pipeline-parallel-size"],
            batch: &["--chunked-prefill-size"],
            ..NONE
        },
        Engine::LlamaCpp => Names {
            context: &["-c", "--ctx-size"],
            context_of_all: true,
            sequences: &["-np", "--parallel"],
            cache: &["-ctk", "--cache-type-k", "-ctv", "--cache-type-v"],
            caches: &[
                ("f16", CachePrecision::Fp16),
                ("f32", CachePrecision::Fp32),
                ("bf16", CachePrecision::Bf16),
                ("q8_0", CachePrecision::Q80),
                ("q5_1", CachePrecision::Q51),
                ("q5_0", CachePrecision::Q50),
                ("q4_1", CachePrecision::Q41),
                ("q4_0", CachePrecision::Q40),
            ],
            batch: &["-ub", "--ubatch-size"],
            ..NONE
        },
        Engine::Tgi => Names {
            context: &["--max-total-tokens"],
            sequences: &["--max-concurrent-requests"],
            cache: &["--kv-cache-dtype"],
            caches: &[("fp8_e4m3fn", CachePrecision::Fp8)],
            tensor: &["--num-shard"],
            batch: &["--max-batch-prefill-tokens"],
            ..NONE
        },
        Engine::Transformers | Engine::None => NONE,
    }
}

/// What the arguments of an engine say.
///
/// # Errors
/// A value that is none, or an argument whose memory cannot be counted.
pub(crate) fn read(engine: &EngineSpec) -> Result<Told, Refusal> {
    let names = names(engine.name);
    let arguments = engine.args.as_deref().unwrap_or_default();
    let mut told = Told::default();
    let mut context_of_all = None;
    // The last one counts, as it does for the engines.
    for flag in flags(arguments) {
        let name = flag.name.as_str();
        let is = |list: &[&str]| list.contains(&name);
        if is(names.context) {
            let said = number(&flag, "tokens", MOST)?;
            if names.context_of_all { context_of_all = Some(said) } else { told.context = Some(said) }
        } else if is(names.sequences) {
            told.sequences = Some(number(&flag, "sequences", MOST_SEQUENCES)?);
        } else if is(names.tensor) {
            told.tensor = Some(number(&flag, "ranks", MOST_RANKS)?);
        } else if is(names.pipeline) {
            told.pipeline = Some(number(&flag, "stages", MOST_RANKS)?);
        } else if is(names.batch) {
            // SGLang's -1 is "no chunks": its default is as good a guess.
            let unchunked = engine.name == Engine::Sglang && flag.value == Some("-1");
            told.batched_tokens = if unchunked { None } else { Some(number(&flag, "tokens", MOST)?.value) };
        } else if is(names.cache) {
            told.cache_precision = Some(cache(&flag, names.caches)?);
        }
    }
    if let Some(all) = context_of_all {
        told.context = Some(per_sequence(all, told.sequences.as_ref().map_or(1, |said| said.value))?);
    }
    told.options = match engine.name {
        Engine::Vllm => vllm(arguments)?,
        Engine::Sglang => sglang(arguments)?,
        Engine::LlamaCpp => llama_cpp(arguments)?,
        Engine::Tgi => tgi(arguments)?,
        Engine::Transformers | Engine::None => Options::default(),
    };
    Ok(told)
}

/// What of the arguments is not counted: flags that do not change memory as far as is known, and those that are misspelt.
#[must_use]
pub fn uncounted(engine: Engine, arguments: &[String]) -> Vec<String> {
    let names = names(engine);
    let lists = [names.context, names.sequences, names.cache, names.tensor, names.pipeline, names.batch];
    let options = option_flags(engine);
    let is_known = |name: &str| lists.iter().any(|list| list.contains(&name)) || options.contains(&name);
    let mut uncounted: Vec<String> =
        flags(arguments).filter(|flag| !is_known(&flag.name)).map(|flag| shorten(&flag.name)).collect();
    let of_flags: Vec<usize> = flags(arguments).flat_map(|flag| flag.at..flag.at + flag.span).collect();
    let alone = arguments.iter().enumerate().filter(|(at, _)| !of_flags.contains(at));
    uncounted.extend(alone.map(|(_, word)| shorten(word)));
    uncounted
}

/// The flags that `vllm`, `sglang`, `llama_cpp` and `tgi` read.
const fn option_flags(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Vllm => &[
            "--enable-lora",
            "--no-enable-lora",
            "--max-loras",
            "--max-lora-rank",
            "--enforce-eager",
            "--no-enforce-eager",
            "--enable-expert-parallel",
            "-ep",
            "--no-enable-expert-parallel",
            "--speculative-config",
            "-sc",
            utilization::FLAG,
        ],
        Engine::Sglang => &[
            "--enable-lora",
            "--lora-paths",
            "--max-loras-per-batch",
            "--max-lora-rank",
            "--disable-cuda-graph",
            "--ep-size",
            "--ep",
            "--expert-parallel-size",
            "--speculative-algorithm",
            "--speculative-draft-model-path",
            "--speculative-draft-model",
            "--speculative-num-draft-tokens",
        ],
        Engine::LlamaCpp => &[
            "-fa",
            "--flash-attn",
            "-ngl",
            "--gpu-layers",
            "--n-gpu-layers",
            "-ncmoe",
            "--n-cpu-moe",
            "-cmoe",
            "--cpu-moe",
            "-ot",
            "--override-tensor",
        ],
        Engine::Tgi => &["--cuda-graphs", "--speculate"],
        Engine::Transformers | Engine::None => &[],
    }
}

/// llama.cpp's server divides its context among the sequences.
fn per_sequence(all: Said<u64>, sequences: u64) -> Result<Said<u64>, Refusal> {
    let each = all.value.checked_div(sequences).unwrap_or(0);
    if each.checked_mul(sequences) == Some(all.value) && each > 0 {
        return Ok(Said { value: each, ..all });
    }
    Err(Refusal::invalid(
        "engine.args",
        format!("{} {} cannot be divided among {sequences} sequences", all.flag, all.value),
        format!("write a multiple of {sequences}, or set the context's length and the sequences instead"),
    ))
}

fn field(flag: &Flag<'_>) -> String {
    format!("engine.args[{}]", flag.at)
}

fn number(flag: &Flag<'_>, what: &str, largest: u64) -> Result<Said<u64>, Refusal> {
    let written = flag.value.unwrap_or_default();
    let Ok(count) = written.parse::<i64>() else {
        return Err(Refusal::invalid(
            field(flag),
            format!("{} has \"{}\", which is not a number of {what}", flag.name, shorten(written)),
            "write a whole number such as 8192",
        ));
    };
    let value = whole(&format!("{} {}", field(flag), flag.name), count, what, largest)?;
    Ok(Said { value, flag: flag.name.clone(), written: written.to_owned() })
}

fn cache(flag: &Flag<'_>, known: &[(&str, CachePrecision)]) -> Result<Said<CachePrecision>, Refusal> {
    let written = flag.value.unwrap_or_default();
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == written) {
        return Ok(Said { value: *value, flag: flag.name.clone(), written: written.to_owned() });
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    Err(Refusal::invalid(
        field(flag),
        format!("{} has \"{}\", which cannot be counted", flag.name, shorten(written)),
        format!("write one of {}, or leave it out and set the precision of the cache", names.join(", ")),
    ))
}

/// Whether a flag is on: there, and not with a value that says no.
fn is_on(flag: &Flag<'_>) -> bool {
    !flag
        .value
        .is_some_and(|value| ["false", "0", "off", "no"].iter().any(|no| value.eq_ignore_ascii_case(no)))
}

fn vllm(arguments: &[String]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    // The defaults of `--max-loras` and `--max-lora-rank`.
    let (mut adapters, mut slots) = (false, Adapters { count: 1, rank: 16 });
    for flag in flags(arguments) {
        match flag.name.as_str() {
            "--enable-lora" => adapters = is_on(&flag),
            "--no-enable-lora" => adapters = false,
            "--max-loras" => slots.count = number(&flag, "adapters", MOST_ADAPTERS)?.value,
            "--max-lora-rank" => slots.rank = number(&flag, "dimensions", MOST_ADAPTERS)?.value,
            "--enforce-eager" => options.eager = is_on(&flag),
            "--no-enforce-eager" => options.eager = false,
            "--enable-expert-parallel" | "-ep" => options.expert_parallel = is_on(&flag),
            "--no-enable-expert-parallel" => options.expert_parallel = false,
            "--speculative-config" | "-sc" => options.speculation = Some(speculation(&flag)?),
            name if name.starts_with("--speculative-config.") || name.starts_with("-sc.") => {
                return Err(Refusal::invalid(
                    field(&flag),
                    format!("{} is one key of several, which are not read one by one", flag.name),
                    "write --speculative-config with a JSON object",
                ));
            }
            _ => {}
        }
    }
    options.adapters = adapters.then_some(slots);
    Ok(options)
}

/// vLLM's `--speculative-config`: who guesses is told by `method`, else by `model`.
fn speculation(flag: &Flag<'_>) -> Result<Speculation, Refusal> {
    let written = flag.value.unwrap_or_default();
    let invalid = |problem: String, remedy: &str| Refusal::invalid(field(flag), problem, remedy);
    let example = "write such as {\"method\": \"mtp\", \"num_speculative_tokens\": 1}";
    let Ok(serde_json::Value::Object(config)) = serde_json::Value::from_str(written) else {
        return Err(invalid(
            format!("{} has \"{}\", which is not a JSON object", flag.name, shorten(written)),
            example,
        ));
    };
    let text = |key: &str| config.get(key).and_then(serde_json::Value::as_str);
    let (method, model) = (text("method"), text("model"));
    let draft = match method {
        Some(method) if method == "mtp" || method.ends_with("_mtp") => Draft::OwnHeads,
        Some("ngram" | "ngram_gpu" | "suffix") => Draft::Text,
        Some("eagle" | "eagle3" | "medusa" | "mlp_speculator") => Draft::Head,
        None if model == Some("ngram") || model == Some("[ngram]") => Draft::Text,
        None | Some("draft_model") => match model {
            Some(model) => Draft::Model(model.to_owned()),
            None => {
                return Err(invalid(format!("{} names neither a method nor a model", flag.name), example));
            }
        },
        Some(other) => {
            return Err(invalid(
                format!("the method \"{}\" cannot be counted", shorten(other)),
                "use mtp, ngram, eagle, eagle3 or draft_model",
            ));
        }
    };
    let tokens = match config.get("num_speculative_tokens") {
        // The heads' own number, which is one in every model that has them.
        None if draft == Draft::OwnHeads => 1,
        None => return Err(invalid("num_speculative_tokens is missing".to_owned(), example)),
        Some(tokens) => match tokens.as_u64().filter(|tokens| (1..=MOST_GUESSES).contains(tokens)) {
            Some(tokens) => tokens,
            None => {
                return Err(invalid(
                    format!("num_speculative_tokens is {}", shorten(&tokens.to_string())),
                    "write a whole number from 1 to 1024",
                ));
            }
        },
    };
    Ok(Speculation { tokens, draft })
}

fn sglang(arguments: &[String]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    // The default of `--max-loras-per-batch`; the rank is that of the adapters, which are not read.
    let (mut adapters, mut count, mut rank) = (None, 8, None);
    let (mut algorithm, mut draft, mut tokens) = (None, None, None);
    for flag in flags(arguments) {
        match flag.name.as_str() {
            "--enable-lora" | "--lora-paths" => adapters = is_on(&flag).then_some(flag),
            "--max-loras-per-batch" => count = number(&flag, "adapters", MOST_ADAPTERS)?.value,
            "--max-lora-rank" => rank = Some(number(&flag, "dimensions", MOST_ADAPTERS)?.value),
            "--disable-cuda-graph" => options.eager = is_on(&flag),
            "--ep-size" | "--ep" | "--expert-parallel-size" => {
                options.expert_parallel = number(&flag, "ranks", MOST_RANKS)?.value > 1;
            }
            "--speculative-algorithm" => algorithm = Some(flag),
            "--speculative-draft-model-path" | "--speculative-draft-model" => draft = flag.value,
            "--speculative-num-draft-tokens" => tokens = Some(number(&flag, "tokens", MOST_GUESSES)?.value),
            _ => {}
        }
    }
    if let Some(flag) = adapters {
        let Some(rank) = rank else {
            return Err(Refusal::invalid(
                field(&flag),
                format!("{} without --max-lora-rank: the room for adapters cannot be counted", flag.name),
                "add --max-lora-rank with the largest rank among the adapters, such as 16",
            ));
        };
        options.adapters = Some(Adapters { count, rank });
    }
    if let Some(flag) = algorithm {
        let written = flag.value.unwrap_or_default();
        let draft = match (written.to_ascii_uppercase().as_str(), draft) {
            ("NEXTN", _) | ("EAGLE", None) => Draft::OwnHeads,
            ("EAGLE" | "EAGLE3", _) => Draft::Head,
            ("STANDALONE", Some(model)) => Draft::Model(model.to_owned()),
            ("NGRAM", _) => Draft::Text,
            _ => {
                return Err(Refusal::invalid(
                    field(&flag),
                    format!("{} {} cannot be counted", flag.name, shorten(written)),
                    "use EAGLE, EAGLE3, NEXTN, NGRAM, or STANDALONE with --speculative-draft-model-path",
                ));
            }
        };
        // Without a number SGLang takes four for most models.
        options.speculation = Some(Speculation { tokens: tokens.unwrap_or(4), draft });
    }
    Ok(options)
}

fn llama_cpp(arguments: &[String]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    for flag in flags(arguments) {
        match flag.name.as_str() {
            "-fa" | "--flash-attn" => options.without_flash_attention = !is_on(&flag),
            "-ngl" | "--gpu-layers" | "--n-gpu-layers" => options.gpu_layers = gpu_layers(&flag)?,
            "-ncmoe" | "--n-cpu-moe" => {
                options.host_expert_layers = Some(number(&flag, "layers", MOST)?.value);
            }
            "-cmoe" | "--cpu-moe" => options.host_expert_layers = Some(MOST),
            // The usual pattern: every layer's experts. Others are not followed, so that too much is counted, not too little.
            "-ot" | "--override-tensor" if flag.value.is_some_and(all_experts_on_host) => {
                options.host_expert_layers = Some(MOST);
            }
            name @ ("-md" | "--model-draft" | "--lora" | "--lora-scaled" | "--mmproj") => {
                return Err(Refusal::not_supported(
                    field(&flag),
                    format!(
                        "{name} loads a second file, which is not counted: leave it out, or use engine none and say what it needs by safetyMargin"
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(options)
}

/// `-ngl`: a number, or a word for all. As many as there are, or more, is all.
fn gpu_layers(flag: &Flag<'_>) -> Result<Option<u64>, Refusal> {
    /// What people write for all layers, and no model has.
    const ALL: u64 = 999;
    if matches!(flag.value, Some("all" | "auto" | "-1")) {
        return Ok(None);
    }
    // 0 is a number of layers too, which the estimate answers.
    if flag.value == Some("0") {
        return Ok(Some(0));
    }
    Ok(Some(number(flag, "layers", MOST)?.value).filter(|layers| *layers < ALL))
}

fn all_experts_on_host(pattern: &str) -> bool {
    let Some(tensors) = pattern.strip_suffix("=CPU") else { return false };
    tensors.contains("exps") && !tensors.contains(|c: char| c.is_ascii_digit())
}

fn tgi(arguments: &[String]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    for flag in flags(arguments) {
        match flag.name.as_str() {
            "--cuda-graphs" => options.eager = flag.value == Some("0"),
            "--speculate" => {
                let tokens = number(&flag, "tokens", MOST_GUESSES)?.value;
                options.speculation = Some(Speculation { tokens, draft: Draft::Text });
            }
            "--lora-adapters" => {
                return Err(Refusal::not_supported(
                    field(&flag),
                    "adapters of tgi are not counted: use vllm with --enable-lora, or leave them out",
                ));
            }
            _ => {}
        }
    }
    Ok(options)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
