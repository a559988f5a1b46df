//! The Kafka sink against a real server: what a plain reader of committed records sees after whatever happens.

use crate::crash;
use crate::process::Running;
use crate::script::{Script, stdout_of};
use crate::windows::{Totals, Windows};
use millstream_testbed::kafka::{Broker, Record, unique};
use std::collections::BTreeMap;
use std::time::Duration;

/// Short enough for a test, long enough for many checkpoints at the rates below.
pub const JOB: Windows = Windows { events: 30_000, step_ms: 5, window_s: 1, partitions: 3 };
pub const SETTINGS: &str = "SET 'execution.checkpointing.interval' = '50 ms';
    SET 'restart-strategy.exponential-delay.max-backoff' = '50 ms';";
const TWO_PROCESSES: [&str; 4] = ["--processes", "2", "--parallelism", "2"];

/// A job that writes windows to a topic of its own.
pub struct Sinked {
    pub script: Script,
    pub topic: String,
    /// Others that rows go to.
    pub others: Vec<String>,
}

/// `options` are more of the sink's.
pub fn sinked(broker: &Broker, job: &Windows, rows_per_second: i64, options: &str) -> Sinked {
    let topic = unique("totals");
    broker.create_topic(&topic, 3);
    let script = job.script(rows_per_second, SETTINGS);
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    let (before, rest) = text.split_once("CREATE TABLE totals").unwrap();
    let (_, after) = rest.split_once(';').unwrap();
    let table = format!(
        "CREATE TABLE totals (ws TIMESTAMP(3), k INT, c BIGINT, s BIGINT, part INT) WITH ('connector' = 'kafka',
          'topic' = '{topic}', 'properties.bootstrap.servers' = '{}',
          'properties.reconnect.backoff.max.ms' = '200', 'sink.marker-topic' = 'markers-{topic}',
          'format' = 'json', 'key.format' = 'json', 'key.fields' = 'k',
          'sink.delivery-guarantee' = 'exactly-once'{options});",
        broker.servers()
    );
    std::fs::write(script.path("job.sql"), format!("{before}{table}{after}")).unwrap();
    Sinked { script, topic, others: Vec::new() }
}

impl Sinked {
    /// Changes the script.
    pub fn replace(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.script.path("job.sql")).unwrap();
        assert!(text.contains(from), "{from} is in the script");
        std::fs::write(self.script.path("job.sql"), text.replace(from, to)).unwrap();
    }

    /// Has the job read its events from a topic, whose name this gives, as long as that is now.
    pub fn read_from_topic(&self, broker: &Broker) -> String {
        let topic = unique("events");
        broker.create_topic(&topic, 3);
        let events = std::fs::read_to_string(self.script.path("events.json")).unwrap();
        let record = |(n, line): (usize, &str)| Record::value(&topic, line).to_partition(n as i32 % 3);
        broker.produce(&events.lines().enumerate().map(record).collect::<Vec<_>>());
        let of_file = format!("'filesystem', 'path' = '{}/events.json'", self.script.folder().display());
        let of_topic = format!(
            "'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'scan.startup.mode' = 'earliest-offset',
             'scan.bounded.mode' = 'latest-offset', 'properties.reconnect.backoff.max.ms' = '200'",
            broker.servers()
        );
        self.replace(&of_file, &of_topic);
        topic
    }

    /// Has rows go to three topics, by what is left of their keys.
    pub fn fan_out(&mut self, broker: &Broker, by_pattern: bool) {
        let first = self.topic.clone();
        self.others = vec![format!("{first}-1"), format!("{first}-2")];
        self.others.iter().for_each(|topic| broker.create_topic(topic, 2));
        let (option, partitioner) = match by_pattern {
            false => (format!("'topic' = '{first};{}'", self.others.join(";")), ""),
            true => (format!("'topic-pattern' = '{first}(-.)?'"), "'sink.partitioner' = 'fixed', "),
        };
        self.replace(&format!("'topic' = '{first}'"), &format!("{partitioner}{option}"));
        self.replace("part INT) WITH", "part INT, `to` STRING METADATA FROM 'topic') WITH");
        let to = format!("CASE MOD(k, 3) WHEN 0 THEN '{first}' WHEN 1 THEN '{first}-1' ELSE '{first}-2' END");
        self.replace("MOD(k, 3)\n", &format!("MOD(k, 3), {to}\n"));
    }

    /// What a reader of committed records sees: window and key, count and sum.
    pub fn seen(&self, broker: &Broker) -> Vec<((i64, i64), (i64, i64))> {
        let mut rows = Vec::new();
        for (n, topic) in (0..).zip([&self.topic].into_iter().chain(&self.others)) {
            let of_topic: Vec<_> = broker.read_committed(topic).iter().map(row).collect();
            let is_own = self.others.is_empty() || of_topic.iter().all(|((_, k), _)| k % 3 == n);
            assert!(is_own, "{topic} has rows of its own only");
            rows.extend(of_topic);
        }
        rows
    }

    /// That every row is there once, and nothing else.
    pub fn check(&self, broker: &Broker, job: &Windows) {
        self.compare(broker, job).unwrap();
    }

    fn compare(&self, broker: &Broker, job: &Windows) -> Result<(), String> {
        let rows = self.seen(broker);
        let mut seen = Totals::new();
        for (key, value) in &rows {
            if seen.insert(*key, *value).is_some() {
                return Err(format!("window and key {key:?} came twice, among {} rows", rows.len()));
            }
        }
        let expected = job.expected();
        let missing = expected.iter().find(|(k, v)| seen.get(*k) != Some(v));
        let extra = seen.iter().find(|(k, v)| expected.get(*k) != Some(v));
        match (missing, extra) {
            (None, None) => Ok(()),
            _ => Err(format!("missing: {missing:?}, too much: {extra:?}")),
        }
    }

    /// Runs the job until it has stored so many checkpoints, and stops it in order: nothing is pending but what is committed.
    pub fn stop_after(&self, checkpoints: u64) {
        let mut running = Running::start(&self.script, &["--parallelism", "2"]);
        running.wait_for_checkpoints(&self.script, checkpoints);
        running.signal(libc::SIGTERM);
        assert!(running.wait().success(), "{}", running.stderr());
    }

    pub fn at_full_speed(&self, job: &Windows) {
        job.at_full_speed(&self.script);
    }

    pub fn finish(&self, broker: &Broker, job: &Windows, args: &[&str]) {
        self.at_full_speed(job);
        stdout_of(&self.script.run(args));
        self.check(broker, job);
    }
}

