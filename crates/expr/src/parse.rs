//! Text to values, with the leniency of Flink's casts.

use crate::calendar::{DAY_MS, days, month_length};

fn number(text: &str, max: usize) -> Option<i64> {
    let ok = !text.is_empty() && text.len() <= max && text.bytes().all(|b| b.is_ascii_digit());
    if ok { text.parse().ok() } else { None }
}

/// An integer, blanks around it aside; a fraction is cut off, an exponent is not taken.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_matches(' ');
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1i128, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty() && digits != ".")
        || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let value: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    i64::try_from(sign * value).ok()
}

/// As Java's `Double.parseDouble`.
pub(crate) fn double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c <= ' ');
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-')) {
        return None;
    }
    let bare = text.trim_start_matches(['+', '-']);
    if bare.starts_with(|c: char| c.is_alphabetic()) { None } else { text.parse().ok() }
}

/// t, true, y, yes, 1 and their opposites, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Days since 1970 of `y[-m[-d]]`; what follows a blank is ignored.
pub(crate) fn date(text: &str) -> Option<i64> {
    let text = match text.find(' ') {
        Some(at) if at > 0 => &text[..at],
        _ => text,
    };
    let mut parts = text.splitn(3, '-');
    let year = number(parts.next()?.trim(), 9)?;
    let month = parts.next().map_or(Some(1), |p| number(p.trim(), 9))?;
    let day = parts.next().map_or(Some(1), |p| number(p.trim(), 9))?;
    let valid = (0..=9999).contains(&year) && (1..=12).contains(&month);
    (valid && (1..=month_length(year, month)).contains(&day)).then(|| days(year, month, day))
}

/// Milliseconds of a day of `h[:m[:s[.fraction]]]`.
pub(crate) fn time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.contains(':') {
        true => text.split_once('.').unwrap_or((text, "")),
        false => (text, ""),
    };
    let mut parts = clock.splitn(3, ':');
    let hour = number(parts.next()?.trim(), 9)?;
    let minute = parts.next().map_or(Some(0), |p| number(p.trim(), 9))?;
    let second = parts.next().map_or(Some(0), |p| number(p.trim(), 9))?;
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1000 + nanos_of(fraction) / 1_000_000)
}

/// Nanoseconds that fraction digits stand for.
pub(crate) fn nanos_of(digits: &str) -> i64 {
    digits.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, b| n * 10 + i64::from(b - b'0'))
}

/// (milliseconds, nanoseconds beyond) of `y-m-d[ h:m:s[.fraction]]`; a day beyond the month's end (to 31) is its end,
/// 24:00:00 the next day.
pub(crate) fn timestamp(text: &str) -> Option<(i64, i64)> {
    let (date, clock) = match text.split_once(' ') {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let (y, m, d) = (number(parts.next()?, 10)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if !(1..=9999).contains(&y) || !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return None;
    }
    let day = days(y, m, d.min(month_length(y, m)));
    let (ms, nanos) = clock.map_or(Some((0, 0)), |c| clock_time(c, false))?;
    Some((day * DAY_MS + ms, nanos))
}

fn clock_time(text: &str, lenient: bool) -> Option<(i64, i64)> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let (h, m, s) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let fits = h < 24 && m < 60 && s < 60 || (h, m, s) == (24, 0, 0);
    if !(fits || lenient) || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = nanos_of(fraction);
    Some((((h * 60 + m) * 60 + s) * 1000 + nanos / 1_000_000, nanos % 1_000_000))
}

/// What `TO_TIMESTAMP(s, format)` falls back to when the format doesn't match: as `java.sql.Timestamp.valueOf`, where
/// a day beyond the month's end counts on into the next.
pub(crate) fn lenient_timestamp(text: &str) -> Option<(i64, i64)> {
    let text = text.trim();
    let (date, clock) = text.split_once(' ').map_or((text, None), |(d, c)| (d, Some(c)));
    let mut parts = date.splitn(3, '-');
    let year = parts.next().filter(|y| y.len() == 4)?;
    let (y, m, d) = (number(year, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return None;
    }
    let (ms, nanos) = clock.map_or(Some((0, 0)), |c| clock_time(c.trim(), true))?;
    Some((days(y, m, d) * DAY_MS + ms, nanos))
}
