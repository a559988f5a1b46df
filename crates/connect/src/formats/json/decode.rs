//! The JSON decoder: from bytes straight into columns, driven by the schema.
//!
//! Each object expects the same keys at the same places as in the object before it; only when it is wrong
//! does it look the key up. Fields that the schema doesn't have are only skipped.

use super::marks::Marks;
use super::scan::{Fail, Outcome, Scan, Str, Words, misfit, push_compact, push_str, syntax};
use super::{JsonOptions, each_message};
use crate::formats::column::{Column, Values};
use crate::formats::rows::{MadeRows, undecodable};
use crate::formats::text;
use millstream_core::format::{BadRecord, Decoder};
use millstream_core::{Batch, Error, Result, Schema, TypeKind};
use std::collections::HashMap;

/// Bytes after which a call stops, so that a column's text stays within what Arrow's offsets can hold.
const MAX_BYTES: usize = 256 << 20;
/// Bytes that are looked over at once for the marks of strings, if no record is longer.
const WINDOW: usize = 16 << 10;
/// Longest record.
const MAX_RECORD: usize = 1 << 30;
/// How many keys of an object are remembered.
const MAX_LAYOUT: usize = 256;

/// A key that was met at a place of an object.
#[derive(Debug)]
struct Expected {
    /// `"key":`
    text: Words,
    /// The field that it stands for.
    field: Option<usize>,
}

/// How to decode into one column.
#[derive(Debug)]
enum Plan {
    /// By the column alone.
    Scalar,
    /// An object into a row.
    Row(RowPlan),
    /// An array.
    Array(Box<Plan>),
    /// An object into a map.
    Map(Box<Plan>),
}

/// What is known about the objects of one row type.
#[derive(Debug)]
struct RowPlan {
    index: HashMap<Vec<u8>, usize>,
    layout: Vec<Expected>,
    required: Vec<usize>,
    fields: Vec<Plan>,
}

impl Plan {
    fn new(column: &Column, options: &JsonOptions) -> Plan {
        match &column.values {
            Values::Row(fields) => Plan::Row(RowPlan::new(fields, options)),
            Values::Array(_, item) => Plan::Array(Box::new(Plan::new(item, options))),
            Values::Map(_, _, value) => Plan::Map(Box::new(Plan::new(value, options))),
            _ => Plan::Scalar,
        }
    }
}

impl RowPlan {
    fn new(fields: &[Column], options: &JsonOptions) -> RowPlan {
        RowPlan {
            index: fields.iter().enumerate().map(|(i, f)| (f.name.clone().into_bytes(), i)).collect(),
            layout: vec![],
            required: (0..fields.len())
                .filter(|i| options.fail_on_missing_field || !fields[*i].data_type.nullable)
                .collect(),
            fields: fields.iter().map(|f| Plan::new(f, options)).collect(),
        }
    }

    /// Reads the key under the cursor and its colon; remembers it for place `place`.
    #[inline(never)]
    fn learn(&mut self, place: usize, scan: &mut Scan) -> Outcome<Option<usize>> {
        if scan.peek() != b'"' {
            return scan.unexpected("a field's name");
        }
        let start = scan.at;
        let key = scan.string()?;
        let end = scan.at;
        scan.colon()?;
        let field = if key.escaped {
            let mut text = Vec::new();
            push_str(key, &mut text);
            self.index.get(&text).copied()
        } else {
            self.index.get(key.raw).copied()
        };
        if scan.at == end + 1 {
            let text = scan.bytes.get(start..scan.at).unwrap_or_default();
            let remembered = self.layout.len();
            match self.layout.get_mut(place) {
                Some(expected) => *expected = Expected { text: Words::new(text), field },
                None if place == remembered && place < MAX_LAYOUT => {
                    self.layout.push(Expected { text: Words::new(text), field });
                }
                None => {}
            }
        }
        Ok(field)
    }

