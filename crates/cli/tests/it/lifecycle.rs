//! How a job is stopped, how it is watched, and how it is started again.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use crate::windows::Windows;
use crate::{crash, process};

const JOB: Windows = Windows { events: 6_000, step_ms: 20, window_s: 1, partitions: 1 };
const TWO_PROCESSES: &[&str] = &["--processes", "2", "--parallelism", "2"];

fn finish_at_full_speed(script: &Script) {
    JOB.at_full_speed(script);
    stdout_of(&script.run(&["--parallelism", "2"]));
    JOB.check_output(script).unwrap();
}

#[test]
fn a_signal_takes_a_final_checkpoint_from_which_the_job_goes_on() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let script = JOB.script(2_000, "");
        let mut job = Running::start(&script, &["--parallelism", "2"]);
        job.wait_for_checkpoints(&script, 3);
        job.signal(signal);
        let status = job.wait();
        assert!(status.success(), "{status}: {}", job.stderr());
        assert!(job.stderr().contains("stopped: "), "{}", job.stderr());
        finish_at_full_speed(&script);
    }
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let script = JOB.script(2_000, "");
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    job.wait_for_checkpoints(&script, 3);
    // A worker that hangs keeps the final checkpoint from being complete.
    job.signal_worker(0, libc::SIGSTOP).unwrap();
    job.signal(libc::SIGTERM);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!job.has_ended(), "{}", job.stderr());
    job.signal(libc::SIGTERM);
    assert_eq!(job.wait().code(), Some(130), "{}", job.stderr());
    finish_at_full_speed(&script);
}

#[test]
fn a_process_that_hangs_is_lost_after_the_heartbeats_timeout() {
    let script = JOB.script(2_000, "SET 'heartbeat.timeout' = '1 s';");
    let mut job = Running::start(&script, TWO_PROCESSES);
    job.wait_for_checkpoints(&script, 3);
    job.signal_worker(1, libc::SIGSTOP).unwrap();
    job.wait_for_text("has been silent for more than 1000 ms");
    let status = job.wait();
    assert!(status.success(), "{status}: {}", job.stderr());
    assert!(job.stderr().contains("1 restarts"), "{}", job.stderr());
    JOB.check_output(&script).unwrap();
}

#[test]
fn a_checkpoint_that_is_not_complete_in_time_starts_the_job_again() {
    let script = JOB.script(2_000, "SET 'execution.checkpointing.timeout' = '700 ms';");
    let mut job = Running::start(&script, TWO_PROCESSES);
    job.wait_for_checkpoints(&script, 3);
    job.signal_worker(0, libc::SIGSTOP).unwrap();
    job.wait_for_text("did not complete within 700 ms");
    let status = job.wait();
    assert!(status.success(), "{status}: {}", job.stderr());
    assert!(job.stderr().contains("the job failed and starts again in "), "{}", job.stderr());
    JOB.check_output(&script).unwrap();
}

#[test]
fn a_tolerated_failure_of_a_checkpoint_is_told_and_the_job_goes_on() {
    let script = JOB.script(
        2_000,
        "SET 'execution.checkpointing.timeout' = '300 ms';
        SET 'execution.checkpointing.tolerable-failed-checkpoints' = '1000';",
    );
    let mut job = Running::start(&script, TWO_PROCESSES);
    job.wait_for_checkpoints(&script, 3);
    let hung = job.signal_worker(0, libc::SIGSTOP).unwrap();
    job.wait_for_text("did not complete within 300 ms");
    process::send(hung, libc::SIGCONT);
    let status = job.wait();
    assert!(status.success(), "{status}: {}", job.stderr());
    assert!(!job.stderr().contains("starts again"), "{}", job.stderr());
    JOB.check_output(&script).unwrap();
}

#[test]
fn a_panic_in_a_worker_ends_all_processes_and_the_delays_of_restarts_grow() {
    let script = JOB.script(
        4_000,
        "SET 'restart-strategy.exponential-delay.backoff-multiplier' = '2';
        SET 'restart-strategy.exponential-delay.jitter-factor' = '0';
        SET 'restart-strategy.exponential-delay.max-backoff' = '50 ms';",
    );
    // Every other hit, so that each is of another attempt.
    let mut job = Running::spawn(&script, crash::command(&script, &[], "worker worker::before_ack panic 2,4,6"));
    let status = job.wait();
    let stderr = job.stderr();
    assert!(status.success(), "{status}: {stderr}");
    let delays: Vec<&str> = stderr.lines().filter(|l| l.contains("starts again in")).collect();
    assert_eq!(delays.len(), 3, "{stderr}");
    for (line, delay) in delays.iter().zip(["in 20 ms", "in 40 ms", "in 50 ms"]) {
        assert!(line.contains(delay) && line.contains("exit status: 75"), "{stderr}");
    }
    assert!(stderr.contains("a fail point panics") && stderr.contains("3 restarts"), "{stderr}");
    JOB.check_output(&script).unwrap();
}

#[test]
fn a_restart_strategy_that_gives_up_fails_the_job() {
    for (strategy, text) in [
        ("SET 'restart-strategy.type' = 'none';", "is gone (exit status: 75)"),
        (
            "SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '1';
            SET 'restart-strategy.fixed-delay.delay' = '10 ms';",
            "starts again in 10 ms",
        ),
    ] {
        let script = JOB.script(2_000, strategy);
        let plan = "worker worker::before_ack panic 1,2,3,4,5,6";
        let mut job = Running::spawn(&script, crash::command(&script, TWO_PROCESSES, plan));
        assert_eq!(job.wait().code(), Some(1), "{}", job.stderr());
        let stderr = job.stderr();
        assert!(stderr.contains(text) && stderr.contains("allows no further restart"), "{stderr}");
        finish_at_full_speed(&script);
    }
}

#[test]
fn settings_that_can_not_work_are_refused() {
    for (setting, text) in [
        ("'heartbeat.timeout' = '10 ms'", "at least 1000 ms"),
        ("'state.checkpoints.num-retained' = '0'", "1 or more"),
        ("'execution.checkpointing.max-concurrent-checkpoints' = '2'", "not one of '1'"),
    ] {
        let output = JOB.script(2_000, &format!("SET {setting};")).run(&[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(text), "{stderr}");
    }
}
