//! Files and messages of other programs, and what is told of damaged ones.
//!
//! The files under `fixtures` were written by Python's fastavro, a record a block.

use super::confluent;
use super::file::{AvroFiles, Codec};
use super::schema::{TimestampMapping, derive};
use crate::formats::container::{Container, FileBytes};
use millstream_core::format::{Encoder, OnBadRecord};
use millstream_core::options::Options;
use millstream_core::{Batch, Field, Result, Schema, TypeKind};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const ORDERS: &[u8] = include_bytes!("fixtures/orders-null.avro");

fn options(options: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn schema(columns: &[(&str, TypeKind)]) -> Schema {
    Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone().nullable())).collect())
}

fn orders() -> Schema {
    use TypeKind::*;
    let who = || Row(vec![Field::new("age", Int.nullable()), Field::new("name", TypeKind::STRING.nullable())]);
    schema(&[
        ("note", TypeKind::STRING),
        ("id", BigInt),
        ("not_there", Int),
        ("price", Decimal(10, 2)),
        ("fixed_price", Decimal(12, 2)),
        ("status", TypeKind::STRING),
        ("ok", Boolean),
        ("small", BigInt),
        ("f", Double),
        ("d", Double),
        ("raw", TypeKind::BYTES),
        ("day", Date),
        ("at_ms", TimestampLtz(3)),
        ("at_us", Timestamp(6)),
        ("local", Timestamp(3)),
        ("t", Time(3)),
        ("tu", Time(3)),
        ("tags", Array(Box::new(TypeKind::STRING.nullable()))),
        ("counts", Map(Box::new(TypeKind::STRING.not_null()), Box::new(BigInt.nullable()))),
        ("who", who()),
        ("who2", who()),
    ])
}

const ROWS: [&str; 3] = [
    r#"{"note":"nöte 0","id":-1,"not_there":null,"price":-12345678.91,"fixed_price":-1.28,"status":"NEW","ok":true,"small":-2147483648,"f":1.5,"d":2.5E300,"raw":"AP8=","day":"1969-12-31","at_ms":"1900-01-01 00:00:00.001Z","at_us":"2024-02-29 12:00:00.123456","local":"2024-02-29 12:00:00.005","t":"23:59:59.123","tu":"01:02:03.456","tags":["a",null,"b"],"counts":{"x":1},"who":{"age":7,"name":"Ann"},"who2":null}"#,
    r#"{"note":null,"id":0,"not_there":null,"price":0.00,"fixed_price":327.68,"status":"PAID","ok":null,"small":300,"f":-0.25,"d":-0.1,"raw":"","day":"2024-02-29","at_ms":"2024-02-29 12:00:00.123Z","at_us":"2024-02-29 12:00:00.123456","local":"2024-02-29 12:00:00.005","t":"23:59:59.123","tu":"01:02:03.456","tags":[],"counts":{},"who":null,"who2":{"age":1,"name":"Cid"}}"#,
    r#"{"note":"nöte 2","id":1,"not_there":null,"price":1.28,"fixed_price":0.01,"status":"NEW","ok":false,"small":7,"f":0.0,"d":0.0,"raw":"YWJj","day":"1970-01-01","at_ms":"2024-02-29 12:00:00.123Z","at_us":"2024-02-29 12:00:00.123456","local":"2024-02-29 12:00:00.005","t":"23:59:59.123","tu":"01:02:03.456","tags":[null],"counts":{"y":-2},"who":{"age":null,"name":"Bob"},"who2":null}"#,
];

fn json(batch: &Batch, schema: &Schema) -> Vec<String> {
    let options = options(&[("json.encode.decimal-as-plain-number", "true")]);
    let encoders = crate::formats::json::write_format(&Options::new("t", "filesystem", &options)).unwrap();
    let mut out = vec![];
    let mut encoder: Box<dyn Encoder> = encoders.encoder(schema).unwrap();
    encoder.encode(batch, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_string).collect()
}

const FILES: AvroFiles = AvroFiles { codec: Codec::Null, mapping: TimestampMapping::Legacy };

fn read(bytes: &[u8], schema: &Schema, skip: u64) -> Result<Vec<String>> {
    let mut reader = FILES.reader(FileBytes::new(bytes.to_vec()), schema, skip)?;
    let mut rows = vec![];
    while let Some(batch) = reader.next()? {
        rows.extend(json(&Batch { rows: batch, kinds: None }, schema));
    }
    Ok(rows)
}

