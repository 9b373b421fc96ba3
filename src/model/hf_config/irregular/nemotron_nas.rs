//! NVIDIA's searched decoders (Nemotron NAS): every block has its own heads and MLP, or none.

use crate::model::hf_config::block::attention::Gqa;
use crate::model::hf_config::block::mlp::{Ffn, Mlp};
use crate::model::hf_config::block::names::{LLAMA, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{Fields, HEADS, TOKENS, WIDTH};
use crate::model::hf_config::measures::Dims;
use crate::model::{Layer, ParseError, Span};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["nemotron-nas", "deci"];

/// A decimal such as 5.25 as a fraction: digits without the point, and the power of ten.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() + fraction.len() > 12 {
        // More decimals than matter: drop the last.
        let kept = fraction.get(..12_usize.checked_sub(whole.len())?)?;
        return decimal(&format!("{whole}.{kept}"));
    }
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some((digits, 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?))
}

/// The blocks as their list has them.
pub(crate) fn build(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let blocks = f
        .objects("block_configs")?
        .ok_or_else(|| f.error("block_configs", "is missing; write one object per layer"))?;
    if u64::try_from(blocks.len()).unwrap_or(u64::MAX) < dims.layers {
        let problem = format!("has {} entries for {} layers; write one per layer", blocks.len(), dims.layers);
        return Err(f.error("block_configs", problem));
    }
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, ..LLAMA };
    let bias = f.flag_or("attention_bias", false)?;
    let mlp_bias = f.flag_or("mlp_bias", false)?;
    let mut read = Vec::new();
    for block in blocks.iter().take(usize::try_from(dims.layers).unwrap_or(0)) {
        let attention = block.need_object("attention")?;
        let ffn = block.need_object("ffn")?;
        for (part, key) in [(&attention, "replace_with_linear"), (&ffn, "replace_with_linear")] {
            if part.flag_or(key, false)? {
                return Err(part.error(key, "is true; such blocks are not known to Loadline"));
            }
        }
        let attention = if attention.flag_or("no_op", false)? {
            None
        } else {
            let group = attention.need(&["n_heads_in_group"], HEADS)?;
            if !dims.heads.is_multiple_of(group) {
                let problem = format!("is {group}; write a divisor of the {} attention heads", dims.heads);
                return Err(attention.error("n_heads_in_group", problem));
            }
            let span = match attention.number("window_length", TOKENS)? {
                Some(window) if window > 0 => Span::Sliding(window),
                _ => Span::Full,
            };
            let kv_heads = dims.heads / group;
            Some((Gqa { kv_heads, qkv_bias: bias, out_bias: bias, ..Gqa::plain(&dims) }, span))
        };
        let ffn = if ffn.flag_or("no_op", false)? {
            Ffn::None
        } else {
            Ffn::Dense(Mlp { width: searched_width(&ffn, dims.hidden)?, gated: true, bias: mlp_bias })
        };
        read.push((attention, ffn));
    }
    style.open(b, &dims);
    for (layer, (attention, ffn)) in (0_u64..).zip(&read) {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let mut kept = Layer::default();
        if let Some((gqa, span)) = attention {
            b.norm("input_layernorm", dims.hidden, false);
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(*span));
        }
        if *ffn != Ffn::None {
            b.norm("post_attention_layernorm", dims.hidden, false);
            style.ffn(b, dims.hidden, ffn);
        }
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// The width of an MLP from its multiple: two thirds of it, rounded up to a multiple of 256.
fn searched_width(ffn: &Fields<'_>, hidden: u64) -> Result<u64, ParseError> {
    if ffn.has("intermediate_size") {
        return ffn.need(&["intermediate_size"], WIDTH);
    }
    let wrong = || ffn.error("ffn_mult", "is no decimal number from 0 to 65536; write a number such as 5.25");
    let value = ffn.get("ffn_mult").ok_or_else(wrong)?;
    let serde_json::Value::Number(number) = value else { return Err(wrong()) };
    let (digits, scale) = decimal(&number.to_string()).ok_or_else(wrong)?;
    if digits / scale > 1 << 16 {
        return Err(wrong());
    }
    let width = u128::from(2 * hidden) * u128::from(digits) / u128::from(3 * scale);
    let width = u64::try_from(width).map_err(|_| wrong())?;
    Ok(width.div_ceil(256) * 256)
}
