//! What pods that name an object must demand, whoever makes them: the same as Loadline's own. Pure.
//!
//! It is kept as data ([`ModelRequirementsSpec`]), which the API server's policies hold pods to while Loadline is away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::Launch;
use super::affinity::{self, Question};
use crate::api::v1alpha1::{LabelExpression, ModelRequirementsSpec, RequiredOfPods};
use crate::inventory::{Expression, Operator, Term};
use crate::units::Overflow;

/// The name of the object, of which each namespace has one.
pub const REQUIREMENTS: &str = "loadline";
/// So many earlier templates may have pods that still run.
const MOST_EARLIER: usize = 3;

/// Node selector terms. Those of many objects share the lists of products that they are made of.
pub type Terms = Vec<Vec<Arc<LabelExpression>>>;

/// What is required of the pods of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// The GPU resource that each pod requests.
    pub resource: String,
    /// How many of it.
    pub gpus: u64,
    /// MiB that each GPU must have.
    pub per_gpu_mib: u64,
    /// The node selector terms of which one must match. Names of nodes are left out: no label says them.
    pub terms: Terms,
    /// Those of templates whose pods still run.
    pub earlier: Vec<Terms>,
}

/// What the pods of an object are required to demand: what its own were written with, or would be. `None` where nothing can
/// be demanded of labels.
///
/// # Errors
/// A requirement that cannot be multiplied without an overflow.
pub fn required(launch: &Launch, question: Question<'_>) -> Result<Option<Required>, Overflow> {
    let (resource, requirement, terms) = match launch {
        Launch::Run(pods) => {
            let demand = &pods.demand;
            (demand.resource.as_str(), demand.requirement(), written(&pods.template))
        }
        Launch::Nothing(_) => (question.resource, question.requirement, affinity::required(question)?),
    };
    let terms: Terms = terms.iter().map(expressions).collect();
    let required = Required {
        resource: resource.to_owned(),
        gpus: requirement.gpus,
        per_gpu_mib: requirement.per_gpu.mib_ceil(),
        terms,
        earlier: Vec::new(),
    };
    Ok((!required.terms.is_empty()).then_some(required))
}

/// The terms that a pod template demands.
fn written(template: &Value) -> Vec<Term> {
    let required =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = template.pointer(required).and_then(Value::as_array);
    terms.into_iter().flatten().filter_map(|term| Term::from_api(term).ok()).collect()
}

fn expressions(term: &Term) -> Vec<Arc<LabelExpression>> {
    term.expressions.iter().map(|expression| Arc::new(expression.into())).collect()
}

impl From<&Expression> for LabelExpression {
    fn from(expression: &Expression) -> Self {
        let Expression { key, operator, values } = expression;
        Self { key: key.clone(), operator: operator.name().to_owned(), values: values.clone() }
    }
}

impl Required {
    /// This, after what was required before: while its pods may still run, theirs will do.
    #[must_use]
    pub fn after(mut self, before: Option<&Self>, is_rolled_out: bool) -> Self {
        let Some(before) = before.filter(|_| !is_rolled_out) else { return self };
        let all = std::iter::once(&before.terms).chain(&before.earlier);
        for terms in all.filter(|terms| **terms != self.terms) {
            if self.earlier.len() < MOST_EARLIER && !self.earlier.contains(terms) {
                self.earlier.push(terms.clone());
            }
        }
        self
    }
}

