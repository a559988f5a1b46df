//! `LIKE`: patterns compiled once, the common shapes without stepping through characters.

use crate::args::Kernel;
use arrow::array::BooleanBuilder;
use memchr::memmem;
use std::sync::Arc;

enum Token {
    Char(char),
    One,
    Many,
}

fn tokens(pattern: &str, escape: Option<char>) -> Vec<Token> {
    let mut out = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            c if Some(c) == escape => match chars.next() {
                Some(next) => Token::Char(next),
                None => Token::Char(c),
            },
            '%' => Token::Many,
            '_' => Token::One,
            c => Token::Char(c),
        });
    }
    out
}

/// A compiled pattern.
enum Like {
    Exact(String),
    StartsWith(String),
    EndsWith(String),
    Contains(Box<memmem::Finder<'static>>),
    General(Vec<Token>),
}

impl Like {
    fn new(pattern: &str, escape: Option<char>) -> Like {
        let tokens = tokens(pattern, escape);
        let many = |t: Option<&Token>| matches!(t, Some(Token::Many));
        let (open, close) = (many(tokens.first()), many(tokens.last()) && tokens.len() > 1);
        let inner = &tokens[usize::from(open)..tokens.len() - usize::from(close)];
        let text =
            inner.iter().map(|t| if let Token::Char(c) = t { Some(*c) } else { None }).collect::<Option<String>>();
        match (text, open, close) {
            (Some(text), false, false) => Like::Exact(text),
            (Some(text), false, true) => Like::StartsWith(text),
            (Some(text), true, false) => Like::EndsWith(text),
            (Some(text), true, true) => Like::Contains(Box::new(memmem::Finder::new(&text).into_owned())),
            (None, ..) => Like::General(tokens),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Like::Exact(s) => text == s,
            Like::StartsWith(s) => text.starts_with(s.as_str()),
            Like::EndsWith(s) => text.ends_with(s.as_str()),
            Like::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Like::General(tokens) => step_through(text, tokens),
        }
    }
}

fn step_through(text: &str, pattern: &[Token]) -> bool {
    let (mut rest, mut p) = (text, 0);
    let mut retry: Option<(&str, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if rest.is_empty() => return true,
            Some(Token::Many) => {
                retry = Some((rest, p + 1));
                p += 1;
                continue;
            }
            Some(Token::One) => !rest.is_empty(),
            Some(Token::Char(c)) => rest.starts_with(*c),
            None => false,
        };
        if step {
            let mut chars = rest.chars();
            chars.next();
            rest = chars.as_str();
            p += 1;
            continue;
        }
        let Some((from, at)) = retry else { return false };
        let mut chars = from.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
        p = at;
        retry = Some((rest, at));
    }
}

/// `LIKE`, whose third argument is the escape character; without it there is none.
pub(crate) fn like() -> Kernel {
    Arc::new(|a| {
        let mut compiled: Option<(&str, Option<&str>, Like)> = None;
        let mut values = BooleanBuilder::with_capacity(a.rows);
        for i in 0..a.rows {
            let escape = if a.len() > 2 { a.str(2, i) } else { None };
            let (Some(text), Some(pattern)) = (a.str(0, i), a.str(1, i)) else {
                values.append_null();
                continue;
            };
            if !matches!(&compiled, Some((p, e, _)) if *p == pattern && *e == escape) {
                compiled = Some((pattern, escape, Like::new(pattern, escape.and_then(|e| e.chars().next()))));
            }
            values.append_option(compiled.as_ref().map(|(_, _, like)| like.matches(text)));
        }
        Ok(Arc::new(values.finish()))
    })
}
