//! Each row as often as one of its columns says: what INTERSECT and EXCEPT make of counted rows.

use super::group_aggregate::comparator;
use super::stateless::MapBatch;
use arrow::array::{Array, ArrayRef, AsArray, UInt8Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_core::operator::{Context, TARGET_BATCH_ROWS};
use millstream_core::{Batch, Result, RowKind, Schema};

/// Emits copies of rows. Of an update of the count, whose old and new row stand next to each other, only the
/// difference.
pub(super) struct Replicate {
    count: usize,
    schema: SchemaRef,
}

impl Replicate {
    pub(super) fn new(count: usize, output: &Schema) -> Self {
        Replicate { count, schema: output.arrow().clone() }
    }

    fn emit(
        &self,
        columns: &[ArrayRef],
        rows: &mut Vec<u32>,
        kinds: &mut Vec<u8>,
        ctx: &mut Context<'_>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let indices = UInt32Array::from(std::mem::take(rows));
        let kinds = std::mem::take(kinds);
        let columns = columns.iter().map(|c| Ok(take(c, &indices, None)?)).collect::<Result<Vec<_>>>()?;
        let is_plain = kinds.iter().all(|kind| *kind == RowKind::Insert as u8);
        let kinds = (!is_plain).then(|| UInt8Array::from(kinds));
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, indices.len())?.with_kinds(kinds))
    }
}

impl MapBatch for Replicate {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let counts = batch.column(self.count).as_primitive::<Int64Type>();
        let count = |row: usize| if counts.is_null(row) { 0 } else { counts.value(row).max(0) };
        let columns: Vec<ArrayRef> =
            batch.rows.columns().iter().enumerate().filter(|(i, _)| *i != self.count).map(|(_, c)| c.clone()).collect();
        let differ = columns.iter().map(|c| comparator(c, c)).collect::<Result<Vec<_>>>()?;
        let is_update = |row: usize| {
            batch.kind(row) == RowKind::UpdateBefore
                && row + 1 < batch.num_rows()
                && batch.kind(row + 1) == RowKind::UpdateAfter
                && !differ.iter().any(|differs| differs(row, row + 1))
        };
        let (mut rows, mut kinds) = (vec![], vec![]);
        let mut row = 0;
        while row < batch.num_rows() {
            let (change, next) = match batch.kind(row).is_addition() {
                true => (count(row), row + 1),
                false if is_update(row) => (count(row + 1) - count(row), row + 2),
                false => (-count(row), row + 1),
            };
            let kind = if change > 0 { RowKind::Insert } else { RowKind::Delete };
            for _ in 0..change.unsigned_abs() {
                rows.push(row as u32);
                kinds.push(kind as u8);
                if rows.len() >= TARGET_BATCH_ROWS {
                    self.emit(&columns, &mut rows, &mut kinds, ctx)?;
                }
            }
            row = next;
        }
        self.emit(&columns, &mut rows, &mut kinds, ctx)
    }
}
