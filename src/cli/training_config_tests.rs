use super::*;

fn read(text: &str) -> TrainingConfig {
    parse(text).unwrap_or_else(|failure| panic!("{text}: {failure}"))
}

const AXOLOTL: &str = "base_model: NousResearch/Llama-3.2-1B\nload_in_4bit: true\nadapter: qlora\nsequence_len: 2048\nsample_packing: true\nlora_r: 32\nlora_target_linear: true\nmicro_batch_size: 2\noptimizer: adamw_bnb_8bit\nbf16: auto\ngradient_checkpointing: true\nattn_implementation: flash_attention_2\nplugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\ncut_cross_entropy: true\nlora_model_dir:\n";
const FACTORY: &str = "model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct\nstage: sft\nfinetuning_type: lora\nlora_rank: 8\nlora_target: all\ncutoff_len: 2048\nper_device_train_batch_size: 1\nbf16: true\ndeepspeed: examples/deepspeed/ds_z3_config.json\nenable_liger_kernel: true\n";
const TUNE: &str = "model:\n  _component_: torchtune.models.llama3_1.qlora_llama3_1_8b\n  lora_attn_modules: ['q_proj', 'v_proj', 'output_proj']\n  apply_lora_to_mlp: True\n  lora_rank: 16\ntokenizer:\n  max_seq_len: null\ncheckpointer:\n  checkpoint_dir: /tmp/of-another-machine/Meta-Llama-3.1-8B-Instruct/\nbatch_size: 2\noptimizer:\n  _component_: torch.optim.AdamW\nloss:\n  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss\ndtype: bf16\nenable_activation_checkpointing: True\n";
const TRL: &str = "model_name_or_path: Qwen/Qwen2.5-7B\nper_device_train_batch_size: 4\nmax_length: 4096\nuse_peft: true\nlora_r: 64\nlora_target_modules: all-linear\npacking: true\nuse_liger_kernel: true\noptim: paged_adamw_8bit\n";

#[test]
fn every_framework_is_read_by_its_own_keys() {
    let axolotl = read(AXOLOTL);
    assert_eq!(axolotl.model.as_deref(), Some("NousResearch/Llama-3.2-1B"));
    let of = &axolotl.training;
    assert_eq!((of.method, of.optimizer), (Method::Qlora, Some(Optimizer::Adamw8bit)));
    assert_eq!((of.micro_batch, of.sequence_length, of.lora_rank), (Some(2), Some(2048), Some(32)));
    assert_eq!((of.loss, of.packing, of.cast_base), (Some(Loss::Fused), Some(true), None));
    assert_eq!(
        (of.attention, of.gradient_checkpointing),
        (Some(AttentionKernel::Flash), Some(Checkpointing::Full))
    );
    assert_eq!(of.lora_targets.as_deref(), Some(&["all-linear".to_owned()][..]));
    assert!(axolotl.notes.is_empty(), "{:?}", axolotl.notes);

    let factory = read(FACTORY);
    let of = &factory.training;
    assert_eq!((of.method, of.sharding, of.loss), (Method::Lora, Some(Sharding::Zero3), Some(Loss::Fused)));
    assert_eq!(
        (of.gradient_checkpointing, of.attention),
        (Some(Checkpointing::Full), Some(AttentionKernel::Sdpa))
    );
    assert!(factory.notes.iter().any(|note| note.contains("--gpus")), "{:?}", factory.notes);

    let tune = read(TUNE);
    let of = &tune.training;
    assert_eq!(tune.model.as_deref(), Some("Meta-Llama-3.1-8B-Instruct"));
    assert_eq!((of.method, of.loss, of.cast_base), (Method::Qlora, Some(Loss::Chunked), Some(false)));
    assert_eq!((of.sequence_length, of.micro_batch), (None, Some(2)));
    assert_eq!(of.lora_targets.as_ref().map(Vec::len), Some(6));
    assert!(tune.notes.iter().any(|note| note.contains("tokenizer.max_seq_len")), "{:?}", tune.notes);

    let trl = read(TRL);
    let of = &trl.training;
    assert_eq!(
        (of.method, of.optimizer, of.lora_rank),
        (Method::Lora, Some(Optimizer::PagedAdamw8bit), Some(64))
    );
    assert_eq!((of.loss, of.packing, of.micro_batch), (Some(Loss::Fused), Some(true), Some(4)));
}

#[test]
fn what_a_file_leaves_out_is_the_frameworks_default_and_said() {
    let axolotl = read("base_model: a/b\nbf16: true\n");
    let of = &axolotl.training;
    assert_eq!((of.method, of.micro_batch, of.sequence_length), (Method::Full, Some(1), Some(512)));
    assert_eq!((of.gradient_checkpointing, axolotl.precision), (Some(Checkpointing::None), None));
    assert_eq!(axolotl.notes.len(), 2, "{:?}", axolotl.notes);
    let trl = read("model_name_or_path: a/b\nmax_seq_length: 512\n");
    assert_eq!((trl.training.micro_batch, trl.training.sequence_length), (Some(8), Some(512)));
}

#[test]
fn weights_are_held_as_the_framework_holds_them() {
    let factory = |more: &str| {
        read(&format!("model_name_or_path: a/b\nfinetuning_type: full\nbf16: true\n{more}")).precision
    };
    assert_eq!(factory(""), Some(Precision::Fp32));
    assert_eq!(factory("pure_bf16: true\n"), None);
    assert_eq!(factory("deepspeed: ds_z3_config.json\n"), None);
    assert_eq!(read("base_model: a/b\nfp16: true\n").precision, Some(Precision::Fp16));
    let eight = read("base_model: a/b\nadapter: lora\nload_in_8bit: true\n");
    assert_eq!((eight.training.method, eight.precision), (Method::Lora, Some(Precision::BnbInt8)));
    let four = read("model_name_or_path: a/b\nstage: sft\nquantization_bit: 4\n");
    assert_eq!((four.training.method, four.training.cast_base), (Method::Qlora, Some(false)));
}

#[test]
fn what_cannot_be_read_is_refused_with_what_would_be_right() {
    for (text, parts) in [
        ("a: 1", ["no training config", "base_model"]),
        ("- 1", ["no training config", "torchtune"]),
        ("a: [", ["not YAML", "TRL"]),
        ("base_model: a/b\nsequence_len: long", ["sequence_len is \"long\"", "whole number"]),
        ("base_model: a/b\nmicro_batch_size: -1", ["micro_batch_size is \"-1\"", "whole number"]),
        ("base_model: a/b\nrl: dpo", ["rl: dpo trains against a second model", "reference"]),
        ("model_name_or_path: a/b\nstage: ppo", ["stage: ppo", "second model"]),
        ("base_model: a/b\nadapter: llama-adapter", ["adapter: llama-adapter cannot be counted", "qlora"]),
        ("base_model: a/b\noptimizer: shampoo", ["optimizer: shampoo cannot be counted", "adamw"]),
    ] {
        let failure = parse(text).expect_err(text);
        let told = format!("{failure} {}", failure.hint.as_deref().unwrap_or_default());
        assert!(parts.iter().all(|part| told.contains(part)), "{text}: {told}");
    }
}
