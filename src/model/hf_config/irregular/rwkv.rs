//! Models with recurrent layers alone that are no Mamba: RWKV and xLSTM.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH};
use crate::model::{Layer, ParseError, Role, Split, State, StateKind};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["rwkv", "rwkv5", "rwkv6", "xlstm"];

/// The blocks and the state per sequence of a RWKV or xLSTM config.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    match model_type {
        "rwkv" => rwkv4(f, b),
        "xlstm" => xlstm(f, b),
        _ => rwkv(model_type, f, b),
    }
}

/// RWKV-4: a state of one number per channel and sum.
fn rwkv4(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = f.need(&["hidden_size"], WIDTH)?;
    let layers = f.need(&["num_hidden_layers"], LAYERS)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let attention = f.positive_or("attention_hidden_size", WIDTH, hidden)?;
    let width = f.positive_or("intermediate_size", WIDTH, 4 * hidden)?;
    b.shape.hidden_size = hidden;
    b.shape.intermediate_size = width;
    b.shape.vocabulary = vocabulary;
    b.shape.max_context = f.number("context_length", TOKENS)?;
    b.end_layers();
    b.embedding("rwkv.embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.norm("rwkv.blocks.0.pre_ln", hidden, true);
    // The last input of both halves, and numerator, denominator and largest exponent of the weighted mean.
    let state = State {
        kind: StateKind::Rwkv,
        conv_width: 2 * hidden,
        conv_kernel: 2,
        matrix: 3 * attention,
        heads: 0,
    };
    for layer in 0..layers {
        b.begin_layer(format!("rwkv.blocks.{layer}."), layer);
        b.norm("ln1", hidden, true);
        b.norm("ln2", hidden, true);
        for part in ["key", "value", "receptance"] {
            let name = format!("attention.{part}");
            b.linear(&name, Role::Attention, (attention, hidden), Split::Rows, false);
            b.state(&format!("attention.time_mix_{part}"), 1, hidden, Split::Replicated);
        }
        b.linear("attention.output", Role::Attention, (hidden, attention), Split::Columns, false);
        b.state("attention.time_decay", 1, attention, Split::Columns);
        b.state("attention.time_first", 1, attention, Split::Columns);
        b.linear("feed_forward.key", Role::Mlp, (width, hidden), Split::Rows, false);
        b.linear("feed_forward.receptance", Role::Mlp, (hidden, hidden), Split::Replicated, false);
        b.linear("feed_forward.value", Role::Mlp, (hidden, width), Split::Columns, false);
        for part in ["key", "receptance"] {
            b.state(&format!("feed_forward.time_mix_{part}"), 1, hidden, Split::Replicated);
        }
        b.keep(Layer { attention: None, state: Some(state) });
    }
    b.end_layers();
    b.norm("rwkv.ln_out", hidden, true);
    b.shape.tied_embeddings = f.flag_or("tie_word_embeddings", false)?;
    if !b.shape.tied_embeddings {
        b.linear("head", Role::OutputHead, (vocabulary, hidden), Split::Vocabulary, false);
    }
    Ok(())
}

/// xLSTM: a matrix memory per head, with exponential gates.
fn xlstm(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = f.need(&["embedding_dim", "hidden_size"], WIDTH)?;
    let layers = f.need(&["num_blocks", "num_hidden_layers"], LAYERS)?;
    let heads = f.need(&["num_heads"], HEADS)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let keys = f.times("qk_dim_factor", hidden)?.unwrap_or(hidden / 2).max(1);
    let values = f.times("v_dim_factor", hidden)?.unwrap_or(hidden).max(1);
    let multiple = f.positive_or("ffn_round_up_to_multiple_of", WIDTH, 64)?;
    let width =
        f.times("ffn_proj_factor", hidden)?.unwrap_or(hidden * 8 / 3).max(1).div_ceil(multiple) * multiple;
    let bias = f.flag_or("use_bias", false)?;
    b.shape.hidden_size = hidden;
    b.shape.intermediate_size = width;
    b.shape.vocabulary = vocabulary;
    b.end_layers();
    b.embedding("backbone.embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    let state = State {
        kind: StateKind::Rwkv,
        conv_width: 0,
        conv_kernel: 1,
        // The memory, its normaliser, and the largest gate.
        matrix: (keys / heads.max(1)).saturating_mul(values) + keys + heads,
        heads,
    };
    for layer in 0..layers {
        b.begin_layer(format!("backbone.blocks.{layer}."), layer);
        b.norm("norm_mlstm", hidden, bias);
        b.norm("norm_ffn", hidden, bias);
        for (part, rows) in [("q", keys), ("k", keys), ("v", values), ("ogate_preact", values)] {
            let name = format!("mlstm_layer.{part}");
            b.linear(&name, Role::Attention, (rows, hidden), Split::Rows, bias);
        }
        for gate in ["igate_preact", "fgate_preact"] {
            let name = format!("mlstm_layer.{gate}");
            b.linear(&name, Role::State, (heads, hidden), Split::Replicated, true);
        }
        b.norm("mlstm_layer.multihead_norm", values, bias);
        b.linear("mlstm_layer.out_proj", Role::Attention, (hidden, values), Split::Columns, bias);
        b.linear("ffn.proj_up_gate", Role::Mlp, (width, hidden), Split::Rows, bias);
        b.linear("ffn.proj_up", Role::Mlp, (width, hidden), Split::Rows, bias);
        b.linear("ffn.proj_down", Role::Mlp, (hidden, width), Split::Columns, bias);
        b.keep(Layer { attention: None, state: Some(state) });
    }
    b.end_layers();
    b.norm("backbone.out_norm", hidden, bias);
    b.shape.tied_embeddings = f.flag_or("tie_word_embeddings", false)?;
    if !b.shape.tied_embeddings {
        b.linear("lm_head", Role::OutputHead, (vocabulary, hidden), Split::Vocabulary, false);
    }
    Ok(())
}

/// RWKV-5 and 6.
fn rwkv(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = f.need(&["hidden_size"], WIDTH)?;
    let layers = f.need(&["num_hidden_layers"], LAYERS)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let attention = f.positive_or("attention_hidden_size", WIDTH, hidden)?;
    let head = f.positive_or("head_size", WIDTH, 64)?;
    // Three and a half times the residual stream, in whole multiples of 32.
    let width = f.positive_or("intermediate_size", WIDTH, (hidden * 7 / 2 / 32 * 32).max(1))?;
    b.shape.hidden_size = hidden;
    b.shape.intermediate_size = width;
    b.shape.vocabulary = vocabulary;
    b.shape.max_context = f.number("context_length", TOKENS)?;
    b.end_layers();
    b.embedding("rwkv.embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.norm("rwkv.blocks.0.pre_ln", hidden, true);
    let heads = (attention / head).max(1);
    let state = State {
        kind: StateKind::Rwkv,
        // The last token's input of both halves of the block.
        conv_width: 2 * hidden,
        conv_kernel: 2,
        matrix: attention.saturating_mul(head),
        heads,
    };
    for layer in 0..layers {
        b.begin_layer(format!("rwkv.blocks.{layer}."), layer);
        b.norm("ln1", hidden, true);
        b.norm("ln2", hidden, true);
        for part in ["receptance", "key", "value", "gate"] {
            let name = format!("attention.{part}");
            b.linear(&name, Role::Attention, (attention, hidden), Split::Rows, false);
        }
        b.linear("attention.output", Role::Attention, (hidden, attention), Split::Columns, false);
        b.norm("attention.ln_x", attention, true);
        b.state("attention.time_decay", heads, head, Split::Rows);
        b.state("attention.time_faaaa", heads, head, Split::Rows);
        if model_type == "rwkv6" {
            // Low-rank, data-dependent mixing and decay.
            b.state("attention.time_maa_w1", hidden, 160, Split::Replicated);
            b.state("attention.time_maa_w2", 160, hidden, Split::Replicated);
            b.state("attention.time_decay_w1", hidden, 64, Split::Replicated);
            b.state("attention.time_decay_w2", 64, attention, Split::Replicated);
        }
        for part in ["key", "value", "receptance", "gate"] {
            b.state(&format!("attention.time_mix_{part}"), 1, hidden, Split::Replicated);
        }
        b.linear("feed_forward.key", Role::Mlp, (width, hidden), Split::Rows, false);
        b.linear("feed_forward.receptance", Role::Mlp, (hidden, hidden), Split::Replicated, false);
        b.linear("feed_forward.value", Role::Mlp, (hidden, width), Split::Columns, false);
        for part in ["key", "receptance"] {
            b.state(&format!("feed_forward.time_mix_{part}"), 1, hidden, Split::Replicated);
        }
        b.keep(Layer { attention: None, state: Some(state) });
    }
    b.end_layers();
    b.norm("rwkv.ln_out", hidden, true);
    // The published checkpoints have a head of their own, whatever the flag says.
    b.linear("head", Role::OutputHead, (vocabulary, hidden), Split::Vocabulary, false);
    Ok(())
}
