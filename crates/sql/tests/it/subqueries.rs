//! Plans and mistakes of subqueries, set operations, UNNEST and joins.

use super::{check, errors, types};
use expect_test::expect;

#[test]
fn in_and_not_in_are_semi_and_anti_joins() {
    check(
        "SELECT k FROM ev WHERE k IN (SELECT k FROM o WHERE n > 1) AND v > 1",
        1,
        expect![[r#"
        Sink(select) id=select changelog=[I]
        |   test sink select
        |   columns: k STRING
        +- hash[] (all to one worker) Join id=select/join changelog=[I]
           |   SEMI on [k = k]
           |   state: select/join/left
           |   state: select/join/right
           +- hash[k] Calc id=select/calc changelog=[I]
           |  |   select: k
           |  |   where: (v > 1)
           |  +- Source(ev) id=source:ev changelog=[I]
           |         test(k STRING, v INT, ts TIMESTAMP(3))
           |         columns: k STRING, v INT, ts TIMESTAMP(3)
           |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
           +- hash[k] Calc id=select/calc#2 changelog=[I]
              |   select: k
              |   where: (n > 1)
              +- Source(o) id=source:o changelog=[I]
                     test(k STRING, n BIGINT)
                     columns: k STRING, n BIGINT
    "#]],
    );
    check(
        "SELECT k FROM ev WHERE k NOT IN (SELECT k FROM o)",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,D]
            |   test sink select
            |   columns: k STRING
            +- hash[] (all to one worker) Join id=select/join#2 changelog=[I,D]
               |   ANTI on []
               |   where: (k IS NULL OR $is_null)
               |   state: select/join#2/left
               |   state: select/join#2/right
               +- hash[] (all to one worker) Join id=select/join changelog=[I,D]
               |  |   ANTI on [k = k]
               |  |   state: select/join/left
               |  |   state: select/join/right
               |  +- hash[k] Calc id=select/calc changelog=[I]
               |  |  |   select: k
               |  |  +- Source(ev) id=source:ev changelog=[I]
               |  |         test(k STRING, ts TIMESTAMP(3))
               |  |         columns: k STRING, ts TIMESTAMP(3)
               |  |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
               |  +- hash[k] Source(o) id=source:o changelog=[I]
               |         test(k STRING)
               |         columns: k STRING
               +- hash[] (all to one worker) GroupAggregate id=select/aggregate changelog=[I]
                  |   keys: $is_null
                  |   state: select/aggregate/groups
                  +- hash[$is_null] Calc id=select/calc#2 changelog=[I]
                     |   select: k IS NULL AS $is_null
                     +- Source(o) [see source:o]
        "#]],
    );
}

#[test]
fn a_correlated_scalar_subquery_is_grouped_by_what_it_is_asked_for() {
    check(
        "SELECT k, (SELECT COUNT(*) FROM o WHERE o.k = ev.k) AS c FROM ev",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA,D]
            |   test sink select
            |   columns: k STRING, c BIGINT
            +- hash[] (all to one worker) Calc id=select/calc#3 changelog=[I,UB,UA,D]
               |   select: k, CASE($mark IS NULL, 0, EXPR$0) AS c
               +- Join id=select/join changelog=[I,UB,UA,D]
                  |   LEFT on [k = $outer1]
                  |   state: select/join/left
                  |   state: select/join/right
                  +- hash[k] Calc id=select/calc changelog=[I]
                  |  |   select: k
                  |  +- Source(ev) id=source:ev changelog=[I]
                  |         test(k STRING, ts TIMESTAMP(3))
                  |         columns: k STRING, ts TIMESTAMP(3)
                  |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[$outer1] Calc id=select/calc#2 changelog=[I,UB,UA]
                     |   select: $agg0 AS EXPR$0, $key0 AS $outer1, TRUE AS $mark
                     |   upsert key: [$outer1]
                     +- GroupAggregate id=select/aggregate changelog=[I,UB,UA]
                        |   keys: k
                        |   aggregates: Count(*): BIGINT NOT NULL
                        |   upsert key: [$key0]
                        |   state: select/aggregate/groups
                        +- hash[k] Source(o) id=source:o changelog=[I]
                               test(k STRING)
                               columns: k STRING
        "#]],
    );
}

