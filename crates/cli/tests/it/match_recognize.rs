//! MATCH_RECOGNIZE through the binary: the examples of Flink's documentation and of its tests.

use crate::script::{Script, stdout_of};
use serde_json::Value;

/// A ticker of one stock, one row at each of `times` (`HH:MM:SS`): price and tax.
fn ticker(rows: &[(&str, i64, i64)]) -> String {
    let row = |(time, price, tax): &(&str, i64, i64)| {
        format!("{{\"symbol\":\"ACME\",\"price\":{price},\"tax\":{tax},\"rowtime\":\"2011-04-01 {time}\"}}\n")
    };
    rows.iter().map(row).collect()
}

/// One row a second from 10:00:00, by its price.
fn seconds(prices: &[i64]) -> String {
    let times: Vec<String> = (0..prices.len()).map(|i| format!("10:00:{i:02}")).collect();
    ticker(&times.iter().zip(prices).map(|(time, price)| (time.as_str(), *price, 1)).collect::<Vec<_>>())
}

/// The rows that a query gives, its columns apart by `|`, sorted; `price_type` is the type of prices.
fn run(input: &str, price_type: &str, query: &str, args: &[&str]) -> Vec<String> {
    let script = Script::new(&format!(
        "CREATE TABLE ticker (symbol STRING, price {price_type}, tax BIGINT, rowtime TIMESTAMP(3),
           WATERMARK FOR rowtime AS rowtime - INTERVAL '1' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/ticker.json', 'format' = 'json');
         {query};"
    ));
    std::fs::write(script.path("ticker.json"), input).unwrap();
    let mut all = vec!["--format", "jsonl"];
    all.extend(args);
    let cell = |value: &Value| match value {
        Value::String(text) => text.trim_start_matches("2011-04-01 ").trim_end_matches(".000").to_string(),
        other => other.to_string(),
    };
    let line = |line: &str| {
        let change: Value = serde_json::from_str(line).unwrap();
        assert_eq!(change["op"], "+I");
        change["row"].as_object().unwrap().values().map(cell).collect::<Vec<_>>().join("|")
    };
    let mut rows: Vec<String> = stdout_of(&script.run(&all)).lines().map(line).collect();
    rows.sort();
    rows
}

fn check(input: &str, clauses: &str, expected: &[&str]) {
    let query = format!("SELECT * FROM ticker MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime {clauses}) AS m");
    for args in [["--parallelism", "1"], ["--parallelism", "3"]] {
        assert_eq!(run(input, "BIGINT", &query, &args), expected, "{clauses} {args:?}");
    }
}

#[test]
fn a_period_of_falling_prices() {
    check(
        &seconds(&[12, 17, 19, 21, 25, 18, 15, 14, 24, 25, 19]),
        "MEASURES START_ROW.rowtime AS start_tstamp, LAST(PRICE_DOWN.rowtime) AS bottom_tstamp,
           LAST(PRICE_UP.rowtime) AS end_tstamp
         ONE ROW PER MATCH AFTER MATCH SKIP TO LAST PRICE_UP PATTERN (START_ROW PRICE_DOWN+ PRICE_UP)
         DEFINE PRICE_DOWN AS (LAST(PRICE_DOWN.price, 1) IS NULL AND PRICE_DOWN.price < START_ROW.price)
             OR PRICE_DOWN.price < LAST(PRICE_DOWN.price, 1),
           PRICE_UP AS PRICE_UP.price > LAST(PRICE_DOWN.price, 1)",
        &["ACME|10:00:04|10:00:07|10:00:08"],
    );
}

#[test]
fn a_period_of_a_low_average() {
    let query = "SELECT * FROM ticker MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime
        MEASURES FIRST(A.rowtime) AS start_tstamp, LAST(A.rowtime) AS end_tstamp, AVG(A.price) AS avgPrice
        ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (A+ B) DEFINE A AS AVG(A.price) < 15)";
    let input = seconds(&[12, 17, 13, 16, 25, 2, 4, 10, 15, 25, 25, 30]);
    assert_eq!(run(&input, "DOUBLE", query, &[]), ["ACME|10:00:00|10:00:03|14.5", "ACME|10:00:05|10:00:10|13.5"]);
}

#[test]
fn greedy_and_reluctant_loops() {
    let clauses = |quantifier: &str| {
        format!(
            "MEASURES C.price AS lastPrice ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{quantifier} C)
             DEFINE A AS A.price > 10, B AS B.price < 15, C AS C.price > 12"
        )
    };
    let input = seconds(&[10, 11, 12, 13, 14, 16]);
    check(&input, &clauses("*"), &["ACME|16"]);
    check(&input, &clauses("*?"), &["ACME|13", "ACME|16"]);
}

