//! Tables of changes and of versions: plans and errors.

use super::{check, plan};
use expect_test::expect;
use millstream_sql::explain;

const CHANGES: &str = "\
CREATE TABLE up (id INT, name STRING, n INT, PRIMARY KEY (id) NOT ENFORCED) \
WITH ('connector' = 'test', 'changes' = 'upsert'); \
CREATE TABLE cdc (id INT, n INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'test', 'changes' = 'all'); \
CREATE TABLE nokey (id INT, n INT) WITH ('connector' = 'test', 'changes' = 'all'); \
CREATE TABLE rates (cur STRING, rate INT, ts TIMESTAMP(3), note STRING, WATERMARK FOR ts AS ts, \
PRIMARY KEY (cur) NOT ENFORCED) WITH ('connector' = 'test'); \
CREATE TABLE keyed (k BIGINT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) \
WITH ('connector' = 'test', 'changes' = 'upsert'); ";

fn with(script: &str) -> String {
    format!("{CHANGES}{script}")
}

#[test]
fn a_changelog_without_old_rows_is_made_full_by_its_primary_key() {
    check(
        &with("SELECT name, COUNT(*) FROM up WHERE n > 1 GROUP BY name"),
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA,D]
            |   test sink select
            |   columns: name STRING, EXPR$1 BIGINT NOT NULL
            |   upsert key: [name]
            +- hash[] (all to one worker) GroupAggregate id=select/aggregate changelog=[I,UB,UA,D]
               |   keys: name
               |   aggregates: Count(*): BIGINT NOT NULL
               |   upsert key: [name]
               |   state: select/aggregate/groups
               +- hash[name] Calc id=select/calc changelog=[I,UB,UA,D]
                  |   select: name
                  |   where: (n > 1)
                  +- ChangelogNormalize id=select/normalize changelog=[I,UB,UA,D]
                     |   key: id
                     |   upsert key: [id]
                     |   state: select/normalize/rows
                     +- hash[id] Source(up) id=source:up changelog=[I,UA,D]
                            test(id INT NOT NULL, name STRING, n INT)
                            columns: id INT NOT NULL, name STRING, n INT
                            upsert key: [id]
        "#]],
    );
}

#[test]
fn old_rows_are_not_made_where_no_one_needs_them() {
    check(
        &with("INSERT INTO keyed SELECT id, n FROM up"),
        1,
        expect![[r#"
            Sink(keyed) id=sink:keyed changelog=[I,UA,D]
            |   test sink keyed
            |   columns: k BIGINT NOT NULL, n BIGINT
            |   upsert key: [k]
            +- hash[k] Calc id=sink:keyed/calc changelog=[I,UA,D]
               |   select: CAST(id AS BIGINT) AS k, CAST(n AS BIGINT) AS n
               |   upsert key: [k]
               +- ChangelogNormalize id=sink:keyed/normalize changelog=[I,UA,D]
                  |   key: id
                  |   upsert key: [id]
                  |   state: sink:keyed/normalize/rows
                  +- hash[id] Source(up) id=source:up changelog=[I,UA,D]
                         test(id INT NOT NULL, n INT)
                         columns: id INT NOT NULL, n INT
                         upsert key: [id]
        "#]],
    );
}

#[test]
fn a_full_changelog_is_taken_as_it_is_unless_it_may_repeat_itself() {
    check(
        &with("SELECT SUM(n) FROM cdc"),
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA,D]
            |   test sink select
            |   columns: EXPR$0 INT
            |   upsert key: one row
            +- hash[] (all to one worker) GroupAggregate id=select/aggregate changelog=[I,UB,UA,D]
               |   aggregates: Sum(n): INT
               |   upsert key: one row
               |   state: select/aggregate/groups
               +- hash[] (all to one worker) Source(cdc) id=source:cdc changelog=[I,UB,UA,D]
                      test(n INT)
                      columns: n INT
        "#]],
    );
    check(
        &with("SET 'table.exec.source.cdc-events-duplicate' = 'true'; SELECT SUM(n) FROM cdc"),
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA,D]
            |   test sink select
            |   columns: EXPR$0 INT
            |   upsert key: one row
            +- hash[] (all to one worker) GroupAggregate id=select/aggregate changelog=[I,UB,UA,D]
               |   aggregates: Sum($a0_0): INT
               |   upsert key: one row
               |   state: select/aggregate/groups
               +- hash[] (all to one worker) Calc id=select/calc changelog=[I,UB,UA,D]
                  |   select: n AS $a0_0
                  +- ChangelogNormalize id=select/normalize changelog=[I,UB,UA,D]
                     |   key: id
                     |   upsert key: [id]
                     |   state: select/normalize/rows
                     +- hash[id] Source(cdc) id=source:cdc changelog=[I,UB,UA,D]
                            test(id INT NOT NULL, n INT)
                            columns: id INT NOT NULL, n INT
                            upsert key: [id]
        "#]],
    );
}

