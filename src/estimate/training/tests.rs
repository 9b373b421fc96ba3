//! Figures that can be worked out by hand, and what is refused.

use super::{DEFAULT_LENGTH, estimate};
use crate::estimate::{
    AttentionKernel, Checkpointing, Components, EstimateError, Loss, Method, Offload, Optimizer, Sharding,
    Techniques, Training, Workload,
};
use crate::model::{
    Attention, CacheKind, Confidence, Experts, Layer, ModelShape, Quantization, Role, ShapeSource, Span,
    Split, Tensor,
};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::units::Bytes;

/// The dimensions of a decoder in the manner of Llama.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dimensions {
    pub(super) hidden: u64,
    pub(super) layers: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) intermediate: u64,
    pub(super) vocabulary: u64,
    pub(super) tied: bool,
    /// Experts per layer, two of which see each token; 0 for a dense MLP.
    pub(super) experts: u64,
}

/// Mistral-7B-v0.1, from its published config: 7,241,732,096 parameters.
pub(super) const MISTRAL: Dimensions = Dimensions {
    hidden: 4096,
    layers: 32,
    heads: 32,
    kv_heads: 8,
    intermediate: 14336,
    vocabulary: 32000,
    tied: false,
    experts: 0,
};

/// A shape with every tensor.
pub(super) fn decoder(dimensions: Dimensions) -> ModelShape {
    let Dimensions { hidden, layers, heads, kv_heads, intermediate, vocabulary, tied, experts } = dimensions;
    let head_dim = hidden / heads;
    let key = kv_heads * head_dim;
    let mlp = if experts == 0 { Role::Mlp } else { Role::Expert };
    let mut tensors = Vec::new();
    let mut add = |name: String, layer, role, rows, columns, split| {
        let quantizable = matches!(role, Role::Attention | Role::Mlp | Role::Expert);
        tensors.push(Tensor {
            name,
            layer,
            role,
            count: if role == Role::Expert { experts } else { 1 },
            rows,
            columns,
            split,
            quantizable,
            stored_bytes: None,
        });
    };
    add("model.embed_tokens.weight".to_owned(), None, Role::Embedding, vocabulary, hidden, Split::Vocabulary);
    for index in 0..u32::try_from(layers).unwrap() {
        for (part, role, rows, columns, split) in [
            ("input_layernorm", Role::Norm, 1, hidden, Split::Replicated),
            ("self_attn.q_proj", Role::Attention, hidden, hidden, Split::Rows),
            ("self_attn.k_proj", Role::Attention, key, hidden, Split::KeyValueHeads(kv_heads)),
            ("self_attn.v_proj", Role::Attention, key, hidden, Split::KeyValueHeads(kv_heads)),
            ("self_attn.o_proj", Role::Attention, hidden, hidden, Split::Columns),
            ("post_attention_layernorm", Role::Norm, 1, hidden, Split::Replicated),
            ("mlp.gate_proj", mlp, intermediate, hidden, Split::Rows),
            ("mlp.up_proj", mlp, intermediate, hidden, Split::Rows),
            ("mlp.down_proj", mlp, hidden, intermediate, Split::Columns),
        ] {
            add(format!("model.layers.{index}.{part}.weight"), Some(index), role, rows, columns, split);
        }
    }
    add("model.norm.weight".to_owned(), None, Role::Norm, 1, hidden, Split::Replicated);
    if !tied {
        add("lm_head.weight".to_owned(), None, Role::OutputHead, vocabulary, hidden, Split::Vocabulary);
    }
    let cache = CacheKind::Heads { kv_heads, key_dim: head_dim, value_dim: head_dim };
    let layer = Layer { attention: Some(Attention { cache, span: Span::Full }), state: None };
    ModelShape {
        name: "test".to_owned(),
        source: ShapeSource::Config,
        architecture: "llama".to_owned(),
        parameters: tensors.iter().map(|tensor| tensor.count * tensor.rows * tensor.columns).sum(),
        tensors,
        layers: vec![layer; usize::try_from(layers).unwrap()],
        draft_layers: Vec::new(),
        hidden_size: hidden,
        intermediate_size: intermediate,
        heads,
        head_dim,
        experts: (experts > 0).then_some(Experts {
            count: experts,
            per_token: experts.min(2),
            intermediate_size: intermediate,
        }),
        vocabulary,
        max_context: Some(32768),
        tied_embeddings: tied,
        stored_precision: Some(Precision::Bf16),
        quantization: None,
        state_precision: None,
        rotary_elements: None,
        encoder_tokens: None,
        multimodal: false,
        weights_confidence: Confidence::Exact,
        cache_confidence: Confidence::Exact,
        notes: Vec::new(),
    }
}

