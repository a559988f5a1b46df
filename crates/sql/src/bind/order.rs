//! ORDER BY, LIMIT, OFFSET and FETCH at the end of a query.

use super::build;
use super::expr::{ExprBinder, Scope};
use super::over::{Ordering, over, whole_number};
use super::place::{At, Placed, at_expr, at_span, error, unsupported};
use super::query::QueryBinder;
use crate::plan::ranks::first_rows;
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use millstream_core::graph::SortKey;
use millstream_core::{Error, ExprRef, Result};
use sqlparser::ast::{Expr, LimitClause, OrderByExpr, OrderByKind, Query, SetExpr, Spanned};

/// A query's rows, of which those behind the first `visible` columns are there for the order only.
pub struct Body {
    /// The rows.
    pub rel: RelRef,
    /// How many columns the query has.
    pub visible: usize,
    /// The order.
    pub order: Vec<SortKey>,
}

/// The output column that an expression of ORDER BY names, by its number or its name.
pub fn output_column(expr: &Expr, names: &[&str]) -> Result<Option<usize>> {
    if let Some(number) = whole_number(expr) {
        return match usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < names.len()) {
            Some(index) => Ok(Some(index)),
            None => error(at_expr(expr), format!("ORDER BY {number}, but the query has {} columns", names.len())),
        };
    }
    match expr {
        Expr::Identifier(ident) => Ok(names.iter().position(|name| *name == ident.value)),
        _ => Ok(None),
    }
}

/// The column of `outputs` that is ordered by; an expression that is none of them becomes one behind them.
pub fn sort_key(ordering: Ordering, outputs: &mut Vec<ExprRef>) -> SortKey {
    let column = outputs.iter().position(|e| build::same(e, &ordering.expr)).unwrap_or_else(|| {
        outputs.push(ordering.expr.clone());
        outputs.len() - 1
    });
    SortKey { column, descending: ordering.descending, nulls_first: ordering.nulls_first }
}

impl QueryBinder<'_> {
    /// Binds a query's body with its ORDER BY, and cuts off what LIMIT does; `is_outermost`: its rows are the
    /// statement's.
    pub(super) fn ordered(&mut self, query: &Query, is_outermost: bool) -> Result<RelRef> {
        let order_by: &[OrderByExpr] = match query.order_by.as_ref().map(|o| (&o.kind, o.span())) {
            None => &[],
            Some((OrderByKind::Expressions(exprs), _)) => exprs,
            Some((OrderByKind::All(_), span)) => return unsupported(at_span(span), "ORDER BY ALL"),
        };
        let body = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, at_span(select.select_token.0.span), order_by)?,
            body => {
                let rel = self.set_expr(body)?;
                self.order_outputs(rel, order_by)?
            }
        };
        let range = range(query)?;
        let Body { rel, visible, order } = body;
        let rel = match (range, order_by.first()) {
            (Some((_, 0)), _) => Rel::filter(rel, build::boolean(false)),
            (Some((from, to)), _) => {
                let roles: Vec<Role> = order.iter().map(|key| rel.columns[key.column].role).collect();
                let columns = rel.columns.clone();
                Rel::new(RelOp::Rank { rank: first_rows(&order, &roles, from, to), input: rel }, columns)
            }
            (None, Some(first)) if is_outermost => sorted(rel, order, at_expr(&first.expr))?,
            // Nobody sees the order of a query within another one.
            (None, _) => rel,
        };
        if rel.columns.len() == visible {
            return Ok(rel);
        }
        let columns = rel.columns[..visible].to_vec();
        let project = columns.iter().enumerate().map(|(i, c)| build::column(i, c)).collect();
        Ok(Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns))
    }

    /// The order of rows whose columns are all that it can name.
    fn order_outputs(&mut self, rel: RelRef, order_by: &[OrderByExpr]) -> Result<Body> {
        let visible = rel.columns.len();
        let scope = Scope::of(None, &rel.columns);
        let names: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
        let mut project: Vec<ExprRef> = rel.columns.iter().enumerate().map(|(i, c)| build::column(i, c)).collect();
        let mut order = vec![];
        for item in order_by {
            let expr = match output_column(&item.expr, &names)? {
                Some(index) => build::column(index, &rel.columns[index]),
                None => ExprBinder::new(&scope, self.zone()).bind(&item.expr)?,
            };
            order.push(sort_key(Ordering::new(expr, item)?, &mut project));
        }
        if project.len() == visible {
            return Ok(Body { rel, visible, order });
        }
        let mut columns = rel.columns.clone();
        columns.extend(project[visible..].iter().map(|e| Column::plain("$order", e.data_type().clone())));
        let rel = Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns);
        Ok(Body { rel, visible, order })
    }
}

