use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::decide::{Change, ClassVerdict, Decision, Finding, Policy, Reason, Requirement, Suggestion};
use crate::estimate::{Components, Estimate, Term, Workload};
use crate::inventory::{GpuPool, GpuSharing, LabelFault, Memory, Taint, Trust, Vendor};
use crate::launch::{Launch, Nothing};
use crate::model::Confidence;
use crate::plan::Plan;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::refusal::Refusal;
use crate::units::{Bytes, GIB, MIB, Margin};

const LABEL: &str = "nvidia.com/gpu.memory";

fn pool(product: &str, mib: u64, free: u64) -> GpuPool {
    GpuPool {
        vendor: Vendor::Nvidia,
        product: Some(product.to_owned()),
        memory: Memory::Known {
            bytes: Bytes(mib * MIB),
            label: LABEL.to_owned(),
            source: "nvidia-gfd".into(),
            trust: Trust::Reported,
        },
        resource: "nvidia.com/gpu".to_owned(),
        allocatable: 4,
        free,
        promised: 0,
        sharing: GpuSharing::Exclusive,
    }
}

fn class(nodes: &[&str], finding: Finding, pool: Option<GpuPool>) -> ClassVerdict {
    ClassVerdict { nodes: nodes.iter().copied().collect(), finding, pool: pool.map(Arc::new), held_by_own: 0 }
}

fn needed() -> Bytes {
    Bytes(214 * GIB / 10)
}

fn too_small(nodes: &[&str]) -> ClassVerdict {
    let has = Bytes(15360 * MIB);
    let pool = Some(pool("Tesla-T4", 15360, 4));
    class(nodes, Finding::GpuMemoryTooSmall { needed: needed(), has }, pool)
}

fn fitting(nodes: &[&str]) -> ClassVerdict {
    let has = Bytes(23034 * MIB);
    let pool = Some(pool("NVIDIA-L4", 23034, 3));
    class(nodes, Finding::FitsNow { needed: needed(), has }, pool)
}

fn busy(nodes: &[&str]) -> ClassVerdict {
    let finding = Finding::GpusBusy { needed: 1, free: 0, allocatable: 4 };
    class(nodes, finding, Some(pool("NVIDIA-L4", 23034, 0)))
}

fn no_gpus(nodes: &[&str]) -> ClassVerdict {
    class(nodes, Finding::NoGpus, None)
}

fn estimate() -> Estimate {
    let per_gpu = Components {
        weights: Bytes(15 * GIB),
        kv_cache: Bytes(GIB),
        activations: Bytes(11 * GIB / 10),
        overhead: Bytes(8 * GIB / 10),
        ..Components::default()
    };
    let total = Bytes(per_gpu.weights.0 + per_gpu.kv_cache.0 + per_gpu.activations.0 + per_gpu.overhead.0);
    Estimate {
        logged: None,
        components: per_gpu,
        per_gpu,
        gpus: 1,
        total,
        total_per_gpu: total,
        kv_cache_bytes_per_token: Bytes(131_072),
        workload: Workload {
            precision: Some(Precision::Bf16),
            context: Some(8192),
            sequences: 1,
            cache_precision: CachePrecision::Bf16,
            tensor: 1,
            pipeline: 1,
            data: 1,
            engine: Engine::Vllm,
            batched_tokens: None,
            options: crate::estimate::Options::default(),
            training: None,
        },
        confidence: Confidence::Derived,
        terms: vec![Term {
            component: "weights",
            formula: "8.03B parameters x 2 bytes".to_owned(),
            bytes: per_gpu.weights,
            confidence: Confidence::Exact,
            low: per_gpu.weights,
            high: per_gpu.weights,
        }],
        notes: vec!["A note.".to_owned()],
    }
}

fn suggestion(change: Change, gib_tenths: u64, gpus: u64) -> Suggestion {
    Suggestion { change, requirement: Requirement { per_gpu: Bytes(gib_tenths * GIB / 10), gpus }, nodes: 3 }
}

/// A plan for which the first of the classes stands.
fn plan_of(classes: Vec<ClassVerdict>, suggestions: Vec<Suggestion>) -> Plan {
    plan_found(classes[0].finding.clone(), classes, suggestions)
}

