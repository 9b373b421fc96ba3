use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use std::sync::Arc;

use super::*;
use crate::controller::resolve::{Present, resolve};
use crate::controller::testing::{Answer, Recorded, object, refusal, shape};
use crate::inventory::Inventory;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team-a/deployments/llama";
const APPLY: &str =
    "PATCH /apis/apps/v1/namespaces/team-a/deployments/llama?&force=true&fieldManager=loadline-controller";
const STATUS: &str = "PATCH /apis/loadline.dev/v1alpha1/namespaces/team-a/modeldeployments/llama/status?&force=true&fieldManager=loadline-controller";

fn llama() -> ModelDeployment {
    object(
        &json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "pause:1"}, "replicas": 2}),
    )
}

/// What is desired of the Deployment, and the Deployment.
fn wanted() -> (Desired, Value) {
    let resolved = resolve(&llama(), &Arc::new(shape()), &Inventory::default(), Present::default(), |_| None);
    let Desired::Deployment(wanted) = &resolved.desired else { panic!("{:?}", resolved.found) };
    (resolved.desired.clone(), Value::clone(wanted))
}

/// The Deployment as the server has it: with what was applied, its own defaults and a status.
fn live(ready: i32, owner: &str) -> Deployment {
    let (_, mut live) = wanted();
    live["metadata"]["uid"] = json!("1b");
    live["metadata"]["generation"] = json!(1);
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("1");
    live["metadata"]["ownerReferences"][0]["uid"] = json!(owner);
    live["spec"]["revisionHistoryLimit"] = json!(10);
    live["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    live["status"] =
        json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready});
    serde_json::from_value(live).unwrap()
}

/// What becomes of the workload, and the calls that were made.
async fn applied(
    desired: &Desired,
    seen: Option<&Deployment>,
    answer: impl Fn(&str, &Value) -> Answer + Clone + Send + Sync + 'static,
) -> (Result<Rollout, Error>, Recorded) {
    let server = Recorded::default();
    let client = server.client(answer);
    let (metrics, memory) = (Metrics::default(), Records::default());
    let writer = Writer { client: &client, metrics: &metrics, memory: &memory };
    let result = workload(writer, &llama(), desired, seen).await;
    (result, server)
}

fn not_found(_: &str, _: &Value) -> Answer {
    refusal(404, "NotFound", "not found")
}

#[tokio::test]
async fn what_is_not_there_is_applied() {
    let (result, server) = applied(&wanted().0, None, |call: &str, body: &Value| {
        if call.starts_with("GET") { refusal(404, "NotFound", "not found") } else { (201, body.clone()) }
    })
    .await;
    assert_eq!(result.unwrap(), Rollout::Written(Child::default()));
    assert_eq!(server.calls(), [format!("GET {DEPLOYMENT}"), APPLY.to_owned()]);
    assert_eq!(server.requests()[1].1, wanted().1);
}

#[tokio::test]
async fn what_is_as_wanted_is_not_written() {
    let (result, server) = applied(&wanted().0, Some(&live(2, "0a")), not_found).await;
    let Rollout::Written(child) = result.unwrap() else { panic!("written") };
    assert_eq!((child.is_current, child.ready), (true, 2));
    assert!(server.calls().is_empty(), "{:?}", server.calls());
}

#[tokio::test]
async fn what_has_drifted_is_applied_once_more() {
    let mut drifted = live(2, "0a");
    drifted.spec.as_mut().unwrap().replicas = Some(7);
    let (result, server) =
        applied(&wanted().0, Some(&drifted), |_: &str, body: &Value| (200, body.clone())).await;
    assert!(matches!(result.unwrap(), Rollout::Written(_)));
    assert_eq!(server.calls(), [APPLY]);
}

