mod arguments;
mod properties;
mod refusals;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::TensorParallel;
use crate::decide::{Reason, Verdict};
use crate::estimate::{Checkpointing, Sharding};
use crate::inventory::testing::{golden, gpu_node, gpu_pod, node};
use crate::inventory::{Node, Pod, Snapshot, Sources};
use crate::model::hf_config;
use crate::precision::Precision;
use crate::render::change_fields;
use crate::units::Bytes;

const LLAMA_8B: &str = include_str!("../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json");
const LLAMA_70B: &str = include_str!("../../tests/fixtures/configs/meta-llama__Llama-3.1-70B-Instruct.json");
const LLAMA_405B: &str = include_str!("../../tests/fixtures/configs/meta-llama__Meta-Llama-3.1-405B.json");
const MIXTRAL: &str = include_str!("../../tests/fixtures/configs/mistralai__Mixtral-8x22B-v0.1.json");

fn shape(config: &str) -> ModelShape {
    hf_config::parse(config.as_bytes(), "model").unwrap()
}

/// A model of which only the size is known.
fn size_alone() -> ModelShape {
    ModelShape { source: ShapeSource::Parameters, tensors: Vec::new(), ..shape(LLAMA_8B) }
}

/// A spec with these fields; its model is an 8B unless they say otherwise.
#[allow(clippy::needless_pass_by_value)] // The callers write the value in place.
fn spec(fields: Value) -> ModelDeploymentSpec {
    let mut object = json!({"model": {"parameters": "8B"}});
    for (key, value) in fields.as_object().unwrap() {
        object[key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn plan_on(fields: Value, shape: &ModelShape, nodes: Vec<Node>, pods: Vec<Pod>) -> Result<Plan, Refusal> {
    let inventory = Inventory::new(Snapshot::new(nodes, pods), &Sources::default());
    plan(
        Subject { namespace: "default", name: "m", spec: &spec(fields), roll: None, running: None },
        shape,
        &inventory,
    )
}

fn fitting(plan: &Plan) -> Vec<&str> {
    let fits = plan.decision.classes.iter().filter(|class| class.verdict() == Verdict::Fits);
    let mut names: Vec<&str> = fits.flat_map(|class| class.nodes.iter()).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_seed_rules_hold_from_spec_to_node() {
    let modest = json!({"length": 8192, "sequences": 1});
    let mut nodes = golden();
    nodes.push(gpu_node("rtx4090", 24564, 4));
    nodes.push(gpu_node("8gb", 8188, 1));
    for (what, config, fields, expected) in [
        (
            "8B at FP16 takes a 24 GB card and no 16 GB one",
            LLAMA_8B,
            json!({"precision": "fp16", "context": modest}),
            vec!["a100", "h100", "l4", "rtx4090"],
        ),
        (
            "8B at INT4 takes an 8 GB card",
            LLAMA_8B,
            json!({"precision": "int4", "context": {"length": 2048}}),
            vec!["8gb", "a100", "h100", "l4", "rtx4090", "t4"],
        ),
        ("70B at BF16 takes no one card", LLAMA_70B, json!({"precision": "bf16", "context": modest}), vec![]),
        (
            "70B at BF16 takes four large ones",
            LLAMA_70B,
            json!({"precision": "bf16", "context": modest, "parallelism": {"tensor": 4}}),
            vec!["a100", "h100"],
        ),
    ] {
        let plan = plan_on(fields, &shape(config), nodes.clone(), vec![]).unwrap();
        assert_eq!(fitting(&plan), expected, "{what}: needs {}", plan.requirement.per_gpu);
    }
}

#[test]
fn the_requirement_is_the_estimate_times_the_margin() {
    for (margin, thousandths) in [(None, 1200), (Some("1.0"), 1000), (Some("2"), 2000), (Some("1.25"), 1250)]
    {
        let fields = margin.map_or(json!({}), |margin| json!({"safetyMargin": margin}));
        let plan = plan_on(fields, &shape(LLAMA_8B), golden(), vec![]).unwrap();
        let expected = plan.estimate.total_per_gpu.scaled(thousandths, 1000).unwrap();
        assert_eq!((plan.requirement.per_gpu, plan.requirement.gpus), (expected, 1), "{margin:?}");
    }
}

#[test]
fn the_defaults_are_those_of_the_api() {
    let workload =
        |fields, shape: &ModelShape| plan_on(fields, shape, vec![], vec![]).unwrap().estimate.workload;
    let known = workload(json!({}), &shape(LLAMA_8B));
    assert_eq!((known.context, known.sequences, known.tensor, known.pipeline), (Some(131_072), 1, 1, 1));
    assert_eq!((known.engine.as_str(), known.precision), ("vllm", Some(Precision::Bf16)));
    assert_eq!(
        workload(json!({}), &size_alone()).context,
        Some(8192),
        "of a size alone nobody knows the context"
    );
    let unsaid = ModelShape { max_context: None, ..shape(LLAMA_8B) };
    assert_eq!(workload(json!({}), &unsaid).context, Some(8192));
    for (args, tokens) in [
        (json!(["--max-num-batched-tokens=1024"]), 1024),
        (json!(["--max-num-batched-tokens", "1024"]), 1024),
        (json!(["--max-num-batched-tokens", "512", "--max-num-batched-tokens", "1024"]), 1024),
    ] {
        let fields = json!({"engine": {"name": "vllm", "args": args}});
        assert_eq!(workload(fields, &shape(LLAMA_8B)).batched_tokens, Some(tokens));
    }
}

#[test]
fn tensor_auto_is_the_smallest_that_some_node_has_room_for() {
    let fields =
        || json!({"precision": "bf16", "context": {"length": 8192}, "parallelism": {"tensor": "auto"}});
    let tensor = |config: &str, nodes: Vec<Node>, pods: Vec<Pod>| {
        plan_on(fields(), &shape(config), nodes, pods).unwrap().estimate.workload.tensor
    };
    assert_eq!(tensor(LLAMA_8B, golden(), vec![]), 1);
    assert_eq!(tensor(LLAMA_8B, vec![gpu_node("t4", 15360, 4)], vec![]), 2);
    assert_eq!(tensor(LLAMA_70B, golden(), vec![]), 4);
    assert_eq!(tensor(LLAMA_70B, vec![gpu_node("l4", 23034, 16)], vec![]), 16);
    // Use of the GPUs changes by the minute; what is asked for must not.
    let busy = vec![gpu_pod("p", "big", 8)];
    assert_eq!(tensor(LLAMA_70B, vec![gpu_node("big", 143_771, 8)], busy), 2);
    // In a cluster that has none, what could be brought.
    assert_eq!(tensor(LLAMA_70B, vec![], vec![]), 1);
    assert_eq!(tensor(LLAMA_405B, vec![], vec![]), 4);
}

#[test]
fn suggestions_say_what_would_fit() {
    // Of an estimate alone nothing has to run.
    let (modest, none) = (json!({"length": 8192}), json!({"name": "none"}));
    let t4 = || vec![gpu_node("t4", 15360, 4)];
    let plan =
        plan_on(json!({"precision": "fp16", "context": modest, "engine": none}), &size_alone(), t4(), vec![])
            .unwrap();
    assert_eq!(plan.decision.reason(), Reason::GpuMemoryTooSmall);
    let changes: Vec<String> = plan
        .decision
        .suggestions
        .iter()
        .map(|suggestion| {
            change_fields(&suggestion.change)
                .iter()
                .map(|(field, value)| format!("{field}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert!(changes.contains(&"precision=int4".to_owned()), "{changes:?}");
    assert!(changes.contains(&"tensor=2".to_owned()), "{changes:?}");
    for suggestion in &plan.decision.suggestions {
        assert!(suggestion.requirement.per_gpu <= Bytes::from_mib(15360).unwrap(), "{suggestion:?}");
        assert_eq!(suggestion.nodes, 1);
    }
    let fits =
        plan_on(json!({"precision": "int4", "context": modest, "engine": none}), &size_alone(), t4(), vec![])
            .unwrap();
    assert!(fits.decision.suggestions.is_empty(), "{:?}", fits.decision.suggestions);
}

/// Applies a suggestion to a spec as a user would.
fn changed(mut spec: ModelDeploymentSpec, fields: &[(&'static str, String)]) -> ModelDeploymentSpec {
    for (field, value) in fields {
        let mut context = spec.context.clone().unwrap_or_default();
        match *field {
            "precision" => spec.precision = Some(value.parse().unwrap()),
            "tensor" => {
                let ranks = TensorParallel::Ranks(value.parse().unwrap());
                spec.parallelism.get_or_insert_default().tensor = Some(ranks);
            }
            "context" => context.length = Some(value.parse().unwrap()),
            "sequences" => context.sequences = Some(value.parse().unwrap()),
            "cachePrecision" => context.cache_precision = Some(value.parse().unwrap()),
            other => panic!("no field for {other}"),
        }
        spec.context = Some(context);
    }
    spec
}

#[test]
fn a_suggestion_that_is_followed_fits() {
    let clusters = [
        vec![gpu_node("t4", 15360, 4)],
        vec![gpu_node("l4", 23034, 8)],
        vec![gpu_node("small", 8188, 1)],
        golden(),
    ];
    let mut followed = 0;
    for (config, fields) in [
        (LLAMA_8B, json!({"engine": {"name": "none"}})),
        (LLAMA_8B, json!({"model": {"catalog": "llama-3.1-8b"}})),
        (LLAMA_8B, json!({"model": {"catalog": "llama-3.1-8b"}, "engine": {"name": "sglang"}})),
        (LLAMA_8B, json!({"engine": {"name": "none"}, "context": {"length": 65536, "sequences": 16}})),
        (LLAMA_70B, json!({"model": {"catalog": "llama-3.1-70b"}, "context": {"length": 8192}})),
        (
            LLAMA_70B,
            json!({"engine": {"name": "none"}, "context": {"length": 8192}, "parallelism": {"tensor": 8}}),
        ),
    ] {
        for nodes in &clusters {
            let plan = plan_on(fields.clone(), &shape(config), nodes.clone(), vec![]).unwrap();
            for suggestion in &plan.decision.suggestions {
                let spec = changed(spec(fields.clone()), &change_fields(&suggestion.change));
                let inventory = Inventory::new(Snapshot::new(nodes.clone(), []), &Sources::default());
                let subject =
                    Subject { namespace: "default", name: "m", spec: &spec, roll: None, running: None };
                let again = super::plan(subject, &shape(config), &inventory).unwrap();
                assert_eq!(again.decision.verdict(), Verdict::Fits, "{suggestion:?}");
                assert_eq!(again.launch.obstacle(), None, "{suggestion:?}");
                assert_eq!(again.requirement, suggestion.requirement);
                followed += 1;
            }
        }
    }
    assert!(followed > 10, "{followed}");
}

#[test]
fn a_template_binds_the_pods_as_placement_does() {
    let mut labelled = gpu_node("a", 81920, 4);
    labelled.labels.insert("pool".into(), "a".into());
    let mut tainted = gpu_node("b", 81920, 4);
    let team = crate::inventory::Taint { key: "team".into(), value: "x".into(), effect: "NoSchedule".into() };
    tainted.taints.push(team);
    let nodes = || vec![labelled.clone(), tainted.clone()];
    let context = json!({"length": 4096});
    for (what, fields, expected) in [
        ("nothing said", json!({}), vec!["a"]),
        ("placement selects", json!({"placement": {"nodeSelector": {"pool": "b"}}}), vec![]),
        ("template selects", json!({"template": {"spec": {"nodeSelector": {"pool": "b"}}}}), vec![]),
        (
            "placement tolerates",
            json!({"placement": {"tolerations": [{"key": "team", "operator": "Exists"}]}}),
            vec!["a", "b"],
        ),
        (
            "template tolerates",
            json!({"template": {"spec": {"tolerations": [{"key": "team", "value": "x"}]}}}),
            vec!["a", "b"],
        ),
    ] {
        let mut fields = fields;
        fields["context"] = context.clone();
        let plan = plan_on(fields, &shape(LLAMA_8B), nodes(), vec![]).unwrap();
        assert_eq!(fitting(&plan), expected, "{what}");
    }
}

#[test]
fn what_a_template_requests_is_judged() {
    let small = || {
        let host = crate::inventory::Capacity([Some(8_000), Some(64 << 30), None, Some(110)]);
        Node { host, ..gpu_node("a", 81920, 4) }
    };
    let containers = |resources: Value| json!([{"resources": resources}, {"image": "x", "resources": {"requests": {"cpu": "1"}}}]);
    for (resources, expected) in [
        (json!({}), Reason::FitsNow),
        (json!({"requests": {"cpu": "7"}}), Reason::FitsNow),
        (json!({"requests": {"cpu": 7, "memory": "64Gi"}}), Reason::FitsNow),
        (json!({"requests": {"cpu": "7001m"}}), Reason::ResourcesTooSmall),
        (json!({"limits": {"cpu": 8}}), Reason::ResourcesTooSmall),
        (json!({"limits": {"cpu": 8}, "requests": {"cpu": 1}}), Reason::FitsNow),
        (json!({"requests": {"memory": "65Gi"}}), Reason::ResourcesTooSmall),
        (json!({"requests": {"ephemeral-storage": "65Ti"}}), Reason::FitsNow),
        (json!({"requests": {"rdma/hca": 1}}), Reason::ResourcesTooSmall),
        (json!({"limits": {"nvidia.com/gpu": 1}}), Reason::FitsNow),
    ] {
        let fields = json!({"context": {"length": 4096}, "template": {"spec": {"containers": containers(resources.clone())}}});
        let plan = plan_on(fields, &shape(LLAMA_8B), vec![small()], vec![]).unwrap();
        assert_eq!(plan.decision.reason(), expected, "{resources}");
    }
    let faulty =
        json!({"template": {"spec": {"containers": containers(json!({"requests": {"cpu": "lots"}}))}}});
    let refusal = plan_on(faulty, &shape(LLAMA_8B), vec![small()], vec![]).unwrap_err().to_string();
    for words in ["template.spec.containers[0].resources.requests", "cpu: \"lots\"", "500m"] {
        assert!(refusal.contains(words), "{words} not in {refusal}");
    }
}

#[test]
fn its_own_pods_do_not_make_it_busy() {
    let own = Pod { model_deployment: Some("m".into()), ..gpu_pod("own", "a", 1) };
    let nodes = || vec![gpu_node("a", 81920, 1)];
    let fields = || json!({"context": {"length": 4096}});
    let busy = plan_on(fields(), &shape(LLAMA_8B), nodes(), vec![gpu_pod("other", "a", 1)]).unwrap();
    assert_eq!(busy.decision.reason(), Reason::GpusBusy);
    assert_eq!(
        plan_on(fields(), &shape(LLAMA_8B), nodes(), vec![own]).unwrap().decision.reason(),
        Reason::FitsNow
    );
}

#[test]
fn the_source_is_the_one_that_is_set() {
    let source = |model: Value| {
        let spec = spec(json!({"model": model}));
        let name = match spec_source(&spec).unwrap() {
            SpecSource::Parameters(_) => "parameters",
            SpecSource::HuggingFace(_) => "huggingFace",
            SpecSource::HuggingFaceGguf(_) => "huggingFaceGguf",
            SpecSource::GgufUrl(_) => "gguf",
            SpecSource::Config(_) => "config",
            SpecSource::ConfigMap(_) => "configMapRef",
            SpecSource::Catalog(_) => "catalog",
        };
        name.to_owned()
    };
    for (model, expected) in [
        (json!({"parameters": "8B"}), "parameters"),
        (json!({"parameters": "8B", "config": {}}), "config"),
        (json!({"huggingFace": {"repository": "a/b"}}), "huggingFace"),
        (json!({"huggingFace": {"repository": "a/b", "file": "x.gguf"}}), "huggingFaceGguf"),
        (json!({"gguf": {"huggingFace": {"repository": "a/b", "file": "x.gguf"}}}), "huggingFaceGguf"),
        (json!({"gguf": {"url": "https://x/y.gguf"}}), "gguf"),
        (json!({"configMapRef": {"name": "a", "key": "b"}}), "configMapRef"),
        (json!({"catalog": "llama-3.1-8b"}), "catalog"),
    ] {
        assert_eq!(source(model.clone()), expected, "{model}");
    }
    for elsewhere in
        [json!({"huggingFace": {"repository": "a/b"}}), json!({"configMapRef": {"name": "a", "key": "b"}})]
    {
        assert!(resolve_pure(&spec(json!({"model": elsewhere}))).is_none());
    }
}

#[test]
fn the_published_size_is_compared_with_the_config() {
    let config = |config: &str| serde_json::from_str::<Value>(config).unwrap();
    let resolve = |text: &str, size: &str| {
        resolve_pure(&spec(json!({"model": {"config": config(text), "parameters": size}}))).unwrap()
    };
    let shape = resolve(LLAMA_8B, "8B").unwrap();
    assert!(
        shape.notes.iter().any(|note| note.contains("8.03B") && note.contains("8B")),
        "{:?}",
        shape.notes
    );
    let error = resolve(LLAMA_8B, "70B").unwrap_err().to_string();
    assert!(error.starts_with("spec.model.parameters: 70B") && error.contains("8.03B"), "{error}");
    // A mixture is often named by its active parameters.
    assert_eq!(resolve(MIXTRAL, "39B").map(|shape| shape.experts.is_some()), Ok(true));
    let broken =
        resolve_pure(&spec(json!({"model": {"config": {"model_type": "llama"}}}))).unwrap().unwrap_err();
    assert!(broken.to_string().starts_with("spec.model.config: "), "{broken}");
}

#[test]
fn training_is_read_with_its_defaults() {
    let read = |fields: Value| workload::read(&spec(fields), Some(&shape(LLAMA_8B))).unwrap().workload;
    let one = read(json!({"training": {"method": "full"}}));
    let training = one.training.clone().unwrap();
    assert_eq!((one.context, one.sequences, training.gpus, training.lora_rank), (Some(2048), 1, 1, 16));
    assert_eq!((training.sharding, training.gradient_checkpointing), (Sharding::None, Checkpointing::Full));
    assert_eq!(training.lora_targets, ["all-linear"]);
    let many =
        read(json!({"training": {"method": "lora", "gpus": 4, "microBatch": 2, "sequenceLength": 512}}));
    assert_eq!((many.context, many.sequences), (Some(512), 2));
    assert_eq!(many.training.map(|training| training.sharding), Some(Sharding::Ddp));
}

#[test]
fn a_cluster_that_cannot_be_read_is_unknown() {
    let bare = node("n", &[], &[("nvidia.com/gpu", 8)]);
    let plan = plan_on(json!({"context": {"length": 4096}}), &shape(LLAMA_8B), vec![bare], vec![]).unwrap();
    assert_eq!((plan.decision.verdict(), plan.decision.reason()), (Verdict::Unknown, Reason::LabelMissing));
    assert_eq!((plan.source.as_str(), plan.architecture.as_str()), ("config", "llama"));
}

#[test]
fn a_catalog_entry_is_served_from_the_repository_that_it_was_called_by() {
    for (name, expected) in [
        ("llama-3.1-8b", Some("meta-llama/Llama-3.1-8B")),
        ("meta-llama/Llama-3.1-8B", Some("meta-llama/Llama-3.1-8B")),
        ("meta-llama/Llama-3.1-8B-Instruct", Some("meta-llama/Llama-3.1-8B-Instruct")),
        ("nonsense", None),
    ] {
        let spec = spec(json!({"model": {"catalog": name}}));
        assert_eq!(repository(&spec).as_deref(), expected, "{name}");
    }
}

#[test]
fn the_templates_own_affinity_is_judged_as_a_selector_is() {
    let labelled = |name: &str, zone: &str| {
        let mut node = gpu_node(name, 81920, 4);
        node.labels.insert("zone".to_owned(), zone.to_owned());
        node
    };
    let nodes = || vec![labelled("a", "a"), labelled("b", "b"), gpu_node("bare", 81920, 4)];
    let with = |terms: Value| {
        let fields = json!({"context": {"length": 4096}, "engine": {"name": "none"}, "template": {"spec": {
            "containers": [{"image": "i"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
        }}});
        plan_on(fields, &shape(LLAMA_8B), nodes(), vec![])
    };
    let zone = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]});
    for (terms, expected) in [
        (json!([zone("In", &["a"])]), vec!["a"]),
        (json!([zone("In", &["a"]), zone("In", &["b"])]), vec!["a", "b"]),
        (json!([zone("NotIn", &["a"])]), vec!["b", "bare"]),
        (json!([zone("In", &["nowhere"])]), vec![]),
        (
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["bare"]}]}]),
            vec!["bare"],
        ),
        (json!([{}, zone("Exists", &[])]), vec!["a", "b"]),
    ] {
        let plan = with(terms.clone()).unwrap();
        let mut found = fitting(&plan);
        found.sort_unstable();
        assert_eq!(found, expected, "{terms}");
        if expected.is_empty() {
            assert_eq!(plan.decision.reason(), Reason::SelectorMismatch);
        }
    }
    let error = with(json!([zone("Like", &["a"])])).unwrap_err().to_string();
    assert!(error.starts_with("spec.template.spec.affinity") && error.contains("\"Like\""), "{error}");
}

#[test]
fn pods_that_run_are_judged_by_what_they_were_written_with() {
    use crate::launch::{Record, Running};
    let spec = spec(json!({"model": {"catalog": "llama-3.1-8b"}, "context": {"length": 4096}}));
    let (model, nodes) = (shape(LLAMA_8B), vec![gpu_node("l4", 23034, 4), gpu_node("a100", 81920, 4)]);
    let inventory = Inventory::new(Snapshot::new(nodes, []), &Sources::default());
    let subject = Subject { namespace: "default", name: "m", spec: &spec, roll: None, running: None };
    let anew = super::plan(subject, &model, &inventory).unwrap();
    assert_eq!(fitting(&anew).len(), 2);
    let Launch::Run(pods) = &anew.launch else { panic!("{:?}", anew.launch) };
    // An earlier release demanded more of the label, and of another besides.
    let mut record = Record::new(&spec, None, pods);
    let required =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    *record.template.pointer_mut(required).unwrap() = json!([{"matchExpressions": [
        {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["40000"]},
    ]}]);
    let requested = Some(("nvidia.com/gpu".to_owned(), 1));
    let running = Running { record: Some(record), requested, is_any_ready: true, is_at_rest: false };
    let kept = super::plan(Subject { running: Some(&running), ..subject }, &model, &inventory).unwrap();
    // Of no pods nothing has to stay: what starts from none starts by the present estimate.
    let at_rest = Running { is_at_rest: true, ..running.clone() };
    let anew = super::plan(Subject { running: Some(&at_rest), ..subject }, &model, &inventory).unwrap();
    assert!(kept.kept.is_some() && anew.kept.is_none());
    assert_eq!(fitting(&kept), ["a100"], "{:?}", kept.decision.classes);
    assert!(kept.kept.is_some());
}

/// Whoever follows a suggestion has something that runs, whatever the arguments and the template say already.
#[test]
fn a_suggestion_contradicts_nothing_that_the_spec_says() {
    let inventory = Inventory::new(Snapshot::new(golden(), []), &Sources::default());
    let gpu = json!({"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}});
    let mut followed = 0;
    for (engine, template, context) in [
        (json!({"name": "vllm"}), json!({}), json!({"length": 8192})),
        (json!({"name": "vllm", "args": ["--max-model-len=32768"]}), json!({}), json!({"sequences": 32})),
        (json!({"name": "vllm", "args": ["--max-num-seqs=8"]}), json!({}), json!({"sequences": 8})),
        (json!({"name": "sglang", "args": ["--tp-size=1"]}), json!({}), json!({"length": 131_072})),
        (json!({"name": "vllm", "args": ["--quantization", "fp8"]}), json!({}), json!({"length": 8192})),
        (json!({"name": "vllm"}), gpu, json!({"length": 131_072, "sequences": 8})),
    ] {
        let written = json!({
            "model": {"catalog": "llama-3.1-70b"}, "engine": engine, "template": template, "context": context,
        });
        let spec: ModelDeploymentSpec = serde_json::from_value(written.clone()).unwrap();
        let shape = resolve_pure(&spec).unwrap().unwrap();
        let planned = |spec: &ModelDeploymentSpec| {
            plan(Subject { namespace: "a", name: "m", spec, roll: None, running: None }, &shape, &inventory)
        };
        for suggestion in planned(&spec).unwrap().decision.suggestions {
            let changed = planned(&apply(&suggestion.change, &spec));
            let changed =
                changed.unwrap_or_else(|error| panic!("{written} {:?}: {error}", suggestion.change));
            assert_eq!(changed.requirement, suggestion.requirement, "{written} {:?}", suggestion.change);
            assert!(changed.launch.pods().is_some(), "{written} {:?}", suggestion.change);
            followed += 1;
        }
    }
    assert!(followed >= 4, "only {followed} suggestions");
}
