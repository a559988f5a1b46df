//! Binding scalar expressions: names to columns, literals to Flink's types, calls to functions.

use super::aggregate::{Grouping, is_aggregate};
use super::build;
use super::over::Overs;
use super::pending::Subqueries;
use super::place::{At, Placed, at_expr, at_ident, at_name, error, parts, unsupported, with_nearest};
use super::subquery::{Correlated, OUTER, row_items};
use crate::catalog::{CATALOG, DATABASE};
use crate::parser;
use crate::rel::{Column, RelRef, Role};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use millstream_expr::build::{self as exprs, Value};
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType as SqlType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Subscript, UnaryOperator, Value as SqlValue,
};
use std::sync::Arc;

/// The columns that names can mean.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// All columns.
    pub columns: Vec<Column>,
    /// Named ranges of them: alias, first, end.
    pub tables: Vec<(String, usize, usize)>,
    /// What `*` and names without a table mean, in this order: of the columns that a USING makes equal only one.
    pub visible: Vec<usize>,
    /// The query around this one, if this is a subquery.
    pub outer: Option<Arc<Outer>>,
    /// Conditions in FROM that read columns of the query around this one.
    pub correlated: Vec<Correlated>,
}

/// What names of the query around a subquery mean in it.
#[derive(Clone, Debug)]
pub struct Outer {
    /// That query's scope.
    pub scope: Scope,
    /// The rows that it is of.
    pub rel: RelRef,
    /// Where its columns can't be read, though names would be found.
    pub refused: Option<&'static str>,
}

impl Scope {
    /// A scope of one relation.
    pub fn of(alias: Option<&str>, columns: &[Column]) -> Self {
        let tables = alias.map(|a| (a.to_string(), 0, columns.len())).into_iter().collect();
        let visible = (0..columns.len()).collect();
        Scope { columns: columns.to_vec(), tables, visible, outer: None, correlated: vec![] }
    }
    /// The columns and tables of both, the other's behind its own; an error if they have a table's name in common.
    pub fn joined(mut self, other: Scope, at: At) -> Result<Self> {
        if let Some((name, ..)) = other.tables.iter().find(|(name, ..)| self.table(name).is_some()) {
            return Err(Error::script(format!("two tables in FROM have the name '{name}'"))
                .hint(format!("give one of them another name: {name} AS {name}2"))
                .at_place(at));
        }
        let width = self.columns.len();
        self.columns.extend(other.columns);
        self.tables.extend(other.tables.into_iter().map(|(name, from, to)| (name, from + width, to + width)));
        self.visible.extend(other.visible.into_iter().map(|index| index + width));
        self.correlated.extend(other.correlated.into_iter().map(|condition| condition.shifted(width)));
        Ok(self)
    }
    /// The range of columns of a table's alias.
    pub fn table(&self, name: &str) -> Option<(usize, usize)> {
        self.tables.iter().find(|(alias, ..)| alias == name).map(|(_, first, end)| (*first, *end))
    }
    /// The path of a column without the catalog and the database of its table.
    fn below_database<'i>(&self, idents: &'i [Ident]) -> &'i [Ident] {
        let is_path = |path: &[&str]| {
            idents.len() > path.len() + 1
                && idents.iter().zip(path).all(|(ident, name)| ident.value == *name)
                && self.table(&idents[path.len()].value).is_some()
        };
        match () {
            () if is_path(&[CATALOG, DATABASE]) => &idents[2..],
            () if is_path(&[DATABASE]) => &idents[1..],
            () => idents,
        }
    }
    fn find(&self, name: &str, among: &[usize], at: At) -> Result<Option<usize>> {
        let mut found = among.iter().copied().filter(|i| self.columns[*i].name == name);
        let index = found.next();
        match (index, found.next()) {
            (Some(first), Some(second)) => {
                let table = |index: usize| self.tables.iter().find(|(_, from, to)| (*from..*to).contains(&index));
                let error = Error::script(format!("column '{name}' is ambiguous")).at_place(at);
                Err(match (table(first), table(second)) {
                    (Some((a, ..)), Some((b, ..))) if a != b => error.hint(format!("write {a}.{name} or {b}.{name}")),
                    _ => error,
                })
            }
            _ => Ok(index),
        }
    }
    fn unknown(&self, name: &str, at: At, among: &[usize]) -> Error {
        let error = Error::script(format!("there is no column '{name}'")).at_place(at);
        with_nearest(error, name, among.iter().map(|i| self.columns[*i].name.as_str()))
    }
    /// The column that a path starts with, and the fields after it; `None` if nothing has such a name.
    fn lookup<'i>(&self, idents: &'i [Ident]) -> Result<Option<(usize, &'i [Ident])>> {
        let idents = self.below_database(idents);
        let [first, rest @ ..] = idents else { return Err(Error::internal("a name has no parts")) };
        if let ([second, fields @ ..], Some((from, to))) = (rest, self.table(&first.value)) {
            let (at, range) = (at_ident(second), (from..to).collect::<Vec<_>>());
            return match self.find(&second.value, &range, at)? {
                Some(index) => Ok(Some((index, fields))),
                None => Err(self.unknown(&second.value, at, &range)),
            };
        }
        Ok(self.find(&first.value, &self.visible, at_ident(first))?.map(|index| (index, rest)))
    }
    /// The same; a name that nothing here has is an error.
    pub fn resolve<'i>(&self, idents: &'i [Ident]) -> Result<(usize, &'i [Ident])> {
        self.lookup(idents)?.ok_or_else(|| match idents.first() {
            Some(first) => self.unknown(&first.value, at_ident(first), &self.visible),
            None => Error::internal("a name has no parts"),
        })
    }
}

