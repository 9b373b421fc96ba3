//! Which GGML type each tensor gets in a GGUF mix such as `q4_k_m`.
//!
//! A mix gives more bits to the tensors that suffer most from few: the output head, the values, the down projections. Source
//! of the rules: llama.cpp's quantiser (`llama-quant.cpp`), for a model quantised without an importance matrix where both are
//! usual, which is the larger.

use crate::estimate::weights::format::{Format, HALF};
use crate::model::{CacheKind, ModelShape, Role, Split, Tensor};
use crate::precision::Precision;

/// A GGML block type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ggml {
    Q40,
    Q41,
    Q50,
    Q51,
    Q80,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq1S,
    Iq1M,
    Iq2Xxs,
    Iq2Xs,
    Iq2S,
    Iq3Xxs,
    Iq3S,
    Iq4Nl,
    Iq4Xs,
    Tq10,
    Tq20,
    Mxfp4,
}

impl Ggml {
    /// Elements and bytes of a block (ggml-common.h).
    const fn block(self) -> (u64, u64) {
        match self {
            Self::Q40 | Self::Iq4Nl => (32, 18),
            Self::Q41 => (32, 20),
            Self::Q50 => (32, 22),
            Self::Q51 => (32, 24),
            Self::Q80 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K | Self::Iq3S => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Iq1S => (256, 50),
            Self::Iq1M => (256, 56),
            Self::Iq2Xxs | Self::Tq20 => (256, 66),
            Self::Iq2Xs => (256, 74),
            Self::Iq2S => (256, 82),
            Self::Iq3Xxs => (256, 98),
            Self::Iq4Xs => (256, 136),
            Self::Tq10 => (256, 54),
            Self::Mxfp4 => (32, 17),
        }
    }

    /// The type that takes its place where a row is no multiple of 256 elements.
    const fn for_odd_rows(self) -> Self {
        match self {
            Self::Q4K => Self::Q50,
            Self::Q5K => Self::Q51,
            Self::Q6K => Self::Q80,
            Self::Tq10 | Self::Tq20 => Self::Q40,
            Self::Q40 | Self::Q41 | Self::Q50 | Self::Q51 | Self::Q80 => self,
            _ => Self::Iq4Nl,
        }
    }
}

/// What a mix's rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    TokenEmbedding,
    Values,
    Keys,
    Queries,
    AttentionOutput,
    Down,
    GateOrUp,
    Other,
}

/// What the rules need to know of the model.
#[derive(Clone, Copy, Debug)]
struct Model {
    layers: u64,
    /// Query heads per key-value head.
    group: u64,
    experts: u64,
    falcon: bool,
    /// The size at which llama.cpp spends more on the values, as eight heads share them.
    seventy: bool,
}

impl Model {
    fn of(shape: &ModelShape) -> Self {
        let kv_heads = shape.layers.iter().find_map(|layer| match layer.attention?.cache {
            CacheKind::Heads { kv_heads, .. } if kv_heads > 0 => Some(kv_heads),
            _ => None,
        });
        let layers = u64::try_from(shape.layers.len()).unwrap_or(u64::MAX);
        Self {
            layers,
            group: shape.heads / kv_heads.unwrap_or(shape.heads).max(1),
            experts: shape.experts.map_or(0, |experts| experts.count),
            falcon: shape.architecture.starts_with("falcon"),
            seventy: layers == 80,
        }
    }

    /// The layers that a mix favours: the first and last eighth, and every third between.
    const fn favours(&self, layer: u64) -> bool {
        let eighth = self.layers / 8;
        layer < eighth || layer >= 7 * self.layers / 8 || (layer - eighth) % 3 == 2
    }
}

