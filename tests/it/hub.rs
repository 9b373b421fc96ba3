//! Resolving models over HTTP, from a server that does what servers do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use loadline::model::{Confidence, ShapeSource};
use loadline::precision::{CachePrecision, Precision};
use loadline::source::{Settings, SourceError, SourceRef, Sources, Token};

use crate::server::{Reply, Seen, Server};
use crate::weights::{llama_gguf, safetensors};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &[u8] =
    br#"{"model_type":"llama","hidden_size":512,"intermediate_size":2048,"num_hidden_layers":1,
    "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":1000,"max_position_embeddings":4096,
    "tie_word_embeddings":true,"torch_dtype":"bfloat16"}"#;
const FIRST: &[(&str, &str, &[u64])] = &[
    ("model.embed_tokens.weight", "BF16", &[1000, 512]),
    ("model.norm.weight", "BF16", &[512]),
    ("model.layers.0.input_layernorm.weight", "BF16", &[512]),
    ("model.layers.0.post_attention_layernorm.weight", "BF16", &[512]),
    ("model.layers.0.self_attn.q_proj.weight", "BF16", &[512, 512]),
    ("model.layers.0.self_attn.k_proj.weight", "BF16", &[256, 512]),
    ("model.layers.0.self_attn.v_proj.weight", "BF16", &[256, 512]),
    ("model.layers.0.self_attn.o_proj.weight", "BF16", &[512, 512]),
];
const SECOND: &[(&str, &str, &[u64])] = &[
    ("model.layers.0.mlp.gate_proj.weight", "BF16", &[2048, 512]),
    ("model.layers.0.mlp.up_proj.weight", "BF16", &[2048, 512]),
    ("model.layers.0.mlp.down_proj.weight", "BF16", &[512, 2048]),
];
const PARAMETERS: u64 = 1000 * 512 + 3 * 512 + 2 * 512 * 512 + 2 * 256 * 512 + 3 * 2048 * 512;

/// A whole file: its header and as much data as that says, of which only the header is ever there.
fn weights(tensors: &[(&str, &str, &[u64])]) -> Reply {
    let header = safetensors(tensors);
    let data: u64 = tensors.iter().map(|(_, _, shape)| shape.iter().product::<u64>() * 2).sum();
    let total = u64::try_from(header.len()).expect("small") + data;
    Reply::Sparse(header, total)
}

fn missing(code: &str) -> Reply {
    Reply::Status(404, vec![("x-error-code", code.to_owned())], Vec::new())
}

/// A repository of two shards, as the Hub serves it.
pub(crate) fn sharded(seen: &Seen) -> Reply {
    match seen.path.rsplit('/').next().unwrap_or_default() {
        "config.json" => Reply::File(CONFIG.to_vec(), Some(COMMIT)),
        "model.safetensors.index.json" => Reply::File(
            br#"{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#.to_vec(),
            Some(COMMIT),
        ),
        "model-00001-of-00002.safetensors" => weights(FIRST),
        "model-00002-of-00002.safetensors" => weights(SECOND),
        _ => missing("EntryNotFound"),
    }
}

