//! Functions over dates, times, timestamps.

use super::{Function, fit, plain, special};
use crate::args::{Args, Kernel, boolean, int, text};
use crate::calendar::{self, DAY_MS, civil, days};
use crate::cast::pack;
use crate::functions::{pattern, simple_date};
use crate::node::call;
use crate::{arithmetic, parse};
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result, TypeKind};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// The text of a constant, in capitals: a word argument.
pub(super) fn word(e: &ExprRef) -> Option<String> {
    let value = e.as_literal()?;
    Some(crate::args::view(value).ok()?.str(0)?.to_ascii_uppercase())
}

/// `unit` of a local time in milliseconds; the signs before 1970 are Flink's.
fn part(unit: &str, ms: i64, nanos: i64) -> Option<i64> {
    let day = ms.div_euclid(DAY_MS);
    let (year, month, of_month) = civil(day);
    Some(match unit {
        "YEAR" => year,
        "QUARTER" => (month + 2) / 3,
        "MONTH" => month,
        "WEEK" => calendar::iso_week(day).1,
        "ISOYEAR" => calendar::iso_week(day).0,
        "DAY" => of_month,
        "DOY" => calendar::day_of_year(day),
        "DOW" => calendar::iso_weekday(day) % 7 + 1,
        "ISODOW" => calendar::iso_weekday(day),
        "HOUR" => ms.rem_euclid(DAY_MS) / HOUR_MS,
        "MINUTE" => ms % HOUR_MS / MINUTE_MS,
        "SECOND" => ms % MINUTE_MS / 1000,
        "MILLISECOND" => ms % 1000,
        "MICROSECOND" => ms % 1000 * 1000 + nanos / 1000,
        "NANOSECOND" => ms % 1000 * 1_000_000 + nanos,
        "EPOCH" => ms.div_euclid(1000),
        "DECADE" => year.div_euclid(10),
        "CENTURY" => (year + 99).div_euclid(100),
        "MILLENNIUM" => (year + 999).div_euclid(1000),
        _ => return None,
    })
}

/// The shift from what a value carries to local time.
fn local(is_ltz: bool, zone: &SessionZone, ms: i64) -> i64 {
    if is_ltz { zone.to_local_ms(ms) } else { ms }
}

fn is_ltz(x: &ExprRef) -> bool {
    matches!(x.data_type().kind, TypeKind::TimestampLtz(_))
}

/// `unit` of an interval in months or milliseconds.
fn interval_part(unit: &str, months: bool, v: i64) -> Option<i64> {
    Some(match (unit, months) {
        ("YEAR", true) => v / 12,
        ("QUARTER", true) => v % 12 / 3 + 1,
        ("MONTH", true) => v % 12,
        ("DECADE", true) => v / 120,
        ("CENTURY", true) => v / 1200,
        ("MILLENNIUM", true) => v / 12_000,
        ("DAY", false) => v / DAY_MS,
        ("HOUR", false) => v % DAY_MS / HOUR_MS,
        ("MINUTE", false) => v % HOUR_MS / MINUTE_MS,
        ("SECOND", false) => v % MINUTE_MS / 1000,
        ("MILLISECOND", false) => v % 1000,
        ("EPOCH", false) => v / 1000,
        _ => return None,
    })
}

fn extract(name: &str, unit: &str, x: &ExprRef, zone: &SessionZone) -> Option<ExprRef> {
    let kind = &x.data_type().kind;
    if kind.is_interval() {
        let months = *kind == TypeKind::IntervalYearMonth;
        interval_part(unit, months, 0)?;
        let unit = unit.to_string();
        let out = TypeKind::BigInt.nullable().with_nullable(x.data_type().nullable);
        return Some(call(name, vec![x.clone()], out, int(move |a, i| interval_part(&unit, months, a.int(0, i)?))));
    }
    part(unit, 0, 0)?;
    let clock = matches!(unit, "HOUR" | "MINUTE" | "SECOND" | "MILLISECOND" | "MICROSECOND" | "NANOSECOND");
    let fits = kind.is_timestamp() || (*kind == TypeKind::Date) || (matches!(kind, TypeKind::Time(_)) && clock);
    if !fits {
        return None;
    }
    let (ltz, zone, unit) = (is_ltz(x) && unit != "EPOCH", *zone, unit.to_string());
    let out = TypeKind::BigInt.nullable().with_nullable(x.data_type().nullable);
    let kernel = int(move |a, i| {
        let (ms, nanos) = a.instant(0, i)?;
        part(&unit, local(ltz, &zone, ms), nanos)
    });
    Some(call(name, vec![x.clone()], out, kernel))
}

