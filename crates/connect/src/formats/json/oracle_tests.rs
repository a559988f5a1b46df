//! The decoder against serde_json and a naive conversion: random documents, whole and damaged.

use super::{JsonDecoder, JsonOptions};
use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType as ArrowType;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use base64::Engine;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use millstream_core::format::{Decoder, OnBadRecord};
use millstream_core::{DataType, Field, Schema, TypeKind};
use proptest::prelude::*;
use serde_json::Value as Json;

/// A value of a row, whatever carries it.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Int(i128),
    /// Bits, so that a number equals only itself.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Row(Vec<Value>),
    /// A text that has to be this JSON value, written in whatever way.
    Json(Json),
}

/// Whether the decoder's value is the one wanted.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Text(text), Value::Json(json)) => serde_json::from_str::<Json>(text).is_ok_and(|found| found == *json),
        (Value::List(a), Value::List(b)) | (Value::Row(a), Value::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        _ => found == wanted,
    }
}

fn inner() -> TypeKind {
    TypeKind::Row(vec![
        Field::new("k", TypeKind::BigInt.nullable()),
        Field::new("v", TypeKind::STRING.nullable()),
        Field::new("again", TypeKind::Array(Box::new(TypeKind::Int.nullable())).nullable()),
    ])
}

fn schema() -> Schema {
    use TypeKind::*;
    let text = || TypeKind::STRING.nullable();
    let fields = [
        ("bool", Boolean),
        ("tiny", TinyInt),
        ("small", SmallInt),
        ("int", Int),
        ("big", BigInt),
        ("float", Float),
        ("double", Double),
        ("dec", Decimal(10, 3)),
        ("s", TypeKind::STRING),
        ("bytes", TypeKind::BYTES),
        ("date", Date),
        ("time", Time(3)),
        ("ts", Timestamp(3)),
        ("ltz", TimestampLtz(6)),
        ("ints", Array(Box::new(Int.nullable()))),
        ("texts", Array(Box::new(text()))),
        ("map", Map(Box::new(TypeKind::STRING.not_null()), Box::new(Int.nullable()))),
        ("rows", Map(Box::new(TypeKind::STRING.not_null()), Box::new(inner().nullable()))),
        ("row", inner()),
        ("list", Array(Box::new(inner().nullable()))),
        ("né \"q", Int),
    ];
    Schema::new(fields.into_iter().map(|(name, kind)| Field::new(name, kind.nullable())).collect())
}

/// What the decoder gave, from Arrow.
fn value_of(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    macro_rules! int {
        ($type:ty) => {
            Value::Int(array.as_primitive::<$type>().value(row).into())
        };
    }
    let list = |values: &dyn Array| (0..values.len()).map(|i| value_of(values, i)).collect::<Vec<_>>();
    match array.data_type() {
        ArrowType::Boolean => Value::Bool(array.as_boolean().value(row)),
        ArrowType::Int8 => int!(Int8Type),
        ArrowType::Int16 => int!(Int16Type),
        ArrowType::Int32 => int!(Int32Type),
        ArrowType::Int64 => int!(Int64Type),
        ArrowType::Float32 => Value::Float(array.as_primitive::<Float32Type>().value(row).to_bits().into()),
        ArrowType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        ArrowType::Decimal128(..) => Value::Int(array.as_primitive::<Decimal128Type>().value(row)),
        ArrowType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_string()),
        ArrowType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        ArrowType::Date32 => int!(Date32Type),
        ArrowType::Time32(_) => int!(Time32MillisecondType),
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => int!(TimestampMillisecondType),
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => int!(TimestampMicrosecondType),
        ArrowType::List(_) => Value::List(list(&array.as_list::<i32>().value(row))),
        ArrowType::Map(..) => {
            let entries = array.as_map().value(row);
            Value::Map(list(entries.column(0)).into_iter().zip(list(entries.column(1))).collect())
        }
        ArrowType::Struct(_) => {
            Value::Row(array.as_struct().columns().iter().map(|c| value_of(c.as_ref(), row)).collect())
        }
        other => panic!("no column is of type {other}"),
    }
}

/// A value that doesn't fit its type.
struct Misfit;

/// A JSON value as a value of `data_type`, the slow and plain way. `lenient`: what doesn't fit is NULL.
fn convert(json: &Json, data_type: &DataType, lenient: bool) -> Result<Value, Misfit> {
    match convert_strictly(json, data_type, lenient) {
        Err(Misfit) if lenient => Ok(Value::Null),
        other => other,
    }
}

