//! Typed, bounded access to the fields of a config: what is out of range is an error that names the field.

use serde_json::{Map, Value};

use crate::model::ParseError;
use crate::model::hf_config::config::json::kind;
use crate::units::shorten;

/// What ModelOpt's file is called in messages.
pub(crate) const QUANT: &str = "hf_quant_config.json";

/// What is read, for messages.
pub(crate) const WHAT: &str = "config.json";

/// The largest value of a kind of field that is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    most: u64,
    of: &'static str,
}

/// Layers.
pub(crate) const LAYERS: Limit = Limit { most: 10_000, of: "layers" };
/// Routed or shared experts.
pub(crate) const EXPERTS: Limit = Limit { most: 100_000, of: "experts" };
/// Attention heads.
pub(crate) const HEADS: Limit = Limit { most: 1 << 16, of: "heads" };
/// Widths of layers and heads.
pub(crate) const WIDTH: Limit = Limit { most: 1 << 24, of: "features" };
/// Rows of an embedding.
pub(crate) const VOCABULARY: Limit = Limit { most: 1 << 26, of: "vocabulary entries" };
/// Tokens of a context or a window.
pub(crate) const TOKENS: Limit = Limit { most: 1 << 40, of: "tokens" };
/// Small factors: periods, patch sizes, kernel taps.
pub(crate) const FACTOR: Limit = Limit { most: 1 << 16, of: "units" };

/// The longest list that is read from a field.
const LONGEST_LIST: usize = 10_000;

