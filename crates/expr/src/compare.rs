//! Comparisons, `IS [NOT] DISTINCT FROM`, `IN` and `LIKE`.

use crate::args::{Arg, Args, Kernel, boolean, view};
use crate::cast::implicit;
use crate::logic;
use crate::node;
use crate::typing::comparison_type;
use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::kernels::cmp;
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result, TypeKind};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

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
        TypeKind::Float | TypeKind::Double => {
            let holds = ordering(op);
            boolean(move |a, i| match (a.f64(0, i), a.f64(1, i)) {
                (Some(x), Some(y)) if !distinct => Some(match op {
                    "=" => x == y,
                    "<>" => x != y,
                    "<" => x < y,
                    "<=" => x <= y,
                    ">" => x > y,
                    _ => x >= y,
                }),
                (x, y) if distinct => Some(holds(if x == y { Ordering::Equal } else { Ordering::Less })),
                _ => None,
            })
        }
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

fn ordering(op: &'static str) -> fn(Ordering) -> bool {
    if op == "IS DISTINCT FROM" { |o| o != Ordering::Equal } else { |o| o == Ordering::Equal }
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
    let kernel = boolean(move |a, i| {
        let found = if is_text { texts.contains(a.str(0, i)?) } else { ints.contains(&a.int(0, i)?) };
        if found || !has_null { Some(found) } else { None }
    });
    Ok(node::call("IN", vec![x], out, kernel))
}

enum Token {
    Char(char),
    One,
    Many,
}

fn tokens(pattern: &str, escape: Option<char>) -> Vec<Token> {
    let mut out = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            c if Some(c) == escape => match chars.next() {
                Some(next) => Token::Char(next),
                None => Token::Char(c),
            },
            '%' => Token::Many,
            '_' => Token::One,
            c => Token::Char(c),
        });
    }
    out
}

fn matches_like(text: &str, pattern: &[Token]) -> bool {
    let (mut rest, mut p) = (text, 0);
    let mut retry: Option<(&str, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if rest.is_empty() => return true,
            Some(Token::Many) => {
                retry = Some((rest, p + 1));
                p += 1;
                continue;
            }
            Some(Token::One) => !rest.is_empty(),
            Some(Token::Char(c)) => rest.starts_with(*c),
            None => false,
        };
        if step {
            let mut chars = rest.chars();
            chars.next();
            rest = chars.as_str();
            p += 1;
            continue;
        }
        let Some((from, at)) = retry else { return false };
        let mut chars = from.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
        p = at;
        retry = Some((rest, at));
    }
}

/// `LIKE`, whose third argument is the escape character; without it there is none.
pub(crate) fn like() -> Kernel {
    Arc::new(|a| {
        let mut compiled: Option<(&str, Option<&str>, Vec<Token>)> = None;
        let mut values = Vec::with_capacity(a.rows);
        for i in 0..a.rows {
            let escape = if a.len() > 2 { a.str(2, i) } else { None };
            let (Some(text), Some(pattern)) = (a.str(0, i), a.str(1, i)) else {
                values.push(None);
                continue;
            };
            if !matches!(&compiled, Some((p, e, _)) if *p == pattern && *e == escape) {
                compiled = Some((pattern, escape, tokens(pattern, escape.and_then(|e| e.chars().next()))));
            }
            values.push(compiled.as_ref().map(|(_, _, t)| matches_like(text, t)));
        }
        Ok(Arc::new(BooleanArray::from(values)))
    })
}
