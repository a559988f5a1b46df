//! The formats of changes against Flink's documentation, and against serde_json over random changes.

use crate::formats::{decoder_factory, encoder_factory};
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::format::BadRecord;
use millstream_core::options::Options;
use millstream_core::{Batch, DataType, Field, Result, RowKind, Schema, TypeKind};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

fn table(format: &str, columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDef {
    let mut all: BTreeMap<String, String> = [("format".to_string(), format.to_string())].into();
    all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    TableDef {
        name: "t".into(),
        schema: Schema::new(columns.iter().map(|(name, t)| Field::new(*name, t.clone())).collect()),
        options: all,
        metadata: BTreeMap::new(),
        primary_key: vec![],
        partitioned_by: vec![],
    }
}

/// The table of Flink's documentation.
fn products(format: &str, options: &[(&str, &str)]) -> TableDef {
    let columns = [
        ("id", TypeKind::BigInt.nullable()),
        ("name", TypeKind::STRING.nullable()),
        ("description", TypeKind::STRING.nullable()),
        ("weight", TypeKind::Decimal(10, 2).nullable()),
    ];
    table(format, &columns, options)
}

fn session() -> SessionInfo {
    SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] }
}

fn decode(table: &TableDef, text: &str, max_rows: usize) -> Result<(Vec<Batch>, Vec<BadRecord>)> {
    let options = Options::new("t", "filesystem", &table.options);
    let factory = decoder_factory(table, &options, &session())?;
    let mut decoder = factory.decoder(&table.schema)?;
    let (mut batches, mut bad, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        at += decoder.decode(&text.as_bytes()[at..], max_rows, &mut bad)?;
        batches.push(decoder.take()?);
    }
    Ok((batches, bad))
}

/// The rows as `print` shows them, one a line, with their kinds.
fn shown(batches: &[Batch]) -> Vec<String> {
    let mut lines = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut line = batch.kind(row).symbol().to_string();
            for (i, column) in batch.rows.columns().iter().enumerate() {
                line.push_str(if i > 0 { "|" } else { " " });
                crate::print::push_java(&mut line, column, row);
            }
            lines.push(line);
        }
    }
    lines
}

fn check(table: &TableDef, text: &str, expected: &[&str]) {
    let (batches, _) = decode(table, text, usize::MAX).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(shown(&batches), expected, "{text}");
}

fn check_refused(table: &TableDef, text: &str, part: &str) {
    let error = decode(table, text, usize::MAX).expect_err("refused");
    assert!(format!("{error} {:?}", error.details()).contains(part), "{error} instead of {part}");
}

const UPDATE: &str = concat!(
    r#"{"before":{"id":111,"name":"scooter","description":"Big 2-wheel scooter","weight":5.18},"#,
    r#""after":{"id":111,"name":"scooter","description":"Big 2-wheel scooter","weight":5.15},"#,
    r#""source":{"db":"inventory","ts_ms":1589362330000,"table":"products","pos":7},"#,
    r#""op":"u","ts_ms":1589362330904,"transaction":null}"#,
);
const CANAL: &str = concat!(
    r#"{"data":[{"id":"111","name":"scooter","description":"Big 2-wheel scooter","weight":"5.18"},"#,
    r#"{"id":"112","name":null,"description":"x","weight":"1"}],"database":"inventory","es":1589373560000,"#,
    r#""id":9,"isDdl":false,"mysqlType":{"id":"INTEGER"},"old":[{"weight":"5.15"},{"name":"was","description":null}],"#,
    r#""pkNames":["id"],"sql":"","sqlType":{"id":4,"weight":7},"table":"products","ts":1589373560798,"type":"UPDATE"}"#,
);
const MAXWELL: &str = concat!(
    r#"{"database":"test","table":"product","type":"update","ts":1596684883,"xid":7125,"#,
    r#""primary_key_columns":["id"],"data":{"id":111,"name":"scooter","description":"Big 2-wheel scooter","#,
    r#""weight":5.18},"old":{"weight":5.15}}"#,
);

const OGG: &str = concat!(
    r#"{"before":{"id":111,"name":"scooter","description":"Big 2-wheel scooter","weight":5.18},"#,
    r#""after":{"id":111,"name":"scooter","description":"Big 2-wheel scooter","weight":5.15},"op_type":"U","#,
    r#""op_ts":"2020-05-13 15:40:06.000000","current_ts":"2020-05-13T15:40:07.123456","primary_keys":["id"],"#,
    r#""pos":"00000000000000000000143","table":"PRODUCTS"}"#,
);

