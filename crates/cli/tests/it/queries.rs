//! Subqueries, set operations, UNNEST and joins by USING, over rows with NULLs and duplicates, against a recomputation.

use crate::script::{Script, stdout_of};
use std::collections::BTreeMap;

type Value = Option<i64>;
type Row = (Value, Value);

const L: &[Row] = &[
    (Some(1), Some(10)),
    (Some(1), Some(10)),
    (Some(2), Some(20)),
    (Some(2), None),
    (Some(3), Some(5)),
    (Some(3), Some(30)),
    (Some(4), Some(2)),
    (None, Some(10)),
    (None, None),
    (Some(5), Some(1)),
];
const R: &[Row] = &[
    (Some(1), Some(10)),
    (Some(1), Some(11)),
    (Some(2), None),
    (Some(2), Some(20)),
    (Some(3), Some(5)),
    (Some(3), Some(5)),
    (None, Some(10)),
    (Some(7), Some(2)),
];
/// Without a NULL.
const N: &[Row] = &[(Some(1), Some(10)), (Some(3), Some(5)), (Some(3), Some(4)), (Some(4), Some(1))];
const E: &[Row] = &[];

fn script(query: &str) -> Script {
    let tables = ["l", "r", "n", "e"].map(|name| {
        format!(
            "CREATE TABLE {name} (k INT, v INT) \
             WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/{name}.json', 'format' = 'json');\n"
        )
    });
    let script = Script::new(&format!("{}{query};", tables.concat()));
    let cell = |value: Value| value.map_or("null".to_string(), |v| v.to_string());
    for (name, rows) in [("l", L), ("r", R), ("n", N), ("e", E)] {
        let line = |(k, v): &Row| format!("{{\"k\": {}, \"v\": {}}}\n", cell(*k), cell(*v));
        std::fs::write(script.path(&format!("{name}.json")), rows.iter().map(line).collect::<String>()).unwrap();
    }
    script
}

/// The rows that a changelog leaves, each as text.
fn folded(changelog: &str) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for line in changelog.lines() {
        let change: serde_json::Value = serde_json::from_str(line).unwrap();
        let values: Vec<String> = change["row"].as_object().unwrap().values().map(ToString::to_string).collect();
        let adds = change["op"].as_str().unwrap().starts_with('+');
        *counts.entry(values.join(",")).or_insert(0) += if adds { 1 } else { -1 };
    }
    let rows = counts.into_iter().flat_map(|(row, count): (String, i64)| {
        assert!(count >= 0, "{row} is taken back more often than it came");
        vec![row; count as usize]
    });
    rows.collect()
}

fn check(query: &str, expected: impl IntoIterator<Item = Vec<Value>>) {
    let text = |value: &Value| value.map_or("null".to_string(), |v| v.to_string());
    check_text(query, expected.into_iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join(",")));
}

fn check_text(query: &str, expected: impl IntoIterator<Item = String>) {
    let mut expected: Vec<String> = expected.into_iter().collect();
    expected.sort();
    for parallelism in ["1", "3"] {
        let output = script(query).run(&["--format", "jsonl", "--parallelism", parallelism]);
        assert_eq!(folded(&stdout_of(&output)), expected, "{query}, on {parallelism} workers");
    }
}

fn equal(a: Value, b: Value) -> Option<bool> {
    Some(a? == b?)
}

/// `x IN (..)`, which is unknown if nothing is equal but something is NULL.
fn is_in(x: Value, values: impl IntoIterator<Item = Value>) -> Option<bool> {
    let equals: Vec<Option<bool>> = values.into_iter().map(|value| equal(x, value)).collect();
    if equals.contains(&Some(true)) {
        return Some(true);
    }
    if equals.contains(&None) { None } else { Some(false) }
}

fn keys(rows: &[Row]) -> Vec<Value> {
    rows.iter().map(|row| row.0).collect()
}

/// The values of a key's rows.
fn values_of(rows: &[Row], key: Value) -> Vec<Value> {
    rows.iter().filter(|row| equal(row.0, key) == Some(true)).map(|row| row.1).collect()
}

