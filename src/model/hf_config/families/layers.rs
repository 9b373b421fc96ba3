//! Which layers of a config are of which kind, and which of them have experts.

use serde_json::Value;

use super::family::{LayerRule, Offset, Sparse};
use crate::model::ParseError;
use crate::model::hf_config::config::fields::{FACTOR, Fields, LAYERS, Limit};
use crate::model::pattern::{Every, Kind, Place};
use crate::units::shorten;

/// The most letters of a pattern that are read.
const LONGEST: usize = 10_000;

/// The kinds of the layers by the first rule that the config answers: so many, or (`None`) as many as a list has. `None`
/// where no rule is answered.
pub(crate) fn kinds(
    rules: &[LayerRule],
    f: &Fields<'_>,
    layers: Option<u64>,
) -> Result<Option<Vec<Kind>>, ParseError> {
    for rule in rules {
        if let Some(kinds) = by_rule(rule, f, layers)? {
            return Ok(Some(kinds));
        }
    }
    Ok(None)
}

fn by_rule(rule: &LayerRule, f: &Fields<'_>, layers: Option<u64>) -> Result<Option<Vec<Kind>>, ParseError> {
    let count = layers.unwrap_or(0);
    let each = |kind: &dyn Fn(u64) -> Kind| Some((0..count).map(kind).collect());
    Ok(match *rule {
        LayerRule::All(kind) => each(&|_| kind),
        LayerRule::ByTypes(key, words) => words_of(f, key, words)?
            .map(|kinds| match layers {
                Some(layers) => as_many(f, key, kinds, layers),
                None => Ok(kinds),
            })
            .transpose()?,
        LayerRule::Cycled(key, words) => words_of(f, key, words)?
            .map(|kinds| (0..count).zip(kinds.into_iter().cycle()).map(last).collect()),
        LayerRule::Every(every, periods, offset) => {
            let every = every_of(f, every, periods, offset)?;
            each(&|layer| every.kind(layer, count))
        }
        LayerRule::Listed(key, first, listed, others) => {
            // Below another field, where there is a dot.
            let (holder, key) = match key.split_once('.') {
                Some((above, key)) => (f.object(above)?, key),
                None => (Some(f.clone()), key),
            };
            let list = holder.map(|holder| holder.numbers(key, LAYERS)).transpose()?.flatten();
            list.and_then(|list| each(&|layer| if list.contains(&(layer + first)) { listed } else { others }))
        }
        LayerRule::Numbered(key, number, kind, others) => {
            let list = f.numbers(key, FACTOR)?.filter(|list| !list.is_empty());
            list.and_then(|list| {
                let at = |layer| usize::try_from(layer).ok().and_then(|at| list.get(at));
                each(&|layer| if at(layer) == Some(&number) { kind } else { others })
            })
        }
        LayerRule::Letters(key, letters, cycled) => letters_of(f, key, letters)?.map(|kinds| {
            if cycled { (0..count).zip(kinds.into_iter().cycle()).map(last).collect() } else { kinds }
        }),
        LayerRule::Before(number, flag, before, others) => {
            if f.flag_or(flag, false)? {
                let first = number.read(f, LAYERS)?;
                each(&|layer| if layer < first { before } else { others })
            } else {
                None
            }
        }
    })
}

fn last((_, kind): (u64, Kind)) -> Kind {
    kind
}

/// As many kinds as there are layers, where there are no fewer.
fn as_many(f: &Fields<'_>, key: &str, mut kinds: Vec<Kind>, layers: u64) -> Result<Vec<Kind>, ParseError> {
    match usize::try_from(layers) {
        Ok(layers) if kinds.len() >= layers => {
            kinds.truncate(layers);
            Ok(kinds)
        }
        _ => {
            Err(f.error(key, format!("has {} entries for {layers} layers; write one per layer", kinds.len())))
        }
    }
}

