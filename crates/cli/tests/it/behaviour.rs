//! What bounded scripts do: results, formats, summary, appending and replacing, late rows.

use crate::script::{Script, stdout_of};
use std::path::Path;
use std::process::Output;

const ROWS: &str = "{\"id\": 1, \"ts\": \"2024-01-01 00:00:01\"}\n\
{\"id\": 2, \"ts\": \"2024-01-01 00:00:20\"}\n\
{\"id\": 3, \"ts\": \"2024-01-01 00:00:02\"}\n";
const SOURCE: &str = "CREATE TABLE t (id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) \
WITH ('connector' = 'filesystem', 'path' = '${DIR}/t.json', 'format' = 'json');\n";

fn sink(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (id INT) \
         WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/{name}', 'format' = 'json');\n"
    )
}

fn script(statements: &str) -> Script {
    let script = Script::new(&format!("{SOURCE}{}{}{statements}", sink("a"), sink("b")));
    std::fs::write(script.path("t.json"), ROWS).unwrap();
    script
}

/// The lines of a sink's folder, sorted, as a reader sees them.
pub fn lines_of(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(entries) = std::fs::read_dir(folder) {
        for path in entries.map(|e| e.unwrap().path()) {
            if !path.file_name().unwrap().to_string_lossy().starts_with(['.', '_']) {
                lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_string));
            }
        }
    }
    lines.sort();
    lines
}

/// The last line on stderr, of a run that must have succeeded.
fn summary_of(output: &Output) -> String {
    stdout_of(output);
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_string()
}

fn ids(numbers: &[i32]) -> Vec<String> {
    numbers.iter().map(|n| format!("{{\"id\":{n}}}")).collect()
}

