//! The grammar of Flink's types, and their passage through `sqlparser`'s trees.

use super::dialect::FlinkDialect;
use super::error::{Mistake, PResult, expected, fail, mistake, translate};
use super::lex::Source;
use super::words::{at, eat, is, is_reserved, upper};
use millstream_core::error::{Error, Result};
use millstream_core::types::{DataType, Field, MAX_LENGTH, TypeKind};
use sqlparser::ast::{DataType as TreeType, Ident, ObjectName};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Span, Token};

/// Types may nest this deep.
const DEPTH_MAX: usize = 50;

/// The type in `sqlparser`'s form: a custom type whose name is the type's text in Flink's syntax.
pub(super) fn to_tree(data_type: &DataType, span: Span) -> TreeType {
    TreeType::Custom(ObjectName::from(vec![Ident::with_span(span, sql(data_type))]), vec![])
}

/// The type in an `Expr::Cast` or `Expr::TypedString`.
///
/// A type without NOT NULL is nullable; lengths and precisions have Flink's defaults: DECIMAL(10, 0), TIMESTAMP(6),
/// TIME(0), CHAR(1); VARCHAR and VARBINARY without a length are the longest, as Flink's SQL has it (its Table API
/// says 1).
///
/// # Errors
///
/// For trees that this parser did not make.
pub fn flink_type(tree: &TreeType) -> Result<DataType> {
    match tree {
        TreeType::Boolean => Ok(TypeKind::Boolean.nullable()),
        TreeType::Date => Ok(TypeKind::Date.not_null()),
        TreeType::Time(..) => Ok(TypeKind::Time(0).not_null()),
        TreeType::Timestamp(..) => Ok(TypeKind::Timestamp(6).not_null()),
        TreeType::Custom(name, _) => match name.0.first().and_then(|part| part.as_ident()) {
            Some(text) => parse_type(&text.value),
            None => Err(Error::internal("a type without a name in a syntax tree")),
        },
        other => Err(Error::unsupported(format!("the type {other}"))),
    }
}

/// Parses a type that stands alone: `ROW<a INT, b ARRAY<STRING NOT NULL>>`.
///
/// # Errors
///
/// For texts that are no type of Flink's, and for types that are not supported.
pub fn parse_type(text: &str) -> Result<DataType> {
    let source = Source::new(text).map_err(|failed| translate(failed.1, &failed.0, Location { line: 1, column: 1 }))?;
    let dialect = FlinkDialect::default();
    let mut p = Parser::new(&dialect).with_tokens_with_locations(source.tokens.clone());
    let parsed = parse(&mut p).and_then(|t| match p.peek_token() {
        end if end.token == Token::EOF => Ok(t),
        more => expected("the end of the type", &more),
    });
    parsed.map_err(|e| translate(e, &source, source.end()))
}