/// The same, of which only the size is known.
pub(super) fn size_only(dimensions: Dimensions) -> ModelShape {
    let shape = decoder(dimensions);
    ModelShape {
        tensors: Vec::new(),
        source: ShapeSource::Parameters,
        weights_confidence: Confidence::Assumed,
        cache_confidence: Confidence::Assumed,
        ..shape
    }
}

/// Full fine-tuning with AdamW on one GPU.
pub(super) fn training() -> Training {
    Training {
        method: Method::Full,
        optimizer: Optimizer::Adamw,
        lora_rank: 16,
        lora_targets: vec!["all-linear".to_owned()],
        gradient_checkpointing: Checkpointing::Full,
        attention: AttentionKernel::Flash,
        sharding: Sharding::None,
        gpus: 1,
        offload: Vec::new(),
    }
}

/// One sequence of 2048 tokens.
pub(super) fn workload() -> Workload {
    Workload {
        precision: None,
        context: Some(2048),
        sequences: 1,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        data: 1,
        engine: Engine::None,
        batched_tokens: None,
        options: crate::estimate::Options::default(),
        training: None,
    }
}

fn per_gpu(training: &Training, precision: Option<Precision>) -> Components {
    let workload = Workload { precision, ..workload() };
    estimate(&decoder(MISTRAL), &workload, training).unwrap().per_gpu
}

const PARAMETERS: u64 = 7_241_732_096;
const LINEAR: u64 = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 14336);

#[test]
fn full_training_holds_what_every_calculator_says() {
    // Bytes per parameter of weights, gradients, optimizer state.
    for (precision, optimizer, weights, gradients, state) in [
        (None, Optimizer::Adamw, 2, 2, 4),
        (None, Optimizer::Sgd, 2, 2, 2),
        (None, Optimizer::Lion, 2, 2, 2),
        // accelerate estimate-memory and vram.asmirnov.xyz: 4 + 4 + 8 for AdamW, 4 + 4 + 4 for SGD with momentum, and
        // 2 more where the arithmetic is in 16 bits.
        (Some(Precision::Fp32), Optimizer::Adamw, 4, 4, 8),
        (Some(Precision::Fp32), Optimizer::Sgd, 4, 4, 4),
        (Some(Precision::Fp16), Optimizer::Adamw, 4, 4, 8),
    ] {
        let needs = per_gpu(&Training { optimizer, ..training() }, precision);
        let copies = if weights == 4 { 2 * LINEAR } else { 0 };
        assert_eq!(needs.weights, Bytes(weights * PARAMETERS + copies), "{precision:?} {optimizer}");
        assert_eq!(needs.gradients, Bytes(gradients * PARAMETERS), "{precision:?} {optimizer}");
        assert_eq!(needs.optimizer, Bytes(state * PARAMETERS), "{precision:?} {optimizer}");
        assert_eq!(needs.kv_cache, Bytes::ZERO);
    }
}

#[test]
fn the_step_of_adamw_takes_ten_bytes_per_parameter() {
    // fms-hf-tuning's benchmark: 67.46 GiB allocated at the peak, whatever the batch.
    let needs = per_gpu(&training(), None);
    let allocated = needs.weights.0 + needs.gradients.0 + needs.optimizer.0 + needs.activations.0;
    assert_eq!(allocated, 10 * PARAMETERS);
    assert_eq!(Bytes(allocated).gib(), "67.4");
}

