//! Sources through the binary: restarts in the middle, watched folders, bad records, files read in parallel.

use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

/// The rows that a reader of the table in `folder` sees.
fn rows_in(folder: &Path) -> Vec<Value> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with(['.', '_']) {
            let text = std::fs::read_to_string(&path).unwrap();
            rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    rows
}

fn start(script: &Script, args: &[&str]) -> Child {
    script.command("run", args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Ctrl-C's kinder sibling: the job takes a last checkpoint and ends.
fn stop(mut job: Child) {
    // SAFETY: a plain system call on the id of a process that this test started.
    unsafe { libc::kill(job.id() as libc::pid_t, libc::SIGTERM) };
    let status = job.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// Waits until `holds`; a job that ends meanwhile, or a minute without it, is a failure.
fn wait_until(job: &mut Child, what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        assert!(job.try_wait().unwrap().is_none(), "the job ended before {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {what}");
}

fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_watched_folder_is_read_once_over_a_kill_and_a_change_of_parallelism() {
    let script = Script::new(
        "SET 'execution.checkpointing.interval' = '100 ms';
        CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/in', 'format' = 'json',
          'source.monitor-interval' = '50 ms');
        CREATE TABLE o (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');
        INSERT INTO o SELECT id FROM t;",
    );
    std::fs::create_dir(script.path("in")).unwrap();
    let mut next = 0;
    let mut add_files = |count: usize| {
        for _ in 0..count {
            let text: String = (next..next + 10).map(|id| format!("{{\"id\":{id}}}\n")).collect();
            // Written aside and renamed: a file that is seen is whole.
            std::fs::write(script.path("in/.next"), text).unwrap();
            std::fs::rename(script.path("in/.next"), script.path(&format!("in/{}.json", 1000 - next))).unwrap();
            next += 10;
        }
        next
    };
    for (args, kill) in
        [(["--parallelism", "2"], true), (["--parallelism", "1"], false), (["--parallelism", "3"], true)]
    {
        let before = add_files(3);
        let mut job = start(&script, &args);
        wait_until(&mut job, "the files that were there", || rows_in(&script.path("out")).len() >= before as usize);
        let all = add_files(2);
        wait_until(&mut job, "the files that came", || rows_in(&script.path("out")).len() >= all as usize);
        match kill {
            true => {
                job.kill().unwrap();
                job.wait().unwrap();
            }
            false => stop(job),
        }
    }
    let mut ids: Vec<i64> = rows_in(&script.path("out")).iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort();
    assert_eq!(ids, (0..150).collect::<Vec<_>>());
}

const BAD_INPUT: &str = "{\"id\": 1, \"n\": 10}\n{\"id\": 2, \"n\": \"many\"}\n{\"id\": 3,\n{\"id\": 4, \"n\": 40}\n";

fn bad_records(options: &str) -> Script {
    let script = Script::new(&format!(
        "CREATE TABLE t (id BIGINT, n INT) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/t.json', 'format' = 'json'
          {options});
        CREATE TABLE o (id BIGINT, n INT) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
        INSERT INTO o SELECT id, n FROM t;"
    ));
    std::fs::write(script.path("t.json"), BAD_INPUT).unwrap();
    script
}

#[test]
fn a_bad_record_fails_the_job_with_its_file_line_and_reason() {
    let script = bad_records("");
    let output = script.run(&[]);
    let stderr = stderr_of(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in ["t.json, line 2", "field 'n'", "\"many\"", "dead-letter.path"] {
        assert!(stderr.contains(part), "no {part} in {stderr}");
    }
    assert!(rows_in(&script.path("out")).is_empty());
}

#[test]
fn ignored_parse_errors_are_null_fields_and_skipped_records_that_are_counted() {
    let script = bad_records(", 'json.ignore-parse-errors' = 'true'");
    let output = script.run(&["--parallelism", "1"]);
    let stderr = stderr_of(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(", 1 bad records"), "{stderr}");
    let mut rows: Vec<String> = rows_in(&script.path("out")).iter().map(Value::to_string).collect();
    rows.sort();
    assert_eq!(rows, [r#"{"id":1,"n":10}"#, r#"{"id":2,"n":null}"#, r#"{"id":4,"n":40}"#]);
}

#[test]
fn dead_letters_are_kept_with_their_place_and_reason_and_counted() {
    let script = bad_records(", 'dead-letter.path' = 'dead'");
    let output = script.run(&["--parallelism", "2"]);
    let stderr = stderr_of(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(", 2 bad records"), "{stderr}");
    assert_eq!(rows_in(&script.path("out")).len(), 2);
    let letters: BTreeMap<i64, Value> =
        rows_in(&script.path("dead")).into_iter().map(|letter| (letter["line"].as_i64().unwrap(), letter)).collect();
    assert_eq!(letters.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(letters[&2]["record"], "{\"id\": 2, \"n\": \"many\"}");
    assert!(letters[&2]["reason"].as_str().unwrap().contains("field 'n'"), "{letters:?}");
    assert!(letters[&3]["file"].as_str().unwrap().ends_with("t.json"), "{letters:?}");
}

/// A script whose generated source is throttled by `'4000'`, and its output when nothing interrupts it.
fn generated(create: &str, select: &str) -> Script {
    Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms'; {create}
        CREATE TABLE o (id BIGINT, a STRING, b STRING)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
        INSERT INTO o {select};"
    ))
}

const DATAGEN: &str =
    "CREATE TABLE g (id BIGINT, r DOUBLE, s STRING, m MAP<STRING, INT>) WITH ('connector' = 'datagen',
  'rows-per-second' = '4000', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = 'LAST',
  'fields.s.length' = '12', 'fields.s.null-rate' = '0.2', 'fields.r.max' = '10');";
const DATAGEN_SELECT: &str = "SELECT id, s, CAST(r AS STRING) FROM g";
const NEXMARK: &str = "CREATE TABLE g (event_type INT, bid ROW<auction BIGINT, price BIGINT, url STRING>)
  WITH ('connector' = 'nexmark', 'events.num' = 'LAST', 'scan.rate-limit.rows-per-second' = '4000');";
const NEXMARK_SELECT: &str = "SELECT bid.auction, bid.url, CAST(bid.price AS STRING) FROM g WHERE event_type = 2";

fn sorted_rows(script: &Script) -> Vec<String> {
    let mut rows: Vec<String> = rows_in(&script.path("out")).iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// Killed, stopped and started at changing parallelism, a generator gives what it gives in one go.
fn check_generator(create: &str, select: &str, rows: usize) {
    let create = create.replace("LAST", &rows.to_string());
    let whole = generated(&create.replace("'4000'", "'10000000'"), select);
    stdout_of(&whole.run(&["--parallelism", "1"]));
    let expected = sorted_rows(&whole);
    assert!(!expected.is_empty());
    let script = generated(&create, select);
    for (i, parallelism) in ["2", "1", "3", "2"].into_iter().enumerate() {
        let mut job = start(&script, &["--parallelism", parallelism]);
        let before = rows_in(&script.path("out")).len();
        wait_until(&mut job, "some rows", || rows_in(&script.path("out")).len() > before);
        std::thread::sleep(Duration::from_millis(130));
        if i % 2 == 0 {
            job.kill().unwrap();
            job.wait().unwrap();
        } else {
            stop(job);
        }
    }
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'4000'", "'10000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "2"]));
    let found = sorted_rows(&script);
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "the rows differ from those of a run without interruption");
}

#[test]
fn datagen_goes_on_exactly_where_it_was() {
    check_generator(DATAGEN, DATAGEN_SELECT, 40_000);
}

#[test]
fn nexmark_goes_on_exactly_where_it_was() {
    check_generator(NEXMARK, NEXMARK_SELECT, 40_000);
}

#[test]
fn an_unbounded_generator_gives_no_row_twice_over_stops() {
    let create = "CREATE TABLE g (id BIGINT, s STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
      'fields.id.min' = '0', 'fields.s.length' = '16');";
    let script = generated(create, "SELECT id, s, 'x' FROM g");
    for parallelism in ["2", "1", "2"] {
        let mut job = start(&script, &["--parallelism", parallelism]);
        let before = rows_in(&script.path("out")).len();
        wait_until(&mut job, "some rows", || rows_in(&script.path("out")).len() > before);
        stop(job);
    }
    let rows = sorted_rows(&script);
    let distinct: std::collections::BTreeSet<&String> = rows.iter().collect();
    assert_eq!(distinct.len(), rows.len(), "sixteen random digits don't come twice by chance");
}

#[test]
fn a_sorted_file_read_in_parallel_has_no_late_rows() {
    let script = Script::new(
        "CREATE TABLE t (id BIGINT, k INT, ts TIMESTAMP(3), pad STRING, WATERMARK FOR ts AS ts)
          WITH ('connector' = 'filesystem', 'path' = '${DIR}/t.json', 'format' = 'json');
        CREATE TABLE o (ws TIMESTAMP(3), c BIGINT, s BIGINT)
          WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');
        INSERT OVERWRITE o SELECT window_start, COUNT(*), SUM(id)
        FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, k;",
    );
    let rows = 200_000i64;
    let mut text = String::new();
    for i in 0..rows {
        // Ten rows a millisecond; the padding's length varies, so that chunks end anywhere.
        let (s, ms) = (i / 10_000, i / 10 % 1000);
        let pad = "x".repeat((i * 7 % 97) as usize);
        text.push_str(&format!(
            "{{\"id\":{i},\"k\":1,\"ts\":\"2024-01-01 00:00:{s:02}.{ms:03}\",\"pad\":\"{pad}\"}}\n"
        ));
    }
    std::fs::write(script.path("t.json"), text).unwrap();
    for args in [&["--parallelism", "2"][..], &["--parallelism", "3"], &["--parallelism", "2", "--processes", "2"]] {
        let output = script.run(args);
        let stderr = stderr_of(&output);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains(" 0 late"), "{args:?}: {stderr}");
        let mut found: Vec<(String, i64, i64)> = rows_in(&script.path("out"))
            .iter()
            .map(|r| (r["ws"].to_string(), r["c"].as_i64().unwrap(), r["s"].as_i64().unwrap()))
            .collect();
        found.sort();
        let expected: Vec<(i64, i64)> =
            (0..rows / 10_000).map(|w| (10_000, (w * 10_000..(w + 1) * 10_000).sum())).collect();
        assert_eq!(found.iter().map(|r| (r.1, r.2)).collect::<Vec<_>>(), expected, "{args:?}");
    }
}

#[test]
fn metadata_columns_say_which_file_a_row_is_from() {
    let script = Script::new(
        "CREATE TABLE t (id INT, name STRING METADATA FROM 'file.name' VIRTUAL, long AS UPPER(name), dt DATE,
          `file.size` BIGINT METADATA VIRTUAL, p STRING METADATA FROM 'file.path' VIRTUAL)
          PARTITIONED BY (dt) WITH ('connector' = 'filesystem', 'path' = '${DIR}/in', 'format' = 'csv');
        SELECT long, `file.size`, id, dt, CHAR_LENGTH(p) > CHAR_LENGTH(name) AS whole FROM t;",
    );
    std::fs::create_dir_all(script.path("in/dt=2024-02-29")).unwrap();
    std::fs::write(script.path("in/dt=2024-02-29/a.csv"), "1\n2\n").unwrap();
    std::fs::write(script.path("in/dt=2024-02-29/b.csv"), "3\n").unwrap();
    let shown = stdout_of(&script.run(&["--parallelism", "2", "--format", "jsonl"]));
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort();
    let row = |name: &str, size: u32, id: u32| {
        format!(
            "{{\"op\":\"+I\",\"row\":{{\"long\":\"{name}\",\"file.size\":{size},\"id\":{id},\"dt\":\"2024-02-29\",\"whole\":true}}}}"
        )
    };
    assert_eq!(lines, [row("A.CSV", 4, 1), row("A.CSV", 4, 2), row("B.CSV", 2, 3)]);
    for (metadata, part) in [
        ("x STRING METADATA FROM 'file.pth' VIRTUAL", "file.path"),
        ("x INT METADATA FROM 'file.size' VIRTUAL", "BIGINT"),
        ("x STRING METADATA FROM 'file.name'", "VIRTUAL"),
    ] {
        let wrong = Script::new(&format!(
            "CREATE TABLE t (id INT, {metadata})
              WITH ('connector' = 'filesystem', 'path' = '${{DIR}}', 'format' = 'csv');
            INSERT INTO t SELECT id FROM t WHERE x IS NOT NULL;"
        ));
        let output = wrong.run(&[]);
        assert_eq!(output.status.code(), Some(2), "{metadata}: {}", stderr_of(&output));
        assert!(stderr_of(&output).contains(part), "{metadata}: {}", stderr_of(&output));
    }
}
