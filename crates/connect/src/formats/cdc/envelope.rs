//! Taking a record apart: its members as they stand in the text, without looking into them. Texts are valid UTF-8.

use crate::formats::json::Marks;
use crate::formats::json::scan::{Outcome, Scan, push_str, syntax};

/// The values of some members of an object, as they stand in the text; `None`: null, or not there. Of equal names the
/// last one counts.
pub(super) fn members<'a, const N: usize>(text: &'a [u8], names: [&str; N]) -> Outcome<[Option<&'a [u8]>; N]> {
    let marks = marks(text);
    let mut scan = Scan::new(text, &marks, 0);
    let mut found = [None; N];
    scan.blanks();
    if scan.peek() != b'{' {
        return scan.unexpected("an object");
    }
    scan.at += 1;
    scan.blanks();
    if !scan.take(b"}") {
        loop {
            scan.blanks();
            if scan.peek() != b'"' {
                return scan.unexpected("a field's name");
            }
            let key = scan.string()?;
            let mut unescaped = Vec::new();
            let key = match key.escaped {
                true => {
                    push_str(key, &mut unescaped);
                    unescaped.as_slice()
                }
                false => key.raw,
            };
            scan.colon()?;
            let value = value(text, &mut scan)?;
            if let Some(at) = names.iter().position(|name| name.as_bytes() == key)
                && let Some(place) = found.get_mut(at)
            {
                *place = (value != b"null").then_some(value);
            }
            if !scan.comma_or(b'}')? {
                break;
            }
        }
    }
    if !scan.is_at_end() {
        return scan.unexpected("the record's end");
    }
    Ok(found)
}

/// One member, found along a path of names.
pub(super) fn member<'a>(text: &'a [u8], path: &[&str]) -> Outcome<Option<&'a [u8]>> {
    let mut at = Some(text);
    for name in path {
        let Some(object) = at else { break };
        [at] = members(object, [*name])?;
    }
    Ok(at)
}

/// The values of an array, as they stand in the text.
pub(super) fn elements(text: &[u8]) -> Outcome<Vec<&[u8]>> {
    let marks = marks(text);
    let mut scan = Scan::new(text, &marks, 0);
    let mut found = Vec::new();
    scan.blanks();
    if scan.peek() != b'[' {
        return scan.unexpected("an array");
    }
    scan.at += 1;
    scan.blanks();
    if !scan.take(b"]") {
        loop {
            found.push(value(text, &mut scan)?);
            if !scan.comma_or(b']')? {
                break;
            }
        }
    }
    Ok(found)
}

/// What a string stands for; of another value its text.
pub(super) fn text(value: &[u8]) -> Outcome<String> {
    let marks = marks(value);
    let mut scan = Scan::new(value, &marks, 0);
    let mut bytes = Vec::new();
    match scan.peek() {
        b'"' => push_str(scan.string()?, &mut bytes),
        _ => bytes.extend_from_slice(value),
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => syntax("the record is not valid UTF-8"),
    }
}

/// Writes the object that has the members of `old` and, where it has none of a name, those of `new`: the row before a
/// change, given the row after it and what has changed. (Of members of one name, the last counts.)
pub(super) fn overlay(new: &[u8], old: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(inside(new));
    if !out.is_empty() && !inside(old).is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(inside(old));
    out.insert(0, b'{');
    out.push(b'}');
}

/// What stands between an object's braces.
fn inside(object: &[u8]) -> &[u8] {
    let object = object.trim_ascii();
    object.strip_prefix(b"{").and_then(|o| o.strip_suffix(b"}")).unwrap_or(object).trim_ascii()
}

/// The index that a cursor needs.
fn marks(text: &[u8]) -> Marks {
    let mut marks = Marks::default();
    marks.index(text);
    marks
}

/// The value under the cursor in `text`, as it stands there; goes past it.
fn value<'a>(text: &'a [u8], scan: &mut Scan<'_>) -> Outcome<&'a [u8]> {
    scan.blanks();
    let start = scan.at;
    scan.skip()?;
    Ok(text.get(start..scan.at).unwrap_or_default())
}
