//! `loadline plan` and the controller say the same of any object, with any pod template.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use loadline::api::{ModelDeployment, ModelDeploymentSpec};
use loadline::controller::resolve::{Desired, Present, Resolved, resolve, unresolved};
use loadline::decide::Reason;
use loadline::inventory::Inventory;
use loadline::launch::Launch;
use loadline::model::ModelShape;
use loadline::plan::{Permits, Subject, check, resolve_pure};
use loadline::render::{Found, Origin, Outcome};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::sweep::{NARROW, ROOMY};

const NAMESPACE: &str = "team-a";

/// An object of those fields that are there.
fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let there = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect::<Map<String, Value>>())
}

fn one_of(values: Vec<Value>) -> impl Strategy<Value = Value> {
    select(values)
}

/// Nothing, mostly; else one of these.
fn seldom(values: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    option::weighted(0.2, one_of(values))
}

fn model() -> impl Strategy<Value = Value> {
    let config = json!({
        "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128_256,
        "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    });
    prop_oneof![
        6 => one_of(vec![
            json!({"catalog": "llama-3.1-8b"}), json!({"catalog": "Qwen/Qwen3-0.6B"}), json!({"catalog": "gpt-oss-20b"}),
            json!({"catalog": "deepseek-v3"}), json!({"catalog": "bert-base-uncased"}),
        ]),
        3 => one_of(vec![json!({"parameters": "8B"}), json!({"parameters": "500M"}), json!({"parameters": "2T"})]),
        2 => Just(json!({"config": config})),
        1 => one_of(vec![
            json!({}), json!({"catalog": "lama"}), json!({"parameters": "8Q"}), json!({"config": {"model_type": "none"}}),
            json!({"catalog": "llama-3.1-8b", "parameters": "8B"}),
        ]),
    ]
}

fn engine() -> impl Strategy<Value = Value> {
    let name = select(vec!["vllm", "vllm", "vllm", "sglang", "llama-cpp", "tgi", "transformers", "none"]);
    let image = seldom(vec![json!("vllm/vllm-openai:v0.19.0"), json!("site/own:1"), json!("")]);
    let args = select(vec![
        json!(["--model", "org/other"]),
        json!(["--max-model-len=4096"]),
        json!(["--max-num-seqs", "4"]),
        json!(["--tensor-parallel-size", "2"]),
        json!(["--gpu-memory-utilization", "0.5"]),
        json!(["--quantization", "fp8"]),
        json!(["--dtype", "float16"]),
        json!(["--data-parallel-size", "2"]),
        json!(["--nnodes=2"]),
        json!(["--enable-lora", "--max-loras", "4"]),
        json!(["org/other"]),
        json!(["--"]),
        json!([]),
    ]);
    (name, image, option::weighted(0.3, args)).prop_map(|(name, image, args)| {
        object(vec![("name", Some(json!(name))), ("image", image), ("args", args)])
    })
}

fn resources() -> impl Strategy<Value = Value> {
    one_of(vec![
        json!({"limits": {"nvidia.com/gpu": "1"}}),
        json!({"limits": {"nvidia.com/gpu": 1}, "requests": {"nvidia.com/gpu": "1"}}),
        json!({"limits": {"nvidia.com/gpu": "8"}}),
        json!({"limits": {"nvidia.com/gpu": "0"}}),
        json!({"requests": {"nvidia.com/mig-1g.10gb": "1"}}),
        json!({"limits": {"amd.com/gpu": "1"}}),
        json!({"requests": {"cpu": "1000m", "memory": "16Gi"}}),
        json!({"limits": {"nvidia.com/gpu": "many"}}),
        json!({"limits": "no"}),
    ])
}

fn container() -> impl Strategy<Value = Value> {
    (
        option::weighted(0.6, select(vec!["model", "proxy", "metrics", ""])),
        option::weighted(0.6, select(vec!["site/own:1", "vllm/vllm-openai:v0.19.0", "envoy:1", ""])),
        seldom(vec![json!(["serve"]), json!([]), json!("serve")]),
        seldom(vec![json!(["--model", "org/other"]), json!([]), json!(["--port=9"])]),
        seldom(vec![
            json!([{"name": "MODEL_ID", "value": "org/other"}]),
            json!([{"name": "A", "value": "b"}]),
            json!(7),
        ]),
        option::weighted(0.3, resources()),
        seldom(vec![json!("Always"), json!("Never")]),
    )
        .prop_map(|(name, image, command, args, env, resources, restart)| {
            object(vec![
                ("name", name.map(Value::from)),
                ("image", image.map(Value::from)),
                ("command", command),
                ("args", args),
                ("env", env),
                ("resources", resources),
                ("restartPolicy", restart),
            ])
        })
}

fn containers() -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => vec(container(), 0..3).prop_map(Value::Array),
        1 => one_of(vec![json!("no"), json!(null), json!([7]), json!({})]),
    ]
}

