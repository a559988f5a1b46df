//! `millstream test`: what it takes for a pass, what it says of a difference, and of files that are wrong.

use crate::script::{Script, stdout_of};
use std::process::Output;

const ORDERS: &str = "CREATE TABLE orders (shop STRING, price DECIMAL(10, 2), ts TIMESTAMP(3), \
WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) \
WITH ('connector' = 'filesystem', 'path' = '/nowhere/orders', 'format' = 'csv');\n";
const MINUTES: &str = "CREATE TABLE minutes (shop STRING, total DECIMAL(38, 2), since TIMESTAMP(3)) \
WITH ('connector' = 'filesystem', 'path' = '/nowhere/minutes', 'format' = 'json');\n\
INSERT INTO minutes SELECT shop, SUM(price), window_start \
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY shop, window_start, window_end;\n";
const ROWS: &str = r#"{"shop": "a", "price": 1.50, "ts": "2026-01-01 00:00:10"}
{"shop": "b", "price": 2, "ts": "2026-01-01 00:00:20"}
{"shop": "a", "price": 3.25, "ts": "2026-01-01 00:00:59.999"}
{"shop": "a", "price": 4, "ts": "2026-01-01 00:01:30"}
{"shop": "b", "price": 100, "ts": "2026-01-01 00:00:30"}
"#;
const TOTALS: &str = r#"{"shop":"a","total":"4.75","since":"2026-01-01 00:00:00.000"}
{"shop":"a","total":"4.00","since":"2026-01-01 00:01:00.000"}
{"shop":"b","total":"2.00","since":"2026-01-01 00:00:00.000"}
"#;

