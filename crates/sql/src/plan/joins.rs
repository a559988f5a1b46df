//! What a join's condition says: equal keys, windows, intervals of event time, and the rest.

use crate::bind::build::{and, column, columns_of, replace_columns, same};
use crate::rel::{Column, Rel, RelOp, RelRef, Role, WindowInfo};
use arrow::array::{Array, AsArray};
use arrow::datatypes::DurationMillisecondType;
use millstream_core::graph::{JoinKey, JoinKind, JoinTime};
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result, TypeKind};
use millstream_expr::build;
use std::collections::BTreeSet;

/// The parts of an AND.
pub fn conjuncts(expr: &ExprRef) -> Vec<ExprRef> {
    match expr.as_call() {
        Some("AND") => expr.children().into_iter().flat_map(conjuncts).collect(),
        _ => vec![expr.clone()],
    }
}

/// The parts of an AND, and of an OR whose sides have some of them in common: `a AND b OR a AND c` is `a AND (b OR c)`.
pub fn factors(expr: &ExprRef, zone: &SessionZone) -> Result<Vec<ExprRef>> {
    let mut factors = vec![];
    for part in conjuncts(expr) {
        let mut sides: Vec<Vec<ExprRef>> = disjuncts(&part).iter().map(conjuncts).collect();
        let is_common = |part: &ExprRef| sides.iter().all(|side| side.iter().any(|other| same(part, other)));
        let common: Vec<ExprRef> = sides[0].iter().filter(|p| p.is_deterministic() && is_common(p)).cloned().collect();
        if sides.len() == 1 || common.is_empty() {
            factors.push(part);
            continue;
        }
        for side in &mut sides {
            side.retain(|part| !common.iter().any(|other| same(part, other)));
        }
        factors.extend(common);
        // A side with nothing of its own is TRUE.
        if sides.iter().all(|side| !side.is_empty()) {
            let sides = sides.into_iter().map(|side| all_of(side, zone)).collect::<Result<Vec<_>>>()?;
            let either = sides.into_iter().flatten().map(Ok).reduce(|a, b| build::call("OR", vec![a?, b?], zone));
            factors.extend(either.transpose()?);
        }
    }
    Ok(factors)
}

fn disjuncts(expr: &ExprRef) -> Vec<ExprRef> {
    match expr.as_call() {
        Some("OR") => expr.children().into_iter().flat_map(disjuncts).collect(),
        _ => vec![expr.clone()],
    }
}

/// `a AND b AND ..`; `None` of none.
pub fn all_of(parts: impl IntoIterator<Item = ExprRef>, zone: &SessionZone) -> Result<Option<ExprRef>> {
    parts.into_iter().try_fold(None, |all, part| and(all, Some(part), zone))
}

/// Which inputs of a join an expression over both reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// None.
    Nothing,
    /// The first.
    Left,
    /// The second.
    Right,
    /// Both.
    Both,
}

/// Which inputs of a join an expression reads, if the first one's columns are the first `width`.
pub fn reads(expr: &ExprRef, width: usize) -> Reads {
    let mut used = BTreeSet::new();
    columns_of(expr, &mut used);
    match (used.iter().any(|c| *c < width), used.iter().any(|c| *c >= width)) {
        (false, false) => Reads::Nothing,
        (true, false) => Reads::Left,
        (false, true) => Reads::Right,
        (true, true) => Reads::Both,
    }
}

/// The expression over the second input alone.
pub fn of_right(expr: &ExprRef, left: &RelRef, right: &RelRef) -> ExprRef {
    let width = left.columns.len();
    replace_columns(expr, &|index| {
        let index = index.saturating_sub(width);
        column(index, &right.columns[index])
    })
}

/// What a condition says.
pub struct Analysis {
    /// The columns that must be equal.
    pub keys: Vec<JoinKey>,
    /// The rest of the condition.
    pub rest: Option<ExprRef>,
    /// When rows leave, if event time says so.
    pub time: Option<JoinTime>,
}