/// The start of the unit that holds a local time.
fn floor(unit: &str, ms: i64) -> Option<i64> {
    let day = ms.div_euclid(DAY_MS);
    let (year, month, _) = civil(day);
    let start = match unit {
        "MILLENNIUM" => days((year - 1).div_euclid(1000) * 1000 + 1, 1, 1),
        "CENTURY" => days((year - 1).div_euclid(100) * 100 + 1, 1, 1),
        "DECADE" => days(year.div_euclid(10) * 10, 1, 1),
        "YEAR" => days(year, 1, 1),
        "QUARTER" => days(year, (month - 1) / 3 * 3 + 1, 1),
        "MONTH" => days(year, month, 1),
        "WEEK" => day - calendar::iso_weekday(day) % 7,
        "DAY" => day,
        "HOUR" => return Some(ms - ms.rem_euclid(HOUR_MS)),
        "MINUTE" => return Some(ms - ms.rem_euclid(MINUTE_MS)),
        "SECOND" => return Some(ms - ms.rem_euclid(1000)),
        "MILLISECOND" => return Some(ms),
        _ => return None,
    };
    Some(start * DAY_MS)
}

fn next(unit: &str, start: i64) -> Option<i64> {
    let months = |n| Some(calendar::add_months(start.div_euclid(DAY_MS), n) * DAY_MS);
    match unit {
        "MILLENNIUM" => months(12_000),
        "CENTURY" => months(1200),
        "DECADE" => months(120),
        "YEAR" => months(12),
        "QUARTER" => months(3),
        "MONTH" => months(1),
        _ => Some(start + unit_ms(unit)?),
    }
}

fn unit_ms(unit: &str) -> Option<i64> {
    Some(match unit {
        "WEEK" => 7 * DAY_MS,
        "DAY" => DAY_MS,
        "HOUR" => HOUR_MS,
        "MINUTE" => MINUTE_MS,
        "SECOND" => 1000,
        "MILLISECOND" => 1,
        _ => return None,
    })
}

fn unit_months(unit: &str) -> Option<i64> {
    Some(match unit {
        "YEAR" => 12,
        "QUARTER" => 3,
        "MONTH" => 1,
        _ => return None,
    })
}

fn round_to(name: &str, args: &[ExprRef], zone: &SessionZone) -> Option<ExprRef> {
    let [x, unit] = args else { return None };
    let unit = word(unit)?;
    floor(&unit, 0)?;
    let kind = x.data_type().kind.clone();
    if !kind.is_temporal() {
        return None;
    }
    let (ltz, zone, up) = (is_ltz(x), *zone, name == "CEIL_TO");
    let out = x.data_type().clone();
    let kernel = int(move |a, i| {
        let (ms, nanos) = a.instant(0, i)?;
        let at = local(ltz, &zone, ms);
        let start = floor(&unit, at)?;
        let moved = if up && (start < at || nanos > 0) { next(&unit, start)? } else { start };
        let moved = if ltz { zone.to_utc_ms(moved) } else { moved };
        arithmetic::shift(&kind, (moved, 0), 0, 1, false)
    });
    Some(call(name, vec![x.clone()], out, kernel))
}

fn add(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [unit, n, x] = args else { return None };
    let unit = word(unit)?;
    let (scale, months) = match unit_months(&unit) {
        Some(months) => (months, true),
        None => (unit_ms(&unit)?, false),
    };
    let mut out = x.data_type().clone();
    if !(out.kind.is_temporal() && n.data_type().kind.is_integer()) {
        return None;
    }
    if out.kind == TypeKind::Date && !months && scale < DAY_MS {
        out.kind = TypeKind::Timestamp(0);
    }
    out.nullable |= n.data_type().nullable;
    let kind = out.kind.clone();
    let kernel =
        int(move |a, i| arithmetic::shift(&kind, a.instant(1, i)?, a.int(0, i)?.wrapping_mul(scale), 1, months));
    Some(call(name, vec![n.clone(), x.clone()], out, kernel))
}

fn difference(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [unit, x, y] = args else { return None };
    let unit = word(unit)?;
    if !(x.data_type().kind.is_temporal() && y.data_type().kind.is_temporal()) || is_ltz(x) != is_ltz(y) {
        return None;
    }
    let months = unit_months(&unit);
    let ms = unit_ms(&unit);
    months.or(ms)?;
    let out = TypeKind::Int.nullable().with_nullable(x.data_type().nullable || y.data_type().nullable);
    let kernel = int(move |a, i| {
        let (from, to) = (a.instant(0, i)?.0, a.instant(1, i)?.0);
        match months {
            Some(n) => Some(calendar::months_between(from, to) / n),
            None => Some((to - from) / ms?),
        }
    });
    Some(call(name, vec![x.clone(), y.clone()], out, kernel))
}

