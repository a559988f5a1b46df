//! Event time at a source: watermarks from rows, the minimum over splits, idleness.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType as ArrowType, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use millstream_core::expr::EvalContext;
use millstream_core::graph::{WatermarkAlignment, WatermarkSpec};
use millstream_core::{Batch, Error, Result, Watermark};
use std::collections::BTreeMap;

/// Whether a source's watermark counts downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarkStatus {
    /// It does.
    Active,
    /// All of its splits are idle: it leaves the minimum.
    Idle,
}

/// Makes watermarks of one source instance's rows.
///
/// A row that moves the combined watermark by more than the interval beyond the last one emits it; `on_tick`
/// emits what is left. Batches are cut right before a row that is at or behind the watermark which the rows before
/// it emitted, so that what is late doesn't depend on how rows are batched.
pub struct WatermarkGenerator {
    spec: WatermarkSpec,
    splits: BTreeMap<u32, Split>,
    /// The highest watermark of splits that have ended.
    ended: i64,
    emitted: i64,
    /// Without rows so far, and none to wait for.
    unassigned: bool,
    /// When it was first asked.
    since_ms: Option<i64>,
}

struct Split {
    watermark: i64,
    last_row_ms: i64,
    idle: bool,
    /// Whether all that it had has been given; always so of a split that doesn't tell.
    at_end: bool,
    /// Whether it tells.
    tells: bool,
}

impl Split {
    /// One that just gives rows.
    fn new(now_ms: i64) -> Self {
        Split { watermark: i64::MIN, last_row_ms: now_ms, idle: false, at_end: true, tells: false }
    }
}

impl WatermarkGenerator {
    /// A generator that has seen nothing.
    pub fn new(spec: WatermarkSpec) -> Self {
        WatermarkGenerator {
            spec,
            splits: BTreeMap::new(),
            ended: i64::MIN,
            emitted: i64::MIN,
            unassigned: false,
            since_ms: None,
        }
    }

    /// Whether its splits are kept together.
    pub fn alignment(&self) -> Option<&WatermarkAlignment> {
        self.spec.alignment.as_ref()
    }

    /// The last watermark emitted.
    pub fn current(&self) -> Watermark {
        Watermark(self.emitted)
    }

    /// Announces a split, whose rows the combined watermark waits for from now on; it tells when it is at its end.
    pub fn add_split(&mut self, split: u32, now_ms: i64) {
        self.unassigned = false;
        self.splits.insert(split, Split { at_end: false, tells: true, ..Split::new(now_ms) });
    }

    /// All that the split had has been given.
    pub fn split_at_end(&mut self, split: u32) {
        if let Some(state) = self.splits.get_mut(&split) {
            state.at_end = true;
        }
    }

    /// The watermark of the slowest split that has more rows; `i64::MAX` if there is none.
    pub fn slowest(&self) -> i64 {
        let behind = self.splits.values().filter(|s| s.tells && !s.at_end && !s.idle);
        behind.map(|s| s.watermark).min().unwrap_or(i64::MAX)
    }

    /// The splits whose watermark is beyond `limit`.
    pub fn beyond(&self, limit: i64) -> Vec<u32> {
        self.splits.iter().filter(|(_, s)| s.watermark > limit).map(|(id, _)| *id).collect()
    }

