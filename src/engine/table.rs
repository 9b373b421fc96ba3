//! The form in which an engine is described: one table, by which its arguments are read and written.

use super::arguments::Flag;
use crate::estimate::{Options, Workload};
use crate::precision::{CachePrecision, Precision};
use crate::refusal::{Refusal, whole};
use crate::units::shorten;

/// More tokens, sequences and ranks than any engine takes.
pub(super) const MOST_TOKENS: u64 = 100_000_000;
pub(super) const MOST_SEQUENCES: u64 = 65_536;
pub(super) const MOST_RANKS: u64 = 1024;

/// How the flags that say an option are read together.
type ReadOptions = fn(&[(Choice, Flag<'_>)]) -> Result<Options, Refusal>;

/// What is known of an engine.
pub(super) struct Table {
    /// The image, pinned to a release; `None` if there is none to run by default.
    pub(super) image: Option<&'static str>,
    /// What its own images are called, in whichever registry.
    pub(super) stock: &'static [&'static str],
    /// The command, where the image's own will not do.
    pub(super) command: &'static [&'static str],
    /// Where it answers, and the path that says that the model is loaded.
    pub(super) endpoint: Option<(u16, &'static str)>,
    /// Environment variables that name the model.
    pub(super) model_variables: &'static [&'static str],
    /// Environment variables that it reads, and the flag that each stands for.
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// Whether a first argument that is no flag names the model.
    pub(super) positional_model: bool,
    /// Its flags, in the order in which they are written.
    pub(super) flags: &'static [Entry],
    /// Caches that it holds untold, as they are of the model's own width.
    pub(super) untold_caches: &'static [CachePrecision],
    /// Whether it can divide the layers into stages.
    pub(super) stages: bool,
    /// Whether a cap on sequences is that of each data-parallel group, rather than of all; of an engine that has none, `None`.
    pub(super) cap_of_group: Option<fn(&Workload) -> bool>,
    /// Reads the flags that say an option.
    pub(super) options: ReadOptions,
    /// What it can load.
    pub(super) loads: Loads,
}

/// What an engine loads, by its own documentation.
#[derive(Clone, Copy)]
pub(super) struct Loads {
    /// From which files.
    pub(super) files: Files,
    /// The types that it casts weights to which are not quantised.
    pub(super) casts: &'static [Precision],
    /// The formats that it quantises such weights to while it loads them, and the name of the method.
    pub(super) in_flight: &'static [(Precision, &'static str)],
    /// The formats of checkpoints that it loads as they are.
    pub(super) checkpoints: &'static [Precision],
}

/// Which files an engine loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// Repositories with safetensors.
    Safetensors,
    /// GGUF files.
    Gguf,
    /// Its own affair.
    Any,
}

/// A flag.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its names. The first is written.
    pub(super) names: &'static [&'static str],
    pub(super) says: Says,
    pub(super) kind: Kind,
    pub(super) values: Values,
}

/// Whether a flag's number is memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The engine goes no further, and takes no memory for it beforehand.
    Cap,
    /// The engine has room for so much, or does not start.
    Reservation,
    /// It counts nothing.
    Neither,
}