#[test]
fn the_records_of_the_documentation_become_their_changes() {
    let old = "-U 111|scooter|Big 2-wheel scooter|5.18";
    for (format, record) in [("debezium-json", UPDATE), ("ogg-json", OGG)] {
        check(&products(format, &[]), record, &[old, "+U 111|scooter|Big 2-wheel scooter|5.15"]);
    }
    let canal = [
        "-U 111|scooter|Big 2-wheel scooter|5.15",
        "+U 111|scooter|Big 2-wheel scooter|5.18",
        "-U 112|was|null|1.00",
        "+U 112|null|x|1.00",
    ];
    check(&products("canal-json", &[]), CANAL, &canal);
    let maxwell = ["-U 111|scooter|Big 2-wheel scooter|5.15", "+U 111|scooter|Big 2-wheel scooter|5.18"];
    check(&products("maxwell-json", &[]), MAXWELL, &maxwell);
}

#[test]
fn each_kind_of_record_becomes_rows_of_its_kind() {
    let debezium = r#"{"before":null,"after":{"id":1},"op":"r"}
{"after":{"id":2},"op":"c"}

{"before":{"id":1,"name":"a"},"after":null,"op":"d"}"#;
    check(
        &products("debezium-json", &[]),
        debezium,
        &["+I 1|null|null|null", "+I 2|null|null|null", "-D 1|a|null|null"],
    );
    let canal = r#"{"data":[{"id":1},{"id":2}],"type":"INSERT"}
{"data":null,"type":"CREATE"}
{"data":[{"id":2}],"type":"DELETE"}"#;
    check(&products("canal-json", &[]), canal, &["+I 1|null|null|null", "+I 2|null|null|null", "-D 2|null|null|null"]);
    let maxwell = "{\"data\":{\"id\":1},\"type\":\"insert\"}\n{\"type\":\"delete\",\"data\":{\"id\":1}}\n";
    check(&products("maxwell-json", &[]), maxwell, &["+I 1|null|null|null", "-D 1|null|null|null"]);
    let ogg = "{\"after\":{\"id\":1},\"op_type\":\"I\"}\n{\"op_type\":\"D\",\"before\":{\"id\":1}}\n";
    check(&products("ogg-json", &[]), ogg, &["+I 1|null|null|null", "-D 1|null|null|null"]);
}

#[test]
fn records_with_their_schema_have_the_change_in_payload() {
    let record = format!("{{\"schema\":{{\"type\":\"struct\"}},\"payload\":{UPDATE}}}");
    let with_schema = products("debezium-json", &[("debezium-json.schema-include", "true")]);
    assert_eq!(shown(&decode(&with_schema, &record, 1).unwrap().0).len(), 2);
    check_refused(&with_schema, UPDATE, "there is no field 'payload'");
    check_refused(&products("debezium-json", &[]), &record, "'debezium-json.schema-include' = 'true'");
}

