//! What Flink 2.3 itself answered, case by case (the folders under `tests/conformance`).

use crate::script::Script;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The cases of the families that are planned and executed so far.
const CASES: &[&str] = &[
    "agg_bool_float",
    "agg_collect",
    "agg_filter",
    "agg_global_no_group",
    "agg_group_id",
    "agg_listagg",
    "agg_stddev_var",
    "cdc_maxwell",
    "cep_greedy_unbounded",
    "cep_no_partition",
    "cep_reluctant_optional",
    "cep_skip_to_next_row",
    "cep_within",
    "coll_all_functions",
    "coll_array_sets",
    "coll_construct_access",
    "coll_row_compare",
    "cond_where_nulls",
    "dedup_keep_last_rowtime",
    "err_array_index_zero",
    "err_cep_greedy_last",
    "err_duplicate_table",
    "err_insert_column_count",
    "err_runtime_int_division_by_zero",
    "err_setop_column_count",
    "err_unknown_format",
    "err_unknown_function",
    "err_unsupported_option",
    "expr_all_numbers",
    "expr_csv_empty_string",
    "expr_csv_input",
    "expr_csv_options",
    "expr_json_types",
    "expr_nested_row",
    "expr_nested_star",
    "expr_rounding",
    "expr_three_valued_logic",
    "gwin_having_expr",
    "gwin_late_hop",
    "hash_digests",
    "ijoin_inner",
    "ijoin_where_form",
    "join_correlated_scalar",
    "join_inner",
    "join_lateral_topn",
    "join_left",
    "join_multiway",
    "join_not_exists",
    "join_not_in_with_nulls",
    "json_agg_nested",
    "json_aggregates",
    "json_all_functions",
    "json_string_types",
    "late_cumulate",
    "late_dedup_first",
    "late_hop",
    "late_over_drop",
    "late_session_drop",
    "late_session_nokey",
    "late_sort",
    "late_tumble",
    "late_wtopn",
    "over_first_last",
    "over_lag",
    "over_rows_preceding",
    "over_then_filter_agg",
    "query_values",
    "query_values_join_agg",
    "quirk_to_timestamp_lenient_fallback",
    "regex_all_functions",
    "regex_basic",
    "retract_cdc_pk_global",
    "retract_first_last",
    "retract_three_levels",
    "retract_upsert_keys_union",
    "setop_except",
    "setop_except_all",
    "setop_intersect_all",
    "str_all_functions",
    "str_substring",
    "str_url",
    "time_all_functions",
    "tjoin_pk_table",
    "tjoin_view_dedup",
    "topn_nulls_last",
    "topn_over_cdc",
    "topn_rank_range",
    "tvf_grouping_sets",
    "tvf_listagg_first_last",
    "tvf_ltz_day",
    "tvf_session_merge_out_of_order",
    "tvf_tumble_no_agg",
    "tvf_tumble_offset",
    "types_decimal_aggregates",
    "types_decimal_scale",
    "types_double_specials",
    "types_edges",
    "types_interval_values",
    "types_to_timestamp",
    "types_typeof",
    "tz_compare",
    "tz_session_cast",
    "unnest_nested_row",
    "unnest_null_left",
    "wdedup_keep_last",
    "wjoin_left",
    "wjoin_semi",
    "wtopn_nulls_order",
];

