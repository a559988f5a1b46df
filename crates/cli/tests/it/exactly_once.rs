//! Exactly once, by killing it: the output after many SIGKILLs equals a computation by other code.

use crate::script::{Script, stdout_of};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Enough that no run of kills sees the job's end: a restarted source may read a second's rows at once.
const EVENTS: i64 = 120_000;

/// Event `i`: key, value, event time in milliseconds (out of order by up to two seconds).
fn event(i: i64) -> (i64, i64, i64) {
    let x = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(23);
    (x.rem_euclid(37), x.rem_euclid(1009), i * 2 - x.rem_euclid(2000))
}

fn write_input(path: &Path) {
    let mut text = String::new();
    for i in 0..EVENTS {
        let (key, value, ms) = event(i);
        let ms = ms + 100_000;
        let (s, ms) = (ms / 1000, ms % 1000);
        let time = format!("2024-01-01 {:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60);
        text.push_str(&format!("{{\"k\":{key},\"v\":{value},\"ts\":\"{time}\"}}\n"));
    }
    std::fs::write(path, text).unwrap();
}

/// Window start (seconds since midnight), key -> count, sum: row by row, in plain Rust.
fn expected() -> BTreeMap<(i64, i64), (i64, i64)> {
    let mut windows = BTreeMap::new();
    for i in 0..EVENTS {
        let (key, value, ms) = event(i);
        let window = (ms + 100_000).div_euclid(5000) * 5;
        let entry = windows.entry((window, key)).or_insert((0, 0));
        *entry = (entry.0 + 1, entry.1 + value);
    }
    windows
}

/// What a reader of the sink sees: files that don't begin with `.` or `_`, whole lines only.
fn read_output(folder: &Path) -> Vec<((i64, i64), (i64, i64))> {
    let mut rows = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return rows };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{name} is half-written");
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
            let start = row["ws"].as_str().unwrap();
            let part = |range: std::ops::Range<usize>| start[range].parse::<i64>().unwrap();
            let seconds = part(11..13) * 3600 + part(14..16) * 60 + part(17..19);
            let number = |name: &str| row[name].as_i64().unwrap();
            rows.push(((seconds, number("k")), (number("c"), number("s"))));
        }
    }
    rows
}

fn script(rows_per_second: i64) -> Script {
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
        SET 'restart-strategy.exponential-delay.initial-backoff' = '20 ms';
        CREATE TABLE events (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/events.json', 'format' = 'json',
                'scan.rate-limit.rows-per-second' = '{rows_per_second}');
        CREATE TABLE totals (ws TIMESTAMP(3), k INT, c BIGINT, s BIGINT)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
        INSERT INTO totals SELECT window_start, k, COUNT(*), SUM(CAST(v AS BIGINT))
        FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start, window_end, k;"
    ));
    write_input(&script.path("events.json"));
    script
}

fn check_output(script: &Script) {
    let rows = read_output(&script.path("out"));
    let mut seen = BTreeMap::new();
    for (key, value) in rows {
        assert!(seen.insert(key, value).is_none(), "window and key {key:?} came twice");
    }
    assert_eq!(seen, expected());
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
