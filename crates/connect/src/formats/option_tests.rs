//! Tests of the options of the formats, through the tables' options: what is read, refused and written.

use super::{decoder_factory, encoder_factory};
use millstream_core::connector::{SessionInfo, TableDef};
use millstream_core::format::BadRecord;
use millstream_core::options::Options;
use millstream_core::{Batch, Field, Result, Schema, TypeKind};
use std::collections::BTreeMap;

fn table(format: &str, columns: &[(&str, TypeKind)], options: &[(&str, &str)]) -> TableDef {
    let mut all: BTreeMap<String, String> = [("format".to_string(), format.to_string())].into();
    all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let fields = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone().nullable()));
    TableDef {
        name: "t".into(),
        schema: Schema::new(fields.collect()),
        options: all,
        metadata: Default::default(),
        primary_key: vec![],
        partitioned_by: vec![],
    }
}

fn session() -> SessionInfo {
    SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] }
}

/// The rows, and the bad records that were passed over.
fn decode(table: &TableDef, text: &str) -> Result<(Batch, Vec<BadRecord>)> {
    let factory = decoder_factory(table, &Options::new("t", "filesystem", &table.options), &session())?;
    let mut decoder = factory.decoder(&table.schema)?;
    let (mut bad, mut at) = (Vec::new(), 0);
    while at < text.len() {
        at += decoder.decode(&text.as_bytes()[at..], usize::MAX, &mut bad)?;
    }
    Ok((decoder.take()?, bad))
}

fn encode(table: &TableDef, rows: &Batch) -> Result<String> {
    let factory = encoder_factory(table, &Options::new("t", "filesystem", &table.options), &session())?;
    let mut out = Vec::new();
    factory.encoder(&table.schema)?.encode(rows, &mut out)?;
    Ok(String::from_utf8(out).expect("UTF-8"))
}

/// The rows as `print` shows them, one a line.
fn shown(rows: &Batch) -> String {
    let mut text = String::new();
    for row in 0..rows.num_rows() {
        for (i, column) in rows.rows.columns().iter().enumerate() {
            text.push_str(if i > 0 { "|" } else { "" });
            crate::print::push_java(&mut text, column, row);
        }
        text.push('\n');
    }
    text
}

fn check_read(format: &str, columns: &[(&str, TypeKind)], options: &[(&str, &str)], text: &str, expected: &str) {
    let (rows, _) = decode(&table(format, columns, options), text).unwrap_or_else(|e| panic!("{options:?}: {e}"));
    assert_eq!(shown(&rows), expected, "{options:?}");
}

fn check_refused(format: &str, columns: &[(&str, TypeKind)], options: &[(&str, &str)], text: &str, part: &str) {
    let error = decode(&table(format, columns, options), text).expect_err("refused").to_string();
    assert!(error.contains(part), "{options:?}: {error}");
}

/// The JSON rows of `columns`, written in a format.
fn check_write(format: &str, columns: &[(&str, TypeKind)], options: &[(&str, &str)], json: &str, expected: &str) {
    let (rows, _) = decode(&table("json", columns, &[]), json).unwrap();
    assert_eq!(encode(&table(format, columns, options), &rows).unwrap(), expected, "{options:?}");
}

const INT: TypeKind = TypeKind::Int;
const TEXT: TypeKind = TypeKind::STRING;

fn ints() -> TypeKind {
    TypeKind::Array(Box::new(INT.nullable()))
}

fn map() -> TypeKind {
    TypeKind::Map(Box::new(TEXT.nullable()), Box::new(INT.nullable()))
}

#[test]
fn csv_reads_delimiters_quotes_escapes_and_comments_as_told() {
    let two = [("a", INT), ("b", TEXT)];
    check_read("csv", &two, &[], "1,x\n2,\"y, \"\"z\"\"\nw\"\r\n\n3,\n", "1|x\n2|y, \"z\"\nw\n3|\n");
    check_read("csv", &two, &[("csv.field-delimiter", ";")], "1;x,y\n", "1|x,y\n");
    check_read("csv", &two, &[("csv.field-delimiter", "\\t")], "1\tx\n", "1|x\n");
    check_read("csv", &two, &[("csv.quote-character", "'")], "1,'x,\"'\n", "1|x,\"\n");
    check_read("csv", &two, &[("csv.disable-quote-character", "true")], "1,\"x\n", "1|\"x\n");
    check_read("csv", &two, &[("csv.escape-character", "\\")], "1,x\\,y\\\\\n", "1|x,y\\\n");
    check_read("csv", &two, &[("csv.allow-comments", "true")], "# no\n1,x\n", "1|x\n");
    check_read("csv", &two, &[("csv.null-literal", "n/a")], "n/a,n/a\n1,\"n/a\"\n", "null|null\n1|n/a\n");
    let arrays = [("a", ints()), ("b", TEXT)];
    check_read("csv", &arrays, &[("csv.null-literal", "-")], "1;-;3,x\n,y\n", "[1, null, 3]|x\n[]|y\n");
    check_read("csv", &arrays, &[("csv.array-element-delimiter", "::")], "1::2,x\n", "[1, 2]|x\n");
}

