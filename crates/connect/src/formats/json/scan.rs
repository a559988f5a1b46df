//! A cursor over the bytes of a JSON text: tokens in place, nothing allocated.

/// Why a text could not be decoded.
#[derive(Debug)]
pub struct Fail {
    /// The text is no JSON (or no UTF-8), so that what follows can't be read either; otherwise one value
    /// doesn't fit its column.
    pub is_syntax: bool,
    /// The field, outermost first, joined by points.
    pub path: String,
    /// The reason.
    pub reason: String,
}

/// The outcome of decoding.
pub type Outcome<T = ()> = Result<T, Box<Fail>>;

/// The text is no JSON.
#[cold]
pub fn syntax<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Box::new(Fail { is_syntax: true, path: String::new(), reason: reason.into() }))
}

/// The value doesn't fit.
#[cold]
pub fn misfit<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Box::new(Fail { is_syntax: false, path: String::new(), reason: reason.into() }))
}

/// Deepest nesting that is followed, as in Jackson.
const MAX_DEPTH: usize = 1000;

/// A cursor.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    /// The text.
    pub bytes: &'a [u8],
    /// Where it stands.
    pub at: usize,
}

/// The inside of a string token.
#[derive(Clone, Copy)]
pub struct Str<'a> {
    /// Between the quotes, as it stands.
    pub raw: &'a [u8],
    /// Whether there are escapes in it.
    pub escaped: bool,
    /// Whether every byte is below 128 (may be false though it is so).
    pub ascii: bool,
}

/// A text to compare with, eight bytes at a time.
#[derive(Debug)]
pub struct Words {
    text: Vec<u8>,
    words: Vec<u64>,
    /// The bits of the last word that count.
    mask: u64,
}

