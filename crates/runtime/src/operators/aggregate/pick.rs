//! FIRST_VALUE and LAST_VALUE, and MIN and MAX of types that are not one number: one kept value a group.

use super::{Accumulator, argument, for_each, no_retraction, state_column};
use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use millstream_core::graph::{AggregateCall, AggregateFunction};
use millstream_core::{Error, Result};

/// Keeps one value a group, in Arrow's row format, whose bytes are in the values' order.
pub(super) struct Pick {
    function: AggregateFunction,
    converter: RowConverter,
    null: OwnedRow,
    kept: Vec<Option<OwnedRow>>,
}

impl Pick {
    pub(super) fn new(call: &AggregateCall) -> Result<Self> {
        let first = call.arg_types.first();
        let data_type: DataType =
            first.ok_or_else(|| Error::internal("an aggregate without an argument type"))?.arrow();
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let null = converter.convert_columns(&[new_null_array(&data_type, 1)])?.row(0).owned();
        Ok(Pick { function: call.function.clone(), converter, null, kept: vec![] })
    }

    fn fold(&mut self, groups: &[u32], array: &ArrayRef, signs: Option<&[i8]>) -> Result<()> {
        let rows = self.converter.convert_columns(std::slice::from_ref(array))?;
        let (kept, function) = (&mut self.kept, &self.function);
        let mut taken_back = false;
        for_each(groups, Some(array), signs, |row, group, sign| {
            taken_back |= sign < 0;
            let (slot, value) = (&mut kept[group], rows.row(row));
            let take = match (&*slot, function) {
                (None, _) | (_, AggregateFunction::LastValue) => true,
                (Some(old), AggregateFunction::Min) => value < old.row(),
                (Some(old), AggregateFunction::Max) => value > old.row(),
                (Some(_), _) => false,
            };
            if take {
                *slot = Some(value.owned());
            }
        });
        if taken_back { Err(no_retraction(&self.function)) } else { Ok(()) }
    }
}

impl Accumulator for Pick {
    fn resize(&mut self, groups: usize) {
        self.kept.resize(groups, None);
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        self.fold(groups, argument(args)?, signs)
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.fold(groups, state_column(state, 0)?, None)
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(groups)?])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let row = |g: &u32| self.kept[*g as usize].as_ref().unwrap_or(&self.null).row();
        let mut columns = self.converter.convert_rows(groups.iter().map(row))?;
        columns.pop().ok_or_else(|| Error::internal("a row of one column has none"))
    }
    fn clear(&mut self, group: u32) {
        self.kept[group as usize] = None;
    }
    fn keep(&mut self, groups: &[u32]) {
        self.kept = super::kept(&self.kept, groups);
    }
}
