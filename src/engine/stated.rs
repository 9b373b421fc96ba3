//! What an engine's command line states, flag by flag: of somebody else's workload, where one flag that cannot be read must not
//! hide the others, and what is not stated stays unsaid.

use super::arguments::{Flag, flags};
use super::loading::made_by;
use super::table::{Choice, Entry, Meaning, Place, Says, Table};
use super::tables;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::units::shorten;

/// A word of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// As far as it is known: what is not keeps the form that it was written in, such as `$(NAME)`.
    pub(crate) text: String,
    /// Whether all of it is known.
    pub(crate) known: bool,
}

impl Word {
    /// A word that is known.
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), known: true }
    }
}

/// How a command line says where the weights are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// What it says.
    pub(crate) place: Word,
    /// Whether that can only be a path of the container.
    pub(crate) is_path: bool,
    /// Whether it can only be an address.
    pub(crate) is_url: bool,
}

/// What a command line states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Where the weights are.
    pub(crate) weights: Option<Weights>,
    /// The file of a repository.
    pub(crate) file: Option<Word>,
    /// The revision of a repository.
    pub(crate) revision: Option<String>,
    /// The type that weights are cast to.
    pub(crate) dtype: Option<Precision>,
    /// The method of quantising, by its name.
    pub(crate) method: Option<String>,
    /// Tokens per sequence.
    pub(crate) context: Option<u64>,
    /// Sequences: a cap, or those that there is room for.
    pub(crate) sequences: Option<u64>,
    /// How the cache is held.
    pub(crate) cache: Option<CachePrecision>,
    /// Tensor-parallel ranks.
    pub(crate) tensor: Option<u64>,
    /// Pipeline stages.
    pub(crate) pipeline: Option<u64>,
    /// Data-parallel groups.
    pub(crate) data: Option<u64>,
    /// Those of them in this pod.
    pub(crate) data_here: Option<u64>,
    /// Nodes that the ranks are on.
    pub(crate) nodes: Option<u64>,
    /// The part of a GPU that the engine plans with, as it was written.
    pub(crate) memory_fraction: Option<String>,
    /// Arguments that change memory and are not among the above, such as adapters: as `engine.args` takes them.
    pub(crate) arguments: Vec<String>,
    /// What could not be read, and why.
    pub(crate) faults: Vec<String>,
}

impl Stated {
    /// The format of the weights that an engine is told, where the words alone say it. A method whose name is that of a family
    /// of widths (`gptq`, `compressed-tensors`) does not.
    pub(crate) fn precision(&self, engine: Engine) -> Option<Precision> {
        let Some(method) = &self.method else { return self.dtype };
        let plain = method.to_ascii_lowercase().replace("_marlin", "");
        let named = || plain.parse::<Precision>().ok().filter(|_| plain != "gptq");
        let loads = |format: &Precision| tables::of(engine).loads.checkpoints.contains(format);
        made_by(engine, method).or_else(|| named().filter(loads))
    }
}

/// Whether any of a command line's flags is one that this engine has and no other.
pub(crate) fn is_only_of(engine: Engine, words: &[Word]) -> bool {
    let texts: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
    let others = || Engine::ALL.iter().filter(|other| **other != engine);
    flags(&texts).any(|flag| {
        tables::of(engine).entry(&flag.name).is_some()
            && others().all(|other| tables::of(*other).entry(&flag.name).is_none())
    })
}

/// What a command line of an engine states.
pub(crate) fn stated(engine: Engine, words: &[Word]) -> Stated {
    let table = tables::of(engine);
    let texts: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
    let mut reading = Reading { engine, table, words, stated: Stated::default(), all: None };
    for flag in flags(&texts) {
        reading.flag(&flag);
    }
    reading.positional(&texts);
    reading.finish()
}

/// The flag that names the weights.
pub(crate) fn model_flag(engine: Engine) -> Option<&'static str> {
    let names = |entry: &&Entry| matches!(entry.says, Says::Model(Place::Any | Place::Repository));
    tables::of(engine).flags.iter().find(names).map(Entry::name)
}

/// The flag that stands for an environment variable which the engine reads; what is on the command line goes before it.
pub(crate) fn flag_of_variable(engine: Engine, variable: &str) -> Option<&'static str> {
    let table = tables::of(engine);
    if let Some((_, flag)) = table.variables.iter().find(|(name, _)| *name == variable) {
        return Some(flag);
    }
    // The launcher of TGI takes every flag from the variable of its name.
    if engine != Engine::Tgi {
        return None;
    }
    let flag = format!("--{}", variable.to_ascii_lowercase().replace('_', "-"));
    let of_launcher = variable.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    table.entry(&flag).filter(|_| of_launcher)?.names.iter().find(|name| **name == flag).copied()
}

