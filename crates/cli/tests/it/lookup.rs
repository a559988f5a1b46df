//! Lookup joins with tables of files: what comes out, over kills and rescales, too, and what is refused.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// Orders with processing time, and a table of rates as CSV, which has two rows for EUR and none for ZZZ.
const TABLES: &str = "CREATE TABLE orders (id BIGINT, currency STRING, amount BIGINT, proc_time AS PROCTIME())
      WITH ('connector' = 'filesystem', 'path' = '${DIR}/orders.json', 'format' = 'json');
    CREATE TABLE rates (currency STRING, rate BIGINT, place STRING, twice AS rate * 2)
      WITH ('connector' = 'filesystem', 'path' = '${DIR}/rates.csv', 'format' = 'csv');\n";
const RATES: &str = "EUR,2,paris\nUSD,3,\"new york\"\nEUR,5,rome\nGBP,7,london\n";
const ORDERS: &str = r#"{"id": 1, "currency": "EUR", "amount": 10}
{"id": 2, "currency": "USD", "amount": 20}
{"id": 3, "currency": "ZZZ", "amount": 30}
{"id": 4, "currency": null, "amount": 40}
{"id": 5, "currency": "GBP", "amount": 50}
"#;

fn script(sql: &str) -> Script {
    let script = Script::new(&format!("{TABLES}{sql}"));
    std::fs::write(script.path("rates.csv"), RATES).unwrap();
    std::fs::write(script.path("orders.json"), ORDERS).unwrap();
    script
}

fn rows(output: &Output) -> Vec<String> {
    let row = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let values = line["row"].as_object().unwrap().values().map(|v| v.to_string().replace('"', ""));
        format!("{} {}", line["op"].as_str().unwrap(), values.collect::<Vec<_>>().join(" "))
    };
    stdout_of(output).lines().map(row).collect()
}

/// The rows that a query gives, in order, and that more workers and processes give the same ones.
fn check(sql: &str, expected: &[&str]) {
    let script = script(sql);
    assert_eq!(rows(&script.run(&["--parallelism", "1", "--format", "jsonl"])), expected, "{sql}");
    for args in [&["--parallelism", "3"][..], &["--parallelism", "2", "--processes", "2"]] {
        let mut found = rows(&script.run(&[args, &["--format", "jsonl", "--set", "millstream.batch.rows=1"]].concat()));
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{sql} {args:?}");
    }
}

#[test]
fn rows_meet_those_of_their_key() {
    check(
        "SELECT o.id, r.place, o.amount * r.rate FROM orders o
         JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency;",
        &["+I 1 paris 20", "+I 1 rome 50", "+I 2 new york 60", "+I 5 london 350"],
    );
    check(
        "SELECT o.id, r.place FROM orders AS o
         LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency AND r.rate > 2 AND o.id < 5;",
        &["+I 1 rome", "+I 2 new york", "+I 3 null", "+I 4 null", "+I 5 null"],
    );
}

#[test]
fn keys_may_be_computed_or_constant_and_columns_of_the_table_computed() {
    check(
        "SELECT o.id, r.twice FROM (SELECT *, PROCTIME() AS p FROM orders WHERE id < 3) o
         JOIN rates FOR SYSTEM_TIME AS OF o.p AS r ON UPPER(LOWER(o.currency)) = r.currency AND r.place = 'rome';",
        &["+I 1 10"],
    );
    check(
        "SELECT o.id, r.place FROM orders AS o
         JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON r.currency = 'GBP' WHERE o.id <> r.rate - 5;",
        &["+I 1 london", "+I 3 london", "+I 4 london", "+I 5 london"],
    );
}

#[test]
fn a_view_over_the_table_is_looked_up_in_too() {
    check(
        "CREATE VIEW dear AS SELECT place AS city, rate + 1 AS more, currency AS c FROM rates WHERE rate > 2;
         SELECT o.id, d.city, d.more FROM orders AS o
         LEFT JOIN dear FOR SYSTEM_TIME AS OF o.proc_time AS d ON d.c = o.currency AND d.more <> o.id + 3;",
        &["+I 1 rome 6", "+I 2 new york 4", "+I 3 null null", "+I 4 null null", "+I 5 null null"],
    );
}

#[test]
fn rows_that_are_updated_meet_their_rows_in_order() {
    let sql = "SELECT c.n, c.currency, r.rate FROM
           (SELECT currency, COUNT(*) AS n, PROCTIME() AS p FROM (SELECT * FROM orders UNION ALL SELECT * FROM orders)
            GROUP BY currency) c
         JOIN rates FOR SYSTEM_TIME AS OF c.p AS r ON c.currency = r.currency;";
    let script = script(sql);
    for args in [&["--parallelism", "1", "--set", "millstream.batch.rows=1"][..], &["--parallelism", "3"]] {
        let mut live: Vec<String> = vec![];
        for row in rows(&script.run(&[args, &["--format", "jsonl"]].concat())) {
            let (op, row) = row.split_once(' ').unwrap();
            match op {
                "+I" | "+U" => live.push(row.to_string()),
                _ => drop(live.remove(live.iter().position(|r| r == row).expect("what is taken back was there"))),
            }
        }
        live.sort();
        assert_eq!(live, ["2 EUR 2", "2 EUR 5", "2 GBP 7", "2 USD 3"], "{args:?}");
    }
}

