//! Grouped queries: what the aggregate computes, and what may stand in SELECT and HAVING after it.

use super::aggregate_call::{PendingCall, bind_call};
use super::build;
use super::expr::{ExprBinder, Scope};
use super::over::OVER_BASE;
use super::place::{At, Placed, at_expr, error, parts, unsupported};
use super::subquery::reads_outer;
use super::window::{group_window, parser_at, window_function};
use crate::rel::{Column, Rel, RelOp, RelRef, Role, WindowInfo};
use millstream_core::graph::{
    AggregateCall, AggregateFunction, AggregatePhase, WindowAggregate, WindowProperty, WindowShape, WindowSpec,
    WindowTime,
};
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Visit, Visitor};
use std::ops::ControlFlow;

/// The names of the aggregates.
const AGGREGATES: &[&str] = &[
    "COUNT",
    "SUM",
    "SUM0",
    "$SUM0",
    "AVG",
    "MIN",
    "MAX",
    "FIRST_VALUE",
    "LAST_VALUE",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
    "LISTAGG",
    "COLLECT",
    "ARRAY_AGG",
    "JSON_OBJECTAGG",
    "JSON_ARRAYAGG",
    "SINGLE_VALUE",
    "APPROX_COUNT_DISTINCT",
    "PERCENTILE",
    "BITMAP_BUILD_AGG",
    "BITMAP_BUILD_CARDINALITY_AGG",
    "BITMAP_AND_AGG",
    "BITMAP_AND_CARDINALITY_AGG",
    "BITMAP_OR_AGG",
    "BITMAP_OR_CARDINALITY_AGG",
    "BITMAP_XOR_AGG",
    "BITMAP_XOR_CARDINALITY_AGG",
];

/// Whether it is an aggregate's name, in capitals.
pub fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name)
}

