//! Mutated inputs for the parsers: none may panic, take long, or contradict itself. `cargo run --release --example
//! fuzz_parsers -- SECONDS` does this for long; the test here for a moment, from the same start each time.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

use loadline::model::{CacheKind, ModelShape, gguf, hf_config, safetensors};

use crate::weights::{Meta, llama_gguf, safetensors as write_safetensors};

/// The longest that an input may take; a debug build on a busy machine is slow.
const LONGEST: Duration = Duration::from_secs(5);
/// The largest input that is kept for further changes.
const LARGEST: usize = 64 << 10;

/// A config that the headers are read with too.
const CONFIG: &[u8] = br#"{"model_type":"llama","hidden_size":512,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":2,"vocab_size":100,"tie_word_embeddings":false,"torch_dtype":"bfloat16"}"#;

/// Gives an input to every parser. The answer tells inputs apart by what became of them: a new one is worth keeping.
///
/// # Panics
/// If a parser panics, takes long, or contradicts itself.
pub(crate) fn exercise(input: &[u8]) -> u64 {
    let started = Instant::now();
    let mut signature = DefaultHasher::new();
    let mut said = |parser: &str, outcome: Result<String, String>| {
        parser.hash(&mut signature);
        // What is quoted of the input is no news: the first words tell.
        let text = outcome.unwrap_or_else(|error| error);
        for word in
            text.split(' ').filter(|word| word.chars().all(|c| c.is_ascii_alphabetic() || c == ':')).take(7)
        {
            word.hash(&mut signature);
        }
    };
    let shape = |shape: Result<ModelShape, loadline::model::ParseError>, data: u64| match shape {
        Ok(shape) => {
            let stored =
                shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).fold(0, u64::saturating_add);
            assert!(stored <= data, "{stored} bytes of tensors in {data} bytes of data");
            let attention = shape.layers.first().and_then(|layer| layer.attention);
            let kind = match attention.map(|attention| attention.cache) {
                None => "none",
                Some(CacheKind::Heads { .. }) => "heads",
                Some(CacheKind::Latent { .. }) => "latent",
                Some(_) => "others",
            };
            let quantised = shape.quantization.map_or("plain", |found| found.precision.as_str());
            Ok(format!("fine {kind} {}", quantised.replace(|c: char| !c.is_ascii_alphabetic(), "")))
        }
        Err(error) => Err(error.to_string()),
    };
    let length = u64::try_from(input.len()).expect("64 bits");
    match gguf::parse_header(input) {
        Ok(gguf::Progress::Complete(header)) => {
            said("gguf", shape(gguf::shape(std::slice::from_ref(&header), "m"), header.data_bytes));
        }
        Ok(gguf::Progress::NeedsMore { at_least }) => {
            assert!(at_least > length && at_least <= gguf::MAX_HEADER, "{at_least} of {length}");
            said("gguf", Ok("more".to_owned()));
        }
        Err(error) => said("gguf", Err(error.to_string())),
    }
    for header in [safetensors::parse_header(input), safetensors::parse_header_json(input)] {
        match header {
            Ok(header) => {
                let headers = std::slice::from_ref(&header);
                said("safetensors", shape(safetensors::shape(headers, None, "m"), header.data_bytes));
                said("with config", shape(safetensors::shape(headers, Some(CONFIG), "m"), header.data_bytes));
            }
            Err(error) => said("safetensors", Err(error.to_string())),
        }
    }
    said("index", safetensors::Index::parse(input).map(|_| String::new()).map_err(|error| error.to_string()));
    said("config", shape(hf_config::parse(input, "m"), u64::MAX));
    let took = started.elapsed();
    assert!(took < LONGEST, "an input of {length} bytes took {took:?}");
    signature.finish()
}

/// Makes inputs from inputs, the same ones for the same seed.
pub(crate) struct Fuzzer {
    random: u64,
    corpus: Vec<Vec<u8>>,
    /// How often each outcome was seen.
    outcomes: BTreeMap<u64, u64>,
}

impl Fuzzer {
    /// Starts from valid inputs, and from the files of a directory.
    pub(crate) fn new(seed: u64, corpus: &Path) -> Self {
        let mut fuzzer = Self { random: seed.max(1), corpus: seeds(), outcomes: BTreeMap::new() };
        fuzzer.corpus.extend(files(corpus).into_iter().map(|(_, content)| content));
        for input in fuzzer.corpus.clone() {
            fuzzer.count(&input);
        }
        fuzzer
    }

