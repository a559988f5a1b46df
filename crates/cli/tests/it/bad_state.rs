//! State that can't be used: one clear sentence with its place and a way out, exit code 1, nothing half-written.

use crate::process::{Running, checkpoints, epochs};
use crate::script::{Script, stdout_of};
use crate::take_over::{copy, interrupted};
use crate::windows::Windows;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;

/// All segments are objects; a failure is not tried again.
const SETTINGS: &str = "SET 'state.storage.fs.memory-threshold' = '1 b'; SET 'restart-strategy.type' = 'none';";

/// All files below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

fn check_message(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let mut lines = stderr.lines();
    assert!(lines.next().is_some_and(|l| l.starts_with("error: ")), "{stderr}");
    assert!(lines.all(|l| l.starts_with("  ")), "more than one message: {stderr}");
    assert!(stderr.contains("\n  hint: "), "no hint: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no '{part}' in: {stderr}");
    }
    assert!(output.stdout.is_empty());
}

/// The job is refused with a message that contains `parts`; nothing but the job's own record changes.
fn check_refused(script: &Script, args: &[&str], parts: &[&str]) {
    let all = || {
        let mut all = files(script.folder());
        all.retain(|path, _| !["lock", "job.json", "limits.json"].iter().any(|name| path.ends_with(name)));
        all
    };
    let before = all();
    let output = script.run(args);
    check_message(&output, parts);
    let after = all();
    let changed: Vec<_> = after.keys().filter(|p| before.get(*p) != after.get(*p)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "written or deleted: {changed:?}");
}

/// The newest manifest and an object that it names.
fn newest(script: &Script) -> (PathBuf, PathBuf) {
    let manifest = checkpoints(script).join(format!("manifest-{}.json", epochs(script).last().unwrap()));
    let text = std::fs::read_to_string(&manifest).unwrap();
    let name = text.split("{\"object\":{\"name\":\"").nth(1).unwrap().split('"').next().unwrap();
    let object = checkpoints(script).join("data").join(name);
    (manifest, object)
}

