//! The contracts of formats whose files hold a schema and rows in blocks of their own: read and written as a whole.

use arrow::record_batch::RecordBatch;
use millstream_core::{Result, Schema};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// A format of such files.
pub trait Container: Send + Sync + fmt::Debug {
    /// Reads a file's rows from row `skip` on, as columns of `schema`: a projection of the table's physical columns,
    /// found by their names. What doesn't fit is told with the name of the field, when the file is opened if its schema
    /// tells it.
    fn reader(&self, file: FileBytes, schema: &Schema, skip: u64) -> Result<Box<dyn BatchReader>>;
    /// Begins a file of rows of `schema`.
    fn writer(&self, schema: &Schema) -> Result<Box<dyn BatchWriter>>;
}

/// The rows of a file.
pub trait BatchReader: Send {
    /// The next rows, at least one; `None` at the end.
    fn next(&mut self) -> Result<Option<RecordBatch>>;
}

/// A file that is being written.
pub trait BatchWriter: Send {
    /// Adds rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// The bytes that are ready since the last call.
    fn take(&mut self) -> Vec<u8>;
    /// About how many bytes are not ready yet.
    fn pending_bytes(&self) -> usize;
    /// Ends the file; the bytes that [`BatchWriter::take`] has not given.
    fn finish(self: Box<Self>) -> Result<Vec<u8>>;
}

/// A file that can be read anywhere.
pub trait ReadAt: Send {
    /// Its bytes.
    fn size(&self) -> u64;
    /// Appends so many bytes from `start` to `out`; fewer only at its end.
    fn read_at(&mut self, start: u64, length: u64, out: &mut Vec<u8>) -> Result<()>;
}

/// A place in a file, from which it is read on; clones share the file.
#[derive(Clone)]
pub struct FileBytes {
    file: Arc<Mutex<dyn ReadAt>>,
    at: u64,
}

impl FileBytes {
    /// The beginning of a file.
    pub fn new(file: impl ReadAt + 'static) -> FileBytes {
        FileBytes { file: Arc::new(Mutex::new(file)), at: 0 }
    }
    /// Another place in the same file.
    pub fn at(&self, at: u64) -> FileBytes {
        FileBytes { at, ..self.clone() }
    }
    /// The file's bytes.
    pub fn size(&self) -> u64 {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).size()
    }
    /// So many bytes from `start`; fewer only at the file's end.
    pub fn read_at(&self, start: u64, length: u64) -> Result<Vec<u8>> {
        let mut out = vec![];
        self.file.lock().unwrap_or_else(PoisonError::into_inner).read_at(start, length, &mut out)?;
        Ok(out)
    }
}

impl Read for FileBytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.read_at(self.at, buffer.len() as u64).map_err(std::io::Error::other)?;
        let target = buffer.get_mut(..bytes.len()).ok_or(std::io::ErrorKind::InvalidData)?;
        target.copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

#[cfg(test)]
impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }
    fn read_at(&mut self, start: u64, length: u64, out: &mut Vec<u8>) -> Result<()> {
        let start = (start as usize).min(self.len());
        let end = (start + length as usize).min(self.len());
        out.extend_from_slice(&self[start..end]);
        Ok(())
    }
}