/// Window and key, count and sum.
pub fn row(record: &Record) -> ((i64, i64), (i64, i64)) {
    let row: serde_json::Value = serde_json::from_str(&record.text()).unwrap();
    let start = row["ws"].as_str().unwrap();
    let part = |range: std::ops::Range<usize>| start[range].parse::<i64>().unwrap();
    let seconds = part(11..13) * 3600 + part(14..16) * 60 + part(17..19);
    let number = |name: &str| row[name].as_i64().unwrap();
    let key = format!("{{\"k\":{}}}", number("k"));
    assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
    ((seconds, number("k")), (number("c"), number("s")))
}

#[test]
fn the_output_equals_the_batch_computation_also_in_transactions_of_a_few_records() {
    let Some(broker) = Broker::shared() else { return };
    for options in ["", ", 'sink.transaction.max-bytes' = '300 b'"] {
        let job = sinked(broker, &JOB, 1_000_000, options);
        job.finish(broker, &JOB, &["--parallelism", "2"]);
    }
}

/// Kills the job, its workers, and, if `with_broker`, the server, at random moments.
fn check_kills(kills: u64, with_broker: bool, args: &[&str]) {
    let Some(mut broker) = Broker::start() else { return };
    let windows = Windows { events: 8_000 + kills as i64 * 1_500, ..JOB };
    let job = sinked(&broker, &windows, 1_500, ", 'sink.transaction.max-bytes' = '2 kb'");
    job.read_from_topic(&broker);
    let mut random = 0x2545_F491_4F6C_DD1D_u64 ^ kills;
    let mut running = Running::start(&job.script, args);
    // A job that has none starts anew, and says so if the server isn't there.
    running.wait_for_checkpoints(&job.script, 1);
    for n in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(100 + (random >> 33) % 700));
        assert!(!running.has_ended(), "the job ended after {n} kills: {}", running.stderr());
        match n % 5 {
            4 if with_broker => {
                broker.kill();
                broker.restart();
            }
            1 | 3 => drop(running.signal_worker((random >> 20) as usize, libc::SIGKILL)),
            _ => {
                running.signal(libc::SIGKILL);
                running.wait();
                running = Running::start(&job.script, args);
            }
        }
    }
    running.signal(libc::SIGKILL);
    running.wait();
    job.finish(&broker, &windows, args);
}

