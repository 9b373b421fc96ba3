use super::deployment::{Identity, Replacement, differs};
use super::*;
use crate::api::ModelDeployment;
use crate::controller::testing::{cluster, object, plan, shape};
use crate::inventory::Inventory;
use crate::inventory::testing::node;
use crate::precision::{Engine, Precision};

/// What is launched for a spec whose GPUs must each have so many GiB.
fn launched(spec: &Value, gib: u64, repository: Option<&str>) -> Result<Launch, Refusal> {
    with(&object(spec), "nvidia.com/gpu", gib, repository)
}

fn with(
    object: &ModelDeployment,
    resource: &str,
    gib: u64,
    repository: Option<&str>,
) -> Result<Launch, Refusal> {
    let shape = shape();
    let plan = plan(object, gib, &Inventory::default());
    let template = Template::read(&object.spec)?;
    let nodes = cluster(crate::inventory::testing::golden(), Vec::new());
    launch(Inputs {
        name: object.metadata.name.as_deref().unwrap_or_default(),
        spec: &object.spec,
        template: template.as_ref(),
        shape: &shape,
        repository,
        resource,
        estimate: &plan.estimate,
        margin: plan.margin,
        requirement: plan.requirement,
        sources: nodes.sources(),
    })
}

fn pods(spec: &Value, gib: u64) -> Pods {
    match launched(spec, gib, None).expect("a workload") {
        Launch::Run(pods) => *pods,
        Launch::Nothing(nothing) => panic!("{nothing:?}"),
    }
}

/// The Deployment of a spec.
fn deployment(spec: &Value, gib: u64) -> Value {
    let object = object(spec);
    let pods = pods(spec, gib);
    let identity = Identity { namespace: "team-a", name: "llama", uid: "0a" };
    let record = Record::new(&object.spec, None, &pods);
    let mut deployment =
        deployment::deployment(identity, &pods, &record, object.spec.replicas, Replacement::Surge);
    // It holds the template a second time.
    deployment["metadata"]["annotations"].as_object_mut().unwrap().remove(record::RECORD_ANNOTATION);
    deployment
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("YAML")
}

#[test]
fn an_8b_model_of_a_repository() {
    let spec = json!({
        "model": {"huggingFace": {
            "repository": "meta-llama/Llama-3.1-8B-Instruct", "revision": "main",
            "tokenSecretRef": {"name": "hub", "key": "token"},
        }},
        "precision": "fp16",
        "context": {"length": 8192, "sequences": 8},
        "engine": {"name": "vllm", "args": ["--enable-prefix-caching"]},
    });
    insta::assert_snapshot!(yaml(&deployment(&spec, 22)));
}

#[test]
fn a_70b_model_on_four_gpus_of_one_node() {
    let spec = json!({
        "model": {"huggingFace": {"repository": "meta-llama/Llama-3.1-70B-Instruct"}},
        "context": {"length": 16384, "sequences": 4, "cachePrecision": "fp8"},
        "parallelism": {"tensor": 4},
        "engine": {"name": "sglang"},
        "placement": {"strategy": "LargestFit", "nodeSelector": {"pool": "a"}},
        "replicas": 2,
    });
    insta::assert_snapshot!(yaml(&deployment(&spec, 45)));
}

#[test]
fn a_gguf_file() {
    let spec = json!({
        "model": {"gguf": {"huggingFace": {"repository": "org/llama-gguf", "file": "llama-q4_k_m.gguf"}}},
        "context": {"length": 4096, "sequences": 4, "cachePrecision": "q8_0"},
        "parallelism": {"pipeline": 2},
        "engine": {"name": "llama-cpp"},
        "placement": {"sharing": "Shared"},
    });
    insta::assert_snapshot!(yaml(&deployment(&spec, 6)));
}

