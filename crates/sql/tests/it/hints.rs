//! The hints that follow SELECT: how long state lives, and mistakes.

use super::{errors, plan};
use expect_test::{Expect, expect};
use millstream_sql::explain;

const MORE: &str = "\
CREATE TABLE l (k STRING, m BIGINT) WITH ('connector' = 'test'); \
CREATE VIEW sums AS SELECT k, SUM(n) AS n FROM o GROUP BY k; ";

/// The operators of a query that keep state, and how long.
fn check(query: &str, expected: Expect) {
    let planned =
        plan(&format!("{MORE}{query}"), 1).map_or_else(|e| format!("error: {e}"), |planned| explain(&planned));
    let wanted = |line: &&str| {
        line.contains(" id=") || line.contains("forgotten") || line.contains(" on [") || line.contains("error")
    };
    let shown = planned.lines().map(|line| line.trim_start_matches([' ', '|', '+', '-'])).filter(wanted);
    let shown = shown.filter(|line| !line.contains("Sink") && !line.contains("Calc"));
    expected
        .assert_eq(&shown.map(|line| line.split(" id=").next().unwrap_or(line).to_string() + "\n").collect::<String>());
}

#[test]
fn the_sides_of_a_join_live_as_long_as_their_hints_say() {
    check(
        "SELECT /*+ STATE_TTL('o' = '3d', 'l' = '1 d') */ o.n, l.m FROM o LEFT JOIN l ON o.k = l.k",
        expect![[r#"
            Join
            LEFT on [k = k]
            state is forgotten: left after 259200000 ms without use, right after 86400000 ms without use
            hash[k] Source(o)
            hash[k] Source(l)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('b' = '12h') */ a.n, b.m FROM o a, l AS b WHERE a.k = b.k AND a.n > b.m",
        expect![[r#"
            Join
            INNER on [k = k]
            state is forgotten: left never, right after 43200000 ms without use
            hash[k] Source(o)
            hash[k] Source(l)
        "#]],
    );
    check(
        "SET 'table.exec.state.ttl' = '2 min'; \
         SELECT /*+ STATE_TTL('default_catalog.default_database.o' = '0') */ o.n, l.m FROM o JOIN l USING (k)",
        expect![[r#"
            Join
            INNER on [k = k]
            state is forgotten: left never, right after 120000 ms without use
            hash[k] Source(o)
            hash[k] Source(l)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('o' = '1 s', 'l' = '1000 ms') */ * FROM o FULL JOIN l ON o.k = UPPER(l.k)",
        expect![[r#"
            Join
            FULL on [k = $key0]
            state is forgotten after 1000 ms without use
            hash[k] Source(o)
            Source(l)
        "#]],
    );
}

#[test]
fn of_several_joins_each_takes_the_hint_about_the_table_that_it_adds() {
    check(
        "SELECT /*+ STATE_TTL('o' = '3 s', 'l' = '1 s', 'c' = '10 s') */ * \
         FROM o JOIN l ON o.k = l.k LEFT JOIN o AS c ON c.k = l.k",
        expect![[r#"
            hash[] (all to one worker) Join
            LEFT on [k = k]
            state is forgotten: left never, right after 10000 ms without use
            hash[k] Join
            INNER on [k = k]
            state is forgotten: left after 3000 ms without use, right after 1000 ms without use
            hash[k] Source(o)
            hash[k] Source(l)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('j' = '5 s', 'o' = '3 s') */ * \
         FROM (o JOIN l ON o.k = l.k) AS j (k, n, k2, m) JOIN o AS c ON c.k = j.k",
        expect![[r#"
            hash[] (all to one worker) Join
            INNER on [k = k]
            state is forgotten: left after 5000 ms without use, right never
            hash[k] Join
            INNER on [k = k]
            state is forgotten: left after 3000 ms without use, right never
            hash[k] Source(o)
            hash[k] Source(l)
        "#]],
    );
}

#[test]
fn groups_live_as_long_as_the_hint_about_the_aggregated_table_says() {
    check(
        "SELECT /*+ STATE_TTL('o' = '1d') */ k, SUM(n) FROM o WHERE n > 1 GROUP BY k HAVING SUM(n) > 5",
        expect![[r#"
            GroupAggregate
            state is forgotten after 86400000 ms without use
            Source(o)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('tmp' = '1d') */ k, COUNT(*) FROM (SELECT k FROM o WHERE n > 0) tmp GROUP BY k",
        expect![[r#"
            hash[] (all to one worker) GroupAggregate
            state is forgotten after 86400000 ms without use
            Source(o)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('o' = '1 s') */ DISTINCT k FROM o",
        expect![[r#"
        hash[] (all to one worker) GroupAggregate
        state is forgotten after 1000 ms without use
        hash[k] Source(o)
    "#]],
    );
    check(
        "WITH w AS (SELECT k FROM o) SELECT /*+ STATE_TTL('w' = '1 s') */ COUNT(*) FROM w",
        expect![[r#"
        hash[] (all to one worker) GroupAggregate
        state is forgotten after 1000 ms without use
        Source(o)
    "#]],
    );
}

#[test]
fn hints_are_about_their_own_query_block() {
    // The view's aggregate is not the hinted one.
    check(
        "SELECT /*+ STATE_TTL('s' = '7 s') */ s.n, COUNT(*) FROM sums AS s GROUP BY s.n",
        expect![[r#"
        hash[] (all to one worker) GroupAggregate
        state is forgotten after 7000 ms without use
        GroupAggregate
        hash[k] Source(o)
    "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('x' = '1 s') */ x.n, l.m \
         FROM (SELECT /*+ STATE_TTL('o' = '2 s') */ k, SUM(n) AS n FROM o GROUP BY k) x JOIN l ON x.k = l.k",
        expect![[r#"
            Join
            INNER on [k = k]
            state is forgotten: left after 1000 ms without use, right never
            hash[k] GroupAggregate
            state is forgotten after 2000 ms without use
            hash[k] Source(o)
            hash[k] Source(l)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('o' = '1 s') */ o.n FROM o JOIN l ON o.k = l.k WHERE o.n IN (SELECT m FROM l)",
        expect![[r#"
            hash[] (all to one worker) Join
            SEMI on [n = m]
            Join
            INNER on [k = k]
            state is forgotten: left after 1000 ms without use, right never
            hash[k] Source(o)
            Source(l)
        "#]],
    );
}

#[test]
fn of_hints_about_one_table_within_a_hint_the_last_counts_and_among_hints_the_first() {
    check(
        "SELECT /*+ STATE_TTL('o' = '1 s', 'o' = '2 s') */ DISTINCT k FROM o",
        expect![[r#"
        hash[] (all to one worker) GroupAggregate
        state is forgotten after 2000 ms without use
        hash[k] Source(o)
    "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('o' = '1 s'), STATE_TTL('o' = '2 s') */ DISTINCT k FROM o",
        expect![[r#"
        hash[] (all to one worker) GroupAggregate
        state is forgotten after 1000 ms without use
        hash[k] Source(o)
    "#]],
    );
}

#[test]
fn hints_without_effect_on_an_operator_change_nothing() {
    check(
        "SELECT /*+ STATE_TTL('o' = '1 s') */ k FROM o",
        expect![[r#"
        hash[] (all to one worker) Source(o)
    "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('a' = '1 s'), BROADCAST(b) */ a.k FROM ev a JOIN ev b ON a.k = b.k \
         AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1' MINUTE",
        expect![[r#"
            IntervalJoin
            INNER on [k = k]
            hash[k] Source(ev)
        "#]],
    );
}

#[test]
fn mistakes_in_hints_are_told() {
    let hinted = |hint: &str| format!("SELECT /*+ {hint} */ a.n, COUNT(*) FROM o AS a GROUP BY a.n");
    let scripts = [
        hinted("STATE_TTL('o' = '1d')"),
        hinted("STATE_TTL('b' = '1d')"),
        hinted("STATE_TTL('a' = 'soon')"),
        hinted("STATE_TTL('a' = '-1 s')"),
        hinted("STATE_TTL('a')"),
        hinted("STATE_TTL(a)"),
        hinted("STATE_TTL()"),
        hinted("STATE_TTL"),
        hinted("STATE_TLL('a' = '1d')"),
        hinted("INDEX(a)"),
    ];
    expect![[r#"
        SELECT /*+ STATE_TTL('o' = '1d') */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          the hint STATE_TTL names 'o', which isn't in FROM (line 2, column 8)
          detail: a table is named by its alias if it has one; views and queries within FROM have their own hints
          hint: known are: a
        SELECT /*+ STATE_TTL('b' = '1d') */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          the hint STATE_TTL names 'b', which isn't in FROM (line 2, column 8)
          detail: a table is named by its alias if it has one; views and queries within FROM have their own hints
          hint: known are: a
        SELECT /*+ STATE_TTL('a' = 'soon') */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          'a' of the hint STATE_TTL is 'soon', but must be a duration, such as '12 h'; '0': for ever (line 2, column 8)
        SELECT /*+ STATE_TTL('a' = '-1 s') */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          'a' of the hint STATE_TTL is '-1 s', but must be a duration, such as '12 h'; '0': for ever (line 2, column 8)
        SELECT /*+ STATE_TTL('a') */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          the hint STATE_TTL takes 'table' = 'duration', not `a` (line 2, column 8)
          hint: write /*+ STATE_TTL('orders' = '1 d', 'c' = '12 h') */
        SELECT /*+ STATE_TTL(a) */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          the hint STATE_TTL takes 'table' = 'duration', not `a` (line 2, column 8)
          hint: write /*+ STATE_TTL('orders' = '1 d', 'c' = '12 h') */
        SELECT /*+ STATE_TTL() */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          the hint STATE_TTL names no table (line 2, column 8)
          hint: write /*+ STATE_TTL('orders' = '1 d', 'c' = '12 h') */
        SELECT /*+ STATE_TTL */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          the hint STATE_TTL names no table (line 2, column 8)
          hint: write /*+ STATE_TTL('orders' = '1 d', 'c' = '12 h') */
        SELECT /*+ STATE_TLL('a' = '1d') */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          there is no hint STATE_TLL (line 2, column 8)
          hint: did you mean 'STATE_TTL'?
        SELECT /*+ INDEX(a) */ a.n, COUNT(*) FROM o AS a GROUP BY a.n
          there is no hint INDEX (line 2, column 8)
          hint: known are: STATE_TTL, LOOKUP, BROADCAST, SHUFFLE_HASH, SHUFFLE_MERGE, NEST_LOOP
    "#]]
    .assert_eq(&errors(&scripts.iter().map(String::as_str).collect::<Vec<_>>()));
}
