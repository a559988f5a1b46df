//! Readers of the trees that stand for Flink's own syntax; the parser's module documentation lists them.

use super::ast::Hint;
use super::interval::{IntervalValue, interval_value};
use super::lex::WITHIN;
use super::types::flink_type;
use millstream_core::error::{Error, Result};
use millstream_core::types::DataType;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    MatchRecognizePattern, OrderByExpr, Query, RepetitionQuantifier, Select, SymbolDefinition, UnaryOperator, Value,
};

/// The name of a function that has no qualification, in capitals.
pub fn function_name(call: &Function) -> Option<String> {
    match call.name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_ascii_uppercase()),
        _ => None,
    }
}

/// The plain arguments of a call; `None` if one is named or a star.
pub fn plain_args(call: &Function) -> Option<Vec<&Expr>> {
    match &call.args {
        FunctionArguments::None => Some(vec![]),
        FunctionArguments::Subquery(_) => None,
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect(),
    }
}

/// The text of a string literal, such as a word argument.
pub fn string_literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// A table as an argument of a function.
#[derive(Clone, Debug)]
pub struct TableArg<'a> {
    /// The rows: `SELECT * FROM t` for `TABLE t`.
    pub query: &'a Query,
    /// `PARTITION BY`
    pub partition_by: &'a [Expr],
    /// `ORDER BY`
    pub order_by: &'a [OrderByExpr],
}

/// Reads `TABLE t [PARTITION BY ..] [ORDER BY ..]` and `(query) [PARTITION BY ..]`.
pub fn table_arg(expr: &Expr) -> Option<TableArg<'_>> {
    let call = match expr {
        Expr::Subquery(query) => return Some(TableArg { query, partition_by: &[], order_by: &[] }),
        Expr::Function(call) if function_name(call).as_deref() == Some("TABLE_ARG") => call,
        _ => return None,
    };
    let args = plain_args(call)?;
    let [Expr::Subquery(query), Expr::Tuple(partition_by)] = args.as_slice() else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    let order_by = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(order) => Some(order.as_slice()),
        _ => None,
    });
    Some(TableArg { query, partition_by, order_by: order_by.unwrap_or_default() })
}

/// Reads `DESCRIPTOR(a, b)`.
pub fn descriptor(expr: &Expr) -> Option<Vec<&Ident>> {
    match expr {
        Expr::Function(call) if function_name(call).as_deref() == Some("DESCRIPTOR") => plain_args(call)?
            .into_iter()
            .map(|arg| match arg {
                Expr::Identifier(ident) => Some(ident),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// What JSON_VALUE or JSON_QUERY gives where nothing is found (`ON EMPTY`) or the path fails (`ON ERROR`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JsonBehavior<'a> {
    /// NULL, the default of both functions.
    Null,
    /// The job fails.
    Error,
    /// `EMPTY ARRAY` of JSON_QUERY.
    EmptyArray,
    /// `EMPTY OBJECT` of JSON_QUERY.
    EmptyObject,
    /// `DEFAULT expr` of JSON_VALUE.
    Default(&'a Expr),
}

/// How JSON_QUERY wraps what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonWrapper {
    /// `WITHOUT ARRAY WRAPPER`, the default.
    Without,
    /// `WITH CONDITIONAL ARRAY WRAPPER`
    Conditional,
    /// `WITH [UNCONDITIONAL] ARRAY WRAPPER`
    Unconditional,
}

/// What JSON_EXISTS gives where the path fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonExistsOnError {
    /// `TRUE ON ERROR`
    True,
    /// `FALSE ON ERROR`, the default.
    False,
    /// `UNKNOWN ON ERROR`
    Unknown,
    /// `ERROR ON ERROR`
    Error,
}

/// What the constructors of JSON do with NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonOnNull {
    /// `NULL ON NULL`, the default of JSON_OBJECT and JSON_OBJECTAGG.
    Null,
    /// `ABSENT ON NULL`, the default of JSON_ARRAY and JSON_ARRAYAGG.
    Absent,
}

/// A JSON function of standard SQL, its clauses read.
#[derive(Clone, Debug)]
pub enum JsonCall<'a> {
    /// `JSON_VALUE`
    Value {
        /// The JSON text.
        input: &'a Expr,
        /// The path.
        path: &'a Expr,
        /// `RETURNING`; STRING if absent.
        returning: Option<DataType>,
        /// `ON EMPTY`
        on_empty: JsonBehavior<'a>,
        /// `ON ERROR`
        on_error: JsonBehavior<'a>,
    },
    /// `JSON_QUERY`
    Query {
        /// The JSON text.
        input: &'a Expr,
        /// The path.
        path: &'a Expr,
        /// `RETURNING`; STRING if absent.
        returning: Option<DataType>,
        /// The wrapper.
        wrapper: JsonWrapper,
        /// `ON EMPTY`
        on_empty: JsonBehavior<'a>,
        /// `ON ERROR`
        on_error: JsonBehavior<'a>,
    },
    /// `JSON_EXISTS`
    Exists {
        /// The JSON text.
        input: &'a Expr,
        /// The path.
        path: &'a Expr,
        /// `ON ERROR`
        on_error: JsonExistsOnError,
    },
    /// `JSON_OBJECT`, or `JSON_OBJECTAGG` with one member.
    Object {
        /// Whether it is JSON_OBJECTAGG.
        is_aggregate: bool,
        /// Keys and values.
        members: Vec<(&'a Expr, &'a Expr)>,
        /// What NULL becomes.
        on_null: JsonOnNull,
    },
    /// `JSON_ARRAY`, or `JSON_ARRAYAGG` with one value.
    Array {
        /// Whether it is JSON_ARRAYAGG.
        is_aggregate: bool,
        /// The values.
        values: Vec<&'a Expr>,
        /// What NULL becomes.
        on_null: JsonOnNull,
    },
}