fn convert_strictly(json: &Json, data_type: &DataType, lenient: bool) -> Result<Value, Misfit> {
    use TypeKind::*;
    let integer = |low: i128, high: i128| {
        let value = match json {
            Json::Number(n) => truncated(&n.to_string()).ok_or(Misfit)?,
            Json::String(s) => s.trim().parse::<i64>().map_err(|_| Misfit)?.into(),
            _ => return Err(Misfit),
        };
        if (low..=high).contains(&value) { Ok(Value::Int(value)) } else { Err(Misfit) }
    };
    let text = || json.as_str().map(str::trim).ok_or(Misfit);
    if json.is_null() {
        return Ok(Value::Null);
    }
    Ok(match &data_type.kind {
        Boolean => match json {
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(_) => Value::Bool(false),
            Json::String(s) => Value::Bool(s.trim().eq_ignore_ascii_case("true")),
            _ => return Err(Misfit),
        },
        TinyInt => return integer(i8::MIN.into(), i8::MAX.into()),
        SmallInt => return integer(i16::MIN.into(), i16::MAX.into()),
        Int => return integer(i32::MIN.into(), i32::MAX.into()),
        BigInt => return integer(i64::MIN.into(), i64::MAX.into()),
        Float | Double => {
            let text = match json {
                Json::Number(n) => n.to_string(),
                Json::String(s) => s.trim().strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(s.trim()).to_string(),
                _ => return Err(Misfit),
            };
            if text.chars().any(|c| c.is_alphabetic() && !matches!(c, 'e' | 'E')) {
                return Err(Misfit);
            }
            match data_type.kind {
                Float => Value::Float(text.parse::<f32>().map_err(|_| Misfit)?.to_bits().into()),
                _ => Value::Float(text.parse::<f64>().map_err(|_| Misfit)?.to_bits()),
            }
        }
        Decimal(precision, scale) => {
            let text = match json {
                Json::Number(n) => n.to_string(),
                Json::String(s) => s.trim().to_string(),
                _ => return Err(Misfit),
            };
            match half_up(&text, i64::from(*scale)).ok_or(Misfit)? {
                Some(v) if v.unsigned_abs() < 10u128.pow((*precision).into()) => Value::Int(v),
                _ => Value::Null,
            }
        }
        VarChar(_) => match json {
            Json::String(s) => Value::Text(s.clone()),
            other => Value::Json(other.clone()),
        },
        VarBinary(_) => {
            let text = json.as_str().ok_or(Misfit)?;
            Value::Bytes(base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| Misfit)?)
        }
        Date => {
            let date = NaiveDate::parse_from_str(shaped(text()?, DATE)?, "%Y-%m-%d").map_err(|_| Misfit)?;
            Value::Int((date - NaiveDate::default()).num_days().into())
        }
        Time(_) => {
            let text = shaped(text()?, &format!("{TIME}|{HOUR}"))?;
            let form = if text.len() == 5 { "%H:%M" } else { "%H:%M:%S%.f" };
            let time = NaiveTime::parse_from_str(text, form).map_err(|_| Misfit)?;
            Value::Int((time.num_seconds_from_midnight() * 1000 + time.nanosecond() / 1_000_000).into())
        }
        Timestamp(_) => {
            let at = NaiveDateTime::parse_from_str(shaped(text()?, &format!("{DATE} {TIME}"))?, "%Y-%m-%d %H:%M:%S%.f")
                .map_err(|_| Misfit)?;
            Value::Int(at.and_utc().timestamp_millis().into())
        }
        TimestampLtz(_) => {
            let at =
                NaiveDateTime::parse_from_str(shaped(text()?, &format!("{DATE} {TIME}Z"))?, "%Y-%m-%d %H:%M:%S%.fZ")
                    .map_err(|_| Misfit)?;
            Value::Int(at.and_utc().timestamp_micros().into())
        }
        Array(item) => {
            let items = json.as_array().ok_or(Misfit)?;
            Value::List(items.iter().map(|v| convert(v, item, lenient)).collect::<Result<_, _>>()?)
        }
        Map(_, value) => {
            let entries = json.as_object().ok_or(Misfit)?.iter();
            let entries = entries.map(|(k, v)| Ok((Value::Text(k.clone()), convert(v, value, lenient)?)));
            Value::Map(entries.collect::<Result<_, _>>()?)
        }
        Row(fields) => {
            let object = json.as_object().ok_or(Misfit)?;
            let field = |f: &Field| object.get(&f.name).map_or(Ok(Value::Null), |v| convert(v, &f.data_type, lenient));
            Value::Row(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
        other => panic!("no column is of type {other}"),
    })
}

const DATE: &str = "[0-9]{4}-[0-9]{2}-[0-9]{2}";
const HOUR: &str = "([01][0-9]|2[0-3]):[0-5][0-9]";
const TIME: &str = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?";

/// The text, if it has exactly this shape; chrono alone lets more through.
fn shaped<'a>(text: &'a str, pattern: &str) -> Result<&'a str, Misfit> {
    let pattern = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    if pattern.is_match(text) { Ok(text) } else { Err(Misfit) }
}