/// Binds expressions over a scope.
pub struct ExprBinder<'a> {
    /// What names mean.
    pub scope: &'a Scope,
    /// The session's time zone.
    pub zone: SessionZone,
    /// In a grouped query: what stands after the aggregate.
    pub grouping: Option<&'a mut Grouping>,
    /// Where subqueries may stand: who takes them.
    pub subqueries: Option<&'a mut dyn Subqueries>,
    /// Where calls with OVER may stand: those so far.
    pub overs: Option<&'a mut Overs>,
}

impl<'a> ExprBinder<'a> {
    /// A binder outside of aggregates.
    pub fn new(scope: &'a Scope, zone: SessionZone) -> Self {
        ExprBinder { scope, zone, grouping: None, subqueries: None, overs: None }
    }

    /// Binds a BOOLEAN; `clause` names it in errors.
    pub fn bind_condition(&mut self, ast: &Expr, clause: &str) -> Result<ExprRef> {
        let bound = self.bind(ast)?;
        match bound.data_type().kind {
            TypeKind::Boolean => Ok(bound),
            TypeKind::Null => Ok(build::null(TypeKind::Boolean)),
            _ => error(at_expr(ast), format!("{clause} must be a BOOLEAN, but is {}", bound.data_type())),
        }
    }

    /// Binds an expression and folds what is constant in it.
    pub fn bind(&mut self, ast: &Expr) -> Result<ExprRef> {
        let at = at_expr(ast);
        if let Some(grouping) = self.grouping.as_deref_mut()
            && let Some(found) = grouping.intercept(ast, self.scope, self.zone)?
        {
            return Ok(found);
        }
        let bound = self.bind_node(ast).at_place(at)?;
        exprs::fold(bound).at_place(at)
    }

    fn call(&self, name: &str, args: Vec<ExprRef>) -> Result<ExprRef> {
        exprs::call(name, args, &self.zone)
    }

    fn call_on(&mut self, name: &str, args: &[&Expr]) -> Result<ExprRef> {
        let args = args.iter().map(|a| self.bind(a)).collect::<Result<Vec<_>>>()?;
        self.call(name, args)
    }

    fn negate_if(&self, negated: bool, expr: ExprRef) -> Result<ExprRef> {
        if negated { self.call("NOT", vec![expr]) } else { Ok(expr) }
    }

