//! Encoders, which keep no cache: BERT and what was made after it, for embeddings, reranking and classification.

pub(crate) mod dual;
pub(crate) mod head;
pub(crate) mod measures;
pub(crate) mod variants;

use self::head::{Pooled, Task};
use self::measures::Measures;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, WIDTH};
use crate::model::{ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &[
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "data2vec-text",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "megatron-bert",
    "electra",
    "ernie",
    "mpnet",
    "big_bird",
    "rembert",
    "longformer",
    "layoutlm",
    "distilbert",
    "albert",
    "deberta",
    "deberta-v2",
    "modernbert",
    "eurobert",
    "nomic_bert",
    "new",
    "gte",
    "jina_embeddings_v3",
    "esm",
];

/// The layers of an encoder's config and the head of its class.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    match model_type {
        "distilbert" => variants::distilbert(f, b),
        "albert" => variants::albert(f, b),
        "deberta" | "deberta-v2" => variants::deberta(model_type, f, b),
        "modernbert" => variants::modernbert(f, b),
        "eurobert" => variants::eurobert(f, b),
        "nomic_bert" => variants::nomic(f, b),
        "new" | "gte" => variants::gte(model_type, f, b),
        "jina_embeddings_v3" => variants::jina_v3(f, b),
        // Jina's second generation calls itself BERT, and differs in its MLPs.
        "bert" if f.has("feed_forward_type") => variants::jina_v2(f, b),
        "xlm-roberta" if f.has("lora_adaptations") => variants::jina_v3(f, b),
        _ => bert(model_type, f, b),
    }
}

/// How much of a BERT a family has.
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug)]
struct Family {
    /// Whether the embeddings are normed.
    embedding_norm: bool,
    /// Whether the last layer's output is.
    final_norm: bool,
    /// Whether segments have embeddings of their own, where the config does not say how many.
    types: u64,
    /// What stands on top.
    pooled: Pooled,
}

impl Family {
    fn of(model_type: &str) -> Self {
        let bert = Self { embedding_norm: true, final_norm: false, types: 2, pooled: Pooled::Bert };
        match model_type {
            "roberta" | "xlm-roberta" | "camembert" | "data2vec-text" | "longformer" => {
                Self { pooled: Pooled::Roberta, ..bert }
            }
            "roberta-prelayernorm" => Self { final_norm: true, pooled: Pooled::Roberta, ..bert },
            "xlm-roberta-xl" => {
                Self { embedding_norm: false, final_norm: true, types: 1, pooled: Pooled::Roberta }
            }
            "megatron-bert" => Self { embedding_norm: false, final_norm: true, ..bert },
            "electra" => Self { pooled: Pooled::Electra, ..bert },
            "mpnet" => Self { types: 0, pooled: Pooled::Roberta, ..bert },
            "esm" => Self { embedding_norm: false, final_norm: true, types: 0, pooled: Pooled::Esm },
            _ => bert,
        }
    }
}

/// BERT, RoBERTa, and those that differ by a norm or a table.
fn bert(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let family = Family::of(model_type);
    let measures = Measures::read(f, b)?;
    let Measures { hidden, layers, width, vocabulary, .. } = measures;
    // ELECTRA and RemBERT have narrower embeddings, widened by a matrix.
    let embedding = f.positive_or(
        if model_type == "rembert" { "input_embedding_size" } else { "embedding_size" },
        WIDTH,
        if model_type == "rembert" { 256 } else { hidden },
    )?;
    let narrow = matches!(model_type, "electra" | "rembert");
    let embedding = if narrow { embedding } else { hidden };
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, embedding, Split::Vocabulary);
    let rotary = f.text("position_embedding_type")? == Some("rotary");
    if !rotary {
        let positions = f.need(&["max_position_embeddings"], WIDTH)?;
        b.embedding("embeddings.position_embeddings.weight", positions, embedding, Split::Replicated);
    }
    let types = if family.types == 0 { 0 } else { f.or("type_vocab_size", FACTOR, family.types)? };
    b.embedding("embeddings.token_type_embeddings.weight", types, embedding, Split::Replicated);
    if model_type == "ernie" && f.flag_or("use_task_id", false)? {
        let tasks = f.positive_or("task_type_vocab_size", FACTOR, 3)?;
        b.embedding("embeddings.task_type_embeddings.weight", tasks, embedding, Split::Replicated);
    }
    if model_type == "layoutlm" {
        let sides = f.positive_or("max_2d_position_embeddings", WIDTH, 1024)?;
        for part in ["x", "y", "h", "w"] {
            let name = format!("embeddings.{part}_position_embeddings.weight");
            b.embedding(&name, sides, hidden, Split::Replicated);
        }
    }
    let embedding_norm =
        if model_type == "esm" { f.flag_or("emb_layer_norm_before", false)? } else { family.embedding_norm };
    if embedding_norm {
        b.norm("embeddings.LayerNorm", embedding, true);
    }
    if narrow && (embedding != hidden || model_type == "rembert") {
        b.linear("embeddings_project", Role::Mlp, (hidden, embedding), Split::Replicated, true);
    }
    if model_type == "mpnet" {
        let buckets = f.positive_or("relative_attention_num_buckets", FACTOR, 32)?;
        let name = "encoder.relative_attention_bias.weight";
        b.embedding(name, buckets, measures.heads, Split::Replicated);
    }
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layer.{layer}."), layer);
        let attention: [&str; 3] = if model_type == "mpnet" {
            ["attention.attn.q", "attention.attn.k", "attention.attn.v"]
        } else {
            ["attention.self.query", "attention.self.key", "attention.self.value"]
        };
        for name in attention {
            b.linear(name, Role::Attention, (hidden, hidden), Split::Rows, true);
        }
        if model_type == "longformer" {
            for part in ["query_global", "key_global", "value_global"] {
                let name = format!("attention.self.{part}");
                b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
            }
        }
        let out = if model_type == "mpnet" { "attention.attn.o" } else { "attention.output.dense" };
        b.linear(out, Role::Attention, (hidden, hidden), Split::Columns, true);
        b.norm("attention.output.LayerNorm", hidden, true);
        b.linear("intermediate.dense", Role::Mlp, (width, hidden), Split::Rows, true);
        b.linear("output.dense", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("output.LayerNorm", hidden, true);
    }
    b.end_layers();
    if family.final_norm {
        b.norm("encoder.LayerNorm", hidden, true);
    }
    let task = Task::read(f)?;
    if model_type == "rembert" && task == Task::MaskedLanguage {
        // Its output head is wider than its embedding, and so a matrix of its own.
        let wide = f.positive_or("output_embedding_size", WIDTH, 1664)?;
        b.linear("cls.predictions.dense", Role::Mlp, (wide, hidden), Split::Replicated, true);
        b.norm("cls.predictions.LayerNorm", wide, true);
        b.shape.tied_embeddings = false;
        let shape = (vocabulary, wide);
        b.linear("cls.predictions.decoder", Role::OutputHead, shape, Split::Vocabulary, true);
        return Ok(());
    }
    head::build(family.pooled, task, b, (hidden, embedding, vocabulary));
    Ok(())
}
