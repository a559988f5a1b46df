//! The older date patterns of Java (`java.text.SimpleDateFormat`), which Flink still uses where text goes in or out:
//! fields may have fewer digits than letters, values out of range count on, text after the match is ignored.

use super::pattern::{DAYS, MONTHS, Piece, pieces};
use crate::calendar::{DAY_MS, civil, day_of_year, days, iso_weekday};
use crate::print;
use millstream_core::types::SessionZone;
use std::fmt::Write;

/// The letters that are known.
const LETTERS: &str = "GyMLdDEuaHkKhmsSzZX";

/// The pattern of timestamps unless another is given.
pub(super) const TIMESTAMP: &str = "yyyy-MM-dd HH:mm:ss";

/// A pattern that has been read.
pub(super) struct SimpleDate(Vec<Piece>);

impl SimpleDate {
    /// `None` if it is invalid.
    pub fn compile(pattern: &str) -> Option<SimpleDate> {
        pieces(pattern, LETTERS).map(SimpleDate)
    }

    /// Writes the instant `utc_ms` as `zone` shows it.
    pub fn format(&self, out: &mut String, utc_ms: i64, zone: &SessionZone) {
        format(out, &self.0, utc_ms, zone);
    }

    /// The instant that `text` stands for, milliseconds since 1970 UTC; read in `zone` unless the text names an offset.
    /// `None` if the text doesn't match the pattern.
    pub fn parse(&self, text: &str, zone: &SessionZone) -> Option<i64> {
        parse(text, &self.0, zone)
    }
}

fn format(out: &mut String, pieces: &[Piece], utc_ms: i64, zone: &SessionZone) {
    let ms = zone.to_local_ms(utc_ms);
    let day = ms.div_euclid(DAY_MS);
    let (year, month, of_month) = civil(day);
    let clock = ms.rem_euclid(DAY_MS);
    let hour = clock / 3_600_000;
    for piece in pieces {
        let (field, n) = match piece {
            Piece::Field(field, n) => (*field, *n),
            Piece::Text(text) => {
                out.push_str(text);
                continue;
            }
            // Brackets are plain text to these patterns.
            Piece::Optional(_) => continue,
        };
        let value = match field {
            'G' => {
                out.push_str(if year > 0 { "AD" } else { "BC" });
                continue;
            }
            'y' if n == 2 => year.rem_euclid(100),
            'y' => year,
            'M' | 'L' if n >= 3 => {
                let name = MONTHS[month as usize - 1];
                out.push_str(if n == 3 { &name[..3] } else { name });
                continue;
            }
            'M' | 'L' => month,
            'd' => of_month,
            'D' => day_of_year(day),
            'u' => iso_weekday(day),
            'E' => {
                let name = DAYS[iso_weekday(day) as usize - 1];
                out.push_str(if n <= 3 { &name[..3] } else { name });
                continue;
            }
            'a' => {
                out.push_str(if hour < 12 { "AM" } else { "PM" });
                continue;
            }
            'H' => hour,
            'k' => (hour + 23) % 24 + 1,
            'K' => hour % 12,
            'h' => (hour + 11) % 12 + 1,
            'm' => clock / 60_000 % 60,
            's' => clock / 1000 % 60,
            'S' => clock % 1000,
            _ => {
                write_offset(out, field, n, zone.offset_seconds_at(utc_ms));
                continue;
            }
        };
        print::push_padded(out, value, n);
    }
}

fn write_offset(out: &mut String, field: char, n: usize, seconds: i32) {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let _ = match (field, n) {
        ('X', _) if seconds == 0 => write!(out, "Z"),
        ('z', _) if seconds == 0 => write!(out, "UTC"),
        ('z', _) => write!(out, "GMT{sign}{hours:02}:{minutes:02}"),
        ('X', 1) => write!(out, "{sign}{hours:02}"),
        ('X', 3) => write!(out, "{sign}{hours:02}:{minutes:02}"),
        _ => write!(out, "{sign}{hours:02}{minutes:02}"),
    };
}

