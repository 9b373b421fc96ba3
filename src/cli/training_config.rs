//! The config of a training framework as a training spec: axolotl, LLaMA-Factory, torchtune and TRL.
//!
//! Keys and defaults: docs.axolotl.ai (Config Reference), LLaMA-Factory `hparams/`, torchtune's recipes, TRL `SFTConfig` and
//! `ModelConfig` with transformers' `TrainingArguments` below them.

use std::path::Path;
use std::str::FromStr;

use serde_yaml::Value;

use crate::api::v1alpha1::TrainingSpec;
use crate::estimate::{AttentionKernel, Checkpointing, Loss, Method, Optimizer, Sharding};
use crate::precision::Precision;
use crate::units::shorten;

use super::failure::Failure;
use super::input;

/// No config is larger: they are written by hand.
const LARGEST: usize = 1 << 20;

/// What a config says.
#[derive(Debug, PartialEq)]
pub(super) struct TrainingConfig {
    /// The model, as the file names it.
    pub(super) model: Option<String>,
    pub(super) training: TrainingSpec,
    pub(super) precision: Option<Precision>,
    /// What was taken for granted, and what is not in the file.
    pub(super) notes: Vec<String>,
}

/// Whose config it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framework {
    Axolotl,
    LlamaFactory,
    Torchtune,
    Trl,
}

impl Framework {
    const fn name(self) -> &'static str {
        match self {
            Self::Axolotl => "axolotl",
            Self::LlamaFactory => "LLaMA-Factory",
            Self::Torchtune => "torchtune",
            Self::Trl => "TRL",
        }
    }

    /// Whose keys these are.
    fn of(config: &Value) -> Option<Self> {
        let has = |key: &str| config.get(key).is_some();
        if config.get("model").and_then(|model| model.get("_component_")).is_some() {
            Some(Self::Torchtune)
        } else if has("base_model") {
            Some(Self::Axolotl)
        } else if has("model_name_or_path") && (has("finetuning_type") || has("stage")) {
            Some(Self::LlamaFactory)
        } else {
            has("model_name_or_path").then_some(Self::Trl)
        }
    }
}

