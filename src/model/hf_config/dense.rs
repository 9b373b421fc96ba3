//! Dense decoders: one attention block and one MLP per layer.

use super::blocks::{Gqa, Mlp};
use super::builder::Builder;
use super::decoder::{Block, Dims, Ffn, INTERMEDIATE_KEYS, Style, spans_by_type};
use super::dense_families::family;
use super::extras;
use super::fields::{FACTOR, Fields, HEADS, TOKENS, WIDTH};
use crate::model::{ParseError, Role, Span, Split};
use crate::units::shorten;

/// Whether `build` knows the `model_type`.
pub(super) fn knows(model_type: &str, f: &Fields<'_>) -> bool {
    matches!(family(model_type, f), Ok(Some(_)) | Err(_))
}

/// Reads a dense decoder.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Some(family) = family(model_type, f)? else {
        return Err(f.error("model_type", format!("\"{}\" is not a dense decoder", shorten(model_type))));
    };
    let mut dims = Dims::read(f, b)?;
    adjust(model_type, f, &mut dims)?;
    let mut style = family.style;
    style.tied = f.flag("tie_word_embeddings")?.unwrap_or(style.tied);
    let width = match f.any(&INTERMEDIATE_KEYS, WIDTH)? {
        Some(width) if width > 0 => width,
        _ if family.widen > 0 => family.widen * dims.hidden,
        _ => f.need(&INTERMEDIATE_KEYS, WIDTH)?,
    };
    // Qwen 1 writes the width of gate and up projection together.
    let width = if model_type == "qwen" { width / 2 } else { width };
    let gqa = Gqa {
        heads: dims.heads,
        kv_heads: dims.kv_heads,
        key_dim: dims.head_dim,
        value_dim: dims.head_dim,
        qkv_bias: family.qkv_bias,
        out_bias: family.out_bias,
        qk_norm: family.qk_norm,
        ..Gqa::default()
    };
    let spans = spans(model_type, f, dims.layers)?;
    positions(model_type, b, &dims);
    let mlp = Mlp { width, gated: family.gated, bias: family.mlp_bias };
    let head = head(model_type, f)?;
    if head != Head::Vocabulary {
        style.tied = true;
    }
    style.open(b, &dims);
    let mut spans = spans.into_iter();
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let attention = Some((gqa, spans.next().unwrap_or(Span::Full)));
        style.block(b, &dims, &Block { attention, ffn: Ffn::Dense(mlp) });
        extras::of_layer(model_type, f, b, &dims, (layer, width))?;
    }
    style.close(b, &dims);
    extras::of_model(model_type, f, b, &dims)?;
    if let Head::Scores(name, scores) = head {
        b.linear(name, Role::OutputHead, (scores, dims.hidden), Split::Replicated, false);
    }
    next_token_layers(
        f,
        b,
        &dims,
        &style,
        &Block { attention: Some((gqa, Span::Full)), ffn: Ffn::Dense(mlp) },
    )
}

/// Layers that predict further tokens (MiMo): in the file, loaded for speculation.
fn next_token_layers(
    f: &Fields<'_>,
    b: &mut Builder,
    dims: &Dims,
    style: &Style,
    block: &Block,
) -> Result<(), ParseError> {
    for index in 0..f.or("num_nextn_predict_layers", super::fields::LAYERS, 0)? {
        b.begin_draft(format!("model.mtp_layers.{index}."));
        b.norm("token_layernorm", dims.hidden, false);
        b.norm("hidden_layernorm", dims.hidden, false);
        b.norm("final_layernorm", dims.hidden, false);
        b.linear("input_proj", Role::Draft, (dims.hidden, 2 * dims.hidden), Split::Replicated, false);
        style.block(b, dims, block);
    }
    b.end_layers();
    Ok(())
}

/// What a model's last layer yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// A score for every token of the vocabulary.
    Vocabulary,
    /// So many scores, by a layer of this name.
    Scores(&'static str, u64),
    /// The residual stream itself: an embedding model.
    None,
}

/// What the class of the model says of its head.
fn head(model_type: &str, f: &Fields<'_>) -> Result<Head, ParseError> {
    let architectures = f.texts("architectures")?.unwrap_or_default();
    let ends = |suffix: &str| architectures.iter().any(|name| name.ends_with(suffix));
    Ok(if ends("ForRewardModel") {
        Head::Scores("v_head", 1)
    } else if ends("ForSequenceClassification") {
        let labels =
            f.object("id2label")?.map_or(2, |labels| u64::try_from(labels.keys().count()).unwrap_or(2));
        Head::Scores("score", labels.max(1))
    } else if !architectures.is_empty()
        && architectures.iter().all(|name| name.ends_with("Model") && !name.ends_with("LMHeadModel"))
        // These classes have their heads although they are not called so.
        && !matches!(model_type, "chatglm" | "Dream" | "dream")
    {
        Head::None
    } else {
        Head::Vocabulary
    })
}

