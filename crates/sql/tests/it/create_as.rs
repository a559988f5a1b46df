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
        expect![[r#"
            Sink(t) id=sink:t changelog=[I,UB,UA]
            |   test sink t
            |   columns: k STRING, c BIGINT NOT NULL
            |   upsert key: [k]
            +- GroupAggregate id=sink:t/aggregate changelog=[I,UB,UA]
               |   keys: k
               |   aggregates: Count(*): BIGINT NOT NULL
               |   upsert key: [k]
               |   state: sink:t/aggregate/groups
               +- hash[k] Calc id=sink:t/calc changelog=[I]
                  |   select: k
                  +- Source(ev) id=source:ev changelog=[I]
                         test(k STRING, ts TIMESTAMP(3))
                         columns: k STRING, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    let described = [
        "CREATE TABLE t WITH ('connector' = 'test') AS SELECT *, 1, 1 FROM ev",
        "CREATE TABLE t (c BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'test') AS SELECT k, v AS c FROM ev",
        "CREATE TABLE t (z STRING, p AS PROCTIME()) WITH ('connector' = 'test') AS SELECT k, v AS c FROM ev",
        "CREATE TABLE t (v, k) WITH ('connector' = 'test') AS SELECT k, v FROM ev",
        "CREATE TABLE t (WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'test') AS SELECT k, ts FROM ev",
    ];
    expect![[r#"
        id INT
        k STRING
        v INT
        x DOUBLE
        r ROW<`a` INT, `b` ROW<`c` STRING, `d` INT>>
        ts TIMESTAMP(3)
        pt TIMESTAMP_LTZ(3) NOT NULL
        EXPR$7 INT NOT NULL
        EXPR$8 INT NOT NULL

        k STRING NOT NULL
        c BIGINT

        z STRING
        p TIMESTAMP_LTZ(3) NOT NULL
        k STRING
        c INT

        v INT
        k STRING

        k STRING
        ts TIMESTAMP(3)"#]]
    .assert_eq(&described.map(columns).join("\n\n"));
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
    expect![[r#"
        CREATE TABLE t (k INT) WITH ('connector' = 'test') AS SELECT k, v FROM ev
          column 'k' is STRING in the query and can't be INT in the table (line 2, column 17)
          hint: CAST it in the query
        CREATE TABLE t (k AS PROCTIME()) WITH ('connector' = 'test') AS SELECT k, v FROM ev
          column 'k' is one of the query's (line 2, column 17)
          hint: a computed or metadata column has a name of its own
        CREATE TABLE t (k) WITH ('connector' = 'test') AS SELECT k, v FROM ev
          1 column names for 2 columns of the query (line 2, column 14)
        CREATE TABLE t (k, vv) WITH ('connector' = 'test') AS SELECT k, v FROM ev
          the query has no column 'vv' (line 2, column 20)
          hint: did you mean 'v'?
        CREATE TABLE t (k, k) WITH ('connector' = 'test') AS SELECT k, v FROM ev
          column 'k' is declared twice (line 2, column 1)
        CREATE TABLE t WITH ('connector' = 'test') AS SELECT NULL AS k FROM ev
          the type of NULL is not known here (line 2, column 14)
          hint: give it a type: CAST(NULL AS STRING)
        CREATE TABLE t WITH ('connector' = 'tests') AS SELECT k FROM ev
          there is no connector 'tests' (line 2, column 14)
          hint: did you mean 'test'?
        CREATE TABLE o WITH ('connector' = 'test') AS SELECT k FROM ev
          the table or view 'o' exists already (line 2, column 14)
          hint: drop it first, or write IF NOT EXISTS
        CREATE TABLE t (z INT NOT NULL) WITH ('connector' = 'test') AS SELECT k FROM ev
          no error
    "#]]
    .assert_eq(&told);
}
