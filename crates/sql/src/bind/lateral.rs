//! Tables in FROM that read what stands before them: UNNEST and LATERAL subqueries.

use super::expr::{ExprBinder, Scope};
use super::place::{At, Placed, at_expr, at_ident, error, unsupported};
use super::query::QueryBinder;
use crate::plan::joins::{self, all_of};
use crate::plan::simplify::identity;
use crate::rel::{Column, Rel, RelOp, RelRef};
use arrow::array::{Array, AsArray};
use millstream_core::graph::{JoinKind, Unnest};
use millstream_core::{Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{Expr, JoinConstraint, TableAlias, TableFactor};

/// Whether a table in FROM may read what stands before it.
pub(super) fn is_lateral(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::UNNEST { .. } | TableFactor::Derived { lateral: true, .. })
}

impl QueryBinder<'_> {
    /// Joins what is bound so far with a table that reads it.
    pub(super) fn lateral(
        &mut self,
        left: (RelRef, Scope),
        factor: &TableFactor,
        kind: JoinKind,
        constraint: &JoinConstraint,
        at: At,
    ) -> Result<(RelRef, Scope)> {
        let on = match constraint {
            JoinConstraint::None => None,
            JoinConstraint::On(on) => Some(on),
            JoinConstraint::Using(_) | JoinConstraint::Natural => {
                return unsupported(at, "USING or NATURAL with a table that reads what stands before it");
            }
        };
        if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return unsupported(at, "RIGHT or FULL JOIN of a table that reads what stands before it");
        }
        match factor {
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_ordinality, .. } => {
                let [collection] = array_exprs.as_slice() else {
                    return unsupported(at, "UNNEST of several collections");
                };
                if *with_offset {
                    let error = Error::unsupported("WITH OFFSET").hint("write WITH ORDINALITY");
                    return Err(error.at_place(at));
                }
                let (rel, right) =
                    self.unnest(&left, collection, alias.as_ref(), *with_ordinality, kind == JoinKind::Left)?;
                self.on((rel, left.1.joined(right, at)?), on, kind)
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let sub = self.subquery(subquery, &left.1, &left.0)?;
                sub.refuse_outer_output()?;
                let width = left.0.columns.len();
                let all_rows = sub.over_nothing().filter(|_| !sub.conditions.is_empty());
                let conditions = sub.condition(&left.0.columns, &|index| index);
                // An aggregate over all rows gives a row for those without a match, too.
                let joined_as = if all_rows.is_some() { JoinKind::Left } else { kind };
                let right =
                    if all_rows.is_some() { super::pending::with_mark(sub.rel.clone()) } else { sub.rel.clone() };
                let mark = width + right.columns.len() - 1;
                let condition = all_of(conditions, &self.zone())?;
                let mut rel = joins::join(left.0, right, joined_as, condition, &self.zone())?;
                let visible = width..width + sub.visible;
                if let Some(values) = all_rows {
                    rel = self.over_nothing(rel, visible.start, values, mark)?;
                }
                let names: Vec<&str> =
                    alias.iter().flat_map(|alias| &alias.columns).map(|c| c.name.value.as_str()).collect();
                let mut columns = rel.columns.clone();
                rename_columns(&mut columns[visible.clone()], &names)
                    .at_place(alias.as_ref().map_or(at, |alias| at_ident(&alias.name)))?;
                let rel = Rel::new(rel.op.clone(), columns);
                let mut right = Scope::of(alias.as_ref().map(|a| a.name.value.as_str()), &rel.columns[visible.clone()]);
                right.columns.extend_from_slice(&rel.columns[visible.end..]);
                let scope = left.1.joined(right, at)?;
                self.on((rel, scope), on, kind)
            }
            other => unsupported(at, format!("{other} in FROM")),
        }
    }

    /// The values of an aggregate over all rows, for rows that it has none for.
    fn over_nothing(&self, rel: RelRef, first: usize, values: &[ExprRef], mark: usize) -> Result<RelRef> {
        let (mut project, mut columns) = (identity(&rel), rel.columns.clone());
        for (number, value) in values.iter().enumerate() {
            let missing = exprs::call("IS NULL", vec![project[mark].clone()], &self.zone())?;
            let found = project[first + number].clone();
            let value = exprs::cast(value.clone(), found.data_type().clone(), false, &self.zone())?;
            let either = exprs::call("CASE", vec![missing, exprs::fold(value)?, found], &self.zone())?;
            columns[first + number].data_type = either.data_type().clone();
            project[first + number] = either;
        }
        Ok(Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns))
    }

    fn unnest(
        &self,
        (left, scope): &(RelRef, Scope),
        collection: &Expr,
        alias: Option<&TableAlias>,
        ordinality: bool,
        keeps_empty: bool,
    ) -> Result<(RelRef, Scope)> {
        let at = at_expr(collection);
        let bound = ExprBinder::new(scope, self.zone()).bind(collection)?;
        let mut elements = match &bound.data_type().kind {
            TypeKind::Array(element) | TypeKind::Multiset(element) => match &element.kind {
                TypeKind::Row(fields) => {
                    let field = |f: &millstream_core::Field| {
                        let nullable = f.data_type.nullable || element.nullable;
                        Column::plain(&f.name, f.data_type.clone().with_nullable(nullable))
                    };
                    fields.iter().map(field).collect()
                }
                _ => vec![Column::plain("EXPR$0", (**element).clone())],
            },
            TypeKind::Map(key, value) => {
                vec![Column::plain("KEY", (**key).clone()), Column::plain("VALUE", (**value).clone())]
            }
            _ => {
                let message = format!("UNNEST takes an ARRAY, MAP or MULTISET, but got {}", bound.data_type());
                return error(at, message);
            }
        };
        if ordinality {
            elements.push(Column::plain("ORDINALITY", TypeKind::Int.not_null()));
        }
        if keeps_empty {
            elements.iter_mut().for_each(|column| column.data_type.nullable = true);
        }
        let width = left.columns.len();
        let names: Vec<&str> = alias.iter().flat_map(|a| &a.columns).map(|c| c.name.value.as_str()).collect();
        rename_columns(&mut elements, &names).at_place(alias.map_or(at, |alias| at_ident(&alias.name)))?;
        let columns = left.columns.iter().cloned().chain(elements).collect();
        let unnest = Unnest { collection: bound, kept: (0..width).collect(), ordinality, keeps_empty, condition: None };
        let rel = Rel::new(RelOp::Unnest { input: left.clone(), unnest }, columns);
        let right = Scope::of(alias.map(|a| a.name.value.as_str()), &rel.columns[width..]);
        Ok((rel, right))
    }

    /// What ON says of a table that reads what stands before it.
    fn on(&self, (rel, mut scope): (RelRef, Scope), on: Option<&Expr>, kind: JoinKind) -> Result<(RelRef, Scope)> {
        scope.columns.clone_from(&rel.columns);
        let Some(on) = on else { return Ok((rel, scope)) };
        let condition = ExprBinder::new(&scope, self.zone()).bind_condition(on, "ON")?;
        let is_true = condition
            .as_literal()
            .and_then(|value| value.as_boolean_opt())
            .is_some_and(|value| value.is_valid(0) && value.value(0));
        match kind {
            _ if is_true => Ok((rel, scope)),
            JoinKind::Inner => Ok((Rel::filter(rel, condition), scope)),
            _ => match &rel.op {
                RelOp::Unnest { input, unnest } => {
                    let unnest = Unnest { condition: Some(condition), ..unnest.clone() };
                    Ok((Rel::new(RelOp::Unnest { input: input.clone(), unnest }, rel.columns.clone()), scope))
                }
                _ => Err(Error::unsupported("a condition in LEFT JOIN of a query that reads what stands before it")
                    .hint("write the condition into the query's WHERE, and ON TRUE")
                    .at_place(at_expr(on))),
            },
        }
    }
}

/// Gives columns the names of an alias, if it has some.
pub(super) fn rename_columns(columns: &mut [Column], names: &[&str]) -> Result<()> {
    if !names.is_empty() && names.len() != columns.len() {
        return Err(Error::script(format!("{} column names for {} columns", names.len(), columns.len())));
    }
    columns.iter_mut().zip(names).for_each(|(column, name)| column.name = name.to_string());
    Ok(())
}
