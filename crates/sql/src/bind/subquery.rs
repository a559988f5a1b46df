//! Subqueries in expressions: IN, EXISTS and scalar ones become joins with what they read.

use super::aggregate::{Grouping, distinct};
use super::build::{self, columns_of, replace_some};
use super::expr::{ExprBinder, Outer, Scope, binary_operator};
use super::pending::{PENDING, Pending};
use super::place::{At, Placed, at_expr, unsupported};
use super::query::{QueryBinder, filtered};
use crate::parser::decode;
use crate::plan::joins::{self, all_of, conjuncts};
use crate::plan::simplify::identity;
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::graph::JoinKind;
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{BinaryOperator, Expr, Query, UnaryOperator, Visit, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// While a subquery is bound, the columns of the query around it are numbered from here.
pub const OUTER: usize = 1 << 40;

/// Whether an expression reads columns of the query around the one it stands in.
pub fn reads_outer(expr: &ExprRef) -> bool {
    columns_read(expr).iter().any(|index| (OUTER..PENDING).contains(index))
}

pub(super) fn columns_read(expr: &ExprRef) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    columns_of(expr, &mut used);
    used
}

/// Whether a subquery stands in an expression.
pub fn contains_subquery(expr: &Expr) -> bool {
    struct Subquery;
    impl Visitor for Subquery {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Subquery).is_break()
}

/// The parts of an AND, as they are written.
fn and_parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Nested(inner) => and_parts(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => [and_parts(left), and_parts(right)].concat(),
        other => vec![other],
    }
}

/// What stands in `(a, b)` or `ROW(a, b)`; else the expression itself.
pub fn row_items(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Tuple(items) => items.iter().collect(),
        Expr::Function(call) if decode::function_name(call).as_deref() == Some("ROW") => {
            decode::plain_args(call).unwrap_or_default()
        }
        one => vec![one],
    }
}

/// A condition of a subquery that reads columns of the query around it.
#[derive(Clone, Debug)]
pub struct Correlated {
    /// The condition.
    pub expr: ExprRef,
    /// Where it stands.
    pub at: At,
}

impl Correlated {
    /// The same over columns that are so many places behind.
    pub fn shifted(self, by: usize) -> Self {
        let to =
            |index, data_type, name| exprs::column(if index < OUTER { index + by } else { index }, data_type, name);
        Correlated { expr: renumbered(&self.expr, &to), at: self.at }
    }

    /// Whether it is an equality, or of the query around alone: then rows can be grouped by what it reads of them.
    fn is_keyed(&self) -> bool {
        columns_read(&self.expr).iter().all(|index| *index >= OUTER) || split_equality(&self.expr).is_some()
    }
}

/// Makes all conditions equalities: joins the rows with the distinct values that the conditions read of the query
/// around. What comes out has those at its end, by which each row of the query around finds its own.
pub(super) fn dependent(
    rel: RelRef,
    conditions: Vec<Correlated>,
    outer: &Outer,
    zone: &SessionZone,
) -> Result<(RelRef, Vec<Correlated>)> {
    if conditions.iter().all(Correlated::is_keyed) {
        return Ok((rel, conditions));
    }
    let width = rel.columns.len();
    let used: BTreeSet<usize> =
        conditions.iter().flat_map(|c| columns_read(&c.expr)).filter_map(|index| index.checked_sub(OUTER)).collect();
    let used: Vec<usize> = used.into_iter().collect();
    let of = |index: usize| &outer.scope.columns[index];
    let columns: Vec<Column> =
        used.iter().map(|i| Column::plain(of(*i).name.clone(), of(*i).data_type.clone())).collect();
    let project = used.iter().map(|index| build::column(*index, of(*index))).collect();
    let values = distinct(Rel::new(RelOp::Calc { input: outer.rel.clone(), filter: None, project }, columns));
    let place = |index: usize| used.iter().position(|i| OUTER + i == index).map_or(index, |at| width + at);
    let over =
        |c: &Correlated| renumbered(&c.expr, &|index, data_type, name| exprs::column(place(index), data_type, name));
    let condition = all_of(conditions.iter().map(over), zone)?;
    let at = conditions.first().map_or((0, 0), |condition| condition.at);
    let rel = joins::join(rel, values, JoinKind::Inner, condition, zone)?;
    let same = used.iter().enumerate().map(|(number, index)| {
        let around = build::column(OUTER + index, of(*index));
        let own = build::column(width + number, &rel.columns[width + number]);
        let expr = exprs::call("IS NOT DISTINCT FROM", vec![around, own], zone)?;
        Ok(Correlated { expr, at })
    });
    let same = same.collect::<Result<_>>()?;
    Ok((rel, same))
}

