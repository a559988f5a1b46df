//! Binding queries: FROM, WHERE, GROUP BY, HAVING, SELECT, UNION ALL, VALUES, WITH, views.

use super::aggregate::{Grouping, contains_aggregate, distinct};
use super::build;
use super::changelog::is_changelog_function;
use super::expr::{ExprBinder, Outer, Scope, known_type};
use super::hints::Hints;
use super::lateral::{is_lateral, rename_columns};
use super::match_recognize::Clauses;
use super::order::{Body, output_column, sort_key};
use super::over::{Ordering, Overs};
use super::pending::Pending;
use super::place::{At, Placed, at_expr, at_ident, at_name, at_span, error, parts, unsupported};
use super::subquery::{Correlation, correlate, dependent, reads_outer};
use super::window::window_function;
use crate::catalog::{Catalog, Relation, Table};
use crate::parser::decode;
use crate::plan::joins;
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::connector::{ConnectorRegistry, SessionInfo};
use millstream_core::graph::JoinKind;
use millstream_core::suggest::did_you_mean;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{
    Distinct, Expr, FunctionArguments, GroupByExpr, Ident, Join, JoinConstraint, OrderByExpr, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, TableAlias, TableFactor, TableWithJoins,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
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
    /// The query around the one that is being bound, if that is a subquery.
    pub(super) outer: Option<Arc<Outer>>,
    /// What the query that was bound last has to do with the query around it.
    pub(super) correlation: Correlation,
    /// The hints of the SELECT that is being bound.
    pub(super) hints: Hints,
    /// How many queries are being bound, one within the other.
    depth: usize,
}

impl<'a> QueryBinder<'a> {
    /// A binder; an error if the session's time zone is none.
    pub fn new(catalog: &'a Catalog, registry: &'a dyn ConnectorRegistry, session: &'a SessionInfo) -> Result<Self> {
        let zone = session.time_zone.parse()?;
        let (outer, correlation) = (None, Correlation::default());
        let (ctes, views, hints) = (vec![], vec![], Hints::default());
        Ok(QueryBinder { catalog, registry, session, zone, ctes, views, outer, correlation, hints, depth: 0 })
    }

    /// The session's time zone.
    pub fn zone(&self) -> SessionZone {
        self.zone
    }

    /// Binds a query.
    pub fn query(&mut self, query: &Query) -> Result<RelRef> {
        let depth = self.ctes.len();
        self.depth += 1;
        let result = self.query_in_scope(query);
        self.depth -= 1;
        self.ctes.truncate(depth);
        result
    }

    fn query_in_scope(&mut self, query: &Query) -> Result<RelRef> {
        if let Some(with) = &query.with {
            if with.recursive {
                return unsupported(at_span(with.with_token.0.span), "WITH RECURSIVE");
            }
            for cte in &with.cte_tables {
                let bound = self.without_outer("WITH", |binder| binder.query(&cte.query))?;
                let names: Vec<_> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
                let bound = rename(bound, &names.iter().map(|i| i.value.as_str()).collect::<Vec<_>>())
                    .at_place(at_ident(&cte.alias.name))?;
                self.ctes.push((cte.alias.name.value.clone(), bound));
            }
        }
        let is_outermost = self.depth == 1;
        let rel = self.ordered(query, is_outermost)?;
        if query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some() {
            self.correlation.refuse("ORDER BY or LIMIT")?;
        }
        Ok(rel)
    }