/// The storage of a tensor in a mix.
pub(crate) fn format(mix: Precision, tensor: &Tensor, shape: &ModelShape) -> Format {
    let head_too = shape.tied_embeddings && tensor.role == Role::Embedding;
    let part = part(tensor, head_too);
    match tensor.role {
        // A tower is a file of its own, at 16 bits.
        Role::Vision | Role::Projector => return HALF,
        Role::Embedding | Role::OutputHead => {}
        _ if tensor.rows == 1 || !tensor.quantizable => return Format::Plain(32),
        _ => {}
    }
    let Some(base) = base(mix) else { return HALF };
    let layer = tensor.layer.map_or(0, u64::from);
    let chosen = match mix {
        // `MXFP4_MOE`: the experts, and all else in 8 bits.
        Precision::Mxfp4 if tensor.role == Role::Expert => Ggml::Mxfp4,
        Precision::Mxfp4 => Ggml::Q80,
        _ => choose(mix, base, part, layer, &Model::of(shape)),
    };
    let (elements, _) = chosen.block();
    let chosen = if tensor.columns.is_multiple_of(elements) { chosen } else { chosen.for_odd_rows() };
    let (elements, bytes) = chosen.block();
    if tensor.columns.is_multiple_of(elements) { Format::Blocks { elements, bytes } } else { HALF }
}

/// The type of a mix's plain tensors.
const fn base(mix: Precision) -> Option<Ggml> {
    Some(match mix {
        Precision::Q2K => Ggml::Q2K,
        Precision::Q3KS | Precision::Q3KM | Precision::Q3KL => Ggml::Q3K,
        Precision::Q40 => Ggml::Q40,
        Precision::Q41 => Ggml::Q41,
        Precision::Q4KS | Precision::Q4KM => Ggml::Q4K,
        Precision::Q50 => Ggml::Q50,
        Precision::Q51 => Ggml::Q51,
        Precision::Q5KS | Precision::Q5KM => Ggml::Q5K,
        Precision::Q6K => Ggml::Q6K,
        Precision::Q80 => Ggml::Q80,
        Precision::Iq1S => Ggml::Iq1S,
        Precision::Iq1M => Ggml::Iq1M,
        Precision::Iq2Xxs => Ggml::Iq2Xxs,
        Precision::Iq2Xs | Precision::Iq2S => Ggml::Iq2Xs,
        Precision::Iq2M => Ggml::Iq2S,
        Precision::Iq3Xxs => Ggml::Iq3Xxs,
        Precision::Iq3Xs | Precision::Iq3S | Precision::Iq3M => Ggml::Iq3S,
        Precision::Iq4Nl => Ggml::Iq4Nl,
        Precision::Iq4Xs => Ggml::Iq4Xs,
        Precision::Tq10 => Ggml::Tq10,
        Precision::Tq20 => Ggml::Tq20,
        Precision::Mxfp4 => Ggml::Mxfp4,
        _ => return None,
    })
}

/// What a tensor is to the rules, by its role, and by its name where the role does not say.
fn part(tensor: &Tensor, head_too: bool) -> Part {
    let name = tensor.name.as_str();
    let has = |fragments: &[&str]| fragments.iter().any(|fragment| name.contains(fragment));
    match tensor.role {
        Role::OutputHead => Part::Head,
        Role::Embedding if head_too => Part::Head,
        Role::Embedding => Part::TokenEmbedding,
        Role::Mlp | Role::Expert | Role::SharedExpert => {
            if tensor.split == Split::Columns || has(&["down", ".w2"]) { Part::Down } else { Part::GateOrUp }
        }
        // Fused projections and MLA's second half count as values.
        Role::Attention
            if has(&["v_proj", "attn_v", "kv_b", "qkv", "c_attn", "query_key_value", "W_pack"]) =>
        {
            Part::Values
        }
        Role::Attention if has(&["k_proj", "attn_k"]) => Part::Keys,
        Role::Attention if has(&["q_proj", "attn_q"]) => Part::Queries,
        Role::Attention if tensor.split == Split::Columns => Part::AttentionOutput,
        _ => Part::Other,
    }
}