#[test]
fn what_a_record_says_besides_its_rows_is_read_as_metadata() {
    let text = || TypeKind::STRING.nullable();
    let instant = || TypeKind::TimestampLtz(3).nullable();
    let with = |format: &str, metadata: &[(&str, &str, DataType)], record: &str, expected: &str| {
        let mut columns = vec![("id", TypeKind::BigInt.nullable())];
        columns.extend(metadata.iter().map(|(name, _, t)| (*name, t.clone())));
        let mut table = table(format, &columns, &[]);
        table.metadata = metadata.iter().map(|(name, key, _)| (name.to_string(), key.to_string())).collect();
        let (batches, _) = decode(&table, record, usize::MAX).unwrap();
        let all = shown(&batches);
        assert!(all.iter().all(|line| line.split_once(' ').unwrap().1.ends_with(expected)), "{all:?}");
        assert!(!all.is_empty());
    };
    let map = TypeKind::Map(Box::new(text()), Box::new(text())).nullable();
    let debezium = [
        ("db", "source.database", text()),
        ("at", "ingestion-timestamp", instant()),
        ("since", "source.timestamp", instant()),
        ("of", "source.table", text()),
        ("s", "source.schema", text()),
        ("all", "source.properties", map),
    ];
    let expected = "|inventory|2020-05-13T09:32:10.904Z|2020-05-13T09:32:10Z|products|null|\
                    {db=inventory, ts_ms=1589362330000, table=products, pos=7}";
    with("debezium-json", &debezium, UPDATE, expected);
    let types = TypeKind::Map(Box::new(text()), Box::new(TypeKind::Int.nullable())).nullable();
    let names = || TypeKind::Array(Box::new(text())).nullable();
    let canal = [
        ("db", "database", text()),
        ("of", "table", text()),
        ("at", "event-timestamp", instant()),
        ("keys", "pk-names", names()),
        ("types", "sql-type", types),
    ];
    with("canal-json", &canal, CANAL, "|inventory|products|2020-05-13T12:39:20Z|[id]|{id=4, weight=7}");
    let maxwell = [
        ("db", "database", text()),
        ("at", "ingestion-timestamp", instant()),
        ("keys", "primary-key-columns", names()),
    ];
    with("maxwell-json", &maxwell, MAXWELL, "|test|2020-08-06T03:34:43Z|[id]");
    let micros = || TypeKind::TimestampLtz(6).nullable();
    let ogg = [
        ("of", "table", text()),
        ("keys", "primary-keys", names()),
        ("at", "ingestion-timestamp", micros()),
        ("since", "event-timestamp", micros()),
    ];
    with("ogg-json", &ogg, OGG, "|PRODUCTS|[id]|2020-05-13T15:40:07.123456Z|2020-05-13T15:40:06Z");
    with("ogg-json", &ogg, &OGG.replace("2020-05-13T15", "soon"), "|PRODUCTS|[id]|null|2020-05-13T15:40:06Z");
}

#[test]
fn canal_passes_over_what_is_of_other_tables() {
    let record = |database: &str, table: &str| {
        format!("{{\"data\":[{{\"id\":1}}],\"database\":\"{database}\",\"table\":\"{table}\",\"type\":\"INSERT\"}}\n")
    };
    let text = [record("shop", "orders_1"), record("shop", "orders"), record("other", "orders_2")].concat()
        + "{\"data\":[{\"id\":2}],\"type\":\"INSERT\"}";
    let options = [("canal-json.database.include", "shop"), ("canal-json.table.include", "orders_[0-9]+")];
    check(&products("canal-json", &options), &text, &["+I 1|null|null|null"]);
    check_refused(&products("canal-json", &[("canal-json.table.include", "(")]), "", "no regular expression");
}

#[test]
fn bad_records_are_refused_with_the_reason() {
    let refused = |format: &str, record: &str, part: &str| check_refused(&products(format, &[]), record, part);
    refused("debezium-json", "{\"before\":null,\"after\":{\"id\":1},\"op\":\"x\"}", "unknown 'op' \"x\"");
    refused("debezium-json", "{\"before\":null,\"after\":{\"id\":1}}", "there is no field 'op'");
    refused("debezium-json", "{\"before\":null,\"after\":{\"id\":1},\"op\":\"u\"}", "REPLICA IDENTITY FULL");
    refused("debezium-json", "{\"before\":null,\"after\":null,\"op\":\"c\"}", "'after' is null");
    refused("debezium-json", "{\"after\":[{\"id\":1}],\"op\":\"c\"}", "'after' is no object");
    refused("debezium-json", "{\"after\":{\"id\":\"x\"},\"op\":\"c\"}", "field 'id': 'x' is no BIGINT");
    refused("debezium-json", "{\"after\":{\"id\":\"x\"},\"op\":\"c\"}", "in the row of the field 'after'");
    refused("debezium-json", "{\"after\":{\"id\":1},\"op\":\"c\"", "the record ends");
    refused("debezium-json", "[]", "an object was expected");
    refused("canal-json", "{\"data\":[{\"id\":1}],\"type\":\"UPDATE\"}", "'old' of an update is null");
    refused("canal-json", "{\"data\":[{\"id\":1}],\"old\":[],\"type\":\"UPDATE\"}", "different numbers of rows");
    refused("canal-json", "{\"data\":{\"id\":1},\"type\":\"INSERT\"}", "an array was expected");
    refused("canal-json", "{\"data\":null,\"type\":\"TRUNCATE\"}", "unknown 'type' \"TRUNCATE\"");
    refused("maxwell-json", "{\"data\":null,\"type\":\"insert\"}", "'data' is null");
    refused("maxwell-json", "{\"data\":{\"id\":1},\"old\":3,\"type\":\"update\"}", "'old' of an update is no object");
    refused("ogg-json", "{\"after\":{\"id\":1}}", "there is no field 'op_type'");
    refused("ogg-json", "{\"after\":{\"id\":1},\"op_type\":\"T\"}", "unknown 'op_type' \"T\"");
    refused("ogg-json", "{\"after\":{\"id\":1},\"op_type\":\"U\"}", "'before' of an update or delete is null");
    refused("ogg-json", "{\"before\":{\"id\":1},\"op_type\":\"I\"}", "'after' is null");
    let key = table("debezium-json", &[("id", TypeKind::Int.not_null())], &[]);
    check_refused(&key, "{\"after\":{\"id\":null},\"op\":\"c\"}", "NOT NULL");
}