    /// Reads the object whose opening brace is under the cursor into row `row` of `columns`.
    fn object(&mut self, columns: &mut [Column], row: usize, scan: &mut Scan, options: &JsonOptions) -> Outcome {
        scan.at += 1;
        // The keys of this object that are null are told from missing ones by this only where it matters.
        let mut seen_null: Vec<usize> = Vec::new();
        scan.blanks();
        if !scan.take(b"}") {
            let mut place = 0;
            loop {
                scan.blanks();
                let field = match self.layout.get(place) {
                    Some(expected) if scan.take_words(&expected.text) => expected.field,
                    _ => self.learn(place, scan)?,
                };
                place += 1;
                match field {
                    None => scan.skip()?,
                    Some(i) => {
                        let column = &mut columns[i];
                        let start = scan.at;
                        if let Err(fail) = write(&mut self.fields[i], column, row, scan, options) {
                            recover(fail, column, row, start, scan, options)?;
                        }
                        if options.fail_on_missing_field && !column.has(row) {
                            seen_null.push(i);
                        }
                    }
                }
                if !scan.comma_or(b'}')? {
                    break;
                }
            }
        }
        for i in &self.required {
            let column = &columns[*i];
            if column.has(row) {
                continue;
            }
            let reason = if !column.data_type.nullable {
                "the field is NOT NULL, but missing or null"
            } else if !seen_null.contains(i) {
                "the field is missing"
            } else {
                continue;
            };
            return Err(Box::new(Fail { is_syntax: true, path: column.name.clone(), reason: reason.into() }));
        }
        Ok(())
    }
}

/// With `ignore-parse-errors` a value that doesn't fit is NULL; otherwise the error gets the field's name.
#[cold]
fn recover(
    mut fail: Box<Fail>,
    column: &mut Column,
    row: usize,
    start: usize,
    scan: &mut Scan,
    options: &JsonOptions,
) -> Outcome {
    if options.ignore_parse_errors && !fail.is_syntax {
        column.truncate(row);
        scan.at = start;
        return scan.skip();
    }
    if !column.name.is_empty() {
        fail.path = if fail.path.is_empty() { column.name.clone() } else { format!("{}.{}", column.name, fail.path) };
    }
    Err(fail)
}

/// Writes the value under the cursor to row `row`; null leaves the column as it is.
#[inline(always)]
fn write(plan: &mut Plan, column: &mut Column, row: usize, scan: &mut Scan, options: &JsonOptions) -> Outcome {
    scan.blanks();
    let first = scan.peek();
    if first == b'n' {
        if column.len > row {
            column.truncate(row);
        }
        return scan.literal("null");
    }
    column.seek(row);
    match plan {
        Plan::Scalar => scalar(column, row, first, scan, options),
        _ => nested(plan, column, row, first, scan, options),
    }
}

/// [`write`] of an object or array.
fn nested(
    plan: &mut Plan,
    column: &mut Column,
    row: usize,
    first: u8,
    scan: &mut Scan,
    options: &JsonOptions,
) -> Outcome {
    match plan {
        Plan::Scalar => return wrong(column, scan),
        Plan::Row(row_plan) => {
            let Values::Row(fields) = &mut column.values else { return wrong(column, scan) };
            if first != b'{' {
                return wrong(column, scan);
            }
            row_plan.object(fields, row, scan, options)?;
        }
        Plan::Array(item_plan) => {
            if first != b'[' {
                return wrong(column, scan);
            }
            let Values::Array(ends, items) = &mut column.values else { return wrong(column, scan) };
            let mut at = ends.last().copied().unwrap_or(0) as usize;
            scan.at += 1;
            scan.blanks();
            if !scan.take(b"]") {
                loop {
                    let start = scan.at;
                    if let Err(fail) = write(item_plan, items, at, scan, options) {
                        recover(fail, items, at, start, scan, options)?;
                    }
                    at += 1;
                    if !scan.comma_or(b']')? {
                        break;
                    }
                }
            }
            items.seek(at.max(items.len.min(at)));
            ends.push(at as i32);
        }
        Plan::Map(value_plan) => {
            if first != b'{' {
                return wrong(column, scan);
            }
            let Values::Map(ends, keys, values) = &mut column.values else { return wrong(column, scan) };
            let mut at = ends.last().copied().unwrap_or(0) as usize;
            for (key, start) in entries(scan)? {
                if let Err(reason) = keys.write_text(at, &key, options.standard) {
                    return misfit(format!("key: {reason}"));
                }
                let mut value = scan.moved_to(start);
                if let Err(fail) = write(value_plan, values, at, &mut value, options) {
                    recover(fail, values, at, start, &mut value, options)?;
                }
                at += 1;
            }
            ends.push(at as i32);
        }
    }
    column.len = row + 1;
    Ok(())
}

