//! Dates and times as text: Flink's `SQL` and `ISO-8601` forms, read and written.

/// How a timestamp is written: the option `json.timestamp-format.standard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampStandard {
    /// `yyyy-MM-dd HH:mm:ss[.fraction]`
    Sql,
    /// `yyyy-MM-ddTHH:mm:ss[.fraction]`
    Iso8601,
}

impl TimestampStandard {
    /// What stands between the date and the time.
    fn separator(self) -> u8 {
        match self {
            TimestampStandard::Sql => b' ',
            TimestampStandard::Iso8601 => b'T',
        }
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    let mut n = 0u32;
    for b in text {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n * 10 + u32::from(d);
    }
    Some(n)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible
/// low-level date algorithms").
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = ((month + 9) % 12) as i32;
    let doy = (153 * mp + 2) / 5 + day as i32 - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        _ if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        _ => 28,
    }
}

/// `yyyy-MM-dd` to days since 1970-01-01.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
    let year = digits(&[y0, y1, y2, y3])?;
    let month = digits(&[m0, m1])?;
    let day = digits(&[d0, d1])?;
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_from_civil(year as i32, month, day))
}

/// As [`parse_date`], but months and days may have one digit (java: `java.sql.Date.valueOf`).
pub fn parse_short_date(text: &[u8]) -> Option<i32> {
    let mut parts = text.split(|byte| *byte == b'-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let two = |part: &[u8]| match *part {
        [one] => [b'0', one],
        [one, two] => [one, two],
        _ => [0, 0],
    };
    parse_date(&[year, b"-", &two(month), b"-", &two(day)].concat())
}

