//! Bad input is answered with the field, the value and the remedy; nothing of it fits, and no other object suffers.

use serde_json::{Value, json};

use super::scenario::{message, model_deployment, scenario};
use crate::cluster::{condition_of, text};

/// What the API server refuses, by schema and rules, with no help of the controller.
#[test]
fn refused_at_the_door() {
    scenario("refused", |s| {
        let check = |spec: Value, expect: &[&str]| {
            let manifest = model_deployment("bad", &spec).to_string();
            let error = s.try_apply(&manifest).unwrap().refusal().unwrap();
            for part in expect {
                assert!(error.contains(part), "{spec}: {part:?} is not in {error:?}");
            }
        };
        let model = json!({"parameters": "8B"});
        check(json!({}), &["spec.model", "Required"]);
        check(json!({"model": {}}), &["spec.model", "exactly one source"]);
        check(
            json!({"model": {"parameters": "8B", "catalog": "llama-3.1-8b"}}),
            &["spec.model", "exactly one source"],
        );
        check(
            json!({"model": {"parameters": "8Q"}}),
            &["spec.model.parameters", "suffix K, M, B or T", "\"8B\""],
        );
        check(json!({"model": {"parameters": 8}}), &["spec.model.parameters", "string"]);
        check(json!({"model": model, "contxt": {}}), &["unknown field \"spec.contxt\""]);
        check(json!({"model": model, "context": {"lenght": 1}}), &["unknown field \"spec.context.lenght\""]);
        check(
            json!({"model": model, "context": {"length": -1}}),
            &["spec.context.length", "-1", "greater than or equal to 1"],
        );
        check(
            json!({"model": model, "context": {"length": 0}}),
            &["spec.context.length", "greater than or equal to 1"],
        );
        check(
            json!({"model": model, "context": {"length": 9_223_372_036_854_775_807_u64}}),
            &["spec.context.length"],
        );
        check(
            json!({"model": model, "context": {"length": 9_223_372_036_854_775_808_u64}}),
            &["spec.context.length"],
        );
        check(json!({"model": model, "context": {"length": "many"}}), &["spec.context.length", "integer"]);
        check(json!({"model": model, "context": {"sequences": 0}}), &["spec.context.sequences"]);
        for margin in ["0.5", "NaN", "1,2", "-1", "1e1", "", "inf"] {
            check(
                json!({"model": model, "safetyMargin": margin}),
                &["spec.safetyMargin", "decimal from 1.0 to 10.0", "\"1.2\""],
            );
        }
        check(json!({"model": model, "safetyMargin": 1.2}), &["spec.safetyMargin", "string"]);
        check(
            json!({"model": model, "precision": "fp17"}),
            &["spec.precision", "fp17", "supported values", "fp16"],
        );
        check(
            json!({"model": model, "parallelism": {"tensor": 0}}),
            &["spec.parallelism.tensor", "1 to 1024"],
        );
        check(
            json!({"model": model, "parallelism": {"tensor": "some"}}),
            &["spec.parallelism.tensor", "auto"],
        );
        check(json!({"model": model, "engine": {"name": "vlm"}}), &["spec.engine.name", "vlm", "vllm"]);
        check(json!({"model": model, "replicas": -1}), &["spec.replicas"]);
        check(
            json!({"model": model, "training": {"method": "full"}, "context": {"length": 1}}),
            &["training excludes context and engine"],
        );
        assert!(s.get("modeldeployment", "bad").unwrap().is_null());
    });
}

