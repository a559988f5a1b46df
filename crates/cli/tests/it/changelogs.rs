//! Tables of changes and of versions through the binary: killed in the middle, with repeated and with bad records.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Changes of a table with the columns id, grp and amount, as Debezium tells them, and the table that is left;
/// `repeats`: every third record comes twice.
fn changes(count: u64, repeats: bool) -> (String, BTreeMap<u64, Value>) {
    let (mut random, mut table, mut text) = (Random(7), BTreeMap::new(), String::new());
    for number in 0..count {
        let id = random.below(500);
        let row = json!({"id": id, "grp": format!("g{}", random.below(7)), "amount": random.below(100)});
        let record = match (table.get(&id).cloned(), random.below(4)) {
            (Some(old), 0) => {
                table.remove(&id);
                json!({"before": old, "after": null, "op": "d"})
            }
            (old, _) => {
                table.insert(id, row.clone());
                let op = if old.is_some() { "u" } else { "c" };
                json!({"before": old, "after": row, "op": op})
            }
        };
        let times = if repeats && number % 3 == 0 { 2 } else { 1 };
        (0..times).for_each(|_| text.push_str(&format!("{record}\n")));
    }
    (text, table)
}

/// The rows that changes in the files of a folder leave, as Debezium's records tell them.
pub fn folded(folder: &Path) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(['.', '_']) {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let (row, count) = if record["op"] == "c" { (&record["after"], 1) } else { (&record["before"], -1) };
            *rows.entry(row.to_string()).or_insert(0) += count;
        }
    }
    rows.retain(|_, count| *count != 0);
    rows
}

fn groups(table: &BTreeMap<u64, Value>) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for row in table.values() {
        let group = groups.entry(row["grp"].as_str().unwrap()).or_default();
        *group = (group.0 + 1, group.1 + row["amount"].as_i64().unwrap());
    }
    groups.into_iter().map(|(grp, (n, s))| (json!({"grp": grp, "n": n, "s": s}).to_string(), 1)).collect()
}

const RATE: &str = "'scan.rate-limit.rows-per-second' = '8000'";

