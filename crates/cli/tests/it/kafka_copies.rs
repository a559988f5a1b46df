//! Copies of a job that writes to Kafka, and older checkpoints of it: whose output counts.

use crate::crash;
use crate::kafka_sink::{JOB, Sinked, crash, row, sinked};
use crate::process::Running;
use crate::script::stdout_of;
use crate::take_over::copy;
use crate::windows::Totals;
use millstream_testbed::kafka::{Broker, unique};
use std::collections::BTreeMap;
use std::time::Duration;

const TWO: [&str; 2] = ["--parallelism", "2"];
const OF_COPY: [&str; 4] = ["--parallelism", "2", "--state-dir", "copy"];

#[test]
fn a_zombie_that_wakes_up_writes_nothing_and_says_why() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &JOB, 3_000, "");
    let mut zombie = Running::start(&job.script, &["--parallelism", "2"]);
    zombie.wait_for_checkpoints(&job.script, 5);
    let workers = zombie.workers();
    // Frozen, all of it; its state directory goes on under another name.
    zombie.signal(libc::SIGSTOP);
    workers.iter().for_each(|pid| crate::process::send(*pid, libc::SIGSTOP));
    copy(&job.script.path(".millstream/job"), &job.script.path("copy"));
    let args = ["--parallelism", "2", "--state-dir", "copy"];
    let mut other = Running::start(&job.script, &args);
    std::thread::sleep(Duration::from_secs(3));
    workers.iter().for_each(|pid| crate::process::send(*pid, libc::SIGCONT));
    zombie.signal(libc::SIGCONT);
    assert!(!zombie.wait().success());
    let said = zombie.stderr();
    assert!(said.contains("another run of this job has taken over"), "{said}");
    other.signal(libc::SIGTERM);
    other.wait();
    job.finish(broker, &JOB, &args);
}

#[test]
fn a_job_that_goes_back_to_an_older_checkpoint_writes_what_follows_again_and_ends() {
    let Some(broker) = Broker::shared() else { return };
    let job = sinked(broker, &JOB, 5_000, "");
    job.replace(
        "SET 'execution.checkpointing.interval' = '50 ms'",
        "SET 'state.checkpoints.num-retained' = '50';\nSET 'execution.checkpointing.interval' = '50 ms'",
    );
    let mut running = Running::start(&job.script, &["--parallelism", "2"]);
    running.wait_for_checkpoints(&job.script, 20);
    running.signal(libc::SIGKILL);
    running.wait();
    let epochs = crate::process::epochs(&job.script);
    let older = format!(".millstream/job/checkpoints/manifest-{}.json", epochs[epochs.len() - 6]);
    job.at_full_speed(&JOB);
    stdout_of(&job.script.run(&["--parallelism", "2", "--from", &older]));
    let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, value) in job.seen(broker) {
        seen.entry(key).or_default().push(value);
    }
    let expected = JOB.expected();
    assert!(expected.iter().all(|(k, v)| seen.get(k).is_some_and(|all| all.iter().all(|s| s == v))));
    assert_eq!(seen.len(), expected.len());
    assert!(seen.values().all(|all| all.len() <= 2), "an epoch that was committed is not replayed");
}

#[test]
fn a_fork_leaves_what_is_pending_to_the_job_that_it_was_taken_from() {
    let Some(broker) = Broker::shared() else { return };
    crash::binary();
    let job = sinked(broker, &JOB, 5_000, "");
    let plans = "worker worker::before_commit crash 20;supervisor start::before_read crash 2";
    crash(&job, &["--parallelism", "2"], plans);
    // The fork writes to a topic of its own.
    let own = job.topic.clone();
    let forked = format!("{own}-fork");
    broker.create_topic(&forked, 3);
    job.replace(&format!("'topic' = '{own}'"), &format!("'topic' = '{forked}'"));
    job.at_full_speed(&JOB);
    stdout_of(&job.script.run(&["--parallelism", "2", "--state-dir", "fork", "--from", ".millstream/job"]));
    let of_fork: Totals = broker.read_committed(&forked).iter().map(row).collect();
    job.replace(&format!("'topic' = '{forked}'"), &format!("'topic' = '{own}'"));
    let before: Totals = job.seen(broker).into_iter().collect();
    job.finish(broker, &JOB, &["--parallelism", "2"]);
    assert!(of_fork.keys().all(|key| !before.contains_key(key)), "the fork goes on behind the checkpoint");
}

