//! Joins a window table function with the aggregate over its windows into one windowed aggregate.

use crate::bind::build::{column, columns_of, replace_columns};
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::graph::{WindowAggregate, WindowShape, WindowSpec, WindowTime};
use millstream_core::{ExprRef, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The plan with its windows fused.
pub fn fuse(rel: &RelRef) -> Result<RelRef> {
    let rel = match &rel.op {
        RelOp::Aggregate { input, aggregate } => fuse_aggregate(rel, input, aggregate),
        _ => rel.clone(),
    };
    rel.map_inputs(fuse)
}

fn fuse_aggregate(rel: &RelRef, input: &RelRef, aggregate: &WindowAggregate) -> RelRef {
    try_fuse(rel, input, aggregate).unwrap_or_else(|| rel.clone())
}

fn try_fuse(rel: &RelRef, input: &RelRef, aggregate: &WindowAggregate) -> Option<RelRef> {
    let WindowShape::Attached { start, end } = aggregate.window.shape else { return None };
    let stripped = strip(input, start, end)?;
    let mut fused = aggregate.clone();
    let mut used: Vec<&mut usize> = fused.keys.iter_mut().collect();
    for call in &mut fused.aggregates {
        used.extend(call.args.iter_mut().chain(call.filter.as_mut()));
    }
    for index in used {
        *index = stripped.map.get(*index).copied().flatten()?;
    }
    fused.window = stripped.window;
    if is_session(&fused.window) {
        // Sessions are cut by the function's PARTITION BY, whatever they are grouped by afterwards.
        let keys: BTreeSet<usize> = fused.keys.iter().copied().collect();
        let partition: BTreeSet<usize> = stripped.session_keys.iter().copied().collect();
        if keys != partition {
            return None;
        }
    }
    Some(Rel::new(RelOp::Aggregate { input: stripped.input, aggregate: fused }, rel.columns.clone()))
}

fn is_session(window: &WindowSpec) -> bool {
    matches!(window.shape, WindowShape::Session { .. })
}

/// A window function's input, under the operators that stood above the function.
struct Stripped {
    input: RelRef,
    /// Where each column of the old input is now.
    map: Vec<Option<usize>>,
    window: WindowSpec,
    session_keys: Vec<usize>,
}

fn strip(rel: &RelRef, start: usize, end: usize) -> Option<Stripped> {
    match &rel.op {
        RelOp::Window { input, window, session_keys } => {
            let n = input.columns.len();
            let map = (0..n + 3).map(|i| (i < n).then_some(i)).collect();
            (start == n && end == n + 1).then(|| Stripped {
                input: input.clone(),
                map,
                window: window.clone(),
                session_keys: session_keys.clone(),
            })
        }
        RelOp::Calc { input, filter, project } => {
            let below = strip(input, project.get(start)?.as_column()?, project.get(end)?.as_column()?)?;
            let filter = match filter {
                Some(filter) => Some(remap(filter, &below)?),
                None => None,
            };
            // What a filter above SESSION drops has counted for the sessions.
            if filter.is_some() && is_session(&below.window) {
                return None;
            }
            let (lists, columns, map, window, session_keys) = reproject(&below, std::slice::from_ref(project), rel)?;
            let project = lists.into_iter().next()?;
            let input = Rel::new(RelOp::Calc { input: below.input, filter, project }, columns);
            Some(Stripped { input, map, window, session_keys })
        }
        RelOp::Expand { input, projections } => {
            let first = projections.first()?;
            let below = strip(input, first.get(start)?.as_column()?, first.get(end)?.as_column()?)?;
            let (projections, columns, map, window, session_keys) = reproject(&below, projections, rel)?;
            let input = Rel::new(RelOp::Expand { input: below.input, projections }, columns);
            Some(Stripped { input, map, window, session_keys })
        }
        RelOp::Scan { .. }
        | RelOp::Values { .. }
        | RelOp::Union { .. }
        | RelOp::Replicate { .. }
        | RelOp::Unnest { .. }
        | RelOp::Join { .. }
        | RelOp::TemporalJoin { .. }
        | RelOp::LookupJoin { .. }
        | RelOp::Normalize { .. }
        | RelOp::ToChangelog { .. }
        | RelOp::FromChangelog { .. }
        | RelOp::Aggregate { .. }
        | RelOp::GroupAggregate { .. }
        | RelOp::Match { .. }
        | RelOp::Over { .. }
        | RelOp::Rank { .. } => None,
    }
}

fn remap(expr: &ExprRef, below: &Stripped) -> Option<ExprRef> {
    let mut used = BTreeSet::new();
    columns_of(expr, &mut used);
    used.iter().all(|c| below.map.get(*c).copied().flatten().is_some()).then(|| {
        replace_columns(expr, &|index| {
            let index = below.map[index].unwrap_or_default();
            column(index, &below.input.columns[index])
        })
    })
}

type Reprojected = (Vec<Vec<ExprRef>>, Vec<Column>, Vec<Option<usize>>, WindowSpec, Vec<usize>);

/// The projections without what reads the window's columns, and with the time attribute and session keys kept.
fn reproject(below: &Stripped, lists: &[Vec<ExprRef>], rel: &Arc<Rel>) -> Option<Reprojected> {
    let mut new_lists: Vec<Vec<ExprRef>> = vec![vec![]; lists.len()];
    let mut columns = vec![];
    let mut map = vec![];
    for (i, old) in rel.columns.iter().enumerate() {
        let exprs: Option<Vec<ExprRef>> = lists.iter().map(|list| remap(&list[i], below)).collect();
        map.push(exprs.map(|exprs| {
            for (list, expr) in new_lists.iter_mut().zip(exprs) {
                list.push(expr);
            }
            columns.push(old.clone());
            columns.len() - 1
        }));
    }
    let mut keep = |index: usize| {
        let at = new_lists[0].iter().position(|e| e.as_column() == Some(index));
        at.filter(|at| new_lists.iter().all(|l| l[*at].as_column() == Some(index))).unwrap_or_else(|| {
            let kept = &below.input.columns[index];
            new_lists.iter_mut().for_each(|l| l.push(column(index, kept)));
            columns.push(kept.clone());
            columns.len() - 1
        })
    };
    let mut window = below.window.clone();
    if let WindowTime::Event { column } = &mut window.time {
        *column = keep(*column);
    }
    let session_keys = below.session_keys.iter().map(|k| keep(*k)).collect();
    Some((new_lists, columns, map, window, session_keys))
}