fn plan_found(finding: Finding, classes: Vec<ClassVerdict>, suggestions: Vec<Suggestion>) -> Plan {
    let requirement = Requirement { per_gpu: needed(), gpus: 1 };
    Plan {
        model: "llama-3.1-8b".to_owned(),
        source: "catalog".to_owned(),
        architecture: "llama".to_owned(),
        parameters: 8_030_261_248,
        estimate: estimate(),
        margin: Margin::DEFAULT,
        requirement,
        policy: Policy::default(),
        decision: Decision { finding, requirement, classes, slots: 3, suggestions },
        replicas: 1,
        launch: Launch::Nothing(Nothing::NoEngine),
        kept: None,
    }
}

fn outcomes() -> Vec<Outcome> {
    let outcome = |name: &str, found| Outcome {
        namespace: "team-a".to_owned(),
        name: name.to_owned(),
        origin: Origin { file: Some("apps/models.yaml".to_owned()), line: 7 },
        workload: None,
        found,
    };
    let fits = plan_of(vec![fitting(&["l4-a", "l4-b"]), too_small(&["t4-a"])], vec![]);
    let small = plan_of(
        vec![too_small(&["t4-a", "t4-b", "t4-c", "t4-d"]), no_gpus(&["cpu-a"])],
        vec![suggestion(Change::Precision(Precision::Int4), 79, 1)],
    );
    let taken = plan_of(vec![busy(&["l4-a"])], vec![]);
    vec![
        outcome("fits", Found::Planned(Box::new(fits))),
        outcome("too-large", Found::Planned(Box::new(small))),
        outcome("waits", Found::Planned(Box::new(taken))),
        outcome("typo", Found::Malformed(vec!["spec.precison: unknown field".to_owned()])),
        outcome("remote", Found::Unresolved("spec.model.huggingFace: <not> read offline".to_owned())),
    ]
}

#[test]
fn the_message_says_what_is_needed_and_what_would_help() {
    let numbers =
        "needs 21.4 GiB per GPU (weights 15.0 + KV cache 1.0 + activations 1.1 + overhead 0.8 = 17.9, x1.2)";
    let check = |plan: &Plan, expected: &str| assert_eq!(message(plan), expected.replace("NEEDS", numbers));
    check(
        &plan_of(
            vec![too_small(&["a", "b", "c"]), no_gpus(&["cpu"])],
            vec![
                suggestion(Change::Precision(Precision::Int4), 79, 1),
                suggestion(Change::Tensor(2), 112, 2),
            ],
        ),
        "NEEDS; largest GPU is Tesla-T4 15.0 GiB on 3 nodes. Would fit: precision int4 (7.9 GiB), or tensor 2 (11.2 GiB on each of 2 GPUs)",
    );
    check(
        &plan_of(vec![fitting(&["node-a", "node-b"]), no_gpus(&["cpu"])], vec![]),
        "fits 2 nodes, best NVIDIA-L4 22.5 GiB on node-a; NEEDS",
    );
    check(
        &plan_of(vec![busy(&["a", "b"]), too_small(&["c"])], vec![]),
        "NEEDS; GPUs that are large enough are in use: NVIDIA-L4 22.5 GiB has 0 of 8 GPUs free on 2 nodes; a replica takes 1 GPU of one node",
    );
    check(
        &plan_found(Finding::NoGpuNodes, vec![no_gpus(&["cpu"])], vec![]),
        "NEEDS; no node of the cluster has a GPU",
    );
    let missing = Finding::LabelMissing { label: LABEL.to_owned(), annotated: None };
    let unlabelled = GpuPool {
        memory: Memory::Missing { label: LABEL.to_owned(), annotated: None },
        ..pool("NVIDIA-L4", 0, 4)
    };
    check(
        &plan_of(vec![class(&["a", "b"], missing, Some(unlabelled)), too_small(&["c"])], vec![]),
        "NEEDS; a and 1 more: hands out 4 GPUs and has no label nvidia.com/gpu.memory that says their memory; run GPU Feature Discovery, or set the label to the MiB of one GPU; also 1 node GpuMemoryTooSmall",
    );
    let cordoned = class(&["a"], Finding::NodeCordoned, Some(pool("NVIDIA-L4", 23034, 4)));
    check(&plan_of(vec![cordoned], vec![]), "NEEDS; a: cordoned; `kubectl uncordon` lets pods in again");
    let never = Finding::NeverFits { needed: needed(), largest: Bytes(288 * GIB) };
    check(
        &plan_found(never, vec![too_small(&["a"])], vec![]),
        "NEEDS; no GPU that is made has so much (at most 288.0 GiB); largest GPU is Tesla-T4 15.0 GiB on 1 node",
    );
}