#[test]
fn a_template_keeps_what_it_says() {
    let spec = json!({
        "model": {"parameters": "8B"},
        "engine": {"name": "none"},
        "placement": {
            "nodeSelector": {"pool": "a"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
        },
        "template": {
            "metadata": {"labels": {"team": "a", "loadline.dev/model-deployment": "other"}, "annotations": {"note": "x"}},
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "proxy:1"},
                    {"name": "model", "image": "server:1", "args": ["--port=80"], "resources": {"requests": {"cpu": "4"}}},
                ],
                "nodeSelector": {"zone": "b"},
                "tolerations": [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
                    ]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "preference": {"matchExpressions": [{"key": "spot", "operator": "Exists"}]}},
                    ],
                }},
            },
        },
    });
    insta::assert_snapshot!(yaml(&deployment(&spec, 22)));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_contradicts_the_estimate_is_refused() {
    let engine = |engine: Value| json!({"model": {"parameters": "8B"}, "engine": engine});
    let template = |container: Value| json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": [container]}}});
    for (spec, field, words) in [
        (
            engine(json!({"name": "vllm", "image": "i", "args": ["--max-model-len", "32768"]})),
            "spec.engine.args",
            "spec.context.length",
        ),
        (
            template(json!({"image": "i", "resources": {"limits": {"nvidia.com/gpu": 2}}})),
            "spec.template.spec.containers[0].resources",
            "one replica takes 1",
        ),
        (
            template(json!({"name": "model", "image": 7})),
            "spec.template.spec.containers[0].image",
            "invalid type",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": "none"}}}),
            "spec.template.spec.containers",
            "invalid type",
        ),
        (
            json!({
                "model": {"parameters": "8B"},
                "template": {"spec": {"containers": [
                    {"name": "model", "image": "i"},
                    {"name": "other", "image": "i", "resources": {"limits": {"nvidia.com/gpu": 1}}},
                ]}},
            }),
            "spec.template.spec.containers[1].resources",
            "container other",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": [
                {"name": "model", "image": "i"}, {"name": "proxy"},
            ]}}}),
            "spec.template.spec.containers[1].image",
            "container proxy has no image",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {
                "containers": [{"image": "i"}], "initContainers": [{"name": "fetch"}],
            }}}),
            "spec.template.spec.initContainers[0].image",
            "container fetch has no image",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {
                "containers": [{"image": "i"}],
                "initContainers": [{"name": "fetch", "image": "i", "resources": {"limits": {"nvidia.com/gpu": 8}}}],
            }}}),
            "spec.template.spec.initContainers[0].resources",
            "container fetch requests nvidia.com/gpu",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {
                "containers": [{"image": "i"}],
                "initContainers": [{
                    "name": "side", "image": "i", "restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": 1}},
                }],
            }}}),
            "spec.template.spec.initContainers[0].resources",
            "container side requests nvidia.com/gpu",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": [
                {"image": "i", "resources": {"requests": {"amd.com/gpu": 1}}},
            ]}}}),
            "spec.template.spec.containers[0].resources",
            "amd.com/gpu",
        ),
        (
            json!({
                "model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "a"},
                "template": {"spec": {"containers": [{"image": "b"}]}},
            }),
            "spec.engine.image",
            "\"b\"",
        ),
        (
            json!({
                "model": {"parameters": "8B"}, "engine": {"name": "vllm", "args": ["--seed", "1"]},
                "template": {"spec": {"containers": [{"image": "b", "args": ["x"]}]}},
            }),
            "spec.engine.args",
            "of its own",
        ),
        (
            json!({
                "model": {"parameters": "8B"}, "engine": {"name": "none"}, "template": {"spec": {"containers": [{}]}},
            }),
            "spec.template.spec.containers[0].image",
            "no image",
        ),
        (
            json!({
                "model": {"parameters": "8B"}, "context": {"cachePrecision": "int8"},
                "engine": {"name": "vllm", "image": "i"},
            }),
            "spec.context.cachePrecision",
            "int8",
        ),
        (
            json!({
                "model": {"parameters": "8B"}, "parallelism": {"pipeline": 2}, "engine": {"name": "tgi", "image": "i"},
            }),
            "spec.parallelism.pipeline",
            "tgi",
        ),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {
                "containers": [{"image": "i"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}},
            }}}),
            "spec.template.spec.affinity",
            "match no node",
        ),
    ] {
        let error = launched(&spec, 22, None).expect_err(&spec.to_string()).to_string();
        assert!(error.starts_with(&format!("{field}: ")) && error.contains(words), "{error}");
        assert!(error.contains("; "), "no remedy: {error}");
    }
}

#[test]
fn an_init_container_may_use_what_the_replica_takes() {
    let spec = json!({"model": {"parameters": "8B"}, "template": {"spec": {
        "containers": [{"image": "i"}],
        "initContainers": [{"name": "warm", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    }}});
    assert!(matches!(launched(&spec, 22, None), Ok(Launch::Run(_))));
}

#[test]
fn nothing_runs_where_nothing_says_what() {
    for (spec, repository, expected) in [
        (json!({"model": {"parameters": "8B"}}), None, Nothing::NoModel),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": [{"env": []}]}}}),
            None,
            Nothing::NoModel,
        ),
        (json!({"model": {"parameters": "8B"}, "engine": {"name": "none"}}), None, Nothing::NoEngine),
        (
            json!({"model": {"catalog": "llama-3.1-8b"}, "engine": {"name": "transformers"}}),
            Some("org/llama"),
            Nothing::NoImage(Engine::Transformers),
        ),
        (json!({"model": {"parameters": "8B"}, "training": {"method": "full"}}), None, Nothing::Training),
        (
            json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "int4"}),
            Some("org/llama"),
            Nothing::NoCheckpoint {
                repository: "org/llama".to_owned(),
                precision: Precision::Int4,
                engine: Engine::Vllm,
                loads: true,
                elsewhere: None,
            },
        ),
    ] {
        assert_eq!(launched(&spec, 22, repository), Ok(Launch::Nothing(expected)), "{spec}");
    }
}

