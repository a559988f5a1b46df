//! Proves that docs/connectors.md names every option that there is, and none that isn't.

use crate::registry;
use millstream_core::connector::{SessionInfo, TableDef, WriteMode};
use millstream_core::{Field, Result, Schema, TypeKind};
use std::collections::{BTreeMap, BTreeSet};

const DOCS: &str = include_str!("../../../docs/connectors.md");

/// The options that a connector knows for such a table, from what it says to one that it doesn't know.
fn known(connector: &str, schema: &Schema, options: &[(&str, &str)], write: bool) -> Vec<String> {
    let mut all: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    all.insert("connector".into(), connector.into());
    all.insert("no such option".into(), "1".into());
    let table = TableDef {
        name: "t".into(),
        schema: schema.clone(),
        options: all,
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: vec![],
    };
    let session = SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] };
    let connector = registry().connector(connector).unwrap();
    let outcome: Result<()> = match write {
        true => connector.sink(&table, WriteMode::Append, &session).map(|_| ()),
        false => connector.source(&table, &session).map(|_| ()),
    };
    let error = outcome.expect_err("there is no such option");
    let list =
        error.details().iter().find_map(|d| d.strip_prefix("known options: ")).unwrap_or_else(|| panic!("{error}"));
    list.split(", ").map(str::to_string).collect()
}

/// Everything in backquotes in the part of the page below the heading `heading`, up to the next of its rank.
fn quoted(heading: &str, tables_only: bool) -> BTreeSet<String> {
    let rank = heading.split(' ').next().unwrap();
    let body = DOCS.lines().skip_while(|l| *l != heading).skip(1);
    let body = body.take_while(|l| !l.starts_with('#') || l.split(' ').next().unwrap().len() > rank.len());
    let mut found = BTreeSet::new();
    for line in body {
        let cell = match tables_only {
            true if !line.starts_with("| `") || line.starts_with("| `s3.") => continue,
            true => line.split('|').nth(1).unwrap(),
            false => line,
        };
        found.extend(cell.split('`').skip(1).step_by(2).map(str::to_string));
    }
    assert!(!found.is_empty(), "docs/connectors.md has no part {heading}");
    found
}

fn check(headings: &[&str], known: impl IntoIterator<Item = String>) {
    let known: BTreeSet<String> = known.into_iter().filter(|k| k != "connector").collect();
    let all: BTreeSet<String> = headings.iter().flat_map(|h| quoted(h, false)).collect();
    let missing: Vec<&String> = known.iter().filter(|k| !all.contains(*k)).collect();
    assert!(missing.is_empty(), "docs/connectors.md doesn't name {missing:?} in {headings:?}");
    for documented in headings.iter().flat_map(|h| quoted(h, true)) {
        assert!(known.contains(&documented), "docs/connectors.md has '{documented}', which is no option");
    }
}

fn one(kind: TypeKind) -> Schema {
    Schema::new(vec![Field::new("c", kind.nullable())])
}

#[test]
fn the_page_names_the_options_of_files_and_formats() {
    let text = one(TypeKind::STRING);
    let mut all = Vec::new();
    for format in ["json", "csv", "raw", "parquet", "avro"] {
        let options = [("path", "."), ("format", format)];
        all.extend(known("filesystem", &text, &options, true));
        all.extend(known("filesystem", &text, &options, false));
    }
    for format in ["debezium-json", "canal-json", "maxwell-json", "ogg-json"] {
        for write in [false, true] {
            all.extend(known("filesystem", &text, &[("path", "."), ("format", format)], write));
        }
    }
    check(&["## filesystem", "## Formats", "## Lookup tables"], all);
}

#[test]
fn the_page_names_the_options_of_databases() {
    let options = [("url", "jdbc:postgresql://h/d"), ("table-name", "t")];
    let all = [false, true].into_iter().flat_map(|write| known("jdbc", &one(TypeKind::Int), &options, write));
    check(&["## jdbc", "## Lookup tables"], all);
}

#[test]
fn the_page_names_the_options_of_topics() {
    let server = [("properties.bootstrap.servers", "h:1"), ("topic", "t"), ("scan.startup.mode", "earliest-offset")];
    let mut all = Vec::new();
    for format in ["json", "csv", "raw", "avro", "avro-confluent", "debezium-json"] {
        let registry = ("avro-confluent.url", "http://h:1");
        let mut options = [&server[..], &[("format", format), ("key.format", "raw"), ("key.fields", "c")]].concat();
        options.extend((format == "avro-confluent").then_some(registry));
        all.extend(known("kafka", &one(TypeKind::STRING), &options, false));
        if format != "avro" {
            all.extend(known("kafka", &one(TypeKind::STRING), &options, true));
        }
    }
    // Those of the formats of files, too, are in a part of their own.
    let elsewhere = ["json.", "csv.", "raw.", "avro.", "debezium-json.", "key.raw."];
    let is_own = |key: &String| {
        let is_property = key.starts_with("properties.") && !key.ends_with(".servers");
        !is_property && !elsewhere.iter().any(|format| key.starts_with(format))
    };
    check(&["## kafka"], all.into_iter().filter(is_own));
}

#[test]
fn the_page_names_the_options_of_generators() {
    let mut all = Vec::new();
    for (kind, option) in [
        (TypeKind::STRING, ("rows-per-second", "1")),
        (TypeKind::BigInt, ("rows-per-second", "1")),
        (TypeKind::Timestamp(3), ("rows-per-second", "1")),
    ] {
        all.extend(known("datagen", &one(kind), &[option], false));
    }
    let sequence = [("fields.c.kind", "sequence"), ("fields.c.start", "1"), ("fields.c.end", "2")];
    all.extend(known("datagen", &one(TypeKind::BigInt), &sequence, false));
    check(&["## datagen"], all.into_iter().map(|key| key.replace("fields.c.", "fields.#.")));
    check(&["## nexmark"], known("nexmark", &one(TypeKind::Int), &[], false));
}

#[test]
fn the_page_names_the_options_of_print_and_the_connectors() {
    check(&["## print"], known("print", &one(TypeKind::Int), &[], true));
    check(&["## blackhole"], known("blackhole", &one(TypeKind::Int), &[], true));
    let error = registry().connector("no such connector").expect_err("unknown").details().join(" ");
    for name in error.trim_start_matches("known connectors: ").split(", ") {
        assert!(DOCS.contains(&format!("\n## {name}\n")), "docs/connectors.md has no part on '{name}'");
    }
}
