//! Files that somebody made to break a reader: each must be refused, or read, quickly and in little memory.

use crate::fuzz::PARSERS;
use crate::weights::llama_gguf;

/// A GGUF header of so many tensors and pairs, and what comes after these numbers.
fn gguf(tensors: u64, pairs: u64, rest: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(tensors.to_le_bytes());
    file.extend(pairs.to_le_bytes());
    file.extend(rest);
    file
}

/// A metadata pair: its key, the number of its type, and the bytes of its value.
fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut pair = u64::try_from(key.len()).expect("short").to_le_bytes().to_vec();
    pair.extend(key.as_bytes());
    pair.extend(kind.to_le_bytes());
    pair.extend(value);
    pair
}

/// A tensor: its name, dimensions, type and offset.
fn tensor(name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut tensor = u64::try_from(name.len()).expect("short").to_le_bytes().to_vec();
    tensor.extend(name.as_bytes());
    tensor.extend(u32::try_from(dimensions.len()).expect("few").to_le_bytes());
    tensor.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
    tensor.extend(kind.to_le_bytes());
    tensor.extend(offset.to_le_bytes());
    tensor
}

/// The type and length of an array, and its items.
fn array(kind: u32, length: u64, items: &[u8]) -> Vec<u8> {
    let mut array = kind.to_le_bytes().to_vec();
    array.extend(length.to_le_bytes());
    array.extend(items);
    array
}

/// A safetensors file around its JSON.
fn safetensors(json: &str) -> Vec<u8> {
    let mut file = u64::try_from(json.len()).expect("64 bits").to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file
}

/// A piece of JSON so many times, with commas.
fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

const U64: u32 = 10;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const HUGE: u64 = 1 << 63;

fn ggufs() -> Vec<(&'static str, Vec<u8>)> {
    let mut nested = Vec::new();
    for _ in 0..64 {
        nested.extend(array(ARRAY, 1, &[]));
    }
    let arrays_of_arrays: Vec<u8> = array(0, 0, &[]).repeat(2 << 20);
    let many_pairs: Vec<u8> =
        (0..16_384).flat_map(|at| pair(&format!("{at:0128}"), ARRAY, &array(0, 4, &[1, 2, 3, 4]))).collect();
    let wide_tables: Vec<u8> =
        (0..16).flat_map(|at| pair(&at.to_string(), ARRAY, &array(0, 4096, &[7; 4096]))).collect();
    let many_tensors: Vec<u8> = (0..65_536)
        .flat_map(|at| tensor(&format!("blk.{at}.attn_k.{at:0100}.weight"), &[32, 1, 1, 1], 0, at * 128))
        .collect();
    let layers: Vec<u8> =
        [("general.architecture", TEXT, &[5, 0, 0, 0, 0, 0, 0, 0, b'l', b'l', b'a', b'm', b'a'][..])]
            .iter()
            .flat_map(|(key, kind, value)| pair(key, *kind, value))
            .chain(pair("llama.block_count", U64, &u64::MAX.to_le_bytes()))
            .chain(pair("llama.expert_count", U64, &u64::MAX.to_le_bytes()))
            .collect();
    let alignment = |value: u64| {
        let rest = pair("general.alignment", U64, &value.to_le_bytes());
        gguf(1, 1, &[rest, tensor("t", &[32], 0, 0)].concat())
    };
    vec![
        ("2^63 tensors", gguf(HUGE, 0, &[])),
        ("2^64-1 pairs", gguf(0, u64::MAX, &[])),
        ("all the pairs that may be", gguf(0, 16_384, &many_pairs)),
        ("all the numbers that are kept", gguf(0, 16, &wide_tables)),
        ("all the tensors that may be", gguf(65_536, 0, &many_tensors)),
        ("a key of 2^63 bytes", gguf(0, 1, &HUGE.to_le_bytes())),
        ("a string of 2^63 bytes", gguf(0, 1, &pair("k", TEXT, &HUGE.to_le_bytes()))),
        ("an array of 2^63 numbers", gguf(0, 1, &pair("k", ARRAY, &array(U64, HUGE, &[])))),
        ("an array of 2^63 strings", gguf(0, 1, &pair("k", ARRAY, &array(TEXT, HUGE, &[])))),
        ("an array of 2^63 arrays", gguf(0, 1, &pair("k", ARRAY, &array(ARRAY, HUGE, &[])))),
        ("arrays 64 deep", gguf(0, 1, &pair("k", ARRAY, &nested))),
        (
            "two million empty arrays",
            gguf(0, 1, &pair("k", ARRAY, &array(ARRAY, 2 << 20, &arrays_of_arrays))),
        ),
        ("strings without end", gguf(0, 1, &pair("k", ARRAY, &array(TEXT, 4 << 20, &[0; 16 << 20])))),
        ("overlapping tensors", gguf(2, 0, &[tensor("a", &[64], 0, 0), tensor("b", &[64], 0, 32)].concat())),
        (
            "a product of dimensions above 2^64",
            gguf(1, 0, &tensor("a", &[1 << 32, 1 << 31, 1 << 31, 4], 0, 0)),
        ),
        ("a negative dimension", gguf(1, 0, &tensor("a", &[u64::MAX], 0, 0))),
        ("dimensions of zero", gguf(1, 0, &tensor("a", &[0, 1 << 62, 1 << 62], 0, 0))),
        ("five dimensions", gguf(1, 0, &tensor("a", &[1; 5], 0, 0))),
        ("an offset near 2^64", gguf(1, 0, &tensor("a", &[32], 0, u64::MAX - 31))),
        ("an unknown type", gguf(1, 0, &tensor("a", &[32], 4096, 0))),
        ("an alignment of 0", alignment(0)),
        ("an alignment of 3", alignment(3)),
        ("an alignment of 2^63", alignment(HUGE)),
        ("2^64-1 layers and experts", gguf(0, 3, &layers)),
        ("nothing but its magic number, 33 MiB long", [b"GGUF".to_vec(), vec![0xff; 33 << 20]].concat()),
        ("a whole header and zeros", [llama_gguf(2, 20_000).bytes(), vec![0; 8 << 20]].concat()),
    ]
}

