//! Decoders with latent attention (MLA): DeepSeek-V2 and its descendants.

use super::family::{
    Draft, EXPERTS, Experts, Extra, Family, Form, Mixer, Number, On, PLAIN, SPARSE, Shared, Size, TIED, When,
};
use crate::model::ParseError;
use crate::model::hf_config::block::names::{DEEPSEEK_MOE, LLAMA, Style};
use crate::model::hf_config::config::fields::Fields;
use crate::model::hf_config::plan::{Attends, Plan};

/// DeepSeek's experts, where there are any.
pub(super) const DEEPSEEK: Experts = Experts {
    count: Number(&["n_routed_experts", "num_experts"], 0),
    more_than: Some(0),
    per_token: Number(&["num_experts_per_tok", "num_experts_per_token"], 1),
    width: &["moe_intermediate_size"],
    shared: Shared::Times(&["n_shared_experts", "num_shared_experts"], 0, When::Always),
    correction: When::Says("topk_method", "noaux_tc"),
    sparse: SPARSE,
    ..EXPERTS
};

const BASE: Family = Family {
    names: Style { moe: DEEPSEEK_MOE, ..LLAMA },
    mixer: Mixer::Latent,
    layers: &[],
    draft: Draft::NextToken(Number(&["num_nextn_predict_layers"], 0), ""),
    adjust: Some(|f, plan, _| indexers(f, plan)),
    ..PLAIN
}
.sparse(&DEEPSEEK);

/// One entry per family.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        types: &[
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "kimi_k2",
            "glm_moe_dsa",
            "glm4_moe_lite",
            "sarvam_mla",
            "mistral4",
        ],
        ..BASE
    },
    Family { types: &["minicpm3", "youtu"], tied: TIED, ..BASE },
    Family {
        types: &["axk1"],
        extras: &[Extra {
            name: "mlp.post_mlp_layernorm",
            form: Form::Norm(Size::Hidden, When::Never),
            on: On::Sparse,
            when: When::Always,
        }],
        ..BASE
    },
];

/// GLM-5.2: most layers read the index of an earlier one.
fn indexers(f: &Fields<'_>, plan: &mut Plan) -> Result<(), ParseError> {
    let kinds = f.texts("indexer_types")?.unwrap_or_default();
    for (layer, _) in plan.layers.iter_mut().zip(&kinds).filter(|(_, kind)| **kind == "shared") {
        if let Some((Attends::Latent(mla), _)) = &mut layer.mixer {
            mla.index = (0, 0);
        }
    }
    Ok(())
}
