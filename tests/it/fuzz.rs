//! Mutated inputs for the parsers: none may panic, take long or much memory, or contradict itself. `cargo run --release
//! --example fuzz_parsers -- SECONDS` does this for long; the test here for a moment, from the same start each time.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use loadline::model::{CacheKind, ModelShape, ParseError, gguf, hf_config, safetensors};
use loadline::source::{Settings, SourceRef, Sources};

use crate::weights::{Meta, llama_gguf, safetensors as write_safetensors};

/// The longest that a small input may take; a debug build on a busy machine is slow.
const LONGEST: Duration = Duration::from_secs(5);
/// And so much more for each MiB of it.
const LONGEST_PER_MIB: Duration = Duration::from_secs(1);
/// The most memory that a parser may take for one input, above what was taken before: from the bytes to the model's shape.
pub(crate) const MOST_MEMORY: u64 = 64 << 20;
/// The largest input that is kept for further changes.
const LARGEST: usize = 64 << 10;
/// The largest that an input is blown up to.
const BLOWN_UP: usize = 2 << 20;
/// The most inputs that are kept; more take the place of others.
const MOST_KEPT: usize = 2048;
/// Outcomes that are told apart, as a power of two: a bit for each.
const OUTCOMES: u64 = 1 << 20;
/// The largest ConfigMap or config that is given to the parsers: what reads it reads no more.
const LARGEST_TEXT: usize = 4 << 20;

/// A config that the headers are read with too.
const CONFIG: &[u8] = br#"{"model_type":"llama","hidden_size":512,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":2,"vocab_size":100,"tie_word_embeddings":false,"torch_dtype":"bfloat16"}"#;

/// A parser, from the bytes to the shape of a model.
#[derive(Clone, Copy)]
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    read: fn(&[u8], &mut Outcome),
}

/// Every parser.
pub(crate) const PARSERS: [Parser; 7] = [
    Parser { name: "GGUF header", read: read_gguf },
    Parser {
        name: "safetensors header",
        read: |input, said| read_safetensors(safetensors::parse_header(input), None, said),
    },
    Parser {
        name: "safetensors header and config",
        read: |input, said| read_safetensors(safetensors::parse_header(input), Some(CONFIG), said),
    },
    Parser {
        name: "safetensors header as JSON",
        read: |input, said| read_safetensors(safetensors::parse_header_json(input), None, said),
    },
    Parser {
        name: "safetensors index",
        read: |input, said| {
            said.words(
                safetensors::Index::parse(input).map(|_| String::new()).map_err(|error| error.to_string()),
            );
        },
    },
    Parser { name: "config.json", read: |input, said| said.shape(hf_config::parse(input, "m"), u64::MAX) },
    Parser { name: "ConfigMap", read: read_config_map },
];

/// What became of an input, as a number that tells most outcomes apart.
struct Outcome(DefaultHasher);

impl Outcome {
    fn words(&mut self, outcome: Result<String, String>) {
        // What is quoted of the input is no news: the first dozen words tell.
        let text = outcome.unwrap_or_else(|error| error);
        let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic() || c == ':');
        for word in text.split(' ').filter(plain).take(12) {
            word.hash(&mut self.0);
        }
    }

    fn shape(&mut self, shape: Result<ModelShape, ParseError>, data: u64) {
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => return self.words(Err(error.to_string())),
        };
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
        // Roughly how much of everything there is.
        for much in [shape.parameters, length(&shape.tensors), length(&shape.layers), length(&shape.notes)] {
            much.leading_zeros().hash(&mut self.0);
        }
        let quantised = shape.quantization.map_or("plain", |found| found.precision.as_str());
        self.words(Ok(format!("fine {kind} {}", quantised.replace(|c: char| !c.is_ascii_alphabetic(), ""))));
    }
}

fn length<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).expect("64 bits")
}

fn read_gguf(input: &[u8], said: &mut Outcome) {
    match gguf::parse_header(input) {
        Ok(gguf::Progress::Complete(header)) => {
            said.shape(gguf::shape(std::slice::from_ref(&header), "m"), header.data_bytes);
        }
        Ok(gguf::Progress::NeedsMore { at_least }) => {
            let length = length(input);
            assert!(at_least > length && at_least <= gguf::MAX_HEADER, "{at_least} of {length}");
            said.words(Ok("more".to_owned()));
        }
        Err(error) => said.words(Err(error.to_string())),
    }
}

fn read_safetensors(
    header: Result<safetensors::Header, ParseError>,
    config: Option<&[u8]>,
    said: &mut Outcome,
) {
    match header {
        Ok(header) => {
            let headers = std::slice::from_ref(&header);
            said.shape(safetensors::shape(headers, config, "m"), header.data_bytes);
        }
        Err(error) => said.words(Err(error.to_string())),
    }
}

/// Sources that never use a network.
fn sources() -> &'static Sources {
    static SOURCES: OnceLock<Sources> = OnceLock::new();
    let settings = || Settings { offline: true, proxy_from_environment: false, ..Settings::default() };
    SOURCES.get_or_init(|| Sources::new(settings()).expect("valid"))
}

fn read_config_map(input: &[u8], said: &mut Outcome) {
    if input.len() > LARGEST_TEXT {
        return;
    }
    let source = SourceRef::ConfigMap { bytes: input.to_vec(), name: "m".to_owned() };
    match sources().resolve(&source) {
        Ok(shape) => said.shape(Ok(ModelShape::clone(&shape)), u64::MAX),
        Err(error) => said.words(Err(error.to_string())),
    }
}

