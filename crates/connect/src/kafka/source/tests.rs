//! Readers against a real server: what they give, where they stand, and what they refuse.

use super::super::{Flavor, KafkaConnector};
use arrow::util::display::array_value_to_string;
use millstream_core::connector::{Connector, SessionInfo, TableDef};
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader};
use millstream_core::time::SystemClock;
use millstream_core::{Batch, Error, Field, Result, Schema, TypeKind};
use millstream_testbed::kafka::{Broker, Record, unique, wait_for};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// A table of JSON messages in `topic`, of the columns `id` and `name`; `options` may say otherwise.
struct Table {
    flavor: Flavor,
    columns: Vec<(&'static str, TypeKind)>,
    metadata: Vec<(&'static str, TypeKind, &'static str)>,
    options: BTreeMap<String, String>,
}

impl Table {
    fn new(broker: &Broker, topic: &str) -> Table {
        Table {
            flavor: Flavor::Kafka,
            columns: vec![("id", TypeKind::BigInt), ("name", TypeKind::STRING)],
            metadata: vec![],
            options: BTreeMap::new(),
        }
        .with(&[
            ("properties.bootstrap.servers", &broker.servers()),
            ("topic", topic),
            ("format", "json"),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ])
    }
    fn with(mut self, options: &[(&str, &str)]) -> Table {
        for (key, value) in options {
            match *value {
                "-" => self.options.remove(*key),
                value => self.options.insert(key.to_string(), value.to_string()),
            };
        }
        self
    }
    fn unbounded(self) -> Table {
        self.with(&[("scan.bounded.mode", "-")])
    }
    fn source(&self) -> Result<Arc<dyn Source>> {
        let field = |name: &str, kind: &TypeKind| Field { name: name.into(), data_type: kind.clone().nullable() };
        let physical = self.columns.iter().map(|(name, kind)| field(name, kind));
        let fields = physical.chain(self.metadata.iter().map(|(name, kind, _)| field(name, kind))).collect();
        let table = TableDef {
            name: "t".into(),
            schema: Schema::new(fields),
            metadata: self.metadata.iter().map(|(name, _, key)| (name.to_string(), key.to_string())).collect(),
            options: self.options.clone(),
            primary_key: if self.flavor == Flavor::UpsertKafka { vec!["id".into()] } else { vec![] },
            partitioned_by: vec![],
        };
        let session = SessionInfo { base_dir: "/".into(), time_zone: "UTC".into(), storage: vec![] };
        KafkaConnector(self.flavor).source(&table, &session)
    }
    /// The source, told where to start.
    fn started(&self) -> Result<Arc<dyn Source>> {
        let source = self.source()?;
        match source.start()? {
            Some(start) => source.starting_at(&start),
            None => Ok(source),
        }
    }
    fn open(&self, instance: usize, instances: usize) -> Reader {
        Reader::open(&self.started().unwrap(), instance, instances, None).unwrap()
    }
    /// All rows of a bounded table, read by so many instances.
    fn read_by(&self, instances: usize) -> Result<Vec<String>> {
        let source = self.started()?;
        let mut rows = Vec::new();
        for instance in 0..instances {
            rows.extend(Reader::open(&source, instance, instances, None)?.read_to_end()?);
        }
        rows.sort();
        Ok(rows)
    }
    fn rows(&self) -> Vec<String> {
        self.read_by(1).unwrap()
    }
    fn error(&self) -> Error {
        self.read_by(1).expect_err("it can be read")
    }
}

struct Reader {
    reader: Box<dyn SourceReader>,
    metrics: millstream_core::metrics::MetricsRef,
}

fn shown(batch: &Batch) -> Vec<String> {
    let cell = |row: usize, column: usize| array_value_to_string(batch.column(column), row).unwrap();
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<String> = (0..batch.rows.num_columns()).map(|column| cell(row, column)).collect();
            let kind = batch.kinds.as_ref().map(|_| format!("{} ", batch.kind(row).symbol())).unwrap_or_default();
            format!("{kind}{}", cells.join(" "))
        })
        .collect()
}

