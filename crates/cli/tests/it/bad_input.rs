//! What a person is told who gets something wrong: one sentence with the place, a hint, and the right exit code.

use crate::script::Script;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// The first two lines of every script; what a case adds begins on line 3.
const TABLES: &str = "CREATE TABLE t (id INT, name STRING, price DECIMAL(10, 2), ts TIMESTAMP(3), \
WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'filesystem', 'path' = '${DIR}/t.json', 'format' = 'json');\n\
CREATE TABLE s (id INT, name STRING) WITH ('connector' = 'filesystem', 'path' = '${DIR}/out', 'format' = 'json');\n";
const CSV: &str = "CREATE TABLE c (id INT, name STRING) \
WITH ('connector' = 'filesystem', 'path' = '${DIR}/c.csv', 'format' = 'csv');";
const ROW: &str = "{\"id\": 1, \"name\": \"a\", \"price\": 1.5, \"ts\": \"2024-01-01 00:00:01\"}\n";
const INSERT: &str = "INSERT INTO s SELECT id, name FROM t;";

/// Checks an answer: one error, the exit code, what must be said, and nothing written for a reader to see.
fn check_answer(what: &str, folder: &Path, output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
    assert!(stderr.starts_with("error: "), "{what}: {stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{what}: told more than once: {stderr}");
    assert!(stderr.lines().count() <= 7, "{what}: too much: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{what}: no '{part}' in: {stderr}");
    }
    assert!(output.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    if let Ok(entries) = std::fs::read_dir(folder.join("out")) {
        let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        let seen: Vec<String> = names.filter(|n| !n.starts_with(['.', '_'])).collect();
        assert!(seen.is_empty(), "{what}: left {seen:?}");
    }
}

/// The script is refused before anything runs.
fn refused(sql: &str, parts: &[&str]) {
    let script = Script::new(&format!("{TABLES}{sql}"));
    std::fs::write(script.path("t.json"), ROW).unwrap();
    check_answer(sql, script.folder(), &script.run(&[]), 2, parts);
    assert!(!script.path("out").exists(), "{sql}: made the sink's folder");
}

/// The script runs, and fails over what is in a file.
fn fails(sql: &str, file: &str, content: &[u8], parts: &[&str]) {
    for parallelism in ["1", "2"] {
        let script = Script::new(&format!("{TABLES}{sql}"));
        std::fs::write(script.path("t.json"), ROW).unwrap();
        std::fs::write(script.path(file), content).unwrap();
        let output = script.run(&["--parallelism", parallelism]);
        check_answer(&format!("{file}: {sql}"), script.folder(), &output, 1, parts);
    }
}

#[test]
fn a_percentage_that_is_none_is_told() {
    refused("SELECT PERCENTILE(id, price) FROM t;", &["percentage must be a literal, from 0 to 1", "line 3, column 8"]);
    refused("SELECT PERCENTILE(id, 50) FROM t;", &["percentage must be a literal, from 0 to 1"]);
    refused("SELECT PERCENTILE(id, 'half') FROM t;", &["percentage must be a literal", "CHAR(4)"]);
    refused("SELECT PERCENTILE(name, 0.5) FROM t;", &["PERCENTILE takes a number, but got STRING"]);
    refused("SELECT PERCENTILE(id, 0.5, price) FROM t;", &["a frequency of an integer type"]);
}

