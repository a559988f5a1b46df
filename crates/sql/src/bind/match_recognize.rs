//! Binding MATCH_RECOGNIZE: patterns, and the rows that conditions and measures read.
//!
//! What reads rows of the match (`A.price`, `LAST(A.price, 1)`, `SUM(A.price)`) becomes a column of its own, so that
//! what is left is an expression like any other.

use super::aggregate::is_aggregate;
use super::aggregate_call::bind_call;
use super::build;
use super::expr::{ExprBinder, Scope};
use super::place::{At, Placed, at_expr, at_ident, error, parts, unsupported, with_nearest};
use super::query::QueryBinder;
use crate::parser::decode;
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use millstream_core::graph::{AggregateCall, WindowTime};
use millstream_core::pattern::{AfterMatch, MatchColumn, MatchRecognize, PatternVariable, SortColumn};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use sqlparser::ast::{
    AccessExpr, AfterMatchSkip, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    MatchRecognizePattern, MatchRecognizeSymbol, Measure, OrderByExpr, RepetitionQuantifier, RowsPerMatch,
    SymbolDefinition, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// Marks, as their quotes, names that are columns made for a match: what has been read already.
const MADE: Option<char> = Some('\u{1}');

/// The clauses of MATCH_RECOGNIZE behind its table.
pub struct Clauses<'a> {
    /// `PARTITION BY`
    pub partition_by: &'a [Expr],
    /// `ORDER BY`
    pub order_by: &'a [OrderByExpr],
    /// `MEASURES`
    pub measures: &'a [Measure],
    /// `ONE ROW PER MATCH`
    pub rows_per_match: &'a Option<RowsPerMatch>,
    /// `AFTER MATCH SKIP`
    pub after_match_skip: &'a Option<AfterMatchSkip>,
    /// `PATTERN`
    pub pattern: &'a MatchRecognizePattern,
    /// `DEFINE`, and `WITHIN` among it.
    pub symbols: &'a [SymbolDefinition],
}

impl QueryBinder<'_> {
    /// Binds `input MATCH_RECOGNIZE (..)`; `at` is where it stands.
    pub fn match_recognize(&mut self, input: RelRef, clauses: &Clauses<'_>, at: At) -> Result<RelRef> {
        let zone = self.zone();
        let scope = Scope::of(None, &input.columns);
        let keys = partition(clauses.partition_by, &scope, zone)?;
        let (time, order) = order(clauses.order_by, &scope, zone, at)?;
        let mut variables = vec![];
        flatten(clauses.pattern, &mut variables, at)?;
        check_pattern(&variables, at)?;
        if let Some(RowsPerMatch::AllRows(_)) = clauses.rows_per_match {
            return Err(Error::unsupported("ALL ROWS PER MATCH").hint("write ONE ROW PER MATCH").at_place(at));
        }
        let (within_ms, definitions) = decode::pattern_within(clauses.symbols).at_place(at)?;
        if within_ms.is_some_and(|ms| ms <= 0) {
            return error(at, "WITHIN must be a positive interval");
        }
        let mut names: Vec<Variable> = variables.iter().map(|(v, _)| Variable::of(v)).collect();
        let mut arguments = Arguments { columns: vec![], exprs: vec![] };
        let mut define = Made::default();
        for definition in definitions {
            let at = at_ident(&definition.symbol);
            let number = find(&names, &definition.symbol)?;
            if std::mem::replace(&mut names[number].is_defined, true) {
                return error(at, format!("the pattern variable '{}' is defined twice", definition.symbol.value));
            }
            let tested = Some(number);
            let mut reader =
                Reader { names: &names, scope: &scope, zone, tested, made: &mut define, arguments: &mut arguments };
            let condition = reader.bind(&definition.definition, true)?;
            variables[number].0.condition = Some(condition);
        }
        let mut output: Vec<Column> =
            keys.iter().map(|k| Column { role: Role::Plain, ..input.columns[*k].clone() }).collect();
        let (mut measured, mut measures) = (Made::default(), vec![]);
        for measure in clauses.measures {
            if output.iter().any(|c| c.name == measure.alias.value) {
                let message = format!("MATCH_RECOGNIZE has two columns '{}'", measure.alias.value);
                return Err(Error::script(message)
                    .hint("the columns of PARTITION BY are among its columns")
                    .at_place(at_ident(&measure.alias)));
            }
            let made = &mut measured;
            let mut reader =
                Reader { names: &names, scope: &scope, zone, tested: None, made, arguments: &mut arguments };
            let bound = reader.bind(&measure.expr, false)?;
            super::expr::known_type(&bound, at_expr(&measure.expr))?;
            let role = match bound.as_column().map(|c| &measured.columns[c].0) {
                Some(Place::Made(MatchColumn::RowTime { .. })) => Role::RowTime,
                Some(_) => Role::Plain,
                None => ExprBinder::new(&scope, zone).role_of(&bound, &[]),
            };
            output.push(Column { name: measure.alias.value.clone(), data_type: bound.data_type().clone(), role });
            measures.push(bound);
        }
        let input = arguments.below(input);
        let wide = input.columns.len();
        let (define_columns, places) = define.finish(wide);
        for (variable, _) in &mut variables {
            variable.condition = variable.condition.as_ref().map(|c| put(c, &places, &define));
        }
        let (measure_columns, places) = measured.finish(0);
        let measures = measures.iter().map(|m| put(m, &places, &measured)).collect();
        let skip = match clauses.after_match_skip {
            None | Some(AfterMatchSkip::ToNextRow) => AfterMatch::ToNextRow,
            Some(AfterMatchSkip::PastLastRow) => AfterMatch::PastLastRow,
            Some(AfterMatchSkip::ToFirst(variable)) => AfterMatch::ToFirst(find(&names, variable)?),
            Some(AfterMatchSkip::ToLast(variable)) => AfterMatch::ToLast(find(&names, variable)?),
        };
        let variables = variables.into_iter().map(|(variable, _)| variable).collect();
        let search =
            MatchRecognize { keys, time, order, variables, define_columns, measure_columns, measures, skip, within_ms };
        Ok(Rel::new(RelOp::Match { input, search: Box::new(search) }, output))
    }
}