/// The keys by which each framework says the same, and its defaults.
struct Keys {
    model: &'static str,
    batch: (&'static str, i64),
    /// `None`: as long as the model's own, or the samples.
    length: (&'static str, Option<i64>),
    rank: (&'static str, i64),
    /// Whether layers are recomputed where nothing is said.
    recomputes: bool,
    packing: &'static [&'static str],
}

const fn keys(framework: Framework) -> Keys {
    match framework {
        Framework::Axolotl => Keys {
            model: "base_model",
            batch: ("micro_batch_size", 1),
            length: ("sequence_len", Some(512)),
            rank: ("lora_r", 8),
            recomputes: false,
            packing: &["sample_packing", "pad_to_sequence_len"],
        },
        Framework::LlamaFactory => Keys {
            model: "model_name_or_path",
            batch: ("per_device_train_batch_size", 8),
            length: ("cutoff_len", Some(2048)),
            rank: ("lora_rank", 8),
            recomputes: true,
            packing: &["packing", "neat_packing"],
        },
        Framework::Torchtune => Keys {
            model: "checkpointer.checkpoint_dir",
            batch: ("batch_size", 1),
            length: ("tokenizer.max_seq_len", None),
            rank: ("model.lora_rank", 8),
            recomputes: false,
            packing: &["dataset.packed"],
        },
        Framework::Trl => Keys {
            model: "model_name_or_path",
            batch: ("per_device_train_batch_size", 8),
            length: ("max_length", Some(1024)),
            rank: ("lora_r", 16),
            recomputes: true,
            packing: &["packing"],
        },
    }
}

/// Reads the file.
pub(super) fn read(path: &Path) -> anyhow::Result<TrainingConfig> {
    let (name, text) = (input::name(path), input::text(path)?);
    Ok(parse(&text).map_err(|failure| failure.in_file(&name))?)
}

fn parse(text: &str) -> Result<TrainingConfig, Failure> {
    const WANTED: &str = "give the YAML of axolotl (base_model), LLaMA-Factory (model_name_or_path and finetuning_type), torchtune (model._component_) or TRL (model_name_or_path)";
    if text.len() > LARGEST {
        return Err(Failure::error("it is larger than 1 MiB, which no such config is").hint(WANTED));
    }
    let config: Value = serde_yaml::from_str(text)
        .map_err(|error| Failure::error(format!("it is not YAML: {error}")).hint(WANTED))?;
    let framework = Framework::of(&config)
        .ok_or_else(|| Failure::error("it is no training config that is known").hint(WANTED))?;
    let config = Config(&config);
    Reading { framework, keys: keys(framework), config, notes: Vec::new() }.read()
}

/// A config, by the paths of its keys.
#[derive(Clone, Copy)]
struct Config<'a>(&'a Value);

impl<'a> Config<'a> {
    fn get(self, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(self.0, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    fn text(self, path: &str) -> Option<&'a str> {
        self.get(path).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
    }

    /// Whether a switch is on: YAML's own word, or a text that says so.
    fn is_on(self, path: &str) -> Option<bool> {
        match self.get(path)? {
            Value::Bool(on) => Some(*on),
            Value::String(text) => {
                Some(!matches!(text.to_lowercase().as_str(), "false" | "no" | "off" | "0" | ""))
            }
            Value::Number(number) => Some(number.as_f64() != Some(0.0)),
            Value::Sequence(items) => Some(!items.is_empty()),
            _ => Some(true),
        }
    }

    fn number(self, path: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.get(path) else { return Ok(None) };
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        number.filter(|number| *number > 0).map(Some).ok_or_else(|| {
            Failure::error(format!("{path} is {}, which is no number above 0", shown(value)))
                .hint("write a whole number, such as 1")
        })
    }

    /// The names in a list, or in a text with commas.
    fn names(self, path: &str) -> Vec<String> {
        let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
        let found = match self.get(path) {
            Some(Value::String(text)) => names(text),
            Some(Value::Sequence(items)) => items.iter().filter_map(Value::as_str).flat_map(names).collect(),
            _ => Vec::new(),
        };
        found.into_iter().filter(|name| !name.is_empty()).collect()
    }

    fn any(self, paths: &[&str]) -> bool {
        paths.iter().any(|path| self.is_on(path) == Some(true))
    }
}

fn shown(value: &Value) -> String {
    let text = serde_yaml::to_string(value).unwrap_or_default();
    format!("\"{}\"", shorten(text.trim()))
}

struct Reading<'a> {
    framework: Framework,
    keys: Keys,
    config: Config<'a>,
    notes: Vec<String>,
}

impl Reading<'_> {
    fn read(mut self) -> Result<TrainingConfig, Failure> {
        self.refuse()?;
        let (method, quantised) = self.method()?;
        let sharding = self.sharding();
        let precision = quantised.or_else(|| self.wide(method, sharding));
        let training = TrainingSpec {
            method,
            optimizer: Some(self.optimizer()?),
            micro_batch: Some(self.number_or(self.keys.batch.0, self.keys.batch.1)?),
            sequence_length: self.length()?,
            lora_rank: if method == Method::Full {
                None
            } else {
                Some(self.number_or(self.keys.rank.0, self.keys.rank.1)?)
            },
            lora_targets: (method != Method::Full).then(|| self.targets()),
            gradient_checkpointing: Some(self.checkpointing()),
            attention: Some(self.attention()),
            sharding,
            gpus: None,
            offload: None,
            loss: self.loss(),
            packing: self.config.any(self.keys.packing).then_some(true),
            sequence_parallel: self.sequence_parallel()?,
            cast_base: (method == Method::Qlora && !self.casts_base()).then_some(false),
        };
        let framework = self.framework.name();
        if sharding.is_some() {
            self.notes.push(format!(
                "A config of {framework} does not say how many GPUs train: 1 is taken; say it with --gpus."
            ));
        }
        Ok(TrainingConfig { model: self.model(), training, precision, notes: self.notes })
    }

