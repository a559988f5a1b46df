//! Finds Top-N: a ranking whose number a filter bounds becomes an operator that keeps no more rows than that needs.

use super::joins::{all_of, conjuncts};
use crate::bind::build;
use crate::bind::place::Placed;
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use millstream_core::graph::{OverCall, OverFunction, Rank, RankFunction, RankTiming, SortKey};
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Result, TypeKind};
use std::collections::{BTreeMap, BTreeSet};

/// What a filter says of a column: between these, both included.
#[derive(Clone, Copy)]
struct Bounds {
    column: usize,
    from: i64,
    to: i64,
}

/// The plan with its rankings found.
///
/// # Errors
///
/// A window whose order is none that OVER can take, as far as no filter makes it a ranking.
pub fn ranks(rel: &RelRef, zone: &SessionZone) -> Result<RelRef> {
    Ok(walk(rel, &[], zone)?.0)
}

/// The relation, and which of its columns are sure to be within the bounds now.
fn walk(rel: &RelRef, bounds: &[Bounds], zone: &SessionZone) -> Result<(RelRef, Vec<usize>)> {
    match &rel.op {
        RelOp::Calc { input, filter, project } => {
            let moved = |b: &Bounds| project[b.column].as_column().map(|column| Bounds { column, ..*b });
            let mut below: Vec<Bounds> = bounds.iter().filter_map(moved).collect();
            let parts = filter.as_ref().map(conjuncts).unwrap_or_default();
            below.extend(parts.iter().filter_map(|part| Some(bounds_of(part)?.0)));
            let (input, kept) = walk(input, &below, zone)?;
            let is_kept = |part: &ExprRef| bounds_of(part).is_some_and(|(b, exact)| exact && kept.contains(&b.column));
            let filter = all_of(parts.into_iter().filter(|part| !is_kept(part)), zone)?;
            let is_passed = |i: &usize| project[*i].as_column().is_some_and(|c| kept.contains(&c));
            let passed = (0..project.len()).filter(is_passed).collect();
            let project = project.clone();
            Ok((Rel::new(RelOp::Calc { input, filter, project }, rel.columns.clone()), passed))
        }
        RelOp::Over { input, calls, .. } => {
            let number = input.columns.len();
            let (input, _) = walk(input, &[], zone)?;
            if let [OverCall { function: OverFunction::Rank(function), .. }] = calls[..] {
                let of: Vec<&Bounds> = bounds.iter().filter(|b| b.column == number).collect();
                let from = of.iter().map(|b| b.from).max().unwrap_or(i64::MIN);
                let to = of.iter().map(|b| b.to).min().unwrap_or(i64::MAX);
                if to < i64::MAX {
                    return Ok((ranking(rel, &input, function, from, to)?, vec![number]));
                }
                check(rel, from > 1)?;
            } else {
                check(rel, false)?;
            }
            Ok((rel.map_inputs(|_| Ok(input.clone()))?, vec![]))
        }
        _ => {
            let rel = rel.map_inputs(|input| ranks(input, zone))?;
            Ok((with_all_versions(&rel, zone)?.unwrap_or(rel), vec![]))
        }
    }
}

/// A join with a versioned table without the deduplication by event time that makes it one: the join itself finds the
/// version that held, and the deduplication tells but the last of those that arrive together. What filters the table
/// becomes a condition of the join: while a version holds that does not pass, there is none.
fn with_all_versions(rel: &RelRef, zone: &SessionZone) -> Result<Option<RelRef>> {
    let mut op = rel.op.clone();
    let RelOp::TemporalJoin { left, right, outer, condition, .. } = &mut op else { return Ok(None) };
    let Some((versions, filter)) = all_versions(right, zone)? else { return Ok(None) };
    let (width, old) = (left.columns.len(), rel.columns.len());
    let moved = filter.map(|f| build::replace_columns(&f, &|i| build::column(width + i, &versions.columns[i])));
    *condition = build::and(condition.take(), moved, zone)?;
    let mut columns = rel.columns.clone();
    columns.extend(versions.columns[old - width..].iter().map(|column| {
        let nullable = column.data_type.nullable || *outer;
        Column { data_type: column.data_type.clone().with_nullable(nullable), ..column.clone() }
    }));
    *right = versions;
    let joined = Rel::new(op, columns);
    if joined.columns.len() == old {
        return Ok(Some(joined));
    }
    let project = (0..old).map(|i| build::column(i, &joined.columns[i])).collect();
    Ok(Some(Rel::new(RelOp::Calc { input: joined, filter: None, project }, rel.columns.clone())))
}

