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

/// A class of characters by its letter or, as in `\p{Alpha}`, its name: Java's know ASCII only.
fn class(name: &str) -> Option<&'static str> {
    Some(match name {
        "d" | "Digit" => "0-9",
        "w" => "a-zA-Z0-9_",
        "s" | "Space" => "\\x20\\t\\n\\x0B\\x0C\\r",
        "h" => "\\x20\\t\\xA0\\u{1680}\\u{180e}\\u{2000}-\\u{200a}\\u{202f}\\u{205f}\\u{3000}",
        "v" => "\\n\\x0B\\x0C\\r\\x85\\u{2028}\\u{2029}",
        "Lower" => "a-z",
        "Upper" => "A-Z",
        "Alpha" => "a-zA-Z",
        "Alnum" => "a-zA-Z0-9",
        "ASCII" => "\\x00-\\x7F",
        "Punct" => "!-/:-@\\[-`{-\\x7E",
        "Graph" => "!-\\x7E",
        "Print" => "\\x20-\\x7E",
        "Blank" => "\\x20\\t",
        "Cntrl" => "\\x00-\\x1F\\x7F",
        "XDigit" => "0-9a-fA-F",
        _ => return None,
    })
}

/// A pattern of Java's as one of the engine's.
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
        let rest = chars.as_str();
        let (set, negated) = match next {
            'Q' => {
                let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                out.push_str(&fancy_regex::escape(quoted));
                chars = after.chars();
                continue;
            }
            'R' if depth == 0 => {
                out.push_str("(?:\\r\\n|[\\n\\x0B\\x0C\\r\\x85\\u{2028}\\u{2029}])");
                continue;
            }
            'p' | 'P' => match rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
                Some((name, after)) => {
                    chars = after.chars();
                    let Some(set) = class(name) else {
                        let name = name.strip_prefix("Is").unwrap_or(name);
                        out.extend(["\\", if next == 'p' { "p{" } else { "P{" }, name, "}"]);
                        continue;
                    };
                    (set, next == 'P')
                }
                None => ("", false),
            },
            _ => (class(next.to_ascii_lowercase().encode_utf8(&mut [0; 4])).unwrap_or(""), next.is_ascii_uppercase()),
        };
        match (set, depth > 0, negated) {
            ("", ..) => out.extend([c, next]),
            (_, true, false) => out.push_str(set),
            (_, _, true) => out.extend(["[^", set, "]"]),
            (_, false, false) => out.extend(["[", set, "]"]),
        }
    }
    out
}

/// A match, or the place within a character of two halves where Java matches nothing once more.
type Found = (usize, usize, bool);

/// All matches as Java's `Matcher.find` has them: one of nothing may follow another at once, and may stand between the
/// halves of a character beyond the first 65,536. `None` if the engine gives up.
fn find_all(regex: &Regex, s: &str, each: &mut dyn FnMut(Found)) -> Option<()> {
    // Two characters of the same kind: whether nothing is found between them.
    const PAIR: &str = "\u{E000}\u{E000}";
    let is_between = || regex.find_from_pos(PAIR, 3).is_ok_and(|found| found.is_some_and(|f| f.end() == 3));
    let mut from = 0;
    while let Some(found) = regex.find_from_pos(s, from).ok()? {
        each((found.start(), found.end(), false));
        from = found.end();
        if found.start() == found.end() {
            let Some(next) = s[from..].chars().next() else { break };
            if next.len_utf16() == 2 && is_between() {
                each((from, from, true));
            }
            from += next.len_utf8();
        }
    }
    Some(())
}

/// Every match replaced by `new`.
pub(super) fn replace_all(regex: &Regex, s: &str, new: &str, out: &mut String) -> Option<()> {
    let (mut from, mut halved) = (0, false);
    find_all(regex, s, &mut |(start, end, is_half)| {
        if is_half {
            // A half alone can't be written.
            out.push('?');
            halved = true;
        } else if std::mem::take(&mut halved) {
            out.push('?');
            from += s[from..].chars().next().map_or(0, char::len_utf8);
        }
        if !is_half {
            out.push_str(&s[from..start]);
        }
        out.push_str(new);
        from = end;
    })?;
    if halved {
        out.push('?');
        from += s[from..].chars().next().map_or(0, char::len_utf8);
    }
    out.push_str(&s[from..]);
    Some(())
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
        let mut parts = vec![];
        find_all(&regex, s, &mut |(start, ..)| parts.push(start))?;
        for start in parts {
            let captures = regex.captures_from_pos(s, start).ok()??;
            items.append_option(captures.get(group).map(|m| m.as_str()));
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
                replace_all(regex, s, new, out)
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
                let mut count = 0;
                find_all(last.get(a.str(1, i)?, compiled)?, a.str(0, i)?, &mut |_| count += 1)?;
                Some(count)
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
