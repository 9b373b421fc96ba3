use serde_json::{Value, json};

use super::*;

#[allow(clippy::needless_pass_by_value)] // what `json!` makes is nobody else's
fn pod(containers: Value, more: Value) -> Value {
    let mut spec = json!({"containers": containers});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": spec})
}

fn gpus(count: u64) -> Value {
    json!({"limits": {"nvidia.com/gpu": count}})
}

fn one(object: &Value, around: &[Value]) -> Facts {
    let mut found = read(object, around);
    assert_eq!(found.len(), 1, "{object}");
    found.remove(0).facts
}

#[allow(clippy::needless_pass_by_value)] // as above
fn serving(command: Value, env: Value) -> Facts {
    let container = json!({"name": "c", "image": "vllm/vllm-openai:v0.19.0", "command": command, "env": env, "resources": gpus(1)});
    one(&pod(json!([container]), json!({})), &[])
}

#[test]
fn a_workload_that_runs_no_model_is_passed_over_in_silence() {
    for containers in [
        json!([{"name": "web", "image": "nginx"}]),
        json!([{"name": "web", "image": "nginx", "resources": gpus(1)}]),
        json!([{"name": "c", "image": "vllm/vllm-openai", "command": ["sleep", "inf"]}]),
        json!([{"name": "c", "image": "x", "command": ["sh", "-c", "echo vllm serve a/b"]}]),
        json!([{"name": "c", "image": "x", "command": ["vllm", "bench", "serve"]}]),
        json!([]),
        json!(null),
    ] {
        assert_eq!(read(&pod(containers.clone(), json!({})), &[]), [], "{containers}");
    }
    assert_eq!(read(&json!({"apiVersion": "v1", "kind": "Service"}), &[]), []);
    assert_eq!(read(&json!({}), &[]), []);
    assert!(!is_read(&json!({"apiVersion": "batch.example/v1", "kind": "Job"})));
    assert!(is_read(&pod(json!([]), json!({}))) && !is_read(&pod(json!([]), json!({"nodeName": "n"}))));
}

#[test]
fn what_is_not_stated_is_none() {
    let facts = serving(json!(["vllm", "serve", "a/b"]), json!([]));
    assert_eq!(facts.model.repository(), Some("a/b"));
    assert_eq!((facts.precision, facts.context, facts.sequences, facts.cache), (None, None, None, None));
    assert_eq!(
        (facts.tensor, facts.pipeline, facts.data, facts.memory_fraction.clone()),
        (None, None, None, None)
    );
    assert_eq!((facts.gpus.per_pod(), facts.replicas), (Some(1), Some(1)));
    assert!(facts.is_readable(), "{:?}", facts.faults);
}

