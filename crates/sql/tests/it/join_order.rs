//! The order of inner joins, and conditions that the sides of an OR have in common.

use super::{check, plan};
use expect_test::expect;

#[test]
fn tables_are_joined_with_those_that_they_are_equal_to() {
    // In the order that is written, ev and o2 would be paired row by row.
    check(
        "SELECT ev.v, o2.n FROM ev, o AS o2, o WHERE ev.k = o.k AND o.n = o2.n",
        1,
        expect![[r#"
        Sink(select) id=select changelog=[I]
        |   test sink select
        |   columns: v INT, n BIGINT
        +- hash[] (all to one worker) Calc id=select/calc#4 changelog=[I]
           |   select: v, n
           +- Join id=select/join#2 changelog=[I]
              |   INNER on [n = n]
              |   state: select/join#2/left
              |   state: select/join#2/right
              +- hash[n] Calc id=select/calc#2 changelog=[I]
              |  |   select: v, n
              |  +- Join id=select/join changelog=[I]
              |     |   INNER on [k = k]
              |     |   state: select/join/left
              |     |   state: select/join/right
              |     +- hash[k] Calc id=select/calc changelog=[I]
              |     |  |   select: k, v
              |     |  +- Source(ev) id=source:ev changelog=[I]
              |     |         test(k STRING, v INT, ts TIMESTAMP(3))
              |     |         columns: k STRING, v INT, ts TIMESTAMP(3)
              |     |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
              |     +- hash[k] Source(o) id=source:o changelog=[I]
              |            test(k STRING, n BIGINT)
              |            columns: k STRING, n BIGINT
              +- hash[n] Calc id=select/calc#3 changelog=[I]
                 |   select: n
                 +- Source(o) [see source:o]
    "#]],
    );
}

#[test]
fn what_an_or_has_in_common_is_a_key() {
    check(
        "SELECT ev.v, o.n FROM ev JOIN o ON (ev.k = o.k AND v > 1 AND n = 1) OR (v < 1 AND ev.k = o.k AND n = 2)",
        1,
        expect![[r#"
            Sink(select) id=select changelog=[I]
            |   test sink select
            |   columns: v INT, n BIGINT
            +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
               |   select: v, n
               +- Join id=select/join changelog=[I]
                  |   INNER on [k = k]
                  |   where: (((v > 1) AND (n = 1)) OR ((v < 1) AND (n = 2)))
                  |   state: select/join/left
                  |   state: select/join/right
                  +- hash[k] Calc id=select/calc changelog=[I]
                  |  |   select: k, v
                  |  +- Source(ev) id=source:ev changelog=[I]
                  |         test(k STRING, v INT, ts TIMESTAMP(3))
                  |         columns: k STRING, v INT, ts TIMESTAMP(3)
                  |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
                  +- hash[k] Source(o) id=source:o changelog=[I]
                         test(k STRING, n BIGINT)
                         columns: k STRING, n BIGINT
        "#]],
    );
    check(
        "SELECT v FROM ev, o WHERE ev.k = o.k OR (v < 1 AND ev.k = o.k)",
        1,
        expect![[r#"
        Sink(select) id=select changelog=[I]
        |   test sink select
        |   columns: v INT
        +- hash[] (all to one worker) Calc id=select/calc#2 changelog=[I]
           |   select: v
           +- Join id=select/join changelog=[I]
              |   INNER on [k = k]
              |   state: select/join/left
              |   state: select/join/right
              +- hash[k] Calc id=select/calc changelog=[I]
              |  |   select: k, v
              |  +- Source(ev) id=source:ev changelog=[I]
              |         test(k STRING, v INT, ts TIMESTAMP(3))
              |         columns: k STRING, v INT, ts TIMESTAMP(3)
              |         watermark: ts AS (ts - +0 00:00:05.000), every 200 ms
              +- hash[k] Source(o) id=source:o changelog=[I]
                     test(k STRING)
                     columns: k STRING
    "#]],
    );
}

#[test]
fn orders_that_are_as_good_stay() {
    let joins = |script: &str| {
        let planned = plan(script, 1).expect("the script is planned");
        let lines = millstream_sql::explain(&planned);
        lines
            .lines()
            .filter(|line| line.contains("INNER"))
            .map(|line| line.trim_matches(['|', ' ']).to_string())
            .collect::<Vec<_>>()
    };
    // Nothing connects the third table.
    expect![[r#"
        [
            "INNER on []",
            "INNER on [k = k]",
        ]
    "#]]
    .assert_debug_eq(&joins("SELECT 1 FROM ev, o, o AS o2 WHERE ev.k = o.k"));
    // As written each has an equality.
    expect![[r#"
        [
            "INNER on [k = k]",
            "INNER on [n = n]",
        ]
    "#]]
    .assert_debug_eq(&joins("SELECT 1 FROM o AS o2, o, ev WHERE ev.k = o.k AND o.n = o2.n"));
    // A lifetime of its own for a join's state belongs to that join.
    expect![[r#"
        [
            "INNER on [k = k, n = n]",
            "INNER on []",
        ]
    "#]]
    .assert_debug_eq(&joins(
        "SELECT /*+ STATE_TTL('ev' = '1d', 'o2' = '1d') */ 1 FROM ev, o AS o2, o WHERE ev.k = o.k AND o.n = o2.n",
    ));
}
