//! The Nexmark queries that the benchmark runs, on generated events: against a recomputation by other code, at any parallelism.

use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

#[path = "../../../bench/src/queries.rs"]
#[expect(dead_code, reason = "the benchmark's own parts are not all needed here")]
mod queries;

const EVENTS: u64 = 30_000;

/// The columns of a query's rows: `SELECT * FROM discard` is what the benchmark's sink would have taken.
fn rows(query: &str, arguments: &[&str]) -> Vec<Value> {
    let text = queries::nexmark(query).unwrap();
    let (table, select) = text.split_once("INSERT INTO discard\n").unwrap();
    let columns = table.split_once("discard (").unwrap().1.split_once(") WITH").unwrap().0;
    let mut names = vec![];
    let mut depth = 0;
    for part in columns.split(',') {
        if depth == 0 {
            names.push(part.trim().split(' ').next().unwrap().trim_matches('`').to_string());
        }
        depth += part.matches('(').count() as i64 - part.matches(')').count() as i64;
    }
    let select = select.trim_end_matches(';');
    let script = Script::new(&format!("{}\n{select};", queries::generator(EVENTS)));
    let output = stdout_of(&script.run(&[arguments, &["--format", "jsonl"]].concat()));
    output
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let row = line["row"].as_object().unwrap();
            assert_eq!(line["op"], "+I");
            assert_eq!(row.len(), names.len());
            Value::Object(names.iter().cloned().zip(row.values().cloned()).collect())
        })
        .collect()
}

fn sorted(rows: &[Value]) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

/// The bids as q0 gives them: auction, bidder, price, milliseconds of the day.
fn bids() -> Vec<(i64, i64, i64, i64)> {
    let bid = |row: &Value| {
        let number = |name: &str| row[name].as_i64().unwrap();
        (number("auction"), number("bidder"), number("price"), millis(row["dateTime"].as_str().unwrap()))
    };
    rows("q0", &["--parallelism", "1"]).iter().map(bid).collect()
}

/// The millisecond of the day of `2015-07-15 00:00:01.5`.
fn millis(text: &str) -> i64 {
    let time: Vec<f64> = text.split([' ', 'T']).nth(1).unwrap().split(':').map(|part| part.parse().unwrap()).collect();
    ((time[0] * 3600.0 + time[1] * 60.0 + time[2]) * 1000.0).round() as i64
}

fn counts(rows: &[Value], key: &str, value: &str) -> BTreeMap<(i64, i64), i64> {
    let entry = |row: &Value| {
        let end = row.get("endtime").or(row.get("ended")).unwrap().as_str().unwrap();
        ((millis(end), row[key].as_i64().unwrap()), row[value].as_i64().unwrap())
    };
    let found: BTreeMap<_, _> = rows.iter().map(entry).collect();
    assert_eq!(found.len(), rows.len(), "a window's key comes once");
    found
}

#[test]
fn queries_give_the_same_rows_at_any_parallelism() {
    for query in ["q0", "q1", "q2", "q5", "q7", "q11", "q14", "q21", "q22", "pass", "tumble"] {
        let one = sorted(&rows(query, &["--parallelism", "1"]));
        assert!(!one.is_empty(), "{query} gives rows");
        for arguments in [&["--parallelism", "3"][..], &["--parallelism", "1", "--processes", "2"]] {
            assert!(one == sorted(&rows(query, arguments)), "{query} at {arguments:?} gives other rows");
        }
    }
}

#[test]
fn windowed_queries_give_what_a_recomputation_gives() {
    let bids = bids();
    assert_eq!(bids.len() as u64, EVENTS / 50 * 46);
    let (mut hops, mut tumbles, mut tops) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (auction, _, price, ms) in &bids {
        for end in (1..=5).map(|n| (ms.div_euclid(2000) + n) * 2000) {
            *hops.entry((end, *auction)).or_insert(0) += 1;
        }
        let end = (ms.div_euclid(10_000) + 1) * 10_000;
        *tumbles.entry((end, *auction)).or_insert(0) += 1;
        let top = tops.entry(end).or_insert(0);
        *top = (*top).max(*price);
    }
    assert_eq!(counts(&rows("q5", &[]), "auction", "num"), hops);
    assert_eq!(counts(&rows("tumble", &[]), "auction", "bids"), tumbles);
    let found: BTreeMap<i64, i64> = rows("q7", &[])
        .iter()
        .map(|row| (millis(row["dateTime"].as_str().unwrap()), row["maxprice"].as_i64().unwrap()))
        .collect();
    assert_eq!(found, tops);
}

#[test]
fn sessions_are_those_of_a_recomputation() {
    let mut by_bidder: HashMap<i64, Vec<i64>> = HashMap::new();
    bids().iter().for_each(|(_, bidder, _, ms)| by_bidder.entry(*bidder).or_default().push(*ms));
    let mut sessions = BTreeMap::new();
    for (bidder, mut times) in by_bidder {
        times.sort_unstable();
        for run in times.chunk_by(|a, b| b - a < 10_000) {
            sessions.insert((run[run.len() - 1] + 10_000, bidder), run.len() as i64);
        }
    }
    assert_eq!(counts(&rows("q11", &[]), "bidder", "bid_count"), sessions);
}

#[test]
fn processing_time_windows_lose_nothing() {
    let mut by_bidder: BTreeMap<i64, i64> = BTreeMap::new();
    bids().iter().for_each(|(_, bidder, ..)| *by_bidder.entry(*bidder).or_default() += 1);
    let mut found: BTreeMap<i64, i64> = BTreeMap::new();
    for row in rows("q12", &["--parallelism", "2"]) {
        *found.entry(row["bidder"].as_i64().unwrap()).or_default() += row["bid_count"].as_i64().unwrap();
    }
    assert_eq!(found, by_bidder);
}