impl Reader {
    fn open(
        source: &Arc<dyn Source>,
        instance: usize,
        instances: usize,
        restored: Option<Vec<Vec<u8>>>,
    ) -> Result<Reader> {
        let metrics: millstream_core::metrics::MetricsRef = Default::default();
        let ctx = SourceContext {
            instance,
            instances,
            restored,
            waker: Arc::new(|| {}),
            metrics: metrics.clone(),
            clock: Arc::new(SystemClock),
        };
        Ok(Reader { reader: source.open(ctx)?, metrics })
    }
    /// What the next poll gives that isn't waiting.
    fn next(&mut self, max_rows: usize) -> Result<SourcePoll> {
        let start = Instant::now();
        loop {
            match self.reader.poll(max_rows)? {
                SourcePoll::Wait(_) | SourcePoll::Idle(_) if start.elapsed() < DEADLINE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                found => return Ok(found),
            }
        }
    }
    fn read_to_end(&mut self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        loop {
            match self.next(1000)? {
                SourcePoll::Rows { batch, .. } => rows.extend(shown(&batch)),
                SourcePoll::SplitAdded(_) | SourcePoll::SplitAtEnd(_) | SourcePoll::SplitEnded(_) => {}
                SourcePoll::End => return Ok(rows),
                other => panic!("{other:?}"),
            }
        }
    }
    /// So many rows at least, in polls of `max_rows`.
    fn take(&mut self, count: usize, max_rows: usize) -> Vec<String> {
        let mut rows = Vec::new();
        while rows.len() < count {
            match self.next(max_rows).unwrap() {
                SourcePoll::Rows { batch, .. } => rows.extend(shown(&batch)),
                SourcePoll::SplitAdded(_) | SourcePoll::SplitAtEnd(_) | SourcePoll::SplitEnded(_) => {}
                other => panic!("{other:?} after {} rows of {count}", rows.len()),
            }
        }
        rows
    }
    /// Polls until there is an error.
    fn error(&mut self) -> Error {
        let start = Instant::now();
        loop {
            match self.reader.poll(1000) {
                Err(error) => return error,
                Ok(found) => assert!(start.elapsed() < DEADLINE, "no error, but {found:?}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    fn position(&mut self) -> Vec<u8> {
        self.reader.snapshot().unwrap()
    }
}

fn topic(broker: &Broker, partitions: i32) -> String {
    let name = unique("source");
    broker.create_topic(&name, partitions);
    name
}

/// A message of row `id`.
fn row(topic: &str, id: i32) -> Record {
    Record::value(topic, format!("{{\"id\": {id}, \"name\": \"n{id}\"}}"))
}

fn row_texts(ids: impl IntoIterator<Item = i32>) -> Vec<String> {
    let mut texts: Vec<String> = ids.into_iter().map(|id| format!("{id} n{id}")).collect();
    texts.sort();
    texts
}

/// Row `id` in partition `id % partitions`, in order, at `1000 * id + 1` milliseconds: a client takes 0 for now.
fn fill(broker: &Broker, topic: &str, partitions: i32, ids: std::ops::Range<i32>) {
    let record = |id: i32| row(topic, id).to_partition(id % partitions).at(1000 * i64::from(id) + 1);
    broker.produce(&ids.map(record).collect::<Vec<_>>());
}

fn check_error(error: &Error, expected: &[&str]) {
    let text = error.to_string();
    expected.iter().for_each(|part| assert!(text.contains(part), "'{part}' is not in: {text}"));
}

#[test]
fn every_startup_and_bounded_mode_reads_its_records() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 2);
    fill(broker, &name, 2, 0..20);
    let table = |options: &[(&str, &str)]| Table::new(broker, &name).with(options);
    assert_eq!(table(&[]).rows(), row_texts(0..20));
    assert_eq!(table(&[]).read_by(3).unwrap(), row_texts(0..20));
    let bounded = |options: &[(&str, &str)]| table(options).rows();
    assert_eq!(bounded(&[("scan.startup.mode", "latest-offset")]), row_texts([]));
    let time = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "14000")];
    assert_eq!(bounded(&time), row_texts(14..20));
    let time = [("scan.bounded.mode", "timestamp"), ("scan.bounded.timestamp-millis", "5000")];
    assert_eq!(bounded(&time), row_texts(0..5));
    let offsets = "partition:0,offset:8;partition:1,offset:9";
    let specific = [("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", offsets)];
    assert_eq!(bounded(&specific), row_texts([16, 18, 19]));
    let specific =
        [("scan.bounded.mode", "specific-offsets"), ("scan.bounded.specific-offsets", "partition:0,offset:2")];
    assert_eq!(bounded(&specific), row_texts([0, 2]));
    let beyond =
        [("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:99")];
    check_error(&table(&beyond).error(), &["has no offset 99", "scan.startup.specific-offsets"]);
    let absent = [("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:7,offset:1")];
    check_error(&table(&absent).error(), &["has no partition 7"]);
}

