//! From text to tokens: Flink's lexical rules, hint comments, limits of nesting, and the few rewrites that let
//! `sqlparser`'s grammar take Flink's clauses.

use super::dialect::FlinkLexer;
use super::error::{Mistake, PResult, fail, mistake};
use super::words::{is, is_grammar, upper};
use sqlparser::keywords::Keyword;
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace, Word};
use std::collections::BTreeMap;

/// Parentheses may nest this deep.
const PARENS_MAX: usize = 120;
/// Operators may chain this long in one expression, counted through its parentheses: trees are dropped and walked
/// by recursion, and left-deep ones are as deep as they are long.
const CHAIN_MAX: usize = 1200;
/// The name that carries `WITHIN` of a `MATCH_RECOGNIZE` among its definitions.
pub(super) const WITHIN: &str = "\u{1}within";
/// Begins the name that stands for a table expression parsed apart.
pub(super) const DERIVED: &str = "\u{1}derived";

/// How to write a name that is no plain word.
pub(super) const BACKQUOTES: &str = "names take backquotes";

/// A hint comment `/*+ .. */`.
#[derive(Clone, Debug)]
pub(super) struct HintComment {
    /// What stands after the plus sign.
    pub text: String,
    /// Where the comment begins.
    pub start: Location,
}

/// A script as text and as tokens.
#[derive(Debug, Default)]
pub(super) struct Source {
    text: String,
    /// Offset of each line's first byte.
    lines: Vec<usize>,
    /// The tokens for the parser, without comments.
    pub tokens: Vec<TokenWithSpan>,
    /// Hints after a name, by the name's place.
    pub hints: BTreeMap<(u64, u64), HintComment>,
    /// Table expressions before MATCH_RECOGNIZE, which `sqlparser` takes after names only.
    pub derived: Vec<Vec<TokenWithSpan>>,
    /// Opening parentheses that nothing closes.
    unclosed: Vec<Location>,
}

impl Source {
    /// Reads `text` into tokens.
    pub fn new(text: &str) -> Result<Self, Box<(Self, ParserError)>> {
        let mut lines = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        let mut source = Source { text: text.to_string(), lines, ..Source::default() };
        match source.read() {
            Ok(()) => Ok(source),
            Err(error) => Err(Box::new((source, error))),
        }
    }

