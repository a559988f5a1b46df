//! Hashes, encodings of text and bytes, URLs, UUIDs.

use super::string::map;
use super::{Function, plain};
use crate::args::{Args, Kernel, bytes, int, text, try_bytes, try_text};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use millstream_core::Error;
use sha2::Digest;
use std::net::Ipv4Addr;

/// As `java.util.Base64`: padding is written, and may be missing when read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn hex(data: &[u8], out: &mut String) {
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

/// A random UUID of version 4.
pub(super) fn uuid(out: &mut String) {
    use std::fmt::Write;
    let high = super::math::next_random() & !0xf000 | 0x4000;
    let low = super::math::next_random() & !(3 << 62) | 1 << 63;
    let _ = write!(
        out,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    );
}

/// The character sets of DECODE and ENCODE.
#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16Be,
    Utf16Le,
    /// Big endian with a mark when written; as its mark says when read.
    Utf16,
}

fn charset(name: &str) -> Result<Charset, Error> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Charset::Ascii,
        "ISO-8859-1" | "LATIN1" => Charset::Latin1,
        "UTF-8" | "UTF8" => Charset::Utf8,
        "UTF-16BE" => Charset::Utf16Be,
        "UTF-16LE" => Charset::Utf16Le,
        "UTF-16" => Charset::Utf16,
        _ => {
            return Err(Error::data(format!("there is no character set '{name}'"))
                .hint("one of US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE, UTF-16"));
        }
    })
}

fn utf16(data: &[u8], unit: fn([u8; 2]) -> u16, out: &mut String) {
    let (pairs, rest) = data.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    out.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    if !rest.is_empty() {
        out.push(char::REPLACEMENT_CHARACTER);
    }
}

fn decode(data: &[u8], charset: Charset, out: &mut String) {
    match (charset, data) {
        (Charset::Ascii, _) => {
            let known = |b: &u8| if b.is_ascii() { char::from(*b) } else { char::REPLACEMENT_CHARACTER };
            out.extend(data.iter().map(known));
        }
        (Charset::Latin1, _) => out.extend(data.iter().map(|b| char::from(*b))),
        (Charset::Utf8, _) => out.push_str(&String::from_utf8_lossy(data)),
        (Charset::Utf16Le, _) => utf16(data, u16::from_le_bytes, out),
        (Charset::Utf16, [0xff, 0xfe, rest @ ..]) => utf16(rest, u16::from_le_bytes, out),
        (Charset::Utf16, [0xfe, 0xff, rest @ ..]) => utf16(rest, u16::from_be_bytes, out),
        (Charset::Utf16 | Charset::Utf16Be, _) => utf16(data, u16::from_be_bytes, out),
    }
}

fn encode(s: &str, charset: Charset) -> Vec<u8> {
    let limited = |most: u32| s.chars().map(move |c| u8::try_from(u32::from(c)).ok().filter(|b| u32::from(*b) <= most));
    match charset {
        Charset::Ascii => limited(127).map(|b| b.unwrap_or(b'?')).collect(),
        Charset::Latin1 => limited(255).map(|b| b.unwrap_or(b'?')).collect(),
        Charset::Utf8 => s.as_bytes().to_vec(),
        Charset::Utf16Le => s.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Charset::Utf16Be => s.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Charset::Utf16 if s.is_empty() => vec![],
        Charset::Utf16 => [0xfe, 0xff].into_iter().chain(s.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
    }
}

/// An IPv4 address; what is missing of four parts is 0, in front of the last one.
fn address(text: &str) -> Option<u32> {
    let mut parts = [0u8; 4];
    let given: Vec<&str> = text.split('.').collect();
    for (i, part) in given.iter().enumerate() {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *parts.get_mut(if i + 1 == given.len() && i < 4 { 3 } else { i })? = part.parse().ok()?;
    }
    Some(u32::from_be_bytes(parts))
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        plain("INET_ATON", &["s"], "BIGINT?", |_| int(|a, i| address(a.str(0, i)?).map(i64::from))),
        plain("INET_NTOA", &["l"], "STRING?", |_| {
            text(|a, i, out| {
                out.push_str(&Ipv4Addr::from(u32::try_from(a.int(0, i)?).ok()?).to_string());
                Some(())
            })
        }),
        plain("DECODE", &["xs"], "STRING", |_| {
            try_text(|a, i, out| {
                let (Some(data), Some(name)) = (a.bytes(0, i), a.str(1, i)) else { return Ok(None) };
                decode(data, charset(name)?, out);
                Ok(Some(()))
            })
        }),
        plain("ENCODE", &["ss"], "BYTES", |_| {
            try_bytes(|a, i| {
                let (Some(s), Some(name)) = (a.str(0, i), a.str(1, i)) else { return Ok(None) };
                Ok(Some(encode(s, charset(name)?)))
            })
        }),
        plain("TO_BASE64", &["x"], "STRING", |_| {
            text(|a, i, out| {
                BASE64.encode_string(a.bytes(0, i)?, out);
                Some(())
            })
        }),
        plain("FROM_BASE64", &["s"], "STRING", |_| {
            try_text(|a, i, out| {
                let Some(s) = a.str(0, i) else { return Ok(None) };
                let data = BASE64.decode(s).map_err(|_| Error::data(format!("'{s}' is not valid Base64")))?;
                out.push_str(&String::from_utf8_lossy(&data));
                Ok(Some(()))
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
        // Of an odd number of digits the first is read as 0 (as in Flink).
        plain("UNHEX", &["s"], "BYTES?", |_| {
            bytes(|a, i| {
                let digits = a.str(0, i)?.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
                let odd = digits.len() % 2;
                let head = std::iter::repeat_n(0, odd);
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
        plain("URL_ENCODE", &["s"], "STRING?", |_| {
            map(|s, out| {
                out.extend(url::form_urlencoded::byte_serialize(s.as_bytes()));
                Some(())
            })
        }),
        plain("URL_DECODE", &["s"], "STRING?", |_| map(url_decode)),
        plain("URL_DECODE_RECURSIVE", &["si?"], "STRING?", |_| {
            text(|a, i, out| {
                let most = if a.len() > 1 { a.int(1, i)? } else { 10 };
                out.push_str(a.str(0, i)?);
                for _ in 0..most {
                    let mut decoded = String::new();
                    url_decode(out, &mut decoded)?;
                    if *out == decoded {
                        break;
                    }
                    *out = decoded;
                }
                Some(())
            })
        }),
    ]
}
