//! The texts of `loadline estimate`, of a model made for them: two kinds of attention layer and one of recurrent ones.

use crate::estimate::{Components, Estimate, Term, Workload};
use crate::model::{
    Attention, CacheKind, Confidence, Layer, ModelShape, Role, ShapeSource, Span, Split, State, StateKind,
    Tensor,
};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::render::json::{
    self, CardDocument, CardsDocument, ChangeDocument, ComparisonDocument, EstimateDocument, FitDocument,
    FittedCardDocument, LeftOutDocument, SharedDocument, VariantDocument,
};
use crate::units::{Bytes, GIB, MIB, Margin};

use super::{Style, estimate, explain, fit};

fn tensor(role: Role, rows: u64, columns: u64, count: u64) -> Tensor {
    Tensor {
        name: "tensor".to_owned(),
        layer: None,
        role,
        count,
        rows,
        columns,
        split: Split::Rows,
        quantizable: true,
        stored_bytes: None,
    }
}

fn shape() -> ModelShape {
    let attention = |span| Layer {
        attention: Some(Attention {
            cache: CacheKind::Heads { kv_heads: 8, key_dim: 128, value_dim: 128 },
            span,
        }),
        state: None,
    };
    let recurrent = Layer {
        attention: None,
        state: Some(State {
            kind: StateKind::GatedDelta,
            conv_width: 8192,
            conv_kernel: 4,
            matrix: 524_288,
            heads: 32,
        }),
    };
    let layers = vec![
        attention(Span::Sliding(1024)),
        attention(Span::Full),
        attention(Span::Sliding(1024)),
        recurrent,
        Layer::default(),
    ];
    ModelShape {
        name: "tested".to_owned(),
        source: ShapeSource::Catalog,
        architecture: "tested".to_owned(),
        parameters: 7_000_000_000,
        tensors: vec![tensor(Role::Mlp, 4096, 14_336, 96), tensor(Role::Embedding, 128_000, 4096, 1)],
        layers,
        draft_layers: Vec::new(),
        rotary_elements: None,
        hidden_size: 4096,
        intermediate_size: 14_336,
        heads: 32,
        head_dim: 128,
        experts: None,
        vocabulary: 128_000,
        max_context: Some(131_072),
        tied_embeddings: true,
        stored_precision: Some(Precision::Bf16),
        quantization: None,
        state_precision: None,
        encoder_tokens: None,
        multimodal: false,
        weights_confidence: Confidence::Exact,
        cache_confidence: Confidence::Exact,
        notes: Vec::new(),
    }
}

fn term(
    component: &'static str,
    formula: &str,
    tenths: u64,
    confidence: Confidence,
    range: (u64, u64),
) -> Term {
    let bytes = |tenths: u64| Bytes(tenths * GIB / 10);
    Term {
        component,
        formula: formula.to_owned(),
        bytes: bytes(tenths),
        confidence,
        low: bytes(range.0),
        high: bytes(range.1),
    }
}

fn estimated(gpus: u64) -> Estimate {
    let per_gpu = Components {
        weights: Bytes(130 * GIB / 10),
        kv_cache: Bytes(20 * GIB / 10),
        activations: Bytes(11 * GIB / 10),
        overhead: Bytes(9 * GIB / 10),
        ..Components::default()
    };
    let components = per_gpu.times(gpus).expect("small");
    let long = "8192 tokens x 118784 bytes in the widest layer, and the experts' workspace of 0.6 GiB";
    Estimate {
        logged: None,
        components,
        per_gpu,
        gpus,
        total: components.total().expect("small"),
        total_per_gpu: per_gpu.total().expect("small"),
        kv_cache_bytes_per_token: Bytes(131_072 * gpus),
        workload: Workload {
            precision: Some(Precision::Bf16),
            context: Some(8192),
            sequences: 1,
            cache_precision: CachePrecision::Bf16,
            tensor: gpus,
            pipeline: 1,
            data: 1,
            engine: Engine::Vllm,
            batched_tokens: None,
            options: crate::estimate::Options::default(),
            training: None,
        },
        confidence: Confidence::Exact,
        terms: vec![
            term("weights", "7B parameters x 2 bytes (bf16)", 130, Confidence::Exact, (130, 130)),
            term("kvCache", "1 sequence x (8192 tokens x 131072 bytes)", 20, Confidence::Exact, (20, 20)),
            term("activations", long, 11, Confidence::Derived, (5, 16)),
            term("overhead", "CUDA context", 5, Confidence::Derived, (4, 6)),
            term("overhead", "tables made of the weights", 4, Confidence::Derived, (4, 4)),
        ],
        notes: Vec::new(),
    }
}

