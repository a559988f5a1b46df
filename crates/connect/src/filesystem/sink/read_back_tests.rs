//! Tests that what the sink writes is what readers get: Parquet's types, partition columns of any type.

use super::FileSink;
use crate::filesystem::FilesystemConnector;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::sink::SinkContext;
use millstream_core::source::{SourceContext, SourcePoll};
use millstream_core::time::ManualClock;
use millstream_core::{Batch, Field, Schema, TypeKind};
use std::path::Path;
use std::sync::Arc;

fn table(schema: &Schema, path: &Path, format: &str, by: &[&str]) -> TableDef {
    let options = [("connector", "filesystem"), ("path", path.to_str().unwrap()), ("format", format)];
    TableDef {
        name: "t".into(),
        schema: schema.clone(),
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: by.iter().map(|s| s.to_string()).collect(),
    }
}

fn session() -> SessionInfo {
    SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] }
}

/// Rows from JSON lines.
fn rows(schema: &Schema, json: &str) -> Batch {
    let table = table(schema, Path::new("."), "json", &[]);
    let options = Options::new("t", "filesystem", &table.options);
    let factory = crate::formats::decoder_factory(&table, &options, &session()).unwrap();
    let mut decoder = factory.decoder(schema).unwrap();
    let (mut bad, mut at) = (vec![], 0);
    while at < json.len() {
        at += decoder.decode(&json.as_bytes()[at..], 1_000_000, &mut bad).unwrap_or_else(|e| panic!("{e}"));
    }
    decoder.take().unwrap()
}

fn write(table: &TableDef, rows: &Batch) {
    let options = Options::new(&table.name, "filesystem", &table.options);
    let sink = FileSink::build(table, &options, WriteMode::Append, &session()).unwrap();
    let mut writer = sink
        .open(SinkContext {
            job_id: "job".into(),
            attempt: 1,
            run: 1,
            instance: 0,
            instances: 1,
            waker: Arc::new(|| {}),
            metrics: Default::default(),
            clock: Arc::new(ManualClock::at(0)),
            first_epoch: 1,
            storage: None,
        })
        .unwrap();
    writer.write(rows).unwrap();
    let prepared = writer.prepare_commit(1, true).unwrap();
    sink.committer().unwrap().commit(1, &prepared, true).unwrap();
}

