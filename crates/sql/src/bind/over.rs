//! Functions OVER a window: what stands in SELECT, QUALIFY and ORDER BY, and the operators that compute it.

use super::aggregate::is_aggregate;
use super::aggregate_call::{PendingCall, bind_call};
use super::build;
use super::expr::ExprBinder;
use super::place::{At, Placed, at_expr, at_ident, error, parts, unsupported};
use crate::rel::{Column, Rel, RelOp, RelRef, Role, WindowInfo};
use millstream_core::graph::{AggregateCall, Frame, OverCall, OverFunction, RankFunction, SortKey};
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, NamedWindowDefinition, NamedWindowExpr,
    OrderByExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

/// Marks, while binding, the result of a call by its number; beyond the marks of grouping, below those of subqueries.
pub const OVER_BASE: usize = 1 << 31;

/// All rows up to the current one and those of its time.
const UNTIL_NOW: Frame = Frame { is_rows: false, preceding: None };

/// The calls with OVER of a SELECT.
pub struct Overs {
    named: Vec<NamedWindowDefinition>,
    calls: Vec<Pending>,
}

/// A call over what a SELECT has before them.
#[derive(Debug)]
struct Pending {
    function: PendingFunction,
    partition: Vec<ExprRef>,
    order: Vec<Ordering>,
    frame: Frame,
    result: DataType,
    name: String,
    at: At,
}

#[derive(Debug)]
enum PendingFunction {
    Aggregate(PendingCall),
    Rank(RankFunction),
    Lag { value: ExprRef, offset: usize, default: Option<ExprRef> },
}

/// An expression that rows are ordered by.
#[derive(Clone, Debug)]
pub struct Ordering {
    /// The expression.
    pub expr: ExprRef,
    /// Whether the highest is first.
    pub descending: bool,
    /// Whether NULL is before all else.
    pub nulls_first: bool,
}

impl Ordering {
    /// Of an expression, with NULL as the lowest value unless the script says otherwise.
    pub fn new(expr: ExprRef, ast: &OrderByExpr) -> Result<Self> {
        let at = at_expr(&ast.expr);
        if !expr.data_type().kind.has_order() {
            return error(at, format!("rows can't be ordered by {}", expr.data_type()));
        }
        let descending = ast.options.asc == Some(false);
        let nulls_first = ast.options.nulls_first.unwrap_or(!descending);
        Ok(Ordering { expr, descending, nulls_first })
    }
}

impl Overs {
    /// None yet; `named`: the windows of the WINDOW clause.
    pub fn new(named: &[NamedWindowDefinition]) -> Self {
        Overs { named: named.to_vec(), calls: vec![] }
    }

    /// Whether there is no call.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Binds a call with OVER.
    pub fn bind(&mut self, function: &Function, name: &str, binder: &mut ExprBinder<'_>, at: At) -> Result<ExprRef> {
        let window = match &function.over {
            Some(WindowType::WindowSpec(spec)) => self.resolve(spec, 0)?,
            Some(WindowType::NamedWindow(name)) => self.find(&name.value, at_ident(name), 0)?,
            None => return Err(Error::internal("a call without OVER")),
        };
        let partition = window.partition_by.iter().map(|e| binder.bind(e)).collect::<Result<Vec<_>>>()?;
        let order =
            window.order_by.iter().map(|o| Ordering::new(binder.bind(&o.expr)?, o)).collect::<Result<Vec<_>>>()?;
        let frame = window.window_frame.as_ref().map(|frame| bind_frame(frame, at)).transpose()?;
        let (function, result, frame) = bind_function(function, name, frame, binder, at)?;
        let pending = Pending { function, partition, order, frame, result, name: name.to_string(), at };
        let shown = |p: &Pending| format!("{:?} {:?} {:?} {:?}", p.function, p.partition, orders(&p.order), p.frame);
        let number = self.calls.iter().position(|known| shown(known) == shown(&pending)).unwrap_or_else(|| {
            self.calls.push(pending);
            self.calls.len() - 1
        });
        self.column(OVER_BASE + number).ok_or_else(|| Error::internal("the call was added"))
    }

    /// The mark of a call's result.
    pub fn column(&self, index: usize) -> Option<ExprRef> {
        let call = self.calls.get(index.checked_sub(OVER_BASE)?)?;
        Some(exprs::column(index, call.result.clone(), &call.name))
    }

