//! How often each value occurs in each group: what DISTINCT, and MIN and MAX over rows that may be taken back, rest on.

use super::groups::GroupTable;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{DataType, Field, Result, Schema, TypeKind};
use std::sync::Arc;

/// Counts of values by group. A value is one or more columns; the groups are told apart by their keys.
pub(super) struct ValueCounts {
    name: String,
    schema: SchemaRef,
    /// Keys, then value.
    width: usize,
    values: GroupTable,
    counts: Vec<i64>,
    /// When each was last seen, milliseconds of processing time.
    touched: Vec<i64>,
    is_changed: Vec<bool>,
    changed: Vec<u32>,
    deletes: Vec<RecordBatch>,
    dead: usize,
    numbers: Vec<u32>,
}

/// Tables with fewer dead entries than this are not rebuilt.
pub(super) const MIN_DEAD: usize = 4096;

impl ValueCounts {
    /// The state table: keys, value, count, and the time of the last use.
    pub(super) fn table(name: String, keys: &[DataType], value: &[DataType], partitioned: usize) -> TableSpec {
        let mut fields: Vec<Field> = vec![];
        fields.extend(keys.iter().enumerate().map(|(i, t)| Field::new(format!("k{i}"), t.clone())));
        fields.extend(value.iter().enumerate().map(|(i, t)| Field::new(format!("v{i}"), t.clone())));
        let width = fields.len();
        fields.push(Field::new("count", TypeKind::BigInt.not_null()));
        fields.push(Field::new("touched", TypeKind::BigInt.not_null()));
        TableSpec {
            name,
            schema: Schema::new(fields),
            key: (0..width).collect(),
            partition_by: (0..partitioned).collect(),
            time: Some(width + 1),
        }
    }

