//! The Kafka sink with several topics and with metadata columns: where rows go, what records bear, and which rows are refused.

use crate::kafka_sink::{JOB, sinked};
use crate::process::Running;
use crate::script::{Script, stdout_of};
use millstream_testbed::kafka::{Broker, Record, unique};
use std::collections::BTreeMap;

const TWO: [&str; 2] = ["--parallelism", "2"];

#[test]
fn rows_go_to_the_topics_that_they_name_exactly_once_over_a_kill() {
    let Some(broker) = Broker::shared() else { return };
    for by_pattern in [false, true] {
        let mut job = sinked(broker, &JOB, 5_000, ", 'sink.transaction.max-bytes' = '2 kb'");
        job.fan_out(broker, by_pattern);
        let mut running = Running::start(&job.script, &TWO);
        running.wait_for_checkpoints(&job.script, 6);
        running.signal(libc::SIGKILL);
        running.wait();
        job.finish(broker, &JOB, &TWO);
    }
}

/// A table `t` with these columns, in a topic, or in several if there are some.
fn table(broker: &Broker, columns: &str, options: &str) -> String {
    format!(
        "SET 'table.local-time-zone' = 'UTC';
         CREATE TABLE t ({columns}) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}',
           'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', {options});\n",
        broker.servers()
    )
}

#[test]
fn timestamps_and_headers_are_written_and_read() {
    let Some(broker) = Broker::shared() else { return };
    for guarantee in ["exactly-once", "at-least-once"] {
        let topic = unique("metadata");
        broker.create_topic(&topic, 1);
        // Of another type than the metadata, and in between.
        let columns = "ts TIMESTAMP(3) METADATA FROM 'timestamp', id BIGINT, big AS UPPER(name),
            headers MAP<STRING, BYTES> METADATA, o BIGINT METADATA FROM 'offset' VIRTUAL, name STRING";
        let options = format!("'topic' = '{topic}', 'sink.delivery-guarantee' = '{guarantee}'");
        let table = table(broker, columns, &options);
        let insert = "INSERT INTO t VALUES
            (TIMESTAMP '2024-01-02 03:04:05.678', 1, MAP['a', ENCODE('v', 'UTF-8'), 'b', CAST(NULL AS BYTES)], 'x'),
            (CAST(NULL AS TIMESTAMP(3)), 2, CAST(NULL AS MAP<STRING, BYTES>), 'y');
          INSERT INTO t (name, id) VALUES ('z', 3);";
        stdout_of(&Script::new(&format!("{table}EXECUTE STATEMENT SET BEGIN {insert} END;")).run(&TWO));
        let mut records = broker.read_committed(&topic);
        records.sort_by_key(Record::text);
        let texts: Vec<String> = records.iter().map(Record::text).collect();
        assert_eq!(texts, [1, 2, 3].map(|id| format!("{{\"id\":{id},\"name\":\"{}\"}}", ["x", "y", "z"][id - 1])));
        assert_eq!(records[0].timestamp_ms, Some(1_704_164_645_678));
        // A header without a value is left out, and a record without a time is of now.
        assert_eq!(records[0].headers, [("a".to_string(), b"v".to_vec())]);
        assert!(records[1..].iter().all(|r| r.headers.is_empty() && r.timestamp_ms > Some(1_704_164_645_678)));
        let select = "SELECT ts, big, DECODE(headers['a'], 'UTF-8') AS a FROM t WHERE id = 1;";
        let shown = stdout_of(&Script::new(&format!("{table}{select}")).run(&["--format", "csv"]));
        assert!(shown.ends_with("+I,2024-01-02 03:04:05.678,X,v\n"), "{shown}");
    }
}

#[test]
fn the_end_of_a_row_goes_to_the_topic_of_the_row() {
    let Some(broker) = Broker::shared() else { return };
    let topics = ["a", "b"].map(|name| unique(&format!("ends-{name}")));
    topics.iter().for_each(|topic| broker.create_topic(topic, 1));
    let script = Script::new(&format!(
        "CREATE TABLE counts (k STRING, n BIGINT, topic STRING METADATA, PRIMARY KEY (k) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = '{}', 'properties.bootstrap.servers' = '{}',
           'key.format' = 'raw', 'value.format' = 'json', 'sink.delivery-guarantee' = 'exactly-once');
         INSERT INTO counts SELECT k, n, CASE k WHEN 'a' THEN '{}' ELSE '{}' END FROM (
           SELECT k, n, ROW_NUMBER() OVER (PARTITION BY g ORDER BY n DESC) AS r
           FROM (VALUES ('g', 'a', 1), ('g', 'b', 2)) AS t (g, k, n)) WHERE r = 1;",
        topics.join(";"),
        broker.servers(),
        topics[0],
        topics[1]
    ));
    stdout_of(&script.run(&["--parallelism", "1"]));
    let mut table: BTreeMap<(usize, String), Option<String>> = BTreeMap::new();
    for (n, topic) in topics.iter().enumerate() {
        for record in broker.read_committed(topic) {
            let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
            table.insert((n, key), record.value.is_some().then(|| record.text()));
        }
    }
    table.retain(|_, value| value.is_some());
    assert_eq!(table, BTreeMap::from([((1, "b".to_string()), Some("{\"k\":\"b\",\"n\":2}".to_string()))]));
}

#[test]
fn rows_that_can_go_nowhere_end_the_job_and_are_told() {
    let Some(broker) = Broker::shared() else { return };
    let topics = ["a", "b"].map(|name| unique(&format!("refused-{name}")));
    topics.iter().for_each(|topic| broker.create_topic(topic, 1));
    let columns = "id BIGINT, `to` STRING METADATA FROM 'topic', ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'";
    let check = |guarantee: &str, topics_option: &str, values: &str, parts: &[&str]| {
        let options = format!("{topics_option}, 'sink.delivery-guarantee' = '{guarantee}'");
        let table = table(broker, columns, &options);
        let script = Script::new(&format!("{table}INSERT INTO t VALUES (1, {values});"));
        let output = script.run(&["--parallelism", "1"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "no '{part}' in: {said}"));
    };
    let list = format!("'topic' = '{}'", topics.join(";"));
    let pattern = "'topic-pattern' = 'refused-.*'";
    let now = "CURRENT_TIMESTAMP";
    for guarantee in ["exactly-once", "at-least-once"] {
        let none = format!("CAST(NULL AS STRING), {now}");
        check(guarantee, &list, &none, &["a row names no topic", "table 't', column 'to'"]);
        let other = format!("'{}x', {now}", topics[0]);
        check(guarantee, &list, &other, &["which isn't one of the table's", "topic=", "or change 'topic'"]);
        let parts = ["there is no topic", "table 't', column 'to'", "topics are never made by themselves"];
        check(guarantee, pattern, &other, &parts);
        let illegal = format!("'refused- and more', {now}");
        check(guarantee, pattern, &illegal, &["'refused- and more', which isn't one", "or change 'topic-pattern'"]);
        let early = format!("'{}', TO_TIMESTAMP_LTZ(0, 3)", topics[1]);
        check(guarantee, &list, &early, &["can't be of a time before 1970", "table 't', column 'ts'"]);
    }
    assert!(topics.iter().all(|topic| broker.read_with(topic, "read_uncommitted").is_empty()));
}
