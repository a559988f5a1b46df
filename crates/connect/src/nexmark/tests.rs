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
