//! The SESSION table function on its own: rows wait until their session is over, then leave with its window.

use super::session_aggregate::{closed_by, gap_ms, instants, properties};
use super::sessions::{Placed, Sessions};
use super::watermark::{encode_watermark, lowest_watermark};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType as ArrowType, Int64Type, SchemaRef, TimeUnit};
use millstream_core::graph::{WindowProperty, WindowSpec, WindowTime};
use millstream_core::metrics;
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableDelta, TableSpec,
};
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind, Watermark};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The state table: the waiting rows.
const TABLE: &str = millstream_core::graph::state_tables::ROWS;
/// Dead rows that may be kept in memory beside as many living ones.
const MAX_DEAD: usize = 8 * TARGET_BATCH_ROWS;

/// Keeps rows by session. In the state table a row is known by the session key and a number.
pub(super) struct SessionAssign {
    window: WindowSpec,
    keys: Vec<usize>,
    properties: [WindowProperty; 3],
    schema: SchemaRef,
    table: TableSpec,
    sessions: Sessions,
    /// The rows of each slot.
    members: Vec<Vec<RowRef>>,
    blocks: BTreeMap<u32, Block>,
    next_block: u32,
    /// Rows that are alive, and all that the blocks hold.
    alive: usize,
    held: usize,
    next_number: i64,
    /// Rows with a lower number are stored.
    stored_below: i64,
    /// Rows of sessions that are over: what is to be emitted next.
    leaving: VecDeque<(u32, RowRef)>,
    deletes: Vec<RecordBatch>,
    /// Sessions that end by this instant are over.
    closed: i64,
}

/// A row of a block.
#[derive(Clone, Copy)]
struct RowRef {
    block: u32,
    row: u32,
}

/// Rows that came together, of which some may have left.
struct Block {
    rows: RecordBatch,
    numbers: Vec<i64>,
    times: Vec<i64>,
    is_alive: Vec<bool>,
    alive: usize,
}

/// The state table over rows of the schema `input`.
pub(super) fn table(keys: &[usize], input: &Schema) -> TableSpec {
    let column = |(i, field): (usize, &Field)| Field::new(format!("c{i}"), field.data_type.clone());
    let mut fields: Vec<Field> = input.fields.iter().enumerate().map(column).collect();
    fields.push(Field::new("number", TypeKind::BigInt.not_null()));
    fields.push(Field::new("time", TypeKind::BigInt.not_null()));
    let mut key = keys.to_vec();
    key.push(input.len());
    TableSpec { name: TABLE.into(), schema: Schema::new(fields), key, partition_by: keys.to_vec(), time: None }
}

impl SessionAssign {
    pub(super) fn new(window: &WindowSpec, keys: &[usize], input: &Schema, output: &Schema) -> Result<Self> {
        if output.len() != input.len() + 3 || keys.iter().any(|k| *k >= input.len()) {
            return Err(Error::internal("a window function's output is its input and three columns"));
        }
        let last = output.arrow().field(output.len() - 1).data_type();
        let local_time_zone = matches!(last, ArrowType::Timestamp(TimeUnit::Millisecond, Some(_)));
        let types = keys.iter().map(|k| input.fields[*k].data_type.arrow()).collect();
        Ok(SessionAssign {
            window: window.clone(),
            keys: keys.to_vec(),
            properties: [WindowProperty::Start, WindowProperty::End, WindowProperty::RowTime { local_time_zone }],
            schema: output.arrow().clone(),
            table: table(keys, input),
            sessions: Sessions::new(gap_ms(window)?, types)?,
            members: vec![],
            blocks: BTreeMap::new(),
            next_block: 0,
            alive: 0,
            held: 0,
            next_number: 0,
            stored_below: 0,
            leaving: VecDeque::new(),
            deletes: vec![],
            closed: i64::MIN,
        })
    }

    fn is_event_time(&self) -> bool {
        self.window.time != WindowTime::Processing
    }

