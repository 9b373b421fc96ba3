//! Node selector terms, as node affinity states them and as kube-scheduler judges them.
//!
//! The semantics are those of Kubernetes 1.34: k8s.io/component-helpers `scheduling/corev1/nodeaffinity` (terms are
//! alternatives; a term without an expression matches nothing; fields are not looked at where a node has no name) over
//! k8s.io/apimachinery `pkg/labels` (`Gt` and `Lt` read both sides as 64-bit integers and need the label; `NotIn` and
//! `DoesNotExist` hold where it is absent). What `pkg/apis/core/validation` refuses of a term is refused here too, and an
//! operand of `Gt` or `Lt` that is no integer, which the API server takes and the scheduler then never matches.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::units::shorten;

/// The one field that `matchFields` knows.
pub(crate) const NAME_FIELD: &str = "metadata.name";

/// What one node selector term demands: all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// Of the node's labels (`matchExpressions`).
    pub expressions: Vec<Expression>,
    /// Of the node's name (`matchFields` with `metadata.name`). Loadline writes none: autoscalers cannot reason with them.
    pub names: Vec<NameExpression>,
}

/// What is demanded of one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expression {
    /// The label's key.
    pub key: String,
    /// How its value is judged.
    pub operator: Operator,
    /// What with: any number for `In` and `NotIn`, none for `Exists` and `DoesNotExist`, one integer for `Gt` and `Lt`.
    pub values: Vec<String>,
}

/// How a label's value is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The label is there and its value is one of the values.
    In,
    /// The label is absent, or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label's value is an integer, and larger.
    Gt,
    /// The label's value is an integer, and smaller.
    Lt,
}

/// What is demanded of a node's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameExpression {
    /// Whether the name must be this one; else it must be any other.
    pub is: bool,
    /// The name.
    pub name: String,
}

/// Why a value is not a node selector term that could be bound by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", prefix(.path))]
pub struct TermError {
    /// The field within the term, such as `matchExpressions[0].operator`; empty for the term itself.
    pub path: String,
    /// What is wrong with it.
    pub fault: TermFault,
}

/// What is wrong with a node selector term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermFault {
    /// It is of another kind than it must be.
    NotA(&'static str),
    /// A field that terms do not have.
    UnknownField,
    /// No operator that there is, or none that fields may have.
    Operator(String),
    /// Not the key of a label.
    LabelKey(String),
    /// A field other than `metadata.name`.
    FieldKey(String),
    /// So many values where the operator takes another number.
    ValueCount(usize),
    /// Not the value that a label can have.
    LabelValue(String),
    /// Not an integer, where the operator compares integers.
    NotAnInteger(String),
}

impl TermFault {
    /// What would be right.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotA(_) | Self::UnknownField => {
                "write a term as {matchExpressions: [{key, operator, values}]}"
            }
            Self::Operator(_) => {
                "write In, NotIn, Exists, DoesNotExist, Gt or Lt; of metadata.name In or NotIn"
            }
            Self::LabelKey(_) => "write a label's key, such as topology.kubernetes.io/zone",
            Self::FieldKey(_) => "matchFields knows metadata.name alone; labels go into matchExpressions",
            Self::ValueCount(_) => {
                "write at least one value for In and NotIn (of metadata.name exactly one), one for Gt and Lt, and none for Exists and DoesNotExist"
            }
            Self::LabelValue(_) => "write at most 63 letters, digits, '-', '_' and '.'",
            Self::NotAnInteger(_) => "write a whole number, such as \"23033\"",
        }
    }
}

impl fmt::Display for TermFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotA(kind) => write!(f, "not {kind}"),
            Self::UnknownField => f.write_str("not a field of a node selector term"),
            Self::Operator(text) => write!(f, "\"{}\" is not an operator that it may have", shorten(text)),
            Self::LabelKey(text) => write!(f, "\"{}\" is not the key of a label", shorten(text)),
            Self::FieldKey(text) => {
                write!(f, "\"{}\" is not a field that nodes are selected by", shorten(text))
            }
            Self::ValueCount(0) => f.write_str("no values, which the operator needs"),
            Self::ValueCount(count) => write!(f, "{count} values, which the operator does not take"),
            Self::LabelValue(text) => write!(f, "\"{}\" is not the value of a label", shorten(text)),
            Self::NotAnInteger(text) => write!(f, "\"{}\" is not a whole number", shorten(text)),
        }
    }
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

