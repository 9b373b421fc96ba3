//! Why a row is outside the goals: more was measured than is required, or the estimate is off by more than a quarter.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Score, scores};

const CACHE: &str = "the samples have 91 tokens up to the limit, longer ones are dropped, and nothing is padded to one length: \
    each batch that is longer than all before needs new blocks, and torch keeps the old ones while the GPU has room. That is \
    cache, which it gives back when the GPU is full (the same table's batch of 8 runs in 76 GiB); the high end of the range \
    covers it";
const NO_CAST: &str =
    "the framework leaves out PEFT's cast to 32 bits, which is assumed of QLoRA on bitsandbytes' formats";
const COMPILED: &str =
    "torch.compile fuses what eager layers keep for the backward pass, which a training spec does not say";
const SMALL_LOSS: &str = "the loss takes 10 to 12 bytes per token and entry of the vocabulary where 14 are taken, and the script \
    pads to one length; the table's unit is not stated, and its largest figure is more GiB than the card has, so it may be \
    decimal";

/// The rows outside, and why.
const EXPLAINED: [(&str, &str); 13] = [
    ("swift-chatglm3-6b-lora-4096", CACHE),
    ("swift-yi-6b-chat-lora-8192", CACHE),
    ("swift-qwen-7b-chat-q-gptq-int4", CACHE),
    ("swift-qwen-7b-chat-q-gptq-int8", CACHE),
    ("swift-qwen-7b-chat-q-bnb-nf4", CACHE),
    ("swift-qwen-72b-chat-q-bnb-nf4", CACHE),
    ("swift-qwen-7b-chat-lora-bs2", CACHE),
    ("swift-qwen-7b-chat-lora-bs4", CACHE),
    ("qwen1-7b-lora-8192", SMALL_LOSS),
    ("qwen1-7b-qlora-8192", SMALL_LOSS),
    ("litgpt-phi-1_5-lora-nf4-mb1", NO_CAST),
    ("titan-l31-8b-8gpu-32k-fullac", COMPILED),
    ("torchtune-l32-3b-full-chunkce", COMPILED),
];

/// What the figures are, and what is known to be missing.
pub(super) const ABOUT: &str = "\
- What torch has reserved depends on the batches. Those of one length cost it 1.2 to 1.5 times what the passes allocate; those of \
  differing lengths three to five times on a GPU with room, and about 1.5 times on one without: then it gives its cache back. \
  Where a run says that its samples are packed Loadline allows for the first, else for the last, and the range ends at the middle.
- QLoRA on bitsandbytes' formats is taken as PEFT prepares it, with embeddings, head and residual stream in 32 bits, unless the \
  weights are sharded or the run says that it leaves that out. fms-hf-tuning's rows, which differ in that alone, show both.
- A fused, chunked or in-place loss is counted where a run says that it has one.
- Not explained: Llama-2-70B with QLoRA under FSDP in the transformers Trainer (fms-a100-L67, L95, L119, \
  peft-l2-70b-qlora-fsdp-off-2x24) allocates 4 to 9 GiB more than its tokens and its share of the weights come to; neither smaller \
  models nor the same model in fsdp_qlora's own loop do. The margin covers it.

";

fn is_outside(score: &Score) -> bool {
    !score.is_covered() || score.error().abs() > 0.25
}

/// The rows outside by reason, in Markdown.
pub(super) fn markdown(scores: &[Score]) -> String {
    let mut text = String::from(
        "\nOutside (more measured than is required, or off by more than a quarter), and why:\n\n",
    );
    let mut told = BTreeSet::new();
    for (_, why) in EXPLAINED {
        if !told.insert(why) {
            continue;
        }
        let ids: Vec<&str> = EXPLAINED.iter().filter(|(_, other)| *other == why).map(|(id, _)| *id).collect();
        writeln!(text, "- {}: {why}", ids.join(", ")).unwrap();
    }
    for score in scores.iter().filter(|score| is_outside(score)) {
        if !EXPLAINED.iter().any(|(id, _)| *id == score.id) {
            writeln!(text, "- {}: not explained", score.id).unwrap();
        }
    }
    text
}

#[test]
fn every_row_outside_is_explained_and_no_other() {
    let outside: BTreeSet<String> =
        scores().scored.iter().filter(|score| is_outside(score)).map(|score| score.id.clone()).collect();
    let explained: BTreeSet<String> = EXPLAINED.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(outside, explained);
}
