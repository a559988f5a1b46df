//! Session windows of a job that is stopped, killed and rescaled, against sessions cut by plain Rust.

use crate::script::Script;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const EVENTS: i64 = 24_000;
const GAP_S: i64 = 4;

/// Event `i`: key, seconds since midnight (out of order by up to three seconds).
fn event(i: i64) -> (i64, i64) {
    let x = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(23);
    (x.rem_euclid(53), 100 + i / 12 - (x >> 8).rem_euclid(4))
}

/// Each event's session: its first second, the second that it ends at.
fn sessions() -> BTreeMap<i64, (i64, i64)> {
    let mut by_key: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for i in 0..EVENTS {
        let (key, second) = event(i);
        by_key.entry(key).or_default().push((second, i));
    }
    let mut of_events = BTreeMap::new();
    for mut events in by_key.into_values() {
        events.sort_unstable();
        for session in events.chunk_by(|a, b| b.0 <= a.0 + GAP_S) {
            let bounds = (session[0].0, session[session.len() - 1].0 + GAP_S);
            of_events.extend(session.iter().map(|(_, id)| (*id, bounds)));
        }
    }
    of_events
}

fn script() -> Script {
    let script = Script::new(&format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
        CREATE TABLE events (id INT, k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '6' SECOND)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/events.json', 'format' = 'json',
                'scan.rate-limit.rows-per-second' = '4000');
        CREATE TABLE totals (k INT, s INT, e INT, c BIGINT)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/totals', 'format' = 'json');
        CREATE TABLE members (id INT, s INT, e INT)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/members', 'format' = 'json');
        CREATE VIEW sessions AS SELECT id, k, window_start, window_end FROM
          TABLE(SESSION(TABLE events PARTITION BY k, DESCRIPTOR(ts), INTERVAL '{GAP_S}' SECOND));
        EXECUTE STATEMENT SET BEGIN
        INSERT INTO totals SELECT k, TIMESTAMPDIFF(SECOND, TIMESTAMP '2024-01-01 00:00:00', window_start),
          TIMESTAMPDIFF(SECOND, TIMESTAMP '2024-01-01 00:00:00', window_end), COUNT(*)
          FROM sessions GROUP BY k, window_start, window_end;
        INSERT INTO members SELECT id, TIMESTAMPDIFF(SECOND, TIMESTAMP '2024-01-01 00:00:00', window_start),
          TIMESTAMPDIFF(SECOND, TIMESTAMP '2024-01-01 00:00:00', window_end) FROM sessions;
        END;"
    ));
    let mut text = String::new();
    for i in 0..EVENTS {
        let (key, s) = event(i);
        let time = format!("2024-01-01 {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
        text.push_str(&format!("{{\"id\":{i},\"k\":{key},\"ts\":\"{time}\"}}\n"));
    }
    std::fs::write(script.path("events.json"), text).unwrap();
    script
}

fn rows(folder: &Path) -> Vec<Value> {
    let mut rows = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with(['.', '_']) {
            let text = std::fs::read_to_string(path).unwrap();
            rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    rows
}

#[test]
fn sessions_survive_stops_kills_and_rescaling() {
    let script = script();
    for (n, parallelism) in ["2", "3", "1", "2"].into_iter().enumerate() {
        let mut command = script.command("run", &["--parallelism", parallelism]);
        let mut job = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500 + 150 * n as u64));
        let signal = if n % 2 == 0 { libc::SIGTERM } else { libc::SIGKILL };
        // SAFETY: a plain system call on the id of a process that this test started.
        unsafe { libc::kill(job.id() as libc::pid_t, signal) };
        job.wait().unwrap();
    }
    // What is left is read at full speed.
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'4000'", "'1000000'")).unwrap();
    let output = script.run(&["--parallelism", "3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let expected = sessions();
    let number = |row: &Value, name: &str| row[name].as_i64().unwrap();
    let mut members: Vec<_> = rows(&script.path("members"))
        .iter()
        .map(|row| (number(row, "id"), (number(row, "s"), number(row, "e"))))
        .collect();
    members.sort_unstable();
    assert_eq!(members.len(), EVENTS as usize);
    assert!(members.into_iter().eq(expected.clone()));

    let mut counts: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
    for (id, (start, end)) in expected {
        *counts.entry((event(id).0, start, end)).or_insert(0) += 1;
    }
    let mut totals: Vec<_> = rows(&script.path("totals"))
        .iter()
        .map(|row| ((number(row, "k"), number(row, "s"), number(row, "e")), number(row, "c")))
        .collect();
    totals.sort_unstable();
    assert_eq!(totals, counts.into_iter().collect::<Vec<_>>());
}
