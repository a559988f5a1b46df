//! Jobs that read topics of a real Kafka server: kills, rescaling, event time by partition, and what a person is told.
//!
//! `cargo xtask test` installs the server and names it in `MILLSTREAM_KAFKA`; without it these tests say that they did nothing.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use millstream_testbed::kafka::{Broker, Record, unique, wait_for};
use std::process::Output;

/// A table `t` of JSON messages in `topic`, of BIGINT `id`, TIMESTAMP(3) `ts` and what else `columns` says.
fn table(broker: &Broker, topic: &str, columns: &str, options: &str) -> String {
    format!(
        "CREATE TABLE t (id BIGINT, ts TIMESTAMP(3){columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}',
           'properties.bootstrap.servers' = '{}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json'{options});\n",
        broker.servers()
    )
}

fn row(topic: &str, id: i64, partition: i32) -> Record {
    let (minute, second) = (id / 60 % 60, id % 60);
    Record::value(topic, format!("{{\"id\": {id}, \"ts\": \"2024-01-01 00:{minute:02}:{second:02}\"}}"))
        .to_partition(partition)
}

fn topic(broker: &Broker, partitions: i32) -> String {
    let name = unique("job");
    broker.create_topic(&name, partitions);
    name
}

/// The ids in the files of folder `out` that a reader sees, ascending.
fn ids(script: &Script) -> Vec<i64> {
    let mut found: Vec<i64> = crate::behaviour::lines_of(&script.path("out"))
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap())
        .collect();
    found.sort_unstable();
    found
}

const OUT: &str = "CREATE TABLE o (id BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');
  INSERT INTO o SELECT id FROM t;";

#[test]
fn each_record_is_read_once_over_kills_and_other_parallelisms() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 3);
    let count = 6000;
    broker.produce(&(0..count).map(|id| row(&name, id, (id % 3) as i32)).collect::<Vec<_>>());
    let slow = ", 'scan.rate-limit.rows-per-second' = '1200'";
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';\n{}{OUT}",
        table(broker, &name, "", slow)
    ));
    for parallelism in ["2", "1", "3"] {
        let mut job = Running::start(&script, &["--parallelism", parallelism]);
        job.wait_for_checkpoints(&script, 4);
        job.signal(libc::SIGKILL);
        job.wait();
    }
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'1200'", "'1000000'")).unwrap();
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    wait_for("all rows", || {
        assert!(!job.has_ended(), "{}", job.stderr());
        (ids(&script).len() >= count as usize).then_some(())
    });
    job.signal(libc::SIGTERM);
    job.wait();
    assert_eq!(ids(&script), (0..count).collect::<Vec<_>>());
}

/// The number of windows of ten seconds that have fired.
fn windows(script: &Script) -> usize {
    crate::behaviour::lines_of(&script.path("out")).len()
}

const WINDOWS: &str = "CREATE TABLE o (s TIMESTAMP(3), n BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');
  INSERT INTO o SELECT window_start, COUNT(*)
  FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;";

#[test]
fn event_time_is_that_of_the_slowest_partition_unless_it_is_idle_at_its_end() {
    let Some(broker) = Broker::shared() else { return };
    for (idle, parallelism, expected) in [("", "1", 2), (", 'scan.watermark.idle-timeout' = '300 ms'", "2", 9)] {
        let name = topic(broker, 3);
        // Partition 2 has nothing; partition 1 ends at second 25, the other at second 95.
        let records = (0..96).map(|id| row(&name, id, 0)).chain((0..26).map(|id| row(&name, id, 1)));
        broker.produce(&records.collect::<Vec<_>>());
        let only_two = if idle.is_empty() { "2" } else { "3" };
        let script = Script::new(&format!(
            "SET 'execution.checkpointing.interval' = '100 ms';\n{}{WINDOWS}",
            table(broker, &name, ", WATERMARK FOR ts AS ts", idle)
        ));
        let mut job = Running::start(&script, &["--parallelism", parallelism]);
        if only_two == "2" {
            // The empty partition holds all back until it has a row, which the slowest then is.
            job.wait_for_checkpoints(&script, 8);
            assert_eq!(windows(&script), 0);
            broker.produce(&[row(&name, 90, 2)]);
        }
        wait_for("windows", || {
            assert!(!job.has_ended(), "{}", job.stderr());
            (windows(&script) >= expected).then_some(())
        });
        job.wait_for_checkpoints(&script, 5);
        assert_eq!(windows(&script), expected);
        job.signal(libc::SIGTERM);
        job.wait();
    }
}