/// A number's text cut to an integer.
fn truncated(text: &str) -> Option<i128> {
    if text.contains(['e', 'E']) {
        return text.parse::<f64>().ok().map(f64::trunc).filter(|v| v.abs() < 9.2e18).map(|v| v as i128);
    }
    text.split('.').next()?.parse().ok()
}

/// A decimal number's digits at `scale`, rounded half up; `Some(None)`: too many.
fn half_up(text: &str, scale: i64) -> Option<Option<i128>> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?.into()),
        None => (text, 0i64),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Where the point stands in the digits once the value is multiplied by ten to the scale.
    let point = whole.len() as i64 + exponent + scale;
    let at = |i: i64| usize::try_from(i).ok().and_then(|i| digits.as_bytes().get(i)).map_or(0, |b| b - b'0');
    let mut value = 0i128;
    for i in point.min(0)..point {
        value = value * 10 + i128::from(at(i));
        if value > 10i128.pow(30) {
            return Some(None);
        }
    }
    value += i128::from(at(point) >= 5);
    Some(Some(if negative { -value } else { value }))
}

/// The line with a question mark for each escape of half a surrogate pair, which serde_json refuses.
fn without_lone_surrogates(line: &[u8]) -> Vec<u8> {
    let unit = |at: usize| {
        let digits = line.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |code, b| Some(code * 16 + char::from(*b).to_digit(16)?))
    };
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(b) = line.get(at) {
        let (replaced, length) = match (unit(at), unit(at + 6)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => (false, 12),
            (Some(0xD800..0xE000), _) => (true, 6),
            _ => (false, 1 + usize::from(*b == b'\\')),
        };
        let text = &line[at..(at + length).min(line.len())];
        out.extend_from_slice(if replaced { b"?" } else { text });
        at += length;
    }
    out
}

/// The rows of a line as serde_json and the conversion above see it; `None`: the line is bad.
fn expected(line: &[u8], schema: &Schema, lenient: bool) -> Option<Vec<Value>> {
    if line.iter().all(|b| b" \t\r\n".contains(b)) {
        return Some(vec![]);
    }
    let json: Json = serde_json::from_slice(&without_lone_surrogates(line)).ok()?;
    let objects = match json {
        Json::Array(items) => items,
        other => vec![other],
    };
    let row = TypeKind::Row(schema.fields.clone()).not_null();
    objects.iter().map(|o| o.as_object().and_then(|_| convert_strictly(o, &row, lenient).ok())).collect()
}

/// Decodes the lines with one decoder and compares each with the oracle; then again all of them at once.
fn check(lines: &[Vec<u8>], lenient: bool) {
    let schema = schema();
    let mut options = JsonOptions::new(OnBadRecord::DeadLetter);
    options.ignore_parse_errors = lenient;
    let mut decoder = JsonDecoder::new(&schema, options.clone()).unwrap();
    let mut wanted = Vec::new();
    let mut all_bad = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let mut bad = Vec::new();
        let before = decoder.num_rows();
        let used = decoder.decode(line, usize::MAX, &mut bad).unwrap();
        assert_eq!(used, line.len());
        let shown = || String::from_utf8_lossy(line).into_owned();
        match (expected(line, &schema, lenient), bad.pop()) {
            (Some(rows), None) => {
                assert_eq!(decoder.num_rows() - before, rows.len(), "{}", shown());
                wanted.extend(rows);
            }
            (None, Some(record)) => {
                assert_eq!(decoder.num_rows(), before, "{}", shown());
                all_bad.push((at, record.record, record.reason.to_string()));
            }
            (Some(_), Some(record)) => panic!("refused because {}: {}", record.reason, shown()),
            (None, None) => panic!("accepted: {}", shown()),
        }
    }
    let batch = decoder.take().unwrap();
    assert_eq!(batch.num_rows(), wanted.len());
    for (row, wanted) in wanted.iter().enumerate() {
        let found = Value::Row(batch.rows.columns().iter().map(|c| value_of(c.as_ref(), row)).collect());
        let shown = || lines.iter().map(|l| String::from_utf8_lossy(l)).collect::<Vec<_>>();
        assert!(same(&found, wanted), "row {row} of {:?} is {found:?}, not {wanted:?}", shown());
    }

    let text = lines.join(&b'\n');
    let mut decoder = JsonDecoder::new(&schema, options).unwrap();
    let mut bad = Vec::new();
    assert_eq!(decoder.decode(&text, usize::MAX, &mut bad).unwrap(), text.len());
    assert_eq!(decoder.take().unwrap().rows, batch.rows);
    let bad: Vec<_> = bad.into_iter().map(|b| (b.line, b.record, b.reason.to_string())).collect();
    assert_eq!(bad, all_bad);
}