fn choose(mix: Precision, base: Ggml, part: Part, layer: u64, model: &Model) -> Ggml {
    use Precision as P;
    let tiny = matches!(mix, P::Iq1S | P::Iq1M | P::Iq2Xxs | P::Iq2Xs | P::Iq2S | P::Iq2M);
    let two_m = matches!(mix, P::Iq2S | P::Iq2M);
    match part {
        Part::Head if model.falcon || base == Ggml::Q80 => Ggml::Q80,
        Part::Head if tiny || mix == P::Iq3Xxs => Ggml::Q5K,
        Part::Head => Ggml::Q6K,
        Part::TokenEmbedding => match mix {
            P::Iq1S | P::Iq1M | P::Iq2Xxs | P::Iq2Xs => Ggml::Q2K,
            P::Iq2S | P::Iq2M | P::Iq3Xxs => Ggml::Iq3S,
            P::Tq10 | P::Tq20 => Ggml::Q4K,
            _ => base,
        },
        Part::Values if tiny => match () {
            () if model.group >= 4 || model.experts >= 4 => Ggml::Q4K,
            () if two_m => Ggml::Iq3S,
            () => Ggml::Q2K,
        },
        Part::Values if model.experts == 8 => Ggml::Q80,
        Part::Values => {
            let chosen = values(mix, base, layer, model);
            if model.seventy && matches!(chosen, Ggml::Q3K | Ggml::Q4K) { Ggml::Q5K } else { chosen }
        }
        Part::Keys if model.experts == 8 => {
            if tiny {
                Ggml::Q4K
            } else {
                Ggml::Q80
            }
        }
        Part::Keys | Part::Queries => match mix {
            P::Iq3Xs => Ggml::Iq3Xxs,
            P::Iq3Xxs => Ggml::Iq2S,
            _ => base,
        },
        Part::AttentionOutput => attention_output(mix, base, model),
        Part::Down => down(mix, base, layer, model),
        Part::GateOrUp => {
            let middle = layer >= model.layers / 8 && layer < 7 * model.layers / 8;
            if mix == P::Iq3Xs && middle { Ggml::Iq3Xxs } else { base }
        }
        Part::Other => base,
    }
}

const fn values(mix: Precision, base: Ggml, layer: u64, model: &Model) -> Ggml {
    use Precision as P;
    let grouped = model.group >= 4;
    match mix {
        P::Q2K | P::Iq3Xxs | P::Iq3Xs | P::Iq3S if grouped => Ggml::Q4K,
        P::Q2K => Ggml::Q3K,
        P::Q3KM if layer < 2 => Ggml::Q5K,
        P::Q3KM | P::Iq3M => Ggml::Q4K,
        P::Q3KL => Ggml::Q5K,
        P::Iq4Nl | P::Iq4Xs if grouped => Ggml::Q5K,
        P::Q4KM | P::Q5KM if model.favours(layer) => Ggml::Q6K,
        P::Q4KS if layer < 4 => Ggml::Q5K,
        _ => base,
    }
}

const fn attention_output(mix: Precision, base: Ggml, model: &Model) -> Ggml {
    use Precision as P;
    if model.falcon {
        return if matches!(mix, P::Q3KL) { Ggml::Q4K } else { base };
    }
    if model.experts == 8 {
        return match mix {
            P::Q5KS | P::Q5KM | P::Q50 | P::Q51 | P::Q6K | P::Q80 | P::Q40 | P::Q41 | P::Q3KL => base,
            _ => Ggml::Q5K,
        };
    }
    match mix {
        P::Iq1S | P::Iq1M => Ggml::Iq2Xxs,
        P::Iq2S | P::Iq2M | P::Iq3Xxs => Ggml::Iq3S,
        P::Q2K => Ggml::Q3K,
        P::Q3KM | P::Iq3M => Ggml::Q4K,
        P::Q3KL => Ggml::Q5K,
        _ => base,
    }
}