/// All versions of a table under such a deduplication, and which of them count; what that reads stands behind the
/// table's columns. `None` for other tables.
fn all_versions(rel: &RelRef, zone: &SessionZone) -> Result<Option<(RelRef, Option<ExprRef>)>> {
    match &rel.op {
        RelOp::Calc { input, filter, project } if filter.as_ref().is_none_or(|f| f.is_deterministic()) => {
            let Some((input, below)) = all_versions(input, zone)? else { return Ok(None) };
            let (mut project, mut columns) = (project.clone(), rel.columns.clone());
            let filter = build::and(below, filter.clone(), zone)?;
            let mut read = BTreeSet::new();
            filter.iter().for_each(|f| build::columns_of(f, &mut read));
            let mut places = BTreeMap::new();
            for index in read {
                let place = project.iter().position(|expr| expr.as_column() == Some(index));
                places.insert(index, place.unwrap_or(project.len()));
                if place.is_none() {
                    project.push(build::column(index, &input.columns[index]));
                    columns.push(input.columns[index].clone());
                }
            }
            let rel = Rel::new(RelOp::Calc { input, filter: None, project }, columns);
            let filter =
                filter.map(|f| build::replace_columns(&f, &|i| build::column(places[&i], &rel.columns[places[&i]])));
            Ok(Some((rel, filter)))
        }
        RelOp::Rank { input, rank } => {
            let is_last_by_time = rank.latest_first && rank.to == 1 && !rank.outputs_rank && rank.calls.is_empty();
            let by_time = matches!(rank.order[..], [key] if input.columns[key.column].role == Role::RowTime);
            Ok((is_last_by_time && by_time).then(|| (input.clone(), None)))
        }
        _ => Ok(None),
    }
}

/// The operator in the place of an [`RelOp::Over`].
fn ranking(rel: &RelRef, input: &RelRef, function: RankFunction, from: i64, to: i64) -> Result<RelRef> {
    let RelOp::Over { partition, order, roles, window, at, .. } = &rel.op else {
        return Err(Error::internal("a ranking is a function of OVER"));
    };
    if to < 1 {
        return Err(Error::script(format!("no row has a number up to {to}: the first row's is 1")).at_place(*at));
    }
    if from > to {
        let message = format!("no row has a number from {from} to {to}: the range is empty");
        return Err(Error::script(message).at_place(*at));
    }
    let mut rank = first_rows(order, roles, from.max(1) as u64, to as u64);
    rank.function = function;
    rank.partition.clone_from(partition);
    let is_constant = rank.from == rank.to;
    rank.outputs_rank = !is_constant;
    match (window, &order[..], &roles[..]) {
        _ if function != RankFunction::RowNumber => {}
        // Of rows of the same time the last one is kept, as by Flink's deduplication.
        (_, [key], [role]) if rank.to == 1 && role.is_event_time() && key.descending => rank.latest_first = true,
        (None, [key], [role]) if rank.to == 1 && role.is_event_time() => {
            rank.timing = RankTiming::RowTime { column: key.column };
        }
        _ => {}
    }
    if function != RankFunction::RowNumber && rank.timing == RankTiming::Arrival {
        rank.timing = RankTiming::Continuous;
    }
    if let Some((end, info)) = window {
        rank.timing = RankTiming::Window { end: *end, event_time: info.event_time, zone: info.zone };
    }
    let columns = rel.columns.clone();
    if !is_constant {
        return Ok(Rel::new(RelOp::Rank { input: input.clone(), rank }, columns));
    }
    let number = rank.to as i64;
    let below = Rel::new(RelOp::Rank { input: input.clone(), rank }, input.columns.clone());
    let mut project: Vec<ExprRef> = below.columns.iter().enumerate().map(|(i, c)| build::column(i, c)).collect();
    project.push(build::bigint(number));
    Ok(Rel::new(RelOp::Calc { input: below, filter: None, project }, columns))
}

/// The first rows of all in an order. Processing time is the order of arrival, which no other column refines.
pub fn first_rows(order: &[SortKey], roles: &[Role], from: u64, to: u64) -> Rank {
    let arrival = roles.iter().position(|role| role.is_proctime());
    let latest_first = arrival.is_some_and(|at| order[at].descending);
    let order = order[..arrival.unwrap_or(order.len())].to_vec();
    let is_arrival = order.is_empty() && !latest_first;
    Rank {
        function: RankFunction::RowNumber,
        partition: vec![],
        order,
        latest_first,
        from,
        to,
        outputs_rank: false,
        calls: vec![],
        timing: if is_arrival { RankTiming::Arrival } else { RankTiming::Continuous },
        ttl_ms: None,
    }
}

