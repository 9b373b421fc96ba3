//! Metrics, in the OpenMetrics text format.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::AdmissionMetrics;
use crate::decide::Reason;

/// One label: its name and value, both from closed lists, so that the number of series is bounded.
type Label = [(&'static str, &'static str); 1];

/// Upper bounds of the reconcile histogram, in seconds: 1 ms to 16 s.
const SECONDS: [f64; 8] = [0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Label, Counter>,
    durations: Histogram,
    errors: Family<Label, Counter>,
    decisions: Family<Label, Gauge>,
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
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("loadline");
        let reconciles = Family::<Label, Counter>::default();
        registry.register("reconciles", "Reconciles, by result", reconciles.clone());
        let durations = Histogram::new(SECONDS);
        registry.register("reconcile_duration_seconds", "How long a reconcile took", durations.clone());
        let errors = Family::<Label, Counter>::default();
        registry.register("errors", "Reconciles that failed, by what failed", errors.clone());
        let decisions = Family::<Label, Gauge>::default();
        registry.register(
            "model_deployments",
            "ModelDeployments, by the reason of their decision",
            decisions.clone(),
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
        let admission = AdmissionMetrics::register(&mut registry);
        Self {
            registry,
            reconciles,
            durations,
            errors,
            decisions,
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

    /// An object had one reason, and now has another; `None` before it is seen, and after it is gone.
    pub fn decided(&self, before: Option<Reason>, after: Option<Reason>) {
        if let Some(reason) = before {
            self.decisions.get_or_create(&[("reason", reason.as_str())]).dec();
        }
        if let Some(reason) = after {
            self.decisions.get_or_create(&[("reason", reason.as_str())]).inc();
        }
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

    #[test]
    fn everything_counted_is_in_the_exposition() {
        let metrics = Metrics::default();
        metrics.reconciled(Duration::from_millis(3), None);
        metrics.reconciled(Duration::from_millis(3), Some("status"));
        metrics.decided(None, Some(Reason::GpusBusy));
        metrics.decided(Some(Reason::GpusBusy), Some(Reason::FitsNow));
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
        let text = metrics.exposition().unwrap();
        for line in [
            "loadline_reconciles_total{result=\"ok\"} 1",
            "loadline_reconciles_total{result=\"error\"} 1",
            "loadline_errors_total{category=\"status\"} 1",
            "loadline_model_deployments{reason=\"FitsNow\"} 1",
            "loadline_model_deployments{reason=\"GpusBusy\"} 0",
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
    }
}
