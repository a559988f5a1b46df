//! Java's date and time patterns (`java.time.format.DateTimeFormatter`), as far as they are numeric or English.

use crate::calendar::{DAY_MS, civil, day_of_year, days, iso_weekday, month_length};
use crate::print;
use millstream_core::types::SessionZone;
use std::iter::Peekable;
use std::str::Chars;

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A part of a pattern.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    /// A letter and how often it stands there.
    Field(char, usize),
    /// What stands in brackets: may be missing when reading.
    Optional(Vec<Piece>),
}

/// Reads a pattern whose letters are among `letters`; `None` if it is invalid.
pub(super) fn pieces(pattern: &str, letters: &str) -> Option<Vec<Piece>> {
    let mut chars = pattern.chars().peekable();
    let out = sequence(&mut chars, letters, false)?;
    chars.next().is_none().then_some(out)
}

fn sequence(chars: &mut Peekable<Chars<'_>>, letters: &str, nested: bool) -> Option<Vec<Piece>> {
    let mut out = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let mut text = String::new();
                loop {
                    match chars.next()? {
                        '\'' if chars.peek() == Some(&'\'') => {
                            chars.next();
                            text.push('\'');
                        }
                        '\'' => break,
                        c => text.push(c),
                    }
                }
                out.push(Piece::Text(if text.is_empty() { "'".to_string() } else { text }));
            }
            '[' if letters.contains('[') => out.push(Piece::Optional(sequence(chars, letters, true)?)),
            ']' if nested => return Some(out),
            c if c.is_ascii_alphabetic() => {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if !letters.contains(c) {
                    return None;
                }
                out.push(Piece::Field(c, count));
            }
            c => out.push(Piece::Text(c.to_string())),
        }
    }
    (!nested).then_some(out)
}

/// The letters of `DateTimeFormatter` that are known.
const LETTERS: &str = "GyuYQqMLdHhkKmsSAnNaEecDFwW[XxZzVO";
/// Those of zones and offsets: read, and without effect on a local time, which has none to be written.
const ZONES: &str = "XxZzVO";

/// A pattern that has been read.
pub(super) struct Pattern(Vec<Piece>);

impl Pattern {
    /// A pattern to read with; `None` if it is invalid.
    pub fn to_read(pattern: &str) -> Option<Pattern> {
        pieces(pattern, LETTERS).map(Pattern)
    }

    /// A pattern to write with; `None` if it is invalid, or of what a local time doesn't have.
    pub fn to_write(pattern: &str) -> Option<Pattern> {
        let known = LETTERS.strip_suffix(ZONES).unwrap_or(LETTERS);
        pieces(pattern, known).map(Pattern)
    }

    /// Writes a local time.
    pub fn format(&self, out: &mut String, ms: i64, nanos: i64) {
        write_pieces(out, &self.0, &Moment::new(ms, nanos));
    }

    /// Reads a local time: (milliseconds, nanoseconds beyond). A day beyond its month's end is its end; what the pattern
    /// doesn't name is that of 1970-01-01 00:00:00. `None` if the text doesn't match as a whole.
    pub fn parse(&self, text: &str) -> Option<(i64, i64)> {
        let mut p = Parsed { year: 1970, month: 1, day: 1, ..Parsed::default() };
        let rest = read_pieces(text, &self.0, &mut p)?;
        let of_clock = p.hour < 24 && p.minute < 60 && p.second < 60;
        if !(rest.is_empty() && of_clock && (1..=12).contains(&p.month) && (1..=31).contains(&p.day)) {
            return None;
        }
        let date = match p.of_year {
            Some(n) => days(p.year, 1, 1) + n - 1,
            None => days(p.year, p.month, p.day.min(month_length(p.year, p.month))),
        };
        let clock = (((p.hour + p.half) * 60 + p.minute) * 60 + p.second) * 1000;
        Some((date * DAY_MS + clock + p.nanos / 1_000_000, p.nanos % 1_000_000))
    }
}

