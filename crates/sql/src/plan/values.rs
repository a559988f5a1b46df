//! The source behind `VALUES` and queries without FROM: constant rows, given once by the first worker.

use millstream_core::expr::EvalContext;
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader};
use millstream_core::time::ClockRef;
use millstream_core::{Batch, Error, ExprRef, Result, Schema};
use std::sync::Arc;

/// Constant rows.
#[derive(Clone, Debug)]
pub struct ValuesSource {
    schema: Schema,
    rows: Arc<Vec<Vec<ExprRef>>>,
}

impl ValuesSource {
    /// These rows; the expressions read no column.
    pub fn new(schema: Schema, rows: Vec<Vec<ExprRef>>) -> Self {
        ValuesSource { schema, rows: Arc::new(rows) }
    }
}

impl Source for ValuesSource {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        let index = |name: &str| {
            self.schema.index_of(name).ok_or_else(|| Error::internal(format!("VALUES has no column '{name}'")))
        };
        let kept = schema.fields.iter().map(|f| index(&f.name)).collect::<Result<Vec<_>>>()?;
        let rows = self.rows.iter().map(|r| kept.iter().map(|i| r[*i].clone()).collect()).collect();
        Ok(Arc::new(ValuesSource::new(schema, rows)))
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        format!("values({} rows)", self.rows.len())
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        let given = ctx.restored.iter().flatten().any(|position| position.as_slice() == GIVEN);
        Ok(Box::new(ValuesReader { source: self.clone(), given: given || ctx.instance != 0, clock: ctx.clock }))
    }
}

/// The position after the rows (its first byte is the version); before them it is [`NOT_GIVEN`].
const GIVEN: &[u8] = &[1, 1];
const NOT_GIVEN: &[u8] = &[1, 0];

struct ValuesReader {
    source: ValuesSource,
    given: bool,
    clock: ClockRef,
}

impl SourceReader for ValuesReader {
    fn poll(&mut self, _max_rows: usize) -> Result<SourcePoll> {
        if self.given {
            return Ok(SourcePoll::End);
        }
        self.given = true;
        let source = &self.source;
        let num_rows = source.rows.len();
        let one = Batch::from_columns(Schema::new(vec![]).arrow().clone(), vec![], 1)?;
        let ctx = EvalContext::at(self.clock.now_ms());
        let mut columns = vec![];
        for (i, field) in source.schema.fields.iter().enumerate() {
            let mut cells = vec![];
            for row in source.rows.iter() {
                cells.push(row[i].evaluate(&one, &ctx)?.into_array(1)?);
            }
            let cells: Vec<_> = cells.iter().map(|c| c.as_ref()).collect();
            columns.push(match cells.is_empty() {
                true => arrow::array::new_empty_array(&field.data_type.arrow()),
                false => arrow::compute::concat(&cells)?,
            });
        }
        let batch = Batch::from_columns(source.schema.arrow().clone(), columns, num_rows)?;
        Ok(SourcePoll::Rows { split: 0, batch })
    }
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(if self.given { GIVEN.to_vec() } else { NOT_GIVEN.to_vec() })
    }
}