impl Words {
    /// Of a text.
    pub fn new(text: &[u8]) -> Words {
        let word = |part: &[u8]| part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let odd = text.len() % 8;
        Words {
            text: text.to_vec(),
            words: text.chunks(8).map(word).collect(),
            mask: if odd == 0 { u64::MAX } else { (1 << (8 * odd)) - 1 },
        }
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the high bit of the bytes of `word` that equal `byte`; the lowest mark is exact.
#[inline(always)]
fn marks(word: u64, byte: u8) -> u64 {
    let x = word ^ (LOW * byte as u64);
    x.wrapping_sub(LOW) & !x & HIGH
}

impl<'a> Scan<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Scan { bytes, at: 0 }
    }
    /// The byte under the cursor; 0 at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        match self.bytes.get(self.at) {
            Some(b) => *b,
            None => 0,
        }
    }
    /// Skips blanks.
    #[inline(always)]
    pub fn blanks(&mut self) {
        while self.peek() <= b' ' && matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
    /// Whether only blanks are left.
    pub fn is_at_end(&mut self) -> bool {
        self.blanks();
        self.at >= self.bytes.len()
    }
    /// Whether `text` follows; goes past it.
    #[inline(always)]
    pub fn take(&mut self, text: &[u8]) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text));
        if found {
            self.at += text.len();
        }
        found
    }
    /// As [`Scan::take`]; word by word, but where fewer bytes are left than fill the last word.
    #[inline(always)]
    pub fn take_words(&mut self, text: &Words) -> bool {
        let Some((last, words)) = text.words.split_last() else { return true };
        let Some(rest) = self.bytes.get(self.at..self.at + 8 * text.words.len()) else {
            return self.take(&text.text);
        };
        let (parts, _) = rest.as_chunks::<8>();
        let mut differs = 0;
        for (word, part) in words.iter().zip(parts) {
            differs |= word ^ u64::from_le_bytes(*part);
        }
        if let Some(part) = parts.last() {
            differs |= (last ^ u64::from_le_bytes(*part)) & text.mask;
        }
        if differs == 0 {
            self.at += text.text.len();
        }
        differs == 0
    }
    /// Goes past a literal that must stand here.
    #[inline]
    pub fn literal(&mut self, text: &'static str) -> Outcome {
        if self.take(text.as_bytes()) && !self.peek().is_ascii_alphanumeric() {
            return Ok(());
        }
        self.unexpected("a value")
    }
    /// An error about what stands here.
    #[cold]
    pub fn unexpected<T>(&self, expected: &str) -> Outcome<T> {
        match self.bytes.get(self.at) {
            None => syntax(format!("the record ends where {expected} was expected")),
            Some(b) => {
                syntax(format!("{expected} was expected, but there is '{}' at byte {}", b.escape_ascii(), self.at + 1))
            }
        }
    }

    /// The string whose opening quote is under the cursor; goes past it.
    #[inline]
    pub fn string(&mut self) -> Outcome<Str<'a>> {
        let start = self.at + 1;
        let mut at = start;
        let mut seen = 0u64;
        let mut escaped = false;
        loop {
            while let Some(chunk) = self.bytes.get(at..at + 8) {
                let word = u64::from_le_bytes(<[u8; 8]>::try_from(chunk).unwrap_or_default());
                seen |= word;
                let found = marks(word, b'"') | marks(word, b'\\');
                if found != 0 {
                    at += (found.trailing_zeros() / 8) as usize;
                    break;
                }
                at += 8;
            }
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(b) => {
                    seen |= u64::from(*b);
                    at += 1;
                }
                None => return syntax("a string has no closing quote"),
            }
        }
        self.at = at + 1;
        match self.bytes.get(start..at) {
            Some(raw) => Ok(Str { raw, escaped, ascii: seen & HIGH == 0 }),
            None => syntax("a string has no closing quote"),
        }
    }

    /// The number under the cursor; goes past it. Says whether it is an integer.
    #[inline]
    pub fn number(&mut self) -> Outcome<(&'a [u8], bool)> {
        let start = self.at;
        let mut integer = true;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else if self.skip_digits() == 0 {
            return self.unexpected("a value");
        }
        if self.peek() == b'.' {
            integer = false;
            self.at += 1;
            if self.skip_digits() == 0 {
                return self.unexpected("a digit");
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            if self.skip_digits() == 0 {
                return self.unexpected("a digit");
            }
        }
        if self.peek().is_ascii_alphanumeric() || self.peek() == b'.' {
            return self.unexpected("the number's end");
        }
        Ok((self.bytes.get(start..self.at).unwrap_or_default(), integer))
    }

    #[inline(always)]
    fn skip_digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    /// Goes past any value, checking its grammar.
    pub fn skip(&mut self) -> Outcome {
        self.skip_within(0)
    }

    fn skip_within(&mut self, depth: usize) -> Outcome {
        if depth > MAX_DEPTH {
            return syntax("the record is nested too deeply");
        }
        self.blanks();
        match self.peek() {
            b'"' => self.string().map(|_| ()),
            b'n' => self.literal("null"),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'{' => {
                self.at += 1;
                self.blanks();
                if self.take(b"}") {
                    return Ok(());
                }
                loop {
                    self.blanks();
                    if self.peek() != b'"' {
                        return self.unexpected("a field's name");
                    }
                    self.string()?;
                    self.colon()?;
                    self.skip_within(depth + 1)?;
                    if !self.comma_or(b'}')? {
                        return Ok(());
                    }
                }
            }
            b'[' => {
                self.at += 1;
                self.blanks();
                if self.take(b"]") {
                    return Ok(());
                }
                loop {
                    self.skip_within(depth + 1)?;
                    if !self.comma_or(b']')? {
                        return Ok(());
                    }
                }
            }
            _ => self.number().map(|_| ()),
        }
    }

    /// Goes past a colon.
    #[inline]
    pub fn colon(&mut self) -> Outcome {
        self.blanks();
        if self.peek() != b':' {
            return self.unexpected("':'");
        }
        self.at += 1;
        Ok(())
    }

    /// Goes past a comma (true) or the closing bracket (false).
    #[inline(always)]
    pub fn comma_or(&mut self, close: u8) -> Outcome<bool> {
        self.blanks();
        let b = self.peek();
        if b == b',' {
            self.at += 1;
            return Ok(true);
        }
        if b == close {
            self.at += 1;
            return Ok(false);
        }
        self.unexpected(if close == b'}' { "',' or '}'" } else { "',' or ']'" })
    }
}

