//! Joins in FROM: what names mean across them, and their conditions.

use super::expr::{ExprBinder, Scope};
use super::place::{At, Placed, at_expr, at_ident, error, unsupported};
use super::query::QueryBinder;
use crate::plan::joins;
use crate::rel::RelRef;
use millstream_core::graph::JoinKind;
use millstream_core::{ExprRef, Result};
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
            _ => return unsupported(at, "this kind of join"),
        };
        let right = self.factor(&join.relation, at)?;
        self.joined(left, right, kind, constraint, at)
    }

    fn joined(
        &mut self,
        left: (RelRef, Scope),
        right: (RelRef, Scope),
        kind: JoinKind,
        constraint: &JoinConstraint,
        at: At,
    ) -> Result<(RelRef, Scope)> {
        let width = left.0.columns.len();
        let mut scope = left.1.joined(right.1);
        let condition = match constraint {
            JoinConstraint::None => None,
            JoinConstraint::On(on) => {
                Some(ExprBinder::new(&scope, self.zone()).bind_condition(on, "ON").at_place(at_expr(on))?)
            }
            JoinConstraint::Using(names) => {
                let names = names.iter().map(|name| name_of(name, at)).collect::<Result<Vec<_>>>()?;
                self.using(&mut scope, width, kind, &names, at)?
            }
            JoinConstraint::Natural => {
                let (first, second) = scope.columns.split_at(width);
                let common = first.iter().filter(|c| second.iter().any(|d| d.name == c.name));
                let names: Vec<Ident> = common.map(|c| Ident::new(c.name.clone())).collect();
                self.using(&mut scope, width, kind, &names, at)?
            }
        };
        let rel = joins::join(left.0, right.0, kind, condition, &self.zone())?;
        scope.columns.clone_from(&rel.columns);
        Ok((rel, scope))
    }

    /// Equality of the columns that both sides have by these names; one of each two is hidden.
    fn using(
        &self,
        scope: &mut Scope,
        width: usize,
        kind: JoinKind,
        names: &[Ident],
        at: At,
    ) -> Result<Option<ExprRef>> {
        if kind == JoinKind::Full {
            return unsupported(at, "USING in a FULL JOIN");
        }
        let mut parts = vec![];
        for name in names {
            let find = |from: usize, to: usize| {
                let found = (from..to).find(|i| scope.columns[*i].name == name.value && !scope.hidden.contains(i));
                match found {
                    Some(index) => Ok(index),
                    None => error(at_ident(name), format!("there is no column '{}' on both sides", name.value)),
                }
            };
            let (a, b) = (find(0, width)?, find(width, scope.columns.len())?);
            let column = |i: usize| super::build::column(i, &scope.columns[i]);
            parts.push(exprs::call("=", vec![column(a), column(b)], &self.zone()).at_place(at_ident(name))?);
            scope.hidden.insert(if kind == JoinKind::Right { a } else { b });
        }
        joins::all_of(parts, &self.zone())
    }
}

fn name_of(name: &ObjectName, at: At) -> Result<Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident().cloned().map_or_else(|| error(at, "USING takes names of columns"), Ok),
        _ => error(at, "USING takes names of columns"),
    }
}
