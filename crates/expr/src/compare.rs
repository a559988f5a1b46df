//! Comparisons, `IS [NOT] DISTINCT FROM` and `IN`.

use crate::args::{Arg, Args, Kernel, boolean, view};
use crate::cast::implicit;
use crate::logic;
use crate::node;
use crate::typing::comparison_type;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{Float32Type, Float64Type};
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result, TypeKind};
use std::collections::HashSet;
use std::sync::Arc;

/// Texts of an IN that are compared one by one.
const FEW_TEXTS: usize = 8;

/// `l op r`; `None` if the types can't be compared.
pub(crate) fn compare(op: &'static str, l: &ExprRef, r: &ExprRef, zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some(common) = comparison_type(l.data_type(), r.data_type()) else { return Ok(None) };
    let distinct = op.starts_with("IS ");
    let l = implicit(l, &common, zone)?;
    let r = implicit(r, &common, zone)?;
    let nullable = !distinct && common.nullable;
    let out = TypeKind::Boolean.nullable().with_nullable(nullable);
    let kernel: Kernel = match &common.kind {
        TypeKind::Row(fields) if !distinct => {
            let Some(equal) = rows_equal(&l, &r, fields.len(), zone)? else { return Ok(None) };
            return match op {
                "=" => Ok(Some(equal)),
                "<>" => Ok(Some(logic::not(equal))),
                _ => Ok(None),
            };
        }
        TypeKind::Float => Arc::new(move |a: &Args<'_>| floats::<Float32Type>(op, a)),
        TypeKind::Double => Arc::new(move |a: &Args<'_>| floats::<Float64Type>(op, a)),
        k if k.is_numeric()
            || k.is_temporal()
            || k.is_character()
            || k.is_binary()
            || k.is_interval()
            || matches!(k, TypeKind::Boolean) =>
        {
            Arc::new(move |a: &Args<'_>| flat(op, a))
        }
        TypeKind::Null => Arc::new(move |a: &Args<'_>| {
            let value = if distinct { Some(op == "IS NOT DISTINCT FROM") } else { None };
            Ok(Arc::new((0..a.rows).map(|_| value).collect::<BooleanArray>()))
        }),
        _ => {
            let negated = matches!(op, "<>" | "IS DISTINCT FROM");
            if !distinct && !matches!(op, "=" | "<>") {
                return Ok(None);
            }
            boolean(move |a, i| match (a.is_null(0, i), a.is_null(1, i)) {
                (false, false) => Some(same(a, i) != negated),
                (x, y) => distinct.then_some((x == y) != negated),
            })
        }
    };
    Ok(Some(node::call(op, vec![l, r], out, kernel)))
}

/// Whether the nested values of both arguments are equal; NULLs inside are equal to each other.
fn same(a: &Args<'_>, i: usize) -> bool {
    let left = a.columns[0].array().slice(a.row(0, i), 1);
    let right = a.columns[1].array().slice(a.row(1, i), 1);
    left.to_data() == right.to_data()
}

fn flat(op: &str, a: &Args<'_>) -> Result<ArrayRef> {
    let (l, r) = (a.columns[0].datum(), a.columns[1].datum());
    let result = match op {
        "=" => cmp::eq(&*l, &*r)?,
        "<>" => cmp::neq(&*l, &*r)?,
        "<" => cmp::lt(&*l, &*r)?,
        "<=" => cmp::lt_eq(&*l, &*r)?,
        ">" => cmp::gt(&*l, &*r)?,
        ">=" => cmp::gt_eq(&*l, &*r)?,
        "IS DISTINCT FROM" => cmp::distinct(&*l, &*r)?,
        _ => cmp::not_distinct(&*l, &*r)?,
    };
    Ok(Arc::new(result))
}

/// Compares as Java's primitives do: NaN equals nothing, 0.0 equals -0.0.
fn floats<T: ArrowPrimitiveType<Native: PartialOrd>>(op: &str, a: &Args<'_>) -> Result<ArrayRef> {
    let (l, r) = (a.columns[0].array().as_primitive::<T>(), a.columns[1].array().as_primitive::<T>());
    let (x, y) = (l.values(), r.values());
    // A scalar is read at its only place.
    let (one_l, one_r) = (a.columns[0].is_scalar(), a.columns[1].is_scalar());
    let compare = |holds: fn(T::Native, T::Native) -> bool| {
        BooleanBuffer::collect_bool(a.rows, |i| holds(x[if one_l { 0 } else { i }], y[if one_r { 0 } else { i }]))
    };
    let distinct = |wanted: bool| {
        let values = (0..a.rows).map(|i| {
            let (i, j) = (a.row(0, i), a.row(1, i));
            let differ = match (l.is_null(i), r.is_null(j)) {
                (false, false) => x[i] != y[j],
                (i, j) => i != j,
            };
            differ == wanted
        });
        Ok(Arc::new(BooleanArray::from(values.collect::<Vec<_>>())) as ArrayRef)
    };
    let values = match op {
        "=" => compare(|x, y| x == y),
        "<>" => compare(|x, y| x != y),
        "<" => compare(|x, y| x < y),
        "<=" => compare(|x, y| x <= y),
        ">" => compare(|x, y| x > y),
        ">=" => compare(|x, y| x >= y),
        "IS DISTINCT FROM" => return distinct(true),
        _ => return distinct(false),
    };
    let nulls = |array: &PrimitiveArray<T>, one: bool| match (array.nulls(), one) {
        (Some(nulls), true) if nulls.null_count() > 0 => Some(NullBuffer::new_null(a.rows)),
        (nulls, false) => nulls.cloned(),
        _ => None,
    };
    let nulls = NullBuffer::union(nulls(l, one_l).as_ref(), nulls(r, one_r).as_ref());
    Ok(Arc::new(BooleanArray::new(values, nulls)))
}

fn rows_equal(l: &ExprRef, r: &ExprRef, fields: usize, zone: &SessionZone) -> Result<Option<ExprRef>> {
    let mut all: Option<ExprRef> = None;
    for i in 0..fields {
        let (Some(x), Some(y)) = (logic::field_at(l, i), logic::field_at(r, i)) else { return Ok(None) };
        let Some(equal) = compare("=", &x, &y, zone)? else { return Ok(None) };
        all = Some(match all {
            None => equal,
            Some(so_far) => logic::and_or(true, so_far, equal),
        });
    }
    Ok(all)
}

/// `x IN (list...)`.
pub(crate) fn is_in(args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some((x, list)) = args.split_first() else { return Ok(None) };
    if list.len() > 3 && list.iter().all(|e| e.as_literal().is_some()) {
        let types: Vec<_> = args.iter().map(|e| e.data_type().clone()).collect();
        if let Some(common) = crate::typing::common_type(&types)
            && (common.kind.is_character() || common.kind.is_integer())
        {
            return in_set(x, list, &common, zone).map(Some);
        }
    }
    let mut any: Option<ExprRef> = None;
    for item in list {
        let Some(equal) = compare("=", x, item, zone)? else { return Ok(None) };
        any = Some(match any {
            None => equal,
            Some(so_far) => logic::and_or(false, so_far, equal),
        });
    }
    Ok(any)
}

fn in_set(x: &ExprRef, list: &[ExprRef], common: &millstream_core::DataType, zone: &SessionZone) -> Result<ExprRef> {
    let x = implicit(x, &common.clone().with_nullable(x.data_type().nullable), zone)?;
    let mut texts = HashSet::new();
    let mut ints = HashSet::new();
    let mut has_null = false;
    let is_text = common.kind.is_character();
    for item in list {
        let item = implicit(item, common, zone)?;
        let Some(value) = item.as_literal() else { continue };
        match view(value)? {
            arg if value.is_null(0) || matches!(arg, Arg::Null) => has_null = true,
            arg if is_text => drop(arg.str(0).map(|s| texts.insert(s.to_string()))),
            arg => drop(arg.int(0).map(|v| ints.insert(v))),
        }
    }
    let out = TypeKind::Boolean.nullable().with_nullable(x.data_type().nullable || has_null);
    // To compare with a few texts, which mostly differ in length, is cheaper than to hash.
    let few: Option<Vec<String>> = (texts.len() <= FEW_TEXTS).then(|| texts.iter().cloned().collect());
    let has = move |text: &str| match &few {
        Some(few) => few.iter().any(|t| t == text),
        None => texts.contains(text),
    };
    let kernel = boolean(move |a, i| {
        let found = if is_text { has(a.str(0, i)?) } else { ints.contains(&a.int(0, i)?) };
        if found || !has_null { Some(found) } else { None }
    });
    Ok(node::call("IN", vec![x], out, kernel))
}
