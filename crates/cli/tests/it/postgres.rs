//! A real PostgreSQL server, whose tables are read and looked up in: types, caches, retries, and kills in between.
//!
//! `cargo xtask test` finds or installs the server's programs and names their folder in `MILLSTREAM_POSTGRES`; without it
//! these tests say that they did nothing.

use crate::process::Running;
use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The user `nobody`: the server refuses to be run by root.
const NOBODY: u32 = 65534;
const PASSWORD: &str = "secret of the test";
const DEADLINE: Duration = Duration::from_secs(100);

/// A server of an empty database on a free port of this machine; it ends with the test.
struct Server {
    process: Option<Child>,
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start() -> Option<Server> {
        let Some(programs) = std::env::var_os("MILLSTREAM_POSTGRES") else {
            eprintln!("skipped: MILLSTREAM_POSTGRES names no folder; 'cargo xtask test' finds or installs a server");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server { process: None, programs: programs.into(), folder, port };
        if is_root() {
            std::os::unix::fs::chown(server.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let password = server.folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let mut init = server.program("initdb");
        init.args(["--no-sync", "--username=tester", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]);
        init.arg("--pwfile").arg(&password).arg("--pgdata").arg(server.data());
        let output = init.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.run();
        Some(server)
    }
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
    /// A program of the server's, run by a user that it takes.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
    /// Runs the server, and waits until it answers.
    fn run(&mut self) {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + DEADLINE;
        while self.try_execute("SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    /// Stops it at once.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SAFETY: a plain system call without pointers; SIGQUIT ends the server with all its processes.
            unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGQUIT) };
            let _ = process.wait();
        }
    }
    fn try_execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(self.port).user("tester").password(PASSWORD).dbname("postgres");
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            let driven = tokio::spawn(connection);
            let outcome = client.batch_execute(sql).await;
            drop(client);
            let _ = driven.await;
            outcome
        })
    }
    fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap_or_else(|e| panic!("{sql}: {:?}", e.as_db_error()));
    }
    /// A CREATE TABLE of one of its tables, with more options.
    fn table(&self, name: &str, columns: &str, options: &str) -> String {
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = 'jdbc', 'table-name' = '{name}',
               'url' = 'jdbc:postgresql://127.0.0.1:{}/postgres', 'username' = 'tester', 'password' = '{PASSWORD}'{options});\n",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    // SAFETY: a plain system call without pointers.
    unsafe { libc::geteuid() == 0 }
}

const NUMBERS: &str = "CREATE TABLE numbers (id BIGINT, name STRING, p AS PROCTIME())
    WITH ('connector' = 'filesystem', 'path' = '${DIR}/in.json', 'format' = 'json');\n";

fn script(sql: &str, input: impl Iterator<Item = Value>) -> Script {
    let script = Script::new(&format!("{NUMBERS}{sql}"));
    std::fs::write(script.path("in.json"), input.map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    script
}

fn rows(output: &Output) -> Vec<String> {
    let row = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["row"].as_object().unwrap().values().map(|v| v.to_string().replace('"', "")).collect::<Vec<_>>().join(" ")
    };
    let mut rows: Vec<String> = stdout_of(output).lines().map(row).collect();
    rows.sort();
    rows
}

fn run(script: &Script, args: &[&str]) -> Vec<String> {
    rows(&script.run(&[args, &["--format", "jsonl"]].concat()))
}

/// A table with a column of every type, two rows and one of NULLs.
const TYPES: &str = "CREATE TABLE types (k integer, b boolean, s smallint, l bigint, f real, d double precision, n numeric(10, 3),
      c char(4), v varchar(10), t text, y bytea, dd date, tt time(3), ts timestamp(3), tz timestamptz);
    INSERT INTO types VALUES
      (1, true, -3, 9223372036854775807, 1.5, -0.1, 12.345, 'ab', 'a b', E'x\\ny\"z', '\\x00ff10', '2024-02-29', '23:59:58.123',
       '2024-02-29 23:59:59.123', '2024-02-29 23:59:59.123+02'),
      (2, false, 0, 0, 'NaN', '-Infinity', -0.5, 'wxyz', '', 'ü', '', '1969-12-31', '00:00:00', '1969-12-31 23:59:59.999',
       '1970-01-01 00:00:00+00'),
      (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);";
