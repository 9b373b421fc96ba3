//! The output formats.

use clap::ValueEnum;
use serde::Serialize;

use crate::render::{json, table, yaml};

use super::printer::Printer;

/// The formats of every command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For people, with more columns
    Wide,
    /// For programs
    Json,
    /// For programs
    Yaml,
}

impl Format {
    /// How tables look in this format.
    pub(super) fn style(self, printer: Printer) -> table::Style {
        table::Style { wide: self == Self::Wide, colour: printer.colours_data(), width: printer.width() }
    }

    /// The document, if the format is for programs.
    pub(super) fn document<T: Serialize>(self, document: &T) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Table | Self::Wide => None,
            Self::Json => Some(json::print(document)?),
            Self::Yaml => Some(yaml::print(document)?),
        })
    }
}
