//! Aggregates over SESSION windows: partial results of sessions that merge as rows bridge the gaps between them.

use super::aggregate::{Accumulator, in_window, signs};
use super::firing::{DUE, Windowed, property_columns};
use super::sessions::{Placed, Sessions};
use super::watermark::column_ms;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType as ArrowType, Int64Type, SchemaRef};
use millstream_core::graph::{
    AggregatePhase, Connections, WindowAggregate, WindowProperty, WindowShape, WindowSpec, WindowTime,
};
use millstream_core::operator::{Context, TARGET_BATCH_ROWS, TableDelta, TableSpec};
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind, Watermark};
use std::collections::VecDeque;
use std::sync::Arc;

/// The state table: partial results by key and session.
const TABLE: &str = millstream_core::graph::state_tables::SESSIONS;

/// One session a slot; the key of a stored open session is the group's key and the session's start.
pub(super) struct SessionAggregate {
    spec: WindowAggregate,
    retracts: bool,
    schema: SchemaRef,
    table: TableSpec,
    sessions: Sessions,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// How many columns each one's state has.
    state_columns: Vec<usize>,
    /// The start under which a slot's session is stored.
    stored: Vec<Option<i64>>,
    /// Which slots changed since the last snapshot, as a flag each and a list.
    is_changed: Vec<bool>,
    changed: Vec<u32>,
    /// Stored sessions that began anew at an earlier start or were merged away: a slot of their key, their start.
    moved: Vec<(u32, i64)>,
    /// The same, from before the slots were last renumbered.
    deletes: Vec<RecordBatch>,
    /// Sessions that are over and have not left, by their ends; the first `due_stored` of them are in the state table.
    due: VecDeque<u32>,
    due_stored: usize,
    due_table: TableSpec,
    due_deletes: Vec<RecordBatch>,
}

/// The state table of a session aggregate over what arrives.
pub(super) fn table(spec: &WindowAggregate, connections: &Connections) -> Result<TableSpec> {
    let input = connections.input(0)?;
    if spec.phase != AggregatePhase::Single {
        return Err(Error::unsupported("an aggregate over SESSION windows in two phases"));
    }
    if spec.session_keys != spec.keys.len() {
        return Err(Error::internal("a session aggregate groups by what its sessions are partitioned by"));
    }
    let field = |(i, column): (usize, &usize)| {
        let field = input.fields.get(*column).ok_or_else(|| Error::internal("a key that is no column"))?;
        Ok(Field::new(format!("k{i}"), field.data_type.clone()))
    };
    let mut fields = spec.keys.iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
    let keys = fields.len();
    fields.push(Field::new("session_start", TypeKind::BigInt.not_null()));
    fields.push(Field::new("session_end", TypeKind::BigInt.not_null()));
    for (i, call) in spec.aggregates.iter().enumerate() {
        let columns = in_window(call, connections.retracts(0))?.1.into_iter().enumerate();
        fields.extend(columns.map(|(j, t)| Field::new(format!("a{i}_{j}"), t)));
    }
    Ok(TableSpec {
        name: TABLE.into(),
        schema: Schema::new(fields),
        key: (0..=keys).collect(),
        partition_by: (0..keys).collect(),
        time: Some(keys + 1),
    })
}

/// The state table of sessions that are over: one may have begun when another of its key did, and grown past it.
pub(super) fn due_table(sessions: &TableSpec) -> TableSpec {
    let end = sessions.key.len();
    TableSpec { name: DUE.into(), key: (0..=end).collect(), time: None, ..sessions.clone() }
}

/// A session window's gap in milliseconds.
pub(super) fn gap_ms(window: &WindowSpec) -> Result<i64> {
    match window.shape {
        WindowShape::Session { gap_ms } if gap_ms > 0 => Ok(gap_ms),
        WindowShape::Session { .. } => Err(Error::script("a window's length must be positive")),
        _ => Err(Error::internal("a window that is no session")),
    }
}

/// The instants of a batch's rows, which a clock set back doesn't move before `closed`.
pub(super) fn instants(time: WindowTime, batch: &Batch, now_ms: i64, closed: i64) -> Result<Vec<i64>> {
    match time {
        WindowTime::Event { column } => column_ms(batch.column(column), "the time attribute of a window"),
        WindowTime::Processing => Ok(vec![now_ms.max(closed); batch.num_rows()]),
    }
}

