//! Rows that nothing was fitted to: how they came out when they were first scored, and how they come out now.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::report::{goal, meets, shown};
use super::score::{self, Point, Quantity, Scores};

/// Every comparison with the rows that were collected after the estimator was calibrated.
pub(crate) fn all() -> Scores {
    score::of("holdout.csv", "holdout-llamacpp.csv")
}

/// What the estimator gave when it first saw the rows, by row and figure.
pub(crate) fn first() -> HashMap<(String, String), f64> {
    let rows = score::rows("holdout-first.csv");
    rows.iter()
        .filter_map(|row| {
            Some(((row.text("id").to_owned(), row.text("figure").to_owned()), row.number("estimated")?))
        })
        .collect()
}

/// The first figure of a point, if it had one.
pub(crate) fn first_of(first: &HashMap<(String, String), f64>, point: &Point) -> Option<Point> {
    let key = (point.id.clone(), name(point.quantity).to_owned());
    first.get(&key).map(|estimated| Point { estimated: *estimated, ..point.clone() })
}

/// How a figure is called in the file of first scores.
pub(crate) fn name(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Weights => "weights",
        Quantity::CachePerToken => "cache-per-token",
        Quantity::AllButCache => "all-but-cache",
        Quantity::Peak => "peak",
        Quantity::Cache => "cache",
        Quantity::Compute => "compute",
    }
}

/// The section of the page.
pub(crate) fn section() -> String {
    let (scores, first) = (all(), first());
    let mut page = String::from(INTRODUCTION);
    page.push_str(
        "\n| Figure | Goal | Rows | Met when first scored | Models | Met when first scored | Met now (rows) |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for quantity in Quantity::ALL {
        let points = scored(&scores, quantity);
        if points.is_empty() {
            continue;
        }
        let met = |point: &Point| first_of(&first, point).is_some_and(|point| meets(&point));
        // A model meets a goal where every row of it does.
        let mut models: BTreeMap<&str, bool> = BTreeMap::new();
        for point in &points {
            *models.entry(&point.model).or_insert(true) &= met(point);
        }
        let _ = writeln!(
            page,
            "| {} | {} | {} | **{}** | {} | **{}** | {} |",
            quantity.title(),
            goal(quantity).split(" on ").next().unwrap_or_default(),
            points.len(),
            points.iter().filter(|point| met(point)).count(),
            models.len(),
            models.values().filter(|&&met| met).count(),
            points.iter().filter(|point| meets(point)).count()
        );
    }
    page.push_str(OTHERS);
    let near = |quantity: Quantity| {
        let firsts = scored(&scores, quantity).into_iter().filter_map(|point| first_of(&first, point));
        let errors: Vec<f64> = firsts.map(|point| point.error().abs()).collect();
        format!("{} of {}", errors.iter().filter(|error| **error <= 0.02).count(), errors.len())
    };
    let _ = writeln!(
        page,
        "By that measure Loadline's first scores are: weights within 2 % on {} rows, KV cache per token on {}, llama.cpp's cache on {}.",
        near(Quantity::Weights),
        near(Quantity::CachePerToken),
        near(Quantity::Cache)
    );
    for quantity in Quantity::ALL {
        if scores.points.iter().all(|point| point.quantity != quantity) {
            continue;
        }
        let _ = write!(
            page,
            "\n### {} (not fitted)\n\n| Row | Model | Measured | First | Error | Now | Error | |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n",
            quantity.title()
        );
        for point in scores.points.iter().filter(|point| point.quantity == quantity) {
            let remark = match (point.left_out, cause(&point.id, quantity)) {
                (Some(why), _) => format!("not scored: {why}"),
                (None, Some(why)) => why.to_owned(),
                (None, None) if meets(point) => String::new(),
                (None, None) => "outside, not explained".to_owned(),
            };
            let before = first_of(&first, point);
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} | {:+.2} % | {remark} |",
                point.id,
                point.model,
                shown(point.measured),
                before.as_ref().map(|point| shown(point.estimated)).unwrap_or_default(),
                before.as_ref().map(|point| format!("{:+.2} %", point.error() * 100.0)).unwrap_or_default(),
                shown(point.estimated),
                point.error() * 100.0
            );
        }
    }
    for (id, why) in &scores.unread {
        let _ = writeln!(page, "\nNothing to compare in {id}: {why}.");
    }
    page
}

