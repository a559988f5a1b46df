//! The unique keys of relations: columns of which no two rows of a relation are equal at a time
//! (flink: `FlinkRelMdUniqueKeys`). A declared primary key is trusted.

use super::{joins, lookup};
use crate::bind::build::column;
use crate::rel::{Rel, RelOp};
use millstream_core::graph::{JoinKind, OverCall, OverFunction, RankFunction, WindowShape};
use millstream_core::{ExprRef, TypeKind};
use std::collections::BTreeSet;

/// Columns that tell the rows of a relation apart; none: there is one row at most.
pub type Key = BTreeSet<usize>;

/// Keys of joins are made of those of their inputs: more than so many are of no use to anyone.
const MAX_KEYS: usize = 16;

/// The unique keys of a relation, the shortest first; those that hold a shorter one are left out.
pub fn unique_keys(rel: &Rel) -> Vec<Key> {
    let mut keys = found(rel);
    keys.sort_by_key(BTreeSet::len);
    let mut minimal: Vec<Key> = vec![];
    for key in keys {
        if minimal.len() < MAX_KEYS && !minimal.iter().any(|known| known.is_subset(&key)) {
            minimal.push(key);
        }
    }
    minimal
}

/// The column whose values an expression tells apart as well: itself, or as a wider type.
fn kept_column(expr: &ExprRef) -> Option<usize> {
    let children = expr.children();
    let inner = match (expr.as_call(), children.as_slice()) {
        (Some("NOT_NULL"), [inner]) => return kept_column(inner),
        (Some("CAST"), [inner]) => inner,
        _ => return expr.as_column(),
    };
    let integer = |kind: &TypeKind| {
        [TypeKind::TinyInt, TypeKind::SmallInt, TypeKind::Int, TypeKind::BigInt].iter().position(|k| k == kind)
    };
    let is_wider = match (&inner.data_type().kind, &expr.data_type().kind) {
        (TypeKind::VarChar(from), TypeKind::VarChar(to)) => from <= to,
        (TypeKind::Timestamp(from), TypeKind::Timestamp(to)) => from <= to,
        (TypeKind::TimestampLtz(from), TypeKind::TimestampLtz(to)) => from <= to,
        (from, to) => integer(from).zip(integer(to)).is_some_and(|(from, to)| from <= to),
    };
    if is_wider { kept_column(inner) } else { None }
}

