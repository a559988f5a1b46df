//! Binding windows: the table functions TUMBLE, HOP, CUMULATE, SESSION and the older group functions.

use super::expr::{ExprBinder, Scope};
use super::place::{At, Placed, at_expr, at_ident, error, parts, unsupported, with_nearest};
use super::query::QueryBinder;
use crate::parser;
use crate::rel::{Column, Rel, RelOp, RelRef, Role, WindowInfo};
use millstream_core::graph::{WindowShape, WindowSpec, WindowTime};
use millstream_core::types::SessionZone;
use millstream_core::{Error, Result, TypeKind};
use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Interval};

/// An interval literal: months or milliseconds.
pub fn interval_of(interval: &Interval) -> Result<(i64, TypeKind)> {
    let value = parser::interval_value(interval)?;
    Ok(match value {
        parser::IntervalValue::Months(months) => (i64::from(months), TypeKind::IntervalYearMonth),
        parser::IntervalValue::Millis(ms) => (ms, TypeKind::IntervalDayTime),
    })
}

/// A window's length in milliseconds: a day-time interval literal, 1 ms or more (0 or more for `what` "offset").
fn length_ms(expr: &Expr, what: &str, signed: bool) -> Result<i64> {
    let at = at_expr(expr);
    let (negative, inner) = match expr {
        Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Minus, expr } => (true, expr.as_ref()),
        other => (false, other),
    };
    let Expr::Interval(interval) = inner else {
        return Err(Error::script(format!("the window's {what} must be an interval literal"))
            .hint("write it as INTERVAL '10' MINUTE")
            .at_place(at));
    };
    let (value, kind) = interval_of(interval).at_place(at)?;
    if kind != TypeKind::IntervalDayTime {
        return error(at, format!("the window's {what} can't be in months or years"));
    }
    let value = if negative { -value } else { value };
    if value <= 0 && !signed {
        return error(at, format!("the window's {what} must be positive"));
    }
    Ok(value)
}

/// The arguments of a call.
fn list(function: &Function) -> &[FunctionArg] {
    match &function.args {
        FunctionArguments::List(list) => &list.args,
        _ => &[],
    }
}

/// Plain arguments, with their names if they were given by name.
fn arguments(args: &[FunctionArg]) -> Result<Vec<(Option<String>, At, &Expr)>> {
    args.iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok((None, at_expr(expr), expr)),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                Ok((Some(name.value.to_uppercase()), at_ident(name), expr))
            }
            other => error((0, 0), format!("{other} is no argument of a table function")),
        })
        .collect()
}

/// The arguments in the order of `names`, by place or by name; as many as `required` must be there.
pub(super) fn ordered<'f>(
    args: &'f [FunctionArg],
    what: &str,
    names: &[&str],
    required: usize,
    at: At,
) -> Result<Vec<Option<&'f Expr>>> {
    let mut result: Vec<Option<&Expr>> = vec![None; names.len()];
    for (place, (name, arg_at, expr)) in arguments(args)?.into_iter().enumerate() {
        let index = match &name {
            None => place,
            Some(name) => names.iter().position(|n| n == name).ok_or_else(|| {
                let error = Error::script(format!("{what} has no argument {name}")).at_place(arg_at);
                with_nearest(error, name, names.iter().copied())
            })?,
        };
        match result.get_mut(index) {
            Some(slot @ None) => *slot = Some(expr),
            Some(Some(_)) => return error(arg_at, format!("the argument {} is given twice", names[index])),
            None => return error(arg_at, format!("{what} takes at most {} arguments", names.len())),
        }
    }
    if let Some(missing) = result.iter().take(required).position(Option::is_none) {
        return Err(Error::script(format!("{what} lacks the argument {}", names[missing]))
            .hint(format!("{what}({})", names.join(", ")))
            .at_place(at));
    }
    Ok(result)
}

/// The name of a function if it is a window table function.
pub fn window_function(function: &Function) -> Option<String> {
    let name = parts(&function.name).last()?.to_uppercase();
    matches!(name.as_str(), "TUMBLE" | "HOP" | "CUMULATE" | "SESSION").then_some(name)
}

