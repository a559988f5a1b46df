//! The `raw` format: each line is the value of the table's only column.

use super::column::Values;
use super::rows::{MadeRows, undecodable};
use super::{EncoderFactory, Framing, ReadContent, ReadFormat};
use arrow::array::AsArray;
use millstream_core::format::{BadRecord, Decoder, DecoderFactory, Encoder, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::{Batch, Error, Result, Schema, TypeKind};
use std::sync::Arc;

#[derive(Debug)]
struct RawFormat(OnBadRecord);

fn check(schema: &Schema, options: &Options) -> Result<()> {
    options.choice("raw.charset", &[("UTF-8", ())])?;
    let [field] = schema.fields.as_slice() else {
        return Err(options.error("format", "the 'raw' format takes a table of exactly one column"));
    };
    match field.data_type.kind {
        TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Binary(_) | TypeKind::VarBinary(_) => Ok(()),
        _ => Err(Error::unsupported(format!("type {} in the 'raw' format", field.data_type))),
    }
}

pub(super) fn read_format(schema: &Schema, options: &Options, on_bad: OnBadRecord) -> Result<ReadFormat> {
    check(schema, options)?;
    let changelog = ChangelogMode::INSERT_ONLY;
    let content = ReadContent::Records { decoders: Arc::new(RawFormat(on_bad)), framing: Framing::Lines };
    Ok(ReadFormat { name: "raw", content, on_bad, changelog })
}

pub(super) fn write_format(schema: &Schema, options: &Options) -> Result<Arc<dyn EncoderFactory>> {
    check(schema, options)?;
    Ok(Arc::new(RawFormat(OnBadRecord::Fail)))
}

impl DecoderFactory for RawFormat {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(RawDecoder { made: MadeRows::new(schema, self.0)? }))
    }
}

impl EncoderFactory for RawFormat {
    fn encoder(&self, _schema: &Schema) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(RawEncoder))
    }
    fn extension(&self) -> &'static str {
        "txt"
    }
}

struct RawDecoder {
    made: MadeRows,
}

impl RawDecoder {
    /// Writes the next row; `None`: NULL.
    fn record(&mut self, record: Option<&[u8]>, line: usize, bad: &mut Vec<BadRecord>) -> Result<()> {
        let rows = self.made.rows;
        let mut outcome = Ok(());
        for column in self.made.columns.iter_mut().filter(|_| record.is_some()) {
            let record = record.unwrap_or_default();
            column.seek(rows);
            outcome = match &mut column.values {
                Values::Bin(ends, data) => {
                    data.extend_from_slice(record);
                    ends.push(data.len() as i32);
                    column.len = rows + 1;
                    Ok(())
                }
                _ => column.write_text(rows, record, super::temporal::TimestampStandard::Sql),
            };
        }
        match outcome {
            Ok(()) => {
                self.made.rows += 1;
                Ok(())
            }
            Err(reason) => self.made.refuse(record.unwrap_or_default(), line, undecodable(&reason), bad),
        }
    }
}

impl Decoder for RawDecoder {
    fn schema(&self) -> &Schema {
        &self.made.schema
    }

    fn decode(&mut self, bytes: &[u8], max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let (mut at, mut line) = (0, 0);
        while self.made.rows < max_rows.max(1) && at < (256 << 20) {
            let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) else { break };
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let record = rest.get(..end).unwrap_or_default();
            self.record(Some(record), line, bad)?;
            at = (at + end + 1).min(bytes.len());
            line += 1;
        }
        Ok(at)
    }

    fn decode_message(&mut self, message: Option<&[u8]>, bad: &mut Vec<BadRecord>) -> Result<()> {
        self.record(message, 0, bad)
    }

    fn take(&mut self) -> Result<Batch> {
        self.made.take()
    }

    fn num_rows(&self) -> usize {
        self.made.rows
    }
}

struct RawEncoder;

impl Encoder for RawEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        let column = batch.column(0);
        for row in (0..batch.num_rows()).filter(|row| column.is_valid(*row)) {
            match column.as_string_opt::<i32>() {
                Some(text) => out.extend_from_slice(text.value(row).as_bytes()),
                None => out.extend_from_slice(column.as_binary::<i32>().value(row)),
            }
            out.push(b'\n');
        }
        Ok(())
    }
}
