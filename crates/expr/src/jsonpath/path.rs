//! Paths such as `$.a[0]['b']..c[?(@.x > 1)]`, read as Jayway's JsonPath reads them.

use super::filter::{self, Filter};

/// One step of a path.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// `.a`, `['a']`, `['a', 'b']`
    Members(Vec<String>),
    /// `[0]`, `[-1]`, `[0, 2]`
    Items(Vec<i64>),
    /// `[1:3]`, `[-2:]`
    Slice(Option<i64>, Option<i64>),
    /// `.*`, `[*]`
    Wildcard,
    /// `..`: what follows is looked for at every depth.
    Scan,
    /// `[?(...)]`
    Filter(Filter),
    /// `.length()` and the like
    Function(String),
}

/// A compiled path.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(super) steps: Vec<Step>,
    /// What doesn't lead anywhere gives nothing instead of an error.
    pub lax: bool,
}

impl Path {
    /// Reads `[lax | strict] path`; without a mode it is strict, as in Flink. `None` if it is no path.
    pub fn parse(text: &str) -> Option<Path> {
        let trimmed = text.trim_start();
        let mode = |word: &str| {
            let rest = trimmed.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word));
            rest.and_then(|_| trimmed.get(word.len()..)).filter(|rest| rest.starts_with(char::is_whitespace))
        };
        let (lax, path) = match (mode("lax"), mode("strict")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => (false, text),
        };
        let path = path.trim();
        if path.is_empty() || path.ends_with('.') {
            return None;
        }
        let steps = match path.strip_prefix(['$', '@']) {
            Some(rest) => steps(rest)?,
            None => steps(&format!(".{path}"))?,
        };
        Some(Path { steps, lax })
    }

    /// Whether it leads to at most one value.
    pub fn is_definite(&self) -> bool {
        is_definite(&self.steps)
    }
}

/// Whether these steps lead to at most one value.
pub(super) fn is_definite(steps: &[Step]) -> bool {
    steps.iter().enumerate().all(|(i, step)| match step {
        Step::Members(names) => names.len() == 1 || i + 1 == steps.len(),
        Step::Items(items) => items.len() == 1,
        Step::Function(_) => true,
        Step::Slice(..) | Step::Wildcard | Step::Scan | Step::Filter(_) => false,
    })
}

/// The steps after `$`.
pub(super) fn steps(text: &str) -> Option<Vec<Step>> {
    let mut out = vec![];
    let mut rest = text;
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix("..") {
            out.push(Step::Scan);
            if after.starts_with('.') {
                return None;
            }
            if after.starts_with('[') { bracket(after, &mut out)? } else { name(after, &mut out)? }
        } else if let Some(after) = rest.strip_prefix('.') {
            if after.starts_with('[') { bracket(after, &mut out)? } else { name(after, &mut out)? }
        } else if rest.starts_with('[') {
            bracket(rest, &mut out)?
        } else {
            return None;
        };
    }
    Some(out)
}

/// `a`, `*` or `length()` after a dot; what follows it.
fn name<'a>(text: &'a str, out: &mut Vec<Step>) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix('*') {
        out.push(Step::Wildcard);
        return Some(rest);
    }
    let end = text.find(['.', '[', '(', ' ']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || rest.starts_with(' ') {
        return None;
    }
    match rest.strip_prefix('(') {
        Some(rest) => {
            out.push(Step::Function(name.to_string()));
            rest.trim_start().strip_prefix(')')
        }
        None => {
            out.push(Step::Members(vec![name.to_string()]));
            Some(rest)
        }
    }
}

/// `[...]`; what follows it.
fn bracket<'a>(text: &'a str, out: &mut Vec<Step>) -> Option<&'a str> {
    let inner = text.strip_prefix('[')?.trim_start();
    if let Some(rest) = inner.strip_prefix('*') {
        out.push(Step::Wildcard);
        return rest.trim_start().strip_prefix(']');
    }
    if inner.starts_with(['\'', '"']) {
        let mut names = vec![];
        let mut rest = inner;
        loop {
            let (name, after) = quoted(rest)?;
            names.push(name);
            let after = after.trim_start();
            match after.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None => {
                    out.push(Step::Members(names));
                    return after.strip_prefix(']');
                }
            }
        }
    }
    if let Some(rest) = inner.strip_prefix('?') {
        let (filter, rest) = filter::parse(rest.trim_start().strip_prefix('(')?)?;
        out.push(Step::Filter(filter));
        return rest.trim_start().strip_prefix(')')?.trim_start().strip_prefix(']');
    }
    let (expression, rest) = inner.split_once(']')?;
    let number = |text: &str| text.trim().parse::<i64>().ok();
    if let Some((from, to)) = expression.split_once(':') {
        let bound = |text: &str| if text.trim().is_empty() { Some(None) } else { number(text).map(Some) };
        let (from, to) = (bound(from)?, bound(to)?);
        if from.is_none() && to.is_none() {
            return None;
        }
        out.push(Step::Slice(from, to));
    } else {
        out.push(Step::Items(expression.split(',').map(number).collect::<Option<_>>()?));
    }
    Some(rest)
}

/// A text in single or double quotes, with `\` as escape, and what follows it.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut out = String::new();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?.1),
            c if c == quote => return Some((out, &text[i + 1..])),
            c => out.push(c),
        }
    }
    None
}