/// PARTITION BY's columns.
fn partition(exprs: &[Expr], scope: &Scope, zone: SessionZone) -> Result<Vec<usize>> {
    let mut keys = vec![];
    for expr in exprs {
        match ExprBinder::new(scope, zone).bind(expr)?.as_column() {
            Some(column) if keys.contains(&column) => return error(at_expr(expr), "PARTITION BY names a column twice"),
            Some(column) => keys.push(column),
            None => return error(at_expr(expr), "PARTITION BY of MATCH_RECOGNIZE takes columns only"),
        }
    }
    Ok(keys)
}

/// ORDER BY: the time attribute, and the columns after it.
fn order(by: &[OrderByExpr], scope: &Scope, zone: SessionZone, at: At) -> Result<(WindowTime, Vec<SortColumn>)> {
    const HINT: &str = "ORDER BY must start with a time attribute: a column with WATERMARK FOR, or AS PROCTIME()";
    let mut columns = vec![];
    for by in by {
        let Some(column) = ExprBinder::new(scope, zone).bind(&by.expr)?.as_column() else {
            return error(at_expr(&by.expr), "ORDER BY of MATCH_RECOGNIZE takes columns only");
        };
        let descending = by.options.asc == Some(false);
        let nulls_first = by.options.nulls_first.unwrap_or(!descending);
        columns.push(SortColumn { column, descending, nulls_first });
    }
    let (Some((first, rest)), Some(by)) = (columns.split_first(), by.first()) else {
        return Err(Error::script("MATCH_RECOGNIZE needs ORDER BY").hint(HINT).at_place(at));
    };
    let column = &scope.columns[first.column];
    if !column.is_time_attribute() {
        let message = format!("MATCH_RECOGNIZE is ordered by '{}' first, which is no time attribute", column.name);
        return Err(Error::script(message).hint(HINT).at_place(at_expr(&by.expr)));
    }
    if first.descending {
        return Err(Error::script("MATCH_RECOGNIZE can't be ordered by time descending")
            .hint("rows are searched in the order of their time: leave DESC out")
            .at_place(at_expr(&by.expr)));
    }
    let time = match column.is_proctime() {
        true => WindowTime::Processing,
        false => WindowTime::Event { column: first.column },
    };
    Ok((time, rest.to_vec()))
}

