//! Functions over regular expressions of Java's kind.

use super::collection::text_lists;
use super::{Function, fit, plain, special};
use crate::args::{Compiled, boolean_with, int_with, part_with, text_with};
use crate::node::call;
use fancy_regex::Regex;
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result, TypeKind};
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

/// The pattern of the last row: looked up in the thread's cache only when it changes.
type Last = Compiled<Rc<Regex>>;

/// [`Last`], and where the groups of a match are, for patterns that need no backtracking.
#[derive(Default)]
struct Groups {
    last: Last,
    plain: Compiled<(regex::Regex, RefCell<regex::CaptureLocations>)>,
}

impl Groups {
    /// What group `number` of the first match of `pattern` in `s` matches.
    fn first<'a>(&mut self, pattern: &str, s: &'a str, number: i64) -> Option<&'a str> {
        let number = usize::try_from(number);
        let plain = self.plain.get(pattern, |pattern| {
            let regex = without_backtracking(pattern)?;
            let places = RefCell::new(regex.capture_locations());
            Some((regex, places))
        });
        if let Some((regex, places)) = plain {
            let mut places = places.borrow_mut();
            regex.captures_read(&mut places, s)?;
            let (start, end) = places.get(number.ok()?)?;
            return s.get(start..end);
        }
        let captures = self.last.get(pattern, compiled)?.captures(s).ok()??;
        Some(captures.get(number.ok()?)?.as_str())
    }
}

thread_local! {
    static PLAIN: RefCell<Compiled<regex::Regex>> = RefCell::default();
}

/// The pattern for the engine without backtracking, whose matches can be had without taking memory; `None` if there may
/// be a difference between the engines in how it reads.
fn without_backtracking(pattern: &str) -> Option<regex::Regex> {
    if pattern.contains(['\\', '{', '#', '~']) || ["(?", "[[", "&&", "--"].iter().any(|part| pattern.contains(part)) {
        return None;
    }
    PLAIN.with_borrow_mut(|last| last.get(pattern, |pattern| regex::Regex::new(pattern).ok()).cloned())
}

fn extract_all(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
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
    Ok(Some(call(name, args, out, kernel)))
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        plain("REGEXP", &["ss"], "BOOLEAN", |_| {
            boolean_with(|last: &mut Last, a, i| {
                let (s, pattern) = (a.str(0, i)?, a.str(1, i)?);
                let regex = last.get(pattern, compiled).filter(|_| !pattern.is_empty());
                Some(regex.is_some_and(|regex| regex.is_match(s).unwrap_or(false)))
            })
        }),
        plain("REGEXP_REPLACE", &["sss"], "STRING?", |_| {
            text_with(|last: &mut Last, a, i, out| {
                let (s, pattern, new) = (a.str(0, i)?, a.str(1, i)?, a.str(2, i)?);
                let regex = last.get(pattern, compiled)?;
                out.push_str(&regex.try_replacen(s, 0, fancy_regex::NoExpand(new)).ok()?);
                Some(())
            })
        }),
        plain("REGEXP_EXTRACT", &["ssi?"], "STRING?", |_| {
            part_with(|groups: &mut Groups, a, i| {
                let (s, pattern) = (a.str(0, i)?, a.str(1, i)?);
                groups.first(pattern, s, if a.len() > 2 { a.int(2, i)? } else { 0 })
            })
        }),
        special("REGEXP_EXTRACT_ALL", "(STRING, STRING[, INT])", extract_all),
        plain("REGEXP_COUNT", &["ss"], "INT?", |_| {
            int_with(|last: &mut Last, a, i| {
                Some(last.get(a.str(1, i)?, compiled)?.find_iter(a.str(0, i)?).count() as i64)
            })
        }),
        plain("REGEXP_SUBSTR", &["ss"], "STRING?", |_| {
            text_with(|last: &mut Last, a, i, out| {
                out.push_str(last.get(a.str(1, i)?, compiled)?.find(a.str(0, i)?).ok()??.as_str());
                Some(())
            })
        }),
        plain("REGEXP_INSTR", &["ss"], "INT?", |_| {
            int_with(|last: &mut Last, a, i| {
                let s = a.str(0, i)?;
                let found = last.get(a.str(1, i)?, compiled)?.find(s).ok()?;
                Some(found.map_or(0, |m| s[..m.start()].encode_utf16().count() as i64 + 1))
            })
        }),
    ]
}
