//! Limits on the rows and bytes that a table gives a second; they can be changed while a job runs.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How much a table may give a second, all instances of the job together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rates {
    /// `None`: there is no limit on rows.
    pub rows_per_second: Option<f64>,
    /// `None`: there is no limit on bytes.
    pub bytes_per_second: Option<f64>,
}

/// What the limits of a table are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Rows.
    Rows,
    /// Bytes.
    Bytes,
}

impl Rates {
    fn of(&self, unit: Unit) -> Option<f64> {
        match unit {
            Unit::Rows => self.rows_per_second,
            Unit::Bytes => self.bytes_per_second,
        }
    }
}

/// The limits of a process's tables. A process belongs to one job alone, so that tables are told apart by their names.
#[derive(Debug, Default)]
struct Limits {
    /// As their options say.
    declared: BTreeMap<String, Rates>,
    /// As a person has said since.
    changed: BTreeMap<String, Rates>,
}

static LIMITS: Mutex<Limits> = Mutex::new(Limits { declared: BTreeMap::new(), changed: BTreeMap::new() });
/// How often they were changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

fn limits() -> std::sync::MutexGuard<'static, Limits> {
    LIMITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a table that is read can be limited, and how its options limit it.
pub(crate) fn declare(table: &str, rates: Rates) {
    limits().declared.insert(table.to_string(), rates);
}

/// The tables of this process that can be limited, and how their options limit them.
pub fn declared() -> BTreeMap<String, Rates> {
    limits().declared.clone()
}

/// Changes the limits of tables in this process; those that aren't named are as their options say.
pub fn change(tables: BTreeMap<String, Rates>) {
    limits().changed = tables;
    CHANGES.fetch_add(1, Ordering::Release);
}

/// Lets through so many rows or bytes a second; what wasn't used in a second is lost.
#[derive(Debug)]
pub struct Throttle {
    table: String,
    unit: Unit,
    instances: usize,
    /// As the table's options say.
    declared: Option<f64>,
    /// As it is now, of this instance; `None`: there is no limit.
    per_second: Option<f64>,
    /// As of how many changes.
    changes: u64,
    allowance: f64,
    last_ms: Option<i64>,
}

/// The longest wait: then it is looked whether the limit was changed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Throttle {
    /// The limit of a table for the whole job, of which this instance has its share; `declared`: as its options say.
    pub fn new(table: &str, unit: Unit, declared: Option<f64>, instances: usize) -> Self {
        let mut throttle = Throttle {
            table: table.to_string(),
            unit,
            instances: instances.max(1),
            declared,
            per_second: None,
            changes: 0,
            allowance: 0.0,
            last_ms: None,
        };
        throttle.look();
        throttle.allowance = throttle.per_second.map_or(0.0, |rate| rate.min(1.0));
        throttle
    }

    fn look(&mut self) {
        self.changes = CHANGES.load(Ordering::Acquire);
        let rate = limits().changed.get(&self.table).map_or(self.declared, |rates| rates.of(self.unit));
        self.per_second = rate.map(|rate| (rate / self.instances as f64).max(1e-6));
        // What was gathered, or is owed, under another limit counts for a second at most.
        let most = self.per_second.unwrap_or(0.0).max(1.0);
        self.allowance = self.allowance.clamp(-most, most);
    }

    /// How many of `wanted` may pass at `now_ms`, or how long to wait for the first.
    pub fn admit(&mut self, now_ms: i64, wanted: usize) -> Result<usize, Duration> {
        if self.changes != CHANGES.load(Ordering::Acquire) {
            self.look();
        }
        let elapsed_ms = now_ms.saturating_sub(self.last_ms.unwrap_or(now_ms)).max(0);
        self.last_ms = Some(now_ms);
        let Some(per_second) = self.per_second else { return Ok(wanted) };
        let most = per_second.max(1.0);
        self.allowance = (self.allowance + elapsed_ms as f64 / 1000.0 * per_second).min(most);
        if self.allowance >= 1.0 {
            return Ok((self.allowance as usize).min(wanted.max(1)));
        }
        let seconds = (1.0 - self.allowance) / per_second;
        Err(Duration::from_secs_f64(seconds.clamp(0.001, LONGEST_WAIT.as_secs_f64())))
    }

    /// Notes that so many have passed.
    pub fn spend(&mut self, passed: usize) {
        if self.per_second.is_some() {
            self.allowance -= passed as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many rows of 1000 at a time pass in `seconds`.
    fn passed(throttle: &mut Throttle, seconds: std::ops::Range<i64>) -> usize {
        let mut passed = 0;
        for now_ms in (seconds.start * 1000..seconds.end * 1000).step_by(7) {
            if let Ok(rows) = throttle.admit(now_ms, 1000) {
                throttle.spend(rows);
                passed += rows;
            }
        }
        passed
    }

    #[test]
    fn rows_pass_at_the_rate() {
        let rows = passed(&mut Throttle::new("rate", Unit::Rows, Some(100.0), 2), 0..10);
        assert!((495..=501).contains(&rows), "{rows}");
    }

    #[test]
    fn a_limit_that_is_changed_counts_from_then_on() {
        let mut throttle = Throttle::new("changed", Unit::Bytes, None, 1);
        assert_eq!(throttle.admit(0, 1000), Ok(1000));
        change([("changed".to_string(), Rates { rows_per_second: None, bytes_per_second: Some(50.0) })].into());
        let bytes = passed(&mut throttle, 0..10);
        assert!((490..=501).contains(&bytes), "{bytes}");
        change(BTreeMap::new());
        assert_eq!(throttle.admit(10_000, 1000), Ok(1000));
    }
}