/// `HH:mm:ss[.fraction]` (seconds optional if `short`) to seconds of the day and nanoseconds.
pub fn parse_time(text: &[u8], short: bool) -> Option<(u32, u32)> {
    let [h0, h1, b':', m0, m1, rest @ ..] = text else { return None };
    let (hour, minute) = (digits(&[*h0, *h1])?, digits(&[*m0, *m1])?);
    let (second, fraction) = match rest {
        [] if short => (0, &[][..]),
        [b':', s0, s1] => (digits(&[*s0, *s1])?, &[][..]),
        [b':', s0, s1, b'.', fraction @ ..] if !fraction.is_empty() && fraction.len() <= 9 => {
            (digits(&[*s0, *s1])?, fraction)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = digits(fraction)?;
    for _ in fraction.len()..if fraction.is_empty() { 0 } else { 9 } {
        nanos *= 10;
    }
    Some((hour * 3600 + minute * 60 + second, nanos))
}

/// A timestamp to seconds since 1970-01-01 00:00:00 and nanoseconds. With `zulu` the text must end with
/// `Z`, as Flink demands of TIMESTAMP_LTZ; without it must not.
pub fn parse_timestamp(text: &[u8], standard: TimestampStandard, zulu: bool) -> Option<(i64, u32)> {
    let text = if zulu { text.strip_suffix(b"Z")? } else { text };
    let (date, rest) = text.split_at_checked(10)?;
    let (separator, time) = rest.split_first()?;
    if *separator != standard.separator() {
        return None;
    }
    let days = parse_date(date)?;
    let (seconds, nanos) = parse_time(time, standard == TimestampStandard::Iso8601)?;
    Some((i64::from(days) * 86_400 + i64::from(seconds), nanos))
}

/// Reads timestamps, most of which are of the same day as the one before.
#[derive(Debug, Default)]
pub struct Dates {
    /// A date as it was written, and where it begins in seconds since 1970.
    last: Option<([u8; 10], i64)>,
}

impl Dates {
    /// [`parse_timestamp`] in the unit of [`to_unit`], of a text without blanks around it and with seconds. `None`
    /// says that the text isn't so plain, or no timestamp.
    #[inline(always)]
    pub fn timestamp(&mut self, text: &[u8], standard: TimestampStandard, zulu: bool, precision: u8) -> Option<i64> {
        let (date, rest) = text.split_first_chunk::<10>()?;
        let (separator, rest) = rest.split_first()?;
        let (time, fraction) = rest.split_first_chunk::<8>()?;
        if *separator != standard.separator() {
            return None;
        }
        let fraction = if zulu { fraction.strip_suffix(b"Z")? } else { fraction };
        let nanos = match fraction {
            [] => 0,
            [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
                let mut nanos = 0;
                let mut unit = 100_000_000;
                for digit in digits {
                    let digit = digit.wrapping_sub(b'0');
                    if digit > 9 {
                        return None;
                    }
                    nanos += u32::from(digit) * unit;
                    unit /= 10;
                }
                nanos
            }
            _ => return None,
        };
        let midnight = match self.last {
            Some((last, midnight)) if last == *date => midnight,
            _ => {
                let midnight = i64::from(parse_date(date)?) * 86_400;
                self.last = Some((*date, midnight));
                midnight
            }
        };
        to_unit(midnight + seconds_of_day(*time)?, nanos, precision)
    }
}

/// `HH:mm:ss` to seconds of the day.
#[inline(always)]
fn seconds_of_day(text: [u8; 8]) -> Option<i64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // What is left of digits is their value, of colons zero.
    let x = u64::from_le_bytes(text) ^ u64::from_le_bytes(*b"00:00:00");
    let above_9 = x.wrapping_add(ONES * 0x76) | x;
    if above_9 & (ONES * 0x80) != 0 || x & 0x0000_FF00_00FF_0000 != 0 {
        return None;
    }
    let [h1, h0, _, m1, m0, _, s1, s0] = x.to_le_bytes().map(i64::from);
    let (hour, minute, second) = (10 * h1 + h0, 10 * m1 + m0, 10 * s1 + s0);
    (hour <= 23 && minute <= 59 && second <= 59).then_some(hour * 3600 + minute * 60 + second)
}

/// Brings seconds and nanoseconds to the unit that carries `TIMESTAMP(precision)`, cut to that precision.
/// `None` if it doesn't fit.
#[inline]
pub fn to_unit(seconds: i64, nanos: u32, precision: u8) -> Option<i64> {
    let nanos = i64::from(match precision {
        // The unit cuts it.
        3 | 6 | 9.. => nanos,
        _ => {
            let step = 10u32.pow(9 - u32::from(precision));
            nanos / step * step
        }
    });
    match precision {
        0..=3 => seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000),
        4..=6 => seconds.checked_mul(1_000_000)?.checked_add(nanos / 1000),
        _ => seconds.checked_mul(1_000_000_000)?.checked_add(nanos),
    }
}

/// The inverse of [`to_unit`].
pub fn from_unit(value: i64, precision: u8) -> (i64, u32) {
    let per_second = match precision {
        0..=3 => 1000,
        4..=6 => 1_000_000,
        _ => 1_000_000_000,
    };
    (value.div_euclid(per_second), (value.rem_euclid(per_second) * (1_000_000_000 / per_second)) as u32)
}

fn push_padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let text = format_args!("{value:0width$}").to_string();
    out.extend_from_slice(text.as_bytes());
}

fn push_two(out: &mut Vec<u8>, value: u32) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// Writes `yyyy-MM-dd`.
pub fn push_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        push_two(out, year as u32 / 100);
        push_two(out, year as u32 % 100);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        push_padded(out, year.unsigned_abs() as u32, 4);
    }
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// Writes `HH:mm:ss` and as many digits of the fraction as are not zero.
pub fn push_time(out: &mut Vec<u8>, seconds: u32, nanos: u32) {
    push_two(out, seconds / 3600);
    out.push(b':');
    push_two(out, seconds / 60 % 60);
    out.push(b':');
    push_two(out, seconds % 60);
    if nanos != 0 {
        out.push(b'.');
        let (mut rest, mut step) = (nanos, 100_000_000);
        while rest != 0 {
            out.push(b'0' + (rest / step) as u8);
            rest %= step;
            step /= 10;
        }
    }
}

