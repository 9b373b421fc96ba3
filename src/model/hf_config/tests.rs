//! Tests over real configs.

use super::*;

/// Every real config under the fixtures, with its ModelOpt file where there is one.
fn configs() -> Vec<(String, Vec<u8>, Option<Vec<u8>>)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/configs");
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| !path.to_string_lossy().ends_with(".hf_quant_config.json"))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|path| {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let quant = std::fs::read(path.with_file_name(format!("{stem}.hf_quant_config.json"))).ok();
            (stem, std::fs::read(&path).expect("a readable file"), quant)
        })
        .collect()
}

#[test]
fn print_table() {
    let mut table = String::new();
    for (name, config, quant) in configs() {
        let line = match parse_with_quant(&config, quant.as_deref(), &name) {
            Ok(shape) => format!(
                "{:>16} {} {:?} {:?} {:?}",
                shape.parameters,
                shape.tied_embeddings,
                shape.stored_precision,
                shape.quantization.as_ref().map(|q| (
                    q.precision,
                    q.group_size,
                    q.ignored.len(),
                    q.cache_precision
                )),
                shape.tensors.iter().filter_map(|t| t.stored_bytes).sum::<u64>()
            ),
            Err(error) => error.to_string(),
        };
        table.push_str(&format!("{name:55} {line}\n"));
    }
    std::fs::write(std::env::temp_dir().join("table.txt"), &table).expect("written");
}

#[test]
fn llama_is_counted_to_the_parameter() {
    let (name, config, _) =
        configs().into_iter().find(|(name, ..)| name == "meta-llama__Llama-3.1-8B").expect("a fixture");
    let shape = parse(&config, &name).expect("a known architecture");
    assert_eq!(shape.parameters, 8_030_261_248);
    assert_eq!(shape.layers.len(), 32);
}
