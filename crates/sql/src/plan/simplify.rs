//! Merges calcs and moves filters towards the sources.

use super::joins;
use crate::bind::build::{and, column, columns_of, replace_columns};
use crate::rel::{Rel, RelOp, RelRef};
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The simplified plan.
pub fn simplify(rel: &RelRef, zone: &SessionZone) -> Result<RelRef> {
    let RelOp::Calc { input, filter, project } = &rel.op else { return rel.map_inputs(|input| simplify(input, zone)) };
    let columns = rel.columns.clone();
    let input = simplify(input, zone)?;
    match push_filter(input, filter.clone(), zone)? {
        // Names and roles may differ; the operators below don't care.
        (input, None) if is_identity(project, &input) => Ok(Rel::new(input.op.clone(), columns)),
        (input, filter) => merge(Rel::new(RelOp::Calc { input, filter, project: project.clone() }, columns), zone),
    }
}

fn is_identity(project: &[ExprRef], input: &RelRef) -> bool {
    project.len() == input.columns.len() && project.iter().enumerate().all(|(i, e)| e.as_column() == Some(i))
}

/// Puts the filter below what it need not stand above; what is left of it comes back.
fn push_filter(input: RelRef, filter: Option<ExprRef>, zone: &SessionZone) -> Result<(RelRef, Option<ExprRef>)> {
    let Some(filter) = filter else { return Ok((input, None)) };
    if !filter.is_deterministic() {
        return Ok((input, Some(filter)));
    }
    match &input.op {
        RelOp::Join { .. } => {
            let (pushed, rest) = joins::push_filter(&input, &filter, zone)?;
            Ok((if Arc::ptr_eq(&pushed, &input) { pushed } else { simplify(&pushed, zone)? }, rest))
        }
        RelOp::Union { inputs } => {
            let inputs = inputs
                .iter()
                .map(|i| simplify(&Rel::filter(i.clone(), filter.clone()), zone))
                .collect::<Result<Vec<_>>>()?;
            Ok((Rel::new(RelOp::Union { inputs }, input.columns.clone()), None))
        }
        RelOp::Unnest { input: below, unnest } => {
            let width = unnest.kept.len();
            let reads_kept = |part: &ExprRef| {
                let mut used = BTreeSet::new();
                columns_of(part, &mut used);
                used.iter().all(|index| *index < width)
            };
            let (kept, above): (Vec<_>, Vec<_>) = joins::conjuncts(&filter).into_iter().partition(reads_kept);
            let Some(filter) = joins::all_of(kept, zone)? else { return Ok((input, Some(filter))) };
            let filter = replace_columns(&filter, &|index| {
                let index = unnest.kept[index];
                column(index, &below.columns[index])
            });
            let below = simplify(&Rel::filter(below.clone(), filter), zone)?;
            let op = RelOp::Unnest { input: below, unnest: unnest.clone() };
            Ok((Rel::new(op, input.columns.clone()), joins::all_of(above, zone)?))
        }
        // A filter on SESSION's rows changes the sessions, so it stays above.
        RelOp::Window { input: below, window, session_keys } if session_keys.is_empty() && !is_session(window) => {
            let mut used = BTreeSet::new();
            columns_of(&filter, &mut used);
            if used.iter().any(|c| *c >= below.columns.len()) {
                return Ok((input, Some(filter)));
            }
            let below = simplify(&Rel::filter(below.clone(), filter), zone)?;
            let (window, session_keys) = (window.clone(), session_keys.clone());
            let op = RelOp::Window { input: below, window, session_keys };
            Ok((Rel::new(op, input.columns.clone()), None))
        }
        _ => Ok((input, Some(filter))),
    }
}

fn is_session(window: &millstream_core::graph::WindowSpec) -> bool {
    matches!(window.shape, millstream_core::graph::WindowShape::Session { .. })
}

/// Merges a calc with the one below, unless that would compute something twice.
fn merge(rel: RelRef, zone: &SessionZone) -> Result<RelRef> {
    let RelOp::Calc { input, filter, project } = &rel.op else { return Ok(rel) };
    let RelOp::Calc { input: below, filter: inner_filter, project: inner } = &input.op else { return Ok(rel) };
    let mut uses = vec![0usize; inner.len()];
    for expr in project.iter().chain(filter) {
        count_uses(expr, &mut uses);
    }
    let cheap = |e: &ExprRef| {
        e.as_column().is_some() || e.as_literal().is_some() || millstream_expr::build::field_path(e).is_some()
    };
    if inner.iter().zip(&uses).any(|(e, n)| !cheap(e) && (*n > 1 || *n > 0 && !e.is_deterministic())) {
        return Ok(rel);
    }
    let put = |e: &ExprRef| replace_columns(e, &|i| inner[i].clone());
    let filter = and(inner_filter.clone(), filter.as_ref().map(put), zone)?;
    let project = project.iter().map(put).collect();
    let columns = rel.columns.clone();
    // What the merged filter reads may go below a window now.
    simplify(&Rel::new(RelOp::Calc { input: below.clone(), filter, project }, columns), zone)
}

fn count_uses(expr: &ExprRef, uses: &mut [usize]) {
    if let Some(index) = expr.as_column() {
        uses[index] += 1;
    }
    for child in expr.children() {
        count_uses(child, uses);
    }
}

/// All columns of a relation, as expressions.
pub fn identity(rel: &RelRef) -> Vec<ExprRef> {
    rel.columns.iter().enumerate().map(|(i, c)| column(i, c)).collect()
}
