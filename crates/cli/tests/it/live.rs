//! What unbounded jobs do: event time over several inputs, stopping, resuming, a slow sink.

use crate::behaviour::lines_of;
use crate::script::Script;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A running job, killed if the test gives up on it.
struct Live(Child);

impl Live {
    fn start(script: &Script, args: &[&str]) -> Live {
        Live(script.command("run", args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }
    fn signal(&self, signal: libc::c_int) {
        // SAFETY: a plain system call on the id of a process that this test started and has not waited for.
        unsafe { libc::kill(self.0.id() as libc::pid_t, signal) };
    }
    /// Asks it to stop; it must, with exit code 0; gives what it said.
    fn stop(mut self) -> String {
        self.signal(libc::SIGTERM);
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}: {text}");
        text
    }
    /// Worker processes.
    fn workers(&self) -> Vec<u32> {
        let file = format!("/proc/{0}/task/{0}/children", self.0.id());
        std::fs::read_to_string(file).unwrap().split_whitespace().map(|p| p.parse().unwrap()).collect()
    }
    /// Waits until `done`, which must be within a minute.
    fn wait_until(&mut self, what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(self.0.try_wait().unwrap().is_none(), "the job ended before {what}");
            assert!(start.elapsed() < Duration::from_secs(60), "no {what} within a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rows `from..=to`, one a second of event time.
fn rows(from: u32, to: u32) -> String {
    (from..=to).map(|s| format!("{{\"ts\": \"2024-01-01 00:{:02}:{:02}\"}}\n", s / 60, s % 60)).collect()
}

/// A table over a folder of its own; `watched` goes on looking for files.
fn table(name: &str, watched: bool, options: &str) -> String {
    let watch = if watched { "'source.monitor-interval' = '50 ms'," } else { "" };
    format!(
        "CREATE TABLE {name} (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ({watch} {options}
           'connector' = 'filesystem', 'path' = '${{DIR}}/{name}', 'format' = 'json');\n"
    )
}

/// Counts the rows of both tables by ten seconds.
fn union_script(settings: &str, tables: &str) -> Script {
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '50 ms'; {settings}
        {tables}
        CREATE TABLE o (s TIMESTAMP(3), n BIGINT)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/o', 'format' = 'json');
        CREATE VIEW u AS SELECT ts FROM a UNION ALL SELECT ts FROM b;
        INSERT INTO o SELECT window_start, COUNT(*)
        FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;"
    ));
    std::fs::create_dir(script.path("a")).unwrap();
    std::fs::create_dir(script.path("b")).unwrap();
    script
}

/// Starts of the windows that fired, in seconds.
fn fired(script: &Script) -> Vec<u32> {
    let lines = lines_of(&script.path("o"));
    let start = |line: &String| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = row["s"].as_str().unwrap();
        text[14..16].parse::<u32>().unwrap() * 60 + text[17..19].parse::<u32>().unwrap()
    };
    lines.iter().map(start).collect()
}

/// `a` has rows up to second 100, `b` only up to 25: which windows fire while both could get more?
fn check_event_time(settings: &str, a: &str, b: &str, parallelism: &str, expected: &[u32]) {
    let script = union_script(settings, &format!("{a}{b}"));
    std::fs::write(script.path("a/1.json"), rows(1, 100)).unwrap();
    std::fs::write(script.path("b/1.json"), rows(1, 25)).unwrap();
    let mut job = Live::start(&script, &["--parallelism", parallelism]);
    job.wait_until(&format!("windows {expected:?}"), || fired(&script) == expected);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fired(&script), expected);
    job.stop();
    assert_eq!(fired(&script), expected, "stopping is not the end of the input");
}

const TO_25: &[u32] = &[0, 10];
const TO_100: &[u32] = &[0, 10, 20, 30, 40, 50, 60, 70, 80, 90];

#[test]
fn event_time_is_that_of_the_slowest_live_input() {
    for parallelism in ["1", "2"] {
        check_event_time("", &table("a", true, ""), &table("b", true, ""), parallelism, TO_25);
    }
}

#[test]
fn an_ended_input_does_not_push_event_time_past_the_live_one() {
    check_event_time("", &table("a", false, ""), &table("b", true, ""), "2", TO_25);
}

#[test]
fn a_live_input_goes_on_alone_after_the_other_has_ended() {
    check_event_time("", &table("a", true, ""), &table("b", false, ""), "2", TO_100);
}

