//! What specs may ask for, as whoever runs the cluster says: the same flags tell the controller, and `loadline plan` what the
//! controller will say.

use std::collections::BTreeSet;

use clap::Args;

use super::hub::HubArguments;
use super::values::one_of;
use crate::plan::{Part, Permits};
use crate::source::Settings;

/// What specs may ask for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What specs may ask for (as the controller of the cluster is told)")]
pub(super) struct PermitArguments {
    /// What of a spec is turned off; several with commas. Without the chart's policy, which judges the author of a spec, all but gguf-url should be
    #[arg(long, value_name = "PART", env = "LOADLINE_REFUSE", value_delimiter = ',', value_parser = one_of::<Part>())]
    refuse: Vec<Part>,
    /// A registry, or a path in one, that images may come from besides the engine's own, such as registry.example/models; several with commas. Default: any
    #[arg(long, value_name = "REGISTRY", env = "LOADLINE_ALLOWED_REGISTRIES", value_delimiter = ',', value_parser = name)]
    allowed_registries: Vec<String>,
    /// A host that model.gguf.url may name besides the Hub, in a private network too, and any below it; several with commas
    #[arg(long, value_name = "HOST", env = "LOADLINE_ALLOWED_HOSTS", value_delimiter = ',', value_parser = host)]
    allowed_hosts: Vec<String>,
    /// A scheduler that a template may name; it has to heed node affinity. Several with commas
    #[arg(long, value_name = "NAME", env = "LOADLINE_ALLOWED_SCHEDULERS", value_delimiter = ',', value_parser = name)]
    allowed_schedulers: Vec<String>,
    /// A priority class that a template may name; several with commas. Default: any that is not the system's
    #[arg(long, value_name = "NAME", env = "LOADLINE_ALLOWED_PRIORITY_CLASSES", value_delimiter = ',', value_parser = name)]
    allowed_priority_classes: Vec<String>,
    /// Templates may ask for the node's network, processes and shared memory
    #[arg(long, env = "LOADLINE_ALLOW_HOST_NAMESPACES")]
    allow_host_namespaces: bool,
}

impl PermitArguments {
    /// What specs may ask for. Of addresses, those of the endpoint too: the public Hub, or its mirror.
    pub(super) fn permits(&self, hub: &HubArguments) -> Permits {
        let own = Permits::default();
        let hosts = own.hosts.into_iter().chain(hub.host()).chain(self.allowed_hosts.iter().cloned());
        let mut seen = BTreeSet::new();
        let hosts: Vec<String> = hosts.filter(|host| seen.insert(host.clone())).collect();
        Permits {
            refused: self.refuse.clone(),
            registries: self.allowed_registries.clone(),
            hosts,
            schedulers: self.allowed_schedulers.clone(),
            priority_classes: self.allowed_priority_classes.clone(),
            host_namespaces: self.allow_host_namespaces,
        }
    }

    /// The settings of sources, with the hosts that may be read from besides the Hub.
    pub(super) fn settings(&self, settings: Settings) -> Settings {
        Settings { allowed_hosts: self.allowed_hosts.clone(), ..settings }
    }
}

/// A name without blanks.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it is empty or has blanks in it; write one name, several with commas".to_owned());
    }
    Ok(text.to_owned())
}

/// A host's name: what an address is compared with.
fn host(text: &str) -> Result<String, String> {
    let is_part =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if text.split('.').all(is_part) {
        return Ok(text.to_owned());
    }
    Err("it is not the name of a host; write one such as models.example.com, without a scheme, port or path"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::{host, name};

    #[test]
    fn hosts_and_names_are_plain() {
        assert_eq!(host("models.example.com"), Ok("models.example.com".to_owned()));
        for text in ["https://models.example", "a/b", "a:80", "", ".", "a..b", ".example", "*"] {
            assert!(host(text).unwrap_err().contains("such as"), "{text}");
        }
        assert_eq!(name("volcano"), Ok("volcano".to_owned()));
        assert!(name("").is_err() && name("a b").is_err());
    }
}