#[test]
fn the_groups_offsets_follow_the_checkpoints_and_only_they_move_it() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    fill(broker, &name, 1, 0..10);
    let group = unique("group");
    let of_group = |options: &[(&str, &str)]| {
        Table::new(broker, &name)
            .with(&[("properties.group.id", group.as_str()), ("scan.startup.mode", "group-offsets")])
            .with(options)
    };
    check_error(&of_group(&[]).error(), &["has no offset for partition 0", "properties.auto.offset.reset"]);
    let earliest = of_group(&[("properties.auto.offset.reset", "earliest")]).unbounded();
    let mut reader = earliest.open(0, 1);
    reader.take(4, 4);
    reader.position();
    reader.reader.at_epoch_end(1);
    reader.take(4, 4);
    reader.position();
    reader.reader.at_epoch_end(2);
    reader.reader.committed(1).unwrap();
    // The second epoch isn't durable: the group stands where the first ended.
    wait_for("the group's offset", || {
        let _ = reader.reader.poll(1);
        let rows = of_group(&[]).read_by(1);
        rows.is_ok_and(|rows| rows == row_texts(4..10)).then_some(())
    });
    let until = of_group(&[("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "group-offsets")]);
    assert_eq!(until.rows(), row_texts(0..4));
}

#[test]
fn positions_are_shared_out_anew_when_the_number_of_instances_changes() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 5);
    fill(broker, &name, 5, 0..500);
    let source = Table::new(broker, &name).with(&[("scan.bounded.mode", "latest-offset")]).started().unwrap();
    let (mut rows, mut positions) = (Vec::new(), None);
    for instances in [2, 1, 3] {
        let mut readers: Vec<Reader> = (0..instances)
            .map(|instance| Reader::open(&source, instance, instances, positions.clone()).unwrap())
            .collect();
        if instances == 3 {
            readers.iter_mut().for_each(|reader| rows.extend(reader.read_to_end().unwrap()));
        } else {
            readers.iter_mut().for_each(|reader| rows.extend(reader.take(60, 7)));
        }
        positions = Some(readers.iter_mut().map(Reader::position).collect());
    }
    rows.sort();
    assert_eq!(rows, row_texts(0..500));
}

#[test]
fn new_partitions_and_topics_are_found_and_read_from_their_first_record() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    fill(broker, &name, 1, 0..3);
    let options = [
        ("topic", "-"),
        ("topic-pattern", &format!("{name}.*")),
        ("scan.startup.mode", "latest-offset"),
        ("scan.topic-partition-discovery.interval", "100 ms"),
    ];
    let mut readers = [0, 1].map(|instance| Table::new(broker, &name).unbounded().with(&options).open(instance, 2));
    broker.add_partitions(&name, 3);
    broker.create_topic(&format!("{name}-more"), 1);
    let records: Vec<Record> = (10..13).map(|id| row(&name, id).to_partition(id - 10)).collect();
    broker.produce(&records);
    broker.produce(&[row(&format!("{name}-more"), 13)]);
    let mut rows = Vec::new();
    wait_for("four rows", || {
        for reader in &mut readers {
            if let SourcePoll::Rows { batch, .. } = reader.reader.poll(100).unwrap() {
                rows.extend(shown(&batch));
            }
        }
        (rows.len() == 4).then_some(())
    });
    rows.sort();
    assert_eq!(rows, row_texts(10..14));
}

