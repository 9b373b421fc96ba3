//! The flags of the webhooks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::times::{duration, qualified};
use crate::admission::{Certificates, Options, Own};
use crate::api::v1alpha1::AdmissionMode;

/// The flags of the webhooks, of which there are none without an address.
// Each is a flag of this name.
#[allow(clippy::struct_field_names)]
#[derive(Args, Clone, Debug)]
pub(super) struct AdmissionArguments {
    /// Where the webhooks are served, over TLS; without it there are none
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "LOADLINE_ADMISSION_ADDRESS",
        requires = "certificate source"
    )]
    admission_address: Option<SocketAddr>,
    /// What is done where nothing fits now, and neither the object nor its namespace's label loadline.dev/admission says: deny, warn or ignore
    #[arg(long, value_name = "MODE", env = "LOADLINE_ADMISSION_MODE", default_value = "warn", value_parser = mode)]
    admission_mode: AdmissionMode,
    /// Give pods that carry the label loadline.dev/model-deployment what their object needs, by a webhook: where the API server does not do it by a policy
    #[arg(long, env = "LOADLINE_ADMISSION_PODS")]
    admission_pods: bool,
    /// A directory with the webhooks' tls.crt and tls.key, re-read when they change
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "LOADLINE_ADMISSION_CERTIFICATES",
        group = "certificate source"
    )]
    admission_certificates: Option<PathBuf>,
    /// The Secret, as NAMESPACE/NAME, in which a certificate for the webhooks is kept: made, and made anew in time
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        env = "LOADLINE_ADMISSION_SECRET",
        value_parser = qualified,
        group = "certificate source",
        requires = "admission_name"
    )]
    admission_secret: Option<(String, String)>,
    /// A host name or address by which the API server calls the webhooks, for the certificate; may be repeated
    #[arg(long, value_name = "NAME", env = "LOADLINE_ADMISSION_NAMES", value_delimiter = ',')]
    admission_name: Vec<String>,
    /// A webhook configuration whose caBundle is kept with the certificate; may be repeated
    #[arg(long, value_name = "NAME", env = "LOADLINE_ADMISSION_CONFIGURATIONS", value_delimiter = ',')]
    admission_configuration: Vec<String>,
    /// How long a certificate is valid: it is made anew at two thirds of that
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = long)]
    admission_certificate_lifetime: Duration,
    /// How long the webhooks answer still after the process was told to stop
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    admission_drain: Duration,
}

impl AdmissionArguments {
    /// How the webhooks are served, if they are.
    pub(super) fn options(self) -> Option<Options> {
        let certificates = match (self.admission_certificates, self.admission_secret) {
            (Some(directory), _) => Certificates::Directory(directory),
            (None, Some((namespace, secret))) => Certificates::Own(Own {
                namespace,
                secret,
                names: self.admission_name,
                configurations: self.admission_configuration,
                lifetime: self.admission_certificate_lifetime,
            }),
            (None, None) => return None,
        };
        let (mode, pods, drain) = (self.admission_mode, self.admission_pods, self.admission_drain);
        Some(Options { address: self.admission_address?, mode, pods, certificates, drain })
    }
}

/// deny, warn or ignore.
fn mode(text: &str) -> Result<AdmissionMode, String> {
    crate::cluster::namespaces::mode(text)
        .ok_or_else(|| format!("\"{}\" is none of deny, warn and ignore", crate::units::shorten(text)))
}

/// Hours, which are many.
fn long(text: &str) -> Result<Duration, String> {
    const LONGEST: u64 = 10 * 365 * 24;
    let hours = text.strip_suffix('h').and_then(|hours| hours.parse::<u64>().ok());
    match hours {
        Some(hours @ 1..=LONGEST) => Ok(Duration::from_secs(hours * 3600)),
        Some(hours) => Err(format!("{hours}h is not from 1h to {LONGEST}h")),
        None => duration(text),
    }
}