#[test]
fn a_bad_record_leaves_nothing_behind() {
    // The second row of the first record is bad; its first one must not come.
    let text =
        "{\"before\":{\"id\":1},\"after\":{\"id\":\"x\"},\"op\":\"u\"}\n{\"after\":{\"id\":2},\"op\":\"c\"}\nx\n";
    let mut dead = products("debezium-json", &[("dead-letter.path", "/nowhere")]);
    dead.schema =
        Schema::new([dead.schema.fields.clone(), vec![Field::new("db", TypeKind::STRING.nullable())]].concat());
    dead.metadata = [("db".to_string(), "source.database".to_string())].into();
    let (batches, bad) = decode(&dead, text, usize::MAX).unwrap();
    assert_eq!(shown(&batches), ["+I 2|null|null|null|null"]);
    assert_eq!(bad.iter().map(|b| b.line).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(bad[1].record, b"x");
    let lenient = products("debezium-json", &[("debezium-json.ignore-parse-errors", "true")]);
    let (batches, bad) = decode(&lenient, text, usize::MAX).unwrap();
    assert_eq!(shown(&batches)[..2], ["-U 1|null|null|null", "+U null|null|null|null"]);
    assert_eq!(bad.len(), 1);
}

#[test]
fn changes_are_written_as_flink_writes_them() {
    let text = "{\"before\":{\"id\":1},\"after\":{\"id\":1,\"name\":\"a\\nb\",\"weight\":2.5},\"op\":\"u\"}";
    let (batches, _) = decode(&products("debezium-json", &[]), text, usize::MAX).unwrap();
    let encode = |format: &str, options: &[(&str, &str)]| -> Result<String> {
        let table = products(format, options);
        let factory = encoder_factory(&table, &Options::new("t", "filesystem", &table.options), &session())?;
        let mut out = Vec::new();
        factory.encoder(&table.schema)?.encode(&batches[0], &mut out)?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    };
    let old = r#"{"id":1,"name":null,"description":null,"weight":null}"#;
    let new = r#"{"id":1,"name":"a\nb","description":null,"weight":2.50}"#;
    let expected =
        format!("{{\"before\":{old},\"after\":null,\"op\":\"d\"}}\n{{\"before\":null,\"after\":{new},\"op\":\"c\"}}\n");
    assert_eq!(encode("debezium-json", &[]).unwrap(), expected);
    let expected = format!("{{\"data\":[{old}],\"type\":\"DELETE\"}}\n{{\"data\":[{new}],\"type\":\"INSERT\"}}\n");
    assert_eq!(encode("canal-json", &[]).unwrap(), expected);
    let expected = format!("{{\"data\":{old},\"type\":\"delete\"}}\n{{\"data\":{new},\"type\":\"insert\"}}\n");
    assert_eq!(encode("maxwell-json", &[]).unwrap(), expected);
    let expected = format!(
        "{{\"before\":{old},\"after\":null,\"op_type\":\"D\"}}\n{{\"before\":null,\"after\":{new},\"op_type\":\"I\"}}\n"
    );
    assert_eq!(encode("ogg-json", &[]).unwrap(), expected);
    let without_nulls = encode("debezium-json", &[("debezium-json.encode.ignore-null-fields", "true")]).unwrap();
    assert_eq!(without_nulls.lines().next(), Some(r#"{"before":{"id":1},"op":"d"}"#));
    let error = encode("debezium-json", &[("debezium-json.schema-include", "true")]).expect_err("refused");
    assert!(error.to_string().contains("can't be written"), "{error}");
}

/// A change of a table: the row before it, the row after it.
type Change = (Option<Json>, Option<Json>);

fn rows() -> impl Strategy<Value = Json> {
    let name = proptest::option::of("[a-cé\"\\\\\n{}]{0,3}");
    (0i64..5, name, proptest::option::of(-9i32..9)).prop_map(|(id, name, n)| json!({"id": id, "name": name, "n": n}))
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        rows().prop_map(|r| (None, Some(r))),
        rows().prop_map(|r| (Some(r), None)),
        (rows(), rows()).prop_map(|(a, b)| (Some(a), Some(b))),
    ];
    proptest::collection::vec(change, 0..12)
}

/// The members of `old` that differ from those of `new`.
fn difference(old: &Json, new: &Json) -> Json {
    let (old, new) = (old.as_object().unwrap(), new.as_object().unwrap());
    Json::Object(old.iter().filter(|(k, v)| new.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn record(format: &str, (old, new): &Change) -> Json {
    let row = new.as_ref().or(old.as_ref()).unwrap();
    let changed = old.as_ref().zip(new.as_ref()).map(|(old, new)| difference(old, new));
    let name = |names: [&'static str; 3]| match (old, new) {
        (None, _) => names[0],
        (_, None) => names[1],
        _ => names[2],
    };
    match format {
        "debezium-json" => json!({"op": name(["c", "d", "u"]), "before": old, "after": new, "source": {"op": "x"}}),
        "ogg-json" => json!({"op_type": name(["I", "D", "U"]), "before": old, "after": new, "pos": "7"}),
        "canal-json" => json!({
            "data": [row], "old": changed.map(|c| vec![c]), "type": name(["INSERT", "DELETE", "UPDATE"]),
        }),
        _ => json!({"data": row, "old": changed, "type": name(["insert", "delete", "update"])}),
    }
}

fn line(kind: RowKind, row: &Json) -> String {
    let text = row["name"].as_str().unwrap_or("null");
    let n = row["n"].as_i64().map_or("null".to_string(), |n| n.to_string());
    format!("{} {}|{text}|{n}", kind.symbol(), row["id"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_are_read_as_serde_json_reads_them(
        changes in changes(),
        max_rows in 1usize..9,
        format in 0usize..4,
    ) {
        let format = ["debezium-json", "canal-json", "maxwell-json", "ogg-json"][format];
        let columns = [
            ("id", TypeKind::BigInt.not_null()),
            ("name", TypeKind::STRING.nullable()),
            ("n", TypeKind::Int.nullable()),
        ];
        let table = table(format, &columns, &[]);
        let text: String = changes.iter().map(|change| format!("{}\n", record(format, change))).collect();
        let mut expected = vec![];
        for (old, new) in &changes {
            let (gone, come) = match (old, new) {
                (Some(_), Some(_)) => (RowKind::UpdateBefore, RowKind::UpdateAfter),
                _ => (RowKind::Delete, RowKind::Insert),
            };
            expected.extend(old.iter().map(|row| line(gone, row)));
            expected.extend(new.iter().map(|row| line(come, row)));
        }
        let (batches, bad) = decode(&table, &text, max_rows).unwrap();
        prop_assert!(bad.is_empty());
        prop_assert_eq!(shown(&batches), expected.clone());
        // What the encoder writes reads back as the same rows, come and gone.
        let factory = encoder_factory(&table, &Options::new("t", "filesystem", &table.options), &session()).unwrap();
        let mut written = Vec::new();
        let mut encoder = factory.encoder(&table.schema).unwrap();
        batches.iter().for_each(|batch| encoder.encode(batch, &mut written).unwrap());
        let (batches, _) = decode(&table, std::str::from_utf8(&written).unwrap(), usize::MAX).unwrap();
        let plain: Vec<String> = expected.iter().map(|l| l.replacen("-U", "-D", 1).replacen("+U", "+I", 1)).collect();
        prop_assert_eq!(shown(&batches), plain);
    }
}