#[test]
fn offsets_that_retention_removed_are_an_error_or_passed_over_as_told() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    fill(broker, &name, 1, 0..10);
    let table = Table::new(broker, &name).unbounded();
    let mut reader = table.open(0, 1);
    assert_eq!(reader.take(3, 3), row_texts(0..3));
    let position = reader.position();
    drop(reader);
    broker.delete_records(&name, 0, 6);
    let restored = |table: &Table| Reader::open(&table.started().unwrap(), 0, 1, Some(vec![position.clone()])).unwrap();
    check_error(&restored(&table).error(), &["offset 3 is gone", &name, "partition 0", "scan.on-lost-offsets"]);
    let to_earliest = table.with(&[("scan.on-lost-offsets", "earliest")]);
    assert_eq!(restored(&to_earliest).take(4, 100), row_texts(6..10));
}

#[test]
fn a_topic_that_is_removed_or_made_anew_is_an_error() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 2);
    fill(broker, &name, 2, 0..6);
    let table = Table::new(broker, &name).unbounded().with(&[("scan.topic-partition-discovery.interval", "200 ms")]);
    let mut reader = table.open(0, 1);
    reader.take(6, 100);
    let position = reader.position();
    broker.delete_topic(&name);
    check_error(&reader.error(), &[&name, "--from none"]);
    let restored = |table: &Table| Reader::open(&table.started().unwrap(), 0, 1, Some(vec![position.clone()])).unwrap();
    broker.create_topic(&name, 2);
    fill(broker, &name, 2, 10..20);
    let anew = ["removed and made anew", "those of the topic before", &name, "'scan.on-lost-offsets' = 'earliest'"];
    check_error(&restored(&table).error(), &anew);
    broker.delete_topic(&name);
    broker.create_topic(&name, 1);
    fill(broker, &name, 1, 20..25);
    check_error(&restored(&table).error(), &anew);
    // As told, what there is now is read, and the partition that is no more is forgotten.
    let to_earliest = table.with(&[("scan.on-lost-offsets", "earliest")]);
    let mut reader = restored(&to_earliest);
    assert_eq!(reader.take(5, 100), row_texts(20..25));
    let position = String::from_utf8(reader.position()).unwrap();
    assert_eq!((position.matches("\"next\"").count(), position.matches("\"next\":5").count()), (1, 1), "{position}");
}

#[test]
fn broken_records_fail_the_job_or_are_kept_aside_or_passed_over() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    broker.produce(&[row(&name, 1), Record::value(&name, "{broken"), row(&name, 2)]);
    let table = |options: &[(&str, &str)]| Table::new(broker, &name).with(options);
    check_error(&table(&[]).error(), &["can't be decoded", &format!("topic '{name}', partition 0, offset 1")]);
    let source = table(&[("json.ignore-parse-errors", "true")]).started().unwrap();
    let mut reader = Reader::open(&source, 0, 1, None).unwrap();
    assert_eq!(reader.read_to_end().unwrap(), row_texts(1..3));
    assert_eq!(reader.metrics.bad_records.load(Ordering::Relaxed), 1);
    let folder = tempfile::tempdir().unwrap();
    let kept = table(&[("dead-letter.path", folder.path().to_str().unwrap())]);
    assert_eq!(kept.rows(), row_texts(1..3));
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let letter = std::fs::read_to_string(file).unwrap();
    for part in ["\"offset\":1", "\"record\":\"{broken\"", &format!("\"topic\":\"{name}\"")] {
        assert!(letter.contains(part), "{letter}");
    }
}