const TYPED: &str =
    "k INT, b BOOLEAN, s SMALLINT, l BIGINT, f FLOAT, d DOUBLE, n DECIMAL(10, 3), c CHAR(4), v VARCHAR(10),
    t STRING, y BYTES, dd DATE, tt TIME(3), ts TIMESTAMP(3), tz TIMESTAMP_LTZ(3)";
const TYPED_ROWS: [&str; 3] = [
    "1 true -3 9223372036854775807 1.5 -0.1 12.345 ab   a b x\\ny\\z AP8Q 2024-02-29 23:59:58.123 2024-02-29 23:59:59.123 \
     2024-02-29 21:59:59.123Z",
    "2 false 0 0 NaN -Infinity -0.500 wxyz  ü  1969-12-31 00:00:00.000 1969-12-31 23:59:59.999 1970-01-01 00:00:00.000Z",
    "3 null null null null null null null null null null null null null null",
];

#[test]
fn a_table_is_read_with_all_its_types() {
    let Some(server) = Server::start() else { return };
    server.execute(TYPES);
    let sql = format!("{}SELECT * FROM types;", server.table("types", TYPED, ""));
    for args in [&["--parallelism", "1"][..], &["--parallelism", "2", "--processes", "2"]] {
        assert_eq!(run(&script(&sql, std::iter::empty()), args), TYPED_ROWS);
    }
    let sql = format!("{}SELECT COUNT(*), MAX(l) FROM types WHERE b;", server.table("types", TYPED, ""));
    let found = run(&script(&sql, std::iter::empty()), &[]);
    assert_eq!(found.last().unwrap(), "1 9223372036854775807");
}

#[test]
fn rows_are_looked_up_by_keys_of_every_type() {
    let Some(server) = Server::start() else { return };
    server.execute(TYPES);
    let table = server.table("types", TYPED, "");
    let ids = || [1, 2, 3].into_iter().map(|id| serde_json::json!({"id": id, "name": "a b"}));
    for on in [
        "CAST(o.id AS INT) = r.k",
        "r.k = CAST(o.id AS INT) AND r.v = o.name",
        "r.b = (o.id = 1) AND o.id = 1",
        "r.s = CAST(o.id - 4 AS SMALLINT)",
        "r.l = 9223372036854775806 + o.id AND o.id = 1",
        "r.n = CAST(12.344 + o.id * 0.001 AS DECIMAL(10, 3))",
        "r.t = CASE WHEN o.id = 1 THEN U&'x\\000ay\"z' END",
        "r.dd = CASE WHEN o.id = 1 THEN DATE '2024-02-29' END",
        "r.tt = CASE WHEN o.id = 1 THEN TIME '23:59:58.123' END AND r.k = 1",
        "r.ts = CASE WHEN o.id = 1 THEN TIMESTAMP '2024-02-29 23:59:59.123' END",
        "r.tz = CASE WHEN o.id = 1 THEN TO_TIMESTAMP_LTZ(1709243999123, 3) END",
        "r.y = CASE WHEN o.id = 1 THEN x'00ff10' END",
    ] {
        let sql = format!("{table}SELECT o.id, r.v FROM numbers o JOIN types FOR SYSTEM_TIME AS OF o.p AS r ON {on};");
        let found = run(&script(&sql, ids()), &["--parallelism", "1"]);
        assert!(found.contains(&"1 a b".to_string()), "{on}: {found:?}");
        assert!(found.iter().all(|row| !row.starts_with("3 ") || on.starts_with("CAST")), "{on}: {found:?}");
    }
    let sql = format!(
        "{table}SELECT o.id, r.v, r.k FROM numbers o LEFT JOIN types FOR SYSTEM_TIME AS OF o.p AS r
         ON r.k = CAST(o.id AS INT) AND r.v = o.name;"
    );
    assert_eq!(run(&script(&sql, ids()), &["--parallelism", "2"]), ["1 a b 1", "2 null null", "3 null null"]);
}

