//! The Nexmark queries that the benchmark runs, on generated events: against a recomputation by other code, at any parallelism.

use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[path = "../../../bench/src/queries.rs"]
#[expect(dead_code, reason = "the benchmark's own parts are not all needed here")]
pub mod queries;

pub const EVENTS: u64 = 30_000;

/// The rows that a SELECT over the generator's tables gives in the end.
pub fn select(select: &str, arguments: &[&str]) -> Vec<serde_json::Map<String, Value>> {
    let script = Script::new(&format!("{}\n{select};", queries::generator(EVENTS)));
    let output = stdout_of(&script.run(&[arguments, &["--format", "jsonl"]].concat()));
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    for line in output.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let count = rows.entry(line["row"].to_string()).or_insert(0);
        *count += if matches!(line["op"].as_str().unwrap(), "+I" | "+U") { 1 } else { -1 };
        assert!(*count >= 0, "{line} takes back what is not there");
    }
    let all = rows.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count as usize));
    all.map(|row| serde_json::from_str(&row).unwrap()).collect()
}

/// The rows of a query: `SELECT * FROM discard` is what the benchmark's sink would have taken.
pub fn rows(query: &str, arguments: &[&str]) -> Vec<Value> {
    let text = queries::nexmark(query).unwrap();
    let (table, query) = text.split_once("INSERT INTO discard\n").unwrap();
    let columns = table.split_once("discard (").unwrap().1.split_once(") WITH").unwrap().0;
    let mut names = vec![];
    let mut depth = 0;
    for part in columns.split(',') {
        if depth == 0 {
            names.push(part.trim().split(' ').next().unwrap().trim_matches('`').to_string());
        }
        depth += part.matches('(').count() as i64 - part.matches(')').count() as i64;
    }
    let name = |row: serde_json::Map<String, Value>| {
        assert_eq!(row.len(), names.len());
        Value::Object(names.iter().cloned().zip(row.into_iter().map(|(_, value)| value)).collect())
    };
    select(query.trim_end_matches(';'), arguments).into_iter().map(name).collect()
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
    for query in [
        "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "q14", "q15", "q16", "q17", "q20", "q21", "q22", "q23",
        "hop", "top", "pass", "tumble",
    ] {
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
    assert_eq!(counts(&rows("hop", &[]), "auction", "num"), hops);
    assert_eq!(counts(&rows("tumble", &[]), "auction", "bids"), tumbles);
    let found: BTreeMap<i64, i64> = rows("top", &[])
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

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("{name} of {row}"))
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}")).to_string()
}

/// An auction as the tests look at it.
struct Auction {
    id: i64,
    seller: i64,
    category: i64,
    opens: i64,
    expires: i64,
}

fn auctions() -> Vec<Auction> {
    let query = "SELECT id, seller, category, `dateTime`, expires FROM auction";
    let auction = |row: serde_json::Map<String, Value>| {
        let row = Value::Object(row);
        let of = |name: &str| number(&row, name);
        let (opens, expires) = (millis(&text(&row, "dateTime")), millis(&text(&row, "expires")));
        Auction { id: of("id"), seller: of("seller"), category: of("category"), opens, expires }
    };
    select(query, &[]).into_iter().map(auction).collect()
}

/// Persons: id, name, state, milliseconds of the day.
fn persons() -> Vec<(i64, String, String, i64)> {
    let person = |row: serde_json::Map<String, Value>| {
        let row = Value::Object(row);
        (number(&row, "id"), text(&row, "name"), text(&row, "state"), millis(&text(&row, "dateTime")))
    };
    select("SELECT id, name, state, `dateTime` FROM person", &[]).into_iter().map(person).collect()
}

fn strings(rows: &[Value], columns: &[&str]) -> Vec<String> {
    let shown = |row: &Value| columns.iter().map(|c| row[*c].to_string()).collect::<Vec<_>>().join(",");
    let mut all: Vec<String> = rows.iter().map(shown).collect();
    all.sort();
    all
}

