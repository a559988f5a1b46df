//! The JSON functions of standard SQL with their clauses, at fixed places of the argument list.

use super::error::{PResult, expected};
use super::expr::{function, null, word_literal};
use super::types;
use super::words::{at, eat, eat_any, is};
use sqlparser::ast::{CastKind, Expr, Function, FunctionArgumentClause, FunctionArguments};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

/// Parses a JSON function's arguments if `word` is one; the name is consumed, the parenthesis is next.
///
/// The places are those that `decode::json_call` reads:
/// `JSON_VALUE(input, path, returning, on_empty, default, on_error, default)`,
/// `JSON_QUERY(input, path, returning, wrapper, on_empty, on_error)`, `JSON_EXISTS(input, path, on_error)`,
/// `JSON_OBJECT | JSON_OBJECTAGG(on_null, key, value, ..)`, `JSON_ARRAY | JSON_ARRAYAGG(on_null, value, ..)`.
pub(super) fn call(p: &mut Parser, word: &str, span: Span) -> PResult<Option<Function>> {
    if !matches!(
        word,
        "JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS" | "JSON_OBJECT" | "JSON_OBJECTAGG" | "JSON_ARRAY" | "JSON_ARRAYAGG"
    ) {
        return Ok(None);
    }
    p.expect_token(&Token::LParen)?;
    let mut call = match word {
        "JSON_VALUE" => value(p, span)?,
        "JSON_QUERY" => query(p, span)?,
        "JSON_EXISTS" => {
            let mut args = input(p)?;
            let on_error = eat_any(p, &["TRUE", "FALSE", "UNKNOWN", "ERROR"]);
            if on_error.is_some() && !eat(p, &["ON", "ERROR"]) {
                return expected("ON ERROR", &p.peek_token());
            }
            args.push(word_literal(on_error.unwrap_or("FALSE"), span));
            function(word, span, args)
        }
        "JSON_OBJECT" | "JSON_OBJECTAGG" => object(p, word, span)?,
        _ => array(p, word, span)?,
    };
    if word == "JSON_ARRAYAGG"
        && eat(p, &["ORDER", "BY"])
        && let FunctionArguments::List(list) = &mut call.args
    {
        let order = p.parse_comma_separated(Parser::parse_order_by_expr)?;
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    p.expect_token(&Token::RParen)?;
    Ok(Some(call))
}

/// `input [FORMAT JSON], path`
fn input(p: &mut Parser) -> PResult<Vec<Expr>> {
    let input = p.parse_expr()?;
    eat(p, &["FORMAT", "JSON"]);
    p.expect_token(&Token::Comma)?;
    Ok(vec![input, p.parse_expr()?])
}

/// `RETURNING type` as a cast of NULL, or NULL.
fn returning(p: &mut Parser, span: Span) -> PResult<Expr> {
    if !eat(p, &["RETURNING"]) {
        return Ok(null(span));
    }
    let start = p.peek_token_ref().span;
    let data_type = types::to_tree(&types::parse(p)?, start);
    Ok(Expr::Cast { kind: CastKind::Cast, expr: Box::new(null(start)), data_type, array: false, format: None })
}

fn value(p: &mut Parser, span: Span) -> PResult<Function> {
    let mut args = input(p)?;
    args.push(returning(p, span)?);
    let mut on = [("NULL", null(span)), ("NULL", null(span))];
    while let Some(kind) = eat_any(p, &["NULL", "ERROR", "DEFAULT"]) {
        let default = if kind == "DEFAULT" { p.parse_expr()? } else { null(span) };
        on[event(p)?] = (kind, default);
    }
    for (kind, default) in on {
        args.push(word_literal(kind, span));
        args.push(default);
    }
    Ok(function("JSON_VALUE", span, args))
}

fn query(p: &mut Parser, span: Span) -> PResult<Function> {
    let mut args = input(p)?;
    args.push(returning(p, span)?);
    let wrapper = match eat_any(p, &["WITHOUT", "WITH"]) {
        None => "WITHOUT",
        Some(word) => {
            let kind = match word {
                "WITHOUT" => "WITHOUT",
                _ => eat_any(p, &["CONDITIONAL", "UNCONDITIONAL"]).unwrap_or("UNCONDITIONAL"),
            };
            eat(p, &["ARRAY"]);
            if !eat(p, &["WRAPPER"]) {
                return expected("WRAPPER", &p.peek_token());
            }
            kind
        }
    };
    let mut on = ["NULL", "NULL"];
    while let Some(kind) = eat_any(p, &["NULL", "ERROR", "EMPTY"]) {
        let kind = match kind {
            "EMPTY" if eat(p, &["OBJECT"]) => "EMPTY OBJECT",
            "EMPTY" => {
                eat(p, &["ARRAY"]);
                "EMPTY ARRAY"
            }
            other => other,
        };
        on[event(p)?] = kind;
    }
    for word in [wrapper, on[0], on[1]] {
        args.push(word_literal(word, span));
    }
    Ok(function("JSON_QUERY", span, args))
}

/// `ON EMPTY` is 0, `ON ERROR` is 1.
fn event(p: &mut Parser) -> PResult<usize> {
    if eat(p, &["ON", "EMPTY"]) {
        Ok(0)
    } else if eat(p, &["ON", "ERROR"]) {
        Ok(1)
    } else {
        expected("ON EMPTY or ON ERROR", &p.peek_token())
    }
}

/// `NULL ON NULL` or `ABSENT ON NULL`
fn on_null(p: &mut Parser) -> Option<&'static str> {
    if eat(p, &["NULL", "ON", "NULL"]) {
        Some("NULL")
    } else if eat(p, &["ABSENT", "ON", "NULL"]) {
        Some("ABSENT")
    } else {
        None
    }
}

fn object(p: &mut Parser, word: &str, span: Span) -> PResult<Function> {
    let mut args = vec![word_literal("NULL", span)];
    while p.peek_token_ref().token != Token::RParen && !at_on_null(p) {
        // A column may be called `key`.
        let is_key_word = at(p, &["KEY"])
            && !matches!(p.peek_nth_token_ref(1).token, Token::Colon | Token::Period | Token::LParen)
            && !is(&p.peek_nth_token_ref(1).token, "VALUE");
        if is_key_word {
            p.advance_token();
        }
        args.push(p.parse_expr()?);
        if !eat(p, &["VALUE"]) && !p.consume_token(&Token::Colon) {
            return expected("VALUE", &p.peek_token());
        }
        args.push(p.parse_expr()?);
        eat(p, &["FORMAT", "JSON"]);
        if !p.consume_token(&Token::Comma) {
            break;
        }
    }
    if let Some(kind) = on_null(p) {
        args[0] = word_literal(kind, span);
    }
    Ok(function(word, span, args))
}

fn array(p: &mut Parser, word: &str, span: Span) -> PResult<Function> {
    let mut args = vec![word_literal("ABSENT", span)];
    while p.peek_token_ref().token != Token::RParen && !at_on_null(p) {
        args.push(p.parse_expr()?);
        eat(p, &["FORMAT", "JSON"]);
        if !p.consume_token(&Token::Comma) {
            break;
        }
    }
    if let Some(kind) = on_null(p) {
        args[0] = word_literal(kind, span);
    }
    Ok(function(word, span, args))
}

fn at_on_null(p: &Parser) -> bool {
    at(p, &["NULL", "ON", "NULL"]) || at(p, &["ABSENT", "ON", "NULL"])
}
