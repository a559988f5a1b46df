//! MATCH_RECOGNIZE: plans, derived types and errors.

use super::{check, errors, plan, types};
use expect_test::expect;

/// A pattern over the table `ev`.
fn of(clauses: &str) -> String {
    format!("SELECT * FROM ev MATCH_RECOGNIZE ({clauses}) AS m")
}

/// What stands before a pattern that only the rest of it matters of.
const HEAD: &str = "ORDER BY ts MEASURES A.id AS a";

#[test]
fn a_pattern_reads_only_its_columns_and_goes_by_its_keys() {
    check(
        "SELECT k, total FROM ev MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts, v DESC MEASURES FIRST(A.id) AS first_id, \
         SUM(B.v * 2) AS total, LAST(B.r.b.d, 1) AS d AFTER MATCH SKIP TO LAST B PATTERN (A B{2,} C?) \
         WITHIN INTERVAL '1' HOUR DEFINE A AS A.r.a > 1, B AS B.v > LAST(B.v, 1) OR AVG(v) < A.v)",
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: k STRING, total INT
            +- hash[] (all to one worker) Match id=select/match changelog=[I]
               |   keys: k
               |   order: ts, v DESC
               |   pattern: A B{2,} C? within 3600000 ms, skip to last B
               |   define A: (r.a > 1)
               |   define B: ((v > LAST(B.v, 1)) OR (AVG(v) < A.v))
               |   measures: SUM(B.v * 2) AS total
               |   state: select/match/rows
               |   state: select/match/matches
               +- hash[k] Calc id=select/calc changelog=[I]
                  |   select: k, v, r, ts, (v * 2) AS $a0
                  +- Source(ev) id=source:ev changelog=[I]
                         test(k STRING, v INT, r ROW<`a` INT>, ts TIMESTAMP(3))
                         columns: k STRING, v INT, r ROW<`a` INT>, ts TIMESTAMP(3)
                         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
    check(
        "SELECT * FROM ev MATCH_RECOGNIZE (ORDER BY pt MEASURES A.id AS a, MATCH_PROCTIME() AS p PATTERN (A B) \
         DEFINE B AS B.v > A.v AND k = 'x')",
        2,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: a INT, p TIMESTAMP_LTZ(3) NOT NULL
            +- hash[] (all to one worker) Match id=select/match changelog=[I]
               |   order: processing time
               |   pattern: A B, skip to next row
               |   define B: ((v > A.v) AND (k = 'x'))
               |   measures: A.id AS a, PROCTIME() AS p
               |   state: select/match/rows
               |   state: select/match/matches
               +- hash[] (all to one worker) Source(ev) id=source:ev changelog=[I]
                      test(id INT, k STRING, v INT, ts TIMESTAMP(3))
                      columns: id INT, k STRING, v INT, ts TIMESTAMP(3)
                      watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn a_match_has_its_time_by_which_windows_can_be_cut() {
    check(
        "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE((SELECT * FROM ev MATCH_RECOGNIZE (PARTITION BY k \
         ORDER BY ts MEASURES MATCH_ROWTIME() AS mt PATTERN (A B) DEFINE B AS B.v > A.v)), DESCRIPTOR(mt), \
         INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: window_start TIMESTAMP(3) NOT NULL, n BIGINT NOT NULL
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: window_start, $agg0 AS n
               +- WindowAggregate id=select/aggregate changelog=[I]
                  |   window: TUMBLE(size 60000 ms) on event time mt
                  |   aggregates: Count(*): BIGINT NOT NULL
                  |   properties: window_start
                  |   state: select/aggregate/slices
                  |   state: select/aggregate/due
                  +- hash[] (all to one worker) Calc id=select/calc changelog=[I]
                     |   select: mt
                     +- Match id=select/match changelog=[I]
                        |   keys: k
                        |   order: ts
                        |   pattern: A B, skip to next row
                        |   define B: (v > A.v)
                        |   measures: MATCH_ROWTIME() AS mt
                        |   state: select/match/rows
                        |   state: select/match/matches
                        +- hash[k] Source(ev) id=source:ev changelog=[I]
                               test(k STRING, v INT, ts TIMESTAMP(3))
                               columns: k STRING, v INT, ts TIMESTAMP(3)
                               watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
        "#]],
    );
}

#[test]
fn types_of_measures_are_flinks() {
    let measures = "A.id AS a, B.v AS b, FIRST(v) AS f, LAST(A.x, 2) AS l, COUNT(*) AS n, COUNT(B.v) AS nb, \
        SUM(A.v) AS s, AVG(x) AS av, MAX(A.ts) AS m, A.ts AS ts1, MATCH_ROWTIME() AS mr, MATCH_ROWTIME(ts) AS mrt, \
        MATCH_PROCTIME() AS mp, A.r.b.c AS c, A.v + B.v AS ab, FINAL LAST(B.v) AS fin, LISTAGG(A.k) AS ks, 1 AS n1";
    expect![[r#"
        k STRING
        a INT
        b INT
        f INT
        l DOUBLE
        n BIGINT NOT NULL
        nb BIGINT NOT NULL
        s INT
        av DOUBLE
        m TIMESTAMP(3)
        ts1 TIMESTAMP(3)
        mr TIMESTAMP(3) NOT NULL
        mrt TIMESTAMP(3) NOT NULL
        mp TIMESTAMP_LTZ(3) NOT NULL
        c STRING
        ab INT
        fin INT
        ks STRING
        n1 INT NOT NULL
    "#]]
    .assert_eq(&types(&of(&format!(
        "PARTITION BY k ORDER BY ts MEASURES {measures} ONE ROW PER MATCH PATTERN (A B*? C) DEFINE A AS TRUE"
    ))));
}

#[test]
fn forms_that_flink_takes_are_taken() {
    for clauses in [
        "PATTERN (A (B C)) DEFINE A AS TRUE",
        "PATTERN ((A) (B)+? C) DEFINE A AS TRUE",
        "PATTERN (A B{2}) DEFINE A AS TRUE",
        "PATTERN (A B?) DEFINE A AS TRUE",
        "PATTERN (A B{,3}?) DEFINE A AS TRUE",
        "PATTERN (A{2,4} B{3,} C) DEFINE A AS PREV(v, 0) > 1, B AS LAST(v * 2, 1) < v",
        "PATTERN (A `b b` C) DEFINE `b b` AS `b b`.v > A.v",
        "PATTERN (A B) DEFINE A AS r.b.d > 1, B AS B.r.a > A.r.a",
        "AFTER MATCH SKIP TO FIRST B PATTERN (A B) DEFINE B AS COUNT(*) < 5",
    ] {
        let script = of(&format!("{HEAD} {clauses}"));
        assert!(plan(&script, 1).is_ok(), "{clauses}: {:?}", plan(&script, 1).err());
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let patterns = [
        "PATTERN (A B+) DEFINE B AS B.v > A.v",
        "PATTERN (A* B?) DEFINE B AS TRUE",
        "PATTERN (A B A) DEFINE B AS TRUE",
        "PATTERN ((A | B) C) DEFINE B AS TRUE",
        "PATTERN (A (B C)+ D) DEFINE B AS TRUE",
        "PATTERN (PERMUTE(A, B)) DEFINE B AS TRUE",
        "PATTERN (A {- B -} C) DEFINE B AS TRUE",
        "PATTERN (^ A B) DEFINE B AS TRUE",
        "PATTERN (A B?? C) DEFINE B AS TRUE",
        "PATTERN (A B{0} C) DEFINE B AS TRUE",
        "PATTERN (A B{3,2} C) DEFINE B AS TRUE",
        "PATTERN (A SELECT) DEFINE A AS TRUE",
        "PATTERN (A B) DEFINE C AS TRUE",
        "PATTERN (A B) DEFINE A AS TRUE, A AS FALSE",
        "PATTERN (A B) DEFINE B AS B.v",
        "PATTERN (A B) DEFINE B AS C.v > 1",
        "PATTERN (A B) DEFINE B AS B.vv > 1",
        "PATTERN (A B) DEFINE B AS ev.v > 1",
        "PATTERN (A B) DEFINE B AS PREV(B.v) < B.v",
        "PATTERN (A B) DEFINE B AS NEXT(B.v, 1) < B.v",
        "PATTERN (A B) DEFINE B AS LAST(A.v + B.v) > 1",
        "PATTERN (A B) DEFINE B AS SUM(A.v + B.v) > 1",
        "PATTERN (A B) DEFINE B AS SUM(LAST(B.v)) > 1",
        "PATTERN (A B) DEFINE B AS LAST(FIRST(B.v)) > 1",
        "PATTERN (A B) DEFINE B AS COUNT(DISTINCT B.v) > 1",
        "PATTERN (A B) DEFINE B AS LAST(B.v, A.v) > 1",
        "PATTERN (A B) DEFINE B AS FINAL LAST(B.v) > 1",
        "PATTERN (A B) DEFINE B AS B.v IN (SELECT v FROM ev)",
        "PATTERN (A B) WITHIN INTERVAL '1' MONTH DEFINE B AS TRUE",
        "PATTERN (A B) WITHIN INTERVAL '0' SECOND DEFINE B AS TRUE",
        "ALL ROWS PER MATCH PATTERN (A B) DEFINE B AS TRUE",
        "AFTER MATCH SKIP TO LAST C PATTERN (A B) DEFINE B AS TRUE",
    ];
    let mut scripts: Vec<String> = patterns.iter().map(|clauses| of(&format!("{HEAD} {clauses}"))).collect();
    let heads = [
        "MEASURES A.id AS a",
        "ORDER BY v, ts MEASURES A.id AS a",
        "ORDER BY ts DESC MEASURES A.id AS a",
        "ORDER BY ts, v + 1 MEASURES A.id AS a",
        "PARTITION BY v + 1 ORDER BY ts MEASURES A.id AS a",
        "PARTITION BY k ORDER BY ts MEASURES A.k AS k",
        "ORDER BY ts MEASURES A.id AS a, B.id AS a",
        "ORDER BY ts MEASURES CLASSIFIER() AS c",
        "ORDER BY ts MEASURES MATCH_ROWTIME(v) AS c",
        "ORDER BY ts MEASURES SUM(A.k) AS c",
        "ORDER BY ts MEASURES NULL AS c",
    ];
    scripts.extend(heads.iter().map(|head| of(&format!("{head} PATTERN (A B) DEFINE B AS TRUE"))));
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let shown = errors(&scripts).replace("SELECT * FROM ev MATCH_RECOGNIZE ", "");
    expect![[r#"
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B+) DEFINE B AS B.v > A.
          the greedy quantifier of the last variable of PATTERN: B+ is not supported yet (line 2, column 77)
          detail: a greedy variable ends where a row doesn't fit it, which is a row of the next variable
          hint: make it reluctant (B+?), or add a variable that is defined as NOT (B's condition)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A* B?) DEFINE B AS TRUE) A
          a pattern that an empty match fits is not supported yet (line 2, column 75)
          hint: at least one variable must take a row
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B A) DEFINE B AS TRUE) A
          the variable 'A' twice in PATTERN is not supported yet (line 2, column 79)
          hint: give the second another name, with the same condition
        (ORDER BY ts MEASURES A.id AS a PATTERN ((A | B) C) DEFINE B AS TRU
          alternation (A | B) in PATTERN is not supported yet (line 2, column 76)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A (B C)+ D) DEFINE B AS TR
          the quantifier + of a group in PATTERN is not supported yet (line 2, column 78)
          hint: quantifiers stand after single variables
        (ORDER BY ts MEASURES A.id AS a PATTERN (PERMUTE(A, B)) DEFINE B AS
          PERMUTE in PATTERN is not supported yet (line 2, column 83)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A {- B -} C) DEFINE B AS T
          exclusion ({- A -}) in PATTERN is not supported yet (line 2, column 77)
        (ORDER BY ts MEASURES A.id AS a PATTERN (^ A B) DEFINE B AS TRUE) A
          the anchor ^ in PATTERN is not supported yet (line 2, column 15)
          hint: a stream has no first or last row
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B?? C) DEFINE B AS TRUE)
          a reluctant optional variable (A??) is not supported yet (line 2, column 77)
          hint: A? is followed both ways, and the match that is complete first counts
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B{0} C) DEFINE B AS TRUE
          the quantifier {0} allows no row (line 2, column 77)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B{3,2} C) DEFINE B AS TR
          the quantifier {3,2} allows no row (line 2, column 77)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A SELECT) DEFINE A AS TRUE
          `SELECT` is a reserved word (line 2, column 77)
          hint: to use it as a name, write it in backquotes: `SELECT`
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE C AS TRUE) AS 
          PATTERN has no variable 'C' (line 2, column 87)
          hint: known are: A, B
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE A AS TRUE, A A
          the pattern variable 'A' is defined twice (line 2, column 98)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS B.v) AS m
          a condition of DEFINE must be a BOOLEAN, but is INT (line 2, column 94)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS C.v > 1) 
          there is no pattern variable 'C' (line 2, column 92)
          hint: known are: A, B, id, k, v, x, r, ts, pt
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS B.vv > 1)
          there is no column 'vv' (line 2, column 94)
          hint: did you mean 'v'?
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS ev.v > 1)
          there is no pattern variable 'ev' (line 2, column 92)
          hint: known are: A, B, id, k, v, x, r, ts, pt
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS PREV(B.v)
          PREV, which reads rows beside those of the match is not supported yet (line 2, column 92)
          hint: LAST(A.column, 1) reads the row before the last that is mapped to A
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS NEXT(B.v,
          NEXT, which reads rows beside those of the match is not supported yet (line 2, column 92)
          hint: LAST(A.column, 1) reads the row before the last that is mapped to A
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS LAST(A.v 
          LAST must read rows of one pattern variable (line 2, column 92)
          hint: names without a variable are of the rows of all variables
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS SUM(A.v +
          SUM must read rows of one pattern variable (line 2, column 92)
          hint: names without a variable are of the rows of all variables
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS SUM(LAST(
          LAST can't stand in an aggregate, nor in FIRST or LAST (line 2, column 96)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS LAST(FIRS
          FIRST can't stand in an aggregate, nor in FIRST or LAST (line 2, column 97)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS COUNT(DIS
          COUNT(DISTINCT ..) in MATCH_RECOGNIZE is not supported yet (line 2, column 92)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS LAST(B.v,
          LAST takes a whole number of rows (line 2, column 102)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS FINAL LAS
          FINAL can't stand in DEFINE: the match isn't complete yet (line 2, column 92)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS B.v IN (S
          a subquery in MATCH_RECOGNIZE is not supported yet (line 2, column 92)
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) WITHIN INTERVAL '1' M
          WITHIN takes an interval of days to seconds (line 2, column 15)
          hint: write WITHIN INTERVAL '1' HOUR
        (ORDER BY ts MEASURES A.id AS a PATTERN (A B) WITHIN INTERVAL '0' S
          WITHIN must be a positive interval (line 2, column 15)
        (ORDER BY ts MEASURES A.id AS a ALL ROWS PER MATCH PATTERN (A B) DE
          ALL ROWS PER MATCH is not supported yet (line 2, column 15)
          hint: write ONE ROW PER MATCH
        (ORDER BY ts MEASURES A.id AS a AFTER MATCH SKIP TO LAST C PATTERN 
          PATTERN has no variable 'C' (line 2, column 91)
          hint: known are: A, B
        (MEASURES A.id AS a PATTERN (A B) DEFINE B AS TRUE) AS m
          MATCH_RECOGNIZE needs ORDER BY (line 2, column 15)
          hint: ORDER BY must start with a time attribute: a column with WATERMARK FOR, or AS PROCTIME()
        (ORDER BY v, ts MEASURES A.id AS a PATTERN (A B) DEFINE B AS TRUE) 
          MATCH_RECOGNIZE is ordered by 'v' first, which is no time attribute (line 2, column 44)
          hint: ORDER BY must start with a time attribute: a column with WATERMARK FOR, or AS PROCTIME()
        (ORDER BY ts DESC MEASURES A.id AS a PATTERN (A B) DEFINE B AS TRUE
          MATCH_RECOGNIZE can't be ordered by time descending (line 2, column 44)
          hint: rows are searched in the order of their time: leave DESC out
        (ORDER BY ts, v + 1 MEASURES A.id AS a PATTERN (A B) DEFINE B AS TR
          ORDER BY of MATCH_RECOGNIZE takes columns only (line 2, column 48)
        (PARTITION BY v + 1 ORDER BY ts MEASURES A.id AS a PATTERN (A B) DE
          PARTITION BY of MATCH_RECOGNIZE takes columns only (line 2, column 48)
        (PARTITION BY k ORDER BY ts MEASURES A.k AS k PATTERN (A B) DEFINE 
          MATCH_RECOGNIZE has two columns 'k' (line 2, column 78)
          hint: the columns of PARTITION BY are among its columns
        (ORDER BY ts MEASURES A.id AS a, B.id AS a PATTERN (A B) DEFINE B A
          MATCH_RECOGNIZE has two columns 'a' (line 2, column 75)
          hint: the columns of PARTITION BY are among its columns
        (ORDER BY ts MEASURES CLASSIFIER() AS c PATTERN (A B) DEFINE B AS T
          CLASSIFIER in MATCH_RECOGNIZE is not supported yet (line 2, column 56)
        (ORDER BY ts MEASURES MATCH_ROWTIME(v) AS c PATTERN (A B) DEFINE B 
          MATCH_ROWTIME takes the event-time attribute (line 2, column 70)
        (ORDER BY ts MEASURES SUM(A.k) AS c PATTERN (A B) DEFINE B AS TRUE)
          SUM takes a number, but got STRING (line 2, column 56)
        (ORDER BY ts MEASURES NULL AS c PATTERN (A B) DEFINE B AS TRUE) AS 
          the type of NULL is not known here (line 2, column 56)
          hint: give it a type: CAST(NULL AS STRING)
    "#]]
    .assert_eq(&shown);
}
