//! Encoders whose layers are not BERT's: shared layers, rotary positions, gates, disentangled attention.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{EXPERTS, FACTOR, Fields, LAYERS, TOKENS, WIDTH};
use crate::model::hf_config::encoder::head::{self, Pooled, Task};
use crate::model::hf_config::encoder::measures::Measures;
use crate::model::{Experts, ParseError, Role, Split};

/// DistilBERT.
pub(crate) fn distilbert(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let positions = f.need(&["max_position_embeddings"], WIDTH)?;
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.embedding("embeddings.position_embeddings.weight", positions, hidden, Split::Replicated);
    b.norm("embeddings.LayerNorm", hidden, true);
    for layer in 0..layers {
        b.begin_layer(format!("transformer.layer.{layer}."), layer);
        for part in ["q_lin", "k_lin", "v_lin"] {
            let name = format!("attention.{part}");
            b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
        }
        b.linear("attention.out_lin", Role::Attention, (hidden, hidden), Split::Columns, true);
        b.norm("sa_layer_norm", hidden, true);
        b.linear("ffn.lin1", Role::Mlp, (width, hidden), Split::Rows, true);
        b.linear("ffn.lin2", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("output_layer_norm", hidden, true);
    }
    b.end_layers();
    head::build(Pooled::Distil, Task::read(f)?, b, (hidden, hidden, vocabulary));
    Ok(())
}

/// ALBERT: one group of layers, passed again and again.
pub(crate) fn albert(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, width, vocabulary, .. } = Measures::read(f, b)?;
    let embedding = f.positive_or("embedding_size", WIDTH, 128)?;
    let positions = f.need(&["max_position_embeddings"], WIDTH)?;
    let types = f.or("type_vocab_size", FACTOR, 2)?;
    let groups = f.positive_or("num_hidden_groups", LAYERS, 1)?;
    let inner = f.positive_or("inner_group_num", LAYERS, 1)?;
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, embedding, Split::Vocabulary);
    b.embedding("embeddings.position_embeddings.weight", positions, embedding, Split::Replicated);
    b.embedding("embeddings.token_type_embeddings.weight", types, embedding, Split::Replicated);
    b.norm("embeddings.LayerNorm", embedding, true);
    let widen = (hidden, embedding);
    b.linear("encoder.embedding_hidden_mapping_in", Role::Mlp, widen, Split::Replicated, true);
    for group in 0..groups {
        for layer in 0..inner {
            let prefix = format!("encoder.albert_layer_groups.{group}.albert_layers.{layer}.");
            b.begin_layer(prefix, group * inner + layer);
            for part in ["query", "key", "value"] {
                let name = format!("attention.{part}");
                b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
            }
            b.linear("attention.dense", Role::Attention, (hidden, hidden), Split::Columns, true);
            b.norm("attention.LayerNorm", hidden, true);
            b.linear("ffn", Role::Mlp, (width, hidden), Split::Rows, true);
            b.linear("ffn_output", Role::Mlp, (hidden, width), Split::Columns, true);
            b.norm("full_layer_layer_norm", hidden, true);
        }
    }
    b.end_layers();
    head::build(Pooled::Albert, Task::read(f)?, b, (hidden, embedding, vocabulary));
    Ok(())
}

