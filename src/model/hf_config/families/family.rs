//! What a family of decoders is, as data: the interpreter of it is `decoder`.

use crate::model::ParseError;
use crate::model::hf_config::block::attention::QkNorm;
use crate::model::hf_config::block::names::{LLAMA, Style};
use crate::model::hf_config::block::state::DeltaForm;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{Fields, Limit};
use crate::model::hf_config::plan::Plan;
use crate::model::pattern::{Every, Kind};

/// A family of decoders: what its tensors are called, and which of them it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// The `model_type`s that are made so.
    pub(crate) types: &'static [&'static str],
    /// Names.
    pub(crate) names: Style,
    /// Whether the output head is the embedding.
    pub(crate) tied: When,
    /// Whether the output head has a bias.
    pub(crate) head_bias: When,
    /// A table of positions, and its rows beyond the positions.
    pub(crate) positions: Option<(&'static str, u64)>,
    /// Where the number of key-value heads is written.
    pub(crate) kv_heads: KvHeads,
    /// What mixes tokens in the layers that attend.
    pub(crate) mixer: Mixer,
    /// What does in those that keep a state.
    pub(crate) state: Recurrence,
    /// Which layers are of which kind: the first rule that the config answers.
    pub(crate) layers: &'static [LayerRule],
    /// The window of sliding layers, in tokens; 0 for none.
    pub(crate) window: Number,
    /// The chunk of chunked layers, in tokens; 0 for none.
    pub(crate) chunk: Number,
    /// The MLP, and the experts where it has them.
    pub(crate) ffn: FfnRule,
    /// Tensors that this family alone has in its layers.
    pub(crate) extras: &'static [Extra],
    /// The same outside the layers.
    pub(crate) outer: &'static [Extra],
    /// Layers that are loaded only for speculation.
    pub(crate) draft: Draft,
    /// What no table says.
    pub(crate) adjust: Option<Adjust>,
}

/// Changes what is read of a config before it is written: the way out for what is irregular.
pub(crate) type Adjust = fn(&Fields<'_>, &mut Plan, &mut Builder) -> Result<(), ParseError>;

/// Whether there is something, which the config may decide.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Never,
    Always,
    /// A flag, and what it is where the config does not say.
    Flag(&'static str, bool),
    /// The first flag that is there, and what it is where none is.
    First(&'static [&'static str], bool),
    /// Any of several flags.
    Any(&'static [&'static str]),
    /// Unless a flag is false: the field may also be a word.
    Unless(&'static str),
    /// A text that is this one.
    Says(&'static str, &'static str),
}

impl When {
    /// Whether it holds of a config.
    pub(crate) fn holds(self, f: &Fields<'_>) -> Result<bool, ParseError> {
        Ok(match self {
            Self::Never => false,
            Self::Always => true,
            Self::Flag(key, default) => f.flag_or(key, default)?,
            Self::First(keys, default) => {
                keys.iter().find(|key| f.has(key)).map_or(Ok(default), |key| f.flag_or(key, default))?
            }
            Self::Any(keys) => {
                let mut any = false;
                for key in keys {
                    any |= f.flag_or(key, false)?;
                }
                any
            }
            Self::Unless(key) => f.flag_or(key, true).unwrap_or(true),
            Self::Says(key, word) => f.text(key)? == Some(word),
        })
    }
}

/// A number under one of several spellings, and what it is where none is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) &'static [&'static str], pub(crate) u64);

impl Number {
    /// The number; 0 is a number too.
    pub(crate) fn read(self, f: &Fields<'_>, limit: Limit) -> Result<u64, ParseError> {
        Ok(f.any(self.0, limit)?.unwrap_or(self.1))
    }

    /// The number, which must be at least 1 where it is there.
    pub(crate) fn positive(self, f: &Fields<'_>, limit: Limit) -> Result<u64, ParseError> {
        if self.0.iter().any(|key| f.has(key)) { f.need(self.0, limit) } else { Ok(self.1) }
    }
}

/// Where the number of key-value heads is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KvHeads {
    /// Under one of the usual names.
    Usual,
    /// There is one head while the first holds, and as many as query heads where it does not; the usual names count where the
    /// second holds.
    One(When, When),
    /// Where the flag is set, under the key.
    Grouped(&'static str, &'static str),
    /// `kv_n_heads` below a field, which must be there where the second says so.
    Below(&'static str, bool),
}

/// What mixes tokens in the layers that attend.
#[allow(clippy::large_enum_variant)] // all of them are constants
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mixer {
    /// Nothing does.
    None,
    /// Keys and values by heads.
    Heads(Heads),
    /// A latent of keys and values (MLA).
    Latent,
}