#[test]
fn a_bounded_script_ends_with_one_line_of_summary() {
    let output = script("INSERT INTO a SELECT id FROM t WHERE id <> 2;").run(&["--parallelism", "1"]);
    let summary = summary_of(&output);
    assert!(summary.starts_with("finished: 3 rows in, 2 rows out, 0 late, "), "{summary}");
    assert!(summary.ends_with(" rows/s, 1 checkpoint"), "{summary}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn late_rows_are_dropped_and_counted() {
    let output = script(
        "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND))
         GROUP BY window_start, window_end;",
    )
    .run(&["--parallelism", "1", "--format", "csv"]);
    assert_eq!(stdout_of(&output), "op,window_start,n\n+I,2024-01-01 00:00:00.000,1\n+I,2024-01-01 00:00:20.000,1\n");
    let summary = summary_of(&output);
    assert!(summary.contains("3 rows in, 2 rows out, 1 late"), "{summary}");
}

#[test]
fn rows_behind_the_current_watermark_can_be_told_from_the_others() {
    for (condition, expected) in [
        ("CURRENT_WATERMARK(ts) IS NULL OR ts > CURRENT_WATERMARK(ts)", &[1, 2][..]),
        ("ts <= CURRENT_WATERMARK(ts)", &[3]),
    ] {
        let script = script(&format!("INSERT INTO a SELECT id FROM t WHERE {condition};"));
        let summary = summary_of(&script.run(&["--parallelism", "1"]));
        assert!(summary.starts_with("finished: 3 rows in"), "{summary}");
        assert_eq!(lines_of(&script.path("a")), ids(expected), "{condition}");
    }
    let shown = script("SELECT id, CURRENT_WATERMARK(ts) AS w FROM t WHERE ts <= CURRENT_WATERMARK(ts);");
    let output = shown.run(&["--parallelism", "1", "--format", "jsonl"]);
    assert_eq!(stdout_of(&output), "{\"op\":\"+I\",\"row\":{\"id\":3,\"w\":\"2024-01-01 00:00:20.000\"}}\n");
    let refused = script("SELECT CURRENT_WATERMARK(CAST(ts AS TIMESTAMP(0))) FROM t;").run(&[]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("event-time attribute") && stderr.contains("WATERMARK FOR"), "{stderr}");
}

#[test]
fn a_finished_job_starts_anew_and_appends_or_replaces() {
    let append = script("INSERT INTO a SELECT id FROM t;");
    for copies in 1..=2 {
        let summary = summary_of(&append.run(&[]));
        assert!(summary.contains("3 rows in") && !summary.contains("went on"), "{summary}");
        assert_eq!(lines_of(&append.path("a")), ids(&[[1, 1], [2, 2], [3, 3]].map(|r| r[..copies].to_vec()).concat()));
    }
    let replace = script("INSERT OVERWRITE a SELECT id FROM t;");
    for _ in 0..2 {
        stdout_of(&replace.run(&[]));
        assert_eq!(lines_of(&replace.path("a")), ids(&[1, 2, 3]));
    }
}

#[test]
fn several_columns_are_counted_by_their_distinct_combinations_without_nulls() {
    let script = Script::new(
        "CREATE TABLE p (x INT, y STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'filesystem', 'path' = '${DIR}/p.json', 'format' = 'json');
         SELECT COUNT(DISTINCT x, y) AS n, COUNT(DISTINCT y, x) FILTER (WHERE x < 3) AS f, COUNT(*) AS c
         FROM TABLE(TUMBLE(TABLE p, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;",
    );
    let rows = ["1,\"a\"", "1,\"b\"", "1,\"a\"", "2,\"a\"", "2,null", "null,\"a\"", "null,null", "3,\"c\"", "3,\"c\""];
    let line = |row: &str| {
        let (x, y) = row.split_once(',').unwrap();
        format!("{{\"x\":{x},\"y\":{y},\"ts\":\"2024-01-01 00:00:01\"}}\n")
    };
    std::fs::write(script.path("p.json"), rows.map(line).concat()).unwrap();
    for parallelism in ["1", "2"] {
        let output = script.run(&["--parallelism", parallelism, "--format", "csv"]);
        assert_eq!(stdout_of(&output), "op,n,f,c\n+I,4,3,9\n");
    }
}

#[test]
fn the_sinks_of_a_statement_set_are_fed_by_one_read_of_the_source() {
    let set = "INSERT INTO a SELECT id FROM t WHERE id < 3; INSERT INTO b SELECT id + 10 FROM t WHERE id > 1;";
    for statements in [format!("BEGIN STATEMENT SET; {set} END;"), format!("EXECUTE STATEMENT SET BEGIN {set} END;")] {
        let script = script(&statements);
        let summary = summary_of(&script.run(&[]));
        assert!(summary.starts_with("finished: 3 rows in, 4 rows out"), "{summary}");
        assert_eq!(lines_of(&script.path("a")), ids(&[1, 2]));
        assert_eq!(lines_of(&script.path("b")), ids(&[12, 13]));
    }
}

/// Flink submits a job for each; here they are one job, which reads what they share once.
#[test]
fn inserts_outside_a_statement_set_run_as_one_job() {
    let script =
        script("INSERT INTO a SELECT id FROM t; INSERT INTO b SELECT id FROM t; INSERT INTO a SELECT -id FROM t;");
    let summary = summary_of(&script.run(&[]));
    assert!(summary.starts_with("finished: 3 rows in, 9 rows out"), "{summary}");
    assert_eq!(lines_of(&script.path("a")), ids(&[-1, -2, -3, 1, 2, 3]));
    assert_eq!(lines_of(&script.path("b")), ids(&[1, 2, 3]));
}

#[test]
fn a_scripts_own_parallelism_holds_unless_the_command_line_says_another() {
    let script = script("SET 'parallelism.default' = '3'; EXPLAIN SELECT id FROM t; INSERT INTO a SELECT id FROM t;");
    for args in [&[][..], &["--parallelism", "2"], &["--processes", "2"]] {
        summary_of(&script.run(args));
    }
    assert_eq!(lines_of(&script.path("a")).len(), 9);
}

/// One value of each type, and a row of NULLs.
const TYPES: &str = "CREATE VIEW v AS SELECT
  CAST(-7 AS TINYINT) AS i8, CAST(123456789012 AS BIGINT) AS i64, CAST(1.5 AS FLOAT) AS f32, 2.5E0 AS f64,
  CAST(12.30 AS DECIMAL(10, 2)) AS dc, TRUE AS bo, CAST('a,\"b\"' AS STRING) AS st, CAST('x' AS CHAR(3)) AS ch,
  CAST(X'00FF' AS BYTES) AS bin, DATE '2024-02-29' AS da, TIME '12:34:56' AS ti,
  TIMESTAMP '2024-01-02 03:04:05.678' AS ts, CAST(TO_TIMESTAMP_LTZ(1500, 3) AS TIMESTAMP_LTZ(3)) AS lt,
  ARRAY[1, 2] AS ar, MAP['k', 1] AS ma, CAST(ROW(1, 'r') AS ROW<n INT, s STRING>) AS ro, CAST(NULL AS INT) AS nu
  FROM (VALUES (0)) AS single(z);\n";

#[test]
fn jsonl_shows_each_type_as_it_is_agreed() {
    let output = Script::new(&format!("{TYPES}SELECT * FROM v;")).run(&["--format", "jsonl"]);
    assert_eq!(
        stdout_of(&output),
        concat!(
            r#"{"op":"+I","row":{"i8":-7,"i64":123456789012,"f32":1.5,"f64":2.5,"dc":"12.30","bo":true,"#,
            r#""st":"a,\"b\"","ch":"x  ","bin":"AP8=","da":"2024-02-29","ti":"12:34:56","#,
            r#""ts":"2024-01-02 03:04:05.678","lt":"1970-01-01 00:00:01.500Z","ar":[1, 2],"ma":{"k": 1},"#,
            r#""ro":{"n": 1, "s": "r"},"nu":null}}"#,
            "\n"
        )
    );
}

#[test]
fn csv_quotes_what_must_be_and_leaves_null_empty() {
    let output = Script::new(&format!("{TYPES}SELECT i8, dc, bo, st, bin, ar, nu FROM v;")).run(&["--format", "csv"]);
    assert_eq!(stdout_of(&output), "op,i8,dc,bo,st,bin,ar,nu\n+I,-7,12.30,TRUE,\"a,\"\"b\"\"\",x'00FF',\"[1, 2]\",\n");
}

#[test]
fn a_table_that_is_piped_is_printed_once_at_the_end() {
    let sql = "SELECT id, CHAR_LENGTH(CAST(ts AS STRING)) AS a_long_name, CAST(NULL AS STRING) AS n FROM t;";
    for parallelism in ["1", "3"] {
        let shown = stdout_of(&script(sql).run(&["--format", "table", "--parallelism", parallelism]));
        let mut lines: Vec<&str> = shown.lines().collect();
        lines[2..5].sort();
        assert_eq!(
            lines,
            [
                "id  a_long_name  n",
                "--  -----------  ----",
                "1   23           NULL",
                "2   23           NULL",
                "3   23           NULL",
                "(3 rows)"
            ]
        );
    }
}

#[test]
fn processing_time_windows_hold_every_row_once() {
    let output = Script::new(
        "CREATE TABLE g (k INT, p AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '1000',
           'rows-per-second' = '2000', 'fields.k.min' = '0', 'fields.k.max' = '3');
         SELECT window_start, k, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(p), INTERVAL '0.1' SECOND))
         GROUP BY window_start, window_end, k;",
    )
    .run(&["--format", "jsonl", "--parallelism", "2"]);
    let counts = stdout_of(&output);
    let rows: Vec<serde_json::Value> = counts.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.iter().map(|r| r["row"]["n"].as_i64().unwrap()).sum::<i64>(), 1000);
    assert!(rows.len() > 4, "500 ms of rows are more than one window: {counts}");
}

