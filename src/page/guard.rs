//! What every request passes: who asks and how often, from where, and the headers that keep a browser to this server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{App, UPLOADS};

/// Where probes ask; they are not counted.
pub(super) const HEALTH: &str = "/healthz";

/// Scripts, styles and requests of this server only; no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Answers a request if it may be asked.
pub(super) async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&app, &request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(app: &App, request: &Request) -> Option<Problem> {
    let path = request.uri().path();
    if path == HEALTH {
        return None;
    }
    if app.own && !is_here(request.headers()) {
        return Some(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this server answers as localhost or 127.0.0.1 only; for others start it with --public",
        ));
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = peer
        && !app.limiter.admits(peer.ip(), Instant::now())
    {
        return Some(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests; ask again in a second"));
    }
    // A form or an image of another site can send neither of these.
    let wanted = if path == UPLOADS { "application/octet-stream" } else { "application/json" };
    if request.method() == Method::POST && content_type(request.headers()) != Some(wanted) {
        let problem = format!("the Content-Type must be {wanted}");
        return Some(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    None
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// Whether a request is for this machine by a name that nobody else can have.
fn is_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_here() {
        for (host, here) in [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("[::1]:8080", true),
            ("localhost.evil.example:8080", false),
            ("evil.example", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).expect("a header"));
            assert_eq!(is_here(&headers), here, "{host}");
        }
        assert!(!is_here(&HeaderMap::new()));
    }
}
