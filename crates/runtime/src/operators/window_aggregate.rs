//! Windowed aggregates over TUMBLE, HOP, CUMULATE and attached windows, in one phase or as the final of two.

use super::firing::{DUE, Windowed, property_columns};
use super::slices::{Cut, Plan, Slice, Slices, TABLE, parts, plain_millis};
use super::windows::window_time_array;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use millstream_core::graph::{AggregatePhase, Connections, WindowAggregate as Spec, WindowProperty, WindowTime};
use millstream_core::operator::{Context, TARGET_BATCH_ROWS, TableDelta, TableSpec};
use millstream_core::{Batch, Error, Result, Watermark};
use std::collections::VecDeque;

/// Aggregates by slice, merges a window's slices when it fires, and drops a slice with its last window.
pub(super) struct WindowAggregate {
    plan: Plan,
    time: WindowTime,
    takes_partials: bool,
    properties: Vec<WindowProperty>,
    schema: SchemaRef,
    slices: Slices,
    /// The windows that end by this local time were gathered from the slices.
    gathered: i64,
    /// Those of them that have not left, by their ends. They may end later if instances whose clocks differ were restored.
    due: VecDeque<Due>,
    due_table: TableSpec,
    /// Whether the state table of due windows may hold rows.
    is_due_stored: bool,
}

/// A window that is being emitted.
struct Due {
    end: i64,
    slice: Slice,
    /// The first group that has not left.
    next: usize,
    /// The groups of the state table: those that had not left at the last snapshot.
    stored: std::ops::Range<usize>,
}

impl Due {
    fn new(end: i64, slice: Slice) -> Self {
        Due { end, slice, next: 0, stored: 0..0 }
    }
}

impl WindowAggregate {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let (input, output) = (connections.input(0)?, &connections.output.schema);
        let plan = Plan::new(spec, input, connections.retracts(0))?;
        Ok(WindowAggregate {
            due_table: plan.due_table(),
            plan,
            time: spec.window.time,
            takes_partials: spec.phase == AggregatePhase::Global,
            properties: spec.properties.clone(),
            schema: output.arrow().clone(),
            slices: Slices::default(),
            gathered: i64::MIN,
            due: VecDeque::new(),
            is_due_stored: false,
        })
    }

    /// The end of the next window that holds rows and was not gathered.
    fn next_window(&self) -> Option<i64> {
        self.slices.0.keys().find_map(|slice| self.plan.window_after(*slice, self.gathered))
    }

    /// The end of the next window to leave.
    fn next_end(&self) -> Option<i64> {
        self.next_window().into_iter().chain(self.due.front().map(|due| due.end)).min()
    }

    /// Gathers the next window if it ends by `closed`, and lets go of the slices that no later one needs; returns
    /// whether there was one.
    fn gather_next(&mut self, closed: i64) -> Result<bool> {
        match self.next_window() {
            Some(end) if end <= closed => {
                let slice = self.gather(end)?;
                self.gathered = end;
                self.add_due(end, slice)?;
                Ok(true)
            }
            _ => {
                self.gathered = self.gathered.max(closed);
                Ok(false)
            }
        }
    }

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

    /// Puts groups of a window where they leave; gives the window.
    fn add_due(&mut self, end: i64, slice: Slice) -> Result<&mut Due> {
        let at = self.due.partition_point(|due| due.end < end);
        if self.due.get(at).is_some_and(|due| due.end == end) {
            self.due[at].slice.absorb(&self.plan, &slice)?;
        } else {
            self.due.insert(at, Due::new(end, slice));
        }
        Ok(&mut self.due[at])
    }

    fn is_late(&self, slice_end: i64, closed: i64) -> bool {
        self.plan.last_window(slice_end).is_some_and(|last| last <= closed)
    }

    /// What changed in the state table of due windows; `None` if it is and was empty.
    fn due_changes(&mut self, closed: i64) -> Result<Option<TableDelta>> {
        if self.due.is_empty() && !self.is_due_stored {
            return Ok(None);
        }
        let mut delta = TableDelta { table: DUE.into(), ..TableDelta::default() };
        delta.expired_below = Some(self.due.front().map_or(closed.saturating_add(1), |first| first.end));
        let keys = self.due_table.schema.project(&self.due_table.key);
        for due in &mut self.due {
            let groups = |range: std::ops::Range<usize>| (range.start as u32..range.end as u32).collect::<Vec<_>>();
            for gone in groups(due.stored.start..due.next.min(due.stored.end)).chunks(TARGET_BATCH_ROWS) {
                delta.deletes.push(due.slice.stored_keys(keys.arrow(), due.end, gone)?);
            }
            let len = due.slice.len();
            for fresh in groups(due.next.max(due.stored.end)..len).chunks(TARGET_BATCH_ROWS) {
                delta.upserts.push(due.slice.partials(self.due_table.schema.arrow(), due.end, fresh)?);
            }
            due.stored = due.next..len;
        }
        self.is_due_stored = !self.due.is_empty();
        Ok(Some(delta))
    }
}

