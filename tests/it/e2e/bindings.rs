//! No pod of a ModelDeployment was ever bound to a node with less memory per GPU than it requires: by the API server's
//! own record of every binding and every status.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::text;
use crate::controlplane::harness::audit::Request;
use crate::controlplane::harness::fleet;

/// Checks the bindings among these requests, and returns how many there were to check. What nodes have is by their
/// names, whatever their labels said.
pub(crate) fn check(requests: &[Request]) -> Result<usize> {
    // What each object was said to require last, and what was bound since, whose status may come a moment later.
    let mut required: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let mut waiting: Vec<(&str, &str, &str)> = Vec::new();
    let mut checked = 0;
    for request in requests {
        match (request.resource().as_str(), request.answer()) {
            ("modeldeployments/status", 200) => {
                let object = (request.namespace(), request.name());
                let bytes = request.body().pointer("/status/estimate/requiredPerGpu").and_then(Value::as_i64);
                let Some(bytes) = bytes else { continue };
                let before = required.insert(object, bytes);
                for (namespace, pod, node) in std::mem::take(&mut waiting) {
                    if (namespace, owner(pod)) == object {
                        check_one(pod, node, before.unwrap_or(bytes).min(bytes))?;
                        checked += 1;
                    } else {
                        waiting.push((namespace, pod, node));
                    }
                }
            }
            ("pods/binding", 201) => {
                waiting.push((request.namespace(), request.name(), text(request.body(), "/target/name")));
            }
            _ => {}
        }
    }
    for (namespace, pod, node) in waiting {
        // Other pods have no requirement.
        if let Some(&bytes) = required.get(&(namespace, owner(pod))) {
            check_one(pod, node, bytes)?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// The Deployment that a pod belongs to: its name less the two hashes.
fn owner(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

fn check_one(pod: &str, node: &str, required: i64) -> Result<()> {
    let memory =
        fleet::memory_of(node).with_context(|| format!("{pod} was bound to {node}, which has no GPUs"))?;
    let memory = i64::try_from(memory << 20)?;
    ensure!(
        memory >= required,
        "{pod} requires {required} bytes per GPU; {node}, which it was bound to, has {memory}"
    );
    Ok(())
}

mod tests {
    use serde_json::json;

    use super::*;

    fn request(resource: &str, subresource: &str, name: &str, code: i64, body: &Value) -> Request {
        let request = json!({
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": "n", "name": name},
            "responseStatus": {"code": code},
            "requestObject": body,
        });
        Request::parse(&request.to_string()).unwrap()
    }

    fn status(name: &str, required: i64) -> Request {
        let body = json!({"status": {"estimate": {"requiredPerGpu": required}}});
        request("modeldeployments", "status", name, 200, &body)
    }

    fn binding(pod: &str, node: &str) -> Request {
        request("pods", "binding", pod, 201, &json!({"target": {"name": node}}))
    }

    const GIB: i64 = 1 << 30;

    #[test]
    fn a_binding_below_the_requirement_is_found() {
        #[track_caller]
        fn check(requests: &[Request], expect: std::result::Result<usize, &str>) {
            match (super::check(requests), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(found), Err(expect)) => assert!(found.to_string().contains(expect), "{found}"),
                (found, expect) => panic!("{found:?} where {expect:?} was expected"),
            }
        }
        check(&[], Ok(0));
        // A T4 has 15 GiB.
        check(&[status("a-b", 15 * GIB), binding("a-b-5c9bbc69f6-t2992", "t4")], Ok(1));
        check(&[status("a-b", 15 * GIB + 1), binding("a-b-5c9bbc69f6-t2992", "t4")], Err("t4"));
        check(&[binding("a-5c9bbc69f6-t2992", "t4"), status("a", 16 * GIB)], Err("t4"));
        check(&[binding("a-5c9bbc69f6-t2992", "t4-2"), status("a", 14 * GIB)], Ok(1));
        check(&[status("a", GIB), binding("a-5c9bbc69f6-t2992", "cpu")], Err("no GPUs"));
        // A change that has just been made to what is required is in force on either side of it.
        check(&[status("a", 16 * GIB), binding("a-1-1", "t4"), status("a", 8 * GIB)], Ok(1));
        check(&[status("a", 16 * GIB), binding("a-1-1", "t4"), status("a", 17 * GIB)], Err("t4"));
        // Pods that are nobody's here.
        check(&[status("a", 16 * GIB), binding("other-1-1", "t4")], Ok(0));
    }
}