/// Reads a condition whose equal keys are plain columns.
pub fn analyze(
    left: &[Column],
    right: &[Column],
    kind: JoinKind,
    condition: Option<&ExprRef>,
    zone: &SessionZone,
) -> Result<Analysis> {
    let width = left.len();
    let (mut keys, mut rest) = (vec![], vec![]);
    let (mut lower, mut upper): (Option<Bound>, Option<Bound>) = (None, None);
    for part in condition.map(conjuncts).unwrap_or_default() {
        if let Some((low, high)) = interval(&part, left, right) {
            lower = tighter(lower, low, |new, old| new > old);
            upper = tighter(upper, high, |new, old| new < old);
        }
        match equality(&part, width) {
            Some((a, b, null_safe)) if a.as_column().is_some() && b.as_column().is_some() => {
                let index = |e: &ExprRef| e.as_column().unwrap_or_default();
                keys.push(JoinKey { left: index(&a), right: index(&b) - width, null_safe });
            }
            _ => rest.push(part),
        }
    }
    let windows = window_ends(&keys, left, right).filter(|(.., info)| info.event_time);
    let time = match (&windows, lower, upper, kind) {
        (Some((l, r, info)), ..) => Some(JoinTime { left: (*l, 0), right: (*r, 0), drops_late: true, zone: info.zone }),
        (None, .., JoinKind::Semi | JoinKind::Anti) => None,
        (None, Some(low), Some(high), _) if low.columns == high.columns => Some(JoinTime {
            left: (low.columns.0, 1 - low.ms),
            right: (low.columns.1, high.ms + 1),
            drops_late: false,
            zone: SessionZone::UTC,
        }),
        _ => None,
    };
    Ok(Analysis { keys, rest: all_of(rest, zone)?, time })
}

/// `a = b` or `a IS NOT DISTINCT FROM b` with `a` of the first input and `b` of the second, and which of the two it is.
pub fn equality(part: &ExprRef, width: usize) -> Option<(ExprRef, ExprRef, bool)> {
    let null_safe = match part.as_call()? {
        "=" => false,
        "IS NOT DISTINCT FROM" => true,
        _ => return None,
    };
    let children = part.children();
    let [a, b] = children.as_slice() else { return None };
    // Rows are compared field by field, and have no hash that agrees with that.
    if matches!(a.data_type().kind, TypeKind::Row(_) | TypeKind::Float | TypeKind::Double) {
        return None;
    }
    match (reads(a, width), reads(b, width)) {
        (Reads::Left, Reads::Right) => Some(((*a).clone(), (*b).clone(), null_safe)),
        (Reads::Right, Reads::Left) => Some(((*b).clone(), (*a).clone(), null_safe)),
        _ => None,
    }
}

/// A bound of the first row's time minus the second's.
#[derive(Clone, Copy)]
struct Bound {
    columns: (usize, usize),
    ms: i64,
}

fn tighter(old: Option<Bound>, new: Option<Bound>, is_tighter: fn(i64, i64) -> bool) -> Option<Bound> {
    match (old, new) {
        (Some(old), Some(new)) if !is_tighter(new.ms, old.ms) => Some(old),
        (old, new) => new.or(old),
    }
}

/// The bounds that a comparison of two time attributes sets.
fn interval(part: &ExprRef, left: &[Column], right: &[Column]) -> Option<(Option<Bound>, Option<Bound>)> {
    let name = part.as_call()?;
    let children = part.children();
    let [a, b] = children.as_slice() else { return None };
    let (a, b) = (time_term(a, left, right)?, time_term(b, left, right)?);
    let width = left.len();
    // a.column + a.ms OP b.column + b.ms
    let (columns, difference, name) = match (a.0 < width, b.0 < width) {
        (true, false) => ((a.0, b.0 - width), b.1 - a.1, name),
        (false, true) => {
            let turned = match name {
                "<" => ">",
                "<=" => ">=",
                ">" => "<",
                ">=" => "<=",
                other => other,
            };
            ((b.0, a.0 - width), a.1 - b.1, turned)
        }
        _ => return None,
    };
    let bound = |ms: i64| Some(Bound { columns, ms });
    match name {
        "<" => Some((None, bound(difference - 1))),
        "<=" => Some((None, bound(difference))),
        ">" => Some((bound(difference + 1), None)),
        ">=" => Some((bound(difference), None)),
        "=" => Some((bound(difference), bound(difference))),
        _ => None,
    }
}

/// A time attribute plus or minus a constant: the column, and milliseconds.
fn time_term(expr: &ExprRef, left: &[Column], right: &[Column]) -> Option<(usize, i64)> {
    if let Some(index) = expr.as_column() {
        let column = left.get(index).or_else(|| right.get(index.checked_sub(left.len())?))?;
        let is_event_time = column.is_time_attribute() && !column.is_proctime();
        return is_event_time.then_some((index, 0));
    }
    let sign = match expr.as_call()? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let children = expr.children();
    let [base, by] = children.as_slice() else { return None };
    let by = by.as_literal()?.as_primitive_opt::<DurationMillisecondType>()?;
    if by.is_empty() || by.is_null(0) {
        return None;
    }
    let (index, ms) = time_term(base, left, right)?;
    Some((index, ms + sign * by.value(0)))
}