#[tokio::test]
async fn what_belongs_to_another_is_left_alone() {
    // Of an object of the same name that is gone, or of another altogether.
    for (kind, expected) in [("ModelDeployment", Rollout::Predecessor), ("Application", Rollout::NameTaken)] {
        let mut live = live(2, "another");
        live.metadata.owner_references.as_mut().unwrap()[0].kind = kind.to_owned();
        // Seen by the watch, or only when it is asked for by name.
        let (result, server) = applied(&wanted().0, Some(&live), not_found).await;
        assert_eq!((result.unwrap(), server.calls().len()), (expected.clone(), 0));
        let live = serde_json::to_value(live).unwrap();
        let (result, server) =
            applied(&wanted().0, None, move |_: &str, _: &Value| (200, live.clone())).await;
        assert_eq!((result.unwrap(), server.calls()), (expected, vec![format!("GET {DEPLOYMENT}")]));
    }
}

#[tokio::test]
async fn what_the_server_refuses_or_denies_is_told_and_an_outage_is_tried_again() {
    for (code, reason, message, expected) in [
        (422, "Invalid", "spec.template.spec.containers[0].image: Required value", "rejected"),
        (400, "BadRequest", "json: cannot unmarshal", "rejected"),
        (500, "InternalError", ".spec.template.spec.x: field not declared in schema", "rejected"),
        (403, "Forbidden", "exceeded quota", "denied"),
        (403, "Forbidden", "User \"system:serviceaccount:a:b\" cannot patch resource", "denied"),
        (400, "BadRequest", "admission webhook \"policy\" denied the request: no owner label", "denied"),
        (422, "Invalid", "ValidatingAdmissionPolicy 'owners' denied request: no owner label", "denied"),
        (500, "InternalError", "failed calling webhook", "denied"),
        (409, "Conflict", "the object has been modified", "error"),
        (500, "InternalError", "etcd", "error"),
        (429, "TooManyRequests", "slow down", "error"),
    ] {
        let (result, _) = applied(&wanted().0, None, move |call: &str, _: &Value| {
            if call.starts_with("GET") {
                refusal(404, "NotFound", "")
            } else {
                refusal(code, reason, message)
            }
        })
        .await;
        let found = match result {
            Ok(Rollout::Rejected { why, child: None }) => ("rejected", why),
            Ok(Rollout::Denied { why, child: None }) => ("denied", why),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(
                    (error.category(), error.to_string()),
                    ("Deployment", format!("Deployment: {message}"))
                );
                ("error", message.to_owned())
            }
        };
        assert_eq!(found, (expected, message.to_owned()), "{code}");
    }
}

