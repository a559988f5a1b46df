//! The table that late rows go to: every operator that drops them, against plain Rust; stopped, killed and rescaled;
//! and what a script may get wrong.

use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const EVENTS: i64 = 6_000;
/// How far the watermark stays behind, milliseconds.
const BEHIND_MS: i64 = 2_000;

/// Event `i`: its key, and its time, up to six seconds out of order; milliseconds since midnight.
fn event(i: i64) -> (i64, i64) {
    let x = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(23);
    let behind = if x & 7 == 0 { (x >> 8).rem_euclid(6_000) } else { (x >> 8).rem_euclid(1_900) };
    ((x >> 24).rem_euclid(7), 100_000 + i * 17 - behind)
}

/// The watermark that stands when each event comes; each event that moves it does so at once.
fn watermarks() -> Vec<i64> {
    let mut highest = i64::MIN;
    let mut watermarks = vec![];
    for i in 0..EVENTS {
        watermarks.push(highest);
        highest = highest.max(event(i).1 - BEHIND_MS);
    }
    watermarks
}

fn time_text(ms: i64) -> String {
    let (s, ms) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    format!("2024-01-01 {:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}

/// The same as the format `json` writes it.
fn json_time(ms: i64) -> String {
    time_text(ms).trim_end_matches('0').trim_end_matches('.').to_string()
}

const TUMBLE: &str = "TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '3' SECOND))";

/// Queries, each with the node that drops late rows.
fn queries() -> Vec<(&'static str, &'static str, String)> {
    vec![
        (
            "tumbled",
            "aggregate",
            format!("SELECT MAX(id), COUNT(*) FROM {TUMBLE} GROUP BY k, window_start, window_end"),
        ),
        (
            "hopped",
            "aggregate",
            "SELECT MAX(id), COUNT(*) FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND, \
             INTERVAL '3' SECOND)) GROUP BY window_start, window_end"
                .into(),
        ),
        (
            "sessions",
            "aggregate",
            "SELECT MAX(id), COUNT(*) FROM TABLE(SESSION(TABLE events PARTITION BY k, DESCRIPTOR(ts), \
             INTERVAL '0.2' SECOND)) GROUP BY k, window_start, window_end"
                .into(),
        ),
        ("before", "over", "SELECT id, COUNT(*) OVER (PARTITION BY k ORDER BY ts) FROM events".into()),
        (
            "firsts",
            "rank",
            "SELECT id, 1 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, ts ORDER BY ts) AS n FROM events) \
             WHERE n = 1"
                .into(),
        ),
        (
            "ranked",
            "rank",
            format!(
                "SELECT id, 1 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k \
                 ORDER BY id) AS n FROM {TUMBLE}) WHERE n <= 5"
            ),
        ),
        (
            "matched",
            "match",
            "SELECT id, 1 FROM events MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES A.id AS id \
             PATTERN (A) DEFINE A AS A.id >= 0)"
                .into(),
        ),
        (
            "joined",
            "join",
            format!(
                "SELECT a.id, b.k FROM (SELECT * FROM {TUMBLE} WHERE MOD(id, 2) = 0) a JOIN \
                 (SELECT * FROM {TUMBLE} WHERE MOD(id, 2) = 1) b \
                 ON a.id = b.id + 1 AND a.window_start = b.window_start AND a.window_end = b.window_end"
            ),
        ),
    ]
}

fn script(rate: i64) -> Script {
    let queries = queries();
    let tables: String = queries
        .iter()
        .map(|(name, ..)| {
            format!(
                "CREATE TABLE {name} (id INT, n BIGINT)
                   WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/{name}', 'format' = 'json');"
            )
        })
        .collect();
    let inserts: String = queries.iter().map(|(name, _, query)| format!("INSERT INTO {name} {query};\n")).collect();
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         SET 'pipeline.auto-watermark-interval' = '0 ms';
        CREATE TABLE events (id INT, k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/events.csv', 'format' = 'csv',
                'scan.rate-limit.rows-per-second' = '{rate}');
        CREATE TABLE late (row_time TIMESTAMP(3), operator STRING, id INT, `watermark` TIMESTAMP(3), `row` STRING,
                           row_kind STRING NOT NULL, processing_time TIMESTAMP_LTZ(3) NOT NULL)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/late', 'format' = 'json');
        {tables}
        SET 'table.exec.late-rows.sink' = 'late';
        EXECUTE STATEMENT SET BEGIN
        {inserts}
        END;"
    ));
    let mut text = String::new();
    for i in 0..EVENTS {
        let (key, time) = event(i);
        text.push_str(&format!("{i},{key},{}\n", time_text(time)));
    }
    // One reader reads it: such a file is not cut.
    std::fs::write(script.path("events.csv"), text).unwrap();
    script
}

