//! The SESSION table function on its own: rows wait until their session is over, then leave with its window.

use super::firing::{DUE, Windowed};
use super::session_aggregate::{closed_by, gap_ms, instants, session_properties};
use super::sessions::{Placed, Sessions};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType as ArrowType, Int64Type, SchemaRef, TimeUnit};
use millstream_core::graph::{WindowProperty, WindowSpec, WindowTime};
use millstream_core::operator::{Context, TARGET_BATCH_ROWS, TableDelta, TableSpec};
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind, Watermark};
use std::collections::{BTreeMap, HashSet, VecDeque};
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
    /// Rows of sessions that are over: what is to be emitted next. The first `due_stored` are in its own state table.
    leaving: VecDeque<Leaving>,
    due_stored: usize,
    due_table: TableSpec,
    deletes: Vec<RecordBatch>,
    due_deletes: Vec<RecordBatch>,
}

/// A row and the session that it was in.
#[derive(Clone, Copy)]
struct Leaving {
    row: RowRef,
    start: i64,
    end: i64,
}

/// A row of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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

/// The state table of rows whose session is over.
pub(super) fn due_table(keys: &[usize], input: &Schema) -> TableSpec {
    let waiting = table(keys, input);
    let mut fields = waiting.schema.fields[..=input.len()].to_vec();
    fields.push(Field::new("session_start", TypeKind::BigInt.not_null()));
    fields.push(Field::new("session_end", TypeKind::BigInt.not_null()));
    TableSpec { name: DUE.into(), schema: Schema::new(fields), ..waiting }
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
            due_stored: 0,
            due_table: due_table(keys, input),
            deletes: vec![],
            due_deletes: vec![],
        })
    }

    fn keys_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|k| rows.column(*k).clone()).collect()
    }

    /// Puts rows into their sessions; returns which were late.
    fn place(&mut self, rows: RecordBatch, numbers: Vec<i64>, times: Vec<i64>, closed: i64) -> Result<Vec<u32>> {
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
        let late: Vec<u32> = (0u32..).zip(&is_alive).filter(|(_, alive)| !**alive).map(|(row, _)| row).collect();
        self.keep(Block { rows, numbers, times, alive: is_alive.len() - late.len(), is_alive });
        Ok(late)
    }

    /// Takes in a block that rows refer to by `next_block`.
    fn keep(&mut self, block: Block) {
        if block.alive > 0 {
            self.alive += block.alive;
            self.held += block.numbers.len();
            self.blocks.insert(self.next_block, block);
            self.next_block += 1;
        }
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

    /// Lets the rows of the sessions that end by `closed` go, until `count` or more are leaving.
    fn close(&mut self, closed: i64, count: usize) {
        while self.leaving.len() < count {
            let [slot] = self.sessions.close(closed, 1)[..] else { break };
            let (start, end) = (self.sessions.start(slot), self.sessions.end(slot));
            let mut rows = std::mem::take(&mut self.members[slot as usize]);
            rows.sort_by_key(|row| self.number(*row));
            self.leaving.extend(rows.into_iter().map(|row| Leaving { row, start, end }));
        }
    }

    /// Frees what the sessions that are no more have left behind.
    fn tidy(&mut self) -> Result<()> {
        if self.sessions.is_sparse() {
            let old = self.sessions.compact()?;
            self.members = old.into_iter().map(|slot| std::mem::take(&mut self.members[slot as usize])).collect();
        }
        if self.held > 2 * self.alive + MAX_DEAD {
            self.repack()?;
        }
        Ok(())
    }

    /// The keys of rows in both state tables, of those that `is_wanted`; `None` if there are none.
    fn stored_keys(
        &self,
        columns: &[ArrayRef],
        numbers: &[i64],
        is_wanted: BooleanArray,
    ) -> Result<Option<RecordBatch>> {
        if is_wanted.true_count() == 0 {
            return Ok(None);
        }
        let mut keys: Vec<ArrayRef> = self.keys.iter().map(|k| columns[*k].clone()).collect();
        keys.push(Arc::new(Int64Array::from(numbers.to_vec())));
        let schema = self.table.schema.project(&self.table.key);
        let keys = RecordBatch::try_new(schema.arrow().clone(), keys)?;
        Ok(Some(compute::filter_record_batch(&keys, &is_wanted)?))
    }

    /// Lets go of rows whose columns are `columns`, the first that were leaving.
    fn forget(&mut self, rows: &[RowRef], columns: &[ArrayRef]) -> Result<()> {
        let numbers: Vec<i64> = rows.iter().map(|row| self.number(*row)).collect();
        let due_stored = self.due_stored.min(rows.len());
        let is_due = (0..rows.len()).map(|at| Some(at < due_stored)).collect();
        let is_waiting = numbers.iter().enumerate().map(|(at, n)| Some(at >= due_stored && *n < self.stored_below));
        let (due, waiting) =
            (self.stored_keys(columns, &numbers, is_due)?, self.stored_keys(columns, &numbers, is_waiting.collect())?);
        self.due_deletes.extend(due);
        self.deletes.extend(waiting);
        self.due_stored -= due_stored;
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

    /// Moves rows that are leaving to their own state table; gives what changed there, if anything did.
    fn due_changes(&mut self) -> Result<Option<TableDelta>> {
        let fresh: Vec<Leaving> = self.leaving.range(self.due_stored..).copied().collect();
        let mut upserts = vec![];
        for fresh in fresh.chunks(TARGET_BATCH_ROWS) {
            let rows: Vec<RowRef> = fresh.iter().map(|leaving| leaving.row).collect();
            let numbers: Vec<i64> = rows.iter().map(|row| self.number(*row)).collect();
            let mut columns = self.gather(&rows)?;
            let is_stored = numbers.iter().map(|n| Some(*n < self.stored_below)).collect();
            self.deletes.extend(self.stored_keys(&columns, &numbers, is_stored)?);
            columns.push(Arc::new(Int64Array::from(numbers)));
            columns.push(Arc::new(fresh.iter().map(|leaving| leaving.start).collect::<Int64Array>()));
            columns.push(Arc::new(fresh.iter().map(|leaving| leaving.end).collect::<Int64Array>()));
            upserts.push(RecordBatch::try_new(self.due_table.schema.arrow().clone(), columns)?);
        }
        self.due_stored = self.leaving.len();
        let delta = TableDelta {
            table: DUE.into(),
            deletes: std::mem::take(&mut self.due_deletes),
            upserts,
            ..TableDelta::default()
        };
        Ok((!delta.deletes.is_empty() || !delta.upserts.is_empty()).then_some(delta))
    }

    /// Stored rows in the order in which they came: their own columns, their numbers, and the columns after that.
    fn stored_rows(&mut self, rows: &RecordBatch, width: usize) -> Result<(RecordBatch, Vec<i64>, Vec<Vec<i64>>)> {
        let own = self.schema.fields().len() - 3;
        if rows.num_columns() != width {
            return Err(Error::state("stored rows have an unexpected number of columns"));
        }
        let order = compute::sort_to_indices(rows.column(own), None, None)?;
        let rows = compute::take_record_batch(rows, &order)?;
        let longs = |at: usize| rows.column(at).as_primitive::<Int64Type>().values().to_vec();
        let numbers = longs(own);
        self.next_number = numbers.last().map_or(0, |last| last + 1).max(self.next_number);
        self.stored_below = self.next_number;
        let schema = Arc::new(arrow::datatypes::Schema::new(self.schema.fields()[..own].to_vec()));
        let batch = Batch::from_columns(schema, rows.columns()[..own].to_vec(), rows.num_rows())?;
        Ok((batch.rows, numbers, (own + 1..width).map(longs).collect()))
    }
}

impl Windowed for SessionAssign {
    fn time(&self) -> WindowTime {
        self.window.time
    }

    fn restore(&mut self, table: &str, rows: RecordBatch) -> Result<()> {
        match table {
            TABLE => {
                let (rows, numbers, mut times) = self.stored_rows(&rows, self.table.schema.len())?;
                self.place(rows, numbers, times.swap_remove(0), i64::MIN)?;
            }
            DUE => {
                let (rows, numbers, bounds) = self.stored_rows(&rows, self.due_table.schema.len())?;
                let (block, alive) = (self.next_block, numbers.len());
                for (row, (start, end)) in bounds[0].iter().zip(&bounds[1]).enumerate() {
                    let row = RowRef { block, row: row as u32 };
                    self.leaving.push_back(Leaving { row, start: *start, end: *end });
                }
                // Their times don't matter any more.
                self.keep(Block { rows, times: numbers.clone(), numbers, is_alive: vec![true; alive], alive });
                self.leaving.make_contiguous().sort_by_key(|leaving| leaving.end);
                self.due_stored = self.leaving.len();
            }
            _ => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn start_after(&mut self, _closed: i64) {}

    fn add(&mut self, batch: Batch, now_ms: i64, closed: i64) -> Result<Vec<u32>> {
        if batch.kinds.is_some() {
            return Err(Error::internal("a SESSION window function over updating rows"));
        }
        let times = instants(self.window.time, &batch, now_ms, closed)?;
        let numbers: Vec<i64> = (self.next_number..self.next_number + batch.num_rows() as i64).collect();
        self.next_number += batch.num_rows() as i64;
        self.place(batch.rows, numbers, times, closed)
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
        !self.leaving.is_empty() || self.sessions.next_end().is_some_and(|end| end <= closed)
    }

    fn set_due_apart(&mut self, closed: i64) -> Result<()> {
        self.close(closed, usize::MAX);
        Ok(())
    }

    fn emit(&mut self, closed: i64, ctx: &mut Context<'_>) -> Result<usize> {
        self.close(closed, TARGET_BATCH_ROWS);
        let leaving: Vec<Leaving> = self.leaving.drain(..self.leaving.len().min(TARGET_BATCH_ROWS)).collect();
        if leaving.is_empty() {
            return Ok(0);
        }
        let rows: Vec<RowRef> = leaving.iter().map(|l| l.row).collect();
        let (starts, ends): (Vec<i64>, Vec<i64>) = leaving.iter().map(|l| (l.start, l.end)).unzip();
        let mut columns = self.gather(&rows)?;
        self.forget(&rows, &columns)?;
        columns.extend(session_properties(&self.properties, &self.window, &starts, &ends));
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, rows.len())?)?;
        if self.leaving.is_empty() {
            self.tidy()?;
        }
        Ok(rows.len())
    }

    fn changes(&mut self, _closed: i64) -> Result<Vec<TableDelta>> {
        let due = self.due_changes()?;
        let mut delta = TableDelta { table: TABLE.into(), ..TableDelta::default() };
        delta.deletes = std::mem::take(&mut self.deletes);
        let leaving: HashSet<RowRef> = self.leaving.iter().map(|leaving| leaving.row).collect();
        let schema = self.table.schema.arrow();
        for (number, block) in &self.blocks {
            let is_new = |row: &u32| {
                block.is_alive[*row as usize]
                    && block.numbers[*row as usize] >= self.stored_below
                    && (leaving.is_empty() || !leaving.contains(&RowRef { block: *number, row: *row }))
            };
            let rows: Vec<u32> = (0..block.numbers.len() as u32).filter(is_new).collect();
            if rows.is_empty() {
                continue;
            }
            let longs =
                |of: &[i64]| -> ArrayRef { Arc::new(rows.iter().map(|r| of[*r as usize]).collect::<Int64Array>()) };
            let (numbers, times) = (longs(&block.numbers), longs(&block.times));
            let taken = compute::take_record_batch(&block.rows, &UInt32Array::from(rows))?;
            let mut columns = taken.columns().to_vec();
            columns.extend([numbers, times]);
            delta.upserts.push(RecordBatch::try_new(schema.clone(), columns)?);
        }
        self.stored_below = self.next_number;
        Ok([delta].into_iter().chain(due).collect())
    }
}