/// Whether an expression contains an aggregate outside of OVER; those of its subqueries are theirs.
pub fn contains_aggregate(expr: &Expr) -> bool {
    struct Aggregates {
        depth: usize,
    }
    impl Visitor for Aggregates {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(f) if self.depth == 0 && f.over.is_none() => {
                    match is_aggregate(&parts(&f.name).join(".").to_uppercase()) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Aggregates { depth: 0 }).is_break()
}

/// A grouped query while it is being bound. What the aggregate gives is, in this order: keys, aggregates,
/// `window_start`, `window_end`, `window_time`.
pub struct Grouping {
    /// The keys, over the input.
    keys: Vec<(ExprRef, Column)>,
    /// The grouping sets, each a list of keys by number; one with all keys for a plain GROUP BY.
    sets: Vec<Vec<usize>>,
    /// The windows that all is grouped by.
    window: Option<(WindowSpec, WindowInfo)>,
    /// The group function's name and arguments, by which its `_START` finds it.
    group_function: Option<(String, String)>,
    /// The input's columns that the window function appended, if grouped by.
    attached: Option<(usize, usize, Vec<usize>)>,
    calls: Vec<PendingCall>,
}

/// Marks, while binding, a column of the aggregate's output: the number of keys and calls is not known yet, so these
/// are numbered from far ends and put in order by [`Grouping::finish`].
const CALL_BASE: usize = 1 << 20;
const PROPERTY_BASE: usize = 1 << 30;
const GROUPING_ID: usize = 1 << 29;
/// Mark, while grouping sets are read, the columns of the window among the numbers of keys.
const START: usize = usize::MAX;
const END: usize = usize::MAX - 1;
const TIME: usize = usize::MAX - 2;

impl Grouping {
    /// Reads GROUP BY.
    pub fn bind(exprs: &[Expr], scope: &Scope, zone: SessionZone, at: At) -> Result<Grouping> {
        let mut group_window_found = None;
        let mut elements: Vec<Vec<Vec<(ExprRef, &Expr)>>> = vec![];
        for expr in exprs {
            let alternatives: Vec<Vec<&Expr>> = match expr {
                Expr::GroupingSets(list) => list.iter().map(|set| set.iter().collect()).collect(),
                Expr::Rollup(list) => (0..=list.len()).rev().map(|n| list[..n].iter().flatten().collect()).collect(),
                Expr::Cube(list) if list.len() > 12 => return error(at_expr(expr), "CUBE takes at most 12 elements"),
                Expr::Cube(list) => (0..1usize << list.len())
                    .rev()
                    .map(|bits| {
                        let n = list.len();
                        (0..n).filter(|i| bits >> (n - 1 - i) & 1 == 1).flat_map(|i| list[i].iter()).collect()
                    })
                    .collect(),
                Expr::Function(function) if window_function(function).is_some() => {
                    let name = window_function(function).unwrap_or_default();
                    if group_window_found.is_some() {
                        return error(at_expr(expr), "GROUP BY takes only one group window");
                    }
                    let (window, info) = group_window(function, &name, scope, zone)?;
                    let signature = call_signature(function, scope, zone)?;
                    group_window_found = Some((name, window, info, signature));
                    continue;
                }
                Expr::Tuple(items) => vec![items.iter().collect()],
                other => vec![vec![other]],
            };
            let bind = |key: &&'_ Expr| {
                if contains_aggregate(key) {
                    return error(at_expr(key), "an aggregate can't stand in GROUP BY");
                }
                let bound = ExprBinder::new(scope, zone).bind(key)?;
                if reads_outer(&bound) {
                    return unsupported(at_expr(key), "GROUP BY a column of the query around a subquery");
                }
                Ok(bound)
            };
            let mut element = vec![];
            for set in alternatives {
                let bound = set.iter().map(bind).collect::<Result<Vec<_>>>()?;
                element.push(bound.into_iter().zip(set).collect());
            }
            elements.push(element);
        }
        let role_of = |bound: &ExprRef| bound.as_column().map(|c| (c, scope.columns[c].role));
        // The windows that all of it is grouped by, if the rows have them.
        let attached = {
            let all = || elements.iter().flatten().flatten().filter_map(|(bound, _)| role_of(bound));
            let starts =
                all().filter_map(|(c, role)| if let Role::WindowStart(i) = role { Some((c, i)) } else { None });
            let end_of = |info| all().find(|(_, role)| *role == Role::WindowEnd(info)).map(|(c, _)| c);
            let mut pairs = starts.filter_map(|(start, info)| Some((start, end_of(info)?, info)));
            if group_window_found.is_none() { pairs.next() } else { None }
        };
        let property_of = |bound: &ExprRef| match (role_of(bound)?, attached) {
            ((_, Role::WindowStart(of)), Some((.., info))) if of == info => Some(START),
            ((_, Role::WindowEnd(of)), Some((.., info))) if of == info => Some(END),
            ((_, Role::WindowTime(of)), Some((.., info))) if of == info => Some(TIME),
            _ => None,
        };
        let mut keys: Vec<(ExprRef, Column)> = vec![];
        let mut sets: Vec<Vec<usize>> = vec![vec![]];
        let mut times = vec![];
        for element in elements {
            let mut expanded = vec![];
            for set in element {
                let mut numbers = vec![];
                for (bound, key) in set {
                    if let Some(property) = property_of(&bound) {
                        times.extend(bound.as_column().filter(|_| property == TIME));
                        numbers.push(property);
                        continue;
                    }
                    let number = keys.iter().position(|(k, _)| build::same(k, &bound));
                    numbers.push(number.unwrap_or_else(|| {
                        let named = match bound.as_column() {
                            Some(c) => Column { role: Role::Plain, ..scope.columns[c].clone() },
                            None => Column::plain(key.to_string(), bound.data_type().clone()),
                        };
                        keys.push((bound, named));
                        keys.len() - 1
                    }));
                }
                for before in &sets {
                    let mut all = before.clone();
                    all.extend(numbers.iter().filter(|n| !before.contains(n)));
                    expanded.push(all);
                }
            }
            sets = expanded;
        }
        for (property, name) in [(START, "window_start"), (END, "window_end"), (TIME, "window_time")] {
            let count = sets.iter().filter(|set| set.contains(&property)).count();
            if count > 0 && count < sets.len() {
                return Err(Error::unsupported(format!("{name} in only some of the grouping sets"))
                    .hint(format!("put {name} outside of them: GROUP BY {name}, GROUPING SETS (..)"))
                    .at_place(at));
            }
        }
        sets.iter_mut().for_each(|set| set.retain(|number| *number < keys.len()));
        if sets.len() > 1 {
            for (number, (_, column)) in keys.iter_mut().enumerate() {
                if !sets.iter().all(|s| s.contains(&number)) {
                    column.data_type.nullable = true;
                }
            }
        }
        let mut grouping = Grouping { keys, sets, window: None, group_function: None, attached: None, calls: vec![] };
        if let Some((name, window, info, signature)) = group_window_found {
            grouping.window = Some((window, info));
            grouping.group_function = Some((name, signature));
        } else if let Some((start, end, info)) = attached {
            let time = if info.event_time { WindowTime::Event { column: end } } else { WindowTime::Processing };
            let window = WindowSpec { shape: WindowShape::Attached { start, end }, time, zone: info.zone };
            grouping.window = Some((window, info));
            grouping.attached = Some((start, end, times));
        }
        Ok(grouping)
    }

    /// A column that is neither a key nor in an aggregate.
    pub fn not_grouped(&self, name: &str) -> Error {
        Error::script(format!("expression '{name}' is not being grouped"))
            .hint("add it to GROUP BY, or put it into an aggregate such as MAX(..)")
    }

    /// The key that is a column of the input, after the aggregate.
    pub fn key_column(&self, index: usize, name: &str) -> Result<ExprRef> {
        let found = self.keys.iter().position(|(key, _)| key.as_column() == Some(index));
        match (found, &self.attached) {
            (Some(number), _) => Ok(build::column(number, &self.keys[number].1)),
            (None, Some((start, end, _))) if index == *start || index == *end => {
                Ok(self.property(usize::from(index == *end)))
            }
            _ => Err(self.not_grouped(name)),
        }
    }

    /// Groups by one more expression; gives it after the aggregate.
    pub fn add_key(&mut self, key: ExprRef) -> ExprRef {
        if let Some(known) = key.as_column().and_then(|index| self.key_column(index, "").ok())
            && self.sets.len() == 1
        {
            return known;
        }
        let number = self.keys.len();
        let column = Column::plain(format!("$key{number}"), key.data_type().clone());
        self.sets.iter_mut().for_each(|set| set.push(number));
        self.keys.push((key, column));
        build::column(number, &self.keys[number].1)
    }

    /// Whether all rows are one group.
    pub fn is_global(&self) -> bool {
        self.keys.is_empty() && self.window.is_none() && self.sets.len() == 1
    }

    /// What an expression is after an aggregate over no row at all.
    pub fn over_nothing(&self, expr: &ExprRef) -> Result<ExprRef> {
        let nothing = build::replace_some(expr, &|index| {
            let call = self.calls.get(index.checked_sub(CALL_BASE)?)?;
            Some(match call.function {
                AggregateFunction::Count | AggregateFunction::Sum0 => {
                    exprs::literal(exprs::Value::Int(0), call.result.clone())
                }
                _ => build::null(call.result.kind.clone()),
            })
        });
        exprs::fold(nothing)
    }

    fn property(&self, number: usize) -> ExprRef {
        let (name, kind) = match number {
            0 => ("window_start", TypeKind::Timestamp(3)),
            1 => ("window_end", TypeKind::Timestamp(3)),
            _ if self.window.as_ref().is_some_and(|(_, info)| info.local_time_zone) => {
                ("window_time", TypeKind::TimestampLtz(3))
            }
            _ => ("window_time", TypeKind::Timestamp(3)),
        };
        exprs::column(PROPERTY_BASE + number, kind.not_null(), name)
    }

    /// What `ast` is after the aggregate, if it is a key, an aggregate or a property of the window.
    pub fn intercept(&mut self, ast: &Expr, scope: &Scope, zone: SessionZone) -> Result<Option<ExprRef>> {
        let at = at_expr(ast);
        if let Expr::Function(function) = ast {
            let name = parts(&function.name).join(".").to_uppercase();
            if function.over.is_some() {
                return Ok(None);
            }
            if is_aggregate(&name) {
                return self.aggregate(function, &name, scope, zone).at_place(at).map(Some);
            }
            // It would number sets that are written twice, which are taken once.
            if name == "GROUP_ID" && matches!(&function.args, FunctionArguments::List(list) if list.args.is_empty()) {
                return Ok(Some(build::bigint(0)));
            }
            if name == "GROUPING" || name == "GROUPING_ID" {
                return self.grouping_id(function, scope, zone, at).map(Some);
            }
            if let Some(number) = self.auxiliary(function, &name, scope, zone, at)? {
                if number == 3 {
                    return exprs::call("PROCTIME", vec![], &zone).map(Some);
                }
                return Ok(Some(self.property(number)));
            }
        }
        if matches!(ast, Expr::Value(_)) || contains_aggregate(ast) {
            return Ok(None);
        }
        let Ok(bound) = ExprBinder::new(scope, zone).bind(ast) else {
            // An unknown column is told as such, not as one that isn't grouped.
            if matches!(ast, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                return ExprBinder::new(scope, zone).bind(ast).map(Some);
            }
            return Ok(None);
        };
        if let (Some(column), Some((start, end, times))) = (bound.as_column(), &self.attached) {
            if column == *start || column == *end {
                return Ok(Some(self.property(usize::from(column == *end))));
            }
            if times.contains(&column) {
                return Ok(Some(self.property(2)));
            }
        }
        let found = self.keys.iter().enumerate().find(|(_, (key, _))| build::same(key, &bound));
        Ok(found.map(|(number, (_, column))| build::column(number, column)))
    }

    /// `TUMBLE_START(..)` and its kin: which property (3: processing time).
    fn auxiliary(
        &self,
        function: &Function,
        name: &str,
        scope: &Scope,
        zone: SessionZone,
        at: At,
    ) -> Result<Option<usize>> {
        let Some((window, what)) = name.split_once('_') else { return Ok(None) };
        let number = match what {
            "START" => 0,
            "END" => 1,
            "ROWTIME" => 2,
            "PROCTIME" => 3,
            _ => return Ok(None),
        };
        if !matches!(window, "TUMBLE" | "HOP" | "SESSION") {
            return Ok(None);
        }
        let signature = call_signature(function, scope, zone)?;
        match &self.group_function {
            Some((name, known)) if name == window && *known == signature => {}
            _ => return error(at, format!("{name} needs the same {window}(..) in GROUP BY")),
        }
        if number == 2 && self.window.as_ref().is_some_and(|(_, info)| !info.event_time) {
            return error(at, format!("{name} needs a window on event time; use {window}_PROCTIME"));
        }
        Ok(Some(number))
    }

    fn grouping_id(&self, function: &Function, scope: &Scope, zone: SessionZone, at: At) -> Result<ExprRef> {
        let FunctionArguments::List(list) = &function.args else { return error(at, "GROUPING needs an argument") };
        let mut numbers = vec![];
        for arg in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) = arg else {
                return error(at, "GROUPING takes the expressions of GROUP BY");
            };
            let bound = ExprBinder::new(scope, zone).bind(arg)?;
            match self.keys.iter().position(|(key, _)| build::same(key, &bound)) {
                Some(number) => numbers.push(number),
                None => return Err(self.not_grouped(&arg.to_string()).at_place(at_expr(arg))),
            }
        }
        let id = |set: &Vec<usize>| numbers.iter().fold(0i64, |id, n| id << 1 | i64::from(!set.contains(n)));
        let [first, rest @ ..] = self.sets.as_slice() else { return Err(Error::internal("no grouping set")) };
        if rest.is_empty() {
            return Ok(build::bigint(id(first)));
        }
        let number = exprs::column(GROUPING_ID, TypeKind::BigInt.not_null(), "$e");
        let mut args = vec![];
        for (i, set) in rest.iter().enumerate() {
            args.push(exprs::call("=", vec![number.clone(), build::bigint(i as i64 + 1)], &zone)?);
            args.push(build::bigint(id(set)));
        }
        args.push(build::bigint(id(first)));
        exprs::call("CASE", args, &zone)
    }

    fn aggregate(&mut self, function: &Function, name: &str, scope: &Scope, zone: SessionZone) -> Result<ExprRef> {
        let nested = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if contains_aggregate(expr) => Some(at_expr(expr)),
            _ => None,
        };
        if let FunctionArguments::List(list) = &function.args
            && let Some(at) = list.args.iter().find_map(nested)
        {
            return error(at, "aggregates can't be nested");
        }
        let call = bind_call(function, name, &mut ExprBinder::new(scope, zone))?;
        let number = self.calls.iter().position(|c| c.same(&call)).unwrap_or_else(|| {
            self.calls.push(call);
            self.calls.len() - 1
        });
        Ok(exprs::column(CALL_BASE + number, self.calls[number].result.clone(), function.to_string()))
    }

    /// Builds the aggregate below `outputs` (expressions that this grouping has bound, HAVING among them) and puts
    /// their columns right.
    pub fn finish(self, input: RelRef, outputs: Vec<ExprRef>) -> Result<(RelRef, Vec<ExprRef>)> {
        let args = self.calls.iter().flat_map(|call| call.args.iter().chain(&call.filter));
        if args.into_iter().any(reads_outer) {
            return Err(Error::unsupported("an aggregate over columns of the query around a subquery")
                .hint("such columns are read in the subquery's WHERE"));
        }
        let mut project: Vec<ExprRef> = vec![];
        let mut columns: Vec<Column> = vec![];
        let mut add = |expr: &ExprRef, column: Column, reuse: bool| -> usize {
            match project.iter().position(|p| build::same(p, expr)) {
                Some(found) if reuse => found,
                _ => {
                    project.push(expr.clone());
                    columns.push(column);
                    project.len() - 1
                }
            }
        };
        let expanded = self.sets.len() > 1;
        let mut keys: Vec<usize> = self.keys.iter().map(|(e, c)| add(e, c.clone(), false)).collect();
        let num_expanded = keys.len();
        let mut calls = vec![];
        for (number, call) in self.calls.iter().enumerate() {
            let mut place = |expr: &ExprRef, name: String, project_from: usize| {
                let column = Column::plain(name, expr.data_type().clone());
                // A key that grouping sets turn to NULL is not the argument that was meant.
                let index = add(expr, column.clone(), true);
                if expanded && index < project_from { add(expr, column, false) } else { index }
            };
            let args: Vec<usize> =
                call.args.iter().enumerate().map(|(i, a)| place(a, format!("$a{number}_{i}"), num_expanded)).collect();
            let filter = call.filter.as_ref().map(|f| place(f, format!("$f{number}"), num_expanded));
            calls.push(AggregateCall {
                function: call.function.clone(),
                arg_types: call.args.iter().map(|a| a.data_type().clone()).collect(),
                args,
                distinct: call.distinct,
                filter,
                result: call.result.clone(),
            });
        }
        let mut window = self.window;
        let mut keep = |index: usize| {
            let column = input.columns[index].clone();
            add(&build::column(index, &column), column, true)
        };
        if let Some((window, _)) = &mut window {
            if let WindowShape::Attached { start, end } = &mut window.shape {
                *start = keep(*start);
                *end = keep(*end);
                if let WindowTime::Event { column } = &mut window.time {
                    *column = *end;
                }
            } else if let WindowTime::Event { column } = &mut window.time {
                *column = keep(*column);
            }
        }
        // A key may share its column with the time attribute; the aggregate reads both by number.
        let mut input = Rel::new(RelOp::Calc { input, filter: None, project }, columns.clone());
        let mut key_columns: Vec<Column> = self.keys.iter().map(|(_, c)| c.clone()).collect();
        if expanded {
            let mut projections = vec![];
            for (number, set) in self.sets.iter().enumerate() {
                let mut list: Vec<ExprRef> = vec![];
                for (i, column) in columns.iter().enumerate() {
                    list.push(match i < num_expanded && !set.contains(&i) {
                        true => build::null(column.data_type.kind.clone()),
                        false => build::column(i, column),
                    });
                }
                list.push(build::bigint(number as i64));
                projections.push(list);
            }
            let id = Column::plain("$e", TypeKind::BigInt.not_null());
            columns.push(id.clone());
            key_columns.push(id);
            keys.push(columns.len() - 1);
            input = Rel::new(RelOp::Expand { input, projections }, columns);
        }
        let mut output = key_columns;
        let (num_keys, num_calls) = (keys.len(), calls.len());
        for (number, call) in calls.iter().enumerate() {
            output.push(Column::plain(format!("$agg{number}"), call.result.clone()));
        }
        let rel = match window {
            None => Rel::new(RelOp::GroupAggregate { input, keys, aggregates: calls, ttl_ms: None }, output),
            Some((window, info)) => {
                let time = if info.local_time_zone { TypeKind::TimestampLtz(3) } else { TypeKind::Timestamp(3) };
                for (name, kind, role) in [
                    ("window_start", TypeKind::Timestamp(3), Role::WindowStart(info)),
                    ("window_end", TypeKind::Timestamp(3), Role::WindowEnd(info)),
                    ("window_time", time, Role::WindowTime(info)),
                ] {
                    output.push(Column { name: name.into(), data_type: kind.not_null(), role });
                }
                let aggregate = WindowAggregate {
                    window,
                    session_keys: keys.len(),
                    keys,
                    aggregates: calls,
                    properties: vec![
                        WindowProperty::Start,
                        WindowProperty::End,
                        WindowProperty::RowTime { local_time_zone: info.local_time_zone },
                    ],
                    phase: AggregatePhase::Single,
                };
                Rel::new(RelOp::Aggregate { input, aggregate }, output)
            }
        };
        let outputs = outputs
            .iter()
            .map(|expr| {
                build::replace_some(expr, &|index| {
                    let index = match index {
                        // A result of OVER, or a column of the query around this one.
                        i if i >= OVER_BASE => return None,
                        i if i >= PROPERTY_BASE => num_keys + num_calls + (i - PROPERTY_BASE),
                        GROUPING_ID => num_keys - 1,
                        i if i >= CALL_BASE => num_keys + (i - CALL_BASE),
                        i => i,
                    };
                    Some(build::column(index, &rel.columns[index]))
                })
            })
            .collect();
        Ok((rel, outputs))
    }
}

