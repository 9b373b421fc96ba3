//! What runs a model: the image, the command, and arguments that hold the engine to what was estimated.
//!
//! The images are pinned; vLLM's is the release that the estimates are calibrated on. The arguments are those of the
//! engines' own documentation: docs.vllm.ai (Engine Arguments), docs.sglang.io (Server Arguments), llama.cpp
//! tools/server/README.md, huggingface.co/docs/text-generation-inference (Launcher arguments).

use super::arguments::flags;
use super::combine::{self, Managed};
use super::fraction;
use crate::api::ModelDeploymentSpec;
use crate::estimate::{Estimate, Workload};
use crate::model::ModelShape;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::refusal::Refusal;
use crate::units::Margin;

/// What is to be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The object's spec.
    pub(crate) spec: &'a ModelDeploymentSpec,
    /// The model's shape.
    pub(crate) shape: &'a ModelShape,
    /// The repository that a catalog entry stands for.
    pub(crate) catalog_repository: Option<&'a str>,
    /// Whether the object brings an image, or a command, of its own.
    pub(crate) brought: bool,
    /// What it was estimated to take.
    pub(crate) estimate: &'a Estimate,
    /// The safety margin.
    pub(crate) margin: Margin,
}

/// How the container that serves the model is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The value of `app.kubernetes.io/name`.
    pub(crate) application: &'static str,
    /// The image, unless the template has one.
    pub(crate) image: Option<String>,
    /// The command, where the image's own will not do.
    pub(crate) command: Vec<String>,
    /// Loadline's arguments and the user's; `None` leaves the image's own.
    pub(crate) arguments: Option<Vec<String>>,
    /// Where it answers, and the path that says that the model is loaded.
    pub(crate) endpoint: Option<(u16, &'static str)>,
}

/// Why nothing is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Training is estimated only.
    Training,
    /// `engine.name: none` and no template.
    NoEngine,
    /// Nothing says where the weights are.
    NoModel,
    /// The engine has no image of its own.
    NoImage(Engine),
    /// The repository's weights cannot be loaded at the precision that was estimated.
    NoCheckpoint {
        /// The repository.
        repository: String,
        /// The precision.
        precision: Precision,
        /// The engine.
        engine: Engine,
    },
}

impl Nothing {
    /// Whether the spec asks for no more than an estimate. All else asks for something that cannot be run.
    #[must_use]
    pub const fn is_by_choice(&self) -> bool {
        matches!(self, Self::Training | Self::NoEngine)
    }
}

/// Whether anything is to run.
pub(crate) enum Launch {
    /// Nothing, and why.
    Nothing(Nothing),
    /// This.
    Run(Start),
}

/// Where the weights are.
enum Weights<'a> {
    /// A Hugging Face repository, at a revision, and the file if it is a GGUF.
    Repository { repository: &'a str, revision: Option<&'a str>, file: Option<&'a str> },
    /// A GGUF file.
    Url(&'a str),
    /// Not known to Loadline: the image or the arguments know.
    Unsaid,
}

/// An engine's constants.
struct Profile {
    image: Option<&'static str>,
    command: &'static [&'static str],
    endpoint: Option<(u16, &'static str)>,
    /// Flags that name the model.
    model_flags: &'static [&'static str],
}

const fn profile(engine: Engine) -> Profile {
    match engine {
        Engine::Vllm => Profile {
            image: Some("vllm/vllm-openai:v0.19.0"),
            command: &[],
            endpoint: Some((8000, "/health")),
            model_flags: &["--model"],
        },
        Engine::Sglang => Profile {
            image: Some("lmsysorg/sglang:v0.5.15"),
            command: &["python3", "-m", "sglang.launch_server"],
            endpoint: Some((30000, "/health")),
            model_flags: &["--model-path", "--model"],
        },
        Engine::LlamaCpp => Profile {
            image: Some("ghcr.io/ggml-org/llama.cpp:server-cuda-b10481"),
            command: &[],
            endpoint: Some((8080, "/health")),
            model_flags: &["--model", "-m", "--model-url", "-mu", "--hf-repo", "-hf", "-hfr"],
        },
        Engine::Tgi => Profile {
            image: Some("ghcr.io/huggingface/text-generation-inference:3.3.7"),
            command: &[],
            endpoint: Some((80, "/health")),
            model_flags: &["--model-id"],
        },
        Engine::Transformers | Engine::None => {
            Profile { image: None, command: &[], endpoint: None, model_flags: &[] }
        }
    }
}

