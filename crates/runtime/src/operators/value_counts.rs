//! How often each value occurs in each group: what DISTINCT, and MIN and MAX over rows that may be taken back, rest on.

use super::counted::Counted;
use arrow::array::{ArrayRef, RecordBatch};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{DataType, Result};

/// Counts of values by group. A value is one or more columns; the groups are told apart by their keys.
pub(super) struct ValueCounts {
    values: Counted,
    width: usize,
}

impl ValueCounts {
    /// The state table: keys, value, count, and the time of the last use.
    pub(super) fn table(name: String, keys: &[DataType], value: &[DataType], partitioned: usize) -> TableSpec {
        let mut columns = Counted::fields("k", keys);
        columns.extend(Counted::fields("v", value));
        Counted::table(name, columns, (0..partitioned).collect(), vec![])
    }

    pub(super) fn new(table: &TableSpec) -> Result<Self> {
        Ok(ValueCounts { values: Counted::new(table)?, width: table.key.len() })
    }

    pub(super) fn name(&self) -> &str {
        self.values.name()
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
        let numbers = self.values.find(columns, rows)?;
        let mut transitions = vec![0i8; rows];
        for (row, number) in numbers.iter().enumerate() {
            let sign = signs.map_or(1, |signs| signs[row]);
            let before = self.values.count(*number);
            // What is taken back without having been there has expired.
            if sign == 0 || sign < 0 && before == 0 {
                continue;
            }
            let after = if counts { before + i64::from(sign) } else { 1 };
            if before != after {
                self.values.set(*number, after);
            }
            self.values.touch(*number, now_ms);
            transitions[row] = match (before, after) {
                (0, _) => 1,
                (_, 0) => -1,
                _ => 0,
            };
        }
        self.values.done(numbers);
        if self.values.is_sparse() {
            self.values.rebuild()?;
        }
        Ok(transitions)
    }

    /// Drops what was last used before `bound`.
    pub(super) fn expire(&mut self, bound: i64, now_ms: i64) -> Result<()> {
        for number in self.values.expired(bound, now_ms) {
            self.values.set(number, 0);
        }
        self.values.rebuild().map(|_| ())
    }

    /// What changed since this was last asked.
    pub(super) fn take_delta(&mut self, expired_below: Option<i64>) -> Result<TableDelta> {
        self.values.take_delta(expired_below, |_| Ok(vec![]))
    }

    /// Takes in stored rows; gives the columns of their keys and values.
    pub(super) fn restore<'a>(&mut self, rows: &'a RecordBatch) -> Result<&'a [ArrayRef]> {
        let numbers = self.values.restore(rows)?;
        self.values.done(numbers);
        Ok(&rows.columns()[..self.width])
    }
}
