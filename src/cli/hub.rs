//! Reading models from the Hugging Face Hub, as its own tools are told to.

use clap::Args;

use crate::source::{DEFAULT_ENDPOINT, Settings, Sources, Token};

/// How the Hub is read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Hugging Face Hub (HF_TOKEN holds the access token)")]
pub(super) struct HubArguments {
    /// Never use the network: models that would need it are unknown. HF_HUB_OFFLINE=1 does the same
    #[arg(long)]
    pub(super) offline: bool,
    /// The Hub, or a mirror of it
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", hide_env_values = true, default_value = DEFAULT_ENDPOINT)]
    hub_endpoint: String,
}

impl HubArguments {
    /// The sources, for one command: someone is waiting for the answer.
    pub(super) fn sources(&self) -> anyhow::Result<Sources> {
        Self::sources_of(self.settings())
    }

    /// The same, with settings of one's own.
    pub(super) fn sources_of(settings: Settings) -> anyhow::Result<Sources> {
        // There is one user, and nobody to share with.
        let settings = Settings { attempts: 2, store_bytes: 512 << 20, store_share: u64::MAX, ..settings };
        Ok(Sources::new(settings)?)
    }

    /// The host of the Hub or its mirror.
    pub(super) fn host(&self) -> Option<String> {
        let rest = self.hub_endpoint.split("://").nth(1)?;
        let authority = rest.split(['/', '?', '#']).next()?;
        Some(authority.split(':').next().unwrap_or(authority).to_owned()).filter(|host| !host.is_empty())
    }

    /// The settings of the page: someone is waiting. In public nobody may take all the memory.
    pub(super) fn page_settings(&self, public: bool) -> Settings {
        let store_bytes = if public { 128 << 20 } else { 512 << 20 };
        Settings { attempts: 2, store_bytes, store_share: u64::MAX, ..self.settings() }
    }

    /// The settings, for a process that has the time.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            endpoint: self.hub_endpoint.clone(),
            offline: self.offline || is_set("HF_HUB_OFFLINE"),
            ..Settings::default()
        }
    }

    /// The access token, which is never a flag: other users of a machine see those.
    pub(super) fn token() -> Option<Token> {
        std::env::var("HF_TOKEN").ok().and_then(|token| Token::new(&token))
    }
}

/// Whether a variable is set as the Hub's own tools read it.
fn is_set(name: &str) -> bool {
    std::env::var(name)
        .is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}
