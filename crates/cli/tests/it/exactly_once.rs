//! Exactly once, by killing it: the output after many SIGKILLs equals a computation by other code.

use crate::script::{Script, stdout_of};
use crate::windows::{Windows, read_output};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Enough events that no run of kills sees the job's end.
const JOB: Windows = Windows { events: 120_000, step_ms: 2, window_s: 5, partitions: 1 };

fn script(rows_per_second: i64) -> Script {
    JOB.script(rows_per_second, "")
}

fn check_output(script: &Script) {
    JOB.check_output(script).unwrap();
}

fn start(script: &Script, args: &[&str]) -> Child {
    script.command("run", args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills one worker process of the job, or, if `of_workers` is `None`, the supervisor.
fn kill(job: &Child, of_workers: Option<usize>) {
    let pid = match of_workers {
        None => Some(job.id()),
        Some(which) => {
            let output = Command::new("pgrep").args(["-P", &job.id().to_string()]).output().unwrap();
            let pids: Vec<u32> =
                String::from_utf8(output.stdout).unwrap().lines().filter_map(|l| l.trim().parse().ok()).collect();
            pids.get(which % pids.len().max(1)).copied()
        }
    };
    if let Some(pid) = pid {
        // SAFETY: a plain system call on the id of a process that this test started.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    }
}

fn check_kills(args: &[&str], kills: u64, workers_too: bool) {
    let script = script(1500);
    let mut random = 0x2545_F491_4F6C_DD1D_u64 ^ kills;
    let mut job = start(&script, args);
    for n in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(30 + (random >> 33) % 400));
        assert!(job.try_wait().unwrap().is_none(), "the job ended after {n} kills: too soon for this test");
        read_output(&script.path("out"));
        let worker = workers_too && n % 3 != 0;
        kill(&job, worker.then_some((random >> 20) as usize));
        if !worker {
            let _ = job.wait();
            job = start(&script, args);
        }
    }
    // What is left is read at full speed.
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'1500'", "'1000000'")).unwrap();
    kill(&job, None);
    let _ = job.wait();
    let status = start(&script, args).wait().unwrap();
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
        let mut job = start(&script, args);
        std::thread::sleep(Duration::from_millis(700));
        // SAFETY: a plain system call on the id of a process that this test started.
        unsafe { libc::kill(job.id() as libc::pid_t, libc::SIGTERM) };
        assert!(job.wait().unwrap().success());
    }
    stdout_of(&script.run(&["--processes", "2", "--parallelism", "2"]));
    check_output(&script);
}
