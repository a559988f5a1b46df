//! Values of VARIANT: semi-structured values in the encoding of Parquet's variants, the dictionary first.
//!
//! <https://github.com/apache/parquet-format/blob/master/VariantEncoding.md>. Of its types there are those that JSON
//! has. The dictionary is sorted and holds only what the value needs, so that equal values have equal bytes.

use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// A value that is no longer or not yet encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number that was written with an exponent, or has more digits than a decimal.
    Double(f64),
    /// A decimal: its digits, and how many of them stand after the point.
    Decimal(i128, u8),
    /// A text.
    Text(String),
    /// An array.
    Array(Vec<Node>),
    /// An object.
    Object(BTreeMap<String, Node>),
}

/// The value that `bytes` start with, and what it is made of when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Variant<'a> {
    dictionary: &'a [u8],
    value: &'a [u8],
}

/// What a variant is.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A double.
    Double(f64),
    /// A decimal: its digits, and how many of them stand after the point.
    Decimal(i128, u8),
    /// A text.
    Text(&'a str),
    /// An array.
    Array(Members<'a>),
    /// An object.
    Object(Members<'a>),
}

/// The elements of an array or the fields of an object.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    dictionary: &'a [u8],
    ids: Option<Numbers<'a>>,
    offsets: Numbers<'a>,
    data: &'a [u8],
    len: usize,
}

/// Whole numbers of `width` bytes each.
#[derive(Clone, Copy, Debug)]
struct Numbers<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl Numbers<'_> {
    fn get(&self, index: usize) -> Option<usize> {
        let at = index.checked_mul(self.width)?;
        number(self.bytes.get(at..at + self.width)?)
    }
}

/// A number, lowest byte first.
fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b))).ok()
}

fn malformed() -> Error {
    Error::data("bytes that are no VARIANT")
}

const VERSION: u8 = 1;
/// Basic types, in the lowest two bits.
const PRIMITIVE: u8 = 0;
const SHORT_TEXT: u8 = 1;
const OBJECT: u8 = 2;
const ARRAY: u8 = 3;
/// Primitive types, in the upper six bits.
const NULL: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const INT1: u8 = 3;
const INT2: u8 = 4;
const INT4: u8 = 5;
const INT8: u8 = 6;
const DOUBLE: u8 = 7;
const DECIMAL4: u8 = 8;
const DECIMAL8: u8 = 9;
const DECIMAL16: u8 = 10;
const TEXT: u8 = 16;
/// The longest text whose length is in the header.
const SHORT_TEXT_MAX: usize = 63;

/// The text of number `id` of a dictionary.
fn key(dictionary: &[u8], id: usize) -> Option<&str> {
    let width = usize::from(dictionary.first()? >> 6) + 1;
    let len = number(dictionary.get(1..1 + width)?)?;
    let offsets = Numbers { bytes: dictionary.get(1 + width..)?, width };
    let texts = dictionary.get(1 + width + (len + 1).checked_mul(width)?..)?;
    std::str::from_utf8(texts.get(offsets.get(id)?..offsets.get(id + 1)?)?).ok()
}

fn dictionary_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first()?;
    if header & 15 != VERSION {
        return None;
    }
    let width = usize::from(header >> 6) + 1;
    let len = number(bytes.get(1..1 + width)?)?;
    let last = Numbers { bytes: bytes.get(1 + width..)?, width }.get(len)?;
    Some(1 + width + (len + 1) * width + last)
}

