//! NVIDIA's searched and hybrid decoders: Nemotron-H, and the block-by-block Nemotron NAS.

use super::blocks::{AttentionNames, Gqa, Mlp, MlpNames, Moe, MoeNames};
use super::builder::Builder;
use super::decoder::{Block, Dims, Ffn, Style};
use super::dense_families::LLAMA;
use super::fields::{EXPERTS, FACTOR, Fields, HEADS, LAYERS, WIDTH};
use super::hybrid::{latent_projections, plain, state_precision};
use super::recurrent::Mamba2;
use crate::model::{Layer, ParseError, Role, Span, Split};
use crate::units::shorten;

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &["nemotron_h", "nemotron-nas", "deci"];

/// The blocks of a Nemotron config, as its pattern or list has them.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    if model_type == "nemotron_h" { hybrid(f, b) } else { searched(f, b) }
}

/// What a layer of Nemotron-H is: every layer is one block alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mamba,
    Attention,
    Mlp,
    Moe,
}

/// The kinds of the layers, from a string of letters or a list of words.
fn kinds(f: &Fields<'_>, pattern: &str, list: &str) -> Result<Option<Vec<Kind>>, ParseError> {
    if let Some(words) = f.texts(list)? {
        let read = |word: &str| match word {
            "mamba" | "linear_attention" => Ok(Kind::Mamba),
            "attention" | "full_attention" => Ok(Kind::Attention),
            "mlp" => Ok(Kind::Mlp),
            "moe" => Ok(Kind::Moe),
            other => Err(f.error(
                list,
                format!("has the entry \"{}\"; known are mamba, attention, mlp and moe", shorten(other)),
            )),
        };
        return words.into_iter().map(read).collect::<Result<_, _>>().map(Some);
    }
    let Some(letters) = f.text(pattern)? else { return Ok(None) };
    if letters.len() > 10_000 {
        return Err(f.error(pattern, format!("has {} letters; no model has as many layers", letters.len())));
    }
    let read = |letter: char| match letter {
        'M' => Ok(Kind::Mamba),
        '*' => Ok(Kind::Attention),
        '-' => Ok(Kind::Mlp),
        'E' => Ok(Kind::Moe),
        other => Err(f.error(
            pattern,
            format!("has the letter \"{}\"; known are M, *, - and E", shorten(&other.to_string())),
        )),
    };
    letters.chars().map(read).collect::<Result<_, _>>().map(Some)
}

/// The parts that layers of Nemotron-H are made of.
struct Parts {
    style: Style,
    mamba: Mamba2,
    gqa: Gqa,
    mlp: Mlp,
    moe: Option<Moe>,
    latent: u64,
}

impl Parts {
    fn read(f: &Fields<'_>, dims: &Dims) -> Result<Self, ParseError> {
        let bias = f.flag_or("attention_bias", false)?;
        let heads = f.need(&["mamba_num_heads"], HEADS)?;
        let names = MlpNames { module: "mixer", gate: "", up: "up_proj", fused: None, down: "down_proj" };
        let latent = f.or("moe_latent_size", WIDTH, 0)?;
        let moe = match f.number("n_routed_experts", EXPERTS)?.filter(|count| *count > 0) {
            None => None,
            Some(count) => {
                let width = f.need(&["moe_intermediate_size"], WIDTH)?;
                let shared = f.or("n_shared_experts", EXPERTS, 0)?;
                let shared_width = shared * f.or("moe_shared_expert_intermediate_size", WIDTH, width)?;
                Some(Moe {
                    count,
                    per_token: f.or("num_experts_per_tok", EXPERTS, 1)?.clamp(1, count),
                    width,
                    input: latent,
                    shared_width,
                    correction: true,
                    ..Moe::default()
                })
            }
        };
        Ok(Self {
            style: Style {
                embed: "backbone.embeddings",
                layers: "backbone.layers",
                norm: "backbone.norm_f",
                norms: &["norm"],
                attention: AttentionNames { module: "mixer", ..LLAMA.attention },
                mlp: names,
                moe: MoeNames { module: "mixer", expert: names, shared: "shared_experts", ..LLAMA.moe },
                tied: f.flag_or("tie_word_embeddings", false)?,
                ..LLAMA
            },
            mamba: Mamba2 {
                inner: heads * f.need(&["mamba_head_dim"], WIDTH)?,
                heads,
                groups: f.positive_or("n_groups", HEADS, 8)?,
                state: f.positive_or("ssm_state_size", WIDTH, 128)?,
                kernel: f.positive_or("conv_kernel", FACTOR, 4)?,
                conv_bias: f.flag_or("use_conv_bias", true)?,
                bias: f.flag_or("mamba_proj_bias", false)?,
                normed: true,
            },
            gqa: Gqa { qkv_bias: bias, out_bias: bias, ..plain(dims) },
            mlp: Mlp {
                width: f.or("intermediate_size", WIDTH, 0)?,
                gated: false,
                bias: f.flag_or("mlp_bias", false)?,
            },
            moe,
            latent,
        })
    }

