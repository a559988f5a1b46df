//! The Nexmark queries whose results depend on the order of events, or on more than events (rankings, patterns, files, a
//! side input), against row-at-a-time computations over the same events: from the generator and from JSON files, at any
//! parallelism, over kills and rescales.

use crate::changelogs::{folded, run_with_kills};
use crate::nexmark::queries;
use crate::script::{Script, stdout_of};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const EVENTS: u64 = 24_000;
/// A thousand events a second: no two are of the same millisecond, so that their order is told by their time.
const RATES: &str = "'connector' = 'nexmark', 'first-event.rate' = '1000', 'next-event.rate' = '1000'";
const QUERIES: [&str; 9] = ["q6", "q9", "q13", "q18", "q19", "cep0", "cep1", "cep2", "cep3"];
/// Some auctions have no line in the side input.
const SIDE_INPUTS: u64 = 1_200;

fn generator() -> String {
    queries::generator(EVENTS).replace("'connector' = 'nexmark'", RATES)
}

/// The script of a query over a table of events, with the files that it needs; what comes before its SELECT, and that.
fn parts(query: &str) -> (String, String) {
    let text = queries::nexmark(query).unwrap();
    let (tables, select) = text.split_once("INSERT INTO discard\n").unwrap();
    (tables.to_string(), select.to_string())
}

/// The columns of a query's sink.
fn columns(query: &str) -> Vec<String> {
    let (tables, _) = parts(query);
    let list = tables.split_once("discard (").unwrap().1.rsplit_once(") WITH").unwrap().0.replace("(3)", "");
    list.split(',').map(|part| part.trim().split(' ').next().unwrap().trim_matches('`').to_string()).collect()
}

fn script(events: &str, rest: &str) -> Script {
    let script = Script::new(&format!("{events}\n{rest}"));
    let lines: String = (0..SIDE_INPUTS).map(queries::side_input).collect();
    std::fs::write(script.path("side_input.txt"), lines).unwrap();
    script
}

/// The rows that a query leaves in the end, under the names of the sink's columns.
fn results(script: &Script, names: &[String], arguments: &[&str]) -> Vec<Value> {
    let output = stdout_of(&script.run(&[arguments, &["--format", "jsonl"]].concat()));
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for line in output.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let count = counts.entry(line["row"].to_string()).or_default();
        *count += if matches!(line["op"].as_str().unwrap(), "+I" | "+U") { 1 } else { -1 };
    }
    assert!(counts.values().all(|count| *count >= 0), "what is taken back was there");
    let rows = counts.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count as usize));
    let named = |row: String| {
        let row: Map<String, Value> = serde_json::from_str(&row).unwrap();
        assert_eq!(row.len(), names.len(), "{row:?}");
        Value::Object(names.iter().cloned().zip(row.into_iter().map(|(_, value)| value)).collect())
    };
    rows.map(named).collect()
}

/// An event of the kind: its number among all, and its row.
struct Events {
    bids: Vec<Bid>,
    auctions: BTreeMap<i64, Auction>,
}

#[derive(Clone)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    time: String,
    /// Milliseconds of the day.
    ms: i64,
    channel: String,
    extra: String,
}

struct Auction {
    seller: i64,
    item: String,
    opens: String,
    expires: String,
}

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("{name} of {row}"))
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}")).to_string()
}

fn millis(text: &str) -> i64 {
    let time: Vec<f64> = text.split([' ', 'T']).nth(1).unwrap().split(':').map(|part| part.parse().unwrap()).collect();
    ((time[0] * 3600.0 + time[1] * 60.0 + time[2]) * 1000.0).round() as i64
}

/// The events, by queries that do nothing but read them.
fn events() -> Events {
    let names = |list: &str| list.split(", ").map(|name| name.trim_matches('`').to_string()).collect::<Vec<_>>();
    let list = "auction, bidder, price, `dateTime`, channel, extra";
    let rows = results(&script(&generator(), &format!("SELECT {list} FROM bid;")), &names(list), &[]);
    let mut bids: Vec<Bid> = rows
        .iter()
        .map(|row| {
            let time = text(row, "dateTime");
            let (ms, channel, extra) = (millis(&time), text(row, "channel"), text(row, "extra"));
            let (auction, bidder, price) = (number(row, "auction"), number(row, "bidder"), number(row, "price"));
            Bid { auction, bidder, price, time, ms, channel, extra }
        })
        .collect();
    bids.sort_by_key(|bid| bid.ms);
    assert!(bids.windows(2).all(|pair| pair[0].ms < pair[1].ms), "each bid has a time of its own");
    let list = "id, seller, itemName, `dateTime`, expires";
    let rows = results(&script(&generator(), &format!("SELECT {list} FROM auction;")), &names(list), &[]);
    let auctions = rows.iter().map(|row| {
        let (opens, expires) = (text(row, "dateTime"), text(row, "expires"));
        (number(row, "id"), Auction { seller: number(row, "seller"), item: text(row, "itemName"), opens, expires })
    });
    Events { bids, auctions: auctions.collect() }
}

