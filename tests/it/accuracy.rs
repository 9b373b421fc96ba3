//! The estimates against what engines logged on real GPUs: the goals of docs/accuracy.md.

#[path = "../accuracy/holdout.rs"]
mod holdout;
#[path = "../accuracy/left_out.rs"]
mod left_out;
#[path = "../accuracy/report.rs"]
mod report;
#[path = "../accuracy/score.rs"]
mod score;
#[path = "../accuracy/table.rs"]
pub(crate) mod table;

use score::{Point, Quantity};

/// Asserts that so many percent of the scored rows meet the goal, and that there are rows at all.
fn check(quantity: Quantity, percent: usize, least_rows: usize) {
    let scores = score::all();
    let points = report::scored(&scores, quantity);
    let outside: Vec<String> = points
        .iter()
        .filter(|point| !report::meets(point))
        .map(|point| format!("{}: {:.3} of {:.3}", point.id, point.estimated, point.measured))
        .collect();
    assert!(points.len() >= least_rows, "{quantity:?}: only {} rows could be compared", points.len());
    let met = points.len() - outside.len();
    assert!(
        met * 100 >= points.len() * percent,
        "{quantity:?}: {met} of {}\n{}",
        points.len(),
        outside.join("\n")
    );
}

#[test]
fn weights_are_within_one_percent() {
    check(Quantity::Weights, 95, 55);
}

#[test]
fn the_cache_per_token_is_within_half_a_percent() {
    check(Quantity::CachePerToken, 95, 40);
}

#[test]
fn what_vllm_needs_besides_its_cache_is_within_five_percent() {
    check(Quantity::AllButCache, 90, 29);
}

#[test]
fn what_is_required_covers_the_measured_peak() {
    check(Quantity::Peak, 100, 30);
}

#[test]
fn the_cache_of_llama_cpp_is_within_one_percent() {
    check(Quantity::Cache, 100, 24);
}

#[test]
fn the_compute_buffer_of_llama_cpp_is_within_fifteen_percent() {
    check(Quantity::Compute, 100, 9);
}

/// Asserts that so many rows that nothing was fitted to meet the goal, and that what is outside has a cause or is one of `open`.
fn check_unseen(quantity: Quantity, least_met: usize, rows: usize, open: &[&str]) {
    let scores = holdout::all();
    let points = holdout::scored(&scores, quantity);
    let (met, outside): (Vec<&Point>, Vec<&Point>) =
        points.into_iter().partition(|point| report::meets(point));
    assert_eq!(met.len() + outside.len(), rows, "{quantity:?}");
    assert!(met.len() >= least_met, "{quantity:?}: {} of {rows}: {outside:#?}", met.len());
    for point in &outside {
        let known = holdout::cause(&point.id, quantity).is_some() || open.contains(&point.id.as_str());
        assert!(known, "{}: {:.3} of {:.3} has no cause", point.id, point.estimated, point.measured);
    }
    for point in &met {
        assert!(holdout::cause(&point.id, quantity).is_none(), "{} is within its goal", point.id);
    }
}

#[test]
fn weights_of_unseen_rows() {
    check_unseen(Quantity::Weights, 64, 69, &["h-qwen35-35b-fp8", "h-qwen25-7b-awq-b"]);
}

#[test]
fn cache_per_token_of_unseen_rows() {
    check_unseen(Quantity::CachePerToken, 40, 42, &[]);
}

#[test]
fn what_vllm_needs_besides_its_cache_of_unseen_rows() {
    check_unseen(Quantity::AllButCache, 2, 2, &[]);
    check_unseen(Quantity::Peak, 2, 2, &[]);
}

#[test]
fn llama_cpp_caches_of_unseen_rows() {
    check_unseen(Quantity::Cache, 35, 35, &[]);
}

#[test]
fn llama_cpp_compute_buffers_of_unseen_rows() {
    check_unseen(Quantity::Compute, 9, 9, &[]);
}

#[test]
fn every_unseen_row_has_its_first_score() {
    let (scores, first) = (holdout::all(), holdout::first());
    assert!(scores.unread.is_empty(), "{:?}", scores.unread);
    for point in &scores.points {
        assert!(holdout::first_of(&first, point).is_some(), "{} {}", point.id, holdout::name(point.quantity));
    }
    assert_eq!(first.len(), scores.points.len());
}

#[test]
fn what_is_left_out_exists_and_is_outside() {
    for scores in [score::all(), holdout::all()] {
        for point in scores.points.iter().filter(|point| point.left_out.is_some()) {
            assert!(!report::meets(point), "{} is within its goal: score it", point.id);
        }
    }
}

#[test]
fn every_published_config_has_an_estimate() {
    let page = report::page(&score::all());
    let (_, configs) = page.split_once("## Configs").expect("the section");
    // The last column has what went wrong.
    let rows = configs.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let failed: Vec<&str> = rows.filter(|line| !line.ends_with("| |")).collect();
    assert!(configs.lines().count() > 200, "{} lines", configs.lines().count());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
