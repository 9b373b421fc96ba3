mod properties;

use super::*;
use crate::model::weights::safetensors;
use crate::model::{CacheKind, Confidence, ModelShape, ParseError, Role, Split};
use crate::precision::Precision;

type Row<'a> = (&'a str, &'a str, &'a [u64]);
type Tensors<'a> = &'a [Row<'a>];

fn shape_of(tensors: Tensors<'_>) -> Result<ModelShape, ParseError> {
    parse_header(&safetensors(tensors)).and_then(|header| shape(&[header], None, "m"))
}

/// One decoder layer and an embedding, as Llama's checkpoint names them.
const LLAMA: Tensors<'_> = &[
    ("model.embed_tokens.weight", "BF16", &[1000, 512]),
    ("model.layers.0.input_layernorm.weight", "BF16", &[512]),
    ("model.layers.0.self_attn.q_proj.weight", "BF16", &[512, 512]),
    ("model.layers.0.self_attn.k_proj.weight", "BF16", &[256, 512]),
    ("model.layers.0.self_attn.v_proj.weight", "BF16", &[256, 512]),
    ("model.layers.0.self_attn.o_proj.weight", "BF16", &[512, 512]),
    ("model.layers.0.mlp.gate_proj.weight", "BF16", &[2048, 512]),
    ("model.layers.0.mlp.up_proj.weight", "BF16", &[2048, 512]),
    ("model.layers.0.mlp.down_proj.weight", "BF16", &[512, 2048]),
    ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", &[32]),
    ("lm_head.weight", "BF16", &[1000, 512]),
];

fn with_attention(more: Tensors<'_>) -> Vec<Row<'_>> {
    LLAMA.iter().chain(more).copied().collect()
}

#[test]
fn a_llama_without_config_has_exact_weights_and_a_bound_of_the_cache() {
    let shape = shape_of(LLAMA).expect("valid");
    let parameters = 2 * 1000 * 512 + 512 + 2 * 512 * 512 + 2 * 256 * 512 + 3 * 2048 * 512;
    assert_eq!(shape.parameters, parameters);
    assert_eq!(shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).sum::<u64>(), parameters * 2);
    assert_eq!((shape.weights_confidence, shape.cache_confidence), (Confidence::Exact, Confidence::Assumed));
    assert_eq!(shape.stored_precision, Some(Precision::Bf16));
    assert_eq!((shape.vocabulary, shape.hidden_size, shape.intermediate_size), (1000, 512, 2048));
    assert!(!shape.tied_embeddings);
    let attention = shape.layers.first().and_then(|layer| layer.attention).expect("attends");
    assert_eq!(attention.cache, CacheKind::Heads { kv_heads: 2, key_dim: 128, value_dim: 128 });
    assert!(shape.notes.iter().any(|note| note.contains("upper bound")), "{:?}", shape.notes);
}

