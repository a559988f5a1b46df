//! `+ - * / %` over numbers, timestamps and intervals, with Flink's result types.

use crate::args::{Arg, Args, Kernel, int, try_int, view};
use crate::calendar::{DAY_MS, add_months};
use crate::cast::{implicit, pack};
use crate::decimal;
use crate::node;
use crate::typing::least_restrictive;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{Float32Type, Float64Type, TimestampMillisecondType};
use millstream_core::expr::Columnar;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use std::borrow::Cow;
use std::sync::Arc;

/// `l op r`; `None` if these types have no such operation.
pub(crate) fn binary(op: char, l: &ExprRef, r: &ExprRef, zone: &SessionZone) -> Result<Option<ExprRef>> {
    let (lt, rt) = (l.data_type().clone(), r.data_type().clone());
    let (l, r) = match (&lt.kind, &rt.kind) {
        (TypeKind::Null, TypeKind::Null) => return Ok(None),
        (TypeKind::Null, other) => (implicit(l, &other.clone().nullable(), zone)?, r.clone()),
        (other, TypeKind::Null) => (l.clone(), implicit(r, &other.clone().nullable(), zone)?),
        _ => (l.clone(), r.clone()),
    };
    let (lt, rt) = (l.data_type().clone(), r.data_type().clone());
    let nullable = lt.nullable || rt.nullable;
    if lt.kind.is_numeric() && rt.kind.is_numeric() {
        return numbers(op, l, r, nullable, zone).map(Some);
    }
    temporal(op, l, r, nullable)
}

fn numbers(op: char, l: ExprRef, r: ExprRef, nullable: bool, zone: &SessionZone) -> Result<ExprRef> {
    let (lt, rt) = (l.data_type().clone(), r.data_type().clone());
    let Some(common) = least_restrictive(&[lt.clone(), rt.clone()]) else {
        return Err(Error::internal("two numbers without a common type"));
    };
    if let (TypeKind::Decimal(..), _) | (_, TypeKind::Decimal(..)) = (&lt.kind, &rt.kind)
        && !common.kind.is_approximate()
    {
        let (left, right) = (decimal::shape(&lt), decimal::shape(&rt));
        let out = decimal::result_type(op, left, right).nullable().with_nullable(nullable);
        let kernel = decimals(op, left.1, right.1, decimal::shape(&out));
        let result = node::call(&op.to_string(), vec![l, r], out, kernel);
        // As in Calcite, the remainder of whole numbers has the divisor's type.
        let whole = op == '%' && left.1 == 0 && right.1 == 0;
        return if whole { implicit(&result, &rt.with_nullable(nullable), zone) } else { Ok(result) };
    }
    let l = implicit(&l, &common.clone().with_nullable(lt.nullable), zone)?;
    let r = implicit(&r, &common.clone().with_nullable(rt.nullable), zone)?;
    // As in Calcite, the remainder has the divisor's type.
    let kind = if op == '%' && rt.kind.is_integer() { rt.kind.clone() } else { common.kind.clone() };
    let kernel: Kernel = match op {
        '+' => Arc::new(|a| Ok(numeric::add_wrapping(&*a.columns[0].datum(), &*a.columns[1].datum())?)),
        '-' => Arc::new(|a| Ok(numeric::sub_wrapping(&*a.columns[0].datum(), &*a.columns[1].datum())?)),
        '*' => Arc::new(|a| Ok(numeric::mul_wrapping(&*a.columns[0].datum(), &*a.columns[1].datum())?)),
        _ if common.kind.is_integer() && divides_safely(&r) => Arc::new(move |a: &Args<'_>| {
            let (x, y) = (a.columns[0].datum(), a.columns[1].datum());
            let result = if op == '/' { numeric::div(&*x, &*y)? } else { numeric::rem(&*x, &*y)? };
            let out = a.out.arrow();
            Ok(if *result.data_type() == out { result } else { arrow::compute::cast(&result, &out)? })
        }),
        _ if common.kind.is_integer() => try_int(move |a, i| match (a.int(0, i), a.int(1, i)) {
            (Some(_), Some(0)) => Err(Error::data("division by zero").hint("NULLIF(divisor, 0) gives NULL instead")),
            (Some(x), Some(y)) => Ok(Some(if op == '/' { x.wrapping_div(y) } else { x.wrapping_rem(y) })),
            _ => Ok(None),
        }),
        '/' => Arc::new(|a| Ok(numeric::div(&*a.columns[0].datum(), &*a.columns[1].datum())?)),
        _ => Arc::new(|a| Ok(numeric::rem(&*a.columns[0].datum(), &*a.columns[1].datum())?)),
    };
    // Arrow's kernels give a one-element array for two scalars, as a pure call expects.
    Ok(node::call(&op.to_string(), vec![l, r], kind.nullable().with_nullable(nullable), kernel))
}