fn safetensors_files() -> Vec<(&'static str, Vec<u8>)> {
    let one = |entry: &str| safetensors(&format!("{{\"a\":{entry}}}"));
    let tensor = |at: usize| {
        format!(
            "\"model.layers.{}.self_attn.k_proj.{at}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{at},{}]}}",
            at % 60,
            at + 1
        )
    };
    let ranked = |at: usize| {
        format!(
            "\"{at}\":{{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[{at},{}]}}",
            at + 1
        )
    };
    let long_names = |at: usize| {
        format!(
            "\"model.layers.{}.mlp.experts.{at}.{}.weight\":{{\"dtype\":\"U8\",\"shape\":[1,1],\"data_offsets\":[{at},{}]}}",
            at % 60,
            "x".repeat(130),
            at + 1
        )
    };
    let big = 15 << 20;
    vec![
        ("a length of 2^63", HUGE.to_le_bytes().to_vec()),
        ("a length of 2^64-1", [u64::MAX.to_le_bytes().to_vec(), b"{}".to_vec()].concat()),
        ("100 MiB of spaces", safetensors(&" ".repeat(100 << 20))),
        ("15 MiB of spaces", safetensors(&format!("{{{}}}", " ".repeat(big)))),
        ("JSON a million deep", safetensors(&format!("{{\"a\":{}", "[".repeat(1 << 20)))),
        (
            "metadata a million deep",
            safetensors(&format!("{{\"__metadata__\":{}", "{\"a\":".repeat(1 << 20))),
        ),
        (
            "15 MiB of metadata",
            safetensors(&format!("{{\"__metadata__\":{{\"a\":\"{}\"}}}}", "\\u00e4".repeat(big / 6))),
        ),
        ("metadata that is a list", safetensors("{\"__metadata__\":[1,2,{}]}")),
        ("metadata twice", safetensors("{\"__metadata__\":{},\"__metadata__\":{}}")),
        (
            "a name twice",
            safetensors(
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            ),
        ),
        (
            "overlapping",
            safetensors(
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
            ),
        ),
        ("backwards", one("{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}")),
        ("negative", one("{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}")),
        ("fractions", one("{\"dtype\":\"U8\",\"shape\":[4.5],\"data_offsets\":[0,1e400]}")),
        (
            "2^64",
            one(
                "{\"dtype\":\"U8\",\"shape\":[18446744073709551616],\"data_offsets\":[0,18446744073709551616]}",
            ),
        ),
        ("one offset", one("{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4]}")),
        ("three offsets", one("{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,8]}")),
        (
            "dimensions above 2^64",
            one("{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,4294967296],\"data_offsets\":[0,0]}"),
        ),
        (
            "dimensions of zero and above 2^64",
            one("{\"dtype\":\"U8\",\"shape\":[0,4294967296,4294967296,4294967296],\"data_offsets\":[0,0]}"),
        ),
        (
            "seven million dimensions",
            one(&format!("{{\"dtype\":\"U8\",\"shape\":[{}1]}}", "0,".repeat(big / 2))),
        ),
        ("a dtype of 15 MiB", one(&format!("{{\"dtype\":\"{}\"}}", "\\n".repeat(big / 2)))),
        (
            "a dtype of 15 MiB, escaped when quoted",
            one(&format!("{{\"shape\":\"{}\"}}", "\u{7f}".repeat(big))),
        ),
        ("a string of 15 MiB for a tensor", one(&format!("\"{}\"", "\u{7f}".repeat(big)))),
        ("a string of 15 MiB for everything", safetensors(&format!("\"{}\"", "\u{7f}".repeat(big)))),
        ("a name of 15 MiB", safetensors(&format!("{{\"{}\":1}}", "\\n".repeat(big / 2)))),
        ("as many tensors as may be", safetensors(&format!("{{{}}}", list(100_000, tensor)))),
        ("as many dimensions as may be", safetensors(&format!("{{{}}}", list(100_000, ranked)))),
        ("as many long names as fit", safetensors(&format!("{{{}}}", list(55_000, long_names)))),
        ("more tensors than may be", safetensors(&format!("{{{}}}", list(101_000, tensor)))),
    ]
}