/// Attention over keys and values by heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Whether query, key and value projections have biases.
    pub(crate) qkv_bias: When,
    /// Whether the output projection has one.
    pub(crate) out_bias: When,
    /// Norms of queries and keys, where the next holds.
    pub(crate) norm: QkNorm,
    pub(crate) normed: When,
    /// Whether each head has a sink logit.
    pub(crate) sinks: When,
    /// Whether the query projection also yields a gate for the output.
    pub(crate) gated: When,
    /// Whether `v_head_dim` is the width of a value, where it is there.
    pub(crate) own_values: bool,
}

/// No biases, no norms.
pub(crate) const HEADS: Heads = Heads {
    qkv_bias: When::Never,
    out_bias: When::Never,
    norm: QkNorm::None,
    normed: When::Always,
    sinks: When::Never,
    gated: When::Never,
    own_values: false,
};

impl Heads {
    /// The same, all projections with biases or none.
    pub(crate) const fn biased(self, when: When) -> Self {
        Self { qkv_bias: when, out_bias: when, ..self }
    }

    /// The same with norms of queries and keys.
    pub(crate) const fn normed(self, norm: QkNorm, normed: When) -> Self {
        Self { norm, normed, ..self }
    }
}

/// What mixes tokens in the layers that keep a state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recurrence {
    /// Nothing does.
    None,
    /// Mamba-1, whose keys begin so.
    Mamba1(&'static str),
    /// Mamba-2, with the spellings of its measures.
    Mamba2(Mamba2Keys),
    /// A gated delta net: one matrix for query, key, value and gate, two, or one for each part.
    Delta(DeltaForm),
    /// Kimi delta attention.
    Kimi,
    /// Lightning attention.
    Lightning,
    /// Linear attention as Ling has it: delta attention or lightning attention.
    Ling(bool),
    /// A short convolution of so many taps.
    Convolution(u64),
    /// Griffin's gated linear recurrence.
    Griffin,
}

/// The spellings of a Mamba-2 block's measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mamba2Keys {
    pub(crate) heads: &'static str,
    pub(crate) inner: Inner,
    pub(crate) expand: &'static str,
    pub(crate) groups: Number,
    pub(crate) state: Number,
    pub(crate) kernel: &'static str,
    pub(crate) conv_bias: &'static str,
    pub(crate) bias: &'static str,
    pub(crate) normed: When,
}

