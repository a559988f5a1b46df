//! Jobs that read topics of a real Kafka server: kills, rescaling, event time by partition, and what a person is told.
//!
//! `cargo xtask test` installs the server and names it in `MILLSTREAM_KAFKA`; without it these tests say that they did nothing.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use millstream_testbed::kafka::{Broker, Record, unique, wait_for};
use std::io::{Read, Write};
use std::process::{Command, Output};

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

/// How many rows of each of two origins are in the files of folder `out`.
fn by_origin(script: &Script) -> [usize; 2] {
    let mut counts = [0; 2];
    for line in crate::behaviour::lines_of(&script.path("out")) {
        let row: serde_json::Value = serde_json::from_str(&line).unwrap();
        counts[row["p"].as_u64().unwrap() as usize] += 1;
    }
    counts
}

const OUT_BY_ORIGIN: &str = "CREATE TABLE o (id BIGINT, p INT)
    WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');\n";
const DRIFT: &str =
    ", 'scan.watermark.alignment.max-drift' = '30 s', 'scan.watermark.alignment.update-interval' = '50 ms'";

/// Runs a job until there is enough of the two origins; how many rows of each there are then.
fn read_until(sql: &str, args: &[&str], is_enough: impl Fn([usize; 2]) -> bool) -> [usize; 2] {
    let script = Script::new(&format!("SET 'execution.checkpointing.interval' = '100 ms';\n{sql}"));
    let mut job = Running::start(&script, args);
    wait_for("rows", || {
        assert!(!job.has_ended(), "{}", job.stderr());
        Some(by_origin(&script)).filter(|counts| is_enough(*counts))
    })
}

/// Of two partitions that are read at the same pace the first has a second of event time in each row, the second one a
/// hundredth of that.
fn check_drift(args: &[&str]) {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 2);
    let slow = |n: i64| Record { partition: Some(1), ..row(&name, n / 100, 1) };
    broker.produce(&(0..3000).flat_map(|n| [row(&name, n, 0), slow(n)]).collect::<Vec<_>>());
    let columns = ", p INT METADATA FROM 'partition' VIRTUAL, WATERMARK FOR ts AS ts";
    let first = |options: &str| {
        let limited = format!("{options}, 'scan.rate-limit.rows-per-second' = '400'");
        let insert = "INSERT INTO o SELECT id, p FROM t;";
        let sql = format!("{}{OUT_BY_ORIGIN}{insert}", table(broker, &name, columns, &limited));
        read_until(&sql, args, |[_, second]| second >= 1500)[0]
    };
    let (alone, aligned) = std::thread::scope(|scope| {
        let alone = scope.spawn(|| first(""));
        (alone.join().unwrap(), first(DRIFT))
    });
    assert!(alone > 1000 && aligned < 1000, "{alone} rows without alignment, {aligned} with it");
}

const ONE: [&str; 2] = ["--parallelism", "1"];

#[test]
fn partitions_far_ahead_wait_for_the_others() {
    check_drift(&ONE);
}

/// Each process has one of the partitions.
#[test]
fn partitions_far_ahead_wait_for_those_in_other_processes() {
    check_drift(&["--parallelism", "2", "--processes", "2"]);
}

