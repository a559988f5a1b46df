//! The decoder of changes: a record is taken apart, its rows are decoded as JSON objects, and each gets its kind.

use super::envelope::{elements, member, members, overlay, text};
use super::{Change, Dialect, Instant, MetadataField};
use crate::formats::json::scan::Fail;
use crate::formats::json::{JsonDecoder, JsonOptions, each_message, push_string, reason};
use crate::formats::rows::{refuse, undecodable};
use crate::formats::temporal::{TimestampStandard, parse_timestamp, to_unit};
use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt8Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use millstream_core::format::{BadRecord, Decoder, OnBadRecord};
use millstream_core::{Batch, Error, Field, Result, RowKind, Schema, TypeKind};
use std::sync::Arc;

/// Bytes after which a call stops, so that a column's text stays within what Arrow's offsets can hold.
const MAX_BYTES: usize = 128 << 20;

/// Decodes changes into rows of one schema.
pub(super) struct ChangeDecoder {
    schema: Schema,
    change: Change,
    /// The columns that are in the rows.
    rows: JsonDecoder,
    metadata: Option<Metadata>,
    /// For each column of the schema: whether it is metadata, and its number among those of its sort.
    columns: Vec<(bool, usize)>,
    /// The kind of each row that `rows` has decoded; `None` if its record turned out to be bad.
    kinds: Vec<Option<RowKind>>,
    live: usize,
    /// The text of a row that is put together.
    scratch: Vec<u8>,
}

/// The decoder of what records say besides their rows: one row for each record that has rows.
struct Metadata {
    fields: Vec<MetadataField>,
    decoder: JsonDecoder,
    /// For each row, the number of its record; `None` if that is bad.
    records: Vec<Option<u32>>,
    scratch: Vec<u8>,
}

/// Why a record is bad.
enum Bad {
    /// It can't be decoded.
    Text(Box<Fail>),
    /// What it says is no change, or a row doesn't fit the table.
    Change(Error),
}

impl From<Box<Fail>> for Bad {
    fn from(fail: Box<Fail>) -> Self {
        Bad::Text(fail)
    }
}

fn bad<T>(message: impl Into<String>) -> Result<T, Bad> {
    Err(Bad::Change(undecodable(&message.into())))
}

impl ChangeDecoder {
    pub(super) fn new(schema: &Schema, change: Change) -> Result<Self> {
        let mut in_rows = vec![];
        let mut fields = vec![];
        let mut columns = vec![];
        for field in &schema.fields {
            columns.push(match change.metadata.get(&field.name) {
                Some(metadata) => {
                    fields.push(metadata.clone());
                    (true, fields.len() - 1)
                }
                None => {
                    in_rows.push(field.clone());
                    (false, in_rows.len() - 1)
                }
            });
        }
        let options = JsonOptions { on_bad: OnBadRecord::Fail, ..change.json.clone() };
        let metadata = match fields.is_empty() {
            true => None,
            false => Some(Metadata::new(fields, options.clone())?),
        };
        let rows = JsonDecoder::new(&Schema::new(in_rows), options)?;
        let (kinds, scratch) = (vec![], vec![]);
        Ok(ChangeDecoder { schema: schema.clone(), change, rows, metadata, columns, kinds, live: 0, scratch })
    }