#[test]
fn files_of_another_program_are_read_by_the_names_of_their_fields() {
    for (codec, bytes) in [
        ("null", ORDERS),
        ("deflate", include_bytes!("fixtures/orders-deflate.avro")),
        ("snappy", include_bytes!("fixtures/orders-snappy.avro")),
        ("zstandard", include_bytes!("fixtures/orders-zstandard.avro")),
    ] {
        for skip in 0..=3 {
            let rows = read(bytes, &orders(), skip).unwrap_or_else(|e| panic!("{codec}: {e}"));
            assert_eq!(rows, ROWS[skip as usize..], "{codec}");
        }
    }
}

fn check_refused(bytes: &[u8], schema: &Schema, expected: &str) {
    let error = read(bytes, schema, 0).expect_err(expected).to_string();
    assert!(error.contains(expected), "expected: {expected}\ngot: {error}");
}

#[test]
fn what_does_not_fit_is_told_with_its_field() {
    use TypeKind::*;
    let check = |columns: &[(&str, TypeKind)], expected: &str| check_refused(ORDERS, &schema(columns), expected);
    check(&[("id", TypeKind::STRING)], "field 'id' is of Avro's type long, the column is STRING");
    check(&[("id", Int)], "field 'id' is of Avro's type long");
    check(&[("price", Decimal(10, 3))], "field 'price' is of Avro's type decimal with scale 2");
    check(&[("price", Decimal(3, 2))], "field 'price': a decimal has more than 3 digits");
    check(&[("tags", Array(Box::new(Int.nullable())))], "field 'tags[]' is of Avro's type string");
    let who = Row(vec![Field::new("age", TypeKind::STRING.nullable())]);
    check(&[("who", who)], "field 'who.age' is of Avro's type int");
    let missing = Schema::new(vec![Field::new("nowhere", Int.not_null())]);
    check_refused(ORDERS, &missing, "there is no field 'nowhere', and the column is NOT NULL");
    let null = Schema::new(vec![Field::new("note", TypeKind::STRING.not_null())]);
    check_refused(ORDERS, &null, "field 'note' is null, but the column is NOT NULL");
}

#[test]
fn damaged_and_foreign_files_are_told() {
    check_refused(b"", &orders(), "it ends too early");
    check_refused(b"{\"id\": 1}\n{\"id\": 2}\n", &orders(), "this is no Avro file");
    check_refused(include_bytes!("fixtures/orders-bzip2.avro"), &orders(), "Avro's codec 'bzip2'");
    let mark = ORDERS.len() - 1;
    let mut bytes = ORDERS.to_vec();
    bytes[mark] ^= 1;
    check_refused(&bytes, &orders(), "a block doesn't end in the mark");
    let snappy = include_bytes!("fixtures/orders-snappy.avro");
    let mut bytes = snappy.to_vec();
    bytes[mark_of(snappy) - 1] ^= 1;
    check_refused(&bytes, &orders(), "checksum");
}