#[test]
fn what_a_condition_other_than_equality_is_asked_for_is_joined_below_the_aggregate() {
    check(
        "SELECT v, (SELECT MAX(n) FROM o WHERE o.n < ev.v) AS m FROM ev",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA,D]
            |   test sink select
            |   columns: v INT, m BIGINT
            +- hash[] (all to one worker) Calc id=select/calc#4 changelog=[I,UB,UA,D]
               |   select: v, EXPR$0 AS m
               +- Join id=select/join#2 changelog=[I,UB,UA,D]
                  |   LEFT on [v IS NOT DISTINCT FROM $outer1]
                  |   state: select/join#2/left
                  |   state: select/join#2/right
                  +- hash[v] Calc id=select/calc changelog=[I]
                  |  |   select: v
                  |  +- Source(ev) id=source:ev changelog=[I]
                  |         test(v INT, ts TIMESTAMP(3))
                  |         columns: v INT, ts TIMESTAMP(3)
                  |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[$outer1] Calc id=select/calc#3 changelog=[I,UB,UA]
                     |   select: $agg0 AS EXPR$0, $key0 AS $outer1
                     |   upsert key: [$outer1]
                     +- GroupAggregate id=select/aggregate#2 changelog=[I,UB,UA]
                        |   keys: $key0
                        |   aggregates: Max($a0_0): BIGINT
                        |   upsert key: [$key0]
                        |   state: select/aggregate#2/groups
                        +- hash[$key0] Calc id=select/calc#2 changelog=[I]
                           |   select: v AS $key0, n AS $a0_0
                           +- Join id=select/join changelog=[I]
                              |   INNER on []
                              |   where: (n < CAST(v AS BIGINT))
                              |   state: select/join/left
                              |   state: select/join/right
                              +- hash[] (all to one worker) Source(o) id=source:o changelog=[I]
                              |      test(n BIGINT)
                              |      columns: n BIGINT
                              +- hash[] (all to one worker) GroupAggregate id=select/aggregate changelog=[I]
                                 |   keys: v
                                 |   state: select/aggregate/groups
                                 +- hash[v] Calc [see select/calc]
        "#]],
    );
}

#[test]
fn a_subquery_of_the_same_window_is_a_window_join() {
    check(
        "SELECT l.k, l.window_start FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) l WHERE NOT EXISTS \
         (SELECT 1 FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) r WHERE l.k = r.k AND r.v > 1 \
         AND l.window_start = r.window_start AND l.window_end = r.window_end)",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: k STRING, window_start TIMESTAMP(3) NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc#4 changelog=[I]
               |   select: k, window_start
               +- WindowJoin id=select/join changelog=[I]
                  |   ANTI on [k = $outer1, window_start = $outer2, window_end = $outer3]
                  |   rows leave: window_end + 0 ms, $outer3 + 0 ms
                  |   state: select/join/left
                  |   state: select/join/right
                  +- hash[k, window_start, window_end] Calc id=select/calc changelog=[I]
                  |  |   select: k, window_start, window_end
                  |  +- WindowAssign id=select/window changelog=[I]
                  |     |   window: TUMBLE(size 60000 ms) on event time ts
                  |     +- Source(ev) id=source:ev changelog=[I]
                  |            test(k STRING, v INT, ts TIMESTAMP(3))
                  |            columns: k STRING, v INT, ts TIMESTAMP(3)
                  |            watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[$outer1, $outer2, $outer3] Calc id=select/calc#3 changelog=[I]
                     |   select: k AS $outer1, window_start AS $outer2, window_end AS $outer3
                     +- WindowAssign id=select/window#2 changelog=[I]
                        |   window: TUMBLE(size 60000 ms) on event time ts
                        +- Calc id=select/calc#2 changelog=[I]
                           |   select: k, ts
                           |   where: (v > 1)
                           +- Source(ev) [see source:ev]
        "#]],
    );
}