#[test]
fn optimizers_keep_what_they_say() {
    let state = |optimizer| per_gpu(&Training { optimizer, ..training() }, None).optimizer.0;
    let vectors = 65 * 4096;
    // Two bytes and two scales per 256 elements; the norms take as much as the largest tensors that stay in 32 bits.
    let matrices = PARAMETERS - vectors;
    assert_eq!(state(Optimizer::Adamw8bit), 2 * matrices + matrices / 32 + 8 * vectors);
    // A row and a column of each matrix.
    let sides =
        32 * (2 * (4096 + 4096) + 2 * (1024 + 4096) + 3 * (4096 + 14336)) + 2 * (32000 + 4096) + vectors;
    assert_eq!(state(Optimizer::Adafactor), 4 * sides);
    assert_eq!(state(Optimizer::PagedAdamw8bit), 0);
    // One moment for the linear layers, two for the rest.
    assert_eq!(state(Optimizer::Muon), 2 * LINEAR + 4 * (PARAMETERS - LINEAR));
    assert!(state(Optimizer::Galore) < state(Optimizer::Muon));
}

#[test]
fn deepspeed_divides_eighteen_bytes_per_parameter() {
    for (sharding, weights, gradients, optimizer) in [
        (Sharding::Zero1, 2 * PARAMETERS, 4 * PARAMETERS, 3 * PARAMETERS),
        (Sharding::Zero2, 2 * PARAMETERS, PARAMETERS, 3 * PARAMETERS),
        (Sharding::Zero3, PARAMETERS / 2, PARAMETERS, 3 * PARAMETERS),
    ] {
        let needs = per_gpu(&Training { sharding, gpus: 4, ..training() }, None);
        assert_eq!(
            (needs.weights.0, needs.gradients.0, needs.optimizer.0),
            (weights, gradients, optimizer),
            "{sharding}"
        );
    }
}

#[test]
fn adapters_are_counted_by_target() {
    for (targets, rank, parameters) in [
        // The trainable parameters that PEFT prints for Mistral-7B.
        (vec!["q_proj", "v_proj"], 8, 3_407_872),
        (vec!["attention"], 16, 13_631_488),
        (vec!["all-linear"], 16, 41_943_040),
        (vec!["self_attn.q_proj", "v_proj", "v_proj"], 8, 3_407_872),
    ] {
        let targets: Vec<String> = targets.into_iter().map(str::to_owned).collect();
        let training =
            Training { method: Method::Lora, lora_rank: rank, lora_targets: targets.clone(), ..training() };
        let needs = per_gpu(&training, None);
        assert_eq!(needs.gradients, Bytes(4 * parameters), "{targets:?}");
        assert_eq!(needs.weights, Bytes(2 * PARAMETERS + 4 * parameters), "{targets:?}");
    }
}

#[test]
fn a_quantised_base_leaves_embeddings_alone() {
    let training = Training { method: Method::Qlora, lora_rank: 16, ..training() };
    let adapters = 4 * 41_943_040;
    let norms = 2 * 65 * 4096;
    let tables = 2 * 32_000 * 4096;
    let nf4 = LINEAR / 2 + LINEAR / 64 + LINEAR / 64 / 64;
    for (precision, base, width) in [
        // PEFT casts what bitsandbytes leaves alone to 32 bits.
        (None, nf4, 4),
        (Some(Precision::Bf16), nf4, 4),
        (Some(Precision::Int4), LINEAR / 2, 4),
        (Some(Precision::GptqInt4), LINEAR / 2 + LINEAR / 256 * 5, 2),
    ] {
        let expected = base + width * tables + norms + adapters;
        assert_eq!(per_gpu(&training, precision).weights, Bytes(expected), "{precision:?}");
    }
    // A flat parameter has one type: nothing is cast where the weights are sharded.
    for sharding in [Sharding::Fsdp, Sharding::Zero3] {
        let sharded = Training { sharding, gpus: 2, ..training.clone() };
        let adapters = if sharding == Sharding::Zero3 { adapters / 2 } else { adapters };
        let expected = nf4 + 2 * tables + norms + adapters;
        assert_eq!(per_gpu(&sharded, None).weights, Bytes(expected.div_ceil(2)), "{sharding}");
    }
}

