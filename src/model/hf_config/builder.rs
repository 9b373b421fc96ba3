//! Collects the tensors and layers of a model while its config is read.

use crate::model::hf_config::config::fields::WHAT;
use crate::model::{Confidence, Layer, ModelShape, ParseError, Role, ShapeSource, Span, Split, Tensor};
use crate::units::MAX_PARAMETERS;

/// The most tensors of one model: real ones have some thousands.
const MAX_TENSORS: usize = 100_000;

/// A shape that grows tensor by tensor. The first failure is kept, and what follows it is ignored.
#[derive(Debug)]
pub(super) struct Builder {
    /// What the shape is so far; `tensors` and `parameters` are written by the methods.
    pub(super) shape: ModelShape,
    /// Put before every tensor's name, such as `language_model.`.
    pub(super) prefix: String,
    /// Put in the place of a leading `model.`, such as `model.language_model.`.
    pub(super) model_prefix: Option<&'static str>,
    /// The same for the tensors of the current layer, such as `model.layers.3.`.
    layer_prefix: String,
    layer: Option<u32>,
    draft: bool,
    failure: Option<ParseError>,
}

impl Builder {
    /// Nothing yet.
    pub(super) fn new(name: &str, architecture: &str) -> Self {
        Self {
            shape: ModelShape {
                name: name.to_owned(),
                source: ShapeSource::Config,
                architecture: architecture.to_owned(),
                parameters: 0,
                tensors: Vec::new(),
                layers: Vec::new(),
                draft_layers: Vec::new(),
                hidden_size: 0,
                intermediate_size: 0,
                heads: 0,
                head_dim: 0,
                experts: None,
                vocabulary: 0,
                max_context: None,
                tied_embeddings: false,
                stored_precision: None,
                quantization: None,
                state_precision: None,
                rotary_elements: None,
                encoder_tokens: None,
                multimodal: false,
                weights_confidence: Confidence::Exact,
                cache_confidence: Confidence::Exact,
                notes: Vec::new(),
            },
            prefix: String::new(),
            model_prefix: None,
            layer_prefix: String::new(),
            layer: None,
            draft: false,
            failure: None,
        }
    }

    /// What follows belongs to decoder layer `index`, whose tensors' names begin with `prefix`.
    pub(super) fn begin_layer(&mut self, prefix: impl Into<String>, index: u64) {
        self.layer_prefix = prefix.into();
        self.layer = u32::try_from(index).ok();
        self.draft = false;
    }

    /// What follows belongs to a draft head.
    pub(super) fn begin_draft(&mut self, prefix: impl Into<String>) {
        self.layer_prefix = prefix.into();
        self.layer = None;
        self.draft = true;
    }

    /// What follows belongs to a block outside the decoder's layers, such as one of a vision tower.
    pub(super) fn begin_block(&mut self, prefix: impl Into<String>) {
        self.layer_prefix = prefix.into();
        self.layer = None;
        self.draft = false;
    }

    /// What follows belongs to no layer.
    pub(super) fn end_layers(&mut self) {
        self.begin_block("");
    }

    /// Keeps what the decoder layer just built keeps per sequence.
    pub(super) fn keep(&mut self, layer: Layer) {
        if self.draft {
            self.shape.draft_layers.push(layer);
        } else {
            self.shape.layers.push(layer);
        }
    }