/// The columns of the windows' ends, if the keys say that both rows are of the same window.
fn window_ends(keys: &[JoinKey], left: &[Column], right: &[Column]) -> Option<(usize, usize, WindowInfo)> {
    let role = |key: &JoinKey| Some((left.get(key.left)?.role, right.get(key.right)?.role));
    let starts = keys.iter().filter_map(role).find_map(|roles| match roles {
        (Role::WindowStart(a), Role::WindowStart(b)) if a == b => Some(a),
        _ => None,
    })?;
    keys.iter().find_map(|key| match role(key)? {
        (Role::WindowEnd(a), Role::WindowEnd(b)) if a == b && a == starts => Some((key.left, key.right, a)),
        _ => None,
    })
}

/// The columns of a join, given those of its inputs: what a time attribute means is kept only where event time says
/// when rows leave, and a side that may be missing is nullable.
pub fn columns(left: &[Column], right: &[Column], kind: JoinKind, keeps_time: bool) -> Vec<Column> {
    let of = |column: &Column, missing: bool| {
        let nullable = column.data_type.nullable || missing;
        let role = if keeps_time { column.role } else { Role::Plain };
        Column { data_type: column.data_type.clone().with_nullable(nullable), role, ..column.clone() }
    };
    let left_missing = matches!(kind, JoinKind::Right | JoinKind::Full);
    let right_missing = matches!(kind, JoinKind::Left | JoinKind::Full);
    let mut columns: Vec<Column> = left.iter().map(|c| of(c, left_missing)).collect();
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        columns.extend(right.iter().map(|c| of(c, right_missing)));
    }
    columns
}

/// Makes a join; parts of its condition that concern one side only go there if that doesn't change the result.
pub fn join(
    left: RelRef,
    right: RelRef,
    kind: JoinKind,
    condition: Option<ExprRef>,
    zone: &SessionZone,
) -> Result<RelRef> {
    let analysis = analyze(&left.columns, &right.columns, kind, condition.as_ref(), zone)?;
    let columns = columns(&left.columns, &right.columns, kind, analysis.time.is_some());
    let width = left.columns.len();
    let (mut to_left, mut to_right, mut rest) = (vec![], vec![], vec![]);
    for part in condition.as_ref().map(|on| factors(on, zone)).transpose()?.unwrap_or_default() {
        let left_free = matches!(kind, JoinKind::Inner | JoinKind::Right | JoinKind::Semi);
        let right_free = matches!(kind, JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti);
        match reads(&part, width) {
            Reads::Left if left_free && part.is_deterministic() => to_left.push(part),
            Reads::Right if right_free && part.is_deterministic() => to_right.push(of_right(&part, &left, &right)),
            _ => rest.push(part),
        }
    }
    let filtered = |rel: RelRef, parts: Vec<ExprRef>| -> Result<RelRef> {
        Ok(match all_of(parts, zone)? {
            Some(filter) => Rel::filter(rel, filter),
            None => rel,
        })
    };
    let (left, right) = (filtered(left, to_left)?, filtered(right, to_right)?);
    let condition = all_of(rest, zone)?;
    Ok(Rel::new(RelOp::Join { left, right, kind, condition, ttl_ms: [None; 2] }, columns))
}

/// A join under a filter: parts that may go into the join or below it do; what is left of the filter comes back.
pub fn push_filter(rel: &RelRef, filter: &ExprRef, zone: &SessionZone) -> Result<(RelRef, Option<ExprRef>)> {
    let RelOp::Join { left, right, kind, condition, ttl_ms } = &rel.op else {
        return Ok((rel.clone(), Some(filter.clone())));
    };
    let width = left.columns.len();
    let (mut to_left, mut to_right, mut inside, mut above) = (vec![], vec![], vec![], vec![]);
    for part in factors(filter, zone)? {
        let left_free = !matches!(kind, JoinKind::Right | JoinKind::Full);
        let right_free = matches!(kind, JoinKind::Inner | JoinKind::Right);
        match reads(&part, width) {
            Reads::Left if left_free => to_left.push(part),
            Reads::Right if right_free => to_right.push(of_right(&part, left, right)),
            _ if *kind == JoinKind::Inner => inside.push(part),
            _ => above.push(part),
        }
    }
    let above = all_of(above, zone)?;
    if to_left.is_empty() && to_right.is_empty() && inside.is_empty() {
        return Ok((rel.clone(), above));
    }
    let filtered = |rel: &RelRef, parts: Vec<ExprRef>| -> Result<RelRef> {
        Ok(match all_of(parts, zone)? {
            Some(filter) => Rel::filter(rel.clone(), filter),
            None => rel.clone(),
        })
    };
    let (left, right) = (filtered(left, to_left)?, filtered(right, to_right)?);
    let condition = and(condition.clone(), all_of(inside, zone)?, zone)?;
    let op = RelOp::Join { left, right, kind: *kind, condition, ttl_ms: *ttl_ms };
    Ok((Rel::new(op, rel.columns.clone()), above))
}

