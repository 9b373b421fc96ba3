//! Resolving models over HTTP, from a server that does what servers do.

mod failures;
mod routes;

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