#[test]
fn what_is_no_bitmap_or_variant_is_told() {
    refused(
        "SELECT BITMAP_BUILD_AGG(price) FROM t;",
        &["takes a value of type INT, but got DECIMAL(10, 2)", "line 3, column 8"],
    );
    refused("SELECT BITMAP_OR_AGG(id) FROM t;", &["BITMAP_OR_AGG takes a value of type BITMAP, but got INT"]);
    refused("SELECT BITMAP_TO_STRING(id) FROM t;", &["does not take (INT)", "it takes (BITMAP)", "line 3, column 8"]);
    refused("SELECT MAX(BITMAP_BUILD(ARRAY[id])) FROM t;", &["MAX takes a value that has an order, but got BITMAP"]);
    refused("SELECT PARSE_JSON(id) FROM t;", &["does not take (INT)", "it takes (STRING, [BOOLEAN])"]);
    refused("SELECT PARSE_JSON('{') FROM t;", &["'{' can't be parsed as JSON", "line 3, column 8", "TRY_PARSE_JSON"]);
    for (kind, hint) in [("BITMAP", "BITMAP_TO_BYTES"), ("ARRAY<VARIANT>", "JSON_STRING")] {
        let table = format!("CREATE TABLE b (b {kind}) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', ");
        let sql = format!("{table}'format' = 'json');\nINSERT INTO b SELECT CAST(NULL AS {kind}) FROM t;");
        refused(&sql, &["the format 'json' has no column like 'b' of type", kind, hint, "'format'"]);
    }
    let row = b"{\"name\": \"[1]\", \"ts\": \"2024-01-01 00:00:01\"}\n";
    fails("SELECT PARSE_JSON(name)['x'] FROM t;", "t.json", row, &["a field is asked of a VARIANT that is an array"]);
    let row = b"{\"name\": \"[1\", \"ts\": \"2024-01-01 00:00:01\"}\n";
    fails(
        "SELECT PARSE_JSON(name) FROM t;",
        "t.json",
        row,
        &["'[1' can't be parsed as JSON", "the text ends within a value"],
    );
}

#[test]
fn a_changelog_that_can_t_be_read_or_written_is_told() {
    let to =
        |rest: &str, parts: &[&str]| refused(&format!("SELECT * FROM TO_CHANGELOG(input => TABLE t{rest});"), parts);
    to(", op => DESCRIPTOR(id)", &["there is a column 'id' already", "line 3, column", "DESCRIPTOR(name)"]);
    to(", op => 'x'", &["TO_CHANGELOG's argument op must be a descriptor", "op => DESCRIPTOR(op)"]);
    to(", op_mapping => MAP['INSERTED', 'I']", &["'INSERTED' is no kind of change", "line 3, column", "did you mean"]);
    to(", op_mapping => MAP['INSERT', 'a', 'DELETE, INSERT', 'b']", &["op_mapping has INSERT twice"]);
    to(", op_mapping => MAP['INSERT', 1]", &["must be a MAP of texts, and a constant"]);
    to(", codes => MAP['INSERT', 'I']", &["TO_CHANGELOG has no argument CODES", "line 3, column"]);
    refused("SELECT * FROM TO_CHANGELOG(op => DESCRIPTOR(x));", &["TO_CHANGELOG lacks the argument INPUT"]);
    refused("SELECT * FROM TO_CHANGELOG(input => t);", &["first argument must be a table"]);
    let from =
        |rest: &str, parts: &[&str]| refused(&format!("SELECT * FROM FROM_CHANGELOG(input => TABLE t{rest});"), parts);
    from("", &["the table has no column 'op'", "line 3, column 15"]);
    from(", op => DESCRIPTOR(id)", &["operation codes are text, but the column 'id' is of type INT"]);
    from(" PARTITION BY name, op => DESCRIPTOR(name)", &["'name' can't be one of PARTITION BY, too"]);
    from(
        ", op => DESCRIPTOR(name), op_mapping => MAP['u', 'UPDATE_AFTER']",
        &["UPDATE_AFTER without UPDATE_BEFORE", "PARTITION BY the columns that tell rows apart"],
    );
    let updated = "(SELECT name AS op, COUNT(*) AS n FROM t GROUP BY name)";
    let sql = format!("SELECT * FROM FROM_CHANGELOG(input => {updated});");
    refused(&sql, &["FROM_CHANGELOG over rows that are updated"]);
    let parts = ["'a' is no operation code", "DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE", "op_mapping"];
    fails("SELECT * FROM FROM_CHANGELOG(input => TABLE t, op => DESCRIPTOR(name));", "t.json", ROW.as_bytes(), &parts);
}