/// The type's text, such that [`parse_type`] reads it back.
fn sql(data_type: &DataType) -> String {
    let kind = match &data_type.kind {
        TypeKind::Array(t) => format!("ARRAY<{}>", sql(t)),
        TypeKind::Multiset(t) => format!("MULTISET<{}>", sql(t)),
        TypeKind::Map(k, v) => format!("MAP<{}, {}>", sql(k), sql(v)),
        TypeKind::Row(fields) => {
            let field = |f: &Field| format!("`{}` {}", f.name.replace('`', "``"), sql(&f.data_type));
            format!("ROW<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    };
    if data_type.nullable { kind } else { format!("{kind} NOT NULL") }
}

/// Parses a type where the parser stands.
pub(super) fn parse(p: &mut Parser) -> PResult<DataType> {
    nested(p, 0)
}

fn nested(p: &mut Parser, depth: usize) -> PResult<DataType> {
    let start = p.peek_token_ref().span.start;
    if depth > DEPTH_MAX {
        return fail(start, "a type is nested too deep", "");
    }
    let kind = kind(p, depth)?;
    let mut data_type = nullability(p, kind);
    // The standard's suffix form: INT ARRAY
    while let Some(word) = upper(&p.peek_token_ref().token).filter(|w| w == "ARRAY" || w == "MULTISET") {
        p.advance_token();
        let element = Box::new(data_type);
        let kind = if word == "ARRAY" { TypeKind::Array(element) } else { TypeKind::Multiset(element) };
        data_type = nullability(p, kind);
        if levels(&data_type) > DEPTH_MAX {
            return fail(start, "a type is nested too deep", "");
        }
    }
    Ok(data_type)
}

fn levels(data_type: &DataType) -> usize {
    let mut levels = 0;
    let mut at = data_type;
    while let TypeKind::Array(inner) | TypeKind::Multiset(inner) = &at.kind {
        levels += 1;
        at = inner;
    }
    levels
}

fn nullability(p: &mut Parser, kind: TypeKind) -> DataType {
    if eat(p, &["NOT", "NULL"]) {
        return kind.not_null();
    }
    // `RETURNING INT NULL ON ERROR` says nothing of the type.
    if !at(p, &["NULL", "ON"]) {
        eat(p, &["NULL"]);
    }
    kind.nullable()
}

fn kind(p: &mut Parser, depth: usize) -> PResult<TypeKind> {
    let token = p.next_token();
    let at_type = token.span.start;
    let Some(word) = upper(&token.token) else { return expected("a type", &token) };
    let kind = match word.as_str() {
        "NULL" => TypeKind::Null,
        "BOOLEAN" => TypeKind::Boolean,
        "TINYINT" => TypeKind::TinyInt,
        "SMALLINT" => TypeKind::SmallInt,
        "INT" | "INTEGER" => TypeKind::Int,
        "BIGINT" => TypeKind::BigInt,
        "FLOAT" => TypeKind::Float,
        "DOUBLE" => {
            eat(p, &["PRECISION"]);
            TypeKind::Double
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(p)?,
        "CHAR" | "CHARACTER" => {
            if eat(p, &["VARYING"]) {
                TypeKind::VarChar(length(p, MAX_LENGTH)?)
            } else {
                TypeKind::Char(length(p, 1)?)
            }
        }
        "VARCHAR" => TypeKind::VarChar(length(p, MAX_LENGTH)?),
        "STRING" => TypeKind::STRING,
        "BINARY" => {
            if eat(p, &["VARYING"]) {
                TypeKind::VarBinary(length(p, MAX_LENGTH)?)
            } else {
                TypeKind::Binary(length(p, 1)?)
            }
        }
        "VARBINARY" => TypeKind::VarBinary(length(p, MAX_LENGTH)?),
        "BYTES" => TypeKind::BYTES,
        "DATE" => TypeKind::Date,
        "TIME" => {
            let precision = precision(p, 0)?;
            zone(p, at_type, "TIME")?;
            TypeKind::Time(precision)
        }
        "TIMESTAMP" => {
            let precision = precision(p, 6)?;
            if eat(p, &["WITH", "LOCAL", "TIME", "ZONE"]) {
                TypeKind::TimestampLtz(precision)
            } else {
                zone(p, at_type, "TIMESTAMP")?;
                TypeKind::Timestamp(precision)
            }
        }
        "TIMESTAMP_LTZ" => TypeKind::TimestampLtz(precision(p, 6)?),
        "INTERVAL" => interval(p)?,
        "ARRAY" => TypeKind::Array(Box::new(angle(p, |p| nested(p, depth + 1))?)),
        "MULTISET" => TypeKind::Multiset(Box::new(angle(p, |p| nested(p, depth + 1))?)),
        "MAP" => angle(p, |p| {
            let key = nested(p, depth + 1)?;
            p.expect_token(&Token::Comma)?;
            Ok(TypeKind::Map(Box::new(key), Box::new(nested(p, depth + 1)?)))
        })?,
        "ROW" => row(p, depth)?,
        "BITMAP" => TypeKind::Bitmap,
        "VARIANT" => TypeKind::Variant,
        "RAW" | "STRUCTURED" | "ANY" => {
            return Err(mistake(Mistake::Unsupported, at_type, &format!("the type {word}"), ""));
        }
        _ => return unknown(&word, at_type),
    };
    Ok(kind)
}

fn unknown<T>(word: &str, place: Location) -> PResult<T> {
    let hint = match word {
        "TEXT" | "CLOB" | "NVARCHAR" => "use STRING",
        "DATETIME" => "use TIMESTAMP(3)",
        "BOOL" => "use BOOLEAN",
        "LONG" => "use BIGINT",
        "REAL" | "FLOAT4" => "use FLOAT",
        "BLOB" => "use BYTES",
        "STRUCT" => "use ROW<name type, ..>",
        "TIMESTAMPTZ" => "use TIMESTAMP_LTZ(3)",
        "UUID" | "JSON" => "use STRING",
        _ => "",
    };
    fail(place, format!("`{word}` is no type"), hint)
}

fn zone(p: &mut Parser, place: Location, name: &str) -> PResult<()> {
    if at(p, &["WITH"]) && is(&p.peek_nth_token_ref(1).token, "TIME") {
        return fail(place, format!("{name} WITH TIME ZONE is no type of Flink"), "use TIMESTAMP_LTZ");
    }
    eat(p, &["WITHOUT", "TIME", "ZONE"]);
    Ok(())
}

fn number(p: &mut Parser, min: u32, max: u32, what: &str) -> PResult<u32> {
    let token = p.next_token();
    let Token::Number(digits, false) = &token.token else { return expected("a whole number", &token) };
    match digits.parse::<u32>() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => fail(token.span.start, format!("{what} is from {min} to {max}, not {digits}"), ""),
    }
}

fn length(p: &mut Parser, default: u32) -> PResult<u32> {
    if !p.consume_token(&Token::LParen) {
        return Ok(default);
    }
    let n = number(p, 1, MAX_LENGTH, "a length")?;
    p.expect_token(&Token::RParen)?;
    Ok(n)
}

fn precision(p: &mut Parser, default: u8) -> PResult<u8> {
    if !p.consume_token(&Token::LParen) {
        return Ok(default);
    }
    let n = number(p, 0, 9, "a precision of time")?;
    p.expect_token(&Token::RParen)?;
    Ok(n as u8)
}

fn decimal(p: &mut Parser) -> PResult<TypeKind> {
    if !p.consume_token(&Token::LParen) {
        return Ok(TypeKind::Decimal(10, 0));
    }
    let precision = number(p, 1, 38, "the precision of DECIMAL")?;
    let scale = if p.consume_token(&Token::Comma) {
        number(
            p,
            0,
            precision,
            "the scale of this \
        DECIMAL",
        )?
    } else {
        0
    };
    p.expect_token(&Token::RParen)?;
    Ok(TypeKind::Decimal(precision as u8, scale as u8))
}

fn interval(p: &mut Parser) -> PResult<TypeKind> {
    let token = p.next_token();
    let word = upper(&token.token).unwrap_or_default();
    let kind = match word.as_str() {
        "YEAR" | "QUARTER" | "MONTH" => TypeKind::IntervalYearMonth,
        "WEEK" | "DAY" | "HOUR" | "MINUTE" | "SECOND" => TypeKind::IntervalDayTime,
        _ => return expected("a unit of time", &token),
    };
    interval_precision(p)?;
    if eat(p, &["TO"]) {
        let token = p.next_token();
        let word = upper(&token.token).unwrap_or_default();
        let fits = match kind {
            TypeKind::IntervalYearMonth => word == "MONTH",
            _ => matches!(word.as_str(), "HOUR" | "MINUTE" | "SECOND"),
        };
        if !fits {
            return expected("a smaller unit of time", &token);
        }
        interval_precision(p)?;
    }
    Ok(kind)
}

fn interval_precision(p: &mut Parser) -> PResult<()> {
    if p.consume_token(&Token::LParen) {
        number(p, 0, 10, "the precision of an interval")?;
        if p.consume_token(&Token::Comma) {
            number(p, 0, 9, "the precision of seconds")?;
        }
        p.expect_token(&Token::RParen)?;
    }
    Ok(())
}

fn angle<T>(p: &mut Parser, inner: impl FnOnce(&mut Parser) -> PResult<T>) -> PResult<T> {
    p.expect_token(&Token::Lt)?;
    let inner = inner(p)?;
    p.expect_token(&Token::Gt)?;
    Ok(inner)
}

fn row(p: &mut Parser, depth: usize) -> PResult<TypeKind> {
    let close = match p.next_token() {
        t if t.token == Token::Lt => Token::Gt,
        t if t.token == Token::LParen => Token::RParen,
        t => return expected("`<` and the fields", &t),
    };
    let mut fields = vec![];
    loop {
        let name = p.next_token();
        let Token::Word(word) = name.token else { return expected("the name of a field", &name) };
        if word.quote_style.is_none() && is_reserved(&word.value) {
            return super::error::reserved_as_name(&word.value, name.span.start);
        }
        fields.push(Field::new(word.value, nested(p, depth + 1)?));
        if matches!(p.peek_token_ref().token, Token::SingleQuotedString(_)) {
            p.advance_token();
        }
        if !p.consume_token(&Token::Comma) {
            break;
        }
    }
    p.expect_token(&close)?;
    Ok(TypeKind::Row(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let parsed = parse_type(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(parsed.to_string(), expect, "{text}");
        let again = parse_type(&sql(&parsed)).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(again, parsed, "{text}");
    }

    #[test]
    fn types_have_flinks_defaults() {
        check("DECIMAL", "DECIMAL(10, 0)");
        check("dec(4)", "DECIMAL(4, 0)");
        check("NUMERIC(38, 18) NOT NULL", "DECIMAL(38, 18) NOT NULL");
        check("TIMESTAMP", "TIMESTAMP(6)");
        check("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)");
        check("TIMESTAMP_LTZ", "TIMESTAMP_LTZ(6)");
        check("TIMESTAMP(9) WITHOUT TIME ZONE NOT NULL", "TIMESTAMP(9) NOT NULL");
        check("TIME", "TIME(0)");
        check("CHAR", "CHAR(1)");
        check("VARCHAR", "STRING");
        check("VARBINARY NOT NULL", "BYTES NOT NULL");
        check("VARCHAR(2147483647)", "STRING");
        check("BYTES", "BYTES");
        check("VARBINARY(2147483647)", "BYTES");
        check("DOUBLE PRECISION", "DOUBLE");
        check("INTERVAL DAY TO SECOND(3)", "INTERVAL SECOND(3)");
        check("INTERVAL YEAR(4) TO MONTH", "INTERVAL MONTH");
        check("BITMAP NOT NULL", "BITMAP NOT NULL");
        check("MAP<STRING, VARIANT>", "MAP<STRING, VARIANT>");
    }

    #[test]
    fn types_nest() {
        check(
            "MAP<STRING NOT NULL, ROW<x INT, y ARRAY<ARRAY<STRING>>>>",
            "MAP<STRING NOT NULL, ROW<`x` INT, `y` ARRAY<ARRAY<STRING>>>>",
        );
        check("ROW(f INT 'the f', `a``b` STRING NOT NULL)", "ROW<`f` INT, `a`b` STRING NOT NULL>");
        check("INT NOT NULL ARRAY NOT NULL MULTISET", "MULTISET<ARRAY<INT NOT NULL> NOT NULL>");
    }

    #[test]
    fn bad_types_are_refused_with_a_place() {
        for (text, message) in [
            ("TEXT", "`TEXT` is no type (line 1, column 1)\n  hint: use STRING"),
            ("DECIMAL(39)", "the precision of DECIMAL is from 1 to 38, not 39 (line 1, column 9)"),
            ("RAW('a', 'b')", "the type RAW is not supported yet (line 1, column 1)"),
            ("ARRAY<INT", "expected `>`, found the end of the script (line 1, column 10)"),
            (
                "INT INT",
                "expected the end of the type, found `INT` (line 1, column 5)\n  hint: `INT` is a reserved word; \
                    to use it as a name, write it in backquotes",
            ),
        ] {
            assert_eq!(parse_type(text).map_err(|e| e.to_string()), Err(message.to_string()), "{text}");
        }
        assert!(parse_type(&"ARRAY<".repeat(10_000)).is_err());
        assert!(parse_type(&format!("INT {}", "ARRAY ".repeat(10_000))).is_err());
    }
}