/// A JSON string's token for `text`, some of it escaped.
fn token(text: &str, escapes: u64) -> String {
    let mut out = String::from("\"");
    for (i, c) in text.chars().enumerate() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '/' if escapes & 1 == 1 => out.push_str("\\/"),
            c if (c as u32) < 32 || (escapes >> (i % 60) & 3 == 3) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9 ]{0,20}", "\\PC{0,12}", Just("\u{1}\t\n\"\\/€😀".to_string()), "[a-z]{30,60}",]
}

fn string() -> impl Strategy<Value = String> {
    (any_text(), prop_oneof![Just(0u64), any::<u64>()]).prop_map(|(text, escapes)| token(&text, escapes))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (-200i64..200).prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|n| format!("{n:?}")),
        any::<f32>().prop_filter("finite", |v| v.is_finite()).prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,20})\\.[0-9]{1,20}",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?[eE][+-]?[0-9]{1,2}",
        "[1-9][0-9]{17,40}",
        Just("-0".to_string()),
    ]
}

/// A number whose text serde_json gives back as it was.
fn plain_number() -> impl Strategy<Value = String> {
    prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "-?(0|[1-9][0-9]{0,20})\\.[0-9]{1,20}"]
}

fn moment() -> impl Strategy<Value = String> {
    let date = (1i32..=9999, 1u32..=12, 1u32..=31).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"));
    let time = (0u32..=23, 0u32..=59, 0u32..=59).prop_map(|(h, m, s)| format!("{h:02}:{m:02}:{s:02}"));
    let fraction = prop_oneof![Just(String::new()), "\\.[0-9]{1,9}"];
    (date, time, fraction, 0..5).prop_map(|(date, time, fraction, form)| match form {
        0 => format!("\"{date}\""),
        1 => format!("\"{time}{fraction}\""),
        2 => format!("\"{date} {time}{fraction}\""),
        3 => format!("\"{date} {time}{fraction}Z\""),
        _ => format!("\" {date} {time}{fraction}\""),
    })
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\t "), 1 => Just("\r")]
}

fn list(item: BoxedStrategy<String>) -> BoxedStrategy<String> {
    (prop::collection::vec((blank(), item, blank()), 0..4))
        .prop_map(|items| {
            let items: Vec<String> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
            format!("[{}]", items.join(","))
        })
        .boxed()
}

/// An object of some of these members, in some order. None comes twice: of two the decoder reads both, so that
/// the first has to fit, too, as in Flink; serde_json forgets it.
fn object(members: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<String> {
    let member = prop::sample::select((0..members.len()).collect::<Vec<_>>()).prop_flat_map(move |i| {
        let (name, value) = members[i].clone();
        (Just(name), prop_oneof![9 => Just(0u64), 1 => any::<u64>()], blank(), blank(), value, blank())
    });
    prop::collection::vec(member, 0..12)
        .prop_map(|mut members| {
            let mut seen = std::collections::BTreeSet::new();
            members.retain(|member| seen.insert(member.0));
            let text = |(name, escapes, a, b, value, c): (&str, u64, &str, &str, String, &str)| {
                format!("{a}{}{b}:{c}{value}", token(name, escapes))
            };
            format!("{{{}}}", members.into_iter().map(text).collect::<Vec<_>>().join(","))
        })
        .boxed()
}

/// Any JSON value.
fn anything() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        Just("true".to_string()),
        Just("false".to_string()),
        number(),
        string(),
        moment()
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![list(inner.clone()), object(vec![("k", inner.clone()), ("x", inner.clone()), ("é", inner)])]
    })
    .boxed()
}

fn or_odd(value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![40 => value, 4 => Just("null".to_string()), 1 => anything()].boxed()
}