    /// How many outcomes were told apart.
    pub(crate) fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        let mut input = self.corpus.get(at).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input
    }

    /// Remembers what became of an input: one of a new outcome is changed further.
    pub(crate) fn keep(&mut self, input: Vec<u8>, outcome: u64) -> bool {
        let seen = self.outcomes.entry(outcome).or_default();
        *seen += 1;
        let new = *seen == 1;
        if new && input.len() <= LARGEST {
            self.corpus.push(input);
        }
        new
    }

    fn count(&mut self, input: &[u8]) {
        *self.outcomes.entry(exercise(input)).or_default() += 1;
    }

    /// Marsaglia's xorshift.
    fn number(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn below(&mut self, most: usize) -> usize {
        let most = u64::try_from(most.max(1)).expect("64 bits");
        usize::try_from(self.number() % most).expect("below a usize")
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let length = input.len();
        let at = self.below(length + 1);
        let some = self.below(16) + 1;
        let end = (at + some).min(length);
        let byte = u8::try_from(self.number() & 0xff).expect("a byte");
        match self.below(9) {
            0 => drop(input.splice(at..end, [])),
            1 => drop(input.splice(at..at, vec![byte; some])),
            2 => {
                if let Some(bit) = input.get_mut(at) {
                    *bit ^= 1 << (byte & 7);
                }
            }
            // Numbers at which something ends.
            3 | 4 => {
                let edges = [
                    0,
                    1,
                    0x7f,
                    0xff,
                    0xffff,
                    1 << 20,
                    1 << 31,
                    u64::from(u32::MAX),
                    1 << 40,
                    1 << 62,
                    u64::MAX,
                ];
                let edge =
                    edges.get(self.below(edges.len())).copied().unwrap_or(0).wrapping_sub(self.number() & 1);
                let width =
                    [1, 2, 4, 8].get(self.below(4)).copied().unwrap_or(8).min(length - at.min(length));
                let bytes = edge.to_le_bytes();
                drop(input.splice(at..at + width, bytes.iter().copied().take(width)));
            }
            5 => {
                let words: [&[u8]; 14] = [
                    b"99999999999999999999",
                    b"-1",
                    b"0",
                    b"1e9",
                    b"null",
                    b"[",
                    b"{",
                    b"\"",
                    b",",
                    b"\\u0000",
                    b".scales",
                    b".qweight",
                    b"experts.",
                    b"\xff\xfe",
                ];
                let word = words.get(self.below(words.len())).copied().unwrap_or_default();
                drop(input.splice(at..at, word.iter().copied()));
            }
            // A piece of the same input.
            6 => {
                let piece: Vec<u8> = input.get(at..end).unwrap_or_default().to_vec();
                let to = self.below(length + 1);
                drop(input.splice(to..to, piece));
            }
            // The end of another.
            7 => {
                let other = self.below(self.corpus.len());
                let other = self.corpus.get(other).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend(other.get(from..).unwrap_or_default());
            }
            _ => input.truncate(at),
        }
    }
}

/// The files of a directory, by name.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .expect("the corpus")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("readable")))
        .collect();
    files.sort();
    files
}

/// Valid inputs of each format.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        llama_gguf(1, 4).bytes(),
        llama_gguf(2, 2)
            .meta("llama.attention.sliding_window", &Meta::U32(128))
            .meta("llama.attention.sliding_window_pattern", &Meta::Flags(&[true, false]))
            .meta("llama.expert_count", &Meta::U32(4))
            .tensor("blk.1.ffn_up_exps.weight", 39, (32, 17), &[64, 32, 4])
            .bytes(),
        br#"{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#.to_vec(),
        CONFIG.to_vec(),
    ];
    let tables: [&[(&str, &str, &[u64])]; 3] = [
        &[
            ("model.embed_tokens.weight", "BF16", &[100, 512]),
            ("model.layers.0.self_attn.k_proj.weight", "F8_E4M3", &[128, 512]),
            ("model.layers.0.self_attn.k_proj.weight_scale_inv", "F32", &[1, 4]),
            ("model.layers.0.mlp.up_proj.qweight", "I32", &[64, 64]),
            ("model.layers.0.mlp.up_proj.qzeros", "I32", &[4, 8]),
            ("model.layers.0.mlp.up_proj.scales", "F16", &[4, 64]),
            ("lm_head.weight", "BF16", &[100, 512]),
        ],
        &[
            ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "BF16", &[576, 8]),
            ("model.layers.0.mlp.experts.0.up_proj.weight", "U8", &[8, 16]),
            ("model.layers.0.mlp.experts.0.up_proj.weight_scale", "F8_E4M3", &[8, 2]),
            ("model.layers.0.mlp.experts.1.up_proj.weight", "U8", &[8, 16]),
        ],
        &[("model.layers.0.mlp.experts.gate_up_proj_blocks", "U8", &[4, 8, 2, 16]), ("x", "F4", &[2])],
    ];
    for table in tables {
        let file = write_safetensors(table);
        seeds.push(file.get(8..).unwrap_or_default().to_vec());
        seeds.push(file);
    }
    seeds
}

#[test]
fn inputs_that_were_once_of_interest_are_still_answered() {
    let corpus = files(Path::new("tests/fixtures/fuzz"));
    assert!(corpus.len() > 20, "{} files", corpus.len());
    for (name, input) in corpus {
        let first = exercise(&input);
        assert_eq!(exercise(&input), first, "{name} is answered differently the second time");
    }
}

#[test]
fn mutated_inputs_are_answered() {
    let mut fuzzer = Fuzzer::new(20_261_124, Path::new("tests/fixtures/fuzz"));
    for _ in 0..10_000 {
        let input = fuzzer.next();
        let outcome = exercise(&input);
        fuzzer.keep(input, outcome);
    }
    assert!(fuzzer.outcomes() > 50, "{} outcomes: the changes lead nowhere", fuzzer.outcomes());
}
