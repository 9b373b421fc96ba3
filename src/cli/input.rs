//! Reading files and standard input, up to a size that no real one has.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;

use super::failure::Failure;

/// The most that is read of one file: a snapshot of 5,000 nodes and their pods has some tens of MiB.
const LARGEST: u64 = 512 << 20;

/// The bytes of a file, or of standard input for `-`.
pub(super) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Failure::error(format!("{name} is a directory where a file is wanted")).into());
        }
        file.take(LARGEST + 1).read_to_end(&mut bytes)
    };
    read.with_context(|| format!("cannot read {name}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(Failure::error(format!(
            "{name} is larger than {} MiB, which no such file is",
            LARGEST >> 20
        ))
        .into());
    }
    Ok(bytes)
}

/// The text of a file, or of standard input for `-`.
pub(super) fn text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(bytes(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::error(format!("{} is not UTF-8 text: byte {at} is not", path.display()))
            .hint("save it as UTF-8; PowerShell's `>` writes UTF-16 unless told otherwise")
            .into()
    })
}

/// How a path is named in messages.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}
