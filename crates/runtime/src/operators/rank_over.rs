//! Functions over rows in an order that is not that of time: each batch brings the rows of its partitions up to date.

use super::group_aggregate::comparator;
use super::over::{Totals, results_of};
use super::over_frames::Due;
use super::row_slots::RowSlots;
use arrow::array::{ArrayRef, Int64Array, UInt8Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use millstream_core::graph::{Over, OverCall, WindowTime};
use millstream_core::operator::{Context, TARGET_BATCH_ROWS};
use millstream_core::{Batch, Field, Result, RowKind, Schema, TypeKind};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The calls, over the input and, behind it, a number of the list that a row is in.
pub(super) struct SortedCalls {
    spec: Over,
    input: Schema,
    schema: SchemaRef,
    update_before: bool,
}

/// The rows of a partition in their order, each with what tells rows of equal order.
pub(super) type List = Vec<(u32, i64)>;

impl SortedCalls {
    pub(super) fn new(calls: &[OverCall], input: &Schema, schema: SchemaRef, update_before: bool) -> Self {
        let mut fields = input.fields.to_vec();
        fields.push(Field::new("$list", TypeKind::BigInt.not_null()));
        let calls = calls.to_vec();
        let partition = vec![input.len()];
        let spec = Over { partition, time: WindowTime::Processing, then: vec![], calls, ttl_ms: None };
        SortedCalls { spec, input: Schema::new(fields), schema, update_before }
    }

    /// Emits what turns the results over the first of each two lists into those over the second.
    pub(super) fn emit(&self, lists: &[[List; 2]], store: &RowSlots, ctx: &mut Context<'_>) -> Result<()> {
        let (mut slots, mut parts, mut times): (Vec<u32>, Vec<u32>, Vec<i64>) = (vec![], vec![], vec![]);
        for (part, list) in (0u32..).zip(lists.iter().flatten()) {
            slots.extend(list.iter().map(|(slot, _)| *slot));
            times.extend(list.iter().map(|(_, peers)| *peers));
            parts.resize(slots.len(), part);
        }
        if slots.is_empty() {
            return Ok(());
        }
        let mut columns = store.take(&slots)?;
        columns.push(Arc::new(Int64Array::from_iter_values(parts.iter().map(|part| i64::from(*part)))));
        let batch = Batch::from_columns(self.input.arrow().clone(), columns, slots.len())?;
        let due = Due { batch: &batch, parts: &parts, times, has_peers: true };
        let mut totals = Totals::new(&self.spec, &self.input)?;
        let history = vec![VecDeque::new(); lists.len() * 2];
        let results = results_of(&self.spec, totals.as_mut(), &due, &history, store, ctx.now_ms)?;
        let picked = self.changes(lists, &results)?;
        let mut columns = batch.rows.columns()[..self.input.len() - 1].to_vec();
        columns.extend(results);
        for part in picked.chunks(TARGET_BATCH_ROWS) {
            let rows = UInt32Array::from_iter_values(part.iter().map(|(row, _)| *row));
            let columns: Vec<ArrayRef> =
                columns.iter().map(|c| compute::take(c, &rows, None)).collect::<Result<_, _>>()?;
            let kinds = UInt8Array::from_iter_values(part.iter().map(|(_, kind)| *kind as u8));
            let is_plain = part.iter().all(|(_, kind)| *kind == RowKind::Insert);
            let batch = Batch::from_columns(self.schema.clone(), columns, part.len())?;
            ctx.emit(batch.with_kinds((!is_plain).then_some(kinds)))?;
        }
        Ok(())
    }

    /// The rows that come out, by their number among those of all lists.
    fn changes(&self, lists: &[[List; 2]], results: &[ArrayRef]) -> Result<Vec<(u32, RowKind)>> {
        let differ = results.iter().map(|column| comparator(column, column)).collect::<Result<Vec<_>>>()?;
        let mut out = vec![];
        let mut first = 0u32;
        for [before, after] in lists {
            let second = first + before.len() as u32;
            let old: HashMap<u32, u32> = before.iter().map(|(slot, _)| *slot).zip(first..).collect();
            let new: HashMap<u32, u32> = after.iter().map(|(slot, _)| *slot).zip(second..).collect();
            let gone = before.iter().zip(first..).filter(|((slot, _), _)| !new.contains_key(slot));
            out.extend(gone.map(|(_, row)| (row, RowKind::Delete)));
            for ((slot, _), row) in after.iter().zip(second..) {
                match old.get(slot) {
                    None => out.push((row, RowKind::Insert)),
                    Some(was) if differ.iter().any(|differs| differs(*was as usize, row as usize)) => {
                        if self.update_before {
                            out.push((*was, RowKind::UpdateBefore));
                        }
                        out.push((row, RowKind::UpdateAfter));
                    }
                    Some(_) => {}
                }
            }
            first = second + after.len() as u32;
        }
        Ok(out)
    }
}