/// The values of a WHEN of a CASE with an operand.
pub fn when_values(condition: &Expr) -> Vec<&Expr> {
    match condition {
        Expr::Function(call) if function_name(call).as_deref() == Some(super::expr::WHEN_ANY) => {
            plain_args(call).unwrap_or_default()
        }
        value => vec![value],
    }
}

/// Reads a JSON function; `None` for other functions.
///
/// # Errors
///
/// For trees that this parser did not make.
pub fn json_call(call: &Function) -> Result<Option<JsonCall<'_>>> {
    let Some(name) = function_name(call).filter(|name| name.starts_with("JSON_")) else { return Ok(None) };
    let broken = || Error::internal(format!("{name} has arguments that the parser did not make"));
    let args = plain_args(call);
    let args = || args.clone().ok_or_else(broken);
    let decoded = match name.as_str() {
        "JSON_VALUE" => match args()?.as_slice() {
            [input, path, returning, empty, empty_default, error, error_default] => JsonCall::Value {
                input,
                path,
                returning: returning_type(returning)?,
                on_empty: behavior(empty, empty_default).ok_or_else(broken)?,
                on_error: behavior(error, error_default).ok_or_else(broken)?,
            },
            _ => return Err(broken()),
        },
        "JSON_QUERY" => match args()?.as_slice() {
            [input, path, returning, wrapper, empty, error] => JsonCall::Query {
                input,
                path,
                returning: returning_type(returning)?,
                wrapper: match string_literal(wrapper) {
                    Some("CONDITIONAL") => JsonWrapper::Conditional,
                    Some("UNCONDITIONAL") => JsonWrapper::Unconditional,
                    _ => JsonWrapper::Without,
                },
                on_empty: behavior(empty, empty).ok_or_else(broken)?,
                on_error: behavior(error, error).ok_or_else(broken)?,
            },
            _ => return Err(broken()),
        },
        "JSON_EXISTS" => match args()?.as_slice() {
            [input, path, on_error] => JsonCall::Exists {
                input,
                path,
                on_error: match string_literal(on_error) {
                    Some("TRUE") => JsonExistsOnError::True,
                    Some("UNKNOWN") => JsonExistsOnError::Unknown,
                    Some("ERROR") => JsonExistsOnError::Error,
                    _ => JsonExistsOnError::False,
                },
            },
            _ => return Err(broken()),
        },
        "JSON_OBJECT" | "JSON_OBJECTAGG" => match args()?.as_slice() {
            [on_null, members @ ..] => JsonCall::Object {
                is_aggregate: name == "JSON_OBJECTAGG",
                members: members.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
                on_null: null_clause(on_null),
            },
            [] => return Err(broken()),
        },
        "JSON_ARRAY" | "JSON_ARRAYAGG" => match args()?.as_slice() {
            [on_null, values @ ..] => JsonCall::Array {
                is_aggregate: name == "JSON_ARRAYAGG",
                values: values.to_vec(),
                on_null: null_clause(on_null),
            },
            [] => return Err(broken()),
        },
        _ => return Ok(None),
    };
    Ok(Some(decoded))
}

