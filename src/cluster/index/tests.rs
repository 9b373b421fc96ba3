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
        (pod("web", Some("elsewhere"), None, "Running"), false),
        (pod("web", None, None, "Pending"), false),
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

#[test]
fn of_pods_without_devices_the_sum_is_kept_where_there_are_devices() {
    let mut index = read(&[node("a", "15360", "01"), node("b", "15360", "01")]);
    for (pod, changes, cpu) in [
        (pod("one", Some("a"), None, "Pending"), true, vec![("a", 1000, 1)]),
        (pod("one", Some("a"), None, "Running"), false, vec![("a", 1000, 1)]),
        (pod("two", Some("a"), None, "Running"), true, vec![("a", 2000, 2)]),
        (pod("waits", None, None, "Pending"), false, vec![("a", 2000, 2)]),
        (pod("three", Some("b"), None, "Running"), true, vec![("a", 2000, 2), ("b", 1000, 1)]),
        (pod("two", Some("a"), None, "Succeeded"), true, vec![("a", 1000, 1), ("b", 1000, 1)]),
    ] {
        let what = format!("{:?} {:?}", pod.metadata.name, pod.status.as_ref().map(|status| &status.phase));
        assert_eq!(index.pod(Event::Apply(pod)), changes, "{what}");
        let snapshot = index.snapshot().unwrap();
        assert!(snapshot.pods.is_empty());
        let sums: Vec<_> =
            snapshot.others.iter().map(|(node, sum)| (node.as_str(), sum.0[0], sum.0[3])).collect();
        assert_eq!(sums, cpu, "{what}");
    }
}

#[test]
fn a_pod_without_devices_costs_no_more_than_its_numbers() {
    // 5,000 nodes with 30 pods each, in a table that is half empty, stay below 20 MiB.
    assert!(size_of::<(u64, Kept)>() * 5_000 * 30 * 2 < 20 << 20);
}
