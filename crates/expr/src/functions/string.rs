//! String functions; positions and lengths count characters.

use super::collection::text_lists;
use super::regex::compiled;
use super::{Function, plain, special};
use crate::args::{Args, Compiled, Kernel, boolean, boolean_with, bytes, int, part_with, text};
use crate::node::call;
use arrow::array::{Array, AsArray, StringArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use fancy_regex::Regex;
use millstream_core::TypeKind;
use millstream_core::types::MAX_LENGTH;
use std::rc::Rc;
use std::sync::Arc;

/// A text function of one text argument.
pub(super) fn map(f: fn(&str, &mut String) -> Option<()>) -> Kernel {
    text(move |a, i, out| f(a.str(0, i)?, out))
}

/// Text in another case: ASCII all at once, `other` for a text that isn't.
fn recased(ascii: fn(&mut [u8]), other: fn(&str) -> String) -> Kernel {
    Arc::new(move |a| {
        let array = a.array(0)?;
        let Some(texts) = array.as_string_opt::<i32>() else { return Ok(new_null_array(&a.out.arrow(), a.rows)) };
        let (offsets, nulls) = (texts.offsets(), texts.nulls().cloned());
        let (start, end) = (texts.value_offsets()[0] as usize, texts.value_offsets()[a.rows] as usize);
        let mut bytes = texts.value_data()[start..end].to_vec();
        if !bytes.is_ascii() {
            return Ok(Arc::new(texts.iter().map(|text| text.map(other)).collect::<StringArray>()));
        }
        ascii(&mut bytes);
        let offsets = offsets.iter().map(|offset| offset - start as i32).collect();
        Ok(Arc::new(StringArray::try_new(OffsetBuffer::new(offsets), bytes.into(), nulls)?))
    })
}

fn char_count(s: &str) -> i64 {
    if s.is_ascii() { s.len() as i64 } else { s.chars().count() as i64 }
}

/// Characters `from .. to` (counted from 0).
fn chars(s: &str, from: i64, to: i64) -> &str {
    if to <= from {
        return "";
    }
    if s.is_ascii() {
        let end = (to as usize).min(s.len());
        return s.get(from as usize..end).unwrap_or("");
    }
    let at = |n: i64| s.char_indices().nth(n as usize).map_or(s.len(), |(i, _)| i);
    &s[at(from)..at(to)]
}

fn substring(a: &Args<'_>, i: usize, out: &mut String) -> Option<()> {
    let (s, pos) = (a.str(0, i)?, a.int(1, i)?);
    let length = if a.len() > 2 { a.int(2, i)? } else { i64::from(i32::MAX) };
    if length < 0 {
        return None;
    }
    let n = char_count(s);
    let start = match pos {
        0 => 0,
        1.. => pos - 1,
        _ => n + pos,
    };
    if (0..n).contains(&start) {
        out.push_str(chars(s, start, start + length));
    }
    Some(())
}

/// Text of UTF-16 units; half a character is `?`, as where Java encodes it.
fn push_units(out: &mut String, units: &[u16]) {
    out.extend(char::decode_utf16(units.iter().copied()).map(|c| c.unwrap_or('?')));
}

/// LPAD and RPAD count UTF-16 units, as they do in Flink.
fn pad(left: bool) -> Kernel {
    text(move |a, i, out| {
        let (s, n, fill) = (a.str(0, i)?, usize::try_from(a.int(1, i)?).ok()?, a.str(2, i)?);
        if fill.is_empty() {
            return None;
        }
        if s.is_ascii() && fill.is_ascii() {
            let s = s.get(..n).unwrap_or(s);
            let missing = n - s.len();
            out.push_str(if left { "" } else { s });
            out.extend(fill.chars().cycle().take(missing));
            out.push_str(if left { s } else { "" });
            return Some(());
        }
        let mut units: Vec<u16> = s.encode_utf16().take(n).collect();
        let filling = fill.encode_utf16().cycle().take(n - units.len());
        if left {
            units = filling.chain(units.iter().copied()).collect();
        } else {
            units.extend(filling);
        }
        push_units(out, &units);
        Some(())
    })
}

/// `length` UTF-16 units of `s` from `start` (from 1) replaced by `new`; nothing follows if `length` isn't above 0.
fn overlay(a: &Args<'_>, i: usize, out: &mut String) -> Option<()> {
    let (s, new, start) = (a.str(0, i)?, a.str(1, i)?, a.int(2, i)?);
    let units: Vec<u16> = s.encode_utf16().collect();
    let length = if a.len() > 3 { a.int(3, i)? } else { new.encode_utf16().count() as i64 };
    if start <= 0 || start > units.len() as i64 {
        out.push_str(s);
        return Some(());
    }
    let (before, rest) = units.split_at(start as usize - 1);
    let mut all = before.to_vec();
    all.extend(new.encode_utf16());
    if length > 0 {
        all.extend(rest.iter().skip(usize::try_from(length).unwrap_or(usize::MAX)));
    }
    push_units(out, &all);
    Some(())
}

fn trim(side: &str, set: &str, s: &str, out: &mut String) {
    let within = |c: char| set.contains(c);
    let s = if side == "TRAILING" { s } else { s.trim_start_matches(within) };
    out.push_str(if side == "LEADING" { s } else { s.trim_end_matches(within) });
}

fn trim_side(side: &'static str) -> Kernel {
    text(move |a, i, out| {
        let set = if a.len() > 1 { a.str(1, i)? } else { " " };
        trim(side, set, a.str(0, i)?, out);
        Some(())
    })
}

/// The place of `needle` from 1, looking from character `from` (from 1); 0 if there is none. Nothing is found at the
/// start.
fn position(needle: &str, s: &str, from: i64) -> i64 {
    if needle.is_empty() {
        return 1;
    }
    let from = from.max(1);
    let rest = chars(s, from - 1, i64::from(i32::MAX));
    rest.find(needle).map_or(0, |at| char_count(&rest[..at]) + from)
}

fn initcap(s: &str, out: &mut String) -> Option<()> {
    let mut start = true;
    for c in s.chars() {
        out.push(match start {
            true => c.to_ascii_uppercase(),
            false => c.to_ascii_lowercase(),
        });
        start = !c.is_ascii_alphanumeric();
    }
    Some(())
}

/// Names of sets of characters that may stand in the brackets of SIMILAR TO, all in capitals or all not.
const SETS: [(&str, &str); 7] = [
    (":ALPHA:]", "\\p{Alpha}"),
    (":UPPER:]", "\\p{Upper}"),
    (":LOWER:]", "\\p{Lower}"),
    (":DIGIT:]", "\\d"),
    (":SPACE:]", " "),
    (":WHITESPACE:]", "\\s"),
    (":ALNUM:]", "\\p{Alnum}"),
];

/// A pattern of SIMILAR TO as a regular expression (calcite: `sqlToRegexSimilar`, which leaves `.` and `^` what they are
/// there); `None` if it is invalid.
fn similar(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut out = String::from("^(?:");
    let mut rest = pattern.chars();
    let mut in_brackets = false;
    while let Some(c) = rest.next() {
        match c {
            c if Some(c) == escape => out.push_str(&fancy_regex::escape(rest.next()?.encode_utf8(&mut [0; 4]))),
            '[' if in_brackets => {
                let is_next = |name: &str| {
                    rest.as_str().starts_with(name) || rest.as_str().starts_with(&name.to_ascii_lowercase())
                };
                let (name, set) = SETS.iter().find(|(name, _)| is_next(name))?;
                out.push_str(set);
                rest = rest.as_str().get(name.len()..)?.chars();
            }
            '[' | ']' => {
                in_brackets = c == '[';
                out.push(c);
            }
            '\\' | '$' => out.extend(['\\', c]),
            '%' if !in_brackets => out.push_str("(?s:.*)"),
            '_' if !in_brackets => out.push('.'),
            c => out.push(c),
        }
    }
    out.push_str(")\\z");
    Some(out)
}

pub(super) fn functions() -> Vec<Function> {
    let mut all = vec![
        plain("LIKE", &["ss", "sss"], "BOOLEAN", |_| crate::like::like()),
        plain("SIMILAR TO", &["ss", "sss"], "BOOLEAN", |_| {
            boolean_with(|last: &mut Compiled<Rc<Regex>>, a, i| {
                let (s, pattern) = (a.str(0, i)?, a.str(1, i)?);
                if a.len() > 2 {
                    let escape = a.str(2, i)?.chars().next();
                    return compiled(&similar(pattern, escape)?)?.is_match(s).ok();
                }
                last.get(pattern, |p| compiled(&similar(p, None)?))?.is_match(s).ok()
            })
        }),
        plain("UPPER", &["s"], "=", |_| recased(<[u8]>::make_ascii_uppercase, str::to_uppercase)),
        plain("LOWER", &["s"], "=", |_| recased(<[u8]>::make_ascii_lowercase, str::to_lowercase)),
        plain("INITCAP", &["s"], "=", |_| map(initcap)),
        plain("REVERSE", &["s"], "STRING?", |_| {
            map(|s, out| {
                out.extend(s.chars().rev());
                Some(())
            })
        }),
        special("||", "(STRING, STRING) or (BYTES, BYTES)", |n, args, zone| {
            let [l, r] = args else { return Ok(None) };
            let (l, r) = (l.data_type(), r.data_type());
            if !(l.kind.is_binary() && r.kind.is_binary()) {
                let Some(args) = super::fit("ss", args, zone)? else { return Ok(None) };
                let kind = match (&args[0].data_type().kind, &args[1].data_type().kind) {
                    (TypeKind::Char(a), TypeKind::Char(b)) => TypeKind::Char(a.saturating_add(*b).min(MAX_LENGTH)),
                    (TypeKind::Char(a) | TypeKind::VarChar(a), TypeKind::Char(b) | TypeKind::VarChar(b)) => {
                        TypeKind::VarChar(a.saturating_add(*b).min(MAX_LENGTH))
                    }
                    _ => TypeKind::STRING,
                };
                let out = kind.nullable().with_nullable(l.nullable || r.nullable);
                return Ok(Some(call(n, args, out, concat())));
            }
            let out = TypeKind::BYTES.nullable().with_nullable(l.nullable || r.nullable);
            let kernel = bytes(|a, i| Some([a.bytes(0, i)?, a.bytes(1, i)?].concat()));
            Ok(Some(call(n, args.to_vec(), out, kernel)))
        }),
        plain("CONCAT", &["ss*"], "STRING", |_| concat()),
        plain("CONCAT_WS", &["ss*"], "STRING", |_| {
            text(|a, i, out| {
                let separator = a.str(0, i)?;
                let mut first = true;
                for part in (1..a.len()).filter_map(|k| a.str(k, i)) {
                    if !first {
                        out.push_str(separator);
                    }
                    first = false;
                    out.push_str(part);
                }
                Some(())
            })
        }),
        special("TRIM", "(STRING, STRING, STRING)", |n, args, zone| {
            let Some(args) = super::fit("sss", args, zone)? else { return Ok(None) };
            let nullable = args.iter().any(|a| a.data_type().nullable);
            let out = super::result_kind("VARCHAR=", &args[2..]).nullable().with_nullable(nullable);
            let kernel = text(|a, i, out| {
                trim(a.str(0, i)?, a.str(1, i)?, a.str(2, i)?, out);
                Some(())
            });
            Ok(Some(call(n, args, out, kernel)))
        }),
        plain("LTRIM", &["ss?"], "VARCHAR=", |_| trim_side("LEADING")),
        plain("RTRIM", &["ss?"], "VARCHAR=", |_| trim_side("TRAILING")),
        plain("BTRIM", &["ss?"], "STRING", |_| trim_side("BOTH")),
        plain("REPLACE", &["sss"], "STRING", |_| {
            text(|a, i, out| {
                match (a.str(0, i)?, a.str(1, i)?, a.str(2, i)?) {
                    (s, "", new) => {
                        let nothing = super::regex::compiled("")?;
                        super::regex::replace_all(&nothing, s, new, out)?;
                    }
                    (s, old, new) => out.push_str(&s.replace(old, new)),
                }
                Some(())
            })
        }),
        plain("REPEAT", &["si"], "STRING", |_| {
            text(|a, i, out| {
                let (s, n) = (a.str(0, i)?, a.int(1, i)?);
                (0..n).for_each(|_| out.push_str(s));
                Some(())
            })
        }),
        plain("LPAD", &["sis"], "STRING?", |_| pad(true)),
        plain("RPAD", &["sis"], "STRING?", |_| pad(false)),
        plain("LEFT", &["si"], "VARCHAR=?", |_| {
            text(|a, i, out| {
                out.push_str(chars(a.str(0, i)?, 0, a.int(1, i)?));
                Some(())
            })
        }),
        plain("RIGHT", &["si"], "VARCHAR=?", |_| {
            text(|a, i, out| {
                let (s, n) = (a.str(0, i)?, a.int(1, i)?);
                let length = char_count(s);
                if n > 0 {
                    out.push_str(chars(s, (length - n).max(0), length));
                }
                Some(())
            })
        }),
        plain("SPLIT_INDEX", &["ssi", "sii"], "STRING?", |_| {
            part_with(|_: &mut (), a, i| {
                let (s, n) = (a.str(0, i)?, usize::try_from(a.int(2, i)?).ok()?);
                let mut buffer = [0; 4];
                let separator = match a.str(1, i) {
                    Some(separator) => separator,
                    // A character's code.
                    None => {
                        let code = u8::try_from(a.int(1, i)?).ok().filter(|code| *code > 0)?;
                        char::from(code).encode_utf8(&mut buffer)
                    }
                };
                match separator.as_bytes() {
                    _ if s.is_empty() => None,
                    // As in commons-lang, nothing to split at means whitespace.
                    [] => s.split(char::is_whitespace).nth(n),
                    [byte] if byte.is_ascii() => {
                        let mut ends = memchr::memchr_iter(*byte, s.as_bytes());
                        let start = if n == 0 { 0 } else { ends.nth(n - 1)? + 1 };
                        s.get(start..ends.next().unwrap_or(s.len()))
                    }
                    _ => s.split(separator).nth(n),
                }
            })
        }),
        plain("INSTR", &["ss"], "INT", |_| int(|a, i| Some(position(a.str(1, i)?, a.str(0, i)?, 1)))),
        plain("OVERLAY", &["ssii?"], "VARCHAR+", |_| text(overlay)),
        plain("ASCII", &["s"], "INT", |_| {
            int(|a, i| Some(a.str(0, i)?.bytes().next().map_or(0, |b| i64::from(b as i8))))
        }),
        plain("CHR", &["l"], "STRING?", |_| {
            text(|a, i, out| {
                let n = a.int(0, i)?;
                if n >= 0 {
                    out.push(char::from((n & 0xff) as u8));
                }
                Some(())
            })
        }),
        special("TRANSLATE", "(STRING, STRING, STRING)", |n, args, zone| {
            let Some(args) = super::fit("sss", args, zone)? else { return Ok(None) };
            let out = TypeKind::STRING.nullable().with_nullable(args[0].data_type().nullable);
            let kernel = text(|a, i, out| {
                let s = a.str(0, i)?;
                // NULL instead of the letters to replace leaves the text alone; instead of those to put, removes.
                let (from, to) = (a.str(1, i).unwrap_or(""), a.str(2, i).unwrap_or(""));
                for c in s.chars() {
                    match from.chars().position(|f| f == c) {
                        None => out.push(c),
                        Some(k) => out.extend(to.chars().nth(k)),
                    }
                }
                Some(())
            });
            Ok(Some(call(n, args, out, kernel)))
        }),
        plain("STARTSWITH", &["xx"], "BOOLEAN", |_| boolean(|a, i| Some(a.bytes(0, i)?.starts_with(a.bytes(1, i)?)))),
        plain("ENDSWITH", &["xx"], "BOOLEAN", |_| boolean(|a, i| Some(a.bytes(0, i)?.ends_with(a.bytes(1, i)?)))),
        special("ELT", "(INT, STRING or BYTES, ...)", |n, args, zone| {
            let Some((index, values)) = args.split_first() else { return Ok(None) };
            let Some((common, values)) = super::collection::to_common(values, zone)? else { return Ok(None) };
            let Some(mut args) = super::fit("l", std::slice::from_ref(index), zone)? else { return Ok(None) };
            args.extend(values);
            let picked =
                |a: &Args<'_>, i: usize| usize::try_from(a.int(0, i)?).ok().filter(|n| (1..a.len()).contains(n));
            let kernel = match &common.kind {
                kind if kind.is_character() => text(move |a, i, out| {
                    out.push_str(a.str(picked(a, i)?, i)?);
                    Some(())
                }),
                kind if kind.is_binary() => bytes(move |a, i| Some(a.bytes(picked(a, i)?, i)?.to_vec())),
                _ => return Ok(None),
            };
            Ok(Some(call(n, args, common.with_nullable(true), kernel)))
        }),
        plain("SPLIT", &["ss"], "ARRAY", |_| {
            text_lists(|a, i, items| {
                let (s, delimiter) = (a.str(0, i)?, a.str(1, i)?);
                if delimiter.is_empty() {
                    let mut buffer = [0; 4];
                    s.chars().for_each(|c| match c.len_utf16() {
                        1 => items.append_value(c.encode_utf8(&mut buffer)),
                        // Java's halves of such a character can't be written (as in Flink).
                        _ => ["?", "?"].into_iter().for_each(|half| items.append_value(half)),
                    });
                } else if !s.is_empty() {
                    s.split(delimiter).for_each(|part| items.append_value(part));
                }
                Some(())
            })
        }),
        plain("PRINTF", &["sa*", "s"], "STRING?", |zone| super::printf::kernel(*zone)),
        // The catalog of a script has one database.
        plain("CURRENT_DATABASE", &[""], "STRING!", |_| {
            text(|_, _, out| {
                out.push_str("default_database");
                Some(())
            })
        }),
        plain("UUID", &[""], "CHAR36!", |_| {
            text(|_, _, out| {
                super::encode::uuid(out);
                Some(())
            })
        }),
        plain("IS_ALPHA", &["s", "a"], "BOOLEAN!", |_| test_text(|s| s.chars().all(char::is_alphabetic), |_| false)),
        plain("IS_DIGIT", &["s", "a"], "BOOLEAN!", |_| {
            test_text(|s| s.chars().all(char::is_numeric), TypeKind::is_integer)
        }),
        plain("IS_DECIMAL", &["s", "a"], "BOOLEAN!", |_| {
            test_text(|s| crate::parse::double(s).is_some(), TypeKind::is_numeric)
        }),
    ];
    for name in ["CHAR_LENGTH", "CHARACTER_LENGTH", "LENGTH"] {
        all.push(plain(name, &["s"], "INT", |_| int(|a, i| Some(char_count(a.str(0, i)?)))));
    }
    for name in ["SUBSTRING", "SUBSTR"] {
        all.push(plain(name, &["sii?"], "VARCHAR=?", |_| text(substring)));
    }
    for name in ["POSITION", "LOCATE"] {
        all.push(plain(name, &["ssi?"], "INT", |_| {
            int(|a, i| Some(position(a.str(0, i)?, a.str(1, i)?, if a.len() > 2 { a.int(2, i)? } else { 1 })))
        }));
    }
    all
}

/// Whether text has a property, which empty text and NULL haven't; other types have it or not as a whole.
fn test_text(holds: fn(&str) -> bool, always: fn(&TypeKind) -> bool) -> Kernel {
    use arrow::datatypes::DataType as A;
    boolean(move |a, i| {
        if let Some(s) = a.str(0, i) {
            return Some(!s.is_empty() && holds(s));
        }
        let kind = match a.columns[0].array().data_type() {
            A::Int8 | A::Int16 | A::Int32 | A::Int64 => TypeKind::BigInt,
            A::Float32 | A::Float64 => TypeKind::Double,
            _ => TypeKind::Boolean,
        };
        Some(always(&kind))
    })
}

fn concat() -> Kernel {
    text(|a, i, out| {
        for k in 0..a.len() {
            out.push_str(a.str(k, i)?);
        }
        Some(())
    })
}
