//! Subqueries as values, in SELECT, HAVING and under OR: columns of joins that are made once all of them are bound.

use super::aggregate::distinct;
use super::build::{self, replace_some};
use super::expr::{Scope, binary_operator};
use super::place::{At, Placed, at_expr, unsupported};
use super::query::{QueryBinder, at_body};
use super::subquery::{Correlated, OUTER, Subquery, columns_read, renumbered};
use crate::plan::joins::{self, all_of, conjuncts};
use crate::plan::simplify::identity;
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::graph::{AggregateCall, AggregateFunction, JoinKind};
use millstream_core::{Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{BinaryOperator, Expr, Query};
use std::collections::BTreeMap;

/// Until subqueries are joined to the query that they stand in, their columns are numbered from here, [`SPAN`] for
/// each.
pub(super) const PENDING: usize = 1 << 50;
const SPAN: usize = 1 << 24;

/// Who takes subqueries that stand in an expression.
pub trait Subqueries {
    /// The value of a subquery whose names are looked up in `scope`, too; `operands` stand before it, and `local`
    /// tells what a column of the scope is where the value is computed.
    fn value(
        &mut self,
        ast: &Expr,
        operands: Vec<ExprRef>,
        scope: &Scope,
        local: &dyn Fn(usize) -> Result<ExprRef>,
    ) -> Result<ExprRef>;
}

/// Collects the subqueries of expressions that are bound over one relation, and joins them to it.
pub(super) struct Pending<'b, 'a> {
    queries: &'b mut QueryBinder<'a>,
    /// The rows that the names in the expressions are of.
    rel: RelRef,
    joins: Vec<PendingJoin>,
    /// By their text: a subquery that is there twice is joined once.
    known: BTreeMap<String, ExprRef>,
}

/// A subquery to be joined by a LEFT JOIN: at most one of its rows matches each row.
struct PendingJoin {
    right: RelRef,
    conditions: Vec<ExprRef>,
}

impl<'b, 'a> Pending<'b, 'a> {
    pub(super) fn new(queries: &'b mut QueryBinder<'a>, rel: RelRef) -> Self {
        Pending { queries, rel, joins: vec![], known: BTreeMap::new() }
    }

    /// The conditions of the joins, to be bound to what the joins are over.
    pub(super) fn conditions_mut(&mut self) -> impl Iterator<Item = &mut ExprRef> {
        self.joins.iter_mut().flat_map(|join| &mut join.conditions)
    }

    /// Makes the joins, and puts their columns into the expressions.
    pub(super) fn join(self, input: RelRef, exprs: Vec<ExprRef>) -> Result<(RelRef, Vec<ExprRef>)> {
        let zone = self.queries.zone();
        let mut rel = input;
        let mut bases: Vec<usize> = vec![];
        let placed = |expr: &ExprRef, bases: &[usize], columns: &[Column]| {
            replace_some(expr, &|index| {
                let at = index.checked_sub(PENDING)?;
                let index = bases.get(at / SPAN)? + at % SPAN;
                Some(build::column(index, &columns[index]))
            })
        };
        for PendingJoin { right, conditions } in self.joins {
            bases.push(rel.columns.len());
            let columns: Vec<Column> = rel.columns.iter().chain(&right.columns).cloned().collect();
            let condition = all_of(conditions.iter().map(|c| placed(c, &bases, &columns)), &zone)?;
            rel = joins::join(rel, right, JoinKind::Left, condition, &zone)?;
        }
        let exprs = exprs.iter().map(|e| placed(e, &bases, &rel.columns)).collect();
        Ok((rel, exprs))
    }

    /// A column of the subquery that is joined next: NULL where nothing matches.
    fn column(&self, index: usize, right: &RelRef) -> ExprRef {
        let column = &right.columns[index];
        let data_type = column.data_type.clone().with_nullable(true);
        exprs::column(PENDING + self.joins.len() * SPAN + index, data_type, &column.name)
    }

    /// A condition over the subquery that is joined next (whose column `i` is now `place(i)`), and the query around it.
    fn condition(
        &self,
        condition: &ExprRef,
        place: &dyn Fn(usize) -> usize,
        local: &dyn Fn(usize) -> Result<ExprRef>,
    ) -> Result<ExprRef> {
        let base = PENDING + self.joins.len() * SPAN;
        let mut outer = BTreeMap::new();
        for index in columns_read(condition).into_iter().filter(|index| *index >= OUTER) {
            outer.insert(index, local(index - OUTER)?);
        }
        Ok(renumbered(condition, &|index, data_type, name| match outer.get(&index) {
            Some(found) => found.clone(),
            None => exprs::column(base + place(index), data_type, name),
        }))
    }

    fn add(&mut self, right: RelRef, conditions: Vec<ExprRef>) {
        self.joins.push(PendingJoin { right, conditions });
    }

    fn call(&self, name: &str, args: Vec<ExprRef>) -> Result<ExprRef> {
        exprs::fold(exprs::call(name, args, &self.queries.zone())?)
    }

    fn scalar(&mut self, query: &Query, scope: &Scope, local: &dyn Fn(usize) -> Result<ExprRef>) -> Result<ExprRef> {
        let at = at_body(&query.body);
        let sub = self.queries.subquery(query, scope, &self.rel)?;
        if sub.visible != 1 {
            let message = format!("a subquery that stands for a value must give one column, but gives {}", sub.visible);
            return Err(Error::script(message).hint("select one column only").at_place(at));
        }
        sub.refuse_outer_output()?;
        let zone = self.queries.zone();
        if sub.conditions.is_empty() {
            let right = if gives_one_row(&sub.rel) { sub.rel } else { single_values(sub.rel, 0) };
            let value = self.column(0, &right);
            self.add(right, vec![]);
            return Ok(value);
        }
        if let Some(over_nothing) = sub.over_nothing() {
            // The conditions' columns are the groups: one row for each.
            let right = with_mark(sub.rel.clone());
            let conditions = sub.conditions.iter().map(|c| self.condition(&c.expr, &|index| index, local));
            let conditions = conditions.collect::<Result<Vec<_>>>()?;
            let (value, mark) = (self.column(0, &right), self.column(right.columns.len() - 1, &right));
            let nothing = over_nothing.first().ok_or_else(|| Error::internal("an aggregate without a value"))?;
            if !columns_read(nothing).is_empty() {
                return unsupported(
                    at,
                    "a subquery within the SELECT of one that reads columns of the query around it",
                );
            }
            let value = match nothing.as_literal().is_some_and(|value| value.null_count() == 1) {
                true => value,
                false => {
                    let nothing = exprs::cast(nothing.clone(), value.data_type().clone(), false, &zone)?;
                    let missing = self.call("IS NULL", vec![mark])?;
                    self.call("CASE", vec![missing, exprs::fold(nothing)?, value])?
                }
            };
            self.add(right, conditions);
            return Ok(value);
        }
        let keyed = sub.keyed(&[build::column(0, &sub.rel.columns[0])], &zone)?;
        let right = single_values(keyed.rel, keyed.keys);
        let conditions = keyed.conditions.iter().map(|c| self.condition(c, &|index| index, local));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        let value = self.column(keyed.keys, &right);
        self.add(right, conditions);
        Ok(value)
    }

    fn exists(&mut self, query: &Query, scope: &Scope, local: &dyn Fn(usize) -> Result<ExprRef>) -> Result<ExprRef> {
        let sub = self.queries.subquery(query, scope, &self.rel)?;
        if sub.over_nothing().is_some() {
            return Ok(build::boolean(true));
        }
        let keyed = sub.keyed(&[], &self.queries.zone())?;
        let mark = self.marked(distinct(keyed.rel), keyed.conditions, local)?;
        self.call("IS NOT NULL", vec![mark])
    }

    fn is_in(
        &mut self,
        operands: Vec<ExprRef>,
        query: &Query,
        scope: &Scope,
        local: &dyn Fn(usize) -> Result<ExprRef>,
        at: At,
    ) -> Result<ExprRef> {
        let sub = self.queries.subquery(query, scope, &self.rel)?;
        sub.check_width(operands.len(), at)?;
        sub.refuse_outer_output()?;
        let [operand] = operands.as_slice() else {
            return Err(Error::internal("IN of several columns has become another test").at_place(at));
        };
        if sub.over_nothing().is_some() && !sub.conditions.is_empty() {
            let value = self.scalar(query, scope, local)?;
            return self.call("=", vec![operand.clone(), value]);
        }
        let column = build::column(0, &sub.rel.columns[0]);
        let zone = self.queries.zone();
        let rows = sub.keyed(std::slice::from_ref(&column), &zone)?;
        let keys = rows.keys;
        let rows_of_key = distinct(rows.rel);
        let equal = self.call("=", vec![operand.clone(), self.column(keys, &rows_of_key)]).at_place(at)?;
        let mut conditions = vec![];
        for condition in &rows.conditions {
            conditions.push(self.condition(condition, &|index| index, local)?);
        }
        conditions.push(equal);
        let right = with_mark(rows_of_key);
        let mark = self.column(right.columns.len() - 1, &right);
        self.add(right, conditions);
        let found = self.call("IS NOT NULL", vec![mark])?;
        if !operand.data_type().nullable && !column.data_type().nullable {
            return Ok(found);
        }
        // Whether there are rows at all, and whether one of them is NULL.
        let is_null = self.call("IS NULL", vec![column])?;
        let one = |value: i64| exprs::literal(exprs::Value::Int(value), TypeKind::Int.not_null());
        let has_null = self.call("CASE", vec![is_null, one(1), one(0)])?;
        let nulls = sub.keyed(&[has_null], &zone)?;
        let right = aggregated(nulls.rel, keys, AggregateFunction::Max);
        let has_null = self.column(keys, &right);
        let conditions = nulls.conditions.iter().map(|c| self.condition(c, &|index| index, local));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        self.add(right, conditions);
        let empty = self.call("IS NULL", vec![has_null.clone()])?;
        let unknown = self.call("IS NULL", vec![operand.clone()])?;
        let some_null = self.call("=", vec![has_null, one(1)])?;
        let unknown = self.call("OR", vec![unknown, some_null])?;
        let (yes, no, null) = (build::boolean(true), build::boolean(false), build::null(TypeKind::Boolean));
        self.call("CASE", vec![found, yes, empty, no.clone(), unknown, null, no])
    }

    /// Whether `holds` of one of the subquery's rows, as SQL says it: NULL if it is unknown of one and TRUE of none.
    fn any(
        &mut self,
        sub: &Subquery,
        holds: ExprRef,
        local: &dyn Fn(usize) -> Result<ExprRef>,
        at: At,
    ) -> Result<ExprRef> {
        let found = self.exists_where(sub, holds.clone(), local, at)?;
        if !holds.data_type().nullable {
            return Ok(found);
        }
        let unknown = self.call("IS NULL", vec![holds])?;
        let unknown = self.exists_where(sub, unknown, local, at)?;
        let (yes, no, null) = (build::boolean(true), build::boolean(false), build::null(TypeKind::Boolean));
        self.call("CASE", vec![found, yes, unknown, null, no])
    }

    fn exists_where(
        &mut self,
        sub: &Subquery,
        holds: ExprRef,
        local: &dyn Fn(usize) -> Result<ExprRef>,
        at: At,
    ) -> Result<ExprRef> {
        let more = conjuncts(&holds).into_iter().map(|expr| Correlated { expr, at });
        let keyed = sub.with_conditions(more).keyed(&[], &self.queries.zone())?;
        let mark = self.marked(distinct(keyed.rel), keyed.conditions, local)?;
        self.call("IS NOT NULL", vec![mark])
    }

    /// `(a, b) IN (..)`, `x < ANY (..)`, `x < ALL (..)`: the test of a row, over it and the query around.
    fn quantified(
        &mut self,
        left: &Expr,
        op: &BinaryOperator,
        query: &Query,
        all: bool,
        scope: &Scope,
        local: &dyn Fn(usize) -> Result<ExprRef>,
    ) -> Result<ExprRef> {
        let at = at_expr(left);
        let zone = self.queries.zone();
        let sub = self.queries.subquery(query, scope, &self.rel)?;
        sub.refuse_outer_output()?;
        if sub.over_nothing().is_some() && !sub.conditions.is_empty() {
            return unsupported(at, "ANY, SOME or ALL here over an aggregate without GROUP BY");
        }
        let operands = self.queries.operands(left, scope)?;
        sub.check_width(operands.len(), at)?;
        let Some(name) = binary_operator(op).filter(|name| operands.len() == 1 || *name == "=") else {
            return unsupported(at, format!("{op} with ANY, SOME or ALL here"));
        };
        let mut tests = vec![];
        for (number, operand) in operands.iter().enumerate() {
            let around = renumbered(operand, &|index, data_type, name| exprs::column(OUTER + index, data_type, name));
            let column = build::column(number, &sub.rel.columns[number]);
            tests.push(exprs::call(name, vec![around, column], &zone).at_place(at)?);
        }
        let holds = all_of(tests, &zone)?.ok_or_else(|| Error::internal("a comparison of nothing"))?;
        if !all {
            return self.any(&sub, holds, local, at);
        }
        let fails = exprs::call("NOT", vec![holds], &zone)?;
        let fails = self.any(&sub, fails, local, at)?;
        self.call("NOT", vec![fails])
    }

    /// Joins a relation with at most one row for each key; gives a column that is NULL where there is none.
    fn marked(
        &mut self,
        rel: RelRef,
        conditions: Vec<ExprRef>,
        local: &dyn Fn(usize) -> Result<ExprRef>,
    ) -> Result<ExprRef> {
        let right = with_mark(rel);
        let conditions = conditions.iter().map(|c| self.condition(c, &|index| index, local));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        let mark = self.column(right.columns.len() - 1, &right);
        self.add(right, conditions);
        Ok(mark)
    }
}

impl Subqueries for Pending<'_, '_> {
    fn value(
        &mut self,
        ast: &Expr,
        operands: Vec<ExprRef>,
        scope: &Scope,
        local: &dyn Fn(usize) -> Result<ExprRef>,
    ) -> Result<ExprRef> {
        let text = ast.to_string();
        if let Some(known) = self.known.get(&text) {
            return Ok(known.clone());
        }
        let at = at_expr(ast);
        let (value, negated) = match ast {
            Expr::Subquery(query) => (self.scalar(query, scope, local)?, false),
            Expr::Exists { subquery, negated } => (self.exists(subquery, scope, local)?, *negated),
            Expr::InSubquery { expr, subquery, negated } if operands.len() > 1 => {
                (self.quantified(expr, &BinaryOperator::Eq, subquery, false, scope, local)?, *negated)
            }
            Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right } => {
                let Expr::Subquery(query) = &**right else {
                    return unsupported(at, "ANY, SOME or ALL of something that is no subquery");
                };
                let all = matches!(ast, Expr::AllOp { .. });
                (self.quantified(left, compare_op, query, all, scope, local)?, false)
            }
            Expr::InSubquery { subquery, negated, .. } => (self.is_in(operands, subquery, scope, local, at)?, *negated),
            other => return unsupported(at, format!("{other} here")),
        };
        let value = if negated { self.call("NOT", vec![value])? } else { value };
        self.known.insert(text, value.clone());
        Ok(value)
    }
}