#[test]
fn a_message_never_prints_the_same_figure_for_needed_and_had() {
    let mut plan = plan_of(vec![too_small(&["a"])], vec![]);
    plan.requirement.per_gpu = Bytes(15360 * MIB + 1);
    plan.decision.requirement = plan.requirement;
    let message = message(&plan);
    assert!(
        message.contains("largest GPU is Tesla-T4 15360 MiB where 15361 MiB needed on 1 node"),
        "{message}"
    );
}

#[test]
fn every_reason_of_a_node_has_its_numbers_and_a_remedy() {
    let requirement = Requirement { per_gpu: needed(), gpus: 1 };
    let l4 = || Some(pool("NVIDIA-L4", 23034, 3));
    let untrusted = |value: &str, fault| Finding::LabelUntrusted {
        label: LABEL.to_owned(),
        value: value.to_owned(),
        fault,
    };
    let taint =
        Taint { key: "dedicated".to_owned(), value: "batch".to_owned(), effect: "NoSchedule".to_owned() };
    let selector = |has: Option<&str>| Finding::SelectorMismatch {
        key: "zone".to_owned(),
        wanted: "a".to_owned(),
        has: has.map(str::to_owned),
    };
    for (finding, pool, expected) in [
        (
            Finding::FitsNow { needed: needed(), has: Bytes(23034 * MIB) },
            l4(),
            "NVIDIA-L4 has 22.5 GiB per GPU, 21.4 GiB needed, 1.1 GiB to spare; 3 of 4 GPUs free",
        ),
        (
            Finding::GpusBusy { needed: 2, free: 1, allocatable: 4 },
            l4(),
            "NVIDIA-L4 is large enough, and 1 of 4 GPUs free where 2 needed; other pods hold the rest",
        ),
        (
            Finding::ResourcesBusy {
                resource: "cpu".into(),
                needed: 16_000,
                free: 14_500,
                allocatable: 96_000,
            },
            l4(),
            "NVIDIA-L4 is large enough, and 14.5 of 96 CPU free where 16 requested; other pods hold the rest",
        ),
        (
            Finding::ResourcesBusy { resource: "pods".into(), needed: 1, free: 0, allocatable: 110 },
            l4(),
            "NVIDIA-L4 is large enough, and 0 of 110 places for pods free where 1 requested; other pods hold the rest",
        ),
        (
            Finding::ResourcesTooSmall {
                resource: "memory".into(),
                needed: 256 * GIB,
                allocatable: 256 * GIB - 1,
            },
            l4(),
            "NVIDIA-L4 is large enough, and the node has 262143 MiB of memory where 262144 MiB requested; lower what spec.template requests, or use nodes with more",
        ),
        (
            Finding::ResourcesTooSmall { resource: "rdma/hca".into(), needed: 1, allocatable: 0 },
            l4(),
            "NVIDIA-L4 is large enough, and the node has 0 rdma/hca where 1 requested; lower what spec.template requests, or use nodes with more",
        ),
        (
            Finding::GpuMemoryTooSmall { needed: needed(), has: Bytes(15360 * MIB) },
            Some(pool("Tesla-T4", 15360, 4)),
            "Tesla-T4 has 15.0 GiB per GPU, 21.4 GiB needed, 6.4 GiB short",
        ),
        (
            Finding::TooFewGpus { needed: 8, allocatable: 4 },
            l4(),
            "hands out 4 GPUs of NVIDIA-L4 where one replica takes 8; lower spec.parallelism, or use nodes with more",
        ),
        (
            Finding::TooFewGpus { needed: 1, allocatable: 0 },
            l4(),
            "NVIDIA-L4 is there, and the node hands out no GPU where one replica takes 1; see whether its device plugin runs",
        ),
        (Finding::NoGpus, None, "hands out no GPU"),
        (
            untrusted("15360MiB", LabelFault::NotANumber),
            l4(),
            "label nvidia.com/gpu.memory=\"15360MiB\" cannot be believed: it is not a whole number; it must be the MiB of one GPU, a whole number such as 23034",
        ),
        (
            Finding::TaintNotTolerated(taint),
            l4(),
            "taint dedicated=batch:NoSchedule is not tolerated; add it to spec.placement.tolerations if the model may run there",
        ),
        (selector(None), l4(), "label zone is not set, and spec.placement.nodeSelector wants \"a\""),
        (selector(Some("b")), l4(), "label zone is \"b\", and spec.placement.nodeSelector wants \"a\""),
        (
            Finding::VendorMismatch { vendor: Vendor::Amd },
            l4(),
            "the GPUs are AMD's, which spec.placement.vendors does not allow",
        ),
        (
            Finding::SharedGpu { sharing: GpuSharing::TimeSliced(4) },
            l4(),
            "NVIDIA-L4 is time-sliced 4 ways, and nothing keeps the others from its memory; set spec.placement.sharing: Shared if the model may share a GPU",
        ),
        (Finding::NodeNotReady, l4(), "not ready; it counts again when its Ready condition is True"),
    ] {
        assert_eq!(node_message(&class(&["a"], finding, pool), &requirement), expected);
    }
}

