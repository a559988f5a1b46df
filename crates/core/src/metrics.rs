//! Counters that the data plane raises and the control plane reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The counters of one operator in one worker process; shared by its instances.
#[derive(Debug, Default)]
pub struct OperatorMetrics {
    /// Rows that came in (for a source: that it read).
    pub rows_in: AtomicU64,
    /// Rows that went out (for a sink: that it wrote).
    pub rows_out: AtomicU64,
    /// Rows dropped because event time had passed what they belong to.
    pub late_rows: AtomicU64,
    /// Records that could not be decoded and were skipped or written to the dead-letter file.
    pub bad_records: AtomicU64,
    /// Calls to another system that failed and were made again.
    pub retries: AtomicU64,
    /// The lowest watermark of its instances, milliseconds; `i64::MIN` before the first.
    pub watermark_ms: AtomicI64,
}

/// Shared counters.
pub type MetricsRef = Arc<OperatorMetrics>;

/// Adds to a counter.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