/// The bids of each bidder in each auction, in order.
fn runs(events: &Events) -> BTreeMap<(i64, i64), Vec<&Bid>> {
    let mut runs: BTreeMap<(i64, i64), Vec<&Bid>> = BTreeMap::new();
    events.bids.iter().for_each(|bid| runs.entry((bid.auction, bid.bidder)).or_default().push(bid));
    runs
}

/// The highest bid of each auction among those while it was open; the first of equal ones.
fn winners(events: &Events) -> Vec<(i64, &Auction, &Bid)> {
    let mut best: BTreeMap<i64, &Bid> = BTreeMap::new();
    for bid in &events.bids {
        let Some(auction) = events.auctions.get(&bid.auction) else { continue };
        if (auction.opens.as_str()..=auction.expires.as_str()).contains(&bid.time.as_str()) {
            let known = best.entry(bid.auction).or_insert(bid);
            if bid.price > known.price {
                *known = bid;
            }
        }
    }
    best.into_iter().map(|(id, bid)| (id, &events.auctions[&id], bid)).collect()
}

/// Periods of falling prices: at least two lower ones, then one above the last but one of them.
fn falls(run: &[&Bid]) -> Vec<String> {
    let (mut found, mut start) = (vec![], 0);
    while start < run.len() {
        let mut last = start;
        while last + 1 < run.len() && run[last + 1].price < run[last].price {
            last += 1;
        }
        let up = run.get(last + 1).filter(|up| last >= start + 2 && up.price > run[last - 1].price);
        match up {
            Some(up) => {
                found.push(format!("{},{},{}", run[start].time, run[last].time, up.time));
                start = last + 1;
            }
            None => start += 1,
        }
    }
    found
}

/// Runs of bids whose average stays below a limit, up to the one that lifts it.
fn low_averages(run: &[&Bid], skips_past: bool) -> Vec<String> {
    let (mut found, mut start) = (vec![], 0);
    while start < run.len() {
        let (mut sum, mut end) = (0, start);
        while end < run.len() && (sum + run[end].price) / ((end - start + 1) as i64) < 10_000 {
            sum += run[end].price;
            end += 1;
        }
        if end == run.len() && end > start {
            // It might still go on, and what comes later waits for it.
            break;
        }
        if end > start {
            let average = sum / (end - start) as i64;
            found.push(format!("{},{},{average}", run[start].time, run[end - 1].time));
        }
        start = if end > start && skips_past { end + 1 } else { start + 1 };
    }
    found
}

/// Drops of the price by more than 50 within less than five seconds, with nothing as low in between.
fn drops(run: &[&Bid]) -> Vec<String> {
    let (mut found, mut start) = (vec![], 0);
    while start < run.len() {
        let first = run[start];
        let mut end = start + 1;
        while run.get(end).is_some_and(|bid| bid.ms - first.ms < 5_000 && bid.price > first.price - 50) {
            end += 1;
        }
        match run.get(end).filter(|bid| bid.ms - first.ms < 5_000 && bid.price < first.price - 50) {
            Some(last) => {
                found.push(format!("{},{}", last.time, first.price - last.price));
                start = end + 1;
            }
            None => start += 1,
        }
    }
    found
}

