//! JSON documents as Jackson reads them for Flink: numbers keep their digits, of equal keys the last stays.

use std::collections::HashMap;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A whole number, as Java's `BigInteger` prints it.
    Int(String),
    /// Any other number, as Java's `BigDecimal` prints it.
    Decimal(String),
    Text(String),
    List(Vec<Json>),
    /// The members in the order of their first occurrence.
    Object(Vec<(String, Json)>),
}

/// Deeper nesting than this is refused (Jackson's `StreamReadConstraints`).
pub(super) const DEPTH_MAX: usize = 1000;

/// Objects with fewer members are searched without an index.
const FEW: usize = 32;

impl Json {
    /// Neither an array nor an object.
    pub fn is_scalar(&self) -> bool {
        !matches!(self, Json::List(_) | Json::Object(_))
    }

    /// Reads the first value of `text`; like Jackson's readers it ignores what follows.
    pub fn parse(text: &str) -> Option<Json> {
        let mut reader = Reader::new(text);
        let value = reader.value(0)?;
        let ends = match &value {
            Json::Int(_) | Json::Decimal(_) => reader.ends_number(),
            Json::Null | Json::Bool(_) => reader.ends_word(),
            _ => true,
        };
        ends.then_some(value)
    }

    /// The member `key` of an object.
    pub fn member(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Writes it as compact JSON, the members of objects in the order of their keys.
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Int(n) | Json::Decimal(n) => out.push_str(n),
            Json::Text(s) => write_string(out, s),
            Json::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|a, b| key_order(&a.0, &b.0));
                out.push('{');
                for (i, (key, value)) in members.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_string(out, key);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// A scalar as plain text (`String.valueOf` in Java); anything else as JSON.
    pub fn write_plain(&self, out: &mut String) {
        match self {
            Json::Text(s) => out.push_str(s),
            other => other.write(out),
        }
    }
}

/// The order of Java's strings: by UTF-16 units.
pub(crate) fn key_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// Writes a JSON string with Jackson's escapes.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (i, b) in text.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            8 => "\\b",
            12 => "\\f",
            0..32 => "",
            _ => continue,
        };
        out.push_str(&text[from..i]);
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(if b < 16 { '0' } else { '1' });
            out.push(char::from(b"0123456789ABCDEF"[usize::from(b & 15)]));
        } else {
            out.push_str(escape);
        }
        from = i + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// A number with a fraction or an exponent as Java's `BigDecimal.toString` prints it.
pub(crate) fn big_decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.strip_prefix('+').unwrap_or(e).parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |m| (true, m));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = match all.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let scale = fraction.len() as i64 - exponent;
    let adjusted = digits.len() as i64 - 1 - scale;
    let mut out = String::from(if negative && digits != "0" { "-" } else { "" });
    if scale == 0 {
        out.push_str(digits);
    } else if scale > 0 && adjusted >= -6 {
        let missing = (scale + 1 - digits.len() as i64).max(0) as usize;
        let padded = format!("{}{digits}", "0".repeat(missing));
        let (whole, fraction) = padded.split_at(padded.len() - scale as usize);
        out.extend([whole, ".", fraction]);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.extend([".", rest]);
        }
        out.push_str(&format!("E{adjusted:+}"));
    }
    Some(out)
}

/// Where reading a document stands.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    text: &'a str,
    /// How many bytes have been read.
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Reader { bytes: text.as_bytes(), text, at: 0 }
    }

    /// The byte to read next.
    pub fn next(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Whether a number may end here.
    pub fn ends_number(&self) -> bool {
        self.next().is_none_or(|b| b.is_ascii_whitespace())
    }

    /// Whether `true`, `false` or `null` may end here.
    pub fn ends_word(&self) -> bool {
        self.next().is_none_or(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 128..)))
    }

    pub fn blank(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    pub fn word<T>(&mut self, word: &str, value: T) -> Option<T> {
        self.text.get(self.at..)?.starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blank();
        match *self.bytes.get(self.at)? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Json::Text),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut items = vec![];
        self.blank();
        if self.eat(b']') {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.eat(b']') {
                return Some(Json::List(items));
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = vec![];
        let mut places: HashMap<String, usize> = HashMap::new();
        self.blank();
        if self.eat(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            self.blank();
            if self.bytes.get(self.at) != Some(&b'"') {
                return None;
            }
            let key = self.string()?;
            self.blank();
            if !self.eat(b':') {
                return None;
            }
            let value = self.value(depth + 1)?;
            // Looking through the members is quickest while they are few.
            let known = match members.len() {
                0..FEW => members.iter().position(|(k, _)| *k == key),
                n => {
                    let from = places.len();
                    places.extend((from..n).map(|at| (members[at].0.clone(), at)));
                    places.get(&key).copied()
                }
            };
            match known {
                Some(at) => members[at].1 = value,
                None => members.push((key, value)),
            }
            self.blank();
            if self.eat(b'}') {
                return Some(Json::Object(members));
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    pub fn string(&mut self) -> Option<String> {
        self.at += 1;
        let mut out = String::new();
        let mut from = self.at;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    out.push_str(self.text.get(from..self.at)?);
                    self.at += 1;
                    return Some(out);
                }
                b'\\' => {
                    out.push_str(self.text.get(from..self.at)?);
                    let escape = *self.bytes.get(self.at + 1)?;
                    self.at += 2;
                    out.push(match escape {
                        b'"' | b'\\' | b'/' => char::from(escape),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return None,
                    });
                    from = self.at;
                }
                0..32 => return None,
                _ => self.at += 1,
            }
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    /// The character of `\u` and four hexadecimal digits, or of two of them; half a pair is `?`, as Java encodes it.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Some(char::from_u32(high).unwrap_or('?'));
        }
        let start = self.at;
        if self.eat(b'\\') && self.eat(b'u') {
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
        }
        self.at = start;
        Some('?')
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Option<Json> {
        match self.number_text()? {
            (text, true) => Some(Json::Int(if text == "-0" { "0".into() } else { text.into() })),
            (text, false) => big_decimal(text).map(Json::Decimal),
        }
    }

    /// A number's text, and whether it is a whole one.
    pub fn number_text(&mut self) -> Option<(&'a str, bool)> {
        let from = self.at;
        self.eat(b'-');
        let starts_with_zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = self.digits();
        if whole == 0 || (starts_with_zero && whole > 1) {
            return None;
        }
        let mut is_whole = true;
        if self.eat(b'.') {
            is_whole = false;
            if self.digits() == 0 {
                return None;
            }
        }
        if self.eat(b'e') || self.eat(b'E') {
            is_whole = false;
            let _ = self.eat(b'+') || self.eat(b'-');
            if self.digits() == 0 {
                return None;
            }
        }
        Some((self.text.get(from..self.at)?, is_whole))
    }
}