    /// A note for the user, once.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.shape.notes.contains(&note) {
            self.shape.notes.push(note);
        }
    }

    /// The widest of several attention layers.
    pub(super) fn widest_attention(&mut self, heads: u64, head_dim: u64) {
        if heads.saturating_mul(head_dim) > self.shape.heads.saturating_mul(self.shape.head_dim) {
            self.shape.heads = heads;
            self.shape.head_dim = head_dim;
        }
    }

    /// A matrix, or `tensor.count` identical ones.
    pub(super) fn push(&mut self, name: &str, mut tensor: Tensor) {
        let elements = tensor.rows.checked_mul(tensor.columns).and_then(|one| one.checked_mul(tensor.count));
        if self.failure.is_some() || elements == Some(0) {
            return;
        }
        let local = format!("{}{name}", self.layer_prefix);
        tensor.name = match (self.model_prefix, local.strip_prefix("model.")) {
            (Some(instead), Some(rest)) => format!("{}{instead}{rest}", self.prefix),
            _ => format!("{}{local}", self.prefix),
        };
        let counted = if self.draft { Some(0) } else { elements };
        let total = counted.and_then(|more| self.shape.parameters.checked_add(more));
        match total {
            Some(total) if total <= MAX_PARAMETERS && elements <= Some(MAX_PARAMETERS) => {
                self.shape.parameters = total;
            }
            _ => {
                self.failure = Some(ParseError::TooLarge {
                    what: WHAT,
                    problem: format!(
                        "{} brings the model above {MAX_PARAMETERS} parameters; no model has as many",
                        tensor.name
                    ),
                });
                return;
            }
        }
        if self.shape.tensors.len() >= MAX_TENSORS {
            self.failure = Some(ParseError::TooLarge {
                what: WHAT,
                problem: format!(
                    "describes more than {MAX_TENSORS} tensors; real models have some thousands"
                ),
            });
            return;
        }
        if self.draft {
            tensor.role = Role::Draft;
        }
        tensor.layer = self.layer;
        self.shape.tensors.push(tensor);
    }

    /// `count` identical linear layers' matrices, without bias.
    pub(super) fn matrices(
        &mut self,
        name: &str,
        role: Role,
        count: u64,
        rows: u64,
        columns: u64,
        split: Split,
    ) {
        let quantizable = !matches!(
            role,
            Role::Embedding
                | Role::OutputHead
                | Role::Router
                | Role::Norm
                | Role::State
                | Role::Vision
                | Role::Projector
        );
        let tensor = Tensor {
            name: String::new(),
            layer: None,
            role,
            count,
            rows,
            columns,
            split,
            quantizable,
            stored_bytes: None,
        };
        self.push(name, tensor);
    }

    /// A linear layer: `NAME.weight` of `rows` output features, and `NAME.bias` where it has one.
    pub(super) fn linear(
        &mut self,
        name: &str,
        role: Role,
        (rows, columns): (u64, u64),
        split: Split,
        bias: bool,
    ) {
        self.matrices(&format!("{name}.weight"), role, 1, rows, columns, split);
        if bias {
            let split = match split {
                // The sum over ranks is biased once.
                Split::Columns | Split::Replicated => Split::Replicated,
                Split::Rows => Split::Columns,
                other => other,
            };
            self.vector_split(&format!("{name}.bias"), rows, split);
        }
    }

    /// A vector that every rank keeps: a norm, a bias, a scale.
    pub(super) fn vector(&mut self, name: &str, elements: u64) {
        self.vector_split(name, elements, Split::Replicated);
    }

    fn vector_split(&mut self, name: &str, elements: u64, split: Split) {
        self.matrices(name, Role::Norm, 1, 1, elements, split);
    }

    /// A norm: `NAME.weight`, and `NAME.bias` for a layer norm that has one.
    pub(super) fn norm(&mut self, name: &str, width: u64, bias: bool) {
        self.vector(&format!("{name}.weight"), width);
        if bias {
            self.vector(&format!("{name}.bias"), width);
        }
    }

    /// A small tensor of a recurrent layer, which quantisation leaves alone.
    pub(super) fn state(&mut self, name: &str, rows: u64, columns: u64, split: Split) {
        self.matrices(name, Role::State, 1, rows, columns, split);
    }

    /// A table of embeddings: by vocabulary, or of positions or types, which every rank keeps.
    pub(super) fn embedding(&mut self, name: &str, rows: u64, width: u64, split: Split) {
        self.matrices(name, Role::Embedding, 1, rows, width, split);
    }

    /// The finished shape.
    pub(super) fn finish(mut self) -> Result<ModelShape, ParseError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        // A window that no context outgrows is none.
        let context = self.shape.max_context.unwrap_or(u64::MAX);
        for layer in self.shape.layers.iter_mut().chain(&mut self.shape.draft_layers) {
            if let Some(attention) = &mut layer.attention
                && matches!(attention.span, Span::Sliding(window) | Span::Chunked(window) if window >= context)
            {
                attention.span = Span::Full;
            }
        }
        Ok(self.shape)
    }

    /// Says that the tensors follow a description of the architecture, not a published implementation.
    pub(super) fn described(&mut self, what: &str) {
        self.shape.weights_confidence = self.shape.weights_confidence.max(Confidence::Derived);
        self.note(format!("{what} is counted from its published description."));
    }
}
