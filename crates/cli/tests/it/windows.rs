//! The job that tests kill, crash, stop and rescale, and what it must have written: computed row by row, by other code.

use crate::script::Script;
use std::collections::BTreeMap;
use std::path::Path;

/// Totals by window and key: (window's start, seconds since midnight; key) -> (count, sum).
pub type Totals = BTreeMap<(i64, i64), (i64, i64)>;

/// A file of events, a windowed aggregate by key, a file sink.
#[derive(Clone, Copy)]
pub struct Windows {
    /// How many events there are.
    pub events: i64,
    /// Event time between two events, milliseconds.
    pub step_ms: i64,
    /// The window's length, seconds.
    pub window_s: i64,
    /// How many partitions the sink's folder has: so many files, at least, are committed at once.
    pub partitions: i64,
}

/// The first event's time, milliseconds since midnight.
const START_MS: i64 = 100_000;

impl Windows {
    /// Event `i`: key, value, milliseconds since midnight (out of order by up to two seconds).
    fn event(&self, i: i64) -> (i64, i64, i64) {
        let x = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(23);
        (x.rem_euclid(37), x.rem_euclid(1009), START_MS + i * self.step_ms - x.rem_euclid(2000))
    }

    fn write_input(&self, path: &Path) {
        let mut text = String::new();
        for i in 0..self.events {
            let (key, value, ms) = self.event(i);
            let (s, ms) = (ms / 1000, ms % 1000);
            let time = format!("2024-01-01 {:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60);
            text.push_str(&format!("{{\"k\":{key},\"v\":{value},\"ts\":\"{time}\"}}\n"));
        }
        std::fs::write(path, text).unwrap();
    }

    /// What the sink must hold in the end: row by row, in plain Rust.
    pub fn expected(&self) -> Totals {
        let mut windows = BTreeMap::new();
        for i in 0..self.events {
            let (key, value, ms) = self.event(i);
            let window = ms.div_euclid(self.window_s * 1000) * self.window_s;
            let entry = windows.entry((window, key)).or_insert((0, 0));
            *entry = (entry.0 + 1, entry.1 + value);
        }
        windows
    }

    /// The script, its `settings` before the rest, reading at a rate.
    pub fn script(&self, rows_per_second: i64, settings: &str) -> Script {
        let Windows { window_s, partitions, .. } = self;
        let script = Script::new(&format!(
            "SET 'execution.checkpointing.interval' = '100 ms';
            SET 'restart-strategy.exponential-delay.initial-backoff' = '20 ms';
            {settings}
            CREATE TABLE events (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND)
              WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/events.json', 'format' = 'json',
                    'scan.rate-limit.rows-per-second' = '{rows_per_second}');
            CREATE TABLE totals (ws TIMESTAMP(3), k INT, c BIGINT, s BIGINT, part INT) PARTITIONED BY (part)
              WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json',
                    'sink.rolling-policy.file-size' = '1 kb');
            INSERT INTO totals SELECT window_start, k, COUNT(*), SUM(CAST(v AS BIGINT)), MOD(k, {partitions})
            FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '{window_s}' SECOND))
            GROUP BY window_start, window_end, k;"
        ));
        self.write_input(&script.path("events.json"));
        script
    }

    /// Has the script read at another rate from its next start on.
    pub fn at_speed(&self, script: &Script, rows_per_second: i64) {
        let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
        let (before, rest) = text.split_once("'scan.rate-limit.rows-per-second' = '").unwrap();
        let (_, after) = rest.split_once('\'').unwrap();
        let text = format!("{before}'scan.rate-limit.rows-per-second' = '{rows_per_second}'{after}");
        std::fs::write(script.path("job.sql"), text).unwrap();
    }

    /// Has the script read what is left without a limit.
    pub fn at_full_speed(&self, script: &Script) {
        self.at_speed(script, 1_000_000_000);
    }

    /// What differs between the sink's folder and what it must hold in the end.
    pub fn check_output(&self, script: &Script) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for (key, value) in read_output(&script.path("out")) {
            if seen.insert(key, value).is_some() {
                return Err(format!("window and key {key:?} came twice"));
            }
        }
        let expected = self.expected();
        let missing = expected.iter().find(|(k, v)| seen.get(*k) != Some(v));
        let extra = seen.iter().find(|(k, v)| expected.get(*k) != Some(v));
        match (missing, extra) {
            (None, None) => Ok(()),
            _ => Err(format!(
                "{} rows instead of {}; missing: {missing:?}, too much: {extra:?}",
                seen.len(),
                expected.len()
            )),
        }
    }
}

/// What a reader of the sink sees: files that don't begin with `.` or `_`, whole lines only.
pub fn read_output(folder: &Path) -> Vec<((i64, i64), (i64, i64))> {
    let mut rows = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return rows };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            rows.extend(read_output(&path));
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