fn canonical(value: &Value, kind: &str) -> String {
    match value {
        Value::Number(n) if kind.starts_with("DOUBLE") => format!("{:.9e}", n.as_f64().unwrap()),
        Value::Number(n) if kind.starts_with("FLOAT") => format!("{:.6e}", n.as_f64().unwrap()),
        Value::String(s) if kind.starts_with("DECIMAL") && s.contains('.') => {
            s.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        other => sorted(other),
    }
}

/// The text of a value, objects by the order of their keys: that of a map's entries means nothing.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries: BTreeMap<&String, String> = entries.iter().map(|(k, v)| (k, sorted(v))).collect();
            format!("{entries:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

/// The lines folded to a multiset of rows: changes, or (as in `final.jsonl`) plain rows.
fn fold(lines: &str, types: &BTreeMap<String, String>) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for line in lines.lines() {
        let change: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
        let row: BTreeMap<&String, String> = change
            .get("row")
            .unwrap_or(&change)
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k, canonical(v, &types[k])))
            .collect();
        let count = match change.get("op").map_or("+I", |op| op.as_str().unwrap()) {
            "+I" | "+U" => 1,
            "-U" | "-D" => -1,
            op => panic!("no such row kind: {op}"),
        };
        *rows.entry(format!("{row:?}")).or_insert(0) += count;
    }
    rows.retain(|_, n| *n != 0);
    rows
}

fn check_case(name: &str, args: &[&str]) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let script = Script::new(&read("job.sql"));
    let answers = ["job.sql", "case.json", "expected.jsonl", "final.jsonl", "schema.json", "error.txt"];
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        if !answers.iter().any(|a| entry.file_name() == *a) {
            std::fs::copy(entry.path(), script.folder().join(entry.file_name())).unwrap();
        }
    }
    let mut all = vec!["--format", "jsonl"];
    all.extend(args);
    let output = script.run(&all);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8(output.stdout).unwrap();
    if folder.join("error.txt").exists() {
        let refused = matches!(output.status.code(), Some(1 | 2)) && stderr.starts_with("error: ") && stdout.is_empty();
        return if refused { Ok(()) } else { Err(format!("{name}: not refused properly: {stderr}")) };
    }
    if !output.status.success() {
        return Err(format!("{name} {args:?}: exit {:?}: {stderr}", output.status.code()));
    }
    let schema: Vec<Value> = serde_json::from_str(&read("schema.json")).unwrap();
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    let types: BTreeMap<String, String> = schema.iter().map(|c| (text(&c["name"]), text(&c["type"]))).collect();
    let (expected, actual) = (fold(&read("final.jsonl"), &types), fold(&stdout, &types));
    if expected == actual {
        return Ok(());
    }
    let missing: Vec<_> = expected.iter().filter(|(k, n)| actual.get(*k) != Some(n)).take(3).collect();
    let extra: Vec<_> = actual.iter().filter(|(k, n)| expected.get(*k) != Some(n)).take(3).collect();
    Err(format!("{name} {args:?}: differs\n  expected {missing:#?}\n  got {extra:#?}"))
}

fn check_all(args: &[&str], skip_one_worker_only: bool) {
    // Partial results of a window are put together in any order.
    let one_worker_only = |name: &str| name == "tvf_listagg_first_last";
    let failures: Vec<String> = CASES
        .iter()
        .filter(|c| !(skip_one_worker_only && one_worker_only(c)))
        .filter_map(|c| check_case(c, args).err())
        .collect();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), CASES.len(), failures.join("\n"));
}

/// The default, in so many words.
const LARGE: &str = "millstream.batch.rows=8192";
/// Each row is a batch of its own, from the source and over each exchange.
const SINGLE: &str = "millstream.batch.rows=1";

#[test]
fn flinks_answers_at_parallelism_1() {
    check_all(&["--parallelism", "1", "--set", LARGE], false);
}

#[test]
fn flinks_answers_at_parallelism_2() {
    check_all(&["--parallelism", "2", "--set", LARGE], true);
}

#[test]
fn flinks_answers_with_two_processes() {
    check_all(&["--processes", "2", "--parallelism", "4", "--set", LARGE], true);
}

#[test]
fn flinks_answers_with_batches_of_one_row() {
    check_all(&["--parallelism", "1", "--set", SINGLE], false);
}

#[test]
fn flinks_answers_with_batches_of_one_row_at_parallelism_3() {
    check_all(&["--parallelism", "3", "--set", SINGLE], true);
}

#[test]
fn flinks_answers_with_batches_of_one_row_and_two_processes() {
    check_all(&["--processes", "2", "--parallelism", "2", "--set", SINGLE], true);
}
