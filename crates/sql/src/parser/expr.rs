//! The beginnings and operators of expressions that are Flink's own; the module's documentation lists their trees.

use super::error::{PResult, expected, fail, reserved_as_name};
use super::words::{at, eat, is, is_reserved, is_structural, upper};
use super::{call, dialect::FlinkDialect, interval, json, types};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, SetExpr, TableFactor, TimezoneInfo, TypedString,
    UnaryOperator, Value, ValueWithSpan,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

/// Functions of standard SQL that are called without parentheses.
const NILADIC: [&str; 13] = [
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_PATH",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SESSION_USER",
    "SYSTEM_USER",
    "USER",
];

/// The function that stands for the values of `WHEN a, b`.
pub(super) const WHEN_ANY: &str = "WHEN_ANY";

/// A string literal that the parser itself puts into a tree.
pub(super) fn word_literal(text: &str, span: Span) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text.to_string()), span })
}

/// NULL, where a clause is absent.
pub(super) fn null(span: Span) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Null, span })
}

/// The call of a function with plain arguments.
pub(super) fn function(name: &str, span: Span, args: Vec<Expr>) -> Function {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    let list = FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] };
    function_of(Ident::with_span(span, name), FunctionArguments::List(list))
}

/// The call of a function.
pub(super) fn function_of(name: Ident, args: FunctionArguments) -> Function {
    Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }
}

/// A string that comes next, with its place.
pub(super) fn string(p: &mut Parser) -> PResult<(String, Span)> {
    let token = p.next_token();
    match token.token {
        Token::SingleQuotedString(s) => Ok((s, token.span)),
        _ => expected("a string", &token),
    }
}

/// The hook for what begins an expression; `None` leaves it to `sqlparser`.
pub(super) fn prefix(p: &mut Parser) -> PResult<Option<Expr>> {
    let next = p.peek_token();
    match &next.token {
        Token::Word(word) => match upper(&next.token) {
            Some(upper) => word_prefix(p, &upper, next),
            None if p.peek_nth_token_ref(1).token == Token::LParen => {
                let name = word.clone().into_ident(next.span);
                p.advance_token();
                call::call(p, name).map(|f| Some(Expr::Function(f)))
            }
            None => {
                p.advance_token();
                Ok(Some(Expr::Identifier(word.clone().into_ident(next.span))))
            }
        },
        Token::LParen if at_query(p, 1) => {
            p.advance_token();
            let query = p.parse_query()?;
            p.expect_token(&Token::RParen)?;
            let query = Expr::Subquery(query);
            if at(p, &["PARTITION", "BY"]) { table_arg(p, query, next.span).map(Some) } else { Ok(Some(query)) }
        }
        Token::Placeholder(_) => fail(next.span.start, "parameters are not known in scripts", ""),
        Token::LBracket => fail(next.span.start, "expected an expression, found `[`", "arrays are written ARRAY[a, b]"),
        Token::LBrace | Token::Colon | Token::AtSign | Token::Tilde => expected("an expression", &next),
        _ => Ok(None),
    }
}

/// Whether the n-th token from here begins a query.
pub(super) fn at_query(p: &Parser, n: usize) -> bool {
    let token = &p.peek_nth_token_ref(n).token;
    is(token, "SELECT") || is(token, "WITH")
}

