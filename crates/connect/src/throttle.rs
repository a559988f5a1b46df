//! A limit on rows a second.

use std::time::Duration;

/// Lets through a number of rows a second; what wasn't used in a second is lost.
#[derive(Debug)]
pub struct Throttle {
    rows_per_second: f64,
    allowance: f64,
    last_ms: Option<i64>,
}

impl Throttle {
    /// A limit of `rows_per_second` for the whole job, of which this instance has its share.
    pub fn new(rows_per_second: f64, instances: usize) -> Self {
        let rows_per_second = (rows_per_second / instances.max(1) as f64).max(1e-6);
        Throttle { rows_per_second, allowance: rows_per_second.min(1.0), last_ms: None }
    }
    /// How many rows of `wanted` may pass at `now_ms`, or how long to wait for the first.
    pub fn admit(&mut self, now_ms: i64, wanted: usize) -> Result<usize, Duration> {
        let elapsed_ms = now_ms.saturating_sub(self.last_ms.unwrap_or(now_ms)).max(0);
        self.last_ms = Some(now_ms);
        let most = self.rows_per_second.max(1.0);
        self.allowance = (self.allowance + elapsed_ms as f64 / 1000.0 * self.rows_per_second).min(most);
        if self.allowance >= 1.0 {
            return Ok((self.allowance as usize).min(wanted.max(1)));
        }
        let seconds = (1.0 - self.allowance) / self.rows_per_second;
        Err(Duration::from_secs_f64(seconds.clamp(0.001, 3600.0)))
    }
    /// Notes that `rows` have passed.
    pub fn spend(&mut self, rows: usize) {
        self.allowance -= rows as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_pass_at_the_rate() {
        let mut throttle = Throttle::new(100.0, 2);
        let mut passed = 0;
        for now_ms in (0..10_000).step_by(7) {
            if let Ok(rows) = throttle.admit(now_ms, 1000) {
                throttle.spend(rows);
                passed += rows;
            }
        }
        assert!((495..=501).contains(&passed), "{passed}");
    }
}
