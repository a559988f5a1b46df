//! Scripts planned against a connector that exists only here: plans, derived types and errors.

mod changelogs;
mod create_as;
mod hints;
mod join_order;
mod match_recognize;
mod ranks;
mod sameness;

use expect_test::{Expect, expect};
use millstream_core::connector::{Connector, ConnectorRegistry, SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::settings::Settings;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::{Source, SourceContext, SourceReader};
use millstream_core::{Error, Result, Schema};
use millstream_sql::{Output, PlanOptions, Planned, explain, plan_script};
use std::sync::Arc;

#[derive(Debug)]
struct Test;

impl ConnectorRegistry for Test {
    fn connector(&self, name: &str) -> Result<Arc<dyn Connector>> {
        match name {
            "test" => Ok(Arc::new(Test)),
            other => Err(Error::script(format!("there is no connector '{other}'")).hint("did you mean 'test'?")),
        }
    }
}

impl Connector for Test {
    fn name(&self) -> &str {
        "test"
    }
    fn source(&self, table: &TableDef, _: &SessionInfo) -> Result<Arc<dyn Source>> {
        let changelog = match table.options.get("changes").map(String::as_str) {
            Some("upsert") => ChangelogMode::UPSERT,
            Some(_) => ChangelogMode::ALL,
            None => ChangelogMode::INSERT_ONLY,
        };
        Ok(Arc::new(TestSource(table.schema.clone(), changelog)))
    }
    fn sink(&self, table: &TableDef, _: WriteMode, _: &SessionInfo) -> Result<Arc<dyn Sink>> {
        let accepts = match table.options.contains_key("changes") {
            true => ChangelogMode::UPSERT,
            false => ChangelogMode::ALL,
        };
        Ok(Arc::new(TestSink(table.name.clone(), accepts)))
    }
}

#[derive(Debug)]
struct TestSource(Schema, ChangelogMode);

impl Source for TestSource {
    fn schema(&self) -> &Schema {
        &self.0
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(TestSource(schema, self.1)))
    }
    fn changelog(&self) -> ChangelogMode {
        self.1
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        let fields = self.0.fields.iter().map(|f| format!("{} {}", f.name, f.data_type));
        format!("test({})", fields.collect::<Vec<_>>().join(", "))
    }
    fn open(&self, _: SourceContext) -> Result<Box<dyn SourceReader>> {
        Err(Error::internal("a test's source is not read"))
    }
}

#[derive(Debug)]
struct TestSink(String, ChangelogMode);

impl Sink for TestSink {
    fn accepts(&self) -> ChangelogMode {
        self.1
    }
    fn describe(&self) -> String {
        format!("test sink {}", self.0)
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn open(&self, _: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Err(Error::internal("a test's sink is not written"))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Err(Error::internal("a test's sink does not commit"))
    }
}

const TABLES: &str = "\
CREATE TABLE ev (id INT, k STRING, v INT, x DOUBLE, r ROW<a INT, b ROW<c STRING, d INT>>, ts TIMESTAMP(3), \
pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'test'); \
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'test');\n";

mod subqueries;

fn plan(script: &str, parallelism: usize) -> Result<Planned> {
    let text = format!("{TABLES}{script}");
    let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] };
    let select_sink: Option<Arc<dyn Sink>> = Some(Arc::new(TestSink("select".into(), ChangelogMode::ALL)));
    let (settings, registry) = (Settings::default(), Arc::new(Test));
    plan_script(&text, PlanOptions { settings, registry, session, name: "test".into(), parallelism, select_sink })
}

fn check(script: &str, parallelism: usize, expected: Expect) {
    let shown = plan(script, parallelism).map_or_else(|e| format!("error: {e}\n"), |planned| explain(&planned));
    expected.assert_eq(&shown);
}

/// The types of a SELECT's columns.
fn types(script: &str) -> String {
    match plan(script, 1) {
        Err(e) => format!("error: {e}"),
        Ok(planned) => match planned.output {
            Output::Select { schema, .. } => {
                schema.fields.iter().map(|f| format!("{} {}\n", f.name, f.data_type)).collect()
            }
            Output::Inserts | Output::Nothing => "no select".into(),
        },
    }
}

