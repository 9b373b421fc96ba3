//! The questions of `loadline estimate` and of the page, and the one answer to both: what a model needs, what of it fits a
//! GPU, and the same model run otherwise. It is pure: whoever asks has the model's shape.

mod compare;
mod curve;
mod fit;
mod flags;
mod gpu;
mod hints;
mod named;

use crate::api::ModelDeploymentSpec;
use crate::engine;
use crate::estimate::{Estimate, EstimateError, estimate};
use crate::model::ModelShape;
use crate::plan::{judge, workload};
use crate::refusal::Refusal;
use crate::render::json::{self, EstimateDocument};
use crate::units::Margin;

pub(crate) use compare::{Comparison, Incomparable};
pub(crate) use curve::curve;
pub(crate) use fit::{Sizing, grid};
#[cfg(test)]
pub(crate) use flags::FLAGS;
pub(crate) use flags::{command, flag};
pub(crate) use gpu::{CARDS, Gpu};
pub(crate) use named::named;

/// What is asked of a model.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The model.
    pub(crate) shape: &'a ModelShape,
    /// How it is to be run.
    pub(crate) spec: &'a ModelDeploymentSpec,
    /// The safety margin.
    pub(crate) margin: Margin,
    /// A GPU, and whether it fits.
    pub(crate) fit: Option<&'a Gpu>,
    /// What is to be seen side by side.
    pub(crate) compare: Option<Comparison>,
}

/// What came of it.
pub(crate) struct Answer {
    /// The estimate itself.
    pub(crate) estimate: Estimate,
    /// All of it, for output.
    pub(crate) document: EstimateDocument,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuestionError {
    /// The spec cannot be right.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was to differ cannot.
    #[error(transparent)]
    Incomparable(#[from] Incomparable),
}

impl From<EstimateError> for QuestionError {
    fn from(error: EstimateError) -> Self {
        Self::Refused(error.into())
    }
}

impl<'a> Question<'a> {
    /// What a model needs, and no more.
    pub(crate) const fn new(shape: &'a ModelShape, spec: &'a ModelDeploymentSpec, margin: Margin) -> Self {
        Self { shape, spec, margin, fit: None, compare: None }
    }

    /// The answer.
    pub(crate) fn answer(self) -> Result<Answer, QuestionError> {
        let Self { shape, spec, margin, .. } = self;
        let asked = workload(spec, shape)?;
        if let Some(comparison) = self.compare {
            let training = asked.training.as_ref();
            comparison.check(training.map(|of| of.method), training.map(|of| of.gpus))?;
        }
        let estimate = estimate(shape, &asked)?;
        judge(spec, &estimate, margin)?;
        let sizing = Sizing { shape, asked: &asked, estimate: &estimate, margin };
        let mut document = json::estimate(shape, &estimate, margin);
        document.cards = Some(fit::cards(&sizing));
        document.fit = self.fit.map(|gpu| fit::fit(gpu, &sizing));
        document.comparison = self.compare.map(|comparison| comparison.rows(&sizing, self.fit));
        document.notes.extend(hints::hints(&sizing));
        document.notes.extend(argument_notes(spec));
        Ok(Answer { estimate, document })
    }
}

/// What is to be said of the engine's arguments.
fn argument_notes(spec: &ModelDeploymentSpec) -> Vec<String> {
    let Some(engine) = &spec.engine else { return Vec::new() };
    let arguments = engine.args.as_deref().unwrap_or_default();
    let uncounted = engine::uncounted(engine.name, arguments);
    let mut notes = Vec::new();
    if !uncounted.is_empty() {
        notes.push(crate::render::hints::uncounted(&uncounted));
    }
    notes.extend(engine::remarks(engine.name, arguments));
    notes
}
