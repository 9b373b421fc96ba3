//! What the running controller says of itself: logs, metrics and health.

mod admission;
pub mod health;
pub mod logs;
pub mod metrics;
mod plain;
mod process;
pub mod scraped;

pub use admission::AdmissionMetrics;
pub use health::Health;
pub use metrics::Metrics;
pub use scraped::{Figures, Scraped, Shown};
