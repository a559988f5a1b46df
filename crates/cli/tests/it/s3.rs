//! An S3-compatible server as source, sink and place of checkpoints, with kills in between.
//!
//! `cargo xtask test` installs the server and names it in `MILLSTREAM_S3_SERVER`; without it these
//! tests say that they did nothing.

use crate::script::{Script, stdout_of};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server on a free port of this machine, with a bucket called `bucket`; it ends with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Option<Server> {
        let Some(program) = std::env::var_os("MILLSTREAM_S3_SERVER") else {
            eprintln!("skipped: MILLSTREAM_S3_SERVER names no server; 'cargo xtask test' installs one");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Server { process, port };
        loop {
            match server.request("PUT /bucket", "") {
                Some(answer) if answer.starts_with("HTTP/1.1 200") => return Some(server),
                Some(answer) => panic!("the bucket can't be made: {answer}"),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
            assert!(server.process.try_wait().unwrap().is_none(), "the server has ended");
        }
    }
    /// The answer to a request, if the server is there.
    fn request(&self, what: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let host = format!("Host: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close", self.port, body.len());
        stream.write_all(format!("{what} HTTP/1.1\r\n{host}\r\n\r\n{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
    /// The keys below `prefix`, from the server's own listing.
    fn keys(&self, prefix: &str) -> Vec<String> {
        let answer = self.request(&format!("GET /bucket?list-type=2&max-keys=10000&prefix={prefix}"), "").unwrap();
        answer.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()).map(str::to_string).collect()
    }
    /// The settings that lead a script to it.
    fn settings(&self) -> String {
        format!(
            "SET 's3.endpoint' = 'http://127.0.0.1:{}'; SET 's3.access-key' = 'key'; SET 's3.secret-key' = 'secret';
            SET 's3.path.style.access' = 'true';",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const ROWS: i64 = 12_000;

/// The partition of row `i`.
fn partition(i: i64) -> Option<&'static str> {
    [Some("a"), Some("b/c d%"), None][(i % 3) as usize]
}

#[test]
fn partitions_in_s3_are_written_exactly_once_over_kills_and_read_back() {
    let Some(server) = Server::start() else { return };
    let table = "CREATE TABLE kept (id BIGINT, part STRING) PARTITIONED BY (part)
          WITH ('connector' = 'filesystem', 'path' = 's3://bucket/some/table', 'format' = 'json');";
    let script = Script::new(&format!(
        "{} SET 'execution.checkpointing.interval' = '100 ms'; SET 'state.checkpoints.dir' = 's3://bucket/checkpoints';
        CREATE TABLE numbers (id BIGINT, part STRING)
          WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/in.json', 'format' = 'json',
                'scan.rate-limit.rows-per-second' = '1500');
        {table}
        INSERT INTO kept SELECT id, part FROM numbers;",
        server.settings()
    ));
    let mut input = String::new();
    for i in 0..ROWS {
        input.push_str(&serde_json::json!({"id": i, "part": partition(i)}).to_string());
        input.push('\n');
    }
    std::fs::write(script.path("in.json"), input).unwrap();
    let start = || {
        let mut command = script.command("run", &["--parallelism", "2"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for pause_ms in [900, 300, 1100, 700, 1000] {
        let mut job = start();
        std::thread::sleep(Duration::from_millis(pause_ms));
        assert!(job.try_wait().unwrap().is_none(), "the job ended too soon for this test");
        job.kill().unwrap();
        job.wait().unwrap();
    }
    assert!(!server.keys("checkpoints/").is_empty());
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'1500'", "'1000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "2"]));
    let keys = server.keys("some/table/");
    assert!(keys.iter().any(|k| k.contains("part=__DEFAULT_PARTITION__/")), "{keys:?}");

    let reading = Script::new(&format!("{table} SELECT id, part FROM kept;"));
    let mut command = reading.command("run", &["--parallelism", "2", "--format", "jsonl"]);
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    command.env("AWS_ENDPOINT", endpoint).env("AWS_ALLOW_HTTP", "true");
    let output = command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").output().unwrap();
    let mut found = BTreeMap::new();
    for line in stdout_of(&output).lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (id, part) = (row["row"]["id"].as_i64().unwrap(), row["row"]["part"].as_str().map(str::to_string));
        assert!(found.insert(id, part).is_none(), "row {id} came twice");
    }
    let expected: BTreeMap<_, _> = (0..ROWS).map(|i| (i, partition(i).map(str::to_string))).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_bucket_that_is_not_there_is_told() {
    let Some(server) = Server::start() else { return };
    let script = Script::new(&format!(
        "{} CREATE TABLE t (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 's3://no-bucket/t', 'format' = 'json');
        SELECT id FROM t;",
        server.settings()
    ));
    let output = script.run(&["--set", "restart-strategy.type=none"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("no-bucket"), "{stderr}");
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("SELECT id FROM t", "INSERT INTO t VALUES (1)")).unwrap();
    let output = script.run(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("no-bucket"), "{stderr}");
}