impl<'a> Variant<'a> {
    /// The value that `bytes` carry.
    ///
    /// # Errors
    ///
    /// Of data, here and where it is read, for bytes that carry none.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (dictionary, value) =
            dictionary_len(bytes).and_then(|len| bytes.split_at_checked(len)).ok_or_else(malformed)?;
        Ok(Variant { dictionary, value })
    }

    /// What it is.
    pub fn value(&self) -> Result<Value<'a>> {
        self.decode().ok_or_else(malformed)
    }

    fn decode(&self) -> Option<Value<'a>> {
        let (header, rest) = self.value.split_first()?;
        let bits = header >> 2;
        Some(match header & 3 {
            SHORT_TEXT => Value::Text(std::str::from_utf8(rest.get(..usize::from(bits))?).ok()?),
            OBJECT => {
                let len_width = if bits & 16 == 0 { 1 } else { 4 };
                Value::Object(self.members(rest, len_width, Some(usize::from(bits >> 2 & 3) + 1), bits)?)
            }
            ARRAY => {
                let len_width = if bits & 4 == 0 { 1 } else { 4 };
                Value::Array(self.members(rest, len_width, None, bits)?)
            }
            _ => primitive(bits, rest)?,
        })
    }

    fn members(&self, rest: &'a [u8], len_width: usize, id_width: Option<usize>, bits: u8) -> Option<Members<'a>> {
        let width = usize::from(bits & 3) + 1;
        let (len, rest) = rest.split_at_checked(len_width)?;
        let len = number(len)?;
        let (ids, rest) = rest.split_at_checked(len.checked_mul(id_width.unwrap_or(0))?)?;
        let (offsets, data) = rest.split_at_checked((len + 1).checked_mul(width)?)?;
        let ids = id_width.map(|width| Numbers { bytes: ids, width });
        Some(Members { dictionary: self.dictionary, ids, offsets: Numbers { bytes: offsets, width }, data, len })
    }

    /// All that it is made of.
    pub fn to_node(&self) -> Result<Node> {
        Ok(match self.value()? {
            Value::Null => Node::Null,
            Value::Boolean(b) => Node::Boolean(b),
            Value::Integer(n) => Node::Integer(n),
            Value::Double(n) => Node::Double(n),
            Value::Decimal(n, scale) => Node::Decimal(n, scale),
            Value::Text(text) => Node::Text(text.into()),
            Value::Array(members) => {
                Node::Array((0..members.len()).map(|i| members.at(i)?.to_node()).collect::<Result<_>>()?)
            }
            Value::Object(members) => {
                let member = |i| Ok((members.name(i)?.to_string(), members.at(i)?.to_node()?));
                Node::Object((0..members.len()).map(member).collect::<Result<_>>()?)
            }
        })
    }

    /// Writes it as JSON without blanks; `double` writes a double.
    pub fn write_json(&self, out: &mut String, double: &dyn Fn(&mut String, f64)) -> Result<()> {
        match self.value()? {
            Value::Null => out.push_str("null"),
            Value::Boolean(b) => out.push_str(if b { "true" } else { "false" }),
            Value::Integer(n) => out.push_str(&n.to_string()),
            Value::Double(n) => double(out, n),
            Value::Decimal(n, scale) => write_decimal(out, n, scale),
            Value::Text(text) => write_text(out, text),
            Value::Array(members) => {
                out.push('[');
                for i in 0..members.len() {
                    separate(out, i);
                    members.at(i)?.write_json(out, double)?;
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for i in 0..members.len() {
                    separate(out, i);
                    write_text(out, members.name(i)?);
                    out.push(':');
                    members.at(i)?.write_json(out, double)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

fn separate(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

fn write_decimal(out: &mut String, digits: i128, scale: u8) {
    let scale = usize::from(scale);
    let text = format!("{:0width$}", digits.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = text.split_at(text.len() - scale);
    out.extend([if digits < 0 { "-" } else { "" }, whole]);
    if scale > 0 {
        out.extend([".", fraction]);
    }
}

/// A JSON string with Jackson's escapes.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn primitive(kind: u8, rest: &[u8]) -> Option<Value<'_>> {
    let decimal = |width: usize| {
        let (scale, digits) = rest.split_first()?;
        Some(Value::Decimal(signed(digits.get(..width)?), *scale))
    };
    Some(match kind {
        NULL => Value::Null,
        TRUE => Value::Boolean(true),
        FALSE => Value::Boolean(false),
        INT1 | INT2 | INT4 | INT8 => Value::Integer(signed(rest.get(..1 << (kind - INT1))?) as i64),
        DOUBLE => Value::Double(f64::from_le_bytes(rest.get(..8)?.try_into().ok()?)),
        DECIMAL4 | DECIMAL8 | DECIMAL16 => decimal(4 << (kind - DECIMAL4))?,
        TEXT => {
            let (len, text) = rest.split_at_checked(4)?;
            Value::Text(std::str::from_utf8(text.get(..number(len)?)?).ok()?)
        }
        _ => return None,
    })
}

/// A number of up to 16 bytes with its sign, lowest byte first.
fn signed(bytes: &[u8]) -> i128 {
    let sign = if bytes.last().is_some_and(|b| *b > 127) { -1 } else { 0 };
    bytes.iter().rev().fold(sign, |n: i128, b| n << 8 | i128::from(*b))
}

impl<'a> Members<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Number `index`, from 0.
    pub fn at(&self, index: usize) -> Result<Variant<'a>> {
        let value = self.offsets.get(index).and_then(|at| self.data.get(at..)).ok_or_else(malformed)?;
        Ok(Variant { dictionary: self.dictionary, value })
    }
    /// The name of field `index` of an object.
    pub fn name(&self, index: usize) -> Result<&'a str> {
        self.ids.and_then(|ids| key(self.dictionary, ids.get(index)?)).ok_or_else(malformed)
    }
    /// The field `name` of an object.
    pub fn field(&self, name: &str) -> Result<Option<Variant<'a>>> {
        // The fields are sorted by their names.
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.at(middle).map(Some),
            }
        }
        Ok(None)
    }
}

impl Node {
    /// The bytes that carry it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut names = BTreeSet::new();
        self.names(&mut names);
        let names: Vec<&str> = names.into_iter().collect();
        let texts: usize = names.iter().map(|name| name.len()).sum();
        let width = width_of(texts.max(names.len()));
        let mut out = vec![VERSION | 16 | (width as u8 - 1) << 6];
        push(&mut out, names.len(), width);
        let mut end = 0;
        push(&mut out, end, width);
        for name in &names {
            end += name.len();
            push(&mut out, end, width);
        }
        names.iter().for_each(|name| out.extend_from_slice(name.as_bytes()));
        self.write(&names, &mut out);
        out
    }

    fn names<'n>(&'n self, names: &mut BTreeSet<&'n str>) {
        match self {
            Node::Array(items) => items.iter().for_each(|item| item.names(names)),
            Node::Object(fields) => fields.iter().for_each(|(name, value)| {
                names.insert(name);
                value.names(names);
            }),
            _ => {}
        }
    }

    fn write(&self, names: &[&str], out: &mut Vec<u8>) {
        let header = |out: &mut Vec<u8>, kind: u8| out.push(kind << 2 | PRIMITIVE);
        match self {
            Node::Null => header(out, NULL),
            Node::Boolean(b) => header(out, if *b { TRUE } else { FALSE }),
            Node::Integer(n) => {
                let bytes = n.to_le_bytes();
                let size =
                    [0, 1, 2].into_iter().find(|size| signed(&bytes[..1 << size]) == i128::from(*n)).unwrap_or(3);
                header(out, INT1 + size);
                out.extend_from_slice(&bytes[..1 << size]);
            }
            Node::Double(n) => {
                header(out, DOUBLE);
                out.extend_from_slice(&n.to_le_bytes());
            }
            Node::Decimal(digits, scale) => {
                let bytes = digits.to_le_bytes();
                // Precisions of 9, 18 and 38.
                let fits = |max: u32| digits.unsigned_abs() < 10u128.pow(max) && u32::from(*scale) <= max;
                let size = [9, 18].into_iter().position(fits).unwrap_or(2);
                header(out, DECIMAL4 + size as u8);
                out.push(*scale);
                out.extend_from_slice(&bytes[..4 << size]);
            }
            Node::Text(text) if text.len() <= SHORT_TEXT_MAX => {
                out.push((text.len() as u8) << 2 | SHORT_TEXT);
                out.extend_from_slice(text.as_bytes());
            }
            Node::Text(text) => {
                header(out, TEXT);
                push(out, text.len(), 4);
                out.extend_from_slice(text.as_bytes());
            }
            Node::Array(items) => {
                let mut data = vec![];
                let ends = items.iter().map(|item| {
                    item.write(names, &mut data);
                    data.len()
                });
                let ends: Vec<usize> = ends.collect();
                let (width, large) = (width_of(data.len()), items.len() > 255);
                out.push(((width as u8 - 1) | u8::from(large) << 2) << 2 | ARRAY);
                push(out, items.len(), if large { 4 } else { 1 });
                push_offsets(out, &ends, width);
                out.extend_from_slice(&data);
            }
            Node::Object(fields) => {
                let (mut data, mut ends, mut ids) = (vec![], vec![], vec![]);
                for (name, value) in fields {
                    ids.push(names.binary_search(&name.as_str()).expect("the dictionary has all names"));
                    value.write(names, &mut data);
                    ends.push(data.len());
                }
                let (width, large) = (width_of(data.len()), fields.len() > 255);
                let id_width = width_of(ids.last().copied().unwrap_or(0));
                out.push(((width as u8 - 1) | (id_width as u8 - 1) << 2 | u8::from(large) << 4) << 2 | OBJECT);
                push(out, fields.len(), if large { 4 } else { 1 });
                ids.iter().for_each(|id| push(out, *id, id_width));
                push_offsets(out, &ends, width);
                out.extend_from_slice(&data);
            }
        }
    }
}