    /// What holds more than one model is not counted.
    fn refuse(&self) -> Result<(), Failure> {
        let (key, plain): (&str, &[&str]) = match self.framework {
            Framework::Axolotl => ("rl", &[]),
            Framework::LlamaFactory => ("stage", &["sft", "pt"]),
            Framework::Torchtune | Framework::Trl => return Ok(()),
        };
        match self.config.text(key).filter(|stage| !plain.contains(stage)) {
            None => Ok(()),
            Some(stage) => Err(Failure::error(format!(
                "{key}: {} trains against a second model, which is not counted",
                shorten(stage)
            ))
            .hint("estimate the supervised run, and add what the reference or reward model takes")),
        }
    }

    fn model(&self) -> Option<String> {
        let named = self.config.text(self.keys.model)?;
        if self.framework != Framework::Torchtune || Path::new(named).is_dir() {
            return Some(named.to_owned());
        }
        // A directory of another machine is called as the model is.
        named.trim_end_matches('/').rsplit('/').next().map(str::to_owned)
    }

    fn number_or(&mut self, key: &str, default: i64) -> Result<i64, Failure> {
        if let Some(number) = self.config.number(key)? {
            return Ok(number);
        }
        self.notes.push(format!("{key} is not in the file: {default}, {}'s default.", self.framework.name()));
        Ok(default)
    }

    fn length(&mut self) -> Result<Option<i64>, Failure> {
        let (key, default) = self.keys.length;
        let older = if self.framework == Framework::Trl { "max_seq_length" } else { key };
        if let Some(length) = self.config.number(key)?.or(self.config.number(older)?) {
            return Ok(Some(length));
        }
        if let Some(default) = default {
            return self.number_or(key, default).map(Some);
        }
        self.notes.push(format!(
            "{key} is not in the file: samples are as long as they are; say how long with --context."
        ));
        Ok(None)
    }

    /// What is trained, and how the base is quantised.
    fn method(&self) -> Result<(Method, Option<Precision>), Failure> {
        let config = self.config;
        let of_bits = |adapters: bool, four: bool, eight: bool| match (adapters, four, eight) {
            (false, ..) => (Method::Full, None),
            (true, true, _) => (Method::Qlora, None),
            (true, false, true) => (Method::Lora, Some(Precision::BnbInt8)),
            (true, false, false) => (Method::Lora, None),
        };
        let unknown = |key: &str, word: &str| {
            Failure::error(format!("{key}: {} cannot be counted", shorten(word)))
                .hint("use lora, qlora or full")
        };
        match self.framework {
            Framework::Axolotl => match config.text("adapter") {
                None => Ok((Method::Full, None)),
                Some("qlora") => Ok((Method::Qlora, None)),
                Some("lora") => {
                    Ok(of_bits(true, config.any(&["load_in_4bit"]), config.any(&["load_in_8bit"])))
                }
                Some(other) => Err(unknown("adapter", other)),
            },
            Framework::LlamaFactory => match config.text("finetuning_type").unwrap_or("lora") {
                "full" => Ok((Method::Full, None)),
                "lora" => {
                    let bits = config.number("quantization_bit")?;
                    Ok(of_bits(true, bits == Some(4), bits == Some(8)))
                }
                other => Err(unknown("finetuning_type", other)),
            },
            Framework::Torchtune => {
                let component = config.text("model._component_").unwrap_or_default();
                let builder = component.rsplit('.').next().unwrap_or_default();
                let is_four = builder.starts_with("qlora") || config.any(&["model.quantize_base"]);
                Ok(of_bits(is_four || builder.starts_with("lora"), is_four, false))
            }
            Framework::Trl => {
                let [four, eight] = ["load_in_4bit", "load_in_8bit"].map(|key| config.any(&[key]));
                Ok(of_bits(config.any(&["use_peft"]), four, eight))
            }
        }
    }

