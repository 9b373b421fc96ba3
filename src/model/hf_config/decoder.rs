//! The interpreter of families: from a config and the family's entry to tensors, caches and states.

use super::block::attention::Gqa;
use super::block::mlp::{Ffn, Moe, latent_projections};
use super::block::names::{MoeNames, Style};
use super::builder::Builder;
use super::families::family::{Draft, Extra, Family, Form, KvHeads, LayerRule, Mixer, On, Recurrence, Size};
use super::families::layers::kinds;
use super::measures::{Dims, check_groups};
use super::parts::Parts;
use super::plan::{Attends, Plan, Planned};
use crate::model::hf_config::config::fields::{Fields, HEADS, LAYERS, TOKENS};
use crate::model::pattern::Kind;
use crate::model::{Experts, Layer, ParseError, Role, Span, Split};
use crate::precision::CachePrecision;

/// Reads a config of the family.
pub(super) fn build(family: &Family, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    if !matches!(family.state, Recurrence::None) {
        b.shape.state_precision = state_precision(f)?;
    }
    let mut plan = plan(family, f, b)?;
    if let Some(adjust) = family.adjust {
        adjust(f, &mut plan, b)?;
    }
    let head = head(f)?;
    if head != Head::Vocabulary {
        plan.style.tied = true;
    }
    write(family, f, b, &plan)?;
    if let Head::Scores(name, scores) = head {
        b.linear(name, Role::OutputHead, (scores, plan.dims.hidden), Split::Replicated, false);
    }
    draft(family, f, b, &plan)
}

/// The element type of recurrent state, where the config fixes it.
fn state_precision(f: &Fields<'_>) -> Result<Option<CachePrecision>, ParseError> {
    for key in ["mamba_ssm_cache_dtype", "mamba_ssm_dtype", "mamba_cache_dtype"] {
        match f.text(key)? {
            Some("float32") => return Ok(Some(CachePrecision::Fp32)),
            Some("float16") => return Ok(Some(CachePrecision::Fp16)),
            Some("bfloat16") => return Ok(Some(CachePrecision::Bf16)),
            _ => {}
        }
    }
    Ok(None)
}

/// What each layer is made of.
fn plan(family: &Family, f: &Fields<'_>, b: &mut Builder) -> Result<Plan, ParseError> {
    let (mut dims, kinds) = measures(family, f, b)?;
    kv_heads(family.kv_heads, f, &mut dims)?;
    let style = Style { tied: family.tied.holds(f)?, head_bias: family.head_bias.holds(f)?, ..family.names };
    // A window that the family has whatever the config says is not switched off by 0.
    let window = if family.window.1 > 0 {
        family.window.positive(f, TOKENS)?
    } else {
        family.window.read(f, TOKENS)?
    };
    let chunk = if kinds.contains(&Kind::Chunked) { family.chunk.read(f, TOKENS)? } else { 0 };
    let parts = Parts::read(family, f, &dims, &kinds)?;
    let layer = |(at, kind): (usize, &Kind)| {
        let span = match kind {
            Kind::Sliding if window > 0 => Span::Sliding(window),
            Kind::Chunked if chunk > 0 => Span::Chunked(chunk),
            _ => Span::Full,
        };
        parts.layer(f, *kind, parts.sparse.get(at).copied().unwrap_or(true), span)
    };
    let layers = kinds.iter().enumerate().map(layer).collect::<Result<_, _>>()?;
    Ok(Plan { dims, style, layers })
}

/// The measures, and the kinds of the layers.
fn measures(family: &Family, f: &Fields<'_>, b: &mut Builder) -> Result<(Dims, Vec<Kind>), ParseError> {
    if family.ffn.alone {
        // There are as many layers as the pattern has.
        let missing = || {
            let key = family.layers.iter().find_map(|rule| match rule {
                LayerRule::Letters(key, ..) => Some(*key),
                _ => None,
            });
            f.error(key.unwrap_or_default(), "is missing; write one letter per layer, such as \"M-M*-\"")
        };
        let kinds = kinds(family.layers, f, None)?.ok_or_else(missing)?;
        let dims = Dims::read_with_layers(f, b, u64::try_from(kinds.len()).unwrap_or(u64::MAX))?;
        return Ok((dims, kinds));
    }
    let dims =
        if matches!(family.mixer, Mixer::None) { Dims::without_heads(f, b)? } else { Dims::read(f, b)? };
    let kinds = kinds(family.layers, f, Some(dims.layers))?;
    let all = usize::try_from(dims.layers).unwrap_or(usize::MAX);
    Ok((dims, kinds.unwrap_or_else(|| vec![Kind::Full; all])))
}

