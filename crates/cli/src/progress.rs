//! The progress line of a running job and the summary of one that ended; both to stderr.

use millstream_control::supervisor::Status;
use millstream_core::Watermark;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Which nodes count as input and output.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Ids of source nodes.
    pub sources: BTreeSet<String>,
    /// Ids of sink nodes.
    pub sinks: BTreeSet<String>,
}

/// Sums of a job's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Late rows dropped.
    pub late: u64,
    /// Records passed over.
    pub bad: u64,
    /// Bytes of state.
    pub state_bytes: u64,
    /// The lowest watermark; `i64::MIN`: none.
    pub watermark_ms: i64,
}

impl Totals {
    /// Of this status.
    pub fn of(status: &Status, roles: &Roles) -> Totals {
        let mut totals = Totals { watermark_ms: i64::MAX, ..Totals::default() };
        for (id, node) in status.progress.iter().flat_map(|p| &p.nodes) {
            if roles.sources.contains(id) {
                totals.rows_in += node.rows_in.max(node.rows_out);
                totals.watermark_ms = totals.watermark_ms.min(node.watermark_ms);
            }
            if roles.sinks.contains(id) {
                totals.rows_out += node.rows_in.max(node.rows_out);
            }
            totals.late += node.late_rows;
            totals.bad += node.bad_records;
            totals.state_bytes += node.state_bytes;
        }
        if totals.watermark_ms == i64::MAX {
            totals.watermark_ms = i64::MIN;
        }
        totals
    }
}

/// Draws the progress line, on a terminal only.
pub struct ProgressLine {
    roles: Roles,
    terminal: bool,
    last: Option<(Instant, Totals)>,
    width: usize,
}

impl ProgressLine {
    /// A line for a job with these roles; nothing is drawn if `quiet`.
    pub fn new(roles: Roles, quiet: bool) -> Self {
        ProgressLine { roles, terminal: !quiet && std::io::stderr().is_terminal(), last: None, width: 0 }
    }

    /// Draws what has changed.
    pub fn update(&mut self, status: &Status, now_ms: i64) {
        if !self.terminal {
            return;
        }
        let totals = Totals::of(status, &self.roles);
        let now = Instant::now();
        let (rate_in, rate_out) = match &self.last {
            Some((then, before)) => {
                let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
                (rate(totals.rows_in, before.rows_in, seconds), rate(totals.rows_out, before.rows_out, seconds))
            }
            None => (0.0, 0.0),
        };
        self.last = Some((now, totals));
        let watermark = Watermark(totals.watermark_ms);
        let lag = match watermark {
            Watermark::MIN | Watermark::MAX => String::new(),
            Watermark(ms) => format!(" ({:.1} s behind)", (now_ms - ms) as f64 / 1000.0),
        };
        let checkpoint = match status.last_checkpoint_ms {
            Some(at) => format!("{:.1} s ago, {} B", (now_ms - at) as f64 / 1000.0, status.last_checkpoint_bytes),
            None => "none yet".into(),
        };
        let line = format!(
            "{rate_in:.0} rows/s in, {rate_out:.0} out | watermark {watermark}{lag} | checkpoint {checkpoint} | state {} B",
            totals.state_bytes
        );
        eprint!("\r{line:width$}", width = self.width);
        self.width = line.len();
        let _ = std::io::stderr().flush();
    }

    /// Clears the line.
    pub fn clear(&mut self) {
        if self.terminal && self.width > 0 {
            eprint!("\r{:width$}\r", "", width = self.width);
            let _ = std::io::stderr().flush();
        }
    }
}

fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

/// `1,234,567`
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(super::thousands(0), "0");
        assert_eq!(super::thousands(999), "999");
        assert_eq!(super::thousands(1_234_567), "1,234,567");
    }
}