#[test]
fn except_all_counts_rows_and_replicates_them() {
    check(
        "SELECT k FROM ev EXCEPT ALL SELECT k FROM o",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,D]
            |   test sink select
            |   columns: k STRING
            +- hash[] (all to one worker) Replicate id=select/replicate changelog=[I,D]
               |   copies: $copies
               +- Calc id=select/calc#3 changelog=[I,UB,UA]
                  |   select: k, ($left - $right) AS $copies
                  |   upsert key: [k]
                  +- GroupAggregate id=select/aggregate changelog=[I,UB,UA]
                     |   keys: k
                     |   aggregates: Sum0($left): BIGINT NOT NULL, Sum0($right): BIGINT NOT NULL
                     |   upsert key: [k]
                     |   state: select/aggregate/groups
                     +- hash[k] Union id=select/union changelog=[I]
                        +- Calc id=select/calc changelog=[I]
                        |  |   select: k, 1 AS $left, 0 AS $right
                        |  +- Source(ev) id=source:ev changelog=[I]
                        |         test(k STRING, ts TIMESTAMP(3))
                        |         columns: k STRING, ts TIMESTAMP(3)
                        |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                        +- Calc id=select/calc#2 changelog=[I]
                           |   select: k, 0 AS $left, 1 AS $right
                           +- Source(o) id=source:o changelog=[I]
                                  test(k STRING)
                                  columns: k STRING
        "#]],
    );
}

