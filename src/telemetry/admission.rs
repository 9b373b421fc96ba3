//! What the webhooks count.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Label = [(&'static str, &'static str); 1];

/// Upper bounds of the histogram, in seconds: a quarter of a millisecond to four seconds.
const SECONDS: [f64; 9] = [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 4.0];

/// What the webhooks count.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    reviews: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    durations: Histogram,
    panics: Counter,
    expiry: Gauge,
    certificate_errors: Counter,
}

impl AdmissionMetrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            refused: Family::default(),
            durations: Histogram::new(SECONDS),
            panics: Counter::default(),
            expiry: Gauge::default(),
            certificate_errors: Counter::default(),
        };
        registry.register("admission_reviews", "Reviews answered, by answer", metrics.reviews.clone());
        registry.register(
            "admission_requests_refused",
            "Requests and connections that were no proper question, by what was wrong",
            metrics.refused.clone(),
        );
        registry.register(
            "admission_duration_seconds",
            "How long an answer took, from the last byte of the question",
            metrics.durations.clone(),
        );
        registry.register(
            "admission_panics",
            "Questions that were answered with 500 for a defect",
            metrics.panics.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the webhooks' certificate ends, in seconds since 1970; 0 while there is none",
            metrics.expiry.clone(),
        );
        registry.register(
            "certificate_errors",
            "Times that a certificate could not be read, made or published; the one before stays in use",
            metrics.certificate_errors.clone(),
        );
        metrics
    }

    /// A review was answered.
    pub fn reviewed(&self, answer: &'static str) {
        self.reviews.get_or_create(&[("answer", answer)]).inc();
    }

    /// A request or connection was refused.
    pub fn refused(&self, why: &'static str) {
        self.refused.get_or_create(&[("why", why)]).inc();
    }

    /// An answer took so long.
    pub fn answered(&self, took: Duration) {
        self.durations.observe(took.as_secs_f64());
    }

    /// Answering broke off by a defect.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A certificate that ends then is served.
    pub fn serves_until(&self, seconds: i64) {
        self.expiry.set(seconds);
    }

    /// A certificate could not be read, made or published.
    pub fn certificate_failed(&self) {
        self.certificate_errors.inc();
    }
}