    /// Hands `out` the rows, each part with the watermark that follows it, if any.
    ///
    /// A NULL in the time attribute is a data error.
    pub fn push(
        &mut self,
        split: u32,
        batch: Batch,
        now_ms: i64,
        out: &mut dyn FnMut(Batch, Option<Watermark>),
    ) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let times = known_ms(batch.column(self.spec.column), "the time attribute of a watermark")?;
        let eval = EvalContext::at(now_ms);
        let marks = self.spec.expression.evaluate(&batch, &eval)?.into_array(rows)?;
        let absent = marks.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let marks = to_ms(&marks)?;
        self.splits.entry(split).or_insert(Split::new(now_ms));
        // The others don't move while this one's rows are read.
        let others = self.splits.iter().filter(|(id, s)| **id != split && !s.idle).map(|(_, s)| s.watermark).min();
        let mut own = i64::MIN;
        if let Some(state) = self.splits.get_mut(&split) {
            state.idle = false;
            state.at_end = !state.tells;
            state.last_row_ms = now_ms;
            own = state.watermark;
        }
        let others = others.unwrap_or(i64::MAX);
        let (mut start, mut pending) = (0, None);
        for (row, (time, mark)) in times.iter().zip(marks.iter().copied()).enumerate() {
            if pending.is_some() && *time <= self.emitted {
                out(batch.slice(start, row - start), pending.take());
                start = row;
            }
            if mark > own && absent.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                own = mark;
                let combined = own.min(others);
                if combined > self.emitted.saturating_add(self.spec.interval_ms)
                    || (self.emitted == i64::MIN && combined > i64::MIN)
                {
                    self.emitted = combined;
                    pending = Some(Watermark(combined));
                }
            }
        }
        if let Some(state) = self.splits.get_mut(&split) {
            state.watermark = own;
        }
        let rest = if start == 0 { batch } else { batch.slice(start, rows - start) };
        out(rest, pending);
        Ok(())
    }

    /// The split gives no more rows; its watermark no longer holds the others back.
    pub fn split_ended(&mut self, split: u32) {
        if let Some(state) = self.splits.remove(&split) {
            self.ended = self.ended.max(state.watermark);
        }
    }

    /// Whether a split has given rows.
    pub fn has_seen_rows(&self) -> bool {
        !self.splits.is_empty() || self.ended > i64::MIN
    }

    /// The instance has no split: nobody waits for it until it gives rows.
    pub fn no_split(&mut self) {
        self.unassigned = true;
    }

    /// Notes which splits have become idle, and gives the advance that has not been emitted yet.
    pub fn on_tick(&mut self, now_ms: i64) -> Option<Watermark> {
        if let Some(timeout) = self.spec.idle_timeout_ms {
            let since_ms = *self.since_ms.get_or_insert(now_ms);
            self.unassigned |= !self.has_seen_rows() && now_ms.saturating_sub(since_ms) >= timeout;
            for split in self.splits.values_mut() {
                split.idle |= split.at_end && now_ms.saturating_sub(split.last_row_ms) >= timeout;
            }
        }
        let active = self.splits.values().filter(|s| !s.idle).map(|s| s.watermark).min();
        let combined = match active {
            Some(watermark) => watermark,
            None => self.splits.values().map(|s| s.watermark).max().unwrap_or(i64::MIN).max(self.ended),
        };
        if combined <= self.emitted {
            return None;
        }
        self.emitted = combined;
        Some(Watermark(combined))
    }

    /// Whether some split still counts. Without splits, before the first row, it is active.
    pub fn status(&self) -> WatermarkStatus {
        let all_idle = !self.splits.is_empty() && self.splits.values().all(|s| s.idle);
        if all_idle || (self.unassigned && !self.has_seen_rows()) {
            WatermarkStatus::Idle
        } else {
            WatermarkStatus::Active
        }
    }

    /// The emitted watermark, encoded and versioned.
    pub fn snapshot(&self) -> Vec<u8> {
        encode_watermark(self.emitted)
    }

    /// Goes on from the lowest of what the old instances handed over.
    pub fn restore(&mut self, instances: &[Vec<u8>]) -> Result<()> {
        self.emitted = lowest_watermark(instances)?;
        Ok(())
    }
}

const VERSION: u8 = 1;

/// A watermark as an instance's state: a version byte, then little-endian milliseconds.
pub(crate) fn encode_watermark(watermark: i64) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&watermark.to_le_bytes());
    bytes
}

/// The lowest of the watermarks that [`encode_watermark`] wrote; the minimum for none.
pub(crate) fn lowest_watermark(instances: &[Vec<u8>]) -> Result<i64> {
    let mut lowest = None;
    for bytes in instances {
        let value = match bytes.split_first() {
            Some((&VERSION, rest)) => <[u8; 8]>::try_from(rest).ok().map(i64::from_le_bytes),
            _ => None,
        };
        let value = value.ok_or_else(|| Error::state("a stored watermark has an unknown form"))?;
        lowest = Some(lowest.map_or(value, |l: i64| l.min(value)));
    }
    Ok(lowest.unwrap_or(i64::MIN))
}

fn scaled<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, per_ms: i64) -> ScalarBuffer<i64> {
    array.as_primitive::<T>().values().iter().map(|v| v.div_euclid(per_ms)).collect()
}