impl Windowed for WindowAggregate {
    fn time(&self) -> WindowTime {
        self.time
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        match table {
            TABLE => {
                self.slices.merge(&self.plan, rows, |_| true)?;
                self.slices.0.values_mut().for_each(|slice| drop(slice.take_changed()));
            }
            DUE => {
                let mut windows = Slices::default();
                windows.merge(&self.plan, rows, |_| true)?;
                for (end, slice) in windows.0 {
                    let due = self.add_due(end, slice)?;
                    due.stored = 0..due.slice.len();
                }
                self.is_due_stored = true;
            }
            _ => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn start_after(&mut self, closed: i64) {
        self.gathered = closed;
    }

    fn add(&mut self, batch: Batch, now_ms: i64, closed: i64) -> Result<Vec<u32>> {
        if self.takes_partials {
            let plan = &self.plan;
            let wanted = |end: i64| plan.last_window(end).is_some_and(|last| last > closed);
            return self.slices.merge(plan, batch.rows, wanted);
        }
        let ends = match (self.time, &self.plan.cut) {
            (WindowTime::Processing, Cut::Windows(..)) => {
                // A clock that was set back makes no row late.
                let now = self.plan.zone().to_local_ms(now_ms).max(closed);
                self.plan.slice_ends(&batch, now)?
            }
            _ => self.plan.slice_ends(&batch, 0)?,
        };
        let (mut late, mut last) = (vec![], (i64::MIN, None));
        let mut wanted = Vec::with_capacity(ends.len());
        for (row, end) in (0u32..).zip(ends) {
            if last.0 != end {
                let is_late = self.is_late(end, closed);
                let is_wanted = !is_late && self.plan.last_window(end).is_some();
                last = (end, is_wanted.then_some(end));
            }
            if last.1.is_none() && self.is_late(end, closed) {
                late.push(row);
            }
            wanted.push(last.1);
        }
        for (end, part) in parts(&self.plan.project(&batch)?, &wanted)? {
            self.slices.get(&self.plan, end)?.update(&self.plan, &part)?;
        }
        Ok(late)
    }

    fn closed_by(&self, watermark: Watermark) -> i64 {
        self.plan.closed_by(watermark.0)
    }

    fn watermark_of(&self, closed: i64) -> Watermark {
        Watermark(self.plan.zone().to_utc_ms(closed).saturating_sub(1))
    }

    fn closed_at(&self, now_ms: i64) -> i64 {
        self.plan.zone().lowest_local_from(now_ms)
    }

    fn next_end_ms(&self) -> Option<i64> {
        self.next_end().map(|end| self.plan.zone().past_at_utc_ms(end))
    }

    fn has_due(&self, closed: i64) -> bool {
        self.next_end().is_some_and(|end| end <= closed)
    }

    fn set_due_apart(&mut self, closed: i64) -> Result<()> {
        while self.gather_next(closed)? {}
        Ok(())
    }

    fn emit(&mut self, closed: i64, ctx: &mut Context<'_>) -> Result<usize> {
        if self.due.front().is_none_or(|due| due.end > closed) || self.next_window() < self.due.front().map(|d| d.end) {
            self.gather_next(closed)?;
        }
        let Some(due) = self.due.front_mut() else { return Ok(0) };
        let upto = due.slice.len().min(due.next + TARGET_BATCH_ROWS);
        let groups: Vec<u32> = (due.next as u32..upto as u32).collect();
        due.next = upto;
        let (mut columns, results) = due.slice.results(&groups)?;
        let starts = match &self.plan.cut {
            Cut::Attached { .. } => {
                let start = columns.pop().ok_or_else(|| Error::internal("an attached window's start is a key"))?;
                plain_millis(&start)?.as_primitive::<TimestampMillisecondType>().values().to_vec()
            }
            Cut::Windows(windows, _) => vec![windows.start_of(due.end); groups.len()],
        };
        columns.extend(results);
        let (ends, zone) = (vec![due.end; groups.len()], self.plan.zone());
        let row_time = |local_time_zone| window_time_array(&ends, local_time_zone, zone);
        columns.extend(property_columns(&self.properties, &starts, &ends, row_time));
        if due.next == due.slice.len() {
            self.due.pop_front();
        }
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, groups.len())?)?;
        Ok(groups.len())
    }

    fn changes(&mut self, closed: i64) -> Result<Vec<TableDelta>> {
        let mut delta = TableDelta { table: TABLE.into(), ..TableDelta::default() };
        if closed > i64::MIN {
            delta.expired_below = Some(match &self.plan.cut {
                Cut::Windows(windows, _) => windows.first_needed(closed),
                Cut::Attached { .. } => closed.saturating_add(1),
            });
        }
        for (end, slice) in &mut self.slices.0 {
            let changed = slice.take_changed();
            if !changed.is_empty() {
                delta.upserts.push(slice.partials(self.plan.partial.arrow(), *end, &changed)?);
            }
        }
        Ok([delta].into_iter().chain(self.due_changes(closed)?).collect())
    }
}
