//! Plans of OVER, Top-N, deduplication, ORDER BY and LIMIT, and what is refused of them.

use super::{check, errors, types};
use expect_test::expect;

#[test]
fn a_bounded_row_number_is_a_top_n_without_the_number_where_nobody_reads_it() {
    check(
        "CREATE VIEW best AS SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY x DESC, id NULLS LAST) AS rn FROM ev; \
         SELECT k, id FROM best WHERE rn <= 3 AND v > 0",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,D]
            |   test sink select
            |   columns: k STRING, id INT
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I,D]
               |   select: k, id
               |   where: (v > 0)
               +- Rank id=select/rank changelog=[I,D]
                  |   ROW_NUMBER from 1 to 3
                  |   keys: k
                  |   order: x DESC, id ASC NULLS LAST, arrival
                  |   state: select/rank/rows
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(id INT, k STRING, v INT, x DOUBLE, ts TIMESTAMP(3))
                         columns: id INT, k STRING, v INT, x DOUBLE, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    check(
        "SELECT k, id, rn FROM (SELECT k, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY x DESC) AS rn FROM ev) \
         WHERE rn > 1 AND 5 > rn",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,UB,UA]
            |   test sink select
            |   columns: k STRING, id INT, rn BIGINT NOT NULL
            |   upsert key: [k, rn]
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I,UB,UA]
               |   select: k, id, $w0 AS rn
               |   upsert key: [k, rn]
               +- Rank id=select/rank changelog=[I,UB,UA]
                  |   ROW_NUMBER from 2 to 4
                  |   keys: k
                  |   order: x DESC, arrival
                  |   upsert key: [k, $w0]
                  |   state: select/rank/rows
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(id INT, k STRING, x DOUBLE, ts TIMESTAMP(3))
                         columns: id INT, k STRING, x DOUBLE, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn the_first_and_the_last_row_by_time_are_deduplications() {
    for order in ["ts", "ts DESC", "pt", "pt DESC"] {
        let sql = format!(
            "SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY {order}) AS rn FROM ev) WHERE rn = 1"
        );
        check(
            &sql,
            1,
            match order {
                "ts" => expect![[r#"
                    Sink(select) id=select changelog=[I]
                    |   test sink select
                    |   columns: k STRING, v INT
                    +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                       |   select: k, v
                       +- Deduplicate id=select/rank changelog=[I]
                          |   ROW_NUMBER from 1 to 1
                          |   keys: k
                          |   order: ts ASC, arrival
                          |   comes out: watermark >= ts
                          |   state: select/rank/taken
                          |   state: select/rank/rows
                          +- hash[k] Source(ev) id=source:ev changelog=[I]
                                 test(k STRING, v INT, ts TIMESTAMP(3))
                                 columns: k STRING, v INT, ts TIMESTAMP(3)
                                 watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                "#]],
                "ts DESC" => expect![[r#"
                    Sink(select) id=select changelog=[I,UB,UA]
                    |   test sink select
                    |   columns: k STRING, v INT
                    |   upsert key: [k]
                    +- hash[] (all to one worker) Calc id=select/calc changelog=[I,UB,UA]
                       |   select: k, v
                       |   upsert key: [k]
                       +- Deduplicate id=select/rank changelog=[I,UB,UA]
                          |   ROW_NUMBER from 1 to 1
                          |   keys: k
                          |   order: ts DESC, latest arrival
                          |   upsert key: [k]
                          |   state: select/rank/rows
                          +- hash[k] Source(ev) id=source:ev changelog=[I]
                                 test(k STRING, v INT, ts TIMESTAMP(3))
                                 columns: k STRING, v INT, ts TIMESTAMP(3)
                                 watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                "#]],
                "pt" => expect![[r#"
                    Sink(select) id=select changelog=[I]
                    |   test sink select
                    |   columns: k STRING, v INT
                    +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                       |   select: k, v
                       +- Deduplicate id=select/rank changelog=[I]
                          |   ROW_NUMBER from 1 to 1
                          |   keys: k
                          |   order: arrival
                          |   state: select/rank/taken
                          +- hash[k] Source(ev) id=source:ev changelog=[I]
                                 test(k STRING, v INT, ts TIMESTAMP(3))
                                 columns: k STRING, v INT, ts TIMESTAMP(3)
                                 watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                "#]],
                _ => expect![[r#"
                    Sink(select) id=select changelog=[I,UB,UA]
                    |   test sink select
                    |   columns: k STRING, v INT
                    |   upsert key: [k]
                    +- hash[] (all to one worker) Calc id=select/calc changelog=[I,UB,UA]
                       |   select: k, v
                       |   upsert key: [k]
                       +- Deduplicate id=select/rank changelog=[I,UB,UA]
                          |   ROW_NUMBER from 1 to 1
                          |   keys: k
                          |   order: latest arrival
                          |   upsert key: [k]
                          |   state: select/rank/rows
                          +- hash[k] Source(ev) id=source:ev changelog=[I]
                                 test(k STRING, v INT, ts TIMESTAMP(3))
                                 columns: k STRING, v INT, ts TIMESTAMP(3)
                                 watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                "#]],
            },
        );
    }
}

#[test]
fn a_top_n_by_window_comes_out_at_its_end() {
    check(
        "SELECT window_start, k, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v) \
         AS rn FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) WHERE rn <= 2",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: window_start TIMESTAMP(3) NOT NULL, k STRING, rn BIGINT NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: window_start, k, rn
               +- WindowRank id=select/rank changelog=[I]
                  |   ROW_NUMBER from 1 to 2
                  |   keys: window_start, window_end
                  |   order: v ASC, arrival
                  |   comes out: watermark at window_end
                  |   state: select/rank/rows
                  +- hash[window_start, window_end] WindowAssign id=select/window changelog=[I]
                     |   window: TUMBLE(size 60000 ms) on event time ts
                     +- Source(ev) id=source:ev changelog=[I]
                            test(k STRING, v INT, ts TIMESTAMP(3))
                            columns: k STRING, v INT, ts TIMESTAMP(3)
                            watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn calls_over_one_window_are_one_operator_and_their_results_stand_in_expressions() {
    check(
        "SELECT id, v - LAG(v) OVER w AS d, SUM(v) OVER (w ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS s, \
         COUNT(*) OVER (PARTITION BY k ORDER BY ts) AS c FROM ev WINDOW w AS (PARTITION BY k ORDER BY ts)",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: id INT, d INT, s INT, c BIGINT NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
               |   select: id, (v - $w0) AS d, $w1 AS s, $w2 AS c
               +- OverAggregate id=select/over changelog=[I]
                  |   keys: k
                  |   order: ts
                  |   call: Lag(v, 1)
                  |   call: Sum(v): INT, ROWS from 3 before
                  |   call: Count(*): BIGINT NOT NULL, RANGE from the first row
                  |   state: select/over/rows
                  |   state: select/over/groups
                  +- hash[k] Source(ev) id=source:ev changelog=[I]
                         test(id INT, k STRING, v INT, ts TIMESTAMP(3))
                         columns: id INT, k STRING, v INT, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn order_by_and_limit_are_a_sort_by_time_or_a_top_n_of_all() {
    check(
        "SELECT id FROM ev ORDER BY ts, v DESC",
        1,
        expect![[r#"
        Sink(select) id=select changelog=[I]
        |   test sink select
        |   columns: id INT
        +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
           |   select: id
           +- TemporalSort id=select/over changelog=[I]
              |   order: $order, $order DESC
              |   state: select/over/rows
              +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                 |   select: id, ts AS $order, v AS $order
                 +- Source(ev) id=source:ev changelog=[I]
                        test(id INT, v INT, ts TIMESTAMP(3))
                        columns: id INT, v INT, ts TIMESTAMP(3)
                        watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
    "#]],
    );
    check(
        "SELECT k, COUNT(*) AS n FROM ev GROUP BY k ORDER BY SUM(v) DESC LIMIT 3 OFFSET 1",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I,D]
            |   test sink select
            |   columns: k STRING, n BIGINT NOT NULL
            |   upsert key: [k]
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I,D]
               |   select: k, n
               |   upsert key: [k]
               +- Rank id=select/rank changelog=[I,D]
                  |   ROW_NUMBER from 2 to 4
                  |   order: $order DESC, arrival
                  |   upsert key: [k]
                  |   state: select/rank/rows
                  +- hash[] (all to one worker) GroupAggregate id=select/aggregate changelog=[I,UB,UA]
                     |   keys: k
                     |   aggregates: Count(*): BIGINT NOT NULL, Sum($a1_0): INT
                     |   upsert key: [k]
                     |   state: select/aggregate/groups
                     +- hash[k] Calc id=select/calc changelog=[I]
                        |   select: k, v AS $a1_0
                        +- Source(ev) id=source:ev changelog=[I]
                               test(k STRING, v INT, ts TIMESTAMP(3))
                               columns: k STRING, v INT, ts TIMESTAMP(3)
                               watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    check(
        "SELECT id FROM ev FETCH NEXT 5 ROWS ONLY",
        1,
        expect![[r#"
        Sink(select) id=select changelog=[I]
        |   test sink select
        |   columns: id INT
        +- hash[] (all to one worker) Limit id=select/rank changelog=[I]
           |   ROW_NUMBER from 1 to 5
           |   order: arrival
           |   state: select/rank/taken
           +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
              |   select: id
              +- Source(ev) id=source:ev changelog=[I]
                     test(id INT, ts TIMESTAMP(3))
                     columns: id INT, ts TIMESTAMP(3)
                     watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
    "#]],
    );
}

#[test]
fn types_of_functions_over_windows() {
    expect![[r#"
        rn BIGINT NOT NULL
        r BIGINT NOT NULL
        l INT
        l0 INT
        s INT
        c BIGINT NOT NULL
        a DOUBLE
    "#]]
    .assert_eq(&types(
        "SELECT ROW_NUMBER() OVER w AS rn, RANK() OVER w AS r, LAG(v) OVER w AS l, LAG(v, 1, 0) OVER w AS l0, \
         SUM(v) OVER w AS s, COUNT(*) OVER w AS c, AVG(x) OVER w AS a FROM ev WINDOW w AS (ORDER BY ts)",
    ));
}

#[test]
fn what_no_stream_can_answer_is_refused_with_its_place() {
    expect![[r#"
        SELECT id FROM ev ORDER BY v
          ORDER BY a column that is no time attribute needs a LIMIT (line 2, column 28)
          detail: a stream has no end at which its rows could be sorted
          hint: ORDER BY the event-time attribute, ascending; or take the first rows only: ORDER BY .. LIMIT 10
        SELECT id FROM ev ORDER BY ts DESC
          ORDER BY a time attribute must be ascending (line 2, column 28)
          detail: a stream has no end at which its rows could be sorted
          hint: ORDER BY the event-time attribute, ascending; or take the first rows only: ORDER BY .. LIMIT 10
        SELECT id FROM ev ORDER BY 3 LIMIT 2
          ORDER BY 3, but the query has 1 columns (line 2, column 28)
        SELECT DISTINCT k FROM ev ORDER BY v LIMIT 2
          ORDER BY after SELECT DISTINCT takes columns of SELECT only (line 2, column 36)
        SELECT id FROM ev ORDER BY r LIMIT 2
          rows can't be ordered by ROW<`a` INT, `b` ROW<`c` STRING, `d` INT>> (line 2, column 28)
        SELECT id FROM ev LIMIT 1 + 1
          LIMIT must be a whole number, written out (line 2, column 25)
        SELECT id FROM ev OFFSET 2
          OFFSET without LIMIT over a stream is not supported yet (line 2, column 26)
          hint: add LIMIT, or FETCH NEXT 10 ROWS ONLY
        SELECT id, ROW_NUMBER() FROM ev
          ROW_NUMBER needs a window: ROW_NUMBER(..) OVER (..) (line 2, column 12)
          hint: OVER (PARTITION BY k ORDER BY ts)
        SELECT id FROM ev WHERE ROW_NUMBER() OVER (ORDER BY v) = 1
          ROW_NUMBER .. OVER can't stand here (line 2, column 25)
          hint: it stands in SELECT, QUALIFY and ORDER BY; filter its result in an outer query
        SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY v) AS rn FROM ev) WHERE rn > 3
          a ranking is filtered from below only: its end is not specified (line 2, column 27)
          hint: bound it from above, too: WHERE rn BETWEEN 2 AND 10
        SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY v) AS rn FROM ev) WHERE rn <= 0
          no row has a number up to 0: the first row's is 1 (line 2, column 27)
        SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY v) AS rn FROM ev) WHERE rn BETWEEN 4 AND 2
          no row has a number from 4 to 2: the range is empty (line 2, column 27)
        SELECT SUM(v) OVER (PARTITION BY k) FROM ev
          OVER over a stream needs ORDER BY (line 2, column 8)
          hint: OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
        SELECT SUM(v) OVER (ORDER BY ts DESC) FROM ev
          OVER over a stream must be in ascending order (line 2, column 8)
          hint: OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
        SELECT SUM(v) OVER (ORDER BY ts, v) FROM ev
          OVER over a stream must be ordered by a single column (line 2, column 8)
          hint: OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
        SELECT SUM(v) OVER (ORDER BY ts ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING) FROM ev
          FOLLOWING in a window over a stream is not supported yet (line 2, column 8)
          detail: the rows that follow have not come yet
          hint: end the window with CURRENT ROW
        SELECT SUM(v) OVER (ORDER BY ts ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) FROM ev
          a window that ends before the current row is not supported yet (line 2, column 8)
          hint: end the window with CURRENT ROW
        SELECT SUM(v) OVER (ORDER BY ts RANGE BETWEEN 5 PRECEDING AND CURRENT ROW) FROM ev
          RANGE over a time attribute needs an interval (line 2, column 47)
          hint: write RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW
        SELECT SUM(v) OVER (ORDER BY ts ROWS BETWEEN -1 PRECEDING AND CURRENT ROW) FROM ev
          ROWS needs a whole number of rows, written out (line 2, column 47)
        SELECT SUM(v) OVER w FROM ev WINDOW u AS (ORDER BY ts)
          there is no window 'w' (line 2, column 20)
          hint: known are: u
        SELECT SUM(v) OVER w FROM ev WINDOW w AS (w ORDER BY ts)
          the window 'w' refers to itself (line 2, column 43)
        SELECT LEAD(v) OVER (ORDER BY ts) FROM ev
          LEAD over a stream is not supported yet (line 2, column 8)
          detail: it looks at rows that have not come yet
          hint: LAG looks at rows that came before
        SELECT NTILE(4) OVER (ORDER BY ts) FROM ev
          NTILE over a stream is not supported yet (line 2, column 8)
          detail: it needs all rows of its partition, which never end
        SELECT UPPER(k) OVER (ORDER BY ts) FROM ev
          UPPER is no function of a window: OVER can't stand after it (line 2, column 8)
        SELECT LAG(v, id) OVER (ORDER BY ts) FROM ev
          LAG's offset must be a whole number, written out (line 2, column 15)
        SELECT RANK() OVER (ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM ev
          RANK takes no ROWS or RANGE in its window (line 2, column 8)
        SELECT SUM(SUM(v) OVER (ORDER BY ts)) OVER (ORDER BY ts) FROM ev
          SUM .. OVER can't stand here (line 2, column 12)
          hint: it stands in SELECT, QUALIFY and ORDER BY; filter its result in an outer query
    "#]]
    .assert_eq(&errors(&[
        "SELECT id FROM ev ORDER BY v",
        "SELECT id FROM ev ORDER BY ts DESC",
        "SELECT id FROM ev ORDER BY 3 LIMIT 2",
        "SELECT DISTINCT k FROM ev ORDER BY v LIMIT 2",
        "SELECT id FROM ev ORDER BY r LIMIT 2",
        "SELECT id FROM ev LIMIT 1 + 1",
        "SELECT id FROM ev OFFSET 2",
        "SELECT id, ROW_NUMBER() FROM ev",
        "SELECT id FROM ev WHERE ROW_NUMBER() OVER (ORDER BY v) = 1",
        "SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY v) AS rn FROM ev) WHERE rn > 3",
        "SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY v) AS rn FROM ev) WHERE rn <= 0",
        "SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY v) AS rn FROM ev) WHERE rn BETWEEN 4 AND 2",
        "SELECT SUM(v) OVER (PARTITION BY k) FROM ev",
        "SELECT SUM(v) OVER (ORDER BY ts DESC) FROM ev",
        "SELECT SUM(v) OVER (ORDER BY ts, v) FROM ev",
        "SELECT SUM(v) OVER (ORDER BY ts ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING) FROM ev",
        "SELECT SUM(v) OVER (ORDER BY ts ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) FROM ev",
        "SELECT SUM(v) OVER (ORDER BY ts RANGE BETWEEN 5 PRECEDING AND CURRENT ROW) FROM ev",
        "SELECT SUM(v) OVER (ORDER BY ts ROWS BETWEEN -1 PRECEDING AND CURRENT ROW) FROM ev",
        "SELECT SUM(v) OVER w FROM ev WINDOW u AS (ORDER BY ts)",
        "SELECT SUM(v) OVER w FROM ev WINDOW w AS (w ORDER BY ts)",
        "SELECT LEAD(v) OVER (ORDER BY ts) FROM ev",
        "SELECT NTILE(4) OVER (ORDER BY ts) FROM ev",
        "SELECT UPPER(k) OVER (ORDER BY ts) FROM ev",
        "SELECT LAG(v, id) OVER (ORDER BY ts) FROM ev",
        "SELECT RANK() OVER (ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM ev",
        "SELECT SUM(SUM(v) OVER (ORDER BY ts)) OVER (ORDER BY ts) FROM ev",
    ]));
}
