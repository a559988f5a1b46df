//! The hash table from keys to group numbers: keys in columns, a batch at a time.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, make_array};
use arrow::datatypes::{ArrowPrimitiveType, DataType as ArrowType, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use millstream_core::Result;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers the distinct keys it is shown from 0.
pub(super) struct GroupTable {
    types: Vec<ArrowType>,
    table: HashTable<u32>,
    keys: Keys,
}

enum Keys {
    /// No key column: one group, once there was a row.
    Empty { seen: bool },
    /// All columns of a key, with their null bits, in one number.
    Packed(Vec<u128>),
    /// Anything else: Arrow's row format.
    Rows { converter: RowConverter, rows: Rows, hashes: Vec<u64> },
}

/// Bits of a column's values where they can be packed.
fn packed_bits(data_type: &ArrowType) -> Option<u32> {
    match data_type {
        ArrowType::Boolean => Some(1),
        ArrowType::Int8 => Some(8),
        ArrowType::Int16 => Some(16),
        ArrowType::Int32 | ArrowType::Date32 | ArrowType::Time32(_) => Some(32),
        ArrowType::Int64 | ArrowType::Timestamp(..) | ArrowType::Duration(_) => Some(64),
        _ => None,
    }
}

#[inline]
fn hash_packed(key: u128) -> u64 {
    let low = (key as u64 ^ 0x9E37_79B9_7F4A_7C15) as u128 * 0xD6E8_FEB8_6659_FD93;
    let mixed = (low as u64) ^ ((low >> 64) as u64) ^ ((key >> 64) as u64);
    let high = mixed as u128 * 0xA076_1D64_78BD_642F;
    (high as u64) ^ ((high >> 64) as u64)
}

fn pack(array: &ArrayRef, into: &mut [u128]) {
    fn values<T: ArrowPrimitiveType>(array: &ArrayRef, bits: u32, into: &mut [u128], to: impl Fn(T::Native) -> u64) {
        let data = array.to_data();
        let values = PrimitiveArray::<T>::from(match data.data_type() == &T::DATA_TYPE {
            true => data,
            // The same bytes under the plain integer type: the layouts are equal.
            false => data.into_builder().data_type(T::DATA_TYPE).build().unwrap_or_else(|_| T::default_data()),
        });
        for (row, (key, value)) in into.iter_mut().zip(values.values().iter()).enumerate() {
            *key <<= bits + 1;
            *key |= if values.is_null(row) { 1u128 << bits } else { u128::from(to(*value)) };
        }
    }
    match packed_bits(array.data_type()) {
        Some(1) => {
            let flags = array.as_boolean();
            for (row, key) in into.iter_mut().enumerate() {
                *key = (*key << 2) | if flags.is_null(row) { 2 } else { u128::from(flags.value(row)) };
            }
        }
        Some(8) => values::<Int8Type>(array, 8, into, |v| u64::from(v as u8)),
        Some(16) => values::<Int16Type>(array, 16, into, |v| u64::from(v as u16)),
        Some(32) => values::<Int32Type>(array, 32, into, |v| u64::from(v as u32)),
        _ => values::<Int64Type>(array, 64, into, |v| v as u64),
    }
}

trait DefaultData {
    fn default_data() -> arrow::array::ArrayData;
}

impl<T: ArrowPrimitiveType> DefaultData for T {
    fn default_data() -> arrow::array::ArrayData {
        arrow::array::ArrayData::new_empty(&T::DATA_TYPE)
    }
}

fn unpack(keys: &mut [u128], data_type: &ArrowType) -> Result<ArrayRef> {
    fn values<T: ArrowPrimitiveType>(keys: &mut [u128], bits: u32, to: impl Fn(u64) -> T::Native) -> ArrayRef {
        let mut next = |key: &mut u128| {
            let is_null = *key >> bits & 1 == 1;
            let value = (*key & ((1u128 << bits) - 1)) as u64;
            *key >>= bits + 1;
            (!is_null).then(|| to(value))
        };
        Arc::new(keys.iter_mut().map(&mut next).collect::<PrimitiveArray<T>>())
    }
    let array = match packed_bits(data_type) {
        Some(1) => {
            let next = |key: &mut u128| {
                let (is_null, value) = (*key & 2 != 0, *key & 1 != 0);
                *key >>= 2;
                (!is_null).then_some(value)
            };
            return Ok(Arc::new(keys.iter_mut().map(next).collect::<BooleanArray>()));
        }
        Some(8) => values::<Int8Type>(keys, 8, |v| v as i8),
        Some(16) => values::<Int16Type>(keys, 16, |v| v as i16),
        Some(32) => values::<Int32Type>(keys, 32, |v| v as i32),
        _ => values::<Int64Type>(keys, 64, |v| v as i64),
    };
    Ok(make_array(array.to_data().into_builder().data_type(data_type.clone()).build()?))
}

impl GroupTable {
    pub(super) fn new(types: Vec<ArrowType>) -> Result<Self> {
        let bits = types.iter().try_fold(0, |sum, t| packed_bits(t).map(|bits| sum + bits + 1));
        let keys = match bits {
            _ if types.is_empty() => Keys::Empty { seen: false },
            Some(0..=128) => Keys::Packed(vec![]),
            _ => {
                let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.clone())).collect())?;
                let rows = converter.empty_rows(0, 0);
                Keys::Rows { converter, rows, hashes: vec![] }
            }
        };
        Ok(GroupTable { types, table: HashTable::new(), keys })
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        match &self.keys {
            Keys::Empty { seen } => usize::from(*seen),
            Keys::Packed(keys) => keys.len(),
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
            Keys::Packed(known) => {
                let mut packed = vec![0u128; count];
                columns.iter().for_each(|c| pack(c, &mut packed));
                for key in packed {
                    let entry = self.table.entry(
                        hash_packed(key),
                        |group| known[*group as usize] == key,
                        |group| hash_packed(known[*group as usize]),
                    );
                    groups.push(match entry {
                        Entry::Occupied(found) => *found.get(),
                        Entry::Vacant(free) => {
                            let group = known.len() as u32;
                            free.insert(group);
                            known.push(key);
                            group
                        }
                    });
                }
            }
            Keys::Rows { converter, rows, hashes } => {
                let converted = converter.convert_columns(columns)?;
                for row in converted.iter() {
                    let hash = xxh3_64(row.as_ref());
                    let entry = self.table.entry(
                        hash,
                        |group| hashes[*group as usize] == hash && rows.row(*group as usize) == row,
                        |group| hashes[*group as usize],
                    );
                    groups.push(match entry {
                        Entry::Occupied(found) => *found.get(),
                        Entry::Vacant(free) => {
                            let group = hashes.len() as u32;
                            free.insert(group);
                            hashes.push(hash);
                            rows.push(row);
                            group
                        }
                    });
                }
            }
        }
        Ok(())
    }

    /// The key columns of `groups`.
    pub(super) fn keys(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Empty { .. } => Ok(vec![]),
            Keys::Packed(known) => {
                let mut packed: Vec<u128> = groups.iter().map(|g| known[*g as usize]).collect();
                let mut columns = vec![];
                for data_type in self.types.iter().rev() {
                    columns.push(unpack(&mut packed, data_type)?);
                }
                columns.reverse();
                Ok(columns)
            }
            Keys::Rows { converter, rows, .. } => {
                Ok(converter.convert_rows(groups.iter().map(|g| rows.row(*g as usize)))?)
            }
        }
    }
}