/// What the query that was bound last has to do with the query around it.
#[derive(Debug, Default)]
pub struct Correlation {
    /// How many columns it gives, if conditions made it give more behind them.
    visible: Option<usize>,
    /// Conditions over its columns and those of the query around it.
    conditions: Vec<Correlated>,
    /// If it is an aggregate over all rows: what it gives over none.
    over_nothing: Option<Vec<ExprRef>>,
    /// What in its SELECT reads the query around it.
    outer_output: Option<At>,
}

impl Correlation {
    /// How many columns the query gives, the conditions, and an error if it reads the query around it elsewhere.
    pub fn in_from(self, columns: usize) -> Result<(usize, Vec<Correlated>)> {
        if let Some(at) = self.outer_output {
            return unsupported(at, "a column of the query around it in the SELECT of a subquery in FROM");
        }
        if self.over_nothing.is_some() {
            self.refuse("an aggregate of all rows in FROM")?;
        }
        Ok((self.visible.unwrap_or(columns), self.conditions))
    }

    /// Whether the query is an aggregate over all rows.
    pub fn is_of_all_rows(&self) -> bool {
        self.over_nothing.is_some()
    }

    /// An error if the query reads columns of the query around it, which `what` doesn't allow.
    pub fn refuse(&self, what: &str) -> Result<()> {
        match self.conditions.first() {
            Some(first) => Err(Error::unsupported(format!("{what} in a subquery that reads the query around it"))
                .hint("join with the table instead")
                .at_place(first.at)),
            None => Ok(()),
        }
    }
}

/// A bound subquery.
#[derive(Clone)]
pub(super) struct Subquery {
    /// What it gives, and columns behind that for its conditions.
    pub rel: RelRef,
    /// How many columns it gives.
    pub visible: usize,
    /// Its conditions over `rel` and the columns of the query around it.
    pub conditions: Vec<Correlated>,
    over_nothing: Option<Vec<ExprRef>>,
    outer_output: Option<At>,
    outer: Arc<Outer>,
}

/// A subquery's rows, whose first columns must each equal something of the query around it.
pub(super) struct Keyed {
    pub rel: RelRef,
    /// How many columns are keys.
    pub keys: usize,
    pub conditions: Vec<ExprRef>,
}

impl Subquery {
    /// The same rows under more conditions.
    pub(super) fn with_conditions(&self, more: impl IntoIterator<Item = Correlated>) -> Self {
        let conditions = self.conditions.iter().cloned().chain(more).collect();
        Subquery { conditions, ..self.clone() }
    }

    /// If it is an aggregate over all rows: what it gives over none.
    pub(super) fn over_nothing(&self) -> Option<&[ExprRef]> {
        self.over_nothing.as_deref()
    }

    /// An error if something in SELECT reads the query around it.
    pub(super) fn refuse_outer_output(&self) -> Result<()> {
        match self.outer_output {
            Some(at) => Err(Error::unsupported("a column of the query around it in a subquery's SELECT")
                .hint("such columns are read in the subquery's WHERE")
                .at_place(at)),
            None => Ok(()),
        }
    }

    /// An error if it doesn't give so many columns.
    pub(super) fn check_width(&self, expected: usize, at: At) -> Result<()> {
        match self.visible {
            n if n == expected => Ok(()),
            n => Err(Error::script(format!("IN compares {expected} value(s) with {n} column(s) of the subquery"))
                .hint("the subquery must give a column for each value: (a, b) IN (SELECT x, y ..)")
                .at_place(at)),
        }
    }