fn found(rel: &Rel) -> Vec<Key> {
    match &rel.op {
        RelOp::Scan { table, kept, .. } => {
            let place = |name: &String| kept.iter().position(|column| table.columns[*column].name == *name);
            let key: Option<Key> = table.primary_key.iter().map(place).collect();
            key.filter(|key| !key.is_empty()).into_iter().collect()
        }
        RelOp::Values { rows } => {
            if rows.len() <= 1 {
                vec![Key::new()]
            } else {
                vec![]
            }
        }
        RelOp::Calc { input, filter, project } => {
            let place = |column: &usize| project.iter().position(|expr| kept_column(expr) == Some(*column));
            // What is the same in all rows tells none apart.
            let same: Key =
                filter.as_ref().map(joins::conjuncts).unwrap_or_default().iter().filter_map(constant).collect();
            let differs = |column: &&usize| !same.contains(column);
            unique_keys(input).iter().filter_map(|key| key.iter().filter(differs).map(place).collect()).collect()
        }
        RelOp::Over { input, partition, calls, .. } => {
            let mut keys = unique_keys(input);
            let is_number = |call: &OverCall| matches!(call.function, OverFunction::Rank(RankFunction::RowNumber));
            if let Some(number) = calls.iter().position(is_number) {
                keys.push(partition.iter().copied().chain([input.columns.len() + number]).collect());
            }
            keys
        }
        RelOp::Rank { input, rank } => {
            let mut keys = unique_keys(input);
            let number = rank.outputs_rank.then_some(input.columns.len());
            if rank.function == RankFunction::RowNumber && (number.is_some() || rank.from == rank.to) {
                keys.push(rank.partition.iter().copied().chain(number).collect());
            }
            keys
        }
        RelOp::Expand { .. }
        | RelOp::Union { .. }
        | RelOp::Replicate { .. }
        | RelOp::Unnest { .. }
        | RelOp::ToChangelog { .. }
        | RelOp::FromChangelog { .. }
        | RelOp::Match { .. } => {
            vec![]
        }
        RelOp::Normalize { keys, .. } => vec![keys.iter().copied().collect()],
        RelOp::Window { input, window, .. } => {
            let mut keys = unique_keys(input);
            if !matches!(window.shape, WindowShape::Tumble { .. } | WindowShape::Session { .. }) {
                // A row is in several windows, which differ in both their start and their end, but for CUMULATE.
                for key in &mut keys {
                    key.insert(input.columns.len() + 1);
                }
            }
            keys
        }
        RelOp::Aggregate { aggregate, .. } => {
            let keys: Key = (0..aggregate.keys.len()).collect();
            let properties = keys.len() + aggregate.aggregates.len()..rel.columns.len();
            match (aggregate.window.shape, properties.is_empty()) {
                // The windows are among the keys.
                (WindowShape::Attached { .. }, true) => vec![keys],
                (_, true) => vec![],
                // Any property tells the windows of a group apart, but the start of those that grow.
                (_, false) => vec![keys.into_iter().chain(properties).collect()],
            }
        }
        RelOp::GroupAggregate { keys, .. } => vec![(0..keys.len()).collect()],
        RelOp::Join { left, right, kind, condition, .. } => {
            let left_keys = unique_keys(left);
            if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                return left_keys;
            }
            let right_keys = unique_keys(right);
            let width = left.columns.len();
            let (of_left, of_right) = equal_columns(condition.as_ref(), width);
            let shifted = |key: &Key| -> Key { key.iter().map(|column| column + width).collect() };
            // A row of one side has one match at most, if the columns compared hold a key of the other side.
            let one_right = right_keys.iter().any(|key| key.is_subset(&of_right));
            let one_left = left_keys.iter().any(|key| key.is_subset(&of_left));
            let mut keys = vec![];
            if one_right && matches!(kind, JoinKind::Inner | JoinKind::Left) {
                keys.extend(left_keys.iter().cloned());
            }
            if one_left && matches!(kind, JoinKind::Inner | JoinKind::Right) {
                keys.extend(right_keys.iter().map(shifted));
            }
            // Of a FULL join, NULLs of a key may be those of a missing row.
            if *kind != JoinKind::Full {
                for left in &left_keys {
                    keys.extend(right_keys.iter().map(|right| left.union(&shifted(right)).copied().collect::<Key>()));
                }
            }
            keys
        }
        RelOp::LookupJoin { left, right, condition, .. } => {
            let (width, left_keys, right_keys) = (left.columns.len(), unique_keys(left), unique_keys(right));
            let project: Vec<ExprRef> = right.columns.iter().enumerate().map(|(i, c)| column(i, c)).collect();
            let (equal, _) = lookup::keys(condition.as_ref(), width, &project);
            let compared: Key = equal.iter().map(|key| key.column).collect();
            if right_keys.iter().any(|key| key.is_subset(&compared)) {
                return left_keys;
            }
            let both = |left: &Key| {
                let shifted = |right: &Key| right.iter().map(|column| column + width).chain(left.clone()).collect();
                right_keys.iter().map(shifted).collect::<Vec<Key>>()
            };
            left_keys.iter().flat_map(both).collect()
        }
        // Each row meets one version.
        RelOp::TemporalJoin { left, .. } => unique_keys(left),
    }
}

/// The column that a condition says to be equal to a constant.
fn constant(condition: &ExprRef) -> Option<usize> {
    let children = condition.children();
    let (Some("="), [a, b]) = (condition.as_call(), children.as_slice()) else { return None };
    match (a.as_column(), b.as_column()) {
        (Some(column), None) if b.as_literal().is_some() => Some(column),
        (None, Some(column)) if a.as_literal().is_some() => Some(column),
        _ => None,
    }
}

