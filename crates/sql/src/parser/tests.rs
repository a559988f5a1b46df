//! The parser's tests: whole scripts, what Flink's syntax becomes, messages, and texts that are no SQL.

use super::ast::*;
use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use sqlparser::ast::{SelectItem, SetExpr, TableFactor};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parser")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn parse(text: &str) -> Vec<Statement> {
    parse_script(text).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// The only statement of a text.
fn one(text: &str) -> StatementKind {
    let mut statements = parse(text);
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).kind
}

fn query(text: &str) -> Box<Query> {
    match one(text) {
        StatementKind::Query(query) => query,
        other => panic!("{text} is no query but {other:?}"),
    }
}

fn select(text: &str) -> sqlparser::ast::Select {
    match *query(text).body {
        SetExpr::Select(select) => *select,
        other => panic!("{text} is no SELECT but {other:?}"),
    }
}

fn expr(text: &str) -> Expr {
    match select(&format!("SELECT {text} FROM t")).projection.remove(0) {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
        other => panic!("{text} is no expression but {other:?}"),
    }
}

fn relation(text: &str) -> TableFactor {
    select(&format!("SELECT * FROM {text}")).from.remove(0).relation
}

/// An expression's tree, printed.
fn check_expr(text: &str, expect: &str) {
    assert_eq!(render(&expr(text)), expect, "{text}");
}

fn check_error(text: &str, expect: Expect) {
    match parse_script(text) {
        Ok(statements) => panic!("{text} is taken: {statements:?}"),
        Err(error) => expect.assert_eq(&error.to_string()),
    }
}

#[test]
fn corpus_of_statements_parses() {
    let text = read(&fixtures().join("corpus.sql"));
    let mut failed = vec![];
    for part in text.split("\n\n") {
        if let Err(error) = parse_script(part) {
            failed.push(format!("{part}\n{error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert_eq!(parse(&text).len(), 105);
}

#[test]
fn conformance_scripts_parse() {
    let mut count = 0;
    for file in std::fs::read_dir(fixtures().join("conformance")).expect("the fixtures are in the repository") {
        let path = file.expect("the fixtures are readable").path();
        let text = read(&path);
        match parse_script(&text) {
            Ok(statements) => assert!(statements.len() >= 2 || path.ends_with("query_values.sql"), "{path:?}"),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        count += 1;
    }
    assert!(count >= 72);
}
