//! Tests of Nexmark's events: proportions, projection, restore.

use super::*;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use millstream_core::time::ManualClock;
use millstream_core::{DataType, Field, TypeKind};

fn row(fields: &[(&str, TypeKind)]) -> DataType {
    TypeKind::Row(fields.iter().map(|(n, k)| Field::new(*n, k.clone().nullable())).collect()).nullable()
}

fn full_schema() -> Schema {
    let (id, text, time) = (TypeKind::BigInt, TypeKind::STRING, TypeKind::Timestamp(3));
    let person = [
        ("id", id.clone()),
        ("name", text.clone()),
        ("emailAddress", text.clone()),
        ("creditCard", text.clone()),
        ("city", text.clone()),
        ("state", text.clone()),
        ("dateTime", time.clone()),
        ("extra", text.clone()),
    ];
    let auction = [
        ("id", id.clone()),
        ("itemName", text.clone()),
        ("description", text.clone()),
        ("initialBid", id.clone()),
        ("reserve", id.clone()),
        ("dateTime", time.clone()),
        ("expires", time.clone()),
        ("seller", id.clone()),
        ("category", id.clone()),
        ("extra", text.clone()),
    ];
    let bid = [
        ("auction", id.clone()),
        ("bidder", id.clone()),
        ("price", id),
        ("channel", text.clone()),
        ("url", text.clone()),
        ("dateTime", time),
        ("extra", text),
    ];
    Schema::new(vec![
        Field::new("event_type", TypeKind::Int.nullable()),
        Field::new("person", row(&person)),
        Field::new("auction", row(&auction)),
        Field::new("bid", row(&bid)),
    ])
}

fn source(options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    let table = TableDef {
        name: "nexmark".into(),
        schema: full_schema(),
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: vec![],
    };
    let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] };
    NexmarkConnector.source(&table, &session)
}

fn open(
    source: &dyn Source,
    restored: Option<Vec<Vec<u8>>>,
    instance: usize,
    instances: usize,
) -> Box<dyn SourceReader> {
    let context = SourceContext {
        instance,
        instances,
        restored,
        waker: Arc::new(|| ()),
        metrics: Default::default(),
        clock: Arc::new(ManualClock::at(0)),
    };
    source.open(context).expect("open")
}

fn read(reader: &mut dyn SourceReader, polls: usize, into: &mut Vec<RecordBatch>) {
    for _ in 0..polls {
        match reader.poll(333).expect("poll") {
            SourcePoll::Rows { batch, .. } => into.push(batch.rows),
            _ => return,
        }
    }
}

fn all(source: &dyn Source) -> RecordBatch {
    let mut batches = Vec::new();
    read(open(source, None, 0, 1).as_mut(), usize::MAX, &mut batches);
    concat_batches(source.schema().arrow(), &batches).expect("concat")
}

#[test]
fn one_person_three_auctions_and_46_bids_of_fifty_events() {
    let source = source(&[("events.num", "5000"), ("first-event.rate", "1000")]).expect("source");
    assert!(source.is_bounded());
    let rows = all(source.as_ref());
    let kinds = rows.column(0).as_primitive::<Int32Type>();
    let count = |kind| kinds.values().iter().filter(|k| **k == kind).count();
    assert_eq!((count(0), count(1), count(2)), (100, 300, 4600));
    for (kind, column) in [(0, 1), (1, 2), (2, 3)] {
        for i in 0..rows.num_rows() {
            assert_eq!(rows.column(column).is_valid(i), kinds.value(i) == kind);
        }
    }
    let times = rows.column(3).as_struct().column_by_name("dateTime").expect("column");
    let times = times.as_primitive::<TimestampMillisecondType>();
    assert_eq!(times.value(4999), 1_436_918_400_000 + 4999, "a thousand events a second");
    let people = rows.column(1).as_struct().column_by_name("id").expect("column").as_primitive::<Int64Type>();
    assert_eq!(people.iter().flatten().collect::<Vec<_>>(), (1000..1100).collect::<Vec<i64>>());
    let auctions = rows.column(2).as_struct().column_by_name("id").expect("column").as_primitive::<Int64Type>();
    assert_eq!(auctions.iter().flatten().collect::<Vec<_>>(), (1000..1300).collect::<Vec<i64>>());
    let bids = rows.column(3).as_struct().column_by_name("auction").expect("column").as_primitive::<Int64Type>();
    let hot = bids.iter().flatten().filter(|a| a % 100 == 0).count();
    assert!((2000..2700).contains(&hot), "half of the bids are for a hot auction, got {hot}");
}

/// `Math.abs(Integer.reverse(i))` of Java, bit by bit; the smallest integer has no absolute value there.
fn channel_id(i: i64) -> i64 {
    let reversed = (0..32).filter(|bit| i >> bit & 1 == 1).map(|bit| 1i64 << (31 - bit)).sum::<i64>();
    match reversed {
        r if r == 1 << 31 => -r,
        r if r > 1 << 31 => (1 << 32) - r,
        r => r,
    }
}