/// What a flag says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Says {
    /// Where the weights are.
    Model(Place),
    /// The revision of the repository.
    Revision,
    /// Something that Loadline relies on, and the value that it has.
    Fixed(&'static str),
    /// Tokens per sequence.
    Context,
    /// Tokens of all sequences together, which the engine divides among them.
    ContextOfAll,
    /// Tokens of all sequences together, beside a flag for those of one.
    TokensOfAll,
    /// The longest prompt: one token less than a sequence has.
    Prompt,
    /// Sequences.
    Sequences,
    /// Tokens that the cache has room for.
    CacheTokens,
    /// Tokens of one forward pass.
    BatchedTokens {
        /// The value that leaves them unbounded, such as `-1`.
        unbounded: Option<&'static str>,
        /// Whether the engine is to be told: its default goes by the card.
        written: bool,
    },
    /// Ranks that share each layer.
    Tensor,
    /// Stages that the layers are divided into.
    Pipeline,
    /// Groups of ranks that each hold sequences of their own.
    Data,
    /// Those of them that are on the same node, which is all.
    DataHere,
    /// How the cache is held.
    Cache,
    /// How the values are held, where that is another type than the keys'.
    ValueCache,
    /// The 16- or 32-bit type that weights are cast to.
    Dtype,
    /// How weights are quantised, or have been.
    Quantization,
    /// The part of a GPU that is planned with.
    MemoryFraction(Fraction),
    /// Copies of the model within one replica.
    Copies,
    /// An option of the estimate.
    Choice(Choice),
    /// An option that is written too: its value, if any, and the field that it follows from.
    Written(Choice, fn(&Workload) -> Option<String>, &'static str),
    /// What cannot be counted.
    Refused {
        /// Why.
        why: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// What is not counted, and why.
    Uncounted(&'static str),
}

/// How a flag says where the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A repository, a path or an address.
    Any,
    /// A repository.
    Repository,
    /// A file of the repository, named by another flag.
    File,
    /// An address.
    Url,
    /// A path in the container, of which Loadline knows nothing.
    Path,
}

/// What a fraction of a GPU is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fraction {
    /// All that the process takes; the thousandths that the engine takes untold.
    Whole(u64),
    /// Weights and caches, with the rest of the GPU for everything else. What the engine takes untold goes by the card.
    Static,
}

/// An option of the estimate, as the engines' flags say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Room for adapters, or none.
    Adapters(bool),
    /// Adapters on the GPU at once.
    AdapterCount,
    /// The largest rank of an adapter.
    AdapterRank,
    /// No graphs are captured, or they are.
    Eager(bool),
    /// Whole experts on each rank, or slices of each.
    Experts(bool),
    /// Ranks among which the experts are divided.
    ExpertRanks,
    /// Groups of ranks share the attention.
    AttentionGroups,
    /// Each of them has the output head.
    HeadOfGroup,
    /// Ranks that share a dense MLP.
    MlpRanks,
    /// How tokens come to the ranks with their experts.
    ExpertExchange,
    /// Prefixes are kept for later requests, or not.
    PrefixCaching(bool),
    /// The language model alone is loaded.
    TextOnly,
    /// A tower from a file of its own.
    TowerFile,
    /// One cache for all slots, or one for each.
    Unified(bool),
    /// Speculative decoding, as a JSON object or as an algorithm's name.
    Speculation,
    /// The model that guesses.
    DraftModel,
    /// Tokens that are guessed.
    DraftTokens,
    /// Layers on the GPUs.
    GpuLayers,
    /// Layers whose experts stay in host memory.
    HostExpertLayers,
    /// All experts stay in host memory.
    HostExperts,
    /// Where single tensors go.
    TensorPlaces,
    /// Flash attention.
    FlashAttention,
    /// How layers are divided among GPUs.
    Split,
    /// Batch sizes that graphs are captured for.
    GraphSizes,
}

/// How a flag's values are spelled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values {
    /// A whole number.
    Number {
        /// Of what.
        what: &'static str,
        /// The largest.
        most: u64,
        /// The engine's own way of reading it.
        read: fn(&str) -> Option<i64>,
    },
    /// Names of caches. The first of each is written.
    Caches(&'static [(&'static str, CachePrecision)]),
    /// Names of types. The first of each is written; `None` is the model's own.
    Dtypes(&'static [(&'static str, Option<Precision>)]),
    /// A decimal from 0 to 1.
    Fraction,
    /// A JSON object, whose keys may be given one by one too, with a dot.
    Json,
    /// Any text.
    Text,
    /// None, or a word that says yes or no.
    Switch,
}

/// What a value means, however it is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    Number(i64),
    Cache(CachePrecision),
    Dtype(Option<Precision>),
    Text(&'a str),
}

