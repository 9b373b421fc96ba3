//! The page itself: a few static files in the binary.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::digest::fnv1a;

/// A file of the page.
pub(super) struct Asset {
    /// Where it is served.
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file, by where it is served.
pub(super) const ASSETS: &[Asset] = &[
    Asset { path: "/", kind: HTML, text: include_str!("assets/index.html") },
    Asset { path: "/style.css", kind: "text/css; charset=utf-8", text: include_str!("assets/style.css") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") },
    Asset { path: "/main.js", kind: SCRIPT, text: include_str!("assets/main.js") },
    Asset { path: "/estimate.js", kind: SCRIPT, text: include_str!("assets/estimate.js") },
    Asset { path: "/draw.js", kind: SCRIPT, text: include_str!("assets/draw.js") },
    Asset { path: "/cluster.js", kind: SCRIPT, text: include_str!("assets/cluster.js") },
    Asset { path: "/state.js", kind: SCRIPT, text: include_str!("assets/state.js") },
    Asset { path: "/server.js", kind: SCRIPT, text: include_str!("assets/server.js") },
    Asset { path: "/words.en.js", kind: SCRIPT, text: include_str!("assets/words.en.js") },
    Asset { path: "/words.ko.js", kind: SCRIPT, text: include_str!("assets/words.ko.js") },
];

impl Asset {
    /// The answer to a request for it.
    pub(super) fn answer(&self, request: &HeaderMap) -> Response {
        let tag = format!("\"{:016x}\"", fnv1a(self.text.as_bytes()));
        let known =
            request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let tagged = [
            (header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))),
            // Always asked for, so that an upgrade shows at once; it costs a round trip and no body.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, tagged).into_response();
        }
        (tagged, [(header::CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::ASSETS;

    #[test]
    fn the_page_is_small_and_loads_nothing_from_elsewhere() {
        let size: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(size < 150 << 10, "{size} bytes");
        for asset in ASSETS {
            for (at, _) in asset.text.match_indices("https://").chain(asset.text.match_indices("http://")) {
                let address: String = asset.text[at..].chars().take_while(|c| !c.is_whitespace()).collect();
                // A namespace is a name; the Hub's address is an example that is shown.
                assert!(
                    address.starts_with("http://www.w3.org/")
                        || address.starts_with("https://huggingface.co"),
                    "{}: {address}",
                    asset.path
                );
            }
        }
    }

    #[test]
    fn both_languages_have_the_same_words() {
        let keys = |path: &str| -> Vec<String> {
            let asset = ASSETS.iter().find(|asset| asset.path == path).expect("a file");
            let line = |line: &str| {
                let (key, _) = line.strip_prefix("  ")?.split_once(':')?;
                key.chars().all(char::is_alphanumeric).then(|| key.to_owned())
            };
            asset.text.lines().filter_map(line).collect()
        };
        let english = keys("/words.en.js");
        assert!(english.len() > 80, "{}", english.len());
        assert_eq!(english, keys("/words.ko.js"));
    }
}
