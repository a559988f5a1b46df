//! A crash at every fail point of start, checkpoint, commit, compaction and restore: the output is still exactly once.

use crate::process::Running;
use crate::script::Script;
use crate::windows::Windows;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Little more than a second of work at [`ROWS_PER_SECOND`].
const JOB: Windows = Windows { events: 3_000, step_ms: 20, window_s: 1, partitions: 3 };
const ROWS_PER_SECOND: i64 = 2_500;
/// Checkpoints follow each other closely, and all segments are objects, so that every step is taken often.
const SETTINGS: &str = "SET 'execution.checkpointing.interval' = '25 ms';
    SET 'restart-strategy.exponential-delay.max-backoff' = '50 ms';
    SET 'state.storage.fs.memory-threshold' = '1 b';";
/// Jobs that run at the same time: most of their time they wait for the throttled source.
const AT_ONCE: usize = 6;
const DEADLINE: Duration = Duration::from_secs(100);

/// Where a job is crashed.
struct Case {
    point: &'static str,
    /// At which of the point's hits, counted over all processes of the role and over restarts.
    hits: &'static [u64],
    /// A worker's crash that has to come before, for the point to be reached or to matter.
    before: Option<&'static str>,
}

const fn at(point: &'static str, hits: &'static [u64]) -> Case {
    Case { point, hits, before: None }
}

const fn after(before: &'static str, point: &'static str, hits: &'static [u64]) -> Case {
    Case { point, hits, before: Some(before) }
}

/// A worker dies after some checkpoints, with an epoch stored.
const STORED: &str = "worker worker::after_ack crash 9";
/// A worker dies with output to commit.
const PENDING: &str = "worker worker::before_commit crash 9";
/// A worker dies with some of its output committed.
const COMMITTING: &str = "worker commit::between_files crash 9";
/// A worker dies with output that no checkpoint has.
const PREPARED: &str = "worker sink::after_prepare crash 9";

/// The points that the supervisor passes.
const SUPERVISOR: &[Case] = &[
    after(STORED, "start::before_read", &[1, 3, 4]),
    after(STORED, "start::before_record", &[1, 3, 4]),
    after(STORED, "job_record::mid", &[1, 3, 4]),
    after(STORED, "start::after_record", &[1, 3, 4]),
    after(PENDING, "recover_sinks::before", &[1, 3, 4]),
    after(PENDING, "recover_sinks::between", &[1, 3, 4]),
    after(PENDING, "recover_sinks::after", &[1, 3, 4]),
    after(PENDING, "commit::before", &[1, 2]),
    after(COMMITTING, "commit::between_files", &[1, 2]),
    after(PENDING, "commit::after", &[1, 2]),
    after(PREPARED, "abort::after_remove", &[1]),
    after(STORED, "supervisor::before_spawn", &[1, 3, 4]),
    after(STORED, "supervisor::after_spawn", &[1, 3, 4]),
    after(STORED, "supervisor::before_start", &[1, 3, 4]),
    at("coordinator::before_trigger", &[1, 3]),
    at("coordinator::mid_trigger", &[1, 3]),
    at("coordinator::before_manifest", &[1, 3]),
    at("checkpoint::before_manifest", &[1, 3]),
    at("checkpoint::mid_manifest", &[1, 3]),
    at("checkpoint::after_manifest", &[1, 3]),
    at("retain::mid", &[1, 3]),
    at("coordinator::after_manifest", &[1, 3]),
    at("coordinator::mid_commit", &[1, 3]),
    at("coordinator::on_committed", &[1, 3]),
    at("compact::before_put", &[1, 3]),
    at("compact::after_put", &[1, 3]),
    at("compactor::before_apply", &[1, 3]),
    at("supervisor::before_exit", &[1]),
    at("finish::before", &[1, 2]),
    at("finish::after", &[1]),
];

