//! What is refused, and how: and that nothing panics, whatever the bytes.

use proptest::prelude::*;

use super::*;
use crate::model::Role;
use crate::units::MAX_PARAMETERS;

const SMALL: &str = r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256}"#;

fn message(json: &str) -> String {
    match parse(json.as_bytes(), "test") {
        Ok(shape) => panic!("{json} was read: {} parameters", shape.parameters),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_bad_field_is_named_with_its_value_and_what_would_be_right() {
    for (from, to, expected) in [
        (
            "\"hidden_size\": 64",
            "\"hidden_size\": -64",
            "hidden_size: is -64; write a whole number from 0 to 16777216",
        ),
        ("\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size: is \"64\"; write a whole number"),
        ("\"hidden_size\": 64", "\"hidden_size\": 6.5", "hidden_size: is 6.5; write a whole number"),
        ("\"hidden_size\": 64", "\"hidden_size\": NaN", "hidden_size: is \"NaN\"; write a whole number"),
        ("\"hidden_size\": 64", "\"hidden_size\": 1e300", "hidden_size: is 1e+300; write a whole number"),
        ("\"hidden_size\": 64", "\"hidden_size\": 0", "hidden_size: is 0; write a whole number from 1"),
        ("\"hidden_size\": 64", "\"hidden_size\": null", "hidden_size: is missing; write a whole number"),
        ("\"hidden_size\": 64", "\"hidden_size\": [64]", "hidden_size: is a list; write a whole number"),
        (
            "\"hidden_size\": 64",
            "\"hidden_size\": 99999999",
            "hidden_size: is 99999999; no model has more than",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 10001",
            "num_hidden_layers: is 10001; no model has",
        ),
        (
            "\"vocab_size\": 256",
            "\"vocab_size\": 67108865",
            "vocab_size: is 67108865; no model has more than",
        ),
        (
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 3",
            "num_key_value_heads: is 3, which does not divide",
        ),
        ("\"hidden_size\": 64", "\"hidden_size\": 64, \"hidden_size\": 64", "hidden_size occurs twice"),
        (
            "\"hidden_size\": 64",
            "\"hidden_size\": 64, \"attention_bias\": 1",
            "attention_bias: is 1; write true or false",
        ),
        ("\"llama\"", "7", "model_type: is 7; write a string"),
        ("\"model_type\": \"llama\", ", "", "model_type: is missing"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let message = message(&SMALL.replace(from, to));
        assert!(message.starts_with("config.json: ") && message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn what_an_entry_of_a_table_needs_is_named_as_its_configs_write_it() {
    let with = |model_type: &str, more: &str| SMALL.replace("\"llama\"", &format!("\"{model_type}\"{more}"));
    for (json, expected) in [
        (with("mixtral", ""), "num_local_experts: is missing; write a whole number"),
        (with("mamba", "").replace("\"vocab_size\": 256", "\"x\": 1"), "vocab_size: is missing"),
        (with("dbrx", ", \"d_model\": 64"), "attn_config: is missing; write an object"),
        (
            with("mixtral", ", \"num_local_experts\": 4, \"num_experts_per_tok\": \"2\""),
            "num_experts_per_tok: is \"2\"",
        ),
        (with("qwen3_5_text", ""), "linear_num_key_heads: is missing"),
        (
            with("minimax", ", \"num_local_experts\": 4, \"layer_types\": [\"zzz\", \"full_attention\"]"),
            "layer_types: has the entry \"zzz\"; known are full_attention and linear_attention",
        ),
        (
            with("lfm2", ", \"layer_types\": [\"conv\"]"),
            "layer_types: has 1 entries for 2 layers; write one per layer",
        ),
        (
            with("nemotron_h", ", \"hybrid_override_pattern\": \"MX\""),
            "the letter \"X\"; known are M, *, - and E",
        ),
        (with("exaone4", ", \"sliding_window_pattern\": \"LLLX\""), "the letter \"X\"; known are L and G"),
    ] {
        let message = message(&json);
        assert!(message.contains(expected), "{json}: {message}");
    }
}

#[test]
fn an_unknown_architecture_is_refused_by_name() {
    for name in ["vit", "sam2", "stable_diffusion", "LLAMA"] {
        let error = parse(SMALL.replace("llama", name).as_bytes(), "test").expect_err(name);
        assert!(
            matches!(&error, ParseError::UnknownArchitecture { architecture, .. } if architecture == name),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_config_is_refused() {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let long = " ".repeat(json::MAX_BYTES + 1);
    for (text, expected) in [
        ("", "it is an empty file, not a config.json"),
        ("<!DOCTYPE html><html>", "it is a web page"),
        (
            "version https://git-lfs.github.com/spec/v1\nsize 654\n",
            "Git LFS pointer, which stands for a file of 654 bytes",
        ),
        ("{", "EOF while parsing"),
        ("[]", "holds a list, not a JSON object"),
        ("{\"model_type\": \"llama\"} x", "trailing characters"),
        (deep.as_str(), "nested more than 64 levels deep"),
        (long.as_str(), "4194305 bytes; a config.json has at most 4194304"),
    ] {
        let message = message(text);
        assert!(message.contains(expected), "{message}");
    }
    let error = parse(&[0xff, 0xfe], "test").expect_err("bytes");
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

#[test]
fn the_file_beside_the_config_is_named() {
    for (quant, expected) in [
        ("{", "hf_quant_config.json: EOF while parsing"),
        (r#"{"quantization": 8}"#, "hf_quant_config.json: quantization: is 8; write an object"),
        (
            r#"{"quantization": {"quant_algo": "NVFP4", "group_size": -4}}"#,
            "hf_quant_config.json: quantization.group_size: is -4; write a whole number",
        ),
    ] {
        let error = parse_with_quant(SMALL.as_bytes(), Some(quant.as_bytes()), "test").expect_err(quant);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn absurd_products_are_refused() {
    let json = SMALL
        .replace("\"hidden_size\": 64", "\"hidden_size\": 16777216")
        .replace("\"vocab_size\": 256", "\"vocab_size\": 67108864");
    assert!(message(&json).contains("no model has as many"), "{}", message(&json));
    // Many layers of many tensors.
    let json = r#"{"model_type": "nemotron_h", "hidden_size": 64, "num_attention_heads": 1, "vocab_size": 9,
        "mamba_num_heads": 1, "mamba_head_dim": 1, "intermediate_size": 1, "num_nextn_predict_layers": 10000,
        "mtp_hybrid_override_pattern": "MMMMMMMMMMMMMMMMMMMMMMMMMMMM", "hybrid_override_pattern": "M"}"#;
    assert!(message(json).contains("more than 100000 tensors"), "{}", message(json));
}

#[test]
fn python_numbers_outside_what_is_needed_do_no_harm() {
    let json =
        SMALL.replace("\"hidden_size\"", "\"time_step_limit\": [0.0, Infinity, -Infinity], \"hidden_size\"");
    assert_eq!(parse(json.as_bytes(), "a").map(|shape| shape.layers.len()), Ok(2));
}

/// What holds of every result, whatever was read.
fn check(bytes: &[u8], quant: Option<&[u8]>) -> Result<(), TestCaseError> {
    match parse_with_quant(bytes, quant, "any") {
        Ok(shape) => {
            prop_assert!(shape.tensors.len() <= 100_000);
            prop_assert!(shape.parameters <= MAX_PARAMETERS);
            let counted = shape.tensors.iter().filter(|tensor| tensor.role != Role::Draft);
            let sum: u64 = counted.map(|tensor| tensor.count * tensor.rows * tensor.columns).sum();
            prop_assert_eq!(sum, shape.parameters);
            prop_assert!(shape.layers.len() <= 10_000);
        }
        Err(error) => {
            let message = error.to_string();
            let named =
                ["config.json: ", "hf_quant_config.json: "].iter().any(|what| message.starts_with(what));
            prop_assert!(named, "{}", message);
            prop_assert!(message.len() < 1000, "{}", message);
        }
    }
    Ok(())
}

/// Configs small enough that ten thousand of them are read in seconds.
fn small_fixtures() -> &'static [Fixture] {
    static SMALL: std::sync::OnceLock<Vec<Fixture>> = std::sync::OnceLock::new();
    SMALL.get_or_init(|| {
        let small = |fixture: &Fixture| fixture.config.len() < 3000;
        // The catalog has families of which there is no fixture.
        let catalog = crate::model::catalog::entries().iter().map(|entry| Fixture {
            stem: entry.name.clone(),
            repository: entry.repository.clone(),
            config: entry.config().into_bytes(),
            quant: None,
        });
        fixtures().into_iter().chain(catalog).filter(small).collect()
    })
}

/// A change to a config.
fn mutate(config: &[u8], kind: u8, at: usize, value: u64, junk: &[u8]) -> Vec<u8> {
    let start = at % config.len().max(1);
    match kind {
        // Bytes overwritten.
        0 => {
            let mut bytes = config.to_vec();
            for (to, from) in bytes.iter_mut().skip(start).zip(junk) {
                *to = *from;
            }
            bytes
        }
        // The end cut off.
        1 => config[..start].to_vec(),
        // A run left out.
        2 => [&config[..start], &config[(start + junk.len()).min(config.len())..]].concat(),
        // The next number, or the next word, replaced.
        _ => {
            let tail = &config[start..];
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            let Some(from) = tail.iter().position(is_digit) else { return config.to_vec() };
            let length = tail[from..].iter().take_while(|byte| is_digit(byte)).count();
            let new = match value % 8 {
                0 => "0".to_owned(),
                1 => "-1".to_owned(),
                2 => "1".to_owned(),
                3 => "\"8\"".to_owned(),
                4 => "null".to_owned(),
                5 => "300".to_owned(),
                6 => (value % (1 << 26)).to_string(),
                _ => value.to_string(),
            };
            [&config[..start + from], new.as_bytes(), &config[start + from + length..]].concat()
        }
    }
}

/// Replaces numbers, each with its own choice: most stay, the others become extreme.
fn exaggerate(value: &mut serde_json::Value, choices: &mut impl Iterator<Item = u8>) {
    match value {
        serde_json::Value::Number(number) => {
            let extreme: u64 = match choices.next().unwrap_or(0) {
                200..=208 => 0,
                209..=217 => 1,
                218..=226 => 1 << 16,
                227..=235 => 1 << 24,
                236..=240 => 1 << 26,
                241..=245 => 1 << 40,
                246 => 2000,
                _ => return,
            };
            *number = extreme.into();
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| exaggerate(item, choices)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|item| exaggerate(item, choices)),
        _ => {}
    }
}

/// Any JSON, a few levels deep, with the names that configs have.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let names =
        ["model_type", "hidden_size", "num_hidden_layers", "text_config", "quant_method", "bits", "x"];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,20}".prop_map(Into::into),
        prop::sample::select(vec!["llama", "mamba", "awq", "full_attention"]).prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
            prop::collection::vec((name, inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_change_to_a_real_config_makes_the_parser_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((0_u8..6, any::<usize>(), any::<u64>(), prop::collection::vec(any::<u8>(), 1..9)), 1..3),
    ) {
        let fixture = which.get(small_fixtures());
        let mut config = fixture.config.clone();
        for (kind, at, value, junk) in &changes {
            config = mutate(&config, *kind, *at, *value, junk);
        }
        check(&config, fixture.quant.as_deref().filter(|quant| quant.len() < 2000))?;
    }

    #[test]
    fn no_extreme_numbers_make_the_parser_panic(
        which in any::<prop::sample::Index>(),
        choices in prop::collection::vec(any::<u8>(), 60..61),
    ) {
        let fixture = which.get(small_fixtures());
        // Python's Infinity is no JSON for serde_json.
        let Ok(mut config) = serde_json::from_slice::<serde_json::Value>(&fixture.config) else { return Ok(()) };
        exaggerate(&mut config, &mut choices.into_iter());
        check(config.to_string().as_bytes(), None)?;
    }

    #[test]
    fn no_value_in_the_place_of_another_makes_the_parser_panic(
        which in any::<prop::sample::Index>(),
        field in any::<prop::sample::Index>(),
        value in json(),
        quant in any::<bool>(),
    ) {
        let fixture = which.get(small_fixtures());
        let Ok(mut config) = serde_json::from_slice::<serde_json::Value>(&fixture.config) else { return Ok(()) };
        let fields = config.as_object_mut().expect("a config is an object");
        let name = field.get(&fields.keys().cloned().collect::<Vec<_>>()).clone();
        fields.insert(name, value.clone());
        let beside = value.to_string();
        check(config.to_string().as_bytes(), quant.then_some(beside.as_bytes()))?;
    }
}