#[tokio::test]
async fn without_a_plan_nothing_is_touched() {
    let (result, server) = applied(&Desired::AsItIs, Some(&live(1, "0a")), not_found).await;
    assert_eq!(result.unwrap(), Rollout::AsItIs(Some(Child::of(&live(1, "0a")))));
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn what_is_no_longer_to_run_is_removed() {
    for code in [200, 404, 409] {
        let (result, server) = applied(&Desired::None, Some(&live(1, "0a")), move |_: &str, _: &Value| {
            if code == 200 {
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            } else {
                refusal(code, if code == 404 { "NotFound" } else { "Conflict" }, "")
            }
        })
        .await;
        assert_eq!(result.unwrap(), Rollout::None, "{code}");
        assert_eq!(server.calls(), [format!("DELETE {DEPLOYMENT}")]);
        assert_eq!(server.requests()[0].1["preconditions"]["uid"], "1b");
    }
    let (result, server) = applied(&Desired::None, Some(&live(1, "another")), not_found).await;
    assert_eq!((result.unwrap(), server.calls().len()), (Rollout::None, 0));
}

#[tokio::test]
async fn a_status_is_written_to_the_object_that_it_is_of() {
    let next = ModelDeploymentStatus { observed_generation: Some(3), ..ModelDeploymentStatus::default() };
    for (answer, expected) in [
        (
            (
                200,
                json!({"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"resourceVersion": "11"}}),
            ),
            Ok(Some("11".to_owned())),
        ),
        (refusal(404, "NotFound", ""), Ok(None)),
        (refusal(409, "Conflict", "Precondition failed: UID in precondition"), Ok(None)),
        (refusal(409, "Conflict", "the object has been modified; apply your changes again"), Err("status")),
        (refusal(500, "InternalError", "etcd"), Err("status")),
    ] {
        let server = Recorded::default();
        let client = server.client(move |_: &str, _: &Value| answer.clone());
        let written = status(&client, "team-a", "llama", Some("0a"), &next).await;
        assert_eq!(written.map_err(|error| error.category()), expected);
        assert_eq!(server.calls(), [STATUS]);
        let body = &server.requests()[0].1;
        assert_eq!(
            (&body["metadata"]["uid"], &body["status"]["observedGeneration"]),
            (&json!("0a"), &json!(3))
        );
    }
}

#[test]
fn a_condition_of_another_is_not_applied() {
    let condition = |kind: &str| Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: "Audited".to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
    };
    let conditions = vec![condition("Ready"), condition("example.com/Audited")];
    let status = ModelDeploymentStatus { conditions, ..ModelDeploymentStatus::default() };
    let patch = status_patch("team-a", "llama", Some("0a"), &status).unwrap();
    let kinds: Vec<&Value> =
        patch["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["Ready"]);
}

#[tokio::test]
async fn what_the_server_refuses_is_not_offered_again_until_it_is_another() {
    let server = Recorded::default();
    let client = server.client(|call: &str, _: &Value| {
        if call.starts_with("GET") {
            refusal(404, "NotFound", "")
        } else {
            let faults = "failed to create typed patch object: errors:\n  .spec.b: field not declared in schema\n  .spec.a: field not declared in schema";
            refusal(500, "InternalError", faults)
        }
    });
    let (metrics, memory) = (Metrics::default(), Records::default());
    let writer = Writer { client: &client, metrics: &metrics, memory: &memory };
    let told = Rollout::Rejected {
        why: "failed to create typed patch object: errors: .spec.a: field not declared in schema .spec.b: field not declared in schema".to_owned(),
        child: None,
    };
    for _ in 0..3 {
        assert_eq!(workload(writer, &llama(), &wanted().0, None).await.unwrap(), told);
    }
    assert_eq!(server.calls(), [format!("GET {DEPLOYMENT}"), APPLY.to_owned()]);
    let (_, mut other) = wanted();
    other["metadata"]["annotations"][deployment::APPLIED_ANNOTATION] = json!("another");
    workload(writer, &llama(), &Desired::Deployment(Box::new(other)), None).await.unwrap();
    assert_eq!(server.calls().len(), 4);
}

#[tokio::test]
async fn a_value_that_the_server_writes_in_another_way_is_applied_once() {
    let (_, mut wanted) = wanted();
    wanted["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1000m");
    let mut seen = live(2, "0a");
    let answer = serde_json::to_value(&seen).unwrap();
    let server = Recorded::default();
    let client = server.client(move |_: &str, _: &Value| (200, answer.clone()));
    let (metrics, memory) = (Metrics::default(), Records::default());
    let writer = Writer { client: &client, metrics: &metrics, memory: &memory };
    let built = Desired::Deployment(Box::new(wanted));
    for _ in 0..3 {
        workload(writer, &llama(), &built, Some(&seen)).await.unwrap();
    }
    assert_eq!(server.calls(), [APPLY]);
    // Another's change of the spec, and another's change of a label.
    seen.metadata.generation = Some(2);
    workload(writer, &llama(), &built, Some(&seen)).await.unwrap();
    assert_eq!(server.calls().len(), 2);
    seen.metadata.generation = Some(1);
    seen.metadata.labels = None;
    workload(writer, &llama(), &built, Some(&seen)).await.unwrap();
    assert_eq!(server.calls().len(), 3);
}
