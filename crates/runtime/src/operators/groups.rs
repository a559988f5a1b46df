//! The hash table from keys to group numbers: keys in columns, a batch at a time.
//!
//! Looking up a batch goes in passes over it (hash, load the slot, compare the key) rather than row by row: the loads
//! of a pass don't wait for each other, so that a table far larger than the caches costs about what a small one does.

use super::packed::{bits_of, column_of_words, from_bits, pack, packed_bits, unpack, words};
use super::row_chunks::RowChunks;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType as ArrowType;
use arrow::row::{RowConverter, SortField};
use millstream_core::{Error, Result};
use std::cell::Cell;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers the distinct keys it is shown from 0.
pub(super) struct GroupTable {
    types: Vec<ArrowType>,
    slots: Slots,
    keys: Keys,
}

enum Keys {
    /// No key column: one group, once there was a row.
    Empty { seen: bool },
    /// One column of at most 64 bits; the group of NULL has no slot.
    One { known: Vec<u64>, null: Option<u32> },
    /// All columns of a key, with their null bits, in one number.
    Packed(Vec<u128>),
    /// A word for each column and one for what is NULL, group by group.
    Words(Vec<u64>),
    /// Anything else: Arrow's row format.
    Rows { rows: RowChunks, hashes: Vec<u64> },
}

/// Open addressing: the upper half of a key's hash and its group's number plus one; 0 where there is none.
///
/// A key's first slot is told by the highest bits of its hash. So what a slot holds is enough to move it when the table
/// grows, and it moves from one end of the old table to the other and of the new one alike.
#[derive(Default)]
struct Slots {
    slots: Vec<u64>,
    used: usize,
    /// By how much a hash is shifted to give its first slot.
    shift: u32,
}

/// Rows whose slots are loaded before the first is looked at.
const CHUNK: usize = 512;
/// The fewest slots; a power of two, as all sizes are.
const MIN_SLOTS: usize = 64;
const UPPER: u64 = 0xFFFF_FFFF_0000_0000;
/// Keys of fewer columns than this may be kept as words.
const MAX_WORDS: usize = 9;

impl Slots {
    /// Finds or makes the group of each of `count` keys, given the hash of each, whether a group has the key of a
    /// row, and how to add a row's key (returning its group).
    fn find<K>(
        &mut self,
        keys: &mut K,
        hashes: &[u64],
        groups: &mut Vec<u32>,
        is_same: impl Fn(&K, u32, usize) -> bool,
        add: impl Fn(&mut K, usize) -> u32,
    ) {
        if self.slots.is_empty() {
            self.resize(MIN_SLOTS);
        }
        let mut loaded = [0u64; CHUNK];
        for (chunk, hashes) in hashes.chunks(CHUNK).enumerate() {
            for (slot, hash) in loaded.iter_mut().zip(hashes) {
                *slot = self.slots[(hash >> self.shift) as usize];
            }
            for (i, (slot, hash)) in loaded.iter().zip(hashes).enumerate() {
                let row = chunk * CHUNK + i;
                if (slot ^ hash) & UPPER == 0 && *slot as u32 != 0 && is_same(keys, *slot as u32 - 1, row) {
                    groups.push(*slot as u32 - 1);
                    continue;
                }
                groups.push(self.probe(keys, *hash, row, &is_same, &add));
            }
        }
    }

    /// One key, slot by slot from its first.
    fn probe<K>(
        &mut self,
        keys: &mut K,
        hash: u64,
        row: usize,
        is_same: &impl Fn(&K, u32, usize) -> bool,
        add: &impl Fn(&mut K, usize) -> u32,
    ) -> u32 {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = (hash >> self.shift) as usize;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                let group = add(keys, row);
                self.slots[at] = hash & UPPER | u64::from(group + 1);
                self.used += 1;
                return group;
            }
            if (slot ^ hash) & UPPER == 0 && is_same(keys, slot as u32 - 1, row) {
                return slot as u32 - 1;
            }
            at = (at + 1) & mask;
        }
    }

    fn resize(&mut self, slots: usize) {
        self.slots = vec![0; slots];
        self.shift = u64::BITS - slots.ilog2();
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.resize(old.len() * 2);
        let mask = self.slots.len() - 1;
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let mut at = (slot >> self.shift) as usize;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }
}

