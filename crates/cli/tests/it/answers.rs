//! Some hundreds of queries over eight small tables, with what Flink 2.3 answered (`tests/answers`).
//!
//! `answers.txt` has for each its name (`## name`), the query, and below `--` the rows that its changes leave, as JSON lines.
//! Where its name is followed by `in order`, late rows, or the order in which rows come, count: one worker runs it.

use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The value, its numbers as text that does not tell 1 from 1.0, nor the last digits of a fraction.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if !number.is_i64() => {
            number.as_f64().map_or_else(|| value.clone(), |number| format!("{number:.9e}").into())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        // The order of a map's entries means nothing.
        Value::Object(entries) => {
            let sorted: BTreeMap<_, _> = entries.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
            sorted.into_iter().collect()
        }
        other => other.clone(),
    }
}

fn folded(lines: &str) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for line in lines.lines() {
        let change: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
        // Changes, or plain rows, which may have a column `op`.
        let (row, count) = match (change.get("row"), change["op"].as_str()) {
            (Some(row), Some("-U" | "-D")) => (row, -1),
            (Some(row), Some("+I" | "+U")) => (row, 1),
            _ => (&change, 1),
        };
        *rows.entry(plain(row).to_string()).or_insert(0) += count;
    }
    rows.retain(|_, count| *count != 0);
    rows
}

fn check(parallelism: &str, batch_rows: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let (prelude, answers) = (read("prelude.sql"), read("answers.txt"));
    let (mut wrong, mut count) = (vec![], 0);
    for case in answers.split("## ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (query, expected) = rest.split_once("--\n").unwrap();
        if parallelism != "1" && name.ends_with("in order") {
            continue;
        }
        count += 1;
        let script = Script::new(&format!("{prelude}{query}"));
        for table in ["a.json", "b.json", "c.json", "t.json", "o.json", "rates.json", "z.json", "q.json"] {
            std::fs::copy(folder.join(table), script.path(table)).unwrap();
        }
        let rows = format!("millstream.batch.rows={batch_rows}");
        let found = stdout_of(&script.run(&["--format", "jsonl", "--parallelism", parallelism, "--set", &rows]));
        let (expected, found) = (folded(expected.trim_end()), folded(&found));
        if expected != found {
            let missing: Vec<_> = expected.iter().filter(|(row, n)| found.get(*row) != Some(n)).collect();
            let more: Vec<_> = found.iter().filter(|(row, n)| expected.get(*row) != Some(n)).collect();
            wrong.push(format!("{name}: {query}  missing {missing:#?}\n  too many {more:#?}"));
        }
    }
    assert!(count > 100, "{count} cases");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn flinks_answers_to_queries_over_small_tables() {
    check("1", "8192");
}

#[test]
fn flinks_answers_to_queries_over_small_tables_by_three_workers_and_row_by_row() {
    check("3", "1");
}