    fn find(&self, name: &str, at: At, depth: usize) -> Result<WindowSpec> {
        let found = self.named.iter().find(|NamedWindowDefinition(known, _)| known.value == name);
        match found {
            Some(NamedWindowDefinition(_, NamedWindowExpr::WindowSpec(spec))) => self.resolve(spec, depth + 1),
            Some(NamedWindowDefinition(_, NamedWindowExpr::NamedWindow(other))) if depth <= self.named.len() => {
                self.find(&other.value, at_ident(other), depth + 1)
            }
            Some(_) => error(at, format!("the window '{name}' refers to itself")),
            None => {
                let error = Error::script(format!("there is no window '{name}'")).at_place(at);
                Err(super::place::with_nearest(error, name, self.named.iter().map(|w| w.0.value.as_str())))
            }
        }
    }

    /// A window with what it takes over from the one that it names.
    fn resolve(&self, spec: &WindowSpec, depth: usize) -> Result<WindowSpec> {
        let Some(name) = &spec.window_name else { return Ok(spec.clone()) };
        let at = at_ident(name);
        if depth > self.named.len() {
            return error(at, format!("the window '{}' refers to itself", name.value));
        }
        let mut window = self.find(&name.value, at, depth)?;
        if !spec.partition_by.is_empty() {
            return error(at, format!("PARTITION BY can't be added to the window '{}'", name.value));
        }
        if !spec.order_by.is_empty() {
            if !window.order_by.is_empty() {
                return error(at, format!("the window '{}' has an ORDER BY already", name.value));
            }
            window.order_by = spec.order_by.clone();
        }
        if spec.window_frame.is_some() {
            window.window_frame = spec.window_frame.clone();
        }
        Ok(window)
    }

    /// The expressions of the calls, for whoever computes what they stand on.
    pub fn expressions(&self) -> Vec<ExprRef> {
        let mut all = vec![];
        for call in &self.calls {
            all.extend(call.inputs().cloned());
        }
        all
    }

    /// Puts other expressions in the place of those that [`Overs::expressions`] gave.
    pub fn replace(&mut self, expressions: impl IntoIterator<Item = ExprRef>) {
        let mut expressions = expressions.into_iter();
        for call in &mut self.calls {
            for (old, new) in call.inputs_mut().zip(&mut expressions) {
                *old = new;
            }
        }
    }

    /// Builds the operators over `input`, after `filter`, and puts their results into `outputs`.
    pub fn finish(
        self,
        input: RelRef,
        filter: Option<ExprRef>,
        outputs: Vec<ExprRef>,
    ) -> Result<(RelRef, Vec<ExprRef>)> {
        let mut project: Vec<ExprRef> = input.columns.iter().enumerate().map(|(i, c)| build::column(i, c)).collect();
        let mut columns = input.columns.clone();
        let mut place = |expr: &ExprRef, name: String| -> usize {
            let known = expr.as_column().or_else(|| project.iter().position(|p| build::same(p, expr)));
            known.unwrap_or_else(|| {
                let role =
                    if expr.to_string().eq_ignore_ascii_case("PROCTIME()") { Role::ProcTime } else { Role::Plain };
                project.push(expr.clone());
                columns.push(Column { name, data_type: expr.data_type().clone(), role });
                columns.len() - 1
            })
        };
        // Calls of one window become one operator; rankings that others may cut off stand alone, on top.
        type Window = (Vec<usize>, Vec<SortKey>, bool);
        let mut windows: Vec<(Window, At, Vec<(usize, OverCall)>)> = vec![];
        for (number, call) in self.calls.iter().enumerate() {
            let partition: Vec<usize> =
                call.partition.iter().enumerate().map(|(i, e)| place(e, format!("$p{number}_{i}"))).collect();
            let order: Vec<SortKey> = call
                .order
                .iter()
                .enumerate()
                .map(|(i, o)| SortKey {
                    column: place(&o.expr, format!("$o{number}_{i}")),
                    descending: o.descending,
                    nulls_first: o.nulls_first,
                })
                .collect();
            let function = match &call.function {
                PendingFunction::Rank(function) => OverFunction::Rank(*function),
                PendingFunction::Lag { value, offset, default } => OverFunction::Lag {
                    column: place(value, format!("$a{number}")),
                    offset: *offset,
                    default: default.as_ref().map(|default| place(default, format!("$d{number}"))),
                },
                PendingFunction::Aggregate(aggregate) => OverFunction::Aggregate(AggregateCall {
                    function: aggregate.function.clone(),
                    arg_types: aggregate.args.iter().map(|a| a.data_type().clone()).collect(),
                    args: aggregate.args.iter().enumerate().map(|(i, a)| place(a, format!("$a{number}_{i}"))).collect(),
                    distinct: aggregate.distinct,
                    filter: aggregate.filter.as_ref().map(|f| place(f, format!("$f{number}"))),
                    result: call.result.clone(),
                }),
            };
            let is_rank = matches!(function, OverFunction::Rank(_));
            let call_of_window = (number, OverCall { function, frame: call.frame });
            let window = (partition, order, is_rank);
            match windows.iter_mut().find(|(known, ..)| !is_rank && *known == window) {
                Some((.., calls)) => calls.push(call_of_window),
                None => windows.push((window, call.at, vec![call_of_window])),
            }
        }
        windows.sort_by_key(|((.., is_rank), ..)| *is_rank);
        let mut rel = Rel::new(RelOp::Calc { input, filter, project }, columns);
        let mut places = vec![0; self.calls.len()];
        for ((partition, order, _), at, calls) in windows {
            let mut columns = rel.columns.clone();
            let mut functions = vec![];
            for (number, call) in calls {
                places[number] = columns.len();
                columns.push(Column::plain(format!("$w{number}"), self.calls[number].result.clone()));
                functions.push(call);
            }
            rel = over(rel, partition, order, functions, columns, at);
        }
        let outputs = outputs
            .iter()
            .map(|expr| {
                build::replace_some(expr, &|index| {
                    let index = *places.get(index.checked_sub(OVER_BASE)?)?;
                    Some(build::column(index, &rel.columns[index]))
                })
            })
            .collect();
        Ok((rel, outputs))
    }
}