/// The columns of both sides, the first of which has `width` columns, that a join's condition compares with each other.
fn equal_columns(condition: Option<&ExprRef>, width: usize) -> (Key, Key) {
    let parts = condition.map(joins::conjuncts).unwrap_or_default();
    let pairs = parts.iter().filter_map(|part| {
        let (left, right, _) = joins::equality(part, width)?;
        Some((left.as_column()?, right.as_column()? - width))
    });
    pairs.unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rel::{Column, RelRef};
    use millstream_core::TypeKind;
    use millstream_core::types::SessionZone;

    fn columns(count: usize) -> Vec<Column> {
        (0..count).map(|i| Column::plain(format!("c{i}"), TypeKind::Int.nullable())).collect()
    }

    /// Any rows: those of a union have no key.
    fn rows(width: usize) -> RelRef {
        Rel::new(RelOp::Union { inputs: vec![] }, columns(width))
    }

    /// Rows of which the columns `keys` are unique.
    fn keyed(width: usize, keys: &[usize]) -> RelRef {
        Rel::new(RelOp::Normalize { input: rows(width), keys: keys.to_vec() }, columns(width))
    }

    fn project(input: RelRef, indices: &[usize]) -> RelRef {
        let project = indices.iter().map(|i| column(*i, &input.columns[*i])).collect();
        let columns = indices.iter().map(|i| input.columns[*i].clone()).collect();
        Rel::new(RelOp::Calc { input, filter: None, project }, columns)
    }

    /// A join in which the columns `pairs` are equal.
    fn join(left: RelRef, right: RelRef, kind: JoinKind, pairs: &[(usize, usize)]) -> RelRef {
        let both: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let width = left.columns.len();
        let equal = |(l, r): &(usize, usize)| {
            let sides = vec![column(*l, &both[*l]), column(width + r, &both[width + r])];
            millstream_expr::build::call("=", sides, &SessionZone::UTC).unwrap()
        };
        let condition = joins::all_of(pairs.iter().map(equal), &SessionZone::UTC).unwrap();
        Rel::new(RelOp::Join { left, right, kind, condition, ttl_ms: [None; 2] }, both)
    }

    fn check(rel: &Rel, expected: &[&[usize]]) {
        let expected: Vec<Key> = expected.iter().map(|key| key.iter().copied().collect()).collect();
        assert_eq!(unique_keys(rel), expected);
    }

    #[test]
    fn keys_pass_projections_that_keep_their_columns() {
        check(&rows(2), &[]);
        check(&project(keyed(3, &[0, 2]), &[1, 2, 0]), &[&[1, 2]]);
        check(&project(keyed(3, &[0, 2]), &[1, 2]), &[]);
        check(&Rel::filter(keyed(2, &[1]), crate::bind::build::boolean(true)), &[&[1]]);
    }

    #[test]
    fn groups_are_unique_by_their_keys_and_a_group_of_all_rows_is_one() {
        let grouped = |keys: &[usize]| {
            let op = RelOp::GroupAggregate { input: rows(3), keys: keys.to_vec(), aggregates: vec![], ttl_ms: None };
            Rel::new(op, columns(keys.len()))
        };
        check(&grouped(&[2, 1]), &[&[0, 1]]);
        check(&grouped(&[]), &[&[]]);
    }

    #[test]
    fn a_join_keeps_the_key_of_a_side_whose_rows_have_one_match_at_most() {
        let (left, right) = (|| keyed(2, &[0]), || keyed(2, &[0]));
        check(&join(left(), right(), JoinKind::Inner, &[(1, 0)]), &[&[0]]);
        check(&join(left(), right(), JoinKind::Left, &[(1, 0)]), &[&[0]]);
        check(&join(left(), right(), JoinKind::Right, &[(1, 0)]), &[&[0, 2]]);
        check(&join(left(), right(), JoinKind::Inner, &[(0, 0)]), &[&[0], &[2]]);
        check(&join(left(), right(), JoinKind::Right, &[(0, 1)]), &[&[2]]);
        // Each row may have many matches.
        check(&join(left(), right(), JoinKind::Inner, &[(1, 1)]), &[&[0, 2]]);
        check(&join(left(), right(), JoinKind::Full, &[(0, 0)]), &[]);
        check(&join(left(), rows(2), JoinKind::Inner, &[(0, 0)]), &[]);
        check(&join(rows(2), right(), JoinKind::Inner, &[(0, 0)]), &[]);
    }

    #[test]
    fn rows_that_are_only_looked_for_add_no_key() {
        check(&join(keyed(2, &[1]), rows(2), JoinKind::Semi, &[(0, 0)]), &[&[1]]);
        check(&join(keyed(2, &[1]), keyed(2, &[0]), JoinKind::Anti, &[(0, 0)]), &[&[1]]);
    }
}