/// What an input took of one parser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Tells inputs apart by what became of them: a new one is worth keeping.
    pub(crate) outcome: u64,
    /// The most bytes of memory at one time, above what was taken before.
    pub(crate) memory: u64,
    pub(crate) time: Duration,
}

impl Parser {
    /// Gives an input to the parser.
    ///
    /// # Panics
    /// If it panics, takes long or much memory, or contradicts itself.
    pub(crate) fn take(self, input: &[u8]) -> Taken {
        let taken = self.read(input);
        if let Err(problem) = taken.check(self, input.len()) {
            panic!("{problem}");
        }
        taken
    }

    /// The same, whatever it takes.
    pub(crate) fn read(self, input: &[u8]) -> Taken {
        sources();
        let started = Instant::now();
        let mut outcome = Outcome(DefaultHasher::new());
        let memory = allocation_counter::measure(|| (self.read)(input, &mut outcome)).bytes_max;
        Taken { outcome: outcome.0.finish(), memory, time: started.elapsed() }
    }
}

impl Taken {
    /// Whether an input of so many bytes may take that much.
    pub(crate) fn check(self, parser: Parser, length: usize) -> Result<(), String> {
        let Self { memory, time, .. } = self;
        let name = parser.name;
        let longest = LONGEST + LONGEST_PER_MIB * u32::try_from(length >> 20).expect("short");
        if time > longest {
            return Err(format!("{name}: an input of {length} bytes takes {time:?}"));
        }
        if memory > MOST_MEMORY {
            return Err(format!("{name}: an input of {length} bytes takes {} MiB", memory >> 20));
        }
        Ok(())
    }
}

/// Makes inputs for a parser from inputs, the same ones for the same seed. It never takes more memory than so many inputs.
pub(crate) struct Fuzzer {
    random: u64,
    corpus: Vec<Vec<u8>>,
    /// A bit for each outcome that was seen.
    outcomes: Vec<u64>,
}

impl Fuzzer {
    /// Starts from valid inputs, and from the files of a directory.
    pub(crate) fn new(seed: u64, corpus: &Path, parser: Parser) -> Self {
        let words = usize::try_from(OUTCOMES / 64).expect("small");
        let mut fuzzer = Self { random: seed.max(1), corpus: seeds(), outcomes: vec![0; words] };
        fuzzer.corpus.extend(files(corpus).into_iter().map(|(_, content)| content));
        for input in fuzzer.corpus.clone() {
            fuzzer.is_new(parser.take(&input).outcome);
        }
        fuzzer
    }

    /// How many outcomes were told apart.
    pub(crate) fn outcomes(&self) -> u32 {
        self.outcomes.iter().map(|word| word.count_ones()).sum()
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        let mut input = self.corpus.get(at).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        if self.below(2000) == 0 {
            self.blow_up(&mut input);
        }
        if input.first() != Some(&b'{') && self.below(4) > 0 {
            Self::correct_length(&mut input);
        }
        input
    }

    /// Remembers what became of an input: one of a new outcome is changed further.
    pub(crate) fn keep(&mut self, input: &[u8], outcome: u64) -> bool {
        let new = self.is_new(outcome);
        if new && input.len() <= LARGEST {
            if self.corpus.len() < MOST_KEPT {
                self.corpus.push(input.to_vec());
            } else {
                let at = self.below(MOST_KEPT);
                if let Some(other) = self.corpus.get_mut(at) {
                    *other = input.to_vec();
                }
            }
        }
        new
    }

    fn is_new(&mut self, outcome: u64) -> bool {
        let bit = outcome % OUTCOMES;
        let word = usize::try_from(bit / 64).expect("small");
        let word = self.outcomes.get_mut(word).expect("a word for each");
        let new = *word & (1 << (bit % 64)) == 0;
        *word |= 1 << (bit % 64);
        new
    }

    /// Repeats a piece many times over: what takes memory is length.
    fn blow_up(&mut self, input: &mut Vec<u8>) {
        let from = self.below(input.len() + 1);
        let to = (from + self.below(200) + 1).min(input.len());
        let piece = input.get(from..to).unwrap_or_default().to_vec();
        if piece.is_empty() {
            return;
        }
        let most = BLOWN_UP / piece.len();
        let times = self.below(most + 1) >> self.below(12);
        drop(input.splice(to..to, piece.repeat(times)));
    }

    /// A safetensors file begins with the length of what follows: with a wrong one nothing else is read.
    fn correct_length(input: &mut Vec<u8>) {
        if let Some(length) = input.len().checked_sub(8).filter(|_| input.get(8) == Some(&b'{')) {
            drop(input.splice(..8, u64::try_from(length).expect("64 bits").to_le_bytes()));
        }
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
        for parser in PARSERS {
            let first = parser.take(&input).outcome;
            assert_eq!(parser.take(&input).outcome, first, "{name} is answered differently the second time");
        }
    }
}

#[test]
fn mutated_inputs_are_answered() {
    for parser in PARSERS {
        let mut fuzzer = Fuzzer::new(20_261_124, Path::new("tests/fixtures/fuzz"), parser);
        let at_first = fuzzer.outcomes();
        for _ in 0..3000 {
            let input = fuzzer.next();
            let outcome = parser.take(&input).outcome;
            fuzzer.keep(&input, outcome);
        }
        let outcomes = fuzzer.outcomes();
        assert!(outcomes > at_first + 5, "{}: {outcomes} outcomes: the changes lead nowhere", parser.name);
    }
}