fn read(table: &TableDef) -> RecordBatch {
    let source = FilesystemConnector.source(table, &session()).unwrap();
    let mut reader = source
        .open(SourceContext {
            instance: 0,
            instances: 1,
            restored: None,
            waker: Arc::new(|| {}),
            metrics: Default::default(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap();
    let mut batches = Vec::new();
    loop {
        match reader.poll(100).unwrap() {
            SourcePoll::Rows { batch, .. } => batches.push(batch.rows),
            SourcePoll::Wait(_) | SourcePoll::Idle(_) => std::thread::yield_now(),
            SourcePoll::SplitAdded(_) | SourcePoll::SplitAtEnd(_) | SourcePoll::SplitEnded(_) => {}
            SourcePoll::End => break,
        }
    }
    concat_batches(table.schema.arrow(), &batches).unwrap()
}

/// A column of every type that a file can have.
fn every_type() -> Schema {
    use TypeKind::*;
    let row = Row(vec![
        Field::new("a", Int.nullable()),
        Field::new("b", Array(Box::new(TypeKind::STRING.nullable())).nullable()),
    ]);
    let columns = [
        ("boolean", Boolean),
        ("tinyint", TinyInt),
        ("smallint", SmallInt),
        ("int", Int),
        ("bigint", BigInt),
        ("float", Float),
        ("double", Double),
        ("decimal", Decimal(10, 2)),
        ("decimal38", Decimal(38, 10)),
        ("char", Char(3)),
        ("varchar", VarChar(20)),
        ("binary", Binary(3)),
        ("bytes", TypeKind::BYTES),
        ("date", Date),
        ("time", Time(3)),
        ("ts0", Timestamp(0)),
        ("ts3", Timestamp(3)),
        ("ts6", Timestamp(6)),
        ("ts9", Timestamp(9)),
        ("ltz3", TimestampLtz(3)),
        ("ltz9", TimestampLtz(9)),
        ("array", Array(Box::new(Int.nullable()))),
        ("map", Map(Box::new(TypeKind::STRING.not_null()), Box::new(Double.nullable()))),
        ("multiset", Multiset(Box::new(TypeKind::STRING.not_null()))),
        ("row", row),
        ("rows", Array(Box::new(Row(vec![Field::new("k", BigInt.nullable())]).nullable()))),
    ];
    Schema::new(columns.into_iter().map(|(name, kind)| Field::new(name, kind.nullable())).collect())
}

const EVERY_TYPE: &str = concat!(
    r#"{"boolean":true,"tinyint":-128,"smallint":32767,"int":-2147483648,"bigint":9223372036854775807,"#,
    r#""float":1.5,"double":-2.5e300,"decimal":-12345678.91,"decimal38":1234567890123456789012345678.0123456789,"#,
    r#""char":"abc","varchar":"Zoë €","binary":"AQID","bytes":"AAECAwQF","date":"1969-12-31","time":"23:59:59.123","#,
    r#""ts0":"2024-02-29 12:00:00","ts3":"1900-01-01 00:00:00.001","ts6":"2024-02-29 12:00:00.123456","#,
    r#""ts9":"2024-02-29 12:00:00.123456789","ltz3":"2024-02-29 12:00:00.123Z","ltz9":"2024-02-29 12:00:00.123456789Z","#,
    r#""array":[1,null,3],"map":{"x":1.5,"y":null},"multiset":{"a":2},"row":{"a":7,"b":["p",null]},"rows":[{"k":1},null,{"k":null}]}"#,
    "\n{}\n",
    r#"{"boolean":false,"array":[],"map":{},"row":{},"rows":[],"varchar":"","bytes":""}"#,
    "\n"
);

#[test]
fn parquet_keeps_every_type_and_every_null() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&every_type(), &folder.path().join("t"), "parquet", &[]);
    let rows = rows(&table.schema, EVERY_TYPE);
    write(&table, &rows);
    let path = std::fs::read_dir(folder.path().join("t")).unwrap().next().unwrap().unwrap().path();
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let found: Vec<RecordBatch> = reader.map(|b| b.unwrap()).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].columns(), rows.rows.columns());
    assert_eq!(found[0].schema().fields(), rows.rows.schema().fields());
    assert_eq!(read(&table), rows.rows);
}

#[test]
fn avro_keeps_every_type_that_it_has_and_every_null() {
    let has_more_digits = |kind: &TypeKind| matches!(kind, TypeKind::Timestamp(9) | TypeKind::TimestampLtz(9));
    let fields: Vec<Field> =
        every_type().fields.iter().filter(|f| !has_more_digits(&f.data_type.kind)).cloned().collect();
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let folder = tempfile::tempdir().unwrap();
        let mut table = table(&Schema::new(fields.clone()), &folder.path().join("t"), "avro", &[]);
        table.options.insert("avro.codec".into(), codec.into());
        table.options.insert("avro.timestamp_mapping.legacy".into(), "false".into());
        let rows = rows(&table.schema, &EVERY_TYPE.repeat(500));
        write(&table, &rows);
        assert_eq!(read(&table), rows.rows, "{codec}");
    }
}