/// Settings for tests: short waits, and nothing of the environment.
fn settings(server: &Server) -> Settings {
    Settings {
        endpoint: server.url(),
        proxy_from_environment: false,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(30),
        attempts: 3,
        backoff: Duration::from_millis(2),
        longest_wait: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn sources(server: &Server) -> Sources {
    Sources::new(settings(server)).expect("an endpoint")
}

fn hub(repository: &str) -> SourceRef {
    SourceRef::HuggingFace { repository: repository.to_owned(), revision: None, file: None, token: None }
}

fn with_token(repository: &str) -> SourceRef {
    let token = Token::new("hf_secret");
    SourceRef::HuggingFace { repository: repository.to_owned(), revision: None, file: None, token }
}

fn gguf(repository: &str, file: &str) -> SourceRef {
    let (repository, file) = (repository.to_owned(), Some(file.to_owned()));
    SourceRef::HuggingFace { repository, revision: None, file, token: None }
}

#[test]
fn a_sharded_model_is_read_by_the_headers_of_its_files() {
    let server = Server::start(|seen, _| sharded(seen));
    let shape = sources(&server).resolve(&hub("org/model")).expect("resolves");
    assert_eq!(shape.parameters, PARAMETERS);
    assert_eq!((shape.source, shape.weights_confidence), (ShapeSource::Safetensors, Confidence::Exact));
    assert_eq!(shape.name, "org/model");
    let seen = server.seen();
    assert_eq!(seen.first().map(|seen| seen.path.as_str()), Some("/org/model/resolve/main/config.json"));
    for request in seen.iter().skip(1) {
        assert!(
            request.path.starts_with(&format!("/org/model/resolve/{COMMIT}/")),
            "{} is at the commit",
            request.path
        );
        if request.path.strip_suffix(".safetensors").is_some() {
            let (from, to) = request.range().expect("a part of the weights only");
            assert!(to - from < 1 << 20, "{from}-{to}");
        }
    }
}

#[test]
fn a_header_longer_than_the_first_range_is_read_to_its_end() {
    let names: Vec<String> =
        (0..3000).map(|at| format!("model.layers.0.mlp.experts.{at}.up_proj.weight")).collect();
    let tensors: Vec<(&str, &str, &[u64])> = names
        .iter()
        .map(|name| (name.as_str(), "BF16", &[8_u64, 8] as &[u64]))
        .chain(FIRST.iter().copied())
        .collect();
    let header = safetensors(&tensors);
    assert!(header.len() > 200 << 10, "{} bytes", header.len());
    let file = header.clone();
    let server = Server::start(move |seen, _| match seen.path.rsplit('/').next() {
        Some("model.safetensors") => {
            let data = 3000 * 64 * 2 + 2 * (1000 * 512 + 3 * 512 + 2 * 512 * 512 + 2 * 256 * 512);
            Reply::Sparse(file.clone(), u64::try_from(file.len()).expect("small") + data)
        }
        _ => missing("EntryNotFound"),
    });
    let shape = sources(&server).resolve(&hub("org/model")).expect("resolves");
    assert_eq!(shape.experts.map(|experts| experts.count), Some(3000));
    let read: u64 = server.seen().iter().filter_map(Seen::range).map(|(from, to)| to - from + 1).sum();
    assert!(read < u64::try_from(header.len()).expect("small") + (64 << 10), "{read} bytes were read");
}

#[test]
fn a_model_with_more_headers_than_are_read_is_counted_from_its_config() {
    let server = Server::start(|seen, _| match seen.path.rsplit('/').next().unwrap_or_default() {
        "config.json" => Reply::File(CONFIG.to_vec(), Some(COMMIT)),
        "model.safetensors.index.json" => {
            let files: Vec<String> =
                (0..6).map(|at| format!(r#""t{at}":"shard-{at}.safetensors""#)).collect();
            let index = format!(r#"{{"weight_map":{{{}}}}}"#, files.join(","));
            Reply::File(index.into_bytes(), Some(COMMIT))
        }
        file if file.starts_with("shard-") => {
            // Headers may end in spaces: 15 MiB each, 90 MiB together.
            const LENGTH: usize = 15 << 20;
            let mut header = u64::try_from(LENGTH).expect("small").to_le_bytes().to_vec();
            header.extend(&safetensors(&[(file, "BF16", &[4])])[8..]);
            header.resize(8 + LENGTH, b' ');
            let total = u64::try_from(header.len()).expect("small") + 8;
            Reply::Sparse(header, total)
        }
        _ => missing("EntryNotFound"),
    });
    let shape = sources(&server).resolve(&hub("org/model")).expect("resolves");
    assert_eq!((shape.source, shape.parameters), (ShapeSource::Config, PARAMETERS));
    let note = "The headers of its files are more than is read: the weights are counted from config.json.";
    assert!(shape.notes.iter().any(|found| found == note), "{:?}", shape.notes);
}

#[test]
fn a_gguf_header_is_read_in_growing_ranges() {
    let file = llama_gguf(2, 300_000).bytes();
    assert!(file.len() > 3 << 20, "{} bytes", file.len());
    let length = file.len();
    let server = Server::start(move |seen, _| match seen.path.rsplit('/').next() {
        Some("model-Q4_K_M.gguf") => Reply::Sparse(file.clone(), 1 << 40),
        _ => missing("EntryNotFound"),
    });
    let shape = sources(&server).resolve(&gguf("org/model", "model-Q4_K_M.gguf")).expect("resolves");
    assert_eq!((shape.source, shape.vocabulary), (ShapeSource::Gguf, 300_000));
    let seen = server.seen();
    let read: u64 = seen.iter().filter_map(Seen::range).map(|(from, to)| to - from + 1).sum();
    assert!((2..8).contains(&seen.len()), "{} requests", seen.len());
    assert!(
        read < 2 * u64::try_from(length).expect("small") + (1 << 20),
        "{read} bytes were read of {length}"
    );
}

#[test]
fn a_server_without_ranges_and_without_end_is_read_no_further_than_needed() {
    let file = llama_gguf(1, 10).bytes();
    let server = Server::start(move |_, _| Reply::Endless(file.clone()));
    let started = Instant::now();
    let shape = sources(&server).resolve(&gguf("org/model", "m.gguf")).expect("resolves");
    assert_eq!(shape.vocabulary, 10);
    assert!(started.elapsed() < Duration::from_secs(5));
    let server = Server::start(|_, _| Reply::Endless(b"{".to_vec()));
    let error = sources(&server).resolve(&hub("org/model")).expect_err("endless config");
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
}

#[test]
fn tokens_go_to_the_endpoint_alone() {
    let files = Server::start(|seen, _| sharded(seen));
    let port = files.port().to_owned();
    let endpoint = Server::start(move |seen, _| {
        let file = seen.path.rsplit('/').next().unwrap_or_default().to_owned();
        if seen.header("authorization") != Some("Bearer hf_secret") {
            return Reply::Status(401, Vec::new(), Vec::new());
        }
        if file.strip_suffix(".safetensors").is_none() {
            return sharded(seen);
        }
        Reply::Status(302, vec![("location", format!("http://localhost:{port}/files/{file}"))], Vec::new())
    });
    let allowed = Settings { allowed_hosts: vec!["localhost".to_owned()], ..settings(&endpoint) };
    let shape = Sources::new(allowed).expect("valid").resolve(&with_token("org/model")).expect("resolves");
    assert_eq!(shape.parameters, PARAMETERS);
    let redirected = files.seen();
    assert!(!redirected.is_empty());
    assert!(redirected.iter().all(|seen| seen.header("authorization").is_none()), "{redirected:?}");
    // Not among the allowed hosts: not followed, and nothing is said of the token.
    let before = files.seen().len();
    let error = sources(&endpoint).resolve(&with_token("org/model")).expect_err("refused");
    assert!(matches!(&error, SourceError::Refused { host, .. } if host == "localhost"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hf_secret"), "{error}");
    assert_eq!(files.seen().len(), before);
}

#[test]
fn the_commit_comes_with_the_redirect() {
    let file = llama_gguf(1, 200_000).bytes();
    let store = Server::start(move |_, _| Reply::Sparse(file.clone(), 1 << 40));
    let port = store.port().to_owned();
    let endpoint = Server::start(move |_, _| {
        let location = format!("http://localhost:{port}/blob?signature=x");
        Reply::Status(302, vec![("location", location), ("x-repo-commit", COMMIT.to_owned())], Vec::new())
    });
    let allowed = vec!["localhost".to_owned()];
    let stale = Settings { allowed_hosts: allowed, fresh_for: Duration::ZERO, ..settings(&endpoint) };
    let sources = Sources::new(stale).expect("valid");
    sources.resolve(&gguf("org/m", "m.gguf")).expect("resolves");
    let seen = endpoint.seen();
    assert!(seen.len() > 1, "the header is longer than the first range");
    assert_eq!(seen.first().map(|seen| seen.path.as_str()), Some("/org/m/resolve/main/m.gguf"));
    assert_eq!(seen.last().map(|seen| seen.path.clone()), Some(format!("/org/m/resolve/{COMMIT}/m.gguf")));
    sources.resolve(&gguf("org/m", "m.gguf")).expect("resolves");
    assert_eq!(endpoint.seen().len(), seen.len() + 1, "the commit is still the same");
}

#[test]
fn redirects_on_the_same_host_are_followed_and_circles_are_left() {
    let server = Server::start(|seen, _| match seen.path.strip_prefix("/old/name/") {
        Some(rest) => Reply::Status(307, vec![("location", format!("/new/name/{rest}"))], Vec::new()),
        None if seen.path.starts_with("/new/") => sharded(seen),
        None => Reply::Status(302, vec![("location", seen.path.clone())], Vec::new()),
    });
    let shape = sources(&server).resolve(&hub("old/name")).expect("resolves");
    assert_eq!(shape.parameters, PARAMETERS);
    let error = sources(&server).resolve(&hub("round/about")).expect_err("a circle").to_string();
    assert!(error.contains("redirects"), "{error}");
}

#[test]
fn redirects_into_the_cluster_are_refused() {
    for location in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://10.96.0.1/api",
        "http://kubernetes.default.svc/api",
        "file:///etc/passwd",
        "//169.254.169.254/",
        "gopher://x/",
        "\u{1}",
    ] {
        let server = Server::start(move |_, _| {
            Reply::Status(302, vec![("location", location.to_owned())], Vec::new())
        });
        let error = sources(&server).resolve(&hub("org/model")).expect_err(location);
        let refused = matches!(
            error,
            SourceError::Refused { .. } | SourceError::Status { .. } | SourceError::Network { .. }
        );
        assert!(refused && !error.is_transient() || location == "\u{1}", "{location}: {error}");
        assert_eq!(server.seen().len(), 1, "{location}");
    }
}

#[test]
fn addresses_of_users_are_public_or_refused() {
    // The endpoint is the public Hub, which is never asked.
    let sources =
        Sources::new(Settings { proxy_from_environment: false, ..Settings::default() }).expect("valid");
    for url in [
        "https://127.0.0.1/m.gguf",
        "https://[::1]/m.gguf",
        "https://localhost/m.gguf",
        "https://169.254.169.254/m.gguf",
        "https://10.0.0.1:8443/m.gguf",
        "https://[::ffff:10.0.0.1]/m.gguf",
    ] {
        let error = sources.resolve(&SourceRef::GgufUrl(url.to_owned())).expect_err(url);
        assert!(matches!(error, SourceError::Refused { .. }), "{url}: {error}");
    }
    let error =
        sources.resolve(&SourceRef::GgufUrl("http://example.com/m.gguf".to_owned())).expect_err("plain");
    assert!(matches!(error, SourceError::Invalid { field: "model.gguf.url", .. }), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    for (status, code, source, expect) in [
        (401, "", hub("org/m"), "tokenSecretRef to a Secret with an access token"),
        (403, "GatedRepo", hub("org/m"), "tokenSecretRef"),
        (401, "", with_token("org/m"), "the token has no access"),
        (404, "RepoNotFound", hub("org/m"), "no such repository"),
        (404, "RevisionNotFound", hub("org/m"), "model.huggingFace.revision"),
        (404, "EntryNotFound", gguf("org/m", "x.gguf"), "no file x.gguf"),
        (404, "", hub("org/m"), "with weights in it"),
        (418, "", hub("org/m"), "answered 418"),
    ] {
        let server = Server::start(move |_, _| {
            Reply::Status(status, vec![("x-error-code", code.to_owned())], Vec::new())
        });
        let error = sources(&server).resolve(&source).expect_err(expect);
        assert!(error.to_string().contains(expect), "{error} does not say {expect}");
        assert!(error.to_string().contains("org/m"), "{error}");
        assert!(!error.is_transient(), "{error}");
    }
}

#[test]
fn servers_that_are_busy_are_asked_again_when_they_say() {
    let server = Server::start(|seen, before| match before {
        0 => Reply::Status(429, vec![("retry-after", "0".to_owned())], Vec::new()),
        1 => Reply::Status(503, Vec::new(), Vec::new()),
        _ => sharded(seen),
    });
    assert_eq!(sources(&server).resolve(&hub("org/m")).map(|shape| shape.parameters), Ok(PARAMETERS));
    let server =
        Server::start(|_, _| Reply::Status(429, vec![("retry-after", "3600".to_owned())], Vec::new()));
    let started = Instant::now();
    let error = sources(&server).resolve(&hub("org/m")).expect_err("too long");
    let hour = Some(Duration::from_hours(1));
    assert!(matches!(error, SourceError::RateLimited { retry_after, .. } if retry_after == hour), "{error}");
    assert!(error.is_transient() && started.elapsed() < Duration::from_secs(2));
    assert_eq!(server.seen().len(), 1, "an hour is not waited for");
    let server = Server::start(|_, _| Reply::Status(503, Vec::new(), Vec::new()));
    let error = sources(&server).resolve(&hub("org/m")).expect_err("down");
    assert!(error.is_transient(), "{error}");
    assert_eq!(server.seen().len(), 3, "as often as the settings say");
}

#[test]
fn a_time_of_day_is_as_good_as_a_wait() {
    // It is past, so nothing is waited for.
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    let server = Server::start(move |seen, before| match before {
        0 => Reply::Status(429, vec![("retry-after", past.to_owned())], Vec::new()),
        _ => sharded(seen),
    });
    assert_eq!(sources(&server).resolve(&hub("org/m")).map(|shape| shape.parameters), Ok(PARAMETERS));
    let far = "Fri, 21 Oct 2050 07:28:00 GMT";
    let server =
        Server::start(move |_, _| Reply::Status(429, vec![("retry-after", far.to_owned())], Vec::new()));
    let error = sources(&server).resolve(&hub("org/m")).expect_err("too long");
    let day = Some(Duration::from_hours(24));
    assert!(matches!(error, SourceError::RateLimited { retry_after, .. } if retry_after == day), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn one_model_at_the_same_moment_is_read_once() {
    let (begun, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (first, then) = (Arc::clone(&begun), Arc::clone(&go));
    let server = Server::start(move |seen, before| {
        if seen.path.contains("/main/") && before == 0 {
            first.wait();
            then.wait();
        }
        sharded(seen)
    });
    let sources = sources(&server);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| sources.resolve(&hub("org/m")))).collect();
        begun.wait();
        go.wait();
        for thread in threads {
            assert_eq!(thread.join().expect("fine").map(|shape| shape.parameters), Ok(PARAMETERS));
        }
    });
    let mut paths: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all, "each file is asked for once");
}

/// The program, with an environment that has nothing of this machine's.
fn program(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = crate::cli::command();
    for name in
        ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"]
    {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    let output = command.args(arguments).envs(environment.iter().copied()).output().expect("it runs");
    let words = String::from_utf8(output.stderr).expect("UTF-8");
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code().expect("an exit code"), words)
}

fn port(server: &Server) -> String {
    format!("https://localhost:{}", server.port())
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let (server, authority) = Server::start_with_tls(|seen, _| sharded(seen));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("authority.pem");
    std::fs::write(&file, authority).expect("written");
    let endpoint = port(&server);
    let arguments = ["estimate", "--model", "org/m", "--hub-endpoint", &endpoint];
    let (code, words) = program(&arguments, &[]);
    assert!(code == 1 && words.contains("SSL_CERT_FILE"), "{code}: {words}");
    assert!(server.seen().is_empty(), "nothing is asked of a server that is not trusted");
    let (code, words) = program(&arguments, &[("SSL_CERT_FILE", file.to_str().expect("a path"))]);
    assert_eq!(code, 0, "{words}");
    assert!(!server.seen().is_empty());
    // It is another host's certificate.
    let endpoint = endpoint.replace("localhost", "127.0.0.1");
    let arguments = ["estimate", "--model", "org/m", "--hub-endpoint", &endpoint];
    let (code, words) = program(&arguments, &[("SSL_CERT_FILE", file.to_str().expect("a path"))]);
    assert!(code == 1 && words.contains("certificate"), "{code}: {words}");
}

#[test]
fn proxies_of_the_environment_are_used_and_left_out() {
    let proxy = Server::start(|_, _| Reply::Status(502, Vec::new(), Vec::new()));
    let direct = Server::start(|seen, _| sharded(seen));
    let through = format!("http://{}", proxy.address);
    let arguments = ["estimate", "--model", "org/m", "--hub-endpoint", "https://hub.example"];
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let before = proxy.seen().len();
        let (code, words) = program(&arguments, &[(variable, &through)]);
        assert_eq!(code, 1, "{words}");
        let seen = proxy.seen();
        assert!(seen.len() > before, "{variable} is not used: {words}");
        assert!(seen.iter().all(|seen| seen.path == "hub.example:443"), "{seen:?}");
    }
    let before = proxy.seen().len();
    let endpoint = direct.url();
    let arguments = ["estimate", "--model", "org/m", "--hub-endpoint", &endpoint];
    let (code, words) =
        program(&arguments, &[("HTTPS_PROXY", &through), ("NO_PROXY", "127.0.0.1,.internal")]);
    assert_eq!(code, 0, "{words}");
    assert_eq!(proxy.seen().len(), before, "NO_PROXY names the host");
}

#[test]
fn the_program_says_what_to_do_where_it_may_not_read() {
    let server = Server::start(|seen, _| match seen.header("authorization") {
        _ if seen.path.starts_with("/org/none/") => missing("RepoNotFound"),
        Some(_) => Reply::Status(403, vec![("x-error-code", "GatedRepo".to_owned())], Vec::new()),
        None => Reply::Status(401, vec![("x-error-code", "GatedRepo".to_owned())], Vec::new()),
    });
    let endpoint = server.url();
    let estimate = |model: &str, environment: &[(&str, &str)]| {
        program(&["estimate", "--model", model, "--hub-endpoint", &endpoint], environment)
    };
    for (model, environment, expected) in [
        ("org/m", &[][..], &["401", "no access token in HF_TOKEN", "accept its terms at", "/org/m"][..]),
        ("org/m", &[("HF_TOKEN", "hf_secret")], &["403", "the token in HF_TOKEN has no access"]),
        ("org/none", &[], &["no such repository", "HF_TOKEN"]),
    ] {
        let (code, words) = estimate(model, environment);
        assert_eq!(code, 1, "{words}");
        for text in expected {
            assert!(words.contains(text), "no {text:?} in {words}");
        }
        assert!(!words.contains("hf_secret") && !words.contains("tokenSecretRef"), "{words}");
    }
    let before = server.seen().len();
    for value in ["1", "true", "YES", "on"] {
        let (code, words) = estimate("org/m", &[("HF_HUB_OFFLINE", value)]);
        assert!(code == 1 && words.contains("offline mode is on"), "{value}: {words}");
    }
    assert_eq!(server.seen().len(), before, "offline means no connection");
    assert_eq!(estimate("org/m", &[("HF_HUB_OFFLINE", "0")]).0, 1);
    assert!(server.seen().len() > before, "0 is not offline");
}

#[test]
fn answers_that_break_off_are_asked_for_again() {
    let server = Server::start(
        |seen, before| if before == 0 { Reply::Cut(CONFIG.to_vec(), 20) } else { sharded(seen) },
    );
    assert_eq!(sources(&server).resolve(&hub("org/m")).map(|shape| shape.parameters), Ok(PARAMETERS));
    let server = Server::start(|_, _| Reply::Cut(CONFIG.to_vec(), 20));
    let error = sources(&server).resolve(&hub("org/m")).expect_err("always cut");
    assert!(matches!(error, SourceError::Network { .. }) && error.is_transient(), "{error}");
}

#[test]
fn answers_that_do_not_come_are_given_up() {
    let server = Server::start(|_, _| Reply::Stalled);
    let short = Settings { body_timeout: Duration::from_millis(100), attempts: 2, ..settings(&server) };
    let started = Instant::now();
    let error = Sources::new(short).expect("valid").resolve(&hub("org/m")).expect_err("stalled");
    assert!(error.is_transient(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_server_that_sends_next_to_nothing_is_dropped_at_once() {
    let server = Server::start(|_, _| Reply::Dripping);
    let slow_for = Duration::from_millis(300);
    let strict = Settings { body_timeout: Duration::from_mins(1), slow_for, ..settings(&server) };
    let started = Instant::now();
    let error = Sources::new(strict).expect("valid").resolve(&hub("org/m")).expect_err("too slow");
    assert!(error.to_string().contains("less than 16 KiB a second") && error.is_transient(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(server.seen().len(), 1, "it would be as slow the next moment");
}

#[test]
fn a_moved_file_at_an_address_is_read_again_and_an_unmoved_one_is_not() {
    let version = Arc::new(AtomicUsize::new(1));
    let mut file = llama_gguf(1, 10).bytes();
    file.resize(1 << 20, 0);
    let server = Server::start({
        let version = Arc::clone(&version);
        move |_, _| {
            let etag = ("etag", format!("\"{}\"", version.load(Ordering::Relaxed)));
            let range = ("content-range", format!("bytes 0-{}/{}", file.len() - 1, 1_u64 << 40));
            Reply::Status(206, vec![etag, range], file.clone())
        }
    });
    let stale = Sources::new(Settings { fresh_for: Duration::ZERO, ..settings(&server) }).expect("valid");
    let source = SourceRef::GgufUrl(format!("{}/m.gguf", server.url()));
    let first = stale.resolve(&source).expect("resolves");
    assert!(Arc::ptr_eq(&first, &stale.resolve(&source).expect("resolves")), "it is the one that is kept");
    assert_eq!(stale.fill().shapes, 1);
    version.store(2, Ordering::Relaxed);
    let second = stale.resolve(&source).expect("resolves");
    assert!(!Arc::ptr_eq(&first, &second) && first == second, "another version was read");
}

#[test]
fn a_namespace_keeps_no_more_than_its_share() {
    let server = Server::start(|seen, _| sharded(seen));
    let one = sources(&server).resolve(&hub("org/m0")).expect("resolves").size();
    let small = Settings { store_bytes: 10 * one, store_share: 3 * one + one / 2, ..settings(&server) };
    let sources = Sources::new(small).expect("valid");
    let of_others = sources.read("b", &hub("org/b0")).expect("resolves");
    let kept: Vec<_> = (0..3).map(|at| sources.read("a", &hub(&format!("org/a{at}")))).collect();
    assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    let error = sources.read("a", &hub("org/a3")).expect_err("its share is in use");
    assert!(matches!(error, SourceError::StoreFull { .. }), "{error}");
    sources.read("b", &hub("org/b1")).expect("another namespace has room");
    drop(kept);
    sources.read("a", &hub("org/a3")).expect("room again");
    assert!(Arc::ptr_eq(&of_others, &sources.read("b", &hub("org/b0")).expect("still there")));
}

#[test]
fn lying_servers_are_found_out() {
    let range = vec![("content-range", "bytes 500-507/1000".to_owned())];
    let server = Server::start(move |seen, _| match seen.path.rsplit('/').next() {
        Some("m.gguf") => Reply::Status(206, range.clone(), vec![0; 8]),
        _ => missing("EntryNotFound"),
    });
    let error = sources(&server).resolve(&gguf("org/m", "m.gguf")).expect_err("other bytes").to_string();
    assert!(error.contains("sends others"), "{error}");
    let index = br#"{"weight_map":{"a":"../../x.safetensors"}}"#;
    let server = Server::start(|seen, _| match seen.path.rsplit('/').next() {
        Some("model.safetensors.index.json") => Reply::File(index.to_vec(), None),
        _ => sharded(seen),
    });
    let error = sources(&server).resolve(&hub("org/m")).expect_err("a path").to_string();
    assert!(error.contains("not a file beside the index"), "{error}");
    // A file that is shorter than its header says.
    let server = Server::start(|seen, _| match seen.path.rsplit('/').next() {
        Some("model-00002-of-00002.safetensors") => Reply::File(safetensors(SECOND), None),
        _ => sharded(seen),
    });
    let error = sources(&server).resolve(&hub("org/m")).expect_err("short").to_string();
    assert!(error.contains("incomplete"), "{error}");
}

#[test]
fn an_answer_that_is_another_thing_is_called_what_it_is() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4661211808\n";
    let page = b"<!DOCTYPE html><title>Sign in to the network</title>";
    for (content, file, expected) in [
        (&pointer[..], Some("m.gguf"), ["GGUF header", "Git LFS pointer", "4661211808 bytes"]),
        (page, Some("m.gguf"), ["GGUF header", "a web page", "browser"]),
        (page, None, ["config.json", "a web page", "browser"]),
        (b"", None, ["config.json", "an empty file", "again"]),
    ] {
        let server = Server::start(move |seen, _| match seen.path.rsplit('/').next() {
            Some("m.gguf" | "config.json") => Reply::File(content.to_vec(), Some(COMMIT)),
            _ => missing("EntryNotFound"),
        });
        let source = file.map_or_else(|| hub("org/m"), |file| gguf("org/m", file));
        let error = sources(&server).resolve(&source).expect_err("not a model").to_string();
        for text in expected {
            assert!(error.contains(text), "no {text:?} in {error}");
        }
    }
}

#[test]
fn a_repository_without_an_index_is_read_by_its_list_of_files() {
    let server = Server::start(|seen, _| {
        match seen.path.as_str() {
        path if path.starts_with("/api/models/org/m/revision/") => Reply::File(
            br#"{"siblings":[{"rfilename":"original/consolidated.safetensors"},{"rfilename":"a.safetensors"},{"rfilename":"b.safetensors"}]}"#.to_vec(),
            None,
        ),
        path if path.ends_with("/config.json") => Reply::File(CONFIG.to_vec(), Some(COMMIT)),
        path if path.ends_with("/a.safetensors") => weights(FIRST),
        path if path.ends_with("/b.safetensors") => weights(SECOND),
        _ => missing("EntryNotFound"),
    }
    });
    assert_eq!(sources(&server).resolve(&hub("org/m")).map(|shape| shape.parameters), Ok(PARAMETERS));
    let server = Server::start(|seen, _| match seen.path.as_str() {
        path if path.starts_with("/api/") => {
            Reply::File(br#"{"siblings":[{"rfilename":"m-Q4_K_M.gguf"}]}"#.to_vec(), None)
        }
        _ => missing("EntryNotFound"),
    });
    let error = sources(&server).resolve(&hub("org/m")).expect_err("GGUF").to_string();
    assert!(error.contains("model.gguf.huggingFace.file to one of m-Q4_K_M.gguf"), "{error}");
}

#[test]
fn what_was_resolved_is_not_asked_for_again() {
    let server = Server::start(|seen, _| sharded(seen));
    let sources = sources(&server);
    assert!(sources.known("", &hub("org/m")).is_none());
    let shape = sources.resolve(&hub("org/m")).expect("resolves");
    let requests = server.seen().len();
    assert_eq!(sources.resolve(&hub("org/m")), Ok(shape.clone()));
    assert_eq!(sources.known("", &hub("org/m")), Some(Ok(shape)));
    assert_eq!(server.seen().len(), requests);
    // Another token may see something else: it asks for itself.
    assert!(sources.known("", &with_token("org/m")).is_none());
    // Not for ever, but then only whether the commit is still the same.
    let stale = Sources::new(Settings { fresh_for: Duration::ZERO, ..settings(&server) }).expect("valid");
    stale.resolve(&hub("org/m")).expect("resolves");
    let requests = server.seen().len();
    stale.resolve(&hub("org/m")).expect("resolves");
    assert_eq!(server.seen().len(), requests + 1);
}

#[test]
fn failures_are_remembered_for_a_moment() {
    let server = Server::start(|_, _| Reply::Status(401, Vec::new(), Vec::new()));
    let sources = sources(&server);
    assert!(sources.resolve(&hub("org/m")).is_err());
    assert!(sources.resolve(&hub("org/m")).is_err());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn offline_means_no_connection() {
    let server = Server::start(|seen, _| sharded(seen));
    let sources = Sources::new(Settings { offline: true, ..settings(&server) }).expect("valid");
    for source in [gguf("org/m", "m.gguf"), SourceRef::GgufUrl("https://example.com/m.gguf".to_owned())] {
        let error = sources.resolve(&source).expect_err("offline");
        assert!(matches!(error, SourceError::Offline { .. }), "{error}");
        assert!(error.to_string().contains("model.catalog"), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn references_that_lead_elsewhere_are_refused() {
    let server = Server::start(|seen, _| sharded(seen));
    let sources = sources(&server);
    for repository in ["model", "../x", "a/b/c", "a/..", "a/b?x", "a b/c", "", "a/", "ä/b"] {
        let error = sources.resolve(&hub(repository)).expect_err(repository);
        assert!(matches!(error, SourceError::Invalid { .. }), "{repository}: {error}");
    }
    for (revision, file) in
        [("..", None), ("a/../b", None), ("main", Some("../x.gguf")), ("main", Some("")), ("a\nb", None)]
    {
        let source = SourceRef::HuggingFace {
            repository: "a/b".to_owned(),
            revision: Some(revision.to_owned()),
            file: file.map(str::to_owned),
            token: None,
        };
        assert!(matches!(sources.resolve(&source), Err(SourceError::Invalid { .. })), "{revision} {file:?}");
    }
    assert!(server.seen().is_empty());
    // A revision with a slash is one part of the path.
    let source = SourceRef::HuggingFace {
        repository: "a/b".to_owned(),
        revision: Some("refs/pr/1".to_owned()),
        file: None,
        token: None,
    };
    sources.resolve(&source).expect("resolves");
    assert_eq!(
        server.seen().first().map(|seen| seen.path.clone()),
        Some("/a/b/resolve/refs%2Fpr%2F1/config.json".to_owned())
    );
}

#[test]
fn a_server_that_does_not_speak_tls_is_an_error() {
    let server = Server::start(|seen, _| sharded(seen));
    let endpoint = format!("https://{}", server.address);
    let tls = Settings { endpoint, attempts: 1, ..settings(&server) };
    let error = Sources::new(tls).expect("valid").resolve(&hub("org/m")).expect_err("no TLS");
    assert!(matches!(error, SourceError::Network { .. }), "{error}");
    for endpoint in ["", "huggingface.co", "ftp://x", "https://", "https://x y"] {
        let wrong = Settings { endpoint: endpoint.to_owned(), ..settings(&server) };
        assert!(
            matches!(Sources::new(wrong), Err(SourceError::Invalid { field: "endpoint", .. })),
            "{endpoint}"
        );
    }
}

/// ModelOpt's checkpoints may say in a file of their own how they, and the cache, are quantised.
#[test]
fn the_quantisation_beside_the_config_is_read() {
    let tensors: &[(&str, &str, &[u64])] = &[
        ("model.embed_tokens.weight", "BF16", &[1000, 512]),
        ("model.layers.0.mlp.up_proj.weight", "F8_E4M3", &[2048, 512]),
        ("model.layers.0.mlp.up_proj.weight_scale", "F32", &[]),
    ];
    let quant = br#"{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"FP8","kv_cache_quant_algo":"FP8","exclude_modules":["lm_head"]}}"#;
    let header = safetensors(tensors);
    let server = Server::start(move |seen, _| match seen.path.rsplit('/').next().unwrap_or_default() {
        "config.json" => Reply::File(CONFIG.to_vec(), Some(COMMIT)),
        "hf_quant_config.json" => Reply::File(quant.to_vec(), Some(COMMIT)),
        "model.safetensors" => {
            let data = 1000 * 512 * 2 + 2048 * 512 + 4;
            Reply::Sparse(header.clone(), u64::try_from(header.len()).expect("small") + data)
        }
        _ => missing("EntryNotFound"),
    });
    let shape = sources(&server).resolve(&hub("nvidia/m-FP8")).expect("resolves");
    let quantization = shape.quantization.clone().expect("quantised");
    assert_eq!(quantization.precision, Precision::Fp8);
    assert_eq!(quantization.cache_precision, Some(CachePrecision::Fp8));
    // Plain checkpoints are not asked for it.
    let server = Server::start(|seen, _| sharded(seen));
    sources(&server).resolve(&hub("org/m")).expect("resolves");
    assert!(!server.seen().iter().any(|seen| seen.path.contains("hf_quant_config")));
}
