//! vLLM. Its flags: docs.vllm.ai (Engine Arguments) and `vllm/engine/arg_utils.py` (0.19 to 0.33); what it loads: docs.vllm.ai
//! (Quantization) and `vllm/model_executor/layers/quantization`.

use std::str::FromStr;

use super::arguments::Flag;
use super::options::{MOST_GUESSES, adapters, count, is_on};
use super::table::{
    Choice, Entry, Files, Fraction, Kind, Loads, MOST_RANKS, MOST_SEQUENCES, MOST_TOKENS, Place, Says, Table,
    Values, field, plain, suffixed,
};
use crate::estimate::{Draft, Options, Speculation};
use crate::precision::{CachePrecision, Precision};
use crate::refusal::Refusal;
use crate::units::shorten;

/// The engine, at the release that the estimates are calibrated on.
pub(super) const TABLE: Table = Table {
    image: Some("vllm/vllm-openai:v0.19.0"),
    stock: &["vllm-openai", "vllm-openai-rocm", "vllm", "vllm-cpu-release-repo"],
    command: &[],
    endpoint: Some((8000, "/health")),
    model_variables: &[],
    variables: &[],
    // The image's entry point is `vllm serve`.
    positional_model: true,
    flags: FLAGS,
    // The model's own 16-bit type: 0.19 has no float16 to ask for.
    untold_caches: &[CachePrecision::Auto, CachePrecision::Fp16],
    stages: true,
    cap_of_group: Some(|_| true),
    options,
    loads: Loads {
        files: Files::Safetensors,
        casts: &[Precision::Fp32, Precision::Fp16, Precision::Bf16],
        // In-flight: `fp8` has one scale per tensor; `bitsandbytes` is 4-bit NF4, its 8-bit form needs a checkpoint. Schemes with
        // blocks (`fp8_per_block`, `mxfp8`) came with 0.20.
        in_flight: &[(Precision::Fp8, "fp8"), (Precision::Nf4, "bitsandbytes")],
        checkpoints: &[
            Precision::Fp8,
            Precision::Fp8Block,
            Precision::Int8,
            Precision::Int4,
            Precision::GptqInt8,
            Precision::GptqInt4,
            Precision::AwqInt4,
            Precision::BnbInt8,
            Precision::Nf4,
            Precision::Mxfp8,
            Precision::Mxfp4,
            Precision::Nvfp4,
        ],
    },
};

const TOKENS: Values = Values::Number { what: "tokens", most: MOST_TOKENS, read: human };
const RANKS: Values = Values::Number { what: "ranks", most: MOST_RANKS, read: plain };