/// Two tables, one of which is read slowly.
#[test]
fn tables_of_a_group_wait_for_each_other() {
    let Some(broker) = Broker::shared() else { return };
    let (fast, slow) = (topic(broker, 1), topic(broker, 1));
    broker.produce(&(0..3500).flat_map(|id| [row(&fast, id, 0), row(&slow, id, 0)]).collect::<Vec<_>>());
    let sql = |options: &str| {
        let limited = |rows: u32| {
            let limit = format!("{options}, 'scan.rate-limit.rows-per-second' = '{rows}'");
            table(broker, if rows > 100 { &fast } else { &slow }, ", WATERMARK FOR ts AS ts", &limit)
        };
        let insert = "INSERT INTO o SELECT id, 0 FROM t UNION ALL SELECT id, 1 FROM u;";
        format!("{}{}{OUT_BY_ORIGIN}{insert}", limited(500), limited(20).replace("CREATE TABLE t ", "CREATE TABLE u "))
    };
    let (alone, group) = (sql(DRIFT), sql(&format!("{DRIFT}, 'scan.watermark.alignment.group' = 'g'")));
    let (alone, aligned) = std::thread::scope(|scope| {
        let alone = scope.spawn(|| read_until(&alone, &ONE, |[first, _]| first == 3500));
        let aligned = read_until(&group, &ONE, |[_, second]| second >= 150);
        (alone.join().unwrap(), aligned)
    });
    assert!(alone[1] < 3500 && aligned[0] < 3500, "{alone:?} rows without the group, {aligned:?} with it");
}

#[test]
fn limits_on_rows_and_bytes_are_changed_while_the_job_runs() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 1);
    broker.produce(&(0..3000).map(|id| row(&name, id, 0)).collect::<Vec<_>>());
    // At this rate it would take a quarter of an hour.
    let slow = ", 'scan.rate-limit.bytes-per-second' = '200 b'";
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';\n{}{OUT}",
        table(broker, &name, "", slow)
    ));
    let limit = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.current_dir(script.folder()).args(["limit", ".millstream/job"]).args(args).output().unwrap()
    };
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    job.wait_for_checkpoints(&script, 5);
    assert_eq!(stdout_of(&limit(&[])), "t: no limit on rows, 200 bytes/s\n");
    check_told(&limit(&["tt", "--rows-per-second", "1"]), 2, &["reads no table 'tt'", "did you mean 't'?"]);
    let zero = limit(&["t", "--rows-per-second", "0"]);
    assert!(String::from_utf8_lossy(&zero.stderr).contains("a number above 0, or 'none'"));
    assert!(ids(&script).len() < 500, "a record is let through at a time");
    let changed = limit(&["t", "--rows-per-second", "1", "--bytes-per-second", "1 mb"]);
    assert_eq!(stdout_of(&changed), "t: 1 rows/s, 1048576 bytes/s\n");
    job.wait_for_checkpoints(&script, 5);
    assert!(ids(&script).len() < 3000);
    stdout_of(&limit(&["t", "--rows-per-second", "none"]));
    wait_for("all rows", || (ids(&script).len() == 3000).then_some(()));
    job.signal(libc::SIGTERM);
    job.wait();
    check_told(&limit(&["t", "--rows-per-second", "5"]), 1, &["no job runs over this state directory"]);
    let elsewhere = script.command("limit", &[]).output().unwrap();
    check_told(&elsewhere, 2, &["this is no state directory of a job"]);
}

/// Rows that were written in a format are read again, with what is behind them in the topic.
fn check_format(broker: &Broker, format: &str, more: &[Vec<u8>], expected: &str) {
    let name = topic(broker, 1);
    let table = format!(
        "CREATE TABLE t (id BIGINT, name STRING) WITH ('connector' = 'kafka', 'topic' = '{name}',
           'properties.bootstrap.servers' = '{}', 'scan.startup.mode' = 'earliest-offset',
           'scan.bounded.mode' = 'latest-offset', {format});\n",
        broker.servers()
    );
    let script = Script::new(&format!("{table}INSERT INTO t VALUES (1, 'a'), (2, CAST(NULL AS STRING));"));
    stdout_of(&script.run(&["--parallelism", "1"]));
    broker.produce(&more.iter().map(|value| Record::value(&name, value.clone())).collect::<Vec<_>>());
    let script = Script::new(&format!("{table}SELECT id, name FROM t;"));
    let rows: Vec<String> = stdout_of(&script.run(&["--parallelism", "1", "--format", "csv"]))
        .lines()
        .skip(1)
        .map(str::to_string)
        .collect();
    assert_eq!(rows.join(" | "), expected, "{format}");
}