/// DeBERTa, and its second and third version: content and position attend separately.
pub(crate) fn deberta(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let embedding = f.positive_or("embedding_size", WIDTH, hidden)?;
    let positions = f.need(&["max_position_embeddings"], WIDTH)?;
    let second = model_type == "deberta-v2";
    let relative = f.flag_or("relative_attention", false)?;
    // -1 is as many as there are positions.
    let most = match f.get("max_relative_positions").and_then(serde_json::Value::as_i64) {
        Some(written) if written > 0 => f.positive_or("max_relative_positions", WIDTH, positions)?,
        _ => positions,
    };
    let buckets = match f.get("position_buckets").and_then(serde_json::Value::as_i64) {
        Some(written) if written > 0 && second => f.positive_or("position_buckets", WIDTH, most)?,
        _ => most,
    };
    // A list, or the names with bars between them.
    let kinds = match f.get("pos_att_type") {
        Some(serde_json::Value::String(names)) => names.split('|').map(str::trim).collect(),
        _ => f.texts("pos_att_type")?.unwrap_or_default(),
    };
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, embedding, Split::Vocabulary);
    if f.flag_or("position_biased_input", true)? {
        b.embedding("embeddings.position_embeddings.weight", positions, embedding, Split::Replicated);
    }
    let types = f.or("type_vocab_size", FACTOR, 0)?;
    b.embedding("embeddings.token_type_embeddings.weight", types, embedding, Split::Replicated);
    if embedding != hidden {
        b.linear("embeddings.embed_proj", Role::Mlp, (hidden, embedding), Split::Replicated, false);
    }
    b.norm("embeddings.LayerNorm", hidden, true);
    if relative {
        b.embedding("encoder.rel_embeddings.weight", 2 * buckets, hidden, Split::Replicated);
    }
    if second && f.text("norm_rel_ebd")?.is_some_and(|norms| norms.contains("layer_norm")) {
        b.norm("encoder.LayerNorm", hidden, true);
    }
    let taps = if second { f.or("conv_kernel_size", FACTOR, 0)? } else { 0 };
    if taps > 0 {
        b.linear("encoder.conv.conv", Role::State, (hidden, hidden * taps), Split::Replicated, true);
        b.norm("encoder.conv.LayerNorm", hidden, true);
    }
    // The second version may read positions through the matrices of the content.
    let shares = f.flag_or("share_att_key", false)?;
    let has = |kind: &str| relative && kinds.contains(&kind);
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layer.{layer}."), layer);
        let square = (hidden, hidden);
        if second {
            for part in ["query_proj", "key_proj", "value_proj"] {
                let name = format!("attention.self.{part}");
                b.linear(&name, Role::Attention, square, Split::Rows, true);
            }
            if !shares && has("c2p") {
                b.linear("attention.self.pos_key_proj", Role::Attention, square, Split::Rows, true);
            }
            if !shares && has("p2c") {
                b.linear("attention.self.pos_query_proj", Role::Attention, square, Split::Rows, true);
            }
        } else {
            b.linear("attention.self.in_proj", Role::Attention, (3 * hidden, hidden), Split::Rows, false);
            b.vector("attention.self.q_bias", hidden);
            b.vector("attention.self.v_bias", hidden);
            if has("c2p") {
                b.linear("attention.self.pos_proj", Role::Attention, square, Split::Rows, false);
            }
            if has("p2c") {
                b.linear("attention.self.pos_q_proj", Role::Attention, square, Split::Rows, true);
            }
        }
        b.linear("attention.output.dense", Role::Attention, square, Split::Columns, true);
        b.norm("attention.output.LayerNorm", hidden, true);
        b.linear("intermediate.dense", Role::Mlp, (width, hidden), Split::Rows, true);
        b.linear("output.dense", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("output.LayerNorm", hidden, true);
    }
    b.end_layers();
    head::build(Pooled::Deberta, Task::read(f)?, b, (hidden, embedding, vocabulary));
    Ok(())
}

/// ModernBERT: gated MLPs and rotary positions.
pub(crate) fn modernbert(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let attention_bias = f.flag_or("attention_bias", false)?;
    let mlp_bias = f.flag_or("mlp_bias", false)?;
    let norm_bias = f.flag_or("norm_bias", false)?;
    b.end_layers();
    b.embedding("model.embeddings.tok_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.norm("model.embeddings.norm", hidden, norm_bias);
    for layer in 0..layers {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        if layer > 0 {
            b.norm("attn_norm", hidden, norm_bias);
        }
        b.linear("attn.Wqkv", Role::Attention, (3 * hidden, hidden), Split::Rows, attention_bias);
        b.linear("attn.Wo", Role::Attention, (hidden, hidden), Split::Columns, attention_bias);
        b.norm("mlp_norm", hidden, norm_bias);
        b.linear("mlp.Wi", Role::Mlp, (2 * width, hidden), Split::Rows, mlp_bias);
        b.linear("mlp.Wo", Role::Mlp, (hidden, width), Split::Columns, mlp_bias);
    }
    b.end_layers();
    b.norm("model.final_norm", hidden, norm_bias);
    head::build(Pooled::Modern, Task::read(f)?, b, (hidden, hidden, vocabulary));
    Ok(())
}

/// EuroBERT: a Llama that looks both ways.
pub(crate) fn eurobert(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, heads, width, vocabulary } = Measures::read(f, b)?;
    let kv_heads =
        f.positive_or("num_key_value_heads", crate::model::hf_config::config::fields::HEADS, heads)?;
    crate::model::hf_config::measures::check_groups(f, "num_key_value_heads", heads, kv_heads)?;
    let dim = f.positive_or("head_dim", WIDTH, (hidden / heads).max(1))?;
    let bias = f.flag_or("attention_bias", false)?;
    let kv = Split::KeyValueHeads(kv_heads);
    b.end_layers();
    b.embedding("model.embed_tokens.weight", vocabulary, hidden, Split::Vocabulary);
    for layer in 0..layers {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        b.norm("input_layernorm", hidden, false);
        b.linear("self_attn.q_proj", Role::Attention, (heads * dim, hidden), Split::Rows, bias);
        b.linear("self_attn.k_proj", Role::Attention, (kv_heads * dim, hidden), kv, bias);
        b.linear("self_attn.v_proj", Role::Attention, (kv_heads * dim, hidden), kv, bias);
        b.linear("self_attn.o_proj", Role::Attention, (hidden, heads * dim), Split::Columns, bias);
        b.norm("post_attention_layernorm", hidden, false);
        gated_mlp(b, ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), hidden, width, [false, false]);
    }
    b.end_layers();
    b.norm("model.norm", hidden, false);
    match Task::read(f)? {
        Task::MaskedLanguage if !f.flag_or("tie_word_embeddings", false)? => {
            b.shape.tied_embeddings = false;
            let shape = (vocabulary, hidden);
            b.linear("lm_head", Role::OutputHead, shape, Split::Vocabulary, false);
        }
        Task::MaskedLanguage | Task::Pretraining => {}
        Task::Sequence(labels) => {
            b.linear("dense", Role::Mlp, (hidden, hidden), Split::Replicated, true);
            b.shape.tied_embeddings = false;
            b.linear("classifier", Role::OutputHead, (labels, hidden), Split::Replicated, true);
        }
        task => head::build(Pooled::Plain, task, b, (hidden, hidden, vocabulary)),
    }
    Ok(())
}