#[test]
fn syntax_errors_are_told_with_line_and_column() {
    refused("SELECT id FRM t;", &["found `t`", "line 3, column 15", "FROM"]);
    refused("SELECT (id + 1 FROM t;", &["expected `)`", "line 3, column 16", "the `(` at line 3, column 8"]);
    refused("SELECT 'abc FROM t;", &["string is not closed", "line 3, column 8"]);
    refused("SELECT `abc FROM t;", &["quoted name is not closed", "line 3, column 8"]);
    refused("SELECT id /* FROM t;", &["comment is not closed", "line 3, column 11"]);
    refused("SELECT id, FROM t;", &["expected an expression", "line 3, column 12"]);
    refused("SELECT id FROM t WHERE;", &["expected an expression", "line 3, column 23"]);
    refused("SELECT id FROM t GROUP id;", &["line 3, column 18"]);
    refused("SELECT \"id\" FROM t;", &["double quotes", "line 3, column 8", "backquotes"]);
    refused("CREAT TABLE x (a INT);", &["CREAT", "line 3, column 1", "did you mean CREATE?"]);
    refused("CREATE TABLE x (a INTT) WITH ('connector' = 'blackhole');", &["INTT", "line 3, column 19"]);
    refused("CREATE TABLE x (a) WITH ('connector' = 'blackhole');", &["`a` has no type", "line 3, column 17"]);
    refused("CREATE TABLE x (a INT) WITH (connector = 'blackhole');", &["not in quotes", "line 3, column 30"]);
    refused("SELECT id AS value FROM t;", &["reserved word", "line 3, column 14", "`value`"]);
    refused("SELECT CASE WHEN id = 1 THEN 2 FROM t;", &["expected END", "line 3, column 32"]);
    refused("SELECT id FROM t\nSELECT id FROM t;", &["line 4, column 1", "semicolon"]);
    refused("SELECT id FROM t WHERE id == 3;", &["line 3, column 27", "single `=`"]);
    refused("SELECT INTERVAL '1' FORTNIGHT FROM t;", &["FORTNIGHT", "line 3, column 21"]);
    refused("BEGIN STATEMENT SET; INSERT INTO s SELECT id, name FROM t;", &["not closed", "END;"]);
    refused("INSERT INTO s SELECT id, name FROM t; END;", &["END has no BEGIN", "line 3, column 39"]);
}

#[test]
fn unknown_names_are_told_with_the_nearest_known_one() {
    refused("SELECT id FROM tt;", &["no table 'tt'", "line 3, column 16", "did you mean 't'?"]);
    refused("SELECT nmae FROM t;", &["no column 'nmae'", "line 3, column 8", "did you mean 'name'?"]);
    refused("SELECT t.nmae FROM t;", &["no column 'nmae'", "line 3, column 10", "did you mean 'name'?"]);
    refused("SELECT x.name FROM t;", &["'x'", "line 3, column 8", "known are: t"]);
    refused("SELECT UPPR(name) FROM t;", &["no function 'UPPR'", "line 3, column 8", "did you mean 'UPPER'?"]);
    refused("INSERT INTO ss SELECT id, name FROM t;", &["no table 'ss'", "line 3, column 13", "did you mean 's'?"]);
    refused("INSERT INTO s (id, nam) SELECT id, name FROM t;", &["'nam'", "line 3, column 20", "'name'"]);
    refused(
        "SET 'execution.checkpointing.intervall' = '1 s';",
        &["line 3, column 5", "'execution.checkpointing.interval'?"],
    );
    let table = |options: &str| format!("CREATE TABLE x (a INT) WITH ({options}); SELECT * FROM x;");
    refused(&table("'connector' = 'filesytem'"), &["no connector 'filesytem'", "line 3", "did you mean 'filesystem'?"]);
    refused(&table("'connector' = 'rabbitmq'"), &["no connector 'rabbitmq'", "known connectors: blackhole"]);
    refused(
        &table("'connector' = 'filesystem', 'path' = '${DIR}', 'format' = 'jsn'"),
        &["no format 'jsn'", "line 3", "did you mean 'json'?"],
    );
    refused(
        &table("'connector' = 'filesystem', 'pth' = '${DIR}', 'path' = '${DIR}', 'format' = 'json'"),
        &["no option 'pth'", "table 'x'", "line 3, column 58", "did you mean 'path'?"],
    );
    refused(
        &table("'connector' = 'filesystem', 'path' = '${DIR}', 'format' = 'json', 'json.ignore-parse-error' = 'true'"),
        &["did you mean 'json.ignore-parse-errors'?"],
    );
    refused(&table("'connector' = 'datagen', 'fields.b.min' = '1'"), &["fields.b.min", "'fields.a.min'?"]);
    refused("DROP TABLE nope;", &["no table 'nope'", "line 3, column 12", "known are: s, t"]);
    refused("CREATE TABLE x LIKE tt;", &["no table 'tt'", "line 3, column 21"]);
}

