//! JSON documents as values of VARIANT, as Flink's `BinaryVariantInternalBuilder` makes them, and back.

use super::value::{DEPTH_MAX, Json, Reader};
use crate::{decimal, print};
use millstream_core::variant::Node;
use std::collections::BTreeMap;

/// The most digits of a decimal, before and after the point.
const DIGITS_MAX: usize = 38;

/// The first value of `text`; what follows is ignored. Of equal keys the last stays, if they are allowed.
///
/// # Errors
///
/// What is wrong with the text, in words.
pub(crate) fn parse(text: &str, allow_duplicate_keys: bool) -> Result<Node, String> {
    let mut reader = Reader::new(text);
    let node = value(&mut reader, 0, allow_duplicate_keys)?;
    let ends = match &node {
        Node::Integer(_) | Node::Decimal(..) | Node::Double(_) => reader.ends_number(),
        Node::Null | Node::Boolean(_) => reader.ends_word(),
        _ => true,
    };
    if ends { Ok(node) } else { Err(bad(&reader)) }
}

fn bad(reader: &Reader<'_>) -> String {
    match reader.next() {
        None => "the text ends within a value".into(),
        Some(_) => format!("what stands at byte {} is no JSON", reader.at + 1),
    }
}

fn value(reader: &mut Reader<'_>, depth: usize, duplicates: bool) -> Result<Node, String> {
    if depth > DEPTH_MAX {
        return Err(format!("values are nested deeper than {DEPTH_MAX}"));
    }
    reader.blank();
    let start = reader.at;
    let node = match reader.next() {
        Some(b'{') => return object(reader, depth, duplicates),
        Some(b'[') => return array(reader, depth, duplicates),
        Some(b'"') => reader.string().map(Node::Text),
        Some(b't') => reader.word("true", Node::Boolean(true)),
        Some(b'f') => reader.word("false", Node::Boolean(false)),
        Some(b'n') => reader.word("null", Node::Null),
        Some(b'-' | b'0'..=b'9') => match reader.number_text() {
            Some((text, is_whole)) => return number(text, is_whole),
            None => None,
        },
        _ => None,
    };
    node.ok_or_else(|| {
        reader.at = start;
        bad(reader)
    })
}

fn array(reader: &mut Reader<'_>, depth: usize, duplicates: bool) -> Result<Node, String> {
    reader.eat(b'[');
    let mut items = vec![];
    reader.blank();
    if reader.eat(b']') {
        return Ok(Node::Array(items));
    }
    loop {
        items.push(value(reader, depth + 1, duplicates)?);
        reader.blank();
        if reader.eat(b']') {
            return Ok(Node::Array(items));
        }
        if !reader.eat(b',') {
            return Err(bad(reader));
        }
    }
}

fn object(reader: &mut Reader<'_>, depth: usize, duplicates: bool) -> Result<Node, String> {
    reader.eat(b'{');
    let mut fields = BTreeMap::new();
    reader.blank();
    if reader.eat(b'}') {
        return Ok(Node::Object(fields));
    }
    loop {
        reader.blank();
        if reader.next() != Some(b'"') {
            return Err(bad(reader));
        }
        let key = reader.string().ok_or_else(|| bad(reader))?;
        reader.blank();
        if !reader.eat(b':') {
            return Err(bad(reader));
        }
        let value = value(reader, depth + 1, duplicates)?;
        if !duplicates && fields.contains_key(&key) {
            return Err(format!("the key '{key}' is there twice"));
        }
        fields.insert(key, value);
        reader.blank();
        if reader.eat(b'}') {
            return Ok(Node::Object(fields));
        }
        if !reader.eat(b',') {
            return Err(bad(reader));
        }
    }
}

/// A whole number if it fits BIGINT, else a decimal if it is written as one and has few enough digits, else a double.
fn number(text: &str, is_whole: bool) -> Result<Node, String> {
    if let (true, Ok(n)) = (is_whole, text.parse()) {
        return Ok(Node::Integer(n));
    }
    if !text.contains(['e', 'E']) {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        // 1.50 is 1.5 (flink: `BinaryVariantUtil.getDecimal`).
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let count = digits.trim_start_matches(['-', '0']).len();
        if let (true, true, Ok(n)) = (count <= DIGITS_MAX, fraction.len() <= DIGITS_MAX, digits.parse()) {
            return Ok(Node::Decimal(n, fraction.len() as u8));
        }
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() => Ok(Node::Double(n)),
        _ => Err(format!("the number {text} is too large for a DOUBLE")),
    }
}

/// As JSON.
pub(crate) fn to_json(node: &Node) -> Json {
    match node {
        Node::Null => Json::Null,
        Node::Boolean(b) => Json::Bool(*b),
        Node::Integer(n) => Json::Int(n.to_string()),
        Node::Double(n) => Json::Decimal(print::double_text(*n)),
        Node::Decimal(n, scale) => Json::Decimal(decimal::format(*n, *scale)),
        Node::Text(text) => Json::Text(text.clone()),
        Node::Array(items) => Json::List(items.iter().map(to_json).collect()),
        Node::Object(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.clone(), to_json(value))).collect())
        }
    }
}