#[test]
fn a_hundred_kills_of_job_workers_and_server_lose_and_double_nothing() {
    check_kills(100, true, &TWO_PROCESSES);
}

/// The longer run: `cargo test --workspace --test it -- --ignored five_hundred_kills`
#[test]
#[ignore = "takes half an hour"]
fn five_hundred_kills_of_job_workers_and_server_lose_and_double_nothing() {
    check_kills(500, true, &TWO_PROCESSES);
}

#[test]
fn a_killed_job_goes_on_at_another_parallelism() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &JOB, 5_000, "");
    for args in [&["--parallelism", "2"][..], &["--parallelism", "1"], &["--parallelism", "3"]] {
        let mut running = Running::start(&job.script, args);
        running.wait_for_checkpoints(&job.script, 5);
        running.signal(libc::SIGKILL);
        running.wait();
    }
    job.finish(broker, &JOB, &["--parallelism", "1"]);
}

/// Runs the job with plans for fail points until it is killed by one in the supervisor, or does something else.
pub fn crash(job: &Sinked, args: &[&str], plans: &str) {
    let mut running = Running::spawn(&job.script, crash::command(&job.script, args, plans));
    let status = running.wait();
    assert!(!status.success(), "the job ended: {}", running.stderr());
}

#[test]
fn an_epoch_is_committed_after_the_servers_have_forgotten_the_transactional_id() {
    let settings = [
        ("transactional.id.expiration.ms", "1500"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "300"),
        ("transaction.max.timeout.ms", "5000"),
        ("producer.id.expiration.ms", "1500"),
    ];
    let Some(broker) = Broker::start_with(&settings) else { return };
    crash::binary();
    // Before anything of the epoch is in Kafka, amid the transaction, and before the answer to its commit is there.
    for point in ["worker::before_commit", "kafka::records_sent", "kafka::after_commit"] {
        let job = sinked(&broker, &JOB, 5_000, "");
        let plans = format!("worker {point} crash 12;supervisor start::before_read crash 2");
        crash(&job, &["--parallelism", "2"], &plans);
        std::thread::sleep(Duration::from_secs(8));
        // No reader waits for a transaction that is still open.
        let seen = job.seen(&broker).len();
        let ends = broker.read_with(&job.topic, "read_uncommitted").len();
        assert!(seen <= ends);
        job.finish(&broker, &JOB, &["--parallelism", "2"]);
    }
}

#[test]
fn a_server_that_is_away_holds_the_job_back_and_does_not_end_its_attempt() {
    let Some(mut broker) = Broker::start() else { return };
    let job = sinked(&broker, &JOB, 1_000, "");
    let mut running = Running::start(&job.script, &["--parallelism", "2"]);
    running.wait_for_checkpoints(&job.script, 3);
    broker.kill();
    std::thread::sleep(Duration::from_secs(2));
    broker.restart();
    running.wait_for_checkpoints(&job.script, 3);
    broker.stop();
    broker.restart();
    assert!(running.wait().success(), "{}", running.stderr());
    assert!(!running.stderr().contains("restart"), "{}", running.stderr());
    job.check(&broker, &JOB);
}

#[test]
fn markers_that_are_gone_stop_the_job_until_a_person_has_chosen() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &JOB, 5_000, "");
    job.stop_after(10);
    broker.delete_topic(&format!("markers-{}", job.topic));
    let refused = job.script.run(&["--parallelism", "2"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("markers are lost") && said.contains("'sink.lost-marker'"), "{said}");
    job.replace("'format' = 'json', 'key.format'", "'sink.lost-marker' = 'skip', 'format' = 'json', 'key.format'");
    job.finish(broker, &JOB, &["--parallelism", "2"]);
}

#[test]
fn at_least_once_loses_nothing() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &JOB, 5_000, "");
    job.replace("'sink.delivery-guarantee' = 'exactly-once'", "'sink.delivery-guarantee' = 'at-least-once'");
    job.replace(&format!("'sink.marker-topic' = 'markers-{}',", job.topic), "");
    for _ in 0..3 {
        let mut running = Running::start(&job.script, &["--parallelism", "2"]);
        running.wait_for_checkpoints(&job.script, 5);
        running.signal(libc::SIGKILL);
        running.wait();
    }
    job.at_full_speed(&JOB);
    stdout_of(&job.script.run(&["--parallelism", "2"]));
    let seen: Totals = job.seen(broker).into_iter().collect();
    assert_eq!(seen, JOB.expected());
}

