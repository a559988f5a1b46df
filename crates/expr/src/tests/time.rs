//! Functions over dates and times against the answers in Flink's documentation and in its own tests.

use super::*;

fn date(text: &str) -> ExprRef {
    cast(s(text), TypeKind::Date.not_null(), false, &UTC).expect("a date")
}
fn time(text: &str) -> ExprRef {
    cast(s(text), TypeKind::Time(0).not_null(), false, &UTC).expect("a time")
}
fn ts6(text: &str) -> ExprRef {
    cast(s(text), TypeKind::Timestamp(6).not_null(), false, &UTC).expect("a timestamp")
}
fn duration(ms: i64) -> ExprRef {
    literal(Value::Int(ms), TypeKind::IntervalDayTime.not_null())
}
fn months(n: i64) -> ExprRef {
    literal(Value::Int(n), TypeKind::IntervalYearMonth.not_null())
}

#[test]
fn parts_of_timestamps_and_intervals() {
    let (a, b) = (ts6("2000-01-31 11:22:33.123456"), ts6("2020-02-29 01:56:59.987654"));
    for (unit, of_a, of_b) in [
        ("NANOSECOND", "123456000", "987654000"),
        ("MICROSECOND", "123456", "987654"),
        ("MILLISECOND", "123", "987"),
        ("SECOND", "33", "59"),
        ("MINUTE", "22", "56"),
        ("HOUR", "11", "1"),
        ("DAY", "31", "29"),
        ("WEEK", "5", "9"),
        ("MONTH", "1", "2"),
        ("QUARTER", "1", "1"),
        ("YEAR", "2000", "2020"),
        ("DECADE", "200", "202"),
        ("CENTURY", "20", "21"),
        ("MILLENNIUM", "2", "3"),
        ("DOW", "2", "7"),
        ("ISODOW", "1", "6"),
        ("DOY", "31", "60"),
        ("ISOYEAR", "2000", "2020"),
        ("EPOCH", "949317753", "1582941419"),
    ] {
        check(c("EXTRACT", vec![s(unit), a.clone()]), of_a);
        check(c("EXTRACT", vec![s(unit), b.clone()]), of_b);
    }
    check(c("EXTRACT", vec![s("DAY"), date("1990-10-14")]), "14");
    assert!(call("EXTRACT", vec![s("HOUR"), s("x")], &UTC).is_err());
    let span = || duration(((19 * 24 + 12) * 60 + 10) * 60_000 + 10_123);
    for (unit, expect) in [("DAY", "19"), ("HOUR", "12"), ("MINUTE", "10"), ("SECOND", "10"), ("MILLISECOND", "123")] {
        check(c("EXTRACT", vec![s(unit), span()]), expect);
    }
    check(c("EXTRACT", vec![s("YEAR"), months(27)]), "2");
    check(c("EXTRACT", vec![s("MONTH"), months(27)]), "3");
    for (name, expect) in [
        ("YEAR", "1994"),
        ("QUARTER", "3"),
        ("MONTH", "9"),
        ("WEEK", "39"),
        ("DAYOFYEAR", "270"),
        ("DAYOFMONTH", "27"),
        ("DAYOFWEEK", "3"),
    ] {
        check(c(name, vec![date("1994-09-27")]), expect);
    }
    let t = || ts("1994-09-27 13:14:15");
    for (name, expect) in [("HOUR", "13"), ("MINUTE", "14"), ("SECOND", "15")] {
        check(c(name, vec![t()]), expect);
    }
}