fn documented(estimated: &Estimate) -> EstimateDocument {
    json::estimate(&shape(), estimated, Margin::DEFAULT)
}

fn card(name: &'static str, mib: u64) -> CardDocument {
    CardDocument { name, memory: Bytes(mib * MIB) }
}

fn text(document: &EstimateDocument, estimated: &Estimate, style: Style) -> String {
    estimate(document, estimated, style)
}

#[test]
fn the_answer_comes_first() {
    let shared = SharedDocument {
        change: ChangeDocument { flags: "--tensor 2".to_owned(), required_per_gpu: Bytes(11 * GIB), gpus: 2 },
        smallest: card("RTX-3060", 12_288),
    };
    let (t4, l4) = (card("T4", 15_360), card("L4", 23_034));
    for (gpus, cards, expected) in [
        (
            1,
            CardsDocument { smallest: Some(l4), too_small: Some(t4), shared: None },
            "tested needs 20.4 GiB of GPU memory (17.0 GiB x 1.2)\nfits an L4 (22.5 GiB) or larger, not a T4 (15.0 GiB)\n\n",
        ),
        (
            4,
            CardsDocument { smallest: Some(l4), too_small: Some(t4), shared: None },
            "tested needs 20.4 GiB on each of 4 GPUs (17.0 GiB x 1.2)\nfits 4 x L4 (22.5 GiB each) or larger, not 4 x T4 (15.0 GiB each)\n\n",
        ),
        (
            1,
            CardsDocument { smallest: Some(l4), ..CardsDocument::default() },
            "(17.0 GiB x 1.2)\nfits an L4 (22.5 GiB) or larger\n\n",
        ),
        (
            1,
            CardsDocument { smallest: None, too_small: Some(t4), shared: Some(shared) },
            "(17.0 GiB x 1.2)\ntoo large for a T4 (15.0 GiB)\nfits 2 x RTX-3060 with --tensor 2 (11.0 GiB on each)\n\n",
        ),
        (
            1,
            CardsDocument { smallest: None, too_small: Some(t4), shared: None },
            "(17.0 GiB x 1.2)\ntoo large for a T4 (15.0 GiB)\n\n",
        ),
    ] {
        let estimated = estimated(gpus);
        let document = EstimateDocument { cards: Some(cards), ..documented(&estimated) };
        let text = text(&document, &estimated, Style::default());
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn the_arithmetic_is_printed_by_component_and_kind_of_layer() {
    insta::assert_snapshot!("explain", explain(&shape(), &estimated(1), Style::default()));
    let narrow = explain(&shape(), &estimated(1), Style { width: 60, ..Style::default() });
    assert!(narrow.lines().all(|line| line.len() <= 60), "{narrow}");
}

#[test]
fn bars_are_as_wide_as_there_is_room() {
    let estimated = estimated(4);
    let document = documented(&estimated);
    for (width, cells) in [(200, 23), (80, 23), (60, 9), (40, 3)] {
        let text = text(&document, &estimated, Style { width, ..Style::default() });
        assert_eq!(text.lines().find_map(|line| line.split("76% ").nth(1)).map(str::len), Some(cells));
        assert!(width < 60 || text.lines().skip(5).all(|line| line.len() <= width), "{width}\n{text}");
    }
}

fn variant(value: &str, as_asked: bool, gpus: u64, smallest_gpu: Option<&'static str>) -> VariantDocument {
    let row = VariantDocument::new(value.to_owned(), as_asked, &estimated(gpus), Margin::DEFAULT);
    VariantDocument { smallest_gpu, ..row }
}

#[test]
fn variants_stand_side_by_side() {
    let estimated = estimated(1);
    let comparison = ComparisonDocument {
        by: "tensor",
        variants: vec![
            variant("1", true, 1, Some("L4")),
            variant("2", false, 2, Some("L4")),
            variant("4", false, 4, None),
        ],
        gpus: Vec::new(),
        left_out: vec![LeftOutDocument {
            value: "8".to_owned(),
            problem: "8 ranks cannot share 4 heads".to_owned(),
        }],
    };
    let document = EstimateDocument { comparison: Some(comparison), ..documented(&estimated) };
    insta::assert_snapshot!("variants", text(&document, &estimated, Style::default()));
}

#[test]
fn gpus_stand_side_by_side() {
    let estimated = estimated(1);
    let row = |gpu, mib: u64, fits, fewest_gpus: Option<u64>| FittedCardDocument {
        gpu,
        memory: Bytes(mib * MIB),
        fits,
        fewest_gpus,
        required_per_gpu: fewest_gpus.map(|gpus| Bytes(20 * GIB / gpus)),
        longest_context: fewest_gpus.map(|_| 131_072),
        most_sequences: fewest_gpus.map(|_| 16),
    };
    let comparison = ComparisonDocument {
        by: "gpu",
        variants: Vec::new(),
        gpus: vec![
            row("RTX-4060", 8188, false, None),
            row("T4", 15_360, false, Some(2)),
            row("L4", 23_034, true, Some(1)),
        ],
        left_out: Vec::new(),
    };
    let document = EstimateDocument { comparison: Some(comparison), ..documented(&estimated) };
    insta::assert_snapshot!("gpus", text(&document, &estimated, Style::default()));
}

#[test]
fn a_fit_says_what_there_is_room_for_or_what_would_fit() {
    let (one, eight) = (estimated(1), estimated(8));
    let document = FitDocument {
        gpu: Some("L4".to_owned()),
        memory: Bytes(23_034 * MIB),
        fits: true,
        longest_context: Some(20_000),
        most_sequences: Some(2),
        fewest_ranks: Some(1),
        finest_precision: None,
        fewest_training_gpus: None,
        lightest_sharding: None,
        largest_margin: None,
        changes: Vec::new(),
    };
    assert_eq!(
        fit(&document, &documented(&one)),
        "fits an L4 of 22.5 GiB: 20.4 GiB needed, 2.1 GiB to spare\nat most: a context of 20000 tokens, or 2 sequences\n"
    );
    assert!(
        fit(&document, &documented(&eight))
            .starts_with("fits 8 x L4 of 22.5 GiB: 20.4 GiB needed on each, 2.1 GiB to spare\n")
    );
    let unnamed = FitDocument { gpu: None, ..document.clone() };
    assert!(fit(&unnamed, &documented(&one)).starts_with("fits a GPU of 22.5 GiB: "));
    assert!(fit(&unnamed, &documented(&eight)).starts_with("fits 8 GPUs of 22.5 GiB: "));
    let change = |flags: &str, tenths: u64, gpus| ChangeDocument {
        flags: flags.to_owned(),
        required_per_gpu: Bytes(tenths * GIB / 10),
        gpus,
    };
    let small = FitDocument {
        gpu: Some("T4".to_owned()),
        memory: Bytes(15_360 * MIB),
        fits: false,
        changes: vec![change("--precision fp8", 124, 1), change("--tensor 2", 110, 2)],
        ..document
    };
    insta::assert_snapshot!("fit", fit(&small, &documented(&one)));
    let nearly = FitDocument { largest_margin: Some("1.113".to_owned()), ..small.clone() };
    let line = "\nthe estimate alone, 17.0 GiB, does: a margin of x1.113 is the most it has room for\n\nWOULD FIT WITH";
    assert!(fit(&nearly, &documented(&one)).contains(line));
    let nothing = FitDocument { changes: Vec::new(), ..small };
    assert!(
        fit(&nothing, &documented(&one))
            .ends_with("5.4 GiB short\nno other precision, context or number of GPUs makes it fit\n")
    );
}