/// A job that was stopped and copied, and then went on until it died with an epoch that is durable and not in Kafka.
fn copied(broker: &Broker) -> Sinked {
    let job = sinked(broker, &JOB, 3_000, "");
    job.stop_after(5);
    copy(&job.script.path(".millstream/job"), &job.script.path("copy"));
    crash(&job, &TWO, "worker worker::before_commit crash 30;supervisor start::before_read crash 2");
    job.at_full_speed(&JOB);
    job
}

fn counts(job: &Sinked, broker: &Broker) -> BTreeMap<((i64, i64), (i64, i64)), i64> {
    let mut counts = BTreeMap::new();
    job.seen(broker).into_iter().for_each(|row| *counts.entry(row).or_default() += 1);
    counts
}

#[test]
fn what_is_pending_is_not_taken_for_committed_because_a_copy_of_the_job_went_on() {
    let Some(broker) = Broker::shared() else { return };
    for choice in ["skip", "replay"] {
        let job = copied(broker);
        let of_own = counts(&job, broker);
        stdout_of(&job.script.run(&OF_COPY));
        let with_copy = counts(&job, broker);
        let refused = job.script.run(&TWO);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("another run of this job has written since"), "{said}");
        assert!(said.contains("is pending, attempt ") && said.contains("'sink.lost-marker' = 'skip'"), "{said}");
        assert_eq!(counts(&job, broker), with_copy, "nothing was written");
        let option = format!("'sink.lost-marker' = '{choice}', 'format' = 'json', 'key.format'");
        job.replace("'format' = 'json', 'key.format'", &option);
        stdout_of(&job.script.run(&TWO));
        // What the job wrote before the copy ran, and after.
        let mut history = counts(&job, broker);
        for (row, count) in with_copy {
            *history.get_mut(&row).unwrap() -= count - of_own.get(&row).copied().unwrap_or(0);
        }
        history.retain(|_, count| *count != 0);
        assert!(history.values().all(|count| *count == 1), "{history:?}");
        let seen: Totals = history.into_keys().collect();
        let expected = JOB.expected();
        assert!(seen.iter().all(|(key, value)| expected.get(key) == Some(value)));
        assert_eq!(seen.len() == expected.len(), choice == "replay", "{} of {}", seen.len(), expected.len());
    }
}

#[test]
fn an_older_copy_outbids_what_its_sinks_have_seen_all_with_the_same_attempt() {
    let Some(broker) = Broker::shared() else { return };
    crash::binary();
    let job = sinked(broker, &JOB, 3_000, "");
    let raw = unique("raw");
    broker.create_topic(&raw, 1);
    let text = std::fs::read_to_string(job.script.path("job.sql")).unwrap();
    let second = format!(
        "CREATE TABLE copied (k INT, v INT) WITH ('connector' = 'kafka', 'topic' = '{raw}', 'format' = 'json',
          'properties.bootstrap.servers' = '{}', 'sink.marker-topic' = 'markers-{}',
          'sink.delivery-guarantee' = 'exactly-once');
        INSERT INTO copied SELECT k, v FROM events;",
        broker.servers(),
        job.topic
    );
    std::fs::write(job.script.path("job.sql"), format!("{text}\n{second}")).unwrap();
    for start in 1..=3 {
        let mut running = Running::start(&job.script, &TWO);
        running.wait_for_checkpoints(&job.script, 2);
        running.signal(libc::SIGKILL);
        running.wait();
        if start == 1 {
            copy(&job.script.path(".millstream/job"), &job.script.path("copy"));
        }
    }
    // It has claimed the one sink and not the other.
    crash(&job, &OF_COPY, "supervisor recover_sinks::between crash 1");
    job.at_full_speed(&JOB);
    stdout_of(&job.script.run(&OF_COPY));
    let (seen, expected) = (job.seen(broker), JOB.expected());
    assert!(seen.iter().all(|(key, value)| expected.get(key) == Some(value)));
    assert_eq!(seen.into_iter().collect::<Totals>().len(), expected.len());
    assert!(broker.read_committed(&raw).len() >= JOB.events as usize);
}