#[test]
fn bad_records_can_be_passed_over_or_kept_aside() {
    let rows = format!("{ROWS}{{\"id\": \"x\", \"ts\": \"2024-01-01 00:00:21\"}}\nnot json\n");
    for (options, expected) in [("'json.ignore-parse-errors' = 'true'", 4), ("'dead-letter.path' = '${DIR}/dead'", 3)] {
        let script = script(&format!("INSERT INTO a SELECT id FROM t /*+ OPTIONS({options}) */;"));
        std::fs::write(script.path("t.json"), &rows).unwrap();
        let summary = summary_of(&script.run(&["--parallelism", "1"]));
        assert_eq!(lines_of(&script.path("a")).len(), expected, "{options}: {summary}");
        if options.contains("dead-letter") {
            assert!(summary.contains("2 bad records"), "{summary}");
            let dead = lines_of(&script.path("dead")).join("\n");
            assert!(dead.contains("not json") && dead.contains("is no INT"), "{dead}");
        }
    }
}

#[test]
fn a_script_without_a_job_says_what_it_shows() {
    assert_eq!(stdout_of(&script("SHOW TABLES; DESCRIBE a;").run(&[])), "a\nb\nt\nid INT\n");
    assert_eq!(summary_of(&script("").run(&[])), "nothing to run: the script neither inserts nor selects");
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let script = Script::new("\u{feff}SELECT 1 AS x;");
    assert_eq!(stdout_of(&script.run(&["--format", "jsonl"])), "{\"op\":\"+I\",\"row\":{\"x\":1}}\n");
}

#[test]
fn explain_names_operators_edges_watermarks_and_state() {
    let script = script(
        "INSERT INTO a SELECT CAST(COUNT(*) AS INT) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND))
         GROUP BY window_start, window_end, id;",
    );
    let plan = stdout_of(&script.command("explain", &["--parallelism", "2"]).output().unwrap());
    for part in ["Sink(a)", "Source(t)", "watermark", "hash", "state", "changelog=[I]"] {
        assert!(plan.contains(part), "no '{part}' in:\n{plan}");
    }
    assert!(!script.path(".millstream").exists(), "explain runs nothing");
}
