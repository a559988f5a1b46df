//! Rows that wait or are looked back at, in columns, each under a number that its owner keeps. Large blocks of them go to
//! a file when memory is short.

use super::row_file::{RowFile, StoredRows};
use crate::memory;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute;
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_core::operator::{TableDelta, TableSpec};
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The block of a slot that holds no row.
const NOWHERE: u32 = u32::MAX;
/// So many blocks of one level become one of the next.
const FAN_IN: usize = 8;
/// Blocks of this level are not merged any more.
const TOP_LEVEL: usize = 5;
/// The rows of a block of level 0 are fewer than this; each next level has [`FAN_IN`] times as many.
const SMALLEST: usize = 8;
/// Blocks of this level may go to the file.
#[cfg(not(test))]
const FILE_LEVEL: usize = TOP_LEVEL;
#[cfg(test)]
const FILE_LEVEL: usize = 1;

/// Rows in blocks of columns. A row is known by its slot, and has a number by which rows that arrived later are told
/// from earlier ones. Small blocks are merged, so that there are few; sparse ones are copied, so that the memory of
/// rows that are gone is freed.
pub(super) struct RowSlots {
    table: TableSpec,
    schema: SchemaRef,
    width: usize,
    blocks: BTreeMap<u32, Block>,
    next_block: u32,
    /// The blocks of each level below the top.
    levels: [Vec<u32>; TOP_LEVEL],
    /// Where each slot's row is.
    places: Vec<(u32, u32)>,
    numbers: Vec<i64>,
    free: Vec<u32>,
    rows: usize,
    next_number: i64,
    /// Rows with a lower number are stored.
    stored_below: i64,
    deletes: Vec<RecordBatch>,
    /// None: rows of such types can't go there.
    file: Option<RowFile>,
    /// Rows that are marked, and those whose mark has to be stored.
    marked: BTreeSet<u32>,
    remarked: BTreeSet<u32>,
}

/// Rows that came together, of which some may have left.
struct Block {
    rows: BlockRows,
    /// Each row's slot; [`NOWHERE`] of those that have left.
    slots: Vec<u32>,
    alive: usize,
    newest: i64,
    level: usize,
}

enum BlockRows {
    Memory(RecordBatch),
    File(StoredRows),
}

fn level_of(rows: usize) -> usize {
    let mut level = 0;
    let mut limit = SMALLEST;
    while level < TOP_LEVEL && rows >= limit {
        limit *= FAN_IN;
        level += 1;
    }
    level
}

impl RowSlots {
    /// The state table over rows of the schema `input`: their columns, the number, the mark.
    pub(super) fn table(name: &str, input: &Schema, partition: &[usize]) -> TableSpec {
        let column = |(i, field): (usize, &Field)| Field::new(format!("c{i}"), field.data_type.clone());
        let mut fields: Vec<Field> = input.fields.iter().enumerate().map(column).collect();
        fields.push(Field::new("number", TypeKind::BigInt.not_null()));
        fields.push(Field::new("mark", TypeKind::Boolean.not_null()));
        let mut key = partition.to_vec();
        key.push(input.len());
        let partition_by = partition.to_vec();
        TableSpec { name: name.into(), schema: Schema::new(fields), key, partition_by, time: None }
    }

    /// An empty store of rows of the schema `input`.
    pub(super) fn new(table: TableSpec, input: &Schema) -> Self {
        RowSlots {
            table,
            schema: input.arrow().clone(),
            width: input.len(),
            blocks: BTreeMap::new(),
            next_block: 0,
            levels: Default::default(),
            places: vec![],
            numbers: vec![],
            free: vec![],
            rows: 0,
            next_number: 0,
            stored_below: 0,
            deletes: vec![],
            file: RowFile::new(input.fields.iter().map(|f| f.data_type.arrow())),
            marked: BTreeSet::new(),
            remarked: BTreeSet::new(),
        }
    }