fn kv_heads(rule: KvHeads, f: &Fields<'_>, dims: &mut Dims) -> Result<(), ParseError> {
    let mut key = "num_key_value_heads";
    match rule {
        KvHeads::Usual => return Ok(()),
        KvHeads::One(one, unless) => {
            if !unless.holds(f)? {
                dims.kv_heads = if one.holds(f)? { 1 } else { dims.heads };
            }
        }
        KvHeads::Grouped(flag, count) => {
            if f.flag_or(flag, false)? {
                key = count;
                dims.kv_heads = f.need(&[count], HEADS)?;
            }
        }
        KvHeads::Below(above, needed) => {
            let holder = if needed { Some(f.need_object(above)?) } else { f.object(above)? };
            if let Some(holder) = holder {
                dims.kv_heads = holder.positive_or("kv_n_heads", HEADS, dims.kv_heads)?;
                return check_groups(&holder, "kv_n_heads", dims.heads, dims.kv_heads);
            }
        }
    }
    check_groups(f, key, dims.heads, dims.kv_heads)
}

/// Writes the tensors, and what the layers keep.
fn write(family: &Family, f: &Fields<'_>, b: &mut Builder, plan: &Plan) -> Result<(), ParseError> {
    let Plan { dims, style, layers } = plan;
    if let Some((table, extra)) = family.positions {
        b.end_layers();
        let rows = b.shape.max_context.unwrap_or(0) + extra;
        b.embedding(&format!("{table}.weight"), rows, dims.hidden, Split::Replicated);
    }
    style.open(b, dims);
    for (at, layer) in (0_u64..).zip(layers) {
        b.begin_layer(format!("{}.{at}.", style.layers), at);
        write_layer(b, plan, layer);
        for extra in family.extras.iter().filter(|extra| is_on(extra.on, layer, at)) {
            if extra.when.holds(f)? {
                add(b, extra, f, plan, layer)?;
            }
        }
    }
    style.close(b, dims);
    for extra in family.outer {
        if let (true, Some(layer)) = (extra.when.holds(f)?, layers.first()) {
            add(b, extra, f, plan, layer)?;
        }
    }
    Ok(())
}

/// The tensors of one layer, and what it keeps.
fn write_layer(b: &mut Builder, plan: &Plan, layer: &Planned) {
    let (style, hidden) = (&plan.style, plan.dims.hidden);
    style.layer_norms(b, hidden);
    let mut kept = Layer::default();
    if let Some((mixer, span)) = &layer.mixer {
        mixer.build(b, style, hidden);
        kept.attention = Some(mixer.kept(*span));
    }
    if let Some(state) = &layer.state {
        state.build(b, style.mamba, hidden);
        kept.state = Some(state.kept());
    }
    if let Ffn::Moe(moe) = &layer.ffn {
        latent_projections(b, style.moe.module, hidden, moe.input);
    }
    style.ffn(b, hidden, &layer.ffn);
    if let (Some((eyes, module)), Ffn::Moe(moe)) = (&layer.eyes, &layer.ffn) {
        // What a token of an image passes instead.
        eyes.build(b, &MoeNames { module, ..style.moe }, hidden);
        let Moe { count, per_token, width, .. } = *moe;
        b.shape.experts = Some(Experts { count, per_token, intermediate_size: width });
    }
    b.keep(kept);
}

const fn is_on(on: On, layer: &Planned, at: u64) -> bool {
    match on {
        On::All => true,
        On::Attending => layer.mixer.is_some(),
        On::Recurrent => layer.state.is_some(),
        On::Sparse => layer.is_sparse(),
        On::NotFirst => at > 0,
    }
}

/// A tensor that this family alone has.
fn add(
    b: &mut Builder,
    extra: &Extra,
    f: &Fields<'_>,
    plan: &Plan,
    layer: &Planned,
) -> Result<(), ParseError> {
    let dims = &plan.dims;
    let size = |size: Size| match size {
        Size::One => 1,
        Size::Hidden => dims.hidden,
        Size::Heads => dims.heads,
        Size::KvHeads => dims.kv_heads,
        Size::HeadDim => dims.head_dim,
        Size::Queries => dims.heads * dims.head_dim,
        Size::Keys => dims.kv_heads * dims.head_dim,
        Size::Vocabulary => dims.vocabulary,
        Size::Width => match layer.ffn {
            Ffn::Dense(mlp) => mlp.width,
            Ffn::Moe(_) | Ffn::None => 0,
        },
    };
    let name = extra.name;
    let mut linear = |role, (rows, columns): (Size, Size), split, bias| {
        b.linear(name, role, (size(rows), size(columns)), split, bias);
    };
    match extra.form {
        Form::Attention(rows, columns) => linear(Role::Attention, (rows, columns), Split::Rows, false),
        Form::Whole(rows, columns) => linear(Role::Attention, (rows, columns), Split::Replicated, false),
        Form::Rows(rows, columns) => linear(Role::Mlp, (rows, columns), Split::Rows, false),
        Form::Columns(rows, columns) => linear(Role::Mlp, (rows, columns), Split::Columns, false),
        Form::Dense(rows, columns, bias) => {
            linear(Role::Mlp, (rows, columns), Split::Replicated, bias.holds(f)?);
        }
        Form::Norm(width, bias) => b.norm(name, size(width), bias.holds(f)?),
        Form::Vector(elements) => b.vector(name, size(elements)),
    }
    Ok(())
}

