//! What the windowed operators share: windows that time has closed leave in order, as far as there is room downstream.

use super::watermark::{encode_watermark, lowest_watermark};
use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use millstream_core::graph::{WindowProperty, WindowTime};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableDelta,
};
use millstream_core::{Batch, Result, Watermark};
use std::sync::Arc;

/// The state table of what is due when a snapshot is taken.
pub(super) const DUE: &str = millstream_core::graph::state_tables::DUE;

/// Windows that rows gather in, until time closes them.
///
/// A window that ends by `closed` is *due* until it has left. Due windows leave in the order of their ends.
pub(super) trait Windowed: Send {
    /// The time that closes windows.
    fn time(&self) -> WindowTime;
    /// Takes over rows of a state table.
    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()>;
    /// Windows that end by `closed` have left, or come as rows of the state table of what is due.
    fn start_after(&mut self, closed: i64);
    /// Takes in rows; returns which were late: all windows that they are in end by `closed`.
    fn add(&mut self, batch: Batch, now_ms: i64, closed: i64) -> Result<Vec<u32>>;
    /// Up to which end windows are closed once event time has reached the watermark.
    fn closed_by(&self, watermark: Watermark) -> i64;
    /// A watermark that closes the windows that end by `closed`: the one that did, but where clocks go back.
    fn watermark_of(&self, closed: i64) -> Watermark;
    /// Up to which end windows are closed by the clock.
    fn closed_at(&self, now_ms: i64) -> i64;
    /// When the clock closes the next window, milliseconds since 1970 UTC; may be too early.
    fn next_end_ms(&self) -> Option<i64>;
    /// Whether a window that ends by `closed` has not left; never wrongly `false`.
    fn has_due(&self, closed: i64) -> bool;
    /// Keeps the due windows apart from what rows can still change.
    fn set_due_apart(&mut self, closed: i64) -> Result<()>;
    /// Emits up to a batch of what is due; returns how many rows.
    fn emit(&mut self, closed: i64, ctx: &mut Context<'_>) -> Result<usize>;
    /// What changed in the tables; what is due was set apart.
    fn changes(&mut self, closed: i64) -> Result<Vec<TableDelta>>;
}

/// Drives [`Windowed`]: what closes windows, and when they leave.
pub(super) struct Firing<W> {
    windows: W,
    /// Windows that end by this are closed.
    closed: i64,
    /// Whether some of them may not have left.
    is_firing: bool,
}

impl<W: Windowed> Firing<W> {
    pub(super) fn new(windows: W) -> Self {
        Firing { windows, closed: i64::MIN, is_firing: false }
    }

    fn is_event_time(&self) -> bool {
        self.windows.time() != WindowTime::Processing
    }

    /// Closes the windows that end by `bound`, and emits about a batch of what is due.
    fn fire(&mut self, bound: i64, ctx: &mut Context<'_>) -> Result<Progress> {
        self.closed = self.closed.max(bound);
        self.is_firing = true;
        let mut emitted = 0;
        while self.windows.has_due(self.closed) {
            if emitted >= TARGET_BATCH_ROWS || !ctx.has_room() {
                return Ok(Progress::More);
            }
            emitted += self.windows.emit(self.closed, ctx)?;
        }
        self.is_firing = false;
        self.windows.start_after(self.closed);
        Ok(Progress::Done)
    }

    fn set_due_apart(&mut self) -> Result<()> {
        if self.is_firing { self.windows.set_due_apart(self.closed) } else { Ok(()) }
    }
}

impl<W: Windowed> Operator for Firing<W> {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => {
                self.closed = lowest_watermark(&instances)?;
                self.windows.start_after(self.closed);
            }
            Restored::Rows { table, rows } => {
                self.is_firing |= table == DUE && rows.num_rows() > 0;
                self.windows.restore(&table, rows)?;
            }
        }
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        self.set_due_apart()?;
        let late = self.windows.add(batch.clone(), ctx.now_ms, self.closed)?;
        match late.is_empty() {
            true => Ok(()),
            false => ctx.drop_late(0, &batch, late, self.windows.watermark_of(self.closed)),
        }
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        if self.is_event_time() && self.fire(self.windows.closed_by(watermark), ctx)? == Progress::More {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        // In event time only what was restored waits for it.
        let bound = if self.is_event_time() { self.closed } else { self.windows.closed_at(ctx.now_ms) };
        self.fire(bound, ctx)
    }

    fn next_timer(&self) -> Option<i64> {
        match self.is_firing {
            true => Some(i64::MIN),
            false if self.is_event_time() => None,
            false => self.windows.next_end_ms(),
        }
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.fire(i64::MAX, ctx)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        self.set_due_apart()?;
        Ok(StateDelta { tables: self.windows.changes(self.closed)?, instance: Some(encode_watermark(self.closed)) })
    }
}

/// `window_start`, `window_end` and `window_time` of windows by their local bounds; `row_time` makes the last of them,
/// given whether it is an instant.
pub(super) fn property_columns(
    wanted: &[WindowProperty],
    starts: &[i64],
    ends: &[i64],
    row_time: impl Fn(bool) -> ArrayRef,
) -> Vec<ArrayRef> {
    let times = |ms: &[i64]| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(ms.to_vec())) };
    let column = |property: &WindowProperty| match property {
        WindowProperty::Start => times(starts),
        WindowProperty::End => times(ends),
        WindowProperty::RowTime { local_time_zone } => row_time(*local_time_zone),
    };
    wanted.iter().map(column).collect()
}