/// Writes a timestamp; `zulu` adds the `Z` of TIMESTAMP_LTZ.
pub fn push_timestamp(out: &mut Vec<u8>, value: i64, precision: u8, standard: TimestampStandard, zulu: bool) {
    let (seconds, nanos) = from_unit(value, precision);
    push_date(out, seconds.div_euclid(86_400));
    out.push(standard.separator());
    push_time(out, seconds.rem_euclid(86_400) as u32, nanos);
    if zulu {
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_come_back_as_they_were_written() {
        for (text, standard, zulu) in [
            ("2024-02-29 23:59:59.123456789", TimestampStandard::Sql, false),
            ("1969-12-31T23:59:59.5Z", TimestampStandard::Iso8601, true),
            ("0001-01-01 00:00:00", TimestampStandard::Sql, false),
        ] {
            let (seconds, nanos) = parse_timestamp(text.as_bytes(), standard, zulu).unwrap();
            let precision = if nanos.is_multiple_of(1_000_000) { 3 } else { 9 };
            let mut out = Vec::new();
            push_timestamp(&mut out, to_unit(seconds, nanos, precision).unwrap(), precision, standard, zulu);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn timestamps_are_read_the_same_whatever_came_before() {
        let mut dates = Dates::default();
        let text = "2024-02-29 23:59:59.123456789Z";
        let mut texts: Vec<Vec<u8>> = (0..=text.len()).map(|end| text.as_bytes()[..end].to_vec()).collect();
        for at in 0..text.len() {
            for byte in [b'0', b'3', b'6', b'9', b':', b'/', b';', b' ', b'T', b'Z', 0x80, 0xB0, 0xFF] {
                for end in [text.len() - 1, text.len(), 19, 20, 23] {
                    let mut damaged = text.as_bytes().to_vec();
                    damaged[at] = byte;
                    damaged.truncate(end);
                    texts.push(damaged);
                }
            }
        }
        for text in texts {
            for standard in [TimestampStandard::Sql, TimestampStandard::Iso8601] {
                for (zulu, precision) in [(false, 0), (false, 3), (true, 3), (false, 5), (true, 6), (false, 9)] {
                    let wanted = parse_timestamp(&text, standard, zulu).and_then(|(s, n)| to_unit(s, n, precision));
                    let found = dates.timestamp(&text, standard, zulu, precision);
                    // Without seconds, as ISO-8601 allows, it isn't plain enough.
                    let short = text.len() < 19 && found.is_none();
                    assert!(found == wanted || short, "{found:?}, not {wanted:?}: {}", text.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn days_agree_with_chrono() {
        for days in (-800_000..800_000).step_by(97) {
            let (y, m, d) = civil_from_days(days);
            let date = chrono::NaiveDate::from_ymd_opt(y as i32, m, d).unwrap();
            let since = date.signed_duration_since(chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap());
            assert_eq!(since.num_days(), days);
            assert_eq!(i64::from(days_from_civil(y as i32, m, d)), days);
        }
    }

    #[test]
    fn impossible_dates_and_wrong_forms_are_refused() {
        for text in ["2023-02-29", "2023-13-01", "2023-1-01", "20230101", "2023-00-10"] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_short_date(b"2023-1-2"), parse_date(b"2023-01-02"));
        for text in ["2023-2-29", "2023-1", "2023--1", "2023-1-2-3", "23-1-2", "2023-001-2", "2023-+1-2"] {
            assert_eq!(parse_short_date(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_timestamp(b"2023-01-01T00:00:00", TimestampStandard::Sql, false), None);
        assert_eq!(parse_timestamp(b"2023-01-01 00:00:00", TimestampStandard::Sql, true), None);
        assert_eq!(parse_timestamp(b"2023-01-01 24:00:00", TimestampStandard::Sql, false), None);
    }
}
