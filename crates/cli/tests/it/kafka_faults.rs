//! What goes wrong between the Kafka sink and its servers while a job runs, or while it is down: nothing is lost or doubled,
//! nobody waits for a job that is gone, and what no repetition heals is told.

use crate::crash;
use crate::kafka_sink::{JOB, SETTINGS, Sinked, crash, sinked};
use crate::process::Running;
use crate::script::stdout_of;
use crate::windows::{Totals, Windows};
use millstream_testbed::kafka::{Broker, Record, wait_for};
use millstream_testbed::proxy::Proxy;
use std::os::unix::process::CommandExt;
use std::time::Duration;

const TWO: [&str; 2] = ["--parallelism", "2"];

/// It doesn't end by itself while a test looks at it, however slow the machine is.
const LONG: Windows = Windows { events: 400_000, ..JOB };

/// Kills the job when it has sent all of an epoch's records and not yet committed them; nobody starts it again.
const AMID_TRANSACTION: &str = "worker kafka::before_commit crash 5;supervisor start::before_read crash 2";

#[test]
fn a_job_that_is_killed_amid_a_transaction_and_stays_down_keeps_no_reader_waiting() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &LONG, 5_000, "");
    crash(&job, &TWO, AMID_TRANSACTION);
    let others: Vec<Record> =
        (0..3).map(|partition| Record::value(&job.topic, "of another writer").to_partition(partition)).collect();
    broker.produce(&others);
    let committed = |isolation: &str| broker.read_with(&job.topic, isolation);
    let of_others = |records: Vec<Record>| records.iter().filter(|r| r.key.is_none()).count();
    wait_for("the other writer's records", || (of_others(committed("read_committed")) == 3).then_some(()));
    let (seen, all) = (committed("read_committed").len(), committed("read_uncommitted").len());
    assert!(seen < all, "the job had records in an open transaction");
    // The other writer's aside, all is there once.
    job.at_full_speed(&LONG);
    assert!(job.script.run(&TWO).status.success());
    let rows = broker.read_committed(&job.topic).len();
    assert_eq!(rows, LONG.expected().len() + 3);
}

#[test]
fn a_worker_that_is_killed_amid_a_transaction_is_settled_by_the_next_attempt() {
    let Some(broker) = Broker::shared() else { return };
    // Longer than this test may take: nobody waits for the servers to end the transaction.
    let job = sinked(broker, &JOB, 10_000, ", 'properties.transaction.timeout.ms' = '600000'");
    crash::run_to_the_end(&job.script, &TWO, "worker kafka::before_commit crash 5", None).unwrap();
    job.check(broker, &JOB);
}

/// The job was held back, which is seen, and not started again; it is stopped, and its rest read at full speed.
fn check_patience(mut running: Running, job: &Sinked, broker: &Broker) {
    running.signal(libc::SIGTERM);
    assert!(running.wait().success(), "{}", running.stderr());
    let said = running.stderr();
    assert!(!said.contains("starts again"), "{said}");
    assert!(said.contains(" retries"), "{said}");
    job.finish(broker, &LONG, &TWO);
}

#[test]
fn too_few_replicas_and_throttling_hold_the_job_back_and_are_seen() {
    let Some(broker) = Broker::shared() else { return };
    for guarantee in ["exactly-once", "at-least-once"] {
        let job = sinked(broker, &LONG, 5_000, "");
        job.replace("'sink.marker-topic'", &format!("'properties.client.id' = '{}', 'sink.marker-topic'", job.topic));
        if guarantee == "at-least-once" {
            job.replace("'exactly-once'", "'at-least-once'");
            job.replace(&format!("'sink.marker-topic' = 'markers-{}',", job.topic), "");
        }
        broker.limit_client(&job.topic, Some(20_000));
        let mut running = Running::start(&job.script, &TWO);
        running.wait_for_checkpoints(&job.script, 5);
        broker.configure_topic(&job.topic, &[("min.insync.replicas", "2")]);
        running.wait_for_text("are made again");
        // Longer than a transaction may be open.
        std::thread::sleep(Duration::from_secs(12));
        broker.configure_topic(&job.topic, &[("min.insync.replicas", "1")]);
        broker.limit_client(&job.topic, None);
        running.wait_for_checkpoints(&job.script, 2);
        check_patience(running, &job, broker);
    }
}

#[test]
fn answers_to_commits_that_are_lost_are_found_in_the_markers() {
    let proxy = Proxy::start();
    let Some(broker) = Broker::start_behind(&proxy) else { return };
    let job = sinked(&broker, &LONG, 3_000, ", 'properties.transaction.timeout.ms' = '3000'");
    let mut running = Running::start(&job.script, &TWO);
    running.wait_for_checkpoints(&job.script, 3);
    proxy.lose_answers(true);
    // The client repeats the request by itself, for as long as the transaction has; then the sink looks.
    running.wait_for_text("are made again");
    assert!(proxy.lost() > 1);
    proxy.lose_answers(false);
    running.wait_for_checkpoints(&job.script, 2);
    check_patience(running, &job, &broker);
}