fn date_format(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let [x, format] = args else { return Ok(None) };
    let kind = &x.data_type().kind;
    if !format.data_type().kind.is_character() || !(kind.is_timestamp() || kind.is_character()) {
        return Ok(None);
    }
    let (ltz, zone) = (is_ltz(x), *zone);
    let kernel = match kind.is_character() {
        true => text(move |a, i, out| {
            let utc_ms = simple_date::parse(a.str(0, i)?, simple_date::TIMESTAMP, &zone)?;
            simple_date::format(out, a.str(1, i)?, utc_ms, &zone)
        }),
        false => text(move |a, i, out| {
            let (ms, nanos) = a.instant(0, i)?;
            pattern::format(out, a.str(1, i)?, local(ltz, &zone, ms), nanos)
        }),
    };
    Ok(Some(call(name, args.to_vec(), TypeKind::STRING.nullable(), kernel)))
}

/// Text by a format, with the fallback of `TO_TIMESTAMP`.
fn read(a: &Args<'_>, i: usize) -> Option<(i64, i64)> {
    let s = a.str(0, i)?;
    if a.len() < 2 {
        return parse::timestamp(s);
    }
    pattern::parse(s, a.str(1, i)?).or_else(|| parse::lenient_timestamp(s))
}

/// A time zone by its name, its offset or one of Java's older abbreviations.
fn named_zone(name: &str) -> Option<SessionZone> {
    let name = match name {
        "PST" => "America/Los_Angeles",
        "CST" => "America/Chicago",
        "JST" => "Asia/Tokyo",
        "IST" => "Asia/Kolkata",
        "CTT" | "PRC" => "Asia/Shanghai",
        "GMT" => "UTC",
        other => other,
    };
    name.parse().ok()
}

/// The years 1 to 9999, which is what Flink takes for an instant; milliseconds.
const INSTANTS_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

fn to_timestamp_ltz(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let out = TypeKind::TimestampLtz(3).nullable();
    if let Some(fitting) = fit("ni?", args, zone)?
        && !args[0].data_type().kind.is_character()
    {
        let scale = match fitting[0].data_type().kind {
            TypeKind::Decimal(_, s) => Some(s),
            _ => None,
        };
        let kernel = int(move |a, i| {
            let per_unit = match if a.len() > 1 { a.int(1, i)? } else { 3 } {
                0 => 1000,
                3 => 1,
                _ => return None,
            };
            let ms = match (a.int(0, i), scale) {
                (Some(v), _) => v.checked_mul(per_unit)?,
                (None, Some(s)) => i64::try_from(a.dec(0, i)? / crate::decimal::pow10(u32::from(s))).ok()? * per_unit,
                (None, None) => (a.f64(0, i)? * per_unit as f64) as i64,
            };
            Some(ms).filter(|ms| INSTANTS_MS.contains(ms))
        });
        return Ok(Some(call(name, fitting, out, kernel)));
    }
    if let Some(args) = fit("sss", args, zone)? {
        let kernel = int(|a, i| {
            let zone = named_zone(a.str(2, i)?)?;
            read(a, i).map(|(ms, _)| zone.to_utc_ms(ms))
        });
        return Ok(Some(call(name, args, out, kernel)));
    }
    // Without a zone the text is in UTC, whatever the session's zone.
    let Some(args) = fit("ss?", args, zone)? else { return Ok(None) };
    Ok(Some(call(name, args, out, int(|a, i| read(a, i).map(|(ms, _)| ms)))))
}

/// Whether two spans of time have an instant in common, their ends included.
fn overlaps(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let [s1, e1, s2, e2] = args else { return Ok(None) };
    let mut bounds = vec![];
    for (start, end) in [(s1, e1), (s2, e2)] {
        if !start.data_type().kind.is_temporal() {
            return Ok(None);
        }
        bounds.push(start.clone());
        bounds.push(match end.data_type().kind.is_interval() {
            false => end.clone(),
            true => match arithmetic::binary('+', start, end, zone)? {
                Some(end) => end,
                None => return Ok(None),
            },
        });
    }
    let types: Vec<_> = bounds.iter().map(|b| b.data_type().clone()).collect();
    let Some(common) = crate::typing::common_type(&types) else { return Ok(None) };
    let bounds = bounds.iter().map(|b| crate::cast::implicit(b, &common, zone)).collect::<Result<Vec<_>>>()?;
    let kernel = boolean(|a, i| {
        let span = |k: usize| {
            let (x, y) = (a.instant(k, i)?, a.instant(k + 1, i)?);
            Some((x.min(y), x.max(y)))
        };
        let (first, second) = (span(0)?, span(2)?);
        Some(first.0 <= second.1 && second.0 <= first.1)
    });
    Ok(Some(call(name, bounds, TypeKind::Boolean.nullable().with_nullable(common.nullable), kernel)))
}

