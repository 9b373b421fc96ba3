//! What each layer of a GGUF model keeps per sequence, as llama.cpp allocates it.
//!
//! The rules that are in no key (which layers slide, which are recurrent) are those of llama.cpp's loaders, src/models.

use super::keys::Keys;
use super::metadata::Value;
use crate::model::hf_config;
use crate::model::pattern::{Every, Kind};
use crate::model::{Attention, CacheKind, Layer, ParseError, Span, State, StateKind};

/// The most layers that are believed.
const MAX_LAYERS: u64 = 4096;

/// What the layers keep.
pub(super) struct Layers {
    /// The decoder layers.
    pub(super) decoder: Vec<Layer>,
    /// The layers of a draft head, which are the last blocks of the file.
    pub(super) draft: Vec<Layer>,
    /// Whether the architecture is one whose rules are known.
    pub(super) known: bool,
}

/// Architectures whose layers all attend to everything, or do as their keys and the tables below say.
const KNOWN: &[&str] = &[
    "afmoe",
    "apertus",
    "arcee",
    "arctic",
    "arwkv7",
    "baichuan",
    "bailingmoe",
    "bailingmoe2",
    "bitnet",
    "bloom",
    "chameleon",
    "chatglm",
    "codeshell",
    "cogvlm",
    "command-r",
    "cohere2",
    "dbrx",
    "deci",
    "deepseek",
    "deepseek2",
    "deepseek32",
    "deepseek4",
    "dots1",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "exaone-moe",
    "exaone4",
    "falcon",
    "falcon-h1",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "glm-dsa",
    "glm4",
    "glm4moe",
    "gpt-oss",
    "gpt2",
    "gptneox",
    "granite",
    "granitehybrid",
    "granitemoe",
    "grok",
    "grovemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "internlm2",
    "jais",
    "jamba",
    "kimi-linear",
    "laguna",
    "lfm2",
    "lfm2moe",
    "llama",
    "llama4",
    "maincoder",
    "mamba",
    "mamba2",
    "mimo2",
    "minicpm",
    "minicpm3",
    "minimax-m2",
    "mistral3",
    "mpt",
    "nemotron",
    "nemotron_h",
    "nemotron_h_moe",
    "olmo",
    "olmo2",
    "olmoe",
    "openelm",
    "orion",
    "pangu-embedded",
    "phi2",
    "phi3",
    "phimoe",
    "plamo",
    "plamo3",
    "plm",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen35",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vl",
    "qwen3vlmoe",
    "refact",
    "rnd1",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "seed_oss",
    "smallthinker",
    "smollm3",
    "stablelm",
    "starcoder",
    "starcoder2",
    "xverse",
];

/// Architectures that keep nothing: encoders, and diffusion models that see the whole sequence at each step.
const CACHELESS: &[&str] = &[
    "bert",
    "dream",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llada",
    "llada-moe",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "rnd1",
    "t5encoder",
];

/// Files that are no language model by themselves.
const NO_MODEL: &[&str] = &["clip", "wavtokenizer-dec", "control_vector"];

/// The families of configs that slide by a period, where llama.cpp calls them otherwise. Any other architecture is called as
/// its family is, but for the sign between words.
const FAMILIES: &[(&str, &str)] =
    &[("gemma3", "gemma3_text"), ("gemma3n", "gemma3n_text"), ("olmo2", "olmo3")];

/// The periods of architectures of which no config is known, or whose config says what a GGUF file does not.
const PERIODS: &[(&str, Every)] =
    &[("gemma3n", Every::full(5)), ("laguna", Every::full_first(4)), ("plamo3", Every::full(8))];

/// By which period the layers of an architecture take turns, where its keys do not say: as its config has it.
fn period(architecture: &str) -> Option<Every> {
    if let Some((_, every)) = PERIODS.iter().find(|(name, _)| *name == architecture) {
        return Some(*every);
    }
    let family = FAMILIES.iter().find(|(name, _)| *name == architecture).map(|(_, family)| *family);
    hf_config::period(family.unwrap_or(&architecture.replace('-', "_")))
}