    pub(super) fn new(table: &TableSpec) -> Result<Self> {
        let width = table.key.len();
        let types = table.schema.fields[..width].iter().map(|f| f.data_type.arrow()).collect();
        Ok(ValueCounts {
            name: table.name.clone(),
            schema: table.schema.arrow().clone(),
            width,
            values: GroupTable::new(types)?,
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

    fn find(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut numbers = std::mem::take(&mut self.numbers);
        self.values.lookup(columns, rows, &mut numbers)?;
        let known = self.counts.len();
        let now = self.values.len();
        self.dead += now - known;
        self.counts.resize(now, 0);
        self.touched.resize(now, 0);
        self.is_changed.resize(now, false);
        Ok(numbers)
    }

    /// Counts values (keys' columns, then the value's); for each row: +1 if its value was not there before, -1 if it
    /// is not there any more, else 0. `signs`: +1 adds, -1 takes back, 0 leaves out. `counts`: whether more than
    /// whether a value is there is of interest, since rows may be taken back.
    pub(super) fn update(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        signs: Option<&[i8]>,
        counts: bool,
        now_ms: Option<i64>,
    ) -> Result<Vec<i8>> {
        let numbers = self.find(columns, rows)?;
        let mut transitions = vec![0i8; rows];
        for (row, number) in numbers.iter().enumerate() {
            let at = *number as usize;
            let sign = signs.map_or(1, |signs| signs[row]);
            let before = self.counts[at];
            // What is taken back without having been there has expired.
            if sign == 0 || sign < 0 && before == 0 {
                continue;
            }
            let after = if counts { before + i64::from(sign) } else { 1 };
            self.counts[at] = after;
            transitions[row] = match (before, after) {
                (0, _) => 1,
                (_, 0) => -1,
                _ => 0,
            };
            self.dead = (self.dead as i64 - i64::from(transitions[row])) as usize;
            if let Some(now) = now_ms {
                self.touched[at] = now;
            }
            if (before != after || now_ms.is_some()) && !std::mem::replace(&mut self.is_changed[at], true) {
                self.changed.push(*number);
            }
        }
        self.numbers = numbers;
        if self.dead > MIN_DEAD && self.dead * 2 > self.counts.len() {
            self.rebuild()?;
        }
        Ok(transitions)
    }

    /// Drops what was last used before `bound`.
    pub(super) fn expire(&mut self, bound: i64, now_ms: i64) -> Result<()> {
        for at in 0..self.counts.len() {
            if self.counts[at] > 0 && self.touched[at] == 0 {
                // Stored while nothing expired.
                self.touched[at] = now_ms;
                if !std::mem::replace(&mut self.is_changed[at], true) {
                    self.changed.push(at as u32);
                }
            } else if self.counts[at] > 0 && self.touched[at] < bound {
                self.counts[at] = 0;
            }
        }
        self.rebuild()
    }

    /// Makes the table anew, without the values that are gone.
    fn rebuild(&mut self) -> Result<()> {
        self.keep_deletes()?;
        let live: Vec<u32> = (0..self.counts.len() as u32).filter(|n| self.counts[*n as usize] > 0).collect();
        let columns = self.values.keys(&live)?;
        let changed: Vec<bool> = live.iter().map(|n| self.is_changed[*n as usize]).collect();
        self.counts = live.iter().map(|n| self.counts[*n as usize]).collect();
        self.touched = live.iter().map(|n| self.touched[*n as usize]).collect();
        self.changed = (0..live.len() as u32).filter(|n| changed[*n as usize]).collect();
        self.is_changed = changed;
        self.values = self.values.emptied()?;
        let mut numbers = std::mem::take(&mut self.numbers);
        self.values.lookup(&columns, live.len(), &mut numbers)?;
        self.numbers = numbers;
        self.dead = 0;
        Ok(())
    }

    /// Notes the changed values that are gone for the next snapshot.
    fn keep_deletes(&mut self) -> Result<()> {
        let (gone, left) = self.changed.iter().partition(|n| self.counts[**n as usize] == 0);
        let gone: Vec<u32> = gone;
        self.changed = left;
        gone.iter().for_each(|n| self.is_changed[*n as usize] = false);
        if !gone.is_empty() {
            let schema = Arc::new(self.schema.project(&(0..self.width).collect::<Vec<_>>())?);
            self.deletes.push(RecordBatch::try_new(schema, self.values.keys(&gone)?)?);
        }
        Ok(())
    }

    /// What changed since this was last asked.
    pub(super) fn take_delta(&mut self, expired_below: Option<i64>) -> Result<TableDelta> {
        self.keep_deletes()?;
        let changed = std::mem::take(&mut self.changed);
        changed.iter().for_each(|n| self.is_changed[*n as usize] = false);
        let mut upserts = vec![];
        if !changed.is_empty() {
            let mut columns = self.values.keys(&changed)?;
            let of = |values: &[i64]| Int64Array::from_iter_values(changed.iter().map(|n| values[*n as usize]));
            columns.push(Arc::new(of(&self.counts)));
            columns.push(Arc::new(of(&self.touched)));
            upserts.push(RecordBatch::try_new(self.schema.clone(), columns)?);
        }
        let deletes = std::mem::take(&mut self.deletes);
        Ok(TableDelta { table: self.name.clone(), expired_below, deletes, upserts })
    }

    /// Takes in stored rows; gives the columns of their keys and values.
    pub(super) fn restore<'a>(&mut self, rows: &'a RecordBatch) -> Result<&'a [ArrayRef]> {
        let columns = &rows.columns()[..self.width];
        let numbers = self.find(columns, rows.num_rows())?;
        let of = |column: usize| rows.column(column).as_primitive::<Int64Type>().values();
        let (counts, touched) = (of(self.width), of(self.width + 1));
        for (row, number) in numbers.iter().enumerate() {
            self.counts[*number as usize] = counts[row];
            self.touched[*number as usize] = touched[row];
        }
        self.dead -= rows.num_rows();
        self.numbers = numbers;
        Ok(columns)
    }
}
