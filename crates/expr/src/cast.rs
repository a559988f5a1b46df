//! `CAST` and `TRY_CAST` between Flink's types.

use crate::args::{Arg, Kernel, downcast_err, int_array, view};
use crate::calendar::DAY_MS;
use crate::decimal::{fits, parse as parse_decimal, pow10, rescale, to_f64};
use crate::typing::length;
use crate::{node, parse, print, variant};
use arrow::array::*;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField};
use millstream_core::types::{MAX_LENGTH, SessionZone};
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind, types::unit_of};
use std::sync::Arc;

/// Whether values of `from` can be cast to `to` at all.
fn castable(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    match (from, to) {
        (Null, _) => true,
        (a, b) if a == b => true,
        (_, b) if b.is_character() => !matches!(from, Null),
        (a, b) if a.is_character() => b.is_numeric() || b.is_temporal() || b.is_binary() || matches!(b, Boolean),
        (a, b) if a.is_binary() => b.is_binary(),
        // Cut or padded to another length it would be no bitmap.
        (Bitmap, b) => *b == TypeKind::BYTES,
        (Variant, b) => b.is_numeric() || *b == Boolean,
        (a, b) if a.is_numeric() || *a == Boolean => {
            b.is_numeric() || *b == Boolean || (a.is_integer() && b.is_interval())
        }
        (a, b) if a.is_temporal() && b.is_temporal() => {
            !matches!((a, b), (Date, Time(_)) | (Time(_), Date)) || matches!((a, b), (Time(_), Time(_)))
        }
        (a, b) if a.is_interval() => b.is_integer() || a == b,
        (Array(a), Array(b)) | (Multiset(a), Multiset(b)) => castable(&a.kind, &b.kind),
        (Map(k, v), Map(l, w)) => castable(&k.kind, &l.kind) && castable(&v.kind, &w.kind),
        (Row(a), Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(f, g)| castable(&f.data_type.kind, &g.data_type.kind))
        }
        _ => false,
    }
}

/// `CAST(expr AS to)`, or `TRY_CAST`, which gives NULL for what CAST fails on.
pub fn cast(expr: ExprRef, to: DataType, try_: bool, zone: &SessionZone) -> Result<ExprRef> {
    let from = expr.data_type().clone();
    if !castable(&from.kind, &to.kind) {
        return Err(Error::script(format!("a value of type {} can't be cast to {}", from.kind, to.kind)));
    }
    let to = to.with_nullable(from.nullable || try_ || from.kind == TypeKind::Null);
    if from == to {
        return Ok(expr);
    }
    let zone = *zone;
    let (kernel_from, kernel_to) = (from.clone(), to.clone());
    let kernel: Kernel = Arc::new(move |a| cast_array(a.columns[0].array(), &kernel_from, &kernel_to, try_, &zone));
    let name = if try_ { "TRY_CAST" } else { "CAST" };
    let call = node::call(name, vec![expr.clone()], to.clone(), kernel);
    if let Some(value) = expr.as_literal() {
        // A constant that can't be cast is left to fail when a row needs it.
        if let Ok(value) = cast_array(value, &from, &to, try_, &zone) {
            return Ok(Arc::new(node::Literal { value, data_type: to }));
        }
    }
    Ok(call)
}

/// Casts without a check of legality: for the binder's own implicit casts.
pub(crate) fn implicit(expr: &ExprRef, to: &DataType, zone: &SessionZone) -> Result<ExprRef> {
    let from = expr.data_type();
    if from.kind == to.kind || (from.kind.is_character() && matches!(to.kind, TypeKind::VarChar(_))) {
        return Ok(expr.clone());
    }
    cast(expr.clone(), to.clone().with_nullable(from.nullable), false, zone)
}

fn failed(from: &DataType, to: &DataType, array: &ArrayRef, row: usize, zone: &SessionZone) -> Error {
    let text = print::format_value(array, row, from, zone);
    Error::data(format!("'{text}' can't be cast to {}", to.kind)).hint("TRY_CAST gives NULL instead")
}