#[test]
fn rounding_to_units() {
    let t = || ts6("2020-02-29 01:56:59.987654");
    for (unit, down, up) in [
        ("MILLISECOND", "2020-02-29 01:56:59.987000", "2020-02-29 01:56:59.988000"),
        ("SECOND", "2020-02-29 01:56:59.000000", "2020-02-29 01:57:00.000000"),
        ("MINUTE", "2020-02-29 01:56:00.000000", "2020-02-29 01:57:00.000000"),
        ("HOUR", "2020-02-29 01:00:00.000000", "2020-02-29 02:00:00.000000"),
        ("DAY", "2020-02-29 00:00:00.000000", "2020-03-01 00:00:00.000000"),
        ("WEEK", "2020-02-23 00:00:00.000000", "2020-03-01 00:00:00.000000"),
        ("MONTH", "2020-02-01 00:00:00.000000", "2020-03-01 00:00:00.000000"),
        ("QUARTER", "2020-01-01 00:00:00.000000", "2020-04-01 00:00:00.000000"),
        ("YEAR", "2020-01-01 00:00:00.000000", "2021-01-01 00:00:00.000000"),
        ("DECADE", "2020-01-01 00:00:00.000000", "2030-01-01 00:00:00.000000"),
        ("CENTURY", "2001-01-01 00:00:00.000000", "2101-01-01 00:00:00.000000"),
        ("MILLENNIUM", "2001-01-01 00:00:00.000000", "3001-01-01 00:00:00.000000"),
    ] {
        check(c("FLOOR_TO", vec![t(), s(unit)]), down);
        check(c("CEIL_TO", vec![t(), s(unit)]), up);
    }
    check(c("FLOOR_TO", vec![time("12:44:31"), s("MINUTE")]), "12:44:00");
    check(c("CEIL_TO", vec![time("12:44:31"), s("MINUTE")]), "12:45:00");
    check(c("CEIL_TO", vec![date("1990-10-14"), s("HOUR")]), "1990-10-14");
    check(c("CEIL_TO", vec![date("1990-10-14"), s("DECADE")]), "2000-01-01");
    check(c("CEIL_TO", vec![date("1990-10-14"), s("WEEK")]), "1990-10-14");
    // Of a week Flink looks at the day alone, and a decade that begins isn't its own.
    check(c("CEIL_TO", vec![ts("1990-10-14 12:00:00"), s("WEEK")]), "1990-10-14 00:00:00.000");
    check(c("CEIL_TO", vec![date("1970-01-01"), s("DECADE")]), "1980-01-01");
    // Before 1970 it takes a day that has begun for the next, and counts the clock backwards.
    let before = || ts("1969-12-31 23:00:00");
    check(c("FLOOR_TO", vec![before(), s("YEAR")]), "1970-01-01 00:00:00.000");
    check(c("EXTRACT", vec![s("YEAR"), before()]), "1970");
    check(c("EXTRACT", vec![s("HOUR"), before()]), "-1");
}

#[test]
fn spans_overlap_when_they_share_an_instant() {
    let hour = 3_600_000;
    for (args, expect) in [
        ([time("2:55:00"), duration(hour), time("3:30:00"), duration(2 * hour)], "TRUE"),
        ([time("9:00:00"), time("9:30:00"), time("9:29:00"), time("9:31:00")], "TRUE"),
        ([time("9:00:00"), time("10:00:00"), time("10:15:00"), duration(3 * hour)], "FALSE"),
        ([date("2011-03-10"), duration(240 * hour), date("2011-03-19"), duration(240 * hour)], "TRUE"),
        ([ts("2011-03-10 05:02:02"), duration(0), ts("2011-03-10 05:02:02"), ts("2011-03-10 05:02:01")], "TRUE"),
        (
            [ts("2011-03-10 05:02:02.001"), duration(0), ts("2011-03-10 05:02:02.002"), ts("2011-03-10 05:02:02.002")],
            "FALSE",
        ),
    ] {
        check(c("OVERLAPS", args.to_vec()), expect);
    }
}

