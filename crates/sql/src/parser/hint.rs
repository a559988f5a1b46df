//! The text of hints: `OPTIONS('k' = 'v'), BROADCAST(t)`.

use super::ast::Hint;
use super::dialect::FlinkLexer;
use millstream_core::error::{Error, Result};
use sqlparser::tokenizer::{Token, Tokenizer};

/// Parses the hints of one comment that stands at `line` and `column`.
pub(super) fn parse(text: &str, line: u64, column: u64) -> Result<Vec<Hint>> {
    let wrong = |what: &str| {
        Error::script(format!("a hint is malformed: {what}"))
            .at_script(line, column)
            .hint("hints are written like /*+ OPTIONS('key' = 'value') */")
    };
    let tokens = Tokenizer::new(&FlinkLexer, text).tokenize().map_err(|_| wrong("a string is not closed"))?;
    let mut tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).peekable();
    let mut hints = vec![];
    while let Some(token) = tokens.next() {
        let name = match token {
            Token::Comma => continue,
            Token::Word(word) => word.value.to_ascii_uppercase(),
            other => return Err(wrong(&format!("`{other}` is no name of a hint"))),
        };
        let mut hint = Hint { name, options: vec![], args: vec![], line, column };
        if tokens.next_if_eq(&Token::LParen).is_some() {
            loop {
                let item = match tokens.next() {
                    Some(Token::RParen) => break,
                    Some(Token::Comma) => continue,
                    Some(token) => part(token).ok_or_else(|| wrong("expected a string or a name"))?,
                    None => return Err(wrong("a parenthesis is not closed")),
                };
                let mut item = item;
                while tokens.next_if_eq(&Token::Period).is_some() {
                    let next = tokens.next().and_then(part).ok_or_else(|| wrong("expected a name after `.`"))?;
                    item = format!("{item}.{next}");
                }
                if tokens.next_if_eq(&Token::Eq).is_some() {
                    let value = tokens.next().and_then(part).ok_or_else(|| wrong("expected a value after `=`"))?;
                    hint.options.push((item, value));
                } else {
                    hint.args.push(item);
                }
            }
        }
        hints.push(hint);
    }
    if hints.is_empty() { Err(wrong("it is empty")) } else { Ok(hints) }
}

fn part(token: Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) | Token::Number(text, _) => Some(text),
        Token::Word(word) => Some(word.value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_arguments_are_told_apart() {
        let hints = parse(" OPTIONS('a.b' = 'it''s', 'c'='1'), broadcast(t1, db.t2) STATE_TTL('t'='1d')", 1, 1);
        let hints = hints.map(|h| h.into_iter().map(|h| (h.name, h.options, h.args)).collect::<Vec<_>>());
        let text = |s: &str| s.to_string();
        assert_eq!(
            hints.map_err(|e| e.to_string()),
            Ok(vec![
                (text("OPTIONS"), vec![(text("a.b"), text("it's")), (text("c"), text("1"))], vec![]),
                (text("BROADCAST"), vec![], vec![text("t1"), text("db.t2")]),
                (text("STATE_TTL"), vec![(text("t"), text("1d"))], vec![]),
            ])
        );
    }

    #[test]
    fn malformed_hints_are_refused() {
        for text in ["", "OPTIONS(", "OPTIONS('a'=)", "'x'", "OPTIONS(=)", "OPTIONS('a"] {
            assert!(parse(text, 1, 1).is_err(), "{text}");
        }
    }
}
