//! What every process says of itself, under the names that Prometheus' own libraries use, and which build this is.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks of a second in `/proc/PID/stat`: the same on every architecture, whatever the kernel's own clock does (time(7), `USER_HZ`).
const TICKS: f64 = 100.0;
/// Bytes of a page, where the auxiliary vector does not say otherwise.
const PAGE: u64 = 4096;

/// The process, by `/proc`; nothing where there is none.
#[derive(Debug)]
pub(super) struct Process;

/// What `/proc` says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    started_ticks: f64,
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)): the name in it may hold anything, so fields are counted behind its end.
fn read(stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // The first of them is the third of the page.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let whole = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Seen {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        started_ticks: field(22)?,
        virtual_bytes: whole(23)?,
        resident_bytes: whole(24)?.saturating_mul(PAGE),
    })
}

/// Seconds since 1970 at which the machine started.
fn booted(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        let Some(seen) = stat.as_deref().and_then(read) else { return Ok(()) };
        let cpu = ConstCounter::new(seen.cpu_seconds);
        let help = "CPU time of the process, in seconds";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?)?;
        #[allow(clippy::cast_precision_loss)]
        let bytes = |amount: u64| amount as f64;
        let help = "Memory of the process that is in RAM";
        gauge(&mut encoder, "process_resident_memory_bytes", help, bytes(seen.resident_bytes))?;
        let help = "Address space of the process";
        gauge(&mut encoder, "process_virtual_memory_bytes", help, bytes(seen.virtual_bytes))?;
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let open = u64::try_from(open.count()).unwrap_or(u64::MAX);
            gauge(&mut encoder, "process_open_fds", "Files that the process has open", bytes(open))?;
        }
        let machine = std::fs::read_to_string("/proc/stat").ok();
        if let Some(booted) = machine.as_deref().and_then(booted) {
            let help = "When the process started, in seconds since 1970";
            let started = booted + seen.started_ticks / TICKS;
            gauge(&mut encoder, "process_start_time_seconds", help, started)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_moves_no_field() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 5 0 12345 1048576 300 1844 0 0";
        let seen = Seen {
            cpu_seconds: 3.0,
            resident_bytes: 300 * 4096,
            virtual_bytes: 1_048_576,
            started_ticks: 12_345.0,
        };
        assert_eq!(read(stat), Some(seen));
        for cut in ["", "42 (a", "42 (a) S 1 2"] {
            assert_eq!(read(cut), None, "{cut}");
        }
        assert_eq!(booted("cpu 1 2\nbtime 1700000000\nprocesses 9"), Some(1_700_000_000.0));
    }
}