/// Whether the order is one that a stream comes in; `has_lower_bound`: a filter bounds a rank from below only.
fn check(rel: &RelRef, has_lower_bound: bool) -> Result<()> {
    let RelOp::Over { order, calls, roles, at, .. } = &rel.op else {
        return Err(Error::internal("OVER is to be checked"));
    };
    if calls.is_empty() {
        return Ok(());
    }
    let is_rank = calls.iter().any(|call| matches!(call.function, OverFunction::Rank(_)));
    let hint = |error: Error| match is_rank {
        true => error.hint("for the first rows only, filter the number in an outer query: WHERE rn <= 10"),
        false => error.hint("OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)"),
    };
    if has_lower_bound && !is_time(roles.first()) {
        let error = Error::script("a ranking is filtered from below only: its end is not specified");
        return Err(error.hint("bound it from above, too: WHERE rn BETWEEN 2 AND 10").at_place(*at));
    }
    let refused = |message: &str| Err(hint(Error::script(message)).at_place(*at));
    match order.as_slice() {
        [] => return refused("OVER over a stream needs ORDER BY"),
        [key] if key.descending => return refused("OVER over a stream must be in ascending order"),
        [_] => {}
        _ => return refused("OVER over a stream must be ordered by a single column"),
    }
    let is_interval = |call: &OverCall| !call.frame.is_rows && call.frame.preceding.is_some();
    if calls.iter().any(is_interval) && !is_time(roles.first()) {
        return refused("RANGE with an interval needs an order by a time attribute");
    }
    Ok(())
}

fn is_time(role: Option<&Role>) -> bool {
    role.is_some_and(|role| role.is_event_time() || role.is_proctime())
}

/// What a condition on one column says of it, and whether it says no more than that.
fn bounds_of(condition: &ExprRef) -> Option<(Bounds, bool)> {
    let children = condition.children();
    let within = |column: usize, from: i64, to: i64| Bounds { column, from, to };
    match (condition.as_call()?, children.as_slice()) {
        ("AND", parts) => {
            let bounds = parts.iter().map(|part| bounds_of(part)).collect::<Option<Vec<_>>>()?;
            let first = bounds.first()?.0;
            let (from, to) = (bounds.iter().map(|b| b.0.from).max()?, bounds.iter().map(|b| b.0.to).min()?);
            let is_one = bounds.iter().all(|b| b.0.column == first.column);
            is_one.then(|| (within(first.column, from, to), bounds.iter().all(|b| b.1)))
        }
        ("OR", parts) => {
            let bounds = parts.iter().map(|part| bounds_of(part)).collect::<Option<Vec<_>>>()?;
            let first = bounds.first()?.0;
            let (from, to) = (bounds.iter().map(|b| b.0.from).min()?, bounds.iter().map(|b| b.0.to).max()?);
            bounds.iter().all(|b| b.0.column == first.column).then(|| (within(first.column, from, to), false))
        }
        ("IN", [column, values @ ..]) => {
            let values = values.iter().map(|v| whole(v)).collect::<Option<Vec<_>>>()?;
            Some((within(rank_column(column)?, *values.iter().min()?, *values.iter().max()?), values.len() == 1))
        }
        (name, [a, b]) => {
            let (column, value, is_turned) = match (rank_column(a), whole(b), whole(a), rank_column(b)) {
                (Some(column), Some(value), ..) => (column, value, false),
                (.., Some(value), Some(column)) => (column, value, true),
                _ => return None,
            };
            let (from, to) = match (name, is_turned) {
                ("=", _) => (value, value),
                ("<", false) | (">", true) => (i64::MIN, value.checked_sub(1)?),
                ("<=", false) | (">=", true) => (i64::MIN, value),
                (">", false) | ("<", true) => (value.checked_add(1)?, i64::MAX),
                (">=", false) | ("<=", true) => (value, i64::MAX),
                _ => return None,
            };
            Some((within(column, from, to), true))
        }
        _ => None,
    }
}

/// A column of whole numbers, as it is or widened.
fn rank_column(expr: &ExprRef) -> Option<usize> {
    let is_whole = |kind: &TypeKind| matches!(kind, TypeKind::BigInt | TypeKind::Decimal(_, 0));
    match (expr.as_column(), expr.children().as_slice()) {
        (Some(column), _) => matches!(expr.data_type().kind, TypeKind::BigInt).then_some(column),
        (None, [inner]) if expr.as_call().is_none_or(|c| c == "CAST") && is_whole(&expr.data_type().kind) => {
            rank_column(inner)
        }
        _ => None,
    }
}

/// A whole number's value.
fn whole(expr: &ExprRef) -> Option<i64> {
    let array = expr.as_literal()?;
    if array.is_null(0) {
        return None;
    }
    match expr.data_type().kind {
        TypeKind::Int => Some(i64::from(array.as_primitive::<Int32Type>().value(0))),
        TypeKind::BigInt => Some(array.as_primitive::<Int64Type>().value(0)),
        _ => None,
    }
}