#[test]
fn csv_refuses_what_does_not_fit_or_passes_it_over_and_counts() {
    let two = [("a", INT), ("b", TEXT)];
    check_refused("csv", &two, &[], "x,y\n", "field 'a'");
    check_refused("csv", &two, &[], "1,x,y\n", "3 fields, but the table has 2 columns");
    check_refused("csv", &two, &[], "1\n", "1 fields, but the table has 2 columns");
    check_refused("csv", &two, &[], "1,\"x\n", "no closing quote");
    check_refused("csv", &two, &[("csv.field-delimiter", "ab")], "", "one ASCII character");
    let both = [("csv.disable-quote-character", "true"), ("csv.quote-character", "'")];
    check_refused("csv", &two, &both, "", "contradict");
    let lenient = table("csv", &two, &[("csv.ignore-parse-errors", "true")]);
    let (rows, bad) = decode(&lenient, "x,y\n1,x,y\n2\n3,\"z\n").unwrap();
    assert_eq!(shown(&rows), "null|y\n2|null\n");
    assert_eq!(bad.len(), 2, "the records with too many fields and without a closing quote");
    let row = [("a", INT), ("r", row())];
    check_refused("csv", &row, &[], "1,x;y\n", "field 'r': field 'n': 'x' is no INT");
    check_refused("csv", &row, &[], "1,2;y;3\n", "the value has 3 fields, but the ROW has 2");
    check_refused("csv", &row, &[], "1,2\n", "the value has 1 fields, but the ROW has 2");
    let lenient = table("csv", &row, &[("csv.ignore-parse-errors", "true")]);
    let (rows, bad) = decode(&lenient, "1,x;y\n2,3\n3,4;z;5\n").unwrap();
    let told = decode(&table("csv", &row, &[("csv.null-literal", "-")]), "1,-;y\n2,3;-\n3,4;z\n").unwrap().0;
    assert_eq!((shown(&rows), bad.len()), (shown(&told), 0));
    let nested = TypeKind::Row(vec![Field::new("r", TypeKind::Array(Box::new(INT.nullable())).nullable())]);
    check_refused("csv", &[("a", nested)], &[], "", "in the 'csv' format");
}

fn row() -> TypeKind {
    TypeKind::Row(vec![Field::new("n", INT.nullable()), Field::new("t", TEXT.nullable())])
}

#[test]
fn csv_writes_what_it_reads() {
    let columns = [("a", INT), ("b", TEXT), ("c", ints())];
    let json =
        "{\"a\":1,\"b\":\"x, \\\"y\\\"\",\"c\":[1,2]}\n{\"b\":\"two words\"}\n{\"a\":3,\"b\":\"NULL\",\"c\":[]}\n";
    let options = [("csv.null-literal", "NULL")];
    let written = "1,\"x, \"\"y\"\"\",1;2\nNULL,\"two words\",NULL\n3,\"NULL\",\n";
    check_write("csv", &columns, &options, json, written);
    check_read("csv", &columns, &options, written, "1|x, \"y\"|[1, 2]\nnull|two words|null\n3|NULL|[]\n");
    let rows = [("r", row()), ("b", INT)];
    let json = "{\"r\":{\"n\":1,\"t\":\"x y\"},\"b\":2}\n{\"r\":{\"t\":\"z\"}}\n{\"b\":3}\n";
    let written = "\"1|x y\",2\n-|z,-\n-,3\n";
    let options = [("csv.array-element-delimiter", "|"), ("csv.null-literal", "-")];
    check_write("csv", &rows, &options, json, written);
    let (again, _) = decode(&table("csv", &rows, &options), written).unwrap();
    assert_eq!(shown(&again), shown(&decode(&table("json", &rows, &[]), json).unwrap().0));
    check_write("csv", &columns[..2], &[("csv.field-delimiter", "|")], "{\"a\":1,\"b\":\"x|y,z\"}\n", "1|\"x|y,z\"\n");
}

