//! The parser's tests: whole scripts, what Flink's syntax becomes, messages, and texts that are no SQL.

use super::ast::*;
use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use sqlparser::ast::{SelectItem, SetExpr, TableFactor};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parser")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn parse(text: &str) -> Vec<Statement> {
    parse_script(text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// The only statement of a text.
fn one(text: &str) -> StatementKind {
    let mut statements = parse(text);
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).kind
}

fn query(text: &str) -> Box<Query> {
    match one(text) {
        StatementKind::Query(query) => query,
        other => panic!("{text} is no query but {other:?}"),
    }
}

fn select(text: &str) -> sqlparser::ast::Select {
    match *query(text).body {
        SetExpr::Select(select) => *select,
        other => panic!("{text} is no SELECT but {other:?}"),
    }
}

fn expr(text: &str) -> Expr {
    match select(&format!("SELECT {text} FROM t")).projection.remove(0) {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
        other => panic!("{text} is no expression but {other:?}"),
    }
}

fn relation(text: &str) -> TableFactor {
    select(&format!("SELECT * FROM {text}")).from.remove(0).relation
}

/// An expression's tree, printed.
fn check_expr(text: &str, expect: &str) {
    assert_eq!(render(&expr(text)), expect, "{text}");
}

fn check_error(text: &str, expect: Expect) {
    match parse_script(text) {
        Ok(statements) => panic!("{text} is taken: {statements:?}"),
        Err(error) => expect.assert_eq(&error.to_string()),
    }
}