/// Casts a whole column.
pub(crate) fn cast_array(
    array: &ArrayRef,
    from: &DataType,
    to: &DataType,
    try_: bool,
    zone: &SessionZone,
) -> Result<ArrayRef> {
    use TypeKind::*;
    let rows = array.len();
    let target = to.arrow();
    if from.kind == Null {
        return Ok(new_null_array(&target, rows));
    }
    if from.kind == to.kind {
        return Ok(array.clone());
    }
    let arg = view(array)?;
    // One value a row by `f`; a failure is an error, or NULL under TRY_CAST.
    macro_rules! each {
        ($collect:ty, $read:expr, $f:expr) => {{
            let mut values = Vec::with_capacity(rows);
            for i in 0..rows {
                values.push(match $read(i) {
                    None => None,
                    Some(v) => match $f(v) {
                        None if !try_ => return Err(failed(from, to, array, i, zone)),
                        v => v,
                    },
                });
            }
            values.into_iter().collect::<$collect>()
        }};
    }
    match (&from.kind, &to.kind) {
        (a, b) if a.is_integer() && *b == TypeKind::STRING => Ok(arrow::compute::cast(array, &target)?),
        (_, b) if b.is_character() => to_text(&arg, rows, from, to, zone),
        (Bitmap, _) => Ok(array.clone()),
        (Variant, _) => variant::cast(array, from, to, try_, zone),
        (a, Boolean) if a.is_character() => Ok(Arc::new(each!(BooleanArray, |i| arg.str(i), parse::boolean))),
        (Decimal(_, s), Boolean) => {
            let _ = s;
            Ok(Arc::new((0..rows).map(|i| arg.dec(i).map(|v| v != 0)).collect::<BooleanArray>()))
        }
        (_, Boolean) => Ok(Arc::new((0..rows).map(|i| arg.f64(i).map(|v| v != 0.0)).collect::<BooleanArray>())),
        (a, b) if a.is_character() && b.is_integer() => {
            let (low, high) = match b {
                TinyInt => (i64::from(i8::MIN), i64::from(i8::MAX)),
                SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
                Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
                _ => (i64::MIN, i64::MAX),
            };
            let read = |s: &str| parse::integer(s).filter(|v| (low..=high).contains(v));
            int_array(each!(Int64Array, |i| arg.str(i), read), &target)
        }
        (a, Double) if a.is_character() => Ok(Arc::new(each!(Float64Array, |i| arg.str(i), parse::double))),
        (a, Float) if a.is_character() => {
            let read = |s: &str| parse::double(s).map(|v| s.trim().parse::<f32>().unwrap_or(v as f32));
            Ok(Arc::new(each!(Float32Array, |i| arg.str(i), read)))
        }
        (a, Decimal(p, s)) if a.is_character() => {
            let read = |t: &str| parse_decimal(t.trim_matches(' '), *s).filter(|v| fits(*v, *p));
            let values = each!(Decimal128Array, |i| arg.str(i), read);
            Ok(Arc::new(values.with_precision_and_scale(*p, *s as i8)?))
        }
        (a, Date) if a.is_character() => int_array(each!(Int64Array, |i| arg.str(i), parse::date), &target),
        (a, Time(_)) if a.is_character() => int_array(each!(Int64Array, |i| arg.str(i), parse::time), &target),
        (a, Timestamp(p)) if a.is_character() => {
            let read = |t: &str| parse::timestamp(t).and_then(|(ms, n)| pack(ms, n, *p));
            int_array(each!(Int64Array, |i| arg.str(i), read), &target)
        }
        (a, TimestampLtz(p)) if a.is_character() => {
            let read = |t: &str| {
                let (t, utc) = t.strip_suffix('Z').map_or((t, false), |t| (t, true));
                let (ms, n) = parse::timestamp(t)?;
                pack(if utc { ms } else { zone.to_utc_ms(ms) }, n, *p)
            };
            int_array(each!(Int64Array, |i| arg.str(i), read), &target)
        }
        (a, b) if (a.is_character() || a.is_binary()) && b.is_binary() => {
            let n = length(b) as usize;
            let fixed = matches!(b, Binary(_));
            let cut = |i| {
                arg.bytes(i).map(|v| {
                    let mut v = v[..v.len().min(n)].to_vec();
                    if fixed {
                        v.resize(n, 0);
                    }
                    v
                })
            };
            Ok(Arc::new((0..rows).map(cut).collect::<BinaryArray>()))
        }
        (Boolean, b) if b.is_numeric() => {
            let values: Int64Array = (0..rows).map(|i| arg.bool(i).map(i64::from)).collect();
            cast_array(&(Arc::new(values) as ArrayRef), &BigInt.nullable(), to, try_, zone)
        }
        (Decimal(_, s), b) if b.is_integer() => {
            let unit = pow10(u32::from(*s));
            int_array((0..rows).map(|i| arg.dec(i).map(|v| (v / unit) as i64)).collect(), &target)
        }
        (Decimal(_, s), Double) => {
            Ok(Arc::new((0..rows).map(|i| arg.dec(i).map(|v| to_f64(v, *s))).collect::<Float64Array>()))
        }
        (Decimal(_, s), Float) => {
            Ok(Arc::new((0..rows).map(|i| arg.dec(i).map(|v| to_f64(v, *s) as f32)).collect::<Float32Array>()))
        }
        (Decimal(q, r), Decimal(p, s)) if r == s && q <= p => {
            let values = array.as_primitive::<arrow::datatypes::Decimal128Type>().clone();
            Ok(Arc::new(values.with_precision_and_scale(*p, *s as i8)?))
        }
        (a, Decimal(p, s)) => {
            let convert = |i: usize| -> Option<i128> {
                let v = match a {
                    Decimal(_, from) => rescale(arg.dec(i)?, *from, *s),
                    // As `BigDecimal.valueOf` of a double, also for a FLOAT.
                    Float | Double => parse_decimal(&print::double_text(arg.f64(i)?), *s),
                    _ => rescale(arg.dec(i)?, 0, *s),
                };
                v.filter(|v| fits(*v, *p))
            };
            let values = (0..rows).map(convert).collect::<Decimal128Array>();
            Ok(Arc::new(values.with_precision_and_scale(*p, *s as i8)?))
        }
        (a, b) if a.is_approximate() && b.is_integer() => {
            let narrow = !matches!(b, BigInt);
            let convert = |v: f64| if narrow { i64::from(v as i32) } else { v as i64 };
            int_array((0..rows).map(|i| arg.f64(i).map(convert)).collect(), &target)
        }
        // To wider integers and to doubles, where nothing is lost or refused.
        (a, Double) if a.is_integer() || *a == Float => Ok(arrow::compute::cast(array, &target)?),
        (TinyInt, SmallInt | Int | BigInt) | (SmallInt, Int | BigInt) | (Int, BigInt) => {
            Ok(arrow::compute::cast(array, &target)?)
        }
        (_, Double) => Ok(Arc::new((0..rows).map(|i| arg.f64(i)).collect::<Float64Array>())),
        (a, Float) if a.is_integer() => {
            Ok(Arc::new((0..rows).map(|i| arg.int(i).map(|v| v as f32)).collect::<Float32Array>()))
        }
        (_, Float) => Ok(Arc::new((0..rows).map(|i| arg.f64(i).map(|v| v as f32)).collect::<Float32Array>())),
        (a, b) if (a.is_integer() || a.is_interval()) && (b.is_integer() || b.is_interval()) => {
            int_array((0..rows).map(|i| arg.int(i)).collect(), &target)
        }
        (a, b) if a.is_temporal() && b.is_temporal() => {
            int_array((0..rows).map(|i| temporal(&arg, i, a, b, zone)).collect(), &target)
        }
        (Array(a), Array(b)) => {
            let Arg::List(list) = arg else { return Err(downcast_err("an array")) };
            let items = cast_array(list.values(), a, b, try_, zone)?;
            let field = Arc::new(ArrowField::new("item", b.arrow(), true));
            Ok(Arc::new(ListArray::try_new(field, list.offsets().clone(), items, list.nulls().cloned())?))
        }
        (Map(..) | Multiset(_), Map(..) | Multiset(_)) => {
            let Arg::Map(map) = arg else { return Err(downcast_err("a map")) };
            let ((k, v), (l, w)) = (entry_types(&from.kind), entry_types(&to.kind));
            let keys = cast_array(map.keys(), &k, &l, try_, zone)?;
            let values = cast_array(map.values(), &v, &w, try_, zone)?;
            let ArrowType::Map(field, _) = &target else { return Err(downcast_err("a map")) };
            let ArrowType::Struct(fields) = field.data_type() else { return Err(downcast_err("a map")) };
            let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, false)?))
        }
        (Row(a), Row(b)) => {
            let Arg::Row(row) = arg else { return Err(downcast_err("a row")) };
            let columns = row.columns().iter().zip(a.iter().zip(b));
            let columns = columns
                .map(|(c, (f, g))| cast_array(c, &f.data_type, &g.data_type, try_, zone))
                .collect::<Result<Vec<_>>>()?;
            let ArrowType::Struct(fields) = &target else { return Err(downcast_err("a row")) };
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, row.nulls().cloned())?))
        }
        _ => Err(Error::internal(format!("no cast from {} to {}", from.kind, to.kind))),
    }
}

