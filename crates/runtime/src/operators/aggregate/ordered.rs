//! MIN and MAX over rows that may be taken back: all values of a group, in order.

use super::{Accumulator, argument, for_each};
use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use millstream_core::graph::{AggregateCall, AggregateFunction};
use millstream_core::{Error, Result};
use std::collections::BTreeSet;

/// The distinct values of each group, in Arrow's row format, whose bytes are in the values' order. Has no state of its
/// own: whoever counts the values stores them.
pub(super) struct Ordered {
    is_max: bool,
    converter: RowConverter,
    null: OwnedRow,
    values: Vec<BTreeSet<OwnedRow>>,
}

impl Ordered {
    pub(super) fn new(call: &AggregateCall) -> Result<Self> {
        let first = call.arg_types.first();
        let data_type: DataType =
            first.ok_or_else(|| Error::internal("an aggregate without an argument type"))?.arrow();
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let null = converter.convert_columns(&[new_null_array(&data_type, 1)])?.row(0).owned();
        Ok(Ordered { is_max: call.function == AggregateFunction::Max, converter, null, values: vec![] })
    }
}

impl Accumulator for Ordered {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, BTreeSet::new());
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let array = argument(args)?;
        let rows = self.converter.convert_columns(std::slice::from_ref(array))?;
        for_each(groups, Some(array), signs, |row, group, sign| {
            let value = rows.row(row).owned();
            if sign > 0 {
                self.values[group].insert(value);
            } else {
                self.values[group].remove(&value);
            }
        });
        Ok(())
    }
    fn merge(&mut self, _groups: &[u32], _state: &[ArrayRef]) -> Result<()> {
        Ok(())
    }
    fn state(&self, _groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let best = |group: &u32| {
            let values = &self.values[*group as usize];
            let best = if self.is_max { values.last() } else { values.first() };
            best.unwrap_or(&self.null).row()
        };
        let mut columns = self.converter.convert_rows(groups.iter().map(best))?;
        columns.pop().ok_or_else(|| Error::internal("a row of one column has none"))
    }
    fn clear(&mut self, group: u32) {
        self.values[group as usize].clear();
    }
    fn keep(&mut self, groups: &[u32]) {
        self.values = super::kept(&self.values, groups);
    }
}
