//! Binding queries: FROM, WHERE, GROUP BY, HAVING, SELECT, UNION ALL, VALUES, WITH, views.

use super::aggregate::{Grouping, contains_aggregate, distinct};
use super::build;
use super::expr::{ExprBinder, Scope, known_type};
use super::place::{At, Placed, at_expr, at_ident, at_name, at_span, error, parts, unsupported};
use super::window::window_function;
use crate::catalog::{Catalog, Relation, Table};
use crate::parser::decode;
use crate::plan::joins;
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use millstream_core::connector::{ConnectorRegistry, SessionInfo};
use millstream_core::graph::JoinKind;
use millstream_core::suggest::did_you_mean;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result};
use millstream_expr::build as exprs;
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator,
    SetQuantifier, Spanned, TableAlias, TableFactor, TableWithJoins,
};
use std::sync::Arc;

/// Binds queries against a catalog.
pub struct QueryBinder<'a> {
    /// Tables and views.
    pub catalog: &'a Catalog,
    /// Connectors.
    pub registry: &'a dyn ConnectorRegistry,
    /// For connectors, and the time zone.
    pub session: &'a SessionInfo,
    zone: SessionZone,
    /// The common table expressions in sight, innermost last.
    ctes: Vec<(String, RelRef)>,
    /// The views being bound.
    views: Vec<String>,
}

impl<'a> QueryBinder<'a> {
    /// A binder; an error if the session's time zone is none.
    pub fn new(catalog: &'a Catalog, registry: &'a dyn ConnectorRegistry, session: &'a SessionInfo) -> Result<Self> {
        let zone = session.time_zone.parse()?;
        Ok(QueryBinder { catalog, registry, session, zone, ctes: vec![], views: vec![] })
    }

    /// The session's time zone.
    pub fn zone(&self) -> SessionZone {
        self.zone
    }

    /// Binds a query.
    pub fn query(&mut self, query: &Query) -> Result<RelRef> {
        let depth = self.ctes.len();
        let result = self.query_in_scope(query);
        self.ctes.truncate(depth);
        result
    }

    fn query_in_scope(&mut self, query: &Query) -> Result<RelRef> {
        if let Some(with) = &query.with {
            if with.recursive {
                return unsupported(at_span(with.with_token.0.span), "WITH RECURSIVE");
            }
            for cte in &with.cte_tables {
                let bound = self.query(&cte.query)?;
                let names: Vec<_> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
                let bound = rename(bound, &names.iter().map(|i| i.value.as_str()).collect::<Vec<_>>())
                    .at_place(at_ident(&cte.alias.name))?;
                self.ctes.push((cte.alias.name.value.clone(), bound));
            }
        }
        let rel = self.set_expr(&query.body)?;
        if let Some(order_by) = &query.order_by {
            let at = at_span(order_by.span());
            return Err(Error::unsupported("ORDER BY")
                .hint("a stream has no end to sort at; rows come in the order of their results")
                .at_place(at));
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            return unsupported(at_body(&query.body), "LIMIT");
        }
        Ok(rel)
    }

    fn set_expr(&mut self, body: &SetExpr) -> Result<RelRef> {
        let at = at_body(body);
        match body {
            SetExpr::Select(select) => self.select(select, at),
            SetExpr::Query(query) => self.query(query),
            SetExpr::Values(values) => {
                let rows: Vec<&[Expr]> = values.rows.iter().map(|r| r.content.as_slice()).collect();
                self.values(&rows, at)
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let right_at = at_body(right);
                match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => {
                        let left = self.set_expr(left)?;
                        let right = self.set_expr(right)?;
                        self.union(left, right, right_at)
                    }
                    (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => {
                        let left = self.set_expr(left)?;
                        let right = self.set_expr(right)?;
                        Ok(distinct(self.union(left, right, right_at)?))
                    }
                    (op, _) => unsupported(right_at, op.to_string()),
                }
            }
            other => unsupported(at, format!("{other} as a query")),
        }
    }