fn rows_where(holds: impl Fn(&Row) -> Option<bool>) -> Vec<Vec<Value>> {
    L.iter().filter(|row| holds(row) == Some(true)).map(|row| vec![row.0, row.1]).collect()
}

fn not(truth: Option<bool>) -> Option<bool> {
    truth.map(|truth| !truth)
}

#[test]
fn in_and_not_in_follow_three_valued_logic() {
    check("SELECT k, v FROM l WHERE k IN (SELECT k FROM r)", rows_where(|l| is_in(l.0, keys(R))));
    check("SELECT k, v FROM l WHERE k NOT IN (SELECT k FROM r)", []);
    check("SELECT k, v FROM l WHERE k NOT IN (SELECT k FROM n)", rows_where(|l| not(is_in(l.0, keys(N)))));
    check("SELECT k, v FROM l WHERE k NOT IN (SELECT k FROM e)", rows_where(|_| Some(true)));
    check(
        "SELECT k, v FROM l WHERE NOT k IN (SELECT k FROM n WHERE v > 4) AND v > 1",
        rows_where(|l| not(is_in(l.0, [Some(1), Some(3)])).filter(|holds| *holds && l.1 > Some(1))),
    );
    let pair = |l: &Row| Some(R.iter().any(|r| equal(l.0, r.0) == Some(true) && equal(l.1, r.1) == Some(true)));
    check("SELECT k, v FROM l WHERE (k, v) IN (SELECT k, v FROM r)", rows_where(pair));
    let differs = |l: &Row| {
        let equals = |n: &Row| match (equal(l.0, n.0), equal(l.1, n.1)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
        Some(N.iter().all(|n| equals(n) == Some(false)))
    };
    check("SELECT k, v FROM l WHERE (k, v) NOT IN (SELECT k, v FROM n)", rows_where(differs));
}

#[test]
fn a_subquery_may_read_the_row_that_it_is_asked_for() {
    check(
        "SELECT k, v FROM l WHERE v IN (SELECT v FROM r WHERE r.k = l.k)",
        rows_where(|l| is_in(l.1, values_of(R, l.0))),
    );
    check(
        "SELECT k, v FROM l WHERE v NOT IN (SELECT v FROM r WHERE r.k = l.k)",
        rows_where(|l| not(is_in(l.1, values_of(R, l.0)))),
    );
    let larger = |l: &Row| values_of(R, l.0).iter().any(|v| v.zip(l.1).is_some_and(|(r, l)| r > l));
    check(
        "SELECT k, v FROM l WHERE EXISTS (SELECT * FROM r WHERE r.k = l.k AND r.v > l.v)",
        rows_where(|l| Some(larger(l))),
    );
    check(
        "SELECT k, v FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND r.v > l.v)",
        rows_where(|l| Some(!larger(l))),
    );
    let below = |l: &Row| R.iter().any(|r| r.1.zip(l.1).is_some_and(|(r, l)| r < l));
    check("SELECT k, v FROM l WHERE EXISTS (SELECT 1 FROM r WHERE r.v < l.v)", rows_where(|l| Some(below(l))));
    check("SELECT k, v FROM l WHERE NOT EXISTS (SELECT 1 FROM e)", rows_where(|_| Some(true)));
    let nested = |l: &Row| values_of(R, l.0).into_iter().any(|v| !values_of(N, l.0).contains(&v));
    check(
        "SELECT k, v FROM l WHERE EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND NOT EXISTS \
         (SELECT 1 FROM n WHERE n.k = r.k AND n.v = r.v))",
        rows_where(|l| Some(nested(l))),
    );
}

#[test]
fn a_subquery_is_a_value_under_or_and_in_select() {
    let truth = |t: Option<bool>| t.map_or("null".to_string(), |t| t.to_string());
    let cell = |value: Value| value.map_or("null".to_string(), |v| v.to_string());
    for (table, rows) in [("r", R), ("n", N), ("e", E)] {
        check_text(
            &format!("SELECT k, k IN (SELECT k FROM {table}) AS b FROM l"),
            L.iter().map(|l| format!("{},{}", cell(l.0), truth(is_in(l.0, keys(rows))))),
        );
    }
    check_text(
        "SELECT v, v NOT IN (SELECT v FROM r WHERE r.k = l.k) AS b, EXISTS (SELECT 1 FROM n WHERE n.k = l.k) AS c FROM l",
        L.iter().map(|l| {
            let exists = !values_of(N, l.0).is_empty();
            format!("{},{},{exists}", cell(l.1), truth(not(is_in(l.1, values_of(R, l.0)))))
        }),
    );
    let row = |l: &Row| {
        let equals = |r: &Row| match (equal(l.0, r.0), equal(l.1, r.1)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
        let all: Vec<Option<bool>> = R.iter().map(equals).collect();
        if all.contains(&Some(true)) { Some(true) } else { (!all.contains(&None)).then_some(false) }
    };
    check_text(
        "SELECT k, (k, v) IN (SELECT k, v FROM r) AS b FROM l",
        L.iter().map(|l| format!("{},{}", cell(l.0), truth(row(l)))),
    );
    let least = N.iter().filter_map(|n| n.1).min();
    check_text(
        "SELECT v, v <= ALL (SELECT v FROM n) AS b, v > ANY (SELECT v FROM n WHERE n.k = l.k) AS c FROM l",
        L.iter().map(|l| {
            let any = values_of(N, l.0).into_iter().map(|n| n.zip(l.1).map(|(n, v)| v > n)).collect::<Vec<_>>();
            let any = if any.contains(&Some(true)) { Some(true) } else { (!any.contains(&None)).then_some(false) };
            format!("{},{},{}", cell(l.1), truth(least.zip(l.1).map(|(least, v)| v <= least)), truth(any))
        }),
    );
    check(
        "SELECT k, v FROM l WHERE k NOT IN (SELECT k FROM n) OR v = 10",
        rows_where(|l| Some(not(is_in(l.0, keys(N))) == Some(true) || l.1 == Some(10))),
    );
}

#[test]
fn a_scalar_subquery_is_null_without_a_row_and_a_correlated_count_is_0() {
    let max = |rows: Vec<Value>| rows.into_iter().flatten().max();
    let all = max(R.iter().map(|r| r.1).collect());
    check("SELECT k, (SELECT MAX(v) FROM r) AS m FROM l", L.iter().map(|l| vec![l.0, all]));
    check("SELECT k, (SELECT COUNT(*) FROM e) AS m FROM l", L.iter().map(|l| vec![l.0, None]));
    check(
        "SELECT k, (SELECT COUNT(*) + 1 FROM r WHERE r.k = l.k) AS c, (SELECT MAX(v) FROM r WHERE r.k = l.k) AS m FROM l",
        L.iter().map(|l| {
            let values = values_of(R, l.0);
            vec![l.0, Some(values.len() as i64 + 1), max(values)]
        }),
    );
    check("SELECT k, v FROM l WHERE v >= (SELECT MAX(v) FROM r WHERE r.k = l.k)", {
        rows_where(|l| Some(l.1? >= max(values_of(R, l.0))?))
    });
    let mut sums: BTreeMap<Value, (i64, i64)> = BTreeMap::new();
    for (k, v) in L {
        let (count, sum) = sums.entry(*k).or_default();
        (*count, *sum) = (*count + 1, *sum + v.unwrap_or(0));
    }
    check(
        "SELECT k, COUNT(*) AS c, (SELECT COUNT(*) FROM n WHERE n.k = l.k) AS x FROM l GROUP BY k \
         HAVING SUM(v) > (SELECT MIN(v) * 2 FROM r)",
        sums.iter()
            .filter(|(_, (_, sum))| *sum > 4)
            .map(|(k, (count, _))| vec![*k, Some(*count), Some(values_of(N, *k).len() as i64)]),
    );
}

#[test]
fn any_condition_may_join_a_subquery_with_the_row_that_it_is_asked_for() {
    let below = |l: &Row| -> Vec<i64> { R.iter().filter_map(|r| r.1.filter(|v| Some(*v) < l.1)).collect() };
    check(
        "SELECT v, (SELECT COUNT(*) FROM r WHERE r.v < l.v) AS c, (SELECT MAX(r.v) FROM r WHERE r.v < l.v) AS m FROM l",
        L.iter().map(|l| vec![l.1, Some(below(l).len() as i64), below(l).into_iter().max()]),
    );
    check(
        "SELECT k, v FROM l WHERE k IN (SELECT k FROM r WHERE r.v < l.v) OR EXISTS (SELECT 1 FROM n WHERE n.v > l.v)",
        rows_where(|l| {
            let some = R.iter().any(|r| r.0.is_some() && r.0 == l.0 && r.1.is_some() && r.1 < l.1);
            let more = l.1.is_some() && N.iter().any(|n| n.1 > l.1);
            Some(some || more)
        }),
    );
    // In a table of FROM, and in ON.
    let larger = |l: &Row| values_of(R, l.0).iter().any(|v| v.zip(l.1).is_some_and(|(r, l)| r > l));
    check(
        "SELECT k, v FROM l WHERE EXISTS (SELECT 1 FROM (SELECT v AS w FROM r WHERE r.k = l.k) AS t WHERE w > l.v)",
        rows_where(|l| Some(larger(l))),
    );
    check(
        "SELECT k, v FROM l WHERE EXISTS (SELECT 1 FROM n JOIN r ON n.k = r.k AND r.v > l.v AND n.k = l.k)",
        rows_where(|l| Some(!values_of(N, l.0).is_empty() && larger(l))),
    );
}

#[test]
fn a_scalar_subquery_with_two_rows_fails_the_job() {
    let output = script("SELECT k, (SELECT k FROM r) AS x FROM l").run(&["--format", "jsonl"]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("a subquery that stands for one value gave more than one row"), "{stderr}");
}

/// Each row as often as `copies` makes of its numbers on both sides.
fn combined(left: &[Row], right: &[Row], copies: impl Fn(i64, i64) -> i64) -> Vec<Vec<Value>> {
    let mut counts: BTreeMap<Row, (i64, i64)> = BTreeMap::new();
    left.iter().for_each(|row| counts.entry(*row).or_default().0 += 1);
    right.iter().for_each(|row| counts.entry(*row).or_default().1 += 1);
    let all = counts.into_iter().flat_map(|((k, v), (l, r))| vec![vec![k, v]; copies(l, r).max(0) as usize]);
    all.collect()
}

#[test]
fn set_operations_count_equal_rows_with_their_nulls() {
    let op = |name: &str| format!("SELECT k, v FROM l {name} SELECT k, v FROM r");
    check(&op("UNION"), combined(L, R, |_, _| 1));
    check(&op("UNION ALL"), combined(L, R, |l, r| l + r));
    check(&op("INTERSECT"), combined(L, R, |l, r| i64::from(l > 0 && r > 0)));
    check(&op("INTERSECT ALL"), combined(L, R, |l, r| l.min(r)));
    check(&op("EXCEPT"), combined(L, R, |l, r| i64::from(l > 0 && r == 0)));
    check(&op("EXCEPT ALL"), combined(L, R, |l, r| l - r));
    // INTERSECT binds tighter; the types are made equal.
    let both = combined(N, R, |n, r| i64::from(n > 0 && r > 0));
    let n: Vec<Row> = both.iter().map(|row| (row[0], row[1])).collect();
    check(
        "SELECT k, CAST(v AS BIGINT) AS v FROM l EXCEPT SELECT k, v FROM n INTERSECT SELECT k, v FROM r",
        combined(L, &n, |l, n| i64::from(l > 0 && n == 0)),
    );
}

#[test]
fn subqueries_of_views_and_of_views_in_subqueries_are_bound_by_themselves() {
    check(
        "CREATE VIEW matched AS SELECT k, v FROM l WHERE k IN (SELECT k FROM n); CREATE VIEW w (a) AS SELECT k FROM matched;
         SELECT k, v FROM matched AS r WHERE EXISTS (SELECT 1 FROM w WHERE a = r.k)",
        rows_where(|l| is_in(l.0, keys(N))),
    );
}

#[test]
fn set_operations_follow_rows_that_change() {
    let groups = |rows: &[Row]| {
        let mut counts: BTreeMap<Value, i64> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.0).or_default() += 1);
        counts.into_iter().map(|(k, count)| (k, Some(count))).collect::<Vec<Row>>()
    };
    let (l, r) = (groups(L), groups(R));
    let op =
        |name: &str| format!("SELECT k, COUNT(*) AS c FROM l GROUP BY k {name} SELECT k, COUNT(*) FROM r GROUP BY k");
    check(&op("INTERSECT"), combined(&l, &r, |l, r| l.min(r)));
    check(&op("EXCEPT"), combined(&l, &r, |l, r| l - r));
    check(&op("EXCEPT ALL"), combined(&l, &r, |l, r| l - r));
    let numbers: Vec<Row> = l.iter().map(|row| (row.1, None)).collect();
    let others: Vec<Row> = r.iter().map(|row| (row.1, None)).collect();
    check(
        "SELECT c FROM (SELECT k, COUNT(*) AS c FROM l GROUP BY k) EXCEPT ALL \
         SELECT c FROM (SELECT k, COUNT(*) AS c FROM r GROUP BY k)",
        combined(&numbers, &others, |l, r| l - r).into_iter().map(|row| vec![row[0]]),
    );
}