/// `window_start`, `window_end` and `window_time` of sessions by their instants.
pub(super) fn session_properties(
    wanted: &[WindowProperty],
    window: &WindowSpec,
    starts: &[i64],
    ends: &[i64],
) -> Vec<ArrayRef> {
    let local = |instants: &[i64]| instants.iter().map(|ms| window.zone.to_local_ms(*ms)).collect::<Vec<_>>();
    let local_ends = local(ends);
    property_columns(wanted, &local(starts), &local_ends, |local_time_zone| match local_time_zone {
        false => Arc::new(TimestampMillisecondArray::from_iter_values(local_ends.iter().map(|end| end - 1))),
        true => {
            let last = TimestampMillisecondArray::from_iter_values(ends.iter().map(|end| end - 1));
            Arc::new(last.with_timezone("UTC"))
        }
    })
}

/// Up to which end sessions are over at a watermark.
pub(super) fn closed_by(watermark: Watermark) -> i64 {
    if watermark == Watermark::MIN { i64::MIN } else { watermark.0.saturating_add(1) }
}

impl SessionAggregate {
    pub(super) fn new(spec: &WindowAggregate, connections: &Connections) -> Result<Self> {
        let table = table(spec, connections)?;
        let retracts = connections.retracts(0);
        let (accumulators, state_columns) = accumulators(spec, retracts)?;
        let types: Vec<ArrowType> =
            table.schema.fields[..spec.keys.len()].iter().map(|f| f.data_type.arrow()).collect();
        Ok(SessionAggregate {
            sessions: Sessions::new(gap_ms(&spec.window)?, types)?,
            accumulators,
            state_columns,
            retracts,
            spec: spec.clone(),
            schema: connections.output.schema.arrow().clone(),
            due_table: due_table(&table),
            table,
            stored: vec![],
            is_changed: vec![],
            changed: vec![],
            moved: vec![],
            deletes: vec![],
            due: VecDeque::new(),
            due_stored: 0,
            due_deletes: vec![],
        })
    }

    fn grow(&mut self) {
        let slots = self.sessions.len();
        self.accumulators.iter_mut().for_each(|a| a.resize(slots));
        self.stored.resize(slots, None);
        self.is_changed.resize(slots, false);
    }

    /// Takes in rows that are known to be in these sessions.
    fn update(&mut self, batch: &Batch, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.grow();
        for slot in slots {
            if !std::mem::replace(&mut self.is_changed[*slot as usize], true) {
                self.changed.push(*slot);
            }
        }
        for (accumulator, call) in self.accumulators.iter_mut().zip(&self.spec.aggregates) {
            let args: Vec<ArrayRef> = call.args.iter().map(|c| batch.column(*c).clone()).collect();
            accumulator.update(slots, &args, signs(batch, call.filter).as_deref())?;
        }
        Ok(())
    }

    /// Puts the partial results of sessions that are no more into the one that they became part of.
    fn merge(&mut self, into: u32, from: &[u32]) -> Result<()> {
        self.grow();
        for slot in from {
            for accumulator in &mut self.accumulators {
                let state = accumulator.state(&[*slot])?;
                accumulator.merge(&[into], &state)?;
            }
            if let Some(start) = self.stored[*slot as usize].take() {
                self.moved.push((*slot, start));
            }
        }
        Ok(())
    }

    /// Frees the slots of sessions that are no more.
    fn compact(&mut self) -> Result<()> {
        // Their keys are gone afterwards.
        self.store_moved()?;
        let old = self.sessions.compact()?;
        let mut fresh = accumulators(&self.spec, self.retracts)?.0;
        for (new, known) in fresh.iter_mut().zip(&self.accumulators) {
            new.resize(old.len());
            for (chunk, slots) in old.chunks(TARGET_BATCH_ROWS).enumerate() {
                let first = (chunk * TARGET_BATCH_ROWS) as u32;
                let renumbered: Vec<u32> = (first..first + slots.len() as u32).collect();
                new.merge(&renumbered, &known.state(slots)?)?;
            }
        }
        self.accumulators = fresh;
        self.stored = old.iter().map(|slot| self.stored[*slot as usize]).collect();
        self.is_changed = old.iter().map(|slot| self.is_changed[*slot as usize]).collect();
        self.changed = (0..old.len() as u32).filter(|slot| self.is_changed[*slot as usize]).collect();
        Ok(())
    }