#[inline]
fn hash_one(key: u64) -> u64 {
    let first = u128::from(key ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    let mixed = first as u64 ^ (first >> 64) as u64;
    let second = u128::from(mixed) * 0xA076_1D64_78BD_642F;
    second as u64 ^ (second >> 64) as u64
}

#[inline]
fn hash_packed(key: u128) -> u64 {
    hash_one(key as u64 ^ hash_one((key >> 64) as u64))
}

#[inline]
fn hash_words(words: &[u64]) -> u64 {
    words.iter().fold(0, |hash: u64, word| hash_one(word ^ hash.rotate_left(23)))
}

/// Appends a group's key; its number.
fn push<T>(known: &mut Vec<T>, key: T) -> u32 {
    known.push(key);
    known.len() as u32 - 1
}

impl GroupTable {
    pub(super) fn new(types: Vec<ArrowType>) -> Result<Self> {
        let bits = types.iter().try_fold(0, |sum, t| packed_bits(t).map(|bits| sum + bits + 1));
        let keys = match bits {
            _ if types.is_empty() => Keys::Empty { seen: false },
            Some(_) if types.len() == 1 => Keys::One { known: vec![], null: None },
            Some(0..=128) => Keys::Packed(vec![]),
            Some(_) if types.len() < MAX_WORDS => Keys::Words(vec![]),
            _ => {
                let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
                Keys::Rows { rows: RowChunks::new(converter), hashes: vec![] }
            }
        };
        Ok(GroupTable { types, slots: Slots::default(), keys })
    }

    /// A table for the same keys, without any.
    pub(super) fn emptied(&self) -> Result<Self> {
        GroupTable::new(self.types.clone())
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        match &self.keys {
            Keys::Empty { seen } => usize::from(*seen),
            Keys::One { known, .. } => known.len(),
            Keys::Packed(keys) => keys.len(),
            Keys::Words(words) => words.len() / (self.types.len() + 1),
            Keys::Rows { hashes, .. } => hashes.len(),
        }
    }

    /// Finds or makes the group of each of `count` rows.
    pub(super) fn lookup(&mut self, columns: &[ArrayRef], count: usize, groups: &mut Vec<u32>) -> Result<()> {
        groups.clear();
        groups.reserve(count);
        match &mut self.keys {
            Keys::Empty { seen } => {
                *seen |= count > 0;
                groups.resize(count, 0);
            }
            Keys::One { known, null } => {
                let column = &columns[0];
                let mut keys = bits_of(column);
                let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
                if let Some(nulls) = nulls {
                    keys = nulls.valid_indices().map(|row| keys[row]).collect();
                }
                let hashes: Vec<u64> = keys.iter().map(|key| hash_one(*key)).collect();
                self.slots.find(
                    known,
                    &hashes,
                    groups,
                    |known, group, row| known[group as usize] == keys[row],
                    |known, row| push(known, keys[row]),
                );
                if let Some(nulls) = nulls {
                    let null = *null.get_or_insert_with(|| push(known, 0));
                    let mut valid = std::mem::take(groups).into_iter();
                    groups.extend(
                        nulls.iter().map(|is_valid| if is_valid { valid.next().unwrap_or(null) } else { null }),
                    );
                }
            }
            Keys::Packed(known) => {
                let mut packed = vec![0u128; count];
                columns.iter().for_each(|c| pack(c, &mut packed));
                let hashes: Vec<u64> = packed.iter().map(|key| hash_packed(*key)).collect();
                self.slots.find(
                    known,
                    &hashes,
                    groups,
                    |known, group, row| known[group as usize] == packed[row],
                    |known, row| push(known, packed[row]),
                );
            }
            Keys::Words(known) => {
                let width = columns.len() + 1;
                let new = words(columns, count);
                let row = |row: usize| &new[row * width..][..width];
                let hashes: Vec<u64> = new.chunks_exact(width).map(hash_words).collect();
                self.slots.find(
                    known,
                    &hashes,
                    groups,
                    |known, group, at| known[group as usize * width..][..width] == *row(at),
                    |known, at| {
                        known.extend_from_slice(row(at));
                        (known.len() / width - 1) as u32
                    },
                );
            }
            Keys::Rows { rows, hashes } => {
                let converted = rows.convert(columns)?;
                let chunks = rows.chunks();
                let failed: Cell<Option<Error>> = Cell::new(None);
                let new: Vec<u64> = converted.iter().map(|row| xxh3_64(row.as_ref())).collect();
                self.slots.find(
                    &mut (&mut *rows, hashes),
                    &new,
                    groups,
                    |(rows, hashes), group, row| {
                        let is_same = || rows.is_row(group, converted.row(row).as_ref());
                        hashes[group as usize] == new[row]
                            && is_same().unwrap_or_else(|error| {
                                failed.set(Some(error));
                                false
                            })
                    },
                    |(rows, hashes), row| {
                        rows.push(converted.row(row));
                        push(hashes, new[row])
                    },
                );
                if let Some(error) = failed.take() {
                    return Err(error);
                }
                rows.settle(chunks)?;
            }
        }
        Ok(())
    }

    /// The key columns of `groups`.
    pub(super) fn keys(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Empty { .. } => Ok(vec![]),
            Keys::One { known, null } => {
                let bits = groups.iter().map(|group| (*null != Some(*group)).then(|| known[*group as usize]));
                Ok(vec![from_bits(&self.types[0], bits)?])
            }
            Keys::Packed(known) => {
                let mut packed: Vec<u128> = groups.iter().map(|g| known[*g as usize]).collect();
                let mut columns = vec![];
                for data_type in self.types.iter().rev() {
                    columns.push(unpack(&mut packed, data_type)?);
                }
                columns.reverse();
                Ok(columns)
            }
            Keys::Words(known) => {
                let width = self.types.len() + 1;
                let rows = || groups.iter().map(|group| &known[*group as usize * width..][..width]);
                self.types.iter().enumerate().map(|(at, data_type)| column_of_words(rows(), at, data_type)).collect()
            }
            Keys::Rows { rows, .. } => rows.columns(groups),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int16Array, Int64Array, StringArray};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use std::collections::HashMap;
    use std::sync::Arc;

    /// Numbers as a map from the printed key would give them, and the keys that come back.
    fn check(columns: impl Fn(&mut SmallRng, usize) -> Vec<ArrayRef>) {
        let mut random = SmallRng::seed_from_u64(7);
        let sample = columns(&mut random, 1);
        let mut table = GroupTable::new(sample.iter().map(|c| c.data_type().clone()).collect()).unwrap();
        let mut model: HashMap<String, u32> = HashMap::new();
        let mut groups = vec![];
        for count in [0, 1, 7, 600, 5000, 3] {
            let columns = columns(&mut random, count);
            let text = |columns: &[ArrayRef], row: usize| {
                let value = |c: &ArrayRef| arrow::util::display::array_value_to_string(c, row).unwrap();
                columns
                    .iter()
                    .map(|c| if c.is_null(row) { "NULL".into() } else { value(c) })
                    .collect::<Vec<_>>()
                    .join("|")
            };
            table.lookup(&columns, count, &mut groups).unwrap();
            assert_eq!(groups.len(), count);
            let mut names = HashMap::new();
            for (row, group) in groups.iter().enumerate() {
                assert_eq!(*model.entry(text(&columns, row)).or_insert(*group), *group);
                assert_eq!(names.entry(*group).or_insert_with(|| text(&columns, row)), &text(&columns, row));
            }
            let keys = table.keys(&groups).unwrap();
            (0..count).for_each(|row| assert_eq!(text(&keys, row), text(&columns, row)));
        }
        assert_eq!(table.len(), model.len());
    }

    fn longs(random: &mut SmallRng, count: usize, range: i64) -> ArrayRef {
        Arc::new(
            (0..count).map(|_| Some(random.random_range(-range..range)).filter(|v| v % 5 != 0)).collect::<Int64Array>(),
        )
    }

    #[test]
    fn equal_keys_get_one_number_whatever_their_types() {
        check(|random, count| vec![longs(random, count, 2000)]);
        check(|random, count| vec![longs(random, count, 3)]);
        check(|random, count| {
            let short =
                (0..count).map(|_| Some(random.random::<i16>() % 9).filter(|v| *v != 2)).collect::<Int16Array>();
            vec![Arc::new(short) as ArrayRef, longs(random, count, 100)]
        });
        check(|random, count| vec![longs(random, count, 40), longs(random, count, 40)]);
        check(|random, count| (0..4).map(|_| longs(random, count, 9)).collect());
        check(|random, count| {
            let text = (0..count).map(|_| Some(format!("k{}", random.random_range(0..900)))).collect::<StringArray>();
            vec![Arc::new(text) as ArrayRef, longs(random, count, 2)]
        });
    }
}