#[test]
fn wrong_types_are_told_with_what_is_expected() {
    refused("SELECT id FROM t WHERE ts > 3;", &["(TIMESTAMP(3), INT)", "line 3, column 24"]);
    refused("SELECT id FROM t WHERE id;", &["WHERE must be a BOOLEAN", "line 3, column 24"]);
    refused("SELECT UPPER(id) FROM t;", &["UPPER", "line 3, column 8", "it takes (STRING)"]);
    refused("SELECT SUBSTRING(name) FROM t;", &["SUBSTRING", "it takes (STRING, INT, [INT])"]);
    refused("SELECT CAST(ts AS INT) FROM t;", &["TIMESTAMP(3) can't be cast to INT", "line 3, column 13"]);
    refused("SELECT CASE WHEN id = 1 THEN ts ELSE 3 END FROM t;", &["CASE", "line 3, column 8"]);
    refused("INSERT INTO s SELECT name, id FROM t;", &["'id'", "line 3", "CAST(name AS INT)"]);
    refused("INSERT INTO s SELECT id FROM t;", &["different number of columns", "line 3"]);
    refused("SELECT id FROM t UNION ALL SELECT id, name FROM t;", &["1 and 2", "line 3, column 28"]);
    refused("SELECT id FROM t UNION ALL SELECT ts FROM t;", &["INT", "TIMESTAMP(3)", "line 3, column 28"]);
    refused("SELECT id FROM t WHERE COUNT(*) > 1;", &["WHERE", "line 3, column 24", "HAVING"]);
    refused("SELECT ARRAY[1, 2][0] FROM t;", &["index 0", "line 3, column 8"]);
    refused("SELECT 1 / 0 FROM t;", &["division by zero", "line 3, column 8"]);
    refused(
        "CREATE TABLE x (a DECIMAL(50, 2)) WITH ('connector' = 'datagen');",
        &["from 1 to 38", "line 3, column 27"],
    );
}

#[test]
fn wrong_options_and_settings_are_told_with_what_they_take() {
    let table = |options: &str| format!("CREATE TABLE x (a INT) WITH ({options}); SELECT * FROM x;");
    let file = |options: &str| {
        table(&format!("'connector' = 'filesystem', 'path' = '${{DIR}}/t.json', 'format' = 'json', {options}"))
    };
    refused(&table("'path' = 'p', 'format' = 'json'"), &["no option 'connector'", "line 3", "WITH ('connector'"]);
    refused("CREATE TABLE x (a INT); SELECT * FROM x;", &["no option 'connector'", "line 3"]);
    refused(&table("'connector' = 'filesystem', 'format' = 'json'"), &["needs the option 'path'", "line 3"]);
    refused(
        &table("'connector' = 'filesystem', 'pth' = '${DIR}', 'format' = 'json'"),
        &["needs the option 'path'", "line 3", "did you mean it by 'pth'?"],
    );
    refused(&table("'connector' = 'filesystem', 'path' = '${DIR}'"), &["needs the option 'format'", "line 3"]);
    refused(&table("'connector' = 'datagen', 'rows-per-second' = '-1'"), &["'-1'", "'rows-per-second'", "line 3"]);
    refused(&table("'connector' = 'datagen', 'rows-per-second' = 'many'"), &["'many'", "'rows-per-second'"]);
    refused(&table("'connector' = 'datagen', 'fields.a.kind' = 'randm'"), &["'random', 'sequence'", "line 3"]);
    refused(&table("'connector' = 'datagen', 'fields.a.min' = '5', 'fields.a.max' = '1'"), &["fields.a.max", "line 3"]);
    refused(&file("'json.ignore-parse-errors' = 'yep'"), &["'yep'", "'true' or 'false'", "line 3"]);
    refused(&file("'source.monitor-interval' = 'soon'"), &["'soon'", "a duration such as '10 s'", "line 3"]);
    refused(&file("'scan.rate-limit.rows-per-second' = '0'"), &["above 0", "line 3"]);
    refused(&file("'format' = 'csv'"), &["'format' is given twice", "line 3"]);
    refused("SET 'execution.checkpointing.interval' = 'soon';", &["'soon'", "a duration", "line 3, column 5"]);
    refused("SET 'table.local-time-zone' = 'Mars/Phobos';", &["'Mars/Phobos'", "'Europe/Berlin'", "line 3, column 5"]);
    refused("SET 'restart-strategy.type' = 'sometimes';", &["'sometimes'", "'fixed-delay'", "line 3, column 5"]);
    refused("SET 'parallelism.default' = 'two';", &["'two'", "whole number", "line 3, column 5"]);
    refused("SET 'parallelism.default' = '100000'; SELECT id FROM t;", &["parallelism.default", "256"]);
}