    fn union(&self, left: RelRef, right: RelRef, at: At) -> Result<RelRef> {
        let (n, m) = (left.columns.len(), right.columns.len());
        if n != m {
            return error(at, format!("the two sides of UNION ALL have different numbers of columns: {n} and {m}"));
        }
        let mut columns = vec![];
        for (number, (l, r)) in left.columns.iter().zip(&right.columns).enumerate() {
            let Some(data_type) = exprs::common_type(&[l.data_type.clone(), r.data_type.clone()]) else {
                let (l, r) = (&l.data_type, &r.data_type);
                return error(
                    at,
                    format!("column {} of UNION ALL is {l} on one side and {r} on the other", number + 1),
                );
            };
            let role = match (l.role, r.role) {
                (a, b) if a == b => a,
                _ if l.is_time_attribute() && r.is_time_attribute() && !l.is_proctime() && !r.is_proctime() => {
                    Role::RowTime
                }
                _ => Role::Plain,
            };
            columns.push(Column { name: l.name.clone(), data_type, role });
        }
        let cast = |rel: RelRef| self.cast_to(rel, &columns);
        let mut inputs = vec![];
        for side in [cast(left)?, cast(right)?] {
            match &side.op {
                RelOp::Union { inputs: inner } => inputs.extend(inner.iter().cloned()),
                _ => inputs.push(side),
            }
        }
        Ok(Rel::new(RelOp::Union { inputs }, columns))
    }

    /// Casts each column to another type where it isn't of it.
    fn cast_to(&self, rel: RelRef, to: &[Column]) -> Result<RelRef> {
        if rel.columns.iter().zip(to).all(|(a, b)| a.data_type.kind == b.data_type.kind) {
            return Ok(rel);
        }
        let mut project = vec![];
        for (i, (from, to)) in rel.columns.iter().zip(to).enumerate() {
            let column = build::column(i, from);
            project.push(match from.data_type.kind == to.data_type.kind {
                true => column,
                false => {
                    let target = to.data_type.clone().with_nullable(from.data_type.nullable);
                    exprs::cast(column, target, false, &self.zone)?
                }
            });
        }
        Ok(Rel::new(RelOp::Calc { input: rel, filter: None, project }, to.to_vec()))
    }

    fn values(&mut self, rows: &[&[Expr]], at: At) -> Result<RelRef> {
        let scope = Scope::default();
        let mut bound: Vec<Vec<ExprRef>> = vec![];
        for row in rows {
            let row_at = row.first().map_or(at, at_expr);
            let mut binder = ExprBinder::new(&scope, self.zone);
            let cells = row.iter().map(|e| binder.bind(e)).collect::<Result<Vec<_>>>()?;
            if bound.first().is_some_and(|first| first.len() != cells.len()) {
                return error(row_at, "the rows of VALUES have different numbers of columns");
            }
            bound.push(cells);
        }
        let width = bound.first().map_or(0, Vec::len);
        let mut columns = vec![];
        for i in 0..width {
            let types: Vec<DataType> = bound.iter().map(|r| r[i].data_type().clone()).collect();
            let Some(data_type) = exprs::common_type(&types) else {
                let shown: Vec<String> = types.iter().map(ToString::to_string).collect();
                let message = format!("column {} of VALUES has different types: {}", i + 1, shown.join(", "));
                return error(at, message);
            };
            if matches!(data_type.kind, millstream_core::TypeKind::Null) {
                known_type(&bound[0][i], at)?;
            }
            for row in &mut bound {
                if row[i].data_type().kind != data_type.kind {
                    let target = data_type.clone().with_nullable(row[i].data_type().nullable);
                    row[i] = exprs::fold(exprs::cast(row[i].clone(), target, false, &self.zone)?)?;
                }
            }
            columns.push(Column::plain(format!("EXPR${i}"), data_type));
        }
        Ok(Rel::new(RelOp::Values { rows: bound }, columns))
    }

    /// FROM: the relation and what names mean in it.
    fn from(&mut self, from: &[TableWithJoins], at: At) -> Result<(RelRef, Scope)> {
        match from {
            [] => {
                let rel = Rel::new(RelOp::Values { rows: vec![vec![]] }, vec![]);
                Ok((rel, Scope::default()))
            }
            [first, rest @ ..] => {
                let mut bound = self.table_with_joins(first, at)?;
                for other in rest {
                    let (rel, scope) = self.table_with_joins(other, at)?;
                    let both = bound.1.joined(scope);
                    bound = (joins::join(bound.0, rel, JoinKind::Inner, None, &self.zone)?, both);
                }
                Ok(bound)
            }
        }
    }

    fn table_with_joins(&mut self, table: &TableWithJoins, at: At) -> Result<(RelRef, Scope)> {
        let mut bound = self.factor(&table.relation, at)?;
        for join in &table.joins {
            bound = self.join(bound, join, at_factor(&join.relation, at))?;
        }
        Ok(bound)
    }

