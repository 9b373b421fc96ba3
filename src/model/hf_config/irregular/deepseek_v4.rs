//! DeepSeek-V4: one shared key-value head, compressed along the sequence, beside a window.

use crate::model::hf_config::block::mlp::Moe;
use crate::model::hf_config::block::names::{LLAMA, MIXTRAL_MOE, MoeNames, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{EXPERTS, FACTOR, Fields, HEADS, LAYERS, TOKENS, WIDTH};
use crate::model::hf_config::decoder::next_token_layers;
use crate::model::hf_config::measures::Dims;
use crate::model::{Attention, CacheKind, Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["deepseek_v4", "deepseek_ref"];

/// The ratio at which an indexer picks the compressed entries.
const INDEXED_RATIO: u64 = 4;

/// The parts of a layer.
#[derive(Clone, Copy, Debug)]
struct Parts {
    hidden: u64,
    heads: u64,
    head_dim: u64,
    q_rank: u64,
    o_rank: u64,
    o_groups: u64,
    index_heads: u64,
    index_dim: u64,
    window: u64,
    /// Streams of the residual (hyper-connections).
    streams: u64,
    moe: Moe,
}

/// Reads it.
pub(crate) fn build(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let count = f.need(&["n_routed_experts"], EXPERTS)?;
    let width = f.need(&["moe_intermediate_size"], WIDTH)?;
    let parts = Parts {
        hidden: dims.hidden,
        heads: dims.heads,
        head_dim: dims.head_dim,
        q_rank: f.need(&["q_lora_rank"], WIDTH)?,
        o_rank: f.need(&["o_lora_rank"], WIDTH)?,
        o_groups: f.need(&["o_groups"], HEADS)?,
        index_heads: f.need(&["index_n_heads"], HEADS)?,
        index_dim: f.need(&["index_head_dim"], WIDTH)?,
        window: f.need(&["sliding_window"], TOKENS)?,
        streams: f.positive_or("hc_mult", FACTOR, 1)?,
        moe: Moe {
            count,
            per_token: f.or("num_experts_per_tok", EXPERTS, 1)?.clamp(1, count),
            width,
            shared_width: width * f.or("n_shared_experts", EXPERTS, 1)?,
            gated: true,
            correction: true,
            ..Moe::default()
        },
    };
    let key = if f.has("compress_ratios") { "compress_ratios" } else { "compress_rates" };
    let ratios = match f.get(key) {
        Some(serde_json::Value::Object(_)) => ratios_by_kind(f, key)?,
        _ => f.numbers(key, TOKENS)?.unwrap_or_default(),
    };
    if u64::try_from(ratios.len()).unwrap_or(u64::MAX) < dims.layers {
        let problem = format!("has {} entries for {} layers; write one per layer", ratios.len(), dims.layers);
        return Err(f.error(key, problem));
    }
    let style = Style {
        embed: "embed",
        layers: "layers",
        norm: "norm",
        head: "head",
        norms: &["attn_norm", "ffn_norm"],
        moe: MoeNames { module: "ffn", correction: "gate.bias", ..MIXTRAL_MOE },
        tied: f.flag_or("tie_word_embeddings", false)?,
        ..LLAMA
    };
    style.open(b, &dims);
    for (layer, ratio) in (0..dims.layers).zip(&ratios) {
        b.begin_layer(format!("layers.{layer}."), layer);
        parts.layer(b, &style, *ratio);
    }
    style.close(b, &dims);
    parts.hyper_connection(b, "hc_head", parts.streams);
    let drafts = f.or("num_nextn_predict_layers", LAYERS, 0)?;
    next_token_layers(b, dims.hidden, drafts, ("mtp", 0), |b| parts.layer(b, &style, 0));
    b.described("DeepSeek-V4");
    Ok(())
}

impl Parts {
    fn layer(&self, b: &mut Builder, style: &Style, ratio: u64) {
        style.layer_norms(b, self.hidden);
        self.attention(b, ratio);
        self.moe.build(b, &style.moe, self.hidden);
        let mixing = (2 + self.streams) * self.streams;
        self.hyper_connection(b, "hc_attn", mixing);
        self.hyper_connection(b, "hc_ffn", mixing);
        let index_dim = if ratio == INDEXED_RATIO { self.index_dim } else { 0 };
        let cache = CacheKind::Compressed { head_dim: self.head_dim, ratio, window: self.window, index_dim };
        b.keep(Layer { attention: Some(Attention { cache, span: Span::Full }), state: None });
    }

    fn attention(&self, b: &mut Builder, ratio: u64) {
        let Self { hidden, heads, head_dim, q_rank, o_rank, o_groups, .. } = *self;
        b.widest_attention(heads, head_dim);
        let attention = Role::Attention;
        b.linear("attn.wq_a", attention, (q_rank, hidden), Split::Replicated, false);
        b.norm("attn.q_norm", q_rank, false);
        b.linear("attn.wq_b", attention, (heads * head_dim, q_rank), Split::Rows, false);
        b.linear("attn.wkv", attention, (head_dim, hidden), Split::Replicated, false);
        b.norm("attn.kv_norm", head_dim, false);
        let group = heads.saturating_mul(head_dim) / o_groups.max(1);
        b.linear("attn.wo_a", attention, (o_groups * o_rank, group), Split::Rows, false);
        b.linear("attn.wo_b", attention, (hidden, o_groups * o_rank), Split::Columns, false);
        b.vector("attn.attn_sink", heads);
        if ratio > 1 {
            self.compressor(b, "attn.compressor", head_dim, ratio);
        }
        if ratio == INDEXED_RATIO {
            let queries = (self.index_heads * self.index_dim, q_rank);
            b.linear("attn.indexer.wq_b", attention, queries, Split::Replicated, false);
            let weights = (self.index_heads, hidden);
            b.linear("attn.indexer.weights_proj", Role::Router, weights, Split::Replicated, false);
            self.compressor(b, "attn.indexer.compressor", self.index_dim, ratio);
        }
    }

    /// Pools `ratio` tokens into one entry; the small ratio pools overlapping pairs of entries.
    fn compressor(&self, b: &mut Builder, name: &str, dim: u64, ratio: u64) {
        let width = if ratio == INDEXED_RATIO { 2 * dim } else { dim };
        b.state(&format!("{name}.wkv.weight"), width, self.hidden, Split::Replicated);
        b.state(&format!("{name}.wgate.weight"), width, self.hidden, Split::Replicated);
        b.state(&format!("{name}.ape"), ratio, width, Split::Replicated);
        b.norm(&format!("{name}.norm"), dim, false);
    }

    fn hyper_connection(&self, b: &mut Builder, name: &str, mixing: u64) {
        b.state(&format!("{name}_fn"), mixing, self.streams * self.hidden, Split::Replicated);
        b.vector(&format!("{name}_base"), mixing);
        b.vector(&format!("{name}_scale"), 3);
    }
}

/// The ratios where the config has one per kind of layer, as transformers writes it; a kind without one keeps the window alone.
fn ratios_by_kind(f: &Fields<'_>, key: &str) -> Result<Vec<u64>, ParseError> {
    let by_kind = f.need_object(key)?;
    let kinds = f.texts("layer_types")?.unwrap_or_default();
    kinds.into_iter().map(|kind| by_kind.or(kind, TOKENS, 0)).collect()
}
