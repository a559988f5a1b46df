//! Functions over dates, times, timestamps.

use super::pattern::Pattern;
use super::simple_date::{SimpleDate, TIMESTAMP};
use super::unit::Unit;
use super::{Function, fit, plain, special};
use crate::args::{Args, Compiled, Kernel, boolean, int, int_with, text_with, try_text_with};
use crate::calendar::{self, DAY_MS};
use crate::cast::pack;
use crate::node::{Call, call};
use crate::{arithmetic, parse};
use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Result, TypeKind};
use std::sync::Arc;

/// The text of a constant, in capitals: a word argument.
pub(super) fn word(e: &ExprRef) -> Option<String> {
    let value = e.as_literal()?;
    Some(crate::args::view(value).ok()?.str(0)?.to_ascii_uppercase())
}

/// The watermark that the operator has reached, in the time attribute's type; NULL before the first.
fn current_watermark(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [x] = args else { return None };
    let out = match x.data_type().kind {
        TypeKind::Timestamp(_) => TypeKind::Timestamp(3),
        TypeKind::TimestampLtz(_) => TypeKind::TimestampLtz(3),
        _ => return None,
    };
    let kernel = int(|a, _| a.ctx.watermark_ms);
    let (name, args, constants) = (name.into(), vec![x.clone()], String::new());
    Some(Arc::new(Call { name, args, data_type: out.nullable(), kernel, pure: false, constants }))
}

/// The shift from what a value carries to local time.
fn local(is_ltz: bool, zone: &SessionZone, ms: i64) -> i64 {
    if is_ltz { zone.to_local_ms(ms) } else { ms }
}

fn is_ltz(x: &ExprRef) -> bool {
    matches!(x.data_type().kind, TypeKind::TimestampLtz(_))
}

fn extract(name: &str, unit: Unit, x: &ExprRef, zone: &SessionZone) -> Option<ExprRef> {
    let kind = &x.data_type().kind;
    let out = TypeKind::BigInt.nullable().with_nullable(x.data_type().nullable);
    if kind.is_interval() {
        let months = *kind == TypeKind::IntervalYearMonth;
        unit.interval_part(months, 0)?;
        return Some(call(name, vec![x.clone()], out, int(move |a, i| unit.interval_part(months, a.int(0, i)?))));
    }
    if !(kind.is_timestamp() || *kind == TypeKind::Date || (matches!(kind, TypeKind::Time(_)) && unit.is_of_clock())) {
        return None;
    }
    let (ltz, zone) = (is_ltz(x) && unit != Unit::Epoch, *zone);
    let one = int(move |a, i| {
        let (ms, nanos) = a.instant(0, i)?;
        Some(unit.part(local(ltz, &zone, ms), nanos))
    });
    // What a clock shows is there for any number of milliseconds, so also for what is at a NULL's place.
    let kernel: Kernel = Arc::new(move |a| match a.columns[0].array().as_primitive_opt::<TimestampMillisecondType>() {
        Some(times) if unit.is_of_clock() && !ltz && times.len() == a.rows => {
            Ok(Arc::new(times.unary::<_, Int64Type>(|ms| unit.part(ms, 0))))
        }
        _ => one(a),
    });
    Some(call(name, vec![x.clone()], out, kernel))
}

fn round_to(name: &str, args: &[ExprRef], zone: &SessionZone) -> Option<ExprRef> {
    let [x, unit] = args else { return None };
    let unit = Unit::parse(&word(unit)?)?;
    unit.floor(0)?;
    let kind = x.data_type().kind.clone();
    if !kind.is_temporal() {
        return None;
    }
    let (ltz, zone, up) = (is_ltz(x), *zone, name == "CEIL_TO");
    let out = x.data_type().clone();
    let kernel = int(move |a, i| {
        let (ms, nanos) = a.instant(0, i)?;
        let at = local(ltz, &zone, ms);
        let moved = if up { unit.ceil(at, nanos)? } else { unit.floor(at)? };
        // The zone's offset is that of the value, not of what it is rounded to (as in Flink).
        arithmetic::shift(&kind, (moved - (at - ms), 0), 0, 1, false)
    });
    Some(call(name, vec![x.clone()], out, kernel))
}

