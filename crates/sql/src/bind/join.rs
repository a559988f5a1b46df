//! Joins in FROM: what names mean across them, and their conditions.

use super::build;
use super::expr::{ExprBinder, Scope};
use super::lateral::is_lateral;
use super::place::{At, Placed, at_expr, at_ident, error, unsupported, with_nearest};
use super::query::QueryBinder;
use super::subquery::{Correlated, reads_outer};
use super::temporal::as_of;
use crate::plan::joins;
use crate::plan::simplify::identity;
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::graph::JoinKind;
use millstream_core::{Error, ExprRef, Result};
use millstream_expr::build as exprs;
use sqlparser::ast::{Ident, Join, JoinConstraint, JoinOperator, ObjectName};

impl QueryBinder<'_> {
    /// Joins what is bound so far with the next table.
    pub(super) fn join(&mut self, left: (RelRef, Scope), join: &Join, at: At) -> Result<(RelRef, Scope)> {
        use JoinOperator::*;
        let (kind, constraint) = match &join.join_operator {
            Join(c) | Inner(c) => (JoinKind::Inner, c),
            CrossJoin(c) => (JoinKind::Inner, c),
            Left(c) | LeftOuter(c) => (JoinKind::Left, c),
            Right(c) | RightOuter(c) => (JoinKind::Right, c),
            FullOuter(c) => (JoinKind::Full, c),
            Semi(_) | LeftSemi(_) | RightSemi(_) | Anti(_) | LeftAnti(_) | RightAnti(_) => {
                return Err(Error::unsupported("SEMI JOIN and ANTI JOIN")
                    .hint("write WHERE .. IN (SELECT ..), or WHERE [NOT] EXISTS (SELECT ..)")
                    .at_place(at));
            }
            _ => return unsupported(at, "this kind of join"),
        };
        if matches!(constraint, JoinConstraint::None) && !matches!(join.join_operator, CrossJoin(_)) {
            return Err(Error::script("a join needs a condition: ON or USING")
                .hint("CROSS JOIN puts each row beside each; ON TRUE does so in an outer join")
                .at_place(at));
        }
        if let Some(time) = as_of(&join.relation) {
            return self.temporal_join(left, &join.relation, time, (kind, constraint), at);
        }
        if is_lateral(&join.relation) {
            return self.lateral(left, &join.relation, kind, constraint, at);
        }
        let right = self.factor(&join.relation, at)?;
        let (zone, ttl) = (self.zone(), self.hints.ttl_of_sides(&left.1, &right.1));
        self.joined(left, right, (kind, constraint), at, |l, r, condition| {
            Ok(Rel::with_ttl(&joins::join(l, r, kind, condition, &zone)?, ttl))
        })
    }

    /// Joins two relations: what `make` makes of them and the condition has the columns of both.
    pub(super) fn joined(
        &self,
        left: (RelRef, Scope),
        right: (RelRef, Scope),
        (kind, constraint): (JoinKind, &JoinConstraint),
        at: At,
        make: impl FnOnce(RelRef, RelRef, Option<ExprRef>) -> Result<RelRef>,
    ) -> Result<(RelRef, Scope)> {
        let width = left.0.columns.len();
        let (first, second) = (left.1.visible.clone(), right.1.visible.clone());
        let second: Vec<usize> = second.into_iter().map(|index| index + width).collect();
        let lost = match kind {
            JoinKind::Left => right.1.correlated.first(),
            JoinKind::Right => left.1.correlated.first(),
            JoinKind::Full => left.1.correlated.first().or(right.1.correlated.first()),
            JoinKind::Inner | JoinKind::Semi | JoinKind::Anti => None,
        };
        if let Some(lost) = lost {
            return Err(Error::unsupported(
                "a column of the query around it on the side of an outer join that may be missing",
            )
            .hint("put the condition into WHERE")
            .at_place(lost.at));
        }
        let mut scope = left.1.joined(right.1, at)?;
        let mut same = vec![];
        let condition = match constraint {
            JoinConstraint::None => None,
            JoinConstraint::On(on) => {
                scope.outer.clone_from(&self.outer);
                let on_at = at_expr(on);
                let bound = ExprBinder::new(&scope, self.zone()).bind_condition(on, "ON").at_place(on_at)?;
                scope.outer = None;
                let (around, own): (Vec<_>, Vec<_>) = joins::conjuncts(&bound).into_iter().partition(reads_outer);
                if !around.is_empty() && kind != JoinKind::Inner {
                    return Err(Error::unsupported("a column of the query around it in ON of an outer join")
                        .hint("put the condition into WHERE")
                        .at_place(on_at));
                }
                scope.correlated.extend(around.into_iter().map(|expr| Correlated { expr, at: on_at }));
                joins::all_of(own, &self.zone())?
            }
            JoinConstraint::Using(names) => {
                let names = names.iter().map(|name| name_of(name, at)).collect::<Result<Vec<_>>>()?;
                same = pairs(&scope, &first, &second, &names)?;
                self.equal(&scope, &same, at)?
            }
            JoinConstraint::Natural => {
                let is_common = |i: &&usize| second.iter().any(|j| scope.columns[*j].name == scope.columns[**i].name);
                let name = |i: &usize| Ident::new(scope.columns[*i].name.clone());
                let names: Vec<Ident> = first.iter().filter(is_common).map(name).collect();
                same = pairs(&scope, &first, &second, &names).at_place(at)?;
                self.equal(&scope, &same, at)?
            }
        };
        let mut rel = make(left.0, right.0, condition)?;
        if !same.is_empty() {
            rel = self.merged(rel, &mut scope, &same, kind)?;
        }
        scope.columns.clone_from(&rel.columns);
        Ok((rel, scope))
    }

    fn equal(&self, scope: &Scope, same: &[(usize, usize)], at: At) -> Result<Option<ExprRef>> {
        let mut parts = vec![];
        for (a, b) in same {
            let column = |i: usize| build::column(i, &scope.columns[i]);
            parts.push(exprs::call("=", vec![column(*a), column(*b)], &self.zone()).at_place(at)?);
        }
        joins::all_of(parts, &self.zone())
    }

    /// Of columns that a USING makes equal one is left, and stands before the others: the one that is never missing.
    fn merged(&self, rel: RelRef, scope: &mut Scope, same: &[(usize, usize)], kind: JoinKind) -> Result<RelRef> {
        scope.visible.retain(|index| !same.iter().any(|(a, b)| a == index || b == index));
        let mut first: Vec<usize> = same.iter().map(|(a, b)| if kind == JoinKind::Right { *b } else { *a }).collect();
        let mut rel = rel;
        if kind == JoinKind::Full {
            let (mut project, mut columns) = (identity(&rel), rel.columns.clone());
            first.clear();
            for (a, b) in same {
                let either = vec![project[*a].clone(), project[*b].clone()];
                let either = exprs::call("COALESCE", either, &self.zone())?;
                first.push(columns.len());
                columns.push(Column::plain(rel.columns[*a].name.clone(), either.data_type().clone()));
                project.push(either);
            }
            rel = Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns);
        }
        first.append(&mut scope.visible);
        scope.visible = first;
        Ok(rel)
    }
}

/// The columns of both sides that have these names.
fn pairs(scope: &Scope, first: &[usize], second: &[usize], names: &[Ident]) -> Result<Vec<(usize, usize)>> {
    let find = |name: &Ident, among: &[usize]| {
        let mut found = among.iter().copied().filter(|i| scope.columns[*i].name == name.value);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => error(at_ident(name), format!("column '{}' is ambiguous on one side", name.value)),
            (None, _) => {
                let error = Error::script(format!("there is no column '{}' on both sides", name.value));
                let common = first.iter().map(|i| scope.columns[*i].name.as_str());
                let common = common.filter(|name| second.iter().any(|j| scope.columns[*j].name == *name));
                Err(with_nearest(error, &name.value, common).at_place(at_ident(name)))
            }
        }
    };
    names.iter().map(|name| Ok((find(name, first)?, find(name, second)?))).collect()
}

fn name_of(name: &ObjectName, at: At) -> Result<Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident().cloned().map_or_else(|| error(at, "USING takes names of columns"), Ok),
        _ => error(at, "USING takes names of columns"),
    }
}
