//! Pods that name an object, on servers whose API server cannot change them by a policy of its own: they are given the
//! node affinity, GPUs and toleration that Loadline's own pods have. Pure.
//!
//! Invariant: the same as the chart's `policy-pods.yaml` gives; what has it already is left as it is; nothing that is there
//! is taken away.

use std::sync::Arc;

use serde_json::{Value, json};

use super::wire::{Operation, Request};
use crate::api::v1alpha1::LabelExpression;
use crate::inventory::{MODEL_DEPLOYMENT_LABEL, Term};
use crate::launch::guard::{Required, implies};

/// So many terms of the pod's own are combined with what is required; more are left to whoever wrote them.
const MOST_OWN_TERMS: usize = 4;
/// Where the terms are.
const AFFINITY: &str = "/spec/affinity";
const NODE_AFFINITY: &str = "/spec/affinity/nodeAffinity";
const REQUIRED: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";

/// The object that a pod names, if it is a new pod.
#[must_use]
pub fn names(request: &Request) -> Option<&str> {
    let is_new = request.operation == Operation::Create && request.sub_resource.is_empty();
    let labels = request.object.as_ref().filter(|_| is_new)?.pointer("/metadata/labels")?;
    labels.get(MODEL_DEPLOYMENT_LABEL)?.as_str().filter(|name| !name.is_empty())
}

/// What is to be added to a pod, as a JSON patch; `None` if it has all of it.
#[must_use]
pub fn give(pod: &Value, required: &Required) -> Option<Value> {
    let mut patch = Vec::new();
    place(pod, required, &mut patch);
    request(pod, required, &mut patch);
    tolerate(pod, required, &mut patch);
    (!patch.is_empty()).then_some(Value::Array(patch))
}

fn add(path: impl Into<String>, value: &Value) -> Value {
    json!({"op": "add", "path": path.into(), "value": value})
}

