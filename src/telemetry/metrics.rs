//! Metrics, in the OpenMetrics text format.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::process::Process;
use super::{AdmissionMetrics, Scraped};

/// One label: its name and value, both from closed lists, so that the number of series is bounded.
type Label = [(&'static str, &'static str); 1];

/// Upper bounds of the reconcile histogram, in seconds: 1 ms to 16 s.
const SECONDS: [f64; 8] = [0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0];
/// Upper bounds of what a model's read and a decision take, in seconds: 10 ms to ten minutes.
const LONG: [f64; 9] = [0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Label, Counter>,
    durations: Histogram,
    errors: Family<Label, Counter>,
    queued: Gauge,
    to_decision: Histogram,
    model_reads: Family<Label, Counter>,
    model_read_durations: Histogram,
    status_writes: Counter,
    workload_writes: Counter,
    events: Family<Label, Counter>,
    watch_errors: Family<Label, Counter>,
    wakes: Counter,
    panics: Counter,
    estimates_exceeded: Counter,
    stored_shapes: Gauge,
    stored_bytes: Gauge,
    leads: Gauge,
    /// What the webhooks count.
    pub admission: AdmissionMetrics,
    /// The objects and the GPUs that there are.
    pub scraped: Arc<Scraped>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process));
        let registry = all.sub_registry_with_prefix("loadline");
        let scraped = Arc::new(Scraped::default());
        registry.register_collector(Box::new(Arc::clone(&scraped)));
        let build = Family::<Label, Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "1, with the version that runs", build);
        let reconciles = Family::<Label, Counter>::default();
        registry.register("reconciles", "Reconciles, by result", reconciles.clone());
        let durations = Histogram::new(SECONDS);
        registry.register("reconcile_duration_seconds", "How long a reconcile took", durations.clone());
        let errors = Family::<Label, Counter>::default();
        registry.register("errors", "Reconciles that failed, by what failed", errors.clone());
        let queued = Gauge::default();
        registry.register(
            "reconciles_under_way",
            "Reconciles that wait for their turn or have it",
            queued.clone(),
        );
        let to_decision = Histogram::new(LONG);
        registry.register(
            "time_to_decision_seconds",
            "From when a spec was first seen to when a status about it was written",
            to_decision.clone(),
        );
        let model_reads = Family::<Label, Counter>::default();
        registry.register("model_reads", "Models read from afar, by result", model_reads.clone());
        let model_read_durations = Histogram::new(LONG);
        registry.register(
            "model_read_duration_seconds",
            "How long it took to read a model from afar, waiting for a turn included",
            model_read_durations.clone(),
        );
        let status_writes = Counter::default();
        registry.register("status_writes", "Status updates written", status_writes.clone());
        let workload_writes = Counter::default();
        registry.register("workload_writes", "Deployments applied or deleted", workload_writes.clone());
        let events = Family::<Label, Counter>::default();
        registry.register("events", "Events published, by type", events.clone());
        let watch_errors = Family::<Label, Counter>::default();
        registry.register("watch_errors", "Watches that failed, by what was watched", watch_errors.clone());
        let wakes = Counter::default();
        registry.register(
            "wakes",
            "ModelDeployments reconciled because the cluster has changed",
            wakes.clone(),
        );
        let panics = Counter::default();
        registry.register(
            "panics",
            "Plans that broke off by a defect; each concerns one ModelDeployment",
            panics.clone(),
        );
        let estimates_exceeded = Counter::default();
        registry.register(
            "estimates_exceeded",
            "Times that a ModelDeployment came to have a pod that ended for want of GPU memory",
            estimates_exceeded.clone(),
        );
        let stored_shapes = Gauge::default();
        registry.register("stored_models", "Models whose shapes are kept", stored_shapes.clone());
        let stored_bytes = Gauge::default();
        registry.register("stored_model_bytes", "Memory that their shapes take", stored_bytes.clone());
        let leads = Gauge::default();
        registry.register("leads", "1 while this replica is the one that writes", leads.clone());
        let admission = AdmissionMetrics::register(registry);
        Self {
            registry: all,
            scraped,
            reconciles,
            durations,
            errors,
            queued,
            to_decision,
            model_reads,
            model_read_durations,
            status_writes,
            workload_writes,
            events,
            watch_errors,
            wakes,
            panics,
            estimates_exceeded,
            stored_shapes,
            stored_bytes,
            leads,
            admission,
        }
    }
}

impl Metrics {
    /// A reconcile ended: without an error, or with one of a category.
    pub fn reconciled(&self, took: Duration, error: Option<&'static str>) {
        let result = if error.is_some() { "error" } else { "ok" };
        self.reconciles.get_or_create(&[("result", result)]).inc();
        self.durations.observe(took.as_secs_f64());
        if let Some(category) = error {
            self.errors.get_or_create(&[("category", category)]).inc();
        }
    }

    /// A reconcile is asked for, and waits for its turn.
    pub fn queued(&self) {
        self.queued.inc();
    }

    /// A reconcile is over.
    pub fn dequeued(&self) {
        self.queued.dec();
    }

    /// A spec was first seen so long before a status about it was written.
    pub fn decided_after(&self, took: Duration) {
        self.to_decision.observe(took.as_secs_f64());
    }

    /// A model was read from afar, or could not be.
    pub fn model_read(&self, took: Duration, result: &'static str) {
        self.model_reads.get_or_create(&[("result", result)]).inc();
        self.model_read_durations.observe(took.as_secs_f64());
    }

    /// A status was written.
    pub fn status_written(&self) {
        self.status_writes.inc();
    }

