//! Tests of the generated rows.

use super::*;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use millstream_core::time::ManualClock;
use millstream_core::{DataType, Field, TypeKind};

fn source(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    let table = TableDef {
        name: "t".into(),
        schema: Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone())).collect()),
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: vec![],
    };
    let session = SessionInfo { base_dir: ".".into(), time_zone: "Europe/Berlin".into(), storage: vec![] };
    DatagenConnector.source(&table, &session)
}

fn open(
    source: &dyn Source,
    restored: Option<Vec<Vec<u8>>>,
    instance: usize,
    instances: usize,
) -> (Box<dyn SourceReader>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_600_000_000_000));
    let context = SourceContext {
        instance,
        instances,
        restored,
        waker: Arc::new(|| ()),
        metrics: Default::default(),
        clock: clock.clone(),
    };
    (source.open(context).expect("open"), clock)
}

/// The rows of `seconds` seconds, as text.
fn read(
    source: &dyn Source,
    restored: Option<Vec<Vec<u8>>>,
    at: (usize, usize),
    seconds: i64,
) -> (Vec<String>, Vec<u8>) {
    let (mut reader, clock) = open(source, restored, at.0, at.1);
    let mut lines = Vec::new();
    for second in 0..seconds {
        clock.set(1_600_000_000_000 + second * 1000);
        while let SourcePoll::Rows { batch, .. } = reader.poll(50).expect("poll") {
            lines.extend(show(&batch.rows));
        }
    }
    (lines, reader.snapshot().expect("snapshot"))
}

fn show(batch: &RecordBatch) -> Vec<String> {
    let line = |row| {
        let mut text = String::new();
        batch.columns().iter().for_each(|c| {
            crate::print::push_java(&mut text, c, row);
            text.push('|');
        });
        text
    };
    (0..batch.num_rows()).map(line).collect()
}

fn all_types() -> Vec<(&'static str, DataType)> {
    use TypeKind::*;
    vec![
        ("a", Boolean.nullable()),
        ("b", TinyInt.nullable()),
        ("c", SmallInt.nullable()),
        ("d", Int.nullable()),
        ("e", BigInt.nullable()),
        ("f", Float.nullable()),
        ("g", Double.nullable()),
        ("h", Decimal(38, 4).nullable()),
        ("i", Char(5).nullable()),
        ("j", TypeKind::STRING.nullable()),
        ("k", Binary(3).nullable()),
        ("l", VarBinary(7).nullable()),
        ("m", Date.nullable()),
        ("n", Time(0).nullable()),
        ("o", Timestamp(6).nullable()),
        ("p", TimestampLtz(3).nullable()),
        ("q", IntervalDayTime.nullable()),
        ("r", Array(Box::new(Int.nullable())).nullable()),
        ("s", Map(Box::new(Boolean.nullable()), Box::new(TypeKind::STRING.nullable())).nullable()),
        ("t", Multiset(Box::new(TinyInt.nullable())).nullable()),
        ("u", Row(vec![Field::new("x", Int.nullable()), Field::new("y", Double.nullable())]).nullable()),
        ("v", IntervalYearMonth.nullable()),
    ]
}

#[test]
fn a_restore_at_another_parallelism_gives_the_rows_of_an_uninterrupted_run() {
    let options = [("number-of-rows", "500"), ("rows-per-second", "100"), ("fields.e.null-rate", "0.5")];
    let source = source(&all_types(), &options).expect("source");
    assert!(source.is_bounded());
    let (mut whole, _) = read(source.as_ref(), None, (0, 1), 10);
    assert_eq!(whole.len(), 500);
    let mut pieces = Vec::new();
    let mut restored = None;
    for (instances, seconds) in [(2, 1), (3, 2), (1, 1), (2, 20)] {
        let mut snapshots = Vec::new();
        for instance in 0..instances {
            let (rows, snapshot) =
                read(source.as_ref(), restored.clone(), (instance, instances), seconds + instance as i64);
            pieces.extend(rows);
            snapshots.push(snapshot);
        }
        restored = Some(snapshots);
    }
    whole.sort();
    pieces.sort();
    assert_eq!(pieces, whole);
}