#[test]
fn what_is_kept_of_a_table_is_what_its_options_say() {
    let Some(server) = Server::start() else { return };
    server.execute(
        "CREATE TABLE d (k bigint, v text); INSERT INTO d SELECT n % 1000, n FROM generate_series(0, 1999) AS n",
    );
    server.execute("CREATE INDEX ON d (k)");
    let input = || (0..6000).map(|id| serde_json::json!({"id": id, "name": ""}));
    let mut expected: Vec<String> = (0..6000)
        .flat_map(|id: i64| match id % 1500 {
            k @ 0..1000 => vec![format!("{id} {k}"), format!("{id} {}", k + 1000)],
            _ => vec![format!("{id} null")],
        })
        .collect();
    expected.sort();
    for options in [
        "",
        ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '100'",
        ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.expire-after-write' = '1 h'",
        ", 'lookup.cache' = 'FULL', 'lookup.full-cache.periodic-reload.interval' = '10 ms'",
    ] {
        let sql = format!(
            "{}SELECT n.id, d.v FROM numbers n LEFT JOIN d FOR SYSTEM_TIME AS OF n.p ON MOD(n.id, 1500) = d.k;",
            server.table("d", "k BIGINT, v STRING", options)
        );
        let args = ["--parallelism", "2", "--set", "millstream.batch.rows=500"];
        assert_eq!(run(&script(&sql, input()), &args), expected, "{options}");
    }
}

/// The ids and values that a job has written.
fn written(folder: &Path) -> Vec<(i64, i64)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                found.push((row["id"].as_i64().unwrap(), row["v"].as_i64().unwrap()));
            }
        }
    }
    found.sort_unstable();
    found
}

const ROWS: i64 = 20_000;

/// A job that looks each of many numbers up, slowly, and writes its square.
fn squares(server: &Server) -> Script {
    server.execute("CREATE TABLE squares (k bigint PRIMARY KEY, v bigint);");
    server.execute("INSERT INTO squares SELECT n, n * n FROM generate_series(0, 999) AS n");
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '50 ms';
        SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '1000';
        SET 'restart-strategy.fixed-delay.delay' = '100 ms';
        CREATE TABLE kept (id BIGINT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/out', 'format' = 'json');
        CREATE TABLE slow WITH ('scan.rate-limit.rows-per-second' = '4000') LIKE numbers;
        {}INSERT INTO kept SELECT n.id, d.v FROM slow n
          JOIN squares FOR SYSTEM_TIME AS OF n.p AS d ON MOD(n.id, 1000) = d.k;",
        server.table("squares", "k BIGINT, v BIGINT, PRIMARY KEY (k) NOT ENFORCED", ", 'lookup.max-retries' = '1'")
    );
    script(&sql, (0..ROWS).map(|id| serde_json::json!({"id": id, "name": ""})))
}

fn check_squares(script: &Script) {
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'4000'", "'1000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "2"]));
    assert_eq!(written(&script.path("out")), (0..ROWS).map(|id| (id, (id % 1000).pow(2))).collect::<Vec<_>>());
}

#[test]
fn kills_and_rescales_lose_and_double_nothing() {
    let Some(server) = Server::start() else { return };
    let script = squares(&server);
    let ways = [&["--parallelism", "1"][..], &["--parallelism", "3"], &["--processes", "2", "--parallelism", "2"]];
    for args in ways {
        let mut job = Running::start(&script, args);
        job.wait_for_checkpoints(&script, 4);
        job.signal_worker(1, libc::SIGKILL);
        job.wait_for_checkpoints(&script, 4);
        job.signal(libc::SIGKILL);
        job.wait();
    }
    check_squares(&script);
}

#[test]
fn a_server_that_goes_away_and_comes_back_is_waited_for() {
    let Some(mut server) = Server::start() else { return };
    let script = squares(&server);
    let mut job = Running::start(&script, &["--parallelism", "2"]);
    for _ in 0..2 {
        job.wait_for_checkpoints(&script, 4);
        server.stop();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!job.has_ended(), "{}", job.stderr());
        server.run();
    }
    job.wait_for_checkpoints(&script, 4);
    job.signal(libc::SIGTERM);
    assert!(job.wait().success(), "{}", job.stderr());
    check_squares(&script);
}