#[test]
fn what_is_joined_goes_on_as_a_stream_with_event_time() {
    let sql = "CREATE TABLE clicks (k STRING, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'filesystem', 'path' = '${DIR}/clicks.json', 'format' = 'json');
         SELECT place, COUNT(*), CAST(window_start AS STRING) FROM TABLE(TUMBLE(TABLE joined, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY place, window_start, window_end;"
        .replace("SELECT place", "CREATE VIEW joined AS SELECT r.place, c.ts FROM clicks c
           JOIN rates FOR SYSTEM_TIME AS OF c.p AS r ON c.k = r.currency;\nSELECT place");
    let script = script(&sql);
    let click =
        |k: &str, s: u32| format!("{{\"k\": \"{k}\", \"ts\": \"2024-01-01 00:{:02}:{:02}\"}}\n", s / 60, s % 60);
    let clicks: String = (0..120).map(|s| click(["USD", "GBP", "ZZZ"][s as usize % 3], s)).collect();
    std::fs::write(script.path("clicks.json"), clicks).unwrap();
    let mut found = rows(&script.run(&["--format", "jsonl", "--parallelism", "2"]));
    found.sort();
    let of = |place: &str, minute: u32| format!("+I {place} 20 2024-01-01 00:0{minute}:00.000");
    assert_eq!(found, [of("london", 0), of("london", 1), of("new york", 0), of("new york", 1)]);
}

/// Reads what the job has written: ids with the place.
fn written(folder: &Path) -> Vec<(i64, i64)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                found.push((row["id"].as_i64().unwrap(), row["v"].as_i64().unwrap_or(-1)));
            }
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn kills_and_rescales_lose_and_double_nothing() {
    const ROWS: i64 = 20_000;
    let script = Script::new(
        "SET 'execution.checkpointing.interval' = '50 ms';
        CREATE TABLE numbers (id BIGINT, p AS PROCTIME())
          WITH ('connector' = 'filesystem', 'path' = '${DIR}/in.json', 'format' = 'json',
                'scan.rate-limit.rows-per-second' = '4000');
        CREATE TABLE d (k BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/d.csv', 'format' = 'csv',
          'lookup.full-cache.periodic-reload.interval' = '20 ms');
        CREATE TABLE kept (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');
        INSERT INTO kept SELECT n.id, d.v FROM numbers n
          LEFT JOIN d FOR SYSTEM_TIME AS OF n.p ON MOD(n.id, 1000) = d.k;",
    );
    std::fs::write(script.path("in.json"), (0..ROWS).map(|i| format!("{{\"id\": {i}}}\n")).collect::<String>())
        .unwrap();
    let has_row = |k: i64| k % 5 != 0;
    let table: String = (0..1000).filter(|k| has_row(*k)).map(|k| format!("{k},{}\n", k * k)).collect();
    std::fs::write(script.path("d.csv"), table).unwrap();
    let ways = [
        &["--parallelism", "1"][..],
        &["--parallelism", "3"],
        &["--processes", "2", "--parallelism", "2"],
        &["--parallelism", "2"],
    ];
    for args in ways {
        let mut job = Running::start(&script, args);
        job.wait_for_checkpoints(&script, 3);
        job.signal(libc::SIGKILL);
        job.wait();
    }
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'4000'", "'1000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "2"]));
    let value = |id: i64| if has_row(id % 1000) { (id % 1000).pow(2) } else { -1 };
    assert_eq!(written(&script.path("out")), (0..ROWS).map(|id| (id, value(id))).collect::<Vec<_>>());
}

#[test]
fn a_table_is_read_again_when_its_options_say_so() {
    let script = Script::new(
        "CREATE TABLE numbers (id BIGINT, p AS PROCTIME())
          WITH ('connector' = 'datagen', 'rows-per-second' = '200', 'fields.id.kind' = 'sequence',
                'fields.id.start' = '0', 'fields.id.end' = '100000');
        CREATE TABLE d (k BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/d.csv', 'format' = 'csv',
          'lookup.cache' = 'FULL', 'lookup.full-cache.periodic-reload.interval' = '50 ms');
        CREATE TABLE kept (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');
        SET 'execution.checkpointing.interval' = '50 ms';
        INSERT INTO kept SELECT n.id, d.v FROM numbers n JOIN d FOR SYSTEM_TIME AS OF n.p ON d.k = 1;",
    );
    std::fs::write(script.path("d.csv"), "1,10\n").unwrap();
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    let mut wait_for = |value: i64| {
        for _ in 0..2000 {
            assert!(!job.has_ended(), "{}", job.stderr());
            if script.path("out").exists() && written(&script.path("out")).iter().any(|row| row.1 == value) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no row has met {value}: {}", job.stderr());
    };
    wait_for(10);
    std::fs::write(script.path("new.csv"), "1,20\n").unwrap();
    std::fs::rename(script.path("new.csv"), script.path("d.csv")).unwrap();
    wait_for(20);
}

/// The script is refused before anything runs.
fn refused(sql: &str, parts: &[&str]) {
    let output = script(sql).run(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{sql}: {stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{sql}: no '{part}' in: {stderr}");
    }
}

#[test]
fn what_is_no_lookup_join_is_refused_with_the_reason() {
    let join = |table: &str, on: &str| {
        format!("SELECT o.id FROM orders o JOIN {table} FOR SYSTEM_TIME AS OF o.proc_time AS r ON {on};")
    };
    refused(&join("rates", "o.id < r.rate"), &["which rows of 'r' are looked up", "equality", "line 5, column 80"]);
    refused(&join("rates", "o.id = r.twice"), &["which rows of 'r' are looked up"]);
    refused(
        "SELECT o.id FROM orders o RIGHT JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency;",
        &["neither INNER nor LEFT"],
    );
    let with_time = "CREATE TABLE v (k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (k) NOT ENFORCED)
        WITH ('connector' = 'filesystem', 'path' = '${DIR}/rates.csv', 'format' = 'csv');";
    let versions = format!("{with_time}{}", join("v", "o.currency = r.k"));
    refused(&versions, &["a join with 'r' as it is now", "table 'v' has event time", "by event time"]);
    let changes = "CREATE TABLE v (k STRING) WITH ('connector' = 'filesystem', 'path' = '${DIR}/rates.csv', \
        'format' = 'debezium-json');";
    refused(&format!("{changes}{}", join("v", "o.currency = r.k")), &["no rows are looked up in changes", "table 'v'"]);
    let generated = "CREATE TABLE g (k STRING) WITH ('connector' = 'datagen');";
    refused(&format!("{generated}{}", join("g", "o.currency = r.k")), &["the connector 'datagen' has no tables"]);
    let query = "CREATE VIEW q AS SELECT currency AS k, COUNT(*) AS n FROM rates GROUP BY currency;";
    refused(&format!("{query}{}", join("q", "o.currency = r.k")), &["it is the result of a query"]);
    let hinted = |options: &str| join(&format!("rates /*+ OPTIONS({options}) */"), "o.currency = r.currency");
    refused(&hinted("'lookup.cache' = 'NONE'"), &["always held whole", "option 'lookup.cache'"]);
    refused(&hinted("'lookup.full-cache.periodic-reload.interval' = 'often'"), &["is not a duration"]);
}

#[test]
fn hints_that_say_nothing_sensible_are_refused() {
    let hinted = |hint: &str| {
        format!(
            "SELECT /*+ LOOKUP({hint}) */ o.id FROM orders o
             JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency;"
        )
    };
    refused(&hinted("'async' = 'true'"), &["needs 'table'", "line 5, column 8"]);
    refused(&hinted("'table' = 'x'"), &["names 'x', which isn't looked up"]);
    refused(&hinted("'table' = 'r', 'capacity' = '0'"), &["'capacity'", "must be a number above 0"]);
    refused(&hinted("'table' = 'r', 'output-mode' = 'any'"), &["'ordered' or 'allow_unordered'"]);
    refused(&hinted("'table' = 'r', 'timeot' = '1 s'"), &["no key 'timeot'", "did you mean 'timeout'?"]);
    refused(&hinted("'table' = 'r', 'retry-predicate' = 'lookup_miss'"), &["needs all of its four keys"]);
    refused(&hinted("r"), &["takes 'key' = 'value', not `r`"]);
    check(
        &hinted(
            "'table' = 'rates', 'async' = 'true', 'output-mode' = 'allow_unordered', 'capacity' = '10', 'timeout' = '9 s',
             'retry-predicate' = 'lookup_miss', 'retry-strategy' = 'fixed_delay', 'fixed-delay' = '1 ms', 'max-attempts' = '2'",
        ),
        &["+I 1", "+I 1", "+I 2", "+I 5"],
    );
}

#[test]
fn the_plan_shows_what_is_looked_up_and_how() {
    let script = script(
        "SELECT /*+ LOOKUP('table' = 'r', 'capacity' = '7') */ o.id, r.place FROM orders o
         LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency AND o.id < r.rate;",
    );
    let plan = stdout_of(&script.command("explain", &[]).output().unwrap());
    for part in [
        "LookupJoin id=select/lookup-join changelog=[I]",
        "LEFT by [currency = currency]",
        "looked up: currency, rate, place",
        "where: (id < rate)",
        "calls: in order, while 7 rows wait no more are taken, answers within 180000 ms",
        "held whole",
    ] {
        assert!(plan.contains(part), "no '{part}' in: {plan}");
    }
}

#[test]
fn a_table_that_cannot_be_read_fails_the_job() {
    let script = script(
        "SELECT o.id, r.rate FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.proc_time AS r ON o.currency = r.currency;",
    );
    std::fs::write(script.path("rates.csv"), "EUR,much,paris\n").unwrap();
    let output = script.run(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("rates.csv, line 1") && stderr.contains("'much' is no BIGINT"), "{stderr}");
}