/// Whether it is a constant that no integer division fails for: neither 0 nor -1 (which the least integer overflows).
fn divides_safely(divisor: &ExprRef) -> bool {
    let value = divisor.as_literal().and_then(|v| crate::args::view(v).ok()?.int(0));
    value.is_some_and(|v| !matches!(v, 0 | -1))
}

/// `x * y`; of two numbers of 64 bits it is a single instruction.
fn product(x: i128, y: i128) -> Option<i128> {
    match (i64::try_from(x), i64::try_from(y)) {
        (Ok(x), Ok(y)) => Some(i128::from(x) * i128::from(y)),
        _ => x.checked_mul(y),
    }
}

/// The digits of a column of decimals or integers, one for a constant; anything where it is NULL.
fn digits(column: &Columnar) -> Result<Cow<'_, [i128]>> {
    Ok(match view(column.array())? {
        Arg::Dec(array) => Cow::Borrowed(array.values()),
        Arg::I64(array) => array.values().iter().map(|v| i128::from(*v)).collect(),
        other => (0..column.array().len()).map(|i| other.dec(i).unwrap_or(0)).collect(),
    })
}

fn decimals(op: char, s1: u8, s2: u8, (p, s): (u8, u8)) -> Kernel {
    let common = s1.max(s2);
    let (up1, up2) = (decimal::pow10(u32::from(common - s1)), decimal::pow10(u32::from(common - s2)));
    // The least magnitude that doesn't fit.
    let limit = decimal::pow10(u32::from(p)).unsigned_abs();
    Arc::new(move |a| {
        let (x, y) = (digits(&a.columns[0])?, digits(&a.columns[1])?);
        let nulls = NullBuffer::union(nulls(a, 0).as_ref(), nulls(a, 1).as_ref());
        if matches!(op, '/' | '%') {
            let is_valid = |i: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
            let at = |i: usize| y[a.row(1, i)];
            if (0..a.rows).any(|i| at(i) == 0 && is_valid(i)) {
                return Err(Error::data("division by zero").hint("NULLIF(divisor, 0) gives NULL instead"));
            }
        }
        // What rounds nowhere: sums at the larger scale, products at the sum of the scales.
        let values = match op {
            '+' if s == common => {
                each(a, &x, &y, limit, nulls, |x, y| x.checked_mul(up1)?.checked_add(y.checked_mul(up2)?))
            }
            '-' if s == common => {
                each(a, &x, &y, limit, nulls, |x, y| x.checked_mul(up1)?.checked_sub(y.checked_mul(up2)?))
            }
            '*' if s == s1 + s2 => each(a, &x, &y, limit, nulls, product),
            _ => each(a, &x, &y, limit, nulls, |x, y| decimal::apply(op, x, s1, y, s2, s)),
        };
        Ok(Arc::new(values.with_precision_and_scale(p, s as i8)?))
    })
}

/// Where argument `k` is NULL.
fn nulls(a: &Args<'_>, k: usize) -> Option<NullBuffer> {
    let nulls = a.columns[k].array().nulls().filter(|nulls| nulls.null_count() > 0)?;
    Some(if a.columns[k].is_scalar() { NullBuffer::new_null(a.rows) } else { nulls.clone() })
}

/// `f` of each row's digits; NULL where it gives none, where it reaches `limit`, and where `nulls` says so.
fn each(
    a: &Args<'_>,
    x: &[i128],
    y: &[i128],
    limit: u128,
    nulls: Option<NullBuffer>,
    f: impl Fn(i128, i128) -> Option<i128>,
) -> Decimal128Array {
    let mut values = Vec::with_capacity(a.rows);
    let fit = BooleanBuffer::collect_bool(a.rows, |i| {
        let value = f(x[a.row(0, i)], y[a.row(1, i)]).filter(|v| v.unsigned_abs() < limit);
        values.push(value.unwrap_or(0));
        value.is_some()
    });
    let fit = Some(NullBuffer::new(fit)).filter(|nulls| nulls.null_count() > 0);
    Decimal128Array::new(values.into(), NullBuffer::union(nulls.as_ref(), fit.as_ref()))
}

/// Times of milliseconds moved by a constant; `None` if there are other arguments, or one of them leaves 64 bits.
fn shift_all(a: &Args<'_>, sign: i64) -> Option<ArrayRef> {
    let [times, by] = a.columns else { return None };
    let times = times.array().as_primitive_opt::<TimestampMillisecondType>().filter(|_| !times.is_scalar())?;
    let by = a.int(1, 0).filter(|_| by.is_scalar())?.wrapping_mul(sign);
    if times.values().iter().fold(false, |over, time| over | time.overflowing_add(by).1) {
        return None;
    }
    let moved = times.unary::<_, TimestampMillisecondType>(|time| time.wrapping_add(by));
    Some(Arc::new(moved.with_data_type(times.data_type().clone())))
}