    /// A Deployment was applied or deleted.
    pub fn workload_written(&self) {
        self.workload_writes.inc();
    }

    /// An event was published.
    pub fn event(&self, kind: &'static str) {
        self.events.get_or_create(&[("type", kind)]).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, what: &'static str) {
        self.watch_errors.get_or_create(&[("watched", what)]).inc();
    }

    /// An object is reconciled because the cluster has changed.
    pub fn woken(&self) {
        self.wakes.inc();
    }

    /// Planning an object panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A pod ended for want of GPU memory: its model took more than was estimated.
    pub fn estimate_exceeded(&self) {
        self.estimates_exceeded.inc();
    }

    /// So many shapes of models are kept, and take so many bytes.
    pub fn stored(&self, shapes: usize, bytes: u64) {
        self.stored_shapes.set(i64::try_from(shapes).unwrap_or(i64::MAX));
        self.stored_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// This replica is the one that writes, or is not.
    pub fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    /// All of it, as text.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::cluster;
    use crate::inventory::testing::gpu_node;
    use crate::telemetry::{Figures, Shown, plain};

    /// Metrics of which each has counted something.
    fn counted() -> Metrics {
        let metrics = Metrics::default();
        metrics.reconciled(Duration::from_millis(3), None);
        metrics.reconciled(Duration::from_millis(3), Some("status"));
        metrics.queued();
        metrics.queued();
        metrics.dequeued();
        metrics.decided_after(Duration::from_secs(2));
        metrics.model_read(Duration::from_millis(300), "ok");
        metrics.model_read(Duration::from_secs(90), "error");
        metrics.status_written();
        metrics.workload_written();
        metrics.event("Warning");
        metrics.watch_failed("nodes");
        metrics.woken();
        metrics.panicked();
        metrics.estimate_exceeded();
        metrics.stored(3, 4096);
        metrics.leads(true);
        metrics.admission.reviewed("denied");
        metrics.admission.refused("malformed");
        metrics.admission.answered(Duration::from_micros(700));
        metrics.admission.panicked();
        metrics.admission.serves_until(7);
        metrics.admission.certificate_failed();
        let figures = Some(Figures { needs: 7, estimated: 5, gpus: 2, fits: 3 });
        let shown = Shown { ready: "True".to_owned(), reason: "Available".to_owned(), figures };
        metrics.scraped.shows(&("team".to_owned(), "llama".to_owned()), shown);
        metrics.scraped.cluster(&cluster(vec![gpu_node("a", 81_920, 4)], Vec::new()), 1);
        metrics
    }

    /// `docs/metrics.md`: what each is called, what kind it is, its labels and what it says.
    #[test]
    fn the_page_of_metrics_is_as_the_code_has_them() {
        let text = plain::of(&counted().exposition().unwrap()).unwrap();
        let mut rows = Vec::new();
        let mut help = "";
        for line in text.lines() {
            if let Some((_, words)) = line.strip_prefix("# HELP ").and_then(|said| said.split_once(' ')) {
                help = words.trim_end_matches('.');
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' '))
            {
                let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
                let labels = sample.map(|sample| sample.split('}').next().unwrap_or_default());
                let labels = labels.unwrap_or_default().split(',').filter_map(|label| label.split_once('='));
                let labels: Vec<String> = labels.map(|(label, _)| format!("`{label}`")).collect();
                rows.push(format!("| `{name}` | {kind} | {} | {help} |", labels.join(", ")));
            }
        }
        rows.sort();
        let page = format!(
            "# Metrics\n\nServed at `/metrics`, in OpenMetrics or, where `Accept` prefers `text/plain`, in Prometheus' own text format. Every replica \
             serves them; those of objects are the leader's, so take the `max` over replicas. Made from the code by \
             `UPDATE=1 cargo test --lib telemetry`.\n\n| name | kind | labels | what it says |\n| --- | --- | --- | --- |\n{}\n",
            rows.join("\n")
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page);
    }

    #[test]
    fn everything_counted_is_in_the_exposition() {
        let text = counted().exposition().unwrap();
        for line in [
            "loadline_reconciles_total{result=\"ok\"} 1",
            "loadline_reconciles_total{result=\"error\"} 1",
            "loadline_errors_total{category=\"status\"} 1",
            "loadline_reconciles_under_way 1",
            "loadline_time_to_decision_seconds_bucket{le=\"5.0\"} 1",
            "loadline_model_reads_total{result=\"error\"} 1",
            "loadline_model_read_duration_seconds_count 2",
            concat!("loadline_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "loadline_status_writes_total 1",
            "loadline_workload_writes_total 1",
            "loadline_events_total{type=\"Warning\"} 1",
            "loadline_watch_errors_total{watched=\"nodes\"} 1",
            "loadline_wakes_total 1",
            "loadline_panics_total 1",
            "loadline_estimates_exceeded_total 1",
            "loadline_stored_models 3",
            "loadline_stored_model_bytes 4096",
            "loadline_reconcile_duration_seconds_count 2",
            "loadline_leads 1",
            "loadline_admission_reviews_total{answer=\"denied\"} 1",
            "loadline_admission_requests_refused_total{why=\"malformed\"} 1",
            "loadline_admission_duration_seconds_bucket{le=\"0.001\"} 1",
            "loadline_admission_panics_total 1",
            "loadline_certificate_expiry_timestamp_seconds 7",
            "loadline_certificate_errors_total 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        for process in
            ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_start_time_seconds "]
        {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(process))
                .unwrap_or_else(|| panic!("{process}\n{text}"));
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{process}{value}");
        }
    }
}