/// A local time taken apart.
struct Moment {
    day: i64,
    year: i64,
    month: i64,
    of_month: i64,
    /// Milliseconds of the day.
    clock: i64,
    /// Nanoseconds of the second.
    fraction: i64,
}

impl Moment {
    fn new(ms: i64, nanos: i64) -> Self {
        let day = ms.div_euclid(DAY_MS);
        let (year, month, of_month) = civil(day);
        let clock = ms.rem_euclid(DAY_MS);
        Moment { day, year, month, of_month, clock, fraction: clock % 1000 * 1_000_000 + nanos }
    }
}

fn write_pieces(out: &mut String, pieces: &[Piece], moment: &Moment) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(field, n) => write_field(out, *field, *n, moment),
            Piece::Optional(inner) => write_pieces(out, inner, moment),
        }
    }
}

fn write_field(out: &mut String, field: char, n: usize, moment: &Moment) {
    let Moment { day, year, month, of_month, clock, fraction } = *moment;
    let hour = clock / 3_600_000;
    let quarter = (month + 2) / 3;
    let value = match field {
        'y' | 'u' if n == 2 => year.rem_euclid(100),
        'y' | 'u' => year,
        'Q' | 'q' if n == 3 => {
            out.push('Q');
            return print::push_padded(out, quarter, 1);
        }
        'Q' | 'q' => quarter,
        'M' | 'L' if n >= 3 => {
            let name = MONTHS[month as usize - 1];
            return out.push_str(shortened(name, n));
        }
        'M' | 'L' => month,
        'd' => of_month,
        'D' => day_of_year(day),
        'Y' if n == 2 => us_week(day).0.rem_euclid(100),
        'Y' => us_week(day).0,
        'w' => us_week(day).1,
        'W' => (of_month - 1 + iso_weekday(day - of_month + 1) % 7) / 7 + 1,
        'F' => (of_month - 1) % 7 + 1,
        'H' => hour,
        'k' => (hour + 23) % 24 + 1,
        'h' => (hour + 11) % 12 + 1,
        'K' => hour % 12,
        'm' => clock / 60_000 % 60,
        's' => clock / 1000 % 60,
        'A' => clock,
        'N' => clock / 1000 * 1_000_000_000 + fraction,
        'n' => fraction,
        'S' => {
            let n = n.min(9);
            return print::push_padded(out, fraction / 10i64.pow(9 - n as u32), n);
        }
        'G' => return out.push_str(if year > 0 { "AD" } else { "BC" }),
        'a' => return out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'e' | 'c' if n < 3 => iso_weekday(day) % 7 + 1,
        _ => {
            return out.push_str(shortened(DAYS[iso_weekday(day) as usize - 1], n));
        }
    };
    print::push_padded(out, value, n);
}

/// A name as so many letters of a pattern want it.
fn shortened(name: &str, letters: usize) -> &str {
    match letters {
        0..=3 => &name[..3],
        5 => &name[..1],
        _ => name,
    }
}

/// The year and week as in the United States: from Sunday, the first has 1 January.
fn us_week(day: i64) -> (i64, i64) {
    let sunday = day - iso_weekday(day) % 7;
    let year = civil(sunday + 6).0;
    let first = days(year, 1, 1);
    (year, (sunday - (first - iso_weekday(first) % 7)) / 7 + 1)
}

/// What has been read so far.
#[derive(Clone, Default)]
struct Parsed {
    year: i64,
    month: i64,
    day: i64,
    of_year: Option<i64>,
    hour: i64,
    /// The hours that AM or PM adds.
    half: i64,
    minute: i64,
    second: i64,
    nanos: i64,
}

fn read_pieces<'t>(text: &'t str, pieces: &[Piece], p: &mut Parsed) -> Option<&'t str> {
    let mut rest = text;
    for piece in pieces {
        rest = match piece {
            Piece::Text(text) => rest.strip_prefix(text.as_str())?,
            Piece::Field(field, n) => read_field(rest, *field, *n, p)?,
            Piece::Optional(inner) => {
                let mut attempt = p.clone();
                match read_pieces(rest, inner, &mut attempt) {
                    Some(after) => {
                        *p = attempt;
                        after
                    }
                    None => rest,
                }
            }
        };
    }
    Some(rest)
}

