//! Jobs whose state is more than the memory they may take: it goes to files, and the results are the same.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const ROWS: u64 = 120_000;
/// Less than any process takes: all that can go to files does.
const SHORT: [&str; 2] = ["--set", "taskmanager.memory.process.size=1 mb"];

/// A table's rows come in an order of their own: id, and whose text it is.
fn id(table: u64, row: u64) -> u64 {
    (row * [7919, 10_007][table as usize] + 17) % ROWS
}

fn script(query: &str) -> Script {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id BIGINT, k BIGINT, t STRING) WITH ('connector' = 'filesystem',
               'path' = '${{DIR}}/{name}.json', 'format' = 'json');\n"
        )
    };
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';\n{}{}
        CREATE TABLE pairs (x STRING, y STRING) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
        {query};",
        table("a"),
        table("b")
    ));
    for (number, name) in ["a", "b"].iter().enumerate() {
        let mut text = String::new();
        for row in 0..ROWS {
            let id = id(number as u64, row);
            let _ = writeln!(
                text,
                "{{\"id\":{id},\"k\":{},\"t\":\"{name} {}\"}}",
                id % 100_000,
                "x".repeat((id % 90) as usize)
            );
        }
        std::fs::write(script.path(&format!("{name}.json")), text).unwrap();
    }
    script
}

/// The text of a table's row.
fn text(table: &str, id: u64) -> String {
    format!("{table} {}", "x".repeat((id % 90) as usize))
}

#[test]
fn a_join_finds_the_rows_that_went_to_files_also_after_a_kill() {
    let query = "INSERT INTO pairs SELECT a.t, b.t FROM a JOIN b ON a.id = b.id";
    let script = script(query);
    let mut job = Running::start(&script, &SHORT);
    job.wait_for_checkpoints(&script, 1);
    job.signal(libc::SIGKILL);
    job.wait();
    stdout_of(&script.run(&SHORT));
    assert!(script.path(".millstream/job/scratch").exists(), "nothing went to files");
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for file in std::fs::read_dir(script.path("out")).unwrap().map(|entry| entry.unwrap()) {
        if file.file_name().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        for line in std::fs::read_to_string(file.path()).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_string();
            *found.entry((text("x"), text("y"))).or_default() += 1;
        }
    }
    let mut expected = BTreeMap::new();
    (0..ROWS).for_each(|id| *expected.entry((text("a", id), text("b", id))).or_default() += 1);
    assert!(found == expected, "the pairs are others");
}

#[test]
fn the_newest_rows_are_found_among_those_that_went_to_files() {
    let query = "SELECT k, id, t FROM (
      SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id DESC) AS n FROM a) WHERE n = 1";
    let script = script(query);
    let args = [&SHORT[..], &["--parallelism", "1", "--format", "jsonl", "--state-dir", "state"]].concat();
    let output = stdout_of(&script.run(&args));
    assert!(script.path("state/scratch").exists(), "nothing went to files");
    let mut newest: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for line in output.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let row = &line["row"];
        let key = row["k"].as_u64().unwrap();
        let row = (row["id"].as_u64().unwrap(), row["t"].as_str().unwrap().to_string());
        match line["op"].as_str() {
            Some("+I" | "+U") => drop(newest.insert(key, row)),
            _ => assert_eq!(newest.remove(&key), Some(row), "what is taken back is what was told"),
        }
    }
    let mut expected = BTreeMap::new();
    (0..ROWS).for_each(|id| drop(expected.insert(id % 100_000, (id, text("a", id)))));
    assert!(newest == expected, "the newest rows are others");
}
