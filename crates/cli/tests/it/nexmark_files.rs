//! The Nexmark queries whose results don't depend on the order of events, from JSON files and over kills and rescales: as from
//! the generator, whose results are compared with computations by other code, here and in `nexmark`.

use crate::changelogs::{folded, run_with_kills};
use crate::nexmark::{EVENTS, queries, rows, select};
use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Those of each event by itself, and of channels, which are computed here.
const COMPUTED: [&str; 7] = ["q0", "q1", "q2", "q14", "q16", "q21", "q22"];
/// Those that are computed elsewhere.
const OTHERS: [&str; 10] = ["q3", "q4", "q5", "q7", "q8", "q11", "q15", "q17", "q20", "q23"];

struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: String,
    url: String,
    time: String,
    extra: String,
}

fn bids() -> Vec<Bid> {
    let found =
        select("SELECT auction, bidder, price, channel, url, `dateTime`, extra FROM bid", &["--parallelism", "1"]);
    let bid = |row: &serde_json::Map<String, Value>| {
        let number = |name: &str| row[name].as_i64().unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_string();
        Bid {
            auction: number("auction"),
            bidder: number("bidder"),
            price: number("price"),
            channel: text("channel"),
            url: text("url"),
            time: text("dateTime"),
            extra: text("extra"),
        }
    };
    found.iter().map(bid).collect()
}

/// 0.908 of a price, as a DECIMAL(23, 3).
fn euros(price: i64) -> String {
    let thousandths = price * 908;
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// What stands behind `channel_id=` at the front of a URL or behind an `&`.
fn channel_id(url: &str) -> Option<&str> {
    let at = url.match_indices("channel_id=").find(|(at, _)| *at == 0 || url[..*at].ends_with('&'))?.0;
    url[at + "channel_id=".len()..].split('&').next()
}

fn statistics(bids: &[Bid]) -> Vec<String> {
    let mut channels: BTreeMap<(&str, &str), Vec<&Bid>> = BTreeMap::new();
    bids.iter().for_each(|bid| channels.entry((&bid.channel, &bid.time[..10])).or_default().push(bid));
    let of_channel = |((channel, day), bids): (&(&str, &str), &Vec<&Bid>)| {
        let minute = bids.iter().map(|bid| &bid.time[11..16]).max().unwrap();
        let ranks = [0..i64::MAX, 0..10_000, 10_000..1_000_000, 1_000_000..i64::MAX]
            .map(|prices| bids.iter().filter(|bid| prices.contains(&bid.price)).collect::<Vec<_>>());
        let distinct = |of: fn(&Bid) -> i64| {
            ranks.iter().map(move |bids| bids.iter().map(|bid| of(bid)).collect::<BTreeSet<_>>().len().to_string())
        };
        let counts = ranks.iter().map(|bids| bids.len().to_string());
        let numbers: Vec<String> =
            counts.chain(distinct(|bid| bid.bidder)).chain(distinct(|bid| bid.auction)).collect();
        format!("{channel},{day},{minute},{}", numbers.join(","))
    };
    channels.iter().map(of_channel).collect()
}

/// A query's rows, computed one by one.
fn computed(query: &str, bids: &[Bid]) -> Vec<String> {
    let of = |bid: &Bid| {
        let Bid { auction, bidder, price, channel, url, time, extra } = bid;
        match query {
            "q0" => Some(format!("{auction},{bidder},{price},{time},{extra}")),
            "q1" => Some(format!("{auction},{bidder},{},{time},{extra}", euros(*price))),
            "q2" => (auction % 123 == 0).then(|| format!("{auction},{price}")),
            "q14" => {
                let when = match time[11..13].parse::<u32>().unwrap() {
                    8..=18 => "dayTime",
                    0..=6 | 20.. => "nightTime",
                    _ => "otherTime",
                };
                let is_wanted = (1_000_000_001..50_000_000_000).contains(&(price * 908));
                is_wanted.then(|| format!("{auction},{bidder},{},{when},{time},{extra}", euros(*price)))
            }
            "q21" => {
                let known =
                    ["apple", "google", "facebook", "baidu"].iter().position(|name| *name == channel.to_lowercase());
                let id = known.map(|number| number.to_string()).or_else(|| channel_id(url).map(str::to_string))?;
                Some(format!("{auction},{bidder},{price},{channel},{id}"))
            }
            "q22" => {
                let parts: Vec<&str> = url.split('/').collect();
                Some(format!("{auction},{bidder},{price},{channel},{},{},{}", parts[3], parts[4], parts[5]))
            }
            other => panic!("{other} is not computed here"),
        }
    };
    let mut lines = if query == "q16" { statistics(bids) } else { bids.iter().filter_map(of).collect() };
    lines.sort();
    lines
}

#[test]
fn queries_of_single_events_and_of_channels_are_those_of_a_recomputation() {
    let bids = bids();
    for query in COMPUTED {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let line = |row: &Value| row.as_object().unwrap().values().map(text).collect::<Vec<_>>().join(",");
        let mut found: Vec<String> = rows(query, &["--parallelism", "2"]).iter().map(line).collect();
        found.sort();
        let wanted = computed(query, &bids);
        assert!(
            !wanted.is_empty() && found.len() == wanted.len(),
            "{query}: {} rows, not {}",
            found.len(),
            wanted.len()
        );
        let other = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert!(other.is_none(), "{query}: {other:?}");
    }
}

/// The query over these events into files, in the format that carries changes.
fn kept(events: &str, query: &str) -> Script {
    let kept = "'connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'debezium-json'";
    let query = queries::nexmark(query).unwrap().replace("'connector' = 'blackhole'", kept);
    Script::new(&format!("SET 'execution.checkpointing.interval' = '50 ms';\n{events}\n{query}"))
}

fn check_from_files(names: &[&str]) {
    let files = Script::new(&queries::write_json(EVENTS, "${DIR}/events"));
    // One file, so that no event is late.
    stdout_of(&files.run(&["--parallelism", "1"]));
    let json = queries::json(&files.path("events").display().to_string());
    let limited = json.replace("'format' = 'json'", "'format' = 'json', 'scan.rate-limit.rows-per-second' = '8000'");
    for query in names {
        let straight = kept(&queries::generator(EVENTS), query);
        stdout_of(&straight.run(&["--parallelism", "1"]));
        let wanted = folded(&straight.path("out"));
        let script = kept(&json, query);
        stdout_of(&script.run(&["--parallelism", "2"]));
        assert!(folded(&script.path("out")) == wanted, "{query} from files gives other rows");
        let script = kept(&limited, query);
        run_with_kills(&script);
        assert!(folded(&script.path("out")) == wanted, "{query} after kills gives other rows");
    }
}

#[test]
fn queries_of_single_events_and_of_channels_are_the_same_from_files_and_after_kills_and_rescales() {
    check_from_files(&COMPUTED);
}

#[test]
fn joins_windows_and_statistics_are_the_same_from_files_and_after_kills_and_rescales() {
    check_from_files(&OTHERS);
}