#[test]
fn a_topic_that_is_removed_while_it_is_written_ends_the_job_with_a_word_about_it() {
    let Some(broker) = Broker::shared() else { return };
    for guarantee in ["exactly-once", "at-least-once"] {
        let job = sinked(broker, &LONG, 3_000, "");
        if guarantee == "at-least-once" {
            job.replace("'exactly-once'", "'at-least-once'");
            job.replace(&format!("'sink.marker-topic' = 'markers-{}',", job.topic), "");
        }
        let mut running = Running::start(&job.script, &TWO);
        running.wait_for_checkpoints(&job.script, 4);
        broker.delete_topic(&job.topic);
        assert_eq!(running.wait().code(), Some(1), "{}", running.stderr());
        let said = running.stderr();
        let parts = [&format!("the topic '{}' was removed while the job writes to it", job.topic), "option 'topic'"];
        parts.iter().for_each(|part| assert!(said.contains(*part), "no '{part}' in: {said}"));
        assert!(!said.contains("starts again"), "{said}");
    }
}

#[test]
fn a_topic_that_is_made_anew_while_it_is_written_ends_the_job_with_a_word_about_it() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &LONG, 3_000, "");
    let mut running = Running::start(&job.script, &TWO);
    wait_for("rows", || (!job.seen(broker).is_empty()).then_some(()));
    broker.delete_topic(&job.topic);
    broker.create_topic(&job.topic, 3);
    assert_eq!(running.wait().code(), Some(1), "{}", running.stderr());
    let said = running.stderr();
    assert!(said.contains("was removed and made anew while the job writes to it"), "{said}");
    // The new topic is not gone on with as if what was committed were there.
    job.at_full_speed(&LONG);
    let refused = job.script.run(&TWO);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let parts = ["was removed and made anew while the job was down", &job.topic, "'sink.lost-marker' = 'skip'"];
    parts.iter().for_each(|part| assert!(said.contains(part), "no '{part}' in: {said}"));
    job.replace("'format' = 'json', 'key.format'", "'sink.lost-marker' = 'skip', 'format' = 'json', 'key.format'");
    stdout_of(&job.script.run(&TWO));
    let (rows, expected) = (job.seen(broker), LONG.expected());
    let seen: Totals = rows.iter().copied().collect();
    assert_eq!(seen.len(), rows.len(), "no row is there twice");
    assert!(!seen.is_empty() && seen.len() < expected.len(), "{} of {} rows", seen.len(), expected.len());
    assert!(seen.iter().all(|(key, value)| expected.get(key) == Some(value)));
}

#[test]
fn a_marker_topic_that_was_truncated_stops_the_job_until_a_person_has_chosen() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &LONG, 5_000, "");
    job.stop_after(5);
    let markers = format!("markers-{}", job.topic);
    // Records of a compacted topic can't be removed.
    broker.configure_topic(&markers, &[("cleanup.policy", "delete")]);
    broker.truncate(&markers);
    let refused = job.script.run(&TWO);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("markers are lost") && said.contains("'sink.lost-marker'"), "{said}");
    // All that is pending is there already; and a topic that forgets is not taken.
    job.replace("'format' = 'json', 'key.format'", "'sink.lost-marker' = 'skip', 'format' = 'json', 'key.format'");
    let refused = job.script.run(&TWO);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the marker topic doesn't keep its markers") && said.contains("'delete'"), "{said}");
    broker.configure_topic(&markers, &[("cleanup.policy", "compact")]);
    job.finish(broker, &LONG, &TWO);
}

#[test]
fn what_is_pending_is_written_again_where_a_person_has_chosen_so() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &LONG, 5_000, "");
    // Nothing of the pending epoch is in Kafka.
    crash(&job, &TWO, "worker worker::before_commit crash 5;supervisor start::before_read crash 2");
    broker.delete_topic(&format!("markers-{}", job.topic));
    job.replace("'format' = 'json', 'key.format'", "'sink.lost-marker' = 'replay', 'format' = 'json', 'key.format'");
    job.finish(broker, &LONG, &TWO);
}

#[test]
fn a_full_disk_of_the_log_ends_the_attempt_and_loses_nothing() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &JOB, 1_000_000, "");
    job.replace(SETTINGS, "SET 'execution.checkpointing.interval' = '1 min'; SET 'restart-strategy.type' = 'none';");
    let mut command = job.script.command("run", &TWO);
    // No file may be longer than this; the log of the only epoch is.
    // SAFETY: only calls that may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: 50_000, rlim_max: 50_000 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let parts = ["there is no room for the job's state", "write the Kafka sink's log"];
    parts.iter().for_each(|part| assert!(said.contains(part), "no '{part}' in: {said}"));
    assert!(job.seen(broker).is_empty(), "nothing of the epoch is there");
    job.finish(broker, &JOB, &TWO);
}