#[test]
fn names_tell_roles_and_splits() {
    let shape = shape_of(LLAMA).expect("valid");
    for (name, layer, role, split, quantizable) in [
        ("model.embed_tokens.weight", None, Role::Embedding, Split::Vocabulary, false),
        ("lm_head.weight", None, Role::OutputHead, Split::Vocabulary, false),
        ("model.layers.0.input_layernorm.weight", Some(0), Role::Norm, Split::Replicated, false),
        ("model.layers.0.self_attn.q_proj.weight", Some(0), Role::Attention, Split::Rows, true),
        ("model.layers.0.self_attn.k_proj.weight", Some(0), Role::Attention, Split::KeyValueHeads(2), true),
        ("model.layers.0.self_attn.o_proj.weight", Some(0), Role::Attention, Split::Columns, true),
        ("model.layers.0.mlp.down_proj.weight", Some(0), Role::Mlp, Split::Columns, true),
    ] {
        let tensor = shape.tensors.iter().find(|tensor| tensor.name == name).expect(name);
        assert_eq!(
            (tensor.layer, tensor.role, tensor.split, tensor.quantizable),
            (layer, role, split, quantizable),
            "{name}"
        );
    }
    for (name, vector, role) in [
        ("model.visual.blocks.3.attn.qkv.weight", false, Role::Vision),
        ("visual.merger.mlp.0.weight", false, Role::Projector),
        ("vision_tower.vision_model.encoder.layers.0.self_attn.k_proj.weight", false, Role::Vision),
        ("multi_modal_projector.linear_1.weight", false, Role::Projector),
        ("language_model.model.layers.3.mlp.gate.weight", false, Role::Router),
        ("model.layers.3.mlp.gate.e_score_correction_bias", true, Role::Norm),
        ("model.layers.3.mlp.experts.7.up_proj.weight", false, Role::Expert),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", false, Role::SharedExpert),
        ("model.layers.3.mlp.shared_expert_gate.weight", false, Role::Router),
        ("model.layers.3.block_sparse_moe.experts.1.w2.weight", false, Role::Expert),
        ("model.layers.61.eh_proj.weight", false, Role::Draft),
        ("mtp.layers.0.mlp.up_proj.weight", false, Role::Draft),
        ("model.layers.0.linear_attn.conv1d.weight", false, Role::State),
        ("model.layers.0.linear_attn.A_log", true, Role::State),
        ("backbone.layers.0.mixer.in_proj.weight", false, Role::Attention),
        ("transformer.h.0.attn.c_attn.weight", false, Role::Attention),
        ("transformer.wte.weight", false, Role::Embedding),
        ("model.norm.weight", true, Role::Norm),
    ] {
        assert_eq!(names::classify(name, vector).role, role, "{name}");
    }
}

#[test]
fn packed_weights_are_counted_as_they_unpack() {
    // 512 x 512 weights in groups of 128, in each format; what is stored is weights, scales and zero points.
    let check = |packed: Tensors<'_>, precision: Precision, group: Option<u64>, bytes: u64| {
        let tensors = with_attention(packed);
        let shape = shape_of(&tensors).expect("valid");
        let name = "model.layers.0.mlp.extra_proj.weight";
        let tensor = shape.tensors.iter().find(|tensor| tensor.name == name).expect(name);
        assert_eq!(tensor.rows * tensor.columns, 512 * 256, "{packed:?}");
        assert_eq!((tensor.rows, tensor.columns), (256, 512), "output x input of {packed:?}");
        assert_eq!(tensor.stored_bytes, Some(bytes), "{packed:?}");
        let quantization = shape.quantization.expect("quantised");
        assert_eq!((quantization.precision, quantization.group_size), (precision, group), "{packed:?}");
        assert_eq!(shape.parameters, shape_of(LLAMA).expect("valid").parameters + 512 * 256);
    };
    let p = "model.layers.0.mlp.extra_proj";
    let name = |suffix: &str| format!("{p}{suffix}");
    let weights = 512 * 256;
    check(
        &[
            (&name(".qweight"), "I32", &[512 / 8, 256]),
            (&name(".qzeros"), "I32", &[4, 256 / 8]),
            (&name(".scales"), "F16", &[4, 256]),
            (&name(".g_idx"), "I32", &[512]),
        ],
        Precision::GptqInt4,
        Some(128),
        weights / 2 + 4 * 32 * 4 + 4 * 256 * 2 + 512 * 4,
    );
    check(
        &[
            (&name(".qweight"), "I32", &[512 / 4, 256]),
            (&name(".qzeros"), "I32", &[4, 256 / 4]),
            (&name(".scales"), "F16", &[4, 256]),
        ],
        Precision::GptqInt8,
        Some(128),
        weights + 4 * 64 * 4 + 4 * 256 * 2,
    );
    check(
        &[
            (&name(".qweight"), "I32", &[512, 256 / 8]),
            (&name(".qzeros"), "I32", &[4, 256 / 8]),
            (&name(".scales"), "F16", &[4, 256]),
        ],
        Precision::AwqInt4,
        Some(128),
        weights / 2 + 4 * 32 * 4 + 4 * 256 * 2,
    );
    check(
        &[
            (&name(".weight_packed"), "I32", &[256, 512 / 8]),
            (&name(".weight_scale"), "BF16", &[256, 4]),
            (&name(".weight_shape"), "I64", &[2]),
        ],
        Precision::GptqInt4,
        None,
        weights / 2 + 256 * 4 * 2 + 16,
    );
    check(
        &[(&name(".weight"), "F8_E4M3", &[256, 512]), (&name(".weight_scale_inv"), "F32", &[2, 4])],
        Precision::Fp8Block,
        None,
        weights + 2 * 4 * 4,
    );
    check(
        &[(&name(".weight"), "F8_E4M3", &[256, 512]), (&name(".weight_scale"), "F32", &[256, 1])],
        Precision::Fp8,
        None,
        weights + 256 * 4,
    );
    check(
        &[(&name(".weight"), "I8", &[256, 512]), (&name(".weight_scale"), "BF16", &[256, 1])],
        Precision::Int8,
        None,
        weights + 256 * 2,
    );
    check(
        &[
            (&name(".weight"), "U8", &[256, 256]),
            (&name(".weight_scale"), "F8_E4M3", &[256, 32]),
            (&name(".weight_scale_2"), "F32", &[]),
            (&name(".input_scale"), "F32", &[]),
        ],
        Precision::Nvfp4,
        Some(16),
        weights / 2 + 256 * 32 + 8,
    );
    check(
        &[(&name(".weight"), "I8", &[256, 256]), (&name(".scale"), "F8_E8M0", &[256, 16])],
        Precision::Mxfp4,
        Some(32),
        weights / 2 + 256 * 16,
    );
    check(
        &[(&name(".weight"), "I8", &[256, 512]), (&name(".SCB"), "F32", &[256])],
        Precision::BnbInt8,
        None,
        weights + 256 * 4,
    );
}

