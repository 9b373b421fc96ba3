//! `loadline crds`: the custom resource definitions, for `kubectl apply --server-side -f -`.

use super::failure::ExitStatus;
use super::printer::Printer;
use crate::api::crds;

pub(super) fn run(printer: Printer) -> anyhow::Result<ExitStatus> {
    let all: Result<Vec<String>, _> =
        crds::all().iter().map(|(_, definition)| crds::yaml(definition)).collect();
    printer.data(&all?.join("---\n"))?;
    Ok(ExitStatus::Fine)
}
