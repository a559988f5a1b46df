//! What a job starts from: `--from` latest, none, and the checkpoints of any job; segments merged on the way.

use crate::process::{Running, checkpoints, epochs};
use crate::script::{Script, stdout_of};
use crate::windows::Windows;
use millstream_state::CheckpointStore;
use std::collections::BTreeSet;
use std::path::Path;

/// The job of these tests.
pub const JOB: Windows = Windows { events: 20_000, step_ms: 20, window_s: 1, partitions: 1 };
/// All segments are objects.
const SETTINGS: &str = "SET 'state.storage.fs.memory-threshold' = '1 b';";

/// A job that was stopped half-way, or killed.
pub fn interrupted(settings: &str, signal: libc::c_int) -> Script {
    let script = JOB.script(2_000, settings);
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    job.wait_for_checkpoints(&script, 5);
    job.signal(signal);
    job.wait();
    JOB.at_full_speed(&script);
    script
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn refused(script: &Script, args: &[&str], code: i32, parts: &[&str]) {
    let output = script.run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: no '{part}' in: {stderr}");
    }
}

#[test]
fn a_killed_job_goes_on_from_its_own_manifest_and_commits_what_is_pending() {
    let script = interrupted(SETTINGS, libc::SIGKILL);
    let manifest = format!(".millstream/job/checkpoints/manifest-{}.json", epochs(&script).last().unwrap());
    stdout_of(&script.run(&["--from", &manifest, "--parallelism", "3"]));
    JOB.check_output(&script).unwrap();
}

#[test]
fn what_an_overwrite_has_held_back_is_not_taken_over() {
    let script = JOB.script(2_000, SETTINGS);
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("INSERT INTO", "INSERT OVERWRITE")).unwrap();
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    job.wait_for_checkpoints(&script, 5);
    job.signal(libc::SIGTERM);
    job.wait();
    JOB.at_full_speed(&script);
    let args = ["--state-dir", "new", "--from", ".millstream/job"];
    refused(&script, &args, 1, &["from its own last checkpoint only", "--from none"]);
    assert_eq!(crate::windows::read_output(&script.path("out")), [], "nothing is seen before the end");
    stdout_of(&script.run(&["--parallelism", "3"]));
    JOB.check_output(&script).unwrap();
}

#[test]
fn another_job_goes_on_from_a_copy_that_it_does_not_need_afterwards() {
    for inner in ["", "/checkpoints"] {
        let script = interrupted(SETTINGS, libc::SIGTERM);
        copy(&script.path(".millstream/job"), &script.path("copied"));
        std::fs::remove_dir_all(script.path(".millstream")).unwrap();
        JOB.at_speed(&script, 2_000);
        let from = format!("copied{inner}");
        let mut job = Running::start(&script, &["--from", &from, "--state-dir", "new", "--parallelism", "1"]);
        job.wait_for_path(&script.path("new/job.json"));
        job.signal(libc::SIGKILL);
        job.wait();
        std::fs::remove_dir_all(script.path("copied")).unwrap();
        JOB.at_full_speed(&script);
        stdout_of(&script.run(&["--state-dir", "new"]));
        JOB.check_output(&script).unwrap();
    }
}

#[test]
fn without_state_a_job_begins_anew() {
    let script = interrupted("", libc::SIGTERM);
    std::fs::remove_dir_all(script.path("out")).unwrap();
    stdout_of(&script.run(&["--from", "none"]));
    JOB.check_output(&script).unwrap();
}

#[test]
fn a_script_that_no_longer_fits_is_refused_with_what_differs() {
    let script = interrupted("", libc::SIGTERM);
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    let hint = "--from none";
    for (old, new, detail) in [
        ("SUM(CAST(v AS BIGINT))", "MAX(CAST(v AS BIGINT))", "operator"),
        ("INTERVAL '1' SECOND", "INTERVAL '2' SECOND", "operator"),
        ("GROUP BY window_start, window_end, k", "GROUP BY window_start, window_end, k, v", "operator"),
    ] {
        let changed = text.replace(old, new);
        assert_ne!(changed, text);
        std::fs::write(script.path("job.sql"), changed).unwrap();
        refused(&script, &[], 1, &["the script no longer fits the state", detail, hint]);
        let manifest = checkpoints(&script).display().to_string();
        refused(&script, &["--from", &manifest, "--state-dir", "new"], 1, &["no longer fits", detail, hint]);
    }
    stdout_of(&script.run(&["--from", "none"]));
}

#[test]
fn a_checkpoint_that_is_not_there_is_told() {
    let script = JOB.script(1_000_000, "");
    refused(&script, &["--from", "nowhere"], 1, &["there is no checkpoint (nowhere)", "hint: "]);
    refused(&script, &["--from", "nowhere/manifest-3.json"], 1, &["manifest-3.json", "hint: "]);
    assert!(!script.path("nowhere").exists() && !script.path("out").exists());
    let script = Script::new("SELECT 1 AS n;");
    refused(&script, &["--from", "none"], 2, &["--from needs --state-dir"]);
}

#[test]
fn segments_are_merged_and_old_checkpoints_deleted_while_the_job_runs() {
    let job = Windows { events: 40_000, ..JOB };
    let script = job.script(
        2_000,
        "SET 'execution.checkpointing.interval' = '10 ms';
        SET 'state.checkpoints.num-retained' = '3';
        SET 'state.storage.fs.memory-threshold' = '1 b';",
    );
    let mut running = Running::start(&script, &["--parallelism", "2"]);
    running.wait_for_checkpoints(&script, 150);
    running.signal(libc::SIGTERM);
    assert!(running.wait().success(), "{}", running.stderr());
    assert_eq!(epochs(&script).len(), 3);
    let (_, manifest) = CheckpointStore::open_manifest(checkpoints(&script).to_str().unwrap(), &[]).unwrap();
    let tables: Vec<_> = manifest.operators.iter().flat_map(|o| &o.tables).collect();
    assert!(!tables.is_empty());
    for table in tables {
        let epochs: BTreeSet<u64> = table.segments.iter().map(|s| s.epoch).collect();
        assert!(epochs.len() < 75, "table {} has segments of {} epochs", table.name, epochs.len());
    }
    let objects = std::fs::read_dir(checkpoints(&script).join("data")).unwrap().count();
    assert!(objects < 100, "{objects} objects");
    job.at_full_speed(&script);
    stdout_of(&script.run(&["--parallelism", "3"]));
    job.check_output(&script).unwrap();
}