#[test]
fn values_come_from_the_environment_where_it_says_them() {
    let secret = json!({"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    for (command, env, model, context, fault) in [
        (json!(["vllm", "serve", "$(M)"]), json!([{"name": "M", "value": "a/b"}]), Some("a/b"), None, ""),
        (
            json!(["sh", "-c", "vllm serve $M --max-model-len ${N:-4k}"]),
            json!([{"name": "M", "value": "a/b"}]),
            Some("a/b"),
            Some(4000),
            "",
        ),
        (
            json!(["sh", "-c", "vllm serve ${M} --max_model_len=${N:-4k}"]),
            json!([{"name": "M", "value": "a/b"}, {"name": "N", "value": "8K"}]),
            Some("a/b"),
            Some(8192),
            "",
        ),
        (
            json!(["vllm", "serve", "$(S)"]),
            json!([secret]),
            None,
            None,
            "$(S), whose value is not in the file",
        ),
        (
            json!(["sh", "-c", "vllm serve $S"]),
            json!([secret]),
            None,
            None,
            "$S, whose value is not in the file",
        ),
        (
            json!(["sh", "-c", "vllm serve a/b $MORE_ARGS"]),
            json!([]),
            Some("a/b"),
            None,
            "what $MORE_ARGS stands for",
        ),
        (
            json!(["vllm", "serve", "a/b", "--max-model-len", "$(N)"]),
            json!([]),
            Some("a/b"),
            None,
            "--max-model-len has $(N)",
        ),
        (
            json!(["vllm", "serve", "$(M)"]),
            json!([{"name": "O", "value": "a"}, {"name": "M", "value": "$(O)/b"}]),
            Some("a/b"),
            None,
            "",
        ),
    ] {
        let facts = serving(command.clone(), env);
        assert_eq!((facts.model.repository(), facts.context), (model, context), "{command}");
        let why = facts.why().unwrap_or_default();
        assert!(if fault.is_empty() { why.is_empty() } else { why.contains(fault) }, "{command}: {why}");
    }
}

#[test]
fn config_maps_of_the_same_file_are_read_and_those_of_another_namespace_are_not() {
    let map = |namespace: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": namespace}, "data": {"M": "a/b", "start.sh": "#!/bin/sh\nexec vllm serve $M \"$@\"\n"}});
    let scripted = json!([{
        "name": "c", "image": "vllm/vllm-openai:v0.19.0", "command": ["/bin/sh", "/s/start.sh"], "args": ["-tp", "2"], "resources": gpus(2),
        "envFrom": [{"configMapRef": {"name": "m"}}], "volumeMounts": [{"name": "v", "mountPath": "/s"}],
    }]);
    let object = pod(scripted, json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}]}));
    let facts = one(&object, &[map("a")]);
    assert_eq!((facts.model.repository(), facts.tensor), (Some("a/b"), Some(2)));
    let facts = one(&object, &[map("b")]);
    assert_eq!((facts.program, facts.model.repository()), (None, None));
    assert!(facts.why().unwrap().contains("/s/start.sh is run, which is not in the file"));
}

