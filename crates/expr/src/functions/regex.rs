//! Functions over regular expressions of Java's kind.

use super::collection::text_lists;
use super::{Function, fit, plain, special};
use crate::args::{boolean, int, text};
use crate::node::call;
use fancy_regex::Regex;
use millstream_core::TypeKind;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Patterns a thread keeps compiled.
const CACHED_MAX: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Option<Rc<Regex>>>> = RefCell::new(HashMap::new());
}

/// The compiled pattern; `None` if it is invalid.
pub(super) fn compiled(pattern: &str) -> Option<Rc<Regex>> {
    COMPILED.with_borrow_mut(|cache| {
        if let Some(known) = cache.get(pattern) {
            return known.clone();
        }
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        let regex = Regex::new(&translate(pattern)).ok().map(Rc::new);
        cache.insert(pattern.to_string(), regex.clone());
        regex
    })
}

/// Java's `\d`, `\w`, `\s` know ASCII only.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut depth = 0usize;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(next) = chars.next() else {
            out.push(c);
            break;
        };
        let (set, negated) = match next {
            'd' | 'D' => ("0-9", next == 'D'),
            'w' | 'W' => ("a-zA-Z0-9_", next == 'W'),
            's' | 'S' => ("\\x20\\t\\n\\x0B\\x0C\\r", next == 'S'),
            _ => {
                out.push(c);
                out.push(next);
                continue;
            }
        };
        match (depth > 0, negated) {
            (true, false) => out.push_str(set),
            (_, true) => out.extend(["[^", set, "]"]),
            (false, false) => out.extend(["[", set, "]"]),
        }
    }
    out
}

/// Whether the pattern is found in `s`; `None` if it is invalid.
pub(super) fn matches(s: &str, pattern: &str) -> Option<bool> {
    compiled(pattern)?.is_match(s).ok()
}

/// `String.split` of Java: empty parts at the end are dropped, unless a number of parts is given; `None` if the pattern
/// is invalid.
pub(super) fn split<'a>(s: &'a str, pattern: &str, parts_max: Option<usize>) -> Option<Vec<&'a str>> {
    let regex = compiled(pattern)?;
    if s.is_empty() {
        return Some(if parts_max.is_some() { vec![s] } else { vec![] });
    }
    let (mut parts, mut from) = (vec![], 0);
    for found in regex.find_iter(s) {
        let found = found.ok()?;
        // A match of nothing at the start doesn't split.
        if found.end() == 0 {
            continue;
        }
        if parts_max.is_some_and(|most| parts.len() + 1 >= most) {
            break;
        }
        parts.push(&s[from..found.start()]);
        from = found.end();
    }
    parts.push(&s[from..]);
    if parts_max.is_none() && parts.len() > 1 {
        while parts.last().is_some_and(|last| last.is_empty()) {
            parts.pop();
        }
    }
    Some(parts)
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        plain("REGEXP", &["ss"], "BOOLEAN", |_| {
            boolean(|a, i| {
                let (s, pattern) = (a.str(0, i)?, a.str(1, i)?);
                Some(!pattern.is_empty() && matches(s, pattern).unwrap_or(false))
            })
        }),
        plain("REGEXP_REPLACE", &["sss"], "STRING?", |_| {
            text(|a, i, out| {
                let (s, pattern, new) = (a.str(0, i)?, a.str(1, i)?, a.str(2, i)?);
                out.push_str(&compiled(pattern)?.replace_all(s, fancy_regex::NoExpand(new)));
                Some(())
            })
        }),
        plain("REGEXP_EXTRACT", &["ssi?"], "STRING?", |_| {
            text(|a, i, out| {
                let (s, pattern) = (a.str(0, i)?, a.str(1, i)?);
                let group = if a.len() > 2 { a.int(2, i)? } else { 0 };
                let captures = compiled(pattern)?.captures(s).ok()??;
                out.push_str(captures.get(usize::try_from(group).ok()?)?.as_str());
                Some(())
            })
        }),
        special("REGEXP_EXTRACT_ALL", "(STRING, STRING[, INT])", |n, args, zone| {
            let Some(args) = fit("ssl?", args, zone)? else { return Ok(None) };
            let out = TypeKind::Array(Box::new(TypeKind::STRING.nullable())).nullable();
            let kernel = text_lists(|a, i, items| {
                let (s, pattern) = (a.str(0, i)?, a.str(1, i)?);
                let group = usize::try_from(if a.len() > 2 { a.int(2, i)? } else { 1 }).ok()?;
                let regex = compiled(pattern)?;
                if group >= regex.captures_len() {
                    return None;
                }
                for captures in regex.captures_iter(s) {
                    items.append_option(captures.ok()?.get(group).map(|m| m.as_str()));
                }
                Some(())
            });
            Ok(Some(call(n, args, out, kernel)))
        }),
        plain("REGEXP_COUNT", &["ss"], "INT?", |_| {
            int(|a, i| Some(compiled(a.str(1, i)?)?.find_iter(a.str(0, i)?).count() as i64))
        }),
        plain("REGEXP_SUBSTR", &["ss"], "STRING?", |_| {
            text(|a, i, out| {
                out.push_str(compiled(a.str(1, i)?)?.find(a.str(0, i)?).ok()??.as_str());
                Some(())
            })
        }),
        plain("REGEXP_INSTR", &["ss"], "INT?", |_| {
            int(|a, i| {
                let s = a.str(0, i)?;
                let found = compiled(a.str(1, i)?)?.find(s).ok()?;
                Some(found.map_or(0, |m| s[..m.start()].chars().count() as i64 + 1))
            })
        }),
    ]
}