/// A gated MLP; whether its first two matrices and its last have biases.
fn gated_mlp(
    b: &mut Builder,
    (gate, up, down): (&str, &str, &str),
    hidden: u64,
    width: u64,
    [bias, down_bias]: [bool; 2],
) {
    b.linear(gate, Role::Mlp, (width, hidden), Split::Rows, bias);
    b.linear(up, Role::Mlp, (width, hidden), Split::Rows, bias);
    b.linear(down, Role::Mlp, (hidden, width), Split::Columns, down_bias);
}

/// Nomic's BERT: rotary positions and gated MLPs without biases; every second MLP a mixture of experts in its second version.
pub(crate) fn nomic(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let types = f.or("type_vocab_size", FACTOR, 2)?;
    let qkv_bias = f.flag("qkv_proj_bias")?.or(f.flag("attention_bias")?).unwrap_or(false);
    let mlp_bias = f.flag("mlp_fc1_bias")?.or(f.flag("mlp_bias")?).unwrap_or(false);
    let activation = f.text("activation_function")?.or(f.text("hidden_act")?).unwrap_or("swiglu");
    let gated = matches!(activation, "swiglu" | "geglu" | "glu" | "silu");
    let experts = f.or("num_experts", EXPERTS, 0)?;
    let every = f.or("moe_every_n_layers", FACTOR, 0)?;
    if f.has("n_positions") {
        b.shape.max_context = f.number("n_positions", TOKENS)?;
    }
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.embedding("embeddings.token_type_embeddings.weight", types, hidden, Split::Replicated);
    b.norm("emb_ln", hidden, true);
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layers.{layer}."), layer);
        b.linear("attn.Wqkv", Role::Attention, (3 * hidden, hidden), Split::Rows, qkv_bias);
        b.linear("attn.out_proj", Role::Attention, (hidden, hidden), Split::Columns, qkv_bias);
        b.norm("norm1", hidden, true);
        b.norm("norm2", hidden, true);
        if experts > 0 && every > 0 && layer % every == 1 % every {
            let per_token = f.or("moe_top_k", EXPERTS, 1)?.clamp(1, experts);
            b.shape.experts = Some(Experts { count: experts, per_token, intermediate_size: width });
            b.linear("mlp.router.layer", Role::Router, (experts, hidden), Split::Replicated, false);
            b.matrices("mlp.experts.mlp.w1", Role::Expert, experts, width, hidden, Split::Rows);
            b.matrices("mlp.experts.mlp.w2", Role::Expert, experts, hidden, width, Split::Columns);
            b.vector("mlp.experts.bias", hidden);
        } else if gated {
            gated_mlp(b, ("mlp.fc12", "mlp.fc11", "mlp.fc2"), hidden, width, [mlp_bias, mlp_bias]);
        } else {
            b.linear("mlp.fc1", Role::Mlp, (width, hidden), Split::Rows, mlp_bias);
            b.linear("mlp.fc2", Role::Mlp, (hidden, width), Split::Columns, mlp_bias);
        }
    }
    b.end_layers();
    head::build(Pooled::Plain, Task::read(f)?, b, (hidden, hidden, vocabulary));
    Ok(())
}

