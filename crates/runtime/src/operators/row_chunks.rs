//! Rows in Arrow's row format, by number, in chunks: a single buffer of all would be copied whenever it grows. The
//! oldest chunks go to a file when memory is short.

use super::row_file::{RowBytes, StoredRows, store};
use crate::memory::{self, Scratch};
use arrow::array::ArrayRef;
use arrow::row::{Row, RowConverter, Rows};
use millstream_core::Result;
use std::sync::Arc;

/// Rows in a chunk.
#[cfg(not(test))]
const CHUNK_ROWS: usize = 4096;
#[cfg(test)]
const CHUNK_ROWS: usize = 16;
/// How many chunks go to the file for each that is filled while memory is short.
const CHUNKS_OUT: usize = 2;

/// Rows that are only added.
pub(super) struct RowChunks {
    converter: RowConverter,
    chunks: Vec<Chunk>,
    /// Chunks before this are in the file.
    in_memory: usize,
    scratch: Option<Arc<Scratch>>,
}

enum Chunk {
    Memory(Rows),
    File(StoredRows),
}

impl RowChunks {
    pub(super) fn new(converter: RowConverter) -> Self {
        RowChunks { converter, chunks: vec![], in_memory: 0, scratch: None }
    }

    /// Columns as rows that can be pushed.
    pub(super) fn convert(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.converter.convert_columns(columns)?)
    }

    /// Adds a row. [`RowChunks::settle`] has to be called some time after.
    pub(super) fn push(&mut self, row: Row<'_>) {
        let bytes = match self.chunks.last_mut() {
            Some(Chunk::Memory(last)) if last.num_rows() < CHUNK_ROWS => return last.push(row),
            Some(Chunk::Memory(last)) => last.lengths().sum::<usize>(),
            _ => 0,
        };
        // Chunks of one table are about as large as each other.
        let mut chunk = self.converter.empty_rows(CHUNK_ROWS, bytes + bytes / 32);
        chunk.push(row);
        self.chunks.push(Chunk::Memory(chunk));
    }

    /// Moves chunks to the file if memory is short.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(super) fn settle(&mut self, chunks_before: usize) -> Result<()> {
        let filled = self.chunks.len() - chunks_before;
        if filled == 0 || !memory::is_short() {
            return Ok(());
        }
        // The last one is still being filled.
        let until = (self.in_memory + filled * CHUNKS_OUT).min(self.chunks.len() - 1);
        for at in self.in_memory..until {
            if let Chunk::Memory(rows) = &self.chunks[at] {
                self.chunks[at] = Chunk::File(store(&mut self.scratch, rows.iter())?);
            }
            self.in_memory = at + 1;
        }
        Ok(())
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Whether a row has these bytes.
    pub(super) fn is_row(&self, number: u32, bytes: &[u8]) -> Result<bool> {
        let (chunk, row) = (number as usize / CHUNK_ROWS, number as usize % CHUNK_ROWS);
        match &self.chunks[chunk] {
            Chunk::Memory(rows) => Ok(rows.row(row).as_ref() == bytes),
            Chunk::File(stored) => stored.is_row(row, bytes),
        }
    }

    /// The columns of rows, whose bytes are fewer than 2 GiB.
    pub(super) fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.in_memory == 0 {
            let row = |number: &u32| match &self.chunks[*number as usize / CHUNK_ROWS] {
                Chunk::Memory(rows) => rows.row(*number as usize % CHUNK_ROWS),
                Chunk::File(..) => unreachable!("all chunks are in memory"),
            };
            return Ok(self.converter.convert_rows(numbers.iter().map(row))?);
        }
        let mut bytes = RowBytes::new(numbers.len());
        let mut at = 0;
        while let Some(number) = numbers.get(at) {
            let (chunk, row) = (*number as usize / CHUNK_ROWS, *number as usize % CHUNK_ROWS);
            let mut count = 1;
            match &self.chunks[chunk] {
                Chunk::Memory(rows) => bytes.push(rows.row(row)),
                Chunk::File(stored) => {
                    // Neighbours are read at once.
                    let is_next = |(i, other): &(usize, &u32)| **other as usize == *number as usize + i;
                    count = numbers[at..].iter().take(CHUNK_ROWS - row).enumerate().take_while(is_next).count();
                    bytes.load(stored, row..row + count)?;
                }
            }
            at += count;
        }
        bytes.columns(&self.converter)
    }
}
