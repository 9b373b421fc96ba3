//! The endpoints: the same answers as the command line's, and nothing but a refusal for what is wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::cli::run;
use super::server::Ui;

const GIB: u64 = 1 << 30;

fn printed(arguments: &str) -> Value {
    serde_json::from_str(&run(arguments).stdout).expect("JSON")
}

fn estimate(ui: &Ui, spec: &Value) -> Value {
    ui.post("api/v1/estimate", &json!({"spec": spec})).json()
}

#[test]
fn an_estimate_is_what_the_command_line_prints() {
    let ui = Ui::start("--offline");
    for (spec, fit, flags) in [
        (json!({"model": {"parameters": "8B"}}), "", "--parameters 8B"),
        (
            json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "int4", "context": {"length": 8192, "sequences": 4}, "parallelism": {"tensor": 2}}),
            "L4",
            "--model llama-3.1-8b --precision int4 --context 8192 --sequences 4 --tensor 2 --fit L4",
        ),
        (
            json!({"model": {"catalog": "llama-3.3-70b"}, "engine": {"name": "sglang"}}),
            "T4",
            "--model llama-3.3-70b --engine sglang --fit T4",
        ),
        (
            json!({"model": {"catalog": "llama-3.1-8b"}, "training": {"method": "qlora", "sequenceLength": 2048, "microBatch": 2, "loraRank": 32}, "safetyMargin": "1.1"}),
            "",
            "--model llama-3.1-8b --training qlora --context 2048 --sequences 2 --lora-rank 32 --margin 1.1",
        ),
    ] {
        let asked = if fit.is_empty() { json!({"spec": spec}) } else { json!({"spec": spec, "fit": fit}) };
        let expected = printed(&format!("estimate -o json {flags}"));
        assert_eq!(ui.post("api/v1/estimate", &asked).json(), expected, "{flags}");
        let view = ui.post("api/v1/view", &asked).json();
        assert_eq!(view["estimate"], expected, "{flags}");
        // And the command that is offered to be copied prints the same again.
        let command = view["command"].as_str().expect("a command");
        let again = command.strip_prefix("loadline ").expect("the program");
        let mut copied = printed(&format!("{again} -o json"));
        if !fit.is_empty() {
            copied = printed(&format!("{again} --fit {fit} -o json"));
        }
        assert_eq!(copied, expected, "{command}");
        // And what it has at its own context is a point of the curve.
        let context = &expected["workload"]["context"];
        let point = view["curve"]["points"]
            .as_array()
            .expect("points")
            .iter()
            .find(|point| point["context"] == *context);
        assert_eq!(point.expect("the context")["requiredPerGpu"], expected["requiredPerGpu"], "{flags}");
    }
    let compared = ui
        .post("api/v1/estimate", &json!({"spec": {"model": {"catalog": "llama-3.1-8b"}}, "compare": "gpu"}))
        .json();
    assert_eq!(compared, printed("estimate -o json --model llama-3.1-8b --compare gpu"));
    assert_eq!(ui.get("api/v1/models").json(), printed("estimate --list-models -o json"));
    assert_eq!(ui.get("api/v1/gpus").json(), printed("estimate --list-gpus -o json"));
}

#[test]
fn the_manifest_that_is_offered_plans_as_it_says() {
    let ui = Ui::start("--offline");
    let spec = json!({"model": {"catalog": "llama-3.1-8b"}, "context": {"length": 4096}, "engine": {"name": "vllm"}});
    let view = ui.post("api/v1/view", &json!({"spec": spec})).json();
    let manifest = view["manifest"].as_str().expect("a manifest");
    let (_directory, path) = super::super::cli::file("mdep.yaml", manifest);
    let planned = run(&format!("plan -f {path} --snapshot examples/cluster.snapshot -o json"));
    let planned: Value = serde_json::from_str(&planned.stdout).expect("JSON");
    assert_eq!(planned["results"][0]["estimate"]["requiredPerGpu"], view["estimate"]["requiredPerGpu"]);
}