fn aggregates(repeats: bool) -> Script {
    let set = format!("SET 'table.exec.source.cdc-events-duplicate' = '{repeats}';");
    let script = Script::new(&format!(
        "{set} SET 'execution.checkpointing.interval' = '50 ms';
         CREATE TABLE acc (id BIGINT, grp STRING, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH (
           'connector' = 'filesystem', 'path' = '${{DIR}}/in', 'format' = 'debezium-json', {RATE});
         CREATE TABLE o (grp STRING, n BIGINT, s INT, PRIMARY KEY (grp) NOT ENFORCED) WITH (
           'connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'debezium-json');
         INSERT INTO o SELECT grp, COUNT(*) AS n, SUM(amount) AS s FROM acc GROUP BY grp;"
    ));
    std::fs::create_dir(script.path("in")).unwrap();
    script
}

/// Kills the job a few times, then lets it end.
pub fn run_with_kills(script: &Script) {
    for args in [&["--parallelism", "2"][..], &["--parallelism", "1"], &["--processes", "2", "--parallelism", "2"]] {
        let mut job = Running::start(script, args);
        job.wait_for_checkpoints(script, 3);
        job.signal(libc::SIGKILL);
        job.wait();
    }
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'8000'", "'100000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "2"]));
}

fn check_aggregates(repeats: bool) {
    let script = aggregates(repeats);
    let (text, table) = changes(40_000, repeats);
    let (first, second) = text.split_at(text[..text.len() / 3].rfind('\n').unwrap() + 1);
    std::fs::write(script.path("in/1.json"), first).unwrap();
    std::fs::write(script.path("in/2.json"), second).unwrap();
    run_with_kills(&script);
    assert_eq!(folded(&script.path("out")), groups(&table));
}

#[test]
fn a_job_killed_in_the_middle_of_changes_counts_each_once() {
    check_aggregates(false);
}

#[test]
fn changes_that_come_twice_count_once_where_the_script_says_so() {
    check_aggregates(true);
}

#[test]
fn a_join_with_versions_goes_on_after_kills() {
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '50 ms';
         CREATE TABLE o (id INT, cur STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH (
           'connector' = 'filesystem', 'path' = '${{DIR}}/orders.json', 'format' = 'json', {RATE});
         CREATE TABLE r (cur STRING, rate INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND,
           PRIMARY KEY (cur) NOT ENFORCED) WITH (
           'connector' = 'filesystem', 'path' = '${{DIR}}/rates.json', 'format' = 'json', {RATE});
         CREATE TABLE out_t (id INT, rate INT) WITH (
           'connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'debezium-json');
         INSERT INTO out_t SELECT o.id, r.rate FROM o LEFT JOIN r FOR SYSTEM_TIME AS OF o.ts ON o.cur = r.cur;"
    ));
    let mut random = Random(3);
    let at = |ms: u64| format!("2024-01-01 00:{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000);
    let (mut orders, mut rates) = (String::new(), String::new());
    let (mut all_orders, mut versions) = (vec![], BTreeMap::new());
    for number in 0..20_000u64 {
        // At most a second behind those before it: nothing is late.
        let mut time = |step: u64| 1000 + number * step - random.below(1000);
        let (order, rate) = (time(100), time(100));
        let (key, other) = (random.below(20), random.below(20));
        orders.push_str(&format!("{{\"id\": {number}, \"cur\": \"c{key}\", \"ts\": \"{}\"}}\n", at(order)));
        rates.push_str(&format!("{{\"cur\": \"c{other}\", \"rate\": {number}, \"ts\": \"{}\"}}\n", at(rate)));
        all_orders.push((number, key, order));
        versions.insert((other, rate), number);
    }
    std::fs::write(script.path("orders.json"), orders).unwrap();
    std::fs::write(script.path("rates.json"), rates).unwrap();
    run_with_kills(&script);
    let expected = all_orders.into_iter().map(|(id, key, time)| {
        let rate = versions.range((key, 0)..=(key, time)).next_back().map(|(_, rate)| rate);
        (json!({"id": id, "rate": rate}).to_string(), 1)
    });
    let expected: BTreeMap<String, i64> = expected.collect();
    let found = folded(&script.path("out"));
    let differences: Vec<_> = expected.iter().filter(|(row, n)| found.get(*row) != Some(n)).take(3).collect();
    assert!(differences.is_empty() && found.len() == expected.len(), "missing: {differences:?}");
}

/// Of versions that arrive together, too: while one holds that the filter drops, there is none.
#[test]
fn a_filter_over_a_view_of_versions_drops_those_versions_only() {
    let script = Script::new(
        "CREATE TABLE o (id INT, cur STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (
           'connector' = 'filesystem', 'path' = '${DIR}/orders.json', 'format' = 'json');
         CREATE TABLE rates (cur STRING, rate INT, note STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (
           'connector' = 'filesystem', 'path' = '${DIR}/rates.json', 'format' = 'json');
         CREATE VIEW latest AS SELECT cur, rate, note, ts FROM (
           SELECT *, ROW_NUMBER() OVER (PARTITION BY cur ORDER BY ts DESC) AS n FROM rates) WHERE n = 1;
         CREATE VIEW good AS SELECT UPPER(cur) AS big, cur, ts, rate FROM latest WHERE note <> 'bad';
         SELECT o.id, r.rate, r.big FROM o LEFT JOIN good FOR SYSTEM_TIME AS OF o.ts AS r ON o.cur = r.cur AND r.rate < 50;",
    );
    let at = |second: i64| format!("2024-01-01 00:00:{second:02}");
    // A version every other second, each third one bad; the last is too great.
    let rates = (0..10).map(|i| {
        let note = if i % 3 == 2 { "bad" } else { "ok" };
        format!("{}\n", json!({"cur": "a", "rate": if i == 9 { 99 } else { i }, "note": note, "ts": at(2 * i + 2)}))
    });
    std::fs::write(script.path("rates.json"), rates.collect::<String>()).unwrap();
    let orders = (1..24).map(|i| format!("{}\n", json!({"id": i, "cur": "a", "ts": at(i)})));
    std::fs::write(script.path("orders.json"), orders.collect::<String>()).unwrap();
    let expected: Vec<String> = (1..24)
        .map(|i| {
            let version = (i - 2_i64).div_euclid(2).min(9);
            let holds = (0..9).contains(&version) && version % 3 != 2;
            let (rate, big) = if holds { (json!(version), json!("A")) } else { (json!(null), json!(null)) };
            json!({"op": "+I", "row": {"id": i, "rate": rate, "big": big}}).to_string()
        })
        .collect();
    for args in [&["--parallelism", "1"][..], &["--parallelism", "2", "--set", "millstream.batch.rows=1"]] {
        let stdout = stdout_of(&script.run(&[args, &["--format", "jsonl"]].concat()));
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let mut found: Vec<_> = stdout.lines().map(parse).collect();
        found.sort_by_key(|row| row["row"]["id"].as_i64());
        assert_eq!(found, expected.iter().map(|line| parse(line)).collect::<Vec<_>>(), "{args:?}");
    }
}

#[test]
fn a_record_that_is_no_change_is_told_with_its_line_and_can_be_kept_aside() {
    let script = |more: &str| {
        let script = Script::new(&format!(
            "CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/t.json',
               'format' = 'debezium-json'{more}); SELECT id FROM t;"
        ));
        let good = "{\"before\":null,\"after\":{\"id\":1},\"op\":\"c\"}\n";
        let bad = "{\"before\":null,\"after\":{\"id\":2},\"op\":\"u\"}\n";
        std::fs::write(script.path("t.json"), [good, good, bad, good].concat()).unwrap();
        script
    };
    let output = script("").run(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("t.json, line 3)") && stderr.contains("REPLICA IDENTITY FULL"), "{stderr}");
    let lenient = script(", 'dead-letter.path' = 'dead'");
    let stdout = stdout_of(&lenient.run(&["--format", "jsonl"]));
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert_eq!(std::fs::read_dir(lenient.path("dead")).unwrap().count(), 1);
}

#[test]
fn sinks_that_only_take_inserts_refuse_changes_with_the_reason() {
    let script = Script::new(
        "CREATE TABLE t (id INT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/t.json', 'format' = 'canal-json');
         CREATE TABLE o (id INT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/o', 'format' = 'json');
         INSERT INTO o SELECT id FROM t;",
    );
    std::fs::write(script.path("t.json"), "").unwrap();
    let stderr = String::from_utf8(script.run(&[]).stderr).unwrap();
    assert!(stderr.contains("sink 'o' takes [I] rows, but the query gives [I,UB,UA,D]"), "{stderr}");
}

/// A job over the records `text` that is killed while it reads them at `rate` a second, and then reads the rest at full speed;
/// `script`: its text at a rate.
fn killed_once(text: &str, parallelism: &str, rate: u64, script: impl Fn(u64) -> String) -> Script {
    let job = Script::new(&script(rate));
    std::fs::write(job.path("t.json"), text).unwrap();
    let mut running = Running::start(&job, &["--parallelism", parallelism]);
    running.wait_for_checkpoints(&job, 3);
    running.signal(libc::SIGKILL);
    running.wait();
    let fast = script(1_000_000_000).replace("${DIR}", job.folder().to_str().unwrap());
    std::fs::write(job.path("job.sql"), fast).unwrap();
    stdout_of(&job.run(&["--parallelism", parallelism]));
    job
}

#[test]
fn windows_over_changes_hold_what_is_left_of_each_also_after_a_kill() {
    let (mut random, mut table, mut text) = (Random(11), BTreeMap::new(), String::new());
    for _ in 0..6000 {
        let id = random.below(900);
        let second = random.below(60);
        let row = json!({"id": id, "v": random.below(40), "ts": format!("2026-01-01 00:00:{second:02}")});
        let old = table.get(&id).cloned();
        let record = match (&old, random.below(3)) {
            (Some(old), 0) => {
                table.remove(&id);
                json!({"before": old, "after": null, "op": "d"})
            }
            _ => {
                table.insert(id, row.clone());
                json!({"before": old, "after": row, "op": if old.is_some() { "u" } else { "c" }})
            }
        };
        text.push_str(&format!("{record}\n"));
    }
    let mut windows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for row in table.values() {
        let second: u64 = row["ts"].as_str().unwrap()[17..].parse().unwrap();
        windows.entry(second / 10).or_default().push(row["v"].as_u64().unwrap());
    }
    let expected: Vec<Value> = windows
        .iter()
        .map(|(window, values)| {
            let distinct: std::collections::BTreeSet<&u64> = values.iter().collect();
            json!({"s": format!("2026-01-01 00:00:{:02}", window * 10), "n": values.len(), "lo": distinct.first(),
                "hi": distinct.last(), "d": distinct.len(), "sum": values.iter().sum::<u64>()})
        })
        .collect();
    for parallelism in ["1", "3"] {
        let script = |rate: u64| {
            format!(
                "SET 'execution.checkpointing.interval' = '50 ms';
                CREATE TABLE t (id INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
                  WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/t.json', 'format' = 'debezium-json',
                        'scan.rate-limit.rows-per-second' = '{rate}');
                CREATE TABLE o (s TIMESTAMP(3), n BIGINT, lo INT, hi INT, d BIGINT, `sum` INT)
                  WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
                INSERT INTO o SELECT window_start, COUNT(*), MIN(v), MAX(v), COUNT(DISTINCT v), SUM(v)
                  FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;"
            )
        };
        let job = killed_once(&text, parallelism, 3000, script);
        let mut found: Vec<Value> = vec![];
        for entry in std::fs::read_dir(job.path("out")).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_str().unwrap().starts_with(['.', '_']) {
                let text = std::fs::read_to_string(path).unwrap();
                found.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            }
        }
        found.sort_by_key(|row| row["s"].to_string());
        assert_eq!(found, expected, "parallelism {parallelism}");
    }
}

#[test]
fn groups_and_sessions_whose_rows_were_all_taken_back_leave_no_row() {
    const GAP: u64 = 7;
    let (mut random, mut table, mut text) = (Random(13), BTreeMap::<u64, (u64, u64)>::new(), String::new());
    // Of each key when it ever had a row: sessions don't shrink.
    let mut seconds: BTreeMap<u64, std::collections::BTreeSet<u64>> = BTreeMap::new();
    let time = |second: u64| format!("2026-01-01 00:{:02}:{:02}", second / 60, second % 60);
    let told = |id: u64, (second, v): (u64, u64)| json!({"k": id % 40, "v": v, "ts": time(second)});
    for _ in 0..3000 {
        let (id, row) = (random.below(400), (random.below(600), random.below(40)));
        let (before, record) = match table.remove(&id) {
            Some(old) if random.below(2) == 0 => {
                (Some(old), json!({"before": told(id, old), "after": null, "op": "d"}))
            }
            old => {
                table.insert(id, row);
                let (before, op) = (old.map(|old| told(id, old)), if old.is_some() { "u" } else { "c" });
                (old, json!({"before": before, "after": told(id, row), "op": op}))
            }
        };
        let touched = before.into_iter().chain(table.get(&id).copied());
        seconds.entry(id % 40).or_default().extend(touched.map(|(second, _)| second));
        text.push_str(&format!("{record}\n"));
    }
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut expect = |what: &str, k: u64, from: u64, to: u64| {
        let rows = table.iter().filter(|(id, (second, _))| *id % 40 == k && (from..to).contains(second));
        let values: Vec<u64> = rows.map(|(_, (_, v))| *v).collect();
        if let (Some(least), Some(most)) = (values.iter().min(), values.iter().max()) {
            let (n, sum) = (values.len(), values.iter().sum::<u64>());
            let row = json!({"what": what, "k": k, "s": time(from), "n": n, "lo": least, "hi": most, "sum": sum});
            expected.insert(row.to_string(), 1);
        }
    };
    let mut empty = 0;
    for (k, seconds) in &seconds {
        (0..60).for_each(|window| expect("tumble", *k, window * 10, window * 10 + 10));
        let mut bounds: Vec<(u64, u64)> = vec![];
        for second in seconds {
            match bounds.last_mut() {
                Some((_, end)) if *end >= *second => *end = second + GAP,
                _ => bounds.push((*second, second + GAP)),
            }
        }
        empty += bounds.len();
        bounds.into_iter().for_each(|(from, to)| expect("session", *k, from, to));
    }
    empty -= expected.keys().filter(|row| row.contains("session")).count();
    assert!(empty > 20, "{empty} sessions are left without rows");
    for parallelism in ["1", "3"] {
        let script = |rate: u64| {
            let aggregate = |what: &str, call: &str| {
                format!(
                    "INSERT INTO o SELECT '{what}', k, window_start, COUNT(v), MIN(v), MAX(v), SUM(v)
                      FROM TABLE({call}) GROUP BY k, window_start, window_end;"
                )
            };
            format!(
                "SET 'execution.checkpointing.interval' = '50 ms';
                CREATE TABLE t (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
                  WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/t.json', 'format' = 'debezium-json',
                        'scan.rate-limit.rows-per-second' = '{rate}');
                CREATE TABLE o (what STRING, k INT, s TIMESTAMP(3), n BIGINT, lo INT, hi INT, `sum` INT)
                  WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'debezium-json');
                EXECUTE STATEMENT SET BEGIN {} {} END;",
                aggregate("tumble", "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)"),
                aggregate("session", "SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '7' SECOND)"),
            )
        };
        let job = killed_once(&text, parallelism, 2000, script);
        assert_eq!(folded(&job.path("out")), expected, "parallelism {parallelism}");
    }
}