    /// A table, or joins in parentheses, and what names mean in it.
    pub(super) fn factor(&mut self, factor: &TableFactor, at: At) -> Result<(RelRef, Scope)> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.table_with_joins(table_with_joins, at),
            TableFactor::NestedJoin { .. } => unsupported(at, "an alias for joins in parentheses"),
            _ => {
                let (rel, alias) = self.table(factor, at)?;
                let scope = Scope::of(alias.as_deref(), &rel.columns);
                Ok((rel, scope))
            }
        }
    }

    fn table(&mut self, factor: &TableFactor, at: At) -> Result<(RelRef, Option<String>)> {
        match factor {
            TableFactor::Table { name, alias, args: None, version: None, sample: None, with_hints, .. } => {
                let hints = decode::table_hints(with_hints)?;
                let mut options = vec![];
                for hint in &hints {
                    if hint.name != "OPTIONS" {
                        return unsupported((hint.line, hint.column), format!("the hint {}", hint.name));
                    }
                    options.extend(hint.options.iter().cloned());
                }
                let simple = parts(name);
                let cte = match simple.as_slice() {
                    [single] => self.ctes.iter().rev().find(|(n, _)| n == single).map(|(_, rel)| rel.clone()),
                    _ => None,
                };
                let rel = match cte {
                    Some(rel) => rel,
                    None => match self.catalog.find(name)? {
                        Relation::Table(table) => self.scan(&table, &options, at_name(name))?,
                        Relation::View(view) => {
                            if self.views.contains(&view.name) {
                                return error(at_name(name), format!("view '{}' refers to itself", view.name));
                            }
                            self.views.push(view.name.clone());
                            let ctes = std::mem::take(&mut self.ctes);
                            let bound = self.query(&view.query);
                            self.ctes = ctes;
                            self.views.pop();
                            let names: Vec<&str> = view.columns.iter().map(String::as_str).collect();
                            rename(bound?, &names).at_place(at_name(name))?
                        }
                    },
                };
                self.aliased(rel, alias.as_ref(), simple.last().copied())
            }
            TableFactor::Table { version: Some(_), name, .. } => unsupported(at_name(name), "FOR SYSTEM_TIME AS OF"),
            TableFactor::Table { name, args: Some(_), .. } => {
                let shown = parts(name).join(".");
                let what = format!("the table function {shown}");
                if matches!(shown.to_uppercase().as_str(), "TUMBLE" | "HOP" | "CUMULATE" | "SESSION") {
                    let hint = format!("write TABLE({shown}(TABLE t, DESCRIPTOR(ts), ..))");
                    return Err(Error::script(format!("{what} must stand in TABLE(..)"))
                        .hint(hint)
                        .at_place(at_name(name)));
                }
                unsupported(at_name(name), what)
            }
            TableFactor::Table { name, .. } => unsupported(at_name(name), "TABLESAMPLE"),
            TableFactor::Derived { lateral: true, .. } => unsupported(at, "LATERAL"),
            TableFactor::Derived { subquery, alias, .. } => {
                let rel = self.query(subquery)?;
                self.aliased(rel, alias.as_ref(), None)
            }
            TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
                let function_at = at_name(&function.name);
                let Some(name) = window_function(function) else {
                    let name = function.name.to_string();
                    if let Some(hint) = did_you_mean(&name, ["TUMBLE", "HOP", "CUMULATE", "SESSION"]) {
                        let error = Error::script(format!("there is no table function '{name}'"));
                        return Err(error.hint(hint).at_place(function_at));
                    }
                    return unsupported(function_at, format!("the table function {name}"));
                };
                let rel = self.bind_window_function(function, &name, function_at)?;
                self.aliased(rel, alias.as_ref(), None)
            }
            TableFactor::MatchRecognize { .. } => unsupported(at, "MATCH_RECOGNIZE"),
            TableFactor::UNNEST { .. } => unsupported(at, "UNNEST"),
            TableFactor::Function { lateral: true, name, .. } => unsupported(at_name(name), "LATERAL TABLE"),
            other => unsupported(at, format!("{other} in FROM")),
        }
    }

    fn aliased(
        &self,
        rel: RelRef,
        alias: Option<&TableAlias>,
        default: Option<&str>,
    ) -> Result<(RelRef, Option<String>)> {
        match alias {
            None => Ok((rel, default.map(str::to_string))),
            Some(alias) => {
                let names: Vec<&str> = alias.columns.iter().map(|c| c.name.value.as_str()).collect();
                let rel = rename(rel, &names).at_place(at_ident(&alias.name))?;
                Ok((rel, Some(alias.name.value.clone())))
            }
        }
    }

    fn scan(&self, table: &Arc<Table>, hints: &[(String, String)], at: At) -> Result<RelRef> {
        let definition = table.source_definition(hints);
        let connector = definition.options.get("connector").map_or("", String::as_str);
        let source = self
            .registry
            .connector(connector)
            .at_place(table.at)
            .and_then(|c| c.source(&definition, self.session))
            .map_err(|e| table.place_of_option(e))
            .at_place(at)?;
        let variant = hints.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
        let columns = table.columns.clone();
        let kept = (0..columns.len()).collect();
        Ok(Rel::new(RelOp::Scan { table: table.clone(), source, variant, kept }, columns))
    }

    /// A table argument of a window function: its relation, its name, its PARTITION BY.
    pub fn bind_table_argument(&mut self, arg: &Expr) -> Result<(RelRef, Option<String>, Vec<Expr>)> {
        let at = at_expr(arg);
        let Some(table) = decode::table_arg(arg) else {
            return error(at, "the window function's first argument must be a table: TABLE t, or (SELECT ..)");
        };
        if !table.order_by.is_empty() {
            return unsupported(at, "ORDER BY of a window function's table");
        }
        let name = single_table(table.query);
        let rel = self.query(table.query)?;
        Ok((rel, name, table.partition_by.to_vec()))
    }

    fn select(&mut self, select: &Select, at: At) -> Result<RelRef> {
        if let Some(Distinct::On(_)) = &select.distinct {
            return unsupported(at, "DISTINCT ON");
        }
        if let Some(qualify) = &select.qualify {
            return unsupported(at_expr(qualify), "QUALIFY");
        }
        if let Some(window) = select.named_window.first() {
            return unsupported(at_ident(&window.0), "WINDOW");
        }
        let (mut input, mut scope) = self.from(&select.from, at)?;
        if let Some(condition) = &select.selection {
            if contains_aggregate(condition) {
                return Err(Error::script("an aggregate can't stand in WHERE")
                    .hint("conditions on aggregates stand in HAVING")
                    .at_place(at_expr(condition)));
            }
            let filter = ExprBinder::new(&scope, self.zone).bind_condition(condition, "WHERE")?;
            input = filtered(input, filter, &mut scope, &self.zone)?;
        }
        let group_by: &[Expr] = match &select.group_by {
            GroupByExpr::All(_) => return unsupported(at, "GROUP BY ALL"),
            GroupByExpr::Expressions(exprs, _) => exprs,
        };
        let aggregated = select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => contains_aggregate(e),
            _ => false,
        });
        let mut grouping = match group_by {
            [] if !aggregated && select.having.is_none() => None,
            _ => {
                let resolved = self.group_exprs(group_by, select, &scope);
                Some(Grouping::bind(&resolved, &scope, self.zone, group_by.first().map_or(at, at_expr))?)
            }
        };
        let mut names = vec![];
        let mut bound = vec![];
        let zone = self.zone;
        for item in &select.projection {
            let mut binder = ExprBinder { scope: &scope, zone, grouping: grouping.as_mut() };
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    bound.push(binder.bind(expr)?);
                    names.push(implied_name(expr).unwrap_or_else(|| format!("EXPR${}", names.len())));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    bound.push(binder.bind(expr)?);
                    names.push(alias.value.clone());
                }
                SelectItem::Wildcard(options) => {
                    let star = at_span(options.wildcard_token.0.span);
                    let all = (0, scope.columns.len());
                    wildcard(&mut binder, all, star, &mut names, &mut bound)?;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let shown = parts(name);
                    let alias = shown.last().copied().unwrap_or_default();
                    let Some(range) = scope.table(alias) else {
                        let error = Error::script(format!("there is no table '{alias}' in FROM"));
                        let known = scope.tables.iter().map(|(n, ..)| n.as_str());
                        return Err(super::place::with_nearest(error, alias, known).at_place(at_name(name)));
                    };
                    wildcard(&mut binder, range, at_name(name), &mut names, &mut bound)?;
                }
                other => return unsupported(at, format!("{other} in SELECT")),
            }
        }
        if let Some(having) = &select.having {
            let mut binder = ExprBinder { scope: &scope, zone, grouping: grouping.as_mut() };
            bound.push(binder.bind_condition(having, "HAVING")?);
        }
        if let Some(grouping) = grouping {
            (input, bound) = grouping.finish(input, bound)?;
        }
        let filter = if select.having.is_some() { bound.pop() } else { None };
        let columns = names
            .into_iter()
            .zip(&bound)
            .map(|(name, expr)| {
                let role = ExprBinder::new(&scope, zone).role_of(expr, &input.columns);
                Column { name, data_type: expr.data_type().clone(), role }
            })
            .collect();
        let rel = Rel::new(RelOp::Calc { input, filter, project: bound }, columns);
        Ok(if matches!(select.distinct, Some(Distinct::Distinct)) { distinct(rel) } else { rel })
    }

    /// GROUP BY's expressions, with aliases of SELECT put in (where no column has that name).
    fn group_exprs(&self, group_by: &[Expr], select: &Select, scope: &Scope) -> Vec<Expr> {
        group_by
            .iter()
            .map(|expr| match expr {
                Expr::Identifier(ident) if !scope.columns.iter().any(|c| c.name == ident.value) => select
                    .projection
                    .iter()
                    .find_map(|item| match item {
                        SelectItem::ExprWithAlias { expr, alias } if alias.value == ident.value => Some(expr.clone()),
                        _ => None,
                    })
                    .unwrap_or_else(|| expr.clone()),
                other => other.clone(),
            })
            .collect()
    }
}