#[test]
fn messages_of_every_format_of_changes_go_through_topics() {
    let Some(broker) = Broker::shared() else { return };
    let row = |name: &str| format!("{{\"id\": 3, \"name\": \"{name}\"}}");
    let old = "{\"name\": \"c\"}";
    let (c, d) = (row("c"), row("d"));
    let canal = |kind: &str, data: &str, old: &str| {
        format!("{{\"type\": \"{kind}\", \"data\": [{data}], \"old\": {old}}}").into_bytes()
    };
    let maxwell = |kind: &str, data: &str, old: &str| {
        format!("{{\"type\": \"{kind}\", \"data\": {data}, \"old\": {old}}}").into_bytes()
    };
    let whole = |kind: &str, key: &str, before: &str, after: &str| {
        format!("{{\"{key}\": \"{kind}\", \"before\": {before}, \"after\": {after}}}").into_bytes()
    };
    let null = "null";
    let cases = [
        (
            "canal-json",
            [canal("INSERT", &c, null), canal("UPDATE", &d, &format!("[{old}]")), canal("DELETE", &d, null)],
        ),
        ("maxwell-json", [maxwell("insert", &c, null), maxwell("update", &d, old), maxwell("delete", &d, null)]),
        ("debezium-json", [whole("c", "op", null, &c), whole("u", "op", &c, &d), whole("d", "op", &d, null)]),
        ("ogg-json", [whole("I", "op_type", null, &c), whole("U", "op_type", &c, &d), whole("D", "op_type", &d, null)]),
    ];
    for (format, more) in cases {
        let expected = "+I,1,a | +I,2, | +I,3,c | -U,3,c | +U,3,d | -D,3,d";
        check_format(broker, &format!("'format' = '{format}'"), &more, expected);
    }
}

#[test]
fn messages_of_avro_go_through_topics_also_by_a_registry() {
    let Some(broker) = Broker::shared() else { return };
    // Both fields are of a union with null, which is its first branch.
    let row = vec![2, 6, 2, 2, b'c'];
    check_format(broker, "'format' = 'avro'", &[row.clone(), vec![2, 8, 0]], "+I,1,a | +I,2, | +I,3,c | +I,4,");
    let registry = registry();
    let format = format!(
        "'format' = 'avro-confluent', 'avro-confluent.url' = 'http://{registry}', 'avro-confluent.subject' = 's'"
    );
    let with_header = [&[0, 0, 0, 0, 7][..], &row].concat();
    check_format(broker, &format, &[with_header], "+I,1,a | +I,2, | +I,3,c");
}

