//! SGLang. Its flags: docs.sglang.io (Server Arguments) and `sglang/srt/server_args.py` (0.5.15); what it loads: docs.sglang.io
//! (Quantization) and the remarks on `QUANTIZATION_CHOICES` there.

use super::arguments::Flag;
use super::options::{adapters, count, guesses, is_on};
use super::table::{
    Choice, Entry, Files, Fraction, Kind, Loads, MOST_RANKS, MOST_SEQUENCES, MOST_TOKENS, Place, Says, Table,
    Values, field, number, plain, suffixed,
};
use crate::estimate::{AttentionGroups, Draft, Options, Speculation};
use crate::precision::{CachePrecision, Precision};
use crate::refusal::Refusal;
use crate::units::shorten;

/// The engine.
pub(super) const TABLE: Table = Table {
    image: Some("lmsysorg/sglang:v0.5.15"),
    stock: &["sglang", "sglang-rocm"],
    command: &["python3", "-m", "sglang.launch_server"],
    endpoint: Some((30000, "/health")),
    model_variables: &[],
    variables: &[],
    positional_model: false,
    flags: FLAGS,
    untold_caches: &[CachePrecision::Auto, CachePrecision::Fp16],
    stages: true,
    cap_of_group: Some(|workload| !workload.is_grouped_within()),
    options,
    loads: Loads {
        files: Files::Safetensors,
        casts: &[Precision::Fp32, Precision::Fp16, Precision::Bf16],
        in_flight: &[(Precision::Fp8, "fp8"), (Precision::Mxfp8, "mxfp8"), (Precision::Nf4, "bitsandbytes")],
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
    Entry::neither(&["--model-path", "--model"], Says::Model(Place::Any), Values::Text),
    Entry::neither(&["--revision"], Says::Revision, Values::Text),
    // It listens on the loopback address by default, where no probe and no client reaches it.
    Entry::neither(&["--host"], Says::Fixed("0.0.0.0"), Values::Text),
    Entry::of(&["--context-length"], Kind::Reservation, Says::Context, TOKENS),
    Entry::of(
        &["--max-running-requests"],
        Kind::Cap,
        Says::Sequences,
        Values::Number { what: "sequences", most: MOST_SEQUENCES, read: plain },
    ),
    Entry::of(
        &["--chunked-prefill-size"],
        Kind::Reservation,
        // No chunks: the default is as good a guess.
        Says::BatchedTokens { unbounded: Some("-1"), written: true },
        Values::Number { what: "tokens", most: MOST_TOKENS, read: plain },
    ),
    Entry::neither(&["--tp-size", "--tp", "--tensor-parallel-size"], Says::Tensor, RANKS),
    Entry::neither(&["--pp-size", "--pp", "--pipeline-parallel-size"], Says::Pipeline, RANKS),
    Entry::neither(
        &["--kv-cache-dtype"],
        Says::Cache,
        Values::Caches(&[
            ("auto", CachePrecision::Auto),
            ("bf16", CachePrecision::Bf16),
            ("bfloat16", CachePrecision::Bf16),
            ("fp8_e4m3", CachePrecision::Fp8),
            ("fp8_e5m2", CachePrecision::Fp8),
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
    Entry::neither(&["--quantization"], Says::Quantization, Values::Text),
    Entry::of(
        &["--mem-fraction-static"],
        Kind::Reservation,
        Says::MemoryFraction(Fraction::Static),
        Values::Fraction,
    ),
    Entry::of(&["--max-total-tokens"], Kind::Cap, Says::CacheTokens, TOKENS),
    Entry::neither(&["--enable-lora", "--lora-paths"], Says::Choice(Choice::Adapters(true)), Values::Switch),
    Entry::of(
        &["--max-loras-per-batch"],
        Kind::Reservation,
        Says::Choice(Choice::AdapterCount),
        Values::Text,
    ),
    Entry::of(&["--max-lora-rank"], Kind::Reservation, Says::Choice(Choice::AdapterRank), Values::Text),
    Entry::neither(&["--disable-cuda-graph"], Says::Choice(Choice::Eager(true)), Values::Switch),
    Entry::neither(
        &["--ep-size", "--ep", "--expert-parallel-size"],
        Says::Choice(Choice::ExpertRanks),
        Values::Text,
    ),
    Entry::neither(&["--speculative-algorithm"], Says::Choice(Choice::Speculation), Values::Text),
    Entry::neither(
        &["--speculative-draft-model-path", "--speculative-draft-model"],
        Says::Choice(Choice::DraftModel),
        Values::Text,
    ),
    Entry::neither(&["--speculative-num-draft-tokens"], Says::Choice(Choice::DraftTokens), Values::Text),
    Entry::neither(&["--dp-size", "--dp", "--data-parallel-size"], Says::Data, RANKS),
    Entry::neither(&["--enable-dp-attention"], Says::Choice(Choice::AttentionGroups), Values::Switch),
    Entry::neither(&["--enable-dp-lm-head"], Says::Choice(Choice::HeadOfGroup), Values::Switch),
    Entry::neither(&["--moe-dense-tp-size"], Says::Choice(Choice::MlpRanks), RANKS),
    Entry::neither(&["--moe-a2a-backend"], Says::Choice(Choice::ExpertExchange), Values::Text),
    Entry::neither(&["--language-only"], Says::Choice(Choice::TextOnly), Values::Switch),
    Entry::neither(&["--nnodes"], Says::Copies, RANKS),
    Entry::refused(
        &["--config"],
        "names a file of arguments, which are not read",
        "write its arguments in engine.args",
    ),
    Entry::uncounted(
        &["--cpu-offload-gb"],
        "weights that are kept in host memory are counted on the GPU: too much, not too little",
    ),
    Entry::uncounted(
        &["--torchao-config"],
        "weights that are quantised so are counted as they are stored: too much, not too little",
    ),
    Entry::uncounted(
        &["--cuda-graph-max-bs", "--cuda-graph-bs"],
        "graphs are counted for the batch sizes up to twice the sequences that may run",
    ),
    Entry::uncounted(
        &["--max-mamba-cache-size", "--mamba-full-memory-ratio", "--disable-radix-cache"],
        "three states are counted for each sequence that is reserved; SGLang runs as many as its own share has room for",
    ),
];

/// SGLang's own way: `32k` is 32,000 and `32Ki` is 32,768, which alone may not have a fraction before it.
fn human(text: &str) -> Option<i64> {
    const TENS: &[(&str, i64)] = &[("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000)];
    const TWOS: &[(&str, i64)] = &[("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    suffixed(text, TENS, TWOS)
}

fn options(told: &[(Choice, Flag<'_>)]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    // The default of `--max-loras-per-batch`; the rank is that of the adapters, which are not read.
    let (mut wanted, mut slots, mut rank) = (None, 8, None);
    let (mut algorithm, mut draft, mut tokens) = (None, None, None);
    let (mut grouped, mut groups) = (false, AttentionGroups::default());
    for (choice, flag) in told {
        match choice {
            Choice::Adapters(on) => wanted = (*on && is_on(flag)).then_some(flag),
            Choice::AdapterCount => slots = count(flag, "adapters")?,
            Choice::AdapterRank => rank = Some(count(flag, "dimensions")?),
            Choice::Eager(on) => options.eager = *on && is_on(flag),
            Choice::ExpertRanks => {
                options.expert_parallel |= number(flag, "ranks", MOST_RANKS, plain)? > 1;
            }
            Choice::AttentionGroups if is_on(flag) => grouped = true,
            Choice::HeadOfGroup => groups.head = is_on(flag),
            Choice::MlpRanks => groups.whole_mlps = number(flag, "ranks", MOST_RANKS, plain)? == 1,
            // All but `none` have whole experts on each rank (`_a2a_ep_size`).
            Choice::ExpertExchange => options.expert_parallel |= !matches!(flag.value, None | Some("none")),
            Choice::TextOnly => options.text_only = is_on(flag),
            Choice::Speculation => algorithm = Some(flag),
            Choice::DraftModel => draft = flag.value,
            Choice::DraftTokens => tokens = Some(guesses(flag)?),
            _ => {}
        }
    }
    // Without the groups the other two are refused or say nothing.
    options.attention_groups = grouped.then_some(groups);
    if let Some(flag) = wanted {
        let Some(rank) = rank else {
            return Err(Refusal::invalid(
                field(flag),
                format!("{} without --max-lora-rank: the room for adapters cannot be counted", flag.name),
                "add --max-lora-rank with the largest rank among the adapters, such as 16",
            ));
        };
        options.adapters = Some(adapters(slots, rank));
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
                    field(flag),
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

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn lengths_are_read_as_sglang_reads_them() {
        for (text, expected) in [
            ("8192", Some(8192)),
            ("32k", Some(32_000)),
            ("32Ki", Some(32_768)),
            ("25.6k", Some(25_600)),
            ("1.5Ki", None),
            ("32K", None),
            ("1M", Some(1_000_000)),
            ("1Mi", Some(1_048_576)),
        ] {
            assert_eq!(human(text), expected, "{text}");
        }
    }
}