impl Term {
    /// Whether a node matches. `name` may be empty for a node that has none yet, as in an autoscaler's template.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_empty = self.expressions.is_empty() && self.names.is_empty();
        !is_empty
            && self.expressions.iter().all(|expression| expression.matches(labels))
            && (name.is_empty() || self.names.iter().all(|wanted| (wanted.name == name) == wanted.is))
    }

    /// What it looks at: labels by their keys, and `metadata.name` where it names nodes.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let labels = self.expressions.iter().map(|expression| expression.key.as_str());
        labels.chain(self.names.first().map(|_| NAME_FIELD))
    }

    /// A term that matches where both do. What is empty matches nothing, and so does the whole then.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        if [self, other].iter().any(|term| term.expressions.is_empty() && term.names.is_empty()) {
            return None;
        }
        Some(Self {
            expressions: self.expressions.iter().chain(&other.expressions).cloned().collect(),
            names: self.names.iter().chain(&other.names).cloned().collect(),
        })
    }

    /// Reads a term as the API has it. One that is empty is read as such: it matches nothing.
    ///
    /// # Errors
    /// What the API server would refuse, and an operand that no node could ever be compared with.
    pub fn from_api(value: &Value) -> Result<Self, TermError> {
        let fields = value.as_object().ok_or_else(|| error("", TermFault::NotA("an object")))?;
        if let Some(unknown) =
            fields.keys().find(|field| !["matchExpressions", "matchFields"].contains(&field.as_str()))
        {
            return Err(error(&shorten(unknown), TermFault::UnknownField));
        }
        let expressions = requirements(fields, "matchExpressions")?
            .into_iter()
            .map(Requirement::of_a_label)
            .collect::<Result<_, _>>()?;
        let names = requirements(fields, "matchFields")?
            .into_iter()
            .map(Requirement::of_the_name)
            .collect::<Result<_, _>>()?;
        Ok(Self { expressions, names })
    }

    /// The term as the API has it.
    #[must_use]
    pub fn to_api(&self) -> Value {
        let mut term = Map::new();
        if !self.expressions.is_empty() {
            let expressions = self.expressions.iter().map(Expression::to_api).collect();
            term.insert("matchExpressions".to_owned(), Value::Array(expressions));
        }
        if !self.names.is_empty() {
            let names = self.names.iter().map(|wanted| {
                let operator = if wanted.is { "In" } else { "NotIn" };
                json!({"key": NAME_FIELD, "operator": operator, "values": [wanted.name]})
            });
            term.insert("matchFields".to_owned(), Value::Array(names.collect()));
        }
        Value::Object(term)
    }
}

impl FromIterator<Expression> for Term {
    fn from_iter<I: IntoIterator<Item = Expression>>(expressions: I) -> Self {
        Self { expressions: expressions.into_iter().collect(), names: Vec::new() }
    }
}

impl Expression {
    /// The label is there, with one of these values.
    #[must_use]
    pub fn is_in<V: Into<String>>(key: &str, values: impl IntoIterator<Item = V>) -> Self {
        Self::new(key, Operator::In, values)
    }

    /// The label is absent, or has none of these values.
    #[must_use]
    pub fn not_in<V: Into<String>>(key: &str, values: impl IntoIterator<Item = V>) -> Self {
        Self::new(key, Operator::NotIn, values)
    }

    /// The label is there, whatever it says.
    #[must_use]
    pub fn exists(key: &str) -> Self {
        Self::new(key, Operator::Exists, Vec::<String>::new())
    }

    /// The label is absent.
    #[must_use]
    pub fn absent(key: &str) -> Self {
        Self::new(key, Operator::DoesNotExist, Vec::<String>::new())
    }

    /// The label is an integer above this one: `Gt` is strict.
    #[must_use]
    pub fn above(key: &str, bound: u64) -> Self {
        Self::new(key, Operator::Gt, [operand(bound)])
    }

    /// The label is an integer below this one: `Lt` is strict.
    #[must_use]
    pub fn below(key: &str, bound: u64) -> Self {
        Self::new(key, Operator::Lt, [operand(bound)])
    }

    fn new<V: Into<String>>(key: &str, operator: Operator, values: impl IntoIterator<Item = V>) -> Self {
        Self { key: key.to_owned(), operator, values: values.into_iter().map(Into::into).collect() }
    }

    /// Whether a node with these labels is as demanded. One that is itself malformed holds nowhere.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let label = labels.get(&self.key);
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let [bound] = self.values.as_slice() else { return false };
            label
                .and_then(|label| integer(label))
                .zip(integer(bound))
                .is_some_and(|(label, bound)| holds(&label, &bound))
        };
        match self.operator {
            Operator::In => label.is_some_and(|label| self.values.contains(label)),
            Operator::NotIn => {
                !self.values.is_empty() && label.is_none_or(|label| !self.values.contains(label))
            }
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::Gt => compare(i64::gt),
            Operator::Lt => compare(i64::lt),
        }
    }

    /// The expression as the API has it.
    #[must_use]
    pub fn to_api(&self) -> Value {
        if self.values.is_empty() {
            return json!({"key": self.key, "operator": self.operator.name()});
        }
        json!({"key": self.key, "operator": self.operator.name(), "values": self.values})
    }
}