#[test]
fn a_match_within_a_time() {
    // The first and the last row of the drop from 15 at 12:00 to 1 at 13:00 are as far apart as WITHIN says: too far.
    let prices = [20, 17, 18, 11, 14, 9, 15, 14, 24, 1, 19];
    let times: Vec<String> = (0..prices.len()).map(|i| format!("{}:{:02}:00", 10 + i / 3, i % 3 * 20)).collect();
    let rows: Vec<(&str, i64, i64)> = times.iter().zip(prices).map(|(t, p)| (t.as_str(), p, 1)).collect();
    check(
        &ticker(&rows),
        "MEASURES C.rowtime AS dropTime, A.price - C.price AS dropDiff ONE ROW PER MATCH
         AFTER MATCH SKIP PAST LAST ROW PATTERN (A B* C) WITHIN INTERVAL '1' HOUR
         DEFINE B AS B.price > A.price - 10, C AS C.price < A.price - 10",
        &["ACME|13:00:00|13"],
    );
}

#[test]
fn where_the_search_goes_on() {
    let clauses = |skip: &str| {
        format!(
            "MEASURES SUM(A.price) AS sumPrice, FIRST(rowtime) AS startTime, LAST(rowtime) AS endTime
             ONE ROW PER MATCH {skip} PATTERN (A+ C) DEFINE A AS SUM(A.price) < 30"
        )
    };
    let input = seconds(&[7, 9, 10, 5, 10, 7, 14]);
    let line = |sum: i64, from: i64, to: i64| format!("ACME|{sum}|10:00:{from:02}|10:00:{to:02}");
    let next = [line(17, 4, 6), line(22, 3, 6), line(24, 1, 4), line(25, 2, 5), line(26, 0, 3)];
    let next = next.each_ref().map(String::as_str);
    check(&input, &clauses("AFTER MATCH SKIP PAST LAST ROW"), &[next[0], next[4]]);
    check(&input, &clauses("AFTER MATCH SKIP TO NEXT ROW"), &next);
    check(&input, &clauses(""), &next);
    check(&input, &clauses("AFTER MATCH SKIP TO LAST A"), &[next[0], next[3], next[4]]);
}

#[test]
fn skipping_to_the_matchs_own_first_row_fails_the_job() {
    let script = Script::new(
        "CREATE TABLE t (v INT, p AS PROCTIME()) WITH ('connector' = 'filesystem', 'path' = '${DIR}/t.json',
           'format' = 'json');
         SELECT * FROM t MATCH_RECOGNIZE (ORDER BY p MEASURES A.v AS v AFTER MATCH SKIP TO FIRST A PATTERN (A+ C)
           DEFINE A AS SUM(A.v) < 30);",
    );
    std::fs::write(script.path("t.json"), "{\"v\":10}\n{\"v\":30}\n").unwrap();
    let output = script.run(&["--set", "restart-strategy.type=none"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("the match's own first row"), "{stderr}");
}

#[test]
fn offsets_within_a_match_in_processing_time() {
    let query = |clauses: &str| {
        format!("SELECT * FROM (SELECT *, PROCTIME() AS pt FROM ticker) MATCH_RECOGNIZE (ORDER BY pt {clauses}) AS m")
    };
    let rows: Vec<(&str, i64, i64)> = [
        ("10:00:01", 19, 1),
        ("10:00:02", 17, 2),
        ("10:00:03", 13, 3),
        ("10:00:04", 20, 4),
        ("10:00:05", 20, 5),
        ("10:00:06", 26, 6),
        ("10:00:07", 20, 7),
        ("10:00:08", 25, 8),
    ]
    .to_vec();
    let down_up = query(
        "MEASURES FIRST(DOWN.rowtime) AS s, LAST(DOWN.rowtime) AS b, UP.rowtime AS e,
           FIRST(DOWN.price + DOWN.tax + 1) AS bottom_total, UP.price + UP.tax AS end_total
         ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (DOWN{2,} UP)
         DEFINE DOWN AS price < LAST(DOWN.price, 1) OR LAST(DOWN.price, 1) IS NULL, UP AS price < FIRST(DOWN.price)",
    );
    assert_eq!(run(&ticker(&rows), "BIGINT", &down_up, &[]), ["10:00:06|10:00:07|10:00:08|33|33"]);
    let outside = query(
        "MEASURES FIRST(DOWN.price) AS f, LAST(DOWN.price) AS l, FIRST(DOWN.price, 5) AS n
         ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (DOWN{2,} UP)
         DEFINE DOWN AS price < LAST(DOWN.price, 1) OR LAST(DOWN.price, 1) IS NULL, UP AS price > LAST(DOWN.price)",
    );
    assert_eq!(run(&ticker(&rows[..4]), "BIGINT", &outside, &[]), ["19|13|null"]);
    let all = query(
        "MEASURES FIRST(tax, 0) AS a, FIRST(tax, 3) AS b, FIRST(tax, 7) AS c, LAST(tax, 0) AS d, LAST(tax, 7) AS e
         ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (`DOWN\"`{2,} UP)
         DEFINE `DOWN\"` AS price < LAST(price, 1) OR LAST(price, 1) IS NULL,
           UP AS price = FIRST(price) AND price > FIRST(price, 3) AND price = LAST(price, 7)",
    );
    let prices = [20, 19, 18, 17, 16, 15, 14, 20];
    let rows: Vec<(&str, i64, i64)> = prices.iter().zip(1..).map(|(price, tax)| ("10:00:00", *price, tax)).collect();
    assert_eq!(run(&ticker(&rows), "BIGINT", &all, &[]), ["1|4|8|8|1"]);
}

