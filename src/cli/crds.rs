//! `loadline crds`: the custom resource definition, for `kubectl apply --server-side -f -`.

use super::failure::ExitStatus;
use super::printer::Printer;

pub(super) fn run(printer: Printer) -> anyhow::Result<ExitStatus> {
    printer.data(&crate::api::crds::yaml()?)?;
    Ok(ExitStatus::Fine)
}