/// What the calculators that people use answer to their own examples, beside what is answered here.
#[test]
fn the_examples_of_other_calculators_are_answered() {
    let ui = Ui::start("--offline");
    let cards = |spec: &Value| -> Vec<String> {
        let view = ui.post("api/v1/view", &json!({"spec": spec})).json();
        let cards = view["cards"].as_array().expect("cards").clone();
        cards
            .iter()
            .filter(|card| card["fits"] == true)
            .map(|card| card["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    // The quick rule: 8B at FP16 is 16 GB, at INT4 4 GB; a 24 GB card and an 8 GB one.
    let sized = |precision: &str| json!({"model": {"parameters": "8B"}, "precision": precision, "context": {"length": 2048}});
    let weights = |spec: &Value| estimate(&ui, spec)["components"]["weights"].as_u64().expect("bytes");
    assert_eq!(weights(&sized("fp16")), 16_000_000_000);
    assert_eq!(weights(&sized("int4")), 4_000_000_000);
    let fp16 = cards(&sized("fp16"));
    assert!(fp16.contains(&"RTX-4090".to_owned()) && !fp16.contains(&"T4".to_owned()), "{fp16:?}");
    let int4 = cards(&sized("int4"));
    assert!(
        int4.iter().any(|card| card == "RTX-4060" || card == "RTX-3070" || card == "RTX-2080"),
        "{int4:?}"
    );

    // accelerate's estimate-memory divides 32-bit weights: of a checkpoint at half of it, the same to the byte but for what it
    // leaves out. Its Adam at batch 1 is four times the model: what a full run in fp32 keeps of it here.
    let llama = |precision: &str| json!({"model": {"catalog": "llama-3.1-8b"}, "precision": precision, "context": {"length": 2048}});
    let (half, single) = (weights(&llama("bf16")), weights(&llama("fp32")));
    assert_eq!(single, half * 2);
    // vLLM's allocator rounds up what it holds.
    assert!(half.abs_diff(8_030_261_248 * 2) * 100 < half, "{half}");
    let trained = estimate(
        &ui,
        &json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "fp32", "training": {"method": "full", "sequenceLength": 512, "microBatch": 1}}),
    );
    let part = |name: &str| trained["components"][name].as_u64().expect("bytes");
    assert_eq!(part("gradients"), 8_030_261_248 * 4);
    assert_eq!(part("optimizer"), 8_030_261_248 * 8);
    assert!(part("weights") >= 8_030_261_248 * 4, "{trained}");

    // vram-calculator has 1,000 MiB of CUDA kernels, Adam's two moments at 4 bytes each, and no cache at all.
    let served = estimate(
        &ui,
        &json!({"model": {"catalog": "llama-3.1-8b"}, "context": {"length": 2048, "sequences": 4}}),
    );
    assert_eq!(served["components"]["kvCache"], 131_072_u64 * 2048 * 4);

    // NyxKrage's table has 4.85 bits a weight for Q4_K_M.
    let spec = json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "q4_k_m", "context": {"length": 8192}, "engine": {"name": "llama-cpp"}});
    let theirs = 8_030_261_248_u64 * 485 / 800;
    // The table of the tokens stays in host memory: of its 4.5 bits each nothing is on the GPU.
    let found = weights(&spec) + 128_256 * 4096 * 9 / 16;
    assert!(found.abs_diff(theirs) * 50 < theirs, "{found} beside {theirs}");

    // EXAONE-4.0-1.2B in bf16 allocates 2.38 GiB.
    let exaone = estimate(&ui, &json!({"model": {"catalog": "exaone-4.0-1.2b"}, "precision": "bf16"}));
    // Beside the tables that vLLM makes as it loads.
    let found = exaone["terms"][0]["bytes"].as_u64().expect("bytes");
    assert!(found.abs_diff(GIB * 238 / 100) <= GIB / 200, "{exaone}");
}

