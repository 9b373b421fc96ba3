//! LongCat-Flash: every layer has two attentions and two MLPs, and one mixture of experts beside them, some of which
//! are no more than a shortcut.

use crate::model::hf_config::block::attention::Mla;
use crate::model::hf_config::block::mlp::Mlp;
use crate::model::hf_config::block::names::{LLAMA, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{EXPERTS, Fields, WIDTH};
use crate::model::hf_config::measures::Dims;
use crate::model::{Experts, Layer, ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["longcat_flash"];

/// Reads it.
pub(crate) fn build(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, ..LLAMA };
    let mla = Mla::read(f, dims.heads)?;
    let width = f.need(&["ffn_hidden_size", "intermediate_size"], WIDTH)?;
    let count = f.need(&["n_routed_experts"], EXPERTS)?;
    let shortcuts = f.or("zero_expert_num", EXPERTS, 0)?;
    let expert = f.need(&["expert_ffn_hidden_size", "moe_intermediate_size"], WIDTH)?;
    let per_token = f.any(&["moe_topk", "num_experts_per_tok"], EXPERTS)?.unwrap_or(1).clamp(1, count);
    b.shape.experts = Some(Experts { count, per_token, intermediate_size: expert });
    style.open(b, &dims);
    let hidden = dims.hidden;
    for layer in 0..dims.layers {
        let prefix = format!("{}.{layer}.", style.layers);
        // Each half attends for itself: it is a layer of its own for the cache.
        b.begin_layer(prefix.clone(), 2 * layer);
        let choices = (count + shortcuts, hidden);
        let bias = f.flag_or("router_bias", false)?;
        b.linear("mlp.router.classifier", Role::Router, choices, Split::Replicated, bias);
        b.vector("mlp.router.e_score_correction_bias", count + shortcuts);
        for part in ["gate_proj", "up_proj"] {
            let name = format!("mlp.experts.*.{part}.weight");
            b.matrices(&name, Role::Expert, count, expert, hidden, Split::Rows);
        }
        b.matrices("mlp.experts.*.down_proj.weight", Role::Expert, count, hidden, expert, Split::Columns);
        for half in 0..2 {
            b.begin_layer(prefix.clone(), 2 * layer + half);
            mla.named(b, &format!("self_attn.{half}"), hidden);
            let mlp = Mlp { width, gated: true, bias: false };
            mlp.build(b, &LLAMA.mlp, &format!("mlps.{half}"), Role::Mlp, hidden);
            b.norm(&format!("input_layernorm.{half}"), hidden, false);
            b.norm(&format!("post_attention_layernorm.{half}"), hidden, false);
            b.keep(Layer { attention: Some(mla.kept()), state: None });
        }
    }
    style.close(b, &dims);
    Ok(())
}