#[test]
fn metadata_keys_and_several_formats_make_the_columns() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    let mut record = Record::keyed(&name, "{\"k\": \"a\"}", Some("7\n")).at(1_700_000_000_123);
    record.headers = vec![("h".into(), b"v1".to_vec()), ("h".into(), b"v2".to_vec())];
    broker.produce(&[record, Record::value(&name, "8")]);
    let mut table = Table::new(broker, &name).with(&[
        ("format", "-"),
        ("value.format", "csv"),
        ("key.format", "json"),
        ("key.fields", "key_k"),
        ("key.fields-prefix", "key_"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    table.columns = vec![("key_k", TypeKind::STRING), ("n", TypeKind::Int)];
    table.metadata = vec![
        ("t", TypeKind::STRING, "topic"),
        ("p", TypeKind::BigInt, "partition"),
        ("o", TypeKind::BigInt, "offset"),
        ("ts", TypeKind::Timestamp(3), "timestamp"),
        ("tt", TypeKind::STRING, "timestamp-type"),
        ("h", TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::BYTES.nullable())), "headers"),
    ];
    let rows = table.rows();
    let (first, second) = (&rows[1], &rows[0]);
    assert_eq!(first, &format!("a 7 {name} 0 0 2023-11-14T22:13:20.123 CreateTime {{h: 7632}}"));
    assert!(second.starts_with(&format!(" 8 {name} 0 1 ")), "{second}");
    let source = table.source().unwrap();
    let projected = source.with_projection(Schema::new(vec![source.schema().fields[4].clone()])).unwrap();
    let projected = projected.starting_at(&source.start().unwrap().unwrap()).unwrap();
    assert_eq!(Reader::open(&projected, 0, 1, None).unwrap().read_to_end().unwrap(), ["0", "1"]);
}

#[test]
fn upsert_kafka_gives_versions_and_ends_of_rows() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    let value = |id: i32, text: &str| Some(format!("{{\"id\": {id}, \"name\": \"{text}\"}}"));
    let record = |id: i32, value: Option<String>| Record::keyed(&name, &format!("{{\"id\": {id}}}"), value.as_deref());
    broker.produce(&[record(1, value(1, "a")), record(2, value(2, "b")), record(1, None), record(2, value(2, "c"))]);
    let mut table = Table::new(broker, &name).with(&[
        ("format", "-"),
        ("scan.startup.mode", "-"),
        ("key.format", "json"),
        ("value.format", "json"),
    ]);
    table.flavor = Flavor::UpsertKafka;
    let source = table.started().unwrap();
    assert!(source.changelog().update && !source.changelog().update_before);
    let rows = Reader::open(&source, 0, 1, None).unwrap().read_to_end().unwrap();
    assert_eq!(rows, ["+U 1 a", "+U 2 b", "-D 1 ", "+U 2 c"]);
    broker.produce(&[Record::value(&name, "{}")]);
    check_error(&table.error(), &["has no key", "offset 4"]);
}

#[test]
fn changes_messages_of_several_lines_and_empty_ones_are_read() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    let row = |id: i32, name: &str| format!("{{\"id\": {id}, \"name\": \"{name}\"}}");
    let insert = format!("{{\n \"before\": null,\n \"after\": {}, \"op\": \"c\"\n}}\n", row(1, "a"));
    let update = format!("{{\"before\": {}, \"after\": {}, \"op\": \"u\"}}", row(1, "a"), row(1, "b"));
    broker.produce(&[Record::value(&name, insert), Record::value(&name, update), Record::keyed(&name, "k", None)]);
    let changes = Table::new(broker, &name).with(&[("format", "debezium-json")]);
    let rows = Reader::open(&changes.started().unwrap(), 0, 1, None).unwrap().read_to_end().unwrap();
    assert_eq!(rows, ["+I 1 a", "-U 1 a", "+U 1 b"]);
    let raw = topic(broker, 1);
    broker.produce(&[Record::value(&raw, "two\nlines"), Record::value(&raw, ""), Record::keyed(&raw, "k", None)]);
    let mut table = Table::new(broker, &raw).with(&[("format", "raw")]);
    table.columns = vec![("text", TypeKind::STRING)];
    assert_eq!(table.rows(), ["", "", "two\nlines"]);
}

