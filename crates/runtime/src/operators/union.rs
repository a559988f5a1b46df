//! All inputs' rows as one stream.

use super::stateless::MapBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::operator::Context;
use millstream_core::{Batch, Result, Schema};

/// Passes every port's rows on, under the output's column names.
pub(super) struct Union {
    schema: SchemaRef,
}

impl Union {
    pub(super) fn new(output: &Schema) -> Self {
        Union { schema: output.arrow().clone() }
    }
}

impl MapBatch for Union {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let rows = batch.num_rows();
        let columns = batch.rows.columns().to_vec();
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, rows)?.with_kinds(batch.kinds))
    }
}