/// All rows in their order: a stream has none but that of time.
fn sorted(rel: RelRef, order: Vec<SortKey>, at: At) -> Result<RelRef> {
    let refused = |message: &str| {
        Err(Error::script(message)
            .detail("a stream has no end at which its rows could be sorted")
            .hint("ORDER BY the event-time attribute, ascending; or take the first rows only: ORDER BY .. LIMIT 10")
            .at_place(at))
    };
    let Some(first) = order.first() else { return Ok(rel) };
    let column = &rel.columns[first.column];
    if !column.is_time_attribute() {
        return refused("ORDER BY a column that is no time attribute needs a LIMIT");
    }
    if first.descending {
        return refused("ORDER BY a time attribute must be ascending");
    }
    if column.is_proctime() {
        // Rows arrive in this order.
        return Ok(rel);
    }
    let columns = rel.columns.clone();
    Ok(over(rel, vec![], order, vec![], columns, at))
}

/// The first and the last row that come out, from 1; `(1, 0)` for none; `None` for all.
fn range(query: &Query) -> Result<Option<(u64, u64)>> {
    let number = |expr: &Expr, what: &str| match whole_number(expr) {
        Some(number) => Ok(number),
        None => error(at_expr(expr), format!("{what} must be a whole number, written out")),
    };
    let mut limit = None;
    let mut offset = 0;
    match &query.limit_clause {
        None => {}
        Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty() => {
            return unsupported(at_expr(&limit_by[0]), "LIMIT BY");
        }
        Some(LimitClause::LimitOffset { limit: rows, offset: skipped, .. }) => {
            if let Some(rows) = rows {
                limit = Some((number(rows, "LIMIT")?, at_expr(rows)));
            }
            if let Some(skipped) = skipped {
                offset = number(&skipped.value, "OFFSET")?;
                if limit.is_none() && query.fetch.is_none() {
                    return Err(Error::unsupported("OFFSET without LIMIT over a stream")
                        .hint("add LIMIT, or FETCH NEXT 10 ROWS ONLY")
                        .at_place(at_expr(&skipped.value)));
                }
            }
        }
        Some(LimitClause::OffsetCommaLimit { offset, .. }) => {
            return Err(Error::unsupported("LIMIT with a comma")
                .hint("write LIMIT 10 OFFSET 5")
                .at_place(at_expr(offset)));
        }
    }
    if let Some(fetch) = &query.fetch {
        let at = fetch.quantity.as_ref().map_or((0, 0), at_expr);
        if fetch.with_ties || fetch.percent {
            return unsupported(at, "FETCH with PERCENT or WITH TIES");
        }
        let rows = fetch.quantity.as_ref().map_or(Ok(1), |rows| number(rows, "FETCH"))?;
        limit = Some((rows, at));
    }
    let Some((limit, at)) = limit else { return Ok(None) };
    if limit == 0 {
        return Ok(Some((1, 0)));
    }
    match offset.checked_add(limit).filter(|to| i64::try_from(*to).is_ok()) {
        Some(to) => Ok(Some((offset + 1, to))),
        None => error(at, "LIMIT and OFFSET are too large"),
    }
}