fn rows(folder: &Path) -> Vec<Value> {
    let mut rows = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with(['.', '_']) {
            let text = std::fs::read_to_string(path).unwrap();
            rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    rows
}

/// The late rows of each operator, by `id`.
fn late(script: &Script) -> BTreeMap<String, Vec<(i64, Value)>> {
    let mut late: BTreeMap<String, Vec<(i64, Value)>> = BTreeMap::new();
    for row in rows(&script.path("late")) {
        let own: Value = serde_json::from_str(row["row"].as_str().unwrap()).unwrap();
        assert_eq!(own["id"], row["id"], "{row}");
        assert_eq!(row["row_kind"], "+I");
        late.entry(row["operator"].as_str().unwrap().to_string()).or_default().push((row["id"].as_i64().unwrap(), row));
    }
    late.values_mut().for_each(|rows| rows.sort_by_key(|(id, _)| *id));
    late
}

/// What is late by an event's time, the watermark, and whether the two make it so.
fn expected(is_late: impl Fn(i64, i64) -> bool) -> Vec<i64> {
    let watermarks = watermarks();
    (0..EVENTS).filter(|i| is_late(event(*i).1, watermarks[*i as usize])).collect()
}

fn window_end(time: i64) -> i64 {
    time.div_euclid(3_000) * 3_000 + 3_000
}

fn check(script: &Script) {
    let late = late(script);
    let ids = |operator: &str| -> Vec<i64> {
        late.get(operator).unwrap_or_else(|| panic!("no {operator}")).iter().map(|(id, _)| *id).collect()
    };
    let by_window = expected(|time, watermark| window_end(time) - 1 <= watermark);
    let by_hop = expected(|time, watermark| time.div_euclid(1_000) * 1_000 + 3_000 - 1 <= watermark);
    let by_time = expected(|time, watermark| time <= watermark);
    assert!(by_window.len() > 100 && by_hop.len() > 100 && by_time.len() > by_window.len());
    assert_eq!(ids("sink:tumbled/aggregate"), by_window);
    assert_eq!(ids("sink:ranked/rank"), by_window);
    // A join's time is that of the input that is behind, which may be either.
    assert!(!ids("sink:joined/join").is_empty() && ids("sink:joined/join").iter().all(|id| by_window.contains(id)));
    assert_eq!(ids("sink:hopped/aggregate"), by_hop);
    assert_eq!(ids("sink:before/over"), by_time);
    assert_eq!(ids("sink:matched/match"), by_time);
    assert_eq!(ids("sink:firsts/rank"), expected(|time, watermark| time < watermark));
    // What isn't late is counted in one session.
    let counted: i64 = rows(&script.path("sessions")).iter().map(|row| row["n"].as_i64().unwrap()).sum();
    assert!(counted < EVENTS);
    assert_eq!(ids("sink:sessions/aggregate").len() as i64, EVENTS - counted);
    assert_eq!(rows(&script.path("before")).len(), EVENTS as usize - by_time.len());
    let watermarks = watermarks();
    for (id, row) in &late["sink:before/over"] {
        assert_eq!(row["row_time"], json_time(event(*id).1), "{row}");
        assert_eq!(row["watermark"], json_time(watermarks[*id as usize]), "{row}");
        let own: Value = serde_json::from_str(row["row"].as_str().unwrap()).unwrap();
        let all = serde_json::json!({"id": id, "k": event(*id).0, "ts": time_text(event(*id).1)});
        assert_eq!(own, all);
    }
    for (id, row) in &late["sink:joined/join"] {
        assert_eq!(row["row_time"], json_time(window_end(event(*id).1) - 1), "{row}");
    }
}

/// Of a job that was stopped: which rows are late depends on when readers without a file say so, but each row is either
/// late or counted, once.
fn check_whole(script: &Script) {
    let late = late(script);
    let of = |name: &str, node: &str| late.get(&format!("sink:{name}/{node}")).cloned().unwrap_or_default();
    for (name, node, _) in queries() {
        let ids: Vec<i64> = of(name, node).iter().map(|(id, _)| *id).collect();
        assert!(!ids.is_empty() && ids.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {ids:?}");
    }
    for (name, node) in [("before", "over"), ("matched", "match")] {
        let out = rows(&script.path(name));
        let mut all: Vec<i64> = out.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        all.extend(of(name, node).iter().map(|(id, _)| *id));
        all.sort_unstable();
        assert!(all.into_iter().eq(0..EVENTS), "{name}");
    }
    for name in ["tumbled", "sessions"] {
        let counted: i64 = rows(&script.path(name)).iter().map(|row| row["n"].as_i64().unwrap()).sum();
        assert_eq!(counted + of(name, "aggregate").len() as i64, EVENTS, "{name}");
    }
}

#[test]
fn what_operators_drop_as_late_goes_to_the_table_whatever_the_workers_and_batches() {
    for args in [
        &["--parallelism", "1"][..],
        &["--parallelism", "3", "--set", "millstream.batch.rows=1"],
        &["--parallelism", "4", "--processes", "2"],
    ] {
        let script = script(1_000_000);
        let output = script.run(args);
        stdout_of(&output);
        check(&script);
        // The summary counts the same rows.
        let summary = String::from_utf8_lossy(&output.stderr).into_owned();
        let late = rows(&script.path("late")).len();
        let shown = format!("{},{:03} late", late / 1000, late % 1000);
        assert!(summary.contains(&shown), "no '{shown}' in: {summary}");
    }
}

#[test]
fn late_rows_survive_stops_kills_and_rescaling() {
    let script = script(2_000);
    for (n, parallelism) in ["2", "3", "1"].into_iter().enumerate() {
        let mut command = script.command("run", &["--parallelism", parallelism]);
        let mut job = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700 + 150 * n as u64));
        let signal = if n % 2 == 0 { libc::SIGKILL } else { libc::SIGTERM };
        // SAFETY: a plain system call on the id of a process that this test started.
        unsafe { libc::kill(job.id() as libc::pid_t, signal) };
        job.wait().unwrap();
    }
    // What is left is read at full speed.
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'2000'", "'1000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "2"]));
    check_whole(&script);
}

