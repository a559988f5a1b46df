//! Joins and aggregates that keep their state: killed, stopped and rescaled, against a recomputation by other code.

use crate::process::{Running, checkpoints};
use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const ROWS: i64 = 6000;

/// Row `i` of one of the tables: id, key.
fn row(table: i64, i: i64) -> (i64, i64) {
    let x = (i * 2 + table).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (i, x.rotate_left(23).rem_euclid(1700))
}

const SELECT: &str = "SELECT n, COUNT(*) AS k FROM (
  SELECT a.k, COUNT(DISTINCT b.id) AS n FROM a LEFT JOIN b ON a.k = b.k GROUP BY a.k
) GROUP BY n";

fn script(rows_per_second: i64, query: &str) -> Script {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id INT, k INT) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/{name}.json',
               'format' = 'json', 'scan.rate-limit.rows-per-second' = '{rows_per_second}');"
        )
    };
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
        SET 'restart-strategy.exponential-delay.initial-backoff' = '20 ms';
        {} {}
        CREATE TABLE pairs (x INT, y INT) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
        {query};",
        table("a"),
        table("b")
    ));
    for (number, name) in ["a", "b"].iter().enumerate() {
        let line = |i: i64| {
            let (id, key) = row(number as i64, i);
            format!("{{\"id\":{id},\"k\":{key}}}\n")
        };
        std::fs::write(script.path(&format!("{name}.json")), (0..ROWS).map(line).collect::<String>()).unwrap();
    }
    script
}

fn at_full_speed(script: &Script) {
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    let mut parts = text.split("'scan.rate-limit.rows-per-second' = '");
    let mut changed = parts.next().unwrap().to_string();
    for part in parts {
        changed.push_str("'scan.rate-limit.rows-per-second' = '1000000000'");
        changed.push_str(part.split_once('\'').unwrap().1);
    }
    std::fs::write(script.path("job.sql"), changed).unwrap();
}

/// The rows of table 1 by key.
fn by_key() -> BTreeMap<i64, Vec<i64>> {
    let mut keys: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    (0..ROWS).map(|i| row(1, i)).for_each(|(id, key)| keys.entry(key).or_default().push(id));
    keys
}

fn read(folder: &Path) -> Vec<(i64, i64)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut rows = vec![];
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.file_name().unwrap().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            rows.push((row["x"].as_i64().unwrap(), row["y"].as_i64().unwrap()));
        }
    }
    rows.sort_unstable();
    rows
}

#[test]
fn a_join_that_is_killed_loses_and_doubles_no_pair() {
    for args in [&["--parallelism", "2"][..], &["--processes", "2", "--parallelism", "2"]] {
        let script = script(1200, "INSERT INTO pairs SELECT a.id, b.id FROM a JOIN b ON a.k = b.k");
        let mut job = Running::start(&script, args);
        for n in 0..10u64 {
            std::thread::sleep(Duration::from_millis(40 + n * 97 % 330));
            assert!(!job.has_ended(), "the job ended after {n} kills: too soon for this test: {}", job.stderr());
            if n % 2 == 0 {
                job.signal(libc::SIGKILL);
                job.wait();
                job = Running::start(&script, args);
            } else {
                job.signal_worker(n as usize, libc::SIGKILL);
            }
        }
        job.wait_for_checkpoints(&script, 1);
        job.signal(libc::SIGKILL);
        job.wait();
        at_full_speed(&script);
        stdout_of(&script.run(&["--parallelism", "3"]));
        let keys = by_key();
        let pairs = |(id, key): (i64, i64)| keys.get(&key).into_iter().flatten().map(move |other| (id, *other));
        let mut expected: Vec<(i64, i64)> = (0..ROWS).map(|i| row(0, i)).flat_map(pairs).collect();
        expected.sort_unstable();
        let found = read(&script.path("out"));
        assert_eq!(found.len(), expected.len());
        assert!(found == expected, "the pairs are others");
    }
}

#[test]
fn results_that_change_go_on_where_they_were_at_another_parallelism() {
    // So slow that no run before the last sees the end.
    let script = script(1000, SELECT);
    let mut text = String::new();
    for args in [["--parallelism", "2"], ["--parallelism", "1"], ["--parallelism", "3"]] {
        let mut command = script.command("run", &[&args[..], &["--format", "jsonl", "--state-dir", "state"]].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        crate::process::send(child.id(), libc::SIGTERM);
        text.push_str(&stdout_of(&child.wait_with_output().unwrap()));
    }
    at_full_speed(&script);
    let last = ["--processes", "2", "--parallelism", "2", "--format", "jsonl", "--state-dir", "state"];
    text.push_str(&stdout_of(&script.run(&last)));
    let mut found: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let key = (line["row"]["n"].as_i64().unwrap(), line["row"]["k"].as_i64().unwrap());
        *found.entry(key).or_insert(0) += if matches!(line["op"].as_str(), Some("+I" | "+U")) { 1 } else { -1 };
    }
    found.retain(|_, count| *count != 0);
    let keys = by_key();
    let mut by_count: BTreeMap<i64, i64> = BTreeMap::new();
    let own: std::collections::BTreeSet<i64> = (0..ROWS).map(|i| row(0, i).1).collect();
    own.iter().for_each(|key| *by_count.entry(keys.get(key).map_or(0, |ids| ids.len() as i64)).or_insert(0) += 1);
    assert_eq!(found, by_count.into_iter().map(|(n, k)| ((n, k), 1)).collect());
    assert!(!checkpoints(&script).exists(), "a SELECT keeps its state where it is told to");
}