    pub(super) fn set_expr(&mut self, body: &SetExpr) -> Result<RelRef> {
        let at = at_body(body);
        match body {
            SetExpr::Select(select) => Ok(self.select(select, at, &[])?.rel),
            SetExpr::Query(query) => self.query(query),
            SetExpr::Values(values) => {
                let rows: Vec<&[Expr]> = values.rows.iter().map(|r| r.content.as_slice()).collect();
                self.correlation = Correlation::default();
                self.values(&rows, at)
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let result = self.without_outer("a set operation", |binder| {
                    let (first, second) = (binder.set_expr(left)?, binder.set_expr(right)?);
                    binder.set_operation(first, second, *op, *set_quantifier, at_body(right))
                });
                self.correlation = Correlation::default();
                result
            }
            other => unsupported(at, format!("{other} as a query")),
        }
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
            let Some(data_type) = exprs::least_restrictive(&types) else {
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
            [] => Ok(one_row()),
            [first, rest @ ..] => {
                let mut bound = self.table_with_joins(first, at)?;
                for other in rest {
                    let other_at = at_factor(&other.relation, at);
                    if is_lateral(&other.relation) {
                        bound =
                            self.lateral(bound, &other.relation, JoinKind::Inner, &JoinConstraint::None, other_at)?;
                        bound = self.joins(bound, &other.joins, at)?;
                        continue;
                    }
                    let (rel, scope) = self.table_with_joins(other, at)?;
                    let ttl = self.hints.ttl_of_sides(&bound.1, &scope);
                    let both = bound.1.joined(scope, other_at)?;
                    let joined = joins::join(bound.0, rel, JoinKind::Inner, None, &self.zone)?;
                    bound = (Rel::with_ttl(&joined, ttl), both);
                }
                Ok(bound)
            }
        }
    }

    fn table_with_joins(&mut self, table: &TableWithJoins, at: At) -> Result<(RelRef, Scope)> {
        let bound = self.factor(&table.relation, at_factor(&table.relation, at))?;
        self.joins(bound, &table.joins, at)
    }

    fn joins(&mut self, mut bound: (RelRef, Scope), joins: &[Join], at: At) -> Result<(RelRef, Scope)> {
        for join in joins {
            bound = self.join(bound, join, at_factor(&join.relation, at))?;
        }
        Ok(bound)
    }