/// For a text column: what is no string has to be written back as serde_json does.
fn texts() -> BoxedStrategy<String> {
    let plain = prop_oneof![
        plain_number(),
        Just("true".to_string()),
        Just("null".to_string()),
        Just("[1,{\"a\":\"b\"}]".into())
    ];
    prop_oneof![12 => string(), 2 => plain].boxed()
}

fn document() -> BoxedStrategy<String> {
    let int = || or_odd(prop_oneof![number(), "-?[0-9]{1,3}", "\" ?-?[0-9]{1,12}\""]);
    let row = || {
        let k = or_odd(prop_oneof![number(), any::<i64>().prop_map(|n| n.to_string())]);
        object(vec![
            ("k", k),
            ("v", texts()),
            ("again", or_odd(list(or_odd("[0-9]{1,2}".prop_map(|n| n.trim_start_matches('0').to_string() + "1"))))),
            ("extra", anything()),
        ])
    };
    let keyed = |value: BoxedStrategy<String>| {
        object(vec![("a", value.clone()), ("b c", value.clone()), ("é\"", value.clone()), ("", value)])
    };
    let bytes = prop::collection::vec(any::<u8>(), 0..9)
        .prop_map(|b| format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(b)));
    let small = (-40_000i64..40_000).prop_map(|n| n.to_string());
    let fields: Vec<(&str, BoxedStrategy<String>)> = vec![
        (
            "bool",
            or_odd(prop_oneof![Just("true".to_string()), Just("false".to_string()), Just("\" TRUE\"".to_string())]),
        ),
        ("tiny", or_odd((-140i64..140).prop_map(|n| n.to_string()))),
        ("small", or_odd(small)),
        ("int", int()),
        ("big", int()),
        ("float", or_odd(number())),
        ("double", or_odd(prop_oneof![number(), "\"-?[0-9]{1,5}\\.[0-9]{1,5}\""])),
        ("dec", or_odd(prop_oneof![number(), "-?[1-9][0-9]{0,6}\\.[0-9]{1,5}", "\"[0-9]{1,4}\\.[0-9]{4}\""])),
        ("s", texts()),
        ("bytes", or_odd(bytes)),
        ("date", or_odd(moment())),
        ("time", or_odd(moment())),
        ("ts", or_odd(moment())),
        ("ltz", or_odd(moment())),
        ("ints", or_odd(list(int()))),
        ("texts", or_odd(list(texts()))),
        ("map", or_odd(keyed(int()))),
        ("rows", or_odd(keyed(or_odd(row())))),
        ("row", or_odd(row())),
        ("list", or_odd(list(or_odd(row())))),
        ("né \"q", int()),
        ("unknown", anything()),
    ];
    let one = object(fields);
    prop_oneof![12 => one.clone(), 1 => list(one), 1 => Just(String::new())].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_documents_decode_as_serde_json_and_a_naive_conversion_say(
        documents in prop::collection::vec(document(), 1..6), lenient: bool
    ) {
        let lines: Vec<Vec<u8>> = documents.into_iter().map(String::into_bytes).collect();
        check(&lines, lenient);
    }

    #[test]
    fn damaged_documents_are_refused_or_decode_the_same(
        documents in prop::collection::vec((document(), any::<u16>(), any::<u8>(), 0..3), 1..6), lenient: bool
    ) {
        let lines: Vec<Vec<u8>> = documents.into_iter().map(|(document, at, byte, how)| {
            let mut line = document.into_bytes();
            let at = usize::from(at) % (line.len() + 1);
            match how {
                0 => line.truncate(at),
                1 => line.insert(at, byte),
                _ => if let Some(b) = line.get_mut(at) { *b ^= byte },
            }
            line.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
            line
        }).collect();
        check(&lines, lenient);
    }
}

#[test]
fn nothing_of_a_bad_record_shows_up_in_the_next_one() {
    let lines = [
        r#"{"int":1,"row":{"k":1,"v":"a"},"list":[{"k":1},{"k":2,"v":true,"again":[7}]}"#,
        r#"{"s":"x","row":{"v":"b"},"list":[{"v":"c"},{"again":[]}]}"#,
        r#"{"rows":{"a":{"k":5,"v":"old","again":"no"}},"int":2}"#,
        r#"{"rows":{"a":{"again":[1]}}}"#,
        r#"[{"int":3},{"int":4},{"int":"no"}]"#,
        r#"{"s":"last","row":{"k":1},"row":{"v":"only"}}"#,
    ];
    let lines: Vec<Vec<u8>> = lines.iter().map(|l| l.as_bytes().to_vec()).collect();
    check(&lines, false);
    check(&lines, true);
}
