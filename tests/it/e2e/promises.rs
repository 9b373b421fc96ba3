//! No two objects are told that they fit on the same GPU.

use serde_json::{Value, json};

use super::scenario::{Scenario, eventually, message, model_deployment, scenario, scenario_with};
use crate::cluster::{condition_of, items};
use crate::controlplane::harness::fleet::{self, L4};

/// Nodes for the crowd, of eight GPUs each, and what is left for it of them.
const NODES: u64 = 19;
const TAKEN: u64 = 2;
const CROWD: usize = 200;
const LEAVE: usize = 30;

fn spec() -> Value {
    json!({
        "model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192},
        "engine": {"name": "vllm"},
        "placement": {"nodeSelector": {"nvidia.com/gpu.product": L4.product}},
    })
}

/// Its pods are bound by nobody: they stay to come.
fn unbound(replicas: u64) -> Value {
    let mut spec = spec();
    spec["replicas"] = json!(replicas);
    spec["template"] = json!({"spec": {"schedulerName": "nobody", "containers": [{"name": "model"}]}});
    spec
}

fn placeable(object: &Value) -> (String, String) {
    let of = |field: &str| {
        condition_of(object, "Placeable").and_then(|found| found[field].as_str()).unwrap_or("").to_owned()
    };
    (of("status"), of("reason"))
}

#[test]
fn what_one_object_is_promised_no_other_is_told_to_fit_on() {
    // Whoever runs a scheduler beside the cluster's own says so: "nobody" binds nothing.
    scenario_with("promised", &["--label-grace=0s", "--allowed-schedulers=nobody"], |s| {
        let says = |name: &str, reason: &str| s.wait(name, reason, |object| placeable(object).1 == reason);
        s.apply("first", &unbound(3));
        says("first", "FitsNow");
        s.apply("second", &unbound(2));
        let second = says("second", "FitsNow");
        assert!(message(&second).contains("1 of 2 replicas find room"), "{}", message(&second));
        s.apply("third", &unbound(1));
        let third = says("third", "PromisedToAnother");
        assert!(message(&third).contains("or promised to ModelDeployment first"), "{}", message(&third));
        assert!(
            message(&third).contains("0 of 4 GPUs free on 1 node (4 more promised)"),
            "{}",
            message(&third)
        );
        s.run(["delete", "mdep", "first", "--timeout=30s"]);
        says("third", "FitsNow");
        s.wait("second", "room for all", |object| !message(object).contains("find room"));
    });
}

fn counts(s: &Scenario) -> anyhow::Result<(usize, usize, usize)> {
    let list = s.kubectl(["get", "mdep", "-o", "json"])?.json()?;
    let (mut available, mut waiting, mut claims) = (0, 0, 0);
    for object in items(&list) {
        let (placeable, reason) = placeable(object);
        claims += usize::from(placeable == "True");
        let ready = condition_of(object, "Ready").map_or("", |ready| ready["reason"].as_str().unwrap_or(""));
        available += usize::from(ready == "Available");
        waiting += usize::from(["GpusBusy", "PromisedToAnother"].contains(&reason.as_str()));
    }
    Ok((available, waiting, claims))
}

#[test]
fn two_hundred_objects_share_a_hundred_and_fifty_gpus() {
    scenario("crowd", |s| {
        s.run(["cordon", "l4"]);
        let kind = fleet::Kind { gpus: 8, ..L4 };
        let nodes = (0..NODES).map(|at| kind.node_named(&format!("l4-crowd-{at}")));
        s.cluster.create(&fleet::list(nodes)).unwrap();
        s.apply("zero", &{
            let mut spec = spec();
            spec["replicas"] = json!(TAKEN);
            spec
        });
        s.wait_ready("zero", "True", "Available");
        let names: Vec<String> = (0..CROWD).map(|at| format!("m{at:03}")).collect();
        let crowd = names.iter().map(|name| model_deployment(name, &spec()));
        s.try_apply(&fleet::list(crowd)).unwrap().output().unwrap();
        let free = usize::try_from(NODES * 8 - TAKEN).unwrap();
        eventually("all GPUs to be used, and the rest to say why", || {
            Ok((counts(s)? == (free + 1, CROWD - free, free + 1)).then_some(()))
        });
        // Nobody starves: what goes makes room for as many.
        let ready = s.run(["get", "pods", "-o", "jsonpath={range .items[?(@.spec.nodeName)]}{.metadata.labels.loadline\\.dev/model-deployment}{\"\\n\"}{end}"]);
        let gone: Vec<&str> = ready.lines().filter(|name| *name != "zero").take(LEAVE).collect();
        assert_eq!(gone.len(), LEAVE);
        let delete = ["delete", "mdep", "--timeout=60s"].into_iter().chain(gone.iter().copied());
        s.run(delete);
        eventually("those that waited to take what was freed", || {
            Ok((counts(s)? == (free + 1, CROWD - free - LEAVE, free + 1)).then_some(()))
        });
    });
}