fn push_offsets(out: &mut Vec<u8>, ends: &[usize], width: usize) {
    push(out, 0, width);
    ends.iter().for_each(|end| push(out, *end, width));
}

fn push(out: &mut Vec<u8>, number: usize, width: usize) {
    out.extend_from_slice(&(number as u64).to_le_bytes()[..width]);
}

/// The bytes that numbers to `max` take.
fn width_of(max: usize) -> usize {
    match max {
        0..=0xFF => 1,
        0x100..=0xFFFF => 2,
        0x1_0000..=0xFF_FFFF => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(fields: &[(&str, Node)]) -> Node {
        Node::Object(fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
    }

    /// The example of the format's description, by hand.
    #[test]
    fn bytes_are_those_of_the_format() {
        let bytes = object(&[("b", Node::Integer(-1)), ("a", Node::Text("x".into()))]).to_bytes();
        let dictionary = [0x11, 2, 0, 1, 2, b'a', b'b'];
        let value = [0x02, 2, 0, 1, 0, 2, 4, 0x05, b'x', 0x0C, 0xFF];
        assert_eq!(bytes, [&dictionary[..], &value[..]].concat());
        assert_eq!(Node::Decimal(-150, 2).to_bytes(), [0x11, 0, 0, 0x20, 2, 0x6A, 0xFF, 0xFF, 0xFF]);
        assert_eq!(Node::Array(vec![Node::Null, Node::Boolean(true)]).to_bytes(), [0x11, 0, 0, 3, 2, 0, 1, 2, 0, 4]);
    }

    #[test]
    fn json_is_compact_and_sorted() {
        let node = object(&[
            ("z", Node::Array(vec![Node::Null, Node::Boolean(false), Node::Decimal(-5, 2), Node::Double(1.5)])),
            ("a\"b", Node::Text("x\n\u{1f}é".into())),
            ("n", Node::Integer(i64::MIN)),
        ]);
        let (bytes, mut out) = (node.to_bytes(), String::new());
        let double = |out: &mut String, n: f64| out.push_str(&n.to_string());
        Variant::new(&bytes).unwrap().write_json(&mut out, &double).unwrap();
        assert_eq!(out, "{\"a\\\"b\":\"x\\n\\u001Fé\",\"n\":-9223372036854775808,\"z\":[null,false,-0.05,1.5]}");
    }

    fn nodes() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Node::Null),
            any::<bool>().prop_map(Node::Boolean),
            any::<i64>().prop_map(Node::Integer),
            (-500i64..500).prop_map(Node::Integer),
            (-1e300..1e300).prop_map(Node::Double),
            (-10i128.pow(37)..10i128.pow(37), 0u8..38).prop_map(|(n, s)| Node::Decimal(n, s)),
            (-1000i128..1000, 0u8..20).prop_map(|(n, s)| Node::Decimal(n, s)),
            "[a-zäö]{0,90}".prop_map(Node::Text),
        ];
        leaf.prop_recursive(4, 600, 300, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..300).prop_map(Node::Array),
                prop::collection::btree_map("[a-f]{0,6}", inner, 0..300).prop_map(Node::Object),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read_back(node in nodes()) {
            let bytes = node.to_bytes();
            let variant = Variant::new(&bytes).unwrap();
            prop_assert_eq!(variant.to_node().unwrap(), node.clone());
            if let (Node::Object(fields), Value::Object(members)) = (&node, variant.value().unwrap()) {
                for (name, value) in fields {
                    prop_assert_eq!(&members.field(name).unwrap().unwrap().to_node().unwrap(), value);
                }
                prop_assert!(members.field("g").unwrap().is_none());
            }
        }

        #[test]
        fn bad_bytes_are_refused_and_never_read_past(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(variant) = Variant::new(&bytes) {
                let _ = variant.to_node();
            }
        }
    }
}