fn read_field<'t>(rest: &'t str, field: char, n: usize, p: &mut Parsed) -> Option<&'t str> {
    match field {
        'a' => {
            p.half = match rest.get(..2)? {
                "AM" => 0,
                "PM" => 12,
                _ => return None,
            };
            return rest.get(2..);
        }
        'G' => return rest.strip_prefix("AD"),
        'E' => {
            let name = DAYS.iter().map(|d| if n <= 3 { &d[..3] } else { d }).find(|d| rest.starts_with(d))?;
            return rest.get(name.len()..);
        }
        'M' | 'L' if n >= 3 => {
            let names = MONTHS.iter().map(|m| if n == 3 { &m[..3] } else { m });
            let (i, name) = names.enumerate().find(|(_, m)| rest.starts_with(m))?;
            p.month = i as i64 + 1;
            return rest.get(name.len()..);
        }
        'X' | 'x' | 'Z' | 'z' | 'V' | 'O' => return read_zone(rest, field, n),
        _ => {}
    }
    let most = if n == 1 { 9 } else { n };
    let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if digits == 0 || (n > 1 && digits < n) {
        return None;
    }
    let (number, after) = rest.split_at(digits);
    let value: i64 = number.parse().ok()?;
    match field {
        'y' | 'u' => p.year = if n == 2 { 2000 + value } else { value },
        'M' | 'L' => p.month = value,
        'd' => p.day = value,
        'D' => p.of_year = Some(value),
        'H' => p.hour = value,
        'k' | 'h' | 'K' => p.hour = value % if field == 'k' { 24 } else { 12 },
        'm' => p.minute = value,
        's' => p.second = value,
        'S' => p.nanos = crate::parse::nanos_of(number),
        _ => return None,
    }
    Some(after)
}

/// What follows a zone or an offset, of which a local time keeps nothing (as in Flink).
fn read_zone(rest: &str, field: char, n: usize) -> Option<&str> {
    match (field, n) {
        ('X', 1..=5) | ('Z', 5) if rest.starts_with('Z') => rest.get(1..),
        ('X' | 'x', 1..=5) | ('Z', 5) => read_offset(rest, n),
        ('Z', 1..=3) => read_offset(rest, 2),
        ('Z', 4) | ('O', _) => {
            let rest = rest.strip_prefix("GMT")?;
            let Some(hours) = rest.strip_prefix(['+', '-']) else { return Some(rest) };
            let digits = hours.bytes().take(2).take_while(u8::is_ascii_digit).count();
            let after = hours.get(digits..).filter(|_| digits > 0)?;
            Some(after.strip_prefix(':').and_then(two_digits).unwrap_or(after))
        }
        ('z', _) | ('V', 2) => {
            let in_name = |c: char| c.is_ascii_alphanumeric() || "/_+-:".contains(c);
            let (name, after) = rest.split_at(rest.find(|c| !in_name(c)).unwrap_or(rest.len()));
            let is_short = field == 'z' && name.len() > 1 && name.bytes().all(|b| b.is_ascii_uppercase());
            (name == "Z" || is_short || name.parse::<SessionZone>().is_ok()).then_some(after)
        }
        _ => None,
    }
}

/// What follows an offset that is written as so many letters `x` want it.
fn read_offset(rest: &str, letters: usize) -> Option<&str> {
    let hours = two_digits(rest.strip_prefix(['+', '-'])?)?;
    let next =
        |rest| if letters == 3 || letters == 5 { two_digits(str::strip_prefix(rest, ':')?) } else { two_digits(rest) };
    match letters {
        1 => Some(next(hours).unwrap_or(hours)),
        2 | 3 => next(hours),
        _ => next(hours).map(|minutes| next(minutes).unwrap_or(minutes)),
    }
}

fn two_digits(rest: &str) -> Option<&str> {
    let digits = rest.get(..2)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| &rest[2..])
}