/// The points that worker processes pass.
const WORKERS: &[Case] = &[
    at("worker::before_hello", &[1, 2]),
    after(STORED, "worker::before_restore", &[1, 2]),
    after(STORED, "worker::mid_restore", &[1, 3]),
    after(STORED, "worker::after_restore", &[1, 3]),
    at("sink::before_fsync", &[1, 3]),
    at("sink::mid_prepare", &[1, 3]),
    at("sink::after_prepare", &[1, 3]),
    at("checkpoint::before_object_put", &[1, 3]),
    at("checkpoint::mid_object", &[1, 3]),
    at("checkpoint::after_object_put", &[1, 3]),
    at("worker::before_ack", &[1, 3]),
    at("worker::after_ack", &[1, 3]),
    at("worker::before_commit", &[1, 3]),
    at("commit::before", &[1, 3]),
    at("commit::between_files", &[1, 3]),
    at("commit::after", &[1, 3]),
    at("worker::between_commits", &[1, 3]),
    at("worker::before_committed", &[1, 3]),
    at("worker::before_exit", &[1]),
];

/// The points that an INSERT OVERWRITE passes, in the roles that commit.
const OVERWRITE: &[(&str, Case)] = &[
    ("worker", at("overwrite::after_hold", &[1, 3])),
    ("worker", at("overwrite::after_remove", &[1])),
    ("worker", at("commit::between_files", &[1, 3])),
    ("worker", at("overwrite::after_publish", &[1])),
    ("supervisor", after("worker overwrite::after_hold crash 5", "overwrite::after_hold", &[1, 2])),
    ("supervisor", after("worker overwrite::after_remove crash 1", "overwrite::after_remove", &[1, 2])),
    ("supervisor", after("worker commit::between_files crash 2", "overwrite::after_publish", &[1, 2])),
];

/// The points that are passed when a checkpoint of another job is taken over.
const TAKE_OVER: &[Case] = &[at("start::before_import", &[1, 2]), at("import::mid", &[1, 2])];

/// The program with fail points, built on the first call.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let normal = Path::new(env!("CARGO_BIN_EXE_millstream"));
        let folder = normal.parent().unwrap();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut build = Command::new(env!("CARGO"));
        // What cargo tells this program about its package would have crates that look at it built anew.
        for (variable, _) in std::env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| variable.to_string_lossy().starts_with(own)) {
                build.env_remove(variable);
            }
        }
        let built = build
            .args(["build", "--quiet", "--package", "millstream", "--bin", "millstream-failpoints"])
            .args(["--features", "failpoints", "--profile", profile, "--target-dir"])
            .arg(folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success());
        folder.join("millstream-failpoints")
    })
}

/// The program on the script with plans for fail points, counters in the script's folder; see `cli/src/failpoints.rs`.
pub fn command(script: &Script, args: &[&str], plans: &str) -> Command {
    let counters = script.path("hits");
    std::fs::create_dir_all(&counters).unwrap();
    let mut command = Command::new(binary());
    command.current_dir(script.folder()).args(["run", "job.sql"]).args(args).stdin(Stdio::null());
    command.env("MILLSTREAM_FAILPOINTS", plans).env("MILLSTREAM_FAILPOINTS_DIR", counters);
    command
}

/// How often processes of the role came to the point.
pub fn hits(script: &Script, role: &str, point: &str) -> u64 {
    let counter = script.path("hits").join(format!("{role} {}", point.replace("::", ".")));
    std::fs::metadata(counter).map_or(0, |m| m.len())
}

