//! From the headers of a model's files, and its config where there is one, to a [`ModelShape`].

use std::collections::BTreeMap;

use super::cache;
use super::entry::{Entry, malformed};
use super::header::Header;
use super::names::{self, Class};
use super::pack::{self, Seen, Weight};
use crate::model::{
    CacheKind, Confidence, ModelShape, ParseError, Quantization, Role, ShapeSource, Split, Tensor, hf_config,
};
use crate::precision::Precision;

/// The shape of a model: its tensors from the headers of all its files, the rest from its `config.json`.
///
/// Without a config, or with one of an architecture that is not known, the weights are exact all the same, and the
/// cache is an upper bound from the key and value projections: every layer attends to the whole context.
///
/// # Errors
/// If the config is there and wrong, or there is none and the tensors do not tell what is cached.
pub fn shape(headers: &[Header], config: Option<&[u8]>, name: &str) -> Result<ModelShape, ParseError> {
    shape_with_quant(headers, config, None, name)
}

/// The same, with the `hf_quant_config.json` that NVIDIA's ModelOpt writes beside the config.
///
/// # Errors
/// As [`shape`].
pub fn shape_with_quant(
    headers: &[Header],
    config: Option<&[u8]>,
    hf_quant: Option<&[u8]>,
    name: &str,
) -> Result<ModelShape, ParseError> {
    let mut entries: BTreeMap<&str, &Entry> = BTreeMap::new();
    let mut repeated = 0_usize;
    for entry in headers.iter().flat_map(|header| &header.tensors) {
        if names::is_buffer(&entry.name) {
            continue;
        }
        if entries.contains_key(entry.name.as_str()) {
            repeated += 1;
        } else {
            entries.insert(&entry.name, entry);
        }
    }
    if entries.is_empty() {
        return Err(malformed("there are no tensors in it".to_owned()));
    }
    let mut notes = Vec::new();
    if repeated > 0 {
        notes.push(format!("{repeated} tensors are in more than one file and are counted once."));
    }
    let base = match config.map(|config| hf_config::parse_with_quant(config, hf_quant, name)) {
        None => None,
        Some(Ok(base)) => Some(base),
        Some(Err(ParseError::UnknownArchitecture { architecture, .. })) => {
            notes.push(format!(
                "The architecture \"{architecture}\" is not known: the weights are counted from the files, and the cache is an upper bound."
            ));
            None
        }
        Some(Err(error)) => return Err(error),
    };
    let bits =
        base.as_ref().and_then(|base| base.quantization.as_ref()).map(|found| integer_bits(found.precision));
    let (weights, seen) = pack::weights(&entries, bits.flatten());
    if seen.unknown_packing {
        notes.push(
            "Some tensors are packed in a way that is not known: their bytes are exact, the number of parameters is not."
                .to_owned(),
        );
    }
    let dominant = dominant_precision(&weights);
    let shape = match base {
        Some(base) => with_config(base, weights, &seen, dominant, notes)?,
        None => without_config(name, config, weights, &seen, dominant, notes)?,
    };
    Ok(shape)
}

/// The tensors that a config says there are. Parts of a fused matrix have one name.
struct Known<'a> {
    /// By their whole name.
    named: BTreeMap<&'a str, Vec<&'a Tensor>>,
    /// Those of the language model by layer and the name in it: what is before that differs between checkpoints.
    text: BTreeMap<(Option<u32>, String), Vec<&'a Tensor>>,
}

impl<'a> Known<'a> {
    fn of(tensors: &'a [Tensor]) -> Self {
        let mut known = Self { named: BTreeMap::new(), text: BTreeMap::new() };
        for tensor in tensors {
            known.named.entry(&tensor.name).or_default().push(tensor);
            if is_text(names::classify(&tensor.name, tensor.rows == 1).role) {
                known.text.entry(names::key(&tensor.name)).or_default().push(tensor);
            }
        }
        known
    }

