//! What differs in a constant, or in the table that a column is of, is computed twice; what doesn't is computed once.

use super::plan;
use millstream_core::graph::JobGraph;

/// How many different aggregates the query computes of these values.
fn computed(values: [&str; 2]) -> usize {
    let [a, b] = values;
    let script = format!("SELECT COUNT({a}), COUNT({b}) FROM ev JOIN o ON ev.v = o.n");
    let text = plan(&script, 1).map_or_else(|error| error.to_string(), |plan| millstream_sql::explain(&plan));
    let line = text.lines().find(|line| line.contains("aggregates:"));
    assert!(line.is_some(), "{script}: {text}");
    line.map_or(0, |line| line.matches("Count(").count())
}

/// The job of two inserts, each of one of these values.
fn inserts(values: [&str; 2]) -> Option<std::sync::Arc<JobGraph>> {
    let insert = |(number, value): (usize, &str)| {
        format!(
            "CREATE TABLE s{number} WITH ('connector' = 'test') AS SELECT {value} AS x FROM ev JOIN o ON ev.v = o.n;"
        )
    };
    let script: String = values.into_iter().enumerate().map(insert).collect();
    plan(&script, 1).map(|planned| std::sync::Arc::new(planned.graph)).ok()
}

#[test]
fn values_that_differ_in_a_constant_or_a_table_are_told_apart() {
    let pairs = [
        ["ev.k || 'a'", "o.k || 'a'"],
        ["UPPER(ev.k)", "UPPER(o.k)"],
        ["v + 1", "v + 2"],
        ["v + 1", "v + CAST(1 AS BIGINT)"],
        ["r.a + 1", "r.b.d + 1"],
        ["ev.k IN ('a', 'b', 'c', 'd')", "ev.k IN ('a', 'b', 'c', 'e')"],
        ["v IN (1, 2, 3, 4)", "v IN (1, 2, 3, 4, 5)"],
        ["EXTRACT(YEAR FROM ts)", "EXTRACT(MONTH FROM ts)"],
        ["EXTRACT(YEAR FROM ts)", "EXTRACT(DAY FROM ts)"],
        ["FLOOR(ts TO DAY)", "FLOOR(ts TO HOUR)"],
        ["CEIL(ts TO DAY)", "CEIL(ts TO HOUR)"],
        ["FLOOR(CAST(ts AS DATE) TO YEAR)", "FLOOR(CAST(ts AS DATE) TO MONTH)"],
        ["TIMESTAMPDIFF(DAY, ts, ts + INTERVAL '1' DAY)", "TIMESTAMPDIFF(MONTH, ts, ts + INTERVAL '1' DAY)"],
        ["TIMESTAMPADD(DAY, 1, ts)", "TIMESTAMPADD(MONTH, 1, ts)"],
        ["TIMESTAMPADD(DAY, v, ts)", "TIMESTAMPADD(HOUR, v, ts)"],
        ["ts + INTERVAL '1' DAY", "ts + INTERVAL '1' HOUR"],
        ["TRIM(LEADING 'a' FROM ev.k)", "TRIM(TRAILING 'a' FROM ev.k)"],
        ["TRIM(BOTH 'a' FROM ev.k)", "TRIM(BOTH 'b' FROM ev.k)"],
        ["SUBSTRING(ev.k FROM 1 FOR 2)", "SUBSTRING(ev.k FROM 1 FOR 3)"],
        ["ev.k LIKE 'a!%' ESCAPE '!'", "ev.k LIKE 'a!%'"],
        ["CAST(v AS VARCHAR(2))", "CAST(v AS VARCHAR(3))"],
        ["CAST(ev.k AS INT)", "TRY_CAST(ev.k AS INT)"],
        ["ROUND(x, 1)", "ROUND(x, 2)"],
        ["JSON_VALUE(ev.k, '$.a' RETURNING INT)", "JSON_VALUE(ev.k, '$.b' RETURNING INT)"],
        ["JSON_VALUE(ev.k, '$.a')", "JSON_VALUE(ev.k, '$.a' DEFAULT 'x' ON EMPTY)"],
        ["JSON_VALUE(ev.k, '$.a' DEFAULT 'y' ON EMPTY)", "JSON_VALUE(ev.k, '$.a' DEFAULT 'x' ON EMPTY)"],
        ["JSON_VALUE(ev.k, '$.a' NULL ON ERROR)", "JSON_VALUE(ev.k, '$.a' ERROR ON ERROR)"],
        ["JSON_QUERY(ev.k, '$.a' WITH WRAPPER)", "JSON_QUERY(ev.k, '$.a' WITHOUT WRAPPER)"],
        ["JSON_QUERY(ev.k, '$.a' EMPTY ARRAY ON EMPTY)", "JSON_QUERY(ev.k, '$.a' EMPTY OBJECT ON EMPTY)"],
        ["JSON_EXISTS(ev.k, '$.a' TRUE ON ERROR)", "JSON_EXISTS(ev.k, '$.a' FALSE ON ERROR)"],
        ["JSON_OBJECT(KEY 'a' VALUE v NULL ON NULL)", "JSON_OBJECT(KEY 'a' VALUE v ABSENT ON NULL)"],
        ["JSON_ARRAY(v NULL ON NULL)", "JSON_ARRAY(v ABSENT ON NULL)"],
        ["ev.k IS JSON OBJECT", "ev.k IS JSON ARRAY"],
        ["SPLIT_INDEX(ev.k, ',', 0)", "SPLIT_INDEX(ev.k, ',', 1)"],
        ["REGEXP_EXTRACT(ev.k, '(a)(b)', 1)", "REGEXP_EXTRACT(ev.k, '(a)(b)', 2)"],
        ["DATE_FORMAT(ts, 'yyyy')", "DATE_FORMAT(ts, 'MM')"],
        ["TO_TIMESTAMP_LTZ(id, 0)", "TO_TIMESTAMP_LTZ(id, 3)"],
        ["CASE WHEN v > 1 THEN 1 END", "CASE WHEN v > 1 THEN 2 END"],
        ["COALESCE(v, 1)", "COALESCE(v, 2)"],
        ["NULLIF(v, 1)", "NULLIF(v, 2)"],
        ["ARRAY[v, 1][1]", "ARRAY[v, 1][2]"],
        ["PARSE_URL(ev.k, 'HOST')", "PARSE_URL(ev.k, 'PATH')"],
    ];
    let taken_for_one: Vec<_> = pairs.into_iter().filter(|pair| computed(*pair) != 2).collect();
    assert!(taken_for_one.is_empty(), "taken for the same: {taken_for_one:#?}");
    for pair in pairs {
        let nodes = |values| inserts(values).map(|graph| graph.nodes.len());
        assert!(nodes(pair).is_some() && nodes(pair) > nodes([pair[0]; 2]), "shared by two inserts: {pair:?}");
    }
    for value in pairs.iter().flatten() {
        assert_eq!(computed([value, value]), 1, "{value}");
    }
}