#[test]
fn every_fault_of_a_label_is_named() {
    use LabelFault::{
        Clients, Divided, Empty, MigInvalid, MigMixed, MigPending, MoreThanCards, NotANumber, NotKnown,
        NotTheCard, PartOfACard, SeveralKinds, SumOfUnknownMany, TooLarge, Zero,
    };
    let words: BTreeMap<_, _> = [
        Empty,
        NotANumber,
        Zero,
        TooLarge,
        MigInvalid,
        MigPending,
        MigMixed,
        Clients,
        NotKnown,
        SeveralKinds,
        PartOfACard,
        Divided,
        SumOfUnknownMany,
        NotTheCard { mib: 15360 },
        MoreThanCards { handed_out: 3 },
    ]
    .into_iter()
    .map(|fault| (fault_words(fault).0, fault))
    .collect();
    assert_eq!(words.len(), 15);
}

#[test]
fn documents_keep_their_contract() {
    let outcomes = outcomes();
    insta::assert_snapshot!("plan_json", json::print(&json::plan(&outcomes)).unwrap());
    insta::assert_snapshot!("plan_yaml", yaml::print(&json::plan(&outcomes)).unwrap());
    insta::assert_snapshot!("plan_junit", junit::plan(&outcomes));
    insta::assert_snapshot!("plan_sarif", json::print(&sarif::plan(&outcomes, "0.0.0")).unwrap());
    insta::assert_snapshot!("plan_markdown", markdown::plan(&outcomes));
    insta::assert_snapshot!("plan_table", table::plan(&outcomes, table::Style::default()));
    insta::assert_snapshot!("plan_wide", table::plan(&outcomes, wide()));
    let plan = outcomes[0].plan().unwrap();
    let document = json::planned_estimate(plan);
    insta::assert_snapshot!(
        "estimate_table",
        table::estimate(&document, &plan.estimate, table::Style::default())
    );
    insta::assert_snapshot!("estimate_wide", table::estimate(&document, &plan.estimate, wide()));
}

fn wide() -> table::Style {
    table::Style { wide: true, ..table::Style::default() }
}

#[test]
fn colour_is_only_where_it_is_asked_for() {
    let coloured = table::plan(&outcomes(), table::Style { colour: true, ..table::Style::default() });
    let plain = table::plan(&outcomes(), table::Style::default());
    assert!(coloured.contains("\u{1b}[32mfits\u{1b}[0m"));
    assert!(!plain.contains('\u{1b}'));
}

