//! A cursor over the bytes of JSON lines: tokens in place, nothing allocated.

use super::marks::Marks;

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

/// A cursor. A record ends at a line feed or where the text does.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    /// The text: valid UTF-8, if its strings are to be.
    pub bytes: &'a [u8],
    /// Where it stands.
    pub at: usize,
    /// Where its record starts.
    pub record: usize,
    marks: &'a Marks,
}

/// The inside of a string token.
#[derive(Clone, Copy)]
pub struct Str<'a> {
    /// Between the quotes, as it stands.
    pub raw: &'a [u8],
    /// Whether there are escapes in it; they are valid then.
    pub escaped: bool,
}

/// A text to compare with, eight bytes at a time.
#[derive(Debug)]
pub struct Words {
    text: Vec<u8>,
    /// The first two words, and which bits of them count.
    start: [(u64, u64); 2],
}

/// The first eight bytes, the first one lowest; zeros behind them.
fn word_of(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

impl Words {
    /// Of a text.
    pub fn new(text: &[u8]) -> Words {
        let word = |from: usize| {
            let part = text.get(from..).unwrap_or_default();
            (word_of(part), if part.len() < 8 { (1 << (8 * part.len())) - 1 } else { u64::MAX })
        };
        Words { text: text.to_vec(), start: [word(0), word(8)] }
    }
}

impl<'a> Scan<'a> {
    /// At `at` in `bytes`, the start of a record; `marks` are those of `bytes`.
    pub fn new(bytes: &'a [u8], marks: &'a Marks, at: usize) -> Self {
        Scan { bytes, at, record: at, marks }
    }
    /// The same at another place.
    pub fn moved_to(self, at: usize) -> Self {
        Scan { at, ..self }
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
        if self.peek() <= b' ' {
            self.skip_blanks();
        }
    }
    #[inline(never)]
    fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r') {
            self.at += 1;
        }
    }
    /// The next eight bytes, the first one lowest, if there are so many.
    #[inline(always)]
    fn word(&self) -> Option<u64> {
        let bytes = self.bytes.get(self.at..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    }
    /// Whether only blanks are left of the record.
    #[inline(always)]
    pub fn is_at_end(&mut self) -> bool {
        self.blanks();
        matches!(self.bytes.get(self.at), Some(b'\n') | None)
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
    /// As [`Scan::take`]; two words at once, but where fewer bytes than that are left.
    #[inline(always)]
    pub fn take_words(&mut self, text: &Words) -> bool {
        let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<16>()) else {
            return self.take(&text.text);
        };
        let next = u128::from_le_bytes(*next);
        let [(first, first_mask), (second, second_mask)] = text.start;
        let differs = (next as u64 ^ first) & first_mask | ((next >> 64) as u64 ^ second) & second_mask;
        if differs != 0 {
            return false;
        }
        if text.text.len() > 16 {
            return self.take(&text.text);
        }
        self.at += text.text.len();
        true
    }
    /// Goes past a literal that must stand here.
    #[inline(always)]
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
            Some(b'\n') | None => syntax(format!("the record ends where {expected} was expected")),
            Some(b) => {
                let place = self.at - self.record + 1;
                syntax(format!("{expected} was expected, but there is '{}' at byte {place}", b.escape_ascii()))
            }
        }
    }

    /// The string whose opening quote is under the cursor; goes past it.
    #[inline(always)]
    pub fn string(&mut self) -> Outcome<Str<'a>> {
        let start = self.at + 1;
        let end = self.marks.next(start);
        if self.bytes.get(end) == Some(&b'"')
            && let Some(raw) = self.bytes.get(start..end)
        {
            self.at = end + 1;
            return Ok(Str { raw, escaped: false });
        }
        self.odd_string(end)
    }

    /// [`Scan::string`] whose first byte that isn't plain, at `at`, is no quote.
    #[inline(never)]
    fn odd_string(&mut self, mut at: usize) -> Outcome<Str<'a>> {
        let start = self.at + 1;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Str { raw: self.bytes.get(start..at).unwrap_or_default(), escaped: true });
                }
                Some(b'\\') => {
                    at += match self.bytes.get(at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') => hex4(self.bytes.get(at + 2..at + 6)).map(|_| 6)?,
                        Some(b'\n') | None => return syntax("a string has no closing quote"),
                        Some(other) => return syntax(format!("'\\{}' is no escape", other.escape_ascii())),
                    };
                    at = self.marks.next(at);
                }
                Some(b'\n') | None => return syntax("a string has no closing quote"),
                Some(b) => {
                    let place = at - self.record + 1;
                    return syntax(format!("a string holds the control character 0x{b:02x} at byte {place}"));
                }
            }
        }
    }

    /// The number under the cursor; goes past it.
    #[inline]
    pub fn number(&mut self) -> Outcome<&'a [u8]> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else if self.skip_digits() == 0 {
            return self.unexpected("a value");
        }
        if matches!(self.peek(), b',' | b'}') {
            return Ok(self.bytes.get(start..self.at).unwrap_or_default());
        }
        if self.peek() == b'.' {
            self.at += 1;
            if self.skip_digits() == 0 {
                return self.unexpected("a digit");
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
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
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }

    #[inline(always)]
    fn skip_digits(&mut self) -> usize {
        let start = self.at;
        while let Some(word) = self.word() {
            let count = leading_digits(word);
            self.at += count;
            if count < 8 {
                return self.at - start;
            }
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    /// The integer under the cursor, if it is written plainly, fits BIGINT, and isn't at the text's very end; goes past
    /// it.
    #[inline(always)]
    pub fn plain_integer(&mut self) -> Option<i64> {
        const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
        let mut next = *self;
        let negative = next.peek() == b'-';
        next.at += usize::from(negative);
        let (leading_zero, start) = (next.peek() == b'0', next.at);
        let mut value = 0u64;
        for _ in 0..3 {
            let word = next.word()?;
            let count = leading_digits(word);
            let Some(digits) = value_of(word, count) else { break };
            value = value.wrapping_mul(POWERS[count]).wrapping_add(digits);
            next.at += count;
            if count < 8 {
                break;
            }
        }
        let count = next.at - start;
        // So many digits fit 64 bits; more may have overflowed.
        if !(1..=19).contains(&count) || leading_zero && count > 1 {
            return None;
        }
        if !matches!(next.peek(), b',' | b'}' | b']' | b' ' | b'\r' | b'\n') {
            return None;
        }
        let value = i64::try_from(value).ok()?;
        self.at = next.at;
        Some(if negative { -value } else { value })
    }

    /// Goes past any value, checking its grammar.
    #[inline(always)]
    pub fn skip(&mut self) -> Outcome {
        self.blanks();
        if self.peek() == b'"' { self.string().map(|_| ()) } else { self.skip_within(0) }
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

/// How many of a word's bytes are digits before the first that isn't.
#[inline(always)]
fn leading_digits(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // A byte above 9 gets its high bit set, or has it; the carry of such a byte only reaches those after it.
    let x = word ^ (ONES * 0x30);
    ((x.wrapping_add(ONES * 0x76) | x) & (ONES * 0x80)).trailing_zeros() as usize / 8
}

/// The number that the first `count` bytes of a word are the digits of; none if there are none.
#[inline(always)]
fn value_of(word: u64, count: usize) -> Option<u64> {
    // The digits go to the end, zeros before them; then neighbours are put together: pairs, fours, all eight.
    let x = word.checked_shl(64 - 8 * count as u32)? & 0x0F0F_0F0F_0F0F_0F0F;
    let x = (x.wrapping_mul(10 << 8 | 1) >> 8) & 0x00FF_00FF_00FF_00FF;
    let x = (x.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_FFFF_0000_FFFF;
    Some(x.wrapping_mul(10_000 << 32 | 1) >> 32)
}

fn hex4(text: Option<&[u8]>) -> Outcome<u32> {
    let parsed = text.and_then(|t| t.iter().try_fold(0u32, |n, b| (*b as char).to_digit(16).map(|d| n * 16 + d)));
    match parsed {
        Some(n) => Ok(n),
        None => syntax("a \\u escape needs four hexadecimal digits"),
    }
}

/// Appends what the string token stands for to `out`.
#[inline(always)]
pub fn push_str(text: Str, out: &mut Vec<u8>) {
    if text.escaped {
        push_unescaped(text.raw, out);
    } else {
        out.extend_from_slice(text.raw);
    }
}

/// Appends what a string's inside stands for, whose escapes are valid.
#[inline(never)]
fn push_unescaped(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    let code_at = |at: usize| hex4(raw.get(at..at + 4)).unwrap_or_default();
    while let Some(rest) = raw.get(at..).filter(|r| !r.is_empty()) {
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        out.extend_from_slice(rest.get(..plain).unwrap_or_default());
        at += plain;
        let Some(kind) = raw.get(at + 1) else { break };
        at += 2;
        out.push(match kind {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = code_at(at);
                at += 4;
                if (0xD800..0xDC00).contains(&code)
                    && let Some([b'\\', b'u']) = raw.get(at..at + 2)
                {
                    let low = code_at(at + 2);
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
            itself => *itself,
        });
    }
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
                    let marks = Marks::of(&bytes);
                    let (mut one, mut two) = (Scan::new(&bytes, &marks, 0), Scan::new(&bytes, &marks, 0));
                    assert_eq!(one.take_words(&words), two.take(text.as_bytes()), "{text} in {bytes:?}");
                    assert_eq!(one.at, two.at);
                }
            }
        }
    }
}