fn now(shift: fn(&SessionZone, i64) -> i64, zone: &SessionZone) -> Kernel {
    let zone = *zone;
    int(move |a, _| Some(shift(&zone, a.now_ms)))
}

pub(super) fn functions() -> Vec<Function> {
    let mut all = vec![
        special("EXTRACT", "(unit FROM temporal)", |n, a, z| {
            let [unit, x] = a else { return Ok(None) };
            Ok(word(unit).and_then(|unit| extract(n, &unit, x, z)))
        }),
        special("FLOOR_TO", "(temporal TO unit)", |n, a, z| Ok(round_to(n, a, z))),
        special("CEIL_TO", "(temporal TO unit)", |n, a, z| Ok(round_to(n, a, z))),
        special("TIMESTAMPADD", "(unit, INT, temporal)", |n, a, _| Ok(add(n, a))),
        special("TIMESTAMPDIFF", "(unit, temporal, temporal)", |n, a, _| Ok(difference(n, a))),
        special("DATE_FORMAT", "(TIMESTAMP or STRING, STRING)", date_format),
        plain("TO_DATE", &["ss?"], "DATE?", |_| {
            int(|a, i| match a.len() {
                1 => parse::date(a.str(0, i)?),
                _ => Some(simple_date::parse(a.str(0, i)?, a.str(1, i)?, &SessionZone::UTC)?.div_euclid(DAY_MS)),
            })
        }),
        plain("TO_TIMESTAMP", &["ss?"], "TIMESTAMP?", |_| int(|a, i| read(a, i).and_then(|(ms, n)| pack(ms, n, 3)))),
        special("TO_TIMESTAMP_LTZ", "(NUMERIC[, INT]) or (STRING[, STRING[, STRING]])", to_timestamp_ltz),
        plain("FROM_UNIXTIME", &["ls?"], "STRING", |zone| {
            let zone = *zone;
            text(move |a, i, out| {
                let format = if a.len() > 1 { a.str(1, i)? } else { simple_date::TIMESTAMP };
                simple_date::format(out, format, a.int(0, i)?.checked_mul(1000)?, &zone)
            })
        }),
        plain("UNIX_TIMESTAMP", &["", "ss?"], "BIGINT", |zone| {
            let zone = *zone;
            int(move |a, i| {
                if a.len() == 0 {
                    return Some(a.now_ms.div_euclid(1000));
                }
                let format = if a.len() > 1 { a.str(1, i)? } else { simple_date::TIMESTAMP };
                Some(simple_date::parse(a.str(0, i)?, format, &zone).map_or(i64::MIN, |ms| ms.div_euclid(1000)))
            })
        }),
        plain("CONVERT_TZ", &["sss"], "STRING?", |_| {
            text(|a, i, out| {
                let (from, to) = (named_zone(a.str(1, i)?)?, named_zone(a.str(2, i)?)?);
                let utc_ms = simple_date::parse(a.str(0, i)?, simple_date::TIMESTAMP, &from)?;
                simple_date::format(out, simple_date::TIMESTAMP, utc_ms, &to)
            })
        }),
        special("OVERLAPS", "(start, end or interval, start, end or interval)", overlaps),
        plain("LOCALTIMESTAMP", &[""], "TIMESTAMP!", |z| now(SessionZone::to_local_ms, z)),
        plain("CURRENT_DATE", &[""], "DATE!", |z| now(|z, ms| z.to_local_ms(ms).div_euclid(DAY_MS), z)),
    ];
    for name in ["CURRENT_TIMESTAMP", "NOW", "PROCTIME", "CURRENT_ROW_TIMESTAMP"] {
        all.push(plain(name, &[""], "LTZ!", |z| now(|_, ms| ms, z)));
    }
    for name in ["LOCALTIME", "CURRENT_TIME"] {
        let clock = |z: &SessionZone| now(|z, ms| z.to_local_ms(ms).rem_euclid(DAY_MS) / 1000 * 1000, z);
        all.push(plain(name, &[""], "TIME!", clock));
    }
    for name in ["YEAR", "QUARTER", "MONTH", "WEEK", "DAYOFYEAR", "DAYOFMONTH", "DAYOFWEEK", "HOUR", "MINUTE", "SECOND"]
    {
        all.push(special(name, "(temporal)", |n, a, z| {
            let [x] = a else { return Ok(None) };
            let unit = match n {
                "DAYOFYEAR" => "DOY",
                "DAYOFMONTH" => "DAY",
                "DAYOFWEEK" => "DOW",
                other => other,
            };
            Ok(extract(n, unit, x, z))
        }));
    }
    all
}
