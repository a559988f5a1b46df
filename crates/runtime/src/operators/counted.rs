//! A table of rows with a count each, which tells what changed since the last snapshot and forgets what is gone.

use super::groups::GroupTable;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{DataType, Field, Result, Schema, TypeKind};
use std::sync::Arc;

/// Distinct rows, numbered, each with a count (0: it is not there) and the time of its last use. Its owner keeps more
/// columns beside it, by the same numbers.
pub(super) struct Counted {
    name: String,
    schema: SchemaRef,
    /// How many columns tell rows apart, in memory and in state.
    width: usize,
    state_width: usize,
    table: GroupTable,
    counts: Vec<i64>,
    /// Milliseconds of processing time; 0, or shorter than the counts, if nothing expires.
    touched: Vec<i64>,
    is_changed: Vec<bool>,
    changed: Vec<u32>,
    deletes: Vec<RecordBatch>,
    dead: usize,
    numbers: Vec<u32>,
}

/// Makes the columns that tell rows apart in state from those that do in memory.
pub(super) type Wire<'a> = &'a dyn Fn(Vec<ArrayRef>) -> Result<Vec<ArrayRef>>;

/// They are the same.
pub(super) const SAME: Wire<'static> = &|columns| Ok(columns);

/// How many rows are copied at once.
const PART_ROWS: usize = 64 << 10;
/// Tables with fewer dead rows than this are not made anew.
const MIN_DEAD: usize = 4096;

impl Counted {
    /// The state table: the columns that tell rows apart, `count`, `touched`, and what the owner adds.
    pub(super) fn table(name: String, columns: Vec<Field>, partition_by: Vec<usize>, more: Vec<Field>) -> TableSpec {
        let width = columns.len();
        let mut fields = columns;
        fields.push(Field::new("count", TypeKind::BigInt.not_null()));
        fields.push(Field::new("touched", TypeKind::BigInt.not_null()));
        fields.extend(more);
        let (schema, key) = (Schema::new(fields), (0..width).collect());
        TableSpec { name, schema, key, partition_by, time: Some(width + 1) }
    }