    fn keys_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|k| rows.column(*k).clone()).collect()
    }

    /// Puts rows into their sessions; returns how many were late.
    fn add(&mut self, rows: RecordBatch, numbers: Vec<i64>, times: Vec<i64>, closed: i64) -> Result<u64> {
        let keys = self.sessions.find_keys(&self.keys_of(&rows), rows.num_rows())?;
        let block = self.next_block;
        let mut is_alive = vec![true; numbers.len()];
        for (row, (key, time)) in keys.into_iter().zip(&times).enumerate() {
            let placed = self.sessions.place(key, *time, closed);
            self.members.resize_with(self.sessions.len(), Vec::new);
            let slot = match placed {
                Placed::Late => {
                    is_alive[row] = false;
                    continue;
                }
                Placed::In(slot) => slot,
                Placed::Bridging(into, from) => {
                    for slot in from {
                        let mut moved = std::mem::take(&mut self.members[slot as usize]);
                        self.members[into as usize].append(&mut moved);
                    }
                    into
                }
            };
            self.members[slot as usize].push(RowRef { block, row: row as u32 });
        }
        let alive = is_alive.iter().filter(|a| **a).count();
        let late = numbers.len() - alive;
        if alive > 0 {
            self.next_block += 1;
            self.alive += alive;
            self.held += numbers.len();
            self.blocks.insert(block, Block { rows, numbers, times, is_alive, alive });
        }
        Ok(late as u64)
    }

    fn number(&self, row: RowRef) -> i64 {
        self.blocks[&row.block].numbers[row.row as usize]
    }

    /// The columns of rows, in the order of `rows`.
    fn gather(&self, rows: &[RowRef]) -> Result<Vec<ArrayRef>> {
        let mut places: BTreeMap<u32, usize> = rows.iter().map(|r| (r.block, 0)).collect();
        places.values_mut().enumerate().for_each(|(i, place)| *place = i);
        let indices: Vec<(usize, usize)> = rows.iter().map(|r| (places[&r.block], r.row as usize)).collect();
        let mut columns = vec![];
        for column in 0..self.schema.fields().len() - 3 {
            let arrays: Vec<_> = places.keys().map(|b| self.blocks[b].rows.column(column).as_ref()).collect();
            columns.push(compute::interleave(&arrays, &indices)?);
        }
        Ok(columns)
    }

    /// Closes the sessions that end by `closed`, and emits about a batch of their rows.
    fn advance(&mut self, closed: i64, ctx: &mut Context<'_>) -> Result<Progress> {
        while self.leaving.len() < TARGET_BATCH_ROWS {
            let [slot] = self.sessions.close(closed, 1)[..] else { break };
            let mut rows = std::mem::take(&mut self.members[slot as usize]);
            rows.sort_by_key(|row| self.number(*row));
            self.leaving.extend(rows.into_iter().map(|row| (slot, row)));
        }
        let count = self.leaving.len().min(TARGET_BATCH_ROWS);
        if count > 0 {
            let (slots, rows): (Vec<u32>, Vec<RowRef>) = self.leaving.drain(..count).unzip();
            let mut columns = self.gather(&rows)?;
            self.forget(&rows, &columns)?;
            columns.extend(properties(&self.properties, &self.window, &self.sessions, &slots));
            ctx.emit(Batch::from_columns(self.schema.clone(), columns, count)?)?;
        }
        if count == TARGET_BATCH_ROWS {
            return Ok(Progress::More);
        }
        if self.sessions.is_sparse() {
            let old = self.sessions.compact()?;
            self.members = old.into_iter().map(|slot| std::mem::take(&mut self.members[slot as usize])).collect();
        }
        if self.held > 2 * self.alive + MAX_DEAD {
            self.repack()?;
        }
        self.closed = self.closed.max(closed);
        Ok(Progress::Done)
    }

    /// Lets go of rows whose columns are `columns`.
    fn forget(&mut self, rows: &[RowRef], columns: &[ArrayRef]) -> Result<()> {
        let numbers: Vec<i64> = rows.iter().map(|row| self.number(*row)).collect();
        let stored: BooleanArray = numbers.iter().map(|n| Some(*n < self.stored_below)).collect();
        if stored.true_count() > 0 {
            let mut gone: Vec<ArrayRef> = self.keys.iter().map(|k| columns[*k].clone()).collect();
            gone.push(Arc::new(Int64Array::from(numbers)));
            let schema = self.table.schema.project(&self.table.key);
            let gone = RecordBatch::try_new(schema.arrow().clone(), gone)?;
            self.deletes.push(compute::filter_record_batch(&gone, &stored)?);
        }
        for row in rows {
            let Some(block) = self.blocks.get_mut(&row.block) else { continue };
            block.is_alive[row.row as usize] = false;
            block.alive -= 1;
            if block.alive == 0 {
                self.held -= block.numbers.len();
                self.blocks.remove(&row.block);
            }
        }
        self.alive -= rows.len();
        Ok(())
    }

    /// Copies the living rows together, so that the dead ones' memory is freed.
    fn repack(&mut self) -> Result<()> {
        let rows: Vec<RowRef> = self.members.iter().flatten().copied().collect();
        let numbers: Vec<i64> = rows.iter().map(|row| self.number(*row)).collect();
        let times = rows.iter().map(|row| self.blocks[&row.block].times[row.row as usize]).collect();
        let columns = self.gather(&rows)?;
        let fields = self.schema.fields()[..columns.len()].to_vec();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let batch = Batch::from_columns(schema, columns, rows.len())?.rows;
        let block = self.next_block;
        self.next_block += 1;
        for (row, member) in self.members.iter_mut().flatten().enumerate() {
            *member = RowRef { block, row: row as u32 };
        }
        let alive = rows.len();
        self.held = alive;
        self.blocks = [(block, Block { rows: batch, numbers, times, is_alive: vec![true; alive], alive })].into();
        Ok(())
    }
}