fn word_prefix(p: &mut Parser, word: &str, token: TokenWithSpan) -> PResult<Option<Expr>> {
    let span = token.span;
    let after = p.peek_nth_token_ref(1).token.clone();
    let is_call = after == Token::LParen;
    let is_literal = matches!(after, Token::SingleQuotedString(_));
    let found = match word {
        "CASE" => case(p)?,
        "NOT" | "EXISTS" | "TRUE" | "FALSE" | "NULL" => return Ok(None),
        "UNKNOWN" => {
            p.advance_token();
            Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(null(span)),
                data_type: DataType::Boolean,
                array: false,
                format: None,
            }
        }
        "CAST" | "TRY_CAST" if is_call => {
            let kind = if word == "CAST" { CastKind::Cast } else { CastKind::TryCast };
            cast(p, kind)?
        }
        "DATE" | "TIME" | "TIMESTAMP" | "TIMESTAMP_LTZ" if is_literal => {
            p.advance_token();
            typed_literal(p, word, span)?
        }
        "TIMESTAMP" if at(p, &["TIMESTAMP", "WITH", "LOCAL", "TIME", "ZONE"]) => {
            for _ in 0..5 {
                p.advance_token();
            }
            typed_literal(p, "TIMESTAMP_LTZ", span)?
        }
        "TIMESTAMP" | "TIME" if at(p, &[word, "WITH", "TIME", "ZONE"]) => {
            return fail(span.start, format!("{word} WITH TIME ZONE is no type of Flink"), "use TIMESTAMP_LTZ");
        }
        "INTERVAL" if !matches!(after, Token::Comma | Token::RParen) => interval::literal(p)?,
        "ARRAY" | "MAP" | "MULTISET" if after == Token::LBracket => bracketed(p, word, span)?,
        "ARRAY" | "MAP" | "MULTISET" if is_call && at_query(p, 2) => {
            p.advance_token();
            p.advance_token();
            let query = p.parse_query()?;
            p.expect_token(&Token::RParen)?;
            Expr::Function(function_of(Ident::with_span(span, word), FunctionArguments::Subquery(query)))
        }
        "TABLE" if matches!(after, Token::Word(_)) => {
            p.advance_token();
            let query = table_query(p)?;
            table_arg(p, query, span)?
        }
        "MODEL" if matches!(after, Token::Word(_)) && after_arrow_or_paren(p) => model_arg(p)?,
        "FINAL" | "RUNNING" if matches!(after, Token::Word(_)) && p.peek_nth_token_ref(2).token == Token::LParen => {
            p.advance_token();
            let inner = p.parse_prefix()?;
            Expr::Function(function(word, span, vec![inner]))
        }
        "DEFAULT" if !is_call => {
            p.advance_token();
            Expr::Function(function_of(Ident::with_span(span, word), FunctionArguments::None))
        }
        _ if NILADIC.contains(&word) && !is_call => {
            p.advance_token();
            Expr::Function(function_of(Ident::with_span(span, word), FunctionArguments::None))
        }
        _ if is_structural(word) => return expected("an expression", &token),
        _ if is_call => {
            let Token::Word(name) = token.token else { return Ok(None) };
            p.advance_token();
            match json::call(p, word, span)? {
                Some(f) => Expr::Function(call::suffixes(p, f)?),
                None => match call::special(p, word, span)? {
                    Some(f) => Expr::Function(f),
                    None => Expr::Function(call::call(p, name.into_ident(span))?),
                },
            }
        }
        _ if is_reserved(word) => return reserved_as_name(&token.token.to_string(), span.start),
        _ => {
            let Token::Word(name) = token.token else { return Ok(None) };
            p.advance_token();
            Expr::Identifier(name.into_ident(span))
        }
    };
    Ok(Some(found))
}

/// CASE, whose WHEN may have several values if there is an operand.
fn case(p: &mut Parser) -> PResult<Expr> {
    p.advance_token();
    let case_token = AttachedToken(p.get_current_token().clone());
    let operand = if is(&p.peek_token_ref().token, "WHEN") { None } else { Some(Box::new(p.parse_expr()?)) };
    let mut conditions = vec![];
    p.expect_keyword_is(Keyword::WHEN)?;
    loop {
        let span = p.peek_token_ref().span;
        let mut values = vec![p.parse_expr()?];
        while operand.is_some() && p.consume_token(&Token::Comma) {
            values.push(p.parse_expr()?);
        }
        let condition = match (values.len(), values.pop()) {
            (1, Some(value)) => value,
            (_, last) => {
                values.extend(last);
                Expr::Function(function(WHEN_ANY, span, values))
            }
        };
        p.expect_keyword_is(Keyword::THEN)?;
        conditions.push(CaseWhen { condition, result: p.parse_expr()? });
        if !p.parse_keyword(Keyword::WHEN) {
            break;
        }
    }
    let else_result = if p.parse_keyword(Keyword::ELSE) { Some(Box::new(p.parse_expr()?)) } else { None };
    let end_token = AttachedToken(p.expect_keyword(Keyword::END)?);
    Ok(Expr::Case { case_token, end_token, operand, conditions, else_result })
}

fn cast(p: &mut Parser, kind: CastKind) -> PResult<Expr> {
    p.advance_token();
    p.expect_token(&Token::LParen)?;
    let expr = Box::new(p.parse_expr()?);
    if !eat(p, &["AS"]) {
        return expected("AS and a type", &p.peek_token());
    }
    let start = p.peek_token_ref().span;
    let data_type = types::to_tree(&types::parse(p)?, start);
    p.expect_token(&Token::RParen)?;
    Ok(Expr::Cast { kind, expr, data_type, array: false, format: None })
}

fn typed_literal(p: &mut Parser, word: &str, span: Span) -> PResult<Expr> {
    let (text, value_span) = string(p)?;
    let data_type = match word {
        "DATE" => DataType::Date,
        "TIME" => DataType::Time(None, TimezoneInfo::None),
        "TIMESTAMP" => DataType::Timestamp(None, TimezoneInfo::None),
        _ => types::to_tree(&millstream_core::types::TypeKind::TimestampLtz(3).not_null(), span),
    };
    let value = ValueWithSpan { value: Value::SingleQuotedString(text), span: value_span };
    Ok(Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }))
}

/// `ARRAY[..]`, `MAP[..]`, `MULTISET[..]`; what follows in brackets or after a dot is `sqlparser`'s.
fn bracketed(p: &mut Parser, word: &str, span: Span) -> PResult<Expr> {
    p.advance_token();
    p.expect_token(&Token::LBracket)?;
    let items =
        if p.peek_token_ref().token == Token::RBracket { vec![] } else { p.parse_comma_separated(Parser::parse_expr)? };
    p.expect_token(&Token::RBracket)?;
    Ok(Expr::Function(function(word, span, items)))
}

