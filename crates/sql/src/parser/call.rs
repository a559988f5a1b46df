//! Calls of functions: arguments by place and by name, aggregates' clauses, and standard SQL's word arguments.

use super::error::{PResult, expected};
use super::expr::{self, function, function_of, word_literal};
use super::words::{at, eat, eat_any, is, upper};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, NullTreatment, WindowType,
};
use sqlparser::dialect::Precedence;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

/// Units of time in EXTRACT, FLOOR, CEIL, TIMESTAMPADD and TIMESTAMPDIFF.
const UNITS: [&str; 19] = [
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
    "DOW",
    "DOY",
    "ISODOW",
    "ISOYEAR",
    "EPOCH",
    "DECADE",
    "CENTURY",
    "MILLENNIUM",
];

/// `(args) clauses` after a function's name.
pub(super) fn call(p: &mut Parser, name: Ident) -> PResult<Function> {
    p.expect_token(&Token::LParen)?;
    let duplicate_treatment = match eat_any(p, &["DISTINCT", "ALL"]) {
        Some("DISTINCT") => Some(DuplicateTreatment::Distinct),
        Some(_) => Some(DuplicateTreatment::All),
        None => None,
    };
    let mut args = vec![];
    let mut clauses = vec![];
    if p.peek_token_ref().token != Token::RParen || duplicate_treatment.is_some() {
        args = p.parse_comma_separated(argument)?;
        if let Some(treatment) = null_treatment(p) {
            clauses.push(FunctionArgumentClause::IgnoreOrRespectNulls(treatment));
        }
        if eat(p, &["ORDER", "BY"]) {
            clauses.push(FunctionArgumentClause::OrderBy(p.parse_comma_separated(Parser::parse_order_by_expr)?));
        }
    }
    close(p)?;
    let list = FunctionArgumentList { duplicate_treatment, args, clauses };
    suffixes(p, function_of(name, FunctionArguments::List(list)))
}

fn close(p: &mut Parser) -> PResult<()> {
    if p.consume_token(&Token::RParen) { Ok(()) } else { expected("`,` or `)`", &p.peek_token()) }
}

fn argument(p: &mut Parser) -> PResult<FunctionArg> {
    let name = match p.peek_token() {
        t if p.peek_nth_token_ref(1).token == Token::RArrow => match t.token {
            Token::Word(word) => Some(word.into_ident(t.span)),
            _ => return expected("the name of an argument", &t),
        },
        _ => None,
    };
    let Some(name) = name else { return Ok(FunctionArg::Unnamed(value(p)?)) };
    p.advance_token();
    p.advance_token();
    let arg = value(p)?;
    Ok(FunctionArg::Named { name, arg, operator: FunctionArgOperator::RightArrow })
}

fn value(p: &mut Parser) -> PResult<FunctionArgExpr> {
    let is_model = is(&p.peek_token_ref().token, "MODEL") && matches!(p.peek_nth_token_ref(1).token, Token::Word(_));
    if is_model {
        return Ok(FunctionArgExpr::Expr(expr::model_arg(p)?));
    }
    Ok(FunctionArgExpr::from(p.parse_wildcard_expr()?))
}

fn null_treatment(p: &mut Parser) -> Option<NullTreatment> {
    if eat(p, &["IGNORE", "NULLS"]) {
        Some(NullTreatment::IgnoreNulls)
    } else if eat(p, &["RESPECT", "NULLS"]) {
        Some(NullTreatment::RespectNulls)
    } else {
        None
    }
}

/// `WITHIN GROUP (..)`, `FILTER (WHERE ..)`, `IGNORE NULLS`, `OVER ..` after a call.
pub(super) fn suffixes(p: &mut Parser, mut call: Function) -> PResult<Function> {
    if let Some(treatment) = null_treatment(p) {
        call.null_treatment = Some(treatment);
    }
    if eat(p, &["WITHIN", "GROUP"]) {
        p.expect_token(&Token::LParen)?;
        if !eat(p, &["ORDER", "BY"]) {
            return expected("ORDER BY", &p.peek_token());
        }
        call.within_group = p.parse_comma_separated(Parser::parse_order_by_expr)?;
        p.expect_token(&Token::RParen)?;
    }
    if eat(p, &["FILTER"]) {
        p.expect_token(&Token::LParen)?;
        if !eat(p, &["WHERE"]) {
            return expected("WHERE", &p.peek_token());
        }
        call.filter = Some(Box::new(p.parse_expr()?));
        p.expect_token(&Token::RParen)?;
    }
    if call.null_treatment.is_none() {
        call.null_treatment = null_treatment(p);
    }
    if eat(p, &["OVER"]) {
        call.over = Some(if p.consume_token(&Token::LParen) {
            WindowType::WindowSpec(p.parse_window_spec()?)
        } else {
            WindowType::NamedWindow(p.parse_identifier()?)
        });
    }
    Ok(call)
}

