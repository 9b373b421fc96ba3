use super::*;

/// What the definition's own rules say of a spec, evaluated as the API server does.
fn rules(spec: &str) -> Result<(), String> {
    let spec: ModelDeploymentSpec = serde_yaml::from_str(spec).map_err(|error| error.to_string())?;
    ModelDeployment::new("test", spec).validate_cel().map_err(|errors| errors.to_string())
}

#[test]
fn right_specs_pass_the_rules() {
    for spec in [
        "model: {parameters: 8B}",
        "model: {parameters: \"8030261248\"}",
        "model: {parameters: 8B, config: {model_type: llama}}",
        "model: {catalog: llama-3.1-8b}\nsafetyMargin: \"1.2\"",
        "model: {catalog: llama-3.1-8b}\nsafetyMargin: \"10\"",
        "model: {huggingFace: {repository: meta-llama/Llama-3.1-8B-Instruct}}",
        "model: {gguf: {url: \"https://models.example/a.gguf\"}}",
        "model: {parameters: 70B}\nparallelism: {tensor: auto}",
        "model: {parameters: 70B}\nparallelism: {tensor: 4}",
        "model: {parameters: 8B}\ntraining: {method: lora}",
        "model: {parameters: 8B}\nengine: {name: vllm, version: \"0.19.0\"}",
        "model: {parameters: 8B}\nengine: {name: sglang, version: v0.5.15.post1}",
        "model: {parameters: 8B}\nengine: {name: vllm, version: 0.14.0rc1}",
        "model: {parameters: 8B}\nengine: {name: llama-cpp, version: b10481}",
        "model: {parameters: 8B}\nengine: {name: llama-cpp, version: \"2026-11-01\"}",
    ] {
        assert_eq!(rules(spec), Ok(()), "{spec}");
    }
}

#[test]
fn wrong_specs_are_refused_with_the_remedy() {
    for (spec, remedy) in [
        ("model: {}", "exactly one source"),
        ("model: {parameters: 8B, catalog: llama-3.1-8b}", "exactly one source"),
        ("model: {config: {}, catalog: llama-3.1-8b}", "exactly one source"),
        ("model: {parameters: 8Q}", "such as \"8B\""),
        ("model: {parameters: \"-8B\"}", "such as \"8B\""),
        ("model: {parameters: 8B}\nsafetyMargin: \"0.5\"", "from 1.0 to 10.0"),
        ("model: {parameters: 8B}\nsafetyMargin: NaN", "from 1.0 to 10.0"),
        ("model: {parameters: 8B}\nsafetyMargin: \"1,2\"", "from 1.0 to 10.0"),
        ("model: {parameters: 8B}\nsafetyMargin: \"10.5\"", "from 1.0 to 10.0"),
        ("model: {parameters: 8B}\nparallelism: {tensor: 0}", "from 1 to 1024, or auto"),
        ("model: {parameters: 8B}\nparallelism: {tensor: many}", "from 1 to 1024, or auto"),
        ("model: {huggingFace: {repository: llama}}", "organisation/name"),
        ("model: {gguf: {url: \"http://models.example/a.gguf\"}}", "https://"),
        ("model: {parameters: 8B}\nengine: {name: vllm, version: latest}", "such as \"0.19.0\""),
        ("model: {parameters: 8B}\nengine: {name: vllm, version: \"\"}", "such as \"0.19.0\""),
        ("model: {gguf: {}}", "exactly one of url and huggingFace"),
        ("model: {configMapRef: {name: \"a b\", key: k}}", "name must be as Kubernetes has it"),
        (
            "model: {configMapRef: {name: ../../other/configmaps/cm, key: k}}",
            "name must be as Kubernetes has it",
        ),
        ("model: {configMapRef: {name: cm, key: \"a b\"}}", "key must be as Kubernetes has it"),
        (
            "model: {huggingFace: {repository: a/b, tokenSecretRef: {name: Hub, key: t}}}",
            "name must be as Kubernetes has it",
        ),
        (
            "model: {parameters: 8B}\ntraining: {method: lora}\ncontext: {length: 8192}",
            "training.sequenceLength",
        ),
        (
            "model: {parameters: 8B}\ntraining: {method: lora}\nengine: {name: vllm}",
            "training.sequenceLength",
        ),
        ("model: {parameters: 8B}\ntraining: {method: lora}\nparallelism: {tensor: 2}", "training.gpus"),
    ] {
        let error = rules(spec).expect_err(spec);
        assert!(error.contains(remedy), "{spec}: {error}");
    }
}