/// What a query gives, by a computation that looks at one event after the other; and of which columns.
fn expected(query: &str, events: &Events) -> (&'static [&'static str], Vec<String>) {
    let patterns = |find: &dyn Fn(&[&Bid]) -> Vec<String>| {
        let of_run = |(key, run): (&(i64, i64), &Vec<&Bid>)| {
            find(run).into_iter().map(|found| format!("{},{},{found}", key.0, key.1)).collect::<Vec<_>>()
        };
        runs(events).iter().flat_map(of_run).collect()
    };
    match query {
        "q6" => {
            let mut by_seller: BTreeMap<i64, Vec<&Bid>> = BTreeMap::new();
            winners(events).into_iter().for_each(|(_, a, bid)| by_seller.entry(a.seller).or_default().push(bid));
            let mut rows = vec![];
            for (seller, mut bids) in by_seller {
                bids.sort_by_key(|bid| bid.ms);
                for end in 1..=bids.len() {
                    let last = &bids[end.saturating_sub(11)..end];
                    rows.push(format!("{seller},{}", last.iter().map(|b| b.price).sum::<i64>() / last.len() as i64));
                }
            }
            (&["seller", "avg_price"], rows)
        }
        "q9" => {
            let row = |(id, auction, bid): &(i64, &Auction, &Bid)| {
                format!(
                    "{id},{},{},{},{},{},{}",
                    auction.item, auction.seller, bid.bidder, bid.price, bid.time, bid.extra
                )
            };
            let columns = &["id", "itemName", "seller", "bidder", "price", "bid_dateTime", "bid_extra"];
            (columns, winners(events).iter().map(row).collect())
        }
        "q13" => {
            let rows = events.bids.iter().filter(|bid| bid.auction % 10_000 < SIDE_INPUTS as i64);
            let row =
                |b: &Bid| format!("{},{},{},{},value-{}", b.auction, b.bidder, b.price, b.time, b.auction % 10_000);
            (&["auction", "bidder", "price", "dateTime", "value"], rows.map(row).collect())
        }
        "q18" => {
            let last = runs(events).into_values().filter_map(|run| run.last().copied().cloned());
            let row = |b: Bid| format!("{},{},{},{},{},{}", b.auction, b.bidder, b.price, b.channel, b.time, b.extra);
            (&["auction", "bidder", "price", "channel", "dateTime", "extra"], last.map(row).collect())
        }
        "q19" => {
            let mut by_auction: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            events.bids.iter().for_each(|bid| by_auction.entry(bid.auction).or_default().push(bid.price));
            let ranked = |(auction, mut prices): (i64, Vec<i64>)| {
                prices.sort_unstable_by(|a, b| b.cmp(a));
                let top = prices.into_iter().take(10).zip(1..);
                top.map(move |(price, rank)| format!("{auction},{price},{rank}")).collect::<Vec<_>>()
            };
            (&["auction", "price", "rank_number"], by_auction.into_iter().flat_map(ranked).collect())
        }
        "cep0" => (&["auction", "bidder", "start_tstamp", "bottom_tstamp", "end_tstamp"], patterns(&falls)),
        "cep1" | "cep2" => {
            let find = |run: &[&Bid]| low_averages(run, query == "cep1");
            (&["auction", "bidder", "start_tstamp", "end_tstamp", "avg_price"], patterns(&find))
        }
        "cep3" => (&["auction", "bidder", "drop_time", "drop_diff"], patterns(&drops)),
        other => panic!("nothing is known of {other}"),
    }
}

/// A value as text; of a time, whose zeros at the end files leave out, with milliseconds.
fn shown(value: &Value) -> String {
    match value.as_str() {
        None => value.to_string(),
        Some(text) if text.starts_with("2015-") => milliseconds(text),
        Some(text) => text.to_string(),
    }
}

fn milliseconds(time: &str) -> String {
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<3}")
}

fn check(query: &str, rows: &[Value], events: &Events, how: &str) {
    let (columns, mut wanted) = expected(query, events);
    let of_row = |row: &Value| columns.iter().map(|column| shown(&row[*column])).collect::<Vec<_>>().join(",");
    let mut found: Vec<String> = rows.iter().map(of_row).collect();
    found.sort();
    wanted.sort();
    assert!(wanted.len() > 20, "{query} gives only {} rows: too few to prove anything", wanted.len());
    let (some, others): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), wanted.iter().collect());
    let missing: Vec<_> = others.difference(&some).take(3).collect();
    let surplus: Vec<_> = some.difference(&others).take(3).collect();
    assert!(
        found == wanted,
        "{query}, {how}: missing {missing:?}, surplus {surplus:?}, {} of {}",
        found.len(),
        wanted.len()
    );
}

