//! The contract of a compiled expression: typed, evaluated a batch at a time.

use crate::{Batch, DataType, Result};
use arrow::array::{Array, ArrayRef, Datum, Scalar, UInt32Array};
use arrow::compute;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A shared expression.
pub type ExprRef = Arc<dyn Expr>;

/// What evaluating an expression over a batch gives.
#[derive(Clone, Debug)]
pub enum Columnar {
    /// One value a row.
    Array(ArrayRef),
    /// The same value for every row: an array of length one.
    Scalar(ArrayRef),
}

impl Columnar {
    /// One value a row, `num_rows` long.
    pub fn into_array(self, num_rows: usize) -> Result<ArrayRef> {
        match self {
            Columnar::Array(array) => Ok(array),
            Columnar::Scalar(value) if num_rows == 1 => Ok(value),
            Columnar::Scalar(value) => Ok(compute::take(&value, &UInt32Array::from(vec![0; num_rows]), None)?),
        }
    }
    /// The array or the one-element array behind it.
    pub fn array(&self) -> &ArrayRef {
        match self {
            Columnar::Array(array) | Columnar::Scalar(array) => array,
        }
    }
    /// Whether it is the same for every row.
    pub fn is_scalar(&self) -> bool {
        matches!(self, Columnar::Scalar(_))
    }
    /// For arrow's binary kernels.
    pub fn datum(&self) -> Box<dyn Datum + '_> {
        match self {
            Columnar::Array(array) => Box::new(array as &dyn Array),
            Columnar::Scalar(value) => Box::new(Scalar::new(value)),
        }
    }
}

/// What an expression may ask of its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct EvalContext {
    /// Processing time, milliseconds since 1970 UTC: what `PROCTIME()` and `CURRENT_TIMESTAMP` give.
    pub now_ms: i64,
    /// The watermark that the operator which evaluates has reached, milliseconds; `None` before the first. What
    /// `CURRENT_WATERMARK` gives.
    pub watermark_ms: Option<i64>,
}

impl EvalContext {
    /// At this processing time, before the first watermark.
    pub fn at(now_ms: i64) -> Self {
        EvalContext { now_ms, watermark_ms: None }
    }
}

/// A typed expression over the columns of a batch.
///
/// # Contract
/// - `evaluate` gives an array of `data_type().arrow()`, one value a row (or a scalar).
/// - It is a pure function of the batch and `ctx`; it may be called from several threads.
/// - An error is about data (`ErrorKind::Data`) and fails the job.
pub trait Expr: Any + Send + Sync + fmt::Debug + fmt::Display {
    /// The type of its values.
    fn data_type(&self) -> &DataType;
    /// Its values over `batch`.
    fn evaluate(&self, batch: &Batch, ctx: &EvalContext) -> Result<Columnar>;
    /// If it is a plain column: which.
    fn as_column(&self) -> Option<usize> {
        None
    }
    /// If it is a constant: its value, as an array of length one.
    fn as_literal(&self) -> Option<&ArrayRef> {
        None
    }
    /// If it reads a field of the ROW that its only child gives: the field's name.
    fn as_field(&self) -> Option<&str> {
        None
    }
    /// If it is a call or an operator: its name, in capitals.
    fn as_call(&self) -> Option<&str> {
        None
    }
    /// The expressions it is made of.
    fn children(&self) -> Vec<&ExprRef>;
    /// The same expression over other children (as many, of the same types).
    fn with_children(&self, children: Vec<ExprRef>) -> ExprRef;
    /// Whether it evaluates some of its children only for rows that need them, so that a child that fails for other
    /// rows doesn't matter.
    fn is_lazy(&self) -> bool {
        false
    }
    /// Whether equal inputs give equal results at any time (false for `RAND()`, `PROCTIME()`, ...).
    fn is_deterministic(&self) -> bool {
        self.children().iter().all(|c| c.is_deterministic())
    }
}
