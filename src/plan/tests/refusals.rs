use serde_json::{Value, json};

use super::*;
use crate::decide::Reason;

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn what_a_spec_cannot_mean_names_the_field_the_value_and_the_remedy() {
    let source = |model: Value| json!({"model": model});
    for (fields, field, parts) in [
        (source(json!({})), "model", vec!["no source", "parameters"]),
        (source(json!({"parameters": "8Q"})), "model.parameters", vec!["\"8Q\"", "\"8B\""]),
        (source(json!({"parameters": "0"})), "model.parameters", vec!["\"0\"", "\"8B\""]),
        (
            source(json!({"parameters": "8B", "catalog": "x"})),
            "model",
            vec!["parameters and catalog", "exactly one"],
        ),
        (source(json!({"config": {}, "catalog": "x"})), "model", vec!["config and catalog", "exactly one"]),
        (source(json!({"config": {}, "parameters": "many"})), "model.parameters", vec!["\"many\""]),
        (source(json!({"config": []})), "model.config", vec!["not an object"]),
        (
            source(json!({"huggingFace": {"repository": "noslash"}})),
            "model.huggingFace.repository",
            vec!["noslash", "organisation/name"],
        ),
        (
            source(json!({"huggingFace": {"repository": "a/../b"}})),
            "model.huggingFace.repository",
            vec!["organisation/name"],
        ),
        (source(json!({"gguf": {}})), "model.gguf", vec!["exactly one"]),
        (source(json!({"gguf": {"url": "http://x"}})), "model.gguf.url", vec!["http://x", "https://"]),
        (
            source(json!({"gguf": {"huggingFace": {"repository": "a/b"}}})),
            "model.gguf.huggingFace.file",
            vec!["name the file"],
        ),
        (
            source(json!({"configMapRef": {"name": "", "key": "k"}})),
            "model.configMapRef.name",
            vec!["0 characters", "1 to 253"],
        ),
        (json!({"safetyMargin": "0.5"}), "safetyMargin", vec!["\"0.5\"", "1.0", "\"1.2\""]),
        (json!({"safetyMargin": "1,2"}), "safetyMargin", vec!["\"1,2\""]),
        (json!({"safetyMargin": " 1.2"}), "safetyMargin", vec!["\" 1.2\""]),
        (json!({"safetyMargin": "01.2"}), "safetyMargin", vec!["\"01.2\""]),
        (source(json!({"parameters": " 8B"})), "model.parameters", vec!["\" 8B\""]),
        (source(json!({"catalog": ""})), "model.catalog", vec!["0 characters"]),
        (json!({"engine": {"name": "vllm", "image": ""}}), "engine.image", vec!["0 characters", "1 to 1000"]),
        (
            json!({"engine": {"name": "vllm", "args": vec!["x"; 101]}}),
            "engine.args",
            vec!["101 arguments", "0 to 100"],
        ),
        (json!({"training": {"method": "lora", "loraTargets": []}}), "training.loraTargets", vec!["0 names"]),
        (
            json!({"training": {"method": "lora", "loraTargets": [""]}}),
            "training.loraTargets[0]",
            vec!["1 to 100"],
        ),
        (json!({"safetyMargin": "NaN"}), "safetyMargin", vec!["\"NaN\""]),
        (json!({"context": {"length": 0}}), "context.length", vec!["0 is not", "from 1 to"]),
        (json!({"context": {"length": -1}}), "context.length", vec!["-1 is not", "from 1 to"]),
        (
            json!({"context": {"length": i64::MAX}}),
            "context.length",
            vec!["9223372036854775807", "100000000"],
        ),
        (json!({"context": {"sequences": -5}}), "context.sequences", vec!["-5"]),
        (json!({"context": {"sequences": 70_000}}), "context.sequences", vec!["70000", "65536"]),
        (json!({"parallelism": {"tensor": 0}}), "parallelism.tensor", vec!["0 is not", "1024"]),
        (json!({"parallelism": {"tensor": "all"}}), "parallelism.tensor", vec!["\"all\"", "auto"]),
        (json!({"parallelism": {"pipeline": -2}}), "parallelism.pipeline", vec!["-2"]),
        (json!({"replicas": -1}), "replicas", vec!["-1", "10000"]),
        (json!({"replicas": 10_001}), "replicas", vec!["10001", "10000"]),
        (json!({"template": []}), "template", vec!["not an object"]),
        (json!({"template": "x"}), "template", vec!["not an object"]),
        (json!({"template": {"spec": 5}}), "template.spec", vec!["not an object"]),
        (
            json!({"template": {"spec": {"nodeName": "n1"}}}),
            "template.spec.nodeName",
            vec!["n1", "nodeSelector"],
        ),
        (
            json!({"template": {"spec": {"nodeSelector": 5}}}),
            "template.spec.nodeSelector",
            vec!["pod template"],
        ),
        (
            json!({"placement": {"nodeSelector": {"a": "x"}}, "template": {"spec": {"nodeSelector": {"a": "y"}}}}),
            "template.spec.nodeSelector",
            vec!["\"y\"", "\"x\"", "one place"],
        ),
        (json!({"placement": {"nodeSelector": {"": "x"}}}), "placement.nodeSelector", vec!["not a label"]),
        (json!({"placement": {"nodeSelector": {"a b": "x"}}}), "placement.nodeSelector", vec!["a b"]),
        (json!({"placement": {"nodeSelector": {"a": "x y"}}}), "placement.nodeSelector", vec!["x y"]),
        (json!({"placement": {"vendors": []}}), "placement.vendors", vec!["0 vendors", "1 to 3"]),
        (
            json!({"placement": {"tolerations": [{"key": "a", "operator": "Like"}]}}),
            "placement.tolerations[0].operator",
            vec!["\"Like\"", "Exists"],
        ),
        (
            json!({"placement": {"tolerations": [{"value": "a"}]}}),
            "placement.tolerations[0].key",
            vec!["Exists"],
        ),
        (
            json!({"placement": {"tolerations": [{"key": "a", "effect": "Never"}]}}),
            "placement.tolerations[0].effect",
            vec!["\"Never\"", "NoSchedule"],
        ),
        (
            json!({"placement": {"tolerations": [{"key": "a", "operator": "Exists", "value": "v"}]}}),
            "placement.tolerations[0].value",
            vec!["\"v\"", "Equal"],
        ),
        (
            json!({"engine": {"name": "vllm", "args": ["--max-num-batched-tokens", "lots"]}}),
            "engine.args[0]",
            vec!["\"lots\"", "8192"],
        ),
        (json!({"training": {"method": "lora"}, "context": {}}), "context", vec!["training.sequenceLength"]),
        (
            json!({"training": {"method": "lora"}, "engine": {"name": "vllm"}}),
            "engine",
            vec!["remove training"],
        ),
        (json!({"training": {"method": "lora"}, "parallelism": {}}), "parallelism", vec!["training.gpus"]),
        (json!({"training": {"method": "lora", "gpus": 0}}), "training.gpus", vec!["0 is not"]),
        (json!({"training": {"method": "lora", "loraRank": -1}}), "training.loraRank", vec!["-1 is not"]),
    ] {
        let error =
            plan_on(fields.clone(), &shape(LLAMA_8B), golden(), vec![]).expect_err(&fields.to_string());
        assert_eq!(error.reason(), Reason::InvalidSpec, "{fields}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("spec.{field}: ")), "{fields}: {text}");
        for part in parts {
            assert!(text.contains(part), "{fields}: {text}");
        }
        assert_eq!(check(&spec(fields.clone())), Err(error), "{fields}");
    }
}

#[test]
fn a_split_that_the_model_does_not_allow_is_refused() {
    let fields = json!({"parallelism": {"tensor": 3}});
    let error = plan_on(fields, &shape(LLAMA_8B), golden(), vec![]).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidSpec);
    assert!(error.to_string().starts_with("spec.parallelism.tensor: "), "{error}");
}

#[test]
fn what_is_not_done_yet_is_refused_and_never_ignored() {
    for (fields, field) in [
        (json!({"placement": {"mode": "Gated"}}), "placement.mode"),
        (json!({"placement": {"mode": "ResourceClaim"}}), "placement.mode"),
        (json!({"placement": {"vendors": ["amd"]}}), "placement.vendors"),
        (json!({"placement": {"vendors": ["amd", "intel"]}}), "placement.vendors"),
        (json!({"training": {"method": "lora"}, "template": {}}), "template"),
    ] {
        let error =
            plan_on(fields.clone(), &shape(LLAMA_8B), golden(), vec![]).expect_err(&fields.to_string());
        assert_eq!(error.reason(), Reason::NotSupported, "{fields}");
        assert!(error.to_string().starts_with(&format!("spec.{field}: not supported yet; ")), "{error}");
    }
    for fields in [
        json!({"admission": "Deny"}),
        json!({"admission": "Warn"}),
        json!({"admission": "Ignore"}),
        json!({"placement": {"mode": "NodeAffinity"}}),
        json!({"placement": {"vendors": ["amd", "nvidia"]}}),
    ] {
        assert_eq!(check(&spec(fields.clone())), Ok(()), "{fields}");
    }
}