/// A script with files of its tests, by their paths in `job.test`.
fn script(sql: &str, files: &[(&str, &str)]) -> Script {
    let script = Script::new(sql);
    for (name, text) in files {
        let path = script.path("job.test").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    script
}

fn test(script: &Script, args: &[&str]) -> Output {
    script.command("test", args).output().unwrap()
}

fn minutes(files: &[(&str, &str)]) -> Script {
    script(&format!("{ORDERS}{MINUTES}"), files)
}

/// Nothing is run: exit code 2, and what is said.
fn refused(script: &Script, args: &[&str], parts: &[&str]) {
    let output = test(script, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.matches("error: ").count() == 1, "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "no '{part}' in: {stderr}"));
}

/// A test fails: exit code 1, and what is said.
fn fails(script: &Script, parts: &[&str]) {
    let output = test(script, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    parts.iter().for_each(|part| assert!(text.contains(part), "no '{part}' in: {text}"));
}

#[test]
fn a_script_that_gives_the_expected_rows_passes() {
    let script = minutes(&[("input/orders.jsonl", ROWS), ("expected/minutes.jsonl", TOTALS)]);
    assert_eq!(stdout_of(&test(&script, &[])), "job  ok       5 rows, 7 runs\n");
}

#[test]
fn late_rows_are_a_table_like_any_other() {
    let late = "CREATE TABLE late (operator STRING, shop STRING, price DECIMAL(10, 2), `row` STRING) \
                WITH ('connector' = 'print');\nSET 'table.exec.late-rows.sink' = 'late';\n";
    let row = r#"{"operator":"sink:minutes/aggregate","shop":"b","price":100,
                  "row":"{\"price\":100.00,\"shop\":\"b\",\"ts\":\"2026-01-01 00:00:30.000\"}"}"#;
    let row = row.replace('\n', " ");
    let files =
        [("input/orders.jsonl", ROWS), ("expected/minutes.jsonl", TOTALS), ("expected/late.jsonl", row.as_str())];
    let script = script(&format!("{ORDERS}{late}{MINUTES}"), &files);
    assert_eq!(stdout_of(&test(&script, &[])), "job  ok       5 rows, 7 runs\n");
}

#[test]
fn order_and_the_way_that_values_are_written_do_not_matter() {
    let expected = r#"{"since": "2026-01-01 00:01:00", "total": 4, "shop": "a"}

{"shop": "b", "total": 2.0, "since": "2026-01-01 00:00:00"}
{"shop": "a", "total": "4.75", "since": "2026-01-01 00:00:00"}"#;
    let script = minutes(&[("input/orders.jsonl", ROWS), ("expected/minutes.jsonl", expected)]);
    assert!(test(&script, &[]).status.success());
}

#[test]
fn a_difference_is_shown_row_by_row() {
    let expected = TOTALS.replace("4.75", "4.76") + "{\"shop\":\"c\"}\n";
    let script = minutes(&[("input/orders.jsonl", ROWS), ("expected/minutes.jsonl", &expected)]);
    fails(
        &script,
        &[
            "job  differs\n  table minutes (- expected, + got)\n",
            "    + {\"shop\":\"a\",\"total\":\"4.75\",\"since\":\"2026-01-01 00:00:00.000\"}\n    \
             - {\"shop\":\"a\",\"total\":\"4.76\",\"since\":\"2026-01-01 00:00:00.000\"}\n",
            "    - {\"shop\":\"c\",\"total\":null,\"since\":null}\n",
            "error: 1 of 1 test failed",
        ],
    );
}

#[test]
fn update_writes_what_comes_out() {
    let script = minutes(&[("input/orders.jsonl", ROWS)]);
    assert_eq!(stdout_of(&test(&script, &["--update"])), "job  updated  1 file\n");
    let mut expected: Vec<&str> = TOTALS.lines().collect();
    expected.sort();
    let written = std::fs::read_to_string(script.path("job.test/expected/minutes.jsonl")).unwrap();
    assert_eq!(written.lines().collect::<Vec<_>>(), expected);
    assert!(test(&script, &[]).status.success());
}

const LOOKUP: &str = "CREATE TABLE orders (id BIGINT, currency STRING, proc_time AS PROCTIME())
    WITH ('connector' = 'filesystem', 'path' = '/nowhere/orders', 'format' = 'json');
  CREATE TABLE rates (currency STRING, rate BIGINT, place STRING)
    WITH ('connector' = 'jdbc', 'url' = 'jdbc:postgresql://nowhere/db', 'table-name' = 'rates');
  SELECT o.id, r.place FROM orders o
  LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency AND r.rate > 2;";
const LOOKED_UP: &str = r#"{"currency": "EUR", "rate": 2, "place": "paris"}
{"currency": "EUR", "rate": 5, "place": "rome"}
{"currency": "EUR", "rate": 7, "place": "bonn"}
{"currency": null, "rate": 9, "place": "nowhere"}
"#;

#[test]
fn rows_are_looked_up_in_a_file_in_place_of_their_table() {
    let orders = "{\"id\": 1, \"currency\": \"EUR\"}\n{\"id\": 2, \"currency\": \"USD\"}\n{\"id\": 3}\n";
    let expected = "{\"id\": 1, \"place\": \"rome\"}\n{\"id\": 1, \"place\": \"bonn\"}\n{\"id\": 2}\n{\"id\": 3}\n";
    let files = [("input/orders.jsonl", orders), ("input/rates.jsonl", LOOKED_UP), ("expected/select.jsonl", expected)];
    assert_eq!(stdout_of(&test(&script(LOOKUP, &files), &[])), "job  ok       7 rows, 7 runs\n");
    let without = [files[0], files[2]];
    refused(&script(LOOKUP, &without), &[], &["there is no input for table 'rates'", "input/rates.jsonl"]);
    let timed = format!("{{\"@at\": \"2026-01-01 00:00:00\"}}\n{LOOKED_UP}");
    let files = [files[0], ("input/rates.jsonl", timed.as_str()), files[2]];
    refused(&script(LOOKUP, &files), &[], &["rows are looked up in table 'rates'", "remove the lines with '@at'"]);
    let misnamed = LOOKED_UP.replace("\"rate\"", "\"rat\"");
    let files = [files[0], ("input/rates.jsonl", misnamed.as_str()), files[2]];
    refused(&script(LOOKUP, &files), &[], &["there is no column 'rat'", "rates.jsonl, line 1", "did you mean 'rate'?"]);
}

#[test]
fn folders_are_cases_of_their_own() {
    let wrong = TOTALS.replace("4.75", "5");
    let files = [
        ("bad/input/orders.jsonl", ROWS),
        ("bad/expected/minutes.jsonl", wrong.as_str()),
        ("empty/input/orders.jsonl", ""),
        ("empty/expected/minutes.jsonl", ""),
        ("good/input/orders.jsonl", ROWS),
        ("good/expected/minutes.jsonl", TOTALS),
    ];
    let script = minutes(&files);
    fails(&script, &["bad    differs", "empty  ok       0 rows", "good   ok       5 rows", "1 of 3 tests failed"]);
    assert_eq!(stdout_of(&test(&script, &["--case", "good"])), "good  ok       5 rows, 7 runs\n");
    refused(&script, &["--case", "god"], &["there is no test 'god'", "did you mean 'good'?"]);
}

#[test]
fn processing_time_follows_the_files() {
    let sql = "CREATE TABLE t (v INT, now AS PROCTIME()) WITH ('connector' = 'datagen');\n\
               SELECT window_start, SUM(v) AS total, CAST(MAX(CURRENT_TIMESTAMP) AS STRING) AS latest \
               FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(now), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;";
    let rows = "{\"@at\": \"2026-01-01 00:00:01\"}\n{\"v\": 1}\n{\"@at\": \"2026-01-01 00:00:09\"}\n{\"v\": 2}\n\
                {\"@at\": \"2026-01-01 00:00:10\"}\n{\"v\": 4}\n";
    let expected = r#"{"window_start":"2026-01-01 00:00:00.000","total":3,"latest":"2026-01-01 00:00:09.000"}
{"window_start":"2026-01-01 00:00:10.000","total":4,"latest":"2026-01-01 00:00:10.000"}
"#;
    let script = script(sql, &[("input/t.jsonl", rows), ("expected/select.jsonl", expected)]);
    assert_eq!(stdout_of(&test(&script, &[])), "job  ok       3 rows, 7 runs\n");
}

#[test]
fn changes_are_read_in_the_tables_own_format_and_folded() {
    let sql = "CREATE TABLE users (id INT, city STRING, PRIMARY KEY (id) NOT ENFORCED) \
               WITH ('connector' = 'filesystem', 'path' = '/nowhere', 'format' = 'debezium-json');\n\
               SELECT city, COUNT(*) AS n FROM users GROUP BY city;";
    let rows = r#"{"before": null, "after": {"id": 1, "city": "A"}, "op": "c"}
{"before": null, "after": {"id": 2, "city": "A"}, "op": "c"}
{"before": {"id": 1, "city": "A"}, "after": {"id": 1, "city": "B"}, "op": "u"}
{"before": {"id": 2, "city": "A"}, "after": null, "op": "d"}
"#;
    let expected = "{\"city\": \"B\", \"n\": 1}\n";
    let script = script(sql, &[("input/users.jsonl", rows), ("expected/select.jsonl", expected)]);
    assert!(test(&script, &[]).status.success());
}

#[test]
fn a_result_that_depends_on_crashes_is_found() {
    // A random number is another one when a row is read again.
    let sql = "CREATE TABLE t (v INT) WITH ('connector' = 'datagen');\n\
               SELECT v, CAST(RAND() * 1000000000 AS INT) AS r FROM t;";
    let script = script(sql, &[("input/t.jsonl", "{\"v\": 1}\n{\"v\": 2}\n")]);
    let output = test(&script, &["--update"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("at parallelism 2") && text.contains("+ {\"v\":1,\"r\":"), "{text}");
}

#[test]
fn a_job_that_fails_fails_its_test() {
    let sql = "CREATE TABLE t (v INT) WITH ('connector' = 'datagen');\nSELECT 1 / v AS x FROM t;";
    let script = script(sql, &[("input/t.jsonl", "{\"v\": 0}\n"), ("expected/select.jsonl", "")]);
    fails(&script, &["job  failed", "division by zero", "1 of 1 test failed"]);
}

#[test]
fn what_is_missing_is_named() {
    refused(&minutes(&[]), &[], &["the script has no tests (job.test)", "job.test/input/TABLE.jsonl"]);
    let expected = ("expected/minutes.jsonl", TOTALS);
    refused(&minutes(&[expected]), &[], &["there is no input for table 'orders' (job.test/input/orders.jsonl)"]);
    let input = ("input/orders.jsonl", ROWS);
    let parts = ["there are no expected rows for table 'minutes' (job.test/expected/minutes.jsonl)", "--update"];
    refused(&minutes(&[input]), &[], &parts);
    let script = script("SHOW TABLES;", &[("input/t.jsonl", "")]);
    refused(&script, &[], &["there is nothing to test"]);
}

#[test]
fn files_of_tables_that_the_script_does_not_have_are_refused() {
    let (input, expected) = (("input/orders.jsonl", ROWS), ("expected/minutes.jsonl", TOTALS));
    let stray = minutes(&[input, expected, ("input/order.jsonl", "")]);
    refused(&stray, &[], &["the script reads no table 'order' (job.test/input/order.jsonl)", "did you mean 'orders'?"]);
    let stray = minutes(&[input, expected, ("expected/hours.jsonl", "")]);
    refused(&stray, &[], &["the script writes no table 'hours'", "minutes"]);
}

#[test]
fn bad_rows_are_told_with_file_and_line() {
    let expected = ("expected/minutes.jsonl", TOTALS);
    let bad = |rows: &str, parts: &[&str]| refused(&minutes(&[("input/orders.jsonl", rows), expected]), &[], parts);
    bad("{\"shop\": \"a\"}\n{\"shop\": ", &["not valid JSON (job.test/input/orders.jsonl, line 2)"]);
    bad(
        "{\"shopp\": \"a\"}",
        &["there is no column 'shopp' (job.test/input/orders.jsonl, line 1)", "did you mean 'shop'?"],
    );
    bad("\n{\"shop\": \"a\", \"price\": \"x\"}", &["orders.jsonl, line 2", "price"]);
    bad("{\"@at\": \"noon\"}", &["is not a time (job.test/input/orders.jsonl, line 1)", "2026-01-01 00:00:05"]);
    bad(
        "{\"@at\": \"2026-01-01 00:00:05\"}\n{\"@at\": \"2026-01-01 00:00:04\"}",
        &["the clock can't go back (job.test/input/orders.jsonl, line 2)"],
    );
    let script = minutes(&[("input/orders.jsonl", ROWS), ("expected/minutes.jsonl", "{\"totl\": 1}")]);
    refused(
        &script,
        &[],
        &["there is no column 'totl' (job.test/expected/minutes.jsonl, line 1)", "did you mean 'total'?"],
    );
}

#[test]
fn mistakes_of_the_script_are_told_as_ever() {
    let script = script("SELECT x FROM y;", &[("input/y.jsonl", "")]);
    refused(&script, &[], &["there is no table 'y' (line 1, column 15)"]);
    refused(&script, &["--set", "a"], &["--set a is not of the form KEY=VALUE"]);
}