impl Operator for SessionAssign {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => self.closed = lowest_watermark(&instances)?,
            Restored::Rows { table, rows } if table == TABLE => {
                let width = self.table.schema.len() - 2;
                if rows.num_columns() != width + 2 {
                    return Err(Error::state("stored rows have an unexpected number of columns"));
                }
                // In the order in which they came.
                let order = compute::sort_to_indices(rows.column(width), None, None)?;
                let rows = compute::take_record_batch(&rows, &order)?;
                let longs = |at: usize| rows.column(at).as_primitive::<Int64Type>().values().to_vec();
                let (numbers, times) = (longs(width), longs(width + 1));
                self.next_number = numbers.last().map_or(0, |last| last + 1).max(self.next_number);
                self.stored_below = self.next_number;
                let fields = self.schema.fields()[..width].to_vec();
                let schema = Arc::new(arrow::datatypes::Schema::new(fields));
                let batch = Batch::from_columns(schema, rows.columns()[..width].to_vec(), rows.num_rows())?;
                self.add(batch.rows, numbers, times, i64::MIN)?;
            }
            Restored::Rows { table, .. } => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        if batch.kinds.is_some() {
            return Err(Error::internal("a SESSION window function over updating rows"));
        }
        let times = instants(self.window.time, &batch, ctx.now_ms, self.closed)?;
        let numbers: Vec<i64> = (self.next_number..self.next_number + batch.num_rows() as i64).collect();
        self.next_number += batch.num_rows() as i64;
        let late = self.add(batch.rows, numbers, times, self.closed)?;
        if late > 0 {
            metrics::add(&ctx.metrics.late_rows, late);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        if self.is_event_time() && self.advance(closed_by(watermark), ctx)? == Progress::More {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        if self.is_event_time() { Ok(Progress::Done) } else { self.advance(ctx.now_ms, ctx) }
    }

    fn next_timer(&self) -> Option<i64> {
        if self.is_event_time() { None } else { self.sessions.next_end() }
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.advance(i64::MAX, ctx)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let mut delta = TableDelta { table: TABLE.into(), ..TableDelta::default() };
        delta.deletes = std::mem::take(&mut self.deletes);
        let schema = self.table.schema.arrow();
        for block in self.blocks.values() {
            let is_new = |row: &u32| block.is_alive[*row as usize] && block.numbers[*row as usize] >= self.stored_below;
            let rows: Vec<u32> = (0..block.numbers.len() as u32).filter(is_new).collect();
            if rows.is_empty() {
                continue;
            }
            let longs =
                |of: &[i64]| -> ArrayRef { Arc::new(rows.iter().map(|r| of[*r as usize]).collect::<Int64Array>()) };
            let (numbers, times) = (longs(&block.numbers), longs(&block.times));
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let taken = compute::take_record_batch(&block.rows, &UInt32Array::from(rows))?;
            let mut columns = taken.columns().to_vec();
            columns.extend([numbers, times]);
            delta.upserts.push(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?);
        }
        self.stored_below = self.next_number;
        Ok(StateDelta { tables: vec![delta], instance: Some(encode_watermark(self.closed)) })
    }
}