/// One JSON object of a config, and where it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// The whole file, and what to call it.
    pub(crate) fn root(map: &'a Map<String, Value>, what: &'static str) -> Self {
        Self { map, path: String::new(), what }
    }

    /// An object that stands at `path` of the file, such as `text_config.`.
    pub(crate) fn at(map: &'a Map<String, Value>, path: String) -> Self {
        Self { map, path, what: WHAT }
    }

    /// A copy, to be completed with defaults.
    pub(crate) fn owned(&self) -> Owned {
        Owned::new(self.map.clone(), self.path.clone())
    }

    /// An error about a field.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> ParseError {
        ParseError::Field {
            what: self.what,
            field: format!("{}{}", self.path, shorten(key)),
            problem: problem.into(),
        }
    }

    /// The names of the fields.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map.keys().map(String::as_str)
    }

    /// Whether the field is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The field's value; null is the same as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A whole number from 0 to the limit.
    pub(crate) fn number(&self, key: &str, limit: Limit) -> Result<Option<u64>, ParseError> {
        self.get(key).map(|value| self.whole(key, value, limit)).transpose()
    }

    /// The first of several spellings of one number that is there.
    pub(crate) fn any(&self, keys: &[&str], limit: Limit) -> Result<Option<u64>, ParseError> {
        match keys.iter().find(|key| self.has(key)) {
            Some(key) => self.number(key, limit),
            None => Ok(None),
        }
    }

    /// The same, which must be there and at least 1.
    pub(crate) fn need(&self, keys: &[&str], limit: Limit) -> Result<u64, ParseError> {
        match (self.any(keys, limit)?, keys.iter().find(|key| self.has(key)).or(keys.first())) {
            (Some(0), Some(key)) => {
                Err(self.error(key, format!("is 0; write a whole number from 1 to {}", limit.most)))
            }
            (None, Some(key)) => {
                Err(self.error(key, format!("is missing; write a whole number from 1 to {}", limit.most)))
            }
            (value, _) => Ok(value.unwrap_or(1)),
        }
    }

    /// The number, or `default` where it is absent.
    pub(crate) fn or(&self, key: &str, limit: Limit, default: u64) -> Result<u64, ParseError> {
        Ok(self.number(key, limit)?.unwrap_or(default))
    }

    /// The number, which must be at least 1 where it is there.
    pub(crate) fn positive_or(&self, key: &str, limit: Limit, default: u64) -> Result<u64, ParseError> {
        if self.has(key) { self.need(&[key], limit) } else { Ok(default) }
    }

    /// So many times the number, which may be a fraction such as 3.7362; rounded down.
    pub(crate) fn times(&self, key: &str, factor: u64) -> Result<Option<u64>, ParseError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let problem =
            || self.error(key, format!("is {}; write a number from 0 to {}", quoted(value), FACTOR.most));
        let Value::Number(number) = value else { return Err(problem()) };
        // From its digits, so that no float is needed.
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = fraction.get(..6).unwrap_or(fraction);
        let scale = 10_u64.pow(u32::try_from(digits.len()).unwrap_or(0));
        let whole: u64 = whole.parse().map_err(|_| problem())?;
        let part: u64 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| problem())? };
        if whole > FACTOR.most {
            return Err(problem());
        }
        let numerator = u128::from(whole * scale + part) * u128::from(factor);
        Ok(u64::try_from(numerator / u128::from(scale)).ok())
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ParseError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => {
                Err(self.error(key, format!("is {}; write true or false without quotes", quoted(other))))
            }
        }
    }

    /// True or false, or `default` where it is absent.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool, ParseError> {
        Ok(self.flag(key)?.unwrap_or(default))
    }

    /// A string.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, ParseError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(self.error(key, format!("is {}; write a string", quoted(other)))),
        }
    }

    /// A nested object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, ParseError> {
        let nested = self.map(key)?;
        Ok(nested.map(|map| Self { map, path: format!("{}{key}.", self.path), what: self.what }))
    }

    /// A nested object as it stands.
    pub(crate) fn map(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ParseError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.error(key, format!("is {}; write an object", quoted(other)))),
        }
    }

    /// A nested object that must be there.
    pub(crate) fn need_object(&self, key: &str) -> Result<Self, ParseError> {
        self.object(key)?.ok_or_else(|| self.error(key, "is missing; write an object"))
    }

    /// A list.
    pub(crate) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ParseError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) if items.len() > LONGEST_LIST => {
                Err(self.error(key, format!("has {} entries; the most is {LONGEST_LIST}", items.len())))
            }
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.error(key, format!("is {}; write a list", quoted(other)))),
        }
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ParseError> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        let read = |item: &'a Value| {
            item.as_str().ok_or_else(|| {
                self.error(key, format!("has the entry {}; write a list of strings", quoted(item)))
            })
        };
        items.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// A list of whole numbers.
    pub(crate) fn numbers(&self, key: &str, limit: Limit) -> Result<Option<Vec<u64>>, ParseError> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        items.iter().map(|item| self.whole(key, item, limit)).collect::<Result<_, _>>().map(Some)
    }

    /// A list of objects.
    pub(crate) fn objects(&self, key: &str) -> Result<Option<Vec<Self>>, ParseError> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        let read = |(index, item): (usize, &'a Value)| match item {
            Value::Object(map) => {
                Ok(Self { map, path: format!("{}{key}[{index}].", self.path), what: self.what })
            }
            other => {
                Err(self.error(key, format!("has the entry {}; write a list of objects", quoted(other))))
            }
        };
        items.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn whole(&self, key: &str, value: &Value, limit: Limit) -> Result<u64, ParseError> {
        let right = || format!("write a whole number from 0 to {}, without quotes", limit.most);
        let Value::Number(number) = value else {
            return Err(self.error(key, format!("is {}; {}", quoted(value), right())));
        };
        // A number such as 4096.0 is whole, and files written from floats have it.
        let text = number.to_string();
        let whole: u64 = text
            .strip_suffix(".0")
            .unwrap_or(&text)
            .parse()
            .map_err(|_| self.error(key, format!("is {}; {}", quoted(value), right())))?;
        if whole > limit.most {
            return Err(
                self.error(key, format!("is {whole}; no model has more than {} {}", limit.most, limit.of))
            );
        }
        Ok(whole)
    }
}

/// A value as a message shows it.
fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", shorten(text)),
        Value::Number(number) => shorten(&number.to_string()),
        Value::Bool(value) => value.to_string(),
        other => kind(other).to_owned(),
    }
}

/// An object that a config's own fields are completed in.
pub(crate) struct Owned {
    map: Map<String, Value>,
    path: String,
}

impl Owned {
    pub(crate) fn new(map: Map<String, Value>, path: String) -> Self {
        Self { map, path }
    }

    pub(crate) fn insert(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    pub(crate) fn insert_missing(&mut self, key: &str, value: Value) {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.map.insert(key.to_owned(), value);
        }
    }

    /// The same for a field that is not there at all, as opposed to null; says whether it was not.
    pub(crate) fn insert_absent(&mut self, key: &str, value: &Value) -> bool {
        let absent = !self.map.contains_key(key);
        if absent {
            self.map.insert(key.to_owned(), value.clone());
        }
        absent
    }

    /// A whole number, if it is one.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.map.get(key).and_then(Value::as_u64)
    }

    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields::at(&self.map, self.path.clone())
    }
}