    fn read(&mut self) -> PResult<()> {
        let raw = Tokenizer::new(&FlinkLexer, &self.text)
            .with_unescape(true)
            .tokenize_with_location()
            .map_err(|e| self.lexical_error(e))?;
        self.tokens = raw.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).cloned().collect();
        let tokens = self.clean(raw)?;
        check_depth(&tokens)?;
        self.unclosed = unclosed_parens(&tokens);
        let tokens = move_within(tokens)?;
        self.tokens = self.lift_derived(tokens);
        Ok(())
    }

    /// The text between two offsets.
    pub fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The offset of a place.
    pub fn offset(&self, at: Location) -> usize {
        let Some(line) = (at.line as usize).checked_sub(1).and_then(|l| self.lines.get(l)) else {
            return self.text.len();
        };
        let rest = self.text.get(*line..).unwrap_or_default();
        let column = (at.column as usize).saturating_sub(1);
        rest.char_indices().nth(column).map_or(self.text.len(), |(i, _)| line + i)
    }

    /// The place after the last token: where something is missing at the end.
    pub fn end(&self) -> Location {
        self.tokens.last().map_or(Location { line: 1, column: 1 }, |t| t.span.end)
    }

    /// The token that begins at a place.
    pub fn token_at(&self, at: Location) -> Option<&TokenWithSpan> {
        self.tokens.iter().find(|t| t.span.start == at)
    }

    /// The token before the one that begins at a place.
    pub fn token_before(&self, at: Location) -> Option<&TokenWithSpan> {
        self.tokens.iter().rev().find(|t| t.span.start < at)
    }

    /// Whether the token at a place is the first of its line.
    pub fn starts_line(&self, at: Location) -> bool {
        let Some(line) = (at.line as usize).checked_sub(1).and_then(|l| self.lines.get(l)) else { return false };
        self.slice(*line, self.offset(at)).trim().is_empty()
    }

    /// The last parenthesis before a place that nothing closes.
    pub fn unclosed_paren_before(&self, at: Location) -> Option<Location> {
        self.unclosed.iter().rev().find(|open| **open < at).copied()
    }

    fn lexical_error(&self, error: TokenizerError) -> ParserError {
        let TokenizerError { message, location } = error;
        let syntax = |at, message: &str, hint: &str| mistake(Mistake::Syntax, at, message, hint);
        if message.contains("string literal") && message.starts_with("Unterminated") {
            return syntax(location, "a string is not closed", "a quote inside a string is written twice: 'it''s'");
        }
        if message.contains("multi-line comment") {
            let start = self.unclosed_comment().unwrap_or(location);
            return syntax(start, "a comment is not closed", "comments end with */");
        }
        if message.starts_with("Expected close delimiter") {
            return syntax(location, "a quoted name is not closed", "names in backquotes end with a backquote");
        }
        let message = message.trim_end_matches('.');
        let mut chars = message.chars();
        let message = chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect());
        syntax(location, &message, "")
    }

    /// Where the comment begins that nothing closes.
    fn unclosed_comment(&self) -> Option<Location> {
        let mut chars = self.text.char_indices().peekable();
        let mut quote = None;
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (Some(q), c) if q == c => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '`') => quote = Some(c),
                (None, '-') if chars.peek().is_some_and(|(_, n)| *n == '-') => {
                    while chars.next_if(|(_, n)| *n != '\n').is_some() {}
                }
                (None, '/') if chars.peek().is_some_and(|(_, n)| *n == '*') => {
                    let Some(end) = self.text.get(at + 2..).and_then(|rest| rest.find("*/")) else {
                        return Some(self.place(at));
                    };
                    while chars.next_if(|(i, _)| *i < at + 2 + end + 2).is_some() {}
                }
                _ => {}
            }
        }
        None
    }

    fn place(&self, offset: usize) -> Location {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        Location { line: line as u64, column: self.slice(start, offset).chars().count() as u64 + 1 }
    }

    /// Drops comments but SELECT's hints, keeps other hints aside, and settles strings and keywords.
    fn clean(&mut self, raw: Vec<TokenWithSpan>) -> PResult<Vec<TokenWithSpan>> {
        let mut out: Vec<TokenWithSpan> = Vec::with_capacity(raw.len() / 2);
        let mut statement = 0;
        for TokenWithSpan { token, span } in raw {
            let token = match token {
                Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with('+') => {
                    self.keep_hint(text, span, &mut out)?;
                    continue;
                }
                Token::Whitespace(_) => continue,
                Token::ShiftRight => {
                    let middle = Location { column: span.start.column + 1, ..span.start };
                    out.push(TokenWithSpan { token: Token::Gt, span: Span { start: span.start, end: middle } });
                    out.push(TokenWithSpan { token: Token::Gt, span: Span { start: middle, end: span.end } });
                    continue;
                }
                Token::DoubleQuotedString(_) => {
                    return fail(
                        span.start,
                        "a text in double quotes is no SQL",
                        "strings take single quotes ('text'), names take backquotes (`name`)",
                    );
                }
                Token::Number(digits, true) => {
                    return fail(span.start, format!("a number ends with L: `{digits}L`"), "write CAST(x AS BIGINT)");
                }
                Token::SingleQuotedString(s) | Token::NationalStringLiteral(s) | Token::UnicodeStringLiteral(s) => {
                    if out.last().is_some_and(|t| is(&t.token, "AS")) && !begins_function(&out[statement..]) {
                        return fail(span.start, format!("the string '{s}' stands in the place of a name"), BACKQUOTES);
                    }
                    match out.last_mut() {
                        // Parts of one literal on several lines.
                        Some(TokenWithSpan { token: Token::SingleQuotedString(before), span: first })
                            if first.end.line < span.start.line =>
                        {
                            before.push_str(&s);
                            first.end = span.end;
                            continue;
                        }
                        // A character set's name touches its literal: _UTF8'..'
                        Some(TokenWithSpan { token: Token::Word(w), span: charset })
                            if w.value.starts_with('_') && w.quote_style.is_none() && charset.end == span.start =>
                        {
                            out.pop();
                        }
                        _ => {}
                    }
                    Token::SingleQuotedString(s)
                }
                Token::Word(word) => Token::Word(settle_keyword(word)),
                other => other,
            };
            let ends = token == Token::SemiColon;
            out.push(TokenWithSpan { token, span });
            if ends {
                statement = out.len();
            }
        }
        Ok(out)
    }

    fn keep_hint(&mut self, text: String, span: Span, out: &mut Vec<TokenWithSpan>) -> PResult<()> {
        match out.last() {
            Some(TokenWithSpan { token, .. }) if is(token, "SELECT") => {
                let token = Token::Whitespace(Whitespace::MultiLineComment(text));
                out.push(TokenWithSpan { token, span });
                Ok(())
            }
            Some(TokenWithSpan { token: Token::Word(_), span: name }) => {
                let hint = HintComment { text: text[1..].to_string(), start: span.start };
                self.hints.insert((name.start.line, name.start.column), hint);
                Ok(())
            }
            _ => misplaced_hint(span.start),
        }
    }

    /// Puts names in the place of table expressions before MATCH_RECOGNIZE, and the expressions aside.
    fn lift_derived(&mut self, tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
        let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
        for token in tokens {
            if is(&token.token, "MATCH_RECOGNIZE")
                && out.last().is_some_and(|t| t.token == Token::RParen)
                && let Some(start) = start_of_table(&out)
            {
                let span = out[start].span;
                let value = format!("{DERIVED}{}", self.derived.len());
                self.derived.push(out.split_off(start));
                let name = Word { value, quote_style: Some('`'), keyword: Keyword::NoKeyword };
                out.push(TokenWithSpan { token: Token::Word(name), span });
            }
            out.push(token);
        }
        out
    }
}