#[test]
fn an_overwrite_of_what_never_ends_is_told() {
    refused(
        "CREATE TABLE g (id INT) WITH ('connector' = 'datagen');
         CREATE TABLE o (id INT) WITH ('connector' = 'filesystem', 'path' = '${DIR}/o', 'format' = 'json');
         INSERT OVERWRITE o SELECT id FROM t UNION ALL SELECT id FROM g WHERE id > 5;",
        &["INSERT OVERWRITE needs a query that ends", "line 5, column 27", "Source(g) never ends", "INSERT INTO"],
    );
}

#[test]
fn wrong_time_attributes_and_windows_are_told() {
    let table = |columns: &str| format!("CREATE TABLE x ({columns}) WITH ('connector' = 'datagen'); SELECT * FROM x;");
    refused(&table("a STRING, WATERMARK FOR a AS a"), &["'a' is STRING", "line 3, column 41", "TO_TIMESTAMP_LTZ"]);
    refused(&table("a BIGINT, WATERMARK FOR a AS a - 5"), &["'a' is BIGINT", "line 3, column 41"]);
    refused(&table("a TIMESTAMP(3), WATERMARK FOR b AS b"), &["no column 'b'", "line 3, column 47"]);
    refused(&table("a TIMESTAMP(3), WATERMARK FOR a AS CHAR_LENGTH('x')"), &["must be a timestamp", "line 3"]);
    let window =
        |call: &str| format!("SELECT window_start, COUNT(*) FROM TABLE({call}) GROUP BY window_start, window_end;");
    refused(&window("TUMBLE(TABLE t, DESCRIPTOR(id), INTERVAL '1' SECOND)"), &["id", "line 3"]);
    refused(
        &format!(
            "CREATE TABLE x (a TIMESTAMP(3)) WITH ('connector' = 'datagen');\n{}",
            window("TUMBLE(TABLE x, DESCRIPTOR(a), INTERVAL '1' SECOND)")
        ),
        &["'a'", "line 4", "WATERMARK"],
    );
    refused(
        &window("HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '5' SECOND)"),
        &["multiple of its slide", "line 3"],
    );
    refused(&window("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '0' SECOND)"), &["must be positive", "line 3"]);
    refused(&window("TUMBEL(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)"), &["TUMBEL", "line 3", "TUMBLE"]);
    refused(
        "SELECT name, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) \
         GROUP BY window_start, window_end;",
        &["'name' is not being grouped", "line 3, column 8"],
    );
}