#[test]
fn a_sequence_counts_ends_the_stream_and_ranges_hold() {
    let columns = [
        ("n", TypeKind::BigInt.nullable()),
        ("x", TypeKind::Int.nullable()),
        ("s", TypeKind::VarChar(10).nullable()),
        ("z", TypeKind::STRING.nullable()),
    ];
    let options = [
        ("fields.n.kind", "sequence"),
        ("fields.n.start", "5"),
        ("fields.n.end", "1004"),
        ("fields.x.min", "-3"),
        ("fields.x.max", "3"),
        ("fields.x.null-rate", "0.3"),
        ("fields.z.length", "8"),
        ("fields.z.var-len", "true"),
    ];
    let source = source(&columns, &options).expect("source");
    let (mut reader, _) = open(source.as_ref(), None, 0, 1);
    let SourcePoll::Rows { batch, .. } = reader.poll(1).expect("poll") else { panic!("the first row is due at once") };
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 5);
    let (mut reader, clock) = open(source.as_ref(), None, 0, 1);
    clock.set(1_600_000_001_000);
    let SourcePoll::Rows { batch, .. } = reader.poll(5000).expect("poll") else { panic!("rows are due") };
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &(5..=1004).collect::<Vec<i64>>());
    let x = batch.column(1).as_primitive::<Int32Type>();
    assert!(x.iter().flatten().all(|v| (-3..=3).contains(&v)));
    assert!((-3..=3).all(|v| x.iter().flatten().any(|x| x == v)));
    assert!((200..400).contains(&x.null_count()));
    assert!(batch.column(2).as_string::<i32>().iter().all(|s| s.is_some_and(|s| s.len() == 10)));
    let lengths: std::collections::BTreeSet<usize> =
        batch.column(3).as_string::<i32>().iter().flatten().map(str::len).collect();
    assert_eq!(lengths, (1..=8).collect());
    assert!(matches!(reader.poll(10).expect("poll"), SourcePoll::End));
}

#[test]
fn a_projection_gives_the_values_of_the_full_table() {
    let source = source(&all_types(), &[("number-of-rows", "20")]).expect("source");
    let wanted = Schema::new(vec![
        Field::new("u", TypeKind::Row(vec![Field::new("y", TypeKind::Double.nullable())]).nullable()),
        Field::new("j", TypeKind::STRING.nullable()),
    ]);
    let projected = source.with_projection(wanted).expect("project");
    let batch = |source: &dyn Source| {
        let (mut reader, clock) = open(source, None, 0, 1);
        clock.set(1_600_000_001_000);
        match reader.poll(100).expect("poll") {
            SourcePoll::Rows { batch, .. } => batch.rows,
            other => panic!("rows are due, not {other:?}"),
        }
    };
    let (full, some) = (batch(source.as_ref()), batch(projected.as_ref()));
    assert_eq!(some.column(1), full.column_by_name("j").expect("column"));
    assert_eq!(some.column(0).as_struct().column(0), full.column_by_name("u").expect("column").as_struct().column(1));
}

#[test]
fn wrong_options_are_refused() {
    let columns = [("n", TypeKind::Int.nullable()), ("s", TypeKind::VarChar(10).nullable())];
    for (options, part) in [
        (vec![("rows-per-secnd", "1")], "rows-per-second"),
        (vec![("rows-per-second", "0")], "not positive"),
        (vec![("fields.n.kind", "sequence")], "fields.n.start"),
        (vec![("fields.n.min", "5"), ("fields.n.max", "4")], "range"),
        (vec![("fields.n.max", "3000000000")], "range"),
        (vec![("fields.s.length", "11")], "more than 10"),
        (vec![("fields.s.null-rate", "2")], "between 0 and 1"),
        (vec![("fields.m.kind", "random")], "fields.m.kind"),
    ] {
        let error = source(&columns, &options).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}
