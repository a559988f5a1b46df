//! The stable hash of keys, and which worker owns which slice of the hash space.
//!
//! Part of the state format: a change here makes every stored state unreadable; golden values in
//! the tests pin it.

use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType as ArrowType, *};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The hash of a key of no columns (a global aggregate): all of it belongs to worker 0.
pub const EMPTY_KEY_HASH: u64 = 0;
const NULL_HASH: u64 = 0x9E37_79B9_7F4A_7C15;

/// The worker, of `workers`, that owns `hash`: worker i owns the i-th equal slice of `0 ..= u64::MAX`.
#[inline]
pub fn owner(hash: u64, workers: usize) -> usize {
    ((u128::from(hash) * workers as u128) >> 64) as usize
}

/// A range of the key hash space, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HashRange {
    /// The first hash in it.
    pub first: u64,
    /// The last hash in it.
    pub last: u64,
}

impl HashRange {
    /// The whole space.
    pub const ALL: HashRange = HashRange { first: 0, last: u64::MAX };

    /// What worker `index` of `workers` owns: exactly the hashes that [`owner`] maps to it.
    pub fn of_worker(index: usize, workers: usize) -> HashRange {
        let start = |i: usize| (((i as u128) << 64).div_ceil(workers as u128)) as u64;
        let last = if index + 1 == workers { u64::MAX } else { start(index + 1) - 1 };
        HashRange { first: start(index), last }
    }
    /// Whether `hash` lies in it.
    pub fn contains(&self, hash: u64) -> bool {
        (self.first..=self.last).contains(&hash)
    }
    /// Whether the two share a hash.
    pub fn overlaps(&self, other: &HashRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Hashes the key columns of a batch, row by row.
///
/// The first column is hashed as it is, each further one with the hash so far as the seed. Integers
/// of any width, dates, times and timestamps hash as their 64-bit value (timestamps in their own
/// unit), so a key keeps its hash when its type is widened; strings and bytes as their bytes;
/// floats by their bits with -0.0 as 0.0 and one NaN; NULL has a hash of its own.
pub fn hash_columns(columns: &[ArrayRef], num_rows: usize) -> Result<Vec<u64>> {
    let Some((first, rest)) = columns.split_first() else { return Ok(vec![EMPTY_KEY_HASH; num_rows]) };
    let mut hashes = vec![0u64; num_rows];
    hash_column(first.as_ref(), &mut hashes, true)?;
    for column in rest {
        hash_column(column.as_ref(), &mut hashes, false)?;
    }
    Ok(hashes)
}

#[inline]
fn hash_u64(value: u64, seed: u64) -> u64 {
    xxh3_64_with_seed(&value.to_le_bytes(), seed)
}

fn hash_with(array: &dyn Array, hashes: &mut [u64], first: bool, value: impl Fn(usize, u64) -> u64) {
    for (row, hash) in hashes.iter_mut().enumerate() {
        let seed = if first { 0 } else { *hash };
        *hash = if array.is_null(row) { hash_u64(NULL_HASH, seed) } else { value(row, seed) };
    }
}

macro_rules! hash_primitive {
    ($array:expr, $hashes:expr, $first:expr, $type:ty, $to:expr) => {{
        let values = $array.as_primitive::<$type>();
        let to = $to;
        if values.null_count() == 0 {
            for (value, hash) in values.values().iter().zip($hashes.iter_mut()) {
                let seed = if $first { 0 } else { *hash };
                *hash = hash_u64(to(*value), seed);
            }
        } else {
            hash_with($array, $hashes, $first, |row, seed| hash_u64(to(values.value(row)), seed));
        }
    }};
}

fn hash_column(array: &dyn Array, hashes: &mut [u64], first: bool) -> Result<()> {
    use TimeUnit::*;
    match array.data_type() {
        ArrowType::Int8 => hash_primitive!(array, hashes, first, Int8Type, |v: i8| v as i64 as u64),
        ArrowType::Int16 => hash_primitive!(array, hashes, first, Int16Type, |v: i16| v as i64 as u64),
        ArrowType::Int32 => hash_primitive!(array, hashes, first, Int32Type, |v: i32| v as i64 as u64),
        ArrowType::Int64 => hash_primitive!(array, hashes, first, Int64Type, |v: i64| v as u64),
        ArrowType::UInt64 => hash_primitive!(array, hashes, first, UInt64Type, |v: u64| v),
        ArrowType::Date32 => hash_primitive!(array, hashes, first, Date32Type, |v: i32| v as i64 as u64),
        ArrowType::Time32(Millisecond) => {
            hash_primitive!(array, hashes, first, Time32MillisecondType, |v: i32| v as i64 as u64)
        }
        ArrowType::Timestamp(Millisecond, _) => {
            hash_primitive!(array, hashes, first, TimestampMillisecondType, |v: i64| v as u64)
        }
        ArrowType::Timestamp(Microsecond, _) => {
            hash_primitive!(array, hashes, first, TimestampMicrosecondType, |v: i64| v as u64)
        }
        ArrowType::Timestamp(Nanosecond, _) => {
            hash_primitive!(array, hashes, first, TimestampNanosecondType, |v: i64| v as u64)
        }
        ArrowType::Duration(Millisecond) => {
            hash_primitive!(array, hashes, first, DurationMillisecondType, |v: i64| v as u64)
        }
        ArrowType::Interval(IntervalUnit::YearMonth) => {
            hash_primitive!(array, hashes, first, IntervalYearMonthType, |v: i32| v as i64 as u64)
        }
        ArrowType::Float32 => hash_primitive!(array, hashes, first, Float32Type, |v: f32| float_bits(v as f64)),
        ArrowType::Float64 => hash_primitive!(array, hashes, first, Float64Type, float_bits),
        ArrowType::Boolean => {
            let values = array.as_boolean();
            hash_with(array, hashes, first, |row, seed| hash_u64(values.value(row) as u64, seed));
        }
        ArrowType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            hash_with(array, hashes, first, |row, seed| xxh3_64_with_seed(&values.value(row).to_le_bytes(), seed));
        }
        ArrowType::Utf8 => {
            let values = array.as_string::<i32>();
            hash_with(array, hashes, first, |row, seed| hash_bytes(values.value(row).as_bytes(), seed));
        }
        ArrowType::Binary => {
            let values = array.as_binary::<i32>();
            hash_with(array, hashes, first, |row, seed| hash_bytes(values.value(row), seed));
        }
        ArrowType::Null => hash_with(array, hashes, first, |_, seed| seed),
        ArrowType::Struct(_) => {
            let values = array.as_struct();
            let mut inner = vec![0u64; array.len()];
            for (i, column) in values.columns().iter().enumerate() {
                hash_column(column.as_ref(), &mut inner, i == 0)?;
            }
            hash_with(array, hashes, first, |row, seed| hash_u64(inner[row], seed));
        }
        ArrowType::List(_) => {
            let values = array.as_list::<i32>();
            let mut inner = vec![0u64; values.values().len()];
            hash_column(values.values().as_ref(), &mut inner, true)?;
            hash_nested(array, hashes, first, &inner, values.value_offsets());
        }
        ArrowType::Map(..) => {
            let values = array.as_map();
            let mut inner = vec![0u64; values.keys().len()];
            hash_column(values.keys().as_ref(), &mut inner, true)?;
            hash_column(values.values().as_ref(), &mut inner, false)?;
            hash_nested(array, hashes, first, &inner, values.value_offsets());
        }
        other => return Err(Error::unsupported(format!("a key of the type {other}"))),
    }
    Ok(())
}

fn hash_nested(array: &dyn Array, hashes: &mut [u64], first: bool, inner: &[u64], offsets: &[i32]) {
    hash_with(array, hashes, first, |row, seed| {
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        inner[from..to].iter().fold(hash_u64((to - from) as u64, seed), |seed, h| hash_u64(*h, seed))
    });
}

#[inline]
fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    if seed == 0 { xxh3_64(bytes) } else { xxh3_64_with_seed(bytes, seed) }
}