#[test]
fn text_becomes_time_and_back() {
    let berlin: SessionZone = "Europe/Berlin".parse().expect("a zone");
    let tokyo: SessionZone = "Asia/Tokyo".parse().expect("a zone");
    let in_zone = |zone: &SessionZone, name: &str, args: Vec<ExprRef>| call(name, args, zone).expect("a call");
    for (text, format, expect) in [
        ("1970-01-01 08:00:01.001", "yyyy-MM-dd HH:mm:ss.SSS", "25201"),
        ("1970-01-01 08:00:01.001 +0800", "yyyy-MM-dd HH:mm:ss.SSS X", "1"),
        ("1970-01-01 08:00:01.001 +0800", "yyyy-MM-dd HH:mm:ss.SSS", "25201"),
        ("1970-01-01 08:00:01.001", "yyyy-MM-dd HH:mm:ss.SSS X", "-9223372036854775808"),
    ] {
        check(in_zone(&berlin, "UNIX_TIMESTAMP", vec![s(text), s(format)]), expect);
    }
    check(c("FROM_UNIXTIME", vec![i(44)]), "1970-01-01 00:00:44");
    check(in_zone(&tokyo, "FROM_UNIXTIME", vec![i(44)]), "1970-01-01 09:00:44");
    check(in_zone(&tokyo, "FROM_UNIXTIME", vec![i(44), s("yyyy/MM/dd EEE HH:mm Z")]), "1970/01/01 Thu 09:00 +0900");
    for (text, format, expect) in [
        ("5.1.2024", "dd.MM.yyyy", "2024-01-05"),
        ("2024-02-30", "yyyy-MM-dd", "2024-03-01"),
        ("20240229", "yyyyMMdd", "2024-02-29"),
        ("29 Feb 2024 trailing", "dd MMM yyyy", "2024-02-29"),
        ("x", "yyyy", "NULL"),
    ] {
        check(c("TO_DATE", vec![s(text), s(format)]), expect);
    }
    for (text, format, expect) in [
        ("2024-02-29 10:11:12", "yyyy-MM-dd HH:mm:ss[.SSS]", "2024-02-29 10:11:12.000"),
        ("2024-02-29 10:11:12.345", "yyyy-MM-dd HH:mm:ss[.SSS]", "2024-02-29 10:11:12.345"),
        ("20240229101112", "yyyyMMddHHmmss", "2024-02-29 10:11:12.000"),
        ("2024-02-29T10", "yyyy-MM-dd'T'HH", "2024-02-29 10:00:00.000"),
        // An offset or a zone is read, and counts for nothing.
        ("2024-02-29 10:11:12Z", "yyyy-MM-dd HH:mm:ssX", "2024-02-29 10:11:12.000"),
        ("2024-02-29T10:11:12+02:00", "yyyy-MM-dd'T'HH:mm:ssXXX", "2024-02-29 10:11:12.000"),
        ("2024-02-29 10:11:12 -0730", "yyyy-MM-dd HH:mm:ss Z", "2024-02-29 10:11:12.000"),
        ("2024-02-29 10:11:12 Europe/Berlin", "yyyy-MM-dd HH:mm:ss VV", "2024-02-29 10:11:12.000"),
        ("2024-02-29 10:11:12 GMT+2", "yyyy-MM-dd HH:mm:ss O", "2024-02-29 10:11:12.000"),
    ] {
        check(c("TO_TIMESTAMP", vec![s(text), s(format)]), expect);
    }
    for (args, expect) in [
        (vec![i(100)], "1970-01-01 00:00:00.100"),
        (vec![i(100), i(0)], "1970-01-01 00:01:40.000"),
        (vec![d(1.5), i(0)], "1970-01-01 00:00:01.500"),
        (vec![dec(-12999, 5, 1), i(0)], "1969-12-31 23:38:21.000"),
        (vec![literal(Value::Int(253402300800), TypeKind::BigInt.not_null()), i(0)], "NULL"),
        (vec![s("2023-01-01 08:00:00")], "2023-01-01 08:00:00.000"),
        (vec![s("01/02/2023 08:00"), s("dd/MM/yyyy HH:mm")], "2023-02-01 08:00:00.000"),
        (vec![s("2023-01-01 08:00"), s("yyyy-MM-dd HH:mm"), s("Asia/Shanghai")], "2023-01-01 00:00:00.000"),
    ] {
        check(c("TO_TIMESTAMP_LTZ", args), expect);
    }
    for (args, expect) in [
        (["1970-01-01 00:00:00", "UTC", "America/Los_Angeles"], "1969-12-31 16:00:00"),
        (["1970-01-01 00:00:00", "GMT-08:00", "PST"], "1970-01-01 00:00:00"),
        (["nonsense", "UTC", "UTC"], "NULL"),
    ] {
        check(c("CONVERT_TZ", args.iter().map(|t| s(t)).collect()), expect);
    }
    for pattern in ["b", "yyyy XXX", "'"] {
        let refused = try_eval(&c("DATE_FORMAT", vec![ts("2024-02-29 13:14:15"), s(pattern)])).unwrap_err().to_string();
        assert!(refused.contains(&format!("'{pattern}' is no pattern")), "{refused}");
    }
    check(c("TO_TIMESTAMP", vec![s("2024-02-29"), s("yyyy-MM-dd b")]), "NULL");
    let zone = call("TO_TIMESTAMP_LTZ", vec![s("2024-02-29"), s("yyyy-MM-dd"), s("No/Where")], &UTC).unwrap_err();
    assert!(zone.to_string().contains("there is no time zone 'No/Where'"), "{zone}");
    check(c("DATE_FORMAT", vec![s("2024-02-29 13:14:15"), s("yyyy-'W'u hh a")]), "2024-W4 01 PM");
    check(
        c("DATE_FORMAT", vec![ts("2024-02-29 13:14:15.678"), s("EEEE, MMMM d, QQQ yy SSS")]),
        "Thursday, February 29, Q1 24 678",
    );
}

#[test]
fn time_moves_by_units() {
    let t = || ts("2024-01-31 10:00:00");
    for (unit, n, expect) in [
        ("MONTH", 1, "2024-02-29 10:00:00.000"),
        ("QUARTER", 1, "2024-04-30 10:00:00.000"),
        ("WEEK", -1, "2024-01-24 10:00:00.000"),
        ("MINUTE", 90, "2024-01-31 11:30:00.000"),
    ] {
        check(c("TIMESTAMPADD", vec![s(unit), i(n), t()]), expect);
    }
    check(c("TIMESTAMPADD", vec![s("HOUR"), i(1), date("2024-01-31")]), "2024-01-31 01:00:00.000000");
    for (unit, to, expect) in [
        ("SECOND", "2024-01-31 10:01:40", "100"),
        ("DAY", "2024-02-02 09:59:59", "1"),
        ("MONTH", "2024-02-29 10:00:00", "1"),
        ("MONTH", "2024-02-29 09:00:00", "0"),
        ("MONTH", "2023-12-31 09:00:00", "-2"),
        ("YEAR", "2025-01-31 10:00:00", "1"),
        ("HOUR", "2024-01-31 08:30:00", "-1"),
    ] {
        check(c("TIMESTAMPDIFF", vec![s(unit), t(), ts(to)]), expect);
    }
}