    /// A table, or joins in parentheses, and what names mean in it.
    pub(super) fn factor(&mut self, factor: &TableFactor, at: At) -> Result<(RelRef, Scope)> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.table_with_joins(table_with_joins, at),
            TableFactor::NestedJoin { table_with_joins, alias: Some(alias) } => {
                let (rel, scope) = self.table_with_joins(table_with_joins, at)?;
                if let Some(first) = scope.correlated.first() {
                    return unsupported(first.at, "a column of the query around it in joins that have an alias");
                }
                let columns = scope.visible.iter().map(|i| rel.columns[*i].clone()).collect();
                let project = scope.visible.iter().map(|i| build::column(*i, &rel.columns[*i])).collect();
                let rel = Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns);
                let (rel, name) = self.aliased(rel, Some(alias), None)?;
                let scope = Scope::of(name.as_deref(), &rel.columns);
                Ok((rel, scope))
            }
            lateral if is_lateral(lateral) => {
                self.lateral(one_row(), lateral, JoinKind::Inner, &JoinConstraint::None, at)
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let before = std::mem::take(&mut self.correlation);
                let rel = self.query(subquery);
                let correlation = std::mem::replace(&mut self.correlation, before);
                let rel = rel?;
                let (visible, correlated) = correlation.in_from(rel.columns.len())?;
                let mut columns = rel.columns.clone();
                if let Some(alias) = alias {
                    let names: Vec<&str> = alias.columns.iter().map(|c| c.name.value.as_str()).collect();
                    rename_columns(&mut columns[..visible], &names).at_place(at_ident(&alias.name))?;
                }
                let mut scope = Scope::of(alias.as_ref().map(|a| a.name.value.as_str()), &columns[..visible]);
                scope.columns.extend_from_slice(&columns[visible..]);
                scope.correlated = correlated;
                Ok((Rel::new(rel.op.clone(), columns), scope))
            }
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
                            let (ctes, outer) = (std::mem::take(&mut self.ctes), self.outer.take());
                            let bound = self.query(&view.query);
                            (self.ctes, self.outer) = (ctes, outer);
                            self.views.pop();
                            let names: Vec<&str> = view.columns.iter().map(String::as_str).collect();
                            rename(bound?, &names).at_place(at_name(name))?
                        }
                    },
                };
                self.aliased(rel, alias.as_ref(), simple.last().copied())
            }
            TableFactor::Table { version: Some(_), name, .. } => {
                Err(Error::unsupported("FOR SYSTEM_TIME AS OF but on the right side of a JOIN").at_place(at_name(name)))
            }
            TableFactor::Table { name, alias, args: Some(args), .. } if is_changelog_function(name) => {
                let rel = self.bind_changelog_function(name, &args.args)?;
                self.aliased(rel, alias.as_ref(), None)
            }
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if is_changelog_function(&function.name) =>
            {
                let FunctionArguments::List(list) = &function.args else {
                    return unsupported(at_name(&function.name), "a query as the arguments of a table function");
                };
                let rel = self.bind_changelog_function(&function.name, &list.args)?;
                self.aliased(rel, alias.as_ref(), None)
            }
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
            TableFactor::MatchRecognize {
                table,
                partition_by,
                order_by,
                measures,
                rows_per_match,
                after_match_skip,
                pattern,
                symbols,
                alias,
            } => {
                let (input, scope) = self.factor(table, at)?;
                if let Some(first) = scope.correlated.first() {
                    return unsupported(first.at, "a column of the query around it in the rows that are matched");
                }
                let clauses =
                    Clauses { partition_by, order_by, measures, rows_per_match, after_match_skip, pattern, symbols };
                let rel = self.match_recognize(input, &clauses, at_factor(table, at))?;
                self.aliased(rel, alias.as_ref(), None)
            }
            TableFactor::Function { lateral: true, name, .. } => {
                Err(Error::script(format!("there is no table function '{}'", parts(name).join(".")))
                    .hint("of functions that give rows only UNNEST is built in: CROSS JOIN UNNEST(array) AS t(x)")
                    .at_place(at_name(name)))
            }
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
    pub fn bind_table_argument(&mut self, arg: &Expr, what: &str) -> Result<(RelRef, Option<String>, Vec<Expr>)> {
        let at = at_expr(arg);
        let Some(table) = decode::table_arg(arg) else {
            return error(at, format!("{what}'s first argument must be a table: TABLE t, or (SELECT ..)"));
        };
        if !table.order_by.is_empty() {
            return unsupported(at, format!("ORDER BY of {what}'s table"));
        }
        let name = single_table(table.query);
        let rel = self.without_outer("a table argument", |binder| binder.query(table.query))?;
        Ok((rel, name, table.partition_by.to_vec()))
    }

    /// Binds a SELECT; what `order_by` needs beyond its columns stands behind them.
    pub(super) fn select(&mut self, select: &Select, at: At, order_by: &[OrderByExpr]) -> Result<Body> {
        if let Some(Distinct::On(_)) = &select.distinct {
            return unsupported(at, "DISTINCT ON");
        }
        let hints_around = std::mem::replace(&mut self.hints, Hints::of(select)?);
        let from = self.from(&select.from, at);
        let mut hints = std::mem::replace(&mut self.hints, hints_around);
        let (mut input, mut scope) = from?;
        hints.check(&scope)?;
        let ttl = hints.ttl_of(&scope);
        scope.outer.clone_from(&self.outer);
        let mut correlated = std::mem::take(&mut scope.correlated);
        if let Some(condition) = &select.selection {
            if contains_aggregate(condition) {
                return Err(Error::script("an aggregate can't stand in WHERE")
                    .hint("conditions on aggregates stand in HAVING")
                    .at_place(at_expr(condition)));
            }
            correlated.extend(self.where_clause(condition, &mut input, &mut scope)?);
        }
        let group_by: &[Expr] = match &select.group_by {
            GroupByExpr::All(_) => return unsupported(at, "GROUP BY ALL"),
            GroupByExpr::Expressions(exprs, _) => exprs,
        };
        let aggregated = select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => contains_aggregate(e),
            _ => false,
        }) || order_by.iter().any(|o| contains_aggregate(&o.expr));
        let mut grouping = match group_by {
            [] if !aggregated && select.having.is_none() => None,
            _ => {
                if let Some(outer) = &scope.outer {
                    (input, correlated) = dependent(input, correlated, outer, &self.zone)?;
                    scope.columns.clone_from(&input.columns);
                }
                let resolved = self.group_exprs(group_by, select, &scope);
                Some(Grouping::bind(&resolved, &scope, self.zone, group_by.first().map_or(at, at_expr))?)
            }
        };
        let is_grouped = grouping.is_some();
        let mut names = vec![];
        let mut bound = vec![];
        let mut overs = Overs::new(&select.named_window);
        let zone = self.zone;
        let mut pending = Pending::new(self, input.clone());
        for item in &select.projection {
            let mut binder = ExprBinder {
                scope: &scope,
                zone,
                grouping: grouping.as_mut(),
                subqueries: Some(&mut pending),
                overs: Some(&mut overs),
            };
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
                    wildcard(&mut binder, &scope.visible, star, &mut names, &mut bound)?;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let shown = parts(name);
                    let alias = shown.last().copied().unwrap_or_default();
                    let Some((first, end)) = scope.table(alias) else {
                        // The fields of a row.
                        let idents: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                        if let Ok(row) = binder.bind(&Expr::CompoundIdentifier(idents))
                            && let TypeKind::Row(fields) = row.data_type().kind.clone()
                        {
                            for field in fields {
                                bound.push(exprs::field(row.clone(), &field.name)?);
                                names.push(field.name.to_string());
                            }
                            continue;
                        }
                        let error = Error::script(format!("there is no table '{alias}' in FROM"));
                        let known = scope.tables.iter().map(|(n, ..)| n.as_str());
                        return Err(super::place::with_nearest(error, alias, known).at_place(at_name(name)));
                    };
                    let range: Vec<usize> = (first..end).collect();
                    wildcard(&mut binder, &range, at_name(name), &mut names, &mut bound)?;
                }
                other => return unsupported(at, format!("{other} in SELECT")),
            }
        }
        let correlation = correlate(correlated, &scope, &mut bound, &mut names, grouping.as_mut(), at)?;
        let visible = bound.len();
        let mut order = vec![];
        for item in order_by {
            let shown: Vec<&str> = names.iter().map(String::as_str).collect();
            let expr = match output_column(&item.expr, &shown)? {
                Some(index) => bound[index].clone(),
                None => {
                    let expr = with_aliases(&item.expr, select, &scope);
                    let mut binder = ExprBinder {
                        scope: &scope,
                        zone,
                        grouping: grouping.as_mut(),
                        subqueries: Some(&mut pending),
                        overs: Some(&mut overs),
                    };
                    binder.bind(&expr)?
                }
            };
            order.push(sort_key(Ordering::new(expr, item)?, &mut bound));
        }
        let is_distinct = matches!(select.distinct, Some(Distinct::Distinct));
        if let (true, true, Some(first)) = (is_distinct, bound.len() > visible, order_by.first()) {
            return error(at_expr(&first.expr), "ORDER BY after SELECT DISTINCT takes columns of SELECT only");
        }
        names.resize(bound.len(), "$order".to_string());
        let mut conditions = vec![];
        if let Some(having) = &select.having {
            if correlation.is_of_all_rows() {
                correlation.refuse("HAVING without GROUP BY")?;
            }
            let mut binder = ExprBinder {
                scope: &scope,
                zone,
                grouping: grouping.as_mut(),
                subqueries: Some(&mut pending),
                overs: None,
            };
            let condition = binder.bind_condition(having, "HAVING")?;
            if reads_outer(&condition) {
                return unsupported(at_expr(having), "a column of the query around a subquery in its HAVING");
            }
            conditions.push(condition);
        }
        if let Some(qualify) = &select.qualify {
            let qualify = with_aliases(qualify, select, &scope);
            let mut binder = ExprBinder {
                scope: &scope,
                zone,
                grouping: grouping.as_mut(),
                subqueries: Some(&mut pending),
                overs: Some(&mut overs),
            };
            conditions.push(binder.bind_condition(&qualify, "QUALIFY")?);
        }
        bound.extend(conditions);
        if let Some(grouping) = grouping {
            let outputs = bound.len();
            bound.extend(pending.conditions_mut().map(|condition| condition.clone()));
            let of_overs = bound.len();
            bound.extend(overs.expressions());
            (input, bound) = grouping.finish(input, bound).at_place(at)?;
            input = Rel::with_ttl(&input, [ttl, None]);
            overs.replace(bound.split_off(of_overs));
            let conditions = bound.split_off(outputs);
            pending.conditions_mut().zip(conditions).for_each(|(condition, bound)| *condition = bound);
        }
        if pending.conditions_mut().any(|condition| reads_outer(condition)) {
            return unsupported(at, "a subquery that is compared with a column of a query two levels out");
        }
        let outputs = bound.len();
        bound.extend(overs.expressions());
        (input, bound) = pending.join(input, bound)?;
        overs.replace(bound.split_off(outputs));
        if !overs.is_empty() {
            correlation.refuse("OVER")?;
        }
        self.correlation = correlation;
        let having = select.having.as_ref().map(|_| bound.remove(names.len()));
        let mut filter = having;
        if !overs.is_empty() {
            (input, bound) = overs.finish(input, filter.take(), bound)?;
        }
        if select.qualify.is_some() {
            filter = build::and(filter, bound.pop(), &zone)?;
        }
        let columns = names
            .into_iter()
            .zip(&bound)
            .map(|(name, expr)| {
                let role = ExprBinder::new(&scope, zone).role_of(expr, &input.columns);
                Column { name, data_type: expr.data_type().clone(), role }
            })
            .collect();
        let rel = Rel::new(RelOp::Calc { input, filter, project: bound }, columns);
        let rel = match (is_distinct, is_grouped) {
            (false, _) => rel,
            (true, true) => distinct(rel),
            (true, false) => Rel::with_ttl(&distinct(rel), [ttl, None]),
        };
        Ok(Body { rel, visible, order })
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

