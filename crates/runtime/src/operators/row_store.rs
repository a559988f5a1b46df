//! Rows that an operator keeps as they came, in the batches in which they came, each let go on its own.

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use millstream_core::operator::TARGET_BATCH_ROWS;
use millstream_core::{Batch, Result};
use std::sync::Arc;

/// Dead rows that may be kept in memory beside as many living ones.
const MAX_DEAD: usize = 8 * TARGET_BATCH_ROWS;

/// A kept row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowRef {
    block: u32,
    row: u32,
}

/// Kept rows of one schema, each with a value of `M` beside its columns.
pub(super) struct RowStore<M> {
    schema: SchemaRef,
    blocks: Vec<Option<Block<M>>>,
    free: Vec<u32>,
    alive: usize,
    held: usize,
}

/// Rows that came together, of which some may have been let go.
struct Block<M> {
    rows: RecordBatch,
    /// `None`: let go.
    notes: Vec<Option<M>>,
    alive: usize,
}

impl<M: Copy> RowStore<M> {
    pub(super) fn new(schema: SchemaRef) -> Self {
        RowStore { schema, blocks: vec![], free: vec![], alive: 0, held: 0 }
    }

    /// Takes in the rows that have a note, and gives each its name.
    pub(super) fn add(&mut self, rows: RecordBatch, notes: Vec<Option<M>>) -> impl Iterator<Item = Option<RowRef>> {
        let alive = notes.iter().filter(|note| note.is_some()).count();
        let is_kept: Vec<bool> = notes.iter().map(Option::is_some).collect();
        let mut block = 0;
        if alive > 0 {
            block = self.free.pop().unwrap_or_else(|| {
                self.blocks.push(None);
                self.blocks.len() as u32 - 1
            });
            self.alive += alive;
            self.held += notes.len();
            self.blocks[block as usize] = Some(Block { rows, notes, alive });
        }
        is_kept.into_iter().enumerate().map(move |(row, kept)| kept.then_some(RowRef { block, row: row as u32 }))
    }

    /// The rows' schema.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn block(&self, row: RowRef) -> &Block<M> {
        self.blocks[row.block as usize].as_ref().expect("a kept row has a block")
    }

    /// The note of a row.
    pub(super) fn note(&self, row: RowRef) -> M {
        self.block(row).notes[row.row as usize].expect("the row is kept")
    }

    /// The note of a row, to change it.
    pub(super) fn note_mut(&mut self, row: RowRef) -> &mut M {
        let block = self.blocks[row.block as usize].as_mut().expect("a kept row has a block");
        block.notes[row.row as usize].as_mut().expect("the row is kept")
    }

    /// A column of rows, in the order of `rows`; NULL for no row.
    pub(super) fn gather_some(&self, column: usize, rows: &[Option<RowRef>]) -> Result<ArrayRef> {
        let mut blocks: Vec<u32> = rows.iter().flatten().map(|row| row.block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let null = new_null_array(self.schema.field(column).data_type(), 1);
        let of_block = |block: &u32| {
            let block = self.blocks[*block as usize].as_ref().expect("a kept row has a block");
            block.rows.column(column).as_ref()
        };
        let mut arrays: Vec<&dyn Array> = blocks.iter().map(of_block).collect();
        arrays.push(null.as_ref());
        let place = |row: &Option<RowRef>| match row {
            Some(row) => (blocks.partition_point(|block| *block < row.block), row.row as usize),
            None => (blocks.len(), 0),
        };
        let places: Vec<(usize, usize)> = rows.iter().map(place).collect();
        Ok(compute::interleave(&arrays, &places)?)
    }

    /// A column of rows, in the order of `rows`.
    pub(super) fn gather(&self, column: usize, rows: &[RowRef]) -> Result<ArrayRef> {
        let rows: Vec<Option<RowRef>> = rows.iter().copied().map(Some).collect();
        self.gather_some(column, &rows)
    }

    /// Lets go of a row.
    pub(super) fn forget(&mut self, row: RowRef) {
        let slot = &mut self.blocks[row.block as usize];
        let block = slot.as_mut().expect("a kept row has a block");
        let note = block.notes[row.row as usize].take();
        assert!(note.is_some(), "a row is let go once");
        block.alive -= 1;
        self.alive -= 1;
        if block.alive == 0 {
            self.held -= block.notes.len();
            *slot = None;
            self.free.push(row.block);
        }
    }

    /// Whether so many rows are dead that [`RowStore::repack`] pays.
    pub(super) fn is_sparse(&self) -> bool {
        self.held > 2 * self.alive + MAX_DEAD
    }

    /// Copies the kept rows together, so that the memory of those let go is freed. `refs` are all that name them.
    pub(super) fn repack<'r>(&mut self, refs: impl Iterator<Item = &'r mut RowRef>) -> Result<()> {
        let refs: Vec<&mut RowRef> = refs.collect();
        let rows: Vec<RowRef> = refs.iter().map(|row| **row).collect();
        let notes = rows.iter().map(|row| Some(self.note(*row))).collect();
        let columns = (0..self.schema.fields().len()).map(|c| self.gather(c, &rows)).collect::<Result<Vec<_>>>()?;
        let batch = Batch::from_columns(self.schema.clone(), columns, rows.len())?.rows;
        let mut packed = RowStore::new(Arc::clone(&self.schema));
        for (into, row) in refs.into_iter().zip(packed.add(batch, notes)) {
            *into = row.expect("each kept row has a note");
        }
        *self = packed;
        Ok(())
    }
}