/// "a, b and c" of those that stand first for their kind: the others are spellings.
fn known<T: std::fmt::Display>(all: impl Iterator<Item = (T, Kind)>) -> String {
    let mut kinds = Vec::new();
    let mut named = Vec::new();
    for (name, kind) in all {
        if !kinds.contains(&kind) {
            kinds.push(kind);
            named.push(name.to_string());
        }
    }
    match named.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn words_of(
    f: &Fields<'_>,
    key: &str,
    words: &[(&'static str, Kind)],
) -> Result<Option<Vec<Kind>>, ParseError> {
    let Some(written) = f.texts(key)?.filter(|written| !written.is_empty()) else { return Ok(None) };
    let read = |word: &str| {
        words.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind).ok_or_else(|| {
            let known = known(words.iter().copied());
            f.error(key, format!("has the entry \"{}\"; known are {known}", shorten(word)))
        })
    };
    written.into_iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn letters_of(f: &Fields<'_>, key: &str, letters: &[(char, Kind)]) -> Result<Option<Vec<Kind>>, ParseError> {
    // A number there is a period, and another rule's.
    let written = match f.get(key) {
        Some(Value::String(written)) if !written.is_empty() => written,
        Some(Value::Number(_) | Value::String(_)) | None => return Ok(None),
        Some(_) => return f.text(key).map(|_| None),
    };
    if written.len() > LONGEST {
        return Err(f.error(key, format!("has {} letters; no model has as many layers", written.len())));
    }
    let read = |letter: char| {
        letters.iter().find(|(name, _)| *name == letter).map(|(_, kind)| *kind).ok_or_else(|| {
            let (letter, known) = (shorten(&letter.to_string()), known(letters.iter().copied()));
            f.error(key, format!("has the letter \"{letter}\"; known are {known}"))
        })
    };
    written.chars().map(read).collect::<Result<_, _>>().map(Some)
}

/// A period as the config has it, where it says.
fn every_of(
    f: &Fields<'_>,
    every: Every,
    periods: &[&str],
    offset: Option<&str>,
) -> Result<Every, ParseError> {
    let period = match periods.iter().find(|key| f.has(key)) {
        // A window in no layer is written as 0.
        Some(key) if every.others == Kind::Sliding => f.or(key, FACTOR, every.period)?.max(1),
        Some(key) => f.need(&[key], FACTOR)?,
        None => every.period,
    };
    let place = match (every.place, offset) {
        (Place::After(default), Some(key)) => Place::After(f.or(key, FACTOR, default)?),
        (place, _) => place,
    };
    Ok(Every { period, place, ..every })
}

/// A number that may be written once per layer (Hunyuan); the largest, where the layers differ.
pub(crate) fn alike(f: &Fields<'_>, key: &str, limit: Limit) -> Result<Option<u64>, ParseError> {
    if matches!(f.get(key), Some(Value::Array(_))) {
        return Ok(f.numbers(key, limit)?.and_then(|each| each.into_iter().max()));
    }
    f.number(key, limit)
}

/// Which layers have experts.
pub(crate) fn sparse(rule: &Sparse, f: &Fields<'_>, layers: u64) -> Result<Vec<bool>, ParseError> {
    // A list with an entry per layer wins over a rule.
    if let Some(Value::Array(_)) = f.get("moe_layer_freq") {
        let list = f.numbers("moe_layer_freq", FACTOR)?.unwrap_or_default();
        return Ok(list.into_iter().map(|entry| entry > 0).collect());
    }
    if let Some(kinds) = f.texts("mlp_layer_types")? {
        return Ok(kinds.into_iter().map(|kind| kind != "dense").collect());
    }
    if let Some(text) = f.text("moe_layers_enum").unwrap_or_default() {
        let listed: Vec<u64> = text.split(',').filter_map(|item| item.trim().parse().ok()).collect();
        return Ok((0..layers).map(|layer| listed.contains(&layer)).collect());
    }
    let starts = ["first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"];
    let first = match starts.iter().find(|key| f.has(key)) {
        Some(key) => alike(f, key, LAYERS)?.unwrap_or(rule.first),
        None => rule.first,
    };
    let step = f.positive_or(rule.step, FACTOR, rule.every)?;
    let dense_only = f.numbers("mlp_only_layers", LAYERS)?.unwrap_or_default();
    let at = match rule.offset {
        Offset::First => 0,
        Offset::Last => step - 1,
        Offset::Key(key, default) => f.or(key, FACTOR, default)?,
    };
    let has = |layer: u64| layer >= first && layer % step == at && !dense_only.contains(&layer);
    Ok((0..layers).map(has).collect())
}
