mod measured;
mod properties;

use super::*;
use crate::model::weights::{Gguf, Meta, llama_gguf};
use crate::model::{CacheKind, Confidence, Layer, ModelShape, ParseError, Role, Span, StateKind};
use crate::precision::Precision;

fn shape_of(file: &Gguf) -> Result<ModelShape, ParseError> {
    parse_whole(&file.bytes()).and_then(|header| shape(&[header], "m"))
}

#[test]
fn a_llama_is_read_whole() {
    let shape = shape_of(&llama_gguf(3, 1000)).expect("valid");
    assert_eq!(shape.architecture, "llama");
    assert_eq!(shape.vocabulary, 1000);
    assert_eq!(shape.max_context, Some(8192), "not rope.scaling.original_context_length");
    assert_eq!(shape.stored_precision, Some(Precision::Q4KM));
    assert!(shape.tied_embeddings);
    let per_layer = 1024 * 1024 * 2 + 1024 * 256 * 2 + 3 * 1024 * 4096 + 2 * 1024;
    assert_eq!(shape.parameters, 1000 * 1024 + 1024 + 3 * per_layer);
    let stored: u64 = shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).sum();
    let matrices = 1000 * 1024 + 3 * (per_layer - 2 * 1024);
    assert_eq!(stored, matrices * 144 / 256 + (1024 + 3 * 2 * 1024) * 4);
    assert_eq!(shape.layers.len(), 3);
    for layer in &shape.layers {
        let attention = layer.attention.expect("attends");
        assert_eq!(attention.cache, CacheKind::Heads { kv_heads: 4, key_dim: 64, value_dim: 64 });
        assert_eq!(attention.span, Span::Full);
    }
    assert_eq!((shape.weights_confidence, shape.cache_confidence), (Confidence::Exact, Confidence::Exact));
    assert!(shape.notes.is_empty(), "{:?}", shape.notes);
}

#[test]
fn a_header_grows_until_it_is_whole() {
    let file = llama_gguf(2, 5000).bytes();
    let mut given = 4;
    let mut rounds = 0;
    let header = loop {
        match parse_header(file.get(..given).unwrap_or(&file)).expect("valid") {
            Progress::Complete(header) => break header,
            Progress::NeedsMore { at_least } => {
                let at_least = usize::try_from(at_least).expect("small");
                assert!(at_least > given && at_least <= file.len(), "{at_least} of {}", file.len());
                given = at_least.max(given * 2).min(file.len());
            }
        }
        rounds += 1;
        assert!(rounds < 32, "it does not end");
    };
    assert_eq!(*header, parse_whole(&file).expect("valid"));
}

