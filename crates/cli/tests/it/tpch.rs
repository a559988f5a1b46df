//! TPC-H: joins of up to eight tables, correlated subqueries and aggregates over rows of its own generator, against what
//! DuckDB answers (`tests/tpch`).

use crate::changelogs::run_with_kills;
use crate::script::{Script, stdout_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::path::Path;
use tpchgen::generators::*;

const SCALE: f64 = 0.01;
const TABLES: &str = "
    CREATE TABLE part (p_partkey BIGINT, p_name STRING, p_mfgr STRING, p_brand STRING, p_type STRING, p_size INT,
      p_container STRING, p_retailprice DECIMAL(15, 2), p_comment STRING) WITH (${part});
    CREATE TABLE supplier (s_suppkey BIGINT, s_name STRING, s_address STRING, s_nationkey BIGINT, s_phone STRING,
      s_acctbal DECIMAL(15, 2), s_comment STRING) WITH (${supplier});
    CREATE TABLE partsupp (ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INT, ps_supplycost DECIMAL(15, 2),
      ps_comment STRING) WITH (${partsupp});
    CREATE TABLE customer (c_custkey BIGINT, c_name STRING, c_address STRING, c_nationkey BIGINT, c_phone STRING,
      c_acctbal DECIMAL(15, 2), c_mktsegment STRING, c_comment STRING) WITH (${customer});
    CREATE TABLE orders (o_orderkey BIGINT, o_custkey BIGINT, o_orderstatus STRING, o_totalprice DECIMAL(15, 2),
      o_orderdate DATE, o_orderpriority STRING, o_clerk STRING, o_shippriority INT, o_comment STRING) WITH (${orders});
    CREATE TABLE lineitem (l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INT,
      l_quantity DECIMAL(15, 2), l_extendedprice DECIMAL(15, 2), l_discount DECIMAL(15, 2), l_tax DECIMAL(15, 2),
      l_returnflag STRING, l_linestatus STRING, l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE,
      l_shipinstruct STRING, l_shipmode STRING, l_comment STRING) WITH (${lineitem});
    CREATE TABLE nation (n_nationkey BIGINT, n_name STRING, n_regionkey BIGINT, n_comment STRING) WITH (${nation});
    CREATE TABLE region (r_regionkey BIGINT, r_name STRING, r_comment STRING) WITH (${region});\n";

/// The statements that make the tables, read at so many rows a second.
fn tables(rate: &str) -> String {
    let names = ["part", "supplier", "partsupp", "customer", "orders", "lineitem", "nation", "region"];
    names.iter().fold(TABLES.to_string(), |text, name| {
        let options = format!(
            "'connector' = 'filesystem', 'path' = '${{DIR}}/{name}.tbl', 'format' = 'csv', \
             'csv.field-delimiter' = '|', 'scan.rate-limit.rows-per-second' = '{rate}'"
        );
        text.replace(&format!("${{{name}}}"), &options)
    })
}

/// A table's rows as lines of fields between bars.
fn lines<T: Display>(rows: impl Iterator<Item = T>) -> String {
    rows.fold(String::new(), |mut text, row| {
        let row = row.to_string();
        let _ = writeln!(text, "{}", row.strip_suffix('|').unwrap());
        text
    })
}

fn write_tables(folder: &Path) {
    let write = |name: &str, lines: String| std::fs::write(folder.join(format!("{name}.tbl")), lines).unwrap();
    write("part", lines(PartGenerator::new(SCALE, 1, 1).iter()));
    write("supplier", lines(SupplierGenerator::new(SCALE, 1, 1).iter()));
    write("partsupp", lines(PartSuppGenerator::new(SCALE, 1, 1).iter()));
    write("customer", lines(CustomerGenerator::new(SCALE, 1, 1).iter()));
    write("orders", lines(OrderGenerator::new(SCALE, 1, 1).iter()));
    write("lineitem", lines(LineItemGenerator::new(SCALE, 1, 1).iter()));
    write("nation", lines(NationGenerator::new(SCALE, 1, 1).iter()));
    write("region", lines(RegionGenerator::new(SCALE, 1, 1).iter()));
}

/// The queries by their names, in order, with the rows that each gives.
fn queries() -> Vec<(String, String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpch");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let (queries, answers) = (read("queries.sql"), read("answers.txt"));
    let queries = queries.split("-- ").filter(|part| part.starts_with('q'));
    let answers = answers.split("## ").skip(1);
    let both = queries.zip(answers).map(|(query, answer)| {
        let (name, query) = query.split_once('\n').unwrap();
        let (same, rows) = answer.split_once('\n').unwrap();
        assert_eq!(name, same);
        (name.to_string(), query.trim().to_string(), rows.lines().map(str::to_string).collect())
    });
    both.collect()
}

/// The row as the answers write it.
fn text_of(row: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Number(number) => format!("{:.3}", number.as_f64().unwrap()),
        // A DECIMAL's digits.
        Value::String(text) if text.contains('.') && text.parse::<f64>().is_ok() => {
            format!("{:.3}", text.parse::<f64>().unwrap())
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    row.as_object().unwrap().values().map(text).collect::<Vec<_>>().join("|")
}

/// The rows that changes leave: each a row and whether it comes or goes.
fn folded(changes: impl Iterator<Item = (Value, bool)>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for (row, comes) in changes {
        *counts.entry(text_of(&row)).or_insert(0) += if comes { 1 } else { -1 };
    }
    let rows = counts.into_iter().flat_map(|(row, count): (String, i64)| {
        assert!(count >= 0, "{row} goes more often than it comes");
        vec![row; count as usize]
    });
    rows.collect()
}

#[test]
fn queries_over_many_tables_are_those_of_another_engine() {
    let data = tempfile::tempdir().unwrap();
    write_tables(data.path());
    let tables = tables("1000000000").replace("${DIR}", data.path().to_str().unwrap());
    for (name, query, mut expected) in queries() {
        expected.sort();
        let script = Script::new(&format!("{tables}{query}"));
        for parallelism in ["1", "3"] {
            let found = stdout_of(&script.run(&["--format", "jsonl", "--parallelism", parallelism]));
            let found = folded(found.lines().map(|line| {
                let mut change: Value = serde_json::from_str(line).unwrap();
                let comes = change["op"].as_str().unwrap().starts_with('+');
                (change["row"].take(), comes)
            }));
            assert_eq!(found, expected, "{name} at parallelism {parallelism}");
        }
    }
}

#[test]
fn all_of_them_in_one_job_survive_kills() {
    let queries = queries();
    let inserts = queries.iter().map(|(name, query, _)| {
        format!(
            "CREATE TABLE {name} WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/{name}', \
             'format' = 'debezium-json') AS\n{query}\n"
        )
    });
    let inserts: String = inserts.collect();
    let interval = "SET 'execution.checkpointing.interval' = '100 ms';";
    let script = Script::new(&format!("{interval}{}{inserts}", tables("8000")));
    write_tables(script.folder());
    run_with_kills(&script);
    for (name, _, mut expected) in queries {
        expected.sort();
        let files = std::fs::read_dir(script.path(&name)).map(|files| files.collect::<Vec<_>>()).unwrap_or_default();
        let mut changes = vec![];
        for file in files {
            for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
                let mut change: Value = serde_json::from_str(line).unwrap();
                let comes = change["op"] == "c";
                changes.push((change[if comes { "after" } else { "before" }].take(), comes));
            }
        }
        assert_eq!(folded(changes.into_iter()), expected, "{name}");
    }
}
