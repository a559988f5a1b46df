//! Values as text, as `CAST(x AS STRING)` gives it in Flink.

use crate::args::{Arg, view};
use crate::calendar::{DAY_MS, civil};
use arrow::array::{Array, ArrayRef};
use millstream_core::types::SessionZone;
use millstream_core::variant::Variant;
use millstream_core::{DataType, Result, TypeKind, bitmap};
use std::fmt::Write;

/// The value at `row` as text: doubles as Java prints them, `TIMESTAMP_LTZ` in `zone`, NULL as `NULL`.
pub fn format_value(array: &ArrayRef, row: usize, data_type: &DataType, zone: &SessionZone) -> String {
    let mut out = String::new();
    write_value(&mut out, array, row, data_type, zone);
    out
}

/// [`format_value`] onto the end of `out`.
pub(crate) fn write_value(out: &mut String, array: &ArrayRef, row: usize, data_type: &DataType, zone: &SessionZone) {
    match view(array) {
        Ok(arg) => write_arg(out, &arg, row, data_type, zone).unwrap_or_else(|| out.push_str("NULL")),
        Err(_) => out.push_str("NULL"),
    }
}

/// [`format_value`] of a viewed column; `None` and nothing written for NULL.
pub(crate) fn write_arg(
    out: &mut String,
    arg: &Arg<'_>,
    row: usize,
    data_type: &DataType,
    zone: &SessionZone,
) -> Option<()> {
    match &data_type.kind {
        TypeKind::Null => return None,
        TypeKind::Boolean => out.push_str(if arg.bool(row)? { "TRUE" } else { "FALSE" }),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
            out.push_str(itoa::Buffer::new().format(arg.int(row)?));
        }
        TypeKind::Float => match arg {
            Arg::F32(a) if !a.is_null(row) => write_float(out, a.value(row)),
            _ => return None,
        },
        TypeKind::Double => write_double(out, arg.f64(row)?),
        TypeKind::Decimal(_, s) => crate::decimal::write(out, arg.dec(row)?, *s),
        TypeKind::Char(_) | TypeKind::VarChar(_) => out.push_str(arg.str(row)?),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => out.push_str(&String::from_utf8_lossy(arg.bytes(row)?)),
        TypeKind::Date => write_date(out, arg.int(row)?),
        TypeKind::Time(p) => write_time(out, arg.int(row)?, 0, *p),
        TypeKind::Timestamp(p) => {
            let (ms, nanos) = arg.instant(row)?;
            write_timestamp(out, ms, nanos, *p);
        }
        TypeKind::TimestampLtz(p) => {
            let (ms, nanos) = arg.instant(row)?;
            write_timestamp(out, zone.to_local_ms(ms), nanos, *p);
        }
        TypeKind::IntervalYearMonth => {
            let months = arg.int(row)?;
            let sign = if months < 0 { '-' } else { '+' };
            let _ = write!(out, "{sign}{}-{:02}", months.abs() / 12, months.abs() % 12);
        }
        TypeKind::IntervalDayTime => {
            let ms = arg.int(row)?;
            let sign = if ms < 0 { '-' } else { '+' };
            let _ = write!(out, "{sign}{} ", ms.abs() / DAY_MS);
            write_time(out, ms.abs() % DAY_MS, 0, 3);
        }
        TypeKind::Array(t) => {
            let items = arg.list(row)?;
            out.push('[');
            for i in 0..items.len() {
                separate(out, i);
                write_value(out, &items, i, t, zone);
            }
            out.push(']');
        }
        TypeKind::Map(..) | TypeKind::Multiset(_) => {
            let entries = arg.map(row)?;
            let int = TypeKind::Int.not_null();
            let (key, value) = match &data_type.kind {
                TypeKind::Map(k, v) => (&**k, &**v),
                TypeKind::Multiset(k) => (&**k, &int),
                _ => return None,
            };
            out.push('{');
            for i in 0..entries.len() {
                separate(out, i);
                write_value(out, entries.column(0), i, key, zone);
                out.push('=');
                write_value(out, entries.column(1), i, value, zone);
            }
            out.push('}');
        }
        TypeKind::Row(fields) => {
            let Arg::Row(array) = arg else { return None };
            if array.is_null(row) {
                return None;
            }
            out.push('(');
            for (i, (field, column)) in fields.iter().zip(array.columns()).enumerate() {
                separate(out, i);
                write_value(out, column, row, &field.data_type, zone);
            }
            out.push(')');
        }
        TypeKind::Bitmap => bitmap::write_text(out, &bitmap::read(arg.bytes(row)?).ok()?),
        TypeKind::Variant => write_variant(out, arg.bytes(row)?).ok()?,
    }
    Some(())
}

/// The JSON text of a VARIANT.
pub(crate) fn write_variant(out: &mut String, bytes: &[u8]) -> Result<()> {
    Variant::new(bytes)?.write_json(out, &write_double)
}

fn separate(out: &mut String, i: usize) {
    if i > 0 {
        out.push_str(", ");
    }
}