    /// The 16- or 32-bit type that the weights are held in.
    fn wide(&self, method: Method, sharding: Option<Sharding>) -> Option<Precision> {
        let config = self.config;
        let says = |keys: &[&str], words: &[&str]| {
            keys.iter().any(|key| config.text(key).is_some_and(|text| words.contains(&text)))
        };
        let types = ["dtype", "torch_dtype"];
        if says(&types, &["fp32", "float32"]) {
            return Some(Precision::Fp32);
        }
        if says(&types, &["bf16", "bfloat16"]) || method != Method::Full {
            return None;
        }
        match self.framework {
            // Trainable weights are cast to 32 bits, unless they are sharded or it is told not to (`init_adapter`).
            Framework::LlamaFactory => {
                let sharded = matches!(sharding, Some(Sharding::Zero3 | Sharding::Fsdp));
                (!sharded && !config.any(&["pure_bf16"])).then_some(Precision::Fp32)
            }
            Framework::Axolotl | Framework::Trl if config.any(&["fp16"]) => Some(Precision::Fp16),
            Framework::Axolotl if !config.any(&["bf16", "bfloat16", "float16"]) => Some(Precision::Fp32),
            Framework::Axolotl | Framework::Trl | Framework::Torchtune => None,
        }
    }

    fn optimizer(&self) -> Result<Optimizer, Failure> {
        let config = self.config;
        if self.framework == Framework::LlamaFactory && config.any(&["use_galore"]) {
            return Ok(Optimizer::Galore);
        }
        let key = match self.framework {
            Framework::Axolotl => "optimizer",
            Framework::LlamaFactory | Framework::Trl => "optim",
            Framework::Torchtune => "optimizer._component_",
        };
        let Some(written) = config.text(key) else { return Ok(Optimizer::Adamw) };
        let name = written.rsplit('.').next().unwrap_or(written).to_lowercase().replace('_', "-");
        let is_eight = name.contains("8bit") || name.contains("8-bit");
        let has = |part: &str| name.contains(part);
        let found = match Optimizer::from_str(&name) {
            Ok(known) => Some(known),
            Err(_) if has("4bit") || has("fp8") => None,
            Err(_) if has("galore") => Some(Optimizer::Galore),
            Err(_) if has("adafactor") => Some(Optimizer::Adafactor),
            Err(_) if has("muon") => Some(Optimizer::Muon),
            Err(_) if has("lion") && !is_eight => Some(Optimizer::Lion),
            Err(_) if has("adam") && is_eight && has("paged") => Some(Optimizer::PagedAdamw8bit),
            Err(_) if has("adam") && is_eight => Some(Optimizer::Adamw8bit),
            Err(_) if has("adam") && !has("mini") => Some(Optimizer::Adamw),
            Err(_) => None,
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = Optimizer::ALL.iter().map(|known| known.as_str()).collect();
            Failure::error(format!("{key}: {} cannot be counted", shorten(written)))
                .hint(format!("use one of {}", names.join(", ")))
        })
    }

    fn targets(&self) -> Vec<String> {
        let config = self.config;
        let all = vec!["all-linear".to_owned()];
        let named = |key: &str| {
            let names = config.names(key);
            if names.iter().any(|name| matches!(name.as_str(), "all" | "all-linear")) {
                all.clone()
            } else {
                names
            }
        };
        let found = match self.framework {
            Framework::Axolotl if config.any(&["lora_target_linear"]) => all.clone(),
            Framework::Axolotl | Framework::Trl => named("lora_target_modules"),
            Framework::LlamaFactory => match config.get("lora_target") {
                None => all.clone(),
                Some(_) => named("lora_target"),
            },
            Framework::Torchtune => {
                let attention = config.names("model.lora_attn_modules");
                let renamed = |name: String| if name == "output_proj" { "o_proj".to_owned() } else { name };
                let mut modules: Vec<String> = attention.into_iter().map(renamed).collect();
                if config.any(&["model.apply_lora_to_mlp"]) {
                    modules.extend(["gate_proj", "up_proj", "down_proj"].map(str::to_owned));
                }
                modules.sort_unstable();
                modules.dedup();
                modules
            }
        };
        // PEFT's own choice is queries and values for most families.
        if found.is_empty() { vec!["q_proj".to_owned(), "v_proj".to_owned()] } else { found }
    }

    fn checkpointing(&self) -> Checkpointing {
        let config = self.config;
        let told = match self.framework {
            Framework::LlamaFactory => config.is_on("disable_gradient_checkpointing").map(|off| !off),
            Framework::Torchtune => config.is_on("enable_activation_checkpointing"),
            Framework::Axolotl | Framework::Trl => config.is_on("gradient_checkpointing"),
        };
        if told.unwrap_or(self.keys.recomputes) { Checkpointing::Full } else { Checkpointing::None }
    }

    fn attention(&self) -> AttentionKernel {
        let config = self.config;
        let told =
            config.text("attn_implementation").or_else(|| config.text("flash_attn")).unwrap_or_default();
        match told {
            "eager" | "disabled" => AttentionKernel::Eager,
            name if name.contains("flash") || name.starts_with("fa") => AttentionKernel::Flash,
            _ if config.any(&["flash_attention", "xformers_attention"]) => AttentionKernel::Flash,
            _ if config.any(&["eager_attention"]) => AttentionKernel::Eager,
            _ => AttentionKernel::Sdpa,
        }
    }

    fn sharding(&self) -> Option<Sharding> {
        let config = self.config;
        let deepspeed = config.text("deepspeed").map(str::to_lowercase);
        if let Some(name) = deepspeed {
            let stage = |names: [&str; 3]| names.iter().any(|part| name.contains(part));
            return Some(match () {
                () if stage(["zero3", "z3", "stage3"]) => Sharding::Zero3,
                () if stage(["zero1", "z1", "stage1"]) => Sharding::Zero1,
                () => Sharding::Zero2,
            });
        }
        config.any(&["fsdp", "fsdp_config", "fsdp_version"]).then_some(Sharding::Fsdp)
    }

    fn loss(&self) -> Option<Loss> {
        let config = self.config;
        let component = config.text("loss._component_").unwrap_or_default();
        let fused = [
            "liger_fused_linear_cross_entropy",
            "cut_cross_entropy",
            "use_liger_kernel",
            "enable_liger_kernel",
        ];
        let type_of = config.text("loss_type").unwrap_or_default();
        if config.any(&fused) || component.contains("LinearCrossEntropy") || type_of == "chunked_nll" {
            Some(Loss::Fused)
        } else if config.any(&["chunked_cross_entropy"]) || component.contains("Chunked") {
            Some(Loss::Chunked)
        } else if config.any(&["unsloth_cross_entropy_loss", "use_unsloth"]) {
            Some(Loss::InPlace)
        } else {
            None
        }
    }

    fn sequence_parallel(&self) -> Result<Option<i64>, Failure> {
        for key in ["context_parallel_size", "sequence_parallel_degree", "sequence_parallel_size"] {
            if let Some(gpus) = self.config.number(key)? {
                return Ok(Some(gpus).filter(|gpus| *gpus > 1));
            }
        }
        Ok(None)
    }

    /// Whether PEFT's `prepare_model_for_kbit_training` is called: LLaMA-Factory and torchtune have ways of their own.
    const fn casts_base(&self) -> bool {
        matches!(self.framework, Framework::Axolotl | Framework::Trl)
    }
}

#[cfg(test)]
#[path = "training_config_tests.rs"]
mod tests;