    /// Its rows as `values`, and keys that equal something of the query around it.
    pub(super) fn keyed(&self, values: &[ExprRef], zone: &SessionZone) -> Result<Keyed> {
        let (rel, correlated) = dependent(self.rel.clone(), self.conditions.clone(), &self.outer, zone)?;
        let (mut project, mut columns, mut conditions) = (vec![], vec![], vec![]);
        for Correlated { expr, .. } in &correlated {
            let Some((_, inner)) = split_equality(expr) else {
                conditions.push(expr.clone());
                continue;
            };
            let key = Column::plain(format!("$key{}", project.len()), inner.data_type().clone());
            conditions.push(with_inner(expr, build::column(project.len(), &key)));
            columns.push(key);
            project.push(inner);
        }
        let keys = project.len();
        for (number, value) in values.iter().enumerate() {
            columns.push(Column::plain(format!("$value{number}"), value.data_type().clone()));
            project.push(value.clone());
        }
        if project.is_empty() {
            columns.push(Column::plain("$any", TypeKind::Boolean.not_null()));
            project.push(build::boolean(true));
        }
        let rel = Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns);
        Ok(Keyed { rel, keys, conditions })
    }

    /// The condition over a join of the query around it with `rel`, whose column i is now at `place(i)`.
    pub(super) fn condition(&self, left: &[Column], place: &dyn Fn(usize) -> usize) -> Vec<ExprRef> {
        let over = |c: &Correlated| {
            renumbered(&c.expr, &|index, data_type, name| match index.checked_sub(OUTER) {
                Some(index) => build::column(index, &left[index]),
                None => exprs::column(left.len() + place(index), data_type, name),
            })
        };
        self.conditions.iter().map(over).collect()
    }
}

/// The expression with each column replaced by what `to` makes of its number, type and name.
pub(super) fn renumbered(expr: &ExprRef, to: &dyn Fn(usize, millstream_core::DataType, String) -> ExprRef) -> ExprRef {
    if let Some(index) = expr.as_column() {
        return to(index, expr.data_type().clone(), expr.to_string());
    }
    let children = expr.children();
    if children.is_empty() {
        return expr.clone();
    }
    let children = children.into_iter().map(|child| renumbered(child, to)).collect();
    expr.with_children(children)
}

/// The side of an equality that reads the query around, and the one that reads the subquery's own columns.
fn split_equality(expr: &ExprRef) -> Option<(ExprRef, ExprRef)> {
    if !matches!(expr.as_call(), Some("=" | "IS NOT DISTINCT FROM")) {
        return None;
    }
    let children = expr.children();
    let [a, b] = children.as_slice() else { return None };
    let is_outer = |e: &ExprRef| columns_read(e).iter().all(|index| *index >= OUTER);
    let is_inner = |e: &ExprRef| columns_read(e).iter().all(|index| *index < OUTER);
    match (is_outer(a) && is_inner(b), is_outer(b) && is_inner(a)) {
        (_, true) => Some(((*b).clone(), (*a).clone())),
        (true, false) => Some(((*a).clone(), (*b).clone())),
        _ => None,
    }
}

/// An equality with another expression in place of its inner side.
fn with_inner(expr: &ExprRef, inner: ExprRef) -> ExprRef {
    let is_inner = |e: &ExprRef| columns_read(e).iter().all(|index| *index < OUTER);
    let sides = expr.children().into_iter().map(|side| if is_inner(side) { inner.clone() } else { side.clone() });
    expr.with_children(sides.collect())
}

