//! `plan`: verdicts, formats and exit codes.

use serde_json::{Value, json};

use super::{Run, file, run, run_with};

/// An object of a 7B model, which at 8192 tokens needs an L4 and is too large for a T4.
fn object(name: &str, changes: Value) -> Value {
    let config = std::fs::read("tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json").expect("a fixture");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let mut spec =
        json!({"model": {"config": config}, "context": {"length": 8192}, "engine": {"name": "vllm"}});
    let Value::Object(changes) = changes else { panic!("{changes} is not an object") };
    for (field, value) in changes {
        spec[field] = value;
    }
    json!({"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name, "namespace": "team-a"}, "spec": spec})
}

fn node(name: &str, label: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.memory": label, "nvidia.com/gpu.product": "GPU-X"}},
        "status": {"allocatable": {"nvidia.com/gpu": "1"}, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "x"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]},
    })
}

fn cluster(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

fn planned(objects: &[Value], cluster: &str, arguments: &str) -> Run {
    let manifests: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let (_directory, snapshot) = file("cluster.json", cluster);
    run_with(
        &format!("plan -f - --offline --snapshot {snapshot} {arguments}"),
        manifests.join("\n---\n").as_bytes(),
    )
}

fn results(run: &Run) -> Vec<Value> {
    let document: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("JSON: {}{}", run.stdout, run.stderr));
    document["results"].as_array().expect("results").clone()
}

/// The controller is told by the same flags, and says the same: `e2e::tenants`.
#[test]
fn what_the_clusters_settings_rule_out_is_said_beforehand() {
    let nodes = cluster(&[node("l4", "23034")]);
    let template = || object("m", json!({"template": {"spec": {"schedulerName": "volcano"}}}));
    let image = || object("m", json!({"engine": {"name": "vllm", "image": "registry.example/team/vllm:1"}}));
    let url = || object("m", json!({"model": {"gguf": {"url": "https://models.example/m.gguf"}}}));
    for (object, arguments, expected) in [
        (template(), "", Some("spec.template.spec.schedulerName: \"volcano\"")),
        (template(), "--allowed-schedulers=other,volcano", None),
        (template(), "--allowed-schedulers=volcano --refuse=args,template", Some("spec.template: ")),
        (image(), "", None),
        (image(), "--refuse=image", Some("is not the engine's own image")),
        (
            image(),
            "--allowed-registries=registry.example/other",
            Some("use one of registry.example/other, or ask"),
        ),
        (image(), "--allowed-registries=registry.example/team", None),
        (url(), "", Some("use an https address at huggingface.co, hf.co; or give")),
        (
            url(),
            "--allowed-hosts=models.example --refuse=gguf-url",
            Some("spec.model.gguf.url: the settings"),
        ),
    ] {
        let run = planned(std::slice::from_ref(&object), &nodes, &format!("-o json {arguments}"));
        let result = &results(&run)[0];
        match expected {
            Some(words) => {
                assert_eq!((run.code, &result["reason"]), (1, &json!("NotAllowed")), "{object} {arguments}");
                assert!(result["message"].as_str().unwrap().contains(words), "{result}");
            }
            None => assert_eq!(result["reason"], "FitsNow", "{object} {arguments}: {result}"),
        }
    }
    let run = run("plan -f examples/llama-8b-int4.yaml --snapshot examples/cluster.snapshot --refuse=pods");
    assert!(run.code == 2 && run.stderr.contains("token-secret"), "{}", run.stderr);
}