#[test]
fn unnest_gives_a_row_for_each_element() {
    check(
        "SELECT k, x, o FROM l CROSS JOIN UNNEST(ARRAY[v, k]) WITH ORDINALITY AS t(x, o)",
        L.iter().flat_map(|l| [vec![l.0, l.1, Some(1)], vec![l.0, l.0, Some(2)]]),
    );
    check(
        "SELECT a, b FROM l, UNNEST(ARRAY[ROW(k, v), ROW(v, k)]) AS t(a, b) WHERE k > 1",
        L.iter().filter(|l| l.0 > Some(1)).flat_map(|l| [vec![l.0, l.1], vec![l.1, l.0]]),
    );
    check(
        "SELECT x, y FROM l, UNNEST(MAP[1, k, 2, v]) AS t(x, y)",
        L.iter().flat_map(|l| [vec![Some(1), l.0], vec![Some(2), l.1]]),
    );
    check("SELECT x FROM UNNEST(ARRAY[3, 3, 4]) AS t(x)", [3, 3, 4].map(|x| vec![Some(x)]));
    // The collection is of rows that change; a key without a value has no element.
    let collected = "(SELECT k, COLLECT(v) AS vs FROM l GROUP BY k) c";
    let with_value = L.iter().filter(|l| l.1.is_some()).map(|l| vec![l.0, l.1]);
    check(&format!("SELECT k, x FROM {collected} CROSS JOIN UNNEST(vs) AS t(x)"), with_value.clone());
    check(&format!("SELECT k, x FROM {collected} LEFT JOIN UNNEST(vs) AS t(x) ON TRUE"), with_value);
    check(
        "SELECT l.k, x FROM l LEFT JOIN UNNEST(CASE WHEN v > 9 THEN ARRAY[v, 0] END) AS t(x) ON TRUE",
        L.iter().flat_map(|l| match l.1 {
            Some(v) if v > 9 => vec![vec![l.0, l.1], vec![l.0, Some(0)]],
            _ => vec![vec![l.0, None]],
        }),
    );
    // What the condition isn't TRUE of is no element; a row without any is there once.
    check(
        "SELECT k, x FROM l LEFT JOIN UNNEST(ARRAY[v, k, 4, 4]) AS t(x) ON x > k AND (x < 20 OR v = 30)",
        L.iter().flat_map(|(k, v)| {
            let is_element = |x: &Value| x > k && k.is_some() && (*x < Some(20) || *v == Some(30));
            let found: Vec<_> = [*v, *k, Some(4), Some(4)].into_iter().filter(is_element).collect();
            if found.is_empty() { vec![vec![*k, None]] } else { found.into_iter().map(|x| vec![*k, x]).collect() }
        }),
    );
    check(
        &format!("SELECT k, x, o FROM {collected} LEFT JOIN UNNEST(vs) WITH ORDINALITY AS t(x, o) ON o = 2 AND k < 3"),
        [
            vec![Some(1), Some(10), Some(2)],
            vec![Some(2), None, None],
            vec![Some(3), None, None],
            vec![Some(4), None, None],
            vec![None, None, None],
            vec![Some(5), None, None],
        ],
    );
}

