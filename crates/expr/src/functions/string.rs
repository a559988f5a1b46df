//! String functions, hashes and URLs; positions and lengths count characters.

use super::{Function, plain};
use crate::args::{Args, Kernel, boolean, bytes, int, text};
use crate::compare;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

/// A text function of one text argument.
fn map(f: fn(&str, &mut String) -> Option<()>) -> Kernel {
    text(move |a, i, out| f(a.str(0, i)?, out))
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

fn pad(left: bool) -> Kernel {
    text(move |a, i, out| {
        let (s, n, fill) = (a.str(0, i)?, a.int(1, i)?, a.str(2, i)?);
        if n < 0 || fill.is_empty() {
            return None;
        }
        let missing = n - char_count(s);
        if missing <= 0 {
            out.push_str(chars(s, 0, n));
            return Some(());
        }
        if !left {
            out.push_str(s);
        }
        out.extend(fill.chars().cycle().take(missing as usize));
        if left {
            out.push_str(s);
        }
        Some(())
    })
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

/// The place of `needle` from 1, looking from character `from` (from 1); 0 if there is none.
fn position(needle: &str, s: &str, from: i64) -> i64 {
    if from < 1 {
        return 0;
    }
    let rest = chars(s, from - 1, i64::from(i32::MAX));
    rest.find(needle).map_or(0, |at| char_count(&rest[..at]) + from)
}

pub(super) fn hex(data: &[u8], out: &mut String) {
    for b in data {
        for digit in [b >> 4, b & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

fn digest<D: Digest>() -> Kernel {
    text(|a, i, out| {
        hex(&D::digest(a.bytes(0, i)?), out);
        Some(())
    })
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

struct Url<'a> {
    scheme: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// The parts of a URL as `java.net.URL` sees them: of the protocols that Java knows.
fn url(s: &str) -> Option<Url<'_>> {
    let (scheme, rest) = s.trim().split_once(':')?;
    let known = ["http", "https", "ftp", "file", "mailto", "jar"];
    known.iter().find(|k| k.eq_ignore_ascii_case(scheme))?;
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(r, f)| (r, Some(f)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let at = rest.find('/').unwrap_or(rest.len());
            (Some(&rest[..at]), &rest[at..])
        }
        None => (None, rest),
    };
    Some(Url { scheme, authority, path, query, fragment })
}

fn parse_url(a: &Args<'_>, i: usize, out: &mut String) -> Option<()> {
    let (u, part) = (url(a.str(0, i)?)?, a.str(1, i)?);
    if a.len() > 2 {
        let key = a.str(2, i)?;
        let query = u.query.filter(|_| part == "QUERY")?;
        let value = query.split('&').find_map(|p| p.strip_prefix(key)?.strip_prefix('='))?;
        out.push_str(value);
        return Some(());
    }
    let authority = u.authority.unwrap_or("");
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    match part {
        "HOST" => {
            let port = host.rfind(':').filter(|at| host[at + 1..].bytes().all(|b| b.is_ascii_digit()));
            out.push_str(&host[..port.unwrap_or(host.len())]);
        }
        "PATH" => out.push_str(u.path),
        "QUERY" => out.push_str(u.query?),
        "REF" => out.push_str(u.fragment?),
        "PROTOCOL" => out.push_str(&u.scheme.to_ascii_lowercase()),
        "FILE" => {
            out.push_str(u.path);
            if let Some(query) = u.query {
                out.push('?');
                out.push_str(query);
            }
        }
        "AUTHORITY" => out.push_str(u.authority?),
        "USERINFO" => out.push_str(user?),
        _ => return None,
    }
    Some(())
}

fn url_decode(s: &str, out: &mut String) -> Option<()> {
    let mut bytes = Vec::with_capacity(s.len());
    let mut rest = s.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            b => b,
        });
    }
    out.push_str(&String::from_utf8_lossy(&bytes));
    Some(())
}

fn similar(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::from("^(?s:");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                let next = chars.next().map(String::from).unwrap_or_default();
                out.push_str(&fancy_regex::escape(&next));
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '.' | '\\' | '^' | '$' if !out.ends_with('[') => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    out
}

pub(super) fn functions() -> Vec<Function> {
    let mut all = vec![
        plain("LIKE", &["ss", "sss"], "BOOLEAN", |_| compare::like()),
        plain("SIMILAR TO", &["ss", "sss"], "BOOLEAN", |_| {
            boolean(|a, i| {
                let escape = if a.len() > 2 { a.str(2, i)?.chars().next() } else { None };
                super::regex::matches(a.str(0, i)?, &similar(a.str(1, i)?, escape))
            })
        }),
        plain("UPPER", &["s"], "STRING", |_| {
            map(|s, out| {
                out.push_str(&s.to_uppercase());
                Some(())
            })
        }),
        plain("LOWER", &["s"], "STRING", |_| {
            map(|s, out| {
                out.push_str(&s.to_lowercase());
                Some(())
            })
        }),
        plain("INITCAP", &["s"], "STRING", |_| map(initcap)),
        plain("REVERSE", &["s"], "STRING", |_| {
            map(|s, out| {
                out.extend(s.chars().rev());
                Some(())
            })
        }),
        plain("||", &["ss"], "STRING", |_| concat()),
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
        plain("TRIM", &["sss"], "STRING", |_| {
            text(|a, i, out| {
                trim(a.str(0, i)?, a.str(1, i)?, a.str(2, i)?, out);
                Some(())
            })
        }),
        plain("LTRIM", &["ss?"], "STRING", |_| trim_side("LEADING")),
        plain("RTRIM", &["ss?"], "STRING", |_| trim_side("TRAILING")),
        plain("BTRIM", &["ss?"], "STRING", |_| trim_side("BOTH")),
        plain("REPLACE", &["sss"], "STRING", |_| {
            text(|a, i, out| {
                out.push_str(&a.str(0, i)?.replace(a.str(1, i)?, a.str(2, i)?));
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
        plain("LEFT", &["si"], "STRING", |_| {
            text(|a, i, out| {
                out.push_str(chars(a.str(0, i)?, 0, a.int(1, i)?));
                Some(())
            })
        }),
        plain("RIGHT", &["si"], "STRING", |_| {
            text(|a, i, out| {
                let (s, n) = (a.str(0, i)?, a.int(1, i)?);
                let length = char_count(s);
                if n > 0 {
                    out.push_str(chars(s, (length - n).max(0), length));
                }
                Some(())
            })
        }),
        plain("SPLIT_INDEX", &["ssi"], "STRING?", |_| {
            text(|a, i, out| {
                let (s, separator, n) = (a.str(0, i)?, a.str(1, i)?, a.int(2, i)?);
                if n < 0 || s.is_empty() || separator.is_empty() {
                    return None;
                }
                out.push_str(s.split(separator).nth(n as usize)?);
                Some(())
            })
        }),
        plain("INSTR", &["ss"], "INT", |_| int(|a, i| Some(position(a.str(1, i)?, a.str(0, i)?, 1)))),
        plain("OVERLAY", &["ssii?"], "STRING", |_| {
            text(|a, i, out| {
                let (s, new, start) = (a.str(0, i)?, a.str(1, i)?, a.int(2, i)?);
                let length = if a.len() > 3 { a.int(3, i)? } else { char_count(new) };
                let n = char_count(s);
                if start <= 0 || start > n {
                    out.push_str(s);
                    return Some(());
                }
                out.push_str(chars(s, 0, start - 1));
                out.push_str(new);
                out.push_str(chars(s, (start - 1 + length).max(0), n));
                Some(())
            })
        }),
        plain("ASCII", &["s"], "INT", |_| int(|a, i| Some(a.str(0, i)?.bytes().next().map_or(0, i64::from)))),
        plain("CHR", &["l"], "STRING", |_| {
            text(|a, i, out| {
                let n = a.int(0, i)?;
                if n >= 0 {
                    out.push(char::from((n & 0xff) as u8));
                }
                Some(())
            })
        }),
        plain("TRANSLATE", &["sss"], "STRING", |_| {
            text(|a, i, out| {
                let (s, from, to) = (a.str(0, i)?, a.str(1, i)?, a.str(2, i)?);
                for c in s.chars() {
                    match from.chars().position(|f| f == c) {
                        None => out.push(c),
                        Some(k) => out.extend(to.chars().nth(k)),
                    }
                }
                Some(())
            })
        }),
        plain("STARTSWITH", &["xx"], "BOOLEAN", |_| boolean(|a, i| Some(a.bytes(0, i)?.starts_with(a.bytes(1, i)?)))),
        plain("ENDSWITH", &["xx"], "BOOLEAN", |_| boolean(|a, i| Some(a.bytes(0, i)?.ends_with(a.bytes(1, i)?)))),
        plain("ELT", &["is*"], "STRING?", |_| {
            text(|a, i, out| {
                let n = usize::try_from(a.int(0, i)?).ok().filter(|n| (1..a.len()).contains(n))?;
                out.push_str(a.str(n, i)?);
                Some(())
            })
        }),
        plain("TO_BASE64", &["x"], "STRING", |_| {
            text(|a, i, out| {
                STANDARD.encode_string(a.bytes(0, i)?, out);
                Some(())
            })
        }),
        plain("FROM_BASE64", &["s"], "STRING?", |_| {
            map(|s, out| {
                out.push_str(&String::from_utf8_lossy(&STANDARD.decode(s).ok()?));
                Some(())
            })
        }),
        plain("HEX", &["l", "x"], "STRING", |_| {
            text(|a, i, out| {
                match a.int(0, i) {
                    Some(v) => out.push_str(&format!("{v:X}")),
                    None => {
                        hex(a.bytes(0, i)?, out);
                        out.make_ascii_uppercase();
                    }
                }
                Some(())
            })
        }),
        plain("UNHEX", &["s"], "BYTES?", |_| {
            bytes(|a, i| {
                let digits = a.str(0, i)?.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
                let odd = digits.len() % 2;
                let head = digits.iter().take(odd).map(|d| *d as u8);
                Some(head.chain(digits[odd..].chunks(2).map(|p| (p[0] * 16 + p[1]) as u8)).collect())
            })
        }),
        plain("MD5", &["x"], "CHAR32", |_| digest::<md5::Md5>()),
        plain("SHA1", &["x"], "CHAR40", |_| digest::<sha1::Sha1>()),
        plain("SHA224", &["x"], "CHAR56", |_| digest::<sha2::Sha224>()),
        plain("SHA256", &["x"], "CHAR64", |_| digest::<sha2::Sha256>()),
        plain("SHA384", &["x"], "CHAR96", |_| digest::<sha2::Sha384>()),
        plain("SHA512", &["x"], "CHAR128", |_| digest::<sha2::Sha512>()),
        plain("SHA2", &["xi"], "VARCHAR128", |_| {
            text(|a, i, out| {
                let data = a.bytes(0, i)?;
                match a.int(1, i)? {
                    224 => hex(&sha2::Sha224::digest(data), out),
                    256 => hex(&sha2::Sha256::digest(data), out),
                    384 => hex(&sha2::Sha384::digest(data), out),
                    512 => hex(&sha2::Sha512::digest(data), out),
                    _ => return None,
                }
                Some(())
            })
        }),
        plain("PARSE_URL", &["sss?"], "STRING?", |_| text(parse_url)),
        plain("URL_ENCODE", &["s"], "STRING", |_| {
            map(|s, out| {
                out.extend(url::form_urlencoded::byte_serialize(s.as_bytes()));
                Some(())
            })
        }),
        plain("URL_DECODE", &["s"], "STRING?", |_| map(url_decode)),
    ];
    for name in ["CHAR_LENGTH", "CHARACTER_LENGTH", "LENGTH"] {
        all.push(plain(name, &["s"], "INT", |_| int(|a, i| Some(char_count(a.str(0, i)?)))));
    }
    for name in ["SUBSTRING", "SUBSTR"] {
        all.push(plain(name, &["sii?"], "STRING?", |_| text(substring)));
    }
    for name in ["POSITION", "LOCATE"] {
        all.push(plain(name, &["ssi?"], "INT", |_| {
            int(|a, i| Some(position(a.str(0, i)?, a.str(1, i)?, if a.len() > 2 { a.int(2, i)? } else { 1 })))
        }));
    }
    all
}

fn concat() -> Kernel {
    text(|a, i, out| {
        for k in 0..a.len() {
            out.push_str(a.str(k, i)?);
        }
        Some(())
    })
}