impl Operator {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::In, Self::NotIn, Self::Exists, Self::DoesNotExist, Self::Gt, Self::Lt];

    /// As the API spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
            Self::Gt => "Gt",
            Self::Lt => "Lt",
        }
    }
}

/// A number as kube-scheduler reads it: 64 bits, base ten, a sign before it.
pub(super) fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// An operand of `Gt` or `Lt`. One beyond 64 bits with a sign would make the term malformed; no label exceeds it either.
fn operand(bound: u64) -> String {
    i64::try_from(bound).unwrap_or(i64::MAX).to_string()
}

/// One element of `matchExpressions` or `matchFields`.
struct Requirement {
    path: String,
    key: String,
    operator: String,
    values: Vec<String>,
}

fn requirements(fields: &Map<String, Value>, list: &str) -> Result<Vec<Requirement>, TermError> {
    let elements = match fields.get(list) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => value.as_array().ok_or_else(|| error(list, TermFault::NotA("a list")))?,
    };
    elements
        .iter()
        .enumerate()
        .map(|(index, element)| requirement(format!("{list}[{index}]"), element))
        .collect()
}

fn requirement(path: String, element: &Value) -> Result<Requirement, TermError> {
    let fields = element.as_object().ok_or_else(|| error(&path, TermFault::NotA("an object")))?;
    if let Some(unknown) =
        fields.keys().find(|field| !["key", "operator", "values"].contains(&field.as_str()))
    {
        return Err(error(&format!("{path}.{}", shorten(unknown)), TermFault::UnknownField));
    }
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(error(&format!("{path}.{name}"), TermFault::NotA("a string"))),
    };
    let values = match fields.get("values") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let text = value.as_str().map(str::to_owned);
                text.ok_or_else(|| error(&format!("{path}.values[{index}]"), TermFault::NotA("a string")))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(error(&format!("{path}.values"), TermFault::NotA("a list"))),
    };
    Ok(Requirement { key: text("key")?, operator: text("operator")?, values, path })
}

impl Requirement {
    fn of_a_label(self) -> Result<Expression, TermError> {
        let operator = Operator::ALL.into_iter().find(|operator| operator.name() == self.operator);
        let operator =
            operator.ok_or_else(|| self.wrong("operator", TermFault::Operator(self.operator.clone())))?;
        if !is_label_key(&self.key) {
            return Err(self.wrong("key", TermFault::LabelKey(self.key.clone())));
        }
        let takes = match operator {
            Operator::In | Operator::NotIn => !self.values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => self.values.is_empty(),
            Operator::Gt | Operator::Lt => self.values.len() == 1,
        };
        if !takes {
            return Err(self.wrong("values", TermFault::ValueCount(self.values.len())));
        }
        let compares = matches!(operator, Operator::Gt | Operator::Lt);
        for (index, value) in self.values.iter().enumerate() {
            let fault = if compares && integer(value).is_none() {
                TermFault::NotAnInteger(value.clone())
            } else if compares || is_label_value(value) {
                continue;
            } else {
                TermFault::LabelValue(value.clone())
            };
            return Err(self.wrong(&format!("values[{index}]"), fault));
        }
        Ok(Expression { key: self.key, operator, values: self.values })
    }

    fn of_the_name(self) -> Result<NameExpression, TermError> {
        let is = match self.operator.as_str() {
            "In" => true,
            "NotIn" => false,
            other => return Err(self.wrong("operator", TermFault::Operator(other.to_owned()))),
        };
        if self.key != NAME_FIELD {
            return Err(self.wrong("key", TermFault::FieldKey(self.key.clone())));
        }
        let [name] = self.values.as_slice() else {
            return Err(self.wrong("values", TermFault::ValueCount(self.values.len())));
        };
        Ok(NameExpression { is, name: name.clone() })
    }

    fn wrong(&self, field: &str, fault: TermFault) -> TermError {
        error(&format!("{}.{field}", self.path), fault)
    }
}

fn error(path: &str, fault: TermFault) -> TermError {
    TermError { path: path.to_owned(), fault }
}

/// Whether a text is a label's key: a name of at most 63 characters, with an optional domain before it.
pub(crate) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => {
            !domain.is_empty() && domain.len() <= 253 && !name.is_empty() && is_label_value(name)
        }
        None => !key.is_empty() && is_label_value(key),
    }
}

/// Whether a text is a label's value: nothing, or at most 63 letters, digits, '-', '_' and '.', the first and the last a
/// letter or digit.
pub(crate) fn is_label_value(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.is_empty()
        || (text.len() <= 63
            && text.chars().all(inside)
            && ends(text.chars().next())
            && ends(text.chars().last()))
}

#[cfg(test)]
mod tests;
