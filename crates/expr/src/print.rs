//! Values as text, as `CAST(x AS STRING)` gives it in Flink.

use crate::args::{Arg, view};
use crate::calendar::{DAY_MS, civil};
use arrow::array::{Array, ArrayRef};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, TypeKind};
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
        TypeKind::Decimal(_, s) => out.push_str(&crate::decimal::format(arg.dec(row)?, *s)),
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
    }
    Some(())
}

fn separate(out: &mut String, i: usize) {
    if i > 0 {
        out.push_str(", ");
    }
}

/// `yyyy-MM-dd`.
pub(crate) fn write_date(out: &mut String, day: i64) {
    let (y, m, d) = civil(day);
    let _ = write!(out, "{y:04}-{m:02}-{d:02}");
}

/// `HH:mm:ss` and `p` digits of the fraction.
pub(crate) fn write_time(out: &mut String, ms: i64, nanos: i64, p: u8) {
    let s = ms / 1000;
    let _ = write!(out, "{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if p > 0 {
        let digits = format!("{:09}", ms % 1000 * 1_000_000 + nanos);
        out.push('.');
        out.push_str(digits.get(..usize::from(p.min(9))).unwrap_or(&digits));
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
    java_digits(out, ryu::Buffer::new().format_finite(v.abs()), v.is_sign_negative(), v.abs());
}

fn write_float(out: &mut String, v: f32) {
    if !v.is_finite() {
        return write_double(out, f64::from(v));
    }
    java_digits(out, ryu::Buffer::new().format_finite(v.abs()), v.is_sign_negative(), f64::from(v.abs()));
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
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent.parse::<i32>().unwrap_or(0);
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let point = point - leading as i32;
    let digits = digits.trim_start_matches('0').trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    if (1e-3..1e7).contains(&size) {
        if point <= 0 {
            let _ = write!(out, "0.{}{digits}", "0".repeat(-point as usize));
        } else if digits.len() <= point as usize {
            let _ = write!(out, "{digits}{}.0", "0".repeat(point as usize - digits.len()));
        } else {
            let (a, b) = digits.split_at(point as usize);
            let _ = write!(out, "{a}.{b}");
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    let _ = write!(out, "{first}.{}E{}", if rest.is_empty() { "0" } else { rest }, point - 1);
}