#[test]
fn columns_of_one_name_are_told_apart() {
    let pairs =
        || L.iter().flat_map(|l| R.iter().filter(move |r| l.0.is_some() && l.0 == r.0).map(move |r| (l.1, r.1)));
    let sum = |values: Vec<Value>| values.into_iter().flatten().map(|v| v + 1).reduce(|a, b| a + b);
    check(
        "SELECT SUM(l.v + 1) AS a, SUM(r.v + 1) AS b FROM l, r WHERE l.k = r.k",
        [vec![sum(pairs().map(|p| p.0).collect()), sum(pairs().map(|p| p.1).collect())]],
    );
    let mut groups = BTreeMap::new();
    pairs().for_each(|(a, b)| *groups.entry((a.map(|a| a + 1), b.map(|b| b + 1))).or_insert(0) += 1);
    check(
        "SELECT l.v + 1, r.v + 1, COUNT(*) FROM l, r WHERE l.k = r.k GROUP BY l.v + 1, r.v + 1",
        groups.into_iter().map(|((a, b), count)| vec![a, b, Some(count)]),
    );
}

#[test]
fn inserts_whose_rules_differ_in_constants_get_rows_of_their_own() {
    let sink = |name: &str| format!("'connector' = 'filesystem', 'path' = '${{DIR}}/{name}', 'format' = 'csv'");
    let job = script(&format!(
        "CREATE TABLE a WITH ({}) AS SELECT k FROM l WHERE k IN (1, 2, 7, 8);
         CREATE TABLE b WITH ({}) AS SELECT k FROM l WHERE k IN (3, 4, 7, 8);
         CREATE TABLE c WITH ({}) AS SELECT l.v FROM l, r WHERE l.k = r.k AND l.v + 0 = 10;
         CREATE TABLE d WITH ({}) AS SELECT l.v FROM l, r WHERE l.k = r.k AND r.v + 0 = 10",
        sink("a"),
        sink("b"),
        sink("c"),
        sink("d")
    ));
    stdout_of(&job.run(&[]));
    let rows = |name: &str| {
        let files = std::fs::read_dir(job.path(name)).unwrap();
        let mut lines: Vec<Value> = files
            .flat_map(|file| {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                text.lines().map(|line| line.parse().ok()).collect::<Vec<Value>>()
            })
            .collect();
        lines.sort();
        lines
    };
    let of = |wanted: &[i64]| {
        let mut keys: Vec<Value> = L.iter().map(|l| l.0).filter(|k| k.is_some_and(|k| wanted.contains(&k))).collect();
        keys.sort();
        keys
    };
    assert_eq!(rows("a"), of(&[1, 2, 7, 8]));
    assert_eq!(rows("b"), of(&[3, 4, 7, 8]));
    let pairs =
        || L.iter().flat_map(|l| R.iter().filter(move |r| l.0.is_some() && l.0 == r.0).map(move |r| (l.1, r.1)));
    let mut left: Vec<Value> = pairs().filter(|p| p.0 == Some(10)).map(|p| p.0).collect();
    let mut right: Vec<Value> = pairs().filter(|p| p.1 == Some(10)).map(|p| p.0).collect();
    left.sort();
    right.sort();
    assert_ne!(left, right);
    assert_eq!(rows("c"), left);
    assert_eq!(rows("d"), right);
}

