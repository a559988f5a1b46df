//! The options of tables that rows are looked up in, which all connectors of such tables share, and tables held whole.

pub mod full;

use chrono::{FixedOffset, NaiveTime};
use millstream_core::connector::SessionInfo;
use millstream_core::lookup::PartialCache;
use millstream_core::options::Options;
use millstream_core::types::SessionZone;
use millstream_core::{Error, Result};
use std::time::Duration;

/// What is kept of a table (flink docs: the options `lookup.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Nothing: each key is asked for.
    None,
    /// Some answers.
    Partial(PartialCache),
    /// All of it.
    Full(Option<Reload>),
}

/// When a table that is held whole is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Every so often: from the end of the last reading, or from its start.
    Every {
        /// How often.
        interval: Duration,
        /// From the start.
        fixed_rate: bool,
    },
    /// At a time of day.
    At {
        /// The time.
        time: NaiveTime,
        /// Whose.
        zone: SessionZone,
        /// On every so-many-th day.
        days: u32,
    },
}

/// Which cache there is if no option says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usual {
    /// None; all kinds are possible.
    None,
    /// All of it; nothing else is possible.
    Full,
}

/// The options' keys.
const KEYS: [&str; 11] = [
    "lookup.cache",
    "lookup.max-retries",
    "lookup.partial-cache.max-rows",
    "lookup.partial-cache.expire-after-write",
    "lookup.partial-cache.expire-after-access",
    "lookup.partial-cache.cache-missing-key",
    "lookup.full-cache.reload-strategy",
    "lookup.full-cache.periodic-reload.interval",
    "lookup.full-cache.periodic-reload.schedule-mode",
    "lookup.full-cache.timed-reload.iso-time",
    "lookup.full-cache.timed-reload.interval-in-days",
];

/// Takes the options for what they are, of a table that is read or written otherwise.
pub fn allow(options: &Options) {
    options.allow(KEYS);
}