#[test]
fn gpus_are_counted_as_the_scheduler_does() {
    let engine = |resources: Value| json!({"name": "c", "image": "x", "command": ["vllm", "serve", "a/b"], "resources": resources});
    let helper = |count: u64, always: bool| {
        let mut helper = json!({"name": "h", "image": "y", "resources": gpus(count)});
        if always {
            helper["restartPolicy"] = json!("Always");
        }
        helper
    };
    for (resources, init, expected, readable) in [
        (gpus(1), json!([]), Some(1), true),
        (json!({"requests": {"nvidia.com/gpu": "2"}}), json!([]), Some(2), true),
        (gpus(1), json!([helper(1, true)]), Some(2), true),
        (gpus(1), json!([helper(4, false)]), Some(4), true),
        (json!({"limits": {"nvidia.com/mig-1g.10gb": 2}}), json!([]), Some(2), true),
        (json!({"limits": {"nvidia.com/mig-1g.10gb": 1, "nvidia.com/gpu": 1}}), json!([]), Some(2), false),
        (json!({"limits": {"nvidia.com/gpu": "0"}}), json!([]), Some(0), false),
        (json!({"limits": {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000}}), json!([]), Some(1), false),
        (json!({}), json!([]), None, false),
    ] {
        let facts = one(&pod(json!([engine(resources.clone())]), json!({"initContainers": init})), &[]);
        assert_eq!((facts.gpus.per_pod(), facts.is_readable()), (expected, readable), "{resources}");
    }
    let claim = json!({"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "t"}]});
    let template = json!({"kind": "ResourceClaimTemplate", "metadata": {"name": "t", "namespace": "a"}, "spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}]}}}});
    let claimed = one(&pod(json!([engine(json!({}))]), claim.clone()), &[template]);
    assert_eq!((claimed.gpus.per_pod(), claimed.is_readable()), (Some(2), false));
    assert_eq!(one(&pod(json!([engine(json!({}))]), claim), &[]).gpus.per_pod(), None);
}

#[test]
fn two_engines_in_one_pod_and_two_ways_to_start_are_said() {
    let engine = |name: &str, model: &str| json!({"name": name, "image": "x", "command": ["vllm", "serve", model], "resources": gpus(1)});
    let facts = one(&pod(json!([engine("a", "a/b"), engine("b", "c/d")]), json!({})), &[]);
    assert_eq!((facts.model.repository(), facts.gpus.per_pod()), (None, Some(2)));
    let why = facts.why().unwrap();
    assert!(why.contains("vllm of a/b in container a and vllm of c/d in container b"), "{why}");
    let either = "if [ $I = 0 ]; then vllm serve a/b -tp 2; else vllm serve a/b -tp 2 --headless; fi";
    assert!(serving(json!(["sh", "-c", either]), json!([])).is_readable());
    let either = "if [ $I = 0 ]; then vllm serve a/b; else vllm serve c/d; fi";
    let facts = serving(json!(["sh", "-c", either]), json!([]));
    assert!(facts.why().unwrap().contains("may start either of"), "{:?}", facts.faults);
}

#[test]
fn an_alias_and_a_draft_are_no_model() {
    let speculative = r#"{"model": "draft/model", "num_speculative_tokens": 3}"#;
    let facts = serving(
        json!(["vllm", "serve", "a/b", "--served-model-name", "gpt-4", "--speculative-config", speculative]),
        json!([]),
    );
    assert_eq!(facts.model.repository(), Some("a/b"));
    let facts = serving(
        json!(["vllm", "serve", "/mnt/x", "--served-model-name", "meta-llama/Llama-3.1-8B"]),
        json!([]),
    );
    assert_eq!(facts.model, Model::Path("/mnt/x".to_owned()));
}

#[test]
fn replicas_of_a_stateful_set_may_be_ranks() {
    let set = |kind: &str, replicas: u64, nodes: u64| {
        let command = [
            "python3",
            "-m",
            "sglang.launch_server",
            "--model-path",
            "a/b",
            "--tp",
            "16",
            "--nnodes",
            &nodes.to_string(),
        ];
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "s"}, "spec": {"replicas": replicas, "template": {"spec": {
            "containers": [{"name": "c", "image": "x", "command": command, "resources": gpus(8)}],
        }}}})
    };
    for (kind, replicas, nodes, expected) in [
        ("StatefulSet", 2, 2, (Some(1), Some(2), true)),
        ("StatefulSet", 4, 2, (Some(4), Some(2), true)),
        ("StatefulSet", 2, 1, (Some(2), None, false)),
        ("Deployment", 2, 2, (Some(2), Some(2), true)),
    ] {
        let facts = one(&set(kind, replicas, nodes), &[]);
        assert_eq!((facts.replicas, facts.ranks, facts.is_group), expected, "{kind} {replicas} {nodes}");
    }
}

#[test]
fn what_is_planned_says_what_the_file_says() {
    let facts = serving(
        json!([
            "vllm",
            "serve",
            "meta-llama/Llama-3.1-8B-Instruct",
            "--max-model-len",
            "8192",
            "--dtype",
            "half",
            "--port",
            "80"
        ]),
        json!([]),
    );
    let ask = facts.ask().expect("readable");
    assert_eq!(ask.spec.model.catalog.as_deref(), Some("llama-3.1-8b"));
    assert_eq!(ask.spec.context.and_then(|context| context.length), Some(8192));
    assert_eq!(
        ask.spec.engine.and_then(|engine| engine.args),
        Some(vec!["--dtype".to_owned(), "half".to_owned()])
    );
    assert_eq!(ask.taken, Taken { gpus: 1, resource: "nvidia.com/gpu".to_owned(), is_group: false });
    let facts = serving(json!(["vllm", "serve", "nobody/knows"]), json!([]));
    let ask = facts.ask().expect("readable");
    assert_eq!(ask.spec.model.hugging_face.map(|from| from.repository), Some("nobody/knows".to_owned()));
    assert_eq!(serving(json!(["vllm", "serve", "/x"]), json!([])).ask(), None);
}

proptest::proptest! {
    #[test]
    fn no_words_make_it_panic(words in proptest::collection::vec("[-a-z0-9=/.$(){}\"' ;&|]{0,14}", 0..6), shell in proptest::bool::ANY) {
        let mut command = if shell { vec!["sh".to_owned(), "-c".to_owned()] } else { vec!["vllm".to_owned(), "serve".to_owned()] };
        command.extend(words);
        let container = json!({"name": "c", "image": "vllm/vllm-openai", "command": command, "resources": gpus(1)});
        for workload in read(&pod(json!([container]), json!({})), &[]) {
            let _ = workload.facts.ask();
        }
    }
}
