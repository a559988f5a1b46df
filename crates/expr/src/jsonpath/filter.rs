//! The conditions of filters in paths: `@.price < 10 && @.name =~ /a.*/i`.

use super::eval::find;
use super::path::{Step, quoted, steps};
use super::value::Json;
use std::cmp::Ordering;

/// A condition on an element.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    Or(Vec<Filter>),
    And(Vec<Filter>),
    Not(Box<Filter>),
    /// The path finds something.
    Exists(Side),
    Compare(Side, Op, Side),
    Matches(Side, Box<fancy_regex::Regex>),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// From the element (`@`) or from the root (`$`).
    Path {
        from_root: bool,
        steps: Vec<Step>,
    },
    Value(Json),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Contains,
}

/// The operators, longer ones before those they start with.
const OPS: [(&str, Op); 11] = [
    ("===", Op::Equal),
    ("!==", Op::NotEqual),
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
    ("<=", Op::LessOrEqual),
    (">=", Op::GreaterOrEqual),
    ("<", Op::Less),
    (">", Op::Greater),
    ("nin ", Op::NotIn),
    ("in ", Op::In),
    ("contains ", Op::Contains),
];

/// Reads a condition up to its closing parenthesis; what follows.
pub(super) fn parse(text: &str) -> Option<(Filter, &str)> {
    let (first, mut rest) = all_of(text)?;
    let mut any = vec![first];
    while let Some(after) = rest.trim_start().strip_prefix("||") {
        let (next, after) = all_of(after)?;
        any.push(next);
        rest = after;
    }
    Some((if any.len() == 1 { any.pop()? } else { Filter::Or(any) }, rest))
}

fn all_of(text: &str) -> Option<(Filter, &str)> {
    let (first, mut rest) = one(text)?;
    let mut all = vec![first];
    while let Some(after) = rest.trim_start().strip_prefix("&&") {
        let (next, after) = one(after)?;
        all.push(next);
        rest = after;
    }
    Some((if all.len() == 1 { all.pop()? } else { Filter::And(all) }, rest))
}

fn one(text: &str) -> Option<(Filter, &str)> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('!') {
        let (inner, rest) = one(rest)?;
        return Some((Filter::Not(Box::new(inner)), rest));
    }
    if let Some(rest) = text.strip_prefix('(') {
        let (inner, rest) = parse(rest)?;
        return Some((inner, rest.trim_start().strip_prefix(')')?));
    }
    let (left, rest) = side(text)?;
    let rest = rest.trim_start();
    if let Some(pattern) = rest.strip_prefix("=~") {
        let pattern = pattern.trim_start().strip_prefix('/')?;
        let end = pattern.char_indices().scan(false, |escaped, (i, c)| {
            let ends = c == '/' && !*escaped;
            *escaped = c == '\\' && !*escaped;
            Some((i, ends))
        });
        let end = end.filter(|(_, ends)| *ends).map(|(i, _)| i).next()?;
        let flags = pattern.get(end + 1..)?;
        let after = flags.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let flags = &flags[..flags.len() - after.len()];
        let flags = if flags.is_empty() { String::new() } else { format!("(?{flags})") };
        let regex = fancy_regex::Regex::new(&format!("{flags}^(?:{})$", &pattern[..end])).ok()?;
        return Some((Filter::Matches(left, Box::new(regex)), after));
    }
    for (word, op) in OPS {
        let found = rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        if found {
            let (right, rest) = side(rest.get(word.len()..)?)?;
            return Some((Filter::Compare(left, op, right), rest));
        }
    }
    Some((Filter::Exists(left), rest))
}

/// Where a path within a condition ends.
fn path_end(text: &str) -> usize {
    let mut depth = 0usize;
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ')') if depth == 0 => return i,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            (None, ' ' | '=' | '!' | '<' | '>' | '&' | '|' | ',') if depth == 0 => return i,
            _ => {}
        }
    }
    text.len()
}

fn side(text: &str) -> Option<(Side, &str)> {
    let text = text.trim_start();
    match text.chars().next()? {
        c @ ('@' | '$') => {
            let rest = &text[1..];
            let (path, rest) = rest.split_at(path_end(rest));
            Some((Side::Path { from_root: c == '$', steps: steps(path)? }, rest))
        }
        '\'' | '"' => {
            let (text, rest) = quoted(text)?;
            Some((Side::Value(Json::Text(text)), rest))
        }
        '[' => {
            let (items, rest) = text.split_at(text.find(']')? + 1);
            Some((Side::Value(Json::parse(&items.replace('\'', "\""))?), rest))
        }
        _ => {
            let (word, rest) = text.split_at(path_end(text));
            Some((Side::Value(Json::parse(word)?), rest))
        }
    }
}

impl Side {
    /// The value, if there is one.
    fn value(&self, here: &Json, root: &Json) -> Option<Json> {
        match self {
            Side::Value(value) => Some(value.clone()),
            Side::Path { from_root, steps } => {
                let mut found = find(steps, if *from_root { root } else { here }, root);
                if super::path::is_definite(steps) {
                    return found.pop().map(std::borrow::Cow::into_owned);
                }
                Some(Json::List(found.into_iter().map(std::borrow::Cow::into_owned).collect()))
            }
        }
    }
}

fn number(value: &Json) -> Option<f64> {
    match value {
        Json::Int(n) | Json::Decimal(n) => n.parse().ok(),
        _ => None,
    }
}

fn equal(a: &Json, b: &Json) -> bool {
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x == y,
        _ => a == b,
    }
}

fn order(a: &Json, b: &Json) -> Option<Ordering> {
    match (a, b) {
        (Json::Text(a), Json::Text(b)) => Some(super::key_order(a, b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

impl Filter {
    /// Whether it holds for the element `here` of the document `root`.
    pub fn holds(&self, here: &Json, root: &Json) -> bool {
        match self {
            Filter::Or(any) => any.iter().any(|f| f.holds(here, root)),
            Filter::And(all) => all.iter().all(|f| f.holds(here, root)),
            Filter::Not(inner) => !inner.holds(here, root),
            Filter::Exists(Side::Path { from_root, steps }) => {
                !find(steps, if *from_root { root } else { here }, root).is_empty()
            }
            Filter::Exists(Side::Value(_)) => false,
            Filter::Matches(side, regex) => match side.value(here, root) {
                Some(Json::Text(text)) => regex.is_match(&text).unwrap_or(false),
                _ => false,
            },
            Filter::Compare(left, op, right) => {
                let (left, right) = (left.value(here, root), right.value(here, root));
                let (Some(l), Some(r)) = (&left, &right) else { return *op == Op::NotEqual };
                let within = |item: &Json, list: &Json| match list {
                    Json::List(items) => items.iter().any(|i| equal(i, item)),
                    _ => false,
                };
                match op {
                    Op::Equal => equal(l, r),
                    Op::NotEqual => !equal(l, r),
                    Op::Less => order(l, r).is_some_and(Ordering::is_lt),
                    Op::LessOrEqual => order(l, r).is_some_and(Ordering::is_le),
                    Op::Greater => order(l, r).is_some_and(Ordering::is_gt),
                    Op::GreaterOrEqual => order(l, r).is_some_and(Ordering::is_ge),
                    Op::In => within(l, r),
                    Op::NotIn => !within(l, r),
                    Op::Contains => match (l, r) {
                        (Json::Text(text), Json::Text(part)) => text.contains(part.as_str()),
                        _ => within(r, l),
                    },
                }
            }
        }
    }
}
