//! CSV, by the semantics of Flink's `csv` format (flink docs: table/connectors/formats/csv).

use super::column::{Column, Values};
use super::json::JsonOptions;
use super::rows::{MadeRows, undecodable};
use super::temporal::{TimestampStandard, parse_short_date};
use super::{EncoderFactory, Framing, ReadContent, ReadFormat};
use arrow::array::{Array, AsArray};
use millstream_core::connector::TableDef;
use millstream_core::format::{BadRecord, Decoder, DecoderFactory, Encoder, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Batch, DataType, Error, Result, Schema, TypeKind};
use std::sync::Arc;

/// The `csv.*` options.
#[derive(Clone, Debug)]
struct CsvOptions {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comments: bool,
    ignore_parse_errors: bool,
    array_delimiter: Vec<u8>,
    null_literal: Option<Vec<u8>>,
    on_bad: OnBadRecord,
}

fn character(options: &Options, key: &str) -> Result<Option<u8>> {
    let Some(text) = options.string(key) else { return Ok(None) };
    match text {
        "\\t" => Ok(Some(b'\t')),
        _ if text.len() == 1 => Ok(text.bytes().next()),
        _ => Err(options.error(key, format!("the value of '{key}' must be one ASCII character"))),
    }
}

impl CsvOptions {
    fn read(options: &Options, on_bad: OnBadRecord) -> Result<Self> {
        let quote = character(options, "csv.quote-character")?;
        let disabled = options.boolean("csv.disable-quote-character")?.unwrap_or(false);
        if disabled && quote.is_some() {
            let key = "csv.disable-quote-character";
            return Err(options.error(key, format!("'{key}' and 'csv.quote-character' contradict each other")));
        }
        let ignore_parse_errors = options.boolean("csv.ignore-parse-errors")?.unwrap_or(false);
        Ok(CsvOptions {
            delimiter: character(options, "csv.field-delimiter")?.unwrap_or(b','),
            quote: if disabled { None } else { Some(quote.unwrap_or(b'"')) },
            escape: character(options, "csv.escape-character")?,
            comments: options.boolean("csv.allow-comments")?.unwrap_or(false),
            ignore_parse_errors,
            array_delimiter: options.string("csv.array-element-delimiter").unwrap_or(";").as_bytes().to_vec(),
            null_literal: options.string("csv.null-literal").map(|t| t.as_bytes().to_vec()),
            on_bad: if ignore_parse_errors && on_bad == OnBadRecord::Fail { OnBadRecord::Skip } else { on_bad },
        })
    }
}

/// Makes decoders and encoders of a table whose files have `columns`, in order.
#[derive(Debug)]
struct CsvFormat {
    options: CsvOptions,
    columns: Vec<String>,
}

impl CsvFormat {
    fn new(table: &TableDef, options: &Options, on_bad: OnBadRecord) -> Result<Self> {
        for field in &table.schema.fields {
            let is_nested = |inner: &DataType| {
                matches!(inner.kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_))
            };
            let is_refused = match &field.data_type.kind {
                TypeKind::Array(item) => is_nested(item),
                TypeKind::Row(fields) => fields.iter().any(|field| is_nested(&field.data_type)),
                _ => is_nested(&field.data_type),
            };
            if is_refused {
                let what = format!("type {} of column '{}' in the 'csv' format", field.data_type, field.name);
                return Err(Error::unsupported(what));
            }
        }
        let names = table.schema.fields.iter().map(|f| f.name.clone());
        Ok(CsvFormat {
            options: CsvOptions::read(options, on_bad)?,
            columns: names.filter(|n| !table.partitioned_by.contains(n)).collect(),
        })
    }
}

pub(super) fn read_format(table: &TableDef, options: &Options, on_bad: OnBadRecord) -> Result<ReadFormat> {
    let format = CsvFormat::new(table, options, on_bad)?;
    let framing = match format.options.quote {
        Some(quote) => Framing::QuotedLines { quote, escape: format.options.escape },
        None => Framing::Lines,
    };
    let on_bad = format.options.on_bad;
    let changelog = ChangelogMode::INSERT_ONLY;
    let content = ReadContent::Records { decoders: Arc::new(format), framing };
    Ok(ReadFormat { name: "csv", content, on_bad, changelog })
}

pub(super) fn write_format(table: &TableDef, options: &Options) -> Result<Arc<dyn EncoderFactory>> {
    Ok(Arc::new(CsvFormat::new(table, options, OnBadRecord::Fail)?))
}

impl DecoderFactory for CsvFormat {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(CsvDecoder {
            made: MadeRows::new(schema, self.options.on_bad)?,
            targets: self.columns.iter().map(|name| schema.index_of(name)).collect(),
            options: self.options.clone(),
            fields: vec![],
            text: vec![],
        }))
    }
}

