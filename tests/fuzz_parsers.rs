//! Gives the parsers changed inputs for so many seconds: `fuzz_parsers SECONDS [SEED]`. An input that makes one panic is
//! written to tests/fixtures/fuzz, where a test reads it from then on; with KEEP in the environment, so is the first of each
//! outcome.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[allow(dead_code)]
#[path = "it/fuzz.rs"]
mod fuzz;
#[allow(dead_code)]
#[path = "it/weights.rs"]
mod weights;

const CORPUS: &str = "tests/fixtures/fuzz";
/// The most memory that the parsers may have taken: inputs are small, so most of it is the corpus.
const MOST_MEMORY_KIB: u64 = 512 << 10;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(seconds) = arguments.next().and_then(|text| text.parse().ok()) else {
        eprintln!("usage: fuzz_parsers SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let seed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut fuzzer = fuzz::Fuzzer::new(seed, Path::new(CORPUS));
    let mut inputs = 0_u64;
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let input = fuzzer.next();
        let started = Instant::now();
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| fuzz::exercise(&input))) else {
            let name = format!("{CORPUS}/crash-{seed}-{inputs}");
            std::fs::write(&name, &input).expect("written");
            eprintln!("input {inputs} of seed {seed} is wrongly answered; it is in {name}");
            return ExitCode::FAILURE;
        };
        if fuzzer.keep(input.clone(), outcome) && std::env::var_os("KEEP").is_some() {
            std::fs::write(format!("{CORPUS}/{outcome:016x}"), &input).expect("written");
        }
        slowest = slowest.max(started.elapsed());
        inputs += 1;
    }
    let peak = peak_kib();
    println!(
        "{inputs} inputs, {} outcomes, slowest {slowest:?}, peak memory {} MiB",
        fuzzer.outcomes(),
        peak.map_or("?".to_owned(), |peak| (peak >> 10).to_string())
    );
    if peak.is_some_and(|peak| peak > MOST_MEMORY_KIB) {
        eprintln!("that is more memory than {} MiB", MOST_MEMORY_KIB >> 10);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The most memory that this process ever had, on Linux.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}