/// The types of a map's keys and values.
pub(crate) fn entry_types(kind: &TypeKind) -> (DataType, DataType) {
    match kind {
        TypeKind::Map(k, v) => ((**k).clone(), (**v).clone()),
        TypeKind::Multiset(k) => ((**k).clone(), TypeKind::Int.not_null()),
        _ => (TypeKind::Null.nullable(), TypeKind::Null.nullable()),
    }
}

/// A timestamp in the unit that carries precision `p`, cut to `p` digits.
pub(crate) fn pack(ms: i64, nanos: i64, p: u8) -> Option<i64> {
    use arrow::datatypes::TimeUnit;
    match unit_of(p) {
        TimeUnit::Millisecond => {
            let step = 10i64.pow(u32::from(3 - p.min(3)));
            Some(ms - ms.rem_euclid(step))
        }
        TimeUnit::Microsecond => {
            let step = 10i64.pow(u32::from(6 - p.min(6)));
            let v = ms.checked_mul(1000)?.checked_add(nanos / 1000)?;
            Some(v - v.rem_euclid(step))
        }
        _ => {
            let step = 10i64.pow(u32::from(9 - p.min(9)));
            let v = ms.checked_mul(1_000_000)?.checked_add(nanos)?;
            Some(v - v.rem_euclid(step))
        }
    }
}