/// A zone and a time for windows over `column`.
pub fn window_time(index: usize, column: &Column, session: SessionZone) -> (WindowTime, SessionZone) {
    if column.is_proctime() {
        (WindowTime::Processing, session)
    } else if column.is_local_time_zone() {
        (WindowTime::Event { column: index }, session)
    } else {
        (WindowTime::Event { column: index }, SessionZone::UTC)
    }
}

impl QueryBinder<'_> {
    /// Binds `TABLE(TUMBLE(..))`, returning its relation.
    pub fn bind_window_function(&mut self, function: &Function, name: &str, at: At) -> Result<RelRef> {
        let names: (&[&str], usize) = match name {
            "TUMBLE" => (&["DATA", "TIMECOL", "SIZE", "OFFSET"], 3),
            "HOP" => (&["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"], 4),
            "CUMULATE" => (&["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"], 4),
            _ => (&["DATA", "TIMECOL", "GAP"], 3),
        };
        let args = ordered(list(function), name, names.0, names.1, at)?;
        let arg = |i: usize| args.get(i).copied().flatten();
        let (Some(data), Some(time)) = (arg(0), arg(1)) else { return Err(Error::internal("arguments are checked")) };
        let (input, alias, partition) = self.bind_table_argument(data, "the window function")?;
        let scope = Scope::of(alias.as_deref(), &input.columns);
        let time = self.descriptor(time, &scope)?;
        let offset = |i: usize| arg(i).map_or(Ok(0), |e| length_ms(e, "offset", true));
        let length = |i: usize, what: &str| match arg(i) {
            Some(expr) => length_ms(expr, what, false),
            None => Err(Error::internal("arguments are checked")),
        };
        let shape = match name {
            "TUMBLE" => WindowShape::Tumble { size_ms: length(2, "size")?, offset_ms: offset(3)? },
            "HOP" => {
                let (slide_ms, size_ms) = (length(2, "slide")?, length(3, "size")?);
                multiple(size_ms, slide_ms, "HOP", "slide", at)?;
                WindowShape::Hop { size_ms, slide_ms, offset_ms: offset(4)? }
            }
            "CUMULATE" => {
                let (step_ms, size_ms) = (length(2, "step")?, length(3, "size")?);
                multiple(size_ms, step_ms, "CUMULATE", "step", at)?;
                WindowShape::Cumulate { size_ms, step_ms, offset_ms: offset(4)? }
            }
            _ => WindowShape::Session { gap_ms: length(2, "gap")? },
        };
        let mut session_keys = vec![];
        for key in &partition {
            let bound = ExprBinder::new(&scope, self.zone()).bind(key)?;
            match bound.as_column() {
                Some(_) if name != "SESSION" => {
                    return error(at_expr(key), format!("{name} takes no PARTITION BY; only SESSION does"));
                }
                Some(index) => session_keys.push(index),
                None => return error(at_expr(key), "PARTITION BY takes columns only"),
            }
        }
        let column = &input.columns[time];
        let (window_time, zone) = window_time(time, column, self.zone());
        let info = WindowInfo {
            event_time: !column.is_proctime(),
            local_time_zone: column.is_local_time_zone() || column.is_proctime(),
            zone,
        };
        let time_kind = if info.local_time_zone { TypeKind::TimestampLtz(3) } else { TypeKind::Timestamp(3) };
        let mut columns = input.columns.clone();
        for (name, kind, role) in [
            ("window_start", TypeKind::Timestamp(3), Role::WindowStart(info)),
            ("window_end", TypeKind::Timestamp(3), Role::WindowEnd(info)),
            ("window_time", time_kind, Role::WindowTime(info)),
        ] {
            columns.push(Column { name: name.into(), data_type: kind.not_null(), role });
        }
        let window = WindowSpec { shape, time: window_time, zone };
        Ok(Rel::new(RelOp::Window { input, window, session_keys }, columns))
    }

    /// The time attribute that `DESCRIPTOR(column)` names.
    fn descriptor(&self, expr: &Expr, scope: &Scope) -> Result<usize> {
        let at = at_expr(expr);
        let wrong = || {
            Error::script("the window's time column must be given as a descriptor")
                .hint("write DESCRIPTOR(column)")
                .at_place(at)
        };
        let Expr::Function(function) = expr else { return Err(wrong()) };
        if parts(&function.name) != ["DESCRIPTOR"] {
            return Err(wrong());
        }
        let columns = arguments(list(function))?;
        let [(_, column_at, column)] = columns.as_slice() else {
            return error(at, "a window's descriptor names exactly one column");
        };
        let index = ExprBinder::new(scope, self.zone()).bind(column)?.as_column().ok_or_else(wrong)?;
        check_time_attribute(&scope.columns[index], *column_at)?;
        Ok(index)
    }
}

