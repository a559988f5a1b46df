//! Options, and what the servers are asked before a job starts, against a real server.

use super::client::{Cluster, Point};
use super::columns::RecordColumns;
use super::options::{Bounded, KafkaTable, Startup};
use super::{Flavor, KafkaConnector};
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::{Error, Field, Result, Schema, TypeKind};
use millstream_testbed::kafka::{Broker, Record, unique};
use std::collections::BTreeMap;

/// A table of the columns `id` and `name`, with these options.
pub(super) fn table(flavor: Flavor, options: &[(&str, &str)]) -> TableDef {
    let field = |name: &str, kind: TypeKind| Field { name: name.into(), data_type: kind.nullable() };
    let mut all: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    all.insert("connector".into(), flavor.name().into());
    TableDef {
        name: "t".into(),
        schema: Schema::new(vec![field("id", TypeKind::BigInt), field("name", TypeKind::STRING)]),
        metadata: BTreeMap::new(),
        options: all,
        primary_key: if flavor == Flavor::UpsertKafka { vec!["id".into()] } else { vec![] },
        partitioned_by: vec![],
    }
}

/// What a table needs at least, and `more`, which may say otherwise.
fn usual<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("properties.bootstrap.servers", "127.0.0.1:1"),
        ("topic", "a"),
        ("format", "json"),
        ("scan.startup.mode", "earliest-offset"),
    ];
    let is_told = |key: &str| more.iter().any(|(k, _)| *k == key);
    usual.into_iter().filter(|(key, _)| !is_told(key)).chain(more.iter().copied()).collect()
}

fn read(flavor: Flavor, options: &[(&str, &str)]) -> Result<(KafkaTable, RecordColumns)> {
    let table = table(flavor, options);
    let options = Options::new(&table.name, flavor.name(), &table.options);
    let of_options = KafkaTable::read(flavor, &options)?;
    of_options.check_scan(&options)?;
    Ok((of_options, RecordColumns::of_table(flavor, &table, &options)?))
}

/// The whole text of the error has each of `expected`.
fn check_refused(more: &[(&str, &str)], expected: &[&str]) {
    let error = read(Flavor::Kafka, &usual(more)).expect_err(&format!("{more:?}")).to_string();
    expected.iter().for_each(|part| assert!(error.contains(part), "'{part}' is not in: {error}"));
}

#[test]
fn options_of_clients_are_those_of_librdkafka_with_a_hint_for_those_of_java() {
    let refused = |key: &str, value: &str, expected: &[&str]| check_refused(&[(key, value)], expected);
    refused("properties.fetch.min.byte", "1", &["has no property 'fetch.min.byte'", "properties.fetch.min.bytes"]);
    refused("properties.max.poll.records", "1", &["no property 'max.poll.records'", "leave it out"]);
    refused("properties.ssl.truststore.location", "/x", &["properties.ssl.ca.location"]);
    refused("properties.sasl.jaas.config", "x", &["properties.sasl.username"]);
    refused(
        "properties.fetch.min.bytes",
        "many",
        &["'fetch.min.bytes' can't be set", "option 'properties.fetch.min.bytes'"],
    );
    refused("properties.transactional.id", "mine", &["can't be set", "sink.transactional-id-prefix"]);
    refused("properties.auto.offset.reset", "newest", &["'earliest'"]);
    let taken = [
        ("properties.security.protocol", "SASL_SSL"),
        ("properties.sasl.mechanism", "SCRAM-SHA-512"),
        ("properties.sasl.username", "me"),
        ("properties.sasl.password", "secret"),
        ("properties.group.id", "g"),
        ("properties.auto.offset.reset", "earliest"),
        ("properties.enable.auto.commit", "false"),
    ];
    let (read, _) = read(Flavor::Kafka, &usual(&taken)).unwrap();
    assert_eq!(read.properties.group_id.as_deref(), Some("g"));
    assert!(!format!("{read:?}").contains("secret"));
}

#[test]
fn where_reading_starts_and_ends_is_told_by_flinks_options() {
    let startup = |more: &[(&str, &str)]| read(Flavor::Kafka, &usual(more)).unwrap().0.scan.startup;
    assert_eq!(startup(&[]), Startup::Earliest);
    assert_eq!(startup(&[("scan.startup.mode", "latest-offset")]), Startup::Latest);
    let specific = [
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:42;partition:3,offset:300"),
    ];
    assert_eq!(startup(&specific), Startup::Offsets([(0, 42), (3, 300)].into()));
    let time = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "1700000000000")];
    assert_eq!(startup(&time), Startup::Timestamp(1_700_000_000_000));
    let bounded = read(Flavor::Kafka, &usual(&[("scan.bounded.mode", "latest-offset")])).unwrap().0.scan.bounded;
    assert_eq!(bounded, Bounded::Latest);
    check_refused(&[("scan.startup.mode", "group-offsets")], &["'group-offsets' needs 'properties.group.id'"]);
    check_refused(&[("scan.startup.mode", "newest")], &["'earliest-offset'"]);
    check_refused(&[("scan.startup.mode", "timestamp")], &["needs the option 'scan.startup.timestamp-millis'"]);
    check_refused(&[("scan.startup.timestamp-millis", "5")], &["is for 'scan.startup.mode' = 'timestamp'"]);
    check_refused(
        &[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "0:42")],
        &["'0:42' is no partition with its offset", "partition:0,offset:42"],
    );
    check_refused(&[("topic", "a;b c")], &["'b c' is no name of a topic"]);
    check_refused(&[("topic-pattern", "a.*")], &["'topic' and 'topic-pattern' can't both be given"]);
    check_refused(&[("scan.rate-limit.rows-per-second", "0")], &["above 0"]);
    check_refused(&[("sink.partitioner", "com.example.Mine")], &["no partitioner", "Java class"]);
    check_refused(&[("sink.delivery-guarantee", "twice")], &["'exactly-once'"]);
}