/// What is to run for an object, if anything.
pub(crate) fn start(question: Question<'_>) -> Result<Launch, Refusal> {
    let Question { spec, estimate, .. } = question;
    let workload = &estimate.workload;
    let engine = workload.engine;
    let image = spec.engine.as_ref().and_then(|engine| engine.image.clone());
    let extra = spec.engine.as_ref().and_then(|engine| engine.args.as_deref()).unwrap_or_default();
    let profile = profile(engine);
    let application = if engine == Engine::None { "model" } else { engine.as_str() };
    let brought = question.brought;

    if engine == Engine::None {
        if !brought {
            return Ok(Launch::Nothing(Nothing::NoEngine));
        }
        let arguments = (!extra.is_empty()).then(|| extra.to_vec());
        return Ok(Launch::Run(Start { application, image, command: Vec::new(), arguments, endpoint: None }));
    }

    let named_by_user = flags(extra).any(|flag| profile.model_flags.contains(&flag.name.as_str()));
    let weights = if named_by_user { Weights::Unsaid } else { weights(question) };
    let loading = loading(question, workload, engine);
    let weights = match (weights, &loading) {
        (Weights::Repository { repository, .. }, Loading::Impossible) if !brought => {
            return Ok(Launch::Nothing(Nothing::NoCheckpoint {
                repository: repository.to_owned(),
                precision: workload.precision.unwrap_or(Precision::Bf16),
                engine,
            }));
        }
        // An image that was brought may hold weights that Loadline does not know.
        (_, Loading::Impossible) => Weights::Unsaid,
        (weights, _) => weights,
    };
    if matches!(weights, Weights::Unsaid) && !named_by_user && !brought {
        return Ok(Launch::Nothing(Nothing::NoModel));
    }
    if profile.image.is_none() && !brought {
        return Ok(Launch::Nothing(Nothing::NoImage(engine)));
    }
    let mut own = own_arguments(engine, workload, &weights, &loading)?;
    let told = fraction::own(flags(extra));
    own.extend(match engine {
        Engine::Vllm => fraction::vllm(question.margin, told.as_ref()),
        Engine::Sglang => fraction::sglang(&estimate.per_gpu, estimate.total_per_gpu, told.as_ref()),
        _ => None,
    });
    let arguments = combine::combine(engine, own, extra)?;
    Ok(Launch::Run(Start {
        application,
        image: image.or_else(|| profile.image.map(str::to_owned)),
        command: profile.command.iter().map(|word| (*word).to_owned()).collect(),
        arguments: (!arguments.is_empty()).then_some(arguments),
        endpoint: profile.endpoint,
    }))
}