    fn bind_node(&mut self, ast: &Expr) -> Result<ExprRef> {
        let at = at_expr(ast);
        match ast {
            Expr::Identifier(ident) => self.path(std::slice::from_ref(ident)),
            Expr::CompoundIdentifier(idents) => self.path(idents),
            Expr::CompoundFieldAccess { root, access_chain } => {
                let mut bound = self.bind(root)?;
                for access in access_chain {
                    bound = match access {
                        AccessExpr::Dot(Expr::Identifier(name)) => field(bound, name)?,
                        AccessExpr::Subscript(Subscript::Index { index }) => {
                            let index = self.bind(index)?;
                            self.call("ITEM", vec![bound, index])?
                        }
                        AccessExpr::Dot(_) | AccessExpr::Subscript(_) => return unsupported(at, "this field access"),
                    };
                }
                Ok(bound)
            }
            Expr::Nested(inner) => self.bind(inner),
            Expr::Value(value) => literal(&value.value).at_place(at),
            Expr::TypedString(typed) => self.typed_string(&typed.data_type, &typed.value.value),
            Expr::Interval(interval) => interval_literal(interval),
            Expr::IsTrue(x) => self.call_on("IS TRUE", &[x]),
            Expr::IsNotTrue(x) => self.call_on("IS NOT TRUE", &[x]),
            Expr::IsFalse(x) => self.call_on("IS FALSE", &[x]),
            Expr::IsNotFalse(x) => self.call_on("IS NOT FALSE", &[x]),
            Expr::IsNull(x) | Expr::IsUnknown(x) => self.call_on("IS NULL", &[x]),
            Expr::IsNotNull(x) | Expr::IsNotUnknown(x) => self.call_on("IS NOT NULL", &[x]),
            Expr::IsDistinctFrom(a, b) => self.call_on("IS DISTINCT FROM", &[a, b]),
            Expr::IsNotDistinctFrom(a, b) => self.call_on("IS NOT DISTINCT FROM", &[a, b]),
            Expr::InList { expr, list, negated } => {
                if list.is_empty() {
                    return error(at, "IN needs at least one value");
                }
                let mut args = vec![self.bind(expr)?];
                for item in list {
                    args.push(self.bind(item)?);
                }
                let found = self.call("IN", args)?;
                self.negate_if(*negated, found)
            }
            Expr::Between { expr, negated, low, high } => {
                let (x, low, high) = (self.bind(expr)?, self.bind(low)?, self.bind(high)?);
                let between = self.between(x, low, high)?;
                self.negate_if(*negated, between)
            }
            Expr::Like { negated, expr, pattern, escape_char, .. } => {
                let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(escape_literal(&escape.value, at)?);
                }
                let like = self.call("LIKE", args)?;
                self.negate_if(*negated, like)
            }
            Expr::SimilarTo { negated, expr, pattern, escape_char } => {
                let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(escape_literal(&escape.value, at)?);
                }
                let similar = self.call("SIMILAR TO", args)?;
                self.negate_if(*negated, similar)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => {
                let (Expr::Tuple(first), Expr::Tuple(second)) = (&**left, &**right) else {
                    return error(at, "OVERLAPS stands between two spans: (start, end) OVERLAPS (start, end)");
                };
                self.call_on("OVERLAPS", &first.iter().chain(second).collect::<Vec<_>>())
            }
            Expr::BinaryOp { left, op, right } => {
                let name = binary_operator(op).ok_or_else(|| Error::unsupported(format!("the operator {op}")))?;
                self.call_on(name, &[left, right])
            }
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Plus => self.bind(expr),
                UnaryOperator::Minus => match &**expr {
                    // With its sign: the least numbers have one more than the greatest.
                    Expr::Value(value)
                        if let SqlValue::Number(text, _) = &value.value
                            && text.parse::<u64>().is_ok() =>
                    {
                        number(&format!("-{text}"))
                    }
                    _ => self.call_on("-", &[expr]),
                },
                UnaryOperator::Not => self.call_on("NOT", &[expr]),
                other => unsupported(at, format!("the operator {other}")),
            },
            Expr::Cast { kind, expr, data_type, .. } => {
                let bound = self.bind(expr)?;
                let target = parser::flink_type(data_type).at_place(at)?;
                let is_try = matches!(kind, CastKind::TryCast);
                exprs::cast(bound, target, is_try, &self.zone)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let operand = operand.as_ref().map(|o| self.bind(o)).transpose()?;
                let mut args = Vec::with_capacity(conditions.len() * 2 + 1);
                for when in conditions {
                    let condition = match &operand {
                        Some(operand) => {
                            let mut equal = vec![];
                            for value in parser::decode::when_values(&when.condition) {
                                let args = vec![operand.clone(), self.bind(value)?];
                                equal.push(self.call("=", args).at_place(at_expr(value))?);
                            }
                            if equal.len() > 1 { self.call("OR", equal)? } else { equal.remove(0) }
                        }
                        None => self.bind_condition(&when.condition, "the condition of WHEN")?,
                    };
                    args.push(condition);
                    args.push(self.bind(&when.result)?);
                }
                args.push(match else_result {
                    Some(result) => self.bind(result)?,
                    None => build::null(TypeKind::Null),
                });
                self.call("CASE", args)
            }
            Expr::Tuple(items) => {
                let items: Vec<&Expr> = items.iter().collect();
                self.call_on("ROW", &items)
            }
            Expr::Function(function) => self.function(function, at),
            Expr::InSubquery { expr, .. } => {
                let operands = row_items(expr).into_iter().map(|item| self.bind(item)).collect::<Result<_>>()?;
                self.subquery(ast, operands, at)
            }
            Expr::Exists { .. } | Expr::Subquery(_) | Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                self.subquery(ast, vec![], at)
            }
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                error(at, "GROUPING SETS, CUBE and ROLLUP stand in GROUP BY only")
            }
            other => unsupported(at, format!("the expression {other}")),
        }
    }

    fn between(&self, x: ExprRef, low: ExprRef, high: ExprRef) -> Result<ExprRef> {
        let low = self.call(">=", vec![x.clone(), low])?;
        let high = self.call("<=", vec![x, high])?;
        self.call("AND", vec![low, high])
    }

    fn subquery(&mut self, ast: &Expr, operands: Vec<ExprRef>, at: At) -> Result<ExprRef> {
        let Some(subqueries) = self.subqueries.as_deref_mut() else {
            return Err(Error::unsupported("a subquery here")
                .hint("subqueries stand in SELECT, WHERE and HAVING, outside of aggregates")
                .at_place(at));
        };
        let (scope, grouping) = (self.scope, self.grouping.as_deref());
        let local = |index: usize| match grouping {
            None => Ok(build::column(index, &scope.columns[index])),
            Some(grouping) => grouping.key_column(index, &scope.columns[index].name),
        };
        subqueries.value(ast, operands, scope, &local)
    }

    /// Resolves `[alias.]column[.field]*`.
    fn path(&mut self, idents: &[Ident]) -> Result<ExprRef> {
        let at = idents.first().map_or((0, 0), at_ident);
        let (mut bound, rest) = match self.scope.lookup(idents)? {
            Some((index, rest)) => {
                if let Some(grouping) = self.grouping.as_deref() {
                    let name = idents.iter().map(|i| i.value.as_str()).collect::<Vec<_>>().join(".");
                    return Err(grouping.not_grouped(&name).at_place(at));
                }
                (build::column(index, &self.scope.columns[index]), rest)
            }
            None => self.outer_column(idents, at)?,
        };
        for name in rest {
            bound = field(bound, name)?;
        }
        Ok(bound)
    }

    /// A column of the query around this one, and the fields after it.
    fn outer_column<'i>(&self, idents: &'i [Ident], at: At) -> Result<(ExprRef, &'i [Ident])> {
        let mut outer = self.scope.outer.as_deref();
        let mut levels = 0;
        while let Some(around) = outer {
            levels += 1;
            if let Some((index, rest)) = around.scope.lookup(idents)? {
                let hint = "such columns are read in the WHERE of a subquery's own SELECT, one level down";
                if let Some(what) = around.refused {
                    let error = Error::unsupported(format!("{what} that reads columns of the query around it"));
                    return Err(error.hint(hint).at_place(at));
                }
                if levels > 1 {
                    let error = Error::unsupported("a subquery that reads columns of a query two levels out");
                    return Err(error.hint(hint).at_place(at));
                }
                return Ok((build::column(OUTER + index, &around.scope.columns[index]), rest));
            }
            outer = around.scope.outer.as_deref();
        }
        Err(self.unresolved(idents, at))
    }

    fn unresolved(&self, idents: &[Ident], at: At) -> Error {
        let scope = self.scope;
        let name = idents.first().map_or("", |ident| ident.value.as_str());
        if idents.len() < 2 {
            return scope.unknown(name, at, &scope.visible);
        }
        let error = Error::script(format!("there is no table or column '{name}'")).at_place(at);
        let names = scope.tables.iter().map(|(n, ..)| n.as_str());
        with_nearest(error, name, names.chain(scope.columns.iter().map(|c| c.name.as_str())))
    }

    fn typed_string(&mut self, data_type: &SqlType, value: &SqlValue) -> Result<ExprRef> {
        let Some(text) = string_of(value) else { return error((0, 0), "a text must follow the type's name") };
        let digits = text.rsplit_once('.').map_or(0, |(_, fraction)| fraction.trim_end().len().min(9)) as u8;
        let kind = match data_type {
            SqlType::Date => TypeKind::Date,
            SqlType::Time(..) => TypeKind::Time(digits.min(3)),
            SqlType::Timestamp(..) => TypeKind::Timestamp(digits),
            _ => TypeKind::TimestampLtz(digits.max(3)),
        };
        let shown = kind.to_string();
        let name = shown.split('(').next().unwrap_or_default();
        let wrong = || Error::script(format!("'{text}' is not a valid {name} literal"));
        let source = string_literal(text);
        let value = exprs::cast(source, kind.not_null(), false, &self.zone).and_then(exprs::fold);
        let value = value.map_err(|_| wrong())?;
        match value.as_literal() {
            Some(array) if arrow::array::Array::is_null(array.as_ref(), 0) => Err(wrong()),
            _ => Ok(value),
        }
    }

    fn function(&mut self, function: &Function, at: At) -> Result<ExprRef> {
        let name_parts = parts(&function.name);
        let [name] = name_parts.as_slice() else {
            return unsupported(at_name(&function.name), format!("the function {}", function.name));
        };
        let name = name.to_uppercase();
        if function.over.is_some() {
            return self.over(function, at);
        }
        if matches!(name.as_str(), "ROW_NUMBER" | "RANK" | "DENSE_RANK" | "LAG" | "LEAD" | "NTILE") {
            let error = Error::script(format!("{name} needs a window: {name}(..) OVER (..)"));
            return Err(error.hint("OVER (PARTITION BY k ORDER BY ts)").at_place(at));
        }
        if is_aggregate(&name) {
            return error(at, format!("the aggregate {name} can't stand here"));
        }
        if function.filter.is_some() {
            return error(at, format!("FILTER stands after aggregates only, and {name} is none"));
        }
        match name.as_str() {
            "DESCRIPTOR" | "TABLE_ARG" | "MODEL_ARG" => {
                return error(at, "this argument belongs to a table function in FROM");
            }
            "TUMBLE" | "HOP" | "SESSION" | "CUMULATE" => {
                return error(at, format!("{name} stands in GROUP BY, or in FROM as TABLE({name}(..))"));
            }
            "TUMBLE_START" | "TUMBLE_END" | "TUMBLE_ROWTIME" | "TUMBLE_PROCTIME" | "HOP_START" | "HOP_END"
            | "HOP_ROWTIME" | "HOP_PROCTIME" | "SESSION_START" | "SESSION_END" | "SESSION_ROWTIME"
            | "SESSION_PROCTIME" => {
                let window = name.split('_').next().unwrap_or_default();
                return error(at, format!("{name} needs the same {window}(..) in GROUP BY"));
            }
            "JSON" => {
                let error = Error::script("JSON(..) stands in JSON_OBJECT and JSON_ARRAY only");
                return Err(error.hint("the text is JSON already").at_place(at));
            }
            "GROUPING" | "GROUPING_ID" => return error(at, format!("{name} needs GROUP BY")),
            _ => {}
        }
        let mut args = match &function.args {
            FunctionArguments::None => vec![],
            FunctionArguments::Subquery(_) => return unsupported(at, format!("{name} of a subquery")),
            FunctionArguments::List(list) => {
                if list.duplicate_treatment.is_some() {
                    return error(at, format!("DISTINCT stands in aggregates only, and {name} is none"));
                }
                list.args.iter().map(|arg| self.argument(arg, &name)).collect::<Result<Vec<_>>>()?
            }
        };
        // What a constructor gives is JSON already.
        if let ("JSON_STRING", Some(true)) = (name.as_str(), json_values(&name, function).first()) {
            return args.pop().ok_or_else(|| Error::internal("JSON_STRING has lost its argument"));
        }
        if let "JSON_OBJECT" | "JSON_ARRAY" = name.as_str() {
            args.insert(1, json_formats(&name, function));
        }
        if name == "BETWEEN_SYMMETRIC" {
            let [x, a, b] = args.as_slice() else { return Err(Error::internal("BETWEEN SYMMETRIC has 3 arguments")) };
            let up = self.between(x.clone(), a.clone(), b.clone())?;
            let down = self.between(x.clone(), b.clone(), a.clone())?;
            return self.call("OR", vec![up, down]);
        }
        if name == "CURRENT_WATERMARK" {
            let role = args.first().map_or(Role::Plain, |arg| self.role_of(arg, &self.scope.columns));
            if !matches!(role, Role::RowTime | Role::WindowTime(_)) {
                return Err(Error::script("CURRENT_WATERMARK takes a column that is an event-time attribute")
                    .hint("declare WATERMARK FOR the column in CREATE TABLE")
                    .at_place(at));
            }
        }
        self.call(&name, args)
    }

    fn argument(&mut self, arg: &FunctionArg, function: &str) -> Result<ExprRef> {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => match json_text(expr) {
                Some(text) if matches!(function, "JSON_OBJECT" | "JSON_ARRAY") => {
                    exprs::fold(self.call_on("JSON", &[text])?)
                }
                _ => self.bind(expr),
            },
            FunctionArg::Named { name, .. } => {
                unsupported(at_ident(name), format!("a named argument of the function {function}"))
            }
            _ => error((0, 0), format!("'*' is no argument of {function}")),
        }
    }

    /// The time attribute's role that an expression passes on.
    pub fn role_of(&self, bound: &ExprRef, columns: &[Column]) -> Role {
        match bound.as_column() {
            Some(index) => columns.get(index).map_or(Role::Plain, |c| c.role),
            None if bound.to_string().eq_ignore_ascii_case("PROCTIME()") => Role::ProcTime,
            None => Role::Plain,
        }
    }
}