    /// Fields of such types, with a letter for their names.
    pub(super) fn fields<'a>(letter: &str, types: impl IntoIterator<Item = &'a DataType>) -> Vec<Field> {
        types.into_iter().enumerate().map(|(i, t)| Field::new(format!("{letter}{i}"), t.clone())).collect()
    }

    pub(super) fn new(table: &TableSpec) -> Result<Self> {
        let types = table.schema.fields[..table.key.len()].iter().map(|f| f.data_type.arrow()).collect();
        Counted::with_types(table, types)
    }

    /// A table whose rows are told apart in memory by columns of other types than in state.
    pub(super) fn with_types(table: &TableSpec, types: Vec<arrow::datatypes::DataType>) -> Result<Self> {
        Ok(Counted {
            name: table.name.clone(),
            schema: table.schema.arrow().clone(),
            width: types.len(),
            state_width: table.key.len(),
            table: GroupTable::new(types)?,
            counts: vec![],
            touched: vec![],
            is_changed: vec![],
            changed: vec![],
            deletes: vec![],
            dead: 0,
            numbers: vec![],
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many columns tell rows apart in memory.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// How many numbers are in use, those of rows that are not there included.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn count(&self, number: u32) -> i64 {
        self.counts[number as usize]
    }

    pub(super) fn touched(&self, number: u32) -> i64 {
        self.touched.get(number as usize).copied().unwrap_or_default()
    }

    /// The numbers of rows; new ones have a count of 0. Give the vector back with [`Counted::done`].
    pub(super) fn find(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.table.lookup(columns, rows, &mut numbers)?;
        let now = self.table.len();
        self.dead += now - self.counts.len();
        self.counts.resize(now, 0);
        self.is_changed.resize(now, false);
        Ok(numbers)
    }

    pub(super) fn done(&mut self, numbers: Vec<u32>) {
        self.numbers = numbers;
    }

    /// Sets a count.
    pub(super) fn set(&mut self, number: u32, count: i64) {
        let at = number as usize;
        self.dead += usize::from(count == 0);
        self.dead -= usize::from(self.counts[at] == 0);
        self.counts[at] = count;
        self.mark(number);
    }

    /// Notes that a row is used; `None`: nothing expires.
    pub(super) fn touch(&mut self, number: u32, now_ms: Option<i64>) {
        if let Some(now) = now_ms {
            self.set_touched(number, now);
            self.mark(number);
        }
    }

    fn set_touched(&mut self, number: u32, ms: i64) {
        if self.touched.len() <= number as usize {
            self.touched.resize(self.counts.len(), 0);
        }
        self.touched[number as usize] = ms;
    }

    /// Notes that what belongs to a row has changed.
    pub(super) fn mark(&mut self, number: u32) {
        if !std::mem::replace(&mut self.is_changed[number as usize], true) {
            self.changed.push(number);
        }
    }

    /// The columns of rows.
    pub(super) fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        self.table.keys(numbers)
    }

    /// The rows that were last used before `bound`. One that was stored while nothing expired counts as used now.
    pub(super) fn expired(&mut self, bound: i64, now_ms: i64) -> Vec<u32> {
        let mut expired = vec![];
        for number in 0..self.counts.len() as u32 {
            if self.counts[number as usize] == 0 {
                continue;
            }
            match self.touched(number) {
                0 => self.touch(number, Some(now_ms)),
                touched if touched < bound => expired.push(number),
                _ => {}
            }
        }
        expired
    }

    /// Whether so many rows are not there that the table should be made anew.
    pub(super) fn is_sparse(&self) -> bool {
        self.dead > MIN_DEAD && self.dead * 2 > self.counts.len()
    }

    /// Makes the table anew from the rows that are there, and numbers them from 0; gives their old numbers, in order.
    pub(super) fn rebuild(&mut self, wire: Wire<'_>) -> Result<Vec<u32>> {
        self.keep_deletes(wire)?;
        let live: Vec<u32> = (0..self.counts.len() as u32).filter(|n| self.counts[*n as usize] != 0).collect();
        let mut table = self.table.emptied()?;
        let mut numbers = vec![];
        for part in live.chunks(PART_ROWS) {
            let columns = self.table.keys(part)?;
            table.lookup(&columns, part.len(), &mut numbers)?;
        }
        self.table = table;
        self.is_changed = live.iter().map(|n| self.is_changed[*n as usize]).collect();
        self.counts = live.iter().map(|n| self.counts[*n as usize]).collect();
        if !self.touched.is_empty() {
            self.touched = live.iter().map(|n| self.touched(*n)).collect();
        }
        self.changed = (0..live.len() as u32).filter(|n| self.is_changed[*n as usize]).collect();
        self.dead = 0;
        Ok(live)
    }

    /// Changes the columns that tell rows apart in memory; all rows are there, and keep their numbers.
    pub(super) fn change_keys(&mut self, change: impl Fn(&mut Vec<ArrayRef>)) -> Result<()> {
        let all: Vec<u32> = (0..self.counts.len() as u32).collect();
        let mut table = self.table.emptied()?;
        let mut numbers = vec![];
        for part in all.chunks(PART_ROWS) {
            let mut columns = self.table.keys(part)?;
            change(&mut columns);
            table.lookup(&columns, part.len(), &mut numbers)?;
        }
        self.table = table;
        Ok(())
    }

    /// Notes the changed rows that are gone for the next snapshot.
    fn keep_deletes(&mut self, wire: Wire<'_>) -> Result<()> {
        let (gone, left): (Vec<u32>, Vec<u32>) = self.changed.iter().partition(|n| self.counts[**n as usize] == 0);
        self.changed = left;
        gone.iter().for_each(|n| self.is_changed[*n as usize] = false);
        let schema = Arc::new(self.schema.project(&(0..self.state_width).collect::<Vec<_>>())?);
        for part in gone.chunks(PART_ROWS) {
            self.deletes.push(RecordBatch::try_new(schema.clone(), wire(self.table.keys(part)?)?)?);
        }
        Ok(())
    }

    /// What changed since this was last asked; `more` gives the owner's columns of rows.
    pub(super) fn take_delta(
        &mut self,
        expired_below: Option<i64>,
        wire: Wire<'_>,
        more: impl Fn(&[u32]) -> Result<Vec<ArrayRef>>,
    ) -> Result<TableDelta> {
        self.keep_deletes(wire)?;
        let changed = std::mem::take(&mut self.changed);
        changed.iter().for_each(|n| self.is_changed[*n as usize] = false);
        let mut upserts = vec![];
        for part in changed.chunks(PART_ROWS) {
            let mut columns = wire(self.table.keys(part)?)?;
            columns.push(Arc::new(Int64Array::from_iter_values(part.iter().map(|n| self.count(*n)))));
            columns.push(Arc::new(Int64Array::from_iter_values(part.iter().map(|n| self.touched(*n)))));
            columns.extend(more(part)?);
            upserts.push(RecordBatch::try_new(self.schema.clone(), columns)?);
        }
        let deletes = std::mem::take(&mut self.deletes);
        Ok(TableDelta { table: self.name.clone(), expired_below, deletes, upserts })
    }

    /// Takes in stored rows, told apart by `columns` in memory and by as many as `width` in state; gives their numbers.
    pub(super) fn restore(&mut self, columns: &[ArrayRef], rows: &RecordBatch, width: usize) -> Result<Vec<u32>> {
        let numbers = self.find(columns, rows.num_rows())?;
        let of = |column: usize| rows.column(column).as_primitive::<Int64Type>().values();
        let (counts, touched) = (of(width), of(width + 1));
        for (row, number) in numbers.iter().enumerate() {
            let at = *number as usize;
            self.dead -= usize::from(self.counts[at] == 0 && counts[row] != 0);
            self.counts[at] = counts[row];
            if touched[row] != 0 {
                self.set_touched(*number, touched[row]);
            }
        }
        Ok(numbers)
    }

    /// Where the owner's columns start in the state table.
    pub(super) fn more_at(&self) -> usize {
        self.state_width + 2
    }
}