/// How wide the inner stream of a Mamba-2 block is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inner {
    /// As many heads as are written, each as wide as this says.
    OfHeads(&'static str),
    /// As this says, else so many times the residual stream as the factor says.
    Own(&'static str),
    /// So many times the residual stream; its heads, where they are not written, are as wide as this says.
    Wide(Number),
}

/// Which layers are of which kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerRule {
    /// All are alike.
    All(Kind),
    /// A word per layer; the first word of a kind is what messages name.
    ByTypes(&'static str, &'static [(&'static str, Kind)]),
    /// The same, again and again where there are fewer words than layers.
    Cycled(&'static str, &'static [(&'static str, Kind)]),
    /// One layer of so many is another; the period, and the offset where it is written, may be in the config.
    Every(Every, &'static [&'static str], Option<&'static str>),
    /// The layers that a list has, counted from the number, and the others.
    Listed(&'static str, u64, Kind, Kind),
    /// A number per layer: what such a one is, and any other.
    Numbered(&'static str, u64, Kind, Kind),
    /// A letter per layer; with true, again and again where there are fewer letters than layers.
    Letters(&'static str, &'static [(char, Kind)], bool),
    /// The layers before the number, and the others, where the flag is set.
    Before(Number, &'static str, Kind, Kind),
}

/// The MLP of a layer, and its experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FfnRule {
    /// The spellings of a dense MLP's width.
    pub(crate) width: &'static [&'static str],
    /// The width where the config does not say, as a multiple of the residual stream; 0 if it must.
    pub(crate) widen: Number,
    /// Whether what is written is the width of gate and up projection together.
    pub(crate) halved: bool,
    /// Whether the hidden layer is multiplied by a gate.
    pub(crate) gated: When,
    /// Whether the projections have biases.
    pub(crate) bias: When,
    /// The experts.
    pub(crate) experts: Option<Experts>,
    /// Whether a layer is a mixer or an MLP, and never both.
    pub(crate) alone: bool,
}

/// The experts of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experts {
    /// The field below which the experts' measures stand; empty where they stand among the model's own.
    pub(crate) below: &'static str,
    /// The spellings of how many there are, and how many where none is there; 0 if it must be.
    pub(crate) count: Number,
    /// There are none where there are no more than so many.
    pub(crate) more_than: Option<u64>,
    /// Experts per token.
    pub(crate) per_token: Number,
    /// The spellings of an expert's width.
    pub(crate) width: &'static [&'static str],
    /// The width of the experts' input, where it is not the residual stream's.
    pub(crate) latent: &'static str,
    /// What every token passes beside them.
    pub(crate) shared: Shared,
    /// Whether that is multiplied by a gate of one feature.
    pub(crate) shared_gate: bool,
    /// Whether the experts' hidden layers are multiplied by a gate.
    pub(crate) gated: bool,
    /// Whether the experts' projections and the router have biases.
    pub(crate) bias: bool,
    /// Whether the router's scores are corrected by a vector.
    pub(crate) correction: When,
    /// Which layers have them.
    pub(crate) sparse: Sparse,
}

/// The expert that every token passes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shared {
    None,
    /// As wide as a routed one.
    Routed,
    /// As wide as written.
    Width(&'static str, u64),
    /// So many times as wide as a routed one: the most that one of the spellings says, or the default, where the flag holds.
    Times(&'static [&'static str], u64, When),
    /// As wide as the first says, else so many times as a routed one.
    WidthOrTimes(&'static str, &'static [&'static str]),
    /// So many times as wide as the second says, else as a routed one.
    TimesWidth(&'static str, &'static str),
}

/// Which layers have experts, where no list says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sparse {
    /// The first, where the config does not say.
    pub(crate) first: u64,
    /// The spelling of the step between them.
    pub(crate) step: &'static str,
    /// The step where the config does not say.
    pub(crate) every: u64,
    /// Which layer of a step: the first (0) or the last (1); or what a field says.
    pub(crate) offset: Offset,
}

/// Which layer of a step has experts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offset {
    First,
    Last,
    Key(&'static str, u64),
}

/// A tensor that one family has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// On which layers it is, and where the config says so.
    pub(crate) on: On,
    pub(crate) when: When,
}

/// Which layers have a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    All,
    Attending,
    Recurrent,
    Sparse,
    NotFirst,
}

/// What kind of tensor it is, and how large.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Norm(Size, When),
    Vector(Size),
    /// Of attention, by rows.
    Attention(Size, Size),
    /// Of attention, whole on every rank.
    Whole(Size, Size),
    /// Of an MLP: by rows, by columns, or whole with a bias where it holds.
    Rows(Size, Size),
    Columns(Size, Size),
    Dense(Size, Size, When),
}

/// A measure of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    One,
    Hidden,
    Heads,
    KvHeads,
    HeadDim,
    /// All query heads side by side.
    Queries,
    /// All keys side by side.
    Keys,
    /// The hidden layer of the dense MLP.
    Width,
    Vocabulary,
}

/// Layers that are loaded only for speculation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Draft {
    None,
    /// As DeepSeek-V3 has them: as many as written (or the number), under the layers' prefix (empty for the decoder's own,
    /// numbered after its layers).
    NextToken(Number, &'static str),
    /// As MiMo has them.
    Mimo,
    /// Of several layers each, by a rule of their own.
    Pattern(&'static [LayerRule], &'static str),
}

/// Llama: what most families are, or differ from in little.
pub(crate) const PLAIN: Family = Family {
    types: &[],
    names: LLAMA,
    tied: UNTIED,
    head_bias: When::Never,
    positions: None,
    kv_heads: KvHeads::Usual,
    mixer: Mixer::Heads(HEADS),
    state: Recurrence::None,
    layers: &[SPANS],
    window: Number(&["sliding_window"], 0),
    chunk: Number(&["attention_chunk_size"], 0),
    ffn: MLP,
    extras: &[],
    outer: &[],
    draft: Draft::None,
    adjust: None,
};

pub(crate) const UNTIED: When = When::Flag("tie_word_embeddings", false);
pub(crate) const TIED: When = When::Flag("tie_word_embeddings", true);
pub(crate) const ATTENTION_BIAS: When = When::Flag("attention_bias", false);

/// transformers' own words for what a layer attends to.
pub(crate) const SPANS: LayerRule = LayerRule::ByTypes(
    "layer_types",
    &[
        ("full_attention", Kind::Full),
        ("attention", Kind::Full),
        ("sliding_attention", Kind::Sliding),
        ("chunked_attention", Kind::Chunked),
    ],
);

/// A gated MLP of the written width.
pub(crate) const MLP: FfnRule = FfnRule {
    width: &["intermediate_size"],
    widen: Number(&[], 0),
    halved: false,
    gated: When::Always,
    bias: When::Never,
    experts: None,
    alone: false,
};

/// Experts as most have them.
pub(crate) const EXPERTS: Experts = Experts {
    below: "",
    count: Number(&["num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"], 0),
    more_than: None,
    per_token: Number(
        &["num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_k", "moe_top_k"],
        1,
    ),
    width: &["moe_intermediate_size", "intermediate_size"],
    latent: "",
    shared: Shared::None,
    shared_gate: false,
    gated: true,
    bias: false,
    correction: When::Never,
    sparse: SPARSE,
};

/// Every layer, or as the usual fields say.
pub(crate) const SPARSE: Sparse =
    Sparse { first: 0, step: "moe_layer_freq", every: 1, offset: Offset::First };

impl Family {
    /// The same family with experts.
    pub(crate) const fn sparse(self, experts: &Experts) -> Self {
        Self { ffn: FfnRule { experts: Some(*experts), ..self.ffn }, ..self }
    }
}