#[test]
fn rows_of_one_time_are_sorted_by_the_other_columns() {
    // As in Flink's tests: time, then price descending, then tax; only the last three rows are in order.
    let rows = [
        ("10:00:02", 12, 1),
        ("10:00:01", 11, 2),
        ("10:00:03", 10, 3),
        ("10:00:04", 8, 4),
        ("10:00:04", 9, 5),
        ("10:00:05", 7, 6),
        ("10:00:06", 6, 8),
        ("10:00:06", 6, 7),
        ("10:00:08", 4, 9),
        ("10:00:09", 3, 10),
        ("10:00:10", 2, 11),
        ("10:00:11", 1, 12),
    ];
    let query = "SELECT * FROM ticker MATCH_RECOGNIZE (ORDER BY rowtime, price DESC, tax ASC
        MEASURES A.price AS a, B.price AS b, C.price AS c PATTERN (A B C)
        DEFINE A AS price IN (12, 8, 3) OR price = 6 AND tax = 8, B AS price IN (11, 9, 2) OR price = 6 AND tax = 7,
          C AS price IN (10, 7, 4, 1))";
    let input = ticker(&rows);
    for args in [["--parallelism", "1"], ["--parallelism", "2"]] {
        assert_eq!(run(&input, "BIGINT", query, &args), ["3|2|1"]);
    }
}

#[test]
fn windows_over_matches_and_matches_over_windows() {
    let input = ticker(&[("00:00:01", 1, 1), ("00:00:02", 2, 2), ("00:00:04", 1, 4), ("00:00:05", 1, 3)]);
    let windows = "SELECT symbol, SUM(price) AS price, TUMBLE_ROWTIME(mt, INTERVAL '3' SECOND) AS rt,
          TUMBLE_START(mt, INTERVAL '3' SECOND) AS st
        FROM ticker MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime
          MEASURES A.price AS price, A.tax AS tax, MATCH_ROWTIME() AS mt ONE ROW PER MATCH PATTERN (A)
          DEFINE A AS A.price > 0) AS t
        GROUP BY symbol, TUMBLE(mt, INTERVAL '3' SECOND)";
    let expected = ["ACME|2|00:00:05.999|00:00:03", "ACME|3|00:00:02.999|00:00:00"];
    assert_eq!(run(&input, "BIGINT", windows, &[]), expected);
    let input = ticker(&[
        ("00:00:01", 1, 1),
        ("00:00:02", 2, 2),
        ("00:00:04", 1, 4),
        ("00:00:05", 1, 3),
        ("00:00:07", 2, 3),
        ("00:00:08", 2, 3),
    ]);
    let matches =
        "SELECT * FROM (SELECT symbol, SUM(price) AS price, TUMBLE_ROWTIME(rowtime, INTERVAL '3' SECOND) AS rt,
            TUMBLE_START(rowtime, INTERVAL '3' SECOND) AS st
          FROM ticker GROUP BY symbol, TUMBLE(rowtime, INTERVAL '3' SECOND))
        MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rt MEASURES B.price AS dPrice, B.st AS dTime ONE ROW PER MATCH
          PATTERN (A B) DEFINE B AS B.price < A.price)";
    assert_eq!(run(&input, "BIGINT", matches, &["--parallelism", "2"]), ["ACME|2|00:00:03"]);
}