/// The keys of the object under the cursor and where their values start; of equal keys the last value.
fn entries(scan: &mut Scan) -> Outcome<Vec<(Vec<u8>, usize)>> {
    let mut found: Vec<(Vec<u8>, usize)> = Vec::new();
    let mut index: HashMap<Vec<u8>, usize> = HashMap::new();
    scan.at += 1;
    scan.blanks();
    if scan.take(b"}") {
        return Ok(found);
    }
    loop {
        scan.blanks();
        if scan.peek() != b'"' {
            return scan.unexpected("a field's name");
        }
        let mut key = Vec::new();
        push_str(scan.string()?, &mut key);
        scan.colon()?;
        match index.get(&key) {
            Some(i) => found[*i].1 = scan.at,
            None => {
                index.insert(key.clone(), found.len());
                found.push((key, scan.at));
            }
        }
        scan.skip()?;
        if !scan.comma_or(b'}')? {
            return Ok(found);
        }
    }
}

/// The value under the cursor is of another kind than the column.
#[cold]
fn wrong<T>(column: &Column, scan: &Scan) -> Outcome<T> {
    let mut after = *scan;
    after.skip()?;
    let value = scan.bytes.get(scan.at..after.at.min(scan.at + 60)).unwrap_or_default();
    misfit(format!("{} is no {}", String::from_utf8_lossy(value), column.data_type.kind))
}

fn scalar(column: &mut Column, row: usize, first: u8, scan: &mut Scan, options: &JsonOptions) -> Outcome {
    match (&mut column.values, first) {
        (Values::Str(ends, data), b'"') => {
            push_str(scan.string()?, data);
            ends.push(data.len() as i32);
        }
        (Values::Str(ends, data), _) => {
            let start = scan.at;
            scan.skip()?;
            let value = scan.bytes.get(start..scan.at).unwrap_or_default();
            push_compact(value, data);
            ends.push(data.len() as i32);
        }
        (Values::Timestamp(values, precision, zulu), b'"') => {
            let token = scan.string()?;
            match column.dates.timestamp(token.raw, options.standard, *zulu, *precision) {
                Some(value) => values.push(value),
                None => return text_value(column, row, token, options),
            }
        }
        (_, b'"') => {
            let token = scan.string()?;
            return text_value(column, row, token, options);
        }
        (Values::Bool(v), b't') => {
            scan.literal("true")?;
            v.push(true);
        }
        (Values::Bool(v), b'f') => {
            scan.literal("false")?;
            v.push(false);
        }
        (Values::I64(v), b'-' | b'0'..=b'9') => {
            let value = integer(scan, &TypeKind::BigInt)?;
            v.push(value);
        }
        (Values::I32(v), b'-' | b'0'..=b'9') => {
            let start = scan.at;
            match i32::try_from(integer(scan, &TypeKind::Int)?) {
                Ok(value) => v.push(value),
                Err(_) => return out_of_range(scan, start, &TypeKind::Int),
            }
        }
        (Values::I16(v), b'-' | b'0'..=b'9') => {
            let start = scan.at;
            match i16::try_from(integer(scan, &TypeKind::SmallInt)?) {
                Ok(value) => v.push(value),
                Err(_) => return out_of_range(scan, start, &TypeKind::SmallInt),
            }
        }
        (Values::I8(v), b'-' | b'0'..=b'9') => {
            let start = scan.at;
            match i8::try_from(integer(scan, &TypeKind::TinyInt)?) {
                Ok(value) => v.push(value),
                Err(_) => return out_of_range(scan, start, &TypeKind::TinyInt),
            }
        }
        (Values::F64(v), b'-' | b'0'..=b'9') => {
            let number = scan.number()?;
            match lexical_core::parse::<f64>(number) {
                Ok(value) => v.push(value),
                Err(_) => return misfit("the number can't be read"),
            }
        }
        (Values::F32(v), b'-' | b'0'..=b'9') => {
            let number = scan.number()?;
            match lexical_core::parse::<f32>(number) {
                Ok(value) => v.push(value),
                Err(_) => return misfit("the number can't be read"),
            }
        }
        (Values::Dec(v, p, s), b'-' | b'0'..=b'9') => {
            let number = scan.number()?;
            match text::parse_decimal(number, *p, *s) {
                Some(Some(value)) => v.push(value),
                Some(None) => return Ok(()),
                None => return misfit("the number can't be read"),
            }
        }
        (Values::Bool(v), b'-' | b'0'..=b'9') => {
            scan.number()?;
            v.push(false);
        }
        _ => return wrong(column, scan),
    }
    column.len = row + 1;
    Ok(())
}

