//! Tensors that one family has beside the frame that all share: gates, further norms, sinks.

use super::builder::Builder;
use super::decoder::Dims;
use super::fields::Fields;
use crate::model::{ParseError, Role, Split};

/// Those of a layer, whose MLP is `width` wide.
pub(super) fn of_layer(
    model_type: &str,
    f: &Fields<'_>,
    b: &mut Builder,
    dims: &Dims,
    (layer, width): (u64, u64),
) -> Result<(), ParseError> {
    let Dims { hidden, heads, kv_heads, head_dim, .. } = *dims;
    let attention = Role::Attention;
    match model_type {
        "bitnet" => {
            b.norm("self_attn.attn_sub_norm", heads * head_dim, false);
            b.norm("mlp.ffn_sub_norm", width, false);
        }
        // The slopes of its activation.
        "apertus" => {
            b.vector("mlp.act_fn.alpha_p", 1);
            b.vector("mlp.act_fn.alpha_n", 1);
        }
        "persimmon" if f.flag_or("qk_layernorm", true)? => {
            b.norm("self_attn.q_layernorm", head_dim, true);
            b.norm("self_attn.k_layernorm", head_dim, true);
        }
        "diffllama" => {
            for part in ["lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"] {
                b.vector(&format!("self_attn.{part}"), head_dim);
            }
        }
        "doge" => {
            b.vector("input_residual", hidden);
            b.vector("post_attention_residual", hidden);
            b.vector("self_attn.A", kv_heads);
            let steps = (kv_heads, kv_heads * head_dim);
            b.linear("self_attn.dt_proj", attention, steps, Split::Replicated, false);
        }
        "hyperclovax" if f.flag_or("use_post_norm", false)? => {
            b.norm("post_norm1", hidden, false);
            b.norm("post_norm2", hidden, false);
        }
        // A dense MLP of the residual stream's width stands beside the experts.
        "arctic" if f.flag_or("parallel_attn_mlp_res", true)? => {
            b.norm("residual_layernorm", hidden, false);
            for part in ["w1", "w3"] {
                let name = format!("residual_mlp.{part}");
                b.linear(&name, Role::Mlp, (hidden, hidden), Split::Rows, false);
            }
            b.linear("residual_mlp.w2", Role::Mlp, (hidden, hidden), Split::Columns, false);
        }
        "granite_swa" | "granitemoe_swa" => b.vector("self_attn.sinks", heads),
        "modernbert-decoder" if layer > 0 => {
            b.norm("attn_norm", hidden, f.flag_or("norm_bias", false)?);
        }
        // The output of attention is multiplied by a gate: of its own width, or of one feature per head.
        "afmoe" => {
            b.linear("self_attn.gate_proj", attention, (heads * head_dim, hidden), Split::Rows, false);
        }
        "laguna" if f.flag_or("gating", true).unwrap_or(true) => {
            b.linear("self_attn.g_proj", attention, (heads, hidden), Split::Rows, false);
        }
        "step3p5" | "step3p7"
            if f.flag("use_head_wise_attn_gate")?
                .or(f.flag("gating")?)
                .unwrap_or(model_type == "step3p7") =>
        {
            b.linear("self_attn.g_proj", attention, (heads, hidden), Split::Rows, false);
        }
        _ => {}
    }
    Ok(())
}

/// Those outside the layers.
pub(super) fn of_model(
    model_type: &str,
    f: &Fields<'_>,
    b: &mut Builder,
    dims: &Dims,
) -> Result<(), ParseError> {
    match model_type {
        "bloom" => b.norm("transformer.word_embeddings_layernorm", dims.hidden, true),
        "modernbert-decoder" => {
            let bias = f.flag_or("norm_bias", false)?;
            b.norm("model.embeddings.norm", dims.hidden, bias);
            let square = (dims.hidden, dims.hidden);
            let head_bias = f.flag_or("classifier_bias", false)?;
            b.linear("lm_head.dense", Role::Mlp, square, Split::Replicated, head_bias);
            b.norm("lm_head.norm", dims.hidden, bias);
            if f.flag_or("decoder_bias", true)? {
                b.vector("decoder.bias", dims.vocabulary);
            }
        }
        _ => {}
    }
    Ok(())
}
