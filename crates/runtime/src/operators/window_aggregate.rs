//! Windowed aggregates over TUMBLE, HOP, CUMULATE and attached windows, in one phase or as the final of two.

use super::slices::{Cut, Plan, Slice, Slices, TABLE, parts, plain_millis};
use super::watermark::{encode_watermark, lowest_watermark};
use super::windows::window_time_array;
use arrow::array::{ArrayRef, AsArray, TimestampMillisecondArray};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use millstream_core::graph::{AggregatePhase, WindowAggregate as Spec, WindowProperty, WindowTime};
use millstream_core::metrics;
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableDelta,
};
use millstream_core::{Batch, Error, Result, Schema, Watermark};
use std::sync::Arc;

/// Aggregates by slice, merges a window's slices when it fires, and drops a slice with its last window.
pub(super) struct WindowAggregate {
    plan: Plan,
    time: WindowTime,
    takes_partials: bool,
    properties: Vec<WindowProperty>,
    schema: SchemaRef,
    slices: Slices,
    /// Windows that end by this local time have fired.
    closed: i64,
    firing: Option<Firing>,
}

/// A window that is being emitted.
struct Firing {
    slice: Slice,
    end: i64,
    next: usize,
}

impl WindowAggregate {
    pub(super) fn new(spec: &Spec, input: &Schema, output: &Schema) -> Result<Self> {
        Ok(WindowAggregate {
            plan: Plan::new(spec, input)?,
            time: spec.window.time,
            takes_partials: spec.phase == AggregatePhase::Global,
            properties: spec.properties.clone(),
            schema: output.arrow().clone(),
            slices: Slices::default(),
            closed: i64::MIN,
            firing: None,
        })
    }

    /// The end of the next window that holds rows.
    fn next_window(&self) -> Option<i64> {
        self.slices.0.keys().find_map(|slice| self.plan.window_after(*slice, self.closed))
    }

    /// Gathers the window that ends at `end`, and lets go of the slices that no later one needs.
    fn gather(&mut self, end: i64) -> Result<Slice> {
        let first = match &self.plan.cut {
            Cut::Windows(windows, _) => windows.start_of(end).saturating_add(1),
            Cut::Attached { .. } => end,
        };
        let members: Vec<i64> = self.slices.0.range(first..=end).map(|(slice, _)| *slice).collect();
        let is_last = |slice: i64| self.plan.last_window(slice).is_none_or(|last| last <= end);
        let gathered = match members[..] {
            [only] if is_last(only) => self.slices.0.remove(&only),
            _ => None,
        };
        let gathered = match gathered {
            Some(slice) => slice,
            None => {
                let mut whole = Slice::new(&self.plan)?;
                for member in &members {
                    if let Some(slice) = self.slices.0.get(member) {
                        whole.absorb(&self.plan, slice)?;
                    }
                }
                whole
            }
        };
        let plan = &self.plan;
        let dead: Vec<i64> = self.slices.0.range(..=end).map(|(slice, _)| *slice).collect();
        for slice in dead {
            if plan.last_window(slice).is_none_or(|last| last <= end) {
                self.slices.0.remove(&slice);
            }
        }
        Ok(gathered)
    }

    /// Fires the windows that end by `bound`, in the order of their ends.
    fn advance(&mut self, bound: i64, ctx: &mut Context<'_>) -> Result<Progress> {
        let mut emitted = 0;
        loop {
            if let Some(mut firing) = self.firing.take() {
                emitted += self.emit(&mut firing, ctx)?;
                if firing.next < firing.slice.len() {
                    self.firing = Some(firing);
                }
                if emitted >= TARGET_BATCH_ROWS {
                    return Ok(Progress::More);
                }
                continue;
            }
            match self.next_window() {
                Some(end) if end <= bound => {
                    let slice = self.gather(end)?;
                    self.closed = end;
                    self.firing = Some(Firing { slice, end, next: 0 });
                }
                _ => {
                    self.closed = self.closed.max(bound);
                    return Ok(Progress::Done);
                }
            }
        }
    }