/// The points that count.
pub(crate) fn scored(scores: &Scores, quantity: Quantity) -> Vec<&Point> {
    scores.points.iter().filter(|point| point.quantity == quantity && point.left_out.is_none()).collect()
}

/// Why a row that counts is outside, where that is known.
pub(crate) fn cause(id: &str, quantity: Quantity) -> Option<&'static str> {
    CAUSES.iter().find(|(row, figure, _)| *row == id && *figure == quantity).map(|(_, _, why)| *why)
}

/// Row, figure, cause.
const CAUSES: &[(&str, Quantity, &str)] = &[
    (
        "h-qwen36-35b-fp8",
        Quantity::Weights,
        "outside: 0.80 GiB more than the row of vLLM 0.18, which is what its multi-token-prediction layer takes",
    ),
    (
        "f-minimax-m27-awq-gb10-pool",
        Quantity::CachePerToken,
        "outside: the tokens are those of the rank with least room, the GiB those of another (one request of the same log needs what is counted, to the byte)",
    ),
    (
        "f-gemma4-26b-3090",
        Quantity::CachePerToken,
        "outside: an external draft, whose shape is not known, has layers of its own in the pool",
    ),
    (
        "f-qwen38-27b-fp8-tp2",
        Quantity::Weights,
        "outside by 1.9 %: the shape is that of Qwen3.5-27B, and the release's own list of what it leaves at 16 bits is not among the fixtures",
    ),
    (
        "h-qwen25vl-7b-gptq",
        Quantity::Weights,
        "outside: this vLLM (before 0.16) still had one row per position in its table; Loadline counts four (0.09 GiB)",
    ),
];

const INTRODUCTION: &str = "
## Rows that nothing was fitted to

What a user meets is a model and an engine that the estimator has not been shown, so these rows come first, and the count to read is the
bold one: what came out when a row was scored before anything was changed for it. They were collected after the estimator was
calibrated, from other public logs, mostly of other models; those whose name begins with `f-` are logs of June to September 2026 and
later engines. What they showed was fixed only where the engine's own code gives the rule, never by fitting a constant to a row; \"now\"
is what comes out since. Each row is asked for as a user would ask: by config, engine, version and flags that its log names, nothing
taken away from the model by the comparison.

Fixed after the first score
- Every rotary table is counted: that of the windowed layers beside that of the others (Gemma 3 and 4, OLMo 3), those that a linear
  or dynamic scaling lengthens, the short one beside the long (Phi), four rows per position where positions are those of images
  (Qwen-VL, Qwen3.5, GLM-V); and only the rotated part of a head.
- PyTorch's allocator keeps up to 1 MiB per matrix of 10 MiB or more, engines joining queries, keys and values, gate and up projection,
  and all experts of a layer. It is part of the overhead; here it is added to the weights, as the engine's log has it.
- Without flash attention llama.cpp keeps every score: that buffer is now the upper end of what Loadline says, and rows without it are
  compared with that end.
- The context of Gemma 3 is 128K: its scaling was multiplied in twice.
- vLLM's rules are those of the version that a row names: how many states of recurrent layers a request holds, how many batches are in
  flight, when layers of several kinds share blocks, how MXFP4 experts are padded.
- llama.cpp's compute buffer is that of the build: its mask is 16 bits wide and its logits are as many as its slots since mid-2026.
- A server told to leave a model's vision tower out leaves it out.
- llama.cpp holds an indexer's keys (GLM-5, DeepSeek-V3.2) at the type of the others, not at vLLM's 8 bits.
";

/// What other tools give for the same rows, as far as they can be asked.
const OTHERS: &str = "
Other tools on rows that nobody here tuned to, those of this section that were collected before June 2026 (a row counts for a tool that
accepts it): weights within 2 % on 38 of 48 rows (llmfit 1.1.18), 29 of 53 (accelerate estimate-memory), 18 of 53 (hf-vram-calc) and 18
of 53 (vramcalc); KV cache within 2 % on 31 of 39 (llm-d-planner), 31 of 39 (hf-mem 0.5.6), 29 of 39 (aiconfigurator), 20 of 39
(vramcalc), 29 of 35 (llmfit), and on 9 of 10 rows of llama.cpp (gguf-parser-go 0.28.2).
";
