//! Rows to Avro values of the schema that is derived from their columns.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use arrow::record_batch::RecordBatch;
use millstream_core::{DataType, Error, Field, Result, TypeKind};

/// The rows of a batch, to be encoded one by one.
pub(super) struct Rows(Vec<Cells>);

/// A column, and how its values are written.
struct Cells {
    array: ArrayRef,
    nullable: bool,
    name: String,
    values: Values,
}

enum Values {
    Null,
    Boolean,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    Decimal,
    Date,
    Time,
    Millis,
    Micros,
    Text,
    Bytes,
    Array(Box<Cells>),
    Map(Box<Cells>, Box<Cells>),
    Row(Vec<Cells>),
}

impl Rows {
    /// The rows of columns for `fields`.
    pub fn new(batch: &RecordBatch, fields: &[Field]) -> Result<Rows> {
        let columns = fields.iter().zip(batch.columns());
        Ok(Rows(columns.map(|(f, array)| cells(&f.name, &f.data_type, array)).collect::<Result<_>>()?))
    }
    /// Appends row `row`.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        self.0.iter().try_for_each(|cells| cells.encode(row, out))
    }
}

fn cells(name: &str, data_type: &DataType, array: &ArrayRef) -> Result<Cells> {
    let child = |data_type: &DataType, array: &ArrayRef| cells(name, data_type, array).map(Box::new);
    let values = match (&data_type.kind, array.data_type()) {
        (TypeKind::Null, _) => Values::Null,
        (TypeKind::Boolean, _) => Values::Boolean,
        (TypeKind::TinyInt, _) => Values::I8,
        (TypeKind::SmallInt, _) => Values::I16,
        (TypeKind::Int, _) => Values::I32,
        (TypeKind::BigInt, _) => Values::I64,
        (TypeKind::Float, _) => Values::F32,
        (TypeKind::Double, _) => Values::F64,
        (TypeKind::Decimal(..), _) => Values::Decimal,
        (TypeKind::Date, _) => Values::Date,
        (TypeKind::Time(_), _) => Values::Time,
        (_, ArrowType::Timestamp(TimeUnit::Millisecond, _)) => Values::Millis,
        (_, ArrowType::Timestamp(TimeUnit::Microsecond, _)) => Values::Micros,
        (kind, _) if kind.is_character() => Values::Text,
        (kind, _) if kind.is_binary() => Values::Bytes,
        (TypeKind::Array(element), _) => Values::Array(child(element, array.as_list::<i32>().values())?),
        (TypeKind::Map(key, value), _) => {
            let map = array.as_map();
            Values::Map(child(key, map.keys())?, child(value, map.values())?)
        }
        (TypeKind::Multiset(key), _) => {
            let map = array.as_map();
            Values::Map(child(key, map.keys())?, child(&TypeKind::Int.not_null(), map.values())?)
        }
        (TypeKind::Row(fields), _) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            Values::Row(columns.map(|(f, array)| cells(&f.name, &f.data_type, array)).collect::<Result<_>>()?)
        }
        (_, other) => return Err(Error::internal(format!("Avro has no type for {data_type}, carried as {other}"))),
    };
    let nullable = data_type.nullable && data_type.kind != TypeKind::Null;
    Ok(Cells { array: array.clone(), nullable, name: name.to_string(), values })
}

impl Cells {
    fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let array = self.array.as_ref();
        let is_null = array.is_null(row);
        if self.nullable {
            put_long(i64::from(!is_null), out);
            if is_null {
                return Ok(());
            }
        } else if is_null && !matches!(self.values, Values::Null) {
            return Err(Error::data(format!("the value of field '{}' is NULL, but its type is NOT NULL", self.name)));
        }
        match &self.values {
            Values::Null => {}
            Values::Boolean => out.push(u8::from(array.as_boolean().value(row))),
            Values::I8 => put_long(array.as_primitive::<Int8Type>().value(row).into(), out),
            Values::I16 => put_long(array.as_primitive::<Int16Type>().value(row).into(), out),
            Values::I32 => put_long(array.as_primitive::<Int32Type>().value(row).into(), out),
            Values::I64 => put_long(array.as_primitive::<Int64Type>().value(row), out),
            Values::F32 => out.extend_from_slice(&array.as_primitive::<Float32Type>().value(row).to_le_bytes()),
            Values::F64 => out.extend_from_slice(&array.as_primitive::<Float64Type>().value(row).to_le_bytes()),
            Values::Decimal => put_decimal(array.as_primitive::<Decimal128Type>().value(row), out),
            Values::Date => put_long(array.as_primitive::<Date32Type>().value(row).into(), out),
            Values::Time => put_long(array.as_primitive::<Time32MillisecondType>().value(row).into(), out),
            Values::Millis => put_long(array.as_primitive::<TimestampMillisecondType>().value(row), out),
            Values::Micros => put_long(array.as_primitive::<TimestampMicrosecondType>().value(row), out),
            Values::Text => put_bytes(array.as_string::<i32>().value(row).as_bytes(), out),
            Values::Bytes => put_bytes(array.as_binary::<i32>().value(row), out),
            Values::Array(items) => {
                let offsets = array.as_list::<i32>().value_offsets();
                block(offsets[row]..offsets[row + 1], out, |item, out| items.encode(item, out))?;
            }
            Values::Map(keys, values) => {
                let offsets = array.as_map().value_offsets();
                block(offsets[row]..offsets[row + 1], out, |entry, out| {
                    if keys.array.is_null(entry) {
                        return Err(Error::data(format!("a key of the map '{}' is NULL", self.name)));
                    }
                    put_bytes(keys.array.as_string::<i32>().value(entry).as_bytes(), out);
                    values.encode(entry, out)
                })?;
            }
            Values::Row(fields) => fields.iter().try_for_each(|field| field.encode(row, out))?,
        }
        Ok(())
    }
}

/// All items as one block, then the end.
fn block(
    items: std::ops::Range<i32>,
    out: &mut Vec<u8>,
    mut item: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    if !items.is_empty() {
        put_long(i64::from(items.end - items.start), out);
        items.into_iter().try_for_each(|i| item(i as usize, out))?;
    }
    put_long(0, out);
    Ok(())
}

/// A zigzag number of variable length.
pub(super) fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Bytes behind their length.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// The fewest bytes of the two's complement, as Java's `BigInteger` gives them.
fn put_decimal(value: i128, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let needless = |(i, b): (usize, &u8)| *b == sign && (bytes[i + 1] ^ sign) & 0x80 == 0;
    let skipped = bytes[..15].iter().enumerate().take_while(|x| needless(*x)).count();
    put_bytes(&bytes[skipped..], out);
}
