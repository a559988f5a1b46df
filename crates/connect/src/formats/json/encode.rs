//! The JSON encoder: what Flink's `json` format writes.

use super::JsonOptions;
use crate::formats::temporal::{push_date, push_time, push_timestamp};
use crate::formats::text::{push_decimal, push_double, push_float};
use arrow::array::*;
use arrow::datatypes::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_core::format::Encoder;
use millstream_core::{Batch, DataType, Error, Result, Schema, TypeKind};

/// What becomes of a NULL key of a map: `json.map-null-key.mode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapNullKey {
    /// The job fails.
    Fail,
    /// The entry is left out.
    Drop,
    /// This text is the key.
    Literal(String),
}

/// Encodes batches of one schema as JSON lines.
#[derive(Debug)]
pub struct JsonEncoder {
    schema: Schema,
    keys: Vec<Vec<u8>>,
    options: JsonOptions,
}

impl JsonEncoder {
    /// An encoder.
    pub fn new(schema: &Schema, options: JsonOptions) -> Self {
        JsonEncoder { schema: schema.clone(), keys: schema.fields.iter().map(|f| key(&f.name)).collect(), options }
    }
}

fn key(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_string(&mut out, name.as_bytes());
    out.push(b':');
    out
}

/// Writes a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, others) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((byte, others)) = others.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04X}").as_bytes()),
        }
        rest = others;
    }
    out.push(b'"');
}

/// How many bytes stand before the first that a string can't hold as it is.
fn plain_len(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte that is below `limit`, if it is below 128; a borrow only reaches bytes after such a one.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let marked = (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES * 0x80);
        if marked != 0 {
            return i * 8 + marked.trailing_zeros() as usize / 8;
        }
    }
    let marked = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\');
    words.len() * 8 + marked.unwrap_or(rest.len())
}

/// Writes one value.
pub(in crate::formats) fn push_value(
    out: &mut Vec<u8>,
    array: &dyn Array,
    row: usize,
    data_type: &DataType,
    options: &JsonOptions,
) -> Result<()> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    macro_rules! integer {
        ($type:ty) => {
            out.extend_from_slice(itoa::Buffer::new().format(array.as_primitive::<$type>().value(row)).as_bytes())
        };
    }
    match &data_type.kind {
        TypeKind::Null => out.extend_from_slice(b"null"),
        TypeKind::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
        }
        TypeKind::TinyInt => integer!(Int8Type),
        TypeKind::SmallInt => integer!(Int16Type),
        TypeKind::Int => integer!(Int32Type),
        TypeKind::BigInt => integer!(Int64Type),
        TypeKind::IntervalYearMonth => integer!(IntervalYearMonthType),
        TypeKind::IntervalDayTime => integer!(DurationMillisecondType),
        TypeKind::Float => {
            let value = array.as_primitive::<Float32Type>().value(row);
            quoted_unless(out, value.is_finite(), |out| push_float(out, value));
        }
        TypeKind::Double => {
            let value = array.as_primitive::<Float64Type>().value(row);
            quoted_unless(out, value.is_finite(), |out| push_double(out, value));
        }
        TypeKind::Decimal(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            push_decimal(out, value, *scale as i8, options.plain_decimals);
        }
        TypeKind::Char(_) | TypeKind::VarChar(_) => push_string(out, array.as_string::<i32>().value(row).as_bytes()),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(array.as_binary::<i32>().value(row)).as_bytes());
            out.push(b'"');
        }
        TypeKind::Date => quoted_unless(out, false, |out| {
            push_date(out, array.as_primitive::<Date32Type>().value(row).into());
        }),
        TypeKind::Time(_) => quoted_unless(out, false, |out| {
            let ms = array.as_primitive::<Time32MillisecondType>().value(row).unsigned_abs();
            push_time(out, ms / 1000, ms % 1000 * 1_000_000);
        }),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let value = timestamp(array, row, *p);
            let zulu = matches!(data_type.kind, TypeKind::TimestampLtz(_));
            quoted_unless(out, false, |out| push_timestamp(out, value, *p, options.standard, zulu));
        }
        TypeKind::Array(item) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for i in 0..items.len() {
                if i > 0 {
                    out.push(b',');
                }
                push_value(out, &items, i, item, options)?;
            }
            out.push(b']');
        }
        TypeKind::Map(k, v) => push_map(out, &array.as_map().value(row), k, v, options)?,
        TypeKind::Multiset(t) => {
            push_map(out, &array.as_map().value(row), t, &TypeKind::Int.not_null(), options)?;
        }
        TypeKind::Row(fields) => {
            let row_array = array.as_struct();
            out.push(b'{');
            let mut first = true;
            for (field, column) in fields.iter().zip(row_array.columns()) {
                if options.ignore_null_fields && column.is_null(row) {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                push_string(out, field.name.as_bytes());
                out.push(b':');
                push_value(out, column, row, &field.data_type, options)?;
            }
            out.push(b'}');
        }
        TypeKind::Bitmap | TypeKind::Variant => {
            return Err(Error::internal(format!("a value of type {} in the format 'json'", data_type.kind)));
        }
    }
    Ok(())
}

