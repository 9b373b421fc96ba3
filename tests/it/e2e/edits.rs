//! A running object that is edited again and again, each edit followed to its end: the pods of the old spec serve until
//! those of the new do, or the status says why not; and Ready never lies.

use std::collections::BTreeMap;
use std::time::Instant;

use loadline::api::ModelDeploymentSpec;
use loadline::launch::record;
use serde_json::{Value, json};

use super::numbers::Numbers;
use super::scenario::{Scenario, current, eventually, message, scenario};
use crate::cluster::{condition_of, items, text};
use crate::controlplane::harness::fleet::L4;

/// What is tried where nothing else is asked for; `make nightly` tries 200.
const EDITS: usize = 24;
/// Reasons of what is under way: it has not ended.
const UNDER_WAY: [&str; 3] = ["Progressing", "Replacing", "EstimatePending"];
/// Looks in a row that must agree before something is called an end.
const LOOKS: usize = 4;

/// The values that a field of the spec may get, null for its default.
fn fields() -> Vec<(&'static str, Vec<Value>)> {
    let requesting = |cpu: &str| json!({"spec": {"containers": [{"name": "model", "resources": {"requests": {"cpu": cpu}}}]}});
    let own = "registry.example/engine:1";
    vec![
        (
            "precision",
            vec![
                json!(null),
                json!("bf16"),
                json!("fp16"),
                json!("fp8"),
                json!("int8"),
                json!("awq-int4"),
                json!("nf4"),
            ],
        ),
        (
            "context",
            vec![
                json!({"length": 2048}),
                json!({"length": 4096}),
                json!({"length": 8192}),
                json!({"length": 65536}),
            ],
        ),
        (
            "engine",
            vec![
                json!({"name": "vllm"}),
                json!({"name": "sglang"}),
                json!({"name": "vllm", "image": own}),
                json!({"name": "vllm", "image": "registry.example/engine:2"}),
                json!({"name": "transformers"}),
            ],
        ),
        (
            "parallelism",
            vec![
                json!(null),
                json!({"tensor": 1}),
                json!({"tensor": 2}),
                json!({"tensor": 4}),
                json!({"tensor": 3}),
            ],
        ),
        ("replicas", vec![json!(1), json!(2), json!(3), json!(4), json!(0)]),
        ("template", vec![json!(null), requesting("1"), requesting("2"), requesting("100")]),
        ("safetyMargin", vec![json!(null), json!("1.1"), json!("1.3"), json!("2.0")]),
    ]
}

/// What one look sees.
struct Look {
    object: Value,
    deployment: Value,
    serving: usize,
}

impl Look {
    fn at(s: &Scenario) -> anyhow::Result<Self> {
        let list = s.kubectl(["get", "mdep,deployments,pods", "-o", "json"])?.json()?;
        let of = |kind: &'static str| items(&list).iter().filter(move |object| object["kind"] == kind);
        let serves = |pod: &&Value| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && condition_of(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
        };
        Ok(Self {
            object: of("ModelDeployment").next().cloned().unwrap_or_default(),
            deployment: of("Deployment").next().cloned().unwrap_or_default(),
            serving: of("Pod").filter(serves).count(),
        })
    }

    fn reason(&self) -> &str {
        condition_of(&self.object, "Ready").map_or("", |ready| text(ready, "/reason"))
    }

    fn is_ready(&self) -> bool {
        condition_of(&self.object, "Ready").is_some_and(|ready| ready["status"] == "True")
    }

    /// Whether new pods are started before old ones go.
    fn surges(&self) -> bool {
        self.deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    }

    /// Whether the Deployment is of the object's present spec.
    fn is_of_the_spec(&self) -> bool {
        let spec: ModelDeploymentSpec = serde_json::from_value(self.object["spec"].clone()).unwrap();
        let record = text(&self.deployment, "/metadata/annotations/loadline.dev~1record");
        let record: Value = serde_json::from_str(record).unwrap_or_default();
        record["spec"] == record::digest(&spec)
    }
}