/// Whether a relation is known to have at most one row.
fn gives_one_row(rel: &RelRef) -> bool {
    match &rel.op {
        RelOp::GroupAggregate { keys, .. } => keys.is_empty(),
        RelOp::Values { rows } => rows.len() < 2,
        RelOp::Calc { input, .. } => gives_one_row(input),
        _ => false,
    }
}

/// One row for each combination of the first `keys` columns, whose one value the next column is.
fn single_values(rel: RelRef, keys: usize) -> RelRef {
    aggregated(rel, keys, AggregateFunction::SingleValue)
}

fn aggregated(rel: RelRef, keys: usize, function: AggregateFunction) -> RelRef {
    let mut columns: Vec<Column> =
        rel.columns.iter().take(keys + 1).map(|c| Column::plain(c.name.clone(), c.data_type.clone())).collect();
    let argument = rel.columns[keys].data_type.clone();
    let result = argument.clone().with_nullable(argument.nullable || keys == 0);
    columns[keys].data_type = result.clone();
    let call =
        AggregateCall { function, args: vec![keys], arg_types: vec![argument], distinct: false, filter: None, result };
    let (keys, aggregates) = ((0..keys).collect(), vec![call]);
    Rel::new(RelOp::GroupAggregate { input: rel, keys, aggregates, ttl_ms: None }, columns)
}

/// The relation with one more column, which is TRUE.
pub(super) fn with_mark(rel: RelRef) -> RelRef {
    let (mut columns, mut project) = (rel.columns.clone(), identity(&rel));
    columns.push(Column::plain("$mark", TypeKind::Boolean.not_null()));
    project.push(build::boolean(true));
    Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns)
}