/// An expression with aliases of SELECT put in, where no column has that name.
fn with_aliases(expr: &Expr, select: &Select, scope: &Scope) -> Expr {
    let mut expr = expr.clone();
    let _ = sqlparser::ast::visit_expressions_mut(&mut expr, |e| {
        if let Expr::Identifier(ident) = e
            && !scope.columns.iter().any(|c| c.name == ident.value)
            && let Some(meant) = select.projection.iter().find_map(|item| match item {
                SelectItem::ExprWithAlias { expr, alias } if alias.value == ident.value => Some(expr.clone()),
                _ => None,
            })
        {
            *e = Expr::Nested(Box::new(meant));
        }
        ControlFlow::<()>::Continue(())
    });
    expr
}

/// The rows for which a condition holds. One over a join is part of the join's, which may then be one of intervals of
/// time, whose columns mean something for time.
pub(super) fn filtered(input: RelRef, filter: ExprRef, scope: &mut Scope, zone: &SessionZone) -> Result<RelRef> {
    let RelOp::Join { left, right, kind: JoinKind::Inner, condition, ttl_ms } = &input.op else {
        return Ok(Rel::filter(input, filter));
    };
    let condition = build::and(condition.clone(), Some(filter), zone)?;
    let joined = joins::join(left.clone(), right.clone(), JoinKind::Inner, condition, zone)?;
    scope.columns.clone_from(&joined.columns);
    Ok(Rel::with_ttl(&joined, *ttl_ms))
}

/// Where a query starts. (A span of all its parts would start at what the parser has rewritten.)
pub(super) fn at_body(body: &SetExpr) -> At {
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
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => at_ident(&alias.name),
        TableFactor::Table { name, .. } => at_name(name),
        _ => at,
    }
}

/// What a SELECT without FROM reads.
fn one_row() -> (RelRef, Scope) {
    (Rel::new(RelOp::Values { rows: vec![vec![]] }, vec![]), Scope::default())
}

fn wildcard(
    binder: &mut ExprBinder<'_>,
    range: &[usize],
    at: At,
    names: &mut Vec<String>,
    bound: &mut Vec<ExprRef>,
) -> Result<()> {
    if binder.scope.columns.is_empty() {
        return error(at, "SELECT * needs FROM");
    }
    for index in range.iter().copied() {
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

/// The columns with a number behind a name that stands there a second time, as in Flink's results.
pub fn with_different_names(mut columns: Vec<Column>) -> Vec<Column> {
    let mut used = BTreeSet::new();
    for column in &mut columns {
        let mut numbers = 0..;
        let original = column.name.clone();
        while !used.insert(column.name.clone()) {
            column.name = format!("{original}{}", numbers.next().unwrap_or(0));
        }
    }
    columns
}