const fn down(mix: Precision, base: Ggml, layer: u64, model: &Model) -> Ggml {
    use Precision as P;
    let first = layer < model.layers / 8;
    match mix {
        P::Iq1S | P::Iq1M | P::Iq2Xxs | P::Iq2Xs if first => Ggml::Q2K,
        P::Iq2S | P::Iq2M if first => Ggml::Iq3S,
        P::Q2K => Ggml::Q3K,
        P::Q3KM if layer < model.layers / 16 => Ggml::Q5K,
        P::Q3KM if !model.falcon || model.favours(layer) => Ggml::Q4K,
        P::Q3KL if model.falcon => Ggml::Q4K,
        P::Q3KL => Ggml::Q5K,
        P::Iq3M if first || (model.experts == 8 && model.favours(layer)) => Ggml::Q4K,
        P::Q4KM | P::Q5KM if model.favours(layer) => Ggml::Q6K,
        P::Iq4Nl | P::Iq4Xs | P::Q4KS if first => Ggml::Q5K,
        _ => base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hf_config;

    /// Bits per weight of a model in a mix, in ten-thousandths.
    fn bits(shape: &ModelShape, mix: Precision) -> u128 {
        let total: u128 = shape
            .tensors
            .iter()
            .map(|tensor| {
                let matrix = format(mix, tensor, shape).bytes(tensor.rows, tensor.columns).expect("fits");
                matrix * u128::from(tensor.count)
            })
            .sum();
        total * 80_000 / u128::from(shape.parameters)
    }

    #[test]
    fn mixes_come_to_their_published_sizes() {
        let json = include_bytes!("../../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json");
        let llama = hf_config::parse(json, "llama").expect("a config");
        // llama.cpp, tools/quantize/README.md: bits per weight of Llama-3.1-8B.
        for (mix, published) in [
            (Precision::Iq1S, 20_042),
            (Precision::Iq1M, 21_460),
            (Precision::Iq2Xxs, 23_824),
            (Precision::Iq2Xs, 25_882),
            (Precision::Iq2S, 27_403),
            (Precision::Iq2M, 29_294),
            (Precision::Q2K, 31_593),
            (Precision::Iq3Xxs, 32_548),
            (Precision::Iq3Xs, 34_977),
            (Precision::Iq3S, 36_606),
            (Precision::Iq3M, 37_628),
            (Precision::Q3KS, 36_429),
            (Precision::Q3KM, 39_960),
            (Precision::Q3KL, 42_979),
            (Precision::Iq4Xs, 44_597),
            (Precision::Iq4Nl, 46_818),
            (Precision::Q4KS, 46_672),
            (Precision::Q4KM, 48_944),
            (Precision::Q5KS, 55_704),
            (Precision::Q5KM, 57_036),
            (Precision::Q6K, 65_633),
            (Precision::Q80, 85_008),
        ] {
            let found = bits(&llama, mix);
            let error = found.abs_diff(published) * 1000 / published;
            assert!(error <= 10, "{mix}: {found} of {published}, {error} thousandths off");
        }
    }

    #[test]
    fn rows_that_are_no_multiple_of_a_block_fall_back() {
        let json = include_bytes!("../../../tests/fixtures/configs/Qwen__Qwen2.5-0.5B-Instruct.json");
        let qwen = hf_config::parse(json, "qwen").expect("a config");
        let query =
            qwen.tensors.iter().find(|tensor| tensor.name.contains("q_proj.weight")).expect("queries");
        assert_eq!(query.columns % 256, 128);
        assert_eq!(format(Precision::Q4KM, query, &qwen), Format::Blocks { elements: 32, bytes: 22 });
        // bartowski/Qwen2.5-0.5B-Instruct-GGUF: Q4_K_M is 398 MB.
        let megabytes = bits(&qwen, Precision::Q4KM) * u128::from(qwen.parameters) / 80_000 / 1_000_000;
        assert!((380..=405).contains(&megabytes), "{megabytes} MB");
    }
}
