//! How flags' values are read: each refusal names the value and what would be right.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};

use crate::api::limits::{MOST_RANKS, MOST_SEQUENCES, MOST_TOKENS};
use crate::estimate::{AttentionKernel, Checkpointing, Loss, Method, Offload, Optimizer, Sharding};
use crate::plan::Part;
use crate::precision::{CachePrecision, Engine, Precision, UnknownName};
use crate::units::shorten;

/// Tokens per sequence.
pub(super) fn tokens(text: &str) -> Result<u64, String> {
    whole_number(text, MOST_TOKENS, "number of tokens", "8192")
}

/// Sequences held at once, or a rank.
pub(super) fn sequences(text: &str) -> Result<u64, String> {
    whole_number(text, MOST_SEQUENCES, "number", "8")
}

/// GPUs, or ranks.
pub(super) fn gpus(text: &str) -> Result<u64, String> {
    whole_number(text, MOST_RANKS, "number of GPUs", "2")
}

fn whole_number(text: &str, most: u64, what: &str, example: &str) -> Result<u64, String> {
    text.parse::<u64>()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("\"{}\" is not a {what} from 1 to {most}, such as {example}", shorten(text)))
}

/// The names of a closed list, for help and completion too.
pub(super) trait Named: FromStr<Err = UnknownName> + Copy + Send + Sync + 'static {
    /// Every name.
    const NAMES: &'static [Self];

    /// Its spelling.
    fn name(self) -> &'static str;
}

macro_rules! named {
    ($($type:ty)+) => {
        $(impl Named for $type {
            const NAMES: &'static [Self] = Self::ALL;

            fn name(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}

named! { Part Precision CachePrecision Engine Method Optimizer Checkpointing AttentionKernel Sharding Offload Loss }

/// A parser for one name of a closed list. The names of the API are listed, and what else people call them is understood.
pub(super) fn one_of<T: Named>() -> impl TypedValueParser<Value = T> {
    OneOf::<T>(PhantomData)
}

struct OneOf<T>(PhantomData<T>);

// Derived, it would ask the same of the names.
impl<T> Clone for OneOf<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T: Named> OneOf<T> {
    fn listed() -> impl Iterator<Item = PossibleValue> {
        T::NAMES.iter().map(|value| PossibleValue::new(value.name()))
    }
}

impl<T: Named> TypedValueParser for OneOf<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, flag: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        if let Some(named) = value.to_str().and_then(|text| text.parse().ok()) {
            return Ok(named);
        }
        // What it is not is said as for any other list.
        let listed = PossibleValuesParser::new(Self::listed()).try_map(|name| name.parse::<T>());
        listed.parse_ref(command, flag, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Self::listed()))
    }
}