    fn store_moved(&mut self) -> Result<()> {
        if self.moved.is_empty() {
            return Ok(());
        }
        let (slots, starts): (Vec<u32>, Vec<i64>) = std::mem::take(&mut self.moved).into_iter().unzip();
        let mut columns = self.sessions.keys(&slots)?;
        columns.push(Arc::new(Int64Array::from(starts)));
        let schema = self.table.schema.project(&self.table.key);
        self.deletes.push(RecordBatch::try_new(schema.arrow().clone(), columns)?);
        Ok(())
    }

    /// Takes in stored sessions, open or due; gives their slots.
    fn restore_rows(&mut self, rows: &RecordBatch, is_due: bool) -> Result<Vec<u32>> {
        if rows.num_columns() != self.table.schema.len() {
            return Err(Error::state("stored sessions have an unexpected number of columns"));
        }
        let (keys, rest) = rows.columns().split_at(self.spec.keys.len());
        let [starts, ends, states @ ..] = rest else { return Err(Error::internal("a session has a start and an end")) };
        let keys = self.sessions.find_keys(keys, rows.num_rows())?;
        let (starts, ends) = (starts.as_primitive::<Int64Type>().values(), ends.as_primitive::<Int64Type>().values());
        let mut slots = Vec::with_capacity(keys.len());
        for ((key, start), end) in keys.into_iter().zip(starts).zip(ends) {
            slots.push(match is_due {
                false => self.sessions.restore(key, *start, *end),
                true => self.sessions.restore_closed(key, *start, *end),
            });
        }
        self.grow();
        let mut rest = states;
        for (accumulator, columns) in self.accumulators.iter_mut().zip(&self.state_columns) {
            let (own, others) =
                rest.split_at_checked(*columns).ok_or_else(|| Error::state("stored sessions lack columns"))?;
            accumulator.merge(&slots, own)?;
            rest = others;
        }
        Ok(slots)
    }

    /// Rows of the state table of open sessions or of that of due ones.
    fn stored_rows(&self, table: &TableSpec, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.bounds(slots)?;
        for accumulator in &self.accumulators {
            columns.extend(accumulator.state(slots)?);
        }
        Ok(RecordBatch::try_new(table.schema.arrow().clone(), columns)?)
    }

    /// Keys of the state table of due sessions.
    fn stored_keys(&self, slots: &[u32]) -> Result<RecordBatch> {
        let schema = self.due_table.schema.project(&self.due_table.key);
        Ok(RecordBatch::try_new(schema.arrow().clone(), self.bounds(slots)?)?)
    }

    /// The key columns of sessions, their starts and their ends.
    fn bounds(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = self.sessions.keys(slots)?;
        columns.push(Arc::new(slots.iter().map(|slot| self.sessions.start(*slot)).collect::<Int64Array>()));
        columns.push(Arc::new(slots.iter().map(|slot| self.sessions.end(*slot)).collect::<Int64Array>()));
        Ok(columns)
    }

    /// What changed in the state table of due sessions, if anything did.
    fn due_changes(&mut self) -> Result<Option<TableDelta>> {
        let deletes = std::mem::take(&mut self.due_deletes);
        let mut delta = TableDelta { table: DUE.into(), deletes, ..TableDelta::default() };
        let fresh: Vec<u32> = self.due.range(self.due_stored..).copied().collect();
        for fresh in fresh.chunks(TARGET_BATCH_ROWS) {
            delta.upserts.push(self.stored_rows(&self.due_table, fresh)?);
        }
        self.due_stored = self.due.len();
        Ok((!delta.deletes.is_empty() || !delta.upserts.is_empty()).then_some(delta))
    }
}

/// The accumulators of all calls, and how many columns the state of each has.
fn accumulators(spec: &WindowAggregate, retracts: bool) -> Result<(Vec<Box<dyn Accumulator>>, Vec<usize>)> {
    let all: Vec<_> = spec.aggregates.iter().map(|call| in_window(call, retracts)).collect::<Result<_>>()?;
    Ok(all.into_iter().map(|(accumulator, types)| (accumulator, types.len())).unzip())
}

