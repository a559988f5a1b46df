//! Changes as rows and rows as changes: TO_CHANGELOG and FROM_CHANGELOG.

use super::stateless::MapBatch;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, UInt8Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use millstream_core::graph;
use millstream_core::operator::Context;
use millstream_core::{Batch, Error, Result, RowKind, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// Writes the kinds of rows into a column.
pub(super) struct ToChangelog {
    codes: [Option<String>; 4],
    schema: SchemaRef,
}

impl ToChangelog {
    pub(super) fn new(spec: &graph::ToChangelog, output: &Schema) -> Self {
        ToChangelog { codes: spec.codes.clone(), schema: output.arrow().clone() }
    }
}

impl MapBatch for ToChangelog {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let codes = (0..batch.num_rows()).map(|row| self.codes[batch.kind(row) as usize].as_deref());
        let codes: StringArray = codes.collect();
        let mut columns = batch.rows.columns().to_vec();
        let is_told: BooleanArray = (0..codes.len()).map(|row| Some(codes.is_valid(row))).collect();
        columns.push(Arc::new(codes));
        if is_told.true_count() == 0 {
            return Ok(());
        }
        if is_told.false_count() > 0 {
            columns = columns.iter().map(|c| compute::filter(c, &is_told)).collect::<Result<Vec<_>, _>>()?;
        }
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, is_told.true_count())?)
    }
}

/// Reads the kinds of rows from a column.
pub(super) struct FromChangelog {
    column: usize,
    kinds: HashMap<String, RowKind>,
    schema: SchemaRef,
}

impl FromChangelog {
    pub(super) fn new(spec: &graph::FromChangelog, output: &Schema) -> Self {
        FromChangelog {
            column: spec.column,
            kinds: spec.kinds.iter().cloned().collect(),
            schema: output.arrow().clone(),
        }
    }

    fn kind(&self, codes: &StringArray, row: usize) -> Result<u8> {
        let error = |what: String| {
            let mut known: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
            known.sort_unstable();
            let error = Error::data(what).detail(format!("the codes are {}", known.join(", ")));
            error.hint("FROM_CHANGELOG's argument op_mapping says what the codes of the column stand for")
        };
        if codes.is_null(row) {
            return Err(error("a row's operation code is NULL".into()));
        }
        let code = codes.value(row);
        match self.kinds.get(code) {
            Some(kind) => Ok(*kind as u8),
            None => Err(error(format!("'{code}' is no operation code"))),
        }
    }
}

impl MapBatch for FromChangelog {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let rows = batch.num_rows();
        let codes = batch.column(self.column).as_string::<i32>();
        let kinds: UInt8Array = (0..rows).map(|row| self.kind(codes, row).map(Some)).collect::<Result<_>>()?;
        let others = batch.rows.columns().iter().enumerate().filter(|(index, _)| *index != self.column);
        let columns: Vec<ArrayRef> = others.map(|(_, column)| column.clone()).collect();
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, rows)?.with_kinds(Some(kinds)))
    }
}
