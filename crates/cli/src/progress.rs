//! The progress line of a running job and the summary of one that ended; both to stderr.

use millstream_control::supervisor::Status;
use millstream_core::Watermark;
use std::collections::{BTreeSet, VecDeque};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

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
    /// Calls to other systems that were made again.
    pub retries: u64,
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
            totals.retries += node.retries;
        }
        if totals.watermark_ms == i64::MAX {
            totals.watermark_ms = i64::MIN;
        }
        totals
    }
}

/// Over how long rates are taken.
const RATE_OVER: Duration = Duration::from_secs(2);

/// Columns from which on the watermark itself is shown.
const WIDE: usize = 108;

/// How often a person is told at most that calls to other systems fail.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Draws the progress line, on a terminal only; says everywhere that the job waits for others.
pub struct ProgressLine {
    roles: Roles,
    terminal: bool,
    told: Option<(Instant, u64)>,
    samples: VecDeque<(Instant, Totals)>,
    drawn: bool,
}

impl ProgressLine {
    /// A line for a job with these roles; nothing is drawn if `quiet`.
    pub fn new(roles: Roles, quiet: bool) -> Self {
        let terminal = !quiet && std::io::stderr().is_terminal();
        ProgressLine { roles, terminal, told: None, samples: VecDeque::new(), drawn: false }
    }

    /// Draws what has changed.
    pub fn update(&mut self, status: &Status, now_ms: i64) {
        let totals = Totals::of(status, &self.roles);
        let now = Instant::now();
        let is_due = self.told.is_none_or(|(at, retries)| now - at >= TELL_EVERY && totals.retries > retries);
        if totals.retries > 0 && is_due {
            self.told = Some((now, totals.retries));
            self.clear();
            eprintln!("warning: {} calls to other systems have failed and are made again", thousands(totals.retries));
        }
        if !self.terminal {
            return;
        }
        self.samples.push_back((now, totals));
        while self.samples.len() > 2 && self.samples[1].0 + RATE_OVER <= now {
            self.samples.pop_front();
        }
        let (then, before) = self.samples[0];
        let seconds = now.duration_since(then).as_secs_f64();
        // The last column is left free, so that no line wraps.
        let width = crate::terminal::size(libc::STDERR_FILENO).1.saturating_sub(1);
        let text = line(status, &totals, &before, seconds, now_ms, width);
        eprint!("\r{text}\x1b[K");
        self.drawn = true;
        let _ = std::io::stderr().flush();
    }

    /// Clears the line, before something else is printed.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\r\x1b[K");
            let _ = std::io::stderr().flush();
        }
    }
}

/// The line, as much of it as `width` takes; on a narrow terminal the watermark's lag stands alone.
fn line(status: &Status, totals: &Totals, before: &Totals, seconds: f64, now_ms: i64, width: usize) -> String {
    let rate = |now: u64, before: u64| thousands((now.saturating_sub(before) as f64 / seconds.max(0.1)) as u64);
    let (rate_in, rate_out) = (rate(totals.rows_in, before.rows_in), rate(totals.rows_out, before.rows_out));
    let mut parts = vec![format!("{rate_in} rows/s in, {rate_out} out")];
    match Watermark(totals.watermark_ms) {
        Watermark::MIN => {}
        Watermark::MAX => parts.push("all input read".into()),
        watermark => {
            let lag_ms = now_ms - watermark.0;
            let lag = if lag_ms < 0 { format!("{} ahead", time(-lag_ms)) } else { format!("{} behind", time(lag_ms)) };
            let text = watermark.to_string();
            let to_seconds = text.split_once('.').map_or(text.as_str(), |(seconds, _)| seconds);
            let wide = width >= WIDE;
            parts.push(if wide { format!("watermark {to_seconds}, {lag}") } else { format!("event time {lag}") });
        }
    }
    if let Some(at) = status.last_checkpoint_ms {
        parts.push(format!("checkpoint {} ago", time(now_ms - at)));
        parts.push(format!("state {}", size(status.state_bytes)));
    }
    if totals.late > 0 {
        parts.push(format!("{} late", thousands(totals.late)));
    }
    if totals.retries > 0 {
        parts.push(format!("{} retries", thousands(totals.retries)));
    }
    if status.restarts > 0 {
        parts.push(format!("{} restarts", status.restarts));
    }
    let mut text = String::new();
    for part in parts {
        let separator = if text.is_empty() { "" } else { " | " };
        if text.len() + separator.len() + part.len() <= width {
            text.push_str(separator);
            text.push_str(&part);
        }
    }
    text
}

/// `1.5 s`, `12 min`, `3.4 h`, `20 days`
fn time(ms: i64) -> String {
    let seconds = ms as f64 / 1000.0;
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{} days", thousands((s / 86_400.0) as u64)),
    }
}

/// `512 B`, `1.5 kB`, `20.0 MB`
fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
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
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn the_line_says_rates_event_time_checkpoint_and_state() {
        let totals = |rows_in, rows_out, watermark_ms| Totals { rows_in, rows_out, watermark_ms, ..Totals::default() };
        let status = Status { last_checkpoint_ms: Some(1_700_000_001_000), state_bytes: 20_480, ..Status::default() };
        let before = totals(1_000, 10, i64::MIN);
        let now = totals(5_000, 30, 1_699_999_998_500);
        let at = |width| line(&status, &now, &before, 2.0, 1_700_000_001_500, width);
        assert_eq!(
            at(119),
            "2,000 rows/s in, 10 out | watermark 2023-11-14 22:13:18, 3.0 s behind | checkpoint 0.5 s ago | state 20.5 kB"
        );
        assert_eq!(at(79), "2,000 rows/s in, 10 out | event time 3.0 s behind | checkpoint 0.5 s ago");
        assert_eq!(line(&Status::default(), &totals(0, 0, i64::MIN), &before, 1.0, 0, 79), "0 rows/s in, 0 out");
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([time(0), time(90_000), time(7_200_000)], ["0.0 s", "2 min", "2.0 h"]);
        assert_eq!(time(86_400_000 * 4_000), "4,000 days");
        assert_eq!([size(999), size(1_500), size(20_000_000)], ["999 B", "1.5 kB", "20.0 MB"]);
    }
}