#[test]
fn partitions_far_ahead_wait_for_the_others() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 2);
    let records = (0..3000).flat_map(|id| [row(&name, id, 0), row(&name, id, 1)]);
    broker.produce(&records.collect::<Vec<_>>());
    let aligned =
        ", 'scan.watermark.alignment.max-drift' = '30 s', 'scan.watermark.alignment.update-interval' = '50 ms',
        'scan.bounded.mode' = 'latest-offset'";
    let script = Script::new(&format!("{}{WINDOWS}", table(broker, &name, ", WATERMARK FOR ts AS ts", aligned)));
    let explained = stdout_of(&script.command("explain", &[]).output().unwrap());
    assert!(explained.contains("splits at most 30000 ms apart"), "{explained}");
    stdout_of(&script.run(&["--parallelism", "1"]));
    assert_eq!(windows(&script), 300);
}

#[test]
fn a_topic_of_versions_is_a_table() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    let record = |id: i64, value: Option<&str>| {
        let value = value.map(|v| format!("{{\"id\": {id}, \"v\": \"{v}\"}}"));
        Record::keyed(&name, &format!("{{\"id\": {id}}}"), value.as_deref())
    };
    broker.produce(&[
        record(1, Some("a")),
        record(2, Some("b")),
        record(1, Some("c")),
        record(3, Some("d")),
        record(2, None),
    ]);
    let script = Script::new(&format!(
        "CREATE TABLE t (id BIGINT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upsert-kafka',
           'topic' = '{name}', 'properties.bootstrap.servers' = '{}', 'key.format' = 'json', 'value.format' = 'json',
           'scan.bounded.mode' = 'latest-offset');
         SELECT COUNT(*) AS n, MAX(v) AS last FROM t;",
        broker.servers()
    ));
    let output = stdout_of(&script.run(&["--format", "jsonl"]));
    let last = output.lines().last().unwrap();
    assert!(last.contains("\"n\":2") && last.contains("\"last\":\"d\""), "{output}");
}

fn check_told(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "no '{part}' in: {stderr}"));
}

#[test]
fn mistakes_are_told_before_anything_is_read() {
    let script = |sql: String| Script::new(&format!("{sql}SELECT id FROM t;"));
    let elsewhere = "CREATE TABLE t (id BIGINT) WITH ('connector' = 'kafka', 'topic' = 'a', 'format' = 'json',
      'scan.startup.mode' = 'earliest-offset', 'properties.bootstrap.servers' = '127.0.0.1:1');\n";
    let output = script(elsewhere.into()).run(&["--set", "restart-strategy.type=none"]);
    check_told(&output, 1, &["no Kafka server answers at 127.0.0.1:1", "properties.bootstrap.servers"]);
    let unknown = elsewhere.replace("'format'", "'properties.fetch.min.byte' = '1', 'format'");
    check_told(&script(unknown).run(&[]), 2, &["no property 'fetch.min.byte'", "did you mean", "line 1"]);
    let group = elsewhere.replace("'scan.startup.mode' = 'earliest-offset',", "");
    check_told(&script(group).run(&[]), 2, &["needs 'properties.group.id'", "earliest-offset"]);
    let drift = elsewhere.replace("'format'", "'scan.watermark.alignment.group' = 'g', 'format'");
    check_told(&script(drift).run(&[]), 2, &["needs 'scan.watermark.alignment.max-drift'", "line 1"]);
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    broker.produce(&[Record::value(&name, "no json")]);
    let absent = table(broker, &format!("{name}x"), "", "");
    check_told(
        &script(absent).run(&[]),
        2,
        &["there is no topic", &format!("did you mean '{name}'?"), "option 'topic'"],
    );
    let broken = table(broker, &name, "", "");
    check_told(&script(broken).run(&[]), 1, &["can't be decoded", &format!("topic '{name}', partition 0, offset 0")]);
}