/// The operator, with what its columns mean for time.
pub fn over(
    input: RelRef,
    partition: Vec<usize>,
    order: Vec<SortKey>,
    calls: Vec<OverCall>,
    columns: Vec<Column>,
    at: At,
) -> RelRef {
    let role = |index: &usize| input.columns[*index].role;
    let roles: Vec<Role> = order.iter().map(|key| role(&key.column)).collect();
    let start = |info: WindowInfo| partition.iter().any(|i| role(i) == Role::WindowStart(info));
    let window = partition.iter().find_map(|index| match role(index) {
        Role::WindowEnd(info) if start(info) => Some((*index, info)),
        _ => None,
    });
    Rel::new(RelOp::Over { input, partition, order, calls, roles, window, at }, columns)
}

impl Pending {
    fn inputs(&self) -> impl Iterator<Item = &ExprRef> {
        let of_function: Vec<&ExprRef> = match &self.function {
            PendingFunction::Aggregate(call) => call.args.iter().chain(&call.filter).collect(),
            PendingFunction::Rank(_) => vec![],
            PendingFunction::Lag { value, default, .. } => std::iter::once(value).chain(default).collect(),
        };
        self.partition.iter().chain(self.order.iter().map(|o| &o.expr)).chain(of_function)
    }

    fn inputs_mut(&mut self) -> impl Iterator<Item = &mut ExprRef> {
        let of_function: Vec<&mut ExprRef> = match &mut self.function {
            PendingFunction::Aggregate(call) => call.args.iter_mut().chain(&mut call.filter).collect(),
            PendingFunction::Rank(_) => vec![],
            PendingFunction::Lag { value, default, .. } => std::iter::once(value).chain(default).collect(),
        };
        self.partition.iter_mut().chain(self.order.iter_mut().map(|o| &mut o.expr)).chain(of_function)
    }
}

/// An order as text that doesn't tell where it stands.
fn orders(order: &[Ordering]) -> Vec<String> {
    order.iter().map(|o| format!("{:?} {} {}", o.expr, o.descending, o.nulls_first)).collect()
}

fn bind_function(
    function: &Function,
    name: &str,
    frame: Option<Frame>,
    binder: &mut ExprBinder<'_>,
    at: At,
) -> Result<(PendingFunction, DataType, Frame)> {
    let rank = match name {
        "ROW_NUMBER" => Some(RankFunction::RowNumber),
        "RANK" => Some(RankFunction::Rank),
        "DENSE_RANK" => Some(RankFunction::DenseRank),
        _ => None,
    };
    if (rank.is_some() || name == "LAG") && frame.is_some() {
        return error(at, format!("{name} takes no ROWS or RANGE in its window"));
    }
    if let Some(rank) = rank {
        if !plain_args(function, name)?.is_empty() {
            return error(at, format!("{name} takes no argument"));
        }
        return Ok((PendingFunction::Rank(rank), TypeKind::BigInt.not_null(), UNTIL_NOW));
    }
    match name {
        "LAG" => {
            let (lag, result) = bind_lag(&plain_args(function, name)?, binder, at)?;
            Ok((lag, result, UNTIL_NOW))
        }
        "LEAD" => Err(Error::unsupported("LEAD over a stream")
            .detail("it looks at rows that have not come yet")
            .hint("LAG looks at rows that came before")
            .at_place(at)),
        "NTILE" | "PERCENT_RANK" | "CUME_DIST" | "NTH_VALUE" => {
            Err(Error::unsupported(format!("{name} over a stream"))
                .detail("it needs all rows of its partition, which never end")
                .at_place(at))
        }
        _ if is_aggregate(name) => {
            let call = bind_call(function, name, binder).at_place(at)?;
            let result = call.result.clone();
            Ok((PendingFunction::Aggregate(call), result, frame.unwrap_or(UNTIL_NOW)))
        }
        _ => error(at, format!("{name} is no function of a window: OVER can't stand after it")),
    }
}