/// Writes row `row` from a string.
#[inline(never)]
fn text_value(column: &mut Column, row: usize, token: Str, options: &JsonOptions) -> Outcome {
    let outcome = if token.escaped {
        let mut text = Vec::new();
        push_str(token, &mut text);
        column.write_text(row, &text, options.standard)
    } else {
        column.write_text(row, token.raw, options.standard)
    };
    outcome.or_else(misfit)
}

#[cold]
fn out_of_range<T>(scan: &Scan, start: usize, kind: &TypeKind) -> Outcome<T> {
    let number = scan.bytes.get(start..scan.at).unwrap_or_default();
    misfit(format!("{} is out of range for {kind}", String::from_utf8_lossy(number)))
}

/// The number under the cursor as an integer; a fraction is cut off, but refused for TINYINT and SMALLINT (flink:
/// `JsonParserToRowDataConverters`).
#[inline(always)]
fn integer(scan: &mut Scan, kind: &TypeKind) -> Outcome<i64> {
    match scan.plain_integer() {
        Some(value) => Ok(value),
        None => odd_integer(scan, kind),
    }
}

#[cold]
fn odd_integer(scan: &mut Scan, kind: &TypeKind) -> Outcome<i64> {
    let start = scan.at;
    let number = scan.number()?;
    let text = std::str::from_utf8(number).unwrap_or_default();
    if matches!(kind, TypeKind::TinyInt | TypeKind::SmallInt) && text.contains(['.', 'e', 'E']) {
        return misfit(format!("{text} is no {kind}"));
    }
    let exact = match text.find(['e', 'E']) {
        None => text.split('.').next().unwrap_or_default().parse::<i64>().ok(),
        Some(_) => text.parse::<f64>().ok().map(f64::trunc).filter(|v| v.abs() < 9.2e18).map(|v| v as i64),
    };
    match exact {
        Some(value) => Ok(value),
        None => out_of_range(scan, start, kind),
    }
}

/// Decodes JSON lines of one schema. A line may also hold an array of objects.
#[derive(Debug)]
pub struct JsonDecoder {
    made: MadeRows,
    options: JsonOptions,
    plan: RowPlan,
    marks: Marks,
}

impl JsonDecoder {
    /// A decoder of `schema`; an error if a column's type has no JSON form.
    pub fn new(schema: &Schema, options: JsonOptions) -> Result<Self> {
        let made = MadeRows::new(schema, options.on_bad)?;
        let plan = RowPlan::new(&made.columns, &options);
        Ok(JsonDecoder { made, options, plan, marks: Marks::default() })
    }

