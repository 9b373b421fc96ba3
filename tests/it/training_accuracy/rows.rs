//! One row of `tests/fixtures/measured/training.csv`: its cells, and the model and the run that they describe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use loadline::estimate::{
    AttentionKernel, Checkpointing, Loss, Method, Offload, Optimizer, Options, Sharding, Techniques,
    Training, Workload,
};
use loadline::model::{ModelShape, hf_config};
use loadline::precision::{CachePrecision, Engine, Precision};

/// Models that have the same config as one of the fixtures.
const SAME_CONFIG: [(&str, &str); 9] = [
    ("meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct"),
    ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"),
    ("NousResearch/Llama-2-70b-hf", "meta-llama/Llama-2-70b-hf"),
    ("Qwen/Qwen-7B", "Qwen/Qwen-7B-Chat"),
    ("google/gemma-2b", "google/gemma-2b-it"),
    ("TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    ("mistralai/Mistral-7B-v0.2", "mistralai/Mistral-7B-Instruct-v0.2"),
    ("01-ai/Yi-34B-Chat", "01-ai/Yi-34B"),
    ("unsloth/Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct"),
];

/// The dimensions of models that are not among the fixtures, from their published configs.
const DIMENSIONS: [(&str, &str); 4] = [
    (
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        r#"{"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
            "vocab_size": 32000, "max_position_embeddings": 32768, "tie_word_embeddings": false}"#,
    ),
    (
        "ibm/PowerLM-3b",
        r#"{"model_type": "granite", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 40,
            "num_attention_heads": 36, "num_key_value_heads": 36, "vocab_size": 49152,
            "max_position_embeddings": 4096, "tie_word_embeddings": true}"#,
    ),
    (
        "bert-large-uncased",
        r#"{"model_type": "bert", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2}"#,
    ),
    (
        "tiiuae/falcon-7b",
        r#"{"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
            "multi_query": true, "new_decoder_architecture": false, "parallel_attn": true, "alibi": false,
            "bias": false, "vocab_size": 65024}"#,
    ),
];

pub(super) fn workload(row: &Row, method: Method) -> Result<Workload, String> {
    let number = |name: &str| u64::from_str(row.cell(name)).map_err(|_| format!("{name} is not a number"));
    let format = row.cell("weights_format");
    let precision = match (method, format) {
        (Method::Qlora, "bnb-nf4" | "bnb-nf4-dq" | "nf4") => Precision::Nf4,
        (Method::Full, "fp32") => Precision::Fp32,
        (Method::Full | Method::Lora, "bf16" | "fp16" | "") => Precision::Bf16,
        (Method::Lora | Method::Qlora, other) => {
            Precision::from_str(other).map_err(|_| format!("weights format {other}"))?
        }
        (_, other) => return Err(format!("weights format {other}")),
    };
    let optimizer = match row.cell("optimizer") {
        paged if paged.contains("paged") && paged.contains("8bit") => Optimizer::PagedAdamw8bit,
        other
            if ["4bit", "gefen", "lora-fa", "badam", "fp8", "galore"]
                .iter()
                .any(|name| other.contains(name)) =>
        {
            return Err(format!("optimizer {other}"));
        }
        eight if eight.contains("8bit") || eight.contains("8_bit") => Optimizer::Adamw8bit,
        "adafactor" => Optimizer::Adafactor,
        muon if muon.contains("muon") => Optimizer::Muon,
        adam if adam.contains("adam") || adam.is_empty() => Optimizer::Adamw,
        other => return Err(format!("optimizer {other}")),
    };
    let sharding = match row.cell("sharding") {
        "" | "none" => Sharding::None,
        "fsdp2" => Sharding::Fsdp,
        other => Sharding::from_str(other).map_err(|error| error.to_string())?,
    };
    let attention = match row.cell("attention") {
        "" => AttentionKernel::Sdpa,
        other => AttentionKernel::from_str(other).map_err(|error| error.to_string())?,
    };
    let offload =
        if row.cell("offload").contains("params to CPU") { vec![Offload::Parameters] } else { Vec::new() };
    let training = Training {
        method,
        optimizer,
        lora_rank: number("lora_rank").unwrap_or(8),
        lora_targets: targets(row.cell("lora_targets")),
        gradient_checkpointing: if row.cell("gradient_checkpointing") == "none" {
            Checkpointing::None
        } else {
            Checkpointing::Full
        },
        attention,
        sharding,
        gpus: number("gpus").unwrap_or(1),
        offload,
    };
    Ok(Workload {
        precision: Some(precision),
        context: Some(number("seq_len")?),
        sequences: number("micro_batch")?,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        data: 1,
        engine: Engine::None,
        batched_tokens: None,
        options: Options { training: techniques(row, method), ..Options::default() },
        training: Some(training),
    })
}

/// What a row's run does besides, by its notes and by what its framework is known to do.
fn techniques(row: &Row, method: Method) -> Techniques {
    let notes = row.cell("notes");
    let says = |words: &str| notes.contains(words);
    let loss = [
        ("chunked CE", Loss::Chunked),
        ("cut-cross-entropy on", Loss::Fused),
        ("RMSNorm/cross-entropy", Loss::InPlace),
    ];
    let leaves_base = ["fsdp_qlora", "torchtune"].iter().any(|name| row.cell("framework").contains(name));
    Techniques {
        loss: loss.into_iter().find(|(words, _)| says(words)).map(|(_, loss)| loss),
        packed: row.cell("packing") == "true",
        unprepared: method == Method::Qlora && (leaves_base || says("framework_config=accelerated-peft-bnb")),
        ..Techniques::default()
    }
}

/// The targets of a row, by the names of the common checkpoints.
fn targets(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let all = ["all linear", "all-linear", "all layers", "w1", "projection mlp", "mlp|"];
    let names: Vec<String> = if all.iter().any(|words| lower.contains(words)) {
        vec!["all-linear".to_owned()]
    } else if lower == "query value" {
        vec!["q_proj".to_owned(), "v_proj".to_owned()]
    } else {
        lower.split_whitespace().filter(|word| word.ends_with("_proj")).map(str::to_owned).collect()
    };
    if names.is_empty() { vec!["attention".to_owned()] } else { names }
}

pub(super) fn shape(row: &Row) -> Result<ModelShape, String> {
    let model = if row.cell("base_model").is_empty() { row.cell("model") } else { row.cell("base_model") };
    let json = if let Some((_, json)) = DIMENSIONS.iter().find(|(name, _)| *name == model) {
        json.as_bytes().to_vec()
    } else {
        let same = SAME_CONFIG.iter().find(|(name, _)| *name == model).map_or(model, |(_, same)| same);
        let file = fixtures().join("configs").join(format!("{}.json", same.replace('/', "__")));
        std::fs::read(file).map_err(|_| "no config of the model".to_owned())?
    };
    hf_config::parse(&json, model).map_err(|error| error.to_string())
}

pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A row by column name.
pub(super) struct Row(BTreeMap<String, String>);

impl Row {
    pub(super) fn cell(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |cell| cell.trim())
    }
}

/// Comma-separated values with a header line, quoted as RFC 4180 has it.
pub(super) fn table(text: &str) -> Vec<Row> {
    let (mut records, mut record, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => record.push(std::mem::take(&mut cell)),
            ('\r', false) => {}
            ('\n', false) => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            (other, _) => cell.push(other),
        }
    }
    let mut records = records.into_iter();
    let header: Vec<String> = records.next().unwrap();
    records.map(|record| Row(header.iter().cloned().zip(record).collect())).collect()
}
