//! Interval literals: their syntax, and their value in months or milliseconds.

use super::error::{PResult, expected, fail};
use super::expr::{string, times, word_literal};
use super::words::{eat, upper};
use millstream_core::error::{Error, Result};
use sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value, ValueWithSpan};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

/// The value of an interval literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalValue {
    /// Of INTERVAL YEAR TO MONTH.
    Months(i32),
    /// Of INTERVAL DAY TO SECOND, in milliseconds.
    Millis(i64),
}

/// `INTERVAL [+ | -] '..' unit[(p)] [TO unit]`, also with a number or a parenthesised expression before one unit.
pub(super) fn literal(p: &mut Parser) -> PResult<Expr> {
    p.advance_token();
    let negative = p.consume_token(&Token::Minus);
    if !negative {
        let _ = p.consume_token(&Token::Plus);
    }
    let next = p.peek_token();
    let (value, factor) = match &next.token {
        Token::SingleQuotedString(_) => {
            let (text, span) = string(p)?;
            (word_literal(&text, span), None)
        }
        Token::Number(digits, _) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            p.advance_token();
            (word_literal(digits, next.span), None)
        }
        Token::LParen => {
            p.advance_token();
            let factor = p.parse_expr()?;
            p.expect_token(&Token::RParen)?;
            (word_literal("1", next.span), Some(factor))
        }
        _ => return fail(next.span.start, "INTERVAL is not followed by a string", "write INTERVAL '1' DAY"),
    };
    let leading_field = Some(field(p)?);
    let (mut leading_precision, mut fractional_seconds_precision) = precision(p)?;
    let mut last_field = None;
    if eat(p, &["TO"]) {
        last_field = Some(field(p)?);
        if let (Some(seconds), _) = precision(p)? {
            fractional_seconds_precision = Some(seconds);
        }
    } else if leading_field == Some(DateTimeField::Second) && fractional_seconds_precision.is_some() {
        // sqlparser prints SECOND(p, s) only with both.
        leading_precision = leading_precision.or(Some(2));
    }
    let value = Box::new(value);
    let interval = Interval { value, leading_field, leading_precision, last_field, fractional_seconds_precision };
    if let Err(error) = interval_value(&interval) {
        return fail(next.span.start, error.message(), error.hint_text().unwrap_or_default());
    }
    let mut expr = Expr::Interval(interval);
    if let Some(factor) = factor {
        expr = times(Expr::Nested(Box::new(factor)), expr);
    }
    Ok(if negative { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(expr) } } else { expr })
}

fn field(p: &mut Parser) -> PResult<DateTimeField> {
    use sqlparser::ast::Ident;
    let token = p.next_token();
    Ok(match upper(&token.token).as_deref() {
        Some("YEAR" | "YEARS") => DateTimeField::Year,
        Some("QUARTER" | "QUARTERS") => DateTimeField::Quarter,
        Some("MONTH" | "MONTHS") => DateTimeField::Month,
        Some("WEEK" | "WEEKS") => DateTimeField::Week(None::<Ident>),
        Some("DAY" | "DAYS") => DateTimeField::Day,
        Some("HOUR" | "HOURS") => DateTimeField::Hour,
        Some("MINUTE" | "MINUTES") => DateTimeField::Minute,
        Some("SECOND" | "SECONDS") => DateTimeField::Second,
        _ => return expected("YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE or SECOND", &token),
    })
}

/// `(p)` or `(p, s)`
fn precision(p: &mut Parser) -> PResult<(Option<u64>, Option<u64>)> {
    if !p.consume_token(&Token::LParen) {
        return Ok((None, None));
    }
    let leading = p.parse_literal_uint()?;
    let fraction = if p.consume_token(&Token::Comma) { Some(p.parse_literal_uint()?) } else { None };
    p.expect_token(&Token::RParen)?;
    Ok((Some(leading), fraction))
}