#[test]
fn an_updating_result_is_written_by_key_with_tombstones() {
    let Some(broker) = Broker::shared() else { return };
    let topic = unique("counts");
    broker.create_topic(&topic, 2);
    let script = Script::new(&format!(
        "CREATE TABLE counts (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert-kafka',
           'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'key.format' = 'raw', 'value.format' = 'json',
           'sink.delivery-guarantee' = 'exactly-once');
         INSERT INTO counts SELECT k, n FROM (
           SELECT k, n, ROW_NUMBER() OVER (PARTITION BY g ORDER BY n DESC) AS r
           FROM (VALUES ('g', 'a', 1), ('g', 'b', 2)) AS t (g, k, n)) WHERE r = 1;",
        broker.servers()
    ));
    stdout_of(&script.run(&["--parallelism", "1"]));
    let mut table: BTreeMap<String, Option<String>> = BTreeMap::new();
    for record in broker.read_committed(&topic) {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        table.insert(key, record.value.is_some().then(|| record.text()));
    }
    table.retain(|_, value| value.is_some());
    assert_eq!(table, BTreeMap::from([("b".to_string(), Some("{\"k\":\"b\",\"n\":2}".to_string()))]));
}

/// Where the roles are crashed, and at which hits.
pub const FAIL_POINTS: &[(&str, &str, Option<&str>, &str)] = &[
    ("worker", "kafka::before_log_put", None, "2,9"),
    ("worker", "kafka::after_log_put", None, "2,9"),
    ("worker", "kafka::sealed", None, "3,9"),
    ("worker", "kafka::taken", None, "1,3"),
    ("worker", "kafka::begun", None, "2,9"),
    ("worker", "kafka::records_sent", None, "2,9"),
    ("worker", "kafka::before_commit", None, "2,9"),
    ("worker", "kafka::after_commit", None, "2,9"),
    ("supervisor", "kafka::all_taken", None, "1,2"),
    ("supervisor", "kafka::claimed", None, "1,4"),
    ("supervisor", "kafka::replayed", Some("worker worker::before_commit crash 12"), "1"),
    ("supervisor", "kafka::begun", Some("worker worker::before_commit crash 12"), "1,3,5"),
    ("supervisor", "kafka::records_sent", Some("worker worker::before_commit crash 12"), "1,3,5"),
    ("supervisor", "kafka::before_commit", Some("worker worker::before_commit crash 12"), "1,3,5"),
    ("supervisor", "kafka::after_commit", Some("worker worker::before_commit crash 12"), "1,3,5"),
];

#[test]
fn crashes_at_every_step_lose_and_double_nothing() {
    let Some(broker) = Broker::shared() else { return };
    crash::check_each(FAIL_POINTS.iter().enumerate(), |(n, (role, point, before, hits))| {
        let before = before.map_or(String::new(), |before| format!("{before};"));
        let plans = format!("{before}{role} {point} crash {hits}");
        let mut job = sinked(broker, &JOB, 10_000, "");
        // Into one topic, into several that are named, and into those of a pattern, in turn.
        if n % 3 > 0 {
            job.fan_out(broker, n % 3 == 2);
        }
        crash::run_to_the_end(&job.script, &["--parallelism", "2"], &plans, None)
            .map_err(|e| format!("{plans}: {e}"))?;
        job.compare(broker, &JOB).map_err(|e| format!("{plans}: {e}"))?;
        // How many epochs there are hangs on the machine: the first crash must have been, those after it may not.
        let first = hits.split(',').next().and_then(|n| n.parse().ok()).unwrap();
        match crash::hits(&job.script, role, point) {
            counted if counted < first => Err(format!("{plans}: hit {counted} times only")),
            _ => Ok(()),
        }
    });
}

#[test]
fn a_crash_after_the_flush_loses_nothing_at_least_once() {
    let Some(broker) = Broker::shared() else { return };
    crash::binary();
    let job = sinked(broker, &JOB, 20_000, "");
    job.replace("'sink.delivery-guarantee' = 'exactly-once'", "'sink.delivery-guarantee' = 'at-least-once'");
    job.replace(&format!("'sink.marker-topic' = 'markers-{}',", job.topic), "");
    let plans = format!("worker {FLUSHED} crash 2,9");
    crash::run_to_the_end(&job.script, &["--parallelism", "2"], &plans, None).unwrap();
    let seen: Totals = job.seen(broker).into_iter().collect();
    assert_eq!(seen, JOB.expected());
}

/// The step of a sink that is at-least-once.
pub const FLUSHED: &str = "kafka::flushed";