#[test]
fn rankings_patterns_and_lookups_are_those_of_a_recomputation_at_any_parallelism() {
    let events = events();
    for query in QUERIES {
        let (tables, select) = parts(query);
        let script = script(&generator(), &format!("{tables}{select}"));
        for arguments in
            [&["--parallelism", "1"][..], &["--parallelism", "3"], &["--parallelism", "2", "--processes", "2"]]
        {
            check(query, &results(&script, &columns(query), arguments), &events, &arguments.join(" "));
        }
    }
}

#[test]
fn from_json_files_they_are_the_same_also_after_kills_and_rescales() {
    let events = events();
    let files = Script::new(&queries::write_json(EVENTS, "${DIR}/events").replace("'connector' = 'nexmark'", RATES));
    // One file, so that its events come about in order.
    stdout_of(&files.run(&["--parallelism", "1"]));
    let json = queries::json(&files.path("events").display().to_string());
    for query in QUERIES {
        let (tables, select) = parts(query);
        let script = self::script(&json, &format!("{tables}{select}"));
        check(query, &results(&script, &columns(query), &["--parallelism", "2"]), &events, "from files");
        let limited =
            json.replace("'format' = 'json'", "'format' = 'json', 'scan.rate-limit.rows-per-second' = '8000'");
        let kept = "'connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'debezium-json'";
        let tables = tables.replace("'connector' = 'blackhole'", kept);
        let text = format!("SET 'execution.checkpointing.interval' = '50 ms';\n{tables}INSERT INTO discard\n{select}");
        let script = self::script(&limited, &text);
        run_with_kills(&script);
        let rows = folded(&script.path("out")).into_iter();
        let rows: Vec<Value> = rows
            .flat_map(|(row, count)| std::iter::repeat_n(row, usize::try_from(count).unwrap()))
            .map(|row| serde_json::from_str(&row).unwrap())
            .collect();
        check(query, &rows, &events, "after kills");
    }
}

/// The bids that q10 has logged, in order: each is in the folder of its minute, which is complete.
fn logged(script: &Script) -> Vec<String> {
    let mut found = vec![];
    for day in std::fs::read_dir(script.path("q10")).unwrap().map(|entry| entry.unwrap().path()) {
        for minute in std::fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().path()) {
            let name = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
            let of_folder = format!("{} {}", name(&day).replace("dt=", ""), name(&minute).replace("hm=", ""));
            assert!(minute.join("_SUCCESS").exists(), "{of_folder} is complete");
            for file in std::fs::read_dir(&minute).unwrap().map(|entry| entry.unwrap().path()) {
                // Others don't read what is hidden.
                if name(&file).starts_with(['.', '_']) {
                    continue;
                }
                for line in std::fs::read_to_string(file).unwrap().lines() {
                    let fields: Vec<&str> = line.splitn(5, ',').collect();
                    let time = fields[3].trim_matches('"');
                    assert!(time.starts_with(&of_folder.replace("%3A", ":")), "{time} is in {of_folder}");
                    found.push(format!("{},{},{},{}", fields[0], fields[1], fields[2], milliseconds(time)));
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn bids_are_logged_in_folders_by_minute_also_from_files_and_after_kills_and_rescales() {
    let events = events();
    let mut wanted: Vec<String> =
        events.bids.iter().map(|b| format!("{},{},{},{}", b.auction, b.bidder, b.price, b.time)).collect();
    wanted.sort();
    let check = |script: &Script, how: &str| {
        let found = logged(script);
        assert_eq!(found.len(), wanted.len(), "{how}");
        let other = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert!(other.is_none(), "{how}: the bids in the folders are others: {other:?}");
    };
    let query = queries::nexmark("q10").unwrap();
    let script = Script::new(&format!("{}\n{query}", generator()));
    stdout_of(&script.run(&["--parallelism", "2"]));
    check(&script, "from the generator");
    let files = Script::new(&queries::write_json(EVENTS, "${DIR}/events").replace("'connector' = 'nexmark'", RATES));
    stdout_of(&files.run(&["--parallelism", "1"]));
    let json = queries::json(&files.path("events").display().to_string())
        .replace("'format' = 'json'", "'format' = 'json', 'scan.rate-limit.rows-per-second' = '8000'");
    let script = Script::new(&format!("SET 'execution.checkpointing.interval' = '50 ms';\n{json}\n{query}"));
    run_with_kills(&script);
    check(&script, "after kills");
}
