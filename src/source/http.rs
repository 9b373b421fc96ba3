//! Reading parts of files over HTTP: bounded, retried, and only from where it is allowed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{Uri, header};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;

use super::address::{literal, refusal};
use super::error::SourceError;
use super::exchange::{Answer, Attempt, Found, Request};
use super::guard::{Guard, RefusedAddress};
use super::response;
use super::settings::Settings;
use crate::units::shorten;

/// The most redirects that are followed for one request.
const MAX_REDIRECTS: u32 = 5;

/// A client.
pub(super) struct Client {
    agent: ureq::Agent,
    settings: Arc<Settings>,
    endpoint: Uri,
}

impl Client {
    /// A client for these settings.
    ///
    /// # Errors
    /// If the endpoint is not an address.
    pub(super) fn new(settings: Arc<Settings>) -> Result<Self, SourceError> {
        let invalid = || SourceError::Invalid {
            field: "endpoint",
            problem: format!(
                "\"{}\" is not an address; write one such as https://huggingface.co",
                shorten(&settings.endpoint)
            ),
        };
        let endpoint: Uri = settings.endpoint.parse().map_err(|_| invalid())?;
        if endpoint.host().is_none_or(str::is_empty)
            || !matches!(endpoint.scheme_str(), Some("https" | "http"))
        {
            return Err(invalid());
        }
        let proxy = if settings.proxy_from_environment { ureq::Proxy::try_from_env() } else { None };
        let guard = Guard {
            settings: Arc::clone(&settings),
            endpoint: endpoint.clone(),
            proxy: proxy.as_ref().map(|proxy| proxy.host().to_owned()),
            inner: DefaultResolver::default(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .tls_config(tls)
            .user_agent(concat!("loadline/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_recv_response(Some(settings.response_timeout))
            .timeout_recv_body(Some(settings.body_timeout))
            .build();
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), guard);
        Ok(Self { agent, settings, endpoint })
    }

    /// Performs a request, with redirects and retries.
    ///
    /// # Errors
    /// See [`SourceError`]; a 404 is an answer.
    pub(super) fn get(&self, request: &Request<'_>) -> Result<Answer, SourceError> {
        let mut failures = 0_u32;
        loop {
            if Instant::now() >= request.deadline {
                let longest = self.settings.total_timeout.as_secs();
                return Err(self.network(request, format!("reading the model takes longer than {longest} s")));
            }
            let (error, wait) = match self.follow(request) {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Failed(error) => return Err(error),
                Attempt::Redirect { location, .. } => {
                    return Err(self.network(
                        request,
                        format!("more than {MAX_REDIRECTS} redirects, the last to {}", shorten(&location)),
                    ));
                }
                Attempt::Again(error, wait) => (error, wait),
            };
            failures += 1;
            if failures >= self.settings.attempts.max(1)
                || wait.is_some_and(|wait| wait > self.settings.longest_wait)
            {
                return Err(error);
            }
            let wait = wait.unwrap_or_else(|| self.backoff(failures));
            if Instant::now().checked_add(wait).is_none_or(|again| again >= request.deadline) {
                return Err(error);
            }
            tracing::debug!(of = request.of, failures, ?wait, %error, "trying again");
            std::thread::sleep(wait);
        }
    }

    /// Twice as long after each failure, with a jitter of half, so that many controllers do not come back at once.
    fn backoff(&self, failures: u32) -> Duration {
        let most = self.settings.longest_wait;
        let wait =
            self.settings.backoff.saturating_mul(1_u32 << failures.saturating_sub(1).min(10)).min(most);
        let half = wait / 2;
        let random = RandomState::new().build_hasher().finish();
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(random % micros.max(1))
    }

    fn follow(&self, request: &Request<'_>) -> Attempt {
        let mut url = request.url.clone();
        let mut first_commit = None;
        for _ in 0..=MAX_REDIRECTS {
            match self.attempt(request, &url) {
                Attempt::Redirect { location, commit } => {
                    first_commit = first_commit.or(commit);
                    match self.target(request, &url, &location) {
                        Ok(next) => url = next,
                        Err(error) => return Attempt::Failed(error),
                    }
                }
                Attempt::Done(Answer::Found(found)) => {
                    let commit = first_commit.or(found.commit);
                    return Attempt::Done(Answer::Found(Found { commit, ..found }));
                }
                attempt => return attempt,
            }
        }
        Attempt::Redirect { location: url, commit: None }
    }

    /// Where a redirect leads, if it may be followed: to the same host, or to one of the hosts that files are served from;
    /// never from https to http.
    fn target(&self, request: &Request<'_>, from: &str, location: &str) -> Result<String, SourceError> {
        let refused = |host: &str, problem: &str| SourceError::Refused {
            of: request.of.to_owned(),
            host: shorten(host),
            problem: problem.to_owned(),
        };
        let from: Uri = from.parse().map_err(|_| refused(from, "it is not an address"))?;
        let authority = from.authority().map_or("", |authority| authority.as_str());
        let scheme = from.scheme_str().unwrap_or("https");
        let absolute = if location.starts_with('/') && !location.starts_with("//") {
            format!("{scheme}://{authority}{location}")
        } else {
            location.to_owned()
        };
        let to: Uri =
            absolute.parse().map_err(|_| refused(location, "the redirect's target is not an address"))?;
        let (Some(host), Some(to_scheme @ ("https" | "http"))) = (to.host(), to.scheme_str()) else {
            return Err(refused(location, "the redirect's target is not an https address"));
        };
        if scheme == "https" && to_scheme == "http" {
            return Err(refused(host, "the redirect leads from https to http"));
        }
        let same_host = from.host().is_some_and(|from| from.eq_ignore_ascii_case(host));
        if !same_host && self.endpoint_host() != Some(host) && !self.settings.may_serve_files(host) {
            return Err(refused(host, "a redirect leads there, and it is not one of the allowed hosts"));
        }
        Ok(absolute)
    }

    fn endpoint_host(&self) -> Option<&str> {
        self.endpoint.host()
    }

    fn attempt(&self, request: &Request<'_>, url: &str) -> Attempt {
        let Ok(uri) = url.parse::<Uri>() else {
            return Attempt::Failed(self.network(request, "the address is not one".to_owned()));
        };
        let host = uri.host().unwrap_or_default().to_owned();
        // The resolver is not asked for an address that is written out, nor when there is a proxy.
        let trust = self.settings.trust(&uri, &self.endpoint);
        if let Some(problem) = literal(&host).and_then(|address| refusal(address, trust)) {
            return Attempt::Failed(SourceError::Refused {
                of: request.of.to_owned(),
                host,
                problem: problem.to_owned(),
            });
        }
        let mut builder =
            self.agent.get(url).config().timeout_recv_body(Some(self.body_timeout(request))).build();
        if let Some((from, to)) = request.range {
            builder = builder.header(header::RANGE, format!("bytes={from}-{}", to.saturating_sub(1)));
        }
        // The token is for the endpoint: neither a redirect's target nor another port of the same host sees it.
        let origin =
            |uri: &Uri| (uri.scheme_str().map(str::to_owned), uri.authority().map(ToString::to_string));
        if let Some(token) = request.token.filter(|_| origin(&uri) == origin(&self.endpoint)) {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        match builder.call() {
            Ok(response) => response::read(request, &host, response, &self.settings),
            Err(error) => Self::failure(request, &host, &error),
        }
    }

    /// The longest for one body: a part of a file that is small is there soon, or the server has stopped to send.
    fn body_timeout(&self, request: &Request<'_>) -> Duration {
        /// What a network that is of any use gives, in bytes a second.
        const USUAL: u64 = 256 << 10;
        let size = request.range.map_or(request.limit, |(from, to)| to.saturating_sub(from));
        let seconds = Duration::from_secs(size / USUAL);
        self.settings.slow_for.saturating_mul(3).saturating_add(seconds).min(self.settings.body_timeout)
    }

    fn failure(request: &Request<'_>, host: &str, error: &ureq::Error) -> Attempt {
        if let ureq::Error::Io(error) = error
            && let Some(refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<RefusedAddress>())
        {
            return Attempt::Failed(SourceError::Refused {
                of: request.of.to_owned(),
                host: host.to_owned(),
                problem: refused.0.to_owned(),
            });
        }
        let certificate = match error {
            ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
            ureq::Error::Rustls(error) => Some(error),
            _ => None,
        };
        let network = SourceError::Network {
            of: request.of.to_owned(),
            endpoint: host.to_owned(),
            problem: match error {
                _ if certificate.is_some_and(is_untrusted) => {
                    "its certificate is not signed by an authority that is trusted here; to trust it, set SSL_CERT_FILE to a PEM file with the certificates of all authorities that are to be trusted".to_owned()
                }
                ureq::Error::Timeout(_) => "the server does not answer in time".to_owned(),
                ureq::Error::HostNotFound => {
                    "the host is not found; check the endpoint, or the cluster's DNS".to_owned()
                }
                error => shorten(&error.to_string()),
            },
        };
        match error {
            // It will not be another the next moment.
            _ if certificate.is_some() => Attempt::Failed(network),
            ureq::Error::Timeout(_)
            | ureq::Error::Io(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound => Attempt::Again(network, None),
            _ => Attempt::Failed(network),
        }
    }

    fn network(&self, request: &Request<'_>, problem: String) -> SourceError {
        let host = request.url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        SourceError::Network {
            of: request.of.to_owned(),
            endpoint: host.or_else(|| self.endpoint_host().map(str::to_owned)).unwrap_or_default(),
            problem,
        }
    }
}

/// Whether a certificate is refused for who signed it, or because nobody is trusted at all.
fn is_untrusted(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(problem) => {
            matches!(problem, rustls::CertificateError::UnknownIssuer)
        }
        // The verifier has no root certificates.
        rustls::Error::General(problem) => problem.contains("CA certificates"),
        _ => false,
    }
}