#[test]
fn idle_inputs_leave_the_minimum_after_the_settings_timeout() {
    let settings = "SET 'table.exec.source.idle-timeout' = '200 ms';";
    check_event_time(settings, &table("a", true, ""), &table("b", true, ""), "2", TO_100);
}

#[test]
fn idle_inputs_leave_the_minimum_after_the_tables_own_timeout() {
    let idle = "'scan.watermark.idle-timeout' = '200 ms',";
    check_event_time("", &table("a", true, ""), &table("b", true, idle), "2", TO_100);
}

#[test]
fn an_idle_input_beside_an_ended_one_does_not_push_event_time_to_the_end() {
    let settings = "SET 'table.exec.source.idle-timeout' = '200 ms';";
    check_event_time(settings, &table("a", false, ""), &table("b", true, ""), "1", TO_25);
}

#[test]
fn workers_without_a_split_do_not_hold_event_time() {
    check_event_time("", &table("a", true, ""), &table("b", true, ""), "4", TO_25);
}

#[test]
fn a_stopped_job_goes_on_where_it_was() {
    let script = union_script("", &format!("{}{}", table("a", true, ""), table("b", false, "")));
    std::fs::write(script.path("a/1.json"), rows(1, 25)).unwrap();
    std::fs::write(script.path("b/1.json"), rows(1, 5)).unwrap();
    let mut job = Live::start(&script, &["--parallelism", "2"]);
    job.wait_until("two windows", || fired(&script).len() == 2);
    let said = job.stop();
    assert!(said.starts_with("stopped: 30 rows in, 2 rows out"), "{said}");
    std::fs::write(script.path("a/2.json"), rows(26, 45)).unwrap();
    let mut job = Live::start(&script, &["--parallelism", "1"]);
    job.wait_until("four windows", || fired(&script).len() == 4);
    let said = job.stop();
    assert!(said.starts_with("stopped: 20 rows in, 2 rows out") && said.contains("went on from checkpoint"), "{said}");
    assert_eq!(
        lines_of(&script.path("o")),
        [("00", 14), ("10", 10), ("20", 10), ("30", 10)]
            .map(|(s, n)| format!("{{\"s\":\"2024-01-01 00:00:{s}\",\"n\":{n}}}"))
    );
}

#[test]
fn a_second_signal_ends_the_job_at_once() {
    let script = Script::new(
        "CREATE TABLE g (k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000');
         CREATE TABLE o (k INT) WITH ('connector' = 'blackhole');
         INSERT INTO o SELECT k FROM g;",
    );
    let mut job = Live::start(&script, &[]);
    job.wait_until("a checkpoint", || script.path(".millstream/job/checkpoints").exists());
    job.signal(libc::SIGINT);
    job.signal(libc::SIGINT);
    job.0.wait().unwrap();
}