#[test]
fn what_a_transaction_aborts_is_not_read_and_does_not_keep_a_bounded_job_from_ending() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    let producer: BaseProducer = broker.client().set("transactional.id", unique("id")).create().unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    for (id, commits) in [(1, true), (2, false), (3, true), (4, false)] {
        producer.begin_transaction().unwrap();
        let record = row(&name, id);
        let payload = record.value.as_deref().unwrap();
        producer.send(BaseRecord::<[u8], [u8]>::to(&name).payload(payload)).map_err(|(e, _)| e).unwrap();
        match commits {
            true => producer.commit_transaction(DEADLINE).unwrap(),
            false => {
                producer.flush(DEADLINE).unwrap();
                producer.abort_transaction(DEADLINE).unwrap();
            }
        }
    }
    assert_eq!(Table::new(broker, &name).rows(), row_texts([1, 3]));
    let all = Table::new(broker, &name).with(&[("properties.isolation.level", "read_uncommitted")]);
    assert_eq!(all.rows(), row_texts(1..5));
}

#[test]
fn splits_are_announced_and_say_when_they_have_no_more_and_are_held_back_on_request() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 2);
    fill(broker, &name, 2, 0..10);
    let mut reader = Table::new(broker, &name).unbounded().open(0, 1);
    for split in 0..2 {
        let found = reader.next(100).unwrap();
        assert!(matches!(found, SourcePoll::SplitAdded(n) if n == split), "{found:?}");
    }
    reader.reader.hold_back(&[0]);
    let mut seen = Vec::new();
    while seen.last() != Some(&"end 1".to_string()) {
        match reader.next(100).unwrap() {
            SourcePoll::Rows { split, .. } => seen.push(format!("rows {split}")),
            SourcePoll::SplitAtEnd(split) => seen.push(format!("end {split}")),
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.iter().all(|what| what.ends_with('1')), "{seen:?}");
    reader.reader.hold_back(&[]);
    assert_eq!(reader.take(5, 100).len(), 5);
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_only_waited_for() {
    let Some(mut broker) = Broker::start() else { return };
    broker.create_topic("a", 1);
    fill(&broker, "a", 1, 0..5);
    let mut reader = Table::new(&broker, "a").unbounded().open(0, 1);
    assert_eq!(reader.take(5, 100), row_texts(0..5));
    broker.kill();
    for _ in 0..50 {
        assert!(!matches!(reader.reader.poll(100).unwrap(), SourcePoll::Rows { .. } | SourcePoll::End));
        std::thread::sleep(Duration::from_millis(20));
    }
    broker.restart();
    fill(&broker, "a", 1, 5..9);
    assert_eq!(reader.take(4, 100), row_texts(5..9));
}

#[test]
fn a_table_that_can_not_be_read_is_refused_with_its_option() {
    let Some(broker) = Broker::shared() else { return };
    let table = |options: &[(&str, &str)]| Table::new(broker, "nothing-there").with(options);
    check_error(&table(&[]).error(), &["there is no topic 'nothing-there'", "option 'topic'"]);
    let refused = |options: &[(&str, &str)], expected: &[&str]| check_error(&table(options).error(), expected);
    refused(&[("format", "jso")], &["no format 'jso'", "did you mean 'json'?"]);
    refused(&[("format", "parquet")], &["one of files, not of messages"]);
    refused(&[("value.format", "json")], &["'format' and 'value.format' can't both be given"]);
    refused(&[("format", "-")], &["needs the option 'format'"]);
    refused(&[("scan.strtup.mode", "x")], &["has no option 'scan.strtup.mode'", "scan.startup.mode"]);
    refused(
        &[("key.format", "json"), ("key.fields", "id"), ("key.json.ignore", "1")],
        &["no option 'key.json.ignore'"],
    );
    let mut odd = table(&[]);
    odd.metadata = vec![("o", TypeKind::BigInt, "offst")];
    check_error(&odd.error(), &["there is no metadata 'offst'", "did you mean 'offset'?"]);
}