    /// Decodes the rows of one record.
    fn record(&mut self, line: &[u8]) -> Result<(), Bad> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if std::str::from_utf8(line).is_err() {
            return bad("it is not valid UTF-8");
        }
        let before = self.kinds.len();
        let payload = match self.change.schema_include {
            false => line,
            true => match members(line, ["payload"])? {
                [Some(payload)] => payload,
                [None] => return bad("there is no field 'payload' (without schemas, leave out 'schema-include')"),
            },
        };
        match self.change.dialect {
            Dialect::Debezium => self.debezium(payload)?,
            Dialect::Canal => self.canal(payload)?,
            Dialect::Maxwell => self.maxwell(payload)?,
            Dialect::Ogg => self.ogg(payload)?,
        }
        match &mut self.metadata {
            Some(metadata) if self.kinds.len() > before => metadata.add(line, payload, self.kinds.len() - before),
            _ => Ok(()),
        }
    }

    /// (flink: `DebeziumJsonDeserializationSchema`)
    fn debezium(&mut self, payload: &[u8]) -> Result<(), Bad> {
        let [before, after, op, schema] = members(payload, ["before", "after", "op", "payload"])?;
        let Some(op) = op else {
            return bad(match schema {
                Some(_) => "there is no field 'op'; 'debezium-json.schema-include' = 'true' reads records with schemas",
                None => "there is no field 'op'",
            });
        };
        match (text(op)?.as_str(), before, after) {
            ("c" | "r", _, Some(after)) => self.row(RowKind::Insert, "after", after),
            ("u", Some(before), Some(after)) => {
                self.row(RowKind::UpdateBefore, "before", before)?;
                self.row(RowKind::UpdateAfter, "after", after)
            }
            ("d", Some(before), _) => self.row(RowKind::Delete, "before", before),
            ("c" | "r" | "u", Some(_), None) | ("c" | "r", None, None) => bad("the field 'after' is null"),
            ("u" | "d", None, _) => bad(
                "the field 'before' of an update or delete is null (PostgreSQL: the table needs REPLICA IDENTITY FULL)",
            ),
            (op, ..) => bad(format!("unknown 'op' \"{op}\"")),
        }
    }

    /// (flink: `CanalJsonDeserializationSchema`)
    fn canal(&mut self, payload: &[u8]) -> Result<(), Bad> {
        let names = ["data", "old", "type", "database", "table"];
        let [data, old, kind, database, table] = members(payload, names)?;
        for (pattern, value) in [(&self.change.database, database), (&self.change.table, table)] {
            let Some(pattern) = pattern else { continue };
            let value = value.map(text).transpose()?;
            if !value.is_some_and(|value| pattern.is_match(&value)) {
                return Ok(());
            }
        }
        let Some(kind) = kind else { return bad("there is no field 'type'") };
        let kind = text(kind)?;
        let row_kind = match kind.as_str() {
            "INSERT" => RowKind::Insert,
            "DELETE" => RowKind::Delete,
            "UPDATE" => RowKind::UpdateAfter,
            // The table's creation has no rows.
            "CREATE" => return Ok(()),
            other => return bad(format!("unknown 'type' \"{other}\"")),
        };
        let Some(data) = data else { return bad("the field 'data' is null") };
        let data = elements(data)?;
        if row_kind != RowKind::UpdateAfter {
            return data.into_iter().try_for_each(|row| self.row(row_kind, "data", row));
        }
        let old = match old {
            Some(old) => elements(old)?,
            None => return bad("the field 'old' of an update is null"),
        };
        if old.len() != data.len() {
            return bad("the fields 'data' and 'old' have different numbers of rows");
        }
        data.into_iter().zip(old).try_for_each(|(new, old)| self.update(new, old))
    }

    /// (flink: `MaxwellJsonDeserializationSchema`)
    fn maxwell(&mut self, payload: &[u8]) -> Result<(), Bad> {
        let [data, old, kind] = members(payload, ["data", "old", "type"])?;
        let Some(kind) = kind else { return bad("there is no field 'type'") };
        let kind = text(kind)?;
        match (kind.as_str(), data, old) {
            ("insert", Some(data), _) => self.row(RowKind::Insert, "data", data),
            ("delete", Some(data), _) => self.row(RowKind::Delete, "data", data),
            ("update", Some(data), Some(old)) => self.update(data, old),
            ("update", Some(_), None) => bad("the field 'old' of an update is null"),
            ("insert" | "delete" | "update", None, _) => bad("the field 'data' is null"),
            (other, ..) => bad(format!("unknown 'type' \"{other}\"")),
        }
    }

    /// (flink: `OggJsonDeserializationSchema`)
    fn ogg(&mut self, payload: &[u8]) -> Result<(), Bad> {
        let [before, after, op] = members(payload, ["before", "after", "op_type"])?;
        let Some(op) = op else { return bad("there is no field 'op_type'") };
        match (text(op)?.as_str(), before, after) {
            ("I", _, Some(after)) => self.row(RowKind::Insert, "after", after),
            ("U", Some(before), Some(after)) => {
                self.row(RowKind::UpdateBefore, "before", before)?;
                self.row(RowKind::UpdateAfter, "after", after)
            }
            ("D", Some(before), _) => self.row(RowKind::Delete, "before", before),
            ("I" | "U", _, None) => bad("the field 'after' is null"),
            ("U" | "D", None, _) => bad(
                "the field 'before' of an update or delete is null (GoldenGate: the table needs supplemental logging of all columns)",
            ),
            (op, ..) => bad(format!("unknown 'op_type' \"{op}\"")),
        }
    }

    /// An update, told by the new row and the old values of what has changed.
    fn update(&mut self, new: &[u8], old: &[u8]) -> Result<(), Bad> {
        if !old.starts_with(b"{") {
            return bad("the field 'old' of an update is no object");
        }
        let mut whole = std::mem::take(&mut self.scratch);
        overlay(new, old, &mut whole);
        let outcome = self.row(RowKind::UpdateBefore, "old", &whole);
        self.scratch = whole;
        outcome?;
        self.row(RowKind::UpdateAfter, "data", new)
    }

    /// Decodes one row, the field `name` of its record.
    fn row(&mut self, kind: RowKind, name: &str, object: &[u8]) -> Result<(), Bad> {
        if !object.starts_with(b"{") {
            return bad(format!("the field '{name}' is no object"));
        }
        match self.rows.decode(object, usize::MAX, &mut vec![]) {
            Ok(_) => {
                self.kinds.push(Some(kind));
                Ok(())
            }
            Err(e) => Err(Bad::Change(e.detail(format!("in the row of the field '{name}'")))),
        }
    }
}

