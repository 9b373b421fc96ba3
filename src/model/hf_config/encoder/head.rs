//! What stands on top of an encoder: it depends on the class that the config names.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{Fields, VOCABULARY};
use crate::model::{ParseError, Role, Split};

/// What an encoder's class yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The stream itself, or one vector of it: embeddings.
    Features,
    /// The token at a masked position; the output matrix is the embedding.
    MaskedLanguage,
    /// So many scores of a whole sequence: classification, or reranking with one.
    Sequence(u64),
    /// So many scores of each token.
    Tokens(u64),
    /// What it was trained on: masked tokens, and whether the next sentence follows.
    Pretraining,
}

impl Task {
    /// What the config's class says; features where it names none.
    pub(crate) fn read(f: &Fields<'_>) -> Result<Self, ParseError> {
        let architectures = f.texts("architectures")?.unwrap_or_default();
        let ends = |suffix: &str| architectures.iter().any(|name| name.ends_with(suffix));
        Ok(if ends("ForSequenceClassification") {
            Self::Sequence(labels(f)?)
        } else if ends("ForTokenClassification") {
            Self::Tokens(labels(f)?)
        } else if ends("ForQuestionAnswering") {
            Self::Tokens(2)
        } else if ends("ForMultipleChoice") {
            Self::Sequence(1)
        } else if ends("ForPreTraining") {
            Self::Pretraining
        } else if ends("ForMaskedLM") || ends("LMHeadModel") || ends("ForCausalLM") {
            Self::MaskedLanguage
        } else {
            Self::Features
        })
    }
}

/// The number of labels: as written, else as many as are named, else transformers' two.
fn labels(f: &Fields<'_>) -> Result<u64, ParseError> {
    if let Some(labels) = f.number("num_labels", VOCABULARY)? {
        return Ok(labels.max(1));
    }
    let named = f.object("id2label")?.map(|labels| u64::try_from(labels.keys().count()).unwrap_or(2));
    Ok(named.unwrap_or(2).max(1))
}

/// Families that agree on what stands on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooled {
    /// A pooler for features and sequences, one matrix to the labels.
    Bert,
    /// A pooler for features, a head of two matrices for sequences.
    Roberta,
    /// No pooler, a head of two matrices for sequences, and a generator as narrow as the embedding.
    Electra,
    /// No pooler but for features; the head of two matrices.
    Esm,
    /// No pooler; the first of two matrices is always there.
    Distil,
    /// A pooler, and predictions as narrow as the embedding.
    Albert,
    /// No pooler but for sequences.
    Deberta,
    /// No pooler, no bias.
    Modern,
    /// Nothing but what the class names: one matrix to the labels.
    Plain,
}

/// Adds it; `hidden`, `embedding` and `vocabulary` are the encoder's.
pub(crate) fn build(
    family: Pooled,
    task: Task,
    b: &mut Builder,
    (hidden, embedding, vocabulary): (u64, u64, u64),
) {
    let dense = |b: &mut Builder, name: &str, (rows, columns): (u64, u64), bias: bool| {
        b.linear(name, Role::Mlp, (rows, columns), Split::Replicated, bias);
    };
    // Who has a pooler, and for what.
    let has_pooler = matches!(
        (family, task),
        (Pooled::Bert | Pooled::Albert, Task::Features | Task::Sequence(_) | Task::Pretraining)
            | (Pooled::Roberta | Pooled::Esm, Task::Features)
            | (Pooled::Deberta, Task::Sequence(_))
    );
    if has_pooler {
        dense(b, "pooler.dense", (hidden, hidden), true);
    }
    // The last matrix, to the labels, is left alone by quantisation.
    let labelled = |b: &mut Builder, name: &str, labels: u64| {
        b.shape.tied_embeddings = false;
        b.linear(name, Role::OutputHead, (labels, hidden), Split::Replicated, true);
    };
    match task {
        Task::Features => {}
        Task::Tokens(labels) => {
            if family == Pooled::Modern {
                dense(b, "head.dense", (hidden, hidden), false);
                b.norm("head.norm", hidden, false);
            }
            labelled(b, "classifier", labels);
        }
        Task::Sequence(labels) => {
            match family {
                Pooled::Roberta | Pooled::Electra | Pooled::Esm | Pooled::Distil => {
                    dense(b, "classifier.dense", (hidden, hidden), true);
                }
                Pooled::Modern => {
                    dense(b, "head.dense", (hidden, hidden), false);
                    b.norm("head.norm", hidden, false);
                }
                Pooled::Bert | Pooled::Albert | Pooled::Deberta | Pooled::Plain => {}
            }
            labelled(b, "classifier.out_proj", labels);
        }
        Task::MaskedLanguage | Task::Pretraining => {
            if family == Pooled::Electra && task == Task::Pretraining {
                // The discriminator says of each token whether it was replaced.
                dense(b, "discriminator_predictions.dense", (hidden, hidden), true);
                labelled(b, "discriminator_predictions.dense_prediction", 1);
                return;
            }
            let narrow = matches!(family, Pooled::Electra | Pooled::Albert);
            let width = if narrow { embedding } else { hidden };
            let bias = family != Pooled::Modern;
            dense(b, "predictions.dense", (width, hidden), bias);
            b.norm("predictions.LayerNorm", width, bias);
            b.vector("predictions.bias", vocabulary);
            if task == Task::Pretraining {
                dense(b, "seq_relationship", (2, hidden), true);
            }
        }
    }
}