fn parse(text: &str, pieces: &[Piece], zone: &SessionZone) -> Option<i64> {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    let (mut of_year, mut half) = (None, 0);
    let (mut hour, mut minute, mut second, mut ms) = (0, 0, 0, 0);
    let mut offset = None;
    let mut rest = text;
    for (i, piece) in pieces.iter().enumerate() {
        let (field, n) = match piece {
            Piece::Field(field, n) => (*field, *n),
            Piece::Text(text) => {
                rest = rest.strip_prefix(text.as_str())?;
                continue;
            }
            Piece::Optional(_) => return None,
        };
        rest = rest.trim_start_matches([' ', '\t']);
        let word = |names: &[&str], short: usize| {
            let full = names.iter().position(|m| rest.get(..m.len()).is_some_and(|r| r.eq_ignore_ascii_case(m)));
            full.map(|at| (at, names[at].len())).or_else(|| {
                let at =
                    names.iter().position(|m| rest.get(..short).is_some_and(|r| r.eq_ignore_ascii_case(&m[..short])));
                at.map(|at| (at, short))
            })
        };
        match field {
            'M' | 'L' if n >= 3 => {
                let (at, length) = word(&MONTHS, 3)?;
                month = at as i64 + 1;
                rest = &rest[length..];
                continue;
            }
            'E' => {
                rest = &rest[word(&DAYS, 3)?.1..];
                continue;
            }
            'a' => {
                half = word(&["AM", "PM"], 2)?.0 as i64 * 12;
                rest = &rest[2..];
                continue;
            }
            'G' => {
                rest = rest.strip_prefix("AD")?;
                continue;
            }
            'z' | 'Z' | 'X' => {
                let (seconds, after) = read_offset(rest)?;
                offset = Some(seconds);
                rest = after;
                continue;
            }
            _ => {}
        }
        // Only where another number follows at once do the letters say how many digits there are.
        let next = pieces.get(i + 1);
        let adjoins =
            matches!(next, Some(Piece::Field(c, m)) if !("EaGzZX".contains(*c) || "ML".contains(*c) && *m > 2));
        let sign = usize::from(!adjoins && rest.starts_with('-'));
        let most = if adjoins { n } else { 9 };
        let digits = rest.bytes().skip(sign).take(most).take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let (number, after) = rest.split_at(sign + digits);
        let value: i64 = number.parse().ok()?;
        rest = after;
        match field {
            'y' => year = if n <= 2 && digits == 2 { near_now(value) } else { value },
            'M' | 'L' => month = value,
            'd' => day = value,
            'D' => of_year = Some(value),
            'H' => hour = value,
            'k' => hour = value % 24,
            'K' | 'h' => hour = value % 12,
            'm' => minute = value,
            's' => second = value,
            'S' => ms = value,
            _ => {}
        }
    }
    let months = year * 12 + month - 1;
    let date = match of_year {
        Some(n) => days(year, 1, 1) + n - 1,
        None => days(months.div_euclid(12), months.rem_euclid(12) + 1, 1) + day - 1,
    };
    let local = date * DAY_MS + (((hour + half) * 60 + minute) * 60 + second) * 1000 + ms;
    Some(match offset {
        Some(seconds) => local - seconds * 1000,
        None => {
            // When clocks go back, the later of the two instants: the one in standard time.
            let (first, later) = (zone.to_utc_ms(local), zone.to_utc_ms(local) + 3_600_000);
            if zone.to_local_ms(later) == local { later } else { first }
        }
    })
}

/// A year of two digits: of this century up to twenty years ahead, else of the last.
fn near_now(year: i64) -> i64 {
    if year <= 45 { 2000 + year } else { 1900 + year }
}

/// Seconds east of `Z`, `+08`, `+0800`, `+08:00`, `GMT+08:00`, and what follows.
fn read_offset(text: &str) -> Option<(i64, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some((0, rest));
    }
    let named = ["GMT", "UTC"].iter().find_map(|name| text.strip_prefix(name));
    let rest = named.unwrap_or(text);
    let sign = match rest.chars().next() {
        Some('+') => 1,
        Some('-') => -1,
        _ => return named.map(|rest| (0, rest)),
    };
    let digits = rest.get(1..)?;
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let after = digits.get(2..)?;
    let tail = after.strip_prefix(':').unwrap_or(after);
    match tail.get(..2).and_then(|m| m.parse::<i64>().ok()) {
        Some(minutes) => Some((sign * (hours * 3600 + minutes * 60), tail.get(2..)?)),
        None => Some((sign * hours * 3600, after)),
    }
}
