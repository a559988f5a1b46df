//! Which worker process has been silent for too long.

use millstream_core::error::{Error, Result};
use std::time::Duration;

/// How long each worker process has been silent.
#[derive(Debug)]
pub struct Heartbeats {
    timeout_ms: i64,
    /// Time as the supervisor saw it pass: a pause of its own (a suspended machine, a slow disk) does not count.
    awake_ms: i64,
    last_tick_ms: Option<i64>,
    heard_ms: Vec<i64>,
}

impl Heartbeats {
    /// Watches `processes`, which may be silent for `timeout`.
    pub fn new(timeout: Duration, processes: usize) -> Self {
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        Heartbeats { timeout_ms, awake_ms: 0, last_tick_ms: None, heard_ms: vec![0; processes] }
    }
    /// A process said something.
    pub fn heard(&mut self, process: usize) {
        if let Some(heard_ms) = self.heard_ms.get_mut(process) {
            *heard_ms = self.awake_ms;
        }
    }
    /// Time has passed.
    ///
    /// # Errors
    /// If a process has been silent for too long.
    pub fn tick(&mut self, now_ms: i64) -> Result<()> {
        let passed_ms = now_ms - self.last_tick_ms.replace(now_ms).unwrap_or(now_ms);
        self.awake_ms += passed_ms.clamp(0, 100);
        match self.heard_ms.iter().position(|heard_ms| self.awake_ms - heard_ms > self.timeout_ms) {
            Some(process) => Err(Error::retry(format!(
                "worker process {process} has been silent for more than {} ms and counts as lost",
                self.timeout_ms
            ))
            .hint("see the setting 'heartbeat.timeout'")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_process_is_lost_and_a_talking_one_is_not() {
        let mut heartbeats = Heartbeats::new(Duration::from_millis(1000), 2);
        for now_ms in (0..=1000).step_by(50) {
            heartbeats.heard(0);
            heartbeats.tick(now_ms).unwrap();
        }
        heartbeats.heard(0);
        let error = heartbeats.tick(1050).unwrap_err();
        assert!(error.message().starts_with("worker process 1 has been silent"), "{error}");
        assert!(error.kind().is_restartable());
    }

    #[test]
    fn a_pause_of_the_supervisor_itself_does_not_count() {
        let mut heartbeats = Heartbeats::new(Duration::from_millis(1000), 1);
        for now_ms in (0..1_000_000).step_by(100_000) {
            heartbeats.tick(now_ms).unwrap();
        }
        heartbeats.tick(0).unwrap();
    }
}