    /// How many slots there are, free ones included: what is kept by slot must have as many places.
    pub(super) fn slots(&self) -> usize {
        self.places.len()
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// A slot for the row that arrives next. It has to be filled, or released unfilled.
    pub(super) fn reserve(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        self.slot(number)
    }

    fn slot(&mut self, number: i64) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.numbers[slot as usize] = number;
                slot
            }
            None => {
                self.places.push((NOWHERE, 0));
                self.numbers.push(number);
                self.places.len() as u32 - 1
            }
        }
    }

    /// The number of a slot's row.
    pub(super) fn number(&self, slot: u32) -> i64 {
        self.numbers[slot as usize]
    }

    /// Whether a slot has its row.
    pub(super) fn is_filled(&self, slot: u32) -> bool {
        self.places[slot as usize].0 != NOWHERE
    }

    /// Puts rows into reserved slots.
    pub(super) fn fill(&mut self, rows: RecordBatch, slots: Vec<u32>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.rows += slots.len();
        self.push(rows, slots)
    }

    /// Reserves slots for all rows of a batch and fills them.
    pub(super) fn append(&mut self, rows: RecordBatch) -> Result<Vec<u32>> {
        let slots: Vec<u32> = (0..rows.num_rows()).map(|_| self.reserve()).collect();
        self.fill(rows, slots.clone())?;
        Ok(slots)
    }

    fn push(&mut self, rows: RecordBatch, slots: Vec<u32>) -> Result<()> {
        let block = self.next_block;
        self.next_block += 1;
        let mut newest = i64::MIN;
        for (row, slot) in slots.iter().enumerate() {
            self.places[*slot as usize] = (block, row as u32);
            newest = newest.max(self.numbers[*slot as usize]);
        }
        let (alive, level) = (slots.len(), level_of(slots.len()));
        self.blocks.insert(block, Block { rows: BlockRows::Memory(rows), slots, alive, newest, level });
        if level >= FILE_LEVEL && memory::is_short() {
            self.store_blocks()?;
        }
        if let Some(siblings) = self.levels.get_mut(level) {
            siblings.push(block);
            if siblings.len() == FAN_IN {
                let merged = std::mem::take(siblings);
                return self.renew(&merged);
            }
        }
        Ok(())
    }

    /// Moves the large blocks to the file.
    fn store_blocks(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for block in self.blocks.values_mut().filter(|block| block.level >= FILE_LEVEL) {
            if let BlockRows::Memory(rows) = &block.rows {
                block.rows = BlockRows::File(file.store(rows)?);
            }
        }
        Ok(())
    }

    /// Copies the rows of blocks into a new one.
    fn renew(&mut self, blocks: &[u32]) -> Result<()> {
        let alive = |block: &u32| self.blocks[block].slots.iter().copied().filter(|slot| *slot != NOWHERE);
        let slots: Vec<u32> = blocks.iter().flat_map(alive).collect();
        let rows = self.batch(&slots)?;
        for block in blocks {
            self.drop_block(*block);
        }
        if slots.is_empty() { Ok(()) } else { self.push(rows, slots) }
    }

    fn drop_block(&mut self, block: u32) {
        if let Some(dropped) = self.blocks.remove(&block)
            && let Some(siblings) = self.levels.get_mut(dropped.level)
        {
            siblings.retain(|other| *other != block);
        }
    }

    fn batch(&self, slots: &[u32]) -> Result<RecordBatch> {
        Ok(Batch::from_columns(self.schema.clone(), self.take(slots)?, slots.len())?.rows)
    }

    /// The columns of rows, in the order of `slots`.
    pub(super) fn take(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.take_columns(slots, &(0..self.width).collect::<Vec<_>>())
    }

    /// These columns of rows.
    pub(super) fn take_columns(&self, slots: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut blocks: Vec<u32> = slots.iter().map(|slot| self.places[*slot as usize].0).collect();
        blocks.sort_unstable();
        blocks.dedup();
        // Where each block's rows are among the sources; the last source has those of all files.
        let mut sources: Vec<&RecordBatch> = vec![];
        let mut source_of: BTreeMap<u32, usize> = BTreeMap::new();
        for block in &blocks {
            if let BlockRows::Memory(rows) = &self.blocks[block].rows {
                source_of.insert(*block, sources.len());
                sources.push(rows);
            }
        }
        if blocks.is_empty() {
            return Ok(columns.iter().map(|c| new_empty_array(self.schema.field(*c).data_type())).collect());
        }
        if let ([source], [_]) = (&sources[..], &blocks[..]) {
            let rows = UInt32Array::from_iter_values(slots.iter().map(|slot| self.places[*slot as usize].1));
            return columns.iter().map(|c| Ok(compute::take(source.column(*c), &rows, None)?)).collect();
        }
        let mut stored: Vec<(&StoredRows, u32)> = vec![];
        let mut last = (NOWHERE, None);
        let indices: Vec<(usize, usize)> = slots
            .iter()
            .map(|slot| {
                let (block, row) = self.places[*slot as usize];
                if block != last.0 {
                    last = (block, source_of.get(&block).copied());
                }
                match (last.1, &self.blocks[&block].rows) {
                    (None, BlockRows::File(rows)) => {
                        stored.push((rows, row));
                        (sources.len(), stored.len() - 1)
                    }
                    (source, _) => (source.unwrap_or_default(), row as usize),
                }
            })
            .collect();
        let loaded = match &self.file {
            Some(file) if !stored.is_empty() => Some(file.columns(&stored)?),
            _ => None,
        };
        if let (Some(loaded), true) = (&loaded, sources.is_empty()) {
            return Ok(columns.iter().map(|c| loaded[*c].clone()).collect());
        }
        let of = |column: &usize| {
            let mut arrays: Vec<&dyn Array> = sources.iter().map(|rows| rows.column(*column).as_ref()).collect();
            arrays.extend(loaded.as_ref().map(|loaded| loaded[*column].as_ref()));
            Ok(compute::interleave(&arrays, &indices)?)
        };
        columns.iter().map(of).collect()
    }

    /// Lets go of rows, or of slots that were never filled.
    pub(super) fn release(&mut self, slots: &[u32]) -> Result<()> {
        let is_stored = |slot: &&u32| self.is_filled(**slot) && self.number(**slot) < self.stored_below;
        let stored: Vec<u32> = slots.iter().filter(is_stored).copied().collect();
        if !stored.is_empty() {
            let mut columns = self.take_columns(&stored, &self.table.partition_by)?;
            columns.push(Arc::new(Int64Array::from_iter_values(stored.iter().map(|s| self.number(*s)))));
            let schema = self.table.schema.project(&self.table.key);
            self.deletes.push(RecordBatch::try_new(schema.arrow().clone(), columns)?);
        }
        let mut sparse = vec![];
        for slot in slots {
            let (block, row) = std::mem::replace(&mut self.places[*slot as usize], (NOWHERE, 0));
            self.free.push(*slot);
            self.marked.remove(slot);
            self.remarked.remove(slot);
            let Some(found) = self.blocks.get_mut(&block) else { continue };
            self.rows -= 1;
            found.slots[row as usize] = NOWHERE;
            found.alive -= 1;
            if found.alive * 2 < found.slots.len() {
                sparse.push(block);
            }
        }
        sparse.sort_unstable();
        sparse.dedup();
        for block in sparse {
            // One may have been merged with another meanwhile.
            match self.blocks.get(&block).map(|b| b.alive) {
                None => {}
                Some(0) => self.drop_block(block),
                Some(_) => self.renew(&[block])?,
            }
        }
        Ok(())
    }

    /// Marks these rows, and no others; what a mark means is the owner's affair.
    pub(super) fn mark(&mut self, slots: impl IntoIterator<Item = u32>) {
        let marked: BTreeSet<u32> = slots.into_iter().collect();
        self.remarked.extend(marked.symmetric_difference(&self.marked));
        self.marked = marked;
    }

    /// What changed since this was last asked.
    pub(super) fn take_delta(&mut self) -> Result<TableDelta> {
        let mut delta = TableDelta { table: self.table.name.clone(), ..TableDelta::default() };
        delta.deletes = std::mem::take(&mut self.deletes);
        let mut slots: Vec<u32> = std::mem::take(&mut self.remarked).into_iter().collect();
        slots.retain(|slot| self.number(*slot) < self.stored_below);
        for block in self.blocks.values().filter(|b| b.newest >= self.stored_below) {
            let is_new = |slot: &u32| *slot != NOWHERE && self.numbers[*slot as usize] >= self.stored_below;
            slots.extend(block.slots.iter().copied().filter(is_new));
        }
        for part in slots.chunks(millstream_core::operator::TARGET_BATCH_ROWS) {
            let mut columns = self.take(part)?;
            columns.push(Arc::new(Int64Array::from_iter_values(part.iter().map(|s| self.number(*s)))));
            columns.push(Arc::new(part.iter().map(|s| Some(self.marked.contains(s))).collect::<BooleanArray>()));
            delta.upserts.push(RecordBatch::try_new(self.table.schema.arrow().clone(), columns)?);
        }
        self.stored_below = self.next_number;
        Ok(delta)
    }

    /// Takes in stored rows; gives them, and their slots, in the order of their arrival.
    pub(super) fn restore(&mut self, rows: &RecordBatch) -> Result<(Batch, Vec<u32>)> {
        if rows.num_columns() != self.width + 2 {
            return Err(Error::state("stored rows have an unexpected number of columns"));
        }
        let order = compute::sort_to_indices(rows.column(self.width), None, None)?;
        let rows = compute::take_record_batch(rows, &order)?;
        let numbers = rows.column(self.width).as_primitive::<Int64Type>().values().to_vec();
        let marks: &BooleanArray = rows.column(self.width + 1).as_boolean();
        self.next_number = numbers.last().map_or(0, |last| last + 1).max(self.next_number);
        self.stored_below = self.next_number;
        let slots: Vec<u32> = numbers.iter().map(|number| self.slot(*number)).collect();
        self.marked.extend(slots.iter().enumerate().filter(|(row, _)| marks.value(*row)).map(|(_, slot)| *slot));
        let columns = rows.columns()[..self.width].to_vec();
        let batch = Batch::from_columns(self.schema.clone(), columns, slots.len())?;
        self.fill(batch.rows.clone(), slots.clone())?;
        Ok((batch, slots))
    }

    /// Whether a row is marked.
    pub(super) fn is_marked(&self, slot: u32) -> bool {
        self.marked.contains(&slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Rows come and go; those that are there are what was put in, and what is stored is what is there.
    #[test]
    fn rows_keep_their_slots_while_blocks_are_merged_and_copied() {
        let mut random = SmallRng::seed_from_u64(11);
        let input =
            Schema::new(vec![Field::new("k", TypeKind::Int.not_null()), Field::new("v", TypeKind::STRING.nullable())]);
        let table = RowSlots::table("rows", &input, &[0]);
        let mut store = RowSlots::new(table.clone(), &input);
        let mut known: BTreeMap<u32, i32> = BTreeMap::new();
        let mut stored: BTreeMap<i64, String> = BTreeMap::new();
        let mut next = 0;
        for step in 0..300 {
            let count = if step % 40 < 25 { random.random_range(0..60) } else { 0 };
            let values: Vec<i32> = (next..next + count).collect();
            next += count;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(arrow::array::Int32Array::from_iter_values(values.iter().map(|v| v % 5))),
                Arc::new(values.iter().map(|v| Some(format!("row {v}"))).collect::<arrow::array::StringArray>()),
            ];
            let rows = Batch::from_columns(input.arrow().clone(), columns, values.len()).unwrap().rows;
            known.extend(store.append(rows).unwrap().into_iter().zip(values));
            let gone: Vec<u32> = known.keys().copied().filter(|_| random.random_range(0..9) == 0).collect();
            store.release(&gone).unwrap();
            known.retain(|slot, _| !gone.contains(slot));
            let slots: Vec<u32> = known.keys().copied().collect();
            let columns = store.take(&slots).unwrap();
            let text = columns[1].as_string::<i32>();
            known.values().enumerate().for_each(|(i, v)| assert_eq!(text.value(i), format!("row {v}")));
            assert_eq!(store.len(), known.len());
            assert!(store.blocks.len() <= FAN_IN * TOP_LEVEL + 1, "{} blocks", store.blocks.len());
            if step % 7 == 0 {
                let delta = store.take_delta().unwrap();
                for gone in &delta.deletes {
                    gone.column(1).as_primitive::<Int64Type>().values().iter().for_each(|n| drop(stored.remove(n)));
                }
                for new in &delta.upserts {
                    let numbers = new.column(2).as_primitive::<Int64Type>();
                    let text = new.column(1).as_string::<i32>();
                    (0..new.num_rows()).for_each(|r| drop(stored.insert(numbers.value(r), text.value(r).to_string())));
                }
                let mut kept: Vec<String> = stored.values().cloned().collect();
                let mut live: Vec<String> = known.values().map(|v| format!("row {v}")).collect();
                kept.sort();
                live.sort();
                assert_eq!(kept, live);
            }
        }
    }
}