/// What is required of the pods of all objects of a namespace, as data.
#[must_use]
pub fn to_data(all: &BTreeMap<String, Required>) -> ModelRequirementsSpec {
    let sets = all.values().flat_map(|required| std::iter::once(&required.terms).chain(&required.earlier));
    // In order, so that the same is always written alike.
    let mut places: BTreeMap<&LabelExpression, i64> =
        sets.flatten().flatten().map(|expression| (&**expression, 0)).collect();
    for (place, at) in places.values_mut().zip(0..) {
        *place = at;
    }
    let refer = |terms: &Terms| -> Vec<Vec<i64>> {
        terms
            .iter()
            .map(|term| term.iter().filter_map(|part| places.get(&**part).copied()).collect())
            .collect()
    };
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let models = all.iter().map(|(name, required)| {
        let of_pods = RequiredOfPods {
            resource: required.resource.clone(),
            gpus: signed(required.gpus),
            per_gpu_mib: signed(required.per_gpu_mib),
            terms: refer(&required.terms),
            earlier: required.earlier.iter().map(&refer).collect(),
        };
        (name.clone(), of_pods)
    });
    ModelRequirementsSpec {
        models: models.collect(),
        expressions: places.keys().map(|expression| (*expression).clone()).collect(),
    }
}

/// The reverse of [`to_data`]. What refers to nothing is left out.
#[must_use]
pub fn from_data(data: &ModelRequirementsSpec) -> BTreeMap<String, Required> {
    let shared: Vec<Arc<LabelExpression>> = data.expressions.iter().cloned().map(Arc::new).collect();
    let at = |place: &i64| shared.get(usize::try_from(*place).ok()?).cloned();
    let terms = |places: &Vec<Vec<i64>>| -> Option<Terms> {
        places.iter().map(|term| term.iter().map(at).collect()).collect()
    };
    let read = |of_pods: &RequiredOfPods| {
        Some(Required {
            resource: of_pods.resource.clone(),
            gpus: u64::try_from(of_pods.gpus).ok()?,
            per_gpu_mib: u64::try_from(of_pods.per_gpu_mib).ok()?,
            terms: terms(&of_pods.terms)?,
            earlier: of_pods.earlier.iter().map(terms).collect::<Option<_>>()?,
        })
    };
    data.models.iter().filter_map(|(name, of_pods)| Some((name.clone(), read(of_pods)?))).collect()
}

/// Expressions of which one copy is kept for all objects.
#[derive(Debug, Default)]
pub struct Shared {
    all: BTreeSet<Arc<LabelExpression>>,
    /// How many there were when those that nobody uses were last dropped.
    swept_at: usize,
}

impl Shared {
    /// Puts the one copy in the place of each expression.
    pub fn share(&mut self, required: &mut Required) {
        for expression in
            std::iter::once(&mut required.terms).chain(&mut required.earlier).flatten().flatten()
        {
            match self.all.get(expression) {
                Some(known) => *expression = Arc::clone(known),
                None => {
                    self.all.insert(Arc::clone(expression));
                }
            }
        }
        if self.all.len() > 2 * self.swept_at.max(64) {
            self.all.retain(|expression| Arc::strong_count(expression) > 1);
            self.swept_at = self.all.len();
        }
    }
}