#[test]
fn what_one_object_will_take_the_next_finds_promised() {
    let mut four = node("l4", "23034");
    four["status"]["allocatable"]["nvidia.com/gpu"] = json!("4");
    let engine = json!({"name": "vllm", "image": "registry.example/own:1"});
    let objects = [
        object("two", json!({"engine": engine, "parallelism": {"tensor": 2}})),
        object("many", json!({"engine": engine, "replicas": 50})),
        object("last", json!({"engine": engine})),
        object("estimate", json!({"engine": {"name": "none"}})),
    ];
    let answers = |arguments: &str| {
        let run = planned(&objects, &cluster(std::slice::from_ref(&four)), &format!("-o json {arguments}"));
        let answer = |result: &Value| {
            let text = |field: &str| result[field].as_str().unwrap().to_owned();
            (text("name"), text("reason"), text("message"))
        };
        (run.code, results(&run).iter().map(answer).collect::<Vec<_>>())
    };
    let (code, together) = answers("");
    let reasons: Vec<(&str, &str)> =
        together.iter().map(|(name, reason, _)| (name.as_str(), reason.as_str())).collect();
    // The rest of the many would take whatever is left, and an estimate says what is free besides.
    let expected = [
        ("two", "FitsNow"),
        ("many", "FitsNow"),
        ("last", "PromisedToAnother"),
        ("estimate", "PromisedToAnother"),
    ];
    assert_eq!((code, reasons.as_slice()), (3, expected.as_slice()));
    assert!(together[1].2.contains("2 of 50 replicas find room"), "{}", together[1].2);
    assert!(together[2].2.contains("or promised to ModelDeployment many"), "{}", together[2].2);
    let (code, each) = answers("--each");
    assert!(each.iter().all(|(_, reason, _)| reason == "FitsNow"), "{each:?}");
    assert_eq!(code, 0);
    assert!(each[1].2.contains("4 of 50 replicas find room"), "{}", each[1].2);
}

#[test]
fn what_comes_first_and_runs_nothing_is_not_told_that_it_fits_on_what_another_is_promised() {
    let engine = json!({"name": "vllm", "image": "registry.example/own:1"});
    let estimate = object("estimate", json!({"engine": {"name": "none"}}));
    let runs = object("runs", json!({"engine": engine}));
    for objects in [[estimate.clone(), runs.clone()], [runs, estimate]] {
        let run = planned(&objects, &cluster(&[node("l4", "23034")]), "-o json");
        let mut reasons: Vec<(String, String)> = results(&run)
            .iter()
            .map(|result| (result["name"].to_string(), result["reason"].to_string()))
            .collect();
        reasons.sort();
        let expected = [("\"estimate\"", "\"PromisedToAnother\""), ("\"runs\"", "\"FitsNow\"")]
            .map(|(name, reason)| (name.to_owned(), reason.to_owned()));
        assert_eq!(reasons, expected, "whichever comes first");
    }
}