/// Follows an edit to its end. `edit` tells it in messages; `served` is whether a pod is known to serve.
#[track_caller]
fn follow(s: &Scenario, edit: &str, served: &mut bool) -> Look {
    let mut same: (String, usize) = (String::new(), 0);
    let mut last = String::new();
    let found = crate::controlplane::harness::wait::until(edit, crate::cluster::PATIENCE, || {
        let look = Look::at(s)?;
        last = format!("{} of {}", message(&look.object), look.reason());
        let wanted = look.deployment["spec"]["replicas"].as_i64().unwrap_or(0);
        if *served && wanted > 0 && look.surges() {
            assert!(look.serving > 0, "{edit}: nothing serves, and the status says {last}");
        }
        *served = wanted > 0 && look.serving > 0;
        if !current(&look.object) || UNDER_WAY.contains(&look.reason()) {
            same.1 = 0;
            return Ok(None);
        }
        if same.0 == look.reason() {
            same.1 += 1;
        } else {
            same = (look.reason().to_owned(), 1);
        }
        Ok((look.is_ready() || same.1 >= LOOKS).then_some(look))
    });
    found.unwrap_or_else(|error| panic!("{error:#}: {last}"))
}

/// An index into a list of this length.
fn index(numbers: &mut Numbers, length: usize) -> usize {
    usize::try_from(numbers.below(length as u64)).unwrap()
}

#[test]
fn edits_at_random_are_each_followed_to_their_end() {
    let edits = std::env::var("LOADLINE_EDITS").ok().and_then(|text| text.parse().ok()).unwrap_or(EDITS);
    scenario("edits", |s| {
        let fields = fields();
        let mut numbers = Numbers(11);
        let first = json!({
            "model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192}, "engine": {"name": "vllm"},
            "placement": {"nodeSelector": {"nvidia.com/gpu.product": L4.product}},
        });
        s.apply("llama", &first);
        s.wait_ready("llama", "True", "Available");
        let mut served = true;
        // The last spec that ran, and whether the last edit was in vain.
        let (mut worked, mut in_vain) = (s.get("mdep", "llama").unwrap()["spec"].clone(), false);
        let (mut ends, mut longest) = (BTreeMap::<String, usize>::new(), (0.0, String::new()));
        for at in 0..edits {
            // What was in vain is mostly taken back, as its author would.
            let (pointer, value) = if in_vain && numbers.below(4) > 0 {
                ("/spec".to_owned(), worked.clone())
            } else {
                let (field, values) = &fields[index(&mut numbers, fields.len())];
                (format!("/spec/{field}"), values[index(&mut numbers, values.len())].clone())
            };
            let edit = format!("edit {at}, {pointer}: {value}");
            // Replaced as a whole: a merge would leave parts of what was there.
            let mut patch = vec![json!({"op": "add", "path": pointer, "value": value})];
            if value.is_null() {
                patch.push(json!({"op": "remove", "path": pointer}));
            }
            s.run(["patch", "mdep", "llama", "--type=json", "-p", &json!(patch).to_string()]);
            let began = Instant::now();
            let end = follow(s, &edit, &mut served);
            let took = began.elapsed().as_secs_f64();
            if took > longest.0 {
                longest = (took, edit.clone());
            }
            *ends.entry(end.reason().to_owned()).or_default() += 1;
            in_vain = !end.is_ready();
            if end.reason() == "Available" {
                assert!(end.is_of_the_spec(), "{edit}: Available, and another spec runs");
                worked = end.object["spec"].clone();
            }
            assert!(end.is_ready() || !message(&end.object).is_empty(), "{edit}: {:#}", end.object["status"]);
        }
        // Whatever became of it: it can be mended.
        s.run(["delete", "mdep", "llama", "--cascade=orphan", "--timeout=30s"]);
        s.apply("llama", &first);
        s.wait_ready("llama", "True", "Available");
        eventually("only the pods of the last spec", || Ok((s.pods("llama")?.len() == 1).then_some(())));
        let checked = s.check_honesty();
        println!(
            "{edits} edits: {ends:?}; {checked} statuses said Available; the longest took {:.1} s: {}",
            longest.0, longest.1
        );
        assert!(ends.get("Available").is_some_and(|&count| count * 5 > edits), "{ends:?}");
    });
}