const FLAGS: &[Entry] = &[
    Entry::neither(&["--model"], Says::Model(Place::Any), Values::Text),
    Entry::neither(&["--revision"], Says::Revision, Values::Text),
    Entry::of(&["--max-model-len"], Kind::Reservation, Says::Context, TOKENS),
    Entry::of(
        &["--max-num-seqs"],
        Kind::Cap,
        Says::Sequences,
        Values::Number { what: "sequences", most: MOST_SEQUENCES, read: plain },
    ),
    // Its default grows with the card (2048 to 16384), and the activations with it: the estimate is for one figure.
    Entry::of(
        &["--max-num-batched-tokens"],
        Kind::Reservation,
        Says::BatchedTokens { unbounded: None, written: true },
        TOKENS,
    ),
    Entry::neither(&["--tensor-parallel-size", "-tp"], Says::Tensor, RANKS),
    Entry::neither(&["--pipeline-parallel-size", "-pp"], Says::Pipeline, RANKS),
    Entry::neither(
        &["--kv-cache-dtype"],
        Says::Cache,
        Values::Caches(&[
            ("auto", CachePrecision::Auto),
            ("bfloat16", CachePrecision::Bf16),
            ("fp8", CachePrecision::Fp8),
            ("fp8_e4m3", CachePrecision::Fp8),
            ("fp8_e5m2", CachePrecision::Fp8),
            // Newer releases only.
            ("float16", CachePrecision::Fp16),
        ]),
    ),
    Entry::neither(
        &["--dtype"],
        Says::Dtype,
        Values::Dtypes(&[
            ("auto", None),
            ("bfloat16", Some(Precision::Bf16)),
            ("float16", Some(Precision::Fp16)),
            ("half", Some(Precision::Fp16)),
            ("float32", Some(Precision::Fp32)),
            ("float", Some(Precision::Fp32)),
        ]),
    ),
    Entry::neither(&["--quantization", "-q"], Says::Quantization, Values::Text),
    Entry::of(
        &["--gpu-memory-utilization"],
        Kind::Cap,
        Says::MemoryFraction(Fraction::Whole(900)),
        Values::Fraction,
    ),
    Entry::neither(&["--enable-lora"], Says::Choice(Choice::Adapters(true)), Values::Switch),
    Entry::neither(&["--no-enable-lora"], Says::Choice(Choice::Adapters(false)), Values::Switch),
    Entry::of(&["--max-loras"], Kind::Reservation, Says::Choice(Choice::AdapterCount), Values::Text),
    Entry::of(&["--max-lora-rank"], Kind::Reservation, Says::Choice(Choice::AdapterRank), Values::Text),
    Entry::neither(&["--enforce-eager"], Says::Choice(Choice::Eager(true)), Values::Switch),
    Entry::neither(&["--no-enforce-eager"], Says::Choice(Choice::Eager(false)), Values::Switch),
    Entry::neither(&["--enable-expert-parallel", "-ep"], Says::Choice(Choice::Experts(true)), Values::Switch),
    Entry::neither(&["--no-enable-expert-parallel"], Says::Choice(Choice::Experts(false)), Values::Switch),
    Entry::neither(&["--speculative-config", "-sc"], Says::Choice(Choice::Speculation), Values::Json),
    Entry::neither(&["--data-parallel-size", "-dp"], Says::Data, RANKS),
    Entry::neither(&["--data-parallel-size-local", "-dpl"], Says::DataHere, RANKS),
    Entry::neither(&["--enable-prefix-caching"], Says::Choice(Choice::PrefixCaching(true)), Values::Switch),
    Entry::neither(
        &["--no-enable-prefix-caching"],
        Says::Choice(Choice::PrefixCaching(false)),
        Values::Switch,
    ),
    Entry::neither(&["--language-model-only"], Says::Choice(Choice::TextOnly), Values::Switch),
    Entry::neither(&["--prefill-context-parallel-size", "-pcp"], Says::Copies, RANKS),
    Entry::neither(&["--nnodes", "-n"], Says::Copies, RANKS),
    Entry::refused(
        &["--kv-cache-memory-bytes"],
        "sets the cache in bytes, whatever the context and the sequences are",
        "leave it out: context.length and context.sequences say how much is held",
    ),
    Entry::refused(
        &["--num-gpu-blocks-override"],
        "sets the cache in blocks, whatever the context and the sequences are",
        "leave it out: context.length and context.sequences say how much is held",
    ),
    Entry::refused(
        &["--config"],
        "names a file of arguments, which are not read",
        "write its arguments in engine.args",
    ),
    Entry::uncounted(
        &["--enable-eplb", "--eplb-config"],
        "experts that are kept twice, where it is told to, are counted once: too little",
    ),
    Entry::uncounted(
        &["--cpu-offload-gb"],
        "weights that are kept in host memory are counted on the GPU: too much, not too little",
    ),
    Entry::uncounted(
        &["--decode-context-parallel-size", "-dcp"],
        "a cache that is divided among ranks is counted whole on each: too much, not too little",
    ),
    Entry::uncounted(
        &["--limit-mm-per-prompt"],
        "encoders are counted with as many tokens as a pass has, whatever a prompt may hold",
    ),
    Entry::uncounted(
        &["--block-size"],
        "blocks of 16 tokens are counted: the last one of a sequence differs",
    ),
    Entry::uncounted(
        &["--max-cudagraph-capture-size", "--cuda-graph-sizes"],
        "graphs are counted for the batch sizes that vLLM lists by default",
    ),
];

/// vLLM's own way: `32k` is 32,000 and `32K` is 32,768, which alone may not have a fraction before it.
fn human(text: &str) -> Option<i64> {
    const TENS: &[(&str, i64)] = &[("k", 1000), ("m", 1_000_000), ("g", 1_000_000_000)];
    const TWOS: &[(&str, i64)] = &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    suffixed(text, TENS, TWOS)
}

fn options(told: &[(Choice, Flag<'_>)]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    // The defaults of `--max-loras` and `--max-lora-rank`.
    let (mut has_adapters, mut slots) = (false, adapters(1, 16));
    for (choice, flag) in told {
        match choice {
            Choice::Adapters(on) => has_adapters = *on && is_on(flag),
            Choice::AdapterCount => slots.count = count(flag, "adapters")?,
            Choice::AdapterRank => slots.rank = count(flag, "dimensions")?,
            Choice::Eager(on) => options.eager = *on && is_on(flag),
            Choice::Experts(on) => options.expert_parallel = *on && is_on(flag),
            Choice::Speculation => options.speculation = Some(speculation(flag)?),
            Choice::PrefixCaching(on) => options.prefix_caching = Some(*on == is_on(flag)),
            Choice::TextOnly => options.text_only = is_on(flag),
            _ => {}
        }
    }
    options.adapters = has_adapters.then_some(slots);
    Ok(options)
}

/// `--speculative-config`: who guesses is told by `method`, else by `model`.
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

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn lengths_are_read_as_vllm_reads_them() {
        for (text, expected) in [
            ("8192", Some(8192)),
            (" 8192 ", Some(8192)),
            ("-1", Some(-1)),
            ("32k", Some(32_000)),
            ("32K", Some(32_768)),
            ("25.6k", Some(25_600)),
            ("0.5m", Some(500_000)),
            ("1M", Some(1_048_576)),
            ("2g", Some(2_000_000_000)),
            ("1.5K", None),
            (".5k", None),
            ("5.k", None),
            ("k", None),
            ("auto", None),
            ("32kk", None),
            ("-1k", None),
            ("9999999999999999999k", None),
            ("1.0000000000000000000001k", None),
            ("", None),
        ] {
            assert_eq!(human(text), expected, "{text}");
        }
    }
}