/// What the options say: the cache, and how often a failed lookup is tried again.
pub fn read_options(options: &Options, session: &SessionInfo, usual: Usual) -> Result<(Cache, u32)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        None,
        Partial,
        Full,
    }
    let max_retries = options.number("lookup.max-retries")?.unwrap_or(3);
    let kinds = [("NONE", Kind::None), ("PARTIAL", Kind::Partial), ("FULL", Kind::Full)];
    let kind = options.choice("lookup.cache", &kinds)?;
    if usual == Usual::Full && kind.is_some_and(|kind| kind != Kind::Full) {
        return Err(options.error("lookup.cache", "a table of files is always held whole: 'lookup.cache' is 'FULL'"));
    }
    let usual = if usual == Usual::Full { Kind::Full } else { Kind::None };
    let kind = kind.unwrap_or(usual);
    for (prefix, of) in [("lookup.partial-cache.", Kind::Partial), ("lookup.full-cache.", Kind::Full)] {
        if let Some((key, _)) = options.with_prefix(prefix).first().filter(|(key, _)| KEYS.contains(key) && kind != of)
        {
            let name = if of == Kind::Partial { "PARTIAL" } else { "FULL" };
            return Err(options.error(key, format!("'{key}' is for 'lookup.cache' = '{name}'")));
        }
        if let Some((key, _)) = options.with_prefix(prefix).iter().find(|(key, _)| !KEYS.contains(key)) {
            let known = KEYS.iter().filter(|known| known.starts_with(prefix)).copied().collect::<Vec<_>>();
            let error = options.error(key, format!("there is no option '{key}'"));
            return Err(match millstream_core::suggest::did_you_mean(key, known) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
    }
    let cache = match kind {
        Kind::None => Cache::None,
        Kind::Partial => {
            let ms = |key: &str| Ok::<_, Error>(options.duration(key)?.map(|d| d.as_millis() as i64));
            Cache::Partial(PartialCache {
                max_rows: options.number("lookup.partial-cache.max-rows")?,
                expire_after_write_ms: ms("lookup.partial-cache.expire-after-write")?,
                expire_after_access_ms: ms("lookup.partial-cache.expire-after-access")?,
                keeps_missing: options.boolean("lookup.partial-cache.cache-missing-key")?.unwrap_or(true),
            })
        }
        Kind::Full => Cache::Full(reload(options, session)?),
    };
    allow(options);
    Ok((cache, max_retries))
}

fn reload(options: &Options, session: &SessionInfo) -> Result<Option<Reload>> {
    let key = "lookup.full-cache.reload-strategy";
    let is_timed = options.choice(key, &[("PERIODIC", false), ("TIMED", true)])?.unwrap_or(false);
    let key = "lookup.full-cache.periodic-reload.interval";
    let interval = options.duration(key)?;
    if interval == Some(Duration::ZERO) {
        return Err(options.error(key, format!("'{key}' must be above 0")));
    }
    let mode_key = "lookup.full-cache.periodic-reload.schedule-mode";
    let fixed_rate = options.choice(mode_key, &[("FIXED_DELAY", false), ("FIXED_RATE", true)])?;
    let time_key = "lookup.full-cache.timed-reload.iso-time";
    let days_key = "lookup.full-cache.timed-reload.interval-in-days";
    let (time, days) = (options.string(time_key), options.number::<u32>(days_key)?);
    let strays = match is_timed {
        true => [(key, interval.is_some()), (mode_key, fixed_rate.is_some())],
        false => [(time_key, time.is_some()), (days_key, days.is_some())],
    };
    if let Some((stray, _)) = strays.iter().find(|(_, is_given)| *is_given) {
        let strategy = if is_timed { "PERIODIC" } else { "TIMED" };
        let message = format!("'{stray}' is for 'lookup.full-cache.reload-strategy' = '{strategy}'");
        return Err(options.error(stray, message));
    }
    if !is_timed {
        return Ok(interval.map(|interval| Reload::Every { interval, fixed_rate: fixed_rate.unwrap_or(false) }));
    }
    let text = options.required(time_key)?;
    let Some((time, zone)) = time_of_day(text, session)? else {
        let message =
            format!("the value '{text}' of option '{time_key}' is not a time such as '10:15' or '06:30:00+02:00'");
        return Err(options.error(time_key, message));
    };
    let days = days.unwrap_or(1);
    if days == 0 {
        return Err(options.error(days_key, format!("'{days_key}' must be above 0")));
    }
    Ok(Some(Reload::At { time, zone, days }))
}

/// `10:15[:30][Z|+02:00]`: without a zone, the session's.
fn time_of_day(text: &str, session: &SessionInfo) -> Result<Option<(NaiveTime, SessionZone)>> {
    let text = text.trim();
    let (time, zone) = match text.find(['Z', '+', '-']) {
        None => (text, session.time_zone.parse()?),
        Some(at) => {
            let (time, zone) = text.split_at(at);
            match zone {
                "Z" => (time, SessionZone::UTC),
                zone => match zone.parse::<FixedOffset>() {
                    Ok(offset) => (time, SessionZone::Fixed(offset.local_minus_utc())),
                    Err(_) => return Ok(None),
                },
            }
        }
    };
    let parsed = NaiveTime::parse_from_str(time, "%H:%M:%S").or_else(|_| NaiveTime::parse_from_str(time, "%H:%M"));
    Ok(parsed.ok().map(|time| (time, zone)))
}

impl Reload {
    /// How long to wait for the next reading, in milliseconds, after one from `started_ms` to `now_ms`.
    fn wait_ms(self, started_ms: i64, now_ms: i64) -> i64 {
        match self {
            Reload::Every { interval, fixed_rate } => {
                let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
                let since = if fixed_rate { now_ms.saturating_sub(started_ms) } else { 0 };
                interval.saturating_sub(since).max(0)
            }
            Reload::At { time, zone, days } => {
                const DAY_MS: i64 = 86_400_000;
                let of_day = i64::from(chrono::Timelike::num_seconds_from_midnight(&time)) * 1000;
                let local = zone.to_local_ms(now_ms);
                let today = local.div_euclid(DAY_MS) * DAY_MS + of_day;
                // The first time is the next one of the day; from then on so many days pass.
                let is_first = local < today;
                let next = if is_first { today } else { today + DAY_MS * i64::from(days) };
                zone.to_utc_ms(next).saturating_sub(now_ms).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(usual: Usual, values: &[(&str, &str)]) -> Result<(Cache, u32)> {
        let values: BTreeMap<String, String> = values.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let session = SessionInfo { base_dir: ".".into(), time_zone: "Europe/Berlin".into(), storage: vec![] };
        let options = Options::new("t", "c", &values);
        let read = read_options(&options, &session, usual)?;
        options.finish()?;
        Ok(read)
    }

    #[test]
    fn options_say_what_is_kept() {
        assert_eq!(read(Usual::None, &[]).unwrap(), (Cache::None, 3));
        assert_eq!(read(Usual::Full, &[("lookup.max-retries", "0")]).unwrap(), (Cache::Full(None), 0));
        let partial = [
            ("lookup.cache", "partial"),
            ("lookup.partial-cache.max-rows", "10"),
            ("lookup.partial-cache.expire-after-write", "1 min"),
            ("lookup.partial-cache.cache-missing-key", "false"),
        ];
        let cache = PartialCache {
            max_rows: Some(10),
            expire_after_write_ms: Some(60_000),
            expire_after_access_ms: None,
            keeps_missing: false,
        };
        assert_eq!(read(Usual::None, &partial).unwrap().0, Cache::Partial(cache));
        let periodic = [
            ("lookup.cache", "FULL"),
            ("lookup.full-cache.periodic-reload.interval", "5 s"),
            ("lookup.full-cache.periodic-reload.schedule-mode", "FIXED_RATE"),
        ];
        let every = Reload::Every { interval: Duration::from_secs(5), fixed_rate: true };
        assert_eq!(read(Usual::None, &periodic).unwrap().0, Cache::Full(Some(every)));
    }

    #[test]
    fn options_that_do_not_fit_each_other_are_refused() {
        for (values, expected) in [
            (&[("lookup.cache", "NONE")][..], "always held whole"),
            (&[("lookup.cache", "some")], "one of"),
            (&[("lookup.partial-cache.max-rows", "1")], "'lookup.cache' = 'PARTIAL'"),
            (&[("lookup.full-cache.timed-reload.iso-time", "10:15")], "= 'TIMED'"),
            (&[("lookup.full-cache.reload-strategy", "TIMED")], "needs the option"),
            (&[("lookup.full-cache.periodic-reload.interval", "0 s")], "above 0"),
            (&[("lookup.full-cache.periodic-reload.intervall", "1 s")], "there is no option"),
            (
                &[("lookup.full-cache.reload-strategy", "TIMED"), ("lookup.full-cache.timed-reload.iso-time", "noon")],
                "is not a time",
            ),
        ] {
            let error = read(Usual::Full, values).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_next_reading_is_at_the_time_of_day_of_its_zone() {
        let at = |time: &str, days: &str| {
            let values = [
                ("lookup.full-cache.reload-strategy", "TIMED"),
                ("lookup.full-cache.timed-reload.iso-time", time),
                ("lookup.full-cache.timed-reload.interval-in-days", days),
            ];
            match read(Usual::Full, &values).unwrap().0 {
                Cache::Full(Some(reload)) => reload,
                other => panic!("{other:?}"),
            }
        };
        const HOUR_MS: i64 = 3_600_000;
        // 1970-01-01 09:00 UTC, in Berlin 10:00.
        let now = 9 * HOUR_MS;
        assert_eq!(at("10:15", "1").wait_ms(0, now), HOUR_MS / 4);
        assert_eq!(at("10:15Z", "1").wait_ms(0, now), 5 * HOUR_MS / 4);
        assert_eq!(at("10:15:00+02:00", "1").wait_ms(0, now), 23 * HOUR_MS + HOUR_MS / 4);
        assert_eq!(at("09:00", "2").wait_ms(0, now), 47 * HOUR_MS);
        let every = Reload::Every { interval: Duration::from_millis(100), fixed_rate: true };
        assert_eq!((every.wait_ms(0, 30), every.wait_ms(0, 130)), (70, 0));
    }
}
