//! The typical shape of a model of which only the size is known.
//!
//! The table follows published dense models with grouped-query attention, and is monotone: a larger model never has a
//! smaller KV cache. Older models with as many key-value heads as query heads (Llama 2 7B and 13B) need up to four
//! times the cache, and models with latent or windowed attention less: hence `Confidence::Assumed`, and a note.

use super::{Attention, CacheKind, Confidence, Layer, ModelShape, ShapeSource, Span};
use crate::units::Parameters;

/// One size of model.
struct Row {
    /// It stands for models of up to so many parameters.
    up_to: u64,
    /// The published model whose shape this is.
    like: &'static str,
    layers: usize,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    intermediate: u64,
    vocabulary: u64,
    context: u64,
}

const MILLION: u64 = 1_000_000;
const BILLION: u64 = 1_000 * MILLION;

/// The largest size of the table, and what stands for everything above.
const LARGEST: Row = row(u64::MAX, "a dense model of 128 layers", 128, 18_432, 144, 8, 128, 65_536);

const TABLE: [Row; 12] = [
    Row { vocabulary: 49_152, context: 8192, ..row(250 * MILLION, "SmolLM2-135M", 30, 576, 9, 3, 64, 1536) },
    Row { vocabulary: 49_152, context: 8192, ..row(800 * MILLION, "SmolLM2-360M", 32, 960, 15, 5, 64, 2560) },
    Row {
        vocabulary: 102_400,
        context: 65_536,
        ..row(1800 * MILLION, "EXAONE-4.0-1.2B", 30, 2048, 32, 8, 64, 4096)
    },
    row(4500 * MILLION, "Llama-3.2-3B", 28, 3072, 24, 8, 128, 8192),
    row(10 * BILLION, "Llama-3.1-8B", 32, 4096, 32, 8, 128, 14_336),
    row(20 * BILLION, "Qwen3-14B", 40, 5120, 40, 8, 128, 17_408),
    row(28 * BILLION, "Mistral-Small-24B", 40, 5120, 32, 8, 128, 32_768),
    row(50 * BILLION, "Qwen3-32B", 64, 5120, 64, 8, 128, 25_600),
    row(90 * BILLION, "Llama-3.1-70B", 80, 8192, 64, 8, 128, 28_672),
    row(250 * BILLION, "Mistral-Large-123B", 88, 12_288, 96, 8, 128, 28_672),
    row(600 * BILLION, "Llama-3.1-405B", 126, 16_384, 128, 8, 128, 53_248),
    LARGEST,
];

#[allow(clippy::too_many_arguments)] // a line of the table
const fn row(
    up_to: u64,
    like: &'static str,
    layers: usize,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    intermediate: u64,
) -> Row {
    let (vocabulary, context) = (128_256, 131_072);
    Row { up_to, like, layers, hidden, heads, kv_heads, head_dim, intermediate, vocabulary, context }
}

/// The shape that is assumed for a size.
#[must_use]
pub fn shape(parameters: Parameters) -> ModelShape {
    let row = TABLE.iter().find(|row| parameters.0 <= row.up_to).unwrap_or(&LARGEST);
    let cache = CacheKind::Heads { kv_heads: row.kv_heads, key_dim: row.head_dim, value_dim: row.head_dim };
    let layer = Layer { attention: Some(Attention { cache, span: Span::Full }), state: None };
    ModelShape {
        name: parameters.to_string(),
        source: ShapeSource::Parameters,
        architecture: "assumed".to_owned(),
        parameters: parameters.0,
        tensors: Vec::new(),
        layers: vec![layer; row.layers],
        draft_layers: Vec::new(),
        hidden_size: row.hidden,
        intermediate_size: row.intermediate,
        heads: row.heads,
        head_dim: row.head_dim,
        experts: None,
        vocabulary: row.vocabulary,
        max_context: Some(row.context),
        tied_embeddings: false,
        stored_precision: None,
        quantization: None,
        state_precision: None,
        rotary_elements: None,
        encoder_tokens: None,
        multimodal: false,
        weights_confidence: Confidence::Assumed,
        cache_confidence: Confidence::Assumed,
        notes: vec![format!(
            "Only the size is known: the cache is that of {}, {} layers with {} key-value heads of {}. A config.json makes it exact.",
            row.like, row.layers, row.kv_heads, row.head_dim
        )],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::MAX_PARAMETERS;

    /// Elements of the KV cache per token.
    fn cache_per_token(shape: &ModelShape) -> u64 {
        let per_layer = |layer: &Layer| match layer.attention.map(|attention| attention.cache) {
            Some(CacheKind::Heads { kv_heads, key_dim, value_dim }) => kv_heads * (key_dim + value_dim),
            other => panic!("an assumed layer keeps {other:?}"),
        };
        shape.layers.iter().map(per_layer).sum()
    }

    #[test]
    fn eight_billion_parameters_are_taken_for_llama() {
        let shape = shape(Parameters(8_000_000_000));
        assert_eq!((shape.layers.len(), shape.vocabulary, shape.max_context), (32, 128_256, Some(131_072)));
        assert_eq!(cache_per_token(&shape) * 2, 131_072);
        assert_eq!(
            (shape.weights_confidence, shape.cache_confidence),
            (Confidence::Assumed, Confidence::Assumed)
        );
        assert!(shape.tensors.is_empty());
        assert!(shape.notes[0].contains("Llama-3.1-8B"), "{:?}", shape.notes);
    }

    #[test]
    fn the_table_is_sorted_and_ends_with_everything() {
        assert!(TABLE.is_sorted_by_key(|row| row.up_to));
        assert_eq!(TABLE.last().map(|row| row.up_to), Some(u64::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::default())]

        #[test]
        fn a_larger_model_never_keeps_less(small in 1..MAX_PARAMETERS, more in 0..MAX_PARAMETERS, magnitude in 0_u32..50) {
            // Sizes of every magnitude, not only the largest.
            let small = (small >> magnitude).max(1);
            let large = small.saturating_add(more >> magnitude);
            let (small, large) = (shape(Parameters(small)), shape(Parameters(large)));
            prop_assert!(cache_per_token(&small) <= cache_per_token(&large));
            prop_assert!(small.hidden_size <= large.hidden_size);
            prop_assert!(small.vocabulary <= large.vocabulary);
            prop_assert!(small.layers.len() <= large.layers.len() || small.hidden_size < large.hidden_size);
        }
    }
}
