//! `CREATE TABLE .. AS query`.

use super::{check, errors, plan};
use expect_test::expect;

/// The columns of `t`, as DESCRIBE shows them.
fn columns(create: &str) -> String {
    match plan(&format!("{create}; DESCRIBE t;"), 1) {
        Ok(planned) => planned.messages.join("\n"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_table_has_the_columns_of_its_query() {
    check(
        "CREATE TABLE t WITH ('connector' = 'test') AS SELECT k, COUNT(*) AS c FROM ev GROUP BY k",
        1,
        expect![[r#""#]],
    );
    let described = [
        "CREATE TABLE t WITH ('connector' = 'test') AS SELECT *, 1, 1 FROM ev",
        "CREATE TABLE t (c BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'test') AS SELECT k, v AS c FROM ev",
        "CREATE TABLE t (z STRING, p AS PROCTIME()) WITH ('connector' = 'test') AS SELECT k, v AS c FROM ev",
        "CREATE TABLE t (v, k) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t (WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'test') AS SELECT k, ts FROM ev",
    ];
    expect![[r#""#]].assert_eq(&described.map(columns).join("\n\n"));
}

#[test]
fn mistakes_in_a_table_made_of_a_query() {
    let told = errors(&[
        "CREATE TABLE t (k INT) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t (k AS PROCTIME()) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t (k) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t (k, vv) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t (k, k) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t WITH ('connector' = 'test') AS SELECT NULL AS k FROM ev",
        "CREATE TABLE t WITH ('connector' = 'tests') AS SELECT k FROM ev",
        "CREATE TABLE o WITH ('connector' = 'test') AS SELECT k FROM ev",
        "CREATE TABLE t (z INT NOT NULL) WITH ('connector' = 'test') AS SELECT k FROM ev",
    ]);
    expect![[r#""#]].assert_eq(&told);
}
