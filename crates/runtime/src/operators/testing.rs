//! Small helpers of the operators' tests.

use arrow::array::{ArrayRef, TimestampMillisecondArray};
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::source::Waker;
use millstream_core::{Batch, DataType, Expr, ExprRef, Result};
use std::fmt;
use std::sync::Arc;

/// A plain column.
#[derive(Debug)]
struct Column(usize, DataType);

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl Expr for Column {
    fn data_type(&self) -> &DataType {
        &self.1
    }
    fn evaluate(&self, batch: &Batch, _: &EvalContext) -> Result<Columnar> {
        Ok(Columnar::Array(batch.column(self.0).clone()))
    }
    fn as_column(&self) -> Option<usize> {
        Some(self.0)
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![]
    }
    fn with_children(&self, _: Vec<ExprRef>) -> ExprRef {
        column(self.0, self.1.clone())
    }
}

/// A reference to a column.
pub(crate) fn column(index: usize, data_type: DataType) -> ExprRef {
    Arc::new(Column(index, data_type))
}

/// A TIMESTAMP(3) column.
pub(crate) fn times(ms: &[i64]) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(ms.to_vec()))
}

/// A waker of a worker that nobody waits for.
pub(crate) fn asleep() -> Waker {
    Arc::new(|| {})
}