const TABLES: &str = "CREATE TABLE events (id INT, price DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) \
WITH ('connector' = 'filesystem', 'path' = '${DIR}', 'format' = 'json');\n\
CREATE TABLE sums (n DOUBLE) WITH ('connector' = 'blackhole');\n";
const QUERY: &str = "INSERT INTO sums SELECT SUM(price * 2) FROM \
TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;\n";

fn explained(columns: &str, sink: &str) -> std::process::Output {
    let late = format!("CREATE TABLE late ({columns}) WITH ('connector' = 'blackhole');\n");
    let set = format!("SET 'table.exec.late-rows.sink' = '{sink}';\n");
    Script::new(&format!("{TABLES}{late}{set}{QUERY}")).command("explain", &[]).output().unwrap()
}

fn refused(columns: &str, sink: &str, parts: &[&str]) {
    let output = explained(columns, sink);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.matches("error: ").count() == 1, "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "no '{part}' in: {stderr}"));
}

#[test]
fn a_table_that_takes_no_late_rows_is_refused() {
    refused("id INT", "lates", &["there is no table 'lates'", "line 4", "did you mean 'late'?"]);
    refused("row_time INT", "late", &["column 'row_time' of table 'late'", "is INT", "is TIMESTAMP(3)", "line 4"]);
    refused("price INT", "late", &["column 'price' of table 'late'", "declare it DOUBLE"]);
    refused("prize DOUBLE", "late", &["no late row has the column 'prize'", "did you mean 'price'?", "line 4"]);
    // The query doesn't read it.
    refused("id INT", "late", &["no late row has the column 'id'", "columns that the query reads"]);
}

#[test]
fn a_table_may_have_any_of_the_columns_and_the_plan_shows_them() {
    let plan = stdout_of(&explained("price DOUBLE, `watermark` TIMESTAMP_LTZ(3), operator STRING", "late"));
    for part in [
        "Sink(late) id=late-rows:late changelog=[I]",
        "LateRows id=sink:sums/aggregate/late changelog=[I]",
        "late on input 1",
        "select: price: price, ",
        "operator: 'sink:sums/aggregate'",
        "[see sink:sums/aggregate]",
    ] {
        assert!(plan.contains(part), "no '{part}' in: {plan}");
    }
    // Statements before the setting, or after its end, are as they were.
    let script = Script::new(&format!(
        "{TABLES}{QUERY}CREATE TABLE late (`row` STRING) WITH ('connector' = 'blackhole');\n\
         SET 'table.exec.late-rows.sink' = 'late';\nRESET 'table.exec.late-rows.sink';\n{QUERY}"
    ));
    let plan = stdout_of(&script.command("explain", &[]).output().unwrap());
    assert!(!plan.contains("LateRows"), "{plan}");
}