/// The query `SELECT * FROM name` for the name that follows TABLE.
fn table_query(p: &mut Parser) -> PResult<Expr> {
    let name = p.parse_object_name(false)?;
    let dialect = FlinkDialect::default();
    let mut query = Parser::new(&dialect).try_with_sql("SELECT * FROM t")?.parse_query()?;
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(TableFactor::Table { name: table, .. }) = select.from.first_mut().map(|f| &mut f.relation)
    {
        *table = name;
    }
    Ok(Expr::Subquery(query))
}

/// `[PARTITION BY ..] [ORDER BY ..]` after a table argument.
fn table_arg(p: &mut Parser, query: Expr, span: Span) -> PResult<Expr> {
    let mut partition = vec![];
    let mut order = vec![];
    if eat(p, &["PARTITION", "BY"]) {
        partition = match p.parse_expr()? {
            Expr::Tuple(keys) => keys,
            Expr::Nested(key) => vec![*key],
            key => vec![key],
        };
    }
    if eat(p, &["ORDER", "BY"]) {
        order = if p.peek_token_ref().token == Token::LParen {
            p.expect_token(&Token::LParen)?;
            let order = p.parse_comma_separated(Parser::parse_order_by_expr)?;
            p.expect_token(&Token::RParen)?;
            order
        } else {
            vec![p.parse_order_by_expr()?]
        };
    }
    let mut call = function("TABLE_ARG", span, vec![query, Expr::Tuple(partition)]);
    if let FunctionArguments::List(list) = &mut call.args
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    Ok(Expr::Function(call))
}

fn after_arrow_or_paren(p: &Parser) -> bool {
    matches!(p.get_current_token().token, Token::RArrow | Token::LParen)
}

/// `MODEL name`
pub(super) fn model_arg(p: &mut Parser) -> PResult<Expr> {
    let span = p.next_token().span;
    let name = p.parse_object_name(false)?;
    let mut parts: Vec<Ident> = name.0.into_iter().filter_map(|part| part.as_ident().cloned()).collect();
    let name = match parts.len() {
        1 => Expr::Identifier(parts.remove(0)),
        _ => Expr::CompoundIdentifier(parts),
    };
    Ok(Expr::Function(function("MODEL_ARG", span, vec![name])))
}

/// The hook for operators; `None` leaves them to `sqlparser`. `operand` is the precedence of comparisons.
pub(super) fn infix(p: &mut Parser, left: &Expr, operand: u8) -> PResult<Option<Expr>> {
    let negated = at(p, &["NOT", "BETWEEN"]);
    if negated || at(p, &["BETWEEN"]) {
        return between(p, left, negated, operand).map(Some);
    }
    if !at(p, &["IS"]) {
        return Ok(None);
    }
    let negated = at(p, &["IS", "NOT"]);
    let words = 1 + usize::from(negated);
    let test = upper(&p.peek_nth_token_ref(words).token);
    let span = p.peek_token_ref().span;
    match test.as_deref() {
        Some("JSON") => {
            for _ in 0..=words {
                p.advance_token();
            }
            let kind = super::words::eat_any(p, &["VALUE", "OBJECT", "ARRAY", "SCALAR"]).unwrap_or("VALUE");
            let test = Expr::Function(function("IS_JSON", span, vec![left.clone(), word_literal(kind, span)]));
            Ok(Some(negate(test, negated)))
        }
        Some("DISTINCT") => {
            for _ in 0..=words {
                p.advance_token();
            }
            if !eat(p, &["FROM"]) {
                return expected("FROM", &p.peek_token());
            }
            let (left, right) = (Box::new(left.clone()), Box::new(p.parse_subexpr(operand)?));
            Ok(Some(match negated {
                true => Expr::IsNotDistinctFrom(left, right),
                false => Expr::IsDistinctFrom(left, right),
            }))
        }
        Some("NULL" | "TRUE" | "FALSE" | "UNKNOWN") => Ok(None),
        _ => {
            for _ in 0..words {
                p.advance_token();
            }
            expected("NULL, TRUE, FALSE, UNKNOWN, DISTINCT FROM or JSON", &p.peek_token())
        }
    }
}

fn between(p: &mut Parser, left: &Expr, negated: bool, operand: u8) -> PResult<Expr> {
    let span = p.peek_token_ref().span;
    eat(p, &["NOT"]);
    eat(p, &["BETWEEN"]);
    let symmetric = eat(p, &["SYMMETRIC"]);
    if !symmetric {
        eat(p, &["ASYMMETRIC"]);
    }
    let low = p.parse_subexpr(operand)?;
    if !eat(p, &["AND"]) {
        return expected("AND", &p.peek_token());
    }
    let high = p.parse_subexpr(operand)?;
    if symmetric {
        let test = Expr::Function(function("BETWEEN_SYMMETRIC", span, vec![left.clone(), low, high]));
        return Ok(negate(test, negated));
    }
    Ok(Expr::Between { expr: Box::new(left.clone()), negated, low: Box::new(low), high: Box::new(high) })
}

fn negate(test: Expr, negated: bool) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) } } else { test }
}

/// `left * right`
pub(super) fn times(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Multiply, right: Box::new(right) }
}