/// The layers of a small model of an architecture with some more keys.
fn layers_of(architecture: &str, blocks: u32, more: &[(&str, Meta<'_>)]) -> Result<Vec<Layer>, ParseError> {
    model_of(architecture, blocks, more).map(|shape| shape.layers)
}

fn model_of(architecture: &str, blocks: u32, more: &[(&str, Meta<'_>)]) -> Result<ModelShape, ParseError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut file = Gguf::new()
        .meta("general.architecture", &Meta::Text(architecture))
        .meta(&key("block_count"), &Meta::U32(blocks))
        .meta(&key("embedding_length"), &Meta::U32(512))
        .f32("token_embd.weight", &[512, 10]);
    let mut default = vec![("attention.head_count", Meta::U32(8)), ("attention.head_count_kv", Meta::U32(2))];
    default.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    for (name, value) in default.iter().chain(more) {
        file = file.meta(&key(name), value);
    }
    shape_of(&file)
}

fn spans(layers: &[Layer]) -> String {
    let letter = |layer: &Layer| match (
        layer.attention.map(|attention| (attention.cache, attention.span)),
        layer.state,
    ) {
        (Some((CacheKind::Shared, _)), _) => '=',
        (Some((_, Span::Full)), Some(_)) => 'B',
        (Some((_, Span::Full)), None) => 'F',
        (Some((_, Span::Sliding(_))), _) => 's',
        (Some((_, Span::Chunked(_))), _) => 'c',
        (None, Some(_)) => 'r',
        (None, None) => '-',
    };
    layers.iter().map(letter).collect()
}

#[test]
fn each_architecture_keeps_what_its_loader_says() {
    let window = ("attention.sliding_window", Meta::U32(128));
    let ssm = [
        ("ssm.conv_kernel", Meta::U32(4)),
        ("ssm.inner_size", Meta::U32(1024)),
        ("ssm.state_size", Meta::U32(16)),
        ("ssm.group_count", Meta::U32(1)),
        ("ssm.time_step_rank", Meta::U32(8)),
    ];
    let with_ssm =
        |more: &[(&'static str, Meta<'static>)]| ssm.iter().cloned().chain(more.iter().cloned()).collect();
    let check = |architecture: &str, blocks: u32, more: Vec<(&str, Meta<'_>)>, expect: &str| {
        let layers = layers_of(architecture, blocks, &more).expect(architecture);
        assert_eq!(spans(&layers), expect, "{architecture}");
    };
    check("llama", 3, vec![window.clone()], "FFF");
    check("phi3", 3, vec![window.clone()], "FFF");
    check("gemma2", 4, vec![window.clone()], "sFsF");
    check("gemma3", 7, vec![window.clone()], "sssssFs");
    check("gpt-oss", 4, vec![window.clone()], "sFsF");
    check("cohere2", 5, vec![window.clone()], "sssFs");
    check("smallthinker", 5, vec![window.clone()], "FsssF");
    check("llama4", 5, vec![], "cccFc");
    check("llama4", 2, vec![("attention.sliding_window", Meta::U32(0))], "FF");
    check(
        "gemma4",
        4,
        vec![
            window.clone(),
            ("attention.sliding_window_pattern", Meta::Flags(&[true, false, true, false])),
            ("attention.shared_kv_layers", Meta::U32(1)),
        ],
        "sFs=",
    );
    check("gemma3", 4, vec![window.clone(), ("attention.sliding_window_pattern", Meta::U32(2))], "sFsF");
    check("mamba", 2, with_ssm(&[]), "rr");
    check("falcon-h1", 2, with_ssm(&[]), "BB");
    check("qwen3next", 4, with_ssm(&[]), "rrrF");
    check("jamba", 3, with_ssm(&[("attention.head_count_kv", Meta::Numbers(&[0, 2, 0]))]), "rFr");
    check(
        "nemotron_h",
        4,
        with_ssm(&[
            ("attention.head_count_kv", Meta::Numbers(&[0, 0, 2, 0])),
            ("feed_forward_length", Meta::Numbers(&[0, 64, 0, 64])),
        ]),
        "r-F-",
    );
    check(
        "lfm2",
        2,
        vec![("attention.head_count_kv", Meta::Numbers(&[0, 2])), ("shortconv.l_cache", Meta::U32(3))],
        "rF",
    );
    check("deci", 2, vec![("attention.head_count_kv", Meta::Numbers(&[0, 2]))], "-F");
    check("bert", 2, vec![], "");
    check("brand-new", 2, with_ssm(std::slice::from_ref(&window)), "BB");
}

#[test]
fn recurrent_state_has_the_elements_that_llama_cpp_allocates() {
    let shape = model_of(
        "qwen3next",
        4,
        &[
            ("ssm.conv_kernel", Meta::U32(4)),
            ("ssm.inner_size", Meta::U32(4096)),
            ("ssm.state_size", Meta::U32(128)),
            ("ssm.group_count", Meta::U32(16)),
            ("ssm.time_step_rank", Meta::U32(32)),
        ],
    )
    .expect("valid");
    let state = shape.layers.first().and_then(|layer| layer.state).expect("recurrent");
    assert_eq!(state.kind, StateKind::GatedDelta);
    // 16 key heads x 128 twice, and 32 value heads x 128; 32 matrices of 128 x 128.
    assert_eq!((state.conv_width, state.matrix, state.heads), (2 * 16 * 128 + 32 * 128, 32 * 128 * 128, 32));
}

#[test]
fn a_latent_cache_is_read_where_the_file_has_it() {
    let keys = |more: &[(&'static str, Meta<'static>)]| {
        let base = [
            ("attention.kv_lora_rank", Meta::U32(512)),
            ("rope.dimension_count", Meta::U32(64)),
            ("attention.key_length", Meta::U32(576)),
            ("attention.value_length", Meta::U32(512)),
            ("attention.head_count_kv", Meta::U32(1)),
        ];
        base.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>()
    };
    let cache = |more: &[(&'static str, Meta<'static>)]| {
        let layers = layers_of("deepseek2", 1, &keys(more)).expect("valid");
        layers.first().and_then(|layer| layer.attention).expect("attends").cache
    };
    let mla = ("attention.key_length_mla", Meta::U32(192));
    assert_eq!(
        cache(std::slice::from_ref(&mla)),
        CacheKind::Latent { rank: 512, rope_dim: 64, index_dim: 0 }
    );
    assert_eq!(
        cache(&[mla, ("attention.indexer.key_length", Meta::U32(128))]),
        CacheKind::Latent { rank: 512, rope_dim: 64, index_dim: 128 }
    );
    assert!(
        matches!(cache(&[]), CacheKind::Heads { .. }),
        "a file of before the latent cache holds all heads"
    );
}

#[test]
fn draft_layers_are_not_counted() {
    let file = llama_gguf(2, 100);
    let without = shape_of(&file).expect("valid").parameters;
    let file = llama_gguf(2, 100).q4_k("blk.2.ffn_up.weight", &[1024, 4096]);
    let with = shape_of(&file).expect("valid");
    assert_eq!(with.parameters, without);
    assert_eq!(with.tensors.iter().filter(|tensor| tensor.role == Role::Draft).count(), 1);
    let shape = model_of("glm4moe", 4, &[("nextn_predict_layers", Meta::U32(1))]).expect("valid");
    assert_eq!((shape.layers.len(), shape.draft_layers.len()), (3, 1));
}

#[test]
fn an_unknown_architecture_is_a_bound_that_says_so() {
    let shape = model_of("brand-new", 3, &[("attention.sliding_window", Meta::U32(128))]).expect("valid");
    assert_eq!((shape.weights_confidence, shape.cache_confidence), (Confidence::Exact, Confidence::Assumed));
    assert!(shape.notes.iter().any(|note| note.contains("brand-new")), "{:?}", shape.notes);
}

#[test]
fn experts_are_counted_by_their_stack() {
    let file = llama_gguf(1, 100)
        .meta("llama.expert_count", &Meta::U32(8))
        .meta("llama.expert_used_count", &Meta::U32(2))
        .tensor("blk.0.ffn_up_exps.weight", 39, (32, 17), &[1024, 512, 8]);
    let shape = shape_of(&file).expect("valid");
    let tensor = shape.tensors.iter().find(|tensor| tensor.role == Role::Expert).expect("there");
    assert_eq!((tensor.count, tensor.rows, tensor.columns), (8, 512, 1024));
    assert_eq!(tensor.stored_bytes, Some(8 * 512 * 1024 / 32 * 17));
    assert_eq!(shape.experts.map(|experts| (experts.count, experts.per_token)), Some((8, 2)));
}

#[test]
fn split_files_are_read_together_or_not_at_all() {
    let first = Gguf::new()
        .meta("split.no", &Meta::U32(0))
        .meta("split.count", &Meta::U32(2))
        .meta("split.tensors.count", &Meta::U32(13));
    let mut first = first;
    first.pairs += llama_gguf(1, 10).pairs;
    first.metadata.extend(llama_gguf(1, 10).metadata);
    let first = first.f32("token_embd.weight", &[1024, 10]);
    let second = llama_gguf(1, 10).f32("output.weight", &[1024, 10]);
    let read = |file: &Gguf| parse_whole(&file.bytes()).expect("valid");
    assert_eq!(split_count(&read(&first)), 2);
    assert!(shape(&[read(&first), read(&second)], "m").is_ok());
    let error = shape(&[read(&first)], "m").expect_err("one is missing").to_string();
    assert!(error.contains("split.count") && error.contains("2 files"), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let llama = || llama_gguf(1, 10);
    let mut big_endian = llama().bytes();
    big_endian.splice(4..8, 3_u32.to_be_bytes());
    let mut version_one = llama();
    version_one.version = 1;
    let mut version_nine = llama();
    version_nine.version = 9;
    let mut many = llama().bytes();
    many.splice(8..16, u64::MAX.to_le_bytes());
    let mut pairs = llama().bytes();
    pairs.splice(16..24, u64::MAX.to_le_bytes());
    for (bytes, expect) in [
        (big_endian, "big-endian"),
        (version_one.bytes(), "version 1"),
        (version_nine.bytes(), "version 9"),
        (many, "tensors, and at most"),
        (pairs, "metadata pairs, and at most"),
        (b"PK\x03\x04 a zip archive".to_vec(), "not a GGUF file"),
        (llama().tensor("x", 31, (1, 1), &[32]).bytes(), "type 31 is not known"),
        (llama().tensor("x", 12, (256, 144), &[100]).bytes(), "packs 256 to a block"),
        (llama().tensor("x", 0, (1 << 62, 4), &[1 << 40, 1 << 11, 1 << 10]).bytes(), "2^63 bytes"),
        (llama().bytes().get(..100).unwrap_or_default().to_vec(), "cut off"),
        (Gguf::new().f32("x", &[1]).bytes(), "general.architecture"),
        (Gguf::new().meta("general.architecture", &Meta::Text("llama")).bytes(), "no tensors"),
        (
            Gguf::new().meta("general.architecture", &Meta::Text("clip")).f32("v.x.weight", &[1]).bytes(),
            "projector",
        ),
        (
            Gguf::new().meta("general.architecture", &Meta::Text("llama")).f32("x", &[1]).bytes(),
            "llama.block_count",
        ),
        (llama().meta("llama.block_count", &Meta::U32(1)).bytes(), "twice"),
        (Gguf::new().meta("general.alignment", &Meta::U32(3)).bytes(), "power of two"),
    ] {
        let error =
            parse_whole(&bytes).and_then(|header| shape(&[header], "m")).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn overlapping_tensors_are_refused() {
    let file = llama_gguf(1, 10).bytes();
    let mut overlapping = file.clone();
    let last = overlapping.len() - 8;
    overlapping.splice(last.., 0_u64.to_le_bytes());
    let error = parse_whole(&overlapping).expect_err("overlaps").to_string();
    assert!(error.contains("overlaps"), "{error}");
}

#[test]
fn hostile_counts_are_refused_before_they_are_allocated() {
    let array = |kinds: &[u32], length: u64| {
        let mut file = Gguf::new();
        file.pairs = 1;
        file.metadata.extend(1_u64.to_le_bytes());
        file.metadata.extend(b"k");
        file.metadata.extend(9_u32.to_le_bytes());
        for kind in kinds {
            file.metadata.extend(kind.to_le_bytes());
            file.metadata.extend(length.to_le_bytes());
        }
        file.bytes()
    };
    for (bytes, expect) in [
        (array(&[8], u64::MAX), "would end at byte"),
        (array(&[8], 1 << 40), "would end at byte"),
        (array(&[4], u64::MAX / 2), "would end at byte"),
        (array(&[9, 9, 9, 9, 9, 4], 1), "deep"),
        (array(&[13], 1), "type 13"),
    ] {
        let error = parse_whole(&bytes).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
    }
    let mut long = Gguf::new();
    long.pairs = 1;
    long.metadata.extend((1_u64 << 20).to_le_bytes());
    let error = parse_whole(&long.bytes()).expect_err("too long").to_string();
    assert!(error.contains("metadata key has 1048576 bytes"), "{error}");
}

#[test]
fn a_short_file_is_an_incomplete_download() {
    let header = parse_whole(&llama_gguf(1, 10).bytes()).expect("valid");
    assert!(header.check_file_size(header.data_start + header.data_bytes).is_ok());
    let error = header.check_file_size(header.data_start + 1).expect_err("short").to_string();
    assert!(error.contains("incomplete"), "{error}");
}

#[test]
fn a_compressed_cache_is_read_layer_by_layer() {
    let shape = model_of(
        "deepseek4",
        3,
        &[
            ("attention.head_count_kv", Meta::U32(1)),
            ("attention.key_length", Meta::U32(512)),
            ("attention.sliding_window", Meta::U32(128)),
            ("attention.indexer.key_length", Meta::U32(128)),
            ("attention.compress_ratios", Meta::Numbers(&[0, 4, 128])),
        ],
    )
    .expect("valid");
    let caches: Vec<CacheKind> =
        shape.layers.iter().filter_map(|layer| layer.attention).map(|attention| attention.cache).collect();
    let compressed =
        |ratio, index_dim| CacheKind::Compressed { head_dim: 512, ratio, window: 128, index_dim };
    assert_eq!(caches, [compressed(0, 0), compressed(4, 128), compressed(128, 0)]);
    let error = layers_of("deepseek4", 3, &[("attention.sliding_window", Meta::U32(128))]).expect_err("none");
    assert!(error.to_string().contains("compress_ratios"), "{error}");
}

#[test]
fn an_architecture_that_only_configs_know_has_the_period_of_its_family() {
    // VaultGemma's config: every second layer attends to everything.
    let window = [("attention.sliding_window", Meta::U32(128))];
    let spans: Vec<Span> = layers_of("vaultgemma", 4, &window)
        .expect("valid")
        .iter()
        .filter_map(|layer| layer.attention.map(|attention| attention.span))
        .collect();
    assert_eq!(spans, [Span::Sliding(128), Span::Full, Span::Sliding(128), Span::Full]);
    // OLMo Hybrid's: every fourth attends, the others keep a state.
    let state = [
        ("ssm.conv_kernel", Meta::U32(4)),
        ("ssm.inner_size", Meta::U32(1024)),
        ("ssm.state_size", Meta::U32(64)),
    ];
    let layers = layers_of("olmo-hybrid", 8, &state).expect("valid");
    let attends = |layer: &Layer| layer.attention.is_some();
    assert_eq!(layers.iter().map(attends).collect::<Vec<_>>(), [0, 0, 0, 1, 0, 0, 0, 1].map(|one| one == 1));
    assert!(layers.iter().all(|layer| layer.attention.is_some() != layer.state.is_some()));
    // Of an architecture that nobody knows, all is an upper bound.
    let layers = layers_of("somebody", 4, &window).expect("valid");
    assert!(layers.iter().all(|layer| layer.attention.is_some_and(|attention| attention.span == Span::Full)));
}
