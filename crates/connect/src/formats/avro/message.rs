//! The format `avro` for messages: each is one Avro value of the schema that the table's columns derive.

use super::decode::Plan;
use super::encode::Rows;
use super::schema::{TimestampMapping, derive};
use crate::formats::rows::{MadeRows, undecodable};
use millstream_core::format::{BadRecord, Decoder, DecoderFactory, OnBadRecord};
use millstream_core::options::Options;
use millstream_core::{Batch, Result, Schema};
use std::sync::Arc;

/// The format for reading messages of all columns of `schema`.
///
/// Its decoders take one message a call of [`Decoder::decode`], always whole.
pub(in crate::formats) fn read_format(
    schema: &Schema,
    options: &Options<'_>,
    on_bad: OnBadRecord,
) -> Result<Arc<dyn DecoderFactory>> {
    let mapping = read_options(schema, options)?;
    Ok(Arc::new(AvroMessages { written: schema.clone(), mapping, on_bad }))
}

/// Checks the format's options for writing messages of the columns of `schema`.
pub(in crate::formats) fn write_format(schema: &Schema, options: &Options<'_>) -> Result<()> {
    read_options(schema, options).map(drop)
}

fn read_options(schema: &Schema, options: &Options<'_>) -> Result<TimestampMapping> {
    options.choice("avro.codec", &super::Codec::ALL)?;
    options.choice("avro.encoding", &[("binary", ())])?;
    let mapping = super::mapping(options, "avro")?;
    derive(&schema.fields, mapping).map_err(|e| e.at(options.place("format")))?;
    Ok(mapping)
}

#[derive(Debug)]
struct AvroMessages {
    written: Schema,
    mapping: TimestampMapping,
    on_bad: OnBadRecord,
}

impl DecoderFactory for AvroMessages {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(AvroDecoder {
            plan: Plan::new(
                super::schema::Schema::parse(&derive(&self.written.fields, self.mapping)?.to_string())?,
                &schema.fields,
            )?,
            made: MadeRows::new(schema, self.on_bad)?,
        }))
    }
}

struct AvroDecoder {
    plan: Plan,
    made: MadeRows,
}

impl Decoder for AvroDecoder {
    fn schema(&self) -> &Schema {
        &self.made.schema
    }

    fn decode(&mut self, bytes: &[u8], _max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let decoded = self.plan.decode_message(bytes, &mut self.made);
        decoded.or_else(|reason| self.made.refuse(bytes, 0, undecodable(&reason), bad))?;
        Ok(bytes.len())
    }

    fn take(&mut self) -> Result<Batch> {
        self.made.take()
    }

    fn num_rows(&self) -> usize {
        self.made.rows
    }
}

/// Makes messages of rows.
#[derive(Debug)]
pub struct AvroEncoder {
    schema: Schema,
    /// What stands before each value.
    header: Vec<u8>,
}

impl AvroEncoder {
    /// One of rows of `schema`, which has a schema of Avro's.
    pub fn new(schema: &Schema, header: &[u8]) -> AvroEncoder {
        AvroEncoder { schema: schema.clone(), header: header.to_vec() }
    }

    /// One message for each row of `batch`.
    pub fn encode(&mut self, batch: &Batch) -> Result<Vec<Vec<u8>>> {
        let rows = Rows::new(&batch.rows, &self.schema.fields)?;
        let mut messages = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut message = self.header.clone();
            rows.encode(row, &mut message)?;
            messages.push(message);
        }
        Ok(messages)
    }
}
