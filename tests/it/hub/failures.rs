//! Answers that are refusals, that break off, lie or do not come.

use super::*;

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
fn failures_are_remembered_for_a_moment() {
    let server = Server::start(|_, _| Reply::Status(401, Vec::new(), Vec::new()));
    let sources = sources(&server);
    assert!(sources.resolve(&hub("org/m")).is_err());
    assert!(sources.resolve(&hub("org/m")).is_err());
    assert_eq!(server.seen().len(), 1);
}