/// A registry that has one schema, number 7.
fn registry() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let union = |kind: &str| format!("[\"null\", \"{kind}\"]");
        let field = |name: &str, kind: &str| format!("{{\"name\": \"{name}\", \"type\": {}}}", union(kind));
        let fields = format!("{}, {}", field("id", "long"), field("name", "string"));
        let schema = format!("{{\"type\": \"record\", \"name\": \"record\", \"fields\": [{fields}]}}");
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            let is_whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).to_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length = head.split("content-length: ").nth(1).and_then(|l| l.lines().next()?.parse().ok());
                body.len() >= length.unwrap_or(0)
            };
            while !is_whole(&request) {
                match stream.read(&mut buffer) {
                    Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let body = match request.starts_with(b"GET /schemas/ids/7") {
                true => serde_json::json!({ "schema": schema }).to_string(),
                false => "{\"id\": 7}".to_string(),
            };
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
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

#[test]
fn a_topic_that_was_made_anew_while_the_job_was_down_is_told_and_read_only_as_told() {
    let Some(broker) = Broker::shared() else { return };
    let name = topic(broker, 2);
    broker.produce(&(0..10).map(|id| row(&name, id, (id % 2) as i32)).collect::<Vec<_>>());
    let sql = |options: &str| {
        format!("SET 'execution.checkpointing.interval' = '100 ms';\n{}{OUT}", table(broker, &name, "", options))
    };
    let script = Script::new(&sql(""));
    let args = ["--parallelism", "2"];
    let stop_at = |count: usize| {
        let mut job = Running::start(&script, &args);
        wait_for("all rows", || {
            assert!(!job.has_ended(), "{}", job.stderr());
            (ids(&script).len() == count).then_some(())
        });
        job.signal(libc::SIGTERM);
        job.wait();
    };
    stop_at(10);
    let anew =
        ["was removed and made anew", "those of the topic before", &format!("topic '{name}', partition"), "hint"];
    for (partitions, ids) in [(2, 20..40), (1, 50..60)] {
        broker.delete_topic(&name);
        broker.create_topic(&name, partitions);
        let row = |id: i64| row(&name, id, (id % i64::from(partitions)) as i32);
        broker.produce(&ids.map(row).collect::<Vec<_>>());
        let output = script.run(&args);
        check_told(&output, 1, &anew);
        check_told(&output, 1, &["'scan.on-lost-offsets' = 'earliest'", "'--from none'"]);
    }
    assert_eq!(ids(&script), (0..10).collect::<Vec<_>>());
    let change = |sql: String| {
        let sql = sql.replace("${DIR}", script.folder().to_str().unwrap());
        std::fs::write(script.path("job.sql"), sql).unwrap();
    };
    change(sql(", 'scan.on-lost-offsets' = 'earliest'"));
    stop_at(20);
    assert_eq!(ids(&script), (0..10).chain(50..60).collect::<Vec<_>>());
    // The partition that is no more is forgotten.
    change(sql(""));
    let mut job = Running::start(&script, &args);
    job.wait_for_checkpoints(&script, 3);
    job.signal(libc::SIGTERM);
    assert!(job.wait().success(), "{}", job.stderr());
}

#[test]
fn a_topic_that_is_made_anew_while_it_is_read_gives_none_of_its_records_as_if_they_followed() {
    let Some(broker) = Broker::shared() else { return };
    for choice in ["fail", "earliest"] {
        let name = topic(broker, 1);
        broker.produce(&(0..3).map(|id| row(&name, id, 0)).collect::<Vec<_>>());
        // Nobody looks by itself.
        let options =
            format!(", 'scan.topic-partition-discovery.interval' = '0 s', 'scan.on-lost-offsets' = '{choice}'");
        let script = Script::new(&format!(
            "SET 'execution.checkpointing.interval' = '100 ms';\n{}{OUT}",
            table(broker, &name, "", &options)
        ));
        let mut job = Running::start(&script, &["--parallelism", "1"]);
        wait_for("three rows", || (ids(&script).len() == 3).then_some(()));
        // So that it doesn't see that there is no topic in between.
        let workers = job.workers();
        job.signal(libc::SIGSTOP);
        workers.iter().for_each(|pid| crate::process::send(*pid, libc::SIGSTOP));
        broker.delete_topic(&name);
        broker.create_topic(&name, 1);
        // More than were read of the topic before.
        broker.produce(&(10..20).map(|id| row(&name, id, 0)).collect::<Vec<_>>());
        workers.iter().for_each(|pid| crate::process::send(*pid, libc::SIGCONT));
        job.signal(libc::SIGCONT);
        if choice == "fail" {
            assert_eq!(job.wait().code(), Some(1), "{}", job.stderr());
            let said = job.stderr();
            assert!(said.contains("was removed and made anew") && said.contains(&name), "{said}");
            assert_eq!(ids(&script), [0, 1, 2]);
        } else {
            wait_for("all rows", || {
                assert!(!job.has_ended(), "{}", job.stderr());
                (ids(&script).len() == 13).then_some(())
            });
            assert_eq!(ids(&script), (0..3).chain(10..20).collect::<Vec<_>>());
        }
    }
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