/// Adds the variables of a part of a pattern, with their places.
fn flatten(pattern: &MatchRecognizePattern, into: &mut Vec<(PatternVariable, At)>, at: At) -> Result<()> {
    use MatchRecognizePattern as P;
    let plain = (1, Some(1), true);
    match pattern {
        P::Symbol(symbol) => variable(symbol, plain, into, at),
        P::Group(inner) => flatten(inner, into, at),
        P::Concat(list) => list.iter().try_for_each(|part| flatten(part, into, at)),
        P::Repetition(..) => {
            let Some((part, quantifier, is_reluctant)) = decode::reluctant(pattern) else {
                return Err(Error::internal("a repetition has a quantifier"));
            };
            let mut inner = part;
            while let P::Group(group) = inner {
                inner = group;
            }
            let P::Symbol(symbol) = inner else {
                return Err(Error::unsupported(format!("the quantifier {quantifier} of a group in PATTERN"))
                    .hint("quantifiers stand after single variables")
                    .at_place(at_pattern(inner).unwrap_or(at)));
            };
            let (min, max) = match *quantifier {
                RepetitionQuantifier::ZeroOrMore => (0, None),
                RepetitionQuantifier::OneOrMore => (1, None),
                RepetitionQuantifier::AtMostOne => (0, Some(1)),
                RepetitionQuantifier::Exactly(n) => (n, Some(n)),
                RepetitionQuantifier::AtLeast(n) => (n, None),
                RepetitionQuantifier::AtMost(n) => (0, Some(n)),
                RepetitionQuantifier::Range(n, m) => (n, Some(m)),
            };
            let at = at_pattern(inner).unwrap_or(at);
            if max.is_some_and(|max| max == 0 || max < min) {
                return error(at, format!("the quantifier {quantifier} allows no row"));
            }
            if is_reluctant && (min, max) == (0, Some(1)) {
                return Err(Error::unsupported("a reluctant optional variable (A??)")
                    .hint("A? is followed both ways, and the match that is complete first counts")
                    .at_place(at));
            }
            variable(symbol, (min, max, !is_reluctant), into, at)
        }
        P::Alternation(list) => {
            let at = list.first().and_then(at_pattern).unwrap_or(at);
            unsupported(at, "alternation (A | B) in PATTERN")
        }
        P::Permute(symbols) => unsupported(symbols.first().and_then(at_symbol).unwrap_or(at), "PERMUTE in PATTERN"),
        P::Exclude(symbol) => unsupported(at_symbol(symbol).unwrap_or(at), "exclusion ({- A -}) in PATTERN"),
    }
}

fn variable(
    symbol: &MatchRecognizeSymbol,
    (min, max, greedy): (u32, Option<u32>, bool),
    into: &mut Vec<(PatternVariable, At)>,
    at: At,
) -> Result<()> {
    let MatchRecognizeSymbol::Named(name) = symbol else {
        return Err(Error::unsupported(format!("the anchor {symbol} in PATTERN"))
            .hint("a stream has no first or last row")
            .at_place(at));
    };
    if into.iter().any(|(known, _)| known.name == name.value) {
        return Err(Error::unsupported(format!("the variable '{}' twice in PATTERN", name.value))
            .hint("give the second another name, with the same condition")
            .at_place(at_ident(name)));
    }
    into.push((PatternVariable { name: name.value.clone(), min, max, greedy, condition: None }, at_ident(name)));
    Ok(())
}

fn at_symbol(symbol: &MatchRecognizeSymbol) -> Option<At> {
    match symbol {
        MatchRecognizeSymbol::Named(name) => Some(at_ident(name)),
        MatchRecognizeSymbol::Start | MatchRecognizeSymbol::End => None,
    }
}

fn at_pattern(pattern: &MatchRecognizePattern) -> Option<At> {
    use MatchRecognizePattern as P;
    match pattern {
        P::Symbol(symbol) | P::Exclude(symbol) => at_symbol(symbol),
        P::Permute(symbols) => symbols.first().and_then(at_symbol),
        P::Concat(list) | P::Alternation(list) => list.first().and_then(at_pattern),
        P::Group(inner) | P::Repetition(inner, _) => at_pattern(inner),
    }
}