/// How the process ended; it is killed at the deadline.
fn wait(mut child: Child, deadline: Instant) -> Result<std::process::ExitStatus, String> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Ok(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err("did not end in time".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the job, again whenever it crashed, until it ends.
pub fn run_to_the_end(script: &Script, args: &[&str], plans: &str, finished_at: Option<u64>) -> Result<(), String> {
    let deadline = Instant::now() + DEADLINE;
    let mut crashes = 0;
    loop {
        let errors = std::fs::File::create(script.path("stderr")).unwrap();
        let child = command(script, args, plans).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        let status = wait(child, deadline)?;
        if status.success() {
            return Ok(());
        }
        if status.signal() != Some(libc::SIGKILL) {
            let errors = std::fs::read_to_string(script.path("stderr")).unwrap();
            return Err(format!("ended with {status}: {errors}"));
        }
        crashes += 1;
        if finished_at == Some(crashes) {
            return Ok(());
        }
    }
}

fn check_case(role: &str, case: &Case, args: &[&str]) -> Result<(), String> {
    let list = case.hits.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let mut plans = format!("{role} {} crash {list}", case.point);
    if let Some(before) = case.before {
        plans = format!("{before};{plans}");
    }
    let failed = |e: String| format!("{plans} with {args:?}: {e}");
    // After this one the job has finished: started again it would begin anew.
    let finished_at = (case.point == "finish::after").then_some(1);
    let mut counted = 0;
    // On a machine that is busy the job may end before it has come that far: then a longer one.
    for longer in [1, 4, 16] {
        let job = Windows { events: JOB.events * longer, ..JOB };
        let script = job.script(ROWS_PER_SECOND, SETTINGS);
        run_to_the_end(&script, args, &plans, finished_at).map_err(failed)?;
        job.check_output(&script).map_err(failed)?;
        counted = hits(&script, role, case.point);
        if counted >= *case.hits.last().unwrap() {
            return Ok(());
        }
    }
    Err(failed(format!("hit {counted} times only")))
}

/// Checks all cases, several at the same time.
pub fn check_each<C: Send>(cases: impl Iterator<Item = C>, check: impl Fn(C) -> Result<(), String> + Sync) {
    binary();
    let queue: Mutex<Vec<C>> = Mutex::new(cases.collect());
    let failures = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    if let Err(failure) = check(case) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn check_all(args: &[&str]) {
    let cases = SUPERVISOR.iter().map(|c| ("supervisor", c)).chain(WORKERS.iter().map(|c| ("worker", c)));
    check_each(cases, |(role, case)| check_case(role, case, args));
}

#[test]
fn crashes_while_a_checkpoint_is_taken_over_lose_and_double_nothing() {
    for case in TAKE_OVER {
        let list = case.hits.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let windows = Windows { events: JOB.events * 10, ..JOB };
        let script = windows.script(ROWS_PER_SECOND, SETTINGS);
        let mut job = Running::start(&script, &["--parallelism", "2"]);
        job.wait_for_checkpoints(&script, 10);
        job.signal(libc::SIGTERM);
        assert!(job.wait().success(), "{}", job.stderr());
        windows.at_full_speed(&script);
        let args = ["--state-dir", "new", "--from", ".millstream/job", "--parallelism", "2"];
        run_to_the_end(&script, &args, &format!("supervisor {} crash {list}", case.point), None).unwrap();
        windows.check_output(&script).unwrap();
        assert!(hits(&script, "supervisor", case.point) >= *case.hits.last().unwrap(), "{}", case.point);
    }
}

#[test]
fn crashes_while_a_table_is_overwritten_leave_the_old_rows_or_the_new() {
    for (role, case) in OVERWRITE {
        let list = case.hits.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let before = case.before.map_or(String::new(), |before| format!("{before};"));
        let plans = format!("{before}{role} {} crash {list}", case.point);
        let script = JOB.script(ROWS_PER_SECOND, SETTINGS);
        let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
        std::fs::write(script.path("job.sql"), text.replace("INSERT INTO", "INSERT OVERWRITE")).unwrap();
        for part in 0..JOB.partitions {
            let folder = script.path(&format!("out/part={part}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("old.json"), "{\"ws\":\"2023-01-01 00:00:00\",\"k\":1,\"c\":1,\"s\":1}\n")
                .unwrap();
        }
        run_to_the_end(&script, &["--processes", "2", "--parallelism", "2"], &plans, None).unwrap();
        JOB.check_output(&script).unwrap_or_else(|e| panic!("{plans}: {e}"));
        assert!(hits(&script, role, case.point) >= *case.hits.last().unwrap(), "{plans}");
    }
}

#[test]
fn every_fail_point_is_crashed_at() {
    let mut crashed: BTreeSet<&str> = [SUPERVISOR, WORKERS, TAKE_OVER].into_iter().flatten().map(|c| c.point).collect();
    crashed.extend(OVERWRITE.iter().map(|(_, case)| case.point));
    crashed.extend(crate::kafka_sink::FAIL_POINTS.iter().map(|(_, point, _, _)| *point));
    crashed.insert(crate::kafka_sink::FLUSHED);
    let lists = [millstream_state::FAIL_POINTS, millstream_connect::FAIL_POINTS, millstream_control::FAIL_POINTS];
    let all: BTreeSet<&str> = lists.into_iter().flatten().copied().collect();
    assert_eq!(crashed, all);
}

#[test]
fn crashes_at_every_fail_point_lose_and_double_nothing_at_parallelism_2() {
    check_all(&["--parallelism", "2"]);
}

#[test]
fn crashes_at_every_fail_point_lose_and_double_nothing_with_two_processes() {
    check_all(&["--processes", "2", "--parallelism", "2"]);
}