impl Metadata {
    fn new(fields: Vec<MetadataField>, options: JsonOptions) -> Result<Self> {
        let column = |(i, field): (usize, &MetadataField)| {
            let kind = match (&field.kind, field.instant) {
                (TypeKind::TimestampLtz(_), Instant::Number(_)) => TypeKind::BigInt,
                (TypeKind::TimestampLtz(_), Instant::Text) => TypeKind::STRING,
                (kind, _) => kind.clone(),
            };
            Field::new(format!("m{i}"), kind.nullable())
        };
        let schema = Schema::new(fields.iter().enumerate().map(column).collect());
        // What doesn't fit is NULL: it is said about the rows, which are good.
        let options = JsonOptions { ignore_parse_errors: true, ..options };
        Ok(Metadata { fields, decoder: JsonDecoder::new(&schema, options)?, records: vec![], scratch: vec![] })
    }

    /// Adds what a record says about its `rows` rows.
    fn add(&mut self, line: &[u8], payload: &[u8], rows: usize) -> Result<(), Bad> {
        self.scratch.clear();
        for (number, field) in self.fields.iter().enumerate() {
            self.scratch.push(if number == 0 { b'{' } else { b',' });
            push_string(&mut self.scratch, format!("m{number}").as_bytes());
            self.scratch.push(b':');
            // The schema stands beside the payload, all else in it.
            let whole = if field.path == ["schema"] { line } else { payload };
            self.scratch.extend_from_slice(member(whole, field.path)?.unwrap_or(b"null"));
        }
        self.scratch.push(b'}');
        let number = self.decoder.num_rows() as u32;
        match self.decoder.decode(&self.scratch, usize::MAX, &mut vec![]) {
            Ok(_) => {
                self.records.extend(std::iter::repeat_n(Some(number), rows));
                Ok(())
            }
            Err(e) => Err(Bad::Change(e)),
        }
    }

