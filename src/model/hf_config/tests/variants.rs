//! Configs that leave out what their classes know, or call it otherwise.

use super::*;

fn parameters(json: &str) -> u64 {
    parse(json.as_bytes(), "test").unwrap_or_else(|error| panic!("{json}: {error}")).parameters
}

#[test]
fn what_a_nested_config_leaves_out_is_its_classes_default() {
    // Gemma 3 4B as its publisher wrote it: of its text model little more than three measures.
    let short = r#"{"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
            "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
            "vision_use_head": false}}"#;
    assert_eq!(parameters(short), 4_300_079_472);
    // LLaVA 1.5 7B: a Llama with another vocabulary, and CLIP.
    let llava = r#"{"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336,
            "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}}"#;
    assert_eq!(parameters(llava), 7_063_427_072);
    // The text model's type is the class's own where it is not written.
    assert_eq!(parameters(&llava.replace("\"model_type\": \"llama\", ", "")), 7_063_427_072);
    // Null is not the same as left out: no more than as many key-value heads as heads.
    let with = |kv: &str| {
        let text = format!("\"model_type\": \"mistral\", {kv}");
        parameters(&llava.replace("\"model_type\": \"llama\", ", &text))
    };
    assert!(with("\"num_key_value_heads\": null, ") > with(""));
    assert_eq!(with("\"num_key_value_heads\": 8, "), with(""));
}

#[test]
fn what_a_config_leaves_out_is_its_classes_default_and_says_so() {
    let mistral = |rest: &str| {
        format!(
            r#"{{"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                "intermediate_size": 14336, "vocab_size": 32000{rest}}}"#
        )
    };
    let short = parse(mistral("").as_bytes(), "test").expect("a config");
    assert_eq!(short.parameters, 7_241_732_096);
    assert_eq!(parameters(&mistral(r#", "num_key_value_heads": 8, "head_dim": 128"#)), 7_241_732_096);
    assert_eq!(short.cache_confidence, Confidence::Derived);
    assert!(short.notes.iter().any(|note| note.contains("num_key_value_heads")), "{:?}", short.notes);
    // Gemma's heads are wider than an even share.
    let gemma = r#"{"model_type": "gemma", "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "intermediate_size": 24576, "vocab_size": 256000}"#;
    assert_eq!(parameters(gemma), 8_537_680_896);
    // The measures themselves are never guessed.
    let error = parse(br#"{"model_type": "llama", "hidden_size": 4096}"#, "test").expect_err("no layers");
    assert!(error.to_string().contains("num_hidden_layers: is missing"), "{error}");
}

#[test]
fn spellings_of_one_measure_are_the_same() {
    for (model_type, one, other) in [
        (
            "gpt2",
            r#""n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257"#,
            r#""hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "n_ctx": 1024, "vocab_size": 50257"#,
        ),
        (
            "falcon",
            r#""hidden_size": 4544, "n_layer": 32, "n_head": 71, "multi_query": true, "vocab_size": 65024"#,
            r#""hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71, "ffn_hidden_size": 18176, "vocab_size": 65024"#,
        ),
        (
            "t5",
            r#""d_model": 512, "d_ff": 2048, "d_kv": 64, "num_layers": 6, "num_heads": 8, "vocab_size": 32128"#,
            r#""d_model": 512, "d_ff": 2048, "d_kv": 64, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8,
               "vocab_size": 32128, "feed_forward_proj": "relu", "tie_word_embeddings": true"#,
        ),
        (
            "distilbert",
            r#""dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512"#,
            r#""hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 6, "num_attention_heads": 12,
               "vocab_size": 30522, "max_position_embeddings": 512"#,
        ),
    ] {
        let json = |fields: &str| format!(r#"{{"model_type": "{model_type}", {fields}}}"#);
        assert_eq!(parameters(&json(one)), parameters(&json(other)), "{model_type}");
    }
}

#[test]
fn a_class_stands_in_for_a_type_that_is_missing_or_not_known() {
    let json = |head: &str| {
        format!(
            r#"{{{head}"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "intermediate_size": 128, "vocab_size": 256}}"#
        )
    };
    let expected = parameters(&json(r#""model_type": "llama", "#));
    for head in [
        r#""architectures": ["LlamaForCausalLM"], "#,
        r#""model_type": "my_llama", "architectures": ["LlamaForCausalLM"], "#,
    ] {
        let shape = parse(json(head).as_bytes(), "test").expect(head);
        assert_eq!((shape.parameters, shape.weights_confidence), (expected, Confidence::Derived), "{head}");
        assert_eq!(shape.architecture, "llama");
        assert!(shape.notes.iter().any(|note| note.contains("LlamaForCausalLM")), "{:?}", shape.notes);
    }
    // A type that is known is not overruled.
    let both = json(r#""model_type": "qwen3", "architectures": ["LlamaForCausalLM"], "head_dim": 16, "#);
    assert!(parameters(&both) > expected);
    let error =
        parse(json(r#""architectures": ["NoSuchForCausalLM"], "#).as_bytes(), "test").expect_err("no type");
    assert!(error.to_string().contains("model_type: is missing"), "{error}");
}
