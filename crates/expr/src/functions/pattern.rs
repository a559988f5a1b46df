//! Java's date and time patterns (`java.time.format.DateTimeFormatter`), as far as they are numeric or English.

use crate::calendar::{DAY_MS, civil, day_of_year, days, iso_weekday, month_length};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

const MONTHS: [&str; 12] = [
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
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

enum Piece {
    Text(String),
    Field(char, usize),
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut out = Vec::new();
    let mut chars: Peekable<Chars<'_>> = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
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
        } else if c.is_ascii_alphabetic() {
            let mut count = 1;
            while chars.next_if_eq(&c).is_some() {
                count += 1;
            }
            if !"yuMLdHhkKmsSaEDn".contains(c) {
                return None;
            }
            out.push(Piece::Field(c, count));
        } else {
            out.push(Piece::Text(c.to_string()));
        }
    }
    Some(out)
}

/// Writes a local time; `None` if the pattern isn't known.
pub(super) fn format(out: &mut String, pattern: &str, ms: i64, nanos: i64) -> Option<()> {
    let day = ms.div_euclid(DAY_MS);
    let (year, month, of_month) = civil(day);
    let clock = ms.rem_euclid(DAY_MS);
    let hour = clock / 3_600_000;
    let fraction = clock % 1000 * 1_000_000 + nanos;
    for piece in pieces(pattern)? {
        let (field, n) = match piece {
            Piece::Text(text) => {
                out.push_str(&text);
                continue;
            }
            Piece::Field(field, n) => (field, n),
        };
        let value = match field {
            'y' | 'u' if n == 2 => year.rem_euclid(100),
            'y' | 'u' => year,
            'M' | 'L' if n >= 3 => {
                let name = MONTHS[month as usize - 1];
                out.push_str(if n == 3 { &name[..3] } else { name });
                continue;
            }
            'M' | 'L' => month,
            'd' => of_month,
            'D' => day_of_year(day),
            'H' => hour,
            'k' => {
                if hour == 0 {
                    24
                } else {
                    hour
                }
            }
            'h' => (hour + 11) % 12 + 1,
            'K' => hour % 12,
            'm' => clock / 60_000 % 60,
            's' => clock / 1000 % 60,
            'n' => fraction,
            'S' => {
                let digits = format!("{fraction:09}");
                out.push_str(digits.get(..n.min(9)).unwrap_or(&digits));
                continue;
            }
            'a' => {
                out.push_str(if hour < 12 { "AM" } else { "PM" });
                continue;
            }
            _ => {
                let name = DAYS[iso_weekday(day) as usize - 1];
                out.push_str(if n <= 3 { &name[..3] } else { name });
                continue;
            }
        };
        let _ = write!(out, "{value:0n$}");
    }
    Some(())
}

/// Reads a local time: (milliseconds, nanoseconds beyond). A day beyond its month's end is its end; what the pattern
/// doesn't name is that of 1970-01-01 00:00:00. `None` if the text doesn't match as a whole.
pub(super) fn parse(text: &str, pattern: &str) -> Option<(i64, i64)> {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    let (mut hour, mut minute, mut second, mut nanos) = (0, 0, 0, 0);
    let (mut half, mut of_year) = (None, None);
    let mut rest = text;
    for piece in pieces(pattern)? {
        let (field, n) = match piece {
            Piece::Text(text) => {
                rest = rest.strip_prefix(text.as_str())?;
                continue;
            }
            Piece::Field(field, n) => (field, n),
        };
        match field {
            'a' => {
                half = match rest.get(..2)? {
                    "AM" => Some(0),
                    "PM" => Some(12),
                    _ => return None,
                };
                rest = &rest[2..];
                continue;
            }
            'E' => {
                let name = DAYS.iter().map(|d| if n <= 3 { &d[..3] } else { d }).find(|d| rest.starts_with(d))?;
                rest = &rest[name.len()..];
                continue;
            }
            'M' | 'L' if n >= 3 => {
                let names = MONTHS.iter().map(|m| if n == 3 { &m[..3] } else { m });
                let (i, name) = names.enumerate().find(|(_, m)| rest.starts_with(m))?;
                month = i as i64 + 1;
                rest = &rest[name.len()..];
                continue;
            }
            _ => {}
        }
        let most = if n == 1 { 9 } else { n };
        let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if digits == 0 || (n > 1 && digits < n) {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        rest = after;
        let value: i64 = number.parse().ok()?;
        match field {
            'y' | 'u' => year = if n == 2 { 2000 + value } else { value },
            'M' | 'L' => month = value,
            'd' => day = value,
            'D' => of_year = Some(value),
            'H' => hour = value,
            'k' | 'h' | 'K' => hour = value % if field == 'k' { 24 } else { 12 },
            'm' => minute = value,
            's' => second = value,
            'S' => nanos = crate::parse::nanos_of(number),
            _ => return None,
        }
    }
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !rest.is_empty() || !valid {
        return None;
    }
    let date = match of_year {
        Some(n) => days(year, 1, 1) + n - 1,
        None => days(year, month, day.min(month_length(year, month))),
    };
    let clock = (((hour + half.unwrap_or(0)) * 60 + minute) * 60 + second) * 1000;
    Some((date * DAY_MS + clock + nanos / 1_000_000, nanos % 1_000_000))
}