#[test]
fn a_lateral_subquery_reads_the_row_before_it() {
    check(
        "SELECT l.k, t.v FROM l LEFT JOIN LATERAL (SELECT v FROM r WHERE r.k = l.k AND r.v > l.v) AS t ON TRUE",
        L.iter().flat_map(|l| {
            let larger = |v: &Value| v.zip(l.1).is_some_and(|(r, l)| r > l);
            let found: Vec<Vec<Value>> = values_of(R, l.0).into_iter().filter(larger).map(|v| vec![l.0, v]).collect();
            if found.is_empty() { vec![vec![l.0, None]] } else { found }
        }),
    );
    check(
        "SELECT l.k, t.c FROM l CROSS JOIN LATERAL (SELECT COUNT(*) AS c FROM r WHERE r.k = l.k) AS t",
        L.iter().map(|l| vec![l.0, Some(values_of(R, l.0).len() as i64)]),
    );
}

#[test]
fn a_column_of_using_is_never_missing_and_comes_first() {
    let pairs = L.iter().flat_map(|l| values_of(N, l.0).into_iter().map(|v| (l.0, l.1, v)));
    let matched: Vec<Vec<Value>> = pairs.map(|(k, v, other)| vec![k, v, other]).collect();
    let unmatched = L.iter().filter(|l| values_of(N, l.0).is_empty()).map(|l| vec![l.0, l.1, None]);
    check("SELECT * FROM l JOIN n USING (k)", matched.clone());
    check("SELECT * FROM l LEFT JOIN n USING (k)", matched.iter().cloned().chain(unmatched.clone()));
    let alone = [(7, 2)].map(|(k, v)| vec![Some(k), None, Some(v)]);
    let nulls = [vec![None, None, Some(10)]];
    let with_r = L.iter().flat_map(|l| values_of(R, l.0).into_iter().map(|v| vec![l.0, l.1, v]));
    let without_r = L.iter().filter(|l| values_of(R, l.0).is_empty()).map(|l| vec![l.0, l.1, None]);
    check("SELECT * FROM l FULL JOIN r USING (k)", with_r.chain(without_r).chain(alone).chain(nulls));
    check("SELECT k, v FROM l NATURAL JOIN n", L.iter().filter(|l| N.contains(l)).map(|l| vec![l.0, l.1]));
}

