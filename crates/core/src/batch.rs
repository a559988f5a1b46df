//! Rows in flight: an Arrow batch and, on updating streams, the kind of each row.

use crate::Result;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt8Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

/// What a row does to the table its stream stands for (flink docs: "dynamic tables").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`
    Insert = 0,
    /// `-U`: the old version of a row that is updated.
    UpdateBefore = 1,
    /// `+U`: its new version.
    UpdateAfter = 2,
    /// `-D`
    Delete = 3,
}

impl RowKind {
    /// The kind stored as `byte`; `None` for a byte that is no kind.
    pub fn from_byte(byte: u8) -> Option<RowKind> {
        match byte {
            0 => Some(RowKind::Insert),
            1 => Some(RowKind::UpdateBefore),
            2 => Some(RowKind::UpdateAfter),
            3 => Some(RowKind::Delete),
            _ => None,
        }
    }
    /// Flink's short form: `+I`, `-U`, `+U`, `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }
    /// Whether the row adds to the table (`+I`, `+U`) rather than takes from it.
    pub fn is_addition(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }
}

/// Rows of one schema that travel together. `kinds` of `None` means that all are `+I`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The columns.
    pub rows: RecordBatch,
    /// One [`RowKind`] byte a row, on updating streams.
    pub kinds: Option<UInt8Array>,
}

impl Batch {
    /// An append-only batch.
    pub fn insert_only(rows: RecordBatch) -> Self {
        Batch { rows, kinds: None }
    }
    /// A batch of these columns; `num_rows` counts even if there is no column.
    pub fn from_columns(schema: SchemaRef, columns: Vec<ArrayRef>, num_rows: usize) -> Result<Self> {
        let options = RecordBatchOptions::new().with_row_count(Some(num_rows));
        Ok(Batch { rows: RecordBatch::try_new_with_options(schema, columns, &options)?, kinds: None })
    }
    /// The same with these kinds.
    pub fn with_kinds(mut self, kinds: Option<UInt8Array>) -> Self {
        self.kinds = kinds;
        self
    }
    /// The number of rows.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }
    /// The column at `index`.
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.rows.column(index)
    }
    /// The kind of row `row`.
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().and_then(|k| RowKind::from_byte(k.value(row))).unwrap_or(RowKind::Insert)
    }
    /// Rows `offset .. offset + length`, sharing memory.
    pub fn slice(&self, offset: usize, length: usize) -> Batch {
        Batch { rows: self.rows.slice(offset, length), kinds: self.kinds.as_ref().map(|k| k.slice(offset, length)) }
    }
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Batch> {
        let columns =
            self.rows.columns().iter().map(|c| compute::take(c, indices, None)).collect::<Result<Vec<_>, _>>()?;
        let kinds = match &self.kinds {
            None => None,
            Some(k) => {
                let taken = compute::take(k, indices, None)?;
                Some(UInt8Array::from(taken.to_data()))
            }
        };
        Ok(Batch::from_columns(self.rows.schema(), columns, indices.len())?.with_kinds(kinds))
    }
    /// Bytes of memory that the columns hold (buffers shared with other batches count whole).
    pub fn memory_size(&self) -> usize {
        self.rows.get_array_memory_size()
    }
}