/// What Flink refuses of whole patterns.
fn check_pattern(variables: &[(PatternVariable, At)], at: At) -> Result<()> {
    if variables.iter().all(|(v, _)| v.min == 0) {
        return Err(Error::unsupported("a pattern that an empty match fits")
            .hint("at least one variable must take a row")
            .at_place(variables.first().map_or(at, |(_, at)| *at)));
    }
    match variables.last() {
        Some((last, at)) if last.greedy && last.max != Some(last.min) && (last.min, last.max) != (0, Some(1)) => {
            Err(Error::unsupported(format!("the greedy quantifier of the last variable of PATTERN: {last}"))
                .detail("a greedy variable ends where a row doesn't fit it, which is a row of the next variable")
                .hint(format!(
                    "make it reluctant ({last}?), or add a variable that is defined as NOT ({}'s condition)",
                    last.name
                ))
                .at_place(*at))
        }
        _ => Ok(()),
    }
}

/// What expressions need to know of a variable.
struct Variable {
    name: String,
    /// Whether each match has a row of it.
    has_row: bool,
    is_defined: bool,
}

impl Variable {
    fn of(variable: &PatternVariable) -> Self {
        Variable { name: variable.name.clone(), has_row: variable.min > 0, is_defined: false }
    }
}

fn find(names: &[Variable], ident: &Ident) -> Result<usize> {
    names.iter().position(|v| v.name == ident.value).ok_or_else(|| {
        let error = Error::script(format!("PATTERN has no variable '{}'", ident.value)).at_place(at_ident(ident));
        with_nearest(error, &ident.value, names.iter().map(|v| v.name.as_str()))
    })
}

/// Arguments of aggregates that are no columns: columns that are computed below.
struct Arguments {
    columns: Vec<Column>,
    exprs: Vec<ExprRef>,
}

impl Arguments {
    /// The column of an argument.
    fn place(&mut self, expr: &ExprRef, width: usize) -> usize {
        if let Some(column) = expr.as_column() {
            return column;
        }
        let known = self.exprs.iter().position(|e| build::same(e, expr));
        width
            + known.unwrap_or_else(|| {
                self.exprs.push(expr.clone());
                let name = format!("$a{}", self.columns.len());
                self.columns.push(Column::plain(name, expr.data_type().clone()));
                self.exprs.len() - 1
            })
    }

    fn below(self, input: RelRef) -> RelRef {
        if self.exprs.is_empty() {
            return input;
        }
        let mut project: Vec<ExprRef> = input.columns.iter().enumerate().map(|(i, c)| build::column(i, c)).collect();
        project.extend(self.exprs);
        let columns = input.columns.iter().cloned().chain(self.columns).collect();
        Rel::new(RelOp::Calc { input, filter: None, project }, columns)
    }
}

/// Where a column that an expression reads comes from.
#[derive(Debug)]
enum Place {
    /// The row that is tested.
    Input(usize),
    Made(MatchColumn),
}

/// The columns that the conditions, or the measures, read.
#[derive(Default)]
struct Made {
    columns: Vec<(Place, Column)>,
}

impl Made {
    fn scope(&self) -> Scope {
        Scope::of(None, &self.columns.iter().map(|(_, column)| column.clone()).collect::<Vec<_>>())
    }

    /// The made columns, and where each column is now; the made ones come after `width` others.
    fn finish(&self, width: usize) -> (Vec<MatchColumn>, Vec<usize>) {
        let mut made = vec![];
        let mut place = |(place, _): &(Place, Column)| match place {
            Place::Input(column) => *column,
            Place::Made(column) => {
                made.push(column.clone());
                width + made.len() - 1
            }
        };
        let places = self.columns.iter().map(&mut place).collect();
        (made, places)
    }
}

/// The expression with its columns where they are now.
fn put(expr: &ExprRef, places: &[usize], made: &Made) -> ExprRef {
    build::replace_columns(expr, &|index| build::column(places[index], &made.columns[index].1))
}

/// Reads conditions and measures.
struct Reader<'a> {
    names: &'a [Variable],
    /// The input.
    scope: &'a Scope,
    zone: SessionZone,
    /// In a condition: of which variable.
    tested: Option<usize>,
    made: &'a mut Made,
    arguments: &'a mut Arguments,
}

/// How names are read at the moment.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Each name is the last of its variable's rows.
    Plain,
    /// In `FIRST` or `LAST`.
    Navigating { from_last: bool, offset: u32 },
    /// In an aggregate: names are the input's.
    Aggregating,
}

