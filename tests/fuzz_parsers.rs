//! Gives each parser changed inputs for so many seconds: `fuzz_parsers SECONDS [SEED]`. An input that makes one panic, take long
//! or more than 64 MiB is written to tests/fixtures/fuzz, where a test reads it from then on; with KEEP in the environment, so is
//! the first of each outcome.

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

/// What came of one parser.
struct Report {
    inputs: u64,
    outcomes: u32,
    slowest: Duration,
    /// The most memory that one input took, in bytes, and how long that input was.
    peak: (u64, usize),
    /// Where the input is that failed.
    failed: Option<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(seconds) = arguments.next().and_then(|text| text.parse().ok()) else {
        eprintln!("usage: fuzz_parsers SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let seed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            fuzz::PARSERS.iter().map(|&parser| scope.spawn(move || run(parser, seed, until))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it catches panics")).collect()
    });
    println!("| Parser | Inputs | Outcomes | Slowest | Peak memory of one input |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (parser, report) in fuzz::PARSERS.iter().zip(&reports) {
        let Report { inputs, outcomes, slowest, peak: (peak, length), .. } = report;
        println!(
            "| {} | {inputs} | {outcomes} | {} ms | {} KiB, of {} KiB of input |",
            parser.name,
            slowest.as_millis(),
            peak.div_ceil(1024),
            length.div_ceil(1024)
        );
    }
    if let Some(peak) = peak_kib() {
        println!(
            "The whole process, all parsers at once, with the inputs that it keeps: {} MiB.",
            peak >> 10
        );
    }
    let failed: Vec<&str> = reports.iter().filter_map(|report| report.failed.as_deref()).collect();
    for name in &failed {
        eprintln!("an input is wrongly answered; it is in {name}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(parser: fuzz::Parser, seed: u64, until: Instant) -> Report {
    let mut fuzzer = fuzz::Fuzzer::new(seed, Path::new(CORPUS), parser);
    let mut report = Report { inputs: 0, outcomes: 0, slowest: Duration::ZERO, peak: (0, 0), failed: None };
    while Instant::now() < until {
        let input = fuzzer.next();
        let Ok(taken) = catch_unwind(AssertUnwindSafe(|| parser.take(&input))) else {
            let name = format!("{CORPUS}/crash-{}-{seed}-{}", parser.name.replace(' ', "-"), report.inputs);
            std::fs::write(&name, &input).expect("written");
            report.failed = Some(name);
            break;
        };
        if fuzzer.keep(&input, taken.outcome) && std::env::var_os("KEEP").is_some() {
            std::fs::write(format!("{CORPUS}/{:016x}", taken.outcome), &input).expect("written");
        }
        report.slowest = report.slowest.max(taken.time);
        report.peak = report.peak.max((taken.memory, input.len()));
        report.inputs += 1;
    }
    report.outcomes = fuzzer.outcomes();
    report
}

/// The most memory that this process ever had, on Linux.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}
