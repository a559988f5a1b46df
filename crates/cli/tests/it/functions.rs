//! Every function of Flink's documentation, with what Flink 2.3 answered: `tests/functions` says what we answer, and
//! the table of docs/functions.md is made of it.
//!
//! `functions.txt` has families (`# ..`), functions (a line each), and indented below a function: `! differs: how` or
//! `! missing: why`, and examples, `expression => answer : type` or `SELECT .. => row / row`. An answer `error` is that
//! of a call which both refuse. An example of a function that is missing is one that Flink runs.

use crate::script::Script;
use expect_test::expect_file;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

struct Function {
    family: String,
    name: String,
    /// `same`, `differs: ..` or `missing: ..`
    state: String,
    examples: Vec<Example>,
}

struct Example {
    text: String,
    answer: String,
}

impl Example {
    fn is_query(&self) -> bool {
        self.text.starts_with("SELECT ") || self.text.starts_with("CREATE ")
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions")
}

fn functions() -> Vec<Function> {
    let text = std::fs::read_to_string(folder().join("functions.txt")).unwrap();
    let mut functions: Vec<Function> = vec![];
    let mut family = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            family = name.to_string();
        } else if let Some(detail) = line.strip_prefix("    ") {
            let function = functions.last_mut().expect("a function stands above its examples");
            if let Some(state) = detail.strip_prefix("! ") {
                function.state = state.to_string();
            } else {
                let (text, answer) = detail.rsplit_once(" => ").unwrap_or_else(|| panic!("no answer: {line}"));
                function.examples.push(Example { text: text.to_string(), answer: answer.to_string() });
            }
        } else {
            let (family, name, state) = (family.clone(), line.to_string(), "same".to_string());
            functions.push(Function { family, name, state, examples: vec![] });
        }
    }
    functions
}

/// Runs a query behind the prelude: its rows, or what it was refused for.
fn run(query: &str) -> Result<Vec<Vec<Value>>, String> {
    let prelude = std::fs::read_to_string(folder().join("prelude.sql")).unwrap();
    let script = Script::new(&format!("{prelude}\n{query};\n"));
    std::fs::copy(folder().join("e.csv"), script.path("e.csv")).unwrap();
    let output = script.run(&["--format", "jsonl", "--parallelism", "1"]);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = matches!(output.status.code(), Some(1 | 2)) && stderr.starts_with("error: ");
        assert!(refused, "{query}: {stderr}");
        return Err(stderr);
    }
    let mut rows: Vec<Vec<Value>> = vec![];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let change: Value = serde_json::from_str(line).unwrap();
        let row: Vec<Value> = change["row"].as_object().unwrap().values().cloned().collect();
        match change["op"].as_str() {
            Some("+I" | "+U") => rows.push(row),
            _ => {
                let at = rows.iter().position(|r| *r == row).expect("a row that was there before is taken back");
                rows.remove(at);
            }
        }
    }
    Ok(rows)
}

/// A value as Flink's client prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Bool(b) => b.to_string().to_uppercase(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members: Vec<String> = members.iter().map(|(k, v)| format!("{k}={}", shown(v))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

fn answer_of_query(query: &str) -> String {
    match run(query) {
        Err(_) => "error".into(),
        Ok(rows) if rows.is_empty() => "nothing".into(),
        Ok(rows) => {
            let cells = |row: &Vec<Value>| row.iter().map(shown).collect::<Vec<_>>().join(",");
            let mut lines: Vec<String> = rows.iter().map(cells).collect();
            lines.sort();
            lines.join(" / ")
        }
    }
}

/// The answers to expressions: their texts and types. All at once, or in halves if one of them is refused.
fn answers_of_expressions(texts: &[&str]) -> Vec<String> {
    let columns: Vec<String> =
        (texts.iter().enumerate()).map(|(i, e)| format!("CAST({e} AS STRING) AS a{i}, TYPEOF({e}) AS t{i}")).collect();
    match run(&format!("SELECT {}", columns.join(",\n"))) {
        Ok(rows) => rows[0].chunks(2).map(|pair| format!("{} : {}", shown(&pair[0]), shown(&pair[1]))).collect(),
        Err(_) if texts.len() == 1 => vec!["error".into()],
        Err(_) => {
            let (left, right) = texts.split_at(texts.len() / 2);
            let mut answers = answers_of_expressions(left);
            answers.extend(answers_of_expressions(right));
            answers
        }
    }
}

fn answers(functions: &[Function], wanted: impl Fn(&Function, &Example) -> bool) -> BTreeMap<String, String> {
    let examples =
        || functions.iter().flat_map(|f| f.examples.iter().map(move |e| (f, e))).filter(|(f, e)| wanted(f, e));
    let (queries, expressions): (Vec<_>, Vec<_>) = examples().partition(|(_, e)| e.is_query());
    let expressions: Vec<&str> = expressions.iter().map(|(_, e)| e.text.as_str()).collect();
    let mut found = BTreeMap::new();
    for texts in expressions.chunks(400) {
        found.extend(texts.iter().map(|t| t.to_string()).zip(answers_of_expressions(texts)));
    }
    found.extend(queries.iter().map(|(_, e)| (e.text.clone(), answer_of_query(&e.text))));
    found
}

fn check(functions: &[Function], wanted: impl Fn(&Function, &Example) -> bool) {
    let found = answers(functions, &wanted);
    let mut wrong = String::new();
    for function in functions {
        for example in function.examples.iter().filter(|example| wanted(function, example)) {
            let (missing, answer) = (function.state.starts_with("missing"), &found[&example.text]);
            let expected = if missing { "error" } else { &example.answer };
            if answer != expected {
                wrong.push_str(&format!(
                    "{}\n    {}\n      expected {expected}\n      got      {answer}\n",
                    function.name, example.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn expressions_answer_as_the_table_of_functions_says() {
    check(&functions(), |f, e| !f.state.starts_with("missing") && e.answer != "error" && !e.is_query());
}

#[test]
fn queries_answer_as_the_table_of_functions_says() {
    check(&functions(), |f, e| !f.state.starts_with("missing") && e.answer != "error" && e.is_query());
}

#[test]
fn what_is_missing_or_wrong_is_refused() {
    check(&functions(), |f, e| f.state.starts_with("missing") || e.answer == "error");
}

const BEGIN: &str =
    "<!-- Made by crates/cli/tests/it/functions.rs from crates/cli/tests/functions/functions.txt. -->\n";

#[test]
fn the_documentation_has_the_table_of_functions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/functions.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, _) = page.split_once(BEGIN).expect("the page has a place for the table");
    let cell = |text: &str| text.replace('|', "\\|");
    let mut table = String::new();
    let mut family = "";
    for function in &functions() {
        if function.family != family {
            family = &function.family;
            table.push_str(&format!("\n### {family}\n\n| Flink's function | state | for example |\n|---|---|---|\n"));
        }
        let fits = |e: &&Example| e.text.len() + e.answer.len() < 120 && !e.is_query() && e.answer != "error";
        let example = match function.examples.iter().find(fits) {
            Some(e) if !function.state.starts_with("missing") => {
                let value = e.answer.rsplit_once(" : ").map_or(e.answer.as_str(), |(value, _)| value);
                format!("`{}` is `{value}`", e.text)
            }
            _ => String::new(),
        };
        table.push_str(&format!("| `{}` | {} | {} |\n", cell(&function.name), cell(&function.state), cell(&example)));
    }
    expect_file![path].assert_eq(&format!("{before}{BEGIN}{table}"));
}
