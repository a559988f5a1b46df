//! Exactly once, by killing it: the output after many SIGKILLs equals a computation by other code.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use crate::windows::{Windows, read_output};
use std::time::Duration;

/// Enough events that no run of kills sees the job's end.
const JOB: Windows = Windows { events: 120_000, step_ms: 2, window_s: 5, partitions: 1 };

fn script(rows_per_second: i64) -> Script {
    JOB.script(rows_per_second, "")
}

fn check_output(script: &Script) {
    JOB.check_output(script).unwrap();
}

/// Kills one worker process of the job, or, if `of_workers` is `None`, the supervisor.
fn kill(job: &Running, of_workers: Option<usize>) {
    match of_workers {
        None => job.signal(libc::SIGKILL),
        Some(which) => drop(job.signal_worker(which, libc::SIGKILL)),
    }
}

fn check_kills(args: &[&str], kills: u64, workers_too: bool) {
    let script = script(1500);
    let mut random = 0x2545_F491_4F6C_DD1D_u64 ^ kills;
    let mut job = Running::start(&script, args);
    for n in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(30 + (random >> 33) % 400));
        assert!(!job.has_ended(), "the job ended after {n} kills: too soon for this test");
        read_output(&script.path("out"));
        let worker = workers_too && n % 3 != 0;
        kill(&job, worker.then_some((random >> 20) as usize));
        if !worker {
            job.wait();
            job = Running::start(&script, args);
        }
    }
    // What is left is read at full speed.
    JOB.at_full_speed(&script);
    kill(&job, None);
    job.wait();
    let status = Running::start(&script, args).wait();
    assert!(status.success(), "the last run ended with {status}");
    check_output(&script);
}

#[test]
fn without_a_crash_the_output_equals_the_batch_computation() {
    let script = script(1_000_000);
    stdout_of(&script.run(&["--parallelism", "2"]));
    check_output(&script);
}

#[test]
fn fifty_kills_at_parallelism_1_lose_and_double_nothing() {
    check_kills(&["--parallelism", "1"], 50, false);
}

#[test]
fn fifty_kills_at_parallelism_2_lose_and_double_nothing() {
    check_kills(&["--parallelism", "2"], 50, true);
}

#[test]
fn fifty_kills_of_either_of_two_processes_lose_and_double_nothing() {
    check_kills(&["--processes", "2", "--parallelism", "2"], 50, true);
}

#[test]
fn a_stopped_job_goes_on_at_another_parallelism() {
    let script = script(20_000);
    for args in [&["--parallelism", "2"][..], &["--parallelism", "1"], &["--parallelism", "3"]] {
        let mut job = Running::start(&script, args);
        std::thread::sleep(Duration::from_millis(700));
        job.signal(libc::SIGTERM);
        assert!(job.wait().success(), "{}", job.stderr());
    }
    stdout_of(&script.run(&["--processes", "2", "--parallelism", "2"]));
    check_output(&script);
}

#[test]
fn a_killed_job_goes_on_at_another_parallelism() {
    let script = script(20_000);
    for args in [&["--parallelism", "2"][..], &["--processes", "2", "--parallelism", "2"], &["--parallelism", "3"]] {
        let mut job = Running::start(&script, args);
        job.wait_for_checkpoints(&script, 5);
        job.signal(libc::SIGKILL);
        job.wait();
    }
    JOB.at_full_speed(&script);
    stdout_of(&script.run(&["--parallelism", "1"]));
    check_output(&script);
}