fn affinity() -> impl Strategy<Value = Value> {
    let terms = one_of(vec![
        json!([{"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4"]}]}]),
        json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["nowhere"]}]}]),
        json!([{"matchExpressions": [{"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["30000"]}]}]),
        json!([{"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, {}]),
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["l4-0"]}]}]),
        json!([{"matchExpressions": [{"key": "zone", "operator": "Near", "values": ["a"]}]}]),
        json!([{"matchExpressions": [{"key": "nvidia.com/gpu.memory", "operator": "Lt", "values": ["a"]}]}]),
        json!([{}]),
        json!([]),
        json!("all"),
    ]);
    terms.prop_map(|terms| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    })
}

fn template() -> impl Strategy<Value = Value> {
    let pod = (
        option::weighted(0.8, containers()),
        option::weighted(0.25, containers()),
        option::weighted(0.2, affinity()),
        seldom(vec![
            json!({"nvidia.com/gpu.product": "NVIDIA-L4"}),
            json!({"zone": "nowhere"}),
            json!({"a": 1}),
        ]),
        seldom(vec![
            json!([{"operator": "Exists"}]),
            json!([{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]),
            json!([{"key": "a", "operator": "Like"}]),
            json!([{"operator": "Equal"}]),
        ]),
        option::weighted(0.03, Just(json!("l4-0"))),
    );
    let metadata =
        seldom(vec![json!({"labels": {"team": "a"}}), json!({"labels": 7}), json!(7), json!(null)]);
    let whole =
        (pod, metadata).prop_map(|((containers, init, affinity, selector, tolerations, node), metadata)| {
            let pod = object(vec![
                ("containers", containers),
                ("initContainers", init),
                ("affinity", affinity),
                ("nodeSelector", selector),
                ("tolerations", tolerations),
                ("nodeName", node),
            ]);
            object(vec![("metadata", metadata), ("spec", Some(pod))])
        });
    prop_oneof![
        20 => whole,
        1 => one_of(vec![json!({}), json!({"spec": null}), json!({"spec": 7}), json!("no"), json!([])]),
    ]
}

/// Any values in any fields: most are refused, for many reasons at once.
fn wild() -> impl Strategy<Value = Value> {
    let sizes = (
        option::weighted(
            0.4,
            select(vec![
                "bf16",
                "fp32",
                "fp8",
                "int8",
                "int4",
                "awq-int4",
                "nf4",
                "mxfp4",
                "q4_k_m",
                "fp8-block",
            ]),
        ),
        option::weighted(
            0.6,
            one_of(vec![
                json!({"length": 2048}),
                json!({"length": 8192, "sequences": 8}),
                json!({"length": 0}),
                json!({"length": 4096, "cachePrecision": "fp8"}),
                json!({"length": 4096, "cachePrecision": "q8_0"}),
                json!({"length": 100_000_000}),
            ]),
        ),
        seldom(vec![
            json!({"tensor": "auto"}),
            json!({"tensor": 2}),
            json!({"tensor": 3}),
            json!({"tensor": "many"}),
            json!({"tensor": 2, "pipeline": 2}),
            json!({"tensor": 0}),
        ]),
        seldom(vec![json!("1.0"), json!("3"), json!("0.9"), json!("")]),
    );
    let running = (
        option::weighted(0.7, engine()),
        option::weighted(0.6, template()),
        seldom(vec![json!(0), json!(3), json!(-1)]),
        option::weighted(0.05, one_of(vec![json!("Warn"), json!("Deny")])),
        seldom(vec![
            json!({"sharing": "Shared"}),
            json!({"nodeSelector": {"zone": "nowhere"}}),
            json!({"vendors": ["amd"]}),
            json!({"strategy": "LargestFit"}),
            json!({"mode": "Gated"}),
            json!({"nodeSelector": {"a b": "c"}}),
            json!({"tolerations": [{"operator": "Exists", "value": "x"}]}),
        ]),
        option::weighted(0.05, one_of(vec![json!({"method": "lora"}), json!({"method": "full", "gpus": 8})])),
    );
    (model(), sizes, running).prop_map(|(model, sizes, running)| {
        let (precision, context, parallelism, margin) = sizes;
        let (engine, template, replicas, admission, placement, training) = running;
        object(vec![
            ("model", Some(model)),
            ("precision", precision.map(Value::from)),
            ("context", context),
            ("parallelism", parallelism),
            ("safetyMargin", margin),
            ("engine", engine),
            ("template", template),
            ("replicas", replicas),
            ("admission", admission),
            ("placement", placement),
            ("training", training),
        ])
    })
}

/// A spec that is right, in which at most one field has any value: what else would be hidden behind another refusal.
fn nearly_right() -> impl Strategy<Value = Value> {
    let right = one_of(vec![
        json!({"model": {"catalog": "llama-3.1-8b"}}),
        json!({"model": {"catalog": "gpt-oss-20b"}, "context": {"length": 8192}}),
        json!({"model": {"catalog": "Qwen/Qwen3-0.6B"}, "engine": {"name": "sglang"}, "replicas": 2}),
        json!({"model": {"catalog": "deepseek-v3"}, "parallelism": {"tensor": 8}, "context": {"length": 4096}}),
        json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "site/own:1"}}),
        json!({"model": {"parameters": "500M"}, "engine": {"name": "none"}}),
    ]);
    let field = option::weighted(
        0.7,
        select(vec![
            "model",
            "precision",
            "context",
            "parallelism",
            "safetyMargin",
            "engine",
            "template",
            "replicas",
            "placement",
            "training",
        ]),
    );
    (right, field, wild()).prop_map(|(mut right, field, wild)| {
        if let Some((field, value)) = field.and_then(|field| Some((field, wild.get(field)?))) {
            right[field] = value.clone();
        }
        right
    })
}