fn temporal(op: char, l: ExprRef, r: ExprRef, nullable: bool) -> Result<Option<ExprRef>> {
    use TypeKind::*;
    let make = |kind: TypeKind, args: Vec<ExprRef>, kernel: Kernel| {
        Ok(Some(node::call(&op.to_string(), args, kind.nullable().with_nullable(nullable), kernel)))
    };
    let sign: i64 = if op == '-' { -1 } else { 1 };
    let (lk, rk) = (l.data_type().kind.clone(), r.data_type().kind.clone());
    match (op, &lk, &rk) {
        ('+', i, t) if i.is_interval() && t.is_temporal() => temporal(op, r, l, nullable),
        ('+' | '-', t, i) if t.is_temporal() && i.is_interval() => {
            let months = matches!(i, IntervalYearMonth);
            let kind = lk.clone();
            let one = int(move |a, row| shift(&kind, a.instant(0, row)?, a.int(1, row)?, sign, months));
            let kernel: Kernel = Arc::new(move |a| match if months { None } else { shift_all(a, sign) } {
                Some(moved) => Ok(moved),
                None => one(a),
            });
            make(lk.clone(), vec![l, r], kernel)
        }
        ('-', a, b) if a.is_temporal() && b.is_temporal() => {
            make(IntervalDayTime, vec![l, r], int(|a, i| Some(a.instant(0, i)?.0 - a.instant(1, i)?.0)))
        }
        ('+' | '-', a, b) if a.is_interval() && a == b => {
            make(lk.clone(), vec![l, r], int(move |a, i| Some(a.int(0, i)?.wrapping_add(sign * a.int(1, i)?))))
        }
        ('*', n, i) if n.is_numeric() && i.is_interval() => temporal(op, r, l, nullable),
        ('*', i, n) if i.is_interval() && n.is_integer() => {
            make(lk.clone(), vec![l, r], int(|a, i| Some(a.int(0, i)?.wrapping_mul(a.int(1, i)?))))
        }
        ('*' | '/', i, n) if i.is_interval() && n.is_numeric() => {
            let scale = decimal::shape(r.data_type()).1;
            let exact = matches!(n, Decimal(..));
            let kernel = try_int(move |a, i| {
                let (Some(x), Some(y)) =
                    (a.int(0, i), if exact { a.dec(1, i).map(|v| decimal::to_f64(v, scale)) } else { a.f64(1, i) })
                else {
                    return Ok(None);
                };
                if op == '/' && y == 0.0 {
                    return Err(Error::data("division by zero"));
                }
                Ok(Some(if op == '*' { x as f64 * y } else { x as f64 / y } as i64))
            });
            make(lk.clone(), vec![l, r], kernel)
        }
        _ => Ok(None),
    }
}

/// A temporal value moved by an interval, in the unit of its carrier.
pub(crate) fn shift(kind: &TypeKind, (ms, nanos): (i64, i64), by: i64, sign: i64, months: bool) -> Option<i64> {
    let by = by.wrapping_mul(sign);
    let moved = if months {
        add_months(ms.div_euclid(DAY_MS), by) * DAY_MS + ms.rem_euclid(DAY_MS)
    } else {
        ms.checked_add(by)?
    };
    match kind {
        TypeKind::Date => Some(moved.div_euclid(DAY_MS)),
        TypeKind::Time(_) => Some(moved.rem_euclid(DAY_MS)),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => pack(moved, nanos, (*p).max(3)),
        _ => None,
    }
}

/// `-x`.
pub(crate) fn negate(x: &ExprRef) -> Option<ExprRef> {
    let t: DataType = x.data_type().clone();
    let kernel: Kernel = match t.kind {
        TypeKind::Decimal(..) => crate::args::decimal(|a, i| a.dec(0, i).map(|v| -v)),
        TypeKind::Float => Arc::new(|a| {
            let v = a.array(0)?;
            Ok(Arc::new(v.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| -v)) as ArrayRef)
        }),
        TypeKind::Double => Arc::new(|a| {
            let v = a.array(0)?;
            Ok(Arc::new(v.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| -v)) as ArrayRef)
        }),
        _ if t.kind.is_integer() || t.kind.is_interval() => int(|a, i| a.int(0, i).map(i64::wrapping_neg)),
        _ => return None,
    };
    Some(node::call("NEG", vec![x.clone()], t, kernel))
}
