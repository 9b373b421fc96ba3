//! From the class that a config names to its `model_type`, for configs that write none, or one of their own.

use crate::model::hf_config::config::defaults;

/// What follows a model's name in its classes.
const HEADS: &[&str] = &[
    "ForConditionalGeneration",
    "ForCausalLM",
    "LMHeadModel",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForPreTraining",
    "MTModel",
    "Model",
];

/// Types that transformers has not, or whose classes are called otherwise.
const OTHERS: &[(&str, &str)] = &[
    ("grok1", "grok-1"),
    ("grok1model", "grok-1"),
    ("internlm2", "internlm2"),
    ("internlm", "internlm"),
    ("chatglm", "chatglm"),
    ("baichuan", "baichuan"),
    ("qwen", "qwen"),
    ("minicpm", "minicpm"),
    ("minicpmv", "minicpmv"),
    ("orion", "orion"),
    ("xverse", "xverse"),
    ("arctic", "arctic"),
    ("deepseek", "deepseek"),
    ("rw", "falcon"),
    ("bailingmoe", "bailing_moe"),
    ("bailingmoev2", "bailing_moe_v2"),
    ("internvlchat", "internvl_chat"),
    ("deepseekvlv2", "deepseek_vl_v2"),
    ("molmo", "molmo"),
    ("phi4mm", "phi4mm"),
    ("phi3v", "phi3_v"),
    ("ultravox", "ultravox"),
    ("llada", "llada"),
    ("dream", "dream"),
    ("decilm", "deci"),
    ("kimivl", "kimi_vl"),
    ("kimik25", "kimi_k25"),
    ("new", "new"),
    ("xlmroberta", "xlm-roberta"),
    ("gptneox", "gpt_neox"),
    ("kolibri1", "kolibri1"),
    ("flint", "flint"),
    ("smallthinker", "smallthinker"),
    ("sdar", "sdar"),
    ("ctrl", "ctrl"),
    ("laramini", "lara_mini"),
];

/// The `model_type` of a class such as `LlamaForCausalLM`.
pub(crate) fn model_type(class: &str) -> Option<&'static str> {
    let stem = HEADS.iter().find_map(|head| class.strip_suffix(head)).unwrap_or(class);
    let stem = stem.to_ascii_lowercase();
    let other = OTHERS.iter().find(|(name, _)| *name == stem).map(|(_, own)| *own);
    other.or_else(|| defaults::names().find(|name| same(name, &stem)))
}

/// Whether a type and the stem of a class differ only in what separates their words.
fn same(model_type: &str, stem: &str) -> bool {
    let letters = model_type.chars().filter(|letter| !matches!(letter, '_' | '-' | '.'));
    letters.eq(stem.chars().filter(|letter| *letter != '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_says_its_type() {
        for (class, expected) in [
            ("LlamaForCausalLM", Some("llama")),
            ("Qwen2MoeForCausalLM", Some("qwen2_moe")),
            ("Qwen2_5_VLForConditionalGeneration", Some("qwen2_5_vl")),
            ("GPT2LMHeadModel", Some("gpt2")),
            ("XLMRobertaForSequenceClassification", Some("xlm-roberta")),
            ("MiniCPM3ForCausalLM", Some("minicpm3")),
            ("QWenLMHeadModel", Some("qwen")),
            ("Grok1ModelForCausalLM", Some("grok-1")),
            ("DeepseekV3ForCausalLM", Some("deepseek_v3")),
            ("T5ForConditionalGeneration", Some("t5")),
            ("MarianMTModel", Some("marian")),
            ("NoSuchForCausalLM", None),
            ("Model", None),
            ("", None),
        ] {
            assert_eq!(model_type(class), expected, "{class}");
        }
    }
}
