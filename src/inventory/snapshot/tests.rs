use std::fmt::Write;

use proptest::prelude::{ProptestConfig, prop_assert, proptest};
use serde_json::json;

use super::*;

const NODE: &str = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"a","labels":{"nvidia.com/gpu.memory":"15360"}},
    "status":{"allocatable":{"nvidia.com/gpu":"4","cpu":"8"}}}"#;
const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"x"},"spec":{"nodeName":"a",
    "containers":[{"name":"c","resources":{"requests":{"nvidia.com/gpu":"1"}}}]},"status":{"phase":"Running"}}"#;

fn list(items: &[&str]) -> String {
    format!(
        r#"{{"apiVersion":"v1","items":[{}],"kind":"List","metadata":{{"resourceVersion":""}}}}"#,
        items.join(",")
    )
}

#[test]
fn every_form_of_a_snapshot_is_read() {
    let slice = r#"{"kind":"ResourceSlice","metadata":{"name":"s"},"spec":{"taints":"not a list","devices":[{"x":1}]}}"#;
    let nameless_items = r#"{"items":[{"metadata":{"name":"a"}}],"kind":"NodeList"}"#;
    let yaml =
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: a\nstatus:\n  allocatable:\n    nvidia.com/gpu: 4\n";
    let yaml_pod = "kind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: a\n  containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]\n";
    for (what, text, nodes, pods) in [
        ("List", list(&[NODE, POD]), 1, 1),
        ("List with other kinds", list(&[NODE, slice, r#"{"kind":"ConfigMap"}"#, POD]), 1, 1),
        ("empty List", list(&[]), 0, 0),
        ("items null", r#"{"kind":"List","items":null}"#.to_owned(), 0, 0),
        ("Node", NODE.to_owned(), 1, 0),
        ("Pod", POD.to_owned(), 0, 1),
        ("NodeList whose items have no kind", nameless_items.to_owned(), 1, 0),
        ("PodList", list(&[POD]).replace("\"List\"", "\"PodList\""), 0, 1),
        ("two JSON documents", format!("{NODE}\n{POD}"), 1, 1),
        ("byte order mark", format!("\u{feff}{NODE}"), 1, 0),
        ("YAML", yaml.to_owned(), 1, 0),
        ("YAML documents", format!("---\n{yaml}---\n{yaml_pod}---\n# nothing\n---\nkind: NodePool\n"), 1, 1),
        ("YAML with an alias", format!("{yaml}  capacity: &c {{nvidia.com/gpu: 4}}\n  x: *c\n"), 1, 0),
    ] {
        let snapshot = Snapshot::from_text(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((snapshot.nodes.len(), snapshot.pods.len()), (nodes, pods), "{what}");
        if nodes == 1 && what != "NodeList whose items have no kind" {
            assert_eq!(snapshot.nodes["a"].allocatable.get("nvidia.com/gpu"), Some(&4), "{what}");
        }
    }
}

#[test]
fn the_later_of_two_with_one_name_counts() {
    let later = NODE.replace("15360", "23034");
    let snapshot = Snapshot::from_text(&list(&[NODE, &later, POD, POD])).unwrap();
    assert_eq!((snapshot.nodes.len(), snapshot.pods.len()), (1, 1));
    assert_eq!(snapshot.nodes["a"].labels["nvidia.com/gpu.memory"], "23034");
}

#[test]
fn what_is_not_a_snapshot_says_what_it_is_and_what_would_be_right() {
    for (text, expected) in [
        ("", "expected a v1 List"),
        ("   \n", "expected a v1 List"),
        ("# a comment", "expected a v1 List"),
        ("---\n---\n", "expected a v1 List"),
        ("kind: DeviceClass", "expected a v1 List"),
        ("kind: ResourceSliceList", "expected a v1 List"),
        ("kind: ResourceSlice", "ResourceSlice of document 1: metadata.name: is missing"),
        (
            "kind: ResourceSlice\nmetadata: {name: a}\nspec: {driver: gpu.nvidia.com, pool: 7}",
            "ResourceSlice \"a\": spec.pool",
        ),
        ("{}", "document 1 has no kind; expected a v1 List"),
        ("name: a", "document 1 has no kind; expected a v1 List"),
        ("kind: Deployment", "document 1 holds Deployment; expected a v1 List"),
        (
            r#"{"kind":"List","items":[{"kind":"Deployment"}]}"#,
            "document 1 holds a List of Deployment; expected",
        ),
        (r#"{"kind":"List","items":[{"metadata":{"name":"a"}}]}"#, "items[0].kind: is missing"),
        (r#"{"kind":"List","items":5}"#, "expected a list of Kubernetes objects"),
        (r#"{"kind":"List","items":["#, "document 1: EOF"),
        ("[1, 2]", "expected a Kubernetes object"),
        ("just text", "expected a Kubernetes object"),
        ("a: b: c", "document 1: "),
        ("kind: Node\n---\nkind: [", "Node of document 1: metadata.name: is missing"),
        (r#"{"kind":"Node","metadata":{"name":""}}"#, "metadata.name: is missing"),
        (
            r#"{"kind":"Node","metadata":{"name":"a","labels":{"nvidia.com/gpu.memory":15360}}}"#,
            "put it in quotes",
        ),
        (
            r#"{"kind":"Node","metadata":{"name":"a","labels":{"nvidia.com/gpu.memory":15360}}}"#,
            "Node \"a\": metadata.labels",
        ),
        (r#"{"kind":"Node","metadata":{"name":"a"},"spec":{"taints":7}}"#, "spec.taints"),
        (r#"{"kind":"Pod","metadata":{"name":"p"},"spec":"x"}"#, "Pod \"p\": spec"),
        ("kind: !tag x", "document 1"),
        ("kind: *nowhere", "document 1"),
    ] {
        let error = Snapshot::from_text(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn a_field_that_is_not_used_makes_nothing_unreadable() {
    let odd = json!({
        "kind": "Node", "apiVersion": 7,
        "metadata": {"name": "a", "creationTimestamp": "not a time", "managedFields": "x", "annotations": {"a": 1}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule", "timeAdded": 5}], "podCIDR": []},
        "status": {"images": 3, "conditions": [{"type": "Ready", "status": "False", "lastHeartbeatTime": true}]},
    });
    let snapshot = Snapshot::from_text(&odd.to_string()).unwrap();
    assert!(!snapshot.nodes["a"].ready);
    assert_eq!(snapshot.nodes["a"].taints.len(), 1);
}

#[test]
fn hostile_documents_end_in_an_error() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let mut laughs = "kind: List\na0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let uses = vec![format!("*a{}", level - 1); 8].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{uses}]").unwrap();
    }
    // One long list and many aliases to it: few jumps, and still quadratic.
    let long = format!("kind: List\nx: &x [{}]\ny: [{}]\n", "1,".repeat(20_000), "*x,".repeat(20_000));
    for (what, text) in [
        ("deep JSON", deep(r#"{"items":["#, "]}")),
        ("deep YAML", format!("kind: {}", deep("[", "]"))),
        ("billion laughs", laughs),
        ("quadratic aliases", long),
    ] {
        assert!(matches!(Snapshot::from_text(&text), Err(SnapshotError::Syntax { .. })), "{what}");
    }
    let huge = " ".repeat(MAX_SNAPSHOT_BYTES + 1);
    assert_eq!(Snapshot::from_text(&huge), Err(SnapshotError::TooLarge { bytes: MAX_SNAPSHOT_BYTES + 1 }));
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_text_makes_it_panic(head in "(kind: (Node|Pod|List)\n)?", text in "[\\-:{}\\[\\],&*!|>'\"#a-z0-9 \n\t]{0,60}") {
        if let Err(error) = Snapshot::from_text(&format!("{head}{text}")) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }

    #[test]
    fn no_damage_to_a_snapshot_makes_it_panic(at in 0_usize..600, byte in 0_u8..128, cut in 0_usize..700) {
        let mut bytes = list(&[NODE, POD]).into_bytes();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut);
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = Snapshot::from_text(&text) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}