#[test]
fn recomputed_layers_keep_their_inputs_in_the_width_of_the_stream() {
    let activations = |precision, sharding| {
        let training = Training { method: Method::Lora, sharding, gpus: 2, ..training() };
        let long = Workload { precision: Some(precision), context: Some(8192), ..workload() };
        let small = Workload { context: Some(4096), ..long.clone() };
        let of = |workload| estimate(&decoder(MISTRAL), workload, &training).unwrap().per_gpu.activations.0;
        of(&long) - of(&small)
    };
    let inputs = 32 * 4096 * 4096;
    let sixteen = activations(Precision::Bf16, Sharding::Ddp);
    assert_eq!(activations(Precision::Nf4, Sharding::Ddp), sixteen + 2 * inputs);
    assert_eq!(activations(Precision::GptqInt4, Sharding::Ddp), sixteen);
    assert_eq!(activations(Precision::Nf4, Sharding::Fsdp), sixteen);
}

#[test]
fn deepspeed_holds_adapters_in_16_bits_and_a_copy_in_32() {
    let rank = |sharding| Training { method: Method::Lora, lora_rank: 16, sharding, gpus: 1, ..training() };
    let adapters = 41_943_040;
    for (sharding, weights, optimizer) in
        [(Sharding::None, 4, 8), (Sharding::Fsdp, 4, 8), (Sharding::Zero2, 2, 12), (Sharding::Zero3, 2, 12)]
    {
        let needs = per_gpu(&rank(sharding), None);
        assert_eq!(needs.weights, Bytes(2 * PARAMETERS + weights * adapters), "{sharding}");
        assert_eq!(needs.optimizer, Bytes(optimizer * adapters), "{sharding}");
        assert_eq!(needs.gradients, Bytes(4 * adapters), "{sharding}");
    }
}

#[test]
fn the_range_is_as_wide_as_what_is_not_known() {
    let term = |method, sharding, component| {
        let training = Training { method, sharding, gpus: 2, ..training() };
        let estimate = estimate(&decoder(MISTRAL), &workload(), &training).unwrap();
        estimate.terms.into_iter().find(|term| term.component == component).unwrap()
    };
    // 14 bytes per token and entry of the vocabulary; up to three times as much is cached beside it.
    let loss = 14 * 2048 * 32_000;
    let overhead = term(Method::Lora, Sharding::Ddp, "overhead");
    assert!(overhead.high.0 >= 3 * loss, "{}", overhead.high);
    assert!(overhead.low.0 < super::CONTEXT.0, "{}", overhead.low);
    // Without the cast to 32 bits; without double quantisation.
    let weights = term(Method::Qlora, Sharding::Ddp, "weights");
    assert_eq!(weights.bytes.0 - weights.low.0, 2 * 2 * 32_000 * 4096);
    assert_eq!(weights.high.0 - weights.bytes.0, LINEAR / 16 - LINEAR / 64 - LINEAR / 64 / 64);
    let exact = term(Method::Lora, Sharding::Ddp, "weights");
    assert_eq!((exact.low, exact.high), (exact.bytes, exact.bytes));
}

#[test]
fn a_quantised_checkpoint_is_trained_on_as_frameworks_can() {
    let stored = |precision| ModelShape {
        quantization: Some(Quantization {
            precision,
            group_size: None,
            zero_points: false,
            activation_order: false,
            double_quantized: false,
            ignored: Vec::new(),
            cache_precision: None,
            groups: Vec::new(),
        }),
        ..decoder(MISTRAL)
    };
    for (precision, method, expected) in [
        (Precision::GptqInt4, Method::Lora, Precision::GptqInt4),
        (Precision::GptqInt4, Method::Qlora, Precision::GptqInt4),
        (Precision::Fp8Block, Method::Lora, Precision::Bf16),
        (Precision::Mxfp4, Method::Qlora, Precision::Nf4),
        (Precision::Q4KM, Method::Lora, Precision::Bf16),
        (Precision::Q4KM, Method::Full, Precision::Bf16),
    ] {
        let training = Training { method, ..training() };
        let estimate = estimate(&stored(precision), &workload(), &training).unwrap();
        assert_eq!(estimate.workload.precision, Some(expected), "{precision} {method}");
        let dequantised = estimate.notes.iter().any(|note| note.contains("dequantised for training"));
        assert_eq!(dequantised, precision != expected, "{precision} {method}");
    }
}