#[test]
fn unnest_keeps_only_what_is_read() {
    check(
        "SELECT k, y FROM ev CROSS JOIN UNNEST(ARRAY[v, 1]) AS t(y) WHERE v > 2",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: k STRING, y INT
            +- hash[] (all to one worker) Unnest id=select/unnest changelog=[I]
               |   unnest: ARRAY(v, 1)
               +- Calc id=select/calc changelog=[I]
                  |   select: k, v
                  |   where: (v > 2)
                  +- Source(ev) id=source:ev changelog=[I]
                         test(k STRING, v INT, ts TIMESTAMP(3))
                         columns: k STRING, v INT, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn unnest_reads_what_its_condition_reads() {
    let joined =
        "LEFT JOIN UNNEST(ARRAY[ROW(v, r)]) WITH ORDINALITY AS t(p, q, i) ON p > v AND q.b.d < i AND k IS NULL";
    check(
        &format!("SELECT ts, p FROM ev {joined}"),
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: ts TIMESTAMP(3), p INT
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: ts, p
               +- Unnest id=select/unnest changelog=[I]
                  |   unnest: ARRAY(ROW(v, r)) with ordinality, keeps rows without elements, on (((p > v) AND (q.b.d < i)) AND k IS NULL)
                  +- Source(ev) id=source:ev changelog=[I]
                         test(k STRING, v INT, r ROW<`a` INT, `b` ROW<`c` STRING, `d` INT>>, ts TIMESTAMP(3))
                         columns: k STRING, v INT, r ROW<`a` INT, `b` ROW<`c` STRING, `d` INT>>, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn types_of_subqueries_and_set_operations() {
    let script = "SELECT (SELECT COUNT(*) FROM o) AS c, (SELECT COUNT(*) FROM o WHERE o.k = ev.k) AS d, \
         k IN (SELECT k FROM o) AS i, EXISTS (SELECT 1 FROM o WHERE o.k = ev.k) AS e FROM ev";
    expect![[r#"
        c BIGINT
        d BIGINT
        i BOOLEAN
        e BOOLEAN NOT NULL
    "#]]
    .assert_eq(&types(script));
    expect![[r#"
        v BIGINT
        t STRING
    "#]]
    .assert_eq(&types("SELECT v, 'abc' AS t FROM ev EXCEPT SELECT n, k FROM o"));
    let script = "SELECT * FROM ev LEFT JOIN UNNEST(ARRAY[ROW(1, 'a')]) WITH ORDINALITY AS t(x, y, z) ON TRUE";
    expect![[r#"
        id INT
        k STRING
        v INT
        x DOUBLE
        r ROW<`a` INT, `b` ROW<`c` STRING, `d` INT>>
        ts TIMESTAMP(3)
        pt TIMESTAMP_LTZ(3) NOT NULL
        x0 INT
        y CHAR(1)
        z INT
    "#]]
    .assert_eq(&types(script));
    expect![[r#"
        KEY CHAR(1) NOT NULL
        VALUE INT NOT NULL
    "#]]
    .assert_eq(&types("SELECT * FROM UNNEST(MAP['a', 1]) AS t"));
}

#[test]
fn mistakes_in_subqueries_and_joins_are_told_with_their_place() {
    let shown = errors(&[
        "SELECT k FROM ev WHERE k IN (SELECT k, n FROM o)",
        "SELECT k FROM ev WHERE (k, v) IN (SELECT k FROM o)",
        "SELECT k FROM ev WHERE k IN (SELECT n FROM o)",
        "SELECT (SELECT k, n FROM o) AS x FROM ev",
        "SELECT SUM((SELECT MAX(n) FROM o)) AS s FROM ev",
        "SELECT ev.k FROM ev JOIN o ON ev.k IN (SELECT k FROM o)",
        "SELECT (SELECT COUNT(*) FROM o WHERE o.k = ev.k HAVING COUNT(*) > 1) AS c FROM ev",
        "SELECT (SELECT SUM(n + v) FROM o WHERE o.k = ev.k) AS c FROM ev",
        "SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM o LEFT JOIN o AS p ON p.k = ev.k)",
        "SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM o WHERE o.k = ev.kk)",
        "SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM (SELECT MAX(n) FROM o WHERE o.k = ev.k) t)",
        "SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM o WHERE n IN (SELECT n FROM o o2 WHERE o2.k = ev.k))",
        "SELECT k FROM ev WHERE k IN (SELECT ev.k FROM o)",
        "SELECT k FROM ev WHERE EXISTS (SELECT k FROM o WHERE o.k = ev.k UNION ALL SELECT k FROM o)",
        "SELECT v, (SELECT MAX(n) FROM o WHERE o.k = ev.k) AS x FROM ev GROUP BY v",
        "SELECT k FROM ev WHERE v > ANY (SELECT n, k FROM o) OR v = 1",
        "SELECT k FROM ev EXCEPT SELECT k, n FROM o",
        "SELECT k FROM ev INTERSECT ALL SELECT n FROM o",
        "SELECT k FROM ev MINUS SELECT k FROM o",
        "SELECT k FROM ev JOIN o ON ev.k = o.k",
        "SELECT v FROM ev JOIN ev ON TRUE",
        "SELECT v FROM ev x, o x",
        "SELECT v FROM ev JOIN o USING (n)",
        "SELECT v FROM ev SEMI JOIN o ON ev.k = o.k",
        "SELECT v FROM ev, UNNEST(v) AS t(x)",
        "SELECT v FROM ev, UNNEST(ARRAY[v]) AS t(x, y)",
        "SELECT v FROM ev LEFT JOIN LATERAL (SELECT n FROM o WHERE o.k = ev.k) ON n > 1",
        "SELECT v FROM ev, LATERAL TABLE(split(k)) AS t(x)",
    ]);
    expect![[r#"
        SELECT k FROM ev WHERE k IN (SELECT k, n FROM o)
          IN compares 1 value(s) with 2 column(s) of the subquery (line 2, column 24)
          hint: the subquery must give a column for each value: (a, b) IN (SELECT x, y ..)
        SELECT k FROM ev WHERE (k, v) IN (SELECT k FROM o)
          IN compares 2 value(s) with 1 column(s) of the subquery (line 2, column 25)
          hint: the subquery must give a column for each value: (a, b) IN (SELECT x, y ..)
        SELECT k FROM ev WHERE k IN (SELECT n FROM o)
          no error
        SELECT (SELECT k, n FROM o) AS x FROM ev
          a subquery that stands for a value must give one column, but gives 2 (line 2, column 9)
          hint: select one column only
        SELECT SUM((SELECT MAX(n) FROM o)) AS s FROM ev
          a subquery here is not supported yet (line 2, column 13)
          hint: subqueries stand in SELECT, WHERE and HAVING, outside of aggregates
        SELECT ev.k FROM ev JOIN o ON ev.k IN (SELECT k FROM o)
          a subquery here is not supported yet (line 2, column 31)
          hint: subqueries stand in SELECT, WHERE and HAVING, outside of aggregates
        SELECT (SELECT COUNT(*) FROM o WHERE o.k = ev.k HAVING COUNT(*) > 1) AS c FROM ev
          HAVING without GROUP BY in a subquery that reads the query around it is not supported yet (line 2, column 38)
          hint: join with the table instead
        SELECT (SELECT SUM(n + v) FROM o WHERE o.k = ev.k) AS c FROM ev
          an aggregate over columns of the query around a subquery is not supported yet (line 2, column 9)
          hint: such columns are read in the subquery's WHERE
        SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM o LEFT JOIN o AS p ON p.k = ev.k)
          a column of the query around it in ON of an outer join is not supported yet (line 2, column 68)
          hint: put the condition into WHERE
        SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM o WHERE o.k = ev.kk)
          there is no column 'kk' (line 2, column 63)
          hint: did you mean 'k'?
        SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM (SELECT MAX(n) FROM o WHERE o.k = ev.k) t)
          an aggregate of all rows in FROM in a subquery that reads the query around it is not supported yet (line 2, column 74)
          hint: join with the table instead
        SELECT k FROM ev WHERE EXISTS (SELECT 1 FROM o WHERE n IN (SELECT n FROM o o2 WHERE o2.k = ev.k))
          a subquery that reads columns of a query two levels out is not supported yet (line 2, column 92)
          hint: such columns are read in the WHERE of a subquery's own SELECT, one level down
        SELECT k FROM ev WHERE k IN (SELECT ev.k FROM o)
          a column of the query around it in a subquery's SELECT is not supported yet (line 2, column 30)
          hint: such columns are read in the subquery's WHERE
        SELECT k FROM ev WHERE EXISTS (SELECT k FROM o WHERE o.k = ev.k UNION ALL SELECT k FROM o)
          a set operation that reads columns of the query around it is not supported yet (line 2, column 60)
          hint: such columns are read in the WHERE of a subquery's own SELECT, one level down
        SELECT v, (SELECT MAX(n) FROM o WHERE o.k = ev.k) AS x FROM ev GROUP BY v
          expression 'k' is not being grouped (line 2, column 12)
          hint: add it to GROUP BY, or put it into an aggregate such as MAX(..)
        SELECT k FROM ev WHERE v > ANY (SELECT n, k FROM o) OR v = 1
          IN compares 1 value(s) with 2 column(s) of the subquery (line 2, column 24)
          hint: the subquery must give a column for each value: (a, b) IN (SELECT x, y ..)
        SELECT k FROM ev EXCEPT SELECT k, n FROM o
          the two sides of EXCEPT have different numbers of columns: 1 and 2 (line 2, column 25)
          hint: columns are matched by their place
        SELECT k FROM ev INTERSECT ALL SELECT n FROM o
          column 1 of INTERSECT ALL is STRING on one side and BIGINT on the other (line 2, column 32)
          hint: CAST one of them
        SELECT k FROM ev MINUS SELECT k FROM o
          MINUS is not supported yet (line 2, column 24)
          hint: write EXCEPT
        SELECT k FROM ev JOIN o ON ev.k = o.k
          column 'k' is ambiguous (line 2, column 8)
          hint: write ev.k or o.k
        SELECT v FROM ev JOIN ev ON TRUE
          two tables in FROM have the name 'ev' (line 2, column 23)
          hint: give one of them another name: ev AS ev2
        SELECT v FROM ev x, o x
          two tables in FROM have the name 'x' (line 2, column 23)
          hint: give one of them another name: x AS x2
        SELECT v FROM ev JOIN o USING (n)
          there is no column 'n' on both sides (line 2, column 32)
          hint: known are: k
        SELECT v FROM ev SEMI JOIN o ON ev.k = o.k
          there is no table or column 'ev' (line 2, column 33)
          hint: known are: SEMI, o, id, k, v, x, r, ts, pt, k, n
        SELECT v FROM ev, UNNEST(v) AS t(x)
          UNNEST takes an ARRAY, MAP or MULTISET, but got INT (line 2, column 26)
        SELECT v FROM ev, UNNEST(ARRAY[v]) AS t(x, y)
          2 column names for 1 columns (line 2, column 39)
        SELECT v FROM ev LEFT JOIN LATERAL (SELECT n FROM o WHERE o.k = ev.k) ON n > 1
          a condition in LEFT JOIN of a query that reads what stands before it is not supported yet (line 2, column 74)
          hint: write the condition into the query's WHERE, and ON TRUE
        SELECT v FROM ev, LATERAL TABLE(split(k)) AS t(x)
          there is no table function 'split' (line 2, column 33)
          hint: of functions that give rows only UNNEST is built in: CROSS JOIN UNNEST(array) AS t(x)
    "#]]
    .assert_eq(&shown);
}
