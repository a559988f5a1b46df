//! A row for each key, which may be replaced: what changed since the last snapshot is told, what is gone forgotten.

use super::counted::{Counted, SAME};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, SortField};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{Error, Result};
use std::sync::Arc;

/// The columns of a row that are not its key, as bytes; equal if the columns are.
pub(super) type Value = Arc<[u8]>;

/// Keys, numbered, with the rest of their row.
pub(super) struct KeyedRows {
    keys: Counted,
    values: Values,
}

/// The rests of the rows, by the numbers of their keys.
struct Values {
    /// `None` if a row has no columns besides its key.
    converter: Option<RowConverter>,
    of: Vec<Option<Value>>,
}

impl Values {
    fn columns<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else { return Ok(vec![]) };
        let parser = converter.parser();
        Ok(converter.convert_rows(values.map(|value| parser.parse(value)))?)
    }
}

impl KeyedRows {
    /// Rows of a state table that [`Counted::table`] made, whose further columns are the rest of the row.
    pub(super) fn new(table: &TableSpec) -> Result<Self> {
        let keys = Counted::new(table)?;
        let rest = &table.schema.fields[keys.more_at()..];
        let converter = match rest.is_empty() {
            true => None,
            false => Some(RowConverter::new(rest.iter().map(|f| SortField::new(f.data_type.arrow())).collect())?),
        };
        Ok(KeyedRows { keys, values: Values { converter, of: vec![] } })
    }

    /// The numbers of keys; one that is new has no row. Give the vector back with [`KeyedRows::done`].
    pub(super) fn find(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let numbers = self.keys.find(keys, rows)?;
        self.values.of.resize(self.keys.len(), None);
        Ok(numbers)
    }

    pub(super) fn done(&mut self, numbers: Vec<u32>) {
        self.keys.done(numbers);
    }

    /// The rests of `rows` rows.
    pub(super) fn encode(&self, rest: &[ArrayRef], rows: usize) -> Result<Vec<Value>> {
        let Some(converter) = &self.values.converter else { return Ok(vec![Arc::from([]); rows]) };
        let encoded = converter.convert_columns(rest)?;
        Ok(encoded.iter().map(|row| Arc::from(row.as_ref())).collect())
    }

    /// What a key's row is besides the key; `None` if there is no row.
    pub(super) fn get(&self, number: u32) -> Option<&Value> {
        self.values.of[number as usize].as_ref()
    }

    /// When a row was last put; 0 if nothing expires.
    pub(super) fn touched(&self, number: u32) -> i64 {
        self.keys.touched(number)
    }

    /// Puts a row; `now`: milliseconds of processing time, if rows expire.
    pub(super) fn put(&mut self, number: u32, value: Value, now: Option<i64>) {
        self.values.of[number as usize] = Some(value);
        self.keys.set(number, 1);
        self.keys.touch(number, now);
    }

    /// Takes a row away.
    pub(super) fn remove(&mut self, number: u32) {
        if self.values.of[number as usize].take().is_some() {
            self.keys.set(number, 0);
        }
    }

    /// The rows that were last put before `bound`.
    pub(super) fn expired(&mut self, bound: i64, now_ms: i64) -> Vec<u32> {
        self.keys.expired(bound, now_ms)
    }

    /// The columns of keys, then those of the values given for them.
    pub(super) fn columns<'a>(&self, numbers: &[u32], values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut columns = self.keys.columns(numbers)?;
        columns.extend(self.values.columns(values)?);
        Ok(columns)
    }

    /// The columns of the rows that are stored.
    pub(super) fn stored(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        let missing = || Error::internal("a row that is asked for is not there");
        let values = numbers.iter().map(|n| self.get(*n).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        self.columns(numbers, values.into_iter().map(|value| &**value))
    }

    /// Whether the table should be made anew.
    pub(super) fn is_sparse(&self) -> bool {
        self.keys.is_sparse()
    }

    /// Makes the table anew from the rows that are there, numbered from 0; gives how many they are.
    pub(super) fn rebuild(&mut self) -> Result<usize> {
        let live = self.keys.rebuild(SAME)?;
        let of = &mut self.values.of;
        self.values.of = live.iter().map(|n| of[*n as usize].take()).collect();
        Ok(live.len())
    }

    /// What changed since this was last asked.
    pub(super) fn take_delta(&mut self, expired_below: Option<i64>) -> Result<TableDelta> {
        let values = &self.values;
        self.keys.take_delta(expired_below, SAME, |changed| {
            values.columns(changed.iter().map(|n| values.of[*n as usize].as_deref().expect("a live row has a value")))
        })
    }

    /// Takes in stored rows; gives the numbers of their keys. Give them back with [`KeyedRows::done`].
    pub(super) fn restore(&mut self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let width = self.keys.more_at() - 2;
        let numbers = self.keys.restore(&rows.columns()[..width], rows, width)?;
        self.values.of.resize(self.keys.len(), None);
        let rest = self.encode(&rows.columns()[self.keys.more_at()..], rows.num_rows())?;
        for (number, value) in numbers.iter().zip(rest) {
            self.values.of[*number as usize] = Some(value);
        }
        Ok(numbers)
    }
}