#[test]
fn corpus_of_statements_parses() {
    let text = read(&fixtures().join("corpus.sql"));
    let mut failed = vec![];
    for part in text.split("\n\n") {
        if let Err(error) = parse_script(part) {
            failed.push(format!("{part}\n{error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert_eq!(parse(&text).len(), 105);
}

#[test]
fn conformance_scripts_parse() {
    let mut count = 0;
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/conformance");
    for case in std::fs::read_dir(cases).expect("the cases are in the repository") {
        let path = case.expect("the cases are readable").path().join("job.sql");
        let text = read(&path);
        match parse_script(&text) {
            Ok(statements) => assert!(statements.len() >= 2 || path.ends_with("query_values/job.sql"), "{path:?}"),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        count += 1;
    }
    assert!(count >= 72);
}

#[test]
fn standard_functions_with_words_become_calls() {
    check_expr("EXTRACT(day FROM ts)", "EXTRACT('DAY', ts)");
    check_expr("TIMESTAMPADD(SQL_TSI_DAY, 1, ts)", "TIMESTAMPADD('DAY', 1, ts)");
    check_expr("TIMESTAMPDIFF(SECOND, a, b)", "TIMESTAMPDIFF('SECOND', a, b)");
    check_expr("FLOOR(ts TO WEEK)", "FLOOR_TO(ts, 'WEEK')");
    check_expr("CEILING(x)", "CEIL(x)");
    check_expr("CEIL(ts TO HOUR)", "CEIL_TO(ts, 'HOUR')");
    check_expr("POSITION('a' IN s)", "POSITION('a', s)");
    check_expr("POSITION(x || 'a' IN s FROM 2)", "POSITION(x || 'a', s, 2)");
    check_expr("TRIM(s)", "TRIM('BOTH', ' ', s)");
    check_expr("TRIM('x' FROM s)", "TRIM('BOTH', 'x', s)");
    check_expr("TRIM(LEADING FROM s)", "TRIM('LEADING', ' ', s)");
    check_expr("TRIM(TRAILING 'x' FROM s)", "TRIM('TRAILING', 'x', s)");
    check_expr("SUBSTRING(s FROM 2 FOR 3)", "SUBSTRING(s, 2, 3)");
    check_expr("SUBSTRING(s, 2)", "SUBSTRING(s, 2)");
    check_expr("OVERLAY(s PLACING 'x' FROM 1 FOR 2)", "OVERLAY(s, 'x', 1, 2)");
    check_expr("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP");
    check_expr("LOCALTIME", "LOCALTIME");
    check_expr("COUNT(*)", "COUNT(*)");
    check_expr("COUNT(DISTINCT a) FILTER (WHERE b > 1)", "COUNT(DISTINCT a) FILTER (WHERE b > 1)");
    check_expr("LAG(a, 1) IGNORE NULLS OVER (ORDER BY ts)", "LAG(a, 1) IGNORE NULLS OVER (ORDER BY ts)");
    check_expr("LISTAGG(a, ',') WITHIN GROUP (ORDER BY b)", "LISTAGG(a, ',') WITHIN GROUP (ORDER BY b)");
    check_expr("a.b.f(x)", "a.b.f(x)");
    check_expr("f(a => 1, b => DEFAULT)", "f(a => 1, b => DEFAULT)");
    check_expr("TUMBLE_START(ts, INTERVAL '1' HOUR)", "TUMBLE_START(ts, INTERVAL '1' HOUR)");
    check_expr("IF(a, b, c) + LEFT(s, 2)", "IF(a, b, c) + LEFT(s, 2)");
}

#[test]
fn constructors_and_accesses_keep_their_shape() {
    check_expr("ARRAY[a, b][1]", "ARRAY(a, b)[1]");
    check_expr("MAP['k', 1]['k']", "MAP('k', 1)['k']");
    check_expr("ROW(1, 'x').f0", "ROW(1, 'x').f0");
    check_expr("a[1].b.c[2]", "a[1].b.c[2]");
    check_expr("f(x).y", "f(x).y");
    assert!(matches!(expr("a.b.c"), Expr::CompoundIdentifier(parts) if parts.len() == 3));
    assert!(matches!(expr("(a, b) IN ((1, 2))"), Expr::InList { .. }));
    assert!(matches!(expr("MAP[]"), Expr::Function(_)));
}

#[test]
fn operators_bind_like_flinks() {
    check_expr("a BETWEEN ASYMMETRIC 1 AND 2 AND b", "a BETWEEN 1 AND 2 AND b");
    check_expr("a NOT BETWEEN SYMMETRIC 3 AND 1", "NOT BETWEEN_SYMMETRIC(a, 3, 1)");
    check_expr("j IS NOT JSON OBJECT", "NOT IS_JSON(j, 'OBJECT')");
    check_expr("j IS JSON", "IS_JSON(j, 'VALUE')");
    // The right side ends before AND.
    assert!(matches!(
        expr("a IS DISTINCT FROM b AND c"),
        Expr::BinaryOp { op: sqlparser::ast::BinaryOperator::And, .. }
    ));
    check_expr("a IS NOT DISTINCT FROM b", "a IS NOT DISTINCT FROM b");
    check_expr("a || b = c", "a || b = c");
    check_expr("NOT a LIKE 'x!%' ESCAPE '!'", "NOT a LIKE 'x!%' ESCAPE '!'");
    check_expr("a SIMILAR TO 'x'", "a SIMILAR TO 'x'");
    check_expr("(a, b) OVERLAPS (c, d)", "(a, b) OVERLAPS (c, d)");
    check_expr("a != b", "a <> b");
    check_expr("- a % 2", "-a % 2");
    check_expr("a = ANY (SELECT 1)", "a = ANY(SELECT 1)");
}

#[test]
fn literals_are_read() {
    check_expr("'it''s'", "'it''s'");
    check_expr("U&'\\0041b'", "'Ab'");
    check_expr("_UTF16'x'", "'x'");
    check_expr("N'x'", "'x'");
    check_expr("'a'\n  'b'", "'ab'");
    check_expr("X'45F0'", "X'45F0'");
    check_expr("DATE '2024-01-01'", "DATE '2024-01-01'");
    check_expr("TIMESTAMP '2024-01-01 00:00:00'", "TIMESTAMP '2024-01-01 00:00:00'");
    check_expr("UNKNOWN", "CAST(NULL AS BOOLEAN)");
    check_expr("1.5e3", "1.5e3");
    check_expr("'a\\b'", "'a\\b'");
}

#[test]
fn intervals_have_values() {
    let value = |text: &str| match expr(text) {
        Expr::Interval(interval) => interval_value(&interval).map_err(|e| e.to_string()),
        other => panic!("{text} is no interval but {other:?}"),
    };
    let millis = |text: &str, expect: i64| assert_eq!(value(text), Ok(IntervalValue::Millis(expect)), "{text}");
    let months = |text: &str, expect: i32| assert_eq!(value(text), Ok(IntervalValue::Months(expect)), "{text}");
    millis("INTERVAL '10' MINUTES", 600_000);
    millis("INTERVAL '1' WEEK", 604_800_000);
    millis("INTERVAL '1.25' SECOND", 1250);
    millis("INTERVAL '0.0015' SECOND(2, 6)", 1);
    millis("INTERVAL '-1' DAY", -86_400_000);
    millis("INTERVAL '1 10' DAY TO HOUR", 122_400_000);
    millis("INTERVAL '1 02:03:04.5' DAY TO SECOND(3)", 93_784_500);
    millis("INTERVAL '10:15' MINUTE TO SECOND(3)", 615_000);
    millis("INTERVAL '100:15' HOUR(3) TO MINUTE", 360_900_000);
    months("INTERVAL '1-2' YEAR TO MONTH", 14);
    months("INTERVAL '2' QUARTER", 6);
    months("INTERVAL '-1-11' YEAR TO MONTH", -23);
    check_expr("INTERVAL -'1' DAY", "-INTERVAL '1' DAY");
    check_expr("INTERVAL (a + 1) DAY", "(a + 1) * INTERVAL '1' DAY");
    check_error(
        "SELECT INTERVAL '1:2' DAY TO SECOND",
        expect![[r#"
            '1:2' is no interval of DAY TO SECOND (line 1, column 17)
              hint: write it like '1 10:30:15.250'"#]],
    );
    check_error(
        "SELECT INTERVAL '1' HOUR TO DAY",
        expect![[r#"
            an interval can't be HOUR TO DAY (line 1, column 17)
              hint: the units are YEAR TO MONTH, or two of DAY, HOUR, MINUTE, SECOND in that order"#]],
    );
}

#[test]
fn casts_carry_flinks_types() {
    let check = |text: &str, expect: &str| match expr(text) {
        Expr::Cast { data_type, .. } => {
            assert_eq!(flink_type(&data_type).map(|t| t.to_string()).map_err(|e| e.to_string()), Ok(expect.to_string()))
        }
        other => panic!("{text} is no cast but {other:?}"),
    };
    check("CAST(a AS STRING)", "STRING");
    check(
        "TRY_CAST(a AS ROW<x INT NOT NULL, y ARRAY<MAP<STRING, INT>>>)",
        "ROW<`x` INT NOT NULL, `y` ARRAY<MAP<STRING, INT>>>",
    );
    check("CAST(a AS TIMESTAMP(3) WITH LOCAL TIME ZONE)", "TIMESTAMP_LTZ(3)");
    check("CAST(a AS ROW<`a``b` INT>)", "ROW<`a`b` INT>");
}

#[test]
fn json_functions_are_read_with_their_clauses() {
    let check = |text: &str, expect: Expect| {
        let Expr::Function(call) = expr(text) else { panic!("{text} is no call") };
        let text = match decode::json_call(&call) {
            Ok(Some(call)) => match call {
                decode::JsonCall::Value { returning, on_empty, on_error, .. } => {
                    let show = |b: decode::JsonBehavior| match b {
                        decode::JsonBehavior::Default(e) => format!("default {e}"),
                        other => format!("{other:?}"),
                    };
                    format!("value {returning:?} {} {}", show(on_empty), show(on_error))
                }
                decode::JsonCall::Query { returning, wrapper, on_empty, on_error, .. } => {
                    format!("query {returning:?} {wrapper:?} {on_empty:?} {on_error:?}")
                }
                decode::JsonCall::Exists { on_error, .. } => format!("exists {on_error:?}"),
                decode::JsonCall::Object { is_aggregate, members, on_null } => {
                    let members: Vec<_> = members.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                    format!("object {is_aggregate} {members:?} {on_null:?}")
                }
                decode::JsonCall::Array { is_aggregate, values, on_null } => {
                    let values: Vec<_> = values.iter().map(|v| v.to_string()).collect();
                    format!("array {is_aggregate} {values:?} {on_null:?}")
                }
            },
            other => panic!("{text}: {other:?}"),
        };
        expect.assert_eq(&text);
    };
    check("JSON_VALUE(j, '$.a')", expect!["value None Null Null"]);
    check(
        "JSON_VALUE(j, '$.a' RETURNING INT NULL ON ERROR DEFAULT 0 ON EMPTY)",
        expect!["value Some(DataType { kind: Int, nullable: true }) default 0 Null"],
    );
    check(
        "JSON_QUERY(j, '$' WITH CONDITIONAL ARRAY WRAPPER EMPTY OBJECT ON ERROR)",
        expect!["query None Conditional Null EmptyObject"],
    );
    check(
        "JSON_QUERY(j, '$' WITH WRAPPER EMPTY ARRAY ON EMPTY)",
        expect![
            "query None Unconditional EmptyArray \
        Null"
        ],
    );
    check("JSON_EXISTS(j, '$' UNKNOWN ON ERROR)", expect!["exists Unknown"]);
    check("JSON_OBJECT()", expect!["object false [] Null"]);
    check(
        "JSON_OBJECT(KEY 'a' VALUE 1, key VALUE NULL, 'c' : d ABSENT ON NULL)",
        expect![[r#"object false ["'a': 1", "key: NULL", "'c': d"] Absent"#]],
    );
    check("JSON_OBJECTAGG(KEY k VALUE v)", expect![[r#"object true ["k: v"] Null"#]]);
    check("JSON_ARRAY(1, NULL NULL ON NULL)", expect![[r#"array false ["1", "NULL"] Null"#]]);
    check("JSON_ARRAYAGG(a)", expect![[r#"array true ["a"] Absent"#]]);
}

#[test]
fn table_functions_take_tables() {
    let call = |text: &str| match relation(text) {
        TableFactor::TableFunction { expr: Expr::Function(call), .. } => call,
        other => panic!("{text} is no table function but {other:?}"),
    };
    let session = call(
        "TABLE(SESSION(TABLE bid /*+ OPTIONS('a'='b') */ PARTITION BY (x, y), DESCRIPTOR(ts), INTERVAL '5' MINUTE))",
    );
    let args = decode::plain_args(&session).expect("arguments have no names");
    let table = decode::table_arg(args[0]).expect("the first argument is a table");
    assert_eq!(table.query.to_string(), "SELECT * FROM bid WITH (' OPTIONS(''a''=''b'') ')");
    assert_eq!(table.partition_by.len(), 2);
    assert_eq!(decode::descriptor(args[1]).map(|names| names.len()), Some(1));
    let named = call(
        "TABLE(HOP(DATA => TABLE b, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' SECOND, SIZE => INTERVAL '2' \
            SECOND)) AS w",
    );
    assert_eq!(decode::plain_args(&named), None);
    let query =
        call("TABLE(TUMBLE((SELECT 1 AS a) PARTITION BY a ORDER BY b DESC, DESCRIPTOR(ts), INTERVAL '1' SECOND))");
    let args = decode::plain_args(&query).expect("arguments have no names");
    assert_eq!(decode::table_arg(args[0]).map(|t| (t.partition_by.len(), t.order_by.len())), Some((1, 1)));
    let model = call("TABLE(ML_PREDICT(TABLE t, MODEL a.m, DESCRIPTOR(x)))");
    assert_eq!(model.to_string(), "ML_PREDICT(TABLE_ARG((SELECT * FROM t), ()), MODEL_ARG(a.m), DESCRIPTOR(x))");
    match relation("LATERAL TABLE(split(a, ',')) AS s (word, len)") {
        TableFactor::Function { lateral: true, name, args, alias: Some(alias), .. } => {
            assert_eq!((name.to_string().as_str(), args.len(), alias.columns.len()), ("split", 2, 2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn hints_stay_with_their_tables() {
    let hinted = select(
        "SELECT /*+ STATE_TTL('a'='1d'), BROADCAST(b) */ * FROM db.a /*+ OPTIONS('x'='1') */ AS a JOIN b ON TRUE",
    );
    let names: Vec<_> = decode::select_hints(&hinted).expect("hints are read").into_iter().map(|h| h.name).collect();
    assert_eq!(names, ["STATE_TTL", "BROADCAST"]);
    match &hinted.from[0].relation {
        TableFactor::Table { with_hints, .. } => {
            let hints = decode::table_hints(with_hints).expect("hints are read");
            assert_eq!(hints[0].options, [("x".to_string(), "1".to_string())]);
            assert_eq!((hints[0].line, hints[0].column), (1, 61));
        }
        other => panic!("{other:?}"),
    }
    match one("INSERT INTO t /*+ OPTIONS('k'='v') */ (a) SELECT 1") {
        StatementKind::Insert(insert) => assert_eq!((insert.hints.len(), insert.columns.len()), (1, 1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn match_recognize_keeps_within_and_reluctance() {
    let text = "(SELECT * FROM t) MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES FINAL LAST(A.x) AS x \
        ONE ROW PER MATCH AFTER MATCH SKIP TO LAST B PATTERN (A B*? C{2,3} D??) WITHIN INTERVAL '5' SECOND \
        DEFINE B AS B.p > LAST(A.p, 1), C AS TRUE) AS m";
    let TableFactor::MatchRecognize { table, symbols, pattern, .. } = relation(text) else { panic!("no pattern") };
    assert!(matches!(*table, TableFactor::Derived { .. }));
    let (within, rest) = decode::pattern_within(&symbols).expect("WITHIN is an interval");
    assert_eq!((within, rest.len()), (Some(5000), 2));
    let sqlparser::ast::MatchRecognizePattern::Concat(parts) = pattern else { panic!("{pattern:?}") };
    let reluctant: Vec<_> = parts.iter().map(|part| decode::reluctant(part).map(|(_, _, is)| is)).collect();
    assert_eq!(reluctant, [None, Some(true), Some(false), Some(true)]);
    let windowed = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY)) MATCH_RECOGNIZE (ORDER BY ts \
        MEASURES A.x AS x PATTERN (A) DEFINE A AS TRUE)";
    assert!(matches!(relation(windowed), TableFactor::MatchRecognize { .. }));
}

#[test]
fn words_that_flink_does_not_reserve_are_names() {
    parse(
        "SELECT key, type, name, state, top, version, data, label AS level, x final, pivot, sample, settings FROM \
            format AS view",
    );
    parse(
        "CREATE TABLE t (key STRING, `timestamp` INT, type INT, model STRING, offset1 INT, top INT, größe INT) \
            WITH ()",
    );
    parse("SELECT a b, c first, model m, s.type FROM t source, u options WHERE length > 1 AND week = 2");
    check_error(
        "SELECT at FROM t",
        expect![[r#"
            `at` is a reserved word (line 1, column 8)
              hint: to use it as a name, write it in backquotes: `at`"#]],
    );
    for word in ["ln", "none", "per", "matches", "timestamp", "value", "system", "day", "comment", "order"] {
        for text in [
            format!("SELECT {word} FROM t"),
            format!("SELECT a AS {word} FROM t"),
            format!("SELECT a FROM t AS {word}"),
            format!("SELECT t.{word} FROM t"),
            format!("SELECT a FROM {word}"),
            format!("CREATE TABLE t ({word} INT)"),
        ] {
            let error = parse_script(&text).map(|_| ()).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.contains("line 1")), "{text}: {error:?}");
        }
        parse(&format!("SELECT `{word}` AS `{word}` FROM t AS `{word}`"));
    }
}

#[test]
fn statements_are_read_in_full() {
    let StatementKind::CreateTable(table) = one("CREATE TEMPORARY TABLE IF NOT EXISTS c.d.t (\n\
           id BIGINT NOT NULL COMMENT 'the id',\n  cost AS price * 2 COMMENT 'c',\n\
           ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,\n\
           CONSTRAINT pk PRIMARY KEY (id) NOT ENFORCED,\n  WATERMARK FOR r.ts AS r.ts - INTERVAL '5' SECOND\n\
         ) COMMENT 'x' DISTRIBUTED BY HASH(id) INTO 4 BUCKETS PARTITIONED BY (dt) WITH ('a.b' = 'c') \
         LIKE base (INCLUDING ALL OVERWRITING OPTIONS EXCLUDING WATERMARKS)")
    else {
        panic!("no table")
    };
    assert!(table.temporary && table.if_not_exists && !table.or_replace);
    assert_eq!(table.elements.columns.len(), 3);
    assert!(matches!(table.elements.columns[2].kind, ColumnKind::Metadata { is_virtual: true, .. }));
    assert_eq!(table.elements.watermark.map(|w| w.column.len()), Some(2));
    assert_eq!(table.elements.primary_key.and_then(|k| k.name).map(|n| n.value), Some("pk".to_string()));
    assert_eq!(table.distribution.and_then(|d| d.buckets), Some(4));
    assert_eq!(table.options[0].value.value, "c");
    assert_eq!(table.like.map(|l| l.options.len()), Some(3));
    for text in [
        "SET 'a' = 'b'",
        "SET a.b = 3 min",
        "SET",
        "RESET",
        "RESET 'a'",
        "SET 'a'",
        "SHOW TABLES FROM c.d NOT LIKE 'x%'",
        "SHOW CURRENT DATABASE",
        "SHOW CREATE VIEW v",
        "SHOW PARTITIONS t PARTITION (a = 1)",
        "SHOW COLUMNS IN t LIKE 'a'",
        "SHOW MATERIALIZED TABLES",
        "DESC EXTENDED t",
        "DESCRIBE CATALOG c",
        "DESCRIBE catalog",
        "EXPLAIN PLAN FOR SELECT 1",
        "EXPLAIN PLAN_ADVICE, CHANGELOG_MODE EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END",
        "ADD JAR 'x'",
        "REMOVE JAR 'x'",
        "UNLOAD MODULE m",
        "USE MODULES a, b",
        "USE CATALOG c",
        "USE d",
        "TRUNCATE TABLE t",
        "CALL c.d.p(1, a => 'x')",
        "DELETE FROM t AS x WHERE x.a = 1",
        "UPDATE t SET a = 1, b = c WHERE d",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t RENAME a TO b",
        "ALTER TABLE t RESET ('k')",
        "ALTER TABLE t ADD c INT AFTER a",
        "ALTER TABLE t ADD PRIMARY KEY (a) NOT ENFORCED",
        "ALTER TABLE t MODIFY (a BIGINT FIRST, b STRING)",
        "ALTER TABLE t DROP (a, r.b)",
        "ALTER TABLE t DROP WATERMARK",
        "ALTER TABLE t DROP PRIMARY KEY",
        "ALTER TABLE t ADD DISTRIBUTION BY HASH(a) INTO 2 BUCKETS",
        "ALTER TABLE t ADD IF NOT EXISTS PARTITION (a = 1)",
        "ALTER TABLE t DROP PARTITION (a = 1), PARTITION (a = 2)",
        "ALTER VIEW v AS SELECT 1",
        "ALTER VIEW v RENAME TO w",
        "ALTER DATABASE d SET ('a' = 'b')",
        "ALTER CATALOG c COMMENT 'x'",
        "ALTER MODEL m RENAME TO n",
        "ALTER MATERIALIZED TABLE m SET FRESHNESS = INTERVAL '1' MINUTE",
        "ALTER MATERIALIZED TABLE m REFRESH PARTITION (a = 'x')",
        "DROP TEMPORARY SYSTEM FUNCTION IF EXISTS f",
        "DROP DATABASE d CASCADE",
        "DROP TABLE IF EXISTS a.b.c",
        "CREATE MODEL m INPUT (a STRING) OUTPUT (b DOUBLE) WITH ('provider' = 'x')",
        "CREATE TABLE t (b, a) WITH () AS SELECT a, b FROM s",
        "EXECUTE INSERT INTO a SELECT 1",
        "EXECUTE PLAN 'x'",
        "COMPILE AND EXECUTE PLAN 'x' FOR INSERT INTO a SELECT 1",
        "STOP JOB 'x' WITH SAVEPOINT WITH DRAIN",
        "INSERT INTO t PARTITION (a = 1, b) (c) VALUES (1), (2)",
        "INSERT INTO t (SELECT 1)",
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 5 OFFSET 2",
        "WITH a AS (SELECT 1), b (x) AS (SELECT 2) SELECT * FROM a, b",
        "SELECT a, ROW_NUMBER() OVER w AS rn FROM t WINDOW w AS (ORDER BY b) QUALIFY rn = 1",
        "SELECT a FROM t FETCH FIRST 5 ROWS ONLY",
        "SELECT * FROM t GROUP BY GROUPING SETS ((a, b), ()), CUBE (c), ROLLUP (d)",
        "VALUES (1, 'a'), (2, 'b')",
        "HELP",
    ] {
        one(text);
    }
}

#[test]
fn statements_know_their_text() {
    let text = "-- first\n  SELECT 1 /* x */ ;\n\nSET 'a' = 'ü';;  INSERT INTO t\nSELECT 'é';";
    let statements = parse(text);
    let found: Vec<_> = statements.iter().map(|s| (s.span.line, s.span.column, s.text.as_str())).collect();
    assert_eq!(found, [(2, 3, "SELECT 1"), (4, 1, "SET 'a' = 'ü'"), (4, 18, "INSERT INTO t\nSELECT 'é'")]);
    for s in &statements {
        assert_eq!(&text[s.span.start..s.span.end], s.text);
    }
}

#[test]
fn expressions_know_their_place() {
    for (text, column) in [
        ("a", 8),
        ("a.b", 8),
        ("f(x)", 8),
        ("CAST(a AS INT)", 13),
        ("x + 1", 8),
        ("ARRAY[1]", 8),
        ("CASE WHEN a THEN b END", 8),
    ] {
        assert_eq!(position_of(&expr(text)), Some((1, column)), "{text}");
    }
}

#[test]
fn mistakes_are_told_with_place_and_hint() {
    check_error(
        "SELECT a FROM t WHERE",
        expect!["expected an expression, found the end of the script (line 1, column 22)"],
    );
    check_error("SELECT a,, b FROM t", expect!["expected an expression, found `,` (line 1, column 10)"]);
    check_error(
        "SELECT a FROM t\nINSERT INTO b SELECT 1",
        expect![[r#"
        expected the end of the statement, found `INSERT` (line 2, column 1)
          hint: a semicolon may be missing before this statement"#]],
    );
    check_error(
        "SELECT f(a, (b + 1 FROM t",
        expect![[r#"
        expected `)`, found `FROM` (line 1, column 20)
          hint: the `(` at line 1, column 13 is not closed"#]],
    );
    check_error(
        "SELECT 'abc FROM t",
        expect![[r#"
        a string is not closed (line 1, column 8)
          hint: a quote inside a string is written twice: 'it''s'"#]],
    );
    check_error(
        "SELECT /* abc\nFROM t",
        expect![[r#"
        a comment is not closed (line 1, column 8)
          hint: comments end with */"#]],
    );
    check_error(
        "SELECT `abc FROM t",
        expect![[r#"
        a quoted name is not closed (line 1, column 8)
          hint: names in backquotes end with a backquote"#]],
    );
    check_error(
        "SELECT \"abc\" FROM t",
        expect![[r#"
        a text in double quotes is no SQL (line 1, column 8)
          hint: strings take single quotes ('text'), names take backquotes (`name`)"#]],
    );
    check_error(
        "CREATE TABLE t (a INT, value STRING)",
        expect![[r#"
        `value` is a reserved word (line 1, column 24)
          hint: to use it as a name, write it in backquotes: `value`"#]],
    );
    check_error(
        "CREATE TABLE t (a INT PRIMARY KEY)",
        expect![[r#"
        a primary key without NOT ENFORCED is not allowed (line 1, column 23)
          hint: write PRIMARY KEY .. NOT ENFORCED: keys are promises about the data, nobody checks them"#]],
    );
    check_error("CREATE TABLE t (a INTT)", expect!["`INTT` is no type (line 1, column 19)"]);
    check_error(
        "CREATE TABLE t (a INT) WITH (connector = 'x')",
        expect![[r#"
        an option is not in quotes (line 1, column 30)
          hint: write 'key' = 'value', both in single quotes"#]],
    );
    check_error(
        "CREATE TABLE t (a INT) WITH ('rows' = 5)",
        expect![[r#"
        an option's value is not in quotes (line 1, column 39)
          hint: write '5'"#]],
    );
    check_error("CREATE TABLE t (a)", expect!["the column `a` has no type (line 1, column 17)"]);
    check_error(
        "CREAT TABLE t (a INT)",
        expect![[r#"
        no statement begins with `CREAT` (line 1, column 1)
          hint: did you mean CREATE?"#]],
    );
    check_error(
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1;",
        expect![[r#"
        the statement set is not closed (line 1, column 1)
          hint: it ends with END;"#]],
    );
    check_error(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; SELECT 2; END",
        expect!["expected INSERT or END, found `SELECT` (line 1, column 53)"],
    );
    check_error(
        "SELECT a == b FROM t",
        expect![[r#"
        expected the end of the statement, found `==` (line 1, column 10)
          hint: comparison is a single `=`"#]],
    );
    check_error(
        "SELECT a::INT FROM t",
        expect![[r#"
        expected the end of the statement, found `::` (line 1, column 9)
          hint: write CAST(x AS type)"#]],
    );
    check_error(
        "SELECT CAST(a AS DATETIME) FROM t",
        expect![[r#"
        `DATETIME` is no type (line 1, column 18)
          hint: use TIMESTAMP(3)"#]],
    );
    check_error(
        "SELECT * FROM (SELECT a FROM (SELECT CAST(b AS INTT) FROM t))",
        expect!["`INTT` is no type (line 1, column 48)"],
    );
    check_error(
        "SELECT NOT (CASE WHEN a THEN b + END) FROM t",
        expect!["expected an expression, found `END` (line 1, column 34)"],
    );
    check_error("SELECT CASE WHEN a, b THEN c END FROM t", expect!["expected THEN, found `,` (line 1, column 19)"]);
    check_error(
        "SELECT a FROM t WHERE a /*+ OPTIONS('a'='b') */ > 1",
        expect![[r#"
        a hint is not allowed here (line 1, column 25)
          hint: hints follow SELECT or the name of a table"#]],
    );
    check_error(
        "SELECT * FROM t /*+ OPTIONS('a'=) */",
        expect![[r#"
        a hint is malformed: expected a value after `=` (line 1, column 17)
          hint: hints are written like /*+ OPTIONS('key' = 'value') */"#]],
    );
    check_error(
        "SELECT [1, 2]",
        expect![[r#"
        expected an expression, found `[` (line 1, column 8)
          hint: arrays are written ARRAY[a, b]"#]],
    );
    check_error("SELECT ?", expect!["parameters are not known in scripts (line 1, column 8)"]);
    check_error("MERGE INTO t USING s", expect!["the statement MERGE is not supported yet (line 1, column 1)"]);
    check_error(
        "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A) SUBSET B = (A) DEFINE A AS TRUE)",
        expect!["SUBSET in MATCH_RECOGNIZE is not supported yet (line 1, column 46)"],
    );
    check_error(
        "SHOW TABLE",
        expect!["expected TABLES, VIEWS, FUNCTIONS, CATALOGS, CREATE TABLE.., found `TABLE` (line 1, column 6)"],
    );
    check_error(
        "SELECT EXTRACT(FORTNIGHT FROM a)",
        expect![
            "expected a unit of time (YEAR, MONTH, DAY, HOUR, MINUTE, SECOND..), found `FORTNIGHT` (line 1, \
                column 16)"
        ],
    );
    check_error(
        "SELECT 1 AS 'x'",
        expect![[r#"
        the string 'x' stands in the place of a name (line 1, column 13)
          hint: names take backquotes"#]],
    );
    check_error("SELECT x 1 FROM t", expect!["expected the end of the statement, found `1` (line 1, column 10)"]);
    check_error(")", expect!["expected a statement, found `)` (line 1, column 1)"]);
}

#[test]
fn deep_nesting_is_refused_and_long_lists_are_not() {
    let deep = |open: &str, close: &str, n: usize| format!("SELECT {}1{}", open.repeat(n), close.repeat(n));
    for (open, close) in [
        ("(", ")"),
        ("NOT ", ""),
        ("- ", ""),
        ("f(", ")"),
        ("f(a => ", ")"),
        ("CASE WHEN ", " THEN 1 END"),
        ("CASE 1 WHEN 2, ", " THEN 1 END"),
        ("1 + ", ""),
        ("(SELECT ", ")"),
        ("ARRAY[", "]"),
        ("CAST(", " AS INT)"),
        ("1 OR ", ""),
        ("1 UNION SELECT ", ""),
        ("a IN (", ")"),
        ("* FROM (SELECT ", ")"),
        ("* FROM (", ")"),
        ("1 FROM a JOIN (", ")"),
        ("x[", "]"),
        ("POSITION(", " IN b)"),
        ("EXISTS (SELECT ", ")"),
        ("INTERVAL (", ") DAY"),
        ("a BETWEEN ", " AND 1"),
        ("1 IS NULL AND ", ""),
        ("((", "))"),
        ("* FROM TABLE(f(TABLE a, ", "))"),
        ("EXTRACT(DAY FROM ", ")"),
        ("* FROM t MATCH_RECOGNIZE (PATTERN (", ")"),
        ("JSON_ARRAY(", ")"),
    ] {
        for n in [1, 10, 40, 100, 1000, 100_000] {
            let result = parse_script(&deep(open, close, n));
            assert!(n < 2000 || result.is_err(), "{open} {n} is taken");
        }
    }
    for open in [
        "(",
        "ARRAY<",
        "EXPLAIN ",
        "f(",
        "/*",
        "'a' ",
        "{",
        "CASE ",
        "CREATE TABLE t (a ROW<b \
        ",
        "EXECUTE ",
    ] {
        assert!(parse_script(&open.repeat(100_000)).is_err(), "{open}");
    }
    parse(&deep("(", ")", 100));
    parse(&deep("(SELECT ", ")", 60));
    parse(&format!("SELECT a IN ({}1)", "1, ".repeat(100_000)));
    parse(&format!("VALUES {}(1, 'x')", "(1, 'x'), ".repeat(50_000)));
    parse(&format!("SELECT a = 0{}", " OR a = 1".repeat(1000)));
    parse(&format!("SELECT CASE{} END", " WHEN a + b = 1 AND c THEN d + 1".repeat(5000)));
}

/// Pieces of scripts in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = "SELECT FROM WHERE ( ) , ; . * + - = < > <> || [ ] { } ? : :: => /*+ */ -- 'a' 'it''s' ` \" 1 1.5 \
        1e5 x a.b t \
        AND OR NOT IN IS NULL BETWEEN SYMMETRIC LIKE CASE WHEN THEN ELSE END CAST AS INT ARRAY MAP ROW < > >> \
        INTERVAL '1' \
        DAY TO \
        SECOND TABLE TUMBLE DESCRIPTOR PARTITION BY ORDER GROUP OVER ROWS JOIN ON LATERAL UNNEST WITH \
        MATCH_RECOGNIZE PATTERN \
        DEFINE WITHIN MEASURES FOR SYSTEM_TIME OF CREATE VIEW ALTER DROP SET RESET INSERT INTO VALUES \
        EXPLAIN SHOW WATERMARK \
        PRIMARY KEY ENFORCED METADATA JSON_VALUE JSON_OBJECT EXTRACT TRIM FLOOR EXECUTE STATEMENT BEGIN UNION \
        ALL DISTINCT MODEL \
        U&'\\0041' X'AB' _UTF8 ü $ @ # % ^ ! | \\ MATCH SUBSET";
    let words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|words| words.join(" "))
}

/// A valid script with a few of its characters taken out, doubled or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let mut scripts = vec![read(&fixtures().join("corpus.sql"))];
    scripts = scripts[0].split("\n\n").map(str::to_string).collect();
    let change = (
        any::<prop::sample::Index>(),
        0..4u8,
        prop::sample::select(
            "()'`\",;<>[]*/-é0 \
            "
            .chars()
            .collect::<Vec<_>>(),
        ),
    );
    (prop::sample::select(scripts), prop::collection::vec(change, 1..6)).prop_map(|(script, changes)| {
        let mut chars: Vec<char> = script.chars().collect();
        for (index, how, c) in changes {
            let at = index.index(chars.len().max(1));
            match how {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 => chars.insert(at, c),
                2 => chars.truncate(at),
                _ if at < chars.len() => chars[at] = c,
                _ => {}
            }
        }
        chars.into_iter().collect()
    })
}

/// Any text gives statements or an error with a place inside the script.
fn check_any(text: &str) {
    match parse_script(text) {
        Ok(statements) => {
            for s in statements {
                assert_eq!(text.get(s.span.start..s.span.end), Some(s.text.as_str()), "{text}");
            }
        }
        Err(error) => {
            assert!(error.place().is_some(), "{text}\n{error}");
            assert!(text.contains('\u{1}') || !error.to_string().contains('\u{1}'), "{text}\n{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn token_soup_never_panics(text in soup()) {
        check_any(&text);
    }

    #[test]
    fn mutated_scripts_never_panic(text in mutated()) {
        check_any(&text);
    }

    #[test]
    fn any_text_never_panics(text in ".*") {
        check_any(&text);
    }
}