/// What a family writes in places of its own.
fn adjust(model_type: &str, f: &Fields<'_>, dims: &mut Dims) -> Result<(), ParseError> {
    let multi_query = |default| f.flag_or("multi_query", default);
    match model_type {
        "chatglm" if f.flag_or("multi_query_attention", false)? => {
            dims.kv_heads = f.need(&["multi_query_group_num"], HEADS)?;
        }
        "falcon" | "RefinedWebModel" if !f.flag_or("new_decoder_architecture", false)? => {
            dims.kv_heads = if multi_query(true)? { 1 } else { dims.heads };
        }
        "gpt_bigcode" => dims.kv_heads = if multi_query(true)? { 1 } else { dims.heads },
        "mpt" => {
            if let Some(attention) = f.object("attn_config")? {
                dims.kv_heads = attention.positive_or("kv_n_heads", HEADS, dims.kv_heads)?;
            }
        }
        _ => {}
    }
    super::decoder::check_groups(f, "num_key_value_heads", dims.heads, dims.kv_heads)
}

/// Tables of positions, where a family learns them.
fn positions(model_type: &str, b: &mut Builder, dims: &Dims) {
    b.end_layers();
    let rows = b.shape.max_context.unwrap_or(0);
    match model_type {
        "gpt2" | "gpt_bigcode" | "gpt-sw3" | "gpt_neo" => {
            b.embedding("transformer.wpe.weight", rows, dims.hidden, Split::Replicated);
        }
        "openai-gpt" => {
            b.embedding("transformer.positions_embed.weight", rows, dims.hidden, Split::Replicated);
        }
        "biogpt" => {
            b.embedding("biogpt.embed_positions.weight", rows + 2, dims.hidden, Split::Replicated);
        }
        // The first two rows are for padding.
        "opt" => {
            b.embedding("model.decoder.embed_positions.weight", rows + 2, dims.hidden, Split::Replicated);
        }
        _ => {}
    }
}

/// Which tokens each layer keeps.
fn spans(model_type: &str, f: &Fields<'_>, layers: u64) -> Result<Vec<Span>, ParseError> {
    if let Some(spans) = spans_by_type(f, layers)? {
        return Ok(spans);
    }
    if model_type == "modernbert-decoder" {
        let window = f.positive_or("local_attention", TOKENS, 128)?;
        let every = f.positive_or("global_attn_every_n_layers", FACTOR, 3)?;
        let span = |layer: u64| if layer.is_multiple_of(every) { Span::Full } else { Span::Sliding(window) };
        return Ok((0..layers).map(span).collect());
    }
    let window = f.number("sliding_window", TOKENS)?.filter(|tokens| *tokens > 0);
    let Some(window) = window else { return Ok(Vec::new()) };
    let pattern = |default: u64| -> Result<Vec<Span>, ParseError> {
        let full = match f.get("sliding_window_pattern") {
            // EXAONE 4 spells the pattern out: L for a local layer, G for a global one.
            Some(serde_json::Value::String(letters)) if !letters.is_empty() => {
                let letters: Vec<char> = letters.chars().take(10_000).collect();
                let spans = (0..layers).zip(letters.iter().cycle());
                return Ok(spans
                    .map(|(_, letter)| if *letter == 'L' { Span::Sliding(window) } else { Span::Full })
                    .collect());
            }
            _ => f.or("sliding_window_pattern", FACTOR, default)?,
        };
        Ok((1..=layers)
            .map(|layer| if full == 0 || layer % full == 0 { Span::Full } else { Span::Sliding(window) })
            .collect())
    };
    match model_type {
        "gemma2" | "vaultgemma" => pattern(2),
        "cwm" | "granite_swa" => Ok((0..layers)
            .map(|layer| if layer.is_multiple_of(4) { Span::Full } else { Span::Sliding(window) })
            .collect()),
        "gemma3_text" => pattern(6),
        "cohere2" | "exaone4" | "olmo3" => pattern(4),
        "mistral" | "phi3" | "starcoder2" => Ok((0..layers).map(|_| Span::Sliding(window)).collect()),
        "qwen2" | "qwen3" | "mimo" if f.flag_or("use_sliding_window", false)? => {
            let first = f.or("max_window_layers", super::fields::LAYERS, 28)?;
            Ok((0..layers)
                .map(|layer| if layer < first { Span::Full } else { Span::Sliding(window) })
                .collect())
        }
        _ => Ok(Vec::new()),
    }
}