/// The functions whose arguments are set apart by words; the name is consumed, the parenthesis is next.
pub(super) fn special(p: &mut Parser, word: &str, span: Span) -> PResult<Option<Function>> {
    let call = match word {
        "TIMESTAMPADD" | "TIMESTAMPDIFF" => {
            p.expect_token(&Token::LParen)?;
            let unit = unit(p)?;
            p.expect_token(&Token::Comma)?;
            let first = p.parse_expr()?;
            p.expect_token(&Token::Comma)?;
            let second = p.parse_expr()?;
            function(word, span, vec![unit, first, second])
        }
        "EXTRACT" => {
            p.expect_token(&Token::LParen)?;
            let unit = unit(p)?;
            if !eat(p, &["FROM"]) {
                return expected("FROM", &p.peek_token());
            }
            let from = p.parse_expr()?;
            function(word, span, vec![unit, from])
        }
        "FLOOR" | "CEIL" | "CEILING" => {
            p.expect_token(&Token::LParen)?;
            let name = if word == "FLOOR" { "FLOOR" } else { "CEIL" };
            let mut args = p.parse_comma_separated(Parser::parse_expr)?;
            if eat(p, &["TO"]) {
                args.push(unit(p)?);
                function(&format!("{name}_TO"), span, args)
            } else {
                function(name, span, args)
            }
        }
        "POSITION" => {
            p.expect_token(&Token::LParen)?;
            // `IN` must be left alone, as must be `BETWEEN`.
            let needle = p.parse_subexpr(comparison(p))?;
            if !eat(p, &["IN"]) {
                return expected("IN", &p.peek_token());
            }
            let mut args = vec![needle, p.parse_expr()?];
            if eat(p, &["FROM"]) {
                args.push(p.parse_expr()?);
            }
            function(word, span, args)
        }
        "TRIM" => {
            p.expect_token(&Token::LParen)?;
            trim(p, span)?
        }
        "SUBSTRING" => {
            p.expect_token(&Token::LParen)?;
            let text = p.parse_expr()?;
            let args = from_for(p, vec![text])?;
            function(word, span, args)
        }
        "OVERLAY" => {
            p.expect_token(&Token::LParen)?;
            let mut args = vec![p.parse_expr()?];
            if eat(p, &["PLACING"]) {
                args.push(p.parse_expr()?);
                if !at(p, &["FROM"]) {
                    return expected("FROM", &p.peek_token());
                }
            }
            let args = from_for(p, args)?;
            function(word, span, args)
        }
        _ => return Ok(None),
    };
    close(p)?;
    suffixes(p, call).map(Some)
}

fn comparison(_: &Parser) -> u8 {
    use sqlparser::dialect::Dialect;
    super::dialect::FlinkDialect::default().prec_value(Precedence::Between)
}

/// `FROM n [FOR m]`, or the same with commas, or nothing.
fn from_for(p: &mut Parser, mut args: Vec<Expr>) -> PResult<Vec<Expr>> {
    if eat(p, &["FROM"]) {
        args.push(p.parse_expr()?);
        if eat(p, &["FOR"]) {
            args.push(p.parse_expr()?);
        }
    } else {
        while p.consume_token(&Token::Comma) {
            args.push(p.parse_expr()?);
        }
    }
    Ok(args)
}

fn trim(p: &mut Parser, span: Span) -> PResult<Function> {
    let side = eat_any(p, &["BOTH", "LEADING", "TRAILING"]);
    let space = || word_literal(" ", span);
    let (what, text) = if side.is_some() && eat(p, &["FROM"]) {
        (space(), p.parse_expr()?)
    } else {
        let first = p.parse_expr()?;
        if eat(p, &["FROM"]) {
            (first, p.parse_expr()?)
        } else if side.is_some() {
            return expected("FROM", &p.peek_token());
        } else {
            (space(), first)
        }
    };
    Ok(function("TRIM", span, vec![word_literal(side.unwrap_or("BOTH"), span), what, text]))
}

/// A unit of time as a word literal.
fn unit(p: &mut Parser) -> PResult<Expr> {
    let token = p.next_token();
    let word = upper(&token.token).unwrap_or_default();
    let name = match word.strip_prefix("SQL_TSI_").unwrap_or(&word) {
        "FRAC_SECOND" => "NANOSECOND",
        "DAYOFWEEK" => "DOW",
        "DAYOFYEAR" => "DOY",
        other => other,
    };
    match UNITS.iter().find(|unit| **unit == name) {
        Some(unit) => Ok(word_literal(unit, token.span)),
        None => expected("a unit of time (YEAR, MONTH, DAY, HOUR, MINUTE, SECOND..)", &token),
    }
}