/// The value of a timestamp column, in the unit that carries its precision.
pub(in crate::formats) fn timestamp(array: &dyn Array, row: usize, precision: u8) -> i64 {
    match precision {
        0..=3 => array.as_primitive::<TimestampMillisecondType>().value(row),
        4..=6 => array.as_primitive::<TimestampMicrosecondType>().value(row),
        _ => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

fn quoted_unless(out: &mut Vec<u8>, bare: bool, push: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        return push(out);
    }
    out.push(b'"');
    push(out);
    out.push(b'"');
}

fn push_map(
    out: &mut Vec<u8>,
    entries: &StructArray,
    key_type: &DataType,
    value_type: &DataType,
    options: &JsonOptions,
) -> Result<()> {
    let [keys, values] = entries.columns() else {
        return Err(Error::internal("a map's entries are not two columns"));
    };
    out.push(b'{');
    let mut first = true;
    for i in 0..entries.len() {
        let mut key = Vec::new();
        if keys.is_null(i) {
            match &options.map_null_key {
                MapNullKey::Fail => {
                    return Err(Error::data("JSON has no NULL as a map's key")
                        .hint("set 'json.map-null-key.mode' to 'DROP' or 'LITERAL'"));
                }
                MapNullKey::Drop => continue,
                MapNullKey::Literal(text) => push_string(&mut key, text.as_bytes()),
            }
        } else {
            push_value(&mut key, keys, i, key_type, options)?;
            if key.first() != Some(&b'"') {
                let bare = std::mem::take(&mut key);
                push_string(&mut key, &bare);
            }
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(&key);
        out.push(b':');
        push_value(out, values, i, value_type, options)?;
    }
    out.push(b'}');
    Ok(())
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        for row in 0..batch.num_rows() {
            out.push(b'{');
            let mut first = true;
            for ((field, key), column) in self.schema.fields.iter().zip(&self.keys).zip(batch.rows.columns()) {
                if self.options.ignore_null_fields && column.is_null(row) {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                out.extend_from_slice(key);
                push_value(out, column, row, &field.data_type, &self.options)?;
            }
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_string_is_written_so_that_it_is_read_back_wherever_it_stands() {
        for byte in 0..128 {
            for at in 0..20 {
                for around in ['x', '"', '\\', '\n', '\u{1}', ' ', '\u{7f}'] {
                    let text: String = (0..20).map(|i| if i == at { char::from(byte) } else { around }).collect();
                    let mut out = Vec::new();
                    push_string(&mut out, text.as_bytes());
                    assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
                }
            }
        }
        for text in ["\u{e9}\u{20ac}\u{1f600}\"\u{e9}", "\u{a0}\u{a2}\u{dc}\u{a2}\u{9c}\u{80}\u{ff}"] {
            let mut out = Vec::new();
            push_string(&mut out, text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert_eq!(out.len(), text.len() + 2 + text.matches('"').count());
        }
    }
}
