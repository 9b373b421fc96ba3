//! Ready is True only where replicas run: by the API server's own record of every status and every Deployment.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::cluster::{condition_of, text};
use crate::controlplane::harness::audit::Request;

/// A Deployment, as the requests so far have left it.
#[derive(Debug, Default)]
struct Live {
    generation: i64,
    replicas: i64,
    observed: i64,
    pods: i64,
    updated: i64,
    ready: i64,
}

/// Checks that at every status that says Available, the Deployment had been observed as it then was, and all replicas that it
/// asked for were of its newest template and ready. Returns how many such statuses there were.
pub(crate) fn check(requests: &[Request]) -> Result<usize> {
    let mut deployments: BTreeMap<(&str, &str), Live> = BTreeMap::new();
    let mut checked = 0;
    for request in requests {
        let object = (request.namespace(), request.name());
        match (request.resource().as_str(), request.answer()) {
            ("deployments", 200 | 201) => {
                let answered = request.answered();
                let live = deployments.entry(object).or_default();
                live.generation = number(answered, "/metadata/generation");
                live.replicas = number(answered, "/spec/replicas");
            }
            ("deployments/status", 200) => {
                let answered = request.answered();
                let live = deployments.entry(object).or_default();
                live.generation = live.generation.max(number(answered, "/metadata/generation"));
                live.observed = number(answered, "/status/observedGeneration");
                live.pods = number(answered, "/status/replicas");
                live.updated = number(answered, "/status/updatedReplicas");
                live.ready = number(answered, "/status/readyReplicas");
            }
            ("modeldeployments/status", 200) => {
                let Some(ready) = condition_of(request.body(), "Ready") else { continue };
                if ready["status"] != "True" || text(ready, "/reason") != "Available" {
                    continue;
                }
                let live = deployments.entry(object).or_default();
                ensure!(
                    live.observed >= live.generation
                        && live.updated >= live.replicas
                        && live.ready >= live.replicas
                        && live.pods <= live.updated
                        && live.replicas > 0,
                    "{object:?} was said to be Available while its Deployment was {live:?}"
                );
                checked += 1;
            }
            _ => {}
        }
    }
    Ok(checked)
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

mod tests {
    use serde_json::json;

    use super::*;

    fn request(resource: &str, subresource: &str, body: &Value) -> Request {
        let request = json!({
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": "n", "name": "a"},
            "responseStatus": {"code": 200},
            "requestObject": body,
            "responseObject": body,
        });
        Request::parse(&request.to_string()).unwrap()
    }

    fn written(generation: i64, replicas: i64) -> Request {
        request(
            "deployments",
            "",
            &json!({"metadata": {"generation": generation}, "spec": {"replicas": replicas}}),
        )
    }

    fn seen(generation: i64, [pods, updated, ready]: [i64; 3]) -> Request {
        let status = json!({
            "observedGeneration": generation, "replicas": pods, "updatedReplicas": updated, "readyReplicas": ready,
        });
        request("deployments", "status", &json!({"metadata": {"generation": generation}, "status": status}))
    }

    fn says(status: &str, reason: &str) -> Request {
        let ready = json!({"type": "Ready", "status": status, "reason": reason});
        request("modeldeployments", "status", &json!({"status": {"conditions": [ready]}}))
    }

    #[test]
    fn a_status_that_lies_is_found() {
        let available = || says("True", "Available");
        for (case, requests, expected) in [
            ("nothing runs", vec![available()], None),
            ("it runs", vec![written(1, 2), seen(1, [2, 2, 2]), available()], Some(1)),
            ("one starts", vec![written(1, 2), seen(1, [2, 2, 1]), available()], None),
            ("not looked at", vec![written(1, 1), seen(1, [1, 1, 1]), written(2, 1), available()], None),
            ("an old one is left", vec![written(1, 1), seen(1, [2, 1, 2]), available()], None),
            ("it says so", vec![written(1, 1), says("False", "Progressing")], Some(0)),
            ("an estimate", vec![says("True", "EstimateOnly")], Some(0)),
        ] {
            assert_eq!(check(&requests).ok(), expected, "{case}");
        }
    }
}
