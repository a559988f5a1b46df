//! Values as JSON, in the form the stdout printer and the tests use.

use crate::args::{Arg, view};
use crate::print;
use arrow::array::{Array, ArrayRef};
use base64::Engine;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, TypeKind};

/// Writes the value at `row` as JSON.
///
/// DECIMAL is a string with its scale, temporal values are text (`TIMESTAMP_LTZ` in UTC with `Z`), BYTES base64, MAP
/// an object with stringified keys, MULTISET an object from element to count, ROW an object by field name, BITMAP its
/// text, VARIANT its JSON; NaN and the infinities are strings.
pub fn write_value(out: &mut Vec<u8>, array: &dyn Array, row: usize, data_type: &DataType) {
    let array = arrow::array::make_array(array.to_data());
    write_ref(out, &array, row, data_type);
}

/// [`write_value`] of a shared array, without the conversion.
pub fn write_ref(out: &mut Vec<u8>, array: &ArrayRef, row: usize, data_type: &DataType) {
    let written = match view(array) {
        Ok(arg) => write_arg(out, &arg, row, data_type),
        Err(_) => None,
    };
    if written.is_none() {
        out.extend_from_slice(b"null");
    }
}

fn write_arg(out: &mut Vec<u8>, arg: &Arg<'_>, row: usize, data_type: &DataType) -> Option<()> {
    let plain = |out: &mut Vec<u8>| {
        let mut text = String::new();
        print::write_arg(&mut text, arg, row, data_type, &SessionZone::UTC)?;
        if matches!(data_type.kind, TypeKind::TimestampLtz(_)) {
            text.push('Z');
        }
        write_string(out, &text);
        Some(())
    };
    match &data_type.kind {
        TypeKind::Null => return None,
        TypeKind::Boolean => out.extend_from_slice(if arg.bool(row)? { b"true" } else { b"false" }),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
            out.extend_from_slice(itoa::Buffer::new().format(arg.int(row)?).as_bytes());
        }
        TypeKind::Float => match arg {
            Arg::F32(a) if !a.is_null(row) && a.value(row).is_finite() => {
                out.extend_from_slice(ryu::Buffer::new().format_finite(a.value(row)).as_bytes());
            }
            _ => return plain(out),
        },
        TypeKind::Double => {
            let v = arg.f64(row)?;
            if !v.is_finite() {
                return plain(out);
            }
            out.extend_from_slice(ryu::Buffer::new().format_finite(v).as_bytes());
        }
        TypeKind::Char(_) | TypeKind::VarChar(_) => write_string(out, arg.str(row)?),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => {
            write_string(out, &base64::engine::general_purpose::STANDARD.encode(arg.bytes(row)?));
        }
        TypeKind::Array(t) => {
            let items = arg.list(row)?;
            out.push(b'[');
            for i in 0..items.len() {
                separate(out, i);
                write_ref(out, &items, i, t);
            }
            out.push(b']');
        }
        TypeKind::Map(k, v) => write_map(out, arg, row, k, v)?,
        TypeKind::Multiset(k) => write_map(out, arg, row, k, &TypeKind::Int.not_null())?,
        TypeKind::Row(fields) => {
            let Arg::Row(array) = arg else { return None };
            if array.is_null(row) {
                return None;
            }
            out.push(b'{');
            for (i, (field, column)) in fields.iter().zip(array.columns()).enumerate() {
                separate(out, i);
                write_string(out, &field.name);
                out.extend_from_slice(b": ");
                write_ref(out, column, row, &field.data_type);
            }
            out.push(b'}');
        }
        TypeKind::Variant => {
            let mut text = String::new();
            print::write_variant(&mut text, arg.bytes(row)?).ok()?;
            out.extend_from_slice(text.as_bytes());
        }
        _ => return plain(out),
    }
    Some(())
}

fn write_map(out: &mut Vec<u8>, arg: &Arg<'_>, row: usize, key: &DataType, value: &DataType) -> Option<()> {
    let entries = arg.map(row)?;
    out.push(b'{');
    for i in 0..entries.len() {
        separate(out, i);
        let name = print::format_value(entries.column(0), i, key, &SessionZone::UTC);
        write_string(out, &name);
        out.extend_from_slice(b": ");
        write_ref(out, entries.column(1), i, value);
    }
    out.push(b'}');
    Some(())
}

fn separate(out: &mut Vec<u8>, i: usize) {
    if i > 0 {
        out.extend_from_slice(b", ");
    }
}

/// Writes a JSON string, escaping only what JSON demands.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut from = 0;
    for (i, b) in text.bytes().enumerate() {
        let escape: &[u8] = match b {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            0..32 => b"",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[from..i]);
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{b:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        from = i + 1;
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
    out.push(b'"');
}