/// Each statement's error; the script's first line holds the tables, so places are on line 2.
fn errors(scripts: &[&str]) -> String {
    scripts
        .iter()
        .map(|script| match plan(script, 1) {
            Ok(_) => format!("{script:.100}\n  no error\n"),
            Err(e) => format!("{script:.100}\n  {e}\n"),
        })
        .collect()
}

#[test]
fn a_filter_and_a_projection_read_only_their_columns() {
    check(
        "INSERT INTO o SELECT k, CAST(v + 1 AS BIGINT) FROM ev WHERE r.b.d > 3",
        1,
        expect![[r#"
            Sink(o) id=sink:o changelog=[I]
            |   test sink o
            |   columns: k STRING, n BIGINT
            +- Calc id=sink:o/calc changelog=[I]
               |   select: k, CAST((v + 1) AS BIGINT) AS n
               |   where: (r.b.d > 3)
               +- Source(ev) id=source:ev changelog=[I]
                      test(k STRING, v INT, r ROW<`b` ROW<`d` INT>>, ts TIMESTAMP(3))
                      columns: k STRING, v INT, r ROW<`b` ROW<`d` INT>>, ts TIMESTAMP(3)
                      watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn a_window_function_and_its_aggregate_become_one() {
    check(
        "SELECT k, window_start, COUNT(*) AS c, SUM(v) FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' \
         MINUTE)) WHERE x > 1 GROUP BY k, window_start, window_end HAVING COUNT(*) > 1",
        4,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: k STRING, window_start TIMESTAMP(3) NOT NULL, c BIGINT NOT NULL, EXPR$3 INT
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: k, window_start, $agg0 AS c, $agg1 AS EXPR$3
               |   where: ($agg0 > 1)
               +- GlobalWindowAggregate id=select/aggregate changelog=[I]
                  |   window: TUMBLE(size 60000 ms) on event time
                  |   keys: k
                  |   aggregates: Count(*): BIGINT NOT NULL, Sum(partial): INT
                  |   properties: window_start
                  |   state: select/aggregate/slices
                  |   state: select/aggregate/due
                  +- hash[k] LocalWindowAggregate id=select/local-aggregate changelog=[I]
                     |   window: TUMBLE(size 60000 ms) on event time ts
                     |   keys: k
                     |   aggregates: Count(*): BIGINT NOT NULL, Sum($a1_0): INT
                     |   properties: window_start
                     +- Calc id=select/calc changelog=[I]
                        |   select: k, v AS $a1_0, ts
                        |   where: (x > 1.0)
                        +- Source(ev) id=source:ev changelog=[I]
                               test(k STRING, v INT, x DOUBLE, ts TIMESTAMP(3))
                               columns: k STRING, v INT, x DOUBLE, ts TIMESTAMP(3)
                               watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn grouping_sets_expand_before_the_exchange() {
    check(
        "SELECT window_start, k, GROUPING(k) AS g, COUNT(*) AS c FROM TABLE(HOP(TABLE ev, DESCRIPTOR(ts), INTERVAL \
         '5' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end, GROUPING SETS ((k), ())",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: window_start TIMESTAMP(3) NOT NULL, k STRING, g BIGINT NOT NULL, c BIGINT NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: window_start, k, CASE(($e = 1), 1, 0) AS g, $agg0 AS c
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: HOP(slide 5000 ms, size 10000 ms) on event time ts
                  |   keys: k, $e
                  |   aggregates: Count(*): BIGINT NOT NULL
                  |   properties: window_start
                  |   state: select/aggregate/slices
                  |   state: select/aggregate/due
                  +- hash[k, $e] Expand id=select/expand changelog=[I]
                     |   row: k, 0 AS $e, ts
                     |   row: NULL AS k, 1 AS $e, ts
                     +- Source(ev) id=source:ev changelog=[I]
                            test(k STRING, ts TIMESTAMP(3))
                            columns: k STRING, ts TIMESTAMP(3)
                            watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn a_window_over_windows_is_attached() {
    check(
        "SELECT window_start, window_end, MAX(c) AS m FROM (SELECT k, window_start, window_end, COUNT(*) AS c FROM \
         TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end) \
         GROUP BY window_start, window_end",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, m BIGINT NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: window_start, window_end, $agg0 AS m
               +- WindowAggregate id=select/aggregate#2 changelog=[I]
                  |   window: attached(window_start, window_end) on event time window_end
                  |   aggregates: Max($a0_0): BIGINT NOT NULL
                  |   properties: window_start, window_end
                  |   state: select/aggregate#2/slices
                  |   state: select/aggregate#2/due
                  +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                     |   select: $agg0 AS $a0_0, window_start, window_end
                     +- WindowAggregate id=select/aggregate changelog=[I]
                        |   window: TUMBLE(size 10000 ms) on event time ts
                        |   keys: k
                        |   aggregates: Count(*): BIGINT NOT NULL
                        |   properties: window_start, window_end
                        |   state: select/aggregate/slices
                        |   state: select/aggregate/due
                        +- hash[k] Source(ev) id=source:ev changelog=[I]
                               test(k STRING, ts TIMESTAMP(3))
                               columns: k STRING, ts TIMESTAMP(3)
                               watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn group_windows_session_and_processing_time() {
    check(
        "SELECT k, SESSION_START(ts, INTERVAL '5' SECOND) AS s, SESSION_ROWTIME(ts, INTERVAL '5' SECOND) AS rt, \
         COUNT(DISTINCT v) FROM ev GROUP BY k, SESSION(ts, INTERVAL '5' SECOND)",
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: k STRING, s TIMESTAMP(3) NOT NULL, rt TIMESTAMP(3) NOT NULL, EXPR$3 BIGINT NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: k, window_start AS s, window_time AS rt, $agg0 AS EXPR$3
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: SESSION(gap 5000 ms) on event time ts
                  |   keys: k
                  |   aggregates: Count(DISTINCT v): BIGINT NOT NULL
                  |   properties: window_start, window_time
                  |   state: select/aggregate/sessions
                  |   state: select/aggregate/due
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(k STRING, v INT, ts TIMESTAMP(3))
                         columns: k STRING, v INT, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    check(
        "SELECT COUNT(*) FROM ev GROUP BY TUMBLE(pt, INTERVAL '1' SECOND)",
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: EXPR$0 BIGINT NOT NULL
            +- hash[] (all to one worker) WindowAggregate id=select/aggregate changelog=[I]
               |   window: TUMBLE(size 1000 ms) on processing time
               |   aggregates: Count(*): BIGINT NOT NULL
               |   state: select/aggregate/slices
               |   state: select/aggregate/due
               +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                  |   select: 
                  +- Source(ev) id=source:ev changelog=[I]
                         test(ts TIMESTAMP(3))
                         columns: ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn a_session_function_and_its_aggregate_become_one_if_they_have_the_same_keys() {
    let session = "TABLE(SESSION(TABLE ev PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND))";
    check(
        &format!("SELECT k, window_end, SUM(v) FROM {session} GROUP BY k, window_start, window_end"),
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: k STRING, window_end TIMESTAMP(3) NOT NULL, EXPR$2 INT
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: k, window_end, $agg0 AS EXPR$2
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: SESSION(gap 5000 ms) on event time ts
                  |   keys: k
                  |   aggregates: Sum(v): INT
                  |   properties: window_end
                  |   state: select/aggregate/sessions
                  |   state: select/aggregate/due
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(k STRING, v INT, ts TIMESTAMP(3))
                         columns: k STRING, v INT, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    // What groups otherwise, or is dropped, has counted for the sessions.
    check(
        &format!("SELECT window_end, SUM(v) FROM {session} WHERE v > 1 GROUP BY window_start, window_end"),
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: window_end TIMESTAMP(3) NOT NULL, EXPR$1 INT
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: window_end, $agg0 AS EXPR$1
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: attached(window_start, window_end) on event time window_end
                  |   aggregates: Sum($a0_0): INT
                  |   properties: window_end
                  |   state: select/aggregate/slices
                  |   state: select/aggregate/due
                  +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                     |   select: v AS $a0_0, window_start, window_end
                     |   where: (v > 1)
                     +- WindowAssign id=select/window changelog=[I]
                        |   window: SESSION(gap 5000 ms) on event time ts
                        |   keys: k
                        |   state: select/window/rows
                        |   state: select/window/due
                        +- hash[k] Source(ev) id=source:ev changelog=[I]
                               test(k STRING, v INT, ts TIMESTAMP(3))
                               columns: k STRING, v INT, ts TIMESTAMP(3)
                               watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    check(
        &format!("SELECT id, window_start FROM {session}"),
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: id INT, window_start TIMESTAMP(3) NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: id, window_start
               +- WindowAssign id=select/window changelog=[I]
                  |   window: SESSION(gap 5000 ms) on event time ts
                  |   keys: k
                  |   state: select/window/rows
                  |   state: select/window/due
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(id INT, k STRING, ts TIMESTAMP(3))
                         columns: id INT, k STRING, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn distinct_rows_of_a_window_are_an_aggregate_without_calls() {
    check(
        "SELECT DISTINCT window_end, k, window_start FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' \
         SECOND))",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: window_end TIMESTAMP(3) NOT NULL, k STRING, window_start TIMESTAMP(3) NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: window_end, k, window_start
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: TUMBLE(size 1000 ms) on event time ts
                  |   keys: k
                  |   properties: window_end, window_start
                  |   state: select/aggregate/slices
                  |   state: select/aggregate/due
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(k STRING, ts TIMESTAMP(3))
                         columns: k STRING, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn views_rename_columns_and_keep_what_they_mean() {
    check(
        "CREATE VIEW a AS SELECT k AS key1, ts AS t, v FROM ev; CREATE VIEW b (kk, tt, vv) AS SELECT * FROM a; SELECT \
         kk, CAST(SUM(vv) AS BIGINT) AS n FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(tt), INTERVAL '1' SECOND)) GROUP BY \
         kk, window_start, window_end",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: kk STRING, n BIGINT
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: kk, CAST($agg0 AS BIGINT) AS n
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: TUMBLE(size 1000 ms) on event time ts
                  |   keys: k
                  |   aggregates: Sum(v): INT
                  |   state: select/aggregate/slices
                  |   state: select/aggregate/due
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(k STRING, v INT, ts TIMESTAMP(3))
                         columns: k STRING, v INT, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn a_statement_set_reads_each_source_once() {
    check(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO o SELECT k, id FROM ev; INSERT INTO o (n) SELECT v FROM ev WHERE \
         v > 1; END;",
        1,
        expect![[r#"
            Sink(o) id=sink:o changelog=[I]
            |   test sink o
            |   columns: k STRING, n BIGINT
            +- Calc id=sink:o/calc changelog=[I]
               |   select: k, CAST(id AS BIGINT) AS n
               +- Source(ev) id=source:ev changelog=[I]
                      test(id INT, k STRING, v INT, ts TIMESTAMP(3))
                      columns: id INT, k STRING, v INT, ts TIMESTAMP(3)
                      watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
            Sink(o) id=sink:o#2 changelog=[I]
            |   test sink o
            |   columns: k STRING, n BIGINT
            +- Calc id=sink:o#2/calc changelog=[I]
               |   select: NULL AS k, CAST(v AS BIGINT) AS n
               |   where: (v > 1)
               +- Source(ev) [see source:ev]
        "#]],
    );
}

#[test]
fn derived_types_are_flinks() {
    expect![[r#"
        a INT
        b STRING
        c DECIMAL(3, 2) NOT NULL
    "#]]
    .assert_eq(&types(
        "SELECT a, b, c FROM (VALUES (1, 'x', 1.5), (2, CAST(NULL AS STRING), 2.25), (CAST(NULL AS INT), 'é', 3.0)) AS \
         t(a, b, c) WHERE a IS NULL OR a < 2",
    ));
    expect![[r#"
        id INT
        v INT
        window_start TIMESTAMP(3) NOT NULL
        window_end TIMESTAMP(3) NOT NULL
        window_time TIMESTAMP(3) NOT NULL
    "#]]
    .assert_eq(&types(
        "SELECT id, v, window_start, window_end, window_time FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' \
         DAY)) WHERE v > 50",
    ));
    expect![[r#"
        k STRING
        window_start TIMESTAMP(3) NOT NULL
        window_end TIMESTAMP(3) NOT NULL
        c BIGINT NOT NULL
        mi INT
        a DECIMAL(38, 6)
    "#]]
    .assert_eq(&types(
        "SELECT k, window_start, window_end, COUNT(*) AS c, MIN(id) AS mi, AVG(CAST(v AS DECIMAL(10, 2))) AS a FROM \
         TABLE(SESSION(TABLE ev PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY k, window_start, \
         window_end",
    ));
}

#[test]
fn mistakes_are_told_with_their_place() {
    expect![[r#"
        SELECT kk FROM ev
          there is no column 'kk' (line 2, column 8)
          hint: did you mean 'k'?
        SELECT r.z FROM ev
          the row has no field 'z' (line 2, column 10)
          hint: known are: a, b
        SELECT e.k FROM ev AS f
          there is no table or column 'e' (line 2, column 8)
          hint: known are: f, id, k, v, x, r, ts, pt
        SELECT * FROM evv
          there is no table 'evv' (line 2, column 15)
          hint: did you mean 'ev'?
        SELECT * FROM other.ev
          there is no database 'other' (line 2, column 15)
        SELECT t.* FROM ev
          there is no table 't' in FROM (line 2, column 8)
          hint: known are: ev
        SELECT v.a FROM ev
          'a' is asked of a INT, which is no ROW (line 2, column 10)
        SELECT v, COUNT(*) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)
          expression 'v' is not being grouped (line 2, column 8)
          hint: add it to GROUP BY, or put it into an aggregate such as MAX(..)
        SELECT COUNT(*) FROM ev GROUP BY TUMBLE(id, INTERVAL '1' SECOND)
          a window needs a time attribute, but 'id' is INT (line 2, column 41)
          hint: declare WATERMARK FOR the column in CREATE TABLE, or use a computed column AS PROCTIME()
        SELECT TUMBLE_START(ts, INTERVAL '2' SECOND) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)
          TUMBLE_START needs the same TUMBLE(..) in GROUP BY (line 2, column 8)
        SELECT * FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(id), INTERVAL '1' SECOND))
          a window needs a time attribute, but 'id' is INT (line 2, column 49)
          hint: declare WATERMARK FOR the column in CREATE TABLE, or use a computed column AS PROCTIME()
        SELECT * FROM TABLE(HOP(TABLE ev, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND))
          HOP needs a size that is a multiple of its slide, but got size 10000 ms and slide 3000 ms (line 2, column 21)
        SELECT * FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts)))
          TUMBLE lacks the argument SIZE (line 2, column 21)
          hint: TUMBLE(DATA, TIMECOL, SIZE, OFFSET)
        SELECT * FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' MONTH))
          the window's size can't be in months or years (line 2, column 63)
        SELECT * FROM TABLE(TUMBLE(TABLE ev PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND))
          TUMBLE takes no PARTITION BY; only SESSION does (line 2, column 50)
        SELECT * FROM TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND)
          the table function TUMBLE must stand in TABLE(..) (line 2, column 15)
          hint: write TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), ..))
        SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY GROUPI
          window_start in only some of the grouping sets is not supported yet (line 2, column 111)
          hint: put window_start outside of them: GROUP BY window_start, GROUPING SETS (..)
        SELECT GROUPING(v) FROM ev GROUP BY k, TUMBLE(ts, INTERVAL '1' SECOND)
          expression 'v' is not being grouped (line 2, column 17)
          hint: add it to GROUP BY, or put it into an aggregate such as MAX(..)
        SELECT SUM(SUM(v)) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)
          aggregates can't be nested (line 2, column 12)
        SELECT COUNT(*) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND), TUMBLE(pt, INTERVAL '1' SECOND)
          GROUP BY takes only one group window (line 2, column 67)
        SELECT w, COUNT(*) FROM TABLE(TUMBLE((SELECT ts + INTERVAL '1' SECOND AS w FROM ev), DESCRIPTOR(w), 
          a window needs a time attribute, but 'w' is TIMESTAMP(3) (line 2, column 97)
          hint: declare WATERMARK FOR the column in CREATE TABLE, or use a computed column AS PROCTIME()
        SELECT * FROM ev WHERE v
          WHERE must be a BOOLEAN, but is INT (line 2, column 24)
        SELECT * FROM ev WHERE COUNT(*) > 1
          an aggregate can't stand in WHERE (line 2, column 24)
          hint: conditions on aggregates stand in HAVING
        SELECT nosuch(v) FROM ev
          there is no function 'NOSUCH' (line 2, column 8)
        SELECT v FROM ev UNION ALL SELECT v, k FROM ev
          the two sides of UNION ALL have different numbers of columns: 1 and 2 (line 2, column 28)
          hint: columns are matched by their place
        INSERT INTO o SELECT k FROM ev
          column types of query result and sink for 'o' do not match (line 2, column 13)
          detail: cause: different number of columns
          detail: query schema: [k: STRING]
          detail: sink schema:  [k: STRING, n: BIGINT]
          hint: the query gives 1 columns, the sink takes 2
        INSERT INTO o SELECT k, x FROM ev
          column types of query result and sink for 'o' do not match (line 2, column 13)
          detail: cause: incompatible types for sink column 'n' at position 1
          detail: query schema: [k: STRING, x: DOUBLE]
          detail: sink schema:  [k: STRING, n: BIGINT]
          hint: write CAST(x AS BIGINT)
        INSERT INTO o (k, m) SELECT k, v FROM ev
          table 'o' has no column 'm' (line 2, column 19)
          hint: known are: k, n
        INSERT INTO oo SELECT k, v FROM ev
          there is no table 'oo' (line 2, column 13)
          hint: did you mean 'o'?
        CREATE TABLE ev (a INT) WITH ('connector' = 'test')
          the table or view 'ev' exists already (line 2, column 14)
          hint: drop it first, or write IF NOT EXISTS
        CREATE TABLE n (a INT, a INT) WITH ('connector' = 'test')
          column 'a' is declared twice (line 2, column 24)
        CREATE TABLE n (a INT)
          table 'n' has no option 'connector' (line 2, column 14)
          hint: add WITH ('connector' = '...')
        CREATE TABLE n (a INT, WATERMARK FOR b AS b) WITH ('connector' = 'test')
          there is no column 'b' (line 2, column 38)
          hint: known are: a
        CREATE TABLE n (a INT, WATERMARK FOR a AS a) WITH ('connector' = 'test')
          a watermark needs a TIMESTAMP(3) or TIMESTAMP_LTZ(3) column, but 'a' is INT (line 2, column 38)
          hint: add a computed column, such as `ts AS TO_TIMESTAMP_LTZ(ms, 3)`
        CREATE TABLE n (a INT) WITH ('connector' = 'tst'); SELECT a FROM n
          there is no connector 'tst' (line 2, column 14)
          hint: did you mean 'test'?
        DROP TABLE n
          there is no table 'n' (line 2, column 12)
          hint: known are: ev, o
        SET 'no.such.key' = '1'
          there is no setting 'no.such.key' (line 2, column 5)
          hint: docs/settings.md lists the settings
        SELECT DATE '2024-13-01'
          '2024-13-01' is not a valid DATE literal (line 2, column 13)
        SELECT NULL
          the type of NULL is not known here (line 2, column 1)
          hint: give it a type: CAST(NULL AS STRING)
        SELECT SUM(k) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)
          SUM takes a number, but got STRING (line 2, column 8)
        SELECT ev.k FROM ev JOIN o
          a join needs a condition: ON or USING (line 2, column 26)
          hint: CROSS JOIN puts each row beside each; ON TRUE does so in an outer join
        SELECT k LIKE 'a' ESCAPE 'xx' FROM ev
          ESCAPE takes one character, but got 'xx' (line 2, column 8)
        SELECT 1e400
          the number 1e400 is out of range (line 2, column 8)
        SELECT default_database.other.k FROM ev
          there is no table or column 'default_database' (line 2, column 8)
          hint: known are: ev, id, k, v, x, r, ts, pt
        CREATE CATALOG c WITH ('type' = 'x')
          CREATE CATALOG is not supported yet (line 2, column 1)
        ALTER TABLE ev RENAME TO f
          ALTER TABLE is not supported yet (line 2, column 1)
    "#]]
    .assert_eq(&errors(&[
        "SELECT kk FROM ev",
        "SELECT r.z FROM ev",
        "SELECT e.k FROM ev AS f",
        "SELECT * FROM evv",
        "SELECT * FROM other.ev",
        "SELECT t.* FROM ev",
        "SELECT v.a FROM ev",
        "SELECT v, COUNT(*) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)",
        "SELECT COUNT(*) FROM ev GROUP BY TUMBLE(id, INTERVAL '1' SECOND)",
        "SELECT TUMBLE_START(ts, INTERVAL '2' SECOND) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)",
        "SELECT * FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(id), INTERVAL '1' SECOND))",
        "SELECT * FROM TABLE(HOP(TABLE ev, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND))",
        "SELECT * FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts)))",
        "SELECT * FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' MONTH))",
        "SELECT * FROM TABLE(TUMBLE(TABLE ev PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND))",
        "SELECT * FROM TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND)",
        "SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY GROUPING SETS \
         ((window_start, window_end, k), (k))",
        "SELECT GROUPING(v) FROM ev GROUP BY k, TUMBLE(ts, INTERVAL '1' SECOND)",
        "SELECT SUM(SUM(v)) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)",
        "SELECT COUNT(*) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND), TUMBLE(pt, INTERVAL '1' SECOND)",
        "SELECT w, COUNT(*) FROM TABLE(TUMBLE((SELECT ts + INTERVAL '1' SECOND AS w FROM ev), DESCRIPTOR(w), INTERVAL \
         '1' SECOND)) GROUP BY w, window_start, window_end",
        "SELECT * FROM ev WHERE v",
        "SELECT * FROM ev WHERE COUNT(*) > 1",
        "SELECT nosuch(v) FROM ev",
        "SELECT v FROM ev UNION ALL SELECT v, k FROM ev",
        "INSERT INTO o SELECT k FROM ev",
        "INSERT INTO o SELECT k, x FROM ev",
        "INSERT INTO o (k, m) SELECT k, v FROM ev",
        "INSERT INTO oo SELECT k, v FROM ev",
        "CREATE TABLE ev (a INT) WITH ('connector' = 'test')",
        "CREATE TABLE n (a INT, a INT) WITH ('connector' = 'test')",
        "CREATE TABLE n (a INT)",
        "CREATE TABLE n (a INT, WATERMARK FOR b AS b) WITH ('connector' = 'test')",
        "CREATE TABLE n (a INT, WATERMARK FOR a AS a) WITH ('connector' = 'test')",
        "CREATE TABLE n (a INT) WITH ('connector' = 'tst'); SELECT a FROM n",
        "DROP TABLE n",
        "SET 'no.such.key' = '1'",
        "SELECT DATE '2024-13-01'",
        "SELECT NULL",
        "SELECT SUM(k) FROM ev GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)",
        "SELECT ev.k FROM ev JOIN o",
        "SELECT k LIKE 'a' ESCAPE 'xx' FROM ev",
        "SELECT 1e400",
        "SELECT default_database.other.k FROM ev",
        "CREATE CATALOG c WITH ('type' = 'x')",
        "ALTER TABLE ev RENAME TO f",
    ]));
}

#[test]
fn rows_that_are_not_appended_only_come_with_their_old_version_where_it_is_needed() {
    check(
        "SELECT n, COUNT(*) FROM (SELECT a.k, COUNT(DISTINCT b.v) AS n, COUNT(DISTINCT b.v) FILTER (WHERE b.x > 1) FROM ev a LEFT \
         JOIN ev b ON a.id = b.v + 1 AND b.x > 2 AND a.v < b.v GROUP BY a.k) GROUP BY n",
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA,D]
            |   test sink select
            |   columns: n BIGINT NOT NULL, EXPR$1 BIGINT NOT NULL
            |   upsert key: [n]
            +- hash[] (all to one worker) GroupAggregate id=select/aggregate#2 changelog=[I,UB,UA,D]
               |   keys: n
               |   aggregates: Count(*): BIGINT NOT NULL
               |   upsert key: [n]
               |   state: select/aggregate#2/groups
               +- hash[n] Calc id=select/calc#4 changelog=[I,UB,UA,D]
                  |   select: n
                  +- GroupAggregate id=select/aggregate changelog=[I,UB,UA,D]
                     |   keys: k
                     |   aggregates: Count(DISTINCT $a0_0): BIGINT NOT NULL
                     |   upsert key: [k]
                     |   state: select/aggregate/groups
                     |   state: select/aggregate/values0
                     +- hash[k] Calc id=select/calc#3 changelog=[I,D]
                        |   select: k, v AS $a0_0
                        +- Join id=select/join changelog=[I,D]
                           |   LEFT on [id = $key0]
                           |   where: (v < v)
                           |   state: select/join/left
                           |   state: select/join/right
                           +- hash[id] Calc id=select/calc changelog=[I]
                           |  |   select: id, k, v
                           |  +- Source(ev) id=source:ev changelog=[I]
                           |         test(id INT, k STRING, v INT, x DOUBLE, ts TIMESTAMP(3))
                           |         columns: id INT, k STRING, v INT, x DOUBLE, ts TIMESTAMP(3)
                           |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                           +- hash[$key0] Calc id=select/calc#2 changelog=[I]
                              |   select: v, (v + 1) AS $key0
                              |   where: (x > 2.0)
                              +- Source(ev) [see source:ev]
        "#]],
    );
}

#[test]
fn joins_of_windows_and_of_intervals_let_go_of_their_rows() {
    check(
        "SELECT a.id, b.id FROM ev a, ev b WHERE a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '5' SECOND AND b.ts + INTERVAL '1' MINUTE",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: id INT, id0 INT
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: id, id AS id0
               +- IntervalJoin id=select/join changelog=[I]
                  |   INNER on [k = k]
                  |   where: ((ts >= (ts - +0 00:00:05.000)) AND (ts <= (ts + +0 00:01:00.000)))
                  |   rows leave: ts + 5001 ms, ts + 60001 ms
                  |   state: select/join/left
                  |   state: select/join/right
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                  |      test(id INT, k STRING, ts TIMESTAMP(3))
                  |      columns: id INT, k STRING, ts TIMESTAMP(3)
                  |      watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[k] Source(ev) [see source:ev]
        "#]],
    );
    check(
        "SELECT a.id, b.id FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND)) a FULL JOIN TABLE(TUMBLE(TABLE ev, \
         DESCRIPTOR(ts), INTERVAL '1' SECOND)) b ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k IS NOT \
         DISTINCT FROM b.k",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: id INT, id0 INT
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: id, id AS id0
               +- WindowJoin id=select/join changelog=[I]
                  |   FULL on [window_start = window_start, window_end = window_end, k IS NOT DISTINCT FROM k]
                  |   rows leave: window_end + 0 ms, window_end + 0 ms
                  |   state: select/join/left
                  |   state: select/join/right
                  +- hash[window_start, window_end, k] Calc id=select/calc changelog=[I]
                  |  |   select: id, k, window_start, window_end
                  |  +- WindowAssign id=select/window changelog=[I]
                  |     |   window: TUMBLE(size 1000 ms) on event time ts
                  |     +- Source(ev) id=source:ev changelog=[I]
                  |            test(id INT, k STRING, ts TIMESTAMP(3))
                  |            columns: id INT, k STRING, ts TIMESTAMP(3)
                  |            watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[window_start, window_end, k] Calc [see select/calc]
        "#]],
    );
}