/// Whether a statement is `CREATE FUNCTION name AS 'class'` or the like.
fn begins_function(statement: &[TokenWithSpan]) -> bool {
    statement.iter().take(4).any(|t| is(&t.token, "FUNCTION"))
}

/// The error for a hint that follows neither SELECT nor a table's name.
pub(super) fn misplaced_hint<T>(at: Location) -> PResult<T> {
    fail(at, "a hint is not allowed here", "hints follow SELECT or the name of a table")
}

/// A word with its keyword if the grammar needs it, as a plain word otherwise.
fn settle_keyword(mut word: Word) -> Word {
    if word.quote_style.is_none() {
        if !is_grammar(&word.value) {
            word.keyword = Keyword::NoKeyword;
        }
        if word.value.eq_ignore_ascii_case("PERMUTE") {
            word.value.make_ascii_uppercase();
        }
    }
    word
}

/// Where the parenthesised table expression begins that ends at the last token.
fn start_of_table(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0usize;
    let open = tokens.iter().rposition(|t| {
        match t.token {
            Token::RParen => depth += 1,
            Token::LParen => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let before = open.checked_sub(1)?;
    let token = &tokens[before].token;
    if is(token, "TABLE") {
        return Some(before);
    }
    (is(token, "FROM") || is(token, "JOIN") || *token == Token::Comma).then_some(open)
}

/// Moves `WITHIN interval` from before `DEFINE` to behind it, as a definition named [`WITHIN`]; refuses what of patterns
/// `sqlparser` would misread.
fn move_within(tokens: Vec<TokenWithSpan>) -> PResult<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let after_paren = out.last().is_some_and(|t| t.token == Token::RParen);
        if after_paren && is(&token.token, "SUBSET") {
            return Err(mistake(Mistake::Unsupported, token.span.start, "SUBSET in MATCH_RECOGNIZE", ""));
        }
        if token.token == Token::LBrace && rest.peek().is_some_and(|next| next.token == Token::Minus) {
            return Err(mistake(Mistake::Unsupported, token.span.start, "exclusion ({- A -}) in PATTERN", ""));
        }
        let is_within =
            after_paren && is(&token.token, "WITHIN") && rest.peek().is_some_and(|next| is(&next.token, "INTERVAL"));
        if !is_within {
            out.push(token);
            continue;
        }
        let mut interval = vec![];
        while let Some(part) = rest.next_if(|t| !is(&t.token, "DEFINE") && t.token != Token::SemiColon) {
            interval.push(part);
        }
        let Some(define) = rest.next_if(|t| is(&t.token, "DEFINE")) else {
            return fail(token.span.start, "WITHIN is not followed by DEFINE", "");
        };
        let word = |value: &str, quote_style, keyword| TokenWithSpan {
            token: Token::Word(Word { value: value.to_string(), quote_style, keyword }),
            span: token.span,
        };
        out.push(define);
        out.push(word(WITHIN, Some('`'), Keyword::NoKeyword));
        out.push(word("AS", None, Keyword::AS));
        out.extend(interval);
        out.push(TokenWithSpan { token: Token::Comma, span: token.span });
    }
    Ok(out)
}

/// Opening parentheses that nothing closes before the end of their statement.
fn unclosed_parens(tokens: &[TokenWithSpan]) -> Vec<Location> {
    let mut unclosed = vec![];
    let mut open = vec![];
    for t in tokens {
        match t.token {
            Token::LParen => open.push(t.span.start),
            Token::RParen => drop(open.pop()),
            Token::SemiColon => unclosed.append(&mut open),
            _ => {}
        }
    }
    unclosed.append(&mut open);
    unclosed
}

/// How much hangs together at one level of nesting.
#[derive(Default)]
struct Level {
    /// Opened by CASE, not by a parenthesis.
    is_case: bool,
    /// AND, OR, and `|` of patterns.
    logic: usize,
    /// Other operators since the last AND or OR.
    operators: usize,
    /// UNION, EXCEPT, INTERSECT.
    set_operations: usize,
}

/// Refuses statements whose tree would be too deep to walk.
fn check_depth(tokens: &[TokenWithSpan]) -> PResult<()> {
    let mut levels = vec![Level::default()];
    for t in tokens {
        let word = upper(&t.token);
        let Some(level) = levels.last_mut() else { break };
        match (&t.token, word.as_deref()) {
            (Token::LParen | Token::LBracket | Token::LBrace, _) => levels.push(Level::default()),
            (Token::RParen | Token::RBracket | Token::RBrace, _) => {
                while levels.pop_if(|l| l.is_case).is_some() {}
                levels.pop();
            }
            (_, Some("CASE")) => levels.push(Level { is_case: true, ..Level::default() }),
            (_, Some("END")) => drop(levels.pop_if(|l| l.is_case)),
            (Token::SemiColon, _) => levels.clear(),
            (Token::Comma, _)
            | (_, Some("SELECT" | "FROM" | "WHERE" | "HAVING" | "ON" | "WHEN" | "THEN" | "ELSE" | "AS" | "BY")) => {
                level.logic = 0;
                level.operators = 0;
            }
            (_, Some("AND" | "OR")) | (Token::Pipe, _) => {
                level.logic += 1;
                level.operators = 0;
            }
            (_, Some("UNION" | "EXCEPT" | "INTERSECT" | "MINUS")) => level.set_operations += 1,
            (_, Some("IS" | "NOT" | "LIKE" | "SIMILAR" | "IN" | "BETWEEN" | "OVERLAPS")) => level.operators += 1,
            (Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period, _) => {}
            _ => level.operators += 1,
        }
        if levels.is_empty() {
            levels.push(Level::default());
        }
        let chain: usize = levels.iter().map(|l| l.logic + l.operators + l.set_operations).sum();
        if levels.len() > PARENS_MAX || chain > CHAIN_MAX {
            return fail(
                t.span.start,
                "the statement is nested too deep, or chains too many operators",
                "split it with views, or write long chains of OR as IN (..)",
            );
        }
    }
    Ok(())
}
