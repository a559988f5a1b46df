//! One row for each of several projections: what grouping sets are made of.

use super::calc::project;
use super::stateless::MapBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::operator::Context;
use millstream_core::{Batch, ExprRef, Result, Schema};

/// Emits each batch once for each projection.
pub(super) struct Expand {
    projections: Vec<Vec<ExprRef>>,
    schema: SchemaRef,
}

impl Expand {
    pub(super) fn new(projections: Vec<Vec<ExprRef>>, output: &Schema) -> Self {
        Expand { projections, schema: output.arrow().clone() }
    }
}

impl MapBatch for Expand {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        for exprs in &self.projections {
            ctx.emit(project(exprs, &self.schema, &batch, &ctx.eval())?)?;
        }
        Ok(())
    }
}