fn plain_args<'f>(function: &'f Function, name: &str) -> Result<Vec<&'f Expr>> {
    let FunctionArguments::List(list) = &function.args else { return Ok(vec![]) };
    list.args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => Err(Error::script(format!("{other} is no argument of {name}"))),
        })
        .collect()
}

/// `LAG(value [, offset [, default]])`
fn bind_lag(args: &[&Expr], binder: &mut ExprBinder<'_>, at: At) -> Result<(PendingFunction, DataType)> {
    let (value, rest) = match args {
        [value, rest @ ..] if rest.len() <= 2 => (binder.bind(value)?, rest),
        _ => return error(at, format!("LAG takes 1 to 3 arguments, but got {}", args.len())),
    };
    let offset = match rest.first() {
        None => 1,
        Some(offset) => match whole_number(offset) {
            Some(offset) => offset as usize,
            None => return error(at_expr(offset), "LAG's offset must be a whole number, written out"),
        },
    };
    let mut result = value.data_type().clone().with_nullable(true);
    let default = match rest.get(1) {
        None => None,
        Some(default) => {
            let bound = binder.bind(default)?;
            result.nullable = value.data_type().nullable || bound.data_type().nullable;
            let target = value.data_type().clone().with_nullable(bound.data_type().nullable);
            Some(exprs::cast(bound, target, false, &binder.zone).and_then(exprs::fold).at_place(at_expr(default))?)
        }
    };
    Ok((PendingFunction::Lag { value, offset, default }, result))
}

/// A whole number that is written out.
pub fn whole_number(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Value(value) => match &value.value {
            sqlparser::ast::Value::Number(text, _) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn bind_frame(frame: &WindowFrame, at: At) -> Result<Frame> {
    let is_rows = match frame.units {
        WindowFrameUnits::Rows => true,
        WindowFrameUnits::Range => false,
        WindowFrameUnits::Groups => return unsupported(at, "GROUPS in a window"),
    };
    match &frame.end_bound {
        None | Some(WindowFrameBound::CurrentRow) => {}
        Some(WindowFrameBound::Following(_)) => {
            return Err(Error::unsupported("FOLLOWING in a window over a stream")
                .detail("the rows that follow have not come yet")
                .hint("end the window with CURRENT ROW")
                .at_place(at));
        }
        Some(WindowFrameBound::Preceding(_)) => {
            return Err(Error::unsupported("a window that ends before the current row")
                .hint("end the window with CURRENT ROW")
                .at_place(at));
        }
    }
    let preceding = match &frame.start_bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(None) => None,
        WindowFrameBound::Preceding(Some(expr)) => Some(match (is_rows, expr.as_ref()) {
            (true, expr) => match whole_number(expr).and_then(|rows| i64::try_from(rows).ok()) {
                Some(rows) => rows,
                None => return error(at_expr(expr), "ROWS needs a whole number of rows, written out"),
            },
            (false, Expr::Interval(interval)) => match super::window::interval_of(interval).at_place(at_expr(expr))? {
                (ms, TypeKind::IntervalDayTime) if ms >= 0 => ms,
                (_, TypeKind::IntervalDayTime) => return error(at_expr(expr), "the interval of RANGE is negative"),
                _ => return error(at_expr(expr), "RANGE can't be in months or years"),
            },
            (false, expr) => {
                return Err(Error::script("RANGE over a time attribute needs an interval")
                    .hint("write RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW")
                    .at_place(at_expr(expr)));
            }
        }),
        WindowFrameBound::Following(_) => {
            return Err(Error::unsupported("FOLLOWING in a window over a stream")
                .detail("the rows that follow have not come yet")
                .at_place(at));
        }
    };
    Ok(Frame { is_rows, preceding })
}

impl ExprBinder<'_> {
    /// Binds a call with OVER, where one may stand.
    pub(super) fn over(&mut self, function: &Function, at: At) -> Result<ExprRef> {
        let name = parts(&function.name).join(".").to_uppercase();
        let Some(overs) = self.overs.take() else {
            return Err(Error::script(format!("{name} .. OVER can't stand here"))
                .hint("it stands in SELECT, QUALIFY and ORDER BY; filter its result in an outer query")
                .at_place(at));
        };
        let bound = overs.bind(function, &name, self, at);
        self.overs = Some(overs);
        bound
    }
}