impl EncoderFactory for CsvFormat {
    fn encoder(&self, schema: &Schema) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(CsvEncoder { schema: schema.clone(), options: self.options.clone() }))
    }
    fn extension(&self) -> &'static str {
        "csv"
    }
}

struct CsvDecoder {
    made: MadeRows,
    /// For each column of the file, which of ours it is.
    targets: Vec<Option<usize>>,
    options: CsvOptions,
    /// The ends of the current record's fields in `text`, and whether each was quoted.
    fields: Vec<(usize, bool)>,
    text: Vec<u8>,
}

impl CsvDecoder {
    /// Splits the record at the front of `bytes` into fields; returns its length with the line feed.
    fn split(&mut self, bytes: &[u8]) -> (usize, Result<(), String>) {
        self.fields.clear();
        self.text.clear();
        let (mut at, mut quoted, mut was_quoted, mut start) = (0, false, false, 0);
        let mut outcome = Ok(());
        while let Some(b) = bytes.get(at).copied() {
            at += 1;
            if Some(b) == self.options.escape && Some(b) != self.options.quote {
                match bytes.get(at) {
                    Some(next) => self.text.push(*next),
                    None => outcome = Err("the record ends with the escape character".to_string()),
                }
                at += 1;
            } else if quoted {
                if Some(b) != self.options.quote {
                    self.text.push(b);
                } else if bytes.get(at) == Some(&b) {
                    self.text.push(b);
                    at += 1;
                } else {
                    quoted = false;
                }
            } else if b == b'\n' {
                break;
            } else if b == b'\r' && matches!(bytes.get(at), Some(b'\n') | None) {
                continue;
            } else if b == self.options.delimiter {
                self.fields.push((self.text.len(), was_quoted));
                (was_quoted, start) = (false, self.text.len());
            } else if Some(b) == self.options.quote && self.text.len() == start && !was_quoted {
                (quoted, was_quoted) = (true, true);
            } else {
                self.text.push(b);
            }
        }
        if quoted {
            outcome = Err("a quoted value has no closing quote".to_string());
        }
        self.fields.push((self.text.len(), was_quoted));
        (at.min(bytes.len()), outcome)
    }

    fn record(&mut self) -> Result<(), String> {
        if self.fields.len() > self.targets.len() {
            let (have, want) = (self.fields.len(), self.targets.len());
            return Err(format!("the record has {have} fields, but the table has {want} columns"));
        }
        let mut start = 0;
        for (place, target) in self.targets.iter().enumerate() {
            let Some((end, was_quoted)) = self.fields.get(place).copied() else {
                if self.options.ignore_parse_errors {
                    break;
                }
                let (have, want) = (self.fields.len(), self.targets.len());
                return Err(format!("the record has {have} fields, but the table has {want} columns"));
            };
            let text = self.text.get(start..end).unwrap_or_default();
            start = end;
            let Some(column) = target.and_then(|i| self.made.columns.get_mut(i)) else { continue };
            column.seek(self.made.rows);
            if !was_quoted && self.options.null_literal.as_deref() == Some(text) {
                continue;
            }
            if let Err(reason) = write_field(column, self.made.rows, text, &self.options) {
                if !self.options.ignore_parse_errors {
                    return Err(format!("field '{}': {reason}", column.name));
                }
                column.seek(self.made.rows);
            }
        }
        match self.made.columns.iter().find(|c| !c.data_type.nullable && !c.has(self.made.rows)) {
            Some(column) => Err(format!("field '{}': the field is NOT NULL, but missing or null", column.name)),
            None => Ok(()),
        }
    }
}

fn write_plain(column: &mut Column, row: usize, text: &[u8]) -> Result<(), String> {
    if let Values::Date(days) = &mut column.values
        && let Some(day) = parse_short_date(text.trim_ascii())
    {
        days.push(day);
        column.len = row + 1;
        return Ok(());
    }
    column.write_text(row, text, TimestampStandard::Sql)
}

fn write_field(column: &mut Column, row: usize, text: &[u8], options: &CsvOptions) -> Result<(), String> {
    let (ends, items) = match &mut column.values {
        Values::Array(ends, items) => (ends, items),
        Values::Row(fields) => {
            write_fields(fields, row, text, options)?;
            column.len = row + 1;
            return Ok(());
        }
        _ => return write_plain(column, row, text),
    };
    let mut at = ends.last().copied().unwrap_or(0) as usize;
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, &options.array_delimiter).unwrap_or(rest.len());
        let item = rest.get(..end).unwrap_or_default();
        items.seek(at);
        if options.null_literal.as_deref() != Some(item) {
            write_plain(items, at, item)?;
        }
        at += 1;
        rest = rest.get(end + options.array_delimiter.len().max(1)..).unwrap_or_default();
    }
    ends.push(at as i32);
    column.len = row + 1;
    Ok(())
}

