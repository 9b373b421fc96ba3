//! When nothing changes, nothing is written.

use std::time::{Duration, Instant};

use serde_json::json;

use super::scenario::{SETTLED, scenario};

/// `make idle` watches for ten minutes.
fn window() -> Duration {
    let seconds = std::env::var("LOADLINE_IDLE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[test]
fn a_quiet_cluster_sees_no_write() {
    scenario("idle", |s| {
        let objects = [
            ("runs", json!({"model": {"parameters": "8B"}, "precision": "int4"})),
            ("waits", json!({"model": {"parameters": "70B"}, "precision": "bf16"})),
            ("estimate", json!({"model": {"parameters": "8B"}, "engine": {"name": "none"}})),
            ("invalid", json!({"model": {"catalog": "llama-3.1-8b"}, "parallelism": {"tensor": 3}})),
        ];
        for (name, spec) in &objects {
            s.apply(name, spec);
        }
        s.wait_ready("runs", "True", "Available");
        s.wait_ready("waits", "False", "GpuMemoryTooSmall");
        s.wait_ready("invalid", "False", "InvalidSpec");
        let mark = s.wait_quiet(SETTLED);
        let began = Instant::now();
        // Until the window is over, or something is written.
        while began.elapsed() < window() {
            assert_eq!(s.writes_since(mark).unwrap(), Vec::<String>::new(), "after {:?}", began.elapsed());
            std::thread::sleep(Duration::from_secs(1));
        }
        // The controller is alive, and would have written.
        s.run(["cordon", "t4"]);
        s.wait_node("runs", "t4", "NodeCordoned");
        assert!(!s.writes_since(mark).unwrap().is_empty());
    });
}