fn multiple(size_ms: i64, part_ms: i64, function: &str, part: &str, at: At) -> Result<()> {
    if size_ms % part_ms == 0 {
        return Ok(());
    }
    error(
        at,
        format!(
            "{function} needs a size that is a multiple of its {part}, but got size {size_ms} ms and {part} {part_ms} ms"
        ),
    )
}

fn check_time_attribute(column: &Column, at: At) -> Result<()> {
    if column.is_time_attribute() {
        return Ok(());
    }
    Err(Error::script(format!("a window needs a time attribute, but '{}' is {}", column.name, column.data_type))
        .hint("declare WATERMARK FOR the column in CREATE TABLE, or use a computed column AS PROCTIME()")
        .at_place(at))
}

/// The older group functions: `TUMBLE(ts, size)`, `HOP(ts, slide, size)`, `SESSION(ts, gap)`.
pub fn group_window(
    function: &Function,
    name: &str,
    scope: &Scope,
    session: SessionZone,
) -> Result<(WindowSpec, WindowInfo)> {
    let at = parser_at(function);
    let names: &[&str] = match name {
        "TUMBLE" => &["TIME", "SIZE"],
        "HOP" => &["TIME", "SLIDE", "SIZE"],
        "SESSION" => &["TIME", "GAP"],
        _ => return unsupported(at, format!("{name} in GROUP BY")),
    };
    let args = arguments(list(function))?;
    if args.len() == names.len() + 1 {
        return unsupported(at, format!("an offset of the group window {name}"));
    }
    let args = ordered(list(function), name, names, names.len(), at)?;
    let arg = |i: usize| args.get(i).copied().flatten().ok_or_else(|| Error::internal("arguments are checked"));
    let time = arg(0)?;
    let bound = ExprBinder::new(scope, session).bind(time)?;
    let proctime = Column {
        name: "PROCTIME()".into(),
        data_type: bound.data_type().clone(),
        role: ExprBinder::new(scope, session).role_of(&bound, &scope.columns),
    };
    let (index, column) = match bound.as_column() {
        Some(index) => (index, &scope.columns[index]),
        None => (0, &proctime),
    };
    if bound.as_column().is_none() && column.role != Role::ProcTime {
        return error(at_expr(time), "a window needs a time attribute, but this is an expression");
    }
    check_time_attribute(column, at_expr(time))?;
    let shape = match name {
        "TUMBLE" => WindowShape::Tumble { size_ms: length_ms(arg(1)?, "size", false)?, offset_ms: 0 },
        "HOP" => WindowShape::Hop {
            slide_ms: length_ms(arg(1)?, "slide", false)?,
            size_ms: length_ms(arg(2)?, "size", false)?,
            offset_ms: 0,
        },
        _ => WindowShape::Session { gap_ms: length_ms(arg(1)?, "gap", false)? },
    };
    let (time, zone) = window_time(index, column, session);
    let info = WindowInfo {
        event_time: !column.is_proctime(),
        local_time_zone: column.is_local_time_zone() || column.is_proctime(),
        zone,
    };
    Ok((WindowSpec { shape, time, zone }, info))
}

/// Where a call starts.
pub fn parser_at(function: &Function) -> At {
    super::place::at_name(&function.name)
}