struct Rewrite<'r, 'a> {
    reader: &'r mut Reader<'a>,
    mode: Mode,
    /// The variables that were named in an aggregate, FIRST or LAST.
    named: Vec<Option<usize>>,
}

impl Reader<'_> {
    fn bind(&mut self, expr: &Expr, is_condition: bool) -> Result<ExprRef> {
        let mut expr = expr.clone();
        self.rewrite(&mut expr, Mode::Plain)?;
        let scope = self.made.scope();
        let mut binder = ExprBinder::new(&scope, self.zone);
        if is_condition { binder.bind_condition(&expr, "a condition of DEFINE") } else { binder.bind(&expr) }
    }

    /// Rewrites an expression, and says which variables it names.
    fn rewrite(&mut self, expr: &mut Expr, mode: Mode) -> Result<Vec<Option<usize>>> {
        let mut rewrite = Rewrite { reader: self, mode, named: vec![] };
        match expr.visit(&mut rewrite) {
            ControlFlow::Continue(()) => Ok(rewrite.named),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// The name of a made column.
    fn made(&mut self, mut name: String, place: Place, data_type: DataType, at: &Ident) -> Ident {
        // What `A.x` is depends on which variable a row is tested for.
        let place_of = |place: &Place| format!("{place:?}");
        while let Some((known, _)) = self.made.columns.iter().find(|(_, column)| column.name == name) {
            if place_of(known) == place_of(&place) {
                return Ident { value: name, quote_style: MADE, span: at.span };
            }
            name.push('\'');
        }
        self.made.columns.push((place, Column::plain(&name, data_type)));
        Ident { value: name, quote_style: MADE, span: at.span }
    }

    /// Which variable a path starts with, and the rest of it.
    fn variable<'i>(&self, idents: &'i [Ident]) -> Result<(Option<usize>, &'i [Ident])> {
        let [first, rest @ ..] = idents else { return Ok((None, idents)) };
        if rest.is_empty() {
            return Ok((None, idents));
        }
        if let Some(number) = self.names.iter().position(|v| v.name == first.value) {
            return Ok((Some(number), rest));
        }
        if self.scope.columns.iter().any(|c| c.name == first.value) {
            return Ok((None, idents));
        }
        let error = Error::script(format!("there is no pattern variable '{}'", first.value)).at_place(at_ident(first));
        let columns = self.scope.columns.iter().map(|c| c.name.as_str());
        Err(with_nearest(error, &first.value, self.names.iter().map(|v| v.name.as_str()).chain(columns)))
    }

    /// A path that names a column of a row of the match.
    fn path(&mut self, idents: &[Ident], mode: Mode) -> Result<(Option<usize>, Vec<Ident>)> {
        let (variable, path) = self.variable(idents)?;
        if mode == Mode::Aggregating {
            return Ok((variable, path.to_vec()));
        }
        let (index, fields) = self.scope.resolve(path)?;
        let Some(first) = path.first() else { return Err(Error::internal("a name has no parts")) };
        let (from_last, offset) = match mode {
            Mode::Navigating { from_last, offset } => (from_last, offset),
            Mode::Plain | Mode::Aggregating => (true, 0),
        };
        let column = &self.scope.columns[index];
        let base = match variable {
            Some(number) => format!("{}.{}", self.names[number].name, column.name),
            None => column.name.clone(),
        };
        let is_candidate = self.tested.is_some_and(|tested| variable.is_none_or(|variable| variable == tested));
        let name = match (from_last, offset) {
            (true, 0) if is_candidate => column.name.clone(),
            (true, 0) => base,
            (true, _) => format!("LAST({base}, {offset})"),
            (false, _) => format!("FIRST({base}, {offset})"),
        };
        let has_row = match variable {
            Some(number) => self.names[number].has_row,
            None => true,
        };
        let (place, is_certain) = match from_last && offset == 0 && is_candidate {
            true => (Place::Input(index), true),
            false => {
                let made = MatchColumn::Row { variable, from_last, offset, column: index };
                (Place::Made(made), self.tested.is_none() && has_row && offset == 0)
            }
        };
        let nullable = column.data_type.nullable || !is_certain;
        let made = self.made(name, place, column.data_type.clone().with_nullable(nullable), first);
        Ok((variable, std::iter::once(made).chain(fields.iter().cloned()).collect()))
    }

    /// `FIRST`, `LAST`, and `PREV` with an offset of 0.
    fn navigate(&mut self, function: &Function, name: &str, at: At) -> Result<Expr> {
        let args = decode::plain_args(function).unwrap_or_default();
        let (inner, offset) = match args.as_slice() {
            [inner] => (*inner, u32::from(matches!(name, "PREV" | "NEXT"))),
            [inner, offset] => match offset.to_string().parse::<u32>() {
                Ok(offset) => (*inner, offset),
                Err(_) => return error(at_expr(offset), format!("{name} takes a whole number of rows")),
            },
            _ => return error(at, format!("{name} takes an expression and, if wanted, a number of rows")),
        };
        if matches!(name, "PREV" | "NEXT") && offset > 0 {
            return Err(Error::unsupported(format!("{name}, which reads rows beside those of the match"))
                .hint("LAST(A.column, 1) reads the row before the last that is mapped to A")
                .at_place(at));
        }
        let mode = Mode::Navigating { from_last: name != "FIRST", offset };
        let mut inner = inner.clone();
        let named = self.rewrite(&mut inner, mode)?;
        one_variable(&named, name, at)?;
        Ok(Expr::Nested(Box::new(inner)))
    }

    fn aggregate(&mut self, function: &Function, name: &str, at: At) -> Result<Expr> {
        let shown = function.to_string();
        let mut plain = function.clone();
        if function.filter.is_some() {
            return unsupported(at, "FILTER in MATCH_RECOGNIZE");
        }
        let mut named = vec![];
        if let FunctionArguments::List(list) = &mut plain.args {
            for arg in &mut list.args {
                match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                        named.extend(self.rewrite(expr, Mode::Aggregating)?);
                    }
                    FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "COUNT" => named.push(None),
                    other => return unsupported(at, format!("{name}({other}) in MATCH_RECOGNIZE")),
                }
            }
        }
        let variable = one_variable(&named, name, at)?;
        let call = bind_call(&plain, name, &mut ExprBinder::new(self.scope, self.zone)).at_place(at)?;
        if call.distinct {
            return unsupported(at, format!("{name}(DISTINCT ..) in MATCH_RECOGNIZE"));
        }
        let width = self.scope.columns.len();
        // The variable may have no row.
        let is_count = matches!(call.function, millstream_core::graph::AggregateFunction::Count);
        let result = if is_count { call.result } else { call.result.with_nullable(true) };
        let call = AggregateCall {
            function: call.function,
            arg_types: call.args.iter().map(|a| a.data_type().clone()).collect(),
            args: call.args.iter().map(|a| self.arguments.place(a, width)).collect(),
            distinct: false,
            filter: None,
            result: result.clone(),
        };
        let Some(first) = function.name.0.first().and_then(|part| part.as_ident()) else {
            return Err(Error::internal("a function has a name"));
        };
        let first = first.clone();
        let made = self.made(shown, Place::Made(MatchColumn::Aggregate { variable, call }), result, &first);
        Ok(Expr::Identifier(made))
    }

    fn row_time(&mut self, function: &Function, at: At) -> Result<Expr> {
        if self.tested.is_some() {
            return unsupported(at, "MATCH_ROWTIME in DEFINE");
        }
        let args = decode::plain_args(function).unwrap_or_default();
        let local_time_zone = match args.as_slice() {
            [] => false,
            [arg] => {
                let bound = ExprBinder::new(self.scope, self.zone).bind(arg)?;
                let column = bound.as_column().map(|c| &self.scope.columns[c]);
                match column.filter(|c| c.is_time_attribute() && !c.is_proctime()) {
                    Some(column) => column.is_local_time_zone(),
                    None => return error(at_expr(arg), "MATCH_ROWTIME takes the event-time attribute"),
                }
            }
            _ => return error(at, "MATCH_ROWTIME takes at most one argument"),
        };
        let kind = if local_time_zone { TypeKind::TimestampLtz(3) } else { TypeKind::Timestamp(3) };
        let place = Place::Made(MatchColumn::RowTime { local_time_zone });
        let ident = Ident::new("MATCH_ROWTIME");
        let name = format!("MATCH_ROWTIME({})", if local_time_zone { "TIMESTAMP_LTZ" } else { "" });
        Ok(Expr::Identifier(self.made(name, place, kind.not_null(), &ident)))
    }
}