/// `value` with at least `width` digits.
pub(crate) fn push_padded(out: &mut String, value: i64, width: usize) {
    if let (2, 0..100) = (width, value) {
        let digit = |v: i64| char::from(b'0' + v as u8);
        out.push(digit(value / 10));
        out.push(digit(value % 10));
        return;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs());
    if value < 0 {
        out.push('-');
    }
    let signed = digits.len() + usize::from(value < 0);
    out.extend(std::iter::repeat_n('0', width.saturating_sub(signed)));
    out.push_str(digits);
}

/// `yyyy-MM-dd`.
pub(crate) fn write_date(out: &mut String, day: i64) {
    let (y, m, d) = civil(day);
    push_padded(out, y, 4);
    out.push('-');
    push_padded(out, m, 2);
    out.push('-');
    push_padded(out, d, 2);
}

/// `HH:mm:ss` and `p` digits of the fraction.
pub(crate) fn write_time(out: &mut String, ms: i64, nanos: i64, p: u8) {
    let s = ms / 1000;
    push_padded(out, s / 3600, 2);
    out.push(':');
    push_padded(out, s / 60 % 60, 2);
    out.push(':');
    push_padded(out, s % 60, 2);
    if p > 0 {
        let p = p.min(9);
        out.push('.');
        push_padded(out, (ms % 1000 * 1_000_000 + nanos) / 10i64.pow(u32::from(9 - p)), usize::from(p));
    }
}

/// `yyyy-MM-dd HH:mm:ss` and `p` digits of the fraction.
pub(crate) fn write_timestamp(out: &mut String, ms: i64, nanos: i64, p: u8) {
    write_date(out, ms.div_euclid(DAY_MS));
    out.push(' ');
    write_time(out, ms.rem_euclid(DAY_MS), nanos, p);
}

/// A double as Java prints it.
pub(crate) fn double_text(v: f64) -> String {
    let mut out = String::new();
    write_double(&mut out, v);
    out
}

fn write_double(out: &mut String, v: f64) {
    if !v.is_finite() {
        out.push_str(if v.is_nan() {
            "NaN"
        } else if v > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
        return;
    }
    let size = v.abs();
    if size > 0.0 && size < f64::from_bits(10) {
        // Of the least there are two digits in any case.
        return java_digits(out, &format!("{size:.1e}"), v.is_sign_negative(), size);
    }
    match whole_digits(size, 53) {
        Some(digits) => java_digits(out, itoa::Buffer::new().format(digits), v.is_sign_negative(), size),
        None => java_digits(out, ryu::Buffer::new().format_finite(size), v.is_sign_negative(), size),
    }
}

fn write_float(out: &mut String, v: f32) {
    if !v.is_finite() {
        return write_double(out, f64::from(v));
    }
    let size = f64::from(v.abs());
    match whole_digits(size, 24) {
        Some(digits) => java_digits(out, itoa::Buffer::new().format(digits), v.is_sign_negative(), size),
        None => java_digits(out, ryu::Buffer::new().format_finite(v.abs()), v.is_sign_negative(), size),
    }
}

/// Whole numbers that have more bits than the type keeps are not written with the fewest digits that tell them apart, but
/// rounded to so many as those bits stand for (as Java before 19 does; its later ones write the fewest). `None` for others.
fn whole_digits(size: f64, bits: i32) -> Option<u64> {
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    if exponent <= bits || exponent > 62 {
        return None;
    }
    // So many decimal digits as the bits behind the kept ones may hold.
    let unit = 10u64.pow((f64::from(exponent - bits - 1) * std::f64::consts::LOG10_2) as u32);
    Some((size as u64).saturating_add(unit / 2) / unit * unit)
}

/// Lays out the shortest digits as `Double.toString` does: plain within [0.001, 10^7), else `d.dE±n`.
fn java_digits(out: &mut String, shortest: &str, negative: bool, size: f64) {
    if negative {
        out.push('-');
    }
    if size == 0.0 {
        out.push_str("0.0");
        return;
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    // The significant digits, and how many of them stand before the point.
    let (mut digits, mut count, mut zeros, mut point) = ([b'0'; 32], 0, 0, None);
    for b in mantissa.bytes() {
        match b {
            b'.' => point = Some(zeros + count as i32),
            b'0' if count == 0 => zeros += 1,
            _ if count < digits.len() => {
                digits[count] = b;
                count += 1;
            }
            _ => {}
        }
    }
    let point = point.unwrap_or(zeros + count as i32) - zeros + exponent.parse::<i32>().unwrap_or(0);
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
    }
    let digits = std::str::from_utf8(&digits[..count.max(1)]).unwrap_or("0");
    let zeros = |out: &mut String, n: i32| out.extend(std::iter::repeat_n('0', n.max(0) as usize));
    if (1e-3..1e7).contains(&size) {
        if point <= 0 {
            out.push_str("0.");
            zeros(out, -point);
            out.push_str(digits);
        } else if digits.len() <= point as usize {
            out.push_str(digits);
            zeros(out, point - digits.len() as i32);
            out.push_str(".0");
        } else {
            let (a, b) = digits.split_at(point as usize);
            out.extend([a, ".", b]);
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    out.extend([first, ".", if rest.is_empty() { "0" } else { rest }, "E"]);
    out.push_str(itoa::Buffer::new().format(point - 1));
}
