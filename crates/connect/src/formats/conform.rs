//! Arrays of a file to the arrays that carry a column's type: without loss, or not at all.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType as ArrowType;
use millstream_core::{DataType, Error, Result, TypeKind};
use std::sync::Arc;

/// The array as one of `to`; the error names the field at `path`. Fields of rows are found by name.
pub(super) fn conform(array: &ArrayRef, to: &DataType, path: &str) -> Result<ArrayRef> {
    let wanted = to.arrow();
    if !to.nullable && array.null_count() > 0 {
        return Err(Error::data(format!("field '{path}' is null, but the column is NOT NULL")));
    }
    if array.data_type() == &wanted {
        return Ok(array.clone());
    }
    let refused = || {
        let found = array.data_type();
        Error::data(format!("field '{path}' is of type {found}, which can't be read as {to}"))
    };
    match (&to.kind, &wanted) {
        (TypeKind::Array(element), ArrowType::List(field)) => {
            let list: ArrayRef = match array.data_type() {
                ArrowType::List(_) => array.clone(),
                ArrowType::LargeList(item) | ArrowType::FixedSizeList(item, _) => {
                    cast(array, &ArrowType::List(item.clone())).map_err(|_| refused())?
                }
                _ => return Err(refused()),
            };
            let list = list.as_list::<i32>();
            let values = conform(list.values(), element, &format!("{path}[]"))?;
            Ok(Arc::new(ListArray::try_new(field.clone(), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (TypeKind::Map(..) | TypeKind::Multiset(_), ArrowType::Map(field, sorted)) => {
            let Some(map) = array.as_map_opt() else { return Err(refused()) };
            let count = TypeKind::Int.not_null();
            let (key, value) = match &to.kind {
                TypeKind::Map(key, value) => (key.as_ref(), value.as_ref()),
                TypeKind::Multiset(key) => (key.as_ref(), &count),
                _ => return Err(refused()),
            };
            let ArrowType::Struct(entries) = field.data_type() else { return Err(refused()) };
            let keys = conform(map.keys(), key, &format!("{path}[key]"))?;
            let values = conform(map.values(), value, &format!("{path}[]"))?;
            let entries = StructArray::try_new(entries.clone(), vec![keys, values], None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, *sorted)?))
        }
        (TypeKind::Row(fields), ArrowType::Struct(arrow)) => {
            let Some(row) = array.as_struct_opt() else { return Err(refused()) };
            let mut columns = vec![];
            for field in fields {
                let path = format!("{path}.{}", field.name);
                columns.push(match row.column_by_name(&field.name) {
                    Some(column) => conform(column, &field.data_type.clone().with_nullable(true), &path)?,
                    None if field.data_type.nullable => new_null_array(&field.data_type.arrow(), row.len()),
                    None => return Err(Error::data(format!("there is no field '{path}', and it is NOT NULL"))),
                });
            }
            let nulls = row.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(arrow.clone(), columns, nulls, row.len())?))
        }
        _ if is_lossless(array.data_type(), &wanted) => {
            cast(array, &wanted).map_err(|e| refused().detail(e.to_string()))
        }
        _ => Err(refused()),
    }
}

fn cast(array: &ArrayRef, to: &ArrowType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// Whether any value of the one type is one of the other; only timestamps and times lose digits that the column's type
/// doesn't have.
fn is_lossless(from: &ArrowType, to: &ArrowType) -> bool {
    use ArrowType::*;
    let size = |t: &ArrowType| t.primitive_width().unwrap_or(0);
    match (from, to) {
        // Files of other programs have no types below 32 bits: their values are checked one by one.
        (Int32, Int8 | Int16) => true,
        (f, t) if f.is_signed_integer() && t.is_signed_integer() => size(f) <= size(t),
        (f, t) if f.is_unsigned_integer() && t.is_signed_integer() => size(f) < size(t),
        (Float16 | Float32, Float64) => true,
        (Decimal32(_, s) | Decimal64(_, s) | Decimal128(_, s) | Decimal256(_, s), Decimal128(_, t)) => s == t,
        (LargeUtf8 | Utf8View, Utf8) => true,
        (Dictionary(_, value), _) => value.as_ref() == to || is_lossless(value, to),
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        // Old programs don't mark their texts as such.
        (Binary, Utf8) => true,
        (Date64, Date32) => true,
        (Time32(_) | Time64(_), Time32(_)) => true,
        (Timestamp(..), Timestamp(..)) => true,
        _ => false,
    }
}