fn temporal(arg: &Arg<'_>, i: usize, from: &TypeKind, to: &TypeKind, zone: &SessionZone) -> Option<i64> {
    let (ms, nanos) = arg.instant(i)?;
    let utc = matches!(from, TypeKind::TimestampLtz(_));
    match to {
        TypeKind::TimestampLtz(p) => pack(if utc { ms } else { zone.to_utc_ms(ms) }, nanos, *p),
        other => {
            let local = if utc { zone.to_local_ms(ms) } else { ms };
            match other {
                TypeKind::Timestamp(p) => pack(local, nanos, *p),
                // Before 1970 Flink takes a day that has begun for the next.
                TypeKind::Date if !utc => Some(local / DAY_MS),
                TypeKind::Date => Some(local.div_euclid(DAY_MS)),
                TypeKind::Time(p) => pack(local.rem_euclid(DAY_MS), 0, (*p).min(3)),
                _ => None,
            }
        }
    }
}

fn to_text(arg: &Arg<'_>, rows: usize, from: &DataType, to: &DataType, zone: &SessionZone) -> Result<ArrayRef> {
    let limit = length(&to.kind);
    let pad = matches!(to.kind, TypeKind::Char(_));
    let mut builder = StringBuilder::with_capacity(rows, rows * 16);
    let mut text = String::new();
    for i in 0..rows {
        text.clear();
        if print::write_arg(&mut text, arg, i, from, zone).is_none() {
            builder.append_null();
            continue;
        }
        if limit < MAX_LENGTH {
            if let Some((at, _)) = text.char_indices().nth(limit as usize) {
                text.truncate(at);
            } else if pad {
                let missing = limit as usize - text.chars().count();
                text.extend(std::iter::repeat_n(' ', missing));
            }
        }
        builder.append_value(&text);
    }
    Ok(Arc::new(builder.finish()))
}