/// GTE's encoder ("new"): rotary positions, and gated MLPs of which only the last matrix has a bias.
pub(crate) fn gte(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let types = f.or("type_vocab_size", FACTOR, u64::from(model_type == "gte"))?;
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    if f.text("position_embedding_type")? == Some("absolute") {
        let positions = f.need(&["max_position_embeddings"], WIDTH)?;
        b.embedding("embeddings.position_embeddings.weight", positions, hidden, Split::Replicated);
    }
    b.embedding("embeddings.token_type_embeddings.weight", types, hidden, Split::Replicated);
    b.norm("embeddings.LayerNorm", hidden, true);
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layer.{layer}."), layer);
        b.linear("attention.qkv_proj", Role::Attention, (3 * hidden, hidden), Split::Rows, true);
        b.linear("attention.o_proj", Role::Attention, (hidden, hidden), Split::Columns, true);
        b.norm("attn_ln", hidden, true);
        gated_mlp(b, ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), hidden, width, [false, true]);
        b.norm("mlp_ln", hidden, true);
    }
    b.end_layers();
    match Task::read(f)? {
        Task::Features if f.flag_or("add_pooling_layer", false)? => {
            head::build(Pooled::Bert, Task::Features, b, (hidden, hidden, vocabulary));
        }
        Task::Features => {}
        task => head::build(Pooled::Bert, task, b, (hidden, hidden, vocabulary)),
    }
    Ok(())
}

/// Jina's second embeddings: no table of positions, gated MLPs.
pub(crate) fn jina_v2(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let types = f.or("type_vocab_size", FACTOR, 2)?;
    let kind = f.text("feed_forward_type")?.unwrap_or("original");
    let normed = f.object("auto_map")?.is_some_and(|map| {
        let class = |key| map.text(key).unwrap_or_default().unwrap_or_default();
        map.keys().any(|key| class(key).contains("qk-post-norm"))
    });
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    if f.text("position_embedding_type")? != Some("alibi") {
        let positions = f.need(&["max_position_embeddings"], WIDTH)?;
        b.embedding("embeddings.position_embeddings.weight", positions, hidden, Split::Replicated);
    }
    b.embedding("embeddings.token_type_embeddings.weight", types, hidden, Split::Replicated);
    b.norm("embeddings.LayerNorm", hidden, true);
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layer.{layer}."), layer);
        for part in ["query", "key", "value"] {
            let name = format!("attention.self.{part}");
            b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
        }
        if normed {
            b.norm("attention.self.layer_norm_q", hidden, true);
            b.norm("attention.self.layer_norm_k", hidden, true);
        }
        b.linear("attention.output.dense", Role::Attention, (hidden, hidden), Split::Columns, true);
        b.norm("attention.output.LayerNorm", hidden, true);
        let gated = kind.ends_with("glu");
        let rows = if gated { 2 * width } else { width };
        b.linear("mlp.up_gated_layer", Role::Mlp, (rows, hidden), Split::Rows, !gated);
        b.linear("mlp.down_layer", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("mlp.layernorm", hidden, true);
    }
    b.end_layers();
    head::build(Pooled::Bert, Task::read(f)?, b, (hidden, hidden, vocabulary));
    Ok(())
}

/// Jina's third embeddings: XLM-RoBERTa with rotary positions, and an adapter of low rank for every task.
pub(crate) fn jina_v3(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Measures { hidden, layers, width, vocabulary, .. } = Measures::read(f, b)?;
    let types = f.or("type_vocab_size", FACTOR, 1)?;
    let tasks =
        f.list("lora_adaptations")?.map_or(0, |tasks| u64::try_from(tasks.len()).unwrap_or(0)).min(64);
    let rank = f.or("lora_rank", WIDTH, if tasks > 0 { 4 } else { 0 })?;
    let adapter = |b: &mut Builder, name: &str, (rows, columns): (u64, u64)| {
        if tasks > 0 && rank > 0 {
            b.state(&format!("{name}.lora_A"), tasks * rank, columns, Split::Replicated);
            b.state(&format!("{name}.lora_B"), tasks * rows, rank, Split::Replicated);
        }
    };
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    adapter(b, "embeddings.word_embeddings", (hidden, vocabulary));
    b.embedding("embeddings.token_type_embeddings.weight", types, hidden, Split::Replicated);
    adapter(b, "embeddings.token_type_embeddings", (hidden, types));
    b.norm("emb_ln", hidden, true);
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layers.{layer}."), layer);
        for (name, rows, columns, split) in [
            ("mixer.Wqkv", 3 * hidden, hidden, Split::Rows),
            ("mixer.out_proj", hidden, hidden, Split::Columns),
            ("mlp.fc1", width, hidden, Split::Rows),
            ("mlp.fc2", hidden, width, Split::Columns),
        ] {
            let role = if name.starts_with("mlp") { Role::Mlp } else { Role::Attention };
            b.linear(name, role, (rows, columns), split, true);
            adapter(b, name, (rows, columns));
        }
        b.norm("norm1", hidden, true);
        b.norm("norm2", hidden, true);
    }
    b.end_layers();
    adapter(b, "pooler.dense", (hidden, hidden));
    head::build(Pooled::Roberta, Task::read(f)?, b, (hidden, hidden, vocabulary));
    Ok(())
}