fn indexes() -> Vec<(&'static str, Vec<u8>)> {
    let entry = |at: usize| format!("\"{at}\":\"m-{}.safetensors\"", at % 4000);
    let index = |map: &str| format!("{{\"weight_map\":{{{map}}}}}").into_bytes();
    let long = "\u{7f}".repeat(31 << 20);
    vec![
        ("a million entries", index(&list(1_000_000, entry))),
        ("a file for each of 100,000", index(&list(100_000, |at| format!("\"{at}\":\"{at}.safetensors\"")))),
        ("a file name of 31 MiB", index(&format!("\"a\":\"{long}\""))),
        ("a tensor name of 31 MiB", index(&format!("\"{long}\":\"a.safetensors\""))),
        (
            "a tensor name of 31 MiB, escaped",
            index(&format!("\"{}\":\"a.safetensors\"", "\\n".repeat(15 << 20))),
        ),
        ("a map that is 31 MiB of text", format!("{{\"weight_map\":\"{long}\"}}").into_bytes()),
        ("an index that is 31 MiB of text", format!("\"{long}\"").into_bytes()),
        ("a map twice", b"{\"weight_map\":{},\"weight_map\":{}}".to_vec()),
        ("a file above the directory", index("\"a\":\"../../etc/passwd.safetensors\"")),
    ]
}