#[test]
fn a_model_without_a_head_has_no_logits() {
    let training = Training { method: Method::Lora, ..training() };
    let activations =
        |shape: &ModelShape| estimate(shape, &workload(), &training).unwrap().per_gpu.activations.0;
    let mut embedding = decoder(MISTRAL);
    embedding.tensors.retain(|tensor| tensor.role != Role::OutputHead);
    let tied = ModelShape { tied_embeddings: true, ..embedding.clone() };
    assert_eq!(activations(&tied), activations(&decoder(MISTRAL)));
    // 14 bytes per token and entry are more than what one layer of the backward pass needs.
    assert!(activations(&embedding) < activations(&tied));
}

#[test]
fn a_sequence_beyond_the_model_is_noted() {
    for (length, noted) in [(32_768, false), (32_769, true)] {
        let workload = Workload { context: Some(length), ..workload() };
        let estimate = estimate(&decoder(MISTRAL), &workload, &training()).unwrap();
        assert_eq!(estimate.notes.iter().any(|note| note.contains("longer than the 32768")), noted);
    }
}

#[test]
fn a_size_alone_gives_nearly_the_same() {
    for method in [Method::Full, Method::Lora, Method::Qlora] {
        let training = Training { method, ..training() };
        let known = estimate(&decoder(MISTRAL), &workload(), &training).unwrap();
        let assumed = estimate(&size_only(MISTRAL), &workload(), &training).unwrap();
        assert_eq!(assumed.confidence, Confidence::Assumed);
        assert_eq!(known.confidence, Confidence::Derived);
        let (least, most) = (known.total.0 / 100 * 99, known.total.0 / 100 * 101);
        assert!(
            (least..=most).contains(&assumed.total.0),
            "{method}: {} is not near {}",
            assumed.total,
            known.total
        );
    }
}

#[test]
fn defaults_are_filled_in() {
    let workload = Workload { context: None, ..workload() };
    let training = Training { lora_targets: Vec::new(), method: Method::Qlora, gpus: 2, ..training() };
    let filled = estimate(&decoder(MISTRAL), &workload, &training).unwrap();
    assert_eq!(filled.workload.context, Some(DEFAULT_LENGTH));
    assert_eq!(filled.workload.precision, Some(Precision::Nf4));
    let run = filled.workload.training.unwrap();
    assert_eq!((run.sharding, run.lora_targets), (Sharding::Ddp, vec!["all-linear".to_owned()]));
    assert_eq!(filled.gpus, 2);
    assert_eq!(filled.total.0, 2 * filled.total_per_gpu.0);
}

