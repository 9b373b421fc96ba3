//! Where the control plane's programs are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The programs, in one directory.
pub(crate) struct Tools(PathBuf);

impl Tools {
    /// Builds what is not there yet; that takes minutes, and says so on standard error.
    pub(crate) fn install() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controlplane/install.sh");
        let output = Command::new("bash")
            .arg(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", script.display()))?;
        if !output.status.success() {
            bail!("{} failed: {}", script.display(), output.status);
        }
        Ok(Self(PathBuf::from(String::from_utf8(output.stdout)?.trim_end())))
    }

    /// The path of a program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory of kwok's stages.
    pub(crate) fn stages(&self) -> PathBuf {
        self.0.join("stages")
    }
}
