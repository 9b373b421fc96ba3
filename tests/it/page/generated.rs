//! Files of the page that are made from others.

use std::path::Path;

use loadline::page::{MeasuredRow, measured_rows};
use loadline::units::{Bytes, GIB, MIB};

use crate::accuracy::table::{self, Row};
use crate::generated::check;

fn rows(file: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/measured").join(file);
    table::read(&std::fs::read_to_string(path).expect("a readable table"))
}

/// Where a row is to be read, as an address; none where that was not recorded.
fn address(source: &str) -> Option<String> {
    let first = source.split([' ', ';']).next()?;
    if first.starts_with("https://") {
        return Some(first.to_owned());
    }
    // github:owner/name@commit:path
    let (repository, rest) = first.strip_prefix("github:")?.split_once('@')?;
    let (commit, path) = rest.split_once(':')?;
    Some(format!("https://github.com/{repository}/blob/{commit}/{path}"))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn bytes(row: &Row, column: &str, unit: u64) -> Option<Bytes> {
    row.number(column)
        .filter(|amount| *amount > 0.0)
        .map(|amount| Bytes((amount * unit as f64).round() as u64))
}

fn text(row: &Row, column: &str) -> Option<String> {
    Some(row.text(column).to_owned()).filter(|text| !text.is_empty())
}

fn model(row: &Row) -> String {
    text(row, "base_model").unwrap_or_else(|| row.text("model").to_owned())
}

fn served(row: &Row) -> Option<MeasuredRow> {
    Some(MeasuredRow {
        model: model(row),
        engine: row.text("engine").to_owned(),
        version: text(row, "engine_version"),
        gpu: text(row, "gpu"),
        format: row.text("format").to_owned(),
        training: false,
        gpus: row.count("tp").unwrap_or(1) * row.count("pp").unwrap_or(1),
        context: row.count("max_model_len"),
        sequences: row.count("max_num_seqs"),
        weights: bytes(row, "weights_gib", GIB),
        kv_cache: bytes(row, "kv_gib", GIB),
        activations: bytes(row, "activation_gib", GIB),
        peak: bytes(row, "used_mib", MIB),
        source: address(row.text("source"))?,
    })
}

fn llama_cpp(row: &Row) -> Option<MeasuredRow> {
    Some(MeasuredRow {
        model: model(row),
        engine: "llama.cpp".to_owned(),
        version: text(row, "version"),
        gpu: text(row, "gpu"),
        format: row.text("quant").to_owned(),
        training: false,
        gpus: 1,
        context: row.count("n_ctx"),
        sequences: row.count("n_seq"),
        weights: bytes(row, "model_buffer_mib", MIB),
        kv_cache: bytes(row, "kv_buffer_mib", MIB),
        activations: bytes(row, "compute_buffer_gpu_mib", MIB),
        peak: None,
        source: address(row.text("source"))?,
    })
}

fn trained(row: &Row) -> Option<MeasuredRow> {
    Some(MeasuredRow {
        model: model(row),
        engine: row.text("framework").to_owned(),
        // Of training the versions of several packages stand there.
        version: None,
        gpu: text(row, "gpu"),
        format: row.text("method").to_owned(),
        training: true,
        gpus: row.count("gpus").unwrap_or(1),
        context: row.count("seq_len"),
        sequences: row.count("micro_batch"),
        weights: None,
        kv_cache: None,
        activations: None,
        peak: bytes(row, "peak_reserved_gib", GIB).or_else(|| bytes(row, "peak_allocated_gib", GIB)),
        source: address(row.text("source"))?,
    })
}

#[test]
fn the_measured_rows_are_those_of_the_fixtures() {
    let mut made: Vec<MeasuredRow> = rows("serving.csv").iter().filter_map(served).collect();
    made.extend(rows("holdout.csv").iter().filter_map(served));
    made.extend(rows("llamacpp.csv").iter().filter_map(llama_cpp));
    made.extend(rows("training.csv").iter().filter_map(trained));
    made.retain(|row| row.weights.is_some() || row.kv_cache.is_some() || row.peak.is_some());
    assert!(made.len() > 300, "{}", made.len());
    let lines: String = made.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
    check("src/page/measured.jsonl", &lines);
    assert!(measured_rows() == made, "it was written anew: build again");
}

#[test]
fn the_documentation_of_the_endpoints_is_that_of_the_types() {
    let document = loadline::page::openapi();
    check("docs/openapi.json", &(serde_json::to_string_pretty(&document).expect("JSON") + "\n"));
    // Every reference leads somewhere.
    let text = document.to_string();
    for (at, _) in text.match_indices("\"#/components/schemas/") {
        let name = text[at + 22..].split('"').next().expect("a name");
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}