#[inline]
fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn hashes_are_the_stored_formats_golden_values() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("carrier"), None]));
        let one = hash_columns(std::slice::from_ref(&ints), 4).unwrap();
        let two = hash_columns(&[ints, text.clone()], 4).unwrap();
        let three = hash_columns(&[text], 4).unwrap();
        let shown = format!("{one:x?}\n{two:x?}\n{three:x?}");
        expect_test::expect![[r#"
            [c77b3abb6f87acd9, 2fbc593564db792e, 5111c7e47d784413, f1d44f947e9fe56b]
            [35096e34fb7ce7fa, b75e6b6565384fa1, c712ebdcb1f46a3, 73bc046342b2400]
            [2d06800538d394c2, e6c632b61e964e1f, de42567c9e210562, f1d44f947e9fe56b]"#]]
        .assert_eq(&shown);
    }

    #[test]
    fn a_widened_key_keeps_its_hash() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![-7, 7]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![-7, 7]));
        assert_eq!(hash_columns(&[narrow], 2).unwrap(), hash_columns(&[wide], 2).unwrap());
    }

    #[test]
    fn every_hash_has_the_one_owner_whose_range_holds_it() {
        for workers in 1..=17 {
            for index in 0..workers {
                let range = HashRange::of_worker(index, workers);
                assert_eq!(owner(range.first, workers), index);
                assert_eq!(owner(range.last, workers), index);
                if index > 0 {
                    assert_eq!(HashRange::of_worker(index - 1, workers).last + 1, range.first);
                }
            }
        }
    }
}