fn weights(question: Question<'_>) -> Weights<'_> {
    let model = &question.spec.model;
    let gguf = model.gguf.as_ref();
    let reference = model.hugging_face.as_ref().or_else(|| gguf.and_then(|gguf| gguf.hugging_face.as_ref()));
    if let Some(reference) = reference {
        return Weights::Repository {
            repository: &reference.repository,
            revision: reference.revision.as_deref(),
            file: reference.file.as_deref(),
        };
    }
    if let Some(url) = gguf.and_then(|gguf| gguf.url.as_deref()) {
        return Weights::Url(url);
    }
    match question.catalog_repository {
        Some(repository) => Weights::Repository { repository, revision: None, file: None },
        None => Weights::Unsaid,
    }
}

/// How the weights that are stored become the weights that were estimated.
enum Loading {
    /// They are.
    AsStored,
    /// The engine casts them to this 16- or 32-bit type.
    Cast(Precision),
    /// The engine quantises them as it loads them, by this method.
    Quantize(&'static str),
    /// It cannot.
    Impossible,
}

fn loading(question: Question<'_>, workload: &Workload, engine: Engine) -> Loading {
    let Some(wanted) = workload.precision else { return Loading::AsStored };
    let stored =
        question.shape.quantization.as_ref().map(|own| own.precision).or(question.shape.stored_precision);
    let is_quantized = question.shape.quantization.is_some();
    match (engine, wanted) {
        _ if is_quantized && stored == Some(wanted) => Loading::AsStored,
        // A GGUF file is loaded as it is.
        (Engine::LlamaCpp, _) if stored.is_none() || stored == Some(wanted) => Loading::AsStored,
        (Engine::LlamaCpp, _) => Loading::Impossible,
        (_, Precision::Fp32 | Precision::Fp16 | Precision::Bf16) if !is_quantized => Loading::Cast(wanted),
        (Engine::Vllm | Engine::Sglang | Engine::Tgi, Precision::Fp8) if !is_quantized => {
            Loading::Quantize("fp8")
        }
        (Engine::Vllm | Engine::Sglang, Precision::Nf4) if !is_quantized => Loading::Quantize("bitsandbytes"),
        (Engine::Tgi, Precision::Nf4) if !is_quantized => Loading::Quantize("bitsandbytes-nf4"),
        _ => Loading::Impossible,
    }
}

fn own_arguments(
    engine: Engine,
    workload: &Workload,
    weights: &Weights<'_>,
    loading: &Loading,
) -> Result<Vec<Managed>, Refusal> {
    match engine {
        Engine::Vllm => vllm(workload, weights, loading),
        Engine::Sglang => sglang(workload, weights, loading),
        Engine::LlamaCpp => llama_cpp(workload, weights),
        Engine::Tgi => tgi(workload, weights, loading),
        Engine::Transformers | Engine::None => Ok(Vec::new()),
    }
}

/// Tokens of one forward pass, as the estimate counts them.
fn batch(flag: &'static str, aliases: &'static [&'static str], workload: &Workload) -> Option<Managed> {
    workload.batched_tokens.map(|tokens| Managed::of(flag, aliases, tokens, "engine.args"))
}

fn vllm(workload: &Workload, weights: &Weights<'_>, loading: &Loading) -> Result<Vec<Managed>, Refusal> {
    let cache = match workload.cache_precision {
        // The model's own 16-bit type; there is no float16 to ask for.
        CachePrecision::Auto | CachePrecision::Fp16 => None,
        CachePrecision::Bf16 => Some("bfloat16"),
        CachePrecision::Fp8 => Some("fp8"),
        other => return Err(no_such_cache(Engine::Vllm, other, "auto, fp16, bf16 or fp8")),
    };
    let mut own = model("--model", weights, true);
    own.extend(length("--max-model-len", workload));
    own.push(Managed::of("--max-num-seqs", &[], workload.sequences, "context.sequences"));
    // Its default grows with the card (2048 to 16384), and the activations with it: the estimate is for one figure.
    own.extend(batch("--max-num-batched-tokens", &["--max_num_batched_tokens"], workload));
    own.push(Managed::of("--tensor-parallel-size", &["-tp"], workload.tensor, "parallelism.tensor"));
    own.push(Managed::of("--pipeline-parallel-size", &["-pp"], workload.pipeline, "parallelism.pipeline"));
    own.extend(cache.map(|cache| Managed::of("--kv-cache-dtype", &[], cache, "context.cachePrecision")));
    own.extend(dtype(loading, "float32"));
    own.extend(quantize("--quantization", &["-q"], loading));
    Ok(own)
}

fn sglang(workload: &Workload, weights: &Weights<'_>, loading: &Loading) -> Result<Vec<Managed>, Refusal> {
    let cache = match workload.cache_precision {
        CachePrecision::Auto | CachePrecision::Fp16 => None,
        CachePrecision::Bf16 => Some("bf16"),
        CachePrecision::Fp8 => Some("fp8_e4m3"),
        other => return Err(no_such_cache(Engine::Sglang, other, "auto, fp16, bf16 or fp8")),
    };
    let mut own = model("--model-path", weights, true);
    // It listens on the loopback address by default, where no probe and no client reaches it.
    own.push(Managed::of("--host", &[], "0.0.0.0", "engine"));
    own.extend(length("--context-length", workload));
    own.push(Managed::of("--max-running-requests", &[], workload.sequences, "context.sequences"));
    own.extend(batch("--chunked-prefill-size", &[], workload));
    own.push(Managed::of(
        "--tp-size",
        &["--tp", "--tensor-parallel-size"],
        workload.tensor,
        "parallelism.tensor",
    ));
    own.push(Managed::of(
        "--pp-size",
        &["--pp", "--pipeline-parallel-size"],
        workload.pipeline,
        "parallelism.pipeline",
    ));
    own.extend(cache.map(|cache| Managed::of("--kv-cache-dtype", &[], cache, "context.cachePrecision")));
    own.extend(dtype(loading, "float32"));
    own.extend(quantize("--quantization", &[], loading));
    Ok(own)
}

fn llama_cpp(workload: &Workload, weights: &Weights<'_>) -> Result<Vec<Managed>, Refusal> {
    let cache = match workload.cache_precision {
        CachePrecision::Auto | CachePrecision::Fp16 => "f16",
        CachePrecision::Fp32 => "f32",
        CachePrecision::Bf16 => "bf16",
        CachePrecision::Q80 => "q8_0",
        CachePrecision::Q51 => "q5_1",
        CachePrecision::Q50 => "q5_0",
        CachePrecision::Q41 => "q4_1",
        CachePrecision::Q40 => "q4_0",
        other @ (CachePrecision::Fp8 | CachePrecision::Int8) => {
            return Err(no_such_cache(
                Engine::LlamaCpp,
                other,
                "fp32, fp16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0",
            ));
        }
    };
    let mut own = match weights {
        Weights::Repository { repository, file: Some(file), .. } => vec![
            Managed::of("--hf-repo", &["-hfr", "-hf"], repository, "model"),
            Managed::of("--hf-file", &["-hff"], file, "model"),
        ],
        Weights::Repository { repository, file: None, .. } => {
            vec![Managed::of("--hf-repo", &["-hfr", "-hf"], repository, "model")]
        }
        Weights::Url(url) => vec![Managed::of("--model-url", &["-mu"], url, "model")],
        Weights::Unsaid => Vec::new(),
    };
    own.push(Managed::of("--host", &[], "0.0.0.0", "engine"));
    // The context of all sequences together: the server divides it among them.
    if let Some(length) = workload.context {
        let all =
            length.checked_mul(workload.sequences).ok_or(Refusal::Estimate(crate::units::Overflow.into()))?;
        own.push(Managed::of("-c", &["--ctx-size"], all, "context"));
    }
    own.push(Managed::of("-np", &["--parallel"], workload.sequences, "context.sequences"));
    let on_gpus = workload.options.gpu_layers.unwrap_or(999);
    own.push(Managed::of("-ngl", &["--gpu-layers", "--n-gpu-layers"], on_gpus, "engine.args"));
    own.push(Managed::of("--cache-type-k", &["-ctk"], cache, "context.cachePrecision"));
    own.push(Managed::of("--cache-type-v", &["-ctv"], cache, "context.cachePrecision"));
    if cache.starts_with('q') {
        // Values are held quantised only with flash attention.
        own.push(Managed::of("--flash-attn", &["-fa"], "on", "context.cachePrecision"));
    }
    if workload.tensor > 1 || workload.pipeline > 1 {
        // Whole layers per GPU, as the estimate counts them.
        own.push(Managed::of("--split-mode", &["-sm"], "layer", "parallelism"));
    }
    Ok(own)
}

fn tgi(workload: &Workload, weights: &Weights<'_>, loading: &Loading) -> Result<Vec<Managed>, Refusal> {
    let cache = match workload.cache_precision {
        CachePrecision::Auto | CachePrecision::Fp16 | CachePrecision::Bf16 => None,
        CachePrecision::Fp8 => Some("fp8_e4m3fn"),
        other => return Err(no_such_cache(Engine::Tgi, other, "auto, fp16, bf16 or fp8")),
    };
    if workload.pipeline > 1 {
        return Err(Refusal::Invalid {
            field: "parallelism.pipeline".to_owned(),
            problem: format!("{} with engine tgi, which has no pipeline stages", workload.pipeline),
            remedy: "set parallelism.pipeline: 1 and parallelism.tensor, or another engine".to_owned(),
        });
    }
    let mut own = model("--model-id", weights, true);
    if let Some(length) = workload.context {
        let all =
            length.checked_mul(workload.sequences).ok_or(Refusal::Estimate(crate::units::Overflow.into()))?;
        own.push(Managed::of("--max-total-tokens", &[], length, "context.length"));
        own.push(Managed::of("--max-input-tokens", &[], length.saturating_sub(1).max(1), "context.length"));
        own.push(Managed::of("--max-batch-total-tokens", &[], all, "context"));
    }
    own.extend(batch("--max-batch-prefill-tokens", &[], workload));
    own.push(Managed::of("--max-concurrent-requests", &[], workload.sequences, "context.sequences"));
    own.push(Managed::of("--num-shard", &[], workload.tensor, "parallelism.tensor"));
    own.extend(cache.map(|cache| Managed::of("--kv-cache-dtype", &[], cache, "context.cachePrecision")));
    own.extend(dtype(loading, "float32"));
    own.extend(quantize("--quantize", &[], loading));
    Ok(own)
}

/// The flag that names the model, and its revision.
fn model(flag: &'static str, weights: &Weights<'_>, with_revision: bool) -> Vec<Managed> {
    match weights {
        Weights::Repository { repository, revision, .. } => {
            let mut flags = vec![Managed::of(flag, &[], repository, "model")];
            let revision = revision.filter(|_| with_revision);
            flags.extend(revision.map(|revision| Managed::of("--revision", &[], revision, "model")));
            flags
        }
        Weights::Url(url) => vec![Managed::of(flag, &[], url, "model")],
        Weights::Unsaid => Vec::new(),
    }
}

fn length(flag: &'static str, workload: &Workload) -> Option<Managed> {
    workload.context.map(|length| Managed::of(flag, &[], length, "context.length"))
}

fn dtype(loading: &Loading, single: &'static str) -> Option<Managed> {
    let name = match loading {
        Loading::Cast(Precision::Bf16) => "bfloat16",
        Loading::Cast(Precision::Fp16) => "float16",
        Loading::Cast(Precision::Fp32) => single,
        _ => return None,
    };
    Some(Managed::of("--dtype", &[], name, "precision"))
}

fn quantize(flag: &'static str, aliases: &'static [&'static str], loading: &Loading) -> Option<Managed> {
    match loading {
        Loading::Quantize(method) => Some(Managed::of(flag, aliases, method, "precision")),
        _ => None,
    }
}

fn no_such_cache(engine: Engine, cache: CachePrecision, known: &str) -> Refusal {
    Refusal::Invalid {
        field: "context.cachePrecision".to_owned(),
        problem: format!("{cache} is not a cache that {engine} can hold"),
        remedy: format!("set one of {known}, or another engine"),
    }
}