/// The one variable of an aggregate, or of FIRST and LAST.
fn one_variable(named: &[Option<usize>], function: &str, at: At) -> Result<Option<usize>> {
    match named.split_first() {
        None => Ok(None),
        Some((first, rest)) if rest.iter().all(|other| other == first) => Ok(*first),
        Some(_) => Err(Error::script(format!("{function} must read rows of one pattern variable"))
            .hint("names without a variable are of the rows of all variables")
            .at_place(at)),
    }
}

impl Rewrite<'_, '_> {
    fn node(&mut self, expr: &mut Expr) -> Result<()> {
        let at = at_expr(expr);
        match expr {
            Expr::Identifier(ident) if ident.quote_style == MADE => {}
            Expr::Identifier(ident) => {
                let (variable, path) = self.reader.path(std::slice::from_ref(ident), self.mode)?;
                self.name(variable, path, expr);
            }
            Expr::CompoundIdentifier(idents) if idents.first().is_some_and(|i| i.quote_style == MADE) => {}
            Expr::CompoundIdentifier(idents) => {
                let (variable, path) = self.reader.path(idents, self.mode)?;
                self.name(variable, path, expr);
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                // `A.items[1]`: the variable is the root, the column its first field.
                let is_variable = |name: &Ident| self.reader.names.iter().any(|v| v.name == name.value);
                if let (Expr::Identifier(name), Some(AccessExpr::Dot(Expr::Identifier(column)))) =
                    (root.as_ref(), access_chain.first())
                    && is_variable(name)
                {
                    **root = Expr::CompoundIdentifier(vec![name.clone(), column.clone()]);
                    access_chain.remove(0);
                }
                for access in access_chain {
                    if let AccessExpr::Dot(Expr::Identifier(field)) = access {
                        field.quote_style = MADE;
                    }
                }
            }
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                return unsupported(at, "a subquery in MATCH_RECOGNIZE");
            }
            Expr::Function(function) => {
                let function = function.clone();
                if let Some(other) = self.function(&function, at)? {
                    *expr = other;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn name(&mut self, variable: Option<usize>, mut path: Vec<Ident>, into: &mut Expr) {
        self.named.push(variable);
        // An aggregate's names are the input's own from here on.
        path.iter_mut().take(1).for_each(|first| first.quote_style = MADE);
        *into = match path.len() {
            1 => Expr::Identifier(path.remove(0)),
            _ => Expr::CompoundIdentifier(path),
        };
    }

    fn function(&mut self, function: &Function, at: At) -> Result<Option<Expr>> {
        let name = parts(&function.name).join(".").to_uppercase();
        let is_navigation = matches!(name.as_str(), "FIRST" | "LAST" | "PREV" | "NEXT");
        if (is_navigation || is_aggregate(&name)) && self.mode != Mode::Plain {
            return error(at, format!("{name} can't stand in an aggregate, nor in FIRST or LAST"));
        }
        let reader = &mut *self.reader;
        match name.as_str() {
            "FIRST" | "LAST" | "PREV" | "NEXT" => reader.navigate(function, &name, at).map(Some),
            "FINAL" if reader.tested.is_some() => {
                error(at, "FINAL can't stand in DEFINE: the match isn't complete yet")
            }
            "FINAL" | "RUNNING" => {
                // With one row per match both mean the rows of the whole match.
                let args = decode::plain_args(function).unwrap_or_default();
                let [inner] = args.as_slice() else {
                    return error(at, format!("{name} stands before FIRST, LAST or an aggregate"));
                };
                let mut inner = (*inner).clone();
                self.node(&mut inner)?;
                Ok(Some(inner))
            }
            "CLASSIFIER" | "MATCH_NUMBER" => unsupported(at, format!("{name} in MATCH_RECOGNIZE")),
            "MATCH_ROWTIME" => reader.row_time(function, at).map(Some),
            "MATCH_PROCTIME" => {
                let mut proctime = function.clone();
                proctime.name = vec![Ident::new("PROCTIME")].into();
                Ok(Some(Expr::Function(proctime)))
            }
            _ if is_aggregate(&name) => reader.aggregate(function, &name, at).map(Some),
            _ => Ok(None),
        }
    }
}

impl VisitorMut for Rewrite<'_, '_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match self.node(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}