#[test]
fn the_exit_code_is_the_verdict() {
    let (l4, t4) = (node("l4", "23034"), node("t4", "15360"));
    let fits = || object("fits", json!({}));
    let unresolved = || object("remote", json!({"model": {"huggingFace": {"repository": "a/b"}}}));
    let malformed = || object("typo", json!({"precison": "int4"}));
    for (objects, nodes, code, expected) in [
        (vec![fits()], vec![l4.clone()], 0, vec![("fits", "FitsNow")]),
        (vec![fits()], vec![l4.clone(), pod("l4")], 3, vec![("busy", "GpusBusy")]),
        (vec![fits()], vec![t4.clone()], 3, vec![("rejected", "GpuMemoryTooSmall")]),
        (vec![fits()], vec![], 3, vec![("rejected", "NoGpuNodes")]),
        (vec![fits()], vec![node("x", "23034MiB")], 4, vec![("unknown", "LabelUntrusted")]),
        (vec![fits()], vec![node("x", "")], 4, vec![("unknown", "LabelUntrusted")]),
        (vec![fits()], vec![node("x", "0")], 4, vec![("unknown", "LabelUntrusted")]),
        (vec![fits()], vec![node("x", "-1")], 4, vec![("unknown", "LabelUntrusted")]),
        (vec![fits()], vec![node("x", "1e30")], 4, vec![("unknown", "LabelUntrusted")]),
        (vec![fits()], vec![node("x", "24152899584")], 4, vec![("unknown", "LabelUntrusted")]),
        (vec![unresolved()], vec![l4.clone()], 4, vec![("unknown", "ModelNotResolved")]),
        (vec![malformed()], vec![l4.clone()], 1, vec![("rejected", "InvalidSpec")]),
        (
            vec![fits(), unresolved()],
            vec![l4.clone()],
            4,
            vec![("fits", "FitsNow"), ("unknown", "ModelNotResolved")],
        ),
        (
            vec![unresolved(), fits()],
            vec![t4.clone()],
            3,
            vec![("unknown", "ModelNotResolved"), ("rejected", "GpuMemoryTooSmall")],
        ),
        (
            vec![malformed(), fits(), unresolved()],
            vec![t4.clone()],
            1,
            vec![
                ("rejected", "InvalidSpec"),
                ("rejected", "GpuMemoryTooSmall"),
                ("unknown", "ModelNotResolved"),
            ],
        ),
    ] {
        let run = planned(&objects, &cluster(&nodes), "-o json");
        let found: Vec<(String, String)> = results(&run)
            .iter()
            .map(|result| {
                (
                    result["verdict"].as_str().unwrap().to_owned(),
                    result["reason"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(verdict, reason)| (verdict.as_str(), reason.as_str())).collect();
        assert_eq!((run.code, &found), (code, &expected), "{nodes:?}");
    }
}

#[test]
fn the_document_keeps_its_contract() {
    let run =
        planned(&[object("m", json!({}))], &cluster(&[node("l4", "23034"), node("t4", "15360")]), "-o json");
    let result = results(&run).remove(0);
    assert_eq!((&result["namespace"], &result["name"]), (&json!("team-a"), &json!("m")));
    assert!(result["estimate"]["requiredPerGpu"].is_u64());
    let found = |index: usize, field: &str| result["nodes"][index][field].clone();
    for (index, name, verdict, mib) in [(0, "l4", "fits", 23034), (1, "t4", "rejected", 15360)] {
        assert_eq!(found(index, "name"), json!(name));
        assert_eq!(found(index, "verdict"), json!(verdict));
        assert_eq!(found(index, "memoryMiB"), json!(mib));
        assert_eq!(found(index, "product"), json!("GPU-X"));
        assert_eq!(found(index, "gpus"), json!(1));
        assert_eq!(found(index, "freeGpus"), json!(1));
        assert_eq!(found(index, "source"), json!("nvidia.com/gpu.memory"));
    }
    let small = planned(&[object("m", json!({}))], &cluster(&[node("t4", "15360")]), "-o json");
    let result = results(&small).remove(0);
    let suggestion = &result["suggestions"][0];
    assert!(
        suggestion["change"].is_string() && suggestion["requiredPerGpu"].is_u64() && suggestion["nodes"] == 1
    );
    assert!(suggestion["requiredPerGpu"].as_u64() <= Some(15360 << 20), "{suggestion}");
}

#[test]
fn every_format_says_the_same() {
    let objects = [object("m", json!({})), object("typo", json!({"precison": "int4"}))];
    let cluster = cluster(&[node("t4", "15360")]);
    for (format, signs) in [
        ("table", &["team-a/m: rejected (GpuMemoryTooSmall)", "spec.precison: unknown field"][..]),
        ("wide", &["team-a/m: rejected (GpuMemoryTooSmall)", "nvidia.com/gpu.memory", "WOULD FIT"]),
        ("json", &["\"reason\": \"GpuMemoryTooSmall\"", "spec.precison: unknown field"]),
        ("yaml", &["reason: GpuMemoryTooSmall", "spec.precison: unknown field"]),
        ("junit", &["<failure type=\"GpuMemoryTooSmall\"", "<error type=\"InvalidSpec\""]),
        ("sarif", &["\"ruleId\": \"GpuMemoryTooSmall\"", "\"version\": \"2.1.0\"", "\"startLine\": 3"]),
        ("markdown", &["| team-a/m | **rejected** | GpuMemoryTooSmall |"]),
    ] {
        let run = planned(&objects, &cluster, &format!("-o {format}"));
        assert_eq!((run.code, run.stderr.as_str()), (1, ""), "{format}: {}", run.stderr);
        for sign in signs {
            assert!(run.stdout.contains(sign), "{format}: no {sign}\n{}", run.stdout);
        }
    }
}

#[test]
fn other_objects_are_passed_over_with_a_note() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}});
    let run = planned(&[service.clone(), object("m", json!({}))], &cluster(&[node("l4", "23034")]), "");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stderr, "note: standard input: passed over Service web\n");
    let none = planned(&[service], &cluster(&[node("l4", "23034")]), "");
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("error: no ModelDeployment in standard input"), "{}", none.stderr);
}