/// What only the estimate can know is refused in the status, and stands still until the spec changes.
#[test]
fn refused_in_the_status() {
    scenario("stalled", |s| {
        let dense = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
            "max_position_embeddings": 131_072, "torch_dtype": "bfloat16",
        });
        let with = |key: &str, value: Value| {
            let mut config = dense.clone();
            config[key] = value;
            json!({"model": {"config": config}})
        };
        let mut without = dense.clone();
        without.as_object_mut().unwrap().remove("num_hidden_layers");
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({"a": deep});
        }
        // Its class would say what it is.
        let mut unknown = dense.clone();
        unknown["model_type"] = json!("made-up");
        unknown["architectures"] = json!(["MadeUpForCausalLM"]);
        let tensor3 = json!({"model": {"config": dense}, "parallelism": {"tensor": 3}});
        let cases: [(&str, Value, &[&str]); 7] = [
            ("tensor3", tensor3, &["tensor", "3"]),
            ("string", with("hidden_size", json!("wide")), &["hidden_size", "wide"]),
            ("negative", with("num_hidden_layers", json!(-1)), &["num_hidden_layers", "-1"]),
            ("huge", with("vocab_size", json!(9_223_372_036_854_775_807_i64)), &["vocab_size"]),
            ("truncated", json!({"model": {"config": without}}), &["num_hidden_layers"]),
            ("unknown", json!({"model": {"config": unknown}}), &["made-up"]),
            ("deep", json!({"model": {"config": deep}}), &["config"]),
        ];
        for (name, spec, _) in &cases {
            s.apply(name, spec);
        }
        s.apply("good", &json!({"model": {"config": dense}}));
        for (name, _, expect) in &cases {
            let object = s.wait(name, "Stalled", |object| {
                condition_of(object, "Stalled").is_some_and(|stalled| stalled["status"] == "True")
            });
            let ready = condition_of(&object, "Ready").unwrap();
            assert_eq!(ready["status"], "False", "{name}");
            let reason = text(ready, "/reason");
            assert!(
                ["InvalidSpec", "NotSupported", "ModelNotResolved"].contains(&reason),
                "{name}: {reason}"
            );
            for part in *expect {
                assert!(message(&object).contains(part), "{name}: {part:?} is not in {:?}", message(&object));
            }
            assert!(object["status"]["placement"]["fits"].as_i64().unwrap_or(0) == 0, "{name}: {object:#}");
            s.wait_pods(name, 0, 0);
        }
        s.wait_ready("good", "True", "Available");
        // A correction is followed.
        s.apply("tensor3", &json!({"model": {"config": dense}, "parallelism": {"tensor": 2}}));
        s.wait_ready("tensor3", "True", "Available");
    });
}

#[test]
fn what_can_never_fit_is_not_run() {
    scenario("never", |s| {
        s.apply("giant", &json!({"model": {"parameters": "100T"}, "precision": "fp32"}));
        let object = s.wait_ready("giant", "False", "NeverFits");
        assert_eq!(condition_of(&object, "Stalled").unwrap()["status"], "True");
        assert!(s.get("deployment", "giant").unwrap().is_null());
    });
}

#[test]
fn a_field_that_is_not_supported_yet_says_so() {
    scenario("unsupported", |s| {
        s.apply("gated", &json!({"model": {"parameters": "8B"}, "placement": {"mode": "Gated"}}));
        let object = s.wait_ready("gated", "False", "NotSupported");
        assert!(message(&object).contains("placement.mode"), "{}", message(&object));
        assert!(s.get("deployment", "gated").unwrap().is_null());
    });
}

#[test]
fn a_huge_config_is_refused_and_disturbs_nobody() {
    scenario("huge", |s| {
        let filler: String = "x".repeat(10_000_000);
        let manifest =
            model_deployment("huge", &json!({"model": {"config": {"filler": filler}}})).to_string();
        let error = s.try_apply(&manifest).unwrap().refusal().unwrap();
        assert!(error.contains("too large") || error.contains("Too long"), "{error}");
        s.apply("good", &json!({"model": {"parameters": "8B"}, "precision": "int4"}));
        s.wait_ready("good", "True", "Available");
    });
}

#[test]
fn a_config_map_is_read_and_its_faults_are_named() {
    scenario("config-map", |s| {
        let object = json!({"model": {"configMapRef": {"name": "model", "key": "config.json"}}});
        s.apply("llama", &object);
        let waiting = s.wait_ready("llama", "False", "ModelNotResolved");
        assert!(message(&waiting).contains("model"), "{}", message(&waiting));
        let config = |text: &str| {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model"}, "data": {"config.json": text},
            });
            s.try_apply(&map.to_string()).unwrap().output().unwrap();
        };
        config(r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 40"#);
        // The controller may read a ConfigMap, and not watch all of them: a touch of the object makes it look at once.
        let touch = |value: &str| {
            s.run([
                "patch",
                "mdep",
                "llama",
                "--type=merge",
                "-p",
                &format!(r#"{{"spec":{{"safetyMargin":"{value}"}}}}"#),
            ])
        };
        touch("1.3");
        let broken = s.wait("llama", "the fault", |object| {
            super::scenario::current(object) && message(object).contains("config.json")
        });
        assert_eq!(condition_of(&broken, "Ready").unwrap()["status"], "False");
        let fixture =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json");
        config(&std::fs::read_to_string(fixture).unwrap());
        touch("1.2");
        let ready = s.wait_ready("llama", "True", "Available");
        assert_eq!(ready["status"]["estimate"]["confidence"], "exact");
    });
}