#[test]
fn what_is_wrong_is_refused_with_its_field() {
    let ui = Ui::start("--offline");
    let model = json!({"catalog": "llama-3.1-8b"});
    for (body, status, field, said) in [
        (json!({"spec": {"model": {"catalog": "llama-3.1-8x"}}}), 422, "model.catalog", "llama-3.1-8x"),
        (json!({"spec": {"model": {"parameters": "-8B"}}}), 422, "model.parameters", "-8B"),
        (json!({"spec": {"model": {}}}), 422, "model", "set one of"),
        (json!({"spec": {"model": model, "precision": "fp17"}}), 422, "precision", "fp17"),
        (json!({"spec": {"model": model, "context": {"length": 0}}}), 422, "context.length", "0"),
        (json!({"spec": {"model": model, "context": {"length": "long"}}}), 422, "context.length", "long"),
        (json!({"spec": {"model": model, "parallelism": {"tensor": 3}}}), 422, "parallelism.tensor", "3"),
        (json!({"spec": {"model": model, "safetyMargin": "0.5"}}), 422, "safetyMargin", "0.5"),
        (json!({"spec": {"model": model}, "fit": "L5"}), 422, "fit", "L5"),
        (json!({"spec": {"model": model}, "compare": "optimizer"}), 422, "", "training"),
        (
            json!({"spec": {"model": {"configMapRef": {"name": "uploaded", "key": "0"}}}}),
            422,
            "model.configMapRef",
            "again",
        ),
        (json!({"spec": {"model": {"huggingFace": {"repository": "a/b"}}}}), 422, "model", "offline"),
        (
            json!({"spec": {"model": {"huggingFace": {"repository": "../etc"}}}}),
            422,
            "model.huggingFace.repository",
            "../etc",
        ),
        (json!({"model": "8B"}), 400, "", "spec"),
        (json!({"spec": {"model": model}, "else": 1}), 400, "", "else"),
    ] {
        for path in ["api/v1/estimate", "api/v1/view"] {
            let (found, problem) = ui.post(path, &body).problem(status);
            assert_eq!(found, field, "{body}: {problem}");
            assert!(problem.contains(said), "{body}: {problem}");
        }
    }
    for body in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", b"{\"spec\":1e999}"] {
        assert_eq!(ui.send("api/v1/estimate", "application/json", body).status, 400, "{body:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(ui.send("api/v1/estimate", "application/json", deep.as_bytes()).status, 400);
}

#[test]
fn hostile_configs_are_refused_and_nothing_else() {
    let ui = Ui::start("--offline");
    let most = u64::MAX;
    for config in [
        json!({}),
        json!([]),
        json!({"model_type": "llama"}),
        json!({"model_type": "no-such-model", "hidden_size": 1}),
        json!({"model_type": "llama", "hidden_size": most, "num_hidden_layers": most, "num_attention_heads": most, "vocab_size": most, "intermediate_size": most}),
        json!({"model_type": "llama", "hidden_size": -1, "num_hidden_layers": 1.5, "num_attention_heads": "many"}),
        json!({"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 4_000_000_000_u64, "num_attention_heads": 0, "vocab_size": 1, "intermediate_size": 1}),
        json!({"model_type": "llama", "hidden_size": 7, "num_hidden_layers": 1, "num_attention_heads": 3, "num_key_value_heads": 2, "vocab_size": 1, "intermediate_size": 1}),
        json!({"model_type": "x".repeat(500_000)}),
    ] {
        let answer = ui.post("api/v1/view", &json!({"spec": {"model": {"config": config}}}));
        assert!(
            (400..500).contains(&answer.status),
            "{}: {}",
            answer.status,
            &answer.text[..answer.text.len().min(300)]
        );
        let bytes = config.to_string();
        let answer = ui.send("api/v1/uploads?name=config", "application/octet-stream", bytes.as_bytes());
        assert!(
            (400..500).contains(&answer.status),
            "{}: {}",
            answer.status,
            &answer.text[..answer.text.len().min(300)]
        );
        assert!(answer.text.len() < 4096, "an answer is no echo: {} bytes", answer.text.len());
    }
    for bytes in [
        &b""[..],
        b"GGUF",
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{",
        b"PK\x03\x04",
        &[0; 4096],
    ] {
        let answer = ui.send("api/v1/uploads", "application/octet-stream", bytes);
        assert_eq!(answer.status, 422, "{}", answer.text);
    }
    // And it is well after all that.
    assert_eq!(estimate(&ui, &json!({"model": {"parameters": "8B"}}))["gpus"], 1);
}

#[test]
fn what_is_uploaded_can_be_asked_about() {
    let ui = Ui::start("--offline");
    let config = std::fs::read("tests/fixtures/configs/openai__gpt-oss-20b.json").expect("a fixture");
    let uploaded = ui.send("api/v1/uploads?name=gpt", "application/octet-stream", &config).json();
    // A config is small and outlives the server: it stands in the spec.
    assert_eq!(uploaded["model"]["config"]["model_type"], "gpt_oss");
    let asked = json!({"spec": {"model": uploaded["model"], "context": {"length": 4096}}});
    let expected =
        printed("estimate -o json --config tests/fixtures/configs/openai__gpt-oss-20b.json --context 4096");
    assert_eq!(ui.post("api/v1/estimate", &asked).json()["requiredPerGpu"], expected["requiredPerGpu"]);

    let header = gguf();
    let uploaded = ui.send("api/v1/uploads?name=tiny", "application/octet-stream", &header).json();
    assert!(uploaded["model"]["configMapRef"]["key"].is_string(), "{uploaded}");
    let asked = json!({"spec": {"model": uploaded["model"], "context": {"length": 512}, "engine": {"name": "llama-cpp"}}});
    let found = ui.post("api/v1/view", &asked).json();
    let (_directory, path) = super::super::cli::file("tiny.gguf", &header);
    let expected = printed(&format!("estimate -o json --gguf {path} --context 512 --engine llama-cpp"));
    assert_eq!(found["estimate"]["components"], expected["components"]);
    // The command that is offered names a file.
    assert!(found["command"].as_str().expect("a command").contains("--file model.gguf"), "{found}");
}

/// The header of a small GGUF file, whole.
fn gguf() -> Vec<u8> {
    super::super::weights::llama_gguf(2, 1000).bytes()
}

#[test]
fn a_name_is_found_whatever_it_is() {
    let ui = Ui::start("--offline");
    for (text, expected) in [
        ("8B", json!({"parameters": "8B"})),
        ("llama-3.1-8b", json!({"catalog": "llama-3.1-8b"})),
        (
            "https://huggingface.co/someone/new/tree/main",
            json!({"huggingFace": {"repository": "someone/new"}}),
        ),
    ] {
        assert_eq!(ui.post("api/v1/named", &json!({"text": text})).json()["model"], expected);
    }
    let (field, problem) = ui.post("api/v1/named", &json!({"text": "llama-3.1-8"})).problem(422);
    assert!(field == "model" && problem.contains("llama-3.1-8b"), "{problem}");
    let measured = ui.get("api/v1/measured?model=google/gemma-2-27b-it").json();
    assert!(measured[0]["source"].as_str().expect("a source").starts_with("https://"), "{measured}");
}

#[test]
fn a_cluster_is_shown_as_the_command_line_prints_it() {
    let (snapshot, object) = ("examples/cluster.snapshot", "examples/llama-8b-fp16.yaml");
    let ui = Ui::start(&format!("--offline --snapshot {snapshot} -f {object}"));
    assert_eq!(ui.get("api/v1/about").json()["cluster"], true);
    assert_eq!(ui.get("api/v1/nodes").json(), printed(&format!("nodes --snapshot {snapshot} -o json")));
    assert_eq!(ui.get("api/v1/doctor").json(), printed(&format!("doctor --snapshot {snapshot} -o json")));
    let mut expected = printed(&format!("plan -f {object} --snapshot {snapshot} -o json"));
    for result in expected["results"].as_array_mut().expect("results") {
        result.as_object_mut().expect("an object").remove("file");
    }
    assert_eq!(ui.post("api/v1/plan", &json!({})).json(), expected);
    // The same object by its spec, and with another context.
    let mut objects = ui.get("api/v1/objects").json();
    assert_eq!(ui.post("api/v1/plan", &json!({"objects": objects})).json(), expected);
    objects[0]["spec"]["context"] = json!({"length": 1024});
    let changed = ui.post("api/v1/plan", &json!({"objects": objects})).json();
    assert_ne!(changed["results"][0]["estimate"], expected["results"][0]["estimate"]);

    let alone = Ui::start("--offline");
    for path in ["api/v1/nodes", "api/v1/doctor", "api/v1/objects"] {
        alone.get(path).problem(404);
    }
}

/// What comes back for bytes, until the connection is closed.
fn raw(ui: &Ui, request: &str) -> String {
    let mut stream = TcpStream::connect(ui.host()).expect("a connection");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_browser_is_kept_to_this_server_and_strangers_out() {
    let ui = Ui::start("--offline");
    let page = ui.get("");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(ui.get("nothing").status, 404);
    assert_eq!(ui.get("../Cargo.toml").status, 404);
    assert_eq!(ui.get("openapi.json").json()["openapi"], "3.1.0");

    // A form of another site cannot ask, nor its scripts by a name of theirs.
    let body = json!({"spec": {"model": {"parameters": "8B"}}}).to_string();
    assert_eq!(ui.send("api/v1/estimate", "text/plain", body.as_bytes()).status, 415);
    let strange = raw(&ui, "GET /api/v1/about HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(strange.starts_with("HTTP/1.1 421"), "{strange}");
    let unchanged = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {}\r\nConnection: close\r\n\r\n",
        page.header("etag")
    );
    assert!(raw(&ui, &unchanged).starts_with("HTTP/1.1 304"));
}

#[test]
fn what_is_too_large_or_too_often_is_refused() {
    let ui = Ui::start("--offline --public");
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(ui.send("api/v1/estimate", "application/json", &large).status, 413);
    // All at once, on one connection.
    let one = "GET /api/v1/about HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(399);
    let last = "GET /api/v1/about HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = raw(&ui, &format!("{one}{last}"));
    let of = |status: &str| answers.matches(&format!("HTTP/1.1 {status}")).count();
    assert_eq!(of("200") + of("429"), 400);
    assert!(of("200") >= 200 && of("429") >= 50, "{} of 400 were answered", of("200"));
    assert_eq!(ui.get("healthz").text, "ok\n");
}

#[test]
fn others_are_served_only_when_told_and_see_no_cluster() {
    let refused = run("ui --listen 0.0.0.0:0 --no-open");
    assert!(refused.code == 2 && refused.stderr.contains("--public"), "{}", refused.stderr);
    let refused = run("ui --public --no-open --snapshot examples/cluster.snapshot");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let ui = Ui::start("--offline --public");
    let (field, problem) = ui
        .post("api/v1/estimate", &json!({"spec": {"model": {"gguf": {"url": "https://example.com/a.gguf"}}}}))
        .problem(422);
    assert_eq!(field, "model.gguf.url", "{problem}");
}

#[test]
fn slow_connections_leave_the_others_alone() {
    let ui = Ui::start("--offline");
    // More than there may be at once: those that wait longest make room.
    let slow: Vec<TcpStream> = (0..800)
        .map(|number| {
            let mut stream = TcpStream::connect(ui.host()).expect("a connection");
            let _ = if number % 2 == 0 {
                stream.write_all(b"GET /healthz HT")
            } else {
                stream.write_all(
                    b"POST /api/v1/estimate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
                )
            };
            stream
        })
        .collect();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(ui.get("healthz").text, "ok\n");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    assert_eq!(estimate(&ui, &json!({"model": {"parameters": "8B"}}))["gpus"], 1);
    drop(slow);
}
