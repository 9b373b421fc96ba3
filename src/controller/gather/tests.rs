use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::controller::testing::{Answer, Recorded, refusal};
use crate::source::{Settings, Sources};

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16", "tie_word_embeddings": false,
    "rms_norm_eps": 1e-05}"#;

async fn gathered(
    source: Value,
    answer: impl Fn(&str, &Value) -> Answer + Clone + Send + Sync + 'static,
) -> (Result<Gathered, Error>, Vec<String>) {
    let server = Recorded::default();
    let client = server.client(answer);
    let spec: ModelDeploymentSpec = serde_json::from_value(json!({"model": source})).unwrap();
    let settings = Settings { offline: true, ..Settings::default() };
    let (models, _told) = Models::new(Sources::new(settings).unwrap(), Secrets(client.clone()));
    let config_maps = ConfigMaps::default();
    let key = ("team-a".to_owned(), "llama".to_owned());
    let places =
        Places { client: &client, models: &models, config_maps: &config_maps, permits: &Permits::default() };
    let mut found = gather(places, &key, Some(1), &spec).await;
    // What is read beside is there soon.
    while matches!(found, Ok(Gathered::Pending)) {
        tokio::task::yield_now().await;
        found = gather(places, &key, Some(1), &spec).await;
    }
    (found, server.calls())
}

fn unreachable(_: &str, _: &Value) -> Answer {
    refusal(500, "InternalError", "no call should be made")
}

#[tokio::test]
async fn a_config_is_read_from_a_config_map() {
    let source = json!({"configMapRef": {"name": "models", "key": "llama"}});
    for map in [
        json!({"data": {"llama": CONFIG}}),
        // {"architectures"… in base64.
        json!({"binaryData": {"llama": base64(CONFIG.as_bytes())}}),
    ] {
        let (result, calls) = gathered(source.clone(), move |_: &str, _: &Value| (200, map.clone())).await;
        let Ok(Gathered::Model(shape, _)) = result else { panic!("{result:?}") };
        assert_eq!(shape.parameters, 8_030_261_248);
        assert_eq!(calls, ["GET /api/v1/namespaces/team-a/configmaps/models"]);
    }
}

#[tokio::test]
async fn a_config_map_is_read_again_only_when_it_is_another() {
    let server = Recorded::default();
    let version = Arc::new(AtomicU64::new(5));
    let client = server.client({
        let version = Arc::clone(&version);
        move |_: &str, _: &Value| {
            let version = version.load(Ordering::Relaxed).to_string();
            (200, json!({"metadata": {"resourceVersion": version}, "data": {"llama": CONFIG}}))
        }
    });
    let spec: ModelDeploymentSpec =
        serde_json::from_value(json!({"model": {"configMapRef": {"name": "models", "key": "llama"}}}))
            .unwrap();
    let settings = Settings { offline: true, ..Settings::default() };
    let (models, _told) = Models::new(Sources::new(settings).unwrap(), Secrets(client.clone()));
    let config_maps = ConfigMaps::default();
    let places =
        Places { client: &client, models: &models, config_maps: &config_maps, permits: &Permits::default() };
    let key = ("team-a".to_owned(), "llama".to_owned());
    let mut shapes = Vec::new();
    for (generation, change, expected) in
        [(1, 5, 1), (1, 5, 1), (1, 6, 1), (2, 6, 3), (2, 6, 3), (3, 6, 4), (3, 6, 4)]
    {
        version.store(change, Ordering::Relaxed);
        let Ok(Gathered::Model(shape, Some(again))) = gather(places, &key, Some(generation), &spec).await
        else {
            panic!("no model")
        };
        assert!(again <= crate::controller::config_maps::REREAD);
        assert_eq!(server.calls().len(), expected, "generation {generation}, version {change}");
        shapes.push(shape);
    }
    assert!(shapes.iter().all(|shape| Arc::ptr_eq(shape, &shapes[0])), "the content is the same");
}

#[tokio::test]
async fn what_was_found_for_a_source_is_forgotten_with_it() {
    let client = Recorded::default().client(unreachable);
    let settings = Settings { offline: true, ..Settings::default() };
    let (models, mut told) = Models::new(Sources::new(settings).unwrap(), Secrets(client.clone()));
    let config_maps = ConfigMaps::default();
    let places =
        Places { client: &client, models: &models, config_maps: &config_maps, permits: &Permits::default() };
    let key = ("team-a".to_owned(), "llama".to_owned());
    let spec = |source: Value| serde_json::from_value(json!({"model": source})).unwrap();
    let (hub, catalog) =
        (spec(json!({"huggingFace": {"repository": "org/name"}})), spec(json!({"catalog": "llama-3.1-8b"})));
    assert_eq!(gather(places, &key, Some(1), &hub).await.unwrap(), Gathered::Pending);
    told.recv().await;
    assert!(matches!(gather(places, &key, Some(1), &hub).await, Ok(Gathered::Unresolved(_))));
    assert!(matches!(gather(places, &key, Some(2), &catalog).await, Ok(Gathered::Model(..))));
    assert_eq!(gather(places, &key, Some(3), &hub).await.unwrap(), Gathered::Pending, "it is read again");
}