fn hex4(text: Option<&[u8]>) -> Outcome<u32> {
    let parsed = text.and_then(|t| t.iter().try_fold(0u32, |n, b| (*b as char).to_digit(16).map(|d| n * 16 + d)));
    match parsed {
        Some(n) => Ok(n),
        None => syntax("a \\u escape needs four hexadecimal digits"),
    }
}

/// Appends what the string token stands for to `out`; on failure `out` is as before.
pub fn push_str(text: Str, out: &mut Vec<u8>) -> Outcome {
    if !text.ascii && std::str::from_utf8(text.raw).is_err() {
        return syntax("the record is not valid UTF-8");
    }
    if !text.escaped {
        out.extend_from_slice(text.raw);
        return Ok(());
    }
    let before = out.len();
    let outcome = push_unescaped(text.raw, out);
    if outcome.is_err() {
        out.truncate(before);
    }
    outcome
}

fn push_unescaped(raw: &[u8], out: &mut Vec<u8>) -> Outcome {
    let mut at = 0;
    while let Some(rest) = raw.get(at..).filter(|r| !r.is_empty()) {
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        out.extend_from_slice(rest.get(..plain).unwrap_or_default());
        at += plain;
        let Some(kind) = raw.get(at + 1) else { break };
        at += 2;
        out.push(match kind {
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = hex4(raw.get(at..at + 4))?;
                at += 4;
                if (0xD800..0xDC00).contains(&code)
                    && let Some([b'\\', b'u']) = raw.get(at..at + 2)
                {
                    let low = hex4(raw.get(at + 2..at + 6))?;
                    if (0xDC00..0xE000).contains(&low) {
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                        at += 6;
                    }
                }
                // A lone surrogate has no UTF-8: it becomes '?', as when Java encodes it.
                let c = char::from_u32(code).unwrap_or('?');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => return syntax(format!("'\\{}' is no escape", other.escape_ascii())),
        });
    }
    Ok(())
}

/// Appends the value's text without the blanks between its tokens.
pub fn push_compact(value: &[u8], out: &mut Vec<u8>) {
    let (mut in_string, mut escaped) = (false, false);
    for b in value {
        if in_string {
            out.push(*b);
            (in_string, escaped) = match (escaped, b) {
                (true, _) => (true, false),
                (false, b'\\') => (true, true),
                (false, b'"') => (false, false),
                _ => (true, false),
            };
        } else if !matches!(b, b' ' | b'\t' | b'\r' | b'\n') {
            out.push(*b);
            in_string = *b == b'"';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_words_is_taking_their_bytes() {
        for text in ["", "\"a\":", "\"auction\":", "\"emailAddress\":", "\"1234567"] {
            let words = Words::new(text.as_bytes());
            for after in ["", "1", "1}", "\"a longer value\",\"b\":2}"] {
                let follows = format!("{text}{after}");
                // The text itself, and texts that differ from it in one byte or end within it.
                let mut others: Vec<Vec<u8>> = (0..text.len()).map(|end| follows.as_bytes()[..end].to_vec()).collect();
                others.extend((0..follows.len()).map(|at| {
                    let mut other = follows.clone().into_bytes();
                    other[at] ^= 1;
                    other
                }));
                others.push(follows.into_bytes());
                for bytes in others {
                    let (mut one, mut two) = (Scan::new(&bytes), Scan::new(&bytes));
                    assert_eq!(one.take_words(&words), two.take(text.as_bytes()), "{text} in {bytes:?}");
                    assert_eq!(one.at, two.at);
                }
            }
        }
    }
}
