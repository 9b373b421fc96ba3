//! llama.cpp's server. Its flags: llama.cpp tools/server/README.md. It loads GGUF files, as they are.

use super::arguments::Flag;
use super::options::is_on;
use super::table::{
    Choice, Entry, Files, Kind, Loads, MOST_SEQUENCES, MOST_TOKENS, Place, Says, Table, Values, number, plain,
};
use crate::estimate::{Options, Workload};
use crate::precision::CachePrecision;
use crate::refusal::Refusal;

/// The engine.
pub(super) const TABLE: Table = Table {
    image: Some("ghcr.io/ggml-org/llama.cpp:server-cuda-b10481"),
    stock: &["llama.cpp", "llama-server"],
    command: &[],
    endpoint: Some((8080, "/health")),
    model_variables: &["LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_HF_REPO"],
    variables: VARIABLES,
    positional_model: false,
    flags: FLAGS,
    untold_caches: &[CachePrecision::Auto],
    stages: true,
    cap_of_group: None,
    options,
    loads: Loads { files: Files::Gguf, casts: &[], in_flight: &[], checkpoints: &[] },
};

const VARIABLES: &[(&str, &str)] = &[
    ("LLAMA_ARG_MODEL", "--model"),
    ("LLAMA_ARG_MODEL_URL", "--model-url"),
    ("LLAMA_ARG_HF_REPO", "--hf-repo"),
    ("LLAMA_ARG_HF_FILE", "--hf-file"),
    ("LLAMA_ARG_CTX_SIZE", "--ctx-size"),
    ("LLAMA_ARG_N_PARALLEL", "--parallel"),
    ("LLAMA_ARG_UBATCH", "--ubatch-size"),
    ("LLAMA_ARG_N_GPU_LAYERS", "--n-gpu-layers"),
    ("LLAMA_ARG_CACHE_TYPE_K", "--cache-type-k"),
    ("LLAMA_ARG_CACHE_TYPE_V", "--cache-type-v"),
    ("LLAMA_ARG_KV_UNIFIED", "--kv-unified"),
    ("LLAMA_ARG_NO_MMPROJ", "--no-mmproj"),
    ("LLAMA_ARG_MMPROJ", "--mmproj"),
    ("LLAMA_ARG_FLASH_ATTN", "--flash-attn"),
    ("LLAMA_ARG_SPLIT_MODE", "--split-mode"),
    ("LLAMA_ARG_N_CPU_MOE", "--n-cpu-moe"),
];

const TOKENS: Values = Values::Number { what: "tokens", most: MOST_TOKENS, read: plain };
const LAYERS: Values = Values::Number { what: "layers", most: MOST_TOKENS, read: plain };
const CACHES: Values = Values::Caches(&[
    ("f16", CachePrecision::Fp16),
    ("f32", CachePrecision::Fp32),
    ("bf16", CachePrecision::Bf16),
    ("q8_0", CachePrecision::Q80),
    ("q5_1", CachePrecision::Q51),
    ("q5_0", CachePrecision::Q50),
    ("q4_1", CachePrecision::Q41),
    ("q4_0", CachePrecision::Q40),
]);
/// What people write for all layers, and no model has.
const ALL: u64 = 999;
/// Slots of a server that is not told how many (`server.cpp`).
const UNTOLD_SLOTS: u64 = 4;
/// A second file beside the model's.
const SECOND: &str = "loads a second file, which is not counted";
const WITHOUT: &str = "leave it out, or use engine none and say what it needs by safetyMargin";

