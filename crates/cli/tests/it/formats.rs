//! Files of formats with a schema of their own, through the binary: written, read back, and refused.

use crate::script::{Script, stdout_of};

const COLUMNS: &str =
    "id INT, name STRING, price DECIMAL(10, 2), at_ TIMESTAMP(3), tags ARRAY<STRING>, who ROW<age INT>";

fn sorted(output: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_is_written_is_read_back_at_any_parallelism() {
    for format in ["avro", "parquet"] {
        let values: Vec<String> = (0..200)
            .map(|n| {
                let time = format!("TIMESTAMP '2024-01-01 00:{:02}:{:02}.125'", n / 60, n % 60);
                format!("({n}, 'n{n}', CAST({n}.25 AS DECIMAL(10, 2)), {time}, ARRAY['a', 'b{n}'], ROW({n}))")
            })
            .collect();
        let table = format!(
            "CREATE TABLE files ({COLUMNS}) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/files', 'format' = '{format}');"
        );
        let script = Script::new(&format!("{table}\nINSERT INTO files VALUES {};", values.join(",\n")));
        stdout_of(&script.run(&["--parallelism", "1", "--state-dir", "state"]));
        let read = format!("{table}\nSELECT * FROM files;").replace("${DIR}", script.folder().to_str().unwrap());
        std::fs::write(script.path("job.sql"), read).unwrap();
        let first = stdout_of(&script.run(&["--parallelism", "1", "--format", "jsonl", "--state-dir", "one"]));
        assert_eq!(first.lines().count(), 200, "{format}");
        let row = r#"{"op":"+I","row":{"id":7,"name":"n7","price":"7.25","at_":"2024-01-01 00:00:07.125","tags":["a", "b7"],"who":{"age": 7}}}"#;
        assert!(first.lines().any(|line| line == row), "{format}: {first}");
        let second = stdout_of(&script.run(&["--parallelism", "3", "--format", "jsonl", "--state-dir", "three"]));
        assert_eq!(sorted(&first), sorted(&second), "{format}");
    }
}

fn check_refused(format: &str, options: &str, columns: &str, rest: &str, files: &[u8], code: i32, expected: &[&str]) {
    let script = Script::new(&format!(
        "CREATE TABLE t ({columns}) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/in', 'format' = '{format}'{options});\n{rest};"
    ));
    std::fs::create_dir(script.path("in")).unwrap();
    std::fs::write(script.path("in/one"), files).unwrap();
    let output = script.run(&["--format", "jsonl"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for text in expected {
        assert!(stderr.contains(text), "'{text}' is not in: {stderr}");
    }
}

#[test]
fn files_and_options_that_do_not_fit_are_told() {
    let orders = include_bytes!("../../../connect/src/formats/avro/fixtures/orders-null.avro");
    let select = "SELECT * FROM t";
    check_refused("avro", "", "id INT", select, b"{\"id\": 1}\n", 1, &["this is no Avro file", "in/one"]);
    check_refused("parquet", "", "id INT", select, b"{\"id\": 1}\n", 1, &["the Parquet file can't be read", "in/one"]);
    check_refused("avro", "", "id STRING", select, orders, 1, &["field 'id' is of Avro's type long", "in/one"]);
    check_refused(
        "avro",
        "",
        "id BIGINT",
        select,
        &orders[..orders.len() - 5],
        1,
        &["the Avro file is damaged", "in/one"],
    );
    check_refused("avro", ", 'avro.codec' = 'lz4'", "id INT", select, b"", 2, &["avro.codec", "'snappy'"]);
    check_refused("avro", ", 'dead-letter.path' = 'x'", "id INT", select, b"", 2, &["no single records"]);
    check_refused("avro-confluent", "", "id INT", select, b"", 2, &["one of messages, not of files", "'avro'"]);
    let insert = "INSERT INTO t SELECT CAST(NULL AS TIMESTAMP_LTZ(3))";
    check_refused("avro", "", "at_ TIMESTAMP_LTZ(3)", insert, b"", 2, &["'at_'", "timestamp_mapping.legacy"]);
}