#[test]
fn a_row_that_comes_late_is_found_if_the_hint_says_so() {
    let Some(server) = Server::start() else { return };
    server.execute("CREATE TABLE d (k bigint, v text)");
    let sql = format!(
        "{}SELECT /*+ LOOKUP('table' = 'd', 'retry-predicate' = 'lookup_miss', 'retry-strategy' = 'fixed_delay',
             'fixed-delay' = '100 ms', 'max-attempts' = '1000') */ n.id, d.v
         FROM numbers n JOIN d FOR SYSTEM_TIME AS OF n.p ON n.id = d.k;",
        server.table("d", "k BIGINT, v STRING", "")
    );
    let script = script(&sql, [7, 8].into_iter().map(|id| serde_json::json!({"id": id, "name": ""})));
    let mut command = script.command("run", &["--format", "jsonl"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for id in [8, 7] {
        std::thread::sleep(Duration::from_millis(700));
        server.execute(&format!("INSERT INTO d VALUES ({id}, 'late {id}')"));
    }
    assert_eq!(rows(&child.wait_with_output().unwrap()), ["7 late 7", "8 late 8"]);
}

#[test]
fn what_is_wrong_with_a_table_is_told() {
    let Some(server) = Server::start() else { return };
    server.execute("CREATE TABLE d (k bigint, v text); INSERT INTO d VALUES (1, NULL), (1, 'x')");
    let check = |columns: &str, change: &[(&str, &str)], select: &str, code: i32, parts: &[&str]| {
        let table = change.iter().fold(server.table("d", columns, ""), |table, (from, to)| table.replace(from, to));
        let script = script(&format!("{table}{select}"), std::iter::once(serde_json::json!({"id": 1, "name": ""})));
        let output = script.run(&["--set", "restart-strategy.type=none"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "no '{part}' in: {stderr}");
        }
        assert!(!stderr.contains(PASSWORD), "{stderr}");
    };
    let scan = "SELECT * FROM d;";
    let look = "SELECT n.id, d.v FROM numbers n JOIN d FOR SYSTEM_TIME AS OF n.p ON n.id = d.k;";
    let columns = "k BIGINT, v STRING";
    for select in [scan, look] {
        let hint = "'table-name' names a table";
        check(
            columns,
            &[("'table-name' = 'd'", "'table-name' = 'nowhere'")],
            select,
            1,
            &["\"nowhere\" does not exist", hint],
        );
        check(
            "k BIGINT, v STRING, w INT",
            &[],
            &select.replace("d.v", "d.w"),
            1,
            &["w does not exist", "SQLSTATE 42703"],
        );
        check(columns, &[(PASSWORD, "guess")], select, 1, &["password authentication failed", "check 'username'"]);
        check("k BIGINT, v STRING NOT NULL", &[], select, 1, &["column 'v' is NOT NULL, but NULL in the database"]);
        check("k BIGINT, v INT", &[], select, 1, &["column 'v' of the database: 'x' is no INT"]);
        check(columns, &[("127.0.0.1", "127.0.0.2")], select, 1, &["127.0.0.2", "doesn't answer"]);
        check("k BIGINT, v ARRAY<INT>", &[], select, 2, &["column 'v' of type ARRAY<INT>"]);
        check(
            columns,
            &[("jdbc:postgresql:", "jdbc:mysql:")],
            select,
            2,
            &["a database of kind 'mysql'", "option 'url'"],
        );
        check(columns, &[("'username'", "'usrname'")], select, 2, &["'password' needs 'username'"]);
        check(
            columns,
            &[("'table-name'", "'tablename'")],
            select,
            2,
            &["needs the option 'table-name'", "'tablename'"],
        );
    }
    let insert = "INSERT INTO d SELECT id, name FROM numbers;";
    check(columns, &[("'table-name' = 'd'", "'table-name' = 'nowhere'")], insert, 1, &["\"nowhere\" does not exist"]);
    check(
        "k BIGINT, v BYTES",
        &[],
        "INSERT INTO d SELECT id, x'00' FROM numbers;",
        2,
        &["writing column 'v' of type BYTES"],
    );
    let overwrite = "INSERT OVERWRITE d SELECT id, name FROM numbers;";
    check(columns, &[], overwrite, 2, &["INSERT OVERWRITE of 'd'"]);
    let counts = "INSERT INTO d SELECT COUNT(*), name FROM numbers GROUP BY name;";
    check(columns, &[], counts, 2, &["sink 'd' takes [I] rows, but the query gives [I,UB,UA]"]);
    check(
        columns,
        &[("'jdbc',", "'jdbc', 'scan.fetch-size' = '1',")],
        scan,
        2,
        &["'scan.fetch-size' is not supported"],
    );
}

/// What a query of the server's own gives: rows of text.
fn ask(server: &Server, sql: &str) -> Vec<Vec<Option<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.port).user("tester").password(PASSWORD).dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut rows = vec![];
        for message in client.simple_query(sql).await.unwrap() {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect());
            }
        }
        rows
    })
}