    fn find(&self, class: &Class, name: &str) -> &[&'a Tensor] {
        let shared = names::without_expert(name);
        let named = self.named.get(shared.as_deref().unwrap_or(name));
        let found = match named {
            None if is_text(class.role) => self.text.get(&names::key(name)),
            named => named,
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// Whether it belongs to the language model proper.
const fn is_text(role: Role) -> bool {
    !matches!(role, Role::Vision | Role::Projector | Role::Draft)
}

fn integer_bits(precision: Precision) -> Option<u64> {
    match precision {
        Precision::GptqInt4 | Precision::AwqInt4 | Precision::Int4 => Some(4),
        Precision::GptqInt8 | Precision::Int8 => Some(8),
        _ => None,
    }
}

/// The type that holds most bytes, of what is not quantised.
fn dominant_precision(weights: &[Weight]) -> Option<Precision> {
    let mut by_type: BTreeMap<_, u64> = BTreeMap::new();
    for (dtype, bytes) in weights.iter().filter_map(|weight| Some((weight.dtype?, weight.bytes))) {
        let sum = by_type.entry(dtype).or_default();
        *sum = sum.saturating_add(bytes);
    }
    by_type
        .into_iter()
        .filter_map(|(dtype, bytes)| Some((bytes, dtype.unquantized()?)))
        .max_by_key(|&(bytes, _)| bytes)
        .map(|(_, precision)| precision)
}

fn with_config(
    base: ModelShape,
    weights: Vec<Weight>,
    seen: &Seen,
    dominant: Option<Precision>,
    notes: Vec<String>,
) -> Result<ModelShape, ParseError> {
    let known = Known::of(&base.tensors);
    let layers = u32::try_from(base.layers.len()).unwrap_or(u32::MAX);
    let kv_heads = base.layers.iter().find_map(|layer| match layer.attention?.cache {
        CacheKind::Heads { kv_heads, .. } => Some(kv_heads),
        _ => None,
    });
    let mut tensors = Tensors::default();
    for weight in weights {
        let mut class = names::classify(&weight.name, weight.vector);
        // Layers after the last are the draft's (DeepSeek-V3, GLM-4.5): `model.layers.61` of 61.
        if is_text(class.role) && layers > 0 && class.layer.is_some_and(|layer| layer >= layers) {
            class = Class { layer: None, role: Role::Draft, ..class };
        }
        if base.tied_embeddings && class.role == Role::OutputHead {
            // Engines keep one matrix for both, even where the file has two.
            continue;
        }
        class.split = with_heads(class.split, kv_heads);
        let models = known.find(&class, &weight.name);
        tensors.add(weight, class, models)?;
    }
    let (tensors, parameters) = tensors.finish();
    let quantization = quantization(base.quantization, seen);
    let stored_precision = dominant.or(base.stored_precision);
    let mut all_notes = base.notes;
    all_notes.extend(notes);
    Ok(ModelShape {
        source: ShapeSource::Safetensors,
        parameters,
        tensors,
        stored_precision,
        quantization,
        weights_confidence: Confidence::Exact,
        notes: all_notes,
        ..base
    })
}

fn without_config(
    name: &str,
    config: Option<&[u8]>,
    weights: Vec<Weight>,
    seen: &Seen,
    dominant: Option<Precision>,
    mut notes: Vec<String>,
) -> Result<ModelShape, ParseError> {
    let bound = cache::upper_bound(&weights)?;
    let mut tensors = Tensors::default();
    let mut hidden_size = 0;
    let mut vocabulary = 0;
    let mut intermediate_size = 0;
    let mut tied_embeddings = true;
    let mut experts: Option<(u64, u64)> = None;
    let mut multimodal = false;
    for weight in weights {
        let class = names::classify(&weight.name, weight.vector);
        let class = Class { split: with_heads(class.split, Some(bound.kv_heads)), ..class };
        match class.role {
            Role::Embedding if class.split == Split::Vocabulary && weight.rows > vocabulary => {
                vocabulary = weight.rows;
                hidden_size = weight.columns;
            }
            Role::OutputHead => tied_embeddings = false,
            Role::Mlp | Role::SharedExpert if class.split == Split::Rows => {
                intermediate_size = intermediate_size.max(weight.rows);
            }
            Role::Expert => {
                let in_name = names::expert_index(&weight.name).map_or(0, |index| index.saturating_add(1));
                let (count, width) = experts.unwrap_or_default();
                let rows = if class.split == Split::Rows { weight.rows } else { 0 };
                experts = Some((count.max(weight.count).max(in_name), width.max(rows)));
            }
            Role::Vision => multimodal = true,
            _ => {}
        }
        tensors.add(weight, class, &[])?;
    }
    let (tensors, parameters) = tensors.finish();
    if config.is_none() {
        notes.push(
            "There is no config.json: the cache is an upper bound from the key and value projections."
                .to_owned(),
        );
    }
    let quantization = quantization(None, seen);
    Ok(ModelShape {
        name: name.to_owned(),
        source: ShapeSource::Safetensors,
        architecture: "unknown".to_owned(),
        parameters,
        tensors,
        layers: bound.layers,
        draft_layers: Vec::new(),
        hidden_size,
        intermediate_size,
        heads: bound.heads,
        head_dim: bound.head_dim,
        experts: experts.map(|(count, width)| crate::model::Experts {
            count,
            // Not in the tensors: all of them is the bound.
            per_token: count,
            intermediate_size: width,
        }),
        vocabulary,
        max_context: config.and_then(max_context),
        tied_embeddings,
        stored_precision: dominant,
        quantization,
        state_precision: None,
        rotary_elements: None,
        encoder_tokens: None,
        multimodal,
        weights_confidence: Confidence::Exact,
        cache_confidence: Confidence::Assumed,
        notes,
    })
}

/// The longest context of a config of an unknown architecture.
fn max_context(config: &[u8]) -> Option<u64> {
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let read =
        |value: &serde_json::Value| value.get("max_position_embeddings").and_then(serde_json::Value::as_u64);
    read(&config).or_else(|| config.get("text_config").and_then(read)).filter(|&tokens| tokens > 0)
}

/// What the config says, completed and where need be replaced by what the tensors show.
fn quantization(config: Option<Quantization>, seen: &Seen) -> Option<Quantization> {
    match (config, seen.precision) {
        (Some(config), _) => Some(config),
        (None, Some(precision)) => Some(Quantization {
            precision,
            group_size: seen.group_size,
            zero_points: seen.zero_points,
            activation_order: seen.activation_order,
            double_quantized: seen.double_quantized,
            ignored: Vec::new(),
            cache_precision: None,
            groups: Vec::new(),
        }),
        (None, None) => None,
    }
}

fn with_heads(split: Split, kv_heads: Option<u64>) -> Split {
    match split {
        // The heads are not known: a whole copy on each rank is the bound.
        Split::KeyValueHeads(0) => {
            kv_heads.filter(|&heads| heads > 0).map_or(Split::Replicated, Split::KeyValueHeads)
        }
        split => split,
    }
}

/// Collects tensors, with the experts of one layer as one.
#[derive(Default)]
struct Tensors {
    all: Vec<Tensor>,
    experts: BTreeMap<(String, u64, u64), usize>,
}

impl Tensors {
    /// Adds a weight. `models` are what the config says of it: more than one if they are fused in the file.
    fn add(&mut self, weight: Weight, class: Class, models: &[&Tensor]) -> Result<(), ParseError> {
        let too_large = || malformed("a packed tensor unpacks to more than 2^64 elements".to_owned());
        let elements = product(weight.rows, weight.columns, weight.count).ok_or_else(too_large)?;
        let Some(&model) = models.first() else {
            self.push(weight, class);
            return Ok(());
        };
        let of_model = |model: &Tensor| Class {
            layer: model.layer,
            role: model.role,
            split: model.split,
            quantizable: model.quantizable,
        };
        let sum = models
            .iter()
            .try_fold(0_u64, |sum, model| sum.checked_add(product(model.rows, model.columns, model.count)?));
        if models.len() > 1 && sum == Some(elements) && elements > 0 {
            let mut bytes_left = weight.bytes;
            let mut elements_left = elements;
            for model in models {
                let share = product(model.rows, model.columns, model.count).unwrap_or(0);
                // A share of what is left, so that the shares come to the whole.
                let bytes = u128::from(bytes_left) * u128::from(share) / u128::from(elements_left.max(1));
                let bytes = u64::try_from(bytes).unwrap_or(bytes_left);
                bytes_left = bytes_left.saturating_sub(bytes);
                elements_left = elements_left.saturating_sub(share);
                let (rows, columns, count) = (model.rows, model.columns, model.count);
                self.push(Weight { count, rows, columns, bytes, ..weight.clone() }, of_model(model));
            }
            return Ok(());
        }
        // Stored the other way round (GPT-2), flattened (bitsandbytes), or fused over experts: the config has the features.
        let (rows, columns, count) = if product(model.rows, model.columns, 1) == Some(elements) {
            (model.rows, model.columns, 1)
        } else if product(model.rows, model.columns, model.count) == Some(elements) {
            (model.rows, model.columns, model.count)
        } else {
            (weight.rows, weight.columns, weight.count)
        };
        self.push(Weight { count, rows, columns, ..weight }, of_model(model));
        Ok(())
    }

    fn push(&mut self, weight: Weight, class: Class) {
        let (rows, columns, count) = (weight.rows, weight.columns, weight.count);
        let shared = names::without_expert(&weight.name);
        let name = shared.clone().unwrap_or(weight.name);
        if shared.is_some() {
            let key = (name.clone(), rows, columns);
            if let Some(tensor) = self.experts.get(&key).and_then(|&at| self.all.get_mut(at)) {
                tensor.count = tensor.count.saturating_add(count);
                tensor.stored_bytes = tensor.stored_bytes.map(|bytes| bytes.saturating_add(weight.bytes));
                return;
            }
            self.experts.insert(key, self.all.len());
        }
        self.all.push(Tensor {
            name,
            layer: class.layer,
            role: class.role,
            count,
            rows,
            columns,
            split: class.split,
            quantizable: class.quantizable && !weight.vector,
            stored_bytes: Some(weight.bytes),
        });
    }

    /// The tensors, and their parameters without the draft's.
    fn finish(self) -> (Vec<Tensor>, u64) {
        let parameters =
            self.all.iter().filter(|tensor| tensor.role != Role::Draft).fold(0_u64, |sum, tensor| {
                sum.saturating_add(product(tensor.rows, tensor.columns, tensor.count).unwrap_or(u64::MAX))
            });
        (self.all, parameters)
    }
}

fn product(a: u64, b: u64, c: u64) -> Option<u64> {
    a.checked_mul(b)?.checked_mul(c)
}