/// Writes the fields of a ROW, in their order (flink: `CsvToRowDataConverters`); of no text all are NULL.
fn write_fields(fields: &mut [Column], row: usize, text: &[u8], options: &CsvOptions) -> Result<(), String> {
    let (mut rest, mut have) = (Some(text).filter(|text| !text.is_empty()), 0);
    while let Some(whole) = rest {
        let end = memchr::memmem::find(whole, &options.array_delimiter);
        let item = whole.get(..end.unwrap_or(whole.len())).unwrap_or_default();
        rest = end.and_then(|end| whole.get(end + options.array_delimiter.len().max(1)..));
        if let Some(field) = fields.get_mut(have) {
            field.seek(row);
            if options.null_literal.as_deref() != Some(item)
                && let Err(reason) = write_plain(field, row, item)
            {
                if !options.ignore_parse_errors {
                    return Err(format!("field '{}': {reason}", field.name));
                }
                field.seek(row);
            }
        }
        have += 1;
    }
    if have > 0 && have != fields.len() && !options.ignore_parse_errors {
        return Err(format!("the value has {have} fields, but the ROW has {}", fields.len()));
    }
    match fields.iter().find(|field| !field.data_type.nullable && !field.has(row)) {
        Some(field) => Err(format!("field '{}': the field is NOT NULL, but missing or null", field.name)),
        None => Ok(()),
    }
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> &Schema {
        &self.made.schema
    }

    fn decode(&mut self, bytes: &[u8], max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let (mut at, mut line) = (0, 0);
        while self.made.rows < max_rows.max(1) && at < (256 << 20) {
            let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) else { break };
            let is_comment = self.options.comments && rest.first() == Some(&b'#');
            let is_blank = matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..] | [b'\r']);
            if is_comment || is_blank {
                at += memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
                line += 1;
                continue;
            }
            let (length, split) = self.split(rest);
            let record = rest.get(..length).unwrap_or_default();
            match split.and_then(|()| self.record()) {
                Ok(()) => self.made.rows += 1,
                Err(reason) => {
                    self.made.refuse(record.trim_ascii_end(), line, undecodable(&reason), bad)?;
                }
            }
            at += length;
            line += memchr::memchr_iter(b'\n', record).count();
        }
        Ok(at)
    }

    fn take(&mut self) -> Result<Batch> {
        self.made.take()
    }

    fn num_rows(&self) -> usize {
        self.made.rows
    }
}

struct CsvEncoder {
    schema: Schema,
    options: CsvOptions,
}

impl CsvEncoder {
    /// The value's text without quotes.
    fn text(&self, array: &dyn Array, row: usize, data_type: &DataType, out: &mut Vec<u8>) -> Result<()> {
        if array.is_null(row) {
            out.extend_from_slice(self.options.null_literal.as_deref().unwrap_or_default());
            return Ok(());
        }
        match &data_type.kind {
            TypeKind::Char(_) | TypeKind::VarChar(_) => {
                out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
            }
            TypeKind::Array(item) => {
                let items = array.as_list::<i32>().value(row);
                for i in 0..items.len() {
                    if i > 0 {
                        out.extend_from_slice(&self.options.array_delimiter);
                    }
                    self.text(&items, i, item, out)?;
                }
            }
            TypeKind::Row(fields) => {
                for (i, (field, values)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                    if i > 0 {
                        out.extend_from_slice(&self.options.array_delimiter);
                    }
                    self.text(values, row, &field.data_type, out)?;
                }
            }
            _ => {
                let mut json = Vec::new();
                let options = JsonOptions { plain_decimals: true, ..JsonOptions::new(OnBadRecord::Fail) };
                super::json::push_value(&mut json, array, row, data_type, &options)?;
                out.extend(json.into_iter().filter(|b| *b != b'"'));
            }
        }
        Ok(())
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            for (i, (field, column)) in self.schema.fields.iter().zip(batch.rows.columns()).enumerate() {
                if i > 0 {
                    out.push(self.options.delimiter);
                }
                text.clear();
                self.text(column, row, &field.data_type, &mut text)?;
                let special = |b: &u8| {
                    *b == self.options.delimiter || Some(*b) == self.options.quote || matches!(b, b'\n' | b'\r' | b' ')
                };
                let is_text_like_null =
                    column.is_valid(row) && self.options.null_literal.as_deref() == Some(text.as_slice());
                match self.options.quote {
                    Some(quote) if is_text_like_null || text.iter().any(special) => {
                        out.push(quote);
                        for b in &text {
                            if *b == quote {
                                out.push(quote);
                            }
                            out.push(*b);
                        }
                        out.push(quote);
                    }
                    _ => out.extend_from_slice(&text),
                }
            }
            out.push(b'\n');
        }
        Ok(())
    }
}
