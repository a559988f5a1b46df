//! Filter, then project.

use super::stateless::MapBatch;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray, UInt8Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{self, FilterPredicate};
use arrow::datatypes::SchemaRef;
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::operator::Context;
use millstream_core::{Batch, ExprRef, Result, Schema, Watermark};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Drops the rows for which the filter is not TRUE and computes a column from each expression.
pub(super) struct Calc {
    filter: Option<ExprRef>,
    project: Vec<ExprRef>,
    schema: SchemaRef,
    /// What the projection reads of the input's columns; the filter copies nothing else.
    used: BTreeMap<usize, Read>,
    watermark_ms: Option<i64>,
}

/// What is read of a column.
enum Read {
    All,
    /// These fields of its rows.
    Fields(BTreeSet<String>),
}

impl Calc {
    pub(super) fn new(filter: Option<ExprRef>, project: Vec<ExprRef>, output: &Schema) -> Self {
        let mut used = BTreeMap::new();
        project.iter().for_each(|e| collect_columns(e, &mut used));
        Calc { filter, project, schema: output.arrow().clone(), used, watermark_ms: None }
    }

    /// The rows that pass; columns that the projection doesn't read are left as they are, cut to length.
    fn select(&self, batch: Batch, mask: &BooleanArray, kept: usize) -> Result<Batch> {
        let predicate = compute::FilterBuilder::new(mask).optimize().build();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.rows.num_columns());
        for (index, column) in batch.rows.columns().iter().enumerate() {
            columns.push(match (self.used.get(&index), column.as_struct_opt()) {
                (None, _) => column.slice(0, kept),
                (Some(Read::Fields(fields)), Some(rows)) => Arc::new(select_fields(rows, fields, &predicate, kept)?),
                (Some(_), _) => predicate.filter(column)?,
            });
        }
        let kinds = match &batch.kinds {
            None => None,
            Some(kinds) => Some(UInt8Array::from(predicate.filter(kinds)?.to_data())),
        };
        Ok(Batch::from_columns(batch.rows.schema(), columns, kept)?.with_kinds(kinds))
    }
}

fn collect_columns(expr: &ExprRef, into: &mut BTreeMap<usize, Read>) {
    let children = expr.children();
    if let (Some(name), [row]) = (expr.as_field(), &children[..])
        && let Some(column) = row.as_column()
    {
        if let Read::Fields(fields) = into.entry(column).or_insert_with(|| Read::Fields(BTreeSet::new())) {
            fields.insert(name.to_string());
        }
        return;
    }
    if let Some(column) = expr.as_column() {
        into.insert(column, Read::All);
    }
    children.into_iter().for_each(|child| collect_columns(child, into));
}

/// The rows that pass; fields that aren't read are left as they are, cut to length.
fn select_fields(
    rows: &StructArray,
    read: &BTreeSet<String>,
    predicate: &FilterPredicate,
    kept: usize,
) -> Result<StructArray> {
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (field, column) in rows.fields().iter().zip(rows.columns()) {
        columns.push(if read.contains(field.name()) { predicate.filter(column)? } else { column.slice(0, kept) });
    }
    let nulls = match rows.nulls() {
        None => None,
        Some(nulls) => {
            let valid = predicate.filter(&BooleanArray::new(nulls.inner().clone(), None))?;
            Some(NullBuffer::new(valid.as_boolean().values().clone())).filter(|nulls| nulls.null_count() > 0)
        }
    };
    Ok(StructArray::try_new_with_length(rows.fields().clone(), columns, nulls, kept)?)
}

/// One column for each expression.
pub(super) fn project(exprs: &[ExprRef], schema: &SchemaRef, batch: &Batch, eval: &EvalContext) -> Result<Batch> {
    let rows = batch.num_rows();
    let mut columns = Vec::with_capacity(exprs.len());
    for expr in exprs {
        columns.push(match expr.as_column() {
            Some(index) => batch.column(index).clone(),
            None => expr.evaluate(batch, eval)?.into_array(rows)?,
        });
    }
    Ok(Batch::from_columns(schema.clone(), columns, rows)?.with_kinds(batch.kinds.clone()))
}

impl MapBatch for Calc {
    fn advance(&mut self, watermark: Watermark) {
        self.watermark_ms = Some(watermark.0);
    }
    fn map(&self, mut batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let eval = EvalContext { watermark_ms: self.watermark_ms, ..ctx.eval() };
        if let Some(filter) = &self.filter {
            match filter.evaluate(&batch, &eval)? {
                Columnar::Scalar(value) => {
                    let value = value.as_boolean();
                    if value.is_null(0) || !value.value(0) {
                        return Ok(());
                    }
                }
                Columnar::Array(mask) => {
                    let mask = mask.as_boolean();
                    let kept = mask.true_count();
                    if kept == 0 {
                        return Ok(());
                    }
                    if kept < batch.num_rows() {
                        batch = self.select(batch, mask, kept)?;
                    }
                }
            }
        }
        ctx.emit(project(&self.project, &self.schema, &batch, &eval)?)
    }
}