/// Where a key is among the columns of its input: where it was, or behind them.
enum Place {
    Old(usize),
    New(usize),
}

/// The plan in which joins compare plain columns only: what else they compare becomes columns of their inputs.
pub fn with_plain_keys(rel: &RelRef, zone: &SessionZone) -> Result<RelRef> {
    let rel = rel.map_inputs(|input| with_plain_keys(input, zone))?;
    let RelOp::Join { left, right, kind, condition: Some(condition), ttl_ms } = &rel.op else { return Ok(rel) };
    let width = left.columns.len();
    let (mut left_more, mut right_more): (Vec<ExprRef>, Vec<ExprRef>) = (vec![], vec![]);
    // A part with, if it compares what has to become a column, the operator and where both will be.
    let mut parts: Vec<(ExprRef, Option<(String, Place, Place)>)> = vec![];
    for part in conjuncts(condition) {
        let sides = equality(&part, width).filter(|_| part.is_deterministic());
        let Some((a, b, _)) = sides.filter(|(a, b, _)| a.as_column().is_none() || b.as_column().is_none()) else {
            parts.push((part, None));
            continue;
        };
        let place = |expr: ExprRef, more: &mut Vec<ExprRef>| match expr.as_column() {
            Some(index) => Place::Old(index),
            None => {
                more.push(expr);
                Place::New(more.len() - 1)
            }
        };
        let right_expr = of_right(&b, left, right);
        let (a, b) = (place(a, &mut left_more), place(right_expr, &mut right_more));
        let name = part.as_call().unwrap_or_default().to_string();
        parts.push((part, Some((name, a, b))));
    }
    if left_more.is_empty() && right_more.is_empty() {
        return Ok(rel);
    }
    let more = left_more.len();
    let extended = |input: &RelRef, exprs: Vec<ExprRef>| {
        if exprs.is_empty() {
            return input.clone();
        }
        let mut columns = input.columns.clone();
        let mut project: Vec<ExprRef> = columns.iter().enumerate().map(|(i, c)| column(i, c)).collect();
        for (number, expr) in exprs.into_iter().enumerate() {
            columns.push(Column::plain(format!("$key{number}"), expr.data_type().clone()));
            project.push(expr);
        }
        Rel::new(RelOp::Calc { input: input.clone(), filter: None, project }, columns)
    };
    let (new_left, new_right) = (extended(left, left_more), extended(right, right_more));
    let shifted = |index: usize| if index < width { index } else { index + more };
    let both: Vec<Column> = new_left.columns.iter().chain(&new_right.columns).cloned().collect();
    let mut new_parts = vec![];
    for (part, key) in parts {
        new_parts.push(match key {
            None => replace_columns(&part, &|index| column(shifted(index), &both[shifted(index)])),
            Some((name, a, b)) => {
                let a = match a {
                    Place::Old(index) => index,
                    Place::New(number) => width + number,
                };
                let b = match b {
                    Place::Old(index) => width + more + index,
                    Place::New(number) => width + more + right.columns.len() + number,
                };
                millstream_expr::build::call(&name, vec![column(a, &both[a]), column(b, &both[b])], zone)?
            }
        });
    }
    let missing = columns(&new_left.columns, &new_right.columns, *kind, true);
    let condition = all_of(new_parts, zone)?;
    let op = RelOp::Join { left: new_left, right: new_right, kind: *kind, condition, ttl_ms: *ttl_ms };
    let joined = Rel::new(op, missing);
    let project = (0..rel.columns.len()).map(|index| column(shifted(index), &joined.columns[shifted(index)])).collect();
    Ok(Rel::new(RelOp::Calc { input: joined, filter: None, project }, rel.columns.clone()))
}