/// Reads the layers.
///
/// # Errors
/// If a key that the cache depends on is missing or wrong, or the file is no language model.
pub(super) fn read(keys: &Keys<'_>, has_latent_tensors: bool) -> Result<Layers, ParseError> {
    let architecture = keys.architecture;
    if NO_MODEL.contains(&architecture) {
        return Err(ParseError::UnknownArchitecture {
            what: super::reader::WHAT,
            architecture: architecture.to_owned(),
            remedy: "the file is a projector or an adapter, not a language model; give the model's own file",
        });
    }
    let blocks = keys.required("block_count")?;
    if blocks > MAX_LAYERS {
        return Err(
            keys.error("block_count", format!("it is {blocks}; at most {MAX_LAYERS} layers are read"))
        );
    }
    let draft = keys.number("nextn_predict_layers")?.unwrap_or(0).min(blocks - 1);
    let known = KNOWN.contains(&architecture) || CACHELESS.contains(&architecture);
    if CACHELESS.contains(&architecture) {
        return Ok(Layers { decoder: Vec::new(), draft: Vec::new(), known });
    }
    let count = usize::try_from(blocks).unwrap_or(0);
    let rules = Rules::read(keys, count, has_latent_tensors)?;
    let mut layers = (0..count).map(|at| rules.layer(at)).collect::<Result<Vec<_>, _>>()?;
    let draft = layers.split_off(count - usize::try_from(draft).unwrap_or(0).min(count));
    Ok(Layers { decoder: layers, draft, known })
}

/// The keys that decide, read once.
struct Rules<'a> {
    keys: &'a Keys<'a>,
    kv_heads: Vec<u64>,
    feed_forward: Vec<u64>,
    key_dim: u64,
    value_dim: u64,
    sliding_dims: (u64, u64),
    /// Sliding or not, for each layer; empty if none is.
    sliding: Vec<bool>,
    window: Span,
    latent: Option<CacheKind>,
    /// DeepSeek-V4's ratios, and the width of its indexer's keys.
    compressed: Option<(Vec<u64>, u64)>,
    state: Option<State>,
    /// Layers from this one on read another's cache.
    own_caches: usize,
}

impl<'a> Rules<'a> {
    fn read(keys: &'a Keys<'a>, count: usize, has_latent_tensors: bool) -> Result<Self, ParseError> {
        let hidden = keys.required("embedding_length")?;
        let state = state(keys, hidden)?;
        let heads = keys.per_layer("attention.head_count", count)?.unwrap_or_default();
        let most_heads = heads.iter().copied().max().unwrap_or(0);
        let attends =
            !matches!(keys.architecture, "mamba" | "mamba2" | "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7");
        if attends && most_heads == 0 {
            return Err(
                keys.error("attention.head_count", "it is missing or 0, and needed for the cache".to_owned())
            );
        }
        let kv_heads = if attends {
            // Without the key there are as many key-value heads as heads.
            keys.per_layer("attention.head_count_kv", count)?.unwrap_or_else(|| heads.clone())
        } else {
            vec![0; count]
        };
        let usual = hidden.checked_div(most_heads).unwrap_or(0);
        let key_dim = keys.number("attention.key_length")?.unwrap_or(usual);
        let value_dim = keys.number("attention.value_length")?.unwrap_or(key_dim);
        let sliding_dims = (
            keys.number("attention.key_length_swa")?.unwrap_or(key_dim),
            keys.number("attention.value_length_swa")?.unwrap_or(value_dim),
        );
        // What saves memory is believed where the rules are known, be it from the family's config, or where the file itself
        // says which layers slide.
        let known = KNOWN.contains(&keys.architecture);
        let says =
            keys.raw("attention.sliding_window_pattern").is_some() || period(keys.architecture).is_some();
        let (window, sliding) = if known || says { sliding(keys, count)? } else { (Span::Full, Vec::new()) };
        let shared = keys.number("attention.shared_kv_layers")?.filter(|_| known).unwrap_or(0);
        let own_caches = match keys.architecture {
            // Not a key of its files: the first twenty layers keep their own.
            "gemma3n" if shared == 0 => 20,
            _ => count.saturating_sub(usize::try_from(shared).unwrap_or(count)),
        };
        Ok(Self {
            keys,
            kv_heads,
            feed_forward: keys.per_layer("feed_forward_length", count).ok().flatten().unwrap_or_default(),
            key_dim,
            value_dim,
            sliding_dims,
            sliding,
            window,
            latent: latent(keys, key_dim, has_latent_tensors)?,
            compressed: compressed(keys, count)?,
            state,
            own_caches,
        })
    }