#[test]
fn a_workload_is_written_where_an_image_a_template_or_an_argument_says_what() {
    for (spec, repository) in [
        (json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "pause:1"}}), None),
        (json!({"model": {"parameters": "8B"}, "engine": {"name": "none", "image": "pause:1"}}), None),
        (
            json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": [{"image": "pause:1"}]}}}),
            None,
        ),
        (
            json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "args": ["--model=org/llama"]}}),
            None,
        ),
        (json!({"model": {"catalog": "llama-3.1-8b"}}), Some("org/llama")),
        (json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "fp8"}), Some("org/llama")),
    ] {
        assert!(matches!(launched(&spec, 22, repository), Ok(Launch::Run(_))), "{spec}");
    }
}

#[test]
fn a_stock_image_is_told_the_model_by_what_the_template_says() {
    let stock = "vllm/vllm-openai:v0.19.0";
    let model_id = json!([{"name": "MODEL_ID", "value": "a/b"}]);
    for (engine, container, runs) in [
        ("vllm", json!({"name": "model"}), false),
        ("vllm", json!({"image": stock}), false),
        ("vllm", json!({"image": stock, "env": [{"name": "HF_TOKEN", "value": "x"}]}), false),
        ("vllm", json!({"image": stock, "args": ["--model", "a/b"]}), true),
        ("vllm", json!({"command": ["serve.sh"]}), true),
        ("vllm", json!({"image": "mine:1"}), true),
        ("tgi", json!({"env": model_id}), true),
        ("sglang", json!({"env": model_id}), false),
    ] {
        let spec = json!({
            "model": {"parameters": "8B"}, "engine": {"name": engine},
            "template": {"spec": {"containers": [container]}},
        });
        let found = launched(&spec, 22, None).expect("no refusal");
        assert_eq!(matches!(found, Launch::Run(_)), runs, "{spec}");
        assert!(runs || found == Launch::Nothing(Nothing::NoModel), "{spec}: {found:?}");
    }
}

#[test]
fn a_name_that_is_no_label_value_is_refused() {
    let mut object =
        object(&json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "pause:1"}}));
    object.metadata.name = Some("a".repeat(64));
    let error = with(&object, "nvidia.com/gpu", 22, None).unwrap_err().to_string();
    assert!(error.starts_with("metadata.name: ") && error.contains("at most 63 characters"), "{error}");
}

#[test]
fn the_pods_keep_the_resource_that_they_request_unless_it_is_of_no_use() {
    let whole = || node("whole", &[("nvidia.com/gpu.memory", "81920")], &[("nvidia.com/gpu", 4)]);
    let slices =
        || node("slices", &[("nvidia.com/mig-3g.40gb.memory", "40192")], &[("nvidia.com/mig-3g.40gb", 4)]);
    let (gpu, slice) = ("nvidia.com/gpu", "nvidia.com/mig-3g.40gb");
    for (nodes, present, is_any_ready, expected) in [
        (vec![], None, false, gpu),
        (vec![slices()], None, false, slice),
        (vec![slices(), whole()], None, false, gpu),
        (vec![slices(), whole()], Some(slice), false, slice),
        (vec![slices()], Some(gpu), false, slice),
        (vec![slices()], Some(gpu), true, gpu),
        (vec![], Some(slice), false, slice),
    ] {
        let object = object(&json!({"model": {"parameters": "8B"}}));
        let plan = plan(&object, 20, &cluster(nodes, Vec::new()));
        assert_eq!(resource(&plan.decision, present, is_any_ready), expected, "{present:?} {is_any_ready}");
    }
}

#[test]
fn slices_are_asked_for_by_their_own_labels() {
    let object =
        object(&json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "pause:1"}}));
    let Ok(Launch::Run(pods)) = with(&object, "nvidia.com/mig-3g.40gb", 20, None) else { panic!("pods") };
    assert_eq!(pods.demand.resource, "nvidia.com/mig-3g.40gb");
    let text = yaml(&pods.template);
    assert!(
        text.contains("nvidia.com/mig-3g.40gb.memory") && !text.contains("nvidia.com/gpu.memory"),
        "{text}"
    );
}

#[test]
fn only_what_is_to_be_applied_counts_as_a_difference() {
    let wanted = json!({"a": 1, "list": [{"name": "x"}], "empty": {}, "limit": "1"});
    for (live, expected) in [
        (json!({"a": 1, "list": [{"name": "x", "default": true}], "limit": 1, "status": {}}), false),
        (json!({"a": 2, "list": [{"name": "x"}], "limit": "1"}), true),
        (json!({"a": 1, "list": [], "limit": "1"}), true),
        (json!({"a": 1, "list": [{"name": "x"}, {"name": "y"}], "limit": "1"}), true),
        (json!({"a": 1, "limit": "1"}), true),
    ] {
        assert_eq!(differs(&wanted, &live), expected, "{live}");
    }
}

#[test]
fn what_is_no_longer_wanted_shows_in_the_digest() {
    let image = json!({"name": "vllm", "image": "pause:1"});
    let with =
        json!({"model": {"parameters": "8B"}, "engine": image, "placement": {"nodeSelector": {"zone": "a"}}});
    let without = json!({"model": {"parameters": "8B"}, "engine": image});
    let (with, without) = (deployment(&with, 22), deployment(&without, 22));
    assert!(differs(&without, &with));
    assert!(!differs(&without, &without));
}