#[test]
fn what_is_not_there_yet_is_named_with_its_place() {
    refused("DELETE FROM t WHERE id = 1;", &["DELETE", "line 3, column 1"]);
    refused("UPDATE t SET id = 1;", &["UPDATE", "line 3, column 1"]);
    refused("CREATE FUNCTION f AS 'a.b.C';", &["CREATE FUNCTION", "line 3, column 1"]);
    refused("ALTER TABLE t RENAME TO u;", &["ALTER TABLE", "line 3, column 1"]);
    refused(
        "SELECT id FROM t; INSERT INTO s SELECT id, name FROM t;",
        &["last statement", "line 3, column 1", "INSERT"],
    );
    refused("CREATE TABLE t (a INT) WITH ('connector' = 'print');", &["'t' exists already", "line 3, column 14"]);
    refused("CREATE TABLE x (a INT, a INT) WITH ('connector' = 'print');", &["'a' is declared twice", "line 3"]);
    refused(
        "CREATE TABLE p (a INT) WITH ('connector' = 'print'); SELECT * FROM p;",
        &["can't be read", "line 3, column 68"],
    );
    refused(
        "CREATE TABLE p (a INT) WITH ('connector' = 'datagen'); INSERT INTO p SELECT id FROM t;",
        &["can't be written", "line 3, column 68"],
    );
}

#[test]
fn a_record_that_cannot_be_decoded_is_told_with_file_line_and_reason() {
    let after = |line: &str| format!("{ROW}{ROW}{line}\n{ROW}");
    let json = |line: &str, parts: &[&str]| {
        fails(INSERT, "t.json", after(line).as_bytes(), &[&["t.json, line 3", "dead-letter.path"], parts].concat());
    };
    json("{\"id\": 1, \"name\": ", &["'name'"]);
    json("[1, 2]", &["an object was expected"]);
    json("{\"id\": \"abc\"}", &["'id'", "'abc' is no INT"]);
    json("{\"id\": 99999999999}", &["'id'", "out of range for INT"]);
    json("{\"id\": 1, \"ts\": \"yesterday\"}", &["'ts'", "'yesterday' is no TIMESTAMP(3)"]);
    json("{\"id\": {\"a\": 1}}", &["'id'", "is no INT"]);
    let bytes = [ROW.as_bytes(), b"{\"id\": 1, \"name\": \"\xff\xfe\"}\n"].concat();
    fails(INSERT, "t.json", &bytes, &["t.json, line 2", "UTF-8"]);
    let csv = |content: &[u8], parts: &[&str]| {
        fails(&format!("{CSV} INSERT INTO s SELECT id, name FROM c;"), "c.csv", content, parts);
    };
    csv(b"1,a\n2,b\nx,c\n", &["c.csv, line 3", "'id'", "'x' is no INT"]);
    csv(b"1,a\n2\n", &["c.csv, line 2", "1 field", "2 columns"]);
    csv(b"1,a\n2,b,c\n", &["c.csv, line 2", "3 fields", "2 columns"]);
    csv(b"1,a\n2,\"b\n", &["c.csv, line 2", "closing quote"]);
    csv(b"1,a\n2,\xff\xfe\n", &["c.csv, line 2", "'name'", "UTF-8"]);
}

#[test]
fn a_damaged_gzip_file_is_told() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    (0..2000).for_each(|i| writeln!(encoder, "{{\"id\": {i}, \"ts\": \"2024-01-01 00:00:01\"}}").unwrap());
    let whole = encoder.finish().unwrap();
    let sql = "CREATE TABLE z WITH ('path' = '${DIR}/z.json.gz') LIKE t (OVERWRITING OPTIONS);\n\
        INSERT INTO s SELECT id, name FROM z;";
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 16].fill(0xFF);
    fails(sql, "z.json.gz", &corrupt, &["z.json.gz", "damaged"]);
    fails(sql, "z.json.gz", &whole[..middle], &["z.json.gz", "damaged"]);
    fails(sql, "z.json.gz", ROW.as_bytes(), &["z.json.gz", "damaged", "gzip header"]);
}

#[test]
fn a_value_that_cannot_be_computed_is_told_with_the_expression() {
    let row = ROW.as_bytes();
    fails("INSERT INTO s SELECT id / (id - 1), name FROM t;", "t.json", row, &["division by zero", "(id / (id - 1))"]);
    fails("INSERT INTO s SELECT CAST(name AS INT), name FROM t;", "t.json", row, &["'a' can't be cast", "TRY_CAST"]);
    fails(
        "INSERT INTO s SELECT id, DATE_FORMAT(ts, 'yyyy') FROM t;",
        "t.json",
        b"{\"id\": 1, \"ts\": null}\n",
        &["time attribute", "NULL", "Source(t)", "filter the rows"],
    );
}

