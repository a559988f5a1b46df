//! The pass over a parsed query: hints and lifted tables go to their places, reserved words as names are refused.

use super::dialect::FlinkDialect;
use super::error::{Mistake, PResult, expected, mistake, reserved_as_name};
use super::lex::{BACKQUOTES, DERIVED, HintComment};
use super::words::is_reserved;
use super::{expr, hint};
use sqlparser::ast::{
    AccessExpr, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, MatchRecognizePattern,
    MatchRecognizeSymbol, ObjectName, Query, Select, SelectItem, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// What the pass takes from: what it takes it uses up.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    /// Hints after names.
    pub hints: &'a mut BTreeMap<(u64, u64), HintComment>,
    /// Table expressions lifted out before MATCH_RECOGNIZE.
    pub derived: &'a mut Vec<Vec<TokenWithSpan>>,
    /// The limit of nesting.
    pub recursion_max: usize,
}

impl Checker<'_> {
    /// Settles a query or an expression.
    pub fn settle(&mut self, tree: &mut impl VisitMut) -> PResult<()> {
        match tree.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn table(&mut self, factor: &mut TableFactor) -> PResult<()> {
        if let Some(table) = self.lifted(factor)? {
            *factor = table;
        }
        match factor {
            TableFactor::Table { name, with_hints, partitions, alias, .. } => {
                if let Some(partition) = partitions.first() {
                    return Err(mistake(Mistake::Syntax, partition.span.start, "PARTITION is not known here", ""));
                }
                if let Some(HintComment { text, start }) = self.take_hint(name) {
                    check_hint(&text, start)?;
                    with_hints.push(expr::word_literal(&text, Span::new(start, start)));
                }
                check_alias(alias)
            }
            TableFactor::Function { lateral: true, name, args, alias, .. } => {
                if name.to_string().eq_ignore_ascii_case("TABLE") {
                    (*name, *args) = table_function(args)?;
                }
                check_alias(alias)
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => check_alias(alias),
            TableFactor::MatchRecognize { measures, pattern, symbols, alias, .. } => {
                measures.iter().try_for_each(|measure| check_name(&measure.alias))?;
                check_pattern(pattern)?;
                symbols.iter().try_for_each(|definition| check_name(&definition.symbol))?;
                check_alias(alias)
            }
            _ => Ok(()),
        }
    }

    /// The table expression that a made-up name stands for.
    fn lifted(&mut self, factor: &TableFactor) -> PResult<Option<TableFactor>> {
        let TableFactor::Table { name, .. } = factor else { return Ok(None) };
        let [part] = name.0.as_slice() else { return Ok(None) };
        let Some(number) = part.as_ident().and_then(|ident| ident.value.strip_prefix(DERIVED)) else {
            return Ok(None);
        };
        let Some(tokens) = number.parse().ok().and_then(|n: usize| self.derived.get_mut(n)) else { return Ok(None) };
        let tokens = std::mem::take(tokens);
        let dialect = FlinkDialect::default();
        let mut p = Parser::new(&dialect).with_recursion_limit(self.recursion_max).with_tokens_with_locations(tokens);
        let table = p.parse_table_factor().map_err(|e| dialect.farthest(e))?;
        match p.peek_token() {
            end if end.token == Token::EOF => Ok(Some(table)),
            more => expected("MATCH_RECOGNIZE", &more),
        }
    }

    /// The hint after a name.
    pub fn take_hint(&mut self, name: &ObjectName) -> Option<HintComment> {
        let start = name.0.last()?.as_ident()?.span.start;
        self.hints.remove(&(start.line, start.column))
    }

    fn select(&mut self, select: &mut Select) -> PResult<()> {
        for comment in &select.optimizer_hints {
            check_hint(&comment.text, select.select_token.0.span.start)?;
        }
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                check_name(alias)?;
            }
        }
        select.named_window.iter().try_for_each(|window| check_name(&window.0))
    }
}

/// A function `f(x)` given as the one argument of `LATERAL TABLE`.
fn table_function(args: &mut Vec<FunctionArg>) -> PResult<(ObjectName, Vec<FunctionArg>)> {
    match args.as_mut_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(call)))] => {
            let name = std::mem::take(&mut call.name.0);
            let args = match std::mem::replace(&mut call.args, FunctionArguments::None) {
                FunctionArguments::List(list) => list.args,
                FunctionArguments::None => vec![],
                FunctionArguments::Subquery(query) => {
                    vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query)))]
                }
            };
            Ok((ObjectName(name), args))
        }
        _ => Err(ParserError::ParserError("LATERAL TABLE takes the call of a function".to_string())),
    }
}

/// Refuses a malformed hint where the script has it.
pub(super) fn check_hint(text: &str, at: Location) -> PResult<()> {
    match hint::parse(text, at.line, at.column) {
        Ok(_) => Ok(()),
        Err(e) => Err(mistake(Mistake::Syntax, at, e.message(), e.hint_text().unwrap_or_default())),
    }
}

/// Refuses a reserved word, or a string, in the place of a name.
pub(super) fn check_name(ident: &Ident) -> PResult<()> {
    match ident.quote_style {
        None if is_reserved(&ident.value) => reserved_as_name(&ident.value, ident.span.start),
        Some('\'') => Err(mistake(
            Mistake::Syntax,
            ident.span.start,
            &format!("the string '{}' stands in the place of a name", ident.value),
            BACKQUOTES,
        )),
        _ => Ok(()),
    }
}

fn check_alias(alias: &Option<TableAlias>) -> PResult<()> {
    let Some(alias) = alias else { return Ok(()) };
    check_name(&alias.name)?;
    alias.columns.iter().try_for_each(|column| check_name(&column.name))
}

fn check_pattern(pattern: &MatchRecognizePattern) -> PResult<()> {
    use MatchRecognizePattern as P;
    let symbol = |symbol: &MatchRecognizeSymbol| match symbol {
        MatchRecognizeSymbol::Named(name) => check_name(name),
        MatchRecognizeSymbol::Start | MatchRecognizeSymbol::End => Ok(()),
    };
    match pattern {
        P::Symbol(name) | P::Exclude(name) => symbol(name),
        P::Permute(names) => names.iter().try_for_each(symbol),
        P::Concat(parts) | P::Alternation(parts) => parts.iter().try_for_each(check_pattern),
        P::Group(inner) | P::Repetition(inner, _) => check_pattern(inner),
    }
}

fn flow(result: PResult<()>) -> ControlFlow<ParserError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Checker<'_> {
    type Break = ParserError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<ParserError> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        flow(tables.into_iter().try_for_each(|cte| check_alias(&Some(cte.alias.clone()))))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<ParserError> {
        flow(self.select(select))
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<ParserError> {
        let mut names = relation.0.iter().filter_map(|part| part.as_ident());
        flow(names.try_for_each(check_name))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<ParserError> {
        flow(self.table(factor))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<ParserError> {
        flow(match expr {
            Expr::Identifier(name) => check_name(name),
            Expr::CompoundIdentifier(parts) => parts.iter().try_for_each(check_name),
            Expr::CompoundFieldAccess { access_chain, .. } => access_chain.iter().try_for_each(|access| match access {
                AccessExpr::Dot(Expr::Identifier(name)) => check_name(name),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }
}
