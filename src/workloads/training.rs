//! What the command line and the config of a training say: the model, and how long its samples are.

use serde_json::Value;

use super::container::{Around, file};
use super::model::{self, Model};
use super::objects::{at, has_extension, number, text};
use crate::engine::{Weights, Word};
use crate::precision::{Engine, Precision};

/// Flags and keys that name the model, in the frameworks' own words.
const MODEL: &[&str] = &["--model-name-or-path", "--base-model", "--pretrained-model-name-or-path"];
const MODEL_KEYS: &[&str] = &["/base_model", "/model_name_or_path"];
/// Those that say how long a sample is.
const LENGTH: &[&str] =
    &["--max-seq-length", "--max-length", "--cutoff-len", "--model-max-length", "--sequence-len"];
const LENGTH_KEYS: &[&str] = &["/sequence_len", "/cutoff_len", "/max_length", "/max_seq_length"];
/// The type that the weights are held in.
const DTYPE: &[&str] = &["--torch-dtype", "--dtype"];

/// The value of a flag by any of these names, with underscores as dashes; the last counts.
pub(super) fn value(words: &[Word], names: &[&str]) -> Option<Word> {
    let mut found = None;
    for (at, word) in words.iter().enumerate() {
        let (name, own) =
            word.text.split_once('=').map_or((word.text.as_str(), None), |(name, own)| (name, Some(own)));
        if !names.contains(&name.replace('_', "-").as_str()) {
            continue;
        }
        let next = || words.get(at + 1).filter(|next| !next.text.starts_with("--")).cloned();
        found = own.map_or_else(next, |own| Some(Word { text: own.to_owned(), known: word.known })).or(found);
    }
    found
}

/// What is known of a training.
pub(super) struct Trained {
    pub(super) model: Model,
    pub(super) context: Option<u64>,
    pub(super) precision: Option<Precision>,
    pub(super) faults: Vec<String>,
}

/// Reads a training.
pub(super) fn read(framework: &str, words: &[Word], around: Around<'_>) -> Trained {
    let mut place = value(words, MODEL);
    let mut length = value(words, LENGTH).filter(|word| word.known).and_then(|word| word.text.parse().ok());
    let mut dtype = value(words, DTYPE).filter(|word| word.known).and_then(|word| word.text.parse().ok());
    if let Some(config) = config(words, around) {
        let key = |keys: &[&str]| keys.iter().find_map(|key| text(&config, key)).map(str::to_owned);
        place = place.or_else(|| key(MODEL_KEYS).map(Word::of));
        length = length.or_else(|| LENGTH_KEYS.iter().find_map(|key| number(&config, key)));
        dtype = dtype.or_else(|| key(&["/torch_dtype", "/dtype"])?.parse().ok());
    }
    let weights = place.map(|place| Weights { place, is_path: false, is_url: false });
    let model = model::read(Engine::Transformers, weights.as_ref(), None, None).0;
    let mut faults: Vec<String> = model.fault().into_iter().collect();
    faults.push(format!(
        "of a training with {framework} the method, optimizer and batch are not read: plan a ModelDeployment with spec.training, or use `loadline estimate --training-config`"
    ));
    let precision = dtype.filter(|dtype: &Precision| dtype.is_wide());
    Trained { model, context: length, precision, faults }
}

/// The config file of a training, where a ConfigMap of the file holds it.
fn config(words: &[Word], around: Around<'_>) -> Option<Value> {
    let is_config = |word: &&Word| word.known && has_extension(&word.text, &["yaml", "yml"]);
    words.iter().filter(is_config).find_map(|word| {
        let found: Value = serde_yaml::from_str(&file(&word.text, around)?).ok()?;
        MODEL_KEYS.iter().any(|key| at(&found, key).is_some()).then_some(found)
    })
}