fn spec() -> impl Strategy<Value = Value> {
    prop_oneof![wild(), nearly_right()]
}

/// The shape of a model that the spec describes, as both find it.
fn shape(spec: &ModelDeploymentSpec) -> Result<Arc<ModelShape>, Found> {
    let shape = resolve_pure(spec).expect("none of them is to be read from elsewhere");
    shape.map(Arc::new).map_err(Found::from)
}

/// What `loadline plan` prints of it.
fn planned(name: &str, spec: &ModelDeploymentSpec, inventory: &Inventory) -> Found {
    let subject = Subject { namespace: NAMESPACE, name, spec, roll: None, running: None };
    Found::of(subject, &Permits::default(), inventory, || shape(spec))
}

/// What the controller does of it.
fn reconciled(name: &str, spec: &ModelDeploymentSpec, inventory: &Inventory) -> Resolved {
    let mut object = ModelDeployment::new(name, spec.clone());
    object.metadata.namespace = Some(NAMESPACE.to_owned());
    object.metadata.uid = Some("0a".to_owned());
    object.metadata.generation = Some(1);
    if let Err(refusal) = check(spec) {
        return unresolved(Found::Refused(refusal), &object, None);
    }
    match shape(spec) {
        Ok(shape) => resolve(&object, &shape, inventory, Present::default(), |_| None),
        Err(found) => unresolved(found, &object, None),
    }
}

fn outcome(name: &str, found: Found) -> Outcome {
    Outcome {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        origin: Origin::default(),
        workload: None,
        found,
    }
}

/// What is to become of a workload, in a word.
fn word(desired: &Desired) -> &'static str {
    match desired {
        Desired::Deployment(_) => "runs",
        Desired::None => "estimate only",
        Desired::AsItIs => "as it is",
    }
}

#[test]
fn plan_and_the_controller_say_the_same_of_any_object() {
    let counts: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let name = prop_oneof![20 => Just("model".to_owned()), 1 => Just("m".repeat(64))];
    let cases = runner.config().cases;
    let result = runner.run(&(name, spec(), any::<bool>()), |(name, written, is_roomy)| {
        // What the schema refuses reaches neither.
        let Ok(spec) = serde_json::from_value::<ModelDeploymentSpec>(written.clone()) else {
            *counts.borrow_mut().entry("not of the schema".to_owned()).or_default() += 1;
            return Ok(());
        };
        let inventory: &Inventory = if is_roomy { &ROOMY } else { &NARROW };
        let told = outcome(&name, planned(&name, &spec, inventory));
        let Resolved { found, desired, .. } = reconciled(&name, &spec, inventory);
        let done = outcome(&name, found);
        let answer = |outcome: &Outcome| (outcome.verdict(), outcome.reason(), outcome.message());
        prop_assert_eq!(answer(&told), answer(&done), "{}", written);
        let wanted = match &told.found {
            Found::Planned(plan) => match &plan.launch {
                Launch::Run(pods) if plan.decision.reason() != Reason::NeverFits => {
                    if let Desired::Deployment(deployment) = &desired {
                        prop_assert_eq!(&deployment["spec"]["template"], &pods.template, "{}", written);
                    }
                    "runs"
                }
                Launch::Nothing(nothing) if nothing.is_by_choice() => "estimate only",
                Launch::Run(_) | Launch::Nothing(_) => "as it is",
            },
            _ => "as it is",
        };
        prop_assert_eq!(wanted, word(&desired), "{}", written);
        *counts.borrow_mut().entry(format!("{wanted}: {}", told.reason())).or_default() += 1;
        Ok(())
    });
    let counts = counts.into_inner();
    for (outcome, count) in &counts {
        eprintln!("{count:8} {outcome}");
    }
    result.expect("they agree");
    // The cases are of every kind.
    let of = |word: &str| {
        counts.iter().filter(|(outcome, _)| outcome.starts_with(word)).map(|(_, count)| count).sum::<usize>()
    };
    let tenth = usize::try_from(cases / 10).expect("a number");
    assert!(of("runs") >= tenth && of("as it is: InvalidSpec") >= tenth, "{counts:?}");
    assert!(cases < 200 || (of("estimate only") > 0 && of("as it is: CannotRun") > 0), "{counts:?}");
}