    fn layer(&self, f: &Fields<'_>, b: &mut Builder, hidden: u64, kind: Kind) -> Result<(), ParseError> {
        let mut kept = Layer::default();
        self.style.layer_norms(b, hidden);
        match kind {
            Kind::Mamba => {
                self.mamba.build(b, "mixer", hidden);
                kept.state = Some(self.mamba.kept());
            }
            Kind::Attention => {
                self.gqa.build(b, &self.style.attention, hidden);
                kept.attention = Some(self.gqa.kept(Span::Full));
            }
            Kind::Mlp => self.style.ffn(b, hidden, &Ffn::Dense(self.mlp)),
            Kind::Moe => {
                let moe = self.moe.ok_or_else(|| {
                    f.error("n_routed_experts", "is missing, but the pattern has layers with experts")
                })?;
                latent_projections(b, "mixer", hidden, self.latent);
                self.style.ffn(b, hidden, &Ffn::Moe(moe));
            }
        }
        b.keep(kept);
        Ok(())
    }
}

/// Nemotron-H: the number of layers is that of the pattern.
fn hybrid(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let kinds_of_layers = kinds(f, "hybrid_override_pattern", "layers_block_type")?.ok_or_else(|| {
        f.error("hybrid_override_pattern", "is missing; write one letter per layer, such as \"M-M*-\"")
    })?;
    b.shape.state_precision = state_precision(f)?;
    let dims = Dims::read_with_layers(f, b, u64::try_from(kinds_of_layers.len()).unwrap_or(u64::MAX))?;
    let parts = Parts::read(f, &dims)?;
    parts.style.open(b, &dims);
    for (layer, kind) in (0_u64..).zip(&kinds_of_layers) {
        b.begin_layer(format!("backbone.layers.{layer}."), layer);
        parts.layer(f, b, dims.hidden, *kind)?;
    }
    parts.style.close(b, &dims);
    let draft = kinds(f, "mtp_hybrid_override_pattern", "mtp_layers_block_type")?.unwrap_or_default();
    let before = (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size);
    for index in 0..f.or("num_nextn_predict_layers", LAYERS, 0)? {
        b.begin_draft(format!("mtp.layers.{index}."));
        b.norm("enorm", dims.hidden, false);
        b.norm("hnorm", dims.hidden, false);
        b.linear("eh_proj", Role::Draft, (dims.hidden, 2 * dims.hidden), Split::Replicated, false);
        for kind in &draft {
            parts.layer(f, b, dims.hidden, *kind)?;
        }
    }
    b.end_layers();
    (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size) = before;
    Ok(())
}

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

/// Nemotron NAS: every block has its own heads and MLP, or none.
fn searched(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
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
            let span = match attention.number("window_length", super::fields::TOKENS)? {
                Some(window) if window > 0 => Span::Sliding(window),
                _ => Span::Full,
            };
            let kv_heads = dims.heads / group;
            Some((Gqa { kv_heads, qkv_bias: bias, out_bias: bias, ..plain(&dims) }, span))
        };
        let ffn = if ffn.flag_or("no_op", false)? {
            Ffn::None
        } else {
            Ffn::Dense(Mlp { width: searched_width(&ffn, dims.hidden)?, gated: true, bias: mlp_bias })
        };
        read.push(Block { attention, ffn });
    }
    style.open(b, &dims);
    for (layer, block) in (0_u64..).zip(&read) {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let norms: &[&str] = match (block.attention.is_some(), block.ffn != Ffn::None) {
            (true, true) => LLAMA.norms,
            (true, false) => &["input_layernorm"],
            (false, true) => &["post_attention_layernorm"],
            (false, false) => &[],
        };
        for norm in norms {
            b.norm(norm, dims.hidden, false);
        }
        Style { norms: &[], ..style }.block(b, &dims, block);
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
