//! Running the binary on a script in a folder of its own, and what a script's mistakes are answered with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a script in it.
pub struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    /// A script of this text; `${DIR}` stands for its folder.
    pub fn new(text: &str) -> Script {
        let folder = tempfile::tempdir().unwrap();
        let script = Script { folder };
        let text = text.replace("${DIR}", script.folder().to_str().unwrap());
        std::fs::write(script.folder().join("job.sql"), text).unwrap();
        script
    }
    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }
    /// `millstream COMMAND job.sql ARGS`, not started yet.
    pub fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_millstream"));
        c.current_dir(self.folder()).arg(command).arg("job.sql").args(args).stdin(Stdio::null());
        c
    }
    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command("run", args).output().unwrap()
    }
}

/// Standard output, of a run that must have succeeded.
pub fn stdout_of(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "exit {:?}: {stderr}", output.status.code());
    String::from_utf8(output.stdout.clone()).unwrap()
}

const TABLE: &str = "CREATE TABLE t (id INT, name STRING) WITH ('connector' = 'filesystem', 'path' = '${DIR}/t.json', 'format' = 'json');\n";

/// The script is refused with `code`, and what it says contains each of `parts`; nothing is on stdout.
fn check_refused(sql: &str, code: i32, parts: &[&str]) {
    let script = Script::new(&format!("{TABLE}{sql}"));
    std::fs::write(script.path("t.json"), "{\"id\": 1, \"name\": \"a\"}\n").unwrap();
    let output = script.run(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{sql}: {stderr}");
    assert!(stderr.starts_with("error: "), "{sql}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{sql}: no '{part}' in: {stderr}");
    }
    assert!(output.stdout.is_empty(), "{sql}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_missing_script_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream")).args(["run", "no-such.sql"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such.sql"));
}

#[test]
fn mistakes_in_a_script_are_told_with_their_place_and_exit_code_2() {
    check_refused("SELECT idd FROM t;", 2, &["idd", "line 2"]);
    check_refused("SELECT id FROM tt;", 2, &["tt", "line 2"]);
    check_refused("SELECT id FRM t;", 2, &["line 2"]);
    check_refused("SELECT NO_SUCH_FN(id) FROM t;", 2, &["NO_SUCH_FN"]);
    check_refused(
        "SET 'execution.checkpointing.intervall' = '1 s'; SELECT id FROM t;",
        2,
        &["execution.checkpointing.interval"],
    );
    check_refused("SET 'execution.checkpointing.interval' = 'soon'; SELECT id FROM t;", 2, &["duration"]);
}

#[test]
fn a_division_by_zero_fails_the_job_with_exit_code_1() {
    check_refused("SELECT 1 / (id - 1) AS x FROM t;", 1, &["zero"]);
}

#[test]
fn a_select_prints_one_json_object_a_row() {
    let script = Script::new(&format!("{TABLE}SELECT id + 1 AS n, UPPER(name) AS name FROM t;"));
    std::fs::write(script.path("t.json"), "{\"id\": 1, \"name\": \"a\"}\n{\"id\": 2, \"name\": null}\n").unwrap();
    let lines = stdout_of(&script.run(&["--parallelism", "1", "--format", "jsonl"]));
    assert_eq!(
        lines,
        "{\"op\":\"+I\",\"row\":{\"n\":2,\"name\":\"A\"}}\n{\"op\":\"+I\",\"row\":{\"n\":3,\"name\":null}}\n"
    );
}