fn base64(bytes: &[u8]) -> String {
    let encoded = serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap();
    encoded.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_config_map_that_does_not_say_is_waited_for() {
    let source = json!({"configMapRef": {"name": "models", "key": "llama"}});
    for (answer, words) in [
        (refusal(404, "NotFound", ""), "there is no ConfigMap models"),
        (refusal(403, "Forbidden", "no"), "the controller may not read ConfigMap models"),
        ((200, json!({})), "has no key llama"),
        ((200, json!({"data": {"other": "{}"}})), "has no key llama"),
        ((200, json!({"data": {"llama": "{"}})), "it is not JSON"),
    ] {
        let (result, _) = gathered(source.clone(), move |_: &str, _: &Value| answer.clone()).await;
        let Ok(Gathered::Unresolved(unresolved)) = result else { panic!("{result:?}") };
        assert!(unresolved.message.starts_with("spec.model.configMapRef: "), "{}", unresolved.message);
        assert!(unresolved.message.contains(words), "{}", unresolved.message);
        assert!(unresolved.again.is_some());
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error() {
    let source = json!({"configMapRef": {"name": "models", "key": "llama"}});
    let (result, _) = gathered(source, |_: &str, _: &Value| refusal(500, "InternalError", "etcd")).await;
    assert_eq!(result.unwrap_err().category(), "ConfigMap");
}

#[tokio::test]
async fn what_the_spec_says_needs_no_call() {
    for (source, words) in [(json!({"config": {"model_type": "nonsense"}}), "spec.model.config: ")] {
        let (result, calls) = gathered(source, unreachable).await;
        let Ok(Gathered::Malformed(problem)) = result else { panic!("{result:?}") };
        assert!(problem.starts_with(words), "{problem}");
        assert_eq!(calls.len(), 0);
    }
    for (source, words) in [
        (json!({"parameters": "8Q"}), "spec.model.parameters: \"8Q\" is not a parameter count"),
        (json!({"catalog": "nonsense"}), "spec.model.catalog: \"nonsense\""),
        (json!({}), "spec.model: "),
    ] {
        let (result, calls) = gathered(source, unreachable).await;
        let Ok(Gathered::Refused(error)) = result else { panic!("{result:?}") };
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(calls.len(), 0);
    }
    for name in ["llama-3.1-8b", "meta-llama/Llama-3.1-8B"] {
        let (result, _) = gathered(json!({"catalog": name}), unreachable).await;
        let Ok(Gathered::Model(shape, _)) = result else { panic!("{result:?}") };
        assert_eq!(shape.parameters, 8_030_261_248, "{name}");
    }
    let config: Value = serde_json::from_str(CONFIG).unwrap();
    let (result, _) = gathered(json!({"config": config}), unreachable).await;
    assert!(matches!(result, Ok(Gathered::Model(..))));
}

#[tokio::test]
async fn a_model_that_is_far_away_is_asked_for_with_its_token() {
    let gated =
        json!({"huggingFace": {"repository": "org/name", "tokenSecretRef": {"name": "hub", "key": "token"}}});
    let labelled = |data: Value| {
        (200, json!({"metadata": {"labels": {"loadline.dev/hub-token": "true"}}, "data": data}))
    };
    let secret = |key: &str| labelled(json!({key: base64(b"hf_abc\n")}));
    // Which of them it is, nobody learns who reads a status.
    let none = "no access token is to be had from Secret hub, key token; it has to be in this namespace, with the label loadline.dev/hub-token";
    for (answer, words) in [
        (refusal(404, "NotFound", ""), none),
        (refusal(403, "Forbidden", ""), none),
        (secret("other"), none),
        ((200, json!({"data": {"token": base64(b"hf_abc")}})), none),
        (labelled(json!({"token": base64(b" ")})), none),
        (secret("token"), "offline mode is on"),
    ] {
        let (result, calls) = gathered(gated.clone(), move |_: &str, _: &Value| answer.clone()).await;
        let Ok(Gathered::Unresolved(unresolved)) = result else { panic!("{result:?}") };
        assert!(unresolved.message.contains(words), "{}", unresolved.message);
        assert!(unresolved.again.is_some());
        assert!(calls.iter().all(|call| call == "GET /api/v1/namespaces/team-a/secrets/hub"), "{calls:?}");
    }
    for source in [
        json!({"huggingFace": {"repository": "org/name"}}),
        json!({"gguf": {"url": "https://huggingface.co/a/b/resolve/main/x.gguf"}}),
    ] {
        let (result, calls) = gathered(source, unreachable).await;
        let Ok(Gathered::Unresolved(unresolved)) = result else { panic!("{result:?}") };
        assert!(unresolved.message.contains("offline mode is on"), "{}", unresolved.message);
        assert_eq!(calls.len(), 0);
    }
}