/// Whether what a pod demands of a label is at least what is required of it.
#[must_use]
pub fn implies(demanded: &LabelExpression, required: &LabelExpression) -> bool {
    if demanded.key != required.key || demanded.operator != required.operator {
        return false;
    }
    let number = |expression: &LabelExpression| expression.values.first()?.parse::<i64>().ok();
    let both = number(demanded).zip(number(required));
    let within = |few: &[String], many: &[String]| few.iter().all(|value| many.contains(value));
    match Operator::ALL.into_iter().find(|operator| operator.name() == required.operator) {
        Some(Operator::Gt) => both.is_some_and(|(demanded, required)| demanded >= required),
        Some(Operator::Lt) => both.is_some_and(|(demanded, required)| demanded <= required),
        Some(Operator::In) => within(&demanded.values, &required.values),
        Some(Operator::NotIn) => within(&required.values, &demanded.values),
        Some(Operator::Exists | Operator::DoesNotExist) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelExpression {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        LabelExpression { key: key.to_owned(), operator: operator.to_owned(), values }
    }

    fn required(mib: u64) -> Required {
        let memory = expression("nvidia.com/gpu.memory", "Gt", &[&(mib - 1).to_string()]);
        let unshared = expression("nvidia.com/gpu.replicas", "DoesNotExist", &[]);
        let by_name = expression("cloud.google.com/gke-accelerator", "In", &["nvidia-l4"]);
        Required {
            resource: "nvidia.com/gpu".to_owned(),
            gpus: 1,
            per_gpu_mib: mib,
            terms: vec![vec![Arc::new(memory), Arc::new(unshared)], vec![Arc::new(by_name)]],
            earlier: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_said_once() {
        let all: BTreeMap<String, Required> = (0..1000)
            .map(|at| {
                (format!("model-{at:04}"), required(20_000 + at).after(Some(&required(15_000)), at % 2 == 0))
            })
            .collect();
        let data = to_data(&all);
        assert_eq!(from_data(&data), all);
        assert_eq!(to_data(&from_data(&data)), data);
        // Of 1,000 objects with 1,000 requirements.
        assert_eq!(data.expressions.len(), 1003);
        let bytes = serde_json::to_vec(&data).unwrap().len();
        assert!(bytes < 400_000, "{bytes}");
    }

    #[test]
    fn what_many_demand_is_kept_once_and_dropped_with_the_last() {
        let mut shared = Shared::default();
        let mut all: Vec<Required> = (0..1000).map(|at| required(20_000 + at)).collect();
        let before = all.clone();
        for required in &mut all {
            shared.share(required);
        }
        assert_eq!(all, before);
        let by_name = |required: &Required| Arc::as_ptr(&required.terms[1][0]);
        assert!(all.iter().all(|required| by_name(required) == by_name(&all[0])));
        drop((all, before));
        for at in 0..1000 {
            shared.share(&mut required(90_000 + at));
        }
        assert!(shared.all.len() < 1002, "{}", shared.all.len());
    }

    #[test]
    fn a_place_that_there_is_not_makes_nothing() {
        let mut data = to_data(&BTreeMap::from([("a".to_owned(), required(9))]));
        data.expressions.pop();
        assert!(from_data(&data).is_empty());
    }

    #[test]
    fn what_was_required_before_will_do_while_it_may_still_run() {
        let (a, b, c) = (required(10), required(20), required(30));
        assert_eq!(b.clone().after(Some(&a), true), b);
        let both = b.clone().after(Some(&a), false);
        assert_eq!(both.earlier, std::slice::from_ref(&a.terms));
        let three = c.clone().after(Some(&both), false);
        assert_eq!(three.earlier, [b.terms, a.terms.clone()]);
        // Back to what it was: that is no earlier one then.
        let back = a.after(Some(&three), false);
        assert_eq!(back.earlier.len(), 2);
        assert!(!back.earlier.contains(&back.terms));
        assert_eq!(c.clone().after(Some(&three), true).earlier, Vec::<Terms>::new());
    }

    #[test]
    fn more_is_enough_and_less_is_not() {
        for (operator, demanded, required, holds) in [
            ("Gt", &["20"][..], &["10"][..], true),
            ("Gt", &["10"], &["10"], true),
            ("Gt", &["9"], &["10"], false),
            ("Gt", &["many"], &["10"], false),
            ("Lt", &["9"], &["10"], true),
            ("Lt", &["11"], &["10"], false),
            ("In", &["a"], &["a", "b"], true),
            ("In", &["a", "c"], &["a", "b"], false),
            ("NotIn", &["a", "b"], &["a"], true),
            ("NotIn", &["a"], &["a", "b"], false),
            ("Exists", &[], &[], true),
        ] {
            let (demanded, required) =
                (expression("k", operator, demanded), expression("k", operator, required));
            assert_eq!(implies(&demanded, &required), holds, "{demanded:?} {required:?}");
        }
        assert!(!implies(&expression("k", "Exists", &[]), &expression("l", "Exists", &[])));
        assert!(!implies(&expression("k", "Gt", &["5"]), &expression("k", "Lt", &["6"])));
    }
}
