//! The proleptic Gregorian calendar: days since 1970 to and from years, months, days and ISO weeks.

/// Milliseconds in a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// (year, month 1 to 12, day 1 to 31) of a day since 1970-01-01.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The day since 1970-01-01 of a date; a day beyond the month's end counts on.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The number of days of a month.
pub(crate) fn month_length(year: i64, month: i64) -> i64 {
    let (y, m) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(y, m, 1) - days(year, month, 1)
}

/// The day `months` months after; clamped to the month's end.
pub(crate) fn add_months(day: i64, months: i64) -> i64 {
    let (y, m, d) = civil(day);
    let total = y * 12 + m - 1 + months;
    let (y, m) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    days(y, m, d.min(month_length(y, m)))
}

/// Monday 1 to Sunday 7.
pub(crate) fn iso_weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7) + 1
}

/// (ISO year, ISO week).
pub(crate) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - iso_weekday(day) + 4;
    let year = civil(thursday).0;
    (year, (thursday - days(year, 1, 1)) / 7 + 1)
}

/// The day within its year, from 1.
pub(crate) fn day_of_year(day: i64) -> i64 {
    day - days(civil(day).0, 1, 1) + 1
}

/// Whole months from `a` to `b`, instants in milliseconds, counted as Calcite's `subtractMonths` does: by days, and one
/// less if the days match and the time of day isn't reached.
pub(crate) fn months_between(a: i64, b: i64) -> i64 {
    let (from, to) = (a.div_euclid(DAY_MS), b.div_euclid(DAY_MS));
    let months = if from <= to { months_of_days(from, to) } else { -months_of_days(to, from) };
    let reached = add_months(from, months) == to && b.rem_euclid(DAY_MS) < a.rem_euclid(DAY_MS);
    months - i64::from(reached)
}

/// Whole months from a day to a later one.
fn months_of_days(from: i64, to: i64) -> i64 {
    let ((y1, m1, _), (y2, m2, _)) = (civil(from), civil(to));
    let months = (y2 - y1) * 12 + m2 - m1;
    months - i64::from(add_months(from, months) > to)
}
