//! Which rows of a generated stream an instance has still to give, and how fast it may.

use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The rows `next`, `next + step`, ... below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    next: u64,
    step: u64,
    end: Option<u64>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

const POSITION_VERSION: u32 = 1;

/// What is stored of a generator's position.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    runs: Vec<Run>,
    base_ms: i64,
}

/// The numbers of the rows that one instance has still to give, in ascending order.
///
/// An instance begins with every `instances`-th row. After a change of parallelism the rows below the
/// furthest reader's position that nobody gave are shared out as they are, those above it anew.
#[derive(Debug)]
pub(crate) struct Sequence {
    runs: Vec<Run>,
    /// How many rows the whole stream has.
    total: Option<u64>,
    /// The time at which the stream began, milliseconds since 1970.
    pub(crate) base_ms: i64,
}

impl Sequence {
    pub(crate) fn open(
        total: Option<u64>,
        restored: Option<&[Vec<u8>]>,
        instance: usize,
        instances: usize,
        now_ms: i64,
    ) -> Result<Self> {
        let (instance, instances) = (instance as u64, instances as u64);
        let stored: Vec<Stored> = restored.unwrap_or_default().iter().map(|s| decode(s)).collect::<Result<_>>()?;
        let base_ms = stored.iter().map(|s| s.base_ms).min().unwrap_or(now_ms);
        let old: Vec<Run> = stored.into_iter().flat_map(|s| s.runs).collect();
        let frontier = old.iter().filter(|r| r.end.is_none()).map(|r| r.next).max().unwrap_or(0);
        let mut runs: Vec<Run> = old
            .into_iter()
            .map(|r| Run { end: Some(r.end.unwrap_or(frontier).min(frontier)), ..r })
            .filter(|r| !r.is_over())
            .zip(0u64..)
            .filter(|(_, i)| i % instances == instance)
            .map(|(r, _)| r)
            .collect();
        runs.push(Run { next: frontier + instance, step: instances, end: None });
        Ok(Sequence { runs, total, base_ms })
    }

    /// The next numbers, `max` of them at most; none when the stream has ended.
    pub(crate) fn take(&mut self, max: usize, ids: &mut Vec<u64>) {
        ids.clear();
        let total = self.total.unwrap_or(u64::MAX);
        while ids.len() < max {
            self.runs.retain(|r| !r.is_over());
            let Some(first) = (0..self.runs.len()).min_by_key(|i| self.runs[*i].next) else { return };
            let others = self.runs.iter().enumerate().filter(|(i, _)| *i != first).map(|(_, r)| r.next).min();
            let run = &mut self.runs[first];
            let until = total.min(run.end.unwrap_or(u64::MAX)).min(others.unwrap_or(u64::MAX));
            if run.next >= total {
                return;
            }
            let count = (until - run.next).div_ceil(run.step).min((max - ids.len()) as u64);
            ids.extend((0..count).map(|i| run.next + i * run.step));
            run.next += count * run.step;
        }
    }

    pub(crate) fn snapshot(&self) -> Result<Vec<u8>> {
        let stored = Stored { version: POSITION_VERSION, runs: self.runs.clone(), base_ms: self.base_ms };
        serde_json::to_vec(&stored).map_err(|e| Error::internal(format!("a position has no JSON form: {e}")))
    }
}

fn decode(bytes: &[u8]) -> Result<Stored> {
    let stored: Stored = serde_json::from_slice(bytes)
        .map_err(|e| Error::state(format!("the position of a generated table can't be read: {e}")))?;
    if stored.version != POSITION_VERSION || stored.runs.iter().any(|r| r.step == 0) {
        return Err(Error::state(format!(
            "the position of a generated table has version {}; this program knows version {POSITION_VERSION}",
            stored.version
        )));
    }
    Ok(stored)
}

/// Holds an instance to its share of a rate, without ever making up for more than a second.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Rows a second, of this instance; `None`: as fast as possible.
    rate: Option<f64>,
    start_ms: i64,
    given: f64,
}

impl Pacer {
    pub(crate) fn new(rate_of_all: Option<f64>, instances: usize, now_ms: i64) -> Self {
        Pacer { rate: rate_of_all.map(|r| r / instances as f64), start_ms: now_ms, given: 0.0 }
    }
    /// How many rows may be given now, `max` of them at most; or how long to wait for one.
    pub(crate) fn allowed(&mut self, now_ms: i64, max: usize) -> Result<usize, Duration> {
        let Some(rate) = self.rate else { return Ok(max) };
        // One row is due at the start itself.
        let mut due = 1.0 + (now_ms - self.start_ms) as f64 * rate / 1000.0 - self.given;
        if due > rate.max(1.0) {
            self.given += due - rate.max(1.0);
            due = rate.max(1.0);
        }
        if due >= 1.0 {
            return Ok((due as usize).min(max));
        }
        Err(Duration::from_millis(((1.0 - due) * 1000.0 / rate).ceil().max(1.0) as u64))
    }
    pub(crate) fn gave(&mut self, rows: usize) {
        self.given += rows as f64;
    }
}

/// A bijection of 64-bit numbers whose results look random (SplitMix64's finalizer).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number below `bound` from random bits.
pub(crate) fn below(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// A number in `0.0 .. 1.0` from random bits.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers of changing number, each polled unevenly, together give every row once and in order each.
    #[test]
    fn every_row_is_given_once_over_changes_of_parallelism() {
        let mut seen = Vec::new();
        let mut restored: Option<Vec<Vec<u8>>> = None;
        for (round, instances) in [2usize, 3, 1, 4, 4, 2].into_iter().enumerate() {
            let mut snapshots = Vec::new();
            for instance in 0..instances {
                let mut sequence =
                    Sequence::open(Some(1000), restored.as_deref(), instance, instances, 5 + round as i64)
                        .expect("open");
                assert_eq!(sequence.base_ms, 5, "the stream began when it was first opened");
                let polls = if round == 5 { 1000 } else { 1 + 5 * instance };
                let mut own = Vec::new();
                for _ in 0..polls {
                    let mut ids = Vec::new();
                    sequence.take(7, &mut ids);
                    own.extend(ids);
                }
                assert!(own.is_sorted());
                seen.extend(own);
                snapshots.push(sequence.snapshot().expect("snapshot"));
            }
            restored = Some(snapshots);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<u64>>());
    }

    #[test]
    fn the_rate_is_shared_and_kept() {
        let mut pacer = Pacer::new(Some(20.0), 2, 0);
        assert_eq!(pacer.allowed(0, 100), Ok(1));
        pacer.gave(1);
        assert_eq!(pacer.allowed(0, 100), Err(Duration::from_millis(100)));
        assert_eq!(pacer.allowed(500, 100), Ok(5));
        assert_eq!(pacer.allowed(500, 3), Ok(3));
        assert_eq!(pacer.allowed(1_000_000, 100), Ok(10), "no more than a second is made up for");
    }
}