#[test]
fn the_keys_columns_are_named_by_options_or_by_the_primary_key() {
    let columns = |more: &[(&str, &str)]| read(Flavor::Kafka, &usual(more)).map(|(_, columns)| columns);
    assert_eq!(columns(&[]).unwrap().value, [0, 1]);
    let keyed = [("key.format", "json"), ("key.fields", "name"), ("value.fields-include", "EXCEPT_KEY")];
    let found = columns(&keyed).unwrap();
    assert_eq!((found.key, found.value), (vec![1], vec![0]));
    check_refused(
        &[("key.format", "json"), ("key.fields", "nam")],
        &["'nam' is no physical column", "did you mean 'name'?"],
    );
    check_refused(&[("key.format", "json")], &["needs 'key.fields'"]);
    check_refused(&[("key.fields", "id")], &["needs 'key.format'"]);
    let prefix = [("key.format", "json"), ("key.fields", "id"), ("key.fields-prefix", "k_")];
    check_refused(&prefix, &["doesn't begin with 'k_'"]);
    let upsert = read(Flavor::UpsertKafka, &usual(&[])).unwrap().1;
    assert_eq!((upsert.key, upsert.value), (vec![0], vec![0, 1]));
}

fn session() -> SessionInfo {
    SessionInfo { base_dir: "/".into(), time_zone: "UTC".into(), storage: vec![] }
}

#[test]
fn files_are_overwritten_but_not_topics() {
    let table = table(Flavor::Kafka, &usual(&[]));
    let error = KafkaConnector(Flavor::Kafka).sink(&table, WriteMode::Overwrite, &session()).unwrap_err();
    assert!(error.to_string().contains("INSERT OVERWRITE of 't'"), "{error}");
}

fn cluster(servers: &str, more: &[(&str, &str)]) -> Cluster {
    let options = [&[("properties.bootstrap.servers", servers)], more].concat();
    Cluster::new(&read(Flavor::Kafka, &usual(&options)).unwrap().0).unwrap()
}

fn check_error(error: &Error, expected: &[&str]) {
    let error = error.to_string();
    expected.iter().for_each(|part| assert!(error.contains(part), "'{part}' is not in: {error}"));
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_option() {
    for servers in ["127.0.0.1:1", "no-such-host.invalid:9092"] {
        let error = cluster(servers, &[]).topics().unwrap_err();
        check_error(&error, &[&format!("no Kafka server answers at {servers}"), "properties.bootstrap.servers"]);
    }
}

#[test]
fn topics_and_offsets_are_looked_up_before_anything_is_read() {
    let Some(broker) = Broker::shared() else { return };
    let (name, servers) = (unique("lookup"), broker.servers());
    broker.create_topic(&name, 2);
    let at = |ms: i64| Record::value(&name, "x").to_partition(0).at(ms);
    broker.produce(&[at(1000), at(2000), at(3000)]);
    let of = |topic: &str| cluster(&servers, &[("topic", topic), ("properties.group.id", "nobody")]);
    let found = of(&name).topics().unwrap();
    assert_eq!((found[0].name.as_str(), found[0].partitions, found.len()), (name.as_str(), 2, 1));
    assert!(found[0].id.as_ref().is_some_and(|id| !id.is_empty()), "{found:?}");
    let all = [(name.clone(), 0), (name.clone(), 1)];
    let offsets = |point: Point| of(&name).offsets(&all, point).unwrap().into_values().collect::<Vec<i64>>();
    assert_eq!(offsets(Point::Begin), [0, 0]);
    assert_eq!(offsets(Point::End), [3, 0]);
    assert_eq!(offsets(Point::Time(1500)), [1, 0]);
    assert_eq!(offsets(Point::Time(9999)), [3, 0]);
    assert!(of(&name).committed(&all).unwrap().is_empty());
    let near = format!("{name}x");
    check_error(
        &of(&near).topics().unwrap_err(),
        &["there is no topic", "option 'topic'", &format!("did you mean '{name}'?")],
    );
    let pattern = read(
        Flavor::Kafka,
        &[
            ("properties.bootstrap.servers", servers.as_str()),
            ("topic-pattern", &format!("{name}.?")),
            ("scan.startup.mode", "earliest-offset"),
        ],
    );
    assert_eq!(Cluster::new(&pattern.unwrap().0).unwrap().topics().unwrap(), found);
}
