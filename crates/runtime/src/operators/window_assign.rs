//! A window table function on its own: each row once for every window that it is in.

use super::stateless::MapBatch;
use super::watermark::column_ms;
use super::windows::{Windows, window_time_array};
use arrow::array::{ArrayRef, TimestampMillisecondArray, UInt32Array};
use arrow::datatypes::{DataType as ArrowType, SchemaRef, TimeUnit};
use millstream_core::graph::{WindowSpec, WindowTime};
use millstream_core::operator::Context;
use millstream_core::{Batch, Error, Result, Schema};
use std::sync::Arc;

/// Appends `window_start`, `window_end` and `window_time`.
pub(super) struct WindowAssign {
    windows: Windows,
    time: WindowTime,
    schema: SchemaRef,
    local_time_zone: bool,
}

impl WindowAssign {
    pub(super) fn new(spec: &WindowSpec, input: &Schema, output: &Schema) -> Result<Self> {
        let windows = Windows::new(spec)?;
        if output.len() != input.len() + 3 {
            return Err(Error::internal("a window function's output is its input and three columns"));
        }
        let last = output.arrow().field(output.len() - 1).data_type();
        let local_time_zone = matches!(last, ArrowType::Timestamp(TimeUnit::Millisecond, Some(_)));
        Ok(WindowAssign { windows, time: spec.time, schema: output.arrow().clone(), local_time_zone })
    }
}

impl MapBatch for WindowAssign {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let rows = batch.num_rows();
        let times = match self.time {
            WindowTime::Event { column } => column_ms(batch.column(column), "the time attribute of a window")?,
            WindowTime::Processing => vec![ctx.now_ms; rows],
        };
        let (mut indices, mut starts, mut ends) = (Vec::with_capacity(rows), vec![], vec![]);
        for (row, time) in times.into_iter().enumerate() {
            self.windows.for_each_window(self.windows.local(time), |start, end| {
                indices.push(row as u32);
                starts.push(start);
                ends.push(end);
            });
        }
        let whole = indices.len() == rows && indices.iter().enumerate().all(|(i, row)| i as u32 == *row);
        let source = if whole { batch } else { batch.take(&UInt32Array::from(indices))? };
        let mut columns: Vec<ArrayRef> = source.rows.columns().to_vec();
        let time = window_time_array(&ends, self.local_time_zone, self.windows.zone());
        let count = ends.len();
        columns.push(Arc::new(TimestampMillisecondArray::from(starts)));
        columns.push(Arc::new(TimestampMillisecondArray::from(ends)));
        columns.push(time);
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, count)?.with_kinds(source.kinds))
    }
}
