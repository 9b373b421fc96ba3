//! Name resolution that refuses what must not be contacted, so that no name can lead there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::address::{Trust, refusal};
use super::settings::Settings;

/// The resolver.
pub(super) struct Guard {
    pub(super) settings: Arc<Settings>,
    pub(super) endpoint: Uri,
    /// The proxy's host, which the operator chose.
    pub(super) proxy: Option<String>,
    pub(super) inner: DefaultResolver,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// Carried through the client's error.
#[derive(Debug)]
pub(super) struct RefusedAddress(pub(super) &'static str);

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RefusedAddress {}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if uri.host().is_some() && uri.host() == self.proxy.as_deref() {
            return Ok(found);
        }
        let trust = self.settings.trust(uri, &self.endpoint);
        // One forbidden address is enough: which of them is used is not ours to choose.
        match found.iter().find_map(|address| refusal(address.ip(), trust)) {
            Some(problem) => Err(ureq::Error::Io(std::io::Error::other(RefusedAddress(problem)))),
            None => Ok(found),
        }
    }
}

impl Settings {
    /// How much the host of an address is trusted.
    pub(super) fn trust(&self, uri: &Uri, endpoint: &Uri) -> Trust {
        let authority = |uri: &Uri| uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
        let host = uri.host().unwrap_or_default();
        if authority(uri) == authority(endpoint) {
            Trust::Endpoint
        } else if self.is_allowed(host) {
            // Where the endpoint itself is on this machine, so may be what it redirects to.
            if is_loopback(endpoint) { Trust::Endpoint } else { Trust::Allowed }
        } else {
            Trust::User
        }
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
