//! What an engine's own arguments say of its memory. They may say what the spec leaves open, never otherwise than the spec.

use super::arguments::{Flag, flags};
use super::loading::made_by;
use super::table::{Entry, Kind, Meaning, Says, Values, field};
use super::tables;
use crate::api::v1alpha1::EngineSpec;
use crate::estimate::Options;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::refusal::Refusal;
use crate::units::shorten;

/// What the arguments say.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) context: Option<Said<u64>>,
    /// Sequences that the engine has room for.
    pub(crate) sequences: Option<Said<u64>>,
    /// Sequences beyond which it goes no further.
    pub(crate) sequence_cap: Option<Said<u64>>,
    /// Tokens beyond which its cache goes no further.
    pub(crate) cache_tokens: Option<Said<u64>>,
    pub(crate) cache_precision: Option<Said<CachePrecision>>,
    pub(crate) tensor: Option<Said<u64>>,
    pub(crate) pipeline: Option<Said<u64>>,
    pub(crate) data: Option<Said<u64>>,
    /// How values are held, where the arguments say it apart from the keys.
    pub(crate) value_cache: Option<Said<CachePrecision>>,
    pub(crate) batched_tokens: Option<u64>,
    /// What weights become that are not quantised yet.
    pub(crate) precision: Option<Said<Precision>>,
    pub(crate) options: Options,
}

/// A value, and the flag and words that say it.
#[derive(Clone, Debug)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    flag: String,
    written: String,
}

impl<T: PartialEq + std::fmt::Display> Said<T> {
    fn of(value: T, flag: &Flag<'_>) -> Self {
        Self { value, flag: flag.name.clone(), written: flag.value.unwrap_or_default().to_owned() }
    }

    /// This value, unless the spec has another one.
    pub(crate) fn agree(self, field: &str, spec: Option<T>) -> Result<T, Refusal> {
        match spec {
            Some(spec) if spec != self.value => {
                Err(Refusal::contradiction("engine.args", self.words(), field, spec))
            }
            _ => Ok(self.value),
        }
    }

    /// As it was written.
    pub(crate) fn words(&self) -> String {
        format!("{} {}", self.flag, shorten(&self.written)).trim_end().to_owned()
    }
}

impl Said<u64> {
    /// This cap, unless it is below what is to be held.
    pub(crate) fn covers(self, reserved: u64, what: &str, fields: &str) -> Result<u64, Refusal> {
        if self.value >= reserved {
            return Ok(self.value);
        }
        Err(Refusal::invalid(
            "engine.args",
            format!("{} is less than the {reserved} {what} of {fields}", self.words()),
            format!("write {reserved} or more, leave it out, or set {fields} to less"),
        ))
    }
}

