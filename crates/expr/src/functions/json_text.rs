//! Functions over JSON text as a whole: tests, quoting, length and kind.

use super::time::word;
use super::{Function, plain, special};
use crate::args::{Args, boolean, int, text, try_text};
use crate::jsonpath::{Json, Path};
use crate::node::call;
use millstream_core::{Error, ExprRef, TypeKind};

/// `IS_JSON(x, kind)`, with the kind as a word.
fn is_json(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [x, kind] = args else { return None };
    if !(x.data_type().kind.is_character() || x.data_type().kind == TypeKind::Null) {
        return None;
    }
    let test: fn(&Json) -> bool = match word(kind)?.as_str() {
        "VALUE" => |_| true,
        "SCALAR" => Json::is_scalar,
        "ARRAY" => |v| matches!(v, Json::List(_)),
        "OBJECT" => |v| matches!(v, Json::Object(_)),
        _ => return None,
    };
    // NULL is no JSON, and IS JSON is never unknown.
    let kernel = boolean(move |a, i| Some(a.str(0, i).and_then(Json::parse).is_some_and(|v| test(&v))));
    Some(call(name, vec![x.clone()], TypeKind::Boolean.not_null(), kernel))
}

/// The JSON at a plain path, or the whole document; `None` if there is not exactly one value.
fn one_value(a: &Args<'_>, i: usize) -> Option<Json> {
    let doc = Json::parse(a.str(0, i)?)?;
    if a.len() < 2 {
        return Some(doc);
    }
    let path = Path::parse(a.str(1, i)?)?;
    match path.read(&doc).ok()??.into_owned() {
        Json::List(mut found) if !path.is_definite() => found.pop().filter(|_| found.is_empty()),
        found => Some(found),
    }
}

fn quote(s: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in s.chars() {
        match c {
            '"' | '\\' | '/' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii() => out.push(c),
            c => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
                // Flink writes the whole character, then its second half.
                if let [_, half] = c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{half:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// What stands between the quotes, unescaped; `None` if it isn't quoted or an escape is invalid. Quotes inside needn't be
/// escaped, since what follows the first JSON value is ignored.
fn unquote(s: &str) -> Option<String> {
    let inner = s.strip_prefix('"')?.strip_suffix('"')?;
    Json::parse(s)?;
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '/') => c,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits = chars.as_str().get(..4)?;
                    units.push(u16::from_str_radix(digits, 16).ok()?);
                    chars = chars.as_str()[4..].chars();
                    continue;
                }
                _ => return None,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    Some(char::decode_utf16(units).map(|c| c.unwrap_or('?')).collect())
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("IS_JSON", "(STRING)", |n, a, _| Ok(is_json(n, a))),
        plain("JSON", &["s"], "STRING?", |_| {
            try_text(|a, i, out| {
                let Some(text) = a.str(0, i).map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
                let Some(value) = Json::parse(text) else {
                    return Err(Error::data(format!("JSON: '{text}' is not valid JSON")));
                };
                value.write(out);
                Ok(Some(()))
            })
        }),
        plain("JSON_QUOTE", &["s"], "STRING", |_| {
            text(|a, i, out| {
                quote(a.str(0, i)?, out);
                Some(())
            })
        }),
        plain("JSON_UNQUOTE", &["s"], "STRING", |_| {
            text(|a, i, out| {
                let s = a.str(0, i)?;
                match unquote(s) {
                    Some(inner) => out.push_str(&inner),
                    None => out.push_str(s),
                }
                Some(())
            })
        }),
        plain("JSON_LENGTH", &["ss?"], "INT?", |_| {
            int(|a, i| match one_value(a, i)? {
                Json::List(items) => Some(items.len() as i64),
                Json::Object(members) => Some(members.len() as i64),
                _ => Some(1),
            })
        }),
        plain("JSON_TYPE", &["ss?"], "STRING?", |_| {
            text(|a, i, out| {
                out.push_str(match one_value(a, i)? {
                    Json::Null => "null",
                    Json::Bool(_) => "boolean",
                    Json::Int(_) | Json::Decimal(_) => "number",
                    Json::Text(_) => "string",
                    Json::List(_) => "array",
                    Json::Object(_) => "object",
                });
                Some(())
            })
        }),
    ]
}
