//! Where requests go, and where none may go: tokens, redirects, addresses, proxies, authorities.

use super::*;

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