#[test]
fn missing_inputs_and_unwritable_outputs_are_told_before_anything_runs() {
    let script = Script::new(&format!("{TABLES}{INSERT}"));
    check_answer(
        "no input",
        script.folder(),
        &script.run(&[]),
        2,
        &["no file or folder", "t.json", "'path'", "line 1"],
    );
    std::fs::write(script.path("t.json"), ROW).unwrap();
    std::fs::write(script.path("out"), "a file").unwrap();
    check_answer("out is a file", script.folder(), &script.run(&[]), 2, &["out", "is not a folder", "'path'"]);
    let script = Script::new(&format!("{TABLES}{INSERT}").replace("${DIR}/out", "/proc/no-such/out"));
    std::fs::write(script.path("t.json"), ROW).unwrap();
    check_answer("out in /proc", script.folder(), &script.run(&[]), 2, &["/proc/no-such/out", "can't be written"]);
    let script = Script::new(&format!("{TABLES}{INSERT}"));
    std::fs::write(script.path("t.json"), ROW).unwrap();
    let scratch = ["--set", "io.tmp.dirs=/proc/no-such"];
    check_answer("scratch", script.folder(), &script.run(&scratch), 2, &["/proc/no-such", "'io.tmp.dirs'"]);
}

#[test]
fn scripts_that_are_none_are_told() {
    let run = |prepare: &dyn Fn(&Path), parts: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let output = command.current_dir(folder.path()).args(["run", "job.sql"]).output().unwrap();
        check_answer(&format!("{parts:?}"), folder.path(), &output, 2, parts);
    };
    let write = |bytes: &'static [u8]| move |folder: &Path| std::fs::write(folder.join("job.sql"), bytes).unwrap();
    run(&|_| (), &["no such script", "job.sql"]);
    run(&|folder| std::fs::create_dir(folder.join("job.sql")).unwrap(), &["is a folder", "job.sql"]);
    run(&write(b""), &["is empty", "job.sql"]);
    run(&write(b"SELECT 1;\nSELECT '\xff\xfe';"), &["not valid UTF-8", "job.sql, line 2"]);
}

#[test]
fn wrong_flags_are_told() {
    let wrong = |args: &[&str], code: i32, parts: &[&str]| {
        let script = Script::new(&format!("{TABLES}{INSERT}"));
        std::fs::write(script.path("t.json"), ROW).unwrap();
        check_answer(&format!("{args:?}"), script.folder(), &script.run(args), code, parts);
    };
    wrong(&["--parallelism", "0"], 2, &["'0'", "--parallelism", "from 1 to 256"]);
    wrong(&["--parallelism", "-1"], 2, &["'-1'", "--parallelism"]);
    wrong(&["--parallelism", "two"], 2, &["'two'", "--parallelism"]);
    wrong(&["--parallelism", "100000"], 2, &["'100000'", "--parallelism"]);
    wrong(&["--processes", "0"], 2, &["'0'", "--processes"]);
    wrong(&["--format", "xml"], 2, &["'xml'", "table, jsonl, csv"]);
    wrong(&["--set", "abc"], 2, &["--set abc", "KEY=VALUE"]);
    wrong(&["--set", "execution.checkpointing.intervall=1 s"], 2, &["'execution.checkpointing.interval'?"]);
    wrong(&["--set", "execution.checkpointing.interval=soon"], 2, &["'soon'", "a duration"]);
    wrong(&["--set", "parallelism.default=-1"], 2, &["'-1'", "whole number"]);
    wrong(&["--from", "nowhere"], 1, &["no checkpoint (nowhere)", "manifest-<epoch>.json"]);
    wrong(&["--from", "/no/such/manifest-1.json"], 1, &["no checkpoint", "manifest-1.json"]);
    wrong(&["--state-dir", "t.json"], 1, &["t.json", "state directory"]);
    wrong(&["--state-dir", "/proc/no-such"], 1, &["/proc/no-such", "state directory"]);
    wrong(&["--sett", "a=b"], 2, &["--sett", "--set"]);
}
