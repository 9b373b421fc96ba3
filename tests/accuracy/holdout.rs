//! Rows that nothing was fitted to: how they came out when they were first scored, and how they come out now.

use std::collections::HashMap;
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
        "\n| Figure | Goal | Rows | Met when first scored | Met now |\n| --- | --- | ---: | ---: | ---: |\n",
    );
    for quantity in Quantity::ALL {
        let points = scored(&scores, quantity);
        if points.is_empty() {
            continue;
        }
        let before = points.iter().filter(|point| first_of(&first, point).is_some_and(|point| meets(&point)));
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            quantity.title(),
            goal(quantity).split(" on ").next().unwrap_or_default(),
            points.len(),
            before.count(),
            points.iter().filter(|point| meets(point)).count()
        );
    }
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
    ("h-gptoss20b-a100", Quantity::Weights, GPT_OSS),
    ("h-gptoss20b-b", Quantity::Weights, GPT_OSS),
    ("h-gptoss20b-b200", Quantity::Weights, GPT_OSS),
    (
        "h-qwen36-35b-fp8",
        Quantity::Weights,
        "outside: 0.80 GiB more than the row of vLLM 0.18, which is what its multi-token-prediction layer takes",
    ),
    (
        "h-qwen25vl-7b-gptq",
        Quantity::Weights,
        "outside: this vLLM (before 0.16) still had one row per position in its table; Loadline counts four (0.09 GiB)",
    ),
    (
        "h-gemma4-26b-thor",
        Quantity::CachePerToken,
        "outside: this vLLM reserves one batch beside the window; since then it is two, as scheduling overlaps with execution",
    ),
    (
        "h-qwen35-9b-tp2",
        Quantity::CachePerToken,
        "outside: prefix caching was off, and one state was kept per sequence; Loadline counts the second one, which it needs",
    ),
];

const GPT_OSS: &str = "outside: kernels for GPUs other than Hopper pad the experts to 3072 x 2944; Loadline has what Hopper loads";

const INTRODUCTION: &str = "
## Rows that nothing was fitted to

The rows above calibrated the estimator; these did not. They were collected afterwards from other public logs, mostly of other models, and scored
before anything was changed for them: \"first\" is what came out then. What they showed was fixed only where the engine's own code
gives the rule, never by fitting a constant to a row; \"now\" is what comes out since.

Fixed after the first score
- Every rotary table is counted: that of the windowed layers beside that of the others (Gemma 3 and 4, OLMo 3), those that a linear
  or dynamic scaling lengthens, the short one beside the long (Phi), four rows per position where positions are those of images
  (Qwen-VL, Qwen3.5, GLM-V); and only the rotated part of a head.
- PyTorch's allocator keeps up to 1 MiB per matrix of 10 MiB or more, engines joining queries, keys and values, gate and up projection,
  and all experts of a layer. It is part of the overhead; here it is added to the weights, as the engine's log has it.
- Without flash attention llama.cpp keeps every score: that buffer is now the upper end of what Loadline says, and rows without it are
  compared with that end.
- The context of Gemma 3 is 128K: its scaling was multiplied in twice.
";
