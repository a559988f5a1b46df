//! The parser of Flink's SQL dialect: script text in, [`Statement`]s out.
//!
//! The statements' grammar is our own ([`ast`]); queries and expressions are `sqlparser`'s trees
//! (`sqlparser::ast::{Query, Expr}`), parsed through a dialect that knows Flink's words and forms.
//! Names keep their case. Everything that parses is Flink's syntax as far as words and clauses go;
//! what a name means, which types fit and what is supported is the binder's matter.
//!
//! # How Flink's own syntax is represented
//!
//! Where `sqlparser`'s tree has no place for a construct, it becomes a `Expr::Function` whose name is a
//! single unquoted identifier in capitals, as listed here. A *word* is a string literal argument
//! (`'DAY'`, in capitals) that a user's string can't be mistaken for, since only the parser builds
//! these functions. Decoders are in [`decode`].
//!
//! - `CAST(x AS t)`, `TRY_CAST(x AS t)`: `Expr::Cast { kind: Cast | TryCast, data_type, .. }`; read the type with
//!   [`flink_type`]
//! - `DATE '..'`, `TIME '..'`, `TIMESTAMP '..'`: `Expr::TypedString` with `DataType::Date`, `Time(None, None)`,
//!   `Timestamp(None, None)`; `TIMESTAMP_LTZ '..'` is one with `DataType::Custom`, see [`flink_type`]
//! - `INTERVAL '1-2' YEAR TO MONTH` ...: `Expr::Interval`; its value in months or milliseconds by [`interval_value`],
//!   which the parser has already checked. `INTERVAL` applied to a negative string is fine: `INTERVAL -'1' DAY` is a
//!   `UnaryOp` around it
//! - `X'AB'`: `Value::HexStringLiteral`
//! - `'..'`, `U&'..'`, `N'..'`, `_UTF8'..'`: `Value::SingleQuotedString`, escapes resolved
//! - `TIMESTAMPADD(DAY, n, ts)`, `TIMESTAMPDIFF(DAY, a, b)`: function with the unit as a word: `TIMESTAMPADD('DAY',
//!   n, ts)`
//! - `EXTRACT(DAY FROM x)`: function `EXTRACT('DAY', x)`
//! - `FLOOR(x TO DAY)`, `CEIL(x TO DAY)`: functions `FLOOR_TO(x, 'DAY')`, `CEIL_TO(x, 'DAY')`; without `TO` plain
//!   `FLOOR(x)`, `CEIL(x)` (`CEILING` becomes `CEIL`)
//! - `POSITION(a IN b [FROM n])`: function `POSITION(a, b[, n])`
//! - `TRIM([BOTH | LEADING | TRAILING] [c] FROM s)`, `TRIM(s)`: function `TRIM('BOTH', c, s)`; `c` is `' '` if absent
//! - `SUBSTRING(s FROM n [FOR m])`: function `SUBSTRING(s, n[, m])`, as is the form with commas
//! - `OVERLAY(s PLACING r FROM n [FOR m])`: function `OVERLAY(s, r, n[, m])`
//! - `CURRENT_TIMESTAMP`, `CURRENT_DATE`, `LOCALTIME`... without parentheses: `Expr::Function` with
//!   `FunctionArguments::None`
//! - `ROW(a, b)`: function `ROW(a, b)`; `(a, b)` is `Expr::Tuple`
//! - `ARRAY[a, b]`, `MAP[k, v]`: functions `ARRAY(a, b)`, `MAP(k, v, ..)`; may be empty
//! - `ARRAY(query)`, `MAP(query)`, `MULTISET(query)`: the function with `FunctionArguments::Subquery`
//! - `a[i]`, `f(x).y`, `a[1].b`: `Expr::CompoundFieldAccess` (`AccessExpr::Subscript(Index)`,
//!   `AccessExpr::Dot(Identifier)`)
//! - `a.b.c`: `Expr::CompoundIdentifier`: alias, column or field is the binder's to find
//! - `CASE x WHEN a, b THEN ..`: the condition is the function `WHEN_ANY(a, b)`; see [`decode::when_values`]
//! - `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS`, `JSON_OBJECT`, `JSON_ARRAY`, `JSON_OBJECTAGG`, `JSON_ARRAYAGG`:
//!   function of that name; see [`decode::json_call`]
//! - `x IS [NOT] JSON [VALUE | OBJECT | ARRAY | SCALAR]`: function `IS_JSON(x, 'VALUE')`, under `UnaryOp Not` if
//!   negated
//! - `x BETWEEN SYMMETRIC a AND b`: function `BETWEEN_SYMMETRIC(x, a, b)`, under `UnaryOp Not` if negated;
//!   `ASYMMETRIC` is the plain `Expr::Between`
//! - `(a, b) OVERLAPS (c, d)`: `Expr::BinaryOp` with `BinaryOperator::Overlaps`
//! - `DESCRIPTOR(a, b)`: function `DESCRIPTOR` with identifiers as arguments
//! - `TABLE t [PARTITION BY ..] [ORDER BY ..]` or `(query) [PARTITION BY ..]` as an argument: function `TABLE_ARG`;
//!   see [`decode::table_arg`]. A bare `(query)` stays `Expr::Subquery`
//! - `MODEL m` as an argument: function `MODEL_ARG` whose one argument is an identifier or a compound identifier
//! - `f(name => value)`: `FunctionArg::Named` with `FunctionArgOperator::RightArrow`
//! - `TABLE(f(..))` in FROM: `TableFactor::TableFunction { expr: Function }`
//! - `f(..)` in FROM: `TableFactor::Table { args: Some(..) }`
//! - `LATERAL TABLE(f(..)) AS t(a, b)`: `TableFactor::Function { lateral: true, name: f, args }`
//! - `UNNEST(x) [WITH ORDINALITY] AS t(a)`: `TableFactor::UNNEST`
//! - `t FOR SYSTEM_TIME AS OF x`: `TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(x)) }`
//! - `t /*+ OPTIONS('k'='v') */`: `TableFactor::Table { with_hints }`; read them with [`decode::table_hints`]
//! - `SELECT /*+ STATE_TTL('a'='1d') */`: `Select::optimizer_hints`; read them with [`decode::select_hints`]
//! - `MATCH_RECOGNIZE`: `TableFactor::MatchRecognize`; `WITHIN` is by [`decode::pattern_within`], a reluctant
//!   quantifier (`B*?`) is a `Repetition(Repetition(B, *), AtMostOne)` without a group between, see
//!   [`decode::reluctant`]
//! - `TUMBLE(ts, i)`, `TUMBLE_START(ts, i)`... in GROUP BY queries: plain functions
//! - `GROUP BY GROUPING SETS (..)`, `CUBE`, `ROLLUP`: `Expr::GroupingSets`, `Cube`, `Rollup`
//!
//! Every tree keeps the places of its tokens: [`position_of`] gives the line and column of an
//! expression for messages.

pub mod ast;
mod call;
mod check;
mod ddl;
pub mod decode;
mod dialect;
mod error;
mod expr;
mod hint;
mod interval;
mod json;
mod lex;
mod position;
mod script;
mod types;
mod words;

pub use ast::{Statement, StatementKind};
pub use interval::{IntervalValue, interval_value};
pub use position::{position_of, position_of_ident, position_of_name, render};
pub use types::{flink_type, parse_type};

use millstream_core::error::Result;

/// Parses a script: statements separated by semicolons.
///
/// Any text gives statements or an error; nesting is limited (120 parentheses, 1200 operators in a chain), so
/// that trees can be walked by recursion.
///
/// # Errors
///
/// The first mistake, with its line and column, what was expected, and a hint for the common ones.
pub fn parse_script(text: &str) -> Result<Vec<Statement>> {
    let start = sqlparser::tokenizer::Location { line: 1, column: 1 };
    let source = lex::Source::new(text).map_err(|failed| error::translate(failed.1, &failed.0, start))?;
    let dialect = dialect::FlinkDialect::default();
    let mut script = script::Script::new(&source, &dialect);
    script.statements().map_err(|e| error::translate(e, &source, script.here()))
}

#[cfg(test)]
mod tests;
