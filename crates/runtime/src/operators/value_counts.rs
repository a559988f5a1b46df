//! How often each value occurs in each group: what DISTINCT, and MIN and MAX over rows that may be taken back, rest on.

use super::counted::{Counted, Wire};
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{DataType, Error, Field, Result, TypeKind};
use std::sync::Arc;

/// Counts of values by group, for calls that have the same arguments under different filters: each value is looked up
/// once, and counted for each of them. In memory a group is told by its number, in state by its keys.
pub(super) struct ValueCounts {
    /// With the sum of a value's counts.
    values: Counted,
    calls: usize,
    /// The counts of each value, one a call; empty if there is only one call.
    counts: Vec<i64>,
    width: usize,
}

impl ValueCounts {
    /// The state table: the group's keys, value, sum of counts, the time of the last use, and, of several calls, their counts.
    pub(super) fn table(
        name: String,
        keys: &[DataType],
        value: &[DataType],
        calls: usize,
        partitioned: usize,
    ) -> TableSpec {
        let mut columns = Counted::fields("k", keys);
        columns.extend(Counted::fields("v", value));
        let count = |call| Field::new(format!("count{call}"), TypeKind::BigInt.not_null());
        let more = if calls > 1 { (0..calls).map(count).collect() } else { vec![] };
        Counted::table(name, columns, (0..partitioned).collect(), more)
    }

    pub(super) fn new(table: &TableSpec, keys: usize, calls: usize) -> Result<Self> {
        let width = table.key.len();
        let mut types = vec![arrow::datatypes::DataType::Int32];
        types.extend(table.schema.fields[keys..width].iter().map(|f| f.data_type.arrow()));
        Ok(ValueCounts { values: Counted::with_types(table, types)?, calls, counts: vec![], width })
    }

    pub(super) fn name(&self) -> &str {
        self.values.name()
    }

    fn find(&mut self, groups: &[u32], args: &[ArrayRef]) -> Result<Vec<u32>> {
        let mut columns: Vec<ArrayRef> = vec![numbers(groups)];
        columns.extend(args.iter().cloned());
        let numbers = self.values.find(&columns, groups.len())?;
        self.resize();
        Ok(numbers)
    }

    fn resize(&mut self) {
        if self.calls > 1 {
            self.counts.resize(self.values.len() * self.calls, 0);
        }
    }

    /// Counts values; for each call and row: +1 if the value was not there before, -1 if it is not there any more, else
    /// 0. `signs`, for each call: +1 adds, -1 takes back, 0 leaves out; `None`: all add. `counts`: whether more than
    /// whether a value is there is of interest, since rows may be taken back.
    pub(super) fn update(
        &mut self,
        groups: &[u32],
        args: &[ArrayRef],
        signs: &[Option<Vec<i8>>],
        counts: bool,
        now_ms: Option<i64>,
    ) -> Result<Vec<Vec<i8>>> {
        let numbers = self.find(groups, args)?;
        let mut transitions = vec![vec![0i8; groups.len()]; self.calls];
        for (call, (signs, transitions)) in signs.iter().zip(&mut transitions).enumerate() {
            for (row, number) in numbers.iter().enumerate() {
                let sign = signs.as_ref().map_or(1, |signs| signs[row]);
                let at = *number as usize * self.calls + call;
                let sum = self.values.count(*number);
                let before = if self.calls > 1 { self.counts[at] } else { sum };
                // What is taken back without having been there has expired.
                if sign == 0 || sign < 0 && before == 0 {
                    continue;
                }
                let after = if counts { before + i64::from(sign) } else { 1 };
                if before != after {
                    if self.calls > 1 {
                        self.counts[at] = after;
                    }
                    self.values.set(*number, sum + after - before);
                }
                self.values.touch(*number, now_ms);
                transitions[row] = match (before, after) {
                    (0, _) => 1,
                    (_, 0) => -1,
                    _ => 0,
                };
            }
        }
        self.values.done(numbers);
        Ok(transitions)
    }