/// The units that an interval's text gives, each with its size in the interval's smallest unit, and how many of a
/// unit make one of the next larger (0: any number).
fn units(first: &DateTimeField, last: &DateTimeField) -> Option<&'static [(i64, i64)]> {
    use DateTimeField::*;
    const DAY: (i64, i64) = (86_400_000, 0);
    Some(match (first, last) {
        (Year, Year) => &[(12, 0)],
        (Quarter, Quarter) => &[(3, 0)],
        (Month, Month) => &[(1, 0)],
        (Year, Month) => &[(12, 0), (1, 12)],
        (Week(_), Week(_)) => &[(604_800_000, 0)],
        (Day, Day) => &[DAY],
        (Hour, Hour) => &[(3_600_000, 0)],
        (Minute, Minute) => &[(60_000, 0)],
        (Second, Second) => &[(1000, 0)],
        (Day, Hour) => &[DAY, (3_600_000, 24)],
        (Day, Minute) => &[DAY, (3_600_000, 24), (60_000, 60)],
        (Day, Second) => &[DAY, (3_600_000, 24), (60_000, 60), (1000, 60)],
        (Hour, Minute) => &[(3_600_000, 0), (60_000, 60)],
        (Hour, Second) => &[(3_600_000, 0), (60_000, 60), (1000, 60)],
        (Minute, Second) => &[(60_000, 0), (1000, 60)],
        _ => return None,
    })
}

/// The value of an interval literal; the parser has checked those that it made.
///
/// # Errors
///
/// For texts that don't fit the units, and for values out of range.
pub fn interval_value(interval: &Interval) -> Result<IntervalValue> {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = interval.value.as_ref() else {
        return Err(Error::internal("an interval literal without a string"));
    };
    let Some(first) = &interval.leading_field else {
        return Err(Error::internal("an interval literal without a unit"));
    };
    let last = interval.last_field.as_ref().unwrap_or(first);
    let Some(units) = units(first, last) else {
        return Err(Error::script(format!("an interval can't be {first} TO {last}"))
            .hint("the units are YEAR TO MONTH, or two of DAY, HOUR, MINUTE, SECOND in that order"));
    };
    let is_seconds = *last == DateTimeField::Second;
    let is_months = matches!(last, DateTimeField::Year | DateTimeField::Quarter | DateTimeField::Month);
    let total = amount(text.trim(), first, units, is_seconds).ok_or_else(|| {
        let range = interval.last_field.as_ref().map_or(String::new(), |last| format!(" TO {last}"));
        let example = match (units.len(), first, last) {
            (1, ..) => "'10'",
            (_, DateTimeField::Year, _) => "'1-2'",
            (_, DateTimeField::Day, DateTimeField::Hour) => "'1 10'",
            (_, DateTimeField::Day, DateTimeField::Minute) => "'1 10:30'",
            (_, DateTimeField::Day, _) => "'1 10:30:15.250'",
            (3, ..) => "'10:30:15'",
            _ => "'10:30'",
        };
        Error::script(format!("'{text}' is no interval of {first}{range}")).hint(format!("write it like {example}"))
    })?;
    if !is_months {
        return Ok(IntervalValue::Millis(total));
    }
    match i32::try_from(total) {
        Ok(months) => Ok(IntervalValue::Months(months)),
        Err(_) => Err(Error::script(format!("the interval '{text}' {first} is out of range"))),
    }
}

/// The text's value in the smallest unit; parts of milliseconds are cut off.
fn amount(text: &str, first: &DateTimeField, units: &[(i64, i64)], is_seconds: bool) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0i64;
    for (i, (size, wraps_at)) in units.iter().enumerate() {
        if i > 0 {
            let separator = match (first, i) {
                (DateTimeField::Year, _) => '-',
                (DateTimeField::Day, 1) => ' ',
                _ => ':',
            };
            rest = rest.strip_prefix(separator)?.trim_start_matches(' ');
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        let number: i64 = number.parse().ok()?;
        if *wraps_at > 0 && number >= *wraps_at {
            return None;
        }
        total = total.checked_add(number.checked_mul(*size)?)?;
        rest = after;
    }
    if is_seconds && let Some(fraction) = rest.strip_prefix('.') {
        if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let millis = format!("{fraction:0<3}");
        total = total.checked_add(millis.get(..3)?.parse().ok()?)?;
        rest = "";
    }
    if !rest.is_empty() {
        return None;
    }
    Some(if negative { -total } else { total })
}