/// Another repository that holds the model in the format that is asked for is named, where one is known.
#[test]
fn a_checkpoint_that_is_elsewhere_is_named() {
    let snapshot = crate::inventory::Snapshot::new(crate::inventory::testing::golden(), []);
    let inventory = crate::inventory::Inventory::new(snapshot, &crate::inventory::Sources::default());
    for (model, precision, engine, words) in [
        (
            "llama-3.1-8b",
            "awq-int4",
            "vllm",
            "vllm cannot load meta-llama/Llama-3.1-8B as awq-int4; hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4 holds meta-llama/Llama-3.1-8B-Instruct in that format: set model.huggingFace.repository",
        ),
        (
            "Qwen/Qwen3-32B",
            "fp8-block",
            "sglang",
            "; Qwen/Qwen3-32B-FP8 holds it: set model.huggingFace.repository",
        ),
        // TGI loads no such checkpoint.
        (
            "Qwen/Qwen3-235B-A22B",
            "nvfp4",
            "tgi",
            "tgi cannot load Qwen/Qwen3-235B-A22B as nvfp4, for it loads no such checkpoints; set another precision, or engine.name: vllm or sglang",
        ),
        (
            "llama-3.1-8b",
            "q4_k_m",
            "vllm",
            "as q4_k_m, for it loads no such checkpoints; set another precision, or engine.name: llama-cpp",
        ),
        ("llama-3.1-8b", "mxfp4", "vllm", "; name a repository that holds mxfp4 (model.huggingFace)"),
    ] {
        let spec = serde_json::json!({
            "model": {"catalog": model}, "precision": precision, "engine": {"name": engine}, "context": {"length": 2048},
        });
        let spec = serde_json::from_value(spec).unwrap();
        let subject =
            crate::plan::Subject { namespace: "a", name: "m", spec: &spec, roll: None, running: None };
        let found = Found::of(subject, &crate::plan::Permits::default(), &inventory, || {
            crate::plan::resolve_pure(&spec).unwrap().map(Arc::new).map_err(Found::from)
        });
        let Found::Planned(plan) = found else { panic!("{found:?}") };
        let said = planned(&plan);
        assert!(said.contains(words), "{model} {precision}: {said}");
    }
}

#[test]
fn a_refused_spec_is_told_in_its_own_words() {
    let error = Refusal::Invalid {
        field: "safetyMargin".to_owned(),
        problem: "\"0.5\" is below 1.0".to_owned(),
        remedy: "use \"1.2\"".to_owned(),
    };
    assert_eq!(plan_error(&error), "spec.safetyMargin: \"0.5\" is below 1.0; use \"1.2\"");
}

#[test]
fn every_reason_is_documented() {
    let page = reasons::page();
    for reason in Reason::ALL {
        assert!(page.contains(&format!("\n## {reason}\n")), "{reason}");
        assert!(
            reasons::meaning(*reason).ends_with('.') && reasons::remedy(*reason).ends_with('.'),
            "{reason}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn hostile_names_neither_steer_the_terminal_nor_fill_the_message(
        name in "\\PC{0,300}|[\\x00-\\x1f\u{202e}]{0,40}", product in "\\PC{0,300}|[\\x00-\\x1f]{0,40}", count in 1_usize..6,
    ) {
        let named: Vec<String> = (0..count).map(|index| format!("{name}{index}")).collect();
        let names: Vec<&str> = named.iter().map(String::as_str).collect();
        let mut fits = fitting(&names);
        fits.pool = Some(Arc::new(pool(&product, 23034, 3)));
        let mut small = too_small(&names);
        small.pool = Some(Arc::new(pool(&product, 15360, 3)));
        let requirement = Requirement { per_gpu: needed(), gpus: 1 };
        let lines = [node_message(&fits, &requirement), node_message(&small, &requirement),
            message(&plan_of(vec![fits], vec![])),
            message(&plan_of(vec![small], vec![]))];
        for line in lines {
            prop_assert!(line.len() <= text::LONGEST_MESSAGE);
            prop_assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", line);
        }
    }
}