fn add(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [unit, n, x] = args else { return None };
    let unit = Unit::parse(&word(unit)?)?;
    let (scale, months) = match unit.months() {
        Some(months) => (months, true),
        None => (unit.ms()?, false),
    };
    let mut out = x.data_type().clone();
    if !(out.kind.is_temporal() && n.data_type().kind.is_integer()) {
        return None;
    }
    if out.kind == TypeKind::Date && !months && scale < DAY_MS {
        out.kind = TypeKind::Timestamp(6);
    }
    out.nullable |= n.data_type().nullable;
    let kind = out.kind.clone();
    let kernel =
        int(move |a, i| arithmetic::shift(&kind, a.instant(1, i)?, a.int(0, i)?.wrapping_mul(scale), 1, months));
    Some(call(name, vec![n.clone(), x.clone()], out, kernel))
}

fn difference(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [unit, x, y] = args else { return None };
    let unit = Unit::parse(&word(unit)?)?;
    if !(x.data_type().kind.is_temporal() && y.data_type().kind.is_temporal()) || is_ltz(x) != is_ltz(y) {
        return None;
    }
    let (months, ms) = (unit.months(), unit.ms());
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
        true => try_text_with(move |(from, to): &mut Dates, a, i, out| {
            let (Some(text), Some(pattern)) = (a.str(0, i), a.str(1, i)) else { return Ok(None) };
            let Some(to) = to.get(pattern, SimpleDate::compile) else { return Err(no_pattern(pattern)) };
            let utc_ms = from.get(TIMESTAMP, SimpleDate::compile).and_then(|from| from.parse(text, &zone));
            Ok(utc_ms.map(|utc_ms| to.format(out, utc_ms, &zone)))
        }),
        false => try_text_with(move |to: &mut Compiled<Pattern>, a, i, out| {
            let (Some((ms, nanos)), Some(pattern)) = (a.instant(0, i), a.str(1, i)) else { return Ok(None) };
            let Some(to) = to.get(pattern, Pattern::to_write) else { return Err(no_pattern(pattern)) };
            to.format(out, local(ltz, &zone, ms), nanos);
            Ok(Some(()))
        }),
    };
    Ok(Some(call(name, args.to_vec(), TypeKind::STRING.nullable(), kernel)))
}

fn no_pattern(pattern: &str) -> Error {
    Error::data(format!("'{pattern}' is no pattern that a TIMESTAMP can be written with")).hint(
        "letters are those of Java's DateTimeFormatter, without zones; text that isn't meant as such takes quotes",
    )
}

/// A pattern to read with, and one to write with.
type Dates = (Compiled<SimpleDate>, Compiled<SimpleDate>);

/// Text by a format, with the fallback of `TO_TIMESTAMP`.
fn read(format: &mut Compiled<Pattern>, a: &Args<'_>, i: usize) -> Option<(i64, i64)> {
    let s = a.str(0, i)?;
    if a.len() < 2 {
        return parse::timestamp(s);
    }
    let format = format.get(a.str(1, i)?, Pattern::to_read)?;
    format.parse(s).or_else(|| parse::lenient_timestamp(s))
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
                (None, None) => (a.f64(0, i)? * per_unit as f64).floor() as i64,
            };
            Some(ms).filter(|ms| INSTANTS_MS.contains(ms))
        });
        return Ok(Some(call(name, fitting, out, kernel)));
    }
    if let Some(args) = fit("sss", args, zone)? {
        let constant = args[2].as_literal().and_then(|zone| Some(crate::args::view(zone).ok()?.str(0)?.to_string()));
        if let Some(name) = constant.filter(|name| named_zone(name).is_none()) {
            return Err(Error::script(format!("there is no time zone '{name}'"))
                .hint("a name such as 'Europe/Berlin', 'UTC', or an offset such as '+02:00'"));
        }
        let kernel = int_with(|format, a, i| {
            let zone = named_zone(a.str(2, i)?)?;
            read(format, a, i).map(|(ms, _)| zone.to_utc_ms(ms))
        });
        return Ok(Some(call(name, args, out, kernel)));
    }
    // Without a zone the text is in UTC, whatever the session's zone.
    let Some(args) = fit("ss?", args, zone)? else { return Ok(None) };
    Ok(Some(call(name, args, out, int_with(|format, a, i| read(format, a, i).map(|(ms, _)| ms)))))
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
    int(move |a, _| Some(shift(&zone, a.ctx.now_ms)))
}