const FLAGS: &[Entry] = &[
    Entry::neither(&["--hf-repo", "-hfr", "-hf"], Says::Model(Place::Repository), Values::Text),
    Entry::neither(&["--hf-file", "-hff"], Says::Model(Place::File), Values::Text),
    Entry::neither(&["--model-url", "-mu"], Says::Model(Place::Url), Values::Text),
    Entry::neither(&["--model", "-m"], Says::Model(Place::Path), Values::Text),
    // It listens on the loopback address by default, where no probe and no client reaches it.
    Entry::neither(&["--host"], Says::Fixed("0.0.0.0"), Values::Text),
    Entry::of(&["-c", "--ctx-size"], Kind::Reservation, Says::ContextOfAll, TOKENS),
    // Slots: the context is divided among them.
    Entry::of(
        &["-np", "--parallel"],
        Kind::Reservation,
        Says::Sequences,
        Values::Number { what: "sequences", most: MOST_SEQUENCES, read: plain },
    ),
    Entry::of(
        &["-ub", "--ubatch-size"],
        Kind::Reservation,
        // Its default is what is counted.
        Says::BatchedTokens { unbounded: None, written: false },
        TOKENS,
    ),
    Entry::neither(
        &["-ngl", "--gpu-layers", "--n-gpu-layers"],
        Says::Written(Choice::GpuLayers, |workload| Some(layers_on_gpus(workload)), "engine.args"),
        LAYERS,
    ),
    Entry::neither(&["--cache-type-k", "-ctk"], Says::Cache, CACHES),
    Entry::neither(&["--cache-type-v", "-ctv"], Says::ValueCache, CACHES),
    Entry::neither(&["--kv-unified", "-kvu"], Says::Choice(Choice::Unified(true)), Values::Switch),
    Entry::neither(&["--no-kv-unified", "-no-kvu"], Says::Choice(Choice::Unified(false)), Values::Switch),
    Entry::neither(
        &["--no-mmproj", "--no-mmproj-auto", "--no-mmproj-offload"],
        Says::Choice(Choice::TextOnly),
        Values::Switch,
    ),
    Entry::neither(
        &["--mmproj", "-mm", "--mmproj-url", "-mmu"],
        Says::Choice(Choice::TowerFile),
        Values::Text,
    ),
    Entry::neither(
        &["--flash-attn", "-fa"],
        Says::Written(Choice::FlashAttention, flash_attention, "context.cachePrecision"),
        Values::Switch,
    ),
    Entry::neither(
        &["--split-mode", "-sm"],
        Says::Written(Choice::Split, split, "parallelism"),
        Values::Text,
    ),
    Entry::neither(&["--n-cpu-moe", "-ncmoe"], Says::Choice(Choice::HostExpertLayers), LAYERS),
    Entry::neither(&["--cpu-moe", "-cmoe"], Says::Choice(Choice::HostExperts), Values::Switch),
    Entry::neither(&["--override-tensor", "-ot"], Says::Choice(Choice::TensorPlaces), Values::Text),
    Entry::refused(&["--model-draft", "-md"], SECOND, WITHOUT),
    Entry::refused(&["--lora", "--lora-scaled"], SECOND, WITHOUT),
    Entry::uncounted(
        &["--tensor-split", "-ts"],
        "layers are counted as evenly divided among the GPUs as can be",
    ),
];

/// All of them, unless the user keeps some in host memory.
fn layers_on_gpus(workload: &Workload) -> String {
    workload.options.gpu_layers.unwrap_or(ALL).to_string()
}

/// Values are held quantised only with flash attention.
fn flash_attention(workload: &Workload) -> Option<String> {
    use CachePrecision::{Q40, Q41, Q50, Q51, Q80};
    let quantised = |cache| matches!(cache, Q80 | Q51 | Q50 | Q41 | Q40);
    let values = workload.options.value_cache_precision.unwrap_or(workload.cache_precision);
    (quantised(workload.cache_precision) || quantised(values)).then(|| "on".to_owned())
}

/// Whole layers per GPU, as the estimate counts them.
fn split(workload: &Workload) -> Option<String> {
    (workload.tensor > 1 || workload.pipeline > 1).then(|| "layer".to_owned())
}

fn options(told: &[(Choice, Flag<'_>)]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    for (choice, flag) in told {
        match choice {
            Choice::FlashAttention => options.without_flash_attention = !is_on(flag),
            Choice::GpuLayers => options.gpu_layers = gpu_layers(flag)?,
            Choice::HostExpertLayers => {
                options.host_expert_layers = Some(number(flag, "layers", MOST_TOKENS, plain)?);
            }
            Choice::Unified(on) => {
                // `--parallel` says how many; told neither, the server takes four.
                options.unified_slots = (*on == is_on(flag)).then_some(UNTOLD_SLOTS);
            }
            Choice::TextOnly => options.text_only = is_on(flag),
            Choice::TowerFile => options.tower_file = true,
            Choice::HostExperts => options.host_expert_layers = Some(MOST_TOKENS),
            // The usual pattern: every layer's experts. Others are not followed, so that too much is counted, not too little.
            Choice::TensorPlaces if flag.value.is_some_and(all_experts_on_host) => {
                options.host_expert_layers = Some(MOST_TOKENS);
            }
            _ => {}
        }
    }
    Ok(options)
}

/// `-ngl`: a number, or a word for all. As many as there are, or more, is all.
fn gpu_layers(flag: &Flag<'_>) -> Result<Option<u64>, Refusal> {
    if matches!(flag.value, Some("all" | "auto" | "-1")) {
        return Ok(None);
    }
    // 0 is a number of layers too, which the estimate answers.
    if flag.value == Some("0") {
        return Ok(Some(0));
    }
    Ok(Some(number(flag, "layers", MOST_TOKENS, plain)?).filter(|layers| *layers < ALL))
}

fn all_experts_on_host(pattern: &str) -> bool {
    let Some(tensors) = pattern.strip_suffix("=CPU") else { return false };
    tensors.contains("exps") && !tensors.contains(|c: char| c.is_ascii_digit())
}