impl Entry {
    pub(super) const fn of(names: &'static [&'static str], kind: Kind, says: Says, values: Values) -> Self {
        Self { names, says, kind, values }
    }

    /// A flag that counts nothing.
    pub(super) const fn neither(names: &'static [&'static str], says: Says, values: Values) -> Self {
        Self::of(names, Kind::Neither, says, values)
    }

    /// A flag that cannot be counted.
    pub(super) const fn refused(
        names: &'static [&'static str],
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self::of(names, Kind::Neither, Says::Refused { why, remedy }, Values::Text)
    }

    /// A flag that is not counted.
    pub(super) const fn uncounted(names: &'static [&'static str], why: &'static str) -> Self {
        Self::of(names, Kind::Neither, Says::Uncounted(why), Values::Text)
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// The name that is written.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// What a value means. One that means nothing is a text.
    pub(super) fn meaning<'a>(&self, value: &'a str) -> Meaning<'a> {
        let known = match self.values {
            Values::Number { read, .. } => read(value).map(Meaning::Number),
            Values::Caches(names) => {
                names.iter().find(|(name, _)| *name == value).map(|(_, cache)| Meaning::Cache(*cache))
            }
            Values::Dtypes(names) => {
                names.iter().find(|(name, _)| *name == value).map(|(_, dtype)| Meaning::Dtype(*dtype))
            }
            Values::Fraction | Values::Json | Values::Text | Values::Switch => None,
        };
        known.unwrap_or(Meaning::Text(value))
    }

    /// The name of a cache among this flag's values.
    pub(super) fn cache_name(&self, cache: CachePrecision) -> Option<&'static str> {
        let Values::Caches(names) = self.values else { return None };
        names.iter().find(|(_, named)| *named == cache).map(|(name, _)| *name)
    }

    /// The name of a type among this flag's values.
    pub(super) fn dtype_name(&self, dtype: Precision) -> Option<&'static str> {
        let Values::Dtypes(names) = self.values else { return None };
        names.iter().find(|(_, named)| *named == Some(dtype)).map(|(name, _)| *name)
    }

    /// The number that an argument has.
    pub(super) fn number(&self, flag: &Flag<'_>) -> Result<u64, Refusal> {
        match self.values {
            Values::Number { what, most, read } => number(flag, what, most, read),
            _ => number(flag, "anything", MOST_TOKENS, plain),
        }
    }
}

impl Table {
    /// What is known of a flag by this name, with underscores as dashes.
    pub(super) fn entry(&self, name: &str) -> Option<&'static Entry> {
        self.flags.iter().find(|entry| entry.is_named(name))
    }

    /// The flag of which this is one key, such as `--speculative-config.method`.
    pub(super) fn whole_of(&self, name: &str) -> Option<&'static Entry> {
        let (whole, _) = name.split_once('.')?;
        self.entry(whole).filter(|entry| matches!(entry.values, Values::Json))
    }

    /// The flag that says a cache, if there is one.
    pub(super) fn cache_flag(&self) -> Option<&'static Entry> {
        self.flags.iter().find(|entry| matches!(entry.says, Says::Cache))
    }
}

/// The field that an argument stands for.
pub(super) fn field(flag: &Flag<'_>) -> String {
    format!("engine.args[{}]", flag.at)
}

/// The number that an argument has, read in the engine's way.
pub(super) fn number(
    flag: &Flag<'_>,
    what: &str,
    most: u64,
    read: fn(&str) -> Option<i64>,
) -> Result<u64, Refusal> {
    let written = flag.value.unwrap_or_default();
    let Some(count) = read(written) else {
        return Err(Refusal::invalid(
            field(flag),
            format!("{} has \"{}\", which is not a number of {what}", flag.name, shorten(written)),
            "write a whole number such as 8192",
        ));
    };
    whole(&format!("{} {}", field(flag), flag.name), count, what, most)
}

/// A whole number in digits.
pub(super) fn plain(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A whole number with one of these suffixes, or without. `decimals` are the suffixes that may follow a fraction.
pub(super) fn suffixed(text: &str, decimals: &[(&str, i64)], binaries: &[(&str, i64)]) -> Option<i64> {
    let text = text.trim();
    let with = |suffixes: &[(&str, i64)]| {
        suffixes.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
    };
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit()).then(|| plain(text)).flatten();
    if let Some((number, factor)) = with(binaries) {
        return digits(number)?.checked_mul(factor);
    }
    let Some((number, factor)) = with(decimals) else { return plain(text) };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let places = u32::try_from(fraction.len()).ok()?;
    let below = digits(fraction)?.checked_mul(factor)?.checked_div(10_i64.checked_pow(places)?)?;
    digits(whole)?.checked_mul(factor)?.checked_add(below)
}