/// The distinct rows; of each window, if the rows have their window's start and end.
pub fn distinct(input: RelRef) -> RelRef {
    distinct_in_windows(&input).unwrap_or_else(|| {
        let columns = input.columns.iter().map(|c| Column { role: Role::Plain, ..c.clone() }).collect();
        let keys = (0..input.columns.len()).collect();
        Rel::new(RelOp::GroupAggregate { input, keys, aggregates: vec![], ttl_ms: None }, columns)
    })
}

fn distinct_in_windows(input: &RelRef) -> Option<RelRef> {
    let find = |wanted: &dyn Fn(Role) -> bool| input.columns.iter().position(|c| wanted(c.role));
    let start = find(&|role| matches!(role, Role::WindowStart(_)))?;
    let Role::WindowStart(info) = input.columns[start].role else { return None };
    let end = find(&|role| role == Role::WindowEnd(info))?;
    let property = |role: Role| match role {
        Role::WindowStart(of) if of == info => Some(WindowProperty::Start),
        Role::WindowEnd(of) if of == info => Some(WindowProperty::End),
        Role::WindowTime(of) if of == info => Some(WindowProperty::RowTime { local_time_zone: info.local_time_zone }),
        _ => None,
    };
    let (mut keys, mut properties, mut places) = (vec![], vec![], vec![]);
    for (index, column) in input.columns.iter().enumerate() {
        match property(column.role) {
            Some(property) => {
                places.push((true, properties.len()));
                properties.push((property, column.clone()));
            }
            None => {
                places.push((false, keys.len()));
                keys.push(index);
            }
        }
    }
    let mut columns: Vec<Column> = keys.iter().map(|i| input.columns[*i].clone()).collect();
    let (properties, of_windows): (Vec<_>, Vec<_>) = properties.into_iter().unzip();
    columns.extend(of_windows);
    let time = if info.event_time { WindowTime::Event { column: end } } else { WindowTime::Processing };
    let aggregate = WindowAggregate {
        window: WindowSpec { shape: WindowShape::Attached { start, end }, time, zone: info.zone },
        session_keys: keys.len(),
        keys,
        aggregates: vec![],
        properties,
        phase: AggregatePhase::Single,
    };
    let (output, num_keys) = (input.columns.clone(), aggregate.keys.len());
    let rel = Rel::new(RelOp::Aggregate { input: input.clone(), aggregate }, columns);
    let project = places
        .into_iter()
        .map(|(is_property, place)| {
            let index = if is_property { num_keys + place } else { place };
            build::column(index, &rel.columns[index])
        })
        .collect();
    Some(Rel::new(RelOp::Calc { input: rel, filter: None, project }, output))
}

/// By which two calls of group functions are told to be of the same window.
fn call_signature(function: &Function, scope: &Scope, zone: SessionZone) -> Result<String> {
    let FunctionArguments::List(list) = &function.args else {
        return error(parser_at(function), "a group window needs arguments");
    };
    let mut signature = String::new();
    for arg in &list.args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
            let bound = ExprBinder::new(scope, zone).bind(expr)?;
            signature.push_str(&format!("{bound:?};"));
        }
    }
    Ok(signature)
}