    /// Emits the next rows of a window; returns how many.
    fn emit(&self, firing: &mut Firing, ctx: &mut Context<'_>) -> Result<usize> {
        let upto = firing.slice.len().min(firing.next + TARGET_BATCH_ROWS);
        let groups: Vec<u32> = (firing.next as u32..upto as u32).collect();
        firing.next = upto;
        let (mut columns, results) = firing.slice.results(&groups)?;
        let starts = match &self.plan.cut {
            Cut::Attached { .. } => {
                let start = columns.pop().ok_or_else(|| Error::internal("an attached window's start is a key"))?;
                plain_millis(&start)?.as_primitive::<TimestampMillisecondType>().values().to_vec()
            }
            Cut::Windows(windows, _) => vec![windows.start_of(firing.end); groups.len()],
        };
        columns.extend(results);
        let ends = vec![firing.end; groups.len()];
        for property in &self.properties {
            let column: ArrayRef = match property {
                WindowProperty::Start => Arc::new(TimestampMillisecondArray::from(starts.clone())),
                WindowProperty::End => Arc::new(TimestampMillisecondArray::from(ends.clone())),
                WindowProperty::RowTime { local_time_zone } => {
                    window_time_array(&ends, *local_time_zone, self.plan.zone())
                }
            };
            columns.push(column);
        }
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, groups.len())?)?;
        Ok(groups.len())
    }

    fn is_late(&self, slice_end: i64) -> bool {
        self.plan.last_window(slice_end).is_some_and(|last| last <= self.closed)
    }
}

impl Operator for WindowAggregate {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => self.closed = lowest_watermark(&instances)?,
            Restored::Rows { table, rows } if table == TABLE => {
                self.slices.merge(&self.plan, rows, |_| true)?;
                self.slices.0.values_mut().for_each(|slice| drop(slice.take_changed()));
            }
            Restored::Rows { table, .. } => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        if self.takes_partials {
            let (plan, closed) = (&self.plan, self.closed);
            let wanted = |end: i64| plan.last_window(end).is_some_and(|last| last > closed);
            let late = self.slices.merge(plan, batch.rows, wanted)?;
            metrics::add(&ctx.metrics.late_rows, late);
            return Ok(());
        }
        let ends = match (self.time, &self.plan.cut) {
            (WindowTime::Processing, Cut::Windows(..)) => {
                // A clock that was set back makes no row late.
                let now = self.plan.zone().to_local_ms(ctx.now_ms).max(self.closed);
                self.plan.slice_ends(&batch, now)?
            }
            _ => self.plan.slice_ends(&batch, 0)?,
        };
        let (mut late, mut last) = (0, (i64::MIN, None));
        let mut wanted = Vec::with_capacity(ends.len());
        for end in ends {
            if last.0 != end {
                let is_late = self.is_late(end);
                let is_wanted = !is_late && self.plan.last_window(end).is_some();
                last = (end, is_wanted.then_some(end));
            }
            late += u64::from(last.1.is_none() && self.is_late(end));
            wanted.push(last.1);
        }
        if late > 0 {
            metrics::add(&ctx.metrics.late_rows, late);
        }
        for (end, part) in parts(&self.plan.project(&batch)?, &wanted)? {
            self.slices.get(&self.plan, end)?.update(&self.plan, &part)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        if self.time != WindowTime::Processing && self.advance(self.plan.closed_by(watermark.0), ctx)? == Progress::More
        {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        if self.time != WindowTime::Processing {
            return Ok(Progress::Done);
        }
        self.advance(self.plan.zone().lowest_local_from(ctx.now_ms), ctx)
    }

    fn next_timer(&self) -> Option<i64> {
        if self.time != WindowTime::Processing {
            return None;
        }
        self.next_window().map(|end| self.plan.zone().past_at_utc_ms(end))
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.advance(i64::MAX, ctx)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let mut delta = TableDelta { table: TABLE.into(), ..TableDelta::default() };
        if self.closed > i64::MIN {
            delta.expired_below = Some(match &self.plan.cut {
                Cut::Windows(windows, _) => windows.first_needed(self.closed),
                Cut::Attached { .. } => self.closed.saturating_add(1),
            });
        }
        for (end, slice) in &mut self.slices.0 {
            let changed = slice.take_changed();
            if !changed.is_empty() {
                delta.upserts.push(slice.partials(self.plan.partial.arrow(), *end, &changed)?);
            }
        }
        Ok(StateDelta { tables: vec![delta], instance: Some(encode_watermark(self.closed)) })
    }
}