#[test]
fn fused_and_flattened_experts_are_counted() {
    let tensors = with_attention(&[
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "U8", &[4, 128, 16, 16]),
        ("model.layers.0.mlp.experts.gate_up_proj_scales", "U8", &[4, 128, 16]),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", "BF16", &[4, 128]),
    ]);
    let shape = shape_of(&tensors).expect("valid");
    let fused = shape.tensors.iter().find(|tensor| tensor.name.ends_with("gate_up_proj")).expect("there");
    assert_eq!((fused.count, fused.rows, fused.columns), (4, 128, 512));
    assert_eq!(fused.stored_bytes, Some(4 * 128 * 16 * 17));
    assert_eq!(shape.quantization.map(|found| found.precision), Some(Precision::Mxfp4));
    let nf4 = with_attention(&[
        ("model.layers.0.mlp.extra_proj.weight", "U8", &[65_536, 1]),
        ("model.layers.0.mlp.extra_proj.weight.absmax", "U8", &[2048]),
        ("model.layers.0.mlp.extra_proj.weight.nested_absmax", "F32", &[8]),
        ("model.layers.0.mlp.extra_proj.weight.quant_map", "F32", &[16]),
        ("model.layers.0.mlp.extra_proj.weight.quant_state.bitsandbytes__nf4", "U8", &[80]),
    ]);
    let shape = shape_of(&nf4).expect("valid");
    let quantization = shape.quantization.expect("quantised");
    assert_eq!((quantization.precision, quantization.double_quantized), (Precision::Nf4, true));
    assert_eq!(shape.parameters, shape_of(LLAMA).expect("valid").parameters + 131_072);
}

#[test]
fn experts_of_a_layer_are_one_tensor() {
    let names: Vec<String> =
        (0..8).map(|expert| format!("model.layers.0.mlp.experts.{expert}.up_proj.weight")).collect();
    let experts: Vec<(&str, &str, &[u64])> =
        names.iter().map(|name| (name.as_str(), "BF16", &[64_u64, 512] as &[u64])).collect();
    let shape = shape_of(&with_attention(&experts)).expect("valid");
    let found: Vec<_> = shape.tensors.iter().filter(|tensor| tensor.role == Role::Expert).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found.first().map(|tensor| (tensor.count, tensor.stored_bytes)),
        Some((8, Some(8 * 64 * 512 * 2)))
    );
    assert_eq!(shape.experts.map(|experts| (experts.count, experts.intermediate_size)), Some((8, 64)));
}

