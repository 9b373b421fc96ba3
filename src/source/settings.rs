//! How sources are read: what the operator decides.

use std::fmt;
use std::time::Duration;

/// The public Hub.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Where the public Hub redirects to for the content of files: itself, and hosts below these names.
const FILE_HOSTS: &[&str] = &["huggingface.co", "hf.co"];

/// What the operator decides of how models are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Hub or a mirror of it, without a path. Only it is sent tokens. It may be inside the cluster.
    pub endpoint: String,
    /// Hosts that may be redirected to, and that may be in a private network, besides the endpoint; names below them too.
    pub allowed_hosts: Vec<String>,
    /// Never use the network.
    pub offline: bool,
    /// Whether `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are heeded.
    pub proxy_from_environment: bool,
    /// The longest for name resolution, and for a connection.
    pub connect_timeout: Duration,
    /// The longest from the request to the answer's headers.
    pub response_timeout: Duration,
    /// The longest for one answer's body.
    pub body_timeout: Duration,
    /// The longest for one model, with all retries.
    pub total_timeout: Duration,
    /// How often a request is tried.
    pub attempts: u32,
    /// The wait after the first failure; it doubles.
    pub backoff: Duration,
    /// The longest wait between two attempts; a server that asks for more is given up on.
    pub longest_wait: Duration,
    /// The bytes that the shapes of models may take in memory, in all.
    pub store_bytes: u64,
    /// The bytes of them that the models of one namespace may take.
    pub store_share: u64,
    /// How long a branch or tag is taken to stand for the same commit.
    pub fresh_for: Duration,
    /// How long a failure is remembered.
    pub failures_for: Duration,
    /// The least that a server must send on average, in bytes a second: one that sends less holds up others.
    pub least_throughput: u64,
    /// How long a server may send less than that before it is given up on.
    pub slow_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            allowed_hosts: Vec::new(),
            offline: false,
            proxy_from_environment: true,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_mins(1),
            total_timeout: Duration::from_mins(3),
            attempts: 4,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            store_bytes: 64 << 20,
            store_share: 16 << 20,
            fresh_for: Duration::from_mins(10),
            failures_for: Duration::from_secs(30),
            least_throughput: 16 << 10,
            slow_for: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Whether the operator named the host, or one that it is below.
    pub(super) fn is_allowed(&self, host: &str) -> bool {
        self.allowed_hosts.iter().any(|allowed| is_or_below(host, allowed))
    }

    /// Whether files may be redirected to the host.
    pub(super) fn may_serve_files(&self, host: &str) -> bool {
        self.is_allowed(host) || FILE_HOSTS.iter().any(|allowed| is_or_below(host, allowed))
    }
}

fn is_or_below(host: &str, name: &str) -> bool {
    let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
    host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.') && !name.is_empty())
}

/// An access token. It is never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// A token, without the white space that Secrets often end in; `None` if nothing is left, or it could not be in a header.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_never_printed() {
        let token = Token::new("hf_secret\n").expect("a token");
        assert_eq!(token.reveal(), "hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        for text in ["", " \n", "a b", "a\r\nHost: x", "ä"] {
            assert_eq!(Token::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn hosts_are_matched_whole_or_below() {
        let settings = Settings { allowed_hosts: vec!["Mirror.example".to_owned()], ..Settings::default() };
        for (host, allowed, serves) in [
            ("mirror.example", true, true),
            ("cdn.mirror.example", true, true),
            ("evilmirror.example", false, false),
            ("huggingface.co", false, true),
            ("cas-bridge.xethub.hf.co", false, true),
            ("evilhf.co", false, false),
            ("hf.co.evil.example", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (settings.is_allowed(host), settings.may_serve_files(host)),
                (allowed, serves),
                "{host}"
            );
        }
    }
}
