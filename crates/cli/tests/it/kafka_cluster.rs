//! A cluster of Kafka's servers: leaders that change while a job reads, writes and commits.

use crate::kafka_sink::{JOB, sinked};
use crate::process::Running;
use crate::windows::Windows;
use millstream_testbed::kafka::Cluster;

const TWO: [&str; 2] = ["--parallelism", "2"];

/// It doesn't end by itself while the test looks at it, however slow the machine is.
const LONG: Windows = Windows { events: 400_000, ..JOB };

#[test]
fn leaders_that_are_killed_stopped_or_frozen_restart_no_job_and_lose_and_double_nothing() {
    let Some(mut cluster) = Cluster::start() else { return };
    let job = sinked(cluster.any(), &LONG, 1_500, "");
    let events = job.read_from_topic(cluster.any());
    let (markers, coordinated) = (format!("markers-{}", job.topic), "__transaction_state".to_string());
    let mut running = Running::start(&job.script, &TWO);
    running.wait_for_checkpoints(&job.script, 5);
    let topics = [&events, &job.topic, &markers, &coordinated];
    let faults = [
        (&job.topic, libc::SIGKILL),
        (&coordinated, libc::SIGKILL),
        (&markers, libc::SIGTERM),
        (&events, libc::SIGTERM),
        (&job.topic, libc::SIGSTOP),
    ];
    for (topic, signal) in faults {
        let (number, leader) = cluster.leader(topic, 0);
        match signal {
            libc::SIGKILL => leader.kill(),
            libc::SIGTERM => leader.stop(),
            _ => leader.signal(signal),
        }
        cluster.wait_until_led_by_another(topic, 0, number);
        // The job goes on by those that are left.
        running.wait_for_checkpoints(&job.script, 10);
        match signal {
            libc::SIGSTOP => cluster.node(number).signal(libc::SIGCONT),
            _ => cluster.node(number).restart(),
        }
        topics.iter().for_each(|topic| cluster.wait_until_in_sync(topic));
    }
    running.signal(libc::SIGTERM);
    assert!(running.wait().success(), "{}", running.stderr());
    let said = running.stderr();
    assert!(!said.contains("starts again") && said.contains(" retries"), "{said}");
    job.finish(cluster.any(), &LONG, &TWO);
}
