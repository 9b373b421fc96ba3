//! Every real config, against what is published of it and what engines measured.

use super::*;
use crate::model::published::Published;
use crate::model::{Role, Split, catalog};
use crate::units::{GIB, MAX_PARAMETERS};

/// What is published of a config's model, and where: a row of `sources.csv`.
struct Row {
    published: Published,
    place: String,
}

/// The rows of `sources.csv`, by file. Only its last column has commas within.
fn rows() -> std::collections::HashMap<String, Row> {
    let text = std::fs::read_to_string(directory().join("sources.csv")).expect("sources.csv is there");
    let header = "repository_id,file,source,params_total,params_digits,params_counts,params_source,notes";
    assert_eq!(text.lines().next(), Some(header));
    let read = |line: &str| {
        let fields: Vec<&str> = line.splitn(8, ',').collect();
        let [_, file, _, total, digits, counts, place, _] = fields[..] else { panic!("{line}") };
        let counts = counts.split_whitespace().map(|word| {
            serde_json::from_value(word.into()).unwrap_or_else(|error| panic!("{file}: {error}"))
        });
        let published = Published {
            parameters: total.parse().ok()?,
            digits: (!digits.is_empty()).then(|| digits.parse().expect("digits")),
            counts: counts.collect(),
        };
        Some((file.trim_end_matches(".json").to_owned(), Row { published, place: place.to_owned() }))
    };
    text.lines().skip(1).filter_map(read).collect()
}

/// Configs whose published number counts what they do not declare, or the other way round, or is so round that one per cent
/// is less than half of its last digit; and what that is.
const EXPLAINED: &[(&str, &str)] = &[
    ("EleutherAI__gpt-neo-1.3B", "a size that is published to the hundred million, of thirteen"),
    ("MiniMaxAI__MiniMax-M3", "a vision tower that this copy of the config leaves out"),
    ("XiaomiMiMo__MiMo-V2-Flash", "draft layers that the config does not declare"),
    ("albert__albert-base-v2", "a size that is published to the million, of eleven"),
    ("google__gemma-4-E2B-it", "keys and values of layers that use those of others"),
    ("meituan-longcat__LongCat-Flash-Chat", "a draft layer that the config does not declare"),
    ("microsoft__Florence-2-large", "a table of cosines and the zeroes that are added to the logits"),
];

