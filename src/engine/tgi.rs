//! Hugging Face text-generation-inference. Its flags and what it quantises while loading:
//! huggingface.co/docs/text-generation-inference (Launcher arguments) and `launcher/src/main.rs` (3.3).

use super::arguments::Flag;
use super::options::guesses;
use super::table::{
    Choice, Entry, Files, Fraction, Kind, Loads, MOST_RANKS, MOST_SEQUENCES, MOST_TOKENS, Place, Says, Table,
    Values, plain,
};
use crate::estimate::{Draft, Options, Speculation};
use crate::precision::{CachePrecision, Precision};
use crate::refusal::Refusal;

/// The engine.
pub(super) const TABLE: Table = Table {
    image: Some("ghcr.io/huggingface/text-generation-inference:3.3.7"),
    stock: &["text-generation-inference"],
    command: &[],
    endpoint: Some((80, "/health")),
    model_variables: &["MODEL_ID"],
    variables: &[],
    positional_model: false,
    flags: FLAGS,
    untold_caches: &[CachePrecision::Auto, CachePrecision::Fp16, CachePrecision::Bf16],
    stages: false,
    cap_of_group: None,
    options,
    loads: Loads {
        files: Files::Safetensors,
        // `--dtype` has no float32.
        casts: &[Precision::Fp16, Precision::Bf16],
        in_flight: &[
            (Precision::Fp8, "fp8"),
            (Precision::Nf4, "bitsandbytes-nf4"),
            (Precision::BnbInt8, "bitsandbytes"),
        ],
        // What bitsandbytes has quantised already is not among what `get_model` chooses a loader for.
        checkpoints: &[
            Precision::Fp8,
            Precision::Fp8Block,
            Precision::Int8,
            Precision::Int4,
            Precision::GptqInt8,
            Precision::GptqInt4,
            Precision::AwqInt4,
        ],
    },
};

const TOKENS: Values = Values::Number { what: "tokens", most: MOST_TOKENS, read: plain };
const REQUESTS: Values = Values::Number { what: "sequences", most: MOST_SEQUENCES, read: plain };

const FLAGS: &[Entry] = &[
    Entry::neither(&["--model-id"], Says::Model(Place::Any), Values::Text),
    Entry::neither(&["--revision"], Says::Revision, Values::Text),
    Entry::of(&["--max-total-tokens"], Kind::Reservation, Says::Context, TOKENS),
    Entry::neither(&["--max-input-tokens", "--max-input-length"], Says::Prompt, TOKENS),
    Entry::of(&["--max-batch-total-tokens"], Kind::Reservation, Says::TokensOfAll, TOKENS),
    Entry::of(
        &["--max-batch-prefill-tokens"],
        Kind::Reservation,
        Says::BatchedTokens { unbounded: None, written: true },
        TOKENS,
    ),
    Entry::of(&["--max-concurrent-requests"], Kind::Cap, Says::Sequences, REQUESTS),
    Entry::neither(
        &["--num-shard"],
        Says::Tensor,
        Values::Number { what: "ranks", most: MOST_RANKS, read: plain },
    ),
    Entry::neither(
        &["--kv-cache-dtype"],
        Says::Cache,
        Values::Caches(&[("fp8_e4m3fn", CachePrecision::Fp8), ("fp8_e5m2", CachePrecision::Fp8)]),
    ),
    Entry::neither(
        &["--dtype"],
        Says::Dtype,
        Values::Dtypes(&[("bfloat16", Some(Precision::Bf16)), ("float16", Some(Precision::Fp16))]),
    ),
    Entry::neither(&["--quantize"], Says::Quantization, Values::Text),
    Entry::of(
        &["--cuda-memory-fraction"],
        Kind::Cap,
        Says::MemoryFraction(Fraction::Whole(1000)),
        Values::Fraction,
    ),
    Entry::of(&["--max-batch-size"], Kind::Cap, Says::Sequences, REQUESTS),
    Entry::neither(&["--cuda-graphs"], Says::Choice(Choice::GraphSizes), Values::Text),
    Entry::neither(&["--speculate"], Says::Choice(Choice::DraftTokens), Values::Text),
    Entry::refused(
        &["--lora-adapters"],
        "loads adapters, which are not counted",
        "use vllm with --enable-lora, or leave them out",
    ),
    Entry::uncounted(
        &["--sharded"],
        "the ranks are told by --num-shard, which follows from parallelism.tensor",
    ),
];

fn options(told: &[(Choice, Flag<'_>)]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    for (choice, flag) in told {
        match choice {
            Choice::GraphSizes => options.eager = flag.value == Some("0"),
            Choice::DraftTokens => {
                options.speculation = Some(Speculation { tokens: guesses(flag)?, draft: Draft::Text });
            }
            _ => {}
        }
    }
    Ok(options)
}
