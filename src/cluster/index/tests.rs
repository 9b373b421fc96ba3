use serde_json::json;

use super::*;

fn node(name: &str, memory: &str, heartbeat: &str) -> core::Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.memory": memory}, "resourceVersion": heartbeat},
        "status": {"allocatable": {"nvidia.com/gpu": "4"}, "conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": format!("2026-01-01T00:00:{heartbeat}Z")},
        ]},
    }))
    .unwrap()
}

fn pod(name: &str, node: Option<&str>, gpus: Option<&str>, phase: &str) -> core::Pod {
    let requests = gpus.map_or(json!({"cpu": "1"}), |gpus| json!({"nvidia.com/gpu": gpus}));
    serde_json::from_value(json!({
        "metadata": {"namespace": "team-a", "name": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": requests}}]},
        "status": {"phase": phase},
    }))
    .unwrap()
}

/// An index that has read these nodes and no pods.
fn read(nodes: &[core::Node]) -> Index {
    let mut index = Index::default();
    index.node(Event::Init);
    for node in nodes {
        index.node(Event::InitApply(node.clone()));
    }
    index.node(Event::InitDone);
    index.pod(Event::Init);
    index.pod(Event::InitDone);
    index
}

fn names(index: &Index) -> Vec<String> {
    index.snapshot().unwrap().nodes.into_keys().collect()
}

#[test]
fn nothing_is_known_before_both_lists_have_been_read() {
    let mut index = Index::default();
    assert_eq!(index.snapshot(), None);
    index.node(Event::Init);
    index.node(Event::InitApply(node("a", "15360", "01")));
    assert!(index.node(Event::InitDone));
    assert_eq!(index.snapshot(), None, "the pods may hold every GPU");
    index.pod(Event::Init);
    assert_eq!(index.snapshot(), None);
    assert!(index.pod(Event::InitDone), "an empty list is news too");
    assert_eq!(names(&index), ["a"]);
}

#[test]
fn a_list_that_is_read_again_is_never_seen_empty_or_half() {
    let mut index = read(&[node("a", "15360", "01"), node("b", "15360", "01")]);
    assert!(!index.node(Event::Init));
    assert_eq!(names(&index), ["a", "b"]);
    assert!(!index.node(Event::InitApply(node("b", "15360", "02"))));
    assert_eq!(names(&index), ["a", "b"]);
    assert!(index.node(Event::InitDone), "a is gone");
    assert_eq!(names(&index), ["b"]);
}

#[test]
fn a_list_that_breaks_off_is_begun_anew() {
    let mut index = read(&[node("a", "15360", "01")]);
    index.node(Event::Init);
    index.node(Event::InitApply(node("ghost", "15360", "01")));
    index.node(Event::Init);
    index.node(Event::InitApply(node("a", "15360", "02")));
    assert!(!index.node(Event::InitDone), "nothing has changed");
    assert_eq!(names(&index), ["a"]);
}

#[test]
fn a_heartbeat_changes_nothing() {
    let mut index = read(&[node("a", "15360", "01")]);
    assert!(!index.node(Event::Apply(node("a", "15360", "02"))));
    assert!(index.node(Event::Apply(node("a", "23034", "03"))));
    assert!(index.node(Event::Delete(node("a", "23034", "04"))));
    assert!(!index.node(Event::Delete(node("a", "23034", "04"))));
}

#[test]
fn only_pods_that_hold_gpus_or_wait_for_them_count() {
    let mut index = read(&[node("a", "15360", "01")]);
    for (pod, changes) in vec![
        (pod("web", Some("a"), None, "Running"), false),
        (pod("waits", None, Some("1"), "Pending"), true),
        (pod("waits", None, Some("1"), "Pending"), false),
        (pod("waits", Some("a"), Some("1"), "Pending"), true),
        (pod("waits", Some("a"), Some("1"), "Succeeded"), true),
        (pod("done", Some("a"), Some("1"), "Succeeded"), false),
        (pod("runs", Some("a"), Some("1"), "Pending"), true),
        (pod("runs", Some("a"), Some("1"), "Running"), false),
        (pod("runs", Some("a"), Some("1"), "Failed"), true),
    ] {
        let name = format!("{:?} {:?}", pod.metadata.name, pod.status);
        assert_eq!(index.pod(Event::Apply(pod)), changes, "{name}");
    }
    assert!(index.snapshot().unwrap().pods.is_empty());
}
