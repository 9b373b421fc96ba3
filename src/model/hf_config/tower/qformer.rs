//! The querying transformer of BLIP-2 and its descendants: a few learned queries that attend to a tower's features.

use crate::model::ParseError;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, LAYERS, VOCABULARY, WIDTH};
use crate::model::hf_config::tower::transformer::project;

/// Adds the tensors; `features` is the tower's width, where the config does not say. Yields its own width.
pub(crate) fn build(
    model_type: &str,
    f: &Fields<'_>,
    b: &mut Builder,
    module: &str,
    features: u64,
) -> Result<u64, ParseError> {
    let hidden = f.positive_or("hidden_size", WIDTH, 768)?;
    let layers = f.positive_or("num_hidden_layers", LAYERS, 12)?;
    let width = f.positive_or("intermediate_size", WIDTH, 3072)?;
    let every = f.positive_or("cross_attention_frequency", FACTOR, 2)?;
    let features = f.positive_or("encoder_hidden_size", WIDTH, features)?;
    // InstructBLIP's also reads the instruction.
    let reads_text = model_type.starts_with("instructblip") || f.flag_or("use_qformer_text_input", false)?;
    let name = |part: &str| format!("{module}.{part}");
    b.norm(&name("layernorm"), hidden, true);
    if model_type.starts_with("instructblip") {
        let words = f.positive_or("vocab_size", VOCABULARY, 30_522)?;
        let positions = f.positive_or("max_position_embeddings", WIDTH, 512)?;
        project(b, &name("embeddings.word_embeddings"), (words, hidden), false);
        project(b, &name("embeddings.position_embeddings"), (positions, hidden), false);
    }
    for layer in 0..layers {
        let name = |part: &str| format!("{module}.encoder.layer.{layer}.{part}");
        let mut attend = |kind: &str, from: u64| {
            project(b, &name(&format!("{kind}.attention.query")), (hidden, hidden), true);
            project(b, &name(&format!("{kind}.attention.key")), (hidden, from), true);
            project(b, &name(&format!("{kind}.attention.value")), (hidden, from), true);
            project(b, &name(&format!("{kind}.output.dense")), (hidden, hidden), true);
            b.norm(&name(&format!("{kind}.output.LayerNorm")), hidden, true);
        };
        attend("attention", hidden);
        if layer.is_multiple_of(every) {
            attend("crossattention", features);
        }
        for suffix in ["", "_query"].into_iter().filter(|suffix| reads_text || !suffix.is_empty()) {
            project(b, &name(&format!("intermediate{suffix}.dense")), (width, hidden), true);
            project(b, &name(&format!("output{suffix}.dense")), (hidden, width), true);
            b.norm(&name(&format!("output{suffix}.LayerNorm")), hidden, true);
        }
    }
    Ok(hidden)
}