#[test]
fn files_directories_and_namespaces() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |path: &str, content: String| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    };
    let mut without = object("b", json!({}));
    without["metadata"] = json!({"name": "b"});
    write("a.yaml", object("a", json!({})).to_string());
    write("b.json", without.to_string());
    write("README.md", "not an object".to_owned());
    write("below/c.yml", object("c", json!({})).to_string());
    write("cluster/cluster", cluster(&[node("l4", "23034")]));
    let root = directory.path().display();
    let names = |arguments: &str| -> Vec<String> {
        let run = run(&format!("plan {arguments} --snapshot {root}/cluster/cluster -o json"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let name = |result: &Value| {
            format!("{}/{}", result["namespace"].as_str().unwrap(), result["name"].as_str().unwrap())
        };
        results(&run).iter().map(name).collect()
    };
    assert_eq!(names(&format!("-f {root}")), ["team-a/a", "default/b"]);
    assert_eq!(names(&format!("-f {root} -R -n other")), ["team-a/a", "other/b", "team-a/c"]);
    assert_eq!(names(&format!("-f {root}/b.json -f {root}/a.yaml")), ["default/b", "team-a/a"]);
}

#[test]
fn what_is_wrong_with_files_is_told_with_no_cluster() {
    for (arguments, code, expected) in [
        ("plan -f nowhere.yaml", 1, "nowhere.yaml"),
        ("plan -f examples/config-inline.yaml", 1, "no cluster"),
        ("plan --snapshot examples/cluster.snapshot", 2, "-f FILE"),
        (
            "plan -f examples/cluster.snapshot --snapshot examples/cluster.snapshot",
            1,
            "no ModelDeployment in examples/cluster.snapshot",
        ),
        ("plan -f x -A", 2, "cannot be used with"),
        ("plan -f x -o xml", 2, "markdown"),
    ] {
        let run = run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{arguments}: {}", run.stderr);
    }
}

#[test]
fn specs_that_cannot_be_right_are_refused_by_name() {
    let cluster = cluster(&[node("l4", "23034")]);
    for (changes, expected) in [
        (
            json!({"model": {"parameters": "8B", "catalog": "x"}}),
            "spec.model: parameters and catalog are set together",
        ),
        (json!({"model": {"parameters": "8Q"}}), "spec.model.parameters: \"8Q\""),
        (json!({"model": {"config": {"model_type": "never-heard-of"}}}), "spec.model.config: config.json: "),
        (json!({"context": {"length": -1}}), "spec.context.length: -1"),
        (
            json!({"context": {"length": 9_223_372_036_854_775_808_u64}}),
            "spec.context.length: 9223372036854775808",
        ),
        (json!({"model": {"catalog": "llama-3.1-8"}}), "did you mean llama-3.1-8b?"),
        (json!({"admission": "Off"}), "spec.admission: \"Off\" is not known; known are Deny, Warn, Ignore"),
        (json!({"safetyMargin": "0.5"}), "spec.safetyMargin: \"0.5\""),
        (json!({"safetyMargin": "NaN"}), "spec.safetyMargin: \"NaN\""),
        (json!({"safetyMargin": "1,2"}), "spec.safetyMargin: \"1,2\""),
        (json!({"parallelism": {"tensor": 3}}), "spec.parallelism.tensor: 3 ranks cannot share"),
        (json!({"parallelism": {"tensor": 0}}), "spec.parallelism.tensor: 0"),
        (json!({"training": {"method": "lora", "gpus": 0}}), "spec.training.gpus: 0"),
    ] {
        let run = planned(&[object("bad", changes), object("good", json!({}))], &cluster, "-o json");
        assert_eq!(run.code, 1, "{expected}: {}", run.stderr);
        let results = results(&run);
        let message = results[0]["message"].as_str().expect("a message");
        assert!(message.contains(expected), "no {expected} in {message}");
        assert_eq!((&results[0]["reason"], &results[1]["verdict"]), (&json!("InvalidSpec"), &json!("fits")));
    }
}

#[test]
fn a_model_may_come_from_a_config_map_of_the_same_files() {
    let from_map = |name: &str, map: &str| {
        let mut object = object(name, json!({}));
        object["spec"]["model"] = json!({"configMapRef": {"name": map, "key": "config.json"}});
        object
    };
    let map = |name: &str, config: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "team-a"}, "data": {"config.json": config}});
    let config =
        std::fs::read_to_string("tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json").expect("a fixture");
    let objects = [
        map("qwen", &config),
        map("broken", "{"),
        from_map("good", "qwen"),
        from_map("bad", "broken"),
        from_map("lost", "nowhere"),
    ];
    let run = planned(&objects, &cluster(&[node("l4", "23034")]), "-o json");
    let found: Vec<String> =
        results(&run).iter().map(|result| format!("{} {}", result["verdict"], result["reason"])).collect();
    let expected = [r#""fits" "FitsNow""#, r#""rejected" "InvalidSpec""#, r#""unknown" "ModelNotResolved""#];
    assert_eq!(found, expected, "{}", run.stdout);
    assert!(run.stdout.contains("\\\"nowhere\\\""), "{}", run.stdout);
}

