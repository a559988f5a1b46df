//! Errors inside the parser, and their translation into messages with a place and a hint.

use super::lex::Source;
use super::words;
use millstream_core::error::Error;
use millstream_core::suggest::nearest;
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

/// The result of the parser's functions.
pub(super) type PResult<T> = Result<T, ParserError>;

/// Separates the parts of our own messages inside a [`ParserError`], which carries only text.
const MARK: char = '\u{1}';

/// What kind of mistake it is.
#[derive(Clone, Copy)]
pub(super) enum Mistake {
    /// Not Flink's syntax.
    Syntax,
    /// Flink's syntax, but not supported.
    Unsupported,
}

/// A mistake of our own finding, as a [`ParserError`].
pub(super) fn mistake(kind: Mistake, at: Location, message: &str, hint: &str) -> ParserError {
    let kind = match kind {
        Mistake::Syntax => 'S',
        Mistake::Unsupported => 'U',
    };
    let Location { line, column } = at;
    ParserError::ParserError(format!("{MARK}{kind}{MARK}{line}{MARK}{column}{MARK}{message}{MARK}{hint}"))
}

/// A syntax error at `at`.
pub(super) fn fail<T>(at: Location, message: impl AsRef<str>, hint: impl AsRef<str>) -> PResult<T> {
    Err(mistake(Mistake::Syntax, at, message.as_ref(), hint.as_ref()))
}

/// `expected X, found Y` at the token `found`.
pub(super) fn expected<T>(what: &str, found: &TokenWithSpan) -> PResult<T> {
    Err(ParserError::ParserError(format!(
        "Expected: {what}, found: {found}{}",
        found.span.start // prints as " at Line: .., Column: ..", or as nothing at the end
    )))
}

/// The error for a reserved word in the place of a name.
pub(super) fn reserved_as_name<T>(word: &str, at: Location) -> PResult<T> {
    fail(at, format!("`{word}` is a reserved word"), format!("to use it as a name, write it in backquotes: `{word}`"))
}

/// Where an error is, if it says so.
pub(super) fn place_of(error: &ParserError) -> Option<Location> {
    let text = match error {
        ParserError::TokenizerError(t) | ParserError::ParserError(t) => t,
        ParserError::RecursionLimitExceeded => return None,
    };
    if text.starts_with(MARK) {
        let mut parts = text.split(MARK).skip(2);
        let line = parts.next()?.parse().ok()?;
        let column = parts.next()?.parse().ok()?;
        return Some(Location { line, column });
    }
    split_place(text).1
}

/// Splits ` at Line: l, Column: c` off the end.
fn split_place(text: &str) -> (&str, Option<Location>) {
    let place = |at: usize| {
        let (line, column) = text[at + " at Line: ".len()..].split_once(", Column: ")?;
        Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
    };
    match text.rfind(" at Line: ").and_then(|at| Some((at, place(at)?))) {
        Some((at, location)) => (&text[..at], Some(location)),
        None => (text, None),
    }
}

/// The error for people.
pub(super) fn translate(error: ParserError, source: &Source, current: Location) -> Error {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return at(Error::script("the statement is nested too deep"), current)
                .hint("split it with views or WITH queries");
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    if let Some(rest) = text.strip_prefix(MARK) {
        return translate_own(rest, source);
    }
    let (fact, location) = split_place(&text);
    let end = source.end();
    let location = location.filter(|l| l.line > 0).unwrap_or(end);
    let Some((what, found)) = fact.strip_prefix("Expected: ").and_then(|f| f.split_once(", found: ")) else {
        return at(Error::script(lowercase_start(fact)), location);
    };
    let what = match what {
        "identifier" => "a name",
        "literal string" => "a string",
        "literal int" => "a whole number",
        "a value" => "a literal",
        "argument operator" => "`=>`",
        other => other,
    };
    let what = if what.chars().any(char::is_alphanumeric) { what.to_string() } else { format!("`{what}`") };
    let found_text = match found {
        "EOF" => "the end of the script".to_string(),
        text if text.starts_with('\'') => text.to_string(),
        text => format!("`{text}`"),
    };
    let error = at(Error::script(format!("expected {what}, found {found_text}")), location);
    match hint_for(&what, found, location, source) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn translate_own(rest: &str, source: &Source) -> Error {
    let mut parts = rest.split(MARK);
    let kind = parts.next();
    let line = parts.next().and_then(|l| l.parse().ok()).unwrap_or(0);
    let column = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
    let message = parts.next().unwrap_or_default();
    let hint = parts.next().unwrap_or_default();
    let error = match kind {
        Some("U") => Error::unsupported(message),
        _ => Error::script(message),
    };
    let place = Location { line, column };
    let error = at(error, if line == 0 { source.end() } else { place });
    if hint.is_empty() { error } else { error.hint(hint) }
}

fn at(error: Error, location: Location) -> Error {
    error.at_script(location.line, location.column)
}

fn lowercase_start(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A hint, where a common mistake shows.
fn hint_for(what: &str, found: &str, location: Location, source: &Source) -> Option<String> {
    if let Some(open) = source.unclosed_paren_before(location)
        && (found == "EOF" || found == ";" || what.contains(')'))
    {
        return Some(format!("the `(` at line {}, column {} is not closed", open.line, open.column));
    }
    let token = source.token_at(location)?;
    match &token.token {
        Token::DoubleEq => Some("comparison is a single `=`".to_string()),
        Token::DoubleColon => Some("write CAST(x AS type)".to_string()),
        Token::LBracket if what.contains("name") => Some("names are quoted by backquotes".to_string()),
        word => {
            let upper = words::upper(word)?;
            if source.starts_line(location)
                && STARTERS.contains(&upper.as_str())
                && what.contains("end of the statement")
            {
                return Some("a semicolon may be missing before this statement".to_string());
            }
            if what.contains("end of the statement") {
                if matches!(upper.as_str(), "GROUP" | "ORDER" | "PARTITION") {
                    return Some(format!("{upper} is followed by BY"));
                }
                let before = source.token_before(location)?;
                let near = words::upper(&before.token).and_then(|word| nearest(&word, CLAUSES));
                if let Some(clause) = near {
                    return Some(format!("did you mean {clause} instead of `{}`?", before.token));
                }
            }
            if words::is_reserved(&upper) && !words::is_structural(&upper) {
                return Some(format!("`{found}` is a reserved word; to use it as a name, write it in backquotes"));
            }
            None
        }
    }
}

/// Words that begin a clause.
const CLAUSES: [&str; 8] = ["FROM", "GROUP BY", "HAVING", "JOIN", "LIMIT", "ORDER BY", "UNION", "WHERE"];

/// Words that begin a statement.
const STARTERS: [&str; 12] =
    ["ALTER", "BEGIN", "CREATE", "DELETE", "DROP", "EXECUTE", "EXPLAIN", "INSERT", "SELECT", "SET", "UPDATE", "WITH"];
