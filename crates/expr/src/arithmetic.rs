//! `+ - * / %` over numbers, timestamps and intervals, with Flink's result types.

use crate::args::{Args, Kernel, int, try_int};
use crate::calendar::{DAY_MS, add_months};
use crate::cast::{implicit, pack};
use crate::decimal;
use crate::node;
use crate::typing::common_type;
use arrow::array::{ArrayRef, AsArray, Decimal128Builder};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{Float32Type, Float64Type};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
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
    let Some(common) = common_type(&[lt.clone(), rt.clone()]) else {
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

/// What rounds nowhere: sums at the larger scale, products at the sum of the scales. Else [`decimal::apply`].
fn exact(op: char, s1: u8, s2: u8, s: u8) -> Option<Box<dyn Fn(i128, i128) -> Option<i128> + Send + Sync>> {
    let common = s1.max(s2);
    let (up1, up2) = (decimal::pow10(u32::from(common - s1)), decimal::pow10(u32::from(common - s2)));
    match op {
        '+' if s == common => Some(Box::new(move |x, y| x.checked_mul(up1)?.checked_add(y.checked_mul(up2)?))),
        '-' if s == common => Some(Box::new(move |x, y| x.checked_mul(up1)?.checked_sub(y.checked_mul(up2)?))),
        '*' if s == s1 + s2 => Some(Box::new(i128::checked_mul)),
        _ => None,
    }
}

fn decimals(op: char, s1: u8, s2: u8, (p, s): (u8, u8)) -> Kernel {
    let exact = exact(op, s1, s2, s);
    // The least magnitude that doesn't fit.
    let limit = decimal::pow10(u32::from(p)).unsigned_abs();
    Arc::new(move |a| {
        let mut values = Decimal128Builder::with_capacity(a.rows);
        for i in 0..a.rows {
            values.append_option(match (a.dec(0, i), a.dec(1, i)) {
                (Some(_), Some(0)) if matches!(op, '/' | '%') => {
                    return Err(Error::data("division by zero").hint("NULLIF(divisor, 0) gives NULL instead"));
                }
                (Some(x), Some(y)) => {
                    let value = match &exact {
                        Some(exact) => exact(x, y),
                        None => decimal::apply(op, x, s1, y, s2, s),
                    };
                    value.filter(|v| v.unsigned_abs() < limit)
                }
                _ => None,
            });
        }
        Ok(Arc::new(values.finish().with_precision_and_scale(p, s as i8)?))
    })
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
            make(
                lk.clone(),
                vec![l, r],
                int(move |a, row| shift(&kind, a.instant(0, row)?, a.int(1, row)?, sign, months)),
            )
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