    /// Reads the record that starts at `at` in `bytes`, whose marks are `marks`; gives the rows that there are now and
    /// where the record ends.
    fn record(&mut self, bytes: &[u8], marks: &Marks, at: usize) -> Outcome<(usize, usize)> {
        let mut scan = Scan::new(bytes, marks, at);
        let mut rows = self.made.rows;
        scan.blanks();
        match scan.peek() {
            b'{' => {
                self.plan.object(&mut self.made.columns, rows, &mut scan, &self.options)?;
                rows += 1;
            }
            b'[' => {
                scan.at += 1;
                scan.blanks();
                if !scan.take(b"]") {
                    loop {
                        scan.blanks();
                        if scan.peek() != b'{' {
                            return scan.unexpected("an object");
                        }
                        self.plan.object(&mut self.made.columns, rows, &mut scan, &self.options)?;
                        rows += 1;
                        if !scan.comma_or(b']')? {
                            break;
                        }
                    }
                }
            }
            _ if scan.is_at_end() => return Ok((rows, scan.at)),
            _ => return scan.unexpected("an object"),
        }
        if !scan.is_at_end() {
            return scan.unexpected("the record's end");
        }
        Ok((rows, scan.at))
    }

    /// Decodes the records of `window`, whole records, until there are `max_rows` rows; gives how many bytes it
    /// consumed. `line` counts the lines.
    fn window(&mut self, window: &[u8], max_rows: usize, line: &mut usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let mut marks = std::mem::take(&mut self.marks);
        marks.index(window);
        // Strings end at quotes, so that all of them are valid if the whole is.
        let is_text = marks.is_ascii() || std::str::from_utf8(window).is_ok();
        let mut at = 0;
        let mut outcome = Ok(());
        while at < window.len() && self.made.rows < max_rows {
            let record = || window.get(at..).and_then(|rest| rest.split(|b| *b == b'\n').next()).unwrap_or_default();
            let decoded = if is_text || std::str::from_utf8(record()).is_ok() {
                self.record(window, &marks, at)
            } else {
                syntax("the record is not valid UTF-8")
            };
            at = 1 + match decoded {
                Ok((rows, end)) => {
                    self.made.rows = rows;
                    end
                }
                Err(fail) => {
                    outcome = self.made.refuse(record(), *line, reason(&fail), bad);
                    at + record().len()
                }
            };
            *line += 1;
            if outcome.is_err() {
                break;
            }
        }
        self.marks = marks;
        outcome.map(|()| at.min(window.len()))
    }
}

/// The length of the first records of `bytes` that are indexed together: what fits the nearest cache, or one record.
fn window_len(bytes: &[u8]) -> usize {
    let window = bytes.get(..WINDOW).unwrap_or(bytes);
    match memchr::memrchr(b'\n', window) {
        Some(end) => end + 1,
        None => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1),
    }
}

/// The reason as an error for people.
pub(in crate::formats) fn reason(fail: &Fail) -> Error {
    match fail.path.as_str() {
        "" => undecodable(&fail.reason),
        path => undecodable(&format!("field '{path}': {}", fail.reason)),
    }
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> &Schema {
        &self.made.schema
    }

    fn decode(&mut self, bytes: &[u8], max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let max_rows = max_rows.max(1);
        let (mut at, mut line) = (0, 0);
        while self.made.rows < max_rows && at < MAX_BYTES {
            let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) else { break };
            let length = window_len(rest);
            let window = rest.get(..length).unwrap_or(rest);
            at += if length > MAX_RECORD {
                let fail =
                    Fail { is_syntax: true, path: String::new(), reason: "the record is longer than 1 GiB".into() };
                self.made.refuse(window.strip_suffix(b"\n").unwrap_or(window), line, reason(&fail), bad)?;
                line += 1;
                length
            } else {
                self.window(window, max_rows, &mut line, bad)?
            };
        }
        Ok(at)
    }

    fn decode_message(&mut self, message: Option<&[u8]>, bad: &mut Vec<BadRecord>) -> Result<()> {
        // One record, whose end needs not be looked for.
        each_message(message, |message| match message.len() > MAX_RECORD {
            true => self.decode(message, usize::MAX, bad),
            false => self.window(message, usize::MAX, &mut 0, bad),
        })
    }

    fn take(&mut self) -> Result<Batch> {
        self.made.take()
    }

    fn num_rows(&self) -> usize {
        self.made.rows
    }
}
