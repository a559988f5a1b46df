//! Units of time: parts of timestamps and intervals, rounding to a unit.

use crate::calendar::{self, DAY_MS, civil, days};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// A unit, or a way to number days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millennium,
    Century,
    Decade,
    IsoYear,
    Year,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    DayOfWeek,
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
}

use Unit::*;

impl Unit {
    /// By its name in capitals.
    pub fn parse(name: &str) -> Option<Unit> {
        Some(match name {
            "MILLENNIUM" => Millennium,
            "CENTURY" => Century,
            "DECADE" => Decade,
            "ISOYEAR" => IsoYear,
            "YEAR" => Year,
            "QUARTER" => Quarter,
            "MONTH" => Month,
            "WEEK" => Week,
            "DAY" | "DAYOFMONTH" => Day,
            "DOY" | "DAYOFYEAR" => DayOfYear,
            "DOW" | "DAYOFWEEK" => DayOfWeek,
            "ISODOW" => IsoDayOfWeek,
            "HOUR" => Hour,
            "MINUTE" => Minute,
            "SECOND" => Second,
            "MILLISECOND" => Millisecond,
            "MICROSECOND" => Microsecond,
            "NANOSECOND" => Nanosecond,
            "EPOCH" => Epoch,
            _ => return None,
        })
    }

    /// Whether a time of day has it.
    pub fn is_of_clock(self) -> bool {
        matches!(self, Hour | Minute | Second | Millisecond | Microsecond | Nanosecond)
    }

    /// The part of a local time, milliseconds and the nanoseconds beyond. Before 1970 Flink rounds a day that has begun
    /// up, and counts its clock backwards.
    pub fn part(self, ms: i64, nanos: i64) -> i64 {
        let day = match self {
            Week | IsoYear => ms.div_euclid(DAY_MS),
            _ => ms / DAY_MS,
        };
        let year = || civil(day).0;
        match self {
            Millennium => (year() + 999).div_euclid(1000),
            Century => (year() + 99).div_euclid(100),
            Decade => year().div_euclid(10),
            IsoYear => calendar::iso_week(day).0,
            Year => year(),
            Quarter => (civil(day).1 + 2) / 3,
            Month => civil(day).1,
            Week => calendar::iso_week(day).1,
            Day => civil(day).2,
            DayOfYear => calendar::day_of_year(day),
            DayOfWeek => calendar::iso_weekday(day) % 7 + 1,
            IsoDayOfWeek => calendar::iso_weekday(day),
            Hour => ms % DAY_MS / HOUR_MS,
            Minute => ms % HOUR_MS / MINUTE_MS,
            Second => ms % MINUTE_MS / 1000,
            Millisecond => ms % 1000,
            Microsecond => ms % 1000 * 1000 + nanos / 1000,
            Nanosecond => ms % 1000 * 1_000_000 + nanos,
            Epoch => ms / 1000,
        }
    }

    /// The part of an interval of `v` months, or milliseconds; `None` if it has no such part.
    pub fn interval_part(self, months: bool, v: i64) -> Option<i64> {
        Some(match (self, months) {
            (Millennium, true) => v / 12_000,
            (Century, true) => v / 1200,
            (Decade, true) => v / 120,
            (Year, true) => v / 12,
            (Quarter, true) => v % 12 / 3 + 1,
            (Month, true) => v % 12,
            (Day, false) => v / DAY_MS,
            (Hour, false) => v % DAY_MS / HOUR_MS,
            (Minute, false) => v % HOUR_MS / MINUTE_MS,
            (Second, false) => v % MINUTE_MS / 1000,
            (Millisecond, false) => v % 1000,
            (Epoch, false) => v / 1000,
            _ => return None,
        })
    }

    /// The start of the unit that holds a local time; `None` if one doesn't round to it. Before 1970 Flink takes a day
    /// that has begun for the next, where units are longer than a day.
    pub fn floor(self, ms: i64) -> Option<i64> {
        if let Hour | Minute | Second | Millisecond = self {
            return self.ms().map(|unit| ms - ms.rem_euclid(unit));
        }
        let day = if self == Day { ms.div_euclid(DAY_MS) } else { ms / DAY_MS };
        let year = || civil(day).0;
        let start = match self {
            Millennium => days((year() - 1).div_euclid(1000) * 1000 + 1, 1, 1),
            Century => days((year() - 1).div_euclid(100) * 100 + 1, 1, 1),
            Decade => days(year().div_euclid(10) * 10, 1, 1),
            Year => days(year(), 1, 1),
            Quarter => days(year(), (civil(day).1 - 1) / 3 * 3 + 1, 1),
            Month => days(year(), civil(day).1, 1),
            Week => day - calendar::iso_weekday(day) % 7,
            Day => day,
            _ => return None,
        };
        Some(start * DAY_MS)
    }

    /// The start of the first unit from a local time on. Of units longer than a day Flink looks at the day alone, and a
    /// decade that begins is not its own.
    pub fn ceil(self, ms: i64, nanos: i64) -> Option<i64> {
        let start = self.floor(ms)?;
        let is_start = match self {
            Decade => false,
            Day | Hour | Minute | Second | Millisecond => start == ms && nanos == 0,
            _ => start == ms / DAY_MS * DAY_MS,
        };
        if is_start { Some(start) } else { self.next(start) }
    }

    /// The start of the unit after the one that starts at `start`.
    fn next(self, start: i64) -> Option<i64> {
        match self.months() {
            Some(n) => Some(calendar::add_months(start.div_euclid(DAY_MS), n) * DAY_MS),
            None => Some(start + self.ms()?),
        }
    }

    /// Its length, if it is always the same.
    pub fn ms(self) -> Option<i64> {
        Some(match self {
            Week => 7 * DAY_MS,
            Day => DAY_MS,
            Hour => HOUR_MS,
            Minute => MINUTE_MS,
            Second => 1000,
            Millisecond => 1,
            _ => return None,
        })
    }

    /// Its length in months, if it is made of months.
    pub fn months(self) -> Option<i64> {
        Some(match self {
            Millennium => 12_000,
            Century => 1200,
            Decade => 120,
            Year => 12,
            Quarter => 3,
            Month => 1,
            _ => return None,
        })
    }
}