#[test]
fn a_reader_of_the_output_that_goes_away_ends_the_job_quietly() {
    let script = Script::new(
        "CREATE TABLE g (k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000'); SELECT k FROM g;",
    );
    let mut child =
        script.command("run", &["--format", "jsonl"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(!said.contains("error"), "{said}");
}

/// The most memory that a process has had, bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// The source could give millions of rows a second, the sink takes a thousand; the window has a whole lot of groups.
#[test]
fn a_slow_sink_holds_the_source_back_in_bounded_memory_while_checkpoints_complete() {
    let plain = "SELECT k, s FROM g";
    let window = "SELECT k, CAST(COUNT(*) AS STRING) FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '20' SECOND))
        GROUP BY k, window_start, window_end";
    for (query, processes, limit_mib) in [(plain, "1", 128), (plain, "2", 128), (window, "1", 256), (window, "2", 256)]
    {
        let script = Script::new(&format!(
            "SET 'execution.checkpointing.interval' = '200 ms';
             CREATE TABLE g (k INT, s STRING, n BIGINT, ts AS TO_TIMESTAMP_LTZ(n, 3), WATERMARK FOR ts AS ts)
               WITH ('connector' = 'datagen', 'rows-per-second' = '10000000', 'fields.s.length' = '200',
               'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '1000000000');
             CREATE TABLE o (k INT, s STRING)
               WITH ('connector' = 'blackhole', 'sink.rate-limit.rows-per-second' = '1000');
             INSERT INTO o {query};"
        ));
        let mut job = Live::start(&script, &["--parallelism", "2", "--processes", processes]);
        let folder = script.path(".millstream/job/checkpoints");
        let manifests = || {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
            let epoch = |n: String| n.strip_prefix("manifest-")?.strip_suffix(".json")?.parse::<u64>().ok();
            names.filter_map(epoch).max()
        };
        job.wait_until("the first checkpoint", || manifests().is_some());
        let first = manifests().unwrap();
        job.wait_until("twenty more checkpoints", || manifests() >= Some(first + 20));
        for worker in job.workers() {
            let peak = peak_memory(worker);
            assert!(peak < limit_mib << 20, "worker process {worker} has had {peak} bytes");
        }
        let said = job.stop();
        assert!(said.starts_with("stopped: "), "{said}");
    }
}

const EVENTS: u64 = 100_000;
const KEYS: u64 = 15_000;

/// The rows of [`a_job_that_is_stopped_while_windows_fire_loses_and_doubles_nothing`], by other code.
fn hopping_sums() -> Vec<String> {
    let mut sums = std::collections::BTreeMap::<(u64, i64), (u64, u64)>::new();
    for n in 0..EVENTS {
        for start in [n / 15_000, n / 15_000 + 1].map(|slide| slide as i64 * 15 - 15) {
            let (count, sum) = sums.entry((n % KEYS, start)).or_default();
            (*count, *sum) = (*count + 1, *sum + n);
        }
    }
    let line = |((k, start), (n, sum)): ((u64, i64), (u64, u64))| {
        let start = match start {
            ..0 => "1969-12-31 23:59:45".to_string(),
            s => format!("1970-01-01 00:{:02}:{:02}", s / 60, s % 60),
        };
        format!("{{\"k\":{k},\"s\":\"{start}\",\"n\":{n},\"total\":{sum}}}")
    };
    let mut lines: Vec<String> = sums.into_iter().map(line).collect();
    lines.sort();
    lines
}

/// The windows leave into a file and, at the same pace, into a sink that is slow.
#[test]
fn a_job_that_is_stopped_while_windows_fire_loses_and_doubles_nothing() {
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         CREATE TABLE g (n BIGINT, ts AS TO_TIMESTAMP_LTZ(n, 3), WATERMARK FOR ts AS ts) WITH ('format' = 'json',
           'connector' = 'filesystem', 'path' = '${{DIR}}/g', 'source.monitor-interval' = '50 ms');
         CREATE TABLE o (k BIGINT, s TIMESTAMP(3), n BIGINT, total BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/o', 'format' = 'json');
         CREATE TABLE slow (k BIGINT, s TIMESTAMP(3), n BIGINT, total BIGINT)
           WITH ('connector' = 'blackhole', 'sink.rate-limit.rows-per-second' = '20000');
         CREATE VIEW v AS SELECT MOD(n, {KEYS}) AS k, n, ts FROM g;
         CREATE VIEW w AS SELECT k, window_start AS s, COUNT(*) AS n, SUM(n) AS total
           FROM TABLE(HOP(TABLE v, DESCRIPTOR(ts), INTERVAL '15' SECOND, INTERVAL '30' SECOND))
           GROUP BY k, window_start, window_end;
         EXECUTE STATEMENT SET BEGIN INSERT INTO o SELECT * FROM w; INSERT INTO slow SELECT * FROM w; END;"
    ));
    // The last row only moves event time.
    let numbers = (0..EVENTS).chain([10 * EVENTS]);
    std::fs::create_dir(script.path("g")).unwrap();
    std::fs::write(script.path("g/1.json"), numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>()).unwrap();
    let written = || lines_of(&script.path("o")).len();
    let expected = hopping_sums();
    for parallelism in ["2", "1", "3"] {
        let before = written();
        let mut job = Live::start(&script, &["--parallelism", parallelism]);
        job.wait_until("a part of the output", || written() > before);
        let said = job.stop();
        assert!(said.starts_with("stopped: "), "{said}");
        let after = written();
        assert!(before < after && after < expected.len(), "stopped at {after} of {} rows", expected.len());
    }
    let mut job = Live::start(&script, &["--parallelism", "2"]);
    job.wait_until("all of the output", || written() >= expected.len());
    job.stop();
    let mut found = lines_of(&script.path("o"));
    found.sort();
    assert!(found == expected, "{} rows instead of {}", found.len(), expected.len());
}