impl QueryBinder<'_> {
    /// Binds a subquery, in which the columns of `scope` can be read.
    pub(super) fn subquery(&mut self, query: &Query, scope: &Scope, rel: &RelRef) -> Result<Subquery> {
        let around = Arc::new(Outer { scope: scope.clone(), rel: rel.clone(), refused: None });
        let outer = self.outer.replace(around.clone());
        let before = std::mem::take(&mut self.correlation);
        let rel = self.query(query);
        let correlation = std::mem::replace(&mut self.correlation, before);
        self.outer = outer;
        let rel = rel?;
        let visible = correlation.visible.unwrap_or(rel.columns.len());
        let Correlation { conditions, over_nothing, outer_output, .. } = correlation;
        Ok(Subquery { rel, visible, conditions, over_nothing, outer_output, outer: around })
    }

    /// Binds something in which the columns of the query around can't be read, because it is `what`.
    pub(super) fn without_outer<T>(
        &mut self,
        what: &'static str,
        bind: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let outer = self.outer.clone();
        if let Some(around) = &outer {
            let (scope, rel) = (around.scope.clone(), around.rel.clone());
            self.outer = Some(Arc::new(Outer { scope, rel, refused: Some(what) }));
        }
        let result = bind(self);
        self.outer = outer;
        result
    }

    /// WHERE: filters `input`, or joins it with the condition's subqueries. Gives what reads the query around.
    pub(super) fn where_clause(
        &mut self,
        condition: &Expr,
        input: &mut RelRef,
        scope: &mut Scope,
    ) -> Result<Vec<Correlated>> {
        let zone = self.zone();
        if scope.outer.is_none() && !contains_subquery(condition) {
            let filter = ExprBinder::new(scope, zone).bind_condition(condition, "WHERE")?;
            *input = filtered(input.clone(), filter, scope, &zone)?;
            return Ok(vec![]);
        }
        let (mut correlated, mut local, mut with_subquery) = (vec![], vec![], vec![]);
        for part in and_parts(condition) {
            if contains_subquery(part) {
                with_subquery.push(part);
                continue;
            }
            let at = at_expr(part);
            for expr in conjuncts(&ExprBinder::new(scope, zone).bind_condition(part, "WHERE")?) {
                if reads_outer(&expr) {
                    correlated.push(Correlated { expr, at });
                } else {
                    local.push(expr);
                }
            }
        }
        if let Some(filter) = all_of(local, &zone)? {
            *input = filtered(input.clone(), filter, scope, &zone)?;
        }
        for part in with_subquery {
            *input = self.subquery_condition(part, false, input.clone(), scope)?;
            scope.columns.clone_from(&input.columns);
        }
        Ok(correlated)
    }

    /// The rows for which a condition with a subquery holds.
    fn subquery_condition(&mut self, part: &Expr, negated: bool, input: RelRef, scope: &Scope) -> Result<RelRef> {
        let at = at_expr(part);
        match part {
            Expr::Nested(inner) => self.subquery_condition(inner, negated, input, scope),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.subquery_condition(expr, !negated, input, scope),
            Expr::Exists { subquery, negated: not } => self.exists(subquery, negated != *not, input, scope),
            Expr::InSubquery { expr, subquery, negated: not } if !contains_subquery(expr) => {
                let sub = self.subquery(subquery, scope, &input)?;
                if sub.over_nothing.is_some() && !sub.conditions.is_empty() {
                    return self.general_condition(part, negated, input, scope);
                }
                let operands = self.operands(expr, scope)?;
                sub.check_width(operands.len(), at)?;
                self.is_in(&operands, &sub, negated != *not, input, at)
            }
            Expr::AnyOp { left, compare_op, right, .. } => {
                self.quantified(left, compare_op, right, false, negated, input, scope, at)
            }
            Expr::AllOp { left, compare_op, right } => {
                self.quantified(left, compare_op, right, true, negated, input, scope, at)
            }
            other => self.general_condition(other, negated, input, scope),
        }
    }

    /// What stands before IN.
    pub(super) fn operands(&self, expr: &Expr, scope: &Scope) -> Result<Vec<ExprRef>> {
        let items = row_items(expr);
        let mut binder = ExprBinder::new(scope, self.zone());
        let mut operands = vec![];
        for item in items {
            let bound = binder.bind(item)?;
            if reads_outer(&bound) {
                return unsupported(at_expr(item), "a column of the query around it before IN");
            }
            operands.push(bound);
        }
        Ok(operands)
    }

    /// The condition's subqueries become columns.
    fn general_condition(&mut self, part: &Expr, negated: bool, input: RelRef, scope: &Scope) -> Result<RelRef> {
        let (zone, at) = (self.zone(), at_expr(part));
        let mut pending = Pending::new(self, input.clone());
        let mut binder = ExprBinder { scope, zone, grouping: None, subqueries: Some(&mut pending), overs: None };
        let mut condition = binder.bind_condition(part, "WHERE")?;
        if negated {
            condition = exprs::call("NOT", vec![condition], &zone)?;
        }
        if reads_outer(&condition) || pending.conditions_mut().any(|c| reads_outer(c)) {
            return unsupported(at, "a condition with a subquery that reads columns of the query around it");
        }
        let width = input.columns.len();
        let (rel, mut bound) = pending.join(input, vec![condition])?;
        let project = identity(&rel).into_iter().take(width).collect();
        let columns = rel.columns[..width].to_vec();
        Ok(Rel::new(RelOp::Calc { input: rel, filter: bound.pop(), project }, columns))
    }

    fn exists(&mut self, query: &Query, negated: bool, input: RelRef, scope: &Scope) -> Result<RelRef> {
        let zone = self.zone();
        let sub = self.subquery(query, scope, &input)?;
        if sub.over_nothing.is_some() {
            // An aggregate over all rows always gives one.
            return Ok(if negated { Rel::filter(input, build::boolean(false)) } else { input });
        }
        let kind = if negated { JoinKind::Anti } else { JoinKind::Semi };
        let hidden = sub.rel.columns.len() - sub.visible;
        if hidden == 0 {
            let any = sub.keyed(&[], &zone)?;
            let condition = all_of(sub.condition(&input.columns, &|index| index), &zone)?;
            return joins::join(input, distinct(any.rel), kind, condition, &zone);
        }
        let project = (sub.visible..sub.rel.columns.len()).map(|i| build::column(i, &sub.rel.columns[i])).collect();
        let columns = sub.rel.columns[sub.visible..].to_vec();
        let right = Rel::new(RelOp::Calc { input: sub.rel.clone(), filter: None, project }, columns);
        let condition = sub.condition(&input.columns, &|index| index - sub.visible);
        joins::join(input, right, kind, all_of(condition, &zone)?, &zone)
    }

    fn is_in(&mut self, operands: &[ExprRef], sub: &Subquery, negated: bool, input: RelRef, at: At) -> Result<RelRef> {
        sub.refuse_outer_output()?;
        let zone = self.zone();
        let width = input.columns.len();
        let mut equal = vec![];
        for (number, operand) in operands.iter().enumerate() {
            let column = build::column(width + number, &sub.rel.columns[number]);
            equal.push(exprs::call("=", vec![operand.clone(), column], &zone).at_place(at)?);
        }
        let correlated = sub.condition(&input.columns, &|index| index);
        let with = |first: Vec<ExprRef>| all_of(first.into_iter().chain(correlated.clone()), &zone);
        let nullable = |index: usize| sub.rel.columns[index].data_type.nullable;
        let may_be_null =
            operands.iter().enumerate().any(|(index, operand)| operand.data_type().nullable || nullable(index));
        match operands {
            _ if !negated => joins::join(input, sub.rel.clone(), JoinKind::Semi, with(equal)?, &zone),
            _ if !may_be_null => joins::join(input, sub.rel.clone(), JoinKind::Anti, with(equal)?, &zone),
            // `x NOT IN (..)` is TRUE of rows that equal none, if neither x nor one of the others is NULL: the rows'
            // keys can be looked up, and for the NULLs there is one row at most of each kind.
            [operand] => {
                let rest = joins::join(input, sub.rel.clone(), JoinKind::Anti, with(equal)?, &zone)?;
                let column = build::column(0, &sub.rel.columns[0]);
                let mut project = vec![exprs::call("IS NULL", vec![column], &zone)?];
                let mut columns = vec![Column::plain("$is_null", TypeKind::Boolean.not_null())];
                for index in sub.visible..sub.rel.columns.len() {
                    project.push(build::column(index, &sub.rel.columns[index]));
                    columns.push(sub.rel.columns[index].clone());
                }
                let nulls = Rel::new(RelOp::Calc { input: sub.rel.clone(), filter: None, project }, columns);
                let nulls = distinct(nulls);
                let own = exprs::call("IS NULL", vec![operand.clone()], &zone)?;
                let either = exprs::call("OR", vec![own, build::column(width, &nulls.columns[0])], &zone)?;
                let mut condition = vec![exprs::fold(either)?];
                condition.extend(sub.condition(&rest.columns, &|index| index - sub.visible + 1));
                joins::join(rest, nulls, JoinKind::Anti, all_of(condition, &zone)?, &zone)
            }
            _ => {
                let Some(equal) = all_of(equal, &zone)? else { return Ok(input) };
                let may_equal = exprs::call("IS NOT FALSE", vec![equal], &zone)?;
                joins::join(input, sub.rel.clone(), JoinKind::Anti, with(vec![may_equal])?, &zone)
            }
        }
    }

    /// `x < ANY (..)` and `x < ALL (..)`
    #[allow(clippy::too_many_arguments)] // it is one arm of `subquery_condition`
    fn quantified(
        &mut self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        all: bool,
        negated: bool,
        input: RelRef,
        scope: &Scope,
        at: At,
    ) -> Result<RelRef> {
        let Expr::Subquery(query) = right else {
            return unsupported(at, "ANY, SOME or ALL of something that is no subquery");
        };
        let zone = self.zone();
        let sub = self.subquery(query, scope, &input)?;
        if sub.over_nothing.is_some() && !sub.conditions.is_empty() {
            let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
            let compared = Expr::BinaryOp { left, op: op.clone(), right };
            return self.general_condition(&compared, negated, input, scope);
        }
        let operands = self.operands(left, scope)?;
        sub.check_width(operands.len(), at)?;
        match (op, all) {
            (BinaryOperator::Eq, false) => return self.is_in(&operands, &sub, negated, input, at),
            (BinaryOperator::NotEq, true) => return self.is_in(&operands, &sub, !negated, input, at),
            _ => {}
        }
        sub.refuse_outer_output()?;
        let (Some(name), [operand]) = (binary_operator(op), operands.as_slice()) else {
            return unsupported(at, format!("ANY, SOME or ALL after {op}"));
        };
        let column = build::column(input.columns.len(), &sub.rel.columns[0]);
        let holds = exprs::call(name, vec![operand.clone(), column], &zone).at_place(at)?;
        // Of ALL: no row for which it is not TRUE; of NOT ALL: one for which it is FALSE; of NOT ANY: none but FALSE.
        let (kind, test) = match (all, negated) {
            (false, false) => (JoinKind::Semi, None),
            (false, true) => (JoinKind::Anti, Some("IS NOT FALSE")),
            (true, false) => (JoinKind::Anti, Some("IS NOT TRUE")),
            (true, true) => (JoinKind::Semi, Some("IS FALSE")),
        };
        let holds = match test {
            Some(test) => exprs::call(test, vec![holds], &zone)?,
            None => holds,
        };
        let mut condition = vec![holds];
        condition.extend(sub.condition(&input.columns, &|index| index));
        joins::join(input, sub.rel, kind, all_of(condition, &zone)?, &zone)
    }
}