#[test]
fn equal_aggregates_run_once_and_their_columns_keep_their_names() {
    let mut insert = String::from("EXECUTE STATEMENT SET BEGIN\n");
    for (sink, names) in [("x", ["a", "b", "c"]), ("y", ["d", "e", "f"])] {
        let [key, count, end] = names;
        insert.push_str(&format!(
            "INSERT INTO {sink} SELECT k AS {key}, COUNT(*) AS {count}, window_end AS {end}
               FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;\n"
        ));
    }
    let sink = |name: &str, [a, b, c]: [&str; 3]| {
        format!(
            "CREATE TABLE {name} ({a} INT, {b} BIGINT, {c} TIMESTAMP(3))
               WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/{name}', 'format' = 'json');\n"
        )
    };
    let script = Script::new(&format!(
        "CREATE TABLE t (k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/t.json', 'format' = 'json');
         {}{}{insert}END;",
        sink("x", ["a", "b", "c"]),
        sink("y", ["d", "e", "f"])
    ));
    std::fs::write(script.path("t.json"), "{\"k\": 7, \"ts\": \"2026-01-01 00:00:00.500\"}\n").unwrap();
    let plan = stdout_of(&script.command("explain", &["--set", "parallelism.default=1"]).output().unwrap());
    assert_eq!(plan.matches(" WindowAggregate id=").count(), 1, "{plan}");
    stdout_of(&script.run(&[]));
    for (sink, expected) in [
        ("x", "{\"a\":7,\"b\":1,\"c\":\"2026-01-01 00:00:01\"}\n"),
        ("y", "{\"d\":7,\"e\":1,\"f\":\"2026-01-01 00:00:01\"}\n"),
    ] {
        let files = std::fs::read_dir(script.path(sink)).unwrap().map(|entry| entry.unwrap().path());
        let shown: Vec<String> = files
            .filter(|file| !file.file_name().unwrap().to_string_lossy().starts_with(['.', '_']))
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        assert_eq!(shown, [expected]);
    }
}