    /// The columns, a row for each row of the records.
    fn take(&mut self) -> Result<Vec<ArrayRef>> {
        let records = UInt32Array::from(std::mem::take(&mut self.records));
        let batch = self.decoder.take()?;
        let column = |(field, column): (&MetadataField, &ArrayRef)| -> Result<ArrayRef> {
            let column = take(column, &records, None)?;
            Ok(match (&field.kind, field.instant) {
                (TypeKind::TimestampLtz(_), Instant::Number(unit_ms)) => {
                    let numbers = column.as_primitive::<Int64Type>();
                    let times = numbers.iter().map(|n| n.map(|n| n.saturating_mul(unit_ms)));
                    Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
                }
                (TypeKind::TimestampLtz(precision), Instant::Text) => {
                    let times = column.as_string::<i32>().iter().map(|text| instant(text?, *precision));
                    Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
                }
                _ => column,
            })
        };
        self.fields.iter().zip(batch.rows.columns()).map(column).collect()
    }
}

/// An instant as Oracle's tools write it, in UTC, in units of its precision; `None` if it is none.
fn instant(text: &str, precision: u8) -> Option<i64> {
    let text = text.trim_end_matches('Z').replacen('T', " ", 1);
    let (seconds, nanos) = parse_timestamp(text.as_bytes(), TimestampStandard::Sql, false)?;
    to_unit(seconds, nanos, precision)
}

impl Decoder for ChangeDecoder {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn decode(&mut self, bytes: &[u8], max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let (mut at, mut line) = (0, 0);
        while self.live < max_rows.max(1) && at < MAX_BYTES {
            let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) else { break };
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let record = rest.get(..end).unwrap_or_default();
            let before = self.kinds.len();
            match self.record(record) {
                Ok(()) => self.live += self.kinds.len() - before,
                Err(why) => {
                    self.kinds.iter_mut().skip(before).for_each(|kind| *kind = None);
                    if let Some(metadata) = &mut self.metadata {
                        metadata.records.resize(self.kinds.len(), None);
                    }
                    let why = match why {
                        Bad::Text(fail) => reason(&fail),
                        Bad::Change(error) => error,
                    };
                    refuse(self.change.json.on_bad, record, line, why, bad)?;
                }
            }
            at = (at + end + 1).min(bytes.len());
            line += 1;
        }
        Ok(at)
    }

    fn decode_message(&mut self, message: Option<&[u8]>, bad: &mut Vec<BadRecord>) -> Result<()> {
        each_message(message, |message| self.decode(message, usize::MAX, bad))
    }

    fn take(&mut self) -> Result<Batch> {
        let kinds = std::mem::take(&mut self.kinds);
        let rows = self.rows.take()?;
        let metadata = self.metadata.as_mut().map(Metadata::take).transpose()?.unwrap_or_default();
        let column = |(is_metadata, number): &(bool, usize)| match is_metadata {
            true => metadata.get(*number).cloned().ok_or_else(|| Error::internal("a metadata column is missing")),
            false => Ok(rows.column(*number).clone()),
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let all = Batch::from_columns(self.schema.arrow().clone(), columns, kinds.len())?;
        let live: Vec<u32> = (0u32..).zip(&kinds).filter_map(|(row, kind)| kind.map(|_| row)).collect();
        self.live = 0;
        let of_live = UInt8Array::from_iter_values(kinds.iter().flatten().map(|kind| *kind as u8));
        let all = if live.len() == kinds.len() { all } else { all.take(&live.into())? };
        Ok(all.with_kinds(Some(of_live)))
    }

    fn num_rows(&self) -> usize {
        self.live
    }
}