fn configs() -> Vec<(&'static str, Vec<u8>)> {
    let llama = |more: &str| {
        format!("{{\"model_type\":\"llama\",\"hidden_size\":512,\"intermediate_size\":64,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"vocab_size\":100,{more}}}").into_bytes()
    };
    let moe = |kind: &str, layers: &str, experts: &str| {
        format!("{{\"model_type\":\"{kind}\",\"hidden_size\":512,\"intermediate_size\":64,\"moe_intermediate_size\":64,\"num_attention_heads\":8,\"num_key_value_heads\":2,\"vocab_size\":100,\"decoder_sparse_step\":1,\"num_hidden_layers\":{layers},\"num_experts\":{experts},\"num_local_experts\":{experts},\"n_routed_experts\":{experts},\"num_experts_per_tok\":2,\"shared_expert_intermediate_size\":64,\"n_shared_experts\":1,\"q_lora_rank\":64,\"kv_lora_rank\":64,\"qk_nope_head_dim\":64,\"qk_rope_head_dim\":64,\"v_head_dim\":64,\"first_k_dense_replace\":0}}").into_bytes()
    };
    let layer_types = |count: usize| {
        llama(&format!(
            "\"num_hidden_layers\":2,\"layer_types\":[{}]",
            list(count, |_| "\"full_attention\"".to_owned())
        ))
    };
    vec![
        ("60 levels", llama(&format!("\"num_hidden_layers\":2,\"x\":{}{}", "[".repeat(60), "]".repeat(60)))),
        ("a million levels", llama(&format!("\"x\":{}", "[".repeat(1 << 20)))),
        ("1e400", llama("\"num_hidden_layers\":1e400")),
        ("-1", llama("\"num_hidden_layers\":-1")),
        ("1e9 layers", llama("\"num_hidden_layers\":1000000000")),
        ("all the layers that may be", llama("\"num_hidden_layers\":10000")),
        ("1e9 experts", moe("qwen3_moe", "2", "1000000000")),
        ("all the experts and layers that may be", moe("qwen3_moe", "10000", "100000")),
        ("all the shared experts and layers that may be", moe("qwen2_moe", "10000", "100000")),
        ("all the latent layers that may be", moe("deepseek_v3", "10000", "100000")),
        (
            "a name of 3 MiB",
            llama(&format!("\"num_hidden_layers\":2,\"torch_dtype\":\"{}\"", "\u{7f}".repeat(3 << 20))),
        ),
        ("a number of 3 MiB", llama(&format!("\"num_hidden_layers\":{}", "9".repeat(3 << 20)))),
        ("a key of 3 MiB", llama(&format!("\"num_hidden_layers\":2,\"{}\":2", "\\n".repeat(3 << 19)))),
        (
            "a model type of 3 MiB",
            format!("{{\"model_type\":\"{}\"}}", "\u{7f}".repeat(3 << 20)).into_bytes(),
        ),
        ("150,000 layer types", layer_types(150_000)),
        (
            "a list of a million numbers",
            llama(&format!("\"num_hidden_layers\":[{}]", list(1_000_000, |_| "0".to_owned()))),
        ),
        (
            "90,000 numbers",
            llama(&format!("\"num_hidden_layers\":2,\"x\":[{}]", list(90_000, |_| "0".to_owned()))),
        ),
        ("two million empty lists", llama(&format!("\"x\":[{}]", list(1_300_000, |_| "[]".to_owned())))),
        (
            "90,000 objects",
            llama(&format!(
                "\"num_hidden_layers\":2,\"x\":[{}]",
                list(45_000, |at| format!("{{\"{at}\":0}}"))
            )),
        ),
        ("300,000 keys", llama(&list(300_000, |at| format!("\"{at}\":0")))),
        (
            "a config in a config in a config",
            format!(
                "{{\"text_config\":{}}}",
                String::from_utf8(llama("\"num_hidden_layers\":2")).expect("text")
            )
            .into_bytes(),
        ),
        (
            "a catalog entry of a million numbers",
            format!("{{\"config\":{{\"x\":[{}]}}}}", list(1_000_000, |_| "0".to_owned())).into_bytes(),
        ),
        (
            "NaN a million times",
            llama(&format!("\"num_hidden_layers\":2,\"x\":[{}]", list(90_000, |_| "-Infinity".to_owned()))),
        ),
    ]
}

/// Gives inputs to every parser. Those that they are meant for must come near what they are to be kept from.
fn check(inputs: Vec<(&'static str, Vec<u8>)>, meant_for: &[&str]) {
    let mut most = [(0_u64, ""); PARSERS.len()];
    let mut wrong = Vec::new();
    for (name, input) in inputs {
        for (parser, most) in PARSERS.into_iter().zip(&mut most) {
            let taken = parser.read(&input);
            if let Err(problem) = taken.check(parser, input.len()) {
                wrong.push(format!("{problem}: {name}"));
            }
            *most = (*most).max((taken.memory, name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (parser, (most, name)) in PARSERS.into_iter().zip(most) {
        eprintln!("{}: {} KiB for {name}", parser.name, most.div_ceil(1024));
        assert!(most > 1 << 20 || !meant_for.contains(&parser.name), "{}: only {most} bytes", parser.name);
    }
}

#[test]
fn hostile_gguf_headers_take_little() {
    check(ggufs(), &["GGUF header"]);
}

#[test]
fn hostile_safetensors_headers_take_little() {
    let json = safetensors_files()
        .into_iter()
        .find(|(name, _)| name.starts_with("as many dimensions"))
        .and_then(|(name, file)| Some((name, file.get(8..)?.to_vec())));
    let inputs = safetensors_files().into_iter().chain(json).collect();
    let meant_for = ["safetensors header", "safetensors header and config", "safetensors header as JSON"];
    check(inputs, &meant_for);
}

#[test]
fn hostile_indexes_take_little() {
    check(indexes(), &["safetensors index"]);
}

#[test]
fn hostile_configs_take_little() {
    check(configs(), &["config.json", "ConfigMap"]);
}