    fn layer(&self, at: usize) -> Result<Layer, ParseError> {
        let architecture = self.keys.architecture;
        let kv_heads = self.kv_heads.get(at).copied().unwrap_or(0);
        let recurrent = match architecture {
            "mamba" | "mamba2" | "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7" => true,
            "falcon-h1" => return Ok(Layer { attention: self.attention(at, kv_heads), state: self.state }),
            "qwen3next" | "qwen35" | "qwen35moe" => self.is_between(at, self.interval()?.unwrap_or(4)),
            // A layer of neither heads nor state is an MLP.
            "nemotron_h" | "nemotron_h_moe" => {
                kv_heads == 0 && self.feed_forward.get(at).copied().unwrap_or(0) == 0
            }
            "jamba" | "granitehybrid" | "lfm2" | "lfm2moe" | "kimi-linear" | "plamo2" => kv_heads == 0,
            _ if KNOWN.contains(&architecture) => false,
            // Not known: by the file's own interval, or where a layer has no heads, or by the period of the family's config;
            // else both, which is the bound.
            _ if self.state.is_some() && self.interval()?.is_some() => {
                self.is_between(at, self.interval()?.unwrap_or(1))
            }
            _ if self.state.is_some() && kv_heads == 0 => true,
            _ if self.state.is_some() && recurrent_period(architecture).is_some() => {
                let count = u64::try_from(self.kv_heads.len()).unwrap_or(0);
                recurrent_period(architecture)
                    .is_some_and(|every| every.kind(number(at), count) == Kind::State)
            }
            _ => return Ok(Layer { attention: self.attention(at, kv_heads), state: self.state }),
        };
        if recurrent {
            if self.state.is_none() {
                return Err(self.keys.error(
                    "ssm",
                    format!("layer {at} is recurrent, and the keys of its state are missing"),
                ));
            }
            return Ok(Layer { attention: None, state: self.state });
        }
        Ok(Layer { attention: self.attention(at, kv_heads), state: None })
    }

    /// Every how many layers one attends, where the file says so.
    fn interval(&self) -> Result<Option<u64>, ParseError> {
        Ok(self.keys.number("full_attention_interval")?.filter(|&interval| interval > 0))
    }

    /// Whether a layer is none of those that come once in an interval, at its end.
    fn is_between(&self, at: usize, interval: u64) -> bool {
        Every::attending(interval).kind(number(at), number(self.kv_heads.len())) == Kind::State
    }

    fn attention(&self, at: usize, kv_heads: u64) -> Option<Attention> {
        if kv_heads == 0 {
            return None;
        }
        if at >= self.own_caches {
            return Some(Attention { cache: CacheKind::Shared, span: Span::Full });
        }
        if let Some((ratios, index_dim)) = &self.compressed {
            let ratio = ratios.get(at).copied().unwrap_or(0);
            let Span::Sliding(window) = self.window else { return None };
            let index_dim = if ratio == 4 { *index_dim } else { 0 };
            let cache = CacheKind::Compressed { head_dim: self.key_dim, ratio, window, index_dim };
            return Some(Attention { cache, span: Span::Full });
        }
        let slides = self.sliding.get(at).copied().unwrap_or(false);
        let span = if slides { self.window } else { Span::Full };
        if let Some(cache) = self.latent {
            return Some(Attention { cache, span });
        }
        let (key_dim, value_dim) = if slides { self.sliding_dims } else { (self.key_dim, self.value_dim) };
        Some(Attention { cache: CacheKind::Heads { kv_heads, key_dim, value_dim }, span })
    }
}

