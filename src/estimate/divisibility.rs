//! Which tensor parallelism a model can be run at: whole heads, whole columns, whole groups of quantised weights per rank.

use super::ranks::Ranks;
use super::{EstimateError, Workload};
use crate::model::{CacheKind, ModelShape, Role, Split};
use crate::precision::{Engine, Precision};

/// Refuses a tensor parallelism that the engine would refuse, and says what the model would allow.
///
/// # Errors
/// What cannot be shared, in numbers. Of a model of which only the size is known, a power of two is a note, since its heads
/// are assumed; but no typical model has heads for another number.
pub(super) fn check(shape: &ModelShape, workload: &Workload) -> Result<Option<String>, EstimateError> {
    let ranks = workload.tensor;
    let problems = problems(shape, workload, ranks);
    if problems.is_empty() {
        return Ok(None);
    }
    let groups = if workload.data > 1 { format!("{} groups of ", workload.data) } else { String::new() };
    let problem = format!("{groups}{ranks} ranks cannot share {}", problems.join(" and "));
    if shape.tensors.is_empty() && ranks.is_power_of_two() {
        return Ok(Some(format!(
            "The model's heads are assumed from its size alone; with them, {problem}, and the engine would not start."
        )));
    }
    let mut remedy = remedy(shape, workload, ranks);
    if shape.tensors.is_empty() {
        remedy.push_str(", or give the model's config: the heads are assumed from its size");
    }
    Err(EstimateError::Invalid { field: "parallelism.tensor", problem, remedy })
}

/// Whether a model can be shared among so many ranks.
pub(super) fn divides(shape: &ModelShape, workload: &Workload, ranks: u64) -> bool {
    problems(shape, workload, ranks).is_empty()
}

/// What so many ranks cannot share, each with its number.
fn problems(shape: &ModelShape, workload: &Workload, tensor: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let Ok(all) = Ranks::of(shape, workload, tensor) else {
        return vec!["anything among so many groups".to_owned()];
    };
    let ranks = all.attention;
    let mut add = |problem: String| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    if workload.is_grouped_within() && !tensor.is_multiple_of(all.groups) {
        add(format!("{} data-parallel groups", all.groups));
    }
    if !shape.heads.is_multiple_of(ranks) {
        add(format!("{} attention heads", shape.heads));
    }
    for layer in &shape.layers {
        if let Some(attention) = layer.attention
            && let CacheKind::Heads { kv_heads, .. } = attention.cache
            && kv_heads > 0
            && !kv_heads.is_multiple_of(ranks)
            && !ranks.is_multiple_of(kv_heads)
        {
            add(format!("{kv_heads} KV heads"));
        }
        if let Some(state) = layer.state.filter(|state| !state.heads.is_multiple_of(ranks)) {
            add(format!("{} state heads", state.heads));
        }
    }
    let group = group(shape, workload);
    let among = tensor;
    for tensor in &shape.tensors {
        if !matches!(tensor.role, Role::Mlp | Role::Expert | Role::SharedExpert) || tensor.rows <= 1 {
            continue;
        }
        if tensor.role == Role::Expert && workload.options.expert_parallel {
            continue;
        }
        let width = match tensor.split {
            Split::Rows => tensor.rows,
            Split::Columns => tensor.columns,
            _ => continue,
        };
        let ranks = all.sharing(tensor);
        if !width.is_multiple_of(ranks) {
            let among = if ranks == among { String::new() } else { format!(" among {ranks} GPUs") };
            add(format!("an MLP of {width}{among}"));
        } else if tensor.quantizable
            && let Some(group) = group
            && width.is_multiple_of(group.size)
            && !(width / ranks).is_multiple_of(group.size)
            && (tensor.split == Split::Columns || group.both_ways)
        {
            add(format!("an MLP of {width} in whole groups of {} quantised weights", group.size));
        }
    }
    problems
}

/// Weights that share a scale, and so must stay on one rank.
#[derive(Clone, Copy)]
struct Group {
    size: u64,
    /// Whether they do along both dimensions.
    both_ways: bool,
}

/// The groups of a checkpoint that vLLM and SGLang refuse to cut (`input_size_per_partition is not divisible`).
fn group(shape: &ModelShape, workload: &Workload) -> Option<Group> {
    let quantization = shape.quantization.as_ref()?;
    let own = workload.precision.is_none_or(|precision| precision == quantization.precision);
    if !own || !matches!(workload.engine, Engine::Vllm | Engine::Sglang) {
        return None;
    }
    let (both_ways, default) = match quantization.precision {
        Precision::GptqInt4 | Precision::GptqInt8 | Precision::AwqInt4 => (false, 128),
        Precision::Fp8Block => (true, 128),
        _ => return None,
    };
    Some(quantization.group_size.unwrap_or(default))
        .filter(|&size| size > 0)
        .map(|size| Group { size, both_ways })
}

/// The nearest tensor parallelism that works, in words.
fn remedy(shape: &ModelShape, workload: &Workload, ranks: u64) -> String {
    // No engine shares a layer among more GPUs than this.
    let candidates: Vec<u64> = (1..=64).filter(|&ranks| divides(shape, workload, ranks)).collect();
    let below = candidates.iter().copied().filter(|&candidate| candidate < ranks).max();
    let above = candidates.iter().copied().find(|&candidate| candidate > ranks);
    match (below, above) {
        (Some(below), Some(above)) => format!("write {below} or {above}"),
        (Some(only), None) | (None, Some(only)) => format!("write {only}"),
        (None, None) => "write 1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::estimate;
    use crate::estimate::tests::workload;
    use crate::model::hf_config;

    fn refusal(json: &[u8], tensor: u64) -> Option<String> {
        let shape = hf_config::parse(json, "model").expect("a config");
        estimate(&shape, &Workload { tensor, ..workload() }).err().map(|error| error.to_string())
    }

    #[test]
    fn a_size_alone_is_taken_at_powers_of_two() {
        let shape = crate::model::assumed::shape(crate::units::Parameters(8_000_000_000));
        let refused = |tensor| {
            estimate(&shape, &Workload { tensor, ..workload() }).err().map(|error| error.to_string())
        };
        for tensor in [1, 2, 4, 8, 16, 64] {
            assert_eq!(refused(tensor), None, "{tensor}");
        }
        let error = refused(3).expect("an error");
        for part in [
            "parallelism.tensor",
            "3 ranks cannot share 32 attention heads and 8 KV heads",
            "write 2 or 4",
            "config",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn engines_refuse_what_cannot_be_cut() {
        let llama = include_bytes!("../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json");
        let blocks = include_bytes!("../../tests/fixtures/configs/Qwen__Qwen3-235B-A22B-FP8.json");
        let seven = include_bytes!("../../tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json");
        for (name, json, tensor, expected) in [
            ("Llama", &llama[..], 1, None),
            ("Llama", llama, 8, None),
            (
                "Llama",
                llama,
                3,
                Some(
                    "3 ranks cannot share 32 attention heads and 8 KV heads and an MLP of 14336; write 2 or 4",
                ),
            ),
            ("28 heads", seven, 8, Some("8 ranks cannot share 28 attention heads; write 4")),
            ("FP8 blocks", blocks, 4, None),
            (
                "FP8 blocks",
                blocks,
                8,
                Some("8 ranks cannot share an MLP of 1536 in whole groups of 128 quantised weights; write 4"),
            ),
        ] {
            let expected = expected.map(|problem| format!("parallelism.tensor: {problem}"));
            assert_eq!(refusal(json, tensor), expected, "{name} on {tensor}");
        }
    }
}