    /// Whether so many values are gone that the table should be made anew.
    pub(super) fn is_sparse(&self) -> bool {
        self.values.is_sparse()
    }

    fn forget(&mut self, number: u32) {
        self.values.set(number, 0);
        let at = number as usize * self.calls;
        if self.calls > 1 {
            self.counts[at..at + self.calls].fill(0);
        }
    }

    /// Forgets what was last used before `bound`.
    pub(super) fn expire(&mut self, bound: i64, now_ms: i64) {
        for number in self.values.expired(bound, now_ms) {
            self.forget(number);
        }
    }

    /// Makes the table anew, without the values that are gone and those of groups that are.
    pub(super) fn rebuild(&mut self, is_there: impl Fn(u32) -> bool, wire: Wire<'_>) -> Result<()> {
        let all: Vec<u32> = (0..self.values.len() as u32).collect();
        let groups = self.values.columns(&all)?.swap_remove(0);
        for (number, group) in all.iter().zip(groups.as_primitive::<Int32Type>().values()) {
            if self.values.count(*number) != 0 && !is_there(*group as u32) {
                self.forget(*number);
            }
        }
        let live = self.values.rebuild(wire)?;
        if self.calls > 1 {
            let of = |number: &u32| {
                let at = *number as usize * self.calls;
                self.counts[at..at + self.calls].to_vec()
            };
            self.counts = live.iter().flat_map(of).collect();
        }
        Ok(())
    }

    /// The groups have other numbers now: those of the table, all of which are there, by their old ones.
    pub(super) fn renumber(&mut self, new: impl Fn(u32) -> u32) -> Result<()> {
        self.values.change_keys(|columns| {
            let old = columns[0].as_primitive::<Int32Type>().values();
            columns[0] = numbers(&old.iter().map(|group| new(*group as u32)).collect::<Vec<_>>());
        })
    }

    /// What changed since this was last asked.
    pub(super) fn take_delta(&mut self, expired_below: Option<i64>, wire: Wire<'_>) -> Result<TableDelta> {
        let ValueCounts { values, calls, counts, .. } = self;
        values.take_delta(expired_below, wire, |changed| {
            let column = |call: usize| -> ArrayRef {
                let of = |number: &u32| counts[*number as usize * *calls + call];
                Arc::new(Int64Array::from_iter_values(changed.iter().map(of)))
            };
            Ok(if *calls > 1 { (0..*calls).map(column).collect() } else { vec![] })
        })
    }

    /// Takes in stored rows of groups of these numbers; gives the values' columns.
    pub(super) fn restore<'a>(&mut self, groups: &[u32], rows: &'a RecordBatch) -> Result<&'a [ArrayRef]> {
        let keys = self.width - (self.values.width() - 1);
        let values = rows.columns().get(keys..self.width).ok_or_else(|| Error::state("a value's row lacks columns"))?;
        let mut columns = vec![numbers(groups)];
        columns.extend(values.iter().cloned());
        let numbers = self.values.restore(&columns, rows, self.width)?;
        self.resize();
        for call in 0..if self.calls > 1 { self.calls } else { 0 } {
            let stored = rows.column(self.width + 2 + call).as_primitive::<Int64Type>().values();
            for (row, number) in numbers.iter().enumerate() {
                self.counts[*number as usize * self.calls + call] = stored[row];
            }
        }
        self.values.done(numbers);
        Ok(values)
    }
}

impl ValueCounts {
    /// Which of the stored rows count for a call: +1, else 0; `None`: all.
    pub(super) fn stored_signs(&self, rows: &RecordBatch, call: usize) -> Option<Vec<i8>> {
        let counts = || rows.column(self.width + 2 + call).as_primitive::<Int64Type>().values();
        (self.calls > 1).then(|| counts().iter().map(|count| i8::from(*count > 0)).collect())
    }
}

fn numbers(groups: &[u32]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(groups.iter().map(|group| *group as i32)))
}