struct Reading<'a> {
    engine: Engine,
    table: &'static Table,
    words: &'a [Word],
    stated: Stated,
    /// Tokens of all sequences together, which the engine divides among them.
    all: Option<u64>,
}

impl Reading<'_> {
    fn is_known(&self, flag: &Flag<'_>) -> bool {
        let value = flag.at + flag.span - 1;
        self.words.get(value).is_some_and(|word| word.known)
    }

    fn fault(&mut self, fault: String) {
        if !self.stated.faults.contains(&fault) {
            self.stated.faults.push(fault);
        }
    }

    fn flag(&mut self, flag: &Flag<'_>) {
        if let Some(whole) = self.table.whole_of(&flag.name) {
            self.fault(format!("{} is one key of {}, which is not read key by key", flag.name, whole.name()));
            return;
        }
        let value = flag.value.unwrap_or_default();
        let Some(entry) = self.table.entry(&flag.name) else {
            // Words that may be anything, after a flag that perhaps takes none.
            if !self.is_known(flag) && flag.span == 2 && may_be_several(value) {
                self.fault(format!("what {} stands for is not in the file", shorten(value)));
            }
            return;
        };
        if let Says::Model(place) = entry.says {
            self.model(place, flag);
            return;
        }
        if !self.is_known(flag) && flag.value.is_some() {
            if !matches!(entry.says, Says::Fixed(_)) {
                self.fault(format!("{} has {}, whose value is not in the file", flag.name, shorten(value)));
            }
            return;
        }
        self.known(entry, flag, value);
    }

    fn known(&mut self, entry: &'static Entry, flag: &Flag<'_>, value: &str) {
        let keep = |stated: &mut Stated| {
            stated.arguments.push(flag.name.clone());
            stated.arguments.extend(flag.value.map(str::to_owned));
        };
        match entry.says {
            Says::Revision => self.stated.revision = Some(value.to_owned()),
            Says::Context | Says::ContextOfAll if is_left_to_the_model(entry, value) => {}
            Says::Context | Says::ContextOfAll if matches!(value, "-1" | "auto") => {
                self.fault(format!("{} {value} leaves the context to what the card has room for", flag.name));
            }
            Says::Context => self.number(entry, flag, |stated, number| stated.context = Some(number)),
            Says::ContextOfAll => match entry.number(flag) {
                Ok(number) => self.all = Some(number),
                Err(refusal) => self.fault(words_of(&refusal.to_string())),
            },
            Says::Sequences => {
                self.number(entry, flag, |stated, number| {
                    // Of two caps the lower one counts.
                    let least = stated.sequences.map_or(number, |other| other.min(number));
                    stated.sequences = Some(least);
                });
                keep(&mut self.stated);
            }
            Says::Tensor => self.number(entry, flag, |stated, number| stated.tensor = Some(number)),
            Says::Pipeline => self.number(entry, flag, |stated, number| stated.pipeline = Some(number)),
            Says::Data => self.number(entry, flag, |stated, number| stated.data = Some(number)),
            Says::DataHere => self.number(entry, flag, |stated, number| stated.data_here = Some(number)),
            Says::Copies if matches!(entry.name(), "--nnodes") => {
                self.number(entry, flag, |stated, number| stated.nodes = Some(number));
            }
            Says::Copies if entry.meaning(value) == Meaning::Number(1) => {}
            Says::Copies => self.fault(format!("{} {} is not counted", flag.name, shorten(value))),
            Says::Cache => match entry.meaning(value) {
                Meaning::Cache(CachePrecision::Auto) => {}
                Meaning::Cache(cache) => self.stated.cache = Some(cache),
                _ => self.fault(format!("{} {} is a cache that is not counted", flag.name, shorten(value))),
            },
            Says::Dtype => match entry.meaning(value) {
                Meaning::Dtype(dtype) => {
                    self.stated.dtype = dtype;
                    keep(&mut self.stated);
                }
                _ => self.fault(format!("{} {} is a type that is not counted", flag.name, shorten(value))),
            },
            Says::Quantization => {
                self.stated.method = Some(value.to_owned());
                // Of a checkpoint that is quantised already, the checkpoint says it.
                if made_by(self.engine, value).is_some() {
                    keep(&mut self.stated);
                }
            }
            Says::MemoryFraction(_) => {
                self.stated.memory_fraction = Some(value.to_owned());
                keep(&mut self.stated);
            }
            Says::Refused { why, .. } => self.fault(format!("{} {why}", flag.name)),
            // Its own word for no speculation.
            Says::Choice(_) if value.eq_ignore_ascii_case("null") || value.eq_ignore_ascii_case("none") => {}
            // Nothing is left of them to say once the model and the context are known.
            Says::Model(_)
            | Says::Fixed(_)
            | Says::Prompt
            | Says::TokensOfAll
            | Says::Written(Choice::Split, ..) => {}
            Says::CacheTokens
            | Says::BatchedTokens { .. }
            | Says::ValueCache
            | Says::Choice(_)
            | Says::Written(..)
            | Says::Uncounted(_) => keep(&mut self.stated),
        }
    }

    fn number(&mut self, entry: &'static Entry, flag: &Flag<'_>, put: impl FnOnce(&mut Stated, u64)) {
        match entry.number(flag) {
            Ok(number) => put(&mut self.stated, number),
            Err(refusal) => self.fault(words_of(&refusal.to_string())),
        }
    }

    fn model(&mut self, place: Place, flag: &Flag<'_>) {
        let Some(value) = flag.value else { return };
        let word = Word { text: value.to_owned(), known: self.is_known(flag) };
        if place == Place::File {
            self.stated.file = Some(word);
            return;
        }
        let (is_path, is_url) = (place == Place::Path, place == Place::Url);
        // Of two the last counts, as it does for the engines; a path beside a repository is where that is downloaded to.
        if is_path && self.stated.weights.as_ref().is_some_and(|weights| !weights.is_path) {
            return;
        }
        self.stated.weights = Some(Weights { place: word, is_path, is_url });
    }

    /// A first word that is no flag, of an engine that takes its model so, and words of which nothing is known.
    fn positional(&mut self, texts: &[String]) {
        let of_flags: Vec<usize> = flags(texts).flat_map(|flag| flag.at..flag.at + flag.span).collect();
        let mut alone = self.words.iter().enumerate().filter(|(at, _)| !of_flags.contains(at));
        let first = usize::from(texts.first().is_some_and(|word| word == "serve"));
        if self.table.positional_model
            && let Some(word) = self.words.get(first).filter(|word| !word.text.starts_with('-'))
            && !(word.text.is_empty() || (!word.known && may_be_several(&word.text)))
        {
            self.stated.weights = Some(Weights { place: word.clone(), is_path: false, is_url: false });
            alone.next();
        }
        let unread = |(at, word): (usize, &Word)| (at >= first && !word.known).then(|| word.text.clone());
        let model = self.stated.weights.as_ref().map(|weights| weights.place.text.clone());
        let unread: Vec<String> =
            alone.filter_map(unread).filter(|text| Some(text) != model.as_ref()).collect();
        for text in unread {
            self.fault(format!("what {} stands for is not in the file", shorten(&text)));
        }
    }

    fn finish(mut self) -> Stated {
        if let Some(all) = self.all {
            // Slots of one cache share it; else it is divided among them.
            let shared =
                self.stated.arguments.iter().any(|word| matches!(word.as_str(), "--kv-unified" | "-kvu"));
            let slots = self.stated.sequences.filter(|_| !shared).unwrap_or(1).max(1);
            self.stated.context = Some(all / slots).filter(|each| *each > 0);
        }
        self.stated
    }
}

/// Whether a length of nothing means that of the model, as it does for llama.cpp.
fn is_left_to_the_model(entry: &Entry, value: &str) -> bool {
    matches!(entry.says, Says::ContextOfAll) && matches!(value, "0" | "-1")
}

/// Whether a variable by this name may well hold several arguments, rather than the value of the flag before it.
fn may_be_several(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    ["ARG", "OPT", "EXTRA", "FLAG", "PARAM", "$@", "$*"].iter().any(|part| text.contains(part))
        && !matches!(text.as_str(), "$OPTARG")
}

/// The words of a refusal without the field of a spec that is nobody's.
fn words_of(refusal: &str) -> String {
    let after = refusal.split_once("]: ").or_else(|| refusal.split_once("] "));
    after.map_or(refusal, |(_, words)| words).to_owned()
}

#[cfg(test)]
#[path = "stated_tests.rs"]
mod tests;