/// A timestamp (or BIGINT) column of any unit, in milliseconds; finer units are floored. Anything where it is NULL.
fn to_ms(array: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    Ok(match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().values().clone()
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => scaled::<TimestampMicrosecondType>(array, 1_000),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => scaled::<TimestampNanosecondType>(array, 1_000_000),
        ArrowType::Null => vec![0; array.len()].into(),
        ArrowType::Int64 => array.as_primitive::<arrow::datatypes::Int64Type>().values().clone(),
        other => return Err(Error::internal(format!("a time column of the type {other}"))),
    })
}

/// The same for a column that must not hold NULL; `what` names it in the error.
fn known_ms(array: &ArrayRef, what: &str) -> Result<ScalarBuffer<i64>> {
    if array.logical_null_count() > 0 {
        return Err(Error::data(format!("{what} is NULL"))
            .hint("filter the rows without a time out, or give them one, before the table's watermark"));
    }
    to_ms(array)
}

/// A time column that must not hold NULL, in milliseconds; `what` names it in the error.
pub(crate) fn column_ms(array: &ArrayRef, what: &str) -> Result<Vec<i64>> {
    Ok(known_ms(array, what)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::testing::{column, times};
    use millstream_core::{Field, TypeKind};

    fn generator(interval_ms: i64, idle_timeout_ms: Option<i64>) -> WatermarkGenerator {
        let expression = column(0, TypeKind::Timestamp(3).nullable());
        WatermarkGenerator::new(WatermarkSpec { column: 0, expression, interval_ms, idle_timeout_ms, alignment: None })
    }

    fn push(g: &mut WatermarkGenerator, split: u32, rows: &[i64]) -> Vec<(usize, Option<i64>)> {
        let schema = millstream_core::Schema::new(vec![Field::new("t", TypeKind::Timestamp(3).nullable())]);
        let batch = Batch::from_columns(schema.arrow().clone(), vec![times(rows)], rows.len()).unwrap();
        let mut seen = vec![];
        g.push(split, batch, 0, &mut |b, w| seen.push((b.num_rows(), w.map(|w| w.0)))).unwrap();
        seen
    }

    #[test]
    fn in_order_rows_are_never_cut() {
        let mut g = generator(200, None);
        assert_eq!(push(&mut g, 0, &[0, 100, 201, 300, 500]), vec![(5, Some(500))]);
    }

    #[test]
    fn a_row_behind_the_emitted_watermark_starts_a_new_part() {
        let mut g = generator(200, None);
        assert_eq!(push(&mut g, 0, &[0, 500, 450, 600, 400]), vec![(2, Some(500)), (3, None)]);
        assert_eq!(g.on_tick(0), Some(Watermark(600)));
        assert_eq!(g.on_tick(0), None);
    }

    #[test]
    fn the_slowest_active_split_decides() {
        let mut g = generator(0, Some(1000));
        g.add_split(1, 0);
        assert_eq!(push(&mut g, 0, &[100]), vec![(1, None)]);
        assert_eq!(push(&mut g, 1, &[50]), vec![(1, Some(50))]);
        assert_eq!(g.on_tick(1000), None, "split 1 hasn't said that it has nothing more");
        g.split_at_end(1);
        assert_eq!(g.on_tick(1000), Some(Watermark(100)));
        assert_eq!(g.status(), WatermarkStatus::Idle);
        push(&mut g, 1, &[120]);
        assert_eq!(g.status(), WatermarkStatus::Active);
    }

    #[test]
    fn splits_that_have_more_rows_decide_who_is_too_far_ahead() {
        let mut g = generator(0, None);
        assert_eq!(g.slowest(), i64::MAX);
        for split in 0..3 {
            g.add_split(split, 0);
            push(&mut g, split, &[100 * i64::from(split)]);
        }
        assert_eq!((g.slowest(), g.beyond(150)), (0, vec![2]));
        g.split_at_end(0);
        assert_eq!((g.slowest(), g.beyond(250)), (100, vec![]));
    }

    #[test]
    fn restoring_takes_the_lowest_of_the_old_instances() {
        let mut g = generator(0, None);
        g.restore(&[encode_watermark(7), encode_watermark(3)]).unwrap();
        assert_eq!(g.current(), Watermark(3));
        assert!(g.restore(&[vec![9, 9]]).is_err());
    }
}