/// Where the last mark begins.
fn mark_of(bytes: &[u8]) -> usize {
    bytes.len() - 16
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_whole_blocks() {
    for length in 0..ORDERS.len() {
        if let Ok(rows) = read(&ORDERS[..length], &orders(), 0) {
            assert!(rows.len() < 3, "{length}");
            assert_eq!(rows, ROWS[..rows.len()], "{length}");
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_is_read_to_an_end() {
    for file in [ORDERS, include_bytes!("fixtures/orders-snappy.avro")] {
        for at in 0..file.len() {
            for change in [0xff, 0x80, 0x01] {
                let mut bytes = file.to_vec();
                bytes[at] ^= change;
                let _ = read(&bytes, &orders(), 0);
            }
        }
    }
}

#[test]
fn the_derived_schema_is_flinks() {
    use TypeKind::*;
    let columns = Schema::new(vec![
        Field::new("a", Int.not_null()),
        Field::new("b", TypeKind::STRING.nullable()),
        Field::new("c", Decimal(10, 2).nullable()),
        Field::new("d", Timestamp(3).nullable()),
        Field::new("e", Row(vec![Field::new("x", Array(Box::new(Date.nullable())).nullable())]).nullable()),
        Field::new("f", Map(Box::new(TypeKind::STRING.not_null()), Box::new(Double.not_null())).not_null()),
        Field::new("g", Multiset(Box::new(TypeKind::STRING.not_null())).nullable()),
        Field::new("h", Time(0).nullable()),
    ]);
    let derived = derive(&columns.fields, TimestampMapping::Legacy).unwrap().to_string();
    let expected = concat!(
        r#"{"type":"record","name":"record","namespace":"org.apache.flink.avro.generated","fields":["#,
        r#"{"name":"a","type":"int"},"#,
        r#"{"name":"b","type":["null","string"],"default":null},"#,
        r#"{"name":"c","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null},"#,
        r#"{"name":"d","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},"#,
        r#"{"name":"e","type":["null",{"type":"record","name":"record_e","fields":["#,
        r#"{"name":"x","type":["null",{"type":"array","items":["null",{"type":"int","logicalType":"date"}]}],"default":null}]}],"default":null},"#,
        r#"{"name":"f","type":{"type":"map","values":"double"}},"#,
        r#"{"name":"g","type":["null",{"type":"map","values":"int"}],"default":null},"#,
        r#"{"name":"h","type":["null",{"type":"int","logicalType":"time-millis"}],"default":null}]}"#,
    );
    assert_eq!(derived, expected);
    let ltz = schema(&[("at", TimestampLtz(3))]);
    let error = derive(&ltz.fields, TimestampMapping::Legacy).unwrap_err().to_string();
    assert!(error.contains("'at'") && error.contains("timestamp_mapping.legacy"), "{error}");
    let derived = derive(&ltz.fields, TimestampMapping::Exact).unwrap().to_string();
    assert!(derived.contains(r#"{"type":"long","logicalType":"timestamp-millis"}"#), "{derived}");
}

/// A registry that knows some schemas, asks for a password, and counts the requests that it is asked.
struct TestRegistry {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestRegistry {
    fn start(schemas: &[&str]) -> TestRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let schemas = Arc::new(Mutex::new(schemas.iter().map(|s| s.to_string()).collect::<Vec<_>>()));
        let requests = Arc::new(Mutex::new(vec![]));
        let registry = TestRegistry { url, requests: requests.clone() };
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (schemas, requests) = (schemas.clone(), requests.clone());
                std::thread::spawn(move || serve(connection.unwrap(), &schemas, &requests));
            }
        });
        registry
    }

    fn options(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut all = options(&[
            ("avro-confluent.url", self.url.as_str()),
            ("avro-confluent.basic-auth.credentials-source", "USER_INFO"),
            ("avro-confluent.basic-auth.user-info", "ann:secret"),
        ]);
        all.extend(options(more));
        all
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(connection: TcpStream, schemas: &Mutex<Vec<String>>, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut lines, mut line) = (vec![], String::new());
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            lines.push(std::mem::take(&mut line).trim().to_string());
        }
        let Some(first) = lines.first() else { return };
        let request = first.rsplit_once(' ').unwrap().0.to_string();
        let header = |name: &str| {
            let mut found = lines.iter().filter_map(|l| l.split_once(": "));
            found.find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_string())
        };
        let mut body = vec![0; header("content-length").map_or(0, |n| n.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        requests.lock().unwrap().push(request.clone());
        let error = |code: u32, text: &str| format!(r#"{{"error_code":{code},"message":"{text}"}}"#);
        let mut schemas = schemas.lock().unwrap();
        let (status, answer) = if header("authorization").as_deref() != Some("Basic YW5uOnNlY3JldA==") {
            ("401 Unauthorized", error(40101, "Unauthorized"))
        } else if let Some(id) = request.strip_prefix("GET /schemas/ids/") {
            match id.parse().ok().and_then(|id: usize| schemas.get(id)) {
                Some(schema) => ("200 OK", serde_json::json!({"schema": schema}).to_string()),
                None => ("404 Not Found", error(40403, "Schema not found")),
            }
        } else if request == "POST /subjects/orders-value/versions" {
            let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
            schemas.push(sent["schema"].as_str().unwrap().to_string());
            ("200 OK", format!(r#"{{"id":{}}}"#, schemas.len() - 1))
        } else {
            ("409 Conflict", error(409, "Schema being registered is incompatible with an earlier schema"))
        };
        let length = answer.len();
        write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{answer}").unwrap();
    }
}

fn message(id: u32, value: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), value].concat()
}

const SMALL: &str =
    r#"{"type":"record","name":"Small","fields":[{"name":"id","type":"int"},{"name":"note","type":"string"}]}"#;

#[test]
fn messages_are_read_by_the_schemas_that_the_registry_has() {
    let registry = TestRegistry::start(&[include_str!("fixtures/order.avsc"), SMALL]);
    let options = registry.options(&[]);
    let options = Options::new("t", "kafka", &options);
    let decoders = confluent::read_format(&options, OnBadRecord::DeadLetter).unwrap();
    let mut decoder = decoders.decoder(&orders()).unwrap();
    let mut bad = vec![];
    let order = message(0, include_bytes!("fixtures/order.bin"));
    let small = message(1, b"\x0e\x04hi");
    for bytes in [&order, &small, &message(1, b"\x0e\x20hi"), &b"{}".to_vec(), &message(1, b"\x0e\x04hi!"), &order] {
        assert_eq!(decoder.decode(bytes, 100, &mut bad).unwrap_or_else(|e| panic!("{e}")), bytes.len());
    }
    let rows = json(&decoder.take().unwrap(), &orders());
    assert_eq!(rows.len(), 3);
    assert_eq!([&rows[0], &rows[2]], [ROWS[0]; 2]);
    assert!(rows[1].starts_with(r#"{"note":"hi","id":7,"not_there":null,"price":null"#), "{}", rows[1]);
    let reasons: Vec<String> = bad.iter().map(|b| b.reason.to_string()).collect();
    assert!(reasons[0].contains("field 'note': it ends in the middle of a value"), "{reasons:?}");
    assert!(reasons[1].contains("doesn't begin with a zero byte"), "{reasons:?}");
    assert!(reasons[2].contains("1 bytes follow the value"), "{reasons:?}");
    assert!(bad.iter().all(|bad| !bad.record.is_empty()));
    // Those that are skipped are counted, without their text.
    let skipping = confluent::read_format(&options, OnBadRecord::Skip).unwrap();
    let (mut skipping, mut skipped) = (skipping.decoder(&orders()).unwrap(), vec![]);
    skipping.decode(b"{}", 100, &mut skipped).unwrap();
    assert_eq!(skipped.iter().map(|bad| bad.record.len()).collect::<Vec<_>>(), [0]);
    // Each schema is asked for once, whoever reads.
    let mut other = decoders.decoder(&schema(&[("id", TypeKind::BigInt)])).unwrap();
    other.decode(&small, 100, &mut bad).unwrap();
    assert_eq!(registry.requests(), ["GET /schemas/ids/0", "GET /schemas/ids/1"]);
    let error = other.decode(&message(7, b""), 100, &mut bad).unwrap_err().to_string();
    assert!(error.contains("doesn't have the schema 7") && error.contains("Schema not found"), "{error}");
    let mut other = decoders.decoder(&schema(&[("id", TypeKind::Boolean)])).unwrap();
    let error = other.decode(&small, 100, &mut bad).unwrap_err().to_string();
    assert!(error.contains("field 'id' is of Avro's type int"), "{error}");
}

#[test]
fn messages_are_written_under_a_registered_schema_and_read_back() {
    let registry = TestRegistry::start(&[]);
    let options = registry.options(&[("avro-confluent.timestamp_mapping.legacy", "false")]);
    let options = Options::new("t", "kafka", &options);
    let decoders = confluent::read_format(&options, OnBadRecord::Fail).unwrap();
    let batch = FILES.reader(FileBytes::new(ORDERS.to_vec()), &orders(), 0).unwrap().next().unwrap().unwrap();
    let rows = Batch { rows: batch, kinds: None };
    let format = confluent::write_format(&orders(), &options, Some("orders-value")).unwrap();
    let messages = format.encoder(&orders()).unwrap().encode(&rows).unwrap();
    format.encoder(&orders()).unwrap();
    assert_eq!(registry.requests(), ["POST /subjects/orders-value/versions"]);
    assert_eq!(messages[0][..5], [0; 5]);
    let mut decoder = decoders.decoder(&orders()).unwrap();
    for message in &messages {
        decoder.decode(message, 100, &mut vec![]).unwrap();
    }
    assert_eq!(json(&decoder.take().unwrap(), &orders()), ROWS);
    let format = confluent::write_format(&orders(), &options, Some("other")).unwrap();
    let error = format.encoder(&orders()).unwrap_err().to_string();
    assert!(error.contains("incompatible with the subject's earlier ones"), "{error}");
}

#[test]
fn a_registry_that_refuses_or_is_not_there_is_told_without_the_password() {
    let registry = TestRegistry::start(&[SMALL]);
    let ask = |options: &BTreeMap<String, String>| {
        let decoders = confluent::read_format(&Options::new("t", "kafka", options), OnBadRecord::Fail)?;
        decoders.decoder(&schema(&[("id", TypeKind::Int)]))?.decode(&message(0, b"\x02\x00"), 1, &mut vec![])
    };
    let check = |more: &[(&str, &str)], expected: &str| {
        let error = ask(&registry.options(more)).expect_err(expected).to_string();
        assert!(error.contains(expected) && !error.contains("pass word"), "{error}");
    };
    check(&[("avro-confluent.basic-auth.user-info", "ann:pass word")], "refuses the credentials");
    check(&[("avro-confluent.basic-auth.user-info", "ann")], "is not 'user:password'");
    check(&[("avro-confluent.url", "localhost")], "'localhost' is no URL of a registry");
    check(&[("avro-confluent.url", "http://ann:pass%20word@127.0.0.1:1")], "doesn't answer for the schema 0");
    // The first that answers.
    let urls = format!("http://127.0.0.1:1, {}", registry.url);
    assert!(ask(&registry.options(&[("avro-confluent.url", urls.as_str())])).is_ok());
}
