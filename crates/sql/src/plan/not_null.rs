//! The check of a sink's NOT NULL columns: a NULL fails the job (Flink's `table.exec.sink.not-null-enforcer`).

use arrow::array::Array;
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::{Batch, DataType, Error, Expr, ExprRef, Result};
use std::fmt;
use std::sync::Arc;

/// Its argument, which must not be NULL.
#[derive(Debug)]
pub struct NotNull {
    argument: ExprRef,
    column: String,
    data_type: DataType,
}

impl NotNull {
    /// The check; `column` names the sink's column in the error.
    pub fn new(argument: ExprRef, column: &str) -> Self {
        let data_type = argument.data_type().clone().with_nullable(false);
        NotNull { argument, column: column.to_string(), data_type }
    }
}

impl fmt::Display for NotNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NOT_NULL({})", self.argument)
    }
}

impl Expr for NotNull {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar> {
        let values = self.argument.evaluate(batch, ctx)?;
        if batch.num_rows() > 0 && values.array().null_count() > 0 {
            return Err(Error::data(format!("column '{}' is NOT NULL, but a NULL is being written", self.column))
                .hint("filter the NULLs out, or declare the sink's column without NOT NULL"));
        }
        Ok(values)
    }
    fn as_call(&self) -> Option<&str> {
        Some("NOT_NULL")
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![&self.argument]
    }
    fn with_children(&self, children: Vec<ExprRef>) -> ExprRef {
        let argument = children.into_iter().next().unwrap_or_else(|| self.argument.clone());
        Arc::new(NotNull { argument, column: self.column.clone(), data_type: self.data_type.clone() })
    }
}