#[test]
fn a_label_cannot_steer_the_terminal() {
    let mut hostile = node("evil\u{1b}[2J", "23034");
    hostile["metadata"]["labels"]["nvidia.com/gpu.product"] = json!("\u{1b}]0;x\u{7}\u{202e}".repeat(50));
    for format in ["table", "wide", "junit", "markdown"] {
        let run = planned(&[object("m", json!({}))], &cluster(&[hostile.clone()]), &format!("-o {format}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(
            !run.stdout.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{:?}",
            run.stdout
        );
    }
}

#[test]
fn the_examples_do_what_they_say() {
    for (example, code, verdict) in [
        ("llama-8b-fp16", 0, "fits 4 nodes, best NVIDIA-L4 22.5 GiB on l4-1"),
        ("llama-8b-int4", 0, "best Tesla-T4 15.0 GiB on t4-1"),
        ("llama-70b-tensor-4", 0, "fits 1 node, best NVIDIA-A100-SXM4-80GB 80.0 GiB on a100-1"),
        ("too-large", 3, "largest GPU is NVIDIA-A100-SXM4-80GB 80.0 GiB on 1 node. Would fit: "),
        ("config-inline", 0, "best Tesla-T4 15.0 GiB on t4-1"),
        ("training-lora", 0, "best NVIDIA-"),
    ] {
        let run = run(&format!("plan -f examples/{example}.yaml --snapshot examples/cluster.snapshot"));
        assert_eq!(run.code, code, "{example}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains(verdict), "{example}: {}", run.stdout);
    }
    let all = run("plan -f examples --snapshot examples/cluster.snapshot -o json");
    assert_eq!((all.code, results(&all).len()), (3, 6), "{}", all.stderr);
}

#[test]
fn what_the_template_requests_is_judged_on_the_nodes_too() {
    let host = |name: &str, cpu: &str| {
        let mut node = node(name, "23034");
        node["status"]["allocatable"]["cpu"] = json!(cpu);
        node
    };
    let web = |cpu: &str| {
        let mut pod = pod("large");
        pod["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": cpu});
        pod
    };
    let asks = |cpu: Value| {
        object(
            "m",
            json!({"template": {"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}}}),
        )
    };
    let nodes = || vec![host("small", "8"), host("large", "32")];
    for (what, cpu, more, code, expected, words) in [
        ("both", json!("8"), vec![], 0, ("fits", "FitsNow"), "fits 2 nodes"),
        ("one", json!(16), vec![], 0, ("fits", "FitsNow"), "fits 1 node"),
        (
            "none",
            json!("64"),
            vec![],
            3,
            ("rejected", "ResourcesTooSmall"),
            "large and 1 more: GPU-X is large enough, and the node has 32 CPU where 64 requested",
        ),
        (
            "in use",
            json!("16"),
            vec![web("20500m")],
            3,
            ("busy", "ResourcesBusy"),
            "large: GPU-X is large enough, and 11.5 of 32 CPU free where 16 requested",
        ),
    ] {
        let run = planned(&[asks(cpu)], &cluster(&[nodes(), more].concat()), "-o json");
        let result = results(&run).remove(0);
        assert_eq!(
            (&result["verdict"], &result["reason"]),
            (&json!(expected.0), &json!(expected.1)),
            "{what}"
        );
        assert!(
            result["message"].as_str().is_some_and(|said| said.contains(words)),
            "{what}: {}",
            result["message"]
        );
        assert_eq!(run.code, code, "{what}");
    }
}