/// Layers that are loaded only for speculation.
fn draft(family: &Family, f: &Fields<'_>, b: &mut Builder, plan: &Plan) -> Result<(), ParseError> {
    let hidden = plan.dims.hidden;
    // The draft head must not change what the model's own layers are.
    let before = (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size, b.shape.experts);
    match family.draft {
        Draft::None => {}
        Draft::NextToken(count, prefix) => {
            let count = count.read(f, LAYERS)?;
            let Some(layer) = draft_layer(family, f, plan, count)? else { return Ok(()) };
            let (prefix, first) =
                if prefix.is_empty() { (plan.style.layers, plan.dims.layers) } else { (prefix, 0) };
            next_token_layers(b, hidden, count, (prefix, first), |b| write_layer(b, plan, &layer));
        }
        Draft::Mimo => {
            for index in 0..f.or("num_nextn_predict_layers", LAYERS, 0)? {
                let Some(layer) = plan.layers.last() else { break };
                b.begin_draft(format!("model.mtp_layers.{index}."));
                for norm in ["token_layernorm", "hidden_layernorm", "final_layernorm"] {
                    b.norm(norm, hidden, false);
                }
                b.linear("input_proj", Role::Draft, (hidden, 2 * hidden), Split::Replicated, false);
                let mixer = layer.mixer.map(|(mixer, _)| (mixer, Span::Full));
                write_layer(b, plan, &Planned { mixer, ..*layer });
            }
        }
        Draft::Pattern(rules, prefix) => {
            let kinds = kinds(rules, f, None)?.unwrap_or_default();
            let parts = Parts::read(family, f, &plan.dims, &kinds)?;
            let layers: Vec<Planned> =
                kinds.iter().map(|kind| parts.layer(f, *kind, true, Span::Full)).collect::<Result<_, _>>()?;
            for index in 0..f.or("num_nextn_predict_layers", LAYERS, 0)? {
                begin_next_token(b, hidden, &format!("{prefix}.{index}."));
                for layer in &layers {
                    write_layer(b, plan, layer);
                }
            }
        }
    }
    (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size, b.shape.experts) = before;
    b.end_layers();
    Ok(())
}

/// The layer that predicts a further token: as the last, or as one that attends to everything, with experts if there are any.
fn draft_layer(
    family: &Family,
    f: &Fields<'_>,
    plan: &Plan,
    count: u64,
) -> Result<Option<Planned>, ParseError> {
    let Some(last) = plan.layers.last().filter(|_| count > 0) else { return Ok(None) };
    let parts = Parts::read(family, f, &plan.dims, &[])?;
    let mixer = match last.mixer {
        Some((Attends::Heads(gqa), span)) => Some((Attends::Heads(Gqa { index_heads: 0, ..gqa }), span)),
        // A draft has an index of its own.
        Some((Attends::Latent(_), _)) | None => parts.mixer.map(|mixer| (mixer, Span::Full)),
    };
    let sparse = plan.layers.iter().rev().find(|layer| layer.is_sparse()).map(|layer| layer.ffn);
    let ffn = sparse.or(parts.moe.map(Ffn::Moe)).or(parts.dense.map(Ffn::Dense)).unwrap_or(Ffn::None);
    Ok(Some(Planned { mixer, state: None, ffn, eyes: None }))
}

/// Layers that predict further tokens (MTP), as DeepSeek-V3 lays them out: in the file, loaded for speculation. They
/// are numbered from `first`.
pub(super) fn next_token_layers(
    b: &mut Builder,
    hidden: u64,
    count: u64,
    (layers, first): (&str, u64),
    mut block: impl FnMut(&mut Builder),
) {
    // The draft head must not change what the model's own layers are.
    let before = (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size, b.shape.experts);
    for index in 0..count {
        begin_next_token(b, hidden, &format!("{layers}.{}.", first + index));
        b.norm("shared_head.norm", hidden, false);
        block(b);
    }
    b.end_layers();
    (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size, b.shape.experts) = before;
}

/// What comes before the layers of a draft.
fn begin_next_token(b: &mut Builder, hidden: u64, prefix: &str) {
    b.begin_draft(prefix);
    b.norm("enorm", hidden, false);
    b.norm("hnorm", hidden, false);
    b.linear("eh_proj", Role::Draft, (hidden, 2 * hidden), Split::Replicated, false);
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

/// Classes that have their heads although they are not called so.
const HEADED: [&str; 2] = ["ChatGLMModel", "DreamModel"];

/// What the class of the model says of its head.
fn head(f: &Fields<'_>) -> Result<Head, ParseError> {
    let architectures = f.texts("architectures")?.unwrap_or_default();
    let ends = |suffix: &str| architectures.iter().any(|name| name.ends_with(suffix));
    let headless =
        |name: &&str| name.ends_with("Model") && !name.ends_with("LMHeadModel") && !HEADED.contains(name);
    Ok(if ends("ForRewardModel") {
        Head::Scores("v_head", 1)
    } else if ends("ForSequenceClassification") {
        let labels =
            f.object("id2label")?.map_or(2, |labels| u64::try_from(labels.keys().count()).unwrap_or(2));
        Head::Scores("score", labels.max(1))
    } else if !architectures.is_empty() && architectures.iter().all(headless) {
        Head::None
    } else {
        Head::Vocabulary
    })
}