#[test]
fn what_cannot_be_run_says_what_can() {
    type Change = fn(&mut Workload, &mut Training);
    let cases: [(Change, &str); 9] = [
        (|_, training| training.gpus = 0, "training.gpus: the number of GPUs is 0; use at least 1"),
        (|workload, _| workload.sequences = 0, "training.microBatch: the micro batch is 0; use at least 1"),
        (
            |workload, _| workload.context = Some(0),
            "training.sequenceLength: the sequence length is 0; use at least 1",
        ),
        (
            |_, training| {
                training.method = Method::Lora;
                training.lora_rank = 0;
            },
            "training.loraRank: the rank of the LoRA matrices is 0; use at least 1",
        ),
        (
            |_, training| {
                training.method = Method::Lora;
                training.lora_targets = vec!["c_attn".to_owned()];
            },
            "training.loraTargets: \"c_attn\" is no linear layer of test; use attention, all-linear, or names of down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
        ),
        (
            |workload, _| workload.precision = Some(Precision::Int8),
            "precision: int8 weights cannot be trained in full; use bf16, fp16 or fp32, or the method qlora, which keeps the base quantised",
        ),
        (
            |workload, training| {
                workload.precision = Some(Precision::Q4KM);
                training.method = Method::Qlora;
            },
            "precision: adapters cannot be trained on a base in q4_k_m; use nf4, int4, gptq-int4, awq-int4, bnb-int8, int8, fp8, mxfp4 or nvfp4, or bf16 for LoRA on a 16-bit base",
        ),
        (
            |_, training| training.offload = vec![Offload::Parameters],
            "training.offload: parameters cannot be offloaded with sharding none; use sharding fsdp or zero3, or offload the optimizer only",
        ),
        (
            |workload, _| workload.tensor = 2,
            "parallelism: training is estimated for data parallelism, not for tensor 2 and pipeline 1; set training.gpus and training.sharding instead",
        ),
    ];
    for (change, message) in cases {
        let (mut workload, mut training) = (workload(), training());
        change(&mut workload, &mut training);
        let error = estimate(&decoder(MISTRAL), &workload, &training).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
    let endless = Workload { context: Some(u64::MAX), ..workload() };
    let error = estimate(&decoder(MISTRAL), &endless, &training()).expect_err("no memory is so large");
    assert!(matches!(error, EstimateError::Overflow(_)), "{error}");
}

/// What a GPU needs with techniques, at a batch where the loss counts.
fn with(techniques: Techniques, gpus: u64) -> Components {
    let options = crate::estimate::Options { training: techniques, ..crate::estimate::Options::default() };
    let workload = Workload { context: Some(8192), sequences: 4, options, ..workload() };
    let training = Training { gpus, gradient_checkpointing: Checkpointing::Full, ..training() };
    estimate(&decoder(Dimensions { vocabulary: 151_936, ..MISTRAL }), &workload, &training).unwrap().per_gpu
}

#[test]
fn a_loss_that_keeps_fewer_logits_needs_less() {
    let needs = |loss| {
        let per_gpu = with(Techniques { loss, ..Techniques::default() }, 1);
        per_gpu.activations.0 + per_gpu.overhead.0
    };
    let all = [Some(Loss::Fused), Some(Loss::Chunked), Some(Loss::InPlace), Some(Loss::Plain)].map(&needs);
    assert!(all.is_sorted_by(|less, more| less < more), "{all:?}");
    assert_eq!(needs(None), needs(Some(Loss::Plain)));
    // Liger never holds the logits of all tokens: 32768 × 151,936 of them.
    assert!(needs(Some(Loss::Plain)) - needs(Some(Loss::Fused)) > 2 * 32_768 * 151_936);
}

#[test]
fn packed_batches_leave_the_allocator_less_to_keep() {
    let packed = with(Techniques { packed: true, ..Techniques::default() }, 1);
    let padded = with(Techniques::default(), 1);
    assert_eq!(packed.activations, padded.activations);
    assert!(packed.overhead < padded.overhead, "{packed:?} {padded:?}");
}

#[test]
fn gpus_that_share_a_sequence_share_its_activations() {
    let alone = with(Techniques::default(), 8);
    let shared = with(Techniques { sequence_parallel: Some(4), ..Techniques::default() }, 8);
    assert!(shared.activations.0 * 3 < alone.activations.0, "{shared:?} {alone:?}");
    assert_eq!(shared.weights, alone.weights);
    let options = crate::estimate::Options {
        training: Techniques { sequence_parallel: Some(3), ..Techniques::default() },
        ..crate::estimate::Options::default()
    };
    let workload = Workload { options, ..workload() };
    let refused = estimate(&decoder(MISTRAL), &workload, &Training { gpus: 8, ..training() });
    assert!(
        matches!(refused, Err(EstimateError::Invalid { field: "training.sequenceParallel", .. })),
        "{refused:?}"
    );
}

#[test]
fn a_base_that_is_left_as_loaded_is_not_cast() {
    let weights = |unprepared| {
        let training = Training { method: Method::Qlora, ..training() };
        let options = crate::estimate::Options {
            training: Techniques { unprepared, ..Techniques::default() },
            ..crate::estimate::Options::default()
        };
        let workload = Workload { options, ..workload() };
        estimate(&decoder(MISTRAL), &workload, &training).unwrap().per_gpu.weights.0
    };
    // PEFT makes 32 bits of the embeddings and the head (of the norms too, which are counted in 32 bits either way).
    let cast = 2 * (2 * 32_000 * 4096);
    assert_eq!(weights(false) - weights(true), cast);
}