#[test]
fn the_bound_follows_the_projections() {
    let cache = |tensors: Tensors<'_>| {
        let shape = shape_of(tensors).expect("valid");
        shape.layers.first().and_then(|layer| layer.attention).expect("attends").cache
    };
    assert_eq!(
        cache(&[
            ("model.layers.0.self_attn.qkv_proj.weight", "BF16", &[512 + 2 * 128, 512]),
            ("model.layers.0.self_attn.o_proj.weight", "BF16", &[512, 512]),
        ]),
        CacheKind::Heads { kv_heads: 1, key_dim: 128, value_dim: 128 }
    );
    assert_eq!(
        cache(&[
            ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "BF16", &[576, 512]),
            ("model.layers.0.self_attn.kv_a_layernorm.weight", "BF16", &[512]),
        ]),
        CacheKind::Latent { rank: 512, rope_dim: 64, index_dim: 0 }
    );
    for tensors in [
        &[("model.layers.0.linear_attn.A_log", "F32", &[32_u64] as &[u64])] as Tensors<'_>,
        &[("model.layers.0.mlp.up_proj.weight", "F32", &[32, 32])],
        &[("some.matrix", "F32", &[32, 32])],
    ] {
        let error = shape_of(tensors).expect_err("nothing tells the cache").to_string();
        assert!(error.contains("config.json"), "{error}");
    }
}

#[test]
fn files_are_counted_once() {
    let header = parse_header(&safetensors(LLAMA)).expect("valid");
    let once = shape(std::slice::from_ref(&header), None, "m").expect("valid");
    let twice = shape(&[header.clone(), header], None, "m").expect("valid");
    assert_eq!(once.parameters, twice.parameters);
    assert!(twice.notes.iter().any(|note| note.contains("more than one file")), "{:?}", twice.notes);
}

