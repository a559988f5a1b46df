//! Rows in a file, in Arrow's row format, each to be read on its own.

use crate::memory::{Scratch, Stored};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType as ArrowType;
use arrow::row::{Row, RowConverter, SortField};
use millstream_core::Result;
use std::ops::Range;
use std::sync::Arc;

/// A file for rows of one schema.
pub(super) struct RowFile {
    converter: RowConverter,
    scratch: Option<Arc<Scratch>>,
}

/// Rows that were stored together; their place in the file is freed when this is dropped.
pub(super) struct StoredRows {
    bytes: Stored,
    /// Where each row ends.
    ends: Vec<u32>,
}

/// The bytes of rows, one after the other.
pub(super) struct RowBytes {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
}

/// Stores rows in a file, which is made if there is none yet.
///
/// # Errors
/// If it can't be written.
pub(super) fn store<'a>(scratch: &mut Option<Arc<Scratch>>, rows: impl Iterator<Item = Row<'a>>) -> Result<StoredRows> {
    let (mut bytes, mut ends) = (vec![], vec![]);
    for row in rows {
        bytes.extend_from_slice(row.as_ref());
        ends.push(u32::try_from(bytes.len()).expect("rows that are stored together are fewer than 4 GiB"));
    }
    let scratch = match scratch {
        Some(scratch) => scratch,
        None => scratch.insert(Scratch::new()?),
    };
    Ok(StoredRows { bytes: scratch.store(&bytes)?, ends })
}

impl RowFile {
    /// A file that is made when it is needed; `None`: Arrow has no row format for such types.
    pub(super) fn new(types: impl Iterator<Item = ArrowType>) -> Option<Self> {
        let converter = RowConverter::new(types.map(SortField::new).collect()).ok()?;
        Some(RowFile { converter, scratch: None })
    }

    /// Stores all rows of a batch.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(super) fn store(&mut self, rows: &RecordBatch) -> Result<StoredRows> {
        let rows = self.converter.convert_columns(rows.columns())?;
        store(&mut self.scratch, rows.iter())
    }

    /// The columns of rows, in the order of `rows`.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(super) fn columns(&self, rows: &[(&StoredRows, u32)]) -> Result<Vec<ArrayRef>> {
        let mut bytes = RowBytes::new(rows.len());
        for (stored, row) in rows {
            bytes.load(stored, *row as usize..*row as usize + 1)?;
        }
        bytes.columns(&self.converter)
    }
}

impl StoredRows {
    fn part(&self, rows: Range<usize>) -> Range<u64> {
        let end = |count: usize| if count == 0 { 0 } else { u64::from(self.ends[count - 1]) };
        end(rows.start)..end(rows.end)
    }

    /// Whether a row has these bytes.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(super) fn is_row(&self, row: usize, bytes: &[u8]) -> Result<bool> {
        let part = self.part(row..row + 1);
        let mut read = vec![];
        if part.end - part.start == bytes.len() as u64 {
            self.bytes.read(part, &mut read)?;
            return Ok(read == bytes);
        }
        Ok(false)
    }
}

impl RowBytes {
    /// None yet; room for so many rows.
    pub(super) fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        RowBytes { bytes: vec![], offsets }
    }

    /// Appends a row.
    pub(super) fn push(&mut self, row: Row<'_>) {
        self.bytes.extend_from_slice(row.as_ref());
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Appends stored rows that are neighbours.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(super) fn load(&mut self, stored: &StoredRows, rows: Range<usize>) -> Result<()> {
        let part = stored.part(rows.clone());
        let before = self.bytes.len() as i64 - part.start as i64;
        stored.bytes.read(part, &mut self.bytes)?;
        self.offsets.extend(stored.ends[rows].iter().map(|end| (i64::from(*end) + before) as i32));
        Ok(())
    }

    /// The rows' columns; the bytes are fewer than 2 GiB.
    ///
    /// # Errors
    /// If the bytes are not rows that `converter` made.
    pub(super) fn columns(self, converter: &RowConverter) -> Result<Vec<ArrayRef>> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let rows = converter.from_binary(BinaryArray::new(offsets, Buffer::from_vec(self.bytes), None));
        Ok(converter.convert_rows(&rows)?)
    }
}