/// What a SELECT gives to the query around it: adds columns that its conditions need behind `bound`.
pub(super) fn correlate(
    conditions: Vec<Correlated>,
    scope: &Scope,
    bound: &mut Vec<ExprRef>,
    names: &mut Vec<String>,
    mut grouping: Option<&mut Grouping>,
    at: At,
) -> Result<Correlation> {
    if scope.outer.is_none() {
        return Ok(Correlation::default());
    }
    let mut correlation = Correlation { visible: Some(bound.len()), ..Correlation::default() };
    for output in bound.iter_mut().filter(|output| reads_outer(output)) {
        correlation.outer_output = Some(at);
        *output = build::null(output.data_type().kind.clone());
    }
    if let Some(grouping) = grouping.as_deref().filter(|grouping| grouping.is_global()) {
        let values = bound.iter().map(|output| grouping.over_nothing(output)).collect::<Result<Vec<_>>>()?;
        correlation.over_nothing = Some(values);
    }
    let mut give = |expr: ExprRef| -> ExprRef {
        let column = Column::plain(format!("$outer{}", bound.len()), expr.data_type().clone());
        bound.push(expr);
        names.push(column.name.clone());
        build::column(bound.len() - 1, &column)
    };
    for Correlated { expr, at } in conditions {
        let inner = columns_read(&expr).into_iter().filter(|index| *index < OUTER);
        let expr = match grouping.as_deref_mut() {
            None => {
                let places: BTreeMap<usize, ExprRef> =
                    inner.map(|index| (index, give(build::column(index, &scope.columns[index])))).collect();
                replace_some(&expr, &|index| places.get(&index).cloned())
            }
            Some(_) if inner.count() == 0 => expr,
            Some(grouping) => match split_equality(&expr) {
                Some((_, own)) => with_inner(&expr, give(grouping.add_key(own))),
                None => {
                    return Err(Error::internal("a condition that groups can't be told by").at_place(at));
                }
            },
        };
        correlation.conditions.push(Correlated { expr, at });
    }
    Ok(correlation)
}