#[test]
fn damaged_state_is_told_by_its_file_and_left_as_it_is() {
    let script = interrupted(SETTINGS, libc::SIGTERM);
    let (manifest, object) = newest(&script);
    let state = script.path(".millstream");
    copy(&state, &script.path("whole"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    let (manifest_name, object_name) = (name(&manifest), name(&object));
    let whole = std::fs::read(&manifest).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let segment = std::fs::read(&object).unwrap();
    let mut flipped = segment.clone();
    flipped[segment.len() / 2] ^= 1;
    let record = state.join("job/job.json");
    let cases: Vec<(&Path, Option<Vec<u8>>, Vec<&str>)> = vec![
        (&manifest, Some(whole[..whole.len() / 2].to_vec()), vec!["the manifest is damaged", &manifest_name]),
        (&manifest, Some(vec![]), vec!["the manifest is damaged", &manifest_name]),
        (&manifest, Some(text.replacen("\"epoch\":", "\"epoch\":1", 1).into_bytes()), vec!["damaged", "checksum"]),
        (
            &manifest,
            Some(text.replacen("\"version\":1", "\"version\":2", 1).into_bytes()),
            vec!["version 2", &manifest_name],
        ),
        (&object, Some(segment[..segment.len() / 2].to_vec()), vec!["segment", &object_name, "--from none"]),
        (&object, Some(flipped), vec!["is damaged", &object_name, "--from none"]),
        (&object, None, vec!["is missing", &object_name, "--from none"]),
        (&record, Some(b"{\"version\":1".to_vec()), vec!["the job's record can't be read", "job.json"]),
        (&record, Some(b"{\"version\":9}".to_vec()), vec!["version 9", "job.json"]),
    ];
    for (path, content, parts) in cases {
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        check_refused(&script, &[], &parts);
        std::fs::remove_dir_all(&state).unwrap();
        copy(&script.path("whole"), &state);
    }
    // None of them did any harm.
    stdout_of(&script.run(&[]));
    job().check_output(&script).unwrap();
}

fn job() -> Windows {
    crate::take_over::JOB
}

#[test]
fn after_damage_the_ways_out_that_the_hint_names_work() {
    let script = interrupted(SETTINGS, libc::SIGKILL);
    let (manifest, _) = newest(&script);
    std::fs::write(&manifest, "{").unwrap();
    check_refused(&script, &[], &["the manifest is damaged", "--from none"]);
    std::fs::remove_dir_all(script.path("out")).unwrap();
    stdout_of(&script.run(&["--from", "none"]));
    job().check_output(&script).unwrap();
}

#[test]
fn state_of_other_aggregates_keys_or_windows_is_refused_with_what_differs() {
    let script = interrupted(SETTINGS, libc::SIGTERM);
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    let cases = [
        ("SUM(CAST(v AS BIGINT))", "SUM(CAST(k AS BIGINT))", ["Sum(CAST(v AS BIGINT))", "Sum(CAST(k AS BIGINT))"]),
        ("COUNT(*)", "COUNT(*) FILTER (WHERE v > 9)", ["Count(*), ", "Count(*) FILTER (v > 9)"]),
        ("GROUP BY window_start, window_end, k", "GROUP BY window_start, window_end, v", ["by (k)", "by (v)"]),
        ("INTERVAL '1' SECOND)", "INTERVAL '2' SECOND)", ["size_ms: 1000", "size_ms: 2000"]),
    ];
    for (was, now, parts) in cases {
        assert!(text.contains(was), "{was}");
        let mut changed = text.replace(was, now);
        if now.ends_with(", v") {
            changed =
                changed.replace("SELECT window_start, k,", "SELECT window_start, v AS k,").replace("MOD(k", "MOD(v");
        }
        std::fs::write(script.path("job.sql"), changed).unwrap();
        for args in [["--parallelism", "1"], ["--parallelism", "2"]] {
            let fits_not = ["no longer fits the state", "operator sink:totals/aggregate was [", "--from none"];
            check_refused(&script, &args, &[&fits_not[..], &parts[..]].concat());
        }
    }
    std::fs::write(script.path("job.sql"), &text).unwrap();
    stdout_of(&script.run(&[]));
    job().check_output(&script).unwrap();
}

#[test]
fn state_fits_after_edits_that_leave_its_meaning_alone() {
    let script = interrupted(SETTINGS, libc::SIGTERM);
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    // A view with other names in another order and a filter that rows pass, an alias, and one more INSERT.
    let edited = text
        .replace(
            "INSERT INTO totals",
            "CREATE VIEW seen AS SELECT ts AS seen_at, v AS amount, k AS who FROM events WHERE v >= 0;
             CREATE TABLE other (v INT) WITH ('connector' = 'blackhole');
             INSERT INTO other SELECT v FROM events WHERE k = 1;
             INSERT INTO totals",
        )
        .replace("SELECT window_start, k, COUNT(*)", "SELECT window_start, who AS k, COUNT(*) AS n")
        .replace("CAST(v AS BIGINT)", "CAST(amount AS BIGINT)")
        .replace("MOD(k", "MOD(who")
        .replace("TABLE events, DESCRIPTOR(ts)", "TABLE seen, DESCRIPTOR(seen_at)")
        .replace("window_end, k;", "window_end, who;");
    std::fs::write(script.path("job.sql"), edited).unwrap();
    stdout_of(&script.run(&["--parallelism", "1"]));
    job().check_output(&script).unwrap();
}

#[test]
fn a_state_directory_in_use_is_told_with_the_process() {
    let script = job().script(200, "");
    let mut running = Running::start(&script, &["--parallelism", "2"]);
    running.wait_for_checkpoints(&script, 2);
    let output = script.run(&["--parallelism", "2"]);
    check_message(&output, &["in use by another process", ".millstream/job", "locked by process"]);
    running.signal(libc::SIGTERM);
    assert!(running.wait().success());
    job().at_full_speed(&script);
    stdout_of(&script.run(&[]));
    job().check_output(&script).unwrap();
}

#[test]
fn a_state_directory_that_can_not_be_one_is_told() {
    let script = job().script(1_000_000, "");
    std::fs::write(script.path("file"), "").unwrap();
    check_refused(&script, &["--state-dir", "file"], &["file", "hint: "]);
    check_refused(&script, &["--state-dir", "file/state"], &["file/state", "--state-dir"]);
    std::fs::create_dir_all(script.path("state/checkpoints")).unwrap();
    std::fs::write(script.path("state/checkpoints/data"), "").unwrap();
    check_refused(&script, &["--state-dir", "state"], &["state/checkpoints/data", "hint: "]);
    // SAFETY: a system call without pointers.
    if unsafe { libc::geteuid() } != 0 {
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::create_dir(script.path("locked")).unwrap();
        std::fs::set_permissions(script.path("locked"), mode(0o555)).unwrap();
        check_refused(&script, &["--state-dir", "locked"], &["locked", "Permission denied"]);
        std::fs::set_permissions(script.path("locked"), mode(0o755)).unwrap();
    }
    assert!(!script.path("out").exists());
}

#[test]
fn a_full_disk_fails_the_job_and_leaves_nothing_half_written() {
    let script = job().script(4_000, "SET 'restart-strategy.type' = 'none';");
    let mut command = script.command("run", &["--parallelism", "1"]);
    // No file may be longer than this: the first parts of output fit, the manifest soon does not.
    // SAFETY: only calls that may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: 12_000, rlim_max: 12_000 };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    check_message(&output, &["there is no room for the job's state", "manifest-", "store checkpoint"]);
    let left: Vec<PathBuf> = files(&script.path(".millstream")).into_keys().collect();
    assert!(left.iter().all(|p| !p.to_string_lossy().ends_with(".tmp")), "{left:?}");
    // With room again it goes on.
    job().at_full_speed(&script);
    stdout_of(&script.run(&["--parallelism", "2"]));
    job().check_output(&script).unwrap();
}

/// A disk of a few pages, in a mount namespace of the test's own; where that may not be made, the test says so.
#[test]
fn a_disk_without_room_fails_the_job_which_goes_on_when_there_is_some() {
    let script = job().script(4_000, SETTINGS);
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    job().at_full_speed(&script);
    std::fs::rename(script.path("job.sql"), script.path("fast.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text).unwrap();
    std::fs::create_dir(script.path("disk")).unwrap();
    let steps = "mount -t tmpfs -o size=20k none disk || exit 77
        \"$0\" run job.sql --parallelism 1 --state-dir disk/state 2> first; echo $? > code; find disk > left
        mount -o remount,size=64m disk && mv fast.sql job.sql
        exec \"$0\" run job.sql --parallelism 2 --state-dir disk/state";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", steps, env!("CARGO_BIN_EXE_millstream")])
        .current_dir(script.folder())
        .output()
        .unwrap();
    let said = |name: &str| std::fs::read_to_string(script.path(name)).unwrap_or_default();
    if said("code").is_empty() {
        eprintln!("skipped: no disk can be mounted here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert_eq!(said("code"), "1\n", "{}", said("first"));
    assert!(said("first").starts_with("error: the disk is full: "), "{}", said("first"));
    assert!(said("first").contains("\n  hint: free some space"), "{}", said("first"));
    assert!(!said("left").contains(".tmp"), "{}", said("left"));
    stdout_of(&output);
    job().check_output(&script).unwrap();
}