#[test]
fn bids_have_nexmarks_channels_urls_prices_and_sizes() {
    let source = source(&[("events.num", "50000")]).expect("source");
    let rows = all(source.as_ref());
    let bids = rows.column(3).as_struct();
    let text = |name: &str| bids.column_by_name(name).expect("column").as_string::<i32>().clone();
    let (channels, urls, extras) = (text("channel"), text("url"), text("extra"));
    let mut urls_of = std::collections::BTreeMap::new();
    let (mut total, mut hot, mut with_id, mut extra_bytes) = (0, 0, 0, 0);
    for i in (0..bids.len()).filter(|i| bids.is_valid(*i)) {
        let (channel, url) = (channels.value(i), urls.value(i));
        assert_eq!(*urls_of.entry(channel.to_string()).or_insert(url.to_string()), url, "a channel has one address");
        let rest = url.strip_prefix("https://www.nexmark.com/").expect("the site");
        let parts: Vec<&str> = rest.split('/').collect();
        assert_eq!(parts.len(), 4, "{url}");
        for folder in &parts[..3] {
            let is_word = folder.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!((3..5).contains(&folder.len()) && is_word, "{url}");
        }
        let query = parts[3].strip_prefix("item.htm?query=1").expect("the page");
        match channel.strip_prefix("channel-") {
            None => {
                assert!(["Google", "Facebook", "Baidu", "Apple"].contains(&channel) && query.is_empty(), "{channel}");
                hot += 1;
            }
            Some(number) => {
                let number: i64 = number.parse().expect("a number");
                assert!((0..10_000).contains(&number));
                if !query.is_empty() {
                    assert_eq!(query, format!("&channel_id={}", channel_id(number)));
                    with_id += 1;
                }
            }
        }
        total += 1;
        extra_bytes += extras.value(i).len();
    }
    assert_eq!(total, 46_000);
    assert!((22_000..24_000).contains(&hot), "half of the bids come through hot channels: {hot}");
    let share = with_id as f64 / (total - hot) as f64;
    assert!((0.88..0.92).contains(&share), "nine of ten other channels have an id: {share}");
    assert_eq!((channel_id(1), channel_id(2), channel_id(3)), (-2_147_483_648, 1 << 30, 1 << 30));
    let average = 32.0 + extra_bytes as f64 / total as f64;
    assert!((98.0..102.0).contains(&average), "a bid has about 100 bytes: {average}");
    let prices = bids.column_by_name("price").expect("column").as_primitive::<Int64Type>();
    for (below, share) in [(1_000, 1.0 / 6.0), (10_000, 2.0 / 6.0), (1_000_000, 4.0 / 6.0), (100_000_001, 1.0)] {
        let found = prices.iter().flatten().filter(|p| (100..below).contains(p)).count() as f64 / total as f64;
        assert!((found - share).abs() < 0.01, "{found} of the prices are below {below}");
    }
}

#[test]
fn a_limit_on_rows_a_second_leaves_the_events_times_alone() {
    let source = source(&[("events.num", "100"), ("scan.rate-limit.rows-per-second", "10")]).expect("source");
    let mut reader = open(source.as_ref(), None, 0, 1);
    let mut batches = Vec::new();
    read(reader.as_mut(), usize::MAX, &mut batches);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "the clock stands still");
    assert!(matches!(reader.poll(10), Ok(SourcePoll::Wait(Some(_)))));
}

#[test]
fn a_projection_gives_the_values_of_the_full_table() {
    let source = source(&[("events.num", "3000")]).expect("source");
    let full = all(source.as_ref());
    let fields = [("dateTime", TypeKind::Timestamp(3)), ("url", TypeKind::STRING), ("auction", TypeKind::BigInt)];
    let wanted = Schema::new(vec![
        Field::new("bid", row(&fields)),
        Field::new("auction", row(&[("extra", TypeKind::STRING), ("expires", TypeKind::Timestamp(3))])),
    ]);
    let some = all(source.with_projection(wanted).expect("project").as_ref());
    for (i, name, fields) in [(0, "bid", vec!["dateTime", "url", "auction"]), (1, "auction", vec!["extra", "expires"])]
    {
        let whole = full.column_by_name(name).expect("column").as_struct();
        for field in fields {
            assert_eq!(some.column(i).as_struct().column_by_name(field), whole.column_by_name(field), "{name}.{field}");
        }
    }
}

#[test]
fn a_restore_at_another_parallelism_gives_the_rows_of_an_uninterrupted_run() {
    let source = source(&[("events.num", "10000")]).expect("source");
    let whole = all(source.as_ref());
    let mut batches = Vec::new();
    let mut restored = None;
    for (instances, polls) in [(2, 3), (3, 2), (1, 2), (2, usize::MAX)] {
        let mut snapshots = Vec::new();
        for instance in 0..instances {
            let mut reader = open(source.as_ref(), restored.clone(), instance, instances);
            read(reader.as_mut(), if polls == usize::MAX { polls } else { polls + instance }, &mut batches);
            snapshots.push(reader.snapshot().expect("snapshot"));
        }
        restored = Some(snapshots);
    }
    let show = |batch: &RecordBatch| -> Vec<String> {
        let line = |row| {
            let mut text = String::new();
            batch.columns().iter().for_each(|c| crate::print::push_java(&mut text, c, row));
            text
        };
        let mut lines: Vec<String> = (0..batch.num_rows()).map(line).collect();
        lines.sort();
        lines
    };
    let pieces = concat_batches(source.schema().arrow(), &batches).expect("concat");
    assert!(show(&pieces) == show(&whole));
}

#[test]
fn wrong_options_and_columns_are_refused() {
    for (options, part) in [
        (vec![("events.number", "1")], "events.num"),
        (vec![("bid.proportion", "0")], "not positive"),
        (vec![("first-event.rate", "1"), ("next-event.rate", "2")], "next-event.rate"),
    ] {
        let error = source(&options).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
    let unknown = Schema::new(vec![Field::new("bid", row(&[("colour", TypeKind::STRING)]))]);
    assert!(Plan::new(&unknown).expect_err("refused").contains("bid.colour"));
}