#[test]
fn a_join_with_versions_reads_their_key_and_time() {
    check(
        &with(
            "SELECT e.id, r.rate FROM ev AS e LEFT JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON UPPER(e.k) = r.cur AND e.v > 3",
        ),
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: id INT, rate INT
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: id, rate
               +- TemporalJoin id=select/temporal-join changelog=[I]
                  |   LEFT on [$key0 = cur]
                  |   versions since ts as of ts
                  |   where: (v > 3)
                  |   state: select/temporal-join/left
                  |   state: select/temporal-join/versions
                  +- hash[$key0] Calc id=select/calc changelog=[I]
                  |  |   select: id, v, ts, UPPER(k) AS $key0
                  |  +- Source(ev) id=source:ev changelog=[I]
                  |         test(id INT, k STRING, v INT, ts TIMESTAMP(3))
                  |         columns: id INT, k STRING, v INT, ts TIMESTAMP(3)
                  |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[cur] Source(rates) id=source:rates changelog=[I]
                         test(cur STRING NOT NULL, rate INT, ts TIMESTAMP(3))
                         columns: cur STRING NOT NULL, rate INT, ts TIMESTAMP(3)
                         watermark: ts AS ts, every 200 ms
        "#]],
    );
}

#[test]
fn joins_with_versions_are_refused_with_the_reason() {
    let joins = [
        "JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON e.id = r.rate",
        "JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON e.k <> r.cur",
        "JOIN rates FOR SYSTEM_TIME AS OF e.pt AS r ON e.k = r.cur",
        "JOIN rates FOR SYSTEM_TIME AS OF e.id AS r ON e.k = r.cur",
        "JOIN rates FOR SYSTEM_TIME AS OF e.ts + INTERVAL '1' SECOND AS r ON e.k = r.cur",
        "JOIN rates FOR SYSTEM_TIME AS OF e.tss AS r ON e.k = r.cur",
        "RIGHT JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON e.k = r.cur",
        "JOIN cdc FOR SYSTEM_TIME AS OF e.ts AS r ON e.id = r.id",
        "JOIN ev FOR SYSTEM_TIME AS OF e.ts AS r ON e.id = r.id",
    ];
    let others = [
        "SELECT * FROM rates FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01 00:00:00'",
        "SET 'table.exec.source.cdc-events-duplicate' = 'true'; SELECT * FROM nokey",
    ];
    let scripts = joins.iter().map(|join| format!("SELECT e.id FROM ev AS e\n{join}"));
    let shown: String = scripts
        .chain(others.map(str::to_string))
        .map(|script| {
            // Each stands on a line of its own.
            let error = plan(&format!("{CHANGES}\n{script}"), 1).expect_err("refused");
            format!("{}\n  {error}\n", script.lines().last().unwrap_or_default())
        })
        .collect();
    expect![[r#"
        JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON e.id = r.rate
          the condition of a join with versions must compare the whole key for equality (line 4, column 47)
          detail: the key: cur
          hint: add an equality for each of: cur
        JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON e.k <> r.cur
          the condition of a join with versions must compare the whole key for equality (line 4, column 47)
          detail: the key: cur
          hint: add an equality for each of: cur
        JOIN rates FOR SYSTEM_TIME AS OF e.pt AS r ON e.k = r.cur
          a join with 'r' as it is now is not supported yet (line 4, column 34)
          detail: table 'rates' has event time (WATERMARK FOR), so its rows are versions
          hint: at processing time rows are looked up in a table of files or of a database; versions are joined by event time
        JOIN rates FOR SYSTEM_TIME AS OF e.id AS r ON e.k = r.cur
          FOR SYSTEM_TIME AS OF needs the time attribute of the table on the left (line 4, column 34)
          hint: name the column that WATERMARK FOR is declared for, as it comes from the table
        JOIN rates FOR SYSTEM_TIME AS OF e.ts + INTERVAL '1' SECOND AS r ON e.k = r.cur
          FOR SYSTEM_TIME AS OF needs the time attribute of the table on the left (line 4, column 34)
          hint: name the column that WATERMARK FOR is declared for, as it comes from the table
        JOIN rates FOR SYSTEM_TIME AS OF e.tss AS r ON e.k = r.cur
          there is no column 'tss' (line 4, column 36)
          hint: did you mean 'ts'?
        RIGHT JOIN rates FOR SYSTEM_TIME AS OF e.ts AS r ON e.k = r.cur
          a join with FOR SYSTEM_TIME AS OF that is neither INNER nor LEFT is not supported yet (line 4, column 40)
        JOIN cdc FOR SYSTEM_TIME AS OF e.ts AS r ON e.id = r.id
          'r' has no versions in time: it has no column of event time (line 4, column 32)
          hint: declare WATERMARK FOR its time, and keep that column in a view over it
        JOIN ev FOR SYSTEM_TIME AS OF e.ts AS r ON e.id = r.id
          'r' has no versions: nothing says which rows are of one key (line 4, column 31)
          hint: declare PRIMARY KEY (..) NOT ENFORCED, or join with a view of each key's last row by ROW_NUMBER()
        SELECT * FROM rates FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01 00:00:00'
          FOR SYSTEM_TIME AS OF but on the right side of a JOIN is not supported yet (line 3, column 15)
        SET 'table.exec.source.cdc-events-duplicate' = 'true'; SELECT * FROM nokey
          table 'nokey' needs a primary key (line 2, column 253)
          detail: 'table.exec.source.cdc-events-duplicate' says that its changes may come twice
          hint: add PRIMARY KEY (..) NOT ENFORCED to its columns
    "#]]
    .assert_eq(&shown);
}

#[test]
fn before_an_upsert_sink_with_another_key_the_last_row_of_each_is_found() {
    check(
        &with("INSERT INTO keyed SELECT n, id FROM up"),
        2,
        expect![[r#"
        Sink(keyed) id=sink:keyed changelog=[I,UA,D]
        |   test sink keyed
        |   columns: k BIGINT NOT NULL, n BIGINT NOT NULL
        |   upsert key: [k]
        +- hash[k] SinkMaterialize id=sink:keyed/materialize changelog=[I,UA,D]
           |   ROW_NUMBER from 1 to 1
           |   keys: k
           |   order: latest arrival
           |   upsert key: [k]
           |   state: sink:keyed/materialize/rows
           +- hash[k] Calc id=sink:keyed/calc changelog=[I,UB,UA,D]
              |   select: NOT_NULL(CAST(n AS BIGINT)) AS k, CAST(id AS BIGINT) AS n
              |   upsert key: [n]
              +- ChangelogNormalize id=sink:keyed/normalize changelog=[I,UB,UA,D]
                 |   key: id
                 |   upsert key: [id]
                 |   state: sink:keyed/normalize/rows
                 +- hash[id] Source(up) id=source:up changelog=[I,UA,D]
                        test(id INT NOT NULL, n INT)
                        columns: id INT NOT NULL, n INT
                        upsert key: [id]
    "#]],
    );
    // The key is the query's, or the rows don't change, or no one wants it.
    for script in [
        "INSERT INTO keyed SELECT id, n FROM up",
        "INSERT INTO keyed SELECT v, COUNT(*) FROM ev GROUP BY v",
        "INSERT INTO keyed SELECT v, id FROM ev",
        "SET 'table.exec.sink.upsert-materialize' = 'NONE'; INSERT INTO keyed SELECT n, id FROM up",
    ] {
        let plan = explain(&plan(&with(script), 1).unwrap());
        assert!(!plan.contains("SinkMaterialize"), "{script}\n{plan}");
    }
}