/// A reader that goes on from any position gives the rest of the rows.
#[test]
fn files_of_blocks_go_on_where_they_were_left() {
    let schema = Schema::new(vec![Field::new("n", TypeKind::Int.nullable())]);
    let json: String = (0..10_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    for format in ["avro", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let table = table(&schema, &folder.path().join("t"), format, &[]);
        let all = rows(&schema, &json).rows;
        write(&table, &Batch { rows: all.clone(), kinds: None });
        let source = FilesystemConnector.source(&table, &session()).unwrap();
        let open = |restored: Option<Vec<Vec<u8>>>| {
            source.open(SourceContext {
                instance: 0,
                instances: 1,
                restored,
                waker: Arc::new(|| {}),
                metrics: Default::default(),
                clock: Arc::new(ManualClock::at(0)),
            })
        };
        let mut reader = open(None).unwrap();
        let mut batches = vec![];
        loop {
            match reader.poll(700).unwrap() {
                SourcePoll::Rows { batch, .. } => {
                    batches.push(batch.rows);
                    let position = reader.snapshot().unwrap();
                    reader = open(Some(vec![position])).unwrap();
                }
                SourcePoll::Wait(_) | SourcePoll::Idle(_) => std::thread::yield_now(),
                SourcePoll::SplitAdded(_) | SourcePoll::SplitAtEnd(_) | SourcePoll::SplitEnded(_) => {}
                SourcePoll::End => break,
            }
        }
        assert_eq!(concat_batches(schema.arrow(), &batches).unwrap(), all, "{format}");
    }
}

#[test]
fn parquet_has_no_intervals_and_says_so() {
    let schema = Schema::new(vec![Field::new("i", TypeKind::IntervalDayTime.nullable())]);
    let table = table(&schema, Path::new("t"), "parquet", &[]);
    let options = Options::new(&table.name, "filesystem", &table.options);
    let error = FileSink::build(&table, &options, WriteMode::Append, &session()).unwrap_err().to_string();
    assert!(error.contains("column 'i' of type INTERVAL"), "{error}");
}

fn check_partitions(format: &str, columns: &[(&str, TypeKind)], json: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut fields = vec![Field::new("id", TypeKind::BigInt.nullable())];
    fields.extend(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone().nullable())));
    let by: Vec<&str> = columns.iter().map(|c| c.0).collect();
    let table = table(&Schema::new(fields), &folder.path().join("t"), format, &by);
    let rows = rows(&table.schema, json);
    write(&table, &rows);
    let found = read(&table);
    let order = arrow::compute::sort_to_indices(found.column(0), None, None).unwrap();
    let found = arrow::compute::take_record_batch(&found, &order).unwrap();
    assert_eq!(found.columns(), rows.rows.columns(), "{format}");
}

#[test]
fn partition_columns_of_any_type_come_back_from_the_names_of_folders() {
    use TypeKind::*;
    for format in ["json", "csv"] {
        let texts = [("a key", TypeKind::STRING), ("b", VarChar(9))];
        let json = concat!(
            r#"{"id":1,"a key":"x/y","b":"100%"}"#,
            "\n",
            r#"{"id":2,"a key":"=?*","b":null}"#,
            "\n",
            r#"{"id":3,"a key":"_hidden","b":".."}"#,
            "\n",
            r#"{"id":4,"a key":" ","b":"Zoë"}"#,
            "\n"
        );
        check_partitions(format, &texts, json);
        let numbers = [("i", Int), ("n", Decimal(8, 3)), ("f", Boolean), ("d", Double)];
        let json = concat!(
            r#"{"id":1,"i":-5,"n":12.5,"f":true,"d":1e300}"#,
            "\n",
            r#"{"id":2,"i":null,"n":null,"f":null,"d":null}"#,
            "\n",
            r#"{"id":3,"i":7,"n":-0.001,"f":false,"d":0.1}"#,
            "\n"
        );
        check_partitions(format, &numbers, json);
        let times = [("day", Date), ("at", Timestamp(3)), ("us", Timestamp(6)), ("time", Time(0))];
        let json = concat!(
            r#"{"id":1,"day":"2024-02-29","at":"2024-02-29 10:00:00","us":"2024-02-29 10:00:00.123456","time":"10:00:00"}"#,
            "\n",
            r#"{"id":2,"day":"1969-12-31","at":"1969-12-31 23:59:59.999","us":"2024-02-29 10:00:01","time":"23:59:59"}"#,
            "\n"
        );
        check_partitions(format, &times, json);
        check_partitions(format, &[("ltz", TimestampLtz(3))], "{\"id\":1,\"ltz\":\"2024-02-29 10:00:00.5Z\"}\n");
    }
}