fn in_order(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

#[test]
fn joins_are_those_of_a_recomputation() {
    let (auctions, persons, bids) = (auctions(), persons(), bids());
    let mut expected = vec![];
    for auction in auctions.iter().filter(|a| a.category == 10) {
        let sellers = persons.iter().filter(|p| p.0 == auction.seller && ["OR", "ID", "CA"].contains(&p.2.as_str()));
        expected.extend(sellers.map(|p| format!("\"{}\",\"{}\",{}", p.1, p.2, auction.id)));
    }
    assert_eq!(strings(&rows("q3", &[]), &["name", "state", "id"]), in_order(expected));

    let mut expected = vec![];
    for (auction, bidder, price, _) in &bids {
        let matching = auctions.iter().filter(|a| a.id == *auction && a.category == 10);
        expected.extend(matching.map(|a| format!("{auction},{bidder},{price},{}", a.seller)));
    }
    assert_eq!(strings(&rows("q20", &[]), &["auction", "bidder", "price", "seller"]), in_order(expected));

    let mut expected = vec![];
    for (_, bidder, price, _) in &bids {
        for person in persons.iter().filter(|p| p.0 == *bidder) {
            let theirs = auctions.iter().filter(|a| a.seller == *bidder);
            expected.extend(theirs.map(|a| format!("{bidder},{price},\"{}\",{}", person.1, a.category)));
        }
    }
    assert_eq!(strings(&rows("q23", &[]), &["bidder", "price", "name", "category"]), in_order(expected));
}

#[test]
fn results_that_are_kept_up_to_date_are_those_of_a_recomputation() {
    let (auctions, bids) = (auctions(), bids());
    let mut finals: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (auction, _, price, time) in &bids {
        for a in auctions.iter().filter(|a| a.id == *auction && (a.opens..=a.expires).contains(time)) {
            let top = finals.entry((a.category, a.id)).or_insert(*price);
            *top = (*top).max(*price);
        }
    }
    let mut by_category: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    finals.iter().for_each(|((category, _), top)| by_category.entry(*category).or_default().push(*top));
    let averages = by_category.iter().map(|(c, tops)| format!("{c},{}", tops.iter().sum::<i64>() / tops.len() as i64));
    assert_eq!(strings(&rows("q4", &[]), &["id", "final"]), in_order(averages.collect()));

    let mut by_auction: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    bids.iter().for_each(|(auction, _, price, _)| by_auction.entry(*auction).or_default().push(*price));
    let statistics = by_auction.iter().map(|(auction, prices)| {
        let (count, sum) = (prices.len() as i64, prices.iter().sum::<i64>());
        let below = prices.iter().filter(|p| **p < 10_000).count();
        let above = prices.iter().filter(|p| **p >= 1_000_000).count();
        let (min, max) = (prices.iter().min().unwrap(), prices.iter().max().unwrap());
        format!("{auction},{count},{below},{above},{min},{max},{},{sum}", sum / count)
    });
    let columns =
        ["auction", "total_bids", "rank1_bids", "rank3_bids", "min_price", "max_price", "avg_price", "sum_price"];
    assert_eq!(strings(&rows("q17", &[]), &columns), in_order(statistics.collect()));

    let is_of =
        [|_: i64| true, |p: i64| p < 10_000, |p: i64| (10_000..1_000_000).contains(&p), |p: i64| p >= 1_000_000];
    let found = rows("q15", &[]);
    assert_eq!(found.len(), 1, "the events are of one day");
    for (rank, holds) in ["total", "rank1", "rank2", "rank3"].iter().zip(is_of) {
        let of_rank: Vec<_> = bids.iter().filter(|(_, _, price, _)| holds(*price)).collect();
        let bidders: BTreeSet<i64> = of_rank.iter().map(|b| b.1).collect();
        let of: BTreeSet<i64> = of_rank.iter().map(|b| b.0).collect();
        assert_eq!(number(&found[0], &format!("{rank}_bids")), of_rank.len() as i64);
        assert_eq!(number(&found[0], &format!("{rank}_bidders")), bidders.len() as i64);
        assert_eq!(number(&found[0], &format!("{rank}_auctions")), of.len() as i64);
    }
}

#[test]
fn joins_of_windows_are_those_of_a_recomputation() {
    let (auctions, persons, bids) = (auctions(), persons(), bids());
    let mut hops: BTreeMap<i64, BTreeMap<i64, i64>> = BTreeMap::new();
    let mut tops: BTreeMap<i64, i64> = BTreeMap::new();
    for (auction, _, price, ms) in &bids {
        for end in (1..=5).map(|n| (ms.div_euclid(2000) + n) * 2000) {
            *hops.entry(end).or_default().entry(*auction).or_insert(0) += 1;
        }
        let top = tops.entry((ms.div_euclid(10_000) + 1) * 10_000).or_insert(0);
        *top = (*top).max(*price);
    }
    let mut hottest = vec![];
    for counts in hops.values() {
        let most = counts.values().max().unwrap();
        hottest.extend(counts.iter().filter(|(_, n)| *n >= most).map(|(auction, n)| format!("{auction},{n}")));
    }
    assert_eq!(strings(&rows("q5", &[]), &["auction", "num"]), in_order(hottest));

    let mut highest = vec![];
    for (auction, bidder, price, ms) in &bids {
        let windows = tops.iter().filter(|(end, top)| *top == price && (**end - 10_000..=**end).contains(ms));
        highest.extend(windows.map(|_| format!("{auction},{bidder},{price}")));
    }
    assert_eq!(strings(&rows("q7", &[]), &["auction", "bidder", "price"]), in_order(highest));

    let window = |ms: i64| ms.div_euclid(10_000);
    let sellers: BTreeSet<(i64, i64)> = auctions.iter().map(|a| (a.seller, window(a.opens))).collect();
    let new: BTreeSet<(i64, &str, i64)> = persons.iter().map(|p| (p.0, p.1.as_str(), window(p.3))).collect();
    let expected = new.iter().filter(|(id, _, w)| sellers.contains(&(*id, *w)));
    let expected = expected.map(|(id, name, _)| format!("{id},\"{name}\"")).collect();
    assert_eq!(strings(&rows("q8", &[]), &["id", "name"]), in_order(expected));
}