#[test]
fn an_index_names_its_files() {
    let index =
        |map: &str| Index::parse(format!("{{\"metadata\":{{}},\"weight_map\":{{{map}}}}}").as_bytes());
    let found = index("\"a\":\"model-00002-of-00002.safetensors\",\"b\":\"model-00001-of-00002.safetensors\",\"c\":\"model-00002-of-00002.safetensors\"")
        .expect("valid");
    assert_eq!(found.files, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    assert_eq!(found.tensors, 3);
    for (map, expect) in [
        ("", "empty"),
        ("\"a\":\"../x.safetensors\"", "not a file beside"),
        ("\"a\":\"/etc/x.safetensors\"", "not a file beside"),
        ("\"a\":\"x.bin\"", "not a file beside"),
        ("\"a\":\"http://x/y.safetensors\"", "not a file beside"),
        ("\"a\":\"x?y.safetensors\"", "not a file beside"),
        ("\"a\":1", "not an index"),
    ] {
        let error = index(map).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let raw = |json: &str| {
        let mut file = u64::try_from(json.len()).expect("short").to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file
    };
    let tensor = |rest: &str| raw(&format!("{{\"a.b\":{{{rest}}}}}"));
    for (bytes, expect) in [
        (Vec::new(), "eight bytes"),
        (b"GGUF\x03\0\0\0\0\0".to_vec(), "bytes"),
        (b"<!DOCTYPE html>".to_vec(), "it is a web page"),
        ((64_u64 << 20).to_le_bytes().to_vec(), "at most"),
        (0_u64.to_le_bytes().to_vec(), "smallest"),
        (100_u64.to_le_bytes().to_vec(), "cut off"),
        (raw("[]"), "not a table"),
        (raw("{\"a\":3}"), "not a table"),
        (
            raw(
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
            ),
            "twice",
        ),
        (tensor("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]"), "F33"),
        (tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), "is 8"),
        (tensor("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]"), "end before they begin"),
        (tensor("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), "not a table"),
        (tensor("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), "whole number of bytes"),
        (tensor("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]"), "2^61"),
        (tensor("\"dtype\":\"F32\",\"shape\":[0,18446744073709551615,2],\"data_offsets\":[0,0]"), "2^61"),
        (
            raw(
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
            ),
            "overlaps",
        ),
        (raw(&format!("{{\"__metadata__\":{}}}", "[".repeat(100_000))), "not a table"),
    ] {
        let error = parse_header(&bytes).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
        assert!(error.len() < 400, "{error}");
    }
    for (dtype, shape, bytes) in
        [("F4", "[2]", 1), ("F6_E2M3", "[4]", 3), ("F8_E8M0", "[2]", 2), ("BF16", "[]", 2), ("F32", "[0]", 0)]
    {
        let json = format!("\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{bytes}]");
        assert_eq!(parse_header(&tensor(&json)).map(|header| header.data_bytes), Ok(bytes), "{dtype}");
    }
}

#[test]
fn a_file_of_another_length_is_refused() {
    let header = parse_header(&safetensors(LLAMA)).expect("valid");
    assert!(header.check_file_size(header.file_bytes()).is_ok());
    let error = header.check_file_size(header.file_bytes() - 1).expect_err("short").to_string();
    assert!(error.contains("incomplete"), "{error}");
}

/// A checkpoint that has just the tensors that its config says, read back: what each is for must come out the same.
#[test]
fn checkpoints_of_known_configs_are_what_the_config_says() {
    let mut read = 0;
    for file in std::fs::read_dir("tests/fixtures/configs").expect("fixtures") {
        let path = file.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        if name.strip_suffix(".json").is_none()
            || name.contains("hf_quant_config")
            || name.contains(".partial.")
        {
            continue;
        }
        let config = std::fs::read(&path).expect("readable");
        let Ok(base) = crate::model::hf_config::parse(&config, "m") else { continue };
        let entries: u64 = base.tensors.iter().map(|tensor| tensor.count).sum();
        if base.quantization.is_some() || entries > 8_000 {
            continue;
        }
        let mut tensors: Vec<(String, Vec<u64>)> = Vec::new();
        for tensor in &base.tensors {
            // Parts of a fused matrix have its name: the file has one of all their rows.
            if let Some((_, shape)) = tensors.iter_mut().find(|(name, _)| *name == tensor.name) {
                *shape.first_mut().expect("a matrix") +=
                    if tensor.rows == 1 { tensor.columns } else { tensor.rows };
                continue;
            }
            let shape =
                if tensor.rows == 1 { vec![tensor.columns] } else { vec![tensor.rows, tensor.columns] };
            if tensor.name.contains(".*.") {
                for index in 0..tensor.count {
                    tensors.push((tensor.name.replacen(".*.", &format!(".{index}."), 1), shape.clone()));
                }
            } else if tensor.count > 1 {
                tensors.push((tensor.name.clone(), [vec![tensor.count], shape].concat()));
            } else {
                tensors.push((tensor.name.clone(), shape));
            }
        }
        let table: Vec<(&str, &str, &[u64])> =
            tensors.iter().map(|(name, shape)| (name.as_str(), "BF16", shape.as_slice())).collect();
        let header = parse_header(&safetensors(&table)).expect(&name);
        let shape = shape(&[header], Some(&config), "m").expect(&name);
        let by_role = |shape: &ModelShape| {
            let mut sums = std::collections::BTreeMap::new();
            for tensor in &shape.tensors {
                *sums
                    .entry(format!("{:?} {:?} {}", tensor.role, tensor.split, tensor.quantizable))
                    .or_insert(0) += tensor.rows * tensor.columns * tensor.count;
            }
            sums
        };
        assert_eq!(by_role(&shape), by_role(&base), "{name}");
        assert_eq!(shape.parameters, base.parameters, "{name}");
        assert_eq!(shape.layers, base.layers, "{name}");
        read += 1;
    }
    assert!(read > 50, "only {read} configs were read");
}

#[test]
fn an_architecture_that_is_not_known_is_a_bound_that_says_so() {
    let header = parse_header(&safetensors(LLAMA)).expect("valid");
    let config = br#"{"model_type":"brand-new","max_position_embeddings":4096}"#;
    let found = shape(std::slice::from_ref(&header), Some(config), "m").expect("a bound");
    assert_eq!((found.weights_confidence, found.cache_confidence), (Confidence::Exact, Confidence::Assumed));
    assert_eq!((found.max_context, found.layers.len()), (Some(4096), 1));
    assert!(found.notes.iter().any(|note| note.contains("brand-new")), "{:?}", found.notes);
    // A known one with a wrong field is an error all the same: a bound would hide it.
    let config = br#"{"model_type":"llama","hidden_size":512}"#;
    let error = shape(&[header], Some(config), "m").expect_err("wrong").to_string();
    assert!(error.contains("num_hidden_layers"), "{error}");
}