/// The rows for which a condition holds. One over a join is part of the join's, which may then be one of intervals of
/// time, whose columns mean something for time.
fn filtered(input: RelRef, filter: ExprRef, scope: &mut Scope, zone: &SessionZone) -> Result<RelRef> {
    let RelOp::Join { left, right, kind: JoinKind::Inner, condition } = &input.op else {
        return Ok(Rel::filter(input, filter));
    };
    let condition = build::and(condition.clone(), Some(filter), zone)?;
    let joined = joins::join(left.clone(), right.clone(), JoinKind::Inner, condition, zone)?;
    scope.columns.clone_from(&joined.columns);
    Ok(joined)
}

/// Where a query starts. (A span of all its parts would start at what the parser has rewritten.)
fn at_body(body: &SetExpr) -> At {
    match body {
        SetExpr::Select(select) => at_span(select.select_token.0.span),
        SetExpr::Query(query) => at_body(&query.body),
        SetExpr::SetOperation { left, .. } => at_body(left),
        other => at_span(other.span()),
    }
}

/// Where a table is named; `at` for what has no name.
fn at_factor(factor: &TableFactor, at: At) -> At {
    match factor {
        TableFactor::Table { name, .. } => at_name(name),
        _ => at,
    }
}

fn wildcard(
    binder: &mut ExprBinder<'_>,
    (first, end): (usize, usize),
    at: At,
    names: &mut Vec<String>,
    bound: &mut Vec<ExprRef>,
) -> Result<()> {
    if binder.scope.columns.is_empty() {
        return error(at, "SELECT * needs FROM");
    }
    for index in first..end {
        if end - first == binder.scope.columns.len() && binder.scope.hidden.contains(&index) {
            continue;
        }
        let column = &binder.scope.columns[index];
        if binder.grouping.is_some() {
            let ident = sqlparser::ast::Ident::new(column.name.clone());
            bound.push(binder.bind(&Expr::Identifier(ident)).at_place(at)?);
        } else {
            bound.push(build::column(index, column));
        }
        names.push(column.name.clone());
    }
    Ok(())
}

/// The name of a column that has no alias: that of the column or field it is, if it is one.
fn implied_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(idents) => idents.last().map(|i| i.value.clone()),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(sqlparser::ast::AccessExpr::Dot(Expr::Identifier(name))) => Some(name.value.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// The table's name, if a query is nothing but a table.
fn single_table(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.from.as_slice() {
        [TableWithJoins { relation: TableFactor::Table { name, alias, .. }, joins }] if joins.is_empty() => {
            let simple = parts(name).last().map(|n| n.to_string());
            alias.as_ref().map(|a| a.name.value.clone()).or(simple)
        }
        _ => None,
    }
}

/// The relation with other column names; none: as it is.
pub fn rename(rel: RelRef, names: &[&str]) -> Result<RelRef> {
    if names.is_empty() {
        return Ok(rel);
    }
    if names.len() != rel.columns.len() {
        let message = format!("{} column names for {} columns", names.len(), rel.columns.len());
        return Err(Error::script(message));
    }
    let columns = rel.columns.iter().zip(names).map(|(c, n)| Column { name: n.to_string(), ..c.clone() }).collect();
    let project = rel.columns.iter().enumerate().map(|(i, c)| build::column(i, c)).collect();
    Ok(Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns))
}