/// The argument of `JSON(text)`, if `expr` is that.
fn json_text(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Nested(inner) => json_text(inner),
        Expr::Function(call) if parser::decode::function_name(call)? == "JSON" => {
            match *parser::decode::plain_args(call)? {
                [text] => Some(text),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Which values of a function that makes JSON are JSON already, since a constructor or `JSON(..)` gives them.
fn json_values(name: &str, function: &Function) -> Vec<bool> {
    let is_json = |expr: &Expr| {
        let mut expr = expr;
        while let Expr::Nested(inner) = expr {
            expr = inner;
        }
        match expr {
            Expr::Function(call) => {
                let name = parser::decode::function_name(call);
                matches!(name.as_deref(), Some("JSON" | "JSON_OBJECT" | "JSON_ARRAY"))
            }
            _ => false,
        }
    };
    let operands = parser::decode::plain_args(function).unwrap_or_default();
    let (skip, step) = match name {
        "JSON_OBJECT" => (2, 2),
        "JSON_ARRAY" => (1, 1),
        _ => (0, 1),
    };
    operands.into_iter().skip(skip).step_by(step).map(is_json).collect()
}

/// [`json_values`] as the word argument of a constructor: a letter for each value.
fn json_formats(name: &str, function: &Function) -> ExprRef {
    let letters = json_values(name, function).into_iter().map(|is_json| if is_json { 'R' } else { 'V' });
    string_literal(&letters.collect::<String>())
}

fn field(bound: ExprRef, name: &Ident) -> Result<ExprRef> {
    let data_type = bound.data_type().clone();
    let TypeKind::Row(fields) = &data_type.kind else {
        return error(at_ident(name), format!("'{}' is asked of a {data_type}, which is no ROW", name.value));
    };
    if !fields.iter().any(|f| f.name == name.value) {
        let error = Error::script(format!("the row has no field '{}'", name.value)).at_place(at_ident(name));
        return Err(with_nearest(error, &name.value, fields.iter().map(|f| f.name.as_str())));
    }
    exprs::field(bound, &name.value).at_place(at_ident(name))
}

/// The name of a binary operator's function.
pub(super) fn binary_operator(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::StringConcat => "||",
        BinaryOperator::Gt => ">",
        BinaryOperator::Lt => "<",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::And => "AND",
        BinaryOperator::Or => "OR",
        _ => return None,
    })
}

/// A string literal's text.
pub fn string_of(value: &SqlValue) -> Option<&str> {
    match value {
        SqlValue::SingleQuotedString(s) | SqlValue::NationalStringLiteral(s) | SqlValue::UnicodeStringLiteral(s) => {
            Some(s)
        }
        _ => None,
    }
}

fn string_literal(text: &str) -> ExprRef {
    let length = text.chars().count().max(1) as u32;
    exprs::literal(Value::String(text.to_string()), TypeKind::Char(length).not_null())
}

/// The character behind `ESCAPE`.
fn escape_literal(value: &SqlValue, at: At) -> Result<ExprRef> {
    match string_of(value) {
        Some(text) if text.chars().count() == 1 => Ok(string_literal(text)),
        _ => error(at, format!("ESCAPE takes one character, but got {value}")),
    }
}

fn literal(value: &SqlValue) -> Result<ExprRef> {
    if let Some(text) = string_of(value) {
        return Ok(string_literal(text));
    }
    match value {
        SqlValue::Null => Ok(build::null(TypeKind::Null)),
        SqlValue::Boolean(b) => Ok(build::boolean(*b)),
        SqlValue::Number(text, _) => number(text),
        SqlValue::HexStringLiteral(hex) => {
            let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
                .map(|i| hex.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect();
            match bytes {
                Some(bytes) if hex.len() % 2 == 0 => {
                    let length = bytes.len().max(1) as u32;
                    Ok(exprs::literal(Value::Bytes(bytes), TypeKind::Binary(length).not_null()))
                }
                _ => error((0, 0), format!("X'{hex}' is not a valid binary literal")),
            }
        }
        other => unsupported((0, 0), format!("the literal {other}")),
    }
}

/// A number's literal: `1e3` is a DOUBLE, `1.5` a DECIMAL, a whole number an INT if it fits, else a BIGINT, else a
/// DECIMAL.
fn number(text: &str) -> Result<ExprRef> {
    let out_of_range = || Error::script(format!("the number {text} is out of range"));
    if text.contains(['e', 'E']) {
        let value = text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(out_of_range)?;
        return Ok(exprs::literal(Value::Double(value), TypeKind::Double.not_null()));
    }
    if !text.trim_end_matches('.').contains('.')
        && let Ok(value) = text.trim_end_matches('.').parse::<i64>()
    {
        let kind = if i32::try_from(value).is_ok() { TypeKind::Int } else { TypeKind::BigInt };
        return Ok(exprs::literal(Value::Int(value), kind.not_null()));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let value: i128 = digits.parse().map_err(|_| out_of_range())?;
    let scale = fraction.len();
    // A zero before the point counts (as in Calcite).
    let precision = digits.len();
    if precision > 38 {
        return Err(out_of_range());
    }
    Ok(exprs::literal(Value::Decimal(value), TypeKind::Decimal(precision as u8, scale as u8).not_null()))
}

fn interval_literal(interval: &sqlparser::ast::Interval) -> Result<ExprRef> {
    let (value, kind) = crate::bind::window::interval_of(interval)?;
    Ok(exprs::literal(Value::Int(value), kind.not_null()))
}

/// The type of a column for its use in a schema: an untyped NULL has none.
pub fn known_type(bound: &ExprRef, at: At) -> Result<DataType> {
    match bound.data_type().kind {
        TypeKind::Null => Err(Error::script("the type of NULL is not known here")
            .hint("give it a type: CAST(NULL AS STRING)")
            .at_place(at)),
        _ => Ok(bound.data_type().clone()),
    }
}
