//! Keys of columns of at most 64 bits, packed into numbers and words.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, make_array};
use arrow::datatypes::{ArrowPrimitiveType, DataType as ArrowType, Int8Type, Int16Type, Int32Type, Int64Type};
use millstream_core::Result;
use std::sync::Arc;

/// Bits of a column's values where they can be packed.
pub(super) fn packed_bits(data_type: &ArrowType) -> Option<u32> {
    match data_type {
        ArrowType::Boolean => Some(1),
        ArrowType::Int8 => Some(8),
        ArrowType::Int16 => Some(16),
        ArrowType::Int32 | ArrowType::Date32 | ArrowType::Time32(_) => Some(32),
        ArrowType::Int64 | ArrowType::Timestamp(..) | ArrowType::Duration(_) => Some(64),
        _ => None,
    }
}

/// The values of a column that can be packed, as unsigned bits; anything where it is NULL.
pub(super) fn bits_of(array: &ArrayRef) -> Vec<u64> {
    let (data, count) = (array.to_data(), array.len());
    match packed_bits(array.data_type()) {
        Some(1) => array.as_boolean().values().iter().map(u64::from).collect(),
        Some(8) => data.buffer::<u8>(0)[..count].iter().map(|v| u64::from(*v)).collect(),
        Some(16) => data.buffer::<u16>(0)[..count].iter().map(|v| u64::from(*v)).collect(),
        Some(32) => data.buffer::<u32>(0)[..count].iter().map(|v| u64::from(*v)).collect(),
        _ => data.buffer::<u64>(0)[..count].to_vec(),
    }
}

/// The column whose values [`bits_of`] gave.
pub(super) fn from_bits(data_type: &ArrowType, bits: impl Iterator<Item = Option<u64>>) -> Result<ArrayRef> {
    fn values<T: ArrowPrimitiveType>(
        bits: impl Iterator<Item = Option<u64>>,
        to: impl Fn(u64) -> T::Native,
    ) -> ArrayRef {
        Arc::new(bits.map(|b| b.map(&to)).collect::<PrimitiveArray<T>>())
    }
    let array = match packed_bits(data_type) {
        Some(1) => return Ok(Arc::new(bits.map(|b| b.map(|b| b != 0)).collect::<BooleanArray>())),
        Some(8) => values::<Int8Type>(bits, |v| v as i8),
        Some(16) => values::<Int16Type>(bits, |v| v as i16),
        Some(32) => values::<Int32Type>(bits, |v| v as i32),
        _ => values::<Int64Type>(bits, |v| v as i64),
    };
    if array.data_type() == data_type {
        return Ok(array);
    }
    // The same bytes under another name: the layouts are equal.
    Ok(make_array(array.to_data().into_builder().data_type(data_type.clone()).build()?))
}

/// Appends a column to packed keys.
pub(super) fn pack(array: &ArrayRef, into: &mut [u128]) {
    let bits = packed_bits(array.data_type()).unwrap_or(64);
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    for (row, (key, value)) in into.iter_mut().zip(bits_of(array)).enumerate() {
        let is_null = nulls.is_some_and(|nulls| nulls.is_null(row));
        *key = *key << (bits + 1) | if is_null { 1 << bits } else { u128::from(value) };
    }
}

/// Takes the last column off packed keys.
pub(super) fn unpack(keys: &mut [u128], data_type: &ArrowType) -> Result<ArrayRef> {
    let bits = packed_bits(data_type).unwrap_or(64);
    let next = |key: &mut u128| {
        let (is_null, value) = (*key >> bits & 1 == 1, (*key & ((1 << bits) - 1)) as u64);
        *key >>= bits + 1;
        (!is_null).then_some(value)
    };
    from_bits(data_type, keys.iter_mut().map(next))
}

/// Columns as words, row by row: for each column its bits (0 for NULL), then the columns that are NULL.
pub(super) fn words(columns: &[ArrayRef], count: usize) -> Vec<u64> {
    let width = columns.len() + 1;
    let mut words = vec![0; width * count];
    for (at, column) in columns.iter().enumerate() {
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, (into, bits)) in words.chunks_exact_mut(width).zip(bits_of(column)).enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                into[width - 1] |= 1 << at;
            } else {
                into[at] = bits;
            }
        }
    }
    words
}

/// A column of rows that [`words`] made.
pub(super) fn column_of_words<'a>(
    rows: impl Iterator<Item = &'a [u64]>,
    at: usize,
    data_type: &ArrowType,
) -> Result<ArrayRef> {
    from_bits(data_type, rows.map(|words| (words[words.len() - 1] >> at & 1 == 0).then_some(words[at])))
}