fn returning_type(expr: &Expr) -> Result<Option<DataType>> {
    match expr {
        Expr::Cast { data_type, .. } => flink_type(data_type).map(Some),
        _ => Ok(None),
    }
}

fn behavior<'a>(word: &Expr, default: &'a Expr) -> Option<JsonBehavior<'a>> {
    Some(match string_literal(word)? {
        "NULL" => JsonBehavior::Null,
        "ERROR" => JsonBehavior::Error,
        "EMPTY ARRAY" => JsonBehavior::EmptyArray,
        "EMPTY OBJECT" => JsonBehavior::EmptyObject,
        "DEFAULT" => JsonBehavior::Default(default),
        _ => return None,
    })
}

fn null_clause(word: &Expr) -> JsonOnNull {
    match string_literal(word) {
        Some("ABSENT") => JsonOnNull::Absent,
        _ => JsonOnNull::Null,
    }
}

/// The hints of a table: of `TableFactor::Table`, pass its `with_hints`.
///
/// # Errors
///
/// For trees that this parser did not make.
pub fn table_hints(with_hints: &[Expr]) -> Result<Vec<Hint>> {
    let mut hints = vec![];
    for expr in with_hints {
        let (Some(text), Expr::Value(value)) = (string_literal(expr), expr) else {
            return Err(Error::internal("a table's hint that the parser did not make"));
        };
        let start = value.span.start;
        hints.extend(super::hint::parse(text, start.line, start.column)?);
    }
    Ok(hints)
}

/// The hints that follow SELECT.
///
/// # Errors
///
/// For texts that are no hints; the parser has refused those in scripts.
pub fn select_hints(select: &Select) -> Result<Vec<Hint>> {
    let start = select.select_token.0.span.end;
    let mut hints = vec![];
    for hint in &select.optimizer_hints {
        hints.extend(super::hint::parse(&hint.text, start.line, start.column + 1)?);
    }
    Ok(hints)
}

/// Splits MATCH_RECOGNIZE's definitions into `WITHIN` in milliseconds, if it is there, and the definitions proper.
///
/// # Errors
///
/// If the interval is no day-time interval.
pub fn pattern_within(symbols: &[SymbolDefinition]) -> Result<(Option<i64>, Vec<&SymbolDefinition>)> {
    let is_within = |symbol: &&SymbolDefinition| symbol.symbol.value == WITHIN;
    let rest = symbols.iter().filter(|s| !is_within(s)).collect();
    let Some(within) = symbols.iter().find(is_within) else { return Ok((None, rest)) };
    let refused =
        || Error::script("WITHIN takes an interval of days to seconds").hint("write WITHIN INTERVAL '1' HOUR");
    let (interval, sign) = match &within.definition {
        Expr::Interval(interval) => (interval, 1),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Interval(interval) => (interval, -1),
            _ => return Err(refused()),
        },
        _ => return Err(refused()),
    };
    match interval_value(interval)? {
        IntervalValue::Millis(millis) => Ok((Some(sign * millis), rest)),
        IntervalValue::Months(_) => Err(refused()),
    }
}

/// Reads a quantified part of a pattern: the part, its quantifier, and whether it is reluctant (`B*?`).
pub fn reluctant(pattern: &MatchRecognizePattern) -> Option<(&MatchRecognizePattern, &RepetitionQuantifier, bool)> {
    match pattern {
        MatchRecognizePattern::Repetition(part, quantifier) => match (part.as_ref(), quantifier) {
            (MatchRecognizePattern::Repetition(inner, inner_quantifier), RepetitionQuantifier::AtMostOne) => {
                Some((inner, inner_quantifier, true))
            }
            _ => Some((part, quantifier, false)),
        },
        _ => None,
    }
}