#[test]
fn what_is_written_has_the_types_of_the_database() {
    let Some(server) = Server::start() else { return };
    let made = TYPES.replace("y bytea, ", "");
    let (create, _) = made.split_once(';').unwrap();
    server.execute(create);
    server.execute(&create.replace("TABLE types", "TABLE copies").replace("k integer", "k integer PRIMARY KEY"));
    let typed = TYPED.replace("t STRING, y BYTES", "t STRING");
    server.execute(
        "INSERT INTO types VALUES (1, true, -3, 9223372036854775807, 1.5, -0.1, 12.345, 'ab', 'a b', E'x\\ny\"z', '2024-02-29',
           '23:59:58.123', '2024-02-29 23:59:59.123', '2024-02-29 23:59:59.123+02'),
         (2, false, 0, 0, 'NaN', '-Infinity', -0.5, 'wxyz', '', 'ü', '1969-12-31', '00:00:00', '1969-12-31 23:59:59.999',
           '1970-01-01 00:00:00+00'),
         (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    let keyed = format!("{typed}, PRIMARY KEY (k) NOT ENFORCED");
    let sql = format!(
        "{}{}INSERT INTO copies SELECT * FROM types;",
        server.table("types", &typed, ""),
        server.table("copies", &keyed, "")
    );
    for _ in 0..2 {
        stdout_of(&script(&sql, std::iter::empty()).run(&[]));
        let all = |table: &str| ask(&server, &format!("SELECT * FROM {table} ORDER BY k"));
        assert_eq!(all("copies"), all("types"));
    }
}

#[test]
fn changes_are_written_by_key_over_kills() {
    let Some(server) = Server::start() else { return };
    server.execute("CREATE TABLE sums (\"Id\" bigint PRIMARY KEY, total bigint); CREATE TABLE log (id bigint)");
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '50 ms';
        CREATE TABLE slow WITH ('scan.rate-limit.rows-per-second' = '4000') LIKE numbers;
        {}{}INSERT INTO sums SELECT k, s FROM (SELECT MOD(id, 100) AS k, SUM(id) AS s FROM slow GROUP BY MOD(id, 100))
          WHERE MOD(s, 2) = 0;
        INSERT INTO log SELECT id FROM slow;",
        server.table("sums", "`\"Id\"` BIGINT, total BIGINT, PRIMARY KEY (`\"Id\"`) NOT ENFORCED", ""),
        server.table(
            "log",
            "id BIGINT",
            ", 'sink.buffer-flush.max-rows' = '10', 'sink.buffer-flush.interval' = '10 ms'"
        )
    );
    let script = script(&sql, (0..ROWS).map(|id| serde_json::json!({"id": id, "name": ""})));
    for args in [&["--parallelism", "2"][..], &["--parallelism", "1"], &["--processes", "2", "--parallelism", "2"]] {
        let mut job = Running::start(&script, args);
        job.wait_for_checkpoints(&script, 4);
        job.signal(libc::SIGKILL);
        job.wait();
    }
    let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
    std::fs::write(script.path("job.sql"), text.replace("'4000'", "'1000000'")).unwrap();
    stdout_of(&script.run(&["--parallelism", "3"]));
    let total = |k: i64| (k..ROWS).step_by(100).sum::<i64>();
    let expected: Vec<_> = (0..100)
        .filter(|k| total(*k) % 2 == 0)
        .map(|k| vec![Some(k.to_string()), Some(total(k).to_string())])
        .collect();
    assert_eq!(ask(&server, "SELECT * FROM sums ORDER BY 1"), expected);
    // Without a key what follows the last checkpoint is written again: at least once.
    let counts = ask(&server, "SELECT COUNT(DISTINCT id), COUNT(*) FROM log").remove(0);
    assert_eq!(counts[0], Some(ROWS.to_string()));
}