/// What flags of one meaning say, flag by flag: of one that is given twice the last counts, as it does for the engines.
struct Several<T>(Vec<(&'static str, Said<T>)>);

impl<T> Several<T> {
    fn put(&mut self, entry: &'static Entry, said: Said<T>) {
        self.0.retain(|(name, _)| *name != entry.name());
        self.0.push((entry.name(), said));
    }
}

/// What the arguments of an engine say.
///
/// # Errors
/// A value that is none, or an argument whose memory cannot be counted.
pub(crate) fn read(engine: &EngineSpec) -> Result<Told, Refusal> {
    let table = tables::of(engine.name);
    let arguments = engine.args.as_deref().unwrap_or_default();
    let mut told = Told::default();
    let mut context_of_all = None;
    let (mut dtype, mut method) = (None, None);
    let mut caps = Several(Vec::new());
    let mut here = None;
    let mut choices = Vec::new();
    for flag in flags(arguments) {
        if let Some(whole) = table.whole_of(&flag.name) {
            return Err(Refusal::invalid(
                field(&flag),
                format!("{} is one key of several, which are not read one by one", flag.name),
                format!("write {} with a JSON object", whole.name()),
            ));
        }
        let Some(entry) = table.entry(&flag.name) else { continue };
        let number = || Ok::<_, Refusal>(Said::of(entry.number(&flag)?, &flag));
        match entry.says {
            Says::Context => told.context = Some(number()?),
            Says::ContextOfAll => context_of_all = Some(number()?),
            Says::Sequences if entry.kind == Kind::Cap => caps.put(entry, number()?),
            Says::Sequences => told.sequences = Some(number()?),
            Says::CacheTokens => told.cache_tokens = Some(number()?),
            Says::Tensor => told.tensor = Some(number()?),
            Says::Pipeline => told.pipeline = Some(number()?),
            Says::Data => told.data = Some(number()?),
            Says::DataHere => here = Some((number()?, flag)),
            Says::ValueCache => told.value_cache = Some(cache(entry, &flag)?),
            Says::BatchedTokens { unbounded, .. } => {
                let is_unbounded = unbounded.is_some() && flag.value == unbounded;
                told.batched_tokens = if is_unbounded { None } else { Some(number()?.value) };
            }
            Says::Prompt | Says::TokensOfAll => {
                number()?;
            }
            Says::Cache => told.cache_precision = Some(cache(entry, &flag)?),
            Says::Dtype => dtype = precision(entry, &flag)?,
            Says::Quantization => {
                method = flag.value.map(|name| Said::of(Method(name.to_owned()), &flag));
            }
            Says::Copies if entry.meaning(flag.value.unwrap_or_default()) != Meaning::Number(1) => {
                return Err(Refusal::invalid(
                    field(&flag),
                    format!("{} makes one replica take more GPUs than were counted", words(&flag)),
                    "remove it, and set replicas for more copies",
                ));
            }
            Says::Choice(choice) | Says::Written(choice, ..) => choices.push((choice, flag)),
            Says::Refused { why, remedy } => {
                return Err(Refusal::not_supported(field(&flag), format!("{} {why}: {remedy}", flag.name)));
            }
            Says::Model(_)
            | Says::Revision
            | Says::Fixed(_)
            | Says::Copies
            | Says::MemoryFraction(_)
            | Says::Uncounted(_) => {}
        }
    }
    told.options = (table.options)(&choices)?;
    if let Some(slots) = told.options.unified_slots.as_mut() {
        // They share one cache: the context is not divided.
        *slots = told.sequences.take().map_or(*slots, |said| said.value);
    }
    if let Some(all) = context_of_all {
        told.context = Some(per_sequence(all, told.sequences.as_ref().map_or(1, |said| said.value))?);
    }
    if let Some((here, flag)) = here {
        all_here(&here, told.data.as_ref(), &flag)?;
    }
    // Of two caps the lower one counts.
    told.sequence_cap = caps.0.into_iter().map(|(_, said)| said).min_by_key(|said| said.value);
    told.precision = quantized(engine.name, method.as_ref()).or(dtype);
    Ok(told)
}

/// The name of a method of quantising.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Method(String);

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a method makes of weights that are not quantised. Of one that needs a checkpoint the checkpoint says it.
fn quantized(engine: Engine, method: Option<&Said<Method>>) -> Option<Said<Precision>> {
    let method = method?;
    let value = made_by(engine, &method.value.0)?;
    Some(Said { value, flag: method.flag.clone(), written: method.written.clone() })
}

/// A flag with its value, for a message.
pub(super) fn words(flag: &Flag<'_>) -> String {
    match flag.value {
        Some(value) => format!("{} {}", shorten(&flag.name), shorten(value)),
        None => shorten(&flag.name),
    }
}

/// What of the arguments is not counted: flags of which nothing is known that changes memory, and those that are misspelt.
#[must_use]
pub fn uncounted(engine: Engine, arguments: &[String]) -> Vec<String> {
    let table = tables::of(engine);
    let mut uncounted: Vec<String> = flags(arguments)
        .filter(|flag| table.entry(&flag.name).is_none())
        .map(|flag| shorten(&flag.name))
        .collect();
    let of_flags: Vec<usize> = flags(arguments).flat_map(|flag| flag.at..flag.at + flag.span).collect();
    let alone = arguments.iter().enumerate().filter(|(at, _)| !of_flags.contains(at));
    uncounted.extend(alone.map(|(_, word)| shorten(word)));
    uncounted
}

/// What is known to change memory and is not counted, each with why.
#[must_use]
pub fn remarks(engine: Engine, arguments: &[String]) -> Vec<String> {
    let table = tables::of(engine);
    flags(arguments)
        .filter_map(|flag| match table.entry(&flag.name)?.says {
            Says::Uncounted(why) => Some(format!("{} is not counted: {why}.", flag.name)),
            _ => None,
        })
        .collect()
}

/// llama.cpp's server divides its context among the sequences.
fn per_sequence(all: Said<u64>, sequences: u64) -> Result<Said<u64>, Refusal> {
    let each = all.value.checked_div(sequences).unwrap_or(0);
    if each.checked_mul(sequences) == Some(all.value) && each > 0 {
        return Ok(Said { value: each, ..all });
    }
    Err(Refusal::invalid(
        "engine.args",
        format!("{} {} cannot be divided among {sequences} sequences", all.flag, all.value),
        format!("write a multiple of {sequences}, or set the context's length and the sequences instead"),
    ))
}

fn cache(entry: &Entry, flag: &Flag<'_>) -> Result<Said<CachePrecision>, Refusal> {
    let written = flag.value.unwrap_or_default();
    if let Meaning::Cache(value) = entry.meaning(written) {
        return Ok(Said::of(value, flag));
    }
    let names = match entry.values {
        Values::Caches(names) => names.iter().map(|(name, _)| *name).collect(),
        _ => Vec::new(),
    };
    Err(Refusal::invalid(
        field(flag),
        format!("{} has \"{}\", which cannot be counted", flag.name, shorten(written)),
        format!("write one of {}, or leave it out and set the precision of the cache", names.join(", ")),
    ))
}

/// One replica is on one node: all of its groups are.
fn all_here(here: &Said<u64>, data: Option<&Said<u64>>, flag: &Flag<'_>) -> Result<(), Refusal> {
    let all = data.map_or(1, |said| said.value);
    if here.value == all {
        return Ok(());
    }
    Err(Refusal::invalid(
        field(flag),
        format!("{} of {all} groups: one replica is on one node, with all of its groups", here.words()),
        format!("write {all}, or leave it out"),
    ))
}

/// The type that weights are cast to; `None` for the model's own.
fn precision(entry: &Entry, flag: &Flag<'_>) -> Result<Option<Said<Precision>>, Refusal> {
    let written = flag.value.unwrap_or_default();
    if let Meaning::Dtype(value) = entry.meaning(written) {
        return Ok(value.map(|value| Said::of(value, flag)));
    }
    let names = match entry.values {
        Values::Dtypes(names) => names.iter().map(|(name, _)| *name).collect(),
        _ => Vec::new(),
    };
    Err(Refusal::invalid(
        field(flag),
        format!("{} has \"{}\", which is no type that it takes", flag.name, shorten(written)),
        format!("write one of {}, or leave it out and set precision", names.join(", ")),
    ))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