#[test]
fn json_reads_missing_and_odd_fields_as_told() {
    let two = [("a", INT), ("b", TEXT)];
    check_read("json", &two, &[], "{\"a\":1}\n{\"b\":{\"x\":1}}\n", "1|null\nnull|{\"x\":1}\n");
    check_refused("json", &two, &[("json.fail-on-missing-field", "true")], "{\"a\":1}\n", "the field is missing");
    check_read("json", &two, &[("json.fail-on-missing-field", "true")], "{\"a\":1,\"b\":null}\n", "1|null\n");
    check_refused("json", &two, &[], "{\"a\":\"x\"}\n", "field 'a'");
    let both = [("json.fail-on-missing-field", "true"), ("json.ignore-parse-errors", "true")];
    check_refused("json", &two, &both, "", "can't both be true");
    let lenient = table("json", &two, &[("json.ignore-parse-errors", "true")]);
    let (rows, bad) = decode(&lenient, "{\"a\":\"x\",\"b\":\"y\"}\n{\"a\":\n{\"a\":2}\n").unwrap();
    assert_eq!(shown(&rows), "null|y\n2|null\n");
    assert_eq!(bad.len(), 1);
    let kept = table("json", &two, &[("dead-letter.path", "dead")]);
    let (rows, bad) = decode(&kept, "{\"a\":\"x\"}\n{\"a\":2}\n").unwrap();
    assert_eq!((shown(&rows).as_str(), bad[0].record.as_slice()), ("2|null\n", &b"{\"a\":\"x\"}"[..]));
}

#[test]
fn json_timestamps_are_of_the_standard_told() {
    let columns = [("t", TypeKind::Timestamp(3)), ("z", TypeKind::TimestampLtz(3))];
    let (sql, iso) = (
        "{\"t\":\"2024-02-29 10:00:00.5\",\"z\":\"2024-02-29 10:00:00Z\"}\n",
        "{\"t\":\"2024-02-29T10:00:00.5\",\"z\":\"2024-02-29T10:00:00Z\"}\n",
    );
    let shown = "2024-02-29T10:00:00.500|2024-02-29T10:00:00Z\n";
    check_read("json", &columns, &[], sql, shown);
    check_read("json", &columns, &[("json.timestamp-format.standard", "ISO-8601")], iso, shown);
    check_refused("json", &columns, &[], iso, "field 't'");
    check_write("json", &columns, &[], sql, sql);
    check_write("json", &columns, &[("json.timestamp-format.standard", "ISO-8601")], sql, iso);
}

#[test]
fn json_writes_decimals_and_nulls_as_told() {
    let columns = [("d", TypeKind::Decimal(12, 10)), ("s", TEXT)];
    let json = "{\"d\":0.0000000270}\n";
    check_write("json", &columns, &[], json, "{\"d\":2.70E-8,\"s\":null}\n");
    check_write(
        "json",
        &columns,
        &[("json.encode.decimal-as-plain-number", "true")],
        json,
        "{\"d\":0.0000000270,\"s\":null}\n",
    );
    check_write("json", &columns, &[("json.encode.ignore-null-fields", "true")], "{\"s\":\"x\"}\n", "{\"s\":\"x\"}\n");
}

#[test]
fn json_maps_with_a_null_key_fail_drop_it_or_name_it() {
    let columns = [("m", map())];
    let (mut rows, _) = decode(&table("json", &columns, &[]), "{\"m\":{\"a\":1,\"b\":2}}\n").unwrap();
    // No format reads a null key, so one is put there.
    let column = arrow::array::AsArray::as_map(rows.column(0).as_ref()).clone();
    let (field, offsets, entries, nulls, sorted) = column.into_parts();
    let keys: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec![None, Some("b")]));
    let fields: Vec<_> = entries.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let entries = arrow::array::StructArray::new(fields.into(), vec![keys, entries.column(1).clone()], None);
    let field = field.as_ref().clone().with_data_type(arrow::array::Array::data_type(&entries).clone());
    let column = arrow::array::MapArray::try_new(field.into(), offsets, entries, nulls, sorted);
    let Ok(column) = column else {
        // Arrow itself refuses a map with a nullable key: then nothing is left to decide.
        return;
    };
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "m",
        arrow::array::Array::data_type(&column).clone(),
        true,
    )]);
    rows.rows = arrow::array::RecordBatch::try_new(schema.into(), vec![std::sync::Arc::new(column)]).unwrap();
    let write = |options: &[(&str, &str)]| encode(&table("json", &columns, options), &rows);
    assert!(write(&[]).expect_err("fails").to_string().contains("null"));
    assert_eq!(write(&[("json.map-null-key.mode", "DROP")]).unwrap(), "{\"m\":{\"b\":2}}\n");
    let literal = [("json.map-null-key.mode", "LITERAL"), ("json.map-null-key.literal", "none")];
    assert_eq!(write(&literal).unwrap(), "{\"m\":{\"none\":1,\"b\":2}}\n");
}

#[test]
fn raw_is_a_line_a_value() {
    check_read("raw", &[("line", TEXT)], &[], "a b\n\n{}\n", "a b\n\n{}\n");
    check_write("raw", &[("line", TEXT)], &[], "{\"line\":\"x\"}\n{}\n", "x\n");
    check_refused("raw", &[("a", TEXT), ("b", TEXT)], &[], "", "exactly one column");
    check_refused("raw", &[("a", INT)], &[], "", "not supported");
}