impl Windowed for SessionAggregate {
    fn time(&self) -> WindowTime {
        self.spec.window.time
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        match table {
            TABLE => {
                let slots = self.restore_rows(&rows, false)?;
                slots.into_iter().for_each(|slot| self.stored[slot as usize] = Some(self.sessions.start(slot)));
            }
            DUE => {
                let slots = self.restore_rows(&rows, true)?;
                self.due.extend(slots);
                self.due.make_contiguous().sort_by_key(|slot| self.sessions.end(*slot));
                self.due_stored = self.due.len();
            }
            _ => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn start_after(&mut self, _closed: i64) {}

    fn add(&mut self, batch: Batch, now_ms: i64, closed: i64) -> Result<Vec<u32>> {
        let times = instants(self.spec.window.time, &batch, now_ms, closed)?;
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|c| batch.column(*c).clone()).collect();
        let keys = self.sessions.find_keys(&keys, batch.num_rows())?;
        let (mut late, mut first) = (vec![], 0);
        let mut slots: Vec<u32> = Vec::with_capacity(times.len());
        for (row, (key, time)) in keys.into_iter().zip(times).enumerate() {
            match self.sessions.place(key, time, closed) {
                Placed::In(slot) => slots.push(slot),
                Placed::Late => {
                    late.push(row as u32);
                    self.update(&batch.slice(first, slots.len()), &slots)?;
                    slots.clear();
                    first = row + 1;
                }
                // Rows before this one are in the sessions as they were: the order of merging doesn't depend on how
                // rows are batched.
                Placed::Bridging(into, from) => {
                    self.update(&batch.slice(first, slots.len()), &slots)?;
                    self.merge(into, &from)?;
                    slots.clear();
                    first = row;
                    slots.push(into);
                }
            }
        }
        self.update(&batch.slice(first, slots.len()), &slots)?;
        Ok(late)
    }

    fn closed_by(&self, watermark: Watermark) -> i64 {
        closed_by(watermark)
    }

    fn watermark_of(&self, closed: i64) -> Watermark {
        Watermark(closed.saturating_sub(1))
    }

    fn closed_at(&self, now_ms: i64) -> i64 {
        now_ms
    }

    fn next_end_ms(&self) -> Option<i64> {
        self.sessions.next_end()
    }

    fn has_due(&self, closed: i64) -> bool {
        !self.due.is_empty() || self.sessions.next_end().is_some_and(|end| end <= closed)
    }

    fn set_due_apart(&mut self, closed: i64) -> Result<()> {
        self.due.extend(self.sessions.close(closed, usize::MAX));
        Ok(())
    }

    fn emit(&mut self, closed: i64, ctx: &mut Context<'_>) -> Result<usize> {
        if self.due.is_empty() {
            self.due.extend(self.sessions.close(closed, TARGET_BATCH_ROWS));
        }
        let slots: Vec<u32> = self.due.drain(..self.due.len().min(TARGET_BATCH_ROWS)).collect();
        if slots.is_empty() {
            return Ok(0);
        }
        let stored = self.due_stored.min(slots.len());
        if stored > 0 {
            self.due_deletes.push(self.stored_keys(&slots[..stored])?);
            self.due_stored -= stored;
        }
        let mut columns = self.sessions.keys(&slots)?;
        for accumulator in &self.accumulators {
            columns.push(accumulator.evaluate(&slots)?);
        }
        let (starts, ends): (Vec<i64>, Vec<i64>) =
            slots.iter().map(|slot| (self.sessions.start(*slot), self.sessions.end(*slot))).unzip();
        columns.extend(session_properties(&self.spec.properties, &self.spec.window, &starts, &ends));
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, slots.len())?)?;
        if self.due.is_empty() && self.sessions.is_sparse() {
            self.compact()?;
        }
        Ok(slots.len())
    }

    fn changes(&mut self, closed: i64) -> Result<Vec<TableDelta>> {
        let mut delta = TableDelta { table: TABLE.into(), ..TableDelta::default() };
        if closed > i64::MIN {
            delta.expired_below = Some(closed.saturating_add(1));
        }
        let mut slots = vec![];
        for slot in std::mem::take(&mut self.changed) {
            self.is_changed[slot as usize] = false;
            if !self.sessions.is_open(slot) {
                continue;
            }
            let start = self.sessions.start(slot);
            match self.stored[slot as usize].replace(start) {
                Some(before) if before != start => self.moved.push((slot, before)),
                _ => {}
            }
            slots.push(slot);
        }
        self.store_moved()?;
        delta.deletes = std::mem::take(&mut self.deletes);
        for slots in slots.chunks(TARGET_BATCH_ROWS) {
            delta.upserts.push(self.stored_rows(&self.table, slots)?);
        }
        Ok([delta].into_iter().chain(self.due_changes()?).collect())
    }
}