fn place(pod: &Value, required: &Required, patch: &mut Vec<Value>) {
    let own = pod.pointer(REQUIRED).and_then(|required| required.get("nodeSelectorTerms"));
    let own = own.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has_names = own.iter().any(|term| term.get("matchFields").is_some());
    if is_placed(own, required) || own.len() > MOST_OWN_TERMS || has_names {
        return;
    }
    for path in [AFFINITY, NODE_AFFINITY] {
        if pod.pointer(path).is_none() {
            patch.push(add(path, &json!({})));
        }
    }
    let both = |own: &[Value], terms: &[Arc<LabelExpression>]| {
        let wanted = terms.iter().map(|expression| json!(**expression));
        json!({"matchExpressions": own.iter().cloned().chain(wanted).collect::<Vec<Value>>()})
    };
    let mine: Vec<&[Value]> = own
        .iter()
        .map(|term| term.get("matchExpressions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice))
        .collect();
    let mine = if mine.is_empty() { vec![&[][..]] } else { mine };
    let terms: Vec<Value> =
        mine.iter().flat_map(|own| required.terms.iter().map(move |terms| both(own, terms))).collect();
    patch.push(add(REQUIRED, &json!({"nodeSelectorTerms": terms})));
}

/// Whether each of the terms demands at least what is required.
fn is_placed(own: &[Value], required: &Required) -> bool {
    let sets = || std::iter::once(&required.terms).chain(&required.earlier).flatten();
    !own.is_empty()
        && own.iter().all(|term| {
            let Ok(term) = Term::from_api(term) else { return false };
            let found: Vec<LabelExpression> = term.expressions.iter().map(LabelExpression::from).collect();
            sets().any(|set| set.iter().all(|wanted| found.iter().any(|found| implies(found, wanted))))
        })
}

/// The GPUs, where there is one container and it asks for none.
fn request(pod: &Value, required: &Required, patch: &mut Vec<Value>) {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let Some([container]) = containers.map(Vec::as_slice) else { return };
    let limit = container.pointer("/resources/limits").and_then(|limits| limits.get(&required.resource));
    if limit.is_some() {
        return;
    }
    let base = "/spec/containers/0/resources";
    let resources = container.get("resources");
    if resources.is_none() {
        patch.push(add(base, &json!({})));
    }
    let count = required.gpus.to_string();
    for kind in ["limits", "requests"] {
        let there = resources.and_then(|resources| resources.get(kind)).is_some();
        patch.push(if there {
            let key = required.resource.replace('~', "~0").replace('/', "~1");
            add(format!("{base}/{kind}/{key}"), &json!(count))
        } else {
            add(format!("{base}/{kind}"), &json!({required.resource.as_str(): count}))
        });
    }
}

fn tolerate(pod: &Value, required: &Required, patch: &mut Vec<Value>) {
    let all = pod.pointer("/spec/tolerations").and_then(Value::as_array);
    let is_tolerated = |one: &Value| {
        let key = one.get("key").and_then(Value::as_str).unwrap_or_default();
        one.get("operator").is_some_and(|operator| operator == "Exists")
            && (key.is_empty() || key == required.resource)
    };
    if all.is_some_and(|all| all.iter().any(is_tolerated)) {
        return;
    }
    if all.is_none() {
        patch.push(add("/spec/tolerations", &json!([])));
    }
    patch.push(add("/spec/tolerations/-", &json!({"key": required.resource, "operator": "Exists"})));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required() -> Required {
        let expression = |key: &str, operator: &str, values: &[&str]| {
            Arc::new(LabelExpression {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            })
        };
        Required {
            resource: "nvidia.com/gpu".to_owned(),
            gpus: 2,
            per_gpu_mib: 20000,
            terms: vec![
                vec![
                    expression("nvidia.com/gpu.memory", "Gt", &["19999"]),
                    expression("nvidia.com/gpu.replicas", "DoesNotExist", &[]),
                ],
                vec![expression(
                    "cloud.google.com/gke-accelerator",
                    "In",
                    &["nvidia-l4", "nvidia-h100-80gb"],
                )],
            ],
            earlier: Vec::new(),
        }
    }

    fn pod(spec: &Value) -> Value {
        let mut pod = json!({"metadata": {"labels": {MODEL_DEPLOYMENT_LABEL: "llama"}},
            "spec": {"containers": [{"name": "server", "image": "engine"}]}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        pod
    }

    /// `add`, which is all that is used.
    fn patched(pod: &Value, patch: Option<&Value>) -> Value {
        let mut pod = pod.clone();
        for step in patch.and_then(Value::as_array).into_iter().flatten() {
            let place = step["path"].as_str().unwrap();
            let (parent, key) = place.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            let parent = pod.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
            match parent.as_array_mut() {
                Some(list) => list.push(step["value"].clone()),
                None => drop(parent.as_object_mut().unwrap().insert(key, step["value"].clone())),
            }
        }
        pod
    }

    #[test]
    fn a_bare_pod_gets_all_of_it_and_nothing_twice() {
        for bare in [
            pod(&json!({})),
            pod(
                &json!({"tolerations": [{"key": "a", "operator": "Exists"}], "affinity": {"podAffinity": {}}}),
            ),
            pod(
                &json!({"affinity": {"nodeAffinity": {}}, "containers": [{"resources": {"limits": {"cpu": "1"}}}]}),
            ),
            pod(&json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]})),
        ] {
            let given = patched(&bare, give(&bare, &required()).as_ref());
            let terms = given.pointer(REQUIRED).unwrap()["nodeSelectorTerms"].as_array().unwrap();
            assert_eq!(terms.len(), 2);
            assert_eq!(terms[0]["matchExpressions"][0]["values"], json!(["19999"]));
            let resources = &given["spec"]["containers"][0]["resources"];
            assert_eq!(resources["limits"]["nvidia.com/gpu"], "2");
            assert_eq!(resources["requests"]["nvidia.com/gpu"], "2");
            assert!(given["spec"]["tolerations"].to_string().contains("nvidia.com/gpu"));
            assert_eq!(give(&given, &required()), None, "{given}");
            // What was there is there.
            for (key, value) in bare["spec"].as_object().unwrap().iter().filter(|(key, _)| *key == "affinity")
            {
                for part in value.as_object().unwrap().keys() {
                    assert!(!given["spec"][key][part].is_null());
                }
            }
        }
    }

    #[test]
    fn each_of_the_users_terms_goes_with_each_of_ours() {
        let own = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
            {}]}}}});
        let mine = pod(&own);
        let given = patched(&mine, give(&mine, &required()).as_ref());
        let terms = given.pointer(REQUIRED).unwrap()["nodeSelectorTerms"].as_array().unwrap();
        assert_eq!(terms.len(), 6);
        assert_eq!(terms[2]["matchExpressions"][0]["values"], json!(["b"]));
        assert_eq!(terms[5]["matchExpressions"].as_array().unwrap().len(), 1);
        assert_eq!(give(&given, &required()), None);
        // Names of nodes are nothing that labels could be held against.
        let mut named = own;
        named["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            [0] = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
        let named = pod(&named);
        assert_eq!(
            patched(&named, give(&named, &required()).as_ref())["spec"]["affinity"],
            named["spec"]["affinity"]
        );
    }

    #[test]
    fn several_containers_and_what_is_asked_for_stay_as_they_are() {
        let two = pod(&json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        assert_eq!(
            patched(&two, give(&two, &required()).as_ref())["spec"]["containers"],
            two["spec"]["containers"]
        );
        let asks = pod(&json!({"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}));
        assert_eq!(
            patched(&asks, give(&asks, &required()).as_ref())["spec"]["containers"],
            asks["spec"]["containers"]
        );
    }
}