pub(super) fn functions() -> Vec<Function> {
    let mut all = vec![
        special("EXTRACT", "(unit FROM temporal)", |n, a, z| {
            let [unit, x] = a else { return Ok(None) };
            Ok(word(unit).and_then(|unit| extract(n, Unit::parse(&unit)?, x, z)))
        }),
        special("FLOOR_TO", "(temporal TO unit)", |n, a, z| Ok(round_to(n, a, z))),
        special("CEIL_TO", "(temporal TO unit)", |n, a, z| Ok(round_to(n, a, z))),
        special("TIMESTAMPADD", "(unit, INT, temporal)", |n, a, _| Ok(add(n, a))),
        special("TIMESTAMPDIFF", "(unit, temporal, temporal)", |n, a, _| Ok(difference(n, a))),
        special("DATE_FORMAT", "(TIMESTAMP or STRING, STRING)", date_format),
        plain("TO_DATE", &["ss?"], "DATE?", |_| {
            int_with(|format: &mut Compiled<SimpleDate>, a, i| match a.len() {
                1 => parse::date(a.str(0, i)?),
                _ => {
                    let format = format.get(a.str(1, i)?, SimpleDate::compile)?;
                    Some(format.parse(a.str(0, i)?, &SessionZone::UTC)?.div_euclid(DAY_MS))
                }
            })
        }),
        plain("TO_TIMESTAMP", &["ss?"], "TIMESTAMP?", |_| {
            int_with(|format, a, i| read(format, a, i).and_then(|(ms, n)| pack(ms, n, 3)))
        }),
        special("TO_TIMESTAMP_LTZ", "(NUMERIC[, INT]) or (STRING[, STRING[, STRING]])", to_timestamp_ltz),
        plain("FROM_UNIXTIME", &["ls?"], "STRING?", |zone| {
            let zone = *zone;
            text_with(move |to: &mut Compiled<SimpleDate>, a, i, out| {
                let format = if a.len() > 1 { a.str(1, i)? } else { TIMESTAMP };
                to.get(format, SimpleDate::compile)?.format(out, a.int(0, i)?.checked_mul(1000)?, &zone);
                Some(())
            })
        }),
        plain("UNIX_TIMESTAMP", &["", "ss?"], "BIGINT", |zone| {
            let zone = *zone;
            int_with(move |from: &mut Compiled<SimpleDate>, a, i| {
                if a.len() == 0 {
                    return Some(a.ctx.now_ms.div_euclid(1000));
                }
                let format = if a.len() > 1 { a.str(1, i)? } else { TIMESTAMP };
                let s = a.str(0, i)?;
                let utc_ms = from.get(format, SimpleDate::compile).and_then(|from| from.parse(s, &zone));
                Some(utc_ms.map_or(i64::MIN, |ms| ms.div_euclid(1000)))
            })
        }),
        plain("CONVERT_TZ", &["sss"], "STRING?", |_| {
            text_with(|format: &mut Compiled<SimpleDate>, a, i, out| {
                let (from, to) = (named_zone(a.str(1, i)?)?, named_zone(a.str(2, i)?)?);
                let format = format.get(TIMESTAMP, SimpleDate::compile)?;
                let utc_ms = format.parse(a.str(0, i)?, &from)?;
                format.format(out, utc_ms, &to);
                Some(())
            })
        }),
        special("CURRENT_WATERMARK", "(time attribute)", |n, a, _| Ok(current_watermark(n, a))),
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
            Ok(Unit::parse(n).and_then(|unit| extract(n, unit, x, z)))
        }));
    }
    all
}