fn number(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

/// The period of an architecture whose other layers keep a state.
fn recurrent_period(architecture: &str) -> Option<Every> {
    period(architecture).filter(|every| every.others == Kind::State)
}

/// Which layers slide, and over what.
fn sliding(keys: &Keys<'_>, count: usize) -> Result<(Span, Vec<bool>), ParseError> {
    let window = keys.number("attention.sliding_window")?;
    let span = match (keys.architecture, window) {
        // Llama 4 is chunked by 8192, whatever the key says, unless it says 0.
        ("llama4", None | Some(1..)) => Span::Chunked(8192),
        // Phi-3 has a window among its keys that the loader does not use.
        (_, None | Some(0)) | ("phi3", _) => return Ok((Span::Full, Vec::new())),
        (_, Some(window)) => Span::Sliding(window),
    };
    let name = "attention.sliding_window_pattern";
    let usual = period(keys.architecture).filter(|every| every.others != Kind::State);
    let by_period = |every: Every| {
        let layers = u64::try_from(count).unwrap_or(0);
        (0..layers).map(|at| every.kind(at, layers) != Kind::Full).collect()
    };
    let flags = match (keys.raw(name), usual) {
        (Some(Value::Bools(flags)), _) if flags.len() >= count => flags.iter().copied().take(count).collect(),
        (Some(Value::Integers(flags)), _) if flags.len() >= count => {
            flags.iter().map(|&flag| flag != 0).take(count).collect()
        }
        (Some(&Value::Integer(period)), usual) => {
            let period = u64::try_from(period)
                .map_err(|_| keys.error(name, format!("it is {period}; it must not be negative")))?;
            by_period(Every { period, ..usual.unwrap_or(Every::full(period)) })
        }
        (Some(_), _) => {
            let problem = format!("it must be a period, or one flag for each of {count} layers");
            return Err(keys.error(name, problem));
        }
        (None, Some(every)) => by_period(every),
        // Llama, Mistral, Qwen: the same.
        (None, None) => Vec::new(),
    };
    Ok((span, flags))
}

/// A latent cache (MLA), where the file has it in the form that llama.cpp caches.
fn latent(keys: &Keys<'_>, key_dim: u64, has_latent_tensors: bool) -> Result<Option<CacheKind>, ParseError> {
    let Some(rank) = keys.number("attention.kv_lora_rank")?.filter(|&rank| rank > 0) else { return Ok(None) };
    // Files from before the latent cache have neither the key nor the split matrix: all heads are cached.
    let inner = keys.number("attention.key_length_mla")?.filter(|&length| length > 0);
    if inner.is_none() && !has_latent_tensors {
        return Ok(None);
    }
    let rope_dim = match keys.number("rope.dimension_count")? {
        Some(rope_dim) => rope_dim,
        None => key_dim.saturating_sub(rank),
    };
    let index_dim = keys.number("attention.indexer.key_length")?.unwrap_or(0);
    Ok(Some(CacheKind::Latent { rank, rope_dim, index_dim }))
}

fn compressed(keys: &Keys<'_>, count: usize) -> Result<Option<(Vec<u64>, u64)>, ParseError> {
    if keys.architecture != "deepseek4" {
        return Ok(None);
    }
    keys.required("attention.sliding_window")?;
    let Some(ratios) = keys.per_layer("attention.compress_ratios", count)? else {
        return Err(
            keys.error("attention.compress_ratios", "it is missing, and needed for the cache".to_owned())
        );
    };
    Ok(Some((ratios, keys.number("attention.indexer.key_length")?.unwrap_or(0))))
}

/// The state of a recurrent layer, if there are any.
fn state(keys: &Keys<'_>, hidden: u64) -> Result<Option<State>, ParseError> {
    let overflow = |name: &str| keys.error(name, "the state would be larger than any memory".to_owned());
    if let Some(taps) = keys.number("shortconv.l_cache")? {
        let kind = StateKind::ShortConvolution;
        return Ok(Some(State { kind, conv_width: hidden, conv_kernel: taps, matrix: 0, heads: 0 }));
    }
    if let Some(head) = keys.number("wkv.head_size")?.filter(|&head| head > 0) {
        let matrix = hidden.checked_mul(head).ok_or_else(|| overflow("wkv.head_size"))?;
        // Token shifts of the time and channel mix are kept as a convolution's taps are.
        let shifts = keys.number("token_shift_count")?.unwrap_or(2);
        return Ok(Some(State {
            kind: StateKind::Rwkv,
            conv_width: hidden,
            conv_kernel: shifts.saturating_add(1),
            matrix,
            heads: hidden / head,
        }));
    }
    let conv_kernel = keys.number("ssm.conv_kernel")?.unwrap_or(0);
    if let Some(head) = keys.number("kda.head_dim")?.filter(|&head| head > 0) {
        let heads = keys.required("attention.head_count")?;
        let width = heads.checked_mul(head).ok_or_else(|| overflow("kda.head_dim"))?;
        let matrix = width.checked_mul(head).ok_or_else(|| overflow("kda.head_dim"))?;
        let conv_width = width.checked_mul(3).ok_or_else(|| overflow("kda.head_dim"))?;
        return Ok(Some(State { kind: StateKind::KimiDelta, conv_width, conv_kernel, matrix, heads }));
    }
    let (Some(inner), Some(size)) = (keys.number("ssm.inner_size")?, keys.number("ssm.state_size")?) else {
        return Ok(None);
    };
    let groups = keys.number("ssm.group_count")?.unwrap_or(0);
    let rank = keys.number("ssm.time_step_rank")?.unwrap_or(0);
    let matrix = inner.checked_mul(size).ok_or_else(|| overflow("ssm.state_size"))?;
    let conv_width = groups
        .checked_mul(2)
        .and_then(|groups| groups.checked_mul(size))
        .and_then(|extra| extra.checked_add(inner))
        .ok_or_else(|| overflow("ssm.group_count"))?;
    let (kind, heads) = match keys.architecture {
        "qwen3next" | "qwen35" | "qwen35moe" => (StateKind::GatedDelta, rank),
        "mamba" | "jamba" => (StateKind::Mamba1, 0),
        _ => (StateKind::Mamba2, rank),
    };
    Ok(Some(State { kind, conv_width, conv_kernel, matrix, heads }))
}