#[test]
fn every_real_config_has_its_published_size() {
    let rows = rows();
    let (mut exact, mut unverified, mut wrong) = (0, Vec::new(), Vec::new());
    for fixture in fixtures() {
        let stem = &fixture.stem;
        let shape = fixture.parse().unwrap_or_else(|error| panic!("{stem}: {error}"));
        let row = rows.get(stem).unwrap_or_else(|| panic!("sources.csv has no size of {stem}"));
        let published = &row.published;
        let counted = published.count(&shape).expect("it fits");
        if !published.agrees(counted) {
            wrong.push(format!("{stem}: counted {counted}, {published:?}"));
        }
        if row.place.is_empty() {
            unverified.push(stem.clone());
            continue;
        }
        assert!(row.place.starts_with("https://"), "{stem}: {}", row.place);
        let off = u128::from(counted.abs_diff(published.parameters));
        let whole = u128::from(published.parameters);
        let explained = EXPLAINED.iter().any(|(name, _)| name == stem);
        if off * 100 > whole && !explained {
            wrong.push(format!("{stem}: counted {counted}, {published:?}, more than one per cent off"));
        }
        if published.digits.is_none() {
            if (off * 5000 > whole) != explained {
                wrong.push(format!("{stem}: counted {counted}, {published:?}, explained: {explained}"));
            }
            exact += usize::from(off == 0);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(exact >= 165, "only {exact} are counted to the parameter");
    let single_digit = ["ibm-granite__granite-speech-3.3-8b", "xverse__XVERSE-7B"];
    assert_eq!(unverified, single_digit, "nothing more precise than one digit was found");
}

#[test]
fn every_real_config_is_consistent() {
    for fixture in fixtures() {
        let stem = &fixture.stem;
        let shape = fixture.parse().unwrap_or_else(|error| panic!("{stem}: {error}"));
        let counted = shape.tensors.iter().filter(|tensor| tensor.role != Role::Draft);
        let sum: u64 = counted.map(|tensor| tensor.count * tensor.rows * tensor.columns).sum();
        assert_eq!(sum, shape.parameters, "{stem}");
        assert!(shape.parameters <= MAX_PARAMETERS, "{stem}");
        assert!(shape.hidden_size > 0 && shape.vocabulary > 0, "{stem}");
        let own = shape.architecture.as_str();
        let encoder = encoder::TYPES.contains(&own) || encoder::dual::TYPES.contains(&own);
        assert_eq!(shape.layers.is_empty(), encoder, "{stem}");
        for (index, layer) in shape.layers.iter().enumerate() {
            let index = u32::try_from(index).expect("few layers");
            let own = shape.tensors.iter().any(|tensor| tensor.layer == Some(index));
            let empty = layer.attention.is_none() && layer.state.is_none();
            assert!(own || empty, "{stem}: layer {index} keeps something but has no tensors");
        }
        let heads = shape.tensors.iter().filter(|tensor| tensor.role == Role::OutputHead).count();
        let expected = usize::from(!shape.tied_embeddings);
        // A reward model and RWKV say that head and embedding are one, but have a head.
        let own_head =
            ["internlm__internlm2-7b-reward", "RWKV__rwkv-5-world-3b.partial"].contains(&stem.as_str());
        assert_eq!(heads, if own_head { 1 } else { expected }, "{stem}");
        for tensor in &shape.tensors {
            if let Split::KeyValueHeads(heads) = tensor.split {
                assert!(tensor.rows.is_multiple_of(heads) || tensor.rows == 1, "{stem}: {}", tensor.name);
            }
        }
    }
}

/// Weights that vLLM reported on one GPU, in hundredths of a GiB: public logs, see the fixtures' serving.csv.
#[test]
fn the_counted_weights_are_those_that_vllm_loads() {
    for (name, hundredths) in [
        ("qwen3-0.6b", 112),
        ("qwen3-8b", 1527),
        ("qwen3-30b-a3b", 5688),
        ("codellama-7b", 1256),
        ("deepseek-v2-lite", 2943),
        ("gemma-2-27b", 5072),
        ("gemma-2-2b", 490),
        ("gemma-3-1b", 191),
        ("granite-3.3-8b", 1525),
        ("llama-3.1-8b", 1499),
        ("llama-3.2-11b-vision", 1986),
        ("phi-2", 519),
        ("phi-4", 2739),
        ("mistral-small-3.2-24b", 4476),
        ("exaone-4.0-1.2b", 238),
    ] {
        let shape = catalog::shape(name).unwrap_or_else(|| panic!("{name} is in the catalog"));
        let padded = |tensor: &crate::model::Tensor| {
            // vLLM pads the vocabulary to a multiple of 64.
            let rows =
                if tensor.split == Split::Vocabulary { tensor.rows.div_ceil(64) * 64 } else { tensor.rows };
            tensor.count * rows * tensor.columns * 2
        };
        let loaded = shape.tensors.iter().filter(|tensor| tensor.role != Role::Draft);
        let bytes: u64 = loaded.map(padded).sum();
        let measured = hundredths * GIB / 100;
        // The engine keeps rotary tables beside the weights: up to 48 MiB of them in these models.
        let tables = 48 << 20;
        let slack = |bytes: u64| bytes / 200;
        assert!(
            bytes <= measured + slack(measured) && measured <= bytes + slack(bytes) + tables,
            "{name}: counted {bytes} bytes, measured {measured}"
        );
    }
}

/// A config of measures alone, for families whose files are not among the fixtures.
fn of_measures(model_type: &str, measures: &[(&str, serde_json::Value)]) -> ModelShape {
    let mut config = serde_json::Map::new();
    config.insert("model_type".to_owned(), model_type.into());
    for (key, value) in measures {
        config.insert((*key).to_owned(), value.clone());
    }
    let json = serde_json::to_vec(&config).expect("JSON");
    parse(&json, model_type).unwrap_or_else(|error| panic!("{model_type}: {error}"))
}

#[test]
fn families_without_a_fixture_have_their_published_size() {
    let measures = |hidden: u64, layers: u64, heads: u64, kv_heads: u64, width: u64, vocabulary: u64| {
        vec![
            ("hidden_size", hidden.into()),
            ("num_hidden_layers", layers.into()),
            ("num_attention_heads", heads.into()),
            ("num_key_value_heads", kv_heads.into()),
            ("intermediate_size", width.into()),
            ("vocab_size", vocabulary.into()),
        ]
    };
    let with = |mut measures: Vec<(&'static str, serde_json::Value)>,
                more: &[(&'static str, serde_json::Value)]| {
        measures.extend_from_slice(more);
        measures
    };
    let each = |value: u64| serde_json::Value::from(vec![value; 32]);
    // The sizes that their model cards state, in millions.
    for (model_type, measures, millions) in [
        ("internlm3", with(measures(4096, 48, 32, 2, 10_240, 128_512), &[("head_dim", 128.into())]), 8_800),
        ("apertus", measures(4096, 32, 32, 8, 21_504, 131_072), 8_050),
        (
            "hunyuan_v1_moe",
            with(
                measures(4096, 32, 32, 8, 3072, 128_167),
                &[
                    ("head_dim", 128.into()),
                    ("num_experts", 64.into()),
                    ("moe_topk", each(8)),
                    ("moe_intermediate_size", each(3072)),
                    ("num_shared_expert", each(1)),
                    ("tie_word_embeddings", true.into()),
                ],
            ),
            80_400,
        ),
        (
            "dbrx",
            vec![
                ("d_model", 6144.into()),
                ("n_layers", 40.into()),
                ("n_heads", 48.into()),
                ("vocab_size", 100_352.into()),
                ("attn_config", serde_json::json!({"kv_n_heads": 8})),
                (
                    "ffn_config",
                    serde_json::json!({"ffn_hidden_size": 10_752, "moe_num_experts": 16, "moe_top_k": 4}),
                ),
            ],
            131_600,
        ),
        (
            "bailing_moe",
            with(
                measures(2048, 28, 16, 4, 5632, 126_464),
                &[
                    ("num_experts", 64.into()),
                    ("num_experts_per_tok", 6.into()),
                    ("num_shared_experts", 2.into()),
                    ("moe_intermediate_size", 1408.into()),
                ],
            ),
            16_800,
        ),
    ] {
        let counted = of_measures(model_type, &measures).parameters / 1_000_000;
        assert!(
            counted.abs_diff(millions) * 100 <= millions,
            "{model_type}: {counted}, not {millions} million"
        );
    }
}

/// `class_sizes.jsonl` has the parameters of classes of Hugging Face transformers 5.24 with their own defaults, as counted
/// by making each of them on PyTorch's meta device: an account of every family that is independent of this one.
#[test]
fn every_class_of_transformers_has_the_parameters_that_it_makes() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in include_str!("class_sizes.jsonl").lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let config = row["config"].to_string();
        let name = row["config"]["model_type"].as_str().expect("a type");
        let counted = parse(config.as_bytes(), name).map(|shape| shape.parameters);
        checked += 1;
        if counted.as_ref().ok() != row["parameters"].as_u64().as_ref() {
            wrong.push(format!("{name}: counted {counted:?}, it makes {}", row["parameters"]));
        }
    }
    assert!(checked >= 150, "{checked} classes");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
